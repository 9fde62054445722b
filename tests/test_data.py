"""The bundled digits, the ways to the full set, and toy data."""

import gzip
import itertools
import os
import time
import urllib.request

import numpy as np
import pytest
import tensorflow as tf
from damage import corrupt, garble, remove, truncate

from rbm_tutorial import bars_and_stripes, binarize, data, flatten_image, load_mnist
from rbm_tutorial.data import all_states, as_arrays

# ---------------------------------------------------------------- bundled digits


@pytest.fixture(scope="module")
def sample():
    return load_mnist()


def test_bundled_digits_are_examples_as_tfds_gives_them(sample):
    for dataset, count in zip(sample, (10_000, 2_000), strict=True):
        assert isinstance(dataset, tf.data.Dataset)
        assert dataset.cardinality() == count
        assert dataset.element_spec["image"] == tf.TensorSpec((28, 28, 1), tf.uint8)
        assert dataset.element_spec["label"] == tf.TensorSpec((), tf.int64)


@pytest.mark.parametrize(("split", "count", "mnist"), [(0, 10_000, 60_000), (1, 2_000, 10_000)])
def test_bundled_digits_are_stratified(sample, split, count, mnist):
    """Classes have the proportions of MNIST to within one digit (LeCun et al.'s counts)."""
    of_mnist = [
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ][split]
    counts = np.bincount(as_arrays(sample[split])[1])
    assert counts.sum() == count
    assert np.all(abs(counts - np.array(of_mnist) * count / mnist) < 1)


def test_bundled_digits_look_like_digits(sample):
    """MNIST has a mean ink of 0.13 and an empty border, and no two images of it are equal."""
    images = as_arrays(sample[1])[0]
    assert images.mean() == pytest.approx(0.13, abs=0.01)
    assert images.reshape(-1, 28, 28)[:, [0, -1]].mean() < 1e-3
    assert images.max() == 1
    assert len(np.unique(images, axis=0)) == 2_000


def test_bundled_digits_come_in_a_fixed_order(sample):
    labels = [[int(e["label"]) for e in load_mnist()[0].take(50)] for _ in range(2)]
    assert labels[0] == labels[1]
    assert len(set(labels[0])) == 10


def test_the_bundled_set_says_that_it_is_a_sample():
    import tensorflow_datasets as tfds

    info = tfds.builder(data.SAMPLE_NAME, data_dir=str(data.PACKAGE_DIR)).info
    assert info.name == "mnist_sample"
    assert "NOT the full data set" in info.description


# ---------------------------------------------------------------- arguments of load_mnist


def test_refuses_unknown_sources():
    with pytest.raises(ValueError, match=r'"sample" or "tfds"\. Received: \'mnist\''):
        load_mnist("mnist")
    with pytest.raises(ValueError, match=r"`data_dir` goes with"):
        load_mnist(data_dir="somewhere")


WAYS_OUT = r"(?s)load_mnist\(\).*data_dir=DIR.*--from-idx"


def test_a_data_dir_without_mnist_names_the_ways_out(tmp_path):
    with pytest.raises(FileNotFoundError, match=WAYS_OUT):
        load_mnist("tfds", data_dir=str(tmp_path))


def no_network(*args, **kwargs):
    raise urllib.error.URLError("no network in this test")


@pytest.fixture
def empty_tfds(monkeypatch, tmp_path):
    """TFDS with a directory of its own that holds nothing."""
    import tensorflow_datasets as tfds

    original = tfds.builder
    monkeypatch.setattr(tfds, "builder", lambda name: original(name, data_dir=str(tmp_path)))
    return tfds


def test_without_network_the_download_fails_at_once_and_names_the_ways_out(monkeypatch, empty_tfds):
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    with pytest.raises(ConnectionError, match=WAYS_OUT):
        load_mnist("tfds")


def test_a_network_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **kwargs: time.sleep(60))
    start = time.monotonic()
    assert not data.reachable("http://example.invalid", seconds=0.2)
    assert time.monotonic() - start < 30


