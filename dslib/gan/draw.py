"""Latents and the images drawn from them: the same latent through two generators shows what adaptation changed."""

import torch
from torch import Tensor

from ..base.errors import UserError
from ..base.finite import check_drawn
from .losses import diversity
from .networks import Generator

COLLAPSED = 0.2     # of the diversity that is asked for: below, all images are variations of one


#: what latents are for: no anchor of a training, and none of its steps, is a picture of the report
DRAWN = 1
ANCHORS = 2
FISHER = 3


def latents(n: int, size: int, seed: int = 0, use: int = DRAWN) -> Tensor:
    """z ~ N(0,1), (n,size), drawn on the CPU and row by row: n=8 gives the first 8 of n=64, whatever the machine."""
    if n < 1:
        raise UserError(f"latents for {n} images: ask for at least 1")
    first = (use * 10**9 + seed) * 1_000_003                # seeds are below 10⁹; those of training steps have use 0
    return torch.stack([torch.randn(size, generator=torch.Generator().manual_seed(first + i)) for i in range(n)])


@torch.no_grad()
def draw(generator: Generator, z: Tensor, batch_size: int = 64) -> Tensor:
    """Images (N,3,R,R) in [-1,1], on the CPU, from latents (N,latent). Raises UserError where they are NaN."""
    device = next(generator.parameters()).device
    images = torch.cat([generator(part.to(device)).clamp(-1, 1).cpu().contiguous() for part in z.split(batch_size)])
    return check_drawn(images, "the GAN")


def collapse(images: Tensor, others: Tensor, whose: str = "the source") -> str | None:
    """In words that a generator has collapsed, None where it has not: less than ``COLLAPSED`` of the :func:`diversity` of others.

    images, others: (N,3,R,R) and (M,3,R,R), what was drawn and what it is compared with: the source's images, or real ones.
    """
    ours, theirs = float(diversity(images)), float(diversity(others))
    if ours >= COLLAPSED * theirs and ours > 0:
        return None
    return f"its images are nearly one and the same (diversity {ours:.3f}, of {whose} {theirs:.3f})"
