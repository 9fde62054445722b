"""Gibbs sampling: long chains in a compiled step, one step at any temperature, clamped chains.

The chapter on visualization looks at chains, that on estimating Z anneals along the temperatures.
"""

import math

import numpy as np
from keras import ops

from rbm_tutorial.backend import compiled_draws
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
    visible_logits = ops.matmul(h, ops.transpose(w)) + vb
    return visible.sample(beta * visible_logits + (1 - beta) * base, uniform_v)


def gibbs_step(rbm, v):
    """Draw h ~ p(h | v) and then v ~ p(v | h): (chains, visible), known to be states or means."""
    h = rbm.hidden_units.sample(rbm.hidden_logits(v), rbm.uniform)
    return rbm.visible_units.sample(rbm.visible_logits(h), rbm.uniform)


def independent_units(rbm, number: int):
    """Draw visible units from their biases alone, as if all h were 0: (number, visible)."""
    logits = ops.tile(rbm.vb.value[None], (number, 1))
    return rbm.visible_units.sample(logits, rbm.uniform)


def run_chains(rbm, v, steps: int, step=None, observe=None):
    """Run Gibbs chains from `v`, (chains, visible), and return where they are after `steps`.

    Args:
        rbm: the layer that draws.
        v: where the chains start, (chains, visible).
        steps: how often v → h → v.
        step: another step v → v than `gibbs_step`, of visible or hidden states; it draws from `rbm`
            alone.
        observe: a function of v; what it returns after each step is stacked.

    Returns: v, (chains, visible); with `observe` also a NumPy array (steps, …).
    Raises: `ValueError` for fewer than one step, and as the layer does.
    """
    check_built(rbm, "run_chains")
    check_count("steps", steps)
    if step is None:
        step, v = lambda v: gibbs_step(rbm, v), rbm.checked_visible(v)
    else:
        v = real_tensor("v", v, rbm.vb.dtype)
        check_matrix("v", v, None)

    def step_and_look(v):
        v = step(v)
        return v, () if observe is None else observe(v)

    compiled_step, seen = compiled_draws(rbm, step_and_look), []
    for _ in range(steps):
        v, value = compiled_step(v)
        if observe is not None:
            seen.append(np.asarray(value))
    return v if observe is None else (v, np.stack(seen))


def inpaint(rbm, v, known, steps: int):
    """Draw the unknown units given the known ones: Gibbs chains in which those stay as they are.

    Args:
        rbm: the layer that draws.
        v: where the chains start, (chains, visible), right where `known` is true.
        known: booleans, (visible,) or (chains, visible).
        steps: Gibbs steps.

    Returns: v, (chains, visible); after many steps a draw from p(v_unknown | v_known).
    """
    check_built(rbm, "inpaint")
    v = rbm.checked_visible(v)
    known = real_array("known", known)
    check_binary("known", known)
    if known.shape not in (tuple(v.shape), tuple(v.shape[1:])):
        raise ValueError(
            f"`known` must have shape {tuple(v.shape)}, or {tuple(v.shape[1:])} for all chains. "
            f"Received: {known.shape}"
        )
    known = known.astype(bool)
    return run_chains(rbm, v, steps, lambda v: ops.where(known, v, gibbs_step(rbm, v)))


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
    v = rbm.checked_visible(noisy, "noisy")
    evidence = (2 * v - 1) * math.log((1 - flip_rate) / flip_rate)
    units = rbm.visible_units

    def step(v):
        h = rbm.hidden_units.sample(rbm.hidden_logits(v), rbm.uniform)
        logits = rbm.visible_logits(h) + evidence
        return units.sample(logits, rbm.uniform), units.mean(logits)

    compiled_step, total = compiled_draws(rbm, step), 0
    for number in range(steps):
        v, p = compiled_step(v)
        total = total + p if number >= burn_in else total
    return total / (steps - burn_in)
