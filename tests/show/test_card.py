"""The model card of a run: what the hub reads of it, what a person reads, and what must never stand in it."""

import json
import re
import shutil
from types import SimpleNamespace

import pytest
from conftest import make_images, make_source
from huggingface_hub import ModelCard

from dslib import data, models
from dslib.base import avatars
from dslib.cli import commands, pretraining
from dslib.show import card


def run(*args) -> int:
    return commands.main([str(a) for a in args])


@pytest.fixture(scope="module")
def finished(source_dir, tmp_path_factory):
    """A run on one's own folder with its baseline: (folder of the run, folder of its pictures)."""
    home = tmp_path_factory.mktemp("secret-home")
    photos, out = home / "ten of anna", home / "out"
    photos.mkdir()
    data.write_images(photos, make_images(4, 40))
    (photos / "private-name.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    assert run("adapt", "--source", source_dir, "--train_data_dir", photos, "--output_dir", out, "--max_train_steps", 2, "--num_images", 4,
               "--num_inference_steps", 1, "--train_batch_size", 4, "--compare_finetune", "--pairwise_on", "source", "--num_anchors", 4,
               "--lambda_img", 0.7, "--seed", 5) == 0
    return out, photos


def test_the_hub_reads_the_card(finished):
    for folder in (finished[0], finished[0] / "finetune"):
        found = ModelCard.load(folder / "README.md")
        said = found.data.to_dict()
        assert said["library_name"] == "diffusers" and said["pipeline_tag"] == "unconditional-image-generation"
        assert said["license"] == "other" and said["license_name"] and {"dslib", "few-shot"} <= set(said["tags"])
        assert "base_model" not in said
        assert re.findall(r"^## (.*)$", found.text, re.M) == ["What it is", "Use it", "Scores", "Data and licence", "Limits"]


def test_it_says_what_was_trained_on_what_and_how_good_it_is(finished):
    text, facts = (finished[0] / "README.md").read_text("utf-8"), json.loads((finished[0] / "metrics.json").read_text())
    for part in facts["identity"].values():
        assert f"fingerprint `{part}`" in text
    assert "`domainstudio`, anchored on samples of the base model; weights λ: `lambda_img` 0.7, `lambda_hf` 0.3, `lambda_hfmse` 0.5" in text
    assert "Training images: 4, from the maker's own folder" in text and "2 steps of 4 images" in text and "seed 5" in text
    for row in facts["scores"]:
        assert f"| {row['name']} |" in text and f"{row['nearest_lpips']:.3f}" in text
    beside = (finished[0] / "finetune" / "README.md").read_text("utf-8")
    assert "# out: finetune" in beside and "- Method: `finetune`\n" in beside, "no weights where there are none"


def test_ones_own_pictures_are_called_so(finished, source_dir):
    text = (finished[0] / "README.md").read_text("utf-8")
    assert "You must have the right to these pictures" in text.replace("\n", " ") and "personal data" in text
    assert "drawn by the course" not in text and "Remix" not in text and "see its own card" in text
    assert f"a model of one's own, `{source_dir.name}`" in text


def test_no_place_and_no_file_of_this_machine_stands_in_it(finished, source_dir):
    for folder in (finished[0], finished[0] / "finetune"):
        text = (folder / "README.md").read_text("utf-8")
        for private in (str(finished[1]), "ten of anna", "private-name", "secret-home", str(source_dir.parent)):
            assert private not in text


