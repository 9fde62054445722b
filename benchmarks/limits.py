"""The 3 + 2 k matrix products of CD-k and nothing else, with which a program is compared."""

import numpy as np
from trainings import VISIBLE, Training, array_batches, first_weights, loop, timed, wait_for


def products_numpy(setting, x):
    """x·w, then k times h·wᵀ and v·w, then xᵀ·h and vᵀ·h, by NumPy's BLAS into given memory."""
    w = first_weights(setting)
    h0, h = np.empty((2, setting.batch, setting.hidden), "float32")
    v = np.empty((setting.batch, VISIBLE), "float32")
    gradient = np.empty_like(w)

    def step(x):
        np.matmul(x, w, out=h0)
        last = h0
        for _ in range(setting.cd_steps):
            np.matmul(last, w.T, out=v)
            last = np.matmul(v, w, out=h)
        np.matmul(x.T, h0, out=gradient)
        np.matmul(v.T, h, out=gradient)

    return Training(*loop(step, array_batches(setting, x), setting.steps))


def products(setting, x):
    """The same products in a loop that Keras' backend has compiled.

    The inputs alternate between two, chosen by the step, and the results are carried along, so
    that nothing can be moved out of the loop or left out.
    """
    from keras import ops

    from rbm_tutorial.backend import compiled

    xs = ops.convert_to_tensor(x[: 2 * setting.batch].reshape(2, setting.batch, VISIBLE))
    ws = ops.convert_to_tensor(np.stack([first_weights(setting)] * 2))

    @compiled
    def run(xs, ws, steps):
        def step(i, gradients):
            x, w = xs[i % 2], ws[i % 2]
            h0 = h = ops.matmul(x, w)
            for _ in range(setting.cd_steps):
                v = ops.matmul(h, ops.transpose(w))
                h = ops.matmul(v, w)
            return ops.matmul(ops.transpose(x), h0), ops.matmul(ops.transpose(v), h)

        return ops.fori_loop(0, steps, step, (ops.zeros_like(ws[0]), ops.zeros_like(ws[0])))

    steps = max(1, setting.steps // 4)
    return Training(timed(lambda: run(xs, ws, ops.convert_to_tensor(steps)), wait_for), steps)
