"""Missing values: marginals and their gradient against sums over every state."""

from functools import partial

import keras
import numpy as np
import pytest
from enumerated import derivatives, enumerate_machine, exact_of, sigmoid
from machines import CLASSES, each_pair, machine, machine_of, parameters_of
from sampled import p_value
from trained import EXAMPLES, Given, data_set_of

from rbm_tutorial.annealing import annealed_chains, base_biases
from rbm_tutorial.missing import (
    IncompleteContrastiveDivergence,
    imputed,
    marginal_log_likelihood,
)
from rbm_tutorial.units import Categorical

NAN = np.nan
ROWS = np.array([[1, NAN, 0, NAN], [NAN, NAN, NAN, NAN], [1, 0, 1, NAN], [0, 1, 1, 0]], "float32")


def consistent(exact, row):
    """Which states are as a row says, where it says anything."""
    known = ~np.isnan(row)
    return np.all(exact.v[:, known] == row[known], axis=1)


def scores(pair, rows, estimate=marginal_log_likelihood):
    """(estimate - log p) / its error, of the marginals of these rows."""
    rbm = machine_of(pair, 1.2)
    exact = exact_of(rbm)
    log_p, error = estimate(rbm, rows, exact.log_z, 400, 20)
    expected = np.log([exact.p_v[consistent(exact, row)].sum() for row in rows])
    return (log_p - expected) / np.maximum(error, 1e-5)


OF_LABELS = np.array([[1, NAN, 0, 1, 0], [NAN, 1, NAN, NAN, NAN], [0, 0, 0, 0, 1]], "float32")
OF_COUNTS = np.array([[2, NAN, 1], [NAN, NAN, 0], [1, 1, 2]], "float32")


@each_pair("binary, binary", "binary, real")
def test_marginals_are_sums_over_what_is_missing(pair):
    assert abs(scores(pair, ROWS)).max() < 5


@each_pair("labels, binary", "labels, mixed")
def test_a_missing_label_is_summed_out(pair):
    assert abs(scores(pair, OF_LABELS)).max() < 5


@each_pair("binomial, binary")
def test_marginals_know_the_measure_of_known_units(pair):
    assert abs(scores(pair, OF_COUNTS)).max() < 5


def by_hand(clamped, rbm, rows, log_z, num_chains, num_betas):
    """The estimate for binary units, in which known ones stay as they are or, wrong, move, too."""
    base, known = np.asarray(base_biases(rbm)), ~np.isnan(rows)
    log_z0 = np.where(known, rows * base, np.logaddexp(0, base)).sum(axis=1) + 3 * np.log(2)
    start, known = (np.repeat(x, num_chains, axis=0) for x in (rows, known))
    free = np.random.default_rng(0).random(start.shape) < sigmoid(base)
    start, stay = (
        np.float32(np.where(known, start, free)),
        known if clamped else np.zeros_like(known),
    )
    betas = np.linspace(0, 1, num_betas)
    _, log_w = annealed_chains(rbm, start, betas, base, 0, known=stay)
    w = np.exp(log_w).reshape(len(rows), num_chains)
    error = w.std(axis=1) / w.mean(axis=1) / np.sqrt(num_chains)
    return log_z0 + np.log(w.mean(axis=1)) - log_z, error


@each_pair("binary, binary")
def test_marginals_without_the_clamp_fail_the_same_test(pair):
    assert abs(scores(pair, ROWS, partial(by_hand, True))).max() < 5
    assert abs(scores(pair, ROWS, partial(by_hand, False))).max() > 10


def test_what_is_known_completely_is_the_likelihood(rbm, exact):
    log_p, error = marginal_log_likelihood(rbm, exact.v, exact.log_z, 2, 5)
    np.testing.assert_allclose(log_p, np.log(exact.p_v), atol=1e-4)
    assert error.max() < 1e-5


@pytest.mark.parametrize(
    ("row", "named"),
    [([0.5, NAN, 0, 0], "`x` must be binary"), ([0, 1, 0], r"`x` must have shape \(batch, 4\)")],
)
def test_marginals_refuse_what_is_no_state(rbm, row, named):
    with pytest.raises(ValueError, match=named):
        marginal_log_likelihood(rbm, [row], 0.0)


# ---------------------------------------------------------------- draws of what is missing


def test_imputed_values_are_draws_given_the_known_ones(rbm, exact):
    for row in ROWS[:3]:
        p = exact.p_v * consistent(exact, row)
        x = keras.ops.convert_to_tensor(np.tile(row, (4000, 1)))
        assert p_value(rbm.visible_units, imputed(rbm, x, 20), p / p.sum()) > 1e-3
    x = keras.ops.convert_to_tensor(np.tile(ROWS[0], (16_000, 1)))
    p = exact.p_v * consistent(exact, ROWS[0])
    assert p_value(rbm.visible_units, imputed(rbm, x, 0), p / p.sum()) < 1e-9  # by biases alone


# ---------------------------------------------------------------- training


def incomplete(rbm, **kwargs):
    model = IncompleteContrastiveDivergence(rbm, **kwargs)
    model.compile(keras.optimizers.SGD(1.0))
    return model


