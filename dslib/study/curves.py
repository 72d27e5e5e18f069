"""The way, not its end alone: every method scored again and again while it trains, on every domain (chapter 08).

``python -m dslib.study curves`` works through targets × methods × seeds, a file a run, so that it can be stopped at any time and goes on
where it was; ``--pack`` adds the runs that are there to the one table that the chapter reads.
"""

import argparse
import copy
import csv
import io
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import data, models
from ..base import errors
from ..base.bank import Bank
from ..base.errors import UserError, first_line
from ..base.files import data_dir, write_atomic
from . import ablations, grid

STOPS = (75, 150, 225, 300)
NUM_IMAGES, INFERENCE_STEPS, SPLIT, PICTURES = 64, 20, "test", 6
SEEDS, REAL = (0, 1, 2), "real, held out"
METRICS, LATER_METRICS = ("intra", "nearest", "fd", "hit"), ("copies", "kd", "precision", "recall")      # keys of measure.score.SCORES
COLUMNS = ("target", "method", "seed", "step", "num_images", *METRICS, *LATER_METRICS)

# name → what differs from the defaults of TrainConfig
METHODS: dict[str, dict] = {
    "finetune": {"method": "finetune"},
    "DomainStudio": {},
    "without L_hf": {"lambda_hf": 0.0},
    "without L_img": {"lambda_img": 0.0},
    "without L_hfmse": {"lambda_hfmse": 0.0},
    "finetune, mirrored": {"method": "finetune", "random_flip": True},
    "scratch": {"method": "scratch"},
}
MAIN = ("finetune", "DomainStudio", "without L_hf")
LONG = dict.fromkeys(("sunglasses", "adventurers"), (600, 900, 1200))       # there the main methods go on until naive fine-tuning copies


def known(rows: list[dict]) -> set[tuple[str, str, int]]:
    """The runs that rows come from: {(target, method, seed)}."""
    return {(row["target"], row["method"], row["seed"]) for row in rows}


def path_of(folder: Path, target: str, method: str, seed: int) -> Path:
    """Where a run's rows are kept; its first pictures lie beside them as a PNG."""
    return folder / f"{target}-{method.replace(', ', '-').replace(' ', '-')}-{seed}.csv"


def stops_of(target: str, method: str) -> tuple[int, ...]:
    """The steps at which a run is scored."""
    return STOPS + (LONG.get(target, ()) if method in MAIN else ())


def work(folder: Path, runs: Iterable[tuple[str, str, int]], source: str | None = None, stops: tuple[int, ...] | None = None,
         num_images: int = NUM_IMAGES, inference_steps: int = INFERENCE_STEPS) -> None:
    """Make every (target, method, seed) whose file is not in the folder yet, and what real images of its target score."""
    missing = grid.pending(grid.Run(path_of(folder, *run), {"target": run[0], "method": run[1]}, run[2],
                                    tuple(sorted(stops or stops_of(*run[:2])))) for run in runs)
    if missing:
        scorer = Scorer(models.load_source(source), num_images, inference_steps)
        grid.work(missing, scorer.score_run)


class Scorer:
    """Trains runs and scores them on the way; what runs of one target or one seed share is made once."""

    def __init__(self, pipe, num_images: int, inference_steps: int):
        self.pipe, self.num_images, self.inference_steps = pipe, num_images, inference_steps
        self.rulers: dict[str, ablations.Ruler] = {}
        self.bank, self.asked = None, None           # the source's answers, and to which (target, seed)

    def ruler(self, target: str, folder: Path) -> ablations.Ruler:
        """The target's ruler; the first time, what real images score is written beside the runs."""
        if target not in self.rulers:
            keys = METRICS + LATER_METRICS
            ruler = self.rulers[target] = ablations.Ruler(self.pipe, target, self.num_images, self.inference_steps, SPLIT, keys)
            row = row_of(target, REAL, 0, 0, self.num_images, ruler.measure(ruler.real, ruler.ten))
            write(path_of(folder, target, REAL, 0), [row], ruler.real)
        return self.rulers[target]

    def score_run(self, run: grid.Run) -> bytes:
        """Train and score a run: its rows as CSV, its pictures already beside them."""
        target, method = run.settings["target"], run.settings["method"]
        if self.asked != (target, run.seed):         # the bank's answers are those to this seed's noise on these ten
            self.asked, self.bank = (target, run.seed), Bank(copy.deepcopy(self.pipe.unet).requires_grad_(False).eval())
        ruler, rows, pictures = self.ruler(target, run.path.parent), [], None
        for scores, drawn in ablations.run(ruler, METHODS[method] | {"seed": run.seed}, list(run.stops), self.bank):
            rows.append(row_of(target, method, run.seed, scores["steps"], self.num_images, scores))
            pictures = drawn if pictures is None or scores["steps"] <= max(STOPS) else pictures
        write_pictures(run.path, pictures)
        print(as_csv(rows[-1:]).splitlines()[1], file=sys.stderr)
        return as_csv(rows).encode()


