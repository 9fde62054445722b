"""Chains that mix: replicas on a ladder from an easy machine to the one wanted change places.

The chapter on persistent chains derives the swaps. `TemperedChains` climb inverse temperatures;
`trajectory` has another ladder. Either is a source of negatives, by the protocol of `negatives`,
and runs by itself for draws.
"""

import weakref
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from rbm_tutorial.annealing import base_biases, checked_betas
from rbm_tutorial.backend import affine, compiled_draws, wait_for
from rbm_tutorial.checks import check_count, check_machine
from rbm_tutorial.negatives import begins, kept
from rbm_tutorial.sampling import (
    independent_units,
    parameters_of,
    tempered_gibbs_step,
    tempered_log_ratio,
)

MEMORY = 100  # steps over which swap rates are averaged and temperatures move
HOT, COLD = 1, -1  # the end of the ladder at which a replica was last


class Replicas(NamedTuple):
    """Where the replicas are, and what is known of their swaps; rung 0 is the hot end.

    Attributes:
        v: states, (rungs, chains, visible) float32; chains do not meet.
        betas: inverse temperatures, (rungs,), from 0 to 1.
        rejections: mean probability that a swap of neighbors is refused, (rungs - 1,).
        came_from: `HOT` or `COLD`, the end where the replica was last, or 0, (rungs, chains).
        round_trips: from the hot end to the cold one and back, of all replicas together, ().
        steps: number of steps so far, ().
    """

    v: object
    betas: object
    rejections: object
    came_from: object
    round_trips: object
    steps: object


def swapped(x, accepted):
    """x, (rungs, chains, …), once the `accepted` neighbors, (rungs - 1, chains), changed places."""
    none = ops.zeros_like(accepted[:1])
    with_next, with_previous = (
        ops.reshape(ops.concatenate(both), (*ops.shape(x)[:2], *[1] * (len(x.shape) - 2)))
        for both in ([accepted, none], [none, accepted])
    )
    moved = ops.where(with_next, ops.roll(x, -1, axis=0), x)
    return ops.where(with_previous, ops.roll(x, 1, axis=0), moved)


def exchange(replicas: Replicas, log_ratios, uniform):
    """Offer each second pair of neighbors a swap, the others in the next step.

    Replicas at v and v' on the rungs k and k + 1 swap with probability
    min(1, p_k(v') p_{k+1}(v) / p_k(v) p_{k+1}(v')), so that the product of all p_k stays.

    Args:
        replicas: before the swaps.
        log_ratios: logarithm of that fraction, (rungs - 1, chains) nats; Z_k cancels in it.
        uniform: function shape → uniform numbers.

    Returns: the replicas after the swaps, and which of these were accepted, (rungs - 1, chains).
    """
    p = ops.exp(ops.minimum(log_ratios, 0))
    turn = (ops.arange(p.shape[0]) + replicas.steps) % 2 == 0
    accepted = ops.logical_and(uniform(ops.shape(p)) < p, turn[:, None])
    v, came_from = (swapped(x, accepted) for x in (replicas.v, replicas.came_from))
    hot, between, cold = came_from[:1], came_from[1:-1], came_from[-1:]
    returned = ops.sum(ops.cast(hot == COLD, "int32"))
    came_from = ops.concatenate(
        [ops.full_like(hot, HOT), between, ops.where(cold == HOT, COLD, cold)]
    )
    steps = replicas.steps + 1
    memory = ops.cast(ops.minimum(steps, MEMORY), "float32")
    refused = replicas.rejections + (ops.mean(1 - p, axis=1) - replicas.rejections) / memory
    trips = replicas.round_trips + returned
    return Replicas(v, replicas.betas, refused, came_from, trips, steps), accepted


