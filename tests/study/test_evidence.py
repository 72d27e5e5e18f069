"""Goals, matched hits and paired differences against numbers worked out by hand or by scipy."""

import math

import pytest
from scipy import stats

from dslib.base.errors import UserError
from dslib.study import curves, evidence
from dslib.study.regime import COLUMNS, SCORES


def row(method="naive", seed=0, step=0, hit=0.0, until=None, target="engraved", **scores):
    return {"target": target, "method": method, "seed": seed, "step": step, "until": until, **dict.fromkeys(SCORES), "hit": hit, **scores}


KEYS = ("step", *SCORES)
RUN = [row(step=100, hit=0.2, copies=0.0, intra=0.4), row(step=200, hit=0.6, copies=0.1, intra=0.3), row(step=400, hit=0.8, copies=0.3)]


@pytest.mark.parametrize("hit, step, copies", [(0.4, 150, 0.05), (0.6, 200, 0.1), (0.7, 300, 0.2), (0.1, 100, 0.0), (0.8, 400, 0.3)])
def test_a_score_at_a_hit_lies_on_the_line_between_two_stops(hit, step, copies):
    found = curves.stopped_at_hit(RUN, hit, KEYS)
    assert found["step"] == pytest.approx(step) and found["copies"] == pytest.approx(copies)


def test_a_hit_that_is_never_reached_and_a_score_that_is_missing():
    assert curves.stopped_at_hit(RUN, 0.9, KEYS) is None and curves.stopped_at_hit([], 0.1, KEYS) is None
    assert curves.stopped_at_hit(RUN, 0.7, KEYS)["intra"] is None and curves.stopped_at_hit(RUN, 0.5, KEYS)["intra"] == pytest.approx(0.325)


def test_a_run_that_falls_back_is_read_where_it_was_there_first():
    run = [row(step=1, hit=0.5, copies=0.0), row(step=2, hit=0.9, copies=0.4), row(step=3, hit=0.7, copies=0.5), row(step=4, hit=0.95)]
    assert curves.stopped_at_hit(run, 0.7, KEYS)["copies"] == pytest.approx(0.2)


def test_seeds_and_ways_of_drawing_are_kept_apart():
    rows = [row(seed=s, step=step, hit=step / 100, copies=s / 10, until=until)
            for s in (0, 1) for step in (60, 30) for until in (None, 500)]
    rows += [row(method="anchored", seed=2, step=30), row(target="gouache", seed=5)]
    assert evidence.seeds_of(rows, "engraved", "naive") == [0, 1]
    assert [one["step"] for one in evidence.way(rows, "engraved", "naive", 1, 500)] == [30, 60]
    assert evidence.scores_of(rows, "engraved", "naive", "copies", step=30) == {0: 0.0, 1: 0.1}
    assert evidence.scores_of(rows, "engraved", "naive", "copies", hit=0.7) == {}
    assert evidence.scores_of(rows, "engraved", "anchored", "copies", step=30) == {}


def test_an_interval_is_scipys():
    values = [0.3, 0.5, 0.4, 0.9]
    low, high = stats.t.interval(0.9, 3, loc=0.525, scale=stats.sem(values))
    assert evidence.interval(values, 0.9) == pytest.approx((0.525, low, high))
    assert evidence.interval([0.2]) == (0.2, -math.inf, math.inf)
    with pytest.raises(UserError, match="no number"):
        evidence.interval([])


def test_a_paired_difference_is_scipys_and_the_seeds_luck_cancels():
    mine, theirs = {0: 0.31, 1: 0.52, 2: 0.73, 9: 1.0}, {2: 0.6, 0: 0.2, 1: 0.4, 7: 0.0}
    found, by_scipy = evidence.paired(mine, theirs), stats.ttest_rel([0.31, 0.52, 0.73], [0.2, 0.4, 0.6])
    assert found.seeds == [0, 1, 2] and found.each == pytest.approx([0.11, 0.12, 0.13])
    assert (found.mean, found.p) == pytest.approx((0.12, by_scipy.pvalue))
    assert (found.low, found.high) == pytest.approx(tuple(by_scipy.confidence_interval()))
    assert found.p < 0.01 < stats.ttest_ind([0.31, 0.52, 0.73], [0.2, 0.4, 0.6]).pvalue


def test_differences_without_spread_or_company():
    assert evidence.paired({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0}).p == 1 and math.isnan(evidence.paired({0: 1.0, 1: 2.0}, {0: 0.0, 1: 1.0}).p)
    assert math.isnan(evidence.paired({0: 1.0}, {0: 0.0}).p)
    with pytest.raises(UserError):
        evidence.paired({0: 1.0}, {1: 1.0})
    line = evidence.Line("rival", {}, {"hit": evidence.paired({0: 0.5, 1: 0.75}, {0: 1.0, 1: 1.25})}, {"hit": math.nan})
    assert evidence.difference_text(line, "hit", 2) == "-0.50 in every seed"


