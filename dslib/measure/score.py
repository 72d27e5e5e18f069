"""Score sets of samples against the ten images and real held-out ones: the rows of the results table (chapter 07)."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from .. import data, metrics
from ..base.errors import UserError
from ..base.files import write_atomic


class Score(NamedTuple):
    """One row of the results table."""
    name: str
    intra_lpips: float | None
    intra_std: float | None
    nearest_lpips: float
    fd: float | None
    domain_hit: float | None

COLUMNS = {
    "name": "images", "intra_lpips": "Intra-LPIPS", "nearest_lpips": "nearest-LPIPS", "fd": "FD", "domain_hit": "domain hit",
}

EXPLAIN = ("A row of real images, where there is one, is the goal: images of the domain that no model has seen. "
           "<b>Intra-LPIPS</b>: diversity around the training images (± over the groups). <b>nearest-LPIPS</b>: distance to the "
           "nearest training image; far below the real row is copying. <b>FD</b>: Fréchet distance of pooled features to other "
           "real images of the domain, lower is closer. <b>domain hit</b>: share that a linear probe takes for the domain "
           "rather than for the source.")


def score(name: str, images: Tensor, targets: Tensor, reference: Tensor | None = None, probe=None,
          backbone: str = "st-alex") -> Score:
    """Score images (N,3,R,R) against the training images (K,3,R,R) and, if there are any, real ones (M,3,R,R)."""
    try:
        intra = metrics.intra_lpips(images, targets, backbone)
    except UserError as error:
        print(f"{name}: no Intra-LPIPS, {error}", file=sys.stderr)
        intra = metrics.IntraLPIPS(None, None, [], [])
    nearest = float(metrics.nearest_lpips(images, targets, backbone).mean())
    pooled = metrics.pooled_features(images, backbone) if reference is not None else None
    fd = metrics.frechet_distance(pooled, metrics.pooled_features(reference, backbone)) if reference is not None else None
    return Score(name, intra.mean, intra.std, nearest, fd, None if probe is None else float(probe(images).float().mean()))


def score_all(samples: dict[str, Tensor], targets: Tensor, domain: str | None, backbone: str = "st-alex") -> list[Score]:
    """Score several sets of samples; with a drawn domain, real held-out images come first and the probe joins in."""
    resolution, n = targets.shape[-1], max(len(s) for s in samples.values())
    if domain is None:
        return [score(name, images, targets, backbone=backbone) for name, images in samples.items()]
    real = data.load_domain(domain, "test", n + 300, resolution).images
    probe = metrics.domain_probe(domain, resolution, backbone)
    samples = {"real, held out": real[:n]} | samples
    return [score(name, images, targets, real[n:], probe, backbone) for name, images in samples.items()]


def cell(row: Score, column: str) -> str:
    """One entry of the table as text."""
    value = getattr(row, column)
    if value is None:
        return "–"
    if column == "intra_lpips":
        return f"{value:.3f} ± {row.intra_std:.3f}"
    return value if column == "name" else f"{value:.0%}" if column == "domain_hit" else f"{value:.{4 if column == 'fd' else 3}f}"


def text_table(scores: list[Score]) -> str:
    """The results table for a terminal or a README (Markdown)."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join(lines + ["| " + " | ".join(cell(s, c) for c in COLUMNS) + " |" for s in scores])


def write_metrics(path: Path, scores: list[Score], facts: dict) -> None:
    """``metrics.json``: what was measured, on which backbone, and the settings of the run."""
    content = facts | {"scores": [s._asdict() for s in scores]}
    write_atomic(path, json.dumps(content, indent=1, default=str).encode())
