"""The course's site: no broken link, every figure with its alt text, equations that render, slides; in a browser where there is one."""

import ast
import importlib.util
import inspect
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import browsing
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
RECORDED = {path.parent.name: json.loads(path.read_text("utf-8")) for path in (ROOT / "data" / "explorers").glob("*/explorer.json")}
CHAPTERS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
NEEDED = ("bs4", "sphinx", "myst_nb", "furo", "autoapi", "sphinx_revealjs", "sphinx-mathjax-offline")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"pip install -e '.[site]' for {', '.join(MISSING)}")


def builder():
    """tools/build_site.py as a module."""
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "tools" / "build_site.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, built from the working tree; a broken link or docstring fails here, with Sphinx's words."""
    out = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run([sys.executable, str(ROOT / "tools" / "build_site.py"), "--strict", str(out)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def soup(path: Path):
    from bs4 import BeautifulSoup
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


def broken_links(folder: Path) -> list[str]:
    """Links and anchors of a site's pages that lead nowhere, and scripts, styles or pictures that are not its own."""
    pages = {path.resolve(): soup(path) for path in folder.rglob("*.html")}
    ids = {path: {tag[key] for key in ("id", "name") for tag in page.find_all(attrs={key: True})} for path, page in pages.items()}
    broken = []
    for path, page in pages.items():
        for tag in page.find_all(["a", "img", "script", "link"]):
            url = tag.get("href") or tag.get("src") or ""
            if not url or url.startswith(("data:", "mailto:")):
                continue
            if urlsplit(url).scheme or url.startswith("//"):
                broken += [] if tag.name == "a" else [f"{path.name}: {url} is not the site's own"]
                continue
            file, fragment = urldefrag(url)
            target = (path.parent / unquote(urlsplit(file).path)).resolve() if file else path
            if not target.is_file() or (fragment and target in ids and unquote(fragment) not in ids[target]):
                broken.append(f"{path.name}: {url}")
    return broken


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html">1</a> <a href="#x">2</a> <a href="#y">3</a><a href="https://e.org">4</a>')
    assert broken_links(tmp_path) == ["a.html: b.html", "a.html: #y"]
    (tmp_path / "a.html").write_text('<script src="https://cdn.example.org/x.js"></script>')
    assert broken_links(tmp_path) == ["a.html: https://cdn.example.org/x.js is not the site's own"]


def test_no_link_is_broken_and_nothing_comes_from_elsewhere(site):
    assert {"index.html", "search.html"} <= {path.name for path in site.glob("*.html")}
    assert broken_links(site) == []


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_has_its_figures_and_equations(site, chapter):
    page, cells = soup(site / "notebooks" / f"{chapter.stem}.html"), nbformat.read(chapter, as_version=4).cells
    alts = [o.metadata["image/png"]["alt"] for c in cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
    images = [image["alt"] for image in page.select(".cell_output img") if not image.find_parent(class_="quiz")]
    assert alts and images == alts
    numbers = re.findall(r"\\tag\{([\db.]+)\}", "".join(c.source for c in cells if c.cell_type == "markdown"))
    shown = "".join(div.text for div in page.select("div.math"))
    assert numbers and re.findall(r"\\tag\{([\db.]+)\}", shown) == numbers
    for number in numbers:
        label = "eq-" + number.replace(".", "-")
        assert page.find(id=label), f"no anchor at equation {number}"
        assert page.find("a", href=f"#{label}"), f"the table of equations does not lead to {number}"
    assert not page.find(string=re.compile("A Jupyter Widget")) and not page.select("[type*=widget]")
    explorers = sum(c.cell_type == "code" and re.search(r"widgets\w*\.explore", c.source) is not None for c in cells)
    live = [RECORDED[chapter.stem.split("_")[0]]["kind"]] if chapter.stem.split("_")[0] in RECORDED else []
    assert [box["data-kind"] for box in page.select(".explorer")] == live
    assert page.text.count("the sliders stand still") == explorers - len(live)


def test_equations_become_links_in_text_but_not_in_code():
    text = "See (4.1) and `(4.1)`, not (9.9) nor [(4.1)](x).\n\n$$a \\tag{4.1}$$\n\n$f(4.1)$"
    assert builder().link_equations(text, {"4.1"}) == (
        "See [(4.1)](#eq-4-1) and `(4.1)`, not (9.9) nor [(4.1)](x).\n\n\n\n(eq-4-1)=\n\\begin{equation*}\na \\tag{4.1}\n\\end{equation*}"
        "\n\n\n\n$f(4.1)$")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda p: p.stem)
def test_every_solution_is_there_folded(site, chapter):
    text = "".join(c.source for c in nbformat.read(chapter, as_version=4).cells if c.cell_type == "markdown")
    names = re.findall(r'checks\.solution\("(\w+)"\)', text)
    sources = builder().reference_sources() | builder().worked_sources()
    folded = [details for details in soup(site / "notebooks" / f"{chapter.stem}.html").find_all("details")
              if details.summary and details.summary.text == "Solution"]
    shown = re.sub(r"\s+", "", "".join(details.text for details in folded))
    assert names and all(re.sub(r"\s+", "", sources[name]) in shown for name in names) and "checks.solution" not in shown


def test_the_folded_solutions_are_the_worked_ones_or_what_the_notebook_would_print():
    from dslib import checks
    from dslib.checks import student_file
    sources, worked = builder().reference_sources(), builder().worked_sources()
    assert {name: inspect.getsource(fn).strip() for name, fn in checks.SOLUTIONS.items()} == sources
    assert len(worked) >= 19 and worked.keys() <= sources.keys()
    space, problem = student_file.loaded("import copy\nimport torch\nimport torch.nn.functional as F\n" + "\n".join(worked.values()))
    assert problem is None and all(student_file.tried(name, space["haar_step" if name == "haar" else name]) is None for name in worked)
    other = "<details><summary>Answer</summary>checks.solution</details>"
    assert builder().fold_solutions(other, sources) == other


def test_every_public_function_is_in_the_reference(site):
    ids = {tag["id"] for path in (site / "api").rglob("*.html") for tag in soup(path).find_all(id=True)}
    names = {f"{'.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__')}.{node.name}"
             for path in (ROOT / "dslib").rglob("*.py") if path.name != "__main__.py" for node in ast.parse(path.read_text("utf-8")).body
             if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")}
    assert len(names) > 100 and not names - ids


def test_no_folder_of_this_machine_is_told(site):
    folders = (f"{ROOT}/", f"{Path.home()}/", f"{tempfile.gettempdir()}/")
    texts = [path for path in site.rglob("*") if path.suffix in (".html", ".js", ".css", ".txt", ".json", ".xml")]
    assert texts and not [path for path in texts if any(folder in path.read_text("utf-8") for folder in folders)]


def test_slides_show_outputs_and_not_code(site):
    decks = {path.stem: soup(path) for path in (site / "slides").glob("*.html")}
    assert {name[:2] for name in decks} >= {"00", "04", "05", "06"}
    for name, page in decks.items():
        cells = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4).cells
        tagged = [c for c in cells if "slide" in c.metadata.get("tags", [])]
        code = [c for c in tagged if c.cell_type == "code"]
        assert len(page.select(".slides > section > section")) >= len(tagged)
        assert [i["alt"] for i in page.select(".slides img")] == [o.metadata["image/png"]["alt"] for c in code for o in c.outputs
                                                                  if "image/png" in o.get("data", {})]
        assert page.select("aside.notes") and not page.select(".jp-CodeCell .jp-InputArea-editor")
        assert soup(site / "slides.html").find("a", href=f"slides/{name}.html")


# ---------------------------------------------------------------------- in a browser

@pytest.fixture(scope="module")
def browser():
    with browsing.chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def served(site):
    """The site on a loopback port: its address."""
    with browsing.served_folder(site) as address:
        yield address


PAGES = ["index", *(f"notebooks/{p.stem}" for p in CHAPTERS), "notebooks/README", "data/README", "data/source/README", "THIRD_PARTY",
         "CONTRIBUTING", "api/dslib/index", "api/dslib/losses/index", "api/dslib/text/latent/index", "slides", "try"]


def test_pages_fit_a_phone_and_their_equations_render(browser, served, site):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    strange = []
    page.on("request", lambda request: None if request.url.startswith((served, "data:")) else strange.append(request.url))
    page.on("pageerror", lambda error: strange.append(str(error)))
    for name in PAGES:
        page.goto(f"{served}/{name}.html")
        formulas = len(soup(site / f"{name}.html").select(".math"))
        if formulas:
            page.wait_for_function("n => document.querySelectorAll('mjx-container').length === n", arg=formulas, timeout=60_000)
        assert page.locator("mjx-merror").count() == 0, f"{name}: a formula that MathJax cannot read"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, f"{name} is wider than a phone"
    page.close()
    assert not strange


def brightness(page, selector: str = "body") -> float:
    colour = page.evaluate("s => getComputedStyle(document.querySelector(s)).backgroundColor", selector)
    return sum(map(float, re.findall(r"[\d.]+", colour)[:3])) / 3


def test_dark_mode_and_search(browser, served):
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(f"{served}/notebooks/{CHAPTERS[0].stem}.html")
        code = brightness(page, ".cell_input .highlight")
        assert (brightness(page) > 200 and code > 200) if scheme == "light" else (brightness(page) < 60 and code < 60)
        page.close()
    page = browser.new_page()
    page.goto(f"{served}/search.html?q=wavelet")
    page.wait_for_selector("#search-results li a", timeout=30_000)
    assert page.locator("#search-results li a", has_text="Haar").count()
    page.close()


def test_slides_turn_and_fit(browser, served):
    for name in ("04_pairwise_similarity", "05_haar_bands"):
        page = browser.new_page(viewport={"width": 1100, "height": 720})
        page.goto(f"{served}/slides/{name}.html")
        page.wait_for_selector(".slides mjx-container", state="attached", timeout=60_000)
        total = page.evaluate("Reveal.getTotalSlides()")
        for i in range(total):
            assert page.evaluate("Reveal.getIndices().h") == i
            below = page.evaluate("Math.max(...[...Reveal.getCurrentSlide().querySelectorAll('img, pre, table, li')]"
                                  ".map(e => e.getBoundingClientRect().bottom), 0)")
            assert below <= 720, f"{name}: slide {i + 1} runs over its edge"
            page.keyboard.press("ArrowRight")
        page.close()


def test_questions_answer_by_keyboard_aloud_and_without_a_request(browser, served):
    """Tab and Enter unfold an answer, its reason is visible and in the live region, a solved question is marked, nothing is stored."""
    page, asked = browser.new_page(viewport={"width": 390, "height": 844}), []
    page.goto(f"{served}/notebooks/03_ten_are_not_enough.html")
    quiz = page.locator("section.quiz")
    page.wait_for_function("document.querySelector('section.quiz .math mjx-container')", timeout=60_000)
    assert quiz.count() == 1 and quiz.locator("fieldset").count() == 5 and "quiz.ask" not in page.inner_text("article")
    page.on("request", lambda request: asked.append(request.url))
    question = quiz.locator("fieldset").first
    for kind, solved in (("fails", 0), ("holds", 1)):
        answer = question.locator(f"details.{kind}").first
        answer.locator("summary").focus()
        page.keyboard.press("Enter")
        reason = answer.locator("p")
        assert reason.is_visible() and reason.inner_text().startswith("✓ It holds." if solved else "✗ No.")
        page.wait_for_function("said => document.querySelector('.quiz [role=status]').textContent === said", arg=reason.text_content())
        assert quiz.locator("fieldset.solved").count() == solved
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") <= len("theme") and not asked
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_questions_unfold_without_any_script(browser, served):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{served}/notebooks/00_tour.html")
    answer = page.locator("section.quiz details").first
    assert not answer.locator("p").is_visible()
    answer.locator("summary").click()
    assert answer.locator("p").is_visible()
    context.close()


@pytest.fixture(params=[{"width": 1200, "height": 900}, {"width": 390, "height": 844}], ids=["desk", "phone"])
def explorer(request, browser, served):
    """explorer(chapter) → (page, its explorer); fails where anything comes from elsewhere, or the page is wider than the screen."""
    page, strange = browser.new_page(viewport=request.param), []
    page.on("request", lambda request: None if request.url.startswith((served, "data:")) else strange.append(request.url))
    page.on("pageerror", lambda error: strange.append(str(error)))

    def opened(chapter):
        path = next(p for p in CHAPTERS if p.stem.split("_")[0] == chapter)
        page.goto(f"{served}/notebooks/{path.stem}.html")
        return page, page.locator(".explorer")

    yield opened
    assert page.evaluate("document.documentElement.scrollWidth") <= request.param["width"]
    page.close()
    assert not strange


@pytest.mark.parametrize("chapter", sorted(c for c in RECORDED if RECORDED[c]["kind"] == "frames"))
def test_recorded_figures_follow_their_sliders(explorer, chapter):
    """Every control, by keyboard: the picture and its words are those recorded for the setting."""
    page, box = explorer(chapter)
    recorded = RECORDED[chapter]
    sizes = [len(control["values"]) for control in recorded["controls"]]
    chosen = [control["start"] for control in recorded["controls"]]
    for i, control in enumerate(recorded["controls"]):
        if sizes[i] < 2:
            assert box.locator(f"[name={control['name']}]").is_disabled(), "nothing to move, and it seems to"
            continue
        box.locator(f"[name={control['name']}]").focus()
        page.keyboard.press("ArrowLeft" if chosen[i] == sizes[i] - 1 else "ArrowRight")
        chosen[i] += -1 if chosen[i] == sizes[i] - 1 else 1
        place = 0
        for size, value in zip(sizes, chosen):
            place = place * size + value
        frame = recorded["frames"][place]
        assert box.locator("[role=status]").inner_text() == frame["alt"] == box.locator("img").get_attribute("alt")
        if "file" not in frame:                  # a setting that is not possible says why, and the picture stays
            assert frame["alt"].startswith("not possible: ")
            continue
        assert box.locator("img").get_attribute("src").endswith(frame["file"])
        page.wait_for_function("document.querySelector('.explorer img').naturalWidth > 100")


def test_the_grid_of_ablations_is_told_as_the_notebook_tells_it(explorer):
    page, box = explorer("08")
    for axis, points in RECORDED["08"]["axes"].items():
        box.locator("[name=axis]").select_option(axis)
        for i, point in enumerate(points):
            if i:
                box.locator("[name=place]").focus()
                page.keyboard.press("ArrowRight")
            words = ", ".join(f"{metric} {value:.3g}" for metric, value in point["scores"].items())
            assert box.locator("[role=status]").inner_text().startswith(f"{axis}: {point['value']}: {words};")
    assert box.locator("svg.panel").count() == 4 and box.locator(".strip").count() == 2


def test_the_weights_share_the_pull_as_in_the_notebook(explorer):
    from dslib.show import widgets
    page, box = explorer("06")
    norms, weights = RECORDED["06"]["norms"], dict(RECORDED["06"]["start"])
    assert box.locator("[role=status]").inner_text() == widgets.weights_figure(norms, weights)[1]
    for term, value in (("img", 0.67), ("hfmse", 4.0), ("hf", 0.0)):
        box.locator(f"[name={term}]").fill(str(value))
        weights[term] = value
        assert box.locator("[role=status]").inner_text() == widgets.weights_figure(norms, weights)[1]


def test_the_plane_trains_in_the_page(explorer):
    page, box = explorer("02b")
    box.locator("[name=steps]").fill("100")
    page.wait_for_function("JSON.parse(document.querySelector('.explorer').dataset.scores || '{}').copies !== undefined", timeout=120_000)
    few = json.loads(box.get_attribute("data-scores"))
    assert "DomainStudio, λ = 0.3, 100 steps" in box.locator("[role=status]").inner_text()
    box.locator("[name=steps]").fill("0")
    page.wait_for_function("document.querySelector('.explorer [role=status]').textContent.includes('λ = 0.3, 0 steps')", timeout=120_000)
    none = json.loads(box.get_attribute("data-scores"))
    assert none["on_ring"] < 0.05 < few["on_ring"] and none["turned"] < 1 < few["turned"]
    canvas = box.locator("canvas")
    assert canvas.is_visible() and canvas.get_attribute("aria-label") == box.locator("[role=status]").inner_text()
