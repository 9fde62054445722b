"""Files appear whole or not at all, and a run that was killed goes on as if it had not been."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from machines import machine
from networks import untraced
from trained import EXAMPLES, assert_equal_weights, trainer

from rbm_tutorial import ContrastiveDivergence, train_rbm
from rbm_tutorial.recovery import Backup, state_of

pytestmark = pytest.mark.usefixtures(untraced.__name__)
FIT = {"batch_size": 11, "verbose": 0, "shuffle": False, "epochs": 4}


class Killed(BaseException):
    """In place of a signal: nothing may catch it."""


def model_with_chains():
    model = trainer(machine(), keras.optimizers.Adam(), persistent_chains=5)
    model.build((None, 4))
    return model


def killed_at(epoch):
    def stop(number, logs=None):
        if number == epoch:
            raise Killed

    return keras.callbacks.LambdaCallback(on_epoch_begin=stop)


def run_until(epoch, folder):
    with pytest.raises(Killed):
        model_with_chains().fit(EXAMPLES, callbacks=[Backup(folder), killed_at(epoch)], **FIT)


@functools.cache
def uninterrupted():
    model = model_with_chains()
    model.fit(EXAMPLES, **FIT)
    return model


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_run_goes_on_after_the_last_epoch_that_ended(tmp_path, epoch):
    run_until(epoch, tmp_path / "run")
    resumed = model_with_chains()
    history = resumed.fit(EXAMPLES, callbacks=[Backup(tmp_path / "run")], **FIT)
    assert history.epoch == list(range(epoch, 4))
    assert_equal_weights(uninterrupted(), resumed)


def test_a_finished_run_stays_finished(tmp_path):
    model = model_with_chains()
    model.fit(EXAMPLES, callbacks=[Backup(tmp_path)], **FIT)
    again = model_with_chains()
    assert again.fit(EXAMPLES, callbacks=[Backup(tmp_path)], **FIT).epoch == []
    assert_equal_weights(model, again)


def test_of_the_states_only_the_last_is_kept(tmp_path):
    model_with_chains().fit(EXAMPLES, callbacks=[Backup(tmp_path)], **FIT)
    assert [path.name for path in tmp_path.iterdir()] == ["after-4"]


def test_what_a_killed_process_left_unfinished_is_not_read(tmp_path):
    run_until(2, tmp_path)
    (tmp_path / ".unfinished-state-abc" / "state").mkdir(parents=True)
    (tmp_path / ".unfinished-state-abc" / "state" / "latest.weights.h5").write_bytes(b"half a file")
    resumed = model_with_chains()
    resumed.fit(EXAMPLES, callbacks=[Backup(tmp_path)], **FIT)
    assert_equal_weights(uninterrupted(), resumed)


def test_two_states_are_there_only_if_the_older_one_was_about_to_go(tmp_path):
    run_until(2, tmp_path / "run")
    run_until(3, tmp_path / "other")
    (tmp_path / "other" / "after-3").rename(tmp_path / "run" / "after-3")
    resumed = model_with_chains()
    assert resumed.fit(EXAMPLES, callbacks=[Backup(tmp_path / "run")], **FIT).epoch == [3]
    assert_equal_weights(uninterrupted(), resumed)


def test_two_runs_in_one_folder_do_not_spoil_each_other(tmp_path):
    """The one that comes second to write is stopped, and the other's last state stays whole."""
    first, second = model_with_chains(), model_with_chains()

    def other_run(epoch, logs=None):
        if epoch == 1:
            first.fit(EXAMPLES, callbacks=[Backup(tmp_path)], **FIT)

    start = keras.callbacks.LambdaCallback(on_epoch_begin=other_run)
    with pytest.raises(ValueError, match=r"`folder` must be that of one run.*Received"):
        second.fit(EXAMPLES, callbacks=[start, Backup(tmp_path)], **FIT)
    assert [path.name for path in tmp_path.iterdir()] == ["after-4"]
    resumed = model_with_chains()
    resumed.fit(EXAMPLES, callbacks=[Backup(tmp_path)], **FIT)
    assert_equal_weights(first, resumed)


def test_the_tenth_epoch_comes_after_the_ninth(tmp_path):
    for name in ("after-9", "after-10", "after-2"):
        (tmp_path / name).mkdir()
    assert [path.name[6:] for path in Backup(tmp_path).epochs()] == ["2", "9", "10"]


