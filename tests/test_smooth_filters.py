"""The penalty of `experiments/likelihood_mnist.py` that keeps filters smooth, and what it moves."""

import importlib.util

import keras
import numpy as np
from machines import copy_of, machine

from rbm_tutorial import ContrastiveDivergence

SPEC = importlib.util.spec_from_file_location("recipes", "experiments/likelihood_mnist.py")
recipes = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(recipes)
RATE, SMOOTHNESS = 0.5, 0.02


def test_the_penalty_is_half_of_all_squared_steps_between_neighbors():
    """Of a symmetric L, w·Lw/2 has the gradient Lw; and each pair of pixels is there once."""
    laplacian = recipes.laplacian
    w, u = np.random.default_rng(0).normal(size=(2, 784, 3)).astype("float32")
    filters = w.reshape(28, 28, 3)
    steps = [np.diff(filters, axis=axis) for axis in (0, 1)]
    squares = sum(np.sum(step.astype("float64") ** 2) for step in steps)
    np.testing.assert_allclose(np.sum(w * laplacian(w)), squares, rtol=1e-4)
    np.testing.assert_allclose(np.sum(u * laplacian(w)), np.sum(w * laplacian(u)), rtol=1e-3)
    np.testing.assert_allclose(laplacian(np.ones_like(w)), 0)


def after_one_update(model, x):
    model.compile(keras.optimizers.SGD(RATE))
    model.fit(x, batch_size=len(x), shuffle=False, verbose=0)
    return [np.array(weight, "float64") for weight in model.rbm.get_weights()]


def test_smoothing_moves_weights_at_constant_centered_biases():
    """Beside a model without it, which draws the same: vb + w·ν and hb + μ·w are the same."""
    rbm = machine(784, 3, scale=0.1)
    x = (np.random.default_rng(1).random((50, 784)) < 0.3).astype("float32")
    plain = ContrastiveDivergence(copy_of(rbm), centered=True)
    smooth = recipes.SmoothFilters(copy_of(rbm), SMOOTHNESS)
    (w, hb, vb), (w_smooth, hb_smooth, vb_smooth) = (
        after_one_update(model, x) for model in (plain, smooth)
    )
    step = -RATE * SMOOTHNESS * np.asarray(recipes.laplacian(rbm.w_rec))
    np.testing.assert_allclose(w_smooth - w, step, atol=1e-6)
    mu, nu = (np.asarray(offset.value) for offset in smooth.offsets[:2])
    assert abs(mu @ step).max() > 1e-3
    np.testing.assert_allclose(hb_smooth + mu @ w_smooth, hb + mu @ w, atol=1e-5)
    np.testing.assert_allclose(vb_smooth + w_smooth @ nu, vb + w @ nu, atol=1e-5)
