"""What code of a reader's may not do while it is tried: run for ever, or call the network."""

import ctypes
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 20.0       # of one call of a reader's function in a self-check; a right one takes milliseconds


class OutOfTime(BaseException):
    """The time is over. No Exception, so that a reader's ``except Exception`` lets it through."""


class NoNetwork(BaseException):
    """Somebody asked for a connection. No Exception, so that no library turns it into one of its own."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise :class:`OutOfTime` in the body when the time is over, and again every second until it is left.

    By an alarm, which also wakes who sleeps; where there is none (Windows, a thread), between two lines of Python.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        with interrupted(seconds):
            yield
        return

    def ring(*_):
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def interrupted(seconds: float) -> Iterator[None]:
    """:func:`limited` without an alarm: another thread raises in this one."""
    me = ctypes.c_ulong(threading.get_ident())
    clock = threading.Timer(seconds, lambda: ctypes.pythonapi.PyThreadState_SetAsyncExc(me, ctypes.py_object(OutOfTime)))
    clock.daemon = True
    clock.start()
    try:
        yield
    finally:
        clock.cancel()


@contextmanager
def offline() -> Iterator[None]:
    """Every new connection of Python's in the body raises :class:`NoNetwork`; those that are open stay so."""
    def refuse(*_, **__):
        raise NoNetwork("no network here")

    looked_up, connect = socket.getaddrinfo, socket.socket.connect
    socket.getaddrinfo, socket.socket.connect = refuse, refuse
    try:
        yield
    finally:
        socket.getaddrinfo, socket.socket.connect = looked_up, connect
