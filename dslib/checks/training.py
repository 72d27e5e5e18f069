"""Self-checks of chapter 02: the loss, the averaged weights, a DDIM step."""

from types import SimpleNamespace

import torch
from torch import Tensor

from .. import ddpm
from .common import attempt, attempt_twice, conclude, diagnose, noise_case, stacked


def simple_loss(model, x_0: Tensor, t: Tensor, eps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """L_simple (DDPM eq. 14): the mean squared error of the predicted noise, a scalar.

    model(x_t, t).sample is ε_θ; x_0 in [-1,1] and eps: (N,C,H,W); t: (N,); alphas_cumprod: (T,).
    """
    x_t = ddpm.q_sample(x_0, t, eps, alphas_cumprod)
    return (model(x_t, t).sample - eps).square().mean()


def ema_update(average: Tensor, new: Tensor, step: int, max_decay: float, power: float) -> Tensor:
    """One step of an averaged weight whose decay warms up from 0: 1 − (1+step)^(−power), at most max_decay."""
    decay = min(max_decay, 1 - (1 + step) ** -power)
    return decay * average + (1 - decay) * new


def ddim_step(x_t: Tensor, eps: Tensor, t: int, t_prev: int, alphas_cumprod: Tensor) -> Tensor:
    """From step t to t_prev < t without fresh noise (DDIM eq. 12, η = 0); t_prev = −1 is the clean image.

    x_t, eps: (N,C,H,W); alphas_cumprod: (T,). Returns (N,C,H,W); x̃_0 is not clipped.
    """
    a, a_prev = alphas_cumprod[t], alphas_cumprod[t_prev] if t_prev >= 0 else torch.ones(())
    x_0 = (x_t - (1 - a).sqrt() * eps) / a.sqrt()               # the guess of the clean image …
    return a_prev.sqrt() * x_0 + (1 - a_prev).sqrt() * eps      # … noised again, less, with the same noise


class TinyModel(torch.nn.Module):
    """Stands in for a U-Net in the self-checks: a formula of x_t and t, with one weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x_t: Tensor, t) -> SimpleNamespace:
        return SimpleNamespace(sample=self.weight * x_t + (torch.as_tensor(t) / 1000).reshape(-1, 1, 1, 1))


def check_simple_loss(fn) -> bool:
    """Try the reader's ``simple_loss`` on a small model; print ✓ or a diagnosis. True if all is well."""
    x_0, t, eps, schedule, _ = noise_case()
    model = TinyModel()
    got, problem = attempt_twice(lambda: fn(model, x_0.clone(), t.clone(), eps.clone(), schedule.clone()))
    if problem and "SimpleNamespace" in problem:
        problem += ": the model returns an object, its tensor is .sample"
    if problem is None:
        value = got.detach() if isinstance(got, Tensor) else got
        with torch.no_grad():
            problem = diagnose(value, simple_loss(model, x_0, t, eps, schedule), simple_loss_mistakes(model, x_0, t, eps, schedule))
    if problem is None and not got.requires_grad:
        problem = "the value is right, but no gradient reaches the model: is there a no_grad or a detach?"
    return conclude("simple_loss", problem)


def simple_loss_mistakes(model, x_0: Tensor, t: Tensor, eps: Tensor, schedule: Tensor) -> dict[str, Tensor]:
    """What typical mistakes give."""
    x_t, first = ddpm.q_sample(x_0, t, eps, schedule), t[:1].expand(len(t))
    x_first = ddpm.q_sample(x_0, first, eps, schedule)
    guess = model(x_t, t).sample
    error = guess - eps
    return {
        "the answer is compared with x_0: this network predicts the noise": (guess - x_0).square().mean(),
        "the answer is compared with x_t: this network predicts the noise": (guess - x_t).square().mean(),
        "the model was shown the clean picture: noise it first, and show it x_t": (model(x_0, t).sample - eps).square().mean(),
        "the model was shown the bare noise: show it x_t": (model(eps, t).sample - eps).square().mean(),
        "this is the sum: take the mean over everything": error.square().sum(),
        "summed over the pixels: take the mean over everything": error.square().flatten(1).sum(1).mean(),
        "the square is missing: this is the mean absolute error": error.abs().mean(),
        "the square is missing: errors of both signs cancel": error.mean(),
        "this is the root of the mean squared error: leave the root out": error.square().mean().sqrt(),
        "every image got the first image's t": (model(x_first, first).sample - eps).square().mean(),
        "the model was told another t than the images were noised to": (model(x_t, first).sample - eps).square().mean(),
    }


def check_ema_update(fn) -> bool:
    """Try the reader's ``ema_update`` at early and late steps; print ✓ or a diagnosis. True if all is well."""
    generator, max_decay, power = torch.Generator().manual_seed(2), 0.99, 0.75
    average, new = torch.randn(6, generator=generator), torch.randn(6, generator=generator)
    steps = (0, 1, 9, 99, 10**6)
    warm = [1 - (1 + step) ** -power for step in steps]
    capped = [min(max_decay, decay) for decay in warm]

    def mixed(decays):
        return torch.stack([decay * average + (1 - decay) * new for decay in decays])

    mistakes = {
        "the weights are swapped: the decay belongs to the average, the rest to the new weight": mixed([1 - d for d in capped]),
        "there is no warm-up: max_decay is only the upper end of 1 − (1+step)^(−power)": mixed([max_decay] * len(steps)),
        "no warm-up, and the weights are swapped": mixed([1 - max_decay] * len(steps)),
        "the cap is missing: the decay is at most max_decay": mixed(warm),
        "that is the larger of the two: the decay is at most max_decay, so min": mixed([max(max_decay, d) for d in warm]),
        "the exponent's sign is wrong: (1+step)^(−power) shrinks": mixed([min(max_decay, 1 - (1 + s) ** power) for s in steps]),
        "1 − … is forgotten: (1+step)^(−power) is the share of the new weight": mixed([min(max_decay, 1 - d) for d in warm]),
        "this is the new weight: nothing is averaged": mixed([0.0] * len(steps)),
    }
    got, problem = attempt(lambda: stacked([fn(average.clone(), new.clone(), step, max_decay, power) for step in steps]))
    problem = problem or diagnose(got, mixed(capped), mistakes)
    return conclude("ema_update", problem)


def ddim_mistakes(x_t: Tensor, eps: Tensor, a: Tensor, p: Tensor) -> dict[str, Tensor]:
    """What typical mistakes give on the way from ᾱ = a to ᾱ = p."""
    guess = (x_t - (1 - a).sqrt() * eps) / a.sqrt()
    back = (x_t - (1 - p).sqrt() * eps) / p.sqrt()
    return {
        "the direction pointing to x_t is forgotten: add √(1−ᾱ_prev)·ε": p.sqrt() * guess,
        "this is the guess of the clean image: it must be noised again, to t_prev": guess,
        "this is x_t again: ᾱ at t_prev is never used": x_t,
        "the guess is scaled with ᾱ_t: there it is ᾱ at t_prev": a.sqrt() * guess + (1 - p).sqrt() * eps,
        "the noise is scaled with ᾱ_t: there it is ᾱ at t_prev": p.sqrt() * guess + (1 - a).sqrt() * eps,
        "t and t_prev are swapped": a.sqrt() * back + (1 - a).sqrt() * eps,
        "the square roots are missing where the guess is noised again": p * guess + (1 - p) * eps,
        "the square root over ᾱ_prev is missing": p * guess + (1 - p).sqrt() * eps,
        "the square root over 1−ᾱ_prev is missing": p.sqrt() * guess + (1 - p) * eps,
        "the square roots are missing in the guess of the clean image": p.sqrt() * (x_t - (1 - a) * eps) / a + (1 - p).sqrt() * eps,
        "the guess of the clean image is not divided by √ᾱ_t": p.sqrt() * guess * a.sqrt() + (1 - p).sqrt() * eps,
    }


def check_ddim_step(fn) -> bool:
    """Try the reader's ``ddim_step`` inside a chain and at its end; print ✓ or a diagnosis. True if all is well."""
    x_t, _, eps, schedule, _ = noise_case()
    pairs = ((800, 600), (400, 150))
    each = [ddim_mistakes(x_t, eps, schedule[t], schedule[t_prev]) for t, t_prev in pairs]
    mistakes = {words: torch.stack([wrong[words] for wrong in each]) for words in each[0]}
    want = torch.stack([ddim_step(x_t, eps, t, t_prev, schedule) for t, t_prev in pairs])
    got, problem = attempt_twice(lambda: stacked([fn(x_t.clone(), eps.clone(), *pair, schedule.clone()) for pair in pairs]))
    problem = problem or diagnose(got, want, mistakes)
    if problem is None:
        wrapped = {"it looked up alphas_cumprod[−1], the last entry, where ᾱ is 1": ddim_step(x_t, eps, 49, len(schedule) - 1, schedule)}
        got, problem = attempt(fn, x_t.clone(), eps.clone(), 49, -1, schedule.clone())
        problem = problem or diagnose(got, ddim_step(x_t, eps, 49, -1, schedule), wrapped)
        problem = problem and f"right inside the chain, but not at its end, where t_prev is −1: {problem}"
    return conclude("ddim_step", problem)
