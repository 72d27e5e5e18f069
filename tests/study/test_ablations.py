"""The grid of ablations: every point is what its slider says, runs are shared, resumable and safe."""

import copy
import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from conftest import make_images, make_source

from dslib import data, domainstudio, metrics
from dslib.base.bank import Bank
from dslib.beyond import weights
from dslib.env import UserError
from dslib.study import ablations
from dslib.train import TrainConfig


@pytest.fixture(scope="module")
def ruler():
    """A small one: 32×32 pixels, two denoising steps."""
    return ablations.Ruler(make_source(32), num_images=32, inference_steps=2)


@pytest.fixture
def bank(ruler):
    return Bank(copy.deepcopy(ruler.source.unet).requires_grad_(False).eval())


def test_every_axis_holds_the_default_or_says_what_it_varies():
    names = {f.name for f in fields(TrainConfig)} | {"shots", "balanced"}
    for axis, values in ablations.AXES.items():
        assert len(values) > 1, axis
        for changes in values.values():
            assert set(changes) <= names
            TrainConfig(**{k: v for k, v in changes.items() if k not in ("shots", "balanced")}).check()


def test_points_that_differ_in_steps_alone_are_one_run():
    runs = ablations.runs()
    assert runs["default"] == ({}, [50, 100, 150, 300])
    assert runs["method=finetune"] == ({"method": "finetune"}, [50, 100, 150, 300])
    points = sum(len(values) for values in ablations.AXES.values())
    assert len(runs) < points
    assert all("/" not in name and "|" not in name for name in runs)


def test_a_run_yields_at_its_stops_what_shorter_runs_yield(ruler, bank):
    long = dict((row["steps"], (row, drawn)) for row, drawn in ablations.run(ruler, {}, [1, 3], bank, progress=False))
    (row, drawn), = ablations.run(ruler, {}, [1], bank, progress=False)
    assert sorted(long) == [1, 3] and bank.known == 3
    assert torch.equal(long[1][1], drawn)
    assert {k: v for k, v in long[1][0].items() if k != "seconds"} == {k: v for k, v in row.items() if k != "seconds"}
    assert not torch.equal(long[1][1], long[3][1])


def test_the_ruler_measures_as_the_library_does(ruler):
    images, training = ruler.real, ruler.ten[:3]
    found = ruler.measure(images, training)
    assert found["intra"] == pytest.approx(metrics.intra_lpips(images, ruler.ten).mean, abs=1e-5)
    assert found["nearest"] == found["nearest_real"] == pytest.approx(float(metrics.nearest_lpips(images, training).mean()))
    assert found["fd"] == pytest.approx(metrics.frechet_distance(metrics.pooled_features(images), ruler.reference), rel=1e-3)
    assert found["intra_error"] > 0 and 0 <= found["hit"] <= 1


def test_shots_are_the_ten_and_then_more_of_the_domain():
    ten = data.load_domain("sunglasses", "ten", resolution=32).images
    assert torch.equal(ablations.training_images("sunglasses", 3, 32), ten[:3])
    assert len(ablations.training_images("sunglasses", 12, 32)) == 12


def test_the_balanced_point_of_the_grid_sets_its_weights_itself(ruler, bank, monkeypatch):
    started = []

    def start(*given):
        started.append(given[3])
        return domainstudio.domainstudio(*given)

    monkeypatch.setattr(weights, "balanced", start)
    for changes, times in (({}, 0), ({"balanced": True}, 1)):
        list(ablations.run(ruler, changes | {"shots": 4}, [1], bank, progress=False))
        assert started == [bank] * times


def test_files_come_back_and_a_pack_is_in_the_order_of_the_axes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ablations, "AXES", {"λ2": {"0": {"lambda_img": 0.0}, "0.3": {}},
                                            "steps": {"50": {"max_train_steps": 50}, "default": {}}})
    made = {"default": ({}, [50, ablations.STEPS]), "lambda_img=0.0": ({}, [ablations.STEPS])}
    monkeypatch.setattr(ablations, "runs", lambda axes=ablations.AXES: made)
    thumbs = data.to_uint8(make_images(8, 16)).repeat(2, 1, 1, 1).view(2, 8, 3, 16, 16)
    ablations.write(tmp_path / "default.npz", [{"steps": 50, "fd": 2.0}, {"steps": ablations.STEPS, "fd": 1.0}], thumbs, {"target": "x"})
    grid = ablations.pack(tmp_path)
    found = [(row["axis"], row["value"], row["fd"]) for row in grid.rows]
    assert found == [("λ2", "0.3", 1.0), ("steps", "50", 2.0), ("steps", "default", 1.0)]
    assert "not there yet: λ2 0" in capsys.readouterr().err
    assert torch.equal(grid.thumbs[0], thumbs[1, :ablations.THUMBS])
    ablations.write(tmp_path / "lambda_img=0.0.npz", [{"steps": ablations.STEPS, "fd": 3.0}], thumbs[:1], {"target": "y"})
    with pytest.raises(UserError, match="measured otherwise"):
        ablations.pack(tmp_path)


