"""Counts, numbers and seeds that cannot be are refused, by the name of the argument."""

import numpy as np
import pytest
from inputs import DBN, KNOWN, LABELED, RBM_4_3, V, assert_refused, wrong_values
from machines import BINARY, machine
from trained import trainer

from rbm_tutorial import RBM, data, plots, train_stack
from rbm_tutorial.annealing import ais_log_partition, reverse_ais_log_partition
from rbm_tutorial.draws import sample
from rbm_tutorial.exact import conditional_tables, exact_log_partition, layer_states
from rbm_tutorial.likelihood import chain_diagnostics, log_likelihood, pseudo_log_likelihood
from rbm_tutorial.missing import marginal_log_likelihood
from rbm_tutorial.sampling import denoise, inpaint, run_chains
from rbm_tutorial.scikit_learn import RBMTransformer
from rbm_tutorial.stack import variational_bound
from rbm_tutorial.units import Gaussian
from rbm_tutorial.variances import VarianceLearning

pytestmark = pytest.mark.usefixtures("close_figures")

# ---------------------------------------------------------------- counts and numbers


COUNTS = {
    "nothing": None,
    "text": "3",
    "a fraction": 2.5,
    "NaN": np.nan,
    "an array": np.arange(3),
    "a list": [3],
    "zero": 0,
    "below 0": -3,
    "a boolean": True,
}
NUMBERS = {
    "nothing": None,
    "text": "0.1",
    "NaN": np.nan,
    "infinity": np.inf,
    "an array": np.arange(3.0),
    "a list": [0.1],
    "complex": 0.1 + 1j,
    "a boolean": True,
}
FUNCTIONS_OF_COUNTS = {
    "chain_diagnostics(steps)": (lambda n: chain_diagnostics(RBM_4_3, V, n), []),
    "ais_log_partition(num_chains)": (lambda n: ais_log_partition(RBM_4_3, n, 3), []),
    "ais_log_partition(num_betas)": (lambda n: ais_log_partition(RBM_4_3, 3, n), []),
    "reverse_ais_log_partition(num_betas)": (
        lambda n: reverse_ais_log_partition(RBM_4_3, V, n),
        [],
    ),
    "layer_states(number of units)": (lambda n: layer_states(BINARY, n), []),
    "run_chains(steps)": (lambda n: run_chains(RBM_4_3, V, n), []),
    "inpaint(steps)": (lambda n: inpaint(RBM_4_3, V, KNOWN, n), []),
    "denoise(steps)": (lambda n: denoise(RBM_4_3, V, 0.1, n, 0), []),
    "denoise(burn_in)": (lambda n: denoise(RBM_4_3, V, 0.1, 10, n), ["zero"]),
    "image_grid(columns)": (lambda n: plots.image_grid(V, n), []),
    "filters(count)": (lambda n: plots.filters(RBM_4_3, n), []),
    "image_grid(image_shape)": (lambda n: plots.image_grid(V, image_shape=(n, 2)), []),
    "all_states(units)": (data.all_states, []),
    "bars_and_stripes(n)": (data.bars_and_stripes, []),
    "generate(number)": (lambda n: DBN.generate(n, steps=1), []),
    "generate(steps)": (lambda n: DBN.generate(2, steps=n), []),
    "generate(steps) given labels": (lambda n: LABELED.generate(labels=[1], steps=n), []),
    "classifier(number_classes)": (DBN.classifier, []),
    "load_mnist(source)": (data.load_mnist, []),
    "parameter_histogram(name)": (lambda name: plots.parameter_histogram(RBM_4_3, name), []),
    "training_curves(metric)": (lambda name: plots.training_curves({"loss": [1.0]}, name), []),
}
FUNCTIONS_OF_NUMBERS = {
    "log_likelihood(log_z)": (lambda log_z: log_likelihood(RBM_4_3, V, log_z), []),
    "variational_bound(log_z)": (lambda log_z: variational_bound(DBN, V, log_z), []),
    "conditional_tables(beta)": (lambda beta: conditional_tables(RBM_4_3, beta), []),
    "denoise(flip_rate)": (lambda rate: denoise(RBM_4_3, V, rate, 3, 1), []),
    "binarize(threshold)": (lambda limit: data.binarize(V, threshold=limit), ["nothing"]),
    "classifier(dropout)": (lambda rate: DBN.classifier(3, rate), []),
    "classifier(input_dropout)": (lambda rate: DBN.classifier(3, 0.0, rate), []),
}


@pytest.mark.parametrize(("function", "kind"), wrong_values(FUNCTIONS_OF_COUNTS, COUNTS))
def test_what_is_no_count_is_refused(function, kind):
    assert_refused(function, FUNCTIONS_OF_COUNTS[function][0], COUNTS[kind])


