"""What is timed besides training: partition functions and sampling, in `contenders`' terms.

`setting.steps` temperatures or Gibbs steps of `setting.batch` chains make an epoch.
"""

import numpy as np
from contenders import VISIBLE, Setting, Training, first_weights, new_rbm, timed


def ais(setting: Setting, x):
    """`ais_log_partition`. A step is one temperature of all chains."""
    from rbm_tutorial.likelihood import ais_log_partition

    rbm = new_rbm(setting)
    run = timed(lambda: ais_log_partition(rbm, setting.batch, num_betas=setting.steps + 1))
    return Training(run, setting.steps)


def ais_products(setting: Setting, x):
    """The limit of AIS: its two matrix products, v·w and h·wᵀ, in a loop in a `tf.function`."""
    import tensorflow as tf

    vs = tf.constant(x[: 2 * setting.batch].reshape(2, setting.batch, VISIBLE))
    ws = tf.stack([first_weights(setting)] * 2)

    @tf.function
    def run(vs, ws, steps):
        out = tf.zeros_like(vs[0])
        for i in tf.range(steps):
            out = tf.matmul(tf.matmul(vs[i % 2], ws[i % 2]), ws[i % 2], transpose_b=True)
        return out

    return Training(timed(lambda: run(vs, ws, tf.constant(setting.steps))), setting.steps)


def exact(setting: Setting, x):
    """`exact_log_partition`. A step is one state of the hidden units."""
    from rbm_tutorial.likelihood import exact_log_partition

    rbm = new_rbm(setting)
    return Training(timed(lambda: exact_log_partition(rbm)), 2**setting.hidden)


def sampling(setting: Setting, x):
    """`RBM.forward_gibbs`, 10 steps a `tf.function`. A step is one Gibbs step of all chains."""
    import tensorflow as tf

    rbm = new_rbm(setting)
    ten_steps = tf.function(lambda v: rbm.forward_gibbs(v, steps=10))
    start = tf.constant(np.ascontiguousarray(x[: setting.batch]))

    def epoch():
        v = start
        for _ in range(setting.steps // 10):
            v = ten_steps(v)

    return Training(timed(epoch), setting.steps // 10 * 10)


INFERENCE = {
    "AIS": ais,
    "AIS, its products": ais_products,
    "exact enumeration": exact,
    "sampling": sampling,
}
