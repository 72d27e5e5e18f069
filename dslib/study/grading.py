"""What is wrong with a table that was handed in."""

from ..measure.score import table_kinds
from .tables import SETTINGS

HANDED_IN = ("real, held out", "source", "finetune", "domainstudio")


def check_table(rows: list[dict], runs: list[dict], least_seeds: int = 3) -> list[str]:
    """What is wrong with a table that was handed in: one line a fault, none if it can be graded.

    rows: the table (:func:`load_table`); runs: what its metrics.json say (:func:`collate`). Every domain needs the four
    rows of a comparison and ``least_seeds`` seeds, every number must be one that the runs give.
    """
    told, known = ({tuple(row.get(key) for key in SETTINGS): row for row in table} for table in (rows, runs))
    faults = [f"{row['target']}, {row['images']}: in the runs, but not in the table" for key, row in known.items() if key not in told]
    if len(told) < len(rows) or len(known) < len(runs):
        faults.append("a row is there twice: its runs differ in a setting, give each setting a table of its own")
    for target in dict.fromkeys(row["target"] for row in rows):
        there = {row["images"] for row in rows if row["target"] == target}
        faults += [f"{target}: no row {name!r}; use a drawn domain and --compare_finetune" for name in HANDED_IN if name not in there]
    for key, row in told.items():
        name, ours = f"{row['target']}, {row['images']}", known.get(key, {})
        if not ours:
            faults.append(f"{name}: in the table, but not in the runs")
        elif ours["seeds"] < least_seeds:
            faults.append(f"{name}: seeds is {ours['seeds']}, at least {least_seeds} are needed")
        faults += [f"{name}: {column} is {row.get(column)}, the runs say {value}" for column, value in ours.items()
                   if row.get(column) != value]
        faults += [f"{name}: {column} is {row[column]}, which is no score" for column, kind in table_kinds().items()
                   if row.get(column) is not None and not (isinstance(row[column], (int, float)) and 0 <= row[column] <= kind.highest)]
    return faults
