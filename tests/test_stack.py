"""Stacks against an enumerated network of 4, 3, 3 and 2 units, written in NumPy and float64."""

import itertools
import shutil

import keras
import numpy as np
import pytest
from conftest import enumerate_machine, machine, parameters_of, states
from scipy import stats

from rbm_tutorial import RBM, ContrastiveDivergence, bars_and_stripes, binarize
from rbm_tutorial.labeled import LabeledRBM
from rbm_tutorial.stack import (
    DeepBeliefNetwork,
    _StatesAbove,
    train_stack,
    variational_bound,
)


def network(sizes=(4, 3, 3, 2), scale=1.0):
    """Layers with unrelated recognition and generative weights, and a tied top."""
    pairs = list(itertools.pairwise(sizes))
    rbms = [machine(below, above, scale, seed) for seed, (below, above) in enumerate(pairs)]
    rng = np.random.default_rng(9)
    lower = [rbm.untie() for rbm in rbms[:-1]]
    for rbm in lower:
        rbm._w_gen.assign(rng.normal(scale=scale, size=rbm.w_gen.shape))
    return DeepBeliefNetwork([*lower, rbms[-1]])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def products(p, states):
    """Probability of each of `states` under independent units: (rows, states)."""
    return np.prod(np.where(states == 1, p[:, None], 1 - p[:, None]), axis=2)


def table(w, bias):
    """Probability of every state of one layer given every state of another: (from, to)."""
    w, bias = np.asarray(w, "float64"), np.asarray(bias, "float64")
    return products(sigmoid(states(len(w)) @ w + bias), states(len(bias)))


def up_tables(dbn):
    """q(hˡ | hˡ⁻¹) of every pair of states."""
    return [table(rbm.w_rec, rbm.hb) for rbm in dbn.lower]


def down_tables(dbn):
    """p(hˡ⁻¹ | hˡ) of every pair of states, rows hˡ."""
    return [table(rbm.w_gen, rbm.vb) for rbm in dbn.lower]


def exact_p_v(dbn):
    p = enumerate_machine(*parameters_of(dbn.top)).p_v
    for down in reversed(down_tables(dbn)):
        p = p @ down
    return p


def exact_bound(dbn):
    """E_q[log p(v, h) - log q(h | v)] of every v, from the top down: the bound on log p(hˡ)."""
    bound = np.log(enumerate_machine(*parameters_of(dbn.top)).p_v)
    for q, down in zip(reversed(up_tables(dbn)), reversed(down_tables(dbn))):
        bound = np.sum(q * (bound + np.log(down.T) - np.log(q)), axis=1)
    return bound


@pytest.fixture
def dbn():
    return network()


# ---------------------------------------------------------------- the network, exactly


def test_features_are_a_pass_of_probabilities(dbn):
    x = states(4)
    for rbm in [*dbn.lower, dbn.top]:
        x = sigmoid(x @ np.asarray(rbm.w_rec) + np.asarray(rbm.hb))
    np.testing.assert_allclose(dbn(states(4)), x, atol=1e-6)
    np.testing.assert_allclose(dbn.predict(states(4), verbose=0), x, atol=1e-6)


def p_value(rows, p):
    numbers = np.asarray(rows, int) @ (1 << np.arange(np.shape(rows)[1])[::-1])
    return stats.chisquare(np.bincount(numbers, minlength=len(p)), len(numbers) * p).pvalue


def test_recognition_draws_from_q(dbn):
    x = np.tile(states(4)[5], (8000, 1))
    drawn = dbn.sample_up(x)
    assert len(drawn) == 3
    p = np.eye(16)[5]
    for rows, table in zip(drawn[1:], up_tables(dbn)):
        p = p @ table
        assert p_value(rows, p) > 1e-3


def test_generation_draws_from_p(dbn):
    p = np.eye(8)[3]
    drawn = dbn.sample_down(np.tile(states(3)[3], (8000, 1)))
    assert len(drawn) == 3
    for rows, table in zip(reversed(drawn[:-1]), reversed(down_tables(dbn))):
        p = p @ table
        assert p_value(rows, p) > 1e-3


def test_generated_images_follow_the_enumerated_distribution(dbn):
    images = binarize(np.asarray(dbn.generate(8000, steps=50)), seed=0)
    assert p_value(images, exact_p_v(dbn)) > 1e-3


def test_generating_with_recognition_weights_fails_the_same_test(dbn):
    for rbm in dbn.lower:
        rbm._w_gen.assign(np.transpose(rbm.w_rec))
    images = binarize(np.asarray(dbn.generate(8000, steps=50)), seed=0)
    assert p_value(images, exact_p_v(network())) < 1e-9


