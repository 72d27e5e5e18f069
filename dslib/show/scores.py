"""Figures of scores: where sets of images lie beside real ones, settings beside luck, methods beside each other (chapters 07, 08)."""

import textwrap

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from .pictures import tile
from .style import COLOURS, TEXT, new_figure


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
    names = 0.13 * max(map(len, values))                              # inches of the longest row's name
    figure = new_figure(1.35 * len(columns) + names + 0.4, 0.56 * len(values) + 1.3)
    axis = figure.subplots()
    axis.imshow(np.where(np.abs(sheet) <= 1, 0, sheet), cmap="PuOr_r", vmin=-6, vmax=6, aspect="auto")
    for i, row in enumerate(values):
        for j, c in enumerate(columns):
            mark = "=" if abs(sheet[i, j]) <= 1 else "▲" if sheet[i, j] > 0 else "▼"
            axis.text(j, i, f"{values[row][c]:.3f}"[:5] + f" {mark}", ha="center", va="center", fontsize=TEXT,
                      color="white" if abs(sheet[i, j]) > 4 else "black")
    axis.set_xticks(range(len(columns)), [textwrap.fill(c.replace("-", "- "), 11).replace("- ", "-") for c in columns])
    axis.set_yticks(range(len(values)), list(values), fontsize=TEXT)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure


def strips(images: Tensor, values: dict[str, float], places: dict[str, float], marks: dict[str, dict[str, float]]) -> Figure:
    """A row of images (N,3,R,R) above one strip a metric: where a set of images lies beside real ones, the grey band.

    values[metric] is written, places[metric] is the diamond, marks[name][metric] are other sets' places; right is what
    the usual arrow calls better.
    """
    figure = new_figure(13.5, 1.6 + 0.5 * len(values) + 1.6)
    top, axis = figure.subplots(2, 1, height_ratios=[1.6, 0.5 * len(values) + 1.6])
    top.imshow(tile(images, len(images)), interpolation="nearest")
    top.axis("off")
    axis.axvspan(-1, 1, color="#dddddd", label="real images")
    rows = range(len(values))
    for colour, shape, (name, mark) in zip(COLOURS, "osv^<>ph", marks.items()):
        axis.plot([squash(mark[m]) for m in values], rows, shape, color=colour, markersize=9, alpha=0.8, label=f"only {name}")
    axis.plot([squash(places[m]) for m in values], rows, "D", color="black", markersize=13, label="this mixture")
    axis.set_yticks(rows, [f"{metric}  " + f"{value:.3f}"[:5] for metric, value in values.items()])
    axis.set(xlim=(-6.3, 6.3), ylim=(len(values) - 0.5, -0.5), xticks=[-4, 0, 4])
    axis.set_xticklabels(["worse", "as real images", "“better” than real"])
    axis.grid(axis="y", alpha=0.3)
    axis.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def ablation(values: dict[str, dict[str, float]], real: dict[str, float], luck: dict[str, tuple[float, float]],
             chosen: str | None = None, thumbs: dict[str, Tensor] | None = None) -> Figure:
    """One panel a metric: its value at each setting of an axis, a line for real images, a band for what luck alone does.

    values[setting][metric]; real[metric]; luck[metric]: (lowest, highest) that another seed of the default may give; chosen:
    the setting to ring; thumbs: labelled rows of images (N,3,R,R) to put on top.
    """
    longest = max(map(len, values))
    low = 0.5 + 0.09 * longest * (longest > 5)                        # inches for the settings' names: long ones are turned
    width, row, panel = 14.0, 1.24, 2.6
    height = 0.95 + row * len(thumbs or {}) + panel + low               # laid out by hand, which is quicker for a slider
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    for i, (name, images) in enumerate((thumbs or {}).items()):
        axis = figure.add_axes((2.4 / width, (height - 0.45 - row * (i + 1)) / height, (width - 2.5) / width, 0.94 * row / height))
        axis.imshow(tile(images, len(images)), interpolation="nearest")
        axis.set_anchor("W")
        axis.set_ylabel(textwrap.fill(name, 17), rotation=0, ha="right", va="center")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    each = (width - 0.1) / len(real)
    panels = [figure.add_axes(((0.75 + k * each) / width, low / height, (each - 0.85) / width, panel / height)) for k in range(len(real))]
    names, places = list(values), range(len(values))
    for axis, metric in zip(panels, real):
        axis.axhspan(*luck[metric], color=COLOURS[0], alpha=0.13, linewidth=0)
        axis.axhline(real[metric], color="black", linestyle="--", linewidth=1.6)
        axis.plot(places, [values[name][metric] for name in names], "o-", color=COLOURS[0], markersize=8, linewidth=1.6)
        if chosen is not None:
            axis.plot(names.index(chosen), values[chosen][metric], "o", markersize=18, markerfacecolor="none", markeredgewidth=2.5,
                      color=COLOURS[1])
        axis.set_title(metric)
        axis.set_xticks(places, names, rotation=35 if longest > 5 else 0, ha="right" if longest > 5 else "center",
                        rotation_mode="anchor")
        axis.set_xlim(-0.4, len(names) - 0.6)
        axis.grid(axis="y", alpha=0.3)
    return figure


