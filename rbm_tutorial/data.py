"""Digits and toy data: TFDS examples of MNIST, flattened and binarized; bars and stripes.

`python -m rbm_tutorial.data --from-idx DIR --to DIR` prepares the full MNIST for TFDS from the four
IDX files, on machines without network.
"""

import argparse
import contextlib
import gzip
import hashlib
import math
import signal
import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np

from rbm_tutorial.checks import (
    check_count,
    check_ends,
    check_examples,
    check_flag,
    check_seed,
    real_array,
)
from rbm_tutorial.files import brief, named
from rbm_tutorial.pipelines import is_dataset
from rbm_tutorial.prepared import import_tfds, read_prepared, write_prepared

SAMPLE_NAME, SAMPLE_VERSION = "mnist_sample", "1.0.0"
PACKAGE_DIR = Path(__file__).parent

# MD5 sums of the unpacked IDX files.
IDX_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}

WAYS_OUT = """Three ways out:
  1. load_mnist() reads the 10,000 + 2,000 digits that come with this package;
  2. load_mnist("tfds", data_dir=DIR) reads a TFDS directory that was prepared elsewhere;
  3. python -m rbm_tutorial.data --from-idx IDX_DIR --to DIR prepares it from the four IDX files."""


def load_mnist(source: str = "sample", data_dir: str | None = None):
    """Load `(train, test)`, each a `tf.data.Dataset` of TFDS examples {"image", "label"}.

    Images are (28, 28, 1) uint8, labels int64. The order is fixed: nothing is shuffled or drawn.

    Args:
        source: "sample" for the bundled digits, 10,000 + 2,000 of MNIST's, stratified by class;
            "tfds" for the full 60,000 + 10,000 through `tfds.load`.
        data_dir: with "tfds", a directory that holds a prepared `mnist`; the network is then never
            touched. Without it TFDS' own directory is used, and filled by one download.

    Raises: `ValueError` for an unknown source or a `data_dir` given for the sample, and one that
    names the file where one is damaged; `FileNotFoundError` if `data_dir` holds no prepared MNIST;
    `ConnectionError` within seconds if a download is needed and there is no network, `OSError` if
    it fails. All but the first name the ways out.
    Source: LeCun et al., Gradient-based learning applied to document recognition (1998).
    """
    if not isinstance(source, str) or source not in ("sample", "tfds"):
        raise ValueError(f'`source` must be "sample" or "tfds". Received: {source!r}')
    if source == "sample":
        if data_dir is not None:
            raise ValueError(f'`data_dir` goes with source "tfds". Received: {data_dir!r}')
        return read_prepared(PACKAGE_DIR / SAMPLE_NAME / SAMPLE_VERSION)
    if data_dir is not None:
        directory = Path(data_dir).expanduser() / "mnist" / "3.0.1"
        if not (directory / "dataset_info.json").exists():
            raise FileNotFoundError(
                f"No prepared mnist/3.0.1 in data_dir={str(data_dir)!r}. {WAYS_OUT}"
            )
        return _read_mnist(directory)
    return _load_or_download()


def flatten_image(example, label: bool = True):
    """A TFDS example {"image": (28, 28, 1) uint8, "label"} → ((784,) float32 in [0, 1], label).

    With `label=False` the image alone. A batch of images, (batch, 28, 28, 1), becomes (batch, 784).
    Integers are divided by 255, the largest value of a byte; floats are taken as they are.

    Raises: `ValueError` for what is no such example.
    """
    import tensorflow as tf

    check_flag("label", label)
    wanted = {"image", "label"} if label else {"image"}
    if not isinstance(example, dict) or not wanted <= example.keys():
        raise ValueError(
            f"`example` must be a dictionary of {sorted(wanted)}, as `load_mnist` gives it. "
            f"Received: {list(example) if isinstance(example, dict) else type(example).__name__}"
        )
    image = example["image"]
    image = image if tf.is_tensor(image) else tf.convert_to_tensor(real_array("image", image))
    if not (image.dtype.is_integer or image.dtype.is_floating or image.dtype.is_bool):
        raise ValueError(f"The image of `example` must hold real numbers. Received: {image.dtype}")
    if image.shape.rank not in (3, 4):
        raise ValueError(
            "The image of `example` must have shape (height, width, channels), or (batch, height, "
            f"width, channels). Received: {image.shape}"
        )
    scale = 255.0 if image.dtype.is_integer else 1.0
    flat = [-1] if image.shape.rank == 3 else [tf.shape(image)[0], math.prod(image.shape[1:])]
    image = tf.cast(tf.reshape(image, flat), tf.float32) / scale
    return (image, example["label"]) if label else image


