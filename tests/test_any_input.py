"""Whatever comes in: the right result, or an error that names the argument; nothing changes.

Hypothesis makes over two thousand inputs, the same ones in each run. What is right is decided here,
in NumPy, and results are compared with the enumerated machine where there is one answer.
"""

import numbers
import re

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inputs import DBN, KNOWN, RBM_4_3, V, assert_same, state
from machines import machine, parameters_of
from scipy import special
from trained import EXAMPLES

from rbm_tutorial import RBM, ContrastiveDivergence, DeepBeliefNetwork
from rbm_tutorial.annealing import ais_log_partition
from rbm_tutorial.callbacks import free_energy_gap
from rbm_tutorial.data import binarize
from rbm_tutorial.exact import conditional_tables
from rbm_tutorial.likelihood import chain_diagnostics, log_likelihood, pseudo_log_likelihood
from rbm_tutorial.sampling import denoise, inpaint, run_chains
from rbm_tutorial.stack import variational_bound
from rbm_tutorial.units import Beside, Categorical

BATCHES, VALUES = 80, 35  # examples of each function of a batch, of each of a single value
many = {"derandomize": True, "database": None, "deadline": None}
many["suppress_health_check"] = list(HealthCheck)
MODEL = ContrastiveDivergence(machine())
MODEL.compile(run_eagerly=True)
MODEL.build((None, 4))


def untouched(call):
    """What a call gives, and the error it ends with; an error must have changed nothing."""
    before = [*state(), *map(np.array, MODEL.get_weights())]
    try:
        return call(), None
    except ValueError as error:
        assert_same(before, [*state(), *map(np.array, MODEL.get_weights())])
        return None, str(error)


def assert_names(argument, message):
    assert message is not None, "wrong input was taken"
    assert re.search(rf"(?s){argument}.* must .*Received", message), message


# ---------------------------------------------------------------- batches

VALUES_OF = {
    "bits": st.sampled_from([0.0, 1.0]),
    "grays": st.floats(0, 1, width=32),
    "any": st.floats(width=32, allow_subnormal=False),
    "bytes": st.integers(0, 255).map(float),
}
DTYPES = ["float64", "float32", "float16", "int64", "uint8", "bool", "complex64", "str"]
SHAPES = [(1, 4), (3, 4), (3, 4), (3, 4), (0, 4), (4,), (2, 3), (2, 5), (2, 1, 4), ()]


@st.composite
def batches(draw):
    """An array, list or tensor of mostly four columns and mostly right values."""
    shape = draw(st.sampled_from(SHAPES))
    values = draw(st.sampled_from(["bits", "bits", "grays", "any", "bytes"]))
    size = int(np.prod(shape))
    x = np.array(draw(st.lists(VALUES_OF[values], min_size=size, max_size=size)), "float64")
    dtype = draw(st.sampled_from(DTYPES[:4] * 3 + DTYPES))
    if dtype in ("int64", "uint8"):
        x = np.clip(np.nan_to_num(x), 0, 255)
    with np.errstate(over="ignore"):
        x = x.reshape(shape).astype(dtype)
    how = draw(st.sampled_from(["array", "array", "list", "tensor", "columns first"]))
    if how == "list":
        return x.tolist()
    if how == "tensor" and dtype not in ("complex64", "str"):
        return keras.ops.convert_to_tensor(x)
    return np.asfortranarray(x) if how == "columns first" else x


def as_batch(x, width=4, empty=False, binary=False):
    """The batch as float32, or `None` if it is none."""
    x = np.asarray(x)
    numeric = x.dtype.kind in "biuf" or (x.size == 0 and x.dtype.kind == "f")
    if not numeric or x.ndim != 2 or x.shape[1] != width or (len(x) == 0 and not empty):
        return None
    x = x.astype("float32")
    inside = np.all((x >= 0) & (x <= 1)) and (not binary or np.isin(x, (0, 1)).all())
    return x if inside else None


def free_energy(x):
    w, hb, vb = parameters_of(RBM_4_3)
    return -x @ vb - np.logaddexp(0, x @ w + hb).sum(axis=1)


def pseudo(x):
    flipped = [free_energy(np.where(np.arange(4) == i, 1 - x, x)) for i in range(4)]
    return sum(special.log_expit(each - free_energy(x)) for each in flipped)


def upwards(x):
    w, hb, _ = parameters_of(RBM_4_3)
    return special.expit(x @ w + hb)


def cost(x):
    w, _, vb = parameters_of(RBM_4_3)
    logits = upwards(x) @ w.T + vb
    return np.mean(np.sum(np.logaddexp(0, logits) - x * logits, axis=1))


