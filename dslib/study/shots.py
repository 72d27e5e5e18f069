"""10, 30, 100, 1000 images: where do the losses stop paying? ``python -m dslib.study shots`` (chapter 13).

Every training stops where it denoises *held-out* pictures of the domain best: not after equal steps, which would compare one method's
prime with another's decay. A file a run: the error on the way, and the scores of the model at its best. ``--pack`` writes the table.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from torch import Tensor
from tqdm.auto import tqdm

from .. import data, metrics, models, train
from ..base import errors
from ..base.errors import UserError
from ..base.files import as_json, data_dir, write_atomic
from ..base.identity import fingerprint
from ..measure.membership import denoising_errors
from . import grid, regime
from .ablations import training_images
from .curves import as_csv, png

SHOTS = (10, 30, 100, 1000)
STOPS = (25, 50, 75, 100, 150, 200, 300, 400, 500, 650, 800, 1000, 1200)
PATIENCE = 3                                     # stops in a row without a better error end a training
HELD_OUT, ASKED = 64, (50, 200, 400, 600, 800)   # pictures of the validation split, and the steps t at which they are denoised
METHODS = {"naive": regime.NAIVE, "published": {}, "anchored": regime.ANCHORED}
AT_A_TIME = 10                                   # of a larger batch, so many images pass the networks at a time
COLUMNS = ("target", "method", "shots", "batch", "seed", "step", "error", "steps_made", "seconds", "num_images", "source", *regime.SCORES)


class Ruler(regime.Ruler):
    """The same scores, of trainings on any number of images; copies are those of the images that a model was trained on."""

    def __init__(self, source, target: str, num_images: int):
        super().__init__(source, target, num_images)
        self.held_out = data.load_domain(target, "validation", HELD_OUT, self.ten.shape[-1]).images
        self.real_to_training: dict[int, Tensor] = {}

    def error(self, unet) -> float:
        """The mean error of the model's answer for held-out pictures: noise of one draw, the same for all models and stops."""
        return float(denoising_errors(unet, self.source.scheduler, self.held_out, list(ASKED), 1).mean())

    def scores(self, images: Tensor, training: Tensor) -> dict[str, float | None]:
        """Scores of samples; Intra-LPIPS groups by the ten, whatever the model saw."""
        if len(training) not in self.real_to_training:
            self.real_to_training[len(training)] = metrics.lpips_matrix(self.real, training)
        evidence = self.evidence(images)
        evidence.training, evidence.real_to_training = training, self.real_to_training[len(training)]
        evidence.nearest_real = evidence.real_to_training.min(1).values
        return regime.rounded(evidence)


def settings(method: str, shots: int, seed: int, steps: int, mixed_precision: str = "no", batch: int = 10) -> train.TrainConfig:
    """A training's settings: anchors are at least as many as the images; a batch of more than ``AT_A_TIME`` goes in parts."""
    changes = {"max_train_steps": steps, "seed": seed, "mixed_precision": mixed_precision, "train_batch_size": batch,
               "micro_batch_size": AT_A_TIME if batch > AT_A_TIME else 0} | METHODS[method]
    if "num_anchors" in changes:
        changes["num_anchors"] = max(changes["num_anchors"], shots)
    return train.TrainConfig(**changes)


def until_best(steps: Iterator[train.Step], error_of, stops: tuple[int, ...], patience: int = PATIENCE,
               ) -> tuple[list[tuple[int, float]], object]:
    """Train until the error has not improved at ``patience`` stops in a row: ([(step, error) at every stop], the model at its best)."""
    curve, best = [], None
    for step in steps:
        if step.step not in stops:
            continue
        unet = step.averaged()
        curve.append((step.step, error_of(unet)))
        least = min(range(len(curve)), key=lambda i: curve[i][1])
        if least == len(curve) - 1:
            best = unet
        elif len(curve) - 1 - least >= patience:
            break
    return curve, best


def path_of(folder: Path, target: str, method: str, shots: int, seed: int, batch: int = 10) -> Path:
    """The file of a run."""
    return folder / (f"{target}-{method}-{shots}-" + (f"batch{batch}-" if batch != 10 else "") + f"{seed}.json")


def follow(run: grid.Run, ruler: Ruler, facts: dict) -> bytes:
    """Train a run until its best stop, score it there, and return its file; its first pictures are written beside it."""
    shots, began = run.settings["shots"], time.perf_counter()
    images = training_images(ruler.target, shots, ruler.ten.shape[-1])
    config = settings(run.settings["method"], shots, run.seed, max(run.stops), facts["mixed_precision"],
                      run.settings["batch"])
    steps = tqdm(train.adapt(ruler.source, images, config), total=config.max_train_steps, desc=run.path.stem, leave=False)
    curve, unet = until_best(steps, ruler.error, run.stops)
    seconds = time.perf_counter() - began
    step, error = min(curve, key=lambda one: one[1])
    drawn = ruler.draw(unet)
    row = {"step": step, "error": round(error, 6), "steps_made": curve[-1][0], "seconds": round(seconds, 1)} | ruler.scores(drawn, images)
    print(f"{run.path.stem}: {as_json(row, None)}", file=sys.stderr, flush=True)
    write_atomic(run.path.with_suffix(".png"), png(drawn[None, :regime.PICTURES]))
    return grid.as_file(facts | run.settings | {"seed": run.seed, "curve": [[s, round(e, 6)] for s, e in curve]}, [row])


