"""Figures of pictures: sheets and labelled rows, signed pictures, wavelet bands. Tensors in, a matplotlib figure out."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ..data import to_uint8
from .style import COLOURS, SMALL, TEXT, headline, new_figure

PICTURE, WIDEST = 1.32, 13.2           # inches of a picture (64 pixels and their gap, twice as large) and of a row of them


def tile(images: Tensor, columns: int, gap: int = 2) -> np.ndarray:
    """Images (N,3,H,W) in [-1,1] laid out in rows: one uint8 picture, white between them."""
    n, _, h, w = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(to_uint8(images).permute(0, 2, 3, 1).numpy()):
        y, x = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[y:y + h, x:x + w] = image
    return sheet


def sheet_of(lines: list[tuple[str, np.ndarray, dict]], columns: int, labels: list[str] | None = None) -> Figure:
    """Sheets of pictures (H,W[,3]) below each other, a name to the left of each, all one column's width: laid out by hand, exactly.

    lines: (name, sheet, options of imshow); columns: of pictures; labels: a heading a column.
    """
    wide = columns * min(PICTURE, WIDEST / columns)
    names = ["\n".join(textwrap.fill(part, 20) for part in name.split("\n")) for name, *_ in lines]
    left = max((0.6 * TEXT / 72 * len(part.replace("$", "").replace("\\", "")) for name in names for part in name.split("\n")), default=0)
    left, top = left + 0.3 * any(names), 0.4 if labels else 0.05
    tall = [wide * sheet.shape[0] / sheet.shape[1] for _, sheet, _ in lines]
    width, height = left + wide + 0.05, sum(tall) + 0.08 * len(tall) + top
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    y = height - top
    for name, high, (_, sheet, options) in zip(names, tall, lines):
        y -= high
        axis = figure.add_axes((left / width, y / height, wide / width, high / height))
        axis.imshow(sheet, interpolation="nearest", aspect="auto", **options)
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=TEXT)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        y -= 0.08
    for i, label in enumerate(labels or []):
        figure.axes[0].text((i + 0.5) / columns, 1.02, label, transform=figure.axes[0].transAxes, ha="center", va="bottom", fontsize=SMALL)
    return figure


def filled(sheet: np.ndarray, width: int, value: float = 255) -> np.ndarray:
    """A sheet widened to the right, so that all rows of a figure have one width."""
    return np.pad(sheet, ((0, 0), (0, max(0, width - sheet.shape[1]))) + ((0, 0),) * (sheet.ndim - 2), constant_values=value)


def grid(images: Tensor, columns: int = 8, title: str | None = None) -> Figure:
    """Images (N,3,H,W) in [-1,1] as one sheet."""
    figure = sheet_of([("", tile(images, columns), {})], columns)
    return headline(figure, title) if title else figure


def rows(named: dict[str, Tensor] | list[tuple[str, Tensor]], columns: int = 10, labels: list[str] | None = None) -> Figure:
    """One labelled row of images (N,3,H,W) a name; the same column is the same start noise where models are compared.

    named may be a list of pairs where a name occurs twice; labels: a heading a column.
    """
    named = list(named.items()) if isinstance(named, dict) else named
    lines = [(name, filled(tile(images[:columns], columns), columns * (images.shape[-1] + 2) - 2), {}) for name, images in named]
    return sheet_of(lines, columns, labels)


def signed_rows(named: dict[str, Tensor], columns: int = 10, limit: float | None = None) -> Figure:
    """One labelled row of signed pictures (N,C,H,W) a name, channels averaged: blue below zero, red above, white zero.

    Each row has its own scale, printed beside it: signs and places are compared, not sizes. limit: one scale, ±limit, for all.
    """
    lines = []
    for name, pictures in named.items():
        flat = pictures[:columns].detach().float().mean(1)                     # (n,H,W)
        top = limit or max(float(flat.abs().max()), 1e-12)
        n, height, width = flat.shape
        sheet = np.zeros((height, columns * (width + 2) - 2))
        for i, picture in enumerate(flat.numpy()):
            sheet[:, i * (width + 2):i * (width + 2) + width] = picture
        lines.append((f"{name}\n±{top:.1g}", sheet, {"cmap": "RdBu_r", "vmin": -top, "vmax": top}))
    return sheet_of(lines, columns)


def bands(named: dict[str, tuple[Tensor, ...]], energies: dict[str, Tensor] | None = None) -> Figure:
    """Pictures beside their four wavelet bands; below them, if given, the bands' energies by domain.

    named[name] = (picture (3,R,R), ll, lh, hl, hh), each band (3,r,r). Details are the mean of the three colours on one scale
    for the whole figure: white zero, red positive, blue negative. energies[domain] = (n,3): mean square of lh, hl, hh an image.
    """
    heights = [2.5] * len(named) + [3.6] * bool(energies)
    figure = new_figure(13.5, sum(heights) + 0.5)
    layout = figure.add_gridspec(len(heights), 5, height_ratios=heights)
    details = {name: [band.mean(0) for band in parts[2:]] for name, parts in named.items()}
    top = max(max(float(band.abs().quantile(0.995)) for bands in details.values() for band in bands), 1e-6)
    smaller = {picture.shape[-1] // ll.shape[-1] for picture, ll, *_ in named.values()}
    size = f"1/{smaller.pop()} size" if len(smaller) == 1 else "smaller"
    titles = ["picture", f"LL: {size}", "LH: edges |", "HL: edges —", "HH: diagonals"]
    detail_axes = []
    for row, (name, (picture, ll, *_)) in enumerate(named.items()):
        axes = [figure.add_subplot(layout[row, column]) for column in range(5)]
        for axis, image in zip(axes, (picture, ll * ll.shape[-1] / picture.shape[-1])):     # LL is 2^level times too bright
            axis.imshow(tile(image[None], 1), interpolation="nearest")
        for axis, detail in zip(axes[2:], details[name]):
            drawn = axis.imshow(detail, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest")
        for axis, title in zip(axes, titles):
            axis.set_title(title if row == 0 else "")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        axes[0].set_ylabel(textwrap.fill(name, 18))
        detail_axes += axes[2:]
    figure.colorbar(drawn, ax=detail_axes, label="coefficient", fraction=0.04)
    if energies:
        band_bars(figure.add_subplot(layout[-1, :]), energies)
    return figure


def band_bars(axis, energies: dict[str, Tensor]) -> None:
    """Draw on an axis one bar a band and domain: energies[domain] = (n,3); bars are means, whiskers one standard error."""
    places = np.arange(len(energies))
    for i, (band, hatch) in enumerate((("LH", ""), ("HL", "///"), ("HH", "..."))):
        mean = [float(values[:, i].mean()) for values in energies.values()]
        error = [float(values[:, i].std(correction=0)) / len(values) ** 0.5 for values in energies.values()]
        axis.bar(places + 0.27 * (i - 1), mean, 0.25, yerr=error, color=COLOURS[i], hatch=hatch, edgecolor="white", label=band)
    axis.set_xticks(places, list(energies))
    axis.set_ylabel("mean square")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(ncols=3)
