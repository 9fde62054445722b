"""The RBM as a step of a pipeline."""

import functools

import keras
import numpy as np
import pytest
from networks import untraced
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from rbm_tutorial import RBM, ContrastiveDivergence
from rbm_tutorial.scikit_learn import RBMTransformer
from rbm_tutorial.stack import DeepBeliefNetwork

LABELS = np.random.default_rng(0).integers(4, size=200)
IMAGES = np.repeat(np.eye(4)[LABELS], 2, axis=1)
FEW = IMAGES[:20]
eagerly = pytest.mark.usefixtures(untraced.__name__)


def test_learns_features_that_a_classifier_can_use():
    transformer = RBMTransformer(16, learning_rate=0.5, n_iter=60, random_state=0)
    pipeline = make_pipeline(transformer, LogisticRegression())
    pipeline.fit(IMAGES, LABELS)
    assert pipeline.score(IMAGES, LABELS) == 1.0
    rbm = pipeline[0].rbm_
    features = pipeline[0].transform(IMAGES)
    assert features.shape == (200, 16)
    np.testing.assert_array_equal(features, rbm.forward(IMAGES))
    assert float(rbm.reconstruction_cost(IMAGES)) < 2.0  # pixels by themselves: 4.5


@eagerly
def test_the_same_seed_gives_the_same_features():
    transformer = RBMTransformer(3, n_iter=2, random_state=1, persistent_chains=5)
    first, second = (clone(transformer).fit_transform(FEW) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    other = clone(transformer).set_params(random_state=2).fit_transform(FEW)
    assert not np.allclose(first, other)


@eagerly
def test_its_settings_can_be_searched():
    pipeline = make_pipeline(RBMTransformer(n_iter=2, random_state=0), LogisticRegression())
    search = GridSearchCV(pipeline, {"rbmtransformer__n_components": [2, 3]}, cv=2)
    search.fit(FEW, LABELS[:20])
    names = search.best_estimator_[0].get_feature_names_out()
    assert len(names) == search.best_params_["rbmtransformer__n_components"]


@eagerly
def test_refuses_values_outside_the_unit_interval_and_other_widths():
    with pytest.raises(ValueError, match="must lie in"):
        RBMTransformer(2).fit(2 * IMAGES)
    fitted = RBMTransformer(2, n_iter=1).fit(FEW)
    with pytest.raises(ValueError, match="8 features"):
        fitted.transform(IMAGES[:, :4])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_iter", -3),
        ("learning_rate", -0.1),
        ("momentum", -1),
        ("momentum", 1.5),
        ("n_components", 0),
        ("batch_size", 2.5),
        ("persistent_chains", -1),
        ("random_state", True),
    ],
)
def test_refuses_settings_that_cannot_work(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be .*Received: {value}"):
        RBMTransformer(**{name: value}).fit(IMAGES)


@eagerly
def test_settings_may_be_numbers_of_numpy():
    ours = RBMTransformer(np.int64(2), n_iter=np.int32(1), random_state=np.int64(3)).fit(FEW)
    same = RBMTransformer(2, n_iter=1, random_state=3).fit(FEW)
    np.testing.assert_array_equal(ours.transform(IMAGES), same.transform(IMAGES))


@eagerly
def test_has_what_code_for_bernoulli_rbm_reads():
    fitted = RBMTransformer(3, n_iter=1, random_state=0).fit(FEW)
    twin = BernoulliRBM(3)
    twin.components_ = fitted.components_
    twin.intercept_hidden_ = fitted.intercept_hidden_
    twin.intercept_visible_ = fitted.intercept_visible_
    np.testing.assert_allclose(fitted.transform(IMAGES), twin.transform(IMAGES), atol=1e-5)
    free_energy = twin._free_energy(IMAGES)
    np.testing.assert_allclose(fitted.score_samples(IMAGES), -free_energy, atol=1e-4)


def test_goes_on_from_where_it_was():
    """Two passes of `partial_fit` are the run of `fit` that has no new order."""
    ours = RBMTransformer(3, random_state=0, persistent_chains=5)
    for _ in range(2):
        ours.partial_fit(IMAGES)
    rbm = RBM(3, seed=0)
    rbm.adapt(IMAGES)
    model = ContrastiveDivergence(rbm, 5)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.5))
    model.fit(IMAGES, epochs=2, batch_size=32, shuffle=False, verbose=0)
    np.testing.assert_allclose(ours.components_, np.asarray(rbm.w_rec).T, atol=1e-6)


@pytest.mark.parametrize("changed", [{"learning_rate": 0.01}, {"momentum": 0.0}])
def test_changed_settings_take_effect(changed):
    """Momentum that has gathered is lost when its share changes, and only then."""
    ours = RBMTransformer(3, random_state=0).partial_fit(IMAGES)
    ours.set_params(**changed).partial_fit(IMAGES)
    rbm = RBM(3, seed=0)
    rbm.adapt(IMAGES)
    model = ContrastiveDivergence(rbm)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.5))
    model.fit(IMAGES, shuffle=False, verbose=0)
    if "momentum" in changed:
        model.compile(keras.optimizers.SGD(0.1))
    else:
        model.optimizer.learning_rate = 0.01
    model.fit(IMAGES, shuffle=False, verbose=0)
    np.testing.assert_allclose(ours.components_, np.asarray(rbm.w_rec).T, atol=1e-6)


