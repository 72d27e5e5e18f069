"""Scores with a known answer, and tests of copying against slow references."""

import math

import numpy as np
import pytest
import torch
from conftest import make_images

from dslib import data, metrics
from dslib.env import UserError
from dslib.measure import twin_scores


@pytest.fixture(scope="module")
def faces():
    return data.load_domain(data.SOURCE, "twins", 8, 64).images


def numbers(n, seed=0, places=None):
    values = torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return values if places is None else values.round(decimals=places)


# ------------------------------------------------------------------------------------------ twins

@pytest.mark.parametrize("name", data.TWINS)
def test_the_right_answer_scores_all(faces, name):
    scores = twin_scores.twin_scores(data.twin(faces, name), faces, name)
    assert scores.distance == pytest.approx(0, abs=1e-5) and scores.kept == 1


@pytest.mark.parametrize("name", data.TWINS)
def test_the_source_itself_is_own_but_far_from_its_twins(faces, name):
    scores = twin_scores.twin_scores(faces, faces, name)
    assert scores.own == 1 and scores.distance > 0.1


def test_people_that_changed_places_are_not_kept(faces):
    moved = faces.roll(1, dims=0)
    scores = twin_scores.twin_scores(data.twin(moved, "engraved"), faces, "engraved")
    assert scores.kept == 0 and scores.distance > 0.1
    assert twin_scores.own_share(moved, faces) == 0


def test_a_collapse_keeps_one_person_at_most(faces):
    one = faces[2:3].expand_as(faces)
    scores = twin_scores.twin_scores(data.twin(one, "gouache"), faces, "gouache")
    assert scores.kept == pytest.approx(1 / 8)


def test_scores_are_those_of_a_slow_loop(faces):
    samples = (data.twin(faces, "gouache") + 0.6 * make_images(8, 64)).clamp(-1, 1)
    true, scores = data.twin(faces, "gouache"), twin_scores.twin_scores(samples, faces, "gouache")
    apart = [[float(metrics.lpips_matrix(a[None], b[None])) for b in true] for a in samples]
    assert scores.distance == pytest.approx(np.mean([apart[i][i] for i in range(8)]), abs=1e-4)
    assert scores.kept == sum(all(apart[i][i] < apart[i][j] for j in range(8) if j != i) for i in range(8)) / 8


def test_share_of_own_by_hand_and_a_tie_is_nobody():
    distances = torch.tensor([[1.0, 2, 3], [4, 5, 6], [3, 2, 2]])
    assert twin_scores.share_of_own(distances) == pytest.approx(1 / 3)
    assert twin_scores.share_of_own(torch.zeros(4, 4)) == 0
    assert distances[0, 0] == 1


def test_what_is_no_pair_is_refused(faces):
    for samples, source in ((faces[:3], faces), (faces[:1], faces[:1]), (faces[..., :32, :32], faces)):
        for call, name in ((twin_scores.twin_scores, ["engraved"]), (twin_scores.own_share, [])):
            with pytest.raises(UserError, match="must be pairs") as caught:
                call(samples, source, *name)
            assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="only engraved and gouache have twins"):
        twin_scores.twin_scores(faces, faces, "robots")


# ------------------------------------------------------------------------------------------ gap ratio

def test_euclidean_distances_are_the_slow_ones():
    x, y = make_images(3, 16), make_images(4, 16, seed=1)
    for i in range(3):
        for j in range(4):
            assert float(twin_scores.euclidean(x, y)[i, j]) == pytest.approx(math.sqrt(float((x[i] - y[j]).square().sum())), rel=1e-5)
    assert twin_scores.euclidean(x, x).diag().max() == 0


def test_gap_ratio_is_the_slow_one():
    distances = torch.rand(40, 6, generator=torch.Generator().manual_seed(0))
    slow = [sorted(row)[0] / sorted(row)[1] for row in distances.tolist()]
    torch.testing.assert_close(twin_scores.gap_ratio(distances), torch.tensor(slow))
    for below in (1 / 3, 0.8):
        assert twin_scores.gap_share(distances, below) == pytest.approx(sum(r < below for r in slow) / 40)
    assert 0 < twin_scores.gap_share(distances) < twin_scores.gap_share(distances, 0.8)


