"""The stage from 64 to 128 pixels: trained on faces, adapted on ten in several ways, compared with the truth, put after the 64-px models
(chapter 13)."""

import argparse
import io
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DModel
from torch import Tensor
from tqdm.auto import tqdm

from .. import data, metrics, models, sample
from ..base.errors import UserError
from ..base.files import as_json, data_dir, write_atomic
from ..base.identity import fingerprint
from ..beyond import scales
from ..beyond import upsample as up
from . import grid
from .curves import as_csv, png

SMALL, LARGE, TARGET = 64, 128, "engraved"
PICTURES, REFERENCE, SHOWN = 100, 250, 8
SOURCE_TRAINING = {"max_train_steps": 1200, "train_batch_size": 8, "learning_rate": 2e-3, "lr_warmup_steps": 20, "lr_decay_steps": 400}
ADAPTING = {"max_train_steps": 120, "train_batch_size": 10, "learning_rate": 2e-3, "lr_decay_steps": 40, "ema_max_decay": 0.95}
DETAIL = {"lambda_hfmse": 0.5}
#: name → (pictures it learns from, whether it begins with the source's stage, weights of the terms)
METHODS: dict[str, tuple[int, bool, dict]] = {
    "naive": (10, True, {}), "naive, L_hfmse": (10, True, DETAIL),
    "published terms": (10, True, DETAIL | {"lambda_img": 0.3, "lambda_hf": 0.3}),
    "scratch": (10, False, {}), "naive on 250": (250, True, {}),
}
MODELS = ("naive", "published", "anchored")
COLUMNS = ("what", "stage", "model", "seed", "steps", "images", "l1", "lpips", "lpips_ten", "detail_1", "detail_2", "fd")


def pairs(name: str, split: str, n: int) -> tuple[Tensor, Tensor]:
    """The same pictures at 64 and 128 pixels, uint8 (n,3,R,R)."""
    small, large = (data.load_domain(name, split, n, size) for size in (SMALL, LARGE))
    if small.labels != large.labels:
        raise UserError(f"{name}/{split} shows other people at {LARGE} pixels than at {SMALL}: draw both with one DiceBear version")
    return data.to_uint8(small.images), data.to_uint8(large.images)


def source_stage(folder: Path, num_images: int, steps: int, runs: Path) -> UNet2DModel:
    """The stage of the source's faces: the one in the folder, or a new one, trained, saved there and loaded as it is stored.

    runs: where its checkpoints go; a training that was stopped goes on from the last.
    """
    place, half = folder / "source", runs / "source"
    if not (place / "config.json").exists():
        begun = "latest" if any(half.glob("checkpoint-*")) else None
        config = up.UpsampleConfig(**SOURCE_TRAINING | {"max_train_steps": steps, "output_dir": str(half), "resume_from_checkpoint": begun})
        stage = up.new_stage()
        training = up.fit_stage(stage, *pairs(data.SOURCE, "train", num_images), config)
        *_, last = tqdm(training, total=steps, desc="stage of the source")
        up.save_stage(last.averaged(), place)
        facts = {"images": num_images, "loss": float(last.loss), "config": asdict(config) | {"output_dir": None}}
        write_atomic(folder / "source.json", (as_json(facts) + "\n").encode())
    return up.load_stage(place)


class Truth:
    """Pictures nobody trained on, at both sizes, and what real ones score."""

    def __init__(self):
        small, large = (data.to_float(x) for x in pairs(TARGET, "test", PICTURES + REFERENCE))
        self.small, self.large, rest = small[:PICTURES], large[:PICTURES], large[PICTURES:]
        self.reference = metrics.pooled_features(rest)
        self.ten = tuple(data.to_float(x) for x in pairs(TARGET, "ten", 10))

    def scores(self, drawn: Tensor) -> dict[str, float]:
        """Of pictures (N,3,128,128) without a truth: shares of energy in the two finest levels, Fréchet distance to real ones."""
        first, second, _ = scales.shares(drawn, 2).mean(0).tolist()
        fd = metrics.quick_frechet_distance(metrics.pooled_features(drawn), self.reference)
        return {"detail_1": round(first, 5), "detail_2": round(second, 5), "fd": round(fd, 4)}

    def compare(self, stage: UNet2DModel | None) -> dict[str, float]:
        """Of a stage (None: bilinear): distance to the truth of held-out pictures, and of the ten, which it may know by heart."""
        drawn, of_ten = up.draw(stage, self.small), up.draw(stage, self.ten[0])
        far = up.paired_lpips(drawn, self.large).mean(), up.paired_lpips(of_ten, self.ten[1]).mean()
        l1 = (drawn - self.large).abs().mean()
        return {"l1": round(float(l1), 5), "lpips": round(float(far[0]), 5), "lpips_ten": round(float(far[1]), 5)} | self.scores(drawn)


def adapt(source: UNet2DModel, method: str, seed: int, steps: int) -> UNet2DModel:
    """A stage after a method's training on engravings, averaged."""
    n, begins, weights = METHODS[method]
    small, large = pairs(TARGET, "ten" if n == 10 else "train", n)
    stage = source if begins else up.new_stage(source.config.block_out_channels, SMALL, seed)
    config = up.UpsampleConfig(**ADAPTING | {"max_train_steps": steps, "seed": seed} | weights)
    *_, last = tqdm(up.fit_stage(stage, small, large, config), total=steps, desc=f"{method} {seed}", leave=False)
    return last.averaged()


