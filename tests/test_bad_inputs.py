"""Functions that measure, draw and prepare: the right result, or an error that names the argument.

Tables: every argument × every value that is wrong in one way or right in an unusual one. What is
refused changes neither weights nor random state.
"""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from inputs import (
    DBN,
    KNOWN,
    LABELED,
    RBM_4_3,
    RIGHT,
    WRONG,
    V,
    assert_refused,
    assert_same,
    state,
    wrong_values,
)
from machines import BINARY
from trained import EXAMPLES, trainer

from rbm_tutorial import RBM, LabeledRBM, data, plots, train_stack
from rbm_tutorial.annealing import ais_log_partition, base_biases, reverse_ais_log_partition
from rbm_tutorial.callbacks import FreeEnergyGap, free_energy_gap
from rbm_tutorial.exact import (
    conditional_tables,
    exact_log_partition,
    state_probabilities,
    statistics,
    visible_probabilities,
)
from rbm_tutorial.likelihood import chain_diagnostics, log_likelihood, pseudo_log_likelihood
from rbm_tutorial.sampling import denoise, inpaint, run_chains
from rbm_tutorial.stack import variational_bound

pytestmark = pytest.mark.usefixtures("close_figures")

# ---------------------------------------------------------------- batches


KINDS = {
    **{kind: x for kind, (x, _) in WRONG.items()},
    "a complex tensor": keras.ops.convert_to_tensor(EXAMPLES + 1j),
    "a tensor with NaN": keras.ops.convert_to_tensor(WRONG["NaN"][0]),
    "a data set": tf.data.Dataset.from_tensor_slices(EXAMPLES).batch(8),
}
ANY_SHAPE = ["a number", "one image", "images that are not flat", "another width"]
OF_NONE = ["no example"]  # of which there is a right result


def picture(ax):
    return np.ma.filled(ax.images[0].get_array(), -1)


BATCHES = {  # a function of one argument, and the kinds that are right there
    "log_likelihood(x)": (lambda x: log_likelihood(RBM_4_3, x, 1.0), OF_NONE),
    "pseudo_log_likelihood(x)": (lambda x: pseudo_log_likelihood(RBM_4_3, x), OF_NONE),
    "chain_diagnostics(v)": (lambda v: chain_diagnostics(RBM_4_3, v, 4).free_energies, []),
    "reverse_ais_log_partition(samples)": (
        lambda v: reverse_ais_log_partition(RBM_4_3, v, 3).log_weights,
        [],
    ),
    "run_chains(v)": (lambda v: run_chains(RBM_4_3, v, 2), OF_NONE),
    "inpaint(v)": (lambda v: inpaint(RBM_4_3, v, KNOWN, 2), OF_NONE),
    "denoise(noisy)": (lambda v: denoise(RBM_4_3, v, 0.1, 3, 1), OF_NONE),
    "free_energy_gap(x_train)": (lambda x: free_energy_gap(RBM_4_3, x, V), []),
    "free_energy_gap(x_held_out)": (lambda x: free_energy_gap(RBM_4_3, V, x), []),
    "hidden_activations(x)": (lambda x: picture(plots.hidden_activations(RBM_4_3, x)), []),
    "image_grid(images)": (
        lambda x: picture(plots.image_grid(x, image_shape=(2, 2))),
        [],
    ),
    "reconstructions(originals)": (lambda x: picture(plots.reconstructions(x, EXAMPLES)), []),
    "reconstructions(reconstructed)": (lambda x: picture(plots.reconstructions(EXAMPLES, x)), []),
    "binarize(x)": (lambda x: data.binarize(x, seed=0), [*OF_NONE, *ANY_SHAPE]),
    "variational_bound(x)": (lambda x: variational_bound(DBN, x, 1.0), OF_NONE),
    "DeepBeliefNetwork.predict(x)": (lambda x: DBN.predict(x, verbose=0), ["a data set"]),
    "train_stack(x)": (
        lambda x: train_stack(x, [RBM(3, 4), LabeledRBM(2, number_classes=4)]),
        ["a data set"],
    ),
}


@pytest.mark.parametrize(("function", "kind"), wrong_values(BATCHES, KINDS))
def test_what_is_no_batch_is_refused(function, kind):
    assert_refused(function, BATCHES[function][0], KINDS[kind])


@pytest.mark.parametrize("function", [f for f, (_, right) in BATCHES.items() if right == OF_NONE])
def test_of_no_example_there_is_no_result(function):
    assert len(BATCHES[function][0](EXAMPLES[:0])) == 0


