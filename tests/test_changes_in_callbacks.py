"""What a callback changes while a model runs is refused where compiled functions would be lost."""

import keras
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
