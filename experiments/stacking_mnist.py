"""Train stacks on all of MNIST and classify with them: with all labels, and with few.

    python experiments/stacking_mnist.py SETUP --work DIR [--seed N] [--choose] [--data-dir DIR]

SETUP is one of those below. With `--choose` it learns from the first 50,000 training images and is
judged by the last 10,000; all choices were made so. Without, it learns from all 60,000 and looks
at the test images, once, when it is done. Errors are kept in measured/stacking.json of the package,
by setup and seed. A stack that several setups start from is trained once for each seed.

A run that was interrupted goes on from its last epoch when the same command is given again: order,
states and dropped units depend on the seed and the epoch alone, so that it ends with the same
weights, bit for bit. With KERAS_BACKEND=jax it takes two thirds of the time or less.
"""

import argparse
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
from sklearn.linear_model import LogisticRegression

from rbm_tutorial import RBM, ContrastiveDivergence, as_arrays, load_mnist
from rbm_tutorial.greedy import train_stack
from rbm_tutorial.labeled import LabeledRBM
from rbm_tutorial.recovery import Backup
from rbm_tutorial.results import FOLDER
from rbm_tutorial.stack import DeepBeliefNetwork
from rbm_tutorial.training import linear_decay
from rbm_tutorial.wake_sleep import WakeSleep

SIZES = (500, 500, 2000)
EPOCHS = 30  # of each layer of a stack
BATCH = 100
VALIDATION = 10_000
LABELS = (100, 1_000, 10_000)


# ---------------------------------------------------------------- runs that can be resumed


