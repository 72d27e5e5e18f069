"""Self-checks of chapter 11: the losses of a GAN's two players, and CDC's consistency."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses as paper
from ..gan import cdc
from ..gan.networks import Generator
from .common import attempt, conclude, diagnose


def players_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """(discriminator's loss, generator's loss) from scores (N,) of real and of drawn images."""
    return F.softplus(-real).mean() + F.softplus(fake).mean(), F.softplus(-fake).mean()


def check_players_losses(fn) -> bool:
    """Try the reader's ``players_losses``; print ✓ or a diagnosis. True if all is well."""
    real, fake = torch.tensor([2.0, -1.0, 4.0]), torch.tensor([0.5, -3.0, -6.0])
    judge, forger = players_losses(real, fake)
    got, problem = as_pair(*attempt(fn, real.clone(), fake.clone()))
    mistakes = {
        "the pair is the wrong way round: the discriminator's loss comes first": torch.stack([forger, judge]),
        "these are sums: take means over the batch": torch.stack([3 * judge, 3 * forger]),
        "the generator's loss is log(1 − σ(D(G(z)))), which hardly falls while D is sure (it saturates): use −log σ(D(G(z)))":
            torch.stack([judge, -F.softplus(fake).mean()]),
        "the discriminator's halves are swapped: real images want a high score, drawn ones a low one":
            torch.stack([F.softplus(real).mean() + F.softplus(-fake).mean(), forger]),
        "the discriminator's loss has only the real images": torch.stack([F.softplus(-real).mean(), forger]),
        "the discriminator's loss has only the drawn images": torch.stack([F.softplus(fake).mean(), forger]),
    }
    problem = problem or diagnose(got, torch.stack([judge, forger]), mistakes)
    if problem is None:
        sure, problem = as_pair(*attempt(fn, torch.tensor([-200.0]), torch.tensor([-200.0])))
        if problem is None and not torch.isfinite(sure).all():
            problem = "right, but a score of −200 gives infinity: softplus(−s) is −log σ(s) and never overflows"
    return conclude("players_losses", problem)


def as_pair(got, problem: str | None) -> tuple[Tensor | None, str | None]:
    """An answer of two scalars as one tensor (2,), or what is wrong with it."""
    scalars = isinstance(got, tuple) and len(got) == 2 and all(isinstance(one, Tensor) and one.dim() == 0 for one in got)
    if problem is None and not scalars:
        problem = "return a pair of two scalars: the discriminator's loss, the generator's loss"
    return (None, problem) if problem else (torch.stack(got), None)


def cdc_loss(adapted: Generator, source: Generator, z: Tensor, layer: int) -> Tensor:
    """CDC's consistency of one layer's maps: two generators draw the same latents z (N,latent) → scalar ≥ 0."""
    with torch.no_grad():
        theirs = source.trace(z).layers[layer]
    return paper.pairwise_kl(adapted.trace(z).layers[layer], theirs) / (len(z) * (len(z) - 1))


def check_cdc_loss(fn) -> bool:
    """Try the reader's ``cdc_loss`` on two small generators, value and gradient; print ✓ or a diagnosis. True if all is well."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        source, adapted = Generator(8, (8, 8, 8)), Generator(8, (8, 8, 8))
    z = torch.randn(5, 8, generator=torch.Generator().manual_seed(5))
    want = {layer: cdc.consistency(adapted.trace(z).layers[layer], source.trace(z).layers[layer].detach()).detach() for layer in (0, 1)}
    back = {layer: cdc.consistency(source.trace(z).layers[layer], adapted.trace(z).layers[layer]).detach() for layer in (0, 1)}
    pictures = cdc.consistency(adapted.trace(z).image, source.trace(z).image).detach()
    answers, problem = [], None
    for layer in (0, 1):
        got, problem = (None, problem) if problem else attempt(fn, adapted, source, z, layer)
        if problem is None and not isinstance(got, Tensor):
            problem = f"it returns a {type(got).__name__}, expected a scalar tensor"
        elif problem is None and got.dim():
            problem = f"the shape is {tuple(got.shape)}, expected a scalar"
        answers.append(got)
    if problem and "'list'" in problem:
        problem += "; trace(z)[…] is no layer: take trace(z).layers[layer]"
    right = torch.stack([want[0], want[1]])
    mistakes = {
        "this is the sum: divide by the N·(N−1) entries": right * len(z) * (len(z) - 1),
        "this is divided by N alone": right * (len(z) - 1),
        "the two are swapped: the KL runs from the adapted to the source": torch.stack([back[0], back[1]]),
        "these are the pictures, not the maps: trace(z).layers[layer]": torch.stack([pictures, pictures]),
        "the layer is not used: another layer gives another number": torch.stack([want[0], want[0]]),
    }
    problem = problem or diagnose(torch.stack(answers).detach(), right, mistakes)
    if problem is None:
        if answers[1].requires_grad:
            answers[1].backward()
        if any(p.grad is not None for p in source.parameters()):
            problem = "the source got a gradient: draw its maps under torch.no_grad()"
        elif all(p.grad is None for p in adapted.parameters()):
            problem = "the value is right but no gradient reaches the adapted generator"
    return conclude("cdc_loss", problem)
