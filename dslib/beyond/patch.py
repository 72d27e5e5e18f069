"""A critic of patches for fine detail, beside DomainStudio's objective: an extension, not the paper's.

At small t the mean square error rewards a blur between the pictures that x_t may come from. Here a small convolutional critic D (as in
Isola et al. 2017, arXiv 1611.07004) looks at pieces of 18 pixels. Real ones are of the few images, fake ones of the model's x̃_0 where
t is below a limit::

    L = L_DomainStudio + λ_patch·E softplus(−D(x̃_0)),   D minimises E softplus(−D(x_0)) + E softplus(D(x̃_0)) + R1_γ

D takes one step of its own optimiser for each of the model's. Its pieces are too small to know a person by. With ``pairwise_on
source`` half the x̃_0 are of the source's samples: a style is asked of people that the few do not show. At λ_patch 0.05 the term's
gradient on the shipped source is of the size of L_simple's.
"""

import math
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from .. import ddpm, domainstudio, train
from ..base.device import processes
from ..base.errors import UserError
from ..gan import losses


def new_critic(channels: int = 3, width: int = 32, seed: int = 0) -> nn.Sequential:
    """D: images (N,C,R,R) → scores (N,1,R/4,R/4) of pieces of 18×18 pixels, positive where it takes them for real."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2),
                             nn.Conv2d(width, 2 * width, 4, 2, 1), nn.LeakyReLU(0.2),
                             nn.Conv2d(2 * width, 1, 3, 1, 1))


def critic_loss(critic: nn.Module, real: Tensor, fake: Tensor, gamma: float = 0.001) -> Tensor:
    """E softplus(−D(real)) + E softplus(D(fake)) + γ·½·E ‖∂ΣD/∂real‖² over the pieces of an image (R1, Mescheder et al. 2018) → scalar.

    real, fake: (N,C,R,R) and (M,C,R,R); neither gets a gradient.
    """
    real = real.detach().requires_grad_()
    scores = critic(real)
    return losses.discriminator_loss(scores, critic(fake.detach())) + gamma * losses.r1(scores, real)


def watched(net, seen: list):
    """The network, noting every question and answer (x_t, t, answer) in ``seen``."""
    def answer(x_t: Tensor, t: Tensor) -> SimpleNamespace:
        output = net(x_t, t).sample
        seen.append((x_t, t, output))
        return SimpleNamespace(sample=output)
    return answer


def clean_below(seen: list, limit: int, a_bar: Tensor, channels: int, prediction_type: str) -> Tensor:
    """x̃_0 (M,C,R,R) of the answers whose t is below the limit, with their gradients; M may be 0."""
    x_t, t, output = (torch.cat(parts) for parts in zip(*seen))
    output, _ = domainstudio.split_variance(output, channels)
    near = t < limit
    return ddpm.guess(output[near], x_t[near], t[near], a_bar, prediction_type).x_0


def check(config, given: dict[str, float]) -> None:
    """Raise UserError for impossible numbers, and for what the critic, which is in no checkpoint, does not stand."""
    for name, value in given.items():
        if not 0 <= value < math.inf:
            raise UserError(f"{name} of the patch critic is {value}: it must be zero or a positive number")
    if config.resume_from_checkpoint:
        raise UserError("--resume_from_checkpoint: the critic of patches is in no checkpoint; start the run anew, without it")
    if config.micro_batch_size:
        raise UserError("--micro_batch_size: the critic of patches looks at the whole batch; use 0")
    if processes().num_processes > 1:
        raise UserError("the critic of patches is trained in one process: start the run without 'accelerate launch'")


def start(source, images: Tensor, config, frozen=None, *, lambda_patch: float = 0.05, limit: int = 200, rate: float = 1e-3,
          gamma: float = 0.001):
    """Where :func:`dslib.train.adapt` starts: as ``config.method`` does, with λ_patch·E softplus(−D(x̃_0)) beside its objective.

    lambda_patch ≥ 0: λ_patch; limit: only x̃_0 at t below it are looked at; rate: of the critic's Adam; gamma ≥ 0: weight of R1. The terms
    have "patch", what the model minimises, and "critic", D's loss; both are 0 in a step without such t. Raises UserError for other numbers,
    a checkpoint to resume, parts of a batch or several processes.
    """
    check(config, {"lambda_patch": lambda_patch, "limit": limit, "rate": rate, "gamma": gamma})
    net, method, companions = train.METHODS[config.method](source, images, config, frozen)
    a_bar, kind = source.scheduler.alphas_cumprod.clone(), ddpm.prediction_type_of(source.scheduler)
    critic = new_critic(images.shape[1], seed=config.seed)
    optimizer = torch.optim.Adam(critic.parameters(), lr=rate, betas=(0.0, 0.99))

    def objective(net, x_0, t, eps, **given):
        seen: list = []
        loss, terms = method(watched(net, seen), x_0, t, eps, **given)
        fake = clean_below(seen, limit, a_bar.to(x_0.device), x_0.shape[1], kind)
        if not len(fake):
            return loss, terms | {"patch": loss.new_zeros(()), "critic": loss.new_zeros(())}
        against = learn(critic.to(x_0.device), optimizer, x_0, fake, gamma)
        patch = losses.generator_loss(critic(fake))
        return loss + lambda_patch * patch, terms | {"patch": patch, "critic": against}

    return net, objective, companions


def learn(critic: nn.Module, optimizer: torch.optim.Optimizer, real: Tensor, fake: Tensor, gamma: float) -> Tensor:
    """One step of the critic; its weights take gradients only here. Returns its loss before the step, detached."""
    with torch.enable_grad():
        loss = critic_loss(critic.requires_grad_(True), real, fake, gamma)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    critic.requires_grad_(False)
    return loss.detach()
