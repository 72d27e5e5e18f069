"""Chapter 06's self-checks and explorer."""

import pytest

from dslib import checks, plots, widgets


@pytest.mark.parametrize("wrong, hint", [
    (lambda t, w: sum(v for k, v in t.items() if k in w), "weights are not used"),
    (lambda t, w: sum(w.get(k, 1.0) * v for k, v in t.items()), "without a weight"),
    (lambda t, w: sum(w[k] * t[k] for k in w) / len(w), "mean"),
    (lambda t, w: float(sum(w[k] * t[k] for k in w)), "Python number"),
    (lambda t, w: sum(w[k] * t[k] for k in w).detach(), "no gradient flows"),
    (lambda t, w: sum(w[k] * v for k, v in t.items()), "KeyError"),
    (lambda t, w: "much", "expected a tensor"),
    (lambda t, w: None, "nothing written yet"),
])
def test_total_loss_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_total_loss(wrong)
    assert hint in capsys.readouterr().out


def ratio(n, f):
    return {k: 1.0 if k == "simple" else (f(v) if v else 0.0) for k, v in n.items()}


@pytest.mark.parametrize("wrong, hint", [
    (lambda n, s: ratio(n, lambda v: s * v / n["simple"]), "upside down"),
    (lambda n, s: ratio(n, lambda v: n["simple"] / v), "share is not used"),
    (lambda n, s: checks.balanced_weights(n, s) | {"simple": s}, "weight of simple is 1"),
    (lambda n, s: {k: s * n["simple"] / v for k, v in n.items()}, "ZeroDivisionError"),
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
    with pytest.raises(ValueError, match="below zero"):
        widgets.weights_figure(norms, {"img": -1.0})
    seen = []
    monkeypatch.setattr(plots, "show", lambda figure, alt: seen.append(alt))
    widgets.explore_weights(norms, img=0.5)
    assert len(seen) == 1 and "small t" in seen[0]
