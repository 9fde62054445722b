"""What is left when training goes wrong or is killed: whole files, and weights to go on with."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
from keras import ops

from rbm_tutorial.executions import errors_wait, learning_of
from rbm_tutorial.pipelines import ends_named


@contextlib.contextmanager
def written_whole(path, overwrite: bool = True):
    """Give a path beside `path` to write to, and rename what was written there to `path`.

    So a process that is killed while it writes leaves the file that was there before. Directories,
    remote files and those that may not be overwritten are written in place, as Keras does.
    """
    path = Path(path) if "://" not in str(path) else path
    if not isinstance(path, Path) or not path.suffix or path.is_dir() or not overwrite:
        yield path
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as folder:
        unfinished = Path(folder) / path.name
        yield unfinished
        os.replace(unfinished, path)


class WholeFiles(keras.Model):
    """A Keras model that saves by `written_whole`."""

    def save(self, filepath, overwrite=True, **kwargs):
        """Save the model as Keras does, but the file appears whole or not at all.

        What is saved into a folder (`zipped=False`) is written in place.
        """
        with written_whole(filepath, overwrite and kwargs.get("zipped") is not False) as path:
            super().save(path, overwrite, **kwargs)

    def save_weights(self, filepath, overwrite=True, **kwargs):
        """Save the weights as Keras does, but the file appears whole or not at all.

        Of several files (`max_shard_size`) each is written in place.
        """
        with written_whole(filepath, overwrite and not kwargs.get("max_shard_size")) as path:
            super().save_weights(path, overwrite, **kwargs)

    def load_weights(self, filepath, skip_mismatch=False, **kwargs):
        """Load weights as Keras does, but all that the model has or, without `skip_mismatch`, none.

        Raises: `ValueError` for those of a model of another size or kind.
        """
        kept = KeepState()
        kept.look_at(weights_of(self))
        try:
            super().load_weights(filepath, skip_mismatch=skip_mismatch, **kwargs)
        except BaseException as error:
            kept.put_back()
            if "could not be loaded" not in str(error):
                raise
            needed = {weight.path: tuple(weight.shape) for weight in self.weights}
            raise ValueError(
                "`filepath` must hold the weights of a model like this one, with as many units and "
                f"chains; none were loaded. Needed: {needed}. Received: {filepath}"
            ) from error


class Backup(keras.callbacks.Callback):
    """Store the state of training after every epoch in `folder`, and go on from there in `fit`.

    The same call of `fit`, made again after a crash, gives the run without the crash: weights,
    optimizer, chains and random state are stored. An array is shuffled by the global seed: set it
    before `fit`, also before the one that goes on. Wherever Keras' own loop shuffles it on JAX, as
    with `run_eagerly`, `steps_per_epoch` or `keras.distribution`, a run has its orders again only
    with `shuffle=False`.

    The state of an epoch appears whole or not at all, and the last one is kept until the next one
    is there, so that a process may be killed at any moment. `keras.callbacks.BackupAndRestore`,
    which does the writing, overwrites its own files in place.

    Delete `folder` to start anew. One process writes there, of one model: a second one is stopped
    at the end of its first epoch. Callbacks that count, such as `EarlyStopping`, start anew.

    Raises: `ValueError` if another process has written to `folder`, whose last state then stays.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = Path(folder)

    def epochs(self):
        """The stored states, from old to new, named `after-<number of epochs>`."""
        states = [path for path in self.folder.glob("after-*") if path.name[6:].isdecimal()]
        return sorted(states, key=lambda path: int(path.name[6:]))

    def on_train_begin(self, logs=None):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.known = self.epochs()
        if self.known:
            self._written_by_keras(self.known[-1]).on_train_begin()

    def on_epoch_end(self, epoch, logs=None):
        if self.epochs() != self.known:
            raise ValueError(
                "`folder` must be that of one run: give each a folder of its own. Received one to "
                f"which another process writes: {self.folder}"
            )
        for unfinished in self.folder.glob(".unfinished-state-*"):  # of a process that was killed
            shutil.rmtree(unfinished, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".unfinished-state-") as folder:
            state = Path(folder) / "state"
            self._written_by_keras(state).on_epoch_end(epoch)
            os.rename(state, self.folder / f"after-{epoch + 1}")
        for state in self.known:
            shutil.rmtree(state)
        self.known = self.epochs()

    def _written_by_keras(self, folder):
        backup = keras.callbacks.BackupAndRestore(folder)
        backup.set_model(self.model)
        return backup


def weights_of(model):
    """What is saved of a model: weights, random states, and those of its optimizer."""
    return [*model.variables, *(model.optimizer.variables if model.compiled else [])]


def state_of(model):
    """All variables of a model: what is saved of it, and those of its metrics."""
    return [*weights_of(model), *model.metrics_variables]


def give_own_memory(variables):
    """Give each variable memory of its own.

    With `use_ema` Keras 3.15 ends `fit` by weights that share it with their averages, and JAX, to
    which the next step gives it, refuses to take it twice.
    """
    taken = set()
    for variable in variables:
        if id(variable.value) in taken:
            variable.assign(ops.copy(variable.value))
        taken.add(id(variable.value))


