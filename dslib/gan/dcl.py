"""Dual contrastive learning (Zhao et al. 2022, arXiv 2205.03805): an image stays nearest to the source's image of the same latent, for
generator and discriminator alike. With f(a, b) = exp(cos(a, b)/τ) and a random layer l::

    L_CL1 = mean_i −log f(G^l(z_i), G_s^l(z_i)) / Σ_j f(G^l(z_i), G_s^l(z_j))                      the generator's turn
    L_CL2 = mean_i −log f(d_i, s_i) / (f(d_i, s_i) + Σ_j f(d_i, D^l(x_j)))                         the discriminator's
            with d_i = D^l(G(z_i)), s_i = D_s^l(G_s(z_i)) and the real images x_j

Weights and temperature are the paper's: 2, 0.5, 0.07. The code of these losses was never published, only networks and data. Our reading:
the discriminator minimises L_CL2 in its turn; its negatives are the real images of the batch, augmented like the drawn ones; each turn
compares one layer, for all images.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..base.knobs import knob
from .augment import augment
from .cdc import one_layer
from .loop import Draw, GANLoop, Method
from .losses import discriminator_loss
from .networks import Pair, Trace
from .tgan import play_generator, trainable


@dataclass(kw_only=True)
class DCL(GANLoop):
    """How much contrast, and how sharp."""
    lambda_dcl_generator: float = knob(2.0, "of dcl: weight of the contrast between latents, in the generator's features", "least_zero")
    lambda_dcl_discriminator: float = knob(0.5, "of dcl: weight of the contrast with real images, in the discriminator's features",
                                           "least_zero")
    dcl_temperature: float = knob(0.07, "of dcl: of the softmax over the others", "positive")


def similarities(a: Tensor, b: Tensor) -> Tensor:
    """Cosines of all pairs, flattened: (N,…) and (M,…) → (N,M) in [-1,1]."""
    return F.normalize(a.flatten(1), dim=1) @ F.normalize(b.flatten(1), dim=1).T


def generator_contrast(adapted: Tensor, source: Tensor, temperature: float = 0.07) -> Tensor:
    """L_CL1, −log f(a_i, s_i) / Σ_j f(a_i, s_j), the mean over i: find one's twin among the source's.

    adapted, source: a layer's maps of the same N ≥ 2 latents, (N,C,r,r) → scalar ≥ 0. No gradient to the source.
    """
    logits = similarities(adapted, source.detach()) / temperature
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


def discriminator_contrast(fake: Tensor, twin: Tensor, real: Tensor, temperature: float = 0.07) -> Tensor:
    """L_CL2, −log f(d_i, s_i) / (f(d_i, s_i) + Σ_j f(d_i, r_j)), the mean over i: nearer to the twin than to real ones.

    fake: features of drawn images under the discriminator being trained; twin: of the source's images of the same latents under the
    source's, no gradient to it; real: of real images; (N,C,r,r), (N,C,r,r), (M,C,r,r) → scalar ≥ 0.
    """
    positive = F.cosine_similarity(fake.flatten(1), twin.detach().flatten(1), dim=1)[:, None]            # (N,1)
    logits = torch.cat([positive, similarities(fake, real)], dim=1) / temperature                        # (N,1+M), the twin first
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def start(source: Pair, config: DCL) -> Method:
    """Fine-tuning with both contrasts, each in one layer a step."""
    def generator(pair: Pair, trace: Trace, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        loss, terms = play_generator(pair, trace, draw)
        with torch.no_grad():
            theirs = source.generator.trace(draw.z).layers
        layer = one_layer(draw.step, len(theirs), config.seed)
        contrast = generator_contrast(trace.layers[layer], theirs[layer], config.dcl_temperature)
        return loss + config.lambda_dcl_generator * contrast, terms | {"dcl_generator": contrast}

    def discriminator(pair: Pair, trace: Trace, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        real, fake = (pair.discriminator.features(augment(x, jitter)) for x, jitter in zip((draw.real, trace.image.detach()), draw.jitter))
        loss = discriminator_loss(pair.discriminator.judge(real), pair.discriminator.judge(fake))
        with torch.no_grad():
            twins = source.discriminator.features(augment(source.generator(draw.z), draw.jitter[1]))
        layer = one_layer(draw.step, len(twins), config.seed + 1)
        contrast = discriminator_contrast(fake[layer], twins[layer], real[layer], config.dcl_temperature)
        return loss + config.lambda_dcl_discriminator * contrast, {"discriminator": loss, "dcl_discriminator": contrast}

    return Method(trainable(source), generator, discriminator)
