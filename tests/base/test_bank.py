"""A bank of the source's answers: fewer passes, the same numbers."""

import torch
from conftest import make_images

from dslib.base.bank import Bank
from dslib.train import TrainConfig, adapt


def weights(source, images, bank=None, **options):
    settings = {"max_train_steps": 3, "seed": 5} | options
    *_, last = adapt(source, images, TrainConfig(**settings), frozen=bank)
    return [p.detach().clone() for p in last.model.parameters()]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b))


def test_runs_that_share_a_bank_are_the_runs_without_it(tiny_source):
    images, bank = make_images(4, 16), Bank(tiny_source.unet)
    assert same(weights(tiny_source, images, bank), weights(tiny_source, images))
    assert (bank.asked, bank.known) == (3, 3)
    assert same(weights(tiny_source, images, bank, lambda_img=2.0), weights(tiny_source, images, lambda_img=2.0))
    assert (bank.asked, bank.known) == (6, 3)           # the second run asked nothing new


def test_another_seed_is_another_question(tiny_source):
    images, bank = make_images(4, 16), Bank(tiny_source.unet)
    assert not same(weights(tiny_source, images, bank), weights(tiny_source, images, bank, seed=6))
    assert bank.known == 6


def test_a_small_bank_repeats_its_noise(tiny_source):
    images, bank = make_images(4, 16), Bank(tiny_source.unet)
    repeated = weights(tiny_source, images, bank, bank_steps=1)
    assert (bank.asked, bank.known) == (3, 1)
    assert not same(repeated, weights(tiny_source, images))


def test_naive_fine_tuning_asks_nothing(tiny_source):
    bank = Bank(tiny_source.unet)
    weights(tiny_source, make_images(4, 16), bank, method="finetune")
    assert bank.asked == 0
