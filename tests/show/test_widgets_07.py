"""Chapter 07's explorer and its two figures."""

import json

import pytest
import torch
from conftest import make_images

from dslib import metrics
from dslib.show import plots, widgets

IMAGES = make_images(12, 32)
POOLS = {"real": torch.arange(4), "copies": torch.tensor([4, 4, 5, 5]), "noise": torch.arange(6, 10)}
BAND = {"spread": (1.0, 3.0, 1), "distance": (0.0, 4.0, -1)}
SCORE = {"spread": lambda index: float(index.double().std()), "distance": lambda index: float(index.max())}


def score(index):
    return {metric: measure(index) for metric, measure in SCORE.items()}


@pytest.mark.parametrize("shares", [
    {"real": 100, "copies": 0, "noise": 0}, {"real": 1, "copies": 1, "noise": 1}, {"real": 70, "copies": 25, "noise": 5},
    {"real": 0.1, "copies": 0.2, "noise": 0.7}, {"real": 33, "copies": 33, "noise": 34}, {"real": 0, "copies": 99, "noise": 1},
])
@pytest.mark.parametrize("n", [1, 2, 10, 64, 101])
def test_shares_add_up(shares, n):
    counts = widgets.mixture_counts(shares, n)
    assert sum(counts.values()) == n and list(counts) == list(shares)
    exact = {name: n * share / sum(shares.values()) for name, share in shares.items()}
    assert all(abs(counts[name] - exact[name]) < 1 for name in shares)
    assert all(counts[name] == 0 for name in shares if not shares[name])


@pytest.mark.parametrize("shares, words", [({"real": 0, "copies": 0}, "all shares are zero"), ({"real": 9, "copies": -1}, "below zero")])
def test_an_impossible_mixture_is_said(shares, words):
    with pytest.raises(ValueError, match=words):
        widgets.mixture_counts(shares, 64)


def test_the_figure_measures_what_was_mixed():
    asked = []
    marks = {"real": {"spread": 0.0, "distance": 0.0}}
    figure, alt = widgets.mixture_figure(IMAGES, POOLS, lambda index: asked.append(index) or score(index), BAND, marks,
                                         {"real": 50, "copies": 25, "noise": 25})
    assert [index.tolist() for index in asked] == [[0, 1, 4, 6]]
    assert "2 real, 1 copies, 1 noise" in alt and "real images never score so by distance" in alt
    labels = [text.get_text() for text in figure.axes[1].get_yticklabels()]
    assert labels == ["spread  2.754", "distance  6.000"]
    other, words = widgets.mixture_figure(IMAGES, POOLS, score, BAND, marks, {"real": 100, "copies": 0, "noise": 0})
    assert "4 real; no metric tells it from real images" in words
    assert plots.to_png(figure) != plots.to_png(other)


@pytest.fixture
def explorer(explored):
    return explored(lambda: widgets.explore_mixture(IMAGES, POOLS, score, BAND, real=75, noise=25))


def test_moves_redraw_and_an_empty_mixture_is_reported(explorer, capsys):
    seen, controls = explorer
    assert list(controls) == list(POOLS) and not any(c.continuous_update for c in controls.values())
    assert len(seen) == 1 and "3 real, 1 noise" in seen[0]
    controls["noise"].value = 0
    controls["real"].value = 0
    assert len(seen) == 2 and "4 real" in seen[1] and "all shares are zero" in capsys.readouterr().out
    controls["copies"].value = 10
    assert len(seen) == 3 and "4 copies" in seen[2]


def test_the_page_gets_a_few_shares_of_every_fault(explored, tmp_path, monkeypatch):
    monkeypatch.setenv("DSLIB_EXPLORERS", str(tmp_path))
    seen, _ = explored(lambda: widgets.explore_mixture(IMAGES, POOLS, score, BAND, real=75, noise=25))
    content = json.loads((tmp_path / "explorer.json").read_text("utf-8"))
    assert [(c["name"], c["values"], c["start"]) for c in content["controls"]] == [
        ("real", [75], 0), ("copies", [0, 10, 30], 0), ("noise", [0, 10, 25, 30], 2)]
    assert len(content["frames"]) == 12 and content["frames"][2]["alt"] == seen[0]
    shares = {"real": 75, "copies": 30, "noise": 10}
    counts = widgets.mixture_counts(shares, 4)
    assert all(f"{count} {name}" in content["frames"][9]["alt"] for name, count in counts.items() if count)


@pytest.mark.parametrize("place, drawn", [(0, 0), (1, 1), (-0.5, -0.5), (2, 1.693), (-2, -1.693), (1e9, 6), (float("-inf"), -6)])
def test_far_places_are_drawn_near(place, drawn):
    assert plots.squash(place) == pytest.approx(drawn, abs=1e-3)


def test_the_scorecard_marks_what_real_images_never_score():
    values = {"real": {"spread": 2.0, "distance": 1}, "copies": {"spread": 0.25, "distance": 0}, "noise": {"spread": 9.5, "distance": 77}}
    places = {row: {m: metrics.against_real(v, *BAND[m]) for m, v in found.items()} for row, found in values.items()}
    axis = plots.scorecard(values, places).axes[0]
    assert [text.get_text() for text in axis.texts] == ["2.000 =", "1.000 =", "0.250 ▼", "0.000 =", "9.500 ▲", "77.00 ▼"]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["real", "copies", "noise"]


def test_a_forest_fills_what_lies_outside_the_band():
    values = {"copies": {"half": (0.5, 0.4, 0.6), "real": (0.05, 0.0, 0.1), "once": (0.9, float("-inf"), float("inf"))},
              "gap": {"half": (-0.3, -0.4, -0.2)}}
    figure = plots.forest(values, {"copies": (0.0, 0.1), "gap": (0.0, 0.0)},
                          {"copies": {"half": [0.4, 0.6], "real": [0.0, 0.1], "once": [0.9]}, "gap": {"half": [-0.3]}})
    left, right = figure.axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["half", "real", "once"]
    dots = [line for line in left.lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == [0.5, 0.05, 0.9]
    assert [line.get_markerfacecolor() for line in dots] == [plots.COLOURS[0], "white", "white"]
    assert sum(line.get_linestyle() == "-" for line in left.lines) == 2                     # no bar where there is no interval
    assert right.get_title() == "gap" and right.lines[-1].get_markerfacecolor() == plots.COLOURS[0]
