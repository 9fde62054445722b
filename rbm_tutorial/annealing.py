"""The partition function by annealed importance sampling, in both directions.

The chapter on estimating Z derives it and says how far it can be trusted. Everything is in nats.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from keras import ops

from rbm_tutorial.backend import affine, compiled, double_precision, uniform_stream
from rbm_tutorial.checks import check_count, check_machine, fixed_seed, real_array, real_tensor
from rbm_tutorial.rbm import RBM
from rbm_tutorial.sampling import (
    independent_units,
    parameters_of,
    tempered_gibbs_step,
    tempered_log_ratio,
)


class PartitionEstimate(NamedTuple):
    """An estimate of log Z by importance sampling.

    Attributes:
        log_z: the estimate, nats.
        standard_error: of `log_z`, nats, by the delta method: the relative standard error of the
            mean weight.
        effective_sample_size: (Σ w)² / Σ w², between 1 and the number of chains.
        log_weights: (chains,) float64, nats, each an estimate of ±(log Z - log Z₀) by itself.
    """

    log_z: float
    standard_error: float
    effective_sample_size: float
    log_weights: np.ndarray


def ais_log_partition(
    rbm: RBM,
    num_chains: int = 100,
    num_betas: int = 10_000,
    base_rate=None,
    seed: int = 0,
    betas=None,
) -> PartitionEstimate:
    """Estimate log Z by annealed importance sampling, from independent pixels to the machine.

    The unnormalized p*_β(v) = exp[((1 - β) a₀ + β vb)·v] Π_j (1 + exp[β (v·w_rec + hb)_j]) lead
    from pixels that are on independently at the base rate σ(a₀), whose Z₀ is known, to the machine.
    (For other than binary units, m(v) is a factor and Z(β (v·w_rec + hb)_j) stands for 1 + exp.)
    Each chain's weight is Π_k p*_{β_k}(v_{k-1}) / p*_{β_{k-1}}(v_{k-1}), v_k one Gibbs step at β_k
    from v_{k-1}. The mean weight is an unbiased estimate of Z / Z₀, so `log_z` is too low on
    average, and a likelihood computed from it too high: too few temperatures flatter the model.

    Args:
        rbm: the machine, tied.
        num_chains: number of independent chains.
        num_betas: number of inverse temperatures, evenly spaced from 0 to 1.
        base_rate: means of the visible units, (visible,), of probabilities clipped to [0.001,
            0.999]; such as the mean of the training data, which is better than σ(vb), taken if
            `None`, when temperatures are few.
        seed: fixes the random numbers.
        betas: inverse temperatures that rise from 0 to 1, instead of `num_betas` even ones; such
            as `salakhutdinov_murray_betas()`.

    Raises: `ValueError` on an untied layer or for arguments out of range.
    Source: Neal (2001); Salakhutdinov & Murray (2008), section 4.
    """
    check_machine(rbm, "ais_log_partition")
    base, _, log_weights = _forward(rbm, num_chains, num_betas, base_rate, seed, betas)
    return _estimate(
        log_weights, lambda log_ratio: independent_log_partition(rbm, base) + log_ratio
    )


def _forward(rbm, num_chains, num_betas, base_rate, seed, betas):
    """Chains of annealed importance sampling: → a₀, where they end, and their log-weights."""
    seed = fixed_seed("seed", seed)
    check_count("num_chains", num_chains, least=2)
    betas, base = checked_betas(num_betas, betas), base_biases(rbm, base_rate)
    start = independent_units(rbm, num_chains, base, uniform_stream(np.array([seed, 0])))
    return base, *annealed_chains(rbm, start, betas, base, seed)


def reverse_ais_log_partition(
    rbm: RBM,
    samples,
    num_betas: int = 10_000,
    base_rate=None,
    seed: int = 0,
    betas=None,
) -> PartitionEstimate:
    """Estimate log Z by annealing backwards, from the machine to independent pixels.

    The mean weight estimates Z₀ / Z, so `log_z` is too high on average *if* the chains start at
    exact samples of the machine; with `ais_log_partition` it then sandwiches log Z. Where the
    chains start matters the less the slower the annealing is.

    Args:
        rbm: the machine, tied.
        samples: states drawn from the machine, (chains, visible), such as ends of long chains.
        num_betas: as for `ais_log_partition`, like all that follow.
        base_rate: the same.
        seed: the same.
        betas: the same, rising from 0 to 1; they are passed through from 1 to 0.

    Raises: `ValueError` on an untied layer or for arguments out of range.
    Source: Burda, Grosse & Salakhutdinov (2015).
    """
    check_machine(rbm, "reverse_ais_log_partition")
    seed = fixed_seed("seed", seed)
    betas, base = checked_betas(num_betas, betas), base_biases(rbm, base_rate)
    start = ops.cast(rbm.checked_visible(samples, "samples"), "float32")
    check_count("number of chains in `samples`", start.shape[0], least=2)
    rbm.visible_units.check_states("samples", start)
    # Numbers of its own: errors that forward annealing shared would make the sandwich look narrow.
    log_weights = annealed_log_weights(rbm, start, betas[::-1], base, seed, first_draw=2**30)
    return _estimate(
        log_weights, lambda log_ratio: independent_log_partition(rbm, base) - log_ratio
    )


def salakhutdinov_murray_betas() -> np.ndarray:
    """The 14,500 inverse temperatures of Salakhutdinov & Murray (2008), dense near 1.

    500 evenly spaced in [0, 0.5], 4,000 in [0.5, 0.9] and 10,000 in [0.9, 1].
    """
    return np.concatenate(
        [
            np.linspace(0, 0.5, 500, endpoint=False),
            np.linspace(0.5, 0.9, 4_000, endpoint=False),
            np.linspace(0.9, 1, 10_000),
        ]
    )


def checked_betas(num_betas, betas=None) -> np.ndarray:
    """`betas`, or so many even ones, once they are known to rise from 0 to 1: (betas,) float64.

    Raises: `ValueError` for others, and fewer than two.
    """
    if betas is None:
        check_count("num_betas", num_betas, least=2)
        betas = np.linspace(0, 1, num_betas)
    betas = real_array("betas", betas).astype("float64")
    if betas.ndim != 1 or len(betas) < 2 or betas[0] != 0 or betas[-1] != 1:
        raise ValueError(f"`betas` must be a vector from 0 to 1. Received: {betas}")
    if not np.all(np.diff(betas) > 0):
        raise ValueError("`betas` must rise at every step. Received some that do not.")
    return betas


def base_biases(rbm: RBM, base_rate=None):
    """a₀ of the independent units at which annealing starts, (visible,), float32.

    Raises: `ValueError` for another shape than that of `vb` or values that are no means.
    """
    if base_rate is None:
        return ops.cast(rbm.vb, "float32")
    p = real_tensor("base_rate", base_rate, "float32")
    if tuple(p.shape) != tuple(rbm.vb.shape):
        shapes = tuple(rbm.vb.shape), tuple(p.shape)
        raise ValueError("`base_rate` must have shape {}. Received: {}".format(*shapes))
    return rbm.visible_units.logits(rbm.visible_units.checked(p[None], "base_rate")[0])


def annealed_log_weights(
    rbm: RBM, start, betas, base, seed: int, step=tempered_gibbs_step, first_draw: int = 0
):
    """Log-weights of chains that pass through the inverse temperatures `betas`: (chains,) float64.

    Args:
        rbm: the machine, tied.
        start: states at betas[0], (chains, visible) float32.
        betas: rising to 1 or falling to 0.
        base: biases of the independent units at β = 0, (visible,) float32.
        seed: fixes the random numbers.
        step: the transition that leaves p_β as it is; another one than a Gibbs step may be given,
            with the arguments of `tempered_gibbs_step`.
        first_draw: number that the draws are counted from; other numbers, other draws.
    """
    return annealed_chains(rbm, start, betas, base, seed, step, first_draw)[1]


def annealed_chains(
    rbm: RBM,
    start,
    betas,
    base,
    seed: int,
    step=tempered_gibbs_step,
    first_draw: int = 0,
    known=False,
):
    """The same chains, with where they end: → (chains, visible), and log-weights as above.

    Ends of weight w, annealed to β = 1, are weighted draws from the machine. Units that are
    `known`, booleans (chains, visible), stay as they start.
    """
    parameters = parameters_of(rbm)
    anneal = _annealer(rbm.visible_units, rbm.hidden_units, step)
    # JAX compiles for each length: make that a power of two.
    padded = np.pad(betas, (0, 2 ** (len(betas) - 1).bit_length() - len(betas)))
    with double_precision():
        draws, count = np.array([seed, first_draw]), np.array(len(betas), "int32")
        v, log_weights = anneal(start, padded, count, base, *parameters, draws, known)
        return np.asarray(v), np.asarray(log_weights)


@functools.lru_cache(maxsize=16)
def _annealer(visible_units, hidden_units, step):
    """The compiled loop over temperatures for these types of units."""

    @compiled
    def anneal(v, betas, count, base, w, hb, vb, first, known):
        def change_temperature(k, state):
            v, log_weights = state
            previous, beta = ops.cast(betas[k - 1], "float32"), ops.cast(betas[k], "float32")
            logits = affine(v, w, hb)  # shared by the weight and the Gibbs step
            log_ratio = tempered_log_ratio(hidden_units, v, logits, (base, vb), previous, beta)
            draw = first + ops.stack([ops.zeros_like(first[0]), ops.cast(k, first.dtype)])
            draws = uniform_stream(draw), uniform_stream(-draw)
            units, parameters = (visible_units, hidden_units), (w, hb, vb)
            v = ops.where(known, v, step(units, parameters, logits, beta, base, draws))
            return v, log_weights + ops.cast(log_ratio, "float64")

        start = v, ops.zeros(ops.shape(v)[0], "float64")
        return ops.fori_loop(1, count, change_temperature, start)

    return anneal


def independent_log_partition(rbm, base):
    """log Z₀ of the independent units at which annealing starts: biases `base`, hb = 0; nats."""
    inputs = (rbm.visible_units, base), (rbm.hidden_units, np.zeros(rbm.number_hidden_units))
    with double_precision():
        sites = [
            units.log_normalizer(ops.convert_to_tensor(np.asarray(biases, "float64")[None]))
            for units, biases in inputs
        ]
        return sum(float(ops.sum(log_z)) for log_z in sites)


def _estimate(log_weights, log_z_of):
    log_mean, error = log_mean_weight(log_weights)
    weights = np.exp(log_weights - log_weights.max())
    return PartitionEstimate(
        log_z=log_z_of(float(log_mean)),
        standard_error=float(error),
        effective_sample_size=float(weights.sum() ** 2 / (weights**2).sum()),
        log_weights=log_weights,
    )


def log_mean_weight(log_weights) -> tuple[np.ndarray, np.ndarray]:
    """log of the mean of e^log w over the last axis, and its standard error: (…,) nats each."""
    highest = log_weights.max(axis=-1, keepdims=True)
    weights = np.exp(log_weights - highest)
    mean, count = weights.mean(axis=-1), weights.shape[-1]
    error = weights.std(axis=-1, ddof=1) / mean / math.sqrt(count)
    return highest[..., 0] + np.log(mean), error


def annealed_draws(
    rbm: RBM,
    num_chains: int = 100,
    num_betas: int = 10_000,
    base_rate=None,
    seed: int = 0,
    betas=None,
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted draws from the machine: where the chains of `ais_log_partition` end, and log w.

    They come from everywhere, not from data. The arguments are those of `ais_log_partition`, and
    so are the chains. → (chains, visible) states, and (chains,) float64 nats.

    Raises: `ValueError` on an untied layer or for arguments out of range.
    Source: Neal (2001).
    """
    check_machine(rbm, "annealed_draws")
    return _forward(rbm, num_chains, num_betas, base_rate, seed, betas)[1:]


