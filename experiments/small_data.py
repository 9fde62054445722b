"""Train machines on small binary data sets, and measure their likelihood on held-out examples.

    python experiments/small_data.py NAME FOLDER [--hidden 23] [--updates 10000]
        [--rate 0.1] [--decays 0 0.003 0.01 0.03] [--seeds 3]

FOLDER holds NAME.train.csv.gz, NAME.valid.csv.gz and NAME.test.csv.gz, a row of zeros and ones for
each example, as they are published with {adult, dna, mushrooms, nips, …}; or one file whose name
holds NAME, with the matrices train_data, val_data and test_data, as the silhouettes of Caltech 101
have it. Each machine learns by centered PCD-5 at a rate that falls to zero; the live likelihood of
the validation data says which averaged weights are kept, and which weight decay is. The chosen
setting is trained anew from other seeds, and the log-likelihood of the test data is exact for up to
26 units, else from annealing in both directions. Results are written to
rbm_tutorial/measured/NAME_HIDDEN.json.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
from scipy.io import loadmat

from rbm_tutorial import RBM, ContrastiveDivergence
from rbm_tutorial.exact import exact_log_partition
from rbm_tutorial.likelihood import ais_log_partition, log_likelihood, reverse_ais_log_partition
from rbm_tutorial.results import FOLDER
from rbm_tutorial.sampling import run_chains
from rbm_tutorial.training import linear_decay

LOOKS, BATCH, CHAINS, BETAS = 40, 100, 100, 20_000


def examples(folder, name, part):
    """Zeros and ones, (examples, visible), of rows of text or of a matrix of MATLAB's."""
    for file in folder.glob(f"*{name}*.mat"):
        return loadmat(file)[f"{part.replace('valid', 'val')}_data"].astype("float32")
    return np.loadtxt(folder / f"{name}.{part}.csv.gz", delimiter=",", dtype="float32")


def repeated(x, updates):
    """As many whole passes over the examples as make about so many updates."""
    return np.tile(x, (max(1, round(updates * BATCH / len(x))), 1))


def trained(train, valid, hidden, updates, rate, decay, seed):
    """The machine of averaged weights with the best live likelihood of `valid`, and that."""
    keras.utils.set_random_seed(seed)
    rbm = RBM(hidden, cd_steps=5, seed=seed)
    rbm.adapt(train)
    model = ContrastiveDivergence(rbm, CHAINS, centered=True, likelihood_chains=CHAINS)
    optimizer = keras.optimizers.SGD(linear_decay(rate, updates), weight_decay=decay)
    optimizer.exclude_from_weight_decay(var_names=["hb", "vb"])
    model.compile(optimizer)
    keep = keras.callbacks.EarlyStopping(
        "val_log_likelihood", mode="max", patience=LOOKS // 4, restore_best_weights=True
    )
    history = model.fit(
        repeated(train, updates // LOOKS),
        batch_size=BATCH,
        epochs=LOOKS,
        validation_data=(valid,),
        callbacks=[keep],
        verbose=0,
    ).history["val_log_likelihood"]
    averaged = RBM(hidden, seed=seed)
    averaged.build((None, train.shape[1]))
    averaged.set_weights([np.asarray(each.value) for each in model.live.average])
    keras.backend.clear_session()
    return averaged, float(np.max(history)), int(np.argmax(history)) + 1


def log_partitions(rbm, train, seed):
    """log Z, exactly or by annealing in both directions, nats, with standard errors."""
    if rbm.number_hidden_units <= 26:
        return {"exact": (exact_log_partition(rbm), 0.0)}
    base = np.clip(train.mean(axis=0), 0.01, 0.99)
    start = np.random.default_rng(seed).permutation(train)[:CHAINS]
    ends = run_chains(rbm, start, 5000)
    forward = ais_log_partition(rbm, CHAINS, BETAS, base, seed=seed)
    backward = reverse_ais_log_partition(rbm, ends, BETAS, base, seed=seed + 1)
    return {
        "forward": (forward.log_z, forward.standard_error),
        "backward": (backward.log_z, backward.standard_error),
    }


def measured(rbm, train, test, seed):
    values = {}
    for way, (log_z, error) in log_partitions(rbm, train, seed).items():
        log_p = np.asarray(log_likelihood(rbm, test, log_z))
        values[way] = {
            "test": float(log_p.mean()),
            "error_of_log_z": error,
            "error_of_examples": float(log_p.std(ddof=1) / len(test) ** 0.5),
            "train": float(np.mean(log_likelihood(rbm, train, log_z))),
        }
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hidden", type=int, default=23)
    parser.add_argument("--updates", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--decays", type=float, nargs="+", default=[0.0, 0.003, 0.01, 0.03])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    name, hidden, updates = arguments.name, arguments.hidden, arguments.updates
    train, valid, test = (
        examples(arguments.folder, name, part) for part in ("train", "valid", "test")
    )
    tries = []
    for decay in arguments.decays:
        _, best, look = trained(train, valid, hidden, updates, arguments.rate, decay, seed=0)
        tries.append({"rate": arguments.rate, "decay": decay, "validation": best, "look": look})
        print(tries[-1], flush=True)
    chosen = max(tries, key=lambda each: each["validation"])
    runs = []
    for seed in range(1, arguments.seeds + 1):
        setting = chosen["rate"], chosen["decay"]
        rbm, best, look = trained(train, valid, hidden, updates, *setting, seed=seed)
        runs.append({"seed": seed, "look": look, "live_validation": best})
        runs[-1] |= measured(rbm, train, test, seed)
        print(runs[-1], flush=True)
    result = {
        "name": name,
        "hidden": hidden,
        "examples": [len(train), len(valid), len(test)],
        "updates": updates,
        "looks": LOOKS,
        "tries": tries,
        "chosen": chosen,
        "runs": runs,
        "keras": version("keras"),
        "backend": keras.backend.backend(),
    }
    (FOLDER / f"{name}_{hidden}.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
