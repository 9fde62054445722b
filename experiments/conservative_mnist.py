"""How far the conservative bound lies below AIS on MNIST, for longer and longer annealing.

    python experiments/conservative_mnist.py pretrained [--data-dir TFDS_DIR]
    python experiments/conservative_mnist.py RECIPE --work DIR [--data-dir TFDS_DIR]

The machine is the one that comes with the package, or one that `likelihood_mnist.py` has trained
and left in DIR; log Z is what AIS said of it there, in likelihood_RECIPE.json. The first 200 test
images, binary as there, are annealed down from the machine through 1,000, 10,000 and 100,000 even
temperatures. Standard errors are over images; that of log Z, common to all, stands beside them.
Results are written to rbm_tutorial/measured/conservative_RECIPE.json.
"""

import argparse
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
from likelihood_mnist import EVALUATION_SEEDS, RECIPES, binary_images, splits

from rbm_tutorial import load_pretrained_rbm
from rbm_tutorial.likelihood import conservative_log_likelihood
from rbm_tutorial.results import FOLDER, stored_result

IMAGES, TEMPERATURES = 200, (1_000, 10_000, 100_000)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("machine", choices=[*RECIPES, "pretrained"])
    parser.add_argument("--data-dir", help="prepared TFDS directory; downloaded if not given")
    parser.add_argument("--work", type=Path, help="where `likelihood_mnist.py` kept its machine")
    options = parser.parse_args()
    if options.machine == "pretrained":
        rbm, recipe = load_pretrained_rbm(), RECIPES["best"]
    else:
        if options.work is None:
            parser.error("--work is needed: the machine is there")
        recipe = RECIPES[options.machine]
        rbm = keras.saving.load_model(options.work / options.machine / "model.keras").rbm
    ais = stored_result(f"likelihood_{options.machine}")["ais"]
    images = splits(options.data_dir)
    binary = {
        name: binary_images(images[name], recipe, EVALUATION_SEEDS[name])
        for name in ("train", "test")
    }
    base_rate, x = binary["train"].mean(axis=0), binary["test"][:IMAGES]
    by_ais = -np.asarray(rbm.free_energy(x), "float64") - ais["log_z"]
    result = {
        "command": f"python experiments/conservative_mnist.py {options.machine}",
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ["keras", keras.backend.backend()]},
        "images": IMAGES,
        "ais": {
            "mean": by_ais.mean(),
            "standard_error_over_images": error_over_images(by_ais),
            "standard_error_of_log_z": ais["standard_error"],
        },
        "bound": [],
    }
    for count in TEMPERATURES:
        start = time.monotonic()
        bound = conservative_log_likelihood(rbm, x, count, base_rate, seed=4)
        row = {
            "temperatures": count,
            "mean": bound.mean(),
            "below": (by_ais - bound).mean(),
            "standard_error_over_images": error_over_images(by_ais - bound),
            "seconds": time.monotonic() - start,
        }
        result["bound"].append(row)
        print(f"{count:7,} temperatures: {row['below']:.2f} nats below", flush=True)
    path = FOLDER / f"conservative_{options.machine}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def error_over_images(values):
    return values.std(ddof=1) / np.sqrt(len(values))


if __name__ == "__main__":
    main()
