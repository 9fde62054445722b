"""Chains on a ladder of checkpoints, each of them enumerated."""

import numpy as np
import pytest
from enumerated import exact_of
from ladders import (
    NUMBER,
    SHARE,
    accepting_all,
    drifts,
    off_by,
    on_its_ladder,
    rates_by_enumeration,
    share_found,
    started,
    swapping_alone,
    two_modes,
)
from machines import copy_of, each_pair, machine, machine_of
from trained import check_draws_of_a_loaded_model

from rbm_tutorial.trajectory import TrajectoryChains


def trajectory(rbm):
    """The machine with all parameters at a quarter, at half, and as they are."""
    return [[share * np.asarray(p) for p in rbm.get_weights()] for share in (0.25, 0.5)]


def trajectory_targets(rbm):
    return [exact_of(machine_at(rbm, weights)) for weights in [*trajectory(rbm), rbm.get_weights()]]


def machine_at(rbm, weights):
    other = copy_of(rbm)
    other.set_weights(weights)
    return other


class Unbiased(TrajectoryChains):
    """Wrong: visible biases are left out of the free energies."""

    def rung(self, parameters, k):
        w, hb, vb = super().rung(parameters, k)
        return w, hb, vb * self.biased

    biased = 1.0

    def log_ratios(self, *arguments):
        self.biased = 0.0
        ratios = super().log_ratios(*arguments)
        self.biased = 1.0
        return ratios


def drifts_of_checkpoints(kind, rbm):
    chains = started(kind(NUMBER, trajectory(rbm)), rbm)
    return drifts(rbm, chains, trajectory_targets(rbm))


@each_pair("binary, binary", "labels, binary", "real, binary")
def test_replicas_at_checkpoints_stay_in_their_targets(pair):
    assert min(drifts_of_checkpoints(TrajectoryChains, machine_of(pair, 1.2))) > 1e-3


@pytest.mark.parametrize("wrong", [accepting_all(TrajectoryChains), Unbiased])
def test_swaps_between_checkpoints_leave_them_as_they_are_and_wrong_ones_do_not(wrong):
    rbm = machine(scale=2.0)
    assert min(drifts_of_checkpoints(swapping_alone(TrajectoryChains), rbm)) > 1e-3
    assert min(drifts_of_checkpoints(swapping_alone(wrong), rbm)) < 1e-9


def test_swap_rates_between_checkpoints_are_those_of_enumeration(rbm):
    targets = trajectory_targets(rbm)
    mean, variance = rates_by_enumeration(targets).T
    chains = on_its_ladder(started(TrajectoryChains(NUMBER, trajectory(rbm)), rbm), targets)
    assert off_by(rbm, chains, mean) < 5 * np.sqrt(variance.max() / NUMBER)


def test_checkpoints_lead_to_a_far_mode():
    rbm = two_modes()
    weights = rbm.get_weights()
    earlier = [[share * p for p in weights] for share in (0.0, 0.2, 0.4, 0.6, 0.8)]
    share = share_found(TrajectoryChains(500, earlier), rbm)
    assert abs(share - SHARE) < 5 * np.sqrt(SHARE * (1 - SHARE) / 500)


def test_checkpoints_are_saved_and_loaded_with_the_model(tmp_path):
    rbm = machine()
    negatives = TrajectoryChains(5, trajectory(rbm))
    check_draws_of_a_loaded_model(rbm, negatives, tmp_path / "model.keras")
    assert len(negatives.variables) == 9


def test_refuses_no_checkpoints_and_those_of_other_machines(rbm):
    with pytest.raises(ValueError, match=r"number of `checkpoints`.*Received: 0"):
        TrajectoryChains(5, [])
    with pytest.raises(ValueError, match=r"weights of the shapes.*Received: \[\(3, 3\)"):
        TrajectoryChains(5, [machine(3).get_weights()]).start(rbm)
