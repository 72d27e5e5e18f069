"""The protocol: a file a run, nothing twice, other sources kept apart, and a table that is read back as it was written."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from conftest import make_images, make_source

from dslib import data, sample, train
from dslib.base.errors import UserError
from dslib.models import save_pipeline
from dslib.study import __main__ as study
from dslib.study import claim, curves, regime


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Settings of :func:`shrink`, and a source that a test may change."""
    return shrink(monkeypatch, tmp_path)


def shrink(monkeypatch, folder):
    """A study of seconds: a tiny source of 32 pixels, images that nobody draws, two steps of sampling."""
    def load_domain(name, split, n=None, resolution=64, workers=1):
        return data.Domain(make_images(n or 10, resolution, len(name) + len(split)), [], name, split)
    monkeypatch.setattr(data, "load_domain", load_domain)
    monkeypatch.setattr(regime, "domain_probe", lambda *_: lambda images: images.mean((1, 2, 3)) > 0)
    for name, value in {"GOALS": 64, "REFERENCE": 20, "INFERENCE_STEPS": 2, "UNTIL": {"naive": (500,)}, "PICTURES": 3}.items():
        monkeypatch.setattr(regime, name, value)
    source = make_source(32)
    return save_pipeline(source.unet, source.scheduler, folder / "source")


