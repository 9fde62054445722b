"""The gradient of contrastive divergence: statistics of the data minus those of the model.

The chapter on contrastive divergence derives it, that on training derives the centered one.
"""

from typing import NamedTuple

from keras import ops

from rbm_tutorial.backend import mean_over_replicas, single
from rbm_tutorial.checks import check_count, check_rate, finite_number

OFFSET_MEMORY = 100  # batches


class Weighing(NamedTuple):
    """How much each row of a batch counts: `weights`, (batch,), or `None` if all alike.

    `total` is Σ weights, or the number of rows, `size` the number of rows; under `tf.distribute`
    the means over all replicas. Divided by the total, sums over the rows of a replica average to
    the mean over the whole batch, however that was divided: of a short one a replica may get
    nothing.
    """

    weights: object
    total: object
    size: object

    @property
    def divisor(self):
        """The total, or 1 if there is nothing: then means are 0, not NaN.

        A total that is NaN, of weights that JAX could not refuse, stays: so do means.
        """
        return ops.where(self.total <= 0, 1, self.total)

    @property
    def anything(self):
        """1, or 0 if there is no row or none of a weight above 0."""
        return 1 - ops.cast(self.total <= 0, self.total.dtype)


def weighing(rows, weights=None):
    """Weights of rows, (batch,), with their total; a `Weighing` is returned as it is.

    The total is in single precision at least, since float16 counts to 2,048.
    """
    if isinstance(weights, Weighing):
        return weights
    kind = single(rows if weights is None else weights).dtype
    size = ops.cast(ops.shape(rows)[0], kind)
    if weights is None:
        total = size = mean_over_replicas(size)
    else:
        total, size = mean_over_replicas([ops.sum(ops.cast(weights, kind)), size])
    return Weighing(weights, total, size)


def batch_mean(rows, weights=None):
    """Mean over the first axis, Σ weights·rows / Σ weights, (batch,); of no rows 0, not NaN."""
    rows, each = single(rows), weighing(rows, weights)
    if each.weights is None:
        return ops.divide(ops.sum(rows, axis=0), each.divisor)
    return ops.tensordot(each.weights / each.divisor, rows, axes=1)


def statistics(v, h, weights=None):
    """⟨vh⟩, ⟨h⟩, ⟨v⟩ of a batch, h = p(h=1 | v): minus the gradient of mean F in (w, hb, vb).

    With `weights`, (batch,), means are weighted.
    """
    v, h, each = single(v), single(h), weighing(v, weights)
    if each.weights is None:
        h = ops.divide(h, each.divisor)
    else:
        h = h * (each.weights / each.divisor)[:, None]
    return ops.matmul(ops.transpose(v), h), ops.sum(h, axis=0), batch_mean(v, each)


def contrastive_gradient(x, h, v_k, h_k, weights=None, weights_k=None):
    """Gradient of mean F(x) - mean F(v⁽ᵏ⁾) in (w, hb, vb): statistics of model minus data.

    h and h_k are p(h=1 | x) and p(h=1 | v⁽ᵏ⁾), (batch, hidden); x and v⁽ᵏ⁾ are (batch, visible).
    The number of chains may differ from that of examples; `weights` are of x, `weights_k` of v⁽ᵏ⁾.
    """
    of_model, of_data = statistics(v_k, h_k, weights_k), statistics(x, h, weights)
    return [model - data for model, data in zip(of_model, of_data)]


def centered_gradient(dw, dhb, dvb, visible_offset, hidden_offset):
    """The gradient of a machine whose units are centered, carried over to (w, hb, vb).

    With energy -(v - μ)·α - (h - ν)·β - (v - μ)·W·(h - ν) the gradient is  Δ⟨(v - μ)(h - ν)⟩, Δ⟨h⟩,
    Δ⟨v⟩  instead of Δ⟨vh⟩, Δ⟨h⟩, Δ⟨v⟩. The machine with biases vb = α - W·ν and hb = β - μ·W is the
    same.

    Source: Melchior, Fischer & Wiskott, How to center deep Boltzmann machines (2016), algorithm 1.
    """
    dw = dw - ops.outer(visible_offset, dhb) - ops.outer(dvb, hidden_offset)
    return dw, dhb - ops.matmul(visible_offset, dw), dvb - ops.matmul(dw, hidden_offset)


