"""Contrastive divergence by `fit`: the rule of `cd_update`, its gradient, and what is reported."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import only_tensorflow
from enumerated import exact_of
from machines import copy_of, each_pair, machine, machine_of, parameters_of
from trained import EXAMPLES, assert_equal_weights, trainer

from rbm_tutorial import RBM, ContrastiveDivergence, WakeSleep, bars_and_stripes
from rbm_tutorial.keras_fit import FastFit
from rbm_tutorial.negatives import DataChains, PersistentChains
from rbm_tutorial.recovery import Backup

CHAINS = 20_000


# ---------------------------------------------------------------- the contrast and its gradient


@only_tensorflow
@pytest.mark.parametrize("steps", [1, 3])
def test_one_step_of_fit_with_sgd_is_cd_update(batch, steps):
    rbm = machine(cd_steps=steps, learning_rate=0.2)
    twin = copy_of(rbm)
    rbm.cd_update(batch)
    trainer(twin, keras.optimizers.SGD(0.2)).fit(batch, verbose=0, shuffle=False)
    for ours, theirs in zip(rbm.get_weights(), twin.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_no_model_inherits_from_the_other():
    """They share `contrast_with_model`, and what Keras leaves to do."""
    assert ContrastiveDivergence.__bases__ == WakeSleep.__bases__ == (FastFit,)


# ---------------------------------------------------------------- units of any type


def exact_statistics(exact, p_v):
    """⟨vh⟩, ⟨h⟩, ⟨v⟩ of v ~ p_v, (visible states,), by enumeration or quadrature."""
    h = exact.mean_h_given_v
    return exact.v.T @ (p_v[:, None] * h), p_v @ h, p_v @ exact.v


def exact_squares(exact):
    """The means of the squares of v E[h | v], E[h | v] and v under the model."""
    h, v, p = exact.mean_h_given_v**2, exact.v**2, exact.p_v
    return v.T @ (p[:, None] * h), p @ h, p @ v


def standard_scores(pair, negatives, rows, steps):
    """How far one update of rate 1 is from the exact gradient of log p, in standard errors."""
    rbm = machine_of(pair, scale=1.0)
    rbm.cd_steps = steps
    exact, before = exact_of(rbm), parameters_of(rbm)
    near = np.abs(exact.v).max(axis=1) <= 2
    p_data = np.eye(len(exact.v))[np.argmin(np.where(near, exact.p_v, 1))]  # a rare state
    x = np.tile(p_data @ exact.v, (rows, 1)).astype("float32")
    model = trainer(rbm, keras.optimizers.SGD(1.0), negatives=negatives)
    model.fit(x, batch_size=len(x), verbose=0)

    of_data, of_model = exact_statistics(exact, p_data), exact_statistics(exact, exact.p_v)
    squares = exact_squares(exact)
    scores = []
    for old, new, data, mean, square in zip(before, parameters_of(rbm), of_data, of_model, squares):
        standard_error = np.sqrt((square - mean**2) / CHAINS)
        scores.append(np.max(abs(new - old - (data - mean)) / standard_error))
    return max(scores)


UNITS = each_pair("classes, binary", "binary, classes", "real, binary", "binary, real")


@UNITS
def test_with_long_chains_training_follows_the_exact_gradient(pair):
    assert standard_scores(pair, PersistentChains(CHAINS), rows=1, steps=12) < 5


@UNITS
def test_with_chains_of_one_step_it_does_not(pair):
    assert standard_scores(pair, DataChains(), rows=CHAINS, steps=1) > 10


# ---------------------------------------------------------------- optimizers and rates


def test_without_an_optimizer_it_is_gradient_descent_at_the_rate_of_the_layer(batch):
    by_default, by_hand = (machine(learning_rate=0.03) for _ in range(2))
    model = ContrastiveDivergence(by_default)
    model.compile()
    assert type(model.optimizer) is keras.optimizers.SGD
    for each in (model, trainer(by_hand, keras.optimizers.SGD(0.03))):
        each.fit(batch, epochs=2, verbose=0, shuffle=False)
    assert_equal_weights(by_default, by_hand)


def test_a_rate_that_the_layer_is_given_later_counts_in_the_next_fit(batch):
    changed, constant = machine(learning_rate=0.3), machine(learning_rate=0.03)
    model, other = ContrastiveDivergence(changed), ContrastiveDivergence(constant)
    model.compile()
    other.compile()
    changed.learning_rate = 0.03
    for each in (model, other):
        each.fit(batch, verbose=0, shuffle=False)
    assert_equal_weights(changed, constant)
    model.optimizer.learning_rate = 0.01  # by a callback, say: the layer's is unchanged
    model.fit(batch, verbose=0)
    assert float(model.optimizer.learning_rate) == pytest.approx(0.01)
    changed.learning_rate = -1
    with pytest.raises(ValueError, match="`learning_rate` must"):
        model.fit(batch, verbose=0)


def test_a_rate_set_before_saving_counts_after_loading(batch, tmp_path):
    model = ContrastiveDivergence(machine(learning_rate=0.3))
    model.compile()
    model.build((None, 4))
    model.rbm.learning_rate = 0.03
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        each.fit(batch, verbose=0, shuffle=False)
    assert_equal_weights(model.rbm, loaded.rbm)
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.03)


def test_a_backup_does_not_undo_a_rate_set_after_it(batch, tmp_path):
    model = ContrastiveDivergence(machine(learning_rate=0.3))
    model.compile()
    model.fit(batch, verbose=0, callbacks=[Backup(tmp_path)])
    model.rbm.learning_rate = 0.03
    model.fit(batch, epochs=2, verbose=0, callbacks=[Backup(tmp_path)])
    assert float(model.optimizer.learning_rate) == pytest.approx(0.03)


@pytest.mark.parametrize("rate", [True, "0.1", 1e-60, 10**400, float("nan")])
def test_a_rate_that_is_none_is_named_before_anything_moves(batch, rate):
    model = ContrastiveDivergence(machine())
    model.compile()
    model.rbm.learning_rate = rate
    before = parameters_of(model.rbm)
    for _ in range(2):
        with pytest.raises(ValueError, match="`learning_rate` must"):
            model.fit(batch, verbose=0)
    for old, new in zip(before, parameters_of(model.rbm)):
        np.testing.assert_array_equal(old, new)


def test_with_an_optimizer_of_its_own_the_rate_of_the_layer_does_not_count(batch):
    model = trainer(machine(), keras.optimizers.SGD(0.25))
    model.rbm.learning_rate = 0.5
    model.fit(batch, verbose=0)
    assert float(model.optimizer.learning_rate) == 0.25


@pytest.mark.parametrize(
    "optimizer",
    [
        keras.optimizers.Adam,
        keras.optimizers.RMSprop,
        partial(keras.optimizers.SGD, momentum=0.9, weight_decay=1e-3, use_ema=True),
    ],
)
def test_takes_any_optimizer_and_several_steps_an_execution(optimizer):
    rbm = machine()
    before = rbm.get_weights()
    model = ContrastiveDivergence(rbm)
    model.compile(optimizer(), steps_per_execution=2)
    history = model.fit(EXAMPLES, batch_size=8, epochs=2, verbose=0).history
    assert set(history) == {"free_energy", "reconstruction_cost", "loss"}
    assert all(np.all(np.isfinite(values)) for values in history.values())
    assert all(not np.allclose(old, new) for old, new in zip(before, rbm.get_weights()))


@only_tensorflow  # on any backend, but JAX takes long to compile it
def test_learns_bars_and_stripes():
    """The exact likelihood rises to well above that of independent pixels, -9 log 2."""
    patterns, p = bars_and_stripes(3)
    rbm = RBM(8, cd_steps=5, seed=0)
    x = np.repeat(patterns, np.rint(p / p.min()).astype(int), axis=0)
    model = ContrastiveDivergence(rbm)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.5), steps_per_execution=50)
    batches = tf.data.Dataset.from_tensors(x).repeat(2000)
    model.fit(batches, verbose=0, shuffle=False)
    exact = exact_of(rbm)
    p_v = exact.p_v[(patterns @ (1 << np.arange(9)[::-1])).astype(int)]
    assert np.sum(p * np.log(p)) - 1.5 < np.sum(p * np.log(p_v)) < np.sum(p * np.log(p))


# ---------------------------------------------------------------- what is reported


def test_loss_is_the_difference_of_free_energies(rbm, batch):
    twin = copy_of(rbm)
    v_k = twin.forward_gibbs(batch)
    of_data, of_samples = (float(np.mean(twin.free_energy(v))) for v in (batch, v_k))
    model = trainer(rbm, keras.optimizers.SGD(1e-9))
    history = model.fit(batch, verbose=0, shuffle=False).history
    assert history["loss"][0] == pytest.approx(of_data - of_samples, rel=1e-4)
    assert history["free_energy"][0] == pytest.approx(of_data, rel=1e-4)
    cost = float(twin.reconstruction_cost(batch))
    assert history["reconstruction_cost"][0] == pytest.approx(cost, rel=1e-4)


def test_a_short_last_batch_counts_by_its_images():
    """Reported means are over examples: 22 in batches of 8, 8 and 6."""
    rbm = machine()
    expected = copy_of(rbm)
    history = trainer(rbm, keras.optimizers.SGD(1e-9)).fit(EXAMPLES, batch_size=8, verbose=0)
    reported = {key: values[0] for key, values in history.history.items()}
    cost = float(expected.reconstruction_cost(EXAMPLES))
    mean_free_energy = float(np.mean(expected.free_energy(EXAMPLES)))
    assert reported["reconstruction_cost"] == pytest.approx(cost, rel=1e-4)
    assert reported["free_energy"] == pytest.approx(mean_free_energy, rel=1e-4)
    evaluated = trainer(expected).evaluate(EXAMPLES, batch_size=8, verbose=0, return_dict=True)
    assert evaluated["reconstruction_cost"] == pytest.approx(cost, rel=1e-4)
    assert evaluated["loss"] == pytest.approx(mean_free_energy, rel=1e-4)


def fitted_weighed(every, rate=0.0):
    """A model, and its reconstruction costs after two epochs of three updates each."""
    model = ContrastiveDivergence(machine(), reconstruct_every=every)
    model.compile(keras.optimizers.SGD(rate))
    weights = np.arange(1.0, 16)
    history = model.fit(
        EXAMPLES[:15], sample_weight=weights, batch_size=5, epochs=2, shuffle=False, verbose=0
    )
    return model, history.history["reconstruction_cost"], weights


def test_the_cost_is_the_mean_over_the_updates_at_which_it_is_taken():
    """Of three updates in an epoch the first and the third."""
    model, found, weights = fitted_weighed(every=2)
    x, rbm = EXAMPLES[:15], model.rbm
    costs = rbm.visible_units.cross_entropy(x, rbm.visible_logits(rbm.forward(x)))
    costs = np.asarray(costs)
    for cost in found:
        taken = np.arange(15) // 5 != 1
        expected = np.average(costs[taken], weights=weights[taken])
        assert cost == pytest.approx(expected, rel=1e-5)
        assert cost != pytest.approx(np.average(costs, weights=weights), rel=1e-3)  # over all


def test_a_first_batch_of_no_weight_leaves_the_cost_to_the_next():
    model = ContrastiveDivergence(machine(), reconstruct_every=10)
    model.compile(keras.optimizers.SGD(0.0))
    x, rbm, weights = EXAMPLES[:12], model.rbm, np.repeat([0.0, 1.0, 1.0], 4)
    costs = rbm.visible_units.cross_entropy(x, rbm.visible_logits(rbm.forward(x)))
    history = model.fit(x, sample_weight=weights, batch_size=4, shuffle=False, verbose=0)
    found = history.history["reconstruction_cost"][0]
    assert found == pytest.approx(np.asarray(costs)[4:8].mean(), rel=1e-5)


def test_how_often_the_cost_is_taken_changes_no_weight():
    (often, *_), (seldom, *_) = (fitted_weighed(every, rate=0.1) for every in (1, 2))
    assert_equal_weights(often, seldom)


def test_how_often_is_a_count_and_is_kept_in_the_configuration():
    with pytest.raises(ValueError, match=r"`reconstruct_every`.*Received: 0"):
        ContrastiveDivergence(machine(), reconstruct_every=0)
    config = ContrastiveDivergence(machine(), reconstruct_every=3).get_config()
    assert ContrastiveDivergence.from_config(config).reconstruction_tracker.every == 3


@pytest.mark.parametrize("persistent_chains", [0, 5])
def test_validation_draws_nothing_and_changes_nothing(persistent_chains):
    with_validation, without = machine(), machine()
    fit = {"batch_size": 8, "epochs": 2, "verbose": 0, "shuffle": False}
    first = trainer(with_validation, persistent_chains=persistent_chains)
    history = first.fit(EXAMPLES, validation_data=(EXAMPLES[:7],), **fit).history
    second = trainer(without, persistent_chains=persistent_chains)
    second.fit(EXAMPLES, **fit)
    assert_equal_weights(first, second)
    expected = float(np.mean(with_validation.free_energy(EXAMPLES[:7])))
    assert history["val_free_energy"][-1] == pytest.approx(expected, rel=1e-5)


def test_penalties_of_the_layer_enter_the_training_loss_alone(batch):
    class Constant(keras.regularizers.Regularizer):
        def __call__(self, h):
            return 7.0 + 0.0 * keras.ops.sum(h)

    plain, penalized = (trainer(machine(**a)) for a in ({}, {"activity_regularizer": Constant()}))
    fit = {"shuffle": False, "verbose": 0, "validation_data": (batch,)}
    without, with_penalty = (model.fit(batch, **fit).history for model in (plain, penalized))
    # Keras divides activity penalties by the batch size, here 6.
    assert with_penalty["loss"][0] - without["loss"][0] == pytest.approx(7 / 6, abs=1e-4)
    assert with_penalty["val_loss"][0] == pytest.approx(without["val_loss"][0], abs=1e-4)


def test_predict_gives_hidden_probabilities(rbm, batch):
    np.testing.assert_allclose(
        trainer(rbm).predict(batch, verbose=0), rbm.forward(batch), atol=1e-6
    )


def test_runs_in_half_precision():
    rbm = machine(dtype="mixed_bfloat16")
    history = trainer(rbm, persistent_chains=4).fit(EXAMPLES, batch_size=8, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))


# ---------------------------------------------------------------- what is refused


def test_refuses_what_is_no_rbm():
    with pytest.raises(ValueError, match=r"`rbm` must be an RBM\. Received: Dense"):
        ContrastiveDivergence(keras.layers.Dense(3))


def test_refuses_an_untied_layer(rbm):
    with pytest.raises(ValueError, match=r"`ContrastiveDivergence` needs symmetric weights"):
        ContrastiveDivergence(rbm.untie())


def test_refuses_targets(rbm):
    with pytest.raises(
        ValueError, match=r"`y` must be left out: this model learns from `x` alone.*Received"
    ):
        trainer(rbm).fit(EXAMPLES, EXAMPLES, verbose=0)


def test_refuses_images_that_are_not_flat(rbm):
    with pytest.raises(ValueError, match=r"`x` must have shape \(batch, 4\)"):
        trainer(rbm).fit(EXAMPLES[:, None], verbose=0)
