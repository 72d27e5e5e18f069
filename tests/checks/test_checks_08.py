"""Chapter 08's self-checks, the margin of luck, and the explorer of the grid."""

import statistics

import numpy as np
import pytest
import torch
from conftest import make_images

from dslib import checks, data
from dslib.env import UserError
from dslib.show import plots, widgets
from dslib.study import ablations, curves


def mean(values):
    return sum(values) / len(values)


@pytest.mark.parametrize("wrong, hint", [
    (lambda g: statistics.stdev([v for group in g for v in group]), "each group's own mean"),
    (lambda g: checks.pooled_std(g)**2, "variance"),
    (lambda g: mean([statistics.stdev(group) for group in g]), "mean of the groups' spreads"),
    (lambda g: mean([statistics.variance(group) for group in g])**0.5, "averaged alike"),
    (lambda g: statistics.stdev([mean(group) for group in g]), "spread of the means"),
    (lambda g: (sum((v - mean(group))**2 for group in g for v in group) / sum(map(len, g)))**0.5, "number of values:"),
    (lambda g: (sum((v - mean(group))**2 for group in g for v in group) / (sum(map(len, g)) - 1))**0.5, "values minus one"),
    (lambda g: g, "expected a tensor"),
    (lambda g: None, "nothing written yet"),
])
def test_pooled_std_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_pooled_std(wrong)
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("wrong, hint", [
    (lambda x: ~checks.not_beaten(x), "turned round"),
    (lambda x: checks.not_beaten(-x), "larger is not better"),
    (lambda x: torch.tensor([not any((o < p).all() for o in x) for p in x]), "a tie in one column"),
    (lambda x: torch.tensor([not any((o <= p).all() for j, o in enumerate(x) if j != i) for i, p in enumerate(x)]), "twins"),
    (lambda x: torch.tensor([not any((o <= p).all() for o in x) for p in x]), "beat itself"),
    (lambda x: (x == x.min(0).values).any(1), "best in some column"),
    (lambda x: x.sum(1) == x.sum(1).min(), "smallest sum"),
    (lambda x: x, "the shape is"),
    (lambda x: None, "nothing written yet"),
])
def test_not_beaten_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_not_beaten(wrong)
    assert hint in capsys.readouterr().out


def stop_after(hits, hit):
    return next(i for i, reached in enumerate(hits) if reached >= hit)


@pytest.mark.parametrize("wrong, hint", [
    (lambda h, s, hit: s[stop_after(h, hit)], "stop after it"),
    (lambda h, s, hit: s[stop_after(h, hit) - 1], "stop before it"),
    (lambda h, s, hit: min(zip(h, s), key=lambda point: abs(point[0] - hit))[1], "however late"),
    (lambda h, s, hit: s[1] + s[2] - checks.score_at_hit(h, s, hit), "other end"),
    (lambda h, s, hit: checks.score_at_hit(h[3:], s[3:], hit), "last time"),
    (lambda h, s, hit: float(np.interp(hit, sorted(h), [s[i] for i in np.argsort(h)])), "sorted by their hits"),
    (lambda h, s, hit: s[-1], "end of the run"),
    (lambda h, s, hit: hit, "return the score"),
    (lambda h, s, hit: s, "expected a tensor"),
    (lambda h, s, hit: None, "nothing written yet"),
])
def test_score_at_hit_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_score_at_hit(wrong)
    assert hint in capsys.readouterr().out


def test_early_stopping_by_hand_is_the_librarys():
    hits, scores = [0.1, 0.5, 0.8, 0.6, 0.9], [0.40, 0.34, 0.31, 0.28, 0.20]
    way = [{"step": 75 * i, "intra": score, "nearest": 0.0, "fd": 0.0, "hit": hit} for i, (hit, score) in enumerate(zip(hits, scores))]
    for hit in (0.2, 0.5, 0.62, 0.8, 0.85):
        assert checks.score_at_hit(hits, scores, hit) == pytest.approx(curves.stopped_at_hit(way, hit)["intra"])


