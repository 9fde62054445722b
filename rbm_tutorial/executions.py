"""How many updates a Keras model makes between two returns to Python, and by which function."""

import contextlib
import math
import weakref

import keras

from rbm_tutorial.backend import BACKEND, distributed, traced_for_xla
from rbm_tutorial.checks import real_input

if BACKEND == "tensorflow":
    import tensorflow as tf

UPDATES_AN_EXECUTION = 64 if BACKEND == "jax" else 16
COMPILED = "steps_per_execution", "train_function", "test_function", "predict_function"


class Executions(keras.Model):
    """A Keras model whose steps XLA can compile on TensorFlow, too, and several workers can share.

    Not under a `tf.distribute` strategy, where replicas exchange numbers.
    """

    runs = None  # or the paths of the weights that learned when a run began

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.distributed = distributed()
        self.supports_jit = not self.distributed
        if BACKEND == "tensorflow":
            self.jit_compile = False

    def chosen(self, jit_compile):
        """Whether XLA is to compile, for what `compile` is given; on TensorFlow if asked to."""
        return False if jit_compile == "auto" and BACKEND == "tensorflow" else jit_compile

    def __call__(self, x, *args, **kwargs):
        return super().__call__(real_input("x", x), *args, **kwargs)

    def train_step(self, *args):
        with traced_for_xla(self.jit_compile):
            return super().train_step(*args)

    def test_step(self, *args):
        with traced_for_xla(self.jit_compile):
            return super().test_step(*args)

    def predict_step(self, *args):
        with traced_for_xla(self.jit_compile):
            return super().predict_step(*args)

    def make_train_function(self, force=False):
        if not made_for_workers(self, "train", force):
            super().make_train_function(force)

    def make_test_function(self, force=False):
        if not made_for_workers(self, "test", force):
            super().make_test_function(force)

    def jax_state_sync(self):
        """Give the variables what JAX's steps made of them, unless others learn than at the start.

        Keras 3.15 pairs them by place: values would go to the wrong variables, now or in a later
        run. Whoever stopped the run puts back what was there.
        """
        if self.runs in (None, learning_now(self)):
            super().jax_state_sync()

    def _symbolic_build(self, iterator=None, data_batch=None):
        """Trace no batch to make weights, as Keras does: they were made, of real examples."""

    _maybe_symbolic_build = _symbolic_build  # under a strategy, which may fail before that


def learning_now(model):
    """The paths of the weights that learn."""
    return [variable.path for variable in model.trainable_variables]


def learning_of(model):
    """Which weights learn, by path, once it is known that none was frozen or freed since `compile`.

    Compiled functions would not know of it.
    """
    learning = learning_now(model)
    if model.learning not in (None, learning):
        raise ValueError(
            "Call `compile` again, since weights were frozen or freed after it. "
            f"Received: {learning} now learn, before {list(model.learning)}"
        )
    return learning


def errors_wait(model) -> bool:
    """Whether bad values become NaN in a model's steps, since what XLA compiles cannot raise."""
    return BACKEND == "jax" or model.jit_compile


@contextlib.contextmanager
def running(model):
    """Let others know that the model runs, by its compiled functions, and which weights learn."""
    before, model.runs = model.runs, learning_now(model)
    try:
        yield
    finally:
        model.runs = before


def check_not_running(model, what: str) -> None:
    """`what` is not done in a callback, where compiled functions are in use."""
    if model.runs is not None:
        raise ValueError(
            f"{what} must be done before `fit`, `evaluate` or `predict`, or after them: callbacks "
            "can set `optimizer.learning_rate`. Received one in a callback."
        )


def chosen_by(model):
    """What was chosen for a model after `__init__`, and compiled functions keep."""
    optimizer = getattr(model, "optimizer", None)
    # Keras would save the optimizer itself with whatever holds it.
    return optimizer and weakref.ref(optimizer), model.run_eagerly, model.jit_compile


