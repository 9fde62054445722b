"""Types of units: how the states of a layer follow from the input that each of its units receives.

A unit with input l is in state x with probability m(x) exp(x·l) / Z(l). An RBM has one type of
visible and one of hidden units, and asks of either only what stands here; everything else about a
machine (energies, gradients, annealing, exact sums) is the same for all of them.

A type has::

    mean(logits)            ⟨x⟩ of units with these inputs, (batch, units)
    sample(logits, uniform) states drawn with numbers from `uniform(shape)`; nothing else draws
    log_normalizer(logits)  log Z(l) of each site, (batch, sites) nats; a site is a unit, or a group
                            of units of which one is on
    log_measure(x)          log m(x), summed over the units: (batch,) nats, or 0
    cross_entropy(x, logits) -log p(x), summed over the units in at least single precision: (batch,)
                            nats; x may be means
    logits(mean)            the inputs at which units have these means, (units,), which are kept
                            away from those that no finite input reaches
    checked(x, name)        `x`, once it is known to be states or means of such units, else an error
                            about `name` (in a graph: see `checked_range`)
    check_states(name, x)   raises `ValueError` unless `x` holds states of such units
    check_number(number)    raises `ValueError` unless a layer can have so many units
    unbounded               whether x is a real number without limit, so that log Z(l) grows like l²
    sites(number)           the states of each site of a layer, (states, units of the site), unless
                            it is unbounded

and is a frozen dataclass, so that it can be compared, hashed and saved with the layer.
"""

import dataclasses
import math

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import LARGEST, checked_range, single
from rbm_tutorial.checks import check_binary, check_count

CLOSEST_MEAN = 0.001  # to 0 and 1, for `logits`: Hinton, A practical guide (2012), section 8


def unit_type(cls):
    """Make of a class a frozen dataclass that Keras saves with the layer."""
    cls = dataclasses.dataclass(frozen=True)(cls)
    names = [field.name for field in dataclasses.fields(cls)]
    keep, make = keras.saving.serialize_keras_object, keras.saving.deserialize_keras_object
    cls.get_config = lambda self: {name: keep(getattr(self, name)) for name in names}
    cls.from_config = classmethod(lambda c, config: c(**{k: make(v) for k, v in config.items()}))
    return keras.saving.register_keras_serializable("rbm_tutorial")(cls)


def check_units(name: str, units) -> None:
    """Raise a `ValueError` unless `units` is a type of units."""
    if isinstance(units, type) or not hasattr(units, "log_normalizer"):
        raise ValueError(
            f"`{name}` must be a type of units, such as `Bernoulli()`. Received: {units!r}"
        )


def check_normalizable(visible_units, hidden_units) -> None:
    """Raise a `ValueError` if both types are unbounded, or one is no type: Z may be infinite.

    Where both v and h go to infinity along one direction, -v²/2 - h²/2 + v·w·h decides, which
    rises once w is large enough; where one of them is bounded, the square of the other wins.
    """
    check_units("visible_units", visible_units)
    check_units("hidden_units", hidden_units)
    if visible_units.unbounded and hidden_units.unbounded:
        raise ValueError(
            "`visible_units` and `hidden_units` cannot both be unbounded: Z is infinite once "
            "v·w_rec·h is as large as (v² + h²)/2 in some direction, as it is between "
            "Gaussian units when a singular value of `w_rec` reaches 1. Make one of them Bernoulli "
            f"or Categorical. Received: {visible_units} and {hidden_units}"
        )


def free_energy(units, v, hidden_logits, vb):
    """F(v) = -vb·v - log m(v) - Σ_j log Z(z_j) with z = v·w + hb: → (batch,) nats.

    Args:
        units: the types of visible and of hidden units.
        v, hidden_logits, vb: (batch, visible), z of shape (batch, hidden), and (visible,).
    """
    visible, hidden = units
    of_hidden = ops.sum(hidden.log_normalizer(hidden_logits), axis=1)
    return -ops.matmul(v, vb) - visible.log_measure(v) - of_hidden


