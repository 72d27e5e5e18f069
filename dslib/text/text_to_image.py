"""Adapt a text-to-image source to about ten images: DreamBooth, Textual Inversion and DomainStudio (chapter 09)."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from torch import Tensor
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from .. import ddpm, domainstudio, sample, train
from ..base.bank import Bank
from ..base.errors import UserError
from ..base.identity import image_print, of_run
from ..base.knobs import knob
from ..base.micro import in_parts
from . import captions, latent, wording

#: AdamW's step size where none is given: one word's vector takes far larger steps than a U-Net
LEARNING_RATE = {"dreambooth": 5e-4, "domainstudio": 5e-4, "textual-inversion": 2e-2, "lora": 2e-3}
CHECKPOINT_FROM = 32   # latents larger than this a side are decoded with checkpointing: from images of 512×512 on


@dataclass(kw_only=True)
class TextConfig(train.TrainConfig):
    """A fine-tuning run with words: its own methods, each with its own step size."""
    method: str = knob("domainstudio", "dreambooth, textual-inversion or domainstudio", choices=lambda: METHODS)
    learning_rate: float | None = knob(None, "AdamW's step size; default: by method", "positive", kind=float)
    lora_rank: int = knob(0, "train matrices of this rank beside the attention's (LoRA) instead of the whole U-Net; 0: the whole U-Net",
                          "least_zero")

    def check(self):
        """As :meth:`dslib.train.TrainConfig.check`, with the methods that take a text-to-image source."""
        if self.method not in METHODS:
            raise UserError(f"--method is {self.method!r}: a text-to-image source takes one of {', '.join(METHODS)}")
        return super().check()

    def rated(self) -> "TextConfig":
        """The same with a step size: the method's own unless one was given."""
        word = "lora" if self.lora_rank and self.method != "textual-inversion" else self.method
        return self if self.learning_rate is not None else replace(self, learning_rate=LEARNING_RATE[word])


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
            raise UserError(f"{option} is empty: use words such as 'a face in {rare} style' and 'a face'")
        tokens, most = pipe.tokenizer(prompt, truncation=False, verbose=False).input_ids, pipe.tokenizer.model_max_length
        if len(tokens) > most:
            kept = pipe.tokenizer.decode(tokens[1:most - 1])
            raise UserError(f"{option} takes {len(tokens)} tokens and {most} fit: it would be cut to '{kept.strip()}'")
    if rare not in instance_prompt.lower().split():
        raise UserError(f"--instance_prompt {instance_prompt!r} lacks the rare word {rare!r}: say 'a face in {rare} style', for instance")
    if rare in class_prompt.lower().split():
        raise UserError(f"--class_prompt {class_prompt!r} holds the rare word {rare!r}: it must name the class alone, such as 'a face'")
    return pipe.tokenizer.convert_tokens_to_ids(pipe.tokenizer.tokenize(rare))[0]


def rare_word(prompt: str) -> str:
    """The first word of ``captions.RARE`` in a prompt, or the one that examples use."""
    return next((word for word in captions.RARE if word in prompt.lower().split()), captions.RARE[0])


def prior_latents(pipe: StableDiffusionPipeline, class_prompt: str, n: int = 200, guidance_scale: float = 3.0, seed: int = 0,
                  prompts: list[str] | None = None) -> Tensor:
    """What the source itself draws for the class: latents (n,C,r,r) of n images, made once and kept. prompts: n, one for each image."""
    noise = sample.start_noise(n, pipe.unet.config.sample_size, seed, pipe.unet.config.in_channels)
    return latent.encode(pipe.vae, latent.draw(pipe, prompts or [class_prompt] * n, noise, guidance_scale, progress="prior images"))


class Subject(NamedTuple):
    """Who is learned beside a style (chapter 10)."""
    images: Tensor          # (m,3,R,R) in [-1,1]: one person
    prompt: str             # with a rare word of its own, "a face of zwx"


