"""`sample`: draws of whole machines and given known units, and what is said of the chains."""

import numpy as np
import pytest
from enumerated import exact_of, states
from machines import BINARY, each_pair, machine, machine_of, parametrized
from sampled import cells, p_value, visible_cells, warm

from rbm_tutorial import RBM, DeepBeliefNetwork, LabeledRBM
from rbm_tutorial.draws import known_sites, potential_scale_reduction, sample
from rbm_tutorial.units import Bernoulli, Beside, Categorical

DRAWS = 4000


@each_pair("binary, binary", "labels, binary", "real, binary", "classes, real")
def test_draws_are_distributed_as_the_machine(pair):
    rbm = machine_of(pair)
    draws = sample(rbm, DRAWS)
    assert draws.v.shape == (DRAWS, pair[1])
    assert draws.potential_scale_reduction <= 1.05
    assert p_value(pair[0], draws.v, visible_cells(exact_of(rbm))) > 1e-3


def test_draws_of_a_warm_sampler_fail_the_same_test(exact):
    draws = sample(machine(visible_units=warm(BINARY)), 4 * DRAWS)
    assert p_value(BINARY, draws.v, visible_cells(exact)) < 1e-9


def given(exact, v, known):
    """p of every state of the machine among those in which the known units are as in v."""
    p = exact.p_v * np.all(exact.v[:, known] == v[known], axis=1)
    return p / p.sum()


