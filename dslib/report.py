"""Score samples against the ten images and real held-out ones; write a page a person would look at (chapter 07)."""

import base64
import csv
import html
import json
import os
import statistics
import sys
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from . import data, metrics, plots
from .env import UserError


class Score(NamedTuple):
    """One row of the results table."""
    name: str
    intra_lpips: float | None
    intra_std: float | None
    nearest_lpips: float
    fd: float | None
    domain_hit: float | None


COLUMNS = {
    "name": "images", "intra_lpips": "Intra-LPIPS", "nearest_lpips": "nearest-LPIPS", "fd": "FD", "domain_hit": "domain hit",
}
EXPLAIN = ("A row of real images, where there is one, is the goal: images of the domain that no model has seen. "
           "<b>Intra-LPIPS</b>: diversity around the training images (± over the groups). <b>nearest-LPIPS</b>: distance to the "
           "nearest training image; far below the real row is copying. <b>FD</b>: Fréchet distance of pooled features to other "
           "real images of the domain, lower is closer. <b>domain hit</b>: share that a linear probe takes for the domain "
           "rather than for the source.")


def score(name: str, images: Tensor, targets: Tensor, reference: Tensor | None = None, probe=None,
          backbone: str = "st-alex") -> Score:
    """Score images (N,3,R,R) against the training images (K,3,R,R) and, if there are any, real ones (M,3,R,R)."""
    try:
        intra = metrics.intra_lpips(images, targets, backbone)
    except UserError as error:
        print(f"{name}: no Intra-LPIPS, {error}", file=sys.stderr)
        intra = metrics.IntraLPIPS(None, None, [], [])
    nearest = float(metrics.nearest_lpips(images, targets, backbone).mean())
    pooled = metrics.pooled_features(images, backbone) if reference is not None else None
    fd = metrics.frechet_distance(pooled, metrics.pooled_features(reference, backbone)) if reference is not None else None
    return Score(name, intra.mean, intra.std, nearest, fd, None if probe is None else float(probe(images).float().mean()))


def score_all(samples: dict[str, Tensor], targets: Tensor, domain: str | None, backbone: str = "st-alex") -> list[Score]:
    """Score several sets of samples; with a drawn domain, real held-out images come first and the probe joins in."""
    resolution, n = targets.shape[-1], max(len(s) for s in samples.values())
    if domain is None:
        return [score(name, images, targets, backbone=backbone) for name, images in samples.items()]
    real = data.load_domain(domain, "test", n + 300, resolution).images
    probe = metrics.domain_probe(domain, resolution, backbone)
    samples = {"real, held out": real[:n]} | samples
    return [score(name, images, targets, real[n:], probe, backbone) for name, images in samples.items()]


def cell(row: Score, column: str) -> str:
    """One entry of the table as text."""
    value = getattr(row, column)
    if value is None:
        return "–"
    if column == "intra_lpips":
        return f"{value:.3f} ± {row.intra_std:.3f}"
    return value if column == "name" else f"{value:.0%}" if column == "domain_hit" else f"{value:.{4 if column == 'fd' else 3}f}"


def text_table(scores: list[Score]) -> str:
    """The results table for a terminal or a README (Markdown)."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|" + "---|" * len(COLUMNS)]
    return "\n".join(lines + ["| " + " | ".join(cell(s, c) for c in COLUMNS) + " |" for s in scores])


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, making its folder if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def write_metrics(path: Path, scores: list[Score], facts: dict) -> None:
    """``metrics.json``: what was measured, on which backbone, and the settings of the run."""
    content = facts | {"scores": [s._asdict() for s in scores]}
    write_atomic(path, json.dumps(content, indent=1, default=str).encode())


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


def picture(png: bytes, alt: str) -> str:
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def table(scores: list[Score]) -> str:
    """The results table as HTML."""
    head = "".join(f"<th>{c}</th>" for c in COLUMNS.values())
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell(s, c))}</td>" for c in COLUMNS) + "</tr>" for s in scores)
    return f"<table><tr>{head}</tr>{body}</table>"


def page(title: str, lead: str, sections: list[tuple[str, str]]) -> bytes:
    """A self-contained HTML page: no script, no network, pictures inside."""
    body = "".join(f"<h2>{html.escape(heading)}</h2>{content}" for heading, content in sections)
    return (f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
            f"<title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>"
            f"<p class='soft'>{html.escape(lead)}</p>{body}</html>").encode()


def write_report(folder: Path, title: str, lead: str, targets: Tensor, samples: dict[str, Tensor], scores: list[Score],
                 histories: dict, facts: dict) -> Path:
    """Write samples.png, losses.png, metrics.json and report.html into folder; returns the page's path."""
    columns = min(10, min(len(s) for s in samples.values()))
    compared = plots.to_png(plots.rows({"training images": targets} | samples, columns), 150)
    curves = plots.to_png(plots.losses(histories), 110)
    write_atomic(folder / "samples.png", compared)
    write_atomic(folder / "losses.png", curves)
    write_metrics(folder / "metrics.json", scores, facts)
    sections = [("Same noise, different models", picture(compared, "One row a model; each column starts from the same noise.")
                 + "<p>Each column starts from the same noise. Does a row redraw the training images, or do new people appear?</p>"),
                ("Numbers", table(scores) + f"<p class='soft'>{EXPLAIN} Backbone {facts['backbone']}, "
                 f"{facts['resolution']}×{facts['resolution']} pixels, {facts['num_images']} samples, seed {facts['seed']}.</p>")]
    sections += [(name, picture(plots.to_png(plots.grid(images[:40], 10), 120), f"Grid of {name} samples"))
                 for name, images in samples.items()]
    sections += [("Loss terms", picture(curves, "Every loss term against the training step, log scale.")),
                 ("Settings", f"<pre>{html.escape(json.dumps(facts, indent=1, default=str))}</pre>")]
    write_atomic(folder / "report.html", page(title, lead, sections))
    return folder / "report.html"


