"""The exact oracle of networks: 4, 3, 3 and 2 binary units, every state, in NumPy and float64."""

import functools
import itertools

import keras
import numpy as np
import pytest
from enumerated import exact_of, states
from machines import BINARY, machine, parametrized
from sampled import cell_probabilities

from rbm_tutorial import DeepBeliefNetwork, LabeledRBM


@pytest.fixture
def untraced(monkeypatch):
    """On TensorFlow updates run one by one: no second of tracing where nothing depends on it."""
    if keras.backend.backend() == "tensorflow":
        eagerly = functools.partialmethod(keras.Model.compile, run_eagerly=True)
        monkeypatch.setattr(keras.Model, "compile", eagerly)


def network(sizes=(4, 3, 3, 2), scale=1.0, kind=DeepBeliefNetwork):
    """Layers with unrelated recognition and generative weights, and a tied top."""
    pairs = list(itertools.pairwise(sizes))
    rbms = [machine(below, above, scale, seed) for seed, (below, above) in enumerate(pairs)]
    rng = np.random.default_rng(9)
    lower = [rbm.untie() for rbm in rbms[:-1]]
    for rbm in lower:
        rbm.w_gen.assign(rng.normal(scale=scale, size=rbm.w_gen.shape))
    return kind([*lower, rbms[-1]])


def labeled_network():
    """The same below a top that sees labels of four classes."""
    top = parametrized(LabeledRBM(2, number_classes=4, seed=2), 7, scale=4.0, seed=3)
    return DeepBeliefNetwork([*network().lower, top])


def table(w, bias):
    """Probability of every state of one layer given every state of another: (from, to)."""
    w, bias = np.asarray(w, "float64"), np.asarray(bias, "float64")
    return cell_probabilities(BINARY, states(len(w)) @ w + bias)


def up_tables(dbn):
    """q(hˡ | hˡ⁻¹) of every pair of states."""
    return [table(rbm.w_rec, rbm.hb) for rbm in dbn.lower]


def down_tables(dbn):
    """p(hˡ⁻¹ | hˡ) of every pair of states, rows hˡ."""
    return [table(rbm.w_gen, rbm.vb) for rbm in dbn.lower]


def exact_p_below_top(dbn):
    """p(hᴸ⁻¹) of every state, labels summed out."""
    top, width = exact_of(dbn.top), dbn.lower[-1].number_hidden_units
    number = top.v[:, :width] @ 2 ** np.arange(width)[::-1]
    return np.bincount(number.astype(int), top.p_v, 2**width)


def exact_p_v(dbn):
    """p(v), (2^visible,)."""
    p = exact_p_below_top(dbn)
    for down in reversed(down_tables(dbn)):
        p = p @ down
    return p


def exact_given_label(dbn, label):
    """p(v | y) of a `labeled_network`, (16,)."""
    top = exact_of(dbn.top)
    p = top.p_v[top.v[:, label - 4] == 1]
    p = p / p.sum()
    for down in reversed(down_tables(dbn)):
        p = p @ down
    return p


def exact_bound(dbn):
    """E_q[log p(v, h) - log q(h | v)] of every v, from the top down: the bound on log p(hˡ)."""
    bound = np.log(exact_p_below_top(dbn))
    for q, down in zip(reversed(up_tables(dbn)), reversed(down_tables(dbn))):
        bound = np.sum(q * (bound + np.log(down.T) - np.log(q)), axis=1)
    return bound
