"""Studies: load or run, damaged files, and the memorisation curve on a tiny source."""

import json
import math

import pytest
import torch
from conftest import make_images, make_source

from dslib import data, metrics, models, train
from dslib.env import UserError
from dslib.study import memorisation

ROWS = [{"seed": 0, "step": 0, "nearest": 0.5, "intra": None}, {"seed": 0, "step": 9, "nearest": 0.25, "intra": 0.1}]


@pytest.fixture(scope="module")
def source():
    return make_source(32)


@pytest.fixture(scope="module")
def images():
    return make_images(4, 32)


@pytest.fixture(scope="module")
def held_out():
    return make_images(12, 32, seed=5)


# ------------------------------------------------------------------------------------------ load or run

def test_it_runs_once_and_then_loads(tmp_path):
    path, calls = tmp_path / "new" / "study.json", []
    first = memorisation.load_or_run(path, lambda: calls.append(1) or ROWS)
    assert memorisation.load_or_run(path, lambda: calls.append(1) or ROWS) == first == ROWS
    assert len(calls) == 1
    assert [p.name for p in path.parent.iterdir()] == ["study.json"]
    assert len(path.read_text().splitlines()) == len(ROWS) + 2


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"[1, 2]", b'[{"a": 1}, {"b": 2}]', b"\xff\xfe", b"null"])
def test_a_damaged_file_is_named_with_the_mend_and_kept(tmp_path, content):
    path = tmp_path / "study.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"study\.json .*delete it"):
        memorisation.load_or_run(path, lambda: pytest.fail("ran although there is a file"))
    assert path.read_bytes() == content


def test_a_folder_in_its_place_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        memorisation.load_or_run(tmp_path, list)


def test_a_failed_run_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError):
        memorisation.load_or_run(tmp_path / "study.json", lambda: 1 / 0)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_still_comes_back(tmp_path, monkeypatch, capsys):
    def refuse(path, content):
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(memorisation, "write_atomic", refuse)
    assert memorisation.load_or_run(tmp_path / "study.json", lambda: ROWS) == ROWS
    assert "could not be written (Permission denied)" in capsys.readouterr().err


def test_nan_never_reaches_a_file(tmp_path):
    memorisation.save(tmp_path / "study.json", [{"seed": 0, "nearest": math.nan}])
    assert memorisation.load(tmp_path / "study.json") == [{"seed": 0, "nearest": None}]


def test_by_seed_makes_one_row_a_seed_and_nan_of_gaps():
    rows = [*ROWS, {"seed": 4, "step": 9, "nearest": 0.75, "intra": 0.2}]
    steps, nearest = memorisation.by_seed(rows, "nearest")
    assert steps == [0, 9]
    assert nearest.shape == (2, 2) and nearest[0].tolist() == [0.5, 0.25]
    assert nearest[1].isnan().tolist() == [True, False]
    assert memorisation.by_seed(rows, "intra")[1].isnan().tolist() == [[True, False], [True, False]]


# ------------------------------------------------------------------------------------------ scores

def test_copies_of_the_training_images_are_found_out(images, held_out):
    nearest_real = metrics.nearest_lpips(held_out, images)
    copied = memorisation.score(images[[0, 0, 1, 1, 1]], images, nearest_real)
    assert copied["nearest"] == pytest.approx(0, abs=1e-5) and copied["intra"] == pytest.approx(0, abs=1e-5)
    assert (copied["copies"], copied["covered"]) == (1.0, 2)
    honest = memorisation.score(held_out, images, nearest_real)
    assert honest["nearest"] > 0.01 and honest["copies"] == pytest.approx(1 / 12)


def test_too_few_samples_for_a_pair_give_no_intra_lpips(images, held_out):
    assert memorisation.score(images[:2], images, metrics.nearest_lpips(held_out, images))["intra"] is None


# ------------------------------------------------------------------------------------------ memorisation

def run(source, images, held_out, **options):
    return memorisation.memorisation(source, images, held_out, num_images=3, inference_steps=2, **options)


