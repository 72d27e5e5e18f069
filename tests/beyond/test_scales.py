"""Levels of detail against PyWavelets, and against noise that is really drawn."""

import pytest
import pywt
import torch
from conftest import make_images

from dslib import haar, models
from dslib.base.errors import UserError
from dslib.beyond import scales


@pytest.fixture(scope="module")
def images():
    return make_images(3, 32)


def bands_of(image, level):
    """The three bands of a level by PyWavelets, one picture and channel at a time."""
    return [pywt.wavedec2(channel.numpy(), "haar", level=level)[1] for channel in image]


@pytest.mark.parametrize("level", [1, 2, 3])
def test_energy_and_share_are_pywavelets(images, level):
    found, shares = scales.energy(images, level), scales.shares(images, 3)
    for i, image in enumerate(images):
        squares = torch.stack([torch.tensor(band).square() for bands in bands_of(image, level) for band in bands])
        assert found[i] == pytest.approx(float(squares.mean()), rel=1e-5)
        about_mean = (image - image.mean((1, 2), keepdim=True)).square().sum()
        assert shares[i, level - 1] == pytest.approx(float(squares.sum() / about_mean), rel=1e-5)
    torch.testing.assert_close(shares.sum(1), torch.ones(3))


def test_level_one_is_the_papers_and_level_two_that_of_the_smaller_picture(images):
    assert torch.equal(scales.detail(images, 1), haar.high_frequency(images))
    smaller = torch.nn.functional.avg_pool2d(images, 2)
    torch.testing.assert_close(scales.detail(images, 2), 2 * haar.high_frequency(smaller))


def test_strokes_move_a_level_deeper_when_the_picture_is_twice_as_large(images):
    """A picture of doubled pixels has nothing at level 1, and at level 2 what it had at level 1."""
    doubled = images.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert float(scales.energy(doubled, 1).max()) < 1e-12
    torch.testing.assert_close(scales.energy(doubled, 2), 4 * scales.energy(images, 1))
    torch.testing.assert_close(scales.shares(doubled, 2)[:, 1], scales.shares(images, 1)[:, 0])


def test_what_survives_is_the_correlation_with_noise_that_was_drawn():
    generator, a_bar = torch.Generator().manual_seed(0), models.new_scheduler().alphas_cumprod
    x = 0.3 * torch.randn(1, 3, 128, 128, generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    for t in (20, 100, 400):
        x_t = a_bar[t].sqrt() * x + (1 - a_bar[t]).sqrt() * noise
        pair = torch.stack([scales.detail(x_t).flatten(), scales.detail(x).flatten()])
        assert scales.survives(scales.energy(x), a_bar)[0, t] == pytest.approx(float(torch.corrcoef(pair)[0, 1]), abs=0.02)


def test_detail_drowns_where_the_noise_is_first_stronger():
    a_bar, energy = models.new_scheduler().alphas_cumprod, torch.tensor([0.0, 0.01, 1.0, 1e9])
    first = [next((t for t in range(1000) if float(a_bar[t]) * e < 1 - float(a_bar[t])), 1000) for e in energy.tolist()]
    assert scales.drowned_at(energy, a_bar).tolist() == first and first[0] == 0 and first[3] == 1000


def test_a_level_below_one_and_a_side_that_cannot_be_halved_are_told(images):
    with pytest.raises(UserError, match="the first is 1"):
        scales.detail(images, 0)
    with pytest.raises(UserError, match="even height"):
        scales.detail(images[..., :6, :6], 2)
