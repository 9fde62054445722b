"""Contrastive divergence as a Keras model: the small model *is* the training procedure.

Chapter 4 derives the loss, chapter 6 trains on real digits.
"""

import contextlib
import inspect
import math
import numbers
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import (
    BACKEND,
    after,
    batches_of,
    distributed,
    is_dataset,
    replicas,
    several_workers,
    untuned,
)
from rbm_tutorial.data import flatten_image
from rbm_tutorial.rbm import (
    RBM,
    check_count,
    check_finite,
    checked_unit_interval,
)


def _size(rows):
    # At least 1: of a short batch, a replica under `tf.distribute` may get no rows.
    return ops.cast(ops.maximum(ops.shape(rows)[0], 1), rows.dtype)


def batch_mean(rows):
    """Mean over the first axis; of no rows 0, not NaN."""
    return ops.sum(rows, axis=0) / _size(rows)


def contrastive_gradient(x, h, v_k, h_k):
    """Gradient of mean F(x) - mean F(v⁽ᵏ⁾) in (w, hb, vb): Δ⟨vh⟩, Δ⟨h⟩, Δ⟨v⟩, model minus data.

    h and h_k are p(h=1 | x) and p(h=1 | v⁽ᵏ⁾), (batch, hidden); x and v⁽ᵏ⁾ are (batch, visible).
    The number of chains may differ from that of examples.
    """
    h, h_k = h / _size(x), h_k / _size(v_k)
    dw = ops.matmul(ops.transpose(v_k), h_k) - ops.matmul(ops.transpose(x), h)
    dvb = batch_mean(v_k) - batch_mean(x)
    return dw, ops.sum(h_k, axis=0) - ops.sum(h, axis=0), dvb


def centered_gradient(dw, dhb, dvb, visible_offset, hidden_offset):
    """The gradient of a machine whose units are centered, carried over to (w, hb, vb).

    With energy -(v - μ)·a - (h - λ)·b - (v - μ)·W·(h - λ) the gradient is  Δ⟨(v - μ)(h - λ)⟩, Δ⟨h⟩,
    Δ⟨v⟩  instead of Δ⟨vh⟩, Δ⟨h⟩, Δ⟨v⟩. The machine with biases vb = a - W·λ and hb = b - μ·W is the
    same.

    Source: Melchior, Fischer & Wiskott, How to center deep Boltzmann machines (2016), algorithm 1.
    """
    dw = dw - ops.outer(visible_offset, dhb) - ops.outer(dvb, hidden_offset)
    return dw, dhb - ops.matmul(visible_offset, dw), dvb - ops.matmul(dw, hidden_offset)


# Arguments of `fit` that leave it to batch an array and to shuffle it.
SIMPLE = {"x", "batch_size", "epochs", "verbose", "callbacks", "shuffle", "initial_epoch"} | {
    "validation_data", "validation_steps", "validation_batch_size", "validation_freq"
}  # fmt: skip


