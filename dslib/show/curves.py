"""Figures of numbers along a way: losses, schedules, curves with bands, matrices, shares. Tensors in, a matplotlib figure out."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from torch import Tensor

from .style import COLOURS, LARGE, SMALL, TEXT, new_figure, threshold

NOTHING = 1e-6         # a pairwise loss that is exactly zero comes out as rounding: no point on a logarithmic axis


def smooth(values: list[float], window: int = 15) -> np.ndarray:
    """Running mean, shorter at the start, so that a noisy loss shows its trend."""
    total = np.cumsum(np.insert(np.asarray(values, dtype=float), 0, 0.0))
    last = np.arange(1, len(values) + 1)
    first = np.maximum(0, last - window)
    return (total[last] - total[first]) / (last - first)


def losses(histories: dict[str, dict[str, list[float]]]) -> Figure:
    """Every loss term against the step, one panel a term, one line a method. histories[method][term] = values."""
    terms = list(dict.fromkeys(t for history in histories.values() for t in history if t != "step")) or ["simple"]
    columns = 2 if len(terms) == 4 else min(3, len(terms))
    lines_of = -(-len(terms) // columns)
    figure = new_figure(13 if columns > 1 else 9, 3.6 * lines_of + 0.8)
    axes, lines = figure.subplots(lines_of, columns, squeeze=False).ravel(), {}
    for axis in axes[len(terms):]:
        axis.remove()
    for axis, term in zip(axes, terms):
        for style, colour, (method, history) in zip(["-", "--", "-.", ":"] * 2, COLOURS, histories.items()):
            if term in history:
                values = np.asarray(history[term], dtype=float)
                steps = history.get("step", np.arange(1, len(values) + 1))
                axis.plot(steps, np.where(values > NOTHING, values, np.nan), color=colour, alpha=0.2, linewidth=1)
                trend = np.where(smooth(values) > NOTHING, smooth(values), np.nan)
                lines[method], = axis.plot(steps, trend, style, color=colour)
        axis.set_yscale("log")
        decades = np.ptp(np.log10(axis.get_ylim()))
        ticks = (1.0,) if decades >= 2 else (1.0, 2.0, 5.0) if decades > 0.7 else (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)
        axis.yaxis.set_major_locator(LogLocator(subs=ticks))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_title(loss_name(term), fontsize=LARGE)
        axis.grid(alpha=0.3)
    figure.supxlabel("step", fontsize=TEXT)
    figure.legend(lines.values(), lines, fontsize=TEXT, ncols=min(4, len(lines)) or 1, loc="outside upper center", handlelength=3)
    return figure


def loss_name(term: str) -> str:
    """A loss term as the paper writes it: img → L_img in mathematics."""
    words = term.replace("_", r"\_").replace(" ", r"\ ")
    return rf"$\mathcal{{L}}_{{\mathrm{{{words}}}}}$"


def schedules(named: dict[str, Tensor]) -> Figure:
    """ᾱ_t (T,) of several noise schedules: what is left of the picture, and the signal-to-noise ratio."""
    figure = new_figure(13, 4.6)
    left, right = figure.subplots(1, 2)
    for colour, (name, a) in zip(COLOURS, named.items()):
        left.plot(a, color=colour, label=name)
        right.plot((a / (1 - a)).clamp(min=1e-6), color=colour, label=name)
    left.set(title="what is left of the picture", xlabel="step t", ylabel=r"share of variance, $\bar\alpha_t$")
    right.set(title="signal-to-noise ratio", xlabel="step t", ylabel=r"$\bar\alpha_t\,/\,(1-\bar\alpha_t)$", yscale="log", ylim=(1e-5, 1e5))
    threshold(right, 1, "as much picture as noise", right=True)
    for axis in (left, right):
        axis.grid(alpha=0.3)
    left.legend()
    return figure


def curves(x: Tensor, named: dict[str, Tensor], xlabel: str, ylabel: str, log: bool = False,
           thresholds: dict[str, float] | None = None) -> Figure:
    """Mean over seeds as a line, lowest to highest as a band: named[name] is (seeds, len(x)). Names stand at the lines' ends.

    log: logarithmic y axis; thresholds: dashed lines, what each is → its height.
    """
    figure = new_figure(11, 5)
    axis, lines = figure.subplots(), {}
    for style, colour, (name, values) in zip(["-", "-.", "--", ":"] * 2, COLOURS, named.items()):
        lines[name], = axis.plot(x, values.mean(0), style, color=colour, label=name)
        axis.fill_between(x, values.min(0).values, values.max(0).values, color=colour, alpha=0.2, linewidth=0)
    for text, height in (thresholds or {}).items():
        threshold(axis, height, text)
    axis.set(xlabel=xlabel, ylabel=ylabel, yscale="log" if log else "linear")
    axis.grid(alpha=0.3)
    figure.named = {axis: lines}
    return figure


def crowds(named: dict[str, tuple[Tensor, Tensor]], xlabel: str, few: str, many: str) -> Figure:
    """Is a small set of numbers apart from a large one? A line a name: named[name] is (few numbers (N,), many (M,)), on a log axis.

    few, many: what the numbers are of. The many are thin strokes, with the mark below which a hundredth of them lies; the few are dots.
    """
    figure = new_figure(11, 0.9 * len(named) + 1.6)
    axis = figure.subplots()
    for row, (dots, strokes) in enumerate(named.values()):
        axis.plot(strokes, [row] * len(strokes), "|", color="#777777", markersize=22, markeredgewidth=1, alpha=0.5,
                  label=many if row == 0 else None)
        axis.plot(dots, [row + 0.12 * (i % 3 - 1) for i in range(len(dots))], "o", color=COLOURS[1], markersize=9, alpha=0.85,
                  label=few if row == 0 else None)
        low = float(strokes.quantile(0.01))
        axis.plot([low, low], [row - 0.38, row + 0.38], color="black", linewidth=2,
                  label=f"left of it: one in a hundred {many}" if row == 0 else None)
    axis.set_yticks(range(len(named)), list(named))
    axis.set(xscale="log", xlabel=f"{xlabel} (logarithmic)", ylim=(len(named) - 0.45, -0.55))
    axis.grid(axis="x", alpha=0.3)
    axis.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def heatmaps(named: dict[str, Tensor], low: float | None = None, high: float | None = None, label: str = "cosine similarity",
             cmap: str = "cividis") -> Figure:
    """Similarity matrices (N,N) side by side, every entry written out, the diagonal greyed; one colour scale for all.

    low, high: ends of the scale; by default the smallest and largest entry off the diagonals. For differences: cmap "RdBu_r",
    with low = -high.
    """
    kept = {name: np.where(np.eye(len(m), dtype=bool), np.nan, np.asarray(m, dtype=float)) for name, m in named.items()}
    low = min(np.nanmin(m) for m in kept.values()) if low is None else low
    high = max(np.nanmax(m) for m in kept.values()) if high is None else high
    n = max(len(m) for m in kept.values())
    size = max(3.2, 0.46 * n)                                # inches of one matrix; laid out by hand, which is quicker for a slider
    columns = min(len(kept), 2 if n > 6 and len(kept) != 3 else 4)
    lines = -(-len(kept) // columns)
    width, height = (size + 0.35) * columns + 2.1, (size + 1.15) * lines
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = []
    for k, (name, matrix) in enumerate(kept.items()):
        left, below = 0.75 + (k % columns) * (size + 0.35), height - (k // columns + 1) * (size + 1.15) + 0.7
        axis = figure.add_axes((left / width, below / height, size / width, size / height))
        axes.append(axis)
        drawn = matrix_on(axis, matrix, low, high, cmap, 11 if n > 6 else SMALL)
        axis.set(title=name, xticks=range(0, len(matrix), 3), yticks=range(0, len(matrix), 3) if k % columns == 0 else [], xlabel="image j")
    axes[0].set_ylabel("image i")
    bar = figure.add_axes(((width - 1.15) / width, 0.2, 0.18 / width, 0.6))
    figure.colorbar(drawn, cax=bar).set_label(label)
    return figure


def matrix_on(axis, matrix: np.ndarray, low: float, high: float, cmap: str, size: float):
    """Draw one matrix with its entries, nan greyed and empty; returns what a colour bar needs."""
    axis.set_facecolor("#bbbbbb")
    axis.spines[:].set_visible(False)
    drawn = axis.imshow(matrix, cmap=cmap, vmin=low, vmax=high)
    light = np.dot(drawn.to_rgba(np.nan_to_num(matrix))[..., :3], (0.299, 0.587, 0.114)) > 0.5
    for i, j in zip(*np.nonzero(~np.isnan(matrix))):
        axis.text(j, i, f"{matrix[i, j]:.2f}".replace("0.", "."), ha="center", va="center", fontsize=size,
                  color="black" if light[i, j] else "white", in_layout=False)      # inside the axes: nothing to lay out
    return drawn


def shares(named: dict[str, dict[str, float]], xlabel: str) -> Figure:
    """One stacked horizontal bar a name, cut into labelled parts that add up to one."""
    figure = new_figure(12, 0.85 * len(named) + 1.6)
    axis = figure.subplots()
    parts = list(dict.fromkeys(part for parts_of in named.values() for part in parts_of))
    for colour, part in zip(COLOURS, parts):
        left = [sum(one.get(p, 0.0) for p in parts[:parts.index(part)]) for one in named.values()]
        bars = axis.barh(list(named), [one.get(part, 0.0) for one in named.values()], left=left, color=colour, label=part)
        axis.bar_label(bars, [f"{v:.0%}" if v >= 0.05 else "" for v in bars.datavalues], label_type="center", color="white",
                       fontweight="bold")
    axis.set(xlabel=xlabel, xlim=(0, 1))
    axis.invert_yaxis()
    axis.legend(fontsize=TEXT, ncols=len(parts), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure
