"""`fit` for models that learn from values in [0, 1] without targets: what Keras 3.15 leaves to do.

Nothing here knows what an RBM is. Each part names the behavior of Keras or of a backend that it
answers, so that it can go when that does.
"""

import inspect
import weakref

import keras
import numpy as np
from keras import ops

from rbm_tutorial import executions, pipelines
from rbm_tutorial.backend import BACKEND, replicas
from rbm_tutorial.checks import check_count, check_examples, check_matrix
from rbm_tutorial.examples import (
    EXAMPLES,
    check_batch,
    checked_weights,
    examples,
    images,
    shown_batch,
    with_first,
    without_placeholder,
)
from rbm_tutorial.fit_arguments import (
    batch_size_of,
    check_classes_weigh,
    check_devices_divide,
    check_own,
    check_pass,
    checked_loop,
    only_batched,
    untuned,
    untuned_data_set,
)
from rbm_tutorial.recovery import (
    RaiseOnNaN,
    WholeFiles,
    check_result,
    check_weights,
    only_data_end,
    place_told,
    validation_told,
    weights_kept,
)
from rbm_tutorial.saving import of_configuration

if BACKEND == "jax":
    from rbm_tutorial import blocks


class FastFit(executions.Executions, WholeFiles):
    """A Keras model whose `fit` makes many updates between two returns to Python.

    A subclass gives
        batch_loss(x, y, y_pred, weights, training) → scalar; weights, (batch,), may be `None`
        width               number of visible units, `None` if the model does not know it yet
        check(x, y=None, learns=True)  raises `ValueError` for what it cannot learn or judge
        start(x)            makes the weights, from the first batch of data (of an array: from all)
        look(x)             the same for an evaluation; if it sets `looked_at`, `fit` starts again
        prepare()           what else must be done before anything is traced
        watchers            functions of x, each of which makes a callback of its own for `fit`
        default_rate        of the SGD that `compile` takes without an optimizer
        settings()          what a compiled update depends on beside its tensors
        labeled             whether it learns from labels
    """

    labeled, width, looked_at, watchers = False, None, False, ()

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.traced_with = self.learning = self.rate = None
        self.block_function, self.shortened = None, {}

    def compile(self, optimizer=None, loss=None, *, steps_per_execution=None, **kwargs):
        """Compile as Keras does, but by default many updates run between two returns to Python.

        With `jit_compile=True` XLA compiles on TensorFlow, too, which pays for long runs, and bad
        values of data sets are errors only at the end of an epoch, as on JAX; draws are others.

        `steps_per_execution` is their number, on TensorFlow 16, on JAX 64: callbacks of batches are
        called once in so many. Under a `tf.distribute` strategy, where Keras 3.15 cannot do it, the
        default is 1. Without an optimizer it is `SGD(default_rate)`, and `fit` follows that rate.
        Raises: `ValueError` for a loss and metrics, since the model has its own, and in callbacks.
        """
        executions.check_not_running(self, "`compile`")
        check_own({"loss": loss, **kwargs})
        self.steps_chosen = steps_per_execution is not None
        check_count("steps_per_execution", steps_per_execution if self.steps_chosen else 1)
        steps_per_execution = executions.updates_an_execution(self, steps_per_execution)
        self.rate = self.default_rate if optimizer is None else None
        optimizer = keras.optimizers.SGD(self.rate) if optimizer is None else optimizer
        kwargs["jit_compile"] = self.chosen(kwargs.get("jit_compile", "auto"))
        super().compile(optimizer, None, steps_per_execution=steps_per_execution, **kwargs)
        if self.distributed:  # not by plain assignment: Keras would list it beside other metrics
            object.__setattr__(self, "_loss_tracker", executions.loss_of_replicas(self))
        self.forget_compiled()
        self.learning, self.followed = None, weakref.ref(self.optimizer)

    def get_compile_config(self):
        config = super().get_compile_config()
        own = {"rate": self.rate, "xla": BACKEND == "tensorflow" and self.jit_compile}
        config |= own if config else {}  # nothing of one that is not compiled
        return {n: v for n, v in config.items() if n != "steps_per_execution" or self.steps_chosen}

    def compile_from_config(self, config):
        # Keras leaves this to us. On JAX XLA compiles whatever was chosen on TensorFlow.
        with of_configuration("compile_config"):
            chosen = {"jit_compile": True} if BACKEND == "tensorflow" and config.get("xla") else {}
            own = ("jit_compile", "rate", "xla")
            of_keras = {name: v for name, v in config.items() if name not in own}
            self.compile(**keras.saving.deserialize_keras_object(of_keras), **chosen)
        self.rate = config.get("rate")
        if self.built:
            self.optimizer.build(self.trainable_variables)

    def fit(self, *args, **kwargs):
        """Train as Keras does, on arrays and data sets that are checked first.

        An array is shuffled by the global seed (`keras.utils.set_random_seed`). An example of
        weight 2 counts as two. What goes wrong leaves the weights of the last update, on JAX of the
        last epoch. Arrays may be copied first: do not change them in callbacks.
        """
        given = self._checked(inspect.signature(super().fit).bind(*args, **kwargs).arguments)
        given = checked_loop(given)
        size = batch_size_of(given["x"], given.get("batch_size"), given.get("steps_per_epoch"))
        check_devices_divide(given["x"], size)
        if given.get("validation_data") is not None:
            given = self._with_validation(given)
        given = self._ready(given)
        callbacks = keras.tree.flatten(given.get("callbacks") or [])
        given["callbacks"] = [RaiseOnNaN(), *(w(given["x"]) for w in self.watchers), *callbacks]
        steps = given.get("steps_per_epoch"), given.get("validation_steps")
        given, train_function = self._batched(given)
        self._initial_epoch = None  # Keras 3.15 would begin every later run where one was resumed
        keeping, stepping = place_told(self), executions.shorter_executions(self, *steps)
        ending, training = only_data_end(callbacks), executions.trained_by(self, train_function)
        with keeping as keep, stepping, ending, training, executions.running(self):
            follow = keras.callbacks.LambdaCallback(on_train_begin=self._follow_rate)
            given["callbacks"] = [*given["callbacks"], follow, *keep]
            history = super().fit(**given)
        check_examples("x", len(history.history) + (not history.epoch))
        return history

    def evaluate(self, *args, **kwargs):
        """Evaluate as Keras does, on what is checked first; `sample_weight` weighs the means."""
        given = inspect.signature(super().evaluate).bind(*args, **kwargs).arguments
        own = given.pop("kwargs", {})  # `fit` passes a private one, and what it has checked
        check_pass(given)
        given = given | own if own else self._ready(self._checked(given, False), learns=False)
        check_devices_divide(given.get("x"), given.get("batch_size") or 32)
        ending = only_data_end(keras.tree.flatten(given.get("callbacks") or []))
        stepping = executions.shorter_executions(self, given.get("steps"))
        told, keeping = validation_told(bool(own)), weights_kept(self)
        with told, keeping, stepping, ending, executions.running(self):
            result = super().evaluate(**untuned(given, self.distributed))
            check_examples("x", len(keras.tree.flatten(result)))
            check_result(self, result)
        return result

    def predict(self, *args, **kwargs):
        """Predict as Keras does, from what is checked first."""
        given = inspect.signature(super().predict).bind(*args, **kwargs).arguments
        check_pass(given)
        given = self._ready({**given, "x": self._checked_images(given.get("x"))}, learns=False)
        check_devices_divide(given["x"], given.get("batch_size") or 32)
        ending = only_data_end(keras.tree.flatten(given.get("callbacks") or []))
        stepping = executions.shorter_executions(self, given.get("steps"))
        with weights_kept(self), stepping, ending, executions.running(self):
            result = super().predict(**untuned(given, self.distributed))
            check_result(self, result)
        return result

    def train_on_batch(self, *args, **kwargs):
        """Make one update as Keras does."""
        self._follow_rate()
        return self._on_batch(super().train_on_batch, args, kwargs, learns=True)

    def test_on_batch(self, *args, **kwargs):
        """Evaluate one batch as Keras does."""
        return self._on_batch(super().test_on_batch, args, kwargs, learns=False)

    def predict_on_batch(self, x):
        """Predict one batch as Keras does."""
        check_batch(x)
        given = self._ready({"x": self._checked_images(x)}, learns=False)
        check_devices_divide(given["x"], len(given["x"]))
        with weights_kept(self):
            result = super().predict_on_batch(**given)
            check_result(self, result)
        return result

    def start(self, x):
        self.build((None, *x.shape[1:]))

    look = start

    def settings(self):
        return ()

    def prepare(self):
        pass

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        weights = None
        if sample_weight is not None:
            single = keras.backend.result_type(self.weights[0].dtype, "float32")
            weights = checked_weights(ops.reshape(ops.cast(sample_weight, single), (-1,)))
        return self.batch_loss(x, without_placeholder(y), y_pred, weights, training)

    def part_of_replica(self, loss, each):
        """What a replica adds to the loss of a batch, (), `each` the `Weighing` of its rows."""
        if self.distributed:
            self._loss_tracker.size = each.size
        return loss / replicas()  # Keras sums over them

    def _with_validation(self, given):
        """The arguments of `fit`, once `validation_data` are known to be like what it trains on."""
        width = self.width
        if width is None:
            batch, given["x"] = shown_batch(given["x"])
            check_matrix("x", batch, None)
            width = batch.shape[1]
        held_out = keras.utils.unpack_x_y_sample_weight(given["validation_data"])
        try:
            held_out = self._checked(dict(zip(EXAMPLES, held_out)), learns=False)
            batch, held_out["x"] = shown_batch(held_out["x"])
            check_matrix("x", batch, width)
            size = given.get("validation_batch_size") or given.get("batch_size")
            size = batch_size_of(held_out["x"], size, given.get("validation_steps"))
            check_devices_divide(held_out["x"], size)
        except ValueError as error:
            raise ValueError(f"Of `validation_data`: {error}") from error
        held_out = untuned({**held_out, "batch_size": size}, self.distributed)
        held_out = keras.utils.pack_x_y_sample_weight(*(held_out.get(name) for name in EXAMPLES))
        return {**given, "validation_data": held_out, "validation_batch_size": size}

    def _checked(self, given, learns=True):
        """The arguments of a method of Keras with x, y and weights as `examples` makes them."""
        check_classes_weigh(given.get("class_weight"), self.labeled)
        x, y, weights = examples(*(given.get(name) for name in EXAMPLES), self.labeled)
        self._check(x, y, learns)
        known = {name: v for name, v in zip(EXAMPLES, (x, y, weights)) if v is not None}
        return known | {name: v for name, v in given.items() if name not in EXAMPLES}

    def _checked_images(self, x):
        x = images(x, self.labeled)
        self._check(x, learns=False)
        return x

    def _check(self, x, y=None, learns=True):
        """Check what `examples` gave as far as it can be without reading a data set."""
        if pipelines.is_dataset(x) or isinstance(x, np.ndarray):
            check_matrix("x", shown_batch(x)[0], self.width)
        if isinstance(x, np.ndarray):
            self.check(np.asarray(x, "float32"), y, learns)

    def _ready(self, given, learns=True):
        """Make all weights before anything is traced: what is made in a trace dies with it."""
        with executions.scope_of(self):
            if not self.built or (learns and self.looked_at):
                first, given["x"] = with_first(given["x"])
                self._check(first, learns=learns)  # a mistake must not fix the width
                (self.start if learns else self.look)(first)
                self.looked_at = self.looked_at and not learns
            if learns and self.compiled and not self.optimizer.built:
                self.optimizer.build(self.trainable_variables)
            check_weights(self)
            self.prepare()
        if learns:
            self.learning = executions.learning_of(self)
        if (self.settings(), *executions.chosen_by(self)) != self.traced_with:
            executions.check_not_running(self, "A change of settings")
            self.forget_compiled()
        return given

    def _follow_rate(self, logs=None):
        """Let a rate count that the layer was given after `compile`, or after a backup."""
        own = self.rate is not None and self.followed() is self.optimizer
        if own and self.rate != self.default_rate:
            self.optimizer.learning_rate = self.default_rate
            self.rate = self.default_rate

    def _on_batch(self, method, args, kwargs, learns):
        given = inspect.signature(method).bind(*args, **kwargs).arguments
        check_batch(given.get("x"))
        given = self._checked(given, learns)
        check_devices_divide(given["x"], len(given["x"]))
        given = self._ready(given, learns)
        with weights_kept(self), executions.trained_by(self):
            result = method(**given)
            check_result(self, result)
        return result

    def _batched(self, given):
        """The arguments, an array as pipeline or `Blocks`, and the train function for these."""
        x, shuffle = given.get("x"), given.get("shuffle", True)
        itself = self.distributed or (BACKEND == "jax" and not executions.compiles_blocks(self))
        if itself or not only_batched(given):
            return untuned_data_set(given, self.distributed), None
        size = batch_size_of(x, given.get("batch_size"), given.get("steps_per_epoch"))
        rest = {**given, **dict.fromkeys(EXAMPLES), "batch_size": None, "shuffle": False}
        data = tuple(given[name] for name in EXAMPLES if name in given)
        if BACKEND == "tensorflow":
            return {**rest, "x": pipelines.shuffled_batches(data, size, shuffle)}, None
        self.block_function = self.block_function or blocks.block_function(self.train_step)
        first = given.get("initial_epoch") or 0  # unless a backup has another
        in_blocks = blocks.Blocks(data, size, shuffle, lambda: self._initial_epoch or first)
        rest["callbacks"].append(in_blocks)
        rest["steps_per_epoch"] = -(-len(x) // size)
        return {**rest, "x": in_blocks.tokens()}, in_blocks.train_function(self.block_function)

    def forget_compiled(self):
        """Let a changed setting take effect, though compiled functions keep the one they saw."""
        self.train_function = self.test_function = self.predict_function = None
        self.block_function = None
        self.shortened = {}
        self.traced_with = self.settings(), *executions.chosen_by(self)
