"""Forward and reverse annealing together, the conservative bound, and shares of classes."""

import numpy as np
import pytest
from enumerated import exact_of
from machines import each_pair, machine, machine_of, parameters_of
from sampled import exact_samples
from scipy import special, stats

from rbm_tutorial.annealing import (
    PartitionEstimate,
    ais_log_partition,
    annealed_draws,
    annealed_log_weights,
    base_biases,
    conservative_log_likelihood,
    independent_log_partition,
    reverse_ais_log_partition,
)
from rbm_tutorial.crossing import (
    bennett_log_partition,
    class_shares,
    estimates_of_chains,
    nearest_labels,
)

V = np.eye(4)
BETAS = np.array([0.0, 0.3, 0.6, 1.0])
REPEATS = 4000


def both_ways(rbm, chains, seed=0, reverse_chains=None, wrong=False):
    samples = exact_samples(exact_of(rbm), reverse_chains or chains, seed)
    samples = np.zeros_like(samples) if wrong else samples
    forward = ais_log_partition(rbm, chains, seed=seed, betas=BETAS)
    reverse = reverse_ais_log_partition(rbm, np.float32(samples), seed=seed, betas=BETAS)
    return forward, reverse


# ---------------------------------------------------------------- Bennett's acceptance ratio


def standard_scores(wrong, machines=40, chains=(200, 600)):
    """(estimate - log Z) / its error, of many machines."""
    scores = []
    for seed in range(machines):
        rbm = machine(scale=1.5, seed=seed)
        forward, reverse = both_ways(rbm, chains[0], seed, chains[1], wrong)
        log_z, error = bennett_log_partition(forward, reverse)
        scores.append((log_z - exact_of(rbm).log_z) / error)
    return np.array(scores)


def test_bennetts_errors_are_those_that_it_states():
    """Also from unequal numbers of chains; reverse chains from one state are told apart."""
    scores = standard_scores(wrong=False)
    assert abs(scores.mean()) < 4 / np.sqrt(len(scores))
    assert 0.7 < scores.std() < 1.4
    assert abs(standard_scores(wrong=True, machines=5).mean()) > 5


def test_bennett_errs_less_than_either_direction():
    rbm = machine(scale=2.0)
    log_z, errors = exact_of(rbm).log_z, []
    for seed in range(40):
        forward, reverse = both_ways(rbm, 100, seed)
        bennett = bennett_log_partition(forward, reverse)
        errors.append([each.log_z - log_z for each in (forward, reverse, bennett)])
    of_forward, of_reverse, of_both = np.sqrt(np.mean(np.square(errors), axis=0))
    assert of_both < min(of_forward, of_reverse)


def normal_estimate(log_w, sign, log_z0=3.0):
    log_mean = special.logsumexp(log_w) - np.log(len(log_w))
    return PartitionEstimate(log_z0 + sign * log_mean, 0.0, 0.0, log_w)


def test_bennett_solves_its_equation():
    """For any log-weights, whatever they come from, and any two numbers of them."""
    rng = np.random.default_rng(0)
    up, down = rng.normal(2, 1, 300), -rng.normal(3, 1, 100)
    log_z, _ = bennett_log_partition(normal_estimate(up, 1), normal_estimate(down, -1))
    c, m = log_z - 3.0, np.log(3)
    left, right = special.expit(up - c - m).sum(), special.expit(m + c + down).sum()
    assert left == pytest.approx(right, rel=1e-6)


@pytest.mark.parametrize("gap", [100, 300, 900])
def test_bennett_solves_its_equation_where_histograms_are_far_apart(gap):
    """Where both sides of it are too small for a float, their logarithms are equal."""
    rng = np.random.default_rng(0)
    up, down = rng.normal(0, 1, 300), -rng.normal(gap, 1, 100)
    log_z, error = bennett_log_partition(normal_estimate(up, 1), normal_estimate(down, -1))
    c, m = log_z - 3.0, np.log(3)
    sides = special.log_expit(up - c - m), special.log_expit(m + c + down)
    left, right = map(special.logsumexp, sides)
    assert left == pytest.approx(right, abs=1e-5)
    # Out there σ is an exponential, of which these are the first-order errors.
    relative = [np.exp(side - special.logsumexp(side)) for side in sides]
    first_order = np.sqrt(sum(len(r) * r.var(ddof=1) for r in relative)) / 2
    assert error == pytest.approx(first_order, rel=1e-4)


