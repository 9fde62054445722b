"""The training procedure: the same rule as `cd_update`, through Keras, and the source's loop."""

import functools
import inspect
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import (
    REFUSED_WHEN_COMPILED,
    copy_of,
    machine,
    only_tensorflow,
    parameters_of,
)

from rbm_tutorial import RBM, ContrastiveDivergence, bars_and_stripes, flatten_image, train_rbm
from rbm_tutorial.backend import batches_of, untuned

EXAMPLES = np.random.default_rng(2).integers(0, 2, size=(22, 4)).astype("float32")


def compiled(rbm, optimizer=None, **kwargs):
    model = ContrastiveDivergence(rbm, **kwargs)
    model.compile(optimizer or keras.optimizers.SGD(0.1))
    return model


def assert_equal_weights(first, second):
    for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


# ---------------------------------------------------------------- contrastive divergence by fit


@only_tensorflow
@pytest.mark.parametrize("steps", [1, 3])
def test_one_step_of_fit_with_sgd_is_cd_update(batch, steps):
    rbm = machine(cd_steps=steps, learning_rate=0.2)
    twin = copy_of(rbm)
    rbm.cd_update(batch)
    compiled(twin, keras.optimizers.SGD(0.2)).fit(batch, verbose=0, shuffle=False)
    for ours, theirs in zip(rbm.get_weights(), twin.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_loss_is_the_difference_of_free_energies(rbm, batch):
    twin = copy_of(rbm)
    v_k = twin.forward_gibbs(batch)
    of_data, of_samples = (float(np.mean(twin.free_energy(v))) for v in (batch, v_k))
    model = compiled(rbm, keras.optimizers.SGD(1e-9))
    history = model.fit(batch, verbose=0, shuffle=False).history
    assert history["loss"][0] == pytest.approx(of_data - of_samples, rel=1e-4)
    assert history["free_energy"][0] == pytest.approx(of_data, rel=1e-4)
    cost = float(twin.reconstruction_cost(batch))
    assert history["reconstruction_cost"][0] == pytest.approx(cost, rel=1e-4)


def test_a_short_last_batch_counts_by_its_images():
    """Reported means are over examples: 22 in batches of 8, 8 and 6."""
    rbm = machine()
    expected = copy_of(rbm)
    history = compiled(rbm, keras.optimizers.SGD(1e-9)).fit(EXAMPLES, batch_size=8, verbose=0)
    reported = {key: values[0] for key, values in history.history.items()}
    cost = float(expected.reconstruction_cost(EXAMPLES))
    free_energy = float(np.mean(expected.free_energy(EXAMPLES)))
    assert reported["reconstruction_cost"] == pytest.approx(cost, rel=1e-4)
    assert reported["free_energy"] == pytest.approx(free_energy, rel=1e-4)
    evaluated = compiled(expected).evaluate(EXAMPLES, batch_size=8, verbose=0, return_dict=True)
    assert evaluated["reconstruction_cost"] == pytest.approx(cost, rel=1e-4)
    assert evaluated["loss"] == pytest.approx(free_energy, rel=1e-4)


@pytest.mark.parametrize("persistent_chains", [0, 5])
def test_validation_draws_nothing_and_changes_nothing(persistent_chains):
    with_validation, without = machine(), machine()
    fit = {"batch_size": 8, "epochs": 2, "verbose": 0, "shuffle": False}
    first = compiled(with_validation, persistent_chains=persistent_chains)
    history = first.fit(EXAMPLES, validation_data=(EXAMPLES[:7],), **fit).history
    second = compiled(without, persistent_chains=persistent_chains)
    second.fit(EXAMPLES, **fit)
    assert_equal_weights(first, second)
    expected = float(np.mean(with_validation.free_energy(EXAMPLES[:7])))
    assert history["val_free_energy"][-1] == pytest.approx(expected, rel=1e-5)


@only_tensorflow  # on any backend, but JAX takes long to compile it
def test_learns_bars_and_stripes():
    """The exact likelihood rises to well above that of independent pixels, -9 log 2."""
    from rbm_tutorial.likelihood import exact_log_partition, log_likelihood

    patterns, p = bars_and_stripes(3)
    rbm = RBM(8, cd_steps=5, seed=0)
    x = np.repeat(patterns, np.rint(p / p.min()).astype(int), axis=0)
    model = ContrastiveDivergence(rbm)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.5), steps_per_execution=50)
    batches = tf.data.Dataset.from_tensors(x).repeat(2000)
    model.fit(batches, verbose=0, shuffle=False)
    likelihood = np.sum(p * log_likelihood(rbm, patterns, exact_log_partition(rbm)))
    assert np.sum(p * np.log(p)) - 1.5 < likelihood < np.sum(p * np.log(p))


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


