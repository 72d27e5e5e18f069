"""The table of scores: what shares its measuring agrees with the library, and a new metric is one row."""

import json
from dataclasses import fields

import pytest
import torch
from conftest import make_images

from dslib import data, metrics, train
from dslib.env import UserError
from dslib.measure import score, twin_scores
from dslib.show import page
from dslib.study import curves, memorisation, tables

FACTS = {"target": "sketches", "backbone": "st-alex", "resolution": 32, "num_images": 8, "seed": 0, "scheduler": "ddim",
         "num_inference_steps": 20}


@pytest.fixture(scope="module")
def sets():
    """Samples, training images, real images and other real images."""
    return [make_images(n, 32, seed) for n, seed in ((12, 1), (3, 2), (12, 3), (20, 4))]


def test_every_score_is_what_its_function_says(sets):
    samples, training, real, others = sets
    reference = metrics.pooled_features(others)
    twins, drawn = make_images(len(samples), samples.shape[-1], 7), make_images(len(samples), samples.shape[-1], 8)
    evidence = score.Evidence(samples, training, real=real, reference=reference, probe=lambda x: x.mean((1, 2, 3)) > 0,
                              source_samples=drawn, twins=twins)
    got = score.measure(evidence, score.SCORES)
    features, nearest = metrics.pooled_features(samples), metrics.nearest_lpips(samples, training)
    intra, nearest_real = metrics.intra_lpips(samples, training), metrics.nearest_lpips(real, training)
    precision, recall = metrics.precision_recall(features, reference)
    want = {"intra": intra.mean, "intra_std": intra.std, "nearest": float(nearest.mean()), "nearest_real": float(nearest_real.mean()),
            "fd": metrics.frechet_distance(features, reference), "hit": float((samples.mean((1, 2, 3)) > 0).float().mean()),
            "copies": metrics.copy_rate(nearest, nearest_real), "kd": metrics.kernel_distance(features, reference),
            "covered": len(metrics.lpips_matrix(samples, training).argmin(1).unique()), "precision": precision, "recall": recall,
            "twin": float(metrics.lpips_matrix(samples, twins).diag().mean()),
            "kept": twin_scores.share_of_own(metrics.lpips_matrix(samples, twins)), "own": twin_scores.own_share(samples, drawn),
            "gap": twin_scores.gap_share(metrics.lpips_matrix(samples, training).sqrt())}
    assert {key: got[key] for key in want} == pytest.approx(want, rel=1e-4, abs=1e-5)
    assert got["c_t"] is None and "no training image has 20" in evidence.problems["C_T"]
    assert got.keys() == want.keys() | {"intra_error", "c_t"} and got["intra_error"] > 0


@pytest.mark.parametrize("memory", [2**28, 2**19])
def test_images_are_looked_at_once_and_their_distances_are_the_librarys_to_the_last_bit(sets, monkeypatch, memory):
    samples, training, twins, drawn = *sets[:2], make_images(12, 32, 7), make_images(12, 32, 8)
    want = [metrics.lpips_matrix(samples, others) for others in (training, None, drawn, twins)]
    monkeypatch.setattr(metrics, "MEMORY", memory)
    looked, features = [], metrics.lpips_features
    monkeypatch.setattr(metrics, "lpips_features", lambda images, *a, **k: looked.append(len(images)) or features(images, *a, **k))
    seen = {}
    for _ in range(2):
        one = score.Evidence(samples, training, source_samples=drawn, twins=twins, seen=seen)
        found = [one.to_targets, one.within, one.to_source, one.to_twins]
        assert all(torch.equal(a, b) for a, b in zip(found, want)) or memory < 2**20 and all(map(torch.allclose, found, want))
    if memory > 2**20:
        assert sum(n for n in looked if n > 1) == 2 * 12 + 3 + 12 + 12        # the samples twice, what they share once


def test_nothing_is_measured_that_is_not_asked_for(sets, monkeypatch):
    monkeypatch.setattr(metrics, "pooled_features", lambda *_: pytest.fail("features were computed"))
    got = score.measure(score.Evidence(*sets[:2]), ("nearest", "fd", "hit", "copies"))
    assert got["nearest"] > 0 and got["fd"] is got["hit"] is got["copies"] is None


