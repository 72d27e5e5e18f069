"""Latent diffusion from text: build, load and save a Stable Diffusion small enough for a laptop, and draw with it (chapter 09)."""

import copy
import os
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from .. import data, ddpm, models, sample
from ..base import progress as bars
from ..base.device import device
from ..base.errors import UserError, first_line
from ..base.finite import check_drawn
from ..base.pixels import check_pictures
from ..base.progress import quiet
from ..base.sources import our_scheduler, square
from . import captions

PARTS = ("vae", "text_encoder", "unet")          # the folders with weights


def new_vae(resolution: int = 64, channels: tuple[int, ...] = (32, 64, 64), latent_channels: int = 4) -> AutoencoderKL:
    """An autoencoder with random weights: images (N,3,R,R) ↔ latents (N,C,R/4,R/4) with three levels of channels. 0.9 M parameters.

    Two groups a group norm, as in :func:`dslib.models.new_unet` and for the same reason: colours have to get through.
    """
    levels = len(channels)
    return AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=latent_channels, sample_size=resolution, block_out_channels=channels,
        layers_per_block=1, norm_num_groups=2, mid_block_add_attention=False, scaling_factor=1.0,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels)


def new_text_encoder(tokenizer: CLIPTokenizer, width: int = 128, layers: int = 2) -> CLIPTextModel:
    """A CLIP text transformer with random weights: token ids (N,L) → one vector of ``width`` numbers a token. 0.5 M parameters."""
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=4 * width, projection_dim=width, num_hidden_layers=layers,
        num_attention_heads=max(1, width // 32), max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id))


def new_unet(resolution: int = 16, channels: tuple[int, ...] = (64, 128), text_width: int = 128,
             latent_channels: int = 4) -> UNet2DConditionModel:
    """A U-Net over latents (N,C,R,R) that looks at a text's tokens by cross-attention, with random weights. 4.1 M parameters.

    On the way up the finest level has no attention, which saves a quarter of the time.
    """
    attended = len(channels) - 1
    return UNet2DConditionModel(
        sample_size=resolution, in_channels=latent_channels, out_channels=latent_channels, layers_per_block=1, block_out_channels=channels,
        norm_num_groups=min(4, channels[0] // 16), cross_attention_dim=text_width, attention_head_dim=4,       # 4 heads, despite its name
        down_block_types=("CrossAttnDownBlock2D",) * len(channels), mid_block_type="UNetMidBlock2DCrossAttn",
        up_block_types=("CrossAttnUpBlock2D",) * attended + ("UpBlock2D",))


def new_scheduler(prediction_type: str = "epsilon") -> DDIMScheduler:
    """Stable Diffusion's a_bar, its last β raised from 0.012 to 0.02: then nothing of a picture's colour is left at T.

    At 0.012 the mean of a 16×16 latent still shows through the noise at T, and pictures drawn from pure noise come out grey.
    """
    return DDIMScheduler(num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.02,
                         prediction_type=prediction_type, clip_sample=False, steps_offset=1, timestep_spacing="trailing")


def assemble(vae: AutoencoderKL, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer, unet: UNet2DConditionModel,
             scheduler: DDIMScheduler | None = None) -> StableDiffusionPipeline:
    """The parts as an ordinary pipeline, without a safety checker: it draws cartoon faces. Raises UserError if they do not fit."""
    pipe = StableDiffusionPipeline(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, feature_extractor=None,
                                   scheduler=scheduler or new_scheduler(), safety_checker=None, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return check_parts(pipe, "the pipeline")


def check_parts(pipe: StableDiffusionPipeline, name: str | Path) -> StableDiffusionPipeline:
    """The pipeline itself, or a UserError if its parts cannot work together."""
    unet, vae, text = pipe.unet.config, pipe.vae.config, pipe.text_encoder.config
    if unet.in_channels != vae.latent_channels:
        raise UserError(f"{name}: the U-Net takes {unet.in_channels} channels and the VAE makes {vae.latent_channels}: they are not of "
                        "one model")
    if unet.cross_attention_dim != text.hidden_size:
        raise UserError(f"{name}: the U-Net attends to vectors of {unet.cross_attention_dim} numbers and the text encoder makes "
                        f"{text.hidden_size}: they are not of one model")
    if len(pipe.tokenizer) > text.vocab_size or pipe.tokenizer.model_max_length > text.max_position_embeddings:
        raise UserError(f"{name}: the tokenizer has {len(pipe.tokenizer)} tokens in {pipe.tokenizer.model_max_length} places, the text "
                        f"encoder {text.vocab_size} in {text.max_position_embeddings}: they are not of one model")
    try:
        ddpm.prediction_type_of(pipe.scheduler)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    return pipe


def load_pipeline(source: str | Path) -> StableDiffusionPipeline:
    """A text-to-image pipeline in float32, frozen, on the device at hand, from a folder or a hub id ``owner/name``; safetensors only.

    Raises UserError with the mend: nothing there, another kind of model, pickled weights, parts that do not fit.
    """
    with quiet(transformers_logging):
        pipe = models.open_pipeline(source, StableDiffusionPipeline, PARTS)
    square(check_parts(pipe, source).unet, source)
    our_scheduler(pipe.scheduler, source)           # says so where its noise is none of ours; the pipeline keeps its own
    for part in PARTS:
        getattr(pipe, part).float().eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device())


def save_pipeline(pipe: StableDiffusionPipeline, folder: str | Path, half: bool = False) -> Path:
    """Save an ordinary pipeline folder, safetensors inside, and the tokenizer's vocab.json and merges.txt. half: float16 weights."""
    networks = {part: getattr(pipe, part) for part in PARTS}
    if half:
        networks = {part: copy.deepcopy(network).half() for part, network in networks.items()}
    scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config)
    with quiet(transformers_logging):
        folder = models.write_pipeline(assemble(**networks, tokenizer=pipe.tokenizer, scheduler=scheduler), Path(folder))
    pipe.tokenizer.backend_tokenizer.model.save(str(folder / "tokenizer"))
    return folder


def save_vae(vae: AutoencoderKL, folder: str | Path) -> Path:
    """Save an autoencoder's folder, float16 safetensors, whole or not at all."""
    folder = Path(folder)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    copy.deepcopy(vae).half().save_pretrained(part, safe_serialization=True)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
    return folder


def load_vae(folder: str | Path) -> AutoencoderKL:
    """The autoencoder that ``dslib pretrain-t2i --stage vae`` saved, in float32. Raises UserError with the mend."""
    if not (Path(folder) / "config.json").is_file():
        raise UserError(f"{folder} holds no autoencoder: make one with 'dslib pretrain-t2i --stage vae' and give its vae folder")
    try:
        logging.disable_progress_bar()
        vae = AutoencoderKL.from_pretrained(str(folder), use_safetensors=True)
    except Exception as error:      # whatever a damaged config or file makes diffusers raise is about this folder
        raise UserError(f"{folder} could not be opened as an AutoencoderKL: {first_line(error)}") from None
    finally:
        logging.enable_progress_bar()
    return vae.float().eval().requires_grad_(False)


@torch.no_grad()
def lengthen_rare_words(text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer) -> None:
    """Make the vectors of the words that no caption uses (``captions.RARE``) as long as the vocabulary's longest; directions stay.

    Training never touched them: random, and shorter than those of words that mean something. A U-Net hardly hears them then, and
    learns "a face in sks style" and "a face of zwx" as one prompt (chapter 10).
    """
    table = text_encoder.get_input_embeddings().weight
    longest = table.norm(dim=1).max()
    for row in tokenizer.convert_tokens_to_ids([f"{word}</w>" for word in captions.RARE]):
        table[row] *= longest / table[row].norm()


# ------------------------------------------------------------------------------------- pictures, latents and words

@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor, batch_size: int = 64, progress: str | None = None) -> Tensor:
    """Images (N,3,R,R), uint8 or in [-1,1] → latents (N,C,R/4,R/4) of about unit variance: the posterior's mean, scaled."""
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    if images.shape[-1] % factor or images.shape[-2] % factor:
        raise UserError(f"images of {images.shape[-2]}×{images.shape[-1]} pixels do not fit the VAE: use a multiple of {factor}")
    parts = bars.progress(check_pictures(images).split(batch_size), desc=progress, shown=progress is not None, leave=False)
    latents = [vae.encode(data.to_float(part).to(vae.device)).latent_dist.mean.cpu() for part in parts]
    return torch.cat(latents) * vae.config.scaling_factor


