"""Gaussian visible units whose variances are learned: a scale in front of units of variance 1.

With u = v/σ and an RBM over u, p(v) = p(u) / Π_i σ_i: the energy is Σ (v/σ - vb)²/2 - hb·h -
(v/σ)·w·h, and Z does not depend on σ. So exact sums, annealing and chains go on with the RBM as it
is, and the gradient in σ needs no sample of the model. The chapter on units beyond binary ones
derives it.
"""

import keras
from keras import ops

from rbm_tutorial.backend import replicas, single, wait_for
from rbm_tutorial.checks import (
    check_built,
    check_matrix,
    finite_number,
    real_array,
    real_tensor,
)
from rbm_tutorial.contrast import batch_mean, weighing
from rbm_tutorial.rbm import RBM
from rbm_tutorial.training import ContrastiveDivergence
from rbm_tutorial.units import Gaussian


@keras.saving.register_keras_serializable("rbm_tutorial")
class VarianceLearning(ContrastiveDivergence):
    """Trains an RBM of Gaussian visible units, and with it the standard deviation σ of each.

    The RBM learns u = v/σ as in `ContrastiveDivergence`, and σ follows the exact gradient of the
    mean log-likelihood, ∂ log p(v)/∂ log σ_i = u_i (u_i - r_i) - 1, where r_i is the input that
    unit i gets from the means of the hidden units given u.

    Args:
        rbm: the `RBM` to train, tied, with visible units `Gaussian()`.
        persistent_chains: as for `ContrastiveDivergence`.
        **kwargs: the same: `centered`, `negatives` …

    Attributes:
        log_scale: log σ, (visible,), one more weight. `fit` starts it at the standard deviations of
            the array, or of the first batch, that it builds the RBM from; else it starts at 0.

    `fit`, `evaluate` and `predict` take data in units of their own. What `fit` and `evaluate`
    report, and all that is done with the RBM itself, is about v/σ, without units: `standardized`
    and `restored` lead there and back.

    Raises: `ValueError` for other visible units, and as `ContrastiveDivergence` does.
    Source: for the energy Hinton, A practical guide (2012), section 13.2; for log σ Cho, Ilin &
    Raiko, Improved learning of Gaussian-Bernoulli restricted Boltzmann machines (2011).
    """

    def __init__(self, rbm: RBM, persistent_chains: int = 0, **kwargs):
        super().__init__(rbm, persistent_chains, **kwargs)
        if rbm.visible_units != Gaussian():
            raise ValueError(
                f"`rbm` must have visible units `Gaussian()`. Received: {rbm.visible_units}"
            )
        if self.live is not None:
            raise ValueError(
                "`likelihood_chains` must be 0: p(v/σ) is no measure of a model whose σ changes. "
                f"Received: {self.live.number}"
            )

    def start(self, x):
        if not self.adapts:
            super().start(x)
            return
        x = ops.convert_to_tensor(real_array("x", x), "float32")
        spread = ops.std(x, axis=0)
        scale = ops.where(spread > 0, spread, 1)
        super().start(x / scale)
        self.log_scale.assign(ops.log(scale))

    def build(self, input_shape):
        if self.built:
            return
        super().build(input_shape)
        self.log_scale = self.add_weight(
            shape=self.rbm.vb.shape, initializer="zeros", name="log_scale"
        )

    def call(self, v, training=False):
        return super().call(self._divided(v), training)

    def standardized(self, v):
        """v/σ: (batch, visible) in the units of the data → (batch, visible) of the RBM.

        Raises: `ValueError` for another shape, NaN or infinity.
        """
        return self._divided(self._real("v", v))

    def restored(self, u):
        """σ u: (batch, visible) of the RBM → (batch, visible) in the units of the data.

        Raises: `ValueError` for another shape, NaN or infinity.
        """
        return self._real("u", u) * ops.exp(self.log_scale)

    def _real(self, name, x):
        check_built(self.rbm, type(self).__name__)
        x = real_tensor(name, x, self.log_scale.dtype)  # of the data: the layer's may be too narrow
        check_matrix(name, x, self.rbm.number_visible_units)
        return self.rbm.visible_units.checked(x, name)

    def _divided(self, v):
        return ops.cast(v, self.log_scale.dtype) * ops.exp(-self.log_scale)

    def log_likelihood(self, v, log_z: float):
        """log p(v) = -F(v/σ) - log Z - Σ log σ of each example: (batch, visible) → (batch,) nats.

        `log_z` is that of the RBM, as from `exact_log_partition` or `ais_log_partition`; it does
        not depend on σ. Draws nothing.
        Raises: `ValueError` for another shape, NaN or infinity, of `log_z` too.
        """
        u, log_z = self.standardized(v), finite_number("log_z", log_z)
        return -self.rbm.free_energy(u) - log_z - ops.sum(single(self.log_scale))

    def batch_loss(self, x, y, y_pred, weights, training):
        x = self.rbm.visible_units.checked(ops.cast(x, self.log_scale.dtype))
        u = ops.stop_gradient(self._divided(x))
        if not training:
            return super().batch_loss(u, y, y_pred, weights, training)
        slopes = ops.stop_gradient(scale_gradient(self.rbm, u, weights))
        # No weight may change before they are known: TensorFlow 2.21 drops that order by itself.
        loss = super().batch_loss(wait_for(slopes, u), y, y_pred, weights, training)
        term = ops.sum(single(slopes * self.log_scale))  # of which only the gradient counts
        return loss + (term - ops.stop_gradient(term)) / replicas()


def scale_gradient(rbm, u, weights=None):
    """Gradient of -mean log p(v) in log σ, 1 - ⟨u (u - r)⟩, (visible,), of u = v/σ.

    r = vb + w·⟨h | u⟩. With `weights`, (batch,), the mean is weighted.
    """
    inputs = rbm.visible_logits(rbm.hidden_units.mean(rbm.hidden_logits(u)))
    each = weighing(u, weights)
    return each.anything * (1 - batch_mean(u * (u - inputs), each))
