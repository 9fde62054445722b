"""How well chains of the pretrained RBM(500) mix: Gibbs sampling and tempering at equal products.

    python experiments/mixing_mnist.py [--chains N] [--rungs N] [--steps N]

Tempered chains take N rungs, so that one of their steps costs N Gibbs steps; Gibbs sampling gets as
many times more chains, so that both multiply as many rows by as many weights. Half of the chains
start at digits, half at independent pixels of the same means. The first half of the steps is left
out: in it the temperatures are placed. Results are written to rbm_tutorial/measured/mixing.json.
"""

import argparse
import json
import platform
import sys
import time
from importlib.metadata import version

import keras
import numpy as np

from rbm_tutorial import as_arrays, binarize, load_mnist, load_pretrained_rbm
from rbm_tutorial.draws import potential_scale_reduction
from rbm_tutorial.results import FOLDER
from rbm_tutorial.sampling import run_chains
from rbm_tutorial.tempering import TemperedChains


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
        "steps": len(free_energies),
        "seconds": seconds,
        "potential_scale_reduction": float(potential_scale_reduction(kept)),
        "effective_sample_size": size,
        "autocorrelation_time": kept.size / size,
        "gibbs_steps_per_draw": rungs * kept.size / size,
        "mean_free_energy": float(kept.mean()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chains", type=int, default=20)
    parser.add_argument("--rungs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=4000)
    options = parser.parse_args()
    rbm = load_pretrained_rbm()
    images = binarize(as_arrays(load_mnist()[0])[0], seed=1)
    base_rate = np.clip(images.mean(axis=0), 0.001, 0.999)

    begin = time.monotonic()
    start = starts(options.chains * options.rungs, images, base_rate)
    _, energies = run_chains(rbm, start, options.steps, observe=rbm.free_energy)
    result = {"gibbs": judged(energies, 1, time.monotonic() - begin)}

    begin = time.monotonic()
    tempered = TemperedChains(options.chains, options.rungs, base_rate)
    tempered.start(rbm)
    start = starts(options.chains, images, base_rate)
    tempered.replicas.v.assign(np.tile(start, (options.rungs, 1, 1)))
    _, energies = tempered.run(rbm, options.steps, observe=rbm.free_energy)
    result["tempered"] = judged(energies, options.rungs, time.monotonic() - begin) | {
        "betas": tempered.betas.tolist(),
        "swap_rates": tempered.swap_rates.tolist(),
        "barrier": tempered.barrier,
        "round_trips": tempered.round_trips,
    }
    result["command"] = " ".join(["python", *sys.argv])
    result["versions"] = {"python": platform.python_version()} | {
        name: version(name) for name in ["keras", keras.backend.backend()]
    }
    text = json.dumps(result, indent=2)
    (FOLDER / "mixing.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
