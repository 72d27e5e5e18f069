"""Chapter 13: its self-checks name the mistakes."""

import math

import pytest
import torch

from dslib import checks
from dslib.base.errors import UserError
from dslib.beyond import weights
from dslib.show import plots, widgets


def parts(slope=True, whole=True, mean=False, graph=False, last=False):
    """A reader's answer, wrong where the options say so."""
    def fn(net, x, loss, size):
        parameters = list(net.parameters())
        if graph:
            return list(torch.autograd.grad(loss(net(x)), parameters))
        with torch.no_grad():
            answers = net(x)
        answers.requires_grad_()
        pull = torch.autograd.grad(loss(answers), answers)[0] if slope else torch.ones_like(answers)
        total = [torch.zeros_like(p) for p in parameters]
        for part, mine in zip(x.split(size), pull.split(size)):
            found = torch.autograd.grad(net(part), parameters, mine) if whole else torch.autograd.grad(loss(net(part)), parameters)
            total = list(found) if last else [a + b for a, b in zip(total, found)]
        return [one / (2 if mean else 1) for one in total]
    return fn


@pytest.mark.parametrize("wrong, hint", [
    (parts(whole=False), "compared with itself alone: take"), (parts(whole=False, mean=True), "and the mean taken"),
    (parts(slope=False), "slope at the answers is not used"), (parts(mean=True), "the mean over the parts"),
    (parts(last=True), "the last part"),
    (parts(graph=True), "6 images had a graph at once"), (lambda *_: 3.0, "returns a float"), (lambda *_: None, "nothing written yet")])
def test_mistakes_in_the_gradient_in_parts_are_named(wrong, hint, capsys):
    assert not checks.check_gradient_in_parts(wrong)
    assert hint in capsys.readouterr().out


def dual(sign=1.0, log=True, far=1.0, most=10.0, least=0.01, rate=0.05, add=False):
    """A reader's answer, wrong where the options say so."""
    def fn(weight, level, price):
        gap = min(far, max(-far, math.log(level / price) if log else level / price))
        return min(most, max(least, weight + rate * gap if add else weight * math.exp(sign * rate * gap)))
    return fn


@pytest.mark.parametrize("wrong, hint", [
    (dual(sign=-1.0), "the wrong way"), (dual(far=50.0), "not clipped"), (dual(most=1e6, least=0.0), "not kept between"),
    (dual(log=False), "without its logarithm"), (dual(add=True), "is added"), (dual(rate=1.0), "η is not used"),
    (lambda *_: "up", "returns a str"), (lambda *_: None, "nothing written yet")])
def test_mistakes_in_a_step_of_dual_ascent_are_named(wrong, hint, capsys):
    assert not checks.check_dual_step(wrong)
    assert hint in capsys.readouterr().out


def test_right_answers_pass_and_are_the_librarys():
    assert checks.check_gradient_in_parts(parts()) and checks.check_gradient_in_parts(checks.gradient_in_parts)
    assert checks.check_dual_step(dual()) and checks.check_dual_step(weights.dual_step)


def test_the_gradient_in_parts_is_the_whole_batchs():
    net, x, loss = checks.cheaper.parts_case()
    whole = torch.autograd.grad(loss(net(x)), list(net.parameters()))
    for size in (1, 3, 4, 6):
        found = checks.gradient_in_parts(net, x, loss, size)
        assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(whole, found))


def test_the_slider_follows_a_loss_that_was_measured(monkeypatch):
    seen = {}
    monkeypatch.setattr(plots, "curves", lambda x, named, *_, **__: seen.update(x=x, **named))
    levels = [0.01, 0.08]
    _, alt = widgets.weight_figure(levels, 0.04, 0.05, weights.dual_step, start=1.0, every=10)
    low = math.exp(-0.05 * 10)                                        # ten steps below the price, each by η
    high = low * math.exp(0.05 * math.log(2)) ** 10                   # ten above it, by η·log 2
    assert seen["x"].tolist() == [10, 20] and seen["λ"][0].tolist() == pytest.approx([low, high])
    assert seen["loss"][0].tolist() == pytest.approx(levels) and f"ends at {high:.3g}" in alt
    with pytest.raises(UserError, match="no losses to follow"):
        widgets.explore_weight([], 0.04, weights.dual_step)
