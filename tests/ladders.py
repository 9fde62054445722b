"""Ladders whose every rung is enumerated, and a machine of two modes far apart."""

import itertools

import keras
import numpy as np
from enumerated import exact_of
from machines import machine
from sampled import exact_samples, p_value, visible_cells

from rbm_tutorial.negatives import PersistentChains
from rbm_tutorial.sampling import run_chains
from rbm_tutorial.tempering import Replicas

NUMBER = 6_000  # of chains


def started(chains, rbm):
    chains.start(rbm)
    return chains


def on_its_ladder(chains, targets):
    """`chains` whose replicas stand at exact draws from the target of each rung."""
    states = [exact_samples(target, chains.number, k) for k, target in enumerate(targets)]
    chains.replicas.v.assign(np.stack(states))
    return chains


def swapping_alone(kind):
    """`kind` without Gibbs steps, which would hide within a few what wrong swaps have done."""

    class Still(kind):
        def moved(self, rbm, parameters, state, logits):
            return state.v

    return Still


def accepting_all(kind):
    """Wrong: every swap is accepted."""

    class Greedy(kind):
        def log_ratios(self, *arguments):
            return keras.ops.zeros_like(super().log_ratios(*arguments))

    return Greedy


def drifts(rbm, chains, targets):
    """p of the χ² test of each rung, five steps after its replicas started in its target."""
    state = after_steps(rbm, on_its_ladder(chains, targets), 5)
    units = rbm.visible_units
    return [p_value(units, v, visible_cells(p)) for v, p in zip(np.asarray(state.v), targets)]


def after_steps(rbm, chains, steps):
    """Where the replicas would be, without compiling anything."""
    state = Replicas(*(variable.value for variable in chains.replicas))
    for _ in range(steps):
        state = chains.step(rbm, state)
    return state


def off_by(rbm, chains, mean_rates):
    """The largest error of the swap rates after one step, means of independent probabilities."""
    return np.max(abs(1 - np.asarray(after_steps(rbm, chains, 1).rejections) - mean_rates))


def rates_by_enumeration(targets):
    """Mean and variance of the probability of a swap between neighbors, one row for each pair."""
    rows = []
    for one, other in itertools.pairwise(targets):
        ratio = (other.p_v / one.p_v)[:, None] * (one.p_v / other.p_v)
        p, weight = np.minimum(ratio, 1), np.outer(one.p_v, other.p_v)
        mean = np.sum(weight * p)
        rows.append((mean, np.sum(weight * p**2) - mean**2))
    return np.array(rows)


# ---------------------------------------------------------------- two modes far apart


SHARE = 0.88  # of the images that are mostly on


def two_modes():
    """Twelve pixels that one hidden unit turns all on or all off, and hardly ever otherwise."""
    rbm = machine(12, 2, scale=0.0)
    w = np.zeros((12, 2))
    w[:, 0] = 8
    w[:, 1] = np.random.default_rng(0).normal(scale=0.5, size=12)
    rbm.w_rec.assign(w)
    rbm.vb.assign(np.full(12, -4.0))
    rbm.hb.assign([-48.0, 0])
    bias = np.log(SHARE / (1 - SHARE)) - np.log(1 / (1 - share_on(exact_of(rbm))) - 1)
    rbm.hb.assign([-48.0 + bias, 0])
    return rbm


def share_on(exact):
    return exact.p_v[exact.v.sum(axis=1) > 6].sum()


def share_found(negatives, rbm, steps=300):
    """Of chains that begin with every pixel off."""
    started(negatives, rbm)
    if isinstance(negatives, PersistentChains):
        v = run_chains(rbm, np.zeros((negatives.number, 12)), steps)
    else:
        negatives.replicas.v.assign(np.zeros(negatives.replicas.v.shape))
        v = negatives.run(rbm, steps)
    return np.mean(np.sum(np.asarray(v), axis=1) > 6)
