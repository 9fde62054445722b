"""Small machines, every state: the exact answers that estimates and samples are compared with.

Everything is computed in float64 and returned as NumPy arrays, energies and logarithms in nats, and
nothing draws. States are in the order of `layer_states`, in binary order for binary units.
"""

import itertools
import math

import numpy as np
from keras import ops

from rbm_tutorial.backend import double_precision
from rbm_tutorial.checks import (
    check_binary,
    check_built,
    check_machine,
    check_matrix,
    finite_array,
    finite_number,
    real_array,
)
from rbm_tutorial.rbm import RBM
from rbm_tutorial.units import check_units

MAX_STATES = 2**26  # so many states of 784 units take tens of minutes
CHUNK_ELEMENTS = 2**22  # float64 numbers held at a time: 32 MiB


def layer_states(units, number: int) -> np.ndarray:
    """Every state of a layer of `number` units of a type: (states, number).

    Raises: `ValueError` for units with infinitely many states, or more than memory may hold, and a
    number of them that there cannot be.
    """
    check_units("units", units)
    units.check_number(number)
    sites = _sites(units, number)
    if _log2_states(units, number) + math.log2(number) > math.log2(MAX_STATES):
        raise ValueError(
            "The states of a layer must have at most 2^26 numbers together: those of 21 binary "
            f"units. Received: {number} units"
        )
    return _product(sites)


def state_numbers(v) -> np.ndarray:
    """Which row of `data.all_states` each vector of bits is: (batch, units) → (batch,) integers.

    Raises: `ValueError` for what is no matrix of zeros and ones, or has more than 62 columns.
    """
    check_binary("v", v)
    v = real_array("v", v)
    check_matrix("v", v, None)
    if v.shape[1] > 62:
        raise ValueError(f"`v` must have at most 62 columns. Received: {v.shape[1]}")
    return v.astype("int64") @ 2 ** np.arange(v.shape[1])[::-1]


def exact_log_partition(rbm: RBM) -> float:
    """log Z = log Σ_h exp(hb·h + Σ_i softplus(vb + w_rec·h)_i), nats, summed over every state.

    The layer with fewer states is enumerated and the other one summed (or integrated) in closed
    form: log Z = log Σ_x m(x) exp(b·x + Σ log Z(x·w + c)). The cost is the number of those states,
    2^units of binary ones, times the size of the other layer; memory is bounded.

    Raises: `ValueError` on an untied layer, or if both layers have more than 2²⁶ states.
    """
    check_machine(rbm, "exact_log_partition")
    w, hb, vb = _parameters(rbm, "exact_log_partition")
    outer, inner = rbm.hidden_units, rbm.visible_units
    if _log2_states(inner, len(vb)) < _log2_states(outer, len(hb)):  # outer is to be enumerated
        outer, inner, w, hb, vb = inner, outer, w.T, vb, hb
    if _log2_states(outer, len(hb)) > math.log2(MAX_STATES):
        raise ValueError(
            "The smaller layer of `rbm` must have at most 2^26 states, 26 binary units, since they "
            f"are summed. Received: {len(hb)} units. Use `ais_log_partition`."
        )
    sites = _sites(outer, len(hb))
    held = _sites_held(sites, CHUNK_ELEMENTS / len(vb))
    within = _product(sites[:held])  # the states of a chunk; each chunk has its own other sites
    split = within.shape[1]
    logits, biases = within @ w.T[:split] + vb, within @ hb[:split]
    log_z = -np.inf
    with double_precision():
        for rest in itertools.product(*sites[held:]):
            state = np.concatenate([*rest, []])
            log_sums = _sum_of_sites(inner, logits + state @ w.T[split:]) + biases
            log_m = _log_measure(outer, np.hstack([within, np.tile(state, (len(within), 1))]))
            log_z = np.logaddexp(log_z, _logsumexp(log_sums + log_m) + state @ hb[split:])
    return float(log_z)


def state_probabilities(units, logits, states) -> np.ndarray:
    """p(x | l) = m(x) exp(x·l) / Z(l) of each row of inputs, (rows, units): → (rows, states).

    Raises: `ValueError` for inputs that are not finite, and `states` that such units cannot have.
    """
    check_units("units", units)
    logits, states = (
        finite_array(name, x).astype("float64")
        for name, x in [("logits", logits), ("states", states)]
    )
    check_matrix("logits", logits, None)
    check_matrix("states", states, logits.shape[1])
    units.check_number(logits.shape[1])
    units.check_states("states", states)
    with double_precision():
        log_z, log_m = _sum_of_sites(units, logits), _log_measure(units, states)
    return np.exp(logits @ states.T + log_m - log_z[:, None])


