"""An RBM that sees labels beside the image: p(v, y), from which classes are drawn and recognized.

Chapter 9 uses it on top of a stack.
"""

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import checked, uniform
from rbm_tutorial.rbm import RBM, check_count, cross_entropy


def one_hot(labels, number_classes: int, dtype="float32"):
    """One-hot rows, (batch, number_classes), of integer labels, (batch,), from 0.

    Raises `ValueError` for labels of another rank or type; for others than 0 … classes - 1 as
    `checked` does.
    """
    labels = ops.convert_to_tensor(labels)
    if len(labels.shape) != 1 or "int" not in keras.backend.standardize_dtype(labels.dtype):
        raise ValueError(
            "`labels` must be integers of shape (batch,). "
            f"Received: {labels.dtype} of shape {tuple(labels.shape)}"
        )
    message = f"`labels` must lie in 0 … {number_classes - 1}. Received labels"
    known = checked(ops.cast(labels, "float32"), 0, number_classes - 1, message)
    y = ops.one_hot(ops.cast(known, "int32"), number_classes, dtype=dtype)
    return ops.where(known[:, None] >= 0, y, np.nan)  # JAX cannot raise: see `checked`


@keras.saving.register_keras_serializable("rbm_tutorial")
class LabeledRBM(RBM):
    """p(v, y, h) ∝ exp(-E(v, y, h)), where the last visible units are the one-hot label y.

    The energy is that of an RBM over (v, y), but of the label units exactly one is on, so that
    p(y=k | h) = softmax(h·w_gen + vb) over them. Everything else is inherited.

    Args:
        number_hidden_units: number of hidden units.
        number_visible_units: number of visible units, those of the label included.
        number_classes: number of label units, at least 2.
        **kwargs: as for `RBM`.

    Input shape: (batch, visible), values in [0, 1], the last `number_classes` a one-hot label.

    Source: Hinton, Osindero & Teh, A fast learning algorithm for deep belief nets (2006);
    Larochelle & Bengio, Classification using discriminative restricted Boltzmann machines (2008).
    """

    def __init__(
        self,
        number_hidden_units: int = 10,
        number_visible_units: int | None = None,
        number_classes: int = 10,
        **kwargs,
    ):
        check_count("number_classes", number_classes)
        if number_classes < 2:
            raise ValueError(f"`number_classes` must be at least 2. Received: {number_classes}")
        super().__init__(number_hidden_units, number_visible_units, **kwargs)
        self.number_classes = int(number_classes)

    def build(self, input_shape):
        if input_shape[-1] is not None and input_shape[-1] <= self.number_classes:
            raise ValueError(
                f"`input_shape` must leave units beside the {self.number_classes} of the label. "
                f"Received: {tuple(input_shape)}"
            )
        super().build(input_shape)

    def reverse(self, h):
        """p(v=1 | h) beside p(y | h): (batch, hidden) in [0, 1] → (batch, visible)."""
        v, y = self.split(self._visible_logits(h))
        return ops.concatenate([ops.sigmoid(v), ops.softmax(y)], axis=1)

    def sample_v(self, h):
        """Draw v ~ p(v | h) and y ~ p(y | h): (batch, hidden) → (batch, visible) in {0, 1}."""
        v, y = self.split(self.reverse(h))
        return ops.concatenate([self._bernoulli(v), self._categorical(y)], axis=1)

    def split(self, visible):
        """(batch, visible) as that of the image and that of the label, (batch, classes)."""
        return visible[:, : -self.number_classes], visible[:, -self.number_classes :]

    def join(self, v, labels):
        """v and the one-hot form of `labels`, (batch,) integers: → (batch, visible).

        Raises `ValueError` for labels that are not integers or outside 0 … classes - 1.
        """
        return ops.concatenate([v, one_hot(labels, self.number_classes, self.vb.dtype)], axis=1)

    def adapt(self, data) -> None:
        """As for an RBM; the biases of the label are log p, as softmax units need them."""
        super().adapt(data)
        v, y = self.vb[: -self.number_classes], self.vb[-self.number_classes :]
        self.vb.assign(ops.concatenate([v, ops.log_sigmoid(y)]))

    def class_probabilities(self, v):
        """p(y | v) = softmax over y of -F(v, y): (batch, image units) in [0, 1] → (batch, classes).

        Exact, since F sums over all hidden states and Z cancels. Draws nothing. Raises `ValueError`
        on an untied layer.
        """
        self.require_tied("class_probabilities")
        w_image, w_label = self.w_rec[: -self.number_classes], self.w_rec[-self.number_classes :]
        logits = ops.matmul(ops.convert_to_tensor(v, dtype=self.vb.dtype), w_image) + self.hb
        sums = [
            ops.sum(ops.softplus(logits + w_label[k]), axis=1) for k in range(self.number_classes)
        ]
        return ops.softmax(ops.stack(sums, axis=1) + self.vb[-self.number_classes :])

    def get_config(self):
        return {**super().get_config(), "number_classes": self.number_classes}

    def _visible_cost(self, x, logits):
        v, y = self.split(x)
        v_logits, y_logits = self.split(logits)
        label_cost = ops.logsumexp(y_logits, axis=1) - ops.sum(y * y_logits, axis=1)
        return cross_entropy(v, v_logits) + label_cost

    def _categorical(self, p):
        # The first class at which the cumulated probability exceeds a uniform number.
        u = uniform((ops.shape(p)[0], 1), self.seed_generator.next())
        below = ops.cast(ops.cumsum(ops.cast(p, "float32"), axis=1)[:, :-1] <= u, "int32")
        return ops.one_hot(ops.sum(below, axis=1), self.number_classes, dtype=p.dtype)
