"""The command line from end to end on a tiny source, and every mistake a reader can make."""

import argparse
import ast
import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import make_images, make_source
from diffusers import DDPMPipeline, UNet2DModel
from PIL import Image
from safetensors import SafetensorError

import dslib
from dslib import data, models, sample, train
from dslib.base import checkpoint, identity, provenance
from dslib.base.files import data_dir
from dslib.cli import commands, watch
from dslib.gan.adapt import GANConfig
from dslib.gan.pretrain import PretrainGAN
from dslib.measure import membership, probes
from dslib.pretrain import PretrainConfig
from dslib.text.text_to_image import TextConfig

RESOLUTION = 32         # the least the metrics' networks accept


def write_images(folder, n=4):
    folder.mkdir(parents=True, exist_ok=True)
    for i, pixels in enumerate(data.to_uint8(make_images(n, 40)).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def images_dir(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def adapt_args(source_dir, images_dir):
    """dslib adapt on the tiny source: three steps, six samples, two inference steps."""
    return ["adapt", "--source", source_dir, "--train_data_dir", images_dir, "--max_train_steps", 3, "--num_images", 6,
            "--num_inference_steps", 2, "--learning_rate", 1e-3, "--train_batch_size", 4]


def run(*args) -> int:
    return commands.main([str(a) for a in args])


@pytest.fixture(scope="module")
def finished(adapt_args, tmp_path_factory):
    """The output folder of one complete run with its baseline: tests read it and never write to it."""
    output = tmp_path_factory.mktemp("runs") / "out"
    assert run(*adapt_args, "--output_dir", output, "--compare_finetune") == 0
    return output


def files(folder):
    """Everything in a folder, with its content."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def strict_json(path):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")
    return json.loads(path.read_text(), parse_constant=refuse)


def stored_weights(folder):
    return (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()


# ------------------------------------------------------------------------------------------ adapt

def test_adapt_writes_everything(finished):
    names = {str(p) for p in files(finished)}
    assert {"model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json",
            "samples.png", "losses.png", "metrics.json", "report.html", "finetune/model_index.json"} <= names
    assert not [n for n in names if n.endswith((".part", ".bin", ".pt", ".pkl"))]
    for name in ("samples.png", "losses.png"):
        with Image.open(finished / name) as image:
            image.load()
            assert min(image.size) > 100


def test_adapts_pipelines_open_in_plain_diffusers_and_differ(finished, source_dir):
    weights = []
    for folder in (finished, finished / "finetune", source_dir):
        pipe = DDPMPipeline.from_pretrained(folder)
        assert isinstance(pipe.unet, UNet2DModel) and pipe.unet.config.sample_size == RESOLUTION
        weights.append(torch.cat([p.flatten() for p in pipe.unet.parameters()]))
    assert not any(torch.equal(weights[i], weights[j]) for i in range(3) for j in range(i))


def test_adapts_metrics_say_what_was_measured_and_how(finished):
    facts = strict_json(finished / "metrics.json")
    assert [s["name"] for s in facts["scores"]] == ["source", "finetune", "domainstudio"]
    for score in facts["scores"]:
        assert score["intra_lpips"] > 0 and score["nearest_lpips"] > 0
        assert score["fd"] is None and score["domain_hit"] is None
    assert facts["backbone"] == "st-alex" and facts["resolution"] == RESOLUTION and facts["num_images"] == 6
    assert facts["config"]["max_train_steps"] == 3 and facts["config"]["seed"] == 0


def test_metrics_hold_the_step_and_the_identity_they_are_of(finished, images_dir, source_dir):
    content = strict_json(finished / "metrics.json")
    pipe, images = models.load_source(source_dir), data.ImageFolder(images_dir, RESOLUTION).images
    assert content["step"] == 3
    assert content["identity"] == identity.of_run(images, pipe.scheduler.alphas_cumprod, pipe.unet)
    assert f"{len(images)} training images, 3 steps" in (finished / "report.html").read_text()


def test_adapts_report_is_self_contained(finished):
    page = (finished / "report.html").read_text("utf-8")
    sources = re.findall(r"""(?:src|href)\s*=\s*["']?([^"'\s>]{0,30})""", page)
    assert len(sources) >= 5 and all(s.startswith("data:image/png;base64,") for s in sources)
    assert "<script" not in page and "url(" not in page and "@import" not in page
    for text in ("domainstudio", "finetune", "source", "st-alex", "Intra-LPIPS"):
        assert text in page


def test_adapt_is_repeatable_and_says_where_the_report_is(finished, adapt_args, tmp_path, capsys):
    assert run(*adapt_args, "--output_dir", tmp_path / "again") == 0
    said = capsys.readouterr().out
    assert str(tmp_path / "again" / "report.html") in said and "| domainstudio |" in said
    assert stored_weights(tmp_path / "again") == stored_weights(finished)


def test_an_existing_output_is_refused_and_untouched(finished, adapt_args, capsys):
    before = files(finished)
    assert run(*adapt_args, "--output_dir", finished) == 2
    assert one_line(capsys, str(finished), "not empty", "--overwrite")
    assert files(finished) == before


def test_overwrite_replaces_the_model_and_old_checkpoints(adapt_args, tmp_path):
    output = tmp_path / "out"
    common = [*adapt_args, "--output_dir", output, "--method", "finetune"]
    assert run(*common, "--checkpointing_steps", 1) == 0
    first = stored_weights(output)
    (output / "notes.txt").write_text("mine")
    assert run(*common, "--seed", 7, "--overwrite") == 0
    assert stored_weights(output) != first
    assert not list(output.glob("checkpoint-*")) and (output / "notes.txt").read_text() == "mine"


def test_a_critic_of_patches_is_beside_the_objective_and_not_beside_the_baselines(adapt_args, finished, tmp_path, capsys):
    output = tmp_path / "patch"
    assert run(*adapt_args, "--compare_finetune", "--lambda_patch", 0.05, "--output_dir", output) == 0
    assert strict_json(output / "metrics.json")["config"]["lambda_patch"] == 0.05
    assert "lambda_patch" not in strict_json(finished / "metrics.json")["config"]
    assert stored_weights(output) != stored_weights(finished), "the critic changes what is learned"
    assert stored_weights(output / "finetune") == stored_weights(finished / "finetune"), "the baseline has none"
    capsys.readouterr()
    assert run(*adapt_args, "--lambda_patch", 0.05, "--output_dir", tmp_path / "parts", "--micro_batch_size", 2) == 2
    assert one_line(capsys, "--micro_batch_size: the critic of patches looks at the whole batch")
    assert run(*adapt_args, "--lambda_patch", 0.05, "--output_dir", output, "--resume_from_checkpoint", "latest") == 2
    assert one_line(capsys, "the critic of patches is in no checkpoint")


def test_a_batch_larger_than_the_data_is_explained(adapt_args, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands, "write_results", lambda *args: None)
    monkeypatch.setattr(commands, "check_drawing", lambda *args, **kwargs: None)     # the tiny source is too small for the metrics
    assert run(*adapt_args, "--train_batch_size", 9, "--output_dir", tmp_path / "out") == 0
    assert "train_batch_size 9 is more than the 4 images: using 4" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ the other commands

def test_sample_then_evaluate(source_dir, images_dir, tmp_path, capsys):
    output = tmp_path / "drawn"
    assert run("sample", source_dir, "--output_dir", output, "--num_images", 6, "--num_inference_steps", 2, "--scheduler", "dpmsolver") == 0
    assert provenance.made_by(output / "0000.png") == f"dslib {dslib.__version__}"
    assert sorted(p.name for p in output.iterdir()) == [f"{i:04d}.png" for i in range(6)] + ["grid.png"]
    with Image.open(output / "0005.png") as image:
        assert image.size == (RESOLUTION, RESOLUTION)
    scores = tmp_path / "scores.json"
    capsys.readouterr()
    assert run("evaluate", output, "--train_data_dir", images_dir, "--resolution", RESOLUTION, "--output", scores) == 0
    assert "6 images" in capsys.readouterr().out           # the contact sheet is not a sample
    facts = strict_json(scores)
    assert facts["resolution"] == RESOLUTION and facts["scores"][0]["name"] == "drawn"


def test_sample_draws_the_same_again_and_other_images_with_another_seed(source_dir, tmp_path):
    common = ["sample", source_dir, "--num_images", 1, "--num_inference_steps", 2, "--scheduler", "ddpm", "--output_dir"]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(*common, tmp_path / name, "--seed", seed) == 0
    a, b, c = ((tmp_path / name / "0000.png").read_bytes() for name in "abc")
    assert a == b != c


def test_evaluate_a_pipeline_against_a_drawn_domain(source_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(probes, "domain_probe", lambda domain, resolution, backbone: lambda images: images.mean((1, 2, 3)) > 0)
    scores = tmp_path / "scores.json"
    assert run("evaluate", source_dir, "--target", "sketches", "--num_images", 12, "--num_inference_steps", 2, "--output", scores) == 0
    real, ours = strict_json(scores)["scores"]
    assert (real["name"], ours["name"]) == ("real, held out", source_dir.name)
    assert ours["fd"] > real["fd"] > 0 and 0 <= ours["domain_hit"] <= 1
    assert ours["nearest_lpips"] > real["nearest_lpips"]


def test_table_collates_runs_over_seeds(finished, tmp_path, capsys):
    facts = strict_json(finished / "metrics.json")
    other = tmp_path / "other.json"
    moved = [row | {"intra_lpips": row["intra_lpips"] + 0.2} for row in facts["scores"]]
    other.write_text(json.dumps(facts | {"seed": 1, "scores": moved}))
    assert run("table", finished / "metrics.json", other, "--output", tmp_path / "new" / "table.csv") == 0
    with open(tmp_path / "new" / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["images"] for r in rows] == ["source", "finetune", "domainstudio"]
    for row, score in zip(rows, facts["scores"]):
        assert row["seeds"] == "2" and row["fd"] == ""
        assert float(row["intra_lpips"]) == pytest.approx(score["intra_lpips"] + 0.1, abs=1e-3)
        assert float(row["intra_lpips_std"]) == pytest.approx(0.2 / 2**0.5, abs=1e-3)
    assert "| domainstudio | 3 | 2 |" in capsys.readouterr().out


def test_domains_writes_a_contact_sheet(tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert run("domains", "--output", sheet) == 0
    with Image.open(sheet) as image:
        image.load()
    before = sheet.read_bytes()
    assert run("domains", "--output", sheet) == 2
    assert one_line(capsys, "sheet.png", "--overwrite")
    assert sheet.read_bytes() == before


def test_pretrain_makes_a_source_that_adapt_accepts(tmp_path, images_dir, monkeypatch):
    source = tmp_path / "source"
    assert run("pretrain", "--num_images", 10, "--resolution", RESOLUTION, "--num_graded", 4, "--max_train_steps", 2,
               "--train_batch_size", 2, "--channels", 8, 32, "--output_dir", source) == 0
    facts = strict_json(source / "metrics.json")
    assert facts["frechet_ratio"] > 0 and facts["config"]["num_images"] == 10
    assert (source / "samples.png").exists()
    assert next(iter(models.load_source(source).unet.parameters())).dtype == torch.float32
    monkeypatch.setattr(commands, "write_results", lambda *args: None)
    monkeypatch.setattr(commands, "check_drawing", lambda *args, **kwargs: None)     # the tiny source is too small for the metrics
    assert run("adapt", "--source", source, "--train_data_dir", images_dir, "--max_train_steps", 1, "--output_dir", tmp_path / "out") == 0


@pytest.mark.parametrize("arguments, code", [(["--help"], 0), (["table", "--help"], 0), (["nosuch"], 2), (["sample"], 2)])
def test_what_needs_no_network_does_not_wait_for_torch(arguments, code):
    """``dslib --help`` took twelve seconds when every command's options were made from the config classes at once."""
    asked = ("import sys; from dslib.cli import commands\ntry:\n    commands.main(sys.argv[1:])\nfinally:\n"
             "    print(sorted({'torch', 'diffusers', 'transformers', 'matplotlib', 'numpy'} & set(sys.modules)), file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", asked, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == code and done.stderr.splitlines()[-1] == "[]", done.stderr


def test_env_as_a_module():
    done = subprocess.run([sys.executable, "-m", "dslib", "env"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    for word in ("python", "torch", "diffusers", "device", "cache", "source model"):
        assert re.search(rf"^{word} +\S", done.stdout, re.MULTILINE)


COMMANDS = ["adapt", "sample", "evaluate", "domains", "pretrain", "pretrain-gan", "export", "leaks", "table", "env"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_and_every_default(command, capsys):
    with pytest.raises(SystemExit) as caught:
        run(command, "--help")
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert f"example:\n  dslib {command}" in text
    options = set(re.findall(r"^  (--\w+)", text, re.MULTILINE))
    described = re.split(r"\n  (?=-)", text)
    for block in described[1:]:
        name = block.split()[0].strip(",")
        if name not in ("-h", "--compare_finetune", "--overwrite"):
            assert "default" in block or "instead" in block or name in ("--target", "--train_data_dir"), block
    if command == "adapt":
        assert {"--target", "--train_data_dir", "--source", "--method", "--max_train_steps", "--train_batch_size", "--learning_rate",
                "--lambda_img", "--lambda_hf", "--lambda_hfmse", "--lambda_vlb", "--seed", "--output_dir"} <= options


def test_help_defaults_are_the_real_ones(capsys):
    with pytest.raises(SystemExit):
        run("adapt", "--help")
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    config = train.TrainConfig()
    for name in ("max_train_steps", "learning_rate", "lambda_img", "lambda_hf", "lambda_hfmse", "lambda_vlb", "seed"):
        described = text.split(f" --{name} {name.upper()}")[-1]
        assert f"(default: {getattr(config, name)})" in described[:200]


def test_the_first_page_of_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    text = capsys.readouterr().out
    assert all(re.search(rf"^ +{c}( |$)", text, re.MULTILINE) for c in COMMANDS)


# ------------------------------------------------------------------------------------------ interrupted

@pytest.fixture
def no_results(monkeypatch):
    """Interruptions concern the training: leave out sampling and the report."""
    monkeypatch.setattr(commands, "write_results", lambda *args: None)
    monkeypatch.setattr(commands, "check_drawing", lambda *args, **kwargs: None)     # the tiny source is too small for the metrics


@pytest.fixture
def ctrl_c_at(monkeypatch):
    """ctrl_c_at(step, method): the next run gets a real SIGINT while that step runs."""
    original = train.adapt

    def arm(step, method="domainstudio"):
        def interrupted(source, images, config, **more):
            for record in original(source, images, config, **more):
                if record.step == step and config.method == method:
                    signal.raise_signal(signal.SIGINT)
                yield record
        monkeypatch.setattr(train, "adapt", interrupted)

    yield arm
    monkeypatch.setattr(train, "adapt", original)


def interrupted_run(*args):
    """A run that stops before its end: what it says."""
    with pytest.raises(SystemExit) as caught:
        run(*args)
    return str(caught.value.code)


LATEST = ("--resume_from_checkpoint", "latest")


@pytest.mark.parametrize("method", ["finetune", "domainstudio"])
def test_ctrl_c_saves_and_resume_gives_the_same_weights(adapt_args, tmp_path, no_results, ctrl_c_at, method):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(*adapt_args, "--compare_finetune", "--output_dir", whole) == 0
    handler = signal.getsignal(signal.SIGINT)
    ctrl_c_at(2, method)
    said = interrupted_run(*adapt_args, "--compare_finetune", "--output_dir", cut)
    assert "step 2" in said and "checkpoint-2" in said and " ".join(LATEST) in said and "\n" not in said
    assert signal.getsignal(signal.SIGINT) is handler
    assert not (cut / "model_index.json").exists()
    ctrl_c_at(None)
    assert run(*adapt_args, "--compare_finetune", "--output_dir", cut, *LATEST) == 0
    assert stored_weights(cut) == stored_weights(whole)
    assert stored_weights(cut / "finetune") == stored_weights(whole / "finetune")


def test_ctrl_c_at_the_last_step_can_be_resumed(adapt_args, tmp_path, no_results, ctrl_c_at):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run(*adapt_args, "--output_dir", whole) == 0
    ctrl_c_at(3)
    interrupted_run(*adapt_args, "--output_dir", cut)
    ctrl_c_at(None)
    assert run(*adapt_args, "--output_dir", cut, *LATEST) == 0
    assert stored_weights(cut) == stored_weights(whole)


def test_resume_after_an_interrupted_overwrite_goes_on_with_the_new_run(adapt_args, tmp_path, no_results, ctrl_c_at):
    whole, output = tmp_path / "whole", tmp_path / "out"
    assert run(*adapt_args, "--seed", 2, "--output_dir", whole) == 0
    assert run(*adapt_args, "--seed", 1, "--output_dir", output) == 0
    ctrl_c_at(2)
    interrupted_run(*adapt_args, "--seed", 2, "--output_dir", output, "--overwrite")
    ctrl_c_at(None)
    assert run(*adapt_args, "--seed", 2, "--output_dir", output, "--overwrite", *LATEST) == 0
    assert stored_weights(output) == stored_weights(whole)


def test_a_finished_run_goes_on_when_given_more_steps(adapt_args, tmp_path, no_results):
    whole, output = tmp_path / "whole", tmp_path / "out"
    longer = [*adapt_args, "--max_train_steps", 5]
    assert run(*longer, "--output_dir", whole) == 0
    assert run(*adapt_args, "--checkpointing_steps", 3, "--output_dir", output) == 0
    assert run(*longer, "--output_dir", output, *LATEST) == 0
    assert stored_weights(output) == stored_weights(whole)


def test_a_finished_run_without_checkpoints_cannot_be_resumed_and_is_not_touched(finished, adapt_args, tmp_path, capsys):
    output = shutil.copytree(finished, tmp_path / "out")
    assert run(*adapt_args, "--compare_finetune", "--output_dir", output, *LATEST) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and "holds no checkpoint" in told[0] and "--overwrite" in told[0]
    assert "--resume" not in told[0], "resuming is what failed"
    assert stored_weights(output) == stored_weights(finished)


# ------------------------------------------------------------------------------------------ bad input

def one_line(capsys, *words) -> bool:
    """Standard error is exactly one 'dslib: error:' line that holds all the words."""
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("dslib: error: "), lines
    assert all(w in lines[0] for w in words), lines[0]
    return True


def broken(folder, name, content):
    write_images(folder, 3)
    (folder / name).write_bytes(content)
    return folder


def small(folder):
    write_images(folder, 3)
    Image.new("RGB", (7, 7)).save(folder / "small.png")
    return folder


def made(folder, *names):
    folder.mkdir()
    for name in names:
        (folder / name).write_text("x")
    return folder


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00"

BAD_FOLDERS = {   # what: (make it, words the message must hold)
    "missing": (lambda p: p / "nowhere", ["nowhere"]),
    "a file": (lambda p: made(p / "d", "a.png") / "a.png", ["a.png", "is a file"]),
    "empty": (lambda p: made(p / "empty"), ["empty", "no images"]),
    "text alone": (lambda p: made(p / "texts", "a.txt", "b.md"), ["texts", "no images", "2 other files"]),
    "one image": (lambda p: write_images(p / "single", 1), ["single", "1 image", "at least 2"]),
    "zero-byte file": (lambda p: broken(p / "d", "void.png", b""), ["void.png", "empty"]),
    "truncated file": (lambda p: broken(p / "d", "cut.png", PNG), ["cut.png", "damaged"]),
    "text as png": (lambda p: broken(p / "d", "text.png", b"hello"), ["text.png", "not an image"]),
    "7×7 image": (lambda p: small(p / "d"), ["small.png", "7×7"]),
}


@pytest.mark.parametrize("what", BAD_FOLDERS)
def test_bad_image_folders(source_dir, tmp_path, capsys, what):
    make, words = BAD_FOLDERS[what]
    output = tmp_path / "out"
    assert run("adapt", "--source", source_dir, "--train_data_dir", make(tmp_path), "--output_dir", output) == 2
    assert one_line(capsys, *words)
    assert not output.exists()


def rgba_source(folder):
    pipe = make_source(RESOLUTION)
    unet = UNet2DModel.from_config(pipe.unet.config, in_channels=4, out_channels=4)
    return models.save_pipeline(unet, pipe.scheduler, folder)


def oblong_source(folder):
    pipe = make_source(RESOLUTION)
    return models.save_pipeline(UNet2DModel.from_config(pipe.unet.config, sample_size=[32, 16]), pipe.scheduler, folder)


def small_source(folder):
    pipe = make_source(16)
    return models.save_pipeline(pipe.unet, pipe.scheduler, folder)


def pickled_source(folder):
    pipe = make_source(RESOLUTION)
    models.save_pipeline(pipe.unet, pipe.scheduler, folder)
    next(folder.glob("unet/*.safetensors")).rename(folder / "unet" / "diffusion_pytorch_model.bin")
    return folder


BAD_SOURCES = {
    "missing": (lambda p: p / "nowhere", ["nowhere"]),
    "not a pipeline": (lambda p: made(p / "d", "a.txt"), ["model_index.json"]),
    "a pickle inside": (lambda p: pickled_source(p / "d"), ["diffusion_pytorch_model.bin", "pickle"]),
    "a pickle": (lambda p: made(p / "d", "model.pt") / "model.pt", ["model.pt", "safetensors"]),
    "other channels": (lambda p: rgba_source(p / "d"), ["4 channels", "3 (colour) or 1 (grey)"]),
    "not square": (lambda p: oblong_source(p / "d"), ["32", "16"]),
    "too small for the metrics": (lambda p: small_source(p / "d"), ["16"]),
}


@pytest.mark.parametrize("what", BAD_SOURCES)
def test_bad_sources(images_dir, tmp_path, capsys, what):
    make, words = BAD_SOURCES[what]
    output = tmp_path / "out"
    arguments = ["--max_train_steps", 1, "--num_images", 5, "--num_inference_steps", 1, "--output_dir", output]
    assert run("adapt", "--source", make(tmp_path), "--train_data_dir", images_dir, *arguments) == 2
    assert one_line(capsys, *words)
    assert not output.exists() or not any(output.iterdir())


def test_no_source_at_all(images_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DSLIB_DATA", str(tmp_path))
    assert run("adapt", "--train_data_dir", images_dir, "--output_dir", tmp_path / "out") == 2
    assert one_line(capsys, "no source model", "dslib pretrain")


def test_a_hub_source_without_network(images_dir, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert run("adapt", "--source", "nobody/no-such-model", "--train_data_dir", images_dir, "--output_dir", tmp_path / "out") == 2
    assert one_line(capsys, "'nobody/no-such-model' would have been fetched")


def test_an_unknown_target_suggests_the_nearest(source_dir, tmp_path, capsys):
    assert run("adapt", "--source", source_dir, "--target", "sunglases", "--output_dir", tmp_path / "out") == 2
    assert one_line(capsys, "'sunglases'", "did you mean 'sunglasses'")


BAD_OPTIONS = [
    ("--method", "gan"), ("--train_batch_size", 1), ("--train_batch_size", 0), ("--max_train_steps", 0), ("--max_train_steps", -5),
    ("--learning_rate", "nan"), ("--learning_rate", 0), ("--lambda_img", -0.5), ("--lambda_img", "nan"), ("--lambda_hf", -1),
    ("--lambda_hf", "inf"), ("--lambda_hfmse", "nan"), ("--lambda_vlb", -1), ("--mixed_precision", "int8"),
    ("--adam_beta1", 1.5), ("--adam_weight_decay", -1), ("--max_grad_norm", "nan"), ("--lambda_patch", -1), ("--lambda_patch", "nan"),
    ("--num_images", 0), ("--num_images", 1), ("--num_images", -3), ("--num_inference_steps", 0), ("--num_inference_steps", 1001),
    ("--scheduler", "euler"), ("--backbone", "resnet"), ("--resume_from_checkpoint", "/nowhere/checkpoint-9"),
]


@pytest.mark.parametrize("name,value", BAD_OPTIONS)
def test_bad_options_are_refused_before_anything_is_trained_or_written(adapt_args, tmp_path, capsys, name, value):
    output = tmp_path / "out"
    assert run(*adapt_args, "--max_train_steps", 1, "--output_dir", output, f"{name}={value}") == 2
    assert one_line(capsys, name.removeprefix("--").split("_")[0])
    assert not output.exists() or not any(output.iterdir())


@pytest.mark.parametrize("arguments,name", [
    ([], "--target"), (["--target", "robots", "--train_data_dir", "x"], "--train_data_dir"),
    (["--target", "robots", "--steps", "3"], "--steps"), (["--target", "robots", "--max_train_steps", "many"], "--max_train_steps")])
def test_mistyped_commands_name_the_option(capsys, arguments, name):
    with pytest.raises(SystemExit) as caught:
        run("adapt", *arguments)
    assert caught.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "error:" in last and name in last


@pytest.mark.parametrize("where", ["a file", "under a file", "/proc"])
def test_outputs_that_cannot_be_written(adapt_args, tmp_path, capsys, where):
    (tmp_path / "file").write_text("mine")
    output = {"a file": tmp_path / "file", "under a file": tmp_path / "file" / "out", "/proc": "/proc/no-such-place"}[where]
    assert run(*adapt_args, "--output_dir", output) == 2
    assert one_line(capsys, str(output))
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_an_output_without_permission(adapt_args, tmp_path, capsys, mode):
    locked = tmp_path / "locked"
    locked.mkdir(mode=mode)
    try:
        assert run(*adapt_args, "--output_dir", locked / "out") == 2
        assert one_line(capsys, "locked")
    finally:
        locked.chmod(0o700)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"),
                                   SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")])
@pytest.mark.parametrize("moment", ["checkpoint", "pipeline"])
def test_a_full_disk_is_one_line_and_loses_nothing(adapt_args, tmp_path, capsys, monkeypatch, error, moment):
    """The first form is Python's, the second the one that safetensors really raises."""
    output = tmp_path / "out"

    def full(*args, **options):
        raise error

    if moment == "checkpoint":
        original, calls = checkpoint.save_file, []
        monkeypatch.setattr(checkpoint, "save_file", lambda *args: full() if len(calls) > 2 else (calls.append(1), original(*args)))
    else:
        monkeypatch.setattr(DDPMPipeline, "save_pretrained", full)
    assert run(*adapt_args, "--checkpointing_steps", 1, "--output_dir", output) == 2
    assert one_line(capsys, "No space left")
    assert checkpoint.checkpoints(output)
    assert not (output / "model_index.json").exists()


BAD_COMMANDS = {
    "sample from nowhere": (["sample", "{tmp}/nowhere"], ["nowhere"]),
    "sample none": (["sample", "{source}", "--output_dir", "{tmp}/o", "--num_images", "0"], ["--num_images"]),
    "sample in no steps": (["sample", "{source}", "--output_dir", "{tmp}/o", "--num_inference_steps", "0"], ["--num_inference_steps"]),
    "sample by an unknown scheduler": (["sample", "{source}", "--output_dir", "{tmp}/o", "--scheduler", "x"], ["'x'", "ddim"]),
    "sample over something": (["sample", "{source}", "--output_dir", "{images}"], ["not empty", "--overwrite"]),
    "evaluate nowhere": (["evaluate", "{tmp}/nowhere", "--target", "robots"], ["nowhere"]),
    "evaluate nothing": (["evaluate", "{tmp}", "--target", "robots"], ["no images"]),
    "evaluate against an unknown domain": (["evaluate", "{images}", "--target", "robot"], ["did you mean 'robots'"]),
    "evaluate against nowhere": (["evaluate", "{images}", "--train_data_dir", "{tmp}/nowhere"], ["nowhere"]),
    "evaluate one image": (["evaluate", "{source}", "--train_data_dir", "{images}", "--num_images", "1"], ["1"]),
    "evaluate no image": (["evaluate", "{source}", "--train_data_dir", "{images}", "--num_images", "0"], ["--num_images"]),
    "evaluate by an unknown backbone": (["evaluate", "{images}", "--train_data_dir", "{images}", "--backbone", "x"], ["'x'", "st-alex"]),
    "evaluate at no size": (["evaluate", "{images}", "--train_data_dir", "{images}", "--resolution", "0"], ["--resolution"]),
    "evaluate into a file's inside": (["evaluate", "{source}", "--train_data_dir", "{images}", "--num_images", "6",
                                      "--output", "{images}/0.png/s.json"], ["0.png"]),
    "leaks without strangers": (["leaks", "{source}", "--train_data_dir", "{images}"], ["--unseen_data_dir"]),
    "leaks with the same pictures": (["leaks", "{source}", "--train_data_dir", "{images}", "--unseen_data_dir", "{images}",
                                      "--false_alarms", "0.5"], ["in both folders", "--unseen_data_dir"]),
    "leaks with few strangers": (["leaks", "{source}", "--target", "robots", "--num_unseen", "20"], ["less than one", "at least 100"]),
    "leaks with an impossible share": (["leaks", "{source}", "--target", "robots", "--num_unseen", "20", "--false_alarms", "1"],
                                       ["false_alarms is 1.0"]),
    "leaks at an impossible step": (["leaks", "{source}", "--target", "robots", "--num_unseen", "20", "--false_alarms", "0.1",
                                     "--steps_t", "1000"], ["t = 0 to 999"]),
    "leaks of nowhere": (["leaks", "{tmp}/nowhere", "--target", "robots"], ["nowhere"]),
    "table of nothing": (["table", "{tmp}/none.json"], ["none.json"]),
    "table of a picture": (["table", "{images}/0.png"], ["0.png"]),
    "table of something else": (["table", "{source}/model_index.json"], ["model_index.json"]),
    "domains into a file's inside": (["domains", "--output", "{images}/0.png/sheet.png"], ["0.png"]),
    "pretrain on nothing": (["pretrain", "--output_dir", "{tmp}/o", "--num_images", "0"], ["--num_images"]),
    "pretrain in no steps": (["pretrain", "--output_dir", "{tmp}/o", "--max_train_steps", "0"], ["--max_train_steps"]),
    "pretrain at an impossible size": (["pretrain", "--output_dir", "{tmp}/o", "--num_images", "4", "--resolution", "30"],
                                       ["--resolution"]),
}


@pytest.mark.parametrize("what", BAD_COMMANDS)
def test_bad_input_to_the_other_commands(source_dir, images_dir, tmp_path, capsys, what):
    arguments, words = BAD_COMMANDS[what]
    if "--num_inference_steps" not in arguments and arguments[0] in ("sample", "evaluate"):
        arguments = [*arguments, "--num_inference_steps", "1"]
    before = files(images_dir)
    assert run(*(a.format(tmp=tmp_path, source=source_dir, images=images_dir) for a in arguments)) == 2
    assert one_line(capsys, *words)
    assert files(images_dir) == before


def test_leaks_tells_a_models_own_pictures_from_others(source_dir, tmp_path, capsys):
    """Trained long on three pictures, a tiny model knows them; the report says so, and the same numbers as the function."""
    pipe, images = models.load_source(source_dir), make_images(13, 32)
    folders = [tmp_path / name for name in ("mine", "others")]
    for folder, part in zip(folders, (images[:3], images[3:])):
        folder.mkdir()
        data.write_images(folder, part)
    images = data.to_float(data.to_uint8(images))
    config = train.TrainConfig(method="finetune", max_train_steps=300, learning_rate=3e-3, train_batch_size=3)
    *_, last = train.adapt(pipe, images[:3], config)
    models.save_pipeline(last.averaged(), pipe.scheduler, tmp_path / "run")
    asked = ["leaks", tmp_path / "run", "--train_data_dir", folders[0], "--unseen_data_dir", folders[1], "--false_alarms", 0.1,
             "--noises", 2, "--steps_t", 50, 300, "--output", tmp_path / "leaks.json"]
    assert run(*asked) == 0
    told, found = capsys.readouterr().out, json.loads((tmp_path / "leaks.json").read_text())
    saved = models.load_source(tmp_path / "run")
    errors = membership.denoising_errors(saved.unet, saved.scheduler, images, [50, 300], 2)
    assert [row["auc"] for row in found["rows"]] == pytest.approx([membership.auc(line[:3], line[3:]) for line in errors])
    assert [row["caught"] for row in found["rows"]] == pytest.approx([membership.caught(line[:3], line[3:], 0.1) for line in errors])
    assert max(row["auc"] for row in found["rows"]) > 0.9 and f"| 300 | {found['rows'][1]['auc']:.3f} |" in told
    assert "3 pictures asked about, 10 strangers" in told and found["chance"] == pytest.approx(membership.chance(3, 10))
    assert run(*asked) == 2 and one_line(capsys, "leaks.json exists", "--overwrite")


def test_leaks_asks_no_gan(tmp_path, capsys):
    assert run("leaks", data_dir() / "gan", "--target", "robots") == 2
    assert one_line(capsys, "a GAN, which denoises nothing")


def test_overwrite_leaves_other_runs_below_the_folder_alone(adapt_args, tmp_path, no_results):
    other = tmp_path / "runs" / "other" / "checkpoint-5"
    other.mkdir(parents=True)
    (other / "state.json").write_text("{}")
    assert run(*adapt_args, "--output_dir", tmp_path / "runs", "--overwrite") == 0
    assert (other / "state.json").exists()


# ------------------------------------------------------------------------------------------ the log of a resumed run

def test_a_resumed_log_has_each_step_once_and_goes_on_counting_seconds(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,images,loss_simple,learning_rate,seconds\n50,400,0.5,1e-3,10\n100,800,0.4,1e-3,20\n150,1200,0.3,1e-3,30\n")
    assert watch.trim_log(path, 101) == 20
    assert [line.split(",")[0] for line in path.read_text().split()] == ["step", "50", "100"]
    assert watch.trim_log(path, 100) == 10       # step 100 will be written again
    assert watch.trim_log(tmp_path / "none.csv", 101) == 0


def test_result_files_are_not_replaced_unasked(tmp_path, capsys):
    kept = tmp_path / "scores.json"
    kept.write_text("mine")
    for arguments in (["table", str(kept), "--output", str(kept)], ["evaluate", "x", "--target", "robots", "--output", str(kept)]):
        assert run(*arguments) == 2
        assert one_line(capsys, "scores.json exists", "--overwrite")
    assert kept.read_text() == "mine"


def test_a_text_to_image_method_is_refused_before_anything_is_made(tmp_path, capsys):
    assert commands.main(["adapt", "--target", "sketches", "--method", "dreambooth", "--output_dir", str(tmp_path / "new")]) == 2
    assert "'dreambooth', which adapts text-to-image models" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_stopping_while_drawing_says_where_the_model_is(tmp_path, source_dir, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(commands, "write_results", stop)
    out = tmp_path / "run"
    assert run("adapt", "--target", "sketches", "--source", source_dir, "--max_train_steps", 1, "--output_dir", out) == 130
    assert f"'dslib sample {out}' draws with it" in capsys.readouterr().err and (out / "model_index.json").exists()


def attributes_read() -> set[str]:
    """Every attribute that some function of dslib reads, but for the knobs' own check, which reads all."""
    root = Path(models.__file__).parent
    trees = [ast.parse(path.read_text("utf-8")) for path in root.rglob("*.py") if path.name != "knobs.py"]
    return {node.attr for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}


@pytest.mark.parametrize("config", [train.TrainConfig, PretrainConfig, TextConfig, GANConfig, PretrainGAN], ids=lambda c: c.__name__)
def test_every_declared_setting_is_read_somewhere(config):
    unread = {f.name for f in dataclasses.fields(config)} - attributes_read() - {"lambda_img", "lambda_hf", "lambda_hfmse", "lambda_vlb"}
    assert not unread, f"declared, offered and never read: {unread}"        # the four are read by domainstudio.total, by name


def test_every_option_of_every_command_is_read():
    sub = next(a for a in commands.build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    configs = train.TrainConfig, PretrainConfig, TextConfig, GANConfig
    read, by_name = attributes_read(), {f.name for config in configs for f in dataclasses.fields(config)}
    for name, parser in sub.choices.items():
        parser.fill()
        assert len(parser._actions) > 1 or name == "env"
        unread = {action.dest for action in parser._actions if action.dest != "help"} - read - by_name
        assert not unread, f"dslib {name} declares and never reads {unread}"


def test_bars_of_drawing_are_silenced_from_outside(tiny_source, monkeypatch, capsys):
    noise = sample.start_noise(2, 16)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    sample.sample(tiny_source.unet, tiny_source.scheduler, noise, 2, progress="drawing")
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("TQDM_DISABLE")
    sample.sample(tiny_source.unet, tiny_source.scheduler, noise, 2, progress="drawing")
    assert "drawing" in capsys.readouterr().err
