"""A small set of digits, and what may happen to a file."""

import numpy as np

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 28, 28, 1), dtype="uint8")
LABELS = (np.arange(20) % 10).astype("uint8")
SPLITS = {"train": (IMAGES[:12], LABELS[:12]), "test": (IMAGES[12:], LABELS[12:])}


def remove(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path, bit=None):
    content = bytearray(path.read_bytes())
    bit = 4 * len(content) if bit is None else bit
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(content))


def corrupt(path):
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")


def garble(path):
    """Gzip's checks of its own data fail before the MD5 sum is looked at."""
    content = bytearray(path.read_bytes())
    content[10:20] = b"\xff" * 10
    path.write_bytes(bytes(content))
