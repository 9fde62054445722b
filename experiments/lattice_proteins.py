"""Lattice proteins: a Potts machine with rectified hidden units, and how well it predicts them.

    python experiments/lattice_proteins.py FASTA [--hidden 100] [--units relu] [--epochs 40]

FASTA holds sequences of 27 amino acids that fold into one structure on a lattice of 3×3×3 sites
(Jacquin et al., PLoS Computational Biology 12, 2016; the file comes with the code of Tubiana,
https://github.com/jertubiana/PGM), plain or gzipped. A fifth of them, drawn at random, is for
testing. Likelihoods are estimated by annealing in both directions, and written in nats a site to
rbm_tutorial/measured/lattice.json, one entry for each setting.
"""

import argparse
import gzip
import json
import platform
import time
from pathlib import Path

import keras
import numpy as np

from rbm_tutorial import RBM, ContrastiveDivergence
from rbm_tutorial.annealing import ais_log_partition, reverse_ais_log_partition
from rbm_tutorial.rectified import ReLU
from rbm_tutorial.results import FOLDER
from rbm_tutorial.sampling import run_chains
from rbm_tutorial.training import linear_decay
from rbm_tutorial.units import Bernoulli, Categorical, Gaussian

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY"
HIDDEN_UNITS = {"relu": ReLU(), "binary": Bernoulli(), "gaussian": Gaussian()}
BATCH = 100


def sequences(path):
    """Every sequence of a FASTA file as one-hot groups: (sequences, sites · 20) float32."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as file:
        letters = [line.strip() for line in file if not line.startswith(">")]
    numbers = np.array([[AMINO_ACIDS.index(letter) for letter in row] for row in letters])
    return np.eye(len(AMINO_ACIDS), dtype="float32")[numbers].reshape(len(numbers), -1)


def split(x, seed=0):
    order = np.random.default_rng(seed).permutation(len(x))
    held_out = len(x) // 5
    return {"train": x[order[held_out:]], "test": x[order[:held_out]]}


def train(x, options):
    rbm = RBM(
        options.hidden,
        visible_units=Categorical(len(AMINO_ACIDS)),
        hidden_units=HIDDEN_UNITS[options.units],
        cd_steps=options.steps,
        seed=0,
    )
    rbm.adapt(x)
    model = ContrastiveDivergence(rbm, persistent_chains=options.chains, centered=True)
    updates = options.epochs * -(-len(x) // BATCH)
    schedule = linear_decay(options.rate, updates)
    optimizer = keras.optimizers.SGD(schedule, use_ema=True, ema_momentum=0.999)
    model.compile(optimizer)
    keras.utils.set_random_seed(0)
    model.fit(x, batch_size=BATCH, epochs=options.epochs, verbose=2)
    return model


def evaluate(model, data, options):
    """Mean log-likelihood of training and test sequences, nats a site, by both directions."""
    rbm, schedule = model.rbm, {"num_betas": options.betas}
    schedule["base_rate"] = data["train"].mean(axis=0)
    samples = run_chains(rbm, data["train"][: options.ais_chains], options.burn_in)
    estimates = {
        "ais": ais_log_partition(rbm, options.ais_chains, seed=1, **schedule),
        "reverse_ais": reverse_ais_log_partition(rbm, samples, seed=1, **schedule),
    }
    sites = rbm.number_visible_units / len(AMINO_ACIDS)
    result = {}
    for name, estimate in estimates.items():
        result[name] = {
            "log_z": estimate.log_z,
            "standard_error": estimate.standard_error,
            "effective_sample_size": estimate.effective_sample_size,
        }
        for part, x in data.items():
            log_p = -np.mean(np.asarray(rbm.free_energy(x), "float64")) - estimate.log_z
            result[name][f"{part}_nats_a_site"] = log_p / sites
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fasta", type=Path)
    parser.add_argument("--units", choices=HIDDEN_UNITS, default="relu")
    for name, default in {
        "hidden": 100, "epochs": 40, "steps": 1, "chains": 100, "betas": 5000, "ais_chains": 100,
        "burn_in": 1000,
    }.items():  # fmt: skip
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--rate", type=float, default=0.05, help="falls to 0 linearly")
    options = parser.parse_args()
    data = split(sequences(options.fasta))
    start = time.monotonic()
    model = train(data["train"], options)
    seconds = time.monotonic() - start
    settings = {name: value for name, value in vars(options).items() if name != "fasta"}
    entry = {
        "settings": settings,
        "versions": {"python": platform.python_version(), "keras": keras.__version__},
        "backend": keras.backend.backend(),
        "seconds_of_training": seconds,
        **evaluate(model, data, options),
    }
    target = FOLDER / "lattice.json"
    entries = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
    entries[f"{options.units}_{options.hidden}"] = entry
    target.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(entry, indent=2))


if __name__ == "__main__":
    main()
