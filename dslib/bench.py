"""``make bench``: what a DomainStudio step costs beside a naive one, as a ratio measured in one run."""

import argparse
import os
import platform
import statistics

import torch

from . import data, env, models, train


def interleave(source, images, methods: list[str], steps: int, warm_up: int = 3) -> dict[str, list[float]]:
    """Seconds of every step; the methods take turns, so that a busy machine slows all of them alike."""
    runs = {m: train.adapt(source, images, train.TrainConfig(method=m, max_train_steps=steps + warm_up)) for m in methods}
    seconds: dict[str, list[float]] = {m: [] for m in methods}
    for i in range(steps + warm_up):
        for method, run in runs.items():
            record = next(run)
            if i >= warm_up:
                seconds[method].append(record.seconds)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30, help="timed steps a method")
    args = parser.parse_args()
    source, images = models.load_source(), data.load_domain("sunglasses", "ten").images
    seconds = interleave(source, images, ["finetune", "domainstudio"], args.steps)
    naive = statistics.median(seconds["finetune"])
    print(f"{env.device_name()}, {os.cpu_count()} cores, torch {torch.__version__}, {platform.machine()}; "
          f"batch {len(images)}, {images.shape[-1]}×{images.shape[-1]}, {args.steps} steps each, medians")
    for method, values in seconds.items():
        spread = statistics.quantiles(values, n=4)
        print(f"{method:<14} {statistics.median(values) * 1000:7.1f} ms a step  (quartiles {spread[0] * 1000:.1f}, {spread[2] * 1000:.1f})"
              f"  ratio to naive {statistics.median(values) / naive:.2f}")


if __name__ == "__main__":
    main()