@each_pair("binary, binary", "labels, binary")
def test_each_row_is_completed_given_what_is_known_of_it(pair):
    rbm = machine_of(pair, 1.2)
    exact = exact_of(rbm)
    known = np.zeros((3, pair[1]), bool)
    known[0, :2] = True
    known[1, -3:] = True  # the label, where there is one
    rows = exact.v[[1, len(exact.v) // 2, -2]]  # of the last row nothing is known
    draws = sample(rbm, DRAWS, np.where(known, rows, np.nan), known)
    assert draws.v.shape == (DRAWS, 3, pair[1])
    for i in range(3):
        assert p_value(pair[0], np.asarray(draws.v)[:, i], given(exact, rows[i], known[i])) > 1e-3
    free = np.asarray(sample(rbm, DRAWS).v)
    p = given(exact, rows[0], known[0])
    assert np.mean(p[cells(pair[0], free)] == 0) > 0.2  # which are impossible given row 0


def test_one_row_needs_no_axis(rbm):
    draws = sample(rbm, 7, [1, 0, 0, 0], [True, False, False, False])
    assert draws.v.shape == (7, 4)
    np.testing.assert_array_equal(np.asarray(draws.v)[:, 0], 1)


def test_a_class_can_be_asked_of_a_labeled_machine():
    rbm = parametrized(LabeledRBM(3, number_classes=3, seed=0), 5)
    row, known = np.array([0, 0, 0, 1, 0.0]), np.array([0, 0, 1, 1, 1], bool)
    draws = sample(rbm, DRAWS, row, known)
    assert p_value(rbm.visible_units, draws.v, given(exact_of(rbm), row, known)) > 1e-3


def with_a_layer_below(top):
    below = machine(3, 4, seed=1)
    dbn = DeepBeliefNetwork([below, top])
    return dbn, exact_of(top), np.asarray(dbn.lower[0].reverse(np.float32(states(4))))


def test_draws_of_a_deep_network_come_down_to_the_images():
    dbn, exact, means = with_a_layer_below(machine(4, 3, scale=1.2))
    draws = np.asarray(sample(dbn, DRAWS).v)
    expected = exact.p_v @ means
    error = np.sqrt(expected * (1 - expected) / DRAWS)
    assert draws.shape == (DRAWS, 3)
    assert np.all(abs(draws.mean(axis=0) - expected) < 5 * error)
    uniform = means.mean(axis=0)  # as if the top drew all states alike
    assert np.any(abs(draws.mean(axis=0) - uniform) > 5 * error)


def test_labels_of_a_deep_network_are_known_units_of_its_top():
    top = LabeledRBM(3, number_classes=3, seed=0)
    top.build([7])
    top.w_rec.assign(np.random.default_rng(0).normal(size=(7, 3)))
    dbn, exact, means = with_a_layer_below(top)
    row, known = np.array([0, 0, 0, 0, 0, 1, 0.0]), np.arange(7) >= 4
    draws = np.asarray(sample(dbn, DRAWS, row, known).v)
    expected = given(exact, row, known) @ np.repeat(means, 3, axis=0)
    error = np.sqrt(expected * (1 - expected) / DRAWS)
    assert np.all(abs(draws.mean(axis=0) - expected) < 5 * error)


def two_basins(scale):
    """All pixels on or all off, by majority of the start; of different free energies."""
    rbm = machine(12, 2, scale=0.0)
    rbm.w_rec.assign(scale * np.tile([8.0, -6.0], (12, 1)))
    rbm.hb.assign(scale * np.array([-48.0, 36.0]))
    return rbm


def test_chains_that_do_not_mix_are_told_of():
    with pytest.warns(UserWarning, match=r"have not mixed: R̂ is .* after 40 steps"):
        draws = sample(two_basins(1.0), 20, steps=20, most_steps=40)
    assert draws.steps == 40
    assert draws.potential_scale_reduction > 1.2


def test_a_run_is_doubled_until_its_chains_agree():
    draws = sample(two_basins(0.25), 20, steps=20)
    assert draws.steps in 20 * 2 ** np.arange(1, 9)
    assert draws.potential_scale_reduction <= 1.05


def test_scale_reduction_is_that_of_the_variances():
    """Gelman & Rubin's, of the halves of each chain, with (m + 1)/m and the n - 1 of TFP."""
    x = np.random.default_rng(0).normal([0, 0, 1], size=(100, 3))
    halves = np.hstack([x[:50], x[50:]])
    within = halves.var(axis=0, ddof=1).mean()
    between = halves.mean(axis=0).var(ddof=1)
    total = 49 / 50 * within + between
    expected = np.sqrt(7 / 6 * total / within - 49 / (6 * 50))
    assert potential_scale_reduction(x) == pytest.approx(expected, rel=1e-4)
    assert expected > 1.1
    for wrong in (x[:3], x[:, 0]):
        with pytest.raises(ValueError, match=r"`values` must have shape.*Received"):
            potential_scale_reduction(wrong)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"number": 0}, "`number`.*Received: 0"),
        ({"number": 2, "steps": 3}, "`steps`.*at least 4"),
        ({"number": 2, "steps": 50, "most_steps": 10}, "`most_steps`.*at least 50"),
        ({"number": 2, "tolerance": np.nan}, "`tolerance` must be a positive number"),
        ({"number": 2, "v": [0] * 4, "known": [True, False]}, r"`known` must have shape \(1, 4\)"),
        ({"number": 2, "v": [0] * 4, "known": [0.5, 0, 0, 1]}, "`known` must be binary"),
        ({"number": 2, "v": [0] * 4, "known": ["no", "", "", ""]}, "`known` must be an array"),
        ({"number": 2, "v": [0, 0, 0, 0]}, "go together"),
        ({"number": 2, "known": [True] * 4}, "go together"),
        ({"number": 2, "v": [0, 0, 0], "known": [True] * 3}, r"`v` must have shape \(batch, 4\)"),
        ({"number": 2, "v": [7, 0, 0, 0], "known": [True] * 4}, "must lie in"),
    ],
)
def test_refuses_what_cannot_be(rbm, arguments, named):
    with pytest.raises(ValueError, match=named):
        sample(rbm, **arguments)


def test_refuses_machines_without_energy_and_labels_known_in_part(rbm):
    with pytest.raises(ValueError, match="`sample` needs symmetric weights"):
        sample(rbm.untie(), 2)
    with pytest.raises(ValueError, match="call `build` first"):
        sample(RBM(3), 2)
    labeled = machine(5, 3, visible_units=Beside(Bernoulli(), Categorical(3), 3))
    with pytest.raises(ValueError, match="known in part"):
        sample(labeled, 2, [0, 0, 1, 0, 0], [False, False, True, False, False])


def test_sites_are_known_if_all_their_units_are():
    units = Beside(Bernoulli(), Categorical(3), 3)
    known = np.array([[1, 0, 1, 1, 1], [0, 0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(known_sites(units, known), [[1, 0, 1], [0, 0, 0]])


def test_states_that_cannot_be_leave_the_random_state():
    rbm = machine()
    before = np.array(rbm.seed_generator.state)
    with pytest.raises(ValueError, match="`v` must"):
        sample(rbm, 2, [255.0, 0, 0, 0], [1, 0, 0, 0])
    np.testing.assert_array_equal(rbm.seed_generator.state, before)
