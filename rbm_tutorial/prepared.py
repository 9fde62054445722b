"""Prepared TFDS directories of digits: written whole or not at all, and read only if whole.

A directory holds its examples in TFRecord files, each with check sums of its own, and in
`dataset_info.json` how many there are; so damage is found before anything is learned from it.
"""

import contextlib
import errno
import os
import tempfile
from pathlib import Path

import numpy as np

from rbm_tutorial.files import OF_THE_PACKAGE, brief, named, read_json


def import_tfds():
    """TensorFlow Datasets, which the package does without until digits are asked for."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(
            "`load_mnist` reads TFDS data sets with TensorFlow, on any Keras backend: install "
            "both, or pass arrays of your own to `fit`."
        ) from error
    return tfds


def read_prepared(directory: Path, way_out: str = OF_THE_PACKAGE):
    """`(train, test)` of a prepared TFDS directory, `tf.data.Dataset`s of {"image", "label"}.

    Every record is read once before. Draws nothing.
    Raises: `ValueError` that names a missing or damaged file and ends with `way_out`.
    """
    tfds = import_tfds()
    for name in ("features.json", "dataset_info.json"):
        read_json(directory / name, way_out)
    with named(directory / "features.json", way_out):
        builder = tfds.builder_from_directory(directory)
        _check_features(builder.info.features)
    with named(directory / "dataset_info.json", way_out):
        splits = [builder.info.splits[name] for name in ("train", "test")]
        files = [file for split in splits for file in zip(split.filepaths, split.shard_lengths)]
    for path, records in files:
        with named(path, way_out):
            _check_records(path, records)
    return tuple(builder.as_dataset(split=["train", "test"]))


def write_prepared(name: str, version: str, description: str, splits: dict, data_dir: str) -> Path:
    """Write splits of (images, labels) as `data_dir`/`name`/`version`, which appears whole.

    Returns its path. Whatever stops it, a full disk or an interruption, leaves nothing behind.
    Raises: `FileExistsError` if another process was faster; `OSError` if it cannot be written.
    """
    import tensorflow as tf

    tfds = import_tfds()
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(28, 28, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
    )
    examples = {
        split: [
            (key, {"image": image, "label": label})
            for key, (image, label) in enumerate(zip(images, labels))
        ]
        for split, (images, labels) in splits.items()
    }
    target = Path(data_dir) / name / version
    try:
        with _new_folders(target.parent), tempfile.TemporaryDirectory(dir=data_dir) as unfinished:
            tfds.dataset_builders.store_as_tfds_dataset(
                name, version, features, examples, data_dir=unfinished, description=description
            )
            # In one step, which fails if another process was faster.
            os.rename(Path(unfinished) / name / version, target)
    # TFDS raises some of TensorFlow's errors anew, as a RuntimeError.
    except (OSError, RuntimeError, tf.errors.OpError) as error:
        if getattr(error, "errno", None) in (errno.EEXIST, errno.ENOTEMPTY):
            raise FileExistsError(f"{target} was written by another process meanwhile.") from error
        raise OSError(
            f"{target} cannot be written, and nothing of it is left: {brief(error)}. "
            "Choose a directory that can be written and has some 50 MB left."
        ) from error
    return target


@contextlib.contextmanager
def _new_folders(folder):
    """Make `folder` and its parents; if what follows fails, remove those that were not there."""
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in new:
            with contextlib.suppress(OSError):  # another process may have filled it
                path.rmdir()
        raise


def _check_features(features):
    found = {name: (tuple(f.shape), np.dtype(f.np_dtype).name) for name, f in features.items()}
    expected = {"image": ((28, 28, 1), "uint8"), "label": ((), "int64")}
    if found != expected:
        raise ValueError(f"its examples should be {expected}. Received: {found}")


def _check_records(path, expected):
    import tensorflow as tf

    # TensorFlow compares the check sums of each record that it reads.
    found = sum(len(batch) for batch in tf.data.TFRecordDataset(str(path)).batch(1000))
    if found != expected:
        raise ValueError(f"dataset_info.json promises {expected} examples. Received: {found}")
