"""Collate many runs: mean and spread over seeds, pooled with what a CSV remembers."""

import csv
import json
import math
import statistics
import sys
from dataclasses import fields
from pathlib import Path

from .. import train
from ..base.errors import UserError
from ..base.identity import PARTS
from ..measure.score import Kind, table_kinds

#: keys of a run's config that say where and how far it was kept, not what was trained
NOT_COMPARED = ("seed", "output_dir", "resume_from_checkpoint", "checkpointing_steps", "checkpointing_seconds", "checkpoints_total_limit")

#: keys that runs may hold and this version's ``TrainConfig`` need not have → the value with which they change nothing
WITHOUT_EFFECT = {"lora_rank": 0, "snr_gamma": None, "lambda_coarse": 0.0, "high_noise_weight": 1.0}

OBEYED = Kind("obeyed", 2, +1, None)       # of runs with words: share of pictures that show what was asked, mean of the attributes

SETTINGS = ("target", "images", "steps", "backbone", "resolution", "num_images", "scheduler", "num_inference_steps")


def columns() -> dict[str, Kind]:
    """The scores of a table of runs: column → kind."""
    return table_kinds() | {"obeyed": OBEYED}


def without_defaults(config: dict, path: Path, other_methods: dict[str, dict] | None = None) -> dict:
    """What of a run's settings differs from the defaults, so that a key that came later parts no runs from before and after it.

    other_methods: the defaults of methods with settings of their own, a GAN's. A key that this version does not know is named on stderr,
    and compared like the others.
    """
    defaults = (other_methods or {}).get(config.get("method")) or WITHOUT_EFFECT | {f.name: f.default for f in fields(train.TrainConfig)}
    if unknown := sorted(config.keys() - defaults.keys() - set(NOT_COMPARED)):
        print(f"{path}: this version knows no setting {', '.join(unknown)}; the run shares a row with runs of the same value",
              file=sys.stderr)
    return {key: value for key, value in config.items() if key not in NOT_COMPARED and (key not in defaults or defaults[key] != value)}


def read_run(path: Path, other_methods: dict[str, dict] | None = None) -> tuple[dict, list[tuple[tuple, dict]]]:
    """A run's metrics.json, and its rows, each with what it may share a row of the table by: SETTINGS in their order, then the rest."""
    try:
        run = json.loads(Path(path).read_text("utf-8"))
        steps = run["config"].get("max_train_steps")
        others = json.dumps(without_defaults(run["config"], path, other_methods) | {"source": run.get("source", "shipped")}, sort_keys=True)
        where = (run["backbone"], run["resolution"], run["num_images"], run["scheduler"], run["num_inference_steps"], others)
        shares = {name: statistics.mean(one["share"] for one in said.values()) for name, said in run.get("obeyed", {}).items() if said}
        obeyed = {row["name"]: {"obeyed": shares.get(row["name"])} if "obeyed" in run else {} for row in run["scores"]}
        return run, [((run["target"], row["name"], steps, *where), row | obeyed[row["name"]]) for row in run["scores"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is no metrics.json of dslib adapt") from None


def collate(paths: list[Path], other_methods: dict[str, dict] | None = None) -> list[dict]:
    """Many runs' metrics.json → one tidy row a (target, images, steps): mean and standard deviation over the seeds.

    Only runs that differ in nothing but the seed share a row. Runs of ``adapt-t2i`` bring a column ``obeyed`` along. A score that some
    runs have and others, made before it was added, have not is the mean of those that have it.
    """
    groups: dict[tuple, dict[int, dict]] = {}
    known: dict[tuple, dict[str, tuple[str, Path]]] = {}
    for path in paths:
        run, rows = read_run(path, other_methods)
        for key, row in rows:
            check_alike(known.setdefault(key, {}), run, path)
            if groups.setdefault(key, {}).setdefault(run["seed"], row) is not row:
                raise UserError(f"{path}: seed {run['seed']} of {run['target']} is there already: give each run once")
    return [table_row(key, seeds) for key, seeds in groups.items()]


def check_alike(known: dict[str, tuple[str, Path]], run: dict, path: Path) -> None:
    """Raise a UserError where a run was made of another source, or of other images or prompts, than one that it shares a row with.

    known: part of the identity → (fingerprint, whose it is), added to here. Runs from before there were fingerprints pass.
    """
    for part, print_of in (run.get("identity") or {}).items():
        former, whose = known.setdefault(part, (print_of, path))
        if former != print_of:
            raise UserError(f"{path}: {PARTS.get(part, part)} not those of {whose} (fingerprints {print_of} and {former}), though "
                            "everything else but the seed is alike: collate them in two tables")


def table_row(key: tuple, seeds: dict[int, dict]) -> dict:
    """One row of the table: {seed: scores} as means and standard deviations, between the settings they share."""
    shared = dict(zip(SETTINGS, key))
    entry = {name: shared.pop(name) for name in ("target", "images", "steps")} | {"seeds": len(seeds), "which": which(seeds)}
    for column in columns():
        if not any(column in row for row in seeds.values()):
            continue
        values = [row[column] for row in seeds.values() if row.get(column) is not None]
        entry[column] = round(statistics.mean(values), 4) if values else None
        differ = len(set(values)) > 1                    # real images are the same for every seed: no spread to report
        entry[f"{column}_std"] = round(statistics.stdev(values), 4) if differ else None
    return entry | shared


def which(seeds) -> str:
    """Seeds as a word that no reader of CSV takes for a number: "#0 #1 #4"."""
    return " ".join(f"#{seed}" for seed in sorted(seeds))


def pool(table: list[dict], earlier: list[dict]) -> list[dict]:
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
    for column in columns():
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


def collated_text(table: list[dict]) -> str:
    """The collated table as Markdown: mean ± standard deviation over seeds."""
    kinds = {column: kind for column, kind in columns().items() if any(column in row for row in table)}
    titles = " | ".join(kind.title for kind in kinds.values())
    lines = [f"| domain | images | steps | seeds | {titles} |", "|" + "---|" * (4 + len(kinds))]
    for row in table:
        cells = []
        for column, kind in kinds.items():
            value, spread = row.get(column), row.get(f"{column}_std")
            cells.append("–" if value is None else f"{value:.{kind.digits}f}" + ("" if spread is None else f" ± {spread:.{kind.digits}f}"))
        lines.append(f"| {row['target']} | {row['images']} | {row['steps'] or '–'} | {row['seeds']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def pooled_std(groups: list[list[float]]) -> float:
    """Spread of runs that differ in their seed alone, over several settings: squares about each group's own mean, pooled."""
    squares = sum((value - sum(group) / len(group))**2 for group in groups for value in group)
    return math.sqrt(squares / sum(len(group) - 1 for group in groups))
