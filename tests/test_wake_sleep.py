"""Wake-sleep on a network of 4, 3, 3 and 2 units: its updates against the enumerated objectives."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import REFUSED_WHEN_COMPILED
from enumerated import exact_of, states
from machines import parameters_of
from networks import down_tables, exact_bound, labeled_network, network, untraced, up_tables
from sampled import exact_samples
from trained import Given, assert_equal_weights

from rbm_tutorial import (
    RBM,
    DeepBeliefNetwork,
    LabeledRBM,
    WakeSleep,
    bars_and_stripes,
    train_stack,
)
from rbm_tutorial.negatives import DataChains, PersistentChains

DATA = states(4)[[3, 3, 9, 14]]
eagerly = pytest.mark.usefixtures(untraced.__name__)
P_DATA = np.bincount([3, 3, 9, 14], minlength=16) / 4


def log_products(logits, bits):
    """log Π σ(±l) of every row of bits for every row of logits: (rows, states)."""
    bits = tf.constant(bits)
    return tf.matmul(logits, bits, transpose_b=True) - tf.reduce_sum(
        tf.nn.softplus(logits), axis=1, keepdims=True
    )


def exact_gradients(dbn, top_steps):
    """Gradients of  -E_data E_q log p(x, h)  and  -E_dream log q(h | v),  by autodiff.

    Dreams begin in the top RBM `top_steps` Gibbs steps from the data, or in equilibrium if `None`;
    so does the negative phase of the top RBM.
    """
    layers = [*dbn.lower, dbn.top]
    variables = {
        f"{depth} {name}": tf.Variable(np.asarray(value, "float64"))
        for depth, rbm in enumerate(layers)
        for name, value in {
            "w_rec": rbm.w_rec, "w_gen": rbm.w_gen, "hb": rbm.hb, "vb": rbm.vb,
        }.items()
    }  # fmt: skip
    top = exact_of(dbn.top)
    ups, downs = up_tables(dbn), down_tables(dbn)
    at_top = P_DATA @ ups[0] @ ups[1]
    dream_top = top.p_v
    if top_steps is not None:
        given_v = top.joint / top.joint.sum(axis=1, keepdims=True)
        given_h = (top.joint / top.joint.sum(axis=0)).T
        dream_top = at_top @ np.linalg.matrix_power(given_v @ given_h, top_steps)
    awake = [P_DATA[:, None] * ups[0], (P_DATA @ ups[0])[:, None] * ups[1]]  # (hˡ⁻¹, hˡ)
    dream = [((dream_top @ downs[1])[:, None] * downs[0]).T, (dream_top[:, None] * downs[1]).T]
    with tf.GradientTape() as tape:
        loss = 0.0
        for depth, (wake_pairs, sleep_pairs) in enumerate(zip(awake, dream)):
            w_rec, w_gen, hb, vb = (
                variables[f"{depth} {name}"] for name in ("w_rec", "w_gen", "hb", "vb")
            )
            below, above = states(vb.shape[0]), states(hb.shape[0])
            log_p = log_products(tf.matmul(above, w_gen) + vb, below)
            log_q = log_products(tf.matmul(below, w_rec) + hb, above)
            loss -= tf.reduce_sum(wake_pairs.T * log_p) + tf.reduce_sum(sleep_pairs * log_q)
        w, hb, vb = (variables[f"{len(dbn.lower)} {name}"] for name in ("w_rec", "hb", "vb"))
        free_energy = -tf.linalg.matvec(top.v, vb) - tf.reduce_sum(
            tf.nn.softplus(tf.matmul(top.v, w) + hb), axis=1
        )
        loss += tf.tensordot(at_top - dream_top, free_energy, 1)
    gradients = tape.gradient(loss, variables)
    return {name: value.numpy() for name, value in gradients.items() if value is not None}


class DreamsOfDreams(DeepBeliefNetwork):
    """Wrong: what is generated is compared with what was generated, never with the data."""

    def sample_up(self, x):
        return self.sample_down(super().sample_up(x)[-1])


class SelfRecognizing(DeepBeliefNetwork):
    """Wrong: recognition learns from the states that recognition drew."""

    def sample_down(self, h):
        return self.sample_up(super().sample_down(h)[0])


def standard_scores(persistent=False, kind=DeepBeliefNetwork, repeats=40):
    """Of the mean update from `repeats` batches against the exact gradients, for each parameter."""
    dbn = network(kind=kind)
    dbn.top.cd_steps = 2
    model = WakeSleep(dbn, persistent_chains=2000 if persistent else 0)
    model.compile(keras.optimizers.SGD(1.0))
    model.build((None, 4))
    x = np.tile(DATA, (500, 1)).astype("float32")
    start = model.get_weights()
    seeds = [rbm.seed_generator.state for rbm in [*dbn.lower, dbn.top]]
    updates = {}
    for repeat in range(repeats):
        model.set_weights(start)
        for depth, seed in enumerate(seeds):
            seed.assign([100 * repeat + depth, 0])
        if persistent:
            model.chains.assign(exact_samples(exact_of(dbn.top), 2000, repeat))
        before = named_weights(dbn)
        model.train_on_batch(x)
        for name, value in named_weights(dbn).items():
            updates.setdefault(name, []).append(before[name] - value)
    exact = exact_gradients(network(), None if persistent else 2)
    assert exact.keys() == updates.keys()
    scores = {}
    for name, values in updates.items():
        values = np.array(values, "float64")
        standard_error = values.std(axis=0, ddof=1) / np.sqrt(repeats)
        scores[name] = np.max(abs(values.mean(axis=0) - exact[name]) / standard_error)
    return scores


def named_weights(dbn):
    named = {}
    for depth, rbm in enumerate([*dbn.lower, dbn.top]):
        names = ["w_rec", "hb", "vb"] if rbm.tied else ["w_rec", "w_gen", "hb", "vb"]
        named |= {f"{depth} {name}": np.array(getattr(rbm, name)) for name in names}
    return named


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [False, True], ids=["up-down", "wake-sleep"])
def test_updates_have_the_exact_gradients_for_their_expectation(persistent):
    scores = standard_scores(persistent)
    assert max(scores.values()) < 6, scores


@pytest.mark.slow
def test_an_update_without_data_fails_the_same_test():
    scores = standard_scores(kind=DreamsOfDreams)
    assert min(scores["0 w_gen"], scores["1 w_gen"]) > 20
    assert max(scores["0 w_rec"], scores["2 w_rec"]) < 6


@pytest.mark.slow
def test_recognition_that_learns_from_itself_fails_the_same_test():
    scores = standard_scores(kind=SelfRecognizing)
    assert min(scores["0 w_rec"], scores["1 w_rec"]) > 20
    assert max(scores["0 w_gen"], scores["2 w_rec"]) < 6


def bound_after_training(persistent=0, kind=DeepBeliefNetwork, epochs=100):
    """The exact bound on bars and stripes of 2×2 pixels, before and after 3,000 updates."""
    x, frequencies = bars_and_stripes(2)
    x = np.repeat(x, np.round(12 * frequencies).astype(int), axis=0)
    numbers = (x @ [8, 4, 2, 1]).astype(int)
    dbn = network((4, 6, 4, 3), scale=0.1, kind=kind)
    model = WakeSleep(dbn, persistent_chains=persistent)
    schedule = keras.optimizers.schedules.PolynomialDecay(0.5, 30 * epochs, 0.0)
    model.compile(keras.optimizers.SGD(schedule))
    before = exact_bound(dbn)[numbers].mean()
    x = np.tile(x, (50, 1)).astype("float32")
    model.fit(x, batch_size=20, epochs=epochs, verbose=0)
    return before, exact_bound(dbn)[numbers].mean()


@pytest.mark.slow
@pytest.mark.parametrize("persistent", [0, 200])
def test_the_exact_bound_rises(persistent):
    before, after = bound_after_training(persistent=persistent)
    assert before == pytest.approx(-4 * np.log(2), abs=0.1)
    assert after > before + 0.3


@pytest.mark.slow
def test_without_data_the_bound_does_not_rise():
    before, after = bound_after_training(kind=DreamsOfDreams)
    assert after < before + 0.05


# ---------------------------------------------------------------- the top, and its rate


def test_the_top_goes_along_the_statistics_of_its_states_less_those_of_the_chains():
    """The same `contrast_with_model` as in `ContrastiveDivergence`, of what comes up from x."""
    dbn, twin = network(), network()
    v_k = states(3)[[1, 2, 2, 7, 0]]
    model = WakeSleep(dbn, negatives=Given(v_k))
    model.compile(keras.optimizers.SGD(1.0))
    model.fit(DATA, verbose=0, shuffle=False)
    at_top = np.asarray(twin.sample_up(DATA)[-1])
    w, hb, vb = parameters_of(twin.top)

    def statistics(v):
        h = 1 / (1 + np.exp(-(v @ w + hb)))
        return v.T @ h / len(v), h.mean(axis=0), v.mean(axis=0)

    after = parameters_of(dbn.top)
    for old, new, data, chains in zip((w, hb, vb), after, statistics(at_top), statistics(v_k)):
        np.testing.assert_allclose(new - old, data - chains, atol=1e-5)


@eagerly
def test_without_an_optimizer_it_is_gradient_descent_at_the_rate_of_the_top():
    first, second = (WakeSleep(network()) for _ in range(2))
    first.dbn.top.learning_rate = 0.03
    first.compile()
    assert type(first.optimizer) is keras.optimizers.SGD
    second.compile(keras.optimizers.SGD(0.03))
    for model in (first, second):
        model.fit(DATA, epochs=2, verbose=0, shuffle=False)
    assert_equal_weights(first, second)


@eagerly
def test_the_top_has_negatives_of_any_kind():
    chains = WakeSleep(network(), negatives=PersistentChains(7))
    chains.compile()
    chains.fit(DATA, verbose=0)
    assert chains.chains.shape == (7, 3)
    with pytest.raises(ValueError, match="give one of them"):
        WakeSleep(network(), persistent_chains=7, negatives=DataChains())


def test_an_old_configuration_still_loads():
    config = WakeSleep(network(), persistent_chains=3).get_config()
    assert WakeSleep.from_config(config).negatives.number == 3
    old = {**config, "persistent_chains": 3}
    del old["negatives"]
    assert WakeSleep.from_config(old).negatives.number == 3


# ---------------------------------------------------------------- with labels, and contracts


def test_labels_of_no_class_in_a_data_set_are_refused():
    """There they are seen only when they come."""
    model, x = WakeSleep(labeled_network()), states(4)
    model.compile()
    for wrong in (-1, 4, 2**32):  # of which JAX would take the last 32 bits
        labels = np.arange(16) % 4
        labels[9] = wrong
        data = tf.data.Dataset.from_tensor_slices((x, labels)).batch(8)
        with pytest.raises(REFUSED_WHEN_COMPILED, match=r"(?s)must lie in 0|NaN"):
            model.evaluate(data, verbose=0)
        with pytest.raises(REFUSED_WHEN_COMPILED, match=r"(?s)must lie in 0|NaN"):
            model.fit(data, shuffle=False, verbose=0)


@pytest.mark.slow
def test_learns_labels_and_reports_accuracy():
    """Labels are the number of the only pixel that is on, of four."""
    labels = np.random.default_rng(0).integers(4, size=400)
    x = np.eye(4, dtype="float32")[labels]
    rbms = [RBM(12, seed=0, learning_rate=0.5), LabeledRBM(12, number_classes=4, seed=1)]
    dbn = train_stack(x, rbms, labels, epochs=20, batch_size=10, verbose=0)
    model = WakeSleep(dbn)
    model.compile(keras.optimizers.SGD(0.2))
    before = model.evaluate(x, labels, verbose=0, return_dict=True)
    model.fit(x, labels, batch_size=20, epochs=60, verbose=0)
    after = model.evaluate(x, labels, verbose=0, return_dict=True)
    hits = np.mean(np.argmax(model.predict(x, verbose=0), axis=1) == labels)
    assert after["accuracy"] == pytest.approx(hits)
    assert hits > 0.95
    assert after["reconstruction_cost"] < before["reconstruction_cost"]


def test_evaluation_draws_nothing_and_reports_the_cost_of_a_pass_of_probabilities():
    dbn = network()
    model = WakeSleep(dbn)
    model.compile("sgd")
    states_before = [np.array(rbm.seed_generator.state) for rbm in [*dbn.lower, dbn.top]]
    first, second = (model.evaluate(DATA, verbose=0, return_dict=True) for _ in range(2))
    assert first == second
    assert first["loss"] == pytest.approx(first["reconstruction_cost"])
    h = dbn.lower[1].forward(dbn.lower[0].forward(DATA))
    y = np.asarray(dbn.lower[0].reverse(dbn.lower[1].reverse(h)), "float64")
    expected = -np.mean(np.sum(DATA * np.log(y) + (1 - DATA) * np.log(1 - y), axis=1))
    assert first["reconstruction_cost"] == pytest.approx(expected, rel=1e-5)
    for state, rbm in zip(states_before, [*dbn.lower, dbn.top]):
        np.testing.assert_array_equal(rbm.seed_generator.state, state)


@eagerly
@pytest.mark.parametrize("persistent", [0, 5])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, persistent):
    whole, half = (WakeSleep(network(), persistent) for _ in range(2))
    for model, epochs in [(whole, 4), (half, 2)]:
        model.compile(keras.optimizers.SGD(0.1, momentum=0.5))
        model.fit(DATA, epochs=epochs, verbose=0, shuffle=False)
    half.save(tmp_path / "model.keras")
    resumed = keras.models.load_model(tmp_path / "model.keras")
    assert ("chains" in [weight.name for weight in resumed.weights]) == bool(persistent)
    resumed.fit(DATA, epochs=2, verbose=0, shuffle=False)

    def state(model):
        seeds = [rbm.seed_generator.state for rbm in [*model.dbn.lower, model.dbn.top]]
        return [*model.weights, *model.optimizer.variables, *seeds]

    for ours, theirs in zip(state(whole), state(resumed), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="must be a DeepBeliefNetwork"):
        WakeSleep(network().top)
    for dbn, y, named in [
        (network(), np.zeros(4, int), "`y` must be left out"),
        (labeled_network(), None, "integer labels"),
    ]:
        model = WakeSleep(dbn)
        model.compile("sgd")
        with pytest.raises(ValueError, match=named):
            model.fit(DATA, y, verbose=0)
    model = WakeSleep(labeled_network())
    model.compile("sgd")
    with pytest.raises(ValueError, match="must lie in"):  # before anything is compiled
        model.fit(2 * DATA, np.zeros(4, int), verbose=0)
    with pytest.raises(ValueError, match="must lie in"):
        model.fit(DATA, np.full(4, 4), verbose=0)
    with pytest.raises(ValueError, match="learns from `x` and integer labels `y`"):
        model.fit(tf.data.Dataset.from_tensor_slices(DATA).batch(2), shuffle=False)
    with pytest.raises(ValueError, match="`centered` must be"):
        WakeSleep(network(), centered="yes")


def test_refuses_a_penalty_on_activity_which_it_would_not_count():
    penalty = keras.regularizers.L1(0.1)
    model = WakeSleep(DeepBeliefNetwork([RBM(5, 4, seed=1, activity_regularizer=penalty), RBM(3)]))
    model.compile()
    with pytest.raises(ValueError, match="`activity_regularizer` of each layer must be None"):
        model.fit(np.zeros((4, 4)), verbose=0)


def test_evaluation_reports_no_free_energy_since_it_draws_no_states():
    """It was 0, which nobody had computed; what is reported has the order of its names."""
    model = WakeSleep(labeled_network())
    model.compile(keras.optimizers.SGD(0.1))
    labels = np.arange(6) % 4
    named = model.evaluate(states(4)[:6], labels, verbose=0, return_dict=True)
    assert sorted(named) == ["accuracy", "loss", "reconstruction_cost"]
    listed = dict(zip(model.metrics_names, model.evaluate(states(4)[:6], labels, verbose=0)))
    assert listed == pytest.approx(named)
