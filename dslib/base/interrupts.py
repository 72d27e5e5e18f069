"""Signals that ask a training to stop: answered at once, but never in the middle of an update or of a file."""

import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager

ASKING = ("SIGINT", "SIGTERM", "SIGHUP")     # Ctrl-C; kill, a notebook's stop, a scheduler; a closed terminal
PATIENCE = 2.0      # seconds in which further signals are the same wish: an interrupted notebook cell sends three


class Holding:
    """How many places ask not to be disturbed, and the answer that waits for them."""
    places = 0
    waiting: Callable[[], None] | None = None


@contextmanager
def undisturbed():
    """What happens in here belongs together: a signal that comes meanwhile is answered at the end."""
    Holding.places += 1
    try:
        yield
    finally:
        Holding.places -= 1
    if not Holding.places and Holding.waiting:
        answer, Holding.waiting = Holding.waiting, None
        answer()


@contextmanager
def answered(stop: Callable[[], None]):
    """While in here, the first SIGINT, SIGTERM or SIGHUP calls ``stop()``, which raises: at once, or at the end of what is
    :func:`undisturbed`.

    More of them within ``PATIENCE`` seconds change nothing; later ones raise KeyboardInterrupt wherever the program is. A signal that
    was ignored before (nohup) stays so. In another thread than the main one, where Python allows no handlers, nothing changes.
    """
    first: list[float] = []

    def handle(number, frame):
        if first:
            if time.monotonic() - first[0] > PATIENCE:
                raise KeyboardInterrupt
            return
        first.append(time.monotonic())
        if Holding.places:
            Holding.waiting = stop
        else:
            stop()

    here = threading.current_thread() is threading.main_thread()
    numbers = [getattr(signal, name) for name in ASKING if here and hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        Holding.waiting = None
        for number, former in before.items():
            signal.signal(number, former)
