"""The source's loop over epochs: when it stops, in which order it learns, what it refuses."""

import inspect
from functools import partial
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REFUSED_WHEN_COMPILED
from trained import EXAMPLES, assert_equal_weights

from rbm_tutorial import RBM, flatten_image, source_loop, train_rbm
from rbm_tutorial.recovery import Backup
from rbm_tutorial.source_loop import StopWhenSettled, example_batches


def digits(count):
    """Examples as TFDS gives them, of 2×2 pixels."""
    images = np.random.default_rng(0).integers(0, 256, size=(count, 2, 2, 1), dtype="uint8")
    return tf.data.Dataset.from_tensor_slices({"image": images, "label": np.arange(count) % 10})


# ---------------------------------------------------------------- the stopping rule


def epochs_until_stop(costs, tolerance):
    """After how many epochs of these costs training stops; all of them if it does not."""
    stop = StopWhenSettled(tolerance)
    stop.set_model(SimpleNamespace(stop_training=False))
    for epoch, cost in enumerate(costs):
        stop.on_epoch_end(epoch, {"reconstruction_cost": cost})
        if stop.model.stop_training:
            break
    return epoch + 1


def test_an_epoch_without_a_batch_is_no_change():
    with pytest.raises(ValueError, match="`data` must hold"):
        StopWhenSettled(0.1).on_epoch_end(0, {})


def test_stops_at_the_first_change_within_tolerance_and_not_before():
    assert epochs_until_stop([9.0, 8.0, 7.0, 6.5, 5.0, 4.0], tolerance=0.5) == 4
    assert epochs_until_stop([9.0, 8.0, 8.5, 5.0], tolerance=0.5) == 3
    assert epochs_until_stop([9.0, 8.0, 7.0, 6.0], tolerance=0.5) == 4
    assert epochs_until_stop([9.0, 8.0, 8.0, 6.0], tolerance=0) == 3


def test_training_follows_that_rule():
    """The costs that it reports, stopped by hand, give the number of its epochs."""
    history = keras.callbacks.History()
    x, stop = np.tile(EXAMPLES[0], (20, 1)), {"num_epochs": 40, "tolerance": 0.1}
    rbm = RBM(3, seed=0)
    rbm.build([4])  # else the visible biases are right from the first
    train_rbm(rbm, x, batch_size=4, **stop, verbose=0, callbacks=[history])
    costs = history.history["reconstruction_cost"]
    assert 2 < len(costs) < 40
    assert epochs_until_stop(costs, 0.1) == len(costs)


def test_stops_at_a_cost_of_exactly_zero():
    """The source takes a cost of 0 for none yet."""
    rbm = RBM(1, seed=0)
    rbm.build([4])
    rbm.vb.assign(4 * [200.0])
    history = keras.callbacks.History()
    train_rbm(rbm, np.ones((8, 4)), num_epochs=50, verbose=0, callbacks=[history])
    assert history.history["reconstruction_cost"] == [0.0, 0.0]


# ---------------------------------------------------------------- what it learns from


def test_takes_the_source_call_as_printed():
    names = list(inspect.signature(train_rbm).parameters)
    assert names[:7] == [
        "rbm", "data", "map_fn", "num_epochs", "tolerance", "batch_size", "shuffle_buffer",
    ]  # fmt: skip
    rbm = RBM(5, seed=0)
    rbm.build([4])
    assert train_rbm(rbm, digits(20), partial(flatten_image, label=False), 2, 0.5, 2000) is rbm


def test_uses_the_learning_rate_of_the_layer():
    """The first step from the same draws is ten times as long."""
    slow, fast = (RBM(3, learning_rate=rate, seed=0) for rate in (0.01, 0.1))
    start = RBM(3, seed=0)
    start.build([4])
    for rbm in (slow, fast):
        train_rbm(rbm, EXAMPLES, num_epochs=1, verbose=0)
    change = [np.array(rbm.w_rec) - np.array(start.w_rec) for rbm in (slow, fast)]
    np.testing.assert_allclose(10 * change[0], change[1], atol=1e-6)


def test_trains_on_images_with_and_without_labels():
    with_labels, without = RBM(3, seed=0), RBM(3, seed=0)
    train_rbm(with_labels, digits(20), flatten_image, num_epochs=2, verbose=0)
    train_rbm(without, digits(20), partial(flatten_image, label=False), num_epochs=2, verbose=0)
    assert_equal_weights(with_labels, without)


