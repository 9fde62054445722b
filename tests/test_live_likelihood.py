"""The log-likelihood while a machine learns, against enumeration at every step of the path."""

import itertools

import keras
import numpy as np
import pytest
from conftest import only_tensorflow
from enumerated import exact_of
from keras import ops
from machines import PAIRS, each_pair, machine, machine_of, parameters_of
from sampled import exact_samples
from scipy import stats
from trained import EXAMPLES, assert_equal_weights

from rbm_tutorial import RBM, ContrastiveDivergence
from rbm_tutorial.backend import uniform_stream
from rbm_tutorial.live_likelihood import (
    Followed,
    LiveLikelihood,
    error_squared,
    log_partition,
    step_along,
)
from rbm_tutorial.recovery import Backup

FIT = {"batch_size": 8, "verbose": 0, "shuffle": False}


def follower(rbm=None, optimizer=None, chains=20, **kwargs):
    """A compiled model that follows its likelihood, built as its RBM is."""
    rbm = machine() if rbm is None else rbm
    model = ContrastiveDivergence(rbm, likelihood_chains=chains, **kwargs)
    model.compile(optimizer or keras.optimizers.SGD(0.05))
    return model


def exact_log_z(parameters):
    """log Z of a binary machine in float64, summed over the hidden states."""
    w, hb, vb = (np.asarray(each, "float64") for each in parameters)
    h = np.array(list(itertools.product([0.0, 1.0], repeat=len(hb))))
    return np.logaddexp.reduce(h @ hb + np.logaddexp(0, h @ w.T + vb).sum(axis=1))


def exact_log_likelihood(parameters, x):
    """Mean log p(x) of a binary machine, in float64."""
    w, hb, vb = (np.asarray(each, "float64") for each in parameters)
    minus_f = x @ vb + np.logaddexp(0, x @ w + hb).sum(axis=1)
    return minus_f.mean() - exact_log_z(parameters)


def average_of(model):
    return [np.asarray(variable.value) for variable in model.live.average]


# ---------------------------------------------------------------- one step


def chains_at(v):
    zero = ops.zeros((), "float32")
    v = ops.convert_to_tensor(v, "float32")
    return Followed(v, ops.zeros_like(v[:, 0]), zero, zero, ops.zeros((), "int32"))


def weights_of_a_step(old, new, twisted=False):
    """The error of mean w against Z_new / Z_old, in standard errors; chains start in old's p."""
    exact, target = exact_of(old), exact_of(new)
    followed = chains_at(exact_samples(exact, 4000, seed=1))
    ends = [[ops.cast(each, "float32") for each in (m.w_rec, m.hb, m.vb)] for m in (old, new)]
    units, draws = (old.visible_units, old.hidden_units), uniform_stream(np.array([3, 4]))
    moved, _ = step_along(units, *(ends[::-1] if twisted else ends), followed, draws)
    error = float(log_partition(moved)) - (target.log_z - exact.log_z)
    return error / float(error_squared(moved)) ** 0.5


@each_pair("binary, binary", "classes, binary", "binary, real", "real, binary", "labels, mixed")
def test_weights_of_a_step_have_the_mean_of_z_new_over_z_old(pair):
    old, new = machine_of(pair, 0.5, seed=1), machine_of(pair, 0.5, seed=1)
    for parameter in (new.w_rec, new.hb, new.vb):
        parameter.assign(parameter * 1.15)
    assert abs(weights_of_a_step(old, new)) < 3.5
    assert abs(weights_of_a_step(old, new, twisted=True)) > 7  # F_new - F_old