def test_penalties_of_the_layer_enter_the_training_loss_alone(batch):
    class Constant(keras.regularizers.Regularizer):
        def __call__(self, h):
            return 7.0 + 0.0 * keras.ops.sum(h)

    plain, penalized = (compiled(machine(**a)) for a in ({}, {"activity_regularizer": Constant()}))
    fit = {"shuffle": False, "verbose": 0, "validation_data": (batch,)}
    without, with_penalty = (model.fit(batch, **fit).history for model in (plain, penalized))
    # Keras divides activity penalties by the batch size, here 6.
    assert with_penalty["loss"][0] - without["loss"][0] == pytest.approx(7 / 6, abs=1e-4)
    assert with_penalty["val_loss"][0] == pytest.approx(without["val_loss"][0], abs=1e-4)


def test_predict_gives_hidden_probabilities(rbm, batch):
    np.testing.assert_allclose(
        compiled(rbm).predict(batch, verbose=0), rbm.forward(batch), atol=1e-6
    )


def test_runs_in_half_precision():
    rbm = machine(dtype="mixed_bfloat16")
    history = compiled(rbm, persistent_chains=4).fit(EXAMPLES, batch_size=8, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))


# ---------------------------------------------------------------- persistent chains


@pytest.mark.parametrize("steps", [1, 3])
def test_persistent_chains_continue_where_they_were(batch, steps):
    rbm = machine(cd_steps=steps)
    twin = copy_of(rbm)
    model, other = (compiled(r, persistent_chains=5) for r in (rbm, twin))
    for m in (model, other):
        m.build((None, 4))
    assert set(np.unique(model.chains)) <= {0, 1}
    expected = twin.forward_gibbs(other.chains)
    model.fit(batch, batch_size=6, verbose=0)
    np.testing.assert_array_equal(model.chains, expected)
    before = np.array(model.chains)
    model.evaluate(batch, verbose=0)
    np.testing.assert_array_equal(model.chains, before)


def test_refused_data_do_not_move_the_chains():
    model = compiled(machine(), persistent_chains=5)
    model.build((None, 4))
    before = np.array(model.chains)
    with pytest.raises(REFUSED_WHEN_COMPILED, match="must lie in"):
        model.fit(7 * EXAMPLES, verbose=0)
    np.testing.assert_array_equal(model.chains, before)


def test_persistent_chains_start_at_independent_draws():
    model = compiled(machine(scale=0.0), persistent_chains=4000)
    model.build((None, 4))
    assert np.all(abs(np.mean(model.chains, axis=0) - 0.5) < 5 * 0.5 / np.sqrt(4000))


@pytest.mark.parametrize("persistent_chains", [0, 5])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, persistent_chains):
    """Weights, optimizer, chains and random state are saved: the runs agree bit for bit."""
    fit = {"batch_size": 8, "verbose": 0, "shuffle": False}
    whole, half = (
        compiled(machine(), keras.optimizers.Adam(), persistent_chains=persistent_chains)
        for _ in range(2)
    )
    whole.fit(EXAMPLES, epochs=4, **fit)
    half.fit(EXAMPLES, epochs=2, **fit)
    half.save(tmp_path / "model.keras")
    resumed = keras.models.load_model(tmp_path / "model.keras")
    resumed.fit(EXAMPLES, epochs=2, **fit)
    assert_equal_weights(whole, resumed)
    assert resumed.persistent_chains == persistent_chains


