"""Figures: what is drawn, not how it looks."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from machines import machine, parametrized
from trained import EXAMPLES, trainer

from rbm_tutorial import RBM, LabeledRBM, plots
from rbm_tutorial.units import Bernoulli, Beside, Categorical, Gaussian, unit_type

pytestmark = pytest.mark.usefixtures("close_figures")


def tile(picture, row, column, height, width):
    top, left = row * (height + 1), column * (width + 1)
    return picture[top : top + height, left : left + width]


def test_image_grid_puts_each_image_in_its_place():
    images = np.arange(5 * 6).reshape(5, 6) / 30
    ax = plots.image_grid(images, columns=3, image_shape=(2, 3))
    picture = ax.images[0].get_array().filled(np.nan)
    assert picture.shape == (2 * 3, 3 * 4)
    for i, image in enumerate(images):
        np.testing.assert_array_equal(tile(picture, *divmod(i, 3), 2, 3), image.reshape(2, 3))
    assert np.all(np.isnan(tile(picture, 1, 2, 2, 3)))
    assert ax.images[0].get_clim() == (0, 1)
    frames = [(*frame.get_xy(), frame.get_width(), frame.get_height()) for frame in ax.patches]
    assert frames == [(4 * (i % 3) - 0.5, 3 * (i // 3) - 0.5, 3, 2) for i in range(5)]


@pytest.mark.parametrize("shape", [None, (2, 3)])
def test_image_grid_refuses_images_of_another_size(shape):
    with pytest.raises(ValueError, match=r"image_shape=\(2, [23]\).*Received: \(4, 5\)"):
        plots.image_grid(np.zeros((4, 5)), image_shape=shape)


@pytest.mark.parametrize("shape", [(784,), (2, 28, 28)])
def test_image_grid_refuses_other_ranks(shape):
    with pytest.raises(ValueError, match=r"must have shape \(count, pixels\)"):
        plots.image_grid(np.zeros(shape))


def test_filters_share_one_scale_symmetric_about_zero():
    rbm = machine(4, 3)
    w = np.array(rbm.w_rec)
    ax = plots.filters(rbm, columns=3)
    picture = ax.images[0].get_array().filled(np.nan)
    for j in range(3):
        np.testing.assert_array_equal(tile(picture, 0, j, 2, 2), w[:, j].reshape(2, 2))
    low, high = ax.images[0].get_clim()
    assert -low == high == pytest.approx(abs(w).max())
    assert len(ax.figure.axes) == 2  # the other is the color bar
    assert ax.images[0].get_array().shape == plots.filters(rbm, 2, 3).images[0].get_array().shape


BESIDE = Beside(Beside(Gaussian(), Categorical(2), 2), Bernoulli(), 1)  # of four pixels


@pytest.mark.parametrize("layer", [LabeledRBM(2, number_classes=3), RBM(2, visible_units=BESIDE)])
def test_filters_of_a_machine_that_sees_labels_are_its_images(layer):
    rbm = parametrized(layer, 7)
    picture = plots.filters(rbm, columns=2).images[0].get_array().filled(np.nan)
    for j in range(2):
        np.testing.assert_array_equal(
            tile(picture, 0, j, 2, 2), np.array(rbm.w_rec)[:4, j].reshape(2, 2)
        )


def test_reconstructions_stand_below_their_originals():
    originals, reconstructed = np.zeros((3, 4)), np.ones((3, 4))
    ax = plots.reconstructions(originals, reconstructed)
    picture = ax.images[0].get_array().filled(np.nan)
    assert np.all(tile(picture, 0, 1, 2, 2) == 0)
    assert np.all(tile(picture, 1, 1, 2, 2) == 1)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["data", "reconstruction"]
    with pytest.raises(ValueError, match="must have one shape"):
        plots.reconstructions(originals, reconstructed[:2])


def test_film_strip_shows_each_chain_as_a_row():
    chain = np.arange(3 * 2)[:, None].reshape(3, 2, 1) * np.ones(4) / 6
    ax = plots.film_strip(chain, steps=[0, 1, 100])
    picture = ax.images[0].get_array().filled(np.nan)
    for time in range(3):
        for row in range(2):
            assert np.all(tile(picture, row, time, 2, 2) == chain[time, row, 0])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "100"]
    numbered = plots.film_strip(chain)
    assert [label.get_text() for label in numbered.get_xticklabels()] == ["0", "1", "2"]


def test_training_curves_show_validation_where_there_is_one():
    history = {"free_energy": [3.0, 2.0], "val_free_energy": [4.0, 3.0], "loss": [1.0, 0.5]}
    ax = plots.training_curves(history, "free_energy")
    assert [line.get_label() for line in ax.lines] == ["training", "validation"]
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), [[1, 4], [2, 3]])
    assert ax.get_ylabel() == "free energy (nats)"
    ax = plots.training_curves({"accuracy": [0.5, 0.7]}, "accuracy")
    assert ax.get_ylabel() == "accuracy"
    assert len(plots.training_curves(history, "loss").lines) == 1


def test_training_curves_take_what_fit_returns_and_name_the_metrics():
    history = keras.callbacks.History()
    history.history = {"loss": [1.0, 0.5]}
    np.testing.assert_array_equal(
        plots.training_curves(history, "loss").lines[0].get_ydata(), [1.0, 0.5]
    )
    with pytest.raises(ValueError, match=r"one of \['loss'\]. Received: 'typo'"):
        plots.training_curves(history, "typo")
    with pytest.raises(ValueError, match=r"`history` must hold an epoch.*Received one of no epoch"):
        plots.training_curves(keras.callbacks.History())
    with pytest.raises(ValueError, match=r"`history` must be.*Received: list"):
        plots.training_curves([1.0, 0.5])


def test_refuses_other_ranks_no_images_and_what_are_no_numbers(rbm):
    for draw, bad in (
        (plots.image_grid, np.zeros((0, 4))),
        (plots.image_grid, [["a"]]),
        (plots.film_strip, np.zeros((3, 4))),
        (lambda x: plots.reconstructions(x, x), np.zeros(4)),
        (lambda name: plots.parameter_histogram(rbm, name), "typo"),
    ):
        with pytest.raises(ValueError, match="Received"):
            draw(bad)


def test_energy_landscape_is_the_energy_of_each_state(rbm, exact):
    ax = plots.energy_landscape(rbm)
    np.testing.assert_allclose(ax.images[0].get_array(), exact.energy, atol=1e-5)
    assert ax.get_yticklabels()[5].get_text() == "0101"
    large = RBM(7)
    large.build([3])
    with pytest.raises(ValueError, match="at most 6 units"):
        plots.energy_landscape(large)


@pytest.mark.parametrize("name", ["w_rec", "hb", "vb"])
def test_histogram_counts_every_parameter(rbm, name):
    ax = plots.parameter_histogram(rbm, name)
    heights = sum(patch.get_height() for patch in ax.patches)
    assert heights == np.size(getattr(rbm, name))


def test_hidden_activations_are_probabilities(rbm, batch):
    ax = plots.hidden_activations(rbm, batch)
    np.testing.assert_allclose(ax.images[0].get_array(), rbm.forward(batch))
    assert ax.images[0].get_clim() == (0, 1)
    assert ax.images[0].colorbar.ax.get_ylabel() == "p(h = 1 | v)"


@unit_type
class Spins(Bernoulli):
    """Units of -1 and 1, as far as pictures need them."""

    def mean(self, logits):
        return keras.ops.tanh(logits)

    def sites(self, number):
        return [np.array([[-1.0], [1.0]])] * number


def test_hidden_activations_of_other_units_have_their_scale(batch):
    rbm = RBM(3, hidden_units=Spins(), seed=0)
    rbm.build((None, batch.shape[1]))
    image = plots.hidden_activations(rbm, batch).images[0]
    assert image.get_clim() == (-1, 1)
    assert image.colorbar.ax.get_ylabel() == "⟨h | v⟩"


def test_draws_on_given_axes_and_returns_them(rbm, batch):
    history = {"loss": [1.0]}
    for draw in (
        lambda ax: plots.image_grid(batch, ax=ax),
        lambda ax: plots.filters(rbm, ax=ax),
        lambda ax: plots.reconstructions(batch, batch, ax=ax),
        lambda ax: plots.film_strip(batch[None], ax=ax),
        lambda ax: plots.training_curves(history, "loss", ax=ax),
        lambda ax: plots.energy_landscape(rbm, ax=ax),
        lambda ax: plots.parameter_histogram(rbm, ax=ax),
        lambda ax: plots.hidden_activations(rbm, batch, ax=ax),
    ):
        ax = plt.subplots()[1]
        assert draw(ax) is ax
        assert ax.images or ax.lines or ax.patches


def contrast(color, luminance):
    """WCAG's contrast of a color, #rrggbb, with a ground of this relative luminance."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    ends = sorted([np.dot(linear, [0.2126, 0.7152, 0.0722]), luminance])
    return (ends[1] + 0.05) / (ends[0] + 0.05)


