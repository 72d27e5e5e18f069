"""Self-checks for the exercises: they say what is wrong, they never raise, and tests run them too."""

import inspect
import json
from numbers import Real
from types import SimpleNamespace

import torch
from torch import Tensor

from . import ddpm, haar, losses, metrics
from .env import data_dir


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


def check_expected(chapter: str, runtime, **measured: float) -> bool:
    """Compare what a chapter measured with ``data/expected/<chapter>.json``; prints one line a value, never raises.

    The file holds ``{"seconds": {tier: s}, "values": {name: {tier: [value, tolerance]}}}``; True if nothing is off.
    """
    path, fine = data_dir() / "expected" / f"{chapter}.json", True
    try:
        known = json.loads(path.read_text("utf-8"))["values"]
    except (OSError, ValueError, KeyError):
        print(f"– nothing to compare with: data/expected/{path.name} is missing or damaged")
        known, fine = {}, False
    for name, value in measured.items():
        if runtime.tier not in known.get(name, {}):
            print(f"– {name}: {value:.3g} (nothing recorded for tier {runtime.tier})")
            continue
        want, tolerance = known[name][runtime.tier]
        near = abs(value - want) <= tolerance                # False for NaN
        print(f"{'✓' if near else '✗'} {name}: {value:.3g}, expected {want:.3g} ± {tolerance:.2g}")
        fine = fine and near
    return fine


def authors_weight(weight: float, n: int = 3) -> float:
    """The λ of the paper that pulls as hard as the authors' weight: theirs multiplies the *mean* over n·(n−1) entries."""
    return weight / (n * (n - 1))


SOLUTIONS["pairwise_log_probs"] = losses.pairwise_log_probs
SOLUTIONS["pairwise_kl"] = losses.pairwise_kl
SOLUTIONS["authors_weight"] = authors_weight


def check_pairwise_log_probs(fn) -> bool:
    """Try the reader's ``pairwise_log_probs``; print ✓ or a diagnosis. True if all is well."""
    x = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(2)) * torch.tensor([1., 2., 3., .5, 1.]).view(-1, 1, 1, 1)
    similar, want = losses.cosine_matrix(x), losses.pairwise_log_probs(x)
    raw = x.flatten(1) @ x.flatten(1).T
    kept = torch.log_softmax(similar, dim=1)
    mistakes = {
        "the softmax runs over the wrong axis: every row i must sum to one, dim=1":
            torch.log_softmax(losses.drop_diagonal(similar), dim=0),
        "these are dot products: divide by the lengths first, so that brightness does not count":
            torch.log_softmax(losses.drop_diagonal(raw), dim=1),
        "these are probabilities: return their logarithms": want.exp(),
        "the diagonal took part in the softmax before you dropped it": losses.drop_diagonal(kept),
        "these are cosine similarities: the softmax is missing": losses.drop_diagonal(similar),
    }
    got, problem = attempt(fn, x.clone())
    if problem is None and isinstance(got, Tensor) and tuple(got.shape) == (5, 5):
        problem = "the diagonal is kept: an image's similarity to itself is always one, leave it out, (N,N) → (N,N−1)"
    return conclude("pairwise_log_probs", problem or diagnose(got, want, mistakes))


def check_pairwise_kl(fn) -> bool:
    """Try the reader's ``pairwise_kl``, value and gradients; print ✓ or a diagnosis. True if all is well."""
    generator = torch.Generator().manual_seed(3)
    adapted, source = (torch.randn(4, 3, 4, 4, generator=generator, requires_grad=True) for _ in range(2))
    want = losses.pairwise_kl(adapted, source).detach()
    mistakes = {
        "the arguments are swapped: this is KL(source‖adapted), the authors' direction; the paper's is KL(adapted‖source)":
            losses.pairwise_kl(adapted, source, direction="sou||ada").detach(),
        "this is the mean over all entries (the default of F.kl_div): the paper sums":
            losses.pairwise_kl(adapted, source, reduction="mean").detach(),
        "this is 'batchmean', the sum divided by N: the paper sums over the batch": want / 4,
        "this is the authors' loss, direction and mean both: the paper's is KL(adapted‖source), summed":
            losses.pairwise_kl(adapted, source, "sou||ada", "mean").detach(),
        "the sign is wrong: a KL divergence is never negative": -want,
    }
    got, problem = attempt(fn, adapted, source)
    problem = problem or diagnose(got.detach() if isinstance(got, Tensor) else got, want, mistakes)
    return conclude("pairwise_kl", problem or diagnose_gradient(got, adapted, source))


