"""A second layer of 2,000 units on an RBM(500): the bound on the likelihood of MNIST.

    python experiments/likelihood_mnist.py best_25 --work DIR [--data-dir TFDS_DIR]
    python experiments/bound_mnist.py best_25 --work DIR [--data-dir TFDS_DIR] [--epochs N]
    python experiments/bound_mnist.py pretrained --work DIR [--data-dir TFDS_DIR] [--epochs N]

The first layer is a machine that `likelihood_mnist.py` has trained and left in DIR, or the one
that comes with the package. The second starts as the first, transposed, with 1,216 further units
of small weights, so that the network begins as the distribution that the first layer is; it learns
states inferred from new binary images in every epoch. Interrupted runs go on from their last
epoch. Results are written to rbm_tutorial/measured/bound_FIRST.json: the bound on the images of
`likelihood_mnist.py`, with log Z of the top by AIS in both directions.
"""

import argparse
import json
import platform
import sys
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
from likelihood_mnist import (
    EVALUATION_SEEDS,
    RECIPES,
    BinaryDigits,
    Recipe,
    compiled_model,
    fit,
    model_samples,
    splits,
)

from rbm_tutorial import binarize, load_pretrained_rbm
from rbm_tutorial.greedy import transposed
from rbm_tutorial.likelihood import (
    ais_log_partition,
    reverse_ais_log_partition,
    salakhutdinov_murray_betas,
)
from rbm_tutorial.results import FOLDER
from rbm_tutorial.stack import DeepBeliefNetwork, variational_bound

CHAINS = 500


class InferredStates(BinaryDigits):
    """Batches of h ~ q(h | v) of binary images v: they depend on the seed and the epoch alone."""

    def __init__(self, images, recipe, rbm):
        self.rbm = rbm
        super().__init__(images, recipe)

    def start(self, epoch):
        super().start(epoch)
        batches = np.array_split(self.x, len(self.x) // 1000)
        p = np.concatenate([self.rbm.forward(batch) for batch in batches])
        rng = np.random.default_rng([self.recipe.seed, epoch, 1])
        self.x = np.float32(rng.random(p.shape, "float32") < p)


def evaluate(dbn, images):
    """The mean bound on each part, nats an image, by both estimates of log Z of the top."""
    binary = {name: binarize(images[name], seed=EVALUATION_SEEDS[name]) for name in images}
    inferred = np.asarray(dbn.sample_up(binary["train"][:20_000])[-1])
    schedule = {"base_rate": inferred.mean(axis=0), "betas": salakhutdinov_murray_betas()}
    start = np.random.default_rng(1).choice(inferred, CHAINS, replace=False)
    samples = model_samples(dbn.top, start)
    estimates = {
        "ais": ais_log_partition(dbn.top, CHAINS, seed=2, **schedule),
        "reverse_ais": reverse_ais_log_partition(dbn.top, samples, seed=3, **schedule),
    }
    result = {name: estimate._asdict() for name, estimate in estimates.items()}
    for estimate in result.values():
        del estimate["log_weights"]
    for name, x in binary.items():
        batches = np.array_split(x, len(x) // 1000)
        per_image = np.concatenate([variational_bound(dbn, batch, 0.0) for batch in batches])
        result[name] = {
            "bound": {key: float(per_image.mean() - estimates[key].log_z) for key in estimates},
            "standard_error_over_images": float(per_image.std() / np.sqrt(len(x))),
        }
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("first", choices=[*RECIPES, "pretrained"])
    parser.add_argument("--work", type=Path, required=True, help="where checkpoints are kept")
    parser.add_argument("--data-dir", help="prepared TFDS directory; downloaded if not given")
    parser.add_argument("--epochs", type=int, default=40)
    options = parser.parse_args()
    images = splits(options.data_dir)
    recipe = Recipe(
        hidden=2000, cd_steps=5, persistent_chains=100, centered=True, learning_rate=0.05,
        epochs=options.epochs, averaged=True,
    )  # fmt: skip
    if options.first == "pretrained":
        rbm = load_pretrained_rbm()
    else:
        rbm = keras.models.load_model(options.work / options.first / "model.keras").rbm
    work = options.work / f"bound_{options.first}"
    states = InferredStates(images["train"], recipe, rbm)
    top = transposed(rbm, recipe.hidden, seed=recipe.seed, cd_steps=5)
    model = compiled_model(recipe, states, top)
    seconds = fit(model, states, recipe.epochs, work)
    dbn = DeepBeliefNetwork([rbm, model.rbm])
    dbn.save(work / "network.keras")
    result = {
        "command": " ".join(["python", *sys.argv[:2]]),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ["keras", keras.backend.backend()]},
        "recipe": asdict(recipe),
    }
    if seconds:
        result["median_seconds_per_epoch"] = float(np.median(seconds))
    result |= evaluate(dbn, images)
    text = json.dumps(result, indent=2)
    file = FOLDER / f"bound_{options.first}.json"
    file.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
