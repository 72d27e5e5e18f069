"""Which run is this? Fingerprints of what a training was given, so that another's checkpoint or row is not taken for its own."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from .pixels import to_uint8


def fingerprint(*things: str | Tensor | Mapping[str, Tensor] | None) -> str:
    """The first 12 hex letters of a sha256 over strings, tensors and state dicts, in this order.

    Values, types and shapes count; device and memory layout do not. A state dict's order does not count either. None is skipped.
    """
    digest = hashlib.sha256()
    for thing in things:
        if isinstance(thing, Mapping):
            for name in sorted(thing):
                digest.update(name.encode() + b"\0")
                add_tensor(digest, thing[name])
        elif isinstance(thing, Tensor):
            add_tensor(digest, thing)
        elif thing is not None:
            digest.update(f"{len(thing)}:{thing}".encode())
    return digest.hexdigest()[:12]


def add_tensor(digest, tensor: Tensor) -> None:
    """A tensor's type, shape and numbers, whatever its device and memory layout."""
    digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    if tensor.numel():
        digest.update(tensor.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy())


def image_print(images: Tensor) -> str:
    """Of images (n,C,R,R), uint8 or in [-1,1]: the same for both forms, another for another order."""
    return fingerprint(to_uint8(images))


def of_run(images: Tensor, a_bar: Tensor, *networks: torch.nn.Module, **words: str) -> dict[str, str]:
    """A fine-tuning run's identity: fingerprints of its images, of its source (a_bar (T,) and the networks' weights), and of words."""
    source = fingerprint(a_bar, *(network.state_dict() for network in networks))
    return {"images": image_print(images), "source": source} | {name: fingerprint(value) for name, value in words.items()}


#: what a run's identity may hold → how a message calls it
PARTS = {"images": "the images are", "source": "the source model is", "prompts": "the prompts are", "captions": "the captions are",
         "subject": "the subject's images are"}


def other_part(mine: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    """The first part in which two identities differ; None where they agree as far as both know."""
    return next((name for name, value in mine.items() if theirs.get(name, value) != value), None)
