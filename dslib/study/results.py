"""The table of the earlier source: five domains by several seeds, each run a command of its own (``make results``).

``python -m dslib.study results`` adapts the source to five domains, naively and by DomainStudio. A finished run leaves
FOLDER/TARGET-SEED.json and is not repeated; nor are the seeds that --earlier counts, whose files are lost. What follows ``--`` goes to
``dslib adapt``.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from .. import data
from ..base import errors
from ..base.files import data_dir
from . import grid, tables

STEPS = {"sunglasses": 600}        # naive fine-tuning copies by then; the other domains get
USUAL_STEPS = 300


class Failed(Exception):
    """A command came back with another code than 0; it has said why."""


def dslib(*arguments: str) -> None:
    """Run a ``dslib`` command in a process of its own, and let it end by itself on Ctrl-C: it saves first."""
    process = subprocess.Popen([sys.executable, "-m", "dslib", *arguments])
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        raise
    if code:
        raise Failed(code)


def is_counted(earlier: str | None, target: str, seed: int) -> bool:
    """Whether a table counts this seed of this target already."""
    rows = tables.load_table(earlier) if earlier and Path(earlier).is_file() else []
    return any(row["target"] == target and row["images"] == "finetune" and f"#{seed}" in row.get("which", "").split() for row in rows)


def grid_of(folder: Path, targets: list[str], seeds: list[int], earlier: str | None = None) -> list[grid.Run]:
    """The runs of the table, all targets of a seed before the next seed."""
    return [grid.Run(folder / f"{target}-{seed}.json", {"target": target, "max_train_steps": STEPS.get(target, USUAL_STEPS)}, seed)
            for seed in seeds for target in targets if not is_counted(earlier, target, seed)]


def make(run: grid.Run, more: list[str]) -> bytes:
    """Adapt, and hand back what metrics.json says. Pictures and weights stay in runs/."""
    output = Path("runs") / run.path.parent.name / run.path.stem
    given = [word for key, value in run.settings.items() for word in (f"--{key}", str(value))]
    dslib("adapt", *given, "--seed", str(run.seed), "--overwrite", "--output_dir", str(output), *more)
    return (output / "metrics.json").read_bytes()


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The study's own options, and those behind ``--``."""
    own, more = (argv[:argv.index("--")], argv[argv.index("--") + 1:]) if "--" in argv else (argv, [])
    results = data_dir() / "results"
    parser = argparse.ArgumentParser(prog="python -m dslib.study results", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 1 2 3 4")
    parser.add_argument("--targets", nargs="+", choices=data.TARGETS, default=list(data.TARGETS), help="default: all five")
    parser.add_argument("--folder", default=str(results / "unconditional"),
                        help="where finished runs are kept; default: the committed ones")
    parser.add_argument("--earlier", default=str(results / "earlier.csv"),
                        help="a table whose seeds count as done, and are pooled with the\nruns; default: the committed one; '' means none")
    parser.add_argument("--table", default=str(results / "table.csv"), help="the table to write; default: the committed one")
    return parser.parse_args(own), more


def main(argv: list[str] | None = None) -> int:
    """Make the runs that are missing, then the table."""
    args, more = parse(sys.argv[1:] if argv is None else argv)
    folder = Path(args.folder)

    def make_table() -> None:
        grid.work(grid_of(folder, args.targets, args.seeds, args.earlier), lambda run: make(run, more))
        pool = ["--pool", args.earlier] if args.earlier else []
        dslib("table", *map(str, sorted(folder.glob("*.json"))), *pool, "--output", args.table, "--overwrite")

    try:
        return errors.run(make_table, "dslib.study.results", "; the runs that are complete are kept")
    except Failed as failed:
        return failed.args[0]
