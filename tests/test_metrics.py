"""The metrics against the packages they come from, against loops and against closed forms."""

import itertools
import math

import pytest
import torch
from conftest import make_images

from dslib import metrics
from dslib.env import UserError
from dslib.measure import probes


@pytest.fixture
def images():
    return make_images(8, 32)


@pytest.fixture
def plain_lpips(monkeypatch):
    """The lpips package's AlexNet with random weights in place of those that would have to be fetched."""
    import lpips
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval().requires_grad_(False)
    monkeypatch.setattr(metrics, "load_backbone", lambda backbone, where="cpu": net)
    return net


def distances(net, x, y):
    """Pair by pair through the package's own forward pass."""
    with torch.no_grad():
        return torch.stack([torch.stack([net(a[None], b[None]).squeeze() for b in y]) for a in x])


# ------------------------------------------------------------------------------------------ LPIPS

def test_st_lpips_is_the_packages_own(images):
    x, y = images[:4], images[3:]
    ours = metrics.lpips_matrix(x, y, "st-alex")
    assert ours.shape == (4, 5)
    torch.testing.assert_close(ours, distances(metrics.load_backbone("st-alex"), x, y), atol=1e-5, rtol=1e-4)
    assert ours[3, 0] == pytest.approx(0, abs=1e-5) and ours[:3].min() > 1e-3


