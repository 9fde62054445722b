"""Build the bundled digits: 10,000 + 2,000 of MNIST's, stratified, as a prepared TFDS directory.

    python experiments/build_mnist_sample.py DIR_WITH_THE_FOUR_IDX_FILES

The choice is fixed by a seed; classes keep MNIST's proportions to within one digit.
"""

import shutil
import sys

import numpy as np

from rbm_tutorial import data
from rbm_tutorial.prepared import write_prepared

DESCRIPTION = """A stratified sample of MNIST, NOT the full data set: 10,000 of its 60,000 training
digits and 2,000 of its 10,000 test digits, chosen at random within each class so that classes keep
their proportions. It comes with rbm_tutorial so that everything runs without a network; results on
it are not comparable with results on MNIST."""


def stratified_sample(images, labels, size, seed=0):
    """`size` examples; class counts differ from proportional ones by less than 1."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    evenly = (np.arange(size) * len(labels)) // size  # every so-manyth digit of the sorted list
    chosen = rng.permutation(by_class[evenly])
    return images[chosen], labels[chosen]


if __name__ == "__main__":
    idx_dir = sys.argv[1]
    splits = {
        "train": stratified_sample(*data.read_idx(idx_dir, "train"), 10_000),
        "test": stratified_sample(*data.read_idx(idx_dir, "t10k"), 2_000),
    }
    shutil.rmtree(data.PACKAGE_DIR / data.SAMPLE_NAME, ignore_errors=True)
    name, version = data.SAMPLE_NAME, data.SAMPLE_VERSION
    write_prepared(name, version, DESCRIPTION, splits, data.PACKAGE_DIR)