def as_arrays(dataset) -> tuple[np.ndarray, np.ndarray]:
    """All TFDS examples of a data set as arrays: (examples, 784) float32 in [0, 1] and labels.

    The data set may be batched, and mapped by `flatten_image` already.
    Raises: `ValueError` for empty or infinite data sets, elements without labels, and flat images
    of other values.
    """
    if not is_dataset(dataset):
        raise ValueError(
            f"`dataset` must be a `tf.data.Dataset`. Received: {type(dataset).__name__}"
        )
    check_ends("dataset", dataset)
    spec = dataset.element_spec
    if isinstance(spec, dict) and spec.keys() >= {"image", "label"}:
        dataset = dataset.map(flatten_image)
    pair = dataset.element_spec if isinstance(dataset.element_spec, tuple) else ()
    ranks = [getattr(getattr(part, "shape", None), "rank", None) for part in pair]
    if ranks not in ([1, 0], [2, 1]):
        raise ValueError(
            "`dataset` must hold examples with a label, or pairs of flat images and labels. "
            f"Received elements: {spec}"
        )
    dataset = dataset.batch(1000) if ranks == [1, 0] else dataset
    batches = [(image.numpy(), label.numpy()) for image, label in dataset]
    check_examples("dataset", sum(len(labels) for _, labels in batches))
    images, labels = (np.concatenate(part) for part in zip(*batches))
    if not (images.min() >= 0 and images.max() <= 1):  # NaN is neither
        raise ValueError(
            "`dataset` must hold images in [0, 1]: flatten bytes by `flatten_image`. "
            f"Received values from {images.min()} to {images.max()}"
        )
    return images.astype("float32"), labels


def binarize(x, seed: int | None = None, threshold: float | None = None) -> np.ndarray:
    """Binary float32 array of the shape of `x`: 1 with probability x, or where x > threshold.

    Args:
        x: whole array of values in [0, 1]. Not for `Dataset.map`, where one integer seed would
            give every image the same noise.
        seed: integer that fixes the draws.
        threshold: if given nothing is drawn.

    Raises: `ValueError` for values or a threshold outside [0, 1], or when both or neither of `seed`
    and `threshold` are given.
    Source: Salakhutdinov & Murray, On the quantitative analysis of deep belief networks (2008).
    """
    if (seed is None) == (threshold is None):
        raise ValueError(
            "Give either `seed` (stochastic) or `threshold`. "
            f"Received: seed={seed}, threshold={threshold}"
        )
    check_seed("seed", seed)
    if threshold is not None:
        limit = real_array("threshold", threshold)
        if limit.shape or limit.dtype == bool or not 0 <= limit <= 1:
            raise ValueError(f"`threshold` must be a number in [0, 1]. Received: {threshold}")
    x = real_array("x", x)
    if not np.all((x >= 0) & (x <= 1)):
        raise ValueError(f"`x` must lie in [0, 1]. Received: from {x.min()} to {x.max()}")
    if threshold is None:
        threshold = np.random.default_rng(seed).random(x.shape, dtype="float32")
    return (x > threshold).astype("float32")


def all_states(units: int) -> np.ndarray:
    """Every vector of `units` bits: (2^units, units) float32 in {0, 1}, in binary order.

    The first unit is the most significant bit. Draws nothing.
    Raises: `ValueError` unless `units` is a count.
    """
    check_count("units", units)
    return ((np.arange(2**units)[:, None] >> np.arange(units)[::-1]) & 1).astype("float32")


def bars_and_stripes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """All patterns of n×n bars and stripes with their probabilities.

    A fair coin chooses rows or columns, then each of the n lines is on with probability 1/2. Blank
    and full patterns arise both ways, so they have probability 2⁻ⁿ, all others 2⁻⁽ⁿ⁺¹⁾.

    Returns: patterns (2ⁿ⁺¹ - 2, n²) float32 in {0, 1}, and probabilities (2ⁿ⁺¹ - 2,), which sum to
    1. The best possible mean log-likelihood is Σ p log p nats. Draws nothing.
    Raises: `ValueError` unless `n` is an integer of at least 2.
    Source: MacKay, Information Theory, Inference, and Learning Algorithms (2003), chapter 43.
    """
    check_count("n", n, least=2)
    lines = all_states(n)
    rows = np.repeat(lines, n, axis=1)
    columns = np.tile(lines, n)
    patterns, counts = np.unique(np.concatenate([rows, columns]), axis=0, return_counts=True)
    return patterns, counts / counts.sum()


