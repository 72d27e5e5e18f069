"""Two painters with a known answer: filters that turn any face into *its* picture in another hand.

A twin keeps the person and changes colour and texture, so for every source sample the true picture
in the new domain can be drawn and compared with what an adapted model made of the same noise
(chapter 07). Both filters are deterministic and work at the resolution they get, with lengths in
64ths of the picture; what is smaller than 64 pixels is enlarged for them and averaged back.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UserError

VERSION = 1         # part of the name of cached drawings: raise it with every change of a filter
LEAST = 64          # pixels: below that a hatching of 5 pixels would alias

PAPER, INK = (0.97, 0.93, 0.83), (0.15, 0.11, 0.22)
PERIOD = 5.0        # of the hatchings, in 64ths of the picture
WASH = 0.35         # of the original colours
LIFT = 2.0          # tones are lifted, or dark faces would drown in ink


def engraved(images: Tensor) -> Tensor:
    """A hand-coloured engraving of every picture: hatched tones and ink lines over a pale wash.

    images: (N,3,R,R) in [-1,1] → (N,3,R,R) in [-1,1]. More fine detail than a source face has: the
    case that the wavelet terms L_hf and L_hfmse (DomainStudio) are for. Raises UserError for
    another shape.
    """
    return worked_large(images, _engraved)


def gouache(images: Tensor) -> Tensor:
    """A gouache of every picture: wet edges that wander, few tones, dusk's colours, broad strokes.

    images: (N,3,R,R) in [-1,1] → (N,3,R,R) in [-1,1]. Less fine detail than a source face has.
    Raises UserError for another shape.
    """
    return worked_large(images, _gouache)


FILTERS = {"engraved": engraved, "gouache": gouache}


def worked_large(images: Tensor, work) -> Tensor:
    """``work``, which wants pictures in [0,1] of at least 64 pixels, on images (N,3,R,R) in [-1,1].

    Raises UserError for another shape.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise UserError(f"a twin is drawn of square colour pictures (N,3,R,R), not of "
                        f"{tuple(images.shape)}: crop them first")
    rgb, size = (images.float().clamp(-1, 1) + 1) / 2, images.shape[-1]
    if size < LEAST:
        rgb = F.interpolate(rgb, size=(LEAST, LEAST), mode="bilinear", align_corners=False)
    done = work(rgb)
    if size < LEAST:
        done = F.interpolate(done, size=(size, size), mode="area")
    return (done * 2 - 1).clamp(-1, 1)


def colour(rgb: tuple[float, float, float], like: Tensor) -> Tensor:
    """A colour (3,) in [0,1] as (1,3,1,1), to broadcast over pictures."""
    return torch.tensor(rgb, dtype=like.dtype, device=like.device).view(1, 3, 1, 1)


