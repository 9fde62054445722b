"""What `keras.ops` lacks, for TensorFlow and JAX: ranges in graphs, draws, compiling, replicas.

The layer, its training and its likelihoods are written on `keras.ops` and on these functions; with
KERAS_BACKEND=jax they load no TensorFlow. TFDS, `train_rbm` and `cd_update`, which shows
`tf.GradientTape`, need TensorFlow itself.
"""

import contextlib
import contextvars
import itertools

import keras
import numpy as np
from keras import ops

from rbm_tutorial import threefry

BACKEND = keras.backend.backend()
LARGEST = float(np.finfo("float32").max)
FOR_XLA = contextvars.ContextVar("for_xla", default=False)
if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax

    threefry_on_jax = jax.jit(threefry.uniform, static_argnums=0)
else:
    raise ImportError(
        "rbm_tutorial runs on Keras' TensorFlow and JAX backends. "
        f"Received: KERAS_BACKEND={BACKEND}"
    )


def check_tensorflow(name: str) -> None:
    """Raise a `NotImplementedError` unless Keras runs on TensorFlow; `name` is what needs it."""
    if BACKEND != "tensorflow":
        raise NotImplementedError(
            f"`{name}` needs Keras on TensorFlow; `ContrastiveDivergence` trains on any backend. "
            f"Received: KERAS_BACKEND={BACKEND}"
        )


@contextlib.contextmanager
def traced_for_xla(whether: bool = True):
    """Let what TensorFlow traces in this context be such as XLA can compile well."""
    before = FOR_XLA.set(whether)
    try:
        yield
    finally:
        FOR_XLA.reset(before)


def by_xla(x) -> bool:
    """Whether `x` is a tensor of a function that XLA compiles, in which nothing can raise."""
    if BACKEND == "jax":
        return isinstance(x, jax.core.Tracer)
    return FOR_XLA.get() and not tf.executing_eagerly()


def checked_range(x, low: float, high: float, message: str):
    """`x` itself, once all of it is known to lie in [low, high]; NaN does not.

    Otherwise raises a `ValueError`, `message` and the range of `x`. In a `tf.function` what is
    computed from the returned tensor waits for the check, which raises
    `tf.errors.InvalidArgumentError`. What XLA compiles cannot raise: if that is known, as always on
    JAX, what lies outside becomes NaN, and so does what is computed from it; else it passes.
    """
    if by_xla(x):
        return ops.where((x >= low) & (x <= high), x, np.nan)
    if BACKEND == "jax":
        host = np.asarray(x)  # on a processor the same memory, and nothing to compile
        host = host.astype("float32") if host.dtype.itemsize == 2 else host
        if not np.all((host >= low) & (host <= high)):
            least, most = float(np.min(host)), float(np.max(host))
            raise ValueError(f"{message} from {least:g} to {most:g}.")
        return x
    eager = tf.executing_eagerly()
    if eager and 0 in x.shape:  # there is no minimum
        return x
    least, most = ops.min(x), ops.max(x)
    inside = (least >= low) & (most <= high)
    if not eager:
        with tf.control_dependencies([tf.debugging.Assert(inside, [message, least, most])]):
            return tf.identity(x)
    if not inside:
        raise ValueError(f"{message} from {float(least):g} to {float(most):g}.")
    return x


def is_known(x) -> bool:
    """Whether `x` has values, and does not stand for some while a function is traced."""
    if isinstance(x, keras.KerasTensor):
        return False
    return not isinstance(x, jax.core.Tracer) if BACKEND == "jax" else tf.executing_eagerly()


def all_finite(x) -> bool:
    """Whether `x` holds no NaN and nothing infinite; of what is traced it is not known, so yes."""
    return not is_known(x) or bool(np.isfinite(np.asarray(x)).all())


def single(x):
    """`x` in single precision at least: sums over units go beyond 65,504, where float16 ends."""
    half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return ops.cast(x, "float32") if half else x


def affine(x, w, b):
    """x·w + b in single precision at least."""
    return ops.matmul(single(x), single(w)) + single(b)


