"""``--report_to``: the curves of a training, and what it draws at the end, in TensorBoard or another tracker that accelerate knows."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..base.device import main_process, new_accelerator
from ..base.errors import UserError, first_line

if TYPE_CHECKING:                # whoever asks for help does not wait for torch
    from torch import Tensor

EVERY = 10               # steps from one point of a curve to the next, which is their mean: a GPU need not wait for each
FOLDER = "logs"          # of a run: where trackers without a place of their own write, in a folder a method
UNTOLD = ("output_dir", "resume_from_checkpoint")      # settings that say nothing about the training


class Open:
    """The trackers of the training under way, kept for the pictures at its end: one training at a time."""
    accelerator = None
    training: tuple[str, str | None] | None = None


def add_tracking(parser) -> None:
    parser.add_argument("--report_to", help="send loss terms, learning rate and samples to tensorboard, wandb or another tracker that "
                        "accelerate knows, several between commas; all: those installed")


def wanted(report_to: str | None) -> list[str]:
    """The trackers that were asked for. Raises UserError for an unknown word, and for one whose package is missing."""
    if report_to in (None, "none"):
        return []
    from accelerate import tracking
    known, there = (list(map(str, names)) for names in (tracking.LOGGER_TYPE_TO_CLASS, tracking.get_available_trackers()))
    names = [word.strip() for word in report_to.split(",")]
    if names == ["all"]:
        if not there:
            raise UserError("--report_to all finds no tracker here: pip install tensorboard, for one")
        return there
    for word in names:
        if word not in known:
            raise UserError(f"--report_to is {report_to!r}: use one of {', '.join(known)}, several between commas, all or none")
        if word not in there:
            raise UserError(f"--report_to {word} needs the package {word}: pip install {word}")
    return list(dict.fromkeys(names))


def check(args) -> None:
    """Before the work: can what --report_to asks for be had?"""
    if not wanted(getattr(args, "report_to", None)):
        args.report_to = None


def begin(report_to: str, label: str, config, step: int) -> None:
    """Open the trackers for a training whose first step here is ``step``: what an earlier run said of this step and later ones goes."""
    if Open.training == (label, config.output_dir):
        return
    finish()
    names, folder = wanted(report_to), Path(config.output_dir or ".") / FOLDER
    settings = {name: value for name, value in asdict(config).items() if name not in UNTOLD and value is not None}
    try:
        accelerator = new_accelerator(config.mixed_precision, log_with=names, project_dir=str(folder))
        if main_process():
            folder.mkdir(parents=True, exist_ok=True)
            accelerator.init_trackers(label, settings if step == 1 else None, {"tensorboard": {"purge_step": step}})
    except Exception as error:                                 # every tracker has errors of its own
        raise UserError(f"--report_to {report_to} could not begin ({first_line(error)}): mend that, or leave the option out") from None
    Open.accelerator, Open.training = accelerator, (label, config.output_dir)


def log(report_to: str, label: str, config, record, history: dict[str, list]) -> None:
    """After a step: every tenth time, and at the end, the mean of each loss term since the last, and the learning rate."""
    begin(report_to, label, config, record.step)
    since = record.step % EVERY or EVERY
    if not main_process() or since < EVERY and record.step < config.max_train_steps:
        return
    recent = {name: values[-since:] for name, values in history.items() if name != "step"}
    means = {f"terms/{name}": sum(map(float, values)) / len(values) for name, values in recent.items()}
    Open.accelerator.log(means | {"loss": float(record.loss), "learning_rate": record.lr}, step=record.step)


def show(images: "Tensor", step: int) -> None:
    """Samples (N,C,R,R) in [-1,1] of the model that was trained last; nothing where no tracker is open or takes pictures."""
    from ..data import to_uint8
    pictures = to_uint8(images[:32]).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
    for tracker in getattr(Open.accelerator, "trackers", []):
        if hasattr(tracker, "log_images"):
            form = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"samples": pictures}, step=step, **form)


def finish() -> None:
    """Close what is open: whatever was said is written."""
    for tracker in getattr(Open.accelerator, "trackers", []):
        tracker.finish()
    Open.accelerator = Open.training = None
