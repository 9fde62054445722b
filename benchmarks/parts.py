"""The parts of one CD-1 update, each timed alone: where the milliseconds of a step go.

A part is an operation in a loop inside one `tf.function`. Its inputs alternate between two, chosen
by the step, and its result is carried along, so that nothing is moved out of the loop or left out.
"""

import functools

import keras
import numpy as np
import tensorflow as tf
from keras import ops
from ours import timed_fit
from trainings import VISIBLE, Training, first_weights, timed

from rbm_tutorial import RBM, ContrastiveDivergence


def looped(operation, *inputs, steps):
    pairs = [tf.stack([a, a]) for a in inputs]

    @tf.function
    def run(pairs, steps):
        out = operation(*(pair[0] for pair in pairs))
        for i in tf.range(1, steps):
            out = operation(*(pair[i % 2] for pair in pairs))
        return out

    return Training(timed(lambda: run(pairs, tf.constant(steps))), steps)


def operations(setting, x):
    """Name → (group, operation, inputs); an operation may stand for several that are alike."""
    seed = keras.random.SeedGenerator(0)
    digits, x = tf.constant(x), tf.constant(x[: setting.batch])
    rows = tf.random.shuffle(tf.range(len(digits)), seed=0)[: setting.batch]
    w = tf.constant(first_weights(setting))
    h_logits = tf.random.stateless_normal((setting.batch, setting.hidden), [0, 0])
    v_logits = tf.random.stateless_normal((setting.batch, VISIBLE), [0, 0])
    h, v = tf.round(tf.sigmoid(h_logits)), tf.round(tf.sigmoid(v_logits))
    hb, vb = tf.zeros(setting.hidden), tf.zeros(VISIBLE)

    def draws(h, v):
        return [keras.random.uniform(ops.shape(a), seed=seed) for a in (h, v)]

    def units(h_logits, v_logits, u_h, u_v):
        """Three layers of probabilities, two of them compared with uniform numbers."""
        h, v = tf.sigmoid(h_logits), tf.sigmoid(v_logits)
        return tf.cast(u_h < h, h.dtype), tf.cast(u_v < v, v.dtype), tf.sigmoid(-h_logits)

    def biases(h_logits, v_logits, h_k_logits):
        return h_logits + hb, v_logits + vb, h_k_logits + hb

    def update(w, gradient, x, v, h, h_k):
        w = w - setting.learning_rate * gradient
        hb = tf.reduce_mean(h, 0) - tf.reduce_mean(h_k, 0)
        return w, hb, tf.reduce_mean(x, 0) - tf.reduce_mean(v, 0)

    def free_energies(x, v, h_logits, h_k_logits):
        return [
            tf.reduce_mean(tf.linalg.matvec(a, vb) + tf.reduce_sum(tf.nn.softplus(logits), 1))
            for a, logits in [(x, h_logits), (v, h_k_logits)]
        ]

    def cost(x, logits):
        return tf.reduce_mean(tf.reduce_sum(tf.nn.softplus(logits) - x * logits, 1))

    def check(x):
        return tf.reduce_min(x), tf.reduce_max(x)

    visible = functools.partial(tf.matmul, transpose_b=True)
    gradient = functools.partial(tf.matmul, transpose_a=True)
    return {
        "x·w": ("products", tf.matmul, x, w),
        "h·wᵀ": ("products", visible, h, w),
        "v·w": ("products", tf.matmul, v, w),
        "xᵀ·h": ("products", gradient, x, h),
        "vᵀ·h": ("products", gradient, v, h),
        "uniform numbers": ("sampling", draws, h, v),
        "sigmoids, comparisons": ("sampling", units, h_logits, v_logits, abs(h), abs(v)),
        "biases": ("sampling", biases, h_logits, v_logits, h),
        "update": ("update", update, w, w, x, v, h, tf.sigmoid(h_logits)),
        "free energies": ("monitoring", free_energies, x, v, h_logits, -h_logits),
        "p·wᵀ": ("monitoring", visible, tf.sigmoid(h_logits), w),
        "reconstruction cost": ("monitoring", cost, x, v_logits),
        "check of the data": ("monitoring", check, x),
        "gathering of a batch": ("Keras", tf.gather, digits, rows),
    }


def keras_alone(setting, x):
    """`fit` of a machine of 1 + 1 units: what a step costs when it has nothing to compute."""
    rbm = RBM(1, learning_rate=setting.learning_rate, seed=0)
    model = ContrastiveDivergence(rbm)
    model.compile(keras.optimizers.SGD(setting.learning_rate))
    x = np.ascontiguousarray(x[: setting.steps * setting.batch, :1])

    def train(epochs, note):
        model.fit(x, batch_size=setting.batch, epochs=epochs, callbacks=[note])

    return Training(timed_fit(train), setting.steps)


KERAS_ALONE = "Keras and Python"


def part(name, setting, x):
    if name == KERAS_ALONE:
        return keras_alone(setting, x)
    _, operation, *inputs = operations(setting, x)[name]
    return looped(operation, *inputs, steps=setting.steps)


def groups(setting, x):
    """Name of each part → what it belongs to."""
    return {name: group for name, (group, *_) in operations(setting, x).items()} | {
        KERAS_ALONE: "Keras"
    }
