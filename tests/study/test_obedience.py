"""Obedience beside style: a file a run, chance and ceiling of every score, and a table that is read back as it was written."""

import json
from pathlib import Path

import pytest
import torch
from conftest import make_images

from dslib import data, sample
from dslib.base.errors import UserError
from dslib.measure.probes import FactorProbe
from dslib.study import __main__ as study
from dslib.study import curves, obedience
from dslib.text import latent, prompted, text_to_image, wording

ROOT = Path(__file__).resolve().parents[2]
TRIED = [name for name in obedience.METHODS if name not in obedience.SWEEP]
LABELS = ({"glasses": "variant01", "beard": "variant02"}, {})


def shrink(monkeypatch):
    """A study of seconds: pictures that nobody draws, a probe that reads a picture's mean, few of everything."""
    def load_domain(name, split, n=None, resolution=64, workers=1):
        n = n or 10
        images = make_images(n, resolution, len(name) + len(split))
        images[::2] = (images[::2] + 1).clamp(max=1)                  # every other one is light: it has glasses
        odd = split == "test" and not name.endswith("-with-words")    # labelled the other way round: no word is read of these
        return data.Domain(images, [LABELS[(i + odd) % 2] for i in range(n)], name, split)

    def read(images):
        light = (images.mean((1, 2, 3)) > 0.3).long()
        return {"glasses": light, "beard": light}
    classes = {"glasses": ["none", "glasses"], "beard": ["none", "beard"]}
    monkeypatch.setattr(data, "load_domain", load_domain)
    monkeypatch.setattr(prompted, "probe", lambda *_: FactorProbe(classes, {"glasses": 1.0, "beard": 1.0}, read))
    monkeypatch.setattr(obedience, "domain_probe", lambda *_: lambda images: images.mean((1, 2, 3)) > -2)
    monkeypatch.setattr(wording, "prior_prompts", lambda given, n, *_: given and ["a face with glasses"] * n)
    for name, value in {"REAL": 24, "PRIOR": 10, "INFERENCE_STEPS": 2, "PICTURES": 3}.items():
        monkeypatch.setattr(obedience, name, value)


def run(folder, source, *more):
    return study.main(["words", "--folder", str(folder), "--source", str(source), "--num_images", "12", "--stops", "1", "2", "--seeds", "0",
                       "--styles", "sketches", *more])


@pytest.fixture(scope="module")
def done(tmp_path_factory, tiny_text_dir):
    folder = tmp_path_factory.mktemp("words")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        assert run(folder / "r", tiny_text_dir) == 0
    return folder / "r"


def test_every_method_leaves_its_stops_and_a_style_its_goals(done):
    found = {path.stem: json.loads(path.read_text()) for path in done.glob("*.json")}
    assert found.keys() == {obedience.path_of(done, "sketches", name, 0).stem for name in ("goals", *TRIED)}
    for name in TRIED:
        rows = found[obedience.path_of(done, "sketches", name, 0).stem]["rows"]
        assert [(row["method"], row["step"]) for row in rows] == [(name, 1), (name, 2)]
        assert all(row[key] is not None for row in rows for key in obedience.SCORES)
    goals = found["sketches-goals-0"]["rows"]
    assert [row["method"] for row in goals] == list(obedience.GOALS)
    assert goals[1]["obeyed"] == 1.0, "every other real picture is light, and said to have glasses and a beard"
    assert goals[0]["words"].keys() == {"glasses", "beard"} and goals[1]["fd"] > 0 and goals[2]["fd"] > 0


def test_a_runs_pictures_are_those_of_its_own_words(done, monkeypatch, tiny_text):
    """Trained again by the library alone: captions, worded priors and anchors that get lost would draw something else."""
    shrink(monkeypatch)
    ten, n = data.load_domain("sketches", "ten", resolution=32), 10
    texts = [prompted.caption_of(labels, "sketches") for labels in ten.labels]
    assert texts[:2] == ["a face with a beard and glasses", "a face"]
    told = ["a face with glasses"] * n
    prior = text_to_image.prior_latents(tiny_text, "a face", n, prompts=told)
    config = text_to_image.TextConfig(method="domainstudio", pairwise_on="source", lambda_img=1.0, lambda_hf=1.0, max_train_steps=2)
    *_, last = text_to_image.adapt(tiny_text, ten.images, config, "a face in sks style", "a face", prior, texts=texts, prior_prompts=told)
    noise = sample.start_noise(12, 8, 100, 4)
    asked = [one.text for one in prompted.requests(12, "sketches", "a face in sks style")]
    drawn = latent.draw(text_to_image.adapted(tiny_text, last), asked, noise, 3.0, 2)
    strip = obedience.path_of(done, "sketches", "anchored, told", 0).with_suffix(".png")
    assert torch.equal(curves.sheet(strip, 32)[0], data.to_uint8(drawn[:3]))
    assert len({path.read_bytes() for path in done.glob("*.png")}) == len(TRIED), "each method draws something else"


