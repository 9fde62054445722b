"""What this package is compared with: the source's way to train an RBM, and other libraries."""

import numpy as np
from trainings import VISIBLE, Training, array_batches, first_weights, loop


def source(setting, x):
    """The source's approach, its misprints mended: eager `GradientTape`, uniform draws by TFP.

    Its shapes are mended too, so that every example has noise of its own.
    """
    import tensorflow as tf
    import tensorflow_probability as tfp

    w_rec = tf.Variable(first_weights(setting))
    w_gen = tf.Variable(tf.transpose(w_rec))
    hb, vb = tf.Variable(tf.zeros(setting.hidden)), tf.Variable(tf.zeros(VISIBLE))

    def forward(v):
        return tf.sigmoid(tf.add(tf.matmul(v, w_rec), hb))

    def reverse(h):
        return tf.sigmoid(tf.add(tf.matmul(h, w_gen), vb))

    def sample(p):
        return tf.cast(p > tfp.distributions.Uniform().sample(p.shape), tf.float32)

    def free_energy(v):
        softplus = tf.math.log(1 + tf.math.exp(tf.add(tf.matmul(v, w_rec), hb)))
        return -tf.tensordot(v, vb, 1) - tf.reduce_sum(softplus, 1)

    def reconstruction_cost(x):
        y = reverse(forward(x))
        log_p = tf.add(x * tf.math.log(y), tf.subtract(1.0, x) * tf.math.log(tf.subtract(1.0, y)))
        return -tf.reduce_mean(tf.reduce_sum(log_p, 1))

    def cd_update(x):
        nonlocal w_gen
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            h_sample = sample(forward(x))
            for _ in range(setting.cd_steps):
                v_sample = tf.constant(sample(reverse(h_sample)))
                h_sample = sample(forward(v_sample))
            tape.watch([w_rec, hb, vb])
            cost = tf.reduce_mean(free_energy(x)) - tf.reduce_mean(free_energy(v_sample))
        gradients = tape.gradient(cost, [w_rec, hb, vb])
        for variable, gradient in zip([w_rec, hb, vb], gradients):
            variable.assign_sub(setting.learning_rate * gradient)
        w_gen = tf.Variable(tf.transpose(w_rec))
        return reconstruction_cost(x).numpy()

    batches = [tf.constant(batch) for batch in array_batches(setting, x)]
    return Training(
        *loop(cd_update, batches, setting.steps), lambda: [p.numpy() for p in (w_rec, hb, vb)]
    )


def scikit_learn(setting, x):
    """`BernoulliRBM` in float32. Its rule is PCD-1.

    The step is `_fit`, what `fit` does with each batch: `fit` itself starts anew at each call, and
    `partial_fit` converts everything to float64.
    """
    from sklearn.neural_network import BernoulliRBM

    rbm = BernoulliRBM(
        setting.hidden,
        learning_rate=setting.learning_rate,
        batch_size=setting.batch,
        n_iter=0,
        random_state=0,
    )
    rbm.fit(x[: setting.batch])  # n_iter=0: makes the parameters, in the dtype of x
    rng = np.random.RandomState(0)
    return Training(
        *loop(lambda batch: rbm._fit(batch, rng), array_batches(setting, x), setting.steps),
        lambda: (rbm.components_.T, rbm.intercept_hidden_, rbm.intercept_visible_),
    )


def pytorch(setting, x):
    """A loop written by hand in PyTorch for speed alone: everything in place, no monitoring."""
    import torch

    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    w = torch.tensor(first_weights(setting))
    hb, vb = torch.zeros(setting.hidden), torch.zeros(VISIBLE)
    shape_h, shape_v = (setting.batch, setting.hidden), (setting.batch, VISIBLE)
    positive, negative, h, u_h = torch.full((4, *shape_h), 0.5)
    v, u_v = torch.empty((2, *shape_v))
    rate = setting.learning_rate / setting.batch

    def step(x):
        torch.addmm(hb, x, w, out=positive).sigmoid_()
        p = negative if setting.persistent else positive
        for _ in range(setting.cd_steps):
            torch.lt(u_h.uniform_(), p, out=h)
            torch.addmm(vb, h, w.T, out=v).sigmoid_()
            torch.lt(u_v.uniform_(), v, out=v)
            p = torch.addmm(hb, v, w, out=negative).sigmoid_()
        w.addmm_(x.T, positive, alpha=rate).addmm_(v.T, negative, alpha=-rate)
        hb.add_(positive.sum(0).sub_(negative.sum(0)), alpha=rate)
        vb.add_(x.sum(0).sub_(v.sum(0)), alpha=rate)

    return torch_loop(step, setting, x, lambda: (w, hb, vb))


def torch_loop(step, setting, x, parameters):
    """`Training` of a step that takes a tensor, on PyTorch's default device."""
    import torch

    batches = [torch.as_tensor(batch) for batch in array_batches(setting, x)]
    cuda = torch.cuda.is_available()
    return Training(
        *loop(step, batches, setting.steps, wait=lambda _: cuda and torch.cuda.synchronize()),
        lambda: [p.numpy(force=True) for p in parameters()],
    )


def rbms(setting, x):
    """The package `rbms` (PyTorch), its training loop without its log files. Its rule is PCD.

    Its optional centering is off, as the others have none. It divides gradients by their norm, so
    its learning rate means something else; ten times the others' makes it learn about as fast.
    """
    import torch
    from rbms.bernoulli_bernoulli.classes import BBRBM
    from rbms.training.pcd import fit_batch_pcd

    torch.set_grad_enabled(False)
    torch.manual_seed(0)
    w = torch.tensor(first_weights(setting))
    rbm = BBRBM(w, torch.zeros(VISIBLE), torch.zeros(setting.hidden))
    rbm.init_grad()
    optimizer = torch.optim.SGD(rbm.parameters(), lr=10 * setting.learning_rate, maximize=True)
    chains = rbm.init_chains(setting.batch)
    weights = torch.ones(setting.batch)

    def step(x):
        nonlocal chains
        optimizer.zero_grad(set_to_none=False)
        chains, _ = fit_batch_pcd(
            (x, weights), chains, rbm, setting.cd_steps, beta=1.0, centered=False
        )
        optimizer.step()

    return torch_loop(step, setting, x, lambda: (rbm.weight_matrix, rbm.hbias, rbm.vbias))
