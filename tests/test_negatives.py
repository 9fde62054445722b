"""Where negative samples come from: their distribution, enumerated, and what is kept of them."""

import keras
import numpy as np
import pytest
from conftest import REFUSED_WHEN_COMPILED
from machines import BINARY, copy_of, machine
from sampled import exact_samples, p_value
from trained import EXAMPLES, assert_equal_weights, trainer

from rbm_tutorial import RBM, ContrastiveDivergence
from rbm_tutorial.negatives import DataChains, PersistentChains
from rbm_tutorial.tempering import TemperedChains

NUMBER = 12_000
STATE = 13  # the number of one of the 16 states, 1101
ALL_IN_ONE_STATE = np.tile([1.0, 1.0, 0.0, 1.0], (NUMBER, 1)).astype("float32")


@pytest.fixture
def rbm():
    """Of weights so large that chains remember for some steps where they stood."""
    return machine(scale=2.0)


def p_after_steps(exact, steps):
    """The distribution so many Gibbs steps v → h → v after that state, (16,)."""
    h_given_v = exact.joint / exact.p_v[:, None]
    v_given_h = (exact.joint / exact.p_h).T
    return np.linalg.matrix_power(h_given_v @ v_given_h, steps)[STATE]


def drawn(negatives, rbm, x):
    """One draw, given what the model computes before it."""
    return np.asarray(negatives.draw(rbm, keras.ops.convert_to_tensor(x), rbm.hidden_logits(x)))


def standing_at(negatives, rbm, chains):
    """`negatives` whose chains stand where they are put."""
    negatives.start(rbm)
    negatives.chains.assign(chains)
    return negatives


# ---------------------------------------------------------------- chains from the data: CD-k


class Averaging(DataChains):
    """Wrong: probabilities of the hidden units in place of states."""

    def draw(self, rbm, x, hidden_logits):
        return rbm.sample_v(rbm.hidden_units.mean(hidden_logits))


@pytest.mark.parametrize(("steps", "other"), [(1, 2), (3, 1)])
def test_cd_draws_what_so_many_gibbs_steps_lead_to(exact, steps, other):
    p, x = p_after_steps(exact, steps), ALL_IN_ONE_STATE
    right, wrong = (machine(scale=2.0, cd_steps=number) for number in (steps, other))
    assert p_value(BINARY, drawn(DataChains(), right, x), p) > 1e-3
    assert p_value(BINARY, drawn(DataChains(), wrong, x), p) < 1e-9


def test_averaged_hidden_units_lead_elsewhere(rbm, exact):
    assert (
        p_value(BINARY, drawn(Averaging(), rbm, ALL_IN_ONE_STATE), p_after_steps(exact, 1)) < 1e-9
    )


def p_value_after_draws_from(negatives, rbm, exact, draws=20):
    """Whether v is still distributed as the model after so many draws, each from the last."""
    v = exact_samples(exact, NUMBER)
    for _ in range(draws):
        v = drawn(negatives, rbm, v)
    return p_value(BINARY, v, exact.p_v)


def test_data_from_the_model_give_negatives_from_the_model(rbm, exact):
    assert p_value_after_draws_from(DataChains(), rbm, exact) > 1e-3


def test_averaged_hidden_units_fail_the_same_test(rbm, exact):
    assert p_value_after_draws_from(Averaging(), rbm, exact) < 1e-9


# ---------------------------------------------------------------- chains that go on: PCD


class Forgetful(PersistentChains):
    """Wrong: the chains move, but nobody stores where they are."""

    def draw(self, rbm, x, hidden_logits):
        return rbm.forward_gibbs(self.chains.value)


class Hasty(PersistentChains):
    """Wrong: one step too many."""

    def draw(self, rbm, x, hidden_logits):
        self.chains.assign(rbm.forward_gibbs(self.chains.value, steps=1))
        return super().draw(rbm, x, hidden_logits)


class Careless(PersistentChains):
    """Wrong: the chains move by probabilities of the hidden units in place of states."""

    def draw(self, rbm, x, hidden_logits):
        self.chains.assign(rbm.sample_v(rbm.forward(self.chains.value)))
        return self.chains.value