@pytest.mark.parametrize("luminance", [1, 0], ids=["on white", "on black"])
def test_style_reads_on_light_and_dark_pages(luminance):
    plots.use_style()
    assert plt.rcParams["figure.facecolor"] == plt.rcParams["axes.facecolor"] == "none"
    assert contrast(plots.GRAY, luminance) >= 4.5  # text
    assert min(contrast(color, luminance) for color in plots.COLORS) >= 3  # marks


def test_unknown_pixels_of_a_film_strip_stay_empty():
    chain = np.array([[[0.0, np.nan, 1.0, 0.5]], [[0.0, 1.0, 1.0, 0.5]]])
    shown = plots.film_strip(chain).images[0].get_array()
    np.testing.assert_array_equal(np.ma.getmaskarray(shown)[:2, :2], [[False, True], [False] * 2])
    assert not np.ma.getmaskarray(shown)[:2, 3:5].any()
    with pytest.raises(ValueError, match=r"`chain` must lie in \[0, 1\]"):
        plots.film_strip(2 * chain)


def test_epochs_are_numbered_as_they_were_trained():
    """A resumed run goes on counting; values of every other epoch cannot be placed."""
    model = trainer(machine())
    resumed = model.fit(EXAMPLES, epochs=4, initial_epoch=2, verbose=0)
    line = plots.training_curves(resumed, "loss").lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [3, 4])
    sparse = {"loss": [4, 3, 2, 1], "val_loss": [3, 1]}
    with pytest.raises(ValueError, match=r"`history` must hold both.*Received: {'loss': 4"):
        plots.training_curves(sparse, "loss")


def test_what_would_be_an_empty_figure_is_named():
    lost = machine()
    lost.hb.assign(np.full(3, np.nan))
    for draw in (plots.energy_landscape, lambda rbm: plots.hidden_activations(rbm, EXAMPLES)):
        with pytest.raises(
            ValueError, match=r"must (be finite.|have finite weights.*) Received NaN"
        ):
            draw(lost)


@pytest.mark.parametrize(
    "ax", ["ax", plt.Figure(), np.array([None])], ids=["text", "figure", "axes"]
)
def test_what_are_no_axes_is_refused(rbm, ax):
    for draw in (plots.image_grid, plots.parameter_histogram):
        with pytest.raises(ValueError, match=r"`ax` must be matplotlib `Axes`. Received: "):
            draw(EXAMPLES if draw is plots.image_grid else rbm, ax=ax)
