"""From one layer to many: the deep belief network that stacked RBMs make.

The chapter on stacking derives why a further layer can raise the likelihood, and what is computed
here.
"""

import inspect
import itertools
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import fork_stream
from rbm_tutorial.checks import check_count, check_share, check_tied, finite_number
from rbm_tutorial.examples import images
from rbm_tutorial.executions import Executions, chosen_by
from rbm_tutorial.fit_arguments import check_pass
from rbm_tutorial.labeled import LabeledRBM
from rbm_tutorial.pipelines import whole
from rbm_tutorial.rbm import RBM
from rbm_tutorial.recovery import (
    WholeFiles,
    check_result,
    check_weights,
    only_data_end,
    weights_kept,
)
from rbm_tutorial.sampling import independent_units, run_chains
from rbm_tutorial.saving import with_objects
from rbm_tutorial.units import Bernoulli


@keras.saving.register_keras_serializable("rbm_tutorial")
class DeepBeliefNetwork(Executions, WholeFiles):
    """p(v, h¹, …, hᴸ) = p(v | h¹) p(h¹ | h²) ⋯ p(hᴸ⁻¹, hᴸ): an RBM above layers that point down.

    Args:
        rbms: the layers from bottom to top, at least two; the hidden units of each are the visible
            units of the next, beside the label units if the top is a `LabeledRBM`. The top must be
            tied. Of the others, tied ones are untied, so that `w_rec` recognizes, in
            q(hˡ | hˡ⁻¹), and `w_gen` generates, in p(hˡ⁻¹ | hˡ). Layers that were not built are
            built, if the first of them knows its `number_visible_units`.

    Attributes:
        lower: the layers below the top, untied.
        top: the RBM p(hᴸ⁻¹, hᴸ), tied.

    Input shape: (batch, visible), values in [0, 1].
    Output shape: (batch, hidden units of the top), the features at the end of a pass up in which
    each layer sees the probabilities of the one below; or, if the top sees labels, (batch,
    classes), p(y | hᴸ⁻¹) there. Draws nothing.

    Raises: `ValueError` for fewer than two layers, widths that do not match, an untied top, or
    double precision in some layers alone.
    Source: Hinton, Osindero & Teh, A fast learning algorithm for deep belief nets (2006).
    """

    def __init__(self, rbms: Sequence[RBM], **kwargs):
        rbms = checked_stack(rbms)
        _build_in_turn(rbms)
        super().__init__(**kwargs)
        self.lower = [rbm.untie() if rbm.tied else rbm for rbm in rbms[:-1]]
        self.top = rbms[-1]
        for place, rbm in enumerate(self.lower, start=1):  # else equal seeds draw equal numbers
            fork_stream(rbm.seed_generator, place)
        self.traced_with = None
        self.build((None, self.lower[0].number_visible_units))

    def build(self, input_shape):
        """Do nothing: the layers are built. Keras notes the shape, which `export` needs."""

    @property
    def number_classes(self) -> int:
        """Number of classes that the top RBM sees; 0 if it sees no labels."""
        return getattr(self.top, "number_classes", 0)

    def call(self, x):
        for rbm in self.lower:
            x = rbm.forward(x)
        return self.top.class_probabilities(x) if self.number_classes else self.top.forward(x)

    def predict(self, *args, **kwargs):
        """Predict as Keras does, from what is checked first."""
        given = inspect.signature(super().predict).bind(*args, **kwargs).arguments
        x = images(given.pop("x"))
        check_pass(given)
        units = tuple((rbm.visible_units, rbm.hidden_units) for rbm in (*self.lower, self.top))
        if (units, *chosen_by(self)) != self.traced_with:
            checked_stack([*self.lower, self.top])
            self.predict_function, self.traced_with = None, (units, *chosen_by(self))
        if isinstance(x, np.ndarray):
            self.lower[0].checked_visible(x, "x")
        callbacks = keras.tree.flatten(given.get("callbacks") or [])
        check_weights(self)
        with weights_kept(self), only_data_end(callbacks):
            result = super().predict(whole(x), **given)
            check_result(self, result)
        return result

    def reconstruction_logits(self, x):
        """Logits of x after probabilities went up through the lower layers and down again.

        (batch, visible) in [0, 1] → (batch, visible). Draws nothing.
        """
        for rbm in self.lower:
            x = rbm.forward(x)
        for rbm in reversed(self.lower[1:]):
            x = rbm.reverse(x)
        return self.lower[0].visible_logits(x)

    def sample_up(self, x):
        """Draw [x, h¹, …, hᴸ⁻¹] by recognition, each from q(hˡ | hˡ⁻¹) given the one below it.

        From x, (batch, visible) in [0, 1]; each is (batch, units of that layer).
        """
        states = [x]
        for rbm in self.lower:
            states.append(rbm.sample_h(states[-1]))
        return states

    def sample_down(self, h):
        """Draw [v, h¹, …, hᴸ⁻¹] by generation, each from p(hˡ⁻¹ | hˡ), given the last of them.

        From h = hᴸ⁻¹, (batch, hidden units of the last lower layer) in {0, 1}.
        """
        states = [h]
        for rbm in reversed(self.lower):
            states.insert(0, rbm.sample_v(states[0]))
        return states

    def generate(self, number: int | None = None, labels=None, steps: int = 1000):
        """Draw from the top RBM by Gibbs sampling, then down: → p(v=1 | h¹), (number, visible).

        Args:
            number: of images; not needed with `labels`.
            labels: (number,) integers: the classes of the images, to which the label units are
                fixed throughout. Needs a `LabeledRBM` on top.
            steps: Gibbs steps of the top RBM, from units drawn by their biases alone.

        Raises: `ValueError` for labels without label units or of no class, or counts below 1.
        """
        check_count("steps", steps)
        if labels is not None and not self.number_classes:
            raise ValueError(
                "`labels` need a LabeledRBM on top. Received labels, the top sees none."
            )
        if labels is not None:
            h = self.top.sample_image(labels, steps)
        else:
            check_count("number", number)
            h = run_chains(self.top, independent_units(self.top, number), steps)
            h = self.top.split(h)[0] if self.number_classes else h
        for rbm in reversed(self.lower[1:]):
            h = rbm.sample_v(h)
        return self.lower[0].reverse(h)

    def classifier(
        self, number_classes: int, dropout: float = 0.0, input_dropout: float = 0.0
    ) -> keras.Sequential:
        """The pass up as an ordinary network of dense layers, with a new softmax layer on top.

        Its weights are copies of recognition weights and hidden biases, those of the top RBM
        included, unless that sees labels. `input_dropout` and `dropout` are the rates at which
        inputs and hidden units are dropped while it is fine-tuned. Keras scales up what is left, so
        that weights need no scaling. (batch, visible) → (batch, `number_classes`).

        Raises: `ValueError` for no class, rates outside [0, 1), and hidden units that are not
        binary.
        """
        check_count("number_classes", number_classes)
        for name, rate in [("dropout", dropout), ("input_dropout", input_dropout)]:
            check_share(name, rate)
        rbms = self.lower if self.number_classes else [*self.lower, self.top]
        if any(rbm.hidden_units != Bernoulli() for rbm in rbms):
            raise ValueError(
                "`classifier` needs binary hidden units, whose means are sigmoids. "
                f"Received: {[rbm.hidden_units for rbm in rbms]}"
            )
        layers = [keras.layers.Input((rbms[0].number_visible_units,))]
        rates = [input_dropout] + [dropout] * len(rbms)
        for rbm, rate in zip(rbms, rates):
            layers += [keras.layers.Dropout(rate)] if rate else []
            layers += [keras.layers.Dense(rbm.number_hidden_units, activation="sigmoid")]
        layers += [keras.layers.Dropout(dropout)] if dropout else []
        network = keras.Sequential([*layers, keras.layers.Dense(number_classes, "softmax")])
        dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
        for layer, rbm in zip(dense, rbms):
            layer.kernel.assign(ops.copy(rbm.w_rec))
            layer.bias.assign(ops.copy(rbm.hb))
        return network

    def get_config(self):
        rbms = [keras.saving.serialize_keras_object(rbm) for rbm in [*self.lower, self.top]]
        return {**super().get_config(), "rbms": rbms}

    @classmethod
    def from_config(cls, config):
        return cls(**with_objects(config, "rbms"))


