"""How probable data are under a trained machine: the partition function and what follows from it.

Chapter 3 derives the log-likelihood from the free energy. Everything is in nats.
"""

import math
from typing import NamedTuple

import numpy as np
from keras import ops

from rbm_tutorial.backend import compiled, compiled_draws, double_precision, uniform
from rbm_tutorial.data import all_states
from rbm_tutorial.labeled import LabeledRBM
from rbm_tutorial.rbm import RBM, check_count, checked_unit_interval

MAX_ENUMERATED_UNITS = 26  # 2²⁶ states of 784 units take tens of minutes
CHUNK_ELEMENTS = 2**22  # float64 numbers held at a time: 32 MiB


def _require_machine(rbm, name):
    rbm.require_tied(name)
    if not rbm.built:
        raise ValueError(f"`{name}` needs weights: call `build` first. Received an unbuilt RBM.")
    if isinstance(rbm, LabeledRBM):
        raise ValueError(f"`{name}` is about binary units, not labels. Received a LabeledRBM.")


def exact_log_partition(rbm: RBM) -> float:
    """log Z = log Σ_h exp(hb·h + Σ_i softplus(vb + w_rec·h)_i), nats, summed over every state.

    The smaller layer is enumerated, so the cost is 2^min(visible, hidden) times the size of the
    other; memory is bounded. Computed in float64. Draws nothing.

    Raises: `ValueError` on an untied layer, or if both layers have more than 26 units.
    """
    _require_machine(rbm, "exact_log_partition")
    w, inner, outer = (np.asarray(p, "float64") for p in (rbm.w_rec, rbm.vb, rbm.hb))
    if w.shape[0] < w.shape[1]:  # outer, which is enumerated, must be the smaller layer
        w, inner, outer = w.T, outer, inner
    units = w.shape[1]
    if units > MAX_ENUMERATED_UNITS:
        raise ValueError(
            f"The smaller layer of `rbm` must have at most {MAX_ENUMERATED_UNITS} units, since "
            f"2^units states are summed. Received: {units}. Use `ais_log_partition`."
        )
    low = min(units, int(math.log2(max(1, CHUNK_ELEMENTS / w.shape[0]))))
    within = all_states(low).astype("float64")  # the states of a chunk: (2^low, low)
    logits = within @ w[:, :low].T + inner  # (2^low, inner)
    biases = within @ outer[:low]
    with double_precision():
        return float(_log_sum_over_chunks(logits, biases, w[:, low:], outer[low:]))


@compiled
def _log_sum_over_chunks(logits, biases, w_high, outer_high):
    """The chunks share the low bits of the state; each has its own high bits."""
    high = ops.shape(outer_high)[0]
    bits = ops.arange(high)

    def add_chunk(chunk, total):
        state = ops.cast(ops.bitwise_and(ops.right_shift(chunk, bits), 1), "float64")
        inner = ops.sum(ops.softplus(logits + ops.matmul(w_high, state)), axis=1)
        log_sum = ops.logsumexp(inner + biases) + ops.dot(outer_high, state)
        return ops.logsumexp(ops.stack([total, log_sum]))  # Keras' logaddexp is float32 on JAX

    chunks = ops.left_shift(1, high)
    return ops.fori_loop(0, chunks, add_chunk, ops.convert_to_tensor(-np.inf, "float64"))


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
    Each chain's weight is Π_k p*_{β_k}(v_{k-1}) / p*_{β_{k-1}}(v_{k-1}), v_k one Gibbs step at β_k
    from v_{k-1}. The mean weight is an unbiased estimate of Z / Z₀, so `log_z` is too low on
    average, and a likelihood computed from it too high: too few temperatures flatter the model.

    Args:
        rbm: the machine, tied.
        num_chains: number of independent chains.
        num_betas: number of inverse temperatures, evenly spaced from 0 to 1.
        base_rate: probabilities of the pixels, (visible,), clipped to [0.001, 0.999]; such as the
            mean of the training data, which is better than σ(vb), taken if `None`, when
            temperatures are few.
        seed: fixes the random numbers.
        betas: inverse temperatures that rise from 0 to 1, instead of `num_betas` even ones; such
            as `salakhutdinov_murray_betas()`.

    Raises: `ValueError` on an untied layer or for arguments out of range.
    Source: Neal (2001); Salakhutdinov & Murray (2008), section 4.
    """
    _require_machine(rbm, "ais_log_partition")
    check_count("num_chains", num_chains)
    if num_chains < 2:
        raise ValueError(f"`num_chains` must be at least 2. Received: {num_chains}")
    betas, a0 = _checked_betas(num_betas, betas), _base_biases(rbm, base_rate)
    start = _bernoulli(ops.tile(a0[None], (num_chains, 1)), np.array([seed, 0]))
    log_weights = _anneal(rbm, start, betas, a0, seed)
    return _estimate(log_weights, lambda log_ratio: _log_z0(rbm, a0) + log_ratio)


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
    chains start matters the less the slower the annealing is: chapter 8.

    Args:
        rbm: the machine, tied.
        samples: binary samples of the machine, (chains, visible), such as ends of long chains.
        num_betas: as for `ais_log_partition`, like all that follow.
        base_rate: the same.
        seed: the same.
        betas: the same, rising from 0 to 1; they are passed through from 1 to 0.

    Raises: `ValueError` on an untied layer or for arguments out of range.
    Source: Burda, Grosse & Salakhutdinov (2015).
    """
    _require_machine(rbm, "reverse_ais_log_partition")
    betas, a0 = _checked_betas(num_betas, betas), _base_biases(rbm, base_rate)
    start = ops.convert_to_tensor(samples, dtype="float32")
    if len(start.shape) != 2 or start.shape[0] < 2 or start.shape[1] != rbm.number_visible_units:
        raise ValueError(
            f"`samples` must have shape (chains, {rbm.number_visible_units}), with at least 2 "
            f"chains. Received: {tuple(start.shape)}"
        )
    _require_binary("samples", start)
    log_weights = _anneal(rbm, start, betas[::-1], a0, seed)
    return _estimate(log_weights, lambda log_ratio: _log_z0(rbm, a0) - log_ratio)


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


