"""Wake-sleep for a deep belief network as a Keras model: all layers learn at once.

The chapter on tied weights derives the delta rules for one layer, that on stacking uses them on
many.
"""

import keras
from keras import ops

from rbm_tutorial.backend import single, wait_for
from rbm_tutorial.checks import check_flag, described
from rbm_tutorial.contrast import (
    batch_mean,
    contrast_with_model,
    learning_rate_of,
    offset_variables,
    traced_settings,
    weighing,
)
from rbm_tutorial.keras_fit import FastFit
from rbm_tutorial.labeled import one_hot
from rbm_tutorial.negatives import chosen_negatives
from rbm_tutorial.saving import with_objects
from rbm_tutorial.stack import DeepBeliefNetwork, checked_stack


def generation_cost(rbm, below, above, weights=None):
    """-log p(below | above), mean over the batch, nats: minus its gradient is the *wake* rule."""
    return batch_mean(rbm.visible_units.cross_entropy(below, rbm.visible_logits(above)), weights)


def recognition_cost(rbm, below, above, weights=None):
    """-log q(above | below), mean over the batch, nats: minus its gradient is the *sleep* rule."""
    return batch_mean(rbm.hidden_units.cross_entropy(above, rbm.hidden_logits(below)), weights)


@keras.saving.register_keras_serializable("rbm_tutorial")
class WakeSleep(FastFit):
    """Contrastive divergence in the top RBM of a deep belief network, delta rules below it.

    *Wake*: from states drawn upwards, h ~ q(h | x), the generative weights learn to predict each
    layer from the one above it,  Δw_gen ∝ ⟨hˡ (hˡ⁻¹ - p(hˡ⁻¹=1 | hˡ))⟩.
    *Top*: contrastive divergence of hᴸ⁻¹, with the label if there is one.
    *Sleep*: from states drawn downwards, from where its Gibbs steps end, the recognition weights
    learn to predict each layer from the one below it,  Δw_rec ∝ ⟨hˡ⁻¹ (hˡ - q(hˡ=1 | hˡ⁻¹))⟩.

    The rules are gradients of cross-entropies, and local: states are constants, so that each weight
    learns from its own two layers alone.

    Args:
        dbn: the network to train.
        persistent_chains: 0 for the *up-down* algorithm, in which dreams begin `dbn.top.cd_steps`
            Gibbs steps away from the data; or the number of chains of the top RBM, carried from
            update to update, from whose states dreams begin, as in wake-sleep proper.
        centered, negatives: as for `ContrastiveDivergence`, of the top RBM.

    `fit` and `evaluate` take x, (batch, visible) in [0, 1], and, if and only if the top sees
    labels, integer labels y, (batch,). They report `reconstruction_cost`, that of x after
    probabilities went up to hᴸ⁻¹ and down again, in nats, and with labels `accuracy`. In
    evaluation, which draws nothing, the loss is that cost; in training it is the sum of all
    objectives, and `free_energy` is that of hᴸ⁻¹ in the top RBM.

    Raises: `ValueError` for another `dbn` or labels that do not fit it; else as
    `ContrastiveDivergence`.
    Source: Hinton, Dayan, Frey & Neal, The wake-sleep algorithm (1995); Hinton, Osindero & Teh
    (2006), section 5 and appendix B.
    """

    def __init__(
        self,
        dbn: DeepBeliefNetwork,
        persistent_chains: int = 0,
        centered: bool = False,
        negatives=None,
        **kwargs,
    ):
        if not isinstance(dbn, DeepBeliefNetwork):
            raise ValueError(f"`dbn` must be a DeepBeliefNetwork. Received: {type(dbn).__name__}")
        check_flag("centered", centered)
        negatives = chosen_negatives(persistent_chains, negatives)
        super().__init__(**kwargs)
        self.dbn = dbn
        self._negatives, self._centered = negatives, bool(centered)
        self.reconstruction_tracker = keras.metrics.Mean(name="reconstruction_cost")
        self.accuracy_tracker = keras.metrics.Mean(name="accuracy") if dbn.number_classes else None
        self.free_energy_tracker = keras.metrics.Mean(name="free_energy")  # of training: the last

    negatives = property(lambda self: self._negatives, doc="Where dreams begin.")
    centered = property(lambda self: self._centered, doc="Whether the top's gradient is centered.")
    chains = property(lambda self: self.negatives.chains, doc="States of persistent chains.")

    @property
    def labeled(self):
        return bool(self.dbn.number_classes)

    @property
    def width(self):
        return self.dbn.lower[0].number_visible_units

    def build(self, input_shape):
        if self.built:  # chains and offsets go on
            return
        top = self.dbn.top
        self.negatives.start(top)
        self.offsets = offset_variables(self, top) if self.centered else ()

    def call(self, x):
        return self.dbn(x)

    @property
    def default_rate(self):
        return learning_rate_of(self.dbn.top)

    def prepare(self):
        for rbm in (*self.dbn.lower, self.dbn.top):
            if rbm.activity_regularizer is not None:
                raise ValueError(
                    "`activity_regularizer` of each layer must be None, since wake-sleep has no "
                    f"use for it. Received: {rbm.activity_regularizer}"
                )

    def settings(self):
        checked_stack([*self.dbn.lower, self.dbn.top])
        if any(rbm.tied for rbm in self.dbn.lower):
            raise ValueError("`dbn` must have untied layers below the top. Received a tied one.")
        return tuple(traced_settings(rbm) for rbm in (*self.dbn.lower, self.dbn.top))

    def check(self, x, y=None, learns=True):
        self.dbn.lower[0].visible_units.checked(x)
        if self.labeled and y is not None:
            one_hot(y, self.dbn.number_classes)

    def test_step(self, *args):
        result = super().test_step(*args)
        logs = result if isinstance(result, dict) else result[0]
        logs.pop("free_energy", None)  # it is of states that are drawn, and evaluation draws none
        return result

    def batch_loss(self, x, y, y_pred, weights, training):
        dbn, top = self.dbn, self.dbn.top
        if (y is None) == bool(dbn.number_classes):
            wanted = "integer labels `y`" if dbn.number_classes else "no labels"
            raise ValueError(f"This network learns from `x` and {wanted}. Received: {described(y)}")
        x = dbn.lower[0].visible_units.checked(ops.cast(x, top.vb.dtype))
        penalties = sum(single(penalty) for penalty in self.losses)  # replicas share that list
        each = weighing(x, weights)  # waits for the other replicas
        cost = self._track(x, y, y_pred, each)
        if not training:
            return self.part_of_replica(cost, each)
        awake = [ops.stop_gradient(states) for states in dbn.sample_up(x)]
        at_top = awake[-1] if y is None else top.join(awake[-1], y)
        contrast = contrast_with_model(top, at_top, self.negatives, self.offsets, each)
        self.free_energy_tracker.update_state(contrast.free_energy, weights)
        loss, v_k = contrast.loss, ops.stop_gradient(contrast.v_k)
        at_top = v_k if y is None else top.split(v_k)[0]
        dream = [ops.stop_gradient(states) for states in dbn.sample_down(at_top)]
        # No weight may change before the last draw: TensorFlow 2.21 drops that order by itself.
        awake = [wait_for(dream[0], states) for states in awake]
        for depth, rbm in enumerate(dbn.lower):
            loss += generation_cost(rbm, awake[depth], awake[depth + 1], each)
            sleep = recognition_cost(rbm, dream[depth], dream[depth + 1], contrast.weighing_k)
            loss += each.anything * sleep  # chains alone teach nothing
        return self.part_of_replica(loss + penalties, each)

    def _track(self, x, y, y_pred, each):
        cost = self.dbn.lower[0].visible_units.cross_entropy(x, self.dbn.reconstruction_logits(x))
        self.reconstruction_tracker.update_state(cost, each.weights)
        if y is not None:
            classes, dtype = self.dbn.number_classes, self.variable_dtype
            known = one_hot(y, classes, dtype)
            chosen = ops.one_hot(ops.argmax(y_pred, axis=1), classes, dtype=dtype)
            hits = ops.sum(known * chosen, axis=1)  # NaN of labels that JAX cannot refuse
            self.accuracy_tracker.update_state(hits, each.weights)
        return batch_mean(cost, each)

    def get_config(self):
        return {
            **super().get_config(),
            "dbn": keras.saving.serialize_keras_object(self.dbn),
            "centered": self.centered,
            "negatives": keras.saving.serialize_keras_object(self.negatives),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**with_objects(config, "dbn", "negatives"))
