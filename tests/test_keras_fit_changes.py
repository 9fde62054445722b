"""What changes between two runs takes effect or is refused, and nothing is traced twice."""

import keras
import numpy as np
import pytest
from machines import machine
from networks import network
from trained import EXAMPLES, FIT, assert_equal_weights, counted, trainer

from rbm_tutorial import RBM, ContrastiveDivergence, DeepBeliefNetwork, WakeSleep
from rbm_tutorial.missing import IncompleteContrastiveDivergence
from rbm_tutorial.negatives import PersistentChains
from rbm_tutorial.tempering import TemperedChains
from rbm_tutorial.units import Categorical


def test_runs_of_other_steps_in_between_do_not_matter():
    model = counted()
    for steps in (5, None, 7):
        model.fit(EXAMPLES, steps_per_epoch=steps, **FIT)
    traces = model.traces
    for steps in (7, 5, None):
        model.fit(EXAMPLES, steps_per_epoch=steps, **FIT)
    assert model.traces == traces


def test_a_changed_number_of_steps_is_compiled_for_short_runs_too():
    model = counted()
    model.fit(EXAMPLES, steps_per_epoch=5, **FIT)
    traces = model.traces
    model.rbm.cd_steps = 4
    model.fit(EXAMPLES, steps_per_epoch=5, **FIT)
    assert model.traces > traces


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "x", None])
@pytest.mark.parametrize("chains", [0, 5])
def test_steps_that_are_set_to_no_count_are_named_before_anything_moves(wrong, chains):
    model = trainer(machine(), persistent_chains=chains)
    model.fit(EXAMPLES, **FIT)
    before = model.rbm.get_weights()
    model.rbm.cd_steps = wrong
    for call in (lambda: model.fit(EXAMPLES, **FIT), lambda: model.train_on_batch(EXAMPLES)):
        with pytest.raises(ValueError, match=r"`cd_steps` must be .*Received"):
            call()
    for old, new in zip(before, model.rbm.get_weights()):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("freeze", ["layer", "biases"])
def test_weights_that_are_frozen_without_compiling_are_named(freeze):
    model = trainer(machine())
    model.fit(EXAMPLES, **FIT)
    before = model.rbm.get_weights()
    frozen = model.rbm if freeze == "layer" else model.rbm.vb
    frozen.trainable = False
    with pytest.raises(ValueError, match=r"Call `compile` again.*frozen.*Received"):
        model.fit(EXAMPLES, **FIT)
    for old, new in zip(before, model.rbm.get_weights()):
        np.testing.assert_array_equal(old, new)


def test_weights_that_were_frozen_stay():
    model = trainer(machine())
    model.fit(EXAMPLES, **FIT)
    w, hb, vb = model.rbm.get_weights()
    model.rbm.vb.trainable = False
    model.compile(keras.optimizers.SGD(0.1))
    model.fit(EXAMPLES, **FIT)
    np.testing.assert_array_equal(model.rbm.vb, vb)
    assert np.abs(np.asarray(model.rbm.w_rec) - w).max() > 1e-3
    assert np.abs(np.asarray(model.rbm.hb) - hb).max() > 1e-3


@pytest.mark.parametrize("name", ["chains", "negatives", "centered"])
def test_what_a_model_was_built_for_cannot_be_changed(name):
    model = trainer(machine(), persistent_chains=5)
    model.fit(EXAMPLES, **FIT)
    with pytest.raises(AttributeError, match=name):
        setattr(model, name, 3)


# ---------------------------------------------------------------- where training starts


def living(rbm, x):
    """Hidden units that are on for some, not for all, of the examples."""
    h = np.asarray(rbm.forward(x))
    return np.sum((h.min(axis=0) < 0.9) & (h.max(axis=0) > 0.1))


@pytest.mark.parametrize("centered", [False, True])
@pytest.mark.parametrize("density", [0.05, 0.3, 0.7, 0.95])
def test_no_unit_dies_however_bright_the_images(density, centered):
    """From biases of 0 all units of images that are mostly on would be on for each of them."""
    rng = np.random.default_rng(3)
    patterns = rng.random((10, 100)) < density
    x = np.where(rng.random((600, 100)) < 0.05, 0.5, patterns[rng.integers(0, 10, 600)])
    model = ContrastiveDivergence(RBM(16, seed=0), centered=centered)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5))
    model.fit(x, batch_size=20, epochs=6, verbose=0, shuffle=False)
    assert living(model.rbm, x) == 16


def test_from_biases_of_zero_they_die():
    """The twin of the test above: a layer that was built starts as it is."""
    rng = np.random.default_rng(3)
    patterns = rng.random((10, 100)) < 0.95
    x = np.where(rng.random((600, 100)) < 0.05, 0.5, patterns[rng.integers(0, 10, 600)])
    rbm = RBM(16, seed=0)
    rbm.build([100])
    model = ContrastiveDivergence(rbm)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.5))
    with pytest.warns(UserWarning, match="16 hidden units"):
        model.fit(x, batch_size=20, epochs=6, verbose=0, shuffle=False)
    assert living(rbm, x) < 16


