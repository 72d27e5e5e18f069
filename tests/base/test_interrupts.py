"""The kind: **work is lost when a training is asked to stop, or is ended without being asked.**

Members: Ctrl-C; two quick ones; what an interrupted notebook cell sends (SIGINT, SIGHUP, SIGINT within half a second); ``kill``; a closed
terminal; a signal in the middle of an update; one while a checkpoint is written; one before the first step; nohup; and ``kill -9``,
which nothing answers: against it there are checkpoints by the clock.
"""

import contextlib
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import make_images, make_source

from dslib import domainstudio, train
from dslib.base import checkpoint, interrupts, keeping
from dslib.cli.watch import watch
from dslib.train import TrainConfig

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
STEPS = 4


def config(folder=None, **changes):
    return TrainConfig(**{"method": "finetune", "max_train_steps": STEPS, "train_batch_size": 2, "learning_rate": 1e-3,
                          "output_dir": str(folder) if folder else None} | changes)


def run(settings):
    return watch(train.adapt(make_source(), make_images(4, 16), settings), settings, "test")[0]


def weights(record):
    return torch.cat([p.detach().flatten() for p in (*record.model.parameters(), *record.averaged().parameters())])


@pytest.fixture(scope="module")
def whole():
    """The weights of the run that nothing interrupts."""
    return weights(run(config()))


