"""The self-checks accept the right answer, name each typical mistake, and never raise."""

import pytest
import torch

from dslib import checks


def test_the_reference_passes(capsys):
    assert checks.check_nearest(checks.nearest)
    assert "✓" in capsys.readouterr().out


def distance(samples, images):
    return torch.cdist(samples.flatten(1), images.flatten(1))


@pytest.mark.parametrize("wrong, hint", [
    (lambda s, i: None, "nothing written yet"),
    (lambda s, i: 1 / 0, "ZeroDivisionError"),
    (lambda s, i: distance(s, i).argmax(1), "farthest"),
    (lambda s, i: distance(s, i).argmin(0), "dim=1"),
    (lambda s, i: distance(s, i).min(1).values, "argmin"),
    (lambda s, i: distance(s, i), "shape"),
    (lambda s, i: torch.zeros(len(s), dtype=torch.long), "indices are wrong"),
    (lambda s, i: "three", "expected a tensor"),
])
def test_each_mistake_is_named(wrong, hint, capsys):
    assert not checks.check_nearest(wrong)
    assert hint in capsys.readouterr().out


def test_solution_prints_source(capsys):
    checks.solution("nearest")
    assert "argmin" in capsys.readouterr().out
    checks.solution("no such exercise")
    assert "known are" in capsys.readouterr().out