def test_images_that_are_flat_already_are_taken_as_they_are():
    mapped, raw = (RBM(3, seed=0) for _ in range(2))
    for rbm, data in [(mapped, digits(20).map(flatten_image)), (raw, digits(20))]:
        train_rbm(rbm, data, num_epochs=1, verbose=0)
    assert_equal_weights(mapped, raw)


def test_the_same_seed_gives_the_same_run():
    runs = [RBM(3, seed=seed) for seed in (0, 0, 1)]
    for rbm in runs:
        train_rbm(rbm, EXAMPLES, num_epochs=2, batch_size=4, verbose=0)
    assert_equal_weights(runs[0], runs[1])
    assert not np.allclose(runs[0].w_rec, runs[2].w_rec)


def test_calls_do_not_hang_on_each_other():
    """A rate that a callback has set, or a call within another one, is no matter of the next."""
    rbm, fresh, epochs = RBM(3, seed=0), RBM(3, seed=0), []
    for each in (rbm, fresh):
        each.adapt(EXAMPLES)

    def fall_and_train_within(epoch, logs):
        within.model.optimizer.learning_rate = 1e-9
        epochs.append(epoch)
        if epoch < 1:
            train_rbm(rbm, EXAMPLES, num_epochs=2, tolerance=1e9, verbose=0)

    within = keras.callbacks.LambdaCallback(on_epoch_end=fall_and_train_within)
    train_rbm(rbm, EXAMPLES, num_epochs=3, tolerance=0, verbose=0, callbacks=[within])
    assert epochs == [0, 1, 2]
    fresh.set_weights(rbm.get_weights())
    fresh.seed_generator.state.assign(rbm.seed_generator.state)
    for each in (rbm, fresh):
        train_rbm(each, EXAMPLES, num_epochs=1, verbose=0)
    assert_equal_weights(rbm, fresh)


def test_a_layer_that_was_trained_can_be_loaded_and_goes_on_from_a_backup(tmp_path):
    rbm = RBM(3, seed=0)
    network = keras.Sequential([keras.Input([4]), rbm])

    def stop(epoch, logs):
        if epoch == 1:
            raise KeyboardInterrupt

    fit = {"data": EXAMPLES, "num_epochs": 4, "tolerance": 0, "verbose": 0}
    backup, stopping = Backup(tmp_path / "b"), keras.callbacks.LambdaCallback(on_epoch_end=stop)
    with pytest.raises(KeyboardInterrupt):
        train_rbm(rbm, **fit, callbacks=[backup, stopping])
    history = keras.callbacks.History()
    train_rbm(rbm, **fit, callbacks=[Backup(tmp_path / "b"), history])
    assert history.epoch == [2, 3]
    network.save_weights(tmp_path / "it.weights.h5")
    network.load_weights(tmp_path / "it.weights.h5")


def order(batches):
    return np.concatenate(list(batches))[:, 0].tolist()


def test_examples_are_shuffled_anew_each_epoch():
    x = np.arange(22.0)[:, None]
    batches = example_batches(x, None, 4, 1024, seed=0)
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4, 2]
    first, second = order(batches), order(batches)
    given = x[:, 0].tolist()
    assert first != second != given != first
    assert sorted(first) == sorted(second) == given


def test_the_seed_fixes_the_orders_and_a_buffer_of_one_keeps_that_of_the_data():
    x = np.arange(22.0)[:, None]
    again = [example_batches(x, None, 4, 1024, seed=seed) for seed in (0, 0, 1)]
    first, second, other = ([order(batches) for _ in range(2)] for batches in again)
    assert first == second != other
    assert order(example_batches(x, None, 4, 1, seed=0)) == x[:, 0].tolist()


