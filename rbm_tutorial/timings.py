"""Figures and numbers of a result of `benchmarks/measure.py`, such as those the package stores.

A result is a dictionary, as `stored_result("bench_Intel_Xeon_2_threads")` returns it. Times are in
milliseconds. Nothing draws random numbers.
"""

import statistics

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from rbm_tutorial.plots import COLORS, GRAY

STYLES = dict(  # color and marker of each contender, the same in every figure
    zip(["fit", "fit on JAX", "PyTorch", "scikit-learn", "rbms", "source"], zip(COLORS, "os^vDx"))
)
GROUPS = {"products": COLORS[0], "sampling": COLORS[1], "update": COLORS[2],
          "monitoring": COLORS[3], "Keras": COLORS[4]}  # fmt: skip


def times_of(result: dict, hidden: int, algorithm: str = "CD-1") -> dict:
    """{(contender, batch): time of a step} of one algorithm and number of hidden units.

    A contender that was not asked for CD-1 is there with PCD-1, whose products are the same; for
    PCD-1 the limit is that of CD-1. A time holds `median`, `quartiles` and the `values` of the
    rounds, in ms.
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


def ours_and_limit(result: dict) -> tuple[str, str]:
    """The contenders that the others are compared with; on an accelerator those on JAX."""
    jax_only = "accelerator" in result
    return ("fit on JAX", "products, JAX") if jax_only else ("fit", "products, TensorFlow")


def ratios(numerator: dict, denominator: dict) -> list[float]:
    """The ratio of two times within each round, when the computer was as busy for both."""
    return [a / b for a, b in zip(numerator["values"], denominator["values"])]


def ratio(numerator: dict, denominator: dict) -> float:
    """Median over rounds of the ratio within a round."""
    return statistics.median(ratios(numerator, denominator))


def training_figure(
    result: dict, hidden: int = 500, algorithm: str = "CD-1", ax: Axes | None = None
) -> Axes:
    """Time of a step over the batch size for each contender, with its quartiles and the limit."""
    ax = ax or plt.subplots(layout="constrained")[1]
    times = times_of(result, hidden, algorithm)
    limit = ours_and_limit(result)[1]
    for name, (color, marker) in {**STYLES, limit: (GRAY, "")}.items():
        points = sorted((batch, ms) for (n, batch), ms in times.items() if n == name)
        if points:
            style = {"linestyle": "--"} if name == limit else {"marker": marker, "markersize": 4}
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
    ax.set_title(f"{algorithm}, {result['visible']}×{hidden}", color=GRAY)
    return ax


def step_figure(result: dict, ax: Axes | None = None) -> Axes:
    """The parts of a step, end to end, above the step that `fit` takes, with its quartiles."""
    ax = ax or plt.subplots(figsize=(7.2, 4.4), layout="constrained")[1]
    parts = result["parts"]["ms"]
    end = 0.0
    for row, part in enumerate(parts.values()):
        ax.barh(row, part["median"], left=end, color=GROUPS[part["group"]])
        end += part["median"]
    fit = result["parts"]["fit_ms"]
    low, high = fit["quartiles"]
    spread = [[fit["median"] - low], [high - fit["median"]]]
    ax.barh(len(parts), fit["median"], color=GRAY, xerr=spread, ecolor=GRAY)
    ax.axvline(end, color=GRAY, linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(parts) + 1), [*parts, "fit, measured"])
    ax.invert_yaxis()
    ax.set_xlabel("time (ms)")
    handles = [plt.Rectangle((0, 0), 1, 1, color=color) for color in GROUPS.values()]
    ax.legend(handles, GROUPS, loc="lower left", bbox_to_anchor=(0.02, 0.15))
    return ax