def test_fd_is_against_real_pictures_with_words_that_nothing_else_is_compared_with(monkeypatch, tiny_text):
    shrink(monkeypatch)
    seen, pooled = [], obedience.metrics.pooled_features
    monkeypatch.setattr(obedience.metrics, "pooled_features", lambda images, *more: seen.append(images) or pooled(images, *more))
    ruler = obedience.Ruler(tiny_text, "sketches", 10, real=24)
    worded = data.load_domain("sketches-with-words", "test", 48, 32).images
    assert torch.equal(ruler.real, data.load_domain("sketches", "test", 24, 32).images)
    assert torch.equal(ruler.worded, worded[:24]) and len(ruler.said) == 24
    assert torch.equal(seen[0], worded[24:]) and torch.equal(ruler.reference, pooled(worded[24:]))


def test_the_second_ceiling_is_read_from_decoded_pictures(monkeypatch, tiny_text):
    shrink(monkeypatch)
    monkeypatch.setattr(latent, "decode", lambda vae, z: torch.full((len(z), 3, 32, 32), -1.0))      # a decoder that draws nothing
    goals = {row["method"]: row for row in obedience.Ruler(tiny_text, "sketches", 10, real=24).goals}
    assert goals["real"]["obeyed"] == 1.0 and goals["real, decoded"]["obeyed"] == 0.5
    assert goals["real, decoded"]["fd"] > goals["real"]["fd"]


def test_skill_is_nothing_at_chance_and_one_at_the_ceiling():
    assert obedience.skill(0.5, 0.5, 0.9) == 0 and obedience.skill(0.9, 0.5, 0.9) == 1
    assert obedience.skill(0.7, 0.5, 0.9) == pytest.approx(0.5) and obedience.skill(0.4, 0.5, 0.9) < 0


def test_skill_is_measured_against_what_is_read_from_real_pictures(monkeypatch):
    found = {"glasses": prompted.Obeyed(0.8, 1.0, 0.5, 9), "beard": prompted.Obeyed(0.6, 1.0, 0.5, 9)}
    monkeypatch.setattr(prompted, "obeyed", lambda *_: found)
    monkeypatch.setattr(obedience.Ruler, "kept", lambda *_: {})
    ruler = obedience.Ruler.__new__(obedience.Ruler)
    ruler.requests = ruler.style = ruler.reader = None
    scores = ruler.scores(torch.zeros(1, 3, 4, 4), {"glasses": (0.9, 5), "beard": (0.7, 5), "hat": (0.1, 5)})
    assert (scores["obeyed"], scores["chance"]) == (0.7, 0.5) and scores["skill"] == pytest.approx(0.2 / 0.3, abs=1e-4)


def test_skill_is_of_the_means_of_all_attributes(done):
    rows = json.loads(obedience.path_of(done, "sketches", "dreambooth", 0).read_text())["rows"]
    for row in rows:
        obeyed, chance = (sum(one[i] for one in row["words"].values()) / len(row["words"]) for i in (0, 1))
        assert row["obeyed"] == pytest.approx(obeyed, abs=1e-4) and row["chance"] == pytest.approx(chance, abs=1e-4)
        assert row["skill"] == pytest.approx((obeyed - chance) / (1 - chance), abs=1e-4)


def test_other_rates_are_run_on_request_and_are_the_librarys(done, tiny_text_dir, tmp_path, monkeypatch):
    rates, adapt = [], text_to_image.adapt
    shrink(monkeypatch)
    monkeypatch.setattr(text_to_image, "adapt", lambda pipe, ten, config, *more, **named: rates.append(
        config.rated().learning_rate) or adapt(pipe, ten, config, *more, **named))
    assert run(tmp_path, tiny_text_dir, "--methods", "textual-inversion, told", *obedience.SWEEP) == 0
    assert rates == [0.02, 0.005, 0.1]


