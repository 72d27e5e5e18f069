"""Chapter 02b's figures as pure functions: points in, a figure out, the takeaway as its title.

A dot's colour is the direction of the *source's* sample of the same noise. Where angles are kept
the colours run round the ring as they do on the source's. The white ground is the figure's own, for
light and dark themes.
"""

from itertools import cycle

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..show import plots
from . import plane

LARGE, SMALL = 16, 13                    # points: to be read from the last row
STYLE = {"naive": ("#D55E00", "o"), "DomainStudio": ("#0072B2", "s"), "anchored": ("#009E73", "^"),
         "naive, source until t": ("#CC79A7", "D")}

MEASURES = (("copies", 100, "copies, % (low is better)"), ("turned", 1, "angle to the twin, ° (low is better)"))
BESIDE = ((7, 7), (7, -15), (-7, 7), (9, -15))      # where a line's labels stand, one line after the other
LEGEND = "star: training point · colour: direction of the source's sample · circles: radius 1 and 2"


def panels(n: int, title: str, height: float = 4.4, per_row: int = 4):
    """n square axes of the plane in rows, one title for all: (figure, list of axes)."""
    columns, rows = min(n, per_row), -(-n // per_row)
    figure = plots.new_figure(3.5 * columns, height * rows)
    figure.suptitle(title, fontsize=LARGE, fontweight="bold")
    axes = np.atleast_1d(figure.subplots(rows, columns, squeeze=False)).ravel().tolist()
    for axis in axes:
        axis.set_aspect("equal")
        axis.axis("off")
    return figure, axes[:n]


def circle(axis, radius: float) -> None:
    """A thin ring."""
    angle = np.linspace(0, 2 * np.pi, 200)
    axis.plot(radius * np.cos(angle), radius * np.sin(angle), color="#999999", lw=0.8, zorder=0)


def stars(axis, ten: Tensor | None) -> None:
    """The training points (K,2), if there are any to be shown."""
    if ten is not None:
        axis.scatter(*ten.T.numpy(), s=110, marker="*", c="black", edgecolors="white",
                     linewidths=0.8, zorder=3)


def colours(points: Tensor) -> np.ndarray:
    """A colour of the wheel for the direction of each point (N,2)."""
    from matplotlib import colormaps
    return colormaps["hsv"](plane.degrees(points).numpy() / 360)


def clouds(named: dict[str, Tensor], twins: Tensor, title: str, ten: Tensor | None = None,
           reach: float = 2.7, arc: float = 360.0) -> Figure:
    """Samples (N,2), one panel a name, coloured by their twins (N,2); stars: the ten (K,2).

    arc: degrees from angle 0 that are shaded, if not all.
    """
    from matplotlib.patches import Wedge
    figure, axes = panels(len(named), title, 4.9)
    figure.supxlabel(LEGEND, fontsize=SMALL)
    for axis, (name, x) in zip(axes, named.items()):
        if arc < 360:
            axis.add_patch(Wedge((0, 0), reach, 0, arc, color="#eeeeee", zorder=-1))
        for radius in (1, plane.RADIUS):
            circle(axis, radius)
        axis.scatter(*x.T.numpy(), s=9, c=colours(twins[:len(x)]), linewidths=0)
        stars(axis, ten)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axis.set_title(name, fontsize=SMALL)
    return figure


def paths(named: dict[str, list[Tensor]], title: str, ten: Tensor | None = None,
          reach: float = 2.9) -> Figure:
    """Walks from noise to sample, one panel a name, coloured by where the first name's walks end.

    named[name]: a list of (N,2), noise first.
    """
    ends = next(iter(named.values()))[-1]
    figure, axes = panels(len(named), title)
    for axis, (name, walk) in zip(axes, named.items()):
        steps = torch.stack(walk).numpy()                              # (links,N,2)
        for radius in (1, plane.RADIUS):
            circle(axis, radius)
        for i, colour in enumerate(colours(ends)):
            axis.plot(steps[:, i, 0], steps[:, i, 1], color=colour, linewidth=1.3, alpha=0.8)
        axis.scatter(*steps[-1].T, s=32, c=colours(ends), edgecolors="black", lw=0.5, zorder=4)
        stars(axis, ten)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axis.set_title(name, fontsize=SMALL)
    return figure


def field(named: dict[str, tuple], title: str, ten: Tensor | None = None,
          reach: float = 2.6) -> Figure:
    """Arrows from points to the guess there, one panel a name: named[name] = ((N,2), (N,2))."""
    figure, axes = panels(len(named), title)
    for axis, (name, (x_t, believed)) in zip(axes, named.items()):
        by = (believed - x_t).numpy()
        axis.scatter(*x_t.T.numpy(), s=14, c="#777777", linewidths=0)
        axis.quiver(*x_t.T.numpy(), *by.T, color=colours(believed), angles="xy", scale_units="xy",
                    scale=1, width=0.008)
        for radius in (1, plane.RADIUS):
            circle(axis, radius)
        stars(axis, ten)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axis.set_title(name, fontsize=SMALL)
    return figure


def matrices(named: dict[str, Tensor], title: str) -> Figure:
    """Cosine matrices (N,N), one a model; below each its change against the first."""
    n, first = len(named), next(iter(named.values()))
    figure = plots.new_figure(3.5 * n + 1, 7.4)
    figure.suptitle(title, fontsize=LARGE, fontweight="bold")
    axes = figure.subplots(2, n, squeeze=False)
    shown = [list(named.items()), [(name, x - first) for name, x in named.items()]]
    for row, what in enumerate(("cosine of two guesses", "change against the source")):
        drawn = shown[row]
        for axis, (name, values) in zip(axes[row], drawn):
            image = axis.imshow(values.numpy(), cmap="RdBu", vmin=-1 - row, vmax=1 + row)
            axis.set(xticks=[], yticks=[], xlabel=f"{len(values)} points, by angle" * (row == 0))
            words = name if row == 0 else f"mean |change| {float(values.abs().mean()):.2f}"
            axis.set_title("" if row and name == next(iter(named)) else words, fontsize=SMALL)
        bar = figure.colorbar(image, ax=axes[row].tolist(), shrink=0.8)
        bar.set_label(what, fontsize=SMALL)
    axes[1, 0].axis("off")
    for old in axes[1, 0].get_images():
        old.remove()
    return figure


def frontier(lines: dict[str, dict[str, list[dict]]], chance: float, title: str) -> Figure:
    """Copies, and the angle to the twin, against the share on the ring; bars: one std over seeds.

    lines[method][setting]: scores, one a seed; chance: share of copies among uniform points. A line's
    first and last settings are written beside their points.
    """
    figure = plots.new_figure(14, 6)
    figure.suptitle(title, fontsize=LARGE, fontweight="bold")
    axes = figure.subplots(1, 2)
    for axis, (key, scale, words) in zip(axes, MEASURES):
        for (method, points), (right, up) in zip(lines.items(), cycle(BESIDE)):
            x, y = ([np.array([by * s[what] for s in scores]) for scores in points.values()]
                    for what, by in (("on_ring", 100), (key, scale)))  # a setting: (seeds,)
            colour, marker = STYLE.get(method, ("#000000", "o"))
            bars = [[v.std(ddof=int(len(v) > 1)) for v in found] for found in (y, x)]
            middle = [[v.mean() for v in found] for found in (x, y)]
            axis.errorbar(*middle, *bars, color=colour, marker=marker, markersize=9,
                          linewidth=2, elinewidth=0.7, label=method)
            for name, place in list(zip(points, zip(*middle)))[::max(1, len(points) - 1)]:
                axis.annotate(name, place, xytext=(right, up), color=colour,
                              textcoords="offset points", fontsize=SMALL - 2,
                              ha="left" if right > 0 else "right")
        axis.set_xlabel("on the wider ring, % (right is better)", fontsize=SMALL)
        axis.set_ylabel(words, fontsize=SMALL)
        axis.set_ylim(bottom=0)
        axis.margins(x=0.12)
        axis.tick_params(labelsize=SMALL)
        axis.grid(alpha=0.3)
    axes[0].axhline(100 * chance, color="#555555", linestyle=":", linewidth=1.5)
    axes[0].annotate(f"uniform points: {chance:.0%}", (0.02, 100 * chance), xytext=(0, -5),
                     va="top", xycoords=("axes fraction", "data"), textcoords="offset points",
                     fontsize=SMALL)
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=SMALL, frameon=False, ncols=4,
                  loc="outside lower center")
    return figure
