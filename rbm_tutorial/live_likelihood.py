"""The log-likelihood while a machine learns, by chains that follow its averaged weights.

Learning is a path from a machine whose log Z is easy to that which is wanted, as raised
temperatures are; so annealed importance sampling along it (Neal 2001) can estimate log Z at every
update. One noisy update moves the distribution too far for that; the *averaged* weights θ̄ move
slowly. The chains must not be those that make the gradient, which pushes down just where they are.
The chapter on training derives it.
"""

import math
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from rbm_tutorial.annealing import annealed_chains, base_biases, independent_log_partition
from rbm_tutorial.backend import affine, checked_range, fold_in, uniform_stream, wait_for
from rbm_tutorial.checks import check_count
from rbm_tutorial.sampling import independent_units, log_ratio, parameters_of
from rbm_tutorial.units import Beside, free_energy

LONGEST = 10  # updates between two steps of the chains
SPREAD = 0.002  # nats², of log-weights in one step: chains step more often above, less below
LEAST_MEMORY = 100  # updates over which weights are averaged in the beginning, and then
SHARE = 10  # over about this part, a tenth, of all updates so far
OWN_SEED = 2**20  # folded into the seed of the machine
TEMPERATURES = 100, 400, 1600, 6400, 25_600  # to begin with: the first that are enough


class Followed(NamedTuple):
    """Chains that follow a path of machines: log Z ≈ log_z + log mean exp(log_w).

    Attributes:
        v: their states, (chains, visible).
        log_w: log-weights since they were last resampled, (chains,) nats.
        log_z: what was banked when they were, () nats.
        variance: of what was banked, the sum of 1/n_eff - 1/chains, () nats².
        resamplings: how often they were, ().
    """

    v: object
    log_w: object
    log_z: object
    variance: object
    resamplings: object


def effective_share(log_w):
    """n_eff / chains = (Σ w)² / (chains Σ w²), from 1/chains to 1."""
    twice = 2 * ops.logsumexp(log_w) - ops.logsumexp(2 * log_w)
    return ops.exp(twice) / _count(log_w)


def log_partition(followed):
    """log Z at the end of the path so far, () nats."""
    log_w = followed.log_w
    return followed.log_z + ops.logsumexp(log_w) - ops.log(_count(log_w))


def error_squared(followed):
    """Squared standard error of `log_partition`, () nats², if the chains mix along the path.

    By the delta method; what chains miss together does not show in it.
    """
    log_w = followed.log_w
    return followed.variance + (1 / effective_share(log_w) - 1) / _count(log_w)


def _count(log_w):
    return ops.cast(ops.shape(log_w)[0], log_w.dtype)


def step_along(units, old, new, followed, draws):
    """Let chains follow one step of the path, from the machine `old` to `new`.

    Each log-weight grows by F_old(v) - F_new(v); chains are resampled systematically when n_eff
    falls below half of their number; and a Gibbs step of `new` moves them.

    Args:
        units: the types of visible and of hidden units.
        old: w, hb, vb before.
        new: w, hb, vb after.
        followed: the chains before.
        draws: function shape → uniform numbers.

    Returns: the chains after it, `Followed`, and the variance of the growth of log-weights, nats².
    Source: Neal, Annealed importance sampling (2001); resampling: Del Moral, Doucet & Jasra,
    Sequential Monte Carlo samplers (2006).
    """
    (visible, hidden), (w, hb, vb) = units, new
    v, chains = followed.v, ops.shape(followed.v)[0]
    logits = affine(v, w, hb)
    growth = log_ratio(hidden, v, (logits, affine(v, *old[:2])), (vb, old[2]))
    followed = Followed(v, followed.log_w + growth, *followed[2:])
    few = effective_share(followed.log_w) < 0.5
    points = (ops.arange(chains, dtype="float32") + draws((1,))) / _count(followed.log_w)
    picked = ops.searchsorted(ops.cumsum(ops.softmax(followed.log_w)), points)
    picked = ops.where(few, ops.minimum(picked, chains - 1), ops.arange(chains, dtype="int32"))
    h = hidden.sample(ops.take(logits, picked, axis=0), draws)
    moved = Followed(
        v=visible.sample(affine(h, ops.transpose(w), vb), draws),
        log_w=ops.where(few, 0.0, followed.log_w),
        log_z=ops.where(few, log_partition(followed), followed.log_z),
        variance=ops.where(few, error_squared(followed), followed.variance),
        resamplings=followed.resamplings + ops.cast(few, "int32"),
    )
    return moved, ops.var(growth)