def run(folder, source, *more):
    return study.main(["regime", "--folder", str(folder), "--source", str(source), "--num_images", "32", "--stops", "1", "2",
                       "--seeds", "0", "--targets", "engraved", "--option", "num_anchors", "10", *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regime")
    with pytest.MonkeyPatch.context() as patch:
        assert run(folder / "r", shrink(patch, folder), "--methods", "naive", "anchored, no L_hf") == 0
    return folder / "r"


@pytest.fixture
def done(small, finished, tmp_path):
    """A study of two methods that has run."""
    return Path(shutil.copytree(finished, tmp_path / "r"))


def test_a_run_leaves_rows_of_every_stop_and_way_of_drawing(done):
    runs = {json.loads(path.read_text())["method"]: json.loads(path.read_text()) for path in done.glob("*.json")}
    assert runs.keys() == {"real, held out", "naive", "anchored, no L_hf"}
    assert [(row["step"], row["until"]) for row in runs["naive"]["rows"]] == [(1, None), (1, 500), (2, None), (2, 500)]
    assert [(row["step"], row["until"]) for row in runs["anchored, no L_hf"]["rows"]] == [(1, None), (2, None)]
    assert all(row[key] is not None for row in runs["naive"]["rows"] for key in ("intra", "copies", "fd", "hit", "own", "twin", "kept"))
    names = [row["name"] for row in runs["real, held out"]["rows"]]
    assert names == ["real, held out 0", "real, held out 1", "source pictures", "source samples", "the true answer"]
    assert runs["real, held out"]["rows"][-1]["kept"] == 1 and runs["real, held out"]["rows"][3]["own"] == 1
    assert curves.sheet(done / "engraved-naive-0.png", 32).shape == (4, 3, 3, 32, 32)
    assert curves.sheet(done / "engraved-real-held-out-0.png", 32).shape == (2, 3, 3, 32, 32), "source samples and their true answers"
    assert all(len(row["nearest_ten"]) == len(row["copied"]) == 3 for row in runs["naive"]["rows"])


@pytest.mark.parametrize("method, seed, until", [("naive", 0, None), ("naive", 0, 500), ("naive", 1, None), ("anchored, no L_hf", 0, None)])
def test_a_runs_pictures_are_those_of_its_method_seed_and_way_of_drawing(done, small, method, seed, until):
    """Drawn again from the library's functions alone, after two hot steps: every method, seed and t_0 draws something else."""
    hot = ("--option", "learning_rate", "0.05")
    assert run(done.parent / "hot", small, "--methods", method, "--seeds", str(seed), *hot) == 0
    source, ten = regime.models.load_source(str(small)), data.load_domain("engraved", "ten", resolution=32).images
    settings = {"max_train_steps": 2, "seed": seed, "num_anchors": 10, "learning_rate": 0.05} | (
        {"method": "finetune"} if method == "naive" else {"pairwise_on": "source", "lambda_img": 1.0, "lambda_hf": 0.0})
    *_, last = train.adapt(source, ten, train.TrainConfig(**settings))
    drawn = sample.sample(last.averaged(), source.scheduler, sample.start_noise(32, 32, 100, 3), 2, "dpmsolver",
                          source=source if until else None, source_until=until)
    strip = curves.sheet(regime.path_of(done.parent / "hot", "engraved", method, seed).with_suffix(".png"), 32)
    assert torch.equal(strip[-1 if until or method != "naive" else -2], data.to_uint8(drawn[:3]))


def test_what_is_there_is_not_made_again_and_a_damaged_file_is(done, small, monkeypatch):
    before = {path: path.read_bytes() for path in done.iterdir()}
    monkeypatch.setattr(regime.models, "load_source", lambda *_: pytest.fail("a source was opened"))
    assert run(done, small, "--methods", "naive") == 0 and {path: path.read_bytes() for path in done.iterdir()} == before


def test_a_half_written_run_is_named(done, small, capsys):
    (done / "engraved-naive-0.json").write_text('{"source": "x", "rows": [')
    assert run(done, small, "--methods", "naive") == 2
    assert "engraved-naive-0.json is no run of this study" in capsys.readouterr().err


def test_another_source_is_refused(done, small, capsys):
    other = make_source(32)
    with torch.no_grad():
        next(other.unet.parameters()).add_(1)
    save_pipeline(other.unet, other.scheduler, small)
    assert run(done, small, "--methods", "published") == 2
    assert "its source is" in capsys.readouterr().err
    assert run(done, small, "--methods", "published", "--split", "validation") == 2


def test_the_table_is_read_back_as_it_was_written(done, tmp_path):
    assert run(done, tmp_path, "--pack", "--output", str(tmp_path / "t.csv")) == 0
    rows = regime.load(tmp_path / "t.csv")
    assert rows == regime.pack(done) and len(rows) == 11
    assert [row["method"] for row in rows[:5]][-1] == "the true answer" and rows[-1]["until"] is None


@pytest.mark.parametrize("more, words", [
    (["--num_images", "8"], "--num_images is 8"), (["--stops", "0"], "--stops holds 0"),
    (["--option", "lambda_x", "1"], "--option lambda_x"), (["--option", "lambda_img", "-1"], "lambda_img"),
    (["--option", "pairwise_on", "moon"], "pairwise_on")])
def test_bad_options_are_named(small, tmp_path, more, words, capsys):
    assert run(tmp_path / "r", small, *more) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("content", [None, "", "a,b\n1,2\n", ",".join(regime.COLUMNS) + "\n"])
def test_a_damaged_table_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "t.csv").write_text(content)
    with pytest.raises(UserError, match=r"t\.csv cannot be read .*--pack"):
        regime.load(tmp_path / "t.csv")


def test_every_method_is_a_setting_that_the_library_knows():
    for name, changes in regime.METHODS.items():
        assert regime.train.TrainConfig(**changes).check().method in ("finetune", "domainstudio", "scratch"), name
    assert set(regime.MAIN) | set(regime.UNTIL) <= regime.METHODS.keys()


def named(monkeypatch, *more, **asked):
    """What :func:`claim.figure` would show."""
    seen = {}
    monkeypatch.setattr(claim.hero, "figure", lambda ten, rows, columns, more: seen.update(rows))
    claim.figure(*more, **asked)
    return seen


def test_the_claims_picture_shows_the_rows_that_were_asked_for(done, small, monkeypatch):
    rows = named(monkeypatch, done, "engraved", [("naive", None), ("naive", 500), ("anchored, no L_hf", None)], step=2)
    run = json.loads((done / "engraved-naive-0.json").read_text())["rows"]
    assert list(rows) == ["source", "the true answer", "naive fine-tuning\n2 steps", "naive fine-tuning,\nsource for t > 500\n2 steps",
                          "anchored, no L_hf\n2 steps"]
    strip = curves.sheet(done / "engraved-naive-0.png", 32)
    for name, i in (("naive fine-tuning\n2 steps", 2), ("naive fine-tuning,\nsource for t > 500\n2 steps", 3)):
        assert torch.equal(data.to_uint8(rows[name].images), strip[i])
        assert rows[name].nearest.tolist() == run[i]["nearest_ten"] and rows[name].copied.int().tolist() == run[i]["copied"]
        assert rows[name].note == f"{run[i]['copies']:.0%} copies\n{run[i]['hit']:.0%} in the domain"
    assert torch.equal(data.to_uint8(rows["the true answer"].images), curves.sheet(done / "engraved-real-held-out-0.png", 32)[1])


def test_the_most_typical_seed_is_shown_and_the_percentages_are_of_all(done, small, monkeypatch):
    """Seed 0 frames none of its pictures but has 40 % copies, seed 1 frames half of them and has as many."""
    first = json.loads((done / "engraved-naive-0.json").read_text())
    shutil.copy(done / "engraved-naive-0.png", done / "engraved-naive-1.png")
    for seed, framed, copies in ((0, [0] * 12, 0.4), (1, [1, 0] * 6, 0.5)):
        rows = [row | {"copied": framed, "copies": copies, "hit": 1.0} for row in first["rows"]]
        (done / f"engraved-naive-{seed}.json").write_text(json.dumps(first | {"seed": seed, "rows": rows}))
    assert claim.typical(done, "engraved", [("naive", None)], 2, None) == 1
    row = named(monkeypatch, done, "engraved", [("naive", None)], step=2)["naive fine-tuning\n2 steps"]
    assert row.copied.int().tolist() == [1, 0] * 6 and row.note == "45% copies\n100% in the domain"
    row = named(monkeypatch, done, "engraved", [("naive", None)], seed=0, step=2)["naive fine-tuning\n2 steps"]
    assert not row.copied.any() and row.note == "45% copies\n100% in the domain"


def test_at_equal_hit_the_first_stop_that_reaches_it_is_shown(done, small, monkeypatch):
    path = done / "engraved-naive-0.json"
    run = json.loads(path.read_text())
    for row, hit in zip(run["rows"], (0.5, 0.9, 0.9, 0.95)):
        row["hit"] = hit
    path.write_text(json.dumps(run))
    assert "naive fine-tuning\n2 steps" in named(monkeypatch, done, "engraved", [("naive", None)], hit=0.9)
    assert "naive fine-tuning\n1 steps" in named(monkeypatch, done, "engraved", [("naive", None)], hit=0.4)
    with pytest.raises(UserError, match="no row with 99% hits"):
        claim.figure(done, "engraved", [("naive", None)], hit=0.99)


def test_the_claim_is_written_and_what_is_missing_is_named(done, small, tmp_path, capsys):
    ask = ["claim", "--folder", str(done), "--output", str(tmp_path / "claim.png"), "--step", "1", "--rows"]
    assert study.main([*ask, "naive"]) == 0 and (tmp_path / "claim.png").stat().st_size > 1000
    capsys.readouterr()
    (done / "engraved-naive-0.png").unlink()
    for rows, words in ((["naive"], "engraved-naive-0.png is missing"), (["published"], "engraved-published-0.json is missing"),
                        (["naive/x"], "--rows naive/x"), (["nobody"], "--rows nobody")):
        assert study.main([*ask, *rows]) == 2 and words in capsys.readouterr().err, rows