def test_a_row_of_the_table_and_of_a_study_are_the_same_numbers(sets):
    samples, training, *_ = sets
    row, study = score.score("mine", samples, training), memorisation.score(samples, training, torch.ones(5))
    assert (row.intra_lpips, row.nearest_lpips) == (study["intra"], study["nearest"]) and row.fd is row.domain_hit is None


def test_too_few_samples_are_said_and_leave_a_dash(sets, capsys):
    row = score.score("mine", sets[0][:2], make_images(2, 32, 1))
    assert row.intra_lpips is None and "± " not in score.text_table([row])
    assert "mine: no Intra-LPIPS, no target has two" in capsys.readouterr().err
    with pytest.raises(UserError, match="too small"):
        score.score("mine", make_images(4, 16), make_images(2, 16))


def test_files_keep_the_columns_that_they_had(sets):
    assert list(vars(score.score("mine", *sets[:2]))) == ["name", "intra_lpips", "intra_std", "nearest_lpips", "fd", "domain_hit",
                                                              "copies", "to_twin", "kept"]
    assert {*curves.METRICS, *curves.LATER_METRICS} <= score.SCORES.keys()


def test_a_new_metric_is_a_function_and_a_row(sets, monkeypatch, tmp_path):
    """It reaches the terminal, the report, metrics.json and the table of runs, where a run from before it has a place too."""
    old = [score.score("mine", *sets[:2])]
    score.write_metrics(tmp_path / "old.json", old, FACTS | {"config": {}})
    monkeypatch.setattr(metrics, "brightness", lambda images: float(images.mean()), raising=False)
    monkeypatch.setitem(score.SCORES, "brightness", score.Kind("light", 2, 0, lambda e: metrics.brightness(e.images), meaning="mean."))
    rows = [score.score("mine", *sets[:2])]
    assert "| light |" in score.text_table(rows) and f"{sets[0].mean():.2f} |" in score.text_table(rows)
    assert "<th>light</th>" in page.table(rows) and "<b>light</b>: mean." in score.explanation() and "| – |" in score.text_table(old)
    score.write_metrics(tmp_path / "new.json", rows, FACTS | {"seed": 1, "config": {}})
    (row,) = tables.collate([tmp_path / "old.json", tmp_path / "new.json"])
    assert row["seeds"] == 2 and row["brightness"] == pytest.approx(float(sets[0].mean()), abs=1e-4)
    assert "| light |" in tables.collated_text([row])


# ------------------------------------------------------------------------------------------ runs from before and after a setting was added

def write_run(path, seed, **config):
    rows = [{"name": "finetune", "intra_lpips": 0.2, "intra_std": 0.01, "nearest_lpips": 0.3, "fd": 0.5, "domain_hit": 1.0}]
    path.write_text(json.dumps(FACTS | {"seed": seed, "config": {"seed": seed} | config, "scores": rows}))
    return path


def test_a_setting_at_its_default_parts_no_runs(tmp_path, capsys):
    everything = {f.name: f.default for f in fields(train.TrainConfig)} | tables.WITHOUT_EFFECT
    runs = [write_run(tmp_path / "old.json", 0), write_run(tmp_path / "new.json", **everything | {"seed": 1, "output_dir": "runs/x"})]
    assert [row["seeds"] for row in tables.collate(runs)] == [1, 1]
    assert capsys.readouterr().err == ""
    less = {key: value for key, value in everything.items() if key not in ("lambda_img", "pairwise_t_max", "seed", "snr_gamma")}
    write_run(tmp_path / "old.json", 0, **less)
    assert [row["seeds"] for row in tables.collate(runs)] == [2]
    write_run(tmp_path / "old.json", 0, **less | {"lambda_img": 0.25})
    assert [row["seeds"] for row in tables.collate(runs)] == [1, 1]