def test_chains_that_start_in_the_target_stay_there_when_they_are_resampled():
    old, new = machine(scale=0.5), machine(scale=0.5)
    new.vb.assign(new.vb + np.array([3, -3, 3, -3]))  # so far that few chains carry the weight
    followed = chains_at(exact_samples(exact_of(old), 20_000, seed=1))
    ends = [[ops.cast(each, "float32") for each in (m.w_rec, m.hb, m.vb)] for m in (old, new)]
    units, draws = (old.visible_units, old.hidden_units), uniform_stream(np.array([3, 4]))
    moved, _ = step_along(units, *ends, followed, draws)
    assert int(moved.resamplings) == 1 and not np.any(moved.log_w)
    exact = exact_of(new)
    expected = exact.p_v @ exact.v
    share = 1 / (20_000 * float(error_squared(moved)) + 1)
    errors = np.sqrt(expected * (1 - expected) / (20_000 * share))
    assert np.all(np.abs(np.mean(moved.v, axis=0) - expected) < 4 * errors)
    assert np.any(np.abs(np.mean(followed.v, axis=0) - expected) > 20 * errors)  # not moved at all


@pytest.mark.parametrize("last", [0, 3, 9])
def test_all_chains_go_on_from_the_one_that_has_all_the_weight(last):
    """Not from its neighbor: the step before hardly moves, so that each stays near its image."""
    v = np.eye(10, dtype="float32")
    log_w = np.where(np.arange(10) == last, 0.0, -1e3).astype("float32")
    followed = chains_at(v)._replace(log_w=ops.convert_to_tensor(log_w))
    still = [50 * np.eye(10), np.full(10, -25), np.full(10, -25)]  # h = v and v = h, nearly surely
    still = [ops.convert_to_tensor(each.astype("float32")) for each in still]
    binary = machine(10, 10)
    units = binary.visible_units, binary.hidden_units
    moved, _ = step_along(units, still, still, followed, uniform_stream(np.array([3, 4])))
    np.testing.assert_array_equal(moved.v, np.tile(v[last], (10, 1)))


# ---------------------------------------------------------------- a whole run


class Errors(keras.callbacks.Callback):
    """Errors of log Z against enumeration after every epoch, and in stated standard errors."""

    def on_train_begin(self, logs=None):
        self.nats, self.stated = [], []

    def on_epoch_end(self, epoch, logs=None):
        followed = self.model.live.values()
        self.nats.append(float(log_partition(followed)) - exact_log_z(average_of(self.model)))
        self.stated.append(self.nats[-1] / float(error_squared(followed)) ** 0.5)


def prototypes(visible, seed):
    """200 noisy copies of four random patterns."""
    rng = np.random.default_rng(seed)
    patterns = rng.random((4, visible)) < 0.5
    return np.float32(patterns[rng.integers(4, size=200)] ^ (rng.random((200, visible)) < 0.1))


