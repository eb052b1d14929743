"""Fixtures that run the command as a user does: in its own process, with pipes or a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import selectors
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import wsclient

ROOT = Path(wsclient.__file__).parents[1]
#: The longest time (s) for any step; none should come near it.
PATIENCE = 10.0
#: Variables that a user's shell may set, and a test must not inherit.
UNSET = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "PYTHONUNBUFFERED", "PYTHONIOENCODING")


class Command:
    """A running ``wsclient``; ``out`` and ``err`` grow while a method waits.

    ``terminal`` (columns, rows) makes its stdout a terminal. ``without`` names modules that it must
    not find; ``before`` is Python code to run first.
    """

    def __init__(
        self,
        *args: str,
        terminal: tuple[int, int] | None = None,
        without: tuple[str, ...] = (),
        before: str = "",
        **env: str,
    ) -> None:
        program = f"import sys; sys.modules.update(dict.fromkeys({without!r}))\n{before}\n"
        program += "from wsclient.cli import main; sys.exit(main())"
        environment = {k: v for k, v in os.environ.items() if k not in UNSET}
        environment |= {"PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **env}
        stdout = subprocess.PIPE
        if terminal is not None:
            self._out, stdout = pty.openpty()
            columns, rows = terminal
            fcntl.ioctl(stdout, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, *args],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment,
        )
        assert self.process.stderr is not None
        self._err = os.dup(self.process.stderr.fileno())
        self.process.stderr.close()
        if terminal is None:
            assert self.process.stdout is not None
            self._out = os.dup(self.process.stdout.fileno())
            self.process.stdout.close()
        else:
            os.close(stdout)
        self._read = {self._out: bytearray(), self._err: bytearray()}
        self._open = {self._out, self._err}
        self._selector = selectors.DefaultSelector()
        for fd in self._read:
            self._selector.register(fd, selectors.EVENT_READ)

    @property
    def out(self) -> str:
        return self._read[self._out].decode()

    @property
    def err(self) -> str:
        return self._read[self._err].decode()

    def wait_for(self, text: str, count: int = 1) -> None:
        """Wait until ``text`` is ``count`` times in ``out`` or in ``err``."""
        deadline = time.monotonic() + PATIENCE
        while self.out.count(text) < count and self.err.count(text) < count:
            assert self.read(deadline), f"no {text!r} in {self.out!r}, {self.err!r}"

    def read(self, deadline: float) -> bool:
        """Read what is there. Return False at the deadline and at the end of the output."""
        ready = self._selector.select(max(0.0, deadline - time.monotonic()))
        for key, _ in ready:
            try:
                data = os.read(key.fd, 65536)
            except OSError:  # how a terminal ends on Linux
                data = b""
            self._read[key.fd] += data
            if not data:
                self._selector.unregister(key.fd)
                self._close(key.fd)
        return bool(ready)

    def signal(self, number: int) -> float:
        """Send a signal, and return how long (s) the command then took to end."""
        self.process.send_signal(number)
        start = time.monotonic()
        self.end()
        return time.monotonic() - start

    def stop_reading(self) -> None:
        """Stop reading the pipe, so that it fills up."""
        self._selector.unregister(self._out)

    def close_out(self) -> None:
        """Close the pipe, as ``head`` does after its last line."""
        self.stop_reading()
        self._close(self._out)

    def end(self) -> int:
        """Wait for the end, and return the exit code."""
        deadline = time.monotonic() + PATIENCE
        while self._selector.get_map():
            assert self.read(deadline), f"no end of {self.out!r}, {self.err!r}"
        return self.process.wait(max(0.0, deadline - time.monotonic()))

    def dispose(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._selector.close()
        for fd in list(self._open):
            self._close(fd)

    def _close(self, fd: int) -> None:
        self._open.remove(fd)
        os.close(fd)


@pytest.fixture
def command() -> Iterator[Callable[..., Command]]:
    """Start commands, and end them after the test."""
    running: list[Command] = []

    def start(*args: str, **how: object) -> Command:
        running.append(Command(*args, **how))  # type: ignore[arg-type]
        return running[-1]

    yield start
    for one in running:
        one.dispose()
