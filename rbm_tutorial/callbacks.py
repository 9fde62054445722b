"""Keras callbacks that watch a machine while it learns."""

import functools
import warnings

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import compiled, fold_in, uniform_stream
from rbm_tutorial.checks import (
    check_built,
    check_count,
    check_examples,
    check_matrix,
    fixed_seed,
    real_array,
)
from rbm_tutorial.live_likelihood import Followed, error_squared, log_partition, step_along
from rbm_tutorial.units import Bernoulli


class FreeEnergyGap(keras.callbacks.Callback):
    """Log `gap`, mean F(held out) - mean F(training), in nats, after every epoch.

    Both means contain the same log Z, so the gap is how much more probable the training examples
    are than those held out: it grows as a machine overfits. It stands in the history, and callbacks
    that come later can follow it. Draws nothing.

    Args:
        x_train: training examples, (examples, visible); some of them are enough.
        x_held_out: examples that are not trained on, (examples, visible).

    Raises: `ValueError` for what are no examples of a machine, before it is trained.
    Source: Hinton, A practical guide to training restricted Boltzmann machines (2012), section 6.
    """

    def __init__(self, x_train, x_held_out):
        super().__init__()
        self.x_train = _examples("x_train", x_train)
        self.x_held_out = _examples("x_held_out", x_held_out)

    def on_train_begin(self, logs=None):
        check_built(getattr(self.model, "rbm", None), "FreeEnergyGap")
        self.model.rbm.checked_visible(self.x_train, "x_train")
        self.model.rbm.checked_visible(self.x_held_out, "x_held_out")

    def on_epoch_end(self, epoch, logs=None):
        # `VarianceLearning` takes data in units of their own, its RBM v/σ.
        seen = getattr(self.model, "standardized", lambda v: v)
        logs["gap"] = free_energy_gap(self.model.rbm, seen(self.x_train), seen(self.x_held_out))


def free_energy_gap(rbm, x_train, x_held_out) -> float:
    """Mean F(x_held_out) - mean F(x_train), nats. Draws nothing.

    Raises: `ValueError` for no examples, another width or values outside [0, 1].
    """
    check_built(rbm, "free_energy_gap")
    train = rbm.checked_visible(_examples("x_train", x_train), "x_train")
    held_out = rbm.checked_visible(_examples("x_held_out", x_held_out), "x_held_out")
    return float(ops.mean(rbm.free_energy(held_out)) - ops.mean(rbm.free_energy(train)))


def _examples(name, x):
    x = real_array(name, x)
    check_matrix(name, x, None)
    check_examples(name, len(x))
    return x


class WarnOfSaturation(keras.callbacks.Callback):
    """Warn after the first epoch in which most hidden units are on, or off, for all of `examples`.

    Such units carry nothing, and learn no more: their gradient is that of a bias. `fit` of
    `ContrastiveDivergence` does it by itself. Draws nothing.

    Args:
        examples: what the machine learns from, (examples, visible), of which the first 100 are
            looked at. Of anything else than an array nothing is known.
    """

    def __init__(self, examples):
        super().__init__()
        self.examples = None
        if isinstance(examples, np.ndarray):
            first = examples[:100]
            whole = first[~np.isnan(first).any(axis=1)]  # others learn from rows with gaps
            self.examples = whole if len(whole) else None

    def on_train_begin(self, logs=None):
        self.warned = False

    def on_epoch_end(self, epoch, logs=None):
        units = self.model.rbm.number_hidden_units
        if self.warned or self.examples is None or self.model.rbm.hidden_units != Bernoulli():
            return
        stuck = number_saturated(np.asarray(self.model(self.examples), "float32"))
        if stuck <= units / 2 or not np.ptp(self.examples, axis=0).any():  # one image may fix all
            return
        self.warned = True
        warnings.warn(
            f"Of the {units} hidden units {stuck} are on for all examples, or off for all, and "
            "carry nothing. What helps: `rbm.adapt(x)` before `fit`, `centered=True`, a lower "
            "learning rate, less weight decay.",
            stacklevel=2,
        )


def number_saturated(h) -> int:
    """How many units have p(h=1) above 0.95 for all examples, or below 0.05: (batch, hidden)."""
    return int(np.sum((h.min(axis=0) > 0.95) | (h.max(axis=0) < 0.05)))


class LikelihoodPath(keras.callbacks.Callback):
    """Keep the averaged weights of every epoch, so that log Z can be estimated backwards, too.

    The forward value is too low on average where chains miss something; the way back, from samples
    of the machine at the end, is too high. Their gap bounds what is wrong with either.

    Attributes:
        checkpoints: w, hb, vb at the start and after each epoch.
        log_z: those of the chains there, nats.
        error_at_start: the standard error of the first of these, nats.

    Raises: `ValueError` for a model without `likelihood_chains`.
    """

    def on_train_begin(self, logs=None):
        if getattr(self.model, "live", None) is None:
            raise ValueError(
                "`LikelihoodPath` needs a model with `likelihood_chains`. "
                f"Received: {type(self.model).__name__} without them"
            )
        self.checkpoints, self.log_z = [], []
        self.error_at_start = float(error_squared(self.model.live.values())) ** 0.5
        self.on_epoch_end(0)

    def on_epoch_end(self, epoch, logs=None):
        live = self.model.live
        self.checkpoints.append([np.array(variable.value) for variable in live.average])
        self.log_z.append(float(log_partition(live.values())))

    def reverse_log_partition(self, samples, steps: int = 100, seed: int = 0):
        """Estimate log Z of the last checkpoint by going back to the first: → (log Z, error) nats.

        The error holds that of the way back and that of log Z at the start.

        Args:
            samples: states drawn from the last checkpoint, (chains, visible).
            steps: between two checkpoints, on the straight line from one to the other.
            seed: fixes the random numbers.

        Raises: `ValueError` for arguments out of range.
        Source: Burda, Grosse & Salakhutdinov (2015), for temperatures.
        """
        check_count("steps", steps)
        seed = fixed_seed("seed", seed)
        live = self.model.live
        v = ops.cast(self.model.rbm.checked_visible(samples, "samples"), "float32")
        check_count("number of chains in `samples`", v.shape[0], least=2)
        live.units[0].check_states("samples", v)
        zero = ops.zeros((), "float32")
        chains = Followed(v, ops.zeros_like(v[:, 0]), zero, zero, ops.zeros((), "int32"))
        line = _straight_line(*live.units)
        ends = list(zip(self.checkpoints[::-1], self.checkpoints[-2::-1]))
        for number, (old, new) in enumerate(ends):
            first = np.array([seed, 2**30 + number])  # numbers of its own
            chains = Followed(*line(tuple(chains), old, new, np.int32(steps), first))
        error = (float(error_squared(chains)) + self.error_at_start**2) ** 0.5
        return self.log_z[0] - float(log_partition(chains)), error


@functools.lru_cache(maxsize=16)
def _straight_line(visible_units, hidden_units):
    """Compiled: chains follow the straight line from one machine to another in so many steps."""

    @compiled
    def follow_line(chains, old, new, steps, seed):
        def between(k):
            share = ops.cast(k, "float32") / ops.cast(steps, "float32")
            return [(1 - share) * a + share * b for a, b in zip(old, new)]

        def step(k, chains):
            ends, draws = (between(k), between(k + 1)), uniform_stream(fold_in(seed, k))
            units = visible_units, hidden_units
            return tuple(step_along(units, *ends, Followed(*chains), draws)[0])

        return ops.fori_loop(0, steps, step, tuple(chains))

    return follow_line
