"""p-values of χ² tests against enumeration are uniform, those of wrong samplers are not.

One p-value of a right sampler may be anything; two hundred of them are spread evenly over [0, 1],
which Kolmogorov and Smirnov's test measures.
"""

import keras
import numpy as np
import pytest
from enumerated import exact_of
from machines import BINARY, CLASSES, LABELS, MIXED, PAIRS, REAL, machine, machine_of
from sampled import cell_probabilities, exact_samples, p_value, sharing_noise, visible_cells, warm
from scipy import stats

from rbm_tutorial.backend import compiled, uniform, uniform_stream
from rbm_tutorial.sampling import run_chains

REPETITIONS, DRAWS = 200, 500
TYPES = {"binary": (BINARY, 3), "classes": (CLASSES, 6), "real": (REAL, 2)}
TYPES |= {"labels": (LABELS, 5), "mixed": (MIXED, 3)}
LEAST = 1e-4  # once in ten thousand right samplers


def uniformity(p_values):
    return stats.kstest(p_values, "uniform").pvalue


def p_values_of(units, number, sample, seed=0):
    """Of so many repetitions of so many draws at one row of inputs."""
    row = np.random.default_rng(5).normal(size=(1, number)).astype("float32")
    logits = keras.ops.convert_to_tensor(np.repeat(row, REPETITIONS * DRAWS, axis=0))
    drawn = np.asarray(sample(units, logits, np.array([seed, 1])))
    expected = cell_probabilities(units, row)[0]
    return [p_value(units, x, expected) for x in drawn.reshape(REPETITIONS, DRAWS, number)]


def eager(units, logits, seed):
    return units.sample(logits, uniform_stream(seed))


def as_compiled(units, logits, seed):
    return compiled(lambda logits, seed: units.sample(logits, uniform_stream(seed)))(logits, seed)


@pytest.mark.parametrize("sample", [eager, as_compiled])
@pytest.mark.parametrize(("units", "number"), TYPES.values(), ids=TYPES)
def test_p_values_of_a_sampler_are_uniform(units, number, sample):
    assert uniformity(p_values_of(units, number, sample)) > LEAST


@pytest.mark.parametrize(("units", "number"), TYPES.values(), ids=TYPES)
def test_p_values_of_a_warm_sampler_are_not(units, number):
    assert uniformity(p_values_of(warm(units), number, eager)) < LEAST


def test_p_values_of_rows_that_share_their_noise_are_not():
    assert uniformity(p_values_of(sharing_noise(BINARY), 3, eager)) < LEAST


@pytest.mark.parametrize("name", ["binary, binary", "classes, binary", "labels, binary"])
def test_p_values_of_chains_that_start_in_the_target_are_uniform(name):
    """Eight compiled steps later, against p(v) of the enumerated machine."""
    rbm = machine_of(PAIRS[name])
    exact = exact_of(rbm)
    start = exact_samples(exact, REPETITIONS * DRAWS).astype("float32")
    drawn = np.asarray(run_chains(rbm, start, 8)).reshape(REPETITIONS, DRAWS, -1)
    expected = visible_cells(exact)
    p_values = [p_value(rbm.visible_units, x, expected) for x in drawn]
    assert uniformity(p_values) > LEAST


# ---------------------------------------------------------------- independence


def correlations(first, second):
    """Of pairs of uniform numbers, (repetitions, draws): standard normal if independent."""
    return 12 * np.mean((first - 0.5) * (second - 0.5), axis=1) * np.sqrt(first.shape[1])


def neighbors():
    """Numbers next to each other in a batch, in calls of a layer, and in layers and streams."""
    shape = (REPETITIONS, DRAWS, 2)
    rbm, other = machine(seed=0), machine(seed=1)
    one, two, of_other = (np.asarray(layer.uniform(shape)) for layer in (rbm, rbm, other))
    streams = [np.asarray(uniform(shape, np.array([seed, 7]))) for seed in (3, 4)]
    return {
        "rows": (one[:, :-1, 0], one[:, 1:, 0]),
        "columns": (one[..., 0], one[..., 1]),
        "calls": (one[..., 0], two[..., 0]),
        "layers": (one[..., 0], of_other[..., 0]),
        "untied copies": (two[..., 0], np.asarray(rbm.untie().uniform(shape))[..., 0]),
        "streams of neighboring seeds": (streams[0][..., 0], streams[1][..., 0]),
    }


def test_neighbors_are_independent():
    for name, pair in neighbors().items():
        assert stats.kstest(correlations(*pair), "norm").pvalue > LEAST, name


def test_numbers_of_two_layers_of_one_seed_are_not():
    ours, theirs = (np.asarray(machine(seed=0).uniform((REPETITIONS, DRAWS))) for _ in range(2))
    assert stats.kstest(correlations(ours, theirs), "norm").pvalue < LEAST
