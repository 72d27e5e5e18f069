"""Change one choice at a time, train, draw and measure every point alike: the grid behind chapter 08's sliders.

``python -m dslib.study ablations`` works through the grid, a file a run, so that it can be stopped at any time and goes on where
it was; ``--pack`` writes the runs that are there into the one file that the chapter reads.
"""

import argparse
import copy
import io
import json
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import data, metrics, models, sample, train
from ..base import errors
from ..base.bank import Bank
from ..base.errors import UserError, first_line
from ..base.files import as_json, data_dir, write_atomic
from ..base.identity import fingerprint, other_part
from ..beyond import weights
from ..measure.probes import domain_probe
from ..measure.score import Evidence, measure
from ..show.widgets import along  # noqa: F401  (a grid is read here, its sliders are drawn there)
from . import grid
from .tables import pooled_std

STEPS, SHOTS, NUM_IMAGES, THUMBS = 150, 10, 48, 6
TARGET, SPLIT = "sunglasses", "validation"          # never the ``test`` images that the results table uses
KEYS = ("intra", "intra_error", "nearest", "nearest_real", "fd", "hit")      # of dslib.measure.score.SCORES
NAIVE, NO_HF, BANK = {"method": "finetune"}, {"lambda_hf": 0.0}, {"bank_steps": 20}

# axis → value on the slider → what differs from the defaults of TrainConfig; "shots" and "balanced" are ours
AXES: dict[str, dict[str, dict]] = {
    "method": {"DomainStudio": {}, "naive": NAIVE},
    "λ2, L_img": {"0": {"lambda_img": 0.0}, "0.1": {"lambda_img": 0.1}, "0.3": {}, "1": {"lambda_img": 1.0}, "3": {"lambda_img": 3.0}},
    "λ3, L_hf": {"0": {"lambda_hf": 0.0}, "0.1": {"lambda_hf": 0.1}, "0.3": {}, "3": {"lambda_hf": 3.0}},
    "λ4, L_hfmse": {"0": {"lambda_hfmse": 0.0}, "0.5": {}, "2": {"lambda_hfmse": 2.0}},
    "steps": {str(s): {"max_train_steps": s} for s in (50, 100, 150, 300)},
    "steps, naive": {str(s): NAIVE | {"max_train_steps": s} for s in (50, 100, 150, 300)},
    "shots": {"3": {"shots": 3}, "10": {}, "30": {"shots": 30}, "100": {"shots": 100}, "1000": {"shots": 1000}},
    "shots, naive": {"1": NAIVE | {"shots": 1}, "3": NAIVE | {"shots": 3}, "10": NAIVE, "30": NAIVE | {"shots": 30},
                     "100": NAIVE | {"shots": 100}, "1000": NAIVE | {"shots": 1000}},
    "detail": {"haar": {}, "stacked": {"detail": "stacked"}, "haar, level 2": {"detail": "haar_level_2"}, "db2": {"detail": "db2"},
               "pixels": {"detail": "pixels"}},
    "compared by L_img": {"pixels": {}, "centred": {"pairwise_space": "centred"}, "features": {"pairwise_space": "features"}},
    "temperature": {"0.1": {"pairwise_temperature": 0.1}, "0.3": {"pairwise_temperature": 0.3}, "1": {}},
    "range of t": {"all": {}, "below 500": {"pairwise_t_max": 500}, "500 and above": {"pairwise_t_min": 500}},
    "KL": {"ada‖sou": {}, "sou‖ada": {"pairwise_direction": "sou||ada"}, "means of three, our λ": {"pairwise_variant": "authors"}},
    "weighting over t": {"both": {}, "L_hfmse as published": {"hfmse_weighting": "none"},
                         "L_img, L_hf as published": {"pairwise_weighting": "none"}},
    "batch": {"3": {"train_batch_size": 3}, "10": {}},
    "weights": {"fixed": {}, "balanced": {"balanced": True}},
    "mirror images": {"no": {}, "yes": {"random_flip": True}},
    "seed": {"0": {}, "1": {"seed": 1}, "2": {"seed": 2}},
    "seed, naive": {"0": NAIVE, "1": NAIVE | {"seed": 1}, "2": NAIVE | {"seed": 2}},
    "seed, no L_hf": {"0": NO_HF, "1": NO_HF | {"seed": 1}, "2": NO_HF | {"seed": 2}},
    "no L_hf, and": {"nothing else": NO_HF, "λ2 = 1": NO_HF | {"lambda_img": 1.0}, "features": NO_HF | {"pairwise_space": "features"}},
    "bank": {"5 steps": {"bank_steps": 5}, "20 steps": BANK, "never": {}},
    "seed, bank of 20": {"0": BANK, "1": BANK | {"seed": 1}, "2": BANK | {"seed": 2}},
}