def test_damaged_missing_and_pickled_files_are_one_line(tmp_path):
    with pytest.raises(UserError, match="no .*grid.npz"):
        ablations.read(tmp_path / "grid.npz")
    (tmp_path / "half.npz").write_bytes(b"PK\x03\x04half")
    with pytest.raises(UserError, match="damaged"):
        ablations.read(tmp_path / "half.npz")
    np.savez(tmp_path / "pickled.npz", pictures=np.array([{}], dtype=object), which=np.zeros(1, int), words=np.zeros(1, np.uint8))
    with pytest.raises(UserError, match="damaged"):
        ablations.read(tmp_path / "pickled.npz")


def test_command_keeps_finished_runs_and_never_overwrites(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(ablations, "runs", lambda axes=None: {"default": ({}, [1]), "seed=1": ({"seed": 1}, [1])})
    monkeypatch.setattr(ablations.models, "load_source", lambda path: make_source(32))
    monkeypatch.setattr(ablations, "Ruler", lambda source: None)
    monkeypatch.setattr(ablations, "ruler_facts", lambda ruler: {})
    monkeypatch.setattr(ablations, "run", lambda ruler, changes, stops, bank: asked.append(changes) or iter(
        [({"steps": 1, "fd": 1.0}, make_images(8, 16))]))
    assert ablations.main(["--folder", str(tmp_path), "--only", "seed"]) == 0
    assert ablations.main(["--folder", str(tmp_path)]) == 0
    assert [changes.get("seed") for changes in asked] == [1, None]
    output = tmp_path / "grid.npz"
    assert ablations.main(["--folder", str(tmp_path), "--pack", "--output", str(output)]) in (0, 2)
    output.write_text("mine")
    capsys.readouterr()
    assert ablations.main(["--folder", str(tmp_path), "--pack", "--output", str(output)]) == 2
    assert "--overwrite" in capsys.readouterr().err and output.read_text() == "mine"
    assert ablations.main(["--folder", str(tmp_path / "empty"), "--pack", "--output", str(tmp_path / "o.npz")]) == 2
    assert "holds no run" in capsys.readouterr().err


def test_the_committed_grid_is_complete():
    grid = ablations.load()
    assert {row["axis"] for row in grid.rows} == set(ablations.AXES)
    assert grid.thumbs.dtype == torch.uint8 and len(grid.thumbs) == len(grid.rows)
    assert grid.facts["split"] != "test"
    json.dumps(grid.rows, allow_nan=False)


def test_new_runs_join_the_grid_that_is_kept_and_its_own_are_not_run_again(tmp_path, monkeypatch):
    """Points added to AXES cost their own runs only."""
    monkeypatch.setattr(ablations, "AXES", {"λ2": {"0": {"lambda_img": 0.0}, "0.3": {}}, "seed": {"0": {}, "1": {"seed": 1}}})
    monkeypatch.setattr(ablations, "runs", lambda axes=None: {"default": ({}, [ablations.STEPS]),
                        "lambda_img=0.0": ({"lambda_img": 0.0}, [ablations.STEPS]), "seed=1": ({"seed": 1}, [ablations.STEPS])})
    thumbs, facts = data.to_uint8(make_images(8, 16))[None], {"target": "x", "real": {"fd": 0.5}}
    old = [{"axis": "λ2", "value": value, "changes": changes, "steps": ablations.STEPS, "fd": fd}
           for value, changes, fd in (("0", {"lambda_img": 0.0}, 3.0), ("0.3", {}, 1.0))]
    kept = ablations.Grid(old, thumbs.repeat(2, 1, 1, 1, 1)[:, :ablations.THUMBS], facts)
    ablations.write(tmp_path / "seed=1.npz", [{"steps": ablations.STEPS, "fd": 2.0}], thumbs, facts | {"real": {"fd": 0.5004}})
    grid = ablations.pack(tmp_path, kept)
    assert [(row["axis"], row["value"], row["fd"]) for row in grid.rows] == [
        ("λ2", "0", 3.0), ("λ2", "0.3", 1.0), ("seed", "0", 1.0), ("seed", "1", 2.0)]
    asked = []
    monkeypatch.setattr(ablations.models, "load_source", lambda path: asked.append(path))
    ablations.work(tmp_path, kept=kept)
    assert asked == []                                   # nothing is left to do
    with pytest.raises(AttributeError):                  # a run of another source is another run
        ablations.work(tmp_path / "other", kept=grid, source="else")
    assert asked == ["else"]
    ablations.write(tmp_path / "seed=1.npz", [{"steps": ablations.STEPS, "fd": 2.0}], thumbs, facts | {"real": {"fd": 0.51}})
    with pytest.raises(UserError, match="measured otherwise"):
        ablations.pack(tmp_path, kept)
