"""Objects in configurations: made anew where they are named, left alone where they are not."""

import keras
import numpy as np
import pytest
from machines import PAIRS, machine

from rbm_tutorial import RBM
from rbm_tutorial.saving import with_objects

keep = keras.saving.serialize_keras_object


def test_named_objects_are_made_and_others_left():
    config = {"rbm": keep(machine()), "other": keep(machine()), "rate": 0.1}
    made = with_objects(config, "rbm", "missing")
    assert isinstance(made["rbm"], RBM)
    assert made["rbm"].get_config() == machine(name=made["rbm"].name).get_config()
    assert made["other"] == config["other"] and made["rate"] == 0.1
    assert made.keys() == config.keys()


@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
def test_types_of_units_come_back_equal(pair):
    visible, _, hidden, _ = pair
    made = with_objects({"visible": keep(visible), "hidden": keep(hidden)}, "visible", "hidden")
    assert made == {"visible": visible, "hidden": hidden}


def test_weights_of_another_shape_leave_the_random_state():
    machine(hidden=2).save_own_variables(kept := {})
    rbm = machine()
    before = np.array(rbm.seed_generator.state)
    kept["seed_state"] = before + 1
    with pytest.raises(ValueError, match="shape"):
        rbm.load_own_variables(kept)
    np.testing.assert_array_equal(rbm.seed_generator.state, before)
