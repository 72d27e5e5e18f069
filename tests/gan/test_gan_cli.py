"""The GANs on the command line: a source, six methods, their report, and every mistake a reader can make."""

import json
import re
from dataclasses import fields

import pytest
import torch
from conftest import make_gan, make_images, make_source
from PIL import Image
from safetensors.torch import load_file

from dslib import data, models
from dslib.cli import commands
from dslib.gan import adapt, draw, folder
from dslib.gan.adapt import GANConfig
from dslib.train import TrainConfig


def run(*args) -> int:
    return commands.main([str(a) for a in args])


def one_line(capsys, *words) -> bool:
    lines = capsys.readouterr().err.strip().splitlines()
    return len(lines) == 1 and lines[0].startswith("dslib: error: ") and all(word in lines[0] for word in words) or pytest.fail(str(lines))


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    return folder.save_gan(make_gan((16, 16, 16, 8)), tmp_path_factory.mktemp("gan"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    where = tmp_path_factory.mktemp("photos")
    for i, pixels in enumerate(data.to_uint8(make_images(4, 40)).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(where / f"{i}.png")
    return where


@pytest.fixture(scope="module")
def arguments(gan, photos):
    return ["adapt", "--source", gan, "--train_data_dir", photos, "--max_train_steps", 3, "--num_images", 6, "--train_batch_size", 5]


@pytest.fixture(scope="module")
def finished(arguments, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs") / "out"
    assert run(*arguments, "--method", "cdc", "--compare_finetune", "--output_dir", output) == 0
    return output


def test_adapt_writes_a_gan_and_the_same_report(finished):
    names = {str(p.relative_to(finished)) for p in finished.rglob("*") if p.is_file()}
    assert {"gan.safetensors", "config.json", "samples.png", "losses.png", "metrics.json", "report.html", "tgan/gan.safetensors"} <= names
    assert not [name for name in names if name.endswith((".part", ".pt", ".pkl"))]
    facts = json.loads((finished / "metrics.json").read_text())
    assert [row["name"] for row in facts["scores"]] == ["source", "tgan", "cdc"] and facts["collapsed"] == {}
    assert facts["step"] == 3 and facts["config"]["method"] == "cdc" and facts["config"]["learning_rate"] == GANConfig().learning_rate
    assert set(facts["diversity"]) == {"source", "tgan", "cdc"} and min(facts["diversity"].values()) > 0


def test_columns_of_the_report_are_the_same_latents(finished, gan):
    z = draw.latents(6, 8, 0)
    source, adapted = (draw.draw(folder.load_gan(where).generator, z) for where in (gan, finished))
    facts = json.loads((finished / "metrics.json").read_text())
    assert facts["diversity"]["source"] == pytest.approx(float(draw.diversity(source)), rel=1e-4)
    assert facts["diversity"]["cdc"] == pytest.approx(float(draw.diversity(adapted)), rel=1e-2)        # saved in float16


@pytest.mark.parametrize("method", adapt.METHODS)
def test_every_method_runs_from_the_command_line(arguments, tmp_path, monkeypatch, method):
    monkeypatch.setattr(commands.gan, "write_results", lambda *_: None)
    assert run(*arguments, "--method", method, "--max_train_steps", 1, "--fisher_samples", 2, "--output_dir", tmp_path / "o") == 0
    assert folder.load_gan(tmp_path / "o").resolution == 32


def test_a_resumed_run_ends_in_the_same_weights(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(commands.gan, "write_results", lambda *_: None)
    common = [*arguments, "--method", "dcl", "--checkpointing_steps", 1]
    assert run(*common, "--output_dir", tmp_path / "whole") == 0
    assert run(*common, "--output_dir", tmp_path / "cut", "--max_train_steps", 2) == 0
    assert run(*common, "--output_dir", tmp_path / "cut", "--resume_from_checkpoint", "latest") == 0
    whole, cut = ((tmp_path / name / "gan.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_an_existing_output_is_kept_unless_overwrite(arguments, finished, tmp_path, monkeypatch, capsys):
    before = (finished / "gan.safetensors").read_bytes()
    assert run(*arguments, "--method", "tgan", "--output_dir", finished) == 2
    assert one_line(capsys, "not empty", "--overwrite") and (finished / "gan.safetensors").read_bytes() == before
    monkeypatch.setattr(commands.gan, "write_results", lambda *_: None)
    output = tmp_path / "o"
    assert run(*arguments, "--method", "cdc", "--checkpointing_steps", 1, "--output_dir", output) == 0
    assert run(*arguments, "--method", "tgan", "--seed", 3, "--overwrite", "--output_dir", output) == 0
    assert not list(output.glob("checkpoint-*")), "of the run before"


def test_sample_and_evaluate_take_a_gan(finished, photos, tmp_path, capsys):
    assert run("sample", finished, "--num_images", 3, "--seed", 5, "--output_dir", tmp_path / "drawn") == 0
    want = data.to_uint8(draw.draw(folder.load_gan(finished).generator, draw.latents(3, 8, 5)))[2].permute(1, 2, 0).numpy()
    with Image.open(tmp_path / "drawn" / "0002.png") as image:
        assert (torch.from_numpy(want) == torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(32, 32, 3)).all()
    assert run("evaluate", finished, "--train_data_dir", photos, "--num_images", 6, "--output", tmp_path / "s.json") == 0
    assert json.loads((tmp_path / "s.json").read_text())["resolution"] == 32
    capsys.readouterr()
    assert run("sample", finished, "--scheduler", "ddim", "--output_dir", tmp_path / "x") == 2
    assert one_line(capsys, "--scheduler", "is of diffusion models", "holds a GAN") and not (tmp_path / "x").exists()


def test_table_knows_a_gans_settings(finished, capsys):
    assert run("table", finished / "metrics.json") == 0
    said = capsys.readouterr()
    assert "| cdc | 3 | 1 |" in said.out and said.err == ""


def test_a_collapsed_generator_is_called_so_everywhere(arguments, tmp_path, monkeypatch, capsys):
    def one_image(source, images, config):
        for record in original(source, images, config):
            with torch.no_grad():
                for linear in record.model.generator.mapping:
                    linear.weight.zero_()
            record.ema.shadow_params = [p.detach().clone() for p in record.model.generator.parameters()]
            yield record
    original = adapt.adapt
    monkeypatch.setattr(adapt, "adapt", one_image)
    assert run(*arguments, "--method", "tgan", "--max_train_steps", 1, "--output_dir", tmp_path / "o") == 0
    said = capsys.readouterr()
    assert "tgan has collapsed, its images are nearly one and the same" in said.err and "| tgan (collapsed) |" in said.out
    facts = json.loads((tmp_path / "o" / "metrics.json").read_text())
    assert "tgan" in facts["collapsed"] and facts["scores"][-1]["name"] == "tgan (collapsed)"
    assert "tgan has collapsed" in (tmp_path / "o" / "report.html").read_text("utf-8")
    photos = arguments[arguments.index("--train_data_dir") + 1]
    assert run("evaluate", tmp_path / "o", "--train_data_dir", photos, "--num_images", 6, "--output", tmp_path / "s.json") == 0
    said = capsys.readouterr()
    assert "o has collapsed" in said.err and "of the training images" in said.err and "| o (collapsed) |" in said.out
    assert "nearly one and the same" in json.loads((tmp_path / "s.json").read_text())["collapsed"]


# ------------------------------------------------------------------------------------------ pretrain-gan

SMALL = ["pretrain-gan", "--num_images", 10, "--resolution", 32, "--channels", 8, 8, 8, 8, "--latent", 8, "--num_graded", 4,
         "--train_batch_size", 2]


def test_pretrain_gan_makes_a_source_that_adapt_accepts(photos, tmp_path, monkeypatch):
    source = tmp_path / "gan"
    assert run(*SMALL, "--max_train_steps", 51, "--checkpointing_steps", 50, "--output_dir", source) == 0
    facts = json.loads((source / "metrics.json").read_text())
    assert facts["frechet_ratio"] > 0 and facts["step"] == 51 and facts["config"]["num_images"] == 10 and facts["diversity"] > 0
    assert (source / "log.csv").read_text().splitlines()[0] == "step,images,loss_generator,learning_rate,seconds,discriminator,diversity"
    assert len((source / "log.csv").read_text().splitlines()) == 2 and (source / "checkpoint-50").is_dir()
    assert all(value.dtype == torch.float16 for value in load_file(source / "gan.safetensors").values())
    monkeypatch.setattr(commands.gan, "write_results", lambda *_: None)
    assert run("adapt", "--method", "cdc", "--source", source, "--train_data_dir", photos, "--max_train_steps", 1, "--output_dir",
               tmp_path / "out") == 0


def test_a_stopped_pretraining_goes_on_where_it_was(tmp_path, monkeypatch):
    monkeypatch.setattr(commands.gan, "grade", lambda *_: None)
    assert run(*SMALL, "--max_train_steps", 4, "--output_dir", tmp_path / "whole") == 0
    assert run(*SMALL, "--max_train_steps", 2, "--checkpointing_steps", 2, "--output_dir", tmp_path / "cut") == 0
    assert run(*SMALL, "--max_train_steps", 4, "--output_dir", tmp_path / "cut", "--resume_from_checkpoint", "latest") == 0
    whole, cut = ((tmp_path / name / "gan.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


BAD = {
    "nothing to train on": (["pretrain-gan", "--num_images", "0"], ["--num_images"]),
    "no steps": (["pretrain-gan", "--max_train_steps", "0"], ["--max_train_steps"]),
    "sizes that do not fit": (["pretrain-gan", "--resolution", "32"], ["--resolution 32", "5 --channels"]),
    "no such augmentation": (["pretrain-gan", "--diffaugment", "blur"], ["--diffaugment", "'blur'"]),
    "diffusion's option": (["adapt", "--method", "cdc", "--source", "{gan}", "--target", "robots", "--lambda_img", "2"], ["--lambda_img"]),
    "diffusion's sampler": (["adapt", "--method", "ewc", "--source", "{gan}", "--target", "robots", "--scheduler", "ddim"],
                            ["--scheduler"]),
    "noise bank": (["adapt", "--method", "ewc", "--source", "{gan}", "--target", "robots", "--bank_steps", "9"], ["--bank_steps"]),
    "a GAN's option": (["adapt", "--method", "finetune", "--target", "robots", "--lambda_cdc", "2"], ["--lambda_cdc", "of GANs"]),
    "a GAN for diffusion": (["adapt", "--method", "finetune", "--source", "{gan}", "--target", "robots"], ["holds a GAN", "--method tgan"]),
    "a GAN by default": (["adapt", "--source", "{gan}", "--target", "robots"], ["holds a GAN", "--method tgan"]),
    "a GAN for text": (["adapt-t2i", "--source", "{gan}", "--target", "portraits"], ["holds a GAN"]),
    "a GAN for pretrain": (["pretrain", "--source", "{gan}"], ["holds a GAN"]),
    "diffusion for a GAN": (["adapt", "--method", "dcl", "--source", "{ddpm}", "--target", "robots"], ["diffusion pipeline", "--method"]),
    "a pickle": (["adapt", "--method", "tgan", "--source", "{tmp}/g.pkl", "--target", "robots"], ["pickle", "refused"]),
    "no source": (["adapt", "--method", "tgan", "--source", "{tmp}/nowhere", "--target", "robots"], ["no folder", "nowhere"]),
    "unknown method": (["adapt", "--method", "stylegan", "--target", "robots"], ["--method is 'stylegan'", "cdc"]),
    "unknown target": (["adapt", "--method", "tgan", "--source", "{gan}", "--target", "robot"], ["did you mean 'robots'"]),
    "too small a batch": (["adapt", "--method", "cdc", "--source", "{gan}", "--target", "robots", "--train_batch_size", "2"],
                          ["--train_batch_size 2", "cdc", "at least 5"]),
    "all frozen": (["adapt", "--method", "freezed", "--source", "{gan}", "--target", "robots", "--frozen_layers", "9"],
                   ["--frozen_layers"]),
    "one image drawn": (["adapt", "--method", "tgan", "--source", "{gan}", "--target", "robots", "--num_images", "1"], ["--num_images"]),
}


@pytest.mark.parametrize("what", BAD)
def test_mistakes_are_one_line_before_anything_is_written(gan, tmp_path, capsys, what):
    given, words = BAD[what]
    (tmp_path / "g.pkl").write_bytes(b"\x80\x04")
    pipe = make_source(32)
    ddpm = models.save_pipeline(pipe.unet, pipe.scheduler, tmp_path / "ddpm") if "{ddpm}" in given else None
    arguments = [word.format(gan=gan, tmp=tmp_path, ddpm=ddpm) for word in given]
    assert run(*arguments, "--output_dir", tmp_path / "out") == 2
    assert one_line(capsys, *words)
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_help_tells_the_two_kinds_apart(capsys):
    with pytest.raises(SystemExit):
        run("adapt", "--help")
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "learning_rate 0.002" in text and all(f"--{f.name}" in text for f in fields(GANConfig) if f.name != "lr_warmup_steps")
    assert f"--learning_rate LEARNING_RATE AdamW's step size (default: {TrainConfig().learning_rate})" in text
