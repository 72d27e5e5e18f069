"""Write the repository's address where readers need it: ``stamp.py owner/name`` (or a whole address; ``none`` takes it out again).

pyproject.toml's [project.urls] is the place of truth. From it follow the setup cell and the Colab badge of every chapter (sources
and notebooks; outputs stay), and the badges and install lines of the README. Colab opens GitHub only: elsewhere no badges.
"""

import re
import subprocess
import sys
from pathlib import Path

BADGE = "[![Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})"
COLAB = "https://colab.research.google.com/github/{name}/blob/main/notebooks/{chapter}.ipynb"
ALONE = ("echo No dslib in this kernel. Choose the kernel in .venv after make install, or upload the course and unzip it as course/; "
         "false")
CLONE = "git clone -q --depth=1 {address} new.$$ && mv new.$$ course"


def address_of(repo: str) -> str | None:
    """The address for ``owner/name``, an address, or ``none``. Raises SystemExit for anything else."""
    if repo == "none":
        return None
    if re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        return f"https://github.com/{repo}"
    if re.fullmatch(r"(https|file)://[\w.:/~-]+", repo):
        return repo.removesuffix("/")
    raise SystemExit(f"REPO is {repo!r}: use owner/name as on GitHub, an address that begins with https://, or none")


def badge(address: str | None, chapter: str) -> str:
    """The chapter's Colab badge, empty where Colab cannot open the address."""
    found = re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)(\.git)?", address or "")
    return BADGE.format(link=COLAB.format(name=found[1], chapter=chapter)) if found else ""


def stamp_pyproject(text: str, address: str | None) -> str:
    """[project.urls] with the address, or without the section."""
    text = re.sub(r"\[project\.urls\]\nRepository = .*\n\n", "", text)
    return text.replace("[project.scripts]\n", f'[project.urls]\nRepository = "{address}"\n\n[project.scripts]\n') if address else text


def stamp_chapter(text: str, address: str | None, chapter: str) -> str:
    """A notebook's source with its setup cell's FETCH, and the badge under its title."""
    fetch = CLONE.format(address=address) if address else ALONE
    text = re.sub(r'^FETCH = ".*"$', lambda _: f'FETCH = "{fetch}"', text, count=1, flags=re.M)
    text = re.sub(r"^# \[!\[Colab\].*\n#\n", "", text, flags=re.M)
    row = badge(address, chapter)
    return re.sub(r"^(# # .*\n#\n)", lambda title: title[1] + f"# {row}\n#\n" * bool(row), text, count=1, flags=re.M)


def stamp_readme(text: str, address: str | None) -> str:
    """The README with a badge beside each chapter of its table, and the address in the line that clones."""
    text = re.sub(r" \[!\[Colab\]\([^)]*\)\]\([^)]*\)", "", text)
    text = re.sub(r"git clone \S+ course", f"git clone {address or 'ADDRESS'} course", text)
    return re.sub(r"^(\| \[[^]]*\]\(notebooks/(\w+)\.ipynb\))",
                  lambda row: f"{row[1]} {badge(address, row[2])}".rstrip(), text, flags=re.M)


def rewrite(path: Path, change, *arguments) -> None:
    """Replace a file by change(text, …) of it."""
    path.write_text(change(path.read_text("utf-8"), *arguments), "utf-8")


def stamp(root: Path, address: str | None) -> None:
    """Stamp every place below root, and take the changed cells over into the notebooks."""
    rewrite(root / "pyproject.toml", stamp_pyproject, address)
    rewrite(root / "README.md", stamp_readme, address)
    for source in sorted((root / "notebooks" / "src").glob("*.py")):
        rewrite(source, stamp_chapter, address, source.stem)
    subprocess.run([sys.executable, root / "tools" / "build_notebooks.py", "--text"], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    if len(sys.argv) != 2 or not sys.argv[1]:
        raise SystemExit("usage: make badges REPO=owner/name   (REPO=none takes the address out again)")
    stamp(Path(__file__).resolve().parent.parent, address_of(sys.argv[1]))
