"""Towards video: an image model applied frame by frame to clips whose true answer is known; it is no video model (chapter 14).

``python -m dslib.study video`` takes faces that blink and turn, noises every frame to t_0 with one noise for all frames (shared), another
for each (fresh) or the frame's own (inverted), and lets four image models draw them. A file a (model, t_0, noise, seed). ``--pack`` writes
the table, the strip and the animation; ``--clip FOLDER`` takes the reader's own frames instead of the drawn ones.
"""

import argparse
import io
import math
import sys
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from .. import models, sample
from ..base import errors
from ..base.errors import UserError
from ..base.files import data_dir, write_atomic
from ..base.identity import fingerprint
from ..beyond import video
from ..measure.probes import domain_probe
from ..show.scores import ways
from ..show.style import shrink, to_png
from . import grid
from .curves import as_csv, png, sheet

MODELS, TARGET = ("source", "naive", "published", "anchored"), "engraved"
T_0, SEEDS, CLIPS, INFERENCE_STEPS = (300, 500, 700), (0, 1, 2), 12, 20
SCORES = ("flicker", "shimmer", "jump", "right", "own", "hit", "follows", "amount", "blink")
COLUMNS = ("model", "t_0", "noise", "seed", "clip", *SCORES, "source")
GOALS = ("true", "input", "frozen")              # rows without a model: the true clip, the drawn one, the true first frame all the time
SHOWN, AT = ("naive", "anchored"), 500           # of the strip and the animation


class Job(NamedTuple):
    """What one file holds."""
    model: str
    t_0: int
    noise: str
    seed: int


def jobs(chosen: list[str], t_0: list[int], noises: list[str], seeds: list[int]) -> list[Job]:
    """Every combination, seed by seed; an inversion has no seed, so it is asked once, as seed 0."""
    found = [Job(model, t, noise, 0 if noise == "inverted" else seed) for seed, t, noise, model in product(seeds, t_0, noises, chosen)]
    return list(dict.fromkeys(found))


def path_of(folder: Path, job: Job) -> Path:
    """The file of a job."""
    return folder / f"{job.model}-{job.t_0}-{job.noise}-{job.seed}.json"


def rounded(scores: dict[str, float]) -> dict[str, float | None]:
    """Four digits, None where a clip has no such score."""
    return {key: None if math.isnan(scores[key]) else round(scores[key], 4) for key in SCORES}


def goals(known: video.Known, probe) -> list[dict]:
    """The rows of ``GOALS``."""
    drawn = dict(zip(GOALS, (known.truth, known.inputs, known.truth[:, :1].expand(known.truth.shape))))
    return [{"model": name, "clip": i} | rounded(one) for name, clips in drawn.items()
            for i, one in enumerate(video.scores(clips, known, probe))]


def opened(name: str, source, adapted: Path):
    """One of ``MODELS``: the source itself, or a folder in ``adapted``; refused where it does not fit the source."""
    if name == "source":
        return source
    pipe = models.load_source(adapted / name)
    sample.check_source(pipe.unet, pipe.scheduler, source, 0)
    pipe.unet.eval()
    return pipe


def work(folder: Path, wanted: list[Job], clips: Tensor, source, adapted: Path, blinks: tuple = video.BLINKS) -> None:
    """Make the files that are missing. clips: (n,F,3,R,R) in [-1,1]; source: a pipeline; adapted: the folder with the other models."""
    facts = {"source": fingerprint(source.unet.state_dict()), "clips": fingerprint(clips), "steps": INFERENCE_STEPS}
    for path in sorted(folder.glob("*.json")):
        grid.check_same(path, facts)
    runs = [grid.Run(path_of(folder, job), job._asdict()) for job in wanted]
    for job in wanted:
        video.late_steps(source.scheduler, job.t_0, INFERENCE_STEPS)
    if not grid.pending(runs):
        return
    source.unet.eval()
    pipes = {name: opened(name, source, adapted) for name in dict.fromkeys(job.model for job in wanted)}
    known, probe, begun = video.know(clips, TARGET, blinks), domain_probe(TARGET, clips.shape[-1]), {}
    if not grid.is_whole(folder / "goals.json"):
        write_atomic(folder / "goals.png", png(torch.stack([known.inputs[0], known.truth[0]])))
        write_atomic(folder / "goals.json", grid.as_file(facts, goals(known, probe)))

    def make(run: grid.Run) -> bytes:
        job = Job(**run.settings)
        if job[1:] not in begun:
            begun.clear()                                # the next three models begin from the same
            begun[job[1:]] = video.start(source, clips, job.noise, job.seed, job.t_0, INFERENCE_STEPS)
        drawn = video.restyled(pipes[job.model], begun[job[1:]], job.t_0, INFERENCE_STEPS)
        write_atomic(run.path.with_suffix(".png"), png(drawn[:1]))
        weights = {"weights": fingerprint(pipes[job.model].unet.state_dict())}
        rows = [job._asdict() | {"clip": i} | rounded(one) for i, one in enumerate(video.scores(drawn, known, probe))]
        return grid.as_file(facts | weights | job._asdict(), rows)

    grid.work(runs, make)


