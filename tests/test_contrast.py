"""The contrast of two sets of rows, its gradient, and means of rows."""

import keras
import numpy as np
import pytest
from enumerated import statistics
from machines import parameters_of
from trained import EXAMPLES, Given, trainer

from rbm_tutorial.contrast import batch_mean, contrast_with_model, weighing

TEN = 1 - EXAMPLES[8:18]


def free_energy(v, w, hb, vb):
    return -v @ vb - np.logaddexp(0, v @ w + hb).sum(axis=1)


def test_the_contrast_is_that_of_the_enumerated_free_energies(rbm, batch):
    contrast = contrast_with_model(rbm, batch, Given(TEN))
    of_data, of_chains = (free_energy(v, *parameters_of(rbm)) for v in (batch, TEN))
    assert float(contrast.loss) == pytest.approx(of_data.mean() - of_chains.mean(), rel=1e-5)
    np.testing.assert_allclose(contrast.free_energy, of_data, rtol=1e-5)
    np.testing.assert_allclose(contrast.h, rbm.forward(batch), rtol=1e-5)
    np.testing.assert_array_equal(contrast.v_k, TEN)


def test_a_step_goes_along_the_statistics_of_data_less_those_of_the_chains(rbm, batch):
    """Six examples and ten chains, which are constants: nothing is drawn."""
    before = parameters_of(rbm)
    trainer(rbm, keras.optimizers.SGD(1.0), negatives=Given(TEN)).fit(batch, verbose=0)
    of_data, of_chains = (statistics(rows, *before[:2]) for rows in (batch, TEN))
    for old, new, data, chains in zip(before, parameters_of(rbm), of_data, of_chains):
        np.testing.assert_allclose(new - old, data - chains, atol=1e-6)


def test_the_mean_of_no_rows_is_zero():
    """A replica may get none of a short batch."""
    np.testing.assert_array_equal(batch_mean(keras.ops.zeros((0, 3))), np.zeros(3))


def test_weights_that_are_nan_are_not_taken_for_an_empty_batch():
    """JAX makes NaN of those that it cannot refuse: means must show it. Of no weight they are 0."""
    rows = np.ones((3, 2), "float32")
    for weights, mean, anything in [
        ([1, np.nan, 1], np.nan, 1),
        ([0, 0, 0], 0, 0),
        ([1, 0, 3], 1, 1),
    ]:
        each = weighing(rows, np.array(weights, "float32"))
        np.testing.assert_array_equal(batch_mean(rows, each), [mean, mean])
        assert float(each.anything) == anything
