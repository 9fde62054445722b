"""Train RBMs on all of MNIST and measure their likelihood, exactly or by AIS in both directions.

    python experiments/likelihood_mnist.py RECIPE --work DIR [--data-dir TFDS_DIR]
    python experiments/likelihood_mnist.py pretrained [--data-dir TFDS_DIR]

`--data-dir` is a prepared TFDS directory (`python -m rbm_tutorial.data --from-idx …`); without it
MNIST is downloaded. Training can be interrupted: the same command goes on from the last epoch in
`--work`, bit for bit. `pretrained` trains nothing: it evaluates the weights in the package. Results
are written to rbm_tutorial/measured: the numbers to likelihood_RECIPE.json, 20 of the model's
samples to samples_RECIPE.npz.

The last 5,000 training images are for validation, on which all choices were made. Every epoch
draws new binary images, unless the recipe fixes them; those for evaluation are fixed by seeds of
their own. A recipe that learns thresholded images is evaluated on thresholded images.
"""

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
from keras import ops

from rbm_tutorial import (
    RBM,
    ContrastiveDivergence,
    as_arrays,
    binarize,
    load_mnist,
    load_pretrained_rbm,
)
from rbm_tutorial.contrast import centered_gradient, with_gradient
from rbm_tutorial.likelihood import (
    ais_log_partition,
    chain_diagnostics,
    exact_log_partition,
    pseudo_log_likelihood,
    reverse_ais_log_partition,
    salakhutdinov_murray_betas,
)
from rbm_tutorial.recovery import Backup
from rbm_tutorial.results import FOLDER
from rbm_tutorial.sampling import run_chains
from rbm_tutorial.training import linear_decay

EVALUATION_SEEDS = {"train": 101, "validation": 102, "test": 103}


@dataclass(frozen=True)
class Recipe:
    hidden: int = 500
    cd_steps: int = 1
    persistent_chains: int = 0
    centered: bool = False
    learning_rate: float = 0.05  # falls linearly to 0, after the share `held` of the updates
    held: float = 0.0
    batch_size: int = 100
    epochs: int = 100
    averaged: bool = False  # exponential average of the weights, over about 1,000 steps
    binarized: str = "each epoch"  # or "once", or "by threshold", as others do
    weight_decay: float = 0.0  # of the weights, not of the biases
    smoothness: float = 0.0  # λ of `SmoothFilters`, which are centered always
    seed: int = 0


BEST = {"cd_steps": 5, "persistent_chains": 100, "centered": True, "learning_rate": 0.2}
RECIPES = {
    "cd1": Recipe(cd_steps=1, centered=True, epochs=20),
    "cd3": Recipe(cd_steps=3, centered=True),
    "cd25": Recipe(cd_steps=25, centered=True, learning_rate=0.1),
    "pcd": Recipe(persistent_chains=100, centered=True),
    "best": Recipe(**BEST, averaged=True, epochs=400),
    "long": Recipe(**BEST | {"learning_rate": 0.3}, held=0.5, averaged=True, epochs=1000),
    "best_25": Recipe(**BEST, averaged=True, epochs=25),
    "best_fixed": Recipe(**BEST, averaged=True, epochs=400, binarized="once"),
    "smooth_fixed": Recipe(**BEST, averaged=True, epochs=300, binarized="once", smoothness=0.0006),
    "cd1_20": Recipe(hidden=20, cd_steps=1, centered=True),
    "cd3_20": Recipe(hidden=20, cd_steps=3, centered=True),
    "cd25_20": Recipe(hidden=20, cd_steps=25, centered=True),
    "pcd_20": Recipe(hidden=20, persistent_chains=100, centered=True),
    "best_20": Recipe(**BEST, averaged=True, hidden=20),
    "threshold_16": Recipe(**BEST, averaged=True, hidden=16, binarized="by threshold"),
}
for hidden in [100, 250, 500, 1000, 2000]:  # wide machines need smaller steps
    rate = BEST["learning_rate"] * (500 / hidden) ** 0.5
    options = BEST | {"learning_rate": rate, "averaged": True, "hidden": hidden}
    RECIPES[f"size_{hidden}"] = Recipe(**options)
for seed in [1, 2]:
    RECIPES[f"size_500_seed_{seed}"] = replace(RECIPES["size_500"], seed=seed)


def binary_images(images, recipe, seed):
    if recipe.binarized == "by threshold":
        return binarize(images, threshold=0.5)
    return binarize(images, seed=seed)


