"""What can be said of a set of images, in one table, and the rows of the results table that are made of it (chapter 07).

To add a metric, write a function in :mod:`dslib.metrics` and a row in ``SCORES``: it appears in the terminal, in ``report.html``, in
``metrics.json`` and in ``dslib table``.
"""

import math
import sys
from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor

from .. import data, metrics
from ..base.backbone import add_squared_distances
from ..base.device import device
from ..base.errors import UserError
from ..base.files import write_json
from ..base.pixels import pictures
from . import probes, twin_scores

# rows of the results table that no model drew
REAL = "real, held out"
TRUE = "the true answer"


class Evidence:
    """Images to score (N,3,R,R) in [-1,1] and what they are compared with; distances and features are computed once, when asked for.

    targets: the images that Intra-LPIPS groups by (K,3,R,R); training: those that the model was trained on, if they are others.
    real: as many held-out images of the domain, or nearest_real, their distances to the nearest training image (M,). reference: features
    of other real images (M,D). probe: images → (N,) bool, True in the domain. source_samples: the source's of the same noise (N,3,R,R);
    twins: their true pictures in the domain, where they are known. frechet: the exact distance by default; the results table
    keeps torch-fidelity's, which differs by 2e-6 on 64 images: enough to turn a fourth digit of what is committed. seen: a dict that
    several may share, for the features of what all are compared with.
    """

    def __init__(self, images: Tensor, targets: Tensor, training: Tensor | None = None, real: Tensor | None = None,
                 nearest_real: Tensor | None = None, reference: Tensor | None = None, probe=None, backbone: str = "st-alex",
                 frechet: Callable[[Tensor, Tensor], float] = metrics.quick_frechet_distance, source_samples: Tensor | None = None,
                 twins: Tensor | None = None, seen: dict[int, tuple[Tensor, Tensor]] | None = None):
        self.source_samples, self.twins, self.seen = source_samples, twins, {} if seen is None else seen
        self.images, self.targets, self.real, self.backbone = images, targets, real, backbone
        self.training = targets if training is None or torch.equal(training, targets) else training
        self.reference, self.probe, self.frechet = reference, probe, frechet
        self.problems: dict[str, str] = {}       # title of a score that could not be computed → why
        if nearest_real is not None:
            self.nearest_real = nearest_real

    @cached_property
    def coordinate_count(self) -> int:
        """D, the LPIPS features of one image."""
        return metrics.lpips_features(pictures(self.images[:1]).to(device()), self.backbone).shape[1]

    @cached_property
    def coordinates(self) -> Tensor:
        """The images' LPIPS features, (N,D)."""
        return metrics.lpips_features(pictures(self.images).to(device()), self.backbone)

    def lpips(self, others: Tensor | None = None) -> Tensor:
        """:func:`dslib.metrics.lpips_matrix` of the images and others (N,M), or among themselves (N,N), to the last bit.

        Features are computed once for all that is asked, where those of both sets fit into ``metrics.MEMORY``.
        """
        if 4 * self.coordinate_count * (len(self.images) + (0 if others is None else len(others))) > metrics.MEMORY:
            return metrics.lpips_matrix(self.images, others, self.backbone)
        a = b = self.coordinates
        if others is not None:
            if id(others) not in self.seen:              # the tensor itself is kept, too, so that nobody else has its id
                self.seen[id(others)] = others, metrics.lpips_features(pictures(others).to(device()), self.backbone)
            b = self.seen[id(others)][1]
        total = add_squared_distances(torch.zeros(len(a), len(b), device=a.device), a, b).clamp_(min=0).to(self.images.device)
        return total.fill_diagonal_(0) if others is None else total

    @cached_property
    def to_targets(self) -> Tensor:
        """LPIPS of every image to every target, (N,K)."""
        return self.lpips(self.targets)

    @cached_property
    def within(self) -> Tensor:
        """LPIPS between the images, (N,N)."""
        return self.lpips()

    @cached_property
    def intra(self) -> metrics.IntraLPIPS:
        """Intra-LPIPS; its numbers are None, and ``problems`` says why, where no target has two images nearest to it."""
        distances = self.to_targets, self.within
        try:
            return metrics.intra_from_distances(*distances)
        except UserError as error:
            self.problems["Intra-LPIPS"] = str(error)
            return metrics.IntraLPIPS(None, None, [], [])

    def intra_error(self) -> float:
        """Standard error of Intra-LPIPS, by halves of the images."""
        def intra(index: Tensor) -> float:
            return metrics.intra_from_distances(self.to_targets[index], self.within[index][:, index]).mean
        return metrics.half_sample_error(intra, len(self.images), 50)

    @cached_property
    def nearest(self) -> tuple[Tensor, Tensor]:
        """Distance of every image to its nearest training image, and which that is: (N,), (N,)."""
        return tuple(self.to_training.min(dim=1))

    @cached_property
    def to_training(self) -> Tensor:
        """LPIPS of every image to every training image, (N,K)."""
        return self.to_targets if self.training is self.targets else self.lpips(self.training)

    @cached_property
    def to_source(self) -> Tensor:
        """LPIPS of every image to every source sample, (N,N)."""
        return self.lpips(self.source_samples)

    @cached_property
    def to_twins(self) -> Tensor:
        """LPIPS of every image to every source sample's true picture, (N,N)."""
        return self.lpips(self.twins)

    @cached_property
    def real_to_training(self) -> Tensor | None:
        """LPIPS of every held-out real image to every training image, (M,K)."""
        return None if self.real is None else metrics.lpips_matrix(self.real, self.training, self.backbone)

    @cached_property
    def copying(self) -> float | None:
        """C_T; None, and ``problems`` says why, where no training image has enough images nearest to it."""
        try:
            return twin_scores.copying_test(self.to_training, self.real_to_training)
        except UserError as error:
            self.problems["C_T"] = str(error)
            return None

    @cached_property
    def nearest_real(self) -> Tensor | None:
        """The same distance of every held-out real image, (M,)."""
        return None if self.real is None else metrics.nearest_lpips(self.real, self.training, self.backbone)

    @cached_property
    def features(self) -> Tensor:
        """Pooled features of the images, (N,D)."""
        return metrics.pooled_features(self.images, self.backbone)

    @cached_property
    def precision_recall(self) -> tuple[float, float]:
        """Improved precision and recall against the reference."""
        return metrics.precision_recall(self.features, self.reference)


