"""Ways to train an RBM with this package, from the layer alone to the recipe of the book."""

import time

import numpy as np
from trainings import VISIBLE, Training, array_batches, loop


def new_rbm(setting):
    from rbm_tutorial import RBM

    rbm = RBM(
        setting.hidden, learning_rate=setting.learning_rate, cd_steps=setting.cd_steps, seed=0
    )
    rbm.build([VISIBLE])
    return rbm


def weights_of(rbm):
    return lambda: [np.array(p) for p in (rbm.w_rec, rbm.hb, rbm.vb)]


def timed_fit(train):
    """`Training.run` of `train(epochs, callback)`: from the end of its first epoch to its last."""
    import keras

    def run(epochs):
        ends = []
        note = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter())
        )
        train(1 + epochs, note)
        return ends[-1] - ends[0]

    return run


def fitted(setting, data, examples, steps_per_execution=None, jit_compile="auto", **kwargs):
    """`ContrastiveDivergence.fit` as a user has it: progress and monitoring on."""
    import keras

    from rbm_tutorial import ContrastiveDivergence

    rbm = new_rbm(setting)
    model = ContrastiveDivergence(rbm, setting.batch if setting.persistent else 0)
    model.compile(
        keras.optimizers.SGD(setting.learning_rate),
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )

    def train(epochs, note):
        model.fit(data, epochs=epochs, callbacks=[note], verbose="auto", **kwargs)

    return Training(timed_fit(train), examples / setting.batch, weights_of(rbm))


def fit(setting, x):
    """`fit` from an array, with every default: 16 updates between two returns to Python."""
    x = x[: setting.steps * setting.batch]
    return fitted(setting, x, len(x), batch_size=setting.batch)


def fit_1(setting, x):
    """`fit` from an array with one update between two returns to Python, the default of Keras."""
    x = x[: setting.steps * setting.batch]
    return fitted(setting, x, len(x), steps_per_execution=1, batch_size=setting.batch)


def fit_xla(setting, x):
    """`fit` from an array, compiled by XLA."""
    x = x[: setting.steps * setting.batch]
    return fitted(setting, x, len(x), jit_compile=True, batch_size=setting.batch)


def fit_tfds(setting, x):
    """`fit` from the TFDS pipeline: cache, shuffle, batch, map. An epoch is all the digits.

    The cache saves decoding PNG files in each epoch, and mapping batches is cheaper than images.
    """
    import tensorflow as tf

    from rbm_tutorial import load_mnist

    def binary_images(batch):
        return tf.round(tf.cast(tf.reshape(batch["image"], [-1, VISIBLE]), tf.float32) / 255)

    digits = load_mnist()[0]
    data = digits.cache().shuffle(1024).batch(setting.batch).map(binary_images)
    return fitted(setting, data.prefetch(tf.data.AUTOTUNE), len(digits), shuffle=False)


def train_rbm(setting, x):
    """`train_rbm` from TFDS examples, as the source calls it. An epoch is all the gray digits."""
    from rbm_tutorial import flatten_image, load_mnist
    from rbm_tutorial import train_rbm as train

    rbm, digits = new_rbm(setting), load_mnist()[0]

    def epochs_of(epochs, note):
        train(rbm, digits, flatten_image, epochs, 0.0, setting.batch, callbacks=(note,))

    return Training(timed_fit(epochs_of), len(digits) / setting.batch, weights_of(rbm))


def cd_update(setting, x):
    """`RBM.cd_update` in a `tf.function`, called from a Python loop: the layer alone."""
    import tensorflow as tf

    rbm = new_rbm(setting)
    batches = [tf.constant(batch) for batch in array_batches(setting, x)]
    step = tf.function(rbm.cd_update)
    return Training(*loop(step, batches, setting.steps), weights_of(rbm))


def recipe(setting, images, epochs):
    """`fit` as we would have it, for so many epochs: seconds, and (w, hb, vb).

    Centered, the learning rate falls to 0 in the second half, weights are averaged over about 1,000
    updates, and fifty updates make an execution. The pipeline draws the pixels of each batch, by
    the same uniform numbers in each epoch but for other digits. Centered gradients bear a larger
    rate.
    """
    import keras
    import tensorflow as tf

    from rbm_tutorial import RBM, ContrastiveDivergence
    from rbm_tutorial.training import linear_decay

    start = time.perf_counter()
    rbm = RBM(setting.hidden, cd_steps=setting.cd_steps, seed=0)
    rbm.adapt(images)
    model = ContrastiveDivergence(rbm, persistent_chains=setting.batch, centered=True)
    rate = linear_decay(setting.learning_rate, epochs * (len(images) // setting.batch), held=0.5)
    optimizer = keras.optimizers.SGD(rate, use_ema=True, ema_momentum=0.999)
    model.compile(optimizer, steps_per_execution=50)
    images = tf.constant(images)

    def binary(rows):
        p = tf.gather(images, rows)
        return tf.cast(tf.random.uniform(tf.shape(p), seed=0) < p, tf.float32)

    rows = tf.data.Dataset.range(len(images)).shuffle(len(images), seed=0)
    data = rows.batch(setting.batch, drop_remainder=True).map(binary).prefetch(2)
    model.fit(data, epochs=epochs, shuffle=False)
    return time.perf_counter() - start, weights_of(rbm)()
