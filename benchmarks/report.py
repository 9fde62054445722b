"""Tables and figures of one file of results.

    python benchmarks/report.py benchmarks/results/NAME.json

Prints the tables and writes NAME_training.png and NAME_step.png beside it. Ratios are medians
over rounds of the ratio within a round, in which the machine was the same for both.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt

from rbm_tutorial.plots import use_style
from rbm_tutorial.timings import ours_and_limit, ratio, step_figure, times_of, training_figure


def print_table(title, header, rows):
    print(f"\n**{title}**\n\n| | {' | '.join(header)} |\n|---|{'---:|' * len(header)}")
    for name, *values in rows:
        print(f"| {name} | {' | '.join(values)} |")


def training_tables(result):
    ours, limit = ours_and_limit(result)
    sizes = {cell["hidden"] for cell in result["training"]}
    batches = sorted({cell["batch"] for cell in result["training"]})
    header = [f"batch {batch}" for batch in batches]
    algorithms = sorted({c["algorithm"] for c in result["training"] if c["contender"] == ours})
    for algorithm in algorithms:
        for hidden in sorted(sizes):
            times = times_of(result, hidden, algorithm)
            names = list(dict.fromkeys(name for name, _ in times))
            own = {c["contender"] for c in result["training"] if c["algorithm"] == algorithm}
            shown = {
                name: name if name in own or name.startswith("products") else f"{name} (PCD-1)"
                for name in names
            }
            size = f"{algorithm}, {result['visible']}×{hidden}"

            def row(name, text, times=times):
                return [text(times, name, b) if (name, b) in times else "" for b in batches]

            for title, text, without in [
                ("ms a step (quartiles)", milliseconds, None),
                (f"times as long as `{ours}`", over(ours), ours),
                (f"share of the limit, {limit}", share(limit), limit),
            ]:
                rows = [(shown[name], *row(name, text)) for name in names if name != without]
                print_table(f"{size}: {title}", header, rows)


def milliseconds(times, name, batch):
    ms = times[name, batch]
    low, high = ms["quartiles"]
    return f"{ms['median']:.3g} ({low:.3g}–{high:.3g})"


def over(ours):
    return lambda times, name, batch: f"{ratio(times[name, batch], times[ours, batch]):.2f}×"


def share(limit):
    return lambda times, name, batch: f"{ratio(times[limit, batch], times[name, batch]):.2f}"


def inference_table(cells):
    rates = {name: 1e3 * (cell["chains"] / cell["ms"]["median"]) for name, cell in cells.items()}
    print_table(
        "Partition functions and sampling, work per second",
        ["rate"],
        [(f"{name}, {cells[name]['hidden']} hidden units", f"{rate:,.0f}")
         for name, rate in rates.items()],
    )  # fmt: skip
    print("\nA unit is a temperature of a chain, an enumerated state, a Gibbs step of a chain.")
    print(f"AIS: {ratio(cells['AIS, its products']['ms'], cells['AIS']['ms']):.2f} of its limit.")


def other_tables(result):
    if "inference" in result:
        inference_table(result["inference"])
    if "import_s" in result:
        keras, ours = result["import_s"]["keras"], result["import_s"]["rbm_tutorial"]
        print(
            f"import keras {keras['median']:.2f} s, rbm_tutorial {ours['median']:.2f} s:", end=" "
        )
        print(f"{ratio(ours, keras):.2f}×.")
    first = {c["contender"]: c["ms"]["first_call_s"] for c in reversed(result["training"])}
    print_table(
        "Peak memory of the host after the standard size, and first call (making, tracing) there",
        ["MiB", "s"],
        [
            (name, f"{mib}", f"{first[name]:.2f}")
            for name, mib in result["peak_memory_mib"].items()
            if name in first
        ],
    )


def step_table(result):
    step = result["parts"]
    fit = step["fit_ms"]
    rows = [
        (name, part["group"], f"{part['median']:.3f}", f"{ratio(part, fit):.0%}")
        for name, part in step["ms"].items()
    ]
    total = sum(part["median"] for part in step["ms"].values())
    rows += [("**sum**", "", f"{total:.3f}", f"{total / fit['median']:.0%}")]
    rows += [("**`fit`, measured**", "", f"{fit['median']:.3f}", "100%")]
    print_table(
        f"Where a CD-1 step of `fit` goes, {result['visible']}×{step['hidden']}, "
        f"batch {step['batch']}; each part alone",
        ["group", "ms", "of the step"],
        rows,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    path = parser.parse_args().results
    result = json.loads(path.read_text(encoding="utf-8"))
    machine = result["machine"]
    print(f"{result.get('accelerator', machine['cpu'])}, {machine['cores']} cores, "
          f"{result['threads']} threads, {result['date']}, "
          f"load at the start {result['load_at_start']}")  # fmt: skip
    training_tables(result)
    other_tables(result)
    use_style()
    sizes = sorted({cell["hidden"] for cell in result["training"]})
    figure, axes = plt.subplots(
        1, len(sizes), figsize=(3.6 * max(2, len(sizes)), 4.2), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for hidden, ax in zip(sizes, axes[0]):
        training_figure(result, hidden, ax=ax)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path.with_name(f"{path.stem}_training.png"))
    if "parts" in result:
        step_table(result)
        step_figure(result).figure.savefig(path.with_name(f"{path.stem}_step.png"))


if __name__ == "__main__":
    main()
