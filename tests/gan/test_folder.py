"""A GAN in a folder: whole, small, no pickle; and what else a folder may be."""

import json

import pytest
import torch
from conftest import make_gan, make_source
from safetensors.torch import load_file, save_file

from dslib import UserError, models
from dslib.gan import draw, folder
from dslib.gan.adapt import METHODS
from dslib.gan.networks import Pair


def test_what_is_saved_is_read_again(tmp_path):
    pair, z = make_gan(), draw.latents(3, 8)
    again = folder.load_gan(folder.save_gan(pair, tmp_path / "a", half=False))
    assert torch.equal(draw.draw(again.generator, z), draw.draw(pair.generator, z))
    half = folder.load_gan(folder.save_gan(pair, tmp_path / "b"))
    assert next(half.parameters()).dtype == torch.float32 and not any(p.requires_grad for p in half.parameters())
    torch.testing.assert_close(draw.draw(half.generator, z), draw.draw(pair.generator, z), atol=2e-2, rtol=0)
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["config.json", "gan.safetensors"]


def test_the_shipped_size_takes_at_most_six_megabytes(tmp_path):
    saved = folder.save_gan(Pair(), tmp_path)
    assert sum(p.stat().st_size for p in saved.iterdir()) < 6e6


def test_what_a_method_trained_beside_the_players_is_left_out(tmp_path):
    pair = make_gan()
    pair.patch = torch.nn.Linear(2, 2)
    folder.save_gan(pair, tmp_path)
    assert not [name for name in load_file(tmp_path / folder.WEIGHTS) if "patch" in name]
    folder.load_gan(tmp_path)


def broken(tmp_path, what):
    made = folder.save_gan(make_gan(), tmp_path / "gan", half=False)
    weights, config = made / folder.WEIGHTS, made / "config.json"
    content = json.loads(config.read_text())
    if what == "cut off":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif what == "no config":
        config.unlink()
    elif what == "not JSON":
        config.write_text("{")
    elif what in ("other sizes", "absurd sizes", "words for sizes"):
        channels = {"other sizes": [8, 8, 8], "absurd sizes": [10**9, 8, 8], "words for sizes": ["a", 8, 8]}[what]
        config.write_text(json.dumps(content | {"channels": channels}))
    elif what == "NaN":
        save_file({name: value * float("nan") for name, value in load_file(weights).items()}, weights)
    return made


@pytest.mark.parametrize("what", ["cut off", "no config", "not JSON", "other sizes", "absurd sizes", "words for sizes", "NaN"])
def test_damaged_folders_are_one_line(tmp_path, what):
    with pytest.raises(UserError, match="train") as caught:
        folder.load_gan(broken(tmp_path, what))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["network.pkl", "stylegan.pt", "g.pth", "model.bin", "g.ckpt"])
def test_pickled_generators_are_refused_unopened(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x80\x04")
    for given in (tmp_path / name, tmp_path):
        with pytest.raises(UserError, match=f"{name} is a pickle, which can run code when opened: refused"):
            folder.load_gan(given)


def test_other_folders_say_what_they_are(tmp_path, monkeypatch):
    pipe = make_source()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(UserError, match="holds a diffusion pipeline, not a GAN: use dslib adapt-t2i"):
        folder.load_gan(tmp_path / "text")
    models.save_pipeline(pipe.unet, pipe.scheduler, tmp_path / "ddpm")
    with pytest.raises(UserError, match="holds a diffusion pipeline, not a GAN: use --method finetune or domainstudio"):
        folder.load_gan(tmp_path / "ddpm")
    folder.save_gan(make_gan(), tmp_path / "gan")
    methods = ", ".join(METHODS).replace(", dcl", " or dcl")
    with pytest.raises(UserError, match=f"holds a GAN, not a diffusion pipeline: .*--method {methods}"):
        models.load_source(tmp_path / "gan")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no gan.safetensors"):
        folder.load_gan(tmp_path / "empty")
    with pytest.raises(UserError, match="no folder .*nowhere"):
        folder.load_gan(tmp_path / "nowhere")
    monkeypatch.setenv("DSLIB_DATA", str(tmp_path / "empty"))
    with pytest.raises(UserError, match="no source GAN in .*dslib pretrain-gan"):
        folder.load_gan()


def test_a_folder_that_was_being_written_is_no_gan(tmp_path, monkeypatch):
    folder.save_gan(make_gan(), tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(folder, "write_atomic", full)
    with pytest.raises(OSError):
        folder.save_gan(make_gan(seed=2), tmp_path)
    with pytest.raises(UserError, match="no config.json: it was not written to its end"):
        folder.load_gan(tmp_path)


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(UserError, match="--resolution 64 and 3 --channels do not fit: these draw 16 pixels"):
        folder.new_pair(64, (8, 8, 8))
    assert folder.new_pair(16, (8, 8, 8), 4).resolution == 16
