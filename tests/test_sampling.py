"""Chains that start in the target stay in it: at any temperature, clamped, given a noisy image.

The target is enumerated and the starts are exact draws from it, so that nothing has to mix; next to
each sampler stands a wrong one whose chains leave.
"""

import functools

import keras
import numpy as np
import pytest
from enumerated import exact_of, states
from machines import BINARY, PAIRS, copy_of, each_pair, machine, machine_of, parameters_of, tensor
from sampled import cell_probabilities, exact_samples, p_value, visible_cells, warm

from rbm_tutorial.backend import compiled, uniform_stream
from rbm_tutorial.sampling import (
    denoise,
    gibbs_step,
    independent_units,
    inpaint,
    run_chains,
    site_members,
    tempered_gibbs_step,
)
from rbm_tutorial.units import Bernoulli, Beside, Categorical

CHAINS = 10_000


# ---------------------------------------------------------------- one step at any temperature


@functools.lru_cache
def compiled_step(units, rank):
    """One compiled step of these types of units, for temperatures of this rank: 0, or 2 of rows."""

    @compiled
    def step(v, beta, base, seed, *parameters):
        logits = keras.ops.matmul(v, parameters[0]) + parameters[1]
        draws = uniform_stream(seed), uniform_stream(-seed)
        return tempered_gibbs_step(units, parameters, logits, beta, base, draws)

    return step


def after_tempered_steps(rbm, v, beta, base, steps=3):
    """v, (chains, visible), so many steps at inverse temperature β later."""
    v, beta, base, *parameters = (tensor(x) for x in (v, beta, base, *parameters_of(rbm)))
    for number in range(1, steps + 1):
        seed = np.array([0, number])
        step = compiled_step((rbm.visible_units, rbm.hidden_units), len(beta.shape))
        v = step(v, beta, base, seed, *parameters)
    return np.asarray(v)


def base_of(pair):
    return np.random.default_rng(1).normal(scale=0.7, size=pair[1])


def drift_at(pair, beta, beta_of_the_steps):
    """p of the χ² test of chains that start in p_β, after steps at another temperature or at β."""
    rbm, base = machine_of(pair), base_of(pair)
    target = exact_of(rbm, beta, base)
    v = after_tempered_steps(rbm, exact_samples(target, CHAINS), beta_of_the_steps, base)
    return p_value(pair[0], v, visible_cells(target))


@each_pair()
@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_a_step_leaves_the_tempered_distribution_as_it_is(pair, beta):
    assert drift_at(pair, beta, beta) > 1e-3


@each_pair()
def test_chains_leave_it_in_steps_at_another_temperature(pair):
    assert drift_at(pair, 0.4, 0.9) < 1e-9


def test_each_chain_may_have_a_temperature_of_its_own():
    """The same draws as all chains at either temperature, each row at its own."""
    pair = PAIRS["labels, binary"]
    rbm, base = machine_of(pair), base_of(pair)
    v, betas = exact_samples(exact_of(rbm), 200), np.tile([[0.2], [1.0]], (100, 1))
    cold, hot = (after_tempered_steps(rbm, v, beta, base) for beta in (1.0, 0.2))
    own = after_tempered_steps(rbm, v, betas, base)
    np.testing.assert_array_equal(own, np.where(betas == 1, cold, hot))
    assert not np.array_equal(cold, hot)


# ---------------------------------------------------------------- chains


@each_pair("binary, binary", "real, binary", "labels, mixed")
def test_chains_that_start_in_the_target_do_not_drift(pair):
    rbm = machine_of(pair)
    exact = exact_of(rbm)
    v = run_chains(rbm, exact_samples(exact, CHAINS), 3)
    assert p_value(pair[0], v, visible_cells(exact)) > 1e-3


@each_pair("binary, binary", "real, binary", "labels, mixed")
def test_chains_of_a_warm_sampler_leave_the_target(pair):
    exact = exact_of(machine_of(pair))
    visible_units, *others = pair
    v = run_chains(machine_of((warm(visible_units), *others)), exact_samples(exact, 4 * CHAINS), 3)
    assert p_value(pair[0], v, visible_cells(exact)) < 1e-9