# ---------------------------------------------------------------- what it refuses


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_buffer_holds_no_more_than_there_is(monkeypatch):
    """Of 10⁹ places 23 GB would be taken; the order is that of a buffer as long as the data."""
    data, shuffle, asked = tf.data.Dataset.range(20), tf.data.Dataset.shuffle, []
    expected = [int(v) for v in data.shuffle(1024, seed=1)]

    def noted(self, size, **kwargs):
        asked.append(size)
        return shuffle(self, size, **kwargs)

    monkeypatch.setattr(tf.data.Dataset, "shuffle", noted)
    uncounted = data.filter(lambda v: True)
    for each, buffer in [(data, 20), (data, 1024), (data, 10**9), (uncounted, 10**9)]:
        batches = example_batches(each, lambda v: v, 4, buffer, seed=1)
        assert [int(v) for batch in batches for v in batch] == expected
    assert asked == [20, 20, 20, 20]


def test_empty_data_is_an_error_that_says_so():
    unknown = tf.data.Dataset.from_generator(lambda: [], output_signature=tf.TensorSpec((4,)))
    for nothing in (np.zeros((0, 4)), digits(20).take(0), unknown):
        with pytest.raises(ValueError, match="must hold at least one example"):
            to_image = (lambda x: x) if nothing is unknown else flatten_image
            train_rbm(RBM(3), nothing, to_image, verbose=0)
    with pytest.raises(ValueError, match="`data` must end"):
        train_rbm(RBM(3), digits(20).repeat(), verbose=0)


@pytest.mark.parametrize(
    "argument", [{"num_epochs": 0}, {"batch_size": 0}, {"shuffle_buffer": 0}, {"tolerance": -1.0}]
)
def test_train_rbm_refuses_arguments_that_cannot_work(argument):
    with pytest.raises(ValueError, match=f"`{next(iter(argument))}`"):
        train_rbm(RBM(3), EXAMPLES, **argument)


@pytest.mark.parametrize("layer", [RBM(3, tied=False), keras.layers.Dense(3)])
def test_train_rbm_refuses_what_it_cannot_train_before_any_example_is_read(layer):
    def map_fn(example):
        raise AssertionError

    with pytest.raises(ValueError, match=r"ContrastiveDivergence|`rbm` must be an RBM"):
        train_rbm(layer, digits(20), map_fn)


def test_train_rbm_refuses_images_that_were_not_scaled():
    scaled = digits(20).map(lambda example: 255 * flatten_image(example)[0])
    with pytest.raises(REFUSED_WHEN_COMPILED, match="must lie in"):
        train_rbm(RBM(3), scaled, lambda image: image, verbose=0)


@pytest.mark.parametrize("wrong", [255 * EXAMPLES, EXAMPLES[:, :3], EXAMPLES[0], 3, EXAMPLES[None]])
def test_an_array_is_checked_before_anything_is_learned(wrong):
    rbm = RBM(3, seed=0)
    rbm.build([4])
    before = rbm.get_weights()
    with pytest.raises(ValueError, match=r"`data` must .*Received"):
        train_rbm(rbm, wrong, verbose=0)
    one = EXAMPLES.copy()
    one[-1, 2] = np.nan
    with pytest.raises(ValueError, match=r"`data` must lie in \[0, 1\].*Received values from nan"):
        train_rbm(rbm, one, batch_size=4, verbose=0)
    for ours, theirs in zip(before, rbm.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def readings(map_fn):
    """How often six examples are read in three epochs, and the layer that has learned."""
    read = []

    def examples():
        for example in digits(6):
            read.append(example)
            yield example

    data = tf.data.Dataset.from_generator(examples, output_signature=digits(6).element_spec)
    data = data.apply(tf.data.experimental.assert_cardinality(6))
    rbm = RBM(3, seed=0)
    rbm.build((None, 4))
    train_rbm(rbm, data, map_fn, num_epochs=3, batch_size=2, tolerance=0.0, verbose=0)
    return len(read), rbm


def test_examples_are_decoded_once_unless_their_map_may_draw():
    """What is kept is learned from in the same order."""
    once, rbm = readings(flatten_image)
    each_epoch, other = readings(lambda example: flatten_image(example))
    assert once == 6 and each_epoch >= 3 * 6
    assert_equal_weights(rbm, other)


def test_decoded_examples_are_kept_up_to_a_limit(monkeypatch):
    """Six images of four pixels, as floats, are 96 bytes."""
    monkeypatch.setattr(source_loop, "LARGEST_KEPT", 96)
    assert readings(flatten_image)[0] == 6
    monkeypatch.setattr(source_loop, "LARGEST_KEPT", 95)
    assert readings(flatten_image)[0] >= 3 * 6
