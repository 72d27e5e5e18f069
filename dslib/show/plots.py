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
from matplotlib.ticker import LogLocator, NullFormatter
from PIL import Image
from torch import Tensor

from ..data import to_uint8

NOTHING = 1e-6         # a pairwise loss that is exactly zero comes out as rounding: no point on a logarithmic axis
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that no notebook shows by itself."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def to_png(figure: Figure, dpi: int = 100, trim: bool = True) -> bytes:
    """The figure as PNG bytes. trim: cut the margins, for which everything is drawn twice."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, **({"bbox_inches": "tight", "pad_inches": 0.08} if trim else {}))
    return buffer.getvalue()


def shrink(png: bytes) -> bytes:
    """The same picture in 256 colours: a third of the size, so that notebooks stay light."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return min(buffer.getvalue(), png, key=len)


def show(figure: Figure | Path, alt: str, dpi: int = 100, live: bool = False) -> None:
    """Display a figure, or a PNG file, in a notebook, with a text alternative for readers who cannot see it.

    live: a slider is being moved and nothing is saved, so be quick instead of small.
    """
    from IPython.display import display
    png = figure.read_bytes() if isinstance(figure, Path) else to_png(figure, dpi, trim=not live)
    encoded = base64.b64encode(png if live else shrink(png)).decode()
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
    figure = new_figure(2.9 * max(2, len(terms)), 2.6)
    axes, lines = np.atleast_1d(figure.subplots(1, len(terms))), {}
    for axis, term in zip(axes, terms):
        for style, colour, (method, history) in zip(["-", "--", "-.", ":"] * 2, COLOURS, histories.items()):
            if term in history:
                values = np.asarray(history[term], dtype=float)
                steps = history.get("step", np.arange(1, len(values) + 1))
                axis.plot(steps, np.where(values > NOTHING, values, np.nan), color=colour, alpha=0.2, linewidth=0.6)
                trend = np.where(smooth(values) > NOTHING, smooth(values), np.nan)
                lines[method], = axis.plot(steps, trend, style, color=colour, linewidth=1.5)
        axis.set_yscale("log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if np.ptp(np.log10(axis.get_ylim())) < 2 else (1.0,)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_title(f"L_{term}", fontsize=10)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    figure.legend(lines.values(), lines, fontsize=8, frameon=False, ncols=min(4, len(lines)) or 1, loc="outside lower center",
                  handlelength=3)
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


def curves(x: Tensor, named: dict[str, Tensor], xlabel: str, ylabel: str, log: bool = False) -> Figure:
    """Mean over seeds as a line, lowest to highest as a band: named[name] is (seeds, len(x)). log: logarithmic y axis."""
    figure = new_figure(6.5, 3)
    axis = figure.subplots()
    for style, colour, (name, values) in zip(["-", "-.", "--", ":"], COLOURS, named.items()):
        axis.plot(x, values.mean(0), style, color=colour, label=name)
        axis.fill_between(x, values.min(0).values, values.max(0).values, color=colour, alpha=0.2, linewidth=0)
    axis.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    return figure


