"""Training on two JAX devices that share a processor, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import only_tensorflow
from expected_step import standard_scores

pytestmark = [pytest.mark.slow, only_tensorflow]  # once is enough: the backend is the process's own
HERE = Path(__file__).parent
WORKER = """
import json

import keras
import numpy as np
from expected_step import EXAMPLES
from machines import machine

from rbm_tutorial import ContrastiveDivergence


def trained(x, batch_size, rate, seed=0, **options):
    keras.utils.set_random_seed(seed)
    model = ContrastiveDivergence(machine(), **options)
    model.compile(keras.optimizers.SGD(rate))
    model.build((None, 4))
    model.rbm.seed_generator.state.assign([seed, 0])
    before = model.rbm.get_weights()
    model.fit(x, batch_size=batch_size, epochs=3 if rate < 1 else 1, verbose=0)
    return model, [new - old for old, new in zip(before, model.rbm.get_weights())]


def changes(**options):
    return [change.tolist() for change in trained(few, 8, 0.1, **options)[1]]


few, many = np.repeat(EXAMPLES, 4, axis=0), np.repeat(EXAMPLES, 20_000, axis=0)
options = {"persistent_chains": 6, "centered": True}
reply = {"one device": changes(**options)}
keras.distribution.set_distribution(keras.distribution.DataParallel())
reply["two devices"], reply["another seed"] = changes(**options), changes(seed=1, **options)
model, change = trained(many, len(many), 1.0)
reply["step"] = [c.tolist() for c in change]
shards = model.rbm.w_rec.value.addressable_shards
reply["weights"] = [np.asarray(shard.data).tolist() for shard in shards]
print(json.dumps(reply))
"""


@pytest.fixture(scope="module")
def reply():
    paths = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    two = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    command = [sys.executable, "-c", WORKER]
    environment = {**os.environ, **two, "PYTHONPATH": paths}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_two_devices_make_the_step_that_is_expected_of_the_whole_batch(reply):
    """Were it the sum over the devices, or that of half the batch, it would be far outside."""
    change = [np.array(c) for c in reply["step"]]
    assert standard_scores(change, 80_000).max() < 5
    assert standard_scores([2 * c for c in change], 80_000).max() > 20


def test_two_devices_hold_the_same_weights(reply):
    first, second = reply["weights"]
    assert np.shape(first) == (4, 3)
    assert first == second


def test_two_devices_learn_what_one_learns(reply):
    """So each row of a batch has noise of its own, and each chain, wherever it is drawn."""
    one, two, other = (
        np.concatenate([np.ravel(c) for c in reply[name]])
        for name in ("one device", "two devices", "another seed")
    )
    np.testing.assert_allclose(two, one, atol=1e-5)
    assert abs(other - one).max() > 1e-3
