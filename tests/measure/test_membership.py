"""Membership inference: errors against a loop, AUC and the share caught against counting by hand, and a model that has learned by heart."""

import pytest
import torch
from conftest import make_images, make_source

from dslib import UserError, ddpm, models
from dslib.measure.membership import auc, caught, chance, denoising_errors


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_errors_against_a_loop_over_images_steps_and_noises(kind):
    pipe = make_source()
    scheduler = models.new_scheduler(kind)
    images, steps = make_images(3, 16), [10, 700]
    found = denoising_errors(pipe.unet, scheduler, images, steps, noises=2, seed=5, batch_size=2)
    for i, step in enumerate(steps):
        for n, x_0 in enumerate(images):
            total = 0.0
            for k in range(2):
                eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(5 * 1_000_003 + k))
                a = float(scheduler.alphas_cumprod[step])
                x_t = a**0.5 * x_0 + (1 - a)**0.5 * eps
                wanted = eps if kind == "epsilon" else a**0.5 * eps - (1 - a)**0.5 * x_0
                with torch.no_grad():
                    answer = pipe.unet(x_t[None], torch.tensor([step])).sample[0]
                total += float((answer - wanted).square().mean()) / 2
            assert found[i, n] == pytest.approx(total, rel=1e-4)


def test_one_who_knows_the_pictures_by_heart_gives_them_all_away():
    """The exact minimum of the loss on three pictures, as a network: its error is lowest for these three."""
    scheduler, images = models.new_scheduler("epsilon"), make_images(8, 16)
    a_bar = scheduler.alphas_cumprod

    class Copyist(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x_t, t):
            a = a_bar[t].view(-1, 1, 1, 1)
            far = (x_t[:, None] - a[:, None].sqrt() * images[None, :3]).square().flatten(2).sum(2) / (1 - a.view(-1, 1)) / 2
            guess = torch.einsum("nk,kchw->nchw", (-far).softmax(1), images[:3])
            return type("Answer", (), {"sample": (x_t - a.sqrt() * guess) / (1 - a).sqrt()})

    errors = denoising_errors(Copyist(), scheduler, images, [100, 400], noises=2)
    for line in errors:
        assert auc(line[:3], line[3:]) == 1 and caught(line[:3], line[3:], 0.2) == 1


def test_auc_counts_pairs_and_halves_ties():
    members, others = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0])
    pairs = [1.0 if m < o else 0.5 if m == o else 0.0 for m in members.tolist() for o in others.tolist()]
    assert auc(members, others) == pytest.approx(sum(pairs) / 6) and auc(others, members) == pytest.approx(1 - sum(pairs) / 6)
    assert auc(torch.ones(4), torch.ones(3)) == 0.5
    with pytest.raises(UserError, match="at least one of each"):
        auc(torch.tensor([]), others)


def test_the_error_of_a_guessed_auc_is_the_spread_over_guesses():
    guesses = torch.rand(4000, 60, generator=torch.Generator().manual_seed(0))
    found = torch.tensor([auc(one[:10], one[10:]) for one in guesses])
    assert found.mean() == pytest.approx(0.5, abs=0.01) and chance(10, 50) == pytest.approx(float(found.std()), rel=0.04)


def test_caught_keeps_to_the_false_alarms_that_are_allowed():
    others = torch.arange(100.0)
    assert caught(torch.tensor([-1.0, 0.5, 0.99, 1.0, 5.0]), others, 0.01) == pytest.approx(3 / 5)     # below the second smallest
    assert caught(torch.tensor([-1.0, 4.5, 5.0, 7.0]), others, 0.05) == pytest.approx(2 / 4)
    threshold = others.sort().values[5]
    assert int((others < threshold).sum()) == 5
    with pytest.raises(UserError, match="less than one: give at least 100"):
        caught(torch.tensor([1.0]), others[:99], 0.01)
    assert caught(torch.tensor([-1.0, 0.0, 3.0]), others, 0.0) == pytest.approx(1 / 3)                # nobody is accused wrongly
    with pytest.raises(UserError, match="at least 34"):
        caught(torch.tensor([1.0]), others[:33], 0.03)
    for share in (1.0, -0.1):
        with pytest.raises(UserError, match="a share from 0 to 1"):
            caught(torch.tensor([1.0]), others, share)


def test_bad_steps_and_noises_are_told():
    pipe = make_source()
    with pytest.raises(UserError, match="t = 0 to 999"):
        denoising_errors(pipe.unet, pipe.scheduler, make_images(2, 16), [1000])
    with pytest.raises(UserError, match="at least one"):
        denoising_errors(pipe.unet, pipe.scheduler, make_images(2, 16), [1], noises=0)


def test_the_same_noise_whatever_else_is_asked():
    """Image 0 alone, in a batch, with another step beside it: one number."""
    pipe, images = make_source(), make_images(3, 16)
    alone = denoising_errors(pipe.unet, pipe.scheduler, images[:1], [300])
    torch.testing.assert_close(denoising_errors(pipe.unet, pipe.scheduler, images, [50, 300])[1, :1], alone[0], rtol=1e-4, atol=1e-6)
    assert ddpm.prediction_type_of(pipe.scheduler) == "epsilon"
