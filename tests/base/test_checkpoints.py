"""The kind: **the newest checkpoint cannot be used, and the advice leads nowhere.**

Members: weights cut off, empty, filled with zeros, missing; averages or moments empty or missing; state.json cut off, empty, missing, or
without an entry; NaN in the weights; a folder with nothing in it; a process killed between two renames. ``latest`` takes the last whole
one and says so in one line, and the run goes on past the broken one.
"""

import json
import shutil

import pytest
import torch
from conftest import make_images, make_source
from safetensors.torch import load_file, save_file

from dslib import train
from dslib.base import checkpoint
from dslib.env import UserError
from dslib.train import TrainConfig

WEIGHTS = checkpoint.WEIGHTS


def config(folder, **changes):
    return TrainConfig(**{"method": "finetune", "max_train_steps": 4, "train_batch_size": 2, "learning_rate": 1e-3,
                          "output_dir": str(folder), "checkpointing_steps": 1} | changes)


def run(settings):
    *_, last = train.adapt(make_source(), make_images(4, 16), settings)
    return torch.cat([p.detach().flatten() for p in (*last.model.parameters(), *last.averaged().parameters())])


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with checkpoints of steps 1 and 2, and the weights of step 4."""
    folder = tmp_path_factory.mktemp("begun")
    run(config(folder, max_train_steps=2))
    return folder, run(config(tmp_path_factory.mktemp("whole")))


def cut(path, share=0.6):
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])


def zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


def nan(path):
    content = load_file(path)
    next(iter(content.values())).view(-1)[0] = float("nan")
    save_file(content, path)


def lacking(path):
    path.write_text(json.dumps({"step": 2}))


FAULTS = {
    "weights cut off": (WEIGHTS, cut), "weights empty": (WEIGHTS, lambda p: p.write_bytes(b"")), "weights all zero": (WEIGHTS, zeros),
    "weights missing": (WEIGHTS, lambda p: p.unlink()), "NaN in the weights": (WEIGHTS, nan),
    "NaN in the moments": (checkpoint.MOMENTS, nan),
    "averages missing": (checkpoint.AVERAGE, lambda p: p.unlink()), "moments empty": (checkpoint.MOMENTS, lambda p: p.write_bytes(b"")),
    "moments cut off": (checkpoint.MOMENTS, lambda p: cut(p, 0.99)), "state cut off": ("state.json", cut),
    "state empty": ("state.json", lambda p: p.write_text("")), "state missing": ("state.json", lambda p: p.unlink()),
    "state without an entry": ("state.json", lacking), "state is a list": ("state.json", lambda p: p.write_text("[1]")),
    "nothing in the folder": (".", lambda p: (shutil.rmtree(p), p.mkdir())),
}


@pytest.mark.parametrize("what", FAULTS)
def test_latest_takes_the_last_whole_one_says_so_and_goes_on_past_the_broken_one(begun, tmp_path, capsys, what):
    (begun_in, want), (name, damage) = begun, FAULTS[what]
    folder = shutil.copytree(begun_in, tmp_path / "run")
    damage(folder / "checkpoint-2" / name)
    assert torch.equal(run(config(folder, resume_from_checkpoint="latest", checkpointing_steps=2)), want)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "checkpoint-2 is damaged (" in said[0] and "resuming from checkpoint-1, the last whole one" in said[0]
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    assert all(checkpoint.fault_of(c) is None for c in checkpoint.checkpoints(folder))


@pytest.mark.parametrize("what", ["weights empty", "state missing", "NaN in the weights"])
def test_a_damaged_one_is_refused_by_name_and_the_advice_works(begun, tmp_path, what):
    (begun_in, want), (name, damage) = begun, FAULTS[what]
    folder = shutil.copytree(begun_in, tmp_path / "run")
    damage(folder / "checkpoint-2" / name)
    with pytest.raises(UserError, match="checkpoint-2 is (damaged|no complete checkpoint).*'latest'"):
        run(config(folder, resume_from_checkpoint=str(folder / "checkpoint-2")))
    if what != "NaN in the weights":             # only reading it whole shows that: until then it counts as a later one
        assert torch.equal(run(config(folder, resume_from_checkpoint=str(folder / "checkpoint-1"))), want)


def test_where_all_are_damaged_one_line_says_what_and_how_to_begin_anew(begun, tmp_path):
    folder = shutil.copytree(begun[0], tmp_path / "run")
    for one in checkpoint.checkpoints(folder):
        cut(one / WEIGHTS)
    with pytest.raises(UserError, match="checkpoint-2 is damaged.*checkpoint-1 is damaged.*begin anew with --overwrite"):
        run(config(folder, resume_from_checkpoint="latest"))


def test_a_checkpoint_that_was_being_replaced_gets_its_name_back(begun, tmp_path):
    folder = shutil.copytree(begun[0], tmp_path / "run")
    shutil.rmtree(folder / "checkpoint-1")
    (folder / "checkpoint-2").rename(folder / "checkpoint-2.old.part")
    (folder / "checkpoint-3.part").mkdir()
    assert torch.equal(run(config(folder, resume_from_checkpoint="latest", checkpointing_steps=2)), begun[1])
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint-2", "checkpoint-4"], "what a killed run left is gone"


def test_damaged_ones_do_not_push_whole_ones_out(begun, tmp_path):
    """Two are kept: with a broken checkpoint-9 that counted, checkpoint-2 alone would be left beside it."""
    folder = shutil.copytree(begun[0], tmp_path / "run")
    shutil.copytree(folder / "checkpoint-2", folder / "checkpoint-9")
    cut(folder / "checkpoint-9" / WEIGHTS)
    run(config(folder, max_train_steps=3, resume_from_checkpoint="latest"))
    assert sorted(p.name for p in folder.iterdir()) == ["checkpoint-2", "checkpoint-3"]
