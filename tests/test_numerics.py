"""Extreme weights, widths and formats: no NaN, and as exact as the format's digits allow.

float16 ends at 65,504, which sums over units exceed: from half precision, energies and costs are
computed in single precision.
"""

import keras
import ml_dtypes
import numpy as np
import pytest
from scipy import special

from rbm_tutorial import RBM, ContrastiveDivergence, DeepBeliefNetwork, LabeledRBM, WakeSleep
from rbm_tutorial.likelihood import ais_log_partition, exact_log_partition
from rbm_tutorial.units import Categorical, Gaussian

FORMATS = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
if keras.backend.backend() == "tensorflow":  # JAX has no double precision unless it is asked to
    FORMATS["float64"] = np.float64
SIZES = {
    "one unit": (1, 1),
    "few": (7, 5),
    "many visible": (100_000, 1),
    "many hidden": (1, 100_000),
}


def extreme_machine(visible, hidden, scale, dtype):
    """A machine with parameters from -scale to scale, both included, and 4 pairs of states."""
    rng = np.random.default_rng(0)
    rbm = RBM(hidden, seed=0, dtype=dtype)
    rbm.build((None, visible))
    for parameter in (rbm.w_rec, rbm.hb, rbm.vb):
        values = rng.uniform(-scale, scale, parameter.shape)
        values.flat[-1] = scale
        parameter.assign(values)
    v, h = (rng.integers(0, 2, (4, units)).astype("float32") for units in (visible, hidden))
    return rbm, v, h


def as_float64(x):
    return np.asarray(x).astype("float64")


def references(rbm, v, h):
    """In float64, of each quantity, what it is and the sum of the sizes of all that is added up.

    A hidden input that is off by δ moves the mean of its unit by up to δ/4, and so the cost.
    """
    w, hb, vb = (as_float64(p) for p in (rbm.w_rec, rbm.hb, rbm.vb))
    inputs, of_inputs = v @ w + hb, v @ abs(w) + abs(hb)
    logits = special.expit(inputs) @ w.T + vb
    costs = np.sum(np.logaddexp(0, logits) - v * logits, axis=1)
    of_costs = abs(w).sum() + abs(vb).sum() + of_inputs @ abs(w).sum(axis=0) / 4 + vb.size
    sizes = v @ abs(vb) + of_inputs.sum(axis=1) + np.log(2) * hb.size
    return {
        "free_energy": (-v @ vb - np.logaddexp(0, inputs).sum(axis=1), sizes),
        "energy": (-v @ vb - np.sum(h * inputs, axis=1), sizes),
        "reconstruction_cost": (costs.mean(), of_costs.mean()),
    }


def check_close(found, reference, format_):
    """An error of a few digits, of float32 at least, in the sum of sizes; NaN is an error."""
    expected, sizes = reference
    eps = min(float(ml_dtypes.finfo(format_).eps), 2**-23)
    assert np.all(abs(as_float64(found) - expected) <= 8 * eps * sizes)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_energies_and_costs_are_as_exact_as_the_format(size, format_, scale):
    rbm, v, h = extreme_machine(*size, scale, format_)
    expected, format_ = references(rbm, v, h), FORMATS[format_]
    check_close(rbm.free_energy(v), expected["free_energy"], format_)
    check_close(rbm.energy(v, h), expected["energy"], format_)
    check_close(rbm.reconstruction_cost(v), expected["reconstruction_cost"], format_)
    for mean in (rbm.forward(v), rbm.reverse(rbm.sample_h(v))):
        assert np.all((as_float64(mean) >= 0) & (as_float64(mean) <= 1))


def test_a_softplus_written_as_it_reads_fails():
    """log(1 + exp(l)) overflows at 1e4: the check of free energies is one."""
    rbm, v, h = extreme_machine(7, 5, 1e4, "float32")
    with np.errstate(over="ignore"):
        hidden = np.log(1 + np.exp(as_float64(rbm.hidden_logits(v)).astype("float32")))
    found = -v @ as_float64(rbm.vb) - hidden.sum(axis=1)
    with pytest.raises(AssertionError):
        check_close(found, references(rbm, v, h)["free_energy"], np.float32)


def test_a_sum_in_half_precision_fails():
    rbm, v, h = extreme_machine(1, 100_000, 1.0, "float16")
    terms = np.logaddexp(0, as_float64(rbm.hidden_logits(v))).astype("float16")
    with np.errstate(over="ignore"):
        found = -v @ as_float64(rbm.vb) - terms.sum(axis=1)
    with pytest.raises(AssertionError):
        check_close(found, references(rbm, v, h)["free_energy"], np.float16)


