"""Contrastive divergence as a Keras model: the small model *is* the training procedure.

Chapter 4 derives the loss, chapter 6 trains on real digits.
"""

from typing import NamedTuple

import keras
from keras import ops

from rbm_tutorial.backend import replicas
from rbm_tutorial.checks import check_tied
from rbm_tutorial.keras_fit import FastFit
from rbm_tutorial.negatives import chosen_negatives
from rbm_tutorial.rbm import RBM
from rbm_tutorial.saving import with_objects

OFFSET_MEMORY = 100  # batches


def row_count(rows):
    """Number of rows, at least 1: a replica under `tf.distribute` may get none of a short batch."""
    return ops.cast(ops.maximum(ops.shape(rows)[0], 1), rows.dtype)


def batch_mean(rows):
    """Mean over the first axis; of no rows 0, not NaN."""
    return ops.sum(rows, axis=0) / row_count(rows)


def statistics(v, h):
    """⟨vh⟩, ⟨h⟩, ⟨v⟩ of a batch, h = p(h=1 | v): minus the gradient of mean F in (w, hb, vb)."""
    h = h / row_count(v)
    return ops.matmul(ops.transpose(v), h), ops.sum(h, axis=0), batch_mean(v)


def contrastive_gradient(x, h, v_k, h_k):
    """Gradient of mean F(x) - mean F(v⁽ᵏ⁾) in (w, hb, vb): statistics of model minus data.

    h and h_k are p(h=1 | x) and p(h=1 | v⁽ᵏ⁾), (batch, hidden); x and v⁽ᵏ⁾ are (batch, visible).
    The number of chains may differ from that of examples.
    """
    return [model - data for model, data in zip(statistics(v_k, h_k), statistics(x, h))]


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
        h: p(h=1 | x), (batch, hidden).
        free_energy: F(x), (batch,) nats.
    """

    loss: object
    v_k: object
    h: object
    free_energy: object


def contrast_with_model(rbm, x, negatives, offsets=()):
    """Contrast a batch, (batch, visible), with samples of the model: → `Contrast`.

    With `offsets`, those of `offset_variables`, the gradient is centered. Draws random numbers, and
    moves chains and offsets.
    """
    logits = rbm.hidden_logits(x)
    v_k = negatives.draw(rbm, x, logits)
    logits_k = rbm.hidden_logits(v_k)
    h, h_k = rbm.hidden_units.mean(logits), rbm.hidden_units.mean(logits_k)
    free_energy = rbm.free_energy(x, logits)
    difference = batch_mean(free_energy) - batch_mean(rbm.free_energy(v_k, logits_k))
    gradient = contrastive_gradient(x, h, v_k, h_k)
    if offsets:
        gradient = centered_gradient(*gradient, *moved_offsets(offsets, x, h))
    constants = [ops.stop_gradient(constant) for constant in (difference, *gradient)]
    loss = with_gradient(constants[0], rbm.w_rec, rbm.hb, rbm.vb, *constants[1:])
    return Contrast(loss, v_k, h, free_energy)


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


def moved_offsets(offsets, x, h):
    """Move the offsets to the mean over all batches so far, or over about the last hundred.

    → mean visible unit, (visible,), and mean hidden unit, (hidden,); after one batch its means. A
    replica that got no examples of a short batch changes nothing.
    """
    *means, batches = offsets
    some = ops.cast(ops.minimum(ops.shape(x)[0], 1), batches.dtype)
    batches.assign(batches + some)
    rate = some / ops.clip(batches.value, 1, OFFSET_MEMORY)
    for offset, rows in zip(means, (x, h)):
        offset.assign(offset + rate * (batch_mean(rows) - offset))
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

    Attributes:
        chains: states of the persistent chains, (chains, visible).
        offsets: of the centered gradient, (visible,) and (hidden,), and the number of batches.

    `compile` without an optimizer takes `SGD(rbm.learning_rate)`. `fit` and `evaluate` take x, an
    array or `tf.data.Dataset` of (batch, visible) in [0, 1] without targets, and report per-example
    means in nats: `reconstruction_cost` and `free_energy` of the data, and `loss`. In training the
    loss is the difference above plus any penalties of the layer (`activity_regularizer`); in
    evaluation it is the mean free energy, so that validation draws no random numbers and never
    changes a run. `predict` gives p(h=1 | v).

    Raises: `ValueError` for an untied layer, empty data, targets, wrong shapes; for values outside
    [0, 1] (NaN included) `tf.errors.InvalidArgumentError` inside `fit`, `ValueError` if it runs
    eagerly; with KERAS_BACKEND=jax `ValueError`, for arrays at once, for data sets at the end of
    the epoch.
    """

    def __init__(
        self,
        rbm: RBM,
        persistent_chains: int = 0,
        centered: bool = False,
        negatives=None,
        **kwargs,
    ):
        if not isinstance(rbm, RBM):
            raise ValueError(f"`rbm` must be an RBM. Received: {type(rbm).__name__}")
        check_tied(rbm, "ContrastiveDivergence")
        negatives = chosen_negatives(persistent_chains, negatives)
        super().__init__(**kwargs)
        self.rbm = rbm
        self.negatives = negatives
        self.centered = centered
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction_cost")
        self.free_energy_tracker = keras.metrics.Mean(name="free_energy")

    def build(self, input_shape):
        if not self.rbm.built:
            self.rbm.build(input_shape)
        self.negatives.start(self.rbm)
        self.offsets = offset_variables(self, self.rbm) if self.centered else ()

    @property
    def chains(self):
        return self.negatives.chains

    def call(self, v, training=False):
        return self.rbm(v, training=training)

    def default_optimizer(self):
        return keras.optimizers.SGD(self.rbm.learning_rate)

    def settings(self):
        return self.rbm.cd_steps, self.centered, self.negatives

    def check(self, x):
        self.rbm.visible_units.checked(x)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if y is not None:
            raise ValueError(
                f"An RBM learns from `x` alone: pass images without labels. Received: y={y}"
            )
        rbm = self.rbm
        x = rbm.visible_units.checked(ops.cast(x, rbm.vb.dtype))
        if training:
            contrast = contrast_with_model(rbm, x, self.negatives, self.offsets)
            h, free_energy = contrast.h, contrast.free_energy
            loss = contrast.loss + sum(self.losses)
        else:
            h, free_energy = rbm.forward(x), rbm.free_energy(x)
            loss = batch_mean(free_energy)
        self.free_energy_tracker.update_state(free_energy)
        costs = rbm.visible_units.cross_entropy(x, rbm.visible_logits(h))
        self.reconstruction_tracker.update_state(costs)
        return loss / replicas()  # Keras sums over them

    def get_config(self):
        return {
            **super().get_config(),
            "rbm": keras.saving.serialize_keras_object(self.rbm),
            "centered": self.centered,
            "negatives": keras.saving.serialize_keras_object(self.negatives),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**with_objects(config, "rbm", "negatives"))
