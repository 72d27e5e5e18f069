"""Pictures as tensors: ranges, channels, numbered files (chapter 00)."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .errors import UserError
from .provenance import mark


def to_float(pixels: Tensor) -> Tensor:
    """uint8 (N,3,H,W) in [0,255] → float32 in [-1,1]; float tensors pass through."""
    return pixels.float() / 127.5 - 1.0 if pixels.dtype == torch.uint8 else pixels


def to_uint8(images: Tensor) -> Tensor:
    """float in [-1,1], clamped → uint8 in [0,255]: :func:`to_float`'s inverse; uint8 passes."""
    images = images.detach().cpu()
    if images.dtype == torch.uint8:
        return images
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


FAR = 2.0       # no picture in [-1,1] has a value beyond this; [0,255] and standardised ones have


def check_pictures(images: Tensor, what: str = "the images") -> Tensor:
    """The images themselves if they are uint8, or finite floats within [-2,2]; else a UserError."""
    if images.dtype == torch.uint8 or not images.numel():
        return images
    if not images.dtype.is_floating_point:
        kind = str(images.dtype).removeprefix("torch.")
        raise UserError(f"{what} are {kind}: give uint8 in [0,255] or floats in [-1,1]")
    low, high = (float(v) for v in images.detach().aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{what} hold NaN or infinity: they come from a calculation that failed, "
                        "draw or read them again")
    if max(-low, high) > FAR:
        raise UserError(f"{what} range from {low:.3g} to {high:.3g}: give floats in [-1,1] (from "
                        "[0,255]: images / 127.5 - 1) or uint8 tensors")
    return images


def pictures(images: Tensor, what: str = "the images") -> Tensor:
    """uint8 in [0,255] or floats in [-1,1] → floats in [-1,1], grey ones with three equal channels.

    Raises UserError for other ranges. Floats in [0,1] cannot be told from dull pictures and pass.
    """
    images = to_float(check_pictures(images, what))
    return in_channels(images, 3) if images.ndim == 4 and images.shape[1] == 1 else images


LUMA = (0.299, 0.587, 0.114)        # what Pillow's mode L is made of


def in_channels(images: Tensor, channels: int) -> Tensor:
    """Pictures (N,1,H,W) or (N,3,H,W), uint8 or floats → (N,channels,H,W): grey of colours, or grey three times. Grey stays grey."""
    if images.shape[1] == channels:
        return images
    if (images.shape[1], channels) == (1, 3):
        return images.expand(-1, 3, -1, -1)
    if (images.shape[1], channels) != (3, 1):
        raise UserError(f"pictures of {images.shape[1]} channels cannot be made into {channels}: 1 (grey) and 3 (colour) are known")
    grey = sum(weight * images[:, i:i + 1].double() for i, weight in enumerate(LUMA))
    return grey.round().to(torch.uint8) if images.dtype == torch.uint8 else grey.to(images.dtype)


def write_images(folder: Path, images: Tensor, made_by: str | None = None) -> None:
    """Images (N,3,R,R), or grey (N,1,R,R), in [-1,1] as ``0000.png`` … in a folder; numbered ones there are replaced or removed.

    made_by: of generated pictures, what drew them; their files then say so (:mod:`dslib.base.provenance`).
    """
    for old in folder.glob("[0-9][0-9][0-9][0-9].png"):
        old.unlink()
    for i, pixels in enumerate(to_uint8(images).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(
            folder / f"{i:04d}.png", pnginfo=None if made_by is None else mark(made_by))