@pytest.mark.parametrize(("function", "kind"), wrong_values(FUNCTIONS_OF_NUMBERS, NUMBERS))
def test_what_is_no_number_is_refused(function, kind):
    assert_refused(function, FUNCTIONS_OF_NUMBERS[function][0], NUMBERS[kind])


@pytest.mark.parametrize("log_z", [2, np.float32(2), np.float64(2), np.int8(2), np.array(2.0)])
def test_numbers_of_numpy_are_numbers(log_z):
    expected = log_likelihood(RBM_4_3, V, 2.0)
    np.testing.assert_array_equal(log_likelihood(RBM_4_3, V, log_z), expected)


def test_an_estimate_is_no_log_partition_function():
    estimate = ais_log_partition(RBM_4_3, 4, 3)
    assert_refused("(log_z)", lambda log_z: log_likelihood(RBM_4_3, V, log_z), estimate)


# ---------------------------------------------------------------- seeds


SEEDED = {
    "binarize(seed)": lambda seed: data.binarize(V, seed=seed),
    "ais_log_partition(seed)": lambda seed: ais_log_partition(RBM_4_3, 4, 3, seed=seed).log_z,
    "reverse_ais_log_partition(seed)": lambda seed: (
        reverse_ais_log_partition(RBM_4_3, V, 3, seed=seed).log_z
    ),
    "marginal_log_likelihood(seed)": lambda seed: marginal_log_likelihood(RBM_4_3, V, 0, seed=seed),
    "pseudo_log_likelihood(seed)": lambda seed: pseudo_log_likelihood(RBM_4_3, V, seed),
}


@pytest.mark.parametrize("function", SEEDED)
@pytest.mark.parametrize("seed", [True, 1.5, -1, 2**32, "0", np.random.default_rng(0)], ids=str)
def test_what_is_no_seed_is_refused(function, seed):
    assert_refused(function, SEEDED[function], seed)


@pytest.mark.parametrize(
    "function", [name for name in SEEDED if "partition" in name or "marginal" in name]
)
def test_an_estimate_can_always_be_repeated(function):
    assert_refused(function, SEEDED[function], None)


@pytest.mark.parametrize("function", SEEDED.values(), ids=SEEDED)
@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), np.uint64(3)], ids=repr)
def test_integers_of_numpy_are_seeds(function, seed):
    np.testing.assert_array_equal(function(seed), function(3))


# ---------------------------------------------------------------- weights


ON_BATCHES = "train_on_batch", "test_on_batch", "predict_on_batch"
MEASURED = {
    "sample": lambda rbm: sample(rbm, 3, steps=4, most_steps=8),
    "ais_log_partition": lambda rbm: ais_log_partition(rbm, 3, 4),
    "exact_log_partition": exact_log_partition,
    "log_likelihood": lambda rbm: log_likelihood(rbm, V, 0.0),
    "pseudo_log_likelihood": lambda rbm: pseudo_log_likelihood(rbm, V),
    "train_stack": lambda rbm: train_stack(V, [rbm, RBM(2)], epochs=1, verbose=0),
}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("function", MEASURED.values(), ids=MEASURED)
def test_weights_that_are_no_numbers_are_named(function, bad):
    """As after learning that diverged; u < NaN is false, so that draws looked like others."""
    rbm = machine()
    w = np.array(rbm.w_rec)
    w[1, 2] = bad
    rbm.w_rec.assign(w)
    with pytest.raises(ValueError, match=r"`rbm` must have finite weights.*in w_rec"):
        function(rbm)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("method", ["predict", "evaluate", *ON_BATCHES])
def test_a_model_names_them_and_not_the_examples(method, bad):
    model = trainer(machine())
    model.rbm.hb.assign(np.full(3, bad, "float32"))
    with pytest.raises(ValueError, match="The weights must be numbers"):
        getattr(model, method)(V, **({} if method in ON_BATCHES else {"verbose": 0}))


@pytest.mark.parametrize("method", ["fit", "predict", "evaluate", *ON_BATCHES])
def test_variances_that_are_no_numbers_are_named_too(method):
    model = VarianceLearning(machine(2, 3, visible_units=Gaussian()))
    model.compile()
    model.build((None, 2))
    model.log_scale.assign([np.nan, 0])
    with pytest.raises(ValueError, match="The weights must be numbers"):
        getattr(model, method)(V[:, :2])


@pytest.mark.parametrize("rate", [1e-60, 1e60])
def test_a_rate_that_is_none_in_single_precision_is_refused(rate):
    with pytest.raises(ValueError, match="`learning_rate` must be a positive number in single"):
        RBM(3, learning_rate=rate)
    with pytest.raises(ValueError, match="`learning_rate` must be a positive number in single"):
        RBMTransformer(3, learning_rate=rate).fit(V)
