"""Pipelines of `tf.data`: an array in batches, the first batch, and the autotuner that is off."""

import numpy as np
import pytest
import tensorflow as tf
from machines import machine
from trained import EXAMPLES, data_set_of, trainer

from rbm_tutorial import RBM
from rbm_tutorial.pipelines import (
    first_of,
    in_batches,
    is_dataset,
    shuffled_batches,
    whole,
    without_autotuning,
)

ROWS = np.arange(22.0)[:, None]


@pytest.fixture(autouse=True)
def no_global_seed():
    tf.random.set_seed(None)
    yield
    tf.random.set_seed(None)


def rows_of(batches):
    return np.concatenate([rows for rows, *_ in batches])[:, 0]


def test_arrays_are_batched_in_a_new_order_each_epoch():
    batches = shuffled_batches([ROWS], 8, shuffle=True)
    assert [len(batch) for (batch,) in batches] == [8, 8, 6]
    assert batches.cardinality() == 3
    first, second = rows_of(batches), rows_of(batches)
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(epoch), ROWS[:, 0])
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(rows_of(shuffled_batches([ROWS], 8, shuffle=False)), ROWS[:, 0])


def test_what_belongs_to_an_example_goes_with_it():
    for rows, tenfold in shuffled_batches([ROWS, 10 * ROWS[:, 0]], 8, shuffle=True):
        np.testing.assert_array_equal(tenfold, 10 * rows[:, 0])


def test_a_global_seed_fixes_one_order_for_all_epochs():
    """So it does for Keras' own batches of an array: see `test_the_order_is_that_of_keras`."""
    orders = []
    for seed in (1, 1, 2):
        tf.random.set_seed(seed)
        batches = shuffled_batches([ROWS], 8, shuffle=True)
        orders.append(rows_of(batches))
        np.testing.assert_array_equal(rows_of(batches), orders[-1])
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])


def test_autotuning_is_off_unless_asked_for():
    batches = tf.data.Dataset.from_tensors(ROWS)
    assert without_autotuning(batches).options().autotune.enabled is False
    options = tf.data.Options()
    options.autotune.enabled = True
    asked = without_autotuning(batches.with_options(options))
    assert asked.options().autotune.enabled is True
    assert without_autotuning(ROWS) is ROWS


def test_arrays_are_not_tuned_either():
    """Every third epoch or so took twice as long on two cores while TensorFlow tuned."""
    for batches in (shuffled_batches([ROWS], 8, shuffle=True), in_batches([ROWS], 8)):
        assert batches.options().autotune.enabled is False


def test_arrays_are_batched_in_order_and_real_numbers_in_the_precision_of_keras():
    numbers = np.arange(len(ROWS))
    batches = list(in_batches([ROWS.astype("float64"), numbers], 8))
    rows, beside = (np.concatenate(parts) for parts in zip(*batches))
    np.testing.assert_array_equal(rows, ROWS)
    np.testing.assert_array_equal(beside, numbers)
    assert (rows.dtype, beside.dtype) == ("float32", numbers.dtype)


def test_data_sets_are_told_from_arrays():
    assert is_dataset(tf.data.Dataset.range(3))
    assert not any(is_dataset(data) for data in (ROWS, tf.constant(ROWS), [ROWS], None))


# ---------------------------------------------------------------- what is read in part


def cached(*file):
    """200 batches of what TFDS gives: examples that come from another thread, here cached."""
    rows = tf.data.Dataset.range(2000).map(lambda i: tf.one_hot(i % 4, 4)).prefetch(10)
    return rows.cache(*file).batch(10)


def read_on(data, begin):
    begin(data)
    return sum(1 for _ in data)


def test_the_first_batch_leaves_all_of_a_cache_to_read():
    """Of an iterator that goes, the cache keeps two batches in a fifth of the cases."""
    assert {read_on(cached(), first_of) for _ in range(60)} == {200}
    left = (read_on(cached(), lambda data: next(iter(data))) for _ in range(1000))
    assert next((count for count in left if count < 200), None)


@pytest.mark.parametrize("make", [lambda: RBM(3, seed=0), machine])
def test_fit_learns_from_all_of_a_cache(make):
    """An unbuilt layer looks at the first batch."""
    for _ in range(6):
        model = trainer(make())
        model.fit(cached(), epochs=2, verbose=0, shuffle=False)
        assert int(model.optimizer.iterations) == 400


def test_fit_learns_from_all_of_a_cache_in_a_file(tmp_path):
    model = trainer(RBM(3, seed=0))
    model.fit(cached(str(tmp_path / "cache")), epochs=2, verbose=0, shuffle=False)
    assert int(model.optimizer.iterations) == 400


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_a_frozen_layer_makes_no_updates_and_is_no_error():
    model = trainer(machine())
    model.rbm.trainable = False
    model.compile()
    assert model.fit(data_set_of(EXAMPLES), verbose=0, shuffle=False).history


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict", "validation"])
def test_a_data_set_that_ends_too_early_is_named(method, monkeypatch):
    """As a cache does that was read in part before."""
    data, model = data_set_of(EXAMPLES), trainer(machine())

    def call():
        if method == "validation":
            return model.fit(EXAMPLES, validation_data=data, verbose=0, shuffle=False)
        shuffle = {"shuffle": False} if method == "fit" else {}
        return getattr(model, method)(data, verbose=0, **shuffle)

    call()
    weights, many = model.get_weights(), tf.constant(5, tf.int64)
    monkeypatch.setattr(tf.data.Dataset, "cardinality", lambda self: many)
    with pytest.raises(ValueError, match=r"must give the 5 batches.*Received 3\. If it"):
        call()
    if method in ("evaluate", "predict"):  # `fit` has learned from what came
        for before, now in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(now, before)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_fewer_steps_than_a_data_set_has_are_no_early_end():
    data, model = data_set_of(EXAMPLES), trainer(machine())
    model.fit(data, steps_per_epoch=2, epochs=3, verbose=0, shuffle=False)
    assert np.all(np.isfinite(model.evaluate(data, steps=2, verbose=0)))


def test_a_data_set_of_unknown_or_no_end_stays_as_it_is():
    for data in (
        data_set_of(EXAMPLES).repeat(),
        data_set_of(EXAMPLES).filter(lambda x: True),
        ROWS,
    ):
        assert whole(data) is data