def test_backup_and_restore_resumes_after_an_interruption(tmp_path):
    class Interruption(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    fit = {"batch_size": 8, "verbose": 0, "shuffle": False, "epochs": 4}
    whole, broken, resumed = (compiled(machine(), persistent_chains=5) for _ in range(3))
    for model in (whole, broken, resumed):
        model.build((None, 4))
    whole.fit(EXAMPLES, **fit)
    backup = partial(keras.callbacks.BackupAndRestore, tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        broken.fit(EXAMPLES, callbacks=[backup(), Interruption()], **fit)
    resumed.fit(EXAMPLES, callbacks=[backup()], **fit)
    assert_equal_weights(whole, resumed)


# ---------------------------------------------------------------- batches and executions


@only_tensorflow
def test_arrays_are_batched_in_a_new_order_each_epoch():
    x = np.arange(22.0)[:, None]
    batches = batches_of(x, 8, shuffle=True)
    first, second = ([np.asarray(batch)[:, 0] for batch in batches] for _ in range(2))
    assert [len(batch) for batch in first] == [8, 8, 6]
    for epoch in (first, second):
        np.testing.assert_array_equal(np.sort(np.concatenate(epoch)), x[:, 0])
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))
    in_order = np.concatenate(list(batches_of(x, 8, shuffle=False)))
    np.testing.assert_array_equal(in_order, x)


@only_tensorflow
def test_the_order_is_that_of_keras(monkeypatch):
    def trained():
        keras.utils.set_random_seed(3)
        model = compiled(machine())
        model.fit(EXAMPLES, batch_size=4, epochs=3, verbose=0)
        return model.rbm

    ours = trained()
    monkeypatch.setattr("rbm_tutorial.training.SIMPLE", set())  # leaves the batches to Keras
    assert_equal_weights(ours, trained())


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="it is about JAX")
def test_on_jax_nothing_is_saved_of_an_epoch_with_nan(tmp_path, rbm):
    save = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    batches = tf.data.Dataset.from_tensors(7 * EXAMPLES)
    with pytest.raises(ValueError, match="must lie in"):
        compiled(rbm).fit(batches, verbose=0, shuffle=False, callbacks=save)
    assert not (tmp_path / "model.keras").exists()


def test_refuses_to_be_judged_by_values_outside_the_unit_interval(rbm):
    model = compiled(rbm)
    with pytest.raises(REFUSED_WHEN_COMPILED, match="must lie in"):
        model.evaluate(7 * EXAMPLES, verbose=0)
    with pytest.raises(REFUSED_WHEN_COMPILED, match="must lie in"):
        model.fit(EXAMPLES, validation_data=(7 * EXAMPLES,), verbose=0)


def test_an_array_gives_the_run_of_the_same_batches_from_a_data_set(rbm):
    twin = copy_of(rbm)
    fit = {"epochs": 3, "verbose": 0, "shuffle": False}
    compiled(rbm).fit(EXAMPLES, batch_size=8, **fit)
    compiled(twin).fit(tf.data.Dataset.from_tensor_slices(EXAMPLES).batch(8), **fit)
    assert_equal_weights(rbm, twin)


def test_the_number_of_updates_in_an_execution_changes_nothing(rbm):
    twin = copy_of(rbm)
    one = ContrastiveDivergence(twin)
    one.compile(keras.optimizers.SGD(0.1), steps_per_execution=1)
    for model in (compiled(rbm), one):
        model.fit(EXAMPLES, batch_size=2, epochs=2, verbose=0, shuffle=False)
    for ours, theirs in zip(rbm.get_weights(), twin.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_an_epoch_has_as_many_updates_as_were_asked_for(rbm):
    """Keras would end an epoch of 6 batches with the 16th, the end of an execution."""
    twin = copy_of(rbm)
    endless = tf.data.Dataset.from_tensor_slices(EXAMPLES).batch(2, drop_remainder=True).repeat()
    model = compiled(rbm)
    history = model.fit(endless, steps_per_epoch=6, epochs=2, shuffle=False, verbose=0).history
    assert model.optimizer.iterations == 12
    by_one = ContrastiveDivergence(twin)
    by_one.compile(keras.optimizers.SGD(0.1), steps_per_execution=1)
    expected = by_one.fit(endless, steps_per_epoch=6, epochs=2, shuffle=False, verbose=0).history
    assert history["free_energy"] == pytest.approx(expected["free_energy"], rel=1e-5)
    assert model.evaluate(endless, steps=3, verbose=0) == pytest.approx(
        by_one.evaluate(endless, steps=3, verbose=0), rel=1e-5
    )
    assert model.predict(endless, steps=3, verbose=0).shape == (6, 3)


def test_evaluating_a_few_steps_in_a_callback_does_not_disturb_training(rbm):
    model, losses = compiled(rbm), []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: losses.append(
            model.evaluate(EXAMPLES, batch_size=4, steps=3, verbose=0)[0]
        )
    )
    model.fit(EXAMPLES, epochs=2, verbose=0, callbacks=[look])
    assert len(losses) == 2
    assert model.steps_per_execution == 16


