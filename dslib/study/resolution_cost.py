"""What a step costs at 64, 128 and 256 pixels, and for the 114 million weights of google/ddpm-celebahq-256 (chapter 13)."""

import argparse
import copy
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from diffusers import DDPMPipeline, UNet2DModel
from torch.utils.flop_counter import FlopCounterMode

from .. import data, models, train
from ..base.device import device
from ..base.errors import UserError
from ..base.files import write_atomic
from . import bench
from .curves import as_csv

COLUMNS = ("what", "resolution", "method", "way", "value", "unit", "ratio")
METHODS, BATCH = ("finetune", "domainstudio"), 4
#: ways to save memory or time: name → (gradient checkpointing, settings of TrainConfig)
WAYS: dict[str, tuple[bool, dict]] = {
    "plain": (False, {}), "checkpointing": (True, {}), "bf16": (False, {"mixed_precision": "bf16"}),
    "one at a time": (False, {"micro_batch_size": 1}),
    "all three": (True, {"mixed_precision": "bf16", "micro_batch_size": 1}),
}
PAIRS = 2                                        # pictures of the dry run: the least that the method takes

#: What the owner of a GPU types: name → command line. Tests check it against the options of ``dslib adapt``.
FOR_ALL = ("dslib adapt --source google/ddpm-celebahq-256 --train_data_dir my_ten_photos --learning_rate 1e-4 --max_train_steps 1000"
           " --train_batch_size 10 --micro_batch_size 1 --mixed_precision bf16 --num_images 100")
RECIPE = {
    "naive": f"{FOR_ALL} --method finetune --output_dir runs/hq-naive",
    "published": f"{FOR_ALL} --output_dir runs/hq-published",
    "anchored": f"{FOR_ALL} --pairwise_on source --num_anchors 100 --lambda_img 1 --lambda_hf 1 --output_dir runs/hq-anchored",
}


def at_size(source: DDPMPipeline, size: int) -> DDPMPipeline:
    """A copy of a pipeline whose U-Net takes pictures of another size: all its layers are convolutions and attention."""
    resized = copy.deepcopy(source)
    resized.unet.register_to_config(sample_size=size)
    return resized


def celebahq() -> DDPMPipeline:
    """The architecture of google/ddpm-celebahq-256 (its ``config.json``) with random weights: 114 million parameters."""
    down = ("DownBlock2D",) * 4 + ("AttnDownBlock2D", "DownBlock2D")
    unet = UNet2DModel(
        sample_size=256, in_channels=3, out_channels=3, layers_per_block=2, block_out_channels=(128, 128, 256, 256, 512, 512),
        down_block_types=down, up_block_types=("UpBlock2D", "AttnUpBlock2D") + ("UpBlock2D",) * 4, attention_head_dim=None,
        downsample_padding=0, flip_sin_to_cos=False, freq_shift=1, norm_eps=1e-6, norm_num_groups=32)
    return DDPMPipeline(unet=unet, scheduler=models.new_scheduler())


def start(source: DDPMPipeline, method: str, way: str, steps: int, batch: int = BATCH) -> Iterator[train.Step]:
    """A run of a method in one of ``WAYS``, on drawn pictures of the source's size."""
    checkpointing, settings = WAYS[way]
    images = data.load_domain("engraved", "ten", batch, source.unet.config.sample_size).images
    if checkpointing:
        source.unet.enable_gradient_checkpointing()         # the copy that is trained takes it over
    run = train.adapt(source, images, train.TrainConfig(method=method, max_train_steps=steps, train_batch_size=batch, **settings))
    source.unet.disable_gradient_checkpointing()
    return run


def gigaflops(unet: UNet2DModel) -> float:
    """Billions of multiplications and additions of a forward pass of one picture, counted on shapes alone."""
    size = unet.config.sample_size
    with torch.device("meta"):
        unet = UNet2DModel.from_config(unet.config)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            unet(torch.zeros(1, unet.config.in_channels, size, size), torch.zeros(1))
    return counter.get_total_flops() / 1e9


