"""Chapter 06's self-checks and explorer."""

import pytest
import torch

from dslib import checks
from dslib.env import UserError
from dslib.show import plots, widgets


@pytest.mark.parametrize("wrong, hint", [
    (lambda t, w: sum(v for k, v in t.items() if k in w), "weights are not used"),
    (lambda t, w: sum(w.get(k, 1.0) * v for k, v in t.items()), "without a weight"),
    (lambda t, w: sum(w[k] * t[k] for k in w) / len(w), "mean"),
    (lambda t, w: float(sum(w[k] * t[k] for k in w)), "Python number"),
    (lambda t, w: sum(w[k] * t[k] for k in w).detach(), "no gradient flows"),
    (lambda t, w: sum(w[k] * v for k, v in t.items()), "leave out those without"),
    (lambda t, w: sum(t.values()), "every term counts once"),
    (lambda t, w: sum((1 if k in ("simple", "hfmse") else -1) * w[k] * t[k] for k in w), "subtracted"),
    (lambda t, w: sum(w[k] * t[k] for k in w if k != "simple"), "simple is left out"),
    (lambda t, w: sum(a * b for a, b in zip(t.values(), w.values())), "match them by name"),
    (lambda t, w: in_place(t, w), "total = total"),
    (lambda t, w: t["simple"] + sum(w[k] * t[k].item() for k in w if k != "simple"), "gradient of img, hf, hfmse"),
    (lambda t, w: torch.tensor(float(sum(w[k] * t[k] for k in w)), requires_grad=True), "gradient of simple, img, hf, hfmse"),
    (lambda t, w: "much", "expected a tensor"),
    (lambda t, w: None, "nothing written yet"),
])
def test_total_loss_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_total_loss(wrong)
    assert hint in capsys.readouterr().out


def test_right_answers_of_other_shapes_pass(capsys):
    assert checks.check_total_loss(lambda t, w: torch.stack([w[k] * t[k] for k in w]).sum())
    assert checks.check_balanced_weights(lambda n, s: {k: {"simple": 1}.get(k, s * n["simple"] / v if v else 0) for k, v in n.items()})


def in_place(terms, weights):
    total = terms["simple"]
    for name in ("img", "hf", "hfmse"):
        total += weights[name] * terms[name]
    return total


def ratio(n, f):
    return {k: 1.0 if k == "simple" else (f(v) if v else 0.0) for k, v in n.items()}


@pytest.mark.parametrize("wrong, hint", [
    (lambda n, s: ratio(n, lambda v: s * v / n["simple"]), "upside down"),
    (lambda n, s: ratio(n, lambda v: n["simple"] / v), "share is not used"),
    (lambda n, s: checks.balanced_weights(n, s) | {"simple": s}, "weight of simple is 1"),
    (lambda n, s: {k: s * n["simple"] / v for k, v in n.items()}, "the weight 0 instead of dividing"),
    (lambda n, s: {k: 1.0 if k == "simple" else s * n["simple"] / (v + 1e-8) for k, v in n.items()}, "its weight must be 0"),
    (lambda n, s: {k: 1.0 if k == "simple" else float("inf") if v == 0 else s * n["simple"] / v for k, v in n.items()}, "must be 0"),
    (lambda n, s: ratio(n, lambda v: 0.5 * n["simple"] / v), "fixed at a half"),
    (lambda n, s: ratio(n, lambda v: v / n["simple"]), "upside down, and the share"),
    (lambda n, s: ratio(n, lambda v: s / v), "measure by simple"),
    (lambda n, s: ratio(n, lambda v: n["simple"] / (s * v)), "divided by the share"),
    (lambda n, s: {"simple": 1.0}, "names"),
    (lambda n, s: [1.0], "expected a dict"),
    (lambda n, s: dict.fromkeys(n, "heavy"), "ValueError"),
    (lambda n, s: None, "nothing written yet"),
])
def test_balance_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_balanced_weights(wrong)
    assert hint in capsys.readouterr().out


def test_weights_figure_shares_add_up_and_refuse_nonsense(capsys, monkeypatch):
    norms = {"small t": {"simple": 1.0, "img": 2.0}, "large t": {"simple": 3.0, "img": 0.0}}
    _, alt = widgets.weights_figure(norms, {"img": 0.5})
    assert alt == "small t: simple 50%, img 50%; large t: simple 100%, img 0%"
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="below zero"):
            widgets.weights_figure(norms, {"img": weight})
    with pytest.raises(ValueError, match="no term is called imgg"):
        widgets.weights_figure(norms, {"imgg": 1.0})
    seen = []
    monkeypatch.setattr(plots, "show", lambda figure, alt, **_: seen.append(alt))
    widgets.explore_weights(norms, img=0.5)
    assert len(seen) == 1 and "small t" in seen[0]


def test_an_unknown_slider_is_refused_and_others_follow_the_terms(capsys):
    with pytest.raises(UserError, match="no term is called imgg: use img"):
        widgets.explore_weights({"t": {"simple": 1.0, "img": 2.0}}, imgg=2)
