"""Rectified units against quadrature: by themselves, and in machines whose other layer is listed.

The oracle sums over Gauss and Legendre's nodes, in NumPy and float64.
"""

import itertools

import keras
import numpy as np
import pytest
from conftest import REFUSED_WHEN_COMPILED
from enumerated import derivatives, states
from machines import BINARY, CLASSES, REAL, machine, parameters_of, tensor
from sampled import p_value, warm, with_sampler
from scipy import special, stats

from rbm_tutorial import RBM, ContrastiveDivergence, backend, plots
from rbm_tutorial.annealing import ais_log_partition, reverse_ais_log_partition
from rbm_tutorial.exact import exact_log_partition, layer_states, statistics, visible_probabilities
from rbm_tutorial.likelihood import log_likelihood
from rbm_tutorial.rectified import ReLU
from rbm_tutorial.sampling import run_chains
from rbm_tutorial.units import Beside

RECTIFIED = ReLU()
X, WEIGHTS = (part * 10 for part in np.polynomial.legendre.leggauss(100))
X = X + 10  # nodes in [0, 20]
LOG_M = np.log(WEIGHTS) - X**2 / 2
FAR = [-30.0, -4.0, -0.5, 0.0, 0.5, 4.0, 9.0]


def log_z_of(logits):
    """log Z(l) of units with these inputs, of any shape."""
    return special.logsumexp(np.asarray(logits)[..., None] * X + LOG_M, axis=-1)


def mean_of(logits):
    return special.softmax(np.asarray(logits)[..., None] * X + LOG_M, axis=-1) @ X


# ---------------------------------------------------------------- by themselves


def test_log_normalizers_and_means_are_those_of_quadrature():
    logits = np.linspace(-6, 9, 61)
    log_z, mean = (f(tensor(logits[None]))[0] for f in (RECTIFIED.log_normalizer, RECTIFIED.mean))
    np.testing.assert_allclose(log_z, log_z_of(logits), rtol=1e-6, atol=2e-6)
    np.testing.assert_allclose(mean, mean_of(logits), rtol=3e-6)


def test_they_keep_their_digits_far_out():
    """Far below 0 the mean is 1/|l| - 2/|l|³, far above it is l."""
    np.testing.assert_allclose(
        RECTIFIED.mean(tensor([[-1e4, -100, 30, 1e4]]))[0], [1e-4, 0.01 - 2e-6, 30, 1e4], rtol=1e-5
    )
    log_z = RECTIFIED.log_normalizer(tensor([[-1e4, 30, 1e4]]))[0]
    expected = [-np.log(1e4), 450 + np.log(2 * np.pi) / 2, 5e7]
    np.testing.assert_allclose(log_z, expected, rtol=1e-6)


def test_double_precision_has_eight_digits():
    with backend.double_precision():
        logits = np.linspace(-5, 5, 41)
        log_z = np.asarray(RECTIFIED.log_normalizer(keras.ops.convert_to_tensor(logits[None])))[0]
    np.testing.assert_allclose(log_z, log_z_of(logits), atol=1e-8)


def test_cross_entropy_is_minus_the_log_density():
    x, logits = np.array([[0.0, 0.3], [2.0, 5.0]]), np.array([[-2.0, 0.5], [3.0, -1.0]])
    expected = np.sum(log_z_of(logits) - x * logits + x**2 / 2, axis=1)
    np.testing.assert_allclose(RECTIFIED.cross_entropy(tensor(x), tensor(logits)), expected, 1e-5)
    np.testing.assert_allclose(RECTIFIED.log_measure(tensor(x)), -np.sum(x**2, axis=1) / 2)


def test_inputs_of_a_mean_give_that_mean_and_stay_finite():
    mean = tensor([0.002, 0.1, 0.8, 3, 50])
    np.testing.assert_allclose(RECTIFIED.mean(RECTIFIED.logits(mean)[None])[0], mean, rtol=1e-4)
    np.testing.assert_allclose(RECTIFIED.logits(tensor([0.0, 1e-5])), [-1000, -1000], rtol=1e-3)


