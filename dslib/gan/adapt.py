"""``--method`` of a GAN source, what each can be told, and :func:`adapt`, which runs it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from ..base import knobs
from ..base.errors import UserError, note
from ..base.identity import fingerprint, image_print
from ..base.knobs import knob
from ..base.pixels import check_pictures
from . import augment, cdc, dcl, ewc, freezed, tgan
from .loop import GANStep, fit
from .networks import Pair

#: a word → start(source, config) → what is trained and what each player minimises. One more: a file with ``start`` and a config (see
#: freezed.py), a word here, its config among GANConfig's, and LEAST if it compares latents
METHODS = {"tgan": tgan.start, "tgan-diffaug": tgan.start, "freezed": freezed.start, "ewc": ewc.start, "cdc": cdc.start, "dcl": dcl.start}
#: latents that a method needs in a batch: two about anchors and three to compare, or one other
LEAST = {"cdc": 5, "dcl": 2}
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

    source: left untouched. images: (n,3,R,R) in [-1,1]; fewer than a batch come several times in each. Raises UserError before the first
    step if anything does not fit.
    """
    config = fitted(source, images, config)
    if len(images) < config.train_batch_size:
        note(f"train_batch_size {config.train_batch_size} is more than the {len(images)} image(s): each comes several times in a batch")
    identity = {"images": image_print(images), "source": fingerprint(source.state_dict())}
    return fit(METHODS[config.method](source, config), images, config, identity)


def fitted(source: Pair, images: Tensor, config: GANConfig) -> GANConfig:
    """The config, checked against the source and the images."""
    check_pictures(images)
    config, size = config.check(), source.resolution
    if tuple(images.shape[1:]) != (3, size, size):
        raise UserError(f"the images are {'×'.join(map(str, images.shape[1:]))} but the source draws 3×{size}×{size}: load them with "
                        f"resolution={size}")
    if config.train_batch_size < (least := LEAST.get(config.method, 1)):
        raise UserError(f"--train_batch_size {config.train_batch_size} is too small for {config.method}, which compares latents with each "
                        f"other: use at least {least}")
    return config
