"""Chapter 04's self-checks: every typical mistake gets its own words."""

import json
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from dslib import checks, losses


def raw(x):
    return x.flatten(1) @ x.flatten(1).T


@pytest.mark.parametrize("wrong, hint", [
    (lambda x: F.log_softmax(losses.cosine_matrix(x), dim=1), "diagonal is kept"),
    (lambda x: losses.drop_diagonal(F.log_softmax(losses.cosine_matrix(x), dim=1)), "diagonal took part"),
    (lambda x: F.log_softmax(losses.drop_diagonal(losses.cosine_matrix(x)), dim=0), "wrong axis"),
    (lambda x: F.log_softmax(losses.drop_diagonal(raw(x)), dim=1), "dot products"),
    (lambda x: losses.pairwise_log_probs(x).exp(), "logarithms"),
    (lambda x: losses.drop_diagonal(losses.cosine_matrix(x)), "softmax is missing"),
    (lambda x: losses.pairwise_log_probs(x) * float("nan"), "NaN"),
    (lambda x: None, "nothing written yet"),
    (lambda x: 1 / 0, "ZeroDivisionError"),
])
def test_log_probs_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_pairwise_log_probs(wrong)
    assert hint in capsys.readouterr().out


def gradient_into_source(adapted, source):
    a, s = losses.pairwise_log_probs(adapted), losses.pairwise_log_probs(source)
    return (a.exp() * (a - s)).sum()


def half_detached(adapted, source):
    a, s = losses.pairwise_log_probs(adapted), losses.pairwise_log_probs(source.detach())
    return (a.exp().detach() * (a - s)).sum()


@pytest.mark.parametrize("wrong, hint", [
    (lambda a, s: losses.pairwise_kl(a, s, direction="sou||ada"), "swapped"),
    (lambda a, s: losses.pairwise_kl(a, s, reduction="mean"), "F.kl_div"),
    (lambda a, s: losses.pairwise_kl(a, s) / len(a), "batchmean"),
    (lambda a, s: losses.pairwise_kl(a, s, "sou||ada", "mean"), "authors' loss"),
    (lambda a, s: -losses.pairwise_kl(a, s), "never negative"),
    (gradient_into_source, "into the source"),
    (lambda a, s: losses.pairwise_kl(a, s).detach(), "no gradient flows"),
    (lambda a, s: losses.pairwise_kl(a, s)[None], "shape"),
    (lambda a, s: float(losses.pairwise_kl(a, s)), "expected a tensor"),
    (lambda a, s: None, "nothing written yet"),
    (half_detached, "its gradient is not"),
    (lambda a, s: F.kl_div(losses.pairwise_log_probs(s), losses.pairwise_log_probs(a), reduction="sum"), "log_target"),
])
def test_kl_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_pairwise_kl(wrong)
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("wrong, hint", [
    (lambda w, n: w * n * (n - 1), "multiplied"), (lambda w, n: w / n**2, "n²"), (lambda w, n: w / n, "n alone"),
    (lambda w, n: w / (n - 1), "n−1 alone"), (lambda w, n: 2 / 3, "use the argument n"),
    (lambda w, n: 2 * w / (n * (n - 1)), "two entries"),
    (lambda w, n: "many", "expected a number"), (lambda w, n: None, "nothing written yet"),
])
def test_weight_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_authors_weight(wrong)
    assert hint in capsys.readouterr().out


def test_expected_values_are_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DSLIB_DATA", str(tmp_path))
    runtime = SimpleNamespace(tier="cpu")
    assert not checks.check_expected("99", runtime, a=1.0)                       # no file: says so
    assert "nothing to compare with" in capsys.readouterr().out
    (tmp_path / "expected").mkdir()
    (tmp_path / "expected" / "99.json").write_text(json.dumps({"values": {"a": {"cpu": [1.0, 0.1]}}}))
    assert checks.check_expected("99", runtime, a=1.05, b=3.0)
    assert "nothing recorded" in capsys.readouterr().out
    assert not checks.check_expected("99", runtime, a=1.2)
    assert not checks.check_expected("99", runtime, a=float("nan"))
    for broken in ("{", "[]"):
        (tmp_path / "expected" / "99.json").write_text(broken)
        assert not checks.check_expected("99", runtime, a=1.0)


def test_other_seeds_are_shown_beside_the_value_to_expect(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DSLIB_DATA", str(tmp_path))
    (tmp_path / "expected").mkdir()
    known = {"values": {"a": {"cpu": [1.0, 0.1]}, "b": {"cpu": [2.0, 0.1]}}, "seeds": {"cpu": {"a": {"1": 0.97, "2": 1.2}}}}
    (tmp_path / "expected" / "99.json").write_text(json.dumps(known))
    assert checks.check_expected("99", SimpleNamespace(tier="cpu"), a=1.0, b=2.0)
    assert capsys.readouterr().out == "✓ a: 1, expected 1 ± 0.1; other seeds 0.97, 1.2\n✓ b: 2, expected 2 ± 0.1\n"
    assert checks.check_expected("99", SimpleNamespace(tier="smoke"), a=1.0)
    assert "other seeds" not in capsys.readouterr().out


def test_the_drawn_references_are_not_touched_by_the_check():
    """A reader's function that changes its input in place must not change the verdict on the next try."""
    def in_place(x):
        x.mul_(2)
        return losses.pairwise_log_probs(x)
    assert checks.check_pairwise_log_probs(in_place) and checks.check_pairwise_log_probs(torch.clone) is False