PLACES = ("seed", "output_dir", "resume_from_checkpoint", "checkpointing_steps", "checkpoints_total_limit")


COLLATED = {"intra_lpips": "Intra-LPIPS", "nearest_lpips": "nearest-LPIPS", "fd": "FD", "domain_hit": "domain hit", "obeyed": "obeyed"}


def collate(paths: list[Path]) -> list[dict]:
    """Many runs' metrics.json → one tidy row a (target, images, steps): mean and standard deviation over the seeds.

    Only runs that differ in nothing but the seed share a row. Runs of ``adapt-t2i`` bring a column ``obeyed`` along: the share of
    pictures that show what was asked, mean of the attributes.
    """
    groups: dict[tuple, dict[int, dict]] = {}
    for path in paths:
        try:
            run = json.loads(Path(path).read_text("utf-8"))
            where = (run["backbone"], run["resolution"], run["num_images"], run["scheduler"], run["num_inference_steps"])
            settings = {k: v for k, v in run["config"].items() if k not in PLACES} | {"source": run.get("source", "shipped")}
            settings = json.dumps(settings, sort_keys=True)
            steps = run["config"].get("max_train_steps")
            keys = [(run["target"], row["name"], steps, *where, settings) for row in run["scores"]]
            asked = {name: statistics.mean(one["share"] for one in said.values()) for name, said in run.get("obeyed", {}).items() if said}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{path} is no metrics.json of dslib adapt") from None
        for key, row in zip(keys, run["scores"]):
            row = row | ({"obeyed": asked.get(row["name"])} if "obeyed" in run else {})
            if groups.setdefault(key, {}).setdefault(run["seed"], row) is not row:
                raise UserError(f"{path}: seed {run['seed']} of {run['target']} is there already: give each run once")
    table = []
    for (target, name, steps, backbone, resolution, n, scheduler, inference_steps, _), seeds in groups.items():
        found = list(seeds.values())
        entry = {"target": target, "images": name, "steps": steps, "seeds": len(found), "which": which(seeds)}
        for column in COLLATED:
            if column == "obeyed" and "obeyed" not in found[0]:
                continue
            values = [row[column] for row in found if row[column] is not None]
            entry[column] = round(statistics.mean(values), 4) if values else None
            differ = len(set(values)) > 1                    # real images are the same for every seed: no spread to report
            entry[f"{column}_std"] = round(statistics.stdev(values), 4) if differ else None
        table.append(entry | {"backbone": backbone, "resolution": resolution, "num_images": n, "scheduler": scheduler,
                              "num_inference_steps": inference_steps})
    return table


def which(seeds) -> str:
    """Seeds as a word that no reader of CSV takes for a number: "#0 #1 #4"."""
    return " ".join(f"#{seed}" for seed in sorted(seeds))


def pooled(table: list[dict], earlier: list[dict]) -> list[dict]:
    """Rows of two tables (:func:`collate`, :func:`load_table`) that share their settings as if all their runs had been collated together.

    For runs whose metrics.json is not at hand. Means and deviations combine exactly, but for what rounding took. A table does not hold
    the weights λ: that they are the same is up to the caller. Raises UserError if both know a seed, or if ``earlier`` names none.
    """
    if not all({"which", *SETTINGS} <= row.keys() for row in earlier):
        raise UserError("the table to pool does not say which seeds and settings it holds: make it again with this version of dslib table")
    known = {tuple(row[key] for key in SETTINGS): row for row in earlier}
    both = [pool_rows(known.pop(key), row) if (key := tuple(row[k] for k in SETTINGS)) in known else row for row in table]
    return sorted([*both, *known.values()], key=lambda row: (row["target"], row["steps"] or 0))


