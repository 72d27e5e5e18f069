"""The self-checks accept the right answer, name each typical mistake, and never raise."""

import pytest
import torch

from dslib import checks


@pytest.mark.parametrize("name", checks.SOLUTIONS)
def test_the_reference_passes_and_is_shown(name, capsys):
    assert getattr(checks, f"check_{name}")(checks.SOLUTIONS[name])
    assert f"✓ {name}" in capsys.readouterr().out
    checks.solution(name)
    assert f"def {checks.SOLUTIONS[name].__name__}" in capsys.readouterr().out


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


def test_an_unknown_exercise_is_answered_with_the_known_ones(capsys):
    checks.solution("no such exercise")
    assert "known are" in capsys.readouterr().out


def test_a_solution_is_found_by_its_self_checks_name_and_a_slip_is_guessed(capsys):
    checks.solution("haar_step")
    assert "def " in capsys.readouterr().out
    checks.solution("authors_weights")
    assert "did you mean 'authors_weight'?" in capsys.readouterr().out


def a_bar(schedule, t):
    return schedule[t].view(-1, 1, 1, 1)


@pytest.mark.parametrize("wrong, hint", [
    (lambda x, t, e, s: a_bar(s, t) * x + (1 - a_bar(s, t)) * e, "square roots"),
    (lambda x, t, e, s: a_bar(s, t).sqrt() * x + e, "noise is not scaled"),
    (lambda x, t, e, s: x + (1 - a_bar(s, t)).sqrt() * e, "picture is not scaled"),
    (lambda x, t, e, s: a_bar(s, t).sqrt() * e + (1 - a_bar(s, t)).sqrt() * x, "swapped"),
    (lambda x, t, e, s: s[t[0]].sqrt() * x + (1 - s[t[0]]).sqrt() * e, "first image's t"),
    (lambda x, t, e, s: x[:1], "shape"),
    (lambda x, t, e, s: x * float("nan"), "NaN"),
    (lambda x, t, e, s: x.long(), "dtype"),
    (lambda x, t, e, s: [x], "expected a tensor"),
    (lambda x, t: x, "TypeError"),
    (lambda x, t, e, s: x, "differ"),
])
def test_q_sample_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_q_sample(wrong)
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("wrong, hint", [
    (lambda x, t, e, s: (x - e) / a_bar(s, t).sqrt(), "forgotten"),
    (lambda x, t, e, s: x - (1 - a_bar(s, t)).sqrt() * e, "division"),
    (lambda x, t, e, s: (x - (1 - a_bar(s, t)).sqrt() * e) / a_bar(s, t), "its square root"),
    (lambda x, t, e, s: (x - (1 - a_bar(s, t)) * e) / a_bar(s, t), "roots are missing"),
    (lambda x, t, e, s: (x + (1 - a_bar(s, t)).sqrt() * e) / a_bar(s, t).sqrt(), "taken away"),
])
def test_predict_x0_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_predict_x0(wrong)
    assert hint in capsys.readouterr().out
