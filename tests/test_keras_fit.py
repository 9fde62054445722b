"""`fit` as a user of Keras expects it: batches, executions, resumption, and bad data refused."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REFUSED_WHEN_COMPILED
from machines import copy_of, machine
from trained import EXAMPLES, assert_equal_weights, trainer

from rbm_tutorial import ContrastiveDivergence
from rbm_tutorial.executions import UPDATES_AN_EXECUTION
from rbm_tutorial.keras_fit import FastFit, RaiseOnNaN


class MeanOfData(FastFit):
    """What `fit` needs to know of a model: no RBM, one vector that goes to the mean of the data."""

    def build(self, input_shape):
        self.mean = self.add_weight(shape=input_shape[1:], initializer="zeros", name="mean")

    def call(self, x):
        return x - self.mean

    default_rate = 0.5

    def check(self, x, y=None, learns=True):
        if np.min(x) < 0:
            raise ValueError("`x` must not be negative")

    def batch_loss(self, x, y, y_pred, weights, training):
        return keras.ops.mean(keras.ops.sum((x - self.mean) ** 2, axis=1)) / 2


# ---------------------------------------------------------------- any model


def test_fits_a_model_that_is_no_rbm():
    """Half of the way to the mean in each update."""
    model = MeanOfData()
    model.compile()
    history = model.fit(EXAMPLES, batch_size=22, epochs=3, verbose=0).history
    np.testing.assert_allclose(model.mean, (1 - 0.5**3) * EXAMPLES.mean(axis=0), rtol=1e-5)
    assert list(history) == ["loss"]
    rest = EXAMPLES - np.asarray(model.mean)
    np.testing.assert_allclose(model.predict(EXAMPLES, verbose=0), rest, atol=1e-6)
    assert model.evaluate(EXAMPLES, batch_size=22, verbose=0) == pytest.approx(
        np.mean(np.sum(rest**2, axis=1)) / 2, rel=1e-5
    )


def test_the_model_chooses_an_optimizer_and_takes_another():
    model = MeanOfData()
    model.compile()
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert model.optimizer.learning_rate == 0.5
    assert model.steps_per_execution == UPDATES_AN_EXECUTION
    model.compile("adam", steps_per_execution=3)
    assert isinstance(model.optimizer, keras.optimizers.Adam)
    assert model.steps_per_execution == 3


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch"])
def test_a_model_that_was_not_compiled_says_so(rbm, method):
    with pytest.raises(ValueError, match="compile"):
        getattr(ContrastiveDivergence(rbm), method)(EXAMPLES)


def test_predicting_needs_no_compiling(rbm):
    predicted = ContrastiveDivergence(rbm).predict(EXAMPLES, verbose=0)
    np.testing.assert_allclose(predicted, rbm.forward(EXAMPLES), atol=1e-6)


def test_refuses_a_loss_since_the_model_has_its_own(rbm):
    with pytest.raises(ValueError, match=r"`loss` must be left out.*Received: 'mse'"):
        ContrastiveDivergence(rbm).compile("sgd", "mse")


def test_a_changed_setting_takes_effect_in_the_next_run(rbm):
    """Compiled functions alone would keep the number of steps that they were traced with."""
    model = trainer(rbm, persistent_chains=5)
    model.fit(EXAMPLES, batch_size=22, verbose=0)
    rbm.cd_steps = 3
    expected = copy_of(rbm).forward_gibbs(np.array(model.chains), steps=3)
    model.fit(EXAMPLES, batch_size=22, verbose=0)
    np.testing.assert_array_equal(model.chains, expected)


# ---------------------------------------------------------------- batches and executions


def test_an_array_gives_the_run_of_the_same_batches_from_a_data_set(rbm):
    twin = copy_of(rbm)
    fit = {"epochs": 3, "verbose": 0, "shuffle": False}
    trainer(rbm).fit(EXAMPLES, batch_size=8, **fit)
    trainer(twin).fit(tf.data.Dataset.from_tensor_slices(EXAMPLES).batch(8), **fit)
    assert_equal_weights(rbm, twin)


def test_takes_arguments_by_position_as_keras_does(rbm):
    model = trainer(rbm)
    endless = tf.data.Dataset.from_tensors(EXAMPLES).repeat()
    model.fit(endless, None, None, 2, 0, None, 0.0, None, False, None, None, 0, 5)
    assert model.optimizer.iterations == 10
    assert model.fit(EXAMPLES, None, 22, 3, 0, []).epoch == [0, 1, 2]
    one_step = model.evaluate(endless, None, None, 0, None, 1)
    assert one_step == pytest.approx(model.evaluate(EXAMPLES, batch_size=22, verbose=0), rel=1e-5)


def test_steps_may_be_single(rbm):
    model = trainer(rbm)
    assert np.isfinite(model.train_on_batch(EXAMPLES, return_dict=True)["free_energy"])


def test_an_untied_copy_outlives_the_training_of_its_original(rbm):
    """Keras on JAX frees the memory of what it trains."""
    untied, before = rbm.untie(), rbm.get_weights()
    trainer(rbm).fit(EXAMPLES, verbose=0)
    np.testing.assert_array_equal(untied.w_rec, before[0])
    assert untied.sample_h(EXAMPLES).shape == (22, 3)


@pytest.mark.parametrize("dtype", ["bool", "int32", "float64", "float16"])
def test_learns_from_data_sets_of_any_dtype(dtype):
    expected, rbm = machine(), machine()
    fit = {"verbose": 0, "shuffle": False}
    trainer(expected, centered=True).fit(EXAMPLES, batch_size=8, **fit)
    batches = tf.data.Dataset.from_tensor_slices(EXAMPLES.astype(dtype)).batch(8)
    trainer(rbm, centered=True).fit(batches, **fit)
    assert_equal_weights(expected, rbm)


# ---------------------------------------------------------------- runs that are interrupted


@pytest.mark.parametrize("persistent_chains", [0, 5])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, persistent_chains):
    """Weights, optimizer, chains and random state are saved: the runs agree bit for bit."""
    fit = {"batch_size": 8, "verbose": 0, "shuffle": False}
    whole, half = (
        trainer(machine(), keras.optimizers.Adam(), persistent_chains=persistent_chains)
        for _ in range(2)
    )
    whole.fit(EXAMPLES, epochs=4, **fit)
    half.fit(EXAMPLES, epochs=2, **fit)
    half.save(tmp_path / "model.keras")
    resumed = keras.models.load_model(tmp_path / "model.keras")
    resumed.fit(EXAMPLES, epochs=2, **fit)
    assert_equal_weights(whole, resumed)


def test_backup_and_restore_resumes_after_an_interruption(tmp_path):
    class Interruption(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    fit = {"batch_size": 8, "verbose": 0, "shuffle": False, "epochs": 4}
    whole, broken, resumed = (trainer(machine(), persistent_chains=5) for _ in range(3))
    for model in (whole, broken, resumed):
        model.build((None, 4))
    whole.fit(EXAMPLES, **fit)
    backup = partial(keras.callbacks.BackupAndRestore, tmp_path / "backup")
    with pytest.raises(KeyboardInterrupt):
        broken.fit(EXAMPLES, callbacks=[backup(), Interruption()], **fit)
    resumed.fit(EXAMPLES, callbacks=[backup()], **fit)
    assert_equal_weights(whole, resumed)


def test_a_saved_model_keeps_its_optimizer(tmp_path, rbm):
    model = trainer(rbm, keras.optimizers.Adam())
    model.fit(EXAMPLES, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.steps_per_execution == UPDATES_AN_EXECUTION
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# ---------------------------------------------------------------- what is refused


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("nothing", [EXAMPLES[:0], tf.data.Dataset.from_tensors(EXAMPLES).take(0)])
def test_refuses_to_fit_nothing(rbm, nothing):
    model = trainer(rbm)
    for _ in range(2):  # on JAX Keras fails in another way once it has trained
        with pytest.raises(ValueError, match="`x` must hold at least one example"):
            model.fit(nothing, verbose=0, shuffle=False)
        model.fit(EXAMPLES, verbose=0)
        with pytest.raises(ValueError, match="at least one"):
            model.evaluate(nothing, verbose=0)


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
        trainer(rbm, persistent_chains=persistent_chains).fit(x, batch_size=22, verbose=0)
    for old, new in zip(before, rbm.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_refuses_to_be_judged_by_values_outside_the_unit_interval(rbm):
    model = trainer(rbm)
    with pytest.raises(REFUSED_WHEN_COMPILED, match="must lie in"):
        model.evaluate(7 * EXAMPLES, verbose=0)
    with pytest.raises(REFUSED_WHEN_COMPILED, match="must lie in"):
        model.fit(EXAMPLES, validation_data=(7 * EXAMPLES,), verbose=0)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="it is about JAX")
def test_on_jax_nothing_is_saved_of_an_epoch_with_nan(tmp_path, rbm):
    save = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    batches = tf.data.Dataset.from_tensors(7 * EXAMPLES)
    with pytest.raises(ValueError, match="must lie in"):
        trainer(rbm).fit(batches, verbose=0, shuffle=False, callbacks=save)
    assert not (tmp_path / "model.keras").exists()


@pytest.mark.parametrize("persistent_chains", [0, 5])
def test_an_interrupted_epoch_leaves_weights_that_one_can_go_on_with(persistent_chains):
    """On JAX, where Keras gives their memory to the running step, those of the epoch before."""
    model = trainer(machine(), keras.optimizers.Adam(), persistent_chains=persistent_chains)
    model.build((None, 4))
    fit = {"batch_size": 1, "epochs": 3, "verbose": 0, "shuffle": False}
    saved = []

    class Interruption(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            saved.append(model.get_weights())

        def on_train_batch_end(self, batch, logs=None):
            if len(saved) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(EXAMPLES, callbacks=[Interruption()], **fit)
    if keras.backend.backend() == "jax":
        for ours, kept in zip(model.get_weights(), saved[1], strict=True):
            np.testing.assert_array_equal(ours, kept)
    history = model.fit(EXAMPLES, **fit).history
    assert np.all(np.isfinite(history["loss"]))


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed")
def test_bad_values_in_a_data_set_cost_no_weights(rbm):
    before = rbm.get_weights()
    model = trainer(rbm)
    batches = tf.data.Dataset.from_tensors(7 * EXAMPLES)
    for learn, x in [
        (model.fit, batches), (model.evaluate, batches), (model.train_on_batch, 7 * EXAMPLES),
    ]:  # fmt: skip
        with pytest.raises(REFUSED_WHEN_COMPILED, match=r"must lie in|must hold values that"):
            learn(x)
        for old, new in zip(before, rbm.get_weights()):
            np.testing.assert_array_equal(old, new)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_data_without_a_batch_and_of_unknown_length_hold_no_example(rbm, method):
    """Keras 3.15 ends in errors of its own."""
    model = trainer(rbm)
    model.fit(EXAMPLES, verbose=0)
    nothing = tf.data.Dataset.from_tensors(EXAMPLES).filter(lambda x: False)
    before = rbm.get_weights()
    with pytest.raises(ValueError, match="`x` must hold at least one example"):
        getattr(model, method)(
            nothing, verbose=0, **({"shuffle": False} if method == "fit" else {})
        )
    for old, new in zip(before, rbm.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_an_error_of_a_callback_is_not_taken_for_missing_data(rbm):
    def wrong(*_):
        raise UnboundLocalError("of the user")

    with pytest.raises(UnboundLocalError, match="of the user"):
        trainer(rbm).fit(
            EXAMPLES, verbose=0, callbacks=keras.callbacks.LambdaCallback(on_epoch_end=wrong)
        )


def test_an_epoch_whose_loss_is_nan_raises_and_no_other_does():
    raise_on_nan = RaiseOnNaN()
    for name, value in [("loss", np.inf), ("val_loss", -np.inf), ("free_energy", np.inf)]:
        with pytest.raises(ValueError, match=f"The {name} of epoch 2 is infinite"):
            raise_on_nan.on_epoch_end(1, {name: value})
    raise_on_nan.on_epoch_end(0, {"loss": -3.0, "val_loss": 2.0})
    raise_on_nan.on_epoch_end(0, {})
    for logs in ({"loss": np.nan}, {"loss": 1.0, "val_loss": np.nan}):
        with pytest.raises(ValueError, match="loss of epoch 7 is NaN"):
            raise_on_nan.on_epoch_end(6, logs)


class Failing(ContrastiveDivergence):
    def batch_loss(self, *args):
        raise RuntimeError("of a user's own")


@pytest.mark.parametrize("use_ema", [False, True])
def test_an_error_of_a_users_model_is_told_as_it_is(use_ema):
    """On JAX Keras 3.15 fails once more, where averages become the weights."""
    model = Failing(machine())
    model.compile(keras.optimizers.SGD(use_ema=use_ema))
    with pytest.raises(RuntimeError, match="of a user's own"):
        model.fit(EXAMPLES, verbose=0)
