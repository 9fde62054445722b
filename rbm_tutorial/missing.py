"""Missing values: examples of which some units are not known, NaN where they are missing.

Only what this module defines takes them; everywhere else NaN is refused. What is missing is summed
out, by draws from the machine itself given what is known.
"""

from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from rbm_tutorial.annealing import (
    annealed_chains,
    base_biases,
    checked_betas,
    log_mean_weight,
)
from rbm_tutorial.backend import checked_range, uniform_stream
from rbm_tutorial.checks import (
    check_count,
    check_machine,
    check_matrix,
    finite_number,
    fixed_seed,
    real_array,
)
from rbm_tutorial.sampling import clamped_step, independent_units, known_sites, site_members
from rbm_tutorial.training import ContrastiveDivergence


def imputed(rbm, x, steps: int):
    """x, (batch, visible), with each NaN replaced by a draw given what is known of its row.

    By Gibbs chains of so many steps in which the known units stay; the others start at draws from
    their biases alone. After many steps they are draws from p(v_missing | v_known). Works eagerly
    and in graphs. Draws from the layer.
    """
    known = ops.logical_not(ops.isnan(x))
    free = rbm.visible_units.sample(ops.zeros_like(x) + rbm.vb, rbm.uniform)
    v = ops.where(known, x, free)
    for _ in range(steps):
        v = clamped_step(rbm, v, known)
    return v


class MarginalEstimate(NamedTuple):
    """Of each example, (batch,) nats: log p(v_known), and the standard error of that."""

    log_p: np.ndarray
    standard_error: np.ndarray


def marginal_log_likelihood(
    rbm,
    x,
    log_z: float,
    num_chains: int = 100,
    num_betas: int = 1000,
    base_rate=None,
    seed: int = 0,
    betas=None,
) -> MarginalEstimate:
    """Estimate log p(v_known) = log Σ_{v_missing} p(v) of each row of x, whose NaN are missing.

    The sum over what is missing is the partition function of a smaller machine, in which the known
    units stay; annealed importance sampling estimates it, with `num_chains` for each row. The mean
    weight is unbiased, so that the logarithm is too low on average: this estimate does not flatter.

    Args:
        rbm: the machine, tied.
        x: states of the visible units, (batch, visible), NaN where missing.
        log_z: its log partition function.
        num_chains: for each row; like all that follow as for `ais_log_partition`.
        num_betas: the same.
        base_rate: the same.
        seed: the same.
        betas: the same.

    Raises: `ValueError` on an untied layer, for states that cannot be, and for groups of units of
    which one is on that are missing in part.
    """
    check_machine(rbm, "marginal_log_likelihood")
    seed, log_z = fixed_seed("seed", seed), finite_number("log_z", log_z)
    check_count("num_chains", num_chains, least=2)
    betas, base = checked_betas(num_betas, betas), base_biases(rbm, base_rate)
    x = real_array("x", x).astype("float32")
    check_matrix("x", x, rbm.number_visible_units)
    known = ~np.isnan(x)
    log_z0 = _log_z0_of_missing(rbm, x, known, np.asarray(base))
    rows, known = np.repeat(x, num_chains, axis=0), np.repeat(known, num_chains, axis=0)
    free = independent_units(rbm, len(rows), base, uniform_stream(np.array([seed, 0])))
    start = ops.convert_to_tensor(np.where(known, rows, np.asarray(free)))
    rbm.visible_units.check_states("x", start)
    _, log_w = annealed_chains(rbm, start, betas, base, seed, known=known)
    log_mean, error = log_mean_weight(log_w.reshape(len(x), num_chains))
    return MarginalEstimate(log_z0 + log_mean - log_z, error)


def _log_z0_of_missing(rbm, x, known, base):
    """log Σ_{v_missing} p*₀(v) of each row, (batch,): log Z of missing sites, x·a₀ of others."""
    units, hidden = rbm.visible_units, np.zeros((1, rbm.number_hidden_units), "float32")
    x = np.where(known, x, 0)
    missing = ~known_sites(units, known)
    of_sites = missing @ np.asarray(units.log_normalizer(base[None]), "float64")[0]
    of_hidden = np.sum(np.asarray(rbm.hidden_units.log_normalizer(hidden), "float64"))
    return of_sites + x @ base + np.asarray(units.log_measure(x)) + of_hidden


@keras.saving.register_keras_serializable("rbm_tutorial")
class IncompleteContrastiveDivergence(ContrastiveDivergence):
    """`ContrastiveDivergence` on examples of which NaN are missing: climbs log p(v_known).

    The gradient of -log p(v_known) is the mean of that of F over p(v_missing | v_known), minus the
    model's. Each update estimates it with one draw of what is missing, by `imputed`. The cost and
    the free energy that it reports are of examples so completed. In evaluation NaN is refused: see
    `marginal_log_likelihood`.

    Args:
        rbm: the `RBM` to train, tied.
        imputation_steps: Gibbs steps of each such draw.
        **kwargs: as for `ContrastiveDivergence`.
    """

    def __init__(self, rbm, imputation_steps: int = 10, **kwargs):
        check_count("imputation_steps", imputation_steps)
        super().__init__(rbm, **kwargs)
        if self.live is not None:
            raise ValueError(
                "`likelihood_chains` must be 0: examples that the machine has completed are more "
                f"probable than true ones. Received: {self.live.number}"
            )
        self.imputation_steps = imputation_steps

    def settings(self):
        check_count("imputation_steps", self.imputation_steps)
        return (*super().settings(), self.imputation_steps)

    def prepare(self):
        super().prepare()
        self.members = site_members(self.rbm.visible_units, self.width)
        if self.rbm.activity_regularizer is not None:
            raise ValueError(
                "`activity_regularizer` of `rbm` must be None: Keras would apply it to examples "
                f"with NaN. Received: {self.rbm.activity_regularizer}"
            )

    def start(self, x):
        super().start(_with_means(np.asarray(x, "float32")))

    def check(self, x, y=None, learns=True):
        if learns:
            self.rbm.visible_units.check_number(x.shape[1])
            known_sites(self.rbm.visible_units, ~np.isnan(x), "x")
            x = _with_means(x)
        super().check(x, y, learns)

    def batch_loss(self, x, y, y_pred, weights, training):
        if training:
            x = known_as_a_whole(self.members, ops.cast(x, self.rbm.vb.dtype))
            x = imputed(self.rbm, x, self.imputation_steps)
        return super().batch_loss(x, y, y_pred, weights, training)

    def get_config(self):
        return {**super().get_config(), "imputation_steps": self.imputation_steps}


def known_as_a_whole(members, x):
    """x, (batch, visible), once each site of `members`, if not `None`, has no NaN, or these alone.

    What XLA compiles cannot raise: there such a row is infinite, which units of groups refuse.
    """
    if members is None:
        return x
    known = ops.cast(ops.logical_not(ops.isnan(x)), "float32")
    number, size = ops.matmul(known, members), members.sum(axis=0)
    message = (
        "`x` must hold all units of a group of which one is on, or none. Received numbers of units"
    )
    in_part = checked_range(ops.minimum(number, size - number), 0, 0, message)
    return ops.where(ops.all(in_part == 0, axis=1, keepdims=True), x, np.inf)


def _with_means(x):
    """x, (examples, visible), with the mean of each unit where it is NaN."""
    known = ~np.isnan(x)
    means = np.where(known, x, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(known, x, means)
