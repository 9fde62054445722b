"""Train RBMs on all of MNIST and measure their likelihood, exactly or by AIS in both directions.

    python experiments/likelihood_mnist.py RECIPE --data-dir TFDS_DIR --work DIR [--epochs N]

`--data-dir` is a prepared TFDS directory (`python -m rbm_tutorial.data --from-idx …`); without it
MNIST is downloaded. Training can be interrupted: the same command goes on from the last epoch in
`--work`, bit for bit. The result is written to experiments/results/likelihood_RECIPE.json.

The last 5,000 training images are for validation, on which all choices were made. Every epoch
draws new binary images, unless the recipe fixes them; those for evaluation are fixed by seeds of
their own.
"""

import argparse
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from rbm_tutorial import RBM, ContrastiveDivergence, as_arrays, binarize, load_mnist
from rbm_tutorial.likelihood import (
    ais_log_partition,
    chain_diagnostics,
    exact_log_partition,
    pseudo_log_likelihood,
    reverse_ais_log_partition,
    salakhutdinov_murray_betas,
)

EVALUATION_SEEDS = {"train": 101, "validation": 102, "test": 103}


@dataclass(frozen=True)
class Recipe:
    hidden: int = 500
    cd_steps: int = 1
    persistent_chains: int = 0
    centered: bool = False
    learning_rate: float = 0.05  # falls linearly to 0
    batch_size: int = 100
    epochs: int = 100
    weight_decay: float = 0.0
    averaged: bool = False  # exponential average of the weights, over about 1,000 steps
    fixed_binarization: bool = False
    seed: int = 0


BEST = {"cd_steps": 5, "persistent_chains": 100, "centered": True, "learning_rate": 0.2}
RECIPES = {
    "cd1": Recipe(cd_steps=1, centered=True, epochs=20),
    "cd3": Recipe(cd_steps=3, centered=True),
    "cd25": Recipe(cd_steps=25, centered=True),
    "pcd": Recipe(persistent_chains=100, centered=True),
    "best": Recipe(**BEST, averaged=True, epochs=400),
    "best_fixed": Recipe(**BEST, averaged=True, epochs=400, fixed_binarization=True),
    "cd1_20": Recipe(hidden=20, cd_steps=1, centered=True),
    "cd3_20": Recipe(hidden=20, cd_steps=3, centered=True),
    "cd25_20": Recipe(hidden=20, cd_steps=25, centered=True),
    "pcd_20": Recipe(hidden=20, persistent_chains=100, centered=True),
    "best_20": Recipe(**BEST, averaged=True, hidden=20),
}


class BinaryDigits(keras.utils.PyDataset):
    """Batches of binary images: order and pixels depend on the seed and the epoch alone."""

    def __init__(self, images, recipe):
        super().__init__()
        self.images, self.recipe = images, recipe
        self.start(0)

    def start(self, epoch):
        rng = np.random.default_rng([self.recipe.seed, epoch])
        order = rng.permutation(len(self.images))
        seed = self.recipe.seed if self.recipe.fixed_binarization else int(rng.integers(2**31))
        self.x = binarize(self.images, seed=seed)[order]

    def __len__(self):
        return len(self.images) // self.recipe.batch_size

    def __getitem__(self, i):
        size = self.recipe.batch_size
        return self.x[i * size : (i + 1) * size]


def splits(data_dir):
    train, test = load_mnist("tfds", data_dir=data_dir)
    images = as_arrays(train)[0]
    return {"train": images[:-5000], "validation": images[-5000:], "test": as_arrays(test)[0]}


def train(recipe, images, work):
    """The trained model and the seconds that this call spent on it."""
    digits = BinaryDigits(images, recipe)
    rbm = RBM(recipe.hidden, cd_steps=recipe.cd_steps, seed=recipe.seed)
    rbm.adapt(images)
    model = ContrastiveDivergence(rbm, recipe.persistent_chains, recipe.centered)
    steps = recipe.epochs * len(digits)
    schedule = keras.optimizers.schedules.PolynomialDecay(recipe.learning_rate, steps, 0.0)
    model.compile(
        keras.optimizers.SGD(
            schedule,
            weight_decay=recipe.weight_decay or None,
            use_ema=recipe.averaged,
            ema_momentum=0.999,
        ),
        steps_per_execution=50,
    )
    model.build((None, images.shape[1]))
    start = time.monotonic()
    model.fit(
        digits,
        epochs=recipe.epochs,
        verbose=2,
        shuffle=False,
        callbacks=[
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: digits.start(epoch)),
            keras.callbacks.BackupAndRestore(work, delete_checkpoint=False),
        ],
    )
    return model, time.monotonic() - start


