"""Likelihoods against the enumerated machine."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    copy_of,
    enumerate_machine,
    machine,
    only_tensorflow,
    parameters_of,
    states,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rbm_tutorial import RBM, backend, likelihood
from rbm_tutorial.data import all_states
from rbm_tutorial.likelihood import (
    ais_log_partition,
    chain_diagnostics,
    exact_log_partition,
    log_likelihood,
    pseudo_log_likelihood,
    reverse_ais_log_partition,
    salakhutdinov_murray_betas,
)


@settings(max_examples=30, deadline=None)
@given(
    visible=st.integers(1, 7),
    hidden=st.integers(1, 7),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    seed=st.integers(0, 1000),
)
def test_partition_function_of_machines_of_any_shape(visible, hidden, scale, seed):
    rbm = machine(visible, hidden, scale, seed)
    expected = enumerate_machine(*parameters_of(rbm)).log_z
    assert exact_log_partition(rbm) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("visible", "hidden"), [(9, 6), (6, 9)])
@pytest.mark.parametrize("chunk_elements", [1, 32, 2**22])
def test_chunks_add_up(monkeypatch, visible, hidden, chunk_elements):
    monkeypatch.setattr(likelihood, "CHUNK_ELEMENTS", chunk_elements)
    rbm = machine(visible, hidden)
    expected = enumerate_machine(*parameters_of(rbm)).log_z
    assert exact_log_partition(rbm) == pytest.approx(expected, rel=1e-12)


def test_partition_function_without_weights_is_known():
    """Z = Π(1 + e^vb) Π(1 + e^hb) when nothing is connected."""
    rbm = machine(784, 12)
    rbm.w_rec.assign(np.zeros((784, 12)))
    _, hb, vb = parameters_of(rbm)
    expected = np.logaddexp(0, vb).sum() + np.logaddexp(0, hb).sum()
    assert exact_log_partition(rbm) == pytest.approx(expected, rel=1e-12)


def test_log_likelihood_is_that_of_the_enumerated_distribution(rbm, exact):
    log_p = log_likelihood(rbm, exact.v, exact_log_partition(rbm))
    assert log_p.shape == (16,)
    np.testing.assert_allclose(log_p, np.log(exact.p_v), atol=1e-5)


def test_refuses_machines_too_large_to_enumerate():
    rbm = RBM(27)
    rbm.build([28])
    with pytest.raises(ValueError, match=r"at most 26 units.*Received: 27"):
        exact_log_partition(rbm)


def test_refuses_an_untied_layer_and_values_outside_the_unit_interval(rbm):
    with pytest.raises(ValueError, match="`exact_log_partition` needs symmetric weights"):
        exact_log_partition(rbm.untie())
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        log_likelihood(rbm, np.full((2, 4), 7.0), 0.0)


# ---------------------------------------------------------------- annealed importance sampling


def random_machine(seed):
    """Up to 16 visible and 12 hidden units, parameters uniform in [-3, 3]: many modes."""
    rng = np.random.default_rng(seed)
    rbm = RBM(int(rng.integers(1, 13)), seed=seed)
    rbm.build([int(rng.integers(2, 17))])
    for parameter in (rbm.w_rec, rbm.hb, rbm.vb):
        parameter.assign(rng.uniform(-3, 3, parameter.shape))
    return rbm


def exact_samples(rbm, log_z, count, seed):
    v = all_states(rbm.number_visible_units)
    p = np.exp(-np.asarray(rbm.free_energy(v), "float64") - log_z)
    return v[np.random.default_rng(seed).choice(len(v), size=count, p=p / p.sum())]


def standard_scores(machines, chains=1000, betas=100):
    """(estimate - log Z) / standard error, forward and reverse, of many machines."""
    scores = []
    for seed in range(machines):
        rbm = random_machine(seed)
        log_z = exact_log_partition(rbm)
        forward = ais_log_partition(rbm, chains, betas, seed=seed)
        samples = exact_samples(rbm, log_z, chains, seed)
        reverse = reverse_ais_log_partition(rbm, samples, betas, seed=1000 + seed)
        scores.append([(e.log_z - log_z) / e.standard_error for e in (forward, reverse)])
    return np.array(scores)


def coverage(scores):
    return np.mean(abs(scores) < 1.96, axis=0)


@only_tensorflow  # JAX compiles a loop for each of the machines, for minutes
@pytest.mark.slow
def test_stated_intervals_cover_the_exact_value():
    """At 95 %: of 200 machines at least 93 %, for the estimates in both directions."""
    assert np.all(coverage(standard_scores(200)) >= 0.93)


def one_temperature_late(logits, beta, a0, w, vb, seed, step=likelihood._tempered_gibbs_step):
    return step(logits, beta - 1 / 99, a0, w, vb, seed)


def visible_biases_forgotten(logits, beta, a0, w, vb, seed, step=likelihood._tempered_gibbs_step):
    return step(logits, beta, a0, w, 0 * vb, seed)


@only_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize("wrong", [one_temperature_late, visible_biases_forgotten])
def test_a_wrong_transition_fails_the_same_test(monkeypatch, wrong):
    monkeypatch.setattr(likelihood, "_tempered_gibbs_step", wrong)
    plain = likelihood._annealed_log_weights.__wrapped__
    traced_anew = backend.compiled(lambda *arguments: plain(*arguments))
    monkeypatch.setattr(likelihood, "_annealed_log_weights", traced_anew)
    assert np.all(coverage(standard_scores(30)) < 0.8)


def test_few_temperatures_are_too_low_forward_and_too_high_in_reverse():
    """One chain at a time, E log w < log E w; by at least five standard errors of the mean."""
    rbm = random_machine(1)
    log_z = exact_log_partition(rbm)
    start = exact_samples(rbm, log_z, 2000, seed=0)
    log_z0 = exact_log_partition_of_pixels(rbm)
    forward = ais_log_partition(rbm, 2000, 10).log_weights + log_z0
    reverse = log_z0 - reverse_ais_log_partition(rbm, start, 10).log_weights
    for estimates, sign in ((forward, -1), (reverse, 1)):
        error = sign * (estimates - log_z)
        assert error.mean() > 5 * error.std() / np.sqrt(len(error))


def exact_log_partition_of_pixels(rbm):
    vb = np.asarray(rbm.vb, "float64")
    return np.logaddexp(0, vb).sum() + rbm.number_hidden_units * np.log(2)


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
    with pytest.raises(ValueError, match=r"`samples` must have shape \(chains, 4\)"):
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


FLOAT64 = pytest.param("float64", marks=only_tensorflow)  # JAX has it when asked for at the start


@pytest.mark.parametrize("dtype", [FLOAT64, "float16", "bfloat16", "mixed_bfloat16"])
def test_measures_layers_of_any_precision(exact, dtype):
    rbm, single = RBM(3, dtype=dtype), machine()
    rbm.build([4])
    rbm.set_weights(single.get_weights())
    log_z = exact_log_partition(rbm)
    assert log_z == pytest.approx(exact_log_partition(single), rel=0.01)
    estimate = ais_log_partition(rbm, 500, 50)
    assert abs(estimate.log_z - log_z) < 5 * estimate.standard_error
    assert np.isfinite(reverse_ais_log_partition(rbm, exact.v, 20).log_z)
    pseudo = pseudo_log_likelihood(rbm, exact.v)
    np.testing.assert_allclose(pseudo, pseudo_log_likelihood(single, exact.v), atol=0.1)
    assert np.all(np.isfinite(chain_diagnostics(rbm, exact.v, steps=10).free_energies))


# ---------------------------------------------------------------- pseudo-likelihood


def brute_force_terms(rbm, exact):
    """log p(v_i | rest) for every state and bit, from the enumerated distribution."""
    terms = np.empty(exact.v.shape)
    index = {tuple(v): i for i, v in enumerate(exact.v)}
    for row, v in enumerate(exact.v):
        for i in range(len(v)):
            other = v.copy()
            other[i] = 1 - other[i]
            p, q = exact.p_v[row], exact.p_v[index[tuple(other)]]
            terms[row, i] = np.log(p / (p + q))
    return terms


def test_pseudo_likelihood_of_all_bits_is_that_of_brute_force(rbm, exact):
    expected = brute_force_terms(rbm, exact).sum(axis=1)
    np.testing.assert_allclose(pseudo_log_likelihood(rbm, exact.v), expected, atol=1e-5)


def test_stochastic_pseudo_likelihood_is_unbiased_and_draws_a_bit_for_each_example(rbm, exact):
    terms = 4 * brute_force_terms(rbm, exact)
    estimates = np.array([pseudo_log_likelihood(rbm, exact.v, seed=s) for s in range(400)])
    distance = abs(estimates[:, :, None] - terms)
    assert distance.min(axis=2).max() < 1e-4  # each is the term of one bit
    bits = distance.argmin(axis=2)
    assert np.mean(bits[:, 0] == bits[:, 1]) < 0.5  # not the same bit for the whole batch
    standard_error = terms.std(axis=1) / np.sqrt(400)
    assert np.all(abs(estimates.mean(axis=0) - terms.mean(axis=1)) < 5 * standard_error + 1e-4)


def test_pseudo_likelihood_refuses_gray_pixels(rbm):
    with pytest.raises(ValueError, match="must be binary"):
        pseudo_log_likelihood(rbm, np.full((2, 4), 0.5))


# ---------------------------------------------------------------- chains


def test_diagnostics_tell_chains_that_mix_from_chains_that_do_not():
    start = np.repeat(states(4)[[0, 15]], 4, axis=0)
    good = chain_diagnostics(machine(scale=0.3), start, steps=400)
    assert good.free_energies.shape == (400, 8)
    assert good.potential_scale_reduction == pytest.approx(1, abs=0.02)
    assert good.effective_sample_size > 1500
    stuck = RBM(1, seed=0)
    stuck.build([4])
    stuck.w_rec.assign(np.full((4, 1), 20.0))  # all on or all off, of different free energies
    stuck.hb.assign([-40.0])
    stuck.vb.assign(4 * [-9.5])
    bad = chain_diagnostics(stuck, start, steps=400)
    assert bad.potential_scale_reduction > 1.5
    assert bad.effective_sample_size < 50


def test_diagnostics_follow_the_exact_mean_free_energy(rbm, exact):
    result = chain_diagnostics(rbm, exact.v, steps=1000)
    expected = np.sum(exact.p_v * exact.free_energy)
    error = result.free_energies.std() / np.sqrt(result.effective_sample_size)
    assert abs(result.free_energies.mean() - expected) < 5 * error


def test_compiled_draws_are_those_of_the_layer(rbm, exact):
    twin = copy_of(rbm)
    gibbs_step = backend.compiled_draws(rbm, lambda v: rbm.forward_gibbs(v, steps=1))
    v = exact.v
    for _ in range(3):
        v = gibbs_step(v)
    np.testing.assert_array_equal(v, twin.forward_gibbs(exact.v, steps=3))
    np.testing.assert_array_equal(rbm.sample_v(exact.h), twin.sample_v(exact.h))  # and go on as it
    rbm.vb.assign(np.full(4, 30.0))
    assert np.all(gibbs_step(v) == 1)  # with the weights as they are


def test_diagnostics_need_several_chains_and_steps(rbm, exact):
    for v, steps in [(exact.v[:1], 100), (exact.v, 3)]:
        with pytest.raises(ValueError, match="at least 2 chains"):
            chain_diagnostics(rbm, v, steps)
    with pytest.raises(ValueError, match="must lie in"):
        chain_diagnostics(rbm, exact.v * np.nan)


# ---------------------------------------------------------------- compiled loops


@only_tensorflow
def test_compiled_loops_compute_what_their_python_says(monkeypatch, exact):
    """Autograph rewrites the loops; run line by line they must give the same numbers."""
    monkeypatch.setattr(likelihood, "CHUNK_ELEMENTS", 8)

    def results():
        rbm = machine()
        return (
            exact_log_partition(rbm),
            ais_log_partition(rbm, 5, 8).log_weights,
            pseudo_log_likelihood(rbm, exact.v),
            chain_diagnostics(rbm, exact.v, steps=5).free_energies,
        )

    compiled = results()
    tf.config.run_functions_eagerly(True)
    try:
        line_by_line = results()
    finally:
        tf.config.run_functions_eagerly(False)
    for ours, theirs in zip(compiled, line_by_line):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