def labeled_network():
    top = LabeledRBM(2, number_classes=4, seed=2)
    top.build([7])
    rng = np.random.default_rng(3)
    for parameter in (top.w_rec, top.hb, top.vb):
        parameter.assign(rng.normal(scale=4.0, size=parameter.shape))
    return DeepBeliefNetwork([*network().lower, top])


def exact_given_label(dbn, label):
    """p(v | y), (16,)."""
    w, hb, vb = parameters_of(dbn.top)
    y = np.tile(np.eye(4)[label], (8, 1))
    visible = np.concatenate([states(3), y], axis=1)
    p = np.exp(visible @ vb + np.logaddexp(0, visible @ w + hb).sum(axis=1))
    p = p / p.sum()
    for down in reversed(down_tables(dbn)):
        p = p @ down
    return p


def test_images_of_a_class_follow_the_enumerated_distribution():
    dbn = labeled_network()
    labels = np.repeat([0, 3], 8000)
    images = binarize(np.asarray(dbn.generate(labels=labels, steps=50)), seed=0)
    for label, rows in zip([0, 3], [images[:8000], images[8000:]]):
        assert p_value(rows, exact_given_label(dbn, label)) > 1e-3
        assert p_value(rows, exact_given_label(dbn, 3 - label)) < 1e-9


def test_a_network_that_sees_labels_says_how_probable_they_are():
    dbn = labeled_network()
    p = dbn.top.class_probabilities(dbn.lower[1].forward(dbn.lower[0].forward(states(4))))
    np.testing.assert_allclose(dbn.predict(states(4), verbose=0), p, atol=1e-6)
    assert np.shape(dbn.generate(5, steps=2)) == (5, 4)


# ---------------------------------------------------------------- the bound


def drawn_bounds(dbn, repeats=8000):
    x = np.tile(states(4), (repeats, 1))
    log_z = enumerate_machine(*parameters_of(dbn.top)).log_z
    drawn = np.asarray(variational_bound(dbn, x, log_z), "float64")
    return drawn.reshape(repeats, 16)


def test_the_bound_has_its_enumerated_expectation(dbn):
    drawn = drawn_bounds(dbn)
    standard_error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert np.max(abs(drawn.mean(axis=0) - exact_bound(dbn)) / standard_error) < 5
    assert np.all(np.log(exact_p_v(dbn)) > exact_bound(dbn))

    for rbm in dbn.lower:  # wrong: probabilities in place of states
        rbm._bernoulli = lambda p: p
    mean_field = drawn_bounds(dbn, repeats=1)[0]
    assert np.max(abs(mean_field - exact_bound(dbn)) / standard_error) > 10


def test_a_transposed_layer_on_top_changes_nothing():
    """An RBM on top of itself is the same distribution, and the bound is the log-likelihood."""
    rbm = machine()
    exact = enumerate_machine(*parameters_of(rbm))
    top = RBM(4, seed=1)
    top.build([3])
    w, hb, vb = parameters_of(rbm)
    for parameter, value in zip((top.w_rec, top.hb, top.vb), (w.T, vb, hb)):
        parameter.assign(value)
    dbn = DeepBeliefNetwork([rbm, top])
    np.testing.assert_allclose(exact_p_v(dbn), exact.p_v, rtol=1e-5)
    np.testing.assert_allclose(exact_bound(dbn), np.log(exact.p_v), rtol=1e-5)
    many = np.reshape(variational_bound(dbn, np.tile(exact.v, (3, 1)), exact.log_z), (3, 16))
    np.testing.assert_allclose(many, np.tile(np.log(exact.p_v), (3, 1)), atol=1e-4)


def test_the_bound_refuses_labels_and_values_outside_the_unit_interval(dbn):
    with pytest.raises(ValueError, match="sees labels"):
        variational_bound(labeled_network(), states(4), 0.0)
    with pytest.raises(ValueError, match="must lie in"):
        variational_bound(dbn, 2 * states(4), 0.0)


# ---------------------------------------------------------------- greedy training


