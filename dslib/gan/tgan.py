"""TransferGAN (Wang et al. 2018, arXiv 1805.01677): both players of the source go on with the few images. With DiffAugment: Zhao et al.
2020, §4.3. Theirs is a WGAN with gradient penalty; here, as in later papers' tables, it is the source's own loss.

What the players minimise here, the other methods add to.
"""

import copy

from torch import Tensor

from . import losses
from .augment import augment
from .loop import Draw, GANLoop, Method
from .networks import Pair, Trace


def play_generator(pair: Pair, trace: Trace, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """The non-saturating loss of the images that were drawn."""
    loss = losses.generator_loss(pair.discriminator(augment(trace.image, draw.jitter[2])))
    return loss, {"generator": loss}


def play_discriminator(pair: Pair, trace: Trace, draw: Draw) -> tuple[Tensor, dict[str, Tensor]]:
    """Real images against drawn ones."""
    real, fake = (pair.discriminator(augment(x, jitter)) for x, jitter in zip((draw.real, trace.image.detach()), draw.jitter))
    loss = losses.discriminator_loss(real, fake)
    return loss, {"discriminator": loss}


def trainable(source: Pair) -> Pair:
    """A copy with every weight free; the source is left as it is."""
    return copy.deepcopy(source).requires_grad_(True)


def start(source: Pair, config: GANLoop) -> Method:
    """Fine-tuning: min_G max_D of the source's own loss, on the few images."""
    return Method(trainable(source), play_generator, play_discriminator)