BRIGHT = (EXAMPLES + np.roll(EXAMPLES, 1, axis=0) > 0).astype("float32")


@pytest.mark.parametrize("look", ["evaluate", "predict"])
def test_a_layer_that_was_built_to_be_judged_is_adapted_all_the_same(look):
    """To what `fit` gets, not to what it was judged by."""
    judged, fresh = (trainer(RBM(3, seed=0)) for _ in range(2))
    getattr(judged, look)(BRIGHT[:5], verbose=0)
    assert not np.any(judged.rbm.vb)
    for model in (judged, fresh):
        model.fit(BRIGHT, **FIT)
    assert_equal_weights(judged, fresh)


@pytest.mark.parametrize("negatives", [PersistentChains(500), TemperedChains(500, num_betas=3)])
def test_chains_that_an_evaluation_has_made_begin_again_where_the_data_are(negatives):
    """When it made them, the biases from which they were drawn knew of no data."""
    x = np.tile([[1.0, 0.0, 0.0, 1.0]], (40, 1))
    model, means = trainer(RBM(3, seed=0), negatives=negatives), []
    look = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: means.append(np.asarray(model.chains).mean(axis=0))
    )
    model.predict(x, verbose=0)
    assert abs(np.asarray(model.chains).mean(axis=0) - 0.5).max() < 0.2
    model.fit(x, callbacks=[look], verbose=0)
    model.fit(x, callbacks=[look], verbose=0)
    np.testing.assert_allclose(means, [x[0]] * 2, atol=0.02)
    if isinstance(negatives, TemperedChains):
        np.testing.assert_allclose(negatives.base, np.where(x[0], 6.9, -6.9), atol=0.02)


def test_what_was_given_to_a_layer_after_it_was_judged_stays():
    """To look at one batch and then load weights is how Keras' users build a model."""
    model, other = trainer(RBM(3, seed=0)), trainer(machine())
    model.predict(BRIGHT[:5], verbose=0)
    model.set_weights(other.get_weights())
    for each in (model, other):
        each.train_on_batch(BRIGHT, sample_weight=np.zeros(len(BRIGHT)))
    assert_equal_weights(model.rbm, other.rbm)


def test_a_layer_that_was_built_by_hand_starts_as_it_is_though_it_was_judged():
    rbm = RBM(3, seed=0)
    rbm.build([4])
    model = trainer(rbm)
    model.predict(BRIGHT[:5], verbose=0)
    model.train_on_batch(BRIGHT, sample_weight=np.zeros(len(BRIGHT)))
    assert not np.any(rbm.vb)


def of_machine():
    rbm = machine()
    return ContrastiveDivergence(rbm), rbm


def of_network():
    rbms = [RBM(3, 4, seed=1), RBM(2, seed=2)]
    return WakeSleep(DeepBeliefNetwork(rbms)), rbms[1]


def penalize_activity(rbm, penalty):
    rbm.activity_regularizer = penalty


def penalize_weights(rbm, penalty):
    rbm.w_rec.regularizer = penalty


@pytest.mark.parametrize(
    ("made", "penalize"),
    [
        (of_machine, penalize_activity),
        (of_machine, penalize_weights),
        (of_network, penalize_weights),
    ],
)
def test_a_penalty_that_is_set_after_a_fit_counts_in_the_next(made, penalize):
    def weights_after(penalty):
        model, rbm = made()
        model.compile(keras.optimizers.SGD(0.1))
        for each in (None, penalty):
            penalize(rbm, each)
            model.fit(EXAMPLES, shuffle=False, verbose=0)
        return np.asarray(rbm.w_rec)

    changed = weights_after(keras.regularizers.L1(5.0)) - weights_after(None)
    assert np.abs(changed).max() > 0.01


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epochs": "three"}, "`epochs` must be an integer.*'three'"),
        ({"epochs": -1}, "`epochs` must be an integer.*-1"),
        ({"initial_epoch": 0.5}, "`initial_epoch` must be an integer.*0.5"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1.*0"),
        ({"validation_split": 2.0}, "`validation_split` must be .*2.0"),
        ({"validation_freq": -1}, "`validation_freq` must be an integer of at least 1.*-1"),
        ({"validation_freq": ["a"]}, "`validation_freq` must be an integer of at least 1.*'a'"),
        ({"shuffle": "yes"}, "`shuffle` must be True or False. Received: 'yes'"),
        ({"verbose": "loud"}, "`verbose` must be 'auto', 0, 1 or 2.*'loud'"),
        ({"callbacks": 5}, "`callbacks` must be callbacks of Keras.*5"),
        ({"callbacks": ["x"]}, "`callbacks` must be callbacks of Keras.*'x'"),
    ],
)
def test_what_is_no_way_to_loop_is_named_before_anything_is_built(wrong, said):
    model = ContrastiveDivergence(RBM(3, seed=0))
    model.compile(keras.optimizers.SGD(0.1))
    with pytest.raises(ValueError, match=said):
        model.fit(EXAMPLES, **{"verbose": 0, **wrong})
    assert not model.rbm.built


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict", None])
def test_units_of_another_type_count_in_what_is_called_next(method):
    """What was compiled for binary units would go on with them."""
    model = trainer(machine())
    for each in ("fit", "evaluate", "predict"):
        getattr(model, each)(EXAMPLES, verbose=0)
    model.rbm.hidden_units = Categorical(3)
    if method is not None:
        getattr(model, method)(EXAMPLES, verbose=0)
    hidden = model.predict(EXAMPLES, verbose=0)
    np.testing.assert_allclose(hidden, model.rbm(EXAMPLES), rtol=1e-5)
    free_energy = model.evaluate(EXAMPLES, verbose=0, return_dict=True)["free_energy"]
    np.testing.assert_allclose(free_energy, np.mean(model.rbm.free_energy(EXAMPLES)), rtol=1e-5)


