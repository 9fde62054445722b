"""The package's exact sums against the tests' own."""

import numpy as np
import pytest
from enumerated import derivatives, enumerate_machine, exact_of, states, support
from hypothesis import given, settings
from hypothesis import strategies as st
from machines import (
    BINARY,
    CLASSES,
    LABELS,
    MIXED,
    REAL,
    Binomial,
    each_pair,
    machine,
    machine_of,
    parameters_of,
)
from scipy import special

from rbm_tutorial import RBM, exact
from rbm_tutorial.data import all_states
from rbm_tutorial.exact import (
    conditional_tables,
    exact_log_partition,
    layer_states,
    state_numbers,
    state_probabilities,
    statistics,
    transition_matrix,
    visible_probabilities,
)
from rbm_tutorial.units import Bernoulli

ENUMERABLE = ("binary, binary", "binary, classes", "classes, binary", "labels, binary")
ENUMERABLE += ("binomial, binary",)  # both layers
each_enumerable_pair = each_pair(*ENUMERABLE)
each_pair_with_visible_states = each_pair(
    *ENUMERABLE, "binary, real", "classes, real", "labels, mixed"
)


# ---------------------------------------------------------------- states


@pytest.mark.parametrize(
    ("units", "number"), [(BINARY, 4), (CLASSES, 6), (LABELS, 5), (Binomial(), 3)]
)
def test_states_of_a_layer_are_all_of_them_the_last_changing_fastest(units, number):
    np.testing.assert_array_equal(layer_states(units, number), support(units, number)[0])


def test_states_of_binary_units_are_in_binary_order():
    np.testing.assert_array_equal(layer_states(BINARY, 3) @ [4, 2, 1], np.arange(8))


@pytest.mark.parametrize(("units", "number"), [(REAL, 2), (MIXED, 3)])
def test_real_units_have_no_list_of_states(units, number):
    with pytest.raises(ValueError, match=r"Only finitely many.*Received"):
        layer_states(units, number)


def test_refuses_more_states_than_memory_holds():
    """Asked of a machine for digits, 2⁷⁸⁴."""
    with pytest.raises(ValueError, match=r"at most 2\^26 numbers.*Received: 784 units"):
        layer_states(BINARY, 784)
    with pytest.raises(ValueError, match="Received: 60 units"):
        visible_probabilities(machine(60, 2))


@pytest.mark.parametrize("units", [Bernoulli, "Bernoulli", None])
def test_names_what_is_no_type_of_units(units):
    for function in (
        lambda: layer_states(units, 3),
        lambda: state_probabilities(units, np.eye(4), np.eye(4)),
    ):
        with pytest.raises(ValueError, match=r"`units` must be a type of units.*Received"):
            function()


def test_refuses_inputs_of_groups_that_are_not_whole():
    with pytest.raises(ValueError, match=r"multiple of the 3 classes.*Received: 4"):
        state_probabilities(CLASSES, np.eye(4), np.eye(4))


def test_refuses_a_transition_matrix_larger_than_memory():
    with pytest.raises(ValueError, match=r"at most 2\^13 visible states.*Received: 2\^14"):
        transition_matrix(machine(14, 2))
    with pytest.raises(ValueError, match=r"at most 2\^26 states \(v, h\).*Received: 2\^27"):
        conditional_tables(machine(13, 14))
    with pytest.raises(ValueError, match="must be an RBM for `transition_matrix`"):
        transition_matrix(3)


@pytest.mark.parametrize(
    ("units", "number"), [(BINARY, 4), (CLASSES, 6), (LABELS, 5), (Binomial(), 3)]
)
def test_probabilities_of_states_given_their_inputs(units, number):
    logits = np.random.default_rng(0).normal(scale=3, size=(5, number))
    x, log_m, _ = support(units, number)
    expected = special.softmax(logits @ x.T + log_m, axis=1)
    np.testing.assert_allclose(state_probabilities(units, logits, x), expected, rtol=1e-12)


# ---------------------------------------------------------------- partition function