def test_what_is_no_state_is_left_alone(tmp_path):
    for name in ("1", "2024", "after-all"):
        (tmp_path / name).mkdir()
    model = model_with_chains()
    assert model.fit(EXAMPLES, callbacks=[Backup(tmp_path)], **FIT).epoch == [0, 1, 2, 3]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["1", "2024", "after-4", "after-all"]


def test_a_later_run_of_a_resumed_model_begins_at_its_beginning(tmp_path):
    """Keras would begin it, too, after the epochs that were there when it was resumed."""
    run_until(3, tmp_path)
    model = model_with_chains()
    model.fit(EXAMPLES, callbacks=[Backup(tmp_path)], **FIT)
    assert model.fit(EXAMPLES, **FIT).epoch == [0, 1, 2, 3]


@pytest.mark.parametrize("save", ["save", "save_weights"])
def test_a_model_that_is_killed_while_it_is_saved_leaves_the_file_before(
    tmp_path, monkeypatch, save
):
    model = model_with_chains()
    path = tmp_path / ("model.keras" if save == "save" else "model.weights.h5")
    getattr(model, save)(path)
    kept = path.read_bytes()
    model.fit(EXAMPLES, **FIT)

    def half(self, file, *args, **kwargs):
        file.write_bytes(b"half a file")
        raise Killed

    monkeypatch.setattr(keras.Model, save, half)
    with pytest.raises(Killed):
        getattr(model, save)(path)
    assert path.read_bytes() == kept
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["model.keras", "deep/er/model.weights.h5"])
def test_what_was_saved_is_loaded(tmp_path, name):
    model, path = model_with_chains(), tmp_path / name
    model.fit(EXAMPLES, **FIT)
    if name.endswith(".keras"):
        model.save(path)
        loaded = keras.models.load_model(path)
    else:
        model.save_weights(path)
        loaded = model_with_chains()
        loaded.optimizer.build(loaded.trainable_variables)
        loaded.load_weights(path)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_keras_callbacks_save_through_it(tmp_path):
    keep = keras.callbacks.ModelCheckpoint(tmp_path / "best.keras")
    model_with_chains().fit(EXAMPLES, callbacks=[keep], **FIT)
    assert [file.name for file in tmp_path.iterdir()] == ["best.keras"]


def test_weights_in_several_files_are_loaded(tmp_path):
    model, other = model_with_chains(), model_with_chains()
    for each in (model, other):
        each.optimizer.build(each.trainable_variables)
    model.fit(EXAMPLES, **FIT)
    model.save_weights(tmp_path / "model.weights.json", max_shard_size=1)
    other.load_weights(tmp_path / "model.weights.json")
    assert_equal_weights(model, other)


def interrupted_at(epoch):
    """What Python does at Ctrl-C, after the updates of an epoch."""
    at = {}

    def press(batch, logs=None):
        if at["epoch"] == epoch:
            raise KeyboardInterrupt

    return keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda number, logs: at.update(epoch=number), on_train_batch_end=press
    )


@pytest.mark.parametrize("backup", [False, True])
def test_ctrl_c_leaves_usable_weights_and_says_where_training_stopped(tmp_path, backup):
    """Those of the last execution, which here ends with the epoch, on JAX of the epoch before."""
    model = model_with_chains()
    callbacks = [Backup(tmp_path)] if backup else []
    with pytest.raises(KeyboardInterrupt) as error:
        model.fit(EXAMPLES, callbacks=[*callbacks, interrupted_at(2)], **FIT)
    updates = int(model.optimizer.iterations)
    assert updates == (4 if keras.backend.backend() == "jax" else 6)
    assert error.value.__notes__ == [
        f"Training stopped in epoch 3 of 4. The weights are those after {updates} updates in all."
    ]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert np.isfinite(model.evaluate(EXAMPLES, verbose=0)).all()
    if backup:
        model.fit(EXAMPLES, callbacks=callbacks, **FIT)
        assert_equal_weights(uninterrupted(), model)
    else:
        assert model.fit(EXAMPLES, **FIT).epoch == [0, 1, 2, 3]


