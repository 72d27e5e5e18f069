"""Chapter 05's self-checks name each typical mistake."""

import pytest
import torch

from dslib import checks, haar
from dslib.haar import dwt2, high_frequency, idwt2


def changed(change):
    """A haar() that gets the bands right and then changes them."""
    return lambda x: change(*dwt2(x))


def quarters(x):
    (a, b), (c, d) = (half.chunk(2, dim=-1) for half in x.chunk(2, dim=-2))
    return (a + b + c + d) / 2, (-a + b - c + d) / 2, (-a - b + c + d) / 2, (a - b - c + d) / 2


@pytest.mark.parametrize("wrong, hint", [
    (lambda x: None, "nothing written yet"),
    (lambda x: 1 / 0, "ZeroDivisionError"),
    (lambda x: torch.cat(dwt2(x)), "it returns one tensor"),
    (changed(lambda ll, lh, hl, hh: (ll, (hl, lh, hh))), "2 values"),
    (lambda x: 3.0, "a float"),
    (changed(lambda ll, lh, hl, hh: (ll.tolist(), lh, hl, hh)), "ll is a list"),
    (lambda x: (x, x, x, x), "half the height"),
    (changed(lambda ll, lh, hl, hh: (ll, hl, lh, hh)), "lh and hl are swapped"),
    (changed(lambda ll, lh, hl, hh: (ll, -hl, -lh, hh)), "PyWavelets' cA"),
    (changed(lambda ll, lh, hl, hh: (ll, -lh, -hl, hh)), "lh and hl have the wrong sign"),
    (changed(lambda ll, lh, hl, hh: (ll, lh, hl, -hh)), "hh has the wrong sign"),
    (lambda x: tuple(2 * band for band in dwt2(x)), "½ is missing"),
    (lambda x: tuple(band / 2 for band in dwt2(x)), "divided by 4"),
    (changed(lambda ll, lh, hl, hh: (ll / 2, lh, hl, hh)), "ll is the mean"),
    (lambda x: tuple(2 ** 0.5 * band for band in dwt2(x)), "only once"),
    (quarters, "cut into quarters"),
    (lambda x: tuple(band.long() for band in dwt2(x)), "dtype"),
    (lambda x: tuple(float("nan") * band for band in dwt2(x)), "NaN"),
    (lambda x: tuple(band + 1 for band in dwt2(x)), "differ"),
])
def test_haar_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_haar(wrong)
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("wrong, hint", [
    (lambda ll, lh, hl, hh: None, "nothing written yet"),
    (lambda x: x, "TypeError"),
    (lambda ll, lh, hl, hh: ll, "shape"),
    (lambda ll, lh, hl, hh: idwt2(ll, hl, lh, hh), "swapped"),
    (lambda ll, lh, hl, hh: idwt2(ll, -lh, -hl, hh), "lh and hl have the wrong sign"),
    (lambda ll, lh, hl, hh: idwt2(ll, lh, hl, -hh), "hh has the wrong sign"),
    (lambda ll, lh, hl, hh: 2 * idwt2(ll, lh, hl, hh), "½ is missing"),
    (lambda ll, lh, hl, hh: idwt2(ll, lh, hl, hh) / 2, "divided by 4"),
    (lambda ll, lh, hl, hh: ll.repeat_interleave(2, -1).repeat_interleave(2, -2) / 2, "only ll"),
    (lambda ll, lh, hl, hh: idwt2(0 * ll, lh, hl, hh), "ll was left out"),
    (lambda ll, lh, hl, hh: torch.cat([torch.cat([ll, lh], -1), torch.cat([hl, hh], -1)], -2), "side by side"),
    (lambda ll, lh, hl, hh: idwt2(ll, lh, hl, hh) + 1, "differ"),
])
def test_inverse_haar_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_inverse_haar(wrong)
    assert hint in capsys.readouterr().out


def square(x, y):
    return (high_frequency(x) - high_frequency(y)).square()


def column(a):
    return a.view(-1, 1, 1, 1)


def three(x, y):
    return torch.stack(haar.dwt2(x - y)[1:])


@pytest.mark.parametrize("wrong, hint", [
    (lambda x, y, a: None, "nothing written yet"),
    (lambda x, y, a: (column(a) * square(x, y)).mean(dim=(1, 2, 3)), "shape"),
    (lambda x, y, a: square(x, y).mean(), "weight is not used"),
    (lambda x, y, a: a.mean() * square(x, y).mean(), "one weight for the whole batch"),
    (lambda x, y, a: (a * square(x, y)).mean(), "along the width"),
    (lambda x, y, a: a[0] * square(x, y).mean(), "first image's weight"),
    (lambda x, y, a: (column(a) * square(x, y)).sum(), "sum over everything"),
    (lambda x, y, a: (a * square(x, y).mean(dim=(1, 2, 3))).sum(), "each image's mean error was added"),
    (lambda x, y, a: (column(a) * square(x, y)).mean() / a.mean(), "sum of the weights"),
    (lambda x, y, a: (column(a) * (high_frequency(x) - high_frequency(y))).square().mean(), "weight is squared"),
    (lambda x, y, a: (column(a).sqrt() * square(x, y)).mean(), "square root"),
    (lambda x, y, a: ((1 - column(a)) * square(x, y)).mean(), "1 − ᾱ_t"),
    (lambda x, y, a: (column(a) * square(x, y).sqrt()).mean(), "absolute errors"),
    (lambda x, y, a: (column(a) * (x - y).square()).mean(), "these are pixels"),
    (lambda x, y, a: (column(a) * sum(haar.dwt2(x - y)).square()).mean(), "LL is in the sum too"),
    (lambda x, y, a: (column(a) * haar.dwt2(x - y)[0].square()).mean(), "this is LL"),
    (lambda x, y, a: (column(a) * three(x, y).square()).mean(), "one by one"),
    (lambda x, y, a: (column(a) * three(x, y).square().sum(0)).mean(), "squared bands are added"),
    (lambda x, y, a: 7 + square(x, y).mean(), "differ"),
])
def test_weighted_hf_mse_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_weighted_hf_mse(wrong)
    assert hint in capsys.readouterr().out


def test_the_reference_is_the_librarys_loss():
    from dslib import losses
    generator = torch.Generator().manual_seed(0)
    x, y, a = (torch.rand(*shape, generator=generator) for shape in ((3, 3, 8, 8), (3, 3, 8, 8), (3,)))
    torch.testing.assert_close(checks.weighted_hf_mse(x, y, a), losses.hf_mse(x, y, a))