@each_pair()
def test_partition_function_of_every_pair_of_types(pair):
    """Of real units an integral, against the sum over a grid."""
    rbm = machine_of(pair)
    assert exact_log_partition(rbm) == pytest.approx(exact_of(rbm).log_z, rel=1e-12)


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


@pytest.mark.parametrize("chunk_elements", [1, 32, 2**22])
@pytest.mark.parametrize(
    "pair",
    [
        (BINARY, 9, BINARY, 6),
        (BINARY, 6, BINARY, 9),
        (LABELS, 6, CLASSES, 9),
        (Binomial(), 4, BINARY, 6),
        (Binomial(), 3, BINARY, 6),
        (REAL, 2, LABELS, 6),
    ],
)
def test_chunks_add_up(monkeypatch, pair, chunk_elements):
    monkeypatch.setattr(exact, "CHUNK_ELEMENTS", chunk_elements)
    rbm = machine_of(pair)
    assert exact_log_partition(rbm) == pytest.approx(exact_of(rbm).log_z, rel=1e-12)


@pytest.mark.parametrize(("visible", "hidden"), [(60, 5), (5, 60)])
@pytest.mark.parametrize("units", [BINARY, CLASSES])
def test_it_is_enough_that_the_smaller_layer_can_be_enumerated(visible, hidden, units):
    """Against log Σ_x exp(b·x) Π_i (Σ of unit or group i), the larger layer being `units`."""
    layers = {"visible_units": units} if visible > hidden else {"hidden_units": units}
    rbm = machine(visible, hidden, 0.3, **layers)
    w, hb, vb = parameters_of(rbm)
    if visible < hidden:
        w, hb, vb = w.T, vb, hb
    logits = states(5) @ w.T + vb
    if units is CLASSES:
        of_sites = special.logsumexp(logits.reshape(32, 20, 3), axis=2)
    else:
        of_sites = np.logaddexp(0, logits)
    expected = special.logsumexp(states(5) @ hb + of_sites.sum(axis=1))
    assert exact_log_partition(rbm) == pytest.approx(expected, rel=1e-12)


def test_a_larger_layer_of_real_units_is_integrated():
    """log N(0, 1) normalizers and the quadratic form, with 30 real units against 5 binary ones."""
    rbm = machine(30, 5, 0.3, visible_units=REAL)
    w, hb, vb = parameters_of(rbm)
    logits = states(5) @ w.T + vb
    log_terms = states(5) @ hb + (logits**2).sum(axis=1) / 2 + 15 * np.log(2 * np.pi)
    assert exact_log_partition(rbm) == pytest.approx(special.logsumexp(log_terms), rel=1e-12)


def test_partition_function_without_weights_is_known():
    """Z = Π(1 + e^vb) Π(1 + e^hb) when nothing is connected."""
    rbm = machine(784, 12)
    rbm.w_rec.assign(np.zeros((784, 12)))
    _, hb, vb = parameters_of(rbm)
    expected = np.logaddexp(0, vb).sum() + np.logaddexp(0, hb).sum()
    assert exact_log_partition(rbm) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("visible_units", [BINARY, REAL])
def test_refuses_machines_too_large_to_enumerate(visible_units):
    rbm = RBM(27, visible_units=visible_units)
    rbm.build([28])
    with pytest.raises(ValueError, match=r"at most 2\^26 states, 26 binary units.*Received: 27"):
        exact_log_partition(rbm)


@pytest.mark.parametrize("function", [exact_log_partition, visible_probabilities])
def test_refuses_machines_without_energy_or_weights(rbm, function):
    with pytest.raises(ValueError, match=f"`{function.__name__}` needs symmetric weights"):
        function(rbm.untie())
    with pytest.raises(ValueError, match="call `build` first"):
        function(RBM(3))


# ---------------------------------------------------------------- distributions


@each_pair_with_visible_states
def test_probabilities_of_visible_states(pair):
    rbm = machine_of(pair)
    np.testing.assert_allclose(visible_probabilities(rbm), exact_of(rbm).p_v, rtol=1e-9)


