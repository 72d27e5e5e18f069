"""The style of figures: headlines, names beside curves, thresholds, exact pictures, light files."""

import io

import numpy as np
import pytest
import torch
from conftest import make_images
from PIL import Image

from dslib.show import plots, style


def picture(figure, dpi=100, trim=True):
    return np.asarray(Image.open(io.BytesIO(plots.to_png(figure, dpi, trim))).convert("RGB")).astype(int)


def test_a_row_of_pictures_is_shown_twice_as_large_pixel_by_pixel():
    images = make_images(10, 64)
    drawn = picture(plots.rows({"a": images}), trim=False)
    sheet = plots.tile(images, 10).astype(int)
    twice = sheet.repeat(2, 0).repeat(2, 1)
    best = min(np.abs(drawn[y:y + 100, x:x + 1000] - twice[20:120, 20:1020]).mean()
               for y in range(15, 40) for x in range(drawn.shape[1] - 1330, drawn.shape[1] - 1290))
    assert best < np.abs(twice - twice.mean()).mean() / 5


def test_fewer_pictures_than_columns_keep_their_size():
    few, many = (plots.rows({"a": make_images(n, 16)}, 10).axes[0].images[0].get_array().shape for n in (3, 10))
    assert few == many


@pytest.mark.parametrize("figure", [lambda: plots.rows({"a": make_images(4, 16)}, 4), lambda: plots.grid(make_images(4, 16), 4),
                                    lambda: plots.new_figure(6, 3)])
def test_a_headline_is_put_above_and_takes_nothing_away(figure):
    drawn = figure()
    axis = drawn.axes[0] if drawn.axes else drawn.subplots()
    before, inches = axis.get_position(original=True).height * drawn.get_size_inches()[1], drawn.get_size_inches()[1]
    plots.headline(drawn, "what this shows, in words that are many and go on for quite a while, so that they need a second line", bold=True)
    assert drawn.get_size_inches()[1] > inches + 0.3
    plots.to_png(drawn)
    after, title = axis.get_window_extent(), (drawn.texts or [drawn._suptitle])[0].get_window_extent()
    assert after.height / drawn.dpi > 0.8 * before and title.y0 > after.y1


def test_the_takeaway_is_in_the_picture_that_is_shown(monkeypatch):
    import IPython.display
    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda data, **options: shown.append(data["image/png"]))
    for takeaway in (None, "a point"):
        plots.show(plots.grid(make_images(2, 16), 2), "two blobs of some colour", takeaway=takeaway)
    assert shown[0] != shown[1]


def label_heights(figure):
    plots.to_png(figure, 50)
    return {text.get_text(): text.xy[1] for text in figure.axes[0].texts}


def test_names_stand_at_the_ends_of_their_curves_and_not_on_each_other():
    x = torch.arange(5)
    flat = {name: torch.full((1, 5), height) for name, height in {"low": 0.0, "also low": 0.001, "high": 1.0}.items()}
    found = label_heights(plots.curves(x, flat, "x", "y"))
    assert found["low"] < found["also low"] < found["high"] and found["also low"] - found["low"] > 0.03 and found["high"] > 0.8


def test_names_follow_an_axis_that_was_changed_afterwards():
    figure = plots.curves(torch.arange(5), {"falls": torch.linspace(1, 0.001, 5)[None], "flat": torch.full((1, 5), 0.5)}, "x", "y")
    figure.axes[0].invert_xaxis()
    found = label_heights(figure)
    assert found["falls"] > found["flat"]                    # the end on the right is now the beginning


def test_names_of_curves_that_have_left_the_axis_stand_in_the_order_of_the_curves():
    x = torch.linspace(0, 1, 5)
    figure = plots.curves(x, {name: 10 ** (-power * x)[None] for name, power in {"b": 6.0, "a": 9.0, "c": 4.0}.items()}, "x", "y", log=True)
    figure.axes[0].set_ylim(1e-3, 1)
    found = label_heights(figure)
    assert found["a"] < found["b"] < found["c"] and found["c"] < 0.3


def test_pictures_of_a_figure_drawn_twice_are_equal():
    figure = plots.curves(torch.arange(3), {"a": torch.rand(2, 3)}, "x", "y")
    assert plots.to_png(figure, 50) == plots.to_png(figure, 50)


