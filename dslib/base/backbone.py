"""The networks behind the perceptual distances."""

import warnings
from functools import cache

import torch
from torch import Tensor

from .errors import UserError

BACKBONES = ("st-alex", "st-vgg", "alex", "vgg")


@cache
def load_backbone(backbone: str = "st-alex", where: str = "cpu") -> torch.nn.Module:
    """The LPIPS network by name, on a device: ``st-…`` (shift-tolerant, weights inside a wheel) or the ``lpips`` package's."""
    if backbone not in BACKBONES:
        raise UserError(f"unknown backbone {backbone!r}: use one of {', '.join(BACKBONES)}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if backbone.startswith("st-"):
            from stlpips_pytorch import stlpips
            net = stlpips.LPIPS(net=backbone[3:], variant="shift_tolerant", verbose=False)
        else:
            import lpips
            try:
                net = lpips.LPIPS(net=backbone, verbose=False)
            except OSError as error:
                raise UserError(f"the {backbone!r} backbone needs torchvision's weights, which could not be downloaded "
                                f"({error}): use --backbone st-{backbone}, whose weights are installed") from None
    return net.eval().requires_grad_(False).to(where)


def add_squared_distances(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Add ‖a_i − b_j‖² of a (N,D) and b (M,D) to total (N,M), in place, as one matrix product.

    Returns total; by rounding it may end slightly below 0.
    """
    squares = a.square().sum(1)[:, None], b.square().sum(1)[None]
    return total.addmm_(a, b.T, alpha=-2).add_(squares[0]).add_(squares[1])
