"""What a way to train is given, what it gives back, and how its updates are timed.

All ways start from w ~ N(0, 0.01²) and zero biases. Each runs in a process of its own, so libraries
are imported inside the functions, here and in `ours`, `others` and `limits`.
"""

import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

VISIBLE = 784


class Setting(NamedTuple):
    """`steps` is the number of updates in an epoch."""

    batch: int
    hidden: int
    cd_steps: int
    persistent: bool
    steps: int
    learning_rate: float = 0.1


class Training(NamedTuple):
    """`run(epochs)` makes 1 + `epochs` epochs of `steps` updates; its seconds without the first.

    It goes on from where the last call stopped. `parameters()` gives (w, hb, vb) as arrays; it is
    `None` for what does not train.
    """

    run: Callable
    steps: float
    parameters: Callable | None = None


def timed(epoch, wait=lambda result: None):
    """`Training.run` of a function that makes an epoch; `wait(result)` until it is computed."""

    def run(epochs):
        result = epoch()
        wait(result)
        start = time.perf_counter()
        for _ in range(epochs):
            result = epoch()
        wait(result)
        return time.perf_counter() - start

    return run


def loop(step, batches, steps, **kwargs):
    """`Training.run` and its steps for a plain loop, round and round over the batches.

    A loop does not know epochs, so it may as well have short ones, of a fifth of the steps.
    Keyword arguments are those of `timed`.
    """
    batches, steps = itertools.cycle(batches), max(1, steps // 5)

    def epoch():
        for batch in itertools.islice(batches, steps):
            step(batch)

    return timed(epoch, **kwargs), steps


def array_batches(setting, x):
    return [x[i : i + setting.batch] for i in range(0, len(x) - setting.batch + 1, setting.batch)]


def first_weights(setting):
    rng = np.random.default_rng(0)
    return rng.normal(0, 0.01, (VISIBLE, setting.hidden)).astype("float32")


def wait_for(result):
    """Return when Keras' backend has computed `result`; TensorFlow returns no sooner on a CPU."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.block_until_ready(result)
