"""Figures of RBMs and their training: every function takes and returns matplotlib `Axes`.

Without `ax` a new figure is made. `use_style` sets colors that read on light and on dark pages.
The chapter on visualization shows each of them.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from rbm_tutorial.checks import (
    check_built,
    check_count,
    check_examples,
    check_machine,
    check_matrix,
    finite_array,
    real_array,
)
from rbm_tutorial.exact import layer_states
from rbm_tutorial.units import number_of_first

GRAY = "#757575"  # contrast of at least 4.5:1 on white and on the black that dark pages put behind
# Okabe & Ito's color-blind-safe palette without black and yellow, which vanish on one of the two;
# orange and light blue are darker than theirs, so that all have at least 3:1 on white.
COLORS = ["#0072B2", "#C78500", "#009E73", "#CC79A7", "#3A9BD5", "#D55E00"]


def use_style() -> None:
    """Set matplotlib's defaults: transparent figures, mid-gray text, color-blind-safe lines."""
    plt.rcParams.update(
        {
            "figure.figsize": (5.4, 3.0),
            "figure.dpi": 144,
            "figure.facecolor": "none",
            "savefig.facecolor": "none",
            "axes.facecolor": "none",
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": plt.cycler(color=COLORS),
            "lines.linewidth": 1.8,
            "font.size": 10,
            "image.interpolation": "nearest",
            **{f"{part}.color": GRAY for part in ("text", "xtick", "ytick")},
            **{f"axes.{part}color": GRAY for part in ("label", "edge")},
        }
    )


def image_grid(
    images,
    columns: int = 10,
    image_shape: tuple[int, int] | None = None,
    ax: Axes | None = None,
    cmap: str = "gray",
    vmin: float | None = 0,
    vmax: float | None = 1,
) -> Axes:
    """Images (count, pixels) side by side, row by row, on one color scale, in thin gray frames.

    Args:
        image_shape: (height, width); square if `None`.
        vmin, vmax: ends of the shared color scale; `None` for those of the data.

    Raises: `ValueError` if `image_shape` does not hold that many pixels, for values that are not
    finite, and for others than [0, 1] if the scale is left at that.
    """
    images = (_gray if (vmin, vmax) == (0, 1) else finite_array)("images", images)
    tiles = _tile(images, columns, image_shape)
    ax = _axes(ax, width=5.4, height=5.4 * tiles.shape[0] / tiles.shape[1])
    ax.imshow(tiles, cmap=cmap, vmin=vmin, vmax=vmax)
    height, width = tiles.shape[0] // -(-len(images) // columns), tiles.shape[1] // columns
    style = {"fill": False, "ec": GRAY, "lw": 0.5, "clip_on": False}
    for i in range(len(images)):
        corner = i % columns * width - 0.5, i // columns * height - 0.5
        ax.add_patch(plt.Rectangle(corner, width - 1, height - 1, **style))
    ax.set_axis_off()
    return ax