class BinaryDigits(keras.utils.PyDataset):
    """Batches of binary images: order and pixels depend on the seed and the epoch alone."""

    def __init__(self, images, recipe):
        super().__init__()
        self.images, self.recipe = images, recipe
        self.start(0)

    def start(self, epoch):
        rng = np.random.default_rng([self.recipe.seed, epoch])
        order = rng.permutation(len(self.images))
        seed = self.recipe.seed if self.recipe.binarized == "once" else int(rng.integers(2**31))
        self.x = binary_images(self.images, self.recipe, seed)[order]

    def __len__(self):
        return len(self.images) // self.recipe.batch_size

    def __getitem__(self, i):
        size = self.recipe.batch_size
        return self.x[i * size : (i + 1) * size]


def splits(data_dir):
    train, test = load_mnist("tfds", data_dir=data_dir)
    images = as_arrays(train)[0]
    return {"train": images[:-5000], "validation": images[-5000:], "test": as_arrays(test)[0]}


class EpochSeconds(keras.callbacks.Callback):
    """Wall time of each epoch of this call, in `seconds`."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.monotonic() - self.start)


class SmoothFilters(ContrastiveDivergence):
    """Centered learning that also lowers λ/2 Σ (w_ij - w_i'j)², over neighboring pixels i, i'.

    The chance by which a pixel was drawn once is not that of its neighbors, and smooth filters
    cannot learn it. The penalty moves w at constant centered biases, so that the inputs of units
    at mean states stay as they are. It is not part of the loss that is reported.

    Args:
        smoothness: λ.
    """

    def __init__(self, rbm, smoothness, persistent_chains=0):
        super().__init__(rbm, persistent_chains, centered=True)
        self.smoothness = smoothness

    def batch_loss(self, x, y, y_pred, weights, training):
        loss = super().batch_loss(x, y, y_pred, weights, training)
        if not training:
            return loss
        w, hb, vb, *offsets = (
            variable.value for variable in (self.rbm.w_rec, self.rbm.hb, self.rbm.vb, *self.offsets)
        )
        dw, still = self.smoothness * laplacian(w), (ops.zeros_like(hb), ops.zeros_like(vb))
        gradient = centered_gradient(dw, *still, *offsets[:2])
        return loss + with_gradient(ops.zeros_like(loss), w, hb, vb, *gradient)


def laplacian(w):
    """Σ_i' (w_i - w_i'), i' the neighbors of pixel i: (784, hidden) → (784, hidden)."""
    filters = ops.reshape(w, (28, 28, -1))
    down, right = filters[1:] - filters[:-1], filters[:, 1:] - filters[:, :-1]
    of_rows = ops.pad(down, [(1, 0), (0, 0), (0, 0)]) - ops.pad(down, [(0, 1), (0, 0), (0, 0)])
    of_columns = ops.pad(right, [(0, 0), (1, 0), (0, 0)]) - ops.pad(right, [(0, 0), (0, 1), (0, 0)])
    return ops.reshape(of_rows + of_columns, ops.shape(w))


def compiled_model(recipe, digits, rbm=None):
    """A model of a new RBM, its learning rate falling to 0 over `recipe.epochs` of `digits`."""
    if rbm is None:
        rbm = RBM(recipe.hidden, cd_steps=recipe.cd_steps, seed=recipe.seed)
        rbm.adapt(digits.images)
    if recipe.smoothness:
        model = SmoothFilters(rbm, recipe.smoothness, recipe.persistent_chains)
    else:
        model = ContrastiveDivergence(rbm, recipe.persistent_chains, recipe.centered)
    steps = recipe.epochs * len(digits)
    schedule = linear_decay(recipe.learning_rate, steps, recipe.held)
    optimizer = keras.optimizers.SGD(
        schedule,
        weight_decay=recipe.weight_decay or None,
        use_ema=recipe.averaged,
        ema_momentum=0.999,
    )
    optimizer.exclude_from_weight_decay(var_names=["hb", "vb"])
    model.compile(optimizer, steps_per_execution=50)
    model.build((None, rbm.number_visible_units))
    return model


def fit(model, digits, epochs, work):
    """Train, going on from what an interrupted run left in `work`: seconds of each epoch."""
    clock = EpochSeconds()
    model.fit(
        digits,
        epochs=epochs,
        verbose=2,
        shuffle=False,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: digits.start(epoch)),
            clock,
            Backup(work),
        ],
    )
    return clock.seconds


