"""Sample weights: an example of weight 2 is two examples, exactly where nothing is drawn.

Where chains start at the data the expectation of the update over all draws is enumerated.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REFUSED_WHEN_COMPILED
from enumerated import exact_of
from machines import copy_of, machine, parameters_of
from networks import labeled_network, network
from trained import EXAMPLES, Given, assert_equal_weights, data_set_of, trainer

from rbm_tutorial import WakeSleep
from rbm_tutorial.contrast import contrast_with_model
from rbm_tutorial.exact import transition_matrix
from rbm_tutorial.negatives import DataChains

COUNTS = np.random.default_rng(5).integers(0, 4, len(EXAMPLES))
REPEATED = np.repeat(EXAMPLES, COUNTS, axis=0)
WEIGHTS = COUNTS.astype("float32")
FIT = {"verbose": 0, "shuffle": False}


def given_chains():
    return Given(EXAMPLES[:5])


def close_weights(ours, theirs):
    for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("centered", [False, True])
def test_a_weight_counts_how_often_an_example_is_there(centered):
    """Weights, offsets and every number of the history, with negatives that nobody draws."""
    weighted, repeated = (
        trainer(machine(), centered=centered, negatives=given_chains()) for _ in range(2)
    )
    ours = weighted.fit(EXAMPLES, sample_weight=WEIGHTS, batch_size=22, epochs=3, **FIT)
    theirs = repeated.fit(REPEATED, batch_size=len(REPEATED), epochs=3, **FIT)
    close_weights(weighted, repeated)
    for name, values in theirs.history.items():
        np.testing.assert_allclose(ours.history[name], values, rtol=1e-5)


def test_without_their_effect_the_same_comparison_fails():
    """Its twin: weights that are all the same leave another machine."""
    weighted, repeated = (trainer(machine(), negatives=given_chains()) for _ in range(2))
    ones = np.ones(22, "float32")
    weighted.fit(EXAMPLES, sample_weight=ones, batch_size=22, epochs=3, **FIT)
    repeated.fit(REPEATED, batch_size=len(REPEATED), epochs=3, **FIT)
    with pytest.raises(AssertionError):
        close_weights(weighted, repeated)


def test_equal_weights_change_nothing(rbm):
    twin = copy_of(rbm)
    trainer(rbm).fit(EXAMPLES, sample_weight=np.full(22, 7.0), batch_size=8, **FIT)
    trainer(twin).fit(EXAMPLES, batch_size=8, **FIT)
    close_weights(rbm, twin)


def test_evaluation_is_weighted(rbm):
    model = trainer(rbm)
    weighted = model.evaluate(EXAMPLES, sample_weight=WEIGHTS, batch_size=22, verbose=0)
    repeated = model.evaluate(REPEATED, batch_size=len(REPEATED), verbose=0)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-5)
    history = model.fit(
        EXAMPLES[:1], epochs=1, validation_data=(EXAMPLES, None, WEIGHTS), **FIT
    ).history
    after = model.evaluate(REPEATED, batch_size=len(REPEATED), verbose=0, return_dict=True)
    assert history["val_free_energy"][0] == pytest.approx(after["free_energy"], rel=1e-5)


def batches_with_weights():
    for first in range(0, 22, 8):
        rows = slice(first, first + 8)
        yield EXAMPLES[rows], None, WEIGHTS[rows]


class Batches(keras.utils.PyDataset):
    """As Keras 3.15 takes them on TensorFlow: with empty targets, not `None`."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        x, _, weights = list(batches_with_weights())[i]
        return x, np.zeros((len(x), 0)), weights


class WithoutTargets(Batches):
    def __getitem__(self, i):
        return list(batches_with_weights())[i]


class InLists(WithoutTargets):
    def __getitem__(self, i):
        return [*super().__getitem__(i)]


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
@pytest.mark.parametrize("build", [False, True])
@pytest.mark.parametrize(
    "batches",
    [
        batches_with_weights,
        Batches,
        WithoutTargets,
        InLists,
        lambda: map(list, batches_with_weights()),
        lambda: tf.data.Dataset.from_tensor_slices((EXAMPLES, np.zeros(22), WEIGHTS)).batch(8),
    ],
    ids=[
        "generator",
        "PyDataset",
        "PyDataset without targets",
        "lists",
        "generator of lists",
        "data set",
    ],
)
def test_batches_may_bring_their_weights(batches, build):
    """Also to a model that is built by the first of them."""
    rbm, twin = machine(), machine()
    if build:
        expected = trainer(twin)
        expected.fit(EXAMPLES, sample_weight=WEIGHTS, batch_size=8, **FIT)
    else:
        rbm, twin = (type(rbm)(3, seed=4) for _ in range(2))
        twin.adapt(EXAMPLES[:8])
        trainer(twin).fit(EXAMPLES, sample_weight=WEIGHTS, batch_size=8, **FIT)
    trainer(rbm).fit(batches(), **FIT)
    assert_equal_weights(rbm, twin)


def test_one_batch_may_be_weighted(rbm):
    twin = copy_of(rbm)
    trainer(rbm, negatives=given_chains()).train_on_batch(EXAMPLES, sample_weight=WEIGHTS)
    trainer(twin, negatives=given_chains()).train_on_batch(REPEATED)
    close_weights(rbm, twin)


# ---------------------------------------------------------------- chains that start at the data


