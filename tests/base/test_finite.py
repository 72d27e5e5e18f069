"""The kind: **numbers that are none (NaN, infinity) go on through training, drawing and files as if they were numbers.**

Members: a loss that overflows in every command that trains; weights broken by the last step; a weight on a term far too large; a
temperature near zero; fp16's range; a source, its latents or its pictures with NaN in them; drawing with such a model, with and without
words; an infinite guidance scale; scores; every JSON file.
"""

import ast
import json
import math
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_images, make_source, make_text_pipeline

from dslib import cli, models, pretrain, sample, train
from dslib.base import checkpoint, files, finite
from dslib.env import UserError
from dslib.measure import score
from dslib.pretrain import PretrainConfig
from dslib.text import latent, pretrain_t2i, text_to_image
from dslib.text.text_to_image import TextConfig
from dslib.train import TrainConfig

NAN, INF = math.nan, math.inf
LARGE = {"learning_rate": 1e30, "max_train_steps": 4, "train_batch_size": 4}


def adapt(folder, source=None, images=None, **changes):
    settings = TrainConfig(**{"method": "finetune", "max_train_steps": 4, "train_batch_size": 4, "output_dir": str(folder)} | changes)
    return list(train.adapt(source or make_source(), make_images(4, 16) if images is None else images, settings))


def with_words(method, subject=False):
    def run(folder):
        pipe, prior = make_text_pipeline(), torch.randn(4, 4, 8, 8)
        person = text_to_image.Subject(make_images(2, 32, 9), "a face of zwx") if subject else None
        settings = TextConfig(method=method, output_dir=str(folder), **LARGE)
        return list(text_to_image.adapt(pipe, make_images(4, 32), settings, "a sks face", "a face", prior, person))
    return run


def pretraining(folder):
    return list(pretrain.pretrain(make_images(4, 16), PretrainConfig(output_dir=str(folder), **LARGE), make_source().unet,
                                  models.new_scheduler().alphas_cumprod))


def vae(folder):
    return list(pretrain_t2i.train_vae(make_images(4, 32), PretrainConfig(output_dir=str(folder), **LARGE), make_text_pipeline().vae))


def text_unet(folder):
    pipe = make_text_pipeline()
    ids = torch.randint(1, 50, (4, 2, pipe.tokenizer.model_max_length))
    return list(pretrain_t2i.train_unet(torch.randn(4, 4, 8, 8), ids, PretrainConfig(output_dir=str(folder), **LARGE), pipe.text_encoder,
                                        pipe.unet, pipe.scheduler.alphas_cumprod.clone()))


COMMANDS = {"adapt, scratch": lambda f: adapt(f, method="scratch", **LARGE), "adapt, finetune": lambda f: adapt(f, **LARGE),
            "adapt, domainstudio": lambda f: adapt(f, method="domainstudio", **LARGE), "pretrain": pretraining,
            "dreambooth": with_words("dreambooth"), "domainstudio with words": with_words("domainstudio"),
            "personalise": with_words("domainstudio", True), "pretrain-t2i, vae": vae, "pretrain-t2i, unet": text_unet}


@pytest.mark.parametrize("what", COMMANDS)
def test_every_command_that_trains_stops_at_the_first_loss_that_is_no_number(tmp_path, what):
    with pytest.raises(UserError) as caught:
        COMMANDS[what](tmp_path)
    said = str(caught.value)
    assert said.startswith("step 2: the loss is no finite number (") and (" is nan" in said or " is inf" in said), said
    assert "--learning_rate 1e+30 is a likely cause: try 5e-4" in said and "\n" not in said


def broken(value, where="conv_in.weight"):
    source = make_source()
    with torch.no_grad():
        source.unet.get_parameter(where).view(-1)[2] = value
    return source


CAUSES = {
    "NaN in the source": (lambda f: adapt(f, broken(NAN)), "weights to start from hold NaN or infinity \\(conv_in.weight\\)"),
    "infinity in the source": (lambda f: adapt(f, broken(-INF, "conv_out.bias")), "to start from hold NaN or infinity \\(conv_out.bias\\)"),
    "NaN in the images": (lambda f: adapt(f, images=torch.full((4, 3, 16, 16), NAN)), "the images hold NaN"),
    "a weight far too large": (lambda f: adapt(f, method="domainstudio", lambda_hfmse=3e38, learning_rate=1e-3),
                               "step 1: .*the weighted sum is inf.*--lambda_hfmse 3e\\+38 is a likely cause: the default is 0.5"),
    "decay far too large": (lambda f: adapt(f, adam_weight_decay=1e30), "step 2: .*--adam_weight_decay 1e\\+30 is a likely cause"),
    "at the last step": (lambda f: adapt(f, learning_rate=3e38, adam_weight_decay=1.0, max_train_steps=1),
                         "step 1: the weights are no finite numbers any more \\(.*\\); --learning_rate 3e\\+38"),
}


@pytest.mark.parametrize("what", CAUSES)
def test_the_line_names_step_term_and_a_likely_cause(tmp_path, what):
    call, words = CAUSES[what]
    with pytest.raises(UserError, match=words):
        call(tmp_path)
    assert not checkpoint.checkpoints(tmp_path)


