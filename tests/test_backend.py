"""What the package adds to `keras.ops`: ranges in graphs, draws, compiling, precision."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REFUSED_WHEN_COMPILED, only_jax, only_tensorflow
from machines import copy_of
from scipy import stats

from rbm_tutorial import backend

tensor = keras.ops.convert_to_tensor


# ---------------------------------------------------------------- ranges


def halves_and(bad, rows):
    x = np.full((rows, 784), 0.5, "float32")
    x[rows // 2, 7] = bad
    return tensor(x)


@pytest.mark.parametrize("rows", [1, 300])  # NaN is lost in the least number of many, says XLA
@pytest.mark.parametrize("bad", [-0.5, 1.5, np.nan, np.inf])
def test_a_range_is_checked_eagerly(bad, rows):
    x = halves_and(1.0, rows)
    np.testing.assert_array_equal(backend.checked_range(x, 0, 1, "Received"), x)
    with pytest.raises(ValueError, match=r"^`p` is no share\. Received from .* to .*\.$"):
        backend.checked_range(halves_and(bad, rows), 0, 1, "`p` is no share. Received")


@only_tensorflow
@pytest.mark.parametrize("rows", [1, 300])
@pytest.mark.parametrize("bad", [-0.5, 1.5, np.nan])
def test_a_range_is_checked_before_anything_is_computed_from_it_in_graphs(bad, rows):
    """The variable keeps its value: what changes it waits for the check."""
    total = tf.Variable(0.0)

    @tf.function
    def add(x):
        total.assign_add(tf.reduce_sum(backend.checked_range(x, 0, 1, "`p` is no share")))

    add(halves_and(1.0, rows))
    before = float(total)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`p` is no share"):
        add(halves_and(bad, rows))
    assert float(total) == before > 0


@only_jax
@pytest.mark.parametrize("bad", [-0.5, 1.5, np.nan])
def test_what_lies_outside_becomes_nan_where_nothing_can_be_raised(bad):
    check = backend.compiled(lambda x: backend.checked_range(x, 0, 1, "never seen"))
    np.testing.assert_array_equal(check(tensor([0.5, bad, 1.0])), [0.5, np.nan, 1.0])


# ---------------------------------------------------------------- draws


def draws(*numbers, rows=20_000):
    return np.asarray(backend.uniform((rows,), np.array(numbers)), "float64")


def test_uniform_numbers_are_uniform_and_below_one():
    u = draws(0, 1)
    assert u.min() >= 0
    assert u.max() < 1
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    assert stats.kstest(u**1.1, "uniform").pvalue < 1e-9


def test_uniform_numbers_depend_on_the_seed_alone():
    np.testing.assert_array_equal(draws(3, 4), draws(3, 4))
    for other in [(3, 5), (4, 4), (4, 3), (-3, -4)]:
        assert abs(np.corrcoef(draws(3, 4), draws(*other))[0, 1]) < 5 / np.sqrt(20_000)


def test_a_stream_gives_other_numbers_at_each_call():
    """The first call uses the seed itself."""
    stream, again = (backend.uniform_stream(np.array([3, 4])) for _ in range(2))
    calls = [np.asarray(stream((20_000,))) for _ in range(3)]
    np.testing.assert_array_equal(calls[0], draws(3, 4).astype("float32"))
    for call in calls:
        np.testing.assert_array_equal(again((20_000,)), call)
    assert abs(np.corrcoef(calls) - np.eye(3)).max() < 5 / np.sqrt(20_000)


def test_a_seed_folds_numbers_in():
    first, second, same = (np.asarray(backend.fold_in(np.array([3, 4]), n)) for n in (1, 2, 1))
    assert first.shape == (2,)
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, second)


def test_a_forked_generator_goes_on_with_other_numbers():
    def forked(number):
        generator = keras.random.SeedGenerator(7)
        generator.next()
        if number is not None:
            backend.fork_stream(generator, number)
        return [np.asarray(generator.next()) for _ in range(10)]

    np.testing.assert_array_equal(forked(1), forked(1))
    draws = [tuple(draw) for number in (None, 0, 1, 2) for draw in forked(number)]
    assert len(set(draws)) == 4 * 10  # nor does one stream follow the other, some draws later


# ---------------------------------------------------------------- compiled


def test_compiled_functions_are_traced_once_for_a_shape():
    traces = []

    @backend.compiled
    def double(x):
        traces.append(x.shape)
        return 2 * x

    for _ in range(3):
        np.testing.assert_array_equal(double(tensor([1.0, 2.0])), [2, 4])
    assert len(traces) == 1


def test_compiled_draws_are_those_of_the_layer(rbm, exact):
    twin = copy_of(rbm)
    gibbs_step = backend.compiled_draws(rbm, lambda v: rbm.forward_gibbs(v, steps=1))
    v = tensor(exact.v, "float32")
    for _ in range(3):
        v = gibbs_step(v)
    np.testing.assert_array_equal(v, twin.forward_gibbs(exact.v, steps=3))
    np.testing.assert_array_equal(rbm.sample_v(exact.h), twin.sample_v(exact.h))  # and go on as it
    rbm.vb.assign(np.full(4, 30.0))
    assert np.all(np.asarray(gibbs_step(v)) == 1)  # with the weights as they are


def test_waits_for_what_comes_first():
    """In a graph the value is read after the assignment that it waits for."""
    np.testing.assert_array_equal(backend.wait_for(tensor([1.0]), tensor([2.0])), [2])


@only_tensorflow
def test_a_graph_computes_in_the_order_that_it_waits_for():
    order = []

    @tf.function
    def graph(x):
        first = tf.numpy_function(lambda v: (order.append("first"), v)[1], [x], tf.float32)
        x = backend.wait_for(first, x)
        return tf.numpy_function(lambda v: (order.append("second"), v)[1], [x], tf.float32)

    graph(tf.constant(1.0))
    assert order == ["first", "second"]


def test_double_precision_where_it_is_asked_for():
    with backend.double_precision():
        x = tensor(np.array([1.0, 1e-12]))
        assert float(keras.ops.sum(x)) - 1 == pytest.approx(1e-12, rel=1e-3)
    if backend.BACKEND == "jax":
        assert tensor(np.array([1.0])).dtype == "float32"


# ---------------------------------------------------------------- frameworks


def test_one_replica_without_a_strategy():
    assert backend.replicas() == 1
    assert not backend.distributed()


@only_tensorflow
def test_a_strategy_is_noticed_where_it_is_in_effect():
    strategy = tf.distribute.OneDeviceStrategy("cpu:0")
    with strategy.scope():
        assert backend.distributed()
        assert backend.replicas() == 1
    assert not backend.distributed()


def test_says_what_needs_tensorflow(rbm, batch):
    if backend.BACKEND == "tensorflow":
        assert backend.check_tensorflow("it") is None
    else:
        with pytest.raises(NotImplementedError, match="`cd_update` needs Keras on TensorFlow"):
            rbm.cd_update(batch)


@pytest.mark.slow
def test_refuses_other_backends():
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    command = [sys.executable, "-c", "import rbm_tutorial"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode != 0
    assert "TensorFlow and JAX backends. Received: KERAS_BACKEND=numpy" in result.stderr


def test_compiled_code_refuses_what_the_layer_refuses(rbm):
    """What cannot be raised on JAX is NaN there."""
    x = tensor(np.full((2, 4), 7.0, "float32"))
    forward = backend.compiled_draws(rbm, rbm.forward)
    if backend.BACKEND == "jax":
        assert np.isnan(forward(x)).all()
    else:
        with pytest.raises(REFUSED_WHEN_COMPILED, match="must lie in"):
            forward(x)