def prepare_from_idx(idx_dir: str, data_dir: str) -> Path:
    """Write `data_dir`/mnist/3.0.1, as TFDS prepares it, from the four IDX files in `idx_dir`.

    The files may be gzipped. Their MD5 sums are verified first; the directory appears whole or not
    at all. Returns its path.

    Raises: `FileNotFoundError` or `ValueError` that names the missing or damaged file;
    `FileExistsError` if `data_dir` already holds mnist/3.0.1; `OSError` if it cannot be written.
    """
    data_dir = Path(data_dir).expanduser()
    target = data_dir / "mnist" / "3.0.1"
    if target.exists():
        raise FileExistsError(f"{target} exists already: remove it to prepare it anew.")
    splits = {"train": read_idx(idx_dir, "train"), "test": read_idx(idx_dir, "t10k")}
    description = "The MNIST database of handwritten digits."
    return write_prepared("mnist", "3.0.1", description, splits, data_dir)


def read_idx(idx_dir: str, prefix: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (examples, 28, 28, 1) uint8 and labels (examples,) of one verified split."""
    images = _read_verified(idx_dir, f"{prefix}-images-idx3-ubyte")
    labels = _read_verified(idx_dir, f"{prefix}-labels-idx1-ubyte")
    # IDX: a header of 16 bytes before images, of 8 before labels, then one byte a value.
    return images[16:].reshape(-1, 28, 28, 1), labels[8:]


def _load_or_download():
    builder = import_tfds().builder("mnist")
    if not builder.is_prepared():
        # TFDS itself retries for minutes before it gives up.
        if not reachable(builder.URL + "t10k-labels-idx1-ubyte.gz"):
            raise ConnectionError(f"MNIST must be downloaded, and cannot be reached. {WAYS_OUT}")
        try:
            builder.download_and_prepare()
        except Exception as error:
            if not builder.is_prepared():  # by another process, which was faster
                message = f"MNIST was not prepared in {builder.data_dir}: {brief(error)}."
                raise OSError(f"{message} {WAYS_OUT}") from error
    return _read_mnist(Path(builder.data_dir))


def _read_mnist(directory):
    return read_prepared(directory, f"Remove {directory}, then prepare it anew. {WAYS_OUT}")


def reachable(url, seconds=5):
    answered = threading.Event()

    def ask():
        try:
            urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds)
            answered.set()
        except OSError:
            pass

    # In a thread, because looking up a name may hang for longer than any socket time-out.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()


def _read_verified(idx_dir, name):
    path = Path(idx_dir).expanduser() / name
    packed = path.with_name(name + ".gz")
    if packed.exists():
        path = packed
    elif not path.exists():
        raise FileNotFoundError(f"Missing {name} or {name}.gz in {idx_dir}.")
    with named(path, "Get MNIST's file anew."):
        content = gzip.decompress(path.read_bytes()) if path == packed else path.read_bytes()
        if hashlib.md5(content).hexdigest() != IDX_MD5[name]:
            raise ValueError(f"its MD5 sum is not {IDX_MD5[name]}")
    return np.frombuffer(content, dtype=np.uint8)


@contextlib.contextmanager
def _interrupted_by_signals():
    """Let what ends a process, `kill` or a closed terminal, unwind as Ctrl-C does."""
    names = {"SIGTERM", "SIGHUP"} & signal.Signals.__members__.keys()  # Windows has no SIGHUP
    before = {signal.Signals[name]: signal.getsignal(signal.Signals[name]) for name in names}
    try:
        for number in before:
            signal.signal(number, signal.default_int_handler)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m rbm_tutorial.data", description=prepare_from_idx.__doc__.splitlines()[0]
    )
    parser.add_argument("--from-idx", required=True, metavar="DIR", help="where the IDX files are")
    parser.add_argument("--to", required=True, metavar="DIR", help="the TFDS data_dir to fill")
    options = parser.parse_args(arguments)
    try:
        print(f"Verifying, then writing 70,000 digits to {options.to} …")
        with _interrupted_by_signals():
            target = prepare_from_idx(options.from_idx, options.to)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted: nothing was left in {options.to}.", file=sys.stderr)
        return 130
    print(f'Wrote {target}. Read it with load_mnist("tfds", data_dir={options.to!r}).')
    return 0


if __name__ == "__main__":
    sys.exit(main())
