"""A reader's whole DomainStudio beside the library's: the same source, images, noise and steps."""

import copy
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from .. import ddpm, domainstudio, train


class NoiseNet(nn.Module):
    """A source's U-Net that answers with the noise, whatever it was trained to answer: net(x_t, t).sample is ε_θ, (N,C,R,R)."""

    def __init__(self, unet: nn.Module, a_bar: Tensor, prediction_type: str):
        super().__init__()
        self.unet, self.a_bar, self.prediction_type = unet, a_bar, prediction_type

    def forward(self, x_t: Tensor, t) -> SimpleNamespace:
        when = torch.as_tensor(t, device=x_t.device).expand(len(x_t))
        output, _ = domainstudio.split_variance(self.unet(x_t, t).sample, x_t.shape[1])
        return SimpleNamespace(sample=ddpm.guess(output, x_t, when, self.a_bar.to(x_t.device), self.prediction_type).eps)


def noise_net(source) -> NoiseNet:
    """A copy of a pipeline's U-Net that predicts noise; ``.unet`` is the copy itself, to draw with."""
    return NoiseNet(copy.deepcopy(source.unet).eval(), source.scheduler.alphas_cumprod.clone(), ddpm.prediction_type_of(source.scheduler))


def frozen(source) -> NoiseNet:
    """The same, never to be trained."""
    return noise_net(source).requires_grad_(False)


def batches(source, images: Tensor, config: train.TrainConfig) -> list[tuple[Tensor, Tensor, Tensor]]:
    """What ``train.fit`` would draw: a list of (x_0, t, ε), one a step. images: (n,C,R,R) in [-1,1]."""
    config, steps = train.fitted(source, images, config), len(source.scheduler.alphas_cumprod)
    return [train.drawn(images, {}, step, config, steps, source.device)[0] for step in range(config.max_train_steps)]


def weights_of(config: train.TrainConfig) -> dict[str, float]:
    """The weight of each of the four terms."""
    return {"simple": 1.0} | {name: getattr(config, f"lambda_{name}") for name in ("img", "hf", "hfmse")}


def by_reader(functions: dict, source, images: Tensor, config: train.TrainConfig) -> nn.Module:
    """The source's U-Net adapted by a reader's ``train_loop``, ``terms_of`` and ``total_loss``: averaged weights."""
    kept, a_bar, weights = frozen(source), source.scheduler.alphas_cumprod.to(source.device), weights_of(config)

    def loss(net, x_0, t, eps):
        return functions["total_loss"](functions["terms_of"](net, kept, x_0, t, eps, a_bar), weights)

    return functions["train_loop"](noise_net(source), batches(source, images, config), loss, config.learning_rate).unet


def by_library(source, images: Tensor, config: train.TrainConfig) -> nn.Module:
    """The same by ``train.fit`` and ``domainstudio.domainstudio_loss``."""
    config, kept = train.fitted(source, images, config), frozen(source)
    a_bar, betas = (values.to(source.device) for values in (source.scheduler.alphas_cumprod, source.scheduler.betas))

    def objective(net, x_0, t, eps):
        return domainstudio.domainstudio_loss(net, kept, x_0, t, eps, a_bar, betas, config)

    *_, last = train.fit(noise_net(source), images, config, objective, source.scheduler.alphas_cumprod)
    return last.averaged().unet


def apart(one: nn.Module, other: nn.Module, start: nn.Module) -> float:
    """How far two adapted networks are from each other, as a share of the way that the second has come from the start."""
    a, b, c = (torch.cat([p.detach().flatten().cpu() for p in net.parameters()]) for net in (one, other, start))
    return float((a - b).norm() / (b - c).norm())