def test_an_unknown_setting_is_named_and_compared(tmp_path, capsys):
    runs = [write_run(tmp_path / f"{seed}.json", seed, lambda_edge=0.1 * min(seed, 1)) for seed in range(3)]
    assert [row["seeds"] for row in tables.collate(runs)] == [1, 2]
    assert "0.json: this version knows no setting lambda_edge" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", "{", '{"config": []}', '{"config": {}, "scores": 3}', "null"])
def test_what_is_no_run_is_named(tmp_path, content):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match="x.json is no metrics.json of dslib adapt"):
        tables.collate([tmp_path / "x.json"])


def test_committed_runs_share_a_row_with_runs_that_hold_only_what_differs(tmp_path, capsys):
    """A file of 37 settings beside the same run written with none that is at its default."""
    from dslib import env
    path = env.data_dir() / "results" / "unconditional" / "robots-1.json"
    run = json.loads(path.read_text())
    run["config"] = tables.without_defaults(run["config"], path) | {"max_train_steps": run["config"]["max_train_steps"]}
    run["seed"] = 9
    (tmp_path / "new.json").write_text(json.dumps(run))
    assert len(run["config"]) < 5 and {row["seeds"] for row in tables.collate([path, tmp_path / "new.json"])} == {2}
    assert capsys.readouterr().err == ""


@pytest.fixture
def drawn_domain(monkeypatch):
    """A domain of stripes instead of drawings, and a probe that looks at brightness."""
    def load_domain(name, split, n=None, resolution=64, workers=1):
        return data.Domain(make_images(n, resolution, 5), [], name, split)
    monkeypatch.setattr(data, "load_domain", load_domain)
    monkeypatch.setattr(score.probes, "domain_probe", lambda *_: lambda images: images.mean((1, 2, 3)) > 0)


def test_a_domain_with_a_known_answer_has_it_among_the_rows(drawn_domain):
    """Real images are no pair of anybody's noise; all others are compared with the twins of the source's samples, copies by 300 others."""
    source, mine, targets = make_images(6, 32, 1), make_images(6, 32, 2), make_images(3, 32, 3)
    found = score.evidence_of({"finetune": mine, "source": source}, targets, "engraved")
    assert list(found) == [score.REAL, "source", score.TRUE, "finetune"]
    twins, real = data.twin(source, "engraved"), make_images(306, 32, 5)
    assert torch.equal(found[score.REAL].images, real[:6]) and torch.equal(found[score.TRUE].images, twins)
    rows = {name: score.row_of(name, one) for name, one in found.items()}
    assert rows[score.REAL].to_twin is None and rows[score.TRUE].to_twin == pytest.approx(0, abs=1e-5) and rows[score.TRUE].kept == 1
    assert rows["finetune"].to_twin == pytest.approx(float(metrics.lpips_matrix(mine, twins).diag().mean()), rel=1e-4)
    others = metrics.nearest_lpips(real[6:], targets)
    assert rows["finetune"].copies == metrics.copy_rate(metrics.nearest_lpips(mine, targets), others)


def test_without_a_known_answer_there_is_none(drawn_domain):
    source, targets = make_images(6, 32, 1), make_images(3, 32, 3)
    assert list(score.evidence_of({"source": source}, targets, "sunglasses")) == [score.REAL, "source"]
    assert list(score.evidence_of({"finetune": source}, targets, "engraved")) == [score.REAL, "finetune"]
    assert list(score.evidence_of({"source": source}, targets, None)) == ["source"]


def test_copying_is_judged_by_the_images_that_were_trained_on():
    """C_T and the gap ratio, where Intra-LPIPS groups by other images than the model saw."""
    images, targets, training, real = (make_images(n, 32, seed) for n, seed in ((60, 1), (3, 2), (2, 3), (60, 4)))
    evidence = score.Evidence(images, targets, training, real)
    drawn, others = (metrics.lpips_matrix(x, training) for x in (images, real))
    assert evidence.copying == pytest.approx(twin_scores.copying_test(drawn, others), rel=1e-4)
    assert score.measure(evidence, ("gap",))["gap"] == twin_scores.gap_share(drawn.sqrt())
    assert torch.allclose(evidence.nearest[0], drawn.min(1).values, atol=1e-6) and evidence.to_targets.shape == (60, 3)
