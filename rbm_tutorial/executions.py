"""How many updates a Keras model makes between two returns to Python, and by which function."""

import contextlib
import math

import keras

from rbm_tutorial.backend import BACKEND

if BACKEND == "tensorflow":
    import tensorflow as tf

UPDATES_AN_EXECUTION = 64 if BACKEND == "jax" else 16
COMPILED = "steps_per_execution", "train_function", "test_function", "predict_function"


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


def of_workers(model, step):
    """A train or test function by which each of several workers tells its own means, or `None`.

    That of Keras 3.15 averages every reported number over the workers in each step, by two small
    all-reduces each. Metrics add up over the workers when they are read, at the end of an epoch.
    """
    if BACKEND != "tensorflow":
        return None
    strategy = model.distribute_strategy
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return None

    @tf.function
    def call(batch):
        logs = strategy.run(step, args=(batch,))
        return {k: strategy.experimental_local_results(v)[0] for k, v in logs.items()}

    def calls(iterator):
        for _ in range(model.steps_per_execution):
            logs = call(next(iterator))
        return logs

    return calls
