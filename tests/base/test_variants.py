"""What the ablations compare instead of pixels and Haar detail, and the options that choose it."""

import pytest
import pywt
import torch
from conftest import make_images

from dslib import domainstudio, haar, losses
from dslib.base import variants
from dslib.env import UserError
from dslib.train import TrainConfig


@pytest.fixture
def x():
    return make_images(5, 32)


def test_the_paper_s_choices_are_pixels_and_haar(x):
    assert torch.equal(variants.space(x), x)
    assert torch.equal(variants.detail(x, "haar", haar), haar.high_frequency(x))
    assert torch.equal(variants.detail(x, "pixels", haar), x)


def test_stacked_bands_are_the_three_side_by_side(x):
    stacked = variants.detail(x, "stacked", haar)
    assert stacked.shape == (5, 9, 16, 16)
    torch.testing.assert_close(sum(stacked.split(3, dim=1)), haar.high_frequency(x))


def test_level_two_is_detail_of_the_half_size_picture(x):
    half = torch.nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(variants.detail(x, "haar_level_2", haar), haar.high_frequency(half))


@pytest.mark.parametrize("wavelet", ["haar", "db2", "db3"])
def test_any_wavelet_against_pywavelets(x, wavelet):
    """Our names and signs: LH = −cV, HL = −cH, HH = cD."""
    _, (horizontal, vertical, diagonal) = pywt.dwt2(x.double().numpy(), wavelet, mode="periodization")
    torch.testing.assert_close(variants.wavelet_high_frequency(x.double(), wavelet), torch.from_numpy(diagonal - vertical - horizontal))


def test_haar_as_a_wavelet_is_the_course_s_haar(x):
    torch.testing.assert_close(variants.wavelet_high_frequency(x, "haar"), variants.detail(x, "haar", haar))
    assert not torch.allclose(variants.detail(x, "db2", haar), variants.detail(x, "haar", haar))


def test_centred_cosines_spread_where_all_images_share_a_background(x):
    alike = 3 + 0.1 * x
    plain, centred = (losses.drop_diagonal(losses.cosine_matrix(variants.space(alike, name))) for name in ("pixels", "centred"))
    assert plain.min() > 0.99 and centred.std() > 10 * plain.std()
    assert variants.space(alike, "centred").mean(0).abs().max() < 1e-5


def test_features_take_gradients_and_see_colour(x):
    x.requires_grad_(True)
    found = variants.space(x, "features")
    assert found.shape == (5, 1152) and found.mean(0).abs().max() < 1e-6
    losses.pairwise_kl(found, variants.space(make_images(5, 32, seed=8), "features")).backward()
    assert x.grad.abs().max() > 0


def test_temperature_against_a_softmax_of_scaled_cosines(x):
    cosines = losses.drop_diagonal(losses.cosine_matrix(x))
    torch.testing.assert_close(losses.pairwise_log_probs(x, 0.1), (10 * cosines).log_softmax(1))


def loss_and_gradient(tiny_source, images, **options):
    config = TrainConfig(lambda_hfmse=0.0, **options)
    schedule, betas = tiny_source.scheduler.alphas_cumprod, tiny_source.scheduler.betas
    t = torch.tensor([10, 400, 700, 900])
    eps = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    guess = torch.randn(images.shape, generator=torch.Generator().manual_seed(3)).requires_grad_(True)

    def net(x_t, t):
        return type("Out", (), {"sample": guess})
    _, terms = domainstudio.domainstudio_loss(net, tiny_source.unet, images, t, eps, schedule, betas, config)
    return terms["img"], torch.autograd.grad(terms["img"], guess)[0].flatten(1).norm(dim=1)


def test_pairwise_terms_pull_only_in_their_range_of_t(tiny_source):
    images = make_images(4, 16)
    full, pulls = loss_and_gradient(tiny_source, images)
    part, inside = loss_and_gradient(tiny_source, images, pairwise_t_min=400, pairwise_t_max=900)
    assert torch.equal(full, part)                       # the value is the same, the pull is not
    assert (pulls > 0).all()
    torch.testing.assert_close(inside, pulls * torch.tensor([0.0, 1.0, 1.0, 0.0]))


def test_each_choice_changes_the_term_that_it_names(tiny_source):
    images = make_images(4, 32)
    t, eps = torch.tensor([10, 400, 700, 900]), torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    guess = torch.randn(images.shape, generator=torch.Generator().manual_seed(3))

    def terms(**options):
        schedule, betas = tiny_source.scheduler.alphas_cumprod, tiny_source.scheduler.betas
        net = type("Net", (), {"sample": guess})
        config = TrainConfig(**options)
        return domainstudio.domainstudio_loss(lambda *_: net, tiny_source.unet, images, t, eps, schedule, betas, config)[1]

    plain = terms()
    for options, changed in (({"pairwise_space": "centred"}, {"img"}), ({"pairwise_space": "features"}, {"img"}),
                             ({"detail": "stacked"}, {"hf", "hfmse"}), ({"detail": "db2"}, {"hf", "hfmse"}),
                             ({"pairwise_temperature": 0.5}, {"img", "hf"}), ({"pairwise_direction": "sou||ada"}, {"img", "hf"})):
        other = terms(**options)
        assert {name for name in plain if not torch.equal(plain[name], other[name])} == changed, options


@pytest.mark.parametrize("bad, words", [({"pairwise_space": "words"}, "pixels, centred, features"), ({"detail": "db9"}, "haar_level_2"),
                                        ({"pairwise_temperature": 0.0}, "--pairwise_temperature"),
                                        ({"pairwise_t_min": 500, "pairwise_t_max": 500}, "--pairwise_t_max 500"),
                                        ({"pairwise_direction": "back"}, "ada||sou"), ({"bank_steps": -1}, "--bank_steps")])
def test_bad_choices_are_one_line(bad, words):
    with pytest.raises(UserError) as error:
        TrainConfig(**bad).check()
    assert words in str(error.value) and "\n" not in str(error.value)