def test_estimates_of_chains_cross_at_log_z():
    """The densities' ratio at c is e^(c - log Z), so they are equal at log Z alone."""
    rbm = machine(scale=1.5)
    forward, reverse = both_ways(rbm, 20_000)
    a, b = estimates_of_chains(forward, reverse)
    log_z = exact_of(rbm).log_z
    edges = np.quantile(np.concatenate([a, b]), [0.1, 0.3, 0.5, 0.7, 0.9])
    counts = np.array([np.histogram(x, edges)[0] for x in (a, b)])
    expected = np.histogram(a, edges, weights=np.exp(a - log_z))[0]
    error = np.sqrt(counts[1] + expected)
    assert counts.min() > 300
    assert np.all(abs(counts[1] - expected) < 5 * error)
    assert np.any(abs(counts[1] - counts[0]) > 5 * np.sqrt(counts.sum(axis=0)))


def test_refuses_estimates_of_different_bases(rbm, exact):
    forward = ais_log_partition(rbm, 10, 5)
    other = reverse_ais_log_partition(rbm, exact.v, 5, base_rate=np.full(4, 0.5))
    reverse = reverse_ais_log_partition(rbm, exact.v, 5)
    for pair in [(forward, other), (reverse, forward)]:
        with pytest.raises(ValueError, match="with one `base_rate`, in this order"):
            bennett_log_partition(*pair)
    with pytest.raises(ValueError, match=r"`reverse` must be a PartitionEstimate\. Received: f"):
        bennett_log_partition(forward, reverse.log_z)


# ---------------------------------------------------------------- nearest images


def test_the_nearest_image_is_at_the_least_distance():
    rng = np.random.default_rng(0)
    images, known, labels = rng.normal(size=(50, 4)), rng.normal(size=(9, 4)), rng.permutation(9)
    nearest = np.linalg.norm(images[:, None] - known, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest_labels(images, known, labels), labels[nearest])
    np.testing.assert_array_equal(nearest_labels([[0.5]], [[0], [1]], [7, 8]), [7])  # a tie
    gray, known = (np.array(x, "uint8")[:, None] for x in ([0, 100, 200], [10, 120, 250]))
    np.testing.assert_array_equal(nearest_labels(gray, known, [7, 8, 9]), [7, 8, 9])
    np.testing.assert_array_equal(nearest_labels(V > 0, V > 0, range(4)), range(4))


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (([1.0], V, [0]), "`images` must have shape"),
        ((V, V[:, 1:], [0]), r"`known` must have shape \(batch, 4\)"),
        ((V, V[:0], []), "`known` must hold at least one"),
        ((V, V, [0]), "`labels`"),
        (([["a"] * 4], V, [0]), "`images` must be an array of real numbers"),
        ((np.nan * V, V, range(4)), "`images` must be finite"),
        ((V, V[:3], range(4)), "`labels` must hold one number for each example, 3"),
    ],
)
def test_what_cannot_be_compared_is_named(arguments, fault):
    with pytest.raises(ValueError, match=f"{fault}.*Received"):
        nearest_labels(*arguments)


# ---------------------------------------------------------------- the conservative bound


def probability_of_annealing(rbm, betas):
    """That forward annealing has come to each state before its step at β = 1: (states,)."""
    base = parameters_of(rbm)[2]
    p = exact_of(rbm, betas[0], base).p_v
    for beta in betas[1:-1]:
        exact = exact_of(rbm, beta, base)
        p = p @ (exact.joint / exact.p_v[:, None]) @ (exact.joint / exact.p_h).T
    return p


def scores_of_the_bound(rbm, bound_of=conservative_log_likelihood):
    """How far the mean of e^bound is off p_ann of each state, in its standard errors."""
    exact = exact_of(rbm)
    x = np.float32(np.repeat(exact.v, REPEATS, axis=0))
    bound = bound_of(rbm, x, betas=BETAS).reshape(len(exact.v), REPEATS)
    p, error = np.exp(bound).mean(axis=1), np.exp(bound).std(axis=1) / np.sqrt(REPEATS)
    return abs(p - probability_of_annealing(rbm, BETAS)) / error, bound


