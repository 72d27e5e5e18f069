"""Chapter 02b's figures as pure functions: points in, a matplotlib figure out, the takeaway as its title.

A dot's colour is the direction of the *source's* sample of the same noise. Where angles are kept the colours run round
the ring as they do on the source's. The white ground is the figure's own, for light and dark themes.
"""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from . import plane, plots

LARGE, SMALL = 16, 13                    # points: to be read from the last row
LINE = {"naive": "#D55E00", "DomainStudio": "#0072B2", "anchored": "#009E73", "naive, source until t": "#CC79A7"}
MARKS = {"naive": "o", "DomainStudio": "s", "anchored": "^", "naive, source until t": "D"}


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


def circle(axis, radius: float, **style) -> None:
    """A thin ring."""
    angle = np.linspace(0, 2 * np.pi, 200)
    axis.plot(radius * np.cos(angle), radius * np.sin(angle), **{"color": "#999999", "linewidth": 0.8, "zorder": 0} | style)


def colours(points: Tensor) -> np.ndarray:
    """A colour of the wheel for the direction of each point (N,2)."""
    from matplotlib import colormaps
    return colormaps["hsv"](plane.degrees(points).numpy() / 360)


def clouds(named: dict[str, Tensor], twins: Tensor, title: str, ten: Tensor | dict | None = None, per_row: int = 4,
           reach: float = 2.7) -> Figure:
    """Samples (N,2), one panel a name (a second line is written below it), coloured by their twins (N,2).

    ten: the training points (K,2), black stars; or one set a name.
    """
    figure, axes = panels(len(named), title, 4.6, per_row)
    for axis, (name, x) in zip(axes, named.items()):
        for radius in (1, plane.RADIUS):
            circle(axis, radius)
        axis.scatter(*x.T.numpy(), s=9, c=colours(twins[:len(x)]), linewidths=0)
        if ten is not None:
            stars = ten[name] if isinstance(ten, dict) else ten
            axis.scatter(*stars.T.numpy(), s=150, marker="*", c="black", edgecolors="white", linewidths=0.8, zorder=3)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axis.set_title(name, fontsize=SMALL)
    return figure


def paths(named: dict[str, list[Tensor]], title: str, ten: Tensor | None = None, reach: float = 2.9) -> Figure:
    """Walks from noise to sample, one panel a name: named[name] is a list of (N,2), noise first; coloured by the first name's end."""
    ends = next(iter(named.values()))[-1]
    figure, axes = panels(len(named), title)
    for axis, (name, walk) in zip(axes, named.items()):
        steps = torch.stack(walk).numpy()                                           # (links,N,2)
        for i, colour in enumerate(colours(ends)):
            axis.plot(steps[:, i, 0], steps[:, i, 1], color=colour, linewidth=1.3, alpha=0.8)
        axis.scatter(*steps[-1].T, s=28, c=colours(ends), edgecolors="black", linewidths=0.5, zorder=3)
        if ten is not None:
            axis.scatter(*ten.T.numpy(), s=150, marker="*", c="black", edgecolors="white", linewidths=0.8, zorder=2)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axis.set_title(name, fontsize=SMALL)
    return figure


def field(named: dict[str, tuple], title: str, ten: Tensor | None = None, reach: float = 2.6) -> Figure:
    """Arrows from noisy points to the guess there, one panel a name: named[name] = (x_t (N,2), guess (N,2))."""
    figure, axes = panels(len(named), title)
    for axis, (name, (x_t, believed)) in zip(axes, named.items()):
        by = (believed - x_t).numpy()
        axis.quiver(*x_t.T.numpy(), *by.T, color=colours(believed), angles="xy", scale_units="xy", scale=1, width=0.006)
        for radius in (1, plane.RADIUS):
            circle(axis, radius)
        if ten is not None:
            axis.scatter(*ten.T.numpy(), s=150, marker="*", c="black", edgecolors="white", linewidths=0.8, zorder=3)
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach))
        axis.set_title(name, fontsize=SMALL)
    return figure


def matrices(named: dict[str, Tensor], title: str) -> Figure:
    """Cosine matrices (N,N), points in the order of their angle; first the cosines, below the difference to the first."""
    n, first = len(named), next(iter(named.values()))
    figure = plots.new_figure(3.5 * n + 1, 7.4)
    figure.suptitle(title, fontsize=LARGE, fontweight="bold")
    axes = figure.subplots(2, n, squeeze=False)
    shown = [list(named.items()), [(name, x - first) for name, x in named.items()]]
    for row, (what, drawn) in enumerate(zip(("cosine", "change"), shown)):
        for axis, (name, values) in zip(axes[row], drawn):
            image = axis.imshow(values.numpy(), cmap="RdBu", vmin=-1, vmax=1)
            axis.set(xticks=[], yticks=[])
            words = name if row == 0 else f"mean |change| {float(values.abs().mean()):.2f}"
            axis.set_title("" if row and name == next(iter(named)) else words, fontsize=SMALL)
        bar = figure.colorbar(image, ax=axes[row].tolist(), shrink=0.8)
        bar.set_label("cosine of two guesses" if what == "cosine" else "change against the source", fontsize=SMALL)
    axes[1, 0].axis("off")
    for old in axes[1, 0].get_images():
        old.remove()
    return figure


def frontier(lines: dict[str, dict[str, list[dict]]], chance: float, title: str) -> Figure:
    """Copies against the share on the ring. lines[method][setting] = scores, one a seed; bars are one standard deviation.

    chance: share of copies among uniform points of the wider ring.
    """
    figure = plots.new_figure(11, 6)
    figure.suptitle(title, fontsize=LARGE, fontweight="bold")
    axis = figure.subplots()
    for method, points in lines.items():
        values = {key: np.array([[100 * s[key] for s in found] for found in points.values()]) for key in ("on_ring", "copies")}
        (x, y), (dx, dy) = ([v.mean(1) for v in values.values()], [v.std(1, ddof=1) if v.shape[1] > 1 else 0 for v in values.values()])
        colour = LINE.get(method, "#000000")
        axis.errorbar(x, y, dy, dx, color=colour, marker=MARKS.get(method, "o"), markersize=9, linewidth=2, elinewidth=0.8, label=method)
        for setting, a, b in zip(points, x, y):
            axis.annotate(setting, (a, b), xytext=(7, 7), textcoords="offset points", fontsize=SMALL - 2, color=colour)
    axis.axhline(100 * chance, color="#555555", linestyle=":", linewidth=1.5)
    axis.annotate(f"uniform points: {chance:.0%}", (0.01, 100 * chance), xycoords=("axes fraction", "data"), xytext=(0, -5),
                  textcoords="offset points", va="top", fontsize=SMALL, color="#555555")
    axis.set_xlabel("on the wider ring, % (right is better)", fontsize=SMALL)
    axis.set_ylabel("copies, % (low is better)", fontsize=SMALL)
    axis.set_ylim(bottom=0)
    axis.tick_params(labelsize=SMALL)
    axis.legend(fontsize=SMALL, frameon=False, loc="upper left")
    axis.grid(alpha=0.3)
    return figure
