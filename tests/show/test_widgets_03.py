"""Chapter 03's explorer."""

import ipywidgets
import pytest
import torch
from conftest import make_images

from dslib.show import plots, widgets

IMAGES = make_images(5, 32)
RUNS = {"finetune": {0: make_images(4, 32, seed=1), 100: IMAGES[[2, 0, 4, 1]]}, "scratch": {100: make_images(4, 32, seed=2)}}


def test_the_figure_names_each_nearest_distance():
    distances = torch.tensor([[0.5, 0.25, 0.9, 0.9, 0.9], [0.1, 0.3, 0.9, 0.9, 0.9]])
    figure, alt = widgets.memorisation_figure(IMAGES[:2], IMAGES, distances, "after 3 steps")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.25", "0.10"]
    assert "mean distance 0.175" in alt and "after 3 steps" in alt
    other, _ = widgets.memorisation_figure(IMAGES[:2], IMAGES, distances.flip(1), "after 3 steps")
    assert plots.to_png(figure) != plots.to_png(other)


def test_the_title_stands_above_the_distances():
    figure, _ = widgets.memorisation_figure(IMAGES[:2], IMAGES, torch.rand(2, 5), "after 3 steps")
    title, = figure.texts
    assert title.get_text() == "after 3 steps"
    assert title.get_window_extent().y0 >= max(text.get_window_extent().y1 for text in figure.axes[0].texts)


@pytest.fixture
def explorer(explored):
    return explored(lambda: widgets.explore_memorisation(RUNS, IMAGES))


def test_it_starts_at_the_last_step_and_finds_copies(explorer):
    seen, _ = explorer
    assert len(seen) == 1
    assert "finetune after 100 steps" in seen[0] and "mean distance 0.000" in seen[0]


def test_moves_redraw_and_a_missing_step_is_reported(explorer, capsys):
    seen, controls = explorer
    controls["distance"].value = "pixels"
    controls["step"].value = 0
    assert ["nearest by pixels" in alt for alt in seen] == [False, True, True]
    controls["run"].value = "scratch"
    assert len(seen) == 3 and "scratch has samples of the steps 100" in capsys.readouterr().out
    controls["step"].value = 100
    assert len(seen) == 4 and "scratch after 100 steps" in seen[3]
    assert isinstance(controls["step"], ipywidgets.SelectionSlider) and not controls["step"].continuous_update
