"""Arguments and shapes that the layer takes and refuses, and its contract with Keras."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import only_tensorflow
from machines import copy_of, machine
from trained import EXAMPLES

from rbm_tutorial import RBM
from rbm_tutorial.units import Gaussian

CD_UPDATE = pytest.param("cd_update", marks=only_tensorflow)
# ---------------------------------------------------------------- arguments and shapes


def test_takes_the_source_arguments_in_its_order():
    names = list(inspect.signature(RBM).parameters)[:4]
    assert names == ["number_hidden_units", "number_visible_units", "learning_rate", "cd_steps"]
    rbm = RBM(500)
    rbm.build([784])
    assert rbm.w_rec.shape == (784, 500)
    assert (rbm.learning_rate, rbm.cd_steps) == (0.1, 1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"number_hidden_units": 0}, "number_hidden_units.*Received: 0"),
        ({"number_hidden_units": 2.5}, "number_hidden_units.*Received: 2.5"),
        ({"number_hidden_units": True}, "number_hidden_units.*Received: True"),
        ({"number_visible_units": -1}, "number_visible_units.*Received: -1"),
        ({"cd_steps": 0}, "cd_steps.*Received: 0"),
        ({"learning_rate": 0.0}, "learning_rate.*Received: 0.0"),
        ({"learning_rate": "0.1"}, "learning_rate.*Received: '0.1'"),
        ({"learning_rate": float("nan")}, "learning_rate.*Received: nan"),
    ],
)
def test_refuses_arguments_that_cannot_work(arguments, named):
    with pytest.raises(ValueError, match=named):
        RBM(**arguments)


def test_takes_numbers_of_numpy():
    rbm = RBM(np.int64(5), np.int32(4), np.float32(0.5), np.int64(2))
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rbm))


@only_tensorflow
def test_cd_update_leaves_alone_what_is_not_trainable(rbm, batch):
    rbm.vb.trainable = False
    before = [np.array(p) for p in (rbm.w_rec, rbm.vb)]
    rbm.cd_update(batch)
    assert not np.allclose(rbm.w_rec, before[0])
    np.testing.assert_array_equal(rbm.vb, before[1])
    rbm.trainable = False
    frozen = np.array(rbm.w_rec)
    rbm.cd_update(batch)
    np.testing.assert_array_equal(rbm.w_rec, frozen)


def test_refuses_data_of_another_width_than_announced():
    with pytest.raises(ValueError, match="`number_visible_units`, 100"):
        RBM(4, number_visible_units=100).build([784])
    with pytest.raises(ValueError, match="input_shape"):
        RBM(4).build([None, None])


METHODS_OF_V = ["forward", "sample_h", "forward_gibbs", "free_energy", CD_UPDATE]


@pytest.mark.parametrize("shape", [(4,), (2, 1, 4), (2, 5), (2, 3)])
@pytest.mark.parametrize("method", [*METHODS_OF_V, "reconstruction_cost", "adapt"])
def test_refuses_what_is_no_batch_of_vectors(rbm, shape, method):
    """Above all the source's (batch, 1, 784), which gave wrong gradients without an error."""
    with pytest.raises(ValueError, match=r"must have shape \(batch, 4\)\. Received: "):
        getattr(rbm, method)(np.zeros(shape))


@pytest.mark.parametrize("method", ["reverse", "sample_v", "reverse_gibbs"])
def test_refuses_hidden_states_of_another_width(rbm, method):
    with pytest.raises(ValueError, match=r"`h` must have shape \(batch, 3\)\. Received: \(2, 4\)"):
        getattr(rbm, method)(np.zeros((2, 4)))


