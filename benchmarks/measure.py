"""Time RBM training against peers and limits, side by side in one run.

    python benchmarks/measure.py [--quick] [--name NAME] [--threads N] [--only CONTENDER …]
    python benchmarks/measure.py --check
    python benchmarks/measure.py --accelerator DIGITS.npy

Every contender has a process of its own, all with the same number of threads, which waits idle
until it is asked. Repeats go round all contenders, in a new random order each round, so that a
machine that gets slower gets slower for all. Every measurement begins with an epoch that is not
timed; first calls (tracing, compilation) are told apart. Results go to results/NAME.json as they
come; `report.py` shows them.

With `--only` some contenders train, and nothing else is timed.

`--check` times nothing: it trains each contender on the same digits and compares what it learned.

`--accelerator` times what runs on JAX and PyTorch, on this machine's accelerator, and needs no
TensorFlow; DIGITS.npy holds binary digits, (examples, 784), of which all make an epoch. Products of
single-precision numbers are computed in single precision by both, not in TF32.
"""

import argparse
import datetime
import itertools
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from contenders import CONTENDERS
from processes import environment, installed, machine, started, usable_cores
from trainings import VISIBLE, Setting

HERE = Path(__file__).parent
ALGORITHMS = {"CD-1": (1, False), "CD-10": (10, False), "PCD-1": (1, True)}
# At 500 units only: what is shown for no other size, and takes long.
VARIANTS = (
    "source",
    "fit, oneDNN",
    "fit by XLA",
    "fit, one update an execution",
    "fit from TFDS",
    "train_rbm",
    "products, oneDNN",
)
STANDARD = (128, 500)  # batch, hidden: where memory is read and a step is taken apart


