"""Helpers of the commands for terminals, pipes and signals."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import TextIO

from wsclient.text import printable

__all__ = ["Terminated", "clock", "complain", "is_rich", "let_go", "raise_on_sigterm"]


class Terminated(KeyboardInterrupt):
    """The exception for SIGTERM.

    It unwinds like Ctrl-C, which every blocking call of the client can handle.
    """


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Raise Terminated on SIGTERM, within the context."""

    def terminate(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def is_rich(stream: TextIO) -> bool:
    """Return whether ``stream`` may get colours and cursor movements."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and stream.isatty()


def clock(nanoseconds: int) -> str:
    """Return the local time of day for a time in ns since the epoch."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds):%H:%M:%S}.{rest // 10**6:03d}"


def complain(text: str) -> None:
    """Print one line on stderr."""
    print(f"wsclient: {printable(text)}", file=sys.stderr)


def let_go() -> None:
    """Discard what is still buffered for stdout.

    Its reader has gone or does not read: Python's own flush at exit would fail or block.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
