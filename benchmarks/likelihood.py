"""Seconds of training until an RBM of 784×500 passes a test log-likelihood, on all of MNIST.

    python benchmarks/likelihood.py --work DIR [--data-dir TFDS_DIR] [--seconds N] [--name NAME]
        [--programs NAME …] [--rates RATE …] [--epochs N …]

`--data-dir` is a prepared TFDS directory; without it MNIST is downloaded. Each program learns by
PCD-1 from batches of 100 at some constant learning rates, for `--seconds`; `fit` also by a recipe
whose rate falls to 0 in the second half, for several numbers of epochs, each a run of its own. Runs
go one after another, in a random order, on an otherwise idle machine; what is in `--work` is not
repeated. Compiling counts, importing does not. Digits get new pixels before each pass; the recipe's
pipeline draws them while the clock runs, for the others it stands still.

Then the weights are measured, at 1,000 temperatures: log Z by Bennett's ratio of 100 chains that
are annealed and 100, from training digits after 2,000 Gibbs steps, that are annealed in reverse;
the last ones of each run once more at 10,000. Results go to results/NAME.json.
"""

import argparse
import datetime
import json
import os
import platform
import random
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")  # of what measures

import numpy as np
from contenders import CONTENDERS
from measure import rounded
from processes import Process, installed, machine, usable_cores
from trainings import VISIBLE, Setting

from rbm_tutorial import RBM, as_arrays, binarize, load_mnist
from rbm_tutorial.crossing import bennett_log_partition
from rbm_tutorial.likelihood import (
    ais_log_partition,
    log_likelihood,
    reverse_ais_log_partition,
)
from rbm_tutorial.sampling import run_chains

VALUES = [-100, -90, -86.34, -84]  # -86.34 is the best of Salakhutdinov & Murray (2008)
NAMES = ["fit", "fit on JAX", "PyTorch", "scikit-learn", "rbms"]
RATES = [0.02, 0.05, 0.1]
RECIPES = {"recipe": "tensorflow", "recipe on JAX": "jax"}
RECIPE = {"cd_steps": 2, "learning_rate": 0.3}  # chosen on the 5,000 images that nobody learns
BATCH, IMAGES = 100, 55_000
BASIS = {
    "batch": BATCH,
    "hidden": 500,
    "cd_steps": 1,
    "persistent": True,
    "steps": IMAGES // BATCH,
}


def at_constant_rate(name, rate, options, folder):
    """Learn for `options.seconds` or a little longer: the seconds until the end of each pass."""
    process = Process(CONTENDERS[name].library, options)
    process.ask("load_images", path=str(options.work / "images.npy"))
    setting = Setting(**BASIS, learning_rate=rate)
    process.ask("begin", what=name, setting=setting)
    ends = [0.0]
    while ends[-1] < options.seconds:
        path = str(folder / f"{len(ends)}.npz")
        ends.append(ends[-1] + process.ask("learn_pass", epoch=len(ends), path=path))
    process.end()
    return {"contender": name, "learning_rate": rate, "ends_s": [rounded(s) for s in ends[1:]]}


def by_recipe(name, epochs, options, folder):
    """Learn for so many epochs by the recipe: the seconds that it took."""
    process = Process(RECIPES[name], options)
    process.ask("load_images", path=str(options.work / "images.npy"))
    setting, path = Setting(**BASIS | RECIPE), str(folder / "1.npz")
    seconds = process.ask("follow_recipe", setting=setting, epochs=epochs, path=path)
    process.end()
    return {"contender": name, "epochs": epochs, **RECIPE, "ends_s": [rounded(seconds)]}


def runs_of(options):
    """(folder, function, arguments) of every run, in a random order."""
    runs = [
        (f"{name}_{rate}", at_constant_rate, (name, rate))
        for name in options.programs
        for rate in options.rates
    ]
    runs += [(f"{n}_{e}", by_recipe, (n, e)) for n in RECIPES for e in options.epochs]
    runs = [(options.work / name.replace(" ", "_"), *rest) for name, *rest in runs]
    return random.Random(0).sample(runs, len(runs))


def learn(options):
    for number, (folder, function, arguments) in enumerate(runs_of(options), 1):
        done = folder / "run.json"
        if not done.exists():
            print(f"run {number}: {folder.name}", flush=True)
            folder.mkdir(exist_ok=True)
            run = function(*arguments, options, folder)
            done.write_text(json.dumps(run), encoding="utf-8")


