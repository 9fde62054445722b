"""What users give to `fit`, `evaluate` and `predict`, made into what Keras passes on unchanged.

Arrays of any kind become NumPy arrays; what trains nothing is refused here, before anything is
built or traced. Nothing here draws.
"""

import itertools
import math
from types import GeneratorType

import keras
import numpy as np

from rbm_tutorial.backend import BACKEND, LARGEST, checked_range
from rbm_tutorial.checks import check_count, check_examples, check_share, real_array
from rbm_tutorial.pipelines import first_of, in_batches, is_dataset, whole, without_autotuning

COUNTS = (  # beside the epochs; of these `None` is none
    "batch_size",
    "steps_per_epoch",
    "validation_steps",
    "validation_batch_size",
)

EXAMPLES = "x", "y", "sample_weight"
# Arguments with which `fit` of Keras only batches and shuffles arrays.
BATCHING = {*EXAMPLES, "batch_size", "epochs", "verbose", "callbacks", "shuffle", "initial_epoch"}
VALIDATION = {"validation_data", "validation_steps", "validation_batch_size", "validation_freq"}


def is_stream(x) -> bool:
    """Whether `x` gives batches one after another: a Keras data set, a generator, a loader."""
    if isinstance(x, (keras.utils.PyDataset, GeneratorType)) or hasattr(x, "batch_sampler"):
        return True
    return hasattr(x, "__iter__") and not hasattr(x, "__len__")


def images(x, labeled: bool = False):
    """x as Keras is to get it: a NumPy array, a data set of batches, or the stream that it is.

    Labels of a data set are left out unless the model is `labeled`.
    Raises: `ValueError` for what holds no real numbers, or no example.
    """
    if is_dataset(x):
        return batches_of_images(x, labeled)
    if is_stream(x):
        if isinstance(x, keras.utils.PyDataset) and x.num_batches == 0:
            check_examples("x", 0)
        # Of all iterators Keras takes generators alone.
        plain = hasattr(x, "__next__") and not isinstance(x, GeneratorType)
        return (batch for batch in x) if plain else x
    x = real_array("x", x)
    check_examples("x", len(x) if x.ndim else 0)
    return x.astype("float32") if x.dtype == bool else x


def check_batch(x):
    """Raise a `ValueError` for what is a way to many batches, not one."""
    if is_dataset(x) or is_stream(x):
        raise ValueError(f"`x` must be one batch, (batch, visible). Received: {type(x).__name__}")


def check_own(given) -> None:
    """What a model brings along is not given to `compile`."""
    for name in ("loss", "loss_weights", "metrics", "weighted_metrics"):
        if given.get(name):
            raise ValueError(
                f"`{name}` must be left out: the model has its own. Received: {given[name]!r}"
            )


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
    if given.get("validation_split") is not None:
        check_share("validation_split", given["validation_split"])
    for callback in keras.tree.flatten(given.get("callbacks") or []):
        if not isinstance(callback, (keras.callbacks.Callback, keras.callbacks.CallbackList)):
            raise ValueError(f"`callbacks` must be callbacks of Keras. Received: {callback!r}")
    return weighted_by_class(split(given))


def only_batched(given) -> bool:
    """Whether these arguments of `fit` ask nothing but that an array is batched and shuffled."""
    known = BATCHING | VALIDATION | ({"steps_per_epoch"} if BACKEND == "tensorflow" else set())
    if not isinstance(given.get("x"), np.ndarray):
        return False
    return isinstance(given.get("shuffle", True), bool) and given.keys() <= known


