"""The kind: **a run is taken for another because only its settings are compared.**

Members: a checkpoint resumed with other images, the same in another order, one more, mirrored ones; with another source of the same shape,
or another noise schedule; with other prompts, another subject, other captions; fewer steps than are done; tables that mix sources, images
or prompts under one name; a prior that another source drew.
"""

import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from conftest import make_images, make_source, make_text_pipeline
from safetensors.torch import save_file

from dslib import models, pretrain, train
from dslib.base.identity import fingerprint, image_print
from dslib.cli import t2i
from dslib.env import UserError
from dslib.pretrain import PretrainConfig
from dslib.study import ablations, tables
from dslib.text import pretrain_t2i, text_to_image
from dslib.text.text_to_image import TextConfig
from dslib.train import TrainConfig


@pytest.fixture
def config(tmp_path):
    return TrainConfig(method="finetune", max_train_steps=2, train_batch_size=2, output_dir=str(tmp_path), checkpointing_steps=1)


IMAGES = make_images(4, 16)


def other_schedule():
    source = make_source()
    source.scheduler = type(source.scheduler).from_config(source.scheduler.config, beta_end=0.03)
    return source


OTHERS = {
    "other images": ({"images": make_images(4, 16, seed=5)}, "images are"), "another order": ({"images": IMAGES.flip(0)}, "images are"),
    "one more": ({"images": make_images(5, 16)}, "images are"), "mirrored": ({"images": IMAGES.flip(-1)}, "images are"),
    "another source": ({"source": make_source(seed=5)}, "source model is"),
    "another schedule": ({"source": other_schedule()}, "source model is"),
}


@pytest.mark.parametrize("where", ["latest", "folder"])
@pytest.mark.parametrize("what", OTHERS)
def test_a_checkpoint_of_another_run_is_refused_and_named(config, tmp_path, what, where):
    list(train.adapt(make_source(), IMAGES, config))
    changes, words = OTHERS[what]
    again = replace(config, max_train_steps=3, resume_from_checkpoint={"folder": str(tmp_path / "checkpoint-2")}.get(where, where))
    with pytest.raises(UserError, match=f"^the {words} not those of .*checkpoint-2 \\(fingerprint \\w{{12}}, there \\w{{12}}\\): give the"):
        list(train.adapt(**{"source": make_source(), "images": IMAGES, "config": again} | changes))
    assert list(train.adapt(make_source(), IMAGES, again))[-1].step == 3, "the same as before go on"


def test_bytes_and_floats_are_the_same_images_and_a_tiny_difference_is_none(config):
    list(train.adapt(make_source(), IMAGES, config))
    again = replace(config, max_train_steps=3, resume_from_checkpoint="latest")
    assert list(train.adapt(make_source(), IMAGES + 1e-6, again))[-1].step == 3
    pixels = ((IMAGES + 1) * 127.5).round().to(torch.uint8)
    assert image_print(pixels) == image_print(pixels.float() / 127.5 - 1) == image_print(IMAGES)


def test_a_checkpoint_without_fingerprints_resumes(config, tmp_path):
    list(train.adapt(make_source(), IMAGES, config))
    state = tmp_path / "checkpoint-2" / "state.json"
    content = json.loads(state.read_text())
    assert set(content.pop("identity")) == {"images", "source"}
    state.write_text(json.dumps(content))
    again = replace(config, max_train_steps=3, resume_from_checkpoint="latest")
    assert list(train.adapt(make_source(), make_images(4, 16, seed=5), again))[-1].step == 3


@pytest.mark.parametrize("steps, fits", [(1, False), (2, True), (3, True)])
def test_fewer_steps_than_are_done_are_refused(config, steps, fits):
    list(train.adapt(make_source(), IMAGES, config))
    again = replace(config, max_train_steps=steps, resume_from_checkpoint="latest")
    if fits:
        assert list(train.adapt(make_source(), IMAGES, again))[-1].step == steps
        return
    with pytest.raises(UserError, match="checkpoint-2 has done 2 steps, more than --max_train_steps 1: ask for 2 or more"):
        list(train.adapt(make_source(), IMAGES, again))


def with_words(tmp_path, instance="a sks face", named="a face", subject="a face of zwx", person=9):
    pipe, prior = make_text_pipeline(), torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    settings = TextConfig(method="dreambooth", output_dir=str(tmp_path), max_train_steps=1, train_batch_size=2, checkpointing_steps=1,
                          resume_from_checkpoint="latest")
    who = text_to_image.Subject(make_images(2, 32, person), subject)
    return list(text_to_image.adapt(pipe, make_images(4, 32), settings, instance, named, prior, who))


@pytest.mark.parametrize("changes, words", [({"instance": "a face in sks style"}, "prompts are"), ({"named": "a person"}, "prompts are"),
                                            ({"subject": "zwx"}, "prompts are"), ({"person": 5}, "subject's images are")])
def test_other_words_and_another_subject_are_refused(tmp_path, changes, words):
    with_words(tmp_path)
    with pytest.raises(UserError, match=f"the {words} not those of .*checkpoint-1"):
        with_words(tmp_path, **changes)
    assert with_words(tmp_path)[-1].step == 1


