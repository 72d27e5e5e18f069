"""Settings that carry their help and their bounds: the command line, ``check`` and the tables read them from here."""

import math
from dataclasses import field, fields

from .errors import UserError

BOUNDS = {
    "positive": (lambda value: 0 < value < math.inf, "it must be a positive number"),
    "least_zero": (lambda value: 0 <= value < math.inf, "it must be zero or a positive number"),
    "share": (lambda value: 0 <= value < 1, "it must be at least 0 and below 1"),
}


def knob(default, help: str, bound: str | None = None, choices=None, kind: type | None = None):
    """A dataclass field: its default, what ``--help`` says, and what values are possible.

    bound: a key of ``BOUNDS``; choices: the allowed words, or a function that returns them; kind: the
    type of an option whose default is None.
    """
    kind = kind or (str if default is None else type(default))
    return field(default=default, metadata={"help": help, "bound": bound, "choices": choices, "kind": kind})


def choices_of(knob) -> tuple[str, ...] | None:
    """The words that a field allows, None where any value of its kind is possible."""
    choices = knob.metadata["choices"]
    return None if choices is None else tuple(choices() if callable(choices) else choices)


def check(config) -> None:
    """Raise a UserError that names the first impossible setting of a config and its mend."""
    for f in fields(config):
        value, allowed = getattr(config, f.name), choices_of(f)
        if allowed is not None and value not in allowed:
            raise UserError(f"--{f.name} is {value!r}: use one of {', '.join(allowed)}")
        if f.metadata["bound"] and value is not None:
            possible, mend = BOUNDS[f.metadata["bound"]]
            if not possible(value):
                raise UserError(f"--{f.name} is {value}: {mend}")
