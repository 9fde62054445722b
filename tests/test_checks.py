"""Checks of arguments: what passes, and what each message says of what does not."""

import numpy as np
import pytest
import tensorflow as tf
from machines import machine
from scipy import sparse

from rbm_tutorial import RBM
from rbm_tutorial.checks import (
    check_binary,
    check_count,
    check_ends,
    check_examples,
    check_machine,
    check_matrix,
    check_not_negative,
    check_positive,
    check_seed,
    real_array,
)

INFINITE = tf.data.Dataset.from_tensors(np.zeros((2, 5))).repeat()
PASSES = [
    (check_count, 1),
    (check_count, np.int32(7)),
    (check_positive, 1e-30),
    (check_positive, np.float32(0.5)),
    (check_positive, 3),
    (check_not_negative, 0),
    (check_not_negative, np.inf),
    (check_seed, None),
    (check_seed, 0),
    (check_seed, np.int64(2**32 - 1)),
    (check_examples, 1),
    (check_ends, np.zeros((2, 5))),
    (check_ends, INFINITE.take(3)),
    (check_binary, np.array([[0, 1], [1, 1]])),
    (check_binary, tf.constant([[0.0, 1.0]])),
    (check_binary, np.array([True, False])),
]
REFUSES = [
    (check_count, 0, "`n` must be an integer of at least 1. Received: 0"),
    (check_count, 2.0, "Received: 2.0"),
    (check_count, True, "Received: True"),
    (check_count, "3", "Received: '3'"),
    (check_count, None, "Received: None"),
    (check_positive, 0, "`n` must be a positive number. Received: 0"),
    (check_positive, -1.5, "Received: -1.5"),
    (check_positive, np.nan, "Received: nan"),
    (check_positive, np.inf, "Received: inf"),
    (check_positive, "0.1", "Received: '0.1'"),
    (check_not_negative, -1e-9, "`n` must be at least 0. Received: -1e-09"),
    (check_not_negative, np.nan, "Received: nan"),
    (check_not_negative, None, "Received: None"),
    (check_seed, -1, "`n` must be an integer from 0 to 2^32 - 1. Received: -1"),
    (check_seed, 2**32, "Received: 4294967296"),
    (check_seed, 1.0, "Received: 1.0"),
    (check_seed, True, "Received: True"),
    (check_seed, np.random.default_rng(0), "Received: Generator"),
    (check_examples, 0, "`n` must hold at least one example"),
    (check_ends, INFINITE, "`n` must end: call `take`. Received an infinite data set"),
    (check_binary, np.array([[0, 0.5]]), "call `binarize`. Received values from 0 to 0.5"),
    (check_binary, np.array([[0, 255]]), "Received values from 0 to 255"),
    (check_binary, np.array([[0, np.nan]]), "`n` must be binary"),
]


@pytest.mark.parametrize(("check", "value"), PASSES)
def test_lets_pass_what_can_work(check, value):
    assert check("n", value) is None


@pytest.mark.parametrize(("check", "value", "message"), REFUSES)
def test_refuses_what_cannot_work_and_says_what_it_got(check, value, message):
    with pytest.raises(ValueError) as caught:
        check("n", value)
    assert message in str(caught.value)


def test_the_least_count_may_be_another():
    check_count("chains", 2, least=2)
    check_count("burn_in", 0, least=0)
    with pytest.raises(ValueError, match="`chains` must be an integer of at least 2"):
        check_count("chains", 1, least=2)


@pytest.mark.parametrize("shape", [(4,), (2, 1, 4), (2, 5), ()])
def test_a_batch_of_vectors_has_two_axes(shape):
    check_matrix("v", np.zeros((2, 4)), 4)
    check_matrix("v", np.zeros((0, 4)), 4)
    with pytest.raises(ValueError, match=r"`v` must have shape \(batch, 4\)\. Received: \("):
        check_matrix("v", np.zeros(shape), 4)


def test_measures_need_weights_and_symmetric_ones():
    check_machine(machine(), "measure")
    with pytest.raises(ValueError, match="`measure` needs weights: call `build` first"):
        check_machine(RBM(3), "measure")
    with pytest.raises(ValueError, match="`measure` needs symmetric weights"):
        check_machine(machine().untie(), "measure")


@pytest.mark.parametrize(
    "x", [[[1, 2], [3, 4]], np.eye(2, dtype=bool), np.float16([[1.0]]), tf.constant([[1.0]])]
)
def test_real_numbers_become_an_array(x):
    np.testing.assert_array_equal(real_array("x", x), np.asarray(x))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (sparse.eye(3).tocsr(), r"`x` must be dense: pass `x.toarray\(\)`.*Received: csr"),
        ([["a", "b"]], "`x` must be an array of real numbers. Received: list of <U1"),
        (np.array([[1j]]), "Received: ndarray of complex128"),
        (np.array(["2020-01-01"], "datetime64[D]"), "Received: ndarray of datetime64"),
        ([[1, 2], [3]], "Received: list of object"),
        (None, "Received: NoneType of object"),
        (np.ma.masked_equal([0, 1, 1], 1), r"`x.filled\(value\)`. Received 2 of them"),
    ],
)
def test_what_are_no_real_numbers_is_refused(x, message):
    with pytest.raises(ValueError, match=message):
        real_array("x", x)
