"""Train the tiny text-to-image source: first the autoencoder, then text encoder and U-Net together (chapter 09)."""

import math
from collections.abc import Iterator

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from .. import data, ddpm, metrics, pretrain, train
from ..base import avatars
from ..base.errors import UserError, first_line
from ..base.identity import fingerprint, image_print
from ..base.pixels import check_pictures
from . import captions, latent

#: the options that differ between the stages of ``dslib pretrain-t2i``
STAGES = {
    "vae": {"max_train_steps": 8000, "train_batch_size": 8, "learning_rate": 1e-3, "lr_warmup_steps": 200, "lr_decay_steps": 3000},
    "unet": {"max_train_steps": 14000, "train_batch_size": 32, "learning_rate": 6e-4, "lr_warmup_steps": 500, "lr_decay_steps": 5000},
    "grade": {}}
LAMBDA_LPIPS = 0.3     # weight of the perceptual distance beside the pixels' absolute error
LAMBDA_KL = 1e-4       # keeps the latents from growing without bound, no more


def vae_pixels(num_images: int, num_others: int, resolution: int, workers: int) -> Tensor:
    """uint8 (n,3,R,R): captioned source faces, and ``num_others`` of every style that is no target's."""
    parts = [data.draw_domain(avatars.CAPTIONED, "train", num_images, resolution, workers)[0]] if num_images else []
    parts += [data.draw_domain(style, "train", num_others, resolution, workers)[0] for style in avatars.OTHER_STYLES if num_others]
    return torch.cat([torch.from_numpy(pixels) for pixels in parts]).permute(0, 3, 1, 2).contiguous()


def screened(pixels: Tensor, share: float, seed: int = 0) -> Tensor:
    """uint8 (n,3,R,R), a ``share`` of them, drawn by lot, under a line screen: dark places get broad lines of any angle, some crossed.

    No style of the drawing kit is hatched, so an autoencoder of them alone washes hatchings out. The target ``engraved`` stays unseen:
    its outlines, its paper, its ink and its tones are not these; that lines may be fine and may cross is.
    """
    draws, out = torch.Generator().manual_seed(seed), pixels.clone()
    along = torch.arange(pixels.shape[-1], dtype=torch.float32)
    y, x = torch.meshgrid(along, along, indexing="ij")

    def wave(angle: float, period: float) -> Tensor:
        return 0.5 + 0.5 * torch.sin(2 * math.pi * (math.cos(angle) * x + math.sin(angle) * y) / period)

    for i in torch.nonzero(torch.rand(len(pixels), generator=draws) < share)[:, 0]:
        angle, period, reach, weight, tint, crossed = torch.rand(6, generator=draws).tolist()
        image, angle, period = pixels[i].float() / 255, 2 * math.pi * angle, 2.6 + 5.4 * period
        dark = (0.8 + 0.6 * weight) * (1 - image.mean(0)) - 0.1 - 0.4 * reach
        ink = torch.sigmoid(9 * (dark - 0.5 * wave(angle, period)))
        if crossed < 0.5:                                            # a second screen, in the darks
            ink = 1 - (1 - ink) * (1 - torch.sigmoid(9 * (dark - 0.3 - 0.5 * wave(angle + math.pi * (0.25 + crossed), period))))
        out[i] = ((image * (1 - ink) + (0.25 * tint * image.mean((1, 2), keepdim=True)) * ink) * 255).round().to(torch.uint8)
    return out


def captioned_pixels(num_images: int, num_styled: int, resolution: int, workers: int,
                     ) -> tuple[Tensor, list[dict[str, str]], list[str | None]]:
    """(uint8 (n,3,R,R), labels, styles): captioned source faces, whose style is None, and ``num_styled`` of every style with a word."""
    drawn = [(None, data.draw_domain(avatars.CAPTIONED, "train", num_images, resolution, workers))]
    drawn += [(style, data.draw_domain(f"{avatars.CAPTIONED}-{style}", "train", num_styled, resolution, workers))
              for style in captions.STYLES if num_styled]
    pixels = torch.cat([torch.from_numpy(part) for _, (part, _) in drawn]).permute(0, 3, 1, 2).contiguous()
    return pixels, [one for _, (_, labels) in drawn for one in labels], [style for style, (part, _) in drawn for _ in part]


