"""Arrays of a foreign byte order or over 64 bits, and labels of 64, are read for what they are."""

import keras
import numpy as np
import pytest
from conftest import only_jax
from machines import machine
from networks import labeled_network
from trained import EXAMPLES, trainer

from rbm_tutorial import WakeSleep

FOREIGN = EXAMPLES.astype(np.dtype("float32").newbyteorder())
QUIET = {"verbose": 0}
pytestmark = pytest.mark.filterwarnings("ignore:Your input ran")


class Batches(keras.utils.PyDataset):
    def __init__(self, *parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return tuple(part[11 * i : 11 * i + 11] for part in self.parts)


def generated(*parts):
    data = Batches(*parts)
    return (data[i] for i in range(len(data)))


WAYS = {
    "predict": lambda model, x: model.predict(x, **QUIET),
    "predict_on_batch": lambda model, x: model.predict_on_batch(x),
    "evaluate": lambda model, x: model.evaluate(x, **QUIET),
    "test_on_batch": lambda model, x: model.test_on_batch(x),
    "a generator": lambda model, x: model.evaluate(generated(x), **QUIET),
    "a Keras data set": lambda model, x: model.evaluate(Batches(x), **QUIET),
    "a call": lambda model, x: model(x),
    "forward": lambda model, x: model.rbm.forward(x),
    "validation": lambda model, x: model.fit(
        EXAMPLES, validation_data=(x,), shuffle=False, **QUIET
    ).history["val_loss"],
    "fit": lambda model, x: model.fit(x, shuffle=False, **QUIET).history["free_energy"],
    "fit in steps": lambda model, x: model.fit(
        x, shuffle=False, steps_per_epoch=2, **QUIET
    ).history["free_energy"],
    "train_on_batch": lambda model, x: model.train_on_batch(x)[1:],
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("x", [FOREIGN, EXAMPLES.astype("longdouble")], ids=["foreign", "long"])
def test_the_numbers_are_those_of_the_array(way, x):
    """Compiled for native arrays first; JAX then read others as zeros."""
    model = trainer(machine(), keras.optimizers.SGD(0.0))
    np.testing.assert_allclose(way(model, EXAMPLES), way(model, x), rtol=1e-6)


@only_jax
@pytest.mark.parametrize("batches", [generated, Batches])
def test_labels_of_64_bits_are_not_read_modulo_32(batches):
    model = WakeSleep(labeled_network())
    model.compile(keras.optimizers.SGD(0.1))
    labels = np.arange(len(EXAMPLES)) % 4
    model.evaluate(batches(EXAMPLES, labels), **QUIET)
    with pytest.raises(ValueError, match="`y` labels of its classes"):
        model.evaluate(batches(EXAMPLES, labels + 2**32), **QUIET)


@pytest.mark.parametrize("kind", ["a call", "a call of the layer"])
@pytest.mark.parametrize("x", [np.array([["1", "0", "1", "1"]]), [["1", "0", "1", "1"]]])
def test_text_is_no_number(kind, x):
    model = trainer(machine())
    with pytest.raises(ValueError, match="must be an array of real numbers"):
        (model if kind == "a call" else model.rbm)(x)
