"""Does a model give away which pictures it was trained on? Membership inference by the denoising error (chapter 12).

Whoever has the weights asks the model to denoise a picture: what it was trained on, it denoises better (Matsumoto et al. 2023,
arXiv 2302.03262; Duan et al. 2023, arXiv 2302.01316). Some pictures are easy for every model, so the source's error on the same
picture, with the same noise, may be taken off (*calibrated*, Watson et al. 2022, arXiv 2111.08440).
"""

import math

import torch
from torch import Tensor

from .. import ddpm
from ..base.errors import UserError


@torch.no_grad()
def denoising_errors(unet, scheduler, images: Tensor, steps: list[int], noises: int = 4, seed: int = 0, batch_size: int = 64) -> Tensor:
    """Mean square error of the answer (ε or v) at each step t: (len(steps), N), the mean over ``noises`` draws that all images share.

    images: (N,C,R,R) in [-1,1]. The same noise for every image, step and model, so that they differ in nothing else. Raises UserError for
    a step outside [0,T) or no noise.
    """
    a_bar, kind = scheduler.alphas_cumprod, ddpm.prediction_type_of(scheduler)
    if not all(0 <= step < len(a_bar) for step in steps):
        raise UserError(f"steps {steps}: the model knows t = 0 to {len(a_bar) - 1}")
    if noises < 1:
        raise UserError(f"noises is {noises}: at least one is needed")
    device, errors = next(unet.parameters()).device, torch.zeros(len(steps), len(images))
    for k in range(noises):
        eps = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(seed * 1_000_003 + k))
        for i, step in enumerate(steps):
            for place, x_0 in zip(torch.arange(len(images)).split(batch_size), images.split(batch_size)):
                t, noise = torch.full((len(x_0),), step), eps.expand_as(x_0)
                x_t, wanted = ddpm.q_sample(x_0, t, noise, a_bar), ddpm.target(x_0, noise, t, a_bar, kind)
                answer = unet(x_t.to(device), t.to(device)).sample.cpu()
                errors[i, place] += (answer - wanted).square().flatten(1).mean(1) / noises
    return errors


def auc(members: Tensor, others: Tensor) -> float:
    """The probability that a member's error (N,) is lower than a stranger's (M,), a tie for a half: 0.5 is guessing, 1 certainty."""
    lower = (members[:, None] < others[None]).float() + 0.5 * (members[:, None] == others[None]).float()
    if not lower.numel():
        raise UserError("members and others: at least one of each is needed")
    return float(lower.mean())


def chance(n: int, m: int) -> float:
    """Standard error of the AUC of n members and m strangers where nothing tells them apart (Mann & Whitney 1947)."""
    return ((n + m + 1) / (12 * n * m)) ** 0.5


def check_share(false_alarms: float, strangers: int) -> int:
    """How many strangers may be accused, 0 for none. Raises UserError where a share of them is less than one, or is no share."""
    if not 0 <= false_alarms < 1:
        raise UserError(f"false_alarms is {false_alarms}: a share from 0 to 1")
    if (allowed := int(false_alarms * strangers + 1e-9)) < 1 and false_alarms:
        raise UserError(f"{false_alarms:.1%} of {strangers} strangers is less than one: give at least {math.ceil(1 / false_alarms - 1e-9)} "
                        "strangers, or allow more false alarms")
    return allowed


def caught(members: Tensor, others: Tensor, false_alarms: float = 0.01) -> float:
    """The share of members (N,) that are found while at most ``false_alarms`` of the strangers (M,) are accused.

    "Found" is an error below a threshold, which these same strangers set: on new ones a few more are accused. An attack that is right on
    average may still find nobody so; this share is what Carlini et al. 2022 (arXiv 2112.03570) ask for. Raises UserError where M is too
    small for such a share.
    """
    allowed = check_share(false_alarms, len(others))
    return float((members < others.sort().values[allowed]).float().mean())
