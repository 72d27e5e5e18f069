"""Elastic weight consolidation (Li et al. 2020, arXiv 2012.02780): the weights that matter to the source's images may move least::

    L = L_adv + λ Σ_i F_i (θ_i − θ_S,i)²,   F_i = E_z (∂ log D(G(z)) / ∂θ_i)²

==================  ===================================================  =========================================================
point               paper                                                ours
==================  ===================================================  =========================================================
F                   E[−∂²L/∂θ²] over images that the source draws, L     the mean square of single images' gradients, which is the
                    the discriminator's cross-entropy                    same for a true likelihood, and never negative
λ                   chosen by hand, for StyleGAN at 256×256              1000, of 10, 100 … 10⁵: the stiffest that learns in 100 steps
weights             the generator's                                      the same
==================  ===================================================  =========================================================
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..base.knobs import knob
from .draw import FISHER, latents
from .loop import Draw, GANLoop, Method
from .losses import generator_loss
from .networks import Pair, Trace
from .tgan import play_discriminator, play_generator, trainable


@dataclass(kw_only=True)
class EWC(GANLoop):
    """How stiff the weights are, and how that is measured."""
    lambda_ewc: float = knob(1e3, "of ewc: weight of the distance to the source's weights", "least_zero")
    fisher_samples: int = knob(200, "of ewc: images of the source that the Fisher information is estimated on", "positive")


def fisher(pair: Pair, z: Tensor) -> list[Tensor]:
    """F_i = E_z (∂ log D(G(z)) / ∂θ_i)²: one tensor a weight of the generator, all ≥ 0.

    z: (n,latent), one image's gradient at a time. The likelihood of an image is what the source's own discriminator makes of it.
    """
    generator = trainable(pair).generator
    weights = list(generator.parameters())
    total = [torch.zeros_like(p) for p in weights]
    for one in z.split(1):
        gradient = torch.autograd.grad(generator_loss(pair.discriminator(generator(one))), weights)
        for mean, g in zip(total, gradient):
            mean += g.square() / len(z)
    return total


def penalty(weights: Iterable[Tensor], start: Iterable[Tensor], information: Iterable[Tensor]) -> Tensor:
    """Σ_i F_i·(θ_i − θ_S,i)², without λ: three lists of tensors of the same shapes → scalar ≥ 0."""
    return sum((f * (p - p_0.detach()).square()).sum() for p, p_0, f in zip(weights, start, information))


def start(source: Pair, config: EWC) -> Method:
    """Fine-tuning with λ·:func:`penalty` on the generator."""
    z = latents(config.fisher_samples, source.generator.latent, config.seed, FISHER).to(next(source.parameters()).device)
    information, kept = fisher(source, z), [p.detach() for p in source.generator.parameters()]

    def generator(pair: Pair, trace: Trace, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        loss, terms = play_generator(pair, trace, draw)
        moved = penalty(pair.generator.parameters(), kept, information)
        return loss + config.lambda_ewc * moved, terms | {"ewc": moved}

    return Method(trainable(source), generator, play_discriminator)
