"""What the process does in which a hand-in runs: try each function, adapt with them, score; a line of JSON a finding.

``python -m dslib.checks.judge FILE REPORT SETTINGS``: settings are JSON. Once the course's own work is done, the reader's Python may
neither connect, nor start programs, nor open files to write.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from .. import data, models, sample, train
from ..base.errors import first_line
from ..base.files import as_json
from ..measure.score import score_all
from . import whole
from .exercises import CHAPTERS, WHOLE
from .limits import OutOfTime, limited
from .student_file import loaded, tried

REFUSED = ("socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "os.rmdir", "shutil.",
           "urllib.", "ftplib.", "http.")
GRADED = ("00", "01", "02", "03", "04", "05", "06")       # 02b is about points


class Refused(RuntimeError):
    """The reader's code wanted out."""


watching = [False]


def watch(event: str, arguments: tuple) -> None:
    """Python's audit hook: nothing leaves while a reader's code runs."""
    if watching[0] and (event.startswith(REFUSED) or event == "open" and any(mode in str(arguments[1]) for mode in "wax+")):
        raise Refused(f"it wants {event}: a function works with its arguments alone")


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """A reader's code runs in the body; what it prints goes nowhere."""
    watching[0] = True
    try:
        with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
            yield
    finally:
        watching[0] = False


def judge(file: Path, tell, settings: dict) -> None:
    """Find out all about a hand-in and tell it, piece by piece: tell(stage=…) before what may not end."""
    source = models.load_source(settings["source"])
    size = source.unet.config.sample_size
    images = data.load_domain(settings["target"], "ten", resolution=size).images
    sys.addaudithook(watch)
    tell(stage="reading the file")
    with watched():
        functions, problem = loaded(file.read_text("utf-8"), file.name)
    tell(problem=problem)
    if problem:
        return
    for name, chapter in [(name, number) for number in GRADED for name in CHAPTERS[number]]:
        fn = functions.get(name)
        if fn is None and name not in WHOLE:
            tell(name=name, chapter=chapter, missing=True)
            continue
        tell(stage=f"checking {name}")
        with watched():
            problem = "it is missing" if fn is None else tried(name, fn)
        tell(name=name, chapter=chapter, problem=problem)
    if all(callable(functions.get(name)) for name in ("train_loop", "terms_of", "total_loss")):
        compare(functions, source, images, tell, settings)


def compare(functions: dict, source, images, tell, settings: dict) -> None:
    """Adapt with the reader's functions and with the library's, and score both."""
    config = train.TrainConfig(max_train_steps=settings["max_train_steps"], seed=settings["seed"])
    tell(stage="adapting with dslib's functions")
    theirs = whole.by_library(source, images, config)
    tell(stage="adapting with yours")
    try:
        with watched(), limited(settings["seconds"]):
            mine = whole.by_reader(functions, source, images, config)
    except OutOfTime:
        tell(problem=f"adapting does not end: stopped after {settings['seconds']:.0f} s")
        return
    except Exception as error:
        tell(problem=f"adapting raised {type(error).__name__}: {first_line(error)}")
        return
    tell(apart=whole.apart(mine, theirs, source.unet), steps=config.max_train_steps)
    noise = sample.start_noise(settings["num_images"], source.unet.config.sample_size, seed=1)
    drawn = {name: sample.sample(unet, source.scheduler, noise, settings["num_inference_steps"], "dpmsolver")
             for name, unet in {"source": source.unet, "yours": mine, "dslib": theirs}.items()}
    tell(scores=[vars(score) for score in score_all(drawn, images, settings["target"])])


def main(file: str, report: str, settings: str) -> None:
    with open(report, "a", encoding="utf-8") as out:
        def tell(**found):
            was, watching[0] = watching[0], False
            print(as_json(found, None), file=out, flush=True)
            watching[0] = was
        judge(Path(file), tell, json.loads(settings))


if __name__ == "__main__":
    main(*sys.argv[1:])
