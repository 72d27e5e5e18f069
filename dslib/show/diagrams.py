"""Diagrams drawn by code: the method with the part that a chapter is about lit, a U-Net, a Haar block.

Every function returns a figure on white ground, for :func:`dslib.show.style.show`, in the letters and colours of all figures.
"""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon, Rectangle

from ..base.errors import UserError
from .curves import loss_name
from .style import COLOURS, LARGE, SMALL, TEXT, darker, new_figure

BLUE, RED, GREEN, PINK = COLOURS[:4]
GREY, DIM = "#6b6b6b", 0.16
PARTS = {"noise": "x_t", "source": "the frozen source", "guess": "the guesses of the clean picture", "simple": "L_simple", "img": "L_img",
         "hf": "L_hf", "hfmse": "L_hfmse"}

# name: (left, bottom, width, height, text, colour, icon, parts that use it)
PAIRS = {"img", "hf"}
BOXES = {
    "x_0": (0.0, 3.1, 1.9, 1.5, "ten images\n$x_0$", GREY, "stack", {"noise", "simple", "hfmse", "img", "hf"}),
    "eps": (0.0, 5.6, 1.9, 1.2, "noise $\\epsilon$,\nstep $t$", GREY, None, set(PARTS)),
    "x_t": (2.7, 3.1, 1.9, 1.5, "one noised\n$x_t$ for both", GREY, None, {"noise", "simple", "source", "guess", "hfmse"} | PAIRS),
    "sou": (5.4, 5.1, 2.5, 1.6, "source\n(frozen)", GREY, "net", {"source"} | PAIRS),
    "ada": (5.4, 1.2, 2.5, 1.6, "adapted\n(trains)", BLUE, "net", {"simple", "guess", "hfmse"} | PAIRS),
    "guess_sou": (8.7, 5.2, 1.9, 1.4, "its guess\n$\\tilde x_0^{\\,\\mathrm{sou}}$", GREY, None, {"source", "guess"} | PAIRS),
    "guess_ada": (8.7, 1.3, 1.9, 1.4, "its guess\n$\\tilde x_0^{\\,\\mathrm{ada}}$", BLUE, None, {"guess", "hfmse"} | PAIRS),
    "rows": (11.45, 5.75, 3.55, 1.5, "who resembles\nwhom: $P^{\\,\\mathrm{sou}}$, $P$", RED, "matrix", {"img"}),
    "rows_hf": (11.45, 3.75, 3.55, 1.5, "the same of\nHaar's details", GREEN, "haar", {"hf"}),
    "detail": (11.45, 1.75, 3.55, 1.5, "details beside\nthose of $x_0$", PINK, "haar", {"hfmse"}),
    "answer": (11.45, -0.25, 3.55, 1.5, "the answer beside\n$\\epsilon$ (or $v$)", BLUE, None, {"simple"}),
    "L_img": (15.6, 5.95, 1.5, 1.1, loss_name("img"), RED, None, {"img"}),
    "L_hf": (15.6, 3.95, 1.5, 1.1, loss_name("hf"), GREEN, None, {"hf"}),
    "L_hfmse": (15.6, 1.95, 1.5, 1.1, loss_name("hfmse"), PINK, None, {"hfmse"}),
    "L_simple": (15.6, -0.05, 1.5, 1.1, loss_name("simple"), BLUE, None, {"simple"}),
    "sum": (18.4, 2.6, 1.3, 1.7, "sum\n$\\mathcal{L}$", "#222222", None, {"simple", "hfmse"} | PAIRS),
}
# (from, to, letters on it): from the right edge to the left one; a word says otherwise
ARROWS = [("x_0", "x_t", ""), ("eps", "x_t", "corner"), ("x_t", "sou", ""), ("x_t", "ada", ""), ("sou", "guess_sou", ""),
          ("ada", "guess_ada", ""), ("guess_sou", "rows", ""), ("guess_ada", "rows", ""), ("guess_sou", "rows_hf", ""),
          ("guess_ada", "rows_hf", ""), ("guess_ada", "detail", ""), ("x_0", "detail", "below"), ("ada", "answer", "below"),
          ("rows", "L_img", ""), ("rows_hf", "L_hf", ""), ("detail", "L_hfmse", ""), ("answer", "L_simple", ""),
          ("L_img", "sum", "$\\lambda_2$"), ("L_hf", "sum", "$\\lambda_3$"), ("L_hfmse", "sum", "$\\lambda_4$"), ("L_simple", "sum", "1")]


