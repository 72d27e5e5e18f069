"""Images in, tensors in [-1,1] out: the drawn domains and anybody's own folder (chapter 00)."""

import difflib
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from .base import avatars, drawing, twins
from .base.drawing import draw_domain, read_ten
from .base.errors import UserError
from .base.files import data_dir
from .base.images import (  # noqa: F401  (some only so that data.as_rgb and the like stay)
    ENDINGS,
    SMALLEST,
    as_rgb,
    check_any,
    kinds_of,
    list_images,
    note,
    read_image,
    scan,
    shown,
    to_float,
    to_uint8,
    unused,
)

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


def load_domain(name: str, split: str, n: int | None = None, resolution: int = 64, workers: int = 1) -> Domain:
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


# ---------------------------------------------------------------------------------------- anybody's own folder

class ImageFolder:
    """The pictures of a folder as tensors: ``folder[i]`` (3,R,R) and ``folder.images`` (n,3,R,R), in [-1,1].

    Whatever Pillow reads here comes out as upright sRGB, transparency on white, centre-cropped to a square and resized with
    antialiasing; of animations the first frame. Sorted by name; recursive: with the subfolders', sorted by path. ``summary`` says
    in one line what was used and what was left out, ``left_out`` has {reason: names}, ``below`` {subfolder not looked at: pictures}.
    Where something was left out, that is also said on stderr. Raises UserError that names the folder or file: missing or empty
    folder, fewer than ``at_least`` images, unreadable or tiny files.
    """

    def __init__(self, path: str | Path, resolution: int = 64, at_least: int = 1, skip: tuple[str, ...] = (),
                 recursive: bool = False):
        found = scan(Path(path), recursive)
        check_any(Path(path), found)
        self.paths = [p for p in found.paths if p.name not in skip]
        self.left_out, self.below, left, n = found.left_out, found.below, unused(found), len(self.paths)
        holds = f"{n} image" + ("s" if n != 1 else "")
        if n < at_least:
            raise UserError(f"{shown(path)} holds {holds}: at least {at_least} are needed to compare them in pairs, about 10 is usual; add "
                            "more (or adapt with --method finetune, which compares nothing)" + (f"; left out: {left}" if left else ""))
        self.summary = f"{holds} read ({kinds_of(self.paths)})" + (f"; left out: {left}" if left else "")
        if left:
            note(f"{shown(path)}: {self.summary}")
        self.images = torch.stack([read_image(p, resolution) for p in self.paths])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return self.images[i]


def write_images(folder: Path, images: Tensor) -> None:
    """Images (N,3,R,R) in [-1,1] as ``0000.png`` … in a folder; numbered ones that are there already are replaced or removed."""
    for old in folder.glob("[0-9][0-9][0-9][0-9].png"):
        old.unlink()
    for i, pixels in enumerate(to_uint8(images).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(folder / f"{i:04d}.png")


def write_ten(folder: Path) -> None:
    """Draw the committed training images again: ``<folder>/<domain>/{64,256}/NN.png`` and ``labels.json``."""
    drawing.write_ten(folder, TARGETS + TWINS, SHOTS)