def train(recipe, images, work):
    """The trained model; its seconds an epoch are kept in `work`, whatever interrupts the run."""
    digits = BinaryDigits(images, recipe)
    model = compiled_model(recipe, digits)
    seconds = fit(model, digits, recipe.epochs, work)
    if seconds:
        np.save(work / "seconds_per_epoch.npy", np.median(seconds))
    return model


def model_samples(rbm, v, steps=10_000):
    """The ends of Gibbs chains that start at training images: they know every mode of the data."""
    return run_chains(rbm, v, steps // 10, lambda v: rbm.forward_gibbs(v, steps=10))


def unnormalized_log_likelihood(rbm, x):
    """-F of each image, (images,) float64; the log-likelihood is that minus log Z."""
    batches = np.array_split(x, len(x) // 1000)
    return -np.concatenate([rbm.free_energy(batch) for batch in batches]).astype("float64")


def evaluate(rbm, images, recipe, chains=500):
    """What is reported about a trained model, with data binarized by fixed seeds; and samples."""
    seeds = dict(EVALUATION_SEEDS)
    if recipe.binarized == "once":
        seeds["train"] = recipe.seed  # the very images that were learned
    binary = {name: binary_images(images[name], recipe, seeds[name]) for name in images}
    schedule = {"base_rate": binary["train"].mean(axis=0), "betas": salakhutdinov_murray_betas()}
    start = np.random.default_rng(1).choice(binary["train"], chains, replace=False)
    samples = model_samples(rbm, start)
    estimates = {
        "ais": ais_log_partition(rbm, chains, seed=2, **schedule),
        "reverse_ais": reverse_ais_log_partition(rbm, samples, seed=3, **schedule),
    }
    log_z = {name: estimate.log_z for name, estimate in estimates.items()}
    if rbm.number_hidden_units <= 20:
        log_z["exact"] = exact_log_partition(rbm)
    result = {}
    for name, estimate in estimates.items():
        result[name] = estimate._asdict()
        del result[name]["log_weights"]
    diagnostics = chain_diagnostics(rbm, samples[:100], steps=1000)
    result["chains"] = {
        "effective_sample_size": diagnostics.effective_sample_size,
        "potential_scale_reduction": diagnostics.potential_scale_reduction,
        "mean_free_energy": float(diagnostics.free_energies.mean()),
    }
    for name, x in binary.items():
        batches = np.array_split(x, len(x) // 1000)
        per_image = unnormalized_log_likelihood(rbm, x)
        result[name] = {
            "log_likelihood": {key: per_image.mean() - value for key, value in log_z.items()},
            "standard_error_over_images": per_image.std() / np.sqrt(len(x)),
            "reconstruction_cost": float(np.mean([rbm.reconstruction_cost(b) for b in batches])),
            "pseudo_log_likelihood": float(np.mean(pseudo_log_likelihood(rbm, x[:1000]))),
        }
    return result, rbm.reverse(rbm.sample_h(samples[:20]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=[*RECIPES, "pretrained"])
    parser.add_argument("--data-dir", help="prepared TFDS directory; downloaded if not given")
    parser.add_argument("--work", type=Path, help="where checkpoints are kept")
    options = parser.parse_args()
    images = splits(options.data_dir)
    result = {
        "command": " ".join(["python", *sys.argv[:2]]),
        "evaluation_seeds": EVALUATION_SEEDS,
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ["keras", keras.backend.backend()]},
    }
    if options.recipe == "pretrained":
        rbm, recipe = load_pretrained_rbm(), RECIPES["best"]
    else:
        if options.work is None:
            parser.error("--work is needed: checkpoints are kept there")
        recipe, work = RECIPES[options.recipe], options.work / options.recipe
        model = train(recipe, images["train"], work)
        model.save(work / "model.keras")
        rbm = model.rbm
        result["recipe"] = asdict(recipe)
        result["median_seconds_per_epoch"] = float(np.load(work / "seconds_per_epoch.npy"))
    numbers, samples = evaluate(rbm, images, recipe)
    np.savez_compressed(
        FOLDER / f"samples_{options.recipe}.npz", probabilities=np.uint8(np.round(255 * samples))
    )
    text = json.dumps({**result, **numbers}, indent=2)
    (FOLDER / f"likelihood_{options.recipe}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
