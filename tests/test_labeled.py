"""The RBM that sees labels, against all states in which exactly one label unit is on."""

import keras
import numpy as np
import pytest
from conftest import REFUSED_WHEN_COMPILED
from enumerated import states
from machines import BINARY, parameters_of, parametrized
from sampled import p_value, with_sampler

from rbm_tutorial import ContrastiveDivergence
from rbm_tutorial.labeled import LabeledRBM, one_hot
from rbm_tutorial.likelihood import (
    ais_log_partition,
    exact_log_partition,
    log_likelihood,
)
from rbm_tutorial.units import Bernoulli, Beside, Categorical, Gaussian

IMAGES = np.repeat(states(3), 4, axis=0)  # every image with every one of four labels
LABELS = np.tile(np.arange(4), 8)
VISIBLE = np.concatenate([IMAGES, np.eye(4)[LABELS]], axis=1)
HIDDEN = states(2)


def labeled():
    return parametrized(LabeledRBM(2, number_classes=4, seed=0), 7)


@pytest.fixture
def rbm():
    return labeled()


@pytest.fixture
def joint(rbm):
    """p(v, y, h), (32, 4), in float64."""
    w, hb, vb = parameters_of(rbm)
    weights = np.exp((VISIBLE @ vb)[:, None] + HIDDEN @ hb + VISIBLE @ w @ HIDDEN.T)
    return weights / weights.sum()


def test_conditionals_are_those_of_the_joint_distribution(rbm, joint):
    given_h = (joint / joint.sum(axis=0)).T @ VISIBLE
    np.testing.assert_allclose(rbm.reverse(HIDDEN), given_h, atol=1e-6)
    given_v = (joint / joint.sum(axis=1, keepdims=True)) @ HIDDEN
    np.testing.assert_allclose(rbm.forward(VISIBLE), given_v, atol=1e-6)


def test_classifies_as_bayes_rule_does(rbm, joint):
    p = joint.sum(axis=1).reshape(8, 4)
    expected = p / p.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(rbm.class_probabilities(states(3)), expected, atol=1e-6)


def test_the_free_energy_of_an_image_sums_the_labels_out(rbm, joint):
    log_p = -np.asarray(rbm.image_free_energy(states(3))) - exact_log_partition(rbm)
    np.testing.assert_allclose(
        log_p, np.log(joint.sum(axis=1).reshape(8, 4).sum(axis=1)), atol=1e-5
    )


def p_of_ends(rbm, joint):
    """Of the χ² test of chains that start in every state alike."""
    ends = rbm.forward_gibbs(np.tile(VISIBLE, (400, 1)), 40)
    return p_value(rbm.visible_units, ends, joint.sum(axis=1))


def test_gibbs_samples_follow_the_enumerated_distribution(rbm, joint):
    assert p_of_ends(rbm, joint) > 1e-3


def binary_labels():
    """Wrong: draws a label with the probabilities of binary units, made to sum to 1."""

    def sample(right, logits, uniform):
        v, y = Beside(Bernoulli(), Categorical(4), 4).split(logits)
        p = keras.ops.sigmoid(y)
        p = keras.ops.log(p / keras.ops.sum(p, axis=1, keepdims=True))
        return right(keras.ops.concatenate([v, p], axis=1), uniform)

    rbm = labeled()
    rbm.visible_units = with_sampler(rbm.visible_units, sample)
    return rbm


def test_a_wrong_sampler_fails_the_same_test(joint):
    assert p_of_ends(binary_labels(), joint) < 1e-9


def test_reconstruction_cost_is_the_cross_entropy_of_pixels_and_label(rbm):
    y = np.asarray(rbm.reverse(rbm.forward(VISIBLE)), "float64")
    pixels = VISIBLE[:, :3] * np.log(y[:, :3]) + (1 - VISIBLE[:, :3]) * np.log(1 - y[:, :3])
    label = (VISIBLE[:, 3:] * np.log(y[:, 3:])).sum(axis=1)
    expected = -(pixels.sum(axis=1) + label).mean()
    assert float(rbm.reconstruction_cost(VISIBLE)) == pytest.approx(expected, rel=1e-5)


def test_learns_to_classify_what_it_is_shown():
    """Labels are the number of the only pixel that is on, four pixels."""
    labels = np.random.default_rng(0).integers(4, size=400)
    rbm = LabeledRBM(8, number_classes=4, seed=0)
    x = np.concatenate([np.eye(4)[labels]] * 2, axis=1).astype("float32")
    rbm.adapt(x)
    model = ContrastiveDivergence(rbm)
    model.compile(keras.optimizers.SGD(0.5))
    model.fit(x, epochs=30, verbose=0)
    assert np.diag(rbm.class_probabilities(np.eye(4))).min() > 0.9


def test_adapt_gives_labels_their_frequencies():
    labels = np.array([0, 0, 0, 1])
    rbm = LabeledRBM(2, number_classes=2, seed=0)
    rbm.adapt(np.concatenate([np.array([[1], [0], [0], [0]]), np.eye(2)[labels]], axis=1))
    rbm.w_rec.assign(np.zeros((3, 2)))
    np.testing.assert_allclose(rbm.reverse(np.zeros((1, 2))), [[0.25, 0.75, 0.25]], rtol=1e-5)


