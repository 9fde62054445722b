"""Draws from a machine, whole or given what is known of it, by chains that run until they mix."""

import math
import warnings
from typing import NamedTuple

import numpy as np
from keras import ops

from rbm_tutorial.backend import compiled_once
from rbm_tutorial.checks import (
    check_count,
    check_machine,
    check_matrix,
    check_positive,
    real_array,
)
from rbm_tutorial.sampling import checked_known, clamped_step, independent_units, known_sites


def potential_scale_reduction(values) -> np.ndarray:
    """R̂ of the same quantity along chains, (steps, chains, …) → (…): near 1 where they agree.

    The root of TFP's ratio of the variance of all chains together to that within them. Each chain
    counts as two, its halves, so that 4 steps are needed. NaN where nothing ever moved. Draws
    nothing.

    Raises: `ValueError` for another rank, and fewer steps.
    Source: Gelman & Rubin (1992); Vats & Knudson (2021).
    """
    import tensorflow_probability.substrates.numpy as tfp

    values = real_array("values", values)
    if values.ndim < 2 or len(values) < 4:
        raise ValueError(
            "`values` must have shape (steps, chains, …), of 4 or more steps. "
            f"Received: {values.shape}"
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = tfp.mcmc.potential_scale_reduction(np.float32(values), split_chains=True)
        return np.sqrt(ratio)


class Samples(NamedTuple):
    """What `sample` drew, and how far its chains had come.

    Attributes:
        v: the draws, (number, visible) or (number, rows, visible).
        steps: Gibbs steps before them.
        potential_scale_reduction: R̂ of the free energies over the second half of these steps, or
            over all if one run was enough; the largest of all rows.
    """

    v: object
    steps: int
    potential_scale_reduction: float


def sample(
    model,
    number: int,
    v=None,
    known=None,
    steps: int = 100,
    most_steps: int = 10_000,
    tolerance: float = 1.05,
) -> Samples:
    """Draw from p(v), or from p(v_unknown | v_known), by chains that run until they have mixed.

    Each draw is the end of a chain of its own, which starts at units drawn by biases alone. After
    `steps`, R̂ of the free energies says whether the chains agree by then; if not, the run is made
    twice as long, and R̂ is that of its second half. It cannot speak of places where no chain has
    been.

    Args:
        model: an `RBM` of any types of units, or a `DeepBeliefNetwork`; of that `v` and `known` are
            about the visible units of its top, and the draws are led down from there.
        number: of draws, for each row of `v`.
        v: states of the known units, (visible,) or (rows, visible); what the others are is ignored.
        known: booleans, (visible,) or of the shape of `v`.
        steps: of the first run.
        most_steps: beyond which no run goes; if R̂ is still above `tolerance`, there is a warning.
        tolerance: on R̂.

    Raises: `ValueError` for an untied layer or top, no draws, fewer than 4 `steps` or `most_steps`
    below them, states that cannot be, one of `v` and `known` alone, and a group of units of which
    one is on that is known in part.
    Source: R̂ as `potential_scale_reduction`.
    """
    rbm = getattr(model, "top", model)
    check_machine(rbm, "sample")
    check_count("number", number)
    check_count("steps", steps, least=4)  # R̂ needs four
    check_count("most_steps", most_steps, least=steps)
    check_positive("tolerance", tolerance)
    seed = ops.copy(rbm.seed_generator.state.value)
    try:
        start, known, shape = _clamped_start(rbm, number, v, known)
    except ValueError:
        rbm.seed_generator.state.assign(seed)  # it drew before it knew
        raise

    def step_and_look(v, known):
        v = clamped_step(rbm, v, known)
        return v, rbm.free_energy(v)

    key = "sample", rbm.visible_units, rbm.hidden_units
    step, end, total, ratio = compiled_once(rbm, key, step_and_look), start, 0, math.inf
    while ratio > tolerance and 2 * total <= most_steps:
        energies = []
        for _ in range(total or steps):  # as many again
            end, energy = step(end, known)
            energies.append(np.reshape(energy, (number, -1)))
        total += len(energies)
        ratio = float(np.nanmax(potential_scale_reduction(energies), initial=1))  # NaN: none moved
    if ratio > tolerance:
        warnings.warn(
            f"The chains have not mixed: R̂ is {ratio:.2f} after {total} steps. Allow more of them, "
            "or draw with `TemperedChains`.",
            stacklevel=2,
        )
    if model is not rbm:
        end = model.top.split(end)[0] if model.number_classes else end
        end = model.sample_down(end)[0]
    return Samples(ops.reshape(end, (*shape, end.shape[1])), total, ratio)


def _clamped_start(rbm, number, v, known):
    """Independent units, but the known ones as they are: → (chains, visible), known, shape."""
    if (v is None) != (known is None):
        raise ValueError(
            "`v` and `known` go together: what some units are, and which. "
            f"Received: v={v} and known={known}"
        )
    if v is None:
        v = independent_units(rbm, number)
        return v, np.zeros(v.shape, bool), (number,)
    v, shape = np.atleast_2d(real_array("v", v)), np.shape(v)[:-1]
    check_matrix("v", v, rbm.number_visible_units)
    known = checked_known(known, v.shape)
    known_sites(rbm.visible_units, known)
    v, known = (np.tile(x, (number, 1)) for x in (v, known))
    free = np.asarray(independent_units(rbm, len(v)))
    return rbm.checked_visible(np.where(known, v, free)), known, (number, *shape)
