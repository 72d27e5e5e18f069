"""A run that was begun before the library moved goes on after it: ``tests/old`` holds a checkpoint of then, and what it came to."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDPMPipeline

from dslib import models, train
from dslib.env import UserError
from dslib.train import TrainConfig

OLD = Path(__file__).with_name("old") / "run"


@pytest.fixture
def source():
    with torch.random.fork_rng():
        torch.manual_seed(1234)
        unet = models.new_unet(16, (8, 8))
    return DDPMPipeline(unet=unet.eval(), scheduler=models.new_scheduler())


@pytest.fixture
def images():
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def settings(folder, **changes):
    return TrainConfig(**{"max_train_steps": 4, "train_batch_size": 4, "seed": 3, "output_dir": str(folder),
                          "resume_from_checkpoint": "latest"} | changes)


def test_an_old_checkpoint_resumes_to_the_weights_it_came_to_then(source, images, tmp_path, capsys):
    shutil.copytree(OLD, tmp_path / "run")
    *_, last = train.adapt(source, images, settings(tmp_path / "run"))
    flat = torch.cat([p.detach().flatten() for p in last.averaged().parameters()])
    generator = torch.Generator().manual_seed(0)
    got = [float(torch.randn(len(flat), generator=generator) @ flat / len(flat)**0.5) for _ in range(6)]
    assert last.step == 4 and got == pytest.approx(json.loads((OLD / "expected.json").read_text())["projections"], rel=1e-4)
    assert capsys.readouterr().err == "", "equal settings, though written with keys that are now elsewhere, are not called different"


def test_an_old_checkpoint_names_what_differs_and_what_nobody_knows(source, images, tmp_path, capsys):
    shutil.copytree(OLD, tmp_path / "run")
    state = tmp_path / "run" / "checkpoint-2" / "state.json"
    content = json.loads(state.read_text())
    content["config"] |= {"lambda_mood": 2.0, "lambda_img": 0.7}
    state.write_text(json.dumps(content))
    list(train.adapt(source, images, settings(tmp_path / "run")))
    said = capsys.readouterr().err
    assert "does not know, left out: lambda_mood" in said and "other settings than it was saved with: lambda_img" in said


def test_an_old_checkpoint_of_another_method_is_refused(source, images, tmp_path):
    shutil.copytree(OLD, tmp_path / "run")
    with pytest.raises(UserError, match="was trained with --method domainstudio, not finetune"):
        list(train.adapt(source, images, settings(tmp_path / "run", method="finetune")))
