"""How well chains of two RBM(500) mix: Gibbs sampling and two ladders, at equal products.

    python experiments/mixing_mnist.py [--chains N] [--rungs N] [--steps N]

One machine comes with the package; the other learns here, from the digits that come with it, and
leaves the checkpoints of which trajectory tempering makes its ladder. A step on a ladder of N rungs
costs N Gibbs steps; Gibbs sampling has as many chains and N times as many steps, so that all
multiply as many rows by as many weights. Half of the chains start at digits, half at independent
pixels of the same means. The first half of the steps is left out: in it the temperatures are
placed. Results are written to rbm_tutorial/measured/mixing.json.
"""

import argparse
import json
import platform
import sys
import time
from importlib.metadata import version

import keras
import numpy as np

from rbm_tutorial import (
    RBM,
    ContrastiveDivergence,
    as_arrays,
    binarize,
    load_mnist,
    load_pretrained_rbm,
)
from rbm_tutorial.draws import potential_scale_reduction
from rbm_tutorial.results import FOLDER
from rbm_tutorial.sampling import run_chains
from rbm_tutorial.tempering import TemperedChains
from rbm_tutorial.training import linear_decay
from rbm_tutorial.trajectory import TrajectoryChains

BATCH, BETWEEN, UPDATES = 100, 5, 10_000  # examples, updates between looks at weights, and all


def trained(images, checkpoints):
    """A machine, and what it was from update 30 on, evenly in the logarithm of the update.

    All are averages of the weights over about the last tenth of the updates before: the noise of
    those of a moment, which lasts to the end of the training, would keep neighbors apart.
    """
    keras.utils.set_random_seed(0)
    rbm = RBM(500, cd_steps=5, seed=0)
    rbm.adapt(images)
    model = ContrastiveDivergence(rbm, persistent_chains=BATCH, centered=True)
    model.compile(keras.optimizers.SGD(linear_decay(0.05, UPDATES)))
    looks = UPDATES // BETWEEN
    chosen = np.geomspace(30 // BETWEEN, looks, checkpoints + 1).round().astype(int)
    averages, average = [], rbm.get_weights()
    for look in range(1, looks + 1):
        x = np.random.default_rng(look).permutation(images)[: BATCH * BETWEEN]
        model.fit(x, batch_size=BATCH, shuffle=False, verbose=0)
        share = 1 / (1 + look / 10)
        average = [a + share * (w - a) for a, w in zip(average, rbm.get_weights())]
        if look in chosen:
            averages.append(average)
    rbm.set_weights(averages.pop())
    return rbm, averages


def starts(number, images, base_rate):
    """Half digits, half independent pixels: (number, visible)."""
    rng = np.random.default_rng(0)
    digits = images[rng.choice(len(images), number - number // 2, replace=False)]
    pixels = rng.random((number // 2, len(base_rate))) < base_rate
    return np.concatenate([digits, pixels]).astype("float32")


def judged(free_energies, rungs, seconds):
    """R̂, and the steps after which a chain has forgotten its free energy, of the second half."""
    import tensorflow_probability.substrates.numpy as tfp

    kept = free_energies[len(free_energies) // 2 :].astype("float32")
    size = float(tfp.mcmc.effective_sample_size(kept, cross_chain_dims=1))
    return {
        "chains": kept.shape[1],
        "rungs": rungs,
        "steps": len(free_energies),
        "seconds": seconds,
        "potential_scale_reduction": float(potential_scale_reduction(kept)),
        "effective_sample_size": size,
        "autocorrelation_time": kept.size / size,
        "mean_free_energy": float(kept.mean()),
    }


def gibbs(rbm, start, steps):
    begin = time.monotonic()
    _, energies = run_chains(rbm, start, steps, observe=rbm.free_energy)
    return judged(energies, 1, time.monotonic() - begin)


def on_ladder(rbm, chains, start, steps):
    begin = time.monotonic()
    chains.start(rbm)
    chains.replicas.v.assign(np.tile(start, (chains.rungs, 1, 1)))
    _, energies = chains.run(rbm, steps, observe=rbm.free_energy)
    return judged(energies, chains.rungs, time.monotonic() - begin) | {
        "betas": chains.betas.tolist(),
        "swap_rates": chains.swap_rates.tolist(),
        "barrier": chains.barrier,
        "round_trips": chains.round_trips,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=20)
    parser.add_argument("--rungs", type=int, default=24)
    parser.add_argument("--steps", type=int, default=10_000)
    options = parser.parse_args()
    number, rungs, steps = options.chains, options.rungs, options.steps
    images = binarize(as_arrays(load_mnist()[0])[0], seed=1)
    base_rate = np.clip(images.mean(axis=0), 0.001, 0.999)
    start = starts(number, images, base_rate)
    learned, checkpoints = trained(images, rungs - 1)
    result = {}
    for name, rbm in {"pretrained": load_pretrained_rbm(), "trained": learned}.items():
        tempered = TemperedChains(number, rungs, base_rate)
        result[name] = {"gibbs": gibbs(rbm, start, rungs * steps)}
        result[name]["tempered"] = on_ladder(rbm, tempered, start, steps)
        print(name, json.dumps(result[name]), flush=True)
    chains = TrajectoryChains(number, checkpoints)
    result["trained"]["trajectory"] = on_ladder(learned, chains, start, steps)
    result["command"] = " ".join(["python", *sys.argv])
    result["versions"] = {"python": platform.python_version()} | {
        name: version(name) for name in ["keras", keras.backend.backend()]
    }
    text = json.dumps(result, indent=2)
    (FOLDER / "mixing.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