@pytest.mark.parametrize("wanted, tall", [([0, 0, 0], [10, 10, 10]), ([95, 99, 100], [20, 20, 20]), ([5, 50, 90], [10, 10, 10])])
def test_labels_are_moved_apart_and_stay_in_order_and_inside(wanted, tall):
    found = plots.apart(wanted, tall, 100)
    assert all(b - a >= (s + t) / 2 - 1e-9 for a, b, s, t in zip(found, found[1:], tall, tall[1:])) and found[-1] <= 100
    assert found == wanted or any(b - a < t for a, b, t in zip(wanted, wanted[1:], tall))


def test_a_threshold_says_what_it_is():
    figure = plots.curves(torch.arange(3), {"a": torch.rand(2, 3)}, "x", "y", thresholds={"mean face": 0.25})
    text = next(text for text in figure.axes[0].texts if text.get_text() == "mean face")
    assert text.xy[1] == 0.25 and any(set(np.atleast_1d(line.get_ydata())) == {0.25} for line in figure.axes[0].lines)


def test_a_heavy_picture_gets_lighter_and_a_light_one_keeps_its_colours():
    noise = torch.rand(40, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    heavy = plots.to_png(plots.grid(noise, 10))
    assert len(plots.shrink(heavy)) < 0.5 * len(heavy)
    assert len(set(Image.open(io.BytesIO(plots.shrink(heavy))).convert("RGB").getdata())) <= 128
    colours = torch.linspace(-1, 1, 200).view(1, 1, 1, 200).expand(1, 3, 8, 200)
    light = plots.to_png(plots.grid(colours, 1))
    assert len(set(Image.open(io.BytesIO(plots.shrink(light))).convert("RGB").getdata())) > 100


def test_a_red_frame_stays_red_in_a_heavy_picture():
    noise = 0.6 * (torch.rand(30, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    drawn = plots.grid(noise, 10)
    drawn.axes[0].plot([100, 160], [60, 60], color="#d5281e", linewidth=4)
    small = np.asarray(Image.open(io.BytesIO(plots.shrink(plots.to_png(drawn)))).convert("RGB")).astype(int).reshape(-1, 3)
    assert np.abs(small - [213, 40, 30]).max(1).min() <= 20


def test_losses_are_written_as_the_paper_writes_them():
    titles = [axis.get_title() for axis in plots.losses({"a": {"hfmse": [1.0, 0.5], "coarse_error": [1.0, 0.5]}}).axes]
    assert titles[0] == r"$\mathcal{L}_{\mathrm{hfmse}}$" and plots.to_png(plots.losses({"a": {"coarse_error": [1.0, 0.5]}}), 40)


def test_a_table_is_markdown_and_plain_text_where_nothing_renders_it(monkeypatch):
    import IPython.display
    shown, text = [], "After 300 steps:\n\n| a | b |\n|---|---|\n| 1 | 2 |"
    monkeypatch.setattr(IPython.display, "display", lambda data, **options: shown.append(data))
    plots.table(text)
    assert shown == [{"text/markdown": text, "text/plain": text}]


def test_a_crowd_shows_every_number_and_where_a_hundredth_of_the_many_lies():
    few, many = torch.tensor([0.01, 0.02]), torch.linspace(0.1, 1, 101)
    axis = plots.crowds({"naive": (few, many), "source": (many[:2], many)}, "error", "the ten", "strangers").axes[0]
    by_label = {line.get_label(): line for line in axis.lines}
    assert set(by_label["the ten"].get_xdata()) == set(few.numpy()) and len(by_label["strangers"].get_xdata()) == 101
    assert by_label["left of it: one in a hundred strangers"].get_xdata()[0] == pytest.approx(0.109)
    assert [text.get_text() for text in axis.get_yticklabels()] == ["naive", "source"] and axis.get_xscale() == "log"


def test_what_the_smoke_tier_draws_is_not_made_small(monkeypatch):
    shown, made = [], []
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append(a))
    monkeypatch.setattr(style, "shrink", lambda png: made.append(png) or png)
    for tier, wanted in (("smoke", 0), ("cpu", 1)):
        monkeypatch.setenv("DSLIB_TIER", tier)
        plots.show(plots.rows({"a": make_images(2, 32)}), alt="Two pictures.")
        assert len(made) == wanted
    assert len(shown) == 2