def heatmaps(named: dict[str, Tensor], low: float | None = None, high: float | None = None) -> Figure:
    """Similarity matrices (N,N) side by side, every entry written out, the diagonal greyed; one colour scale for all.

    low, high: ends of the scale; by default the smallest and largest entry off the diagonals.
    """
    kept = {name: np.where(np.eye(len(m), dtype=bool), np.nan, np.asarray(m, dtype=float)) for name, m in named.items()}
    low = min(np.nanmin(m) for m in kept.values()) if low is None else low
    high = max(np.nanmax(m) for m in kept.values()) if high is None else high
    n = max(len(m) for m in kept.values())
    size = max(1.9, 0.27 * n)                                # inches of one matrix; laid out by hand, which is quicker for a slider
    width, height = (size + 0.2) * len(kept) + 1.4, size + 1.05
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = [figure.add_axes(((0.5 + k * (size + 0.2)) / width, 0.5 / height, size / width, size / height)) for k in range(len(kept))]
    for axis, (name, matrix) in zip(axes, kept.items()):
        axis.set_facecolor("#bbbbbb")
        drawn = axis.imshow(matrix, cmap="cividis", vmin=low, vmax=high)
        for i, j in zip(*np.nonzero(~np.isnan(matrix))):
            dark = matrix[i, j] < (low + high) / 2
            axis.text(j, i, f"{matrix[i, j]:.2f}".replace("0.", "."), ha="center", va="center", fontsize=5.5 if n > 6 else 8,
                      color="white" if dark else "black", in_layout=False)      # inside the axes: nothing to lay out
        axis.set(title=name, xticks=range(0, len(matrix), 3), yticks=range(0, len(matrix), 3) if axis is axes[0] else [], xlabel="image j")
        axis.title.set_fontsize(9)
    axes[0].set_ylabel("image i")
    bar = figure.add_axes(((width - 0.8) / width, (0.5 + 0.1 * size) / height, 0.1 / width, 0.8 * size / height))
    figure.colorbar(drawn, cax=bar).set_label("cosine similarity", fontsize=8)
    bar.tick_params(labelsize=7)
    return figure


def signed_rows(named: dict[str, Tensor], columns: int = 10) -> Figure:
    """One labelled row of signed pictures (N,C,H,W) a name, channels averaged: blue below zero, red above, white zero.

    Each row has its own scale, printed beside it: signs and places are compared, not sizes.
    """
    figure = new_figure(0.8 * columns + 2.0, 0.84 * len(named))
    axes = np.atleast_1d(figure.subplots(len(named), 1))
    for axis, (name, pictures) in zip(axes, named.items()):
        flat = pictures[:columns].detach().float().mean(1)                     # (n,H,W)
        top = max(float(flat.abs().max()), 1e-12)
        n, height, width = flat.shape
        sheet = np.zeros((height, columns * (width + 2) - 2))
        for i, picture in enumerate(flat.numpy()):
            sheet[:, i * (width + 2):i * (width + 2) + width] = picture
        axis.imshow(sheet, cmap="RdBu_r", vmin=-top, vmax=top, interpolation="nearest")
        axis.set_ylabel(f"{name}\n±{top:.1g}", rotation=0, ha="right", va="center", fontsize=9)
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure


def shares(named: dict[str, dict[str, float]], xlabel: str) -> Figure:
    """One stacked horizontal bar a name, cut into labelled parts that add up to one."""
    figure = new_figure(7, 0.5 * len(named) + 1.0)
    axis = figure.subplots()
    parts = list(dict.fromkeys(part for parts_of in named.values() for part in parts_of))
    for colour, part in zip(COLOURS, parts):
        left = [sum(one.get(p, 0.0) for p in parts[:parts.index(part)]) for one in named.values()]
        bars = axis.barh(list(named), [one.get(part, 0.0) for one in named.values()], left=left, color=colour, label=part)
        axis.bar_label(bars, [f"{v:.0%}" if v >= 0.05 else "" for v in bars.datavalues], label_type="center", color="white", fontsize=8)
    axis.set(xlabel=xlabel, xlim=(0, 1))
    axis.invert_yaxis()
    axis.legend(fontsize=8, frameon=False, ncols=len(parts), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def bands(named: dict[str, tuple[Tensor, ...]], energies: dict[str, Tensor] | None = None) -> Figure:
    """Pictures beside their four wavelet bands; below them, if given, the bands' energies by domain.

    named[name] = (picture (3,R,R), ll, lh, hl, hh), each band (3,r,r). Details are the mean of the three colours on one scale
    for the whole figure: white zero, red positive, blue negative. energies[domain] = (n,3): mean square of lh, hl, hh an image.
    """
    heights = [1.6] * len(named) + [2.2] * bool(energies)
    figure = new_figure(8.6, sum(heights))
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
            axis.set_title(title if row == 0 else "", fontsize=9)
            axis.set(xticks=[], yticks=[])
        axes[0].set_ylabel(name, fontsize=9)
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
    axis.set_xticks(places, list(energies), fontsize=9)
    axis.set_ylabel("mean square", fontsize=9)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=8, frameon=False, ncols=3)