@unit_type
class Bernoulli:
    """x in {0, 1}, p(x=1) = σ(l); the mean lies in [0, 1]."""

    unbounded = False

    def mean(self, logits):
        return ops.sigmoid(logits)

    def sample(self, logits, uniform):
        p = self.mean(logits)  # compared in float32 even under mixed precision: bfloat16 has 8 bits
        return ops.cast(uniform(ops.shape(p)) < ops.cast(p, "float32"), p.dtype)

    def log_normalizer(self, logits):
        return ops.softplus(logits)

    def log_measure(self, x):
        return 0.0

    def cross_entropy(self, x, logits):
        x, logits = single(x), single(logits)
        return ops.sum(ops.softplus(logits) - x * logits, axis=1)

    def logits(self, mean):
        p = ops.clip(mean, CLOSEST_MEAN, 1 - CLOSEST_MEAN)
        return ops.log(p) - ops.log1p(-p)

    def checked(self, x, name="x"):
        message = f"`{name}` must lie in [0, 1]: divide images by 255, or call `binarize`."
        return checked_range(x, 0, 1, f"{message} Received values")

    def check_states(self, name, x):
        check_binary(name, x)

    def check_number(self, number):
        check_count("number of units", number)

    def sites(self, number):
        return [np.array([[0.0], [1.0]])] * number