def row_of(target: str, method: str, seed: int, step: int, num_images: int, scores: dict) -> dict:
    """A row of the table: which run, which step, how many images, and the scores rounded."""
    return {"target": target, "method": method, "seed": seed, "step": step, "num_images": num_images} | {
        metric: round(scores[metric], 4) for metric in METRICS + LATER_METRICS}


def as_csv(rows: list[dict], columns: tuple[str, ...] = COLUMNS) -> str:
    """Rows as CSV with a header line."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write(path: Path, rows: list[dict], pictures: Tensor | None = None) -> None:
    """Rows as CSV and, beside them, the first pictures side by side as a PNG; each whole or not at all."""
    if pictures is not None:
        write_pictures(path, pictures)
    write_atomic(path, as_csv(rows).encode())


def write_pictures(path: Path, pictures: Tensor) -> None:
    """The first pictures of a run side by side, as a PNG beside its rows."""
    write_atomic(path.with_suffix(".png"), png(pictures[:PICTURES][None]))


def read(path: Path) -> list[dict]:
    """The inverse of :func:`write`; None where a cell is empty: not measured. Raises UserError naming the file and the mend."""
    def value(name: str, text: str):
        return text if name in ("target", "method") else int(text) if name in ("seed", "step", "num_images") else float(text)

    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))
        if not rows or set(rows[0]) != set(COLUMNS):
            raise ValueError("no rows, or other columns")
        return [{name: value(name, row[name]) if row[name] or name not in LATER_METRICS else None for name in COLUMNS} for row in rows]
    except FileNotFoundError:
        raise UserError(f"no {path}: 'python -m dslib.study curves' makes the runs, --pack then writes it") from None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}): delete it and make it again with "
                        "'python -m dslib.study curves'") from None


def pack(folder: Path, kept: list[dict]) -> list[dict]:
    """The rows that are kept already and those of the folder's runs, in the order of targets, methods, seeds and steps.

    Raises UserError for runs scored on another number of images: a Fréchet distance depends on it.
    """
    rows, there = list(kept), known(kept)
    for path in sorted(folder.glob("*.csv")):
        new = read(path)
        rows += [row for row in new if (row["target"], row["method"], row["seed"]) not in there]
        if rows and new[0]["num_images"] != rows[0]["num_images"]:
            raise UserError(f"{path} was scored on {new[0]['num_images']} images, others on {rows[0]['num_images']}: "
                            "choose another --output, and another --folder, for it")
    if not rows:
        raise UserError(f"{folder} holds no run: make them with 'python -m dslib.study curves'")
    order = [REAL, *METHODS]
    return sorted(rows, key=lambda row: (data.TARGETS.index(row["target"]), order.index(row["method"]), row["seed"], row["step"]))


def png(images: Tensor) -> bytes:
    """Images (rows, columns, 3,R,R) in [-1,1] or uint8 as one sheet without gaps."""
    pixels, content = data.to_uint8(data.to_float(images)), io.BytesIO()
    r, c, _, height, width = pixels.shape
    sheet = pixels.permute(0, 3, 1, 4, 2).reshape(r * height, c * width, 3)
    Image.fromarray(sheet.numpy()).save(content, "png", optimize=True)
    return content.getvalue()


def sheet(path: Path, size: int = 64) -> Tensor:
    """The inverse of :func:`png`: (rows, columns, 3, size, size) uint8. Raises UserError naming the file."""
    try:
        pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB")))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}): 'python -m dslib.study curves --pack' writes it") from None
    return pixels.unflatten(1, (-1, size)).unflatten(0, (-1, size)).permute(0, 2, 4, 1, 3)


def pack_pictures(folder: Path) -> Tensor | None:
    """Real images and the main methods' pictures of seed 0, a row each, domain after domain; None where a run is missing."""
    paths = [path_of(folder, target, method, 0).with_suffix(".png") for target in data.TARGETS for method in (REAL, *MAIN)]
    return torch.cat([sheet(path) for path in paths]) if all(path.exists() for path in paths) else None