def test_chains_move_as_the_layer_itself_does(rbm, exact):
    """Step by step the same draws, and the layer goes on where they ended."""
    twin = copy_of(rbm)
    v, free_energies = run_chains(rbm, exact.v, 4, observe=rbm.free_energy)
    expected, w = [], exact.v
    for _ in range(4):
        w = twin.forward_gibbs(w, steps=1)
        expected.append(np.asarray(twin.free_energy(w)))
    np.testing.assert_array_equal(v, w)
    assert free_energies.shape == (4, 16)
    np.testing.assert_allclose(free_energies, expected, rtol=1e-5)
    np.testing.assert_array_equal(rbm.sample_h(exact.v), twin.sample_h(exact.v))
    np.testing.assert_array_equal(run_chains(rbm, exact.v, 2), twin.forward_gibbs(exact.v, steps=2))


def test_chains_may_take_other_steps(rbm, exact):
    twin = copy_of(rbm)

    def pixels_flipped(layer):
        return lambda v: 1 - gibbs_step(layer, v)

    v = run_chains(rbm, exact.v, 2, step=pixels_flipped(rbm))
    expected = tensor(exact.v)
    for _ in range(2):
        expected = pixels_flipped(twin)(expected)
    np.testing.assert_array_equal(v, expected)


@each_pair("binary, binary", "labels, binary")
def test_independent_units_follow_the_visible_biases_alone(pair):
    """Whatever the weights are; chains that know these follow another distribution."""
    rbm = machine_of(pair)
    _, _, vb = parameters_of(rbm)
    (p,) = cell_probabilities(pair[0], vb[None])
    assert p_value(pair[0], independent_units(rbm, CHAINS), p) > 1e-3
    assert p_value(pair[0], exact_samples(exact_of(rbm), CHAINS), p) < 1e-9


def test_refuses_no_steps_and_no_states(rbm, exact):
    with pytest.raises(ValueError, match=r"`steps` must be.*Received: 0"):
        run_chains(rbm, exact.v, 0)
    with pytest.raises(ValueError, match=r"must have shape \(batch, 4\)"):
        run_chains(rbm, exact.v[:, :3], 1)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        run_chains(rbm, 2 * exact.v, 1)
    with pytest.raises(ValueError, match="`v` must"):
        run_chains(rbm, exact.v[0], 1, step=lambda v: v)


# ---------------------------------------------------------------- some units known


KNOWN = np.array([True, False, True, False])


def test_known_units_stay_and_the_others_stay_in_the_target(rbm, exact):
    """Chains that start at draws of all units: their joint distribution does not change."""
    start = exact_samples(exact, 4 * CHAINS, seed=1)
    v = np.asarray(inpaint(rbm, start, KNOWN, 3))
    np.testing.assert_array_equal(v[:, KNOWN], start[:, KNOWN])
    assert np.mean(v[:, ~KNOWN] != start[:, ~KNOWN]) > 0.2
    assert p_value(BINARY, v, visible_cells(exact)) > 1e-3
    wrong = np.asarray(inpaint(machine(visible_units=warm(BINARY)), start, KNOWN, 3))
    np.testing.assert_array_equal(wrong[:, KNOWN], start[:, KNOWN])
    assert p_value(BINARY, wrong, visible_cells(exact)) < 1e-9


@pytest.mark.parametrize("known_of_each_chain", [False, True])
def test_unknown_units_come_to_their_distribution_given_the_known_ones(
    rbm, exact, known_of_each_chain
):
    """From anywhere, for each state of the known pixels; without the clamp they do not."""
    known = np.tile(KNOWN, (4 * 2500, 1)) if known_of_each_chain else KNOWN
    start = np.zeros((4 * 2500, 4))
    start[:, KNOWN] = np.repeat(states(2), 2500, axis=0)
    filled = np.asarray(inpaint(rbm, start, known, 40)).reshape(4, 2500, 4)
    free = np.asarray(run_chains(rbm, start, 40)).reshape(4, 2500, 4)
    for pixels, ours, wrong in zip(states(2), filled, free):
        p = exact.p_v * np.all(exact.v[:, KNOWN] == pixels, axis=1)
        p = p.reshape(2, 2, 2, 2).sum(axis=(0, 2)).ravel() / p.sum()
        assert np.all(ours[:, KNOWN] == pixels)
        assert p_value(BINARY, ours[:, ~KNOWN], p) > 1e-3
        assert not np.all(wrong[:, KNOWN] == pixels)


