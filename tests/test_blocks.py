"""Blocks of updates on JAX: what Keras iterates over, and one compiled call for many updates."""

import itertools

import keras
import numpy as np
import pytest
from conftest import EXAMPLES, copy_of, only_jax

from rbm_tutorial import ContrastiveDivergence
from rbm_tutorial.backend import BACKEND

if BACKEND == "jax":
    import jax

    from rbm_tutorial import blocks

pytestmark = only_jax


def one_pass(*args):
    """The blocks of one pass over 10 examples, from the endless ones."""
    made = blocks.blocks_of_rows(10, *args)
    taken, seen = [], 0
    while seen < 10:
        taken.append(next(made))
        seen += sum(rows.size for rows in taken[-1])
    return taken


@pytest.mark.parametrize(
    ("batch_size", "updates", "shapes"),
    [
        (2, 5, [[(5, 2)]]),
        (2, 64, [[(5, 2)]]),
        (2, 2, [[(2, 2)], [(2, 2)], [(1, 2)]]),
        (3, 4, [[(3, 3), (1, 1)]]),
        (3, 2, [[(2, 3)], [(1, 3), (1, 1)]]),
        (3, 3, [[(3, 3)], [(1, 1)]]),
        (20, 4, [[(1, 10)]]),
        (1, 1, [[(1, 1)]] * 10),
    ],
)
def test_a_block_holds_at_most_so_many_updates_and_the_short_batch_is_its_second_part(
    batch_size, updates, shapes
):
    taken = one_pass(batch_size, False, updates)
    assert [[rows.shape for rows in block] for block in taken] == shapes
    rows = np.concatenate([rows.ravel() for block in taken for rows in block])
    np.testing.assert_array_equal(rows, np.arange(10))
    assert all(rows.dtype == "int32" for block in taken for rows in block)


def test_a_shuffled_pass_has_each_row_once_and_the_next_one_another_order():
    """The order is the one in which Keras gives arrays: NumPy's global generator draws it."""
    np.random.seed(0)  # noqa: NPY002
    made = blocks.blocks_of_rows(10, 5, True, 2)
    first, second = (np.ravel(next(made)[0]) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(10))
    assert list(first) != list(second)
    np.random.seed(0)  # noqa: NPY002
    np.testing.assert_array_equal(first, np.random.permutation(10))  # noqa: NPY002


class Device:
    """A JAX device with so many bytes of memory."""

    def __init__(self, memory):
        self.memory = memory

    def memory_stats(self):
        return None if self.memory is None else {"bytes_limit": self.memory}


@pytest.mark.parametrize(("memory", "held"), [(None, True), (2400, True), (2399, False)])
def test_examples_lie_on_the_device_unless_they_take_more_than_half_of_its_memory(memory, held):
    data = np.arange(200.0, dtype="float32").reshape(20, 10), np.arange(100, dtype="float32")
    rows, on_device = blocks.arranged(data, 10, False, 2, Device(memory))
    (first,) = next(rows)
    assert (on_device is not None) == held
    if held:
        assert all(isinstance(array, jax.Array) for array in on_device)
        np.testing.assert_array_equal(first, np.arange(20).reshape(2, 10))
    else:
        np.testing.assert_array_equal(first[0], data[0].reshape(2, 10, 10))
        np.testing.assert_array_equal(first[1], data[1][:20].reshape(2, 10))


def sums(state, data):
    """A train step that adds up what it is given, and counts."""
    (x,) = data
    total, count = state
    return {"mean": x.mean()}, (total + x.sum(axis=0), count + 1)


@pytest.mark.parametrize("memory", [None, 0])
def test_the_updates_of_a_block_come_one_after_another(memory):
    data = (np.arange(20, dtype="float32").reshape(10, 2),)
    rows, held = blocks.arranged(data, 4, False, 2, Device(memory))
    run = blocks.block_function(sums)(held)
    state = jax.numpy.zeros(2), jax.numpy.zeros((), "int32")
    logs, state = run(state, itertools.islice(rows, 1))
    assert state[1] == 2
    np.testing.assert_array_equal(state[0], data[0][:8].sum(axis=0))
    assert logs["mean"] == data[0][4:8].mean()
    logs, state = run(state, rows)
    assert state[1] == 3
    np.testing.assert_array_equal(state[0], data[0].sum(axis=0))


# ---------------------------------------------------------------- in `fit`


def fitted(rbm, x=EXAMPLES, in_blocks=True, **arguments):
    """A machine and its history after training in blocks, or in Keras' own loop."""
    keras.utils.set_random_seed(3)
    model = ContrastiveDivergence(copy_of(rbm), persistent_chains=6, centered=True)
    model.compile(keras.optimizers.SGD(0.2, momentum=0.5), steps_per_execution=3)
    if not in_blocks:
        model.jit_compile = False
    history = model.fit(x, epochs=3, verbose=0, **arguments).history
    return model, history


@pytest.mark.parametrize("batch_size", [4, 5, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_blocks_learn_what_keras_loop_learns(rbm, batch_size, weighted):
    arguments = {"batch_size": batch_size, "validation_data": (EXAMPLES[:7],)}
    if weighted:
        arguments["sample_weight"] = np.arange(len(EXAMPLES)) % 3
    blockwise, histories = fitted(rbm, **arguments)
    one_by_one, expected = fitted(rbm, in_blocks=False, **arguments)
    assert histories.keys() == expected.keys()
    for name, curve in histories.items():
        np.testing.assert_allclose(curve, expected[name], rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(blockwise.variables, one_by_one.variables):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_another_order_learns_something_else(rbm):
    """The twin of the test above."""
    blockwise, _ = fitted(rbm, batch_size=4)
    unshuffled, _ = fitted(rbm, batch_size=4, in_blocks=False, shuffle=False)
    assert np.max(np.abs(blockwise.rbm.w_rec - unshuffled.rbm.w_rec)) > 1e-3


def test_callbacks_see_every_block_and_the_number_of_updates(rbm):
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(batch)
    )
    model, _ = fitted(rbm, batch_size=4, callbacks=[callback])
    updates = -(-len(EXAMPLES) // 4)
    blocks_an_epoch = -(-updates // 3)
    assert len(seen) == 3 * blocks_an_epoch
    assert int(model.optimizer.iterations) == 3 * updates


def test_what_a_block_compiles_is_kept(rbm):
    """Another `fit` on examples of the same shape traces nothing."""
    traces = []

    class Counted(ContrastiveDivergence):
        def batch_loss(self, *args):
            traces.append(args[0].shape)
            return super().batch_loss(*args)

    model = Counted(copy_of(rbm))
    model.compile()
    for _ in range(3):
        model.fit(EXAMPLES, batch_size=len(EXAMPLES) // 2, epochs=2, verbose=0)
    assert len(traces) == 1 + len(EXAMPLES) % 2
