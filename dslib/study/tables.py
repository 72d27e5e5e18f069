"""Collate many runs: mean and spread over seeds, pooled with what a CSV remembers."""

import csv
import json
import math
import statistics
from pathlib import Path

from ..base.errors import UserError

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


def pooled_std(groups: list[list[float]]) -> float:
    """Spread of runs that differ in their seed alone, over several settings: squares about each group's own mean, pooled."""
    squares = sum((value - sum(group) / len(group))**2 for group in groups for value in group)
    return math.sqrt(squares / sum(len(group) - 1 for group in groups))
