"""What a callback changes while a model runs is refused where compiled functions would be lost."""

import keras
import numpy as np
import pytest
from machines import machine
from trained import EXAMPLES, FIT, data_set_of, trainer

from rbm_tutorial import ContrastiveDivergence

CHANGES = {
    "optimizer": lambda model: setattr(model, "optimizer", keras.optimizers.SGD(0.1)),
    "run_eagerly": lambda model: setattr(model, "run_eagerly", True),
    "cd_steps": lambda model: setattr(model.rbm, "cd_steps", 5),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_with_a_call_in_the_same_callback_is_refused(change):
    """That call would make the functions anew by which the run goes on."""
    model = trainer(machine())

    def change_and_look(epoch, logs):
        change(model)
        model.evaluate(EXAMPLES, verbose=0)

    callback = keras.callbacks.LambdaCallback(on_epoch_end=change_and_look)
    with pytest.raises(ValueError, match="A change of settings must be done before `fit`"):
        model.fit(EXAMPLES, callbacks=[callback], **FIT)
    model.fit(EXAMPLES, **FIT)


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_an_error_before_does_not_stand_for_one_about_the_data():
    model = trainer(machine())
    model.fit(EXAMPLES, **FIT)
    try:
        raise RuntimeError("of something else")
    except RuntimeError:
        with pytest.raises(ValueError, match="`x` must hold at least one example"):
            model.predict(data_set_of(EXAMPLES).filter(lambda x: False), verbose=0)


def test_the_rate_of_the_layer_is_not_that_of_another_optimizer():
    model = ContrastiveDivergence(machine())
    model.compile()
    model.fit(EXAMPLES, **FIT)
    model.optimizer = keras.optimizers.Adam(1e-4)
    model.rbm.learning_rate = 0.5
    model.fit(EXAMPLES, **FIT)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-4)


QUIET = {"verbose": 0, "shuffle": False}


def freezing(model, at):
    return keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(model.rbm.vb, "trainable", epoch != at)
    )


@pytest.mark.parametrize("data", [EXAMPLES, data_set_of(EXAMPLES)], ids=["array", "data set"])
@pytest.mark.parametrize("persistent_chains", [0, 3])
def test_weights_that_a_callback_freezes_stop_training(data, persistent_chains):
    """The step would not know of it; on JAX what it had left behind came back later."""
    model, fit = trainer(machine(), persistent_chains=persistent_chains), QUIET
    kept = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: reached.append(model.rbm.get_weights())
    )
    reached = []
    with pytest.raises(ValueError, match="Call `compile` again, since weights were frozen") as told:
        model.fit(data, epochs=4, callbacks=[kept, freezing(model, at=1)], **fit)
    assert "Training stopped in epoch 2 of 4" in told.value.__notes__[0]
    for ours, theirs in zip(model.rbm.get_weights(), reached[1], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    frozen = np.array(model.rbm.vb)
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(data, epochs=2, **fit)
    np.testing.assert_array_equal(model.rbm.vb, frozen)
    model.rbm.vb.trainable = True
    given = [np.full_like(weight, 0.25) for weight in model.rbm.get_weights()]
    model.rbm.set_weights(given)
    model.compile(keras.optimizers.SGD(1e-9))
    model.fit(data, **fit)
    for ours, theirs in zip(model.rbm.get_weights(), given, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_weights_that_are_frozen_within_an_epoch_do_not_come_back_later():
    model = trainer(machine())
    freeze = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: setattr(model.rbm.vb, "trainable", False)
    )
    with pytest.raises(ValueError):
        model.fit(data_set_of(EXAMPLES), epochs=3, callbacks=[freeze], **QUIET)
    given = [np.full_like(weight, 0.25) for weight in model.rbm.get_weights()]
    model.rbm.set_weights(given)
    model.compile(keras.optimizers.SGD(1e-9))
    model.fit(data_set_of(EXAMPLES), **QUIET)
    for ours, theirs in zip(model.rbm.get_weights(), given, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
