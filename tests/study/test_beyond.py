"""Methods that begin elsewhere, by the regime's protocol: each run is its own method's training, and its table has its own place."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from test_regime import shrink

from dslib import data, sample, train
from dslib.beyond import ant, patch, weights
from dslib.study import __main__ as study
from dslib.study import beyond, curves, regime

#: one of each kind of start, by what the library itself is asked for
ASKED = {"anchored, patch": patch.start, "ant, no adversary": partial(ant.start, inner_steps=0),
         "anchored, dual": partial(weights.dual, target="engraved"), "anchored, balanced": weights.balanced}


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A folder with a run of two steps of every kind, and the source's folder."""
    folder = tmp_path_factory.mktemp("beyond")
    with pytest.MonkeyPatch.context() as monkeypatch:
        source = shrink(monkeypatch, folder)
        for name, settings in beyond.METHODS.items():
            few = {"num_anchors": 10} if "num_anchors" in settings else {}
            monkeypatch.setitem(beyond.METHODS, name, settings | few | {"learning_rate": 0.05})
        assert study.main(["beyond", "--folder", str(folder / "r"), "--source", str(source), "--num_images", "32", "--stops", "1", "2",
                           "--seeds", "3", "--targets", "engraved", "--methods", *ASKED]) == 0
    return folder / "r", source


@pytest.mark.parametrize("method", ASKED)
def test_a_runs_pictures_are_those_of_its_own_start(ran, method, monkeypatch, tmp_path):
    """Trained again by the library alone: a start, a price or an adversary that gets lost would draw something else."""
    folder, _ = ran
    source = regime.models.load_source(str(shrink(monkeypatch, tmp_path)))
    settings = {key: value for key, value in beyond.METHODS[method].items() if key != "start"} | {
        "num_anchors": 10, "learning_rate": 0.05, "max_train_steps": 2, "seed": 3}
    ten = data.load_domain("engraved", "ten", resolution=32).images
    *_, last = train.adapt(source, ten, train.TrainConfig(**settings), start=ASKED[method])
    drawn = sample.sample(last.averaged(), source.scheduler, sample.start_noise(32, 32, 100, 3), 2, "dpmsolver")
    strip = curves.sheet(regime.path_of(folder, "engraved", method, 3).with_suffix(".png"), 32)
    assert torch.equal(strip[-1], data.to_uint8(drawn[:3]))


def test_only_weights_that_set_themselves_are_noted(ran, monkeypatch):
    notes = {method: json.loads(regime.path_of(ran[0], "engraved", method, 3).read_text())["rows"][-1].get("weights") for method in ASKED}
    assert not any(notes.values()), "every tenth step is noted, and there were two"
    ruler = beyond.Ruler.__new__(beyond.Ruler)
    ruler.history = [{"img": step / 7, "hf": 1.0} for step in range(25)]
    assert ruler.notes() == {"weights": [{"img": 1.28571, "hf": 1.0}, {"img": 2.71429, "hf": 1.0}]}


def test_a_history_is_of_one_training(monkeypatch, tmp_path):
    shrink(monkeypatch, tmp_path)
    ruler = beyond.Ruler.__new__(beyond.Ruler)
    ruler.source, ruler.target = regime.models.load_source(str(tmp_path / "source")), "engraved"
    ruler.ten = data.load_domain("engraved", "ten", resolution=32).images
    settings = beyond.METHODS["anchored, dual"] | {"num_anchors": 10, "max_train_steps": 2}
    for _ in range(2):
        list(ruler.train(settings))
        assert len(ruler.history) == 2 and ruler.history[0].keys() >= {"img", "hf"}
    list(ruler.train(beyond.METHODS["naive, patch"] | {"max_train_steps": 2}))
    assert ruler.history == [] and ruler.notes() == {}


def test_the_table_goes_where_the_chapters_read_it(ran, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(beyond, "data_dir", lambda: tmp_path)
    assert study.main(["beyond", "--folder", str(ran[0]), "--pack"]) == 0
    path = tmp_path / "results" / "beyond" / "beyond.csv"
    assert Path(capsys.readouterr().out.strip()) == path
    rows = regime.load(path)
    assert {row["method"] for row in rows} > set(ASKED) and {row["step"] for row in rows if row["method"] in ASKED} == {1, 2}
