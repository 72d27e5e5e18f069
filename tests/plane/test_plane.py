"""The plane: points instead of images, the same formulas; a slow reference for each, and runs that repeat bit for bit."""

import copy
import math

import pytest
import torch

from dslib.env import UserError
from dslib.plane import plane, plots_plane, widgets_plane
from dslib.show import plots


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.fixture
def source():
    return plane.new_denoiser(16, seed=1)


@pytest.fixture
def batch():
    return plane.batches(plane.ring(10, 2.0, 0), 1, 3, plane.ring(30, 1.0, 2), size=6)[0]


def test_a_ring_lies_on_its_radius_and_its_arc():
    x = plane.ring(400, 2.0, seed=3, arc=90)
    torch.testing.assert_close(x.norm(dim=1), torch.full((400,), 2.0))
    assert plane.degrees(x).min() >= 0 and plane.degrees(x).max() <= 90 and plane.degrees(x).max() > 80
    assert torch.equal(x, plane.ring(400, 2.0, seed=3, arc=90)) and not torch.equal(x, plane.ring(400, 2.0, seed=4, arc=90))


@pytest.mark.parametrize("n, arc", [(0, 360), (5, 0), (5, -10), (5, 361), (5, float("nan"))])
def test_an_impossible_ring_is_refused(n, arc):
    with pytest.raises(UserError, match="use at least"):
        plane.ring(n, arc=arc)


def test_the_turn_is_the_angle_whose_cosine_is_meant():
    x, y = torch.randn(50, 2, generator=plane.generator(0)), torch.randn(50, 2, generator=plane.generator(1))
    for a, b, found in zip(x, y, plane.turn(x, y)):
        cosine = float(a @ b / a.norm() / b.norm())
        assert float(found) == pytest.approx(math.degrees(math.acos(max(-1, min(1, cosine)))), abs=0.1)
    assert float(plane.turn(torch.tensor([1.0, 0.0]), torch.tensor([0.0, -3.0]))) == pytest.approx(90)
    assert float(plane.turn(torch.tensor([1.0, 0.0]), torch.tensor([-2.0, 0.0]))) == pytest.approx(180)


def test_no_dice_but_its_own():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    source = plane.new_denoiser(8)
    list(plane.train_source(source, 2, 8))
    drawn = plane.batches(plane.ring(10), 2, 0, plane.ring(10))
    plane.sample(plane.adapted(source, drawn, 0.3), plane.start_noise(4), steps=3)
    assert torch.equal(torch.rand(3), expected)


def test_the_guess_undoes_the_noise(batch):
    class Knows(torch.nn.Module):
        def forward(self, x_t, t):
            return batch.eps
    for i, t in enumerate(batch.t.tolist()):
        a = float(plane.A_BAR[t])
        x_t = math.sqrt(a) * batch.x_0[i] + math.sqrt(1 - a) * batch.eps[i]
        guess = (x_t - math.sqrt(1 - a) * batch.eps[i]) / math.sqrt(a)
        torch.testing.assert_close(guess, batch.x_0[i], atol=1e-3, rtol=1e-3)
    a = plane.A_BAR[batch.t][:, None]
    x_t = a.sqrt() * batch.x_0 + (1 - a).sqrt() * batch.eps
    torch.testing.assert_close(plane.guess(Knows(), x_t, batch.t), batch.x_0, atol=1e-3, rtol=1e-3)


def test_img_loss_against_loops(source, batch):
    model = plane.new_denoiser(16, seed=2)

    def guesses(network):
        found = []
        for y, s, eta in zip(batch.y_0, batch.s, batch.eta):
            a = plane.A_BAR[s]
            y_s = a.sqrt() * y + (1 - a).sqrt() * eta
            found.append((y_s - (1 - a).sqrt() * network(y_s[None], s[None])[0]) / a.sqrt())
        return found

    def attention(x, i):
        return torch.softmax(torch.stack([x[i] @ x[j] / x[i].norm() / x[j].norm() for j in range(len(x)) if j != i]), 0)
    after, before = guesses(model), guesses(source)
    loops = sum((attention(after, i) * (attention(after, i) / attention(before, i)).log()).sum() for i in range(6))
    torch.testing.assert_close(plane.img_loss(model, source, batch), loops, rtol=1e-3, atol=1e-5)
    assert plane.img_loss(source, source, batch).item() == pytest.approx(0, abs=1e-6)