def from_the_start(call, x):
    """What the call gives if it draws the first numbers of its layer."""
    for layer in [RBM_4_3, *DBN.lower]:
        layer.seed_generator.state.assign([0, 0])
    return np.asarray(call(x))


@functools.cache
def expected_of(function):
    return from_the_start(BATCHES[function][0], EXAMPLES)


@pytest.mark.parametrize("kind", RIGHT)
@pytest.mark.parametrize("function", sorted(BATCHES.keys() - {"train_stack(x)"}))
def test_what_means_the_same_gives_the_same(function, kind):
    ours = from_the_start(BATCHES[function][0], RIGHT[kind])
    np.testing.assert_allclose(ours, expected_of(function), rtol=1e-6)


# ---------------------------------------------------------------- vectors


VECTORS = {
    "nothing": None,
    "text": ["0", "1", "0", "1"],
    "a word": "uniform",
    "complex numbers": [0.5 + 1j] * 4,
    "a dictionary": {"a": 1.0},
    "ragged": [[0.5], [0.5, 0.5]],
    "a number": 0.5,
    "too short": [0.0, 0.5, 1.0],
    "a matrix": [[0.0, 0.3, 0.6, 1.0]],
    "NaN": [0.0, 0.5, np.nan, 1.0],
    "infinity": [0.0, 0.5, np.inf, 1.0],
    "bytes": np.array([0, 255, 0, 255], "uint8"),
    "-1 and 1": [-1, 1, -1, 1],
}
FUNCTIONS_OF_VECTORS = {
    "ais_log_partition(base_rate)": (
        lambda p: ais_log_partition(RBM_4_3, 4, 3, base_rate=p),
        ["nothing"],
    ),
    "reverse_ais_log_partition(base_rate)": (
        lambda p: reverse_ais_log_partition(RBM_4_3, V, 3, base_rate=p),
        ["nothing"],
    ),
    "ais_log_partition(betas)": (
        lambda betas: ais_log_partition(RBM_4_3, 4, betas=betas),
        ["nothing", "too short"],
    ),
    "reverse_ais_log_partition(betas)": (
        lambda betas: reverse_ais_log_partition(RBM_4_3, V, betas=betas),
        ["nothing", "too short"],
    ),
    "base_biases(base_rate)": (lambda p: base_biases(RBM_4_3, p), ["nothing"]),
    "conditional_tables(base)": (
        lambda base: conditional_tables(RBM_4_3, 0.5, base),
        ["a number", "bytes", "-1 and 1"],
    ),
    "statistics(p_v)": (lambda p: statistics(RBM_4_3, p), []),
    "state_probabilities(logits)": (
        lambda logits: state_probabilities(BINARY, logits, V),
        ["a matrix"],
    ),
    "state_probabilities(states)": (lambda x: state_probabilities(BINARY, V, x), []),
    "inpaint(known)": (lambda known: inpaint(RBM_4_3, V, known, 2), []),
    "generate(labels)": (
        lambda labels: LABELED.generate(labels=labels, steps=2),
        ["nothing"],
    ),
    "train_stack(labels)": (
        lambda y: train_stack(V[:4], [RBM(3, 4), LabeledRBM(2, number_classes=4)], labels=y),
        [],
    ),
    "film_strip(steps)": (
        lambda steps: plots.film_strip(np.zeros((4, 1, 4)), steps),
        [kind for kind in VECTORS if kind not in ("a number", "too short", "a word")],
    ),
}


@pytest.mark.parametrize(("function", "kind"), wrong_values(FUNCTIONS_OF_VECTORS, VECTORS))
def test_what_is_no_such_vector_is_refused(function, kind):
    assert_refused(function, FUNCTIONS_OF_VECTORS[function][0], VECTORS[kind])


def test_temperatures_rise_from_0_to_1():
    for betas in ([0.1, 0.5, 1], [0, 0.5, 0.9], [1, 0.5, 0], [0, 0.5, 0.5, 1], [0, 1.5, 1], [0]):
        assert_refused("(betas)", lambda b: ais_log_partition(RBM_4_3, 4, betas=b), betas)


# ---------------------------------------------------------------- machines, data, curves


