"""Self-checks of chapter 02b: the method for points, in five functions that call each other."""

import copy

import torch
from torch import Tensor, nn

from .. import ddpm, losses
from ..plane import plane
from .common import attempt, conclude, diagnose, diagnose_gradient, report


def noise_points(x_0: Tensor, t: Tensor, eps: Tensor, a_bar: Tensor) -> Tensor:
    """√ᾱ_t·x_0 + √(1−ᾱ_t)·ε: (N,2), (N,), (N,2), (T,) → (N,2)."""
    a = a_bar[t][:, None]                                          # (N,1)
    return a.sqrt() * x_0 + (1 - a).sqrt() * eps


def guess_points(x_t: Tensor, t: Tensor, eps: Tensor, a_bar: Tensor) -> Tensor:
    """x̃_0 = (x_t − √(1−ᾱ_t)·ε) / √ᾱ_t: (N,2), (N,), (N,2), (T,) → (N,2)."""
    a = a_bar[t][:, None]
    return (x_t - (1 - a).sqrt() * eps) / a.sqrt()


def angle_log_probs(x: Tensor) -> Tensor:
    """log p_i, the log-softmax of each point's cosines with the others: (N,2) → (N,N−1)."""
    direction = x / x.norm(dim=1, keepdim=True)
    cosine = direction @ direction.T                               # (N,N)
    others = ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    return cosine[others].view(len(x), -1).log_softmax(dim=1)


def angle_kl(adapted: Tensor, source: Tensor) -> Tensor:
    """L_img = Σ_i KL(p_i^ada ‖ p_i^sou), no gradient into the source: (N,2), (N,2) → scalar."""
    log_a, log_s = angle_log_probs(adapted), angle_log_probs(source.detach())
    return (log_a.exp() * (log_a - log_s)).sum()


def adapt(source: nn.Module, batches: list, a_bar: Tensor, lambda_img: float,
          lr: float) -> nn.Module:
    """A copy of the source after an Adam step a batch on L_simple + λ·L_img, lr falling to 0."""
    model = copy.deepcopy(source)
    optimizer = torch.optim.Adam(model.parameters(), lr)
    for step, (x_0, t, eps, y_0, s, eta) in enumerate(batches):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / len(batches))
        loss = (model(noise_points(x_0, t, eps, a_bar), t) - eps).square().mean()
        if lambda_img:
            y_s = noise_points(y_0, s, eta, a_bar)
            with torch.no_grad():
                before = guess_points(y_s, s, source(y_s, s), a_bar)
            after = guess_points(y_s, s, model(y_s, s), a_bar)
            after = after.detach() + a_bar[s].sqrt()[:, None] * (after - after.detach())      # without dslib
            loss = loss + lambda_img * angle_kl(after, before)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


# ------------------------------------------------------------------------------------- checks


def points_case() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Five points at five steps: (x_0, t, eps, a_bar, ᾱ shaped (5,1))."""
    dice, t = plane.generator(1), torch.tensor([3, 120, 333, 480, 800])
    x_0, eps = torch.randn(5, 2, generator=dice), torch.randn(5, 2, generator=dice)
    return x_0, t, eps, plane.A_BAR, plane.A_BAR[t].view(-1, 1)


def check_noise_points(fn) -> bool:
    """Try the reader's forward process for points; print ✓ or a diagnosis. True if all is well."""
    x_0, t, eps, a_bar, a = points_case()
    first = a[:1]
    mistakes = {
        "the square roots are missing: √ᾱ_t times the point, √(1−ᾱ_t) times the noise":
            a * x_0 + (1 - a) * eps,
        "the noise is not scaled: √(1−ᾱ_t) is forgotten": a.sqrt() * x_0 + eps,
        "the point is not scaled: √ᾱ_t is forgotten": x_0 + (1 - a).sqrt() * eps,
        "point and noise are swapped": a.sqrt() * eps + (1 - a).sqrt() * x_0,
        "all points got the first one's t: look up one ᾱ_t a point, a_bar[t][:, None]":
            first.sqrt() * x_0 + (1 - first).sqrt() * eps,
    }
    want = ddpm.q_sample(x_0, t, eps, a_bar)
    return report("noise_points", fn, (x_0, t, eps, a_bar), want, mistakes)


def check_guess_points(fn) -> bool:
    """Try the reader's guess of x_0; print ✓ or a diagnosis. True if all is well."""
    x_0, t, eps, a_bar, a = points_case()
    x_t = ddpm.q_sample(x_0, t, eps, a_bar)
    mistakes = {
        "√(1−ᾱ_t) is forgotten: scale the noise before you take it away": (x_t - eps) / a.sqrt(),
        "the division by √ᾱ_t is missing": x_t - (1 - a).sqrt() * eps,
        "divided by ᾱ_t: it is its square root": (x_t - (1 - a).sqrt() * eps) / a,
        "the square roots are missing": (x_t - (1 - a) * eps) / a,
        "the noise is added where it must be taken away": (x_t + (1 - a).sqrt() * eps) / a.sqrt(),
    }
    return report("guess_points", fn, (x_t, t, eps, a_bar), x_0, mistakes)


