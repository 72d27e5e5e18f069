"""Pipelines go to disk and come back; what cannot be opened safely is refused in one line."""

import json
import os
import pickle
import shutil
from types import SimpleNamespace

import pytest
import torch
from conftest import make_images, make_source
from diffusers import DDPMPipeline
from safetensors.torch import load_file

from dslib import ddpm, models
from dslib.base import pipelines
from dslib.env import UserError, data_dir


@pytest.fixture
def own_copy(tiny_source_dir, tmp_path):
    """A saved pipeline that a test may break."""
    return shutil.copytree(tiny_source_dir, tmp_path / "pipeline")


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def size(folder):
    return sum(p.stat().st_size for p in folder.glob("unet/*.safetensors"))


def refused(source, *words):
    """load_source(source) raises one UserError line that holds all the words."""
    with pytest.raises(UserError) as caught:
        models.load_source(source)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


# ------------------------------------------------------------------------------------------ there and back

def test_saved_and_loaded_weights_are_equal(tiny_source, tiny_source_dir):
    pipe = models.load_source(tiny_source_dir)
    assert same(pipe.unet, tiny_source.unet)
    saved, kept = (DDPMPipeline.from_pretrained(tiny_source_dir).scheduler.config, tiny_source.scheduler.config)
    assert {k: saved[k] for k in kept if k[0] != "_"} == {k: v for k, v in kept.items() if k[0] != "_"}
    assert next(pipe.unet.parameters()).dtype == torch.float32


def test_loading_says_nothing(tiny_source_dir, caplog, capfd):
    """A library's warning would stand between the reader and the one line that matters."""
    models.load_source(tiny_source_dir)
    assert [r.getMessage() for r in caplog.records] == []
    assert capfd.readouterr() == ("", "")


def test_the_folder_is_an_ordinary_pipeline_without_pickles(tiny_source, tiny_source_dir):
    assert sorted(p.name for p in tiny_source_dir.iterdir()) == ["model_index.json", "scheduler", "unet"]
    assert {p.suffix for p in tiny_source_dir.rglob("*") if p.is_file()} == {".json", ".safetensors"}
    assert same(DDPMPipeline.from_pretrained(tiny_source_dir).unet, tiny_source.unet)


def test_half_precision_takes_half_the_room_and_loads_in_full(tiny_source, tiny_source_dir, tmp_path):
    models.save_pipeline(tiny_source.unet, tiny_source.scheduler, tmp_path, half=True)
    stored = load_file(next(tmp_path.glob("unet/*.safetensors")))
    assert {v.dtype for v in stored.values()} == {torch.float16}
    assert sum(v.numel() * 2 for v in stored.values()) == sum(p.numel() * 4 for p in tiny_source.unet.parameters()) / 2
    header = 100 * len(stored)
    assert size(tmp_path) <= size(tiny_source_dir) / 2 + header
    assert next(tiny_source.unet.parameters()).dtype == torch.float32      # the caller's model is as it was
    loaded = models.load_source(tmp_path).unet
    for a, b in zip(loaded.parameters(), tiny_source.unet.parameters()):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_saving_again_replaces_the_model(own_copy):
    other = make_source(seed=5)
    models.save_pipeline(other.unet, other.scheduler, own_copy)
    assert same(models.load_source(own_copy).unet, other.unet)
    assert not list(own_copy.glob("*.part"))