MEASURES = {
    "log_likelihood": lambda rbm: log_likelihood(rbm, V, 1.0),
    "pseudo_log_likelihood": lambda rbm: pseudo_log_likelihood(rbm, V),
    "chain_diagnostics": lambda rbm: chain_diagnostics(rbm, V, 4),
    "ais_log_partition": lambda rbm: ais_log_partition(rbm, 4, 3),
    "reverse_ais_log_partition": lambda rbm: reverse_ais_log_partition(rbm, V, 3),
    "exact_log_partition": exact_log_partition,
    "visible_probabilities": visible_probabilities,
    "energy_landscape": plots.energy_landscape,
    "conditional_tables": conditional_tables,
    "run_chains": lambda rbm: run_chains(rbm, V, 1),
    "inpaint": lambda rbm: inpaint(rbm, V, KNOWN, 1),
    "denoise": lambda rbm: denoise(rbm, V, 0.1, 3, 1),
    "free_energy_gap": lambda rbm: free_energy_gap(rbm, V, V),
    "filters": plots.filters,
    "parameter_histogram": plots.parameter_histogram,
    "hidden_activations": lambda rbm: plots.hidden_activations(rbm, V),
}


@pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
def test_only_machines_that_have_weights_are_measured(measure):
    for no_machine in (None, "rbm", DBN):
        with pytest.raises(ValueError, match=r"`rbm` must be an RBM.*Received"):
            measure(no_machine)
    with pytest.raises(ValueError, match=r"call `build` first. Received an unbuilt RBM"):
        measure(RBM(3, 4))


def test_the_gap_is_refused_before_anything_is_trained():
    model, before = trainer(RBM_4_3), state()
    for argument in ("x_train", "x_held_out"):
        for wrong in (V[:, :3], 255 * V, V[:0], None):
            with pytest.raises(ValueError, match=rf"`{argument}` must .*Received"):
                watch = FreeEnergyGap(**{"x_train": V, "x_held_out": V, argument: wrong})
                model.fit(EXAMPLES, callbacks=[watch], verbose=0)
    assert_same(before, state())


def test_as_arrays_refuses_what_has_no_end_or_no_labels():
    digits = data.load_mnist()[1]
    alone = digits.take(2).map(lambda example: data.flatten_image(example, label=False))
    pairs = tf.data.Dataset.from_tensor_slices
    flat_bytes = pairs((np.full((2, 4), 255, "uint8"), [0, 1]))
    nested = pairs(({"image": EXAMPLES}, EXAMPLES[:, 0]))
    unknown = tf.data.Dataset.from_generator(lambda: iter(()), output_types=("float32", "int64"))
    for bad in (digits.repeat(), alone, np.zeros((2, 784)), flat_bytes, nested, unknown):
        with pytest.raises(ValueError, match=r"`dataset` must .*Received"):
            data.as_arrays(bad)


@pytest.mark.parametrize("image", [None, "digit", [[1], [1, 2]], 1j * np.ones((2, 2, 1)), EXAMPLES])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(ValueError, match=r"`?image`? .*must .*Received"):
        data.flatten_image({"image": image, "label": 1})
    for text in (tf.constant([[["a"]]]), tf.constant([[[1j]]])):
        with pytest.raises(ValueError, match=r"image of `example` must .*Received"):
            data.flatten_image({"image": text, "label": 1})
    with pytest.raises(ValueError, match=r"`label` must be True or False. Received: 'no'"):
        data.flatten_image({"image": np.zeros((2, 2, 1)), "label": 1}, label="no")
    for bad in (np.zeros(784), {"image": np.zeros((28, 28, 1))}, {"label": 1}):
        with pytest.raises(ValueError, match=r"`example` must .*Received"):
            data.flatten_image(bad)


@pytest.mark.parametrize("curve", [[], None, "abc", ["a"], [1j]])
def test_what_is_no_curve_is_refused(curve):
    with pytest.raises(ValueError, match=r"`history` must .*Received"):
        plots.training_curves({"loss": curve}, "loss")


def test_one_optimizer_for_all_layers_is_refused_before_any_learns():
    one, rbm = keras.optimizers.SGD(0.1), RBM(3, number_visible_units=4)
    with pytest.raises(ValueError, match="`optimizer` must make a new one for each layer"):
        train_stack(V, [rbm, RBM(2)], optimizer=lambda layer: one, verbose=0)
    assert not rbm.built


def test_steps_that_became_no_count_are_named_before_any_layer_learns():
    rbm, above = RBM(3, number_visible_units=4), RBM(2)
    above.cd_steps = 0
    with pytest.raises(ValueError, match="`cd_steps` must be an integer"):
        train_stack(V, [rbm, above], verbose=0)
    assert not rbm.built
