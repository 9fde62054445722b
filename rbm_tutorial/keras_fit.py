"""`fit` for models that learn from values in [0, 1] without targets: what Keras 3.15 leaves to do.

Nothing here knows what an RBM is. Each part names the behavior of Keras or of a backend that it
answers, so that it can go when that does.
"""

import contextlib
import inspect
import math

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import BACKEND, distributed, several_workers
from rbm_tutorial.pipelines import shuffled_batches, without_autotuning

UPDATES_AN_EXECUTION = 16
# Arguments with which `fit` of Keras only batches and shuffles an array.
BATCHING = {"x", "batch_size", "epochs", "verbose", "callbacks", "shuffle", "initial_epoch"}
VALIDATION = {"validation_data", "validation_steps", "validation_batch_size", "validation_freq"}


class FastFit(keras.Model):
    """A Keras model whose `fit` makes 16 updates between two returns to Python.

    A subclass gives `compute_loss`, as for any Keras model, `check(x)`, which raises `ValueError`
    for an array from which the model cannot learn, `default_optimizer()`, and `settings()`.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_jit = BACKEND == "jax"  # on TensorFlow XLA would drop the check of the data
        self.distributed = distributed()
        self.traced_with = None

    def compile(self, optimizer=None, loss=None, *args, steps_per_execution=None, **kwargs):
        """Compile as Keras does, but by default 16 updates run between two returns to Python.

        Callbacks of batches, then, are called once in 16 batches. Under a `tf.distribute` strategy,
        where Keras 3.15 cannot do it, the default is 1. Without an optimizer the model chooses.
        Raises: `ValueError` for a loss, since the model has its own.
        """
        if loss is not None:
            raise ValueError(f"`loss` must be left out: the model has its own. Received: {loss!r}")
        if steps_per_execution is None:
            steps_per_execution = 1 if self.distributed else UPDATES_AN_EXECUTION
        if optimizer is None:
            optimizer = self.default_optimizer()
        super().compile(optimizer, None, *args, steps_per_execution=steps_per_execution, **kwargs)
        self.traced_with = self.settings()

    def compile_from_config(self, config):
        # Keras leaves this to models with a `compile` of their own. Whether XLA compiles depends on
        # the backend that loads the model, not on the one that saved it.
        config = {name: value for name, value in config.items() if name != "jit_compile"}
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, *args, **kwargs):
        """Train as Keras does, but data without any example are an error."""
        given = inspect.signature(super().fit).bind(*args, **kwargs).arguments
        if BACKEND == "jax":
            self._check_array(given.get("x"))  # while the weights are as they were
        callbacks = keras.tree.flatten(given.get("callbacks") or [])
        given["callbacks"] = [RaiseOnNaN(), *callbacks]
        given = self._batched(given)
        self._trace_anew_if_changed()
        steps = given.get("steps_per_epoch"), given.get("validation_steps")
        try:
            with self._weights_kept() as keep, self._no_step_beyond(*steps):
                given["callbacks"] = [*given["callbacks"], *keep]
                history = super().fit(**given)
        except StopIteration:  # Keras on JAX, for no data
            history = None
        if history is None or (history.epoch and "loss" not in history.history):
            raise ValueError("`x` must hold at least one example. Received no example.")
        return history

    def evaluate(self, *args, **kwargs):
        """Evaluate as Keras does."""
        given = inspect.signature(super().evaluate).bind(*args, **kwargs).arguments
        given |= given.pop("kwargs", {})  # `fit` passes a private one
        if BACKEND == "jax":
            self._check_array(given.get("x"))
        self._trace_anew_if_changed()
        with self._weights_kept(), self._no_step_beyond(given.get("steps")):
            result = super().evaluate(**given)
        if np.isnan(keras.tree.flatten(result)).any():  # JAX cannot raise in a compiled function
            raise ValueError(
                "`x` must hold values in [0, 1] alone. Received others: a mean is NaN."
            )
        return result

    def predict(self, *args, **kwargs):
        """Predict as Keras does."""
        given = inspect.signature(super().predict).bind(*args, **kwargs).arguments
        with self._weights_kept(), self._no_step_beyond(given.get("steps")):
            return super().predict(**given)

    def train_on_batch(self, x, *args, **kwargs):
        """Make one update as Keras does."""
        if BACKEND == "jax":
            self._check_array(x)
        self._trace_anew_if_changed()
        with self._weights_kept():
            return super().train_on_batch(x, *args, **kwargs)

    def settings(self):
        """What a compiled update depends on beside its tensors; the model says what."""
        return ()

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logs = super().compute_metrics(x, y, y_pred, sample_weight)
        if not several_workers():
            return logs
        # Keras 3.15 averages the logs of several workers over their first axis: give them one.
        return {name: ops.reshape(value, (1,)) for name, value in logs.items()}

    def _check_array(self, x):
        if isinstance(x, np.ndarray) and len(x) > 0:
            self.check(x)

    def _batched(self, given):
        """Give Keras arrays on TensorFlow as a pipeline, and pipelines without autotuning."""
        x, shuffle = given.get("x"), given.get("shuffle", True)
        plain = given.keys() <= BATCHING | VALIDATION and isinstance(shuffle, bool)
        if plain and isinstance(x, np.ndarray) and BACKEND == "tensorflow" and not self.distributed:
            size = given.pop("batch_size", None)
            x = shuffled_batches(x, 32 if size is None else size, shuffle)
            given = {"validation_batch_size": size, **given, "shuffle": False}
        return {**given, "x": without_autotuning(x)}

    def _trace_anew_if_changed(self):
        """Let a changed setting take effect, though compiled functions keep the one they saw."""
        if self.settings() != self.traced_with:
            self.train_function = self.test_function = None
            self.traced_with = self.settings()

    @contextlib.contextmanager
    def _weights_kept(self):
        """Put back the state at the start, or of the last epoch, if anything goes wrong on JAX.

        There Keras gives the memory of all variables to the running step. Gives the callbacks that
        look after it.
        """
        if BACKEND != "jax":
            yield []
            return
        kept = KeepState()
        kept.look_at(self)
        try:
            yield [kept]
        except BaseException:
            kept.put_back()
            raise

    @contextlib.contextmanager
    def _no_step_beyond(self, *steps):
        """Shorten executions so that they divide `steps`; one of Keras 3.15 would run on."""
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


class KeepState(keras.callbacks.Callback):
    """Copy all variables of the model after every epoch."""

    def look_at(self, model):
        """Copy the variables as they are now."""
        optimizer = model.optimizer.variables if model.compiled else []
        variables = [*model.variables, *optimizer, *model.metrics_variables]
        self.copies = [(variable, ops.copy(variable.value)) for variable in variables]

    def put_back(self):
        """Give the variables the values that were copied last."""
        for variable, value in self.copies:
            variable.assign(value)

    def on_epoch_end(self, epoch, logs=None):
        self.look_at(self.model)


class RaiseOnNaN(keras.callbacks.Callback):
    """Raise after an epoch whose loss is NaN, before other callbacks save its weights.

    Learning diverged; or, on JAX, where a compiled function cannot raise, values were bad.
    """

    def on_epoch_end(self, epoch, logs=None):
        if np.isnan([logs.get("loss", 0.0), logs.get("val_loss", 0.0)]).any():
            raise ValueError(
                f"The loss of epoch {epoch} is NaN: all values must lie in [0, 1] and the learning "
                "rate must not be too large. On JAX the weights are those of the epoch before."
            )
