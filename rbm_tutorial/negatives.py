"""Where the negative samples of contrastive divergence come from, one class for each way.

A source of negatives has `start(rbm)`, which makes its variables, and
`draw(rbm, x, hidden_logits)`, which gives v⁽ᵏ⁾, (chains, visible), from the batch x, (batch,
visible), and its x·w_rec + hb. If it has `starts_at_data = True`, each v⁽ᵏ⁾ belongs to the example
in its place and has the sample weight of that. It is a Keras layer, so that chains are saved with
the model.
"""

import weakref

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import wait_for
from rbm_tutorial.checks import check_built, check_count
from rbm_tutorial.sampling import gibbs_step, independent_units

PROTOCOL = "start", "draw"


def kept(name, initial, shape=None, dtype=None):
    """A variable that is saved with the layer; each replica under `tf.distribute` has its own.

    It begins at `initial`: values, or a function (shape, dtype) → values, called when Keras makes
    the variable, which may be later.
    """
    if not callable(initial):
        shape, dtype = np.shape(initial), np.asarray(initial).dtype.name
        given = initial

        def initial(shape, dtype):
            return ops.convert_to_tensor(given, dtype)

    variable = keras.Variable(
        initial,
        shape=shape,
        dtype=dtype,
        trainable=False,
        name=name,
        synchronization="on_read",
        aggregation="only_first_replica",
    )
    variable.begins_at = initial
    return variable


def begin_again(source) -> None:
    """Give each variable that `kept` made for `source` what it would begin at now."""
    for variable in source.variables:
        if hasattr(variable, "begins_at"):
            variable.assign(variable.begins_at(variable.shape, variable.dtype))


def begins(source, rbm) -> bool:
    """Whether a source of negatives has still to make its variables, which it makes once.

    When it has, it sets `made_for` to a weak reference to `rbm`.
    Raises: `ValueError` if it has made them for another machine.
    """
    if not hasattr(source, "made_for"):
        return True
    if source.made_for() is not rbm:
        raise ValueError(
            "`negatives` must be new, or those of this machine, for they hold its chains. Received "
            f"a {type(source).__name__} that was started for another one: make one more."
        )
    return False


@keras.saving.register_keras_serializable("rbm_tutorial")
class DataChains(keras.layers.Layer):
    """CD-k: `rbm.cd_steps` Gibbs steps that start at the data. Draws from the layer.

    Source: Hinton, Training products of experts by minimizing contrastive divergence (2002).
    """

    starts_at_data = True

    def start(self, rbm):
        """Make no variables: each draw starts at the batch."""

    def draw(self, rbm, x, hidden_logits):
        """Draw v⁽ᵏ⁾, as many as there are examples: (batch, visible)."""
        v = gibbs_step(rbm, x, hidden_logits)
        for _ in range(rbm.cd_steps - 1):
            v = gibbs_step(rbm, v)
        return v


@keras.saving.register_keras_serializable("rbm_tutorial")
class PersistentChains(keras.layers.Layer):
    """PCD: `number` chains that go on from where the last update left them.

    They start at independent units of biases vb; each update moves them `rbm.cd_steps` Gibbs steps.
    Draws from the layer.

    Args:
        number: of chains, whatever the size of a batch.

    Attributes:
        chains: their states, (number, visible); under `tf.distribute` each replica has its own.

    Raises: `ValueError` for fewer than one chain, and when it is started for a second machine.
    Source: Tieleman, Training restricted Boltzmann machines using approximations to the likelihood
    gradient (2008).
    """

    def __init__(self, number: int, **kwargs):
        check_count("number", number)
        super().__init__(**kwargs)
        self._number = number

    number = property(lambda self: self._number, doc="Of chains.")

    def start(self, rbm):
        """Make the chains, or keep those that have been made for this machine."""
        check_built(rbm, type(self).__name__)
        if not begins(self, rbm):
            return

        def states(shape, dtype):
            return independent_units(rbm, self.number)

        shape = self.number, rbm.number_visible_units
        self.chains = kept("chains", states, shape, rbm.vb.dtype)
        self.made_for = weakref.ref(rbm)

    def draw(self, rbm, x, hidden_logits):
        """Move the chains and return them: (number, visible)."""
        v = wait_for(x, self.chains.value)
        for _ in range(rbm.cd_steps):
            v = gibbs_step(rbm, v)
        self.chains.assign(v)
        return v

    def get_config(self):
        return {**super().get_config(), "number": self.number}


def chosen_negatives(persistent_chains: int, negatives):
    """`negatives`, or what `persistent_chains` is short for.

    Raises: `ValueError` for both at once, a number of chains below 0, and what is no source.
    """
    check_count("persistent_chains", persistent_chains, least=0)
    if negatives is None:
        return PersistentChains(persistent_chains) if persistent_chains else DataChains()
    if persistent_chains:
        raise ValueError(
            "`persistent_chains` is short for `negatives`: give one of them. "
            f"Received: {persistent_chains} and {negatives}"
        )
    has_both = all(hasattr(negatives, each) for each in PROTOCOL)
    if not (has_both and isinstance(negatives, keras.layers.Layer)):  # else it would keep no state
        raise ValueError(
            "`negatives` must be a Keras layer with `start` and `draw`, as `PersistentChains(100)` "
            f"is. Received: {negatives!r}"
        )
    return negatives
