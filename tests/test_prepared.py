"""Damaged, half-written and contested files: an error that names the file, or the data, whole."""

import errno
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from damage import SPLITS, empty, flip, remove, truncate

from rbm_tutorial import as_arrays, data, load_mnist, prepared
from rbm_tutorial.prepared import import_tfds, read_prepared, write_prepared

FILES = ["dataset_info.json", "features.json"]
FILES += [f"mnist-{split}.tfrecord-00000-of-00001" for split in ("train", "test")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_prepared("mnist", "3.0.1", "", SPLITS, tmp_path_factory.mktemp("whole"))


@pytest.fixture
def copy(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "mnist" / "3.0.1"))


def content_of(directory):
    return [array.tobytes() for split in read_prepared(directory) for array in as_arrays(split)]


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [remove, empty, truncate])
def test_a_damaged_file_of_a_prepared_directory_is_named_before_anything_is_read(
    copy, name, damage
):
    damage(copy / name)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_mnist("tfds", data_dir=str(copy.parent.parent))
    said = str(error.value)
    assert "No prepared mnist" in said or (str(copy / name) in said and f"Remove {copy}" in said)
    assert data.WAYS_OUT in said


def test_a_file_cut_between_two_records_is_noticed(copy):
    """No check sum is wrong then, and TFDS would give eleven of the twelve digits."""
    path = str(copy / FILES[2])
    records = list(tf.data.TFRecordDataset(path).as_numpy_iterator())
    with tf.io.TFRecordWriter(path) as writer:
        for record in records[:-1]:
            writer.write(record)
    with pytest.raises(ValueError, match=r"promises 12 examples\. Received: 11") as error:
        read_prepared(copy)
    assert path in str(error.value)


def test_swapped_files_are_noticed(copy):
    train, test = copy / FILES[2], copy / FILES[3]
    train.rename(copy / "other"), test.rename(train), (copy / "other").rename(test)
    with pytest.raises(ValueError, match=r"promises 12 examples\. Received: 8"):
        read_prepared(copy)


def test_no_bit_that_flips_anywhere_gives_other_digits(copy):
    """Either the file is named, or the bit did not matter, as in a description."""
    expected, refused = content_of(copy), 0
    rng = np.random.default_rng(0)
    for name in FILES:
        bits = 8 * (copy / name).stat().st_size
        for bit in rng.integers(bits, size=4):
            flip(copy / name, int(bit))
            try:
                assert content_of(copy) == expected
            except ValueError as error:
                refused += 1
                assert str(copy) in str(error) and "missing or damaged" in str(error)
            flip(copy / name, int(bit))
    assert refused >= 8  # each one within the records, and some beside
    assert content_of(copy) == expected


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EROFS, "Read-only file system"),
        tf.errors.ResourceExhaustedError(None, None, "No space left on device"),
    ],
)
def test_a_disk_that_is_full_or_read_only_is_named_and_nothing_is_left(
    monkeypatch, tmp_path, error
):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(tf.io.TFRecordWriter, "write", fail)
    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(
        OSError, match=r"cannot be written, and nothing of it is left: .*[Nn-]"
    ) as e:
        write_prepared("mnist", "3.0.1", "", SPLITS, tmp_path / "new" / "folder")
    assert str(tmp_path / "new" / "folder" / "mnist" / "3.0.1") in str(e.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot be written"):
        write_prepared("mnist", "3.0.1", "", SPLITS, tmp_path / "file" / "folder")


def test_a_process_that_is_ended_while_it_writes_leaves_nothing(monkeypatch, tmp_path, capsys):
    def terminate(*args):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(data, "read_idx", lambda folder, split: SPLITS["test"])
    monkeypatch.setattr(prepared.os, "rename", terminate)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a failure must not end the tests
    try:
        assert data.main(["--from-idx", "nowhere", "--to", str(tmp_path / "new")]) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "interrupted: nothing was left" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_signals_are_as_before_once_the_command_ends(tmp_path, capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert data.main(["--from-idx", str(tmp_path), "--to", str(tmp_path)]) == 1
    assert signal.getsignal(signal.SIGTERM) is before
    assert "Missing train-images" in capsys.readouterr().err


def test_of_two_that_prepare_at_once_one_wins_and_the_other_says_so(monkeypatch, tmp_path):
    rename = os.rename

    def after_another(source, target):
        monkeypatch.setattr(prepared.os, "rename", rename)
        write_prepared("mnist", "3.0.1", "", SPLITS, tmp_path)
        rename(source, target)

    monkeypatch.setattr(prepared.os, "rename", after_another)
    with pytest.raises(FileExistsError, match="another process"):
        write_prepared("mnist", "3.0.1", "", SPLITS, tmp_path)
    assert content_of(tmp_path / "mnist" / "3.0.1")
    assert [path.name for path in tmp_path.iterdir()] == ["mnist"]


def test_without_tensorflow_datasets_it_says_what_reads_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="install both, or pass arrays of your own"):
        import_tfds()