def work(folder: Path, target: str, runs: list[tuple[int, str, int]], source: str | None, stops: tuple[int, ...], num_images: int,
         mixed_precision: str = "no") -> None:
    """Make the runs that are missing: (seed, method, shots, batch) each."""
    wanted = [grid.Run(path_of(folder, target, method, shots, seed, batch),
                       {"target": target, "method": method, "shots": shots, "batch": batch}, seed, stops)
              for seed, method, shots, batch in runs]
    if not grid.pending(wanted):
        return
    opened = models.load_source(source)
    facts = {"source": fingerprint(opened.unet.state_dict()), "num_images": num_images, "stops": list(stops),
             "mixed_precision": mixed_precision}
    for path in sorted(folder.glob("*.json")):
        grid.check_same(path, facts)
    ruler = Ruler(opened, target, num_images)
    grid.work(wanted, lambda run: follow(run, ruler, facts))


def pack(folder: Path) -> list[dict]:
    """The rows of all runs in a folder, which must share source, stops and number of images."""
    table = []
    for _, run in grid.same_runs(folder, ("source", "num_images", "stops", "mixed_precision"), "shots"):
        table += [{key: run.get(key) for key in COLUMNS} | {"batch": run.get("batch", 10)} | row for row in run["rows"]]
    order = list(METHODS)
    return sorted(table, key=lambda row: (row["target"], order.index(row["method"]), row["shots"], row["batch"], row["seed"]))


def main(argv: list[str] | None = None) -> int:
    """Work through the runs, or pack them; a mistake of the reader's ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dslib.study shots", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", default="runs/shots", help="where the runs are; default: %(default)s")
    parser.add_argument("--target", choices=data.TWINS + data.TARGETS, default="engraved", help="default: %(default)s")
    parser.add_argument("--shots", type=int, nargs="+", default=list(SHOTS), help="numbers of images; default: %(default)s")
    parser.add_argument("--train_batch_sizes", type=int, nargs="+", default=[10],
                        help=f"images a step, at most the shots; above {AT_A_TIME} in parts of so many; default: %(default)s")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["naive", "anchored"], help="default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    parser.add_argument("--stops", type=int, nargs="+", default=list(STOPS), help="steps at which held-out pictures are denoised")
    parser.add_argument("--num_images", type=int, default=128, help="samples to score; default: %(default)s")
    parser.add_argument("--mixed_precision", choices=("no", "fp16", "bf16"), default="no", help="of the trainings; bf16 saves a third here")
    parser.add_argument("--source", help="pipeline folder or hub id; default: the shipped avatar model")
    parser.add_argument("--pack", action="store_true", help="train nothing: write --output from the runs that are there")
    parser.add_argument("--output", help="default: the table that chapter 13 reads")
    args = parser.parse_args(argv)
    return errors.run(lambda: work_or_pack(args), "dslib.study.shots", "; the runs that are complete are kept")


def work_or_pack(args: argparse.Namespace) -> None:
    """What the command does with its options."""
    folder = Path(args.folder)
    if args.pack:
        output = Path(args.output or data_dir() / "results" / "beyond" / "shots.csv")
        write_atomic(output, as_csv(pack(folder), COLUMNS).encode())
        print(output)
        return
    if min(args.shots) < 2 or min(args.stops) < 1:
        raise UserError(f"--shots {min(args.shots)} --stops {min(args.stops)}: at least 2 images, and 1 step")
    if not 32 <= args.num_images <= regime.GOALS:
        raise UserError(f"--num_images is {args.num_images}: use 32 to {regime.GOALS}")
    for batch in args.train_batch_sizes:
        if batch < 4 or batch > max(10, min(args.shots)) or batch > AT_A_TIME and batch % AT_A_TIME:
            raise UserError(f"--train_batch_sizes holds {batch}: use 4 to 10, or a multiple of {AT_A_TIME} up to the fewest --shots")
    runs = [(seed, method, shots, batch) for seed, shots, batch, method in product(
        dict.fromkeys(args.seeds), sorted(set(args.shots)), dict.fromkeys(args.train_batch_sizes), args.methods)]
    work(folder, args.target, runs, args.source, tuple(sorted(set(args.stops))), args.num_images, args.mixed_precision)


if __name__ == "__main__":
    sys.exit(main())
