"""The exact oracle: a machine of four visible and three hidden units, all 128 states enumerated.

It is written in NumPy and float64, and shares no code with the package.
"""

import itertools
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from rbm_tutorial import RBM, ContrastiveDivergence

only_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="it is about TensorFlow itself"
)
REFUSED_WHEN_COMPILED = (ValueError, tf.errors.InvalidArgumentError)  # on JAX, on TensorFlow


def states(units):
    return np.array(list(itertools.product([0.0, 1.0], repeat=units)))


def enumerate_machine(w, hb, vb):
    """Energies and probabilities of every state: arrays (2^visible, 2^hidden) and their margins."""
    v, h = states(len(vb)), states(len(hb))
    energy = -(v @ vb)[:, None] - h @ hb - v @ w @ h.T
    log_z = np.logaddexp.reduce(-energy, axis=None)
    joint = np.exp(-energy - log_z)
    log_weight_v = np.logaddexp.reduce(-energy, axis=1, keepdims=True)
    log_weight_h = np.logaddexp.reduce(-energy, axis=0, keepdims=True)
    return SimpleNamespace(
        v=v,
        h=h,
        energy=energy,
        free_energy=-log_weight_v[:, 0],
        log_z=log_z,
        joint=joint,
        p_v=joint.sum(axis=1),
        p_h=joint.sum(axis=0),
        mean_h_given_v=np.exp(-energy - log_weight_v) @ h,
        mean_v_given_h=np.exp(-energy - log_weight_h).T @ v,
    )


def parameters_of(rbm):
    return tuple(np.asarray(p, dtype="float64") for p in (rbm.w_rec, rbm.hb, rbm.vb))


def machine(visible=4, hidden=3, scale=1.0, seed=0, **kwargs):
    """A built RBM with normally distributed parameters of that scale."""
    rng = np.random.default_rng(seed)
    rbm = RBM(hidden, seed=seed, **kwargs)
    rbm.build([visible])
    for parameter in (rbm.w_rec, rbm.hb, rbm.vb):
        parameter.assign(rng.normal(scale=scale, size=parameter.shape))
    return rbm


def copy_of(rbm):
    """Another layer with the same weights that will draw the same numbers."""
    other = RBM.from_config(rbm.get_config())
    other.build([rbm.number_visible_units])
    other.set_weights(rbm.get_weights())
    other.seed_generator.state.assign(np.array(rbm.seed_generator.state))
    return other


@pytest.fixture
def rbm():
    return machine()


@pytest.fixture
def exact(rbm):
    return enumerate_machine(*parameters_of(rbm))


@pytest.fixture
def batch():
    """Six examples of four pixels, some of them gray."""
    return np.random.default_rng(1).integers(0, 3, size=(6, 4)).astype("float32") / 2


# ---------------------------------------------------------------- draws and training

EXAMPLES = np.random.default_rng(2).integers(0, 2, size=(22, 4)).astype("float32")


def transition_matrix(exact):
    """Probability of v' after one Gibbs step v → h → v' from each v: (2^visible, 2^visible)."""
    h_given_v = exact.joint / exact.joint.sum(axis=1, keepdims=True)
    return h_given_v @ (exact.joint / exact.joint.sum(axis=0)).T


def exact_draws(p, number, seed=0):
    """Independent binary rows whose states, in binary order, have the probabilities `p`."""
    chosen = np.random.default_rng(seed).choice(len(p), number, p=p)
    return states(int(np.log2(len(p))))[chosen].astype("float32")


def p_value(rows, p):
    """χ² test that binary rows are independent draws from `p`; rare states are counted as one."""
    numbers = np.asarray(rows, int) @ (1 << np.arange(np.shape(rows)[1])[::-1])
    observed, expected = np.bincount(numbers, minlength=len(p)), len(numbers) * np.asarray(p)
    rare = expected < 5
    observed = np.append(observed[~rare], observed[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] == observed[-1] == 0:
        observed, expected = observed[:-1], expected[:-1]
    return stats.chisquare(observed, expected).pvalue


def trainer(rbm, optimizer=None, **kwargs):
    """A compiled `ContrastiveDivergence`, by default with plain gradient descent of rate 0.1."""
    model = ContrastiveDivergence(rbm, **kwargs)
    model.compile(optimizer or keras.optimizers.SGD(0.1))
    return model


def assert_equal_weights(first, second):
    for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@keras.saving.register_keras_serializable("tests")
class Given(keras.layers.Layer):
    """Negatives that are always the same: what is learned can be computed without any draw."""

    def __init__(self, v_k, **kwargs):
        super().__init__(**kwargs)
        self.v_k = np.asarray(v_k, "float32")

    def start(self, rbm):
        pass

    def draw(self, rbm, x, hidden_logits):
        return keras.ops.convert_to_tensor(self.v_k)
