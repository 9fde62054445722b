"""`fit` of arrays does not leave them to Keras, but gives the batches that Keras would give."""

import keras
import numpy as np
import pytest
from conftest import only_tensorflow
from machines import machine
from networks import labeled_network
from trained import EXAMPLES, assert_equal_weights, trainer

from rbm_tutorial import WakeSleep, pipelines
from rbm_tutorial.fit_arguments import checked_loop
from rbm_tutorial.keras_fit import FastFit

ROWS = np.arange(22.0, dtype="float32")[:, None] / 22
LABELS = np.arange(22) % 4
WEIGHTS = np.arange(22, dtype="float32") / 4
BY_CLASS = {0: 0.25, 2: 3.0}
ASKED = {
    "nothing": {},
    "weights": {"sample_weight": WEIGHTS},
    "weights of classes": {"class_weight": BY_CLASS},
    "a share for validation": {"validation_split": 0.3},
    "that share of what is weighted": {"validation_split": 0.3, "sample_weight": WEIGHTS},
    "that share and weights of classes": {"validation_split": 0.3, "class_weight": BY_CLASS},
    "validation data": {"validation_split": 0.3, "validation_data": (ROWS[:5], LABELS[:5])},
    "steps": {"steps_per_epoch": 3},
    "a step for all that is held out": {
        "steps_per_epoch": 3,
        "validation_data": (ROWS, LABELS),
        "validation_steps": 1,
    },
    "fewer steps than batches": {"steps_per_epoch": 2, "batch_size": 4},
}


class ByKeras(keras.Model):
    """Keeps what Keras' own `fit` gives it."""

    def __init__(self):
        super().__init__()
        self.seen = {True: [], False: []}

    def train_step(self, batch):
        self.seen[True].append(batch)
        return {"loss": 0.0}

    def test_step(self, batch):
        self.seen[False].append(batch)
        return {"loss": 0.0}


class ByOurs(FastFit):
    """Keeps what `FastFit` gives it."""

    labeled = True

    def __init__(self):
        super().__init__()
        self.seen = {True: [], False: []}
        self.mean = self.add_weight(shape=(1,), name="mean")

    def call(self, x):
        return x

    def check(self, x, y=None, learns=True):
        pass

    def batch_loss(self, x, y, y_pred, weights, training):
        self.seen[training].append((x, y) if weights is None else (x, y, weights))
        return keras.ops.sum(self.mean)


def given(model, asked):
    """Training and validation batches of two epochs: lists of arrays."""
    model.compile("sgd", run_eagerly=True, steps_per_execution=1)
    size = None if "validation_steps" in asked else 8
    keras.utils.set_random_seed(3)
    model.fit(ROWS, LABELS, epochs=2, verbose=0, **{"batch_size": size, **asked})
    return [[np.asarray(part) for part in batch] for kind in (True, False)
            for batch in model.seen[kind]]  # fmt: skip


@only_tensorflow
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("shuffle", [True, False, "batch"])
def test_batches_are_those_of_keras(asked, shuffle):
    asked = {**asked, "shuffle": shuffle}
    for ours, theirs in zip(given(ByOurs(), asked), given(ByKeras(), asked), strict=True):
        for part, wanted in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(part, wanted)


@only_tensorflow
@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
def test_no_array_is_tuned_while_it_trains(asked, monkeypatch):
    """Every third epoch or so took twice as long on two cores while TensorFlow tuned."""
    batched, shuffled = [], pipelines.shuffled_batches
    monkeypatch.setattr(
        pipelines, "shuffled_batches", lambda *args: batched.append(shuffled(*args)) or batched[0]
    )
    given(ByOurs(), asked)
    assert [data.options().autotune.enabled for data in batched] == [False]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_share_for_validation_is_the_last_one(weights):
    both = [trainer(machine()) for _ in range(2)]
    apart = [EXAMPLES[:15], None if weights is None else weights[:15]]
    apart.append((EXAMPLES[15:], None, *([] if weights is None else [weights[15:]])))
    histories = []
    for model, (x, sample_weight, held_out) in zip(both, [(EXAMPLES, weights, None), apart]):
        asked = {"validation_data": held_out} if held_out else {"validation_split": 0.3}
        keras.utils.set_random_seed(3)
        run = model.fit(x, sample_weight=sample_weight, epochs=2, verbose=0, **asked)
        histories.append(run.history)
    assert histories[0] == histories[1]
    assert "val_loss" in histories[0]
    assert_equal_weights(*(model.rbm for model in both))


def test_weights_of_classes_do_not_weigh_what_is_held_out():
    history = []
    for by_class in (None, {0: 5.0, 1: 5.0, 2: 5.0, 3: 5.0}):
        model = WakeSleep(labeled_network())
        model.compile(keras.optimizers.SGD(0.1))
        asked = {"class_weight": by_class, "validation_split": 0.3, "shuffle": False}
        history.append(model.fit(EXAMPLES, LABELS, verbose=0, **asked).history)
    for name, values in history[0].items():
        np.testing.assert_allclose(history[1][name], values, rtol=1e-5)


@pytest.mark.parametrize("share", [1e-20, 0.99])
def test_a_share_that_leaves_nothing_is_refused(share):
    with pytest.raises(ValueError, match=r"`validation_split` must leave.*Received: .* of 22"):
        trainer(machine()).fit(EXAMPLES, validation_split=share, verbose=0)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"class_weight": [1.0, 2.0]}, r"`class_weight` must be a dictionary.*\[1.0, 2.0\]"),
        ({"class_weight": {"0": 1.0}}, r"`class_weight` must be a dictionary.*'0'"),
        ({"class_weight": {0: "1"}}, r"`class_weight` must be a dictionary.*'1'"),
        ({"class_weight": {0: -1.0}}, r"`class_weight` must be finite and at least 0"),
        ({"class_weight": BY_CLASS, "sample_weight": WEIGHTS}, "at the same time"),
    ],
)
def test_weights_of_classes_that_are_none_are_refused(asked, said):
    model = WakeSleep(labeled_network())
    model.compile()
    before = model.get_weights()
    with pytest.raises(ValueError, match=said):
        model.fit(EXAMPLES, LABELS, verbose=0, **asked)
    for weight, now in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(now, weight)


def test_arguments_of_data_sets_and_generators_stay():
    for x in (iter([EXAMPLES]), None):
        asked = {"x": x, "validation_split": 0.5, "class_weight": BY_CLASS}
        assert checked_loop(asked) == asked