# ------------------------------------------------------ the table and the pictures

def pack(folder: Path) -> list[dict]:
    """The rows of all files, goals first. Raises UserError where there are none or where they do not belong together."""
    weights, rows = {}, []
    for path, run in grid.same_runs(folder, ("source", "clips", "steps"), "video"):
        if weights.setdefault(run.get("model"), run.get("weights")) != run.get("weights"):
            raise UserError(f"{path}: its {run['model']} is another model than in the files before: delete it, and it is made again")
        rows += [dict.fromkeys(COLUMNS) | row | {"source": run["source"]} for row in run["rows"]]
    rank = {name: i for i, name in enumerate((*GOALS, *MODELS))}
    return sorted(rows, key=lambda row: (rank[row["model"]], row["t_0"] or 0, video.NOISES.index(row["noise"] or "shared"),
                                         row["seed"] or 0, row["clip"]))


def load(path: Path | None = None) -> list[dict]:
    """The rows of a table that ``--pack`` wrote, numbers as numbers; default: the committed one. Raises UserError with the mend."""
    path = path or data_dir() / "results" / "beyond" / "video.csv"
    return grid.read_table(path, COLUMNS, ("t_0", "seed", "clip"), ("model", "noise", "source"), "video")


def by_clip(rows: list[dict], model: str, t_0: int | None, noise: str, score: str) -> dict[int, float]:
    """Clip → a score, mean over the seeds; clips without that score are left out. Of ``GOALS``: t_0 None, noise ''."""
    found: dict[int, list[float]] = {}
    for row in rows:
        if (row["model"], row["t_0"], row["noise"] or "") == (model, t_0, noise) and row[score] is not None:
            found.setdefault(row["clip"], []).append(row[score])
    return {clip: mean(values) for clip, values in found.items()}


class Paired(NamedTuple):
    """One model less another, clip by clip."""
    difference: float       # mean over the clips
    error: float            # its standard error over the clips: standard deviation / √n
    lower: int              # clips in which the first is lower
    clips: int


def paired(rows: list[dict], first: str, second: str, t_0: int, noise: str, score: str) -> Paired:
    """``first`` less ``second`` of a score, by clips that both drew from the same noises (each the mean of its seeds).

    Raises UserError for fewer than two such clips. The clips are the sample: one training of each model says nothing of the next.
    """
    a, b = (by_clip(rows, model, t_0, noise, score) for model in (first, second))
    apart = [a[clip] - b[clip] for clip in sorted(a.keys() & b.keys())]
    if len(apart) < 2:
        raise UserError(f"{first} and {second} share {len(apart)} clips at t_0 {t_0}, {noise}: at least 2 are needed")
    return Paired(mean(apart), stdev(apart) / len(apart)**0.5, sum(one < 0 for one in apart), len(apart))


def text(rows: list[dict]) -> str:
    """A Markdown table: a row a (model, t_0, noise), means over clips and seeds; then naive against the others, paired."""
    keys = list(dict.fromkeys((row["model"], row["t_0"], row["noise"] or "") for row in rows))
    lines = ["| model | t_0 | noise | " + " | ".join(SCORES) + " |", "|---" * (3 + len(SCORES)) + "|"]
    for model, t_0, noise in keys:
        values = [by_clip(rows, model, t_0, noise, score).values() for score in SCORES]
        cells = [f"{mean(one):.3f}" if one else "–" for one in values]
        lines.append(f"| {model} | {t_0 or '–'} | {noise or '–'} | " + " | ".join(cells) + " |")
    lines += ["", "| less naive | t_0 | noise | score | difference ± standard error | lower in |", "|---|---|---|---|---|---|"]
    for (model, t_0, noise), score in product(keys, ("flicker", "shimmer", "right", "own", "amount")):
        if model in ("published", "anchored") and ("naive", t_0, noise) in keys:
            try:
                found = paired(rows, model, "naive", t_0, noise, score)
            except UserError:
                continue
            lines.append(f"| {model} | {t_0} | {noise} | {score} | {found.difference:+.3f} ± {found.error:.3f} "
                         f"| {found.lower} of {found.clips} |")
    return "\n".join(lines)


