"""``--report_to``: what a tracker is told of a training, and what is said where there is none."""

import shutil

import pytest
from accelerate import tracking as of_accelerate
from accelerate.utils import LoggerType
from conftest import make_gan, make_images

from dslib import data, train
from dslib.cli import commands, tracking


def run(*args) -> int:
    return commands.main([str(a) for a in args])


@pytest.fixture
def told(monkeypatch):
    """What a tracker in the place of wandb's was told: (what, …) in order."""
    calls = []

    class Told(of_accelerate.GeneralTracker):
        name, requires_logging_directory, tracker = "wandb", False, None

        def __init__(self, project, **more):
            super().__init__()
            calls.append(("project", project, more))

        def store_init_configuration(self, values):
            calls.append(("settings", values))

        def log(self, values, step=None, **more):
            calls.append(("log", step, values))

        def log_images(self, values, step=None, **more):
            calls.append(("images", step, {name: images.shape for name, images in values.items()}, more))

        def finish(self):
            calls.append(("finish",))
    monkeypatch.setitem(of_accelerate.LOGGER_TYPE_TO_CLASS, "wandb", Told)
    monkeypatch.setattr(of_accelerate, "_available_trackers", [LoggerType("wandb")])
    return calls


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    data.write_images(tmp_path / "photos", make_images(4, 40))
    return tmp_path / "photos"


@pytest.fixture
def adapting(source_dir, photos, tmp_path):
    """dslib adapt on the tiny source, without its report."""
    return ["adapt", "--source", source_dir, "--train_data_dir", photos, "--output_dir", tmp_path / "out", "--train_batch_size", 4,
            "--num_images", 3, "--num_inference_steps", 1]


def test_every_term_and_the_rate_are_told_as_means_of_ten_steps(adapting, told, monkeypatch):
    """The curves are those of the training itself: its terms, step by step, in the same order."""
    seen, real = [], train.adapt
    monkeypatch.setattr(train, "adapt", lambda *given, **more: (seen.append(record) or record for record in real(*given, **more)))
    monkeypatch.setattr("dslib.cli.results.write_scores", lambda *_: None)
    monkeypatch.setattr(commands, "write_scores", lambda *_: None)
    assert run(*adapting, "--max_train_steps", 13, "--lr_decay_steps", 13, "--report_to", "wandb") == 0
    assert told[0] == ("project", "domainstudio", {}) and told[1][0] == "settings"
    assert told[1][1]["lambda_img"] == 0.3 and not {"output_dir", "snr_gamma"} & told[1][1].keys(), "no place, and nothing that is None"
    points = [entry for entry in told if entry[0] == "log"]
    assert [step for _, step, _ in points] == [10, 13]
    for (_, last, values), steps in zip(points, (seen[:10], seen[10:13])):
        assert values.keys() == {"terms/simple", "terms/img", "terms/hf", "terms/hfmse", "loss", "learning_rate"}
        for name in ("simple", "img"):
            assert values[f"terms/{name}"] == pytest.approx(sum(float(one.terms[name]) for one in steps) / len(steps))
        assert values["learning_rate"] == pytest.approx(seen[last - 1].lr) and values["loss"] == pytest.approx(float(seen[last - 1].loss))
    assert told[-2:] == [("images", 13, {"samples": (3, 32, 32, 3)}, {}), ("finish",)]


def test_a_resumed_run_goes_on_where_it_was(adapting, told, monkeypatch):
    monkeypatch.setattr(commands, "write_results", lambda *_: None)
    common = [*adapting, "--method", "finetune", "--report_to", "wandb"]
    assert run(*common, "--max_train_steps", 14, "--checkpointing_steps", 7) == 0
    first = list(told)
    told.clear()
    assert run(*common, "--max_train_steps", 30, "--resume_from_checkpoint", "latest") == 0
    assert [entry[1] for entry in first if entry[0] == "log"] == [10, 14]
    assert [entry[1] for entry in told if entry[0] == "log"] == [20, 30] and "settings" not in [entry[0] for entry in told]


def test_two_methods_are_two_trainings(adapting, told, monkeypatch):
    monkeypatch.setattr(commands, "write_results", lambda *_: None)
    assert run(*adapting, "--max_train_steps", 1, "--compare_finetune", "--report_to", "wandb") == 0
    assert [entry[1] if entry[0] == "project" else entry[0] for entry in told] == [
        "finetune", "settings", "log", "finish", "domainstudio", "settings", "log", "finish"]


def test_a_gan_tells_of_both_players(photos, told, tmp_path, monkeypatch):
    from dslib.gan.folder import save_gan
    monkeypatch.setattr("dslib.cli.gan.write_scores", lambda *_: None)
    source = save_gan(make_gan((16, 16, 8, 8)), tmp_path / "gan")
    assert run("adapt", "--method", "tgan", "--source", source, "--train_data_dir", photos, "--output_dir", tmp_path / "out",
               "--max_train_steps", 2, "--num_images", 3, "--report_to", "wandb") == 0
    log = next(entry for entry in told if entry[0] == "log")
    assert log[1] == 2 and {"terms/generator", "terms/discriminator", "terms/diversity", "learning_rate"} <= log[2].keys()
    assert told[-2:] == [("images", 2, {"samples": (3, 32, 32, 3)}, {}), ("finish",)]


