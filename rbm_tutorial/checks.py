"""Checks of arguments: every `check_*` raises a `ValueError` unless what it is named after holds.

The message names the argument, what was received and what to do. Nothing here draws.
"""

import math
import numbers
import reprlib

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import LARGEST, all_finite, checked_range, is_known
from rbm_tutorial.pipelines import is_dataset

MOST_AFTER_DROPOUT = 10.0  # at a rate of 0.9
LEAST = float(np.finfo("float32").smallest_subnormal)


def check_count(name: str, value: int, least: int = 1) -> None:
    """`value` is an integer of at least `least`; booleans are no counts."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"`{name}` must be an integer of at least {least}. Received: {value!r}")


def check_flag(name: str, value: bool) -> None:
    """`value` is `True` or `False`."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"`{name}` must be True or False. Received: {value!r}")


def check_positive(name: str, value: float) -> None:
    """`value` is a finite number above 0; booleans are no numbers."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < math.inf:
        raise ValueError(f"`{name}` must be a positive number. Received: {value!r}")


def check_rate(name: str, rate: float) -> None:
    """`rate` is a positive number, and one in single precision, too."""
    check_positive(name, rate)
    if not LEAST <= rate <= LARGEST:
        raise ValueError(
            f"`{name}` must be a positive number in single precision. Received: {rate!r}"
        )


def check_share(name: str, value: float) -> None:
    """`value` is a number of at least 0 and below 1."""
    if not 0 <= finite_number(name, value) < 1:
        raise ValueError(f"`{name}` must be at least 0 and below 1. Received: {value}")


def check_not_negative(name: str, value: float) -> None:
    """`value` is a number of at least 0; booleans are none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not value >= 0:
        raise ValueError(f"`{name}` must be at least 0. Received: {value!r}")


def finite_number(name: str, value) -> float:
    """`value` as a float, once it is known to be one finite real number."""
    number = _array_of(value)
    if number.shape or number.dtype.kind not in "iuf" or not np.isfinite(number):
        raise ValueError(f"`{name}` must be a finite number. Received: {reprlib.repr(value)}")
    return float(number)


def check_examples(name: str, number: int) -> None:
    """There is at least one example."""
    if number == 0:
        raise ValueError(f"`{name}` must hold at least one example. Received no example.")


def check_ends(name: str, data) -> None:
    """`data` is no `tf.data.Dataset` that goes on forever."""
    if is_dataset(data) and data.cardinality() == -1:  # tf.data.INFINITE_CARDINALITY
        raise ValueError(f"`{name}` must end: call `take`. Received an infinite data set.")


def real_array(name: str, x) -> np.ndarray:
    """`x` as a NumPy array, once it is known to hold real numbers or booleans.

    Raises: `ValueError` for text, dates, complex numbers, lists of unequal lengths, sparse
    matrices and what is hidden by a mask, which NumPy would show.
    """
    if np.ma.is_masked(x):
        raise ValueError(
            f"`{name}` must have no masked elements: say what they are by `{name}.filled(value)`. "
            f"Received {np.ma.count_masked(x)} of them."
        )
    if hasattr(x, "toarray"):
        raise ValueError(
            f"`{name}` must be dense: pass `{name}.toarray()`, batch by batch if it is large. "
            f"Received: {type(x).__name__}"
        )
    array = _array_of(x)
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise ValueError(
            f"`{name}` must be an array of real numbers. "
            f"Received: {type(x).__name__} of {array.dtype}"
        )
    return native(array)


def native(array: np.ndarray) -> np.ndarray:
    """`array` in the byte order of this machine and at most 64 bits, which backends can read."""
    if array.dtype.itemsize > 8:
        return array.astype("float64")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def finite_array(name: str, x) -> np.ndarray:
    """`x` as an array of real numbers, none of them NaN or infinite."""
    array = real_array(name, x)
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must be finite. Received NaN or infinite values.")
    return array


def real_tensor(name: str, x, dtype=None):
    """`x` as a tensor of `dtype`, `None` for its own, once it is known to hold real numbers.

    Raises: as `real_array`, and for tensors of text or complex numbers, or that are not dense.
    """
    if not ops.is_tensor(x):
        x = real_array(name, x)
    elif any(hasattr(x, name) for name in ("dense_shape", "todense", "ragged_rank")):
        raise ValueError(f"`{name}` must be a dense tensor. Received: {type(x).__name__}")
    elif keras.backend.standardize_dtype(x.dtype) in ("string", "complex64", "complex128"):
        raise ValueError(f"`{name}` must be a tensor of real numbers. Received: {x.dtype}")
    return ops.convert_to_tensor(x, dtype=dtype)