def squash(place: float) -> float:
    """A place by the yardstick of real images, far ones drawn near: the range of real images, [-1, 1], keeps its width."""
    return float(np.clip(np.sign(place) * np.log1p(max(abs(place) - 1, 0)) + np.clip(place, -1, 1), -6, 6))


def scorecard(values: dict[str, dict[str, float]], places: dict[str, dict[str, float]]) -> Figure:
    """A table of scores, a row a set of images and a column a metric, coloured by where real images lie.

    values[row][metric] is written; places[row][metric] (:func:`dslib.metrics.against_real`) colours it: white with "="
    for as real, purple with "▼" for worse, orange with "▲" for what the usual arrow calls better than real.
    """
    columns = list(next(iter(values.values())))
    sheet = np.array([[squash(places[row][c]) for c in columns] for row in values])
    figure = new_figure(0.92 * len(columns) + 2.2, 0.34 * len(values) + 0.8)
    axis = figure.subplots()
    axis.imshow(np.where(np.abs(sheet) <= 1, 0, sheet), cmap="PuOr_r", vmin=-6, vmax=6, aspect="auto")
    for i, row in enumerate(values):
        for j, c in enumerate(columns):
            mark = "=" if abs(sheet[i, j]) <= 1 else "▲" if sheet[i, j] > 0 else "▼"
            axis.text(j, i, f"{values[row][c]:.3f}"[:5] + f" {mark}", ha="center", va="center", fontsize=8,
                      color="white" if abs(sheet[i, j]) > 4 else "black")
    axis.set_xticks(range(len(columns)), columns, fontsize=8)
    axis.set_yticks(range(len(values)), list(values), fontsize=9)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    return figure


