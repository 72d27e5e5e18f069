"""DRAFT of dslib/checks/adversarial.py, for chapter 11: the two players' losses, and CDC's.

To be moved together with the chapter: ``exercises.SOLUTIONS`` gets "players_losses" and "cdc_loss", ``CHAPTERS`` gets "11",
``typical.TYPICAL`` gets the two slips at the end, ``checks/__init__.py`` the names.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import losses as paper
from ..gan import cdc, losses
from ..gan.networks import Generator
from .common import attempt, conclude, diagnose


def players_losses(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """(discriminator's loss, generator's loss) from scores (N,) of real and of drawn images."""
    return F.softplus(-real).mean() + F.softplus(fake).mean(), F.softplus(-fake).mean()


def check_players_losses(fn) -> bool:
    """Try the reader's ``players_losses``; print ✓ or a diagnosis. True if all is well."""
    real, fake = torch.tensor([2.0, -1.0, 40.0]), torch.tensor([0.5, -3.0, -60.0])
    want = torch.stack([losses.discriminator_loss(real, fake), losses.generator_loss(fake)])
    judge, forger = want
    got, problem = attempt(fn, real, fake)
    if problem is None and isinstance(got, tuple) and len(got) == 2 and all(isinstance(one, Tensor) for one in got):
        got = torch.stack([one.reshape(-1).mean() if one.numel() == 1 else one.sum() * float("nan") for one in got])
    mistakes = {
        "the pair is the wrong way round: the discriminator's loss comes first": torch.stack([forger, judge]),
        "these are sums: take means over the batch": 3 * want,
        "the generator's loss is log(1 − D(G(z))), which hardly falls while D is sure (it saturates): use −log D(G(z))":
            torch.stack([judge, -F.softplus(fake).mean()]),
        "the discriminator's halves are swapped: real images want a high score, drawn ones a low one":
            torch.stack([F.softplus(real).mean() + F.softplus(-fake).mean(), forger]),
        "the discriminator's loss has only the real images": torch.stack([F.softplus(-real).mean(), forger]),
    }
    return conclude("players_losses", problem or diagnose(got, want, mistakes))


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
        z = torch.randn(5, 8)
    want = {layer: cdc.consistency(adapted.trace(z).layers[layer], source.trace(z).layers[layer].detach()).detach() for layer in (0, 1)}
    back = {layer: cdc.consistency(source.trace(z).layers[layer], adapted.trace(z).layers[layer]).detach() for layer in (0, 1)}
    pictures = cdc.consistency(adapted.trace(z).image, source.trace(z).image).detach()
    got, problem = attempt(lambda: torch.stack([fn(adapted, source, z, layer) for layer in (0, 1)]))
    right = torch.stack([want[0], want[1]])
    mistakes = {
        "this is the sum: divide by the N·(N−1) entries": right * len(z) * (len(z) - 1),
        "this is divided by N alone": right * (len(z) - 1),
        "the two are swapped: the KL runs from the adapted to the source": torch.stack([back[0], back[1]]),
        "these are the pictures, not the maps: trace(z).layers[layer]": torch.stack([pictures, pictures]),
        "the layer is not used: another layer gives another number": torch.stack([want[0], want[0]]),
    }
    problem = problem or diagnose(got.detach() if isinstance(got, Tensor) else got, right, mistakes)
    if problem is None:
        source.requires_grad_(True)
        fn(adapted, source, z, 1).backward()
        if any(p.grad is not None for p in source.parameters()):
            problem = "the source got a gradient: draw its maps under torch.no_grad()"
    return conclude("cdc_loss", problem)


TYPICAL = {"players_losses": lambda real, fake: (F.softplus(-real).mean(), F.softplus(-fake).mean()),
           "cdc_loss": lambda adapted, source, z, layer: cdc.consistency(adapted.trace(z).image, source.trace(z).image)}
