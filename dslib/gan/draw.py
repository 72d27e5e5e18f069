"""Latents and the images drawn from them: the same latent through two generators shows what adaptation changed."""

import torch
from torch import Tensor

from ..base.errors import UserError
from .losses import diversity
from .networks import Generator

COLLAPSED = 0.2     # of the source's diversity: below, all images are variations of one


def latents(n: int, size: int, seed: int = 0) -> Tensor:
    """z ~ N(0,1), (n,size), drawn on the CPU and row by row: n=8 gives the first 8 of n=64, whatever the machine."""
    if n < 1:
        raise UserError(f"latents for {n} images: ask for at least 1")
    return torch.stack([torch.randn(size, generator=torch.Generator().manual_seed(seed * 1_000_003 + i)) for i in range(n)])


@torch.no_grad()
def draw(generator: Generator, z: Tensor, batch_size: int = 64) -> Tensor:
    """Images (N,3,R,R) in [-1,1], on the CPU, from latents (N,latent)."""
    device = next(generator.parameters()).device
    return torch.cat([generator(part.to(device)).clamp(-1, 1).cpu().contiguous() for part in z.split(batch_size)])


def collapse(images: Tensor, of_source: Tensor) -> str | None:
    """In words that a generator has collapsed, None where it has not: less than ``COLLAPSED`` of its source's :func:`diversity`.

    images, of_source: (N,3,R,R) of the same latents. NaN counts as collapsed.
    """
    ours, theirs = float(diversity(images)), float(diversity(of_source))
    if ours >= COLLAPSED * theirs and ours > 0:
        return None
    return f"its images are nearly one and the same (diversity {ours:.3f}, of the source {theirs:.3f})"
