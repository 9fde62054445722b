"""An RBM as a step of a scikit-learn pipeline, where `BernoulliRBM` would stand.

Nothing else in the package needs scikit-learn, which the extra `scikit-learn` installs. Classifiers
made of Keras models have a wrapper in Keras, `keras.wrappers.SKLearnClassifier`; for a step that
learns without labels there is none.
"""

import keras
import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from rbm_tutorial.checks import (
    check_count,
    check_rate,
    check_seed,
    check_share,
    real_array,
)
from rbm_tutorial.rbm import RBM
from rbm_tutorial.training import ContrastiveDivergence
from rbm_tutorial.units import Bernoulli


class RBMTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """x → p(h=1 | x), (examples, visible) in [0, 1] → (examples, n_components), of a trained RBM.

    Args:
        n_components: number of hidden units.
        learning_rate: step size of gradient descent.
        momentum: of gradient descent.
        batch_size: examples in each update.
        n_iter: number of epochs.
        persistent_chains: 0 for CD-1; n for PCD-1 with n chains, as `BernoulliRBM` with its
            batch size.
        verbose: as for `fit` of Keras.
        random_state: integer that fixes weights and draws; `None` for other ones each time.

    Attributes:
        rbm_: the trained `RBM`.
        model_: the `ContrastiveDivergence` that trained it, with its optimizer and chains.

    Raises: `ValueError` for settings out of range and values outside [0, 1].
    """

    def __init__(
        self,
        n_components=256,
        learning_rate=0.1,
        momentum=0.5,
        batch_size=32,
        n_iter=10,
        persistent_chains=0,
        verbose=0,
        random_state=None,
    ):
        self.n_components = n_components
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.persistent_chains = persistent_chains
        self.verbose = verbose
        self.random_state = random_state

    def fit(self, X, y=None):
        """Train a new RBM on X, (examples, visible) in [0, 1]; labels `y` are not used."""
        X = self._checked(X, new=True)
        self._start(X)
        rng = np.random.default_rng(self.random_state)
        for _ in range(self.n_iter):
            self._learn(rng.permutation(X))
        return self

    def partial_fit(self, X, y=None):
        """Train on X once, in its order, from where training was; the first call starts it.

        A changed `learning_rate` or `momentum` takes effect, `batch_size` and `verbose`, too.
        Raises: `ValueError` for a changed `n_components` or `persistent_chains`.
        """
        new = not hasattr(self, "model_")
        X = self._checked(X, new)
        if new:
            self._start(X)
        else:
            self._take_settings()
        self._learn(X)
        return self

    def transform(self, X):
        """p(h=1 | x) of each row."""
        check_is_fitted(self)
        return np.asarray(self.rbm_.forward(self._checked(X)))

    def gibbs(self, v):
        """Draw one Gibbs step v → h → v: (examples, visible) → the same in {0, 1}."""
        check_is_fitted(self)
        return np.asarray(self.rbm_.forward_gibbs(self._checked(v), steps=1))

    def score_samples(self, X):
        """-F(x) = log p(x) + log Z of each row, nats: (examples,). Draws nothing.

        It ranks examples under one machine. That of `BernoulliRBM` is a random estimate of the
        pseudo-likelihood, by which machines can be compared, too; for that call
        `likelihood.pseudo_log_likelihood(transformer.rbm_, X)`.
        """
        check_is_fitted(self)
        return -np.asarray(self.rbm_.free_energy(self._checked(X)))

    @property
    def rbm_(self):
        """The trained `RBM`."""
        return self.model_.rbm

    @property
    def components_(self):
        """The weights as `BernoulliRBM` has them: (n_components, visible)."""
        return np.asarray(self.rbm_.w_rec).T

    @property
    def intercept_hidden_(self):
        """Hidden biases, (n_components,)."""
        return np.asarray(self.rbm_.hb)

    @property
    def intercept_visible_(self):
        """Visible biases, (visible,)."""
        return np.asarray(self.rbm_.vb)

    def _checked(self, X, new=False):
        """X as an array of such values as the RBM takes; if `new`, to be learned from."""
        if new:
            self._check_settings()
        values, given = (
            check_array(X, dtype="numeric", estimator=self, input_name="X"),
            np.asarray(X),
        )
        if given.dtype == "object" and any(isinstance(x, (str, bytes)) for x in given.flat):
            raise ValueError(
                "`X` must hold real numbers. Received text, of which numbers were made."
            )
        values = np.asarray(Bernoulli().checked(real_array("X", values).astype("float32"), "X"))
        validate_data(self, X, skip_check_array=True, reset=new)  # last, for it may set the width
        return values

    def _check_settings(self):
        check_count("n_components", self.n_components)
        check_count("batch_size", self.batch_size)
        check_count("n_iter", self.n_iter, least=0)
        check_count("persistent_chains", self.persistent_chains, least=0)
        check_rate("learning_rate", self.learning_rate)
        check_share("momentum", self.momentum)
        check_seed("random_state", self.random_state)

    def _start(self, X):
        rbm = RBM(self.n_components, seed=self.random_state)
        rbm.adapt(X)
        self.model_ = ContrastiveDivergence(rbm, self.persistent_chains)
        self._compile()

    def _compile(self):
        self.model_.compile(keras.optimizers.SGD(self.learning_rate, momentum=self.momentum))

    def _take_settings(self):
        """Let settings that have changed since the last call take effect."""
        self._check_settings()
        now = self.n_components, self.persistent_chains
        started = self.rbm_.number_hidden_units, getattr(self.model_.negatives, "number", 0)
        if now != started:
            raise ValueError(
                "`n_components` and `persistent_chains` must stay as they are between calls of "
                f"`partial_fit`: call `fit`. Received: {now}, at the start {started}"
            )
        if self.model_.optimizer.momentum != self.momentum:
            self._compile()
        self.model_.optimizer.learning_rate = self.learning_rate

    def _learn(self, X):
        self.model_.fit(X, batch_size=self.batch_size, shuffle=False, verbose=self.verbose)

    @property
    def _n_features_out(self):  # for `get_feature_names_out`
        return self.rbm_.number_hidden_units