@pytest.mark.parametrize("known", [[1, 1, 1, 0, 0], [0, 0, 0, 1, 1]])
def test_refuses_to_inpaint_a_group_that_is_known_in_part(known):
    """Else two of its units, or none, could be on."""
    start = np.tile([1.0, 0, 1, 0, 0], (3, 1))
    with pytest.raises(ValueError, match=r"`known` must hold all units of a group.*in part"):
        inpaint(machine_of(PAIRS["labels, binary"]), start, np.array(known, bool), 3)


# ---------------------------------------------------------------- a noisy image


NOISY = states(4)[[0, 5, 14]]


def posterior_means(exact, flip_rate):
    """E[v | noisy] of three images, (3, 4): p(v) times the probability of the flips."""
    flips = np.sum(NOISY[:, None] != exact.v, axis=2)
    p = exact.p_v * flip_rate**flips * (1 - flip_rate) ** (4 - flips)
    return p @ exact.v / p.sum(axis=1, keepdims=True)


def standard_scores(rbm, expected, flip_rate, repeats=1000):
    """How far the mean of independent chains is off, in its standard errors."""
    rows = denoise(rbm, np.repeat(NOISY, repeats, axis=0), flip_rate, steps=40, burn_in=20)
    rows = np.asarray(rows, "float64").reshape(3, repeats, 4)
    return abs(rows.mean(axis=1) - expected) / (rows.std(axis=1) / np.sqrt(repeats))


def test_denoising_averages_the_enumerated_posterior(rbm, exact):
    expected = posterior_means(exact, 0.2)
    assert standard_scores(rbm, expected, 0.2).max() < 5
    assert standard_scores(rbm, expected, 0.25).max() > 10  # of another rate of flips
    hidden_warm = machine(hidden_units=warm(BINARY))
    assert standard_scores(hidden_warm, expected, 0.2).max() > 10


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"flip_rate": 0.0}, "0.0, 20 and 100"),
        ({"flip_rate": 1.0}, "1.0, 20 and 100"),
        ({"flip_rate": np.nan}, "Received: nan"),
        ({"flip_rate": 0.1, "steps": 20}, "0.1, 20 and 20"),
        ({"flip_rate": 0.1, "burn_in": -1}, "Received: -1"),
        ({"flip_rate": 0.1, "steps": 0}, "Received: 0"),
    ],
)
def test_denoising_refuses_what_cannot_be(rbm, arguments, received):
    with pytest.raises(ValueError, match=received):
        denoise(rbm, NOISY, **arguments)
    with pytest.raises(ValueError, match="`noisy` must be binary"):
        denoise(rbm, NOISY / 2, 0.1)


@each_pair("labels, binary", "real, binary")
def test_denoising_is_about_binary_pixels(pair):
    """A flipped bit of a label would leave it with two classes or none."""
    rbm = machine_of(pair)
    with pytest.raises(ValueError, match=r"visible units must be binary\. Received: "):
        denoise(rbm, exact_samples(exact_of(rbm), 2), 0.1)


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_the_units_of_each_site_are_found(groups):
    """Of many classes rounding makes sums of equal terms unequal."""
    for classes in (2, 3, 7, 37, 41, 47, 49):
        blocks = np.kron(np.eye(groups), np.ones((classes, 1)))
        np.testing.assert_array_equal(site_members(Categorical(classes), groups * classes), blocks)
    beside = site_members(Beside(Bernoulli(), Categorical(7), 7), 10)
    np.testing.assert_array_equal(beside[:3], np.eye(3, 4))
    np.testing.assert_array_equal(beside[3:], np.eye(4)[[3] * 7])
