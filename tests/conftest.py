"""Fixtures, and what tests of either backend share."""

import gc

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorflow as tf
from enumerated import enumerate_machine
from machines import machine, parameters_of

gc.set_threshold(200_000, 50, 50)  # what traces of graphs allocate need not be searched so often


def only_on(backend):
    other = keras.backend.backend() != backend
    return pytest.mark.skipif(other, reason=f"it is about {backend} itself")


only_tensorflow, only_jax = only_on("tensorflow"), only_on("jax")
REFUSED_WHEN_COMPILED = (ValueError, tf.errors.InvalidArgumentError)  # on JAX, on TensorFlow


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Seed the global generators, by which `fit` shuffles arrays: a test is no dice."""
    keras.utils.set_random_seed(0)


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
