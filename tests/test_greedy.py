"""Greedy training: what each layer learns from, that it raises the exact bound, and resumption."""

import functools
import shutil

import keras
import numpy as np
import pytest
from enumerated import exact_of, states
from machines import BINARY, each_pair, machine, machine_of
from networks import exact_bound, exact_p_v, table, untraced, up_tables
from sampled import p_value, warm
from trained import assert_equal_weights, data_set_of, trainer

from rbm_tutorial import RBM, DeepBeliefNetwork, LabeledRBM, bars_and_stripes, train_stack
from rbm_tutorial.greedy import StatesAbove, as_list, checked_examples, transposed
from rbm_tutorial.recovery import Backup
from rbm_tutorial.training import linear_decay

X, _ = bars_and_stripes(3)
eagerly = pytest.mark.usefixtures(untraced.__name__)


def two_layers():
    return [RBM(10, seed=0, name="first"), RBM(6, seed=1, name="second")]


# ---------------------------------------------------------------- what a layer learns from


def states_of(above):
    return np.concatenate([above[i] for i in range(len(above))])


def p_value_above(rbm):
    """Of the states above each image, which labels beside them tell apart."""
    x = np.tile(states(4), (500, 1)).astype("float32")
    image = np.eye(16)[np.arange(8000) % 16]
    drawn = states_of(StatesAbove(x, [rbm], image, 1000, seed=0))
    given = table(rbm.w_rec, rbm.hb)
    rows = [drawn[drawn[:, 3 + number] == 1, :3] for number in range(16)]
    return min(p_value(BINARY, h, p) for h, p in zip(rows, given))


def test_states_are_drawn_by_recognition():
    assert p_value_above(machine(scale=3.0)) > 1e-4


def test_units_that_draw_otherwise_fail_the_same_test():
    rbm = machine(scale=3.0)
    rbm.hidden_units = warm(BINARY)
    assert p_value_above(rbm) < 1e-9


def test_each_epoch_has_states_and_an_order_of_its_own():
    x = np.tile(states(4), (50, 1)).astype("float32")
    above, without_layers = (
        StatesAbove(x, lower, None, 100, seed=0) for lower in ([machine()], [])
    )
    for batches in (above, without_layers):
        assert len(batches) == 8
        first = states_of(batches)
        batches.start(1)
        assert not np.array_equal(states_of(batches), first)
        batches.start(0)
        np.testing.assert_array_equal(states_of(batches), first)
    np.testing.assert_array_equal(np.sort(states_of(without_layers), 0), np.sort(x, 0))
    in_order = StatesAbove(x, [], None, 100, seed=0, shuffle=False)
    in_order.start(1)
    np.testing.assert_array_equal(states_of(in_order), x)


@eagerly
def test_training_asks_for_the_states_of_each_epoch():
    """Epoch 1 after epoch 0 is the run of both; epoch 0 twice is not."""

    def trained(*runs):
        rbms = two_layers()
        for epochs in runs:
            train_stack(X, [rbms[0], RBM(2, seed=2)], verbose=0, optimizer=plain, **epochs)
        return rbms[0].get_weights()

    def plain(rbm):
        return keras.optimizers.SGD(0.1)

    both = trained({"epochs": 2})
    first, second = {"epochs": 1}, {"epochs": 2, "initial_epoch": 1}
    for whole, parts in zip(both, trained(first, second)):
        np.testing.assert_array_equal(whole, parts)
    assert not np.array_equal(both[0], trained(first, first)[0])  # the weights


# ---------------------------------------------------------------- training


@eagerly
def test_layers_are_trained_in_turn_on_states_of_the_one_below():
    rbms = [*two_layers(), RBM(4, seed=2)]
    seen = []

    class Spy(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.model.rbm)

    dbn = train_stack(X, rbms, epochs=2, verbose=0, callbacks=lambda rbm: [Spy()])
    assert seen == rbms
    assert [rbm.tied for rbm in [*dbn.lower, dbn.top]] == [False, False, True]
    assert dbn.top is rbms[2]
    np.testing.assert_array_equal(dbn.lower[0].w_rec, rbms[0].w_rec)
    np.testing.assert_array_equal(dbn.lower[0].w_gen, np.transpose(rbms[0].w_rec))
    assert dbn.predict(X, verbose=0).shape == (14, 4)


@each_pair("binary, binary", "classes, binary", "binary, classes", "labels, binary")
def test_upside_down_p_of_v_is_p_of_h(pair):
    rbm = machine_of(pair)
    exact = exact_of(rbm)
    np.testing.assert_allclose(exact_of(transposed(rbm)).p_v, exact.p_h, rtol=1e-5)
    room = exact_of(transposed(rbm, 2 * rbm.number_visible_units, seed=0)).p_v
    np.testing.assert_allclose(room, exact.p_h, rtol=0.05)
    assert abs(room - exact.p_h).max() > 1e-6  # the further units have weights
    with pytest.raises(ValueError, match=r"`hidden` must be .*Received: 1"):
        transposed(rbm, 1)