def test_chains_of_the_likelihood_do_not_follow_units_of_another_type():
    model = trainer(machine(), likelihood_chains=4)
    model.fit(EXAMPLES, **FIT)
    model.rbm.hidden_units = Categorical(3)
    with pytest.raises(ValueError, match="`rbm` must keep the types of units"):
        model.fit(EXAMPLES, **FIT)


@pytest.mark.parametrize("change", ["a tied layer below", "an untied top", "units that differ"])
def test_layers_that_no_longer_fit_are_named_by_wake_sleep(change):
    dbn = network()
    model = WakeSleep(dbn)
    model.compile("sgd")
    model.fit(EXAMPLES, **FIT)
    if change == "units that differ":
        dbn.lower[0].hidden_units = Categorical(3)
    else:
        rbm = dbn.lower[0] if change == "a tied layer below" else dbn.top
        rbm.tied = not rbm.tied
    with pytest.raises(ValueError, match=r"must|needs symmetric weights"):
        model.fit(EXAMPLES, **FIT)
    if change == "units that differ":
        with pytest.raises(ValueError, match="must"):
            dbn.predict(EXAMPLES, verbose=0)


def test_a_layer_that_became_untied_is_named():
    model = trainer(machine())
    model.fit(EXAMPLES, **FIT)
    model.rbm.tied = False
    with pytest.raises(ValueError, match="needs symmetric weights"):
        model.fit(EXAMPLES, **FIT)


@pytest.mark.parametrize("negatives", [PersistentChains(3), TemperedChains(3, 4)])
def test_the_number_of_chains_stays(negatives):
    with pytest.raises(AttributeError, match="number"):
        negatives.number = 5


def test_a_changed_number_of_imputation_steps_counts_in_the_next_fit():
    x = np.where(np.arange(4) == 0, np.nan, EXAMPLES)

    def learned(steps):
        model = IncompleteContrastiveDivergence(machine(), imputation_steps=1)
        model.compile(keras.optimizers.SGD(0.1))
        model.fit(x, **FIT)
        model.imputation_steps = steps
        model.fit(x, **FIT)
        return np.array(model.rbm.vb)

    np.testing.assert_array_equal(learned(1), learned(1))
    assert np.any(learned(1) != learned(20))
    with pytest.raises(ValueError, match="`imputation_steps` must be an integer"):
        learned(0)


@pytest.mark.parametrize("method", ["evaluate", "predict"])
@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch_size": -1}, {"verbose": "loud"}])
def test_what_is_no_way_to_pass_once_is_named(method, wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        getattr(trainer(machine()), method)(EXAMPLES, **wrong)


class CompileAgain(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.compile("sgd")

    def on_test_begin(self, logs=None):
        self.model.compile("sgd")

    on_predict_begin = on_test_begin


@pytest.mark.parametrize("method", ["fit", "evaluate", "predict"])
def test_nobody_compiles_while_it_runs(method):
    """The compiled functions of the run would be gone; afterwards it may be compiled again."""
    model = trainer(machine())
    with pytest.raises(ValueError, match="`compile` must be done before `fit`"):
        getattr(model, method)(EXAMPLES, callbacks=[CompileAgain()], verbose=0)
    model.compile("sgd")
    model.fit(EXAMPLES, **FIT)
    model.evaluate(EXAMPLES, verbose=0)


def test_another_optimizer_counts_in_the_next_fit():
    model = trainer(machine())
    model.fit(EXAMPLES, **FIT)
    before = model.rbm.get_weights()
    model.optimizer = keras.optimizers.SGD(1e-30)
    model.fit(EXAMPLES, **FIT)
    for old, new in zip(before, model.rbm.get_weights()):
        np.testing.assert_array_equal(old, new)
    assert int(model.optimizer.iterations) > 0


def test_run_eagerly_counts_in_the_next_fit():
    model = counted()
    model.fit(EXAMPLES, **FIT)
    traces = model.traces
    model.run_eagerly = True
    model.fit(EXAMPLES, batch_size=8, epochs=2, verbose=0, shuffle=False)
    assert model.traces == traces + 6  # each batch
