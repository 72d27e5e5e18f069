"""Any number of images: trainings stop where they denoise held-out pictures best, and are scored there."""

import json
from types import SimpleNamespace

import pytest
import torch
from conftest import make_images
from test_regime import shrink

from dslib import metrics
from dslib.base.errors import UserError
from dslib.study import __main__ as study
from dslib.study import regime, shots


def run(folder, source, *more):
    return study.main(["shots", "--folder", str(folder), "--source", str(source), "--num_images", "32", "--stops", "1", "2", "3",
                       "--seeds", "0", "--shots", "4", "12", *more])


def walk(errors, patience):
    """What ``until_best`` makes of a training whose error is this after step 1, 2, …; and how many steps were made."""
    made = []

    def steps():
        for i in range(len(errors)):
            made.append(i + 1)
            yield SimpleNamespace(step=i + 1, averaged=lambda i=i: i + 1)

    curve, best = shots.until_best(steps(), lambda model: errors[model - 1], tuple(range(1, len(errors) + 1)), patience)
    return curve, best, len(made)


def test_a_training_ends_when_the_error_has_not_improved_for_a_while():
    curve, best, made = walk([5.0, 3.0, 4.0, 3.5, 3.2, 1.0], 3)
    assert best == 2 and made == 5 and curve == [(1, 5.0), (2, 3.0), (3, 4.0), (4, 3.5), (5, 3.2)]
    assert walk([5.0, 3.0, 4.0, 3.5, 2.0, 2.5], 3)[1:] == (5, 6)
    assert walk([3.0, 2.0, 1.0], 3)[1:] == (3, 3), "the last step is the best: it may not have been enough"
    assert walk([1.0, 2.0, 3.0], 2)[1:] == (1, 3)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shots")
    with pytest.MonkeyPatch.context() as patch:
        source = shrink(patch, folder)
        patch.setattr(shots, "HELD_OUT", 6)
        assert run(folder / "r", source) == 0
    return folder


def test_a_run_is_scored_at_its_best_stop(done):
    found = {path.stem: json.loads(path.read_text()) for path in (done / "r").glob("*.json")}
    assert found.keys() == {f"engraved-{method}-{n}-0" for method in ("naive", "anchored") for n in (4, 12)}
    for one in found.values():
        (row,) = one["rows"]
        assert [row["step"], row["error"]] == min(one["curve"], key=lambda point: point[1]) and one["curve"][-1][0] == row["steps_made"]
        assert all(row[key] is not None for key in ("intra", "copies", "fd", "hit", "own", "kept"))


def test_the_table_holds_every_run_once_in_order(done, capsys):
    assert run(done / "r", "nowhere", "--pack", "--output", str(done / "t.csv")) == 0
    head, *rows = (done / "t.csv").read_text().splitlines()
    assert head.split(",") == list(shots.COLUMNS)
    assert [row.split(",")[:5] for row in rows] == [
        ["engraved", method, n, "10", "0"] for method in ("naive", "anchored") for n in ("4", "12")]


def test_copies_are_of_the_images_that_were_trained_on(monkeypatch, tmp_path):
    """Both sides: samples' distances to the twelve, and those of real images to the twelve, not to the ten."""
    shrink(monkeypatch, tmp_path)
    monkeypatch.setattr(shots, "HELD_OUT", 6)
    ruler = shots.Ruler(regime.models.load_source(str(tmp_path / "source")), "engraved", 32)
    twelve, images = make_images(12, 32, 40), make_images(32, 32, 41)
    images[:5] = twelve[:5] * 0.98
    limit = torch.quantile(metrics.lpips_matrix(ruler.real, twelve).min(1).values, 0.05)
    wanted = (metrics.lpips_matrix(images, twelve).min(1).values < limit).float().mean()
    found = ruler.scores(images, twelve)
    assert found["copies"] == pytest.approx(float(wanted), abs=1e-4) and found["copies"] >= 5 / 32
    assert ruler.scores(images, ruler.ten)["copies"] == ruler.measure(images)["copies"]


def test_larger_batches_go_in_parts_and_have_runs_of_their_own(monkeypatch, tmp_path):
    assert (shots.settings("naive", 40, 0, 5).train_batch_size, shots.settings("naive", 40, 0, 5).micro_batch_size) == (10, 0)
    large = shots.settings("naive", 40, 0, 5, batch=20)
    assert (large.train_batch_size, large.micro_batch_size) == (20, shots.AT_A_TIME)
    source, asked, adapt = shrink(monkeypatch, tmp_path), [], shots.train.adapt
    monkeypatch.setattr(shots, "HELD_OUT", 6)
    monkeypatch.setattr(shots.train, "adapt", lambda *given, **named: asked.append(given[2].train_batch_size) or adapt(*given, **named))
    assert study.main(["shots", "--folder", str(tmp_path / "r"), "--source", str(source), "--num_images", "32", "--stops", "1",
                       "--seeds", "0", "--shots", "20", "--methods", "naive", "--train_batch_sizes", "10", "20"]) == 0
    assert asked == [10, 20] and [row["batch"] for row in shots.pack(tmp_path / "r")] == [10, 20]


@pytest.mark.parametrize("batch", ["3", "24", "20"])
def test_a_batch_that_cannot_be_made_is_refused(tmp_path, batch, capsys):
    assert run(tmp_path, "nowhere", "--train_batch_sizes", batch) == 2
    assert f"--train_batch_sizes holds {batch}: use 4 to 10, or a multiple of 10 up to the fewest --shots" in capsys.readouterr().err


def test_anchors_are_as_many_as_the_images():
    assert shots.settings("anchored", 1000, 0, 5).num_anchors == 1000 and shots.settings("anchored", 10, 0, 5).num_anchors == 100
    assert shots.settings("naive", 1000, 3, 5).seed == 3


def test_runs_of_other_stops_are_kept_apart(done, monkeypatch, tmp_path, capsys):
    source = shrink(monkeypatch, tmp_path)
    monkeypatch.setattr(shots, "HELD_OUT", 6)
    assert study.main(["shots", "--folder", str(done / "r"), "--source", str(source), "--num_images", "32", "--stops", "1",
                       "--shots", "5"]) == 2
    assert "its stops is [1, 2, 3], here it is [1]: give another --folder" in capsys.readouterr().err


@pytest.mark.parametrize("more, words", [(("--shots", "1"), "at least 2 images"), (("--stops", "0"), "and 1 step"),
                                         (("--num_images", "8"), "use 32 to")])
def test_settings_that_mean_nothing_are_refused(tmp_path, capsys, more, words):
    assert run(tmp_path, "nowhere", *more) == 2
    assert words in capsys.readouterr().err


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="dslib.study shots"):
        shots.pack(tmp_path)


def test_the_scores_of_a_run_are_those_of_the_protocol():
    assert set(regime.SCORES) < set(shots.COLUMNS)
