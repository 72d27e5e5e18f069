"""Adapt a text-to-image source to about ten images: DreamBooth, Textual Inversion and DomainStudio (chapter 09)."""

import copy
from collections.abc import Iterator

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from . import captions, ddpm, latent, losses, sample, train
from .env import UserError

LAMBDA_PRIOR = 1.0     # weight of prior preservation, DreamBooth's own


class NewWord(torch.nn.Module):
    """All that Textual Inversion trains: one word's vector (width,)."""

    def __init__(self, vector: Tensor):
        super().__init__()
        self.vector = torch.nn.Parameter(vector.detach().clone())

    def forward(self, table: Tensor, token: int) -> Tensor:
        """The table of all words' vectors (V,width) with this word's row exchanged."""
        return torch.cat([table[:token], self.vector[None], table[token + 1:]])


def check_prompts(pipe: StableDiffusionPipeline, instance_prompt: str, class_prompt: str, rare: str = captions.RARE[0]) -> int:
    """The rare word's token id, or a UserError with the mend if the two prompts cannot teach a new word."""
    for option, prompt in (("--instance_prompt", instance_prompt), ("--class_prompt", class_prompt)):
        if not prompt.strip():
            raise UserError(f"{option} is empty: use words such as 'a {rare} face' and 'a face'")
        tokens, most = pipe.tokenizer(prompt, truncation=False, verbose=False).input_ids, pipe.tokenizer.model_max_length
        if len(tokens) > most:
            kept = pipe.tokenizer.decode(tokens[1:most - 1])
            raise UserError(f"{option} takes {len(tokens)} tokens and {most} fit: it would be cut to '{kept.strip()}'")
    if rare not in instance_prompt.lower().split():
        raise UserError(f"--instance_prompt {instance_prompt!r} lacks the rare word {rare!r}: say 'a {rare} face', for instance")
    if rare in class_prompt.lower().split():
        raise UserError(f"--class_prompt {class_prompt!r} holds the rare word {rare!r}: it must name the class alone, such as 'a face'")
    return pipe.tokenizer.convert_tokens_to_ids(pipe.tokenizer.tokenize(rare))[0]


def prior_latents(pipe: StableDiffusionPipeline, class_prompt: str, n: int = 200, guidance_scale: float = 3.0, seed: int = 0) -> Tensor:
    """What the source itself draws for the class: latents (n,4,r,r) of n images, made once and kept."""
    noise = sample.start_noise(n, pipe.unet.config.sample_size, seed, pipe.unet.config.in_channels)
    return latent.encode(pipe.vae, latent.draw(pipe, [class_prompt] * n, noise, guidance_scale, progress="prior images"))


def adapt(source: StableDiffusionPipeline, images: Tensor, config: train.TrainConfig, instance_prompt: str, class_prompt: str,
          prior: Tensor | None = None) -> Iterator[train.Step]:
    """Adapt a copy of the source to images (n,3,R,R) and yield a :class:`dslib.train.Step` after every update.

    config.method: ``dreambooth`` and ``domainstudio`` train the U-Net, ``textual-inversion`` one word's vector; all else is
    frozen, so text embeddings and latents are computed once. prior: latents (m,4,r,r) of the class, m ≥ n, needed by the first
    two: every image gets m // n of them as companions. :func:`adapted` turns the last step into a pipeline. Raises UserError
    before the first step if anything does not fit.
    """
    config = config.check()
    token = check_prompts(source, instance_prompt, class_prompt)
    if config.method not in train.TEXT_METHODS:
        raise UserError(f"--method is {config.method!r}: a text-to-image source takes one of {', '.join(train.TEXT_METHODS)}")
    if config.method == "domainstudio" and min(len(images), config.train_batch_size) < 2:
        raise UserError("domainstudio compares images in pairs: give at least 2 images and a --train_batch_size of 2")
    if len(images) < config.train_batch_size:
        raise UserError(f"--train_batch_size is {config.train_batch_size} and there are {len(images)} images: use at most that many")
    latents, schedule = latent.encode(source.vae, images), source.scheduler.alphas_cumprod.clone()
    if config.method == "textual-inversion":
        word, objective = new_word(source, instance_prompt, token, schedule)
        return train.fit(word, latents, config, objective, schedule)
    if prior is None or len(prior) < len(images):
        raise UserError(f"{0 if prior is None else len(prior)} prior images for {len(images)} images: draw at least as many")
    each = len(prior) // len(images)
    texts = latent.embed(source, [instance_prompt, class_prompt])
    unet = copy.deepcopy(source.unet).requires_grad_(True)
    frozen = copy.deepcopy(source.unet).requires_grad_(False).eval() if config.method == "domainstudio" else None
    vae = copy.deepcopy(source.vae).requires_grad_(False).eval()

    def objective(net, z_0, t, eps, z_prior):
        return dreambooth_loss(net, frozen, vae, z_0, z_prior, t, eps, texts.to(z_0.device), schedule.to(z_0.device), config)

    return train.fit(unet, latents, config, objective, schedule, prior[:each * len(images)].view(len(images), each, *prior.shape[1:]))


