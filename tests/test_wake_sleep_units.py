"""The delta rules of wake-sleep for units of any type, and for batches that count for nothing."""

import keras
import numpy as np
import pytest
from enumerated import states
from machines import BINARY, CLASSES, REAL, machine
from networks import network, untraced
from trained import Given

from rbm_tutorial import DeepBeliefNetwork, WakeSleep
from rbm_tutorial.rectified import ReLU

RECTIFIED = ReLU()
LAYERS = {  # of the lowest layer: visible units, how many, hidden units, how many
    "binary": (BINARY, 4, BINARY, 3),
    "real": (REAL, 4, BINARY, 3),
    "rectified": (BINARY, 4, RECTIFIED, 3),
    "classes": (CLASSES, 6, REAL, 3),
}


def two_layers(visible, number_visible, hidden, number_hidden):
    lower = machine(
        number_visible, number_hidden, 0.5, visible_units=visible, hidden_units=hidden
    ).untie()
    top_units = {"visible_units": hidden, "hidden_units": BINARY}
    return DeepBeliefNetwork([lower, machine(number_hidden, 2, 0.5, seed=1, **top_units)])


@pytest.mark.usefixtures(untraced.__name__)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_each_weight_follows_the_delta_rule_of_its_own_two_layers(layer):
    """Draws of real units have a gradient in what drew them, which none of the rules has."""
    dbn, twin = two_layers(*layer), two_layers(*layer)
    lower, rng = twin.lower[0], np.random.default_rng(0)
    x = np.eye(6)[[0, 0, 1, 2]] + np.eye(6)[[3, 4, 5, 5]] if layer[0] == CLASSES else states(4)[4:8]
    v_k = abs(rng.normal(size=(5, 3))) if layer[2] == RECTIFIED else rng.integers(0, 2, (5, 3))
    model = WakeSleep(dbn, negatives=Given(v_k))
    model.compile(keras.optimizers.SGD(1.0))
    before = [np.asarray(w) for w in (dbn.lower[0].w_rec, dbn.lower[0].w_gen)]
    model.fit(x, batch_size=4, verbose=0, shuffle=False)
    _, h = twin.sample_up(np.float32(x))
    v, h_k = (*twin.sample_down(np.float32(v_k)), np.float32(v_k))[:2]
    wake = np.asarray(h).T @ (x - np.asarray(lower.reverse(h))) / len(x)
    sleep = np.asarray(v).T @ (np.asarray(h_k) - np.asarray(lower.forward(v))) / len(v_k)
    after = dbn.lower[0].w_rec, dbn.lower[0].w_gen
    for old, new, rule in zip(before, after, (sleep, wake)):
        np.testing.assert_allclose(np.asarray(new) - old, rule, atol=2e-5)


def test_a_batch_of_no_weight_teaches_nothing_whatever_the_chains_dream():
    model = WakeSleep(network(), persistent_chains=5)
    model.compile(keras.optimizers.SGD(1.0))
    model.build((None, 4))
    layers = [*model.dbn.lower, model.dbn.top]
    before = [np.asarray(w) for rbm in layers for w in rbm.trainable_variables]
    model.fit(states(4), sample_weight=np.zeros(16), verbose=0)
    after = [np.asarray(w) for rbm in layers for w in rbm.trainable_variables]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)