def diagnose_gradient(loss: Tensor, adapted: Tensor, source: Tensor) -> str | None:
    """Does the loss teach the adapted model, and leave the source alone?"""
    if not loss.requires_grad:
        return "the value is right but no gradient flows: is something detached, or inside no_grad, that must learn?"
    loss.backward()
    if source.grad is not None and float(source.grad.abs().max()) > 0:
        return "the value is right but a gradient flows into the source: detach it, the source is the fixed reference"
    return None if adapted.grad is not None else "the value is right but the adapted images get no gradient"


def check_authors_weight(fn) -> bool:
    """Try the reader's conversion of the authors' weight to the paper's λ; print ✓ or a diagnosis."""
    got, problem = attempt(fn, 4.0, 3)
    if problem is None:
        got = torch.as_tensor(got, dtype=torch.float32) if isinstance(got, (int, float, Tensor)) else got
        words = {"multiplied where it must be divided": 24., "divided by n² instead of n·(n−1): the diagonal is left out": 4 / 9,
                 "divided by n alone: there are n·(n−1) entries": 4 / 3, "divided by n−1 alone: there are n·(n−1) entries": 2.}
        problem = diagnose(got, torch.tensor(authors_weight(4.0, 3)), {w: torch.tensor(v) for w, v in words.items()})
    return conclude("authors_weight", problem)


def conclude(name: str, problem: str | None) -> bool:
    """Print one line; True if there is no problem."""
    print(f"✗ {name}: {problem}" if problem else f"✓ {name}: all checks passed")
    return problem is None


def total_loss(terms: dict[str, Tensor], weights: dict[str, float]) -> Tensor:
    """The weighted sum of the terms that have a weight: DomainStudio's objective. Scalar tensor."""
    return sum(weights[name] * value for name, value in terms.items() if name in weights)


def balanced_weights(norms: dict[str, float], share: float = 0.5) -> dict[str, float]:
    """Weights that make every term's gradient ``share`` times as long as that of ``simple``; 0 for a term without one."""
    return {name: 1.0 if name == "simple" else share * norms["simple"] / norm if norm > 0 else 0.0 for name, norm in norms.items()}


SOLUTIONS["total_loss"] = total_loss
SOLUTIONS["balanced_weights"] = balanced_weights


def check_total_loss(fn) -> bool:
    """Try the reader's weighted sum, value and gradient; print ✓ or a diagnosis. True if all is well."""
    terms = {name: torch.tensor(value, requires_grad=True) for name, value in
             {"simple": 0.02, "vlb": 3.0, "img": 0.3, "hf": 0.1, "hfmse": 0.04}.items()}
    weights = {"simple": 1.0, "img": 0.5, "hf": 0.5, "hfmse": 2.0}
    chosen = torch.stack([terms[name].detach() for name in weights])
    mistakes = {"the weights are not used": chosen.sum(), "a term without a weight is counted: leave it out": total_loss(
                    {k: v.detach() for k, v in terms.items()}, weights | {"vlb": 1.0}),
                "this is the mean of the weighted terms: the objective is their sum": total_loss(terms, weights).detach() / 4}
    got, problem = attempt(fn, terms, dict(weights))
    if problem is None and isinstance(got, (int, float)):
        problem = "it returns a Python number: no gradient can flow through it, add tensors"
    problem = problem or diagnose(got.detach() if isinstance(got, Tensor) else got, total_loss(terms, weights).detach(), mistakes)
    if problem is None and not got.requires_grad:
        problem = "the value is right but no gradient flows: do not detach the terms"
    return conclude("total_loss", problem)


