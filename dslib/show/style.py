"""One style for all figures, made for a projector, and how a figure gets into a notebook.

Large letters, few of them, names beside their curves, thresholds that say what they are. Figures keep a white ground of their own, so
that they read alike in dark and light themes; colours are the Okabe-Ito set, which colour-blind readers can tell apart.
"""

import base64
import io
import math
import os
import textwrap
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
HEAVY = 150_000                        # bytes above which a picture makes do with fewer colours
OFF, MISSED, RARE = 2.0, 27, 16        # of 255: a mean error that is too much, an error of one pixel that is; places for such pixels
SMALL = 14                             # points, for figures of 10 to 15 inches: legible from the last row
TEXT = 16
LARGE = 20
matplotlib.rcParams.update({
    "font.size": TEXT, "axes.titlesize": TEXT, "axes.labelsize": TEXT, "xtick.labelsize": SMALL, "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL, "figure.titlesize": TEXT, "axes.spines.top": False, "axes.spines.right": False, "lines.linewidth": 2.5,
    "axes.linewidth": 1.2, "legend.frameon": False, "grid.alpha": 0.3, "mathtext.fontset": "dejavusans"})


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that no notebook shows by itself."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def headline(figure: Figure, text: str, bold: bool = False) -> Figure:
    """Put a line above a figure, which grows by what that needs: what is shown, or in bold what it shows. The same figure."""
    size = LARGE if bold else TEXT
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(text, max(20, int(72 * width / (0.58 * size))))
    extra = 1.25 * size / 72 * len(lines) + 0.12
    figure.set_size_inches(width, height + extra)
    style = {"fontsize": size, "fontweight": "bold" if bold else "normal", "ha": "left", "x": 0.01}
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine) and figure._suptitle is None:
        figure.suptitle("\n".join(lines), **style)
        return figure
    for axis in figure.axes:                              # laid out by hand: everything keeps its place from below
        x, y, w, h = axis.get_position(original=True).bounds
        axis.set_position((x, y * height / (height + extra), w, h * height / (height + extra)))
    figure.text(y=1, s="\n".join(lines), va="top", **style)
    return figure


def threshold(axis, at: float, text: str, vertical: bool = False, right: bool = False) -> None:
    """A dashed line across an axis that says what it is: at a height, at its left or right end, or at a place (vertical)."""
    (axis.axvline if vertical else axis.axhline)(at, color="#444444", linestyle=(0, (4, 3)), linewidth=1.6, zorder=1)
    where = ({"xy": (at, 1), "xycoords": ("data", "axes fraction"), "xytext": (6, -4), "va": "top"} if vertical else
             {"xy": (int(right), at), "xycoords": ("axes fraction", "data"), "xytext": (-8 if right else 8, 5), "va": "bottom"})
    axis.annotate(text, textcoords="offset points", ha="right" if right else "left", fontsize=SMALL, color="#333333", style="italic",
                  bbox={"facecolor": axis.get_facecolor(), "edgecolor": "none", "alpha": 0.75, "pad": 0.5}, **where)


def darker(colour: str) -> str:
    """The same colour for letters: dark enough on white."""
    return to_hex([0.72 * part for part in to_rgb(colour)])


def name_curves(figure: Figure) -> None:
    """Write the names that a figure keeps in ``named`` (axis → {name: line}) at the right ends of the lines, none on another."""
    for axis, lines in figure.__dict__.pop("named", {}).items():
        figure.draw_without_rendering()                   # scales and limits as they are now, whoever has changed them
        height = axis.get_window_extent().height * 72 / figure.dpi
        ends = []
        for name, line in lines.items():
            x, y = (np.asarray(one, dtype=float) for one in line.get_data())
            x, y = x[np.isfinite(y)], y[np.isfinite(y)]
            if len(y):
                right = np.argmin(x) if axis.xaxis_inverted() else np.argmax(x)
                places = axis.transAxes.inverted().transform(axis.transData.transform(np.stack([x, y], 1)))[:, 1]
                where = np.clip(places[[right]], 0, 1).item(), np.clip(places, 0, 1).mean()     # of lines that have left, the lower first
                ends.append((where[0] * height, where[1], textwrap.fill(name, 22), darker(line.get_color())))
        ends.sort()
        tall = [1.25 * SMALL * (name.count("\n") + 1) for *_, name, _ in ends]
        for y, (*_, name, colour) in zip(apart([end[0] for end in ends], tall, height), ends):
            axis.annotate(name, (1, y / height), xycoords="axes fraction", textcoords="offset points", xytext=(10, 0),
                          va="center", fontsize=SMALL, color=colour, fontweight="bold", annotation_clip=False)


