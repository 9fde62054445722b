"""Contrastive divergence as a Keras model: the small model *is* the training procedure.

The chapter on contrastive divergence derives the loss, that on training learns real digits.
"""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import mean_over_replicas, replicas
from rbm_tutorial.checks import check_count, check_tied
from rbm_tutorial.keras_fit import FastFit
from rbm_tutorial.live_likelihood import LiveLikelihood
from rbm_tutorial.negatives import chosen_negatives
from rbm_tutorial.rbm import RBM
from rbm_tutorial.saving import with_objects

OFFSET_MEMORY = 100  # batches


def total_weight(rows, weights=None):
    """Σ weights, or the number of rows; under `tf.distribute` the mean over all replicas.

    Divided by it, sums over the rows of a replica average to the mean over the whole batch, however
    that was divided: of a short one a replica may get nothing.
    """
    total = ops.shape(rows)[0] if weights is None else ops.sum(weights)
    return mean_over_replicas(ops.cast(total, rows.dtype))


def batch_mean(rows, weights=None):
    """Mean over the first axis, Σ weights·rows / Σ weights, (batch,); of no rows 0, not NaN."""
    if weights is None:
        return ops.sum(rows, axis=0) / row_count(rows)
    return ops.tensordot(shares(weights), rows, axes=1)


def row_count(rows):
    """Number of rows as a divisor: 1 if there are none."""
    count = total_weight(rows)
    return ops.where(count > 0, count, 1)


def shares(weights):
    """Weights, (batch,), divided by their sum, unless that is 0."""
    total = total_weight(weights, weights)
    return weights / ops.where(total > 0, total, 1)


def anything(rows, weights=None):
    """1, or 0 if there is no row or none of a weight above 0."""
    return ops.cast(total_weight(rows, weights) > 0, rows.dtype)


def statistics(v, h, weights=None):
    """⟨vh⟩, ⟨h⟩, ⟨v⟩ of a batch, h = p(h=1 | v): minus the gradient of mean F in (w, hb, vb).

    With `weights`, (batch,), means are weighted.
    """
    h = h / row_count(v) if weights is None else h * shares(weights)[:, None]
    return ops.matmul(ops.transpose(v), h), ops.sum(h, axis=0), batch_mean(v, weights)


def contrastive_gradient(x, h, v_k, h_k, weights=None, weights_k=None):
    """Gradient of mean F(x) - mean F(v⁽ᵏ⁾) in (w, hb, vb): statistics of model minus data.

    h and h_k are p(h=1 | x) and p(h=1 | v⁽ᵏ⁾), (batch, hidden); x and v⁽ᵏ⁾ are (batch, visible).
    The number of chains may differ from that of examples; `weights` are of x, `weights_k` of v⁽ᵏ⁾.
    """
    of_model, of_data = statistics(v_k, h_k, weights_k), statistics(x, h, weights)
    return [model - data for model, data in zip(of_model, of_data)]


def centered_gradient(dw, dhb, dvb, visible_offset, hidden_offset):
    """The gradient of a machine whose units are centered, carried over to (w, hb, vb).

    With energy -(v - μ)·a - (h - λ)·b - (v - μ)·W·(h - λ) the gradient is  Δ⟨(v - μ)(h - λ)⟩, Δ⟨h⟩,
    Δ⟨v⟩  instead of Δ⟨vh⟩, Δ⟨h⟩, Δ⟨v⟩. The machine with biases vb = a - W·λ and hb = b - μ·W is the
    same.

    Source: Melchior, Fischer & Wiskott, How to center deep Boltzmann machines (2016), algorithm 1.
    """
    dw = dw - ops.outer(visible_offset, dhb) - ops.outer(dvb, hidden_offset)
    return dw, dhb - ops.matmul(visible_offset, dw), dvb - ops.matmul(dw, hidden_offset)


@ops.custom_gradient
def with_gradient(value, w, hb, vb, dw, dhb, dvb):
    """`value`, with (dw, dhb, dvb) for its gradient in (w, hb, vb), and none in anything else."""

    def gradient(*args, upstream=None):
        (upstream,) = args if upstream is None else (upstream,)
        given = [upstream * d for d in (dw, dhb, dvb)]
        return ops.zeros_like(value), *given, *(ops.zeros_like(d) for d in (dw, dhb, dvb))

    return value, gradient


