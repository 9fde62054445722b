"""Contrastive divergence as a Keras model: the small model *is* the training procedure.

The chapter on contrastive divergence derives the loss, that on training learns real digits.
"""

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import single
from rbm_tutorial.callbacks import WarnOfSaturation
from rbm_tutorial.checks import (
    check_count,
    check_flag,
    check_rate,
    check_share,
    check_tied,
    described,
)
from rbm_tutorial.contrast import (
    batch_mean,
    contrast_with_model,
    learning_rate_of,
    offset_variables,
    traced_settings,
    weighing,
)
from rbm_tutorial.keras_fit import FastFit
from rbm_tutorial.live_likelihood import LiveLikelihood
from rbm_tutorial.negatives import begin_again, chosen_negatives
from rbm_tutorial.rbm import RBM
from rbm_tutorial.saving import with_objects


@keras.saving.register_keras_serializable("rbm_tutorial")
class HeldRate(keras.optimizers.schedules.LearningRateSchedule):
    """`rate` over the first share `held` of so many updates, then a linear fall to 0."""

    def __init__(self, rate: float, updates: int, held: float):
        self.rate, self.updates, self.held = rate, updates, held

    def __call__(self, step):
        left = float(self.updates) - ops.cast(step, "float32")
        return self.rate * ops.clip(left / ((1 - self.held) * self.updates), 0.0, 1.0)

    def get_config(self):
        return {"rate": self.rate, "updates": self.updates, "held": self.held}


def linear_decay(rate: float, updates: int, held: float = 0.0):
    """A learning rate for `compile` that falls linearly from `rate` to 0 in so many updates.

    It stays at `rate` over the first share `held` of them, 0 ≤ held < 1.

    Raises: `ValueError` for other numbers.
    """
    check_rate("rate", rate)
    check_count("updates", updates)
    check_share("held", held)
    rate, updates, held = float(rate), int(updates), float(held)  # NumPy's are no JSON
    if held:
        return HeldRate(rate, updates, held)
    return keras.optimizers.schedules.PolynomialDecay(rate, updates, 0.0)


class MeanOfSome(keras.metrics.Mean):
    """The mean over the first batch of some weight and every so-many-th; `due` says which."""

    def __init__(self, every, **kwargs):
        super().__init__(**kwargs)
        self.every = int(every)
        self.seen = self.add_variable((), "zeros", dtype="int32", name="seen")

    def due(self):
        due = ops.logical_or(ops.mod(self.seen.value, self.every) == 0, self.count.value == 0)
        self.seen.assign(self.seen.value + 1)
        return due

    def reset_state(self):
        super().reset_state()
        self.seen.assign(0)