def apart(wanted: list[float], tall: list[float], height: float) -> list[float]:
    """Middles of labels as near to those wanted (ascending) as they can be without covering each other, between 0 and height."""
    found, free = [], -np.inf
    for y, own in zip(wanted, tall):
        found.append(max(y, free + own / 2))
        free = found[-1] + own / 2
    free = height + tall[-1] / 2 if tall else height
    for i in reversed(range(len(found))):
        found[i] = min(found[i], free - tall[i] / 2)
        free = found[i] - tall[i] / 2
    return found


def to_png(figure: Figure, dpi: int = 100, trim: bool = True) -> bytes:
    """The figure as PNG bytes. trim: cut the margins, for which everything is drawn twice."""
    name_curves(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, **({"bbox_inches": "tight", "pad_inches": 0.12} if trim else {}))
    return buffer.getvalue()


def shrink(png: bytes) -> bytes:
    """The same picture in 256 colours, a heavy one in 64, rare ones such as a red frame kept: notebooks stay light.

    The colours are chosen on every third pixel of every third row, until few of these change: a tenth of the time.
    """
    picture, found = Image.open(io.BytesIO(png)).convert("RGB"), png
    sparse = picture.resize((math.ceil(picture.width / 3), math.ceil(picture.height / 3)), Image.Resampling.NEAREST)
    for colours in (256, 64):
        if len(found) > HEAVY or found is png:
            buffer = io.BytesIO()
            indexed = picture.quantize(palette=palette(sparse, colours), dither=Image.Dither.NONE)
            grounded(indexed, sparse).save(buffer, "png", optimize=True)
            found = min(buffer.getvalue(), found, key=len)
    return found


def grounded(indexed: Image.Image, picture: Image.Image) -> Image.Image:
    """The same indexed picture whose ground, the most frequent colour of ``picture``, is exactly that: white paper stays white."""
    pixels = np.asarray(picture).reshape(-1, 3)
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    ground, entries = colours[counts.argmax()].astype(int), np.array(indexed.getpalette()).reshape(-1, 3)
    used = np.unique(np.asarray(indexed))
    nearest = used[np.abs(entries[used] - ground).sum(1).argmin()]
    if np.abs(entries[nearest] - ground).max() <= MISSED:
        entries[nearest] = ground
        indexed.putpalette(entries.ravel().tolist())
    return indexed


def palette(picture: Image.Image, colours: int) -> Image.Image:
    """So many colours for a picture, as an image that has them: those that cover its range best.

    Noise covers the whole range and would take nearly all of them from the faces beside it. So where colours come out wrong by more
    than ``OFF`` on average, the most frequent ones are taken, and ``RARE`` for pixels that are still wrong by more than ``MISSED``.
    """
    covering = picture.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=2000, dither=Image.Dither.NONE)
    wanted = np.asarray(picture, dtype=int)
    if np.abs(np.asarray(covering.convert("RGB"), dtype=int) - wanted).mean() < OFF:
        return covering
    frequent = picture.quantize(colours - RARE, Image.Quantize.MEDIANCUT, kmeans=2000, dither=Image.Dither.NONE)
    missed = np.abs(np.asarray(frequent.convert("RGB"), dtype=int) - wanted).max(2) > MISSED
    if missed.any():
        rare = Image.fromarray(wanted[missed][None].astype(np.uint8)).quantize(RARE, Image.Quantize.MAXCOVERAGE, kmeans=2000)
        frequent.putpalette(frequent.getpalette()[:3 * (colours - RARE)] + rare.getpalette()[:3 * RARE])
    return frequent


def show(figure: Figure | Path, alt: str, dpi: int = 100, live: bool = False, takeaway: str | None = None) -> None:
    """Display a figure, or a PNG file, in a notebook, with a text alternative for readers who cannot see it.

    live: a slider is being moved and nothing is saved, so be quick instead of small. takeaway: what the figure shows, as its title.
    """
    from IPython.display import display
    if takeaway and isinstance(figure, Figure):
        headline(figure, takeaway, bold=True)
    png = figure.read_bytes() if isinstance(figure, Path) else to_png(figure, dpi, trim=not live)
    kept = not live and os.environ.get("DSLIB_TIER") != "smoke"        # what the smoke tier draws, nobody keeps
    encoded = base64.b64encode(shrink(png) if kept else png).decode()
    display({"image/png": encoded, "text/plain": alt}, metadata={"image/png": {"alt": alt}}, raw=True)


def table(markdown: str) -> None:
    """Display tables written in Markdown, with a line of text before each where it has one; plain text where nothing renders them."""
    from IPython.display import display
    display({"text/markdown": markdown, "text/plain": markdown}, raw=True)