class Start(NamedTuple):
    """What a method starts from: everything that its objective needs, computed once."""
    source: StableDiffusionPipeline
    images: Tensor                      # (n,3,R,R) in [-1,1]
    latents: Tensor                     # (n,C,r,r)
    prompts: tuple[str, str]            # P_tar and P_sou
    prior: Tensor | None                # (m,C,r,r)
    subject: Subject | None
    config: TextConfig
    asked: list[list[wording.Asked]] | None = None      # prompts of every image with each companion, where they differ


def adapt(source: StableDiffusionPipeline, images: Tensor, config: TextConfig, instance_prompt: str, class_prompt: str,
          prior: Tensor | None = None, subject: Subject | None = None, texts: list[str] | None = None,
          prior_prompts: list[str] | None = None) -> Iterator[train.Step]:
    """Adapt a copy of the source to images (n,3,R,R) and yield a :class:`dslib.train.Step` after every update.

    config.method: ``dreambooth`` and ``domainstudio`` train the U-Net, or with ``lora_rank`` small matrices beside its
    attention's; ``textual-inversion`` trains one word's vector. All else is frozen, so text embeddings and latents are computed
    once. prior: latents (m,C,r,r) of the class, m ≥ n, needed by the first two: every image gets m // n of them as companions.
    subject: one person to learn at the same time, who gets no term but L_simple. texts: a caption for each image, and prior_prompts:
    what each prior picture was drawn from; by default the instance prompt and the class prompt (:mod:`dslib.text.wording`). With
    ``pairwise_on`` "source" L_img and L_hf compare the noised prior pictures, under their own prompts (an extension). :func:`adapted`
    turns the last step into a pipeline. Raises UserError before the first step if anything does not fit.
    """
    config = config.check().rated()
    check_prompts(source, instance_prompt, class_prompt, rare_word(instance_prompt))
    check_fits(images, config, prior, subject)
    asked = asked_of(source, len(images), config, instance_prompt, class_prompt, prior, texts, prior_prompts)
    start = Start(source, images, latent.encode(source.vae, images), (instance_prompt, class_prompt), prior, subject, config, asked)
    net, objective, given = METHODS[config.method](start)
    a_bar = source.scheduler.alphas_cumprod.clone()
    identity = of_run(images, a_bar, source.unet, source.vae, source.text_encoder, prompts="\n".join(prompts_of(start)))
    if subject is not None:
        identity["subject"] = image_print(subject.images)
    return train.fit(net, start.latents, config, objective, a_bar, given, identity)


def prompts_of(start: Start) -> list[str]:
    """P_tar and P_sou, the subject's prompt if there is one, and all others."""
    others = [prompt for row in start.asked or [] for one in row for prompt in one]
    return [*start.prompts] + ([start.subject.prompt] if start.subject is not None else []) + others


def asked_of(source: StableDiffusionPipeline, n: int, config: TextConfig, instance_prompt: str, class_prompt: str, prior: Tensor | None,
             texts: list[str] | None, prior_prompts: list[str] | None) -> list[list[wording.Asked]] | None:
    """The prompts of n images and their companions, or None where all have the same. Raises UserError where they do not fit."""
    if texts is None and prior_prompts is None:
        return None
    if config.pairwise_variant == "authors":
        raise UserError("captions and prior prompts need --pairwise_variant paper")
    drawn = [class_prompt] * (n if prior is None else len(prior)) if prior_prompts is None else prior_prompts
    if texts is not None and len(texts) != n or prior is not None and len(drawn) != len(prior):
        raise UserError(f"{n if texts is None else len(texts)} captions for {n} images, {len(drawn)} prompts for "
                        f"{0 if prior is None else len(prior)} prior images: give one for each")
    rare = rare_word(instance_prompt)
    asked = wording.asked(texts or [instance_prompt] * n, drawn, instance_prompt, class_prompt, rare)
    wording.check_fit(source, list(dict.fromkeys(prompt for row in asked for one in row for prompt in one)), "the prompt")
    return asked


