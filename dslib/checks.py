"""Self-checks for the exercises: they say what is wrong, they never raise, and tests run them too."""

import inspect

import torch
from torch import Tensor


def nearest(samples: Tensor, images: Tensor) -> Tensor:
    """Index of the training image with the smallest mean squared pixel difference, (N,…), (K,…) → (N,)."""
    return torch.cdist(samples.flatten(1), images.flatten(1)).argmin(dim=1)


SOLUTIONS = {"nearest": nearest}


def solution(name: str) -> None:
    """Print the reference's own source: what the checks compare with."""
    if name not in SOLUTIONS:
        print(f"no exercise {name!r}: known are {', '.join(SOLUTIONS)}")
        return
    print(inspect.getsource(SOLUTIONS[name]))


def attempt(fn, *args) -> tuple[object, str | None]:
    """Call the reader's function: (result, None), or (None, what went wrong) in one line."""
    try:
        result = fn(*args)
    except Exception as error:                            # whatever the reader's code raises is a finding, not a crash
        return None, f"it raised {type(error).__name__}: {error}"
    return (result, None) if result is not None else (None, "it returns None: nothing written yet?")


def check_nearest(fn) -> bool:
    """Try the reader's ``nearest`` on small cases; print ✓ or a diagnosis. True if all is well."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, 8, 8, generator=generator) * 2 - 1
    want = torch.tensor([3, 0, 4, 4, 1, 2, 0])
    samples = images[want] + 0.05 * torch.randn(7, 3, 8, 8, generator=generator)
    got, problem = attempt(fn, samples, images)
    if problem is None:
        problem = diagnose_nearest(got, want, samples, images)
    print(f"✗ nearest: {problem}" if problem else "✓ nearest: all checks passed")
    return problem is None


def diagnose_nearest(got, want: Tensor, samples: Tensor, images: Tensor) -> str | None:
    """The likely mistake in words, or None if the answer is right."""
    try:
        got = torch.as_tensor(got)
    except (TypeError, ValueError, RuntimeError):
        return f"it returns a {type(got).__name__}, expected a tensor of {len(want)} indices"
    distance = torch.cdist(samples.flatten(1), images.flatten(1))
    if tuple(got.shape) == (len(images),) and torch.equal(got.long(), distance.argmin(0)):
        return "this is the nearest sample of each image: take the argmin over the images, dim=1"
    if tuple(got.shape) != tuple(want.shape):
        return f"the shape is {tuple(got.shape)}, expected ({len(want)},): one index a sample"
    if got.is_floating_point():
        return "these are not integers: is it min (a distance) where argmin (an index) is wanted?"
    if torch.equal(got.long(), distance.argmax(1)):
        return "these are the farthest images: argmin, not argmax"
    if not torch.equal(got.long(), want):
        return f"{int((got.long() != want).sum())} of {len(want)} indices are wrong: is the mean over all of channels, height and width?"
    return None
