"""Parts of the study of sizes: numbers against their definitions, a table each, and command lines that ``dslib adapt`` takes."""

import csv
import json
import shlex
import shutil

import pytest
import torch
from conftest import make_images, make_source

from dslib import cli, data, losses, models
from dslib.base.errors import UserError
from dslib.beyond import scales
from dslib.beyond import upsample as up
from dslib.study import __main__ as study
from dslib.study import resolution, resolution_cost, resolution_stage


def rows_of(path):
    return list(csv.DictReader(path.open()))


@pytest.fixture
def drawn(monkeypatch):
    """Pictures that nobody draws; the same at every size but for their noise."""
    def load_domain(name, split, n=None, resolution=64, workers=1):
        return data.Domain(make_images(n or 10, resolution, len(name) + len(split)), [{}] * (n or 10), name, split)
    monkeypatch.setattr(data, "load_domain", load_domain)


def test_the_losses_part_says_what_the_losses_say(drawn, tmp_path):
    assert study.main(["resolution", "losses", "--sizes", "32", "--batches", "2", "--output", str(tmp_path / "t.csv")]) == 0
    found = {(row["domain"], int(row["level"]), row["what"]): row for row in rows_of(tmp_path / "t.csv")}
    faces = make_images(20, 32, len("avataaars") + len("test"))
    twins = data.twin(faces, "engraved")
    prices = [float(losses.pairwise_kl(scales.detail(b, 2), scales.detail(a, 2))) for a, b in zip(faces.split(10), twins.split(10))]
    row = found["engraved", 2, "price"]
    assert float(row["value"]) == pytest.approx(sum(prices) / 2, rel=1e-3)
    assert float(row["spread"]) == pytest.approx(float(torch.tensor(prices).std()), rel=1e-2)
    assert float(found["engraved", 1, "share"]["value"]) == pytest.approx(float(scales.shares(twins)[:, 0].mean()), rel=1e-3)
    assert ("avataaars", 0, "price") not in found and found["gouache", 0, "price"]["resolution"] == "32"


def test_the_right_answer_is_cheaper_than_that_of_other_people(drawn):
    faces = data.load_domain("avataaars", "test", 10, 64).images
    found = resolution.of_twins(faces, data.twin(faces, "gouache"))
    assert found[0, "price"] < found[0, "price of other people"]
    assert resolution.of_twins(faces, faces)[1, "price"] == pytest.approx(0, abs=1e-5)


def test_the_mean_over_others_leaves_out_the_diagonal():
    square = torch.tensor([[9.0, 1, 2], [3, 9, 4], [5, 6, 9]])
    assert resolution.others(square) == pytest.approx((1 + 2 + 3 + 4 + 5 + 6) / 6)


def test_celebahq_has_the_parameters_of_the_published_file():
    with torch.device("meta"):
        unet = resolution_cost.celebahq().unet
    assert 4 * sum(p.numel() for p in unet.parameters()) == pytest.approx(455e6, rel=0.001), "diffusion_pytorch_model.bin has 455 MB"
    assert unet.config.sample_size == 256 and unet.down_blocks[4].attentions[0].heads == 1


def test_flops_are_counted_without_computing():
    unet = make_source(16).unet
    once = resolution_cost.gigaflops(unet)
    assert resolution_cost.gigaflops(resolution_cost.at_size(make_source(16), 32).unet) > 3.9 * once > 0


@pytest.mark.parametrize("name", resolution_cost.RECIPE)
def test_every_command_line_is_one_that_dslib_adapt_takes(name, monkeypatch):
    seen = []
    monkeypatch.setattr("dslib.models.load_source", lambda source: (_ for _ in ()).throw(UserError(f"asked for {source}")))
    monkeypatch.setattr("sys.stderr", type("Out", (), {"write": lambda self, text: seen.append(text), "flush": lambda self: None})())
    assert cli.main(shlex.split(resolution_cost.RECIPE[name])[1:]) == 2
    assert "asked for google/ddpm-celebahq-256" in "".join(seen)


@pytest.mark.parametrize("way", resolution_cost.WAYS)
def test_every_way_is_the_same_step(way, drawn):
    source = make_source(32)
    plain, other = (next(resolution_cost.start(source, "domainstudio", name, 1)) for name in ("plain", way))
    assert other.model.is_gradient_checkpointing == (way in ("checkpointing", "all three")) and not plain.model.is_gradient_checkpointing
    assert float(other.loss) == pytest.approx(float(plain.loss), rel=0.05 if "bf16" in way or "all" in way else 1e-5)
    assert not source.unet.is_gradient_checkpointing, "the source is left as it is"


