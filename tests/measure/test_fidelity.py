"""``dslib fidelity`` gives torch-fidelity's own numbers, and says what they are called."""

import json
import urllib.error

import numpy as np
import pytest
import torch
import torch_fidelity
from conftest import make_images
from PIL import Image
from torch_fidelity import feature_extractor_inceptionv3 as inception

from dslib import data, metrics
from dslib.cli import commands
from dslib.measure.fidelity import INCEPTION, fidelity, read_pair


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Twelve images and nine others, 64×64, as PNG; beside the first a contact sheet as dslib sample leaves it."""
    root = tmp_path_factory.mktemp("pictures")
    for name, images in {"a": make_images(12, 64), "b": 0.5 * make_images(21, 64)[12:]}.items():
        (root / name).mkdir()
        data.write_images(root / name, images)
    Image.new("RGB", (200, 90)).save(root / "a" / "grid.png")
    return root / "a", root / "b"


def their_own(folders, tmp_path, **options):
    """torch-fidelity's numbers of the folders as they are, but for the contact sheet."""
    for old in folders[0].glob("0*.png"):
        Image.open(old).save(tmp_path / old.name)
    return torch_fidelity.calculate_metrics(input1=str(tmp_path), input2=str(folders[1]), fid=True, kid=True, kid_subset_size=9,
                                            cache=False, verbose=False, save_cpu_ram=True, **options)


def test_the_offline_numbers_are_torch_fidelitys_and_those_of_the_course(folders, tmp_path):
    samples, real = read_pair(*folders, 64)
    assert len(samples) == 12 and len(real) == 9
    found = fidelity(samples, real)
    theirs = their_own(folders, tmp_path, prc=True, feature_extractor="st-alex", cuda=False)
    assert found["FD-st-alex"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-9)
    assert found["KD-st-alex"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    assert (found["precision"], found["recall"]) == (theirs["precision"], theirs["recall"])
    a, b = metrics.pooled_features(samples), metrics.pooled_features(real)
    assert found["FD-st-alex"] == pytest.approx(metrics.frechet_distance(a, b), rel=1e-6)
    assert (found["precision"], found["recall"]) == pytest.approx(metrics.precision_recall(a, b))


def test_kernel_distance_of_sets_of_one_size_is_the_courses(folders):
    samples, real = read_pair(*folders, 64)
    a, b = metrics.pooled_features(samples[:9]), metrics.pooled_features(real)
    assert fidelity(samples[:9], real)["KD-st-alex"] == pytest.approx(metrics.kernel_distance(a, b), rel=1e-6)


def test_fid_is_inceptions_by_torch_fidelity(folders, tmp_path, monkeypatch):
    """With random weights in Inception's place: the weights need a download, the way to the numbers does not."""
    def random_weights(self, state, strict=True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            for weight in self.parameters():
                weight.data.normal_(0, 0.05)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda url, progress: {})
    monkeypatch.setattr(inception.FeatureExtractorInceptionV3, "load_state_dict", random_weights)
    found = fidelity(*read_pair(*folders, 64), INCEPTION)
    theirs = their_own(folders, tmp_path, prc=True, feature_extractor=INCEPTION, cuda=False)
    assert set(found) == {"FID", "KID", "precision", "recall"}
    assert found["FID"] > 0 and found["FID"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    assert found["KID"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)


def test_the_command_prints_and_writes_them(folders, tmp_path, capsys):
    output = tmp_path / "found.json"
    assert commands.main(["fidelity", *map(str, folders), "--output", str(output)]) == 0
    written = json.loads(output.read_text())
    assert written["samples"] == 12 and written["real"] == 9
    told = capsys.readouterr().out
    assert f"FD-st-alex   {written['FD-st-alex']:.6g}" in told and "12 samples, 9 real images, 64×64 pixels, st-alex" in told
    assert commands.main(["fidelity", *map(str, folders), "--output", str(output)]) == 2
    assert "--overwrite" in capsys.readouterr().err and json.loads(output.read_text()) == written


@pytest.mark.parametrize("options, words", [
    (["--feature_extractor", "inception"], "use one of st-alex"), (["--resolution", "16"], "too small"),
    (["--resolution", "0"], "at least"),
], ids=["extractor", "too small", "zero"])
def test_wrong_options_are_one_line(folders, capsys, options, words):
    assert commands.main(["fidelity", *map(str, folders), *options]) == 2
    told = capsys.readouterr().err
    assert words in told and len(told.splitlines()) == 1


def test_weights_that_cannot_be_fetched_and_too_few_images_are_one_line(folders, tmp_path, monkeypatch, capsys):
    def unreachable(url, progress):
        raise urllib.error.URLError("no route")
    monkeypatch.setattr(inception, "load_state_dict_from_url", unreachable)
    assert commands.main(["fidelity", *map(str, folders), "--feature_extractor", INCEPTION]) == 2
    assert "could not be fetched" in capsys.readouterr().err
    few = tmp_path / "few"
    few.mkdir()
    data.write_images(few, make_images(3, 64))
    assert commands.main(["fidelity", str(few), str(folders[1])]) == 2
    assert "3 samples and 9 real images" in capsys.readouterr().err
    assert commands.main(["fidelity", str(tmp_path / "none"), str(folders[1])]) == 2
    assert "no folder" in capsys.readouterr().err


def test_held_out_images_can_be_written_and_are_those_that_are_scored(tmp_path, capsys):
    folder = tmp_path / "real"
    assert commands.main(["domains", "--write_real", str(folder), "--target", "sketches", "--num_images", "5"]) == 0
    pixels = np.stack([np.array(Image.open(path)) for path in sorted(folder.glob("*.png"))])
    images = data.load_domain("sketches", "test", 5).images
    assert np.array_equal(pixels, data.to_uint8(images).permute(0, 2, 3, 1).numpy())
    assert commands.main(["domains", "--write_real", str(folder), "--target", "sketches", "--num_images", "2"]) == 2
    assert "another --write_real or add --overwrite" in capsys.readouterr().err
    assert commands.main(["domains", "--write_real", str(folder), "--target", "sketches", "--num_images", "2", "--overwrite"]) == 0
    assert len(list(folder.glob("*.png"))) == 2
    (folder / "checkpoint-9").mkdir()                        # somebody's run: pictures beside it are no reason to take it away
    (folder / "checkpoint-9" / "state.json").touch()
    (folder / "model_index.json").touch()
    assert commands.main(["domains", "--write_real", str(folder), "--target", "sketches", "--num_images", "2", "--overwrite"]) == 0
    assert (folder / "checkpoint-9" / "state.json").exists() and (folder / "model_index.json").exists()
    assert commands.main(["domains", "--write_real", str(folder)]) == 2
    assert "--target" in capsys.readouterr().err
