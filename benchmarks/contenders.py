"""What is timed: ways to train an RBM by contrastive divergence, and the products they all make.

Each is a function of a `Setting` and of binary digits (examples, 784) float32, and gives a
`Training`.
"""

from collections.abc import Callable
from typing import NamedTuple

from limits import products, products_numpy
from others import pytorch, rbms, scikit_learn, source
from ours import cd_update, fit, fit_1, fit_tfds, fit_xla, train_rbm


class Contender(NamedTuple):
    """How to make it, the library whose threads are to be set, and the algorithms it is asked for.

    PCD-1 has the same products as CD-1, five, and so the same limit. "oneDNN" is TensorFlow with
    the products of that library, which by itself it takes on some processors only.
    """

    make: Callable
    library: str
    algorithms: tuple


CD1, CD, PCD = ("CD-1",), ("CD-1", "CD-10"), ("PCD-1",)
CONTENDERS = {
    "source": Contender(source, "tensorflow", CD),
    "scikit-learn": Contender(scikit_learn, "numpy", PCD),
    "PyTorch": Contender(pytorch, "torch", CD + PCD),
    "rbms": Contender(rbms, "torch", PCD),
    "fit": Contender(fit, "tensorflow", CD + PCD),
    "fit, oneDNN": Contender(fit, "oneDNN", CD + PCD),
    "fit by XLA": Contender(fit_xla, "tensorflow", CD + PCD),
    "fit on JAX": Contender(fit, "jax", CD + PCD),
    "fit, one update an execution": Contender(fit_1, "tensorflow", CD1),
    "fit from TFDS": Contender(fit_tfds, "tensorflow", CD1),
    "train_rbm": Contender(train_rbm, "tensorflow", CD1),
    "cd_update": Contender(cd_update, "tensorflow", CD1),
    "products, NumPy": Contender(products_numpy, "numpy", CD1),
    "products, TensorFlow": Contender(products, "tensorflow", CD),
    "products, oneDNN": Contender(products, "oneDNN", CD),
    "products, JAX": Contender(products, "jax", CD),
}
