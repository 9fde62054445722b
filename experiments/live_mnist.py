"""Compare the log-likelihood that `fit` reports of RBM(500) with annealing, while it learns MNIST.

    python experiments/live_mnist.py RECIPE --work DIR [--data-dir TFDS_DIR]

At ten epochs log Z of the averaged weights is estimated by annealed importance sampling in both
directions, and compared with what the chains of `likelihood_chains` say. It goes on from the last
of them when the same command is given again. Results are written to
rbm_tutorial/measured/live_RECIPE.json.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from rbm_tutorial import RBM, ContrastiveDivergence, as_arrays, binarize, load_mnist
from rbm_tutorial.likelihood import ais_log_partition, reverse_ais_log_partition
from rbm_tutorial.live_likelihood import error_squared, log_partition
from rbm_tutorial.results import FOLDER
from rbm_tutorial.sampling import run_chains
from rbm_tutorial.training import linear_decay

CHECKPOINTS = [1, 2, 3, 5, 8, 12, 16, 20, 25, 30]
BATCH, CHAINS, BURN_IN, BETAS, IMAGES = 100, 100, 500, 10_000, 10_000
RECIPES = {  # persistent chains, Gibbs steps, centered, rate
    "pcd5": (100, 5, True, 0.2),
    "pcd1": (100, 1, False, 0.05),
    "cd1": (0, 1, False, 0.05),
}


def model_of(recipe, updates):
    chains, steps, centered, rate = RECIPES[recipe]
    model = ContrastiveDivergence(
        RBM(500, cd_steps=steps, seed=1), chains, centered, likelihood_chains=CHAINS
    )
    model.compile(keras.optimizers.SGD(linear_decay(rate, updates)))
    return model


def compared(model, base_rate, x):
    """log Z of θ̄ by the live chains and by annealing, nats, and log p of validation images."""
    live, averaged = model.live, RBM(500, seed=2)
    averaged.build((None, x.shape[1]))
    averaged.set_weights([np.asarray(each.value) for each in live.average])
    start = binarize(np.tile(base_rate, (CHAINS, 1)), seed=3)
    samples = run_chains(averaged, start, BURN_IN)
    forward = ais_log_partition(averaged, CHAINS, BETAS, base_rate, seed=4)
    backward = reverse_ais_log_partition(averaged, samples, BETAS, base_rate, seed=5)
    return {
        "live_log_z": float(log_partition(live.values())),
        "live_error": float(error_squared(live.values())) ** 0.5,
        "resamplings": int(live.followed.resamplings),
        "ais_log_z": forward.log_z,
        "ais_error": forward.standard_error,
        "reverse_log_z": backward.log_z,
        "reverse_error": backward.standard_error,
        "validation_by_ais": float(-np.mean(averaged.free_energy(x)) - forward.log_z),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    images = as_arrays(load_mnist("tfds", data_dir=arguments.data_dir)[0])[0]
    train, validation = images[:-5000], binarize(images[-5000:], seed=102)
    base_rate, updates = train.mean(axis=0), len(train) // BATCH * CHECKPOINTS[-1]
    model = model_of(arguments.recipe, updates)
    arguments.work.mkdir(parents=True, exist_ok=True)
    states, results = arguments.work / "model.keras", arguments.work / "results.json"
    rows = json.loads(results.read_text()) if states.exists() else []
    if rows:
        model = keras.saving.load_model(states)
    for epoch in range(rows[-1]["epoch"] if rows else 0, CHECKPOINTS[-1]):
        keras.utils.set_random_seed(epoch)
        x = binarize(train, seed=1000 + epoch)
        logs = model.fit(x, batch_size=BATCH, verbose=0).history
        if epoch + 1 not in CHECKPOINTS:
            continue
        held_out = model.evaluate(validation, batch_size=500, verbose=0, return_dict=True)
        row = {"epoch": epoch + 1, "train": logs["log_likelihood"][0]}
        row |= {"validation": held_out["log_likelihood"], **compared(model, base_rate, validation)}
        rows.append(row)
        print(json.dumps(row), flush=True)
        model.save(states)
        results.write_text(json.dumps(rows))
    names = "keras", "jax" if keras.backend.backend() == "jax" else "tensorflow", "numpy"
    about = {
        "recipe": RECIPES[arguments.recipe],
        "live_chains": CHAINS,
        "ais_betas": BETAS,
        "training_images": len(train),
        "versions": {name: version(name) for name in names},
    }
    path = FOLDER / f"live_{arguments.recipe}.json"
    path.write_text(json.dumps({**about, "checkpoints": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
