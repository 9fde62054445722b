"""Blocks of updates on JAX: examples lie on the device, and one compiled call makes many updates.

Keras' own loop makes one compiled call and one copy to the device for each batch, which on an
accelerator costs several times the update itself. Here Keras is given blocks of row numbers.
"""

import functools
import itertools

import jax
import numpy as np
from jax import lax


def batches_of_rows(examples: int, batch_size: int, shuffle):
    """Yield the row numbers of each batch, pass after pass, in the order that Keras gives arrays.

    NumPy's global generator draws it, anew for each pass, as in Keras.
    """
    while True:
        rows = np.arange(examples)
        if shuffle:
            rows = np.random.permutation(examples)  # noqa: NPY002
        for start in range(0, examples, batch_size):
            yield rows[start : start + batch_size].astype("int32")


def blocks_of_rows(examples: int, batch_size: int, shuffle, updates: int):
    """Yield what Keras takes for batches: tuples of one or two arrays of row numbers.

    The first is (updates, batch), at most `updates` updates of one pass, the second the short last
    batch, (1, rest).
    """
    batches = batches_of_rows(examples, batch_size, shuffle)
    while True:
        left = -(-examples // batch_size)
        while left:
            block = list(itertools.islice(batches, min(updates, left)))
            left -= len(block)
            yield tuple(np.stack(list(group)) for _, group in itertools.groupby(block, len))


def arranged(data, batch_size: int, shuffle, updates: int, device=None):
    """What Keras iterates over, and what a `block_function` gathers from: → (blocks, data).

    `data`, a tuple of arrays, goes to the device if it takes at most half of its memory, and the
    blocks hold row numbers. If it takes more they hold the rows themselves, and `data` is `None`.
    """
    device = jax.local_devices()[0] if device is None else device
    memory = (device.memory_stats() or {}).get("bytes_limit", np.inf)  # a CPU has none of its own
    rows = blocks_of_rows(len(data[0]), batch_size, shuffle, updates)
    if 2 * sum(array.nbytes for array in data) <= memory:
        return rows, jax.tree.map(jax.numpy.asarray, data)
    return (jax.tree.map(lambda rows: tuple(a[rows] for a in data), block) for block in rows), None


def block_function(train_step):
    """A train function for Keras that makes the updates of a block in one compiled call.

    `train_step(state, data)` is that of a Keras model on JAX. → function `run(data)`, which gives
    the train function for examples that lie on the device, or, with `None`, for `gathered` blocks.
    """

    @functools.partial(jax.jit, donate_argnums=0)
    def updates(state, data, block):
        def update(state, batch):
            if data is not None:
                batch = tuple(array[batch] for array in data)
            logs, state = train_step(state, batch)
            return state, logs

        state, logs = lax.scan(update, state, block)
        return jax.tree.map(lambda values: values[-1], logs), state

    def on(data):
        def run(state, iterator):
            for block in next(iterator):
                logs, state = updates(state, data, block)
            return logs, state

        return run

    return on
