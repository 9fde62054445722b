"""The step of CD-1 that is expected of `machine()` and four examples, by enumeration."""

import numpy as np
from enumerated import sigmoid, states
from machines import machine, parameters_of

EXAMPLES = np.array([[0, 0, 1, 1], [1, 0, 1, 0], [1, 1, 1, 0], [0, 1, 0, 0]], "float32")


def statistics_of_cd_1():
    """Of v h, h and v: data minus mean after a Gibbs step, and the variance there."""
    w, hb, vb = parameters_of(machine())
    v, h = states(4), states(3)

    def probability(x, p):  # of each binary row of x under each row of p: (len(p), len(x))
        return np.prod(np.where(x, p[:, None], 1 - p[:, None]), axis=2)

    h_given_x = probability(h, sigmoid(EXAMPLES @ w + hb))
    p_v = (h_given_x @ probability(v, sigmoid(h @ w.T + vb))).mean(axis=0)
    h_of_v, h_of_x = sigmoid(v @ w + hb), sigmoid(EXAMPLES @ w + hb)
    data = EXAMPLES.T @ h_of_x / len(EXAMPLES), h_of_x.mean(axis=0), EXAMPLES.mean(axis=0)
    chains = v[:, :, None] * h_of_v[:, None, :], h_of_v, v
    means = [np.tensordot(p_v, c, 1) for c in chains]
    variances = [np.tensordot(p_v, c**2, 1) - mean**2 for c, mean in zip(chains, means)]
    return [d - mean for d, mean in zip(data, means)], variances


def standard_scores(change, examples):
    """How far a step of rate 1 is from that expectation, in standard errors of so many examples."""
    scores = []
    for measured, expected, variance in zip(change, *statistics_of_cd_1()):
        scores += list(abs(np.ravel(measured - expected)) / np.sqrt(np.ravel(variance) / examples))
    return np.array(scores)
