"""Stacks against an enumerated network of 4, 3, 3 and 2 units, written in NumPy and float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REFUSED_WHEN_COMPILED, only_tensorflow
from enumerated import exact_of, sigmoid, states
from machines import BINARY, REAL, machine
from networks import (
    down_tables,
    exact_bound,
    exact_given_label,
    exact_p_v,
    labeled_network,
    network,
    up_tables,
)
from sampled import p_value, sharing_noise, warm, with_sampler

from rbm_tutorial import RBM, DeepBeliefNetwork, LabeledRBM, binarize
from rbm_tutorial.greedy import transposed
from rbm_tutorial.stack import variational_bound


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


def test_reconstruction_is_a_pass_of_probabilities_up_and_down(dbn):
    first, second = dbn.lower
    h = sigmoid(states(4) @ np.asarray(first.w_rec) + np.asarray(first.hb))
    h = sigmoid(h @ np.asarray(second.w_rec) + np.asarray(second.hb))
    h = sigmoid(h @ np.asarray(second.w_gen) + np.asarray(second.vb))
    logits = h @ np.asarray(first.w_gen) + np.asarray(first.vb)
    np.testing.assert_allclose(dbn.reconstruction_logits(states(4)), logits, atol=1e-5)


def smallest_p_value(drawn, start, tables):
    """Over the layers, from the one next to the start on, of draws through these tables."""
    p, p_values = start, []
    for rows, matrix in zip(drawn, tables, strict=True):
        p = p @ matrix
        p_values.append(p_value(BINARY, rows, p))
    return min(p_values)


def recognized(dbn):
    x, *above = dbn.sample_up(np.tile(states(4)[5], (8000, 1)))
    np.testing.assert_array_equal(x[0], states(4)[5])
    return smallest_p_value(above, np.eye(16)[5], up_tables(dbn))


def generated(dbn):
    *below, h = dbn.sample_down(np.tile(states(3)[3], (8000, 1)))
    np.testing.assert_array_equal(h[0], states(3)[3])
    return smallest_p_value(below[::-1], np.eye(8)[3], down_tables(dbn)[::-1])


def test_recognition_draws_from_q(dbn):
    assert recognized(dbn) > 1e-3


def test_generation_draws_from_p(dbn):
    assert generated(dbn) > 1e-3


@pytest.mark.parametrize("wrong", [warm, sharing_noise])
def test_units_that_draw_otherwise_fail_both_tests(dbn, wrong):
    for rbm in dbn.lower:
        rbm.hidden_units = rbm.visible_units = wrong(BINARY)
    assert recognized(dbn) < 1e-9
    assert generated(dbn) < 1e-9


def test_generated_images_follow_the_enumerated_distribution(dbn):
    images = binarize(np.asarray(dbn.generate(8000, steps=50)), seed=0)
    assert p_value(BINARY, images, exact_p_v(dbn)) > 1e-3


def test_generating_with_recognition_weights_fails_the_same_test(dbn):
    for rbm in dbn.lower:
        rbm.w_gen.assign(np.transpose(rbm.w_rec))
    images = binarize(np.asarray(dbn.generate(8000, steps=50)), seed=0)
    assert p_value(BINARY, images, exact_p_v(network())) < 1e-9


def test_images_of_a_class_follow_the_enumerated_distribution():
    dbn = labeled_network()
    labels = np.repeat([0, 3], 8000)
    images = binarize(np.asarray(dbn.generate(labels=labels, steps=50)), seed=0)
    for label, rows in zip([0, 3], [images[:8000], images[8000:]]):
        assert p_value(BINARY, rows, exact_given_label(dbn, label)) > 1e-3
        assert p_value(BINARY, rows, exact_given_label(dbn, 3 - label)) < 1e-9


def test_a_network_that_sees_labels_says_how_probable_they_are():
    """By Bayes' rule at the top, given the probabilities that come up to it."""
    dbn = labeled_network()
    h = dbn.lower[1].forward(dbn.lower[0].forward(states(4)))
    p = dbn.top.class_probabilities(h)
    np.testing.assert_allclose(dbn.predict(states(4), verbose=0), p, atol=1e-6)
    assert np.shape(dbn.generate(5, steps=2)) == (5, 4)


def test_layers_of_equal_seed_that_it_builds_start_from_weights_of_their_own():
    dbn = DeepBeliefNetwork([RBM(40, number_visible_units=40, seed=0), RBM(40, seed=0)])
    first, second = (np.asarray(rbm.w_rec) for rbm in [*dbn.lower, dbn.top])
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 5 / 40  # of 1,600 numbers
    same = RBM(40, number_visible_units=40, seed=0)
    same.build((None, 40))
    np.testing.assert_array_equal(first, same.w_rec)


def test_layers_of_equal_seed_draw_numbers_of_their_own():
    """Else equal layers would draw equal states: without weights all units are fair coins."""
    rbms = [RBM(4, number_visible_units=4, seed=3) for _ in range(3)]
    dbn = DeepBeliefNetwork(rbms)
    for rbm in dbn.lower:
        rbm.w_rec.assign(np.zeros((4, 4)))
    _, first, second = (np.asarray(rows) for rows in dbn.sample_up(np.zeros((2000, 4))))
    assert abs(np.mean(first == second) - 0.5) < 5 * 0.5 / np.sqrt(8000)