def check_balanced_weights(fn) -> bool:
    """Try the reader's balance; print ✓ or a diagnosis. True if all is well."""
    norms = {"simple": 0.2, "img": 0.05, "hf": 0.8, "hfmse": 0.0}
    got, problem = attempt(fn, dict(norms), 0.5)
    if problem is None and not isinstance(got, dict):
        problem = f"it returns a {type(got).__name__}, expected a dict of weights"
    if problem is None and set(got) != set(norms):
        problem = f"the names are {', '.join(map(str, got))}: expected {', '.join(norms)}"
    if problem is None:
        want = torch.tensor([1.0, 2.0, 0.125, 0.0])
        mistakes = {"upside down: a term with a long gradient needs a small weight": torch.tensor([1.0, 0.125, 2.0, 0.0]),
                    "the share is not used": torch.tensor([1.0, 4.0, 0.25, 0.0]),
                    "the weight of simple is 1: the others are measured by it": torch.tensor([0.5, 2.0, 0.125, 0.0])}
        values, problem = attempt(lambda: torch.tensor([float(got[name]) for name in norms]))
        problem = problem or diagnose(values, want, mistakes)
    return conclude("balanced_weights", problem)


# ------------------------------------------------------------------------------------------------------------ chapter 02

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


SOLUTIONS["simple_loss"] = simple_loss
SOLUTIONS["ema_update"] = ema_update
SOLUTIONS["ddim_step"] = ddim_step


class TinyModel(torch.nn.Module):
    """Stands in for a U-Net in the self-checks: a formula of x_t and t, with one weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x_t: Tensor, t) -> SimpleNamespace:
        return SimpleNamespace(sample=self.weight * x_t + (torch.as_tensor(t) / 1000).reshape(-1, 1, 1, 1))


def attempt_twice(call) -> tuple[object, str | None]:
    """Call a function of no arguments twice: (result, None), or (None, what went wrong), dice included."""
    with torch.random.fork_rng(devices=[]):
        (first, problem), (second, _) = attempt(call), attempt(call)
    if isinstance(first, Tensor) and isinstance(second, Tensor) and not torch.equal(first.nan_to_num(), second.nan_to_num()):
        return None, "two calls with the same arguments differ: it draws noise of its own; use the eps it is given"
    return first, problem


def stacked(results: list) -> object:
    """Tensors of one shape as one tensor; anything else as the first of it, for ``diagnose`` to name."""
    alike = all(isinstance(r, Tensor) and r.shape == results[0].shape for r in results)
    return torch.stack(results) if alike else results[0]


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
    print(f"✗ simple_loss: {problem}" if problem else "✓ simple_loss: all checks passed")
    return problem is None


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
    print(f"✗ ema_update: {problem}" if problem else "✓ ema_update: all checks passed")
    return problem is None


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
    print(f"✗ ddim_step: {problem}" if problem else "✓ ddim_step: all checks passed")
    return problem is None


def weighted_hf_mse(adapted: Tensor, target: Tensor, alphas_cumprod_t: Tensor) -> Tensor:
    """mean ᾱ_t·(hf(x̃_0) − hf(x_0))², one weight an image: (N,C,H,W), (N,C,H,W), (N,) → scalar."""
    error = haar.high_frequency(adapted) - haar.high_frequency(target)           # (N,C,H/2,W/2)
    return (alphas_cumprod_t.view(-1, 1, 1, 1) * error.square()).mean()


SOLUTIONS["haar"] = haar.dwt2
SOLUTIONS["inverse_haar"] = haar.idwt2
SOLUTIONS["weighted_hf_mse"] = weighted_hf_mse


def check_haar(fn) -> bool:
    """Try the reader's ``haar``, x → (ll, lh, hl, hh); print ✓ or a diagnosis. True if all is well."""
    x = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(5))
    want = ll, lh, hl, hh = haar.dwt2(x)
    a, b, c, d = (quarter for half in x.chunk(2, dim=-2) for quarter in half.chunk(2, dim=-1))
    mistakes = {
        "lh and hl are swapped: the first letter filters along the height, the second along the width": (ll, hl, lh, hh),
        "these are PyWavelets' cA, cH, cV, cD: its cH is −hl and its cV is −lh": (ll, -hl, -lh, hh),
        "lh and hl have the wrong sign: H = (−1, 1) takes the earlier pixel from the later one": (ll, -lh, -hl, hh),
        "hh has the wrong sign: the two minus signs of H cancel at the top left, (a − b − c + d)/2": (ll, lh, hl, -hh),
        "the ½ is missing: 1/√2 along the height times 1/√2 along the width": (2 * ll, 2 * lh, 2 * hl, 2 * hh),
        "divided by 4: the energy is kept when the sums are halved": (ll / 2, lh / 2, hl / 2, hh / 2),
        "ll is the mean of the block, but the other bands are halved: halve the sum there too": (ll / 2, lh, hl, hh),
        "divided by √2 only once: there is one 1/√2 for the height and one for the width": tuple(2 ** 0.5 * band for band in want),
        "the picture was cut into quarters: a is x[..., 0::2, 0::2], every second pixel of every second row":
            ((a + b + c + d) / 2, (-a + b - c + d) / 2, (-a - b + c + d) / 2, (a - b - c + d) / 2),
    }
    got, problem = attempt(fn, x.clone())
    problem = problem or misshapen_bands(got, tuple(ll.shape))
    return conclude("haar", problem or diagnose(torch.stack(tuple(got)), torch.stack(want),
                                                {words: torch.stack(wrong) for words, wrong in mistakes.items()}))