def canvas(width: float, height: float, left: float = 0.0, bottom: float = 0.0, scale: float = 0.8) -> tuple[Figure, Axes]:
    """An empty plane of so many units, from (left, bottom) on, without axes: a unit is ``scale`` inches."""
    figure = new_figure(width * scale, height * scale)
    figure.set_layout_engine("none")
    axis = figure.add_axes((0, 0, 1, 1))
    axis.set(xlim=(left, left + width), ylim=(bottom, bottom + height), aspect="equal")
    axis.axis("off")
    return figure, axis


def arrow(axis: Axes, points: list[tuple[float, float]], colour: str = "#333333", alpha: float = 1.0, width: float = 2.2) -> None:
    """A line through points (x, y) that ends in a head."""
    for start, end in zip(points, points[1:-1]):
        axis.plot(*zip(start, end), color=colour, alpha=alpha, linewidth=width, solid_capstyle="round")
    style = {"arrowstyle": "-|>,head_width=0.35,head_length=0.6", "linewidth": width, "shrinkA": 0, "shrinkB": 1}
    axis.annotate("", points[-1], points[-2], arrowprops=style | {"color": colour, "alpha": alpha})


def box(axis: Axes, place: tuple[float, float, float, float], text: str, colour: str, alpha: float = 1.0, icon: str | None = None,
        size: float = TEXT) -> None:
    """A rounded box at (left, bottom, width, height) with its letters, an icon to the left of them."""
    x, y, w, h = place
    for face, edge in (("white", "none"), (colour, colour)):      # white first: a pale colour lets no arrow through
        axis.add_patch(FancyBboxPatch((x + 0.1, y + 0.1), w - 0.2, h - 0.2, boxstyle="round,pad=0.1", linewidth=2.2, edgecolor=edge,
                                      facecolor=face, alpha=1.0 if edge == "none" else 0.14 * alpha, zorder=3))
    axis.add_patch(FancyBboxPatch((x + 0.1, y + 0.1), w - 0.2, h - 0.2, boxstyle="round,pad=0.1", linewidth=2.4, edgecolor=colour,
                                  facecolor="none", alpha=alpha, zorder=3))
    middle = x + w / 2
    if icon and icon != "stack":
        ICONS[icon](axis, x + 0.18, y + h / 2 - 0.38, 0.76, colour, alpha)
        middle += 0.42
    axis.text(middle, y + h / 2, text, ha="center", va="center", fontsize=size, color="#111111", alpha=alpha, zorder=5, linespacing=1.35)


def matrix_icon(axis: Axes, x: float, y: float, size: float, colour: str, alpha: float) -> None:
    """A matrix of similarities, its diagonal grey."""
    shades = [[0, .9, .3, .5], [.9, 0, .2, .7], [.3, .2, 0, .4], [.5, .7, .4, 0]]
    for i, row in enumerate(shades):
        for j, shade in enumerate(row):
            axis.add_patch(Rectangle((x + j * size / 4, y + (3 - i) * size / 4), size / 4, size / 4, linewidth=0.6, edgecolor="white",
                                     facecolor="#bbbbbb" if i == j else colour, alpha=alpha * (1 if i == j else shade), zorder=4))


def haar_icon(axis: Axes, x: float, y: float, size: float, colour: str, alpha: float) -> None:
    """Four half-size bands, the three of the details filled."""
    for j, i in ((0, 1), (1, 1), (0, 0), (1, 0)):
        axis.add_patch(Rectangle((x + j * size / 2, y + i * size / 2), size / 2, size / 2, linewidth=1.4, edgecolor=colour, zorder=4,
                                 facecolor="none" if (j, i) == (0, 1) else (colour, 0.6 * alpha), alpha=None if alpha == 1 else alpha))


def net_icon(axis: Axes, x: float, y: float, size: float, colour: str, alpha: float) -> None:
    """The two halves of a U-Net: narrower, then wider."""
    for corners in ([(0, 0), (0, 1), (.44, .72), (.44, .28)], [(1, 0), (1, 1), (.56, .72), (.56, .28)]):
        axis.add_patch(Polygon([(x + a * size, y + b * size) for a, b in corners], facecolor=colour, alpha=0.75 * alpha, zorder=4))


