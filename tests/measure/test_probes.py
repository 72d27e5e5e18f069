"""The factor probe reads what was drawn, and the spread of values is what counting gives."""

import math

import pytest
import torch

from dslib import data
from dslib.base import avatars, drawing
from dslib.env import UserError
from dslib.measure import probes


def test_absent_parts_have_a_value_of_their_own():
    labels = [{"hat": "cap"}, {}, {"hat": "hijab", "skin": "a"}]
    assert probes.values(labels, "hat") == ["cap", "none", "hijab"]


def test_rare_values_share_a_class():
    found = ["a"] * 60 + ["b"] * 38 + ["c", "d"]
    classes = probes.common_values(found)
    assert classes == ["a", "b", "other"]
    assert probes.as_index(["b", "d", "a", "unseen"], classes).tolist() == [1, 2, 0, 2]
    assert probes.common_values(["a", "b"]) == ["a", "b"]
    assert probes.as_index(["b", "unseen"], ["a", "b"]).tolist() == [1, 2], "no answer of a probe is right about it"


def test_spread_is_what_counting_gives():
    real = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)
    even = probes.spread(real, real, 4)
    assert even.entropy == pytest.approx(-(0.5 * math.log2(0.5) + 0.3 * math.log2(0.3) + 0.2 * math.log2(0.2)))
    assert (even.coverage, even.distance) == (1, 0)
    collapsed = probes.spread(torch.zeros(7, dtype=torch.long), real, 4)
    assert collapsed.entropy == 0 and collapsed.coverage == pytest.approx(0.5) and collapsed.distance == pytest.approx(0.5)
    elsewhere = probes.spread(torch.full((7,), 3), real, 4)
    assert (elsewhere.coverage, elsewhere.distance) == (0, 1)


def test_no_images_is_said():
    with pytest.raises(UserError, match="0 samples"):
        probes.spread(torch.tensor([], dtype=torch.long), torch.tensor([0]), 2)


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("DSLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(drawing, "BLOCK", 60)
    for cached in (probes.factor_probe, probes.domain_probe):
        cached.cache_clear()
    yield
    for cached in (probes.factor_probe, probes.domain_probe):
        cached.cache_clear()


def test_the_probe_reads_the_background_of_fresh_faces(small):
    probe = probes.factor_probe("sketches", 32, n=120, trust=0.7)
    assert "backgroundColor" in probe.classes
    pixels, labels = avatars.draw_block(("sketches", "check", 0, 20, 32))
    images = data.to_float(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    truth = probes.as_index(probes.values(labels, "backgroundColor"), probe.classes["backgroundColor"])
    assert (probe.read(images)["backgroundColor"] == truth).float().mean() > 0.6
    assert all(0.7 <= a <= 1 for a in probe.accuracy.values()) and set(probe.accuracy) == set(probe.classes)


def test_a_probe_that_can_read_nothing_says_so(small):
    with pytest.raises(UserError, match="no factor of sketches"):
        probes.factor_probe("sketches", 32, n=12, trust=1.01)


def test_the_domain_probe_tells_a_domain_from_the_source(small):
    probe = probes.domain_probe("sketches", 32, n=30)

    def fresh(domain):
        pixels, _ = avatars.draw_block((domain, "check", 0, 12, 32))
        return data.to_float(torch.from_numpy(pixels).permute(0, 3, 1, 2))

    assert probe(fresh("sketches")).float().mean() > 0.8
    assert probe(fresh("avataaars")).float().mean() < 0.2


def test_a_ridge_fit_is_the_textbook_one():
    """Against the normal equations, one answer and several at once."""
    generator = torch.Generator().manual_seed(0)
    x, y, new = (torch.randn(*size, generator=generator).double() for size in ((12, 20), (12, 3), (5, 20)))
    mean, scale = x.mean(0), x.std(0) + 1e-6
    z, fresh = (x - mean) / scale, (new - mean) / scale
    weights = torch.linalg.inv(z.T @ z + 0.1 * 20 * torch.eye(20).double()) @ z.T @ y
    assert torch.allclose(probes.ridge_fit(x, y)(new), fresh @ weights)
    assert torch.allclose(probes.ridge_fit(x, y[:, 0])(new), fresh @ weights[:, 0])
