"""The layer against the enumerated machine, and its contracts with Keras."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    copy_of,
    enumerate_machine,
    machine,
    only_tensorflow,
    parameters_of,
    states,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rbm_tutorial import RBM

# ---------------------------------------------------------------- the distribution, exactly


def test_energy_of_every_joint_state(rbm, exact):
    v, h = np.repeat(exact.v, len(exact.h), axis=0), np.tile(exact.h, (len(exact.v), 1))
    np.testing.assert_allclose(rbm.energy(v, h), exact.energy.ravel(), atol=1e-5)


def test_free_energy_sums_over_hidden_units(rbm, exact):
    free_energy = rbm.free_energy(exact.v)
    assert free_energy.shape == (16,)
    np.testing.assert_allclose(free_energy, exact.free_energy, atol=1e-5)


def test_probabilities_sum_to_one(rbm, exact):
    p = np.exp(-np.asarray(rbm.free_energy(exact.v), "float64") - exact.log_z)
    assert p.sum() == pytest.approx(1, abs=1e-6)


def test_conditionals_are_those_of_the_joint_distribution(rbm, exact):
    np.testing.assert_allclose(rbm.forward(exact.v), exact.mean_h_given_v, atol=1e-6)
    np.testing.assert_allclose(rbm.reverse(exact.h), exact.mean_v_given_h, atol=1e-6)
    np.testing.assert_array_equal(rbm(exact.v), rbm.forward(exact.v))


@settings(max_examples=30, deadline=None)
@given(
    visible=st.integers(1, 6),
    hidden=st.integers(1, 5),
    scale=st.sampled_from([0.0, 0.1, 1.0, 5.0]),
    seed=st.integers(0, 1000),
)
def test_free_energy_and_conditionals_of_machines_of_any_shape(visible, hidden, scale, seed):
    rbm = machine(visible, hidden, scale, seed)
    exact = enumerate_machine(*parameters_of(rbm))
    np.testing.assert_allclose(rbm.free_energy(exact.v), exact.free_energy, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(rbm.forward(exact.v), exact.mean_h_given_v, atol=1e-5)
    np.testing.assert_allclose(rbm.reverse(exact.h), exact.mean_v_given_h, atol=1e-5)


# ---------------------------------------------------------------- sampling


def chain_ends(rbm, steps=60, chains=8000):
    """Ends of independent chains that start anywhere, as numbers of the state."""
    start = states(rbm.number_visible_units)[np.arange(chains) % 2**rbm.number_visible_units]
    v = np.asarray(rbm.forward_gibbs(start, steps), dtype=int)
    return v @ (1 << np.arange(v.shape[1])[::-1])


def p_value(ends, p_v):
    counts = np.bincount(ends, minlength=len(p_v))
    return stats.chisquare(counts, len(ends) * p_v).pvalue


def test_gibbs_samples_follow_the_enumerated_distribution(rbm, exact):
    assert p_value(chain_ends(rbm), exact.p_v) > 1e-3


class WarmSampler(RBM):
    """Wrong: draws the visible units at a temperature of 1.25."""

    def reverse(self, h):
        return keras.ops.sigmoid(self._visible_logits(h) / 1.25)


class SharedNoise(RBM):
    """Wrong: one row of noise for the whole batch, as in the source."""

    def _bernoulli(self, p):
        uniform = keras.random.uniform((1, p.shape[1]), seed=self.seed_generator)
        return keras.ops.cast(uniform < p, p.dtype)


@pytest.mark.parametrize("wrong", [WarmSampler, SharedNoise])
def test_a_wrong_sampler_fails_the_same_test(rbm, exact, wrong):
    sampler = wrong(3, seed=0)
    sampler.build([4])
    sampler.set_weights(rbm.get_weights())
    assert p_value(chain_ends(sampler), exact.p_v) < 1e-9


def test_reverse_gibbs_follows_the_enumerated_hidden_distribution(rbm, exact):
    start = states(3)[np.arange(8000) % 8]
    h = np.asarray(rbm.reverse_gibbs(start, 60), dtype=int)
    assert p_value(h @ [4, 2, 1], exact.p_h) > 1e-3


def test_samples_follow_the_probabilities_not_the_input(rbm):
    """The source compares the input with the noise."""
    v = np.repeat(states(4), 2000, axis=0)
    h = np.asarray(rbm.sample_h(v)).reshape(16, 2000, 3)
    assert set(np.unique(h)) == {0, 1}
    p = np.asarray(rbm.forward(states(4)))
    standard_error = np.sqrt(p * (1 - p) / 2000)
    assert np.all(abs(h.mean(axis=1) - p) < 5 * standard_error)


def test_equal_rows_of_a_batch_draw_their_own_noise():
    """The mean of 10,000 draws at p = 1/2 has a standard error of 0.005; shared ones have none."""
    rbm = RBM(100, seed=0)
    rbm.build([2])
    h = np.asarray(rbm.sample_h(np.zeros((10_000, 2))))
    assert np.all(abs(h.mean(axis=0) - 0.5) < 5 * 0.005)
    assert abs(np.corrcoef(h[0::2].ravel(), h[1::2].ravel())[0, 1]) < 5 / np.sqrt(h.size / 2)


def test_steps_of_a_chain_are_counted():
    """On a machine of strong couplings the state alternates, so that parity counts the steps."""
    rbm = RBM(1, cd_steps=3)
    rbm.build([1])
    rbm.w_rec.assign([[-200.0]])
    rbm.hb.assign([100.0])
    rbm.vb.assign([100.0])
    flip = {"h": lambda x: 1 - np.asarray(rbm.sample_h(x)), "v": lambda x: rbm.sample_v(1 - x)}
    v = np.array([[1.0], [0.0]])
    np.testing.assert_array_equal(flip["h"](v), v)  # h = 1 - v, v = 1 - h: a copier
    np.testing.assert_array_equal(rbm.forward_gibbs(v), v)
    calls = []
    rbm.sample_v = lambda h: calls.append(1) or v
    rbm.forward_gibbs(v)
    rbm.forward_gibbs(v, steps=2)
    rbm.reverse_gibbs(v)
    rbm.reverse_gibbs(v, steps=1)
    assert len(calls) == 3 + 2 + 3 + 1


def test_a_perfect_copier_has_learned_nothing():
    """Reconstruction cost 0 while every image is equally probable: it measures no likelihood."""
    rbm = RBM(4, seed=0)
    rbm.build([4])
    rbm.w_rec.assign(40 * np.eye(4))
    rbm.hb.assign(4 * [-20.0])
    rbm.vb.assign(4 * [-20.0])
    v = states(4)
    np.testing.assert_array_equal(rbm.forward_gibbs(v), v)
    assert float(rbm.reconstruction_cost(v)) == pytest.approx(0, abs=1e-4)
    exact = enumerate_machine(*parameters_of(rbm))
    np.testing.assert_allclose(exact.p_v, 1 / 16, rtol=1e-6)


# ---------------------------------------------------------------- numerical range


@only_tensorflow
def test_free_energy_and_its_gradient_are_finite_at_any_activation():
    rbm = RBM(3, seed=0)
    rbm.build([4])
    for weight in (-1e3, 1e3):
        rbm.w_rec.assign(np.full((4, 3), weight))
        v = tf.constant(states(4), tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(v)
            free_energy = rbm.free_energy(v)
        exact = enumerate_machine(*parameters_of(rbm))
        np.testing.assert_allclose(free_energy, exact.free_energy, rtol=1e-6)
        assert np.all(np.isfinite(tape.gradient(free_energy, v)))


def test_reconstruction_cost_is_finite_and_positive_in_nats():
    """Computed as log σ and log(1 - σ) it is NaN here; the true cost is the activation itself."""
    rbm = RBM(1)
    rbm.build([1])
    rbm.w_rec.assign([[0.0]])
    for activation in (-1e3, -20.0, 20.0, 1e3):
        rbm.vb.assign([activation])
        for x in (0.0, 1.0):
            wrong = (activation > 0) != (x > 0)
            expected = abs(activation) if wrong else 0
            assert float(rbm.reconstruction_cost([[x]])) == pytest.approx(expected, abs=1e-6)


def test_reconstruction_cost_sums_pixels_and_averages_images(rbm, batch):
    y = np.asarray(rbm.reverse(rbm.forward(batch)), "float64")
    cross_entropy = -(batch * np.log(y) + (1 - batch) * np.log(1 - y))
    expected = cross_entropy.sum(axis=1).mean()
    assert float(rbm.reconstruction_cost(batch)) == pytest.approx(expected, rel=1e-5)


# ---------------------------------------------------------------- learning


def statistics_gradient(rbm, x, v_k):
    """⟨vh⟩ of the model's sample minus that of the data, in NumPy: for w_rec, hb, vb."""
    w, hb, _ = parameters_of(rbm)

    def expectations(v):
        v = np.asarray(v, "float64")
        h = 1 / (1 + np.exp(-(v @ w + hb)))
        return v.T @ h / len(v), h.mean(axis=0), v.mean(axis=0)

    return [model - data for data, model in zip(expectations(x), expectations(v_k))]


