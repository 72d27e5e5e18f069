"""Chapter 12: its self-checks name the mistakes."""

import pytest
import torch

from dslib import checks
from dslib.measure import membership


def pairs(members, others, tie=0.5):
    return (members[:, None] < others).float() + tie * (members[:, None] == others).float()


@pytest.mark.parametrize("wrong, hint", [
    (lambda m, o: pairs(m, o, 0.0).mean(), "a tie counts nothing"), (lambda m, o: pairs(m, o, 1.0).mean(), "a tie counts a whole pair"),
    (lambda m, o: 1 - pairs(m, o).mean(), "1 − AUC"), (lambda m, o: pairs(m, o).sum(), "divide by N·M"),
    (lambda m, o: float(m.mean() < o.mean()), "the means only"), (lambda m, o: "high", "returns a str"),
    (lambda m, o: None, "nothing written yet")])
def test_mistakes_in_auc_are_named(wrong, hint, capsys):
    assert not checks.check_auc(wrong)
    assert hint in capsys.readouterr().out


def caught(off=0, share=None, high=False, number=False):
    """A reader's answer, wrong where the options say so."""
    def fn(members, others, false_alarms):
        allowed, ordered = int((share or false_alarms) * len(others) + 1e-9), others.sort().values
        found = members > ordered[-allowed - 1] if high else members < ordered[allowed - off]
        return found.float().sum() if number else found.float().mean()
    return fn


@pytest.mark.parametrize("wrong, hint", [
    (caught(off=1), "one stranger too few"), (caught(share=0.01), "false_alarms is not used"), (caught(number=True), "divide by N"),
    (lambda m, o, share: (m < m.quantile(share)).float().mean(), "must be the strangers'"), (caught(high=True), "a high error is taken"),
    (lambda m, o, share: share, "the strangers that are accused"), (lambda m, o, share: "all", "returns a str"),
    (lambda m, o, share: None, "nothing written yet")])
def test_mistakes_in_the_share_caught_are_named(wrong, hint, capsys):
    assert not checks.check_caught(wrong)
    assert hint in capsys.readouterr().out


def test_right_answers_pass_and_are_the_librarys():
    assert checks.check_auc(lambda m, o: pairs(m, o).mean()) and checks.check_auc(membership.auc)
    assert checks.check_caught(caught()) and checks.check_caught(membership.caught)
    members, others = torch.rand(2, 50, generator=torch.Generator().manual_seed(3))
    assert checks.SOLUTIONS["auc"](members, others) == pytest.approx(membership.auc(members, others))
