"""Annealed importance sampling against enumerated partition functions, in both directions."""

import numpy as np
import pytest
from conftest import only_tensorflow
from enumerated import exact_of
from machines import each_pair, machine, machine_of, parameters_of
from sampled import exact_samples, p_value, visible_cells
from scipy import special

from rbm_tutorial import RBM
from rbm_tutorial.annealing import (
    ais_log_partition,
    annealed_chains,
    annealed_log_weights,
    base_biases,
    log_mean_weight,
    reverse_ais_log_partition,
    salakhutdinov_murray_betas,
)
from rbm_tutorial.exact import exact_log_partition
from rbm_tutorial.likelihood import chain_diagnostics
from rbm_tutorial.sampling import tempered_gibbs_step


def random_machine(seed):
    """Up to 10 visible and 8 hidden units, parameters uniform in [-3, 3]: many modes."""
    rng = np.random.default_rng(seed)
    rbm = RBM(int(rng.integers(1, 9)), seed=seed)
    rbm.build([int(rng.integers(2, 11))])
    for parameter in (rbm.w_rec, rbm.hb, rbm.vb):
        parameter.assign(rng.uniform(-3, 3, parameter.shape))
    return rbm


def log_partition_of_base(rbm):
    """log Z₀, of the machine at β = 0 with visible biases vb."""
    return exact_of(rbm, 0.0, parameters_of(rbm)[2]).log_z


def standard_scores(machines, chains, num_betas, step=tempered_gibbs_step):
    """(estimate - log Z) / standard error, forward and reverse, of many machines.

    Means of weights and their errors are computed here, by the delta method.
    """
    scores, betas = [], np.linspace(0, 1, num_betas)
    for seed, rbm in enumerate(machines):
        exact, base = exact_of(rbm), base_biases(rbm)
        log_ratio = exact.log_z - log_partition_of_base(rbm)
        for sign, target in ((1, exact_of(rbm, 0.0, base)), (-1, exact)):
            start = np.float32(exact_samples(target, chains, seed))
            log_w = annealed_log_weights(rbm, start, betas[::sign], base, seed, step)
            w = np.exp(log_w - log_w.max())
            error = w.std(ddof=1) / w.mean() / np.sqrt(chains)
            scores.append((sign * (np.log(w.mean()) + log_w.max()) - log_ratio) / error)
    return np.reshape(scores, (-1, 2))


def coverage(scores):
    """The share of intervals that hold the exact value, at 95 %, forward and reverse."""
    return np.mean(abs(scores) < 1.96, axis=0)


def one_temperature_late(units, parameters, hidden_logits, beta, base, draws):
    """Wrong, where 50 are evenly spaced."""
    return tempered_gibbs_step(units, parameters, hidden_logits, beta - 1 / 49, base, draws)


def visible_biases_forgotten(units, parameters, hidden_logits, beta, base, draws):
    """Wrong: as if vb were 0."""
    w, hb, vb = parameters
    return tempered_gibbs_step(units, (w, hb, 0 * vb), hidden_logits, beta, base, draws)


WRONG_STEPS = pytest.mark.parametrize("wrong", [one_temperature_late, visible_biases_forgotten])


def drift(pair, step=tempered_gibbs_step):
    """p of the χ² test of chains that start in p_β and take three steps at the same β = 0.4."""
    rbm = machine_of(pair)
    base = base_biases(rbm)
    target = exact_of(rbm, 0.4, base)
    start = np.float32(exact_samples(target, 10_000))
    v, log_w = annealed_chains(rbm, start, np.full(4, 0.4), base, 0, step)
    np.testing.assert_array_equal(log_w, 0)
    return p_value(pair[0], v, visible_cells(target))


@each_pair("binary, binary", "labels, mixed")
def test_chains_that_start_in_a_tempered_target_stay_there_without_weight(pair):
    assert drift(pair) > 1e-3
    assert drift(pair, visible_biases_forgotten) < 1e-9