def dbn_up(x):
    for rbm in [*DBN.lower, DBN.top]:
        w, hb, _ = parameters_of(rbm)
        x = special.expit(x @ w + hb)
    return x


def states_like(width):
    return lambda x: (len(x), width)


ANY, NOT_NONE, STATES = {"empty": True}, {}, {"binary": True}
PSEUDO = {"binary": True, "empty": True}
FUNCTIONS = {  # of one argument, what is a right one, and the answer or the shape of states
    "RBM.forward(v)": (RBM_4_3.forward, ANY, upwards),
    "RBM.free_energy(v)": (RBM_4_3.free_energy, ANY, free_energy),
    "RBM.reconstruction_cost(x)": (RBM_4_3.reconstruction_cost, NOT_NONE, cost),
    "RBM.sample_h(v)": (RBM_4_3.sample_h, ANY, states_like(3)),
    "RBM.forward_gibbs(v)": (RBM_4_3.forward_gibbs, ANY, states_like(4)),
    "log_likelihood(x)": (
        lambda x: log_likelihood(RBM_4_3, x, 1.0),
        ANY,
        lambda x: -free_energy(x) - 1,
    ),
    "pseudo_log_likelihood(x)": (lambda x: pseudo_log_likelihood(RBM_4_3, x), PSEUDO, pseudo),
    "variational_bound(x)": (lambda x: variational_bound(DBN, x, 1.0), ANY, None),
    "chain_diagnostics(v)": (lambda v: chain_diagnostics(RBM_4_3, v, 4), {"chains": 2}, None),
    "run_chains(v)": (lambda v: run_chains(RBM_4_3, v, 2), ANY, states_like(4)),
    "inpaint(v)": (lambda v: inpaint(RBM_4_3, v, KNOWN, 2), ANY, None),
    "denoise(noisy)": (lambda v: denoise(RBM_4_3, v, 0.1, 3, 1), ANY, None),
    "free_energy_gap(x_held_out)": (
        lambda x: free_energy_gap(RBM_4_3, V, x),
        NOT_NONE,
        lambda x: free_energy(x).mean() - free_energy(V).mean(),
    ),
    "DeepBeliefNetwork.predict(x)": (lambda x: DBN.predict(x, verbose=0), NOT_NONE, dbn_up),
    "evaluate(x)": (lambda x: MODEL.evaluate(x, verbose=0), NOT_NONE, None),
    "fit(x)": (lambda x: MODEL.fit(x, verbose=0), NOT_NONE, None),
    "adapt(data)": (lambda x: fresh().adapt(x), NOT_NONE, None),
}


def fresh():
    rbm = RBM(2, 4, seed=0)
    rbm.build((None, 4))
    return rbm


@pytest.mark.parametrize("function", FUNCTIONS)
@settings(max_examples=BATCHES, **many)
@given(data=st.data())
def test_a_batch_is_taken_for_what_it_is_or_refused(function, data):
    call, right, expected = FUNCTIONS[function]
    x = data.draw(batches())
    chains = right.get("chains", 0)
    known = as_batch(x, **{name: value for name, value in right.items() if name != "chains"})
    result, message = untouched(lambda: call(x))
    if known is None:
        assert_names(f"`{re.search(r'[(](.*)[)]', function)[1]}`", message)
    elif chains > len(known):
        assert_names("number of chains", message)
    else:
        assert message is None, message
        check_result(result, known, expected)