class Grid(NamedTuple):
    """The measured points. ``rows[i]`` belongs to ``thumbs[i]``."""
    rows: list[dict]       # axis, value, changes, steps, seconds, intra, intra_error, nearest, nearest_real, fd, hit
    thumbs: Tensor         # (points, THUMBS, 3, R, R) uint8, all from the same start noise
    facts: dict            # what all points have in common, and the same numbers of real images


def margin(groups: list[list[float]], confidence: float = 0.95) -> float:
    """How far one more run may lie from the mean of the first group by luck alone: t·s·√(1 + 1/n).

    groups: scores of runs that differ in their seed alone, one list a setting, at least one of them with two runs; s: their
    pooled spread; n: runs in the first group; t: Student's, with as many degrees of freedom as runs less groups.
    """
    from scipy.stats import t

    freedom = sum(len(group) - 1 for group in groups)
    if freedom < 1:
        raise UserError("luck cannot be told from one run a setting: give at least two seeds of one")
    return float(t.ppf((1 + confidence) / 2, freedom)) * pooled_std(groups) * (1 + 1 / len(groups[0]))**0.5


def training_images(target: str, shots: int, resolution: int) -> Tensor:
    """The first of the ten, or more images of the domain: (shots,3,R,R)."""
    split = "ten" if shots <= data.SHOTS else "train"
    return data.load_domain(target, split, shots, resolution).images


class Ruler:
    """What every point is measured with: the ten, real images, a probe, and the start noise that all share."""

    def __init__(self, source, target: str = TARGET, num_images: int = NUM_IMAGES, inference_steps: int = 15, split: str = SPLIT,
                 keys: tuple[str, ...] = KEYS):
        size = source.unet.config.sample_size
        self.source, self.target, self.inference_steps, self.keys = source, target, inference_steps, keys
        self.ten = data.load_domain(target, "ten", resolution=size).images
        others = min(4 * num_images, 1000)
        self.real, reference = data.load_domain(target, split, num_images + others, size).images.split([num_images, others])
        self.reference = metrics.pooled_features(reference)
        self.probe = domain_probe(target, size)
        self.noise = sample.start_noise(num_images, size, 100, source.unet.config.in_channels)

    def draw(self, unet) -> Tensor:
        return sample.sample(unet, self.source.scheduler, self.noise, self.inference_steps, "dpmsolver")

    def measure(self, images: Tensor, training: Tensor) -> dict:
        """Scores of images (N,3,R,R). Groups of Intra-LPIPS are those of the ten, whatever the model was trained on."""
        return measure(Evidence(images, self.ten, training[:100], self.real, None, self.reference, self.probe), self.keys)


def run(ruler: Ruler, changes: dict, stops: list[int], bank: Bank, progress: bool = True) -> Iterator[tuple[dict, Tensor]]:
    """Train with some changes to the defaults, and yield (scores, samples) after each of the steps in ``stops``."""
    changes = dict(changes)
    images = training_images(ruler.target, changes.pop("shots", SHOTS), ruler.ten.shape[-1])
    start = weights.balanced if changes.pop("balanced", False) else None
    config = train.TrainConfig(**{"max_train_steps": max(stops)} | changes)
    began = time.perf_counter()
    quiet = {} if progress else {"disable": True}
    steps = train.adapt(ruler.source, images, config, frozen=bank, start=start)
    for step in tqdm(steps, total=max(stops), desc=name_of(changes), leave=False, **quiet):
        if step.step in stops:
            seconds = time.perf_counter() - began
            drawn = ruler.draw(step.averaged())
            yield {"steps": step.step, "seconds": round(seconds, 1)} | ruler.measure(drawn, images), drawn
            began += time.perf_counter() - began - seconds          # drawing and scoring are not training


def name_of(changes: dict) -> str:
    """A file name for a run: its changes, or "default"."""
    return ",".join(f"{key}={value}" for key, value in sorted(changes.items())).replace("|", "") or "default"


