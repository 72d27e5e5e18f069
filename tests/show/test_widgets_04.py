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


def test_signed_rows_keep_signs_and_print_their_scale():
    pictures = torch.zeros(2, 3, 4, 4)
    pictures[0, :, 0, 0], pictures[1, :, 1, 1] = 2.0, -1.0
    figure = plots.signed_rows({"g": pictures}, columns=2)
    drawn = figure.axes[0].images[0]
    assert float(drawn.get_array().max()) == 2 and float(drawn.get_array().min()) == -1
    assert drawn.norm.vmax == 2 == -drawn.norm.vmin and "±2" in figure.axes[0].get_ylabel()
