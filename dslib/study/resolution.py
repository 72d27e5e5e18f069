"""Drawn faces at 64, 128 and 256 pixels: what the losses measure there, what a step costs, and a stage from 64 to 128 (chapter 13).

``python -m dslib.study resolution PART``: losses (no network), cost (seconds and memory of a step), celebahq (a dry run of the architecture
of google/ddpm-celebahq-256, and the command lines for a GPU), upsample (a small second stage, trained on the source's faces, adapted on
ten). Each has its ``--help`` and writes ``resolution_PART.csv``.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import data, losses, models
from ..base import errors
from ..base.errors import UserError
from ..base.files import data_dir, write_atomic
from ..beyond import scales
from . import resolution_cost, resolution_stage
from .curves import as_csv

SIZES, LEVELS, BATCH, BATCHES = (64, 128, 256), 3, 10, 10
COLUMNS = ("domain", "resolution", "level", "what", "value", "spread", "batches")

Found = dict[tuple[int, str], float]          # (level, 0 for whole pictures; what is measured) → a number


def others(square: Tensor) -> Tensor:
    """The mean of a matrix (N,N) without its diagonal."""
    return losses.drop_diagonal(square).mean()


def of_pictures(x: Tensor, a_bar: Tensor, levels: int = LEVELS) -> Found:
    """What a batch (N,3,R,R) in [-1,1] is like, by (level, word); level 0 is the whole picture.

    cosine: mean over pairs, of pictures or of their detail; share: of the energy about the mean colour that the level's bands hold;
    drowned: the step t from which noise is stronger than the detail.
    """
    found, shares = {(0, "cosine"): float(others(losses.cosine_matrix(x)))}, scales.shares(x, levels).mean(0)
    for level in range(1, levels + 1):
        energy = scales.energy(x, level)
        found |= {(level, "cosine"): float(others(losses.cosine_matrix(scales.detail(x, level)))),
                  (level, "share"): float(shares[level - 1]),
                  (level, "drowned"): float(scales.drowned_at(energy, a_bar).float().mean())}
        for t in (100, 300, 500):
            found[level, f"survives {t}"] = float(scales.survives(energy, a_bar)[:, t].mean())
    return found


def of_twins(x: Tensor, twins: Tensor, levels: int = LEVELS) -> Found:
    """The pairwise losses between faces and their true answers: what a perfect model would be charged. And with other people's answers.

    x, twins: (N,3,R,R). Level 0: L_img; level 1: L_hf (paper); deeper: L_hf of the smaller picture. Each is a sum over the batch.
    """
    found, wrong = {}, twins.roll(1, 0)
    for name, answer in (("price", twins), ("price of other people", wrong)):
        found[0, name] = float(losses.pairwise_kl(answer, x))
        for level in range(1, levels + 1):
            found[level, name] = float(losses.pairwise_kl(scales.detail(answer, level), scales.detail(x, level)))
    return found


def batches(domain: str, size: int, number: int, split: str = "test") -> Iterator[tuple[Tensor, Tensor | None]]:
    """Batches of ten source faces and of their twins in a domain; of faces alone where the domain is the source."""
    faces = data.load_domain(data.SOURCE, split, BATCH * number, size).images
    for x in faces.split(BATCH):
        yield x, None if domain == data.SOURCE else data.twin(x, domain)


def summary(domain: str, size: int, found: list[Found]) -> list[dict]:
    """Mean and standard deviation over batches, a row a measure."""
    rows = []
    for level, what in found[0]:
        values = torch.tensor([one[level, what] for one in found])
        rows.append({"domain": domain, "resolution": size, "level": level, "what": what, "value": float(f"{values.mean():.5g}"),
                     "spread": float(f"{values.std():.3g}"), "batches": len(values)})
    return rows


def measure_losses(args: argparse.Namespace) -> None:
    """Every domain at every size, printed and written."""
    a_bar, rows = models.new_scheduler().alphas_cumprod, []
    if args.batches < 2:
        raise UserError(f"--batches is {args.batches}: a spread takes at least 2")
    for size in tqdm(args.sizes, desc="sizes"):
        for domain in (data.SOURCE, *data.TWINS):
            found = []
            for x, twins in batches(domain, size, args.batches):
                priced = {} if twins is None else of_twins(x, twins)
                found.append(priced | of_pictures(x if twins is None else twins, a_bar))
            rows += summary(domain, size, found)
    for row in rows:
        print("{domain:<10} {resolution:>4} level {level} {what:<22} {value:>10.5g} ± {spread:.3g}".format(**row))
    write_atomic(Path(args.output), as_csv(rows, COLUMNS).encode())
    print(args.output)


PARTS: dict[str, tuple[str, Callable]] = {
    "losses": ("what L_img, L_hf and the Haar bands measure at each size, with no network", measure_losses),
    "cost": ("seconds and peak memory of a step at each size", resolution_cost.measure_cost),
    "celebahq": ("one step of the architecture of google/ddpm-celebahq-256, random weights", resolution_cost.measure_celebahq),
    "upsample": ("a stage from 64 to 128 pixels: train, adapt on ten, compare with the truth", resolution_stage.work_and_pack),
}


def parser_of() -> argparse.ArgumentParser:
    """A subcommand a part, each with its options."""
    parser = argparse.ArgumentParser(prog="python -m dslib.study resolution", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    sub = parser.add_subparsers(dest="part", required=True, metavar="PART")
    parts = {}
    for name, (words, work) in PARTS.items():
        parts[name] = sub.add_parser(name, help=words, description=words, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        parts[name].set_defaults(work=work)
        parts[name].add_argument("--output", default=str(data_dir() / "results" / "beyond" / f"resolution_{name}.csv"), help="the table")
    for name in ("losses", "cost"):
        parts[name].add_argument("--sizes", type=int, nargs="+", choices=(32, *SIZES), default=list(SIZES), help="pixels a side")
    parts["losses"].add_argument("--batches", type=int, default=BATCHES, help="batches of ten faces")
    resolution_cost.add_options(parts["cost"], parts["celebahq"])
    resolution_stage.add_options(parts["upsample"])
    return parser


def main(argv: list[str] | None = None) -> int:
    """Measure a part; a mistake of the reader's ends in one line and exit code 2."""
    args = parser_of().parse_args(argv)
    return errors.run(lambda: args.work(args), "dslib.study.resolution", "; the runs that are complete are kept")


if __name__ == "__main__":
    sys.exit(main())
