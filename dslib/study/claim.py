"""The claim in one picture, from runs of :mod:`dslib.study.regime`: ``python -m dslib.study claim`` (README, chapter 00)."""

import argparse
import sys
from pathlib import Path
from statistics import mean

import torch
from PIL import Image
from torch import Tensor

from .. import data
from ..base import errors
from ..base.errors import UserError
from ..base.files import write_atomic
from ..measure.score import REAL, TRUE
from ..show import hero, plots
from . import grid, regime
from .curves import sheet

COLUMNS = 10         # of a run's pictures
NAMES = {"naive": "naive fine-tuning", "published": "DomainStudio", "anchored": "anchored (ours)"}


def run_at(path: Path) -> dict:
    """A run's file. Raises UserError where it is missing, damaged or empty."""
    if not path.exists():
        raise UserError(f"{path} is missing: 'python -m dslib.study regime' makes it")
    return grid.check_same(path, {}) or {"rows": []}


def pictures_of(path: Path) -> Tensor:
    """The strip beside a run's file: (rows, PICTURES, 3, R, R) in [-1,1]."""
    strip = path.with_suffix(".png")
    if not strip.exists():
        raise UserError(f"{strip} is missing: delete {path.name}, and 'python -m dslib.study regime' makes both again")
    with Image.open(strip) as picture:
        size = picture.width // regime.PICTURES
    return data.to_float(sheet(strip, size))


def row_of(run: dict, step: int | None, hit: float | None, until: int | None) -> int:
    """The place of a run's row: after ``step`` steps, or at the first stop whose hits reach ``hit``. Raises UserError for none."""
    for i, row in enumerate(run["rows"]):
        if row["until"] == until and (row["step"] == step if step else row["hit"] >= hit):
            return i
    wanted = f"after {step} steps" if step else f"with {hit:.0%} hits"
    raise UserError(f"{run['target']}, {run['method']}, seed {run['seed']}: no row {wanted}"
                    f"{'' if until is None else f' and source until {until}'}; its stops: {sorted({row['step'] for row in run['rows']})}")


def shown(folder: Path, target: str, method: str, seed: int, step: int | None, hit: float | None, until: int | None = None,
          ) -> tuple[str, hero.Shown]:
    """(what stands before the row, the row) of a run's first pictures. Raises UserError where a file is missing or from before."""
    path = regime.path_of(folder, target, method, seed)
    run = run_at(path)
    place = row_of(run, step, hit, until)
    row = run["rows"][place]
    if "copied" not in row:
        raise UserError(f"{path} does not say which pictures are copies: delete it, and 'python -m dslib.study regime' makes it again")
    way = "" if until is None else f",\nsource for t > {until}"
    name = f"{NAMES.get(method, method)}{way}\n{row['step']} steps"
    runs = [run_at(regime.path_of(folder, target, method, other)) for other in seeds_of(folder, target, method)]
    every = [one["rows"][row_of(one, step, hit, until)] for one in runs]
    note = f"{mean(one['copies'] for one in every):.0%} copies\n{mean(one['hit'] for one in every):.0%} in the domain"
    return name, hero.Shown(pictures_of(path)[place], torch.tensor(row["nearest_ten"]),
                            torch.tensor(row["copied"]).bool(), note)


def seeds_of(folder: Path, target: str, method: str) -> list[int]:
    """The seeds that a method has runs of, at least seed 0."""
    stem = regime.path_of(folder, target, method, 0).name.removesuffix("0.json")
    found = [path.name.removeprefix(stem).removesuffix(".json") for path in Path(folder).glob(f"{stem}*.json")]
    return sorted(int(seed) for seed in found if seed.isdigit()) or [0]


def typical(folder: Path, target: str, rows: list[tuple[str, int | None]], step: int | None, hit: float | None) -> int:
    """The seed whose few pictures frame about as many copies as its whole runs have: least difference, summed over rows."""
    seeds = set.intersection(*(set(seeds_of(folder, target, method)) for method, _ in rows)) or {0}

    def off(seed: int) -> float:
        runs = {way: run_at(regime.path_of(folder, target, way[0], seed)) for way in rows}
        found = [run["rows"][row_of(run, step, hit, until)] for (_, until), run in runs.items()]
        return sum(abs(mean(row["copied"][:COLUMNS]) - row["copies"]) for row in found if "copied" in row)

    return min(sorted(seeds), key=off)


def figure(folder: Path, target: str, rows: list[tuple[str, int | None]], seed: int | None = None, step: int | None = None,
           hit: float | None = None):
    """Ten images, source, true answer, then a row a (method, t_0 or None), all from the same noises.

    After ``step`` steps (the overtrained regime), or where each first reaches ``hit`` (as many samples in the domain). The pictures are
    of one seed, by default the most typical (:func:`typical`); the percentages are means over all seeds and samples.
    """
    goal = regime.path_of(folder, target, REAL, 0)
    known, pictures = run_at(goal)["rows"], pictures_of(goal)
    named = {"source": hero.Shown(pictures[0])}
    if len(pictures) > 1:
        copies = next(row["copies"] for row in known if row["name"] == TRUE)
        named[TRUE] = hero.Shown(pictures[1], note=f"{copies:.0%} copies,\nby chance")
    seed = typical(folder, target, rows, step, hit) if seed is None else seed
    for method, until in rows:
        name, row = shown(folder, target, method, seed, step, hit, until)
        named[name] = row
    count = max(len(seeds_of(folder, target, method)) for method, _ in rows)
    told = f"Percentages: of all samples, {count} training seed{'s' if count > 1 else ''}; shown is seed {seed}."
    return hero.figure(data.load_domain(target, "ten", resolution=pictures.shape[-1]).images, named, COLUMNS, told)


def asked_rows(words: list[str]) -> list[tuple[str, int | None]]:
    """``naive`` or ``naive/500`` → (method, t_0). Raises UserError for an unknown method or what is no number."""
    rows = []
    for word in words:
        method, _, until = word.partition("/")
        if method not in regime.METHODS or (until and not until.isdigit()):
            raise UserError(f"--rows {word}: use methods that 'python -m dslib.study regime --help' lists, or naive/500 for "
                            f"source-until-t")
        rows.append((method, int(until) if until else None))
    return rows


def write(args: argparse.Namespace) -> None:
    """What :func:`main` does with its options."""
    drawn = figure(Path(args.folder), args.target, asked_rows(args.rows), args.seed, args.step, None if args.step else args.hit)
    write_atomic(Path(args.output), plots.to_png(drawn, 100))
    print(args.output)


def main(argv: list[str] | None = None) -> int:
    """Draw the picture; a mistake of the reader's ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dslib.study claim", description=__doc__)
    parser.add_argument("--folder", default="runs/regime", help="where the runs are; default: %(default)s")
    parser.add_argument("--target", default="engraved", choices=data.TWINS + data.TARGETS, help="default: %(default)s")
    parser.add_argument("--rows", nargs="+", default=["naive", "published", "anchored"], metavar="METHOD[/T0]", help="default: %(default)s")
    parser.add_argument("--seed", type=int, help="of the pictures; default: the one whose ten frame about as many copies as all have")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--step", type=int, help="every method after so many steps")
    which.add_argument("--hit", type=float, default=0.9, help="every method at its first stop with such a share in the domain; "
                                                              "default: %(default)s")
    parser.add_argument("--output", default="runs/claim.png", help="default: %(default)s")
    args = parser.parse_args(argv)
    return errors.run(lambda: write(args), "dslib.study.claim")


if __name__ == "__main__":
    sys.exit(main())
