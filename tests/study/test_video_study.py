"""Clips through image models: a file a run, nothing twice, strangers refused, a table that is read back, and differences paired by clip."""

import json
from statistics import stdev

import pytest
from conftest import make_images, make_source
from PIL import Image

from dslib.base.errors import UserError
from dslib.base.pixels import write_images
from dslib.beyond import video as clips
from dslib.models import save_pipeline
from dslib.study import __main__ as study
from dslib.study import video


def blobs(n, size):
    """Clips of eight frames, (n,8,3,R,R), whose lower half stands still."""
    made = make_images(n * 8, size, n).unflatten(0, (n, 8)).clone()
    made[:, :, :, size // 2:] = made[:, :1, :, size // 2:]
    return made


def shrink(patch, folder):
    """Three tiny models of 32 pixels, three steps, blobs for people, a probe that needs no fit."""
    patch.setattr(video, "domain_probe", lambda *_: lambda images: images.mean((1, 2, 3)) > 0)
    patch.setattr(video, "INFERENCE_STEPS", 4)
    patch.setattr(clips, "draw_clips", blobs)
    for i, name in enumerate(("source", "naive", "anchored")):
        pipe = make_source(32, seed=i)
        save_pipeline(pipe.unet, pipe.scheduler, folder / name)


def run(folder, models, *more):
    return study.main(["video", "--folder", str(folder), "--source", str(models / "source"), "--adapted", str(models), "--clips", "2",
                       "--models", "source", "naive", "anchored", "--t_0", "500", "--seeds", "0", "1", *more])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video")
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch, folder)
        assert run(folder / "r", folder) == 0
    return folder


def test_a_file_a_run_and_nothing_twice(finished, monkeypatch):
    names = {path.stem for path in (finished / "r").glob("*.json")}
    assert names == {"goals"} | {f"{model}-500-{noise}-{seed}" for model in ("source", "naive", "anchored")
                                 for noise, seed in (("shared", 0), ("shared", 1), ("fresh", 0), ("fresh", 1), ("inverted", 0))}
    shrink(monkeypatch, finished)
    monkeypatch.setattr(clips, "restyled", lambda *_: pytest.fail("drawn again"))
    assert run(finished / "r", finished) == 0


def test_a_run_is_the_librarys_drawing(finished, monkeypatch):
    shrink(monkeypatch, finished)
    source, naive = make_source(32, seed=0), make_source(32, seed=1)
    known = clips.know(clips.draw_clips(2, 32), "engraved")
    drawn = clips.restyled(naive, clips.start(source, known.inputs, "shared", 1, 500, 4), 500, 4)
    wanted = clips.scores(drawn, known, lambda images: images.mean((1, 2, 3)) > 0)
    rows = json.loads((finished / "r" / "naive-500-shared-1.json").read_text())["rows"]
    assert [row["clip"] for row in rows] == [0, 1]
    for row, one in zip(rows, wanted):
        assert {key: row[key] for key in video.SCORES} == pytest.approx(video.rounded(one), abs=2e-3)
        assert row["shimmer"] is not None


def test_the_table_is_read_back_as_it_was_written(finished, tmp_path, capsys):
    assert run(finished / "r", finished, "--pack", "--output", str(tmp_path / "t.csv")) == 0
    rows = video.load(tmp_path / "t.csv")
    assert rows == video.pack(finished / "r") and len(rows) == 2 * (3 + 3 * 5)
    assert [row["model"] for row in rows[:6:2]] == list(video.GOALS) and rows[0]["flicker"] == 0 and rows[0]["own"] == 1
    assert "| anchored | 500 | shared | shimmer |" in capsys.readouterr().out
    values, true = video.through(rows)
    own = [row for row in rows if (row["model"], row["noise"]) == ("anchored", "fresh")]
    assert values["LPIPS to the true frame"]["fresh noise"]["anchored"] == [
        pytest.approx([sum(row[key] for row in own) / 4 for key in ("amount", "right")])]
    assert true["LPIPS to the true frame"] == {"shared noise": 0, "fresh noise": 0, "inverted noise": 0}
    assert Image.open(tmp_path / "t_ways.png").width > 300
    assert Image.open(tmp_path / "t.png").size == (8 * 32, 8 * 32) and Image.open(tmp_path / "t.webp").n_frames == 8
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="--pack"):
        video.load(tmp_path / "t.csv")
    with pytest.raises(UserError, match="holds no run"):
        video.pack(tmp_path / "none")


def test_differences_are_paired_by_clip_over_the_means_of_seeds():
    def row(model, seed, clip, value):
        return {"model": model, "t_0": 500, "noise": "shared", "seed": seed, "clip": clip, "shimmer": value}
    rows = [row("naive", seed, clip, clip + seed) for seed in (0, 1) for clip in range(3)]
    rows += [row("anchored", 0, clip, value) for clip, value in enumerate((0.5, 2.5, 1.5, 9.0))]
    apart = [0.0, 1.0, -1.0]                                # clip 3 has no partner
    found = video.paired(rows, "anchored", "naive", 500, "shared", "shimmer")
    assert found == pytest.approx((0, stdev(apart) / 3**0.5, 1, 3))
    with pytest.raises(UserError, match="share 0 clips"):
        video.paired(rows, "anchored", "naive", 300, "shared", "shimmer")


def test_a_folder_of_frames_is_scored_without_blinks_and_not_among_other_clips(finished, tmp_path, monkeypatch, capsys):
    shrink(monkeypatch, finished)
    write_images(tmp_path, make_images(3, 32))
    again = ("--clip", str(tmp_path), "--noises", "shared", "--models", "naive")
    assert run(finished / "r", finished, *again) == 2 and "its clips is" in capsys.readouterr().err
    assert run(tmp_path / "mine", finished, *again) == 0
    rows = video.pack(tmp_path / "mine")
    assert len(rows) == 3 + 2 and all(row["blink"] is None and row["amount"] is not None for row in rows)
    assert "| naive | 500 | shared |" in video.text(rows) and "less naive" in video.text(rows)


def test_models_and_steps_that_do_not_fit_are_refused(finished, tmp_path, monkeypatch, capsys):
    shrink(monkeypatch, finished)
    assert run(tmp_path / "r", finished, "--t_0", "100") == 2 and "--t_0 holds 100" in capsys.readouterr().err
    other = make_source(16)
    save_pipeline(other.unet, other.scheduler, tmp_path / "naive")
    assert run(tmp_path / "r", finished, "--adapted", str(tmp_path), "--models", "naive") == 2
    assert "sample_size is 32" in capsys.readouterr().err
    stranger = make_source(32, seed=7)
    save_pipeline(stranger.unet, stranger.scheduler, tmp_path / "source")
    assert run(finished / "r", finished, "--source", str(tmp_path / "source")) == 2 and "its source is" in capsys.readouterr().err
