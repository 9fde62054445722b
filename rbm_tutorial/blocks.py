"""Blocks of updates on JAX: examples lie on the device, and one compiled call makes many updates.

Keras' own loop makes one compiled call and one copy to the device for each batch, which on an
accelerator costs several times the update itself. Here Keras is given blocks of row numbers.
"""

import functools
import itertools

import jax
import keras
import numpy as np
from jax import lax


def blocks_of_rows(rows, batch_size: int, updates: int):
    """Yield the row numbers of one pass: tuples of one or two arrays, for up to `updates` updates.

    The first is (updates, batch), the second the short last batch, (1, rest).
    """
    starts = range(0, len(rows), batch_size)
    batches = [rows[start : start + batch_size].astype("int32") for start in starts]
    for first in range(0, len(batches), updates):
        alike = itertools.groupby(batches[first : first + updates], len)
        yield tuple(np.stack(list(group)) for _, group in alike)


def block_function(train_step):
    """The updates of a block in one compiled call: (state, data, block) → (logs, state).

    `train_step(state, data)` is that of a Keras model on JAX. `data` are all examples, of which
    `block` has row numbers; or `None`, and `block` has the examples themselves.
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

    return updates


class Blocks(keras.callbacks.Callback):
    """The blocks of an epoch, which begin anew with it, and the train function that takes them.

    `data`, a tuple of arrays, are copied to the device if they take at most half of the memory that
    is free there. Else each block is copied when its turn comes. `first_epoch()` is the run's.

    With `shuffle` NumPy's global generator draws the order of each epoch, as it does for Keras. A
    run that begins at a later epoch first draws those of the epochs before it, unless that was done
    in this process and nothing was drawn since: with the same global seed it has the orders that it
    would have had.
    """

    left_at = None  # of the last run: epochs whose order was drawn, and the generator after that

    def __init__(self, data, batch_size: int, shuffle: bool, first_epoch=lambda: 0, device=None):
        super().__init__()
        device = jax.local_devices()[0] if device is None else device
        memory = device.memory_stats() or {}  # a CPU has none of its own
        free = memory.get("bytes_limit", np.inf) - memory.get("bytes_in_use", 0)
        fits = 2 * sum(array.nbytes for array in data) <= free
        self.host, self.held = data, jax.tree.map(jax.numpy.array, data) if fits else None
        self.batch_size, self.shuffle, self.first_epoch = batch_size, shuffle, first_epoch

    def on_train_begin(self, logs=None):
        first = self.first_epoch()  # known once a backup was read
        if self.shuffle and Blocks.left_at != (first, _generator()):
            for epoch in range(first):
                self.order(epoch)

    def on_epoch_begin(self, epoch, logs=None):
        rows = self.order(epoch) if self.shuffle else np.arange(len(self.host[0]))
        self.blocks = blocks_of_rows(rows, self.batch_size, self.model.steps_per_execution)

    def order(self, epoch):
        """Draw the rows of an epoch."""
        rows = np.random.permutation(len(self.host[0]))  # noqa: NPY002
        Blocks.left_at = epoch + 1, _generator()
        return rows

    def tokens(self):
        """What Keras iterates over instead, so that it asks for nothing before its turn."""
        while True:
            yield (np.zeros(1, "float32"),)

    def train_function(self, updates):
        """The function by which Keras trains on the next block; `updates` is a `block_function`."""

        def run(state, iterator):
            next(iterator)
            for block in next(self.blocks):
                if self.held is None:
                    block = tuple(array[block] for array in self.host)
                logs, state = updates(state, self.held, block)
            return logs, state

        run.in_blocks = True
        return run


def _generator():
    """Where NumPy's global generator stands."""
    _, key, position, *_ = np.random.get_state()  # noqa: NPY002
    return key.tobytes(), position