@only_tensorflow
@pytest.mark.parametrize("steps", [1, 3])
def test_cd_update_moves_along_the_difference_of_statistics(batch, steps):
    rbm = machine(cd_steps=steps, learning_rate=0.2)
    before, twin = rbm.get_weights(), copy_of(rbm)
    gradient = statistics_gradient(rbm, batch, twin.forward_gibbs(batch))
    cost = rbm.cd_update(batch)
    for old, new, g in zip(before, rbm.get_weights(), gradient):
        np.testing.assert_allclose(new, old - 0.2 * g, atol=1e-6)
    assert cost == rbm.reconstruction_cost(batch)


@only_tensorflow
def test_cd_update_runs_in_graph_mode_as_it_does_eagerly(rbm, batch):
    twin = copy_of(rbm)
    compiled = tf.function(twin.cd_update)
    for _ in range(3):
        cost, twin_cost = rbm.cd_update(batch), compiled(batch)
    assert float(twin_cost) == pytest.approx(float(cost), rel=1e-5)
    for ours, theirs in zip(rbm.get_weights(), twin.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@only_tensorflow
def test_the_negative_sample_is_a_constant_even_if_it_is_a_probability(rbm, batch):
    """A sample has no gradient of its own; the mean field has, and it must not be followed."""
    v_k = rbm.reverse(rbm.forward(batch))
    gradient = statistics_gradient(rbm, batch, v_k)
    before = rbm.get_weights()
    rbm.forward_gibbs = lambda v: rbm.reverse(rbm.forward(v))
    rbm.cd_update(batch)
    for old, new, g in zip(before, rbm.get_weights(), gradient):
        np.testing.assert_allclose(new, old - rbm.learning_rate * g, atol=1e-6)


def test_a_long_chain_gives_the_gradient_of_the_enumerated_likelihood():
    """Within five standard errors; a chain of one step, which is CD-1, is far outside."""
    rbm = machine(scale=2.0)
    exact = enumerate_machine(*parameters_of(rbm))
    data = exact.v[[np.argmin(exact.p_v)]]
    parameters = [tf.Variable(p) for p in parameters_of(rbm)]
    with tf.GradientTape() as tape:
        w, hb, vb = parameters

        def free_energy(v):
            return -tf.linalg.matvec(v, vb) - tf.reduce_sum(tf.nn.softplus(v @ w + hb), axis=1)

        negative_log_likelihood = tf.reduce_mean(free_energy(data)) + tf.reduce_logsumexp(
            -free_energy(exact.v)
        )
    true = tape.gradient(negative_log_likelihood, w).numpy()

    def standard_scores(steps):
        x = np.tile(data, (5000, 1))
        v = np.asarray(rbm.forward_gibbs(x, steps), "float64")
        h = np.asarray(rbm.forward(v), "float64")
        products = v[:, :, None] * h[:, None, :]
        positive = data.T @ np.asarray(rbm.forward(data), "float64") / len(data)
        error = products.mean(axis=0) - positive - true
        return abs(error) / (products.std(axis=0) / np.sqrt(len(v)))

    assert standard_scores(100).max() < 5
    assert standard_scores(1).max() > 10


# ---------------------------------------------------------------- tied and untied


@only_tensorflow
def test_tied_weights_are_one_variable_before_and_after_updates(rbm, batch):
    for _ in range(2):
        np.testing.assert_array_equal(rbm.w_gen, np.transpose(rbm.w_rec))
        assert [weight.name for weight in rbm.trainable_weights] == ["w_rec", "hb", "vb"]
        rbm.cd_update(batch)


def test_untie_starts_from_the_same_conditionals_and_leaves_the_layer_alone(rbm, exact):
    untied = rbm.untie()
    np.testing.assert_array_equal(untied.forward(exact.v), rbm.forward(exact.v))
    np.testing.assert_array_equal(untied.reverse(exact.h), rbm.reverse(exact.h))
    assert not untied.tied
    assert rbm.tied
    assert len(untied.trainable_weights) == 4
    untied.w_gen.assign(np.zeros((3, 4)))
    assert not np.allclose(untied.w_gen, np.transpose(untied.w_rec))
    assert not np.allclose(rbm.w_gen, 0)
    np.testing.assert_array_equal(untied.untie().w_gen, untied.w_gen)


def test_untie_keeps_the_settings_and_goes_on_with_the_random_state(batch):
    class Subclass(RBM):
        pass

    rbm = Subclass(3, learning_rate=0.3, cd_steps=4, seed=5)
    rbm.build([4])
    rbm.sample_h(batch)
    untied = rbm.untie()
    changed = {"tied": False, "name": untied.name}
    assert untied.get_config() == {**rbm.get_config(), **changed}
    assert type(untied) is Subclass
    np.testing.assert_array_equal(untied.sample_h(batch), rbm.sample_h(batch))


CD_UPDATE = pytest.param("cd_update", marks=only_tensorflow)


@pytest.mark.parametrize("method", ["energy", "free_energy", CD_UPDATE])
def test_an_untied_layer_has_no_energy_and_says_so(rbm, exact, method):
    untied = rbm.untie()
    arguments = (exact.v[:8], exact.h) if method == "energy" else (exact.v,)
    with pytest.raises(ValueError, match=rf"`{method}` needs symmetric weights.*tied=False"):
        getattr(untied, method)(*arguments)


def test_untie_needs_weights():
    with pytest.raises(ValueError, match="call `build` first"):
        RBM(3).untie()


# ---------------------------------------------------------------- starting values


def test_initial_values_are_small_weights_and_no_biases():
    rbm = RBM(500, seed=0)
    rbm.build([784])
    w = np.asarray(rbm.w_rec)
    assert w.mean() == pytest.approx(0, abs=5 * 0.01 / np.sqrt(w.size))
    assert w.std() == pytest.approx(0.01, rel=5 / np.sqrt(2 * w.size))
    assert not np.any(rbm.hb)
    assert not np.any(rbm.vb)


@pytest.mark.parametrize("as_dataset", [False, True])
def test_adapt_makes_visible_biases_the_base_rates(as_dataset):
    x = np.random.default_rng(0).random((50, 5)).astype("float32")
    x[:, 0], x[:, 1] = 0, 1
    rbm = RBM(3)
    rbm.adapt(tf.data.Dataset.from_tensor_slices(x).batch(7) if as_dataset else x)
    expected = np.clip(x.mean(axis=0), 0.001, 0.999)
    np.testing.assert_allclose(rbm.reverse(np.zeros((1, 3)))[0], expected, rtol=1e-4)


def test_adapt_sums_in_single_precision():
    """In bfloat16 a sum of ones stops at 256."""
    x = np.repeat([[1.0], [0.0]], 1000, axis=0)
    rbm = RBM(1, dtype="bfloat16")
    rbm.adapt(tf.data.Dataset.from_tensor_slices(x).batch(1))
    assert float(rbm.vb[0]) == pytest.approx(0, abs=1e-3)


def test_adapt_refuses_data_without_end_and_images_that_are_not_flat():
    with pytest.raises(ValueError, match="`data` must end"):
        RBM(3).adapt(tf.data.Dataset.from_tensors(np.zeros((2, 5))).repeat())
    rbm = RBM(3)
    with pytest.raises(ValueError, match="`input_shape` must be"):
        rbm.adapt(np.zeros((2, 1, 5)))
    assert not rbm.built


@pytest.mark.parametrize("data", [np.zeros((0, 5)), tf.data.Dataset.range(0)])
def test_adapt_refuses_empty_data(data):
    with pytest.raises(ValueError, match="at least one example"):
        RBM(3, number_visible_units=5).adapt(data)


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