RUNS = {  # units, and what the model and its optimizer get
    "CD-1": (16, 12, {}, keras.optimizers.SGD, 0.1),
    "PCD-3": (12, 9, {"persistent_chains": 20, "cd_steps": 3}, keras.optimizers.SGD, 0.1),
    "centered": (10, 12, {"persistent_chains": 20, "centered": True}, keras.optimizers.SGD, 0.1),
    "Adam": (14, 6, {}, keras.optimizers.Adam, 0.01),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_error_is_what_it_is_said_to_be_at_every_epoch(name):
    visible, hidden, settings, optimizer, rate = RUNS[name]
    settings = dict(settings)
    rbm = machine(visible, hidden, 0.01, cd_steps=settings.pop("cd_steps", 1))
    model, errors, stated = follower(rbm, optimizer(rate), chains=50, **settings), Errors(), []
    start = rbm.get_weights()
    for seed in range(12):
        rbm.set_weights(start)
        if model.built:
            model.live.updates.assign(0)  # begin anew
        model.fit(prototypes(visible, seed), epochs=4, callbacks=[errors], **FIT)
        stated.append(errors.stated)
    squares = np.sum(np.square(stated), axis=0)  # of each epoch, over the runs
    assert (
        stats.chi2.sf(squares, df=12).min() > 1e-3 and stats.chi2.cdf(squares, df=12).min() > 1e-3
    )


class AlongRawWeights(LiveLikelihood):
    def follow(self, rbm, x, first, momentum=None):
        return super().follow(rbm, x, first, momentum=0.0)


class WithChainsOfTheGradient(LiveLikelihood):
    def values(self):
        return super().values()._replace(v=self.chains.value)


def worst_error(kind):
    """Of log Z at the end of an epoch, nats, and the resamplings, of a machine that learns fast."""
    model = follower(machine(12, 9, 0.01), keras.optimizers.SGD(0.3), 50, persistent_chains=50)
    model.live, errors = kind(50), Errors()
    model.build((None, 12))
    model.live.chains = model.chains
    model.fit(prototypes(12, 5), epochs=20, callbacks=[errors], **FIT)
    return np.abs(errors.nats).max(), int(model.live.followed.resamplings)


@pytest.mark.parametrize("rate, momentum, expected", [(0.0, 0.9, 10), (1.0, 0.1, 1)])
def test_chains_step_as_often_as_the_weights_move(rate, momentum, expected):
    optimizer = keras.optimizers.SGD(rate, use_ema=True, ema_momentum=momentum)
    model = follower(machine(), optimizer)
    model.fit(np.tile(EXAMPLES, (4, 1)), epochs=1, batch_size=1, verbose=0)
    assert abs(int(model.live.wait) - expected) <= 1


def test_the_average_of_an_optimizer_that_scales_losses_is_found():
    """With a momentum of 0, θ̄ is what the weights were before the update that it follows."""
    model = ContrastiveDivergence(machine(), likelihood_chains=10, dtype="mixed_float16")
    model.compile(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.0))
    model.fit(EXAMPLES, batch_size=22, verbose=0)
    expected = parameters_of(model.rbm)
    model.fit(EXAMPLES, batch_size=22, verbose=0)
    for found, before in zip(average_of(model), expected, strict=True):
        np.testing.assert_allclose(found, before, atol=1e-6)


def test_neither_raw_weights_nor_the_chains_of_the_gradient_would_do():
    assert worst_error(LiveLikelihood)[0] < 0.2
    error, resamplings = worst_error(AlongRawWeights)
    assert error > 0.5 and resamplings > 20  # which tells that one step is too long
    assert worst_error(WithChainsOfTheGradient)[0] > 1


def test_chains_begin_where_the_weights_are():
    rbm = machine(6, 4, 2.0)  # far from independent pixels
    model = follower(rbm, chains=100)
    model.evaluate(np.zeros((2, 6)), verbose=0)
    followed = model.live.values()
    error = float(log_partition(followed)) - exact_log_z(parameters_of(rbm))
    assert abs(error) < 3.5 * float(error_squared(followed)) ** 0.5 < 0.5


# ---------------------------------------------------------------- what is reported


def test_fit_reports_the_log_likelihood_of_averaged_weights():
    model = follower(persistent_chains=5, chains=400)
    logs = model.fit(EXAMPLES, epochs=3, validation_data=EXAMPLES[:9], **FIT).history
    reported, error = logs["val_log_likelihood"][-1], logs["val_log_likelihood_error"][-1]
    assert abs(reported - exact_log_likelihood(average_of(model), EXAMPLES[:9])) < 3.5 * error < 0.2
    assert len(logs["log_likelihood"]) == len(logs["log_likelihood_error"]) == 3
    again = model.evaluate(EXAMPLES[:9], verbose=0, return_dict=True)["log_likelihood"]
    np.testing.assert_allclose(again, reported, rtol=1e-6)


@pytest.mark.parametrize("weights", [None, [1.0, 0.0, 2.0, 1.0]])
def test_in_training_it_is_the_mean_over_batches_that_the_chains_followed(weights):
    x = EXAMPLES[:4]
    model = follower(chains=400)
    sample_weight = None if weights is None else np.array(weights)
    logs = model.train_on_batch(x, sample_weight=sample_weight, return_dict=True)
    rows = x if weights is None else x[[0, 2, 2, 3]]
    expected = exact_log_likelihood(average_of(model), rows)
    assert abs(logs["log_likelihood"] - expected) < 3.5 * logs["log_likelihood_error"]


