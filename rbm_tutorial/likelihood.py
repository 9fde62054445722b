"""How probable data are under a trained machine: the partition function and what follows from it.

Chapter 3 derives the log-likelihood from the free energy. Everything is in nats.
"""

import math

import tensorflow as tf
from keras import ops

from rbm_tutorial.data import all_states
from rbm_tutorial.rbm import RBM, checked_unit_interval

MAX_ENUMERATED_UNITS = 26  # 2²⁶ states of 784 units take minutes
CHUNK_ELEMENTS = 2**22  # float64 numbers held at a time: 32 MiB


def exact_log_partition(rbm: RBM) -> float:
    """log Z = log Σ_h exp(hb·h + Σ_i softplus(vb + w_rec·h)_i), nats, summed over every state.

    The smaller layer is enumerated, so the cost is 2^min(visible, hidden) times the size of the
    other; memory is bounded. Computed in float64. Draws nothing.

    Raises: `ValueError` on an untied layer, or if both layers have more than 26 units.
    """
    rbm.require_tied("exact_log_partition")
    w, inner, outer = (tf.cast(p, tf.float64) for p in (rbm.w_rec, rbm.vb, rbm.hb))
    if w.shape[0] < w.shape[1]:  # outer, which is enumerated, must be the smaller layer
        w, inner, outer = tf.transpose(w), outer, inner
    units = w.shape[1]
    if units > MAX_ENUMERATED_UNITS:
        raise ValueError(
            f"The smaller layer of `rbm` must have at most {MAX_ENUMERATED_UNITS} units, since "
            f"2^units states are summed. Received: {units}"
        )
    low = min(units, int(math.log2(max(1, CHUNK_ELEMENTS / w.shape[0]))))
    within = tf.constant(all_states(low), tf.float64)  # the states of a chunk: (2^low, low)
    logits = tf.matmul(within, w[:, :low], transpose_b=True) + inner  # (2^low, inner)
    biases = tf.linalg.matvec(within, outer[:low])
    return float(_log_sum_over_chunks(logits, biases, w[:, low:], outer[low:]))


@tf.function(reduce_retracing=True)
def _log_sum_over_chunks(logits, biases, w_high, outer_high):
    """The chunks share the low bits of the state; each has its own high bits."""
    bits = tf.range(tf.shape(outer_high)[0])
    total = tf.constant(-math.inf, tf.float64)
    for chunk in tf.range(tf.bitwise.left_shift(1, tf.shape(outer_high)[0])):
        state = tf.cast(tf.bitwise.right_shift(chunk, bits) & 1, tf.float64)
        inner = tf.reduce_sum(tf.nn.softplus(logits + tf.linalg.matvec(w_high, state)), axis=1)
        log_sum = tf.reduce_logsumexp(inner + biases) + tf.tensordot(outer_high, state, 1)
        total = tf.reduce_logsumexp(tf.stack([total, log_sum]))
    return total


def log_likelihood(rbm: RBM, x, log_z: float):
    """log p(x) = -F(x) - log Z of each example: (batch, visible) in [0, 1] → (batch,) nats.

    `log_z` is the log partition function, as from `exact_log_partition`. For binary `x` this is a
    log-probability; for grey pixels it is only -F(x) - log Z. Draws nothing.

    Raises: `ValueError` on an untied layer, for wrong shapes or values outside [0, 1].
    """
    return -rbm.free_energy(checked_unit_interval(ops.convert_to_tensor(x))) - log_z
