"""The generator of uniform numbers for XLA: the published cipher, and numbers without a pattern."""

import numpy as np
import pytest
from conftest import only_jax
from scipy import stats

from rbm_tutorial import threefry

KEY = np.array([20261, 128], "uint32")


@pytest.mark.parametrize(
    ("key", "counter", "expected"),
    [
        ([0, 0], [0, 0], [0x6B200159, 0x99BA4EFE]),
        ([0xFFFFFFFF] * 2, [0xFFFFFFFF] * 2, [0x1CB996FC, 0xBB002BE7]),
        ([0x13198A2E, 0x03707344], [0x243F6A88, 0x85A308D3], [0xC4923A9C, 0x483DF7A0]),
    ],
)
def test_the_cipher_gives_the_answers_that_its_authors_published(key, counter, expected):
    """The known answers of the library Random123 for threefry2x32 with 20 rounds."""
    words = threefry.threefry_2x32(*np.array([key, counter], "uint32")[:, :, None])
    assert [int(word[0]) for word in words] == expected


@only_jax
def test_the_cipher_is_the_one_of_jax():
    from jax.extend.random import threefry_2x32

    counters = np.random.default_rng(0).integers(0, 2**32, (2, 50), "uint32")
    expected = threefry_2x32(KEY, counters.ravel()).reshape(2, 50)
    np.testing.assert_array_equal(threefry.threefry_2x32(KEY[:, None], counters), expected)


def test_uniform_numbers_are_multiples_of_one_step_and_depend_on_no_shape():
    u = np.asarray(threefry.uniform((40, 50), KEY), "float64")
    assert np.all(u * 2**24 == np.round(u * 2**24))
    np.testing.assert_array_equal(u.ravel(), threefry.uniform((2000,), KEY))


def chi_squared(values, categories):
    counts = np.bincount(np.ravel(values), minlength=categories)
    return stats.chisquare(counts).pvalue


def failing(u):
    """Names of the tests that numbers (calls, rows, columns) fail at a level of 1e-4 each.

    Uniformity of the high and of the low bits, pairs of neighbors along each axis, each bit alone.
    """
    integers = (u * 2**24).astype("int64")
    p = {
        "high bits": chi_squared(integers >> 12, 4096),
        "low bits": chi_squared(integers & 4095, 4096),
        "each bit": min(
            stats.binomtest(int(np.sum(integers >> bit & 1)), u.size).pvalue * 24
            for bit in range(24)
        ),
    }
    for axis, name in enumerate(["calls", "rows", "columns"]):
        one, next_one = (np.take(integers, range(*ends), axis) >> 18 for ends in pairs(u, axis))
        p[f"neighbors along {name}"] = chi_squared(one * 64 + next_one, 4096)
    return [name for name, value in p.items() if value < 1e-4]


def pairs(u, axis):
    """The ranges of the first and of the second of two that follow each other, without overlap."""
    return (0, u.shape[axis] - 1, 2), (1, u.shape[axis], 2)


def test_numbers_show_no_pattern_along_calls_rows_or_columns():
    keys = np.stack([np.arange(32), np.zeros(32)], axis=1).astype("uint32")
    u = np.stack([np.asarray(threefry.uniform((100, 100), key)) for key in keys])
    assert failing(u.astype("float64")) == []


def test_weak_generators_fail():
    """The twin: a lattice fails along columns, equal calls along calls, half the bits."""
    rng = np.random.default_rng(0)
    u = np.floor(rng.random((32, 100, 100)) * 2**24) / 2**24
    assert failing(u) == []
    lattice = (np.arange(u.size) * 0.6180339887498949 % 1).reshape(u.shape)
    assert "neighbors along columns" in failing(lattice)
    assert "neighbors along calls" in failing(np.repeat(u[::2], 2, axis=0))
    assert "low bits" in failing(np.floor(u * 2**12) / 2**12)
    assert "each bit" in failing(np.floor(u * 2**23) / 2**23)
