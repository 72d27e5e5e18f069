"""The one training loop: pre-training, naive fine-tuning and DomainStudio (chapters 02, 03 and 06)."""

import copy
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from diffusers import DDPMPipeline, UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor

from . import data, ddpm, env, losses, views
from .base.images import check_pictures
from .env import UserError
from .resume import restore, save_checkpoint

METHODS = ("scratch", "finetune", "domainstudio")
TEXT_METHODS = ("dreambooth", "textual-inversion", "domainstudio")      # dslib/text_to_image.py


@dataclass
class TrainConfig:
    """Every knob of a run, under diffusers' flag names. ``check()`` says what is wrong with a setting."""
    method: str = "domainstudio"          # scratch | finetune | domainstudio
    max_train_steps: int = 600            # for ten images of 64×64: naive fine-tuning copies by then
    train_batch_size: int = 10            # capped at the number of images
    learning_rate: float = 5e-4           # the paper's 1e-4 goes with 3000 to 5000 steps
    lr_warmup_steps: int = 0
    lr_decay_steps: int = 0               # linear fall to zero over the last so many steps
    lambda_img: float = 0.3               # λ2, pairwise similarity of x̃_0
    lambda_hf: float = 0.3                # λ3, pairwise similarity of hf(x̃_0)
    lambda_hfmse: float = 0.5             # λ4, high-frequency reconstruction
    lambda_vlb: float = 0.001             # λ1, only for a model that predicts its variance
    pairwise_variant: str = "paper"       # paper | authors (KL(sou‖ada), mean, three images: ledger rows 1-3)
    pairwise_weighting: str = "sqrt_alphas_cumprod"  # sqrt_alphas_cumprod (of the gradient) | none (as published)
    hfmse_weighting: str = "alphas_cumprod"  # alphas_cumprod | none (as published: ledger row 9)
    pairwise_direction: str = "ada||sou"  # ada||sou | sou||ada: which way round KL is
    pairwise_temperature: float = 1.0     # of the softmax over the other images
    pairwise_space: str = "pixels"        # pixels | centred | features: what L_img compares
    pairwise_t_min: int = 0               # the pairwise terms pull at steps t_min ≤ t < t_max alone
    pairwise_t_max: int = 1000
    detail: str = "haar"                  # haar | stacked | haar_level_2 | db2 | pixels: what L_hf and L_hfmse look at
    bank_steps: int = 0                   # draw the same noise again after so many steps; 0: never
    lora_rank: int = 0                    # text-to-image only: train matrices of this rank beside the attention's; 0: whole U-Net
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    ema_max_decay: float = 0.99           # with warm-up 1 − (1+step)^(−ema_power)
    ema_power: float = 0.75
    random_flip: bool = False
    snr_gamma: float | None = None        # min-SNR-γ, pre-training only
    lambda_coarse: float = 0.0            # weight of the coarse scales of the error, pre-training only
    high_noise_weight: float = 1.0        # how much more steps near T count, pre-training only
    mixed_precision: str = "no"           # no | fp16 | bf16
    seed: int = 0
    output_dir: str | None = None         # where checkpoints go
    checkpointing_steps: int = 0          # 0: none but on Ctrl-C
    checkpoints_total_limit: int = 2
    resume_from_checkpoint: str | None = None  # a folder, or "latest"

    def check(self) -> "TrainConfig":
        """Return self, or raise UserError naming the first impossible setting and its mend."""
        choices = {"method": dict.fromkeys(METHODS + TEXT_METHODS), "pairwise_variant": ("paper", "authors"),
                   "pairwise_weighting": ("sqrt_alphas_cumprod", "none"),
                   "hfmse_weighting": ("alphas_cumprod", "none"), "mixed_precision": ("no", "fp16", "bf16"),
                   "pairwise_direction": ("ada||sou", "sou||ada"), "pairwise_space": views.SPACES, "detail": views.DETAILS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UserError(f"--{name} is {getattr(self, name)!r}: use one of {', '.join(allowed)}")
        for name in ("max_train_steps", "train_batch_size", "learning_rate", "max_grad_norm", "checkpoints_total_limit", "snr_gamma",
                     "high_noise_weight", "pairwise_temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UserError(f"--{name} is {value}: it must be a positive number")
        for name in ("lambda_img", "lambda_hf", "lambda_hfmse", "lambda_vlb", "lambda_coarse", "lr_warmup_steps", "lr_decay_steps",
                     "adam_weight_decay", "ema_power", "checkpointing_steps", "pairwise_t_min", "bank_steps", "lora_rank"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"--{name} is {getattr(self, name)}: it must be zero or a positive number")
        for name in ("adam_beta1", "adam_beta2", "ema_max_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}: it must be at least 0 and below 1")
        if self.pairwise_t_max <= self.pairwise_t_min:
            raise UserError(f"--pairwise_t_max {self.pairwise_t_max} is not above --pairwise_t_min {self.pairwise_t_min}: no step is left")
        if not 0 <= self.seed < 10**9:
            raise UserError(f"--seed is {self.seed}: use 0 to 999999999")
        if self.checkpointing_steps and not self.output_dir:
            raise UserError("--checkpointing_steps needs --output_dir, the folder to write them to")
        if self.resume_from_checkpoint == "latest" and not self.output_dir:
            raise UserError("--resume_from_checkpoint latest needs --output_dir, the folder that holds the checkpoints")
        return self


@dataclass
class Step:
    """What one optimiser step reports. Tensors are detached and 0-dim: ``float()`` them when you need a number."""
    step: int                    # 1, 2, … max_train_steps
    loss: Tensor                 # the weighted total that was minimised
    terms: dict[str, Tensor]     # each unweighted term by name
    lr: float
    seconds: float               # wall-clock time of this step
    model: UNet2DModel           # being trained: its weights go on changing
    ema: EMAModel = field(repr=False)
    optimizer: torch.optim.Optimizer = field(repr=False)

    def averaged(self) -> UNet2DModel:
        """A copy of the model that holds the averaged weights: the one to sample from."""
        unet = copy.deepcopy(self.model)
        for wrapper in ("forward", "_original_forward"):    # accelerate's mixed precision stays with the training model
            unet.__dict__.pop(wrapper, None)
        self.ema.copy_to(unet.parameters())
        return unet.eval()


def lr_factor(step: int, config: TrainConfig) -> float:
    """Linear warm-up, flat, then a linear fall to zero over the last ``lr_decay_steps``. In [0, 1]."""
    warm = min(1.0, (step + 1) / config.lr_warmup_steps) if config.lr_warmup_steps else 1.0
    left = config.max_train_steps - step
    return warm * (min(1.0, left / config.lr_decay_steps) if config.lr_decay_steps else 1.0)


def batch_indices(step: int, n: int, batch: int, seed: int) -> Tensor:
    """Which images make batch number ``step``: epochs of fresh permutations, laid end to end. (batch,) integers."""
    first = step * batch
    epochs = range(first // n, (first + batch - 1) // n + 1)
    stream = torch.cat([torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + e)) for e in epochs])
    return stream[first % n:first % n + batch]


def flip(x_0: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    coin = torch.rand(len(x_0), 1, 1, 1, generator=generator, device=x_0.device) < 0.5
    return torch.where(coin, x_0.flip(-1), x_0)


def snr_weight(alphas_cumprod: Tensor, t: Tensor, gamma: float) -> Tensor:
    """Min-SNR-γ (Hang et al. 2023) for ε-prediction: min(SNR, γ)/SNR, one weight an image (N,)."""
    a = alphas_cumprod[t]
    snr = a / (1 - a)
    return snr.clamp(max=gamma) / snr


def noise_weight(alphas_cumprod: Tensor, t: Tensor, most: float) -> Tensor:
    """0.1/SNR between 1 and ``most``, one weight an image (N,): 1 up to t = 480 of the linear schedule, ``most`` near T.

    There the loss is smallest, because the picture *is* noise, and its gradient is drowned by the other steps'; yet an
    error there is magnified most in x̃_0, and decides a sample's colours.
    """
    a = alphas_cumprod[t]
    return (0.1 * (1 - a) / a).clamp(1.0, max(most, 1.0))


def coarse_error(error: Tensor) -> Tensor:
    """Σ_s s·mean (block mean of the error, s×s)², s = 2, 4, 8 … : (N,C,H,W) → (N,).

    ε is white: over blocks of s×s its mean has variance 1/s², so the plain loss hardly sees it. Near t = T nothing
    else tells the colour of a picture. After the multiscale loss of Hoogeboom et al. 2023 (simple diffusion, §3.3).
    """
    total, scale = torch.zeros(len(error), device=error.device), 1
    while error.shape[-1] % 2 == 0:
        error, scale = F.avg_pool2d(error, 2), 2 * scale
        total = total + scale * error.square().mean(dim=(1, 2, 3))
    return total


def new_accelerator(mixed_precision: str) -> Accelerator:
    """An Accelerator; accelerate keeps the first one's precision for good, which a notebook may want to change."""
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != mixed_precision:
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=mixed_precision)


def fit(model: UNet2DModel, images: Tensor, config: TrainConfig, objective, schedule: Tensor,
        companions: Tensor | None = None) -> Iterator[Step]:
    """Run the optimiser and yield a :class:`Step` after every update.

    images: (n,3,R,R), float in [-1,1] or uint8, kept on the CPU (or latents); objective(model, x_0, t, eps) returns
    (loss, terms); schedule: alphas_cumprod (T,); companions: (n,K,…), K things that go with every image, such as wordings of
    its caption: one is drawn each time and given to the objective as a fifth argument (N,…). The random numbers of a step
    depend on (seed, step) alone, so a resumed run goes on exactly as the uninterrupted one would have. Under ``accelerate
    launch`` every process takes its share of the batch, and the gradients are those of one process with the whole batch; the
    terms reported are a process's own. A run that is complete already yields its checkpoint once, without terms. fp16's loss
    scale is not in a checkpoint.
    """
    accelerator = new_accelerator(config.mixed_precision)
    device = accelerator.device
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.adam_weight_decay,
                                  betas=(config.adam_beta1, config.adam_beta2), fused=device.type in ("cpu", "cuda"))
    net, optimizer = accelerator.prepare(model, optimizer)
    ema = EMAModel(model.parameters(), decay=config.ema_max_decay, use_ema_warmup=True, power=config.ema_power, foreach=True)
    first = restore(config, model, ema, optimizer) if config.resume_from_checkpoint else 0
    schedule = schedule.to(device)
    if first >= config.max_train_steps:                  # nothing left to do: the checkpoint is the result
        yield Step(first, torch.zeros(()), {}, 0.0, 0.0, model, ema, optimizer)
    for step in range(first, config.max_train_steps):
        began = time.perf_counter()
        draw = step % config.bank_steps if config.bank_steps else step
        generator = torch.Generator(device).manual_seed(config.seed * 1_000_003 + draw)
        each = config.train_batch_size // accelerator.num_processes
        mine = slice(accelerator.process_index * each, (accelerator.process_index + 1) * each)
        chosen = batch_indices(draw, len(images), config.train_batch_size, config.seed)
        x_0 = data.to_float(images[chosen]).to(device)
        if config.random_flip:
            x_0 = flip(x_0, generator)
        t = ddpm.sample_timesteps(len(x_0), len(schedule), generator, device)
        eps = torch.randn(x_0.shape, generator=generator, device=device)
        given = [x_0, t, eps]
        if companions is not None:
            which = torch.randint(companions.shape[1], (len(chosen),), generator=generator, device=device).cpu()
            given.append(companions[chosen, which].to(device))
        loss, terms = objective(net, *(one[mine] for one in given))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * lr_factor(step, config)
        optimizer.step()
        optimizer.zero_grad()
        ema.step(model.parameters())
        record = Step(step + 1, loss.detach(), {k: v.detach() for k, v in terms.items()},
                      optimizer.param_groups[0]["lr"], time.perf_counter() - began, model, ema, optimizer)
        if config.checkpointing_steps and (step + 1) % config.checkpointing_steps == 0 and accelerator.is_main_process:
            save_checkpoint(config, record)
        yield record