def dreambooth(start: Start):
    """A copy of the U-Net, L_simple and prior preservation (Ruiz et al. 2023): (network, objective, companions)."""
    texts, known, rows = texts_of(start)

    def objective(net, z_0, t, eps, prior, subject=None, rows=None):
        here = chosen(texts, rows).to(z_0.device), a_bar.to(z_0.device), start.config
        return dreambooth_loss(in_parts(net, start.config.micro_batch_size), None, None, z_0, prior, t, eps, *here, subject, None, kind)

    a_bar, kind = start.source.scheduler.alphas_cumprod.clone(), ddpm.prediction_type_of(start.source.scheduler)
    return trainable(start), objective, companions(len(start.images), start.prior, known) | rows


def domainstudio_with_words(start: Start):
    """The same, with the pairwise and wavelet terms of DomainStudio §2; with ``bank_steps`` the frozen source's answers are kept."""
    texts, known, rows = texts_of(start)
    source, config, a_bar = start.source, start.config, start.source.scheduler.alphas_cumprod.clone()
    frozen, vae = (copy.deepcopy(part).requires_grad_(False).eval() for part in (source.unet, source.vae))
    kind = ddpm.prediction_type_of(source.scheduler)
    frozen = Bank(frozen) if config.bank_steps else frozen

    def objective(net, z_0, t, eps, prior, image, subject=None, rows=None):
        here, net = (chosen(texts, rows).to(z_0.device), a_bar.to(z_0.device), config), in_parts(net, config.micro_batch_size)
        if config.pairwise_variant == "authors":
            return authors_loss(net, vae, z_0, prior, t, eps, *here, image, kind)
        return dreambooth_loss(net, frozen, vae, z_0, prior, t, eps, *here, subject, image, kind)

    given = companions(len(start.images), start.prior, known)
    decoded = decode_once(vae, start.latents)[:, None].expand(-1, given["prior"].shape[1], -1, -1, -1)
    return trainable(start), objective, given | {"image": decoded} | rows


def textual_inversion(start: Start):
    """One word's vector (Gal et al. 2022): everything else is frozen."""
    token = check_prompts(start.source, *start.prompts, rare_word(start.prompts[0]))
    net, objective = new_word(start.source, *start.prompts, token, start.source.scheduler.alphas_cumprod.clone())
    if start.asked is None:
        return net, objective, None
    return net, objective, {"ids": captions.token_ids(start.source.tokenizer, [row[0].target for row in start.asked])[:, None]}


#: ``--method``: a word → start(Start) → (network to train, objective, companions)
METHODS = {"dreambooth": dreambooth, "textual-inversion": textual_inversion, "domainstudio": domainstudio_with_words}


def texts_of(start: Start) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
    """(embedded prompts (P,L,width), the subject's latents or None, which of the prompts each image and companion has).

    Where all have the same, these are P_tar, P_sou and the subject's, and the last is empty; else {"rows": (n,K,4 or 5)}: by
    :class:`dslib.text.wording.Asked`, then the subject's.
    """
    prompts, known, subject = list(start.prompts), None, start.subject
    if subject is not None:
        check_prompts(start.source, subject.prompt, start.prompts[1], rare_word(subject.prompt))
        if rare_word(subject.prompt) == rare_word(start.prompts[0]):
            raise UserError(f"--subject_prompt and --instance_prompt share the rare word {rare_word(subject.prompt)!r}: give each its "
                            f"own, {' and '.join(captions.RARE)} for instance")
        prompts, known = [*prompts, subject.prompt], latent.encode(start.source.vae, subject.images)
    if start.asked is None:
        return latent.embed(start.source, prompts), known, {}
    place = {prompt: i for i, prompt in enumerate(dict.fromkeys(prompts_of(start)))}
    last = [] if subject is None else [place[subject.prompt]]
    rows = torch.tensor([[[place[prompt] for prompt in one] + last for one in row] for row in start.asked])
    return latent.embed(start.source, list(place)), known, {"rows": rows}


def chosen(texts: Tensor, rows: Tensor | None) -> Tensor:
    """The words of a batch: ``texts`` (2 or 3,L,width) themselves, or those that ``rows`` (N,4 or 5) name of many: (4 or 5,N,L,width)."""
    return texts if rows is None else texts.to(rows.device)[rows].transpose(0, 1)


