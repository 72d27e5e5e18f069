"""What the chapters say about the code is so: equations have functions and tests, ledger rows have cells."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import jupytext
import pytest
import torch
from conftest import make_images

import dslib
from dslib import checks, ddpm, domainstudio, haar, losses, metrics, pretrain, sample, train
from dslib.base import variants
from dslib.beyond import attribute, patch, video, weights
from dslib.gan import cdc, dcl
from dslib.measure import membership, twin_scores
from dslib.plane import plane
from dslib.study import ablations
from dslib.text import latent, text_to_image

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "notebooks" / "src").glob("*.py"))
ROW = re.compile(r"^\| \((\d+b?\.\d+)\) \| `([\w.]+)[^`|]*`(?:, (in this notebook))? \| `(\w+\.py)::(\w+)` \|$", re.M)
MODULES = {module.__name__.split(".")[-1]: module for module in
           (ablations, attribute, cdc, checks, dcl, ddpm, domainstudio, haar, losses, membership, metrics, patch, plane, pretrain, sample,
            latent, text_to_image, train, twin_scores, variants, video, weights)}


@pytest.fixture(params=SOURCES, ids=lambda p: p.stem)
def chapter(request):
    return jupytext.read(request.param)


def text(chapter) -> str:
    return "\n\n".join(c.source for c in chapter.cells if c.cell_type == "markdown")


def code(chapter) -> str:
    return "\n\n".join(c.source for c in chapter.cells if c.cell_type == "code")


def test_every_displayed_equation_is_numbered_and_listed(chapter):
    displayed = re.findall(r"\$\$.*?\$\$", text(chapter), re.S)
    numbers = [re.search(r"\\tag\{(\d+b?\.\d+)\}\$\$$", equation) for equation in displayed]
    assert displayed and all(numbers), "give every displayed equation a \\tag{chapter.number}"
    listed = [row[0] for row in ROW.findall(text(chapter))]
    assert [m.group(1) for m in numbers] == list(dict.fromkeys(listed))


def test_every_equation_points_to_a_function_and_a_test(chapter):
    for number, function, where, file, test in ROW.findall(text(chapter)):
        if where:
            assert re.search(rf"^(def|class) {function}\b", code(chapter), re.M), f"({number}): no {function} in a cell"
        else:
            module, name = function.split(".")
            assert callable(getattr(MODULES[module], name)), f"({number}): no {function} in {dslib.__name__}"
        tests = {node.name for node in ast.parse(next((ROOT / "tests").rglob(file)).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert test in tests, f"({number}): no {test} in {file}"


def test_every_row_of_the_ledger_is_shown_by_a_cell():
    tags = {tag for path in SOURCES for c in jupytext.read(path).cells if c.cell_type == "code" for tag in c.metadata.get("tags", [])}
    assert {tag for tag in tags if tag.startswith("ledger")} == {f"ledger-{row}" for row in range(1, 10)}


def test_no_other_guess_beats_the_copyist():
    """Equation (3.1), the very class of chapter 03: no change of its guess lowers L_simple on average over the noise."""
    cell = next(c.source for c in jupytext.read(next(p for p in SOURCES if p.stem.startswith("03"))).cells if "class Copyist" in c.source)
    a_bar, images = ddpm.alphas_cumprod(ddpm.linear_betas()), make_images(4, 8).double()
    known = {"torch": torch, "SimpleNamespace": SimpleNamespace, "a_bar": a_bar.double()}
    exec(cell[cell.index("class Copyist"):], known)
    copyist, t = known["Copyist"](images), 700
    generator = torch.Generator().manual_seed(0)
    x_0 = images.repeat(2000, 1, 1, 1)
    eps = torch.randn(x_0.shape, generator=generator, dtype=torch.float64)
    x_t = ddpm.q_sample(x_0, torch.full((len(x_0),), t), eps, a_bar.double())
    guess, v = copyist(x_t, t).sample, ddpm.velocity(x_0, eps, torch.full((len(x_0),), t), a_bar.double())
    least = (guess - v).square().mean()
    assert 0 < least < v.var()
    for other in (guess * 0.97, guess * 1.03, guess + 0.03, guess.lerp(v.mean(), 0.03), guess.lerp(x_t, 0.03)):
        assert (other - v).square().mean() > least
