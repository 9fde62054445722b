"""`tf.data` pipelines: what they are, their first batch, and that they give what they promise."""

import contextlib
import re
import sys

import keras
import numpy as np

NO_BATCH = UnboundLocalError, StopIteration, TypeError  # in which Keras 3.15 ends then
EARLY_END = re.compile(r"expected to contain (\d+) elements? but contained only (\d+)")
UNDIVIDED = re.compile(r"axis 0 is partitioned (\d+) times, but the dimension size is (\d+)")  # JAX


def is_dataset(data) -> bool:
    """Whether `data` is a `tf.data.Dataset`, asked without loading TensorFlow.

    One that a `tf.distribute` strategy has distributed is none: it cannot be mapped.
    """
    return hasattr(data, "element_spec") and hasattr(data, "map")


def first_of(batches):
    """The first batch, or `None`, without harm to what is read from `batches` afterwards.

    An iterator of a data set that goes before its end leaves TensorFlow 2.21 a `cache` that may
    take for everything what was read so far: a later pass then ends after two batches. So a data
    set whose end is known is read to it, which fills the cache.
    """
    iterator = iter(batches)
    first = next(iterator, None)
    if is_dataset(batches) and batches.cardinality() > 0:
        for _ in iterator:
            pass
    return first


def whole(data):
    """Let a pass over a `tf.data.Dataset` fail that ends before its cardinality, if that is known.

    So may do a `cache` that was read in part. Anything but a data set is returned unchanged.
    """
    if not is_dataset(data) or data.cardinality() <= 0:
        return data
    import tensorflow as tf  # on JAX, too, data may come from `tf.data`

    return data.apply(tf.data.experimental.assert_cardinality(data.cardinality()))


def without_autotuning(data):
    """Switch off the autotuning of a `tf.data.Dataset` that does not say whether it wants it.

    The tuner runs while epochs are short, and on two cores every third of them may take twice as
    long by it. `tf.data.AUTOTUNE` then stands for the number of cores. Anything but a data set is
    returned unchanged.
    """
    if not hasattr(data, "with_options") or data.options().autotune.enabled is not None:
        return data
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


@contextlib.contextmanager
def ends_named():
    """Say in a `ValueError` about `x` that a pass ended too early or gave no batch at all.

    Or that devices do not divide a batch, of which only an array tells beforehand.
    """
    outer = sys.exc_info()[1]  # which is handled where `fit` is called, if any is
    try:
        yield
    except Exception as error:
        if isinstance(error, NO_BATCH) and _raised_by_keras(error):
            cause = error.__context__
            if not isinstance(cause, NO_BATCH) and cause not in (None, outer):
                raise cause from cause.__cause__  # Keras failed again when it ended the run
            message = "`x` must hold at least one example. Received no example."
            raise ValueError(message) from error
        numbers = UNDIVIDED.search(str(error))
        if numbers:
            raise ValueError(
                f"`x` must give batches of multiples of {numbers[1]}, the number of devices, the "
                f"last one too. Received a batch of {numbers[2]}"
            ) from error
        numbers = EARLY_END.search(str(error))
        if not numbers:
            raise
        raise ValueError(
            f"`x` must give the {numbers[1]} batches that its cardinality promises. "
            f"Received {numbers[2]}. If it is cached and was read in part before, by `next` or "
            "`break`, TensorFlow's `cache` may hold that part alone: make the data set anew, "
            "and read parts of one that is not cached."
        ) from error


def _raised_by_keras(error) -> bool:
    """Whether that is an error of a backend of Keras, a `TypeError` one of calling `None`."""
    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    module = trace.tb_frame.f_globals.get("__name__", "")
    by_nothing = not isinstance(error, TypeError) or "'NoneType' object is not call" in str(error)
    return by_nothing and module.startswith("keras.src.backend")


def in_batches(arrays, batch_size: int):
    """Batch arrays of as many rows into a `tf.data.Dataset`, in their order.

    Real numbers have the precision that Keras gives arrays, but nothing is tuned.
    """
    import tensorflow as tf

    kind = keras.config.floatx()
    arrays = tuple(a.astype(kind) if np.issubdtype(a.dtype, np.floating) else a for a in arrays)
    batches = tf.data.Dataset.from_tensor_slices(arrays).batch(batch_size)
    return without_autotuning(batches.prefetch(1))


def shuffled_batches(arrays, batch_size: int, shuffle: bool):
    """Batch arrays of as many rows into a `tf.data.Dataset`; `shuffle`: each epoch in a new order.

    The order is the one that Keras gives arrays, but nothing is tuned while it trains. It is drawn
    by TensorFlow's global generator, and once that has a seed it is, as with Keras, the same in
    every epoch.
    """
    import tensorflow as tf

    def epoch(_):
        rows = tf.range(len(arrays[0]), dtype=tf.int64)
        return tf.random.shuffle(rows) if shuffle else rows

    tensors = [tf.constant(array) for array in arrays]
    rows = tf.data.Dataset.range(1).map(epoch).unbatch().batch(batch_size)
    batches = rows.map(lambda batch: tuple(tf.gather(tensor, batch) for tensor in tensors))
    number = -(-len(arrays[0]) // batch_size)  # which `unbatch` forgets
    batches = batches.prefetch(1).apply(tf.data.experimental.assert_cardinality(number))
    return without_autotuning(batches)