def by_role(texts: Tensor, n: int) -> dict[str, Tensor]:
    """What n images are asked with, (n,L,width) each: "simple": the training image, "source": the source about it, "prior": a prior
    picture, "anchor": the same in the new style, "subject" if there is one. texts: (2 or 3,L,width), or (4 or 5,n,L,width)."""
    if texts.dim() == 3:
        target, source, *subject = texts[:, None].expand(-1, n, -1, -1)
        texts = [target, source, source, target, *subject]
    return dict(zip(("simple", "source", "prior", "anchor", "subject"), texts))


def trainable(start: Start) -> UNet2DConditionModel:
    """A copy of the source's U-Net that takes gradients, in small matrices alone if the settings say so."""
    unet = copy.deepcopy(start.source.unet).requires_grad_(True)
    if start.config.lora_rank:
        add_lora(unet, start.config.lora_rank, start.config.seed)
    return unet


def check_fits(images: Tensor, config: TextConfig, prior: Tensor | None, subject: Subject | None) -> None:
    """Raise a UserError with the mend if method, images, batch and prior images do not go together."""
    least = domainstudio.least_batch(replace(config, pairwise_on="target"))        # whole batches of either are compared
    if config.method == "domainstudio" and min(len(images), config.train_batch_size) < least:
        raise UserError(f"domainstudio compares images in pairs: give at least {least} images and a --train_batch_size of {least}")
    if len(images) < config.train_batch_size:
        raise UserError(f"--train_batch_size is {config.train_batch_size} and there are {len(images)} images: use at most that many")
    if config.micro_batch_size and config.train_batch_size % config.micro_batch_size:
        raise UserError(f"--micro_batch_size {config.micro_batch_size} does not divide the batch of {config.train_batch_size}")
    if config.method == "textual-inversion":
        if subject is not None or config.lora_rank or config.micro_batch_size:
            raise UserError("textual-inversion trains one word's vector: a subject, --lora_rank or --micro_batch_size needs dreambooth or "
                            "domainstudio")
    elif prior is None or len(prior) < len(images):
        raise UserError(f"{0 if prior is None else len(prior)} prior images for {len(images)} images: draw at least as many")
    if config.pairwise_on == "source" and config.pairwise_variant == "authors":
        raise UserError("--pairwise_on source needs --pairwise_variant paper")
    if subject is not None and (config.pairwise_variant == "authors" or not len(subject.images)):
        raise UserError("a subject needs at least one image and --pairwise_variant paper")


def companions(n: int, prior: Tensor, subject: Tensor | None = None) -> dict[str, Tensor]:
    """What goes with every training image: {"prior": (n,K,C,r,r)}, and "subject", as many, if there is one."""
    each = len(prior) // n
    given = {"prior": prior[:each * n]}
    if subject is not None:
        given["subject"] = subject[torch.arange(each * n) % len(subject)]
    return {name: one.view(n, each, *prior.shape[1:]) for name, one in given.items()}


def decode_once(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    """The images (n,3,R,R) that latents (n,C,r,r) decode to, a few at a time."""
    with torch.no_grad():
        return torch.cat([latent.decode(vae, part.to(vae.device)).cpu() for part in latents.split(10)])


def add_lora(unet: UNet2DConditionModel, rank: int, seed: int = 0) -> None:
    """Freeze a U-Net and put trainable matrices of a low rank beside its attention's (LoRA, Hu et al. 2022), through peft."""
    from peft import LoraConfig
    unet.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian",
                                    target_modules=["to_q", "to_k", "to_v", "to_out.0"]))