def linear_decay(rate: float, updates: int):
    """A learning rate that falls linearly from `rate` to 0 in so many updates, for `compile`."""
    return keras.optimizers.schedules.PolynomialDecay(rate, updates, 0.0)


class Contrast(NamedTuple):
    """One batch against one draw of the model: what `contrast_with_model` computes.

    Attributes:
        loss: mean F(x) - mean F(v⁽ᵏ⁾), nats, with its gradient in the weights of the RBM.
        v_k: the negative samples, (chains, visible).
        weights_k: their weights, (chains,), or `None`.
        h: p(h=1 | x), (batch, hidden).
        free_energy: F(x), (batch,) nats.
    """

    loss: object
    v_k: object
    weights_k: object
    h: object
    free_energy: object


def contrast_with_model(rbm, x, negatives, offsets=(), weights=None):
    """Contrast a batch, (batch, visible), with samples of the model: → `Contrast`.

    With `offsets`, those of `offset_variables`, the gradient is centered. With `weights`, (batch,),
    an example of weight 2 counts as two. Draws random numbers, and moves chains and offsets.
    """
    weights_k = weights if getattr(negatives, "starts_at_data", False) else None
    logits = rbm.hidden_logits(x)
    v_k = negatives.draw(rbm, x, logits)
    logits_k = rbm.hidden_logits(v_k)
    h, h_k = rbm.hidden_units.mean(logits), rbm.hidden_units.mean(logits_k)
    free_energy = rbm.free_energy(x, logits)
    of_model = batch_mean(rbm.free_energy(v_k, logits_k), weights_k)
    difference = batch_mean(free_energy, weights) - of_model
    gradient = contrastive_gradient(x, h, v_k, h_k, weights, weights_k)
    if weights is not None:  # chains alone teach nothing
        some = anything(x, weights)
        difference, gradient = some * difference, [some * d for d in gradient]
    if offsets:
        gradient = centered_gradient(*gradient, *moved_offsets(offsets, x, h, weights))
    constants = [ops.stop_gradient(constant) for constant in (difference, *gradient)]
    loss = with_gradient(constants[0], rbm.w_rec, rbm.hb, rbm.vb, *constants[1:])
    return Contrast(loss, v_k, weights_k, h, free_energy)


def offset_variables(model, rbm):
    """Weights of `model` for `moved_offsets`: mean visible, mean hidden unit, number of batches."""
    shapes = {"visible_offset": rbm.vb.shape, "hidden_offset": rbm.hb.shape, "offset_batches": ()}
    return [
        model.add_weight(
            shape=shape,
            dtype=rbm.vb.dtype,
            initializer="zeros",
            trainable=False,
            aggregation="mean",
            name=name,
        )
        for name, shape in shapes.items()
    ]


