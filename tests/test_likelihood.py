"""Likelihood and pseudo-likelihood against enumeration; diagnostics of chains."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import only_tensorflow
from enumerated import exact_of, sites, states
from machines import each_pair, machine, machine_of

from rbm_tutorial import RBM
from rbm_tutorial import exact as exact_module
from rbm_tutorial.likelihood import (
    ais_log_partition,
    chain_diagnostics,
    exact_log_partition,
    log_likelihood,
    pseudo_log_likelihood,
    reverse_ais_log_partition,
)

DISCRETE = (
    "binary, binary",
    "binary, classes",
    "binary, real",
    "classes, binary",
    "classes, real",
    "labels, binary",
    "labels, mixed",
    "binomial, binary",
)


@each_pair()
def test_log_likelihood_is_that_of_the_enumerated_distribution(pair):
    rbm = machine_of(pair)
    exact = exact_of(rbm)
    log_p = log_likelihood(rbm, exact.v, exact_log_partition(rbm))
    np.testing.assert_allclose(log_p, -exact.free_energy - exact.log_z, rtol=1e-5, atol=2e-5)


def test_refuses_an_untied_layer_and_values_outside_the_unit_interval(rbm):
    with pytest.raises(ValueError, match="`exact_log_partition` needs symmetric weights"):
        exact_log_partition(rbm.untie())
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        log_likelihood(rbm, np.full((2, 4), 7.0), 0.0)


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


def brute_force_terms(exact):
    """log p(v_i | rest) for every state and site, from the enumerated distribution."""
    blocks = [site for site, _, _ in sites(exact.visible_units, exact.v.shape[1])]
    index = {tuple(v): i for i, v in enumerate(exact.v)}
    terms = np.empty((len(exact.v), len(blocks)))
    for row, v in enumerate(exact.v):
        first = 0
        for i, block in enumerate(blocks):
            columns = slice(first, first + block.shape[1])
            total = 0.0
            for state in block:
                other = v.copy()
                other[columns] = state
                total += exact.p_v[index[tuple(other)]]
            terms[row, i] = np.log(exact.p_v[row] / total)
            first = columns.stop
    return terms


@each_pair(*DISCRETE)
def test_pseudo_likelihood_of_all_sites_is_that_of_brute_force(pair):
    rbm = machine_of(pair)
    exact = exact_of(rbm)
    expected = brute_force_terms(exact).sum(axis=1)
    np.testing.assert_allclose(pseudo_log_likelihood(rbm, exact.v), expected, atol=2e-5)


@each_pair("binary, binary", "labels, binary", "binomial, binary")
def test_stochastic_pseudo_likelihood_is_unbiased_and_draws_a_site_for_each_example(pair):
    rbm = machine_of(pair)
    exact = exact_of(rbm)
    terms = brute_force_terms(exact)
    number, repeats = terms.shape[1], 400
    estimates = np.asarray(pseudo_log_likelihood(rbm, np.repeat(exact.v, repeats, axis=0), seed=3))
    estimates = estimates.reshape(-1, repeats)
    distance = abs(estimates[:, :, None] - number * terms[:, None])
    assert distance.min(axis=2).max() < 1e-3  # each is the term of one site
    chosen = distance.argmin(axis=2)
    assert 0.5 / number < np.mean(chosen[:, 0::2] == chosen[:, 1::2]) < 1.5 / number

    def standard_scores(factor):
        error = number * terms.std(axis=1) / np.sqrt(repeats)
        return abs((factor * estimates).mean(axis=1) - terms.sum(axis=1)) / error

    assert standard_scores(1).max() < 5
    assert standard_scores((number + 1) / number).max() > 7  # as if there were one site more


@each_pair("real, binary", "mixed, binary")
def test_pseudo_likelihood_needs_finitely_many_states(pair):
    rbm = machine_of(pair)
    with pytest.raises(ValueError, match="finitely many"):
        pseudo_log_likelihood(rbm, np.zeros((2, rbm.number_visible_units)))


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
    assert bad.potential_scale_reduction > 1.2
    assert bad.effective_sample_size < 50


def test_diagnostics_follow_the_exact_mean_free_energy(rbm, exact):
    result = chain_diagnostics(rbm, exact.v, steps=1000)
    expected = np.sum(exact.p_v * exact.free_energy)
    error = result.free_energies.std() / np.sqrt(result.effective_sample_size)
    assert abs(result.free_energies.mean() - expected) < 5 * error


def test_diagnostics_need_several_chains_and_steps(rbm, exact):
    for v, steps in [(exact.v[:1], 100), (exact.v, 3)]:
        with pytest.raises(ValueError, match="at least"):
            chain_diagnostics(rbm, v, steps)
    with pytest.raises(ValueError, match="must lie in"):
        chain_diagnostics(rbm, exact.v * np.nan)


# ---------------------------------------------------------------- compiled loops


@only_tensorflow
def test_compiled_loops_compute_what_their_python_says(monkeypatch, exact):
    """Autograph rewrites the loops; run line by line they must give the same numbers."""
    monkeypatch.setattr(exact_module, "CHUNK_ELEMENTS", 8)

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