def steps_an_epoch(batch, hidden, cd_steps):
    """As much work as the 10,000 digits make at 784×500 with CD-1, but no more than all of them."""
    work = batch * hidden * (3 + 2 * cd_steps)
    return min(10_000 // batch, max(1, 10_000 * 500 * 5 // work))


def setting_of(algorithm, batch, hidden, options):
    cd_steps, persistent = ALGORITHMS[algorithm]
    if options.accelerator:
        steps = len(np.load(options.accelerator, mmap_mode="r")) // batch
    else:
        steps = steps_an_epoch(batch, hidden, cd_steps)
    return Setting(batch, hidden, cd_steps, persistent, steps)


def side_by_side(entries, rounds, seconds, rng):
    """Measure (process, what, setting) entries in turn. A summary of each, in milliseconds."""
    warm = [
        process.ask("prepare", key=key, what=what, setting=setting)
        for key, (process, what, setting) in enumerate(entries)
    ]
    epochs = [max(1, round(seconds / answer["epoch"])) for answer in warm]
    times = [[] for _ in entries]
    for _ in range(rounds):
        for key in rng.sample(range(len(entries)), len(entries)):
            time.sleep(0.02)  # the threads of the one before fall asleep
            answer = entries[key][0].ask("measure", key=key, epochs=epochs[key])
            times[key].append(1e3 * answer)
    for key, (process, *_) in enumerate(entries):
        process.ask("drop", key=key)
    return [
        {
            **summary(ms),
            "steps": round(n * answer["steps"], 1),
            "first_call_s": rounded(answer["first"]),
        }
        for ms, n, answer in zip(times, epochs, warm)
    ]


def rounded(x):
    return float(f"{x:.4g}")


def summary(values):
    """Median, quartiles and all values, in the order of the rounds."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return {
        "median": rounded(statistics.median(values)),
        "quartiles": [rounded(low), rounded(high)],
        "values": [rounded(value) for value in values],
    }


def training(processes, options, rng, save):
    """Every contender over the grid, and its peak memory after the standard size."""
    grid = itertools.product(options.batches, options.hidden)
    cells, memory = [], {}
    for batch, hidden in sorted(grid, key=lambda size: (size != STANDARD, size[1] != STANDARD[1])):
        chosen = [
            (name, algorithm)
            for name, contender in CONTENDERS.items()
            if name in processes
            for algorithm in contender.algorithms[: 1 if options.quick else None]
            if hidden == 500 or name not in VARIANTS
            if not (options.quick and name == "train_rbm")  # traced anew in every measurement
        ]
        print(f"batch {batch}, {hidden} hidden units: {len(chosen)} measurements", flush=True)
        entries = [(processes[n], n, setting_of(a, batch, hidden, options)) for n, a in chosen]
        results = side_by_side(entries, options.rounds, options.seconds, rng)
        cells += [
            {"contender": n, "algorithm": a, "batch": batch, "hidden": hidden, "ms": result}
            for (n, a), result in zip(chosen, results)
        ]
        if (batch, hidden) == STANDARD:
            memory = {
                name: round(processes[name].ask("peak_memory"))
                for name in CONTENDERS
                if name in processes
            }
        save({"training": cells, "peak_memory_mib": memory})


def profile(processes, options, rng, save):
    """The parts of a CD-1 step at the standard size, next to the whole step."""
    print("parts of a step", flush=True)
    setting = setting_of("CD-1", *STANDARD, options)
    groups = processes["others"].ask("parts", setting=setting)
    entries = [(processes["others"], name, setting) for name in groups]
    entries += [(processes["fit"], "fit", setting)]
    *results, fit = side_by_side(entries, options.rounds, options.seconds / 2, rng)
    parts = {
        name: {"group": group, **result} for (name, group), result in zip(groups.items(), results)
    }
    save({"parts": {"batch": STANDARD[0], "hidden": STANDARD[1], "ms": parts, "fit_ms": fit}})


def inference(processes, options, rng, save):
    """Partition functions and sampling."""
    print("partition functions and sampling", flush=True)
    sizes = {  # chains, hidden, steps
        "AIS": (100, 500, 200),
        "AIS, its products": (100, 500, 200),
        "exact enumeration": (1, 16 if options.quick else 20, 1),
        "sampling": (100, 500, 200),
    }
    entries = [
        (processes["others"], name, Setting(chains, hidden, 1, False, steps))
        for name, (chains, hidden, steps) in sizes.items()
    ]
    results = side_by_side(entries, options.rounds, options.seconds, rng)
    rates = {
        name: {"chains": chains, "hidden": hidden, "ms": result}
        for (name, (chains, hidden, _)), result in zip(sizes.items(), results)
    }
    save({"inference": rates})


def imports(processes, options, rng, save):
    """Seconds that `import` takes in a fresh process; the first round only fills the caches."""
    print("imports", flush=True)
    times = {"keras": [], "rbm_tutorial": []}
    for _ in range(1 + options.rounds):
        for name in rng.sample(list(times), len(times)):
            code = f"from time import perf_counter as t; s = t(); import {name}; print(t() - s)"
            out = subprocess.run([sys.executable, "-c", code], env=environment(options),
                                 capture_output=True, text=True, check=True).stdout  # fmt: skip
            times[name].append(float(out))
    save({"import_s": {name: summary(values[1:]) for name, values in times.items()}})


ON_CPU, ON_ACCELERATOR = (training, profile, inference, imports), (inference, training)


def check(options):
    """Print what each contender learned in three epochs; 1 unless all learned as much as ours."""
    failed = 0
    with started(options) as processes:
        for algorithm in ALGORITHMS:
            setting = setting_of(algorithm, 128, 128, options)
            costs = {
                name: processes[name].ask(
                    "learn", what=name, setting=setting, steps=3 * setting.steps
                )
                for name, contender in CONTENDERS.items()
                if algorithm in contender.algorithms and name in processes
                if not name.startswith("products")
            }
            first, last = costs["fit on JAX"]
            fall_of_ours = first - last
            for name, (before, after) in costs.items():
                share = (before - after) / fall_of_ours
                verdict = "" if 0.9 < share < 1.1 else "  does not learn like `fit on JAX`"
                failed += bool(verdict)
                print(
                    f"{algorithm:6}{name:28}{before:8.1f} →{after:6.1f} nats{share:6.2f}{verdict}"
                )
    return int(failed > 0)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="CD-1 (or PCD-1) at 784×500, 3 rounds")
    parser.add_argument("--check", action="store_true", help="check that each contender learns")
    parser.add_argument("--accelerator", metavar="DIGITS.npy", help="use it; the digits to learn")
    parser.add_argument("--name", help="of the results; what computes, if not given")
    parser.add_argument(
        "--threads", type=int, default=usable_cores(), help="all cores if not given"
    )
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, help="these contenders, training")
    parser.add_argument("--batches", type=int, nargs="+", help="sizes of a batch")
    parser.add_argument("--hidden", type=int, nargs="+", help="numbers of hidden units")
    parser.add_argument("--seconds", type=float, help="that one measurement takes, about")
    parser.add_argument("--rounds", type=int, help="repeats of each measurement")
    options = parser.parse_args()
    options.hidden = options.hidden or ([500] if options.quick else [128, 500, 2000])
    options.batches = options.batches or [32, 128, 512] + ([] if options.quick else [2048])
    digits = len(np.load(options.accelerator, mmap_mode="r")) if options.accelerator else 10_000
    if not 0 < 2 * max(options.batches) <= digits:
        parser.error(f"`--batches` must be at most half of the {digits} digits")
    options.seconds = options.seconds or (0.15 if options.quick else 0.4)
    options.rounds = options.rounds or (3 if options.quick else 5)
    return options


def main():
    options = parsed()
    if options.check:
        return check(options)
    rng = random.Random(0)
    load = os.getloadavg()[0]
    if load > 0.3:
        print(f"warning: this machine is busy, its load is {load:.1f}", file=sys.stderr)
    start = time.monotonic()
    result = {
        "command": " ".join(["python", "benchmarks/measure.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "threads": options.threads,
        "load_at_start": rounded(load),
        "versions": {"python": platform.python_version(), **installed()},
        "visible": VISIBLE,
    }
    with started(options) as processes:
        if options.accelerator:
            devices = {name: processes[name].ask("device") for name in ["PyTorch", "others"]}
            if "cpu" in devices.values():
                raise SystemExit(f"`--accelerator` needs one in PyTorch and JAX. Found: {devices}")
            result["accelerator"] = devices["others"]
        name = result.get("accelerator", f"{result['machine']['cpu']} {options.threads} threads")
        name = options.name or re.sub(r"\W+", "_", name)
        path = HERE / "results" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)

        def save(measured):
            result.update(measured, minutes=round((time.monotonic() - start) / 60, 1))
            text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
            path.write_text(text, encoding="utf-8")

        measures = ON_ACCELERATOR if options.accelerator else ON_CPU
        for measure in [training] if options.only else measures:
            measure(processes, options, rng, save)
    print(f"{result['minutes']} minutes; wrote benchmarks/results/{path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