@only_tensorflow  # JAX compiles a loop for each shape, for minutes
@pytest.mark.slow
def test_stated_intervals_cover_the_exact_value():
    """Of 100 machines of any shape at least 88 %: 95 % less three standard errors."""
    machines = [random_machine(seed) for seed in range(100)]
    assert np.all(coverage(standard_scores(machines, 1000, 100)) >= 0.88)


@only_tensorflow
@pytest.mark.slow
@WRONG_STEPS
def test_a_wrong_transition_fails_the_same_test(wrong):
    machines = [random_machine(seed) for seed in range(20)]
    assert np.all(coverage(standard_scores(machines, 1000, 50, wrong)) < 0.8)


EACH_KIND = each_pair("classes, binary", "binary, real", "real, classes", "labels, mixed")


@pytest.mark.slow
@EACH_KIND
def test_stated_intervals_of_other_units_cover_the_exact_value(pair):
    """Of 30 machines at least 83 %: 95 % less three standard errors."""
    machines = [machine_of(pair, 1.0, seed) for seed in range(30)]
    assert np.all(coverage(standard_scores(machines, 500, 50)) >= 0.83)


@pytest.mark.slow
@EACH_KIND
def test_a_step_without_visible_biases_fails_the_same_test(pair):
    machines = [machine_of(pair, 1.0, seed) for seed in range(10)]
    assert np.all(coverage(standard_scores(machines, 500, 50, visible_biases_forgotten)) < 0.6)


@each_pair()
def test_estimates_of_every_pair_of_types_hold_the_exact_value(pair):
    """Within five of their standard errors, which are below a tenth of a nat."""
    rbm = machine_of(pair)
    exact = exact_of(rbm)
    forward = ais_log_partition(rbm, 500, 50)
    reverse = reverse_ais_log_partition(rbm, np.float32(exact_samples(exact, 500)), 50)
    for estimate in (forward, reverse):
        assert abs(estimate.log_z - exact.log_z) < 5 * estimate.standard_error < 0.5


def test_forward_and_reverse_annealing_share_no_noise():
    """Of the same seed their errors are uncorrelated, over machines of equal size."""
    errors = []
    for seed in range(60):
        rbm = machine(scale=1.5, seed=seed)
        exact = exact_of(rbm)
        samples = np.float32(exact_samples(exact, 20, seed))
        estimates = (
            ais_log_partition(rbm, 20, 5, seed=seed),
            reverse_ais_log_partition(rbm, samples, 5, seed=seed),
        )
        errors.append([(e.log_z - exact.log_z) / e.standard_error for e in estimates])
    assert abs(np.corrcoef(np.transpose(errors))[0, 1]) < 4 / np.sqrt(60)


def test_few_temperatures_are_too_low_forward_and_too_high_in_reverse():
    """One chain at a time, E log w < log E w; by at least five standard errors of the mean."""
    rbm = random_machine(1)
    log_z = exact_of(rbm).log_z
    start = exact_samples(exact_of(rbm), 2000)
    log_z0 = log_partition_of_base(rbm)
    forward = ais_log_partition(rbm, 2000, 10).log_weights + log_z0
    reverse = log_z0 - reverse_ais_log_partition(rbm, start, 10).log_weights
    for estimates, sign in ((forward, -1), (reverse, 1)):
        error = sign * (estimates - log_z)
        assert error.mean() > 5 * error.std() / np.sqrt(len(error))


@pytest.mark.parametrize("base_rate", [None, [0.1, 0.0, 0.5, 1.0]])
def test_without_weights_the_answer_is_exact_whatever_is_drawn(base_rate):
    rbm = machine()
    rbm.w_rec.assign(np.zeros((4, 3)))
    if base_rate is None:  # then the base differs from the machine in constants alone
        estimate = ais_log_partition(rbm, num_chains=3, num_betas=4)
        assert estimate.log_z == pytest.approx(exact_log_partition(rbm), abs=1e-5)
        assert estimate.standard_error < 1e-6
        assert estimate.effective_sample_size == pytest.approx(3)
    else:
        estimate = ais_log_partition(rbm, 1000, 50, base_rate=base_rate)
        assert abs(estimate.log_z - exact_log_partition(rbm)) < 5 * estimate.standard_error


