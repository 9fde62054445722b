"""A process that times what `measure` asks it to: a line of JSON in, a line of JSON out.

    python worker.py LIBRARY THREADS

Nothing but answers is written to stdout; what is timed may print, it goes to /dev/null.
"""

import json
import os
import resource
import sys
import time
import traceback

import numpy as np
from contenders import CONTENDERS
from inference import INFERENCE
from ours import recipe
from trainings import Setting


def set_threads(library, threads):
    """Threads by each library's own call; `measure` has set the environment variables as well."""
    if library in ("tensorflow", "oneDNN"):
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    elif library == "torch":
        import torch

        torch.set_default_device("cuda" if torch.cuda.is_available() else "cpu")
        torch.set_num_threads(threads)
        torch.set_num_interop_threads(threads)
    elif library == "jax" and hasattr(os, "sched_setaffinity"):  # it has a thread for each core
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def reconstruction_cost(parameters, x):
    """Mean cross-entropy of digits and their mean-field reconstruction, nats, in float64."""
    w, hb, vb = (np.asarray(p, "float64") for p in parameters)
    h = 1 / (1 + np.exp(-(x @ w + hb)))
    logits = h @ w.T + vb
    return float(np.mean(np.sum(np.logaddexp(0, logits) - x * logits, axis=1)))


class Worker:
    """Each method answers one kind of request; `key` names one prepared contender."""

    def __init__(self):
        self.trainings = {}

    def save_digits(self, path):
        """Save the bundled training digits, binarized: where every contender's data come from."""
        from rbm_tutorial import as_arrays, binarize, load_mnist

        np.save(path, binarize(as_arrays(load_mnist()[0])[0], threshold=0.5))

    def load_digits(self, path):
        self.x = np.load(path).astype("float32", copy=False)

    def device(self):
        """What PyTorch or JAX computes on; "cpu" if on nothing else."""
        if sys.argv[1] == "torch":
            import torch

            return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
        import jax

        return jax.devices()[0].device_kind

    def parts(self, setting):
        from parts import groups

        return groups(Setting(*setting), self.x)

    def make(self, what, setting):
        setting = Setting(*setting)
        if what in CONTENDERS:
            return CONTENDERS[what].make(setting, self.x)
        if what in INFERENCE:
            return INFERENCE[what](setting, self.x)
        from parts import part

        return part(what, setting, self.x)

    def prepare(self, key, what, setting):
        """Make a contender, and warm it up: seconds of the first call beyond those of an epoch."""
        start = time.perf_counter()
        self.trainings[key] = training = self.make(what, setting)
        training.run(0)
        first = time.perf_counter() - start
        epoch = training.run(1)
        return {"first": max(0.0, first - epoch), "epoch": epoch, "steps": training.steps}

    def measure(self, key, epochs):
        """Seconds of one step."""
        training = self.trainings[key]
        return training.run(epochs) / (epochs * training.steps)

    def drop(self, key):
        del self.trainings[key]

    def learn(self, what, setting, steps):
        """Reconstruction cost of 1,000 digits before and after about `steps` updates."""
        training = self.make(what, setting)
        costs = [reconstruction_cost(training.parameters(), self.x[:1000])]
        training.run(round(steps / training.steps) - 1)
        costs.append(reconstruction_cost(training.parameters(), self.x[:1000]))
        return costs

    def load_images(self, path):
        """Images whose pixels are probabilities, and memory for binary digits drawn from them."""
        self.images = np.load(path)
        self.x = np.empty_like(self.images)

    def draw_digits(self, seed):
        """Draw all pixels anew, in a new order, into the memory that a contender learns from."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self.images))
        self.x[:] = rng.random(self.x.shape, dtype="float32") < self.images[order]

    def begin(self, what, setting):
        """Make a contender that `learn_pass` trains."""
        self.draw_digits(0)
        self.training = self.make(what, setting)
        self.calls = round(Setting(*setting).steps / self.training.steps)  # for one pass

    def learn_pass(self, epoch, path):
        """Learn from each image once, in pixels that are drawn first, and save: seconds."""
        self.draw_digits(epoch)
        start = time.perf_counter()
        for _ in range(self.calls):
            self.training.run(0)
        seconds = time.perf_counter() - start
        np.savez(path, *self.training.parameters())
        return seconds

    def follow_recipe(self, setting, epochs, path):
        """Learn by `recipe` and save: seconds."""
        seconds, parameters = recipe(Setting(*setting), self.images, epochs)
        np.savez(path, *parameters)
        return seconds

    def peak_memory(self):
        """Largest resident size of this process so far, in MiB."""
        size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return size / (2**20 if sys.platform == "darwin" else 2**10)


def main():
    answers, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    set_threads(sys.argv[1], int(sys.argv[2]))
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"answer": getattr(worker, request.pop("do"))(**request)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
