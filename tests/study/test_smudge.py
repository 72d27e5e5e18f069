"""Copies counted again after everything was blurred alike."""

import json

import pytest
import torch
from conftest import make_images

from dslib import data
from dslib.base.errors import UserError
from dslib.base.statistics import copy_rate
from dslib.study import claim, regime, smudge
from dslib.study.__main__ import main
from dslib.study.curves import png


def test_a_blur_keeps_the_mean_takes_detail_and_zero_leaves_all_as_it_is():
    images = make_images(3, 32)
    assert smudge.blur(images, 0) is images
    soft = smudge.blur(images, 1.5)
    assert soft.shape == images.shape and float((soft.mean() - images.mean()).abs()) < 0.05
    assert float((soft[..., 1:] - soft[..., :-1]).square().mean()) < 0.2 * float((images[..., 1:] - images[..., :-1]).square().mean())


def copies(images, ten, real, sigma):
    return copy_rate(smudge.nearest(images, ten, sigma), smudge.nearest(real, ten, sigma))


def test_smudged_copies_are_found_again_and_strangers_stay_strangers():
    """Blurred copies pass for new pictures; blurred alike with their originals, they do not."""
    ten = data.load_domain("engraved", "ten").images
    real, strangers = data.load_domain("engraved", "test", 80).images.split(40)
    smudged = smudge.blur(ten, 0.8)
    assert copies(ten, ten, real, 0.0) == 1.0
    assert copies(smudged, ten, real, 0.0) <= 0.2 and copies(smudged, ten, real, 1.5) >= 0.9
    assert copies(strangers, ten, real, 1.5) <= 0.25


@pytest.fixture
def runs(tmp_path):
    """Two seeds of a method, three stops each: the picture of seed s at stop i is grey, of brightness s + i / 10."""
    for seed in (0, 1):
        rows = [{"step": step, "until": until, "hit": 1.0} for step, until in ((1, None), (2, None), (2, 500))]
        path = regime.path_of(tmp_path, "engraved", "naive", seed)
        path.write_text(json.dumps({"target": "engraved", "method": "naive", "seed": seed, "rows": rows}))
        strip = torch.stack([torch.full((regime.PICTURES, 3, 32, 32), seed / 2 + i / 10) for i in range(3)])
        path.with_suffix(".png").write_bytes(png(strip))
    return tmp_path


def test_the_pictures_of_all_seeds_at_the_stop_that_was_asked_for(runs):
    found = smudge.first_pictures(runs, "engraved", "naive", 2, 500)
    assert found.shape == (2 * regime.PICTURES, 3, 32, 32)
    assert found.mean(dim=(1, 2, 3)).reshape(2, -1).mean(1).tolist() == pytest.approx([0.2, 0.7], abs=0.01)
    with pytest.raises(UserError, match="no row after 9 steps"):
        smudge.first_pictures(runs, "engraved", "naive", 9)
    assert claim.seeds_of(runs, "engraved", "naive") == [0, 1]


def test_a_table_has_a_row_a_method_beside_real_images_and_copies(runs, monkeypatch):
    load = smudge.data.load_domain
    monkeypatch.setattr(smudge.data, "load_domain", lambda target, split, n=10, resolution=None: load(target, "ten", resolution=resolution)
                        if split == "ten" else type("Some", (), {"images": make_images(n, resolution)}))
    lines = smudge.table(runs, "engraved", [("naive", 1, None), ("naive", 2, 500)], (0.0, 1.0), num_real=8).splitlines()
    assert lines[0] == "| copies | pictures | as they are | blur of 1 px |"
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == [
        "naive, 1 steps", "naive, source for t > 500, 2 steps", "other real images", "the ten, blurred a little"]


def test_the_limit_is_that_of_the_first_real_images(runs, monkeypatch):
    """Distances are brightness here. The limit lies among the first real images, at 0.5: darker pictures are copies."""
    load, half = smudge.data.load_domain, torch.cat([torch.linspace(0.5, 0.9, 8), torch.linspace(-0.9, -0.5, 8)])
    monkeypatch.setattr(smudge.data, "load_domain", lambda target, split, n=10, resolution=None: load(target, "ten", resolution=resolution)
                        if split == "ten" else type("Some", (), {"images": half.view(16, 1, 1, 1).expand(16, 3, 32, 32)}))
    monkeypatch.setattr(smudge, "nearest", lambda images, ten, sigma: images.mean((1, 2, 3)))
    shares = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[2].removesuffix(" |")
              for line in smudge.table(runs, "engraved", [("naive", 1, None)], (0.0,), num_real=8).splitlines()[2:]}
    assert shares["other real images"] == "100%" and shares["naive, 1 steps"] == "100%"
    monkeypatch.setattr(smudge, "nearest", lambda images, ten, sigma: images.mean((1, 2, 3)) + 2 * (len(images) > 8))
    lines = smudge.table(runs, "engraved", [("naive", 1, None)], (0.0,), num_real=8)
    assert "| naive, 1 steps | 24 | 0% |" in lines


def test_a_missing_run_ends_in_one_line(tmp_path, capsys):
    assert main(["smudge", "--folder", str(tmp_path)]) == 2
    assert "engraved-naive-0.json is missing" in capsys.readouterr().err
