"""Build the course's site, build/site/index.html, from the committed notebooks and texts; nothing is run.

``build_site.py [--slides | --strict] [FOLDER]``: --slides makes only the slides; --strict fails on a broken link. The site needs
no network: MathJax and reveal.js come from Python packages of the ``site`` extra and are copied into it. The page "Try it" needs
onnxruntime-web, fetched once from npm's registry into build/; without it the page is there and says so. docs/try.json lists its models.
"""

import ast
import hashlib
import json
import re
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
TEXTS = ["README.md", "notebooks/README.md", "data/README.md", "data/results/README.md", "data/source/README.md", "data/gan/README.md",
         "data/text_to_image/README.md", "CONTRIBUTING.md", "CHANGELOG.md", "THIRD_PARTY.md"]
WORKED = ROOT / "tests" / "checks" / "my_domainstudio.py"
EXPLORERS = ROOT / "data" / "explorers"
DOOR = "**No install, no Python:** [draw a face in your browser](try.md) with four models, or move a chapter's sliders (under *Play*)."
STILL = "*On this page the sliders stand still: the figure shows where they start. In JupyterLab (`make lab`) they move.*"


def package(name: str) -> Path:
    """The folder of an installed package, found without importing it."""
    found = find_spec(name)
    if found is None:
        raise SystemExit(f"{name} is missing: pip install -e '.[site]' -c constraints.txt")
    return Path(found.origin).parent


