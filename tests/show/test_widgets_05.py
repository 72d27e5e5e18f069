"""The band explorer and its figure: every control changes the picture, and Haar's bands are dslib's."""

import pytest
import torch

from dslib import haar
from dslib.show import plots, widgets


@pytest.fixture
def drawn(monkeypatch):
    """What was shown, in order, instead of a browser."""
    seen = []
    monkeypatch.setattr(plots, "show", lambda figure, alt, **_: seen.append((figure, alt)))
    return seen


@pytest.fixture
def picture():
    coarse = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")[0]


def test_bands_figure_changes_with_wavelet_and_level(picture):
    settings = [("haar", 1), ("haar", 1), ("haar", 2), ("db2", 1)]
    drawn = [plots.to_png(widgets.bands_figure(picture, *setting)[0]) for setting in settings]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


@pytest.mark.parametrize("level", [1, 2])
def test_haar_is_shown_with_our_names_and_signs(picture, level, monkeypatch):
    shown = {}
    original = plots.bands
    monkeypatch.setattr(plots, "bands", lambda named: shown.update(named) or original(named))
    widgets.bands_figure(picture, "haar", level)
    ll = picture
    for _ in range(level):
        ll, *details = haar.dwt2(ll)
    for ours, theirs in zip((ll, *details), shown[f"level {level}"][1:]):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior1.3", "bior2.2", "coif1"])
def test_every_wavelet_sees_a_vertical_edge_in_lh(wavelet):
    card = torch.full((3, 32, 32), -1.0)
    card[:, :, 15:] = 1                                      # inside the block of columns 14 and 15
    alt = widgets.bands_figure(card, wavelet, 1)[1]
    lh, hl, hh = (float(part.split()[-1]) for part in alt.split("mean squares: ")[1].rstrip(".").split(", "))
    assert lh > 0.01 and hl < 1e-6 and hh < 1e-6


def test_explore_bands_shows_one_figure_at_first(picture, drawn):
    widgets.explore_bands({"blob": picture, "mirrored": picture.flip(-1)}, levels=2)
    assert len(drawn) == 1
    assert "haar bands at level 1" in drawn[0][1]


def test_bands_takes_flat_pictures_and_energies():
    flat = torch.full((3, 16, 16), 0.5)
    energies = {"one": torch.rand(1, 3), "two": torch.rand(4, 3)}
    figure = plots.bands({"flat": (flat, *haar.dwt2(flat))}, energies)
    assert plots.to_png(figure)
    bars = figure.axes[-1] if figure.axes[-1].patches else next(axis for axis in figure.axes if axis.patches)
    assert len(bars.patches) == 3 * len(energies)