def test_with_network_the_full_set_is_downloaded_once(monkeypatch, empty_tfds, small_idx, tmp_path):
    """The download itself is TFDS'; here it is replaced by preparing a small set."""
    downloads = []

    class Builder:
        URL = "http://example.invalid/"
        data_dir = str(tmp_path / "mnist" / "3.0.1")

        def is_prepared(self):
            return bool(downloads)

        def download_and_prepare(self):
            downloads.append(data.prepare_from_idx(str(small_idx), str(tmp_path)))

    monkeypatch.setattr(empty_tfds, "builder", lambda name: Builder())
    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **kwargs: None)
    for _ in range(2):
        train, _test = load_mnist("tfds")
        assert train.cardinality() == 30
    assert len(downloads) == 1


# ---------------------------------------------------------------- from IDX files


def idx(array):
    """The IDX format: two zero bytes, type 8 (bytes), rank, the sizes, then the data."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.tobytes()


@pytest.fixture
def small_idx(monkeypatch, tmp_path):
    """A directory of four small IDX files, some gzipped, whose checksums count as MNIST's."""
    import hashlib

    directory = tmp_path / "idx"
    directory.mkdir()
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (30, 28, 28), dtype="uint8"),
        "train-labels-idx1-ubyte": (np.arange(30) % 10).astype("uint8"),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (20, 28, 28), dtype="uint8"),
        "t10k-labels-idx1-ubyte": (np.arange(20) % 10).astype("uint8"),
    }
    checksums = {}
    for name, array in arrays.items():
        content = idx(array)
        checksums[name] = hashlib.md5(content).hexdigest()
        if name.startswith("train"):
            (directory / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (directory / name).write_bytes(content)
    monkeypatch.setattr(data, "IDX_MD5", checksums)
    return directory


def test_prepares_a_tfds_directory_that_tfds_itself_reads(small_idx, tmp_path, capsys):
    import tensorflow_datasets as tfds

    target = tmp_path / "tfds"
    assert data.main(["--from-idx", str(small_idx), "--to", str(target)]) == 0
    assert "Wrote" in capsys.readouterr().out
    train, test = load_mnist("tfds", data_dir=str(target))
    same = tfds.load("mnist", split="test", data_dir=str(target), download=False)
    assert (train.cardinality(), test.cardinality()) == (30, 20)
    written = {(e["image"].numpy().tobytes(), int(e["label"])) for e in same}
    images = (small_idx / "t10k-images-idx3-ubyte").read_bytes()[16:]
    assert written == {(images[784 * i : 784 * (i + 1)], i % 10) for i in range(20)}


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"])
@pytest.mark.parametrize("damage", [truncate, corrupt, garble, remove])
def test_a_damaged_file_is_named_and_leaves_nothing_behind(
    small_idx, tmp_path, capsys, name, damage
):
    damage(small_idx / name)
    target = tmp_path / "tfds"
    assert data.main(["--from-idx", str(small_idx), "--to", str(target)]) == 1
    assert name.removesuffix(".gz") in capsys.readouterr().err
    assert not target.exists()


def test_an_interruption_while_writing_leaves_nothing_behind(small_idx, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        data.prepare_from_idx(str(small_idx), str(tmp_path / "tfds"))
    assert not list((tmp_path / "tfds").glob("**/*.tfrecord*"))
    with pytest.raises(FileNotFoundError):
        load_mnist("tfds", data_dir=str(tmp_path / "tfds"))


def test_a_second_process_that_was_faster_wins(small_idx, tmp_path, monkeypatch):
    original = data.write_prepared

    def late(name, version, *args):
        (tmp_path / name / version / "written_by_the_other").mkdir(parents=True)
        return original(name, version, *args)

    monkeypatch.setattr(data, "write_prepared", late)
    with pytest.raises(FileExistsError, match="another process"):
        data.prepare_from_idx(str(small_idx), str(tmp_path))
    assert [p.name for p in (tmp_path / "mnist" / "3.0.1").iterdir()] == ["written_by_the_other"]


def test_takes_a_directory_under_home(small_idx, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data.prepare_from_idx("~/idx", "~/tfds") == tmp_path / "tfds" / "mnist" / "3.0.1"
    assert load_mnist("tfds", data_dir="~/tfds")[0].cardinality() == 30


def test_does_not_overwrite_a_prepared_directory(small_idx, tmp_path):
    (tmp_path / "mnist" / "3.0.1").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="remove it"):
        data.prepare_from_idx(str(small_idx), str(tmp_path))


# ---------------------------------------------------------------- images


def test_flat_images_are_vectors_from_zero_to_one():
    image = np.arange(784, dtype="uint8").reshape(28, 28, 1)
    image[0, 0] = 255
    example = {"image": image, "label": 3}
    flat, label = flatten_image(example)
    assert flat.shape == (784,)
    assert flat.dtype == tf.float32
    np.testing.assert_allclose(flat, image.ravel() / 255)
    assert label == 3
    np.testing.assert_array_equal(flatten_image(example, label=False), flat)


def test_as_arrays_keeps_every_example_in_order(sample):
    images, labels = as_arrays(sample[1].take(1001))
    assert images.shape == (1001, 784)
    first = next(iter(sample[1].map(flatten_image)))
    np.testing.assert_array_equal(images[0], first[0])
    assert labels[0] == first[1]
    with pytest.raises(ValueError, match="at least one example"):
        as_arrays(sample[1].take(0))


def test_a_batch_stays_a_batch(sample):
    """The batch axis was once flattened away: three "images" of 15,680 pixels."""
    expected = as_arrays(sample[1].take(50))
    for batched in (
        sample[1].take(50).batch(20),
        sample[1].take(50).map(flatten_image),
        sample[1].take(50).batch(20).map(flatten_image),
    ):
        for ours, theirs in zip(as_arrays(batched), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_float_images_are_taken_as_they_are():
    image = np.linspace(0, 1, 784, dtype="float32").reshape(28, 28, 1)
    flat = flatten_image({"image": image, "label": 1}, label=False)
    np.testing.assert_array_equal(flat, image.ravel())


def test_stochastic_binarization_keeps_the_mean():
    x = np.tile(np.linspace(0, 1, 11, dtype="float32"), (20_000, 1))
    drawn = binarize(x, seed=0)
    assert drawn.dtype == np.float32
    assert set(np.unique(drawn)) == {0, 1}
    assert not np.any(drawn[:, 0])
    assert np.all(drawn[:, -1] == 1)
    standard_error = np.sqrt(x[0] * (1 - x[0]) / len(x))
    assert np.all(abs(drawn.mean(axis=0) - x[0]) <= 5 * standard_error)
    assert abs(np.corrcoef(drawn[:, 4], drawn[:, 5])[0, 1]) < 5 / np.sqrt(len(x))
    np.testing.assert_array_equal(drawn, binarize(x, seed=0))
    assert not np.array_equal(drawn, binarize(x, seed=1))


def test_thresholded_binarization_draws_nothing():
    np.testing.assert_array_equal(binarize([[0.2, 0.5, 0.7]], threshold=0.5), [[0, 0, 1]])


def test_binarization_refuses_what_it_cannot_do():
    for arguments in ({}, {"seed": 0, "threshold": 0.5}):
        with pytest.raises(ValueError, match="either `seed`"):
            binarize([[0.5]], **arguments)
    for bad in ([["1"]], [[1j]], [[0.5], [0.5, 0.5]]):
        with pytest.raises(ValueError, match="`x` must be an array of real numbers"):
            binarize(bad, seed=0)
    for bad in (255.0, -1.0, np.nan):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            binarize([[bad]], seed=0)


# ---------------------------------------------------------------- toy data


def test_all_states_are_in_binary_order():
    np.testing.assert_array_equal(all_states(3), list(itertools.product([0, 1], repeat=3)))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_bars_and_stripes_are_all_patterns_with_their_probabilities(n):
    """Against throwing the coins: every outcome of orientation and lines has the same weight."""
    expected = {}
    for lines in itertools.product([0, 1], repeat=n):
        rows = np.repeat(np.array(lines)[:, None], n, axis=1)
        for pattern in (rows, rows.T):
            key = tuple(pattern.ravel())
            expected[key] = expected.get(key, 0) + 0.5 * 2.0**-n
    patterns, p = bars_and_stripes(n)
    assert patterns.shape == (2 ** (n + 1) - 2, n * n)
    assert dict(zip(map(tuple, patterns.astype(int)), p)) == pytest.approx(expected)


def test_bars_and_stripes_need_two_lines():
    with pytest.raises(ValueError, match="`n` must be an integer of at least 2"):
        bars_and_stripes(1)


@pytest.mark.parametrize("bad", [255.0, -0.5, np.nan])
def test_as_arrays_refuses_images_that_are_none(bad):
    images = np.full((3, 4), bad, "float32")
    with pytest.raises(ValueError, match=r"`dataset` must hold images in \[0, 1\]"):
        as_arrays(tf.data.Dataset.from_tensor_slices((images, np.arange(3))))
