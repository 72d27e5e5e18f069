"""Could smudges explain it? Copies counted again after samples, the ten and real images are blurred alike (chapter 08).

A copy that is smudged is further from its original, so a method that smudges seems to copy less. Blurred alike, all have lost the fine
detail. Only the first pictures of every run are kept, so this is a coarse check: few noises, every training seed.
"""

import argparse
import math
import sys
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from .. import data, metrics
from ..base import errors
from ..base.files import data_dir
from ..base.statistics import copy_rate
from . import claim, regime
from .evidence import label

SIGMAS, NUM_REAL = (0.0, 1.0, 1.5), 250


def blur(images: Tensor, sigma: float) -> Tensor:
    """Images (N,3,R,R) under a Gaussian of so many pixels; 0 leaves them alone."""
    return images if sigma == 0 else gaussian_blur(images, 2 * math.ceil(3 * sigma) + 1, sigma)


def first_pictures(folder: Path, target: str, method: str, step: int, until: int | None = None) -> Tensor:
    """The kept pictures (N,3,R,R) of a method after so many steps, of all its seeds. Raises UserError for a missing run or stop."""
    found = []
    for seed in claim.seeds_of(folder, target, method):
        path = regime.path_of(folder, target, method, seed)
        place = claim.row_of(claim.run_at(path), step, None, until)
        found.append(claim.pictures_of(path)[place])
    return torch.cat(found)


def nearest(images: Tensor, ten: Tensor, sigma: float) -> Tensor:
    """Distance of images (N,3,R,R) to the nearest of the ten, (N,), all blurred alike."""
    return metrics.lpips_matrix(blur(images, sigma), blur(ten, sigma)).min(1).values


def table(folder: Path, target: str, ways: list[tuple[str, int, int | None]], sigmas: tuple[float, ...] = SIGMAS,
          num_real: int = NUM_REAL) -> str:
    """A Markdown table: a row a (method, steps, t_0 of source-until-t or None), a column a blur.

    Below stand pictures of which it is known: real ones that are no copies, and blurred copies.
    """
    pictures = {f"{label(method, until)}, {step} steps": first_pictures(folder, target, method, step, until)
                for method, step, until in ways}
    size = next(iter(pictures.values())).shape[-1]
    ten = data.load_domain(target, "ten", resolution=size).images
    real, others = data.load_domain(target, "test", 2 * num_real, size).images.split(num_real)
    pictures |= {"other real images": others, "the ten, blurred a little": blur(ten, 0.8)}
    lines = ["| copies | pictures | " + " | ".join(f"blur of {sigma:g} px" if sigma else "as they are" for sigma in sigmas) + " |",
             "|" + "---|" * (len(sigmas) + 2)]
    limits = {sigma: nearest(real, ten, sigma) for sigma in sigmas}
    for name, images in pictures.items():
        shares = [f"{copy_rate(nearest(images, ten, sigma), limit):.0%}" for sigma, limit in limits.items()]
        lines.append(f"| {name} | {len(images)} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print the table of committed runs; a mistake of the reader's ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dslib.study smudge", description=__doc__)
    parser.add_argument("--folder", help="where the runs are; default: the committed ones")
    parser.add_argument("--target", default="engraved", choices=data.TWINS + data.TARGETS, help="default: %(default)s")
    parser.add_argument("--step", type=int, default=300, help="default: %(default)s")
    parser.add_argument("--rows", nargs="+", default=["naive", "naive/500", "published", "anchored"], metavar="METHOD[/T0]",
                        help="default: %(default)s")
    args = parser.parse_args(argv)
    folder = Path(args.folder) if args.folder else data_dir() / "results" / "regime"

    def told() -> None:
        print(table(folder, args.target, [(method, args.step, until) for method, until in claim.asked_rows(args.rows)]))

    return errors.run(told, "dslib.study.smudge")


if __name__ == "__main__":
    sys.exit(main())
