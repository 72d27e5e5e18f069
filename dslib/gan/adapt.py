"""``--method`` of a GAN source, what each can be told, and :func:`adapt`, which runs it."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from ..base import knobs
from ..base.device import processes
from ..base.errors import UserError
from ..base.identity import fingerprint, image_print
from ..base.knobs import knob
from ..base.pixels import check_pictures
from . import augment, cdc, dcl, ewc, freezed, tgan
from .loop import GANStep, fit
from .networks import Pair

#: a word → start(source, config) → what is trained and what each player minimises
METHODS = {"tgan": tgan.start, "tgan-diffaug": tgan.start, "freezed": freezed.start, "ewc": ewc.start, "cdc": cdc.start, "dcl": dcl.start}
#: images that a method needs in a batch: similarities to two others, or one negative
LEAST = {"cdc": 3, "dcl": 2}
AUTO = "auto"


@dataclass(kw_only=True)
class GANConfig(freezed.FreezeD, ewc.EWC, cdc.CDC, dcl.DCL):
    """Every knob of adapting a GAN: a method, its own settings, and the loop."""
    method: str = knob("tgan", f"of a GAN source: {', '.join(METHODS)}", choices=lambda: METHODS)
    diffaugment: str = knob(AUTO, "of a GAN: color, translation, cutout between commas, none, or auto: all three with tgan-diffaug, none "
                            "otherwise")
    ema_max_decay: float = knob(0.99, "averaging of the generator's weights, reached after a warm-up", "share")

    def check(self) -> "GANConfig":
        """As :meth:`dslib.gan.loop.GANLoop.check`, and ``auto`` becomes a policy."""
        knobs.check(self)
        if self.diffaugment == AUTO:
            return replace(self, diffaugment=augment.POLICY if self.method == "tgan-diffaug" else "none").check()
        return super().check()


def adapt(source: Pair, images: Tensor, config: GANConfig) -> Iterator[GANStep]:
    """Fine-tune a copy of a source GAN on few images and yield a step after both players have had their turn.

    source: left untouched. images: (n,3,R,R) in [-1,1], n at least ``LEAST`` of the method. Raises UserError before the first step if
    anything does not fit.
    """
    config = fitted(source, images, config.check())
    identity = {"images": image_print(images), "source": fingerprint(source.state_dict())}
    return fit(METHODS[config.method](source, config), images, config, identity)


def fitted(source: Pair, images: Tensor, config: GANConfig) -> GANConfig:
    """Check images and settings against the source; cap the batch at the number of images."""
    check_pictures(images)
    size = source.resolution
    if tuple(images.shape[1:]) != (3, size, size):
        raise UserError(f"the images are {'×'.join(map(str, images.shape[1:]))} but the source draws 3×{size}×{size}: load them with "
                        f"resolution={size}")
    if (shared := processes().num_processes) > 1:
        raise UserError(f"{shared} processes: a GAN is adapted in one process, start it without accelerate launch")
    batch, least = min(config.train_batch_size, len(images)), LEAST.get(config.method, 1)
    if batch < least:
        mend = "add images" if len(images) < least else "raise --train_batch_size"
        raise UserError(f"{len(images)} image(s) and --train_batch_size {config.train_batch_size} make a batch of {batch}: {config.method} "
                        f"compares at least {least} images; {mend} or use --method tgan")
    if batch < config.train_batch_size:
        print(f"train_batch_size {config.train_batch_size} is more than the {len(images)} images: using {batch}", file=sys.stderr)
    return replace(config, train_batch_size=batch)