def decode(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """Latents (N,C,r,r) → images (N,3,R,R) in about [-1,1]; gradients pass."""
    return vae.decode(latents / vae.config.scaling_factor).sample


@torch.no_grad()
def embed(pipe: StableDiffusionPipeline, prompts: list[str]) -> Tensor:
    """Prompts → one vector a token, (N, positions, width)."""
    return pipe.text_encoder(captions.token_ids(pipe.tokenizer, prompts).to(pipe.text_encoder.device))[0]


def draw(pipe: StableDiffusionPipeline, prompts: list[str], noise: Tensor, guidance_scale: float = 3.0, num_inference_steps: int = 20,
         batch_size: int = 50, progress: str | None = None) -> Tensor:
    """One image a prompt from start noise (N,C,r,r): (N,3,R,R) in [-1,1], on the CPU. The same noise: the same composition."""
    if len(prompts) != len(noise):
        raise UserError(f"{len(prompts)} prompts and noise for {len(noise)} images: give one for each")
    done = []
    for start in bars.progress(range(0, len(noise), batch_size), desc=progress, shown=progress is not None, leave=False):
        part = slice(start, start + batch_size)
        images = pipe(prompts[part], latents=noise[part].to(pipe.device, pipe.unet.dtype), guidance_scale=guidance_scale,
                      num_inference_steps=num_inference_steps, output_type="pt").images
        done.append(check_drawn(2 * images.float().cpu() - 1))
    return torch.cat(done)


def sheet(pipe: StableDiffusionPipeline, prompts: list[str], columns: int = 3, guidance_scale: float = 3.0, num_inference_steps: int = 20,
          seed: int = 0) -> Tensor:
    """Every prompt drawn from the same few noises: (prompts, columns, 3, R, R) in [-1,1]."""
    noise = sample.start_noise(columns, pipe.unet.config.sample_size, seed, pipe.unet.config.in_channels)
    return torch.stack([draw(pipe, [prompt] * columns, noise, guidance_scale, num_inference_steps) for prompt in prompts])


@torch.no_grad()
def draw_composed(pipe: StableDiffusionPipeline, prompt: str, towards: str, away: str, noise: Tensor, guidance_scale: float = 3.0,
                  num_inference_steps: int = 20) -> Tensor:
    """One image a start noise (N,C,r,r) along two directions added up: from the empty prompt to ``prompt``, from ``away`` to ``towards``.

    Composed guidance (Liu et al. 2022) whose second direction starts at a prompt: our extension. Returns (N,3,R,R) in [-1,1], on the
    CPU.
    """
    z, scheduler = noise.to(pipe.device, pipe.unet.dtype), type(pipe.scheduler).from_config(pipe.scheduler.config)
    texts = [text.expand(len(z), -1, -1) for text in embed(pipe, ["", prompt, away, towards]).split(1)]
    scheduler.set_timesteps(num_inference_steps)
    for t in scheduler.timesteps:
        empty, given, start, end = (pipe.unet(scheduler.scale_model_input(z, t), t, text).sample for text in texts)
        z = scheduler.step(empty + guidance_scale * (given - empty + end - start), t, z).prev_sample
    return check_drawn(decode(pipe.vae, z).float().cpu().clamp(-1, 1))


def attention_maps(pipe: StableDiffusionPipeline, prompt: str, noise: Tensor, guidance_scale: float = 3.0,
                   num_inference_steps: int = 20) -> tuple[Tensor, list[tuple[str, Tensor]]]:
    """Where each word of a prompt looks while pictures are drawn from noises (N,C,r,r), all in one batch.

    Returns the pictures (N,3,R,R) and for every token, start and first end included, (token, map (r,r)): the share of attention
    that each place pays it, averaged over pictures, heads, steps and the finest layers. At every place all tokens' shares add up to one.
    """
    found = []

    def listen(module, args, kwargs):
        q, k = module.to_q(args[0]), module.to_k(kwargs["encoder_hidden_states"])
        shares = module.get_attention_scores(module.head_to_batch_dim(q), module.head_to_batch_dim(k))
        found.append(shares[-module.heads * len(noise):].mean(0).cpu())   # of a batch of two halves, the second has the prompt

    layers = [layer for name, layer in pipe.unet.named_modules() if name.endswith("attn2")]
    hooks = [layer.register_forward_pre_hook(listen, with_kwargs=True) for layer in layers]
    try:
        images = draw(pipe, [prompt] * len(noise), noise, guidance_scale, num_inference_steps, batch_size=len(noise))
    finally:
        for hook in hooks:
            hook.remove()
    finest = max(len(one) for one in found)
    shares = torch.stack([one for one in found if len(one) == finest]).mean(0).view(*noise.shape[-2:], -1)     # (r,r,positions)
    ids = pipe.tokenizer(prompt, truncation=True).input_ids
    words = [pipe.tokenizer.decode([i]).strip() or pipe.tokenizer.convert_ids_to_tokens(i) for i in ids]
    return images, [(word, shares[..., k]) for k, word in enumerate(words)]