def test_simple_loss_against_loops(source, batch):
    total = 0.0
    for x, t, eps in zip(batch.x_0, batch.t, batch.eps):
        a = plane.A_BAR[t]
        total += float((source((a.sqrt() * x + (1 - a).sqrt() * eps)[None], t[None])[0] - eps).square().sum())
    assert float(plane.simple_loss(source, batch)) == pytest.approx(total / 12, rel=1e-4)


def test_each_term_changes_the_gradient(source, batch):
    """One step of Adam, from another start than the source: naive, held, anchored and not softened all end elsewhere."""
    start = plane.new_denoiser(16, seed=2)
    drawn = [batch] * 2
    ten_only = [plane.Batch(*batch[:3], *batch[:3])] * 2
    ends = []
    for batches, weight, soft in ((drawn, 0.0, True), (drawn, 0.5, True), (drawn, 0.5, False), (ten_only, 0.5, True)):
        model = copy.deepcopy(start)
        records = list(plane.finetune(model, source, batches, weight, weighted=soft))
        assert ("img" in records[0]) == bool(weight) and [r["step"] for r in records] == [1, 2]
        ends.append(weights(model))
    assert all(not torch.allclose(a, b, atol=1e-5) for i, a in enumerate(ends) for b in ends[:i])


def test_adapting_repeats_bit_for_bit_and_leaves_the_source(source):
    before, drawn = weights(source).clone(), plane.batches(plane.ring(10, 2.0, 0), 3, 0)
    first, second = plane.adapted(source, drawn, 0.3), plane.adapted(source, drawn, 0.3)
    assert torch.equal(weights(first), weights(second)) and torch.equal(weights(source), before)
    assert not torch.equal(weights(first), before)
    assert torch.equal(weights(plane.adapted(source, [], 0.3)), before)


@pytest.mark.parametrize("weight", [-0.1, float("nan"), float("inf")])
def test_an_impossible_weight_is_refused(source, weight):
    with pytest.raises(UserError, match="lambda_img"):
        plane.adapted(source, plane.batches(plane.ring(10), 1), weight)


def test_the_draws_of_the_ten_are_the_same_with_anchors():
    ten = plane.ring(10, 2.0, 0)
    plain, held = plane.batches(ten, 4, 5), plane.batches(ten, 4, 5, plane.ring(50, 1.0, 1))
    for a, b in zip(plain, held):
        assert all(torch.equal(x, y) for x, y in zip(a[:3], b[:3]))
        assert torch.equal(a.y_0, a.x_0) and torch.equal(a.s, a.t) and torch.equal(a.eta, a.eps)
        torch.testing.assert_close(b.y_0.norm(dim=1), torch.ones(30))
    times = torch.stack([(torch.cat([b.x_0 for b in plain]) == x).all(1).sum() for x in ten])
    assert times.tolist() == [12] * 10


def test_training_the_source_lowers_the_loss():
    model = plane.new_denoiser(32)
    seen = [r["simple"] for r in plane.train_source(model, 150, 128)]
    assert sum(seen[-20:]) < 0.6 * sum(seen[:20])


def test_a_perfect_network_samples_its_only_point():
    """DDIM with the exact noise of one point ends on it, whatever it starts from; the source takes over above t."""
    class Only(torch.nn.Module):
        def __init__(self, point):
            super().__init__()
            self.point = torch.tensor(point)

        def forward(self, x_t, t):
            a = plane.A_BAR[t][:, None]
            return (x_t - a.sqrt() * self.point) / (1 - a).sqrt()
    one, two, noise = Only([2.0, 0.0]), Only([0.0, 1.0]), plane.start_noise(5)
    torch.testing.assert_close(plane.sample(one, noise), torch.tensor([[2.0, 0.0]]).expand(5, 2), atol=1e-2, rtol=0)
    for until, want in ((1000, [2.0, 0.0]), (-1, [0.0, 1.0])):
        torch.testing.assert_close(plane.sample(one, noise, source=two, until=until), torch.tensor([want]).expand(5, 2), atol=1e-2, rtol=0)
    times = [t for t, _ in plane.chain(one, noise, steps=7)]
    assert times[0] == 999 and times[-1] == -1 and len(times) == 8
    with pytest.raises(UserError, match="sampling steps"):
        plane.sample(one, noise, steps=0)


def test_scores_of_known_points():
    ten = plane.ring(10, 2.0, 0)
    found = plane.scores(ten, ten, ten / 2)
    assert found["copies"] == 1 and found["on_ring"] == 1 and found["turned"] == pytest.approx(0, abs=0.1)
    assert plane.scores(ten / 2, ten, -ten)["on_ring"] == 0 and plane.scores(ten / 2, ten, -ten)["turned"] == pytest.approx(180, abs=0.1)
    fresh, others = plane.ring(4000, 2.0, 11), plane.ring(4000, 1.0, 12)
    found = plane.scores(fresh, ten, others)
    assert found["copies"] == pytest.approx(plane.chance(ten), abs=0.03) and found["turned"] == pytest.approx(90, abs=3)
    assert plane.chance(plane.ring(1)) == pytest.approx(6 / 360, abs=0.001)


