"""The shipped adapted models (tools/adapted.py): plain pipelines that draw what the protocol's runs drew."""

import json
from pathlib import Path

import pytest
from diffusers import DDPMPipeline

from dslib import models, sample, train
from dslib.base.files import data_dir
from dslib.base.identity import fingerprint
from dslib.base.pixels import to_uint8
from dslib.study import claim, regime

FOLDERS = sorted(path.parent for path in (Path(__file__).parents[2] / "data" / "adapted").glob("*/model_index.json"))


def test_the_three_are_there():
    assert [folder.name for folder in FOLDERS] == ["anchored", "naive", "published"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_shipped_model_draws_what_the_run_of_its_name_drew(folder):
    """The first noises of the protocol, against the committed strip; half precision may change a shade, another model changes all."""
    facts = json.loads((folder / "metrics.json").read_text("utf-8"))
    source, pipe = models.load_source(), DDPMPipeline.from_pretrained(folder)
    assert facts["source"] == fingerprint(source.unet.state_dict()) and facts["method"] == folder.name
    assert train.TrainConfig(**facts["config"]).check().max_train_steps == facts["step"] == 300
    drawn = to_uint8(sample.sample(pipe.unet, source.scheduler, sample.start_noise(2, 64, 100), regime.INFERENCE_STEPS, "dpmsolver"))
    run = json.loads((data_dir() / "results" / "regime" / f"engraved-{folder.name}-0.json").read_text("utf-8"))
    row = [(found["step"], found["until"]) for found in run["rows"]].index((facts["step"], None))
    committed = to_uint8(claim.pictures_of(data_dir() / "results" / "regime" / f"engraved-{folder.name}-0.json")[row, :2])
    assert (drawn.int() - committed.int()).abs().float().mean() < 2
