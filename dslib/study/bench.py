"""``make bench``: what a step, a metric and a sample cost, as ratios measured in one run on this machine."""

import argparse
import copy
import csv
import io
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .. import data, ddpm, domainstudio, metrics, models, sample, train
from ..base import errors
from ..base.bank import Bank
from ..base.device import device, device_name
from ..base.files import data_dir, write_atomic
from ..gan import adapt as gan
from ..gan.draw import draw, latents
from ..gan.networks import Pair
from ..show import plots, widgets
from ..text import captions, latent, text_to_image
from . import ablations


def loops_pairwise_kl(adapted: Tensor, source: Tensor) -> Tensor:
    """The pairwise loss written without matrices, as the authors' code is: a Python loop over the pairs of the batch."""
    def log_probs(x: Tensor) -> Tensor:
        rows = []
        for i in range(len(x)):
            similar = [F.cosine_similarity(x[i].flatten(), x[j].flatten(), dim=0) for j in range(len(x)) if j != i]
            rows.append(torch.stack(similar))
        return torch.log_softmax(torch.stack(rows), dim=1)
    p, q = log_probs(adapted), log_probs(source)
    return (p.exp() * (p - q)).sum()


def rebuild_high_frequency(x: Tensor) -> Tensor:
    """LH + HL + HH through four convolution layers that are built anew at every call (ledger row 8)."""
    low, high = torch.tensor([1.0, 1.0]) / 2**0.5, torch.tensor([-1.0, 1.0]) / 2**0.5
    bands = []
    for rows, columns in ((low, low), (low, high), (high, low), (high, high)):
        layer = torch.nn.Conv2d(x.shape[1], x.shape[1], 2, stride=2, groups=x.shape[1], bias=False).to(x.device)
        layer.weight.data = torch.outer(rows, columns).to(x.device).expand(x.shape[1], 1, 2, 2).contiguous()
        layer.weight.requires_grad_(False)
        bands.append(layer(x))
    return sum(bands[1:])


def loops(source, images: Tensor, config: train.TrainConfig) -> Iterator[train.Step]:
    """DomainStudio's step as published, with the two losses above; the config needs both weightings ``none``."""
    schedule, kind = source.scheduler.alphas_cumprod, ddpm.prediction_type_of(source.scheduler)
    model, frozen = copy.deepcopy(source.unet).requires_grad_(True), copy.deepcopy(source.unet).requires_grad_(False).eval()

    def objective(net, x_0, t, eps):
        frozen.to(x_0.device)
        a_bar = schedule.to(x_0.device)
        x_t = ddpm.q_sample(x_0, t, eps, a_bar)
        answer = net(x_t, t).sample
        with torch.no_grad():
            x0_sou = ddpm.guess(frozen(x_t, t).sample, x_t, t, a_bar, kind).x_0
        x0_ada = ddpm.guess(answer, x_t, t, a_bar, kind).x_0
        hf_ada, hf_sou, hf_0 = (rebuild_high_frequency(x) for x in (x0_ada, x0_sou, x_0))
        terms = {"simple": (answer - ddpm.target(x_0, eps, t, a_bar, kind)).square().mean(), "img": loops_pairwise_kl(x0_ada, x0_sou),
                 "hf": loops_pairwise_kl(hf_ada, hf_sou), "hfmse": (hf_ada - hf_0).square().mean()}
        return sum((1.0 if name == "simple" else getattr(config, f"lambda_{name}")) * v for name, v in terms.items()), terms

    return train.fit(model, images, config, objective, schedule)