def slow_front(points):
    return [not any(all(a <= b for a, b in zip(other, point)) and any(a < b for a, b in zip(other, point)) for other in points)
            for point in points]


def test_solutions_pass_and_agree_with_loops(capsys):
    assert checks.check_pooled_std(checks.pooled_std) and checks.check_not_beaten(checks.not_beaten)
    assert checks.check_not_beaten(slow_front)           # a list of truths is an answer too
    points = torch.randint(0, 4, (30, 3), generator=torch.Generator().manual_seed(0)).float()
    assert checks.not_beaten(points).tolist() == slow_front(points.tolist())
    assert checks.pooled_std([[1.0, 2.0, 4.0]]) == pytest.approx(statistics.stdev([1.0, 2.0, 4.0]))


def test_margin_holds_one_more_run_of_the_same_kind():
    """In 95 of 100 repetitions another draw lies within it, though the spread is estimated from few."""
    generator, inside = torch.Generator().manual_seed(1), 0
    for _ in range(2000):
        draws = torch.randn(7, generator=generator)
        groups = [draws[:3].tolist(), (draws[3:6] + 5).tolist()]
        inside += abs(float(draws[6]) - mean(groups[0])) <= ablations.margin(groups)
    assert 0.93 < inside / 2000 < 0.97
    with pytest.raises(UserError, match="at least two seeds"):
        ablations.margin([[1.0], [2.0]])


@pytest.fixture
def grid():
    def row(axis, value, place):
        return {"axis": axis, "value": value, "intra": 0.3 + 0.01 * place, "nearest": 0.2, "nearest_real": 0.25, "fd": 1.0 - 0.1 * place,
                "hit": 0.5}
    rows = [row("method", "DomainStudio", 0), row("method", "naive", 1)]
    rows += [row("λ2, L_img", value, i) for i, value in enumerate(("0", "0.3", "3"))]
    thumbs = data.to_uint8(make_images(len(rows) * 3, 16)).view(len(rows), 3, 3, 16, 16)
    return ablations.Grid(rows, thumbs, {"real": {"intra": 0.29, "nearest": 0.25, "fd": 0.2, "hit": 1.0}})


LUCK = {"Intra-LPIPS": (0.28, 0.32), "nearest-LPIPS": (0.19, 0.21), "FD": (0.9, 1.1), "domain hit": (0.4, 0.6)}


def test_the_figure_changes_with_the_setting_and_survives_a_short_axis(grid):
    def drawn(axis, place):
        return plots.to_png(widgets.ablation_figure(grid, LUCK, axis, place)[0], 40)
    assert drawn("λ2, L_img", 0) != drawn("λ2, L_img", 2) == drawn("λ2, L_img", 9)
    assert "λ2, L_img: 3: Intra-LPIPS 0.32" in widgets.ablation_figure(grid, LUCK, "λ2, L_img", 2)[1]
    with pytest.raises(UserError, match="no axis 'λ9': use one of method, λ2, L_img"):
        ablations.along(grid, "λ9")


def test_the_button_recomputes_the_point_that_is_shown(grid, explored, monkeypatch):
    asked, boxes = [], []
    monkeypatch.setattr("IPython.display.display", lambda *things, **_: boxes.extend(things))

    def fail(axis, value):
        asked.append((axis, value))
        raise RuntimeError("out of memory")
    seen, controls = explored(lambda: widgets.explore_ablations(grid, LUCK, fail))
    assert seen[0].startswith("λ2, L_img: 0:")
    controls["place"].value = 1
    assert seen[-1].startswith("λ2, L_img: 0.3:")
    button = boxes[-1].children[0]
    button.click()
    assert asked == [("λ2, L_img", "0.3")]
    assert not button.disabled                           # it can be pressed again after a failure
