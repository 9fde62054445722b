"""Results of runs that are too long for a page, committed with the package for the chapters.

The scripts in `experiments/` and `benchmarks/` make them; nearly every file names the versions.
"""

from pathlib import Path

import numpy as np

from rbm_tutorial.files import read_arrays, read_json

FOLDER = Path(__file__).parent / "measured"


def stored_result(name: str) -> dict:
    """What the file `name`.json holds, such as `likelihood_pretrained`.

    Raises: `ValueError` for a name that there is no file of, and for a damaged file.
    """
    return read_json(_file(name, ".json"))


def stored_samples(name: str) -> np.ndarray:
    """Samples p(v=1 | h) of a machine, (samples, visible) in [0, 1]; such as `samples_pretrained`.

    Raises: `ValueError` for a name that there is no file of, and for a damaged file.
    """
    (pixels,) = read_arrays(_file(name, ".npz"), "probabilities")
    return pixels / np.float32(255)


def _file(name, suffix):
    files = {file.stem: file for file in FOLDER.glob(f"*{suffix}")}
    if name not in files:
        raise ValueError(f"`name` must be one of: {', '.join(sorted(files))}. Received: {name}")
    return files[name]
