"""Chapter 04's explorer and figures."""

import numpy as np
import pytest
import torch

from dslib import ddpm, losses
from dslib.show import plots, widgets

SCHEDULE = ddpm.alphas_cumprod(ddpm.linear_betas())


def test_similarity_figure_changes_with_t_and_seed(tiny_source, ten_images):
    def drawn(t, seed):
        return plots.to_png(widgets.similarity_figure({"source": tiny_source.unet}, ten_images[:4], SCHEDULE, t, seed)[0])
    assert drawn(400, 0) == drawn(400, 0) != drawn(800, 0)
    assert drawn(400, 0) != drawn(400, 1)


def test_similarity_figure_reads_an_answer_of_v_as_v(tiny_source, ten_images):
    """The matrix of a v-predicting network is that of the clean images which v implies."""
    net, t = tiny_source.unet, torch.full((4,), 400)
    x_t = ddpm.q_sample(ten_images[:4], t, torch.randn(ten_images[:4].shape, generator=torch.Generator().manual_seed(0)), SCHEDULE)
    with torch.no_grad():
        implied = ddpm.guess(net(x_t, t).sample, x_t, t, SCHEDULE, "v_prediction").x_0
    figure, _ = widgets.similarity_figure({"source": net}, ten_images[:4], SCHEDULE, 400, 0, "v_prediction")
    shown = figure.axes[0].images[0].get_array().filled(1.0)
    assert np.allclose(shown, losses.cosine_matrix(implied).numpy(), atol=1e-5)


def test_explorer_shows_a_static_figure_first(tiny_source, ten_images, monkeypatch):
    seen = []
    monkeypatch.setattr(plots, "show", lambda figure, alt, **_: seen.append(alt))
    widgets.explore_similarity({"source": tiny_source.unet}, ten_images, SCHEDULE)
    assert len(seen) == 1 and "4 guesses" in seen[0]


@pytest.mark.parametrize("n", [2, 3, 10])
def test_heatmaps_write_every_entry_but_the_diagonal(n):
    figure = plots.heatmaps({"a": losses.cosine_matrix(torch.randn(n, 3, 8, 8)), "b": torch.zeros(n, n)})
    assert [len(axis.texts) for axis in figure.axes[:2]] == [n * (n - 1)] * 2
    assert np.isnan(figure.axes[0].images[0].get_array().filled(np.nan).diagonal()).all()


def test_changes_of_similarities_have_their_own_scale_and_legible_numbers():
    change = torch.tensor([[0.0, -0.5], [0.5, 0.0]])
    figure = plots.heatmaps({"change": change}, -0.5, 0.5, "change of the cosine", "RdBu_r")
    assert [text.get_text() for text in figure.axes[0].texts] == ["-.50", ".50"]
    assert {text.get_color() for text in figure.axes[0].texts} == {"white"} and figure.axes[0].images[0].get_cmap().name == "RdBu_r"
    pale = plots.heatmaps({"change": change / 10}, -0.5, 0.5, cmap="RdBu_r")
    assert {text.get_color() for text in pale.axes[0].texts} == {"black"}


def test_signed_rows_keep_signs_and_print_their_scale():
    pictures = torch.zeros(2, 3, 4, 4)
    pictures[0, :, 0, 0], pictures[1, :, 1, 1] = 2.0, -1.0
    figure = plots.signed_rows({"g": pictures}, columns=2)
    drawn = figure.axes[0].images[0]
    assert float(drawn.get_array().max()) == 2 and float(drawn.get_array().min()) == -1
    assert drawn.norm.vmax == 2 == -drawn.norm.vmin and "±2" in figure.axes[0].get_ylabel()
    shared = plots.signed_rows({"g": pictures, "h": 3 * pictures}, columns=2, limit=4.0)
    assert {axis.images[0].norm.vmax for axis in shared.axes[:2]} == {4.0} and "±4" in shared.axes[1].get_ylabel()


def test_scores_far_apart_may_share_a_logarithmic_axis():
    values = {"small": {"a": {"m": [(0.1, 0.2), (0.2, 0.4)]}, "b": {"m": [(0.1, 20.0)]}}, "other": {"a": {"m": [(0.1, 1.0)]}, "b": {}}}
    figure = plots.ways(values, {score: {"a": 0.1, "b": 0.1} for score in values}, "x", log=("small",))
    small, other = figure.axes[:2], figure.axes[2:4]
    assert {axis.get_yscale() for axis in small} == {"log"} and {axis.get_yscale() for axis in other} == {"linear"}
    assert small[0].get_ylim() == small[1].get_ylim() and small[0].get_ylim()[0] < 0.1 < 20 < small[0].get_ylim()[1]