def start(method: str, source, images: Tensor, steps: int) -> Iterator[train.Step]:
    """A run of a method, of ``anchored``, ``loops``, or ``bank``: DomainStudio whose every question to the source was asked before.

    A GAN's method starts from random weights: the seconds and the memory are the same.
    """
    if method in gan.METHODS:
        return gan.adapt(Pair().to(device()), images, gan.GANConfig(method=method, max_train_steps=steps))
    if method == "bank":
        config, known = train.TrainConfig(max_train_steps=steps), Bank(source.unet)
        list(train.adapt(source, images, config, known))
        return train.adapt(source, images, config, known)
    if method == "loops":
        return loops(source, images, train.TrainConfig(max_train_steps=steps, train_batch_size=len(images), pairwise_weighting="none",
                                                       hfmse_weighting="none"))
    changes = {"pairwise_on": "source", "num_anchors": 20} if method == "anchored" else {"method": method}
    return train.adapt(source, images, train.TrainConfig(max_train_steps=steps, **changes))


#: DomainStudio's step with a large batch: name → (images, how many of them pass the networks at a time; 0: all)
LARGE = {"40 images": (40, 0), "40 images, 4 at a time": (40, 4), "4 images": (4, 0), "40 images, 10 at a time": (40, 10),
         "10 images": (10, 0)}


def start_large(case: str, source, steps: int) -> Iterator[train.Step]:
    """A run of DomainStudio with a case of ``LARGE``."""
    batch, at_a_time = LARGE[case]
    images = data.load_domain("sunglasses", "train", batch).images
    return train.adapt(source, images, train.TrainConfig(max_train_steps=steps, train_batch_size=batch, micro_batch_size=at_a_time))


def large_rows(source, steps: int) -> list[dict]:
    """Median milliseconds of a step of every case of ``LARGE``."""
    found = interleave({case: start_large(case, source, steps + WARM_UP) for case in LARGE}, steps)
    rows = {case: 1000 * statistics.median(v) for case, v in found.items()}
    return [{"what": "step of a large batch", "case": case, "value": value, "unit": "ms"} for case, value in rows.items()]


def gpu_cases(source, images: Tensor, steps: int) -> dict[str, Iterator[train.Step]]:
    """DomainStudio's step as a GPU can have it: bfloat16, its weights with the channels last, compiled."""
    last = copy.deepcopy(source)
    last.unet.to(memory_format=torch.channels_last)
    half = train.TrainConfig(max_train_steps=steps, mixed_precision="bf16")
    cases = {"domainstudio, bf16": train.adapt(source, images, half), "domainstudio, bf16, channels last": train.adapt(last, images, half),
             "domainstudio, compiled": compile_both(source, images, train.TrainConfig(max_train_steps=steps + 1))}
    try:
        next(cases["domainstudio, compiled"])
    except Exception as error:          # a machine without a C compiler, say: torch.compile has many ways to fail
        print(f"the compiled step is left out: {errors.first_line(error)}", file=sys.stderr)
        del cases["domainstudio, compiled"]
    return cases


def compile_both(source, images: Tensor, config: train.TrainConfig) -> Iterator[train.Step]:
    """DomainStudio with both U-Nets through ``torch.compile``."""
    schedule, betas = source.scheduler.alphas_cumprod.to(device()), source.scheduler.betas.to(device())
    model, frozen = copy.deepcopy(source.unet).requires_grad_(True), copy.deepcopy(source.unet).requires_grad_(False).eval()
    kind = ddpm.prediction_type_of(source.scheduler)
    model.compile()
    frozen.compile()

    def objective(net, x_0, t, eps):
        return domainstudio.domainstudio_loss(net, frozen, x_0, t, eps, schedule, betas, config, kind)

    return train.fit(model, images, train.fitted(source, images, config), objective, schedule)


WARM_UP = 3       # steps of every run that are not counted


def finish() -> None:
    """Wait until a GPU has done what it was given; elsewhere that is done already."""
    if device().type == "cuda":
        torch.cuda.synchronize()


