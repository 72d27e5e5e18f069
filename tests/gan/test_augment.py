"""DiffAugment: what it does to an image, and that gradients pass through it."""

import pytest
import torch
from conftest import make_images

from dslib import UserError
from dslib.gan import augment


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return make_images(4, 16).double()


def test_translation_moves_by_whole_pixels_and_fills_with_grey(images):
    shift = torch.tensor([[0, 0], [2, 0], [-1, 3], [0, -2]])
    moved = augment.translate(images, shift)
    for image, got, (down, right) in zip(images, moved, shift.tolist()):
        want = torch.zeros_like(image)
        for row in range(16):
            for column in range(16):
                if 0 <= row - down < 16 and 0 <= column - right < 16:
                    want[:, row, column] = image[:, row - down, column - right]
        assert torch.equal(got, want)


def test_cutout_takes_a_square_of_half_the_side(images):
    middle, corner = augment.cut_out(images[:2].abs() + 1, torch.tensor([[8, 8], [0, 16]]))
    assert torch.equal(middle[0] == 0, torch.nn.functional.pad(torch.ones(8, 8), (4, 4, 4, 4)).bool())
    assert (corner == 0).sum() == 3 * 16 and (corner[:, :4, 12:] == 0).all()


def test_colour_by_hand(images):
    u = torch.tensor([[0.5, 0.5, 0.5], [0.9, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]], dtype=torch.float64)
    same, brighter, grey, flat = augment.colour(images, u)
    torch.testing.assert_close(same, images[0])
    torch.testing.assert_close(brighter, images[1] + 0.4)
    torch.testing.assert_close(grey, images[2].mean(0).expand(3, -1, -1))
    torch.testing.assert_close(flat, images[3].mean() + (images[3] - images[3].mean()) / 2)


def test_colour_against_loops_over_pixels(images):
    """Brightness first, then saturation, then contrast about the mean of what that made."""
    u = torch.rand(4, 3, generator=dice(5), dtype=torch.float64)
    want = torch.empty_like(images)
    for i, (b, s, c) in enumerate(u.tolist()):
        image = images[i] + b - 0.5
        for row in range(16):
            for column in range(16):
                grey = image[:, row, column].mean()
                image[:, row, column] = grey + 2 * s * (image[:, row, column] - grey)
        want[i] = image.mean() + (0.5 + c) * (image - image.mean())
    torch.testing.assert_close(augment.colour(images, u), want)


def test_what_is_drawn_has_the_ranges_of_the_paper():
    """An eighth of the side either way; a square's middle anywhere, so that the border cuts some."""
    drawn = augment.draw(4000, 16, augment.POLICY, dice())
    assert drawn["translation"].unique().tolist() == [-2, -1, 0, 1, 2] and drawn["cutout"].unique().tolist() == list(range(17))
    assert drawn["color"].min() >= 0 and drawn["color"].max() <= 1 and drawn["color"].mean(0).sub(0.5).abs().max() < 0.02
    assert (drawn["translation"][:, 0] != drawn["translation"][:, 1]).any() and drawn["color"].shape == (4000, 3)


@pytest.mark.parametrize("policy", ["color", "translation", "cutout", augment.POLICY])
def test_gradients_pass_through_as_finite_differences_say(images, policy):
    drawn = {name: one.double() if one.is_floating_point() else one for name, one in augment.draw(2, 16, policy, dice()).items()}
    small = images[:2].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: augment.augment(x, drawn).square().sum((1, 2, 3)), small, fast_mode=True)
    augment.augment(small, drawn).sum().backward()
    assert small.grad.abs().sum() > 0


def test_the_same_dice_do_the_same_and_other_dice_do_not(images):
    a, b, c = (augment.augment(images, augment.draw(4, 16, augment.POLICY, dice(seed))) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_each_image_gets_its_own(images):
    one = images[:1].expand(4, -1, -1, -1)
    for policy in augment.POLICY.split(","):
        changed = augment.augment(one, augment.draw(4, 16, policy, dice(3)))
        assert len({tuple(image.flatten().tolist()) for image in changed}) > 1, policy


def test_none_changes_nothing_and_unknown_words_are_named(images):
    assert augment.augment(images, augment.draw(4, 16, "none", dice())) is images
    for wrong in ("colour", "", "color,flip"):
        with pytest.raises(UserError, match="--diffaugment is .*use none, or some of color,translation,cutout"):
            augment.words(wrong)
