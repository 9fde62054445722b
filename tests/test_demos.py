"""The demonstrations of the pages: node runs their arithmetic, which must be the package's."""

import numpy as np
import pytest
from enumerated import enumerate_machine, exact_of
from machines import BINARY, copy_of, parameters_of
from node import DEMOS, ROOT, agree, evaluate, machine_from, needs_node
from sampled import p_value

from rbm_tutorial import bars_and_stripes
from rbm_tutorial.contrast import contrastive_gradient
from rbm_tutorial.exact import (
    exact_log_partition,
    statistics,
    transition_matrix,
    visible_probabilities,
)
from rbm_tutorial.likelihood import log_likelihood

pytestmark = needs_node


# ---------------------------------------------------------------- rbm.js


QUANTITIES = """({
  log_z: rbm.logPartition(layer),
  p_v: rbm.visibleProbabilities(layer),
  free_energy: v.map((state) => rbm.freeEnergy(layer, state)),
  forward: v.map((state) => rbm.forward(layer, state)),
  reverse: h.map((state) => rbm.reverse(layer, state)),
  step: rbm.transitionMatrix(layer),
  cost: rbm.reconstructionCost(layer, v),
})"""


def package_quantities(layer, exact):
    return {
        "log_z": exact_log_partition(layer),
        "p_v": visible_probabilities(layer),
        "free_energy": layer.free_energy(exact.v.astype("float32")),
        "forward": layer.forward(exact.v.astype("float32")),
        "reverse": layer.reverse(exact.h.astype("float32")),
        "step": transition_matrix(layer),
        "cost": layer.reconstruction_cost(exact.v.astype("float32")),
    }


def test_quantities_are_those_of_the_package(rbm, exact):
    by_script = evaluate(QUANTITIES, layer=rbm, v=exact.v, h=exact.h)
    for name, value in package_quantities(rbm, exact).items():
        assert agree(by_script[name], value), name


def test_quantities_of_another_machine_are_not(rbm, exact):
    """The comparison above notices a weight that is wrong by a hundredth."""
    wrong = copy_of(rbm)
    wrong.w_rec.assign(np.asarray(rbm.w_rec) + 0.01 * (np.arange(12).reshape(4, 3) == 5))
    by_script = evaluate(QUANTITIES, layer=wrong, v=exact.v, h=exact.h)
    for name, value in package_quantities(rbm, exact).items():
        assert not agree(by_script[name], value), name


def test_statistics_are_those_of_the_gradient(rbm, exact):
    x, v_k = exact.v[[1, 3, 3, 12]], exact.v[[0, 7, 9, 14]]
    expression = "rbm.stepped(layer, ...[x, v].map((v) => rbm.statistics(layer, v, w)), rate)"
    moved = evaluate(expression, layer=rbm, x=x, v=v_k, w=np.full(4, 0.25), rate=0.3)
    x, v_k = x.astype("float32"), v_k.astype("float32")
    gradient = contrastive_gradient(x, rbm.forward(x), v_k, rbm.forward(v_k))
    for name, before, slope in zip(("w", "hb", "vb"), parameters_of(rbm), gradient):
        assert agree(moved[name], (before - 0.3 * np.asarray(slope)).ravel()), name


DRAWS = """(() => {
  const uniform = rbm.generator(7);
  return Array.from({ length: 20000 }, () => STEP);
})()"""


def test_gibbs_steps_are_draws_of_the_transition_matrix(rbm, exact):
    draws = evaluate(
        DRAWS.replace("STEP", "rbm.gibbsStep(layer, start, uniform)"), layer=rbm, start=exact.v[5]
    )
    assert p_value(BINARY, np.array(draws), transition_matrix(rbm)[5]) > 1e-3


def test_steps_without_hidden_coins_are_not(rbm, exact):
    """Wrong: hidden probabilities go down in the place of draws."""
    without = "rbm.draw(rbm.reverse(layer, rbm.forward(layer, start)), uniform)"
    draws = evaluate(DRAWS.replace("STEP", without), layer=rbm, start=exact.v[5])
    assert p_value(BINARY, np.array(draws), transition_matrix(rbm)[5]) < 1e-6


# ---------------------------------------------------------------- which curve, copying machine


@pytest.mark.parametrize("rules", [{}, {"decay": 0.001}, {"persistent": True}], ids=str)
def test_uncovered_likelihood_and_shares_are_exact(rules):
    expression = """(() => {
      const run = demos.whichCurve.newRun(1, rules);
      demos.whichCurve.train(run, 200);
      const patterns = demos.whichCurve.patternProbabilities(run);
      return { machine: run.machine, last: run.history.at(-1), patterns };
    })()"""
    got = evaluate(expression, "which_curve", rules=rules)
    rbm = machine_from(got["machine"], hidden=8)
    patterns, probabilities = bars_and_stripes(4)
    x = np.repeat(patterns, np.round(32 * probabilities).astype(int), axis=0)
    log_p = log_likelihood(rbm, x, exact_log_partition(rbm))
    assert got["last"]["updates"] == 200
    assert agree(got["last"]["likelihood"], np.mean(log_p), 1e-4)
    assert agree(got["last"]["cost"], rbm.reconstruction_cost(x), 1e-4)
    log_p = np.asarray(log_likelihood(rbm, patterns, exact_log_partition(rbm)))
    assert agree(got["patterns"], np.sort(np.exp(log_p))[::-1])