def misshapen_bands(got, shape: tuple[int, ...]) -> str | None:
    """What keeps an answer from being four bands of a shape, or None."""
    if isinstance(got, Tensor):
        return "it returns one tensor: return the four bands, return ll, lh, hl, hh"
    if not isinstance(got, (tuple, list)) or len(got) != 4:
        found = f"{len(got)} values" if isinstance(got, (tuple, list)) else f"a {type(got).__name__}"
        return f"it returns {found}, expected the four bands ll, lh, hl, hh (PyWavelets nests them: cA, (cH, cV, cD))"
    for name, band in zip(("ll", "lh", "hl", "hh"), got):
        if not isinstance(band, Tensor):
            return f"{name} is a {type(band).__name__}, expected a tensor"
        if tuple(band.shape) != shape:
            return f"{name} has the shape {tuple(band.shape)}, expected {shape}: half the height and half the width"
    return None


def check_inverse_haar(fn) -> bool:
    """Try the reader's ``inverse_haar``, (ll, lh, hl, hh) → x; print ✓ or a diagnosis. True if all is well."""
    generator = torch.Generator().manual_seed(6)
    ll, lh, hl, hh = (torch.randn(2, 3, 2, 4, generator=generator) for _ in range(4))
    none, want = torch.zeros_like(ll), haar.idwt2(ll, lh, hl, hh)
    mistakes = {
        "lh and hl are swapped: lh turns its sign from left to right, hl from top to bottom": haar.idwt2(ll, hl, lh, hh),
        "lh and hl have the wrong sign: with H = (−1, 1), lh is added on the right and taken away on the left":
            haar.idwt2(ll, -lh, -hl, hh),
        "hh has the wrong sign: it is added on the main diagonal, at a and d": haar.idwt2(ll, lh, hl, -hh),
        "the ½ is missing: the transform is orthonormal, so its inverse has the same factor": 2 * want,
        "divided by 4: the transform halved, the inverse halves again, and that is all": want / 2,
        "only ll was used: the picture without its detail": haar.idwt2(ll, none, none, none),
        "ll was left out: the detail without the picture": haar.idwt2(none, lh, hl, hh),
        "the bands lie side by side: their values must be mixed, then interleaved, x[..., 0::2, 0::2] = (ll − lh − hl + hh) / 2":
            torch.cat([torch.cat([ll, lh], dim=-1), torch.cat([hl, hh], dim=-1)], dim=-2),
    }
    return report("inverse_haar", fn, (ll, lh, hl, hh), want, mistakes)