def runs(axes: dict[str, dict[str, dict]] = AXES) -> dict[str, tuple[dict, list[int]]]:
    """The grid as runs: name → (changes, steps to stop at). Points that differ in their number of steps alone share one."""
    stops_of: dict[str, tuple[dict, list[int]]] = {}
    for values in axes.values():
        for changes in values.values():
            rest = {key: value for key, value in changes.items() if key != "max_train_steps"}
            _, stops = stops_of.setdefault(name_of(rest), (rest, []))
            stops.append(changes.get("max_train_steps", STEPS))
    return {name: (rest, sorted(set(stops))) for name, (rest, stops) in stops_of.items()}


def work(folder: Path, only: list[str] | None = None, mixed_precision: str = "no", source: str | None = None,
         kept: Grid | None = None) -> None:
    """Make every run that is neither in the folder nor in the grid that is ``kept``: ``<name>.npz`` each."""
    mine = {"mixed_precision": mixed_precision, "source": source or "shipped"}
    same = kept is not None and all({"source": "shipped", "mixed_precision": "no", **kept.facts}[key] == mine[key] for key in mine)
    points = {place(row) for row in kept.rows} if same else set()
    wanted = {name: run for name, run in runs().items() if not only or any(word in name for word in only)}
    known = {folder / f"{name}.npz" for name, (_, stops) in wanted.items() if all((name, stop) in points for stop in stops)}
    missing = grid.pending([grid.Run(folder / f"{name}.npz", changes, changes.get("seed", 0), tuple(stops))
                            for name, (changes, stops) in wanted.items()], known)
    if not missing:
        return
    pipe = models.load_source(source)
    ruler, bank = Ruler(pipe), Bank(copy.deepcopy(pipe.unet).requires_grad_(False).eval())
    grid.work(missing, lambda run: train_point(run, ruler, bank, mine))


def train_point(point: grid.Run, ruler: Ruler, bank: Bank, facts: dict) -> bytes:
    """Train a run of the grid and return its file."""
    shared = not {"shots", "seed", "train_batch_size", "random_flip", "bank_steps"} & set(point.settings)
    answers = bank if shared else Bank(bank.unet)               # other noise or images: other questions
    rows, thumbs = [], []
    changes = point.settings | {"mixed_precision": facts["mixed_precision"]}
    for row, drawn in run(ruler, changes, list(point.stops), answers):
        rows.append(row)
        thumbs.append(data.to_uint8(drawn[:THUMBS]))
        print(f"{point.path.stem}: {json.dumps(row)}", file=sys.stderr)
    return as_npz(rows, torch.stack(thumbs), facts | ruler_facts(ruler))


def ruler_facts(ruler: Ruler) -> dict:
    """What all points share, and what real images score."""
    identity = {"source": fingerprint(ruler.source.unet.state_dict())}
    return {"identity": identity, "target": ruler.target, "split": SPLIT, "num_images": len(ruler.noise),
            "num_inference_steps": ruler.inference_steps, "scheduler": "dpmsolver", "backbone": "st-alex",
            "real": ruler.measure(ruler.real, ruler.ten)}


def as_npz(rows: list[dict], thumbs: Tensor, facts: dict) -> bytes:
    """Rows, thumbnails and facts in one npz without pickles. Points that share a run share their pictures."""
    content = io.BytesIO()
    pictures, which = np.unique(thumbs.numpy(), axis=0, return_inverse=True)
    words = np.frombuffer(as_json({"rows": rows, "facts": facts}, None).encode(), np.uint8)
    np.savez_compressed(content, pictures=pictures, which=which.reshape(-1), words=words)
    return content.getvalue()


def write(path: Path, rows: list[dict], thumbs: Tensor, facts: dict) -> None:
    """A grid's file, whole or not at all."""
    write_atomic(path, as_npz(rows, thumbs, facts))


def read(path: Path) -> Grid:
    """The inverse of :func:`write`. Raises UserError naming the file and the mend."""
    try:
        with np.load(path, allow_pickle=False) as file:
            words, thumbs = json.loads(file["words"].tobytes()), torch.from_numpy(file["pictures"][file["which"]])
        return Grid(words["rows"], thumbs, words["facts"])
    except FileNotFoundError:
        raise UserError(f"no {path}: 'python -m dslib.study ablations' works through the grid, --pack then writes it") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}): delete it and run 'python -m dslib.study ablations --pack'") from None