def test_saving_keeps_what_else_is_in_the_folder(own_copy):
    (own_copy / "notes.txt").write_text("mine")
    pipe = make_source()
    models.save_pipeline(pipe.unet, pipe.scheduler, own_copy)
    assert (own_copy / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("channels", [(8, 16), (8, 32), (16, 32, 64, 128)])
def test_new_unet_predicts_noise_of_the_images_shape(channels):
    unet = models.new_unet(16, channels)
    assert unet(torch.zeros(1, 3, 16, 16), 5).sample.shape == (1, 3, 16, 16)


def test_new_unet_with_learned_variance_predicts_twice_the_channels():
    assert models.new_unet(16, (8, 32), learned_variance=True)(torch.zeros(1, 3, 16, 16), 5).sample.shape == (1, 6, 16, 16)


def test_default_unet_is_as_small_as_it_says():
    assert sum(p.numel() for p in models.new_unet().parameters()) == pytest.approx(2.7e6, rel=0.05)


def test_new_scheduler_is_the_papers():
    config = models.new_scheduler().config
    assert (config.num_train_timesteps, config.beta_schedule, config.beta_start, config.beta_end) == (1000, "linear", 1e-4, 0.02)
    assert config.prediction_type == "epsilon"


# ------------------------------------------------------------------------------------------ refused

@pytest.mark.parametrize("ending", ["bin", "pt", "pth", "ckpt", "pkl"])
def test_a_pickle_in_the_folder_is_refused_and_not_opened(own_copy, tmp_path, ending):
    next(own_copy.glob("unet/*.safetensors")).unlink()
    bomb = own_copy / "unet" / f"diffusion_pytorch_model.{ending}"

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    bomb.write_bytes(pickle.dumps(Bomb()))
    refused(own_copy, bomb.name, "pickle", "refused")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("name", ["model.bin", "model.pt", "model.ckpt", "model.safetensors"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_checkpoint_file_is_refused(tmp_path, name, exists):
    if exists:
        (tmp_path / name).write_bytes(b"\x80\x04")
    refused(tmp_path / name, name, "not a pipeline folder")


def test_no_weights_at_all(own_copy):
    next(own_copy.glob("unet/*.safetensors")).unlink()
    refused(own_copy, "unet", "no .safetensors")


def test_missing_model_index(own_copy):
    (own_copy / "model_index.json").unlink()
    refused(own_copy, str(own_copy), "model_index.json")


def test_a_saved_folder_does_not_say_where_its_source_lay(tiny_source_dir, tmp_path):
    pipe = models.load_source(tiny_source_dir)
    assert str(tiny_source_dir) in pipe.unet.config._name_or_path                    # what diffusers would write
    models.save_pipeline(pipe.unet, pipe.scheduler, tmp_path / "mine")
    assert not [path for path in (tmp_path / "mine").rglob("*.json") if "_name_or_path" in path.read_text("utf-8")]
    saved = models.load_source(tmp_path / "mine").unet.config
    assert {k: v for k, v in saved.items() if k != "_name_or_path"} == {k: v for k, v in pipe.unet.config.items() if k != "_name_or_path"}


def test_another_kind_of_pipeline(own_copy):
    index = json.loads((own_copy / "model_index.json").read_text())
    (own_copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "StableDiffusionPipeline"}))
    refused(own_copy, "StableDiffusionPipeline", "DDPMPipeline is needed")


def test_another_kind_of_network(own_copy):
    index = json.loads((own_copy / "model_index.json").read_text())
    (own_copy / "model_index.json").write_text(json.dumps(index | {"unet": ["diffusers", "AutoencoderKL"]}))
    refused(own_copy, str(own_copy))


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_damaged_model_index(own_copy, content):
    (own_copy / "model_index.json").write_text(content)
    refused(own_copy, str(own_copy))


@pytest.mark.parametrize("part", ["unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("damage", ["missing", "torn"])
def test_damaged_settings(own_copy, part, damage):
    path = own_copy / part
    path.unlink() if damage == "missing" else path.write_text('{"in_channels": ')
    refused(own_copy, str(own_copy))


@pytest.mark.parametrize("length", [0, 4, 100, -100])
def test_truncated_weights(own_copy, length):
    path = next(own_copy.glob("unet/*.safetensors"))
    path.write_bytes(path.read_bytes()[:length])
    refused(own_copy, str(own_copy))


def test_weights_that_do_not_fit_the_settings(own_copy):
    path = own_copy / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"block_out_channels": [16, 32]}))
    refused(own_copy, str(own_copy))


def test_missing_paths(tmp_path):
    for path in (tmp_path / "nowhere", "./nowhere/at-all", "nowhere", "a/b/c"):
        refused(path, str(path), "no folder")


def test_a_hub_id_without_network_says_what_would_have_been_fetched(monkeypatch):
    def offline(name, **options):
        assert options["use_safetensors"] is True
        raise OSError(f"We couldn't connect to 'https://huggingface.co' to load {name}\nand more lines")

    monkeypatch.setattr(DDPMPipeline, "from_pretrained", offline)
    refused("google/ddpm-celebahq-256", "google/ddpm-celebahq-256", "would have been fetched", "network")