def test_what_is_there_is_not_made_again(done, tiny_text_dir, monkeypatch):
    monkeypatch.setattr(latent, "load_pipeline", lambda *_: pytest.fail("a source was opened"))
    assert run(done, tiny_text_dir) == 0


def test_the_table_is_read_back_as_it_was_written(done, tmp_path):
    assert run(done, "nowhere", "--pack", "--output", str(tmp_path / "t.csv")) == 0
    rows = obedience.load(tmp_path / "t.csv")
    assert rows == obedience.pack(done) and len(rows) == 3 + 2 * len(TRIED)
    assert [row["method"] for row in rows[:4]] == [*obedience.GOALS, "dreambooth"]


def test_another_source_is_refused(done, tiny_text, tmp_path, capsys):
    with torch.no_grad():
        tiny_text.unet.conv_in.bias.add_(1)
    latent.save_pipeline(tiny_text, tmp_path / "other")
    assert run(done, tmp_path / "other", "--seeds", "1") == 2
    assert "its source is" in capsys.readouterr().err


@pytest.mark.parametrize("more, words", [(("--num_images", "3"), "--num_images is 3"), (("--stops", "0"), "--stops holds 0")])
def test_bad_options_are_named(tmp_path, capsys, more, words):
    assert run(tmp_path, "nowhere", *more) == 2
    assert words in capsys.readouterr().err


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="dslib.study words"):
        obedience.pack(tmp_path)


def made_up():
    """Goals of a style and two seeds of one method at two stops."""
    def row(method, seed, step, obeyed, skill, hit, fd):
        return {"style": "engraved", "method": method, "seed": seed, "step": step, "num_images": 128, "source": "x", "obeyed": obeyed,
                "chance": 0.4, "skill": skill, "intra": 0.2, "copies": 0.1, "fd": fd, "hit": hit}
    goals = [row("source", 0, 0, 0.5, 0.2, 0.0, 8.0), row("real", 0, 0, 0.9, None, 1.0, 0.1) | {"chance": None},
             row("real, decoded", 0, 0, 0.8, None, 1.0, 0.4) | {"chance": None}]
    return goals + [row("lora, told", seed, step, 0.5 + step / 1000 + 0.1 * seed, step / 500 + 0.1 * seed, 0.9, 3.5 - step / 100 + seed)
                    for seed in (0, 1) for step in (100, 200)]


def test_the_printed_table_has_floor_ceilings_and_the_spread_over_seeds():
    told = obedience.text(made_up()).splitlines()
    assert told[0].startswith("| style | images | seeds | obeyed | by chance |") and len(told) == 2 + 4
    assert told[3] == "| engraved | real | – | 0.90 | – | – | 1.00 | 0.10 | 0.200 | 0.1000 |"
    assert told[5] == ("| engraved | lora, told | 2 | 0.75 ± 0.07 | 0.40 ± 0.00 | 0.45 ± 0.07 | 0.90 ± 0.00 | 0.10 ± 0.00 | "
                       "0.200 ± 0.000 | 2.0000 ± 0.7071 |")
    assert "| 0.65 ± 0.07 |" in obedience.text(made_up(), 100), "at another stop"


def test_the_ways_begin_at_the_source_and_are_means_over_seeds():
    values, real = obedience.ways(made_up(), ("lora, told", "dreambooth"), {"skill": "the way", "hit": "hit"})
    assert values["the way"]["engraved"].keys() == {"lora, told"}, "a method without runs has no way"
    assert values["the way"]["engraved"]["lora, told"] == [(0.0, 0.2), (pytest.approx(1 - 3 / 8), pytest.approx(0.25)),
                                                           (pytest.approx(1 - 2 / 8), pytest.approx(0.45))]
    assert values["hit"]["engraved"]["lora, told"][0] == (0.0, 0.0)
    assert real == {"the way": {"engraved": 1.0}, "hit": {"engraved": 1.0}}


def test_the_readme_shows_the_committed_table():
    table = obedience.text(obedience.load(), 150)
    assert "| portraits | dreambooth, told | 5 |" in table and table in (ROOT / "README.md").read_text("utf-8")