@keras.saving.register_keras_serializable("rbm_tutorial")
class LiveLikelihood(keras.layers.Layer):
    """Chains of their own that estimate log Z of the averaged weights θ̄ while a machine learns.

    θ̄ is the exponential average with the momentum of the optimizer, if that keeps one
    (`use_ema=True`), and else over about a hundred updates and a tenth of all so far. It is
    renewed, and the chains follow, so often that each step spreads their log-weights by about 0.04
    nats: at every second update or so while much is learned, at every tenth in the end, and at the
    first of an epoch. They begin by annealed importance sampling. What they draw depends on the
    machine's random state when they begin, and leaves it as it is.

    Args:
        number: of chains.

    Attributes:
        average: w, hb, vb of θ̄.
        followed: the chains, as `Followed`.

    Source: for chains along the path of learning Béreux, Decelle, Furtlehner, Rosset & Seoane
    (2025), and Carbone, Hua, Coste & Vanden-Eijnden, Efficient training of energy-based models
    using Jarzynski equality (2023).
    """

    def __init__(self, number: int, **kwargs):
        check_count("likelihood_chains", number, least=2)
        super().__init__(**kwargs)
        self.number = number
        self.likelihood_tracker = keras.metrics.Mean(name="log_likelihood")
        self.error_tracker = keras.metrics.Mean(name="log_likelihood_error")

    def start(self, rbm):
        """Make the variables, which `begin` fills."""
        self.units = rbm.visible_units, rbm.hidden_units
        chains, visible = self.number, rbm.number_visible_units
        shapes = [tuple(parameter.shape) for parameter in parameters_of(rbm)]
        self.average = [self._kept(name, shape) for name, shape in zip(("w", "hb", "vb"), shapes)]
        self.followed = Followed(
            v=self._kept("v", (chains, visible)),
            log_w=self._kept("log_w", (chains,)),
            log_z=self._kept("log_z", ()),
            variance=self._kept("variance", ()),
            resamplings=self._kept("resamplings", (), "int32"),
        )
        self.updates = self._kept("updates", (), "int32")
        self.since = self._kept("since", (), "int32")
        self.wait = self._kept("wait", (), "int32")
        self.seed = self._kept("seed", (2,), "uint32")

    def _kept(self, name, shape, dtype="float32"):
        return self.add_weight(
            shape=shape, dtype=dtype, initializer="zeros", trainable=False, name=name
        )

    def begin(self, rbm):
        """Take the weights as they are for θ̄, and anneal the chains to them.

        So slowly that n_eff is at least half of their number, if 25,600 temperatures do it. The
        first `fit` begins; begin anew after weights were set by hand, of which θ̄ knows nothing.
        """
        seed = ops.cast(fold_in(rbm.seed_generator.state.value, OWN_SEED), "uint32")
        self.seed.assign(seed)
        number, base = int(np.asarray(seed)[0] >> 1), base_biases(rbm)
        draws = uniform_stream(np.array([number, 0]))
        start = independent_units(rbm, self.number, base, draws)
        for temperatures in TEMPERATURES:
            betas = np.linspace(0, 1, temperatures)
            v, log_w = annealed_chains(rbm, start, betas, base, number)
            if float(effective_share(ops.convert_to_tensor(log_w))) >= 0.5:
                break
        log_z = independent_log_partition(rbm, base)
        begun = Followed(v, log_w - log_w.max(), log_z + log_w.max(), 0.0, 0)
        for variable, value in zip((*self.followed, self.since, self.wait), (*begun, 0, 0)):
            variable.assign(value)
        for variable, value in zip(self.average, parameters_of(rbm)):
            variable.assign(ops.copy(value))  # JAX may not give the same memory away twice

    def watch(self, rbm, x, weights=None, optimizer=None):
        """Let trackers see log p_θ̄(x), (batch, visible), once the chains have followed: → x itself.

        An `optimizer` is that of an update; without one nothing moves. `weights`, (batch,), are of
        the examples.
        """
        x = checked_states(self.units[0], x, x.shape[1])
        seen = ops.ones_like(x[:, 0]) if weights is None else weights
        if optimizer is None:
            log_p = self.log_likelihood(x)
        else:
            optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # in half precision
            momentum = optimizer.ema_momentum if optimizer.use_ema else None
            log_p, turn = self.follow(rbm, x, self.likelihood_tracker.count.value == 0, momentum)
            seen = seen * ops.cast(turn, seen.dtype)
            x = wait_for((log_p, *self.values(), *(each.value for each in self.average)), x)
        self.likelihood_tracker.update_state(log_p, seen)
        error = ops.sqrt(error_squared(self.values()))
        self.error_tracker.update_state(error * ops.ones_like(log_p), seen)
        return x

    def follow(self, rbm, x, first, momentum=None):
        """Count an update, and let θ̄ and the chains follow if it is their turn.

        Args:
            rbm: the machine that learns.
            x: the batch, (batch, visible).
            first: whether it is the first update of an epoch, boolean ().
            momentum: of the average, for one update, or `None` for one over a tenth of the updates.

        Returns: log p_θ̄(x), (batch,) nats, or zeros if it was not their turn; and whether it was.
        """
        before = self.updates.value, self.since.value
        updates, since = (wait_for(x, count) + 1 for count in before)  # first x is checked
        turn = ops.logical_or(first, since >= self.wait.value)
        if momentum is None:
            keep = 1 - 1 / (LEAST_MEMORY + ops.cast(updates, "float32") / SHARE)
        else:
            keep = ops.convert_to_tensor(momentum, "float32")
        keep = keep ** ops.cast(since, "float32")
        old = [variable.value for variable in self.average]
        now = [ops.stop_gradient(parameter) for parameter in parameters_of(rbm)]
        seed, followed = fold_in(self.seed.value, updates), self.values()

        def move():
            new = [keep * a + (1 - keep) * b for a, b in zip(old, now)]
            moved, spread = step_along(self.units, old, new, followed, uniform_stream(seed))
            wait = ops.clip(self.wait.value + ops.where(spread < SPREAD, 1, -1), 1, LONGEST)
            return new, tuple(moved), wait, self._log_p(x, new, moved)

        def stay():
            return old, tuple(followed), self.wait.value, ops.zeros_like(x[:, 0], dtype="float32")

        average, moved, wait, log_p = ops.cond(turn, move, stay)
        self.wait.assign(wait)
        for variable, value in zip((*self.average, *self.followed), (*average, *moved)):
            variable.assign(value)
        self.updates.assign(updates)
        self.since.assign(ops.where(turn, 0, since))
        return log_p, turn

    def values(self):
        """The chains as they are now, as tensors."""
        return Followed(*(variable.value for variable in self.followed))

    def log_likelihood(self, x):
        """log p_θ̄(x) of states x, (batch, visible) → (batch,) nats. Draws nothing."""
        return self._log_p(x, [variable.value for variable in self.average], self.values())

    def _log_p(self, x, parameters, followed):
        (w, hb, vb), x = parameters, ops.cast(x, "float32")
        return -free_energy(self.units, x, affine(x, w, hb), vb) - log_partition(followed)

    def get_config(self):
        return {**super().get_config(), "number": self.number}


def checked_states(units, x, number: int):
    """x itself, (batch, number), once each unit that is no real number is in one of its states.

    What is computed from the rest raises or becomes NaN, as `checked_range` says.
    """
    if isinstance(units, Beside):
        first, last = units.split(x)
        first = checked_states(units.first, first, number - units.count)
        return ops.concatenate([first, checked_states(units.last, last, units.count)], axis=1)
    if units.unbounded:
        return x
    values = np.unique(np.concatenate([np.ravel(site) for site in units.sites(number)]))
    product = math.prod(x - float(value) for value in values)  # 0 at each of them
    message = "`x` must hold states where the likelihood is asked for: call `binarize`. Received"
    return x + checked_range(product, 0, 0, f"{message} others: the product of x - state over them")
