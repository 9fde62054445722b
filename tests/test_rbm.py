"""The layer against the enumerated machine, and what it refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import only_tensorflow
from enumerated import derivatives, enumerate_machine, exact_of, states, support
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import each_pair, machine, machine_of, parameters_of
from sampled import (
    exact_hidden_samples,
    exact_samples,
    hidden_cells,
    p_value,
    sharing_noise,
    visible_cells,
    warm,
    with_sampler,
)
from scipy import special

from rbm_tutorial import RBM
from rbm_tutorial.backend import BACKEND
from rbm_tutorial.units import Bernoulli

# ---------------------------------------------------------------- the distribution, exactly


@each_pair()
def test_energy_of_every_joint_state(pair):
    rbm = machine_of(pair)
    exact = exact_of(rbm)
    v, h = np.repeat(exact.v, len(exact.h), axis=0), np.tile(exact.h, (len(exact.v), 1))
    np.testing.assert_allclose(rbm.energy(v, h), exact.energy.ravel(), rtol=1e-5, atol=1e-4)


@each_pair()
def test_free_energy_sums_over_hidden_units(pair):
    """Or integrates over them."""
    rbm = machine_of(pair)
    exact = exact_of(rbm)
    free_energy = rbm.free_energy(exact.v)
    assert free_energy.shape == (len(exact.v),)
    np.testing.assert_allclose(free_energy, exact.free_energy, rtol=1e-5, atol=1e-5)


def test_probabilities_sum_to_one(rbm, exact):
    p = np.exp(-np.asarray(rbm.free_energy(exact.v), "float64") - exact.log_z)
    assert p.sum() == pytest.approx(1, abs=1e-6)


@each_pair()
def test_conditionals_are_those_of_the_joint_distribution(pair):
    rbm = machine_of(pair)
    exact = exact_of(rbm)
    np.testing.assert_allclose(rbm.forward(exact.v), exact.mean_h_given_v, atol=1e-5)
    np.testing.assert_allclose(rbm.reverse(exact.h), exact.mean_v_given_h, atol=1e-5)
    np.testing.assert_array_equal(rbm(exact.v), rbm.forward(exact.v))


@each_pair()
def test_the_gradient_of_the_free_energy_is_that_of_finite_differences(pair):
    """Of its mean over a batch, in w, hb and vb; the oracle's sums are differentiated."""
    rbm = machine_of(pair)
    v = exact_samples(exact_of(rbm), 6)
    gradients = gradients_of(rbm, lambda: keras.ops.mean(rbm.free_energy(v)))
    expected = derivatives(lambda *p: mean_free_energy(v, *p, pair[2]), parameters_of(rbm))
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def mean_free_energy(v, w, hb, vb, hidden_units):
    """But for log m(v), which does not depend on the parameters."""
    h, log_m, log_volume = support(hidden_units, len(hb))
    return np.mean(-v @ vb - special.logsumexp((v @ w + hb) @ h.T + log_m + log_volume, axis=1))


def gradients_of(rbm, scalar):
    """Of a scalar that the layer computes, in w, hb and vb, by automatic differentiation."""
    variables = [rbm.w_rec, rbm.hb, rbm.vb]
    if BACKEND == "tensorflow":
        with tf.GradientTape() as tape:
            value = scalar()
        return tape.gradient(value, [variable.value for variable in variables])
    import jax

    def pure(values):
        with keras.StatelessScope(list(zip(variables, values))):
            return scalar()

    return jax.grad(pure)([variable.value for variable in variables])