def _checked_betas(num_betas, betas):
    if betas is None:
        check_count("num_betas", num_betas)
        if num_betas < 2:
            raise ValueError(f"`num_betas` must be at least 2. Received: {num_betas}")
        betas = np.linspace(0, 1, num_betas)
    betas = np.asarray(betas, dtype="float64")
    if betas.ndim != 1 or len(betas) < 2 or betas[0] != 0 or betas[-1] != 1:
        raise ValueError(f"`betas` must be a vector from 0 to 1. Received: {betas}")
    if not np.all(np.diff(betas) > 0):
        raise ValueError("`betas` must rise at every step. Received some that do not.")
    return betas


def _base_biases(rbm, base_rate):
    """a₀ of the independent pixels at which annealing starts: (visible,)."""
    if base_rate is None:
        return ops.cast(rbm.vb, "float32")
    p = checked_unit_interval(ops.convert_to_tensor(base_rate, dtype="float32"))
    if p.shape != rbm.vb.shape:
        raise ValueError(f"`base_rate` must have shape {rbm.vb.shape}. Received: {p.shape}")
    p = ops.clip(p, 0.001, 0.999)
    return ops.log(p) - ops.log1p(-p)


def _log_z0(rbm, a0):
    log_z_visible = np.logaddexp(0, np.asarray(a0, "float64")).sum()
    return float(log_z_visible) + rbm.number_hidden_units * math.log(2)


def _anneal(rbm, start, betas, a0, seed):
    """Log-weights, (chains,) float64, of chains that pass from betas[0] to betas[-1]."""
    parameters = (ops.cast(p, "float32") for p in (rbm.w_rec, rbm.vb, rbm.hb))
    with double_precision():
        return np.asarray(_annealed_log_weights(start, betas, a0, *parameters, np.array(seed)))


@compiled
def _annealed_log_weights(v, betas, a0, w, vb, hb, seed):
    def step(k, state):
        v, log_weights = state
        previous, beta = ops.cast(betas[k - 1], "float32"), ops.cast(betas[k], "float32")
        logits = ops.matmul(v, w) + hb  # shared by the weight and the Gibbs step
        hidden = ops.softplus(beta * logits) - ops.softplus(previous * logits)
        log_ratio = (beta - previous) * ops.matmul(v, vb - a0) + ops.sum(hidden, axis=1)
        draw = ops.stack([seed, ops.cast(k, seed.dtype)])
        v = _tempered_gibbs_step(logits, beta, a0, w, vb, draw)
        return v, log_weights + ops.cast(log_ratio, "float64")

    start = v, ops.zeros(ops.shape(v)[0], "float64")
    return ops.fori_loop(1, ops.shape(betas)[0], step, start)[1]


def _tempered_gibbs_step(hidden_logits, beta, a0, w, vb, seed):
    """Draw h and then v at inverse temperature β; the hidden logits are those of β = 1."""
    h = _bernoulli(beta * hidden_logits, seed)
    visible_logits = ops.matmul(h, ops.transpose(w)) + vb
    return _bernoulli(beta * visible_logits + (1 - beta) * a0, -seed)


def _bernoulli(logits, seed):
    return ops.cast(uniform(ops.shape(logits), seed) < ops.sigmoid(logits), "float32")


def _estimate(log_weights, log_z_of):
    log_weights = np.asarray(log_weights)
    weights = np.exp(log_weights - log_weights.max())
    return PartitionEstimate(
        log_z=log_z_of(float(log_weights.max() + np.log(weights.mean()))),
        standard_error=float(weights.std(ddof=1) / weights.mean() / math.sqrt(len(weights))),
        effective_sample_size=float(weights.sum() ** 2 / (weights**2).sum()),
        log_weights=log_weights,
    )


