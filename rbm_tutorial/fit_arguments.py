"""Arguments of `fit`, `evaluate` and `predict` beside the examples, checked and made simple.

Nothing here draws.
"""

import math
import numbers

import keras
import numpy as np

from rbm_tutorial.backend import BACKEND
from rbm_tutorial.checks import check_count, check_flag, check_share
from rbm_tutorial.examples import EXAMPLES, checked_weights
from rbm_tutorial.pipelines import in_batches, whole, without_autotuning

COUNTS = (  # beside the epochs; of these `None` is none
    "batch_size",
    "steps_per_epoch",
    "validation_steps",
    "validation_batch_size",
)
# Arguments with which `fit` of Keras only batches and shuffles arrays.
BATCHING = {*EXAMPLES, "batch_size", "epochs", "verbose", "callbacks", "shuffle", "initial_epoch"}
VALIDATION = {"validation_data", "validation_steps", "validation_batch_size", "validation_freq"}


def check_own(given) -> None:
    """What a model brings along is not given to `compile`."""
    for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
        if given.get(name):
            raise ValueError(
                f"`{name}` must be left out: the model has its own. Received: {given[name]!r}"
            )


def check_classes_weigh(class_weight, labeled: bool) -> None:
    """Only classes that are learned can weigh."""
    if class_weight is not None and not labeled:
        raise ValueError(
            "`class_weight` needs labels: weigh examples by `sample_weight`. "
            f"Received: {class_weight}"
        )


def check_verbose(given) -> None:
    if given.get("verbose", "auto") not in ("auto", 0, 1, 2):
        raise ValueError(f"`verbose` must be 'auto', 0, 1 or 2. Received: {given['verbose']!r}")


def check_pass(given) -> None:
    """Arguments of `evaluate` or `predict`, by which it counts and tells, are such."""
    check_verbose(given)
    for name in ("batch_size", "steps"):
        if given.get(name) is not None:
            check_count(name, given[name])


def checked_loop(given):
    """The arguments of `fit`, by which it counts and calls back, checked before anything is built.

    Of arrays the share for validation is split off, and classes weigh their examples.
    Raises: `ValueError` that names the one that is no count, no share or no callback.
    """
    for name in ("epochs", "initial_epoch"):
        check_count(name, given.get(name, 0), least=0)
    for name in COUNTS:
        if given.get(name) is not None:
            check_count(name, given[name])
    check_verbose(given)
    for frequency in np.atleast_1d(np.array(given.get("validation_freq", 1), "object")):
        check_count("validation_freq", frequency)
    if given.get("validation_split") is not None:
        check_share("validation_split", given["validation_split"])
    if given.get("shuffle", True) != "batch":  # of arrays, whole batches
        check_flag("shuffle", given.get("shuffle", True))
    for callback in keras.tree.flatten(given.get("callbacks") or []):
        if not isinstance(callback, (keras.callbacks.Callback, keras.callbacks.CallbackList)):
            raise ValueError(f"`callbacks` must be callbacks of Keras. Received: {callback!r}")
    return weighted_by_class(split(given))


def split(given):
    """Arguments of `fit` in which `validation_split` of arrays has become `validation_data`.

    As in Keras the last examples are split off.
    """
    share = given.get("validation_split")
    if not share or not isinstance(given.get("x"), np.ndarray):
        return {name: v for name, v in given.items() if name != "validation_split" or v}
    rest = {name: v for name, v in given.items() if name != "validation_split"}
    if given.get("validation_data") is not None:
        return rest
    first = math.floor(len(given["x"]) * (1 - share))
    if not first or first == len(given["x"]):
        raise ValueError(
            "`validation_split` must leave examples for training and for validation. "
            f"Received: {share} of {len(given['x'])}"
        )
    arrays = {name: given[name] for name in EXAMPLES if name in given}
    rest |= {name: array[:first] for name, array in arrays.items()}
    return {**rest, "validation_data": tuple(array[first:] for array in arrays.values())}


def check_class_weight(weights) -> None:
    """`weights` say how much the examples of each class count: {class: weight}."""
    known = isinstance(weights, dict)
    known = known and all(isinstance(label, numbers.Integral) for label in weights)
    if not known or not all(isinstance(weight, numbers.Real) for weight in weights.values()):
        raise ValueError(
            "`class_weight` must be a dictionary of numbers by integers, {class: weight}. "
            f"Received: {weights}"
        )
    checked_weights(np.array([*weights.values()], "float32"), "class_weight")


def weighted_by_class(given):
    """Arguments of `fit` in which `class_weight` has become a weight of each example of arrays."""
    weights, y = given.get("class_weight"), given.get("y")
    if weights is not None:
        check_class_weight(weights)
    if weights is None or y is None or given.get("sample_weight") is not None:
        return {name: v for name, v in given.items() if name != "class_weight" or v is not None}
    rest = {name: v for name, v in given.items() if name != "class_weight"}
    of_examples = np.array([weights.get(int(label), 1) for label in y.reshape(-1)], "float32")
    return {**rest, "sample_weight": of_examples}


def only_batched(given) -> bool:
    """Whether these arguments of `fit` ask nothing but that an array is batched and shuffled."""
    known = BATCHING | VALIDATION | ({"steps_per_epoch"} if BACKEND == "tensorflow" else set())
    if not isinstance(given.get("x"), np.ndarray):
        return False
    return isinstance(given.get("shuffle", True), bool) and given.keys() <= known


def batch_size_of(x, size, steps) -> int:
    """How many examples Keras takes from x at once, if asked for batches of `size` or for steps."""
    check_count("batch_size", 1 if size is None else size)
    return size or (-(-len(x) // steps) if steps and isinstance(x, np.ndarray) else 32)


def check_devices_divide(x, batch_size) -> None:
    """Each batch of an array can be divided among the devices of `keras.distribution.DataParallel`.

    Raises: `ValueError` otherwise, which names the sizes that work.
    """
    distribution = keras.distribution.distribution()
    if distribution is None or not isinstance(x, np.ndarray):
        return
    mesh = distribution.device_mesh
    devices = mesh.shape[mesh.axis_names.index(distribution.batch_dim_name)]
    if len(x) % devices or min(batch_size, len(x)) % devices:
        raise ValueError(
            f"`batch_size` and the number of examples in `x` must be multiples of {devices}, the "
            f"number of devices. Received: batch_size={batch_size} and {len(x)} examples"
        )


def untuned(given, distributed: bool):
    """Arguments of `evaluate` or `predict` whose data TensorFlow does not tune while it reads them.

    Arrays become a data set, unless several devices are to share them.
    """
    x = given.get("x")
    size = batch_size_of(x, given.get("batch_size"), given.get("steps"))
    if BACKEND != "tensorflow" or distributed or not isinstance(x, np.ndarray):
        return untuned_data_set(given, distributed)
    arrays = [given[name] for name in EXAMPLES if given.get(name) is not None]
    rest = {name: v for name, v in given.items() if name not in (*EXAMPLES, "batch_size")}
    return {**rest, "x": in_batches(arrays, size)}


def untuned_data_set(given, distributed: bool):
    """Arguments with x, if it is a data set, as it is read: without tuning, and to its end.

    Of one that is distributed to workers, each gets a part.
    """
    x = given.get("x")
    return {**given, "x": without_autotuning(x if distributed else whole(x))}
