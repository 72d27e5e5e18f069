"""Self-checks of chapter 06: the weighted sum and weights that balance gradients."""

import torch
from torch import Tensor

from .common import attempt, conclude, diagnose


def total_loss(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """The weighted sum of the terms that have a weight: DomainStudio's objective. Scalar tensor."""
    return sum(weights[name] * value for name, value in terms.items() if name in weights)


def balanced_weights(norms: dict[str, float], share: float = 0.5) -> dict[str, float]:
    """Weights that make every term's gradient ``share`` times as long as that of ``simple``; 0 for a term without one."""
    return {name: 1.0 if name == "simple" else share * norms["simple"] / norm if norm > 0 else 0.0 for name, norm in norms.items()}


def check_total_loss(fn) -> bool:
    """Try the reader's weighted sum, value and gradient; print ✓ or a diagnosis. True if all is well."""
    terms = {name: torch.tensor(value, requires_grad=True) for name, value in
             {"simple": 0.02, "vlb": 3.0, "img": 0.3, "hf": 0.1, "hfmse": 0.04}.items()}
    weights = {"simple": 1.0, "img": 0.5, "hf": 0.5, "hfmse": 2.0}
    chosen = torch.stack([terms[name].detach() for name in weights])
    mistakes = {"the weights are not used": chosen.sum(), "a term without a weight is counted: leave it out": total_loss(
                    {k: v.detach() for k, v in terms.items()}, weights | {"vlb": 1.0}),
                "this is the mean of the weighted terms: the objective is their sum": total_loss(terms, weights).detach() / 4}
    got, problem = attempt(fn, terms, dict(weights))
    if problem is None and isinstance(got, (int, float)):
        problem = "it returns a Python number: no gradient can flow through it, add tensors"
    problem = problem or diagnose(got.detach() if isinstance(got, Tensor) else got, total_loss(terms, weights).detach(), mistakes)
    if problem is None and not got.requires_grad:
        problem = "the value is right but no gradient flows: do not detach the terms"
    return conclude("total_loss", problem)


def check_balanced_weights(fn) -> bool:
    """Try the reader's balance; print ✓ or a diagnosis. True if all is well."""
    norms = {"simple": 0.2, "img": 0.05, "hf": 0.8, "hfmse": 0.0}
    got, problem = attempt(fn, dict(norms), 0.5)
    if problem is None and not isinstance(got, dict):
        problem = f"it returns a {type(got).__name__}, expected a dict of weights"
    if problem is None and set(got) != set(norms):
        problem = f"the names are {', '.join(map(str, got))}: expected {', '.join(norms)}"
    if problem is None:
        want = torch.tensor([1.0, 2.0, 0.125, 0.0])
        mistakes = {"upside down: a term with a long gradient needs a small weight": torch.tensor([1.0, 0.125, 2.0, 0.0]),
                    "the share is not used": torch.tensor([1.0, 4.0, 0.25, 0.0]),
                    "the weight of simple is 1: the others are measured by it": torch.tensor([0.5, 2.0, 0.125, 0.0])}
        values, problem = attempt(lambda: torch.tensor([float(got[name]) for name in norms]))
        problem = problem or diagnose(values, want, mistakes)
    return conclude("balanced_weights", problem)
