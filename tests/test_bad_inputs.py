"""Bad inputs of functions that measure and prepare: refused, by the name of the argument."""

import numpy as np
import pytest
from conftest import machine, states

from rbm_tutorial import as_arrays, binarize, flatten_image, load_mnist
from rbm_tutorial.annealing import ais_log_partition, reverse_ais_log_partition
from rbm_tutorial.likelihood import pseudo_log_likelihood

SEEDED = {
    "binarize": lambda seed: binarize(states(4), seed=seed),
    "ais_log_partition": lambda seed: ais_log_partition(machine(), 4, 3, seed=seed).log_z,
    "reverse_ais_log_partition": lambda seed: (
        reverse_ais_log_partition(machine(), states(4), 3, seed=seed).log_z
    ),
    "pseudo_log_likelihood": lambda seed: pseudo_log_likelihood(machine(), states(4), seed),
}


@pytest.mark.parametrize("function", SEEDED.values(), ids=SEEDED)
@pytest.mark.parametrize("seed", [True, 1.5, -1, 2**32, "0", np.random.default_rng(0)], ids=str)
def test_what_is_no_seed_is_refused(function, seed):
    with pytest.raises(ValueError, match=r"`seed` must be an integer from 0.*Received"):
        function(seed)


@pytest.mark.parametrize("function", SEEDED.values(), ids=SEEDED)
@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), np.uint64(3)], ids=repr)
def test_integers_of_numpy_are_seeds(function, seed):
    np.testing.assert_array_equal(function(seed), function(3))


def test_as_arrays_refuses_what_has_no_end_or_no_labels():
    digits = load_mnist()[1]
    alone = digits.take(2).map(lambda example: flatten_image(example, label=False))
    for bad in (digits.repeat(), alone, np.zeros((2, 784))):
        with pytest.raises(ValueError, match=r"`dataset` must .*Received"):
            as_arrays(bad)
    for bad in (np.zeros(784), {"image": np.zeros((20, 784))}):
        with pytest.raises(ValueError, match=r"`example` must .*Received"):
            flatten_image(bad)
