"""Train the source GAN from random weights on many drawn faces."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ..base.errors import UserError
from ..base.identity import image_print
from ..base.knobs import knob
from ..base.pixels import check_pictures
from .loop import GANLoop, GANStep, Method, fit
from .networks import Pair
from .tgan import play_discriminator, play_generator


@dataclass(kw_only=True)
class PretrainGAN(GANLoop):
    """A long run, with mirrored images."""
    max_train_steps: int = knob(20000, "optimiser steps of each player", "positive")
    train_batch_size: int = knob(16, "images a step", "positive")
    random_flip: bool = knob(True, "mirror images at random")
    checkpointing_seconds: float = knob(300.0, "save a checkpoint about every so many seconds; 0: only on Ctrl-C", "least_zero")


def pretrain(images: Tensor, config: PretrainGAN, pair: Pair) -> Iterator[GANStep]:
    """Non-saturating loss, lazy R1 and DiffAugment; images: (n,3,R,R), uint8 or in [-1,1]. Yields a step after every update.

    Raises UserError where images and networks have other sizes.
    """
    check_pictures(images)
    if tuple(images.shape[1:]) != (3, pair.resolution, pair.resolution):
        raise UserError(f"the images are {'×'.join(map(str, images.shape[1:]))} but the generator draws 3×{pair.resolution}×"
                        f"{pair.resolution}: give as many --channels as --resolution has levels")
    return fit(Method(pair, play_generator, play_discriminator), images, config.check(), {"images": image_print(images)})