@unit_type
class Categorical:
    """Groups of `classes` units, of which exactly one is on: p = softmax(l) in each group.

    Also called Potts or softmax units, or one-hot. A layer of n groups has n · `classes` units, one
    group after another.

    Raises: `ValueError` for fewer than 2 classes.
    """

    classes: int
    unbounded = False

    def __post_init__(self):
        check_count("classes", self.classes, least=2)

    def mean(self, logits):
        return ops.reshape(ops.softmax(self.groups(logits)), ops.shape(logits))

    def sample(self, logits, uniform):
        # The first class at which the cumulated probability exceeds a uniform number.
        p = ops.cast(ops.softmax(self.groups(logits)), "float32")
        u = uniform((*ops.shape(p)[:2], 1))
        chosen = ops.sum(ops.cast(ops.cumsum(p, axis=2)[..., :-1] <= u, "int32"), axis=2)
        return ops.reshape(ops.one_hot(chosen, self.classes, dtype=logits.dtype), ops.shape(logits))

    def log_normalizer(self, logits):
        return ops.logsumexp(self.groups(logits), axis=2)

    def log_measure(self, x):
        return 0.0

    def cross_entropy(self, x, logits):
        x, logits = single(x), single(logits)
        return ops.sum(self.log_normalizer(logits), axis=1) - ops.sum(x * logits, axis=1)

    def logits(self, mean):
        return ops.log_sigmoid(Bernoulli().logits(mean))  # log p

    def checked(self, x, name="x"):
        message = f"Each group of {self.classes} units of `{name}` must lie in [0, 1] and sum to 1."
        x = checked_range(x, 0, 1, f"{message} Received values")
        sums = ops.sum(self.groups(x), axis=2)
        known = checked_range(sums, 0.99, 1.01, f"{message} Received sums")
        return ops.where(ops.all(known > 0, axis=1, keepdims=True), x, np.nan)  # JAX cannot raise

    def check_states(self, name, x):
        check_binary(name, x)
        if not np.all(np.sum(self.groups(np.asarray(x)), axis=2) == 1):
            raise ValueError(
                f"`{name}` must have exactly one unit on in each group of {self.classes}. "
                "Received groups with none or several."
            )

    def check_number(self, number):
        check_count("number of units", number)
        if number % self.classes:
            raise ValueError(
                f"The number of units must be a multiple of the {self.classes} classes. "
                f"Received: {number}"
            )

    def sites(self, number):
        return [np.eye(self.classes)] * (number // self.classes)

    def groups(self, x):
        """(batch, units) → (batch, groups, classes), where `x.shape` does not know units, too."""
        return ops.reshape(x, (-1, ops.shape(x)[1] // self.classes, self.classes))


@unit_type
class Gaussian:
    """Real x, p(x) = N(x; l, 1): data are to be scaled to a noise of 1, not to a spread of 1.

    Source: Welling, Rosen-Zvi & Hinton, Exponential family harmoniums (2005).
    """

    unbounded = True

    def mean(self, logits):
        return logits

    def sample(self, logits, uniform):
        radius = ops.sqrt(-2 * ops.log1p(-uniform(ops.shape(logits))))  # Box & Muller (1958)
        angle = 2 * math.pi * uniform(ops.shape(logits))
        return logits + ops.cast(radius * ops.cos(angle), logits.dtype)

    def log_normalizer(self, logits):
        return (logits**2 + math.log(2 * math.pi)) / 2

    def log_measure(self, x):
        return -ops.sum(x**2, axis=1) / 2

    def cross_entropy(self, x, logits):
        x, logits = single(x), single(logits)
        return ops.sum((x - logits) ** 2 + math.log(2 * math.pi), axis=1) / 2

    def logits(self, mean):
        return mean

    def checked(self, x, name="x"):
        message = f"`{name}` must be finite. Received values"
        known = checked_range(single(x), -LARGEST, LARGEST, message)  # it is ∞ in half precision
        return known if known.dtype == x.dtype else ops.cast(known, x.dtype)

    def check_states(self, name, x):
        if not np.isfinite(np.asarray(x)).all():
            raise ValueError(f"`{name}` must be finite. Received NaN or infinite values.")

    def check_number(self, number):
        check_count("number of units", number)


@unit_type
class Beside:
    """Units of two types in one layer: the last `count` of them are `last`, the others `first`.

    Given h they are independent, so that means, draws and log Z(l) of both stand side by side.

    Raises: `ValueError` for what are no types of units, or a `count` that `last` cannot have.
    """

    first: object
    last: object
    count: int

    def __post_init__(self):
        check_units("first", self.first)
        check_units("last", self.last)
        check_count("count", self.count)
        self.last.check_number(self.count)

    @property
    def unbounded(self):
        return self.first.unbounded or self.last.unbounded

    def mean(self, logits):
        first, last = self.split(logits)
        return ops.concatenate([self.first.mean(first), self.last.mean(last)], axis=1)

    def sample(self, logits, uniform):
        first, last = self.split(logits)
        drawn = self.first.sample(first, uniform), self.last.sample(last, uniform)
        return ops.concatenate(drawn, axis=1)

    def log_normalizer(self, logits):
        first, last = self.split(logits)
        log_z = self.first.log_normalizer(first), self.last.log_normalizer(last)
        return ops.concatenate(log_z, axis=1)

    def log_measure(self, x):
        first, last = self.split(x)
        return self.first.log_measure(first) + self.last.log_measure(last)

    def cross_entropy(self, x, logits):
        (x_first, x_last), (first, last) = self.split(x), self.split(logits)
        return self.first.cross_entropy(x_first, first) + self.last.cross_entropy(x_last, last)

    def logits(self, mean):
        first, last = mean[: -self.count], mean[-self.count :]
        return ops.concatenate([self.first.logits(first), self.last.logits(last)], axis=0)

    def checked(self, x, name="x"):
        first, last = self.split(x)
        parts = [self.first.checked(first, name), self.last.checked(last, name)]
        return ops.concatenate(parts, axis=1)

    def check_states(self, name, x):
        first, last = self.split(x)
        self.first.check_states(name, first)
        self.last.check_states(name, last)

    def check_number(self, number):
        if number <= self.count:
            needed = f"units beside the {self.count} of the last type"
            raise ValueError(f"There must be {needed}. Received: {number}")
        self.first.check_number(number - self.count)

    def sites(self, number):
        return [*self.first.sites(number - self.count), *self.last.sites(self.count)]

    def split(self, x):
        """(batch, units) → those of the first type and the last, (batch, count)."""
        return x[:, : -self.count], x[:, -self.count :]


def number_of_first(units, number: int) -> int:
    """How many of `number` units are of the first type, beside which others may stand."""
    while isinstance(units, Beside):
        units, number = units.first, number - units.count
    return number