def placed(betas, rejections):
    """Move `betas`, (rungs,), a little toward where all neighbors refuse equally often.

    Read as a function of β, the sum Λ of the rejections below is the barrier that replicas have
    to cross. It is linear between two rungs, and the new rungs divide it evenly.

    Source: Syed, Bouchard-Côté, Deligiannidis & Doucet, Non-reversible parallel tempering: a
    scalable highly parallel MCMC scheme (2022), section 5.
    """
    rises = ops.maximum(rejections, 1e-3)  # where nothing is refused, even spacing
    below = ops.cumsum(rises) - rises
    height = ops.linspace(0.0, 1.0, betas.shape[0]) * ops.sum(rises)
    climbed = ops.clip((height[:, None] - below) / rises, 0, 1)  # shares of each gap, (rungs, gaps)
    even = ops.sum(climbed * (betas[1:] - betas[:-1]), axis=1)
    moved = betas + (even - betas) / MEMORY
    return ops.concatenate([betas[:1], moved[1:-1], betas[-1:]])


@keras.saving.register_keras_serializable("rbm_tutorial")
class TemperedChains(keras.layers.Layer):
    """Parallel tempering: `number` chains, each with a replica at every inverse temperature.

    The machine at β is that of annealing: independent units of biases a₀ at β = 0, itself at 1. In
    a step neighbors may swap, and then each replica takes one Gibbs step at its temperature. Hot
    replicas cross ridges, and by swaps what they find comes to the cold end, where the negatives
    are. A step costs what `num_betas` Gibbs steps cost.

    Args:
        number: of chains.
        num_betas: number of inverse temperatures, at least 2. They begin evenly spaced and move to
            where all `swap_rates` are equal; twice the `barrier` is a good number of them.
        base_rate: means of the units at β = 0, (visible,), as for `ais_log_partition`; σ(vb) when
            the chains start if `None`.
        betas: inverse temperatures that rise from 0 to 1, which then stay where they are.

    Attributes:
        chains: states at β = 1, (number, visible).

    Draws from the layer.

    Raises: `ValueError` for fewer than one chain or two temperatures, others than rise from 0 to 1,
    on an untied layer, and when it is started for a second machine.
    Source: Swendsen & Wang (1986); in learning, Desjardins et al. (2010).
    """

    def __init__(self, number: int, num_betas: int = 10, base_rate=None, betas=None, **kwargs):
        check_count("number", number)
        super().__init__(**kwargs)
        self.first_betas = np.float32(checked_betas(num_betas, betas))
        self._number, self.places, self.base_rate = number, betas is None, base_rate

    number = property(lambda self: self._number, doc="Of chains.")

    @property
    def rungs(self) -> int:
        return len(self.first_betas)

    def start(self, rbm):
        """Make the chains, all replicas of which are drawn from the biases vb alone.

        Those that have been made for this machine are kept.
        """
        check_machine(rbm, type(self).__name__)
        if not begins(self, rbm):
            return
        self.make_ladder(rbm)
        rungs, number, visible = self.rungs, self.number, rbm.number_visible_units

        def states(shape, dtype):
            return ops.reshape(ops.cast(independent_units(rbm, rungs * number), dtype), shape)

        came_from = np.zeros((rungs, number), "int32")
        came_from[0] = HOT
        self.replicas = Replicas(
            v=kept("v", states, (rungs, number, visible), "float32"),
            betas=kept("betas", self.first_betas),
            rejections=kept("rejections", np.zeros(rungs - 1, "float32")),
            came_from=kept("came_from", came_from),
            round_trips=kept("round_trips", np.int32(0)),
            steps=kept("steps", np.int32(0)),
        )
        self.made_for = weakref.ref(rbm)

    def make_ladder(self, rbm):
        """Make what the rungs are, beside their β."""

        def biases(shape, dtype):
            return ops.copy(ops.cast(base_biases(rbm, self.base_rate), dtype))  # not vb itself

        self.base = kept("base", biases, rbm.vb.shape, "float32")

    def draw(self, rbm, x, hidden_logits):
        """Take `rbm.cd_steps` steps, and return the states at the cold end, (number, visible)."""
        state = Replicas(*(wait_for(x, variable.value) for variable in self.replicas))
        for _ in range(rbm.cd_steps):
            state = self.step(rbm, state)
        self._keep(state)
        return ops.cast(state.v[-1], rbm.vb.dtype)

    def run(self, rbm, steps: int, observe=None):
        """Take so many steps without learning: → the states at the cold end, (number, visible).

        With `observe`, a function of these, also what it returned after each step, (steps, …).
        Draws from `rbm`.
        Raises: `ValueError` for fewer than one step.
        """
        check_count("steps", steps)
        if not hasattr(self, "replicas"):
            raise ValueError("`run` needs replicas: call `start(rbm)` first. Received none.")
        state = Replicas(*(variable.value for variable in self.replicas))

        def step_and_look(state):
            state = self.step(rbm, state)
            return state, () if observe is None else observe(state.v[-1])

        step, seen = compiled_draws(rbm, step_and_look), []
        for _ in range(steps):
            state, value = step(state)
            if observe is not None:
                seen.append(np.asarray(value))
        self._keep(state)
        return state.v[-1] if observe is None else (state.v[-1], np.stack(seen))

    def _keep(self, state):
        for variable, value in zip(self.replicas, state):
            variable.assign(value)

    def step(self, rbm, state: Replicas) -> Replicas:
        """One step of all replicas, swaps first, as a function of where they are."""
        parameters = parameters_of(rbm)
        logits = self.logits(parameters, state.v)
        log_ratios = self.log_ratios(rbm, parameters, state, logits)
        state, accepted = exchange(state, log_ratios, rbm.uniform)
        v = self.moved(rbm, parameters, state, swapped(logits, accepted))
        betas = placed(state.betas, state.rejections) if self.places else state.betas
        return Replicas(v, betas, *state[2:])

    def logits(self, parameters, v):
        """What the hidden units receive, but for β: (rungs, chains, hidden)."""
        return affine(v, *parameters[:2])

    def log_ratios(self, rbm, parameters, state, logits):
        """log p_k(v') p_{k+1}(v) / p_k(v) p_{k+1}(v') of neighbors at v and v': see `exchange`."""
        betas, biases = self.of_rows(state.betas), (self.base.value, parameters[2])

        def gain(v, logits):  # log p_{k+1} / p_k
            v, logits = (ops.reshape(x, (-1, x.shape[-1])) for x in (v, logits))
            pairs = betas[: -self.number], betas[self.number :]
            ratio = tempered_log_ratio(rbm.hidden_units, v, logits, biases, *pairs)
            return ops.reshape(ratio, (self.rungs - 1, self.number))

        return gain(state.v[:-1], logits[:-1]) - gain(state.v[1:], logits[1:])

    def of_rows(self, betas):
        """β of each replica, rung by rung: (rungs · chains, 1)."""
        return ops.repeat(betas, self.number)[:, None]

    def moved(self, rbm, parameters, state, logits):
        """v one Gibbs step later, each replica at its temperature: (rungs, chains, visible)."""
        beta, logits = self.of_rows(state.betas), ops.reshape(logits, (-1, logits.shape[-1]))
        units, draws = (rbm.visible_units, rbm.hidden_units), (rbm.uniform, rbm.uniform)
        v = tempered_gibbs_step(units, parameters, logits, beta, self.base.value, draws)
        return ops.reshape(v, ops.shape(state.v))

    @property
    def chains(self):
        return self.replicas.v[-1]

    @property
    def betas(self) -> np.ndarray:
        """Inverse temperatures, (rungs,), where they are now."""
        return np.asarray(self.replicas.betas)

    @property
    def swap_rates(self) -> np.ndarray:
        """Mean probability that neighbors swap when it is their turn, (rungs - 1,), lately."""
        return 1 - np.asarray(self.replicas.rejections)

    @property
    def barrier(self) -> float:
        """The sum Λ of all rates of refusal, which says how far apart the ladder's ends are."""
        return float(np.sum(np.asarray(self.replicas.rejections)))

    @property
    def round_trips(self) -> int:
        """How often a replica went from the hot end to the cold one and back, all together."""
        return int(np.asarray(self.replicas.round_trips))

    def get_config(self):
        rate = None if self.base_rate is None else np.asarray(self.base_rate).tolist()
        config = {**super().get_config(), "number": self.number, "base_rate": rate}
        if self.places:
            return {**config, "num_betas": self.rungs}
        return {**config, "betas": self.first_betas.tolist()}