def moved_offsets(offsets, x, h, weights=None):
    """Move the offsets to the mean over all batches so far, or over about the last hundred.

    → mean visible unit, (visible,), and mean hidden unit, (hidden,); after one batch its means. A
    batch of no weight changes nothing.
    """
    *means, batches = offsets
    some = ops.cast(anything(x, weights), batches.dtype)
    batches.assign(batches + some)
    rate = some / ops.clip(batches.value, 1, OFFSET_MEMORY)
    for offset, rows in zip(means, (x, h)):
        offset.assign(offset + rate * (batch_mean(rows, weights) - offset))
    return [offset.value for offset in means]


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
            log-likelihood, too; 100 are enough.

    Attributes:
        live: what these know, a `LiveLikelihood`, or `None`.
        chains: states of the persistent chains, (chains, visible).
        offsets: of the centered gradient, (visible,) and (hidden,), and the number of batches.

    `compile` without an optimizer takes `SGD(rbm.learning_rate)`. `fit` and `evaluate` take x, an
    array or a `tf.data.Dataset` of (batch, visible) in [0, 1] without targets, and report
    per-example means in nats: `reconstruction_cost` and `free_energy` of the data, and `loss`. In
    training the loss is the difference above plus any penalties of the layer
    (`activity_regularizer`); in evaluation it is the mean free energy, so that validation draws no
    random numbers and never changes a run. With `sample_weight` all means are weighted; of batches
    of different weight the loss of an epoch is the mean by size, as in Keras. `predict` gives
    p(h=1 | v).

    With `likelihood_chains` they report `log_likelihood`, mean log p(x) under the *averaged*
    weights (see `LiveLikelihood`), and `log_likelihood_error`, the standard error of its log Z: in
    training the mean over every fifth batch of the epoch, in evaluation and validation over all
    examples, at the weights reached. It is too high on average, by half the squared error and by
    what the chains miss; where the error passes a tenth of a nat, take more chains. x must hold
    states: gray pixels have no probability.

    A layer that was not built is built by `fit`, and its visible biases are those that `adapt`
    finds for the array, or for the first batch of a data set: from biases of 0, images that are
    mostly bright kill the hidden units. A layer that was built starts as it is, unless it was built
    by `evaluate` or `predict` and its visible biases are still 0.

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
        **kwargs,
    ):
        if not isinstance(rbm, RBM):
            raise ValueError(f"`rbm` must be an RBM. Received: {type(rbm).__name__}")
        check_tied(rbm, "ContrastiveDivergence")
        negatives = chosen_negatives(persistent_chains, negatives)
        super().__init__(**kwargs)
        self.rbm = rbm
        self._negatives, self._centered = negatives, centered
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction_cost")
        self.free_energy_tracker = keras.metrics.Mean(name="free_energy")
        check_count("likelihood_chains", likelihood_chains, least=0)
        self.live = LiveLikelihood(likelihood_chains) if likelihood_chains else None
        if self.live is not None and self.distributed:
            raise ValueError(
                "`likelihood_chains` must be 0 under a `tf.distribute` strategy, where each "
                f"replica would follow its own path. Received: {likelihood_chains}"
            )

    negatives = property(lambda self: self._negatives, doc="Where v⁽ᵏ⁾ comes from.")
    centered = property(lambda self: self._centered, doc="Whether the gradient is centered.")
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
        if not self.built:
            self.build((None, self.rbm.number_visible_units))

    def build(self, input_shape):
        if not self.rbm.built:
            self.rbm.build(input_shape)
        self.negatives.start(self.rbm)
        self.offsets = offset_variables(self, self.rbm) if self.centered else ()
        if self.live is not None:
            self.live.start(self.rbm)

    def prepare(self):
        if self.live is not None and int(self.live.updates) == 0:
            self.live.begin(self.rbm)

    def call(self, v, training=False):
        return self.rbm(v, training=training)

    def default_optimizer(self):
        return keras.optimizers.SGD(self.rbm.learning_rate)

    def settings(self):
        return (self.rbm.cd_steps,)

    def check(self, x, y=None):
        self.rbm.visible_units.checked(x)
        if self.live is not None:
            self.rbm.visible_units.check_states("x", x)

    def batch_loss(self, x, y, y_pred, weights, training):
        if y is not None:
            raise ValueError(
                f"An RBM learns from `x` alone: pass images without labels. Received: y={y}"
            )
        rbm = self.rbm
        x = rbm.visible_units.checked(ops.cast(x, rbm.vb.dtype))
        if self.live is not None:
            x = self.live.watch(self.rbm, x, weights, self.optimizer if training else None)
        if training:
            contrast = contrast_with_model(rbm, x, self.negatives, self.offsets, weights)
            h, free_energy = contrast.h, contrast.free_energy
            loss = contrast.loss + sum(self.losses)
        else:
            h, free_energy = rbm.forward(x), rbm.free_energy(x)
            loss = batch_mean(free_energy, weights)
        self.free_energy_tracker.update_state(free_energy, weights)
        costs = rbm.visible_units.cross_entropy(x, rbm.visible_logits(h))
        self.reconstruction_tracker.update_state(costs, weights)
        return loss / replicas()  # Keras sums over them

    def get_config(self):
        return {
            **super().get_config(),
            "rbm": keras.saving.serialize_keras_object(self.rbm),
            "centered": self.centered,
            "negatives": keras.saving.serialize_keras_object(self.negatives),
            "likelihood_chains": self.live.number if self.live is not None else 0,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**with_objects(config, "rbm", "negatives"))