def adapt(source: DDPMPipeline, images: Tensor, config: TrainConfig, frozen=None) -> Iterator[Step]:
    """Fine-tune a copy of the source on few images and yield a :class:`Step` after every update.

    source: a pipeline with an ε-predicting U-Net; it is left untouched. images: (n,3,R,R) in [-1,1], n ≥ 2 for
    ``method="domainstudio"``, R the source's. ``scratch`` starts from random weights of the same architecture,
    ``finetune`` minimises L_simple alone. frozen: who answers for the source, a :class:`dslib.bank.Bank` where several runs
    share one; default: a copy of its U-Net. Raises UserError before the first step if anything does not fit.
    """
    config = fitted(source, images, config.check())
    schedule, betas = source.scheduler.alphas_cumprod.clone(), source.scheduler.betas.clone()
    model = copy.deepcopy(source.unet)
    if config.method == "scratch":
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            model = UNet2DModel.from_config(source.unet.config)
    model.requires_grad_(True)
    if config.method != "domainstudio":
        frozen = None
    elif frozen is None:
        frozen = copy.deepcopy(source.unet).requires_grad_(False).eval()

    def objective(net, x_0, t, eps):
        if frozen is not None:
            frozen.to(x_0.device)
        return domainstudio_loss(net, frozen, x_0, t, eps, schedule.to(x_0.device), betas.to(x_0.device), config)

    return fit(model, images, config, objective, schedule)


