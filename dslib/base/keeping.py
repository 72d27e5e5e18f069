"""When a training run is saved: every so many steps, every so many seconds (chapter 06)."""

import time

import torch
from torch import Tensor

from .checkpoint import save_checkpoint
from .finite import check_loss, check_start, check_weights

SHARE = 10      # timed checkpoints take at most a tenth of the time, however slow the disk


class Keeper:
    """Sees that a run's numbers stay numbers, and writes its checkpoints when they are due; timed ones only into an ``output_dir``."""

    def __init__(self, config, model: torch.nn.Module, images: Tensor, main: bool):
        """model, images: what the run starts from, checked here; main: whether this process is the one that writes."""
        check_start(model, images)
        self.config, self.main = config, main
        self.timed = config.checkpointing_seconds if config.output_dir and main else 0
        self.due = time.monotonic() + self.timed

    def check(self, step: int, loss: Tensor, terms: dict[str, Tensor]) -> None:
        """Raise a UserError, before anything is updated, where a step's loss is no number."""
        check_loss(step, loss, terms, self.config)

    def keep(self, record) -> None:
        """Save a step (:class:`dslib.train.Step`) if it is due; see after the last one that its weights are numbers."""
        config = self.config
        if record.step == config.max_train_steps:
            check_weights(record.step, record.model, config)
        stepped = config.checkpointing_steps and record.step % config.checkpointing_steps == 0
        if self.main and (stepped or self.timed and time.monotonic() >= self.due):
            began = time.monotonic()
            save_checkpoint(config, record)
            self.due = time.monotonic() + max(self.timed, SHARE * (time.monotonic() - began))
