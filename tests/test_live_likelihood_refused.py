"""What cannot have a likelihood while a machine learns: gray pixels, and models of other kinds."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import REFUSED_WHEN_COMPILED, only_tensorflow
from keras import ops
from machines import PAIRS, machine, machine_of
from trained import EXAMPLES, trainer

from rbm_tutorial import ContrastiveDivergence
from rbm_tutorial.callbacks import LikelihoodPath
from rbm_tutorial.missing import IncompleteContrastiveDivergence
from rbm_tutorial.variances import VarianceLearning

GRAY = np.full((8, 4), 0.5, "float32")


def test_gray_pixels_have_no_likelihood():
    with pytest.raises(ValueError, match="`x` must"):
        trainer(machine(), likelihood_chains=20).fit(GRAY, verbose=0)
    with pytest.raises(REFUSED_WHEN_COMPILED):
        trainer(machine(), likelihood_chains=20).train_on_batch(ops.convert_to_tensor(GRAY))
    for rbm in (machine(), machine_of(PAIRS["mixed, binary"])):  # beside a real number
        gray = np.full((8, rbm.number_visible_units), 0.5, "float32")
        gray[:4] = 0  # the first batch is looked at before anything is traced
        data = tf.data.Dataset.from_tensor_slices(gray).batch(4)
        with pytest.raises(REFUSED_WHEN_COMPILED):
            trainer(rbm, likelihood_chains=20).fit(data, verbose=0, shuffle=False)


@only_tensorflow
def test_gray_pixels_of_a_data_set_move_nothing():
    model = trainer(machine(), likelihood_chains=20)
    model.fit(EXAMPLES, verbose=0)
    before = [np.asarray(weight.value) for weight in model.weights]
    with pytest.raises(REFUSED_WHEN_COMPILED):
        model.fit(tf.data.Dataset.from_tensors(GRAY), verbose=0, shuffle=False)
    for weight, was in zip(model.weights, before):
        np.testing.assert_array_equal(weight.value, was, err_msg=weight.path)


@pytest.mark.parametrize("number", [-1, 1.5, "100", None])
def test_the_number_of_chains_is_checked(number):
    with pytest.raises(ValueError, match="`likelihood_chains` must"):
        ContrastiveDivergence(machine(), likelihood_chains=number)


def test_models_whose_likelihood_it_would_not_be_refuse():
    with pytest.raises(ValueError, match="`likelihood_chains` must be 0"):
        VarianceLearning(machine_of(PAIRS["real, binary"]), likelihood_chains=10)
    with pytest.raises(ValueError, match="`likelihood_chains` must be 0"):
        IncompleteContrastiveDivergence(machine(), likelihood_chains=10)


@only_tensorflow
def test_replicas_refuse():
    refused = pytest.raises(ValueError, match="`likelihood_chains` must be 0")
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope(), refused:
        ContrastiveDivergence(machine(), likelihood_chains=10)


def test_a_path_needs_chains():
    with pytest.raises(ValueError, match="likelihood_chains"):
        trainer(machine()).fit(EXAMPLES, callbacks=[LikelihoodPath()], verbose=0)