def log_likelihoods(rbm, path, train, test, temperatures=1000):
    """Mean test log-likelihood of saved weights, nats: by annealing, in reverse, and by both.

    The random state of `rbm` begins anew, so that it does not matter what was measured before.
    """
    rbm.seed_generator.state.assign(np.zeros(2, "uint32"))
    with np.load(path) as saved:
        for variable, value in zip((rbm.w_rec, rbm.hb, rbm.vb), saved.values()):
            variable.assign(value)
    ladder = {"num_betas": temperatures, "base_rate": train.mean(axis=0)}
    samples = run_chains(rbm, train[:100], 100, lambda v: rbm.forward_gibbs(v, steps=20))
    forward = ais_log_partition(rbm, 100, seed=1, **ladder)
    reverse = reverse_ais_log_partition(rbm, samples, seed=2, **ladder)
    both = bennett_log_partition(forward, reverse)
    score = np.mean(np.asarray(log_likelihood(rbm, test, 0.0), "float64"))
    return [round(float(score - each.log_z), 3) for each in (forward, reverse, both)]


def measure(rbm, folder, train, test):
    """The run in `folder`, with log-likelihoods at some ends and when it passed each value.

    It looks at the first, second, fourth, eighth … pass and the last, and then halves the span in
    which a value was passed; where the curve falls again, that is one such pass of several.
    """
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    last, seen = len(run["ends_s"]), {}

    def look(end):
        if end not in seen:
            seen[end] = log_likelihoods(rbm, folder / f"{end}.npz", train, test)
        return seen[end][-1]

    looks, passed = [end for end in (2**n for n in range(20)) if end < last] + [last], {}
    for value in VALUES:
        first = next((end for end in looks if look(end) > value), None)
        below = max((end for end in looks if first and end < first), default=0)
        while first and first - below > 1:
            middle = (below + first) // 2
            below, first = (below, middle) if look(middle) > value else (middle, first)
        passed[f"{value}"] = first and run["ends_s"][first - 1]
    slowly = log_likelihoods(rbm, folder / f"{last}.npz", train, test, temperatures=10_000)
    seen = dict(sorted(seen.items()))
    return {**run, "log_likelihoods": seen, "last_slowly": slowly, "passed_s": passed}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="where weights are kept")
    parser.add_argument("--data-dir", help="prepared TFDS directory; downloaded if not given")
    parser.add_argument("--seconds", type=float, default=300, help="of each run; 300 if not given")
    parser.add_argument(
        "--programs", nargs="+", choices=NAMES, default=NAMES, help="all if not given"
    )
    parser.add_argument("--rates", type=float, nargs="+", default=RATES, help="that are constant")
    lengths = [5, 10, 20, 40, 80]
    parser.add_argument("--epochs", type=int, nargs="+", default=lengths, help="of recipes")
    parser.add_argument("--name", default="likelihood", help="of the results")
    parser.add_argument("--threads", type=int, default=usable_cores(), help="all if not given")
    options = parser.parse_args()
    options.accelerator = options.only = None
    options.work.mkdir(parents=True, exist_ok=True)
    train, test = (as_arrays(split)[0] for split in load_mnist("tfds", data_dir=options.data_dir))
    np.save(options.work / "images.npy", train[:IMAGES].astype("float32"))
    result = {
        "command": "python benchmarks/likelihood.py",
        **{name: vars(options)[name] for name in ("seconds", "programs", "rates", "epochs")},
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "threads": options.threads,
        "versions": {"python": platform.python_version(), **installed()},
    }
    learn(options)
    train, test = binarize(train[:IMAGES], seed=101), binarize(test, seed=103)
    rbm = RBM(BASIS["hidden"], seed=0)
    rbm.build((None, VISIBLE))
    path = Path(__file__).parent / "results" / f"{options.name}.json"
    path.parent.mkdir(exist_ok=True)
    result["runs"] = []
    for folder, *_ in runs_of(options):
        result["runs"].append(measure(rbm, folder, train, test))
        print(folder.name, result["runs"][-1]["passed_s"], flush=True)
        path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote benchmarks/results/{path.name}")


if __name__ == "__main__":
    main()
