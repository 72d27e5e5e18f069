"""Explorers without a kernel: every setting of the sliders drawn beforehand, for the course's web pages.

``tools/build_notebooks.py --explorers NN_name`` runs a chapter with ``$DSLIB_EXPLORERS`` set to a folder; then :func:`record`
draws what :func:`dslib.show.widgets.explore` would draw, by the same function, and writes pictures and one JSON file there.
"""

import hashlib
import io
import itertools
import os
from pathlib import Path

from PIL import Image

from ..base.errors import UserError
from ..base.files import as_json, write_atomic
from . import plots

MOST = 160             # pictures an explorer may have
STOPS = 11             # of a slider with more values than that


def folder() -> Path | None:
    """Where to record, or None where nobody asked for it."""
    found = os.environ.get("DSLIB_EXPLORERS")
    return Path(found) if found else None


def few(controls: dict) -> bool:
    """Whether these controls have a countable set of settings: none of them a number with a point, at most three."""
    return len(controls) < 4 and not any(isinstance(control.value, float) and not hasattr(control, "options")
                                         for control in controls.values())


def stops(control) -> list:
    """The values of a control that are drawn: all options of a menu, of a slider at most STOPS, its start among them; of a field for
    a number its start alone."""
    if hasattr(control, "options"):
        return [entry[1] if isinstance(entry, tuple) else entry for entry in control.options]
    if not hasattr(control, "step") or not hasattr(control, "readout"):
        return [control.value]
    values = list(range(control.min, control.max + 1, control.step))
    if len(values) <= STOPS:
        return values
    evenly = {values[round(i * (len(values) - 1) / (STOPS - 1))] for i in range(STOPS)}
    nearest = min(evenly - {values[0], values[-1]}, key=lambda value: abs(value - control.value))
    return sorted(evenly - {nearest} | {control.value})


def as_webp(figure) -> bytes:
    """A figure as a small picture: the text stays sharp, noise need not."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(plots.to_png(figure, dpi=60))).convert("RGB").save(buffer, "webp", quality=78, method=6)
    return buffer.getvalue()


def frame(redraw, values: dict, target: Path) -> dict[str, str]:
    """One setting: {"file": picture, "alt": words}, or {"alt": why it is not possible}. Equal pictures are one file."""
    try:
        figure, alt = redraw(**values)
    except Exception as error:                       # as in the widget: a setting may be impossible, the others are not
        return {"alt": f"not possible: {error}"}
    picture = as_webp(figure)
    name = hashlib.sha256(picture).hexdigest()[:12] + ".webp"
    write_atomic(target / name, picture)
    return {"file": name, "alt": alt}


def keep(target: Path | None, content: dict, pictures: dict[str, bytes] | None = None) -> None:
    """Write what an explorer of its own needs on the page, explorer.json and pictures; nothing where nobody asked (no target)."""
    if target is None:
        return
    for old in target.glob("*.webp"):
        old.unlink()
    for name, picture in (pictures or {}).items():
        write_atomic(target / name, picture)
    write_atomic(target / "explorer.json", (as_json(content, indent=None) + "\n").encode())


def sheet(images) -> bytes:
    """Images (H,W,3) of uint8 as a small picture."""
    buffer = io.BytesIO()
    Image.fromarray(images).save(buffer, "webp", quality=80, method=6)
    return buffer.getvalue()


def record(target: Path, redraw, controls: dict) -> Path:
    """Draw every combination of the controls' stops into a folder, which is emptied first: the path of its explorer.json.

    The file holds "kind": "frames", the controls in order, {"name", "label", "values", "start"}, and the frames, the last control's
    values running fastest. Raises UserError for more than MOST pictures.
    """
    described = [{"name": name, "label": control.description, "values": stops(control), "start": stops(control).index(control.value)}
                 for name, control in controls.items()]
    if (count := len(list(itertools.product(*(one["values"] for one in described))))) > MOST:
        raise UserError(f"{count} settings of {', '.join(controls)} are too many to record: {MOST} at most")
    keep(target, {})
    frames = [frame(redraw, dict(zip(controls, values)), target) for values in itertools.product(*(one["values"] for one in described))]
    content = {"kind": "frames", "controls": described, "frames": frames}
    write_atomic(target / "explorer.json", (as_json(content, indent=None) + "\n").encode())
    return target / "explorer.json"
