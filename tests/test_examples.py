"""What is given to a model is checked before anything is built, traced or learned.

One table: every method × every kind of input that is wrong in one way or right in an unusual one.
"""

import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REFUSED_WHEN_COMPILED
from inputs import RIGHT, WRONG, assert_same
from machines import machine
from networks import labeled_network
from trained import EXAMPLES, OneBatch, assert_equal_weights, data_set_of, trainer

from rbm_tutorial import RBM, ContrastiveDivergence, WakeSleep, train_stack
from rbm_tutorial.examples import images

METHODS = ["fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch"]
SILENT = {"fit": {"verbose": 0}, "evaluate": {"verbose": 0}, "predict": {"verbose": 0}}
pytestmark = pytest.mark.filterwarnings("ignore:`shuffle=True` was passed", "ignore:Your input ran")


def one_generator(x):
    for first in range(0, len(x), 8):
        yield (x[first : first + 8],)


WRONG_BATCHES = {
    "no batches": (tf.data.Dataset.from_tensor_slices(EXAMPLES), "batch"),
    "TFDS examples": (data_set_of({"image": EXAMPLES, "label": EXAMPLES[:, 0]}), "flatten_image"),
    "batches of images": (data_set_of(EXAMPLES[:, None]), "flatten"),
    "batches of another width": (data_set_of(EXAMPLES[:, :3]), "shape"),
    "ragged batches": (
        tf.data.Dataset.from_tensors(tf.ragged.constant([[1.0], [1.0, 0.0]])),
        "dense",
    ),
}


def call(model, method, x, **kwargs):
    return getattr(model, method)(x, **SILENT.get(method, {}), **kwargs)


def state(model):
    return [*map(np.asarray, model.get_weights()), np.asarray(model.rbm.seed_generator.state)]


EACH_WRONG = [(method, kind) for method in METHODS for kind in WRONG] + [
    (method, kind) for method in METHODS[:3] for kind in WRONG_BATCHES
]


@pytest.mark.parametrize(("method", "kind"), EACH_WRONG)
def test_what_is_wrong_is_refused_and_changes_nothing(rbm, method, kind):
    x, says = {**WRONG, **WRONG_BATCHES}[kind]
    model = trainer(rbm)
    before = state(model)
    with pytest.raises(ValueError, match=rf"`x`.*{says}") as error:
        call(model, method, x)
    assert "Received" in str(error.value)
    assert_same(before, state(model))


@functools.cache
def called(method):
    """What a method gives for an array, and the state it leaves."""
    model = trainer(machine())
    keras.utils.set_random_seed(0)
    return call(model, method, EXAMPLES), state(model)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", RIGHT)
def test_what_means_the_same_gives_the_same(method, kind):
    expected, after = called(method)
    model = trainer(machine())
    keras.utils.set_random_seed(0)
    result = call(model, method, RIGHT[kind])
    assert_same(after, state(model))
    if method != "fit":
        np.testing.assert_allclose(result, expected, rtol=1e-3)  # half precision is predicted in it


@pytest.mark.parametrize("method", ["train_on_batch", "test_on_batch", "predict_on_batch"])
@pytest.mark.parametrize("many", [data_set_of(EXAMPLES), one_generator(EXAMPLES)])
def test_a_batch_is_one(rbm, method, many):
    with pytest.raises(ValueError, match=r"`x` must be one batch.*Received"):
        call(trainer(rbm), method, many)


def test_truth_values_become_numbers_and_numbers_keep_their_precision():
    for kind, expected in [("bool", "float32"), ("float64", "float64"), ("int8", "int8")]:
        assert images(np.ones((2, 4), kind)).dtype == expected


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_of_images_and_labels_the_images_are_used(method):
    """Of data sets, in which labels come along; labels that are passed are refused."""
    models, labels = [trainer(machine()) for _ in range(2)], np.arange(22)
    more = {"shuffle": False} if method == "fit" else {}
    call(models[0], method, data_set_of(EXAMPLES), **more)
    call(models[1], method, data_set_of(EXAMPLES, labels), **more)
    assert_same(state(models[0]), state(models[1]))
    with pytest.raises(ValueError, match=r"`y` must be left out.*Received: ndarray of shape"):
        call(models[0], method, EXAMPLES, y=labels)


