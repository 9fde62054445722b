"""Gibbs sampling: long chains in a compiled step, one step at any temperature, clamped chains.

The chapter on visualization looks at chains, that on estimating Z anneals along the temperatures.
"""

import functools
import math

import numpy as np
from keras import ops

from rbm_tutorial.backend import affine, compiled_draws, compiled_once
from rbm_tutorial.checks import (
    check_binary,
    check_built,
    check_count,
    check_matrix,
    finite_number,
    real_array,
    real_tensor,
)
from rbm_tutorial.units import Bernoulli


def parameters_of(rbm):
    """w, hb, vb in single precision, as steps at any temperature take them."""
    return [ops.cast(parameter, "float32") for parameter in (rbm.w_rec, rbm.hb, rbm.vb)]


def tempered_gibbs_step(units, parameters, hidden_logits, beta, base, draws):
    """Draw h and then v at inverse temperature β: the logits of h at β = 1 → v, (chains, visible).

    The tempered machine is p_β(v, h) ∝ m(v) m(h) exp[((1 - β) a₀ + β vb)·v + β (hb·h + v·w·h)]:
    independent units of biases a₀ at β = 0, the machine itself at β = 1.

    Args:
        units: the types of visible and of hidden units.
        parameters: w, hb, vb.
        hidden_logits: v·w + hb of the states v that the step starts from, (chains, hidden).
        beta: inverse temperature, a scalar or (chains, 1).
        base: a₀, (visible,).
        draws: two functions shape → uniform numbers, for h and for v.
    """
    (visible, hidden), (w, _, vb), (uniform_h, uniform_v) = units, parameters, draws
    h = hidden.sample(beta * hidden_logits, uniform_h)
    logits = affine(h, ops.transpose(w), vb)
    return visible.sample(beta * logits + (1 - beta) * base, uniform_v)


def tempered_log_ratio(hidden_units, v, logits, biases, beta, new_beta):
    """log p*_new(v) / p*_β(v), of the unnormalized tempered machine: (chains,) nats.

    p*_β(v) = m(v) exp[((1 - β) a₀ + β vb)·v] Π_j Z(β z_j) with z = v·w + hb.

    Args:
        hidden_units: their type.
        v: states, (chains, visible).
        logits: z, (chains, hidden).
        biases: a₀ and vb, (visible,) each.
        beta: inverse temperature in the denominator, a scalar or (chains, 1).
        new_beta: that in the numerator.
    """
    base, vb = biases
    new, old = (hidden_units.log_normalizer(b * logits) for b in (new_beta, beta))
    # Site by site: the difference of two sums would lose digits.
    change = ops.reshape(new_beta - beta, (-1,))
    return change * ops.matmul(v, vb - base) + ops.sum(new - old, axis=1)


def log_ratio(hidden_units, v, logits, vbs):
    """log p*_new(v) / p*_old(v) of two machines, unnormalized: (chains,) nats.

    (vb_new - vb_old)·v + Σ_j [log Z(z_new) - log Z(z_old)]_j with z = v·w + hb.

    Args:
        hidden_units: their type.
        v: states, (chains, visible).
        logits: z of the new machine and of the old one, (chains, hidden) each.
        vbs: vb of the new machine and of the old one, (visible,) each.
    """
    # Site by site: the difference of two free energies would lose digits.
    new, old = (hidden_units.log_normalizer(z) for z in logits)
    return ops.matmul(v, vbs[0] - vbs[1]) + ops.sum(new - old, axis=1)


def gibbs_step(rbm, v, hidden_logits=None):
    """Draw h ~ p(h | v) and then v ~ p(v | h): (chains, visible), known to be states or means.

    `hidden_logits`, (chains, hidden), are what h receives from v, if they are known already.
    """
    logits = rbm.hidden_logits(v) if hidden_logits is None else hidden_logits
    h = rbm.hidden_units.sample(logits, rbm.uniform)
    return rbm.visible_units.sample(rbm.visible_logits(h), rbm.uniform)


def clamped_step(rbm, v, known):
    """A Gibbs step of the units that are not `known`, booleans (chains, visible); those stay."""
    return ops.where(known, v, gibbs_step(rbm, v))


def independent_units(rbm, number: int, biases=None, uniform=None):
    """Draw visible units from biases alone, as if all h were 0: (number, visible).

    From vb, by the layer's generator, unless `biases`, (visible,), or a function shape → `uniform`
    numbers are given.
    """
    biases = rbm.vb.value if biases is None else biases
    return rbm.visible_units.sample(ops.tile(biases[None], (number, 1)), uniform or rbm.uniform)


def run_chains(rbm, v, steps: int, step=None, observe=None):
    """Run Gibbs chains from `v`, (chains, visible), and return where they are after `steps`.

    A step is compiled once for a layer and its types of units; with a `step` or a function
    `observe` of one's own, which may depend on anything, at each call.

    Args:
        rbm: the layer that draws.
        v: where the chains start, (chains, visible).
        steps: how often v → h → v.
        step: another step v → v than `gibbs_step`, of visible or hidden states; it draws from `rbm`
            alone.
        observe: a function of v, such as a method of `rbm`; what it returns after each step is
            stacked.

    Returns: v, (chains, visible); with `observe` also a NumPy array (steps, …).
    Raises: `ValueError` for fewer than one step, and as the layer does.
    """
    check_built(rbm, "run_chains")
    check_count("steps", steps)
    if step is None:
        v = rbm.checked_visible(v)
    else:
        v = real_tensor("v", v, rbm.vb.dtype)
        check_matrix("v", v, None)
    if step is None and (observe is None or getattr(observe, "__self__", None) is rbm):
        one_step = _compiled(rbm, _step_and_look, getattr(observe, "__func__", None))
    else:

        def step_and_look(v):
            v = gibbs_step(rbm, v) if step is None else step(v)
            return v, () if observe is None else observe(v)

        one_step = compiled_draws(rbm, step_and_look)
    seen = []
    for _ in range(steps):
        v, value = one_step(v)
        if observe is not None:
            seen.append(np.asarray(value))
    return v if observe is None else (v, np.stack(seen))