def conditional_tables(rbm: RBM, beta: float = 1.0, base=0.0) -> tuple[np.ndarray, np.ndarray]:
    """p(h | v), (visible states, hidden states), and p(v | h), of the machine at temperature 1/β.

    Below β = 1 the visible biases are (1 - β) base + β vb, as in annealing. An untied layer has
    such tables, too.

    Raises: `ValueError` for a `beta` that is no finite number, a `base` that is neither one nor a
    vector (visible,) of them, and more than 2²⁶ states of both layers together.
    """
    w, hb, vb = _parameters(rbm, "conditional_tables")
    log2 = _log2_states(rbm.visible_units, len(vb)) + _log2_states(rbm.hidden_units, len(hb))
    if math.log2(MAX_STATES) < log2 < math.inf:
        raise ValueError(
            "`rbm` must have at most 2^26 states (v, h), 26 binary units, since a table has a "
            f"number for each. Received: 2^{log2:.1f}"
        )
    beta, base = finite_number("beta", beta), finite_array("base", base).astype("float64")
    if base.shape not in ((), vb.shape):
        raise ValueError(f"`base` must have shape {vb.shape}. Received: {base.shape}")
    v, h = layer_states(rbm.visible_units, len(vb)), layer_states(rbm.hidden_units, len(hb))
    w_gen = np.asarray(rbm.w_gen, "float64")
    up = state_probabilities(rbm.hidden_units, beta * (v @ w + hb), h)
    visible_logits = beta * (h @ w_gen + vb) + (1 - beta) * base
    return up, state_probabilities(rbm.visible_units, visible_logits, v)


def transition_matrix(rbm: RBM, beta: float = 1.0, base=0.0) -> np.ndarray:
    """Σ_h p(h | v) p(v' | h), one Gibbs step v → h → v': (visible states, visible states).

    Raises: `ValueError` as `conditional_tables` does, and for more than 8,192 visible states.
    """
    vb = _parameters(rbm, "transition_matrix")[2]
    if 13 < (log2 := _log2_states(rbm.visible_units, len(vb))) < math.inf:
        raise ValueError(
            "`rbm` must have at most 2^13 visible states, 13 binary units, since the matrix has a "
            f"number for each two of them. Received: 2^{log2:.1f}"
        )
    h_given_v, v_given_h = conditional_tables(rbm, beta, base)
    return h_given_v @ v_given_h


def visible_probabilities(rbm: RBM) -> np.ndarray:
    """p(v) = m(v) exp(vb·v + Σ log Z(v·w + hb)) / Z of every visible state: (visible states,).

    Raises: `ValueError` on an untied layer.
    """
    check_machine(rbm, "visible_probabilities")
    w, hb, vb = _parameters(rbm, "visible_probabilities")
    v = layer_states(rbm.visible_units, len(vb))
    with double_precision():
        hidden = _sum_of_sites(rbm.hidden_units, v @ w + hb)
        log_p = v @ vb + _log_measure(rbm.visible_units, v) + hidden
    return np.exp(log_p - _logsumexp(log_p))


def statistics(rbm: RBM, p_v) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """⟨v h⟩, ⟨h⟩ and ⟨v⟩ in the order of w, hb, vb, of v ~ `p_v`, (visible states,), h ~ p(h | v).

    With `visible_probabilities` the negative phase of the exact gradient of log p, with the shares
    of the data its positive phase, with shares after k steps that of CD-k.

    Raises: `ValueError` for a `p_v` that does not hold a finite number for each visible state.
    """
    w, hb, vb = _parameters(rbm, "statistics")
    v, p_v = layer_states(rbm.visible_units, len(vb)), finite_array("p_v", p_v).astype("float64")
    if p_v.shape != (len(v),):
        raise ValueError(f"`p_v` must have shape ({len(v)},). Received: {p_v.shape}")
    with double_precision():
        h = np.asarray(rbm.hidden_units.mean(v @ w + hb))
    return v.T @ (p_v[:, None] * h), p_v @ h, p_v @ v


def _parameters(rbm, name):
    check_built(rbm, name)
    return [np.asarray(parameter, "float64") for parameter in (rbm.w_rec, rbm.hb, rbm.vb)]


def _sites(units, number):
    if units.unbounded:
        raise ValueError(f"Only finitely many states can be enumerated. Received: {units}")
    return units.sites(number)


def _log2_states(units, number):
    if units.unbounded:
        return math.inf
    return sum(math.log2(len(states)) for states in units.sites(number))


def _sites_held(sites, most_states):
    """How many of the first sites have no more states together than `most_states`."""
    counts = np.cumprod([float(len(states)) for states in sites])
    return int(np.searchsorted(counts, max(1, most_states), side="right"))


def _product(sites):
    """Every combination of the states of all sites, the last site changing fastest."""
    states = np.zeros((1, 0))
    for site in sites:
        before, now = np.repeat(states, len(site), axis=0), np.tile(site, (len(states), 1))
        states = np.concatenate([before, now], axis=1)
    return states


def _sum_of_sites(units, logits):
    """Σ log Z(l) over the sites: (rows,)."""
    return np.asarray(ops.sum(units.log_normalizer(ops.convert_to_tensor(logits)), axis=1))


def _log_measure(units, x):
    """log m(x) of each state: (states,), or () where it is 0."""
    return np.asarray(units.log_measure(ops.convert_to_tensor(x)))


def _logsumexp(x):
    return np.logaddexp.reduce(x)