def pool_rows(a: dict, b: dict) -> dict:
    """Two rows of one setting → one: n, mean and standard deviation of all their runs."""
    if twice := set(a["which"].split()) & set(b["which"].split()):
        raise UserError(f"{a['target']}, {a['images']}: seed {sorted(twice)[0][1:]} is in both tables: give each run once")
    m, n = a["seeds"], b["seeds"]
    row = a | {"seeds": m + n, "which": which(int(seed[1:]) for seed in (a["which"] + " " + b["which"]).split())}
    for column in COLLATED:
        x, y = a.get(column), b.get(column)
        if x is None or y is None:
            continue
        squares = sum((k - 1) * (one.get(f"{column}_std") or 0) ** 2 for k, one in ((m, a), (n, b))) + (x - y) ** 2 * m * n / (m + n)
        spread = (squares / (m + n - 1)) ** 0.5
        row |= {column: round((m * x + n * y) / (m + n), 4), f"{column}_std": round(spread, 4) or None}
    return row


def load_table(path: str | Path) -> list[dict]:
    """A CSV that ``dslib table`` wrote: numbers as numbers, what is missing as None."""
    def value(text: str) -> object:
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                pass
        return text or None

    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = [{key: value(text) for key, text in row.items()} for row in csv.DictReader(file)]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; 'make results' makes the committed one") from None
    if not rows or not {"target", "images", "seeds"} <= set(rows[0]):
        raise UserError(f"{path} is no table of dslib table")
    return rows


SETTINGS = ("target", "images", "steps", "backbone", "resolution", "num_images", "scheduler", "num_inference_steps")
HANDED_IN = ("real, held out", "source", "finetune", "domainstudio")


def check_table(rows: list[dict], runs: list[dict], least_seeds: int = 3) -> list[str]:
    """What is wrong with a table that was handed in: one line a finding, none if it can be graded.

    rows: the table (:func:`load_table`); runs: what its metrics.json say (:func:`collate`). Every domain needs the four
    rows of a comparison and ``least_seeds`` seeds, every number must be one that the runs give.
    """
    told, known = ({tuple(row.get(key) for key in SETTINGS): row for row in table} for table in (rows, runs))
    found = [f"{row['target']}, {row['images']}: in the runs, but not in the table" for key, row in known.items() if key not in told]
    if len(told) < len(rows) or len(known) < len(runs):
        found.append("a row is there twice: its runs differ in a setting, give each setting a table of its own")
    for target in dict.fromkeys(row["target"] for row in rows):
        there = {row["images"] for row in rows if row["target"] == target}
        found += [f"{target}: no row {name!r}; use a drawn domain and --compare_finetune" for name in HANDED_IN if name not in there]
    for key, row in told.items():
        name, ours = f"{row['target']}, {row['images']}", known.get(key, {})
        if not ours:
            found.append(f"{name}: in the table, but not in the runs")
        elif ours["seeds"] < least_seeds:
            found.append(f"{name}: seeds is {ours['seeds']}, at least {least_seeds} are needed")
        found += [f"{name}: {column} is {row.get(column)}, the runs say {value}" for column, value in ours.items()
                  if row.get(column) != value]
        found += [f"{name}: {column} is {row[column]}, which is no score" for column, most in
                  {"intra_lpips": 9, "nearest_lpips": 9, "fd": float("inf"), "domain_hit": 1}.items()
                  if row.get(column) is not None and not (isinstance(row[column], (int, float)) and 0 <= row[column] <= most)]
    return found


def collated_text(table: list[dict]) -> str:
    """The collated table as Markdown: mean ± standard deviation over seeds."""
    columns = {name: title for name, title in COLLATED.items() if any(name in row for row in table)}
    lines = ["| domain | images | steps | seeds | " + " | ".join(columns.values()) + " |", "|" + "---|" * (4 + len(columns))]
    for row in table:
        cells = []
        for column in columns:
            value, spread, digits = row.get(column), row.get(f"{column}_std"), {"domain_hit": 2, "fd": 4, "obeyed": 2}.get(column, 3)
            cells.append("–" if value is None else f"{value:.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}"))
        lines.append(f"| {row['target']} | {row['images']} | {row['steps'] or '–'} | {row['seeds']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
