"""Files that may be missing or damaged: errors name the file, its fault and the way out."""

import contextlib
import json

import numpy as np

OF_THE_PACKAGE = "It comes with rbm_tutorial: install the package anew."


@contextlib.contextmanager
def named(path, way_out: str = OF_THE_PACKAGE):
    """Turn whatever goes wrong while `path` is read into a `ValueError` that names it."""
    try:
        yield
    except Exception as error:
        # What readers of formats raise when bytes are wrong is theirs to choose, and many a thing.
        raise ValueError(f"{path} is missing or damaged: {brief(error)}. {way_out}") from error


def brief(error: BaseException) -> str:
    """The first line of what an error says, or else its type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def read_json(path, way_out: str = OF_THE_PACKAGE):
    """What a JSON file holds.

    Raises: `ValueError` that names a missing or damaged file.
    """
    with named(path, way_out):
        return json.loads(path.read_text(encoding="utf-8"))


def read_arrays(path, *names: str) -> tuple[np.ndarray, ...]:
    """The arrays of these names in an .npz file, whose check sums NumPy verifies as it reads them.

    Raises: `ValueError` that names a missing or damaged file.
    """
    with named(path), open(path, "rb") as file, np.load(file) as arrays:
        return tuple(arrays[name] for name in names)
