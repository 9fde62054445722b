"""The centered gradient: the same distributions, another way through them."""

import keras
import numpy as np
import pytest
from machines import copy_of, parameters_of
from trained import EXAMPLES, Given, trainer


def flipped(rbm):
    """The machine of 1 - v: the same distribution with the names of the pixel values exchanged."""
    other = copy_of(rbm)
    w, hb, vb = parameters_of(rbm)
    for parameter, value in [(other.w_rec, -w), (other.hb, hb + w.sum(axis=0)), (other.vb, -vb)]:
        parameter.assign(value)
    return other


def trained(rbm, x, x_k, centered, steps=5):
    """`rbm` after some steps with given negative samples."""
    model = trainer(rbm, keras.optimizers.SGD(0.2), centered=centered, negatives=Given(x_k))
    model.fit(x, batch_size=len(x), epochs=steps, verbose=0)
    return rbm


@pytest.mark.parametrize("centered", [True, False])
def test_only_the_centered_gradient_is_invariant_to_flipping_the_bits(rbm, exact, centered):
    x, x_k = EXAMPLES[:8], 1 - EXAMPLES[8:20]
    learned = trained(copy_of(rbm), x, x_k, centered)
    learned_from_flipped = trained(flipped(rbm), 1 - x, 1 - x_k, centered)
    free_energy = np.asarray(learned.free_energy(exact.v))
    of_flipped = np.asarray(learned_from_flipped.free_energy(1 - exact.v))
    difference = (free_energy - free_energy.mean()) - (of_flipped - of_flipped.mean())
    assert (abs(difference).max() < 1e-5) == centered


def test_centered_and_plain_parameters_define_the_same_distribution(rbm, exact):
    """-(v - μ)·a - (h - λ)·b - (v - μ)·W·(h - λ), enumerated, against the layer."""
    w, hb, vb = parameters_of(rbm)
    mu, lam = np.array([0.1, 0.9, 0.5, 0.3]), np.array([0.2, 0.7, 0.4])
    a, b = vb + w @ lam, hb + mu @ w
    v, h = exact.v - mu, exact.h - lam
    energy = -(v @ a)[:, None] - h @ b - v @ w @ h.T
    p = np.exp(-energy) / np.exp(-energy).sum()
    np.testing.assert_allclose(p, exact.joint, rtol=1e-9)


def test_the_centered_step_is_that_of_the_centered_parameters(rbm, batch):
    """One ascent in (W, b, a) of the centered energy, carried back to the layer's parameters."""
    w, hb, vb = parameters_of(rbm)
    twin = copy_of(rbm)
    v_k = np.asarray(twin.forward_gibbs(batch), "float64")
    mu, lam = batch.mean(axis=0), np.asarray(twin.forward(batch)).mean(axis=0)

    def statistics(v):
        h = 1 / (1 + np.exp(-(v @ w + hb)))
        return (v - mu).T @ (h - lam) / len(v), h.mean(axis=0), v.mean(axis=0)

    dw, dhb, dvb = (0.1 * (d - m) for d, m in zip(statistics(batch), statistics(v_k)))
    a, b = vb + w @ lam + dvb, hb + mu @ w + dhb
    expected = w + dw, b - mu @ (w + dw), a - (w + dw) @ lam
    trainer(rbm, centered=True).fit(batch, verbose=0, shuffle=False)
    for value, parameter in zip(expected, parameters_of(rbm)):
        np.testing.assert_allclose(parameter, value, atol=1e-6)


def test_offsets_are_means_over_about_the_last_hundred_batches(rbm):
    """Of the data, not of the chains: 132 batches of one example each, while nothing is learned."""
    model = trainer(rbm, keras.optimizers.SGD(0.0), persistent_chains=7, centered=True)
    model.fit(EXAMPLES, batch_size=1, epochs=6, verbose=0, shuffle=False)
    visible, hidden, p_h = np.zeros(4), np.zeros(3), np.asarray(rbm.forward(EXAMPLES))
    for number in range(132):
        x, p = EXAMPLES[number % 22], p_h[number % 22]
        rate = 1 / min(number + 1, 100)
        visible += rate * (x - visible)
        hidden += rate * (p - hidden)
    np.testing.assert_allclose(model.offsets[0], visible, atol=1e-5)
    np.testing.assert_allclose(model.offsets[1], hidden, atol=1e-5)
    assert abs(visible - EXAMPLES.mean(axis=0)).max() > 1e-3  # so it is not the mean of them all


def test_without_centering_there_are_no_offsets(rbm):
    model = trainer(rbm)
    model.fit(EXAMPLES, verbose=0)
    assert model.offsets == ()
