"""Self-checks of chapter 06: the weighted sum and weights that balance gradients."""

import torch
from torch import Tensor

from .common import attempt, conclude, diagnose

RAISED = {"KeyError": "not every term has a weight: leave out those without",
          "leaf Variable": "`total += …` changes a term itself: write `total = total + …`",
          "ZeroDivisionError": "a term without gradient has a norm of 0: give it the weight 0 instead of dividing"}


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
