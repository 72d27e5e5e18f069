"""The page that a run leaves behind: pictures, numbers and settings in one file without scripts."""

import base64
import html
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from ..base.files import as_json, write_atomic
from ..measure.score import Score, cell, explanation, headings, write_metrics
from . import plots

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --paper: #fdfdfb; --line: #c9c9c9; --soft: #666 }
@media (prefers-color-scheme: dark) { :root { --ink: #e9e9e6; --paper: #17181a; --line: #4a4a4a; --soft: #a6a6a6 } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2rem } .soft { color: var(--soft) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right }
td:first-child, th:first-child { text-align: left } img { max-width: 100%; border-radius: 6px }
pre { white-space: pre-wrap; font-size: .85rem }
"""


READ = "Each column starts from the same noise. Does a row redraw the training images, or do new people appear?"
READ_HERO = ("Each column starts from the same noise: the same person should appear in every row. Below a picture lies the training image "
             "nearest to it. A red frame, where there are held-out images: nearer than 95 % of them are, so probably copied.")


def picture(png: bytes, alt: str) -> str:
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def table(scores: list[Score]) -> str:
    """The results table as HTML."""
    columns = headings(scores)
    head = "".join(f"<th>{c}</th>" for c in columns.values())
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell(s, c))}</td>" for c in columns) + "</tr>" for s in scores)
    return f"<table><tr>{head}</tr>{body}</table>"


def page(title: str, lead: str, sections: list[tuple[str, str]]) -> bytes:
    """A self-contained HTML page: no script, no network, pictures inside."""
    body = "".join(f"<h2>{html.escape(heading)}</h2>{content}" for heading, content in sections)
    return (f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
            f"<title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>"
            f"<p class='soft'>{html.escape(lead)}</p>{body}</html>").encode("utf-8", "backslashreplace")


def write_report(folder: Path, title: str, lead: str, targets: Tensor, samples: dict[str, Tensor], scores: list[Score],
                 histories: dict, facts: dict, compared: Figure | None = None) -> Path:
    """Write samples.png, losses.png, metrics.json and report.html into folder; returns the page's path.

    compared: the first figure, such as that of :mod:`dslib.show.hero`; default: a row of samples a model.
    """
    columns = min(10, min(len(s) for s in samples.values()))
    sheet = plots.to_png(compared or plots.rows({"training images": targets} | samples, columns), 100)
    curves = plots.to_png(plots.losses(histories), 80)
    write_atomic(folder / "samples.png", sheet)
    write_atomic(folder / "losses.png", curves)
    write_metrics(folder / "metrics.json", scores, facts)
    sections = [("Same noise, different models", picture(sheet, "One row a model; each column starts from the same noise.")
                 + f"<p>{READ_HERO if compared else READ}</p>"),
                ("Numbers", table(scores) + f"<p class='soft'>{explanation()} Backbone {facts['backbone']}, "
                 f"{facts['resolution']}×{facts['resolution']} pixels, {facts['num_images']} samples, seed {facts['seed']}.</p>")]
    sections += [(name, picture(plots.to_png(plots.grid(images[:40], 10), 75), f"Grid of {name} samples"))
                 for name, images in samples.items()]
    about = {"Training images": "training_images", "Images of the person": "subject_images"}
    used = [f"<p>{title}: {html.escape(facts[key])}.</p>" for title, key in about.items() if facts.get(key)]
    sections += [("Images that were used", "".join(used))] * bool(used)
    sections += [("Loss terms", picture(curves, "Every loss term against the training step, log scale.")),
                 ("Settings", f"<pre>{html.escape(as_json(facts))}</pre>")]
    write_atomic(folder / "report.html", page(title, lead, sections))
    return folder / "report.html"