# ---------------------------------------------------------------- draws


def draws_follow(units, draws=20_000):
    """p of Kolmogorov and Smirnov's tests at each of the inputs, together (Fisher's method)."""
    uniform = backend.uniform_stream(np.array([1, 2]))
    sample = backend.compiled(lambda logits: units.sample(logits, uniform))
    x = np.asarray(sample(tensor(np.tile(FAR, (draws, 1)))), "float64")
    p_values = []
    for column, logit in zip(x.T, FAR):
        kept = np.exp(special.log_ndtr(logit - column) - special.log_ndtr(logit))
        p_values.append(max(stats.kstest(kept, "uniform").pvalue, 1e-300))
    return stats.combine_pvalues(p_values).pvalue


def folded(right, logits, uniform):
    """Wrong: the absolute value of a normal draw."""
    return keras.ops.abs(REAL.sample(logits, uniform))


def clipped(right, logits, uniform):
    """Wrong here: max(0, N(l, 1)), which is 0 half of the time."""
    return keras.ops.maximum(REAL.sample(logits, uniform), 0)


def test_draws_follow_the_exact_distribution():
    assert draws_follow(RECTIFIED) > 1e-3


@pytest.mark.parametrize(
    "wrong", [warm(RECTIFIED), with_sampler(RECTIFIED, folded), with_sampler(RECTIFIED, clipped)]
)
def test_wrong_draws_fail_the_same_test(wrong):
    assert draws_follow(wrong, 2000) < 1e-9


@pytest.mark.parametrize("u", [0.0, 2.0**-23, 1 - 2.0**-23])
def test_the_ends_of_the_range_of_uniform_numbers_are_no_outliers(u):
    """The inverse of Φ is infinite at 0 and 1, which float32 reaches."""
    logits = tensor([[-1000.0, -5.0, 0.0, 1e-4, 5.0, 50.0, 1000.0]])
    sample = backend.compiled(lambda x: RECTIFIED.sample(x, lambda shape: keras.ops.full(shape, u)))
    x = np.asarray(sample(logits))
    assert np.all(x >= 0)
    assert np.all(abs(x - np.asarray(RECTIFIED.mean(logits))) < 6)


def test_half_precision_draws_in_single():
    logits = keras.ops.full((1000, 1), -20.0, "bfloat16")
    drawn = RECTIFIED.sample(logits, backend.uniform_stream(np.array([0, 1])))
    assert keras.backend.standardize_dtype(drawn.dtype) == "bfloat16"
    assert len(np.unique(keras.ops.cast(drawn, "float32"))) > 100


# ---------------------------------------------------------------- machines

LISTED = {"binary": (BINARY, 4), "classes": (CLASSES, 6)}
each_listed = pytest.mark.parametrize(("units", "number"), LISTED.values(), ids=LISTED)


def rectified_machine(units=BINARY, number=4, hidden_units=RECTIFIED, seed=0, **kwargs):
    """Two rectified hidden units; weights of both signs, so that some inputs are below 0."""
    return machine(number, 2, 0.8, seed, visible_units=units, hidden_units=hidden_units, **kwargs)


def log_weights(w, hb, vb, v):
    """log Σ_h of every visible state v, by quadrature over h."""
    return v @ vb + log_z_of(v @ w + hb).sum(axis=1)