def test_copies_are_told_from_new_pictures_by_the_gap():
    training = make_images(10, 16)
    copies = training + 0.02 * torch.randn(training.shape, generator=torch.Generator().manual_seed(0))
    assert twin_scores.gap_share(twin_scores.euclidean(copies, training)) == 1
    assert twin_scores.gap_share(twin_scores.euclidean(make_images(10, 16, seed=9), training)) == 0


def test_an_exact_copy_of_an_image_that_is_there_twice_is_a_copy():
    assert twin_scores.gap_ratio(torch.tensor([[0.0, 0.0, 5.0], [2.0, 2.0, 5.0]])).tolist() == [0, 1]


def test_a_gap_needs_two_training_images():
    with pytest.raises(UserError, match="at least 2"):
        twin_scores.gap_ratio(torch.rand(5, 1))


# ------------------------------------------------------------------------------------------ C_T

def slow_z(a, b):
    u = sum((x > y) + 0.5 * (x == y) for x in a.tolist() for y in b.tolist())
    n, m = len(a), len(b)
    return (u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)


@pytest.mark.parametrize("places", [None, 1, 0])
@pytest.mark.parametrize("shift", [-1.0, 0.0, 0.7])
def test_mann_whitney_is_the_slow_count_ties_or_not(places, shift):
    a, b = numbers(37, 1, places) + shift, numbers(23, 2, places)
    assert twin_scores.mann_whitney_z(a, b) == pytest.approx(slow_z(a, b))
    assert twin_scores.mann_whitney_z(b, a) == pytest.approx(-slow_z(a, b))


def test_mann_whitney_of_the_same_kind_is_a_standard_normal():
    z = torch.tensor([twin_scores.mann_whitney_z(numbers(30, 2 * s), numbers(50, 2 * s + 1)) for s in range(400)])
    assert z.mean().abs() < 0.2 and z.std().item() == pytest.approx(1, abs=0.12)
    assert twin_scores.mann_whitney_z(torch.ones(9), torch.ones(4)) == 0


@pytest.mark.parametrize("least", [1, 5, 12])
def test_the_copying_test_is_the_slow_one(least):
    samples, real = (torch.rand(n, 4, generator=torch.Generator().manual_seed(n)).double() for n in (60, 90))
    total = weight = 0
    for k in range(4):
        a, b = ([row for row in rows.tolist() if row.index(min(row)) == k] for rows in (samples, real))
        if len(a) >= least and len(b) >= least:
            total += len(b) / 90 * slow_z(torch.tensor([row[k] for row in a]), torch.tensor([row[k] for row in b]))
            weight += len(b) / 90
    assert twin_scores.copying_test(samples, real, least) == pytest.approx(total / weight, abs=1e-5)


def test_copying_is_negative_and_underfitting_positive():
    training = make_images(4, 8)
    generator = torch.Generator().manual_seed(3)

    def around(distance, n):
        noise = torch.randn(n, 3, 8, 8, generator=generator)
        return twin_scores.euclidean(training.repeat(n // 4, 1, 1, 1) + distance * noise, training)
    real = around(0.2, 160)
    assert twin_scores.copying_test(around(0.05, 160), real) < -3
    assert twin_scores.copying_test(around(0.5, 160), real) > 3
    assert abs(twin_scores.copying_test(around(0.2, 160), real)) < 3


def test_cells_too_empty_to_judge():
    with pytest.raises(UserError, match="no training image has 20 of the 10 samples") as caught:
        twin_scores.copying_test(torch.rand(10, 3), torch.rand(100, 3))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="0 and 5 distances"):
        twin_scores.mann_whitney_z(torch.zeros(0), torch.zeros(5))
