"""`tf.data` pipelines: what they are, batches of an array, and the switch of the autotuner."""


def is_dataset(data) -> bool:
    """Whether `data` is a `tf.data.Dataset`, asked without loading TensorFlow.

    One that a `tf.distribute` strategy has distributed is none: it cannot be mapped.
    """
    return hasattr(data, "element_spec") and hasattr(data, "map")


def without_autotuning(data):
    """Switch off the autotuning of a `tf.data.Dataset` that does not say whether it wants it.

    The tuner runs at the start of training and takes its time from it. `tf.data.AUTOTUNE` then
    stands for the number of cores. Anything but a data set is returned unchanged.
    """
    if not hasattr(data, "with_options") or data.options().autotune.enabled is not None:
        return data
    import tensorflow as tf  # on JAX, too, data may come from `tf.data`

    options = tf.data.Options()
    options.autotune.enabled = False
    return data.with_options(options)


def shuffled_batches(x, batch_size: int, shuffle: bool):
    """Batch an array into a `tf.data.Dataset`, in a new random order each epoch if `shuffle`.

    The order is the one that Keras gives arrays, but the pipeline is open to `without_autotuning`.
    It is drawn by TensorFlow's global generator, and once that has a seed it is, as with Keras, the
    same in every epoch.
    """
    import tensorflow as tf

    def epoch(_):
        rows = tf.range(len(x), dtype=tf.int64)
        return tf.random.shuffle(rows) if shuffle else rows

    tensor = tf.constant(x)
    rows = tf.data.Dataset.range(1).map(epoch).unbatch().batch(batch_size)
    return rows.map(lambda batch: tf.gather(tensor, batch)).prefetch(1)