# ---------------------------------------------------------------------- figures and the explorer


def test_figures_show_what_they_are_given(source):
    twins, ten = plane.ring(30), plane.ring(10, 2.0)
    figure = plots_plane.clouds({"a": twins, "b": 2 * twins}, twins, "title", ten)
    assert figure.get_suptitle() == "title" and [axis.get_title() for axis in figure.axes] == ["a", "b"]
    assert plots.to_png(figure) != plots.to_png(plots_plane.clouds({"a": twins, "b": 2 * twins}, twins.flip(0), "title", ten))
    walk = [x for _, x in plane.chain(source, plane.start_noise(3), steps=4)]
    assert len(plots_plane.paths({"a": walk}, "title").axes[0].lines) == 3 + 2      # two circles
    assert plots.to_png(plots_plane.field({"a": (twins, ten.repeat(3, 1))}, "title"))
    cosines = plane.ring(5) @ plane.ring(5).T
    figure = plots_plane.matrices({"source": cosines, "same": cosines}, "title")
    assert figure.axes[3].get_title() == "mean |change| 0.00"
    assert [axis.images[0].get_clim() for axis in (figure.axes[0], figure.axes[3])] == [(-1, 1), (-2, 2)]     # a change may be 2
    shaded = [plots_plane.clouds({"a": twins}, twins, "title", ten, arc=arc).axes[0].patches for arc in (360, 180)]
    assert not shaded[0] and (shaded[1][0].theta1, shaded[1][0].theta2) == (0, 180)


def test_the_frontier_draws_every_setting_with_its_spread():
    """Labels stand beside a line's first and last setting."""
    lines = {"naive": {"1 step": [
        {"on_ring": 0.5, "copies": 0.2, "turned": 9}, {"on_ring": 0.7, "copies": 0.4, "turned": 11}]}, "DomainStudio":
             {"λ = 1": [{"on_ring": 0.6, "copies": 0.1, "turned": 3}], "λ = 2": [{"on_ring": 0.5, "copies": 0.1, "turned": 3}] * 2,
              "λ = 3": [{"on_ring": 0.4, "copies": 0.1, "turned": 3}]}}
    axis, other = plots_plane.frontier(lines, 0.15, "title").axes
    assert other.lines[0].get_ydata().tolist() == pytest.approx([10])
    told = {text.get_text().strip() for text in axis.texts}
    assert {"1 step", "λ = 1", "λ = 3"} <= told and "λ = 2" not in told
    assert axis.lines[0].get_xdata().tolist() == pytest.approx([60]) and axis.lines[0].get_ydata().tolist() == pytest.approx([30])


@pytest.mark.parametrize("values", [
    {}, {"method": "naive"}, {"method": "anchored", "until": 0}, {"steps": 0}, {"shots": 1}, {"arc": 10}, {"lambda_img": 0.0},
    {"lambda_img": 3.0, "shots": 50}, {"until": 0},
])
def test_the_explorer_answers_at_the_ends_of_its_sliders(source, values):
    redraw = widgets_plane.explorer(source, plane.start_noise(20), plane.ring(20))
    at = {"method": "DomainStudio", "lambda_img": 0.3, "steps": 3, "shots": 10, "arc": 360, "until": 1000} | values
    figure, alt = redraw(**at)
    assert len(figure.axes) == 2 and "copies" in alt and figure.get_suptitle() in alt


def test_the_explorer_shows_a_static_figure_first_and_trains_a_setting_once(source, monkeypatch):
    seen, runs = [], []
    monkeypatch.setattr(plots, "show", lambda figure, alt, **_: seen.append(alt))
    monkeypatch.setattr(plane, "adapted", lambda model, *rest: runs.append(rest) or model)
    widgets_plane.explore_plane(source, plane.start_noise(10), plane.ring(10), steps=2)
    assert len(seen) == 1 and "10 points on 360°" in seen[0]
    redraw = widgets_plane.explorer(source, plane.start_noise(10), plane.ring(10))
    for until in (1000, 500):
        redraw("naive", 0.3 if until == 500 else 1.0, 2, 10, 360, until)
    assert len(runs) == 2                                  # one above, one here: neither until nor a λ that is not used trains
