"""Compare the log-likelihood that `fit` reports of fifty small machines with enumeration.

    python experiments/live_small.py [--machines 50]

Machines of 6 to 16 visible and 3 to 12 hidden units learn noisy copies of five patterns in five
ways, for twenty epochs. After each epoch the error of log Z is divided by the standard error that
the chains state. Results are written to rbm_tutorial/measured/live_small.json; each machine is a
line.
"""

import argparse
import json
from importlib.metadata import version

import keras
import numpy as np

from rbm_tutorial import RBM, ContrastiveDivergence
from rbm_tutorial.exact import exact_log_partition
from rbm_tutorial.live_likelihood import error_squared, log_partition
from rbm_tutorial.results import FOLDER

CHAINS, EPOCHS, EXAMPLES = 100, 20, 1000
SGD = keras.optimizers.SGD
WAYS = {  # Gibbs steps, arguments of the model, optimizer
    "CD-1": (1, {}, lambda: SGD(0.1)),
    "CD-3": (3, {}, lambda: SGD(0.1)),
    "PCD-1": (1, {"persistent_chains": 50}, lambda: SGD(0.1)),
    "PCD-1, centered": (1, {"persistent_chains": 50, "centered": True}, lambda: SGD(0.1)),
    "CD-1, Adam": (1, {}, lambda: keras.optimizers.Adam(0.01)),
}


def patterns_with_noise(rng, number_visible):
    patterns = rng.random((5, number_visible)) < 0.5
    noise = rng.random((EXAMPLES, number_visible)) < 0.1
    return np.float32(patterns[rng.integers(5, size=EXAMPLES)] ^ noise)


class Errors(keras.callbacks.Callback):
    """Collects (live minus exact log Z, stated standard error), nats, after each epoch."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_epoch_end(self, epoch, logs=None):
        live, rbm = self.model.live, self.model.rbm
        averaged = RBM(rbm.number_hidden_units)
        averaged.build((None, rbm.w_rec.shape[0]))
        averaged.set_weights([np.asarray(each.value) for each in live.average])
        followed = live.values()
        nats = float(log_partition(followed)) - float(exact_log_partition(averaged))
        self.rows.append((nats, float(error_squared(followed)) ** 0.5))


def errors_of(seed, way):
    rng = np.random.default_rng(seed)
    number_visible, number_hidden = int(rng.integers(6, 17)), int(rng.integers(3, 13))
    steps, arguments, optimizer = WAYS[way]
    keras.utils.set_random_seed(seed)
    rbm = RBM(number_hidden, cd_steps=steps, seed=seed)
    model = ContrastiveDivergence(rbm, likelihood_chains=CHAINS, **arguments)
    model.compile(optimizer())
    errors = Errors()
    x = patterns_with_noise(rng, number_visible)
    model.fit(x, epochs=EPOCHS, batch_size=20, verbose=0, callbacks=[errors])
    keras.backend.clear_session()
    return number_visible, number_hidden, np.array(errors.rows)


def summary(rows):
    """Coverage of the 95 % interval, root mean square in standard errors, and of the nats."""
    nats, stated = np.moveaxis(np.array(rows), -1, 0)
    z = nats / stated
    return {
        "coverage": float(np.mean(np.abs(z) < 1.96)),
        "coverage_by_epoch": np.mean(np.abs(z) < 1.96, axis=0).tolist(),
        "rms_in_standard_errors": float(np.sqrt(np.mean(z**2))),
        "mean_in_standard_errors": float(np.mean(z)),
        "rms_nats": float(np.sqrt(np.mean(nats**2))),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--machines", type=int, default=50)
    number = parser.parse_args().machines
    rows = {way: [] for way in WAYS}
    for seed in range(number):
        way = list(WAYS)[seed % len(WAYS)]
        number_visible, number_hidden, errors = errors_of(seed, way)
        rows[way].append(errors)
        z = errors[-1, 0] / errors[-1, 1]
        print(
            f"{way:16} {number_visible:2} × {number_hidden:2}: {z:+.2f} errors at the end",
            flush=True,
        )
    result = {
        "machines": number,
        "chains": CHAINS,
        "epochs": EPOCHS,
        "backend": keras.backend.backend(),
        "all": summary([each for runs in rows.values() for each in runs]),
        "ways": {way: summary(runs) for way, runs in rows.items()},
        "keras": version("keras"),
    }
    (FOLDER / "live_small.json").write_text(json.dumps(result, indent=1) + "\n")
    for way, found in (result["ways"] | {"all": result["all"]}).items():
        print(f"{way:16} covered {found['coverage']:.1%}, {found['rms_in_standard_errors']:.2f}")


if __name__ == "__main__":
    main()