def check_unconditional(method: str) -> None:
    """Raise a UserError if the method is one for text-to-image sources."""
    if method not in METHODS:
        raise UserError(f"--method is {method!r}, which adapts text-to-image models: use one of {', '.join(METHODS)}")


def fitted(source: DDPMPipeline, images: Tensor, config: TrainConfig) -> TrainConfig:
    """Check images and settings against the source; cap the batch at the number of images."""
    check_unconditional(config.method)
    check_pictures(images)
    want, channels = source.unet.config.sample_size, source.unet.config.in_channels
    if tuple(images.shape[1:]) != (channels, want, want):
        got = "×".join(map(str, images.shape[1:]))
        raise UserError(f"the images are {got} but the source draws {channels}×{want}×{want}: load them with resolution={want}")
    if source.scheduler.config.prediction_type != "epsilon":
        raise UserError(f"the source predicts {source.scheduler.config.prediction_type!r}: only ε-prediction is supported")
    batch = min(config.train_batch_size, len(images))
    least = 1 if config.method != "domainstudio" else 3 if config.pairwise_variant == "authors" else 2
    processes = env.processes().num_processes
    if len(images) >= least and batch < processes:
        raise UserError(f"{processes} processes share a batch of {batch}: use at most {batch} processes")
    batch -= batch % processes
    if batch < least:
        mend = "add images" if len(images) < least else "raise --train_batch_size"
        raise UserError(f"{len(images)} image(s) and --train_batch_size {config.train_batch_size} make a batch of {batch}: the pairwise "
                        f"losses of domainstudio compare at least {least} images; {mend} or use --method finetune")
    if batch < min(config.train_batch_size, len(images)):
        print(f"a batch of {min(config.train_batch_size, len(images))} cannot be shared evenly by {processes} processes: using {batch}",
              file=sys.stderr)
    elif batch < config.train_batch_size:
        print(f"train_batch_size {config.train_batch_size} is more than the {len(images)} images: using {batch}; "
              "an image compared with itself would teach the pairwise losses nothing", file=sys.stderr)
    if config.method == "domainstudio" and batch == 2:
        print("a batch of two images has one pair, so each distribution has one entry and the pairwise losses are exactly "
              "zero: use at least 3", file=sys.stderr)
    return replace(config, train_batch_size=batch)


