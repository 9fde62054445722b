"""How probable data are under a trained machine, and how well its Gibbs chains mix.

The chapter on free energy derives the log-likelihood. Everything is in nats. The partition function
comes from `exact`, for small machines, or from `annealing`; import them from here, too.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np
from keras import ops

from rbm_tutorial.annealing import (
    PartitionEstimate,
    ais_log_partition,
    annealed_draws,
    conservative_log_likelihood,
    reverse_ais_log_partition,
    salakhutdinov_murray_betas,
)
from rbm_tutorial.backend import affine, compiled
from rbm_tutorial.checks import check_count, check_machine, check_seed, finite_number
from rbm_tutorial.draws import potential_scale_reduction
from rbm_tutorial.exact import exact_log_partition
from rbm_tutorial.rbm import RBM
from rbm_tutorial.sampling import parameters_of, run_chains

BLOCK = 1024  # rows for which pseudo-likelihoods are computed at a time

__all__ = [
    "ChainDiagnostics",
    "PartitionEstimate",
    "ais_log_partition",
    "annealed_draws",
    "chain_diagnostics",
    "conservative_log_likelihood",
    "exact_log_partition",
    "log_likelihood",
    "pseudo_log_likelihood",
    "reverse_ais_log_partition",
    "salakhutdinov_murray_betas",
]


def log_likelihood(rbm: RBM, x, log_z: float):
    """log p(x) = -F(x) - log Z of each example: (batch, visible) in [0, 1] → (batch,) nats.

    `log_z` is the log partition function, as from `exact_log_partition`, or the `log_z` of a
    `PartitionEstimate`. For states `x` this is a log-probability (of Gaussian units a density); for
    gray pixels it is only -F(x) - log Z. Draws nothing.

    Raises: `ValueError` on an untied layer, for wrong shapes, values outside [0, 1] or a `log_z`
    that is no finite number.
    """
    check_machine(rbm, "log_likelihood")
    log_z = finite_number("log_z", log_z)
    x = rbm.checked_visible(x, "x")
    return -rbm.free_energy(x) - log_z


def pseudo_log_likelihood(rbm: RBM, x, seed: int | None = None):
    """Σ_i log p(x_i | all other x) of each example: (batch, visible) in {0, 1} → (batch,) nats.

    p(x_i | others) = σ(F(x with bit i flipped) - F(x)) needs no partition function; of a group of
    units of which one is on it is a softmax of -F over which one. Exact over all sites if `seed` is
    `None`, at the cost of `visible` free energies an example. With a seed, the unbiased estimate
    sites · log p(x_i | others) from one site i, drawn anew for each example.

    Raises: `ValueError` on an untied layer, for visible units that have infinitely many states,
    wrong shapes or values that are no states.
    Source: Besag (1975).
    """
    check_machine(rbm, "pseudo_log_likelihood")
    check_seed("seed", seed)
    units, number = rbm.visible_units, rbm.number_visible_units
    if units.unbounded:
        raise ValueError(
            "`pseudo_log_likelihood` sums over the states of each visible unit, which must be "
            f"finitely many. Received: {units}"
        )
    x = np.asarray(rbm.checked_visible(x, "x"), "float32")
    units.check_states("x", x)
    if seed is not None:
        return _pseudo_likelihood_of_one_site(rbm, x, np.random.default_rng(seed))
    parameters = parameters_of(rbm)
    total = np.zeros(len(x), "float32")
    for starts, states in _runs_of_equal_sites(units.sites(number)):
        sum_over_sites = _sum_over_sites(units, rbm.hidden_units, tuple(map(tuple, states)))
        total += _in_blocks(functools.partial(sum_over_sites, starts, *parameters), x)
    return ops.convert_to_tensor(total)


def _in_blocks(function, x):
    """`function(x)`, (rows, visible) → (rows,), for at most `BLOCK` rows at a time.

    What is missing to a power of two is filled up, since JAX compiles for each number of rows.
    """
    results = [np.zeros(0, "float32")]
    for first in range(0, len(x), BLOCK):
        rows = x[first : first + BLOCK]
        missing = 2 ** (len(rows) - 1).bit_length() - len(rows)
        padded = np.pad(rows, ((0, missing), (0, 0)), mode="edge")
        results.append(np.asarray(function(padded))[: len(rows)])
    return np.concatenate(results)


def _runs_of_equal_sites(sites):
    """Runs of sites with the same states: where each site starts, (sites,), and those states."""
    runs, start = [], 0
    for _, run in itertools.groupby(sites, key=lambda states: states.tobytes()):
        run = list(run)
        width = run[0].shape[1]
        runs.append((np.int32(start + width * np.arange(len(run))), run[0]))
        start += width * len(run)
    return runs


def _log_share(rises):
    """log p(x_i | others) from F(other state) - F(x) of each other state of the site."""
    return ops.log_sigmoid(-ops.logsumexp(-ops.stack(rises), axis=0))


@functools.lru_cache(maxsize=16)
def _sum_over_sites(visible_units, hidden_units, states):
    """The compiled sum of log p(x_i | others) over sites that have these states."""
    states = np.float32(states)
    count, width = states.shape

    @compiled
    def sum_over_sites(starts, w, hb, vb, x):
        logits = affine(x, w, hb)
        unchanged = ops.sum(hidden_units.log_normalizer(logits), axis=1)
        measure = visible_units.log_measure(x)

        def add_site(i, total):
            columns = starts[i] + ops.arange(width)
            site, rows = ops.take(x, columns, axis=1), ops.take(w, columns, axis=0)
            rises = []
            for k in range(1, count):
                other = _next_state(site, states, k)
                change = other - site
                moved = hidden_units.log_normalizer(logits + ops.matmul(change, rows))
                biases = ops.matmul(change, ops.take(vb, columns, axis=0))
                log_m = visible_units.log_measure(ops.slice_update(x, (0, starts[i]), other))
                rises.append(unchanged - ops.sum(moved, axis=1) - biases - (log_m - measure))
            return total + _log_share(rises)

        return ops.fori_loop(0, ops.shape(starts)[0], add_site, ops.zeros_like(unchanged))

    return sum_over_sites


def _next_state(site, states, k):
    """The state k places further in the list of a site's states, (batch, width), cyclically."""
    place = ops.argmax(ops.all(ops.equal(site[:, None], states), axis=2), axis=1)
    return ops.take(states, (place + k) % len(states), axis=0)


