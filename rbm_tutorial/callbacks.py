"""Keras callbacks that watch a machine while it learns."""

import keras
from keras import ops

from rbm_tutorial.checks import check_built, check_examples, check_matrix, real_array


class FreeEnergyGap(keras.callbacks.Callback):
    """Log `gap`, mean F(held out) - mean F(training), in nats, after every epoch.

    Both means contain the same log Z, so the gap is how much more probable the training examples
    are than those held out: it grows as a machine overfits. It stands in the history, and callbacks
    that come later can follow it. Draws nothing.

    Args:
        x_train: training examples, (examples, visible); some of them are enough.
        x_held_out: examples that are not trained on, (examples, visible).

    Raises: `ValueError` for what are no examples of a machine, before it is trained.
    Source: Hinton, A practical guide to training restricted Boltzmann machines (2012), section 6.
    """

    def __init__(self, x_train, x_held_out):
        super().__init__()
        self.x_train = _examples("x_train", x_train)
        self.x_held_out = _examples("x_held_out", x_held_out)

    def on_train_begin(self, logs=None):
        check_built(getattr(self.model, "rbm", None), "FreeEnergyGap")
        self.model.rbm.checked_visible(self.x_train, "x_train")
        self.model.rbm.checked_visible(self.x_held_out, "x_held_out")

    def on_epoch_end(self, epoch, logs=None):
        logs["gap"] = free_energy_gap(self.model.rbm, self.x_train, self.x_held_out)


def free_energy_gap(rbm, x_train, x_held_out) -> float:
    """Mean F(x_held_out) - mean F(x_train), nats. Draws nothing.

    Raises: `ValueError` for no examples, another width or values outside [0, 1].
    """
    check_built(rbm, "free_energy_gap")
    train = rbm.checked_visible(_examples("x_train", x_train), "x_train")
    held_out = rbm.checked_visible(_examples("x_held_out", x_held_out), "x_held_out")
    return float(ops.mean(rbm.free_energy(held_out)) - ops.mean(rbm.free_energy(train)))


def _examples(name, x):
    x = real_array(name, x)
    check_matrix(name, x, None)
    check_examples(name, len(x))
    return x
