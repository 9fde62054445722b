"""Types of units against enumeration and quadrature: each site by itself, given its input."""

import dataclasses

import keras
import numpy as np
import pytest
from conftest import REFUSED_WHEN_COMPILED
from enumerated import site_by_site, sites, support
from machines import BINARY, CLASSES, LABELS, MIXED, REAL, Binomial, machine, tensor
from sampled import cell_probabilities, p_value, sharing_noise, warm, with_sampler
from scipy import special, stats

from rbm_tutorial import RBM, backend
from rbm_tutorial.rectified import ReLU
from rbm_tutorial.units import Bernoulli, Beside, Categorical, Gaussian

KINDS = {  # and how many units
    "binary": (BINARY, 3),
    "classes": (CLASSES, 6),
    "real": (REAL, 2),
    "labels": (LABELS, 5),
    "mixed": (MIXED, 3),
    "of three types": (Beside(LABELS, REAL, 1), 6),
    "of the reader": (Binomial(), 3),
}
each_kind = pytest.mark.parametrize(("units", "number"), KINDS.values(), ids=KINDS)
WITH_MEANS = {name: kind for name, kind in KINDS.items() if name != "of the reader"}
each_kind_of_the_package = pytest.mark.parametrize(
    ("units", "number"), WITH_MEANS.values(), ids=WITH_MEANS
)


def inputs(number):
    """Four rows of inputs, (4, units)."""
    return np.random.default_rng(0).normal(scale=1.5, size=(4, number)).astype("float32")


def weights(units, logits):
    """log of the weight of every state, (rows, states), and the states."""
    x, log_m, log_volume = support(units, logits.shape[1])
    return logits.astype("float64") @ x.T + log_m + log_volume, x


# ---------------------------------------------------------------- exactly


@each_kind
def test_means_are_those_of_the_enumerated_states(units, number):
    log_weights, x = weights(units, inputs(number))
    expected = special.softmax(log_weights, axis=1) @ x
    np.testing.assert_allclose(units.mean(tensor(inputs(number))), expected, atol=1e-5)


@each_kind
def test_log_normalizers_are_the_sums_over_the_states_of_each_site(units, number):
    expected = [
        special.logsumexp(of_site @ site.T + log_m + log_step, axis=1)
        for site, log_m, log_step, of_site in site_by_site(units, inputs(number))
    ]
    log_z = units.log_normalizer(tensor(inputs(number)))
    np.testing.assert_allclose(log_z, np.transpose(expected), rtol=1e-5, atol=1e-5)


