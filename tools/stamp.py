"""Write the repository's address where readers need it: ``stamp.py owner/name`` (or a whole address; ``none`` takes it out again).

pyproject.toml's [project.urls] is the place of truth. From it follow the setup cell of every chapter and its badges for Colab, Kaggle and
Binder (sources and notebooks; outputs stay), and in the README a Colab badge a chapter, the Binder badge of the course, and the install
lines. All three open GitHub only here: elsewhere no badges.
"""

import re
import subprocess
import sys
from pathlib import Path

#: a door → its badge's picture, and where it leads
DOORS = {
    "Colab": ("https://colab.research.google.com/assets/colab-badge.svg",
              "https://colab.research.google.com/github/{name}/blob/main/notebooks/{chapter}.ipynb"),
    "Kaggle": ("https://kaggle.com/static/images/open-in-kaggle.svg",
               "https://kaggle.com/kernels/welcome?src=https://github.com/{name}/blob/main/notebooks/{chapter}.ipynb"),
    "Binder": ("https://mybinder.org/badge_logo.svg", "https://mybinder.org/v2/gh/{name}/main?urlpath=lab/tree/notebooks/{chapter}.ipynb")}
BADGE = rf" ?\[!\[(?:{'|'.join(DOORS)})\]\([^)]*\)\]\([^)]*\)"
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


def badge(address: str | None, chapter: str, door: str) -> str:
    """A chapter's badge for a door, empty where it cannot open the address."""
    found = re.fullmatch(r"https://github\.com/([^/]+/[^/]+?)(\.git)?", address or "")
    picture, link = DOORS[door]
    return f"[![{door}]({picture})]({link.format(name=found[1], chapter=chapter)})" if found else ""


def stamp_pyproject(text: str, address: str | None) -> str:
    """[project.urls] with the address, or without the section."""
    text = re.sub(r"\[project\.urls\]\nRepository = .*\n\n", "", text)
    return text.replace("[project.scripts]\n", f'[project.urls]\nRepository = "{address}"\n\n[project.scripts]\n') if address else text


def stamp_chapter(text: str, address: str | None, chapter: str) -> str:
    """A notebook's source with its setup cell's FETCH, and the badges under its title."""
    fetch = CLONE.format(address=address) if address else ALONE
    text = re.sub(r'^FETCH = ".*"$', lambda _: f'FETCH = "{fetch}"', text, count=1, flags=re.M)
    text = re.sub(rf"^(?:#{BADGE}\n)+#\n", "", text, flags=re.M)
    rows = "".join(f"# {one}\n" for door in DOORS if (one := badge(address, chapter, door)))      # a line each: they are long
    return re.sub(r"^(# # .*\n#\n)", lambda title: title[1] + (f"{rows}#\n" if rows else ""), text, count=1, flags=re.M)


def stamp_readme(text: str, address: str | None) -> str:
    """The README with a Colab badge beside each chapter of its table, the Binder badge in its line, and the address where it is cloned."""
    text = re.sub(BADGE, "", text)
    text = re.sub(r"git clone \S+ course", f"git clone {address or 'ADDRESS'} course", text)
    text = re.sub(r"^(- \*\*Binder\*\*)", lambda line: f"{line[1]} {badge(address, '00_tour', 'Binder')}".rstrip(), text, flags=re.M)
    return re.sub(r"^(\| \[[^]]*\]\(notebooks/(\w+)\.ipynb\))",
                  lambda row: f"{row[1]} {badge(address, row[2], 'Colab')}".rstrip(), text, flags=re.M)


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