# ---------------------------------------------------------------- the bound


def drawn_bounds(dbn, repeats=8000):
    x = np.tile(states(4), (repeats, 1))
    drawn = np.asarray(variational_bound(dbn, x, exact_of(dbn.top).log_z), "float64")
    return drawn.reshape(repeats, 16)


@pytest.mark.parametrize("make", [network, labeled_network])
def test_the_bound_has_its_enumerated_expectation(make):
    dbn = make()
    drawn = drawn_bounds(dbn)
    standard_error = drawn.std(axis=0) / np.sqrt(len(drawn))
    assert np.max(abs(drawn.mean(axis=0) - exact_bound(dbn)) / standard_error) < 5
    assert np.all(np.log(exact_p_v(dbn)) > exact_bound(dbn))

    means = with_sampler(BINARY, lambda right, logits, uniform: keras.ops.sigmoid(logits))
    for rbm in dbn.lower:  # wrong: probabilities in place of states
        rbm.hidden_units = means
    mean_field = drawn_bounds(dbn, repeats=1)[0]
    assert np.max(abs(mean_field - exact_bound(dbn)) / standard_error) > 10


def test_a_transposed_layer_on_top_changes_nothing():
    """An RBM on top of itself is the same distribution, and the bound is the log-likelihood."""
    rbm = machine()
    exact = exact_of(rbm)
    dbn = DeepBeliefNetwork([rbm, transposed(rbm)])
    np.testing.assert_allclose(exact_p_v(dbn), exact.p_v, rtol=1e-5)
    np.testing.assert_allclose(exact_bound(dbn), np.log(exact.p_v), rtol=1e-5)
    many = np.reshape(variational_bound(dbn, np.tile(exact.v, (3, 1)), exact.log_z), (3, 16))
    np.testing.assert_allclose(many, np.tile(np.log(exact.p_v), (3, 1)), atol=1e-4)


@only_tensorflow  # JAX has double precision only where it is told to
def test_the_bound_of_layers_in_double_precision():
    rbms = [RBM(3, number_visible_units=4, dtype="float64"), RBM(2, dtype="float64")]
    bound = variational_bound(DeepBeliefNetwork(rbms), states(4), 0.0)
    assert np.isfinite(bound).all()


def test_the_bound_refuses_values_outside_the_unit_interval(dbn):
    with pytest.raises(ValueError, match="must lie in"):
        variational_bound(dbn, 2 * states(4), 0.0)


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


@only_tensorflow
def test_exported_for_serving(tmp_path, dbn):
    expected = np.asarray(dbn(states(4)))
    dbn.export(tmp_path / "served", verbose=False)
    served = tf.saved_model.load(tmp_path / "served")
    np.testing.assert_allclose(served.serve(states(4).astype("float32")), expected, atol=1e-6)


def test_predicts_from_batches_what_units_can_have(dbn):
    data = tf.data.Dataset.from_tensor_slices(states(4).astype("float32")).batch(8)
    np.testing.assert_allclose(dbn.predict(data, verbose=0), dbn(states(4)), atol=1e-6)
    with pytest.raises(REFUSED_WHEN_COMPILED, match=r"must lie in|must hold values"):
        dbn.predict(data.map(lambda x: 255 * x), verbose=0)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_predicting_that_fails_leaves_the_network_as_it_was(dbn):
    before = dbn.get_weights()
    nothing = tf.data.Dataset.from_tensors(states(4)).filter(lambda x: False)
    with pytest.raises(ValueError, match="at least one example"):
        dbn.predict(nothing, verbose=0)

    def stop(*_, **logs):
        raise StopIteration

    ends = keras.callbacks.LambdaCallback(on_predict_batch_end=stop)
    with pytest.raises(RuntimeError, match="must not raise StopIteration"):
        dbn.predict(states(4), batch_size=2, verbose=0, callbacks=[ends])
    for old, new in zip(before, dbn.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert dbn.predict(states(4), verbose=0).shape == dbn(states(4)).shape


def test_a_file_appears_whole_or_not_at_all(dbn, tmp_path, monkeypatch):
    dbn.save(tmp_path / "dbn.keras")
    before = (tmp_path / "dbn.keras").read_bytes()

    def broken(self, path, *args, **kwargs):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.Model, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        dbn.save(tmp_path / "dbn.keras")
    assert (tmp_path / "dbn.keras").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["dbn.keras"]


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
        (lambda: [machine(hidden_units=REAL), machine(3, 2)], "of the type of hidden units below"),
        (
            lambda: [RBM(3, 4, dtype="float64"), RBM(2)],
            r"float64, or none.*\['float64', 'float32'\]",
        ),
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


def test_unrolls_binary_layers_alone():
    real = DeepBeliefNetwork([RBM(6, 8), RBM(4, hidden_units=REAL)])
    with pytest.raises(ValueError, match=r"`classifier` needs binary hidden units.*Received"):
        real.classifier(10)