@each_kind
def test_states_and_their_measure(units, number):
    x, log_m, _ = support(units, number)
    np.testing.assert_allclose(units.log_measure(tensor(x)) + np.zeros(len(x)), log_m, rtol=1e-5)
    units.check_states("x", x)
    if not units.unbounded:
        for ours, (theirs, _, _) in zip(units.sites(number), sites(units, number), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@each_kind_of_the_package
def test_cross_entropy_is_minus_the_log_probability_of_a_state(units, number):
    log_weights, x = weights(units, inputs(number))
    log_volume = support(units, number)[2]
    log_p = log_weights - special.logsumexp(log_weights, axis=1, keepdims=True) - log_volume
    for logits, expected in zip(inputs(number), log_p):
        logits = tensor(np.repeat(logits[None], len(x), axis=0))
        np.testing.assert_allclose(units.cross_entropy(tensor(x), logits), -expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["binary", "classes", "labels"])
def test_cross_entropy_of_means_is_the_mean_over_their_states(kind):
    units, number = KINDS[kind]
    q = special.softmax(weights(units, inputs(number)[::-1])[0], axis=1)
    log_weights, x = weights(units, inputs(number))
    log_p = log_weights - special.logsumexp(log_weights, axis=1, keepdims=True)
    cost = units.cross_entropy(tensor(q @ x), tensor(inputs(number)))
    np.testing.assert_allclose(cost, -np.sum(q * log_p, axis=1), rtol=1e-5)


@each_kind_of_the_package
def test_inputs_of_a_mean_give_that_mean(units, number):
    p = units.mean(tensor(inputs(number)))
    for row in p:
        np.testing.assert_allclose(units.mean(units.logits(row)[None])[0], row, rtol=1e-4)


def test_inputs_of_a_mean_stay_finite():
    """A pixel that is never on has mean 0, which no finite input reaches."""
    np.testing.assert_allclose(BINARY.logits(tensor([0, 1])), [-6.9068, 6.9068], atol=1e-3)
    np.testing.assert_allclose(
        CLASSES.mean(CLASSES.logits(tensor([0, 0, 1]))[None])[0], [0.001, 0.001, 0.998], atol=1e-4
    )
    np.testing.assert_array_equal(REAL.logits(tensor([-50, 50])), [-50, 50])


# ---------------------------------------------------------------- draws


def draws_follow(units, number, draws=4000):
    """p of the χ² tests at each of four rows of inputs, together (Fisher's method)."""
    logits = inputs(number)
    uniform = backend.uniform_stream(np.array([1, 3]))
    drawn = units.sample(tensor(np.repeat(logits, draws, axis=0)), uniform)
    rows = np.asarray(drawn).reshape(len(logits), draws, number)
    cells = cell_probabilities(units, logits)
    p_values = [max(p_value(units, x, p), 1e-300) for x, p in zip(rows, cells)]
    return stats.combine_pvalues(p_values).pvalue


@each_kind
def test_draws_follow_the_exact_distribution(units, number):
    assert draws_follow(units, number) > 1e-3


@each_kind
@pytest.mark.parametrize("wrong", [warm, sharing_noise])
def test_wrong_draws_fail_the_same_test(units, number, wrong):
    assert draws_follow(wrong(units), number) < 1e-9


def test_real_units_of_half_the_variance_fail_the_same_test():
    def sample(right, logits, uniform):
        return logits + (right(logits, uniform) - logits) / 2**0.5

    assert draws_follow(with_sampler(REAL, sample), 2) < 1e-9


def test_real_units_are_normal_far_into_the_tails():
    """By Kolmogorov and Smirnov's test, and by the largest of 100,000."""
    x = REAL.sample(tensor(np.zeros((50_000, 2))), backend.uniform_stream(np.array([0, 1])))
    x = np.asarray(x)
    assert stats.kstest(x.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(x.T)[0, 1]) < 5 / np.sqrt(len(x))
    assert 3.5 < abs(x).max() < 5.5
    assert stats.kstest(0.95 * x.ravel(), "norm").pvalue < 1e-9


def test_half_precision_does_not_coarsen_the_noise():
    """bfloat16 counts in steps of 1/256 below 1; compared in it, p = 0.0009 would be drawn as 0."""
    logits = keras.ops.full((100_000, 1), -7.0, "bfloat16")
    drawn = BINARY.sample(logits, backend.uniform_stream(np.array([0, 1])))
    assert keras.backend.standardize_dtype(drawn.dtype) == "bfloat16"
    p = float(BINARY.mean(logits)[0, 0])
    assert 0.0008 < p < 0.001
    share = np.mean(np.asarray(keras.ops.cast(drawn, "float32")))
    assert abs(share - p) < 5 * np.sqrt(p / 100_000)


@each_kind
def test_nothing_draws_but_through_uniform(units, number):
    """The same numbers give the same states."""
    logits = tensor(inputs(number))
    first, second, other = (
        np.asarray(units.sample(logits, backend.uniform_stream(np.array([0, s]))))
        for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


# ---------------------------------------------------------------- checks

GRAY, LABEL = [0.0, 0.5, 1.0], [0.0, 0.0, 1.0]
OUTSIDE = [  # units, a row that does not fit, what the message says
    (BINARY, [0, 255, 0], r"must lie in \[0, 1\].*binarize.*Received values from 0 to 255"),
    (BINARY, [0, -0.1, 0], "Received values from -0.1 to 0"),
    (BINARY, [0, np.nan, 0], "Received values from nan to nan"),
    (CLASSES, [0, 2, -1], "Received values from -1 to 2"),
    (CLASSES, [1, 1, 0], "units of `x` must lie in.*and sum to 1. Received sums from 2 to 2"),
    (CLASSES, [0, 0, 0], "Received sums from 0 to 0"),
    (REAL, [0, np.inf, 0], "must be finite. Received values from 0 to inf"),
    (REAL, [0, np.nan, 0], "must be finite"),
    (LABELS, [2, *LABEL], r"must lie in \[0, 1\]"),
    (LABELS, [1, 1, 1, 0], "and sum to 1. Received sums"),
    (MIXED, [2, 7], r"must lie in \[0, 1\]"),
    (MIXED, [1, -np.inf], "must be finite"),
]


@pytest.mark.parametrize(
    ("units", "row"),
    [
        (BINARY, GRAY),
        (CLASSES, LABEL),
        (CLASSES, 3 * [1 / 3]),
        (REAL, [-7, 0, 1e30]),
        (LABELS, [*GRAY, *LABEL]),
        (MIXED, [*GRAY, -7]),
    ],
)
def test_lets_means_pass(units, row):
    x = np.array([row, row], "float32")
    np.testing.assert_array_equal(units.checked(tensor(x)), x)
    np.testing.assert_array_equal(backend.compiled(units.checked)(tensor(x)), x)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("units", [REAL, ReLU()])
def test_refuses_infinity_in_every_precision(units, dtype):
    """In half precision it is beyond 65,504, or where bfloat16 ends, just below float32."""
    convert = keras.ops.convert_to_tensor
    finite = convert([[0.0, 60_000.0]], dtype)
    assert np.all(np.asarray(units.checked(finite) == finite))
    with pytest.raises(ValueError, match=r"`x` must be finite.*Received values from 0 to inf"):
        units.checked(convert([[0.0, np.inf]], dtype), "x")


@pytest.mark.parametrize(("units", "row", "message"), OUTSIDE)
def test_refuses_what_are_no_means(units, row, message):
    """Compiled code of JAX cannot raise: there the example becomes NaN."""
    with pytest.raises(ValueError, match=message):
        units.checked(tensor([row]), "x")
    if backend.BACKEND == "jax":
        assert np.isnan(backend.compiled(units.checked)(tensor([row]))).any()
    else:
        with pytest.raises(REFUSED_WHEN_COMPILED):
            backend.compiled(units.checked)(tensor([row]))


@pytest.mark.parametrize(
    ("units", "row", "message"),
    [
        (BINARY, GRAY, "`v` must be binary.*Received"),
        (CLASSES, 3 * [1 / 3], "`v` must be binary"),
        (CLASSES, [1, 1, 0], "exactly one unit on in each group of 3. Received groups"),
        (REAL, [0, np.nan], "`v` must be finite. Received"),
        (LABELS, [0.5, *LABEL], "`v` must be binary"),
        (LABELS, [1, 1, 1, 0], "exactly one unit on"),
        (MIXED, [0.5, 7], "`v` must be binary"),
        (MIXED, [1, np.inf], "`v` must be finite"),
    ],
)
def test_refuses_what_are_no_states(units, row, message):
    with pytest.raises(ValueError, match=message):
        units.check_states("v", np.array([row]))


@pytest.mark.parametrize(
    ("units", "number", "message"),
    [
        (BINARY, 0, "number of units.*Received: 0"),
        (REAL, 1.5, "number of units.*Received: 1.5"),
        (CLASSES, 7, "multiple of the 3 classes. Received: 7"),
        (LABELS, 3, "beside the 3 of the last type. Received: 3"),
        (Beside(CLASSES, BINARY, 2), 6, "multiple of the 3 classes. Received: 4"),
    ],
)
def test_refuses_a_number_of_units_that_cannot_be(units, number, message):
    with pytest.raises(ValueError, match=message):
        units.check_number(number)


def test_a_layer_refuses_a_number_of_units_that_cannot_be():
    with pytest.raises(ValueError, match="multiple of the 3 classes"):
        RBM(2, visible_units=CLASSES).build([7])
    with pytest.raises(ValueError, match="multiple of the 3 classes"):
        RBM(7, hidden_units=CLASSES).build([2])


def test_refuses_types_that_cannot_be():
    with pytest.raises(ValueError, match=r"`classes`.*at least 2\. Received: 1"):
        Categorical(1)
    with pytest.raises(ValueError, match=r"multiple of the 3 classes\. Received: 4"):
        Beside(BINARY, CLASSES, 4)


# ---------------------------------------------------------------- values


def test_types_are_values():
    """Equal ones are one key of a cache; none can be changed."""
    assert Bernoulli() == Bernoulli()
    assert Categorical(3) == CLASSES != Categorical(4)
    assert LABELS == Beside(Bernoulli(), Categorical(3), 3) != Beside(BINARY, CLASSES, 6)
    assert len({Bernoulli(), BINARY, Gaussian(), REAL, LABELS, MIXED, CLASSES}) == 5
    with pytest.raises(dataclasses.FrozenInstanceError):
        CLASSES.classes = 4


@pytest.mark.parametrize("kind", ["of three types", "of the reader"])
def test_types_are_saved_with_the_layer(tmp_path, kind):
    units, number = KINDS[kind]
    layer = machine(number, 2, visible_units=units)
    keras.Sequential([keras.Input((number,)), layer]).save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras").layers[0]
    assert restored.visible_units == units
    x = np.asarray(support(units, number)[0][:5])
    np.testing.assert_array_equal(restored.forward_gibbs(x, 2), layer.forward_gibbs(x, 2))


def test_types_take_numbers_of_numpy(tmp_path):
    layer = machine(6, 3, hidden_units=Categorical(np.int64(3)))
    keras.Sequential([keras.Input((6,)), layer]).save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras").layers[0]
    assert restored.hidden_units == CLASSES


@pytest.mark.parametrize("wrong", ["bernoulli", None, Bernoulli])
@pytest.mark.parametrize("name", ["visible_units", "hidden_units"])
def test_refuses_what_is_no_type_of_units(name, wrong):
    with pytest.raises(ValueError, match=rf"`{name}` must be a type of units.*Received"):
        RBM(2, **{name: wrong})