def conservative_log_likelihood(
    rbm: RBM, x, num_betas: int = 10_000, base_rate=None, seed: int = 0, betas=None
) -> np.ndarray:
    """-F(x) - log Z₀ + log w of each example, w from annealing x down: (batch,) float64 nats.

    e to the power of it is an unbiased estimate of the probability that forward annealing through
    these temperatures has come to x before its step at β = 1. The mean over examples is therefore,
    on average, a lower bound of the log-likelihood of that annealing, a model from which anybody
    can draw. It needs neither log Z nor samples of the machine, and what keeps annealing from the
    examples counts against it. It draws the numbers that `reverse_ais_log_partition` draws from the
    same seed: give the two different ones where they are to be independent.

    Args:
        rbm: the machine, tied.
        x: states of the visible units, (batch, visible), such as test images.
        num_betas: as for `ais_log_partition`, like all that follow.
        base_rate: the same.
        seed: the same.
        betas: the same, rising from 0 to 1.

    Raises: `ValueError` on an untied layer, for arguments out of range, and what are no states.
    Source: Burda, Grosse & Salakhutdinov (2015).
    """
    check_machine(rbm, "conservative_log_likelihood")
    seed = fixed_seed("seed", seed)
    betas, base = checked_betas(num_betas, betas), base_biases(rbm, base_rate)
    x = ops.cast(rbm.checked_visible(x, "x"), "float32")
    rbm.visible_units.check_states("x", x)
    log_weights = annealed_log_weights(rbm, x, betas[::-1], base, seed, first_draw=2**30)
    return (
        log_weights
        - np.asarray(rbm.free_energy(x), "float64")
        - independent_log_partition(rbm, base)
    )