def checked_stack(rbms: Sequence[RBM]) -> list[RBM]:
    """The layers of a network as a list, from bottom to top, once they are known to be that.

    Raises: `ValueError` unless they are at least two, of which only the last may see labels and has
    to be tied, and each of which has as many visible units as the one below has hidden units, of
    the same type; the first knows them. Of layers in double precision the others are, too.
    """
    rbms = list(rbms) if np.iterable(rbms) else [rbms]
    if len(rbms) < 2 or not all(isinstance(rbm, RBM) for rbm in rbms):
        raise ValueError(
            "`rbms` must be at least two RBMs, from bottom to top. "
            f"Received: {[type(rbm).__name__ for rbm in rbms]}"
        )
    if any(isinstance(rbm, LabeledRBM) for rbm in rbms[:-1]):
        raise ValueError("Only the last of `rbms` can see labels. Received one below it.")
    check_tied(rbms[-1], "DeepBeliefNetwork")
    dtypes = [rbm.compute_dtype for rbm in rbms]
    if "float64" in dtypes and set(dtypes) != {"float64"}:  # states and costs go between layers
        raise ValueError(f"Of `rbms` all must compute in float64, or none. Received: {dtypes}")
    for below, rbm in itertools.pairwise(rbms):
        width = below.number_hidden_units + getattr(rbm, "number_classes", 0)
        if rbm.number_visible_units not in (None, width):
            raise ValueError(
                f"Each of `rbms` must have as many visible units as the one below has hidden units "
                f"(and classes), here {width}. Received: {rbm.number_visible_units}"
            )
        visible = rbm.visible_units.first if isinstance(rbm, LabeledRBM) else rbm.visible_units
        if visible != below.hidden_units:
            raise ValueError(
                "The visible units of each of `rbms` must be of the type of hidden units below it. "
                f"Received: {visible} above {below.hidden_units}"
            )
    return rbms


