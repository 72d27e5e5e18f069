"""The course in JupyterLab, in a real browser: chapters run, sliders change pictures, nothing is red.

Needs Chromium (Debian's ``chromium`` package, or ``playwright install chromium``); skipped where there is none. Screenshots go to
``$DSLIB_SCREENSHOTS``, if set, for people to look at.
"""

import contextlib
import io
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import browsing
import nbformat
import numpy as np
import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update",
         "--disable-sync"]
BARS = """window.bars = 0;
new MutationObserver(() => { window.bars = Math.max(window.bars, document.querySelectorAll('.widget-hprogress').length); })
    .observe(document, {childList: true, subtree: true});"""
PROMPTS = "[...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].map(prompt => prompt.textContent.trim())"
ERRORS = ", ".join(f'.jp-RenderedText[data-mime-type="application/vnd.jupyter.{kind}"]' for kind in ("error", "stderr"))


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    with browsing.chromium(*FLAGS) as chromium:
        yield chromium


def copy_without_outputs(folder: Path) -> Path:
    """README, data and notebooks, so that whatever is seen there was run there."""
    for name in ("README.md", "Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    for name in ("dslib", "data", ".lab"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "notebooks").mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, folder / "notebooks" / path.name)
    return folder


@pytest.fixture(scope="module")
def lab(tmp_path_factory, browser):
    """The address of a JupyterLab started as `make lab` does, in a copy of the course. The settings make it draw every cell."""
    course, own = copy_without_outputs(tmp_path_factory.mktemp("course")), tmp_path_factory.mktemp("own")
    setting = own / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    setting.parent.mkdir(parents=True)
    setting.write_text('{"windowingMode": "none"}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    recipe = subprocess.run(["make", "-s", "-n", "-C", course, "lab", f"BIN={Path(sys.executable).parent}"], capture_output=True, text=True,
                            check=True).stdout.splitlines()
    command = next(line for line in recipe if "jupyter lab" in line)
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--IdentityProvider.token=",
               "--ServerApp.disable_check_xsrf=True"]
    variables = {name: value for name, value in os.environ.items() if name != "TQDM_DISABLE"} | {
        "PYTHONPATH": str(course), "DSLIB_TIER": "smoke", "JUPYTERLAB_SETTINGS_DIR": str(own / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces"), "JUPYTER_CONFIG_DIR": str(own / "config"),
        "JUPYTER_DATA_DIR": str(own / "data")}
    with open(own / "log", "w") as log:
        server = subprocess.Popen([*shlex.split(command), *options], cwd=course, env=variables, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: urllib.request.urlopen(f"{address}/api", timeout=5).status == 200, 60, lambda: (own / "log").read_text())
        yield address
    finally:
        server.terminate()
        try:
            server.wait(timeout=20)
        except subprocess.TimeoutExpired:
            server.kill()


def wait_for(condition, seconds: float, otherwise) -> None:
    """Until condition() is true; connection errors count as not yet. Fails with otherwise()."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if condition():
                return
        time.sleep(0.2)
    pytest.fail(otherwise())


@pytest.fixture
def page(browser, lab):
    """A new tab, and no kernel left behind."""
    tab = browser.new_page(viewport={"width": 1400, "height": 1000})
    tab.set_default_navigation_timeout(120_000)         # a busy machine serves slowly
    tab.add_init_script(BARS)
    yield tab
    tab.close()
    for kernel in json.load(urllib.request.urlopen(f"{lab}/api/kernels")):
        urllib.request.urlopen(urllib.request.Request(f"{lab}/api/kernels/{kernel['id']}", method="DELETE"))


def picture(page, name: str) -> None:
    """A screenshot for people."""
    if folder := os.environ.get("DSLIB_SCREENSHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png")


def answered(page) -> bool:
    """Take the kernel that JupyterLab proposes where it asks for one, as it may on a busy machine. Always false."""
    choice = page.locator(".jp-Dialog .jp-mod-accept")
    if choice.count():
        choice.first.click()
    return False


def begun(page, seconds: float) -> bool:
    """Whether a cell runs or has run, within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not answered(page) and page.evaluate(f"{PROMPTS}.some(prompt => prompt != '[ ]:')"):
            return True
        time.sleep(0.2)
    return False


def run_all(page, lab: str, chapter: str) -> None:
    """Open a chapter, choose Run ▸ Run All Cells as a reader does, wait until every cell has a number; fail where one is red."""
    page.goto(f"{lab}/lab/tree/notebooks/{chapter}.ipynb?reset")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
    page.wait_for_selector('.jp-NotebookPanel .jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=60_000)
    for _ in range(4):              # on a busy machine JupyterLab may drop the first wish, asking for a kernel instead
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        if begun(page, 20):
            break
    wait_for(lambda: answered(page) or page.locator(ERRORS).count() or page.evaluate(
        f"{PROMPTS}.every(prompt => /^\\[\\d+\\]:$/.test(prompt))"), 400,
             lambda: f"{chapter} did not finish: {page.evaluate(PROMPTS)}")
    red = page.locator(ERRORS).all_inner_texts()
    assert not red, f"red in {chapter}: {red[0][-2000:]}"


def pixels(locator) -> np.ndarray:
    """What the browser shows of an element, (H,W,3)."""
    return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB")).astype(int)


def differ(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two pictures differ in at least one pixel of a hundred, by more than a shade."""
    return one.shape != other.shape or bool((abs(one - other).max(axis=2) > 16).mean() > 0.01)


def drag(page, handle, by: int) -> None:
    """Take a slider's handle, move it by so many pixels, let go."""
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + by, y, steps=5)
    page.mouse.up()


def test_make_lab_opens_at_the_rendered_readme(page, lab):
    page.goto(lab)
    page.wait_for_selector(".jp-MarkdownViewer h1", timeout=60_000)
    shown = page.locator(".jp-MarkdownViewer")
    assert "DomainStudio" in shown.locator("h1").first.inner_text()
    image = shown.locator("img").first
    wait_for(lambda: image.evaluate("image => image.complete && image.naturalWidth > 0"), 20, lambda: "the README's picture does not load")
    picture(page, "readme")
    shown.get_by_role("link", name="05 Haar bands").click()
    page.wait_for_selector(".jp-NotebookPanel .jp-Notebook", timeout=60_000)


def test_the_tour_runs_and_shows_its_progress(page, lab):
    run_all(page, lab, "00_tour")
    assert page.evaluate("window.bars") > 0, "no progress bar was ever on the page"
    cell = page.locator(".jp-CodeCell", has_text="train.adapt(source, ten.images, config)").first
    bars = cell.locator(".widget-hprogress .progress-bar")
    assert bars.count() == 2 and "2/2" in cell.locator(".jp-OutputArea").first.inner_text()
    cell.scroll_into_view_if_needed()
    picture(page, "00_tour")


def open_a_question(page) -> None:
    """The chapter's questions, by keyboard: an answer unfolds, its formulas render, its sketch is there."""
    quiz = page.locator("section.quiz")
    answer = quiz.locator("fieldset").nth(1).locator("details.holds")
    answer.locator("summary").focus()
    page.keyboard.press("Enter")
    wait_for(lambda: answer.locator("p").is_visible(), 10, lambda: "the answer does not unfold")
    wait_for(lambda: answer.locator("mjx-container").count(), 20, lambda: f"no formula: {answer.inner_text()}")
    assert quiz.locator("fieldset").count() == 5 and quiz.locator("img").evaluate("image => image.naturalWidth") > 0
    assert "$" not in quiz.inner_text()
    picture(page, "questions")


@pytest.mark.parametrize("chapter, by", [("04_pairwise_similarity", 60), ("05_haar_bands", 150)])
def test_sliders_change_the_picture(page, lab, chapter, by):
    run_all(page, lab, chapter)
    cell = page.locator(".jp-CodeCell:has(.widget-slider)").last
    handle, shown = cell.locator(".noUi-handle").first, cell.locator(".jp-OutputArea img")
    assert shown.count() == 1, "a figure stands there before anything is moved"
    before = pixels(shown.first)
    drag(page, handle, by)
    wait_for(lambda: shown.count() == 2, 30, lambda: f"{chapter}: the slider was moved and nothing was drawn: {cell.inner_text()[-500:]}")
    first, source = pixels(shown.last), shown.last.get_attribute("src")
    assert differ(before, first), f"{chapter}: the slider was moved and the picture is the same"
    picture(page, f"{chapter}-moved")
    drag(page, handle, -by // 2)
    wait_for(lambda: shown.last.get_attribute("src") != source, 30, lambda: f"{chapter}: the second move changed nothing")
    assert differ(first, pixels(shown.last)) and shown.count() == 2
    assert page.locator(ERRORS).count() == 0 and "not possible" not in cell.inner_text()
    shown.last.scroll_into_view_if_needed()
    picture(page, f"{chapter}-moved-back")
    if page.locator("section.quiz img").count():
        open_a_question(page)
