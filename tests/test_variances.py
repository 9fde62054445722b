"""Learned variances against quadrature and differences of the exact log-likelihood."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import only_tensorflow
from enumerated import states
from machines import BINARY, REAL, machine, parameters_of
from scipy import special
from trained import Given

from rbm_tutorial import RBM, ContrastiveDivergence, variances
from rbm_tutorial.callbacks import FreeEnergyGap
from rbm_tutorial.exact import exact_log_partition
from rbm_tutorial.variances import VarianceLearning, scale_gradient

SCALE = np.array([0.5, 3.0])
DATA = np.random.default_rng(0).normal([1.0, -2.0], [0.7, 2.0], (11, 2))


def model_of_two_reals(negatives=None):
    """Two visible units of σ = 0.5 and 3, and three hidden ones."""
    rbm = machine(2, 3, visible_units=REAL)
    model = VarianceLearning(rbm, negatives=negatives)
    model.compile(keras.optimizers.SGD(0.1), steps_per_execution=1)
    model.build((None, 2))
    model.log_scale.assign(np.log(SCALE))
    return model


def exact_log_p(parameters, scale, v):
    """log p(v) in float64: for each state of h, v is normal with mean σ (vb + w·h), deviation σ."""
    w, hb, vb = parameters
    h = states(len(hb))
    means = h @ w.T + vb
    log_p_h = h @ hb + (means**2).sum(axis=1) / 2
    log_p_h -= special.logsumexp(log_p_h)
    off = (v[:, None] / scale - means) ** 2
    log_p_v = -np.sum(off / 2 + np.log(scale) + np.log(2 * np.pi) / 2, axis=2)
    return special.logsumexp(log_p_v + log_p_h, axis=1)


def test_log_likelihoods_are_those_of_the_mixture_of_normal_densities():
    model = model_of_two_reals()
    log_p = model.log_likelihood(DATA, exact_log_partition(model.rbm))
    np.testing.assert_allclose(log_p, exact_log_p(parameters_of(model.rbm), SCALE, DATA), 1e-4)


def slopes_in_log_scale(model, weights, step=1e-5):
    """Central differences of the weighted mean of log p in log σ."""

    def mean(log_scale):
        log_p = exact_log_p(parameters_of(model.rbm), np.exp(log_scale), DATA)
        return np.average(log_p, weights=weights)

    moves = step * np.eye(2)
    return [(mean(np.log(SCALE) + m) - mean(np.log(SCALE) - m)) / (2 * step) for m in moves]


def test_an_update_moves_the_scale_along_the_gradient_of_the_likelihood():
    """And the RBM as if it had been given v/σ."""
    weights = np.linspace(0.5, 2, len(DATA))
    negatives = Given(DATA[:4] / SCALE)
    model, alone = model_of_two_reals(negatives), machine(2, 3, visible_units=REAL)
    slopes = np.array(slopes_in_log_scale(model, weights))
    kwargs = {"batch_size": len(DATA), "epochs": 1, "verbose": 0, "sample_weight": weights}
    model.fit(DATA, **kwargs)
    np.testing.assert_allclose(model.log_scale - np.log(SCALE), 0.1 * slopes, rtol=1e-3)
    reference = ContrastiveDivergence(alone, negatives=negatives)
    reference.compile(keras.optimizers.SGD(0.1), steps_per_execution=1)
    reference.fit(DATA / SCALE, **kwargs)
    for ours, theirs in zip(parameters_of(model.rbm), parameters_of(alone)):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_gradient_without_the_hidden_units_fails_the_same_test():
    """That of independent units, for which σ is the standard deviation of the data."""
    model = model_of_two_reals()
    slopes = np.array(slopes_in_log_scale(model, np.ones(len(DATA))))
    u = keras.ops.convert_to_tensor(DATA / SCALE, "float32")
    np.testing.assert_allclose(-scale_gradient(model.rbm, u), slopes, rtol=1e-3)
    model.rbm.w_rec.assign(0 * model.rbm.w_rec)
    assert np.abs(-scale_gradient(model.rbm, u) - slopes).max() > 0.1


def test_starts_at_the_standard_deviations_of_the_data():
    model = VarianceLearning(RBM(3, visible_units=REAL, seed=0))
    model.compile(keras.optimizers.SGD(1e-6), steps_per_execution=1)
    data = np.hstack([DATA, np.ones((11, 1))])
    model.fit(data, epochs=1, verbose=0)
    np.testing.assert_allclose(np.exp(model.log_scale), [*DATA.std(axis=0), 1], rtol=1e-4)
    np.testing.assert_allclose(model.restored(model.standardized(data)), data, rtol=1e-5)


def test_is_saved_whole_and_evaluates_without_learning(tmp_path):
    model = model_of_two_reals()
    before = model.get_weights()
    model.evaluate(DATA, verbose=0)
    for old, new in zip(before, model.get_weights()):
        np.testing.assert_array_equal(old, new)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(restored.log_scale, model.log_scale)
    means = model.rbm.forward(DATA / SCALE)
    np.testing.assert_allclose(restored.predict(DATA, verbose=0), means, rtol=1e-4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scaling_and_likelihood_refuse_what_is_no_number(bad):
    model = model_of_two_reals()
    for judge in (model.standardized, model.restored, lambda v: model.log_likelihood(v, 0.0)):
        with pytest.raises(ValueError, match="must be finite"):
            judge(np.full((3, 2), bad))
        with pytest.raises(ValueError, match=r"Received.*\(3, 4\)"):
            judge(np.ones((3, 4)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_data_are_scaled_in_the_precision_of_the_model(dtype):
    """A layer of half precision could not hold them."""
    model = VarianceLearning(RBM(3, visible_units=REAL, dtype=dtype))
    model.build((None, 2))
    model.log_scale.assign(np.log([1e5, 2e5]))
    data = np.array([[3e5, 4e5], [-1e5, 0.0]])
    u = model.standardized(data)
    np.testing.assert_allclose(u, [[3, 2], [-1, 0]], rtol=1e-5)
    np.testing.assert_allclose(model.restored(u), data, rtol=1e-5)


def test_refuses_other_visible_units():
    with pytest.raises(ValueError, match=r"must have visible units `Gaussian\(\)`\. Received: Ber"):
        VarianceLearning(machine(2, 3, visible_units=BINARY))


def test_scales_start_at_the_data_of_fit_though_the_model_was_judged_before():
    judged, fresh = (VarianceLearning(RBM(3, seed=0, visible_units=REAL)) for _ in range(2))
    x = np.random.default_rng(0).normal([1.0, -2.0], [3.0, 0.5], (40, 2))
    for model in (judged, fresh):
        model.compile()
    judged.predict(x[:3], verbose=0)
    for model in (judged, fresh):
        model.fit(x, shuffle=False, verbose=0)
    np.testing.assert_allclose(judged.log_scale, fresh.log_scale, rtol=1e-5)


def test_the_gap_is_that_of_what_the_machine_sees():
    """Data in units of their own would be compared with a machine of v/σ."""
    model = model_of_two_reals()
    history = model.fit(DATA, callbacks=[FreeEnergyGap(DATA[:8], DATA[8:])], verbose=0).history
    scaled = DATA / np.exp(np.asarray(model.log_scale))
    w, hb, vb = parameters_of(model.rbm)
    free_energy = ((scaled - vb) ** 2).sum(axis=1) / 2 - np.logaddexp(0, scaled @ w + hb).sum(
        axis=1
    )
    expected = free_energy[8:].mean() - free_energy[:8].mean()
    assert history["gap"] == [pytest.approx(expected, rel=1e-4)]


def test_log_z_must_be_a_number():
    with pytest.raises(ValueError, match="`log_z` must be a finite number"):
        model_of_two_reals().log_likelihood(DATA, np.nan)


@only_tensorflow
def test_the_slopes_are_those_of_before_the_update_however_late_they_come(monkeypatch):
    """TensorFlow could change the weights first, in one fit of six."""

    def slow(rbm, u, weights=None):
        with tf.control_dependencies([tf.py_function(nap, [], "float32")]):  # even the reading
            return scale_gradient(rbm, u, weights)

    def nap():
        time.sleep(0.05)
        return 0.0

    scales = []
    for gradient, eagerly in [(scale_gradient, True), (slow, False)]:
        monkeypatch.setattr(variances, "scale_gradient", gradient)
        model = VarianceLearning(RBM(3, seed=0, visible_units=REAL))
        model.compile(keras.optimizers.SGD(0.1), run_eagerly=eagerly)
        model.fit(DATA, batch_size=3, shuffle=False, verbose=0)
        scales.append(np.asarray(model.log_scale))
    np.testing.assert_allclose(scales[1], scales[0], rtol=1e-5)
