"""One level of the Haar wavelet transform: four half-size pictures, no convolution needed (chapter
05)."""

import torch.nn.functional as F
from torch import Tensor

from .base.errors import UserError


def check_even(x: Tensor) -> None:
    """Raise UserError if an image (…,H,W) cannot be cut into 2×2 blocks."""
    if x.shape[-2] % 2 or x.shape[-1] % 2:
        raise UserError(f"the Haar transform needs even height and width, not "
                        f"{x.shape[-2]}×{x.shape[-1]}: crop or resize")


def dwt2(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Split images (…,H,W) into bands (ll, lh, hl, hh), each (…,H/2,W/2), with L=(1,1)/√2 and
    H=(−1,1)/√2.

    First letter: filter along the height, second: along the width. So lh answers to vertical edges,
    hl to horizontal ones, hh to diagonals. Orthonormal: the bands' energies add up to the image's.
    PyWavelets' names and signs: ll = cA, hl = −cH, lh = −cV, hh = cD. Values of x in [-1,1] give
    bands in [-2,2]. Raises UserError if H or W is odd.
    """
    check_even(x)
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]     # each 2×2 block is  a b
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]     #                    c d
    return (a + b + c + d) / 2, (-a + b - c + d) / 2, (-a - b + c + d) / 2, (a - b - c + d) / 2


def idwt2(ll: Tensor, lh: Tensor, hl: Tensor, hh: Tensor) -> Tensor:
    """Put the four bands (…,H/2,W/2) together again: the exact inverse of :func:`dwt2`, (…,H,W)."""
    x = ll.new_empty(*ll.shape[:-2], 2 * ll.shape[-2], 2 * ll.shape[-1])
    x[..., 0::2, 0::2] = (ll - lh - hl + hh) / 2
    x[..., 0::2, 1::2] = (ll + lh - hl - hh) / 2
    x[..., 1::2, 0::2] = (ll - lh + hl - hh) / 2
    x[..., 1::2, 1::2] = (ll + lh + hl + hh) / 2
    return x


def high_frequency(x: Tensor) -> Tensor:
    """hf(x) = LH + HL + HH (DomainStudio §1), (…,H,W) → (…,H/2,W/2).

    The sum equals 2d − LL: twice what one pixel of every 2×2 block differs from the block's mean
    (ledger row 5, chapter 05). So it is computed, without bands that are built only to be added up.
    Raises UserError if H or W is odd.
    """
    check_even(x)
    mean = F.avg_pool2d(x.reshape(-1, 1, *x.shape[-2:]), 2)                          # LL / 2
    return 2 * (x[..., 1::2, 1::2] - mean.view(*x.shape[:-2], x.shape[-2] // 2, x.shape[-1] // 2))
