"""Self-checks of chapter 06: the four terms, their weighted sum, and weights that balance gradients."""

import torch
from torch import Tensor

from .. import ddpm, haar, losses
from .common import attempt, conclude, diagnose
from .training import SmallModel

RAISED = {"KeyError": "not every term has a weight: leave out those without",
          "leaf Variable": "`total += …` changes a term itself: write `total = total + …`",
          "ZeroDivisionError": "a term without gradient has a norm of 0: give it the weight 0 instead of dividing"}


def terms_of(net, frozen, x_0: Tensor, t: Tensor, eps: Tensor, alphas_cumprod: Tensor, published: bool = False) -> dict[str, Tensor]:
    """DomainStudio's four terms, unweighted, of a network that predicts noise: {"simple", "img", "hf", "hfmse"}, scalars.

    x_0 in [-1,1] and eps: (N,C,H,W); t: (N,); alphas_cumprod: (T,). Unless published, what the pairwise terms send back through
    each guess is multiplied by √ᾱ_t, and hfmse weighs each image by ᾱ_t. No gradient reaches the frozen source.
    """
    x_t = ddpm.q_sample(x_0, t, eps, alphas_cumprod)
    answer = net(x_t, t).sample
    with torch.no_grad():
        sou = ddpm.predict_x0(x_t, t, frozen(x_t, t).sample, alphas_cumprod)
    ada = ddpm.predict_x0(x_t, t, answer, alphas_cumprod)
    compared = ada if published else losses.scale_gradient(ada, alphas_cumprod[t].sqrt())
    return {"simple": (answer - eps).square().mean(), "img": losses.pairwise_kl(compared, sou),
            "hf": losses.hf_pairwise_kl(compared, sou), "hfmse": losses.hf_mse(ada, x_0, None if published else alphas_cumprod[t])}


