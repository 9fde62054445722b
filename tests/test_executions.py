"""How many updates go into one call of Keras, and that what is compiled for them is kept."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import only_tensorflow
from machines import copy_of, machine
from trained import EXAMPLES, FIT, counted, trainer

from rbm_tutorial import ContrastiveDivergence
from rbm_tutorial.executions import UPDATES_AN_EXECUTION


def one_by_one(rbm):
    """A model that returns to Python after each update."""
    model = ContrastiveDivergence(rbm)
    model.compile(keras.optimizers.SGD(0.1), steps_per_execution=1)
    return model


def test_the_number_of_updates_in_an_execution_changes_nothing(rbm):
    twin = copy_of(rbm)
    for model in (trainer(rbm), one_by_one(twin)):
        model.fit(EXAMPLES, batch_size=2, epochs=2, verbose=0, shuffle=False)
    for ours, theirs in zip(rbm.get_weights(), twin.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_an_epoch_has_as_many_updates_as_were_asked_for(rbm):
    """Keras would end an epoch of 6 batches with the 16th, the end of an execution."""
    twin = copy_of(rbm)
    endless = tf.data.Dataset.from_tensor_slices(EXAMPLES).batch(2, drop_remainder=True).repeat()
    model, other = trainer(rbm), one_by_one(twin)
    fit = {"steps_per_epoch": 6, "epochs": 2, "shuffle": False, "verbose": 0}
    history, expected = (m.fit(endless, **fit).history for m in (model, other))
    assert model.optimizer.iterations == 12
    assert history["free_energy"] == pytest.approx(expected["free_energy"], rel=1e-5)
    assert model.evaluate(endless, steps=3, verbose=0) == pytest.approx(
        other.evaluate(endless, steps=3, verbose=0), rel=1e-5
    )
    assert model.predict(endless, steps=3, verbose=0).shape == (6, 3)


def test_evaluating_a_few_steps_in_a_callback_does_not_disturb_training(rbm):
    model, losses = trainer(rbm), []
    look = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: losses.append(
            model.evaluate(EXAMPLES, batch_size=4, steps=3, verbose=0)[0]
        )
    )
    model.fit(EXAMPLES, epochs=2, verbose=0, callbacks=[look])
    assert len(losses) == 2
    assert model.steps_per_execution == UPDATES_AN_EXECUTION
    assert {"tensorflow": 16, "jax": 64}[keras.backend.backend()] == UPDATES_AN_EXECUTION


@pytest.mark.parametrize("steps", [None, 5, 7])
def test_runs_of_as_many_steps_are_compiled_once(steps):
    """Whatever divides 16 or not."""
    model = counted()
    traces = []
    for _ in range(4):
        model.fit(EXAMPLES, steps_per_epoch=steps, **FIT)
        model.evaluate(EXAMPLES, batch_size=2, steps=steps, verbose=0)
        traces.append(model.traces)
    assert traces[0] > 0
    assert traces[1:] == traces[:1] * 3


@pytest.mark.filterwarnings("ignore:Limiting steps_per_epoch")
def test_keras_own_limit_of_steps_is_kept():
    keras.config.set_max_steps_per_epoch(3)
    try:
        model = trainer(machine())
        model.fit(EXAMPLES, epochs=2, **FIT)
        assert model.optimizer.iterations == 6
    finally:
        keras.config.set_max_steps_per_epoch(None)


def test_the_default_is_not_saved_as_if_it_had_been_chosen(tmp_path):
    """Another backend, or several devices, have another one."""
    for chosen in (None, 5):
        model = ContrastiveDivergence(machine())
        model.compile(steps_per_execution=chosen)
        model.build((None, 4))
        assert model.get_compile_config().get("steps_per_execution") == chosen
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert loaded.steps_per_execution == (chosen or UPDATES_AN_EXECUTION)


@only_tensorflow
def test_several_updates_an_execution_are_refused_on_several_devices():
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        model = ContrastiveDivergence(machine())
        model.compile()
        assert model.steps_per_execution == 1
        with pytest.raises(ValueError, match="`steps_per_execution` must be 1"):
            model.compile(steps_per_execution=4)
