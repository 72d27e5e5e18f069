"""Drive a training run from the command line: progress, history, log, and signals that save first."""

import contextlib
import csv
import io
import time
from pathlib import Path

from ..base.device import main_process
from ..base.files import write_atomic
from ..base.interrupts import answered
from . import tracking


def watch(stream, config, label: str, log: Path | None = None, images_a_step: int = 0, logged: tuple[str, ...] = (),
          report_to: str | None = None):
    """Drive a training generator: progress bar, history, optional CSV log; Ctrl-C, SIGTERM and a closed terminal save first, at once.

    logged: terms that have a column of their own in the log, besides the first. report_to: trackers, as :mod:`dslib.cli.tracking` reads
    them. Returns (last Step or None, history: term → values).
    """
    from tqdm.auto import tqdm

    from ..base import checkpoint
    history: dict[str, list] = {"step": []}
    quiet = {} if main_process() else {"disable": True}
    record, began, bar = None, time.time(), None

    def stop():
        if record is None:
            raise KeyboardInterrupt(" before the first step was done: there is nothing to save")
        if main_process():
            checkpoint.save_checkpoint(config, record)
        raise SystemExit(f"stopped at step {record.step}, saved {config.output_dir}/checkpoint-{record.step}: the same "
                         "command with --resume_from_checkpoint latest (and without --overwrite) goes on from there")

    with answered(stop), contextlib.ExitStack() as last:
        for record in stream:
            if bar is None:
                bar = tqdm(total=config.max_train_steps, initial=record.step - 1, desc=label, unit="step", **quiet)
                last.callback(bar.close)
                began -= trim_log(log, record.step) if log is not None and main_process() else 0.0
            if not record.terms:                          # a finished run, resumed
                break
            history["step"].append(record.step)
            for name, value in record.terms.items():
                history.setdefault(name, []).append(value)
            bar.update()
            if record.step % 10 == 0:
                bar.set_postfix({name: f"{float(values[-1]):.3g}" for name, values in history.items() if name != "step"},
                                refresh=False)
            if report_to:
                tracking.log(report_to, label, config, record, history)
            if log is not None and main_process() and record.step % 50 == 0:
                append_log(log, record, history, images_a_step, time.time() - began, logged)
    return record, {name: [float(v) for v in values] for name, values in history.items()}


def trim_log(path: Path, step: int) -> float:
    """Drop the lines that a resumed run will write again; returns the seconds of training before ``step``."""
    if not path.exists():
        return 0.0
    with open(path, newline="", encoding="utf-8") as file:
        kept = [row for row in csv.reader(file) if not row[0].isdigit() or int(row[0]) < step]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(kept)
    write_atomic(path, text.getvalue().encode())
    return float(kept[-1][4]) if len(kept) > 1 else 0.0


def append_log(path: Path, record, history: dict[str, list], images_a_step: int, seconds: float, logged: tuple[str, ...] = ()) -> None:
    """One line a 50 steps: step, images seen, mean of the first loss term over the 50, learning rate, seconds since the start; and the
    means of the terms ``logged``."""
    def mean(term: str) -> str:
        recent = [float(v) for v in history[term][-50:]]
        return f"{sum(recent) / len(recent):.6f}"

    new, term = not path.exists(), next(iter(record.terms))
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "images", f"loss_{term}", "learning_rate", "seconds", *logged])
        writer.writerow([record.step, record.step * images_a_step, mean(term), f"{record.lr:.3e}", f"{seconds:.0f}", *map(mean, logged)])