def domainstudio_loss(net, frozen, x_0, t, eps, schedule, betas, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """L_simple + λ1·L_vlb + λ2·L_img + λ3·L_hf + λ4·L_hfmse (DomainStudio §1), and each term unweighted.

    The same x_t, t and ε go to both models; ``frozen=None`` leaves out the last three: naive fine-tuning.
    """
    x_t = ddpm.q_sample(x_0, t, eps, schedule)
    eps_ada, v = split_variance(net(x_t, t).sample, x_0.shape[1])
    terms = {"simple": (eps_ada - eps).square().mean()}
    if v is not None:
        terms["vlb"] = losses.vlb(eps_ada, v, x_0, x_t, t, betas)
    if frozen is not None:
        with torch.inference_mode():
            eps_sou, _ = split_variance(frozen(x_t, t).sample, x_0.shape[1])
        x0_ada = ddpm.predict_x0(x_t, t, eps_ada, schedule)
        x0_sou = ddpm.predict_x0(x_t, t, eps_sou.clone(), schedule)
        compared, x0_sou = gathered(losses.scale_gradient(x0_ada, pull(t, schedule, config))), gathered(x0_sou)
        kept, options = slice(None), {"direction": config.pairwise_direction, "temperature": config.pairwise_temperature}
        if config.pairwise_variant == "authors":
            kept, options = slice(3), options | {"direction": "sou||ada", "reduction": "mean"}
        detail = partial(views.detail, name=config.detail)
        terms["img"] = losses.pairwise_kl(*(views.space(x[kept], config.pairwise_space) for x in (compared, x0_sou)), **options)
        terms["hf"] = losses.hf_pairwise_kl(compared[kept], x0_sou[kept], hf=detail, **options)
        weight = schedule[t] if config.hfmse_weighting == "alphas_cumprod" else None
        terms["hfmse"] = losses.hf_mse(x0_ada, x_0, weight, hf=detail)
    return sum((1.0 if name == "simple" else getattr(config, f"lambda_{name}")) * value
               for name, value in terms.items()), terms


def pull(t: Tensor, schedule: Tensor, config: TrainConfig) -> Tensor:
    """How hard the pairwise terms pull at each image's step, (N,): √ᾱ_t or 1, and 0 outside the range of t that is asked for."""
    factor = schedule[t].sqrt() if config.pairwise_weighting == "sqrt_alphas_cumprod" else torch.ones_like(schedule[t])
    return factor * ((t >= config.pairwise_t_min) & (t < config.pairwise_t_max))


def gathered(x: Tensor) -> Tensor:
    """The images of all processes (N·P,…), in the batch's order and with their gradients; x itself in a single process.

    So the pairwise terms compare the whole batch, however many processes share it: every process has the same loss, and
    DistributedDataParallel's mean of the gradients that ``all_gather`` sums is the gradient of that loss.
    """
    if env.processes().num_processes == 1:
        return x
    from torch.distributed.nn.functional import all_gather
    return torch.cat(all_gather(x.contiguous()))


def split_variance(output: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """A model's output → (ε, v): v is None unless it predicts 2C channels, the second half placing the variance."""
    return (output, None) if output.shape[1] == channels else tuple(output.split(channels, dim=1))


def pretrain(images: Tensor, config: TrainConfig, model: UNet2DModel, schedule: Tensor) -> Iterator[Step]:
    """Train from random weights on many images: L_simple (Ho et al. 2020, eq. 14), min-SNR weighted and with coarse scales if asked."""
    schedule = schedule.clone()
    check_pictures(images)

    def objective(net, x_0, t, eps):
        x_t = ddpm.q_sample(x_0, t, eps, schedule)
        return weighted_error(net(x_t, t).sample - eps, t, schedule.to(t.device), config)

    return fit(model, images, config, objective, schedule)


def weighted_error(error: Tensor, t: Tensor, schedule: Tensor, config: TrainConfig) -> tuple[Tensor, dict[str, Tensor]]:
    """Pre-training's loss from the error of ε (N,C,H,W): its square, weighted over t and with coarse scales if the settings say so."""
    simple = error.square().mean(dim=(1, 2, 3))
    weight = noise_weight(schedule, t, config.high_noise_weight)
    if config.snr_gamma:
        weight = weight * snr_weight(schedule, t, config.snr_gamma)
    if not config.lambda_coarse:
        return (weight * simple).mean(), {"simple": simple.mean()}
    coarse = coarse_error(error)
    return (weight * (simple + config.lambda_coarse * coarse)).mean(), {"simple": simple.mean(), "coarse": coarse.mean()}