def vendor(out: Path) -> None:
    """Copy MathJax (with its fonts) and reveal.js into the site."""
    mathjax, reveal = package("sphinx-mathjax-offline") / "static" / "mathjax", package("sphinx_revealjs") / "_static" / "revealjs"
    target = out / "_static"
    (target / "mathjax").mkdir(parents=True, exist_ok=True)
    shutil.copy(mathjax / "tex-chtml.js", target / "mathjax")
    shutil.copytree(mathjax / "output" / "chtml", target / "mathjax" / "output" / "chtml", dirs_exist_ok=True)
    (target / "reveal").mkdir(exist_ok=True)
    shutil.copy(reveal / "LICENSE", target / "reveal")
    for part in ("dist", "plugin/notes"):
        shutil.copytree(reveal / part, target / "reveal" / part, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.map", "*.esm.js"))


def link_equations(text: str, known: set[str]) -> str:
    """Displayed equations become targets eq-c-n, and each (c.n) in the text a link to its equation."""
    def display(match):
        tag = re.search(r"\\tag\{(\d+b?)\.(\d+)\}", match[1])
        target = f"(eq-{tag[1]}-{tag[2]})=\n" if tag else ""
        return f"\n\n{target}\\begin{{equation*}}\n{match[1].strip()}\n\\end{{equation*}}\n\n"

    def refer(match):
        return f"[({match[1]})](#eq-{match[1].replace('.', '-')})" if match[1] in known else match[0]

    parts = re.split(r"(\$\$.*?\$\$|```.*?```|`[^`]*`|\$[^$]*\$)", text, flags=re.S)
    return "".join(re.sub(r"\$\$(.*?)\$\$", display, part, flags=re.S) if i % 2 else re.sub(r"(?<!\[)\((\d+b?\.\d+)\)", refer, part)
                   for i, part in enumerate(parts))


def worked_sources() -> dict[str, str]:
    """The functions of the worked solution by the name that ``checks.solution`` takes, helpers before them."""
    text = WORKED.read_text("utf-8")
    found = {node.name: source_of(WORKED, node.name) for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
    helpers = {name: source for name, source in found.items() if name in ("abar", "hf")}
    return {{"haar_step": "haar"}.get(name, name): "\n\n\n".join(
        [part for helper, part in helpers.items() if f"{helper}(" in source] + [source])
        for name, source in found.items() if name not in helpers}


def reference_sources() -> dict[str, str]:
    """The source of every exercise's reference by the name that ``checks.solution`` takes; read, not imported."""
    read = ROOT / "dslib" / "checks" / "exercises.py"
    exercises = ast.parse(read.read_text("utf-8"))
    homes = {alias.name: read.parents[node.level - 1].joinpath(*(node.module or "").split("."), f"{alias.name}.py")
             for node in exercises.body if isinstance(node, ast.ImportFrom) and node.level for alias in node.names}
    table = next(node.value for node in exercises.body if isinstance(node, ast.Assign) and node.targets[0].id == "SOLUTIONS")
    return {key.value: source_of(homes[value.value.id], value.attr) for key, value in zip(table.keys, table.values)}


def source_of(path: Path, name: str) -> str:
    """The source of a function of a module, or of the module beside it that it is imported from."""
    text = path.read_text("utf-8")
    for node in ast.parse(text).body:
        if getattr(node, "name", None) == name:
            return "\n".join(text.splitlines()[node.lineno - 1:node.end_lineno])
        if isinstance(node, ast.ImportFrom) and node.level and node.module and name in [alias.name for alias in node.names]:
            return source_of(path.parents[node.level - 1] / f"{node.module.replace('.', '/')}.py", name)
    raise SystemExit(f"{path.name} has no {name}")


def fold_solutions(text: str, sources: dict[str, str]) -> str:
    """In the place of each call of ``checks.solution`` inside a folded solution, a solution."""
    def shown(match):
        names = re.findall(r'checks\.solution\("(\w+)"\)', match[1])
        return match[0] if not names else "<details><summary>Solution</summary>\n\n" + "\n\n".join(
            f"```python\n{sources[name]}\n```" for name in names) + "\n\n</details>"
    return re.sub(r"<details><summary>Solution</summary>(.*?)</details>", shown, text, flags=re.S)


def stage_questions(cell) -> None:
    """The cell with a chapter's questions shows them alone, and its formulas as Sphinx marks them, for MathJax."""
    cell.metadata["tags"] = [*cell.metadata["tags"], "remove-input"]
    for output in cell.outputs:
        output.data["text/html"] = re.sub(r"\$([^$<]+)\$", r'<span class="math notranslate nohighlight">\\(\1\\)</span>',
                                          output.data["text/html"])


def live(path: Path) -> str:
    """What stands below a chapter's explorer: one that moves, where data/explorers has its settings, else a line that says why not."""
    chapter = path.stem.split("_")[0]
    file = EXPLORERS / chapter / "explorer.json"
    if not file.exists():
        return STILL
    recorded, folder = json.loads(file.read_text("utf-8")), f"../_static/explorers/{chapter}/"
    if recorded["kind"] == "plane":                      # too much for the page itself
        return f'<div class="explorer" data-kind="plane"></div><script defer src="{folder}plane.js"></script>'
    data = json.dumps(recorded | {"folder": folder}, ensure_ascii=False).replace("<", "\\u003c")
    return f'<div class="explorer" data-kind="{recorded["kind"]}"><script type="application/json">{data}</script></div>'


def explorers(out: Path) -> None:
    """Copy what the live explorers show into the site."""
    for file in sorted(EXPLORERS.glob("*/explorer.json")):
        target, recorded = out / "_static" / "explorers" / file.parent.name, file.read_text("utf-8")
        target.mkdir(parents=True, exist_ok=True)
        for picture in file.parent.glob("*.webp"):
            shutil.copy(picture, target)
        if json.loads(recorded)["kind"] == "plane":
            (target / "plane.js").write_text(f"globalThis.PLANE = {recorded.strip()};\n", "utf-8")


def stage_chapter(path: Path, known: set[str], target: Path) -> None:
    """A chapter for the site: linked equations, solutions to unfold, and an explorer that moves below the one that cannot."""
    notebook, cells, sources = nbformat.read(path, as_version=4), [], reference_sources() | worked_sources()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = fold_solutions(link_equations(cell.source, known), sources)
        if "quiz" in cell.metadata.get("tags", []):
            stage_questions(cell)
        cells.append(cell)
        if cell.cell_type == "code" and re.search(r"widgets\w*\.explore", cell.source):
            cells.append(nbformat.v4.new_markdown_cell(live(path)))
    notebook.cells = cells
    nbformat.write(notebook, target)


def stage_text(name: str, known: set[str], folder: Path) -> None:
    """A Markdown page with the files that it links to; the README is the landing page, index.md."""
    text = link_equations((ROOT / name).read_text("utf-8"), known)
    text = text.replace("](../README.md)", "](../index.md)") if name == "notebooks/README.md" else text
    text = text.replace("\n## Two commands", f"\n{DOOR}\n\n## Two commands") if name == "README.md" else text
    target = folder / ("index.md" if name == "README.md" else name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text.replace("](README.md)", "](index.md)"), "utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        file = (ROOT / name).parent / link
        if file.is_file() and file.suffix not in (".md", ".ipynb"):
            copy = folder / file.resolve().relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)


def tree(caption: str, pages: list[str]) -> str:
    return "\n```{toctree}\n:hidden:\n:caption: " + caption + "\n\n" + "\n".join(pages) + "\n```\n"


def stage(folder: Path) -> None:
    """All pages as Sphinx reads them, in the repository's own layout, so that its links hold."""
    known = set(re.findall(r"\\tag\{(\d+b?\.\d+)\}", "".join(c.source for p in CHAPTERS for c in nbformat.read(p, as_version=4).cells)))
    for name in TEXTS:
        stage_text(name, known, folder)
    for path in CHAPTERS:
        stage_chapter(path, known, folder / "notebooks" / path.name)
    decks = "".join(f'<li><a href="slides/{p.stem}.html">{p.stem.replace("_", " ")}</a></li>' for p in decks_of())
    (folder / "slides.md").write_text("# Slides\n\nMade from cells of the chapters (`make slides`). The text of a cell is in the speaker's "
                                      f"notes: press S; arrow keys turn pages.\n\n<ul>{decks}</ul>\n", "utf-8")
    (folder / "try.md").write_text(try_it(), "utf-8")
    with open(folder / "index.md", "a", encoding="utf-8") as index:
        index.write(tree("Draw", ["try"]) + tree("Chapters", [f"notebooks/{p.stem}" for p in CHAPTERS])
                    + tree("Teach", ["notebooks/README", "slides"])
                    + tree("Data and model", ["data/README", "data/results/README", "data/source/README", "data/gan/README",
                                              "data/text_to_image/README", "THIRD_PARTY"])
                    + tree("Library", ["api/dslib/index", "CONTRIBUTING", "CHANGELOG"]))


def try_it() -> str:
    """The page that draws in the browser, as Markdown; its files come later, see :func:`add_models`."""
    part = (ROOT / "dslib" / "web" / "page" / "fragment.html").read_text("utf-8").replace("ROOT", "_static/try/")
    return f"# Try it\n\n```{{raw}} html\n{part}```\n\n{(ROOT / 'docs' / 'try.md').read_text('utf-8')}"


def add_models(out: Path) -> None:
    """The files of "Try it": scripts, runtime, and the models of docs/try.json that are there, kept in build/ while they stay the same."""
    sys.path.insert(0, str(ROOT))
    target = out / "_static" / "try"
    places = json.loads((ROOT / "docs" / "try.json").read_text("utf-8"))
    found = [{**place, "folder": str(ROOT / place["folder"])} for place in places if (ROOT / place["folder"] / "model_index.json").exists()]
    for place in places:
        if str(ROOT / place["folder"]) not in [one["folder"] for one in found]:
            print(f"Try it is without “{place['title']}”: there is no {place['folder']} here")
    target.mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "dslib" / "web" / "page").glob("*.[jc]s*"):
        shutil.copy(path, target)
    try:
        from dslib import UserError
        from dslib.web import export, runtime
    except ImportError as error:
        print(f"Try it is without models: {error}")
        return
    read = sorted((ROOT / "dslib" / "web").glob("*.py"))
    for one in found:
        read += [Path(one["folder"]) / name for name in ("metrics.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
                                                         "scheduler/scheduler_config.json")]
    key = hashlib.sha256(json.dumps([places, [one["title"] for one in found]]).encode()
                         + b"".join(path.read_bytes() for path in read if path.is_file()))
    kept = ROOT / "build" / f"try-{key.hexdigest()[:16]}"
    try:
        if not (kept / "models.json").exists():
            export.write_models(found, kept)
        shutil.copytree(kept, target, dirs_exist_ok=True)
        export.write_runtime(target, ROOT / "build")
    except UserError as error:
        print(f"Try it cannot draw ({runtime.PACKAGE} {runtime.VERSION}): {error}")


def decks_of() -> list[Path]:
    """Chapters that have cells for slides."""
    return [p for p in CHAPTERS if any("slide" in c.metadata.get("tags", []) for c in nbformat.read(p, as_version=4).cells)]


def deck(path: Path) -> nbformat.NotebookNode:
    """The slides of a chapter: of tagged cells the headings, equations, tables, lists and outputs; prose becomes the speaker's notes."""
    made, heading, cells = [], "", nbformat.read(path, as_version=4).cells

    def page(kind: str, text: str) -> None:
        made.append(nbformat.v4.new_markdown_cell(text, metadata={"slideshow": {"slide_type": kind}}))

    for i, cell in enumerate(cells):
        tagged = "slide" in cell.metadata.get("tags", [])
        if cell.cell_type == "code" and tagged:
            cell.metadata["slideshow"] = {"slide_type": "-"}
            tables = "".join(o.get("text", "") for o in cell.outputs if o.get("text", "").startswith("| "))
            cell.outputs = [o for o in cell.outputs if not o.get("text", "").startswith("| ")]
            page("slide", f"{heading}\n\n{tables}")
            made.append(cell)
            page("notes", re.split(r"^#", cells[i + 1].source, flags=re.M)[0])
        for section in re.split(r"^(?=##? )", cell.source, flags=re.M) if cell.cell_type == "markdown" else []:
            blocks = re.split(r"\n{2,}", section.strip())
            heading = blocks[0] if blocks[0].startswith("#") else heading
            shown = [b for b in blocks[1:] if b.startswith(("$$", "| ", "- ", "**You will**")) and not b.startswith("| |")]
            if len(shown) == 1 and shown[0].startswith("$$") and shown[0] != blocks[1]:
                shown.insert(0, blocks[blocks.index(shown[0]) - 1])              # a lone equation takes the sentence before it along
            if tagged and shown and blocks[0].startswith("#"):
                page("slide", "\n\n".join([heading, *shown]))
                page("notes", "\n\n".join(b for b in blocks[1:] if b not in shown and not b.startswith("|")))
    return nbformat.v4.new_notebook(cells=made)


def slides(out: Path) -> None:
    """reveal.js decks of the chapters that have cells tagged ``slide``."""
    from nbconvert.exporters import SlidesExporter
    exporter = SlidesExporter(extra_template_basedirs=[str(ROOT / "docs")], template_name="slides", exclude_input=True,
                              reveal_url_prefix="../_static/reveal", reveal_theme="white")
    out.mkdir(parents=True, exist_ok=True)
    for path in decks_of():
        html, _ = exporter.from_notebook_node(deck(path), {"metadata": {"name": path.stem}})
        (out / f"{path.stem}.html").write_text(html, "utf-8")


def build(out: Path, strict: bool) -> int:
    """Stage the pages and run Sphinx. Returns its status; with ``strict`` a broken link or docstring is an error."""
    from sphinx.cmd.build import main
    with tempfile.TemporaryDirectory() as folder:
        stage(Path(folder))
        shutil.rmtree(out, ignore_errors=True)
        failed = main(["-q", *["-W"] * strict, "-b", "html", "-c", str(ROOT / "docs"), "-d", f"{folder}/_doctrees", folder, str(out)])
    shutil.rmtree(out / "_sources", ignore_errors=True)
    (out / ".buildinfo").unlink(missing_ok=True)
    return failed


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if not a.startswith("--")]
    site = Path(arguments[0] if arguments else ROOT / "build" / "site").resolve()
    status = 0 if "--slides" in sys.argv else build(site, "--strict" in sys.argv)
    slides(site / "slides")
    vendor(site)
    explorers(site)
    if "--slides" not in sys.argv:
        add_models(site)
    print(f"{site}/index.html")
    sys.exit(status)