def chains_after(negatives, start, updates):
    """Where the chains are after some updates by `fit` that change no weight."""
    model = trainer(machine(scale=2.0), keras.optimizers.SGD(0.0), negatives=negatives)
    model.build((None, 4))
    model.chains.assign(start)
    model.fit(EXAMPLES[:20], batch_size=20 // updates, verbose=0)
    return model.chains


@pytest.mark.parametrize(
    ("kind", "right"), [(PersistentChains, True), (Forgetful, False), (Hasty, False)]
)
def test_chains_go_on_from_update_to_update(exact, kind, right):
    """After two updates they are two Gibbs steps away from where they stood."""
    p_of_chains = p_value(
        BINARY, chains_after(kind(NUMBER), ALL_IN_ONE_STATE, 2), p_after_steps(exact, 2)
    )
    assert p_of_chains > 1e-3 if right else p_of_chains < 1e-9


def test_each_draw_is_where_the_chains_are(rbm, exact):
    """Also what is handed to the gradient: two draws are two steps."""
    for kind, right in [(PersistentChains, True), (Forgetful, False), (Hasty, False)]:
        negatives = standing_at(kind(NUMBER), rbm, ALL_IN_ONE_STATE)
        p = [
            p_value(BINARY, drawn(negatives, rbm, EXAMPLES), p_after_steps(exact, n))
            for n in (1, 2)
        ]
        assert min(p) > 1e-3 if right else min(p) < 1e-9


def test_chains_that_start_in_the_model_stay_there_while_nothing_is_learned(exact):
    start = exact_samples(exact, NUMBER)
    assert p_value(BINARY, chains_after(PersistentChains(NUMBER), start, 20), exact.p_v) > 1e-3
    assert p_value(BINARY, chains_after(Careless(NUMBER), start, 20), exact.p_v) < 1e-9


def test_chains_start_at_independent_draws_without_hidden_units(rbm, exact):
    """From p(v | h=0), σ(vb) for each unit."""
    negatives = PersistentChains(NUMBER)
    negatives.start(rbm)
    p = exact.joint[:, 0] / exact.joint[:, 0].sum()
    assert p_value(BINARY, negatives.chains, p) > 1e-3
    assert p_value(BINARY, negatives.chains, exact.p_v) < 1e-9


@pytest.mark.parametrize("steps", [1, 3])
def test_persistent_chains_continue_where_they_were(batch, steps):
    rbm = machine(cd_steps=steps)
    twin = copy_of(rbm)
    model, other = (trainer(r, persistent_chains=5) for r in (rbm, twin))
    for m in (model, other):
        m.build((None, 4))
    assert set(np.unique(model.chains)) <= {0, 1}
    expected = twin.forward_gibbs(other.chains)
    model.fit(batch, batch_size=6, verbose=0)
    np.testing.assert_array_equal(model.chains, expected)
    before = np.array(model.chains)
    model.evaluate(batch, verbose=0)
    np.testing.assert_array_equal(model.chains, before)


def test_refused_data_do_not_move_the_chains():
    model = trainer(machine(), persistent_chains=5)
    model.build((None, 4))
    before = np.array(model.chains)
    with pytest.raises(REFUSED_WHEN_COMPILED, match="must lie in"):
        model.fit(7 * EXAMPLES, verbose=0)
    np.testing.assert_array_equal(model.chains, before)


# ---------------------------------------------------------------- how they are chosen and saved


def test_a_number_of_chains_is_short_for_negatives():
    short, long = (
        trainer(machine(), **chosen)
        for chosen in ({"persistent_chains": 5}, {"negatives": PersistentChains(5)})
    )
    for model in (short, long):
        model.fit(EXAMPLES, batch_size=8, epochs=2, shuffle=False, verbose=0)
    assert_equal_weights(short, long)
    assert short.chains.shape == (5, 4)
    assert isinstance(ContrastiveDivergence(machine()).negatives, DataChains)


@pytest.mark.parametrize("chains", [-1, 2.0, True])
def test_refuses_impossible_numbers_of_chains(rbm, chains):
    with pytest.raises(ValueError, match=f"`persistent_chains`.*Received: {chains}"):
        ContrastiveDivergence(rbm, persistent_chains=chains)
    with pytest.raises(ValueError, match=f"`number`.*Received: {chains}"):
        PersistentChains(chains)


def test_refuses_two_answers_to_where_negatives_come_from(rbm):
    with pytest.raises(ValueError, match="give one of them"):
        ContrastiveDivergence(rbm, persistent_chains=3, negatives=DataChains())


class WithoutStart(keras.layers.Layer):
    def draw(self, rbm, x, hidden_logits):
        return x


class NoLayer:
    """Its variables would be nobody's: on JAX its chains would never move."""

    start = draw = print


@pytest.mark.parametrize("negatives", [5, "x", DataChains, WithoutStart(), NoLayer()])
def test_refuses_what_draws_nothing_or_keeps_nothing(rbm, negatives):
    with pytest.raises(ValueError, match="`negatives` must be a Keras layer with `start` and"):
        ContrastiveDivergence(rbm, negatives=negatives)


def test_chains_are_saved_and_loaded_with_the_model(tmp_path):
    model = trainer(machine(), persistent_chains=5)
    model.fit(EXAMPLES, batch_size=8, epochs=2, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.negatives, PersistentChains)
    np.testing.assert_array_equal(loaded.chains, model.chains)
    fresh = trainer(machine(), persistent_chains=5)
    fresh.build((None, 4))
    assert not np.array_equal(fresh.chains, model.chains)
    model.save_weights(tmp_path / "model.weights.h5")
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(fresh.chains, model.chains)


SOURCES = {"persistent": PersistentChains, "tempered": lambda n: TemperedChains(n, 3)}
each_source = pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)