def dreambooth_loss(net, frozen, vae: AutoencoderKL, z_0: Tensor, z_prior: Tensor, t: Tensor, eps: Tensor, texts: Tensor,
                    schedule: Tensor, config: train.TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """L_simple under P_tar + L_pr on the prior images under P_sou, in one pass of the U-Net; with a frozen source also
    λ2·L_img + λ3·L_hf + λ4·L_hfmse (DomainStudio §2), the wavelet terms on decoded images.

    z_0, z_prior, eps: (N,4,r,r), the same t and ε for both halves; texts: (2,L,width), P_tar and P_sou embedded.
    """
    n, x_t = len(z_0), ddpm.q_sample(z_0, t, eps, schedule)
    noised = torch.cat([x_t, ddpm.q_sample(z_prior, t, eps, schedule)])
    eps_ada, eps_prior = net(noised, t.repeat(2), texts.repeat_interleave(n, 0)).sample.chunk(2)
    terms = {"simple": (eps_ada - eps).square().mean(), "prior": (eps_prior - eps).square().mean()}
    if frozen is not None:
        with torch.inference_mode():
            eps_sou = frozen.to(z_0.device)(x_t, t, texts[1:].repeat_interleave(n, 0)).sample
        terms |= domainstudio_terms(vae.to(z_0.device), ddpm.predict_x0(x_t, t, eps_ada, schedule),
                                    ddpm.predict_x0(x_t, t, eps_sou.clone(), schedule), z_0, schedule[t], config)
    weights = {"simple": 1.0, "prior": LAMBDA_PRIOR}
    return sum((weights[name] if name in weights else getattr(config, f"lambda_{name}")) * value for name, value in terms.items()), terms


def domainstudio_terms(vae: AutoencoderKL, z_ada: Tensor, z_sou: Tensor, z_0: Tensor, a_bar: Tensor,
                       config: train.TrainConfig) -> dict[str, Tensor]:
    """L_img on predicted latents, L_hf and L_hfmse on what they decode to. The decoder's activations are computed again for the
    backward pass instead of being kept (checkpointing). a_bar: ᾱ_t (N,)."""
    compared = z_ada
    if config.pairwise_weighting == "sqrt_alphas_cumprod":
        compared = losses.scale_gradient(z_ada, a_bar.sqrt())
    with torch.inference_mode():
        x_sou, x_0 = latent.decode(vae, torch.cat([z_sou, z_0])).chunk(2)
    x_ada = checkpoint(lambda z: latent.decode(vae, z), z_ada, use_reentrant=False)
    seen = losses.scale_gradient(x_ada, a_bar.sqrt()) if compared is not z_ada else x_ada
    kept, options = slice(None), {}
    if config.pairwise_variant == "authors":
        kept, options = slice(3), {"direction": "sou||ada", "reduction": "mean"}
    weight = a_bar if config.hfmse_weighting == "alphas_cumprod" else None
    return {"img": losses.pairwise_kl(compared[kept], z_sou[kept], **options),
            "hf": losses.hf_pairwise_kl(seen[kept], x_sou.clone()[kept], **options),
            "hfmse": losses.hf_mse(x_ada, x_0.clone(), weight)}


def new_word(source: StableDiffusionPipeline, instance_prompt: str, token: int, schedule: Tensor):
    """Textual Inversion: (the module to train, its objective). U-Net and text encoder are frozen, gradients pass through them."""
    text_encoder, unet = (copy.deepcopy(part).requires_grad_(False).eval() for part in (source.text_encoder, source.unet))
    name = next(n for n, _ in text_encoder.named_parameters() if n.endswith("token_embedding.weight"))
    ids, table = captions.token_ids(source.tokenizer, [instance_prompt]), text_encoder.get_parameter(name).detach()

    def objective(net, z_0, t, eps):
        text = functional_call(text_encoder.to(z_0.device), {name: net(table.to(z_0.device), token)}, (ids.to(z_0.device),))[0]
        error = unet.to(z_0.device)(ddpm.q_sample(z_0, t, eps, schedule), t, text.expand(len(z_0), -1, -1)).sample - eps
        simple = error.square().mean()
        return simple, {"simple": simple}

    return NewWord(table[token]), objective


def adapted(source: StableDiffusionPipeline, step: train.Step, rare: str = captions.RARE[0]) -> StableDiffusionPipeline:
    """The source's pipeline with what the last step trained, averaged weights: a new U-Net, or a new vector for the rare word."""
    trained, text_encoder, unet = step.averaged(), copy.deepcopy(source.text_encoder), source.unet
    if isinstance(trained, NewWord):
        token = source.tokenizer.convert_tokens_to_ids(source.tokenizer.tokenize(rare))[0]
        with torch.no_grad():
            text_encoder.get_input_embeddings().weight[token] = trained.vector
    else:
        unet = trained
    return latent.assemble(source.vae, text_encoder, source.tokenizer, unet, type(source.scheduler).from_config(source.scheduler.config))
