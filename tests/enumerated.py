"""The exact oracle: every state of a machine, in NumPy and float64.

It shares no code with the package, from which it takes only the names of the types of units. Units
that are real numbers are summed over a grid.
"""

import itertools
from types import SimpleNamespace

import numpy as np
from machines import BINARY, Binomial, parameters_of
from scipy import special

from rbm_tutorial.units import Bernoulli, Beside, Categorical, Gaussian


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def statistics(v, w, hb):
    """⟨vh⟩, ⟨h⟩, ⟨v⟩ of rows of binary units, (rows, visible)."""
    h = sigmoid(v @ w + hb)
    return v.T @ h / len(v), h.mean(axis=0), v.mean(axis=0)


STEP = 0.5  # of a real unit's grid, on which sums over normal densities err by less than 1e-30
GRID = np.arange(-14, 14 + STEP, STEP)[:, None]


def states(units):
    return np.array(list(itertools.product([0.0, 1.0], repeat=units)))


def sites(units, number):
    """For each site of a layer its states, log m of each, and log of what each stands for."""
    if isinstance(units, Beside):
        return sites(units.first, number - units.count) + sites(units.last, units.count)
    if isinstance(units, Categorical):
        classes = units.classes
        return [(np.eye(classes), np.zeros(classes), 0.0)] * (number // classes)
    if isinstance(units, Gaussian):
        return [(GRID, -(GRID[:, 0] ** 2) / 2, np.log(STEP))] * number
    if isinstance(units, Binomial):
        return [(np.array([[0.0], [1.0], [2.0]]), np.log([1.0, 2.0, 1.0]), 0.0)] * number
    if isinstance(units, Bernoulli):
        return [(np.array([[0.0], [1.0]]), np.zeros(2), 0.0)] * number
    raise TypeError(f"`sites` of tests/enumerated.py must know the states of these: {units}")


def site_by_site(units, x):
    """Each of the `sites`, and the columns of x, (rows, units), that are its own."""
    first = 0
    for site, log_m, log_step in sites(units, x.shape[1]):
        last = first + site.shape[1]
        yield site, log_m, log_step, x[:, first:last]
        first = last


def support(units, number):
    """Every state of a layer, (states, number), log m, (states,), and log of what each stands for.

    The last site changes fastest.
    """
    x, log_m, log_volume = np.zeros((1, 0)), np.zeros(1), 0.0
    for site, log_measure, log_step in sites(units, number):
        x = np.hstack([np.repeat(x, len(site), axis=0), np.tile(site, (len(x), 1))])
        log_m = np.add.outer(log_m, log_measure).ravel()
        log_volume += log_step
    return x, log_m, log_volume


def enumerate_machine(w, hb, vb, visible_units=BINARY, hidden_units=BINARY):
    """Energies and probabilities of every state: arrays (visible states, hidden states), margins.

    Of real units a state stands for an interval, of which p is the probability.
    """
    v, log_m_v, volume_v = support(visible_units, len(vb))
    h, log_m_h, volume_h = support(hidden_units, len(hb))
    energy = -(v @ vb)[:, None] - h @ hb - v @ w @ h.T
    log_weight = log_m_v[:, None] + volume_v + log_m_h + volume_h - energy
    log_z = special.logsumexp(log_weight)
    joint = np.exp(log_weight - log_z)
    p_v, p_h = joint.sum(axis=1), joint.sum(axis=0)
    exact = SimpleNamespace(visible_units=visible_units, hidden_units=hidden_units)
    exact.w, exact.hb, exact.vb, exact.v, exact.h, exact.energy = w, hb, vb, v, h, energy
    exact.log_z, exact.joint, exact.p_v, exact.p_h = log_z, joint, p_v, p_h
    exact.free_energy = volume_v - special.logsumexp(log_weight, axis=1)
    exact.mean_h_given_v = joint @ h / p_v[:, None]
    exact.mean_v_given_h = joint.T @ v / p_h[:, None]
    return exact


def exact_of(rbm, beta=1.0, base=0.0):
    """The enumerated machine, at inverse temperature β with visible biases (1 - β) base + β vb."""
    w, hb, vb = parameters_of(rbm)
    tempered = beta * w, beta * hb, beta * vb + (1 - beta) * np.asarray(base)
    return enumerate_machine(*tempered, rbm.visible_units, rbm.hidden_units)


def derivatives(function, parameters, step=1e-5):
    """Central differences of a function of (w, hb, vb) in every number of them."""
    gradients = [np.zeros(parameter.shape) for parameter in parameters]
    for parameter, gradient in zip(parameters, gradients):
        for index in np.ndindex(parameter.shape):
            kept = parameter[index]
            parameter[index] = kept + step
            above = function(*parameters)
            parameter[index] = kept - step
            gradient[index] = (above - function(*parameters)) / (2 * step)
            parameter[index] = kept
    return gradients