def filters(
    rbm,
    count: int = 100,
    columns: int = 10,
    image_shape: tuple[int, int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The recognition weights of the first `count` hidden units, each as an image.

    All share one color scale, symmetric about 0, shown by a color bar. What is beside pixels, such
    as labels, is left out.

    Raises: `ValueError` for a layer that is not built, and as `image_grid` does.
    """
    check_built(rbm, "filters")
    check_count("count", count)
    pixels = number_of_first(rbm.visible_units, rbm.number_visible_units)
    weights = finite_array("w_rec", rbm.w_rec)[:pixels, :count]
    limit = np.abs(weights).max()
    ax = image_grid(weights.T, columns, image_shape, ax, cmap="PuOr", vmin=-limit, vmax=limit)
    bar = ax.figure.colorbar(ax.images[0], ax=ax, shrink=0.6, pad=0.02, label="weight")
    bar.outline.set_visible(False)
    return ax


def reconstructions(
    originals, reconstructed, image_shape: tuple[int, int] | None = None, ax: Axes | None = None
) -> Axes:
    """Two rows: originals (count, pixels) above their reconstructions.

    Raises: `ValueError` for arrays of unlike shapes or values outside [0, 1].
    """
    originals = _gray("originals", originals)
    reconstructed = _gray("reconstructed", reconstructed)
    if originals.shape != reconstructed.shape:
        raise ValueError(
            "`originals` and `reconstructed` must have one shape. "
            f"Received: {originals.shape} and {reconstructed.shape}"
        )
    check_matrix("originals", originals, None)
    rows = np.stack([originals, reconstructed])
    return _labeled_rows(rows, ["data", "reconstruction"], image_shape, ax)


def film_strip(
    chain,
    steps: Sequence[int] | None = None,
    image_shape: tuple[int, int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A Gibbs chain (steps, chains, pixels): each chain a row, time from left to right.

    Pixels that are NaN, which stands for unknown, are left empty. `steps` are the numbers written
    above the columns; 0, 1, 2 … if `None`.
    """
    chain = real_array("chain", chain)
    unknown = np.isnan(chain)
    chain = _gray("chain", np.where(unknown, 0, chain))
    if chain.ndim != 3 or 0 in chain.shape:
        raise ValueError(
            f"`chain` must have shape (steps, chains, pixels). Received: {chain.shape}"
        )
    steps = range(len(chain)) if steps is None else steps
    if np.shape(steps) != (len(chain),):
        raise ValueError(
            f"`steps` must hold a number for each of the {len(chain)} columns. Received: {steps!r}"
        )
    ax = _labeled_rows(chain.swapaxes(0, 1), [""] * chain.shape[1], image_shape, ax)
    empty = _tile(unknown.swapaxes(0, 1).reshape(-1, chain.shape[2]), len(chain), image_shape) == 1
    shown = np.ma.filled(ax.images[0].get_array(), np.nan)
    ax.images[0].set_data(np.where(empty, np.nan, shown))
    width = ax.images[0].get_array().shape[1]
    ax.set_xticks((np.arange(len(chain)) + 0.5) * width / len(chain), [str(s) for s in steps])
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.set_xlabel("Gibbs steps")
    return ax


def training_curves(
    history: Mapping[str, Sequence[float]],
    metric: str = "reconstruction_cost",
    ax: Axes | None = None,
) -> Axes:
    """A metric over epochs, and its validation twin if there is one, from what `fit` returns.

    `history` is a `History`, or its dictionary.

    Raises: `ValueError` for another history, and for a metric that it does not hold.
    """
    first = (getattr(history, "epoch", None) or [0])[0]  # of a run that was resumed
    history = getattr(history, "history", history)
    if not isinstance(history, Mapping):
        raise ValueError(
            f"`history` must be what `fit` returns. Received: {type(history).__name__}"
        )
    if not history:
        raise ValueError("`history` must hold an epoch or more. Received one of no epoch.")
    keys = [key for key in (f"{metric}", f"val_{metric}") if key in history]
    if not keys:
        raise ValueError(f"`metric` must be one of {sorted(history)}. Received: {metric!r}")
    curves = {key: real_array("history", history[key]).ravel() for key in keys}
    lengths = {key: len(values) for key, values in curves.items()}
    check_examples("history", min(lengths.values()))
    if len({*lengths.values()}) > 1:
        raise ValueError(
            f"`history` must hold both for each epoch: leave `validation_freq`. Received: {lengths}"
        )
    ax = _axes(ax)
    for key, label, style in [(metric, "training", "-"), (f"val_{metric}", "validation", "--")]:
        if key in curves:
            ax.plot(first + np.arange(1, len(curves[key]) + 1), curves[key], style, label=label)
    unit = "" if metric.endswith("accuracy") else " (nats)"
    ax.set(xlabel="epochs", ylabel=f"{metric.replace('_', ' ')}{unit}")
    if f"val_{metric}" in history:
        ax.legend()
    return ax


def energy_landscape(rbm, ax: Axes | None = None) -> Axes:
    """E(v, h) of every joint state of a small, tied machine: rows are v, columns are h.

    Raises: `ValueError` above 6 units in either layer, where no one could read the labels, and for
    units with infinitely many states.
    """
    check_machine(rbm, "energy_landscape")
    visible, hidden = rbm.number_visible_units, rbm.number_hidden_units
    if max(visible, hidden) > 6:
        raise ValueError(
            f"`rbm` must have at most 6 units in each layer. Received: {visible} and {hidden}"
        )
    v, h = layer_states(rbm.visible_units, visible), layer_states(rbm.hidden_units, hidden)
    pairs_v, pairs_h = np.repeat(v, len(h), axis=0), np.tile(h, (len(v), 1))
    energies = finite_array("energy", rbm.energy(pairs_v, pairs_h)).reshape(len(v), len(h))
    ax = _axes(ax, height=max(3.0, 0.3 * len(v)))
    image = ax.imshow(energies, cmap="cividis", aspect="auto")
    ax.set_xticks(range(len(h)), [_bits(state) for state in h], rotation=90)
    ax.set_yticks(range(len(v)), [_bits(state) for state in v])
    ax.set(xlabel="hidden state h", ylabel="visible state v")
    ax.figure.colorbar(image, ax=ax).set_label("energy (nats)")
    return ax


def parameter_histogram(rbm, name: str = "w_rec", ax: Axes | None = None) -> Axes:
    """How the values of one parameter of the layer, `w_rec`, `w_gen`, `hb` or `vb`, are spread.

    Raises: `ValueError` for a layer that is not built, and for another name.
    """
    check_built(rbm, "parameter_histogram")
    parameters = ["w_rec", "w_gen", "hb", "vb"]
    if not isinstance(name, str) or name not in parameters:
        raise ValueError(f"`name` must be one of {parameters}. Received: {name!r}")
    ax = _axes(ax)
    ax.hist(finite_array(name, getattr(rbm, name)).ravel(), bins=60)
    ax.set(xlabel=name, ylabel="count")
    return ax


def hidden_activations(rbm, x, ax: Axes | None = None) -> Axes:
    """p(h=1 | v), of other units ⟨h | v⟩: a row for each example of `x`, a column for each unit.

    A unit that is always on or off shows as a stripe (Hinton 2012, section 15).

    Raises: `ValueError` for a layer that is not built, and for an `x` of another width, empty, or
    with values that its units cannot have.
    """
    check_built(rbm, "hidden_activations")
    x = rbm.checked_visible(x, "x")
    check_examples("x", len(x))
    p = finite_array("forward(x)", rbm.forward(x))
    sites = [p] if rbm.hidden_units.unbounded else rbm.hidden_units.sites(p.shape[1])
    values = np.unique(np.concatenate([np.ravel(site) for site in sites]))
    ax = _axes(ax)
    image = ax.imshow(p, cmap="gray", aspect="auto", vmin=values[0], vmax=values[-1])
    ax.set(xlabel="hidden unit", ylabel="example")
    ax.figure.colorbar(image, ax=ax).set_label("p(h = 1 | v)" if {*values} == {0, 1} else "⟨h | v⟩")
    return ax


def _gray(name, x):
    array = finite_array(name, x)
    if array.size and not -0.01 < array.min() <= array.max() < 1.01:
        raise ValueError(
            f"`{name}` must lie in [0, 1], the scale of the picture. "
            f"Received values from {array.min():g} to {array.max():g}."
        )
    return array


def _axes(ax, width=5.4, height=3.0):
    if not isinstance(ax, Axes | None):
        raise ValueError(f"`ax` must be matplotlib `Axes`. Received: {type(ax).__name__}")
    return plt.subplots(figsize=(width, height), layout="constrained")[1] if ax is None else ax


def _bits(state):
    return "".join(str(int(bit)) for bit in state)


def _tile(images, columns, image_shape):
    """(count, pixels) → one picture; transparent (NaN) lines separate the images."""
    check_count("columns", columns)
    if images.ndim != 2 or len(images) == 0:
        raise ValueError(
            "`images` must have shape (count, pixels), at least one: `images[None]` for a single "
            f"one. Received: {images.shape}"
        )
    side = int(np.sqrt(images.shape[1]))
    image_shape = (side, side) if image_shape is None else image_shape
    if not isinstance(image_shape, Sequence) or len(image_shape) != 2:
        raise ValueError(f"`image_shape` must be (height, width). Received: {image_shape!r}")
    for number in image_shape:
        check_count("image_shape", number)
    height, width = image_shape
    if height * width != images.shape[1]:
        raise ValueError(
            f"`images` must have shape (count, {height * width}) for image_shape="
            f"({height}, {width}). Received: {images.shape}"
        )
    rows = -(-len(images) // columns)
    tiles = np.full((rows * columns, height + 1, width + 1), np.nan)
    tiles[: len(images), :-1, :-1] = images.reshape(-1, height, width)
    tiles = tiles.reshape(rows, columns, height + 1, width + 1).swapaxes(1, 2)
    return tiles.reshape(rows * (height + 1), columns * (width + 1))


def _labeled_rows(rows, labels, image_shape, ax):
    """(rows, columns, pixels) as a grid with a label to the left of each row."""
    count, columns, pixels = rows.shape
    ax = image_grid(rows.reshape(-1, pixels), columns, image_shape, ax)
    height = ax.images[0].get_array().shape[0]
    ax.set_axis_on()
    ax.spines[:].set_visible(False)
    ax.set_xticks([])
    ax.set_yticks((np.arange(count) + 0.5) * height / count, labels)
    ax.tick_params(length=0)
    return ax
