"""The players: what they compute, what they never depend on, and how large they are."""

import pytest
import torch
import torch.nn.functional as F
from conftest import make_gan, make_images

from dslib import UserError
from dslib.gan import draw
from dslib.gan.networks import Modulated, Pair


@pytest.mark.parametrize("up", [False, True])
def test_a_modulated_convolution_scales_and_normalises_each_images_own_weights(up):
    """up: the same of an image whose pixels are doubled."""
    torch.manual_seed(0)
    layer, x, w = Modulated(5, 4, 6, up).double(), torch.randn(3, 5, 4, 4).double(), torch.randn(3, 6).double()
    found = layer(x, w)
    for image, one, got in zip(x, w, found):
        weight = layer.weight * layer.scale * layer.style(one[None])[0][None, :, None, None]
        weight = weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
        doubled = image.repeat_interleave(2, 1).repeat_interleave(2, 2) if up else image
        y = F.conv2d(doubled[None], weight, None, 1, 1)
        torch.testing.assert_close(got, F.leaky_relu(y[0] + layer.bias[:, None, None], 0.2) * 2**0.5, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("up", [False, True])
def test_a_modulated_convolution_keeps_the_variance(up):
    torch.manual_seed(0)
    layer, x, w = Modulated(64, 64, 8, up), torch.randn(4, 64, 16, 16), torch.randn(4, 8)
    assert layer(x, w)[:, :, 2:-2, 2:-2].square().mean().item() == pytest.approx(1, rel=0.1)


def test_an_image_never_depends_on_its_neighbours():
    pair, z, images = make_gan(), draw.latents(4, 8), make_images(4, 16)
    torch.testing.assert_close(pair.generator(z)[:1], pair.generator(z[:1]))
    torch.testing.assert_close(pair.discriminator(images)[2:3], pair.discriminator(images[2:3]))


def test_shapes_and_layers():
    pair = make_gan()
    trace = pair.generator.trace(draw.latents(2, 8))
    assert trace.image.shape == (2, 3, 16, 16) and [x.shape[-1] for x in trace.layers] == [4, 8, 8, 16, 16]
    assert [x.shape[-1] for x in pair.discriminator.features(trace.image)] == [16, 8, 4, 4]
    assert pair.discriminator(trace.image).shape == (2,) and len(pair.discriminator.parts()) == 5


def test_the_source_has_at_most_two_million_weights_a_player():
    sizes = [sum(p.numel() for p in player.parameters()) for player in (Pair().generator, Pair().discriminator)]
    assert min(sizes) > 0.5e6 and max(sizes) < 2e6 and Pair().resolution == 64


def test_weights_follow_from_the_seed_and_the_callers_dice_stay():
    torch.manual_seed(5)
    want = torch.rand(3)
    torch.manual_seed(5)
    a, b, c = Pair(8, (8, 8, 8), 1), Pair(8, (8, 8, 8), 1), Pair(8, (8, 8, 8), 2)
    assert torch.equal(torch.rand(3), want)
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))
    assert not torch.equal(a.generator.start, c.generator.start)


def test_impossible_channels_are_named():
    for channels in ((8, 8), (8, 0, 8), (8,) * 8):
        with pytest.raises(UserError, match="--channels"):
            Pair(8, channels)


# ------------------------------------------------------------------------------------------ latents

def test_rows_of_latents_do_not_depend_on_how_many_there_are():
    assert torch.equal(draw.latents(3, 8, 7), draw.latents(9, 8, 7)[:3]) and not torch.equal(draw.latents(3, 8, 7), draw.latents(3, 8, 8))
    assert torch.cdist(draw.latents(20, 8, 7, draw.ANCHORS), draw.latents(20, 8, 7, draw.FISHER)).min() > 0.1, "another use, other latents"
    with pytest.raises(UserError, match="at least 1"):
        draw.latents(0, 8)


def test_drawn_images_are_clipped_and_the_same_in_any_batch():
    generator, z = make_gan().generator, draw.latents(5, 8)
    images = draw.draw(generator, z)
    assert images.shape == (5, 3, 16, 16) and images.abs().max() <= 1
    torch.testing.assert_close(images, draw.draw(generator, z, batch_size=2))


def test_a_collapsed_generator_is_called_so():
    images = make_images(8, 16)
    alike = images[:1] + 0.01 * images
    assert draw.collapse(images, images) is None and draw.collapse(0.5 * images, images) is None
    assert "nearly one and the same" in draw.collapse(alike, images)
    assert draw.collapse(images[:1].expand(8, -1, -1, -1), images)


def test_a_generator_that_draws_no_numbers_is_refused():
    generator = make_gan().generator
    generator.start.data.fill_(float("nan"))
    with pytest.raises(UserError, match="the GAN draws NaN or infinity"):
        draw.draw(generator, draw.latents(2, 8))