@settings(max_examples=30, deadline=None)
@given(
    visible=st.integers(1, 6),
    hidden=st.integers(1, 5),
    scale=st.sampled_from([0.0, 0.1, 1.0, 5.0]),
    seed=st.integers(0, 1000),
)
def test_free_energy_and_conditionals_of_machines_of_any_shape(visible, hidden, scale, seed):
    rbm = machine(visible, hidden, scale, seed)
    exact = enumerate_machine(*parameters_of(rbm))
    np.testing.assert_allclose(rbm.free_energy(exact.v), exact.free_energy, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(rbm.forward(exact.v), exact.mean_h_given_v, atol=1e-5)
    np.testing.assert_allclose(rbm.reverse(exact.h), exact.mean_v_given_h, atol=1e-5)


# ---------------------------------------------------------------- sampling


def chain_ends(rbm, exact, steps=10, chains=8000):
    """Ends of chains that start in every state alike, real units anywhere from -14 to 14."""
    return rbm.forward_gibbs(exact.v[np.arange(chains) % len(exact.v)], steps)


def in_the_target(rbm, exact, chains=8000):
    """Chains that start at exact samples, after a single step."""
    return rbm.forward_gibbs(exact_samples(exact, chains), 1)


@pytest.mark.parametrize("chains", [chain_ends, in_the_target])
@each_pair()
def test_gibbs_samples_follow_the_exact_distribution(pair, chains):
    rbm = machine_of(pair)
    exact = exact_of(rbm)
    v = chains(rbm, exact)
    assert p_value(rbm.visible_units, v, visible_cells(exact)) > 1e-3


@pytest.mark.parametrize("wrong", [warm, sharing_noise])
def test_a_wrong_sampler_fails_the_same_test(rbm, exact, wrong):
    other = machine(visible_units=wrong(Bernoulli()))
    v = chain_ends(other, exact, chains=24_000)
    assert p_value(rbm.visible_units, v, visible_cells(exact)) < 1e-9


def test_chains_of_a_wrong_sampler_leave_the_target(rbm, exact):
    other = machine(visible_units=warm(Bernoulli()))
    v = in_the_target(other, exact, chains=40_000)
    assert p_value(rbm.visible_units, v, visible_cells(exact)) < 1e-9


def hidden_chain_ends(rbm, exact, steps=10, chains=8000):
    return rbm.reverse_gibbs(exact.h[np.arange(chains) % len(exact.h)], steps)


def hidden_in_the_target(rbm, exact, chains=8000):
    return rbm.reverse_gibbs(exact_hidden_samples(exact, chains), 1)


@pytest.mark.parametrize("chains", [hidden_chain_ends, hidden_in_the_target])
@each_pair()
def test_reverse_gibbs_follows_the_exact_hidden_distribution(pair, chains):
    rbm = machine_of(pair)
    exact = exact_of(rbm)
    h = chains(rbm, exact)
    assert p_value(rbm.hidden_units, h, hidden_cells(exact)) > 1e-3


def test_hidden_states_of_a_wrong_sampler_fail_the_same_test(rbm, exact):
    other = machine(hidden_units=warm(Bernoulli()))
    for h in (hidden_chain_ends(other, exact), hidden_in_the_target(other, exact, 40_000)):
        assert p_value(rbm.hidden_units, h, hidden_cells(exact)) < 1e-9


def test_samples_follow_the_probabilities_not_the_input(rbm):
    """The source compares the input with the noise."""
    v = np.repeat(states(4), 2000, axis=0)
    h = np.asarray(rbm.sample_h(v)).reshape(16, 2000, 3)
    assert set(np.unique(h)) == {0, 1}
    p = np.asarray(rbm.forward(states(4)))
    standard_error = np.sqrt(p * (1 - p) / 2000)
    assert np.all(abs(h.mean(axis=1) - p) < 5 * standard_error)


def test_equal_rows_of_a_batch_draw_their_own_noise():
    """The mean of 10,000 draws at p = 1/2 has a standard error of 0.005; shared ones have none."""
    rbm = RBM(100, seed=0)
    rbm.build([2])
    h = np.asarray(rbm.sample_h(np.zeros((10_000, 2))))
    assert np.all(abs(h.mean(axis=0) - 0.5) < 5 * 0.005)
    assert abs(np.corrcoef(h[0::2].ravel(), h[1::2].ravel())[0, 1]) < 5 / np.sqrt(h.size / 2)


def test_steps_of_a_chain_are_counted():
    """`cd_steps` steps unless told otherwise, and in each step either layer draws once."""

    def counted(kind):
        def sample(right, logits, uniform):
            draws[kind] += 1
            return right(logits, uniform)

        return with_sampler(Bernoulli(), sample)

    draws = {"v": 0, "h": 0}
    rbm = RBM(1, cd_steps=3, visible_units=counted("v"), hidden_units=counted("h"))
    rbm.build([1])
    state = np.array([[1.0], [0.0]])
    for gibbs, steps, expected in [
        (rbm.forward_gibbs, None, 3),
        (rbm.forward_gibbs, 2, 2),
        (rbm.reverse_gibbs, None, 3),
        (rbm.reverse_gibbs, 1, 1),
    ]:
        draws.update(v=0, h=0)
        gibbs(state, steps)
        assert draws == {"v": expected, "h": expected}


def test_a_perfect_copier_has_learned_nothing():
    """Reconstruction cost 0 while every image is equally probable: it measures no likelihood."""
    rbm = RBM(4, seed=0)
    rbm.build([4])
    rbm.w_rec.assign(40 * np.eye(4))
    rbm.hb.assign(4 * [-20.0])
    rbm.vb.assign(4 * [-20.0])
    v = states(4)
    np.testing.assert_array_equal(rbm.forward_gibbs(v), v)
    assert float(rbm.reconstruction_cost(v)) == pytest.approx(0, abs=1e-4)
    exact = enumerate_machine(*parameters_of(rbm))
    np.testing.assert_allclose(exact.p_v, 1 / 16, rtol=1e-6)


# ---------------------------------------------------------------- numerical range


@only_tensorflow
def test_free_energy_and_its_gradient_are_finite_at_any_activation():
    rbm = RBM(3, seed=0)
    rbm.build([4])
    for weight in (-1e3, 1e3):
        rbm.w_rec.assign(np.full((4, 3), weight))
        v = tf.constant(states(4), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(v)
            free_energy = rbm.free_energy(v)
        expected = -3 * np.logaddexp(0, weight * states(4).sum(axis=1))
        np.testing.assert_allclose(free_energy, expected, rtol=1e-6)
        assert np.all(np.isfinite(tape.gradient(free_energy, v)))


def test_reconstruction_cost_is_finite_and_positive_in_nats():
    """Computed as log σ and log(1 - σ) it is NaN here; the true cost is the activation itself."""
    rbm = RBM(1)
    rbm.build([1])
    rbm.w_rec.assign([[0.0]])
    for activation in (-1e3, -20.0, 20.0, 1e3):
        rbm.vb.assign([activation])
        for x in (0.0, 1.0):
            wrong = (activation > 0) != (x > 0)
            expected = abs(activation) if wrong else 0
            assert float(rbm.reconstruction_cost([[x]])) == pytest.approx(expected, abs=1e-6)


def test_reconstruction_cost_sums_pixels_and_averages_images(rbm, batch):
    y = np.asarray(rbm.reverse(rbm.forward(batch)), "float64")
    cross_entropy = -(batch * np.log(y) + (1 - batch) * np.log(1 - y))
    expected = cross_entropy.sum(axis=1).mean()
    assert float(rbm.reconstruction_cost(batch)) == pytest.approx(expected, rel=1e-5)


def test_of_no_image_there_is_no_reconstruction_cost(rbm):
    """Not NaN, the mean of nothing."""
    with pytest.raises(ValueError, match=r"`x` must hold at least one example\. Received"):
        rbm.reconstruction_cost(np.zeros((0, 4)))
