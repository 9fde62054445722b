"""Rectified units: a normal distribution of which only what lies above 0 is left.

The chapter on units beyond binary ones draws what they do between binary and Gaussian units. All
of it follows from one function, Mills' ratio M(s) = Φ(-s) / φ(s) of the standard normal
distribution, of which `keras.ops` has no form that keeps its digits far out.
"""

import math

import numpy as np
from keras import ops

from rbm_tutorial.backend import LARGEST, checked_range, single
from rbm_tutorial.checks import check_count
from rbm_tutorial.units import CLOSEST_MEAN, unit_type

LOG_SQRT_2_PI = math.log(2 * math.pi) / 2
# log M(s) - log t as a polynomial in t = 1/(1 + s/4), fitted at Chebyshev's nodes to M in double
# precision: within 6e-9 for every s from 0 on, its derivative within 6e-7 relative to the mean.
RATE = 0.25
COEFFICIENTS = [
    -1.38629436, 1.00000046, 0.437475211, 0.20883318, 0.0673174261, 0.0157693219, -0.129553075,
    0.040018365, 0.0827923588, -0.59267979, 0.91026988, -0.546135057, 0.117977437,
]  # fmt: skip
NEWTON_STEPS = 3
BISECTIONS = 40


@unit_type
class ReLU:
    """Real x of at least 0 with p(x) ∝ exp(-(x - l)²/2): N(l, 1), cut off below 0.

    Far above 0 the mean is l, that of a Gaussian unit; far below it is -1/l.

    Source: Tubiana & Monasson, Emergence of compositional representations in restricted Boltzmann
    machines (2017). The units of Nair & Hinton (2010), max(0, N(l, σ(l))), have no energy.
    """

    unbounded = True

    def mean(self, logits):
        above = ops.maximum(logits, 0)
        above = above + ops.exp(-self.log_normalizer(above))  # l + φ(l) / Φ(l)
        return ops.where(logits > 0, above, mean_below(ops.maximum(-logits, 0)))

    def sample(self, logits, uniform):
        u = uniform(ops.shape(logits))
        inputs = ops.cast(logits, "float32")
        above = quantile_above(ops.maximum(inputs, 0), u)
        below = quantile_below(ops.maximum(-inputs, 0), u)
        return ops.cast(ops.where(inputs > 0, above, below), logits.dtype)

    def log_normalizer(self, logits):
        # Z(l) = Φ(l) / φ(l) = M(-l); above 0 by M(-l) = 1/φ(l) - M(l).
        log_m = log_mills(ops.abs(logits))
        log_density = -(logits**2) / 2 - LOG_SQRT_2_PI
        above = ops.log1p(-ops.exp(log_density + log_m)) - log_density
        return ops.where(logits > 0, above, log_m)

    def log_measure(self, x):
        return -ops.sum(x**2, axis=1) / 2

    def cross_entropy(self, x, logits):
        x, logits = single(x), single(logits)
        return ops.sum(self.log_normalizer(logits) - x * logits + x**2 / 2, axis=1)

    def logits(self, mean):
        # By bisection: the mean is below 1/|l|, and above l.
        mean = ops.maximum(mean, CLOSEST_MEAN)

        def halve(_, ends):
            middle = sum(ends) / 2
            below = self.mean(middle) < mean
            return ops.where(below, middle, ends[0]), ops.where(below, ends[1], middle)

        return sum(ops.fori_loop(0, BISECTIONS, halve, (-1 / mean, mean))) / 2

    def checked(self, x, name="x"):
        message = f"`{name}` must be finite and at least 0. Received values"
        known = checked_range(single(x), 0, LARGEST, message)  # LARGEST is ∞ in half precision
        return known if known.dtype == x.dtype else ops.cast(known, x.dtype)

    def check_states(self, name, x):
        x = np.asarray(x)
        if not (np.isfinite(x) & (x >= 0)).all():
            raise ValueError(
                f"`{name}` must be finite and at least 0. Received negative, infinite or NaN."
            )

    def check_number(self, number):
        check_count("number of units", number)


def log_mills(s):
    """log M(s), M(s) = Φ(-s) / φ(s), for s of at least 0, within 6e-9 in double precision."""
    t = 1 / (1 + RATE * s)
    return ops.log(t) + _polynomial(t, COEFFICIENTS)


def mean_below(s):
    """Mean of N(-s, 1) cut off below 0, for s of at least 0: -d log M(s)/ds = 1/M(s) - s.

    From the derivative of the polynomial, since 1/M(s) - s loses all digits where s is large.
    """
    t = 1 / (1 + RATE * s)
    slopes = [k * coefficient for k, coefficient in enumerate(COEFFICIENTS)][1:]
    return RATE * t * (1 + t * _polynomial(t, slopes))


def quantile_above(logits, u):
    """x that N(l, 1) cut off below 0 exceeds with probability 1 - u, for l of at least 0.

    That is Φ(l - x) = (1 - u) Φ(l), solved by the inverse of Φ in float32.
    """
    erf = (1 - u) * (1 + ops.erf(logits / math.sqrt(2))) - 1  # 2 Φ(l - x) - 1
    z = math.sqrt(2) * ops.erfinv(ops.minimum(erf, 1 - 2**-23))  # finite: no draw is far off
    return ops.maximum(logits - z, 0)


def quantile_below(s, u):
    """x that N(-s, 1) cut off below 0 exceeds with probability 1 - u, for s of at least 0.

    That is log M(s + x) - log M(s) - s x - x²/2 = log(1 - u). The left side is concave, so Newton's
    steps come down to the root from where the parabola of its value, slope and curvature at 0 is.
    """
    log_m, e = log_mills(s), -ops.log1p(-u)
    slope = ops.exp(-log_m)
    curvature = ops.maximum(slope * (slope - s), 0)
    x = 2 * e / (slope + ops.sqrt(slope**2 + 2 * curvature * e))
    for _ in range(NEWTON_STEPS):
        log_m_x = log_mills(s + x)
        x = x + (log_m_x - log_m - s * x - x**2 / 2 + e) * ops.exp(log_m_x)
        x = ops.maximum(x, 0)
    return x


def _polynomial(t, coefficients):
    """Σ_k coefficients[k] t^k, by Horner's rule."""
    total = ops.zeros_like(t)
    for coefficient in reversed(coefficients):
        total = total * t + coefficient
    return total
