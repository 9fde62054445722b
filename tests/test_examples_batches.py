"""What streams give: batches of one, two or three parts, and what is no batch."""

import numpy as np
import pytest
from conftest import REFUSED_WHEN_COMPILED, only_tensorflow
from inputs import assert_same
from keras import ops
from machines import machine
from networks import labeled_network
from scipy import sparse
from trained import EXAMPLES, OneBatch, trainer

from rbm_tutorial import RBM, ContrastiveDivergence, WakeSleep, train_rbm
from rbm_tutorial.missing import IncompleteContrastiveDivergence
from rbm_tutorial.units import Bernoulli, Beside, Categorical


@pytest.mark.parametrize("rest", [(), (None,), (None, None), (None, np.ones(22))], ids=len)
def test_a_batch_may_have_nothing_in_place_of_labels_and_weights(rbm, rest):
    expected = trainer(rbm).evaluate(EXAMPLES, batch_size=22, verbose=0)
    got = trainer(rbm).evaluate(OneBatch((EXAMPLES, *rest)), verbose=0)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("rest", [(None, np.ones(21)), (np.zeros(21, int),)], ids=["weights", "y"])
def test_parts_of_a_batch_have_one_length(rest):
    model = WakeSleep(labeled_network()) if rest[0] is not None else trainer(machine())
    model.compile()
    before = model.get_weights()
    with pytest.raises(
        REFUSED_WHEN_COMPILED, match=r"one label and one weight for each.*22, .*21,"
    ):
        model.fit(OneBatch((EXAMPLES, *rest)), verbose=0, shuffle=False)
    assert_same(before, model.get_weights())


W = np.ones(22)
NO_BATCHES = {
    "no images": ((None, None, W), r"`x` must give batches x, \(x, y\) or.*Received: 3 parts"),
    "no images, in a list": ([None, W], r"`x` must give batches.*Received: 2 parts"),
    "nothing": ([], r"`x` must give batches.*Received: 0 parts"),
    "four parts": ((EXAMPLES, None, W, W), r"`x` must give batches.*Received: 4 parts"),
    "sparse": ((sparse.csr_matrix(EXAMPLES), None, W), r"`x` must be dense.*Received: csr_matrix"),
    "one weight": (
        (EXAMPLES, None, np.float32(2)),
        r"one weight for each.*Received.*\(22, 4\), \(\)",
    ),
    "rows of weights": ((EXAMPLES, None, EXAMPLES), r"one weight for each.*Received.*\(22, 4\)\]"),
    "text": ((EXAMPLES, None, np.full(22, "a")), r"`sample_weight` must be an array of real.*<U1"),
    "no example": ((EXAMPLES[:0], None, W[:0]), r"`x` must hold at least one example"),
    "no example, alone": (EXAMPLES[:0], r"`x` must hold at least one example"),
}


@pytest.mark.parametrize("stream", [lambda batch: (b for b in [batch]), OneBatch])
@pytest.mark.parametrize("batch, says", NO_BATCHES.values(), ids=NO_BATCHES)
def test_what_is_no_batch_is_named(rbm, batch, says, stream):
    model, before = trainer(rbm), rbm.get_weights()
    with pytest.raises(ValueError, match=says):
        model.fit(stream(batch), verbose=0, shuffle=False)
    assert_same(before, rbm.get_weights())


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(
    "batch",
    [
        (EXAMPLES.tolist(), None, W),
        (EXAMPLES, None, W.tolist()),
        EXAMPLES,
        ops.convert_to_tensor(EXAMPLES),
    ],
    ids=["lists of x", "lists of weights", "an array", "a tensor"],
)
def test_batches_may_be_lists_or_what_is_no_tuple(rbm, batch):
    expected = trainer(rbm).evaluate(EXAMPLES, batch_size=22, verbose=0)
    for stream in ((b for b in [batch]), OneBatch(batch)):
        np.testing.assert_allclose(trainer(rbm).evaluate(stream, verbose=0), expected, rtol=1e-5)


@only_tensorflow
def test_an_update_that_failed_may_be_counted():
    """The check of the weights stops it, but not the count of updates beside it."""
    model = trainer(machine())
    with pytest.raises(REFUSED_WHEN_COMPILED) as error:
        model.fit(OneBatch((EXAMPLES, None, -W)), verbose=0, shuffle=False)
    updates = int(model.optimizer.iterations)
    assert error.value.__notes__[0].endswith(f"after {updates} updates in all, or one less.")


@pytest.mark.parametrize("width", [2, 5])
@pytest.mark.parametrize("units", [Categorical(3), Beside(Bernoulli(), Categorical(3), 3)])
@pytest.mark.parametrize("model", [ContrastiveDivergence, IncompleteContrastiveDivergence])
def test_a_width_that_units_cannot_have_is_said(units, width, model):
    rbm = RBM(3, visible_units=units, seed=0)
    x = np.zeros((4, width), "float32")
    if isinstance(units, Beside):
        x = x[:, :3]
    says = "must be a multiple of the 3 classes|must be units beside the 3 of"
    with pytest.raises(ValueError, match=says):
        made = model(rbm)
        made.compile()
        made.fit(x, verbose=0)
    with pytest.raises(ValueError, match=says):
        train_rbm(rbm, x, verbose=0)
    assert not rbm.built