def visible_states(units, number):
    if units == BINARY:
        return states(number)
    return np.array([np.hstack(rows) for rows in itertools.product(np.eye(3), repeat=number // 3)])


@each_listed
def test_free_energies_and_conditional_means_are_those_of_quadrature(units, number):
    rbm, v = rectified_machine(units, number), visible_states(units, number)
    w, hb, vb = parameters_of(rbm)
    np.testing.assert_allclose(rbm.free_energy(v), -log_weights(w, hb, vb, v), atol=2e-6)
    np.testing.assert_allclose(rbm.forward(v), mean_of(v @ w + hb), rtol=1e-5)
    np.testing.assert_array_equal(layer_states(units, number), v)


@each_listed
def test_the_partition_function_and_the_gradient_are_those_of_quadrature(units, number):
    rbm, v = rectified_machine(units, number), visible_states(units, number)
    parameters = parameters_of(rbm)
    weights = log_weights(*parameters, v)
    assert exact_log_partition(rbm) == pytest.approx(special.logsumexp(weights), abs=1e-6)
    np.testing.assert_allclose(visible_probabilities(rbm), special.softmax(weights), rtol=1e-5)
    data = np.arange(1, len(v) + 1) / np.sum(np.arange(1, len(v) + 1))

    def mean_log_likelihood(*parameters):
        weights = log_weights(*parameters, v)
        return data @ weights - special.logsumexp(weights)

    positive, negative = statistics(rbm, data), statistics(rbm, visible_probabilities(rbm))
    for of_data, of_model, slope in zip(
        positive, negative, derivatives(mean_log_likelihood, parameters)
    ):
        np.testing.assert_allclose(of_data - of_model, slope, atol=1e-6)


def test_visible_units_may_be_rectified_instead():
    rbm = machine(2, 3, 0.8, visible_units=RECTIFIED)
    (w, hb, vb), h = parameters_of(rbm), states(3)
    log_z = special.logsumexp(log_weights(w.T, vb, hb, h))
    assert exact_log_partition(rbm) == pytest.approx(log_z, abs=1e-6)
    grid = np.stack(np.meshgrid(X, X), axis=-1).reshape(-1, 2)
    log_p = np.asarray(log_likelihood(rbm, grid, log_z), "float64")
    assert np.outer(WEIGHTS, WEIGHTS).ravel() @ np.exp(log_p) == pytest.approx(1, abs=1e-4)


def exact_draws(rbm, count, seed=0):
    p = visible_probabilities(rbm)
    rng = np.random.default_rng(seed)
    return np.float32(layer_states(rbm.visible_units, 4)[rng.choice(len(p), count, p=p)])


def errors_of_annealing(hidden_units, chains=1000):
    """Of log Z in standard errors, forward and reverse, and the larger of these, nats."""
    rbm = rectified_machine(hidden_units=hidden_units, seed=3)
    log_z = exact_log_partition(rbm)
    forward = ais_log_partition(rbm, chains, 60)
    reverse = reverse_ais_log_partition(rbm, exact_draws(rbm, chains), 60)
    errors = [abs(e.log_z - log_z) / e.standard_error for e in (forward, reverse)]
    return errors, max(forward.standard_error, reverse.standard_error)


def test_annealing_holds_the_exact_value_in_both_directions():
    errors, standard_error = errors_of_annealing(RECTIFIED)
    assert max(errors) < 5
    assert standard_error < 0.05


def test_annealing_with_draws_that_are_too_warm_does_not():
    assert min(errors_of_annealing(warm(RECTIFIED))[0]) > 5


def stay_in_the_target(hidden_units):
    """p of the χ² test of chains that start in the exact distribution, three steps later."""
    rbm = rectified_machine(hidden_units=hidden_units, seed=3)
    v = run_chains(rbm, exact_draws(rbm, 10_000), 3)
    return p_value(BINARY, v, visible_probabilities(rbm))


def test_chains_that_start_in_the_target_stay_there():
    assert stay_in_the_target(RECTIFIED) > 1e-3


def test_chains_of_clipped_normal_draws_leave_it():
    """max(0, N(l, 1)) is no conditional of this machine."""
    assert stay_in_the_target(with_sampler(RECTIFIED, clipped)) < 1e-9


def test_learns_and_is_saved(tmp_path):
    """Two patterns, each with one pixel in ten flipped."""
    rng = np.random.default_rng(0)
    x = np.repeat([[1.0, 1, 0, 0], [0, 0, 1, 1]], 40, axis=0)
    x = np.where(rng.random(x.shape) < 0.1, 1 - x, x).astype("float32")
    rbm = rectified_machine(seed=2)
    model = ContrastiveDivergence(rbm, persistent_chains=40, centered=True)
    model.compile(keras.optimizers.SGD(0.1), steps_per_execution=1)
    model.fit(x, epochs=15, batch_size=10, verbose=0)
    mean = np.mean(log_likelihood(rbm, x, exact_log_partition(rbm)))
    share = x.mean(axis=0)
    assert mean > np.sum(share * np.log(share) + (1 - share) * np.log(1 - share)) + 0.3
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras").rbm
    assert restored.hidden_units == RECTIFIED
    draws = [np.asarray(run_chains(r, x, 1)) for r in (restored, rbm)]
    np.testing.assert_array_equal(*draws)


def test_figures_of_real_hidden_units_show_their_range():
    """A scale from 0 to 1 would paint all that is above 1 white."""
    rbm, v = rectified_machine(seed=3), states(4)
    ax = plots.hidden_activations(rbm, v)
    low, high = ax.images[0].get_clim()
    assert (low, high) == (pytest.approx(np.min(rbm.forward(v))), np.max(rbm.forward(v)))
    assert ax.figure.axes[1].get_ylabel() == "⟨h | v⟩"
    with pytest.raises(ValueError, match="finitely many states"):
        plots.energy_landscape(rbm)


# ---------------------------------------------------------------- checks


@pytest.mark.parametrize("row", [[0, -0.1], [0, np.nan], [np.inf, 0]])
def test_refuses_what_is_below_zero_or_not_finite(row):
    with pytest.raises(ValueError, match=r"`x` must be finite and at least 0\. Received values"):
        RECTIFIED.checked(tensor([row]))
    with pytest.raises(ValueError, match=r"`v` must be finite and at least 0\. Received"):
        RECTIFIED.check_states("v", np.array([row]))
    if backend.BACKEND == "jax":
        assert np.isnan(backend.compiled(RECTIFIED.checked)(tensor([row]))).any()
    else:
        with pytest.raises(REFUSED_WHEN_COMPILED):
            backend.compiled(RECTIFIED.checked)(tensor([row]))


def test_lets_states_pass_and_has_no_list_of_them():
    x = np.array([[0, 7.5], [1e30, 0]], "float32")
    np.testing.assert_array_equal(RECTIFIED.checked(tensor(x)), x)
    RECTIFIED.check_states("v", x)
    with pytest.raises(ValueError, match="finitely many states"):
        layer_states(RECTIFIED, 2)
    with pytest.raises(ValueError, match=r"number of units.*Received: 0"):
        RECTIFIED.check_number(0)


@pytest.mark.parametrize("visible", [REAL, RECTIFIED, Beside(BINARY, RECTIFIED, 1)])
@pytest.mark.parametrize("hidden", [REAL, RECTIFIED, Beside(REAL, CLASSES, 3)])
def test_refuses_pairs_whose_partition_function_may_be_infinite(visible, hidden):
    with pytest.raises(ValueError, match=r"cannot both be unbounded: Z is infinite.*Received"):
        RBM(4, visible_units=visible, hidden_units=hidden)


def test_the_reason_for_the_refusal_holds():
    """Over a box that grows, the integral of v, h ≥ 0 settles for w = 0.9 and explodes for 1.1."""
    shares = {}
    for w in (0.9, 1.1):
        x, y = np.meshgrid(X, X)
        log_weight = w * x * y - (x**2 + y**2) / 2
        weight = np.outer(WEIGHTS, WEIGHTS) * np.exp(log_weight)
        shares[w] = weight[(x > 15) | (y > 15)].sum() / weight.sum()
    assert shares[0.9] < 1e-8
    assert shares[1.1] > 0.99
