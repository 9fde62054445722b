"""Callbacks that watch a machine while it learns."""

import keras
import numpy as np
import pytest
from enumerated import enumerate_machine, exact_of, states
from machines import machine, parameters_of
from sampled import exact_samples
from test_live_likelihood import FIT, follower, prototypes
from trained import EXAMPLES, assert_equal_weights, trainer

from rbm_tutorial import RBM, ContrastiveDivergence
from rbm_tutorial.callbacks import (
    FreeEnergyGap,
    LikelihoodPath,
    free_energy_gap,
    number_saturated,
)
from rbm_tutorial.live_likelihood import Followed, error_squared

TRAIN, HELD_OUT = states(4)[[0, 3, 3, 9]], states(4)[[1, 14]]


def exact_gap(rbm):
    exact = enumerate_machine(*parameters_of(rbm))
    return exact.free_energy[[1, 14]].mean() - exact.free_energy[[0, 3, 3, 9]].mean()


def test_the_gap_is_a_ratio_of_probabilities(rbm, exact):
    """log Z cancels: it is mean log p(train) - mean log p(held out)."""
    gap = free_energy_gap(rbm, TRAIN, HELD_OUT)
    log_p = np.log(exact.p_v)
    assert gap == pytest.approx(log_p[[0, 3, 3, 9]].mean() - log_p[[1, 14]].mean(), abs=1e-5)
    assert free_energy_gap(rbm, HELD_OUT, TRAIN) == pytest.approx(-gap, abs=1e-5)
    assert free_energy_gap(rbm, TRAIN, TRAIN) == 0


def test_the_history_has_the_gap_of_every_epoch(rbm):
    gaps = []
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: gaps.append(exact_gap(rbm)))
    watch = FreeEnergyGap(TRAIN, HELD_OUT)
    fit = {"epochs": 4, "batch_size": 8, "verbose": 0}
    history = trainer(rbm).fit(EXAMPLES, callbacks=[watch, note], **fit).history
    assert history["gap"] == pytest.approx(gaps, abs=1e-4)
    assert len(set(gaps)) == 4


def test_the_gap_is_that_of_an_rbm():
    other = keras.Sequential([keras.layers.Dense(1)])
    other.compile("sgd", "mse")
    with pytest.raises(ValueError, match="FreeEnergyGap"):
        other.fit(EXAMPLES, EXAMPLES[:, :1], verbose=0, callbacks=[FreeEnergyGap(TRAIN, HELD_OUT)])


def test_watching_draws_nothing_and_changes_nothing():
    watched, alone = machine(), machine()
    fit = {"epochs": 3, "batch_size": 8, "verbose": 0, "shuffle": False}
    trainer(watched).fit(EXAMPLES, callbacks=[FreeEnergyGap(TRAIN, HELD_OUT)], **fit)
    trainer(alone).fit(EXAMPLES, **fit)
    assert_equal_weights(watched, alone)
    np.testing.assert_array_equal(watched.seed_generator.state, alone.seed_generator.state)


def test_the_gap_grows_as_a_machine_learns_some_states_by_heart():
    model = trainer(machine(4, 8, scale=0.01), keras.optimizers.SGD(0.05))
    x = np.tile(TRAIN, (25, 1)).astype("float32")
    watch = FreeEnergyGap(TRAIN, HELD_OUT)
    gaps = model.fit(x, epochs=20, batch_size=5, callbacks=[watch], verbose=0).history["gap"]
    assert gaps[-1] > gaps[0] + 1


def test_later_callbacks_can_follow_the_gap(rbm):
    watch = FreeEnergyGap(TRAIN, HELD_OUT)
    stop = keras.callbacks.EarlyStopping("gap", min_delta=100.0, mode="min")
    history = trainer(rbm).fit(EXAMPLES, epochs=9, callbacks=[watch, stop], verbose=0).history
    assert len(history["gap"]) == 2