def test_a_further_layer_raises_the_exact_bound():
    """It starts as the first, transposed, and learns the states that the first infers."""
    rbm = machine()
    top, exact = transposed(rbm), exact_of(rbm)
    p_data = np.random.default_rng(0).dirichlet(np.ones(16))
    before = p_data @ exact_bound(DeepBeliefNetwork([rbm, top]))
    assert before == pytest.approx(p_data @ np.log(exact.p_v), abs=1e-5)

    x = states(4)[np.random.default_rng(1).choice(16, 20_000, p=p_data)]
    optimizer = keras.optimizers.SGD(linear_decay(0.1, 1000))
    model = trainer(top, optimizer, persistent_chains=200)
    model.fit(np.asarray(rbm.sample_h(x)), batch_size=200, epochs=10, verbose=0)
    after = DeepBeliefNetwork([rbm, top])
    inferred = p_data @ up_tables(after)[0]
    room = np.sum(inferred * np.log(inferred / exact.p_h))  # KL(q ‖ p): the most that it can rise
    assert before + 0.5 * room < p_data @ exact_bound(after) < before + room + 1e-6
    assert p_data @ np.log(exact_p_v(after)) > p_data @ exact_bound(after)


@eagerly
def test_an_interrupted_run_is_resumed_bit_for_bit(tmp_path):
    def run(epochs, directory):
        def backup(rbm):
            path = directory / rbm.name
            return [keras.callbacks.BackupAndRestore(path, delete_checkpoint=False)]

        return train_stack(
            X, two_layers(), epochs=epochs, batch_size=7, verbose=0, callbacks=backup
        )

    whole = run(4, tmp_path / "whole")
    run(2, tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "second")  # it learned from an unfinished first layer
    assert_equal_weights(whole, run(4, tmp_path / "parts"))


@eagerly
def test_built_layers_keep_their_weights_as_the_start():
    rbm = machine(9, 5)
    before = np.array(rbm.w_rec)
    train_stack(X, [rbm, RBM(3, seed=1)], epochs=1, verbose=0, optimizer="sgd")
    assert not np.array_equal(rbm.w_rec, before)
    np.testing.assert_allclose(rbm.w_rec, before, atol=0.1)


@eagerly
def test_layers_of_equal_seed_start_from_weights_of_their_own():
    rbms = [RBM(9, seed=0), RBM(9, seed=0)]
    train_stack(X, rbms, epochs=1, verbose=0, optimizer=keras.optimizers.SGD(0.0))
    assert abs(np.corrcoef(np.ravel(rbms[0].w_rec), np.ravel(rbms[1].w_rec))[0, 1]) < 5 / 9


@pytest.mark.slow
def test_a_top_that_sees_labels_learns_them():
    """Labels tell bars from stripes."""
    labels = np.array([int(np.ptp(image.reshape(3, 3), axis=0).max() == 0) for image in X])
    x, labels = np.tile(X, (20, 1)), np.tile(labels, 20)
    rbms = [RBM(20, seed=0), LabeledRBM(20, number_classes=2, seed=1)]
    dbn = train_stack(x, rbms, labels, epochs=60, verbose=0, batch_size=10)
    hits = np.argmax(dbn.predict(x, verbose=0), axis=1) == labels
    assert hits.mean() > 0.9


# ---------------------------------------------------------------- what it takes


@functools.cache
def trained_at_a_hundredth():
    optimizer = keras.optimizers.SGD
    return train_stack(X, two_layers(), epochs=2, verbose=0, optimizer=lambda rbm: optimizer(0.01))


@eagerly
@pytest.mark.parametrize(
    "optimizer",
    ["sgd", keras.optimizers.SGD(0.01), lambda rbm: keras.optimizers.SGD(0.01)],
    ids=["name", "optimizer", "function"],
)
def test_an_optimizer_may_be_named_given_or_made(optimizer):
    """Each layer has one of its own: that of "sgd" has the rate 0.01."""
    made = train_stack(X, two_layers(), epochs=2, verbose=0, optimizer=optimizer)
    assert_equal_weights(trained_at_a_hundredth(), made)


@eagerly
def test_images_may_come_in_batches_of_a_data_set():
    expected = train_stack(X, two_layers(), epochs=2, verbose=0)
    made = train_stack(data_set_of(X), two_layers(), callbacks=None, epochs=2, verbose=0)
    assert_equal_weights(expected, made)


LABEL = np.arange(len(X)) % 2
WEIGHT = np.arange(len(X), dtype="float32")


@pytest.mark.parametrize(
    ("labeled", "data", "weights"),
    [
        (False, X.tolist(), None),
        (False, [X], None),
        (False, data_set_of(X, LABEL), None),
        (False, (X, None, WEIGHT), WEIGHT),
        (True, [X, LABEL], None),
        (True, data_set_of(X, LABEL), None),
        (True, (data_set_of(X, LABEL), None), None),
        (True, (X, LABEL.tolist(), WEIGHT), WEIGHT),
        (True, data_set_of(X, LABEL, WEIGHT), WEIGHT),
    ],
)
def test_examples_come_as_fit_takes_them(labeled, data, weights):
    rbms = [RBM(4, 9), LabeledRBM(3, number_classes=2) if labeled else RBM(3)]
    x, y, w = checked_examples("x", data, rbms)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, np.eye(2)[LABEL] if labeled else None)
    np.testing.assert_array_equal(w, weights)