def expected_gradient_in_vb(rbm, x, weights):
    """E⟨v⁽¹⁾⟩ - ⟨x⟩ over all draws of one Gibbs step from each example."""
    exact = exact_of(rbm)
    step, share = transition_matrix(rbm), weights / weights.sum()
    number = (x @ 2 ** np.arange(x.shape[1])[::-1]).astype(int)
    return share @ (step[number] @ exact.v - x)


class WithoutWeights(DataChains):
    """Wrong: the chains of all examples count alike."""

    starts_at_data = False


@pytest.mark.parametrize("negatives, right", [(DataChains(), True), (WithoutWeights(), False)])
def test_chains_that_start_at_an_example_have_its_weight(negatives, right):
    rbm, copies = machine(scale=2.0), 4000
    x, weights = np.repeat(EXAMPLES[:6], copies, axis=0), np.repeat([4.0, 0, 0, 1, 0, 0], copies)
    contrast = contrast_with_model(rbm, x, negatives, weights=weights.astype("float32"))
    share = weights / weights.sum()
    drawn = np.asarray(contrast.v_k, "float64")
    used = np.ones(len(x)) / len(x) if contrast.weighing_k.weights is None else share
    measured = used @ drawn - share @ x
    standard_error = 0.5 * np.sqrt(np.sum(used**2))
    z = (measured - expected_gradient_in_vb(rbm, x, weights)) / standard_error
    assert (np.abs(z).max() < 4) == right


@pytest.mark.parametrize("centered", [False, True])
def test_a_batch_of_no_weight_teaches_nothing_though_chains_move(centered):
    model = trainer(machine(), persistent_chains=5, centered=centered)
    model.build((None, 4))
    before = model.rbm.get_weights()
    model.fit(EXAMPLES, sample_weight=np.zeros(22), batch_size=8, **FIT)
    for old, new in zip(before, model.rbm.get_weights()):
        np.testing.assert_array_equal(old, new)


# ---------------------------------------------------------------- networks


def test_a_network_weighs_its_cost_and_its_hits():
    dbn = labeled_network()
    model = WakeSleep(dbn)
    model.compile()
    labels = np.arange(22) % 4
    weighted = model.evaluate(EXAMPLES, labels, sample_weight=WEIGHTS, batch_size=22, verbose=0)
    repeated = model.evaluate(
        REPEATED, np.repeat(labels, COUNTS), batch_size=len(REPEATED), verbose=0
    )
    np.testing.assert_allclose(weighted, repeated, rtol=1e-5)


@pytest.mark.parametrize("persistent_chains", [0, 6])
def test_a_network_learns_nothing_from_examples_of_weight_0(persistent_chains):
    """Where nothing but they differ between two runs, neither do the weights."""
    other = EXAMPLES.copy()
    other[COUNTS == 0] = 1 - other[COUNTS == 0]
    parameters = []
    for x in (EXAMPLES, other):
        model = WakeSleep(network(), persistent_chains)
        model.compile()
        model.fit(x, sample_weight=WEIGHTS, batch_size=22, **FIT)
        parameters.append([w for rbm in model.dbn.lower for w in parameters_of(rbm)])
    for ours, theirs in zip(*parameters):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_class_weights_are_weights_of_the_examples():
    labels, weights = np.arange(22) % 4, {0: 0.0, 1: 1.0, 2: 5.0, 3: 0.5}
    models = []
    for how in (
        {"class_weight": weights},
        {"sample_weight": np.array([weights[label] for label in labels])},
    ):
        model = WakeSleep(labeled_network())
        model.compile()
        model.fit(EXAMPLES, labels, batch_size=8, **FIT, **how)
        models.append(model)
    close_weights(*models)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_refuses_weights_that_are_none(rbm, method, wrong):
    weights = WEIGHTS.copy()
    weights[3] = wrong
    before = rbm.get_weights()
    with pytest.raises(ValueError, match=r"`sample_weight` must be finite and at least 0.*Rec"):
        getattr(trainer(rbm), method)(EXAMPLES, sample_weight=weights)
    for old, new in zip(before, rbm.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("wrong", [WEIGHTS[:5], np.float32(1)])
def test_refuses_another_number_of_weights_than_of_examples(rbm, wrong):
    with pytest.raises(ValueError, match=r"`sample_weight` must hold one number for each.*Receiv"):
        trainer(rbm).fit(EXAMPLES, sample_weight=wrong)


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
@pytest.mark.parametrize("centered", [False, True])
def test_refuses_a_wrong_weight_in_the_last_batch_of_a_data_set(wrong, centered):
    """On JAX, where a compiled step cannot raise, the epoch ends with an error all the same."""
    weights = np.ones(22, "float32")
    weights[-1] = wrong
    data = data_set_of(EXAMPLES, np.zeros((22, 0), "float32"), weights)
    model = trainer(machine(), centered=centered)
    with pytest.raises(REFUSED_WHEN_COMPILED, match=r"sample.weight"):
        model.fit(data, verbose=0, shuffle=False)
    assert np.isfinite(model.rbm.w_rec).all()


def test_refuses_a_data_set_whose_weights_are_no_column(rbm):
    data = data_set_of(EXAMPLES, np.zeros((22, 0)), np.ones((22, 4), "float32"))
    with pytest.raises(ValueError, match=r"weights have the shape \(batch,\).*4\)"):
        trainer(rbm).fit(data, verbose=0, shuffle=False)


def test_refuses_weights_of_classes_without_classes(rbm):
    with pytest.raises(ValueError, match=r"`class_weight` needs labels.*Received: \{0: 1\}"):
        trainer(rbm).fit(EXAMPLES, class_weight={0: 1})
