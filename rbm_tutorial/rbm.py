"""The restricted Boltzmann machine as a Keras layer: the layer *is* the distribution p(v).

The book's first three chapters derive what is computed here, those on contrastive divergence and
tied weights the learning rule and the two sets of weights. Energies are in nats.
"""

import warnings

import keras
from keras import ops

from rbm_tutorial.backend import affine, check_tensorflow, fork_stream, single, uniform
from rbm_tutorial.checks import (
    check_built,
    check_count,
    check_examples,
    check_first_input,
    check_flag,
    check_input_shape,
    check_matrix,
    check_rate,
    check_seed,
    check_tied,
    real_input,
    real_tensor,
)
from rbm_tutorial.examples import unit_means
from rbm_tutorial.sampling import gibbs_step
from rbm_tutorial.saving import with_objects
from rbm_tutorial.units import Bernoulli, check_normalizable, free_energy


@keras.saving.register_keras_serializable("rbm_tutorial")
class RBM(keras.layers.Layer):
    """p(v, h) = m(v) m(h) exp(-E(v, h)) / Z  with  E(v, h) = -vb·v - hb·h - v·w_rec·h.

    The units are binary, with m = 1, unless types of `units` say otherwise; of those, read ⟨h | v⟩
    for p(h=1 | v) and ⟨v | h⟩ for p(v=1 | h) below.

    Args:
        number_hidden_units: number of hidden units.
        number_visible_units: number of visible units; inferred by `build` if `None`.
        learning_rate: step size of `cd_update`, and of `train_rbm`.
        cd_steps: Gibbs steps (v → h → v) of each contrastive-divergence update.
        tied: whether the generative weights are the transpose of the recognition weights. Only a
            tied layer is a Boltzmann machine; `untie` gives a layer with two sets of weights.
        seed: integer from 0 to 2³² - 1 that fixes the initial weights and every later draw of the
            layer (not how `fit` shuffles an array: that is up to `keras.utils.set_random_seed`).
            Layers of equal seed draw equal numbers, unless they are stacked.
        visible_units: type of the visible units, of module `units`.
        hidden_units: type of the hidden units.
        **kwargs: as for any Keras layer: `name`, `dtype`, `activity_regularizer` …

    Attributes:
        w_rec: recognition weights, (visible, hidden), initially drawn from N(0, 0.01²).
        w_gen: generative weights, (hidden, visible); in a tied layer a view, `w_rec` transposed.
        hb: hidden biases, (hidden,), initially 0.
        vb: visible biases, (visible,), initially 0; see `adapt`.

    Input shape: (batch, visible), values in [0, 1] (binary units).
    Output shape: (batch, hidden), the means of h given v, p(h=1 | v) (binary units).

    Under mixed precision a call of the layer computes in half precision, all else in the precision
    of the variables, energies and costs at least in single precision. Methods named `sample_*` and
    `*_gibbs`, `cd_update` and `uniform` draw random numbers, and so does building the layer.

    Raises: `ValueError` for arguments out of range, and two layers of unbounded units. Every method
    raises `ValueError` for a tensor of another rank or width or values that its units cannot have,
    in graphs as `backend.checked_range`; but with `training=True` a call takes any real numbers,
    since in a network of yours a `Dropout` may stand before the layer.

    Source: Smolensky (1986); Hinton, Training products of experts by minimizing contrastive
    divergence, Neural Computation 14 (2002); initial values: Hinton, A practical guide (2012).
    """

    def __init__(
        self,
        number_hidden_units: int = 10,
        number_visible_units: int | None = None,
        learning_rate: float = 0.1,
        cd_steps: int = 1,
        tied: bool = True,
        seed: int | None = None,
        visible_units=Bernoulli(),  # noqa: B008 (frozen)
        hidden_units=Bernoulli(),  # noqa: B008
        **kwargs,
    ):
        check_count("number_hidden_units", number_hidden_units)
        check_count("cd_steps", cd_steps)
        check_rate("learning_rate", learning_rate)
        check_flag("tied", tied)
        check_seed("seed", seed)
        if number_visible_units is not None:
            check_count("number_visible_units", number_visible_units)
        check_normalizable(visible_units, hidden_units)
        super().__init__(**kwargs)
        self.number_hidden_units = int(number_hidden_units)
        self.number_visible_units = number_visible_units and int(number_visible_units)
        self.learning_rate = float(learning_rate)
        self.cd_steps = int(cd_steps)
        self.tied = bool(tied)
        self.seed = None if seed is None else int(seed)
        self.visible_units, self.hidden_units = visible_units, hidden_units
        self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build(self, input_shape):
        check_input_shape(input_shape, self.number_visible_units)
        visible, hidden = input_shape[-1], self.number_hidden_units
        self.visible_units.check_number(visible)
        self.hidden_units.check_number(hidden)
        self.number_visible_units = int(visible)
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: visible})
        small = keras.initializers.RandomNormal(stddev=0.01, seed=self.seed_generator)
        self.w_rec = self.add_weight(shape=(visible, hidden), initializer=small, name="w_rec")
        if not self.tied:
            self._w_gen = self.add_weight(shape=(hidden, visible), initializer=small, name="w_gen")
        self.hb = self.add_weight(shape=(hidden,), initializer="zeros", name="hb")
        self.vb = self.add_weight(shape=(visible,), initializer="zeros", name="vb")

    @property
    def w_gen(self):
        return ops.transpose(self.w_rec) if self.tied else self._w_gen

    def __call__(self, v, *args, **kwargs):
        v = real_input("v", v)
        if not self.built:
            check_first_input("v", v, self.visible_units, self.compute_dtype)
        return super().__call__(v, *args, **kwargs)

    def call(self, v, training=False):
        return self.hidden_units.mean(self.hidden_logits(v)) if training else self.forward(v)

    def forward(self, v):
        """p(h=1 | v) = σ(v·w_rec + hb): (batch, visible) in [0, 1] → (batch, hidden)."""
        return self.hidden_units.mean(self.hidden_logits(self.checked_visible(v)))

    def reverse(self, h):
        """p(v=1 | h) = σ(h·w_gen + vb): (batch, hidden) in [0, 1] → (batch, visible)."""
        return self.visible_units.mean(self.visible_logits(self.checked_hidden(h)))

    def hidden_logits(self, v):
        """v·w_rec + hb, the inputs of the hidden units: (batch, visible) → (batch, hidden).

        The one map, with `visible_logits`, that takes any real numbers: fast code checks before.
        """
        return ops.matmul(self._matrix("v", v, self.number_visible_units), self.w_rec) + self.hb

    def visible_logits(self, h):
        """h·w_gen + vb, the inputs of the visible units: (batch, hidden) → (batch, visible)."""
        return ops.matmul(self._matrix("h", h, self.number_hidden_units), self.w_gen) + self.vb

    def sample_h(self, v):
        """Draw h ~ p(h | v): (batch, visible) → (batch, hidden) in {0, 1}."""
        return self.hidden_units.sample(self.hidden_logits(self.checked_visible(v)), self.uniform)

    def sample_v(self, h):
        """Draw v ~ p(v | h): (batch, hidden) → (batch, visible) in {0, 1}."""
        return self.visible_units.sample(self.visible_logits(self.checked_hidden(h)), self.uniform)

    def forward_gibbs(self, v, steps: int | None = None):
        """Draw from the Gibbs chain v → h → v, `steps` times (`cd_steps` if `None`)."""
        steps, v = self.cd_steps if steps is None else steps, self.checked_visible(v)
        check_count("steps", steps)
        for _ in range(steps):
            v = gibbs_step(self, v)
        return v

    def reverse_gibbs(self, h, steps: int | None = None):
        """Draw from the Gibbs chain h → v → h, `steps` times (`cd_steps` if `None`)."""
        steps = self.cd_steps if steps is None else steps
        check_count("steps", steps)
        for _ in range(steps):
            h = self.sample_h(self.sample_v(h))
        return h

    def energy(self, v, h):
        """E(v, h) = -vb·v - hb·h - v·w_rec·h: (batch, visible), (batch, hidden) → (batch,) nats.

        Of units with a measure m, -log m is not part of it.
        Raises: `ValueError` on an untied layer, which has no energy.
        """
        check_tied(self, "energy")
        v, h = single(self.checked_visible(v)), single(self.checked_hidden(h))
        return -ops.matmul(v, single(self.vb)) - ops.sum(h * affine(v, self.w_rec, self.hb), axis=1)

    def free_energy(self, v, hidden_logits=None):
        """F(v) = -log Σ_h exp(-E(v, h)) = -vb·v - Σ_j softplus(v·w_rec + hb)_j: → (batch,) nats.

        log p(v) = -F(v) - log Z. Of any units -vb·v - log m(v) - Σ_j log Z(v·w_rec + hb)_j, and for
        real h the sum is an integral. `hidden_logits`, where known, save a product and v's check.
        Raises: `ValueError` on an untied layer, which has no energy.
        """
        check_tied(self, "free_energy")
        v = single(self.checked_visible(v) if hidden_logits is None else v)
        logits = affine(v, self.w_rec, self.hb) if hidden_logits is None else single(hidden_logits)
        return free_energy((self.visible_units, self.hidden_units), v, logits, single(self.vb))

    def reconstruction_cost(self, x):
        """-Σ_i [x log y + (1 - x) log(1 - y)]_i with y = reverse(forward(x)), mean over the batch.

        (batch, visible) in [0, 1] → a scalar of at least 0, nats; finite however saturated the
        units are, since it is computed from the logits of y. For other than binary visible units
        -log p(x) of units with the inputs that `forward(x)` gives them.
        """
        x = self.checked_visible(x, "x")
        check_examples("x", x.shape[0])
        h = self.hidden_units.mean(affine(x, self.w_rec, self.hb))
        return ops.mean(self.visible_units.cross_entropy(x, affine(h, self.w_gen, self.vb)))

    def cd_update(self, x):
        """One step down the gradient of mean F(x) - mean F(v⁽ᵏ⁾), with v⁽ᵏ⁾ held constant.

        v⁽ᵏ⁾ is drawn by `cd_steps` Gibbs steps that start at `x`, (batch, visible) in [0, 1].
        Returns the reconstruction cost of `x` after the step: a scalar, nats. Works eagerly and
        in a `tf.function`, which keeps the learning rate that it was traced with.
        Raises: `ValueError` on an untied layer and for values outside [0, 1], in a `tf.function`
        `tf.errors.InvalidArgumentError` for these.
        """
        check_tensorflow("cd_update")
        import tensorflow as tf

        check_tied(self, "cd_update")
        x = self.checked_visible(x, "x")
        v_k = tf.stop_gradient(self.forward_gibbs(x))
        with tf.GradientTape() as tape:
            cost = ops.mean(self.free_energy(x)) - ops.mean(self.free_energy(v_k))
        variables = [v for v in (self.w_rec, self.hb, self.vb) if v.trainable]
        gradients = tape.gradient(cost, [variable.value for variable in variables])
        for variable, gradient in zip(variables, gradients):
            variable.assign_sub(self.learning_rate * gradient)
        return self.reconstruction_cost(x)

    def adapt(self, data) -> None:
        """Set vb to log p/(1 - p), p the mean of each visible unit, clipped to [0.001, 0.999].

        Without weights the machine then has the mean of the data. Other than binary units get
        the biases that do the same for them.

        Args:
            data: array (examples, visible) or `tf.data.Dataset` of batches of that shape, values
                in [0, 1] (binary units); labels are left out. Of a layer that is not built it
                draws the weights, and else nothing.

        Raises: `ValueError` for empty or infinite data or values outside [0, 1].
        Source: Hinton, A practical guide (2012), section 8.
        """
        means = unit_means("data", data, self.visible_units, self.number_visible_units)
        if not self.built:  # for nothing that is refused
            self.build((None, means.shape[0]))
        self.vb.assign(self.visible_units.logits(means))

    def untie(self) -> "RBM":
        """A new layer of the same weights, of which w_gen, in a tied layer w_recᵀ, is its own.

        It draws numbers of its own.
        Raises: `ValueError` if this layer has not been built.
        """
        check_built(self, "untie")
        config = {**self.get_config(), "tied": False, "name": f"{self.name}_untied"}
        untied = type(self).from_config(config)
        untied.build((None, self.number_visible_units))
        for name in ("w_rec", "_w_gen", "hb", "vb"):
            getattr(untied, name).assign(ops.copy(getattr(self, name.removeprefix("_"))))
        untied.seed_generator.state.assign(ops.copy(self.seed_generator.state))
        fork_stream(untied.seed_generator, 0)
        return untied

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.number_hidden_units)

    def get_config(self):
        return {
            **super().get_config(),
            "number_hidden_units": self.number_hidden_units,
            "number_visible_units": self.number_visible_units,
            "learning_rate": self.learning_rate,
            "cd_steps": self.cd_steps,
            "tied": self.tied,
            "seed": self.seed,
            "visible_units": keras.saving.serialize_keras_object(self.visible_units),
            "hidden_units": keras.saving.serialize_keras_object(self.hidden_units),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**with_objects(config, "visible_units", "hidden_units"))

    def save_own_variables(self, store):
        super().save_own_variables(store)
        # Keras saves no SeedGenerator; without its state a resumed run would repeat old noise.
        store["seed_state"] = self.seed_generator.state

    def load_own_variables(self, store):
        keys = set(store.keys()) - {"seed_state"}  # a store has keys, but cannot be iterated
        super().load_own_variables({key: store[key] for key in keys})
        if "seed_state" in store.keys():  # noqa: SIM118
            self.seed_generator.state.assign(store["seed_state"])
        else:
            message = "does not go on where the saved layer stopped, but draws as its seed says."
            warnings.warn(f"The file holds no random state: {self.name} {message}", stacklevel=2)

    def uniform(self, shape):
        """Draw uniform float32 numbers in [0, 1) from the random state of the layer."""
        return uniform(shape, self.seed_generator.next())

    def checked_visible(self, v, name: str = "v"):
        """`v` as a tensor of the weights' dtype, once it is known to be (batch, visible) states."""
        return self.visible_units.checked(self._matrix(name, v, self.number_visible_units), name)

    def checked_hidden(self, h, name: str = "h"):
        """The same of hidden units, (batch, hidden)."""
        return self.hidden_units.checked(self._matrix(name, h, self.number_hidden_units), name)

    def _matrix(self, name, x, width):
        if not self.built:
            raise ValueError("The weights do not exist yet: call `build([visible units])` first.")
        x = real_tensor(name, x, self.vb.dtype)
        check_matrix(name, x, width)
        return x