@keras.saving.register_keras_serializable("rbm_tutorial")
class ContrastiveDivergence(FastFit):
    """Trains an RBM through `compile` and `fit` on  mean F(x) - mean F(v⁽ᵏ⁾),  v⁽ᵏ⁾ held constant.

    v⁽ᵏ⁾ ends `rbm.cd_steps` Gibbs steps that start at the batch (CD-k; Hinton 2002) or, with
    `persistent_chains`, where the previous batch left the chains (PCD; Tieleman 2008).

    Args:
        rbm: the `RBM` to train, tied.
        persistent_chains: 0 for CD; the number of chains for PCD, short for
            `negatives=PersistentChains(n)`.
        centered: whether to follow the gradient of the machine with centered units, which does not
            depend on which value of a pixel is called 1. The offsets are moving averages, over
            about 100 batches, of the data and of p(h=1 | data).
        negatives: where v⁽ᵏ⁾ comes from, an object of module `negatives`.
        likelihood_chains: 0, or the number of chains by which `fit` and `evaluate` report the
            log-likelihood, too; 100 are enough. They do not notice weights that you set by hand:
            call `live.begin(rbm)` afterwards.
        reconstruct_every: in training the reconstruction cost is the mean over the first update of
            an epoch and every so-many-th after it, since it costs a product beside the five of an
            update.

    Attributes:
        live: what these know, a `LiveLikelihood`, or `None`.
        chains: states of the persistent chains, (chains, visible).
        offsets: of the centered gradient, (visible,) and (hidden,), and the number of batches.

    `compile` without an optimizer takes `SGD(rbm.learning_rate)`, and the next `fit` the rate that
    is set there later. `fit` and `evaluate` take x, an array or a `tf.data.Dataset` of (batch,
    visible) in [0, 1] without targets, and report per-example means in nats: `reconstruction_cost`
    and `free_energy` of the data, and `loss`. In training the loss is the difference above plus any
    penalties of the layer (`activity_regularizer`); in evaluation it is the mean free energy, so
    that validation draws no random numbers and never changes a run. With `sample_weight` all means
    are weighted; of batches of different weight the loss of an epoch is the mean by size, as in
    Keras. `predict` gives p(h=1 | v).

    With `likelihood_chains` they report `log_likelihood`, mean log p(x) under the *averaged*
    weights (see `LiveLikelihood`), and `log_likelihood_error`, the standard error of its log Z: in
    training the mean over the batches at which chains followed, in evaluation and validation over
    all examples, at the weights reached. It is too high on average, by half the squared error and
    by what the chains miss; twice the chains halve the squared error. x must hold states: gray
    pixels have no probability.

    A layer that was not built is built by `fit`, and its visible biases are those that `adapt`
    finds for the array, or for the first batch of a data set, which is read to its end for it where
    that is known. Weights of examples do not count in it. A layer that was built starts as it is,
    unless `evaluate` or `predict` of this model built it and its visible biases are still 0. From
    biases of 0, bright images can drive hidden units to be always on, or always off; `fit` warns
    when that happens to most of them on an array.

    Raises: `ValueError` for an untied layer, empty data, targets, wrong shapes and, in arrays,
    values outside [0, 1] (NaN included), before anything is learned. In data sets such values raise
    `tf.errors.InvalidArgumentError` as soon as they come; with KERAS_BACKEND=jax `ValueError` at
    the end of the epoch, and the weights are those of the epoch before.
    """

    def __init__(
        self,
        rbm: RBM,
        persistent_chains: int = 0,
        centered: bool = False,
        negatives=None,
        likelihood_chains: int = 0,
        reconstruct_every: int = 1,
        **kwargs,
    ):
        if not isinstance(rbm, RBM):
            raise ValueError(f"`rbm` must be an RBM. Received: {type(rbm).__name__}")
        check_tied(rbm, "ContrastiveDivergence")
        check_flag("centered", centered)
        negatives = chosen_negatives(persistent_chains, negatives)
        check_count("reconstruct_every", reconstruct_every)
        super().__init__(**kwargs)
        self.rbm = rbm
        self._negatives, self._centered = negatives, bool(centered)
        self.reconstruction_tracker = MeanOfSome(reconstruct_every, name="reconstruction_cost")
        self.free_energy_tracker = keras.metrics.Mean(name="free_energy")
        check_count("likelihood_chains", likelihood_chains, least=0)
        self.live = LiveLikelihood(likelihood_chains) if likelihood_chains else None
        if self.live is not None and self.distributed:
            raise ValueError(
                "`likelihood_chains` must be 0 under a `tf.distribute` strategy, where each "
                f"replica would follow its own path. Received: {likelihood_chains}"
            )

    watchers = (WarnOfSaturation,)
    negatives = property(lambda self: self._negatives, doc="Where v⁽ᵏ⁾ comes from.")
    centered = property(lambda self: self._centered, doc="Whether the gradient is centered.")
    reconstruct_every = property(lambda self: self.reconstruction_tracker.every, doc="In updates.")
    likelihood_chains = property(lambda self: self.live.number if self.live else 0, doc="Or 0.")
    chains = property(lambda self: self.negatives.chains, doc="States of persistent chains.")

    @property
    def width(self):
        return self.rbm.number_visible_units

    @property
    def adapts(self):
        """Whether the layer waits for data: not built, or by an evaluation and untouched since."""
        return not self.rbm.built or (self.looked_at and not np.any(self.rbm.vb))

    def look(self, x):
        self.looked_at = not self.rbm.built
        super().look(x)

    def start(self, x):
        if self.adapts:
            self.rbm.adapt(x)
            if self.built:  # by an evaluation, when the biases knew nothing of the data
                begin_again(self.negatives)
        if not self.built:
            self.build((None, self.rbm.number_visible_units))

    def build(self, input_shape):
        if self.built:  # chains, offsets and what is followed go on
            return
        if not self.rbm.built:
            self.rbm.build(input_shape)
        self.negatives.start(self.rbm)
        self.offsets = offset_variables(self, self.rbm) if self.centered else ()
        if self.live is not None:
            self.live.start(self.rbm)

    def prepare(self):
        units = self.rbm.visible_units, self.rbm.hidden_units
        if self.live is not None and self.live.units != units:
            raise ValueError(
                "`rbm` must keep the types of units with which the likelihood chains began: make a "
                f"new model. Received: {units}"
            )
        if self.live is not None and int(np.asarray(self.live.updates)) == 0:
            self.live.begin(self.rbm)

    def call(self, v, training=False):
        return self.rbm(v, training=training)

    @property
    def default_rate(self):
        return learning_rate_of(self.rbm)

    def settings(self):
        check_tied(self.rbm, "ContrastiveDivergence")
        return traced_settings(self.rbm)

    def check(self, x, y=None, learns=True):
        units = self.rbm.visible_units
        units.check_number(x.shape[1])
        units.checked(x)
        if self.live is not None:
            units.check_states("x", x)

    def batch_loss(self, x, y, y_pred, weights, training):
        if y is not None:
            raise ValueError(
                "An RBM learns from `x` alone: pass images without labels. "
                f"Received: {described(y)}"
            )
        rbm = self.rbm
        penalties = sum(single(penalty) for penalty in self.losses)  # replicas share that list
        x = rbm.visible_units.checked(ops.cast(x, rbm.vb.dtype))
        if self.live is not None:
            x = self.live.watch(self.rbm, x, weights, self.optimizer if training else None)
        each = weighing(x, weights)
        if training:
            contrast = contrast_with_model(rbm, x, self.negatives, self.offsets, each)
            h, free_energy = contrast.h, contrast.free_energy
            loss = contrast.loss + penalties
        else:
            h, free_energy = rbm.forward(x), rbm.free_energy(x)
            loss = batch_mean(free_energy, each)
        self.free_energy_tracker.update_state(free_energy, weights)
        self._watch_reconstruction(x, h, weights, training)
        return self.part_of_replica(loss, each)

    def _watch_reconstruction(self, x, h, weights, training):
        def costs():
            return self.rbm.visible_units.cross_entropy(x, self.rbm.visible_logits(h))

        tracker = self.reconstruction_tracker
        if not training or tracker.every == 1:
            tracker.update_state(costs(), weights)
            return
        due = tracker.due()
        taken = ops.cond(due, costs, lambda: ops.zeros_like(single(x[:, 0])))
        weights = ops.ones_like(taken) if weights is None else weights
        tracker.update_state(taken, weights * ops.cast(due, weights.dtype))

    def get_config(self):
        return {
            **super().get_config(),
            "rbm": keras.saving.serialize_keras_object(self.rbm),
            "centered": self.centered,
            "negatives": keras.saving.serialize_keras_object(self.negatives),
            "likelihood_chains": self.likelihood_chains,
            "reconstruct_every": self.reconstruct_every,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**with_objects(config, "rbm", "negatives"))