def dreambooth_loss(net, frozen, vae: AutoencoderKL, z_0: Tensor, z_prior: Tensor, t: Tensor, eps: Tensor, texts: Tensor,
                    a_bar: Tensor, config: TextConfig, z_subject: Tensor | None = None,
                    x_0: Tensor | None = None, kind: str = "epsilon") -> tuple[Tensor, dict[str, Tensor]]:
    """L_simple under P_tar + L_pr on the prior images under P_sou, in one pass of the U-Net; with a frozen source also
    λ2·L_img + λ3·L_hf + λ4·L_hfmse (DomainStudio §2), the wavelet terms on decoded images.

    z_0, z_prior, z_subject, eps: (N,C,r,r), the same t and ε for all; texts: (2 or 3,L,width): P_tar, P_sou, the subject's, or words of
    each image's own, as :func:`by_role` takes them; x_0: what z_0 decodes to, (N,3,R,R), decoded here if it is not given. kind: what the
    networks answer, ε or v. With ``pairwise_on`` "source" L_img and L_hf are those of the noised prior images (:func:`pairs`).
    """
    n, clean = len(z_0), {"simple": z_0, "prior": z_prior} | ({} if z_subject is None else {"subject": z_subject})
    anchored = frozen is not None and config.pairwise_on == "source"
    words, passed = by_role(texts, n), clean | ({"anchor": z_prior} if anchored else {})
    given = {name: ddpm.q_sample(z, t, eps, a_bar) for name, z in passed.items()}
    answers = net(torch.cat(list(given.values())), t.repeat(len(given)), torch.cat([words[name] for name in given])).sample
    answers = dict(zip(given, answers.chunk(len(given))))
    terms = {name: domainstudio.l_simple(answers[name] - ddpm.target(z, eps, t, a_bar, kind), t, a_bar, config, kind)
             for name, z in clean.items()}
    if frozen is not None:
        z_ada = {name: ddpm.guess(answers[name], given[name], t, a_bar, kind).x_0 for name in ("simple", "anchor") if name in given}
        with torch.no_grad():
            x_0 = latent.decode(vae.to(z_0.device), z_0) if x_0 is None else x_0
        asked = words["prior" if anchored else "source"]
        terms |= pairs(frozen, vae.to(z_0.device), z_ada, given["anchor" if anchored else "simple"], x_0, t, a_bar, config, asked, kind)
    return domainstudio.total(terms, config), terms


def pairs(frozen, vae: AutoencoderKL, z_ada: dict[str, Tensor], x_t: Tensor, x_0: Tensor, t: Tensor, a_bar: Tensor, config: TextConfig,
          asked: Tensor, kind: str) -> dict[str, Tensor]:
    """L_img, L_hf and L_hfmse, unweighted, against the frozen source's guess from x_t (N,C,r,r), asked with (N,L,width).

    z_ada: the adapted model's guesses of the training images, "simple", and of the prior images, "anchor", where the first two terms
    compare these: ``pairwise_on`` "source", an extension (as :func:`dslib.domainstudio.anchored_loss`, but with whole batches of both).
    """
    with torch.no_grad():
        z_sou = ddpm.guess(frozen.to(x_t.device)(x_t, t, asked).sample, x_t, t, a_bar, kind).x_0
        x_sou = frozen.remember("decode", partial(latent.decode, vae), z_sou) if isinstance(frozen, Bank) else latent.decode(vae, z_sou)
    compared = z_ada.get("anchor", z_ada["simple"])
    found = domainstudio.terms(decode_trained(vae, compared), x_sou, x_0, t, a_bar, config, latents=(compared, z_sou))
    if "anchor" in z_ada:
        found["hfmse"] = domainstudio.hfmse(decode_trained(vae, z_ada["simple"]), x_0, t, a_bar, config)
    return found


def decode_trained(vae: AutoencoderKL, z: Tensor) -> Tensor:
    """Latents (N,C,r,r) → images (N,3,R,R) with gradients. Above ``CHECKPOINT_FROM`` the decoder's activations are computed again for the
    backward pass instead of being kept: time for memory."""
    if z.shape[-1] > CHECKPOINT_FROM:
        return checkpoint(partial(latent.decode, vae), z, use_reentrant=False)
    return latent.decode(vae, z)


