"""Contrastive divergence as a Keras model: the small model *is* the training procedure.

Chapter 4 derives the loss, chapter 6 trains on real digits.
"""

import numbers
from collections.abc import Callable

import keras
import tensorflow as tf
from keras import ops

from rbm_tutorial.data import flatten_image
from rbm_tutorial.rbm import RBM, check_count, check_finite, checked_unit_interval


def with_centered_gradient(w, hb, vb, visible_offset, hidden_offset):
    """The parameters themselves, with the gradient of a machine whose units are centered.

    With energy -(v - μ)·a - (h - λ)·b - (v - μ)·W·(h - λ) the gradient ascends  Δ⟨(v - μ)(h - λ)⟩,
    Δ⟨h⟩, Δ⟨v⟩  instead of Δ⟨vh⟩, Δ⟨h⟩, Δ⟨v⟩. The machine with biases vb = a - W·λ and
    hb = b - μ·W is the same, so the ascent is carried over to (w, hb, vb).

    Source: Melchior, Fischer & Wiskott, How to center deep Boltzmann machines (2016), algorithm 1.
    """

    @tf.custom_gradient
    def identity(w, hb, vb):
        def gradient(dw, dhb, dvb):
            dw = dw - ops.outer(visible_offset, dhb) - ops.outer(dvb, hidden_offset)
            dhb = dhb - ops.matmul(visible_offset, dw)
            return dw, dhb, dvb - ops.matmul(dw, hidden_offset)

        return (w, hb, vb), gradient

    return identity(w, hb, vb)


@keras.saving.register_keras_serializable("rbm_tutorial")
class ContrastiveDivergence(keras.Model):
    """Trains an RBM through `compile` and `fit` on  mean F(x) - mean F(v⁽ᵏ⁾),  v⁽ᵏ⁾ held constant.

    v⁽ᵏ⁾ ends `rbm.cd_steps` Gibbs steps that start at the batch (CD-k; Hinton 2002) or, with
    `persistent_chains`, where the previous batch left the chains (PCD; Tieleman 2008).

    Args:
        rbm: the `RBM` to train, tied.
        persistent_chains: 0 for CD; the number of chains for PCD. They start at draws from
            p(v | h=0), live in `chains`, (persistent_chains, visible), and are saved.
        centered: whether to follow the gradient of the machine with centered units, which does not
            depend on which value of a pixel is called 1. The offsets are moving averages, over
            about 100 batches, of the data and of p(h=1 | data); they start at 1/2.

    `fit` and `evaluate` take x, an array or `tf.data.Dataset` of (batch, visible) in [0, 1] without
    targets, and report per-example means in nats: `reconstruction_cost` and `free_energy` of the
    data, and `loss`. In training the loss is the difference above plus any penalties of the layer
    (`activity_regularizer`); in evaluation it is the mean free energy, so that validation draws no
    random numbers and never changes a run. `predict` gives p(h=1 | v).

    Raises: `ValueError` for an untied layer, empty data, targets, wrong shapes; for values outside
    [0, 1] (NaN included) `tf.errors.InvalidArgumentError` inside `fit`, `ValueError` if it runs
    eagerly, and nothing if `jit_compile=True` was asked for, since XLA drops assertions.
    """

    def __init__(self, rbm: RBM, persistent_chains: int = 0, centered: bool = False, **kwargs):
        if not isinstance(rbm, RBM):
            raise ValueError(f"`rbm` must be an RBM. Received: {type(rbm).__name__}")
        rbm.require_tied("ContrastiveDivergence")
        if persistent_chains != 0:
            check_count("persistent_chains", persistent_chains)
        super().__init__(**kwargs)
        self.supports_jit = False  # for "auto": XLA would drop the check of the data
        self.rbm = rbm
        self.persistent_chains = persistent_chains
        self.centered = centered
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction_cost")
        self.free_energy_tracker = keras.metrics.Mean(name="free_energy")

    def build(self, input_shape):
        if not self.rbm.built:
            self.rbm.build(input_shape)
        if self.persistent_chains:
            no_hidden = ops.zeros((self.persistent_chains, self.rbm.number_hidden_units))
            self.chains = self.add_weight(
                shape=(self.persistent_chains, self.rbm.number_visible_units),
                initializer=lambda shape, dtype: ops.cast(self.rbm.sample_v(no_hidden), dtype),
                trainable=False,
                name="chains",
            )
        if self.centered:
            half = {
                "initializer": keras.initializers.Constant(0.5),
                "dtype": self.rbm.vb.dtype,
                "trainable": False,
            }
            self.visible_offset = self.add_weight(
                shape=self.rbm.vb.shape, name="visible_offset", **half
            )
            self.hidden_offset = self.add_weight(
                shape=self.rbm.hb.shape, name="hidden_offset", **half
            )

    def call(self, v):
        return self.rbm(v)

    def fit(self, *args, **kwargs):
        """As in Keras, but data without any example are an error."""
        history = super().fit(*args, **kwargs)
        if history.epoch and "loss" not in history.history:
            raise ValueError("`x` must hold at least one example. Received no example.")
        return history

    def sample_negatives(self, x):
        """Draw v⁽ᵏ⁾: (batch, visible) from the data, or (persistent_chains, visible) in {0, 1}."""
        if not self.persistent_chains:
            return self.rbm.forward_gibbs(x)
        self.chains.assign(self.rbm.forward_gibbs(self.chains))
        return self.chains.value

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if y is not None:
            raise ValueError(
                f"An RBM learns from `x` alone: pass images without labels. Received: y={y}"
            )
        x = checked_unit_interval(ops.cast(x, self.rbm.vb.dtype))
        self.reconstruction_tracker.update_state(
            self.rbm.reconstruction_cost(x), sample_weight=ops.shape(x)[0]
        )
        if not training:
            free_energy = self.rbm.free_energy(x)
            self.free_energy_tracker.update_state(free_energy)
            return ops.mean(free_energy)
        with tf.control_dependencies([x]):  # refused data must not move the chains
            v_k = ops.stop_gradient(self.sample_negatives(x))
        with keras.StatelessScope(self._centered_parameters(x) if self.centered else []):
            free_energy, free_energy_k = self.rbm.free_energy(x), self.rbm.free_energy(v_k)
        self.free_energy_tracker.update_state(free_energy)
        return ops.mean(free_energy) - ops.mean(free_energy_k) + sum(self.losses)

    def _centered_parameters(self, x):
        """Pairs of the layer's variables and what stands for them in the loss."""
        for offset, mean in [
            (self.visible_offset, ops.mean(x, axis=0)),
            (self.hidden_offset, ops.mean(self.rbm.forward(x), axis=0)),
        ]:
            offset.assign(0.99 * offset + 0.01 * ops.stop_gradient(mean))
        variables = [self.rbm.w_rec, self.rbm.hb, self.rbm.vb]
        values = [ops.convert_to_tensor(variable) for variable in variables]
        offsets = self.visible_offset.value, self.hidden_offset.value
        return list(zip(variables, with_centered_gradient(*values, *offsets)))

    def get_config(self):
        return {
            **super().get_config(),
            "rbm": keras.saving.serialize_keras_object(self.rbm),
            "persistent_chains": self.persistent_chains,
            "centered": self.centered,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "rbm": keras.saving.deserialize_keras_object(config["rbm"])})


