"""Time what following the likelihood adds to training, and what a rare reconstruction cost saves.

    python experiments/live_cost.py

RBM(500) learns the bundled digits for twenty epochs of a hundred updates by CD-1 and by centered
PCD-5: plainly, with a hundred chains that follow, and with the reconstruction cost at every 64th
update alone, in turn and three times. The first epoch, which compiles, is left out. Seconds are
written to rbm_tutorial/measured/live_cost_BACKEND.json.
"""

import json
import time
from importlib.metadata import version

import keras

from rbm_tutorial import RBM, ContrastiveDivergence, as_arrays, binarize, load_mnist
from rbm_tutorial.results import FOLDER
from rbm_tutorial.training import linear_decay

EPOCHS, BATCH, ROUNDS = 20, 100, 3
RECIPES = {"CD-1": (1, {}), "PCD-5": (5, {"persistent_chains": 100, "centered": True})}
RUNS = {
    "plain": {},
    "followed": {"likelihood_chains": 100},
    "seldom": {"reconstruct_every": 64},
}


class Seconds(keras.callbacks.Callback):
    """Adds up how long epochs after the first take."""

    total = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.total += (time.perf_counter() - self.began) * (epoch > 0)


def seconds(x, steps, arguments):
    keras.utils.set_random_seed(0)
    model = ContrastiveDivergence(RBM(500, cd_steps=steps, seed=1), **arguments)
    model.compile(keras.optimizers.SGD(linear_decay(0.1, EPOCHS * len(x) // BATCH)))
    clock = Seconds()
    model.fit(x, epochs=EPOCHS, batch_size=BATCH, verbose=0, callbacks=[clock])
    return clock.total


def main():
    x, backend = binarize(as_arrays(load_mnist()[0])[0], seed=0), keras.backend.backend()
    result = {"updates": (EPOCHS - 1) * len(x) // BATCH, "keras": version("keras")}
    for recipe, (steps, arguments) in RECIPES.items():
        result[recipe] = {name: [] for name in RUNS}
        for name, run in ROUNDS * list(RUNS.items()):
            result[recipe][name].append(seconds(x, steps, arguments | run))
            print(backend, recipe, name, f"{result[recipe][name][-1]:.1f} s", flush=True)
    path = FOLDER / f"live_cost_{backend}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
