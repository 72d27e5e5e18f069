"""The losses of DomainStudio, tensors in and tensors out (chapters 04, 05 and 06)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .base.errors import UserError
from .ddpm import at
from .haar import high_frequency


def cosine_matrix(x: Tensor) -> Tensor:
    """Cosine similarity of every pair of images, flattened: (N,…) → (N,N), in [-1,1], ones on the
    diagonal."""
    flat = F.normalize(x.float().flatten(1), dim=1)
    return flat @ flat.T


def drop_diagonal(square: Tensor) -> Tensor:
    """(N,N) → (N,N−1): each row without its own entry, order kept."""
    n = len(square)
    return square.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)


def pairwise_log_probs(x: Tensor, temperature: float = 1.0) -> Tensor:
    """log p_i: how similar image i is to each *other* image, as a distribution (DomainStudio §1,
    p_i).

    x: (N,…), any trailing shape. Returns (N,N−1): log softmax over j≠i of cos(x_i, x_j) /
    temperature (paper: 1). Raises UserError for fewer than two images, which have no pair to
    compare.
    """
    if len(x) < 2:
        raise UserError(f"a pairwise loss compares images with each other: a batch of {len(x)} "
                        f"has no pair, use at least 2")
    return F.log_softmax(drop_diagonal(cosine_matrix(x)) / temperature, dim=1)


def pairwise_kl(adapted: Tensor, source: Tensor, direction: str = "ada||sou",
                reduction: str = "sum",
                temperature: float = 1.0) -> Tensor:
    """L_img = Σ_i KL(p_i^ada ‖ p_i^sou) (DomainStudio §1): keep the relative distances of the
    source's images.

    adapted, source: predicted clean images (N,…) from the same x_t; no gradient is sent to the
    source. direction: ``"ada||sou"`` (paper) or ``"sou||ada"`` (the authors' code); reduction:
    ``"sum"`` over the batch (paper) or ``"mean"`` over the N·(N−1) entries (code); temperature: of
    the softmax. Returns a scalar ≥ 0, zero exactly when the distributions are the same; so always
    for N = 2, where each has a single entry.
    """
    log_a = pairwise_log_probs(adapted, temperature)
    log_s = pairwise_log_probs(source.detach(), temperature)
    if direction not in ("ada||sou", "sou||ada") or reduction not in ("sum", "mean"):
        raise UserError(f"direction {direction!r}, reduction {reduction!r}: use 'ada||sou' "
                        f"(paper) or 'sou||ada' (authors' code), "
                        "and 'sum' (paper) or 'mean' (authors' code)")
    log_p, log_q = (log_a, log_s) if direction == "ada||sou" else (log_s, log_a)
    entries = log_p.exp() * (log_p - log_q)              # (N, N−1)
    return entries.sum() if reduction == "sum" else entries.mean()


def hf_pairwise_kl(adapted: Tensor, source: Tensor, *options, hf=high_frequency, **more) -> Tensor:
    """L_hf (DomainStudio §1): :func:`pairwise_kl`, with its options, between the high-frequency
    parts hf(x) of images (N,C,H,W)."""
    return pairwise_kl(hf(adapted), hf(source), *options, **more)


def hf_mse(adapted: Tensor, target: Tensor, weight: Tensor | None = None,
           hf=high_frequency) -> Tensor:
    """L_hfmse = mean (hf(x̃_0^ada) − hf(x_0))² (DomainStudio §1): learn the target's detail.

    adapted, target: (N,C,H,W); weight: (N,), one factor an image, e.g. ᾱ_t, which turns the error
    of x̃_0 into ``(1−ᾱ_t)·|hf(ε−ε_ada)|²`` and keeps steps near T from drowning the rest; None:
    unweighted, as published.
    """
    per_image = (hf(adapted) - hf(target)).square().flatten(1).mean(dim=1)  # (N,)
    return per_image.mean() if weight is None else (weight * per_image).mean()


def scale_gradient(x: Tensor, factor: Tensor) -> Tensor:
    """x itself (N,…), but what flows back through image i is multiplied by factor_i (N,).

    ∂x̃_0/∂ε = −√(1−ᾱ_t)/√ᾱ_t: near T a pairwise loss on x̃_0 pulls up to 157 times as hard as one
    on ε would. With factor √ᾱ_t the loss keeps its value, and every step its say.
    """
    factor = factor.view(-1, *[1] * (x.dim() - 1))
    return x.detach() + factor * (x - x.detach())


def vlb(eps: Tensor, v: Tensor, x_0: Tensor, x_t: Tensor, t: Tensor, betas: Tensor) -> Tensor:
    """L_vlb of improved DDPM (Nichol & Dhariwal 2021, eqs. 4, 15, 16) for a learned variance; bits
    a dimension.

    eps: the noise that the model's first C channels imply, v: the other C, each (N,C,H,W); v in
    about [-1,1] places log σ² between log β̃_t and log β_t. The mean is detached: this term trains
    the variance alone. x_0 in [-1,1]; betas: (T,). KL(q(x_{t−1}|x_t,x_0) ‖ p) for t > 0, the
    discretised Gaussian's −log p(x_0|x_1) for t = 0. Returns a scalar.
    """
    a_bar = torch.cumprod(1 - betas, 0)
    a_prev = F.pad(a_bar[:-1], (1, 0), value=1.0)
    beta_tilde = betas * (1 - a_prev) / (1 - a_bar)
    # β̃_0 = 0: its log is clipped to β̃_1's
    beta_tilde = torch.cat([beta_tilde[1:2], beta_tilde[1:]])
    from_x0 = at(betas * a_prev.sqrt() / (1 - a_bar), t, x_t)
    from_xt = at((1 - betas).sqrt() * (1 - a_prev) / (1 - a_bar), t, x_t)
    a = at(a_bar, t, x_t)
    x0_model = ((x_t - (1 - a).sqrt() * eps.detach()) / a.sqrt()).clamp(-1, 1)
    mean_true, mean = from_x0 * x_0 + from_xt * x_t, from_x0 * x0_model + from_xt * x_t
    log_min, log_max = at(beta_tilde.log(), t, x_t), at(betas.log(), t, x_t)
    log_var = torch.lerp(log_min.expand_as(v), log_max.expand_as(v), (v + 1) / 2)
    kl = 0.5 * (log_var
                - log_min - 1 + (log_min
                                 - log_var).exp() + (mean_true - mean).square() * (-log_var).exp())
    nll = -discretised_gaussian_log_likelihood(x_0, mean, 0.5 * log_var)
    per_image = torch.where(at((t == 0).float(), torch.arange(len(t), device=t.device), x_t) > 0,
                            nll, kl).flatten(1).mean(1)
    return per_image.mean() / math.log(2)


def discretised_gaussian_log_likelihood(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """log of the Gaussian's mass in x's 1/255-wide bin; the end bins of [-1,1] are open (DDPM eq.
    13). Elementwise."""
    cdf = torch.distributions.Normal(0.0, 1.0).cdf
    upper = cdf((x + 1 / 255 - mean) * (-log_std).exp())
    lower = cdf((x - 1 / 255 - mean) * (-log_std).exp())
    upper = torch.where(x > 0.999, torch.ones_like(upper), upper)
    lower = torch.where(x < -0.999, torch.zeros_like(lower), lower)
    return (upper - lower).clamp(min=1e-12).log()