def through(rows: list[dict]) -> tuple[dict, dict]:
    """What :func:`dslib.show.scores.ways` draws: each model's way through (amount, score) from the least t_0 to the largest, by noise.

    The star is the true clip: all of the movement, no shimmer, LPIPS 0 to itself.
    """
    named = {"shimmer where nothing moves\n(levels of 255)": "shimmer", "LPIPS to the true frame": "right"}
    noises = [noise for noise in video.NOISES if any(row["noise"] == noise for row in rows)]
    steps = sorted({row["t_0"] for row in rows if row["t_0"] is not None})

    def way(model: str, noise: str, score: str) -> list[tuple[float, float]]:
        found = [[by_clip(rows, model, t, noise, key).values() for key in ("amount", score)] for t in steps]
        return [(mean(x), mean(y)) for x, y in found if x and y]

    values = {title: {f"{noise} noise": {model: points for model in MODELS if (points := way(model, noise, score))} for noise in noises}
              for title, score in named.items()}
    true = {title: mean(by_clip(rows, "true", None, "", score).values() or [0.0]) for title, score in named.items()}
    return values, {title: {f"{noise} noise": true[title] for noise in noises} for title in named}


def strip(folder: Path) -> Tensor | None:
    """Clip 0, seed 0: input, true, then ``SHOWN`` at ``AT`` with each noise, a row each: (rows,F,3,R,R) uint8. None if a run is missing."""
    paths = [path_of(folder, Job(model, AT, noise, 0)).with_suffix(".png") for model in SHOWN for noise in video.NOISES]
    if not all(path.exists() for path in (folder / "goals.png", *paths)):
        return None
    size = Image.open(paths[0]).height
    return torch.cat([sheet(path, size) for path in (folder / "goals.png", *paths)])


def animation(rows: Tensor, milliseconds: int = 220) -> bytes:
    """The rows of :func:`strip` (2n,F,3,R,R) uint8 playing at once, as an endless WebP: input and the first model, true and the second."""
    n = len(rows) // 2
    lines = rows[[0, *range(2, n + 1), 1, *range(n + 1, 2 * n)]].unflatten(0, (2, n))
    frames = [Image.fromarray(one.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1).numpy()) for one in lines.unbind(2)]
    content = io.BytesIO()
    frames[0].save(content, "webp", save_all=True, append_images=frames[1:], duration=milliseconds, loop=0, quality=70, method=6)
    return content.getvalue()


# ------------------------------------------------------ the command

def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="python -m dslib.study video", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    found.add_argument("--folder", default="runs/video", help="where the runs are; default: %(default)s")
    found.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), help="default: all four")
    found.add_argument("--t_0", type=int, nargs="+", default=list(T_0), help="steps to noise to; default: 300 500 700")
    found.add_argument("--noises", nargs="+", choices=video.NOISES, default=list(video.NOISES), help="default: all three")
    found.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="of the noise; default: 0 1 2")
    found.add_argument("--clips", type=int, default=CLIPS, help="how many people the kit draws; default: %(default)s")
    found.add_argument("--clip", metavar="FOLDER", help="a folder of frames instead of drawn people; give another --folder too")
    found.add_argument("--source", help="pipeline folder or hub id; default: the shipped avatar model")
    found.add_argument("--adapted", help="folder that holds the adapted models; default: the shipped ones")
    found.add_argument("--pack", action="store_true", help="draw nothing: write --output and its pictures from the runs that are there")
    found.add_argument("--output", help="default: the table that the chapter reads")
    return found


def main(argv: list[str] | None = None) -> int:
    """Work through the runs, or pack them; a mistake of the reader's ends in one line and exit code 2."""
    args = parser().parse_args(argv)
    return errors.run(lambda: work_or_pack(args), "dslib.study.video", "; the runs that are complete are kept")


def work_or_pack(args: argparse.Namespace) -> None:
    """What :func:`main` does with its options."""
    folder = Path(args.folder)
    if args.pack:
        output = Path(args.output or data_dir() / "results" / "beyond" / "video.csv")
        rows = pack(folder)
        write_atomic(output, as_csv(rows, COLUMNS).encode())
        if (pictures := strip(folder)) is not None:
            write_atomic(output.with_suffix(".png"), shrink(png(pictures)))
            write_atomic(output.with_suffix(".webp"), animation(pictures))
        if any(row["noise"] for row in rows):
            figure = ways(*through(rows), "share of the true movement that is left (from the least $t_0$ to the largest, large)")
            write_atomic(output.with_name(f"{output.stem}_ways.png"), shrink(to_png(figure, 60)))
        print(text(rows), output, sep="\n\n")
        return
    source = models.load_source(args.source)
    size = source.unet.config.sample_size
    clips = video.load_clip(args.clip, size)[None] if args.clip else video.draw_clips(args.clips, size)
    work(folder, jobs(args.models, args.t_0, args.noises, args.seeds), clips, source, Path(args.adapted or data_dir() / "adapted"),
         () if args.clip else video.BLINKS)


if __name__ == "__main__":
    sys.exit(main())
