"""Likelihoods against the enumerated machine."""

import numpy as np
import pytest
from conftest import enumerate_machine, machine, parameters_of
from hypothesis import given, settings
from hypothesis import strategies as st

from rbm_tutorial import RBM, likelihood
from rbm_tutorial.likelihood import exact_log_partition, log_likelihood


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
    _, vb, hb = parameters_of(rbm)
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
