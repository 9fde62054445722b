"""What stops the best RBM(500)? Ten more epochs from where it ended, each with one thing changed.

    python experiments/late_phase.py --work DIR [--data-dir TFDS_DIR]

`--work` is where `likelihood_mnist.py best` has left its model. Every variant learns from the same
binary images and is evaluated by AIS with 200 chains; the results are written to
rbm_tutorial/measured/late_phase.json.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
from likelihood_mnist import (
    EVALUATION_SEEDS,
    RECIPES,
    BinaryDigits,
    compiled_model,
    splits,
    unnormalized_log_likelihood,
)

from rbm_tutorial import binarize
from rbm_tutorial.likelihood import ais_log_partition, salakhutdinov_murray_betas
from rbm_tutorial.results import FOLDER

# Batches of 500 make a fifth of the updates an epoch, so they get twice the epochs and the rate.
VARIANTS = {
    "none": {"epochs": 10, "learning_rate": 0.05},
    "twice the rate": {"epochs": 10, "learning_rate": 0.1},
    "500 chains, batches of 500": {
        "epochs": 20, "learning_rate": 0.1, "persistent_chains": 500, "batch_size": 500,
    },
    "25 Gibbs steps": {"epochs": 10, "learning_rate": 0.05, "cd_steps": 25},
    "1 Gibbs step": {"epochs": 10, "learning_rate": 0.05, "cd_steps": 1},
}  # fmt: skip


def go_on(start, recipe, images):
    """The model `start`, trained for `recipe.epochs` more."""
    digits = BinaryDigits(images, recipe)
    model = compiled_model(recipe, digits)
    model.rbm.set_weights(start.rbm.get_weights())
    for offset, value in zip(model.offsets, start.offsets):
        offset.assign(value)
    model.chains.assign(np.resize(np.array(start.chains), model.chains.shape))
    new_images = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: digits.start(1000 + epoch)
    )
    model.fit(digits, epochs=recipe.epochs, verbose=0, shuffle=False, callbacks=[new_images])
    return model


def evaluate(rbm, binary):
    schedule = {"base_rate": binary["train"].mean(axis=0), "betas": salakhutdinov_murray_betas()}
    estimate = ais_log_partition(rbm, 200, seed=2, **schedule)
    result = {"standard_error": estimate.standard_error}
    for name, x in binary.items():
        result[name] = unnormalized_log_likelihood(rbm, x).mean() - estimate.log_z
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="prepared TFDS directory; downloaded if not given")
    parser.add_argument("--work", type=Path, required=True, help="where `best` was trained")
    options = parser.parse_args()
    images = splits(options.data_dir)
    seeds = {name: EVALUATION_SEEDS[name] for name in ("train", "validation")}
    binary = {name: binarize(images[name], seed=seed) for name, seed in seeds.items()}
    start = keras.models.load_model(options.work / "best" / "model.keras")
    results = {"start": evaluate(start.rbm, binary)}
    for name, changes in VARIANTS.items():
        model = go_on(start, replace(RECIPES["best"], seed=7, **changes), images["train"])
        results[name] = {**changes, **evaluate(model.rbm, binary)}
        print(name, results[name], flush=True)
    target = FOLDER / "late_phase.json"
    target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