def authors_loss(net, vae: AutoencoderKL, z_0: Tensor, z_prior: Tensor, t: Tensor, eps: Tensor, texts: Tensor, a_bar: Tensor,
                 config: TextConfig, x_0: Tensor | None = None, kind: str = "epsilon") -> tuple[Tensor, dict[str, Tensor]]:
    """The published code's order of passes (ledger rows 1-3, 6, 7): one pass over 2N at one shared t for the pairwise terms,
    which compare the adapted model with *itself* on prior images; all 2N decoded with gradients; a second pass at fresh t."""
    n, both, vae = len(z_0), torch.cat([z_0, z_prior]), vae.to(z_0.device)
    words, shared, noise = texts.repeat_interleave(n, 0), t[:1].expand(2 * n), eps.flip(0).repeat(2, 1, 1, 1)
    x_t = ddpm.q_sample(both, shared, noise, a_bar)
    z_ada, z_own = ddpm.guess(net(x_t, shared, words).sample, x_t, shared, a_bar, kind).x_0.chunk(2)
    x_ada, x_own = latent.decode(vae, torch.cat([z_ada, z_own])).chunk(2)
    fresh, fresh_eps = t.repeat(2), eps.repeat(2, 1, 1, 1)
    errors = net(ddpm.q_sample(both, fresh, fresh_eps, a_bar), fresh, words).sample - ddpm.target(both, fresh_eps, fresh, a_bar, kind)
    with torch.no_grad():
        x_0 = latent.decode(vae, z_0) if x_0 is None else x_0
    published = replace(config, pairwise_weighting="none", pairwise_temperature=1.0)
    terms = {name: domainstudio.l_simple(error, t, a_bar, config, kind) for name, error in zip(("simple", "prior"), errors.chunk(2))}
    terms |= domainstudio.terms(x_ada, x_own, x_0, shared[:n], a_bar, published, latents=(z_ada, z_own))
    return domainstudio.total(terms, config), terms


def new_word(source: StableDiffusionPipeline, instance_prompt: str, class_prompt: str, token: int, a_bar: Tensor):
    """Textual Inversion: (the module to train, its objective). U-Net and text encoder are frozen, gradients pass through them.

    The word starts as a copy of the class prompt's last, as Gal et al. (2022) do it: "face" of "a face".
    """
    text_encoder, unet = (copy.deepcopy(part).requires_grad_(False).eval() for part in (source.text_encoder, source.unet))
    name = next(n for n, _ in text_encoder.named_parameters() if n.endswith("token_embedding.weight"))
    shared, table = captions.token_ids(source.tokenizer, [instance_prompt]), text_encoder.get_parameter(name).detach()
    kind = ddpm.prediction_type_of(source.scheduler)
    like = source.tokenizer(class_prompt, add_special_tokens=False).input_ids[-1]

    def objective(net, z_0, t, eps, ids=shared):
        text = functional_call(text_encoder.to(z_0.device), {name: net(table.to(z_0.device), token)}, (ids.to(z_0.device),))[0]
        answer = unet.to(z_0.device)(ddpm.q_sample(z_0, t, eps, a_bar), t, text.expand(len(z_0), -1, -1)).sample
        error = answer - ddpm.target(z_0, eps, t, a_bar.to(z_0.device), kind)
        simple = error.square().mean()
        return simple, {"simple": simple}

    return NewWord(table[like]), objective


def adapted(source: StableDiffusionPipeline, step: train.Step, instance_prompt: str = captions.RARE[0]) -> StableDiffusionPipeline:
    """The source's pipeline with what the last step trained, averaged weights: a new U-Net, or a new vector for the rare word."""
    trained, text_encoder, unet = step.averaged(), copy.deepcopy(source.text_encoder), source.unet
    if isinstance(trained, NewWord):
        token = source.tokenizer.convert_tokens_to_ids(source.tokenizer.tokenize(rare_word(instance_prompt)))[0]
        with torch.no_grad():
            text_encoder.get_input_embeddings().weight[token] = trained.vector
    else:
        unet = trained
        if getattr(unet, "peft_config", None):           # LoRA: the small matrices are added to the large ones, and gone
            unet.fuse_lora()
            unet.unload_lora()
    return latent.assemble(source.vae, text_encoder, source.tokenizer, unet, type(source.scheduler).from_config(source.scheduler.config))
