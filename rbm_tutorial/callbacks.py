"""Keras callbacks that watch a machine while it learns."""

import keras
from keras import ops


class FreeEnergyGap(keras.callbacks.Callback):
    """Log `gap`, mean F(held out) - mean F(training), in nats, after every epoch.

    Both means contain the same log Z, so the gap is how much more probable the training examples
    are than those held out: it grows as a machine overfits. It stands in the history, and callbacks
    that come later can follow it. Draws nothing.

    Args:
        x_train: training examples, (examples, visible); some of them are enough.
        x_held_out: examples that are not trained on, (examples, visible).

    Source: Hinton, A practical guide to training restricted Boltzmann machines (2012), section 6.
    """

    def __init__(self, x_train, x_held_out):
        super().__init__()
        self.x_train, self.x_held_out = x_train, x_held_out

    def on_epoch_end(self, epoch, logs=None):
        logs["gap"] = free_energy_gap(self.model.rbm, self.x_train, self.x_held_out)


def free_energy_gap(rbm, x_train, x_held_out) -> float:
    """Mean F(x_held_out) - mean F(x_train), nats. Draws nothing."""
    held_out, train = rbm.free_energy(x_held_out), rbm.free_energy(x_train)
    return float(ops.mean(held_out) - ops.mean(train))
