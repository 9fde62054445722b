"""Learning rates that fall to 0: their values, learning by them, and saving."""

import json
from fractions import Fraction

import keras
import numpy as np
import pytest
from machines import machine, parameters_of
from trained import trainer

from rbm_tutorial.training import linear_decay


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (0.0, [0.2, 0.15, 0.1, 0.05, 0.0, 0.0]),
        (0.25, [0.2, 0.2, 0.2 * 2 / 3, 0.2 / 3, 0.0, 0.0]),
        (0.5, [0.2, 0.2, 0.2, 0.1, 0.0, 0.0]),
    ],
)
def test_the_rate_is_held_and_then_falls_in_a_line_to_zero_where_it_stays(held, expected):
    schedule = linear_decay(0.2, 100, held)
    rates = [float(schedule(update)) for update in (0, 25, 50, 75, 100, 500)]
    assert rates == pytest.approx(expected, abs=1e-7)


def test_without_a_share_to_hold_the_rate_falls_from_the_first_update_on():
    schedule = linear_decay(0.2, 100)
    assert [float(schedule(update)) for update in (0, 50)] == pytest.approx([0.2, 0.1])


@pytest.mark.parametrize("updates", [1, 11_000, 10**6, 2**31, 10**30])
def test_a_held_rate_is_as_exact_as_single_precision(updates):
    schedule = linear_decay(0.1, updates, 0.5)
    assert float(schedule(0)) == np.float32(0.1)
    for update in (updates * 3 // 4, updates - updates // 1000 - 1):
        if update < 2**24:  # whole numbers above are rounded
            expected = 0.1 * min(1, 2 * (1 - Fraction(update, updates)))
            assert float(schedule(update)) == pytest.approx(expected, rel=3e-7)


@pytest.mark.parametrize("held", [0.0, 0.5])
def test_numbers_of_numpy_give_the_same_rate_and_a_configuration_that_is_json(held):
    of_numpy = linear_decay(np.float64(0.1), np.int64(20), np.float32(held))
    plain = linear_decay(0.1, 20, held)
    assert float(of_numpy(7)) == float(plain(7))
    assert json.dumps(of_numpy.get_config()) == json.dumps(plain.get_config())


@pytest.mark.parametrize("held", [0.0, 0.5])
def test_once_the_rate_has_decayed_nothing_is_learned_anymore(batch, held):
    model = trainer(machine(), keras.optimizers.SGD(linear_decay(0.2, 3, held)))
    changes, before = [], parameters_of(model.rbm)
    for _ in range(5):
        model.fit(batch, verbose=0)
        now = parameters_of(model.rbm)
        changes.append(max(abs(new - old).max() for old, new in zip(before, now)))
        before = now
    assert min(changes[:3]) > 0
    assert changes[3:] == [0, 0]


def test_a_held_rate_is_saved_with_its_model(batch, tmp_path):
    model = trainer(machine(), keras.optimizers.SGD(linear_decay(0.2, 8, 0.5)))
    model.fit(batch, epochs=5, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.learning_rate) == float(model.optimizer.learning_rate)
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.2 * 3 / 4, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("rate", (0.0, 10)),
        ("rate", (-0.1, 10)),
        ("rate", (float("nan"), 10)),
        ("rate", (float("inf"), 10)),
        ("rate", (True, 10)),
        ("rate", (1e-50, 10, 0.5)),  # 0 in single precision
        ("rate", (1e39, 10, 0.5)),  # and infinite
        ("updates", (0.1, 0)),
        ("updates", (0.1, 2.5)),
        ("updates", (0.1, True)),
        ("held", (0.1, 10, 1.0)),
        ("held", (0.1, 10, -0.1)),
        ("held", (0.1, 10, True)),
        ("held", (0.1, 10, float("nan"))),
        ("held", (0.1, 10, "half")),
    ],
    ids=str,
)
def test_numbers_that_cannot_be_are_named(name, numbers):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        linear_decay(*numbers)
