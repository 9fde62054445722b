"""What is timed besides training: partition functions and sampling, in the terms of `trainings`.

`setting.steps` temperatures or Gibbs steps of `setting.batch` chains make an epoch.
"""

import numpy as np
from ours import new_rbm
from trainings import VISIBLE, Setting, Training, first_weights, timed, wait_for


def ais(setting: Setting, x):
    """`ais_log_partition`. A step is one temperature of all chains."""
    from rbm_tutorial.likelihood import ais_log_partition

    rbm = new_rbm(setting)
    run = timed(lambda: ais_log_partition(rbm, setting.batch, num_betas=setting.steps + 1))
    return Training(run, setting.steps)


def ais_products(setting: Setting, x):
    """The limit of AIS: its two matrix products, v·w and h·wᵀ, in a compiled loop."""
    from keras import ops

    from rbm_tutorial.backend import compiled

    vs = ops.convert_to_tensor(x[: 2 * setting.batch].reshape(2, setting.batch, VISIBLE))
    ws = ops.convert_to_tensor(np.stack([first_weights(setting)] * 2))

    @compiled
    def run(vs, ws, steps):
        def step(i, _):
            return ops.matmul(ops.matmul(vs[i % 2], ws[i % 2]), ops.transpose(ws[i % 2]))

        return ops.fori_loop(0, steps, step, ops.zeros_like(vs[0]))

    epoch = timed(lambda: run(vs, ws, ops.convert_to_tensor(setting.steps)), wait_for)
    return Training(epoch, setting.steps)


def exact(setting: Setting, x):
    """`exact_log_partition`. A step is one state of the hidden units."""
    from rbm_tutorial.likelihood import exact_log_partition

    rbm = new_rbm(setting)
    return Training(timed(lambda: exact_log_partition(rbm)), 2**setting.hidden)


def sampling(setting: Setting, x):
    """`RBM.forward_gibbs`, 10 steps compiled. A step is one Gibbs step of all chains."""
    from keras import ops

    from rbm_tutorial.backend import compiled_draws

    rbm = new_rbm(setting)
    ten_steps = compiled_draws(rbm, lambda v: rbm.forward_gibbs(v, steps=10))
    start = ops.convert_to_tensor(np.ascontiguousarray(x[: setting.batch]))

    def epoch():
        v = start
        for _ in range(setting.steps // 10):
            v = ten_steps(v)
        return v

    return Training(timed(epoch, wait_for), setting.steps // 10 * 10)


INFERENCE = {
    "AIS": ais,
    "AIS, its products": ais_products,
    "exact enumeration": exact,
    "sampling": sampling,
}