class KeepState(keras.callbacks.Callback):
    """Copy all variables of the model after every epoch."""

    def look_at(self, variables):
        """Copy the variables as they are now."""
        self.copies = [(variable, ops.copy(variable.value)) for variable in variables]

    def put_back(self):
        """Give the variables the values that were copied last."""
        for variable, value in self.copies:
            variable.assign(value)

    def on_epoch_end(self, epoch, logs=None):
        self.look_at(state_of(self.model))


@contextlib.contextmanager
def weights_kept(model):
    """Put back the state at the start, or of the last epoch, if anything goes wrong by XLA.

    There NaN may have spoiled the weights before it is noticed, and on JAX Keras gives the memory
    of all variables to the running step. Gives the callbacks that look after it.
    """
    if not errors_wait(model):
        yield []
        return
    give_own_memory(state_of(model))
    kept = KeepState()
    kept.look_at(state_of(model))
    try:
        yield [kept]
    except BaseException:
        kept.put_back()
        raise


class Place(keras.callbacks.Callback):
    """Know which epoch runs; the first is 0, before it there is none. All learn the same weights.

    Raises: `ValueError` if a callback froze or freed some.
    """

    epoch = None

    def on_epoch_begin(self, epoch, logs=None):
        learning_of(self.model)
        self.epoch = epoch


@contextlib.contextmanager
def place_told(model):
    """Add to whatever ends `fit`, Ctrl-C too, in which epoch that was and what the weights are.

    They are kept as by `weights_kept`. Gives the callbacks that look after it.
    """
    place = Place()
    try:
        with weights_kept(model) as keep:
            yield [place, *keep]
    except BaseException as error:
        if place.epoch is not None:
            updates = int(np.asarray(model.optimizer.iterations))  # one for all replicas, too
            in_graph = hasattr(error, "node_def")  # TensorFlow's, beside which counting goes on
            error.add_note(
                f"Training stopped in epoch {place.epoch + 1} of {place.params['epochs']}. The "
                f"weights are those after {updates} updates in all{', or one less' * in_graph}."
            )
        raise


@contextlib.contextmanager
def validation_told(validating):
    """Add to what goes wrong, if `validating`, that it was not the data of training."""
    try:
        yield
    except Exception as error:
        if validating:
            error.add_note("It was `validation_data` that was read.")
        raise


@contextlib.contextmanager
def only_data_end(callbacks):
    """Make a `RuntimeError` of a callback's `StopIteration`, as generators do (PEP 479).

    Keras 3.15 takes it for the end of the data, and goes on. Errors about data that end too early,
    or hold nothing, name `x`.
    """
    hooks = [name for name in dir(keras.callbacks.Callback) if name.startswith("on_")]
    before = [(callback, dict(vars(callback))) for callback in callbacks]
    for callback in callbacks:
        for name in hooks:
            hook = getattr(callback, name)
            if getattr(hook, "__func__", None) is not getattr(keras.callbacks.Callback, name):
                vars(callback)[name] = _without_stop_iteration(hook, name, callback)
    try:
        with ends_named():
            yield
    finally:
        for callback, attributes in before:
            for name in hooks:
                vars(callback).pop(name, None)
            vars(callback).update({n: v for n, v in attributes.items() if n in hooks})


def _without_stop_iteration(hook, name, callback):
    def call(*args, **kwargs):
        try:
            return hook(*args, **kwargs)
        except StopIteration as error:
            raise RuntimeError(
                "`callbacks` must not raise StopIteration: set `stop_training` of the model to end "
                f"training. Received one from {name} of {type(callback).__name__}"
            ) from error

    return call


class RaiseOnNaN(keras.callbacks.Callback):
    """Raise after an epoch whose loss is NaN or infinite, before other callbacks save its weights.

    Learning diverged; or values were bad, and what XLA compiled could not raise.
    """

    def on_epoch_end(self, epoch, logs=None):
        told = ("loss", "free_energy", "log_likelihood")
        told = [name for each in told for name in (each, f"val_{each}")]
        bad = [name for name in told if not np.isfinite(logs.get(name, 0.0)).all()]
        if bad:
            kind = "NaN" if np.isnan(logs[bad[0]]).any() else "infinite"
            raise ValueError(
                f"The {bad[0]} of epoch {epoch + 1} is {kind}: x must hold values that its units "
                "can have (states, for a likelihood), y labels of its classes, sample weights must "
                "be at least 0, and the learning rate must not be too large. On JAX, and where "
                "XLA compiles, the weights are those of the epoch before."
            )


def check_weights(model) -> None:
    """Raise a `ValueError` unless the weights of `model` are numbers."""
    bad = [weight.path for weight in model.weights if not np.isfinite(np.asarray(weight)).all()]
    if bad:
        raise ValueError(
            "The weights must be numbers: load those of before, and lower the learning rate if "
            f"learning diverged. Received NaN or infinite values in {', '.join(bad)}."
        )


def check_result(model, result) -> None:
    """Raise a `ValueError` for NaN in what a model computed: by XLA bad values raise no sooner."""
    if any(np.isnan(values).any() for values in keras.tree.flatten(result)):
        check_weights(model)
        raise ValueError(
            "`x` must hold values that its units can have, `y` labels of its classes, and weights "
            "be at least 0. Received others: the result is NaN."
        )