def check_weighted_hf_mse(fn) -> bool:
    """Try the reader's ``weighted_hf_mse``; print ✓ or a diagnosis. True if all is well."""
    generator = torch.Generator().manual_seed(7)
    adapted, target = (torch.randn(4, 3, 8, 8, generator=generator) for _ in range(2))
    a = torch.tensor([0.9, 0.5, 0.2, 0.01])
    error = haar.high_frequency(adapted) - haar.high_frequency(target)           # (4,3,4,4)
    square, column = error.square(), a.view(-1, 1, 1, 1)
    bands = torch.stack(haar.dwt2(adapted - target))                              # (4 bands,4,3,4,4)
    mistakes = {
        "the weight is not used": square.mean(),
        "one weight for the whole batch: weigh each image's error first, then take the mean": a.mean() * square.mean(),
        "the weight ran along the width: give it the shape (N,1,1,1) with .view(-1, 1, 1, 1)": (a * square).mean(),
        "every image got the first image's weight": a[0] * square.mean(),
        "the mean is missing: this is the sum over everything": (column * square).sum(),
        "the mean over the images is missing: each image's mean error was added up": (column * square).mean(dim=(1, 2, 3)).sum(),
        "divided by the sum of the weights: then steps near T weigh as much as before": (column * square).mean() / a.mean(),
        "the weight is squared with the error: weigh the square": (column * error).square().mean(),
        "this is the square root of ᾱ_t: the weight is ᾱ_t itself": (column.sqrt() * square).mean(),
        "this is 1 − ᾱ_t: it would raise the steps near T instead": ((1 - column) * square).mean(),
        "these are absolute errors: square them": (column * error.abs()).mean(),
        "these are pixels: take hf(x) = LH + HL + HH of both first": (column * (adapted - target).square()).mean(),
        "LL is in the sum too: hf(x) is LH + HL + HH": (column * bands.sum(0).square()).mean(),
        "this is LL: hf(x) is LH + HL + HH": (column * bands[0].square()).mean(),
        "the three bands are squared one by one: the loss squares their sum, hf(x) = LH + HL + HH":
            (column * bands[1:].square()).mean(),
        "the three squared bands are added: the loss squares their sum, hf(x) = LH + HL + HH":
            (column * bands[1:].square().sum(0)).mean(),
    }
    return report("weighted_hf_mse", fn, (adapted, target, a), weighted_hf_mse(adapted, target, a), mistakes)


# ------------------------------------------------------------------------------------------------------------ chapter 03

def intra_lpips_by_hand(distances_to_targets: Tensor, distances_within: Tensor) -> float:
    """Each sample joins its nearest target; mean distance of two samples inside each group, then over the groups.

    distances_to_targets: samples to training images (N,K); distances_within: samples to samples (N,N), zero diagonal.
    Groups with fewer than two samples have no pair and are left out.
    """
    nearest = distances_to_targets.argmin(dim=1)
    groups = []
    for k in nearest.unique():
        member = nearest == k
        n = int(member.sum())
        if n > 1:
            groups.append(distances_within[member][:, member].sum() / (n * (n - 1)))
    return float(torch.stack(groups).mean())


SOLUTIONS["intra_lpips_by_hand"] = intra_lpips_by_hand
SOLUTIONS["copy_rate"] = metrics.copy_rate


def as_number(got) -> object:
    """A Python, NumPy or one-element tensor number as a 0-dim float tensor; anything else as it is, for ``diagnose``."""
    try:
        return torch.tensor(float(got)) if isinstance(got, Real) or getattr(got, "shape", None) == () else got
    except (TypeError, ValueError, RuntimeError):
        return got


def grouped_case() -> tuple[Tensor, Tensor]:
    """Ten samples, seven targets: groups of 4, 3, 2 and 1 samples, three targets without any. (10,7), (10,10)."""
    generator = torch.Generator().manual_seed(7)
    to_targets = 0.5 + 0.3 * torch.rand(10, 7, generator=generator)
    to_targets[torch.arange(10), torch.tensor([3, 0, 3, 4, 3, 0, 3, 5, 5, 5])] = 0.2 + 0.1 * torch.rand(10, generator=generator)
    upper = (0.1 + 0.5 * torch.rand(10, 10, generator=generator)).triu(1)
    return to_targets, upper + upper.T