def check_result(result, x, expected):
    if expected is None:
        return
    wanted = expected(x)
    if isinstance(wanted, tuple):
        assert tuple(result.shape) == wanted
        assert np.isin(np.asarray(result), (0, 1)).all()
    else:
        np.testing.assert_allclose(np.asarray(result), wanted, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- single values

ANYTHING = st.one_of(
    st.integers(-2, 6),
    st.sampled_from([2**32 - 1, 2**32, np.int64(3), np.uint8(2), np.bool_(True), np.float32(0.5)]),
    st.floats(-2, 2),
    st.sampled_from(
        [np.nan, np.inf, 0.0, 1e-50, 1e39, 0.5, 1.0, None, "3", "x", b"1", True, False, 1j]
    ),
    st.sampled_from([[1], (2,), {}, np.array(2), np.array([0.5]), np.zeros((0,)), object()]),
)


def is_count(least=1):
    def right(n):
        return isinstance(n, numbers.Integral) and not isinstance(n, bool) and n >= least

    return right


def is_number(low=-np.inf, high=np.inf):
    def right(x):
        x = np.asarray(x)
        return x.shape == () and x.dtype.kind in "iuf" and low < x < high and np.isfinite(x)

    return right


def is_rate(x):
    """A positive number, in single precision, too."""
    single = np.finfo("float32")
    real = isinstance(x, numbers.Real) and not isinstance(x, bool)
    return real and single.smallest_subnormal <= x <= single.max


def is_seed(n):
    return is_count(0)(n) and n < 2**32


def is_flag(b):
    return isinstance(b, (bool, np.bool_))


def few(call):
    """Nothing that a large number makes slow."""
    return lambda n: call(n) if not is_count(7)(n) else None


OF_ONE_VALUE = {
    "RBM(number_hidden_units)": (few(RBM), is_count()),
    "RBM(number_visible_units)": (
        few(lambda n: RBM(2, n)),
        lambda n: n is None or is_count()(n),
    ),
    "RBM(cd_steps)": (lambda n: RBM(2, cd_steps=n), is_count()),
    "RBM(learning_rate)": (lambda rate: RBM(2, learning_rate=rate), is_rate),
    "RBM(seed)": (lambda seed: RBM(2, seed=seed), lambda n: n is None or is_seed(n)),
    "RBM(tied)": (lambda tied: RBM(2, tied=tied), is_flag),
    "RBM(visible_units)": (lambda units: RBM(2, visible_units=units), lambda _: False),
    "ContrastiveDivergence(rbm)": (ContrastiveDivergence, lambda _: False),
    "ContrastiveDivergence(persistent_chains)": (
        lambda n: ContrastiveDivergence(RBM(2, 4), n),
        is_count(0),
    ),
    "ContrastiveDivergence(centered)": (
        lambda centered: ContrastiveDivergence(RBM(2, 4), centered=centered),
        is_flag,
    ),
    "ContrastiveDivergence(likelihood_chains)": (
        lambda n: ContrastiveDivergence(RBM(2, 4), likelihood_chains=n),
        lambda n: is_count(2)(n) or (is_count(0)(n) and n == 0),
    ),
    "DeepBeliefNetwork(rbms)": (DeepBeliefNetwork, lambda _: False),
    "Categorical(classes)": (Categorical, is_count(2)),
    "Beside(first)": (lambda units: Beside(units, Categorical(2), 2), lambda _: False),
    "forward_gibbs(steps)": (
        few(lambda n: RBM_4_3.forward_gibbs(V, n)),
        lambda n: n is None or is_count()(n),
    ),
    "run_chains(steps)": (few(lambda n: run_chains(RBM_4_3, V, n)), is_count()),
    "log_likelihood(log_z)": (lambda z: log_likelihood(RBM_4_3, V, z), is_number()),
    "denoise(flip_rate)": (lambda p: denoise(RBM_4_3, V, p, 3, 1), is_number(0, 1)),
    "conditional_tables(beta)": (lambda beta: conditional_tables(RBM_4_3, beta), is_number()),
    "ais_log_partition(num_betas)": (
        few(lambda n: ais_log_partition(RBM_4_3, 3, n)),
        is_count(2),
    ),
    "pseudo_log_likelihood(seed)": (
        lambda seed: pseudo_log_likelihood(RBM_4_3, V, seed),
        lambda n: n is None or is_seed(n),
    ),
    "binarize(seed)": (
        lambda seed: binarize(V, seed=seed, threshold=0.5 if seed is None else None),
        lambda n: n is None or is_seed(n),
    ),
}


@pytest.mark.parametrize("function", OF_ONE_VALUE)
@settings(max_examples=VALUES, **many)
@given(value=ANYTHING)
def test_a_single_value_is_taken_for_what_it_is_or_refused(function, value):
    call, is_right = OF_ONE_VALUE[function]
    _, message = untouched(lambda: call(value))
    if is_right(value):
        assert message is None, message
    else:
        assert_names(f"`{re.search(r'[(](.*)[)]', function)[1]}`", message)


def test_there_are_two_thousand_cases():
    assert BATCHES * len(FUNCTIONS) + VALUES * len(OF_ONE_VALUE) >= 2000


def test_a_function_that_takes_anything_fails():
    """The right answer of wrong input is an error."""
    FUNCTIONS["careless(v)"] = (RBM_4_3.hidden_logits, ANY, None)
    try:
        with pytest.raises(AssertionError, match="wrong input was taken"):
            test_a_batch_is_taken_for_what_it_is_or_refused.hypothesis.inner_test(
                "careless(v)", GivenData(2 * EXAMPLES)
            )
    finally:
        del FUNCTIONS["careless(v)"]


class GivenData:
    def __init__(self, value):
        self.value = value

    def draw(self, _):
        return self.value
