"""Greedy training of a stack: each RBM learns the states of the one below it.

The chapter on stacking derives when that raises a bound on the likelihood.
"""

import inspect
from collections.abc import Sequence

import keras
import numpy as np

from rbm_tutorial.backend import fork_stream
from rbm_tutorial.checks import (
    check_count,
    check_ends,
    check_examples,
    check_finite_weights,
    check_flag,
    check_machine,
    check_matrix,
    check_tied,
    real_array,
)
from rbm_tutorial.contrast import learning_rate_of, traced_settings
from rbm_tutorial.examples import checked_weights, images, one_for_each
from rbm_tutorial.fit_arguments import checked_loop
from rbm_tutorial.labeled import LabeledRBM, one_hot
from rbm_tutorial.pipelines import is_dataset
from rbm_tutorial.rbm import RBM
from rbm_tutorial.recovery import Backup
from rbm_tutorial.stack import DeepBeliefNetwork, checked_stack
from rbm_tutorial.training import ContrastiveDivergence
from rbm_tutorial.units import number_of_first

BACKUPS = (Backup, keras.callbacks.BackupAndRestore)
VALIDATION = 2**31  # in place of an epoch: the states of validation examples are drawn once


def transposed(rbm: RBM, hidden: int | None = None, **kwargs) -> RBM:
    """A second layer that is the first one upside down: its p(v) is p(h) of `rbm`.

    w, hb and vb are w_recᵀ, vb and hb of `rbm`, and a network of both is `rbm` over again. Further
    `hidden` units, beyond the visible ones of `rbm`, keep the small weights that they are made with
    and biases of 0, so that p(v) is nearly the same and there is room to learn.

    Args:
        rbm: the first layer, tied.
        hidden: number of hidden units; as many as `rbm` has visible ones if `None`.
        **kwargs: as for `RBM`, such as `seed`.

    Raises: `ValueError` on an untied layer, and for fewer hidden units.
    Source: Hinton, Osindero & Teh, A fast learning algorithm for deep belief nets (2006).
    """
    check_machine(rbm, "transposed")
    visible, codes = rbm.number_visible_units, rbm.number_hidden_units
    hidden = visible if hidden is None else hidden
    check_count("hidden", hidden, least=visible)
    of_first = _places(rbm.visible_units, visible, hidden)
    units = {"visible_units": rbm.hidden_units, "hidden_units": rbm.visible_units}
    above = RBM(hidden, number_visible_units=codes, **units, **kwargs)
    above.build((None, codes))
    w, hb, _ = (np.array(parameter) for parameter in above.get_weights())
    w[:, of_first], hb[of_first] = np.transpose(rbm.w_rec), rbm.vb
    above.set_weights([w, hb, np.array(rbm.hb)])
    return above


def _places(units, visible, hidden):
    """Where `visible` units go among `hidden`: of units beside others the first type has room."""
    first = number_of_first(units, visible)
    return np.r_[:first, hidden - visible + first : hidden]


