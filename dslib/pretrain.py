"""Train a source model from random weights on many images, weighted over t (chapter 02)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import Tensor

from . import ddpm
from .base.identity import image_print
from .base.knobs import knob
from .base.pixels import check_pictures
from .train import Loop, Step, fit


@dataclass(kw_only=True)
class PretrainConfig(Loop):
    """A loop that starts from nothing: how the steps t are weighted."""
    snr_gamma: float | None = knob(None, "min-SNR-γ weighting of the loss", "positive", kind=float)
    lambda_coarse: float = knob(0.0, "weight of the error's coarse scales, which hold the colours",
                                "least_zero")
    high_noise_weight: float = knob(1.0, "how many times more the steps near T count", "positive")
    prediction_type: str = knob("epsilon", "what the network is asked for: epsilon or v_prediction",
                                choices=ddpm.PREDICTION_TYPES)


def pretrain(images: Tensor, config: PretrainConfig, model: UNet2DModel,
             a_bar: Tensor) -> Iterator[Step]:
    """L_simple (Ho et al. 2020, eq. 14), min-SNR weighted and with coarse scales if asked.

    images: (n,3,R,R), uint8 or in [-1,1]; a_bar: (T,). Yields a :class:`dslib.train.Step` after
    every update.
    """
    a_bar = a_bar.clone()
    check_pictures(images)

    def objective(net, x_0, t, eps):
        x_t, here = ddpm.q_sample(x_0, t, eps, a_bar), a_bar.to(t.device)
        wanted = ddpm.target(x_0, eps, t, here, config.prediction_type)
        return weighted_error(net(x_t, t).sample - wanted, t, here, config)

    return fit(model, images, config, objective, a_bar, identity={"images": image_print(images)})


def weighted_error(error: Tensor, t: Tensor, a_bar: Tensor, config: PretrainConfig,
                   ) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss from the error (N,C,H,W) of ε or v: its square, weighted over t, with coarse scales
    if asked."""
    simple = error.square().mean(dim=(1, 2, 3))
    weight = noise_weight(a_bar, t, config.high_noise_weight)
    if config.snr_gamma:
        weight = weight * ddpm.snr_weight(a_bar, t, config.snr_gamma, config.prediction_type)
    if not config.lambda_coarse:
        return (weight * simple).mean(), {"simple": simple.mean()}
    coarse = coarse_error(error)
    loss = (weight * (simple + config.lambda_coarse * coarse)).mean()
    return loss, {"simple": simple.mean(), "coarse": coarse.mean()}


def noise_weight(a_bar: Tensor, t: Tensor, most: float) -> Tensor:
    """0.1/SNR between 1 and ``most``, one weight an image (N,): 1 up to t = 480 of the linear
    schedule.

    Near T the loss is smallest, because the picture *is* noise, and its gradient is drowned by the
    other steps'; yet an error of ε there is magnified most in x̃_0, and decides a sample's colours.
    """
    a = a_bar[t]
    return (0.1 * (1 - a) / a).clamp(1.0, max(most, 1.0))


def coarse_error(error: Tensor) -> Tensor:
    """Σ_s s·mean (block mean of the error, s×s)², s = 2, 4, 8 … : (N,C,H,W) → (N,).

    ε is white: over blocks of s×s its mean has variance 1/s², so the plain loss hardly sees it.
    Near t = T nothing else tells the colour of a picture. After the multiscale loss of Hoogeboom et
    al. 2023 (simple diffusion, §3.3).
    """
    total, scale = torch.zeros(len(error), device=error.device), 1
    while error.shape[-1] % 2 == 0:
        error, scale = F.avg_pool2d(error, 2), 2 * scale
        total = total + scale * error.square().mean(dim=(1, 2, 3))
    return total