def test_salakhutdinov_and_murrays_schedule(rbm):
    betas = salakhutdinov_murray_betas()
    assert len(betas) == 14_500
    assert (betas[0], betas[-1]) == (0, 1)
    assert np.sum(betas < 0.5 - 1e-9) == 500
    assert np.sum(betas < 0.9 - 1e-9) == 4_500
    assert np.all(np.diff(betas) > 0)
    estimate = ais_log_partition(rbm, 20, betas=[*betas[::100].tolist(), 1.0])
    assert abs(estimate.log_z - exact_log_partition(rbm)) < 5 * estimate.standard_error


def test_the_same_seed_gives_the_same_estimate(rbm):
    first, second, other = (ais_log_partition(rbm, 10, 20, seed=s).log_weights for s in (3, 3, 4))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    assert len(np.unique(first)) == 10  # chains of one run are independent


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"num_chains": 0}, "`num_chains`"),
        ({"num_chains": 1}, "`num_chains`"),
        ({"num_betas": 2.5}, "`num_betas`"),
        ({"betas": [0.0, np.nan, 1.0]}, "`betas`"),
        ({"num_betas": 1}, "`num_betas`"),
        ({"betas": [0.0, 0.5]}, "`betas`"),
        ({"betas": [0.0, 0.5, 0.5, 1.0]}, "`betas`"),
        ({"base_rate": [0.5, 0.5]}, "`base_rate`"),
        ({"base_rate": [0.5, 0.5, 0.5, 7.0]}, "must lie in"),
    ],
)
def test_refuses_schedules_and_base_rates_that_cannot_work(rbm, arguments, named):
    with pytest.raises(ValueError, match=named):
        ais_log_partition(rbm, **arguments)


def test_estimates_need_a_tied_layer_and_samples_of_its_width(rbm, exact):
    for estimate in (ais_log_partition, reverse_ais_log_partition, chain_diagnostics):
        with pytest.raises(ValueError, match=f"`{estimate.__name__}` needs symmetric weights"):
            estimate(rbm.untie(), exact.v)
    with pytest.raises(ValueError, match=r"`samples` must have shape \(batch, 4\)"):
        reverse_ais_log_partition(rbm, exact.v[:, :3])
    with pytest.raises(ValueError, match="`samples` must be binary"):
        reverse_ais_log_partition(rbm, exact.v / 2)
    for needs_weights in (exact_log_partition, ais_log_partition):
        with pytest.raises(ValueError, match="call `build` first"):
            needs_weights(RBM(3))


def test_effective_sample_size_is_that_of_the_weights(rbm):
    estimate = ais_log_partition(rbm, 50, 3)
    w = np.exp(estimate.log_weights - estimate.log_weights.max())
    assert estimate.effective_sample_size == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert 1 < estimate.effective_sample_size < 49


def test_the_logarithm_of_mean_weights_row_by_row():
    """Also of weights beyond the largest number, and its error is that of a mean."""
    log_w = np.random.default_rng(0).normal(np.array([[0], [2000], [-2000]]), size=(3, 50))
    log_mean, error = log_mean_weight(log_w)
    np.testing.assert_allclose(log_mean, special.logsumexp(log_w, axis=1) - np.log(50), rtol=1e-12)
    w = np.exp(log_w - log_mean[:, None])  # of mean 1
    np.testing.assert_allclose(error, np.sqrt(np.sum((w - 1) ** 2, axis=1) / 49 / 50), rtol=1e-12)