def test_a_hub_id_in_offline_mode(monkeypatch):
    """The same with diffusers' real answer; a name that cannot be in any cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("nobody/no-such-model", "'nobody/no-such-model' would have been fetched")


def test_no_shipped_source(tmp_path, monkeypatch):
    monkeypatch.setenv("DSLIB_DATA", str(tmp_path))
    refused(None, str(tmp_path / "source"), "dslib pretrain")


# ------------------------------------------------------------------------------------------ killed while saving

@pytest.mark.parametrize("moment", range(1, 4))
@pytest.mark.parametrize("fresh", [True, False])
def test_a_kill_while_saving_never_leaves_a_mixture(tiny_source, own_copy, tmp_path, monkeypatch, moment, fresh):
    """Killed at each of the moves: what is there is the old model, whole, or something that is refused."""
    folder = tmp_path / "new" if fresh else own_copy
    old, other, calls = tiny_source.unet, make_source(seed=5), []

    def killed(source, target):
        calls.append(target)
        if len(calls) == moment:
            raise KeyboardInterrupt
        os.rename(source, target)

    monkeypatch.setattr(pipelines.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        models.save_pipeline(other.unet, other.scheduler, folder)
    monkeypatch.undo()
    try:
        found = models.load_source(folder).unet
    except UserError as error:
        assert "model_index.json" in str(error)
    else:
        assert not fresh and same(found, old)
    models.save_pipeline(other.unet, other.scheduler, folder)          # and saving again heals it
    assert same(models.load_source(folder).unet, other.unet)
    assert not list(folder.glob("*.part"))


def test_a_full_disk_leaves_the_old_model(tiny_source, own_copy, monkeypatch):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    other = make_source(seed=5)
    monkeypatch.setattr(DDPMPipeline, "save_pretrained", full)
    with pytest.raises(OSError, match="No space"):
        models.save_pipeline(other.unet, other.scheduler, own_copy)
    assert same(models.load_source(own_copy).unet, tiny_source.unet)


# ------------------------------------------------------------------------------------------ ε and v

def rewrite(path, **changes):
    settings = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_both_prediction_types_go_to_disk_and_come_back(tmp_path, prediction_type):
    scheduler = models.new_scheduler(prediction_type)
    models.save_pipeline(make_source().unet, scheduler, tmp_path)
    assert models.load_source(tmp_path).scheduler.config.prediction_type == prediction_type
    assert torch.equal(models.new_scheduler().alphas_cumprod, scheduler.alphas_cumprod)


def test_new_scheduler_of_a_third_type_is_refused():
    with pytest.raises(UserError, match="'sample': only epsilon and v_prediction"):
        models.new_scheduler("sample")


def test_a_source_of_a_third_type_is_refused(own_copy):
    rewrite(own_copy / "scheduler" / "scheduler_config.json", prediction_type="sample")
    refused(own_copy, str(own_copy), "'sample'", "only epsilon and v_prediction")


def test_a_source_whose_scheduler_does_not_say_is_taken_for_epsilon(own_copy):
    rewrite(own_copy / "scheduler" / "scheduler_config.json", prediction_type=None)
    assert models.load_source(own_copy).scheduler.config.get("prediction_type") == "epsilon"


def test_a_network_with_odd_channels_is_refused(tmp_path):
    unet = models.UNet2DModel(sample_size=16, in_channels=3, out_channels=4, layers_per_block=1, block_out_channels=(8, 32),
                              norm_num_groups=2, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    models.save_pipeline(unet, models.new_scheduler(), tmp_path)
    refused(tmp_path, str(tmp_path), "turns 3 channels into 4", "3, or 6")


class Knowing(torch.nn.Module):
    """The best answer, of either type, for a world of one picture; ``shy`` scales it down."""

    def __init__(self, prediction_type, shy=1.0):
        super().__init__()
        self.config = SimpleNamespace(sample_size=64, in_channels=3, out_channels=3)
        self.a_bar, self.kind, self.shy = models.new_scheduler().alphas_cumprod, prediction_type, shy
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.picture = make_images(1, 64)

    def forward(self, x_t, t):
        if t < 500:                  # the looks are at a grey picture; only a guess from nothing is the world's
            x_0 = torch.zeros_like(x_t)
        else:
            x_0 = self.picture.expand_as(x_t)
        eps = (x_t - self.a_bar[t].sqrt() * x_0) / (1 - self.a_bar[t]).sqrt()
        t = torch.full((len(x_t),), t)
        return SimpleNamespace(sample=self.shy * ddpm.target(x_0, eps, t, self.a_bar, self.kind))


@pytest.mark.parametrize("trained", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("said", ["epsilon", "v_prediction"])
def test_a_mismatch_that_can_be_seen_is_refused(trained, said):
    pipe = SimpleNamespace(unet=Knowing(trained), scheduler=models.new_scheduler(said))
    assert models.seen_prediction(pipe.unet, pipe.scheduler) == trained
    if trained == said:
        return models.check_prediction(pipe, "somewhere")
    with pytest.raises(UserError, match=f"somewhere.*{said}, .*trained for {trained}.*\"prediction_type\": \"{trained}\"") as caught:
        models.check_prediction(pipe, "somewhere")
    assert "\n" not in str(caught.value)


def test_a_network_that_answers_nothing_is_not_judged():
    silent = Knowing("epsilon", shy=0.0)
    assert models.seen_prediction(silent, models.new_scheduler()) is None


def test_random_weights_are_not_judged(tiny_source):
    tiny_source.unet.train()
    assert models.seen_prediction(tiny_source.unet, tiny_source.scheduler) is None
    assert tiny_source.unet.training


@pytest.mark.skipif(not (data_dir() / "source" / "model_index.json").exists(), reason="no shipped source")
def test_the_shipped_source_with_the_other_label_is_refused(tmp_path):
    said = models.load_source().scheduler.config.prediction_type
    other = "v_prediction" if said == "epsilon" else "epsilon"
    shutil.copytree(data_dir() / "source", tmp_path / "source")
    rewrite(tmp_path / "source" / "scheduler" / "scheduler_config.json", prediction_type=other)
    refused(tmp_path / "source", other, f"trained for {said}")


@pytest.mark.parametrize("groups", [1, 4, 8])
def test_norm_groups_of_a_new_unet(groups):
    unet = models.new_unet(16, (8, 32), norm_num_groups=groups)
    assert {m.num_groups for m in unet.modules() if isinstance(m, torch.nn.GroupNorm)} == {groups}
    assert {m.num_groups for m in models.new_unet(16, (8, 32)).modules() if isinstance(m, torch.nn.GroupNorm)} == {2}


def test_norm_groups_that_divide_nothing_are_refused():
    with pytest.raises(UserError, match=r"norm_num_groups is 16.*\(8, 32\)"):
        models.new_unet(16, (8, 32), norm_num_groups=16)
