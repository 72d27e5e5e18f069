"""Wishes: a file a run, nothing twice, scores where the answer is known, a table that is read back as it was written, and strips."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import make_images, make_source

from dslib import data, domainstudio
from dslib.base.errors import UserError
from dslib.beyond import attribute
from dslib.models import save_pipeline
from dslib.study import __main__ as study
from dslib.study import curves, wishes

LABELS = ({"accessories": "kurt"}, {"accessories": "round"})
WISH = "glasses=sunglasses"


def shrink(monkeypatch, folder):
    """A study of seconds: a tiny source of 32 pixels, sunglasses are a dark bar, probes of few steps and pictures."""
    def load_domain(name, split, n=None, resolution=64, workers=1):
        images = make_images(n, resolution, len(split)) * 0.3 + 0.3
        images[::2, :, 8:16] = -1
        return data.Domain(images, [LABELS[i % 2] for i in range(n)], name, split)
    monkeypatch.setattr(data, "load_domain", load_domain)
    monkeypatch.setattr(domainstudio, "draw_anchors", lambda source, n, config: make_images(n, 32, 7)[:, None])
    train_probe, judge, familiar = attribute.train_probe, attribute.judge, attribute.familiar
    monkeypatch.setattr(attribute, "train_probe", lambda source, wish, robust: train_probe(source, wish, robust, pictures=40, steps=30))
    monkeypatch.setattr(attribute, "judge", lambda wish, size: judge(wish, size, 40))
    monkeypatch.setattr(attribute, "familiar", lambda size: familiar(size, 20))
    for name, value in {"REAL": 24, "ANCHORS": 6, "INFERENCE_STEPS": 2, "PICTURES": 3}.items():
        monkeypatch.setattr(wishes, name, value)
    source = make_source(32)
    return save_pipeline(source.unet, source.scheduler, folder / "source")


def run(folder, source, *more):
    return study.main(["wish", "--folder", str(folder), "--source", str(source), "--num_images", "12", "--steps", "2", "--seeds", "0",
                       "--wishes", WISH, *more])


@pytest.fixture
def small(monkeypatch, tmp_path):
    return shrink(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wishes")
    with pytest.MonkeyPatch.context() as patch:
        variants = "pixels", "pushed", "distilled, robust probe"
        assert run(folder / "r", shrink(patch, folder), "--seeds", "0", "1", "--variants", *variants) == 0
    return folder / "r"


@pytest.fixture
def done(small, finished, tmp_path):
    return Path(shutil.copytree(finished, tmp_path / "r"))


def test_a_file_a_run_and_pixels_have_no_seed(done):
    assert {path.stem for path in done.glob("*.json")} == {f"glasses-sunglasses-{name}" for name in (
        "goals-0", "pixels-0", "pushed-0", "pushed-1", "distilled-robust-probe-0", "distilled-robust-probe-1")}
    row, = json.loads((done / "glasses-sunglasses-pushed-0.json").read_text())["rows"]
    assert all(row[key] is not None for key in wishes.SCORES) and row["step"] == 2


def test_floor_and_ceiling_are_where_they_must_be(done):
    rows = {row["variant"]: row for row in json.loads((done / "glasses-sunglasses-goals-0.json").read_text())["rows"]}
    assert list(rows) == list(wishes.GOALS)
    assert rows["real, with it"]["judge"] == rows["real, with it"]["probe"] == 1 and rows["real, without it"]["judge"] == 0
    assert rows["source samples"]["own"] == 1 and rows["source samples"]["img"] == 0 and rows["real, with it"]["own"] is None


def test_scores_of_known_pictures(small):
    ruler = wishes.Ruler(torch.zeros(20, 1), make_images(20, 32), torch.zeros(1), {False: attribute.Probe(WISH, torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 1)), 1.0, False)},
        lambda images: torch.arange(len(images)) < 10, lambda images: torch.arange(len(images)) % 2 == 0)
    scores = wishes.scores_of(ruler.drawn, ruler, False)
    assert (scores["judge"], scores["face"], scores["shown"], scores["own"]) == (0.5, 0.5, 0.25, 1)
    turned = wishes.scores_of(ruler.drawn.roll(1, 0), ruler, False)
    assert turned["own"] == 0 and turned["img"] > 0 and turned["spread"] == pytest.approx(scores["spread"], abs=1e-4)


def test_what_is_there_is_not_made_again_and_another_source_is_refused(done, small, monkeypatch, capsys):
    other = make_source(32)
    with torch.no_grad():
        next(other.unet.parameters()).add_(1)
    save_pipeline(other.unet, other.scheduler, small)
    assert run(done, small, "--variants", "pairwise") == 2
    assert "its source is" in capsys.readouterr().err
    monkeypatch.setattr(wishes.models, "load_source", lambda *_: pytest.fail("a source was opened"))
    assert run(done, small, "--variants", "pushed") == 0


def test_a_run_is_the_librarys_training_of_its_variant(done, small):
    """Drawn again from the library's functions alone."""
    source = wishes.models.load_source(str(small))
    ruler = wishes.ruler_of(source, WISH, wishes.samples_of(source, 12))
    run = wishes.grid.Run(done / "x", {"variant": "distilled, robust probe"}, 1, (2,))
    config = wishes.train.TrainConfig(max_train_steps=2, seed=1, learning_rate=1e-4, mixed_precision="bf16", lambda_img=0.0, lambda_hf=0.0,
                                      lambda_distill=10.0)
    *_, last = attribute.adapt(source, ruler.probes[True], config, ruler.anchors)
    drawn = wishes.draw(last.averaged(), source.scheduler, ruler.noise)
    assert torch.equal(drawn, wishes.made(run, source, ruler))
    assert torch.equal(data.to_uint8(drawn[:3]), curves.sheet(done / "glasses-sunglasses-distilled-robust-probe-1.png", 32)[0])


def test_table_and_strip(done, small, tmp_path):
    assert run(done, small, "--pack", "--output", str(tmp_path / "t.csv")) == 0
    rows = wishes.load(tmp_path / "t.csv")
    assert rows == wishes.pack(done)
    assert [row["variant"] for row in rows] == [*wishes.GOALS, "pixels", *["pushed"] * 2, *["distilled, robust probe"] * 2]
    assert curves.sheet(tmp_path / "wish-glasses-sunglasses.png", 32).shape == (4, 3, 3, 32, 32), "written in fewer colours"
    strip = wishes.strip(done, WISH, 32)
    assert strip.shape == (4, 3, 3, 32, 32), "source samples, pixels, pushed, distilled"
    assert torch.equal(strip[2], curves.sheet(done / "glasses-sunglasses-pushed-0.png", 32)[0])


@pytest.mark.parametrize("more, words", [(["--steps", "0"], "--steps is 0"), (["--num_images", "3"], "--num_images is 3"),
                                         (["--wishes", "hat=red"], "unknown attribute 'hat'"),
                                         (["--wishes", "glasses=eyepatch"], "0 of 40 pictures show")])
def test_bad_options_are_named(small, tmp_path, more, words, capsys):
    assert run(tmp_path / "r", small, *more) == 2
    assert words in capsys.readouterr().err


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"t\.csv cannot be read .*--pack"):
        wishes.load(tmp_path / "t.csv")
    with pytest.raises(UserError, match="holds no run"):
        wishes.pack(tmp_path / "none")