@pytest.fixture(autouse=True)
def heard():
    """These tests may be running under nohup or in a script's background themselves, where signals are ignored."""
    usual = {INT: signal.default_int_handler, HUP: signal.SIG_DFL, TERM: signal.SIG_DFL}
    before = {number: signal.getsignal(number) for number in usual}
    for number, handler in usual.items():
        if before[number] == signal.SIG_IGN:
            signal.signal(number, handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def at(monkeypatch):
    """at(place, signals, n): the n-th call of a place in the training gets these signals; returns the list of its calls."""
    places = {"forward": (domainstudio, "domainstudio_loss"), "update": (train.EMAModel, "step"), "writing": (checkpoint, "save_file")}

    def arm(place, signals, n):
        owner, name = places[place]
        original, calls = getattr(owner, name), []

        def interrupted(*args, **options):
            calls.append(1)
            if len(calls) == n:
                for number in signals:
                    signal.raise_signal(number)
            return original(*args, **options)

        monkeypatch.setattr(owner, name, interrupted)
        return calls

    return arm


# what comes, where, at which call of it; the step that is saved; how often that place is reached
MEMBERS = {
    "Ctrl-C": ([INT], "forward", 3, 2, 3),
    "Ctrl-C twice": ([INT, INT], "forward", 3, 2, 3),
    "a notebook cell": ([INT, HUP, INT], "forward", 3, 2, 3),
    "kill": ([TERM], "forward", 2, 1, 2),
    "a closed terminal": ([HUP], "forward", 3, 2, 3),
    "in the middle of an update": ([INT, INT], "update", 2, 2, 2),
    "kill in the middle of an update": ([TERM], "update", 1, 1, 1),
    "while a checkpoint is written": ([INT], "writing", 2, 1, 4),
    "at the last step": ([INT], "update", STEPS, STEPS, STEPS),
}


@pytest.mark.parametrize("what", MEMBERS)
def test_a_signal_is_answered_at_once_saves_whole_and_the_rest_is_the_same(tmp_path, monkeypatch, at, whole, what):
    signals, place, n, step, reached = MEMBERS[what]
    before = [signal.getsignal(number) for number in (INT, TERM, HUP)]
    calls = at(place, signals, n)
    settings = config(tmp_path, checkpointing_steps=1 if place == "writing" else 0)
    with pytest.raises(SystemExit, match=f"stopped at step {step}, saved .*checkpoint-{step}: .*--resume_from_checkpoint latest"):
        run(settings)
    assert len(calls) == reached, "nothing more was computed, nothing was written twice at a time"
    assert [signal.getsignal(number) for number in (INT, TERM, HUP)] == before
    assert [c.name for c in checkpoint.checkpoints(tmp_path)] == [f"checkpoint-{step}"]
    assert [p.name for p in tmp_path.iterdir()] == [f"checkpoint-{step}"], "nothing half-written is left"
    monkeypatch.undo()
    assert torch.equal(weights(run(replace(settings, resume_from_checkpoint="latest"))), whole)


def test_before_the_first_step_there_is_nothing_to_save_and_it_says_so(tmp_path, at):
    at("forward", [INT], 1)
    with pytest.raises(KeyboardInterrupt, match="before the first step was done"):
        run(config(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_signal_that_is_ignored_stays_ignored_and_the_run_ends(tmp_path, at, whole):
    """nohup dslib adapt …: the terminal is closed, the training goes on."""
    before = signal.signal(HUP, signal.SIG_IGN)
    try:
        at("forward", [HUP], 2)
        assert torch.equal(weights(run(config(tmp_path))), whole)
        assert signal.getsignal(HUP) is signal.SIG_IGN
    finally:
        signal.signal(HUP, before)


@pytest.mark.parametrize("seconds, raises", [((0.0, 0.2), False), ((0.0, 0.2, 0.4, 1.9), False), ((0.0, 2.1), True)])
def test_further_signals_are_the_same_wish_for_two_seconds_then_the_program_ends(monkeypatch, seconds, raises):
    """Saving hangs on a network drive, say: a later Ctrl-C gets through."""
    times, asked = list(seconds), []
    monkeypatch.setattr(interrupts, "time", SimpleNamespace(monotonic=lambda: times.pop(0)))
    with pytest.raises(KeyboardInterrupt) if raises else contextlib.nullcontext(), interrupts.answered(lambda: asked.append(1)):
        for _ in seconds:
            signal.raise_signal(INT)
    assert asked == [1]


def test_nobody_is_disturbed_within_the_undisturbed():
    seen = []
    with interrupts.answered(lambda: seen.append("answered")), interrupts.undisturbed():
        with interrupts.undisturbed():
            signal.raise_signal(TERM)
        seen.append("still inside")
    assert seen == ["still inside", "answered"]


# ------------------------------------------------------------------------------------------ by the clock

def timed(monkeypatch, settings, seconds_a_step=25.0, seconds_a_save=0.0):
    """Run with a clock that goes on by so much a step, and a save: (steps that were saved, last record)."""
    now, saved, original = [0.0], [], keeping.save_checkpoint

    def save(config, record):
        saved.append(record.step)
        now[0] += seconds_a_save
        return original(config, record)

    monkeypatch.setattr(keeping, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(keeping, "save_checkpoint", save)
    records = []
    for record in train.adapt(make_source(), make_images(4, 16), settings):
        records.append(record)
        now[0] += seconds_a_step
    return saved, records[-1]


CLOCK = {
    "by default every minute": ({}, {}, [4, 7]),
    "never": ({"checkpointing_seconds": 0.0}, {}, []),
    "beside every fifth step": ({"checkpointing_steps": 5}, {}, [4, 5, 8]),
    "more often": ({"checkpointing_seconds": 20.0}, {}, [2, 3, 4, 5, 6, 7, 8]),
    "steps longer than that": ({}, {"seconds_a_step": 300.0}, [2, 3, 4, 5, 6, 7, 8]),
    "a slow disk gets a tenth of the time": ({}, {"seconds_a_save": 15.0}, [4]),
}


@pytest.mark.parametrize("what", CLOCK)
def test_checkpoints_by_the_clock(tmp_path, monkeypatch, what):
    changes, clock, want = CLOCK[what]
    settings = config(tmp_path, max_train_steps=8, **changes)
    assert timed(monkeypatch, settings, **clock)[0] == want
    assert [c.name for c in checkpoint.checkpoints(tmp_path)] == [f"checkpoint-{step}" for step in want[-2:]]


def test_without_a_folder_nothing_is_written(monkeypatch):
    assert timed(monkeypatch, config(max_train_steps=8))[0] == []


def test_saving_by_the_clock_changes_no_weight(tmp_path, monkeypatch, whole):
    saved, record = timed(monkeypatch, config(tmp_path, checkpointing_seconds=1.0))
    assert saved == [2, 3, 4] and torch.equal(weights(record), whole)
