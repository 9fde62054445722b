"""Tables and figures of one file of results.

    python benchmarks/report.py benchmarks/results/NAME.json

Prints the tables and writes NAME_training.png and NAME_step.png beside it. Ratios are medians
over rounds of the ratio within a round, in which the machine was the same for both.
"""

import argparse
import json
import statistics
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from rbm_tutorial.plots import COLORS, GREY, use_style

DRAWN = ["fit", "fit on JAX", "PyTorch", "scikit-learn", "rbms", "source"]  # in the order of COLORS
GROUPS = {"products": COLORS[0], "sampling": COLORS[1], "update": COLORS[2],
          "monitoring": COLORS[3], "Keras": COLORS[4]}  # fmt: skip


def times_of(result, hidden, algorithm="CD-1"):
    """{(contender, batch): milliseconds} of one algorithm; of CD-1, or of PCD-1 where that is all.

    PCD-1 has the same limit as CD-1.
    """
    times = {}
    for cell in result["training"]:
        key = cell["contender"], cell["batch"]
        limit = cell["contender"].startswith("products")
        instead = {"CD-1": "PCD-1", "PCD-1": "CD-1" if limit else None}.get(algorithm)
        replaces = cell["algorithm"] == algorithm or key not in times
        if cell["hidden"] == hidden and cell["algorithm"] in (algorithm, instead) and replaces:
            times[key] = cell["ms"]
    return times


def ours_and_limit(result):
    """The contenders that the others are compared with; on an accelerator those on JAX."""
    jax_only = "accelerator" in result
    return ("fit on JAX", "products, JAX") if jax_only else ("fit", "products, TensorFlow")


def ratio(numerator, denominator):
    return statistics.median(a / b for a, b in zip(numerator["values"], denominator["values"]))


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


def other_tables(result):
    cells = result["inference"]
    rates = {name: 1e3 * (cell["chains"] / cell["ms"]["median"]) for name, cell in cells.items()}
    print_table(
        "Partition functions and sampling, work per second",
        ["rate"],
        [(f"{name}, {cells[name]['hidden']} hidden units", f"{rate:,.0f}")
         for name, rate in rates.items()],
    )  # fmt: skip
    print("\nA unit is a temperature of a chain, an enumerated state, a Gibbs step of a chain.")
    print(f"AIS: {ratio(cells['AIS, its products']['ms'], cells['AIS']['ms']):.2f} of its limit.")
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
        [(name, f"{mib}", f"{first[name]:.2f}") for name, mib in result["peak_memory_mib"].items()],
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


def training_figure(result, hidden: int = 500, algorithm: str = "CD-1", ax: Axes | None = None):
    """Time of a step over the batch size for each contender, with its quartiles and the limit."""
    ax = ax or plt.subplots(layout="constrained")[1]
    times = times_of(result, hidden, algorithm)
    limit = ours_and_limit(result)[1]
    colors = {**dict(zip(DRAWN, COLORS)), limit: GREY}
    for name, color in colors.items():
        points = sorted((batch, ms) for (n, batch), ms in times.items() if n == name)
        if points:
            style = {"linestyle": "--"} if name == limit else {"marker": "o", "markersize": 4}
            ax.plot([b for b, _ in points], [ms["median"] for _, ms in points],
                    color=color, label=name, **style)  # fmt: skip
            low, high = zip(*(ms["quartiles"] for _, ms in points))
            ax.fill_between([b for b, _ in points], low, high, color=color, alpha=0.25, linewidth=0)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    batches = sorted({batch for _, batch in times})
    ax.set_xticks(batches, [str(batch) for batch in batches])
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("batch")
    ax.set_ylabel("time of a step (ms)")
    ax.set_title(f"{algorithm}, {result['visible']}×{hidden}", color=GREY)
    return ax


def step_figure(result, ax: Axes | None = None):
    """The parts of a step, end to end, above the step that `fit` takes."""
    ax = ax or plt.subplots(figsize=(7.2, 4.4), layout="constrained")[1]
    parts = result["parts"]["ms"]
    end = 0.0
    for row, part in enumerate(parts.values()):
        ax.barh(row, part["median"], left=end, color=GROUPS[part["group"]])
        end += part["median"]
    fit = result["parts"]["fit_ms"]["median"]
    ax.barh(len(parts), fit, color=GREY)
    ax.axvline(end, color=GREY, linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(parts) + 1), [*parts, "fit, measured"])
    ax.invert_yaxis()
    ax.set_xlabel("ms")
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in GROUPS.values()]
    ax.legend(handles, GROUPS, loc="lower left", bbox_to_anchor=(0.02, 0.15))
    return ax


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