class Kind(NamedTuple):
    """One kind of score."""
    title: str
    digits: int                     # behind the point
    direction: int                  # what papers call better: +1 more, -1 less, 0 neither
    of: Callable[[Evidence], float | None]
    needs: tuple[str, ...] = ()     # what the evidence must hold; without it the score is None
    where: str = "table"            # "table": tables and metrics.json; "file": metrics.json alone; "study": neither
    column: str = ""                # its name in metrics.json and in tables of runs, if that is not its key
    meaning: str = ""               # a sentence for the report
    percent: bool = False           # shown in per cent where it stands alone
    highest: float = math.inf       # what is above, or below 0, is no such score
    spread: str = ""                # the score that is shown behind "±"


SCORES: dict[str, Kind] = {
    "intra": Kind("Intra-LPIPS", 3, +1, lambda e: e.intra.mean, column="intra_lpips", highest=9, spread="intra_std",
                  meaning="diversity around the training images (± over the groups)."),
    "intra_std": Kind("of Intra-LPIPS over the groups", 3, 0, lambda e: e.intra.std, where="file"),
    "nearest": Kind("nearest-LPIPS", 3, +1, lambda e: float(e.nearest[0].mean()), column="nearest_lpips", highest=9,
                    meaning="distance to the nearest training image; far below the real row is copying."),
    "fd": Kind("FD", 4, -1, lambda e: e.frechet(e.features, e.reference), needs=("reference",),
               meaning="Fréchet distance of pooled features to other real images of the domain, lower is closer."),
    "hit": Kind("domain hit", 2, +1, lambda e: float(e.probe(e.images).float().mean()), needs=("probe",), column="domain_hit", percent=True,
                highest=1, meaning="share that a linear probe takes for the domain rather than for the source."),
    "copies": Kind("copies", 2, -1, lambda e: metrics.copy_rate(e.nearest[0], e.nearest_real), ("nearest_real",), percent=True, highest=1,
                   meaning="share nearer to a training image than 95 % of real images are; of fresh real ones 5 %."),
    "twin": Kind("to the true answer", 3, -1, lambda e: float(e.to_twins.diag().mean()), ("twins",), column="to_twin", highest=9,
                 meaning="distance to the picture that the filter makes of the source's sample of the same noise."),
    "kept": Kind("kept people", 2, +1, lambda e: twin_scores.share_of_own(e.to_twins), ("twins",), percent=True, highest=1,
                 meaning="share nearest to their own true answer among all."),
    "own": Kind("own source sample", 2, +1, lambda e: twin_scores.share_of_own(e.to_source), ("source_samples",), where="study"),
    "gap": Kind("gap ratio below 1/3", 3, -1, lambda e: twin_scores.gap_share(e.to_training.sqrt()), where="study"),
    "c_t": Kind("C_T", 1, +1, lambda e: e.copying, ("real",), where="study"),
    "intra_error": Kind("standard error of Intra-LPIPS", 3, 0, Evidence.intra_error, where="study"),
    "nearest_real": Kind("nearest-LPIPS of real images", 3, 0, lambda e: float(e.nearest_real.mean()), ("nearest_real",), where="study"),
    "covered": Kind("training images in use", 0, 0, lambda e: len(e.nearest[1].unique()), where="study"),
    "kd": Kind("KD", 4, -1, lambda e: metrics.kernel_distance(e.features, e.reference), ("reference",), where="study"),
    "precision": Kind("precision", 3, +1, lambda e: e.precision_recall[0], ("reference",), where="study"),
    "recall": Kind("recall", 3, +1, lambda e: e.precision_recall[1], ("reference",), where="study"),
}