class _StopWhenSettled(keras.callbacks.Callback):
    """Stop when the epoch's reconstruction cost changes by no more than `tolerance` nats."""

    def __init__(self, tolerance):
        super().__init__()
        self.tolerance = tolerance
        self.last_cost = float("inf")

    def on_epoch_end(self, epoch, logs=None):
        if "reconstruction_cost" not in logs:
            raise ValueError("`data` must hold at least one example. Received no example.")
        cost = logs["reconstruction_cost"]
        if abs(self.last_cost - cost) <= self.tolerance:
            self.model.stop_training = True
        self.last_cost = cost


def train_rbm(
    rbm: RBM,
    data,
    map_fn: Callable = flatten_image,
    num_epochs: int = 1000,
    tolerance: float = 1e-3,
    batch_size: int = 32,
    shuffle_buffer: int = 1024,
    verbose: int | str = "auto",
    callbacks: tuple = (),
) -> RBM:
    """Train `rbm` by CD and plain gradient descent until its reconstruction cost settles.

    Stops after `num_epochs`, or earlier, when the cost of an epoch differs from that of the epoch
    before by at most `tolerance` nats.

    Args:
        rbm: the layer, tied; its `learning_rate`, `cd_steps` and `seed` are used.
        data: a `tf.data.Dataset` of single examples, mapped by `map_fn`; or an array (examples,
            visible) in [0, 1], which is used as it is.
        map_fn: makes of an example an image (visible,) in [0, 1]; of (image, label) the image is
            used.
        num_epochs, tolerance, batch_size: see above. The last batch of an epoch may be short.
        shuffle_buffer: number of examples among which each next one is drawn. The same seed of
            the layer gives the same order, and the same weights.
        verbose: "auto" draws Keras' progress bar, 2 prints a line an epoch, 0 is silent.
        callbacks: further Keras callbacks, such as `keras.callbacks.History()`.

    Returns: the same layer, trained.
    Raises: as `ContrastiveDivergence`; `ValueError` for empty or infinite data or counts below 1.
    """
    for name, value in [
        ("num_epochs", num_epochs),
        ("batch_size", batch_size),
        ("shuffle_buffer", shuffle_buffer),
    ]:
        check_count(name, value)
    if not isinstance(tolerance, numbers.Real) or not tolerance >= 0:
        raise ValueError(f"`tolerance` must be at least 0 nats. Received: {tolerance!r}")
    check_finite("data", data)
    if isinstance(data, tf.data.Dataset):
        images = data.map(map_fn, num_parallel_calls=tf.data.AUTOTUNE).map(_without_label)
    else:
        images = tf.data.Dataset.from_tensor_slices(ops.convert_to_tensor(data, dtype="float32"))
    if images.cardinality() == 0:
        raise ValueError("`data` must hold at least one example. Received no example.")
    batches = images.shuffle(shuffle_buffer, seed=rbm.seed).batch(batch_size)

    model = ContrastiveDivergence(rbm)
    model.compile(keras.optimizers.SGD(rbm.learning_rate))
    model.fit(
        batches.prefetch(tf.data.AUTOTUNE),
        epochs=num_epochs,
        shuffle=False,  # `batches` are shuffled already
        verbose=verbose,
        callbacks=[_StopWhenSettled(tolerance), *callbacks],
    )
    return rbm


def _without_label(image, label=None):
    return image