def test_ctrl_c_in_the_loop_of_the_source_does_the_same():
    rbm = machine()
    before = rbm.get_weights()
    with pytest.raises(KeyboardInterrupt) as error:
        train_rbm(rbm, EXAMPLES, batch_size=11, verbose=0, callbacks=[interrupted_at(1)])
    assert "stopped in epoch 2 of 1000" in error.value.__notes__[0]
    for weight, old in zip(rbm.get_weights(), before):
        assert np.isfinite(weight).all()
        assert np.any(weight != old)


def test_what_goes_wrong_before_training_says_no_place():
    with pytest.raises(ValueError, match="must lie in") as error:
        model_with_chains().fit(2 * EXAMPLES, **FIT)
    assert not hasattr(error.value, "__notes__")


def test_what_goes_wrong_in_validation_says_so():
    """The checks of a data set speak of `x`, whichever it is."""
    bad = tf.data.Dataset.from_tensor_slices(np.concatenate([EXAMPLES, 2 * EXAMPLES])).batch(11)
    fit = {"x": EXAMPLES, "validation_data": bad, **FIT}
    with pytest.raises(Exception) as error:
        model_with_chains().fit(**fit)
    notes = error.value.__notes__
    assert [note for note in notes if note == "It was `validation_data` that was read."]
    assert [note for note in notes if "stopped in epoch 1 of 4" in note]
    with pytest.raises(Exception) as error:
        model_with_chains().fit(bad, **FIT)
    assert not [note for note in error.value.__notes__ if "validation" in note]


def stop(self, *args, **kwargs):
    next(iter(()))


HOOKS = {
    "fit": ["on_train_batch_begin", "on_train_batch_end", "on_epoch_begin", "on_epoch_end"],
    "evaluate": ["on_test_batch_end", "on_test_end"],
    "predict": ["on_predict_batch_end"],
}


@pytest.mark.parametrize("method", HOOKS)
def test_a_callback_that_raises_stop_iteration_ends_nothing_as_if_all_were_well(method):
    """Keras takes it for the end of the data. The callbacks are left as they were."""
    model = trainer(machine())
    for hook in HOOKS[method]:
        derived = type("Stopping", (keras.callbacks.Callback,), {hook: stop})()
        patched = keras.callbacks.Callback()
        setattr(patched, hook, functools.partial(stop, patched))
        for callback in (derived, patched):
            before = vars(callback).get(hook)
            with pytest.raises(RuntimeError, match=rf"`callbacks` must not .*Received.* {hook} of"):
                getattr(model, method)(EXAMPLES, verbose=0, callbacks=[callback])
            assert vars(callback).get(hook) is before


# ---------------------------------------------------------------- processes that are killed


ROOT = Path(__file__).parent.parent
KINDS = "centered", "live"  # which keep chains, offsets, averages and a random state beside weights


@pytest.mark.slow
def test_a_process_that_was_killed_goes_on_bit_for_bit(tmp_path):
    """And one that goes on with another order of examples does not.

    `experiments/killed.py` kills each kind of training at twenty moments; here it is two at one.
    """
    path = tmp_path / "report.json"
    command = [sys.executable, "experiments/killed.py", "--eagerly", "--moments", "1"]
    command += ["--epochs", "10", "--to", path, "--kinds", *KINDS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text(encoding="utf-8"))["kinds"]
    assert [(report[kind]["equal"], report[kind]["twins_equal"]) for kind in KINDS] == [(1, 0)] * 2


def model_of(units=(4, 3), chains=5, **kwargs):
    model = ContrastiveDivergence(machine(*units), chains, **kwargs)
    model.compile("adam")
    model.fit(EXAMPLES[:, : units[0]] if units[0] < 5 else EXAMPLES[:, [0, 1, 2, 3, 0]], **FIT)
    return model


@pytest.mark.parametrize(
    "other",
    [{"units": (5, 3)}, {"units": (4, 2)}, {"chains": 6}, {"centered": True}],
    ids=str,
)
def test_a_file_of_another_model_is_named_and_nothing_of_it_is_loaded(tmp_path, other):
    model_of().save_weights(tmp_path / "some.weights.h5")
    model = model_of(**other)
    before = [np.array(v) for v in state_of(model)]
    with pytest.raises(ValueError, match=r"`filepath` must .* none were loaded.*Received.*some"):
        model.load_weights(tmp_path / "some.weights.h5")
    for old, new in zip(before, state_of(model), strict=True):
        np.testing.assert_array_equal(old, new)