def test_an_epoch_of_one_batch_has_its_likelihood_too():
    logs = follower().fit(EXAMPLES[:4], epochs=3, batch_size=4, verbose=0).history
    assert np.all(np.array(logs["log_likelihood"]) < -1)


def test_weights_are_averaged_as_the_optimizer_does():
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    model = follower(machine(), optimizer)
    seen = []  # the weights before each update, since every update is the first of its epoch
    look = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(parameters_of(model.rbm))
    )
    model.fit(EXAMPLES[:8], epochs=30, callbacks=[look], **FIT)
    average = seen[0]
    for weights in seen:
        average = [0.9 * a + 0.1 * b for a, b in zip(average, weights)]
    for ours, expected, in_layer in zip(average_of(model), average, parameters_of(model.rbm)):
        np.testing.assert_allclose(ours, expected, atol=1e-5)
        np.testing.assert_allclose(ours, in_layer, atol=0.05)  # one update and the start apart


def test_without_an_average_of_the_optimizer_the_last_tenth_counts():
    model = follower(machine(scale=0.0), keras.optimizers.SGD(0.0))
    model.train_on_batch(EXAMPLES[:8])
    model.rbm.vb.assign(np.ones(4))  # a jump, which the average follows
    model.fit(EXAMPLES[:8], epochs=50, **FIT)
    left = np.prod([1 - 1 / (100 + update / 10) for update in range(2, 52)])
    np.testing.assert_allclose(average_of(model)[2], 1 - left, rtol=1e-4)


def test_units_of_three_states_have_their_likelihood():
    rbm = machine_of(PAIRS["binomial, binary"])
    exact, model = exact_of(rbm), follower(rbm, chains=400)
    model.build((None, 3))
    model.prepare()
    errors = np.asarray(model.live.log_likelihood(exact.v)) + exact.free_energy + exact.log_z
    assert np.abs(errors).max() < 3.5 * float(error_squared(model.live.values())) ** 0.5


# ---------------------------------------------------------------- beside training


def test_learning_is_not_changed_by_being_watched():
    watched, alone = follower(persistent_chains=5), ContrastiveDivergence(machine(), 5)
    alone.compile(keras.optimizers.SGD(0.05))
    for model in (watched, alone):
        model.fit(EXAMPLES, epochs=3, **FIT)
    assert_equal_weights(watched.rbm, alone.rbm)
    np.testing.assert_array_equal(watched.chains, alone.chains)


def test_evaluation_moves_nothing():
    model = follower()
    model.fit(EXAMPLES, epochs=2, **FIT)
    before = [np.array(weight) for weight in model.live.get_weights()]
    model.evaluate(EXAMPLES, verbose=0)
    for old, new in zip(before, model.live.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_a_run_that_was_interrupted_goes_on_bit_for_bit(tmp_path):
    whole = follower(RBM(3, seed=1), persistent_chains=5)
    history = whole.fit(EXAMPLES, epochs=4, **FIT).history
    follower(RBM(3, seed=1), persistent_chains=5).fit(
        EXAMPLES, epochs=2, callbacks=[Backup(tmp_path / "run")], **FIT
    )
    resumed = follower(RBM(3, seed=1), persistent_chains=5)
    rest = resumed.fit(EXAMPLES, epochs=4, callbacks=[Backup(tmp_path / "run")], **FIT).history
    assert rest["log_likelihood"] == history["log_likelihood"][2:]
    assert_equal_weights(whole, resumed)
    whole.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for model in (whole, loaded):
        model.fit(EXAMPLES, epochs=2, **FIT)
    assert_equal_weights(whole, loaded)


@only_tensorflow
def test_compiled_and_eager_runs_follow_the_same_path():
    compiled, eager = follower(persistent_chains=5), follower(persistent_chains=5)
    eager.run_eagerly = True
    for model in (compiled, eager):
        model.fit(EXAMPLES, epochs=3, **FIT)
    for ours, theirs in zip(compiled.live.get_weights(), eager.live.get_weights()):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