def test_what_was_saved_before_is_kept_and_said(tmp_path):
    adapt(tmp_path, max_train_steps=2, checkpointing_steps=1)
    with pytest.raises(UserError, match=f"the checkpoints in {tmp_path}, if any, are from before"):
        adapt(tmp_path, max_train_steps=9, learning_rate=1e30, resume_from_checkpoint="latest")
    assert [c.name for c in checkpoint.checkpoints(tmp_path)] == ["checkpoint-1", "checkpoint-2"]
    assert adapt(tmp_path, max_train_steps=3, resume_from_checkpoint="latest")[-1].step == 3


def test_no_checkpoint_is_written_of_broken_weights(tmp_path):
    *_, record = adapt(tmp_path)
    with torch.no_grad():
        next(record.model.parameters()).fill_(INF)
    with pytest.raises(UserError, match="step 4: the weights are no finite numbers"):
        checkpoint.save_checkpoint(TrainConfig(output_dir=str(tmp_path)), record)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changes, words", [
    ({"mixed_precision": "fp16"}, "fp16 ends at 65504: use --mixed_precision bf16 or no"),
    ({"learning_rate": 5e4}, "--learning_rate 50000 is a likely cause"), ({"lambda_img": 1e9}, "--lambda_img 1e\\+09"),
    ({"pairwise_temperature": 1e-30}, "--pairwise_temperature 1e-30"), ({}, "a likely cause is --learning_rate 0.0005: try a tenth")])
def test_likely_causes(changes, words):
    with pytest.raises(UserError, match=f"step 7: .*img is nan\\); {words}"):
        finite.check_loss(7, torch.tensor(NAN), {"simple": torch.tensor(1.0), "img": torch.tensor(NAN)}, TrainConfig(**changes))


def test_one_look_at_one_number_a_step():
    """While all is well no term is looked at: on a GPU every look waits for the card."""
    finite.check_loss(1, torch.tensor(0.5), None, None)


# ------------------------------------------------------------------------------------------ drawing

def test_a_broken_model_draws_nothing():
    with pytest.raises(UserError, match="draws NaN or infinity instead of pictures"):
        source = broken(NAN)
        sample.sample(source.unet, source.scheduler, sample.start_noise(2, 16), 2)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_broken_model_with_words_draws_nothing(tmp_path, part):
    pipe = make_text_pipeline()
    with torch.no_grad():
        list(getattr(pipe, part).parameters())[-1].fill_(NAN)
    with pytest.raises(UserError, match="draws NaN or infinity"):
        latent.draw(pipe, ["a face"], torch.randn(1, 4, 8, 8), num_inference_steps=1)
    latent.save_pipeline(pipe, tmp_path / "pipe")
    with pytest.raises(UserError, match=f"the weights of its {part} hold NaN"):
        latent.load_pipeline(tmp_path / "pipe")


def test_a_broken_source_is_refused_when_it_is_opened(tmp_path):
    source = broken(INF)
    models.save_pipeline(source.unet, source.scheduler, tmp_path / "source")
    with pytest.raises(UserError, match="source: the weights of its unet hold NaN or infinity \\(conv_in.weight\\)"):
        models.load_source(tmp_path / "source")


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_a_guidance_scale_that_is_no_number(capsys, value):
    assert cli.main(["adapt-t2i", "--target", "sketches", "--guidance_scale", value]) == 2
    assert f"--guidance_scale is {float(value)}" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------ files

Pair = namedtuple("Pair", "a b")
JSON = {"NaN": (NAN, None), "infinity": (INF, None), "minus infinity": (-INF, None), "numpy's 32 bits": (np.float32(NAN), None),
        "numpy's 64 bits": (np.float64(INF), None), "a tensor": (torch.tensor(NAN), None), "a number of numpy": (np.float32(0.5), 0.5),
        "a count of numpy": (np.int64(3), 3), "inside": ({"a": [1.5, (NAN, "x")]}, {"a": [1.5, [None, "x"]]}),
        "a named pair": (Pair(1, INF), [1, None]), "a path": (Path("x"), "x"), "words": (["NaN", True, None, 7], ["NaN", True, None, 7])}


@pytest.mark.parametrize("what", JSON)
def test_every_json_file_is_json(tmp_path, what):
    def refuse(word):
        raise AssertionError(f"{word} is not JSON")
    value, want = JSON[what]
    files.write_json(tmp_path / "file.json", {"value": value})
    assert json.loads((tmp_path / "file.json").read_text(), parse_constant=refuse) == {"value": want}


def test_there_is_one_writer_of_json():
    """Elsewhere ``json.dumps`` makes words to hash, to compare or to print."""
    root, found = Path(models.__file__).parent, set()
    for path in root.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef) and any(
                    isinstance(node, ast.Attribute) and node.attr in ("dumps", "dump") and getattr(node.value, "id", "") == "json"
                    for node in ast.walk(function)):
                found.add(f"{path.relative_to(root).with_suffix('')}.{function.name}")
    assert found <= {"base/files.as_json", "text/captions.caption", "study/grid.digest", "study/tables.read_run",
                     "study/ablations.train_point", "study/memorisation.run_memorisation", "study/memorisation.follow",
                     "study/memorisation.source_quality"} | {name for name in found if name.startswith("base/drawing.")}


def test_a_score_that_is_no_number_is_left_out_and_said(monkeypatch, capsys):
    monkeypatch.setattr(score, "measure", lambda evidence, keys: {key: INF if key == "nearest" else None for key in keys})
    row = score.row_of("mine", score.Evidence(make_images(2, 32), make_images(2, 32)))
    assert row.nearest_lpips is None and "mine: no nearest-LPIPS, it came out as inf" in capsys.readouterr().err
