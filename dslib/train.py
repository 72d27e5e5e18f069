"""The one training loop, and what fine-tuning on few images does with it (chapters 03 and 06)."""

import copy
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from diffusers import DDPMPipeline, UNet2DModel
from diffusers.training_utils import EMAModel
from torch import Tensor

from . import data, ddpm, domainstudio
from .base import knobs, parts
from .base.checkpoint import restore
from .base.device import new_accelerator, processes, seeded, share_of
from .base.errors import UserError
from .base.identity import of_run
from .base.interrupts import undisturbed
from .base.keeping import Keeper
from .base.knobs import knob
from .base.pixels import check_pictures

#: ``--method``: a word → start(source, images, config, frozen) → (network, objective, companions).
METHODS = {"scratch": domainstudio.scratch, "finetune": domainstudio.finetune,
           "domainstudio": domainstudio.domainstudio}


@dataclass(kw_only=True)
class Loop:
    """The loop's knobs, under diffusers' flag names; ``check()`` says what is wrong with one."""
    max_train_steps: int = knob(600, "optimiser steps", "positive")  # naive copies ten by then
    train_batch_size: int = knob(10, "images a step; capped at the number of images", "positive")
    learning_rate: float = knob(5e-4, "AdamW's step size", "positive")  # paper: 1e-4, 3000 steps
    lr_warmup_steps: int = knob(0, "steps of linear warm-up", "least_zero")
    lr_decay_steps: int = knob(0, "last steps over which the rate falls to zero", "least_zero")
    bank_steps: int = knob(0, "draw the same noise again after so many steps, and keep the "
                              "source's answers; 0: never", "least_zero")
    adam_beta1: float = knob(0.9, "AdamW", "share")
    adam_beta2: float = knob(0.999, "AdamW", "share")
    adam_weight_decay: float = knob(0.0, "AdamW", "least_zero")
    max_grad_norm: float = knob(1.0, "gradients are clipped to this norm", "positive")
    ema_max_decay: float = knob(0.99, "averaging of the weights, reached after a warm-up", "share")
    ema_power: float = knob(0.75, "speed of that warm-up: 1 − (1+step)^(−power)", "least_zero")
    random_flip: bool = knob(False, "mirror images at random")
    mixed_precision: str = knob("no", "no, fp16 or bf16", choices=("no", "fp16", "bf16"))
    seed: int = knob(0, "fixes everything drawn at random")
    output_dir: str | None = knob(None, "where everything is written")
    checkpointing_steps: int = knob(0, "save a checkpoint every so many steps, too", "least_zero")
    checkpointing_seconds: float = knob(60.0, "save a checkpoint about every so many seconds; 0: "
                                              "only on Ctrl-C", "least_zero")
    checkpoints_total_limit: int = knob(2, "how many checkpoints to keep", "positive")
    resume_from_checkpoint: str | None = knob(None, "a checkpoint folder, or latest")

    def check(self):
        """Return self, or raise UserError naming the first impossible setting and its mend."""
        knobs.check(self)
        if not 0 <= self.seed < 10**9:
            raise UserError(f"--seed is {self.seed}: use 0 to 999999999")
        if self.checkpointing_steps and not self.output_dir:
            raise UserError("--checkpointing_steps needs --output_dir, the folder to write them to")
        if self.resume_from_checkpoint == "latest" and not self.output_dir:
            raise UserError("--resume_from_checkpoint latest needs --output_dir, the folder that "
                            "holds the checkpoints")
        return self


@dataclass(kw_only=True)
class TrainConfig(domainstudio.Objective, Loop):
    """Every knob of a fine-tuning run: a method, what it minimises, and the loop."""
    method: str = knob("domainstudio", "scratch, finetune or domainstudio", choices=lambda: METHODS)
    trained_parts: str = knob("all", "of the U-Net: all, or ends: its first and last layers alone",
                              choices=parts.PARTS)
    lora_rank: int = knob(0, "train matrices of this rank beside its weights (LoRA); 0: the whole "
                             "U-Net", "least_zero")

    def check(self):
        """As :meth:`Loop.check`; also the range of steps that is left to the pairwise terms."""
        super().check()
        low, high = self.pairwise_t_min, self.pairwise_t_max
        if high is not None and high <= low:
            raise UserError(f"--pairwise_t_max {high} is not above --pairwise_t_min {low}: no "
                            f"step is left")
        if self.micro_batch_size and processes().num_processes > 1:
            raise UserError("--micro_batch_size is for one process: several share the batch anyway")
        return self