def test_takes_arguments_by_position_as_keras_does(rbm):
    model = compiled(rbm)
    endless = tf.data.Dataset.from_tensors(EXAMPLES).repeat()
    model.fit(endless, None, None, 2, 0, None, 0.0, None, False, None, None, 0, 5)
    assert model.optimizer.iterations == 10
    assert model.fit(EXAMPLES, None, 22, 3, 0, []).epoch == [0, 1, 2]
    one_step = model.evaluate(endless, None, None, 0, None, 1)
    assert one_step == pytest.approx(model.evaluate(EXAMPLES, batch_size=22, verbose=0), rel=1e-5)


def test_arrays_may_be_split_and_steps_be_single(rbm):
    """What only Keras' own batches can do goes through them."""
    model = compiled(rbm)
    history = model.fit(EXAMPLES, validation_split=0.5, verbose=0).history
    assert "val_loss" in history
    assert np.isfinite(model.train_on_batch(EXAMPLES, return_dict=True)["free_energy"])


def test_an_untied_copy_outlives_the_training_of_its_original(rbm):
    """Keras on JAX frees the memory of what it trains."""
    untied, before = rbm.untie(), rbm.get_weights()
    compiled(rbm).fit(EXAMPLES, verbose=0)
    np.testing.assert_array_equal(untied.w_rec, before[0])
    assert untied.sample_h(EXAMPLES).shape == (22, 3)


@only_tensorflow
def test_autotuning_is_off_unless_asked_for():
    batches = tf.data.Dataset.from_tensors(EXAMPLES)
    assert untuned(batches).options().autotune.enabled is False
    options = tf.data.Options()
    options.autotune.enabled = True
    assert untuned(batches.with_options(options)).options().autotune.enabled is True
    assert untuned(EXAMPLES) is EXAMPLES


