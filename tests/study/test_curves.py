"""Curves over steps: what a run yields is kept once, and early stopping is read off a curve correctly."""

from dataclasses import fields

import pytest
import torch
from conftest import make_source

from dslib import data
from dslib.env import UserError
from dslib.study import ablations, curves
from dslib.train import TrainConfig


def row(step, hit, method="finetune", seed=0, target="sketches", **scores):
    row = {"target": target, "method": method, "seed": seed, "step": step, "num_images": 64}
    return row | dict.fromkeys(curves.LATER_METRICS, 0.0) | {"intra": 0.3, "nearest": 0.2, "fd": 1.0, "hit": hit} | scores


def test_methods_name_settings_and_the_default_is_one_of_them():
    names = {f.name for f in fields(TrainConfig)}
    assert curves.METHODS["DomainStudio"] == {}
    for changes in curves.METHODS.values():
        assert set(changes) <= names
        TrainConfig(**changes).check()


def test_a_run_is_trained_once_and_scored_at_every_stop(tmp_path, monkeypatch):
    """On a small source: the rows are those of the library's own run, and a second call trains nothing."""
    monkeypatch.setattr(curves.models, "load_source", lambda path: make_source(32))
    runs = [("sketches", "DomainStudio", 1), ("sketches", "without L_hf", 1)]
    curves.work(tmp_path, runs, stops=(1, 2), num_images=32, inference_steps=2)
    rows = curves.pack(tmp_path, [])
    assert [(r["method"], r["seed"], r["step"]) for r in rows] == [
        (curves.REAL, 0, 0), ("DomainStudio", 1, 1), ("DomainStudio", 1, 2), ("without L_hf", 1, 1), ("without L_hf", 1, 2)]
    ruler = ablations.Ruler(make_source(32), "sketches", 32, 2, "test")
    for method, changes in (("DomainStudio", {}), ("without L_hf", {"lambda_hf": 0.0})):
        bank = ablations.Bank(ruler.source.unet)             # a fresh one: a bank that answered for another seed would show
        found = [scores for scores, _ in ablations.run(ruler, changes | {"seed": 1}, [1, 2], bank, progress=False)]
        for mine, theirs in zip([r for r in rows if r["method"] == method], found, strict=True):
            assert all(mine[metric] == pytest.approx(theirs[metric], abs=1e-3) for metric in ("intra", "nearest", "fd", "hit"))
            assert mine["num_images"] == 32 and 0 <= mine["copies"] <= 1
    assert curves.sheet(tmp_path / "sketches-DomainStudio-1.png", 32).shape == (1, curves.PICTURES, 3, 32, 32)
    monkeypatch.setattr(curves.models, "load_source", lambda path: pytest.fail("there was nothing to do"))
    curves.work(tmp_path, runs)


def test_what_is_kept_wins_over_the_folder_and_the_order_is_that_of_the_methods(tmp_path):
    curves.write(tmp_path / "b.csv", [row(75, 0.9)])
    curves.write(tmp_path / "a.csv", [row(75, 0.1, "DomainStudio")])
    kept = [row(75, 0.5)]
    assert [(r["method"], r["hit"]) for r in curves.pack(tmp_path, kept)] == [("finetune", 0.5), ("DomainStudio", 0.1)]
    with pytest.raises(UserError, match="holds no run"):
        curves.pack(tmp_path / "empty", [])
    with pytest.raises(UserError, match="a.csv was scored on 64 images, others on 1000"):
        curves.pack(tmp_path, [row(75, 0.5, num_images=1000)])


def test_files_read_back_as_they_were_written(tmp_path):
    rows = [row(75, 0.25, "finetune, mirrored", seed=3, kd=-0.0012), row(150, 0.5, recall=None)]
    curves.write(tmp_path / "x.csv", rows)
    assert curves.read(tmp_path / "x.csv") == rows
    images = torch.randint(0, 256, (3, 6, 3, 64, 64), dtype=torch.uint8)
    (tmp_path / "x.png").write_bytes(curves.png(images))
    assert torch.equal(curves.sheet(tmp_path / "x.png"), images)


def test_stopping_early_is_read_between_two_stops():
    way = [row(100, 0.2, nearest=0.4), row(200, 0.6, nearest=0.3), row(300, 0.6), row(400, 0.9, nearest=0.1)]
    found = curves.stopped_at_hit(way, 0.5)
    assert found["step"] == pytest.approx(175) and found["nearest"] == pytest.approx(0.325) and found["hit"] == pytest.approx(0.5)
    assert curves.stopped_at_hit(way, 0.6)["step"] == pytest.approx(200)
    assert curves.stopped_at_hit(way, 0.1)["step"] == 100           # there at the first stop already
    assert curves.stopped_at_hit(way, 0.95) is None


def test_a_curve_is_mean_and_spread_over_seeds():
    rows = [row(75, 0.2), row(75, 0.4, seed=1), row(150, 0.5), row(75, 0.9, "DomainStudio")]
    mean, spread = pytest.approx(0.3), pytest.approx(0.1414, abs=1e-4)
    assert curves.curve(rows, "sketches", "finetune", "hit") == [(75, mean, spread), (150, 0.5, None)]
    assert curves.curve(rows, "robots", "finetune", "hit") == []


