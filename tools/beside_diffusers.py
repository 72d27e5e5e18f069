"""Our text-to-image losses beside diffusers' own example scripts: the same batches, step by step; then seconds and memory.

``python tools/beside_diffusers.py EXAMPLES`` runs ``train_dreambooth.py`` from a checkout's folder of examples (nothing of it is copied
here) on the course's small source and the ten of a domain. At every step of theirs the same latents, noise and steps t go through our
loss, and a copy of what is trained takes our update: losses and weights should agree. Then it times that script,
``train_dreambooth_lora.py`` and ``textual_inversion.py``, and our trainings, each in a process of its own. Not a part of the tests.
"""

import argparse
import copy
import importlib.util
import inspect
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import diffusers
import torch
from diffusers import DDPMScheduler
from torchvision.transforms.functional import to_pil_image

from dslib import data, train
from dslib.base.errors import UserError, run
from dslib.env import data_dir
from dslib.study.bench import resident
from dslib.text import captions, latent, text_to_image

SCRIPTS = {"dreambooth": "dreambooth/train_dreambooth.py", "dreambooth, lora of rank 4": "dreambooth/train_dreambooth_lora.py",
           "textual-inversion": "textual_inversion/textual_inversion.py"}
RATE = {"dreambooth": 5e-4, "dreambooth, lora of rank 4": 2e-3, "textual-inversion": 2e-2}


class Record:
    """What the script does, step by step: (latents, noise, t) of ``add_noise`` and the loss that goes backward."""

    def __init__(self):
        self.batch, self.losses, self.seconds, self.began, self.each = None, [], [], None, lambda batch: None

    def add_noise(self, scheduler, latents, noise, timesteps):
        self.batch = latents.detach(), noise.detach(), timesteps.detach()
        return DDPMScheduler.before(scheduler, latents, noise, timesteps)

    def backward(self, loss):
        self.losses.append(float(loss.detach()))
        now = time.perf_counter()
        if self.began is not None:
            self.seconds.append(now - self.began)
        self.began = now
        self.each(self.batch)
        self.began += time.perf_counter() - now                    # what we do meanwhile is not theirs


def opened(path: Path, argv: list[str], record: Record):
    """A script as a module, its arguments parsed, no trackers, and its batches recorded: (module, arguments)."""
    if not path.is_file():
        raise UserError(f"no {path}: give the folder 'examples' of a checkout of diffusers")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    theirs = module.Accelerator

    def accelerator(**named):
        made = theirs(**(named | {"log_with": None}))
        backward = made.backward
        made.backward = lambda loss: (record.backward(loss), backward(loss))[1]
        return made

    module.Accelerator = accelerator
    DDPMScheduler.before = getattr(DDPMScheduler, "before", DDPMScheduler.add_noise)
    DDPMScheduler.add_noise = lambda scheduler, *given: record.add_noise(scheduler, *given)
    sys.argv = [str(path), *argv]
    module.args = module.parse_args()                              # one of the scripts looks for them there
    return module, module.args


def pictures(images, folder: Path) -> Path:
    """Images (N,3,R,R) as PNG files."""
    folder.mkdir(parents=True)
    for i, one in enumerate(data.to_uint8(images)):
        to_pil_image(one).save(folder / f"{i:03d}.png")
    return folder


def arguments(method: str, source: str, work: Path, ten, steps: int) -> list[str]:
    """What a script is called with: the same data, rate, batch and optimiser as ours."""
    shared = ["--pretrained_model_name_or_path", source, "--resolution", "64", "--train_batch_size", "10", "--max_train_steps", str(steps),
              "--learning_rate", str(RATE[method]), "--lr_scheduler", "constant", "--lr_warmup_steps", "0", "--adam_weight_decay", "0",
              "--seed", "0", "--output_dir", str(work / "out"), "--checkpointing_steps", "100000"]
    folder = str(pictures(ten, work / "ten"))
    if method == "textual-inversion":
        return [*shared, "--train_data_dir", folder, "--placeholder_token", "newword", "--initializer_token", "face", "--repeats", "1",
                "--learnable_property", "style", "--save_as_full_pipeline"]
    prior = text_to_image.prior_latents(latent.load_pipeline(source), captions.CLASS_PROMPT, 20)
    with torch.no_grad():
        pictures(latent.decode(latent.load_pipeline(source).vae, prior).clamp(-1, 1), work / "class")
    shared += ["--rank", "4"] if "lora" in method else []
    return [*shared, "--instance_data_dir", folder, "--class_data_dir", str(work / "class"), "--with_prior_preservation",
            "--num_class_images", "20", "--instance_prompt", captions.INSTANCE_PROMPT, "--class_prompt", captions.CLASS_PROMPT]


