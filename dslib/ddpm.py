"""The forward process, what a network is asked for and what its answer implies (chapter 01)."""

from typing import NamedTuple

import torch
from torch import Tensor

from .base.errors import UserError


def linear_betas(num_train_timesteps: int = 1000, beta_start: float = 1e-4,
                 beta_end: float = 0.02) -> Tensor:
    """The linear schedule of Ho et al. 2020: float32 (T,), the values diffusers' ``DDPMScheduler``
    uses."""
    return torch.linspace(beta_start, beta_end, num_train_timesteps)


def alphas_cumprod(betas: Tensor) -> Tensor:
    """ᾱ_t = Π_{s≤t} (1 − β_s): how much of x_0's variance is left at step t. (T,) → (T,), in (0,
    1)."""
    return torch.cumprod(1.0 - betas, dim=0)


def at(values: Tensor, t: Tensor, like: Tensor) -> Tensor:
    """Look up ``values[t]`` and shape it (N,1,1,1) so that it broadcasts over images ``like``
    (N,C,H,W)."""
    return values.to(like.device)[t].to(like.dtype).view(-1, *[1] * (like.ndim - 1))


def q_sample(x_0: Tensor, t: Tensor, eps: Tensor, a_bar: Tensor) -> Tensor:
    """Noise clean images to step t (DDPM eq. 4): x_t = √ᾱ_t·x_0 + √(1−ᾱ_t)·ε.

    x_0, eps: (N,C,H,W), x_0 in [-1,1]; t: (N,) integers in [0,T); a_bar: (T,). Returns
    (N,C,H,W).
    """
    a = at(a_bar, t, x_0)
    return a.sqrt() * x_0 + (1 - a).sqrt() * eps


def predict_x0(x_t: Tensor, t: Tensor, eps: Tensor, a_bar: Tensor) -> Tensor:
    """The clean image a noise prediction implies (DomainStudio §1): x̃_0 = (x_t − √(1−ᾱ_t)·ε) /
    √ᾱ_t. Of a network that may answer ε or v: :func:`guess`.

    Shapes as in :func:`q_sample`, of which it is the exact inverse when eps is the true noise. Not
    clamped: near t = T the division by √ᾱ_t ≈ 0.006 magnifies every error of eps about 150-fold.
    """
    a = at(a_bar, t, x_t)
    return (x_t - (1 - a).sqrt() * eps) / a.sqrt()


def sample_timesteps(n: int, num_train_timesteps: int, generator: torch.Generator,
                     device="cpu") -> Tensor:
    """n steps, each uniform on [0,T), spread evenly over it (stratified, as in VDM, Kingma et al.
    2021, app. I.1).

    One image in every T/n-wide stretch: the same expected loss as independent draws, with less
    variance.
    """
    u = torch.rand((), generator=generator, device=device)
    spread = (u + torch.arange(n, device=device) / n) % 1.0
    order = torch.randperm(n, generator=generator, device=device)
    return (spread[order] * num_train_timesteps).long().clamp_(max=num_train_timesteps - 1)


# ------------------------------------------------------ what the network is asked for: ε or v

PREDICTION_TYPES = ("epsilon", "v_prediction")


def check_prediction_type(prediction_type: str, where: str = "the scheduler") -> str:
    """The type itself, or a UserError for any but ``epsilon`` and ``v_prediction``."""
    if prediction_type not in PREDICTION_TYPES:
        raise UserError(f"{where} says prediction_type {prediction_type!r}: only "
                        f"{' and '.join(PREDICTION_TYPES)} are known, take a model trained for one")
    return prediction_type


def prediction_type_of(scheduler) -> str:
    """A scheduler's prediction type; one that does not say means ``epsilon``, as in diffusers.

    Raises UserError for a type that is neither ``epsilon`` nor ``v_prediction``.
    """
    return check_prediction_type(scheduler.config.get("prediction_type") or "epsilon")


def velocity(x_0: Tensor, eps: Tensor, t: Tensor, a_bar: Tensor) -> Tensor:
    """The velocity of Salimans & Ho 2022 (app. D): v = √ᾱ_t·ε − √(1−ᾱ_t)·x_0.

    x_0, eps: (N,C,H,W), x_0 in [-1,1]; t: (N,) integers in [0,T); a_bar: (T,). Returns (N,C,H,W).
    It is dx_t/dφ where √ᾱ_t = cos φ: nearly ε at little noise, nearly −x_0 at much.
    """
    a = at(a_bar, t, x_0)
    return a.sqrt() * eps - (1 - a).sqrt() * x_0


def target(x_0: Tensor, eps: Tensor, t: Tensor, a_bar: Tensor,
           prediction_type: str = "epsilon") -> Tensor:
    """What the network is asked for at x_t: ε itself, or :func:`velocity`. Shapes as there.

    Raises UserError for any other prediction type.
    """
    if check_prediction_type(prediction_type) == "epsilon":
        return eps
    return velocity(x_0, eps, t, a_bar)


class Guess(NamedTuple):
    """What a network's output says about x_t."""
    x_0: Tensor     # (N,C,H,W) the clean image, not clamped
    eps: Tensor     # (N,C,H,W) the noise


def guess(output: Tensor, x_t: Tensor, t: Tensor, a_bar: Tensor,
          prediction_type: str = "epsilon") -> Guess:
    """The clean image and the noise that a network's output implies, whichever of ε and v it is.

    output, x_t: (N,C,H,W); t: (N,) integers in [0,T); a_bar: (T,).
    ε: :func:`predict_x0`. v: x̃_0 = √ᾱ_t·x_t − √(1−ᾱ_t)·v and ε̂ = √ᾱ_t·v + √(1−ᾱ_t)·x_t
    (Salimans & Ho 2022, app. D): no division by √ᾱ_t, so an error of v is never magnified.
    Raises UserError for any other prediction type.
    """
    if check_prediction_type(prediction_type) == "epsilon":
        return Guess(predict_x0(x_t, t, output, a_bar), output)
    a = at(a_bar, t, x_t)
    return Guess(a.sqrt() * x_t - (1 - a).sqrt() * output, a.sqrt() * output + (1 - a).sqrt() * x_t)


def snr_weight(a_bar: Tensor, t: Tensor, gamma: float = 5.0, prediction_type: str = "epsilon",
               least: float = 0.1) -> Tensor:
    """Min-SNR-γ weights of the answer's squared error (Hang et al. 2023), SNR = ᾱ_t/(1−ᾱ_t).

    a_bar: (T,); t: (N,) integers in [0,T). Returns (N,). ε: min(SNR,γ)/SNR, in (0,1]. v:
    min(SNR,γ)/(SNR+1), in [least, γ/(γ+1)]: the floor ``least`` keeps steps near T alive, where
    SNR → 0 and v ≈ −x_0 carries the colours.
    """
    snr = a_bar.to(t.device)[t] / (1 - a_bar.to(t.device)[t])
    if check_prediction_type(prediction_type) == "epsilon":
        return snr.clamp(max=gamma) / snr
    return (snr.clamp(max=gamma) / (snr + 1)).clamp(min=least)
