"""Self-checks of chapter 02: the loss, the averaged weights, the training loop, a step of DDIM and of DDPM."""

import copy
from types import SimpleNamespace

import torch
from torch import Tensor, nn

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


def train_loop(model: nn.Module, batches: list, loss, lr: float, max_decay: float = 0.99, power: float = 0.75) -> nn.Module:
    """Train a copy, an AdamW step a batch, and return the average of its weights; the model itself is left as it is.

    batches: a list of (x_0, t, ε); loss(model, x_0, t, ε) → scalar. Gradients are clipped to norm 1.
    """
    model = copy.deepcopy(model)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr, weight_decay=0.0)
    for step, (x_0, t, eps) in enumerate(batches):
        value = loss(model, x_0, t, eps)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            for slow, new in zip(average.parameters(), model.parameters()):
                slow.copy_(ema_update(slow, new, step, max_decay, power))
    return average


def ddpm_step(x_t: Tensor, eps: Tensor, t: int, t_prev: int, z: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """From step t to t_prev < t by the posterior q(x_{t'}|x_t, x̃_0) (DDPM eqs. 6, 7): μ̃ + √β̃·z; t_prev = −1 is the clean image.

    x_t, eps, fresh noise z: (N,C,H,W); alphas_cumprod: (T,). β = 1 − ᾱ_t/ᾱ_t', which is β_t where t' = t − 1. x̃_0 is not clipped.
    """
    a, a_prev = alphas_cumprod[t], alphas_cumprod[t_prev] if t_prev >= 0 else torch.ones(())
    beta = 1 - a / a_prev
    x_0 = (x_t - (1 - a).sqrt() * eps) / a.sqrt()
    mean = a_prev.sqrt() * beta / (1 - a) * x_0 + (a / a_prev).sqrt() * (1 - a_prev) / (1 - a) * x_t
    return mean + ((1 - a_prev) / (1 - a) * beta).sqrt() * z


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
        "the steps count from 0: at step 0 the average is the new weight": mixed([min(max_decay, 1 - (2 + s) ** -power) for s in steps]),
    }
    got, problem = attempt(lambda: stacked([fn(average.clone(), new.clone(), step, max_decay, power) for step in steps]))
    problem = problem or diagnose(got, mixed(capped), mistakes)
    return conclude("ema_update", problem)


CLIPPED = "the guess of the clean image is clipped to [-1, 1]: the equation does not, so leave it as it is here"


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
        CLIPPED: p.sqrt() * guess.clamp(-1, 1) + (1 - p).sqrt() * eps,
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