def test_the_code_in_it_draws(finished, tmp_path, monkeypatch):
    """With few steps: a thousand are the default."""
    from diffusers import DDPMPipeline
    code = re.search(r"```python\n(.*?)```", (finished[0] / "README.md").read_text("utf-8"), re.S)[1]
    shutil.copytree(finished[0], tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    real = DDPMPipeline.__call__
    monkeypatch.setattr(DDPMPipeline, "__call__", lambda pipe: real(pipe, num_inference_steps=2))
    exec(code, {})
    assert (tmp_path / "out" / "new.png").stat().st_size > 500


@pytest.mark.parametrize("domain, words", [("adventurers", ["Lisa Wischofsky", "CC BY 4.0", "creativecommons.org/licenses/by/4.0"]),
                                           ("sketches", ["Lisa Wischofsky", "CC0 1.0"]),
                                           ("engraved", ["Pablo Stanley", "Free for personal and commercial use", "filter `engraved`"])])
def test_a_drawn_domain_has_its_credit(tmp_path, domain, words):
    card.adapted(tmp_path, "diffusion", FACTS, [], domain, 10)
    text = (tmp_path / "README.md").read_text("utf-8")
    assert all(word in text for word in words) and "does not endorse" in text and "own folder" not in text
    assert "Remix of „Avataaars" in text, "the shipped source learned from these, whatever the target"


def test_every_domain_has_a_credit_with_artist_and_licence():
    for domain in avatars.DRAWN:
        meta = avatars.definition(avatars.DRAWN[domain][0])["meta"]
        assert meta["creator"]["name"] in card.credit(domain) and meta["license"]["name"] in card.credit(domain), domain


FACTS = {"source": "shipped", "resolution": 64, "num_images": 4, "backbone": "st-alex", "seed": 0, "step": 3,
         "identity": {"images": "0123456789ab", "source": "ba9876543210"},
         "config": {"method": "cdc", "train_batch_size": 4, "learning_rate": 2e-3, "seed": 0, "lambda_cdc": 1000.0, "output_dir": "/x/y"}}


def test_a_base_model_of_the_hub_is_named_for_the_hub(tmp_path):
    card.adapted(tmp_path, "diffusion", FACTS | {"source": "google/ddpm-celebahq-256"}, [], None, 10)
    assert ModelCard.load(tmp_path / "README.md").data.base_model == "google/ddpm-celebahq-256"


def test_a_gan_and_a_model_with_words(tmp_path):
    card.adapted(tmp_path / "gan", "gan", FACTS, [], "robots", 10)
    text = (tmp_path / "gan" / "README.md").read_text("utf-8")
    assert "`lambda_cdc` 1000" in text and "load_gan" in text and "library_name" not in text and "/x/y" not in text
    facts = FACTS | {"instance_prompt": "a 'face' in sks style", "subject_images": "3 images read"}
    card.adapted(tmp_path / "words", "words", facts, [], "robots", 10)
    text = (tmp_path / "words" / "README.md").read_text("utf-8")
    assert """pipe("a 'face' in sks style",""" in text and "personal data" in text and "styles that only train" in text
    assert ModelCard.load(tmp_path / "words" / "README.md").data.pipeline_tag == "text-to-image"


def test_somebody_elses_readme_stays(tmp_path, capsys):
    (tmp_path / "README.md").write_text("# mine")
    card.adapted(tmp_path, "diffusion", FACTS, [], "robots", 10)
    assert (tmp_path / "README.md").read_text() == "# mine" and "stays" in capsys.readouterr().err
    (tmp_path / "README.md").unlink()
    card.adapted(tmp_path, "diffusion", FACTS, [], "robots", 10)
    card.adapted(tmp_path, "diffusion", FACTS | {"step": 77}, [], "robots", 10)
    text = (tmp_path / "README.md").read_text("utf-8")
    assert "- 77 steps" in text and not list(tmp_path.glob("*.part"))
    (tmp_path / "README.md").write_text(text.replace(card.OURS, "my own words"), "utf-8")
    card.adapted(tmp_path, "diffusion", FACTS, [], "robots", 10)
    assert "my own words" in (tmp_path / "README.md").read_text("utf-8"), "edited, and its mark taken out, as the mark says"


def test_a_pretrained_source_has_one(tmp_path, monkeypatch):
    pipe = make_source(32)
    models.save_pipeline(pipe.unet, pipe.scheduler, tmp_path)
    monkeypatch.setattr(data, "load_domain", lambda *_, **__: SimpleNamespace(images=make_images(8, 32)))
    config = FACTS["config"] | {"num_images": 24000, "resolution": 32}
    pretraining.grade_source(tmp_path, {"step": 9, "identity": {"images": "0123456789ab"}, "config": config}, 4)
    found, facts = ModelCard.load(tmp_path / "README.md"), json.loads((tmp_path / "metrics.json").read_text())
    assert f"Fréchet ratio {facts['frechet_ratio']:.2f}" in found.text and "24000, drawn by the course" in found.text
    assert "random weights" in found.text and "fingerprint `0123456789ab`" in found.text and "Pablo Stanley" in found.text
    assert "/x/y" not in found.text
