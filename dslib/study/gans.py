"""The GAN methods by the protocol of :mod:`dslib.study.regime`: same ten, same real images, same scores (chapter 11).

``python -m dslib.study gans`` works through targets × methods × seeds, a file a run; ``--pack`` writes the table. The samples of every
method are drawn from the same latents, so that people are compared with the source GAN's, as noises are with the diffusion source's.
"""

import sys
from collections.abc import Iterator

from torch import Tensor

from ..base import errors
from ..gan import adapt, draw
from ..gan.folder import load_gan
from ..gan.loop import GANStep
from ..gan.networks import Pair
from . import regime

STOPS = (12, 25, 50, 100, 200)
METHODS: dict[str, dict] = {name: {"method": name} for name in adapt.METHODS}


class Ruler(regime.Ruler):
    """The same for GANs: samples are drawn from latents, in one pass."""
    methods = METHODS

    @staticmethod
    def opened(source: str | None) -> Pair:
        """The source GAN."""
        return load_gan(source)

    @staticmethod
    def weights(source: Pair) -> dict[str, Tensor]:
        """What tells one source from another."""
        return source.state_dict()

    def start(self, num_images: int) -> tuple[int, Tensor]:
        """The side of an image, and latents (N,latent)."""
        return self.source.resolution, draw.latents(num_images, self.source.generator.latent, 100)

    def draw(self, model: Pair | None = None, until: int | None = None) -> Tensor:
        """Samples (N,3,R,R) of a pair, the source by default; a GAN has no steps that could be the source's (until)."""
        return draw.draw((model or self.source).generator, self.noise)

    def train(self, settings: dict) -> Iterator[GANStep]:
        """The steps of a training with these settings of ``GANConfig``."""
        return adapt.adapt(self.source, self.ten, adapt.GANConfig(**settings))

    def flaw(self, images: Tensor) -> str | None:
        """That a generator has collapsed: its scores would mean nothing."""
        return draw.collapse(images, self.drawn)


def main(argv: list[str] | None = None) -> int:
    """Work through the runs, or pack them; a mistake of the reader's ends in one line and exit code 2."""
    args = regime.parser_of("gans", __doc__, METHODS, METHODS, STOPS, "a GAN's folder; default: the shipped one, data/gan").parse_args(argv)
    return errors.run(lambda: regime.work_or_pack(args, Ruler, "gans", {}), "dslib.study.gans", "; the runs that are complete are kept")


if __name__ == "__main__":
    sys.exit(main())