def luminance(rgb: Tensor) -> Tensor:
    """Rec. 601 luminance of pictures (N,3,R,R) in [0,1]: (N,1,R,R) in [0,1]."""
    return (rgb * colour((0.299, 0.587, 0.114), rgb)).sum(1, keepdim=True)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (N,C,R,R) by sigma 64ths of the picture, edges repeated."""
    pixels = sigma * x.shape[-1] / 64
    reach = max(1, math.ceil(2.5 * pixels))
    along = torch.arange(-reach, reach + 1, dtype=x.dtype, device=x.device)
    kernel = (-along.square() / (2 * pixels**2)).exp()
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = F.pad(x, [reach] * 4, mode="replicate")
    x = F.conv2d(x, kernel[:, :, None], groups=x.shape[1])
    return F.conv2d(x, kernel[..., None], groups=x.shape[1])


def places(like: Tensor) -> tuple[Tensor, Tensor]:
    """x and y of every pixel in 64ths of the picture, each (R,R)."""
    along = torch.arange(like.shape[-1], dtype=like.dtype, device=like.device)
    along = (along + 0.5) * (64 / like.shape[-1]) - 0.5
    y, x = torch.meshgrid(along, along, indexing="ij")
    return x, y


def slope(x: Tensor) -> Tensor:
    """Length of the gradient of (N,1,R,R), per 64th of the picture, by central differences."""
    padded = F.pad(x, [1] * 4, mode="replicate")
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return (across.square() + down.square()).sqrt() * (x.shape[-1] / 64)


def _engraved(rgb: Tensor) -> Tensor:
    """:func:`engraved` on (N,3,R,R) in [0,1]."""
    light = luminance(rgb)
    dark = (1 - light).pow(LIFT)
    x, y = places(rgb)
    one, other = (0.5 + 0.5 * torch.sin(2 * math.pi * (x + sign * y) / PERIOD) for sign in (1, -1))
    hatched = torch.sigmoid(9 * (1.15 * dark - 0.25 - 0.55 * one))
    crossed = torch.sigmoid(9 * (1.15 * dark - 0.6 - 0.45 * other))
    line = torch.sigmoid(45 * (slope(blur(light, 0.6)) - 0.09))
    ink = 1 - (1 - hatched) * (1 - crossed) * (1 - line)
    base = (1 - WASH) * colour(PAPER, rgb) + WASH * rgb
    return base * (1 - ink) + colour(INK, rgb) * ink


TONES = 5
DUSK, DAWN = (0.17, 0.15, 0.30), (1.0, 0.91, 0.76)


def _gouache(rgb: Tensor) -> Tensor:
    """:func:`gouache` on (N,3,R,R) in [0,1]."""
    flat = _flatten(_wander(rgb))
    light = luminance(flat)
    level = light * TONES
    tone = (level.floor() + torch.sigmoid(14 * (level - level.floor() - 0.5))) / TONES
    red, green, blue = (flat - light).split(1, dim=1)
    warm, lush = (red - blue) / 2, 0.3 * (green - (red + blue) / 2)
    chroma = torch.cat([warm - lush / 3, 2 * lush / 3, -warm - lush / 3], dim=1)
    x, y = places(rgb)
    across = 0.5 * x + y + 2.5 * torch.sin(x / 9) + 2 * torch.sin(y / 7)
    bands = torch.sin(2 * math.pi * across / 12)
    dusk = colour(DUSK, rgb) + (tone + 0.02 * bands) * (colour(DAWN, rgb) - colour(DUSK, rgb))
    return (dusk + 0.8 * chroma).clamp(0, 1)


def _wander(rgb: Tensor) -> Tensor:
    """The picture with its edges moved by up to 0.7 64ths, as a loaded brush misses a line."""
    x, y = places(rgb)
    right = 0.7 * torch.sin(2 * math.pi * y / 13 + 0.7)
    down = 0.7 * torch.sin(2 * math.pi * x / 15 + 2.1)
    grid = torch.stack([x + right + 0.5, y + down + 0.5], dim=-1) / 32 - 1
    return F.grid_sample(rgb, grid.expand(len(rgb), -1, -1, -1), padding_mode="border",
                         align_corners=False)


def _flatten(rgb: Tensor, sharp: float = 300.0) -> Tensor:
    """Every pixel takes the mean of the calmest of eight discs around it: flat patches, kept edges.

    A soft Kuwahara filter (Kuwahara et al. 1976), weighted about as in Papari et al. 2007.
    """
    means, weights = [], []
    mean = blur(rgb, 0.7)
    spread = (blur(rgb.square(), 0.7) - mean.square()).sum(1, keepdim=True).clamp(min=0)
    size = rgb.shape[-1]
    reach = math.ceil(size / 64)
    mean, spread = (F.pad(part, [reach] * 4, mode="replicate") for part in (mean, spread))
    for k in range(8):
        angle = k * math.pi / 4
        down, right = (reach + round(size / 64 * turn(angle)) for turn in (math.sin, math.cos))
        cut = (..., slice(down, down + size), slice(right, right + size))
        means.append(mean[cut])
        weights.append((1 + sharp * spread[cut]).pow(-4))
    weight = torch.stack(weights)
    return (torch.stack(means) * weight).sum(0) / weight.sum(0)
