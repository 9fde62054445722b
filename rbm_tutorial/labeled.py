"""An RBM that sees labels beside the image: p(v, y), from which classes are drawn and recognized.

The chapter on stacking uses it as the top layer.
"""

import math

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import affine, checked_range, single
from rbm_tutorial.checks import (
    check_built,
    check_count,
    check_examples,
    check_matrix,
    check_tied,
    real_array,
    real_tensor,
)
from rbm_tutorial.rbm import RBM
from rbm_tutorial.sampling import independent_units, inpaint
from rbm_tutorial.units import Bernoulli, Beside, Categorical


def one_hot(labels, number_classes: int, dtype="float32"):
    """One-hot rows, (batch, number_classes), of integer labels, (batch,), from 0.

    Raises: `ValueError` for labels of another rank or type; for others than 0 … classes - 1 as
    `checked_range` does.
    """
    given = labels if ops.is_tensor(labels) else real_array("labels", labels)
    labels = real_tensor("labels", given)
    if len(labels.shape) != 1 or "int" not in keras.backend.standardize_dtype(labels.dtype):
        raise ValueError(
            "`labels` must be integers of shape (batch,). "
            f"Received: {labels.dtype} of shape {tuple(labels.shape)}"
        )
    message = f"`labels` must lie in 0 … {number_classes - 1}. Received labels"
    if given is not labels:  # of 64 bits JAX has taken the last 32
        checked_range(given, 0, number_classes - 1, message)
    known = checked_range(ops.cast(labels, "float32"), 0, number_classes - 1, message)
    y = ops.one_hot(ops.cast(known, "int32"), number_classes, dtype=dtype)
    return ops.where(known[:, None] >= 0, y, np.nan)  # JAX cannot raise: see `checked_range`


@keras.saving.register_keras_serializable("rbm_tutorial")
class LabeledRBM(RBM):
    """p(v, y, h) ∝ exp(-E(v, y, h)), where the last visible units are the one-hot label y.

    The energy is that of an RBM over (v, y), but of the label units exactly one is on, so that
    p(y=k | h) = softmax(h·w_gen + vb) over them: an RBM whose visible units are
    `Beside(Bernoulli(), Categorical(number_classes), number_classes)`.

    Args:
        number_hidden_units: number of hidden units.
        number_visible_units: number of visible units, those of the label included.
        number_classes: number of label units, at least 2.
        **kwargs: as for `RBM`.

    Input shape: (batch, visible), values in [0, 1], the last `number_classes` a one-hot label.

    Raises: `ValueError` for fewer than 2 classes, and for `visible_units`.
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
        check_count("number_classes", number_classes, least=2)
        if "visible_units" in kwargs:
            raise ValueError(
                "`visible_units` must be left out: they are pixels and a label. For other units "
                "beside a label take an RBM of `Beside(units, Categorical(n), n)`. "
                f"Received: {kwargs['visible_units']}"
            )
        label = Categorical(int(number_classes))
        visible = Beside(Bernoulli(), label, label.classes)
        super().__init__(number_hidden_units, number_visible_units, visible_units=visible, **kwargs)
        self.number_classes = label.classes

    def split(self, visible):
        """(batch, visible) as that of the image and that of the label, (batch, classes)."""
        return self.visible_units.split(visible)

    def join(self, v, labels):
        """v and the one-hot form of `labels`, (batch,) integers: → (batch, visible).

        Raises: `ValueError` for labels that are not integers or outside 0 … classes - 1, and a `v`
        that is no matrix, has other values than [0, 1] or another number of rows.
        """
        v = self._image(v)
        y = one_hot(labels, self.number_classes, self.vb.dtype)
        if None not in (rows := (v.shape[0], y.shape[0])) and rows[0] != rows[1]:
            raise ValueError(f"`labels` must be {rows[0]}, one for each image. Received: {rows[1]}")
        return ops.concatenate([v, y], axis=1)

    def class_probabilities(self, v):
        """p(y | v) = softmax over y of -F(v, y): (batch, image units) in [0, 1] → (batch, classes).

        Exact, since F sums over all hidden states and Z cancels. Draws nothing.
        Raises: `ValueError` on an untied layer, for another width or values outside [0, 1].
        """
        check_tied(self, "class_probabilities")
        return ops.softmax(self._class_logits(self._image(v)))

    def image_free_energy(self, v):
        """F(v) = -log Σ_y exp(-F(v, y)): (batch, image units) in [0, 1] → (batch,) nats.

        So that log p(v), whatever the label, is -F(v) - log Z. Draws nothing.
        Raises: `ValueError` on an untied layer, for another width or values outside [0, 1].
        """
        check_tied(self, "image_free_energy")
        v = self._image(v)
        logits = self._class_logits(v)
        of_image = ops.matmul(single(v), single(self.vb[: -self.number_classes]))
        return -of_image - ops.logsumexp(logits, axis=1)

    def _class_logits(self, v):
        """-F(v, y) of each class, but for what they share: (batch, image units) → (batch, classes).

        That is vb_y + Σ_j log Z(v·w + w_y + hb)_j; v·vb of the image is left out.
        """
        w_image, w_label = self.w_rec[: -self.number_classes], self.w_rec[-self.number_classes :]
        logits = affine(v, w_image, self.hb)
        sums = [
            ops.sum(self.hidden_units.log_normalizer(logits + single(w_label[k])), axis=1)
            for k in range(self.number_classes)
        ]
        return ops.stack(sums, axis=1) + single(self.vb[-self.number_classes :])

    def _image(self, v):
        """`v` as a tensor, once it is known to be (batch, image units) in [0, 1]."""
        check_built(self, "LabeledRBM")
        v = real_tensor("v", v, self.vb.dtype)
        check_matrix("v", v, self.number_visible_units - self.number_classes)
        return self.visible_units.first.checked(v, "v")

    def sample_image(self, labels, steps: int = 1000):
        """Draw v ~ p(v | y) for each of `labels`, (batch,): → (batch, image units) in {0, 1}.

        By Gibbs chains in which the label units stay as they are, from units drawn by biases alone.
        Raises: `ValueError` for labels of no class, or fewer than one step.
        """
        check_built(self, "sample_image")
        check_count("steps", steps)
        labels = labels if ops.is_tensor(labels) else real_array("labels", labels)
        check_examples("labels", math.prod(labels.shape))
        y = one_hot(labels, self.number_classes, self.vb.dtype)
        v = self.split(independent_units(self, len(y)))[0]
        is_label = np.arange(self.number_visible_units) >= v.shape[1]
        return self.split(inpaint(self, ops.concatenate([v, y], axis=1), is_label, steps))[0]

    def generate(self, labels, steps: int = 1000):
        """p(v=1 | h) at the end of the chains of `sample_image`: images of these classes, gray."""
        h = self.sample_h(self.join(self.sample_image(labels, steps), labels))
        return self.split(self.reverse(h))[0]

    def get_config(self):
        config = {**super().get_config(), "number_classes": self.number_classes}
        del config["visible_units"]  # they follow from the number of classes
        return config
