"""What the commands need to know of the terminal, the pipes and the signals around them."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import TextIO

__all__ = ["Terminated", "clock", "complain", "is_rich", "let_go", "printable", "raise_on_sigterm"]


class Terminated(KeyboardInterrupt):
    """SIGTERM. It unwinds like Ctrl-C, which every blocking call of the client can bear."""


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def is_rich(stream: TextIO) -> bool:
    """May colours and cursor movements go there?"""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and stream.isatty()


def printable(text: str) -> str:
    """``text`` on one line, without anything that a terminal would obey."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def clock(nanoseconds: int) -> str:
    """The local time of day, of ns since the epoch."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds):%H:%M:%S}.{rest // 10**6:03d}"


def complain(text: str) -> None:
    """One line on stderr."""
    print(f"wsclient: {printable(text)}", file=sys.stderr)


def let_go() -> None:
    """What is still buffered for stdout goes nowhere: its reader has left, or does not read, and
    Python's own flush at exit would complain, or wait."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