def shadow_dreambooth(pipe, config):
    """Our loss and optimiser on the script's batches: (the U-Net that is trained, a function of a batch that gives our loss)."""
    unet = copy.deepcopy(pipe.unet).requires_grad_(True).train()
    optimizer, a_bar = train.new_optimizer(unet, config, "cpu"), pipe.scheduler.alphas_cumprod
    texts = latent.embed(pipe, [captions.INSTANCE_PROMPT, captions.CLASS_PROMPT])

    def step(batch) -> float:
        (z_0, z_prior), (eps, eps_prior), (t, t_prior) = (one.chunk(2) for one in batch)
        found = []
        for noise, at in ((eps, t), (eps_prior, t_prior)):                         # theirs draws them for prior pictures anew
            found.append(text_to_image.dreambooth_loss(unet, None, None, z_0, z_prior, at, noise, texts, a_bar, config,
                                                       kind=pipe.scheduler.config.prediction_type)[1])
        loss = found[0]["simple"] + found[1]["prior"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return unet, step


def compare(examples: Path, source: str, domain: str, steps: int) -> dict:
    """train_dreambooth.py and our loss on the same batches: largest relative difference of losses, and of weights by how far they went."""
    pipe, record, ours = latent.load_pipeline(source), Record(), []
    config = text_to_image.TextConfig(method="dreambooth", snr_gamma=0.0).rated()
    unet, step = shadow_dreambooth(pipe, config)
    record.each = lambda batch: ours.append(step(batch))
    with tempfile.TemporaryDirectory() as work:
        argv = arguments("dreambooth", source, Path(work), data.load_domain(domain, "ten").images, steps)
        module, args = opened(examples / SCRIPTS["dreambooth"], argv, record)
        module.main(args)
        theirs = latent.load_pipeline(Path(work) / "out").unet.state_dict()
    before, after = pipe.unet.state_dict(), unet.state_dict()
    went = sum(float((after[key] - before[key]).square().sum()) for key in after) ** 0.5
    apart = sum(float((after[key] - theirs[key]).square().sum()) for key in after) ** 0.5
    pairs = list(zip(record.losses, ours, strict=True))
    return {"steps": steps, "losses": [[round(loss, 6) for loss in pair] for pair in pairs],
            "largest_relative_difference": max(abs(a - b) / a for a, b in pairs), "weights_apart_of_the_way": apart / went}


def timed_theirs(examples: Path, method: str, source: str, domain: str, steps: int) -> dict:
    """Median seconds of a step of a script, and what the process needs at its peak."""
    record = Record()
    with tempfile.TemporaryDirectory() as work:
        argv = arguments(method, source, Path(work), data.load_domain(domain, "ten").images, steps)
        module, args = opened(examples / SCRIPTS[method], argv, record)
        module.main(*[args] * len(inspect.signature(module.main).parameters))
    return costs(record.seconds)


def timed_ours(method: str, source: str, domain: str, steps: int) -> dict:
    """The same of our training."""
    pipe, ten = latent.load_pipeline(source), data.load_domain(domain, "ten").images
    prior = None if method == "textual-inversion" else text_to_image.prior_latents(pipe, captions.CLASS_PROMPT, 20)
    config = text_to_image.TextConfig(method=method.split(",")[0], max_train_steps=steps, lora_rank=4 if "lora" in method else 0)
    words = captions.INSTANCE_PROMPT, captions.CLASS_PROMPT
    return costs([step.seconds for step in text_to_image.adapt(pipe, ten, config, *words, prior)])


def costs(seconds: list[float]) -> dict:
    """Median of all but the first two steps, and the process's peak, libraries included (by Linux's /proc)."""
    return {"seconds": round(sorted(seconds[2:])[len(seconds[2:]) // 2], 4), "megabytes": round(resident("VmHWM"))}


def all_of(args) -> None:
    """The comparison, and each timing in a process of its own, in turn."""
    if args.only:
        who, method = args.only.split("/")
        timing = timed_ours(method, args.source, args.domain, args.steps) if who == "ours" else timed_theirs(
            Path(args.examples), method, args.source, args.domain, args.steps)
        print(json.dumps(timing))
        return
    found = {"compared": compare(Path(args.examples), args.source, args.domain, args.steps), "cost": {}}
    for method in SCRIPTS:
        for who in ("ours", "theirs"):
            done = subprocess.run([sys.executable, __file__, args.examples, "--only", f"{who}/{method}", "--steps", str(args.steps),
                                   "--domain", args.domain, "--source", args.source], capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"{who}, {method}: {done.stderr.strip().splitlines()[-1]}")
            found["cost"][f"{who}, {method}"] = json.loads(done.stdout.strip().splitlines()[-1])
    facts = {"diffusers": diffusers.__version__, "torch": torch.__version__, "threads": torch.get_num_threads(), "domain": args.domain}
    print(json.dumps(facts | found, indent=1))


def main() -> int:
    """Compare, or say in one line why not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("examples", metavar="EXAMPLES", help="the folder 'examples' of a checkout of diffusers")
    parser.add_argument("--source", default=str(data_dir() / "text_to_image"), help="pipeline folder; default: the shipped one")
    parser.add_argument("--domain", default="portraits", help="whose ten are learned; default: %(default)s")
    parser.add_argument("--steps", type=int, default=10, help="default: %(default)s")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    args = parser.parse_args()
    return run(lambda: all_of(args), "beside_diffusers")


if __name__ == "__main__":
    sys.exit(main())
