"""Training on two devices and by two workers of TensorFlow, each in processes of its own."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import only_tensorflow
from expected_step import standard_scores

pytestmark = [pytest.mark.slow, only_tensorflow]
WORKER = Path(__file__).parent / "replica_worker.py"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Of the processes of `replica_worker.py`."""
    command = [sys.executable, str(WORKER), str(tmp_path_factory.mktemp("backups"))]
    process = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


@pytest.fixture
def on_two_devices(outputs):
    return outputs["devices"]


def test_two_devices_make_the_step_that_is_expected_of_the_whole_batch(on_two_devices):
    """Were it the sum over the replicas, or that of half the batch, it would be far outside."""
    change = [np.array(c) for c in on_two_devices["change"]]
    assert standard_scores(change, 80_000).max() < 5
    assert standard_scores([2 * c for c in change], 80_000).max() > 20


def test_two_devices_end_with_the_same_weights_and_with_chains_of_their_own(on_two_devices):
    """The chains start equal, so that only noise of its own can give each replica others."""
    for first, second in on_two_devices["shared"]:
        assert first == second
    first, second = on_two_devices["chains"]
    assert np.shape(first) == (6, 4)
    assert first != second


def test_a_replica_without_examples_does_no_harm(on_two_devices):
    assert np.all(np.isfinite(on_two_devices["uneven"]))
    assert on_two_devices["evaluated"] == pytest.approx(on_two_devices["expected"], rel=1e-5)


def test_penalties_have_their_whole_gradient(on_two_devices):
    """Replicas share the list in which Keras keeps them."""
    assert on_two_devices["by_penalty"] < 1e-5


def test_what_fit_builds_outside_the_scope_belongs_to_the_replicas(on_two_devices):
    assert on_two_devices["built"] == {"chains": 2, "batches": 2.0}


def test_an_error_says_after_which_update_of_all_devices(on_two_devices):
    place = "Training stopped in epoch 1 of 1. The weights are those after 1 updates in all."
    assert on_two_devices["note"] == [place]


def test_weights_of_examples_count_among_all_replicas(on_two_devices):
    """Were each replica to divide by a sum of its own, it would be far from one replica."""
    ours, without_weights = on_two_devices["from_one_replica"]
    assert ours < 1e-5
    assert without_weights > 1e-2


def test_two_workers_do_what_two_devices_do(on_two_devices, outputs):
    """Weights, offsets, chains and reported means: the same numbers in either arrangement."""
    for index, worker in enumerate(outputs["workers"]):
        for ours, theirs in zip(worker["change"], on_two_devices["change"], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
        for (ours,), theirs in zip(worker["shared"], on_two_devices["shared"], strict=True):
            np.testing.assert_allclose(ours, theirs[0], atol=1e-6)
        assert worker["chains"] == [on_two_devices["chains"][index]]
        assert worker["logs"] == pytest.approx(on_two_devices["logs"], rel=1e-5)


def test_workers_exchange_the_gradient_the_number_of_examples_and_one_report(outputs):
    """Keras would average three reported numbers after each update, by a sum and a count each."""
    for worker in outputs["workers"]:
        ours, keras_adds = worker["all_reduces"]
        assert (ours, keras_adds) == (3, 6)


def test_workers_are_told_the_same_whatever_the_number_of_updates_in_a_call(outputs):
    """Two for five batches and one for two; were they told others, one could stop by itself."""
    first, second = (worker["three"] for worker in outputs["workers"])
    assert first == second
    assert len(first["told"]) == 2
    assert sorted(first["told"][-1][1:]) == pytest.approx(sorted(first["history"]), rel=1e-4)
    assert first["updates"] == 5 + 2 + 1


def test_training_goes_on_after_a_worker_was_killed(outputs):
    """All restart and resume where the chief saved; the end is that of an uninterrupted run."""
    first, second = outputs["killed"]  # exit codes
    assert second == -signal.SIGKILL
    assert first > 0
    resumed, whole = outputs["resumed"], outputs["workers"]
    assert [worker["epochs"][0] for worker in resumed] == [5, 5]
    assert [worker["weights"] for worker in resumed] == [worker["weights"] for worker in whole]
