"""Downloads that fail, or that another process has finished meanwhile."""

import errno
from pathlib import Path

import pytest
from damage import SPLITS

from rbm_tutorial import data, files, load_mnist
from rbm_tutorial.prepared import write_prepared


class Download:
    """TFDS' builder, whose download fails, after another process has prepared the set or not."""

    URL = "http://example.invalid/"

    def __init__(self, directory, error, other=False):
        self.data_dir, self.error, self.other = str(directory / "mnist" / "3.0.1"), error, other

    def is_prepared(self):
        return Path(self.data_dir).exists()

    def download_and_prepare(self):
        if self.other:
            write_prepared("mnist", "3.0.1", "", SPLITS, Path(self.data_dir).parent.parent)
        raise self.error


@pytest.fixture
def download(monkeypatch, tmp_path):
    import tensorflow_datasets as tfds

    def use(*args):
        monkeypatch.setattr(tfds, "builder", lambda name: Download(tmp_path, *args))

    monkeypatch.setattr(data, "reachable", lambda url: True)
    return use


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("the line broke\nand much more"),
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied"),
        RuntimeError("a check sum is wrong"),
    ],
)
def test_a_download_that_fails_names_its_folder_and_the_ways_out(download, tmp_path, error):
    download(error)
    with pytest.raises(OSError) as raised:
        load_mnist("tfds")
    said = str(raised.value)
    assert str(tmp_path) in said and files.brief(error) in said and data.WAYS_OUT in said
    assert "much more" not in said


def test_a_download_that_another_process_finished_is_read(download):
    download(FileExistsError("File exists"), True)
    assert load_mnist("tfds")[0].cardinality() == 12
