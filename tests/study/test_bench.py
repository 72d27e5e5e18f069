"""The bench compares like with like: its slow versions give the same values, and its table says what was measured."""

import csv
from pathlib import Path

import pytest
import torch
from conftest import make_gan, make_images, make_source

from dslib import data, domainstudio, haar, losses, models, train
from dslib.study import bench
from dslib.text import latent


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 3, 8, 8, generator=generator), torch.randn(5, 3, 8, 8, generator=generator)


def test_the_loop_over_pairs_is_the_same_loss(pair):
    torch.testing.assert_close(bench.loops_pairwise_kl(*pair), losses.pairwise_kl(*pair))


def test_the_rebuilt_filters_are_the_same_bands(pair):
    torch.testing.assert_close(bench.rebuild_high_frequency(pair[0]), haar.high_frequency(pair[0]))


def test_the_slow_step_has_the_terms_of_the_fast_one(tiny_source, ten_images):
    config = train.TrainConfig(max_train_steps=2, train_batch_size=4, pairwise_weighting="none", hfmse_weighting="none")
    for slow, fast in zip(bench.loops(tiny_source, ten_images, config), train.adapt(tiny_source, ten_images, config)):
        for name, value in fast.terms.items():
            assert slow.terms[name].item() == pytest.approx(value.item(), rel=1e-3, abs=1e-5), name


def test_a_gpus_cases_are_the_same_step_and_one_that_fails_is_left_out(tiny_source, ten_images, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("no C compiler found\nand more")
        yield

    monkeypatch.setattr(bench, "compile_both", broken)
    cases = bench.gpu_cases(tiny_source, ten_images, 1)
    assert list(cases) == ["domainstudio, bf16", "domainstudio, bf16, channels last"]
    assert "left out: no C compiler found\n" in capsys.readouterr().err
    plain = next(train.adapt(tiny_source, ten_images, train.TrainConfig(max_train_steps=1))).loss
    for case in cases.values():
        assert float(next(case).loss) == pytest.approx(float(plain), rel=0.05)


def test_the_compiled_step_is_the_same_step(tiny_source, ten_images, monkeypatch):
    """Compiling takes a minute: here the networks stay as they are, and all else of the step is held."""
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: None)
    config = train.TrainConfig(max_train_steps=2)
    for mine, theirs in zip(bench.compile_both(tiny_source, ten_images, config), train.adapt(tiny_source, ten_images, config), strict=True):
        assert mine.loss == theirs.loss


def test_ratios_are_to_the_first_of_each_kind():
    rows = [{"what": "a", "case": "x", "value": 2.0}, {"what": "b", "case": "x", "value": 5.0}, {"what": "a", "case": "y", "value": 3.0}]
    assert [row["ratio"] for row in bench.with_ratios(rows)] == [1, 1, 1.5]


def test_main_writes_a_table_and_a_figure(tmp_path, monkeypatch, capsys, tiny_text):
    source, images = make_source(32), make_images(12, 32)
    monkeypatch.setattr(models, "load_source", lambda: source)
    monkeypatch.setattr(data, "load_domain", lambda name, split, n=10: data.Domain(images[:n], [], name, split))
    monkeypatch.setattr(bench, "memory_rows", lambda methods, what="": [])
    monkeypatch.setattr(bench, "LARGE", {"8 images": (8, 0), "8 images, 2 at a time": (8, 2)})
    monkeypatch.setattr(latent, "load_pipeline", lambda folder: tiny_text)
    monkeypatch.setattr(domainstudio, "draw_anchors", lambda source, n, config: images[:n, None])
    monkeypatch.setattr(bench, "Pair", lambda: make_gan((8, 8, 8, 8)))
    bench.main(["--steps", "1", "--num_images", "12", "--output", str(tmp_path / "out")])
    rows = list(csv.DictReader((tmp_path / "out" / "bench.csv").open()))
    assert [r["case"] for r in rows if r["what"] == "optimiser step"] == [
        "finetune", "domainstudio", "anchored", "loops", "tgan", "cdc", "bank"]
    assert [r["case"] for r in rows if r["what"] == "one image"][-1] == "a GAN, one pass"
    assert [r["case"] for r in rows if r["what"] == "text-to-image step"][:4] == [
        "domainstudio, 50 draws in 300 steps", "domainstudio", "the authors' passes", "dreambooth"]
    assert [r["case"] for r in rows if r["what"] == "step of a large batch"] == ["8 images", "8 images, 2 at a time"]
    assert all(float(r["value"]) > 0 and float(r["ratio"]) > 0 for r in rows)
    assert (tmp_path / "out" / "bench.png").stat().st_size > 1000
    assert "GFLOP" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_of_a_process_is_read():
    assert bench.resident("VmHWM") >= bench.resident("VmRSS") > 10