@pytest.mark.parametrize("units", [Gaussian(), Categorical(2)], ids=str)
def test_other_units_have_finite_energies_and_costs_in_half_precision(units):
    """600² is beyond the end of float16, and so is a sum of 70 inputs of 1,000."""
    rbm = RBM(70, seed=0, dtype="float16", visible_units=units)
    rbm.build((None, 4))
    rbm.hb.assign(np.full(70, 1000.0))
    v = np.float32([[1, 0, 0, 1], [0, 1, 1, 0]]) * (600 if units.unbounded else 1)
    free_energies = as_float64(rbm.free_energy(v))
    assert np.isfinite(free_energies).all()
    assert np.all(abs(free_energies) > 65_504)
    assert np.isfinite(as_float64(rbm.reconstruction_cost(v)))


def test_classes_are_told_in_half_precision():
    """Each class adds some 80,000 nats, of which differences decide."""
    rbm = LabeledRBM(80, number_classes=3, seed=0, dtype="float16")
    rbm.build((None, 7))
    rbm.hb.assign(np.full(80, 1000.0))
    rbm.vb.assign([0, 0, 0, 0, 0, 1, 2])
    found = as_float64(rbm.class_probabilities(np.ones((1, 4))))
    logits = as_float64(rbm.w_rec)[-3:].sum(axis=1) + np.arange(3)
    np.testing.assert_allclose(
        found[0], special.softmax(logits), atol=0.02
    )  # eps of 80,000 is 0.01


def test_a_network_learns_in_half_precision():
    rbms = [RBM(3, 4, dtype="float16"), RBM(2, dtype="float16")]
    model = WakeSleep(DeepBeliefNetwork(rbms))
    model.compile(run_eagerly=True)
    x = np.random.default_rng(0).integers(0, 2, (22, 4)).astype("float32")
    history = model.fit(x, sample_weight=np.ones(22), verbose=0).history
    assert np.isfinite(list(history.values())).all()


def biases_after(dtype, examples, weights=None):
    """What one update of the whole batch makes of visible biases."""
    rbm = RBM(3, seed=0, dtype=dtype)
    rbm.build([4])
    model = ContrastiveDivergence(rbm)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(examples, sample_weight=weights, batch_size=len(examples), shuffle=False, verbose=0)
    return np.asarray(rbm.vb).astype("float64")


@pytest.mark.parametrize(
    ("number", "weight"), [(64, 3000.0), (64, 1e5), (70_000, None)], ids=["sum", "each", "rows"]
)
def test_half_precision_weighs_and_counts_beyond_its_range(number, weight):
    """float16 ends at 65,504: means over such weights, or so many rows, were 0."""
    examples = np.resize(np.random.default_rng(0).random((64, 4)) < 0.8, (number, 4))
    weights = None if weight is None else np.full(number, weight)
    expected = biases_after("float32", examples, weights)
    found = biases_after("float16", examples, weights)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.abs(expected).max() > 0.01


KINDS = {
    "CD": {},
    "everything": {"persistent_chains": 5, "centered": True, "likelihood_chains": 10},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("format_", ["float16", "bfloat16", "mixed_float16"])
def test_every_kind_of_training_runs_in_half_precision(format_, kind):
    x = np.random.default_rng(0).integers(0, 2, (22, 6)).astype("float32")
    model = ContrastiveDivergence(RBM(4, seed=0, dtype=format_, activity_regularizer="l2"), **kind)
    model.compile(run_eagerly=True)
    history = model.fit(x, sample_weight=np.ones(22), verbose=0).history
    assert np.isfinite(list(history.values())).all()
    assert np.isfinite(model.evaluate(x, verbose=0)).all()


@pytest.mark.slow
def test_annealing_through_100000_temperatures_stays_exact():
    """Each of so many ratios is rounded in single precision: what they err does not add up."""
    rbm, _, _ = extreme_machine(6, 4, 1.0, "float32")
    found, truth = ais_log_partition(rbm, 10, 100_000, seed=1), exact_log_partition(rbm)
    assert found.standard_error < 0.005
    assert abs(found.log_z - truth) < 5 * found.standard_error


@pytest.mark.parametrize("temperatures", [2, 1_000])
@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_annealing_stays_finite_and_never_far_above_the_truth(scale, temperatures):
    """With such weights it may miss modes: E[Z] is right, so log Z is too high by luck only."""
    rbm, _, _ = extreme_machine(6, 4, scale, "float32")
    truth = float(exact_log_partition(rbm))
    found = ais_log_partition(rbm, 20, temperatures)
    assert np.isfinite(found.log_z)
    assert found.log_z < truth + np.log(1e6) + 1e-5 * abs(truth)  # Markov: once in 10⁶
    if scale == 1.0 and temperatures == 1_000:
        assert found.log_z == pytest.approx(truth, abs=0.5)
