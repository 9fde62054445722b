"""Results of long runs, which the chapters quote: every file can be read by its name."""

import numpy as np
import pytest

from rbm_tutorial.results import FOLDER, stored_result, stored_samples

RESULTS = sorted(file.stem for file in FOLDER.glob("*.json"))
SAMPLES = sorted(file.stem for file in FOLDER.glob("*.npz"))


def test_there_are_results_and_nothing_else():
    assert len(RESULTS) > 10 and len(SAMPLES) > 10
    assert len(RESULTS) + len(SAMPLES) == len(list(FOLDER.iterdir()))


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_read_by_its_name(name):
    result = stored_result(name)
    assert result and all(isinstance(key, str) for key in result)


@pytest.mark.parametrize("name", [name for name in RESULTS if name.startswith("likelihood_")])
def test_a_likelihood_is_the_mean_free_energy_less_log_z(name):
    """log p(v) = -F(v) - log Z, also with the log Z of the reverse annealing: the two differ."""
    result = stored_result(name)
    for part in ("train", "validation", "test"):
        found = result[part]["log_likelihood"]
        shift = found["ais"] - found["reverse_ais"]
        expected = result["reverse_ais"]["log_z"] - result["ais"]["log_z"]
        assert shift == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("name", [name for name in RESULTS if name.startswith("conservative_")])
def test_a_conservative_bound_rises_from_below_to_within_half_a_nat_of_ais(name):
    result = stored_result(name)
    rows = result["bound"]
    below = [row["below"] for row in rows]
    means = [row["mean"] + row["below"] for row in rows]
    assert means == pytest.approx(len(rows) * [result["ais"]["mean"]], abs=1e-9)
    assert below == sorted(below, reverse=True) and 0 < below[-1] < 0.5
    assert rows[-1]["temperatures"] == 100_000


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_probabilities_of_pixels(name):
    samples = stored_samples(name)
    assert samples.shape[1] == 784 and samples.dtype == np.float32
    assert samples.min() >= 0 and samples.max() <= 1
    np.testing.assert_allclose(255 * samples, np.round(255 * samples), atol=1e-3)  # as stored
    assert np.ptp(samples, axis=0).max() > 0.5  # not all alike, nor scaled twice


@pytest.mark.parametrize(("read", "known"), [(stored_result, RESULTS), (stored_samples, SAMPLES)])
def test_an_unknown_name_is_answered_with_those_there_are(read, known):
    with pytest.raises(ValueError, match=r"Received: nothing") as error:
        read("nothing")
    assert ", ".join(known) in str(error.value)
