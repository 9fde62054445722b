"""Models that are trained for a moment, and what they are trained on."""

import keras
import numpy as np
import tensorflow as tf
from machines import machine

from rbm_tutorial import ContrastiveDivergence

FIT = {"batch_size": 2, "verbose": 0, "shuffle": False}
EXAMPLES = np.random.default_rng(2).integers(0, 2, size=(22, 4)).astype("float32")


def trainer(rbm, optimizer=None, **kwargs):
    """A compiled `ContrastiveDivergence`, by default with plain gradient descent of rate 0.1."""
    model = ContrastiveDivergence(rbm, **kwargs)
    model.compile(optimizer or keras.optimizers.SGD(0.1))
    return model


class Given(keras.layers.Layer):
    """Negatives that never change, so that what is learned follows without any draw."""

    def __init__(self, v_k):
        super().__init__()
        self.v_k, self.start = np.asarray(v_k, "float32"), lambda rbm: None

    def draw(self, rbm, x, hidden_logits):
        return keras.ops.convert_to_tensor(self.v_k)


def data_set_of(*parts):
    """A data set of x, or of tuples, in batches of eight."""
    return tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0]).batch(8)


def assert_equal_weights(first, second):
    for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def check_draws_of_a_loaded_model(rbm, negatives, path):
    """A model that has drawn `negatives` and its file go on with the same draws and states."""
    model = trainer(rbm, negatives=negatives)
    model.build((None, EXAMPLES.shape[1]))
    model.negatives.draw(rbm, EXAMPLES, None)
    model.save(path)
    loaded = keras.models.load_model(path)
    for each in (model, loaded):
        each.negatives.draw(each.rbm, EXAMPLES, None)
    assert_equal_weights(model, loaded)


class Counted(ContrastiveDivergence):
    """Counts how often its loss is traced."""

    traces = 0

    def batch_loss(self, *args):
        self.traces += 1
        return super().batch_loss(*args)


def counted():
    model = Counted(machine())
    model.compile(keras.optimizers.SGD(0.1))
    return model


class OneBatch(keras.utils.PyDataset):
    """A data set of one batch, whatever that is."""

    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def __len__(self):
        return 1

    def __getitem__(self, i):
        return self.batch