@dataclass
class Step:
    """What one optimiser step reports. Tensors are detached, 0-dim: ``float()`` gives numbers."""
    step: int                    # 1, 2, … max_train_steps
    loss: Tensor                 # the weighted total that was minimised
    terms: dict[str, Tensor]     # each unweighted term by name
    lr: float
    seconds: float               # wall-clock time of this step
    model: UNet2DModel           # being trained: its weights go on changing
    ema: EMAModel = field(repr=False)
    optimizer: torch.optim.Optimizer = field(repr=False)
    identity: dict[str, str] | None = field(default=None, repr=False)    # what the run was given

    def averaged(self) -> UNet2DModel:
        """A copy of the model that holds the averaged weights: the one to sample from."""
        unet = copy.deepcopy(self.model)
        for wrapper in ("forward", "_original_forward"):    # accelerate's stay with the training
            unet.__dict__.pop(wrapper, None)
        self.ema.copy_to(unet.parameters())
        return parts.merged(unet).eval()


def lr_factor(step: int, config: Loop) -> float:
    """Linear warm-up, flat, then a linear fall to zero over ``lr_decay_steps``. In [0,1]."""
    warm = min(1.0, (step + 1) / config.lr_warmup_steps) if config.lr_warmup_steps else 1.0
    left = config.max_train_steps - step
    return warm * (min(1.0, left / config.lr_decay_steps) if config.lr_decay_steps else 1.0)


