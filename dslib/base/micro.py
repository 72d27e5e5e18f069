"""Exact large batches in small memory: a network that answers a few images at a time (an extension, chapter 08)."""

from types import SimpleNamespace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint


def in_parts(net, size: int):
    """The network, answering ``size`` images at a time; 0: the network itself.

    Pairwise losses need the answers of the whole batch, so plain gradient accumulation would compare too few images. Here only the
    *answers* are kept; what a part's backward pass needs is computed again when its turn comes. Answers and gradients are those of
    one pass, peak memory is that of one part, and a step costs one more forward pass. Call it as a U-Net: x_t (N,C,H,W), t (N,) and,
    for words, text (N,L,width) → an object with ``sample`` (N,C,H,W).
    """
    if not size:
        return net

    def part(*question: Tensor) -> Tensor:
        return net(*question).sample

    def answer(*question: Tensor) -> SimpleNamespace:
        parts = zip(*(one.split(size) for one in question))
        if torch.is_grad_enabled():
            return SimpleNamespace(sample=torch.cat([checkpoint(part, *one, use_reentrant=False) for one in parts]))
        return SimpleNamespace(sample=torch.cat([part(*one) for one in parts]))

    return answer
