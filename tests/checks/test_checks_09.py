"""Chapter 09's self-checks, attention maps and explorer."""

import pytest
import torch

from dslib import checks, ddpm
from dslib.env import UserError
from dslib.show import plots, widgets
from dslib.text import latent


@pytest.mark.parametrize("wrong, hint", [
    (lambda e, c, s: c + s * (e - c), "exchanged"), (lambda e, c, s: c + s * (c - e), "starts from the text's noise"),
    (lambda e, c, s: c, "scale is not used"), (lambda e, c, s: s * (c - e), "difference alone"),
    (lambda e, c, s: e - s * (c - e), "sign is wrong"), (lambda e, c, s: (e + s * c) / (1 + s), "1 − scale and scale"),
    (lambda e, c, s: s * c, "only the text's"), (lambda e, c, s: None, "nothing written yet"), (lambda e, c, s: 3, "expected a tensor"),
])
def test_guidance_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_guided(wrong)
    assert hint in capsys.readouterr().out


def velocity(z, eps, t, a):
    share = a[t].view(-1, 1, 1, 1)
    return share.sqrt() * eps - (1 - share).sqrt() * z


def both(net, z, zp, t, eps, texts, a, first=0, second=1, noised=True, goal=None):
    def part(latents, which):
        x_t = ddpm.q_sample(latents, t, eps, a) if noised else latents
        wanted = velocity(latents, eps, t, a) if goal is None else goal
        return (net(x_t, t, texts[which:which + 1].expand(len(z), -1, -1)).sample - wanted).square().mean()
    return part(z, first), part(zp, second)


@pytest.mark.parametrize("wrong, hint", [
    (lambda *a: both(*a)[0], "prior images are missing"), (lambda *a: both(*a)[1], "training images are missing"),
    (lambda *a: sum(both(*a)) / 2, "DreamBooth adds them"), (lambda *a: sum(both(*a, 1, 0)), "prompts are exchanged"),
    (lambda *a: sum(both(*a, 0, 0)), "prior images get texts[1]"), (lambda *a: sum(both(*a, 1, 1)), "training images get texts[0]"),
    (lambda *a: sum(both(*a, noised=False)), "q_sample"), (lambda *a: sum(both(*a, goal=a[4])), "answers v, not the noise"),
    (lambda *a: both(*a)[0] + both(*a, goal=velocity(a[1], a[4], a[3], a[6]))[1], "have their own"),
    (lambda *a: sum(both(*a)).detach(), "no gradient flows"),
    (lambda *a: both(*a)[0] + both(*a)[1].detach(), "both parts must reach"), (lambda *a: sum(both(*a)).item(), "expected a tensor"),
    (lambda net, z, zp, t, eps, texts, a: net(z, t, texts).sample.mean(), "expand the text to the batch"),
    (lambda *a: None, "nothing written yet"),
])
def test_dreambooth_mistakes_are_named(wrong, hint, capsys):
    assert not checks.check_dreambooth_loss(wrong)
    assert hint in capsys.readouterr().out


def one_pass(net, z, zp, t, eps, texts, a):
    """All at once, as the library does it."""
    x_t = torch.cat([ddpm.q_sample(z, t, eps, a), ddpm.q_sample(zp, t, eps, a)])
    tar, sou = net(x_t, t.repeat(2), texts.repeat_interleave(len(z), 0)).sample.chunk(2)
    return (tar - velocity(z, eps, t, a)).square().mean() + (sou - velocity(zp, eps, t, a)).square().mean()


def test_right_answers_pass():
    assert checks.check_guided(lambda e, c, s: (1 - s) * e + s * c) and checks.check_guided(checks.guided)
    assert checks.check_dreambooth_loss(one_pass) and checks.check_dreambooth_loss(checks.dreambooth_loss_by_hand)


def test_attention_is_shared_out_among_all_positions(tiny_text):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    image, maps = latent.attention_maps(tiny_text, "a sks face", noise, num_inference_steps=2)
    assert [word for word, _ in maps] == ["<|startoftext|>", "a", "sks", "face", "<|endoftext|>"]
    assert torch.equal(image, latent.draw(tiny_text, ["a sks face"], noise, num_inference_steps=2))
    total = sum(share for _, share in maps)
    assert all(share.shape == (8, 8) and (share >= 0).all() for _, share in maps) and (total < 1).all()
    full = " ".join(["face"] * (tiny_text.tokenizer.model_max_length - 2))             # every position a word: nothing is left over
    whole = sum(share for _, share in latent.attention_maps(tiny_text, full, noise, num_inference_steps=2)[1])
    torch.testing.assert_close(whole, torch.ones(8, 8), atol=1e-5, rtol=0)
    assert not any(layer._forward_pre_hooks for layer in tiny_text.unet.modules())


def test_attention_of_many_noises_is_the_mean_over_the_noises(tiny_text):
    noise = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    images, maps = latent.attention_maps(tiny_text, "a sks face", noise, num_inference_steps=2)
    alone = [latent.attention_maps(tiny_text, "a sks face", one[None], num_inference_steps=2) for one in noise]
    torch.testing.assert_close(images, torch.cat([image for image, _ in alone]), atol=1e-5, rtol=0)
    for k, (_, share) in enumerate(maps):
        torch.testing.assert_close(share, torch.stack([one[k][1] for _, one in alone]).mean(0), atol=1e-6, rtol=1e-5)


def test_guidance_explorer(explored):
    drawn = {"a face": {scale: torch.zeros(3, 3, 8, 8) for scale in (1.0, 3.0)}}
    figure, alt = widgets.guidance_figure(drawn, "a face", 3.0)
    assert plots.to_png(figure) and "scale 1 and 3" in alt
    with pytest.raises(UserError, match="scale 1.0"):
        widgets.explore_guidance({"a face": {3.0: torch.zeros(1, 3, 8, 8)}})