@each_pair("binary, binary", "labels, binary", "binary, real")
def test_the_bound_estimates_the_probability_of_annealing_without_bias(pair):
    rbm = machine_of(pair, scale=1.2)
    scores, bound = scores_of_the_bound(rbm)
    assert scores.max() < 5
    exact = exact_of(rbm)
    certified = exact.p_v @ bound.mean(axis=1)
    assert certified < exact.p_v @ np.log(probability_of_annealing(rbm, BETAS))
    assert certified < exact.p_v @ np.log(exact.p_v)


def upward(rbm, x, betas):
    """Wrong: β rises from where the image stands."""
    base = base_biases(rbm)
    log_weights = annealed_log_weights(rbm, x, betas, base, 0)
    return -log_weights - np.asarray(rbm.free_energy(x)) - independent_log_partition(rbm, base)


def test_a_walk_upward_fails_the_same_test():
    assert scores_of_the_bound(machine(scale=1.2), upward)[0].max() > 10


def test_the_bound_closes_on_the_likelihood_with_more_temperatures():
    rbm = machine(scale=2.0, seed=2)
    exact = exact_of(rbm)
    x = np.float32(exact_samples(exact, 1000))
    log_p = np.log(exact.p_v)[[int(v @ [8, 4, 2, 1]) for v in x]]
    few, many = (np.mean(log_p - conservative_log_likelihood(rbm, x, count)) for count in (3, 200))
    assert few > 0.3
    assert abs(many) < few / 3


def test_the_bound_needs_states_and_a_machine(rbm):
    with pytest.raises(ValueError, match="`conservative_log_likelihood` needs symmetric weights"):
        conservative_log_likelihood(rbm.untie(), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="`x` must be binary"):
        conservative_log_likelihood(rbm, np.full((2, 4), 0.5))
    with pytest.raises(ValueError, match=r"`x` must have shape \(batch, 4\)"):
        conservative_log_likelihood(rbm, np.zeros((2, 3)))
    assert conservative_log_likelihood(rbm, np.zeros((1, 4)), 3).shape == (1,)


# ---------------------------------------------------------------- weighted draws, and their classes


def test_annealed_draws_are_the_chains_of_the_estimate_and_weighted_draws():
    """Unweighted, through few temperatures, they are not distributed as the machine."""
    rbm = machine(scale=4.0)
    exact = exact_of(rbm)
    v, log_w = annealed_draws(rbm, 6000, betas=BETAS)
    np.testing.assert_array_equal(log_w, ais_log_partition(rbm, 6000, betas=BETAS).log_weights)
    states = v.astype(int) @ [8, 4, 2, 1]
    weighted = class_shares(states, 16, log_w)
    equal = class_shares(states, 16)
    error = np.maximum(weighted.standard_errors, 1e-4)
    assert np.max(abs(weighted.shares - exact.p_v) / error) < 5
    assert np.max(abs(equal.shares - exact.p_v) / np.maximum(equal.standard_errors, 1e-4)) > 10


def test_errors_of_shares_are_what_they_vary_by():
    """Over many experiments of weighted draws, in which a class has the larger weights."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (500, 400))
    log_w = 0.5 * labels + rng.normal(scale=0.5, size=labels.shape)
    results = [class_shares(row, 3, w) for row, w in zip(labels, log_w)]
    shares = np.array([result.shares for result in results])
    errors = np.array([result.standard_errors for result in results])
    np.testing.assert_allclose(shares.mean(axis=0), special.softmax([0, 0.5, 1]), atol=0.003)
    np.testing.assert_allclose(errors.mean(axis=0), shares.std(axis=0), rtol=0.15)
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_shares_without_weights_are_counts():
    shares, errors = class_shares([0, 2, 2, 1], 4)
    np.testing.assert_allclose(shares, [0.25, 0.25, 0.5, 0])
    np.testing.assert_allclose(errors, [stats.binom(4, p).std() / 4 for p in shares])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([0, 4], 4), "`labels` must be integers from 0 to 3"),
        (([[0, 1]], 4), "`labels` must be integers"),
        (([0, 1], 1), "`number_classes`"),
        (([0, 1], 2, [0.0]), "`log_weights` must have the shape"),
        (([0, 1], 2, [0.0, np.nan]), "`log_weights` must be finite"),
        (([], 2), "`labels` must hold at least one"),
    ],
)
def test_refuses_labels_that_are_none(arguments, named):
    with pytest.raises(ValueError, match=named):
        class_shares(*arguments)
