"""Cross-domain correspondence (Ojha et al. 2021, arXiv 2104.06820): keep who resembles whom, and ask for whole real images only near a
few anchors. DomainStudio's pairwise loss is this one, moved from a generator's features to predicted images::

    L = L_adv(G, D_img; z near an anchor) + L_adv(G, D_patch; any z) + λ·L_dist
    L_dist = Σ_i KL(p_i^ada ‖ p_i^sou),   p_i = softmax over j≠i of cos(G^l(z_i), G^l(z_j))

=====================  =============================  =======================================  ===================================
point                  paper                          published code                           ours
=====================  =============================  =======================================  ===================================
direction of the KL    KL(adapted ‖ source)           KL(source ‖ adapted)                     the paper's
scale                  sum over i                     mean over N·(N−1) entries, λ = 1000      mean, and the code's λ
layer l                random                         another for every image, every step      one for all images, another a step
anchors                in the sum beside any z        alone in every fourth step               half of every batch
standard deviation     0.05                           0.1                                      0.05
latents compared       any z                          four of their own                        the half away from the anchors
D_patch                first layers of D_img          the same, with a head of its own         the same; 12×12 of 64×64 pixels
R1                     not said                       on D_img or D_patch, by the step         on D_img
=====================  =============================  =======================================  ===================================
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import losses as paper
from ..base.knobs import knob
from ..train import batch_indices
from . import losses
from .augment import augment
from .draw import ANCHORS, latents
from .loop import Draw, GANLoop, Method
from .networks import Conv, Pair, Trace
from .tgan import trainable

PATCHES = 2     # which of the discriminator's maps: a quarter of the side; a place in it sees 12×12 pixels


@dataclass(kw_only=True)
class CDC(GANLoop):
    """How much correspondence, and where images must look real as a whole."""
    lambda_cdc: float = knob(1000.0, "of cdc: weight of the consistency of similarities", "least_zero")
    anchor_latents: int = knob(10, "of cdc: latents about which whole images are judged; elsewhere only patches are", "positive")
    anchor_noise: float = knob(0.05, "of cdc: standard deviation about an anchor", "least_zero")


def consistency(adapted: Tensor, source: Tensor) -> Tensor:
    """L_dist: KL between the softmaxes of cosine similarities of a layer's maps, of the same latents.

    adapted, source: (N,C,r,r), N ≥ 3 or it is zero → scalar ≥ 0, the mean over the N·(N−1) entries. No gradient to the source.
    """
    return paper.pairwise_kl(adapted, source, reduction="mean")


def one_layer(step: int, layers: int, seed: int) -> int:
    """The layer that a step compares, from (seed, step) alone."""
    return int(torch.randint(layers, (), generator=torch.Generator().manual_seed(seed * 1_000_003 + step)))


def both_scores(pair: Pair, x: Tensor) -> tuple[Tensor, Tensor]:
    """D_img (N,) and D_patch (N,1,R/4,R/4) of images (N,3,R,R), which share their first layers."""
    features = pair.discriminator.features(x)
    return pair.discriminator.judge(features), pair.patch(features[PATCHES])


def patch_head(source: Pair, seed: int) -> Conv:
    """What makes patches' scores of the discriminator's maps, with random weights from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Conv(source.config["channels"][::-1][PATCHES], 1, kernel=1).to(next(source.parameters()).device)


def start(source: Pair, config: CDC) -> Method:
    """The first half of a batch are latents about anchors, judged as images; the others are judged by patches and compared."""
    pair, frozen, half = trainable(source), source.generator, config.train_batch_size // 2
    pair.patch = patch_head(source, config.seed)
    anchors = latents(config.anchor_latents, frozen.latent, config.seed, ANCHORS)

    def about_anchors(z: Tensor, step: int) -> Tensor:
        nearest = anchors[batch_indices(step, len(anchors), half, config.seed)].to(z)
        return torch.cat([nearest + config.anchor_noise * z[:half], z[half:]])

    def generator(pair: Pair, trace: Trace, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        image, patch = both_scores(pair, augment(trace.image, draw.jitter[2]))
        terms = {"generator": losses.generator_loss(image[:half]), "patch": losses.generator_loss(patch[half:])}
        with torch.no_grad():
            theirs = frozen.trace(draw.z[half:]).layers
        layer = one_layer(draw.step, len(theirs), config.seed)
        terms["cdc"] = consistency(trace.layers[layer][half:], theirs[layer])
        return terms["generator"] + terms["patch"] + config.lambda_cdc * terms["cdc"], terms

    def discriminator(pair: Pair, trace: Trace, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
        real, fake = (both_scores(pair, augment(x, jitter)) for x, jitter in zip((draw.real, trace.image.detach()), draw.jitter))
        image, patch = losses.discriminator_loss(real[0], fake[0][:half]), losses.discriminator_loss(real[1], fake[1][half:])
        return image + patch, {"discriminator": image, "discriminator_patch": patch}

    return Method(pair, generator, discriminator, about_anchors)