@ops.custom_gradient
def with_gradient(value, w, hb, vb, dw, dhb, dvb):
    """`value`, with (dw, dhb, dvb) for its gradient in (w, hb, vb), and none in anything else."""

    def gradient(*args, upstream=None):
        (upstream,) = args if upstream is None else (upstream,)
        given = [ops.cast(upstream, d.dtype) * d for d in (dw, dhb, dvb)]
        return ops.zeros_like(value), *given, *(ops.zeros_like(d) for d in (dw, dhb, dvb))

    return value, gradient


class Contrast(NamedTuple):
    """One batch against one draw of the model: what `contrast_with_model` computes.

    Attributes:
        loss: mean F(x) - mean F(v⁽ᵏ⁾), nats, with its gradient in the weights of the RBM.
        v_k: the negative samples, (chains, visible).
        weighing_k: how much each of them counts.
        h: p(h=1 | x), (batch, hidden).
        free_energy: F(x), (batch,) nats.
    """

    loss: object
    v_k: object
    weighing_k: Weighing
    h: object
    free_energy: object


def contrast_with_model(rbm, x, negatives, offsets=(), weights=None):
    """Contrast a batch, (batch, visible), with samples of the model: → `Contrast`.

    With `offsets`, those of `offset_variables`, the gradient is centered. With `weights`, (batch,),
    an example of weight 2 counts as two. Draws random numbers, and moves chains and offsets.
    """
    logits = rbm.hidden_logits(x)
    v_k = negatives.draw(rbm, x, logits)
    of_data = weighing(x, weights)
    of_chains = of_data if getattr(negatives, "starts_at_data", False) else weighing(v_k)
    logits_k = rbm.hidden_logits(v_k)
    h, h_k = rbm.hidden_units.mean(logits), rbm.hidden_units.mean(logits_k)
    free_energy = rbm.free_energy(x, logits)
    of_model = batch_mean(rbm.free_energy(v_k, logits_k), of_chains)
    difference = batch_mean(free_energy, of_data) - of_model
    gradient = contrastive_gradient(x, h, v_k, h_k, of_data, of_chains)
    if of_data.weights is not None:  # chains alone teach nothing
        some = of_data.anything
        difference, gradient = some * difference, [some * d for d in gradient]
    if offsets:
        gradient = centered_gradient(*gradient, *moved_offsets(offsets, x, h, of_data))
    parameters = rbm.w_rec, rbm.hb, rbm.vb
    gradient = [ops.cast(d, parameter.dtype) for d, parameter in zip(gradient, parameters)]
    constants = [ops.stop_gradient(constant) for constant in (difference, *gradient)]
    loss = with_gradient(constants[0], *parameters, *constants[1:])
    return Contrast(loss, v_k, of_chains, h, free_energy)


def traced_settings(rbm):
    """What a compiled update keeps as it was, beside the tensors that it is given.

    Raises: `ValueError` for `cd_steps` that have been set to what is no count.
    """
    check_count("cd_steps", rbm.cd_steps)
    rules = [(weight.regularizer, weight.constraint) for weight in rbm.trainable_variables]
    units = rbm.visible_units, rbm.hidden_units
    return rbm.cd_steps, units, rbm.activity_regularizer, *rules


def learning_rate_of(rbm) -> float:
    """The `learning_rate` of a layer, whatever it has been set to.

    Raises: `ValueError` unless it is a positive number in single precision.
    """
    rate = finite_number("learning_rate", rbm.learning_rate)
    check_rate("learning_rate", rate)
    return rate


def offset_variables(model, rbm):
    """Weights of `model` for `moved_offsets`: mean visible, mean hidden unit, number of batches."""
    shapes = {"visible_offset": rbm.vb.shape, "hidden_offset": rbm.hb.shape, "offset_batches": ()}
    return [
        model.add_weight(
            shape=shape,
            dtype=single(rbm.vb).dtype,
            initializer="zeros",
            trainable=False,
            aggregation="mean",
            name=name,
        )
        for name, shape in shapes.items()
    ]


def moved_offsets(offsets, x, h, weights=None):
    """Move the offsets to the mean over all batches so far, or over about the last hundred.

    → mean visible unit, (visible,), and mean hidden unit, (hidden,); after one batch its means. A
    batch of no weight changes nothing.
    """
    *means, batches = offsets
    each = weighing(x, weights)
    some = ops.cast(each.anything, batches.dtype)
    batches.assign(batches + some)
    rate = some / ops.clip(batches.value, 1, OFFSET_MEMORY)
    for offset, rows in zip(means, (x, h)):
        offset.assign(offset + rate * (batch_mean(rows, each) - offset))
    return [offset.value for offset in means]