def test_lpips_is_the_packages_own(images, plain_lpips):
    x, y = images[:3], images[3:]
    torch.testing.assert_close(metrics.lpips_matrix(x, y, "alex"), distances(plain_lpips, x, y), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("resolution", [32, 48])
def test_the_matrix_is_symmetric_with_a_zero_diagonal(resolution):
    images = make_images(5, resolution)
    matrix = metrics.lpips_matrix(images)
    torch.testing.assert_close(matrix, matrix.T)
    assert (matrix.diagonal() == 0).all()
    assert (matrix + torch.eye(5)).min() > 1e-3
    torch.testing.assert_close(matrix, metrics.lpips_matrix(images, images), atol=1e-5, rtol=0)


@pytest.mark.parametrize("backbone", ["st-alex", pytest.param("st-vgg", marks=pytest.mark.slow)])
def test_two_hundred_random_pairs_are_the_packages_own(backbone):
    x = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x[20:] = (x[:20] + 0.1 * x[20:]).clamp(-1, 1)                       # half of the pairs are near twins
    i, j = torch.randint(40, (2, 200), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        package = metrics.load_backbone(backbone)(x[i], x[j]).flatten()
    torch.testing.assert_close(metrics.lpips_matrix(x, backbone=backbone)[i, j], package, atol=1e-5, rtol=0)


@pytest.mark.parametrize("memory", [40_000, 400_000])
def test_slices_of_the_features_add_up_to_the_same_distances(images, memory, monkeypatch):
    whole, across = metrics.lpips_matrix(images[:3]), metrics.lpips_matrix(images[:3], images[3:5])
    monkeypatch.setattr(metrics, "MEMORY", memory)
    torch.testing.assert_close(metrics.lpips_matrix(images[:3]), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(metrics.lpips_matrix(images[:3], images[3:5]), across, atol=1e-6, rtol=0)


def test_a_part_of_the_features_is_that_part(images):
    whole = metrics.lpips_features(images[:2])
    torch.testing.assert_close(metrics.lpips_features(images[:2], part=slice(700, 900)), whole[:, 700:900])


def test_features_do_not_depend_on_the_batch_size(images):
    for a, b in zip(metrics.lpips_features(images, batch_size=3), metrics.lpips_features(images, batch_size=50)):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("backbone", ["resnet", "st-resnet", ""])
def test_an_unknown_backbone_is_refused_with_the_known_ones(images, backbone):
    with pytest.raises(UserError, match=f"'{backbone}'.*st-alex, st-vgg, alex, vgg"):
        metrics.lpips_matrix(images, backbone=backbone)


def test_a_backbone_that_must_be_fetched_says_so_without_network(images, monkeypatch):
    from urllib.error import URLError

    def offline(**options):
        raise URLError("Temporary failure in name resolution")

    monkeypatch.setattr("lpips.LPIPS", offline)
    with pytest.raises(UserError, match="'vgg'.*could not be downloaded.*st-vgg"):
        metrics.lpips_matrix(images, backbone="vgg")


def test_images_too_small_for_the_network_are_refused():
    with pytest.raises(UserError, match="16"):
        metrics.lpips_matrix(make_images(2, 16))


# ------------------------------------------------------------------------------------------ Intra-LPIPS

def slow_intra_lpips(samples, targets, distance):
    """Assign, then average over pairs i < j with plain loops."""
    clusters = [[] for _ in targets]
    for sample in samples:
        near = [distance(sample, target) for target in targets]
        clusters[near.index(min(near))].append(sample)
    means = []
    for cluster in clusters:
        pairs = [distance(cluster[i], cluster[j]) for i in range(len(cluster)) for j in range(i)]
        means.append(sum(pairs) / len(pairs) if pairs else math.nan)
    return means, [len(c) for c in clusters]


def test_intra_lpips_against_loops():
    targets = make_images(4, 32, seed=1)
    generator = torch.Generator().manual_seed(0)
    samples = targets[[0, 0, 0, 2, 2, 3, 0]]
    samples = (samples + 0.15 * torch.randn(samples.shape, generator=generator)).clamp(-1, 1)
    net = metrics.load_backbone("st-alex")
    expected, sizes = slow_intra_lpips(samples, targets, lambda a, b: net(a[None], b[None]).item())
    result = metrics.intra_lpips(samples, targets)
    assert result.sizes == sizes == [4, 0, 2, 1]
    assert result.per_cluster == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert [math.isnan(v) for v in result.per_cluster] == [False, True, False, True]
    assert result.mean == pytest.approx((expected[0] + expected[2]) / 2, abs=1e-5)
    assert result.std == pytest.approx(abs(expected[0] - expected[2]) / 2, abs=1e-5)


def test_at_most_so_many_members_of_a_cluster():
    to_targets = torch.tensor([[0.1, 0.9]] * 6 + [[0.9, 0.1]] * 2)
    upper = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)).triu(1)
    within = upper + upper.T
    everyone, few = metrics.intra_from_distances(to_targets, within), metrics.intra_from_distances(to_targets, within, most=3)
    assert everyone.sizes == few.sizes == [6, 2]
    assert everyone.per_cluster[1] == few.per_cluster[1] == pytest.approx(float(within[6, 7]))
    triples = [float(within[list(c)][:, list(c)].sum() / 6) for c in itertools.combinations(range(6), 3)]
    assert any(few.per_cluster[0] == pytest.approx(v) for v in triples)
    others = {round(metrics.intra_from_distances(to_targets, within, 3, seed).per_cluster[0], 6) for seed in range(8)}
    assert len(others) > 1, "another seed picks other members"
    assert metrics.intra_from_distances(to_targets, within, most=6).mean == pytest.approx(everyone.mean)


def test_one_member_of_a_cluster_is_refused(images):
    with pytest.raises(UserError, match="most is 1"):
        metrics.intra_lpips(images, images[:2], most=1)


def test_copies_of_one_image_have_no_diversity(images):
    result = metrics.intra_lpips(images[[0, 0, 0]], images[:2])
    assert result.mean == pytest.approx(0, abs=1e-5) and result.sizes == [3, 0]


@pytest.mark.parametrize("n", [0, 1])
def test_intra_lpips_needs_two_samples(images, n):
    with pytest.raises(UserError, match=f"{n} given"):
        metrics.intra_lpips(images[:n], images)


def test_intra_lpips_needs_one_cluster_of_two(images):
    with pytest.raises(UserError, match="3 samples.*draw more"):
        metrics.intra_lpips(images[:3], images)


def test_nearest_lpips_is_zero_for_copies_alone(images):
    targets, fresh = images[:5], images[5:]
    nearest = metrics.nearest_lpips(torch.cat([targets.flip(0), fresh]), targets)
    assert nearest[:5].max() < 1e-5
    torch.testing.assert_close(nearest[5:], distances(metrics.load_backbone("st-alex"), fresh, targets).min(1).values,
                               atol=1e-5, rtol=1e-4)


# ------------------------------------------------------------------------------------------ Fréchet distance

def gaussian(n, mean, std, seed):
    return torch.randn(n, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * std + mean


def test_frechet_distance_of_equal_sets_is_zero():
    features = gaussian(50, torch.zeros(6), torch.ones(6), 0)
    assert metrics.frechet_distance(features, features) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_a_shift_is_its_square():
    features = gaussian(50, torch.zeros(3), torch.ones(3), 0)
    shift = torch.tensor([1.0, -2.0, 0.5])
    assert metrics.frechet_distance(features, features + shift) == pytest.approx(5.25, rel=1e-5)


def test_frechet_distance_of_gaussians_is_the_closed_form():
    mean_a, std_a = torch.tensor([0.0, 1.0, -1.0]), torch.tensor([1.0, 2.0, 0.5])
    mean_b, std_b = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([1.5, 1.0, 0.5])
    closed = ((mean_a - mean_b).square().sum() + (std_a - std_b).square().sum()).item()
    a, b = gaussian(40_000, mean_a, std_a, 1), gaussian(40_000, mean_b, std_b, 2)
    assert metrics.frechet_distance(a, b) == pytest.approx(closed, rel=0.02)
    assert metrics.frechet_distance(a, b) == pytest.approx(metrics.frechet_distance(b, a), rel=1e-6)


@pytest.mark.parametrize("n, m", [(2, 2), (7, 30), (60, 50)])
def test_the_quick_frechet_distance_is_the_same_number(n, m):
    mean, std = torch.linspace(-1, 1, 40), torch.linspace(0.1, 2, 40)
    a, b = gaussian(n, mean, std, 8), gaussian(m, mean.flip(0), std, 9)
    assert metrics.quick_frechet_distance(a, b) == pytest.approx(metrics.frechet_distance(a, b), rel=1e-4)
    assert metrics.quick_frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_against_the_formula():
    a, b = gaussian(7, torch.zeros(5), torch.ones(5), 3), gaussian(7, torch.full((5,), 0.4), torch.ones(5), 4)

    def kernel(x, y):
        return float(((x @ y) / 5 + 1) ** 3)

    n = len(a)
    within = sum(kernel(s[i], s[j]) for s in (a, b) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = sum(kernel(x, y) for x in a for y in b) / n**2
    assert metrics.kernel_distance(a, b) == pytest.approx(within - 2 * across, rel=1e-6)


def test_kernel_distance_is_unbiased_where_frechet_is_not():
    few = [[gaussian(n, torch.zeros(4), torch.ones(4), seed) for seed in range(40)] for n in (10, 80)]
    kernel = [sum(metrics.kernel_distance(a, b) for a, b in zip(s[::2], s[1::2])) / 20 for s in few]
    frechet = [sum(metrics.frechet_distance(a, b) for a, b in zip(s[::2], s[1::2])) / 20 for s in few]
    assert frechet[0] > 4 * frechet[1] > 0 and abs(kernel[0]) < 0.3 * frechet[0]


def test_precision_and_recall_against_loops():
    real = gaussian(20, torch.zeros(2), torch.ones(2), 5)
    narrow = 0.2 * gaussian(15, torch.zeros(2), torch.ones(2), 6)        # inside the real cloud, but it covers little of it

    def covered(points, cloud, k=3):
        radius = [sorted(float((c - d).norm()) for d in cloud)[k] for c in cloud]
        return sum(any(float((p - c).norm()) <= r for c, r in zip(cloud, radius)) for p in points) / len(points)

    precision, recall = metrics.precision_recall(narrow, real)
    assert (precision, recall) == pytest.approx((covered(narrow, real), covered(real, narrow)))
    assert precision > 0.9 > 0.5 > recall


def test_precision_and_recall_need_more_than_three():
    with pytest.raises(UserError, match="3 neighbours"):
        metrics.precision_recall(gaussian(3, torch.zeros(2), torch.ones(2), 0), gaussian(9, torch.zeros(2), torch.ones(2), 1))


def test_half_sample_error_is_the_standard_error_of_a_mean():
    values = gaussian(400, torch.zeros(1), torch.ones(1), 7).flatten()
    error = metrics.half_sample_error(lambda i: values[i].mean(), len(values), repeats=600)
    assert error == pytest.approx(float(values.std()) / 20, rel=0.1)


def test_frechet_ratio_is_one_for_more_of_the_same():
    real = make_images(12, 32)
    assert metrics.frechet_ratio(real[6:], real) == pytest.approx(1, rel=1e-6)
    assert metrics.frechet_ratio(-real[6:].abs(), real) > 1


def test_pooled_features_are_means_over_space(images):
    features = metrics.pooled_features(images)
    net = metrics.load_backbone("st-alex")
    with torch.no_grad():
        layers = net.net.forward(net.scaling_layer(images))
    assert features.shape == (8, 64 + 192 + 384 + 256 + 256) and features.dtype == torch.float64
    torch.testing.assert_close(features[:, -256:], layers[-1].double().mean((2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features[:, :64], layers[0].double().mean((2, 3)), atol=1e-5, rtol=1e-4)
    on_a_map = torch.nn.functional.adaptive_avg_pool2d(layers[0], 8).flatten(1).double()
    torch.testing.assert_close(probes.probe_features(images), on_a_map, atol=1e-5, rtol=1e-4)
    assert on_a_map.shape == (8, 64 * 64)


# ------------------------------------------------------------------------------------------ beside real images

@pytest.mark.parametrize("value, arrow, place", [(0.3, 1, 0), (0.4, 1, 1), (0.2, 1, -1), (0.4, -1, -1), (0.6, 1, 3), (0.6, -1, -3)])
def test_a_score_by_the_yardstick_of_real_images(value, arrow, place):
    assert metrics.against_real(value, 0.2, 0.4, arrow) == pytest.approx(place)


def test_real_images_that_all_score_alike():
    assert metrics.against_real(1.0, 1.0, 1.0) == 0 and metrics.against_real(0.9, 1.0, 1.0) < -1e6