def forest(values: dict[str, dict[str, tuple[float, float, float]]], bands: dict[str, tuple[float, float]],
           each: dict[str, dict[str, list[float]]]) -> Figure:
    """A panel a score, a line a set or method: mean and interval, and the single draws or seeds small behind them.

    values[score][line]: (mean, low, high), an infinite interval is not drawn; bands[score]: grey, where nothing is told (real images,
    or (0, 0): no difference); a dot is filled where its interval lies outside. each[score][line]: the single numbers.
    """
    lines = list(dict.fromkeys(line for found in values.values() for line in found))
    figure = new_figure(2.9 + 2.8 * len(values), 1.1 + 0.42 * len(lines))
    axes = figure.subplots(1, len(values), squeeze=False, sharey=True)[0]
    for axis, (score, found) in zip(axes, values.items()):
        axis.axvspan(*bands[score], color="#bbbbbb", alpha=0.5, linewidth=1.5 if bands[score][0] == bands[score][1] else 0)
        for line, (middle, low, high) in found.items():
            y, known = lines.index(line), np.isfinite(low)
            told = known and (low > bands[score][1] or high < bands[score][0])
            axis.plot(each[score][line], [y] * len(each[score][line]), ".", color="#888888", markersize=6)
            if known:
                axis.plot([low, high], [y, y], "-", color=COLOURS[0], linewidth=2.5)
            axis.plot(middle, y, "o", color=COLOURS[0], markersize=9, markerfacecolor=COLOURS[0] if told else "white")
        axis.set_title(score)
        axis.locator_params(axis="x", nbins=4)
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_yticks(range(len(lines)), lines)
    axes[0].set_ylim(len(lines) - 0.5, -0.5)
    return figure


def ways(values: dict[str, dict[str, dict[str, list[tuple[float, float]]]]], real: dict[str, dict[str, float]], xlabel: str,
         log: tuple[str, ...] = ()) -> Figure:
    """A panel for every score (rows) and domain (columns): each method's way through (x, score), its last point large.

    values[score][domain][method]: points in the order of training, x in [0, 1]; real[score][domain]: the star at x = 1. log: scores above
    0 whose panels share one logarithmic axis.
    """
    scores, domains = list(values), list(next(iter(values.values())))
    methods = list(dict.fromkeys(method for one in values.values() for ways in one.values() for method in ways))
    figure = new_figure(3.1 * len(domains) + 0.6, 3.0 * len(scores) + 0.9)
    axes = figure.subplots(len(scores), len(domains), squeeze=False, sharex=True)
    for i, score in enumerate(scores):
        for axis, domain in zip(axes[i], domains):
            axis.axhline(real[score][domain], color="black", linestyle="--", linewidth=1.4)
            axis.plot(1, real[score][domain], "*", color="black", markersize=17)
            for method, points in values[score][domain].items():
                colour, marker = COLOURS[methods.index(method) % len(COLOURS)], "osD^vPX"[methods.index(method) % 7]
                x, y = zip(*points)
                axis.plot(x, y, marker=marker, color=colour, markersize=5, linewidth=1.8, label=method if i == 0 else None)
                axis.plot(x[-1], y[-1], marker, color=colour, markersize=12)
            axis.set_xlim(-0.05, 1.08)
            axis.grid(alpha=0.3)
            if i == 0:
                axis.set_title(domain)
        if score in log:
            for axis in axes[i]:
                axis.set_yscale("log")
            ends = [axis.get_ylim() for axis in axes[i]]
            for axis in axes[i]:
                axis.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
        axes[i, 0].set_ylabel(score)
    figure.supxlabel(xlabel, fontsize=TEXT)
    handles = {text: handle for axis in axes[0] for handle, text in zip(*axis.get_legend_handles_labels())}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(methods), fontsize=TEXT)
    return figure