@pytest.mark.parametrize("c", [0, 5, 20])
def test_copying_machine_reconstructs_and_has_learned_nothing(c):
    expression = """({
      machine: demos.copyingMachine.machine(c),
      images: demos.copyingMachine.images,
      cost: demos.copyingMachine.reconstructionCost(c),
      likelihood: demos.copyingMachine.logLikelihood(c),
    })"""
    got = evaluate(expression, "copying_machine", c=c)
    rbm = machine_from(got["machine"], hidden=16)
    x = np.array(got["images"], "float32")
    assert agree(got["cost"], rbm.reconstruction_cost(x))
    log_p = log_likelihood(rbm, x, exact_log_partition(rbm))
    assert agree(got["likelihood"], np.mean(log_p), 1e-4)
    assert agree(got["likelihood"], -16 * np.log(2))
    assert agree(got["cost"], {0: 11.0904, 5: 1.8125, 20: 0.0007}[c], 1e-4)


# ---------------------------------------------------------------- tiny machine


TINY = {
    "w": np.array([[4.0, 0, 1], [4, 0, 1], [-4, 2, -2], [-4, 2, -2]]),
    "hb": np.array([-1.0, 0, -2]),
    "vb": np.array([-2.0, -2, 0, 0]),
}


@pytest.mark.parametrize("temperature", [0.3, 1, 2.5])
def test_tiny_machine_is_that_of_the_first_chapter(temperature):
    expression = """(() => {
      const { chapterMachine, energies, probabilities, terms, VISIBLE, HIDDEN } = demos.tinyMachine;
      const machine = chapterMachine();
      const sums = VISIBLE.map((v) => HIDDEN.map((h) =>
        rbm.sum(terms(machine, v, h).map(([, term]) => term))));
      return { machine, sums, energies: energies(machine), p: probabilities(machine, T) };
    })()"""
    got = evaluate(expression, "tiny_machine", T=temperature)
    assert all(agree(got["machine"][name], value.ravel()) for name, value in TINY.items())
    exact = exact_of(machine_from(got["machine"], hidden=3), beta=1 / temperature)
    assert agree(got["energies"], exact.energy * temperature)
    assert agree(got["sums"], exact.energy * temperature)
    assert agree(got["p"], exact.joint)
    assert not agree(got["p"], enumerate_machine(*TINY.values()).joint) or temperature == 1


def test_tasks_at_the_tiny_machine_can_be_solved_as_the_page_says():
    """Two weights, and no others, make 1110 the most probable image; none does that for 0110."""
    winners = {}
    for i, j in np.ndindex(4, 3):
        for value in np.arange(-8, 8.5, 0.5):
            w = TINY["w"].copy()
            w[i, j] = value
            p_v = enumerate_machine(w, TINY["hb"], TINY["vb"]).p_v
            winners.setdefault(int(p_v.argmax()), set()).add((i + 1, j + 1))
    assert winners[0b1110] == {(3, 1), (3, 3)}
    assert 0b0110 not in winners


# ---------------------------------------------------------------- Gibbs walk


@pytest.mark.parametrize("temperature", [2, 1, 0.7, 0.5, 0.3])
def test_gibbs_walk_knows_its_relaxation_time(temperature):
    expression = "demos.gibbsWalk.relaxationTime(demos.gibbsWalk.machineAt(T))"
    got = evaluate(expression, "tiny_machine", "gibbs_walk", T=temperature)
    beta = 1 / temperature
    rbm = machine_from({name: value * beta for name, value in TINY.items()}, hidden=3)
    root = np.sqrt(exact_of(rbm).p_v)
    second = np.linalg.eigvalsh(root[:, None] * transition_matrix(rbm) / root)[-2]
    assert np.isclose(got, -1 / np.log(second), rtol=1e-3)
    measured = {2: 2.0, 1: 15.3, 0.7: 95, 0.5: 1130, 0.3: 310_000}
    assert np.isclose(got, measured[temperature], rtol=0.01)


WALK = """(() => {
  const walk = demos.gibbsWalk.newWalk(0.7, 1, 3);
  const draws = Array.from({ length: 20000 }, () => VISIBLE[demos.gibbsWalk.step(walk, 12).to]);
  demos.gibbsWalk.walkOn(walk, 500);
  const { visits, last } = walk;
  return { draws, visits, last, shares: demos.gibbsWalk.shares(walk), distance:
    demos.gibbsWalk.distance(walk) };
})()"""


def test_gibbs_walk_tosses_the_coins_of_the_machine():
    expression = WALK.replace("VISIBLE", "demos.tinyMachine.VISIBLE")
    got = evaluate(expression, "tiny_machine", "gibbs_walk")
    rbm = machine_from({name: value / 0.7 for name, value in TINY.items()}, hidden=3)
    exact = exact_of(rbm)
    draws = np.array(got["draws"])
    assert p_value(BINARY, draws, transition_matrix(rbm)[12]) > 1e-3
    assert p_value(BINARY, draws, transition_matrix(rbm)[4]) < 1e-6
    last = got["last"]
    h = np.array([[coin["on"] for coin in last["hidden"]]], "float32")
    v = exact.v[[last["from"]]].astype("float32")
    assert agree([[coin["p"] for coin in last["hidden"]]], rbm.forward(v))
    assert agree([[coin["p"] for coin in last["visible"]]], rbm.reverse(h))
    for coin in last["hidden"] + last["visible"]:
        assert coin["on"] == (coin["u"] < coin["p"])
    assert sum(got["visits"]) == 500
    assert agree(got["shares"], np.array(got["visits"]) / 500)
    assert agree(got["distance"], np.abs(got["shares"] - exact.p_v).sum() / 2)


# ---------------------------------------------------------------- two hands


HANDS = """(() => {
  const { plantedMachine, expectedUpdates, planted, likelihood } = demos.twoHands;
  const steps = k === 0 ? Infinity : k;
  const machine = expectedUpdates(plantedMachine(), steps, count);
  return { machine, next: expectedUpdates(machine, steps, 1), planted: planted(machine),
           likelihood: likelihood(machine) };
})()"""
IN_DATA = np.isin(np.arange(64), [0b111000, 0b000111]) / 2


@pytest.mark.parametrize("k", [1, 3, 10, 0])
def test_hands_push_as_the_expected_update_says(k):
    """Down at the data, up at q₀Tᵏ, or at p for the exact gradient, 0; neither is the other."""
    got = evaluate(HANDS, "two_hands", k=k, count=30)
    rbm = machine_from(got["machine"], hidden=3)
    ends = {k: IN_DATA @ np.linalg.matrix_power(transition_matrix(rbm), k) for k in (1, 3, 10)}
    ends[0] = visible_probabilities(rbm)
    for rule, end in ends.items():
        pairs = zip(statistics(rbm, IN_DATA), statistics(rbm, end))
        moved = np.concatenate([0.1 * (data - model).ravel() for data, model in pairs])
        before, after = (
            np.concatenate([got[when][name] for name in ("w", "hb", "vb")])
            for when in ("machine", "next")
        )
        assert agree(after - before, moved, 1e-6) == (rule == k)


@pytest.mark.parametrize(
    ("k", "planted", "likelihood"),
    [(1, 0.730, -2.76), (3, 0.476, -1.68), (10, 0.074, -0.89), (0, 0.006, -0.76)],
)
def test_planted_valley_after_a_hundred_updates(k, planted, likelihood):
    got = evaluate(HANDS, "two_hands", k=k, count=100)
    rbm = machine_from(got["machine"], hidden=3)
    p_v = visible_probabilities(rbm)
    assert agree(got["planted"], p_v[0b101101]) and agree(got["planted"], planted, 1e-3)
    assert agree(got["likelihood"], IN_DATA @ np.log(p_v))
    assert abs(got["likelihood"] - likelihood) < 0.005


def test_planted_valley_holds_83_percent_at_first():
    got = evaluate(HANDS, "two_hands", k=1, count=0)
    assert agree(visible_probabilities(machine_from(got["machine"], 3))[0b101101], 0.828, 1e-3)
    assert agree(got["planted"], 0.828, 1e-3)


# ---------------------------------------------------------------- pages


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("index.md", "dreaming_machine"),
        ("chapters/01_energy.ipynb", "tiny_machine"),
        ("chapters/04_gibbs_chains.ipynb", "gibbs_walk"),
        ("chapters/05_contrastive_divergence.ipynb", "two_hands"),
        ("chapters/05_contrastive_divergence.ipynb", "which_curve"),
        ("chapters/05_contrastive_divergence.ipynb", "copying_machine"),
        ("chapters/09_visualization.ipynb", "dreaming_machine"),
    ],
)
def test_a_page_has_container_picture_and_scripts(page, name):
    source = (ROOT / page).read_text(encoding="utf-8").replace('\\"', '"')
    assert source.count(f'id="demo-{name.replace("_", "-")}"') == 1
    for folder, file in [
        ("_static", "rbm.js"),
        ("_static", f"{name}.js"),
        ("_assets", f"{name}.svg"),
    ]:
        assert f"{folder}/demos/{file}" in source
        assert (DEMOS / file).is_file()
