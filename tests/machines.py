"""Machines so small that every state can be enumerated, of every pair of types of units."""

import keras
import numpy as np
import pytest

from rbm_tutorial import RBM
from rbm_tutorial.units import Bernoulli, Beside, Categorical, Gaussian, unit_type


def tensor(x):
    return keras.ops.convert_to_tensor(x, "float32")


@unit_type
class Binomial:
    """Two binary units of one input, added up: x in {0, 1, 2}, m = 1, 2, 1; not in the package."""

    unbounded = False

    def mean(self, logits):
        return 2 * keras.ops.sigmoid(logits)

    def sample(self, logits, uniform):
        return sum(Bernoulli().sample(logits, uniform) for _ in range(2))

    def log_normalizer(self, logits):
        return 2 * keras.ops.softplus(logits)

    def log_measure(self, x):
        return keras.ops.sum(np.log(2.0) * keras.ops.cast(x == 1, x.dtype), axis=1)

    def checked(self, x, name="x"):
        return x

    def check_states(self, name, x):
        pass

    def check_number(self, number):
        pass

    def sites(self, number):
        return [np.array([[0.0], [1.0], [2.0]])] * number


BINARY, CLASSES, REAL = Bernoulli(), Categorical(3), Gaussian()
LABELS, MIXED = Beside(BINARY, CLASSES, 3), Beside(BINARY, REAL, 1)  # pixels and a label or number
PAIRS = {  # visible units and their number, hidden units and their number
    "binary, binary": (BINARY, 4, BINARY, 3),
    "binary, classes": (BINARY, 4, CLASSES, 6),
    "binary, real": (BINARY, 4, REAL, 2),
    "classes, binary": (CLASSES, 6, BINARY, 3),
    "classes, real": (CLASSES, 6, REAL, 2),
    "real, binary": (REAL, 2, BINARY, 3),
    "real, classes": (REAL, 2, CLASSES, 6),
    "labels, binary": (LABELS, 5, BINARY, 3),
    "labels, mixed": (LABELS, 5, MIXED, 3),
    "mixed, binary": (MIXED, 3, BINARY, 3),
    "binomial, binary": (Binomial(), 3, BINARY, 3),
}


def each_pair(*names):
    """The test for machines of these pairs of types, of all if none is named."""
    names = names or tuple(PAIRS)
    return pytest.mark.parametrize("pair", [PAIRS[name] for name in names], ids=names)


def parametrized(rbm, visible, scale=1.0, seed=0):
    """`rbm`, built for so many visible units, with normally distributed parameters."""
    rng = np.random.default_rng(seed)
    rbm.build([visible])
    for parameter in (rbm.w_rec, rbm.hb, rbm.vb):
        parameter.assign(rng.normal(scale=scale, size=parameter.shape))
    return rbm


def machine(visible=4, hidden=3, scale=1.0, seed=0, **kwargs):
    """A built RBM with normally distributed parameters of that scale."""
    return parametrized(RBM(hidden, seed=seed, **kwargs), visible, scale, seed)


def machine_of(pair, scale=0.7, seed=0):
    """A built RBM of one of the `PAIRS`."""
    visible_units, visible, hidden_units, hidden = pair
    types = {"visible_units": visible_units, "hidden_units": hidden_units}
    return machine(visible, hidden, scale, seed, **types)


def copy_of(rbm):
    """Another layer with the same weights that will draw the same numbers."""
    other = RBM.from_config(rbm.get_config())
    other.build([rbm.number_visible_units])
    other.set_weights(rbm.get_weights())
    other.seed_generator.state.assign(np.array(rbm.seed_generator.state))
    return other


def parameters_of(rbm):
    return tuple(np.asarray(p, dtype="float64") for p in (rbm.w_rec, rbm.hb, rbm.vb))