@each_enumerable_pair
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_conditionals_are_those_of_the_joint_distribution(pair, beta):
    rbm = machine_of(pair)
    base = np.random.default_rng(1).normal(size=pair[1])
    oracle = exact_of(rbm, beta, base)
    h_given_v, v_given_h = conditional_tables(rbm, beta, base)
    np.testing.assert_allclose(h_given_v, oracle.joint / oracle.p_v[:, None], rtol=1e-9)
    np.testing.assert_allclose(v_given_h, (oracle.joint / oracle.p_h).T, rtol=1e-9)


def test_an_untied_layer_has_conditionals_too(rbm):
    untied = rbm.untie()
    untied.w_gen.assign(np.random.default_rng(1).normal(size=(3, 4)))
    h_given_v, v_given_h = conditional_tables(untied)
    np.testing.assert_allclose(h_given_v @ states(3), rbm.forward(states(4)), rtol=1e-5)
    np.testing.assert_allclose(v_given_h @ states(4), untied.reverse(states(3)), rtol=1e-5)


@each_enumerable_pair
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_a_gibbs_step_leaves_the_distribution_as_it_is(pair, beta):
    """And reverses it in time; a step at another temperature does not."""
    rbm = machine_of(pair)
    base = np.random.default_rng(1).normal(size=pair[1])
    p_v, step = exact_of(rbm, beta, base).p_v, transition_matrix(rbm, beta, base)
    np.testing.assert_allclose(step.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(p_v @ step, p_v, rtol=1e-9)
    flow = p_v[:, None] * step
    np.testing.assert_allclose(flow, flow.T, rtol=1e-9, atol=1e-15)
    assert abs(p_v @ transition_matrix(rbm, beta / 1.25, base) - p_v).max() > 1e-3


# ---------------------------------------------------------------- numbers of states


def test_a_vector_of_bits_has_the_number_of_its_row():
    np.testing.assert_array_equal(state_numbers(all_states(5)), np.arange(32))
    assert state_numbers(np.ones((1, 62)))[0] == 2**62 - 1


@pytest.mark.parametrize(
    ("v", "fault"),
    [
        ([[0.5]], "must be binary"),
        ([[np.nan]], "must be binary"),
        ([0, 1], "must have shape"),
        ([["1"]], "real numbers"),
        (np.ones((1, 63)), "at most 62 columns"),
    ],
)
def test_what_are_no_bits_have_no_number(v, fault):
    with pytest.raises(ValueError, match=f"`v` .*{fault}.*Received"):
        state_numbers(v)


# ---------------------------------------------------------------- statistics


@each_pair_with_visible_states
def test_statistics_of_the_model_are_the_derivatives_of_log_z(pair):
    rbm = machine_of(pair)
    expected = derivatives(lambda *p: enumerate_machine(*p, *pair[::2]).log_z, parameters_of(rbm))
    for ours, theirs in zip(statistics(rbm, exact_of(rbm).p_v), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


@each_pair_with_visible_states
def test_statistics_of_data_are_minus_the_derivatives_of_their_mean_free_energy(pair):
    rbm = machine_of(pair)
    shares = np.random.default_rng(1).dirichlet(np.ones(len(exact_of(rbm).v)))
    expected = derivatives(
        lambda *p: -shares @ enumerate_machine(*p, *pair[::2]).free_energy, parameters_of(rbm)
    )
    ours = statistics(rbm, shares)
    for given_, theirs in zip(ours, expected, strict=True):
        np.testing.assert_allclose(given_, theirs, atol=1e-7)
    wrong = statistics(rbm, exact_of(rbm).p_v)  # those of the model instead
    assert max(abs(w - theirs).max() for w, theirs in zip(wrong, expected)) > 0.05


def test_statistics_need_visible_states():
    with pytest.raises(ValueError, match="Only finitely many"):
        statistics(machine(2, 3, visible_units=REAL), [1.0])