def measure(evidence: Evidence, keys: Iterable[str]) -> dict[str, float | None]:
    """The scores with these keys of ``SCORES``; None where the evidence does not allow one."""
    def one(kind: Kind) -> float | None:
        return None if any(getattr(evidence, part) is None for part in kind.needs) else kind.of(evidence)
    return {key: one(SCORES[key]) for key in keys}


def column_of(key: str) -> str:
    """A score's name in metrics.json and in tables of runs: the one place where key and column meet."""
    return SCORES[key].column or key


def table_kinds() -> dict[str, Kind]:
    """The columns of the results table: column → kind."""
    return {column_of(key): kind for key, kind in SCORES.items() if kind.where == "table"}


class Score(SimpleNamespace):
    """One row of the results table: ``name``, and an attribute a column of metrics.json, None where it could not be computed."""


def score(name: str, images: Tensor, targets: Tensor, reference: Tensor | None = None, probe=None,
          backbone: str = "st-alex") -> Score:
    """Score images (N,3,R,R) against the training images (K,3,R,R) and, if there are any, real ones (M,3,R,R)."""
    features = None if reference is None else metrics.pooled_features(reference, backbone)
    return row_of(name, Evidence(images, targets, reference=features, probe=probe, backbone=backbone, frechet=metrics.frechet_distance))


def row_of(name: str, evidence: Evidence) -> Score:
    """All that metrics.json holds of a set of images; stderr says what could not be computed, and why."""
    values = measure(evidence, [key for key, kind in SCORES.items() if kind.where != "study"])
    for key in [key for key, value in values.items() if value is not None and not math.isfinite(value)]:
        evidence.problems[SCORES[key].title], values[key] = f"it came out as {values[key]}", None
    for title, why in evidence.problems.items():
        print(f"{name}: no {title}, {why}", file=sys.stderr)
    return Score(name=name, **{column_of(key): value for key, value in values.items()})