@contextlib.contextmanager
def trained_by(model, function=None):
    """Let Keras train by another train function for a while; if that is `None`, by its own.

    So a callback may train, too, while the model trains in blocks.
    """
    before = model.train_function
    if function is None and not getattr(before, "in_blocks", False):
        yield
        return
    model.train_function = function
    try:
        yield
    finally:
        if function is None or model.train_function is function:
            model.train_function = before


@contextlib.contextmanager
def shorter_executions(model, *steps):
    """Shorten executions so that they divide `steps`; one of Keras 3.15 would run on.

    What is compiled for them is kept for the next time.
    """
    limits = [*steps, keras.config.max_steps_per_epoch()]
    updates = math.gcd(model.steps_per_execution, *(count or 0 for count in limits))
    if updates == model.steps_per_execution:
        yield
        return
    before, traced_with = {name: getattr(model, name) for name in COMPILED}, model.traced_with
    kept = model.shortened.get(updates, dict.fromkeys(COMPILED))
    for name, value in {**kept, "steps_per_execution": updates}.items():
        setattr(model, name, value)
    try:
        yield
    finally:
        model.shortened[updates] = {name: getattr(model, name) for name in COMPILED}
        for name, value in before.items():
            setattr(model, name, value)
        if model.traced_with != traced_with:
            model.forget_compiled()


def compiles_blocks(model) -> bool:
    """Whether nothing keeps a model on JAX from making its updates in blocks."""
    whole = not keras.distribution.distribution() and not keras.config.max_steps_per_epoch()
    return model.jit_compile and not model.run_eagerly and whole


class LossOfReplicas(keras.metrics.Mean):
    """Mean loss under a `tf.distribute` strategy, where each replica adds its part of a batch's.

    `size` is the mean number of rows of a replica. Keras weighs each part by the rows of the
    replica, which the part contains already.
    """

    size = None

    def update_state(self, loss, sample_weight=None):
        super().update_state(loss, self.size)


def loss_of_replicas(model):
    """A `LossOfReplicas` under the strategy of the model."""
    with scope_of(model):
        return LossOfReplicas(name="loss")


def scope_of(model):
    """The scope of the strategy under which a model was made, if there was one."""
    return model.distribute_strategy.scope() if model.distributed else contextlib.nullcontext()


def shared_by_workers(model) -> bool:
    """Whether several workers train the model, each a process of its own."""
    if BACKEND != "tensorflow":
        return False
    return isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy)


def updates_an_execution(model, steps) -> int:
    """`steps`, once it is known that they can be made, or the default if that is `None`.

    On several devices of one computer Keras 3.15 can make one alone.
    """
    if steps is None:
        return 1 if model.distributed else UPDATES_AN_EXECUTION
    if steps > 1 and model.distributed and not shared_by_workers(model):
        raise ValueError(
            f"`steps_per_execution` must be 1 on several devices of one computer. Received: {steps}"
        )
    return steps


def made_for_workers(model, kind, force):
    """Make the train or test function (`kind`) of a model that several workers share: → whether."""
    if not shared_by_workers(model):
        return False
    if getattr(model, f"{kind}_function") is None or force:
        step = getattr(model, f"{kind}_step")
        calls = calls_of_workers(model, model.distribute_strategy, step)
        setattr(model, f"{kind}_function", calls)
    return True


def calls_of_workers(model, strategy, step):
    """A train or test function that averages all reported numbers by one all-reduce.

    That of Keras 3.15 averages each of them by two.
    """

    def in_replica(batch):
        logs = step(batch)
        context = tf.distribute.get_replica_context()
        means = context.all_reduce(tf.distribute.ReduceOp.MEAN, list(logs.values()))
        return dict(zip(logs, means))

    def call(batch):
        logs = strategy.run(in_replica, args=(batch,))
        return {name: strategy.experimental_local_results(v)[0] for name, v in logs.items()}

    if not model.run_eagerly:
        call = tf.function(call, reduce_retracing=True, jit_compile=model.jit_compile)

    def calls(iterator):
        logs = None
        for _, batch in zip(range(model.steps_per_execution), iterator):
            logs = call(batch)
        if logs is None:
            raise StopIteration
        return logs

    return calls