def check_intra_lpips_by_hand(fn) -> bool:
    """Try the reader's Intra-LPIPS; print ✓ or a diagnosis. True if all is well."""
    to_targets, within = grouped_case()
    nearest = to_targets.argmin(1)
    blocks = [within[nearest == k][:, nearest == k] for k in nearest.unique()]
    totals = torch.tensor([float(block.sum()) for block in blocks])
    n = torch.tensor([float(len(block)) for block in blocks])
    pairs, many = n * (n - 1), n > 1
    inside = totals[many] / pairs[many]
    one = (nearest[:, None] == nearest[None]) & ~torch.eye(len(nearest), dtype=torch.bool)
    mistakes = {
        "the diagonal is in the mean: a sample's distance to itself is no pair, divide by n·(n−1), not by n²":
            (totals / n**2)[many].mean(),
        "the diagonal is in the mean, and a group of one counts as 0: divide by n·(n−1) and leave that group out":
            (totals / n**2).mean(),
        "this is the mean over all pairs: only samples with the same nearest target are compared":
            within.sum() / (len(within) * (len(within) - 1)),
        "a group of one sample counts as 0: it has no pair, leave it out": inside.sum() / len(blocks),
        "targets with fewer than two samples count as 0: they have no pair, leave them out": inside.sum() / to_targets.shape[1],
        "every pair counts alike: take the mean inside each group first, then over the groups, large or small": within[one].mean(),
        "each pair is summed once but n·(n−1) counts it twice: sum the whole block, or halve the number": inside.mean() / 2,
        "each pair is counted twice: there are n·(n−1)/2 pairs, but the whole block holds each of them twice": inside.mean() * 2,
        "the groups are summed: take the mean over them": inside.sum(),
        "samples were sent to the farthest target: argmin": wrong_groups(to_targets, within),
    }
    got, problem = attempt(fn, to_targets.clone(), within.clone())
    want = torch.tensor(intra_lpips_by_hand(to_targets, within))
    return conclude("intra_lpips_by_hand", problem or diagnose(as_number(got), want, mistakes))


def wrong_groups(to_targets: Tensor, within: Tensor) -> Tensor:
    """Intra-LPIPS with every sample in the group of the target farthest from it."""
    return torch.tensor(intra_lpips_by_hand(-to_targets, within))


def check_copy_rate(fn) -> bool:
    """Try the reader's ``copy_rate``, with the default percentile and another; print ✓ or a diagnosis."""
    real = (0.20 + 0.01 * torch.arange(41))[torch.randperm(41, generator=torch.Generator().manual_seed(8))]
    samples = torch.tensor([0.35, 0.02, 0.225, 0.65, 0.215, 0.42, 0.08, 0.5, 0.3, 0.45])
    mistakes = {words: torch.tensor(value) for words, value in {
        "the wrong side: this is the share of samples that are *farther* than the threshold": 0.7,
        "this is in per cent: return a share, from 0 to 1": 30.0,
        "this is how many: divide by the number of samples": 3.0,
        "the threshold is a percentile of the samples: it must come from the real images, which copy nothing": 0.1,
        "the arguments are swapped: this is the share of real images below a percentile of the samples": 0.0,
        "this is the 95th percentile: the threshold lies at the near end, 5 % of the real images are below it": 0.9,
        "the threshold lies below nearly all real images: is it percentile/100 twice, or their minimum?": 0.2,
        "the threshold is the middle of the real images: half of all honest pictures lie below that": 0.6,
    }.items()}
    got, problem = attempt(fn, samples.clone(), real.clone())
    if problem and "quantile" in problem:
        problem += ": torch.quantile takes a share, percentile / 100"
    problem = problem or diagnose(as_number(got), torch.tensor(0.3), mistakes)
    if problem is None:
        got, problem = attempt(fn, samples.clone(), real.clone(), 50)
        problem = problem or diagnose(as_number(got), torch.tensor(0.6), {"the argument percentile is not used": torch.tensor(0.3)})
        problem = problem and f"right for the default percentile, but not for another: {problem}"
    return conclude("copy_rate", problem)