def _pseudo_likelihood_of_one_site(rbm, x, rng):
    sites = rbm.visible_units.sites(rbm.number_visible_units)
    chosen = rng.integers(len(sites), size=len(x))
    total, first, unchanged = np.zeros(len(x), "float32"), 0, _in_blocks(rbm.free_energy, x)
    for starts, states in _runs_of_equal_sites(sites):
        rows = np.flatnonzero((chosen >= first) & (chosen < first + len(starts)))
        columns = starts[chosen[rows] - first][:, None] + np.arange(states.shape[1])
        first += len(starts)
        if len(rows) == 0:
            continue
        site, rises = x[rows[:, None], columns], []
        for k in range(1, len(states)):
            other = x[rows]
            other[np.arange(len(rows))[:, None], columns] = _next_state(site, states, k)
            rises.append(_in_blocks(rbm.free_energy, other) - unchanged[rows])
        total[rows] = len(sites) * np.asarray(_log_share(rises))
    return ops.convert_to_tensor(total)


class ChainDiagnostics(NamedTuple):
    """How well parallel Gibbs chains mix, judged by their free energies.

    Attributes:
        free_energies: (steps, chains), nats.
        effective_sample_size: number of independent draws that the chains together are worth.
        potential_scale_reduction: R̂, near 1 when the chains agree with each other: the root of the
            ratio of the variance of all chains together to that within them.
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

    check_machine(rbm, "chain_diagnostics")
    check_count("steps", steps, least=4)
    v = rbm.checked_visible(v)
    check_count("number of chains in `v`", v.shape[0], least=2)
    _, free_energies = run_chains(rbm, v, steps, observe=rbm.free_energy)
    free_energies = free_energies.astype("float32")
    with np.errstate(divide="ignore", invalid="ignore"):  # chains that never move: NaN
        size = tfp.mcmc.effective_sample_size(free_energies, cross_chain_dims=1)
    ratio = potential_scale_reduction(free_energies)
    return ChainDiagnostics(free_energies, float(size), float(ratio))
