"""Self-checks for the exercises: they say what is wrong, they never raise, and tests run them too."""

import inspect

import torch
from torch import Tensor

from . import ddpm


def nearest(samples: Tensor, images: Tensor) -> Tensor:
    """Index of the training image with the smallest mean squared pixel difference, (N,…), (K,…) → (N,)."""
    return torch.cdist(samples.flatten(1), images.flatten(1)).argmin(dim=1)


SOLUTIONS = {"nearest": nearest, "q_sample": ddpm.q_sample, "predict_x0": ddpm.predict_x0}


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


def diagnose(got, want: Tensor, mistakes: dict[str, Tensor]) -> str | None:
    """Compare an answer with the reference, then with what typical mistakes give. None if it is right."""
    if not isinstance(got, Tensor):
        return f"it returns a {type(got).__name__}, expected a tensor"
    if tuple(got.shape) != tuple(want.shape):
        return f"the shape is {tuple(got.shape)}, expected {tuple(want.shape)}"
    if not got.is_floating_point():
        return f"the dtype is {got.dtype}, expected a floating-point tensor"
    if not torch.isfinite(got).all():
        return "there are NaN or infinite values: is something divided by zero, or a root taken of a negative number?"
    if torch.allclose(got.to(want), want, rtol=1e-4, atol=1e-5):
        return None
    for words, wrong in mistakes.items():
        if torch.allclose(got.to(want), wrong, rtol=1e-4, atol=1e-5):
            return words
    return f"the values differ by up to {float((got.to(want) - want).abs().max()):.3g} from the reference"


def noise_case() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Four small images at four steps: (x_0, t, eps, alphas_cumprod, ᾱ shaped (4,1,1,1))."""
    generator = torch.Generator().manual_seed(1)
    x_0, eps = torch.rand(4, 3, 4, 4, generator=generator) * 2 - 1, torch.randn(4, 3, 4, 4, generator=generator)
    t, schedule = torch.tensor([3, 120, 480, 800]), ddpm.alphas_cumprod(ddpm.linear_betas())
    return x_0, t, eps, schedule, schedule[t].view(-1, 1, 1, 1)


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


def report(name: str, fn, arguments: tuple, want: Tensor, mistakes: dict[str, Tensor]) -> bool:
    """Run, diagnose, print one line."""
    got, problem = attempt(fn, *(a.clone() for a in arguments))
    problem = problem or diagnose(got, want, mistakes)
    print(f"✗ {name}: {problem}" if problem else f"✓ {name}: all checks passed")
    return problem is None
