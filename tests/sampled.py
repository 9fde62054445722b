"""Tests of samplers: exact draws to start from, χ² against enumeration, and wrong samplers."""

import numpy as np
from enumerated import site_by_site
from scipy import special, stats

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
