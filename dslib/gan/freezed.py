"""FreezeD (Mo et al. 2020, arXiv 2002.10964): fine-tuning in which the discriminator's first layers, those next to the pixels, stay the
source's. Their code counts the layers that stay free, from the other end; ours has seven, of which three are frozen.
"""

from dataclasses import dataclass

from ..base.errors import UserError
from ..base.knobs import knob
from .loop import GANLoop, Method
from .networks import Pair
from .tgan import play_discriminator, play_generator, trainable


@dataclass(kw_only=True)
class FreezeD(GANLoop):
    """How much is frozen."""
    frozen_layers: int = knob(3, "of freezed: layers of the discriminator that stay as they are, counted from the pixels", "least_zero")


def start(source: Pair, config: FreezeD) -> Method:
    """Raises UserError where nothing would be left to train."""
    pair = trainable(source)
    layers = pair.discriminator.parts()
    if config.frozen_layers >= len(layers):
        raise UserError(f"--frozen_layers is {config.frozen_layers}: the discriminator has {len(layers)}, use at most {len(layers) - 1}")
    for layer in layers[:config.frozen_layers]:
        layer.requires_grad_(False)
    return Method(pair, play_generator, play_discriminator)