def stage_at(folder: Path, method: str, seed: int) -> Path:
    """Where an adapted stage is kept."""
    return folder / f"{method.replace(', ', '-').replace(' ', '-')}-{seed}"


def work(folder: Path, source: UNet2DModel, seeds: list[int], methods: list[str], steps: int) -> list[dict]:
    """Make the runs that are missing, and return the rows of all. Raises UserError for runs of another source stage."""
    facts = {"source": fingerprint(source.state_dict()), "steps": steps}
    runs = [grid.Run(stage_at(folder, method, seed).with_suffix(".json"), {"method": method}, seed) for seed in seeds for method in methods]
    truth = None

    def make(run: grid.Run) -> bytes:
        nonlocal truth
        truth = truth or Truth()
        stage = adapt(source, run.settings["method"], run.seed, steps)
        up.save_stage(stage, run.path.with_suffix(""))
        row = {"what": "held-out pictures", "stage": run.settings["method"], "seed": run.seed, "steps": steps, "images": len(truth.small)}
        return grid.as_file(facts, [row | truth.compare(stage)])

    grid.work(runs, make)
    return [row for run in runs for row in grid.check_same(run.path, facts)["rows"]]


def samples_of(folder: Path, model: str) -> Tensor:
    """64-px samples (PICTURES,3,64,64) of a shipped adapted model, from noise that all share; drawn once and kept."""
    path = folder / f"samples-{model}.npz"
    if not grid.is_whole(path):
        pipe = models.load_source(data_dir() / "adapted" / model)
        drawn = sample.sample(pipe.unet, pipe.scheduler, sample.start_noise(PICTURES, SMALL, 100), 20, "dpmsolver", progress=model)
        content = io.BytesIO()
        np.savez_compressed(content, pixels=data.to_uint8(drawn).numpy())
        write_atomic(path, content.getvalue())
    with np.load(path, allow_pickle=False) as kept:
        return data.to_float(torch.from_numpy(kept["pixels"]))


def applied(folder: Path, truth: Truth, stages: dict[str, UNet2DModel | None]) -> list[dict]:
    """Rows of the 64-px models' samples, enlarged by every stage; and two strips of pictures."""
    rows, strip = [], []
    for model in MODELS:
        small = samples_of(folder, model)
        drawn = {name: up.draw(stage, small) for name, stage in stages.items()}
        known = {"what": "samples", "model": model, "images": len(small)}
        rows += [known | {"stage": name} | truth.scores(one) for name, one in drawn.items()]
        strip += [drawn[name][:SHOWN] for name in ("bilinear", "adapted")]
    held_out = [up.draw(stage, truth.small[:SHOWN]) for stage in stages.values()]
    write_atomic(folder / "samples.png", png(torch.stack(strip)))
    write_atomic(folder / "held_out.png", png(torch.stack([*held_out, truth.large[:SHOWN]])))
    return rows


def work_and_pack(args: argparse.Namespace) -> None:
    """Train what is missing, compare, ship the stage of the first seed, and write table and strips."""
    folder, kept = Path(args.folder), Path(args.stages)
    source = source_stage(kept, args.num_images, args.source_steps, folder)
    rows = work(folder, source, list(dict.fromkeys(args.seeds)), args.methods, args.steps)
    truth, ship = Truth(), stage_at(folder, args.ship, args.seeds[0])
    shipped = up.load_stage(ship)
    up.save_stage(shipped, kept / "adapted")
    stages = {"bilinear": None, "source": source, "adapted": shipped}
    known = {"what": "held-out pictures", "images": len(truth.small)}
    rows += [known | {"stage": name} | truth.compare(stages[name]) for name in ("bilinear", "source")]
    rows += [known | {"stage": "real"} | truth.scores(truth.large)] + applied(folder, truth, stages)
    output = Path(args.output)
    write_atomic(output, as_csv([{key: row.get(key, "") for key in COLUMNS} for row in rows], COLUMNS).encode())
    for name in ("samples", "held_out"):
        write_atomic(output.with_name(f"{output.stem}_{name}.png"), (folder / f"{name}.png").read_bytes())
    for row in rows:
        print({key: row[key] for key in COLUMNS if row.get(key) is not None})
    print(output)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this part."""
    parser.add_argument("--folder", default="runs/resolution", help="where the runs are")
    parser.add_argument("--stages", default=str(data_dir() / "upsampler"), help="where the source's stage is, and the shipped one goes")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD", help=f"of {', '.join(METHODS)}")
    parser.add_argument("--ship", choices=METHODS, default="naive", metavar="METHOD", help="whose stage of the first seed is shipped")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the adaptations")
    parser.add_argument("--steps", type=int, default=ADAPTING["max_train_steps"], help="of an adaptation")
    parser.add_argument("--source_steps", type=int, default=SOURCE_TRAINING["max_train_steps"], help="of the source's stage")
    parser.add_argument("--num_images", type=int, default=2000, help="source faces it is trained on")
