"""dslib export: the browser's numbers are PyTorch's, in onnxruntime, in node where there is one, and in Chromium; and the page's manners.

The runtime comes from npm's registry, once; without a network the browser's tests are skipped and say so.
"""

import json
import re
import shutil
from pathlib import Path

import browsing
import pytest
import torch
from conftest import make_images, make_source

from dslib import UserError, data, models, sample
from dslib.base.pixels import to_uint8
from dslib.cli import main

pytest.importorskip("onnx", reason="pip install -e '.[web]'")
pytest.importorskip("onnxscript", reason="pip install -e '.[web]'")
pytest.importorskip("onnxruntime", reason="pip install -e '.[web]'")
from dslib.web import export, onnx_file, runtime  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]


def pipeline(seed: int, prediction: str = "epsilon"):
    """A random source of 16 pixels."""
    pipe = make_source(seed=seed)
    pipe.scheduler = models.new_scheduler(prediction)
    return pipe


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two run folders of one source: the second has metrics.json that names its training images."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("source", 1), ("mine", 2)):
        pipe = pipeline(seed)
        models.save_pipeline(pipe.unet, pipe.scheduler, folder / name, half=True)   # random weights magnify rounding
    (folder / "ten").mkdir()
    data.write_images(folder / "ten", make_images(3, 16))
    (folder / "mine" / "metrics.json").write_text(json.dumps({"target": "ten", "train_data_dir": str(folder / "ten")}))
    return folder


@pytest.fixture(scope="module")
def web(runs, tmp_path_factory):
    """Both models with scripts, runtime (if it can be had) and page."""
    out = tmp_path_factory.mktemp("web")
    places = [{"folder": str(runs / name), "title": name, "about": "random weights."} for name in ("source", "mine")]
    export.write_models(places, out)
    export.write_scripts(out)
    try:
        export.write_runtime(out, ROOT / "build")
    except UserError as error:
        (out / "no-runtime").write_text(str(error))
    (out / "index.html").write_text((export.PAGE / "index.html").read_text().replace("FRAGMENT", export.fragment("")), "utf-8")
    return out


def test_the_file_draws_what_pytorch_draws_and_tells_nothing_of_this_machine(web, runs):
    found = json.loads((web / "parity.json").read_text())
    assert set(found) == {"source", "mine"} and all(len(report["answers"]) == 20 for report in found.values())
    content = (web / "mine.onnx").read_bytes()
    assert str(ROOT).encode() not in content and b"site-packages" not in content
    pipe = models.load_source(runs / "mine")
    noise = sample.start_noise(3, 16, seed=5)
    want = sample.sample(pipe.unet, pipe.scheduler, noise, 20, "ddim")
    *_, link = sample.chain(onnx_file.Session(content, pipe.unet), pipe.scheduler, noise, 20, "ddim")
    assert (link.x_t.clamp(-1, 1) - want).abs().max() < export.TOLERANCE
    assert len(content) < 0.7 * sum(p.numel() * 4 for p in pipe.unet.parameters())


def test_other_weights_than_the_files_are_refused(web):
    other = pipeline(3)
    found = onnx_file.parity(other.unet, other.scheduler, (web / "mine.onnx").read_bytes(), n=1)
    with pytest.raises(UserError, match="does not draw what PyTorch draws.*add --float32"):
        export.check_parity(found, "mine", float32=False)


