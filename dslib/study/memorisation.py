"""Studies that chapters show, too slow to run live: load their committed result, or run them (chapter 03).

``python -m dslib.study memorisation`` runs one in the background and writes the file that its chapter reads;
``python -m dslib.study source`` grades the source model with every sampler, for the model card.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .. import data, metrics, models, sample, train
from ..base import errors, files
from ..base.errors import UserError, first_line
from ..base.files import check_output_file, data_dir, write_atomic
from ..measure.score import Evidence, measure
from . import grid

STEPS = (0, 75, 150, 300, 450, 600)
SEEDS = (0, 1, 2)
SAMPLERS = (("ddim", 20), ("ddim", 50), ("dpmsolver", 20), ("ddpm", 50))
HELD_OUT = 192      # real images of the domain: six sets as large as the samples


def load_or_run(path: str | Path, run: Callable[[], list[dict]]) -> list[dict]:
    """The rows in a JSON file if there is one, else those of ``run()``, written to it whole or not at all.

    Raises UserError naming the file if it is damaged. If it cannot be written, the rows come back all the same.
    """
    path = Path(path)
    if path.exists():
        return load(path)
    rows = run()
    try:
        save(path, rows)
    except OSError as error:
        print(f"{path} could not be written ({error.strerror}): the result is kept in memory alone", file=sys.stderr)
    return rows


def load(path: Path) -> list[dict]:
    """The rows of a study's file: a list of dicts with the same keys. Raises UserError with the mend."""
    mend = "delete it, and the study is run again"
    try:
        rows = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({first_line(error)}): {mend}") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) and row.keys() == rows[0].keys() for row in rows):
        raise UserError(f"{path} does not hold the rows of a study: {mend}")
    return rows


def as_json(rows: list[dict]) -> bytes:
    """One row a line, so that a new run makes a readable diff."""
    lines = ",\n".join(files.as_json(row, None) for row in rows)
    return f"[\n{lines}\n]\n".encode()


def save(path: Path, rows: list[dict]) -> None:
    """Write a study's file, whole or not at all."""
    write_atomic(path, as_json(rows))


def by_seed(rows: list[dict], key: str) -> tuple[list[int], Tensor]:
    """Rows with ``seed``, ``step`` and a value → (steps, values (seeds, steps)); NaN where there is no value."""
    value_at = {(row["seed"], row["step"]): row[key] for row in rows}
    seeds, steps = (list(dict.fromkeys(row[name] for row in rows)) for name in ("seed", "step"))
    values = [[value_at.get((seed, step)) for step in sorted(steps)] for seed in seeds]
    return sorted(steps), torch.tensor([[float("nan") if v is None else float(v) for v in row] for row in values])


def score(samples: Tensor, images: Tensor, nearest_real: Tensor) -> dict:
    """Four numbers that tell new pictures from repeated ones; LPIPS is ST-AlexNet's.

    samples (N,3,R,R), images: the training images (K,3,R,R), nearest_real: distance of each held-out real image to the
    training image nearest to it (M,). ``nearest``: mean distance to the nearest training image; ``intra``: Intra-LPIPS,
    None where no two samples share a nearest image; ``copies``: see :func:`dslib.metrics.copy_rate`; ``covered``: how
    many training images are nearest to a sample.
    """
    return measure(Evidence(samples, images, nearest_real=nearest_real), ("nearest", "intra", "copies", "covered"))


def memorisation(source, images: Tensor, held_out: Tensor, seed: int = 0, steps_at: Iterable[int] = STEPS,
                 num_images: int = 32, inference_steps: int = 20, method: str = "finetune") -> list[dict]:
    """Adapt once and score samples after each of ``steps_at`` steps: a row a step, see :func:`score`.

    source: a pipeline; images: the training images (K,3,R,R); held_out: real images of their domain (M,3,R,R), all in
    [-1,1]. Step 0 is the source. The start noise is the same at every step; it and the training depend on the seed.
    """
    steps = sorted(set(steps_at))
    if not steps or steps[0] < 0:
        raise UserError(f"steps_at is {steps}: give the steps to sample at, 0 or more")
    if steps[0] == 0 and method == "scratch":
        raise UserError("steps_at holds 0, the source, where a run from scratch does not begin: leave it out")
    config = source.unet.config
    noise = sample.start_noise(num_images, config.sample_size, 100 + seed, config.in_channels)
    nearest_real = metrics.nearest_lpips(held_out, images)

    def row(step: int, unet) -> dict:
        drawn = sample.sample(unet, source.scheduler, noise, inference_steps)
        return {"method": method, "seed": seed, "step": step, "images": num_images} | score(drawn, images, nearest_real)

    rows = [row(0, source.unet)] if steps[0] == 0 else []
    if steps[-1] > 0:
        run = train.adapt(source, images, train.TrainConfig(method=method, max_train_steps=steps[-1], seed=seed))
        for record in tqdm(run, total=steps[-1], desc=f"{method}, seed {seed}", leave=False):
            if record.step in steps:
                rows.append(row(record.step, record.averaged()))
    return rows


