"""Restricted Boltzmann Machines as Keras layers: the package behind the book."""

from rbm_tutorial.data import as_arrays, bars_and_stripes, binarize, flatten_image, load_mnist
from rbm_tutorial.greedy import train_stack
from rbm_tutorial.labeled import LabeledRBM
from rbm_tutorial.pretrained import load_pretrained_rbm
from rbm_tutorial.rbm import RBM
from rbm_tutorial.source_loop import train_rbm
from rbm_tutorial.stack import DeepBeliefNetwork
from rbm_tutorial.training import ContrastiveDivergence
from rbm_tutorial.wake_sleep import WakeSleep

__version__ = "0.1.0"

__all__ = [
    "RBM",
    "ContrastiveDivergence",
    "DeepBeliefNetwork",
    "LabeledRBM",
    "WakeSleep",
    "as_arrays",
    "bars_and_stripes",
    "binarize",
    "flatten_image",
    "load_mnist",
    "load_pretrained_rbm",
    "train_rbm",
    "train_stack",
]