def batch_size_of(given) -> int:
    """The number of examples that `fit` of Keras takes from arrays at once."""
    steps = given.get("steps_per_epoch")
    by_steps = -(-len(given["x"]) // steps) if steps and isinstance(given["x"], np.ndarray) else 32
    return given.get("batch_size") or by_steps


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


def weighted_by_class(given):
    """Arguments of `fit` in which `class_weight` has become a weight of each example of arrays."""
    weights, y = given.get("class_weight"), given.get("y")
    if weights is None or y is None or given.get("sample_weight") is not None:
        return {name: v for name, v in given.items() if name != "class_weight" or v is not None}
    if not isinstance(weights, dict):
        raise ValueError(
            f"`class_weight` must be a dictionary, {{class: weight}}. Received: {weights}"
        )
    rest = {name: v for name, v in given.items() if name != "class_weight"}
    of_examples = np.array([weights.get(int(label), 1) for label in y.reshape(-1)], "float32")
    return {**rest, "sample_weight": checked_weights(of_examples)}


def untuned(given, distributed: bool):
    """Arguments of `evaluate` or `predict` whose data TensorFlow does not tune while it reads them.

    Arrays become a data set, unless several devices are to share them.
    """
    x, size = given.get("x"), given.get("batch_size") or 32
    check_count("batch_size", size)
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


def check_devices_divide(x, batch_size) -> None:
    """Each batch of an array can be divided among the devices of `keras.distribution.DataParallel`.

    Raises: `ValueError` otherwise, which names the sizes that work.
    """
    distribution = keras.distribution.distribution()
    if distribution is None or not isinstance(x, np.ndarray):
        return
    devices = distribution.device_mesh.shape[0]
    if len(x) % devices or min(batch_size, len(x)) % devices:
        raise ValueError(
            f"`batch_size` and the number of examples in `x` must be multiples of {devices}, the "
            f"number of devices. Received: batch_size={batch_size} and {len(x)} examples"
        )


def examples(x, y, weights, labeled: bool):
    """`images`, labels and sample weights as Keras is to get them: → (x, y, weights) or `None`.

    `labeled` says whether the model learns from labels. If not, weights come with empty targets,
    since Keras drops weights without any.

    Raises: `ValueError` as `images`, for labels that the model does not learn from, for labels or
    weights of another number than examples, and weights below 0.
    """
    x = images(x, labeled)
    if not isinstance(x, np.ndarray):
        if y is not None or weights is not None:
            raise ValueError(
                "`y` and `sample_weight` go with arrays: batches bring theirs along, as (x, y, "
                f"weights). Received one of them beside a {type(x).__name__}"
            )
        return x, None, None
    if labeled and y is None:
        raise ValueError("`y` must hold integer labels, which this model learns. Received: None")
    if not labeled and y is not None and np.shape(y)[-1:] != (0,):
        raise ValueError(
            "`y` must be left out: this model learns from `x` alone, images without labels. "
            f"Received: {type(y).__name__} of shape {np.shape(y)}"
        )
    y = None if y is None else one_for_each("y", y, x)
    if weights is not None:
        weights = one_for_each("sample_weight", weights, x, True).astype("float32")
        weights = checked_weights(weights.reshape(len(x)))
        y = np.zeros((len(x), 0), "float32") if y is None else y
    return x, y, weights


def one_for_each(name, values, x, single=False):
    """`values` as an array, once it is known to hold one, or one row, for each example."""
    values = real_array(name, values)
    if len(values.shape) == 0 or len(values) != len(x) or (single and values.size != len(x)):
        raise ValueError(
            f"`{name}` must hold one number for each example, {len(x)}. "
            f"Received: shape {values.shape}"
        )
    return values


def checked_weights(weights):
    """Sample weights, once they are known to be finite and at least 0, as `checked_range` does."""
    message = "`sample_weight` must be finite and at least 0. Received weights"
    return checked_range(weights, 0, LARGEST, message)


def without_placeholder(y):
    """`y`, or `None` for empty targets, (batch, 0)."""
    return None if y is not None and tuple(y.shape[-1:]) == (0,) else y


def batches_of_images(data, labeled: bool = False, name: str = "x"):
    """A `tf.data.Dataset` of batches that Keras can take; labels are left out unless `labeled`.

    Raises: `ValueError` about `name` for elements that are no batches of flat images.
    """
    spec = data.element_spec
    if isinstance(spec, dict):
        raise ValueError(
            f"`{name}` must be a data set of batches (batch, visible): flatten its images by "
            "`data.map(lambda example: flatten_image(example, label=False))`, then call `batch`. "
            f"Received examples of {sorted(spec)}"
        )
    image, *rest = spec if isinstance(spec, (tuple, list)) else (spec,)
    if not hasattr(image, "shape") or not hasattr(image, "dtype") or hasattr(image, "ragged_rank"):
        raise ValueError(
            f"`{name}` must be a data set of dense batches (batch, visible). Received: {image}"
        )
    if image.shape.rank != 2:
        raise ValueError(
            f"`{name}` must be a data set of batches (batch, visible): flatten images, then call "
            f"`batch`. Received elements of shape {image.shape}"
        )
    if data.cardinality() == 0:  # of which Keras on JAX would lose all weights
        check_examples(name, 0)
    if labeled or not rest:
        return data

    def alone(image, label, *weights):
        import tensorflow as tf

        return (image, tf.zeros((tf.shape(image)[0], 0)), *weights) if weights else image

    return data.map(alone)


def shown_batch(x):
    """What has the shape of a batch of what `examples` gave: → (batch, x), as `with_first`.

    A `tf.data.Dataset`, which says of itself what its shape is, is not read.
    """
    return (keras.tree.flatten(x.element_spec)[0], x) if is_dataset(x) else with_first(x)


def with_first(x):
    """The images of the first batch of what `examples` gave, and what gives all: → (first, x).

    All examples of an array are one batch. A generator is taken apart and put together again.
    """
    if isinstance(x, np.ndarray):
        return x, x
    if isinstance(x, keras.utils.PyDataset):
        first = x[0]
    elif isinstance(x, GeneratorType):
        first = next(x, None)
        batches = itertools.chain([first], x)
        x = (batch for batch in batches)  # a generator again, as Keras wants it
    else:
        first = first_of(x)
    if first is None:
        check_examples("x", 0)
    first = first[0] if isinstance(first, (tuple, list)) else first
    return real_array("x", first), x
