"""Models that XLA compiles on TensorFlow: the same numbers, draws of its own, errors that wait."""

import keras
import numpy as np
import pytest
from conftest import only_tensorflow
from expected_step import EXAMPLES as FOUR
from expected_step import standard_scores
from machines import machine
from networks import labeled_network
from trained import EXAMPLES, Given, assert_equal_weights, data_set_of

from rbm_tutorial import ContrastiveDivergence, WakeSleep, threefry
from rbm_tutorial.backend import compiled, traced_for_xla, uniform
from rbm_tutorial.exact import exact_log_partition
from rbm_tutorial.likelihood import log_likelihood
from rbm_tutorial.missing import IncompleteContrastiveDivergence
from rbm_tutorial.units import Gaussian
from rbm_tutorial.variances import VarianceLearning

pytestmark = only_tensorflow
UNEVEN = {"batch_size": 8, "verbose": 0, "shuffle": False}  # three batches, the last one of six
QUIET = {"verbose": 0, "shuffle": False}
WEIGHTS = np.random.default_rng(3).random(len(EXAMPLES)).astype("float32")
BAD = np.concatenate([EXAMPLES, np.full((1, 4), 7, "float32")])
LABELS = np.arange(len(EXAMPLES)) % 4


def by_xla(model, whether=True):
    model.compile(keras.optimizers.SGD(0.1), jit_compile=whether)
    return model


def given(kind, rbm=None, **kwargs):
    """A model that draws nothing."""
    return kind(rbm or machine(), negatives=Given(EXAMPLES[:3]), **kwargs)


WITHOUT_DRAWS = {
    "plain": lambda: given(ContrastiveDivergence),
    "centered": lambda: given(ContrastiveDivergence, centered=True),
    "seldom": lambda: given(ContrastiveDivergence, reconstruct_every=2),
    "incomplete": lambda: given(IncompleteContrastiveDivergence),
    "variances": lambda: given(VarianceLearning, machine(visible_units=Gaussian())),
}


def test_it_is_left_off_unless_asked_for():
    model = ContrastiveDivergence(machine())
    assert not model.jit_compile
    for chosen in ({}, {"jit_compile": "auto"}, {"jit_compile": False}):
        model.compile(**chosen)
        assert not model.jit_compile
    assert by_xla(model).jit_compile


@pytest.mark.parametrize("make", WITHOUT_DRAWS.values(), ids=WITHOUT_DRAWS)
def test_without_draws_it_learns_and_reports_the_same(make):
    ours, theirs = by_xla(make()), by_xla(make(), False)
    histories = [
        model.fit(EXAMPLES, sample_weight=WEIGHTS, epochs=2, **UNEVEN).history
        for model in (ours, theirs)
    ]
    for name, values in histories[1].items():
        np.testing.assert_allclose(histories[0][name], values, rtol=1e-5, atol=1e-5)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    hidden = [model.predict(EXAMPLES, batch_size=8, verbose=0) for model in (ours, theirs)]
    np.testing.assert_allclose(*hidden, atol=1e-6)


def test_a_step_is_the_one_expected_of_its_draws():
    """Twice the step would be far outside; the numbers themselves are tested in `test_threefry`."""
    model = by_xla(ContrastiveDivergence(machine()))
    model.optimizer.learning_rate = 1.0
    before, x = model.rbm.get_weights(), np.repeat(FOUR, 20_000, axis=0)
    model.fit(x, batch_size=len(x), verbose=0, shuffle=False)
    change = [new - old for old, new in zip(before, model.rbm.get_weights())]
    assert standard_scores(change, len(x)).max() < 5
    assert standard_scores([2 * c for c in change], len(x)).max() > 20


def test_it_draws_by_threefry_whatever_the_size_of_the_batch():
    seed = np.array([3, 5], "uint32")
    drawn = compiled(lambda x: uniform((x.shape[0] or keras.ops.shape(x)[0], 3), seed))
    with traced_for_xla():
        for rows in (4, 6, 9):
            numbers = drawn(np.zeros((rows, 2), "float32"))
            np.testing.assert_array_equal(numbers, threefry.uniform((rows, 3), seed))
    assert np.any(np.asarray(uniform((4, 3), seed)) != threefry.uniform((4, 3), seed))


def test_chains_and_live_likelihood_learn():
    model = by_xla(ContrastiveDivergence(machine(), persistent_chains=6, likelihood_chains=20))
    history = model.fit(EXAMPLES, epochs=3, validation_data=EXAMPLES, **UNEVEN).history
    average = machine()
    for parameter, value in zip((average.w_rec, average.hb, average.vb), model.live.average):
        parameter.assign(value)
    exact = np.mean(log_likelihood(average, EXAMPLES, exact_log_partition(average)))
    error = history["val_log_likelihood_error"][-1]
    assert abs(history["val_log_likelihood"][-1] - exact) < 5 * error


def test_wake_sleep_learns_labels_and_evaluates_the_same():
    model = by_xla(WakeSleep(labeled_network()))
    before = model.get_weights()
    model.fit(EXAMPLES, LABELS, epochs=2, **UNEVEN)
    assert all(np.all(np.isfinite(weight)) for weight in model.get_weights())
    assert any(np.any(new != old) for new, old in zip(model.get_weights(), before))
    ours = model.evaluate(EXAMPLES, LABELS, batch_size=8, verbose=0)
    theirs = by_xla(model, False).evaluate(EXAMPLES, LABELS, batch_size=8, verbose=0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_bad_values_are_errors_at_the_end_of_the_epoch_and_spoil_nothing():
    model = by_xla(ContrastiveDivergence(machine(), persistent_chains=6, centered=True))
    model.fit(EXAMPLES, **UNEVEN)
    before = model.get_weights()
    with pytest.raises(ValueError, match="is NaN: x must hold values that its units can have"):
        model.fit(data_set_of(BAD), **QUIET)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match="`x` must hold values that its units can have"):
        model.evaluate(data_set_of(BAD), verbose=0)
    with pytest.raises(ValueError, match="`x` must hold values that its units can have"):
        model.predict(data_set_of(BAD), verbose=0)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        model.fit(BAD, verbose=0)
    model.fit(EXAMPLES, **UNEVEN)
    assert all(np.all(np.isfinite(weight)) for weight in model.get_weights())


def test_wrong_labels_are_errors_and_spoil_nothing():
    model = by_xla(WakeSleep(labeled_network()))
    model.fit(EXAMPLES, LABELS, **UNEVEN)
    before = model.get_weights()
    with pytest.raises(ValueError, match="is NaN"):
        model.fit(data_set_of(EXAMPLES, LABELS + 1), **QUIET)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_saved_model_goes_on_as_if_it_had_not_been(tmp_path):
    ours = by_xla(ContrastiveDivergence(machine(), persistent_chains=6))
    ours.fit(EXAMPLES, **UNEVEN)
    ours.save(tmp_path / "model.keras")
    theirs = keras.models.load_model(tmp_path / "model.keras")
    assert theirs.jit_compile
    for model in (ours, theirs):
        model.fit(EXAMPLES, **UNEVEN)
    assert_equal_weights(ours, theirs)
