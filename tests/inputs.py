"""Batches (examples, visible) that are wrong in one way, or right in an unusual one.

The tables of what is refused use them for every function that takes such a batch, and what follows
them here for every argument.
"""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from enumerated import states
from machines import machine
from networks import labeled_network, network
from scipy import sparse
from trained import EXAMPLES


class Frame:
    """What a data frame is to others: an object that NumPy makes an array of."""

    def __array__(self, dtype=None, copy=None):
        return EXAMPLES.astype(dtype or "float64")


def with_one(value):
    x = EXAMPLES.astype("float64")
    x[3, 2] = value
    return x


WRONG = {  # a kind of input, and what the message must say beside `x` and what was received
    "nothing": (None, "real numbers"),
    "text": (EXAMPLES.astype(str), "real numbers"),
    "a word": ("digits", "real numbers"),
    "dates": (EXAMPLES.astype("datetime64[s]"), "real numbers"),
    "complex numbers": (EXAMPLES + 1j, "real numbers"),
    "a dictionary": ({"image": EXAMPLES}, "real numbers"),
    "rows of unequal length": ([[1, 0, 1, 0], [1]], "real numbers"),
    "ragged": (tf.ragged.constant([[1.0], [1.0, 0.0]]), "real numbers"),
    "sparse": (sparse.csr_matrix(EXAMPLES), "toarray"),
    "a number": (1.0, "at least one"),
    "no example": (EXAMPLES[:0], "at least one"),
    "one image": (EXAMPLES[0], "shape"),
    "images that are not flat": (EXAMPLES[:, None], "shape"),
    "another width": (EXAMPLES[:, :3], "shape"),
    "masked": (np.ma.masked_array(EXAMPLES, EXAMPLES == 1), "filled"),
    "NaN": (with_one(np.nan), "must lie in"),
    "infinity": (with_one(np.inf), "must lie in"),
    "bytes": (255 * EXAMPLES.astype("uint8"), "must lie in"),
    "-1 and 1": (2 * EXAMPLES - 1, "must lie in"),
}
RIGHT = {
    "lists": EXAMPLES.tolist(),
    "a frame": Frame(),
    "booleans": EXAMPLES.astype(bool),
    "integers": EXAMPLES.astype(int),
    "half precision": EXAMPLES.astype("float16"),
    "a tensor": tf.constant(EXAMPLES),
    "a tensor of the backend": keras.ops.convert_to_tensor(EXAMPLES),
    "columns first": np.asfortranarray(EXAMPLES),
}


def assert_same(before, after):
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


RBM_4_3, DBN, LABELED = machine(), network(), labeled_network()
KNOWN = np.array([True, False, False, True])
V = states(4)


def state():
    layers = [RBM_4_3, *DBN.lower, DBN.top, *LABELED.lower, LABELED.top]
    generators = [layer.seed_generator.state for layer in layers]
    return [np.array(v) for v in [*generators, *(w for layer in layers for w in layer.weights)]]


def assert_refused(entry, call, value):
    """Of "function(argument)": the call raises, names the argument, and has changed nothing."""
    name, before = re.search(r"\((.*)\)", entry)[1], state()
    with pytest.raises(ValueError, match=rf"(?s)`{name}`.* must .*Received"):
        call(value)
    assert_same(before, state())


def wrong_values(functions, kinds):
    """Pairs of a function and a kind that is not right for it."""
    return [(f, kind) for f, (_, right) in functions.items() for kind in kinds if kind not in right]