def test_the_command_skips_what_its_output_holds(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(curves, "work", lambda folder, runs, source, stops, num_images: asked.extend(runs))
    output = tmp_path / "curves.csv"
    curves.write(output, [row(300, 0.5)])
    options = ["--folder", str(tmp_path / "runs"), "--output", str(output)]
    assert curves.main([*options, "--targets", "sketches", "--methods", "finetune", "DomainStudio", "--seeds", "0"]) == 0
    assert asked == [("sketches", "DomainStudio", 0)]
    curves.write(tmp_path / "runs" / "x.csv", [row(300, 0.7, "DomainStudio")])
    assert curves.main([*options, "--pack"]) == 0
    assert [r["method"] for r in curves.read(output)] == ["finetune", "DomainStudio"]
    (tmp_path / "runs" / "y.csv").write_text("half")
    assert curves.main([*options, "--pack"]) == 2
    told = capsys.readouterr().err
    assert "y.csv" in told and len(told.splitlines()) == 1
    assert len(curves.read(output)) == 2


@pytest.mark.parametrize("options", [["--num_images", "1000"], ["--stops", "10"], ["--source", "somewhere"]])
def test_other_settings_do_not_join_the_committed_runs(options, monkeypatch, capsys):
    monkeypatch.setattr(curves, "work", lambda *_, **__: pytest.fail("nothing may be trained"))
    assert curves.main(options) == 2
    assert "08_curves.csv holds runs of other settings: choose another --output" in capsys.readouterr().err


def test_a_thousand_samples_are_committed_with_pictures_of_every_domain():
    rows, pictures = curves.load("08_thousand.csv"), curves.pictures()
    assert {row["num_images"] for row in rows} == {1000}
    for target in data.TARGETS:
        for method in curves.MAIN:
            assert any((r["target"], r["method"], r["seed"], r["step"]) == (target, method, 0, 600) for r in rows)
            assert pictures[target, method].shape == (curves.PICTURES, 3, 64, 64)
        assert not torch.equal(pictures[target, "finetune"], pictures[target, "DomainStudio"])


def test_the_committed_curves_hold_every_domain_from_three_seeds():
    rows = curves.load()
    for target in data.TARGETS:
        for method in ("finetune", "DomainStudio", "without L_hf"):
            seeds = {r["seed"] for r in rows if r["target"] == target and r["method"] == method}
            assert len(seeds) >= 3, (target, method)
        assert any(r["method"] == curves.REAL and r["hit"] > 0.95 for r in rows if r["target"] == target)
    for run in curves.known(row for row in rows if row["method"] != curves.REAL):
        steps = [r["step"] for r in rows if (r["target"], r["method"], r["seed"]) == run]
        assert steps == list(curves.stops_of(*run[:2]))[:max(len(steps), len(curves.STOPS))], run


def test_a_table_is_the_end_of_every_way():
    rows = [row(0, 1.0, curves.REAL), row(75, 0.1), row(300, 0.8, kd=None), row(300, 0.6, seed=1), row(300, 0.5, "DomainStudio")]
    found = {r["method"]: r for r in curves.table(rows)}
    assert found["finetune"]["seeds"] == 2 and found["finetune"]["hit"] == (pytest.approx(0.7), pytest.approx(0.1414, abs=1e-4))
    assert found["finetune"]["kd"] is None and found["finetune"]["recall"] == (0.0, 0.0)
    assert found["DomainStudio"]["hit"] == (0.5, None) and found[curves.REAL]["hit"] == (1.0, None)


def test_a_method_meets_naive_fine_tuning_where_it_is_as_far():
    """Hand-made: at 60 % hits the naive run is 0.04 from real in Intra-LPIPS, the method 0.01."""
    naive = [row(100, 0.4, intra=0.38, nearest=0.30, fd=2.0), row(200, 0.8, intra=0.30, nearest=0.20, fd=4.0)]
    mine = [row(100, 0.1, "DomainStudio", intra=0.9), row(200, 0.6, "DomainStudio", intra=0.31, nearest=0.21, fd=2.5)]
    others = [row(200, 0.6, "DomainStudio", seed=1), row(200, 0.99, "DomainStudio", seed=2), row(200, 0.5, seed=2),
              row(200, 0.6, "DomainStudio", seed=3), row(100, 0.7, seed=3), row(200, 0.9, seed=3)]    # naive is past it from the start
    real = row(0, 1.0, curves.REAL, intra=0.30, nearest=0.22, fd=0.1)
    (one,) = curves.against_early_stopping([real, *naive, *mine, *others], "sketches", step=200)
    assert (one["seed"], one["hit"], one["step"]) == (0, 0.6, pytest.approx(150))
    assert one["mine"] == {"intra": pytest.approx(0.01), "nearest": pytest.approx(0.01), "fd": 2.5}
    assert one["further"] is False                       # nearest-LPIPS 0.21 against 0.25
    assert one["naive"] == {"intra": pytest.approx(0.04), "nearest": pytest.approx(0.03), "fd": pytest.approx(3.0)}
