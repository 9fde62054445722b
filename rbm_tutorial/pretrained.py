"""The RBM with 500 hidden units that the book measures, trained on MNIST."""

from pathlib import Path

from rbm_tutorial.files import read_arrays
from rbm_tutorial.rbm import RBM

WEIGHTS = Path(__file__).parent / "mnist_rbm500.npz"


def load_pretrained_rbm() -> RBM:
    """The best RBM(500) of the book: 784 visible units, trained on binarized MNIST.

    The weights are kept in half precision and returned in the precision of Keras' floats. Their
    test log-likelihood is in `stored_result("likelihood_pretrained")`; `python
    experiments/likelihood_mnist.py pretrained` measures it again. Draws nothing.
    Raises: `ValueError` that names the file if it is damaged.
    """
    w, hb, vb = read_arrays(WEIGHTS, "w_rec", "hb", "vb")
    rbm = RBM(hb.size, vb.size)
    rbm.build(vb.shape)
    rbm.set_weights([w, hb, vb])
    return rbm