def wait_for(first, x):
    """Return `x`, but not before `first` is computed, a tensor or several: state may change."""
    if BACKEND == "jax":  # functions have no such state
        return x
    with tf.control_dependencies(tf.nest.flatten(first)):
        return tf.identity(x)


def uniform(shape, seed):
    """Draw uniform float32 numbers in [0, 1) that depend on `seed`, (2,) integers.

    They are multiples of 2⁻²³ on TensorFlow and of 2⁻²⁴ where XLA compiles, as on JAX, so the least
    probability above 0 of which an event can be drawn is 1.2e-7 and 6e-8; rarer ones happen as
    often as these.
    Under `tf.distribute` they depend on the replica, too, and on nothing else anywhere.
    """
    if BACKEND == "jax":
        return threefry_on_jax(tuple(shape), jax.numpy.asarray(seed, "uint32"))
    if by_xla(seed):
        return threefry.uniform(shape, tf.cast(seed, "uint32"))
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        seed = tf.random.experimental.stateless_fold_in(seed, replica.replica_id_in_sync_group)
    return tf.random.stateless_uniform(shape, seed)


def uniform_stream(seed):
    """A function shape → `uniform` numbers of that shape, other ones at each call.

    The first call uses `seed` itself, each later one a seed folded with the number of the call.
    """
    calls = itertools.count()

    def draw(shape):
        call = next(calls)
        return uniform(shape, fold_in(seed, call) if call else seed)

    return draw


def fold_in(seed, number):
    """Another seed, (2,) integers, that depends on `seed` and on `number`, and looks unrelated."""
    if BACKEND == "jax":
        return jax.random.fold_in(jax.numpy.asarray(seed, "uint32"), number)
    return tf.random.experimental.stateless_fold_in(tf.cast(seed, "int64"), number)


def fork_stream(generator: keras.random.SeedGenerator, number: int) -> None:
    """Let a generator go on with numbers unrelated to those it would have given, by `number`."""
    other = fold_in(generator.state.value, number)
    # Once more, since TensorFlow keeps the number as the half that `next` counts up.
    generator.state.assign(ops.cast(fold_in(other, 0), "uint32"))


def replicas() -> int:
    """Number of replicas that train together under `tf.distribute`; 1 without a strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync if BACKEND == "tensorflow" else 1


def mean_over_replicas(x):
    """Mean of a tensor, or of each of several, over the replicas that train together.

    Without a strategy `x` itself. Several are exchanged at once.
    """
    if replicas() == 1:
        return x
    context = tf.distribute.get_replica_context()
    return x if context is None else context.all_reduce(tf.distribute.ReduceOp.MEAN, x)


def distributed() -> bool:
    """Whether a `tf.distribute` strategy is in effect."""
    return BACKEND == "tensorflow" and tf.distribute.has_strategy()


def compiled(function):
    """`function` of tensors as a `tf.function` or `jax.jit`, traced once for each shape."""
    if BACKEND == "jax":
        return jax.jit(function)
    return tf.function(function, reduce_retracing=True)


def compiled_draws(layer, function):
    """`function` of tensors, compiled; it may draw from `layer`, and from no other.

    On JAX, whose functions have no state, the layer's variables go in and its seed comes out.
    """
    if BACKEND == "tensorflow":
        return tf.function(function)

    @jax.jit
    def pure(values, *args):
        with keras.StatelessScope(list(zip(layer.variables, values))) as scope:
            result = function(*args)
        return result, scope.get_current_value(layer.seed_generator.state)

    def call(*args):
        result, seed = pure([variable.value for variable in layer.variables], *args)
        layer.seed_generator.state.assign(seed)
        return result

    return call


def compiled_once(layer, key, function):
    """`compiled_draws(layer, function)`, made at the first call with this `key` and then kept.

    It is kept with the layer and goes with it. The `key` is what makes of two functions two.
    """
    # Not as an attribute that Keras would look after.
    kept = vars(layer).setdefault("compiled_functions", {})
    if key not in kept:
        kept[key] = compiled_draws(layer, function)
    return kept[key]


def double_precision():
    """A context in which float64 arrays exist; on TensorFlow they always do."""
    return jax.enable_x64(True) if BACKEND == "jax" else contextlib.nullcontext()