def test_callbacks_are_one_or_several_or_none():
    one = keras.callbacks.Callback()
    assert as_list(None) == as_list(()) == []
    assert as_list(one) == as_list([one]) == as_list((one,)) == [one]


@eagerly
def test_weights_of_validation_weigh_its_means():
    """Where all but the first weigh nothing it is alone."""

    def cost(*validation_data):
        costs = []
        note = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda _, logs: costs.append(logs["val_reconstruction_cost"])
        )
        watched = {"callbacks": note, "validation_data": validation_data}
        train_stack(X, two_layers(), epochs=1, verbose=0, **watched)
        return costs[0]

    assert cost(X[:6], None, np.eye(6)[0]) == pytest.approx(cost(X[:1]), rel=1e-5)


@eagerly
def test_validation_reports_on_every_layer_and_changes_nothing():
    labels, logs = np.arange(14) % 2, []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, seen: logs.append(seen))

    def trained(**arguments):
        rbms = [RBM(5, seed=0), LabeledRBM(4, number_classes=2, seed=1)]
        return train_stack(X, rbms, labels, epochs=2, verbose=0, **arguments)

    alone = trained()
    watched = trained(validation_data=(X[:6], labels[:6]), callbacks=[note])
    assert_equal_weights(alone, watched)
    assert len(logs) == 4
    assert all(np.isfinite(seen["val_free_energy"]) for seen in logs)


@pytest.mark.parametrize(
    ("x", "rbms", "labels", "named"),
    [
        (np.zeros((0, 4)), [RBM(2), RBM(2)], None, "at least one example"),
        (2 * np.ones((3, 4)), [RBM(2), RBM(2)], None, "must lie in"),
        (np.full((3, 4), np.nan), [RBM(2), RBM(2)], None, "must lie in"),
        (np.ones((3, 4)), [RBM(2), RBM(2)], np.zeros(3, int), "are for a LabeledRBM"),
        (np.ones((3, 4)), [RBM(2), LabeledRBM(2)], None, "are for a LabeledRBM"),
        (np.ones((3, 4)), [RBM(2), LabeledRBM(2)], np.zeros(2, int), "one number for each"),
        (np.ones((3, 4)), [RBM(2)], None, "at least two"),
        (np.ones((3, 4)), [RBM(2), RBM(2, number_visible_units=3)], None, "as many visible"),
    ],
)
def test_refuses_to_train_on_what_does_not_fit(x, rbms, labels, named):
    with pytest.raises(ValueError, match=named):
        train_stack(x, rbms, labels, verbose=0)


def test_refuses_validation_data_before_anything_is_trained():
    rbms = two_layers()
    with pytest.raises(ValueError, match="`validation_data`"):
        train_stack(X, rbms, validation_data=2 * X, verbose=0)
    assert not rbms[0].built


def test_refuses_one_backup_for_all_layers(tmp_path):
    for backup in (Backup(tmp_path), keras.callbacks.BackupAndRestore(tmp_path)):
        with pytest.raises(ValueError, match=r"`callbacks` with a backup must be a function.*Rec"):
            train_stack(np.eye(4), [RBM(4, seed=0), RBM(4, seed=1)], callbacks=[backup])


def test_refuses_what_it_could_not_train_before_anything_is_trained():
    shared = RBM(4, seed=0)
    for rbms, named in [
        ([shared, shared], "different layers"),
        ([RBM(4, seed=0, tied=False), RBM(4)], "`train_stack` needs symmetric"),
    ]:
        with pytest.raises(ValueError, match=named):
            train_stack(np.eye(4), rbms, verbose=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": None},
        {"steps_per_epoch": 0},
        {"epoch": 2},
        {"sample_weight": np.ones(4)},
        {"centered": "yes"},
        {"optimizer": keras.optimizers.SGD},
        {"callbacks": keras.callbacks.History},
        {"callbacks": ["history"]},
    ],
    ids=str,
)
def test_arguments_of_fit_are_checked_before_anything_is_built(wrong):
    rbms = two_layers()
    with pytest.raises(ValueError, match=rf"`{next(iter(wrong))}` must .*Received"):
        train_stack(X, rbms, **{"verbose": 0, **wrong})
    assert not rbms[0].built


def test_an_optimizer_that_keras_does_not_know_is_noticed_as_early():
    rbms = two_layers()
    with pytest.raises(ValueError, match="adamm"):
        train_stack(X, rbms, optimizer="adamm", verbose=0)
    assert not rbms[0].built
    with pytest.raises(ValueError, match=r"`rbms` must be at least two RBMs.*Received: \['RBM'\]"):
        train_stack(X, RBM(4), verbose=0)
