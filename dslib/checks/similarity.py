"""Self-checks of chapter 04: similarities as distributions, their divergence, the authors' weight in the paper's units."""

import torch
from torch import Tensor

from .. import losses
from .common import attempt, conclude, diagnose, diagnose_gradient


def authors_weight(weight: float, n: int = 3) -> float:
    """The λ of the paper that pulls as hard as the authors' weight: theirs multiplies the *mean* over n·(n−1) entries."""
    return weight / (n * (n - 1))


def check_pairwise_log_probs(fn) -> bool:
    """Try the reader's ``pairwise_log_probs``; print ✓ or a diagnosis. True if all is well."""
    x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(2)) * torch.tensor([1., 2., 3., .5, 1.]).view(-1, 1, 1, 1)
    similar, want = losses.cosine_matrix(x), losses.pairwise_log_probs(x)
    raw = x.flatten(1) @ x.flatten(1).T
    kept = torch.log_softmax(similar, dim=1)
    mistakes = {
        "the softmax runs over the wrong axis: every row i must sum to one, dim=1":
            torch.log_softmax(losses.drop_diagonal(similar), dim=0),
        "these are dot products: divide by the lengths first, so that brightness does not count":
            torch.log_softmax(losses.drop_diagonal(raw), dim=1),
        "these are probabilities: return their logarithms": want.exp(),
        "the diagonal took part in the softmax before you dropped it": losses.drop_diagonal(kept),
        "these are cosine similarities: the softmax is missing": losses.drop_diagonal(similar),
    }
    got, problem = attempt(fn, x.clone())
    if problem is None and isinstance(got, Tensor) and tuple(got.shape) == (5, 5):
        problem = "the diagonal is kept: an image's similarity to itself is always one, leave it out, (N,N) → (N,N−1)"
    return conclude("pairwise_log_probs", problem or diagnose(got, want, mistakes))


def check_pairwise_kl(fn) -> bool:
    """Try the reader's ``pairwise_kl``, value and gradients; print ✓ or a diagnosis. True if all is well."""
    generator = torch.Generator().manual_seed(3)
    adapted, source = (torch.randn(4, 3, 4, 4, generator=generator, requires_grad=True) for _ in range(2))
    want = losses.pairwise_kl(adapted, source).detach()
    mistakes = {
        "the arguments are swapped: this is KL(source‖adapted), the authors' direction; the paper's is KL(adapted‖source)":
            losses.pairwise_kl(adapted, source, direction="sou||ada").detach(),
        "this is the mean over all entries (the default of F.kl_div): the paper sums":
            losses.pairwise_kl(adapted, source, reduction="mean").detach(),
        "this is 'batchmean', the sum divided by N: the paper sums over the batch": want / 4,
        "this is the authors' loss, direction and mean both: the paper's is KL(adapted‖source), summed":
            losses.pairwise_kl(adapted, source, "sou||ada", "mean").detach(),
        "the sign is wrong: a KL divergence is never negative": -want,
    }
    got, problem = attempt(fn, adapted, source)
    problem = problem or diagnose(got.detach() if isinstance(got, Tensor) else got, want, mistakes)
    wanted, = torch.autograd.grad(losses.pairwise_kl(adapted, source), adapted)
    return conclude("pairwise_kl", problem or diagnose_gradient(got, adapted, source, wanted))


def check_authors_weight(fn) -> bool:
    """Try the reader's conversion of the authors' weight to the paper's λ, for 3 and for 5 images; print ✓ or a diagnosis."""
    got, problem = attempt(lambda: (fn(4.0, 3), fn(4.0, 5)))
    if problem is None and None in got:
        problem = "it returns None: nothing written yet?"
    if problem is None and all(isinstance(value, (int, float, Tensor)) for value in got):
        wrong = {"multiplied where it must be divided": lambda n: 4 * n * (n - 1),
                 "divided by n² instead of n·(n−1): the diagonal is left out": lambda n: 4 / n**2,
                 "divided by the number of pairs, n·(n−1)/2: each pair has two entries": lambda n: 8 / (n * (n - 1)),
                 "divided by n alone: there are n·(n−1) entries": lambda n: 4 / n,
                 "divided by n−1 alone: there are n·(n−1) entries": lambda n: 4 / (n - 1),
                 "right for three images alone: use the argument n": lambda n: 4 / 6}
        got = torch.tensor([float(value) for value in got])
        mistakes = {words: torch.tensor([float(formula(n)) for n in (3, 5)]) for words, formula in wrong.items()}
        problem = diagnose(got, torch.tensor([authors_weight(4.0, 3), authors_weight(4.0, 5)]), mistakes)
    elif problem is None:
        problem = f"it returns a {type(got[0]).__name__}, expected a number"
    return conclude("authors_weight", problem)
