"""Numbers and figures of a stored result are those that were measured."""

import itertools

import matplotlib.pyplot as plt
import pytest
from matplotlib.container import BarContainer

from rbm_tutorial.results import stored_result
from rbm_tutorial.timings import ours_and_limit, ratio, step_figure, times_of, training_figure

CELLS = [  # contender, algorithm, hidden units, batch, median
    ("fit", "CD-1", 500, 32, 1.0),
    ("fit", "PCD-1", 500, 32, 2.0),
    ("fit", "CD-1", 2000, 32, 3.0),
    ("scikit-learn", "PCD-1", 500, 32, 4.0),
    ("products, TensorFlow", "CD-1", 500, 32, 0.5),
]
RESULT = {
    "training": [
        {"contender": name, "algorithm": algorithm, "hidden": hidden, "batch": batch, "ms": ms}
        for name, algorithm, hidden, batch, ms in CELLS
    ]
}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def test_times_are_those_of_one_algorithm_and_size():
    """Whoever was not asked for CD-1 is there with PCD-1; of PCD-1 the limit is that of CD-1."""
    assert times_of(RESULT, 500) == {
        ("fit", 32): 1.0, ("scikit-learn", 32): 4.0, ("products, TensorFlow", 32): 0.5,
    }  # fmt: skip
    assert times_of(RESULT, 500, "PCD-1") == {
        ("fit", 32): 2.0, ("scikit-learn", 32): 4.0, ("products, TensorFlow", 32): 0.5,
    }  # fmt: skip
    assert times_of(RESULT, 2000) == {("fit", 32): 3.0}


def test_ratios_are_taken_round_by_round():
    """The ratio of the medians would be 1."""
    assert ratio({"values": [1.0, 2.0, 6.0]}, {"values": [2.0, 1.0, 3.0]}) == 2.0


def test_on_an_accelerator_all_is_on_jax():
    assert ours_and_limit(RESULT) == ("fit", "products, TensorFlow")
    assert ours_and_limit({"accelerator": "a card"}) == ("fit on JAX", "products, JAX")


def test_draws_a_line_for_each_contender_through_its_medians():
    result = stored_result("bench_Intel_Xeon_2_threads")
    ax = training_figure(result)
    times = times_of(result, 500)
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert {"fit", "scikit-learn", "products, TensorFlow"} <= lines.keys()
    for name, line in lines.items():
        expected = sorted((batch, ms["median"]) for (n, batch), ms in times.items() if n == name)
        assert list(zip(line.get_xdata(), line.get_ydata())) == expected
    assert "batch" in ax.get_xlabel() and "(ms)" in ax.get_ylabel()


def test_parts_of_a_step_lie_end_to_end_above_the_whole():
    result = stored_result("bench_Intel_Xeon_2_threads")
    ax = step_figure(result)
    bars = [bar for bar in ax.containers if isinstance(bar, BarContainer)]
    *parts, whole = [bar.patches[0] for bar in bars]
    for part, after in itertools.pairwise(parts):
        assert after.get_x() == pytest.approx(part.get_x() + part.get_width())
    assert whole.get_width() == result["parts"]["fit_ms"]["median"]
    assert len(parts) == len(result["parts"]["ms"])