def batch_indices(step: int, n: int, batch: int, seed: int) -> Tensor:
    """Which images make batch number ``step``: epochs of fresh permutations, laid end to end.
    (batch,) integers."""
    first = step * batch
    epochs = range(first // n, (first + batch - 1) // n + 1)
    seeds = [torch.Generator().manual_seed(seed * 1_000_003 + e) for e in epochs]
    stream = torch.cat([torch.randperm(n, generator=one) for one in seeds])
    return stream[first % n:first % n + batch]


def flip(x_0: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability one half."""
    coin = torch.rand(len(x_0), 1, 1, 1, generator=generator, device=x_0.device) < 0.5
    return torch.where(coin, x_0.flip(-1), x_0)


def fit(model: torch.nn.Module, images: Tensor, config: Loop, objective, a_bar: Tensor,
        companions: dict[str, Tensor] | None = None, identity=None) -> Iterator[Step]:
    """Run the optimiser and yield a :class:`Step` after every update.

    images: (n,3,R,R), float in [-1,1] or uint8, kept on the CPU (or latents); a_bar: (T,);
    ``objective(model, x_0, t, eps, **given)`` returns (loss, terms). companions: {name: (n,K,…)}, K
    things that go with every image, such as wordings of its caption: one of the K is drawn each
    time and given by name, (N,…). The random numbers of a step depend on (seed, step) alone, so a
    resumed run goes on exactly as the uninterrupted one would have. Under ``accelerate launch``
    every process takes its share of the batch, and the gradients are those of one process with the
    whole batch; the terms reported are a process's own. A complete run yields its checkpoint once,
    without terms. identity: fingerprints of what the run was given, by name; a checkpoint of others
    is refused. fp16's loss scale is not in a checkpoint. Raises UserError at the first loss, or
    weight, that is NaN or infinite.
    """
    accelerator = new_accelerator(config.mixed_precision)
    device, keeper = accelerator.device, Keeper(config, model, images, accelerator.is_main_process)
    net, optimizer = accelerator.prepare(model, new_optimizer(model, config, device.type))
    ema = EMAModel(model.parameters(), decay=config.ema_max_decay, use_ema_warmup=True,
                   power=config.ema_power, foreach=True)
    first = restore(config, model, ema, optimizer, identity)
    if first >= config.max_train_steps:  # nothing left to do: the checkpoint is the result
        yield Step(first, torch.zeros(()), {}, 0.0, 0.0, model, ema, optimizer, identity)
    for step in range(first, config.max_train_steps):
        began = time.perf_counter()
        model.train()                            # whoever drew with it meanwhile left it in eval()
        batch, given = drawn(images, companions or {}, step, config, len(a_bar), device)
        mine = share_of(config.train_batch_size, accelerator)
        given = {name: one[mine] for name, one in given.items()}
        with seeded(config.seed, step, accelerator):                    # dropout, for one
            loss, terms = objective(net, *(one[mine] for one in batch), **given)
        keeper.check(step + 1, loss, terms)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), config.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * lr_factor(step, config)
        with undisturbed():          # a signal waits until weights, average and record agree
            optimizer.step()
            optimizer.zero_grad()
            ema.step(model.parameters())
            terms, lr = {k: v.detach() for k, v in terms.items()}, optimizer.param_groups[0]["lr"]
            record = Step(step + 1, loss.detach(), terms, lr, time.perf_counter() - began, model,
                          ema, optimizer, identity)
            keeper.keep(record)
            yield record


def new_optimizer(model: torch.nn.Module, config: Loop, device_type: str) -> torch.optim.Optimizer:
    """AdamW with the settings of a config."""
    return torch.optim.AdamW(model.parameters(), lr=config.learning_rate,
                             weight_decay=config.adam_weight_decay,
                             betas=(config.adam_beta1, config.adam_beta2),
                             fused=device_type in ("cpu", "cuda"))


def drawn(images: Tensor, companions: dict[str, Tensor], step: int, config: Loop, steps: int,
          device) -> tuple[tuple[Tensor, Tensor, Tensor], dict[str, Tensor]]:
    """A step's ((x_0, t, ε), companions by name), from (seed, step) alone; ``bank_steps`` makes the
    noise periodic."""
    draw = step % config.bank_steps if config.bank_steps else step
    generator = torch.Generator(device).manual_seed(config.seed * 1_000_003 + draw)
    chosen = batch_indices(draw, len(images), config.train_batch_size, config.seed)
    x_0 = data.to_float(images[chosen]).to(device)
    if config.random_flip:
        x_0 = flip(x_0, generator)
    t = ddpm.sample_timesteps(len(x_0), steps, generator, device)
    eps = torch.randn(x_0.shape, generator=generator, device=device)
    given = {}
    if companions:
        each = next(iter(companions.values())).shape[1]
        which = torch.randint(each, (len(chosen),), generator=generator, device=device).cpu()
        given = {name: one[chosen, which].to(device) for name, one in companions.items()}
    return (x_0, t, eps), given


def adapt(source: DDPMPipeline, images: Tensor, config: TrainConfig, frozen=None,
          start=None) -> Iterator[Step]:
    """Fine-tune a copy of the source on few images and yield a :class:`Step` after every update.

    source: a pipeline whose U-Net predicts ε or v; it is left untouched. images: (n,3,R,R) in
    [-1,1], n at least :func:`dslib.domainstudio.least_batch`, R the source's. frozen: who answers
    for the source, a :class:`dslib.base.bank.Bank` where several runs share one; default: a copy of
    its U-Net. start: where a method starts; default: as ``METHODS`` says (beyond/ has others).
    Raises UserError before the first step if anything does not fit.
    """
    config = fitted(source, images, config.check())
    net, objective, given = (start or METHODS[config.method])(source, images, config,
                                                              frozen)
    a_bar = source.scheduler.alphas_cumprod.clone()
    return fit(net, images, config, objective, a_bar, given, of_run(images, a_bar, source.unet))


def fitted(source: DDPMPipeline, images: Tensor, config: TrainConfig) -> TrainConfig:
    """Check images and settings against the source; cap the batch at the number of images."""
    check_pictures(images)
    if config.method not in METHODS:
        raise UserError(f"--method is {config.method!r}, which adapts text-to-image models: use "
                        f"one of {', '.join(METHODS)}")
    want, channels = source.unet.config.sample_size, source.unet.config.in_channels
    if tuple(images.shape[1:]) != (channels, want, want):
        got = "×".join(map(str, images.shape[1:]))
        mend = (f"load them with resolution={want}" if images.shape[1] == channels else
                f"give data.in_channels(images, {channels})")
        raise UserError(f"the images are {got} but the source draws {channels}×{want}×{want}: "
                        f"{mend}")
    ddpm.prediction_type_of(source.scheduler)               # says so here if it is neither ε nor v
    batch = min(config.train_batch_size, len(images))
    least = domainstudio.least_batch(config) if config.method == "domainstudio" else 1
    shared = processes().num_processes
    if len(images) >= least and batch < shared:
        raise UserError(f"{shared} processes share a batch of {batch}: use at most {batch} "
                        f"processes")
    batch -= batch % shared
    if batch < least:
        mend = "add images" if len(images) < least else "raise --train_batch_size"
        raise UserError(f"{len(images)} image(s) and --train_batch_size {config.train_batch_size} "
                        f"make a batch of {batch}: the pairwise losses of domainstudio compare at "
                        f"least {least} images; {mend} or use --method finetune")
    if config.micro_batch_size and batch % config.micro_batch_size:
        raise UserError(f"--micro_batch_size {config.micro_batch_size} does not divide the batch "
                        f"of {batch}")
    if batch < min(config.train_batch_size, len(images)):
        print(f"a batch of {min(config.train_batch_size, len(images))} cannot be shared evenly by "
              f"{shared} processes: using {batch}", file=sys.stderr)
    elif batch < config.train_batch_size:
        print(f"train_batch_size {config.train_batch_size} is more than the {len(images)} images: "
              f"using {batch}; an image compared with itself would teach the pairwise losses "
              "nothing", file=sys.stderr)
    if config.method == "domainstudio" and batch == least and config.pairwise_variant == "paper":
        print(f"a batch of {batch} has one pair of images to compare, so each distribution has one "
              f"entry and the pairwise losses are exactly zero: use more than {batch}",
              file=sys.stderr)
    return replace(config, train_batch_size=batch)
