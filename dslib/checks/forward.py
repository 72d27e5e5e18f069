"""Self-checks of chapters 00 and 01: the nearest training image, noising and its inverse."""

import torch
from torch import Tensor

from .. import ddpm
from .common import attempt, conclude, noise_case, report


def nearest(samples: Tensor, images: Tensor) -> Tensor:
    """Index of the training image with the smallest mean squared pixel difference, (N,…), (K,…) → (N,)."""
    return torch.cdist(samples.flatten(1), images.flatten(1)).argmin(dim=1)


def check_nearest(fn) -> bool:
    """Try the reader's ``nearest`` on small cases; print ✓ or a diagnosis. True if all is well."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(5, 3, 8, 8, generator=generator) * 2 - 1
    want = torch.tensor([3, 0, 4, 4, 1, 2, 0])
    samples = images[want] + 0.05 * torch.randn(7, 3, 8, 8, generator=generator)
    got, problem = attempt(fn, samples, images)
    if problem is None:
        problem = diagnose_nearest(got, want, samples, images)
    return conclude("nearest", problem)


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


def check_q_sample(fn) -> bool:
    """Try the reader's ``q_sample``; print ✓ or a diagnosis. True if all is well."""
    x_0, t, eps, schedule, a = noise_case()
    first = a[:1]
    mistakes = {
        "the square roots are missing: √ᾱ_t times the picture, √(1−ᾱ_t) times the noise": a * x_0 + (1 - a) * eps,
        "the noise is not scaled: √(1−ᾱ_t) is forgotten": a.sqrt() * x_0 + eps,
        "the picture is not scaled: √ᾱ_t is forgotten": x_0 + (1 - a).sqrt() * eps,
        "picture and noise are swapped": a.sqrt() * eps + (1 - a).sqrt() * x_0,
        "every image got the first image's t: look up one ᾱ_t an image": first.sqrt() * x_0 + (1 - first).sqrt() * eps,
    }
    return report("q_sample", fn, (x_0, t, eps, schedule), ddpm.q_sample(x_0, t, eps, schedule), mistakes)


def check_predict_x0(fn) -> bool:
    """Try the reader's ``predict_x0``; print ✓ or a diagnosis. True if all is well."""
    x_0, t, eps, schedule, a = noise_case()
    x_t = ddpm.q_sample(x_0, t, eps, schedule)
    mistakes = {
        "√(1−ᾱ_t) is forgotten: the noise's share must be scaled before it is taken away": (x_t - eps) / a.sqrt(),
        "the division by √ᾱ_t is missing": x_t - (1 - a).sqrt() * eps,
        "divided by ᾱ_t: it is its square root": (x_t - (1 - a).sqrt() * eps) / a,
        "the square roots are missing": (x_t - (1 - a) * eps) / a,
        "the noise is added where it must be taken away": (x_t + (1 - a).sqrt() * eps) / a.sqrt(),
    }
    return report("predict_x0", fn, (x_t, t, eps, schedule), x_0, mistakes)
