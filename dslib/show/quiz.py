"""The questions at the end of a chapter: data/quizzes/NN_name.json, shown as HTML that needs no script and no network.

A file is {"questions": [five of them]}. A question has ``ask``; ``where``, the heading of the chapter that answers it; ``right``, how
many options hold; ``options`` with ``text``, ``why`` (why it holds, or why not) and ``right`` where it does; ``code`` or a ``sketch``
where there is something to look at. Formulas stand between dollar signs.
"""

import base64
import html
import json
import random
import re

from ..base.errors import UserError
from ..base.files import data_dir

NUMBERS = {1: "one answer holds", 2: "two answers hold", 3: "three answers hold"}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
INTRO = ("<p><strong>Five questions.</strong> Open an answer: it says at once whether it holds, and why. "
         "Wrong ones are worth opening too. Nothing is counted or stored.</p>")


def load(chapter: str) -> list[dict]:
    """The questions of a chapter named by its number, "02b", options in the order in which they are shown.

    The order is drawn once for all, from the chapter and the question's number; letters of a sketch stay in the alphabet's. Raises
    UserError for a chapter without questions.
    """
    found = sorted((data_dir() / "quizzes").glob(f"{chapter}_*.json"))
    if not found:
        known = sorted(path.name.split("_")[0] for path in (data_dir() / "quizzes").glob("*_*.json"))
        raise UserError(f"no questions for chapter {chapter!r} in data/quizzes: use one of {', '.join(known) or 'none'}")
    questions = json.loads(found[0].read_text("utf-8"))["questions"]
    for number, question in enumerate(questions, 1):
        random.Random(f"quiz {chapter} {number}").shuffle(question["options"])
        if "sketch" in question:
            question["options"].sort(key=lambda entry: entry["text"])
    return questions


def rich(text: str) -> str:
    """Text as HTML: `code` becomes code, *words* are stressed, $formulas$ stay as they are, for MathJax."""
    parts = re.split(r"(\$[^$]+\$|`[^`]+`)", text)
    for i, part in enumerate(parts):
        safe = html.escape(part, quote=False)
        if part.startswith("`"):
            safe = f"<code>{safe[1:-1]}</code>"
        elif not i % 2:
            safe = re.sub(r"\*([^*]+)\*", r"<em>\1</em>", safe)
        parts[i] = safe
    return "".join(parts)


def sketch(drawing: dict) -> str:
    """Lettered curves and points as a picture: {"lines": {letter: [[x, y], …]}, "marks": {letter: [x, y]}, "dashed": y,
    "band": [low, high], "x", "y", "alt"}; x and y of the unit square, y upward."""
    def at(x: float, y: float) -> str:
        return f"{40 + 300 * x:.0f},{165 - 150 * y:.0f}"

    def letter(name: str, x: float, y: float, colour: str) -> str:
        left, top = at(x, y).split(",")
        return f'<text x="{int(left) + 6}" y="{int(top) + 5}" fill="{colour}" font-weight="bold">{name}</text>'

    parts = ['<rect width="380" height="200" fill="white"/>']
    if "band" in drawing:
        low, high = drawing["band"]
        parts.append(f'<rect x="40" y="{165 - 150 * high:.0f}" width="300" height="{150 * (high - low):.0f}" fill="#ddd"/>')
    if "dashed" in drawing:
        y = f"{165 - 150 * drawing['dashed']:.0f}"
        parts.append(f'<path d="M40 {y}H340" stroke="black" stroke-dasharray="5 4"/>')
    parts.append('<path d="M40 15V165H340" fill="none" stroke="#444"/>')
    for colour, (name, points) in zip(COLOURS, drawing.get("lines", {}).items()):
        path = " ".join(at(*point) for point in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
        parts.append(letter(name, *points[-1], colour) if name.strip() else "")
    for name, point in drawing.get("marks", {}).items():
        left, top = at(*point).split(",")
        parts.append(f'<circle cx="{left}" cy="{top}" r="5" fill="black"/>' + letter(name, *point, "black"))
    parts.append(f'<text x="190" y="188" text-anchor="middle">{html.escape(drawing["x"])}</text>'
                 f'<text transform="rotate(-90)" x="-90" y="22" text-anchor="middle">{html.escape(drawing["y"])}</text>')
    svg = ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 380 200" width="380" height="200" font-family="sans-serif" '
           f'font-size="13">{"".join(parts)}</svg>')
    picture = base64.b64encode(svg.encode()).decode()
    return f'<p><img alt="{html.escape(drawing["alt"])}" src="data:image/svg+xml;base64,{picture}" width="380" height="200"></p>'


def option(entry: dict, where: str) -> str:
    """An answer that unfolds into what is to be said of it."""
    holds = entry.get("right", False)
    verdict, kind = ("✓ It holds.", "holds") if holds else ("✗ No.", "fails")
    place = f" <em>See “{rich(where)}”.</em>" if holds else ""
    return (f'<details class="{kind}"><summary>{rich(entry["text"])}</summary>'
            f'<p><strong>{verdict}</strong> {rich(entry["why"])}{place}</p></details>')


def as_html(questions: list[dict]) -> str:
    """All questions of a chapter, a field set each; one line, so that Markdown leaves it alone."""
    parts = [INTRO]
    for number, question in enumerate(questions, 1):
        parts.append(f'<fieldset data-right="{question["right"]}"><legend>{number}. {rich(question["ask"])} '
                     f'<small>({NUMBERS[question["right"]]})</small></legend>')
        if "code" in question:
            code = html.escape(question["code"], quote=False).replace("\n", "&#10;")
            parts.append(f"<pre><code>{code}</code></pre>")
        if "sketch" in question:
            parts.append(sketch(question["sketch"]))
        parts += [option(entry, question["where"]) for entry in question["options"]]
        parts.append("</fieldset>")
    return f'<section class="quiz" aria-label="Five questions">{"".join(parts)}</section>'


def output(chapter: str) -> dict[str, str]:
    """What the cell of a chapter shows, by MIME type: the same text at every run."""
    questions = load(chapter)
    asked = "\n".join(f"{number}. {question['ask']}" for number, question in enumerate(questions, 1))
    return {"text/html": as_html(questions), "text/plain": f"Five questions, with answers where HTML is shown:\n{asked}"}


def ask(chapter: str) -> None:
    """Show the five questions of a chapter, ``ask("02b")``."""
    from IPython.display import display
    display(output(chapter), raw=True)
