"""A thousand fits and ten thousand epochs in one process, which grows by nothing.

    [KERAS_BACKEND=jax] python experiments/load.py [--fits N] [--epochs N] [--to FILE]

Fits of one small model, then epochs of one fit. After each twentieth of either the memory of the
process and the number of objects that Python holds are noted; the first fifth, in which caches
fill, is left out of the slopes. Prints JSON, and writes it to FILE: megabytes and objects at each
note, what a fit and an epoch add by a line through them, and how often updates were traced.
"""

import argparse
import gc
import json
import pathlib
import platform

import keras
import numpy as np

from rbm_tutorial import RBM, ContrastiveDivergence
from rbm_tutorial.recovery import written_whole

NOTES = 20


def megabytes():
    """Memory of this process that is resident."""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


class Noted(keras.callbacks.Callback):
    """Note memory and objects, after every so many epochs or calls of `note`."""

    def __init__(self, every):
        super().__init__()
        self.every, self.count, self.notes = every, 0, []

    def note(self):
        self.count += 1
        if self.count % self.every == 0:
            gc.collect()
            self.notes.append((self.count, round(megabytes(), 2), len(gc.get_objects())))

    def on_epoch_end(self, epoch, logs=None):
        self.note()

    def report(self):
        count, memory, objects = np.array(self.notes[len(self.notes) // 5 :]).T
        return {
            "kilobytes_each": round(float(np.polyfit(count, memory, 1)[0]) * 1024, 3),
            "objects_each": round(float(np.polyfit(count, objects, 1)[0]), 3),
            "count_megabytes_objects": self.notes,
        }


class Traced(RBM):
    """An RBM that counts how often Python, and not what was compiled of it, computes inputs."""

    traced = 0

    def hidden_logits(self, v):
        self.traced += 1
        return super().hidden_logits(v)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10_000)
    parser.add_argument("--to", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    x = np.random.default_rng(0).integers(0, 2, (32, 6)).astype("float32")
    model = ContrastiveDivergence(Traced(4, seed=0), persistent_chains=5)
    model.compile()
    model.fit(x, batch_size=16, verbose=0)
    traced = model.rbm.traced
    fits, epochs = Noted(options.fits // NOTES), Noted(options.epochs // NOTES)
    for _ in range(options.fits):
        model.fit(x, batch_size=16, verbose=0)
        fits.note()
    model.fit(x, batch_size=16, epochs=options.epochs, verbose=0, callbacks=[epochs])
    report = {
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "python": platform.python_version(),
        "traced_in_the_first_fit": traced,
        "traced_later": model.rbm.traced - traced,
        "fits": fits.report(),
        "epochs": epochs.report(),
    }
    print(json.dumps(report))
    if options.to:
        with written_whole(options.to) as path:
            path.write_text(json.dumps(report) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