class Shuffled(keras.utils.PyDataset):
    """Batches of x, or (x, y), in an order that depends on the seed and the epoch alone."""

    def __init__(self, x, y, batch_size, seed):
        super().__init__()
        self.x, self.y, self.batch_size, self.seed = x, y, batch_size, seed
        self.start(0)

    def start(self, epoch):
        self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.x))

    def __len__(self):
        return -(-len(self.x) // self.batch_size)

    def __getitem__(self, i):
        rows = self.order[i * self.batch_size : (i + 1) * self.batch_size]
        return self.x[rows] if self.y is None else (self.x[rows], self.y[rows])


class ByEpoch(keras.callbacks.Callback):
    """Makes the order of the data, and which units are dropped, functions of the epoch."""

    def __init__(self, data):
        super().__init__()
        self.data = data

    def on_epoch_begin(self, epoch, logs=None):
        self.data.start(epoch)
        for i, layer in enumerate(self.model.layers):
            if isinstance(layer, keras.layers.Dropout):
                layer.seed_generator.state.assign([100 * self.data.seed + i, 1_000_000 * epoch])


class Seconds(keras.callbacks.Callback):
    """Adds the seconds of each epoch to a file, so that those before an interruption count, too."""

    def __init__(self, file):
        super().__init__()
        self.file = file

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        with self.file.open("a") as lines:
            lines.write(f"{time.monotonic() - self.start:.3f}\n")


class Run:
    """Where a run keeps its state, and what it learns from."""

    def __init__(self, options, images):
        part = "choose" if options.choose else "final"
        self.seed, self.choose = options.seed, options.choose
        self.folder = options.work / f"{part}_{options.seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        x, y = images
        self.x, self.y = (x[:-VALIDATION], y[:-VALIDATION]) if self.choose else (x, y)
        self.held_out = x[-VALIDATION:], y[-VALIDATION:]

    def callbacks(self, name):
        return [Backup(self.folder / name), Seconds(self.folder / f"{name}.seconds")]

    def fit(self, model, data, epochs, name):
        callbacks, short = [ByEpoch(data)], epochs * len(data) < 10_000
        if not short:  # others begin anew when they were interrupted
            callbacks += self.callbacks(name)
        model.fit(
            data, epochs=epochs, shuffle=False, verbose=0 if short else 2, callbacks=callbacks
        )


def decaying(optimizer, rate, steps, **kwargs):
    """An optimizer whose learning rate falls linearly to 0."""
    return optimizer(linear_decay(rate, steps), **kwargs)


# ---------------------------------------------------------------- networks


def new_rbms(run, top=RBM, rate=0.05):
    rbms = [
        RBM(size, seed=10 * run.seed + depth, learning_rate=rate, name=f"layer_{depth}")
        for depth, size in enumerate(SIZES[:-1])
    ]
    name = "labeled" if top is LabeledRBM else "layer_2"
    return [*rbms, top(SIZES[-1], seed=10 * run.seed + 2, learning_rate=rate, name=name)]


def stack(run, top=RBM, epochs=EPOCHS):
    """A stack trained layer by layer, from `run.folder` as far as it was trained before."""
    steps = epochs * -(-len(run.x) // BATCH)

    def optimizer(rbm):
        return decaying(keras.optimizers.SGD, rbm.learning_rate, steps, momentum=0.9)

    return train_stack(
        run.x,
        new_rbms(run, top),
        run.y if top is LabeledRBM else None,
        optimizer=optimizer,
        batch_size=BATCH,
        epochs=epochs,
        verbose=2,
        callbacks=lambda rbm: run.callbacks(rbm.name),
    )


def dense_layers(network):
    return [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]


def random_classifier(seed, **dropout):
    """The same network with the weights that Keras gives dense layers."""
    rbms = [RBM(size, seed=0) for size in SIZES]
    rbms[0].build([784])
    network = DeepBeliefNetwork(rbms).classifier(10, **dropout)
    for i, layer in enumerate(dense_layers(network)):
        layer.kernel.assign(keras.initializers.GlorotUniform(100 * seed + i)(layer.kernel.shape))
        layer.bias.assign(np.zeros(layer.bias.shape))
    return network


def fine_tuned(network, x, y, run, name, epochs, rate=1e-3, batch_size=BATCH):
    """`network` after `epochs` of backpropagation by Adam, its rate falling to 0."""
    last = dense_layers(network)[-1]
    last.kernel.assign(np.zeros(last.kernel.shape))
    batches = Shuffled(x, y, batch_size, run.seed)
    optimizer = decaying(keras.optimizers.Adam, rate, epochs * len(batches))
    network.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    run.fit(network, batches, epochs, name)
    return network


def with_regression(network, run):
    """`network` with logistic regression on its last hidden layer, which stays as it is."""
    hidden = keras.Sequential(network.layers[:-1])
    regression = LogisticRegression(C=1.0, max_iter=300)
    regression.fit(hidden.predict(run.x, batch_size=1000, verbose=0), run.y)
    network.layers[-1].set_weights([regression.coef_.T, regression.intercept_])
    return network


# ---------------------------------------------------------------- setups


def features(run):
    """Logistic regression on the hidden probabilities of one RBM."""
    rbm = RBM(2000, seed=run.seed)
    rbm.adapt(run.x)
    images = Shuffled(run.x, None, BATCH, run.seed)
    model = ContrastiveDivergence(rbm)
    model.compile(decaying(keras.optimizers.SGD, 0.02, EPOCHS * len(images), momentum=0.9))
    model.build((None, 784))
    run.fit(model, images, EPOCHS, "features")
    network = keras.Sequential(
        [
            keras.layers.Input((784,)),
            keras.layers.Dense(rbm.number_hidden_units, "sigmoid"),
            keras.layers.Dense(10, "softmax"),
        ]
    )
    network.layers[0].set_weights([np.asarray(rbm.w_rec), np.asarray(rbm.hb)])
    return with_regression(network, run)


def stack_features(run):
    """Logistic regression on the hidden probabilities at the top of a stack."""
    return with_regression(stack(run).classifier(10), run)


def pretrained(run):
    return fine_tuned(stack(run).classifier(10), run.x, run.y, run, "pretrained", epochs=30)


def random(run):
    """As many epochs as the three layers of the stack and its fine-tuning had together."""
    return fine_tuned(random_classifier(run.seed), run.x, run.y, run, "random", epochs=120)


def dropout(run):
    network = stack(run).classifier(10, dropout=0.5, input_dropout=0.2)
    return fine_tuned(network, run.x, run.y, run, "dropout", epochs=120)


def labeled(run):
    """A stack whose top RBM sees the labels, as greedy training leaves it."""
    return stack(run, LabeledRBM)


def up_down(run):
    """All layers of that stack at once, by contrastive wake-sleep."""
    dbn = labeled(run)
    dbn.top.cd_steps = 3
    batches = Shuffled(run.x, run.y, BATCH, run.seed)
    model = WakeSleep(dbn)
    model.compile(decaying(keras.optimizers.SGD, 0.05, 15 * len(batches), momentum=0.9))
    model.build((None, 784))
    run.fit(model, batches, 15, "up_down")
    return dbn


SETUPS = {
    setup.__name__: setup
    for setup in [features, stack_features, pretrained, random, dropout, labeled, up_down]
}


# ---------------------------------------------------------------- few labels


def few_labels(run, draws=2, updates=9_000):
    """(name, network) of each draw: the stack learns all images, the tuning few with labels."""
    dbn = stack(run)
    for number in LABELS:
        size = min(BATCH, number // 10)
        for draw in range(draws):
            rng = np.random.default_rng([run.seed, number, draw])
            rows = np.concatenate(
                [rng.choice(np.flatnonzero(run.y == k), number // 10, False) for k in range(10)]
            )
            rates = {"dropout": 0.5, "input_dropout": 0.2}
            for setup, network in [
                ("pretrained", dbn.classifier(10, **rates)),
                ("random", random_classifier(10 * run.seed + draw, **rates)),
            ]:
                name = f"{setup}_{number}_{draw}"
                data = run.x[rows], run.y[rows], run
                yield name, fine_tuned(network, *data, name, updates * size // number, 1e-3, size)


# ---------------------------------------------------------------- results


def error(network, x, y):
    """Share of wrong classes."""
    p = network.predict(x, batch_size=1000, verbose=0)
    return float(np.mean(np.argmax(p, axis=1) != y))


def keep(part, seed, errors):
    """Add {setup: error} to the results of this seed."""
    file = FOLDER / "stacking.json"
    results = json.loads(file.read_text("utf-8")) if file.exists() else {}
    backend = keras.backend.backend()
    packages = {name: version(name) for name in ["keras", backend, "scikit-learn"]}
    results["versions"] = {"python": platform.python_version(), **packages}
    results["sizes"] = SIZES
    for setup, value in errors.items():
        results.setdefault(part, {}).setdefault(setup, {})[str(seed)] = value
    file.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", "utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("setup", choices=[*SETUPS, "few_labels"])
    parser.add_argument("--work", type=Path, required=True, help="where checkpoints are kept")
    parser.add_argument("--data-dir", help="prepared TFDS directory; downloaded if not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--choose", action="store_true", help="hold out 10,000 training images")
    options = parser.parse_args()
    train, test = (as_arrays(part) for part in load_mnist("tfds", data_dir=options.data_dir))
    run = Run(options, train)
    judges = run.held_out if run.choose else test
    if options.setup == "few_labels":
        errors = {name: error(network, *judges) for name, network in few_labels(run)}
    else:
        errors = {options.setup: error(SETUPS[options.setup](run), *judges)}
    keep("validation_error" if run.choose else "test_error", run.seed, errors)


if __name__ == "__main__":
    main()