@eagerly
def test_refuses_settings_that_cannot_change_while_it_learns():
    ours = RBMTransformer(3, persistent_chains=5).partial_fit(FEW)
    for name, value in [("n_components", 4), ("persistent_chains", 6), ("learning_rate", -1)]:
        with pytest.raises(ValueError, match=f"`{name}`.* must .*Received"):
            ours.set_params(**{name: value}).partial_fit(FEW)
        ours.set_params(n_components=3, persistent_chains=5, learning_rate=0.1)
    assert ours.partial_fit(FEW) is ours


@eagerly
@pytest.mark.parametrize("text", [FEW.astype(str), FEW.astype(str).astype(object)])
def test_text_is_no_number(text):
    with pytest.raises(ValueError, match=r"strings|text"):
        RBMTransformer(3).fit(text)
    numbers = RBMTransformer(3, n_iter=1, random_state=0).fit(FEW.astype(object))
    same = RBMTransformer(3, n_iter=1, random_state=0).fit(FEW)
    np.testing.assert_array_equal(numbers.components_, same.components_)


@eagerly
def test_draws_a_gibbs_step_of_its_machine():
    ours = RBMTransformer(3, n_iter=1, random_state=0).fit(FEW)
    again = RBMTransformer(3, n_iter=1, random_state=0).fit(FEW)
    drawn = ours.gibbs(IMAGES)
    np.testing.assert_array_equal(drawn, again.rbm_.forward_gibbs(IMAGES, steps=1))
    assert set(np.unique(drawn)) == {0, 1}


@functools.cache
def fitted():
    return RBMTransformer(2, n_iter=1).fit(FEW)


@eagerly
def test_a_fit_that_fails_leaves_what_was_fitted():
    fitted = RBMTransformer(2, n_iter=1, random_state=0).fit(FEW)
    expected = fitted.transform(FEW)
    with pytest.raises(ValueError, match="must lie in"):
        fitted.fit(3 * FEW[:, :4])
    np.testing.assert_array_equal(fitted.transform(FEW), expected)
    fresh = RBMTransformer(2, n_iter=1)
    with pytest.raises(ValueError, match="must lie in"):
        fresh.fit(3 * FEW)
    with pytest.raises(NotFittedError):
        fresh.transform(FEW)


@eagerly
def test_features_are_those_of_the_fitted_machine():
    fitted = RBMTransformer(2, n_iter=1).fit(FEW).set_params(n_components=5)
    assert list(fitted.get_feature_names_out()) == ["rbmtransformer0", "rbmtransformer1"]
    with pytest.raises(NotFittedError):
        RBMTransformer(2).get_feature_names_out()


@pytest.mark.parametrize("method", ["transform", "score_samples", "gibbs"])
def test_what_was_not_fitted_says_so(method):
    with pytest.raises(NotFittedError):
        getattr(RBMTransformer(2), method)(FEW)


@eagerly
@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "score_samples", "gibbs"])
@pytest.mark.parametrize("bad", [255 * IMAGES, IMAGES - 1, np.where(IMAGES > 0, np.nan, IMAGES)])
def test_refuses_values_wherever_they_come(method, bad):
    with pytest.raises(ValueError, match=r"`X` must lie in|NaN"):
        getattr(fitted(), method)(bad)


def squashed(X):
    """X in [0, 1], if it is anything that has such values; what is wrong with it stays wrong."""
    X = np.asarray(X) if hasattr(X, "__array__") or isinstance(X, list) else X
    if isinstance(X, np.ndarray) and X.dtype.kind in "iuf" and np.isfinite(X).all():
        return 1 / (1 + np.exp(-X.astype(np.result_type(X, "float32"))))
    return X


class AnyValues(RBMTransformer):
    """For scikit-learn's own checks, whose data are no probabilities."""

    def fit(self, X, y=None):
        return super().fit(squashed(X), y)

    def partial_fit(self, X, y=None):
        return super().partial_fit(squashed(X), y)

    def transform(self, X):
        return super().transform(squashed(X))

    def score_samples(self, X):
        return super().score_samples(squashed(X))


@eagerly
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_passes_the_checks_of_scikit_learn():
    """All but two, once the values of their data are squashed into [0, 1].

    And one that it skips itself, of arrays of other libraries, unless SciPy is told to take them.
    """
    reason = "it computes in single precision, as the layer does"
    results = check_estimator(
        AnyValues(3, n_iter=1, random_state=0),
        on_fail=None,
        expected_failed_checks={
            "check_transformer_preserve_dtypes": reason,
            "check_methods_sample_order_invariance": reason + ": the last digit may differ",
        },
    )
    failed = {r["check_name"]: str(r["exception"]) for r in results if r["status"] == "failed"}
    assert not failed
    assert sum(r["status"] == "passed" for r in results) > 40


def test_keras_wraps_the_unrolled_stack():
    def classifier(X, y):
        dbn = DeepBeliefNetwork([RBM(8, number_visible_units=X.shape[1], seed=0), RBM(8, seed=1)])
        network = dbn.classifier(y.shape[1])
        network.compile(keras.optimizers.Adam(0.05), "categorical_crossentropy")
        return network

    wrapped = keras.wrappers.SKLearnClassifier(classifier, fit_kwargs={"epochs": 30, "verbose": 0})
    assert wrapped.fit(IMAGES, LABELS).score(IMAGES, LABELS) == 1.0
