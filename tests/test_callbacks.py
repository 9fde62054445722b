"""Callbacks that watch a machine while it learns."""

import keras
import numpy as np
import pytest
from enumerated import enumerate_machine, states
from machines import machine, parameters_of
from trained import EXAMPLES, assert_equal_weights, trainer

from rbm_tutorial.callbacks import FreeEnergyGap, free_energy_gap

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
