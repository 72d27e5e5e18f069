"""Moving a control redraws; an impossible value is reported in place and the next move works."""

import ipywidgets
import pytest

from dslib import data, ddpm
from dslib.show import plots, widgets


@pytest.fixture
def drawn(monkeypatch):
    """What was shown, in order, instead of a browser."""
    seen = []
    monkeypatch.setattr(plots, "show", lambda figure, alt, **_: seen.append((figure, alt)))
    return seen


def test_explore_redraws_and_survives_an_error(drawn, capsys):
    def redraw(t):
        if t == 3:
            raise ValueError("three is not a number here")
        return f"figure {t}", f"text {t}"

    slider = ipywidgets.IntSlider(1, 0, 10, continuous_update=False)
    widgets.explore(redraw, t=slider)
    slider.value = 3
    slider.value = 4
    assert drawn == [("figure 1", "text 1"), ("figure 4", "text 4")]
    assert "not possible: three is not a number here" in capsys.readouterr().out


def test_forward_figure_changes_with_t(tiny_source, ten_images):
    schedule = ddpm.alphas_cumprod(ddpm.linear_betas())
    pictures = [plots.to_png(widgets.forward_figure(tiny_source.unet, ten_images[:3], schedule, t)[0]) for t in (10, 10, 500)]
    assert pictures[0] == pictures[1] != pictures[2]


def test_explorers_do_not_redraw_while_dragging(tiny_source, ten_images, drawn):
    schedule = ddpm.alphas_cumprod(ddpm.linear_betas())
    widgets.explore_forward(tiny_source.unet, data.to_float(ten_images[:2]), {"linear": schedule})
    assert len(drawn) == 1
    assert "step 300" in drawn[0][1]


def test_guesses_of_a_v_network_are_those_of_its_velocity(monkeypatch):
    """A network that answers with the true v has the clean faces as its guess, in both figures."""
    from types import SimpleNamespace

    import torch
    from conftest import make_images

    from dslib import ddpm, losses, models
    from dslib.show import plots, widgets
    faces, a_bar, seen = make_images(4, 16), models.new_scheduler().alphas_cumprod, {}
    eps = torch.randn(faces.shape, generator=torch.Generator().manual_seed(0))

    def net(x_t, t):
        return SimpleNamespace(sample=ddpm.velocity(faces, eps, t, a_bar))
    monkeypatch.setattr(plots, "rows", lambda named, **_: seen.update(named) or plots.new_figure(1, 1))
    monkeypatch.setattr(plots, "heatmaps", lambda matrices, *_: seen.update(matrices) or plots.new_figure(1, 1))
    widgets.forward_figure(net, faces, a_bar, 900, prediction_type="v_prediction")
    torch.testing.assert_close(seen[widgets.GUESS], faces, rtol=1e-3, atol=1e-4)
    widgets.similarity_figure({"net": net}, faces, a_bar, 900, prediction_type="v_prediction")
    torch.testing.assert_close(seen["net"], losses.cosine_matrix(faces), rtol=1e-3, atol=1e-4)