def gradient_by_one_update(make_x, repeats=8_000):
    """The step of one update of rate 1 on many copies of some rows, with given negatives: w."""
    rbm = machine(scale=1.2)
    model = incomplete(rbm, negatives=Given(np.zeros((1, 4))), imputation_steps=8)
    before = np.array(rbm.w_rec)
    x = make_x(np.tile(ROWS, (repeats // len(ROWS), 1)))
    model.fit(x, batch_size=len(x), epochs=1, verbose=0)
    return np.array(rbm.w_rec) - before


def test_an_update_follows_the_gradient_of_the_marginal_likelihood():
    """Of negatives that are all 0 the contribution to w vanishes, and the data's remains."""
    parameters = parameters_of(machine(scale=1.2))

    def mean_log_sum(*parameters):  # log Σ e^-F over what is missing
        exact = enumerate_machine(*parameters)
        p = [exact.p_v[consistent(exact, row)].sum() for row in ROWS]
        return np.mean(np.log(p)) + exact.log_z

    expected = derivatives(mean_log_sum, parameters)[0]
    error = 0.5 / np.sqrt(8_000)
    assert np.max(abs(gradient_by_one_update(lambda x: x) - expected)) < 5 * error
    filled = gradient_by_one_update(np.nan_to_num)  # as if what is missing were 0
    assert np.max(abs(filled - expected)) > 20 * error


def test_learns_from_incomplete_examples_how_pixels_go_together():
    """Of images all on or all off, with noise: single pixels say nothing, 4 log 2 nats."""
    rng = np.random.default_rng(0)
    x = np.float32(
        np.repeat(rng.integers(0, 2, (1000, 1)), 4, axis=1) != (rng.random((1000, 4)) < 0.05)
    )
    states = (x @ [8, 4, 2, 1]).astype(int)
    x[rng.random(x.shape) < 0.3] = np.nan
    model = IncompleteContrastiveDivergence(machine(scale=0.1), persistent_chains=100)
    model.compile(keras.optimizers.SGD(0.3))
    model.fit(x, batch_size=100, epochs=40, verbose=0)
    assert np.log(exact_of(model.rbm).p_v)[states].mean() > -4 * np.log(2) + 0.5


def test_an_unbuilt_layer_is_adapted_to_what_is_known():
    from rbm_tutorial import RBM

    rbm = RBM(3, seed=0)
    model = incomplete(rbm)
    model.start(np.array([[1, NAN], [1, 0], [0, NAN], [NAN, 0]], "float32"))
    np.testing.assert_allclose(rbm.vb, np.log([2, 0.001 / 0.999]), rtol=1e-4)


def test_evaluation_and_other_models_refuse_nan():
    x = EXAMPLES.copy()
    x[0, 0] = np.nan
    model = incomplete(machine())
    model.fit(x, batch_size=22, verbose=0)
    with pytest.raises(Exception, match=r"must lie in|must hold values"):
        model.evaluate(x, verbose=0)
    with pytest.raises(ValueError, match="must lie in"):
        model.fit(7 * x, batch_size=22, verbose=0)


@pytest.mark.parametrize("how", [{"validation_data": EXAMPLES + np.nan}, {"validation_split": 0.5}])
def test_missing_values_for_validation_are_refused_before_anything_is_learned(how):
    model = incomplete(machine())
    before = model.rbm.get_weights()
    with pytest.raises(ValueError, match=r"Of `validation_data`: .*must lie in"):
        model.fit(np.where(EXAMPLES, EXAMPLES, np.nan), verbose=0, **how)
    for old, new in zip(before, model.rbm.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_what_nan_would_spoil_is_refused_before_anything_is_learned():
    model = incomplete(machine(activity_regularizer=keras.regularizers.L1(0.1)))
    with pytest.raises(ValueError, match="`activity_regularizer` of `rbm` must be None"):
        model.fit(EXAMPLES, verbose=0)
    model = incomplete(machine(6, 2, visible_units=CLASSES))
    with pytest.raises(ValueError, match="`x` must hold all units of a group"):
        model.fit([[1, 0, 0, NAN, 1, 0], [0, 1, 0, NAN, NAN, NAN]], verbose=0)


@pytest.mark.parametrize("known", [[1, 0, 0, NAN, 1, 0], [NAN, NAN, 1, 0, 1, 0]])
def test_groups_that_are_known_in_part_are_refused_in_data_sets_too(known):
    """The draw of the other units could make the group one that looks right."""
    model = incomplete(machine(6, 2, visible_units=CLASSES))
    whole = [[1, 0, 0, NAN, NAN, NAN], [0, 1, 0, 0, 0, 1], [NAN] * 6]
    model.fit(data_set_of(np.float32(whole)), shuffle=False, verbose=0)
    before = model.rbm.get_weights()
    with pytest.raises(Exception, match=r"hold all units of a group|x must hold values"):
        model.fit(data_set_of(np.float32([*whole, known])), shuffle=False, verbose=0)
    for old, new in zip(before, model.rbm.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("classes", [41, 49])
def test_large_groups_that_are_known_as_a_whole_are_learned(classes):
    """In single precision 41 · (1/41) is not 1, and sums of equal terms depend on their order."""
    x = np.tile(np.eye(classes, dtype="float32")[:8], 2)
    x[3, classes:] = np.nan
    model = incomplete(machine(2 * classes, 2, scale=0.1, visible_units=Categorical(classes)))
    assert np.isfinite(model.fit(x, verbose=0).history["loss"]).all()


def test_a_batch_of_which_nothing_is_known_may_come_first(rbm):
    x = EXAMPLES.copy()
    x[:2] = np.nan
    model = IncompleteContrastiveDivergence(rbm)
    model.compile()
    model.train_on_batch(x[:2])
    assert np.isfinite(model.fit(x, batch_size=2, verbose=0, shuffle=False).history["loss"]).all()


def test_the_configuration_is_kept():
    model = incomplete(machine(), imputation_steps=3, persistent_chains=4)
    again = IncompleteContrastiveDivergence.from_config(model.get_config())
    assert (again.imputation_steps, again.negatives.number) == (3, 4)
    with pytest.raises(ValueError, match="`imputation_steps`"):
        incomplete(machine(), imputation_steps=0)
