"""Extreme weights, widths and formats: no NaN, and as exact as the format's digits allow.

float16 ends at 65,504: a free energy whose positive and negative part both exceed that is NaN.
"""

import keras
import ml_dtypes
import numpy as np
import pytest

from rbm_tutorial import RBM
from rbm_tutorial.likelihood import ais_log_partition, exact_log_partition

FORMATS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
FORMATS["float64"] = np.float64
SIZES = {
    "one unit": (1, 1),
    "few": (7, 5),
    "many visible": (100_000, 1),
    "many hidden": (1, 100_000),
}


def machine_of(visible, hidden, scale, dtype):
    """A machine with parameters from -scale to scale, both included, and 4 states."""
    rng = np.random.default_rng(0)
    rbm = RBM(hidden, seed=0, dtype=dtype)
    rbm.build((None, visible))
    for parameter in (rbm.w_rec, rbm.hb, rbm.vb):
        values = rng.uniform(-scale, scale, parameter.shape)
        values.flat[-1] = scale
        parameter.assign(values)
    return rbm, rng.integers(0, 2, (4, visible)).astype("float32")


def as_float64(x):
    return np.asarray(keras.ops.cast(x, "float64"))


def reference(rbm, v):
    """F(v) in float64, and the sum of the sizes of all that is added up in it."""
    w, hb, vb = (as_float64(p) for p in (rbm.w_rec, rbm.hb, rbm.vb))
    free_energy = -v @ vb - np.logaddexp(0, v @ w + hb).sum(axis=1)
    return free_energy, v @ abs(vb) + (v @ abs(w) + abs(hb)).sum(axis=1) + np.log(2) * hb.size


def check_free_energy(rbm, v, found, format_):
    """An error of a few digits of the format in the sum of sizes, if that is in its range."""
    expected, sizes = reference(rbm, v)
    known = ml_dtypes.finfo(format_)
    inside = sizes < float(known.max)
    assert not np.any(np.isnan(found[inside]))
    tolerance = 8 * float(known.eps) * sizes[inside]
    assert np.all(abs(found[inside] - expected[inside]) <= tolerance)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_free_energies_are_as_exact_as_the_format(size, format_, scale):
    rbm, v = machine_of(*size, scale, format_)
    check_free_energy(rbm, v, as_float64(rbm.free_energy(v)), FORMATS[format_])
    for mean in (rbm.forward(v), rbm.reverse(rbm.sample_h(v))):
        assert np.all((as_float64(mean) >= 0) & (as_float64(mean) <= 1))
    assert np.isfinite(as_float64(rbm.reconstruction_cost(v))) or format_ == "float16"


def test_a_softplus_written_as_it_reads_fails():
    """log(1 + exp(l)) overflows at 1e4: the check of free energies is one."""
    rbm, v = machine_of(7, 5, 1e4, "float32")
    with np.errstate(over="ignore"):
        hidden = np.log(1 + np.exp(as_float64(rbm.hidden_logits(v)).astype("float32")))
    found = -v @ as_float64(rbm.vb) - hidden.sum(axis=1)
    with pytest.raises(AssertionError):
        check_free_energy(rbm, v, found, np.float32)


@pytest.mark.parametrize("temperatures", [2, 1_000])
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_annealing_stays_finite_and_never_far_above_the_truth(scale, temperatures):
    """With such weights it may miss modes: E[Z] is right, so log Z is too high by luck only."""
    rbm, _ = machine_of(6, 4, scale, "float32")
    truth = float(exact_log_partition(rbm))
    found = ais_log_partition(rbm, 20, temperatures)
    assert np.isfinite(found.log_z)
    assert found.log_z < truth + np.log(1e6) + 1e-5 * abs(truth)  # Markov: once in 10⁶
    if scale == 1.0 and temperatures == 1_000:
        assert found.log_z == pytest.approx(truth, abs=0.5)
