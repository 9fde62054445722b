"""Learning, tied and untied weights, and starting values of the layer."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import only_tensorflow
from enumerated import enumerate_machine, statistics
from machines import copy_of, machine, parameters_of

from rbm_tutorial import RBM

# ---------------------------------------------------------------- learning


def statistics_gradient(rbm, x, v_k):
    """⟨vh⟩ of the model's sample minus that of the data, in NumPy: for w_rec, hb, vb."""
    w, hb, _ = parameters_of(rbm)
    of_data, of_model = (statistics(np.asarray(v, "float64"), w, hb) for v in (x, v_k))
    return [model - data for data, model in zip(of_data, of_model)]


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


class MeanFieldRBM(RBM):
    """An RBM whose chains hold probabilities instead of samples."""

    def forward_gibbs(self, v):
        return self.reverse(self.forward(v))


@only_tensorflow
def test_the_negative_sample_is_a_constant_even_if_it_is_a_probability(batch):
    """A sample has no gradient of its own; the mean field has, and it must not be followed."""
    rbm = MeanFieldRBM(3)
    rbm.build((None, 4))
    rbm.set_weights(machine().get_weights())
    gradient = statistics_gradient(rbm, batch, rbm.forward_gibbs(batch))
    before = rbm.get_weights()
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


def test_untie_keeps_the_settings_and_draws_numbers_of_its_own(batch):
    class Subclass(RBM):
        pass

    rbm = Subclass(3, learning_rate=0.3, cd_steps=4, seed=5)
    rbm.build([4])
    rbm.sample_h(batch)
    untied = rbm.untie()
    changed = {"tied": False, "name": untied.name}
    assert untied.get_config() == {**rbm.get_config(), **changed}
    assert type(untied) is Subclass
    one, other = (
        np.asarray(layer.sample_h(np.repeat(batch, 500, axis=0))) for layer in (untied, rbm)
    )
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / np.sqrt(one.size)


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


def test_adapt_leaves_labels_out_and_says_what_is_no_batch_of_images():
    x, labels = np.random.default_rng(0).random((50, 5)), np.arange(50)
    alone, labeled = RBM(3), RBM(3)
    alone.adapt(x)
    labeled.adapt(tf.data.Dataset.from_tensor_slices((x, labels)).batch(7))
    np.testing.assert_allclose(labeled.vb, alone.vb, rtol=1e-5)
    examples = tf.data.Dataset.from_tensor_slices({"image": x, "label": labels}).batch(7)
    with pytest.raises(ValueError, match=r"`data` must be .* `data\.map.*Received examples of"):
        RBM(3).adapt(examples)


def test_adapt_sums_in_single_precision():
    """In bfloat16 a sum of ones stops at 256."""
    x = np.repeat([[1.0], [0.0]], 300, axis=0)
    rbm = RBM(1, dtype="bfloat16")
    rbm.adapt(tf.data.Dataset.from_tensor_slices(x).batch(1))
    assert float(rbm.vb[0]) == pytest.approx(0, abs=1e-3)


def test_adapt_refuses_data_without_end_and_images_that_are_not_flat():
    with pytest.raises(ValueError, match="`data` must end"):
        RBM(3).adapt(tf.data.Dataset.from_tensors(np.zeros((2, 5))).repeat())
    rbm = RBM(3)
    with pytest.raises(ValueError, match="`data` must have shape"):
        rbm.adapt(np.zeros((2, 1, 5)))
    assert not rbm.built


@pytest.mark.parametrize(
    "data", [np.zeros((0, 5)), tf.data.Dataset.from_tensors(np.zeros((2, 5))).take(0)]
)
def test_adapt_refuses_empty_data(data):
    with pytest.raises(ValueError, match="at least one example"):
        RBM(3, number_visible_units=5).adapt(data)