def bright_images():
    """Ten patterns whose pixels are mostly on, with gray ones here and there, (200, 100)."""
    rng = np.random.default_rng(3)
    patterns = rng.random((10, 100)) < 0.8
    x = np.where(rng.random((200, 100)) < 0.05, 0.5, patterns[rng.integers(0, 10, 200)])
    return x.astype("float32")


def fit_of_built(adapt, **options):
    """How many of 20 units end saturated when the layer is built, and maybe adapted, before `fit`.

    From 18 to 20 of them as built and none as adapted, for four seeds on both backends.
    """
    rbm = RBM(20, seed=0)
    rbm.build((None, 100))
    if adapt:
        rbm.adapt(bright_images())
    model = ContrastiveDivergence(rbm, **options)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.5))
    model.fit(bright_images(), epochs=40, batch_size=20, verbose=0)
    return number_saturated(np.asarray(model.predict(bright_images(), verbose=0)))


def test_saturated_units_are_those_on_or_off_for_all():
    h = np.array([[0.96, 0.01, 0.96, 0.5], [0.99, 0.04, 0.01, 0.99], [0.98, 0.02, 0.5, 0.97]])
    assert number_saturated(h) == 2


def test_fit_warns_once_when_most_units_are_on_for_all_examples():
    with pytest.warns(UserWarning, match=r"Of the 20 hidden units \d+ are on.* `rbm.adapt") as seen:
        stuck = fit_of_built(adapt=False)
    assert stuck > 10 and len(seen) == 1


def test_fit_does_not_warn_of_a_layer_that_is_adapted():
    assert fit_of_built(adapt=True) <= 10  # warnings are errors here


@pytest.mark.parametrize("x", [np.ones((200, 100), "float32"), bright_images()[:1]])
def test_images_that_are_all_the_same_may_saturate_units(x):
    rbm = RBM(20, seed=0)
    rbm.build((None, 100))
    model = ContrastiveDivergence(rbm)
    model.compile(keras.optimizers.SGD(0.5))
    model.fit(np.tile(x, (200 // len(x), 1)), epochs=20, batch_size=20, verbose=0)
    assert number_saturated(np.asarray(model.predict(x, verbose=0))) == 20


# ---------------------------------------------------------------- the path of a likelihood


def test_the_path_begins_with_the_standard_error_that_the_chains_have_there():
    model, path, found = follower(machine(8, 6, 1.0), chains=100), LikelihoodPath(), []
    look = keras.callbacks.LambdaCallback(
        on_train_begin=lambda _: found.extend(np.array(each) for each in model.live.values())
    )
    model.fit(prototypes(8, 1), callbacks=[look, path], **FIT)
    at_start = Followed(*found)
    weights = np.exp(at_start.log_w.astype("float64"))
    squared = weights.var() / weights.mean() ** 2 / 100 + at_start.variance
    assert 0.01 < path.error_at_start == pytest.approx(squared**0.5, rel=1e-4)


def test_the_way_back_agrees_and_its_error_is_stated():
    model = follower(machine(8, 6, 0.01), keras.optimizers.SGD(0.3), chains=100)
    path = LikelihoodPath()
    model.fit(prototypes(8, 1), epochs=10, callbacks=[path], **FIT)
    model.rbm.set_weights(path.checkpoints[-1])
    exact = exact_of(model.rbm)
    samples = exact_samples(exact, 2000)
    for steps in (1, 20):
        backwards, error = path.reverse_log_partition(samples, steps=steps)
        total = (error**2 + float(error_squared(model.live.values()))) ** 0.5
        assert abs(backwards - exact.log_z) < 3.5 * total < 0.3
    at_start, path.error_at_start = path.error_at_start, 0.0
    back = path.reverse_log_partition(samples)[1]
    path.error_at_start = 0.7  # as if begun where log Z is uncertain: errors add up in squares
    assert path.reverse_log_partition(samples)[1] == pytest.approx((back**2 + 0.49) ** 0.5)
    path.error_at_start = at_start
    wrong, error = path.reverse_log_partition(0 * samples, steps=1)  # all from one state
    assert abs(wrong - exact.log_z) > 6 * error
    assert len(path.checkpoints) == len(path.log_z) == 11
