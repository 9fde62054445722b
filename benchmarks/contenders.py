"""What is timed: ways to train an RBM by contrastive divergence, and the limits of any of them.

Each contender is a function of a `Setting` and of binary digits (examples, 784) float32, and gives
a `Training`. All start from w ~ N(0, 0.01²) and zero biases. Each runs in a process of its own,
so libraries are imported inside the functions.
"""

import itertools
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

VISIBLE = 784


class Setting(NamedTuple):
    """`steps` is the number of updates in an epoch."""

    batch: int
    hidden: int
    cd_steps: int
    persistent: bool
    steps: int
    learning_rate: float = 0.1


class Training(NamedTuple):
    """`run(epochs)` makes 1 + `epochs` epochs of `steps` updates; its seconds without the first.

    It goes on from where the last call stopped. `parameters()` gives (w, hb, vb) as arrays; it is
    `None` for what does not train.
    """

    run: Callable
    steps: float
    parameters: Callable | None = None


class Contender(NamedTuple):
    """How to make it, the library whose threads are to be set, and the algorithms it is asked for.

    PCD-1 has the same products as CD-1, five, and so the same limit. "oneDNN" is TensorFlow with
    the products of that library, which by itself it takes on some processors only.
    """

    make: Callable
    library: str
    algorithms: tuple


def timed(epoch, wait=lambda result: None):
    """`Training.run` of a function that makes an epoch; `wait(result)` until it is computed."""

    def run(epochs):
        result = epoch()
        wait(result)
        start = time.perf_counter()
        for _ in range(epochs):
            result = epoch()
        wait(result)
        return time.perf_counter() - start

    return run


