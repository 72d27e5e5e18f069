"""Who imports whom in dslib: ``python tools/layers.py`` prints the imports between its folders, and fails where one points upward.

An import points downward in ORDER, wherever in a file it stands. env.py and checks/ are the chapters' door: they see all below
cli/, and nothing sees them but cli/, which asks env for versions.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

DSLIB = Path(__file__).resolve().parent.parent / "dslib"
ORDER = ("base", "paper", "measure", "show", "plane", "text", "gan", "beyond", "study", "web", "cli")
DOOR = ("env", "checks")


def floor(name: str) -> str:
    """The layer of a module named from dslib on: "text.latent" → text, "losses" → paper, "env" → env."""
    first = name.split(".")[0]
    return "cli" if first == "__main__" else first if first in DOOR or (DSLIB / first).is_dir() and first else "paper"


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(module or name of dslib from dslib on, line) that a file of dslib imports, inside functions too."""
    package = ("dslib", *path.relative_to(DSLIB).parent.parts)
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            above = package[:len(package) + 1 - node.level] if node.level else ()
            names = [".".join([*above, *filter(None, [node.module]), alias.name]) for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        yield from ((name.removeprefix("dslib").lstrip("."), node.lineno) for name in names if name.split(".")[0] == "dslib")


def modules() -> dict[str, Path]:
    """Every file of dslib by its name from dslib on."""
    return {".".join(path.relative_to(DSLIB).with_suffix("").parts): path for path in sorted(DSLIB.rglob("*.py"))}


def is_upward(start: str, end: str) -> bool:
    """Whether a layer may not import another."""
    if start in DOOR:
        return end == "cli"
    return (start, end) != ("cli", "env") and (end in DOOR or ORDER.index(end) > ORDER.index(start))


def edges() -> list[tuple[str, str, str]]:
    """(from, to, where) of every import between two layers."""
    found = [(floor(name), floor(target), f"{path.relative_to(DSLIB.parent)}:{line} imports {target}")
             for name, path in modules().items() for target, line in imports(path)]
    return [edge for edge in found if edge[0] != edge[1]]


def main() -> int:
    counts = Counter((start, end) for start, end, _ in edges())
    rank = {name: i for i, name in enumerate((*ORDER, *DOOR))}
    for (start, end), count in sorted(counts.items(), key=lambda item: (rank[item[0][0]], rank[item[0][1]])):
        print(f"{start:>8} -> {end:<8} {count:3}{'   upward' if is_upward(start, end) else ''}")
    upward = [where for start, end, where in edges() if is_upward(start, end)]
    print("\n".join(upward) if upward else "no import points upward")
    return bool(upward)


if __name__ == "__main__":
    sys.exit(main())