def test_a_runs_own_copies_of_the_weights_count_as_its_memory(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(resolution_cost.bench, "resident", lambda field: now[0])

    def begin():
        now[0] = 350.0              # copies, made before the first step
        return iter([1, 2, 3])

    assert resolution_cost.steps_with_memory(begin)[1] == 250


def test_cost_times_every_case_and_asks_a_fresh_process_for_memory(drawn, monkeypatch, tmp_path):
    monkeypatch.setattr(models, "load_source", lambda *_: make_source(16))
    monkeypatch.setattr(resolution_cost, "apart", lambda *words: [1.0, 100.0 + len(words)])
    out = tmp_path / "c.csv"
    assert study.main(["resolution", "cost", "--sizes", "32", "--steps", "1", "--ways", "plain", "bf16", "--output", str(out)]) == 0
    rows = rows_of(out)
    assert [(row["what"], row["method"], row["way"]) for row in rows[:3]] == [
        ("step", "finetune", "plain"), ("step", "finetune", "bf16"), ("step", "domainstudio", "plain")]
    assert len(rows) == 8 and rows[0]["ratio"] == rows[4]["ratio"] == "1.0" and all(float(row["value"]) > 0 for row in rows)


def test_a_case_is_asked_in_a_fresh_process_and_one_that_fails_is_told(monkeypatch):
    monkeypatch.setattr(resolution_cost.sys, "executable", shutil.which("echo"))
    assert resolution_cost.apart("cost", "1.5", "200") == [1.5, 200]
    monkeypatch.setattr(resolution_cost.sys, "executable", shutil.which("false"))
    with pytest.raises(UserError, match="'resolution cost 64' failed: 1; less memory"):
        resolution_cost.apart("cost", "64")


@pytest.fixture
def small_stage(drawn, monkeypatch):
    """The stage study at 32 and 64 pixels, in seconds."""
    settings = {"SMALL": 32, "LARGE": 64, "PICTURES": 3, "REFERENCE": 4, "SHOWN": 2, "MODELS": ("naive",),
                "METHODS": {"naive": (10, True, {}), "scratch": (10, False, {})}}
    for name, value in settings.items():
        monkeypatch.setattr(resolution_stage, name, value)
    real = up.new_stage
    monkeypatch.setattr(up, "new_stage", lambda channels=(8, 16), resolution=32, seed=0: real(channels, resolution, seed))
    monkeypatch.setattr(models, "load_source", lambda *_: make_source(32))


def run(folder, *more):
    return study.main(["resolution", "upsample", "--folder", str(folder / "r"), "--stages", str(folder / "s"), "--output",
                       str(folder / "t.csv"), "--seeds", "0", "1", "--steps", "1", "--source_steps", "1", "--num_images", "4",
                       "--methods", "naive", "scratch", *more])


def test_the_stage_is_trained_adapted_compared_and_nothing_is_made_twice(small_stage, tmp_path, monkeypatch, capsys):
    assert run(tmp_path) == 0
    rows = rows_of(tmp_path / "t.csv")
    assert [(row["stage"], row["seed"]) for row in rows[:4]] == [("naive", "0"), ("scratch", "0"), ("naive", "1"), ("scratch", "1")]
    assert [row["stage"] for row in rows[4:]] == ["bilinear", "source", "real", "bilinear", "source", "adapted"]
    assert all(float(row["lpips"]) > 0 for row in rows[:6]) and rows[6]["lpips"] == ""
    assert (tmp_path / "t_held_out.png").exists() and (tmp_path / "t_samples.png").exists()
    shipped, first = (up.load_stage(tmp_path / name).state_dict() for name in ("s/adapted", "r/naive-0"))
    assert all(torch.equal(value, first[name]) for name, value in shipped.items())
    monkeypatch.setattr(up, "fit_stage", None)
    before = (tmp_path / "t.csv").read_bytes()
    assert run(tmp_path) == 0 and (tmp_path / "t.csv").read_bytes() == before
    assert run(tmp_path, "--steps", "2") == 2 and "its steps is 1, here it is 2: give another --folder" in capsys.readouterr().err
    path = tmp_path / "r" / "naive-1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"source": "another"}))
    assert run(tmp_path) == 2 and "naive-1.json: its source is another" in capsys.readouterr().err


def test_a_stage_of_held_out_pictures_is_compared_with_their_truth(small_stage):
    truth = resolution_stage.Truth()
    expected = (up.enlarge(truth.small) - truth.large).abs().mean()
    assert truth.compare(None)["l1"] == pytest.approx(float(expected), abs=1e-5)


def test_other_people_at_the_other_size_are_told(monkeypatch):
    def load_domain(name, split, n, size):
        return data.Domain(make_images(n, size), [{"hair": str(size)}], name, split)
    monkeypatch.setattr(data, "load_domain", load_domain)
    with pytest.raises(UserError, match="other people at 128 pixels"):
        resolution_stage.pairs("engraved", "test", 2)