def score_all(samples: dict[str, Tensor], targets: Tensor, domain: str | None, backbone: str = "st-alex", others: int = 300) -> list[Score]:
    """Score several sets of samples: a row for everything in :func:`evidence_of`."""
    return [row_of(name, evidence) for name, evidence in evidence_of(samples, targets, domain, backbone, others).items()]


def evidence_of(samples: dict[str, Tensor], targets: Tensor, domain: str | None, backbone: str = "st-alex",
                others: int = 300) -> dict[str, Evidence]:
    """What several sets of samples are scored by; with a drawn domain, real held-out images come first and the probe joins in.

    others: further real images, for FD and the distance below which a sample is a copy; with fewer than 300 both are rougher.

    Where the sets hold the ``source``'s samples of the same noise and the domain is one of ``data.TWINS``, their true pictures come after
    them, and all are compared with these.
    """
    resolution, n, shared, twins = targets.shape[-1], max(len(s) for s in samples.values()), {"seen": {}}, None
    if domain is not None:
        real = data.in_channels(data.load_domain(domain, "test", n + others, resolution).images, targets.shape[1])
        shared |= {"reference": metrics.pooled_features(real[n:], backbone), "probe": probes.domain_probe(domain, resolution, backbone),
                  "nearest_real": metrics.nearest_lpips(real[n:], targets, backbone)}
        if domain in data.TWINS and "source" in samples and targets.shape[1] == 3:
            twins = data.twin(samples["source"], domain)
            samples = {"source": samples["source"], TRUE: twins} | samples
        samples = {REAL: real[:n]} | samples

    def evidence(name: str, images: Tensor) -> Evidence:
        paired = twins if name != REAL and twins is not None and len(images) == len(twins) else None
        return Evidence(images, targets, backbone=backbone, frechet=metrics.frechet_distance, twins=paired, **shared)
    return {name: evidence(name, images) for name, images in samples.items()}


def cell(row: Score, column: str) -> str:
    """One entry of the table as text; a run from before a metric was added has none of it."""
    if column == "name":
        return row.name
    kind, value = table_kinds()[column], getattr(row, column, None)
    if value is None:
        return "–"
    spread = f" ± {getattr(row, column_of(kind.spread)):.{kind.digits}f}" if kind.spread else ""
    return f"{value:.{kind.digits - 2}%}" if kind.percent else f"{value:.{kind.digits}f}{spread}"


def headings(rows: list[Score] | None = None) -> dict[str, str]:
    """Column → title of the results table; without the columns of held-out images and twins where no row has any."""
    def is_shown(column: str, kind: Kind) -> bool:
        rare = {"twins", "nearest_real"} & set(kind.needs)
        return rows is None or not rare or any(getattr(row, column, None) is not None for row in rows)
    return {"name": "images"} | {column: kind.title for column, kind in table_kinds().items() if is_shown(column, kind)}


def text_table(scores: list[Score]) -> str:
    """The results table for a terminal or a README (Markdown)."""
    columns = headings(scores)
    lines = ["| " + " | ".join(columns.values()) + " |", "|" + "---|" * len(columns)]
    return "\n".join(lines + ["| " + " | ".join(cell(s, c) for c in columns) + " |" for s in scores])


def explanation(rows: list[Score] | None = None) -> str:
    """How to read the table, as HTML: all its columns, or those that these rows have."""
    return " ".join(["A row of real images, where there is one, is the goal: images of the domain that no model has seen."]
                    + [f"<b>{kind.title}</b>: {kind.meaning}" for column, kind in table_kinds().items()
                       if kind.meaning and column in headings(rows)])


def write_metrics(path: Path, scores: list[Score], facts: dict) -> None:
    """``metrics.json``: what was measured, on which backbone, and the settings of the run."""
    write_json(path, facts | {"scores": [vars(s) for s in scores]})
