"""Show that a redesign changes no number: one probe, run at two commits, compared bit for bit.

    python experiments/compare_commits.py [--old COMMIT] [--new COMMIT] [--only PREFIX …]

By default the first version and the redesign before any draw was changed on purpose. Each commit is
laid out in a `git worktree`, removed afterwards; `--new tree` is the tree that this script lies in,
uncommitted changes included. Each side computes what `probe_numbers.py` asks for with each backend,
in a process of its own whose PYTHONPATH is the root of that side. A row is "same" if shapes, types
and all bits agree; one that differs without being in `DELIBERATE` makes the exit status 1.
"""

import argparse
import contextlib
import fnmatch
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FIRST_VERSION = "3e5bf9a"
REDESIGN = "4e69e85"
BACKENDS = ["tensorflow", "jax"]

# Differences that are meant: pattern of a row's name → the reason, printed beside what differs.
MOVED = "chains and offsets lie elsewhere in the file, and come in another order"
UNREADABLE = "a file that the first version saved with centered offsets cannot be read any more"
DELIBERATE: dict[str, str] = {
    "saved centered PCD: places and contents": MOVED,
    "saved centered PCD: *, old file": UNREADABLE,
    "saved centered PCD: raises": UNREADABLE,
    "saved wake-sleep: places and contents": MOVED,
    "saved wake-sleep: *, old file": UNREADABLE,
    "saved wake-sleep: raises": UNREADABLE,
}
NEAR = {  # the same, of what may differ by a millionth of its value and no more
    "likelihood: exact_log_partition": "summed in another order, in double precision",
    "likelihood: reverse_ais_log_partition": "as the exact value, of the last digit",
    "likelihood: ais_log_partition": "as the exact value, on some processors",
}


@contextlib.contextmanager
def tree_of(commit):
    """The root of a worktree of `commit`, removed afterwards; of this tree for "tree"."""
    if commit == "tree":
        yield ROOT
        return
    git = ["git", "-C", str(ROOT), "worktree"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "tree"
        subprocess.run([*git, "add", "--quiet", "--detach", str(root), commit], check=True)
        try:
            yield root
        finally:
            subprocess.run([*git, "remove", "--force", str(root)], check=True)


def start(root, folder, old_folder, backend, only):
    """Begin to compute one side with one backend, in a process of its own."""
    folder.mkdir(parents=True)
    command = [sys.executable, ROOT / "experiments" / "probe_numbers.py", root, folder, old_folder]
    environment = {
        "PYTHONPATH": str(root),
        "KERAS_BACKEND": backend,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        # What one side has compiled the other need not compile again, if it is the same program.
        "JAX_COMPILATION_CACHE_DIR": str(folder.parents[1] / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [*map(str, command), *only],
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def compute(root, work, side, only):
    """Backend → results of one side; the backends run at once."""
    began, folders = time.monotonic(), {b: work / side / b for b in BACKENDS}
    running = {
        backend: start(root, folder, work / "old" / backend, backend, only)
        for backend, folder in folders.items()
    }
    try:
        statuses = {backend: process.wait() for backend, process in running.items()}
    finally:  # interrupted: no probe runs on
        for process in running.values():
            process.terminate()
    print(f"{side}: {root} took {time.monotonic() - began:.0f} s", file=sys.stderr)
    for backend, status in statuses.items():
        if status:
            log = (folders[backend] / "log").read_text()
            raise SystemExit(f"{log}\nThe probe of the {side} side failed with {backend}.")
    return {b: pickle.loads((f / "results.pickle").read_bytes()) for b, f in folders.items()}


def gap(old, new):
    """How two arrays differ, in words; nothing if shape, type and bits agree."""
    if (old.shape, old.dtype) != (new.shape, new.dtype):
        return f"{new.dtype} {new.shape} instead of {old.dtype} {old.shape}"
    if old.tobytes() == new.tobytes():
        return ""
    distance = np.abs(new.astype("float64") - old.astype("float64"))
    return f"{np.max(distance):.2g}, in {np.count_nonzero(distance)} of {old.size}"


def compare(old, new):
    """The word "same", or what differs between two rows, place by place."""
    for side, row in [("old", old), ("new", new)]:
        if row is None:
            return f"no result at the {side} side"
        if isinstance(row, str):
            return f"the {side} side raised {row}"
    gaps = {place: gap(old[place], new[place]) for place in old if place in new}
    found = [f"{place} {text}" for place, text in gaps.items() if text]
    found += [f"{place} only in old" for place in sorted(old.keys() - new.keys())]
    found += [f"{place} only in new" for place in sorted(new.keys() - old.keys())]
    return "; ".join(found) or "same"


def near(old, new):
    """Whether two rows hold the same numbers but for a millionth of them."""
    if not (isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys()):
        return False
    pairs = [(old[place], new[place]) for place in old]
    return all(
        (a.shape, a.dtype) == (b.shape, b.dtype)
        and a.dtype.kind == "f"
        and np.allclose(a, b, rtol=1e-6, atol=0)
        for a, b in pairs
    )


def reasons(row, old, new):
    """Why a row may differ as it does."""
    listed = DELIBERATE | (NEAR if near(old, new) else {})
    return [why for name, why in listed.items() if fnmatch.fnmatch(row, name)]


def report(old, new):
    """Print a line for each row and backend; returns whether all are the same or deliberate."""
    counts = {"same": 0, "deliberate": 0, "different": 0}
    for backend in BACKENDS:
        for row in old[backend] | new[backend]:
            sides = old[backend].get(row), new[backend].get(row)
            verdict, meant = compare(*sides), reasons(row, *sides)
            kind = "same" if verdict == "same" else "deliberate" if meant else "different"
            counts[kind] += 1
            reason = f"DELIBERATE ({meant[0]}): " if kind == "deliberate" else ""
            print(f"{backend:<10}  {row:<60}  {reason}{verdict}")
    print(", ".join(f"{count} {kind}" for kind, count in counts.items()))
    return counts["same"] > 0 and counts["different"] == 0


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", default=FIRST_VERSION, help="commit, by default %(default)s")
    parser.add_argument("--new", default=REDESIGN, help='commit or "tree", by default %(default)s')
    parser.add_argument("--only", nargs="+", default=[], help="first words of probes")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that worktrees are removed then, too
    with (
        tree_of(options.old) as old_root,
        tree_of(options.new) as new_root,
        tempfile.TemporaryDirectory() as work,
    ):
        # The old side comes first: the new one reads its files.
        old = compute(old_root, Path(work), "old", options.only)
        new = compute(new_root, Path(work), "new", options.only)
    return 0 if report(old, new) else 1


if __name__ == "__main__":
    sys.exit(main())
