"""Detail by its size: levels of the Haar transform, and the step t at which each drowns in noise (an extension; chapter 13).

Level 1 of a picture is what the paper's L_hf and L_hfmse look at: strokes of one or two pixels. Level 2 is level 1 of the picture at half
the size. All levels are orthonormal, so noise of variance 1 has variance 1 at every level, while a drawing has more at a deeper one.
"""

import torch
from torch import Tensor

from .. import haar
from ..base.errors import UserError


def coarser(x: Tensor, level: int = 1) -> Tensor:
    """The low band LL after level − 1 transforms, (…,H,W) → (…,H/2^(level−1),W/2^(level−1)): level 1 is x itself.

    Values grow twofold a level. Raises UserError for a level below 1, or where a side cannot be halved so often.
    """
    if level < 1:
        raise UserError(f"level is {level}: the first is 1, the detail of single pixels")
    for _ in range(level - 1):
        x = haar.dwt2(x)[0]
    haar.check_even(x)
    return x


def detail(x: Tensor, level: int = 1) -> Tensor:
    """hf(x) = LH + HL + HH (DomainStudio §1) of a level, (N,C,H,W) → (N,C,H/2^level,W/2^level)."""
    return haar.high_frequency(coarser(x, level))


def energy(x: Tensor, level: int = 1) -> Tensor:
    """Mean square of a level's coefficients in the bands LH, HL and HH: images (N,C,H,W) → (N,), ≥ 0."""
    return sum(band.square().flatten(1).mean(1) for band in haar.dwt2(coarser(x, level))[1:]) / 3


def shares(x: Tensor, levels: int = 3) -> Tensor:
    """Where the energy of images (N,C,H,W) about their mean colour is: (N, levels+1), each row adds up to 1.

    Columns: the detail bands of level 1, 2 … ``levels``, and last what is coarser. A picture of a single colour has no energy: NaN.
    """
    x = x - x.mean(dim=(2, 3), keepdim=True)
    whole = x.square().flatten(1).sum(1)
    parts = [sum(band.square().flatten(1).sum(1) for band in haar.dwt2(coarser(x, level))[1:]) for level in range(1, levels + 1)]
    return torch.stack([*parts, whole - sum(parts)], dim=1) / whole[:, None]


def survives(energy: Tensor, a_bar: Tensor) -> Tensor:
    """Correlation of noised detail with the clean: √(ᾱ_t·e / (ᾱ_t·e + 1 − ᾱ_t)), energies e (N,) and ᾱ (T,) → (N,T), in [0,1].

    From eq. 4 of DDPM: a coefficient of x_t is √ᾱ_t times the clean one plus noise of variance 1 − ᾱ_t.
    """
    kept = a_bar * energy[:, None]
    return (kept / (kept + 1 - a_bar)).sqrt()


def drowned_at(energy: Tensor, a_bar: Tensor) -> Tensor:
    """The first step t at which the noise is stronger than the detail, ᾱ_t·e < 1 − ᾱ_t: energies e (N,), ᾱ (T,) → (N,), T if never."""
    over = a_bar * energy[:, None] < 1 - a_bar
    return (~over).sum(1)