def pictures() -> dict[tuple[str, str], Tensor]:
    """The committed pictures: (target, method) → (6,3,64,64) uint8, from the same start noise, after the last of ``STOPS``."""
    return dict(zip(product(data.TARGETS, (REAL, *MAIN)), sheet(data_dir() / "results" / "08_thousand.png")))


def load(name: str = "08_curves.csv") -> list[dict]:
    """The committed rows: three seeds with 64 samples each, or ``08_thousand.csv``, mostly one seed with a thousand."""
    return read(data_dir() / "results" / name)


def curve(rows: list[dict], target: str, method: str, metric: str) -> list[tuple[int, float, float | None]]:
    """(step, mean over seeds, standard deviation or None for one seed) along a method's way."""
    by_step: dict[int, list[float]] = {}
    for row in rows:
        if row["target"] == target and row["method"] == method:
            by_step.setdefault(row["step"], []).append(row[metric])
    return [(step, mean(values), stdev(values) if len(values) > 1 else None) for step, values in sorted(by_step.items())]


def through(rows: list[dict], methods: tuple[str, ...], metrics: dict[str, str]) -> tuple[dict, dict]:
    """What :func:`dslib.show.plots.ways` draws: each method's way through the domain hit and a score, means over
    seeds, and real images' scores.

    metrics: a score's name in the rows → its title.
    """
    targets = list(dict.fromkeys(row["target"] for row in rows))

    def way(target, method, metric):
        return [(hit, value) for (_, hit, _), (_, value, _) in zip(curve(rows, target, method, "hit"), curve(rows, target, method, metric))]

    values = {title: {target: {method: points for method in methods if (points := way(target, method, metric))} for target in targets}
              for metric, title in metrics.items()}
    real = {title: {row["target"]: row[metric] for row in rows if row["method"] == REAL} for metric, title in metrics.items()}
    return values, real


def table(rows: list[dict], step: int = max(STOPS)) -> list[dict]:
    """One row a (target, method) after ``step`` steps: how many seeds, and (mean, standard deviation or None) of every score.

    None in the place of the pair if some seed has no such score.
    """
    def over(group, name):
        values = [row[name] for row in group]
        return None if None in values else (mean(values), stdev(values) if len(values) > 1 else None)

    groups: dict[tuple, list[dict]] = {}
    for row in rows:
        if row["step"] == step or row["method"] == REAL:
            groups.setdefault((row["target"], row["method"]), []).append(row)
    return [{"target": target, "method": method, "seeds": len(group)}
            | {name: over(group, name) for name in METRICS + LATER_METRICS}
            for (target, method), group in groups.items()]