ICONS = {"matrix": matrix_icon, "haar": haar_icon, "net": net_icon}


def way(start: str, end: str, how: str) -> list[tuple[float, float]]:
    """The points of an arrow between two boxes."""
    (ax, ay, aw, ah, *_), (bx, by, bw, bh, *_) = BOXES[start], BOXES[end]
    if how == "corner":                                              # to the right, then down on its top
        return [(ax + aw, ay + ah / 2), (bx + bw / 2, ay + ah / 2), (bx + bw / 2, by + bh + 0.05)]
    if how == "below":                                               # out of the bottom, along, and in from the left
        low = {"x_0": -0.75, "ada": 0.5}[start]
        high = by + (0.35 if start == "x_0" else bh / 2)
        return [(ax + aw / 2, ay), (ax + aw / 2, low), (10.95, low), (10.95, high), (bx - 0.05, high)] if start == "x_0" else \
            [(ax + aw / 2, ay), (ax + aw / 2, high), (bx - 0.05, high)]
    aim = {("guess_ada", "rows"): 0.4, ("guess_sou", "rows"): 1.0, ("guess_ada", "rows_hf"): 0.5, ("guess_sou", "rows_hf"): 1.0,
           ("guess_ada", "detail"): 0.9}.get((start, end), bh / 2)
    if end == "sum":
        aim = {"L_img": 1.5, "L_hf": 1.05, "L_hfmse": 0.65, "L_simple": 0.2}[start]
    leave = {("x_t", "sou"): 1.1, ("x_t", "ada"): 0.4}.get((start, end), ah / 2)
    return [(ax + aw, ay + leave), (bx - 0.05, by + aim)]


def method(lit: tuple[str, ...] = ()) -> Figure:
    """The whole method: two models, one x_t, four losses. lit: the parts (PARTS) that stand out, the others are dim; none: all.

    Raises UserError for a part that is not there.
    """
    lit = {lit} if isinstance(lit, str) else set(lit)
    if unknown := lit - PARTS.keys():
        raise UserError(f"no part of the method is called {', '.join(sorted(unknown))}: use {', '.join(PARTS)}")
    figure, axis = canvas(20.0, 8.4, -0.15, -0.95, 0.76)
    used = {name: not lit or bool(lit & one[-1]) for name, one in BOXES.items()}
    for start, end, word in ARROWS:
        both = used[start] and used[end] and lights(start, end, lit)
        colour = BOXES[end][5] if end.startswith("L_") else BOXES[start][5] if start.startswith("L_") else "#333333"
        points = way(start, end, word)
        arrow(axis, points, colour, 1.0 if both else DIM, 2.6 if both and lit else 2.0)
        if word and word not in ("corner", "below"):
            x, y = (0.62 * a + 0.38 * b for a, b in zip(*points))
            axis.text(x, y + 0.12, word, ha="center", va="bottom", fontsize=TEXT, alpha=1.0 if both else DIM)
    for name, (*place, text, colour, icon, _) in BOXES.items():
        box(axis, tuple(place), text, colour, 1.0 if used[name] else DIM, icon, LARGE if name.startswith("L_") else TEXT)
    return figure


def lights(start: str, end: str, lit: set[str]) -> bool:
    """Whether an arrow between two lit boxes belongs to a lit part: x_0 reaches the details for L_hfmse alone, and so on."""
    only = {("x_0", "detail"): {"hfmse"}, ("ada", "answer"): {"simple"}, ("guess_ada", "detail"): {"hfmse"},
            ("x_t", "sou"): {"source"} | PAIRS,
            ("x_t", "ada"): {"simple", "guess", "hfmse"} | PAIRS}
    return not lit or bool(only.get((start, end), lit) & lit)