class StatesAbove(keras.utils.PyDataset):
    """Batches of states drawn from q(hˡ | x), beside one-hot labels if there are any.

    States and order depend on `seed`, `None` counting as 0, on the number of layers below and on
    the epoch alone, so that a run can be resumed.
    """

    def __init__(self, x, lower, labels, batch_size, seed, shuffle=True):
        super().__init__()
        self.x, self.lower, self.labels = x, lower, labels
        self.batch_size, self.seed, self.shuffle = batch_size, seed or 0, shuffle
        self.start(0)

    def start(self, epoch):
        """Draw the states of an epoch."""
        rng = np.random.default_rng([self.seed, len(self.lower), epoch])
        states = drawn_above(self.x, self.lower, self.labels, rng)
        self.states = states[rng.permutation(len(states))] if self.shuffle else states

    def __len__(self):
        return -(-len(self.states) // self.batch_size)

    def __getitem__(self, i):
        return self.states[i * self.batch_size : (i + 1) * self.batch_size]


def drawn_above(x, lower, labels, rng):
    """Draw h ~ q(hˡ | x) layer by layer with numbers of `rng`, a thousand rows at a time."""

    def uniform(shape):
        return rng.random(tuple(int(length) for length in shape), "float32")

    for rbm in lower:
        rows = range(0, len(x), 1000)
        logits = (rbm.hidden_logits(x[i : i + 1000]) for i in rows)
        x = np.concatenate([rbm.hidden_units.sample(batch, uniform) for batch in logits])
    return x if labels is None else np.concatenate([x, labels], axis=1)


class StartEpoch(keras.callbacks.Callback):
    """Tell the states which epoch begins."""

    def __init__(self, states):
        super().__init__()
        self.states = states

    def on_epoch_begin(self, epoch, logs=None):
        self.states.start(epoch)


def momentum(rbm):
    """Gradient descent at the layer's rate with a momentum of 0.5."""
    return keras.optimizers.SGD(learning_rate_of(rbm), momentum=0.5)


def train_stack(
    x,
    rbms: Sequence[RBM],
    labels=None,
    optimizer=momentum,
    persistent_chains: int = 0,
    centered: bool = False,
    batch_size: int = 100,
    callbacks=(),
    validation_data=None,
    shuffle: bool = True,
    **fit,
) -> DeepBeliefNetwork:
    """Train RBMs greedily, each on the states of the one below it, and stack them.

    Layer l learns, by `ContrastiveDivergence`, states drawn from q(hˡ⁻¹ | x) for the images x, anew
    in each epoch. All arguments are checked before the first layer is trained.

    Args:
        x: array (examples, visible), values in [0, 1], or a `tf.data.Dataset` of such batches, or
            of pairs of such batches and labels, which are used if the last layer sees labels.
        rbms: the layers from bottom to top, such as `[RBM(500), RBM(500), RBM(2000)]`. They are
            trained in place, those that are built from the weights that they have, the others from
            small ones and the biases of `adapt`. The lower ones are untied only in the network.
        labels: (examples,) integers, if the last of `rbms` is a `LabeledRBM`.
        optimizer: any that `compile` takes, of which each layer gets one of its own, or a function
            that makes of an RBM the optimizer that trains it. By default gradient descent at the
            layer's `learning_rate`, with a momentum of 0.5.
        persistent_chains, centered: as for `ContrastiveDivergence`.
        batch_size: examples in each update.
        callbacks: Keras callbacks for every layer, or a function that makes of an RBM those for its
            training.
        validation_data: images (examples, visible), or (images, labels) or (images, labels,
            weights), or a `tf.data.Dataset`. Their states are drawn once for each layer.
        shuffle: whether examples come in another order in each epoch.
        **fit: as for `fit`: `epochs`, `verbose` … for each of the layers.

    The order of examples and the states depend on the seed of the layer, its place and the epoch.

    Raises: `ValueError` for layers that do not fit, empty data, values outside [0, 1], labels
    without a layer that sees them or the reverse.
    Source: Hinton, Osindero & Teh (2006), section 4.
    """
    rbms = checked_layers(rbms)
    for_each = callable(callbacks) and not isinstance(callbacks, type)
    check_fit({**fit, "callbacks": None if for_each else callbacks})
    optimizers = [optimizer_for(rbm, optimizer) for rbm in rbms]
    if len({id(each) for each in optimizers}) < len(rbms):
        raise ValueError("`optimizer` must make a new one for each layer. Received one twice.")
    check_flag("centered", centered)
    check_count("batch_size", batch_size)
    check_count("persistent_chains", persistent_chains, least=0)
    x, labels, weights = checked_examples("x", (x, labels), rbms)
    if weights is not None:
        raise ValueError("`x` must come without weights. Received a data set with some.")
    if validation_data is not None:
        x_val, labels_val, weights_val = checked_examples("validation_data", validation_data, rbms)
    for depth, rbm in enumerate(rbms):
        lower, top = rbms[:depth], rbm is rbms[-1]
        states = StatesAbove(x, lower, labels if top else None, batch_size, rbm.seed, shuffle)
        if not rbm.built:
            fork_stream(rbm.seed_generator, depth)  # else equal seeds start from equal weights
            rbm.adapt(states.states)
        model = ContrastiveDivergence(rbm, persistent_chains, centered)
        model.compile(optimizers[depth])
        model.build((None, rbm.number_visible_units))
        if validation_data is not None:
            rng = np.random.default_rng([states.seed, depth, VALIDATION])
            above = drawn_above(x_val, lower, labels_val if top else None, rng)
            fit["validation_data"] = above, None, weights_val
        given = as_list(callbacks(rbm) if for_each else callbacks)
        model.fit(states, shuffle=False, callbacks=[*given, StartEpoch(states)], **fit)
    return DeepBeliefNetwork(rbms)


def optimizer_for(rbm, optimizer):
    """A new optimizer: a copy of `optimizer`, one of that name, or what it makes of the layer."""
    if isinstance(optimizer, type):
        raise ValueError(f"`optimizer` must be made: call it. Received: the class {optimizer}")
    if isinstance(optimizer, keras.optimizers.Optimizer):
        return type(optimizer).from_config(optimizer.get_config())
    return keras.optimizers.get(optimizer(rbm) if callable(optimizer) else optimizer)


def checked_layers(rbms):
    """`rbms` as a list, once they are known to be different layers that can be trained."""
    rbms = checked_stack(rbms)
    for rbm in rbms:
        check_tied(rbm, "train_stack")
        traced_settings(rbm)  # raises for what they cannot be
        check_finite_weights(rbm)
        rbm.hidden_units.check_number(rbm.number_hidden_units)
    if len({id(rbm) for rbm in rbms}) < len(rbms):
        raise ValueError("`rbms` must be different layers. Received one of them twice.")
    return rbms


def check_fit(given):
    """Raise a `ValueError` for what `fit` does not take, or not with states that are drawn."""
    if any(isinstance(callback, BACKUPS) for callback in as_list(given["callbacks"])):
        raise ValueError(
            "`callbacks` with a backup must be a function that makes of a layer the callbacks for "
            "it, each backup in a folder of its own. Received one backup for all layers."
        )
    known = inspect.signature(keras.Model.fit).parameters.keys()
    known = known - {"self", "y", "sample_weight", "class_weight", "validation_split"}
    for name, value in given.items():
        if value is not None and name not in known:
            raise ValueError(
                f"`{name}` must be left out: `fit` takes {sorted(known)} here. Received: {value!r}"
            )
    checked_loop(given)


def as_list(callbacks):
    """Callbacks as Keras takes them: one, several or `None`."""
    return keras.tree.flatten([] if callbacks is None else callbacks)


def checked_examples(name, data, rbms):
    """Examples as an array, their labels in one-hot form and weights, if all fit the layers.

    `data` is an array, (x, labels) or (x, labels, weights), or a data set instead of arrays. What
    there is not is `None`.
    """
    x, labels, weights = unpacked(data)
    top = rbms[-1]
    labeled = isinstance(top, LabeledRBM)
    if is_dataset(x) and labels is None:
        x, labels, weights = arrays_of(name, images(x, labeled, name))
    x = real_array(name, x).astype("float32")
    check_matrix(name, x, rbms[0].number_visible_units)
    check_examples(name, len(x))
    rbms[0].visible_units.checked(x, name)
    if labeled != (labels is not None):
        raise ValueError(
            "`labels` are for a LabeledRBM at the end of `rbms`, which must get them. Received: "
            f"{'no labels' if labels is None else 'labels'}, and a {type(top).__name__}"
        )
    if labeled:
        labels = np.asarray(one_hot(one_for_each("labels", labels, x), top.number_classes))
    if weights is not None:
        weights = checked_weights(one_for_each("weights", weights, x, single=True))
    return x, labels, weights


def unpacked(data):
    """x, labels and weights of what `fit` of Keras takes for validation."""
    if isinstance(data, list) and len(np.shape(data[:1])) < 3:  # rows of one array
        return data, None, None
    return keras.utils.unpack_x_y_sample_weight(data)


def arrays_of(name, data):
    """x, labels and weights of all batches of a data set together."""
    check_ends(name, data)
    batches = [keras.utils.unpack_x_y_sample_weight(batch) for batch in data]
    check_examples(name, len(batches))
    parts = [None if part[0] is None else np.concatenate(part) for part in zip(*batches)]
    return [None if part is None or part.shape[1:] == (0,) else part for part in parts]
