"""The forward process and its inverse guess, two formulas that everything else uses (chapter 01)."""

import torch
from torch import Tensor


def linear_betas(num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02) -> Tensor:
    """The linear schedule of Ho et al. 2020: float32 (T,), the values diffusers' ``DDPMScheduler`` uses."""
    return torch.linspace(beta_start, beta_end, num_train_timesteps)


def alphas_cumprod(betas: Tensor) -> Tensor:
    """ᾱ_t = Π_{s≤t} (1 − β_s): how much of x_0's variance is left at step t. (T,) → (T,), in (0, 1)."""
    return torch.cumprod(1.0 - betas, dim=0)


def at(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """Look up ``values[t]`` and shape it (N,1,1,1) so that it broadcasts over images ``like`` (N,C,H,W)."""
    return values.to(like.device)[t].to(like.dtype).view(-1, *[1] * (like.ndim - 1))


def q_sample(x_0: Tensor, t: Tensor, eps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Noise clean images to step t (DDPM eq. 4): x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε.

    x_0, eps: (N,C,H,W), x_0 in [-1,1]; t: (N,) integers in [0,T); alphas_cumprod: (T,). Returns (N,C,H,W).
    """
    a = at(alphas_cumprod, t, x_0)
    return a.sqrt() * x_0 + (1 - a).sqrt() * eps


def predict_x0(x_t: Tensor, t: Tensor, eps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The clean image a noise prediction implies (DomainStudio §1): x̃_0 = (x_t − √(1−ᾱ_t)·ε) / √ᾱ_t.

    Shapes as in :func:`q_sample`, of which it is the exact inverse when eps is the true noise. Not clamped:
    near t = T the division by √ᾱ_t ≈ 0.006 magnifies every error of eps about 150-fold.
    """
    a = at(alphas_cumprod, t, x_t)
    return (x_t - (1 - a).sqrt() * eps) / a.sqrt()


def sample_timesteps(n: int, num_train_timesteps: int, generator: torch.Generator, device="cpu") -> Tensor:
    """n steps, each uniform on [0,T), spread evenly over it (stratified, as in VDM, Kingma et al. 2021, app. I.1).

    One image in every T/n-wide stretch: the same expected loss as independent draws, with less variance.
    """
    u = torch.rand((), generator=generator, device=device)
    spread = (u + torch.arange(n, device=device) / n) % 1.0
    order = torch.randperm(n, generator=generator, device=device)
    return (spread[order] * num_train_timesteps).long().clamp_(max=num_train_timesteps - 1)
