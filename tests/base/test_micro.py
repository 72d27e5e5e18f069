"""A batch that passes the networks in parts gives the gradient of the whole batch, of every method, with and without words."""

import copy

import pytest
import torch

from dslib import train
from dslib.base.errors import UserError
from dslib.base.micro import in_parts
from dslib.domainstudio import domainstudio_loss

CASES = {"naive": {"method": "finetune"}, "published": {}, "anchored": {"pairwise_on": "source", "num_anchors": 20},
         "authors": {"pairwise_variant": "authors", "pairwise_weighting": "none"}}


def gradient(source, images, seed=0, **settings):
    """The gradient of one step's loss, by parameter, and the loss."""
    config = train.fitted(source, images, train.TrainConfig(max_train_steps=1, train_batch_size=len(images), seed=seed, **settings))
    net, objective, given = train.METHODS[config.method](source, images, config, None)
    batch, given = train.drawn(images, given or {}, 0, config, len(source.scheduler.alphas_cumprod), "cpu")
    loss, _ = objective(net, *batch, **given)
    loss.backward()
    return {name: p.grad for name, p in net.named_parameters()}, float(loss.detach())


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("case", CASES)
def test_gradient_and_loss_are_those_of_the_whole_batch(tiny_source, ten_images, case, size):
    whole, loss = gradient(tiny_source, ten_images[:8], **CASES[case])
    parts, same = gradient(tiny_source, ten_images[:8], micro_batch_size=size, **CASES[case])
    assert same == pytest.approx(loss, rel=1e-6)
    largest = max(float(g.abs().max()) for g in whole.values())
    for name in whole:
        assert torch.allclose(parts[name], whole[name], rtol=1e-5, atol=1e-6 * largest), name


def test_accumulated_gradients_of_small_batches_are_another_loss(tiny_source, ten_images):
    """The control: what plain gradient accumulation would do differs, because the pairwise terms compare the whole batch."""
    whole, _ = gradient(tiny_source, ten_images[:8], lambda_img=30.0, lambda_hf=30.0)
    first, _ = gradient(tiny_source, ten_images[:4], lambda_img=30.0, lambda_hf=30.0)
    second, _ = gradient(tiny_source, ten_images[4:8], lambda_img=30.0, lambda_hf=30.0)
    apart = sum(float((whole[n] - (first[n] + second[n]) / 2).square().sum()) for n in whole)
    assert apart > 0.01 * sum(float(g.square().sum()) for g in whole.values())


def test_the_networks_never_see_more_than_a_part(tiny_source, ten_images):
    seen = []
    unet, frozen = copy.deepcopy(tiny_source.unet), copy.deepcopy(tiny_source.unet).requires_grad_(False)
    for one in (unet, frozen):
        one.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    t, a_bar = torch.arange(8) * 100, tiny_source.scheduler.alphas_cumprod
    loss, _ = domainstudio_loss(in_parts(unet, 2), in_parts(frozen, 2), ten_images[:8], t, torch.randn_like(ten_images[:8]), a_bar,
                                tiny_source.scheduler.betas, train.TrainConfig())
    loss.backward()
    assert set(seen) == {2} and len(seen) == 12          # four parts: trained, asked again for the backward pass, frozen


def test_zero_is_the_network_itself(tiny_source):
    assert in_parts(tiny_source.unet, 0) is tiny_source.unet


def test_a_run_in_parts_ends_at_the_same_weights(tiny_source, ten_images):
    configs = [train.TrainConfig(max_train_steps=3, train_batch_size=6, micro_batch_size=size) for size in (0, 2)]
    ends = [list(train.adapt(tiny_source, ten_images[:6], config))[-1] for config in configs]
    for one, other in zip(*(end.model.parameters() for end in ends)):
        assert torch.allclose(one, other, atol=2e-4)


@pytest.mark.parametrize(("settings", "words"), [
    ({"micro_batch_size": 3}, "--micro_batch_size 3 does not divide the batch of 8"),
    ({"micro_batch_size": 16}, "--micro_batch_size 16 does not divide the batch of 8"),
    ({"micro_batch_size": -1}, "--micro_batch_size is -1")])
def test_a_size_that_cannot_be_is_a_line(tiny_source, ten_images, settings, words):
    with pytest.raises(UserError, match=words):
        next(train.adapt(tiny_source, ten_images[:8], train.TrainConfig(max_train_steps=1, train_batch_size=8, **settings)))


@pytest.mark.parametrize("method", ["dreambooth", "domainstudio"])
def test_with_words_too(tiny_text, method):
    from dslib.text import latent, text_to_image
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    prior, found = latent.encode(tiny_text.vae, images), []
    for size in (0, 2):
        config = text_to_image.TextConfig(method=method, max_train_steps=1, train_batch_size=4, micro_batch_size=size)
        step = next(text_to_image.adapt(tiny_text, images, config, "a face in sks style", "a face", prior))
        found.append((float(step.loss), [p.detach().clone() for p in step.model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert all(torch.allclose(one, other, atol=2e-4) for one, other in zip(found[0][1], found[1][1]))


def test_textual_inversion_has_no_parts(tiny_text):
    from dslib.text import text_to_image
    images = torch.zeros(4, 3, 32, 32)
    config = text_to_image.TextConfig(method="textual-inversion", max_train_steps=1, train_batch_size=4, micro_batch_size=2)
    with pytest.raises(UserError, match="needs dreambooth or domainstudio"):
        next(text_to_image.adapt(tiny_text, images, config, "a face in sks style", "a face"))