def _require_binary(name, x):
    if not np.isin(x, (0, 1)).all():
        raise ValueError(
            f"`{name}` must be binary: call `binarize`. Received values from {ops.min(x):g} to "
            f"{ops.max(x):g}, not only 0 and 1."
        )


def log_likelihood(rbm: RBM, x, log_z: float):
    """log p(x) = -F(x) - log Z of each example: (batch, visible) in [0, 1] → (batch,) nats.

    `log_z` is the log partition function, as from `exact_log_partition`. For binary `x` this is a
    log-probability; for grey pixels it is only -F(x) - log Z. Draws nothing.

    Raises: `ValueError` on an untied layer, for wrong shapes or values outside [0, 1].
    """
    return -rbm.free_energy(checked_unit_interval(ops.convert_to_tensor(x))) - log_z


def pseudo_log_likelihood(rbm: RBM, x, seed: int | None = None):
    """Σ_i log p(x_i | all other x) of each example: (batch, visible) in {0, 1} → (batch,) nats.

    p(x_i | others) = σ(F(x with bit i flipped) - F(x)) needs no partition function. Exact over all
    bits if `seed` is `None`, at the cost of `visible` free energies an example. With a seed, the
    unbiased estimate visible · log p(x_i | others) from one bit i, drawn anew for each example.

    Raises: `ValueError` on an untied layer, for wrong shapes or values that are not 0 or 1.
    Source: Besag (1975).
    """
    _require_machine(rbm, "pseudo_log_likelihood")
    x = ops.convert_to_tensor(x, dtype="float32")
    free_energy = rbm.free_energy(x)  # refuses wrong shapes
    _require_binary("x", x)
    if seed is None:
        parameters = (ops.cast(p, "float32") for p in (rbm.w_rec, rbm.hb, rbm.vb))
        return _pseudo_log_likelihood_of_all_bits(x, *parameters)
    bits = np.random.default_rng(seed).integers(x.shape[1], size=x.shape[0])
    flipped = np.where(np.arange(x.shape[1]) == bits[:, None], 1 - x, x)
    return x.shape[1] * ops.log_sigmoid(rbm.free_energy(flipped) - free_energy)


@compiled
def _pseudo_log_likelihood_of_all_bits(x, w, hb, vb):
    logits = ops.matmul(x, w) + hb
    softplus = ops.sum(ops.softplus(logits), axis=1)

    def add_bit(i, total):
        change = 1 - 2 * x[:, i]  # flipping one bit adds a multiple of one row of w
        flipped = ops.softplus(logits + change[:, None] * w[i])
        rise = softplus - ops.sum(flipped, axis=1) - change * vb[i]  # of the free energy
        return total + ops.log_sigmoid(rise)

    return ops.fori_loop(0, ops.shape(x)[1], add_bit, ops.zeros_like(softplus))


class ChainDiagnostics(NamedTuple):
    """How well parallel Gibbs chains mix, judged by their free energies.

    Attributes:
        free_energies: (steps, chains), nats.
        effective_sample_size: number of independent draws that the chains together are worth.
        potential_scale_reduction: R̂, near 1 when the chains agree with each other.
    """

    free_energies: np.ndarray
    effective_sample_size: float
    potential_scale_reduction: float


def chain_diagnostics(rbm: RBM, v, steps: int = 1000) -> ChainDiagnostics:
    """Run Gibbs chains from `v`, (chains, visible), and judge them by TFP's diagnostics.

    At least two chains are needed, and for R̂ to mean something they should start far apart. Draws
    from the layer's generator.

    Raises: `ValueError` on an untied layer, for wrong shapes, values outside [0, 1], or fewer than
    2 chains or 4 steps.
    Source: Gelman & Rubin (1992); Vats & Knudson (2021).
    """
    import tensorflow_probability.substrates.numpy as tfp

    _require_machine(rbm, "chain_diagnostics")
    check_count("steps", steps)
    v = checked_unit_interval(ops.convert_to_tensor(v, dtype=rbm.vb.dtype))
    if v.shape[0] < 2 or steps < 4:
        raise ValueError(
            "`v` must hold at least 2 chains and `steps` be at least 4. "
            f"Received: {v.shape[0]} and {steps}"
        )

    def step_and_energy(v):
        v = rbm.forward_gibbs(v, steps=1)
        return v, rbm.free_energy(v)

    gibbs_step = compiled_draws(rbm, step_and_energy)
    free_energies = np.empty((steps, v.shape[0]), "float32")
    for step in range(steps):
        v, free_energies[step] = gibbs_step(v)
    with np.errstate(divide="ignore", invalid="ignore"):  # chains that never move: NaN
        size = tfp.mcmc.effective_sample_size(free_energies, cross_chain_dims=1)
        reduction = tfp.mcmc.potential_scale_reduction(free_energies, split_chains=True)
    return ChainDiagnostics(free_energies, float(size), float(reduction))
