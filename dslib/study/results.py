"""The two tables of results: every domain by several seeds, each run a command of its own (``make results``, ``make results-t2i``).

``python -m dslib.study results`` adapts the source to five domains, naively and by DomainStudio; ``results-t2i`` teaches two styles to the
text-to-image source. A finished run leaves FOLDER/TARGET-SEED.json and is not repeated; nor are the seeds that --earlier counts, whose
files are lost. What follows ``--`` goes to ``dslib adapt`` or ``dslib adapt-t2i``.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from .. import data
from ..base import errors
from ..base.files import data_dir
from . import grid, tables

WORDS = {"train_batch_size": 5, "num_prior_images": 100, "num_requests": 100, "num_inference_steps": 12}

#: study → the command, its options, and what the study's own options are by default
STUDIES = {
    "results": ("adapt", [], {"seeds": [0, 1, 2, 3, 4], "targets": list(data.TARGETS), "folder": "unconditional", "table": "table.csv",
                              "earlier": "earlier.csv"}),
    "results-t2i": ("adapt-t2i", ["--compare", *(word for name, value in WORDS.items() for word in (f"--{name}", str(value)))],
                    {"seeds": [0, 1, 2], "targets": ["portraits", "sketches"], "folder": "text_to_image", "table": "text_to_image.csv"}),
}
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


def grid_of(study: str, folder: Path, targets: list[str], seeds: list[int], earlier: str | None = None) -> list[grid.Run]:
    """The runs of a table, all targets of a seed before the next seed."""
    def settings(target: str) -> dict:
        return {"target": target} | ({"max_train_steps": STEPS.get(target, USUAL_STEPS)} if study == "results" else {})
    return [grid.Run(folder / f"{target}-{seed}.json", settings(target), seed) for seed in seeds for target in targets
            if not is_counted(earlier, target, seed)]


def make(run: grid.Run, study: str, more: list[str]) -> bytes:
    """Adapt, and hand back what metrics.json says. Pictures and weights stay in runs/."""
    command, options, _ = STUDIES[study]
    output = Path("runs") / run.path.parent.name / run.path.stem
    given = [word for key, value in run.settings.items() for word in (f"--{key}", str(value))]
    dslib(command, *given, "--seed", str(run.seed), *options, "--overwrite", "--output_dir", str(output), *more)
    return (output / "metrics.json").read_bytes()


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The study's own options, and those behind ``--``."""
    own, more = (argv[:argv.index("--")], argv[argv.index("--") + 1:]) if "--" in argv else (argv, [])
    parser = argparse.ArgumentParser(prog="python -m dslib.study", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2 3 4, of results-t2i 0 1 2")
    parser.add_argument("--targets", nargs="+", choices=data.TARGETS, help="default: all five, of results-t2i portraits and sketches")
    parser.add_argument("--folder", help="where finished runs are kept; default: a folder of the committed results")
    parser.add_argument("--earlier", help="a table whose seeds count as done, and are pooled with the runs; default: of\n"
                        "results the committed one, and '' means none")
    parser.add_argument("--table", help="the table to write; default: the committed one")
    args = parser.parse_args(own)
    results, defaults = data_dir() / "results", STUDIES[args.study][2]
    for name, default in defaults.items():
        if getattr(args, name) is None:
            setattr(args, name, str(results / default) if isinstance(default, str) else default)
    return args, more


def main(argv: list[str]) -> int:
    """Make the runs that are missing, then the table."""
    args, more = parse(argv)
    folder = Path(args.folder)

    def make_table() -> None:
        grid.work(grid_of(args.study, folder, args.targets, args.seeds, args.earlier), lambda run: make(run, args.study, more))
        pool = ["--pool", args.earlier] if args.earlier else []
        dslib("table", *map(str, sorted(folder.glob("*.json"))), *pool, "--output", args.table, "--overwrite")

    try:
        return errors.run(make_table, f"dslib.study.{args.study}", "; the runs that are complete are kept")
    except Failed as failed:
        return failed.args[0]