def unet(resolution: int = 64, channels: tuple[int, ...] = (16, 32, 64, 128), answer: str = "$v$") -> Figure:
    """A U-Net's shape: levels down and up, each with its pixels and channels, the same level joined across. Default: the source's."""
    n, wide, step = len(channels), 0.62, 1.75
    right = 2 * n * step + 1.2
    figure, axis = canvas(right + 4.6, 6.2, -2.1, -1.5)
    places = []
    for side in (0, 1):
        for level, many in enumerate(channels):
            tall = 3.8 * 0.68 ** level
            x = level * step if side == 0 else right - wide - level * step
            places.append((x, 1.9 - tall / 2, wide, tall))
            axis.add_patch(Rectangle((x, 1.9 - tall / 2), wide, tall, facecolor=(BLUE, RED)[side], alpha=0.55 + 0.1 * level, zorder=3))
            axis.text(x + wide / 2, 1.9 - tall / 2 - 0.12, f"{resolution >> level}²\n×{many}", ha="center", va="top", fontsize=SMALL)
    for level in range(n):
        x, y, _, tall = places[level]
        over = places[n + level][0]
        height = y + tall - 0.18
        arrow(axis, [(x + wide, height), (over - 0.03, height)], GREY, 0.9, 1.6)
        if level < n - 1:
            arrow(axis, [(x + wide, 1.9), (places[level + 1][0] - 0.03, 1.9)], BLUE)
            arrow(axis, [(places[n + level + 1][0] + wide, 1.9), (over - 0.03, 1.9)], RED)
    arrow(axis, [(places[n - 1][0] + wide, 1.9), (places[2 * n - 1][0] - 0.03, 1.9)], "#333333")
    axis.text(right / 2, 1.62, "attention", ha="center", va="top", fontsize=SMALL)
    axis.text(right / 2, 4.05, "skips: fine detail goes straight across", ha="center", va="bottom", fontsize=TEXT, color=GREY)
    axis.text(right / 2, -0.62, "the step $t$ reaches every level", ha="center", va="top", fontsize=TEXT)
    for x, text in ((-1.25, "$x_t$"), (right + 1.25, answer)):
        axis.text(x, 1.9, text, ha="center", va="center", fontsize=LARGE + 6)
    arrow(axis, [(-0.75, 1.9), (-0.05, 1.9)])
    arrow(axis, [(right + 0.05, 1.9), (right + 0.75, 1.9)])
    return figure


BANDS = {"LL": ("a + b + c + d", "what a smaller picture shows", "++++"), "LH": ("−a + b − c + d", "vertical edges", "-+-+"),
         "HL": ("−a − b + c + d", "horizontal edges", "--++"), "HH": ("a − b − c + d", "diagonals", "+--+")}


def haar_block() -> Figure:
    """One 2×2 block of pixels and its four Haar coefficients: signs, formula (5.1), and what each answers to."""
    figure, axis = canvas(17.2, 7.0, -0.3, -0.6)
    for letter, (j, i) in zip("abcd", ((0, 1), (1, 1), (0, 0), (1, 0))):
        axis.add_patch(Rectangle((0.4 + 1.3 * j, 1.7 + 1.3 * i), 1.3, 1.3, facecolor="#eeeeee", edgecolor="#333333", linewidth=2))
        axis.text(1.05 + 1.3 * j, 2.35 + 1.3 * i, f"${letter}$", ha="center", va="center", fontsize=LARGE + 4)
    axis.text(1.7, 1.45, "a block of\nfour pixels", ha="center", va="top", fontsize=TEXT)
    for k, (name, (formula, meaning, signs)) in enumerate(BANDS.items()):
        y, colour = 4.85 - 1.6 * k, GREY if k == 0 else COLOURS[k]
        arrow(axis, [(3.15, 3.0), (4.75, y + 0.6)], colour)
        for sign, (j, i) in zip(signs, ((0, 1), (1, 1), (0, 0), (1, 0))):
            axis.add_patch(Rectangle((4.9 + 0.6 * j, y + 0.6 * i), 0.6, 0.6, edgecolor="white", linewidth=1.5,
                                     facecolor="#c0504d" if sign == "+" else "#4f81bd"))
            axis.text(5.2 + 0.6 * j, y + 0.3 + 0.6 * i, sign.replace("-", "−"), ha="center", va="center", fontsize=TEXT, color="white")
        axis.text(6.5, y + 0.6, name, ha="left", va="center", fontsize=LARGE, fontweight="bold", color=darker(colour))
        axis.text(7.6, y + 0.6, f"({formula}) / 2", ha="left", va="center", fontsize=TEXT + 1)
        axis.text(11.45, y + 0.6, meaning, ha="left", va="center", fontsize=TEXT + 1)
    axis.plot([15.6, 15.85, 15.85, 15.6], [4.45, 4.45, 0.05, 0.05], color="#333333", linewidth=2)
    axis.text(16.0, 2.25, "hf:\ntheir\nsum", ha="left", va="center", fontsize=TEXT)
    return figure