def test_of_a_generator_that_brings_targets_their_shape_is_named():
    """Not their values, which a compiled step does not know."""
    pairs = ((EXAMPLES[:8], np.arange(8)) for _ in range(3))
    with pytest.raises(ValueError, match=r"without labels\. Received: targets of shape \("):
        trainer(machine()).fit(pairs, verbose=0)


@functools.cache
def unspoiled():
    model = trainer(RBM(3, seed=0))
    model.fit(EXAMPLES, batch_size=8, verbose=0, shuffle=False)
    return model


@pytest.mark.parametrize("kind", [*WRONG, *WRONG_BATCHES])
def test_a_mistake_does_not_spoil_a_model_that_was_not_built(kind):
    """What TensorFlow makes while it traces would be lost with the trace."""
    if kind == "another width" or kind == "batches of another width":
        pytest.skip("without weights any width is right")
    x, _ = {**WRONG, **WRONG_BATCHES}[kind]
    model = trainer(RBM(3, seed=0))
    with pytest.raises(ValueError):
        model.fit(x, verbose=0)
    model.fit(EXAMPLES, batch_size=8, verbose=0, shuffle=False)
    assert_equal_weights(model, unspoiled())


def test_neither_do_values_in_the_second_batch():
    bad = np.concatenate([EXAMPLES[:8], 7 * EXAMPLES[:8]])
    model = trainer(RBM(3, seed=0))
    with pytest.raises(REFUSED_WHEN_COMPILED):
        model.fit(data_set_of(bad), verbose=0, shuffle=False)
    history = model.fit(EXAMPLES, batch_size=8, verbose=0).history
    assert np.isfinite(history["loss"]).all()


@pytest.mark.parametrize("make", [one_generator, data_set_of])
def test_the_first_batch_is_learned_from_though_the_layer_was_built_by_it(make):
    models = [trainer(RBM(3, seed=0)) for _ in range(2)]
    models[0].fit(make(EXAMPLES), verbose=0, shuffle=False)
    models[1].rbm.adapt(EXAMPLES[:8])
    models[1].fit(EXAMPLES, batch_size=8, verbose=0, shuffle=False)
    assert_equal_weights(*models)


@pytest.mark.parametrize("iterator", [iter, functools.partial(map, tuple), itertools.chain])
def test_any_iterator_of_batches_is_taken(iterator):
    """Keras takes generators alone."""
    models = [trainer(machine()) for _ in range(2)]
    models[0].fit(one_generator(EXAMPLES), verbose=0)
    models[1].fit(iterator(list(one_generator(EXAMPLES))), verbose=0)
    assert_equal_weights(*models)


def test_evaluating_builds_but_does_not_learn():
    model = trainer(RBM(3, seed=0))
    model.evaluate(EXAMPLES, verbose=0)
    np.testing.assert_array_equal(model.rbm.vb, np.zeros(4))