class Autoencoding(torch.nn.Module):
    """Encoder and decoder under one forward: images and noise → (reconstruction, mean, log variance)."""

    def __init__(self, vae: AutoencoderKL):
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        posterior = self.vae.encode(x).latent_dist
        return self.vae.decode(posterior.mean + posterior.std * noise).sample, posterior.mean, posterior.logvar


class Captioned(torch.nn.Module):
    """Text encoder and U-Net under one forward: noised latents, steps and token ids → predicted noise or velocity."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel):
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet

    def forward(self, x_t: Tensor, t: Tensor, token_ids: Tensor) -> Tensor:
        return self.unet(x_t, t, self.text_encoder(token_ids.long())[0]).sample


def train_vae(images: Tensor, config: pretrain.PretrainConfig, vae: AutoencoderKL) -> Iterator[train.Step]:
    """Train an autoencoder: L1 + L2 + LPIPS + a little KL to N(0,1). ``step.averaged().vae`` is the result.

    images: (n,3,R,R), uint8 or in [-1,1]. The step's noise has the images' shape; the latents take as much of it as they need.
    """
    small = [check_pictures(images).shape[-1] // 2 ** (len(vae.config.block_out_channels) - 1)] * 2
    numbers = vae.config.latent_channels * small[0] * small[1]

    def objective(net, x, t, eps):
        noise = eps.flatten(1)[:, :numbers].view(len(x), -1, *small)
        decoded, mean, logvar = net(x, noise)
        terms = {"l1": (decoded - x).abs().mean(), "l2": (decoded - x).square().mean()}       # L2 finds the colours sooner
        if x.shape[-1] >= metrics.SMALLEST:
            half = slice((len(x) + 1) // 2)                  # of the batch: it costs as much as the autoencoder itself
            terms["lpips"] = metrics.load_backbone("st-alex", str(x.device))(decoded[half], x[half]).mean()
        terms["kl"] = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        return terms["l1"] + terms["l2"] + LAMBDA_LPIPS * terms.get("lpips", 0) + LAMBDA_KL * terms["kl"], terms

    net = Autoencoding(vae.to(memory_format=torch.channels_last))
    return train.fit(net, images, config, objective, torch.ones(1), identity={"images": image_print(images)})


def set_scale(vae: AutoencoderKL, images: Tensor) -> float:
    """Store the factor that gives these images' latents unit variance in the VAE's config, and return it."""
    vae.register_to_config(scaling_factor=1.0)
    factor = round(1 / float(latent.encode(vae, images).std()), 5)
    vae.register_to_config(scaling_factor=factor)
    return factor


def train_unet(latents: Tensor, token_ids: Tensor, config: pretrain.PretrainConfig, text_encoder: CLIPTextModel, unet: UNet2DConditionModel,
               a_bar: Tensor, given: dict[str, str] | None = None) -> Iterator[train.Step]:
    """Train text encoder and U-Net together on latents (n,C,r,r) and token ids (n,K,L) of their captions: L_simple, weighted as
    :func:`dslib.pretrain.pretrain` does. ``step.averaged()`` holds the result's ``text_encoder`` and ``unet``. given: fingerprints
    of what the latents were made of; latents themselves differ in the last digit from device to device."""
    a_bar = a_bar.clone()

    def objective(net, x_0, t, eps, ids):
        here = a_bar.to(t.device)
        error = net(ddpm.q_sample(x_0, t, eps, a_bar), t, ids) - ddpm.target(x_0, eps, t, here, config.prediction_type)
        return pretrain.weighted_error(error, t, here, config)

    net = Captioned(text_encoder, unet.to(memory_format=torch.channels_last))
    return train.fit(net, latents, config, objective, a_bar, {"ids": token_ids}, (given or {}) | {"captions": fingerprint(token_ids)})


def go_on_from(theirs: list[torch.nn.Module], new: list[torch.nn.Module], name: str) -> None:
    """Give new networks the weights of others: training begins there. name: whose. Raises UserError where the shapes differ."""
    for network, other in zip(new, theirs):
        try:
            network.load_state_dict(other.state_dict())
        except RuntimeError as error:
            raise UserError(f"{name} is of another shape than what is to be trained: {first_line(error)}") from None