def test_a_saved_model_keeps_its_optimizer(tmp_path, rbm):
    model = compiled(rbm, keras.optimizers.Adam())
    model.fit(EXAMPLES, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.steps_per_execution == 16
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# ---------------------------------------------------------------- what is refused


def test_refuses_what_is_no_rbm():
    with pytest.raises(ValueError, match=r"`rbm` must be an RBM\. Received: Dense"):
        ContrastiveDivergence(keras.layers.Dense(3))


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("nothing", [EXAMPLES[:0], tf.data.Dataset.from_tensors(EXAMPLES).take(0)])
def test_refuses_to_fit_nothing(rbm, nothing):
    with pytest.raises(ValueError, match="at least one example"):
        compiled(rbm).fit(nothing, verbose=0, shuffle=False)


@only_tensorflow
def test_xla_is_off_because_it_drops_the_check(rbm):
    model = compiled(rbm)
    assert not model.jit_compile
    with pytest.warns(UserWarning, match="doesn't support"):
        model.compile("sgd", jit_compile=True)
    assert not model.jit_compile


def test_data_sets_outside_the_unit_interval_are_refused(rbm):
    batches = tf.data.Dataset.from_tensors(7 * EXAMPLES)
    with pytest.raises(REFUSED_WHEN_COMPILED, match="must lie in"):
        compiled(rbm).fit(batches, verbose=0, shuffle=False)


@pytest.mark.parametrize("dtype", ["bool", "int32", "float64", "float16"])
@pytest.mark.parametrize("centered", [True, False])
def test_learns_from_data_sets_of_any_dtype(dtype, centered):
    expected, rbm = machine(), machine()
    fit = {"verbose": 0, "shuffle": False}
    compiled(expected, centered=centered).fit(EXAMPLES, batch_size=8, **fit)
    batches = tf.data.Dataset.from_tensor_slices(EXAMPLES.astype(dtype)).batch(8)
    compiled(rbm, centered=centered).fit(batches, **fit)
    assert_equal_weights(expected, rbm)


def test_configuration_round_trip(rbm):
    model = ContrastiveDivergence(rbm, persistent_chains=3, centered=True)
    copy = ContrastiveDivergence.from_config(model.get_config())
    assert (copy.persistent_chains, copy.centered) == (3, True)
    assert copy.rbm.get_config() == rbm.get_config()


def test_refuses_an_untied_layer(rbm):
    with pytest.raises(ValueError, match=r"`ContrastiveDivergence` needs symmetric weights"):
        ContrastiveDivergence(rbm.untie())


@pytest.mark.parametrize("chains", [-1, 2.0, True])
def test_refuses_impossible_numbers_of_chains(rbm, chains):
    with pytest.raises(ValueError, match=f"`persistent_chains`.*Received: {chains}"):
        ContrastiveDivergence(rbm, persistent_chains=chains)


def test_refuses_targets(rbm):
    with pytest.raises(ValueError, match="learns from `x` alone"):
        compiled(rbm).fit(EXAMPLES, EXAMPLES, verbose=0)


@pytest.mark.parametrize("bad", [255.0, -1.0, np.nan])
@pytest.mark.parametrize("persistent_chains", [0, 5])
def test_values_outside_the_unit_interval_stop_fit_before_anything_is_learned(
    bad, persistent_chains
):
    x = EXAMPLES.copy()
    x[3, 2] = bad
    rbm = machine()
    before = rbm.get_weights()
    with pytest.raises(REFUSED_WHEN_COMPILED, match="must lie in"):
        compiled(rbm, persistent_chains=persistent_chains).fit(x, batch_size=22, verbose=0)
    for old, new in zip(before, rbm.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_refuses_images_that_are_not_flat(rbm):
    with pytest.raises(ValueError, match="ndim"):
        compiled(rbm).fit(EXAMPLES[:, None], verbose=0)


# ---------------------------------------------------------------- train_rbm


class Costs(keras.callbacks.Callback):
    """Replaces the epochs' reconstruction costs by given ones and counts the epochs."""

    def __init__(self, costs):
        super().__init__()
        self.costs, self.epochs = costs, 0

    def on_epoch_end(self, epoch, logs=None):
        logs["reconstruction_cost"] = self.costs[epoch]
        self.epochs += 1


def epochs_until_stop(monkeypatch, costs, tolerance):
    """How many epochs `train_rbm` runs when its epochs report these costs."""
    given = Costs(costs)
    original = keras.Model.fit

    @functools.wraps(original)
    def fit(self, *args, callbacks, **kwargs):
        return original(self, *args, callbacks=[given, *callbacks], **kwargs)

    monkeypatch.setattr(keras.Model, "fit", fit)
    train_rbm(RBM(2, seed=0), EXAMPLES, num_epochs=len(costs), tolerance=tolerance, verbose=0)
    return given.epochs


def test_stops_at_the_first_change_within_tolerance_and_not_before(monkeypatch):
    assert epochs_until_stop(monkeypatch, [9.0, 8.0, 7.0, 6.5, 5.0, 4.0], tolerance=0.5) == 4
    monkeypatch.undo()
    assert epochs_until_stop(monkeypatch, [9.0, 8.0, 8.5, 5.0], tolerance=0.5) == 3
    monkeypatch.undo()
    assert epochs_until_stop(monkeypatch, [9.0, 8.0, 7.0, 6.0], tolerance=0.5) == 4


def test_stops_at_a_cost_of_exactly_zero():
    """The source takes a cost of 0 for none yet."""
    rbm = RBM(1, seed=0)
    rbm.build([4])
    rbm.vb.assign(4 * [200.0])
    history = keras.callbacks.History()
    train_rbm(rbm, np.ones((8, 4)), num_epochs=50, verbose=0, callbacks=[history])
    assert history.history["reconstruction_cost"] == [0.0, 0.0]


def digits(count):
    """Examples as TFDS gives them, of 2×2 pixels."""
    images = np.random.default_rng(0).integers(0, 256, size=(count, 2, 2, 1), dtype="uint8")
    return tf.data.Dataset.from_tensor_slices({"image": images, "label": np.arange(count) % 10})


def test_takes_the_source_call_as_printed():
    names = list(inspect.signature(train_rbm).parameters)
    assert names[:7] == [
        "rbm", "data", "map_fn", "num_epochs", "tolerance", "batch_size", "shuffle_buffer",
    ]  # fmt: skip
    rbm = RBM(5, seed=0)
    rbm.build([4])
    assert train_rbm(rbm, digits(20), partial(flatten_image, label=False), 2, 0.5, 2000) is rbm


def test_uses_the_learning_rate_of_the_layer():
    """The first step from the same draws is ten times as long."""
    slow, fast = (RBM(3, learning_rate=rate, seed=0) for rate in (0.01, 0.1))
    start = RBM(3, seed=0)
    start.build([4])
    for rbm in (slow, fast):
        train_rbm(rbm, EXAMPLES, num_epochs=1, verbose=0)
    change = [np.array(rbm.w_rec) - np.array(start.w_rec) for rbm in (slow, fast)]
    np.testing.assert_allclose(10 * change[0], change[1], atol=1e-6)


def test_trains_on_images_with_and_without_labels():
    with_labels, without = RBM(3, seed=0), RBM(3, seed=0)
    train_rbm(with_labels, digits(20), flatten_image, num_epochs=2, verbose=0)
    train_rbm(without, digits(20), partial(flatten_image, label=False), num_epochs=2, verbose=0)
    assert_equal_weights(with_labels, without)


def test_the_same_seed_gives_the_same_run():
    runs = [RBM(3, seed=seed) for seed in (0, 0, 1)]
    for rbm in runs:
        train_rbm(rbm, EXAMPLES, num_epochs=2, batch_size=4, verbose=0)
    assert_equal_weights(runs[0], runs[1])
    assert not np.allclose(runs[0].w_rec, runs[2].w_rec)


def test_examples_are_shuffled_anew_each_epoch(monkeypatch):
    epochs = []

    def fit(self, batches, **kwargs):
        epochs.extend([np.concatenate(list(batches)).tolist() for _ in range(2)])

    monkeypatch.setattr(ContrastiveDivergence, "fit", fit)
    train_rbm(RBM(3, seed=0), EXAMPLES, batch_size=4)
    given = EXAMPLES.tolist()
    assert epochs[0] != epochs[1] != given != epochs[0]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(given)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_empty_data_is_an_error_that_says_so():
    unknown = tf.data.Dataset.from_generator(lambda: [], output_signature=tf.TensorSpec((4,)))
    for nothing in (np.zeros((0, 4)), digits(20).take(0), unknown):
        with pytest.raises(ValueError, match="must hold at least one example"):
            to_image = (lambda x: x) if nothing is unknown else flatten_image
            train_rbm(RBM(3), nothing, to_image, verbose=0)
    with pytest.raises(ValueError, match="`data` must end"):
        train_rbm(RBM(3), digits(20).repeat(), verbose=0)


@pytest.mark.parametrize(
    "argument", [{"num_epochs": 0}, {"batch_size": 0}, {"shuffle_buffer": 0}, {"tolerance": -1.0}]
)
def test_train_rbm_refuses_arguments_that_cannot_work(argument):
    with pytest.raises(ValueError, match=f"`{next(iter(argument))}`"):
        train_rbm(RBM(3), EXAMPLES, **argument)


def test_train_rbm_refuses_images_that_were_not_scaled():
    with pytest.raises(REFUSED_WHEN_COMPILED, match="must lie in"):
        train_rbm(RBM(3), 255 * EXAMPLES, verbose=0)


# ---------------------------------------------------------------- the centered gradient


def flipped(rbm):
    """The machine of 1 - v: the same distribution with the names of the pixel values exchanged."""
    other = copy_of(rbm)
    w, hb, vb = (np.array(p) for p in (rbm.w_rec, rbm.hb, rbm.vb))
    for parameter, value in [(other.w_rec, -w), (other.vb, -vb), (other.hb, hb + w.sum(axis=0))]:
        parameter.assign(value)
    return other


def trained(rbm, x, x_k, centered, steps=5):
    """`rbm` after some steps with given negative samples."""
    model = compiled(rbm, keras.optimizers.SGD(0.2), centered=centered)
    model.sample_negatives = lambda x, h: keras.ops.convert_to_tensor(x_k)
    model.fit(x, batch_size=len(x), epochs=steps, verbose=0)
    return rbm


@pytest.mark.parametrize("centered", [True, False])
def test_only_the_centered_gradient_is_invariant_to_flipping_the_bits(rbm, exact, centered):
    x, x_k = EXAMPLES[:8], 1 - EXAMPLES[8:20]
    learned = trained(copy_of(rbm), x, x_k, centered)
    learned_from_flipped = trained(flipped(rbm), 1 - x, 1 - x_k, centered)
    free_energy = np.asarray(learned.free_energy(exact.v))
    of_flipped = np.asarray(learned_from_flipped.free_energy(1 - exact.v))
    difference = (free_energy - free_energy.mean()) - (of_flipped - of_flipped.mean())
    assert (abs(difference).max() < 1e-5) == centered


def test_centered_and_plain_parameters_define_the_same_distribution(rbm, exact):
    """-(v - μ)·a - (h - λ)·b - (v - μ)·W·(h - λ), enumerated, against the layer."""
    w, hb, vb = parameters_of(rbm)
    mu, lam = np.array([0.1, 0.9, 0.5, 0.3]), np.array([0.2, 0.7, 0.4])
    a, b = vb + w @ lam, hb + mu @ w
    v, h = exact.v - mu, exact.h - lam
    energy = -(v @ a)[:, None] - h @ b - v @ w @ h.T
    p = np.exp(-energy) / np.exp(-energy).sum()
    np.testing.assert_allclose(p, exact.joint, rtol=1e-9)


def test_offsets_follow_the_data_and_not_the_chains(rbm, batch):
    model = compiled(rbm, keras.optimizers.SGD(1e-9), persistent_chains=7, centered=True)
    model.fit(batch, verbose=0, epochs=3, shuffle=False)
    share = 1 - 0.99**3
    for offset, mean in [
        (model.visible_offset, batch.mean(axis=0)),
        (model.hidden_offset, np.mean(rbm.forward(batch), axis=0)),
    ]:
        np.testing.assert_allclose(offset, 0.5 * (1 - share) + mean * share, atol=1e-6)


def test_the_centered_step_is_that_of_the_centered_parameters(rbm, batch):
    """One ascent in (W, a, b) of the centered energy, carried back to the layer's parameters."""
    w, hb, vb = parameters_of(rbm)
    twin = copy_of(rbm)
    v_k = np.asarray(twin.forward_gibbs(batch), "float64")
    mu = 0.99 * 0.5 + 0.01 * batch.mean(axis=0)
    lam = 0.99 * 0.5 + 0.01 * np.asarray(twin.forward(batch)).mean(axis=0)

    def statistics(v):
        h = 1 / (1 + np.exp(-(v @ w + hb)))
        return (v - mu).T @ (h - lam) / len(v), h.mean(axis=0), v.mean(axis=0)

    dw, dhb, dvb = (0.1 * (d - m) for d, m in zip(statistics(batch), statistics(v_k)))
    a, b = vb + w @ lam + dvb, hb + mu @ w + dhb
    expected = w + dw, b - mu @ (w + dw), a - (w + dw) @ lam
    compiled(rbm, centered=True).fit(batch, verbose=0, shuffle=False)
    for value, parameter in zip(expected, (rbm.w_rec, rbm.hb, rbm.vb)):
        np.testing.assert_allclose(parameter, value, atol=1e-6)