def run_memorisation(args, folder: Path) -> list[dict]:
    """Chapter 03's study: every seed, one after the other, each with a file in the folder, so that it goes on where it was stopped."""
    settings = {"source": args.source or "shipped", "steps": STEPS, "held_out": HELD_OUT}
    runs = [grid.Run(folder / f"seed-{seed}-{grid.digest(settings)}.json", settings, seed, STEPS) for seed in dict.fromkeys(args.seeds)]
    if missing := grid.pending(runs):
        source = models.load_source(args.source)
        size = source.unet.config.sample_size
        images = data.load_domain("sunglasses", "ten", resolution=size).images
        held_out = data.load_domain("sunglasses", "test", HELD_OUT, size).images

        def follow(run: grid.Run) -> bytes:
            rows = memorisation(source, images, held_out, run.seed)
            print(f"seed {run.seed}: {json.dumps(rows[-1])}", file=sys.stderr)
            return as_json(rows)
        grid.work(missing, follow)
    return [row for run in runs for row in load(run.path)]


def source_quality(source, real: Tensor, samplers: Iterable[tuple[str, int]] = SAMPLERS) -> list[dict]:
    """Fréchet ratio of a pipeline's samples and how widely their mean colours spread, a row a (sampler, steps).

    real: held-out images of its own domain (2N,3,R,R) in [-1,1]; N samples are drawn, from the same start noise each time.
    """
    config, n = source.unet.config, len(real) // 2
    noise = sample.start_noise(n, config.sample_size, 0, config.in_channels)
    rows = []
    for kind, steps in samplers:
        drawn = sample.sample(source.unet, source.scheduler, noise, steps, kind, progress=f"{kind}, {steps} steps")
        rows.append({"scheduler": kind, "steps": steps, "images": n, "frechet_ratio": metrics.frechet_ratio(drawn, real),
                     "colour_variance": float(drawn.mean((2, 3)).var(0).mean()),
                     "real_colour_variance": float(real.mean((2, 3)).var(0).mean())})
        print(json.dumps(rows[-1]), file=sys.stderr)
    return rows


def run_source(args, folder: Path) -> list[dict]:
    """How good the source model is with each sampler: the model card's numbers."""
    source = models.load_source(args.source)
    return source_quality(source, data.load_domain(data.SOURCE, "test", 800, source.unet.config.sample_size).images)


STUDIES = {"memorisation": (run_memorisation, "03_memorisation.json"), "source": (run_source, "02_source.json")}


def main(argv: list[str] | None = None) -> int:
    """Run a study and write its file; a mistake of the reader's ends in one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m dslib.study", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="of memorisation; default: %(default)s")
    parser.add_argument("--source", help="pipeline folder or hub id; default: the shipped avatar model")
    parser.add_argument("--output", help="default: the chapter's own file in the results folder of the course's data")
    parser.add_argument("--overwrite", action="store_true", help="replace --output if it exists")
    args = parser.parse_args(argv)
    run, name = STUDIES[args.study]
    output = Path(args.output or data_dir() / "results" / name)
    unfinished = output.with_name(f"{output.stem}.runs")

    def work() -> None:
        check_output_file(output, args.overwrite)
        save(output, run(args, unfinished))
        shutil.rmtree(unfinished, ignore_errors=True)
        print(output)

    return errors.run(work, "dslib.study.memorisation", "; the runs that are complete are kept")


if __name__ == "__main__":
    sys.exit(main())