def _build_in_turn(rbms):
    """Build each layer on the one below, the first by the number of units that it knows."""
    width = rbms[0].number_visible_units
    if width is None:
        raise ValueError(
            "The first of `rbms` must know its `number_visible_units`. Received an unbuilt RBM."
        )
    for place, rbm in enumerate(rbms):
        if not rbm.built:
            if place:  # else equal seeds start from equal weights
                fork_stream(rbm.seed_generator, place)
            rbm.build((None, width + getattr(rbm, "number_classes", 0)))
        width = rbm.number_hidden_units


def variational_bound(dbn: DeepBeliefNetwork, x, log_z: float):
    """Estimate  E_q[log p(x, h) - log q(h | x)] ≤ log p(x): (batch, visible) → (batch,) nats.

    h = (h¹, …, hᴸ⁻¹) is drawn once by recognition; hᴸ, and labels if the top sees them, are summed
    out. The mean over draws is the bound, which falls short of log p(x) by KL(q(h | x) ‖ p(h | x)).
    Draws random numbers.

    Args:
        dbn: the network.
        x: (batch, visible), binary images.
        log_z: log partition function of `dbn.top`, as from `ais_log_partition`.

    Raises: `ValueError` for wrong shapes or values outside [0, 1].
    Source: Salakhutdinov & Murray, On the quantitative analysis of deep belief networks (2008).
    """
    log_z = finite_number("log_z", log_z)
    below = dbn.lower[0].checked_visible(x, "x")
    bound = -log_z
    for rbm in dbn.lower:
        logits = rbm.hidden_logits(below)
        h = rbm.hidden_units.sample(logits, rbm.uniform)
        log_p = -rbm.visible_units.cross_entropy(below, rbm.visible_logits(h))
        log_q = -rbm.hidden_units.cross_entropy(h, logits)
        bound, below = bound + log_p - log_q, h
    of_top = dbn.top.image_free_energy if dbn.number_classes else dbn.top.free_energy
    return bound - of_top(below)
