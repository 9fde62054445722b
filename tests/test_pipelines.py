"""Pipelines of `tf.data`: an array in batches, and the autotuner that is switched off."""

import numpy as np
import pytest
import tensorflow as tf

from rbm_tutorial.pipelines import is_dataset, shuffled_batches, without_autotuning

ROWS = np.arange(22.0)[:, None]


@pytest.fixture(autouse=True)
def no_global_seed():
    tf.random.set_seed(None)
    yield
    tf.random.set_seed(None)


def rows_of(batches):
    return np.concatenate(list(batches))[:, 0]


def test_arrays_are_batched_in_a_new_order_each_epoch():
    batches = shuffled_batches(ROWS, 8, shuffle=True)
    assert [len(batch) for batch in batches] == [8, 8, 6]
    first, second = rows_of(batches), rows_of(batches)
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(epoch), ROWS[:, 0])
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(rows_of(shuffled_batches(ROWS, 8, shuffle=False)), ROWS[:, 0])


def test_a_global_seed_fixes_one_order_for_all_epochs():
    """So it does for Keras' own batches of an array: see `test_the_order_is_that_of_keras`."""
    orders = []
    for seed in (1, 1, 2):
        tf.random.set_seed(seed)
        batches = shuffled_batches(ROWS, 8, shuffle=True)
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


def test_data_sets_are_told_from_arrays():
    assert is_dataset(tf.data.Dataset.range(3))
    assert not any(is_dataset(data) for data in (ROWS, tf.constant(ROWS), [ROWS], None))