def test_pretraining_tells_too_and_leaves_a_card(told, tmp_path):
    assert run("pretrain", "--num_images", 10, "--resolution", 32, "--num_graded", 4, "--max_train_steps", 2, "--train_batch_size", 2,
               "--channels", 8, 32, "--output_dir", tmp_path / "out", "--report_to", "wandb") == 0
    assert told[0][1] == "pretrain" and {"terms/simple", "terms/coarse"} <= told[2][2].keys() and told[2][1] == 2
    assert told[-2] == ("images", 2, {"samples": (4, 32, 32, 3)}, {})
    assert "random weights" in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_an_interrupted_run_closes_its_trackers(adapting, told, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(commands, "write_results", stop)
    assert run(*adapting, "--max_train_steps", 1, "--report_to", "wandb") == 130
    assert told[-1] == ("finish",) and tracking.Open.accelerator is None


def test_only_the_main_process_tells(tmp_path, told, monkeypatch):
    from types import SimpleNamespace
    config, record = train.TrainConfig(output_dir=str(tmp_path / "out"), max_train_steps=1), SimpleNamespace(step=1, loss=1.0, lr=1e-3)
    monkeypatch.setattr(tracking, "main_process", lambda: False)
    tracking.log("wandb", "finetune", config, record, {"step": [1], "simple": [1.0]})
    assert told == [] and not (tmp_path / "out").exists()
    tracking.finish()
    monkeypatch.setattr(tracking, "main_process", lambda: True)
    tracking.log("wandb", "finetune", config, record, {"step": [1], "simple": [1.0]})
    assert ("log", 1, {"terms/simple": 1.0, "loss": 1.0, "learning_rate": 1e-3}) in told
    tracking.finish()


@pytest.mark.parametrize("command", [["adapt", "--target", "sketches"], ["adapt", "--target", "sketches", "--method", "tgan"],
                                     ["adapt-t2i", "--target", "sketches"], ["pretrain"], ["pretrain-gan"],
                                     ["pretrain-t2i", "--stage", "vae"]], ids=lambda words: "-".join(words[:1] + words[3:]))
@pytest.mark.parametrize("word, said", [
    ("tensorbord", ["--report_to is 'tensorbord'", "tensorboard", "wandb"]), ("mlflow", ["needs the package mlflow", "pip install mlflow"]),
    ("wandb,tensorboard", ["needs the package tensorboard", "pip install tensorboard"])])
def test_a_tracker_that_cannot_be_had_is_said_before_the_work(command, word, said, tmp_path, capsys, monkeypatch):
    from dslib import models
    monkeypatch.setattr(of_accelerate, "_available_trackers", [LoggerType("wandb")])
    monkeypatch.setattr(models, "load_source", lambda *_: pytest.fail("work has begun"))
    monkeypatch.setattr(data, "draw_domain", lambda *_, **__: pytest.fail("work has begun"))
    assert run(*command, "--output_dir", tmp_path / "out", "--report_to", word) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and all(part in line for part in said), line
    assert not (tmp_path / "out").exists()


def test_all_takes_what_is_installed_and_none_takes_nothing(monkeypatch):
    monkeypatch.setattr(of_accelerate, "_available_trackers", [LoggerType("wandb"), LoggerType("tensorboard")])
    assert tracking.wanted("all") == ["wandb", "tensorboard"] and tracking.wanted("none") == tracking.wanted(None) == []
    assert tracking.wanted(" tensorboard , wandb, tensorboard") == ["tensorboard", "wandb"]
    monkeypatch.setattr(of_accelerate, "_available_trackers", [])
    with pytest.raises(Exception, match="pip install tensorboard"):
        tracking.wanted("all")


def test_a_tracker_that_fails_to_begin_is_one_line(adapting, told, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("no login\nat all")
    bad = type("Bad", (), {"requires_logging_directory": False, "__init__": fail})
    monkeypatch.setitem(of_accelerate.LOGGER_TYPE_TO_CLASS, "wandb", bad)
    assert run(*adapting, "--max_train_steps", 1, "--report_to", "wandb") == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == ("dslib: error: --report_to wandb could not begin (no login): mend that, or "
                                                                "leave the option out")


def test_tensorboard_itself(adapting, tmp_path, monkeypatch):
    """Event files that TensorBoard reads; steps that a killed run had told of and a resumed one takes again are there once."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read():
        events = EventAccumulator(str(tmp_path / "out" / "logs" / "finetune"))
        events.Reload()
        return events
    monkeypatch.setattr(commands, "write_scores", lambda *_: None)
    common = [*adapting, "--method", "finetune", "--report_to", "tensorboard"]
    assert run(*common, "--max_train_steps", 30, "--checkpointing_steps", 15) == 0
    assert [one.step for one in read().Scalars("terms/simple")] == [10, 20, 30]
    before = {one.step: one.value for one in read().Scalars("terms/simple")}
    shutil.rmtree(tmp_path / "out" / "checkpoint-30")
    assert run(*common, "--max_train_steps", 40, "--resume_from_checkpoint", "latest") == 0
    events = read()
    steps = [one.step for one in events.Scalars("terms/simple")]
    assert steps == [10, 20, 30, 40] and events.Scalars("terms/simple")[0].value == before[10]
    assert {"loss", "learning_rate", "terms/simple"} <= set(events.Tags()["scalars"])
    assert [one.step for one in events.Images("samples")][-1] == 40
    assert events.Tags()["images"] == ["samples"]