def test_holm_by_hand():
    assert evidence.holm([0.01, 0.04, 0.03, math.nan])[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert evidence.holm([0.6, 0.5]) == [1.0, 1.0] and math.isnan(evidence.holm([math.nan])[0])


def test_a_goal_is_a_prediction_interval_of_sets_of_real_images():
    rows = [row(f"real, held out {i}", nearest=v) for i, v in enumerate((0.20, 0.22, 0.24, 0.22))] + [row(nearest=9.0)]
    middle, low, high = evidence.goal(rows, "engraved", "nearest")
    half = stats.t.ppf(0.975, 3) * stats.tstd([0.20, 0.22, 0.24, 0.22]) * 1.25**0.5
    assert (middle, low, high) == pytest.approx((0.22, 0.22 - half, 0.22 + half))
    with pytest.raises(UserError, match="gouache"):
        evidence.goal(rows, "gouache", "nearest")


TABLE = [row(f"real, held out {i}", copies=c, intra=0.25) for i, c in enumerate((0.04, 0.06, 0.05))] + [
    row(method, seed, step, hit=hit, copies=copies + seed / 100 + wobble * (seed == 1), intra=0.2, until=until)
    for seed in (0, 1, 2) for method, until, step, hit, copies, wobble in (
        ("naive", None, 100, 0.8, 0.1, 0), ("naive", None, 200, 1.0, 0.3, 0), ("naive", 500, 200, 1.0, 0.1, 0.02),
        ("anchored", None, 200, 0.9, 0.05, 0.01))]


def test_every_method_is_compared_with_one_and_all_p_values_are_corrected_together():
    lines = {line.name: line for line in evidence.compare(TABLE, "engraved", step=200, scores=("hit", "copies"))}
    assert list(lines) == ["naive", "naive, source for t > 500", "anchored"] and not lines["naive"].against
    found = lines["anchored"].against["copies"]
    assert found.mean == pytest.approx(-0.25 + 0.01 / 3) and found.seeds == [0, 1, 2]
    alone = [line.against[score].p for line in lines.values() for score in line.against]
    together = [line.corrected[score] for line in lines.values() for score in line.against]
    assert len(alone) == 4 and together == pytest.approx(evidence.holm(alone), nan_ok=True)
    assert sum(p for p in together if p == p) > sum(p for p in alone if p == p)


def test_hits_that_are_made_alike_are_no_hypothesis():
    """Matched on hits, their differences are not counted among those that luck may make large."""
    scores = ("hit", "copies", "intra")
    lines = {line.name: line for line in evidence.compare(TABLE, "engraved", hit=0.6, scores=scores)}
    alone = [line.against[score].p for line in lines.values() for score in line.against if score != "hit"]
    together = [line.corrected[score] for line in lines.values() for score in line.against if score != "hit"]
    assert together and together == pytest.approx(evidence.holm(alone), nan_ok=True)
    assert all("hit" in line.against and "hit" not in line.corrected for line in lines.values() if line.against)
    told = evidence.text(TABLE, "engraved", list(lines.values()), scores)
    differences = [line.split(" | ")[1] for line in told.split("\n\n")[1].splitlines()[2:]]
    assert differences and not any("p " in one for one in differences), "and no p-value is printed of them"


def test_the_source_itself_has_a_row():
    source = {"target": "engraved", "method": "source samples", "seed": 0, "step": 0, "until": None, "copies": 0.0, "kept": 0.16}
    told = evidence.text([*TABLE, source], "engraved", evidence.compare(TABLE, "engraved", step=200, scores=("copies", "kept")),
                         ("copies", "kept"))
    assert "| the source's samples, not adapted | – | – | 0.00 | 0.16 |" in told


def test_at_equal_hit_a_method_stands_where_it_arrives_and_the_others_are_left_out():
    lines = {line.name: line for line in evidence.compare(TABLE, "engraved", hit=0.9, scores=("copies",))}
    assert lines["naive"].seeds["copies"][0] == pytest.approx(0.2) and lines["naive"].seeds["step"][0] == pytest.approx(150)
    assert "anchored" not in {line.name for line in evidence.compare(TABLE, "engraved", hit=0.95, scores=("copies",))}
    with pytest.raises(UserError, match="gouache: no run of 'naive' at 90% hits"):
        evidence.compare(TABLE, "gouache", hit=0.9)


def test_the_printed_table_has_the_band_the_means_and_the_differences():
    scores = ("copies", "intra", "kept")
    told = evidence.text(TABLE, "engraved", evidence.compare(TABLE, "engraved", step=200, scores=scores), scores).splitlines()
    _, low, high = evidence.goal(TABLE, "engraved", "copies")
    assert told[2].startswith(f"| one more set of real images | – | – | {low:.2f} to {high:.2f} | 0.250 to 0.250 | –")
    assert told[3] == "| naive | 3 | 200 ± 0 | 0.31 ± 0.01 | 0.200 ± 0.000 | – |"
    assert any(line.startswith("| anchored | -0.25 [") and line.endswith("| +0.000 [+0.000, +0.000], p 1 | – |") for line in told)


def test_the_command_reads_a_table_and_says_what_it_lacks(tmp_path, capsys):
    full = [{"num_images": 64, "split": "test", "source": "x"} | one for one in TABLE]
    (tmp_path / "t.csv").write_text(curves.as_csv(full, COLUMNS))
    assert evidence.main(["--table", str(tmp_path / "t.csv"), "--step", "200"]) == 0
    assert "| anchored | 3 |" in capsys.readouterr().out
    assert evidence.main(["--table", str(tmp_path / "t.csv"), "--against", "nobody"]) == 2
    assert "no run of 'nobody' at 90% hits" in capsys.readouterr().err
    assert evidence.main(["--table", str(tmp_path / "no.csv")]) == 2