def total_loss(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """The weighted sum of the terms that have a weight: DomainStudio's objective. Scalar tensor."""
    return sum(weights[name] * value for name, value in terms.items() if name in weights)


def balanced_weights(norms: dict[str, float], share: float = 0.5) -> dict[str, float]:
    """Weights that make every term's gradient ``share`` times as long as that of ``simple``; 0 for a term without one."""
    return {name: 1.0 if name == "simple" else share * norms["simple"] / norm if norm > 0 else 0.0 for name, norm in norms.items()}


def explained(problem: str | None) -> str | None:
    """What went wrong, with what is usually meant by it."""
    for word, meaning in RAISED.items():
        if problem and word in problem:
            return f"{problem.splitlines()[0][:80]} ({meaning})"
    return problem


def check_total_loss(fn) -> bool:
    """Try the reader's weighted sum, value and gradient; print ✓ or a diagnosis. True if all is well."""
    values = {"simple": 0.02, "vlb": 3.0, "img": 0.3, "hf": 0.1, "hfmse": 0.04}
    weights = {"simple": 1.0, "img": 0.5, "hf": 0.75, "hfmse": 2.0}

    def total(weights: dict[str, float]) -> Tensor:
        return torch.tensor(sum(weights.get(name, 0.0) * value for name, value in values.items()))

    by_order = dict(zip(values, weights.values()))
    mistakes = {"the weights are not used": total(dict.fromkeys(weights, 1.0)),
                "neither the weights nor their names are used: every term counts once": total(dict.fromkeys(values, 1.0)),
                "a term without a weight is counted: leave it out": total(weights | {"vlb": 1.0}),
                "this is the mean of the weighted terms: the objective is their sum": total(weights) / len(weights),
                "the pairwise terms are subtracted: all terms are added, a small KL is what we want":
                    total(weights | {"img": -0.5, "hf": -0.75}),
                "simple is left out: its weight is 1": total(weights | {"simple": 0.0}),
                "terms and weights are matched by their order: match them by name": total(by_order)}
    terms = {name: torch.tensor(value, requires_grad=True) for name, value in values.items()}
    got, problem = attempt(fn, terms, dict(weights))
    problem = explained(problem)
    if problem is None and isinstance(got, (int, float)):
        problem = "it returns a Python number: no gradient can flow through it, add tensors"
    problem = problem or diagnose(got.detach() if isinstance(got, Tensor) else got, total(weights), mistakes)
    if problem is None and not got.requires_grad:
        problem = "the value is right but no gradient flows: do not detach the terms"
    if problem is None:
        found = torch.autograd.grad(got, [terms[name] for name in weights], allow_unused=True)
        cut = [name for (name, weight), g in zip(weights.items(), found) if g is None or abs(float(g) - weight) > 1e-4]
        problem = f"the value is right but the gradient of {', '.join(cut)} is not: no .item(), no torch.tensor" if cut else None
    return conclude("total_loss", problem)


def check_balanced_weights(fn) -> bool:
    """Try the reader's balance with two shares; print ✓ or a diagnosis. True if all is well."""
    norms, share = {"simple": 0.2, "img": 0.05, "hf": 0.8, "hfmse": 0.0}, 0.25
    got, problem = attempt(fn, dict(norms), share)
    problem = explained(problem)
    if problem is None and not isinstance(got, dict):
        problem = f"it returns a {type(got).__name__}, expected a dict of weights"
    if problem is None and set(got) != set(norms):
        problem = f"the names are {', '.join(map(str, got))}: expected {', '.join(norms)}"
    if problem is None:
        values, problem = attempt(lambda: torch.tensor([float(got[name]) for name in norms]))
        if problem is None and not 0 <= float(values[3]) < 1e-6:
            problem = f"hfmse has no gradient here (its norm is 0): its weight must be 0, not {float(values[3]):.3g}"
        mistakes = {"upside down: a term with a long gradient needs a small weight": torch.tensor([1.0, 0.0625, 1.0, 0.0]),
                    "upside down, and the share is not used": torch.tensor([1.0, 0.25, 4.0, 0.0]),
                    "the share is not used": torch.tensor([1.0, 4.0, 0.25, 0.0]),
                    "the share is fixed at a half: use the argument": torch.tensor([1.0, 2.0, 0.125, 0.0]),
                    "divided by the share: a smaller share must give a smaller weight": torch.tensor([1.0, 16.0, 1.0, 0.0]),
                    "measure by simple's gradient: share / norm alone makes every gradient as long as the share":
                        torch.tensor([1.0, 5.0, 0.3125, 0.0]),
                    "the weight of simple is 1: the others are measured by it": torch.tensor([0.25, 1.0, 0.0625, 0.0])}
        problem = problem or diagnose(values, torch.tensor([1.0, 1.0, 0.0625, 0.0]), mistakes)
    return conclude("balanced_weights", problem)


def objective_case() -> tuple:
    """(adapted, frozen, x_0, t, ε, ᾱ): two small networks and five images at five steps."""
    dice = torch.Generator().manual_seed(11)
    x_0, eps = torch.rand(5, 3, 8, 8, generator=dice) * 2 - 1, torch.randn(5, 3, 8, 8, generator=dice)
    schedule = ddpm.alphas_cumprod(ddpm.linear_betas())
    return SmallModel(1), SmallModel(2), x_0, torch.tensor([5, 150, 320, 500, 700]), eps, schedule


def wrong_terms(net, frozen, x_0: Tensor, t: Tensor, eps: Tensor, schedule: Tensor, published: bool) -> dict[str, dict[str, Tensor]]:
    """What typical mistakes give: {term: {words: value}}."""
    x_t = ddpm.q_sample(x_0, t, eps, schedule)
    answer, theirs, a = net(x_t, t).sample, frozen(x_t, t).sample, schedule[t]
    ada, sou = (ddpm.predict_x0(x_t, t, one, schedule) for one in (answer, theirs))
    kl, hf = losses.pairwise_kl, haar.high_frequency
    square = (hf(ada) - hf(x_0)).square().flatten(1).mean(1)
    swapped = "the arguments are swapped: KL(adapted‖source), the adapted model first"
    return {
        "simple": {"it is the error of the guess: L_simple compares the noise": (ada - x_0).square().mean(),
                   "it compares with the source's answer: the true noise is eps": (answer - theirs).square().mean()},
        "img": {swapped: kl(sou, ada), "the noise was compared: turn both answers into guesses of x_0 first": kl(answer, theirs),
                "it is divided by N: the paper sums": kl(ada, sou) / len(x_0),
                "the source was compared with the training images: with its own guesses": kl(ada, x_0),
                "these are the high frequencies: img compares the guesses themselves": kl(hf(ada), hf(sou))},
        "hf": {swapped: kl(hf(sou), hf(ada)), "the guesses themselves were compared: take their high frequencies first": kl(ada, sou),
               "LL was compared: hf is the sum of the other three bands": kl(haar.dwt2(ada)[0], haar.dwt2(sou)[0])},
        "hfmse": {"each image's square is to be weighted by ᾱ_t": square.mean(),
                  "published means: no weight over t": (a * square).mean(),
                  "the weight is √ᾱ_t: it is ᾱ_t": (a.sqrt() * square).mean(),
                  "it compares with the source: the detail to learn is x_0's": (hf(ada) - hf(sou)).square().mean()
                  if published else (a * (hf(ada) - hf(sou)).square().flatten(1).mean(1)).mean(),
                  "the pictures themselves were compared: take their high frequencies first": (ada - x_0).square().mean()
                  if published else (a * (ada - x_0).square().flatten(1).mean(1)).mean()},
    }


def diagnose_terms(got, want: dict[str, Tensor], mistakes: dict[str, dict[str, Tensor]]) -> str | None:
    """What is wrong with a dict of terms, the first of them by name; None if all are right."""
    if not isinstance(got, dict) or set(got) != set(want):
        told = ", ".join(map(str, got)) if isinstance(got, dict) else f"a {type(got).__name__}"
        return f"it returns {told}: expected a dict with {', '.join(want)}"
    for name, value in want.items():
        mine = got[name].detach() if isinstance(got[name], Tensor) else got[name]
        if problem := diagnose(mine, value.detach(), {words: one.detach() for words, one in mistakes[name].items()}):
            return f"{name}: {problem}"
    return None


def diagnose_pull(got: dict[str, Tensor], want: dict[str, Tensor], net, frozen, unweighted: dict[str, Tensor]) -> str | None:
    """Does every term teach the adapted network as it should, and none the source?"""
    for name in want:
        if not got[name].requires_grad:
            return f"{name}: the value is right but no gradient reaches the network: is it inside no_grad, or detached?"
        mine, theirs, plain = (torch.autograd.grad(terms[name], net.weight, retain_graph=True)[0] for terms in (got, want, unweighted))
        if not torch.allclose(mine, theirs, rtol=1e-3, atol=1e-6):
            return f"{name}: the value is right, but its gradient is " + (
                "not softened: multiply it by √ᾱ_t, x.detach() + √ᾱ_t·(x − x.detach())" if torch.allclose(mine, plain, rtol=1e-3, atol=1e-6)
                else "not: what goes back through each guess is to be multiplied by √ᾱ_t, one factor an image")
        source, = torch.autograd.grad(got[name], frozen.weight, retain_graph=True, allow_unused=True)
        if source is not None and float(source.abs().max()) > 0:
            return f"{name}: a gradient reaches the frozen source: ask it inside torch.no_grad()"
    return None


def check_terms_of(fn) -> bool:
    """Try the reader's terms, both forms, values and gradients; print ✓ or a diagnosis. True if all is well."""
    case = objective_case()
    for published in (False, True):
        want, plain = terms_of(*case, published), terms_of(*case, True)
        got, problem = attempt(fn, *case, published)
        if problem and "SimpleNamespace" in problem:
            problem += ": the model returns an object, its tensor is .sample"
        problem = problem or diagnose_terms(got, want, wrong_terms(*case, published))
        problem = problem or diagnose_pull(got, want, case[0], case[1], plain)
        if problem:
            return conclude("terms_of", f"right as the course weighs it, but not with published=True: {problem}" if published else problem)
    return conclude("terms_of", None)
