"""How a function leaves its notebook: its source, with what it needs to run elsewhere."""

import ast
import builtins
import inspect
import sys
import textwrap
from types import CodeType, FunctionType, ModuleType

#: What a reader's file may import: what every reader has, and nothing that reaches outside.
PACKAGES = ("torch", "numpy", "math", "copy", "functools", "itertools", "collections", "typing", "types", "dataclasses", "operator",
            "random", "__future__", "dslib")
CONSTANTS = (int, float, str, bool, type(None))


class CannotTravel(Exception):
    """Why a function works in its notebook alone; the words follow "not kept:"."""


def source_of(fn) -> str:
    """The source of a function as it was written, without indentation. Raises CannotTravel where nobody has kept it."""
    try:
        return textwrap.dedent(inspect.getsource(fn)).strip()
    except (OSError, TypeError):
        raise CannotTravel("its source cannot be read; write it with def, in a cell of its own") from None


def is_stub(fn) -> bool:
    """Whether nothing is written yet: a body of docstring, ``...``, ``pass`` and ``return None`` alone."""
    try:
        tree = ast.parse(source_of(fn)).body[0]
    except (CannotTravel, SyntaxError, IndexError):
        return False
    return isinstance(tree, ast.FunctionDef) and all(is_empty(line) for line in tree.body)


def is_empty(line: ast.stmt) -> bool:
    """A line that does nothing."""
    value = getattr(line, "value", None)
    nothing = value is None or isinstance(value, ast.Constant)
    return isinstance(line, ast.Pass) or (isinstance(line, ast.Expr) and nothing) or (
        isinstance(line, ast.Return) and nothing and getattr(value, "value", None) is None)


def free_names(source: str) -> list[str]:
    """Names that a piece of source takes from around it, in the order in which they occur."""
    def walk(code: CodeType):
        for const in code.co_consts:
            if isinstance(const, CodeType):
                yield from walk(const)
        yield from code.co_names

    tree = ast.parse(source)
    loaded = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    code = compile(tree, "source", "exec")
    made = {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    return [name for name in dict.fromkeys(walk(code)) if name in loaded and name not in made and not hasattr(builtins, name)]


def packed(fn, kept: set[str]) -> tuple[list[str], str]:
    """(import lines, source) with which a function runs elsewhere: its helpers and constants come along.

    kept: exercises that are in the file already, which it may call by name. Raises CannotTravel.
    """
    imports, parts, seen = [], [], set()

    def take(function) -> None:
        source = source_of(function)
        seen.add(function.__name__)
        for name in free_names(source):
            if name in seen or name not in function.__globals__:
                continue
            seen.add(name)
            value = function.__globals__[name]
            student = getattr(value, "student", None)            # what ``checks.mine`` gave
            if student is not None and student.__name__ in kept:
                parts.extend([f"{name} = {student.__name__}"] if name != student.__name__ else [])
            elif student is None and is_local(value, function):
                take(value)
            else:
                add(name, value.reference if student is not None else value, imports, parts)
        parts.append(source)

    take(fn)
    return imports, "\n\n\n".join(parts)


def is_local(value, beside) -> bool:
    """Whether a value is a function written in the same notebook."""
    return isinstance(value, FunctionType) and value.__globals__ is beside.__globals__


def add(name: str, value, imports: list[str], parts: list[str]) -> None:
    """The line that brings a value along, to the imports or to the source. Raises CannotTravel."""
    home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if isinstance(value, CONSTANTS):
        parts.append(f"{name} = {value!r}")
        return
    real = getattr(value, "__name__", None)
    found = isinstance(value, ModuleType) or (real and home != "__main__" and getattr(sys.modules.get(home), real, None) is value)
    if not found:
        raise CannotTravel(f"it uses {name}, a {type(value).__name__} of this notebook: make it an argument")
    if home.split(".")[0] not in PACKAGES:
        raise CannotTravel(f"it uses {home.split('.')[0]}, which not every reader has: torch and Python's own math are enough")
    alias = "" if name == (real if not isinstance(value, ModuleType) else home) else f" as {name}"
    if isinstance(value, ModuleType):
        above, _, last = home.rpartition(".")
        imports.append(f"from {above} import {last}" if above and name == last else f"import {home}{alias}")
    else:
        imports.append(f"from {home} import {real}{alias}")