def place(row: dict) -> tuple[str, int]:
    """The run that a point of a grid comes from, and the step at which it was measured."""
    return name_of({key: value for key, value in row["changes"].items() if key != "max_train_steps"}), row["steps"]


def pack(folder: Path, kept: Grid | None = None) -> Grid:
    """All points whose run is in the folder or that the grid ``kept`` holds, in the order of ``AXES``; stderr says what is missing."""
    points, facts = collect_points(folder, kept)
    rows, thumbs, missing = [], [], []
    for axis, values in AXES.items():
        for value, changes in values.items():
            where = place({"changes": changes, "steps": changes.get("max_train_steps", STEPS)})
            if where not in points:
                missing.append(f"{axis} {value}")
                continue
            row, pictures = points[where]
            rows.append(row | {"axis": axis, "value": value, "changes": changes})
            thumbs.append(pictures)
    if missing:
        print(f"not there yet: {'; '.join(missing)}", file=sys.stderr)
    if not rows:
        raise UserError(f"{folder} holds no run of the grid: make them with 'python -m dslib.study ablations'")
    return Grid(rows, torch.stack(thumbs), facts)


def collect_points(folder: Path, kept: Grid | None) -> tuple[dict[tuple[str, int], tuple[dict, Tensor]], dict]:
    """Every measured point, (run, step) → (row, pictures), the folder's before those that are kept; and what they have in common."""
    points, facts = {}, {}
    if kept is not None:
        facts, points = kept.facts, {place(row): (row, pictures) for row, pictures in zip(kept.rows, kept.thumbs)}
    for name in runs():
        if (path := folder / f"{name}.npz").exists():
            one = read(path)
            if facts and not alike(one.facts, facts):
                raise UserError(f"{path} was measured otherwise than the others: delete it and run it again")
            facts = facts or one.facts
            points |= {(name, row["steps"]): (row, pictures[:THUMBS]) for row, pictures in zip(one.rows, one.thumbs)}
    return points, facts


def alike(a: dict, b: dict) -> bool:
    """True if two runs were measured with the same ruler: the same settings, and real images that score the same but for rounding."""
    apart = ("real", "identity")
    settings = [{"source": "shipped"} | {key: value for key, value in facts.items() if key not in apart} for facts in (a, b)]
    if other_part(a.get("identity", {}), b.get("identity", {})):
        return False
    real, other = a.get("real", {}), b.get("real", {})
    return settings[0] == settings[1] and real.keys() == other.keys() and all(abs(real[key] - other[key]) < 1e-3 for key in real)


def load() -> Grid:
    """The committed grid."""
    return read(data_dir() / "results" / "08_ablations.npz")


def main(argv: list[str] | None = None) -> int:
    """Work through the grid, or pack it; a mistake of the reader's ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dslib.study ablations", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", default="runs/ablations", help="where the runs are; default: %(default)s")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="only runs whose name holds one of these, e.g. lambda_img default")
    parser.add_argument("--mixed_precision", default="no", choices=("no", "bf16", "fp16"), help="of the training; default: %(default)s")
    parser.add_argument("--source", help="pipeline folder or hub id; default: the shipped avatar model")
    parser.add_argument("--pack", action="store_true", help="train nothing: write the runs that are there to --output")
    parser.add_argument("--output", help="default: the file that chapter 08 reads; what it holds already is not run again")
    parser.add_argument("--overwrite", action="store_true", help="replace --output if it exists")
    args = parser.parse_args(argv)
    output = Path(args.output or data_dir() / "results" / "08_ablations.npz")

    def work_or_pack() -> None:
        kept = read(output) if output.exists() and (args.overwrite or not args.pack) else None
        if not args.pack:
            return work(Path(args.folder), args.only, args.mixed_precision, args.source, kept)
        if output.exists() and not args.overwrite:
            raise UserError(f"{output} exists: choose another --output, or add --overwrite to add the runs of --folder to what it holds")
        write(output, *pack(Path(args.folder), kept))
        print(output)

    return errors.run(work_or_pack, "dslib.study.ablations", "; the runs that are complete are kept")


if __name__ == "__main__":
    sys.exit(main())
