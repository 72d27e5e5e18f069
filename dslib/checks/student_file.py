"""The reader's own ``my_domainstudio.py``: a section a function, written when its check has passed."""

import ast
import contextlib
import hashlib
import io
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ..base.files import write_atomic
from . import limits
from .exercises import CHAPTER_OF, check_of, known_as
from .limits import NoNetwork, OutOfTime, limited, offline
from .travel import PACKAGES, CannotTravel, free_names, packed

NAME = "my_domainstudio.py"
HEAD = '''"""My DomainStudio. checks.mine keeps here what passed its check, a section a function.

Edit it as you like: a section that you have edited is never written over. Delete a section to have it written anew.
"""
'''
OUTWARD = ("open", "exec", "eval", "__import__", "input")
MARK = re.compile(r"^# -{8} (\w+), chapter (\w+) -{8} kept (\w{8})\n", re.M)


class Section(NamedTuple):
    """A function as it lies in the file."""
    body: str       # its source, with helpers
    kept: str       # the fingerprint that it had when it was written

    def edited(self) -> bool:
        """Whether somebody has changed it since."""
        return fingerprint(self.body) != self.kept


def path() -> Path:
    """Beside the notebook; ``$DSLIB_MINE`` names another place."""
    return Path(os.environ.get("DSLIB_MINE") or NAME)


def fingerprint(body: str) -> str:
    """Eight letters that change with any line of a section."""
    return hashlib.sha256(body.strip().encode()).hexdigest()[:8]


def split(text: str) -> tuple[str, dict[str, Section]]:
    """(what stands above the first section, the sections by name)."""
    head, *parts = MARK.split(text)
    return head, {name: Section(body.strip(), kept) for name, _, kept, body in zip(*[iter(parts)] * 4)}


def joined(head: str, sections: dict[str, Section]) -> str:
    """The file again, its sections in the order of the chapters."""
    line = "-" * 8
    told = [f"# {line} {name}, chapter {CHAPTER_OF[name]} {line} kept {sections[name].kept}\n{sections[name].body}\n"
            for name in CHAPTER_OF if name in sections]
    return "\n\n".join([head.rstrip() + "\n", *told])


def keep(name: str, fn) -> str:
    """Write a function into the file; what became of it, in words that follow its name. Never raises."""
    file = path()
    try:
        text = file.read_text("utf-8") if file.exists() else HEAD
        head, sections = split(text)
        imports, body = packed(fn, set(sections))
        old = sections.get(name)
        if old and old.body == body:
            return f"is in {file.name}"
        if (old and old.edited()) or (not old and defines(head, name)):
            return f"is used here; {file.name} has one that you wrote there by hand, and keeps that: delete it there to have this one kept"
        sections[name] = Section(body, fingerprint(body))
        lines = [line for line in head.rstrip().splitlines() if not is_idle(line, sections)]
        lines += [line for line in dict.fromkeys(imports) if line not in lines]
        write_atomic(file, joined("\n".join(lines), sections).encode())
    except CannotTravel as error:
        return f"is used here, but not kept for other chapters: {error}"
    except SyntaxError:
        return f"is used here, but not kept: {file.name} has a section that is no Python; mend that or delete it"
    except (OSError, UnicodeDecodeError) as error:
        return f"is used here, but not kept: {file} cannot be written ({getattr(error, 'strerror', None) or error})"
    return f"is kept in {file.name}"


def is_idle(line: str, sections: dict[str, Section]) -> bool:
    """Whether a line imports something of dslib that no section needs any more: the reader has written it since."""
    if not line.startswith(("from dslib", "import dslib")):
        return False
    name = line.split()[-1]
    return name in sections or not any(name in free_names(section.body) for section in sections.values())


def defines(text: str, name: str) -> bool:
    """Whether a piece of source defines a function at its top level; a piece that cannot be read is taken to."""
    try:
        return any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.parse(text).body)
    except SyntaxError:
        return True


# --------------------------------------------------------------------------------- reading it


def faults(text: str, packages: tuple[str, ...] = PACKAGES, modules: tuple[str, ...] = ()) -> list[str]:
    """What a file may not do, a line each: syntax, imports, work outside of functions, files and other programs."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        return [f"line {getattr(error, 'lineno', None) or 1} is no Python ({getattr(error, 'msg', error)})"]
    found = []
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [
            "." * node.level + (node.module or "")] if isinstance(node, ast.ImportFrom) else []
        found += [(node.lineno, f"imports {name}: only {', '.join(p for p in packages if p != '__future__')} may be imported")
                  for name in names if name.split(".")[0] not in packages and name not in modules]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in OUTWARD:
            found.append((node.lineno, f"calls {node.func.id}(): a function works with its arguments alone"))
    plain = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign)
    found += [(node.lineno, "does something outside of a function: a file of functions only defines them") for node in tree.body
              if not isinstance(node, plain) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))]
    return [f"line {line} {words}" for line, words in sorted(found)]


def loaded(text: str, name: str = NAME) -> tuple[dict, str | None]:
    """(the functions of a file by name, None), or ({}, what is wrong with it). Runs its definitions, for a while and offline."""
    if found := faults(text):
        return {}, f"{found[0]}{f' (and {len(found) - 1} more)' if len(found) > 1 else ''}"
    space = {"__name__": name.removesuffix(".py")}
    try:
        with limited(limits.SECONDS), offline():
            exec(compile(text, name, "exec"), space)
    except OutOfTime:
        return {}, "it does not end when it is read"
    except NoNetwork:
        return {}, "it asks for the network when it is read"
    except Exception as error:
        return {}, f"it raised {type(error).__name__} when it was read: {error}"
    return space, None


def tried(name: str, fn) -> str | None:
    """What an exercise's check says of a function, None if it passes; prints nothing."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        passed = check_of(name)(fn)
    return None if passed else said.getvalue().strip().removeprefix(f"✗ {known_as(name)}: ")


def stored(name: str) -> tuple[object, str | None]:
    """(the file's function, None) if it passes its check, else (None, why not; "" if nothing is there)."""
    file = path()
    try:
        stamp = file.stat()
    except OSError:
        return None, ""
    return remembered(file.resolve(), stamp.st_mtime_ns, stamp.st_size, name)


@lru_cache(maxsize=256)
def remembered(file: Path, changed: int, size: int, name: str) -> tuple[object, str | None]:
    """:func:`stored` of a file as it was at a time: nothing is tried twice."""
    try:
        space, problem = loaded(file.read_text("utf-8"), file.name)
    except (OSError, UnicodeDecodeError) as error:
        return None, f"{file.name} cannot be read ({error})"
    if problem:
        return None, f"{file.name}: {problem}"
    if not callable(space.get(name)):
        return None, ""
    problem = tried(name, space[name])
    return (None, f"{name} in {file.name}: {problem}") if problem else (space[name], None)
