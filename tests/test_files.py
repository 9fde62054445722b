"""Damaged files are named, with the way out, before anything is read from them."""

import shutil

import numpy as np
import pytest
from damage import empty, flip, remove, truncate

from rbm_tutorial import data, files, load_mnist, pretrained, results


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_no_bit_that_flips_in_an_archive_gives_other_arrays(tmp_path, save):
    path, expected = tmp_path / "arrays.npz", np.arange(300).reshape(20, 15)
    save(path, a=expected)
    refused = 0
    for bit in range(0, 8 * path.stat().st_size, 61):
        flip(path, bit)
        try:
            np.testing.assert_array_equal(files.read_arrays(path, "a")[0], expected)
        except ValueError as error:
            refused += 1
            assert str(path) in str(error)
        flip(path, bit)
    assert refused > 20


@pytest.mark.parametrize("damage", [remove, empty, truncate, flip])
def test_damaged_bundled_files_ask_for_the_package_anew(monkeypatch, tmp_path, damage):
    package = data.PACKAGE_DIR
    for part in (data.SAMPLE_NAME, "measured"):
        shutil.copytree(package / part, tmp_path / part)
    shutil.copy(package / "mnist_rbm500.npz", tmp_path)
    monkeypatch.setattr(data, "PACKAGE_DIR", tmp_path)
    monkeypatch.setattr(pretrained, "WEIGHTS", tmp_path / "mnist_rbm500.npz")
    monkeypatch.setattr(results, "FOLDER", tmp_path / "measured")
    sample = tmp_path / data.SAMPLE_NAME / data.SAMPLE_VERSION
    reads = {
        sample / "mnist_sample-test.tfrecord-00000-of-00001": load_mnist,
        tmp_path / "mnist_rbm500.npz": pretrained.load_pretrained_rbm,
        tmp_path / "measured" / "samples_best.npz": lambda: results.stored_samples("samples_best"),
    }
    for path, read in reads.items():
        damage(path)
        with pytest.raises(
            ValueError, match=r"install the package anew|Received: samples"
        ) as error:
            read()
        assert path.stem in str(error.value)