def real_input(name: str, x):
    """`x` as a layer of Keras is to get it, which would make numbers of text and dates.

    Arrays and lists become what `real_array` makes of them; tensors and others stay.
    """
    plain = isinstance(x, (np.ndarray, list, tuple, np.generic)) or hasattr(x, "toarray")
    return real_array(name, x) if plain else x


def check_first_input(name: str, x, units, dtype) -> None:
    """`x`, if its values are known, may be seen by a layer of `units`: no mistake builds one.

    In training, of which Keras alone knows, they can come out of a `Dropout`, which divides.
    """
    if not is_known(x):
        return
    x = real_tensor(name, x, dtype)
    check_matrix(name, x, None)
    units.check_number(x.shape[1])
    if units.unbounded:
        units.checked(x, name)
    else:
        message = f"`{name}` must lie in [0, 1]: divide images by 255, or call `binarize`. Received"
        checked_range(x, 0, MOST_AFTER_DROPOUT, f"{message} values")


def check_seed(name: str, seed) -> None:
    """`seed` is an integer from 0 to 2³² - 1, or `None`; booleans and generators are no seeds."""
    if seed is not None:
        fixed_seed(name, seed)


def fixed_seed(name: str, seed) -> int:
    """`seed` as an int, once it is known to be one: what can always be repeated takes no `None`."""
    integer = isinstance(seed, numbers.Integral) and not isinstance(seed, (bool, np.bool_))
    if not integer or not 0 <= seed < 2**32:
        raise ValueError(f"`{name}` must be an integer from 0 to 2^32 - 1. Received: {seed!r}")
    return int(seed)


def check_matrix(name: str, x, width: int | None) -> None:
    """`x` is a batch of vectors, (batch, width), of any width if that is `None`."""
    if len(x.shape) != 2 or width not in (None, x.shape[1]):
        width = "visible" if width is None else width
        raise ValueError(f"`{name}` must have shape (batch, {width}). Received: {tuple(x.shape)}")


def check_binary(name: str, x) -> None:
    """Every element of `x` is 0 or 1."""
    x = real_array(name, x)
    if not np.isin(x, (0, 1)).all():
        raise ValueError(
            f"`{name}` must be binary: call `binarize`. Received values from {x.min():g} to "
            f"{x.max():g}, not only 0 and 1."
        )


def check_input_shape(input_shape, number_visible_units: int | None) -> None:
    """`input_shape` is (visible,) or (batch, visible), with as many units as were announced."""
    if len(input_shape) not in (1, 2):
        raise ValueError(
            "`input_shape` must be (visible,) or (batch, visible): flatten images first. "
            f"Received: {tuple(input_shape)}"
        )
    if number_visible_units not in (None, input_shape[-1]):
        raise ValueError(
            "The last axis of `input_shape` must equal `number_visible_units`, "
            f"{number_visible_units}. Received: {tuple(input_shape)}"
        )
    check_count("input_shape[-1]", input_shape[-1])


def check_built(rbm, name: str) -> None:
    """`rbm` is a layer that has weights; `name` is what needs them."""
    if not hasattr(rbm, "tied"):
        raise ValueError(f"`rbm` must be an RBM for `{name}`. Received: {type(rbm).__name__}")
    if not rbm.built:
        raise ValueError(f"`{name}` needs weights: call `build` first. Received an unbuilt RBM.")


def check_tied(rbm, name: str) -> None:
    """`rbm` has one set of weights; `name` is what needs it."""
    if not hasattr(rbm, "tied"):
        raise ValueError(f"`rbm` must be an RBM for `{name}`. Received: {type(rbm).__name__}")
    if not rbm.tied:
        raise ValueError(
            f"`{name}` needs symmetric weights: an untied layer has no energy function. "
            "Received an RBM with tied=False; below the top of a `DeepBeliefNetwork`, `WakeSleep` "
            "trains such layers."
        )


def check_machine(rbm, name: str) -> None:
    """`rbm` has one set of weights, is built, and they are numbers; `name` is what needs it."""
    check_tied(rbm, name)
    check_built(rbm, name)
    check_finite_weights(rbm)


def check_finite_weights(rbm) -> None:
    """No weight of `rbm` is NaN or infinite, as after learning that diverged."""
    for parameter in rbm.weights:
        if not all_finite(parameter.value):
            raise ValueError(
                "`rbm` must have finite weights: load those of before, and lower the learning "
                f"rate. Received NaN or infinite values in {parameter.name}."
            )


def described(y) -> str:
    """What an error says of targets, whose values a compiled step does not know."""
    shape = getattr(y, "shape", None)
    return type(y).__name__ if shape is None else f"targets of shape {tuple(shape)}"


def _array_of(x):
    try:
        return np.asarray(x)
    except (TypeError, ValueError):
        return np.empty(0, "object")  # rows of unequal lengths, what is no array
