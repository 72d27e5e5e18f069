"""Images in, tensors in [-1,1] out: the drawn domains and anybody's own folder (chapter 00)."""

import difflib
from typing import NamedTuple

import torch
from torch import Tensor

from .base import avatars, twins
from .base.drawing import draw_domain, read_ten
from .base.errors import UserError
from .base.files import data_dir
from .base.images import ImageFolder
from .base.pixels import in_channels, to_float, to_uint8, write_images

__all__ = ["Domain", "ImageFolder", "check_domain", "draw_domain", "in_channels", "load_domain",
           "read_ten", "to_float", "to_uint8", "twin", "write_images"]

SOURCE = "avataaars"
TARGETS = tuple(name for name in avatars.DOMAINS if name != SOURCE)
TWINS = avatars.TWINS   # domains with a known answer: see :func:`twin`
SHOTS = 10          # committed training images a target domain


class Domain(NamedTuple):
    """Images of one domain and what is in them."""
    images: Tensor               # (n, 3, R, R) float32 in [-1, 1]
    labels: list[dict[str, str]]  # one dict of factors (hair, skin, mouth, …) an image
    name: str
    split: str


def check_domain(name: str) -> str:
    """The name itself, or a :class:`UserError` that suggests the nearest known one."""
    if name in avatars.DRAWN:
        return name
    near = difflib.get_close_matches(name, (*avatars.DOMAINS, *TWINS), n=1, cutoff=0.55)
    hint = f"did you mean {near[0]!r}? " if near else ""
    known = ", ".join(TARGETS + TWINS)
    raise UserError(f"unknown domain {name!r}: {hint}known are {known}; the source is {SOURCE}")


def load_domain(name: str, split: str, n: int | None = None, resolution: int = 64,
                workers: int = 1) -> Domain:
    """The first n images of a drawn domain with their factor labels.

    name: ``avataaars`` (the source), a target or a twin; split: ``"ten"`` (the committed training
    images), ``"test"`` (held out: for metrics only), ``"train"`` (more of the same, for the source
    model and for studies of the number of shots) or any other word for a fresh independent set.
    Images come out the same on every machine
    with the same DiceBear version; drawn ones are cached (see :func:`dslib.env.cache_dir`).
    Raises UserError for an unknown name or an n below 1 or above what ``"ten"`` holds.
    """
    check_domain(name)
    n = (SHOTS if split == "ten" else 1000) if n is None else n
    if n < 1:
        raise UserError(f"n is {n}: ask for at least 1 image of {name}")
    if split == "ten" and n > SHOTS:
        raise UserError(f"{name} has {SHOTS} training images, not {n}: use split='train' for more")
    if split == "ten" and resolution in (64, 256) and (data_dir() / name).is_dir():
        pixels, labels = read_ten(name, n, resolution)
    else:
        pixels, labels = draw_domain(name, split, n, resolution, workers)
    images = to_float(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous())
    return Domain(images, labels, name, split)


def twin(images: Tensor, name: str) -> Tensor:
    """The true pictures of source faces in a domain with a known answer, one of ``TWINS``.

    images: (N,3,R,R) in [-1,1], drawn or sampled faces → (N,3,R,R) in [-1,1]: the same people by
    the domain's hand. Of a drawn face it is the domain's own image, but for the rounding of pixels.
    Raises UserError for another domain, or images that are no square colour pictures.
    """
    if name not in TWINS:
        raise UserError(f"{check_domain(name)!r} has no true pictures to compare with: only "
                        f"{' and '.join(TWINS)} have twins")
    return twins.FILTERS[name](images)
