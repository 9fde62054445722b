"""Tempered chains against enumeration: rung by rung, swap by swap, and on two modes far apart."""

import keras
import numpy as np
import pytest
from enumerated import exact_of
from ladders import (
    NUMBER,
    SHARE,
    accepting_all,
    after_steps,
    drifts,
    off_by,
    on_its_ladder,
    rates_by_enumeration,
    share_found,
    share_on,
    started,
    swapping_alone,
    two_modes,
)
from machines import each_pair, machine, machine_of, parameters_of
from sampled import cell_probabilities, p_value
from trained import EXAMPLES, assert_equal_weights, check_draws_of_a_loaded_model, trainer

from rbm_tutorial.negatives import PersistentChains
from rbm_tutorial.tempering import TemperedChains

BETAS = [0.0, 0.3, 0.6, 1.0]


# ---------------------------------------------------------------- temperatures


def tempered_targets(rbm, betas, base):
    return [exact_of(rbm, beta, base) for beta in betas]


class Reversed(TemperedChains):
    """Wrong: the fraction is upside down."""

    def log_ratios(self, *arguments):
        return -super().log_ratios(*arguments)


class Baseless(TemperedChains):
    """Wrong: swaps as if the units at β = 0 had no biases."""

    def log_ratios(self, rbm, parameters, state, logits):
        w, hb, vb = parameters
        return super().log_ratios(rbm, (w, hb, vb + self.base), state, logits)


def drifts_of(kind, rbm):
    base = parameters_of(rbm)[2]
    chains = started(kind(NUMBER, betas=BETAS), rbm)
    rbm.vb.assign(0.5 * base)  # as if learned since the chains started
    return drifts(rbm, chains, tempered_targets(rbm, BETAS, base))


@each_pair("binary, binary", "labels, binary", "real, binary", "binary, real")
def test_replicas_that_start_in_their_targets_stay_there(pair):
    assert min(drifts_of(TemperedChains, machine_of(pair))) > 1e-3


@pytest.mark.parametrize("wrong", [accepting_all(TemperedChains), Reversed, Baseless])
def test_swaps_alone_leave_the_ladder_as_it_is_and_wrong_ones_do_not(wrong):
    assert min(drifts_of(swapping_alone(TemperedChains), machine(scale=2.0))) > 1e-3
    assert min(drifts_of(swapping_alone(wrong), machine(scale=2.0))) < 1e-9


def test_swap_rates_are_those_of_the_enumerated_ladder(rbm):
    targets = tempered_targets(rbm, BETAS, parameters_of(rbm)[2])
    mean, variance = rates_by_enumeration(targets).T
    chains = on_its_ladder(started(TemperedChains(NUMBER, betas=BETAS), rbm), targets)
    assert off_by(rbm, chains, mean) < 5 * np.sqrt(variance.max() / NUMBER)
    wrong = on_its_ladder(started(accepting_all(TemperedChains)(NUMBER, betas=BETAS), rbm), targets)
    assert off_by(rbm, wrong, mean) > 5 * np.sqrt(variance.max() / NUMBER)


def test_temperatures_move_to_where_all_swap_rates_are_equal():
    rbm = machine(scale=3.0)
    base = parameters_of(rbm)[2]
    chains = started(TemperedChains(300, num_betas=5), rbm)
    before, _ = rates_by_enumeration(tempered_targets(rbm, chains.betas, base)).T
    chains.run(rbm, 500)
    assert chains.barrier == pytest.approx(np.sum(1 - chains.swap_rates))
    assert chains.round_trips > 300
    after, _ = rates_by_enumeration(tempered_targets(rbm, chains.betas, base)).T
    assert np.ptp(before) > 0.03
    assert np.ptp(after) < 0.01
    assert chains.betas[0] == 0
    assert chains.betas[-1] == 1


def test_given_temperatures_stay():
    rbm = machine()
    chains = started(TemperedChains(3, betas=BETAS), rbm)
    state = after_steps(rbm, chains, 5)
    np.testing.assert_array_equal(state.betas, np.float32(BETAS))


@pytest.mark.parametrize("rungs", [2, 3, 6])
def test_round_trips_are_counted(rungs):
    """Without weights all swaps are accepted, so that the way of each replica is known."""
    rbm = machine()
    rbm.w_rec.assign(np.zeros((4, 3)))
    state = after_steps(rbm, started(TemperedChains(2, num_betas=rungs), rbm), 40)
    order, visits, returned = list(range(rungs)), {0: "hot"}, 0
    for step in range(40):
        for k in range(step % 2, rungs - 1, 2):
            order[k], order[k + 1] = order[k + 1], order[k]
        returned += visits.get(order[0]) == "cold"
        visits[order[0]] = "hot"
        if visits.get(order[-1]) == "hot":
            visits[order[-1]] = "cold"
    assert int(state.round_trips) == 2 * returned > 0