def test_other_captions_and_other_faces_are_refused_in_pretraining(tmp_path):
    settings = PretrainConfig(max_train_steps=1, train_batch_size=2, checkpointing_steps=1, resume_from_checkpoint="latest")
    pipe, plain = make_text_pipeline(), replace(settings, output_dir=str(tmp_path / "plain"))

    def words(seed, given):
        ids = torch.randint(1, 50, (4, 2, pipe.tokenizer.model_max_length), generator=torch.Generator().manual_seed(seed))
        return list(pretrain_t2i.train_unet(torch.randn(4, 4, 8, 8), ids, replace(settings, output_dir=str(tmp_path / "words")),
                                            pipe.text_encoder, pipe.unet, pipe.scheduler.alphas_cumprod.clone(), given))

    def faces(images):
        return list(pretrain.pretrain(images, plain, make_source().unet, models.new_scheduler().alphas_cumprod))
    words(1, {"images": "a"}), faces(IMAGES)
    for call, part in ((lambda: words(2, {"images": "a"}), "captions"), (lambda: words(1, {"images": "b"}), "images"),
                       (lambda: faces(IMAGES.flip(0)), "images")):
        with pytest.raises(UserError, match=f"the {part} are not those of"):
            call()


def test_a_prior_that_another_source_drew_is_drawn_anew(tmp_path, monkeypatch):
    drawn, path = [], tmp_path / "prior.safetensors"
    monkeypatch.setattr(text_to_image, "prior_latents", lambda *args: drawn.append(1) or torch.full((2, 4, 8, 8), float(len(drawn))))
    args = SimpleNamespace(class_prompt="a face", num_prior_images=2, seed=0, guidance_scale=3.0)
    one, other = make_text_pipeline(), make_text_pipeline(seed=5)
    got = [float(t2i.kept_prior(path, source, args).mean()) for source in (one, one, other, other)]
    assert got == [1, 1, 2, 2]
    save_file({"prior": torch.zeros(2, 4, 8, 8)}, path, {k: str(v) for k, v in vars(args).items()})     # without a fingerprint
    assert t2i.kept_prior(path, one, args).sum() == 0
    path.write_bytes(path.read_bytes()[:100])
    assert t2i.kept_prior(path, one, args).mean() == 3, "a damaged one is drawn anew"


# ------------------------------------------------------------------------------------------ fingerprints

def test_a_fingerprint_is_twelve_letters_and_the_same_wherever_numbers_lie():
    x = torch.arange(24.0).view(2, 3, 2, 2)
    assert fingerprint(x) == fingerprint(x.contiguous(memory_format=torch.channels_last)) == fingerprint(x.flip(0).flip(0))
    assert len(fingerprint(x)) == 12 and int(fingerprint(x), 16) >= 0
    assert fingerprint({"a": x, "b": x[0]}) == fingerprint({"b": x[0], "a": x})


def test_different_things_have_different_fingerprints():
    x = torch.arange(24.0)
    things = [(x,), (x.double(),), (x.view(2, 12),), (x + 1,), (x.bfloat16(),), ({"a": x},), ({"b": x},), ("a",), ("b",),
              ("a", "b"), ("ab",), (x, x), (torch.tensor(1.0),), (torch.zeros(0),), ()]
    assert len({fingerprint(*one) for one in things}) == len(things)


# ------------------------------------------------------------------------------------------ tables

def metrics(folder, seed, identity=None, target="photos"):
    facts = {"target": target, "source": "mine", "backbone": "st-alex", "resolution": 16, "num_images": 4, "scheduler": "ddim",
             "num_inference_steps": 2, "seed": seed, "config": asdict(TrainConfig(seed=seed)),
             "scores": [{"name": "x", "intra_lpips": 0.5}]}
    path = folder / f"{target}-{seed}.json"
    path.write_text(json.dumps(facts | ({"identity": identity} if identity else {})))
    return path


@pytest.mark.parametrize("part", ["source", "images", "prompts"])
def test_a_table_does_not_mix_what_is_alike_in_name_alone(tmp_path, part):
    same = {"source": "0", "images": "0", "prompts": "0"}
    paths = [metrics(tmp_path, seed, same | ({part: "1"} if seed == 2 else {})) for seed in range(3)]
    with pytest.raises(UserError, match="photos-2.json: the .* not those of .*photos-0.json \\(fingerprints 1 and 0\\)"):
        tables.collate(paths)
    assert tables.collate(paths[:2])[0]["seeds"] == 2


def test_runs_without_fingerprints_and_other_targets_still_collate(tmp_path):
    rows = tables.collate([metrics(tmp_path, 0), metrics(tmp_path, 1, {"source": "a", "images": "a"}), metrics(tmp_path, 2),
                           metrics(tmp_path, 0, {"source": "a", "images": "b"}, "others")])
    assert [(row["target"], row["seeds"]) for row in rows] == [("photos", 3), ("others", 1)]


def test_the_grid_of_ablations_does_not_mix_sources():
    def facts(source):
        return {"target": "x", "real": {"intra": 0.5}} | ({"identity": {"source": source}} if source else {})
    assert all(ablations.alike(facts(a), facts(b)) for a, b in (("a", "a"), ("a", None), (None, None)))
    assert not ablations.alike(facts("a"), facts("b"))