def loop(step, batches, steps, **kwargs):
    """`Training.run` and its steps for a plain loop, round and round over the batches.

    A loop does not know epochs, so it may as well have short ones, of a quarter of the steps.
    Keyword arguments are those of `timed`.
    """
    batches, steps = itertools.cycle(batches), max(1, steps // 4)

    def epoch():
        for batch in itertools.islice(batches, steps):
            step(batch)

    return timed(epoch, **kwargs), steps


def array_batches(setting, x):
    return [x[i : i + setting.batch] for i in range(0, len(x) - setting.batch + 1, setting.batch)]


def first_weights(setting):
    rng = np.random.default_rng(0)
    return rng.normal(0, 0.01, (VISIBLE, setting.hidden)).astype("float32")


# The source and other libraries


def source(setting, x):
    """The source's approach, its misprints mended: eager `GradientTape`, uniform draws by TFP.

    Its shapes are mended too, so that every example has noise of its own.
    """
    import tensorflow as tf
    import tensorflow_probability as tfp

    w_rec = tf.Variable(first_weights(setting))
    w_gen = tf.Variable(tf.transpose(w_rec))
    hb, vb = tf.Variable(tf.zeros(setting.hidden)), tf.Variable(tf.zeros(VISIBLE))

    def forward(v):
        return tf.sigmoid(tf.add(tf.matmul(v, w_rec), hb))

    def reverse(h):
        return tf.sigmoid(tf.add(tf.matmul(h, w_gen), vb))

    def sample(p):
        return tf.cast(p > tfp.distributions.Uniform().sample(p.shape), tf.float32)

    def free_energy(v):
        softplus = tf.math.log(1 + tf.math.exp(tf.add(tf.matmul(v, w_rec), hb)))
        return -tf.tensordot(v, vb, 1) - tf.reduce_sum(softplus, 1)

    def reconstruction_cost(x):
        y = reverse(forward(x))
        log_p = tf.add(x * tf.math.log(y), tf.subtract(1.0, x) * tf.math.log(tf.subtract(1.0, y)))
        return -tf.reduce_mean(tf.reduce_sum(log_p, 1))

    def cd_update(x):
        nonlocal w_gen
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            h_sample = sample(forward(x))
            for _ in range(setting.cd_steps):
                v_sample = tf.constant(sample(reverse(h_sample)))
                h_sample = sample(forward(v_sample))
            tape.watch([w_rec, hb, vb])
            cost = tf.reduce_mean(free_energy(x)) - tf.reduce_mean(free_energy(v_sample))
        gradients = tape.gradient(cost, [w_rec, hb, vb])
        for variable, gradient in zip([w_rec, hb, vb], gradients):
            variable.assign_sub(setting.learning_rate * gradient)
        w_gen = tf.Variable(tf.transpose(w_rec))
        return reconstruction_cost(x).numpy()

    batches = [tf.constant(batch) for batch in array_batches(setting, x)]
    return Training(
        *loop(cd_update, batches, setting.steps), lambda: [p.numpy() for p in (w_rec, hb, vb)]
    )


def scikit_learn(setting, x):
    """`BernoulliRBM` in float32. Its rule is PCD-1.

    The step is `_fit`, what `fit` does with each batch: `fit` itself starts anew at each call, and
    `partial_fit` converts everything to float64.
    """
    from sklearn.neural_network import BernoulliRBM

    rbm = BernoulliRBM(
        setting.hidden,
        learning_rate=setting.learning_rate,
        batch_size=setting.batch,
        n_iter=0,
        random_state=0,
    )
    rbm.fit(x[: setting.batch])  # n_iter=0: makes the parameters, in the dtype of x
    rng = np.random.RandomState(0)
    return Training(
        *loop(lambda batch: rbm._fit(batch, rng), array_batches(setting, x), setting.steps),
        lambda: (rbm.components_.T, rbm.intercept_hidden_, rbm.intercept_visible_),
    )


def pytorch(setting, x):
    """A loop written by hand in PyTorch for speed alone: everything in place, no monitoring."""
    import torch

    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    w = torch.tensor(first_weights(setting))
    hb, vb = torch.zeros(setting.hidden), torch.zeros(VISIBLE)
    shape_h, shape_v = (setting.batch, setting.hidden), (setting.batch, VISIBLE)
    positive, negative, h, u_h = torch.full((4, *shape_h), 0.5)
    v, u_v = torch.empty((2, *shape_v))
    rate = setting.learning_rate / setting.batch

    def step(x):
        torch.addmm(hb, x, w, out=positive).sigmoid_()
        p = negative if setting.persistent else positive
        for _ in range(setting.cd_steps):
            torch.lt(u_h.uniform_(), p, out=h)
            torch.addmm(vb, h, w.T, out=v).sigmoid_()
            torch.lt(u_v.uniform_(), v, out=v)
            p = torch.addmm(hb, v, w, out=negative).sigmoid_()
        w.addmm_(x.T, positive, alpha=rate).addmm_(v.T, negative, alpha=-rate)
        hb.add_(positive.sum(0).sub_(negative.sum(0)), alpha=rate)
        vb.add_(x.sum(0).sub_(v.sum(0)), alpha=rate)

    return torch_loop(step, setting, x, lambda: (w, hb, vb))


def torch_loop(step, setting, x, parameters):
    """`Training` of a step that takes a tensor, on PyTorch's default device."""
    import torch

    batches = [torch.as_tensor(batch) for batch in array_batches(setting, x)]
    cuda = torch.cuda.is_available()
    return Training(
        *loop(step, batches, setting.steps, wait=lambda _: cuda and torch.cuda.synchronize()),
        lambda: [p.numpy(force=True) for p in parameters()],
    )


def rbms(setting, x):
    """The package `rbms` (PyTorch), its training loop without its log files. Its rule is PCD.

    Its optional centering is off, as the others have none. It divides gradients by their norm, so
    its learning rate means something else; ten times the others' makes it learn about as fast.
    """
    import torch
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.training.pcd import fit_batch_pcd

    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    w = torch.tensor(first_weights(setting))
    rbm = BBRBM(w, torch.zeros(VISIBLE), torch.zeros(setting.hidden))
    rbm.init_grad()
    optimizer = torch.optim.SGD(rbm.parameters(), lr=10 * setting.learning_rate, maximize=True)
    chains = rbm.init_chains(setting.batch)
    weights = torch.ones(setting.batch)

    def step(x):
        nonlocal chains
        optimizer.zero_grad(set_to_none=False)
        chains, _ = fit_batch_pcd(
            (x, weights), chains, rbm, setting.cd_steps, beta=1.0, centered=False
        )
        optimizer.step()

    return torch_loop(step, setting, x, lambda: (rbm.weight_matrix, rbm.hbias, rbm.vbias))


# This package


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


def fitted(setting, data, examples, steps_per_execution=None, **kwargs):
    """`ContrastiveDivergence.fit` as a user has it: progress and monitoring on."""
    import keras

    from rbm_tutorial import ContrastiveDivergence

    rbm = new_rbm(setting)
    model = ContrastiveDivergence(rbm, setting.batch if setting.persistent else 0)
    model.compile(
        keras.optimizers.SGD(setting.learning_rate), steps_per_execution=steps_per_execution
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


def recipe(setting, images, epochs):
    """`fit` as we would have it, for so many epochs: seconds, and (w, hb, vb).

    Centered, the learning rate falls to 0, weights are averaged over about 1,000 updates, and the
    pipeline draws the pixels of each batch. Centered gradients bear a larger rate at first.
    """
    import keras
    import tensorflow as tf

    from rbm_tutorial import RBM, ContrastiveDivergence
    from rbm_tutorial.training import linear_decay

    start = time.perf_counter()
    rbm = RBM(setting.hidden, cd_steps=setting.cd_steps, seed=0)
    rbm.adapt(images)
    model = ContrastiveDivergence(rbm, persistent_chains=setting.batch, centered=True)
    rate = linear_decay(setting.learning_rate, epochs * (len(images) // setting.batch))
    model.compile(keras.optimizers.SGD(rate, use_ema=True, ema_momentum=0.999))
    images = tf.constant(images)

    def binary(rows):
        p = tf.gather(images, rows)
        return tf.cast(tf.random.uniform(tf.shape(p), seed=0) < p, tf.float32)

    rows = tf.data.Dataset.range(len(images)).shuffle(len(images), seed=0)
    data = rows.batch(setting.batch, drop_remainder=True).map(binary).prefetch(2)
    model.fit(data, epochs=epochs, shuffle=False)
    return time.perf_counter() - start, weights_of(rbm)()


def cd_update(setting, x):
    """`RBM.cd_update` in a `tf.function`, called from a Python loop: the layer alone."""
    import tensorflow as tf

    rbm = new_rbm(setting)
    batches = [tf.constant(batch) for batch in array_batches(setting, x)]
    step = tf.function(rbm.cd_update)
    return Training(*loop(step, batches, setting.steps), weights_of(rbm))


# The limits: the matrix products of CD-k and nothing else, 3 + 2 k of them


def products_numpy(setting, x):
    """x·w, then k times h·wᵀ and v·w, then xᵀ·h and vᵀ·h, by NumPy's BLAS into given memory."""
    w = first_weights(setting)
    h0, h = np.empty((2, setting.batch, setting.hidden), "float32")
    v = np.empty((setting.batch, VISIBLE), "float32")
    gradient = np.empty_like(w)

    def step(x):
        np.matmul(x, w, out=h0)
        last = h0
        for _ in range(setting.cd_steps):
            np.matmul(last, w.T, out=v)
            last = np.matmul(v, w, out=h)
        np.matmul(x.T, h0, out=gradient)
        np.matmul(v.T, h, out=gradient)

    return Training(*loop(step, array_batches(setting, x), setting.steps))


def products(setting, x):
    """The same products in a loop that Keras' backend has compiled.

    The inputs alternate between two, chosen by the step, and the results are carried along, so
    that nothing can be moved out of the loop or left out.
    """
    from keras import ops

    from rbm_tutorial.backend import compiled

    xs = ops.convert_to_tensor(x[: 2 * setting.batch].reshape(2, setting.batch, VISIBLE))
    ws = ops.convert_to_tensor(np.stack([first_weights(setting)] * 2))

    @compiled
    def run(xs, ws, steps):
        def step(i, gradients):
            x, w = xs[i % 2], ws[i % 2]
            h0 = h = ops.matmul(x, w)
            for _ in range(setting.cd_steps):
                v = ops.matmul(h, ops.transpose(w))
                h = ops.matmul(v, w)
            return ops.matmul(ops.transpose(x), h0), ops.matmul(ops.transpose(v), h)

        return ops.fori_loop(0, steps, step, (ops.zeros_like(ws[0]), ops.zeros_like(ws[0])))

    steps = max(1, setting.steps // 4)
    return Training(timed(lambda: run(xs, ws, ops.convert_to_tensor(steps)), wait_for), steps)


def wait_for(result):
    """Return when Keras' backend has computed `result`; TensorFlow returns no sooner on a CPU."""
    import keras

    if keras.backend.backend() == "jax":
        import jax

        jax.block_until_ready(result)


CD1, CD, PCD = ("CD-1",), ("CD-1", "CD-10"), ("PCD-1",)
CONTENDERS = {
    "source": Contender(source, "tensorflow", CD),
    "scikit-learn": Contender(scikit_learn, "numpy", PCD),
    "PyTorch": Contender(pytorch, "torch", CD + PCD),
    "rbms": Contender(rbms, "torch", PCD),
    "fit": Contender(fit, "tensorflow", CD + PCD),
    "fit, oneDNN": Contender(fit, "oneDNN", CD + PCD),
    "fit on JAX": Contender(fit, "jax", CD + PCD),
    "fit, one update an execution": Contender(fit_1, "tensorflow", CD1),
    "fit from TFDS": Contender(fit_tfds, "tensorflow", CD1),
    "train_rbm": Contender(train_rbm, "tensorflow", CD1),
    "cd_update": Contender(cd_update, "tensorflow", CD1),
    "products, NumPy": Contender(products_numpy, "numpy", CD1),
    "products, TensorFlow": Contender(products, "tensorflow", CD),
    "products, oneDNN": Contender(products, "oneDNN", CD),
    "products, JAX": Contender(products, "jax", CD),
}
