"""The RBM with 500 hidden units that the book measures, trained on MNIST."""

from pathlib import Path

import numpy as np

from rbm_tutorial.rbm import RBM


def load_pretrained_rbm() -> RBM:
    """The best RBM(500) of the book: 784 visible units, trained on binarized MNIST.

    The weights are kept in half precision and returned in the precision of Keras' floats. Their
    test log-likelihood is in `stored_result("likelihood_pretrained")`; `python
    experiments/likelihood_mnist.py pretrained` measures it again. Draws nothing.
    """
    weights = np.load(Path(__file__).parent / "mnist_rbm500.npz")
    rbm = RBM(weights["hb"].size, weights["vb"].size)
    rbm.build(weights["vb"].shape)
    for name, value in weights.items():
        getattr(rbm, name).assign(value)
    return rbm
