"""``--push_to_hub``: what is sent, what never is, and what is said before and after the work where it cannot be."""

import fnmatch
from types import SimpleNamespace

import huggingface_hub
import pytest
from conftest import make_images
from huggingface_hub import constants

from dslib import data, models
from dslib.cli import commands, hub


def run(*args) -> int:
    return commands.main([str(a) for a in args])


@pytest.fixture
def adapting(source_dir, tmp_path):
    (tmp_path / "photos").mkdir()
    data.write_images(tmp_path / "photos", make_images(4, 40))
    return ["adapt", "--source", source_dir, "--train_data_dir", tmp_path / "photos", "--output_dir", tmp_path / "out", "--method",
            "finetune", "--max_train_steps", 1, "--num_images", 3, "--num_inference_steps", 1, "--push_to_hub"]


@pytest.fixture
def sent(monkeypatch):
    """A hub of one's own: what it was told, in order. ``sent.public``: the model is there already, for all to see."""
    calls = SimpleNamespace(told=[], public=False, fails=None)

    class Api:
        def create_repo(self, name, private, exist_ok):
            calls.told.append(("create", name, private, exist_ok))
            if calls.fails:
                raise calls.fails
            return SimpleNamespace(repo_id=name if "/" in name else f"me/{name}")

        def model_info(self, name):
            return SimpleNamespace(private=not calls.public)

        def upload_folder(self, repo_id, folder_path, allow_patterns, commit_message):
            there = [p.relative_to(folder_path).as_posix() for p in folder_path.rglob("*") if p.is_file()]
            files = sorted(name for name in there if any(fnmatch.fnmatch(name, one) for one in allow_patterns))
            calls.told.append(("upload", repo_id, files, commit_message))
    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_none")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return calls


PIPELINE = ["README.md", "model_index.json", "scheduler/scheduler_config.json", "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors"]


def test_model_and_card_are_pushed_and_no_picture(adapting, sent, tmp_path, capsys):
    """samples.png and report.html show the training images, metrics.json names their folder: they stay here."""
    assert run(*adapting, "--hub_model_id", "someone/faces", "--checkpointing_steps", 1) == 0
    assert (tmp_path / "out" / "samples.png").exists() and (tmp_path / "out" / "checkpoint-1" / "unet").is_dir()
    assert sent.told == [("create", "someone/faces", True, True), ("upload", "someone/faces", PIPELINE, "dslib adapt, finetune")]
    assert capsys.readouterr().out.splitlines()[-1] == "Hub:      someone/faces  (private)"


def test_without_a_name_it_is_the_folders_under_ones_login(adapting, sent, capsys):
    assert run(*adapting, "--hub_public") == 0
    assert [entry[1:3] for entry in sent.told] == [("out", False), ("me/out", PIPELINE)]
    assert "me/out  (public)" in capsys.readouterr().out


def test_nothing_is_pushed_unasked(adapting, sent):
    assert run(*adapting[:-1]) == 0 and sent.told == []


def test_a_private_push_into_a_public_model_is_refused(adapting, sent, tmp_path, capsys):
    sent.public = True
    assert run(*adapting, "--hub_model_id", "someone/faces") == 2
    assert [entry[0] for entry in sent.told] == ["create"] and (tmp_path / "out" / "model_index.json").exists()
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "someone/faces is there already and public" in line and "--hub_public" in line


def test_no_network_costs_the_run_nothing(adapting, sent, tmp_path, capsys):
    sent.fails = ConnectionError("no route\nto anywhere")
    assert run(*adapting, "--hub_model_id", "someone/faces") == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "the run is whole" in line and "(no route)" in line and f"hf upload someone/faces {tmp_path / 'out'} . --private" in line
    assert models.load_source(tmp_path / "out") and all((tmp_path / "out" / name).exists() for name in ("report.html", "README.md"))


@pytest.mark.parametrize("more, token, offline, said", [
    (["--push_to_hub"], None, False, ["hf auth login", "HF_TOKEN"]),
    (["--push_to_hub"], RuntimeError("expired"), False, ["no login (expired)", "hf auth login"]),
    (["--push_to_hub"], "hf_x", True, ["HF_HUB_OFFLINE"]),
    (["--push_to_hub", "--hub_model_id", "a/b/c"], "hf_x", False, ["'a/b/c'", "--hub_model_id owner/name"]),
    (["--push_to_hub", "--output_dir", "my faces"], "hf_x", False, ["'my faces'", "--hub_model_id owner/name"]),
    (["--hub_model_id", "a/b"], "hf_x", False, ["--hub_model_id is of --push_to_hub"]),
    (["--hub_public"], "hf_x", False, ["--hub_public is of --push_to_hub"])])
def test_what_cannot_be_pushed_is_said_before_the_work(more, token, offline, said, monkeypatch, tmp_path, capsys):
    def login():
        if isinstance(token, Exception):
            raise token
        return token
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "get_token", login)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(models, "load_source", lambda *_: pytest.fail("work has begun"))
    assert run("adapt", "--target", "sketches", *more) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and all(word in line for word in said), line
    assert list(tmp_path.iterdir()) == []


def test_the_name_is_that_of_the_folder_the_run_takes(tmp_path):
    def name(**given):
        return hub.model_id(SimpleNamespace(**{"target": None, "train_data_dir": None, "hub_model_id": None, "output_dir": None,
                                               "method": "finetune"} | given))
    assert name(target="sketches") == "sketches-finetune"
    assert name(train_data_dir=str(tmp_path / "ten") + "/") == "ten-finetune"
    assert name(target="sketches", output_dir="runs/mine/") == "mine"
    assert name(target="sketches", output_dir="runs/mine", hub_model_id="a/b") == "a/b"