def test_joins_and_splits(rbm):
    joined = rbm.join(IMAGES.astype("float32"), LABELS)
    np.testing.assert_array_equal(joined, VISIBLE)
    v, y = rbm.split(joined)
    np.testing.assert_array_equal(v, IMAGES)
    np.testing.assert_array_equal(np.argmax(y, axis=1), LABELS)


@pytest.mark.parametrize("v", [states(4), 255 * states(3), np.full((2, 3), np.nan), [["1"] * 3]])
def test_refuses_to_classify_what_are_no_images(rbm, v):
    for method in (rbm.class_probabilities, rbm.image_free_energy, lambda v: rbm.join(v, LABELS)):
        with pytest.raises(ValueError, match=r"`v` must .*Received"):
            method(v)


def test_without_weights_it_says_so():
    unbuilt = LabeledRBM(2, number_classes=4)
    for method in (unbuilt.class_probabilities, unbuilt.image_free_energy):
        with pytest.raises(ValueError, match="call `build` first"):
            method(IMAGES)
    with pytest.raises(ValueError, match="call `build` first"):
        unbuilt.join(IMAGES, LABELS)


def test_refuses_other_pixels_and_says_what_to_take():
    with pytest.raises(ValueError, match=r"`visible_units` must be left out.*Beside\(units, Cate"):
        LabeledRBM(2, number_classes=3, visible_units=Gaussian())


def test_refuses_more_labels_than_images(rbm):
    with pytest.raises(ValueError, match=r"`labels` must be 32, one for each image. Received: 31"):
        rbm.join(IMAGES, LABELS[1:])


@pytest.mark.parametrize("labels", [np.array([0, 4]), np.array([-1, 0])])
def test_refuses_labels_of_no_class(labels):
    with pytest.raises(REFUSED_WHEN_COMPILED, match=r"must lie in 0 … 3"):
        one_hot(labels, 4)


@pytest.mark.parametrize("labels", [np.array([0.0, 5.0]), np.eye(2, dtype=int), [True, False]])
def test_refuses_labels_that_are_no_integers(labels):
    with pytest.raises(ValueError, match="must be integers"):
        one_hot(labels, 4)


def test_refuses_labels_whose_last_32_bits_are_a_class(rbm):
    """Which are all that JAX would take."""
    for labels in (np.array([2**32, 2**32 + 1]), [2**40, 0]):
        with pytest.raises(ValueError, match="`labels` must lie in 0"):
            rbm.join(np.zeros((2, rbm.number_visible_units - rbm.number_classes)), labels)
        with pytest.raises(ValueError, match="`labels` must lie in 0"):
            rbm.sample_image(labels, steps=1)


def test_refuses_one_class_and_no_pixels():
    with pytest.raises(ValueError, match="at least 2"):
        LabeledRBM(2, number_classes=1)
    with pytest.raises(ValueError, match="beside the 10"):
        LabeledRBM(2).build([10])


def image_p_value(images, joint, label):
    """Of the χ² test of images, (images, 3), against p(v | y)."""
    p = joint.sum(axis=1).reshape(8, 4)[:, label]
    return p_value(BINARY, images, p / p.sum())


@pytest.mark.parametrize("label", [0, 3])
def test_images_of_a_class_follow_the_enumerated_distribution(rbm, joint, label):
    labels = np.full(8000, label)
    images = np.asarray(rbm.sample_image(labels, steps=40))
    assert image_p_value(images, joint, label) > 1e-3
    assert image_p_value(images, joint, (label + 1) % 4) < 1e-9  # those of another class do not
    gray = np.asarray(rbm.generate(labels, steps=40))
    assert gray.shape == (8000, 3)
    error = images.std(axis=0) / np.sqrt(4000)  # of the difference of two means, at most
    assert np.all(np.abs(gray.mean(axis=0) - images.mean(axis=0)) < 5 * error)


def test_refuses_to_draw_images_of_no_class(rbm):
    for labels in ([4], [-1], [0.5]):
        with pytest.raises(ValueError, match=r"`labels` must .*Received"):
            rbm.sample_image(labels, steps=2)
    with pytest.raises(ValueError, match=r"`labels` must hold at least one"):
        rbm.sample_image([], steps=2)


def test_likelihoods_are_those_of_the_joint_distribution(rbm, joint):
    w, hb, vb = parameters_of(rbm)
    energy = (VISIBLE @ vb)[:, None] + HIDDEN @ hb + VISIBLE @ w @ HIDDEN.T
    log_z = np.logaddexp.reduce(energy, axis=None)
    assert exact_log_partition(rbm) == pytest.approx(log_z, abs=1e-6)
    estimate = ais_log_partition(rbm, 500, 50)
    assert abs(estimate.log_z - log_z) < 5 * estimate.standard_error
    log_p = log_likelihood(rbm, VISIBLE, log_z)
    np.testing.assert_allclose(log_p, np.log(joint.sum(axis=1)), atol=1e-5)


def test_saved_and_loaded(tmp_path, rbm):
    keras.Sequential([keras.Input((7,)), rbm]).save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras").layers[0]
    np.testing.assert_array_equal(
        restored.class_probabilities(states(3)), rbm.class_probabilities(states(3))
    )
