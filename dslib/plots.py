"""Every figure of the course as a pure function: tensors in, a matplotlib figure out.

Figures keep a white ground of their own, so that they read alike in dark and light themes; colours are the
Okabe-Ito set, which colour-blind readers can tell apart.
"""

import base64
import io
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from .data import to_uint8

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that no notebook shows by itself."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure, dpi: int = 100) -> bytes:
    """The figure as PNG bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.08)
    return buffer.getvalue()


def shrink(png: bytes) -> bytes:
    """The same picture in 256 colours: a third of the size, so that notebooks stay light."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return min(buffer.getvalue(), png, key=len)


def show(figure: Figure | Path, alt: str, dpi: int = 100) -> None:
    """Display a figure, or a PNG file, in a notebook, with a text alternative for readers who cannot see it."""
    from IPython.display import display
    png = figure.read_bytes() if isinstance(figure, Path) else to_png(figure, dpi)
    encoded = base64.b64encode(shrink(png)).decode()
    display({"image/png": encoded, "text/plain": alt}, metadata={"image/png": {"alt": alt}}, raw=True)


def tile(images: Tensor, columns: int, gap: int = 2) -> np.ndarray:
    """Images (N,3,H,W) in [-1,1] laid out in rows: one uint8 picture, white between them."""
    n, _, h, w = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(to_uint8(images).permute(0, 2, 3, 1).numpy()):
        y, x = (i // columns) * (h + gap), (i % columns) * (w + gap)
        sheet[y:y + h, x:x + w] = image
    return sheet


def grid(images: Tensor, columns: int = 8, title: str | None = None) -> Figure:
    """Images (N,3,H,W) in [-1,1] as one sheet."""
    rows = -(-len(images) // columns)
    figure = new_figure(0.8 * columns, 0.8 * rows + (0.35 if title else 0))
    axes = figure.subplots()
    axes.imshow(tile(images, columns), interpolation="nearest")
    axes.axis("off")
    if title:
        axes.set_title(title, fontsize=10)
    return figure


def rows(named: dict[str, Tensor] | list[tuple[str, Tensor]], columns: int = 10, labels: list[str] | None = None) -> Figure:
    """One labelled row of images (N,3,H,W) a name; the same column is the same start noise where models are compared.

    named may be a list of pairs where a name occurs twice; labels: a heading a column.
    """
    named = list(named.items()) if isinstance(named, dict) else named
    figure = new_figure(0.8 * columns + 1.4, 0.82 * len(named))
    axes = np.atleast_1d(figure.subplots(len(named), 1))
    for i, label in enumerate(labels or []):
        axes[0].text((i + 0.5) / columns, 1.04, label, transform=axes[0].transAxes, ha="center", va="bottom", fontsize=8)
    for axis, (name, images) in zip(axes, named):
        axis.imshow(tile(images[:columns], columns), interpolation="nearest")
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure


def smooth(values: list[float], window: int = 15) -> np.ndarray:
    """Running mean, shorter at the start, so that a noisy loss shows its trend."""
    total = np.cumsum(np.insert(np.asarray(values, dtype=float), 0, 0.0))
    last = np.arange(1, len(values) + 1)
    first = np.maximum(0, last - window)
    return (total[last] - total[first]) / (last - first)


def losses(histories: dict[str, dict[str, list[float]]]) -> Figure:
    """Every loss term against the step, one panel a term, one line a method. histories[method][term] = values."""
    terms = list(dict.fromkeys(t for history in histories.values() for t in history if t != "step")) or ["simple"]
    figure = new_figure(2.9 * len(terms), 2.4)
    for axis, term in zip(np.atleast_1d(figure.subplots(1, len(terms))), terms):
        for colour, (method, history) in zip(COLOURS, histories.items()):
            if term in history:
                steps = history.get("step", np.arange(1, len(history[term]) + 1))
                axis.plot(steps, history[term], color=colour, alpha=0.2, linewidth=0.6)
                axis.plot(steps, smooth(history[term]), color=colour, linewidth=1.4, label=method)
        axis.set_yscale("log")
        axis.set_title(f"L_{term}", fontsize=10)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        if axis.has_data():
            axis.legend(fontsize=7, frameon=False)
    return figure


def schedules(named: dict[str, Tensor]) -> Figure:
    """ᾱ_t (T,) of several noise schedules: what is left of the picture, and the signal-to-noise ratio."""
    figure = new_figure(9, 2.8)
    left, right = figure.subplots(1, 2)
    for colour, (name, a) in zip(COLOURS, named.items()):
        left.plot(a, color=colour, label=name)
        right.plot((a / (1 - a)).clamp(min=1e-6), color=colour, label=name)
    left.set(title="what is left of the picture", xlabel="step t", ylabel="share of variance, alpha-bar")
    right.set(title="signal-to-noise ratio", xlabel="step t", ylabel="alpha-bar / (1 - alpha-bar)", yscale="log", ylim=(1e-5, 1e5))
    right.axhline(1, color="black", linestyle=":", linewidth=1)
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, frameon=False)
    return figure


def curves(x: Tensor, named: dict[str, Tensor], xlabel: str, ylabel: str) -> Figure:
    """Mean over seeds as a line, lowest to highest as a band: named[name] is (seeds, len(x))."""
    figure = new_figure(6.5, 3)
    axis = figure.subplots()
    for style, colour, (name, values) in zip(["-", "-.", "--", ":"], COLOURS, named.items()):
        axis.plot(x, values.mean(0), style, color=colour, label=name)
        axis.fill_between(x, values.min(0).values, values.max(0).values, color=colour, alpha=0.2, linewidth=0)
    axis.set(xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    return figure
