"""Training that is killed at random moments and started again ends as if it had not been.

    [KERAS_BACKEND=jax] python experiments/killed.py [--moments N] [--kinds KIND …]
        [--epochs N] [--eagerly]

Each run is a process of its own, which `recovery.Backup` looks after. It gets SIGKILL after a
number of epochs that is drawn evenly between none and all, a fraction of an epoch being one of the
time that later epochs take, so that in the first, which compiles, kills come early; and it is
started again. Then weights, optimizer, chains, offsets and random state are compared with those of
a run that nobody kills, bit for bit. A twin that learns the examples in another order must differ.
The libraries are imported once: each run is a fork of this process, in which nothing has been
computed.

Prints JSON, and writes it to FILE with `--to`: how many runs of each kind were equal, and how many
kills came before the first whole state, between two, in the middle of writing one, and after all.
Ends with an error if a run ended otherwise than it should.
"""

import argparse
import json
import os
import pathlib
import platform
import signal
import tempfile
import time
import traceback

import keras
import numpy as np

from rbm_tutorial import RBM, ContrastiveDivergence
from rbm_tutorial.recovery import Backup, written_whole

KINDS = {  # arguments of the model, name of the optimizer
    "CD": ({}, "SGD"),
    "PCD": ({"persistent_chains": 5}, "SGD"),
    "centered": ({"persistent_chains": 5, "centered": True}, "SGD"),
    "Adam": ({}, "Adam"),
    "live": ({"likelihood_chains": 10}, "SGD"),
}


def train(kind, folder, result, seed, eagerly, epochs):
    """Train as the last process left it in `folder`, and write all variables to `result`."""
    arguments, optimizer = KINDS[kind]
    x = np.random.default_rng(0).integers(0, 2, (44, 6)).astype("float32")
    x = np.random.default_rng(seed).permutation(x)
    keras.utils.set_random_seed(seed)  # by which they are shuffled, too
    rbm = RBM(4, seed=0)
    rbm.build((None, 6))
    model = ContrastiveDivergence(rbm, **arguments)
    model.compile(getattr(keras.optimizers, optimizer)(0.1), run_eagerly=eagerly)
    backup = [Backup(folder)]
    shuffle = not (eagerly and keras.backend.backend() == "jax")  # Keras does not repeat its orders
    model.fit(x, batch_size=11, epochs=epochs, verbose=0, callbacks=backup, shuffle=shuffle)
    variables = [*model.variables, *model.optimizer.variables]
    with written_whole(result) as path:
        np.savez(path, *(np.asarray(variable) for variable in variables))


def started(*arguments):
    """A process that trains: its number."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        train(*arguments)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:  # without the ends that belong to the process it was forked from
        os._exit(code)


def finished(process):
    """Wait for a process, which must end well."""
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code:
        raise RuntimeError(f"Training ended with exit code {code}.")


def wait_for_state(process, folder, epoch):
    """Wait until a process has stored its state after so many epochs, or has ended."""
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while not (epoch == 0 or os.waitid(os.P_PID, process, ended)):
        if any(int(state.name[6:]) >= epoch for state in Backup(folder).epochs()):
            break
        time.sleep(0.001)


def killed(process, folder, epochs, seconds_per_epoch):
    """Kill a process after so many epochs, of which the last is a fraction, if it has not ended."""
    wait_for_state(process, folder, int(epochs))
    time.sleep(epochs % 1 * seconds_per_epoch)
    os.kill(process, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code not in (0, -signal.SIGKILL):  # it ended by itself, and not well
        raise RuntimeError(f"Training ended with exit code {code}.")


def whereabouts(folder, result):
    """What had happened when the process was killed."""
    if result.exists():
        return "after all"
    if any(folder.glob(".unfinished-state-*")):
        return "in the middle of writing"
    return "between two states" if Backup(folder).epochs() else "before the first state"


def same(first, second):
    """Whether two results hold the same bits."""
    with np.load(first) as ours, np.load(second) as theirs:
        pairs = [(ours[name], theirs[name]) for name in ours.files]
        return len(ours.files) == len(theirs.files) and all(
            a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in pairs
        )


def compared(kind, moments, how, work, rng):
    """Kill so many runs of a kind, and go on: what became of them."""
    whole, epochs = work / "whole.npz", how[-1]
    process = started(kind, work / "whole", whole, 0, *how)
    wait_for_state(process, work / "whole", 1)  # the first epoch, which compiles, is not measured
    begun = time.monotonic()
    finished(process)
    seconds_per_epoch = (time.monotonic() - begun) / max(epochs - 1, 1)
    places, equal = [], 0
    for number, moment in enumerate(epochs * rng.random(moments)):
        folder, result = work / str(number), work / f"{number}.npz"
        killed(started(kind, folder, result, 0, *how), folder, moment, seconds_per_epoch)
        places.append(whereabouts(folder, result))
        finished(started(kind, folder, result, 0, *how))
        equal += same(whole, result)
    finished(started(kind, work / "twin", work / "twin.npz", 1, *how))
    twins = same(whole, work / "twin.npz")
    killed_at = {place: places.count(place) for place in sorted(set(places))}
    return {"runs": moments, "equal": equal, "twins_equal": int(twins), "killed": killed_at}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--eagerly", action="store_true", help="without compiling")
    parser.add_argument(
        "--epochs", type=int, default=40, help="long beside compiling, so that kills come anywhere"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--to", type=pathlib.Path, metavar="FILE")
    options = parser.parse_args()
    time.sleep(2)  # a thread that starts as TensorFlow is imported holds a lock for a moment
    rng = np.random.default_rng(options.seed)
    report = {
        "backend": keras.backend.backend(),
        "compiled": not options.eagerly,
        "epochs": options.epochs,
        "keras": keras.__version__,
        "python": platform.python_version(),
        "kinds": {},
    }
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as work:
            how = options.eagerly, options.epochs
            of_kind = compared(kind, options.moments, how, pathlib.Path(work), rng)
        report["kinds"][kind] = of_kind
        if options.to:  # what is known so far, if this process is killed, too
            with written_whole(options.to) as path:
                path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))
    for kind, found in report["kinds"].items():
        if found["equal"] < found["runs"] or found["twins_equal"]:
            raise SystemExit(f"{kind}: not all runs ended with the same bits, or the twin did.")


if __name__ == "__main__":
    main()
