"""Blocks of updates on JAX: what Keras iterates over, and one compiled call for many updates."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
from conftest import only_jax
from machines import copy_of
from trained import EXAMPLES

from rbm_tutorial import ContrastiveDivergence
from rbm_tutorial.backend import BACKEND
from rbm_tutorial.recovery import Backup

if BACKEND == "jax":
    import jax

    from rbm_tutorial import blocks

pytestmark = only_jax


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
    taken = list(blocks.blocks_of_rows(np.arange(10), batch_size, updates))
    assert [[rows.shape for rows in block] for block in taken] == shapes
    rows = np.concatenate([rows.ravel() for block in taken for rows in block])
    np.testing.assert_array_equal(rows, np.arange(10))
    assert all(rows.dtype == "int32" for block in taken for rows in block)


def test_a_shuffled_pass_has_each_row_once_in_the_order_in_which_keras_gives_arrays():
    """NumPy's global generator draws it when the epoch begins."""
    taken = blocks.Blocks((np.zeros((10, 4)),), 5, True)
    taken.set_model(SimpleNamespace(steps_per_execution=2))
    keras.utils.set_random_seed(0)
    taken.on_epoch_begin(0)
    (order,) = next(taken.blocks)
    keras.utils.set_random_seed(0)
    np.testing.assert_array_equal(np.ravel(order), np.random.permutation(10))  # noqa: NPY002
    assert sorted(np.ravel(order)) == list(range(10))


class Device:
    """A JAX device with so many bytes of memory, of which 100 are in use."""

    def __init__(self, memory):
        self.memory = memory

    def memory_stats(self):
        return None if self.memory is None else {"bytes_limit": self.memory, "bytes_in_use": 100}


def sums(state, data):
    """A train step that adds up what it is given, and counts."""
    (x,) = data
    total, count = state
    return {"mean": x.mean()}, (total + x.sum(axis=0), count + 1)


@pytest.mark.parametrize(("memory", "held"), [(None, True), (260, True), (259, False)])
def test_the_updates_of_a_block_come_one_after_another(memory, held):
    """Examples lie on the device unless they take more than half of its free memory."""
    data = (np.arange(20, dtype="float32").reshape(10, 2),)  # 80 bytes
    in_blocks = blocks.Blocks(data, 4, False, device=Device(memory))
    assert (in_blocks.held is not None) == held
    in_blocks.set_model(SimpleNamespace(steps_per_execution=2))
    in_blocks.on_epoch_begin(0)
    run = in_blocks.train_function(blocks.block_function(sums))
    state = jax.numpy.zeros(2), jax.numpy.zeros((), "int32")
    logs, state = run(state, in_blocks.tokens())
    assert state[1] == 2
    np.testing.assert_array_equal(state[0], data[0][:8].sum(axis=0))
    assert logs["mean"] == data[0][4:8].mean()
    logs, state = run(state, in_blocks.tokens())
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


def test_steps_of_validation_make_no_further_updates(rbm):
    model, _ = fitted(rbm, batch_size=4, validation_data=EXAMPLES, validation_steps=2)
    assert int(model.optimizer.iterations) == 3 * -(-len(EXAMPLES) // 4)


def test_the_order_of_an_epoch_is_drawn_in_that_epoch(rbm):
    """So a run that is seeded in each epoch may be resumed."""
    seeded = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: np.random.seed(epoch)  # noqa: NPY002
    )
    whole, _ = fitted(rbm, batch_size=4, callbacks=[seeded])
    keras.utils.set_random_seed(3)
    halves = ContrastiveDivergence(copy_of(rbm), persistent_chains=6, centered=True)
    halves.compile(keras.optimizers.SGD(0.2, momentum=0.5), steps_per_execution=3)
    for first, last in [(0, 1), (1, 3)]:
        halves.fit(EXAMPLES, batch_size=4, epochs=last, initial_epoch=first, verbose=0,
                   callbacks=[seeded])  # fmt: skip
    np.testing.assert_array_equal(halves.rbm.w_rec, whole.rbm.w_rec)


def newly_made(rbm):
    model = ContrastiveDivergence(copy_of(rbm), persistent_chains=6, centered=True)
    model.compile(keras.optimizers.SGD(0.2, momentum=0.5), steps_per_execution=3)
    return model


def part_of_a_run(model, epochs, **arguments):
    model.fit(EXAMPLES, batch_size=4, epochs=epochs, verbose=0, **arguments)


@pytest.mark.parametrize(("seed", "equal"), [(3, True), (4, False), (None, True)])
def test_a_run_that_goes_on_has_the_orders_it_would_have_had(rbm, tmp_path, seed, equal):
    """With the global seed set anew, as in another process, or with a generator that goes on."""
    whole, _ = fitted(rbm, batch_size=4)
    keras.utils.set_random_seed(3)
    part_of_a_run(newly_made(rbm), 2, callbacks=[Backup(tmp_path)])
    if seed is not None:
        keras.utils.set_random_seed(seed)
    model = newly_made(rbm)
    part_of_a_run(model, 3, callbacks=[Backup(tmp_path)])
    assert np.array_equal(model.rbm.w_rec, whole.rbm.w_rec) == equal


def test_so_has_a_model_that_begins_later_here(rbm):
    whole, _ = fitted(rbm, batch_size=4)
    keras.utils.set_random_seed(3)
    model = newly_made(rbm)
    part_of_a_run(model, 2)
    part_of_a_run(model, 3, initial_epoch=2)
    np.testing.assert_array_equal(model.rbm.w_rec, whole.rbm.w_rec)


def test_a_finished_run_leaves_the_generator_where_it_left_it(rbm, tmp_path):
    """So what comes after it in a program that is started again is shuffled as before."""
    after = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        part_of_a_run(newly_made(rbm), 2, callbacks=[Backup(tmp_path)])
        after.append(np.random.random())  # noqa: NPY002
    assert after[0] == after[1]


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_callback_may_train_too(rbm):
    """Its batches are no row numbers."""

    def train(epoch, logs):
        callback.model.train_on_batch(EXAMPLES[:4])
        callback.model.fit(
            (batch for batch in [(EXAMPLES[:4].astype("uint8"),)]), shuffle=False, verbose=0
        )

    callback = keras.callbacks.LambdaCallback(on_epoch_end=train)
    model, _ = fitted(rbm, batch_size=11, callbacks=[callback])
    assert int(model.optimizer.iterations) == 3 * (2 + 1 + 1)


@pytest.mark.parametrize("bad", [-1, 2.5, "4"])
def test_a_size_of_a_batch_that_cannot_be_is_named(rbm, bad):
    with pytest.raises(ValueError, match=r"`batch_size` must .*Received"):
        fitted(rbm, batch_size=bad)
