"""Forward and reverse annealing together: histograms that cross at log Z, and what they ask for.

The chapters on estimating Z and on the likelihood use them. Everything is in nats; nothing draws.
"""

import math
from typing import NamedTuple

import numpy as np

from rbm_tutorial.annealing import PartitionEstimate, log_mean_weight
from rbm_tutorial.checks import check_count, check_examples, check_matrix, finite_array
from rbm_tutorial.examples import one_for_each


def estimates_of_chains(
    forward: PartitionEstimate, reverse: PartitionEstimate
) -> tuple[np.ndarray, np.ndarray]:
    """log Z₀ + log w of each chain by itself, (chains,) nats: of forward and of reverse ones.

    For exact reverse starts the density of the second at c is e^(c - log Z) times that of the
    first, so that histograms of them cross at log Z.

    Args:
        forward: from `ais_log_partition`.
        reverse: from `reverse_ais_log_partition`, through the same temperatures and base rates.

    Raises: `ValueError` for what are no estimates, or do not begin at one Z₀.
    Source: Crooks, Entropy production fluctuation theorem and the nonequilibrium work relation for
    free energy differences (1999).
    """
    for name, estimate in [("forward", forward), ("reverse", reverse)]:
        if not isinstance(estimate, PartitionEstimate):
            raise ValueError(
                f"`{name}` must be a PartitionEstimate. Received: {type(estimate).__name__}"
            )
    up, down = forward.log_weights, reverse.log_weights
    log_z0 = forward.log_z - log_mean_weight(up)[0], reverse.log_z + log_mean_weight(down)[0]
    if not math.isclose(*log_z0, rel_tol=1e-6, abs_tol=1e-3):
        raise ValueError(
            "`forward` and `reverse` must be of one machine, with one `base_rate`, in this order. "
            f"Received: log Z0 of {log_z0[0]:.3f} and {log_z0[1]:.3f} nats"
        )
    return log_z0[0] + up, log_z0[1] - down


class BennettEstimate(NamedTuple):
    """log Z and its standard error, nats."""

    log_z: float
    standard_error: float


def bennett_log_partition(
    forward: PartitionEstimate, reverse: PartitionEstimate
) -> BennettEstimate:
    """Estimate log Z from forward and reverse chains at once, by Bennett's acceptance ratio.

    The c at which Σ_forward σ(a - c - M) = Σ_reverse σ(M + c - b), where a and b are
    `estimates_of_chains` and M is the logarithm of the number of forward chains over that of
    reverse ones. Of all estimates from both it has the smallest error, if reverse chains start at
    exact draws. The error is that of the difference of the sums over its slope; histograms that do
    not overlap make it as meaningless as that of either direction.

    Args:
        forward: from `ais_log_partition`.
        reverse: from `reverse_ais_log_partition`, through the same temperatures and base rates.

    Raises: `ValueError` as `estimates_of_chains`.
    Source: Bennett, Efficient estimation of free energy differences from Monte Carlo data (1976).
    """
    a, b = estimates_of_chains(forward, reverse)
    m = math.log(len(a) / len(b))

    def log_sides(c):
        return _log_sigmoid(a - c - m), _log_sigmoid(m + c - b)

    low, high = min(a.min(), b.min()) - abs(m) - 1, max(a.max(), b.max()) + abs(m) + 1
    while high - low > 1e-9 * max(1.0, abs(high)):
        c = (low + high) / 2
        left, right = map(np.logaddexp.reduce, log_sides(c))
        low, high = (c, high) if left > right else (low, c)
    sides = log_sides((low + high) / 2)
    top = max(map(np.max, sides))  # histograms may be hundreds of nats apart
    slope = sum(np.sum(np.exp(side - top) * -np.expm1(side)) for side in sides)
    variance = sum(len(side) * np.exp(side - top).var(ddof=1) for side in sides)
    return BennettEstimate((low + high) / 2, math.sqrt(variance) / slope)


def nearest_labels(images, known, labels) -> np.ndarray:
    """The label of the `known` image at the least Euclidean distance from each image: (batch,).

    ‖x - y‖² = ‖x‖² - 2 x·y + ‖y‖², of which the first term does not matter. Of equals the first
    counts. `images` are (batch, units), `known` (examples, units), `labels` (examples,).

    Raises: `ValueError` for other shapes, NaN, and no known image.
    """
    images, known = finite_array("images", images), finite_array("known", known)
    check_matrix("images", images, None)
    check_matrix("known", known, images.shape[1])
    check_examples("known", len(known))
    labels = one_for_each("labels", labels, known)
    if images.dtype.kind + known.dtype.kind != "ff":  # bytes would overflow
        images, known = images.astype("float64"), known.astype("float64")
    squares = np.sum(known**2, axis=1) - 2 * images @ known.T
    return labels[np.argmin(squares, axis=1)]


class ClassShares(NamedTuple):
    """Shares of the classes among draws, and their standard errors: (classes,) each."""

    shares: np.ndarray
    standard_errors: np.ndarray


def class_shares(labels, number_classes: int, log_weights=None) -> ClassShares:
    """Which share of draws belongs to each class: Σ w [label = c] / Σ w, with its error.

    Forward chains, weighted, and chains that started at data should give the same shares; where
    they do not, one of the two has not divided itself among the modes as the machine does.

    Args:
        labels: class of each draw, (draws,) integers from 0, by any classifier, such as
            `nearest_labels`.
        number_classes: number of classes.
        log_weights: of the draws, (draws,) nats, such as those of `annealed_draws`; equal if
            `None`. The errors of unequal ones are first-order, as that of a `PartitionEstimate`.

    Raises: `ValueError` for other labels, or weights of another number than labels.
    """
    check_count("number_classes", number_classes, least=2)
    labels = np.asarray(labels)
    check_examples("labels", labels.size)
    if labels.ndim != 1 or not np.isin(labels, np.arange(number_classes)).all():
        raise ValueError(
            f"`labels` must be integers from 0 to {number_classes - 1}, (draws,). "
            f"Received: shape {labels.shape}, {np.unique(labels)[:20]}"
        )
    log_w = (
        np.zeros(len(labels)) if log_weights is None else finite_array("log_weights", log_weights)
    )
    if log_w.shape != labels.shape:
        raise ValueError(
            f"`log_weights` must have the shape of `labels`, {labels.shape}. "
            f"Received: {log_w.shape}"
        )
    w = np.exp(log_w - log_w.max())
    w, is_class = w / w.sum(), labels[:, None] == np.arange(number_classes)
    shares = w @ is_class
    return ClassShares(shares, np.sqrt(w**2 @ (is_class - shares) ** 2))


def _log_sigmoid(x):
    return -np.logaddexp(0, -x)
