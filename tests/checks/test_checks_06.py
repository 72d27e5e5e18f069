"""Chapter 06's self-checks and explorer."""

import pytest
import torch

from dslib import checks, ddpm, haar, losses
from dslib.env import UserError
from dslib.show import plots, widgets


def parts(net, frozen, x_0, t, eps, s, published=False, asked=None, no_grad=True, soft=True):
    """(guesses of both, softened ones, weights over t, answer): what the terms are made of."""
    x_t = ddpm.q_sample(x_0, t, eps, s) if asked is None else asked
    answer = net(x_t, t).sample
    with torch.set_grad_enabled(not no_grad):
        sou = ddpm.predict_x0(x_t, t, frozen(x_t, t).sample, s)
    ada = ddpm.predict_x0(x_t, t, answer, s)
    compared = losses.scale_gradient(ada, s[t].sqrt()) if soft and not published else ada
    return ada, sou, compared, None if published else s[t], answer


def objective(change=lambda *given: {}, **how):
    """The four terms with one of them wrong: change(ada, sou, compared, weight, answer, x_0, eps) → {name: value}."""
    def terms_of(net, frozen, x_0, t, eps, s, published=False):
        ada, sou, compared, weight, answer = found = parts(net, frozen, x_0, t, eps, s, published, **how)
        right = {"simple": (answer - eps).square().mean(), "img": losses.pairwise_kl(compared, sou),
                 "hf": losses.hf_pairwise_kl(compared, sou), "hfmse": losses.hf_mse(ada, x_0, weight)}
        return right | change(*found, x_0, eps)
    return terms_of


def kl_into_source(compared, sou):
    p, q = losses.pairwise_log_probs(compared), losses.pairwise_log_probs(sou)
    return (p.exp() * (p - q)).sum()


@pytest.mark.parametrize("wrong, hint", [
    (objective(lambda a, s, c, w, e, x, n: {"simple": (a - x).square().mean()}), "simple: it is the error of the guess"),
    (objective(lambda a, s, c, w, e, x, n: {"simple": (e - n).square().mean().detach()}), "simple: the value is right but no gradient"),
    (objective(lambda a, s, c, w, e, x, n: {"img": losses.pairwise_kl(s, c)}), "img: the arguments are swapped"),
    (objective(lambda a, s, c, w, e, x, n: {"img": losses.pairwise_kl(c, s) / 5}), "img: it is divided by N"),
    (objective(lambda a, s, c, w, e, x, n: {"img": losses.pairwise_kl(c, x)}), "img: the source was compared with the training images"),
    (objective(lambda a, s, c, w, e, x, n: {"img": losses.hf_pairwise_kl(c, s)}), "img: these are the high frequencies"),
    (objective(lambda a, s, c, w, e, x, n: {"hf": losses.pairwise_kl(c, s)}), "hf: the guesses themselves"),
    (objective(lambda a, s, c, w, e, x, n: {"hf": losses.pairwise_kl(haar.dwt2(c)[0], haar.dwt2(s)[0])}), "hf: LL was compared"),
    (objective(lambda a, s, c, w, e, x, n: {"hf": losses.hf_pairwise_kl(s, c)}), "hf: the arguments are swapped"),
    (objective(lambda a, s, c, w, e, x, n: {"hfmse": losses.hf_mse(a, x)}), "hfmse: each image's square"),
    (objective(lambda a, s, c, w, e, x, n: {"hfmse": losses.hf_mse(a, x, None if w is None else w.sqrt())}), "hfmse: the weight is √ᾱ_t"),
    (objective(lambda a, s, c, w, e, x, n: {"hfmse": losses.hf_mse(a, s, w)}), "hfmse: it compares with the source"),
    (objective(lambda a, s, c, w, e, x, n: {"hfmse": (w.view(-1, 1, 1, 1) * (a - x).square()).mean() if w is not None else 0}),
     "hfmse: the pictures themselves"),
    (objective(soft=False), "img: the value is right, but its gradient is not softened"),
    (objective(lambda a, s, c, w, e, x, n: {"img": kl_into_source(c, s)}, no_grad=False), "reaches the frozen source"),
    (objective(lambda a, s, c, w, e, x, n: {"img": losses.pairwise_kl(losses.scale_gradient(a, w), s) if w is not None else 0}),
     "img: the value is right, but its gradient is not:"),
    (lambda net, frozen, x, t, e, s, published=False: objective()(net, frozen, x, t, e, s), "not with published=True"),
    (lambda net, frozen, x, t, e, s: objective()(net, frozen, x, t, e, s), "TypeError"),
    (lambda net, *given: net(given[1], given[2]) - given[3], "its tensor is .sample"),
    (lambda *given: {"simple": torch.zeros(())}, "expected a dict with simple, img, hf, hfmse"),
    (lambda *given: 3.0, "expected a dict"), (lambda *given: None, "nothing written yet"),
    (lambda *given: dict.fromkeys(("simple", "img", "hf", "hfmse"), 1.0), "simple: it returns a float"),
    (objective(lambda a, s, c, w, e, x, n: {"img": 2 * losses.pairwise_kl(c, s)}), "img: the values differ"),
])
def test_mistakes_with_the_terms_are_named(wrong, hint, capsys):
    assert not checks.check_terms_of(wrong)
    assert hint in capsys.readouterr().out
    assert checks.check_terms_of(objective())


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