def steps_with_memory(begin: Callable[[], Iterator[train.Step]], warm_up: int = 1) -> tuple[float, float]:
    """(median seconds of a step after the warm-up, megabytes that a run adds at its peak, its copies of the weights among them).

    begin: starts the run. On a CPU, run it in a process of its own: there a peak never goes down.
    """
    cuda = device().type == "cuda"
    before = torch.cuda.memory_allocated() / 2**20 if cuda else bench.resident("VmRSS")
    seconds, began = [], time.perf_counter()
    for _ in begin():
        bench.finish()
        seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
    peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else bench.resident("VmHWM")
    return statistics.median(seconds[warm_up:]), peak - before


def apart(*words: str) -> list[float]:
    """The numbers that this command prints last in a fresh process: there a peak is the case's own."""
    done = subprocess.run([sys.executable, "-m", "dslib.study", "resolution", *words], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"'resolution {' '.join(words)}' failed: {done.stderr.strip().splitlines()[-1:] or done.returncode}; "
                        "less memory: fewer --ways")
    return [float(word) for word in done.stdout.split()[-2:]]


def measure_cost(args: argparse.Namespace) -> None:
    """Seconds by turns in one process, megabytes each in a fresh one; ratios to the first case."""
    if args.case:
        size, method, way = args.case
        source = at_size(models.load_source(), int(size))
        print(*steps_with_memory(lambda: start(source, method, way, 2)))
        return
    source, cases = models.load_source(), [(size, method, way) for size in args.sizes for method in METHODS for way in args.ways]
    runs = {case: start(at_size(source, case[0]), *case[1:], args.steps + 1) for case in cases}
    seconds = bench.interleave(runs, args.steps, warm_up=1)
    rows = [row("step", case, statistics.median(seconds[case]), "s") for case in cases]
    rows += [row("peak memory", case, apart("cost", "--case", *map(str, case))[1], "MB") for case in cases]
    write(args.output, rows)


def row(what: str, case: tuple, value: float, unit: str) -> dict:
    """A line of the table."""
    return {"what": what, "resolution": case[0], "method": case[1], "way": case[2], "value": float(f"{value:.4g}"), "unit": unit}


def write(output: str, rows: list[dict]) -> None:
    """Print and write rows, with the ratio to the first row of the same kind."""
    rows = [line | {"ratio": round(line["ratio"], 3)} for line in bench.with_ratios(rows)]
    for line in rows:
        print("{what:<14} {resolution:>4} {method:<13} {way:<14} {value:>10.4g} {unit:<6} {ratio:8.2f}".format(**line))
    write_atomic(Path(output), as_csv(rows, COLUMNS).encode())
    print(output)


def measure_celebahq(args: argparse.Namespace) -> None:
    """One DomainStudio step of two pictures in each way, parameters, and the command lines for a GPU."""
    if args.case:
        print(*steps_with_memory(lambda: start(celebahq(), "domainstudio", args.case, 1, PAIRS), warm_up=0))
        return
    pipe, rows = celebahq(), []
    case = (256, "domainstudio", "any")
    rows.append(row("parameters", case, sum(p.numel() for p in pipe.unet.parameters()) / 1e6, "M"))
    rows.append(row("forward pass", case, gigaflops(pipe.unet), "GFLOP"))
    del pipe
    for way in args.ways:
        seconds, memory = apart("celebahq", "--case", way)
        rows += [row("step", (*case[:2], way), seconds, "s"), row("peak memory", (*case[:2], way), memory, "MB")]
    write(args.output, rows)
    print("\nOn a GPU:", *RECIPE.values(), sep="\n  ")


def add_options(cost: argparse.ArgumentParser, hq: argparse.ArgumentParser) -> None:
    """The options of both parts."""
    cost.add_argument("--steps", type=int, default=2, help="timed steps a case")
    cost.add_argument("--case", nargs=3, help=argparse.SUPPRESS)
    hq.add_argument("--case", help=argparse.SUPPRESS)
    for parser, ways in ((cost, list(WAYS)), (hq, ["one at a time", "all three"])):
        parser.add_argument("--ways", nargs="+", choices=WAYS, default=ways, metavar="WAY", help=f"of {', '.join(WAYS)}")
