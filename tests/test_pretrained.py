"""The weights that come with the package are those that the book measures."""

from pathlib import Path

import numpy as np
import pytest

import rbm_tutorial
from rbm_tutorial import as_arrays, binarize, load_mnist, load_pretrained_rbm
from rbm_tutorial.likelihood import ais_log_partition, log_likelihood
from rbm_tutorial.results import stored_result


@pytest.mark.slow
def test_the_shipped_weights_have_the_committed_likelihood():
    """On 2,000 bundled test digits, with the committed log Z."""
    committed = stored_result("likelihood_pretrained")
    x = binarize(as_arrays(load_mnist()[1])[0], seed=0)
    per_image = np.array(log_likelihood(load_pretrained_rbm(), x, committed["ais"]["log_z"]))
    error = per_image.std() / np.sqrt(len(x))
    assert abs(per_image.mean() - committed["test"]["log_likelihood"]["ais"]) < 4 * error


@pytest.mark.slow
def test_a_short_annealing_agrees_with_the_committed_log_partition():
    committed = stored_result("likelihood_pretrained")["ais"]["log_z"]
    base_rate = as_arrays(load_mnist()[0])[0].mean(axis=0)
    short = ais_log_partition(load_pretrained_rbm(), 50, 1_000, base_rate)
    # Few temperatures: too low by some nats, and hardly ever too high.
    assert committed - 6 < short.log_z < committed + 1


def test_the_shipped_weights_are_small_and_have_no_random_part():
    path = Path(rbm_tutorial.__file__).parent / "mnist_rbm500.npz"
    assert path.stat().st_size < 1_000_000
    one, two = load_pretrained_rbm(), load_pretrained_rbm()
    assert one.w_rec.shape == (784, 500)
    for a, b in zip(one.weights, two.weights):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, np.float16(a))
