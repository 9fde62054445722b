"""The exact oracle: machines so small that every state is enumerated, and what tests share.

It is written in NumPy and float64, and shares no code with the package, from which it takes only
the names of the types of units. Units that are real numbers are summed over a grid.
"""

import itertools
from types import SimpleNamespace

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

from rbm_tutorial import RBM
from rbm_tutorial.units import Bernoulli, Beside, Categorical, Gaussian, unit_type


def only_on(backend):
    other = keras.backend.backend() != backend
    return pytest.mark.skipif(other, reason=f"it is about {backend} itself")


only_tensorflow, only_jax = only_on("tensorflow"), only_on("jax")
REFUSED_WHEN_COMPILED = (ValueError, tf.errors.InvalidArgumentError)  # on JAX, on TensorFlow


def tensor(x):
    return keras.ops.convert_to_tensor(x, "float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# ---------------------------------------------------------------- machines


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


def machine(visible=4, hidden=3, scale=1.0, seed=0, **kwargs):
    """A built RBM with normally distributed parameters of that scale."""
    rng = np.random.default_rng(seed)
    rbm = RBM(hidden, seed=seed, **kwargs)
    rbm.build([visible])
    for parameter in (rbm.w_rec, rbm.hb, rbm.vb):
        parameter.assign(rng.normal(scale=scale, size=parameter.shape))
    return rbm


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


# ---------------------------------------------------------------- every state


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
    return [(np.array([[0.0], [1.0]]), np.zeros(2), 0.0)] * number


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


# ---------------------------------------------------------------- draws


EDGES = np.array([-np.inf, -3, -1.5, -0.5, 0.5, 1.5, 3, np.inf])  # of what real units are sorted by


def cell_probabilities(units, logits):
    """Of rows of inputs, (rows, units): the probability of each state, or cell of real units."""
    logits = np.asarray(logits, "float64")
    p = np.ones((len(logits), 1))
    for site, log_m, log_step, of_site in site_by_site(units, logits):
        if log_step:
            p_site = np.diff(special.ndtr(EDGES - of_site), axis=1)
        else:
            p_site = special.softmax(of_site @ site.T + log_m, axis=1)
        p = (p[:, :, None] * p_site[:, None]).reshape(len(logits), -1)
    return p


def cells(units, x):
    """The number of the state, or cell of real units, in which each row of x is."""
    number = np.zeros(len(x), int)
    for site, _, log_step, of_site in site_by_site(units, np.asarray(x, "float64")):
        if log_step:
            number = number * (len(EDGES) - 1) + np.searchsorted(EDGES, of_site[:, 0]) - 1
        else:
            is_state = np.all(of_site[:, None] == site, axis=2)
            assert np.all(is_state.sum(axis=1) == 1), "drew what is no state"
            number = number * len(site) + is_state.argmax(axis=1)
    return number


def visible_cells(exact):
    """The probability of each cell of v."""
    return exact.p_h @ cell_probabilities(exact.visible_units, exact.h @ exact.w.T + exact.vb)


def hidden_cells(exact):
    """The probability of each cell of h."""
    return exact.p_v @ cell_probabilities(exact.hidden_units, exact.v @ exact.w + exact.hb)


def p_value(units, x, probabilities):
    """Of the χ² test of independent draws, (draws, units), against the probability of each cell."""
    x = np.asarray(x)
    counts = np.bincount(cells(units, x), minlength=len(probabilities))
    order = np.argsort(probabilities)
    observed, expected = counts[order], len(x) * probabilities[order]
    # Cells that are expected less than five times are one cell together.
    rare = max(np.sum(expected < 5), np.searchsorted(np.cumsum(expected), 5) + 1)
    observed = [observed[:rare].sum(), *observed[rare:]]
    return stats.chisquare(observed, [expected[:rare].sum(), *expected[rare:]]).pvalue


def draw(units, logits, rng):
    """Draw a state for each row of inputs: NumPy's draws, for chains that start in the target."""
    drawn = []
    for site, log_m, log_step, of_site in site_by_site(units, logits):
        if log_step:
            drawn.append(rng.normal(of_site))
        else:
            noise = rng.gumbel(size=(len(logits), len(site)))
            drawn.append(site[np.argmax(of_site @ site.T + log_m + noise, axis=1)])
    return np.hstack(drawn)


def exact_samples(exact, count, seed=0):
    """Independent draws from p(v), (count, visible)."""
    rng = np.random.default_rng(seed)
    if not exact.visible_units.unbounded:
        return exact.v[rng.choice(len(exact.v), count, p=exact.p_v)]
    h = exact.h[rng.choice(len(exact.h), count, p=exact.p_h)]
    return draw(exact.visible_units, h @ exact.w.T + exact.vb, rng)


def exact_hidden_samples(exact, count, seed=0):
    """Independent draws from p(h), (count, hidden)."""
    logits = exact_samples(exact, count, seed) @ exact.w + exact.hb
    return draw(exact.hidden_units, logits, np.random.default_rng([seed, 1]))


def with_sampler(units, sample):
    """`units` that draw by `sample(right, logits, uniform)`, where `right` is their own sampler."""

    class Other(type(units)):
        def sample(self, logits, uniform):
            return sample(super().sample, logits, uniform)

    return Other(**vars(units))


def warm(units):
    """Wrong: draws at a temperature of 1.25."""
    return with_sampler(units, lambda right, logits, uniform: right(logits / 1.25, uniform))


def sharing_noise(units):
    """Wrong: one row of noise for the whole batch, as in the source."""

    def sample(right, logits, uniform):
        return right(logits, lambda shape: uniform((1, *shape[1:])))

    return with_sampler(units, sample)


# ---------------------------------------------------------------- fixtures


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


@pytest.fixture
def close_figures():
    with plt.rc_context():
        yield
    plt.close("all")