def strips(images: Tensor, values: dict[str, float], places: dict[str, float], marks: dict[str, dict[str, float]]) -> Figure:
    """A row of images (N,3,R,R) above one strip a metric: where a set of images lies beside real ones, the grey band.

    values[metric] is written, places[metric] is the diamond, marks[name][metric] are other sets' places; right is what
    the usual arrow calls better.
    """
    figure = new_figure(8.4, 1.0 + 0.3 * len(values) + 0.9)
    top, axis = figure.subplots(2, 1, height_ratios=[1.0, 0.3 * len(values) + 0.9])
    top.imshow(tile(images, len(images)), interpolation="nearest")
    top.axis("off")
    axis.axvspan(-1, 1, color="#dddddd", label="real images")
    rows = range(len(values))
    for colour, shape, (name, mark) in zip(COLOURS, "osv^<>ph", marks.items()):
        axis.plot([squash(mark[m]) for m in values], rows, shape, color=colour, markersize=5, alpha=0.8, label=f"only {name}")
    axis.plot([squash(places[m]) for m in values], rows, "D", color="black", markersize=8, label="this mixture")
    axis.set_yticks(rows, [f"{metric}  " + f"{value:.3f}"[:5] for metric, value in values.items()], fontsize=9)
    axis.set(xlim=(-6.3, 6.3), ylim=(len(values) - 0.5, -0.5), xticks=[-4, 0, 4])
    axis.set_xticklabels(["worse", "as real images", "“better” than real"], fontsize=9)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(fontsize=7, frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def ablation(values: dict[str, dict[str, float]], real: dict[str, float], luck: dict[str, tuple[float, float]],
             chosen: str | None = None, thumbs: dict[str, Tensor] | None = None) -> Figure:
    """One panel a metric: its value at each setting of an axis, a line for real images, a band for what luck alone does.

    values[setting][metric]; real[metric]; luck[metric]: (lowest, highest) that another seed of the default may give; chosen:
    the setting to ring; thumbs: labelled rows of images (N,3,R,R) to put on top.
    """
    longest = max(map(len, values))
    low = 0.35 + 0.055 * longest * (longest > 5)                        # inches for the settings' names: long ones are turned
    width, row, panel = 9.0, 0.86, 1.7
    height = 0.75 + row * len(thumbs or {}) + panel + low               # laid out by hand, which is quicker for a slider
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    for i, (name, images) in enumerate((thumbs or {}).items()):
        axis = figure.add_axes((1.3 / width, (height - 0.35 - row * (i + 1)) / height, (width - 1.4) / width, 0.94 * row / height))
        axis.imshow(tile(images, len(images)), interpolation="nearest")
        axis.set_anchor("W")
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    each = (width - 0.1) / len(real)
    panels = [figure.add_axes(((0.45 + k * each) / width, low / height, (each - 0.55) / width, panel / height)) for k in range(len(real))]
    names, places = list(values), range(len(values))
    for axis, metric in zip(panels, real):
        axis.axhspan(*luck[metric], color=COLOURS[0], alpha=0.13, linewidth=0)
        axis.axhline(real[metric], color="black", linestyle="--", linewidth=1)
        axis.plot(places, [values[name][metric] for name in names], "o-", color=COLOURS[0], markersize=5, linewidth=1)
        if chosen is not None:
            axis.plot(names.index(chosen), values[chosen][metric], "o", markersize=12, markerfacecolor="none", color=COLOURS[1])
        axis.set_title(metric, fontsize=9)
        axis.set_xticks(places, names, fontsize=8, rotation=35 if longest > 5 else 0, ha="right" if longest > 5 else "center",
                        rotation_mode="anchor")
        axis.set_xlim(-0.4, len(names) - 0.6)
        axis.tick_params(axis="y", labelsize=8)
        axis.grid(axis="y", alpha=0.3)
    return figure


def ways(values: dict[str, dict[str, dict[str, list[tuple[float, float]]]]], real: dict[str, dict[str, float]], xlabel: str) -> Figure:
    """A panel for every score (rows) and domain (columns): each method's way through (x, score), its last point large.

    values[score][domain][method]: points in the order of training, x in [0, 1]; real[score][domain]: the star at x = 1.
    """
    scores, domains = list(values), list(next(iter(values.values())))
    methods = list(dict.fromkeys(method for one in values.values() for ways in one.values() for method in ways))
    figure = new_figure(2.1 * len(domains) + 0.4, 1.9 * len(scores) + 0.5)
    axes = figure.subplots(len(scores), len(domains), squeeze=False, sharex=True)
    for i, score in enumerate(scores):
        for axis, domain in zip(axes[i], domains):
            axis.axhline(real[score][domain], color="black", linestyle="--", linewidth=0.8)
            axis.plot(1, real[score][domain], "*", color="black", markersize=11)
            for method, points in values[score][domain].items():
                colour, marker = COLOURS[methods.index(method) % len(COLOURS)], "osD^vPX"[methods.index(method) % 7]
                x, y = zip(*points)
                axis.plot(x, y, marker=marker, color=colour, markersize=3.5, linewidth=1.2, label=method if i == 0 else None)
                axis.plot(x[-1], y[-1], marker, color=colour, markersize=8)
            axis.set_xlim(-0.05, 1.08)
            axis.tick_params(labelsize=8)
            axis.grid(alpha=0.3)
            if i == 0:
                axis.set_title(domain, fontsize=9)
        axes[i, 0].set_ylabel(score, fontsize=9)
    figure.supxlabel(xlabel, fontsize=9)
    handles = {text: handle for axis in axes[0] for handle, text in zip(*axis.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(methods), fontsize=8, frameon=False)
    return figure