def test_layers_are_trained_in_turn_on_states_of_the_one_below():
    x, _ = bars_and_stripes(3)
    rbms = [RBM(10, seed=0), RBM(6, seed=1), RBM(4, seed=2)]
    seen = []

    class Spy(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            seen.append(self.model.rbm)

    dbn = train_stack(x, rbms, epochs=2, verbose=0, callbacks=lambda rbm: [Spy()])
    assert seen == rbms
    assert [rbm.tied for rbm in [*dbn.lower, dbn.top]] == [False, False, True]
    assert dbn.top is rbms[2]
    np.testing.assert_array_equal(dbn.lower[0].w_rec, rbms[0].w_rec)
    np.testing.assert_array_equal(dbn.lower[0].w_gen, np.transpose(rbms[0].w_rec))
    assert dbn.predict(x, verbose=0).shape == (14, 4)


def test_a_further_layer_raises_the_exact_bound():
    """It starts as the first, transposed, and learns the states that the first infers."""
    rbm, top = machine(), RBM(4, seed=1)
    top.build([3])
    w, hb, vb = parameters_of(rbm)
    for parameter, value in zip((top.w_rec, top.hb, top.vb), (w.T, vb, hb)):
        parameter.assign(value)
    p_data = np.random.default_rng(0).dirichlet(np.ones(16))
    log_likelihood = p_data @ np.log(enumerate_machine(*parameters_of(rbm)).p_v)
    before = p_data @ exact_bound(DeepBeliefNetwork([rbm, top]))
    assert before == pytest.approx(log_likelihood, abs=1e-5)

    x = states(4)[np.random.default_rng(1).choice(16, 20_000, p=p_data)]
    model = ContrastiveDivergence(top, persistent_chains=200)
    model.compile(keras.optimizers.SGD(keras.optimizers.schedules.PolynomialDecay(0.1, 1000, 0.0)))
    model.fit(np.asarray(rbm.sample_h(x)), batch_size=200, epochs=10, verbose=0)
    after = DeepBeliefNetwork([rbm, top])
    inferred, p_h = p_data @ up_tables(after)[0], enumerate_machine(*parameters_of(rbm)).p_h
    room = np.sum(inferred * np.log(inferred / p_h))  # KL(q ‖ p): the most that it can rise
    assert before + 0.5 * room < p_data @ exact_bound(after) < before + room + 1e-6
    assert p_data @ np.log(exact_p_v(after)) > p_data @ exact_bound(after)


def test_each_epoch_has_states_and_an_order_of_its_own():
    x = np.tile(states(4), (500, 1)).astype("float32")
    rbm = machine()
    y = np.eye(16)[np.arange(8000) % 16]
    above = _StatesAbove(x, [rbm], y, 1000, seed=0)
    first = np.concatenate([above[i] for i in range(len(above))])
    for state in range(16):
        rows = first[first[:, 3 + state] == 1, :3]
        assert p_value(rows, up_tables(DeepBeliefNetwork([rbm, RBM(2)]))[0][state]) > 1e-5
    above.start(1)
    second = np.concatenate([above[i] for i in range(len(above))])
    assert not np.array_equal(first, second)
    above.start(0)
    np.testing.assert_array_equal(np.concatenate([above[i] for i in range(len(above))]), first)


def test_training_asks_for_the_states_of_each_epoch(monkeypatch):
    begun = []
    start = _StatesAbove.start

    def recorded(self, epoch):
        begun.append((len(self.lower), epoch))
        start(self, epoch)

    monkeypatch.setattr(_StatesAbove, "start", recorded)
    x, _ = bars_and_stripes(2)
    train_stack(x, [RBM(2, seed=0), RBM(2, seed=1)], epochs=3, verbose=0)
    assert set(begun) == {(depth, epoch) for depth in (0, 1) for epoch in (0, 1, 2)}


def test_an_interrupted_run_is_resumed_bit_for_bit(tmp_path):
    x, _ = bars_and_stripes(3)

    def run(epochs, directory):
        rbms = [RBM(10, seed=0, name="first"), RBM(6, seed=1, name="second")]
        return train_stack(
            x,
            rbms,
            epochs=epochs,
            batch_size=4,
            verbose=0,
            callbacks=lambda rbm: [
                keras.callbacks.BackupAndRestore(directory / rbm.name, delete_checkpoint=False)
            ],
        )

    whole = run(4, tmp_path / "whole")
    run(2, tmp_path / "parts")
    shutil.rmtree(tmp_path / "parts" / "second")  # it learned from an unfinished first layer
    resumed = run(4, tmp_path / "parts")
    for ours, theirs in zip(whole.weights, resumed.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_built_layers_keep_their_weights_as_the_start():
    x, _ = bars_and_stripes(3)
    rbm = machine(9, 5)
    before = np.array(rbm.w_rec)
    train_stack(x, [rbm, RBM(3, seed=1)], epochs=1, verbose=0, optimizer=lambda _: "sgd")
    assert not np.array_equal(rbm.w_rec, before)
    np.testing.assert_allclose(rbm.w_rec, before, atol=0.1)


def test_a_top_that_sees_labels_learns_them():
    """Labels tell bars from stripes."""
    x, _ = bars_and_stripes(3)
    labels = np.array([int(np.ptp(image.reshape(3, 3), axis=0).max() == 0) for image in x])
    x, labels = np.tile(x, (20, 1)), np.tile(labels, 20)
    rbms = [RBM(20, seed=0), LabeledRBM(20, number_classes=2, seed=1)]
    dbn = train_stack(x, rbms, labels, epochs=60, verbose=0, batch_size=10)
    hits = np.argmax(dbn.predict(x, verbose=0), axis=1) == labels
    assert hits.mean() > 0.9


@pytest.mark.parametrize(
    ("x", "rbms", "labels", "named"),
    [
        (np.zeros((0, 4)), [RBM(2), RBM(2)], None, "at least one example"),
        (2 * np.ones((3, 4)), [RBM(2), RBM(2)], None, "must lie in"),
        (np.full((3, 4), np.nan), [RBM(2), RBM(2)], None, "must lie in"),
        (np.ones((3, 4)), [RBM(2), RBM(2)], np.zeros(3, int), "are for a LabeledRBM"),
        (np.ones((3, 4)), [RBM(2), LabeledRBM(2)], None, "are for a LabeledRBM"),
        (np.ones((3, 4)), [RBM(2), LabeledRBM(2)], np.zeros(2, int), "one label for each"),
        (np.ones((3, 4)), [RBM(2)], None, "at least two"),
    ],
)
def test_refuses_to_train_on_what_does_not_fit(x, rbms, labels, named):
    with pytest.raises(ValueError, match=named):
        train_stack(x, rbms, labels, verbose=0)


# ---------------------------------------------------------------- contracts


def test_unrolled_it_is_an_ordinary_network(dbn, tmp_path):
    network = dbn.classifier(5)
    assert [type(layer).__name__ for layer in network.layers] == ["Dense"] * 4
    features = keras.Sequential(network.layers[:-1])
    np.testing.assert_allclose(features.predict(states(4), verbose=0), dbn(states(4)), atol=1e-6)
    before = np.array(dbn.lower[0].w_rec)
    network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    network.fit(states(4), np.arange(16) % 5, epochs=2, verbose=0)
    np.testing.assert_array_equal(dbn.lower[0].w_rec, before)
    network.save(tmp_path / "classifier.keras")
    assert keras.models.load_model(tmp_path / "classifier.keras").output_shape == (None, 5)


def test_dropout_acts_on_inputs_and_hidden_units(dbn):
    layers = dbn.classifier(5, dropout=0.5, input_dropout=0.2).layers
    rates = [getattr(layer, "rate", None) for layer in layers]
    assert rates == [0.2, None, 0.5, None, 0.5, None, 0.5, None]
    labeled = labeled_network().classifier(5)
    assert [layer.units for layer in labeled.layers] == [3, 3, 5]


@pytest.mark.parametrize("make", [network, labeled_network])
def test_saved_and_loaded(tmp_path, make):
    dbn = make()
    dbn.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored(states(4)), dbn(states(4)))
    np.testing.assert_array_equal(restored.generate(3, steps=2), dbn.generate(3, steps=2))
    for ours, theirs in zip(dbn.weights, restored.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_builds_layers_that_have_no_weights_yet():
    dbn = DeepBeliefNetwork([RBM(3, number_visible_units=5), RBM(4), LabeledRBM(2)])
    assert dbn.lower[1].w_rec.shape == (3, 4)
    assert dbn.top.w_rec.shape == (14, 2)


@pytest.mark.parametrize(
    ("rbms", "named"),
    [
        (lambda: [machine()], "at least two"),
        (lambda: [machine(), "top"], "at least two"),
        (lambda: [machine(), machine(4, 2)], "as many visible units"),
        (lambda: [machine(), machine(3, 2).untie()], "symmetric"),
        (lambda: [RBM(3), RBM(2)], "must know its"),
        (lambda: [LabeledRBM(3, 12), machine(3, 2)], "Only the last"),
    ],
)
def test_refuses_layers_that_do_not_fit(rbms, named):
    with pytest.raises(ValueError, match=named):
        DeepBeliefNetwork(rbms())


def test_refuses_labels_that_the_top_does_not_see_and_no_number(dbn):
    with pytest.raises(ValueError, match="need a LabeledRBM"):
        dbn.generate(labels=[0, 1])
    with pytest.raises(ValueError, match="must lie in 0 … 3"):
        labeled_network().generate(labels=[0, 4])
    with pytest.raises(ValueError, match="`number`"):
        dbn.generate()
    with pytest.raises(ValueError, match="`steps`"):
        dbn.generate(2, steps=0)
