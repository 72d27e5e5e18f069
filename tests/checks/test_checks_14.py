"""Chapter 14: its self-checks name the mistakes."""

import pytest
import torch
import torch.nn.functional as F

from dslib import UserError, checks
from dslib.beyond import attribute, video
from dslib.show import plots, widgets


def pushed(weight="root", sign=1.0, near="below", how="mean", kind="softplus", grad=True, minus=1.0):
    """A reader's answer, wrong where the options say so."""
    def fn(log_odds, t, a_bar, t_max=700):
        a = {"root": a_bar[t].sqrt(), "a_bar": a_bar[t], "none": torch.ones(len(t))}[weight]
        counts = {"below": t < t_max, "at": t <= t_max, "all": t >= 0}[near]
        p = torch.sigmoid(sign * log_odds)
        each = {"softplus": F.softplus(-sign * log_odds), "log": -p.log(), "one minus": 1 - p}[kind]
        each = minus * a * counts * each
        found = {"mean": each.mean(), "sum": each.sum(), "some": each.sum() / counts.sum()}[how]
        return found if grad else found.item()
    return fn


@pytest.mark.parametrize("wrong, hint", [
    (pushed(sign=-1.0), "pushes the wish away"), (pushed(weight="none"), "√ᾱ_t is missing"), (pushed(weight="a_bar"), "square root"),
    (pushed(near="all"), "steps t ≥ t_max push too"), (pushed(near="at"), "t = t_max pushes too"),
    (pushed(how="some"), "below t_max alone"), (pushed(how="sum"), "this is the sum"), (pushed(kind="one minus"), "this is 1 − p"),
    (pushed(minus=-1.0), "the sign is missing"), (pushed(grad=False), "no gradient flows"), (pushed(kind="log"), "infinite for log-odds"),
    (lambda *_: "hard", "returns a str"), (lambda *_: None, "nothing written yet")])
def test_mistakes_in_the_push_are_named(wrong, hint, capsys):
    assert not checks.check_push(wrong)
    assert hint in capsys.readouterr().out


def flickering(of="changes", truth=True, order="after", how="abs", mean="mean", levels=127.5, one=False):
    """A reader's answer, wrong where the options say so."""
    def fn(clips, true):
        take = {"changes": lambda x: x[:, 1:] - x[:, :-1], "frames": lambda x: x, "ends": lambda x: x[:, -1] - x[:, 0]}[of]
        mine, right = take(clips), take(true) * truth
        apart = mine.abs() - right.abs() if order == "before" else mine - right
        apart = {"abs": apart.abs(), "square": apart.square(), "plain": apart}[how].flatten(1)
        found = levels * (apart.mean(1) if mean == "mean" else apart.sum(1))
        return found.mean() if one else found
    return fn


@pytest.mark.parametrize("wrong, hint", [
    (flickering(of="frames"), "the frames are compared"), (flickering(truth=False), "true changes are not taken off"),
    (flickering(order="before"), "before the difference"), (flickering(how="square"), "this is the square"),
    (flickering(how="plain"), "no absolute value"), (flickering(mean="sum"), "this is the sum"), (flickering(levels=1.0), "times 127.5"),
    (flickering(levels=255.0), "times 255 is too much"), (flickering(of="ends"), "only the first and the last"),
    (flickering(one=True), "one number for all clips"), (lambda *_: 3.0, "returns a float"), (lambda *_: None, "nothing written yet")])
def test_mistakes_in_the_flicker_are_named(wrong, hint, capsys):
    assert not checks.check_flicker(wrong)
    assert hint in capsys.readouterr().out


def test_right_answers_pass_and_are_the_librarys():
    assert checks.check_push(pushed()) and checks.check_push(attribute.push)
    assert checks.check_flicker(flickering()) and checks.check_flicker(video.flicker)


def test_the_explorer_shows_both_verdicts_and_wants_the_same_radii():
    images = torch.zeros(2, 3, 8, 8)
    pushed = {"plain probe": {1.0: images, 4.0: images + 0.5}}
    says = {"plain probe": {1.0: (0.1, 0.0), 4.0: (1.0, 0.25)}}
    figure, alt = widgets.wish_figure(images, pushed, says, "plain probe", 4.0)
    assert plots.to_png(figure) and "100%, the judge in 25%" in alt
    with pytest.raises(UserError, match="same radii"):
        widgets.explore_wish(images, pushed, {"plain probe": {1.0: (0.1, 0.0)}})
    with pytest.raises(UserError, match="same radii"):
        widgets.explore_wish(images, {}, {})