def test_replicas_start_at_independent_units(rbm):
    chains = TemperedChains(NUMBER, num_betas=3)
    chains.start(rbm)
    (p,) = cell_probabilities(rbm.visible_units, parameters_of(rbm)[2][None])
    assert p_value(rbm.visible_units, chains.chains, p) > 1e-3


def test_the_hot_end_has_the_base_rate(rbm):
    rate = np.array([0.2, 0.9, 0.5, 0.5])
    chains = TemperedChains(NUMBER, num_betas=3, base_rate=rate)
    chains.start(rbm)
    hot = np.asarray(after_steps(rbm, chains, 3).v)[0]
    assert np.all(abs(hot.mean(axis=0) - rate) < 5 * np.sqrt(rate * (1 - rate) / NUMBER))


# ---------------------------------------------------------------- two modes far apart


class Apart(TemperedChains):
    """Wrong: no replica ever swaps."""

    def log_ratios(self, *arguments):
        return -1e9 * keras.ops.ones_like(super().log_ratios(*arguments))


def test_tempering_finds_a_far_mode_that_persistent_chains_do_not():
    rbm, number = two_modes(), 500
    assert share_on(exact_of(rbm)) == pytest.approx(SHARE, abs=1e-3)
    error = np.sqrt(SHARE * (1 - SHARE) / number)
    tempered = TemperedChains(number, 8, base_rate=np.full(12, 0.5))
    assert abs(share_found(tempered, rbm) - SHARE) < 5 * error
    assert share_found(PersistentChains(number), rbm) == 0
    assert share_found(Apart(50, 8, base_rate=np.full(12, 0.5)), rbm) == 0


# ---------------------------------------------------------------- contracts


def ladders():
    return {
        "temperatures": TemperedChains(5, num_betas=4, base_rate=[0.2, 0.3, 0.4, 0.5]),
        "given": TemperedChains(5, betas=BETAS),
    }


each_ladder = pytest.mark.parametrize("name", list(ladders()))


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    def train(model, epochs):
        model.fit(EXAMPLES, batch_size=8, epochs=epochs, shuffle=False, verbose=0)
        return model

    whole, half = (trainer(machine(), negatives=TemperedChains(5, 4)) for _ in range(2))
    train(whole, 2)
    train(half, 1).save(tmp_path / "model.keras")
    resumed = train(keras.models.load_model(tmp_path / "model.keras"), 1)
    assert_equal_weights(whole, resumed)
    assert int(resumed.negatives.replicas.steps) == 6


@each_ladder
def test_replicas_are_saved_and_loaded_with_the_model(tmp_path, name):
    negatives = ladders()[name]
    check_draws_of_a_loaded_model(machine(), negatives, tmp_path / "model.keras")
    assert len(negatives.variables) == 7


@each_ladder
def test_the_configuration_makes_the_same_ladder(name):
    chains = ladders()[name]
    again = type(chains).from_config(chains.get_config())
    assert again.get_config() == chains.get_config()
    assert (again.number, again.rungs, again.places) == (5, chains.rungs, chains.places)


def test_the_configuration_holds_the_base_rate():
    rate = [0.1, 0.2, 0.3, 0.4]
    again = TemperedChains.from_config(TemperedChains(5, 4, base_rate=np.array(rate)).get_config())
    np.testing.assert_allclose(again.base_rate, rate)


def test_draws_are_the_same_in_training_and_alone():
    rbm, twin = machine(), machine()
    chains, others = TemperedChains(5, 4), TemperedChains(5, 4)
    for each, layer in ((chains, rbm), (others, twin)):
        each.start(layer)
    for _ in range(3):
        drawn = chains.draw(rbm, keras.ops.zeros((1, 4)), None)
    v, seen = others.run(twin, 3, observe=lambda v: keras.ops.sum(v, axis=1))
    np.testing.assert_array_equal(drawn, v)
    np.testing.assert_array_equal(seen[-1], np.sum(np.asarray(v), axis=1))
    np.testing.assert_array_equal(chains.replicas.came_from, others.replicas.came_from)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: TemperedChains(0), "`number`.*Received: 0"),
        (lambda: TemperedChains(5, num_betas=1), "`num_betas`.*Received: 1"),
        (lambda: TemperedChains(5, betas=[0.5, 1]), "`betas` must be a vector from 0 to 1"),
    ],
)
def test_refuses_ladders_that_cannot_be(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_refuses_machines_that_do_not_fit(rbm):
    with pytest.raises(ValueError, match=r"`base_rate` must have shape"):
        TemperedChains(5, base_rate=[0.5, 0.5]).start(rbm)
    with pytest.raises(ValueError, match="`TemperedChains` needs symmetric weights"):
        TemperedChains(5).start(rbm.untie())


def test_a_run_without_replicas_says_what_is_missing(rbm):
    with pytest.raises(ValueError, match=r"call `start\(rbm\)` first"):
        TemperedChains(3).run(rbm, 5)
