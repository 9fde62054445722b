"""Parallel trajectory tempering: a ladder of what the machine was earlier in its training."""

import keras
import numpy as np
from keras import ops

from rbm_tutorial.backend import affine
from rbm_tutorial.checks import check_count, real_array
from rbm_tutorial.negatives import kept
from rbm_tutorial.sampling import log_ratio, tempered_gibbs_step
from rbm_tutorial.tempering import TemperedChains


@keras.saving.register_keras_serializable("rbm_tutorial")
class TrajectoryChains(TemperedChains):
    """Parallel trajectory tempering: the rungs are what the machine was earlier in its training.

    Between two temperatures a machine may change all at once; while it learns, a mode splits from
    another where both are, so that replicas can follow. The hot end is the first checkpoint, which
    should be so early that its chains mix by themselves.

    Args:
        number: of chains.
        checkpoints: `rbm.get_weights()` of earlier machines, from first to last; the machine that
            draws stands above them. A number of them if they are to be loaded from a file.

    Raises: `ValueError` for no checkpoint, or one whose weights have other shapes. Draws from the
    layer.
    Source: Béreux, Decelle, Furtlehner, Rosset & Seoane, Fast training and sampling of restricted
    Boltzmann machines (2025).
    """

    def __init__(self, number: int, checkpoints, **kwargs):
        given = None if np.isscalar(checkpoints) else [list(each) for each in checkpoints]
        count = checkpoints if given is None else len(given)
        check_count("number of `checkpoints`", count)
        super().__init__(number, betas=np.linspace(0, 1, count + 1), **kwargs)
        self.given = given

    def make_ladder(self, rbm):
        shapes = [tuple(parameter.shape) for parameter in (rbm.w_rec, rbm.hb, rbm.vb)]
        given = self.given or [[np.zeros(shape) for shape in shapes]] * (self.rungs - 1)
        for weights in given:
            received = [real_array("checkpoints", each).shape for each in weights]
            if received != shapes:
                raise ValueError(
                    f"`checkpoints` must hold weights of the shapes {shapes}. Received: {received}"
                )
        names = ("earlier_w", "earlier_hb", "earlier_vb")
        self.earlier = [
            kept(name, np.float32(np.stack(each))) for name, each in zip(names, zip(*given))
        ]

    def rung(self, parameters, k):
        """w, hb and vb of a rung; the last is the machine as it is now."""
        return parameters if k == self.rungs - 1 else [each.value[k] for each in self.earlier]

    def logits(self, parameters, v):
        rungs = range(self.rungs)
        return ops.stack([affine(v[k], *self.rung(parameters, k)[:2]) for k in rungs])

    def log_ratios(self, rbm, parameters, state, logits):
        def rise(here, there):  # log of the p of a rung over that of another, at the states of one
            v, old, new = state.v[here], self.rung(parameters, here), self.rung(parameters, there)
            both = affine(v, *new[:2]), logits[here]
            return log_ratio(rbm.hidden_units, v, both, (new[2], old[2]))

        return ops.stack([rise(k, k + 1) + rise(k + 1, k) for k in range(self.rungs - 1)])

    def moved(self, rbm, parameters, state, logits):
        units, draws = (rbm.visible_units, rbm.hidden_units), (rbm.uniform, rbm.uniform)
        logits, moved = self.logits(parameters, state.v), []  # a swap changes the weights, too
        for k in range(self.rungs):
            of_rung = self.rung(parameters, k)
            moved.append(tempered_gibbs_step(units, of_rung, logits[k], 1.0, of_rung[2], draws))
        return ops.stack(moved)

    def get_config(self):
        config = {**super().get_config(), "checkpoints": self.rungs - 1}
        return {key: config[key] for key in config if key not in ("base_rate", "betas")}