class SmallModel(nn.Module):
    """Stands in for a U-Net where weights are trained: one convolution, and t as a shift."""

    def __init__(self, seed: int = 0):
        super().__init__()
        self.weight = nn.Parameter(0.3 * torch.randn(3, 3, 3, 3, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x_t: Tensor, t) -> SimpleNamespace:
        shift = (torch.as_tensor(t) / 1000).reshape(-1, 1, 1, 1)
        return SimpleNamespace(sample=nn.functional.conv2d(x_t, self.weight, padding=1) + shift)


def weights_of(model: nn.Module) -> Tensor:
    """All weights of a network as one vector."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


LOOPS = {
    "last": "these are the last weights: return their average, by ema_update after every step",
    "accumulate": "the gradients of all steps pile up: optimizer.zero_grad() before backward()",
    "unclipped": "the gradients are not clipped: torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) before step()",
    "early": "the average is taken before optimizer.step(): it must see the new weights",
    "decay": "AdamW's own weight decay shrinks the weights: weight_decay=0.0",
    "sgd": "this is plain SGD: use torch.optim.AdamW",
    "first": "only the first batch was used: is the return inside the loop?",
    "cold": "the average has no warm-up: ema_update needs the number of the step, from 0",
    "late": "the average counts the steps from 1: at step 0 it is simply the new weight",
}


def wrong_train_loop(model: nn.Module, batches: list, loss, lr: float, what: str) -> Tensor:
    """The weights that a loop with one typical mistake returns."""
    model = copy.deepcopy(model)
    average, kind = copy.deepcopy(model), torch.optim.SGD if what == "sgd" else torch.optim.AdamW
    optimizer = kind(model.parameters(), lr, weight_decay=0.01 if what == "decay" else 0.0)
    for step, batch in enumerate(batches[:1] if what == "first" else batches):
        value = loss(model, *batch)
        if what != "accumulate":
            optimizer.zero_grad()
        value.backward()
        if what != "unclipped":
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        seen = weights_of(model) if what == "early" else None
        optimizer.step()
        counted = {"cold": 10**9, "late": step + 1}.get(what, step)
        now = ema_update(weights_of(average), weights_of(model) if seen is None else seen, counted, 0.99, 0.75)
        nn.utils.vector_to_parameters(now, average.parameters())
    return weights_of(model if what == "last" else average)


def loop_case() -> tuple[nn.Module, list, object, float]:
    """A small model, five batches, a loss whose gradients are now longer, now shorter than 1, a rate."""
    dice, schedule = torch.Generator().manual_seed(4), ddpm.alphas_cumprod(ddpm.linear_betas())
    batches = [(torch.rand(4, 3, 6, 6, generator=dice) * 2 - 1, torch.randint(1000, (4,), generator=dice),
                torch.randn(4, 3, 6, 6, generator=dice)) for _ in range(5)]
    return SmallModel(), batches, lambda model, x_0, t, eps: 0.6 * simple_loss(model, x_0, t, eps, schedule), 0.05


def check_train_loop(fn) -> bool:
    """Try the reader's loop against the reference's weights; print ✓ or a diagnosis. True if all is well."""
    model, batches, loss, lr = loop_case()
    before, want = weights_of(model), weights_of(train_loop(model, batches, loss, lr))
    got, problem = attempt(fn, model, list(batches), loss, lr)
    if problem is None and not isinstance(got, nn.Module):
        problem = f"it returns a {type(got).__name__}, expected the network with the averaged weights"
    if problem is None and not torch.equal(weights_of(model), before):
        problem = "the model that was given has been trained itself: train copy.deepcopy(model)"
    if problem is None and torch.equal(weights_of(got), before):
        problem = "the weights are still those of the start: no step was taken, or on another copy"
    if problem is None:
        mistakes = {words: wrong_train_loop(model, batches, loss, lr, what) for what, words in LOOPS.items()}
        problem = diagnose(weights_of(got), want, mistakes)
    return conclude("train_loop", problem)


def ddpm_mistakes(x_t: Tensor, eps: Tensor, z: Tensor, a: Tensor, p: Tensor) -> dict[str, Tensor]:
    """What typical mistakes give on the way from ᾱ = a to ᾱ = p."""
    beta, guess = 1 - a / p, (x_t - (1 - a).sqrt() * eps) / a.sqrt()
    from_x0, from_xt = p.sqrt() * beta / (1 - a), (a / p).sqrt() * (1 - p) / (1 - a)
    mean, var = from_x0 * guess + from_xt * x_t, (1 - p) / (1 - a) * beta
    return {
        "this is the mean alone: add √β̃·z": mean,
        "the variance is β, the larger one: β̃ = (1−ᾱ_t')/(1−ᾱ_t)·β": mean + beta.sqrt() * z,
        "the noise is multiplied by the variance β̃: it is its square root": mean + var * z,
        "the two factors are swapped: √ᾱ_t'·β/(1−ᾱ_t) belongs to x̃_0, the other to x_t": from_xt * guess + from_x0 * x_t + var.sqrt() * z,
        "the square root over ᾱ_t' is missing in x̃_0's factor": mean + (p - p.sqrt()) * beta / (1 - a) * guess + var.sqrt() * z,
        "the square root over ᾱ_t/ᾱ_t' is missing in x_t's factor":
            from_x0 * guess + a / p * (1 - p) / (1 - a) * x_t + var.sqrt() * z,
        "β is 1 − ᾱ_t/ᾱ_t', not 1 − ᾱ_t": p.sqrt() * guess + from_xt * x_t + ((1 - p).sqrt()) * z,
        "the guess of the clean image is not divided by √ᾱ_t": mean + (a.sqrt() - 1) * from_x0 * guess + var.sqrt() * z,
        "this is DDIM's step: DDPM draws from the posterior, with z": p.sqrt() * guess + (1 - p).sqrt() * eps,
        CLIPPED: mean + from_x0 * (guess.clamp(-1, 1) - guess) + var.sqrt() * z,
        "x̃_0 is noised anew with z: x_t must keep its share": p.sqrt() * guess + (1 - p).sqrt() * z,
    }


def check_ddpm_step(fn) -> bool:
    """Try the reader's ``ddpm_step`` inside a chain and at its end; print ✓ or a diagnosis. True if all is well."""
    x_t, _, eps, schedule, _ = noise_case()
    z, pairs = torch.randn(x_t.shape, generator=torch.Generator().manual_seed(9)), ((800, 600), (400, 150), (300, 299))
    each = [ddpm_mistakes(x_t, eps, z, schedule[t], schedule[t_prev]) for t, t_prev in pairs]
    mistakes = {words: torch.stack([wrong[words] for wrong in each]) for words in each[0]}
    want = torch.stack([ddpm_step(x_t, eps, t, t_prev, z, schedule) for t, t_prev in pairs])
    got, problem = attempt_twice(lambda: stacked([fn(x_t.clone(), eps.clone(), *pair, z.clone(), schedule.clone()) for pair in pairs]))
    problem = problem and problem.replace("the eps it is given", "the z it is given")
    problem = problem or diagnose(got, want, mistakes)
    if problem is None:
        last = ddpm_step(x_t, eps, 49, -1, z, schedule)
        noisy = {"noise is added to the finished image: β̃ is 0 there": last + (1 - schedule[49]).sqrt() * z}
        got, problem = attempt(fn, x_t.clone(), eps.clone(), 49, -1, z.clone(), schedule.clone())
        problem = problem or diagnose(got, last, noisy)
        if problem and "NaN" in problem:
            problem = "the root of a negative β: it looked up alphas_cumprod[−1], the last entry, where ᾱ is 1"
        problem = problem and f"right inside the chain, but not at its end, where t_prev is −1: {problem}"
    return conclude("ddpm_step", problem)
