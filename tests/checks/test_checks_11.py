"""Chapter 11: its self-checks name the mistakes, and its figure of two players."""

import pytest
import torch
import torch.nn.functional as F

from dslib import checks, losses
from dslib.gan import cdc
from dslib.gan import losses as gan_losses


def players(judge=lambda r, f: F.softplus(-r).mean() + F.softplus(f).mean(), forger=lambda r, f: F.softplus(-f).mean()):
    """A reader's answer, wrong where a part is given."""
    return lambda real, fake: (judge(real, fake), forger(real, fake))


@pytest.mark.parametrize("wrong, hint", [
    (lambda r, f: players()(r, f)[::-1], "wrong way round"),
    (players(lambda r, f: F.softplus(-r).sum() + F.softplus(f).sum(), lambda r, f: F.softplus(-f).sum()), "take means over the batch"),
    (players(forger=lambda r, f: -F.softplus(f).mean()), "it saturates"),
    (players(lambda r, f: F.softplus(r).mean() + F.softplus(-f).mean()), "halves are swapped"),
    (players(lambda r, f: F.softplus(-r).mean()), "only the real images"),
    (players(forger=lambda r, f: -torch.log(torch.sigmoid(f)).mean()), "never overflows"),
    (lambda r, f: torch.stack(players()(r, f)), "return a pair"), (lambda r, f: players()(r, f)[0], "return a pair"),
    (players(forger=lambda r, f: F.softplus(-f)), "return a pair"), (lambda r, f: None, "nothing written yet")])
def test_mistakes_in_the_players_losses_are_named(wrong, hint, capsys):
    assert not checks.check_players_losses(wrong)
    assert hint in capsys.readouterr().out


def maps_of(generator, z, layer):
    return generator.trace(z).layers[layer]


def cdc_like(scale=lambda n: n * (n - 1), maps=maps_of, swap=False, layer=None):
    """A reader's CDC, wrong where the options say so."""
    def fn(adapted, source, z, asked):
        at = asked if layer is None else layer
        pair = (maps(adapted, z, at), maps(source, z, at).detach())
        pair = pair[::-1] if swap else pair
        return losses.pairwise_kl(*pair) / scale(len(z))
    return fn


@pytest.mark.parametrize("wrong, hint", [
    (cdc_like(scale=lambda n: 1), "this is the sum"), (cdc_like(scale=lambda n: n), "divided by N alone"),
    (cdc_like(swap=True), "the two are swapped"), (cdc_like(maps=lambda g, z, layer: g.trace(z).image), "these are the pictures"),
    (cdc_like(maps=lambda g, z, layer: g.trace(z)[layer]), "take trace(z).layers[layer]"),
    (cdc_like(layer=0), "the layer is not used"),
    (lambda *given: cdc_like()(*given) + 0 * given[1](given[2]).sum(), "the source got a gradient"),
    (lambda *given: cdc_like()(*given).detach(), "no gradient reaches"),
    (lambda *given: float(cdc_like()(*given).detach()), "returns a float"),
    (lambda *given: cdc_like()(*given).view(1), "the shape is (1,)"),
    (lambda *given: None, "nothing written yet")])
def test_mistakes_in_cdcs_loss_are_named(wrong, hint, capsys):
    assert not checks.check_cdc_loss(wrong)
    assert hint in capsys.readouterr().out


def test_right_answers_pass():
    assert checks.check_players_losses(players()) and checks.check_players_losses(checks.players_losses)
    assert checks.check_cdc_loss(cdc_like()) and checks.check_cdc_loss(checks.cdc_loss)


def test_the_players_losses_are_the_librarys():
    real, fake = 5 * torch.randn(2, 7, generator=torch.Generator().manual_seed(0))
    want = gan_losses.discriminator_loss(real, fake), gan_losses.generator_loss(fake)
    torch.testing.assert_close(checks.players_losses(real, fake), want)


def test_the_readers_cdc_is_the_librarys():
    """One consistency: what the chapter builds from chapter 04's loss is what ``dslib adapt --method cdc`` trains with."""
    x, y = torch.randn(2, 5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(losses.pairwise_kl(x, y) / 20, cdc.consistency(x, y))