def against_early_stopping(rows: list[dict], target: str, method: str = "DomainStudio", step: int = max(STOPS)) -> list[dict]:
    """A method after ``step`` steps beside naive fine-tuning stopped where as many samples are in the domain; one dict a seed of both.

    ``mine`` and ``naive``: how far Intra-LPIPS and nearest-LPIPS are from real images', and FD; ``hit`` of the method, ``step`` of naive
    fine-tuning; ``further``: whether the method's samples are further from the training images. Seeds at which naive fine-tuning never
    gets so far, or was further at its first stop, are left out.
    """
    real = next(row for row in rows if row["target"] == target and row["method"] == REAL)

    def apart(row):
        return {"intra": abs(row["intra"] - real["intra"]), "nearest": abs(row["nearest"] - real["nearest"]), "fd": row["fd"]}

    def ways(name):
        seeds = sorted({row["seed"] for row in rows if (row["target"], row["method"]) == (target, name)})
        return {seed: [row for row in rows if (row["target"], row["method"], row["seed"]) == (target, name, seed)] for seed in seeds}

    pairs, naive = [], ways("finetune")
    for seed, way in ways(method).items():
        mine = next((row for row in way if row["step"] == step), None)
        comparable = mine and seed in naive and naive[seed][0]["hit"] <= mine["hit"]
        stopped = stopped_at_hit(naive[seed], mine["hit"]) if comparable else None
        if stopped:
            pairs.append({"seed": seed, "hit": mine["hit"], "step": stopped["step"], "mine": apart(mine), "naive": apart(stopped),
                          "further": mine["nearest"] > stopped["nearest"]})
    return pairs


def stopped_at_hit(rows: list[dict], hit: float, keys: tuple[str, ...] = ("step", *METRICS)) -> dict | None:
    """A run's scores where it first reaches a domain hit, between two of its stops on a straight line; None if it never does.

    rows: one run's, in the order of steps. Also the step, so far as the line can tell: this is what *stopping early* would have given.
    A run that is there at its first stop already is told from that stop. A score that is missing (None) at either end is None.
    """
    for before, after in zip([rows[0], *rows], rows) if rows else ():
        if after["hit"] >= hit:
            rise = after["hit"] - before["hit"]
            share = (hit - before["hit"]) / rise if rise > 0 else 1.0
            return {key: None if None in (before[key], after[key]) else before[key] + share * (after[key] - before[key]) for key in keys}
    return None


def main(argv: list[str] | None = None) -> int:
    """Work through the runs, or pack them; a mistake of the reader's ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dslib.study curves", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", default="runs/curves", help="where the runs are; default: %(default)s")
    parser.add_argument("--targets", nargs="+", choices=data.TARGETS, default=list(data.TARGETS), help="default: all five")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="default: 0 1 2")
    parser.add_argument("--num_images", type=int, default=NUM_IMAGES, help="samples to score each time; default: %(default)s")
    parser.add_argument("--stops", type=int, nargs="+", help="steps to score at; default: 75 150 225 300, and for the main methods on "
                        "sunglasses and adventurers 600 900 1200")
    parser.add_argument("--source", help="pipeline folder or hub id; default: the shipped avatar model")
    parser.add_argument("--pack", action="store_true", help="train nothing: add the runs that are there to --output")
    parser.add_argument("--output", help="default: the file that chapter 08 reads; what it holds already is not run again")
    args = parser.parse_args(argv)
    return errors.run(lambda: work_or_pack(args), "dslib.study.curves", "; the runs that are complete are kept")


def work_or_pack(args: argparse.Namespace) -> None:
    """What :func:`main` does with its options."""
    output, folder = Path(args.output or data_dir() / "results" / "08_curves.csv"), Path(args.folder)
    if args.num_images < 32:
        raise UserError(f"--num_images is {args.num_images}: at least 32 are needed to score them")
    kept = read(output) if output.exists() else []
    if args.pack:
        write_atomic(output, as_csv(pack(folder, kept)).encode())
        if (sheets := pack_pictures(folder)) is not None:
            write_atomic(output.with_suffix(".png"), png(sheets))
        print(output)
        return
    if not args.output and kept and (args.source or args.stops or args.num_images != kept[0]["num_images"]):
        raise UserError(f"{output} holds runs of other settings: choose another --output, and another --folder")
    if args.stops and min(args.stops) < 1:
        raise UserError(f"--stops holds {min(args.stops)}: the first step is 1")
    runs = [(target, method, seed) for seed, target, method in product(dict.fromkeys(args.seeds), args.targets, args.methods)]
    work(folder, [run for run in runs if run not in known(kept)], args.source, args.stops, args.num_images)


if __name__ == "__main__":
    sys.exit(main())
