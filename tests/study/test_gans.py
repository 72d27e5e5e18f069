"""The GANs by the protocol: the same rows as diffusion models get, people compared by latents, and no score for a collapsed generator."""

import json

import pytest
import torch
from conftest import make_gan
from test_regime import shrink

from dslib.base.errors import UserError
from dslib.gan import adapt, draw
from dslib.gan.folder import save_gan
from dslib.study import __main__ as study
from dslib.study import evidence, gans, regime


def run(folder, source, *more):
    return study.main(["gans", "--folder", str(folder), "--source", str(source), "--num_images", "32", "--stops", "1", "2",
                       "--seeds", "0", "--targets", "engraved", *more])


@pytest.fixture
def source(monkeypatch, tmp_path):
    """A tiny GAN of 32 pixels in a folder, and settings of seconds."""
    shrink(monkeypatch, tmp_path)
    return save_gan(make_gan((8, 8, 8, 8)), tmp_path / "gan")


def test_runs_are_scored_as_those_of_diffusion_models(source, tmp_path):
    assert run(tmp_path / "r", source, "--methods", "tgan", "cdc") == 0
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "r").glob("*.json")}
    assert found.keys() == {"engraved-tgan-0", "engraved-cdc-0", "engraved-real-held-out-0"}
    for name in ("engraved-tgan-0", "engraved-cdc-0"):
        assert [row["step"] for row in found[name]["rows"]] == [1, 2]
        assert all(row[key] is not None for row in found[name]["rows"] for key in ("intra", "copies", "fd", "hit", "own", "twin", "kept"))
    assert found["engraved-real-held-out-0"]["rows"][3]["own"] == 1, "the source's samples are nearest to themselves"
    assert run(tmp_path / "r", source, "--pack", "--output", str(tmp_path / "t.csv")) == 0
    rows = regime.load(tmp_path / "t.csv")
    assert [row["method"] for row in rows[-4:]] == ["tgan", "tgan", "cdc", "cdc"], "in the order of METHODS"
    assert "cdc" in evidence.text(rows, "engraved", evidence.compare(rows, "engraved", "tgan", step=2))


def test_a_run_is_the_librarys_training_drawn_from_the_shared_latents(source, tmp_path):
    ruler = gans.Ruler(gans.Ruler.opened(str(source)), "engraved", 32)
    *_, last = ruler.train({"max_train_steps": 2, "seed": 3, "method": "tgan"})
    *_, same = adapt.adapt(ruler.source, ruler.ten, adapt.GANConfig(max_train_steps=2, seed=3))
    z = draw.latents(32, 8, 100)
    assert torch.equal(ruler.draw(last.averaged()), draw.draw(same.averaged().generator, z))
    assert torch.equal(ruler.drawn, draw.draw(ruler.source.generator, z)) and not torch.equal(ruler.drawn, ruler.draw(last.averaged()))


def test_a_collapsed_generator_has_no_score(source, tmp_path, monkeypatch):
    monkeypatch.setattr(draw, "COLLAPSED", 1e3)
    assert run(tmp_path / "r", source, "--methods", "tgan") == 0
    rows = json.loads((tmp_path / "r" / "engraved-tgan-0.json").read_text())["rows"]
    assert all("nearly one and the same" in row["flaw"] and not row.keys() & set(regime.SCORES) for row in rows)
    assert all(row["fd"] is None for row in regime.pack(tmp_path / "r", gans.METHODS, "gans") if row["method"] == "tgan")


def test_a_diffusion_source_is_refused_and_an_empty_folder_named(source, tmp_path, capsys):
    assert run(tmp_path / "r", tmp_path / "source", "--methods", "tgan") == 2
    assert "diffusion pipeline, not a GAN" in capsys.readouterr().err
    with pytest.raises(UserError, match="dslib.study gans"):
        regime.pack(tmp_path / "none", gans.METHODS, "gans")