@ops.custom_gradient
def with_gradient(value, w, hb, vb, dw, dhb, dvb):
    """`value`, with (dw, dhb, dvb) for its gradient in (w, hb, vb), and none in anything else."""

    def gradient(*args, upstream=None):
        (upstream,) = args if upstream is None else (upstream,)
        given = [upstream * d for d in (dw, dhb, dvb)]
        return ops.zeros_like(value), *given, *(ops.zeros_like(d) for d in (dw, dhb, dvb))

    return value, gradient


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
    eagerly; with KERAS_BACKEND=jax `ValueError`, for arrays at once, for data sets at the end of
    the epoch.
    """

    def __init__(self, rbm: RBM, persistent_chains: int = 0, centered: bool = False, **kwargs):
        if not isinstance(rbm, RBM):
            raise ValueError(f"`rbm` must be an RBM. Received: {type(rbm).__name__}")
        rbm.require_tied("ContrastiveDivergence")
        if persistent_chains != 0:
            check_count("persistent_chains", persistent_chains)
        super().__init__(**kwargs)
        # In TensorFlow XLA would drop the check of the data: Keras then does without it, and warns.
        self.supports_jit = BACKEND == "jax"
        self.distributed = distributed()
        self.rbm = rbm
        self.persistent_chains = persistent_chains
        self.centered = centered
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction_cost")
        self.free_energy_tracker = keras.metrics.Mean(name="free_energy")

    def build(self, input_shape):
        if not self.rbm.built:
            self.rbm.build(input_shape)
        if self.persistent_chains:
            no_hidden = np.zeros((self.persistent_chains, self.rbm.number_hidden_units))
            self.chains = keras.Variable(
                lambda shape, dtype: self.rbm.sample_v(no_hidden),
                shape=(self.persistent_chains, self.rbm.number_visible_units),
                dtype=self.rbm.vb.dtype,
                trainable=False,
                name="chains",
                synchronization="on_read",  # under tf.distribute each replica has its own
                aggregation="only_first_replica",
            )
        if self.centered:
            half = {
                "initializer": keras.initializers.Constant(0.5),
                "dtype": self.rbm.vb.dtype,
                "trainable": False,
                "aggregation": "mean",
            }
            self.visible_offset = self.add_weight(
                shape=self.rbm.vb.shape, name="visible_offset", **half
            )
            self.hidden_offset = self.add_weight(
                shape=self.rbm.hb.shape, name="hidden_offset", **half
            )

    def call(self, v):
        return self.rbm(v)

    def compile(self, *args, steps_per_execution: int | None = None, **kwargs):
        """As in Keras, but by default 16 updates run between two returns to Python.

        Callbacks of batches, then, are called once in 16 batches. Under a `tf.distribute` strategy,
        where Keras 3.15 cannot do it, the default is 1.
        """
        if steps_per_execution is None:
            steps_per_execution = 1 if self.distributed else 16
        super().compile(*args, steps_per_execution=steps_per_execution, **kwargs)

    def compile_from_config(self, config):
        # Keras leaves this to models with a `compile` of their own.
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, *args, **kwargs):
        """As in Keras, but data without any example are an error.

        Arrays are batched by `batches_of`, unless an argument asks for more than that.
        """
        given = inspect.signature(super().fit).bind(*args, **kwargs).arguments
        x, shuffle = given.get("x"), given.get("shuffle", True)
        if BACKEND == "jax":
            _check_array(x)  # while the weights are as they were
            callbacks = keras.tree.flatten(given.get("callbacks") or [])
            given["callbacks"] = [_RefuseNaN(), *callbacks]
        simple = given.keys() <= SIMPLE and isinstance(shuffle, bool) and isinstance(x, np.ndarray)
        if simple and BACKEND == "tensorflow" and not self.distributed:
            size = given.pop("batch_size", None)
            given["x"] = batches_of(x, 32 if size is None else size, shuffle)
            given = {"validation_batch_size": size, **given, "shuffle": False}
        given["x"] = untuned(given.get("x"))
        nothing = ValueError("`x` must hold at least one example. Received no example.")
        try:
            steps = given.get("steps_per_epoch"), given.get("validation_steps")
            with self._executions_within(*steps):
                history = super().fit(**given)
        except StopIteration:  # Keras on JAX
            raise nothing from None
        if history.epoch and "loss" not in history.history:
            raise nothing
        return history

    def evaluate(self, *args, **kwargs):
        """As in Keras."""
        given = inspect.signature(super().evaluate).bind(*args, **kwargs).arguments
        given |= given.pop("kwargs", {})
        if BACKEND == "jax":
            _check_array(given.get("x"))
        with self._executions_within(given.get("steps")):
            return super().evaluate(**given)

    def predict(self, *args, **kwargs):
        """As in Keras."""
        given = inspect.signature(super().predict).bind(*args, **kwargs).arguments
        with self._executions_within(given.get("steps")):
            return super().predict(**given)

    @contextlib.contextmanager
    def _executions_within(self, *steps):
        """Let no execution go beyond so many batches, as one of Keras 3.15 otherwise does."""
        names = ["steps_per_execution", "train_function", "test_function", "predict_function"]
        before = {name: getattr(self, name) for name in names}
        updates = math.gcd(self.steps_per_execution, *(count or 0 for count in steps))
        if updates == self.steps_per_execution:
            yield
            return
        for name, value in zip(names, [updates, None, None, None]):
            setattr(self, name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                setattr(self, name, value)

    def sample_negatives(self, x, h):
        """Draw v⁽ᵏ⁾, (batch or persistent_chains, visible) in {0, 1}; h is p(h=1 | x)."""
        rbm = self.rbm
        if not self.persistent_chains:
            v_k = rbm.sample_v(rbm._bernoulli(h))
            return rbm.forward_gibbs(v_k, rbm.cd_steps - 1) if rbm.cd_steps > 1 else v_k
        v_k = rbm.forward_gibbs(after(x, self.chains.value))
        self.chains.assign(v_k)
        return v_k

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if y is not None:
            raise ValueError(
                f"An RBM learns from `x` alone: pass images without labels. Received: y={y}"
            )
        x = checked_unit_interval(ops.cast(x, self.rbm.vb.dtype))
        if not training:
            free_energy = self.rbm.free_energy(x)
            self._monitor(x, self.rbm.forward(x), free_energy)
            return batch_mean(free_energy) / replicas()
        return (self.contrast(x)[0] + sum(self.losses)) / replicas()  # Keras sums over them

    def contrast(self, x):
        """mean F(x) - mean F(v⁽ᵏ⁾), with its gradient in the weights of the RBM, and v⁽ᵏ⁾."""
        rbm = self.rbm
        logits = rbm._hidden_logits(x)
        h = ops.sigmoid(logits)
        v_k = self.sample_negatives(x, h)
        logits_k = rbm._hidden_logits(v_k)
        free_energy = rbm._free_energy(x, logits)
        self._monitor(x, h, free_energy)
        difference = batch_mean(free_energy) - batch_mean(rbm._free_energy(v_k, logits_k))
        gradient = contrastive_gradient(x, h, v_k, ops.sigmoid(logits_k))
        if self.centered:
            gradient = centered_gradient(*gradient, *self._move_offsets(x, h))
        constants = [ops.stop_gradient(constant) for constant in (difference, *gradient)]
        return with_gradient(constants[0], rbm.w_rec, rbm.hb, rbm.vb, *constants[1:]), v_k

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        if not several_workers():
            return logs
        # Keras 3.15 averages the logs of several workers over their first axis: give them one.
        return {name: ops.reshape(value, (1,)) for name, value in logs.items()}

    def _monitor(self, x, h, free_energy):
        self.free_energy_tracker.update_state(free_energy)
        costs = self.rbm._visible_cost(x, self.rbm._visible_logits(h))
        self.reconstruction_tracker.update_state(costs)

    def _move_offsets(self, x, h):
        for offset, units in [(self.visible_offset, x), (self.hidden_offset, h)]:
            rate = 0.01 * ops.cast(ops.minimum(ops.shape(units)[0], 1), offset.dtype)
            offset.assign(offset + rate * (batch_mean(units) - offset))
        return self.visible_offset.value, self.hidden_offset.value

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


def _check_array(x):
    if isinstance(x, np.ndarray) and len(x) > 0:
        checked_unit_interval(x)


class _RefuseNaN(keras.callbacks.Callback):
    """Raise after an epoch whose loss is NaN, as `checked` makes it on JAX.

    It comes before other callbacks, so that they save no such weights.
    """

    def on_epoch_end(self, epoch, logs=None):
        if np.isnan([logs.get("loss", 0.0), logs.get("val_loss", 0.0)]).any():
            raise ValueError(
                f"The loss of epoch {epoch} is NaN: all values must lie in [0, 1] and the learning "
                "rate must not be too large. The weights may be lost: begin again."
            )


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
            visible) in [0, 1], which is used as it is. TFDS decodes its images in each epoch;
            `data.cache()` decodes them once.
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
    import tensorflow as tf

    check_finite("data", data)
    if is_dataset(data):
        images = data.map(map_fn, num_parallel_calls=tf.data.AUTOTUNE).map(_without_label)
    else:
        images = tf.data.Dataset.from_tensor_slices(np.asarray(data, "float32"))
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
