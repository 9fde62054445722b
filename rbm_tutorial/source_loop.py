"""`train_rbm`: the source's loop over epochs, which stops when the reconstruction cost settles."""

from collections.abc import Callable

import keras
import numpy as np

from rbm_tutorial.checks import (
    check_count,
    check_ends,
    check_examples,
    check_matrix,
    check_not_negative,
    real_array,
)
from rbm_tutorial.data import flatten_image
from rbm_tutorial.pipelines import is_dataset
from rbm_tutorial.rbm import RBM
from rbm_tutorial.training import ContrastiveDivergence

LARGEST_UNCOUNTED = 10**6  # places of a buffer; each takes 32 bytes, empty or not
LARGEST_KEPT = 2**28  # bytes of images, as floats; TFDS keeps about as many


class StopWhenSettled(keras.callbacks.Callback):
    """Stop when the epoch's reconstruction cost changes by no more than `tolerance` nats."""

    def __init__(self, tolerance):
        super().__init__()
        self.tolerance = tolerance
        self.last_cost = float("inf")

    def on_epoch_end(self, epoch, logs=None):
        if "reconstruction_cost" not in logs:
            check_examples("data", 0)
        cost = logs["reconstruction_cost"]
        if abs(self.last_cost - cost) <= self.tolerance:
            self.model.stop_training = True
        self.last_cost = cost


def example_batches(data, map_fn: Callable, batch_size: int, shuffle_buffer: int, seed):
    """Batch the images of a data set or of an array, (batch, visible), in a new order each epoch.

    The arguments are those of `train_rbm`; the order of each epoch depends on `seed`.
    Raises: `ValueError` for empty or infinite data, `ImportError` without TensorFlow.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "`train_rbm` makes its batches with TensorFlow, on any Keras backend: install it, or "
            "pass arrays to `fit` of `ContrastiveDivergence`."
        ) from error

    check_ends("data", data)
    if is_dataset(data):
        raw = isinstance(data.element_spec, dict)
        mapped = map_fn is flatten_image and not raw
        images = data if mapped else data.map(map_fn, num_parallel_calls=tf.data.AUTOTUNE)
        images = images.map(_without_label)
        if raw and map_fn is flatten_image and _fits(images):
            images = images.cache()
    else:
        images = tf.data.Dataset.from_tensor_slices(data)
    number = int(images.cardinality())
    check_examples("data", number)
    if number < 0 and shuffle_buffer > LARGEST_UNCOUNTED:  # it is not known
        number = int(images.reduce(np.int64(0), lambda count, _: count + 1))
    if number > 0:  # the order stays, the buffer takes less memory
        shuffle_buffer = min(shuffle_buffer, number)
    batches = images.shuffle(shuffle_buffer, seed=seed).batch(batch_size)
    return batches.prefetch(tf.data.AUTOTUNE)


def checked_data(rbm, data):
    """`data`, an array as floats that the visible units of `rbm` can have, or a data set.

    Raises: `ValueError` about `data` for an array that `rbm` cannot learn.
    """
    if is_dataset(data):
        return data
    data = real_array("data", data).astype("float32")
    check_matrix("data", data, rbm.number_visible_units)
    rbm.visible_units.check_number(data.shape[1])
    rbm.visible_units.checked(data, "data")
    return data


def _without_label(image, label=None):
    return image


def _fits(images):
    size = images.element_spec.shape.num_elements()
    return size is not None and int(images.cardinality()) * size * 4 <= LARGEST_KEPT


def train_rbm(
    rbm: RBM,
    data,
    map_fn: Callable = flatten_image,
    num_epochs: int = 1000,
    tolerance: float = 1e-3,
    batch_size: int = 32,
    shuffle_buffer: int = 1024,
    verbose: int | str = "auto",
    callbacks: tuple = (),
) -> RBM:
    """Train `rbm` by CD and plain gradient descent until its reconstruction cost settles.

    Stops after `num_epochs`, or earlier, when the cost of an epoch differs from that of the epoch
    before by at most `tolerance` nats. Each call compiles a model of its own, for about a second:
    for many short runs call `fit` of one `ContrastiveDivergence`.

    Args:
        rbm: the layer, tied; its `learning_rate`, `cd_steps` and `seed` are used. As the source
            does, it starts from biases of 0 if it is built, else as in `ContrastiveDivergence`.
        data: a `tf.data.Dataset` of single examples, mapped by `map_fn`, unless they are flat
            already; or an array (examples, visible) in [0, 1], which is used as it is. Examples of
            TFDS that `map_fn` flattens are decoded once and kept, up to 256 MiB; any other map is
            called in each epoch, since it may draw: `data.map(map_fn).cache()` calls it once.
        map_fn: makes of an example an image (visible,) in [0, 1]; of (image, label) the image is
            used.
        num_epochs, tolerance, batch_size: see above. The last batch of an epoch may be short.
        shuffle_buffer: number of examples among which each next one is drawn. The same seeds, of
            the layer and the global one of Keras, give the same order, and the same weights.
        verbose: "auto" draws Keras' progress bar, 2 prints a line an epoch, 0 is silent.
        callbacks: further Keras callbacks, such as `keras.callbacks.History()`.

    Returns: the same layer, trained.
    Raises: as `ContrastiveDivergence`; `ValueError` for empty or infinite data or counts below 1.
    """
    for name, value in [
        ("num_epochs", num_epochs),
        ("batch_size", batch_size),
        ("shuffle_buffer", shuffle_buffer),
    ]:
        check_count(name, value)
    check_not_negative("tolerance", tolerance)
    model = ContrastiveDivergence(rbm)
    data = checked_data(rbm, data)
    batches = example_batches(data, map_fn, batch_size, shuffle_buffer, rbm.seed)
    model.compile()  # SGD(rbm.learning_rate)
    model.fit(
        batches,
        epochs=num_epochs,
        shuffle=False,  # `batches` are shuffled already
        verbose=verbose,
        callbacks=[StopWhenSettled(tolerance), *callbacks],
    )
    return rbm
