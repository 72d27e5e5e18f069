"""The Haar transform against PyWavelets, against an obvious loop, and against itself."""

import numpy as np
import pytest
import pywt
import torch

from dslib import haar
from dslib.env import UserError

L, H = np.array([1.0, 1.0]) / np.sqrt(2), np.array([-1.0, 1.0]) / np.sqrt(2)
FILTERS = {"ll": np.outer(L, L), "lh": np.outer(L, H), "hl": np.outer(H, L), "hh": np.outer(H, H)}


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("band", ["ll", "lh", "hl", "hh"])
def test_band_agrees_with_pywavelets_up_to_the_documented_sign(x, band):
    approximation, (horizontal, vertical, diagonal) = pywt.dwt2(x.numpy(), "haar")
    expected = {"ll": approximation, "lh": -vertical, "hl": -horizontal, "hh": diagonal}[band]
    ours = dict(zip(("ll", "lh", "hl", "hh"), haar.dwt2(x)))[band]
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("band", ["ll", "lh", "hl", "hh"])
def test_band_agrees_with_a_loop_over_blocks(x, band):
    ours = dict(zip(("ll", "lh", "hl", "hh"), haar.dwt2(x)))[band]
    for n in range(2):
        for c in range(3):
            for i in range(4):
                for j in range(6):
                    block = x[n, c, 2 * i:2 * i + 2, 2 * j:2 * j + 2].numpy()
                    assert ours[n, c, i, j].item() == pytest.approx((block * FILTERS[band]).sum(), abs=1e-12)


def test_names_say_which_edges_a_band_answers_to():
    vertical_edge = torch.tensor([[-1.0, 1.0], [-1.0, 1.0]])
    ll, lh, hl, hh = haar.dwt2(vertical_edge)
    assert (ll, lh, hl, hh) == (0, 2, 0, 0)
    ll, lh, hl, hh = haar.dwt2(vertical_edge.T)
    assert (ll, lh, hl, hh) == (0, 0, 2, 0)


def test_perfect_reconstruction(x):
    torch.testing.assert_close(haar.idwt2(*haar.dwt2(x)), x, atol=1e-12, rtol=0)


def test_the_inverse_is_an_inverse_from_both_sides(x):
    bands = [torch.randn_like(x) for _ in range(4)]
    for again, band in zip(haar.dwt2(haar.idwt2(*bands)), bands):
        torch.testing.assert_close(again, band, atol=1e-12, rtol=0)


def test_energy_is_preserved(x):
    assert sum(b.square().sum() for b in haar.dwt2(x)).item() == pytest.approx(x.square().sum().item())


def test_gradients(x):
    x = x[:1, :1, :4, :4].clone().requires_grad_()
    assert torch.autograd.gradcheck(haar.dwt2, x)
    assert torch.autograd.gradcheck(haar.high_frequency, x)
    assert torch.autograd.gradcheck(lambda *b: haar.idwt2(*b), [b.detach().requires_grad_() for b in haar.dwt2(x)])


def test_high_frequency_is_one_filter(x):
    kernel = torch.tensor([[-0.5, -0.5], [-0.5, 1.5]], dtype=x.dtype)
    expected = torch.nn.functional.conv2d(x.reshape(6, 1, 8, 12), kernel[None, None], stride=2).reshape(2, 3, 4, 6)
    torch.testing.assert_close(haar.high_frequency(x), expected, atol=1e-12, rtol=0)


def test_high_frequency_is_the_sum_of_three_bands(x):
    for part in (x, x[0], x[0, 0], x.expand(3, *x.shape)):
        torch.testing.assert_close(haar.high_frequency(part), sum(haar.dwt2(part)[1:]), atol=1e-12, rtol=0)


def test_high_frequency_is_one_pixel_against_the_mean(x):
    ll, *_ = haar.dwt2(x)
    torch.testing.assert_close(haar.high_frequency(x), 2 * x[..., 1::2, 1::2] - ll, atol=1e-12, rtol=0)


def test_a_flat_picture_has_no_high_frequencies():
    assert haar.high_frequency(torch.full((1, 3, 8, 8), 0.7)).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(1, 3, 7, 8), (1, 3, 8, 7), (5, 5)])
def test_odd_sizes_are_refused_with_the_size(shape):
    with pytest.raises(UserError, match=f"{shape[-2]}×{shape[-1]}"):
        haar.dwt2(torch.zeros(shape))
    with pytest.raises(UserError, match=f"{shape[-2]}×{shape[-1]}"):
        haar.high_frequency(torch.zeros(shape))