def negative_chains(model, count, steps, seed=1):
    """Samples of the model: chains that start at its persistent ones, or at independent pixels."""
    rbm = model.rbm
    if model.persistent_chains:
        v = np.resize(np.array(model.chains), (count, rbm.number_visible_units))
    else:
        v = np.random.default_rng(seed).random((count, rbm.number_visible_units))
        v = (v < 1 / (1 + np.exp(-np.array(rbm.vb)))).astype("float32")
    step = tf.function(lambda v: rbm.forward_gibbs(v, steps=10))
    for _ in range(steps // 10):
        v = step(v)
    return v


def partition_estimates(rbm, samples, base_rate, chains=100, betas=None):
    betas = salakhutdinov_murray_betas() if betas is None else betas
    forward = ais_log_partition(rbm, chains, base_rate=base_rate, seed=2, betas=betas)
    reverse = reverse_ais_log_partition(rbm, samples, base_rate=base_rate, seed=3, betas=betas)
    return {"ais": forward, "reverse_ais": reverse}


def evaluate(model, images, chain_steps=10_000):
    """Everything that is reported about a trained model, with data binarized by fixed seeds."""
    rbm = model.rbm
    binary = {name: binarize(images[name], seed=EVALUATION_SEEDS[name]) for name in images}
    samples = negative_chains(model, 100, chain_steps)
    base_rate = binary["train"].mean(axis=0)
    log_z, result = {}, {}
    if rbm.number_hidden_units <= 20:
        log_z["exact"] = exact_log_partition(rbm)
    for name, estimate in partition_estimates(rbm, samples, base_rate).items():
        log_z[name] = estimate.log_z
        result[name] = {
            "log_z": estimate.log_z,
            "standard_error": estimate.standard_error,
            "effective_sample_size": estimate.effective_sample_size,
        }
    diagnostics = chain_diagnostics(rbm, samples, steps=1000)
    result["chains"] = {
        "effective_sample_size": diagnostics.effective_sample_size,
        "potential_scale_reduction": diagnostics.potential_scale_reduction,
        "mean_free_energy": float(diagnostics.free_energies.mean()),
    }
    for name, x in binary.items():
        batches = np.array_split(x, len(x) // 1000)
        per_image = -np.concatenate([rbm.free_energy(b) for b in batches]).astype("float64")
        result[name] = {
            "log_likelihood": {key: per_image.mean() - value for key, value in log_z.items()},
            "standard_error_over_images": per_image.std() / np.sqrt(len(x)),
            "reconstruction_cost": float(np.mean([rbm.reconstruction_cost(b) for b in batches])),
            "pseudo_log_likelihood": float(np.mean(pseudo_log_likelihood(rbm, x[:1000]))),
        }
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--data-dir", help="prepared TFDS directory; downloaded if not given")
    parser.add_argument("--work", type=Path, required=True, help="where checkpoints are kept")
    options = parser.parse_args()
    recipe, images = RECIPES[options.recipe], splits(options.data_dir)
    work = options.work / options.recipe
    model, seconds = train(recipe, images["train"], work)
    model.save(work / "model.keras")
    result = {
        "command": " ".join(["python", *sys.argv[:2]]),
        "recipe": asdict(recipe),
        "evaluation_seeds": EVALUATION_SEEDS,
        "versions": {"python": platform.python_version(), "tensorflow": tf.__version__,
                     "keras": keras.__version__},
        "training_seconds_of_the_last_call": seconds,
        **evaluate(model, images),
    }  # fmt: skip
    target = Path(__file__).parent / "results" / f"likelihood_{options.recipe}.json"
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(target.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