def interleave(runs: dict[str, Iterator[train.Step]], steps: int, warm_up: int = WARM_UP) -> dict[str, list[float]]:
    """Seconds of every step; the runs take turns, so that a busy machine slows all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for i in range(steps + warm_up):
        for method, run in runs.items():
            began = time.perf_counter()
            next(run)
            finish()
            if i >= warm_up:
                seconds[method].append(time.perf_counter() - began)
    return seconds


def resident(field: str) -> float:
    """Megabytes of this process by Linux's ``/proc``: ``VmRSS`` now, ``VmHWM`` at its peak."""
    line = next(line for line in Path("/proc/self/status").read_text("utf-8").splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def any_start(case: str, source, images: Tensor) -> Iterator[train.Step]:
    """Three steps of a method, or of a case of ``LARGE``."""
    return start_large(case, source, 3) if case in LARGE else start(case, source, images, 3)


def memory_of(method: str) -> float:
    """Megabytes that three steps add at their peak. On a CPU, run it in a process of its own: there a peak never goes down."""
    source, images = models.load_source(), data.load_domain("sunglasses", "ten").images
    if device().type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        list(any_start(method, source, images))
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    before = resident("VmRSS")
    list(any_start(method, source, images))
    return resident("VmHWM") - before


def memory_rows(methods: Iterable[str], what: str = "peak memory of a step") -> list[dict]:
    """Peak memory of every method: by CUDA's own count, else by /proc, each in a fresh process; none where there is neither."""
    if device().type == "cuda":
        return [{"what": what, "case": m, "value": memory_of(m), "unit": "MB"} for m in methods]
    if not Path("/proc/self/status").exists():
        return []
    rows = []
    given_back = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}     # glibc then returns what is freed, so the peak is of what is in use
    for method in methods:
        done = subprocess.run([sys.executable, "-m", "dslib.study", "bench", "--memory_of", method],
                              capture_output=True, text=True, check=True, env=given_back)
        rows.append({"what": what, "case": method, "value": float(done.stdout.split()[-1]), "unit": "MB"})
    return rows


def step_rows(source, images, methods: list[str], steps: int) -> list[dict]:
    """Median milliseconds of a step of every method."""
    runs = {m: start(m, source, images, steps + WARM_UP) for m in methods}
    if device().type == "cuda":
        runs |= gpu_cases(source, images, steps + WARM_UP)
    seconds = interleave(runs, steps)
    return [{"what": "optimiser step", "case": m, "value": 1000 * statistics.median(v), "unit": "ms"} for m, v in seconds.items()]


DRAWS, OF_STEPS = 50, 300     # a text-to-image run that draws its noise 50 times, each used six times


def text_rows(pipe, images: Tensor, steps: int) -> list[dict]:
    """Median milliseconds of a text-to-image step: DomainStudio, the authors' schedule of passes, DreamBooth, LoRA.

    The first row is the mean step of a run of ``OF_STEPS`` with ``--bank_steps DRAWS``: so many steps ask the source, the others
    remember its answer. Both kinds of steps are timed.
    """
    cases = {"domainstudio": {}, "known": {"bank_steps": WARM_UP}, "the authors' passes": {"pairwise_variant": "authors"},
             "dreambooth": {"method": "dreambooth"}, "domainstudio, lora of rank 4": {"lora_rank": 4}}
    prior, shared = latent.encode(pipe.vae, images), {"max_train_steps": steps + WARM_UP, "train_batch_size": len(images)}
    runs = {name: text_to_image.adapt(pipe, images, text_to_image.TextConfig(**(shared | case)), captions.INSTANCE_PROMPT,
                                      captions.CLASS_PROMPT, prior) for name, case in cases.items()}
    medians = {name: 1000 * statistics.median(v) for name, v in interleave(runs, steps).items()}
    mean = (DRAWS * medians["domainstudio"] + (OF_STEPS - DRAWS) * medians.pop("known")) / OF_STEPS
    medians = {f"domainstudio, {DRAWS} draws in {OF_STEPS} steps": mean} | medians
    return [{"what": "text-to-image step", "case": name, "value": value, "unit": "ms"} for name, value in medians.items()]