def test_what_cannot_be_exported_is_told_in_a_line(runs, tmp_path, capsys):
    def said(*words) -> str:
        assert main(["export", *map(str, words)]) == 2
        return capsys.readouterr().err

    (tmp_path / "empty").mkdir()
    assert "holds no finished model" in said(tmp_path / "empty", "--output_dir", tmp_path / "a")
    text = tmp_path / "text"
    text.mkdir()
    (text / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    assert "text-to-image" in said(text, "--output_dir", tmp_path / "a")
    shutil.copytree(runs / "mine", tmp_path / "classes")
    config = tmp_path / "classes" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_class_embeds": 10}))
    assert "class-conditional" in said(tmp_path / "classes", "--output_dir", tmp_path / "a")
    assert "--title" in said(runs / "mine", runs / "mine", "--output_dir", tmp_path / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    assert "add --overwrite" in said(runs / "mine", "--output_dir", tmp_path / "full")
    assert not (tmp_path / "a").exists() and (tmp_path / "full" / "x").read_text() == "mine"


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(UserError, match=r"needs onnxscript: pip install 'dslib\[web\]'"):
        onnx_file.check_packages()


def test_a_runtime_that_is_not_the_tested_one_is_refused(tmp_path, monkeypatch):
    other = tmp_path / runtime.PACKAGE / "-"
    other.mkdir(parents=True)
    (other / f"{runtime.PACKAGE}-{runtime.VERSION}.tgz").write_bytes(b"something else")
    monkeypatch.setenv("npm_config_registry", tmp_path.as_uri())
    with pytest.raises(UserError, match="SHA-512 differs"):
        runtime.files(tmp_path / "cache")
    monkeypatch.setenv("npm_config_registry", (tmp_path / "nowhere").as_uri())
    with pytest.raises(UserError, match="connect once"):
        runtime.files(tmp_path / "cache")
    monkeypatch.delenv("npm_config_registry")
    monkeypatch.delenv("NPM_CONFIG_REGISTRY", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="install npm, or set npm_config_registry"):
        runtime.files(tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_copy_is_nearer_than_nineteen_of_twenty_real_pictures():
    """The limit, by a loop: the real pictures' distances to the nearest of the ten, and the one that a twentieth are under."""
    images, real = data.load_domain("engraved", "ten", resolution=16).images, data.load_domain("engraved", "test", 40, 16).images
    nearest = sorted(min(float((one - other).square().mean().sqrt()) for other in images) for one in real)
    limit = export.copy_limit(images, real)
    assert nearest[1] <= limit <= nearest[2] and sum(one < limit for one in nearest) == 2
    assert export.copy_limit(images, images) == pytest.approx(0, abs=2e-3)


# ---------------------------------------------------------------------- in a browser

@pytest.fixture(scope="module")
def browser():
    with browsing.chromium() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def served(web):
    """The exported folder on a loopback port: its address."""
    if (web / "no-runtime").exists():
        pytest.skip((web / "no-runtime").read_text())

    with browsing.served_folder(web) as address:
        yield address


DONE = "() => document.querySelector('.try-status').textContent.startsWith('Done')"
FACE = """id => { const c = document.querySelector(`#face-${id} .try-face`);
    return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data] }"""


def opened(browser, served, query: str = ""):
    """(a tab at the page, ready; what its console said in red, advice about the test's own reading of canvases aside)."""
    page, red = browser.new_page(), []
    page.on("console", lambda message: red.append(message.text)
            if message.type in ("error", "warning") and "willReadFrequently" not in message.text else None)
    page.on("pageerror", lambda error: red.append(str(error)))
    page.goto(f"{served}/index.html{query}")
    page.wait_for_selector("#try[data-ready]")
    return page, red


def face(page, model: str) -> torch.Tensor:
    """The canvas as (3,16,16) numbers from 0 to 255."""
    return torch.tensor(page.evaluate(FACE, model)).view(16, 16, 4)[..., :3].permute(2, 0, 1).float()


def change(page, name: str, value: str) -> None:
    """Set a control as a hand does, and wait until all is drawn."""
    page.evaluate("""([name, value]) => { const field = document.querySelector(`#try [name=${name}]`);
        if (field.closest('.try-controls')) document.querySelector('.try-status').textContent = '';
        field.value = value; field.dispatchEvent(new Event('input', {bubbles: true})) }""", [name, value])
    page.wait_for_timeout(50)
    page.wait_for_function(f"() => document.querySelector('#try [name={name}]').closest('.try-look') || ({DONE})()", timeout=120_000)


def test_the_page_draws_pytorchs_face_and_every_control_changes_it(browser, served, runs):
    page, red = opened(browser, served, "?seed=3&colour=red&step=99")
    assert "colour=red" in page.inner_text(".try-status") and "step=99" in page.inner_text(".try-status")
    assert page.evaluate("performance.getEntriesByType('paint').find(p => p.name === 'first-contentful-paint').startTime") < 2000
    assert not page.evaluate("performance.getEntriesByType('resource').filter(r => /onnx$|wasm$/.test(r.name)).length")
    page.get_by_role("button", name="Draw").click()
    page.wait_for_function(DONE, timeout=120_000)
    source, mine = (models.load_source(runs / name) for name in ("source", "mine"))
    noise = sample.start_noise(1, 16, seed=3)

    def differs(want: torch.Tensor, model: str = "mine") -> float:
        return float((face(page, model) - to_uint8(want)[0].float()).abs().max())

    assert differs(sample.sample(mine.unet, mine.scheduler, noise, 20, "dpmsolver")) <= 4
    assert differs(sample.sample(source.unet, source.scheduler, noise, 20, "dpmsolver"), "source") <= 4
    assert re.search(r"training image [123], the nearest", page.inner_text("#face-mine")) and page.locator(".try-near").count() == 1
    page.context.set_offline(True)
    seen = [face(page, "mine")]
    for name, value in (("sampler", "ddim"), ("until", "500"), ("steps", "10"), ("blend", "0.4"), ("other", "8"), ("seed", "4"),
                        ("step", "3"), ("show", "x_t")):
        change(page, name, value)
        seen.append(face(page, "mine"))
        assert not torch.equal(seen[-1], seen[-2]), f"{name} changed nothing"
        if name == "until":
            assert differs(sample.sample(mine.unet, mine.scheduler, noise, 20, "ddim", source=source, source_until=500)) <= 4
    assert "seed=4" in page.url and "until=500" in page.url and red == []
    page.locator("[name=model-mine]").uncheck()
    page.wait_for_function("() => !document.querySelector('#face-mine')")
    page.close()


@pytest.mark.parametrize("limit, copy", [(1.9, True), (0.001, False), (None, False)])
def test_a_copy_is_framed_where_it_is_known_what_a_copy_is(browser, served, web, limit, copy):
    known = json.loads((web / "models.json").read_text())
    next(model for model in known["models"] if model["id"] == "mine")["nearest"]["limit"] = limit
    context = browser.new_context()
    context.route(re.compile(r"models\.json$"), lambda route: route.fulfill(json=known))
    page = context.new_page()
    page.goto(f"{served}/index.html?models=source,mine&steps=10")
    page.wait_for_selector("#try[data-ready]")
    page.get_by_role("button", name="Draw").click()
    page.wait_for_function(DONE, timeout=120_000)
    words = page.inner_text("#face-mine")
    assert page.locator("#face-mine .try-copy").count() == copy and words.endswith(": a copy.") == copy
    assert (f"95 % are at least {limit:.2f} away" in words if limit else "95 %" not in words) and "finished" in words
    assert not page.locator("#face-source .try-copy").count() and "pixels" not in page.inner_text("#face-source")
    context.close()


def test_on_a_phone_the_button_brings_the_faces_into_view(browser, served):
    page = browser.new_page(viewport={"width": 390, "height": 700})
    page.goto(f"{served}/index.html?models=mine&steps=10")
    page.wait_for_selector("#try[data-ready]")
    page.get_by_role("button", name="Draw").click()
    page.wait_for_function(DONE, timeout=120_000)
    page.wait_for_function("() => { const at = document.querySelector('.try-face').getBoundingClientRect();"
                           " return at.top >= 0 && at.bottom <= innerHeight }", timeout=10_000)
    page.close()


def test_cancel_and_the_keyboard(browser, served):
    page, red = opened(browser, served, "?steps=50&models=mine")
    page.locator("[name=seed]").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('.try-status').textContent.startsWith('Drawing')", timeout=120_000)
    page.keyboard.press("Escape")
    assert page.inner_text(".try-status") == "Cancelled." and page.locator("[name=cancel]").is_disabled()
    page.wait_for_timeout(300)
    assert page.inner_text(".try-status") == "Cancelled." and red == []
    page.close()


def alarm_after_draw(browser, served, pattern: str, answer) -> str:
    """What the page says in red where a file is not what it should be. answer(route) replaces what the server would say."""
    context = browser.new_context()
    context.route(re.compile(pattern), answer)
    page = context.new_page()
    page.goto(f"{served}/index.html?models=mine")
    page.wait_for_selector("#try[data-ready]")
    page.get_by_role("button", name="Draw").click()
    page.wait_for_selector(".try-alert:visible", timeout=60_000)
    text = page.inner_text(".try-alert")
    context.close()
    return text


def test_files_that_are_missing_cut_short_or_blocked_are_told(browser, served):
    assert "is cut short" in alarm_after_draw(browser, served, r"mine\.onnx$", lambda route: route.fulfill(body=b"half"))
    assert "answers 404" in alarm_after_draw(browser, served, r"mine\.onnx$", lambda route: route.fulfill(status=404))
    assert "WebAssembly runtime cannot be loaded" in alarm_after_draw(browser, served, r"\.wasm$", lambda route: route.abort())
    assert "onnxruntime is missing" in alarm_after_draw(browser, served, r"ort\.wasm\.min\.js$", lambda route: route.abort())


def test_a_page_opened_as_a_file_says_how_to_serve_it(browser, web):
    page = browser.new_page()
    page.goto((web / "index.html").as_uri())
    page.wait_for_selector(".try-alert:visible")
    assert "python3 -m http.server" in page.inner_text(".try-alert") and page.get_by_role("button", name="Draw").is_disabled()
    page.close()