def checked_known(known, shape: tuple[int, int]) -> np.ndarray:
    """`known` as booleans of this shape, once it is known to hold 0 and 1, for one row or each."""
    known = real_array("known", known)
    check_binary("known", known)
    if known.shape not in (shape, shape[1:]):
        raise ValueError(
            f"`known` must have shape {shape}, or {shape[1:]} for all rows. Received: {known.shape}"
        )
    return np.broadcast_to(known.astype(bool), shape)


@functools.lru_cache(maxsize=8)
def site_members(units, width: int):
    """Which of so many units make up which site: (units, sites) of 0 and 1.

    `None` if each unit is a site.
    """
    if units.log_normalizer(ops.zeros((1, width))).shape[1] == width:
        return None
    alone = ops.convert_to_tensor(100 * np.eye(width + 1, width, dtype="float32"))  # and none, last
    log_z = np.asarray(units.log_normalizer(alone))
    return np.float32(abs(log_z[:-1] - log_z[-1:]) > 1)  # more than what rounding can do


def known_sites(units, known, name: str = "known") -> np.ndarray:
    """Which sites are known, (rows, sites), if `known`, (rows, visible), says it of the units.

    Raises: `ValueError` about `name` for groups, of which one unit is on, that are known in part.
    """
    member = site_members(units, known.shape[1])
    if member is None:
        return known
    number, size = known @ member, member.sum(axis=0)
    if np.any((number > 0) & (number < size)):
        raise ValueError(
            f"`{name}` must hold all units of a group of which one is on, or none. "
            "Received groups that are known in part."
        )
    return number == size


def inpaint(rbm, v, known, steps: int):
    """Draw the unknown units given the known ones: Gibbs chains in which those stay as they are.

    Args:
        rbm: the layer that draws.
        v: where the chains start, (chains, visible), with the right values where `known` is true.
        known: booleans, (visible,) or (chains, visible).
        steps: Gibbs steps.

    Returns: v, (chains, visible); after many steps a draw from p(v_unknown | v_known).
    Raises: `ValueError` for a `known` of another shape or other values, groups of units of which
    one is on that are known in part, and as `run_chains`.
    """
    check_built(rbm, "inpaint")
    check_count("steps", steps)
    v = rbm.checked_visible(v)
    one_step, known = _compiled(rbm, clamped_step), checked_known(known, tuple(v.shape))
    known_sites(rbm.visible_units, known)
    for _ in range(steps):
        v = one_step(v, known)
    return v


def denoise(rbm, noisy, flip_rate: float, steps: int = 100, burn_in: int = 20):
    """Average p(v=1 | h, noisy) over Gibbs chains of the clean image given a noisy one.

    Each bit of `noisy`, (batch, visible) in {0, 1}, was flipped with probability `flip_rate`. That
    adds (2 noisy - 1) log[(1 - r) / r] to the inputs of the visible units. The first `burn_in` of
    `steps` are left out of the mean. → (batch, visible). Draws from the layer.

    Raises: `ValueError` for arguments out of range, and for other than binary visible units.
    """
    check_built(rbm, "denoise")
    check_count("steps", steps)
    check_count("burn_in", burn_in, least=0)
    flip_rate = finite_number("flip_rate", flip_rate)
    if not isinstance(rbm.visible_units, Bernoulli):
        raise ValueError(f"The visible units must be binary. Received: {rbm.visible_units}")
    if not 0 < flip_rate < 1 or burn_in >= steps:
        raise ValueError(
            "`flip_rate` must lie between 0 and 1, and `burn_in` below `steps`. "
            f"Received: {flip_rate}, {burn_in} and {steps}"
        )
    check_binary("noisy", noisy)
    v = rbm.checked_visible(noisy, "noisy")
    evidence = (2 * v - 1) * math.log((1 - flip_rate) / flip_rate)
    one_step, total = _compiled(rbm, _step_given_evidence), 0
    for number in range(steps):
        v, p = one_step(v, evidence)
        total = total + p if number >= burn_in else total
    return total / (steps - burn_in)


def _compiled(rbm, function, *settings):
    """`function(rbm, *settings, *tensors)`, compiled once for the layer and its types of units."""
    key = function, *settings, rbm.visible_units, rbm.hidden_units
    return compiled_once(rbm, key, functools.partial(function, rbm, *settings))


def _step_and_look(rbm, observe, v):
    v = gibbs_step(rbm, v)
    return v, () if observe is None else observe(rbm, v)


def _step_given_evidence(rbm, v, evidence):
    """A step in which `evidence` is added to the inputs of v, and the means of v with it."""
    h = rbm.hidden_units.sample(rbm.hidden_logits(v), rbm.uniform)
    logits = rbm.visible_logits(h) + evidence
    return rbm.visible_units.sample(logits, rbm.uniform), rbm.visible_units.mean(logits)