@pytest.mark.parametrize(
    "labels, says",
    [
        (None, "`y` must hold integer labels.*Received"),
        (np.arange(21) % 4, "`y` must hold one number for each example.*Received"),
        (np.arange(22) / 22, "integers.*Received"),
        (np.arange(22), "must lie in 0 … 3.*Received"),
        (np.arange(22) % 4 - 1, "must lie in 0 … 3.*Received"),
        (np.array(["one"] * 22), "`y` must be an array of real numbers.*Received"),
        (np.eye(4)[np.arange(22) % 4], "integers.*Received"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_labels_are_checked_as_early(method, labels, says):
    model = WakeSleep(labeled_network())
    model.compile()
    before = model.get_weights()
    with pytest.raises(ValueError, match=says):
        call(model, method, EXAMPLES, y=labels)
    assert_same(before, model.get_weights())


def test_held_out_examples_are_checked_before_training(rbm):
    model = trainer(rbm)
    before = state(model)
    for wrong in (7 * EXAMPLES, (7 * EXAMPLES,), (EXAMPLES, np.arange(22)), EXAMPLES[:, :3]):
        with pytest.raises(ValueError, match="Received"):
            model.fit(EXAMPLES, validation_data=wrong, verbose=0)
    assert_same(before, state(model))


def test_evaluation_tells_bad_values_from_weights_that_are_lost(rbm):
    model = trainer(rbm)
    with pytest.raises(REFUSED_WHEN_COMPILED, match=r"(?s)must lie in|values that its units"):
        model.evaluate(data_set_of(7 * EXAMPLES), verbose=0)
    rbm.hb.assign(np.full(3, np.nan))
    with pytest.raises(ValueError, match=r"The weights must be numbers.*learning diverged.*/hb"):
        model.evaluate(EXAMPLES, verbose=0)


def one_with_targets(x):
    return OneBatch((x, np.zeros((len(x), 0))))


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("given", [np.array, data_set_of, one_with_targets, one_generator])
def test_validation_data_of_another_width_are_noticed_before_anything_is_built(given, built):
    """Not after an epoch."""
    model = trainer(machine() if built else RBM(3, seed=0))
    x = EXAMPLES if given is np.array else given(EXAMPLES)
    says = r"Of `validation_data`: `x` must have shape \(batch, 4\)\. Received"
    with pytest.raises(ValueError, match=says):
        model.fit(x, validation_data=given(EXAMPLES[:, :3]), verbose=0)
    assert model.rbm.built == built
    history = model.fit(x, validation_data=given(EXAMPLES), verbose=0).history
    expected = float(np.mean(model.rbm.free_energy(EXAMPLES)))
    assert history["val_free_energy"][0] == pytest.approx(expected, rel=1e-5)


def test_a_first_batch_that_is_wrong_does_not_build_the_layer():
    """Else its width stayed, and biases of 0, which `fit` would take for the user's own."""
    model, fresh = (trainer(RBM(3, seed=0)) for _ in range(2))
    for wrong in (7 * EXAMPLES, EXAMPLES[:, :3] - 1):
        with pytest.raises(ValueError, match=r"`x` must lie in.*Received"):
            model.fit(data_set_of(wrong), verbose=0)
        assert not model.rbm.built
    for each in (model, fresh):
        each.fit(data_set_of(EXAMPLES), verbose=0)
    assert_equal_weights(model, fresh)


class NoBatch(OneBatch):
    def __len__(self):
        return 0


@pytest.mark.parametrize("method", METHODS[:3])
def test_a_data_set_shorter_than_a_batch_holds_no_example(rbm, method):
    with pytest.raises(ValueError, match=r"`x` must hold at least one example. Received"):
        call(trainer(rbm), method, NoBatch(EXAMPLES))


def test_epochs_are_a_number(rbm):
    with pytest.raises(
        ValueError, match=r"`epochs` must be an integer of at least 0\. Received: N"
    ):
        trainer(rbm).fit(EXAMPLES, epochs=None)


@pytest.mark.parametrize("name", ["loss", "loss_weights", "metrics", "weighted_metrics"])
@pytest.mark.parametrize("make", [lambda: trainer(machine()), lambda: WakeSleep(labeled_network())])
def test_a_model_has_a_loss_and_metrics_of_its_own(make, name):
    """Those of Keras would be ignored, or fail on targets that there are not."""
    with pytest.raises(ValueError, match=f"`{name}` must be left out: .* Received: 'mse'"):
        make().compile(**{name: "mse"})


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("size", [-1, 2.5])
def test_a_batch_size_that_is_none_is_named(rbm, method, size):
    with pytest.raises(ValueError, match="`batch_size` must be"):
        getattr(trainer(rbm), method)(EXAMPLES, batch_size=size, verbose=0)


def test_data_for_validation_are_named_where_they_are_wrong():
    """In `train_stack`, which reads them first, and in `fit` before the width is known."""
    x = tf.data.Dataset.from_tensor_slices(EXAMPLES)
    with pytest.raises(ValueError, match="`validation_data` must be a data set of batches"):
        train_stack(EXAMPLES, [RBM(3), RBM(2)], validation_data=x, verbose=0)
    rows = (row for row in EXAMPLES)
    model = ContrastiveDivergence(RBM(3))
    model.compile()
    with pytest.raises(ValueError, match=r"^`x` must have shape"):
        model.fit(rows, validation_data=EXAMPLES, verbose=0)