def test_a_row_a_step_and_the_source_untouched(source, images, held_out):
    before = [p.clone() for p in source.unet.parameters()]
    rows = run(source, images, held_out, seed=1, steps_at=[2, 0, 1, 2])
    assert [(row["seed"], row["step"], row["images"], row["method"]) for row in rows] == [(1, s, 3, "finetune") for s in (0, 1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(before, source.unet.parameters()))
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert rows[0]["nearest"] != rows[2]["nearest"]


def test_the_last_row_is_that_of_a_run_without_looks(source, images, held_out):
    assert run(source, images, held_out, steps_at=[0, 1, 2])[-1] == run(source, images, held_out, steps_at=[2])[-1]
    seeds = [run(source, images, held_out, seed=seed, steps_at=[2])[0]["nearest"] for seed in (0, 1)]
    assert seeds[0] != seeds[1]


def test_it_scores_the_averaged_model_of_that_step(source, images, held_out):
    from dslib import sample
    (row,) = run(source, images, held_out, steps_at=[2])
    record = list(train.adapt(source, images, train.TrainConfig(method="finetune", max_train_steps=2)))[-1]
    drawn = sample.sample(record.averaged(), source.scheduler, sample.start_noise(3, 32, 100), 2)
    assert row["nearest"] == pytest.approx(float(metrics.nearest_lpips(drawn, images).mean()), abs=1e-6)


@pytest.mark.parametrize("options, words", [
    ({"steps_at": []}, "give the steps"), ({"steps_at": [-1, 2]}, "0 or more"),
    ({"steps_at": [0, 2], "method": "scratch"}, "leave it out"), ({"steps_at": [2], "method": "magic"}, "--method"),
])
def test_impossible_settings_are_named(source, images, held_out, options, words):
    with pytest.raises(UserError, match=words):
        run(source, images, held_out, **options)


def test_other_methods_run_too(source, images, held_out):
    assert [run(source, images, held_out, steps_at=[1], method=m)[0]["method"] for m in ("scratch", "domainstudio")] == \
        ["scratch", "domainstudio"]


# ------------------------------------------------------------------------------------------ command line

@pytest.fixture
def small(monkeypatch, source, images):
    """The study on a tiny source, without training: rows that say which seed was asked for."""
    asked = []
    monkeypatch.setattr(models, "load_source", lambda path: source)
    monkeypatch.setattr(data, "load_domain", lambda name, split, n=None, resolution=64: data.Domain(images, [], name, split))
    monkeypatch.setattr(memorisation, "memorisation", lambda s, i, h, seed: asked.append(seed) or [{"seed": seed, "step": 0}])
    return asked


def test_main_writes_what_the_chapter_loads(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DSLIB_DATA", str(tmp_path))
    assert memorisation.main(["memorisation", "--seeds", "3", "1", "3"]) == 0
    path = tmp_path / "results" / "03_memorisation.json"
    assert small == [3, 1] and str(path) in capsys.readouterr().out
    assert [row["seed"] for row in memorisation.load_or_run(path, list)] == [3, 1]


def test_main_refuses_to_overwrite_before_it_runs(small, tmp_path, capsys):
    path = tmp_path / "study.json"
    path.write_text("mine")
    assert memorisation.main(["memorisation", "--output", str(path)]) == 2
    assert small == [] and path.read_text() == "mine" and "--overwrite" in capsys.readouterr().err
    assert memorisation.main(["memorisation", "--output", str(path), "--overwrite"]) == 0
    assert small == [0, 1, 2] and len(memorisation.load_or_run(path, list)) == 3


def test_main_names_an_output_that_cannot_be(small, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert memorisation.main(["memorisation", "--output", str(tmp_path / "file" / "study.json")]) == 2
    assert "file" in capsys.readouterr().err and small == []


def test_main_knows_its_studies(capsys):
    with pytest.raises(SystemExit) as stop:
        memorisation.main(["astrology"])
    assert stop.value.code == 2 and "memorisation" in capsys.readouterr().err


def test_source_quality_has_a_row_a_sampler_and_knows_real_from_noise():
    from conftest import make_images, make_source
    real = make_images(12, 32)
    rows = memorisation.source_quality(make_source(32), real, (("ddim", 2), ("ddpm", 3)))
    assert [(row["scheduler"], row["steps"], row["images"]) for row in rows] == [("ddim", 2, 6), ("ddpm", 3, 6)]
    assert all(row["frechet_ratio"] > 1 for row in rows)                  # an untrained network draws nothing like them
    assert rows[0]["real_colour_variance"] == rows[1]["real_colour_variance"] > 0
