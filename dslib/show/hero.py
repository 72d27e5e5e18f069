"""The claim in one picture: who is copied, who is kept (README, chapter 00, every report)."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from ..base.pixels import to_uint8
from ..base.statistics import copied
from ..measure.score import REAL, TRUE, Evidence
from .pictures import tile
from .style import LARGE, SMALL, new_figure

FRAME, RED = 3, (213, 40, 30)       # pixels, colour
NEAREST = "Small: the training image nearest to the picture above it."
COPY = "Red frame: a copy, nearer to it than 95 % of real pictures are."


def marked(images: Tensor, columns: int, framed: Tensor) -> np.ndarray:
    """:func:`tile` with a red frame around the images for which framed (N,) is true, drawn between them so that no pixel is hidden."""
    height, width = images.shape[-2:]
    sheet = np.pad(tile(images, columns, 2 * FRAME), ((FRAME, FRAME), (FRAME, FRAME), (0, 0)), constant_values=255)
    for i in framed.nonzero().flatten().tolist():
        y, x = (i // columns) * (height + 2 * FRAME), (i % columns) * (width + 2 * FRAME)
        cell = sheet[y:y + height + 2 * FRAME, x:x + width + 2 * FRAME]
        picture = cell[FRAME:-FRAME, FRAME:-FRAME].copy()
        cell[:] = RED
        cell[FRAME:-FRAME, FRAME:-FRAME] = picture
    return sheet


class Shown(NamedTuple):
    """A row of :func:`figure`."""
    images: Tensor                       # (N,3,R,R) in [-1,1]
    nearest: Tensor | None = None        # (N,) which training image is nearest, shown small below
    copied: Tensor | None = None         # (N,) bool: framed red
    note: str = ""                       # behind the row: its score


def figure(training: Tensor, named: dict[str, Shown], columns: int = 10, more: str = "") -> Figure:
    """The claim in one picture: training images, then a row a model, every column from the same noise.

    Below each picture of a model lies the training image nearest to it, small; a red frame says nearer than real images are.
    training: (K,3,R,R) in [-1,1]; more: a line for the caption, which says what small pictures and frames are.
    """
    sheets, marks, top, strips = [], [], 0, []
    for name, row in {"training images": Shown(training), **named}.items():
        images = row.images[:columns]
        sheet = marked(images, columns, torch.zeros(len(images)) if row.copied is None else row.copied[:columns])
        sheet = np.pad(sheet, ((0, 0), (0, columns * (images.shape[-1] + 2 * FRAME) - sheet.shape[1]), (0, 0)), constant_values=255)
        marks.append((top + sheet.shape[0] / 2, name, row.note))
        if row.nearest is not None:
            strip = small(training[row.nearest[:columns]], sheet.shape[1], columns)
            strips.append(top + sheet.shape[0] + strip.shape[0] / 2)
            sheet = np.concatenate([sheet, strip])
        sheets.append(np.pad(sheet, ((0, 6 if sheets else 20), (0, 0), (0, 0)), constant_values=255))      # the ten stand apart
        top += len(sheets[-1])
    picture = np.concatenate(sheets)
    drawn = new_figure(picture.shape[1] / 50 + 5.2, picture.shape[0] / 50)
    axis = drawn.subplots()
    axis.imshow(picture, interpolation="nearest")
    axis.axis("off")
    for y, name, note in marks:
        axis.text(-8, y, name, ha="right", va="center", fontsize=LARGE)
        axis.text(picture.shape[1] + 6, y, note, ha="left", va="center", fontsize=LARGE)
    for y in strips:
        axis.text(-8, y, "nearest of the ten", ha="right", va="center", fontsize=SMALL, color="#555555", style="italic")
    if strips:
        framed = f" {COPY}" if any(row.copied is not None for row in named.values()) else ""
        axis.text(0, len(picture) + 4, f"{NEAREST}{framed}\n{more}".rstrip(), ha="left", va="top", fontsize=SMALL, color="#555555",
                  style="italic")
    return drawn


def small(images: Tensor, width: int, columns: int) -> np.ndarray:
    """Images (N,3,R,R) at under half the size, each in the middle of its column, on a strip of the given width."""
    half = F.interpolate(images.float(), scale_factor=0.45, mode="area")
    size, pitch = half.shape[-1], width // columns
    strip = np.full((size + 2, width, 3), 255, np.uint8)
    for i, image in enumerate(to_uint8(half).permute(0, 2, 3, 1).numpy()):
        x = i * pitch + (pitch - size) // 2
        strip[:size, x:x + size] = image
    return strip


def of_evidence(evidence: dict[str, Evidence], targets: Tensor, columns: int = 10) -> Figure:
    """:func:`figure` of a run: source, true answer and every model's samples.

    evidence: of :func:`dslib.measure.score.evidence_of`. Without held-out real images there is no threshold, and nothing is framed.
    """
    rows = {}
    for name, one in evidence.items():
        if name in (TRUE, "source"):
            rows[name] = Shown(one.images)
        elif name != REAL:
            distance, which = one.nearest
            copies = None if one.nearest_real is None else copied(distance, one.nearest_real)
            rows[name] = Shown(one.images, which, copies, "" if copies is None else f"{float(copies.float().mean()):.0%} copies")
    return figure(targets, rows, columns)