def lpips_rows(n: int, pairs: int = 40) -> list[dict]:
    """Intra-LPIPS of n images: ours, and a loop of the package over pairs, extrapolated from a timed part."""
    images, targets = (data.load_domain("sunglasses", *which).images.to(device()) for which in (("test", n), ("ten",)))
    net = metrics.load_backbone("st-alex", str(device()))
    metrics.intra_lpips(images[:20], targets)
    began = time.perf_counter()
    clusters = metrics.intra_lpips(images, targets)
    finish()
    ours = time.perf_counter() - began
    needed = n * len(targets) + sum(k * (k - 1) // 2 for k in clusters.sizes)
    began = time.perf_counter()
    with torch.no_grad():
        for i in range(pairs):
            net(images[i % n][None], images[(i + 1) % n][None])
    finish()
    looped = (time.perf_counter() - began) / pairs * needed
    what = f"Intra-LPIPS of {n} images"
    return [{"what": what, "case": "one matrix", "value": ours, "unit": "s"},
            {"what": what, "case": f"loop over {needed} pairs, extrapolated from {pairs}", "value": looped, "unit": "s"}]


def sampling_rows(source, n: int | None = None) -> list[dict]:
    """Seconds an image by scheduler and number of steps: of 8 images, or of 256 at once on a GPU."""
    n = n or (256 if device().type == "cuda" else 8)
    sample.sample(source.unet, source.scheduler, sample.start_noise(n, source.unet.config.sample_size), 2)       # warm-up
    noise, rows = sample.start_noise(n, source.unet.config.sample_size), []
    for kind, steps in (("dpmsolver", 10), ("dpmsolver", 20), ("ddim", 20), ("ddpm", 50)):
        began = time.perf_counter()
        sample.sample(source.unet, source.scheduler, noise, steps, kind)
        rows.append({"what": "one image", "case": f"{kind}, {steps} steps", "value": (time.perf_counter() - began) / n, "unit": "s"})
    generator = Pair().eval().to(device()).generator
    z = latents(max(n, 64), generator.latent)
    draw(generator, z)                                   # warm-up
    began = time.perf_counter()
    draw(generator, z)
    return [*rows, {"what": "one image", "case": "a GAN, one pass", "value": (time.perf_counter() - began) / len(z), "unit": "s"}]


def redraw_rows(source, images: Tensor, times: int = 7) -> list[dict]:
    """Median milliseconds from letting a slider go to its picture: one explorer each of chapters 01, 04, 05 and 08."""
    unet, a_bar = copy.deepcopy(source.unet).cpu(), source.scheduler.alphas_cumprod
    grid = ablations.read(data_dir() / "results" / "08_ablations.npz")
    luck = {name: (0.0, 1.0) for name in widgets.METRICS.values()}
    figures = {"noise and guess": lambda i: widgets.forward_figure(unet, images[:6], a_bar, 100 * i + 50),
               "two similarity matrices": lambda i: widgets.similarity_figure({"a": unet, "b": unet}, images[:4], a_bar, 600, i),
               "bands": lambda i: widgets.bands_figure(images[0], "db2", 1 + i % 3),
               "point of the grid": lambda i: widgets.ablation_figure(grid, luck, "λ2, L_img", i % 5)}
    rows = []
    for case, figure in figures.items():
        seconds = []
        for i in range(times + 1):                       # the first one loads fonts
            began = time.perf_counter()
            plots.to_png(figure(i)[0], 100, trim=False)
            seconds.append(time.perf_counter() - began)
        rows.append({"what": "redraw of a slider", "case": case, "value": 1000 * statistics.median(seconds[1:]), "unit": "ms"})
    return rows


def flops_row(source) -> dict:
    """Floating-point operations of one forward pass of one image; a multiplication and an addition count as two."""
    size, channels = source.unet.config.sample_size, source.unet.config.in_channels
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        source.unet(torch.zeros(1, channels, size, size, device=device()), torch.zeros(1, device=device()))
    return {"what": "forward pass", "case": "one image", "value": counter.get_total_flops() / 1e9, "unit": "GFLOP"}


def with_ratios(rows: list[dict]) -> list[dict]:
    """Add ``ratio``: a row's value over that of the first row of the same kind."""
    first: dict[str, float] = {}
    return [row | {"ratio": row["value"] / first.setdefault(row["what"], row["value"])} for row in rows]


def figure(rows: list[dict]):
    """Bars of the ratios, one panel a kind that has more than one case."""
    kinds = {row["what"]: {} for row in rows}
    for row in rows:
        kinds[row["what"]][row["case"]] = row["ratio"]
    kinds = {what: cases for what, cases in kinds.items() if len(cases) > 1}
    fig = plots.new_figure(13, 1.9 * len(kinds) + 0.5 * sum(map(len, kinds.values())))
    axes = fig.subplots(len(kinds), 1, squeeze=False, height_ratios=[len(c) + 1 for c in kinds.values()])[:, 0]
    for axis, (what, cases) in zip(axes, kinds.items()):
        bars = axis.barh(list(cases), list(cases.values()), color="#3b7dd8")
        axis.bar_label(bars, fmt="%.2f", padding=3, color="#808080")
        axis.set_title(what, loc="left")
        axis.invert_yaxis()
        axis.set_xscale("log" if max(cases.values()) > 20 else "linear")
        axis.margins(x=0.15)
    axes[-1].set_xlabel("times the first bar")
    return fig


def main(argv: list[str] | None = None) -> int:
    """Measure everything and write bench.csv and bench.png."""
    parser = argparse.ArgumentParser(prog="python -m dslib.study bench", description=__doc__)
    parser.add_argument("--steps", type=int, default=30, help="timed steps a method; default: %(default)s")
    parser.add_argument("--num_images", type=int, default=1000, help="images of the Intra-LPIPS comparison; default: %(default)s")
    parser.add_argument("--output", default="runs/bench", help="folder for bench.csv and bench.png; default: %(default)s")
    parser.add_argument("--memory_of", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    return errors.run(lambda: print(memory_of(args.memory_of)) if args.memory_of else measure_all(args), "dslib.study.bench")


def measure_all(args: argparse.Namespace) -> None:
    """Every row of the bench, printed and written."""
    source, images = models.load_source(), data.load_domain("sunglasses", "ten").images
    methods = ["finetune", "domainstudio", "anchored", "loops", "tgan", "cdc"]
    words = text_rows(latent.load_pipeline(data_dir() / "text_to_image"), data.load_domain("portraits", "ten").images, args.steps)
    rows = step_rows(source, images, [*methods, "bank"], args.steps) + words + memory_rows(methods)
    rows += large_rows(source, max(3, args.steps // 3)) + memory_rows(LARGE, "peak memory of a large batch")
    rows += lpips_rows(args.num_images) + sampling_rows(source) + redraw_rows(source, images) + [flops_row(source)]
    rows = with_ratios(rows)
    machine = f"{device_name()}, {os.cpu_count()} cores, torch {torch.__version__}, {platform.machine()}"
    print(f"{machine}; batch {len(images)}, {images.shape[-1]}×{images.shape[-1]}, {args.steps} steps each, medians")
    for row in rows:
        print(f"{row['what']:<28} {row['case']:<48} {row['value']:10.3f} {row['unit']:<6} {row['ratio']:8.2f}")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*rows[0], "machine"])
    writer.writeheader()
    writer.writerows(row | {"machine": machine} for row in rows)
    write_atomic(Path(args.output) / "bench.csv", text.getvalue().encode())
    write_atomic(Path(args.output) / "bench.png", plots.to_png(figure(rows), 80))
    print(f"{args.output}/bench.csv, {args.output}/bench.png")


if __name__ == "__main__":
    sys.exit(main())
