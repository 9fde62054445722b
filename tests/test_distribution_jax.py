"""Training on two devices of JAX that share a processor, in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import only_tensorflow
from expected_step import standard_scores

pytestmark = [pytest.mark.slow, only_tensorflow]  # once: the processes choose their own backend
TWO_DEVICES = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
TRAIN = """
import json

import jax
import keras
import numpy as np
from expected_step import EXAMPLES
from machines import machine

from rbm_tutorial import ContrastiveDivergence

rows_of_a_device = []


class Watched(ContrastiveDivergence):
    def batch_loss(self, x, *args):
        def note(sharding):
            rows_of_a_device.append(sharding.shard_shape(x.shape)[0])

        jax.debug.inspect_array_sharding(x, callback=note)
        return super().batch_loss(x, *args)


def trained(x, batch_size, rate, seed=0, epochs=1, **options):
    keras.utils.set_random_seed(seed)
    model = Watched(machine(), **options)
    model.compile(keras.optimizers.SGD(rate))
    model.build((None, 4))
    model.rbm.seed_generator.state.assign([seed, 0])
    before = model.rbm.get_weights()
    model.fit(x, batch_size=batch_size, epochs=epochs, verbose=0)
    change = [new - old for old, new in zip(before, model.rbm.get_weights())]
    return model, [c.tolist() for c in change]


few, many = np.repeat(EXAMPLES, 4, axis=0), np.repeat(EXAMPLES, 20_000, axis=0)
options = {"persistent_chains": 6, "centered": True, "epochs": 3}
reply = {"one device": trained(few, 8, 0.1, **options)[1]}
keras.distribution.set_distribution(keras.distribution.DataParallel())
rows_of_a_device.clear()
reply["two devices"] = trained(few, 8, 0.1, **options)[1]
reply["rows of a device"] = rows_of_a_device[-1]
reply["another seed"] = trained(few, 8, 0.1, seed=1, **options)[1]
model, reply["step"] = trained(many, len(many), 1.0)
shards = model.rbm.w_rec.value.addressable_shards
reply["weights"] = [np.asarray(shard.data).tolist() for shard in shards]
print(json.dumps(reply))
"""


def lines_of(code):
    """What `code` prints where there are two devices; it can import what tests import."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **TWO_DEVICES, "PYTHONPATH": paths}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def reply():
    return json.loads(lines_of(TRAIN)[-1])


def test_two_devices_make_the_step_that_is_expected_of_the_whole_batch(reply):
    """Were it the sum over the devices, or that of half the batch, it would be far outside."""
    change = [np.array(c) for c in reply["step"]]
    assert standard_scores(change, 80_000).max() < 5
    assert standard_scores([2 * c for c in change], 80_000).max() > 20


def test_two_devices_hold_the_same_weights_and_half_of_a_batch_each(reply):
    first, second = reply["weights"]
    assert np.shape(first) == (4, 3)
    assert first == second
    assert reply["rows of a device"] == 4


def test_two_devices_learn_what_one_learns(reply):
    """So each row of a batch has noise of its own, and each chain, wherever it is drawn."""
    one, two, other = (
        np.concatenate([np.ravel(c) for c in reply[name]])
        for name in ("one device", "two devices", "another seed")
    )
    np.testing.assert_allclose(two, one, atol=1e-5)
    assert abs(other - one).max() > 1e-3


PARALLEL = """
import keras, numpy as np
from rbm_tutorial import RBM, ContrastiveDivergence

keras.distribution.set_distribution(DISTRIBUTION)
x = np.random.default_rng(0).integers(0, 2, (24, 4)).astype("float32")
model = ContrastiveDivergence(RBM(3, 4, seed=0))
model.compile()
model.fit(x, batch_size=8, validation_data=x[:6], validation_batch_size=4, verbose=0)
result = model.evaluate(x, batch_size=16, verbose=0, return_dict=True)
print(result["reconstruction_cost"] - float(model.rbm.reconstruction_cost(x)))
model.predict(x[:2], verbose=0)
model.train_on_batch(x[:6])
for data, size in [(x, 7), (x[:23], 8), (x[:5], 32)]:
    for method in (model.fit, model.evaluate, model.predict):
        try:
            method(data, batch_size=size, verbose=0)
        except ValueError as error:
            print(error)
for method in (model.train_on_batch, model.test_on_batch, model.predict_on_batch):
    try:
        method(x[:7])
    except ValueError as error:
        print(error)
try:
    model.fit(x, batch_size=8, validation_data=x[:7], verbose=0)
except ValueError as error:
    print(error)


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return x[:7]


before = model.rbm.get_weights()
for method in (model.fit, model.evaluate, model.predict):
    try:
        method(Batches(), verbose=0)
    except ValueError as error:
        print(error)
for old, new in zip(before, model.rbm.get_weights()):
    np.testing.assert_array_equal(old, new)
"""


BATCH_AXIS_LAST = """keras.distribution.ModelParallel(
    layout_map=keras.distribution.LayoutMap(
        keras.distribution.DeviceMesh((1, 2), ("model", "batch"), keras.distribution.list_devices())
    ),
    batch_dim_name="batch",
)"""


@pytest.mark.parametrize(
    "distribution", ["keras.distribution.DataParallel()", BATCH_AXIS_LAST], ids=["data", "mesh"]
)
def test_batches_that_devices_do_not_divide_are_refused_with_the_sizes_that_work(
    distribution,
):
    difference, *errors = lines_of(PARALLEL.replace("DISTRIBUTION", distribution))
    assert abs(float(difference)) < 1e-4
    assert len(errors) == 16
    says = "must be multiples of 2, the number of devices. Received: batch_size=7 and 24 examples"
    assert says in errors[0]
    assert all("must be multiples of 2" in error for error in errors[:13])
    assert all("multiples of 2, the number of devices" in error for error in errors[13:])
    assert all("Received a batch of 7" in error for error in errors[13:])