def check_angle_log_probs(fn) -> bool:
    """Try the reader's softmax over angles; print ✓ or a diagnosis. True if all is well."""
    x = torch.randn(5, 2, generator=plane.generator(2))
    x = x * torch.tensor([1.0, 2.0, 3.0, 0.5, 1.0])[:, None]
    similar, want, raw = losses.cosine_matrix(x), losses.pairwise_log_probs(x), x @ x.T
    turns = losses.drop_diagonal(torch.deg2rad(plane.turn(x[:, None], x[None])))
    mistakes = {
        "the softmax runs over the wrong axis: every row must sum to one, dim=1":
            torch.log_softmax(losses.drop_diagonal(similar), dim=0),
        "these are dot products: divide each point by its length first":
            torch.log_softmax(losses.drop_diagonal(raw), dim=1),
        "these are probabilities: return their logarithms": want.exp(),
        "the diagonal took part in the softmax before you dropped it":
            losses.drop_diagonal(torch.log_softmax(similar, dim=1)),
        "these are cosines: the softmax is missing": losses.drop_diagonal(similar),
        "this is a softmax of angles: near points must get much, so use their cosines":
            torch.log_softmax(turns, dim=1),
    }
    got, problem = attempt(fn, x.clone())
    if problem is None and isinstance(got, Tensor) and tuple(got.shape) == (5, 5):
        problem = "the diagonal is kept: leave out each point's cosine with itself, (N,N) → (N,N−1)"
    return conclude("angle_log_probs", problem or diagnose(got, want, mistakes))


def check_angle_kl(fn) -> bool:
    """Try the reader's divergence, value and gradients; print ✓ or a diagnosis. True if right."""
    dice = plane.generator(3)
    adapted, source = (torch.randn(6, 2, generator=dice, requires_grad=True) for _ in range(2))
    want = losses.pairwise_kl(adapted, source).detach()
    back, mean = "sou||ada", "mean"
    mistakes = {
        "the arguments are swapped: this is KL(source‖adapted), the paper's is KL(adapted‖source)":
            losses.pairwise_kl(adapted, source, back).detach(),
        "this is the mean over all entries: the paper sums":
            losses.pairwise_kl(adapted, source, reduction=mean).detach(),
        "this is the sum divided by N: the paper sums over the batch": want / 6,
        "the arguments are swapped, and it is a mean: the authors' code, not the paper":
            losses.pairwise_kl(adapted, source, back, mean).detach(),
        "the sign is wrong: a KL divergence is never negative": -want,
    }
    got, problem = attempt(fn, adapted, source)
    problem = problem or diagnose(got.detach() if isinstance(got, Tensor) else got, want, mistakes)
    wanted, = torch.autograd.grad(losses.pairwise_kl(adapted, source), adapted)
    return conclude("angle_kl", problem or diagnose_gradient(got, adapted, source, wanted))


def weights_of(model: nn.Module) -> Tensor:
    """All weights of a network as one vector."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def wrong_loop(source: nn.Module, drawn: list, lambda_img: float, lr: float, what: str) -> Tensor:
    """The weights that a loop with one typical mistake ends with."""
    model = copy.deepcopy(source)
    optimizer = (torch.optim.SGD if what == "sgd" else torch.optim.Adam)(model.parameters(), lr)
    for step, batch in enumerate(drawn[:1] if what == "first" else drawn):
        optimizer.param_groups[0]["lr"] = lr * (1 if what == "constant" else 1 - step / len(drawn))
        if what == "ten":
            batch = plane.Batch(*batch[:3], *batch[:3])
        direction = "sou||ada" if what == "backwards" else "ada||sou"
        img = plane.img_loss(model, source, batch, what != "unweighted", direction)
        img = img / len(batch.y_0) if what == "batchmean" else img
        loss = lambda_img * img * (-1 if what == "sign" else 1)
        share = {"alone": 0, "coordinates": 2}.get(what, 1)
        loss = loss + share * plane.simple_loss(model, batch)
        if what != "accumulate":
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return weights_of(model)


LOOPS = {
    "accumulate": "the gradients of all steps pile up: optimizer.zero_grad() before backward()",
    "ten": "the pairwise term looks at the ten: it must look at y_0, with s and eta",
    "unweighted": "scale_gradient is missing: the guesses near T pull far too hard",
    "sign": "the pairwise term is subtracted: both terms are to become small, add them",
    "alone": "L_simple is missing: nothing teaches the new ring",
    "sgd": "this is plain SGD: use torch.optim.Adam(model.parameters(), lr)",
    "constant": "the learning rate stays as it was: it must fall to 0 along the batches",
    "first": "only the first batch was used: is the return inside the loop?",
    "coordinates": "L_simple is summed over x and y: it is the mean over both coordinates, too",
    "backwards": "the divergence is turned round: the adapted model's guess is the first argument",
    "batchmean": "L_img is divided by the number of points: the paper's is a sum",
}


def check_adapt(fn) -> bool:
    """Try the reader's loop against the reference's weights; print ✓ or a diagnosis."""
    source = plane.new_denoiser(8, seed=4)
    drawn = plane.batches(plane.ring(10, 2.0, 5), 4, 6, plane.ring(20, 1.0, 7), size=5)
    before, want = weights_of(source), weights_of(adapt(source, drawn, plane.A_BAR, 0.5, 0.01))
    given = copy.deepcopy(source)
    got, problem = attempt(fn, given, list(drawn), plane.A_BAR, 0.5, 0.01)
    if problem is None and (got is given or not torch.equal(weights_of(given), before)):
        problem = "the source itself was trained: adapt copy.deepcopy(source)"
    if problem is None and not isinstance(got, nn.Module):
        problem = f"it returns a {type(got).__name__}, expected the adapted network"
    if problem is None and torch.equal(weights_of(got), before):
        problem = "the copy has the source's weights: no step was taken, or on other parameters"
    if problem is None:
        mistakes = {LOOPS[what]: wrong_loop(source, drawn, 0.5, 0.01, what) for what in LOOPS}
        naive = weights_of(adapt(source, drawn, plane.A_BAR, 0.0, 0.01))
        mistakes["the pairwise term teaches nothing: is it added, times λ, and is only the "
                 "*source's* guess in no_grad?"] = naive
        problem = diagnose(weights_of(got), want, mistakes)
    return conclude("adapt", problem)