@each_source
def test_chains_that_were_started_go_on_in_a_model_of_their_machine(tmp_path, rbm, source):
    """Whoever started them: a call, another model, or the same one, built again."""
    negatives = source(5)
    negatives.start(rbm)
    drawn(negatives, rbm, EXAMPLES)
    moved = np.array(negatives.chains)
    models = [trainer(rbm, negatives=negatives, centered=True) for _ in range(2)]
    for model in models:
        model.build((None, 4))
        np.testing.assert_array_equal(model.chains, moved)
    models[1].fit(EXAMPLES, epochs=2, verbose=0)
    models[1].build((None, 4))
    learned = np.array(models[1].chains)
    assert not np.array_equal(learned, moved)
    np.testing.assert_array_equal(models[0].chains, learned)
    models[1].save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.chains, learned)
    assert_equal_weights(loaded, models[1])


@each_source
def test_a_start_that_fails_leaves_nothing_behind(rbm, source):
    negatives = source(5)
    with pytest.raises(ValueError, match="call `build` first"):
        negatives.start(RBM(3))
    negatives.start(rbm)
    assert negatives.chains.shape == (5, 4)


@each_source
def test_chains_of_one_machine_are_not_those_of_another(rbm, source):
    """Silently made anew they were lost to the first model, whose file could not be loaded."""
    negatives = source(5)
    trainer(rbm, negatives=negatives).build((None, 4))
    with pytest.raises(ValueError, match=r"`negatives` must be new, .*started for another one"):
        trainer(copy_of(rbm), negatives=negatives).build((None, 4))


@keras.saving.register_keras_serializable("tests")
class FromReservoir(keras.layers.Layer):
    """Negatives of one's own: v⁽ᵏ⁾ is one Gibbs step from rows that are kept."""

    def __init__(self, rows, **kwargs):
        super().__init__(**kwargs)
        self.rows = rows

    def start(self, rbm):
        self.kept = self.add_weight(
            shape=np.shape(self.rows),
            initializer=lambda shape, dtype: np.asarray(self.rows, dtype),
            trainable=False,
        )

    def draw(self, rbm, x, hidden_logits):
        self.kept.assign(rbm.forward_gibbs(self.kept.value, steps=1))
        return self.kept.value

    def get_config(self):
        return {**super().get_config(), "rows": self.rows}


def test_negatives_of_ones_own_are_trained_with_and_saved(tmp_path):
    model = trainer(machine(), negatives=FromReservoir([[0, 1, 0, 1], [1, 1, 0, 0]]))
    before = model.rbm.get_weights()
    model.fit(EXAMPLES, epochs=2, verbose=0)
    assert all(not np.allclose(a, b) for a, b in zip(before, model.rbm.get_weights()))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.negatives.kept, model.negatives.kept)
    assert_equal_weights(loaded, model)


def test_the_configuration_holds_the_negatives_and_an_old_one_still_loads(rbm):
    config = ContrastiveDivergence(rbm, persistent_chains=3, centered=True).get_config()
    assert "persistent_chains" not in config
    copy = ContrastiveDivergence.from_config(config)
    assert (copy.negatives.number, copy.centered) == (3, True)
    assert copy.rbm.get_config() == rbm.get_config()
    for chains, kind in [(0, DataChains), (3, PersistentChains)]:
        old = {**config, "persistent_chains": chains}
        del old["negatives"]
        assert type(ContrastiveDivergence.from_config(old).negatives) is kind