@pytest.mark.parametrize("bad", [255.0, -0.1, 1.5, np.nan, np.inf])
@pytest.mark.parametrize("method", [CD_UPDATE, "adapt"])
def test_refuses_to_learn_from_values_outside_the_unit_interval(rbm, bad, method):
    x = np.full((2, 4), bad)
    before = rbm.get_weights()
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\].*Received"):
        getattr(rbm, method)(x)
    if method == "cd_update":
        with pytest.raises(tf.errors.InvalidArgumentError, match="must lie in"):
            tf.function(rbm.cd_update)(x)
    for old, new in zip(before, rbm.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_refuses_zero_steps_and_unbuilt_layers(rbm, batch):
    with pytest.raises(ValueError, match=r"`steps`.*Received: 0"):
        rbm.forward_gibbs(batch, steps=0)
    with pytest.raises(ValueError, match="call `build"):
        RBM(3).forward(batch)


# ---------------------------------------------------------------- the Keras contract


def test_the_same_seed_gives_the_same_weights_and_draws(batch):
    first, second, other = machine(seed=1), machine(seed=1), RBM(3, seed=2)
    np.testing.assert_array_equal(first.forward_gibbs(batch), second.forward_gibbs(batch))
    fresh = [RBM(3, seed=1), RBM(3, seed=1)]
    for layer in [*fresh, other]:
        layer.build([4])
    np.testing.assert_array_equal(fresh[0].w_rec, fresh[1].w_rec)
    assert not np.allclose(fresh[0].w_rec, other.w_rec)


def test_only_methods_that_say_so_draw(rbm, exact):
    state = np.array(rbm.seed_generator.state)
    rbm.forward(exact.v), rbm.reverse(exact.h), rbm.energy(exact.v[:8], exact.h)
    rbm.free_energy(exact.v), rbm.reconstruction_cost(exact.v), rbm(exact.v), rbm.adapt(exact.v)
    np.testing.assert_array_equal(rbm.seed_generator.state, state)
    rbm.sample_h(exact.v)
    assert not np.array_equal(rbm.seed_generator.state, state)


def test_configuration_round_trip():
    arguments = {
        "number_hidden_units": 7,
        "number_visible_units": 5,
        "learning_rate": 0.03,
        "cd_steps": 2,
        "tied": False,
        "seed": 9,
        "name": "first",
        "dtype": "mixed_bfloat16",
    }
    config = RBM(**arguments).get_config()
    copy = RBM.from_config(config)
    assert copy.get_config() == config
    assert {key: getattr(copy, key) for key in arguments if key != "dtype"} == {
        key: value for key, value in arguments.items() if key != "dtype"
    }


@pytest.mark.parametrize("tied", [True, False])
def test_a_saved_model_comes_back_with_equal_weights(tmp_path, batch, tied):
    """Weights, the view of the tied ones, and the next random numbers."""
    layer = machine() if tied else machine().untie()
    model = keras.Sequential([keras.Input((4,)), layer])
    layer.sample_h(batch)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras").layers[0]
    for ours, theirs in zip(layer.get_weights(), restored.get_weights()):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(layer.w_gen, restored.w_gen)
    np.testing.assert_array_equal(layer.forward_gibbs(batch, 3), restored.forward_gibbs(batch, 3))


def test_saved_weights_come_back_with_the_random_state(tmp_path, batch):
    model, other = (keras.Sequential([keras.Input((4,)), machine(seed=s)]) for s in (1, 2))
    model.layers[0].sample_h(batch)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    ours, theirs = model.layers[0], other.layers[0]
    np.testing.assert_array_equal(ours.forward_gibbs(batch, 3), theirs.forward_gibbs(batch, 3))


@pytest.mark.filterwarnings("ignore:Gradients do not exist for variables .*vb")
def test_is_a_layer_that_fine_tunes_inside_a_network(batch):
    rbm = machine()
    before = np.array(rbm.w_rec)
    model = keras.Sequential([keras.Input((4,)), rbm, keras.layers.Dense(2, "softmax")])
    assert model.output_shape == (None, 2)
    model.compile("adam", "sparse_categorical_crossentropy")
    labels = np.arange(6) % 2
    history = model.fit(batch, labels, epochs=2, batch_size=4, verbose=0)
    assert np.all(np.isfinite(history.history["loss"]))
    assert not np.allclose(rbm.w_rec, before)
    assert rbm.compute_output_shape((None, 4)) == (None, 3)


@only_tensorflow
def test_runs_in_graph_mode_as_it_does_eagerly(rbm, batch):
    twin = copy_of(rbm)
    compiled = tf.function(twin.forward_gibbs)
    np.testing.assert_array_equal(rbm.forward_gibbs(batch), compiled(batch))
    np.testing.assert_allclose(rbm.free_energy(batch), tf.function(rbm.free_energy)(batch))


def test_half_precision_computes_close_to_single(rbm, batch):
    half = RBM(3, dtype="mixed_bfloat16")
    half.build([4])
    half.set_weights(rbm.get_weights())
    assert half.w_rec.dtype == "float32"
    probabilities = half(batch)
    assert keras.backend.standardize_dtype(probabilities.dtype) == "bfloat16"
    np.testing.assert_allclose(keras.ops.cast(probabilities, "float32"), rbm(batch), atol=0.02)
    np.testing.assert_allclose(half.free_energy(batch), rbm.free_energy(batch), rtol=0.02)
    assert np.isfinite(half.reconstruction_cost(batch))


@pytest.mark.parametrize(
    "bad",
    [255 * EXAMPLES, np.nan * EXAMPLES, EXAMPLES[:0], EXAMPLES[0]],
    ids=["0…255", "NaN", "nothing", "a vector"],
)
def test_data_that_adapt_refuses_build_nothing(bad):
    """Else a corrected `fit` would take the layer for one that starts as it is."""
    rbm = RBM(3, seed=0)
    with pytest.raises(ValueError, match="`data` must"):
        rbm.adapt(bad)
    assert not rbm.built


@pytest.mark.parametrize(
    "bad",
    [255 * EXAMPLES, np.nan * EXAMPLES, EXAMPLES[0], EXAMPLES[:, None], EXAMPLES.astype(str)],
    ids=["0…255", "NaN", "a vector", "images that are not flat", "text"],
)
@pytest.mark.parametrize("make", [np.array, keras.ops.convert_to_tensor], ids=["array", "tensor"])
def test_a_call_that_is_refused_builds_nothing(make, bad):
    rbm = RBM(3, seed=0)
    with pytest.raises(ValueError, match="`v` must"):
        rbm(bad if bad.dtype.kind == "U" else make(bad))
    assert not rbm.built
    rbm(EXAMPLES)
    assert rbm.built


def test_a_first_call_in_training_may_come_after_a_dropout():
    dropped = keras.layers.Dropout(0.5, seed=0)(EXAMPLES, training=True)
    assert keras.ops.max(dropped) == 2
    np.testing.assert_array_equal(RBM(3, seed=0)(dropped, training=True).shape, (22, 3))
    with pytest.raises(ValueError, match="`v` must lie in"):
        RBM(3, seed=0)(dropped)


def test_a_call_is_checked_in_the_precision_in_which_it_computes():
    """65,504 is where half precision ends."""
    rbm = RBM(3, dtype="mixed_float16", visible_units=Gaussian())
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="`v` must be finite"):
        rbm(1e6 * EXAMPLES)
    assert not rbm.built


class AfterDropout(keras.Model):
    """A network in which Keras passes on that it trains."""

    def __init__(self):
        super().__init__()
        self.dropout, self.rbm = keras.layers.Dropout(0.5, seed=0), RBM(3, seed=0)

    def call(self, x):
        return self.rbm(self.dropout(x))


def test_in_a_network_of_yours_too():
    assert AfterDropout()(EXAMPLES, training=True).shape == (22, 3)
