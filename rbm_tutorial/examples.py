"""What users give to `fit`, `evaluate` and `predict`, made into what Keras passes on unchanged.

Arrays of any kind become NumPy arrays; what trains nothing is refused here, before anything is
built or traced. Nothing here draws.
"""

import itertools
from types import GeneratorType

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import BACKEND, LARGEST, checked_range
from rbm_tutorial.checks import (
    check_ends,
    check_examples,
    check_matrix,
    real_array,
    real_tensor,
)
from rbm_tutorial.pipelines import first_of, is_dataset

EXAMPLES = "x", "y", "sample_weight"


def is_stream(x) -> bool:
    """Whether `x` gives batches one after another: a Keras data set, a generator, a loader."""
    if isinstance(x, (keras.utils.PyDataset, GeneratorType)) or hasattr(x, "batch_sampler"):
        return True
    return hasattr(x, "__iter__") and not hasattr(x, "__len__")


def images(x, labeled: bool = False, name: str = "x"):
    """x as Keras is to get it: a NumPy array, a data set of batches, or the stream that it is.

    Labels of a data set are left out unless the model is `labeled`.
    Raises: `ValueError` about `name` for what holds no real numbers, or no example.
    """
    if is_dataset(x):
        return batches_of_images(x, labeled, name)
    if is_stream(x):
        if isinstance(x, keras.utils.PyDataset) and x.num_batches == 0:
            check_examples(name, 0)
        if isinstance(x, keras.utils.PyDataset):
            return Readable(x)
        # Of all iterators Keras takes generators alone.
        return (readable(batch) for batch in x) if hasattr(x, "__next__") else x
    x = real_array(name, x)
    check_examples(name, len(x) if x.ndim else 0)
    return x.astype("float32") if x.dtype == bool else x


class Readable(keras.utils.PyDataset):
    """The batches of another data set, each `readable`."""

    def __init__(self, data):
        super().__init__(data.workers, data.use_multiprocessing, data.max_queue_size)
        self.data = data

    num_batches = property(lambda self: self.data.num_batches)

    def __getitem__(self, i):
        return readable(self.data[i])

    def on_epoch_begin(self):
        self.data.on_epoch_begin()

    def on_epoch_end(self):
        self.data.on_epoch_end()


def readable(batch):
    """The parts of a batch as backends read them: in native byte order, on JAX in 32 bits.

    Of foreign byte orders JAX would read other numbers, and of 64-bit labels the last 32 bits. A
    list of arrays is a tuple of them, as in Keras. The parts are those of `whole_batch`.
    Raises: `ValueError` for what holds no real numbers, or no images.
    """

    def part(name, values):
        if values is None or ops.is_tensor(values):
            return values
        values = real_array(name, values)
        if BACKEND == "jax" and values.dtype.kind in "iu" and values.dtype.itemsize == 8:
            return values.clip(-1, 2**31 - 1).astype("int32")
        return values

    if isinstance(batch, list) and all(part is None or hasattr(part, "shape") for part in batch):
        batch = tuple(batch)
    batch = batch if isinstance(batch, tuple) else (batch,)
    if not 0 < len(batch) <= len(EXAMPLES) or batch[0] is None:
        raise ValueError(
            "`x` must give batches x, (x, y) or (x, y, weights). "
            f"Received: {len(batch)} parts, {[type(part).__name__ for part in batch]}"
        )
    return whole_batch(*(part(name, values) for name, values in zip(EXAMPLES, batch)))


def whole_batch(x, y=None, weights=None):
    """The parts of a batch that there are, and empty targets for weights without any.

    TensorFlow takes no `None`. Raises: `ValueError` for no images, and parts of other lengths.
    """
    given = [part for part in (x, y, weights) if part is not None]
    shapes = [tuple(part.shape) for part in given]
    for_each = len({shape[:1] for shape in shapes}) == 1 and shapes[0]
    if not for_each or (weights is not None and shapes[-1][1:] not in ((), (1,))):
        raise ValueError(
            "`x` must give batches with one label and one weight for each image. "
            f"Received arrays of shapes {shapes}"
        )
    check_examples("x", len(x))
    if y is None and weights is not None:
        return x, np.zeros((len(x), 0), "float32"), weights
    return tuple(given)


def check_batch(x):
    """Raise a `ValueError` for what is a way to many batches, not one."""
    if is_dataset(x) or is_stream(x):
        raise ValueError(f"`x` must be one batch, (batch, visible). Received: {type(x).__name__}")


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


def checked_weights(weights, name: str = "sample_weight"):
    """Weights, once they are known to be finite and at least 0, as `checked_range` does."""
    message = f"`{name}` must be finite and at least 0. Received weights"
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
    weights = rest[1] if len(rest) > 1 else None
    if weights is not None and not _is_column(weights):
        raise ValueError(
            f"`{name}` must be a data set whose weights have the shape (batch,). "
            f"Received: {weights}"
        )
    if labeled and rest and BACKEND == "jax" and _is_integer(rest[0]):
        return data.map(with_short_labels)
    if labeled or not rest:
        return data

    def alone(image, label, *weights):
        import tensorflow as tf

        return (image, tf.zeros((tf.shape(image)[0], 0)), *weights) if weights else image

    return data.map(alone)


def unit_means(name: str, data, units, width: int | None):
    """Mean of each unit over an array, (examples, visible), or a data set of batches: (visible,).

    Raises: `ValueError` about `name` for no examples, another width and values that `units` cannot
    have.
    """
    check_ends(name, data)
    count, total = 0, 0.0
    for batch in batches_of_images(data, name=name) if is_dataset(data) else [data]:
        x = real_tensor(name, batch, "float32")
        check_matrix(name, x, width)
        width = x.shape[1]
        units.check_number(width)
        x = units.checked(x, name)
        count, total = count + len(x), total + ops.sum(x, axis=0)  # in float32, always
    check_examples(name, count)
    return total / count


def _is_column(spec) -> bool:
    shape = getattr(spec, "shape", None)
    return shape is not None and (shape.rank in (None, 1) or shape[1:] == (1,))


def _is_integer(spec) -> bool:
    return hasattr(spec, "dtype") and spec.dtype.is_integer


def with_short_labels(image, label, *weights):
    """A batch with labels of 32 bits, as JAX has them; it would take the last 32 of 64."""
    import tensorflow as tf

    label = tf.clip_by_value(tf.cast(label, tf.int64), -1, 2**31 - 1)
    return image, tf.cast(label, tf.int32), *weights


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
