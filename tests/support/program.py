"""Python programs in processes of their own, whose end and output are checked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

import wsclient

__all__ = ["CERTIFICATE", "STRIKE", "End", "Program"]

ROOT = Path(wsclient.__file__).parents[1]
CERTIFICATE = ROOT / "tests" / "testing" / "localhost.pem"
#: How long (s) a whole program may take, on a busy machine.
PATIENCE = 30.0

#: For programs: ``strike(number)`` has the process signalled when the main thread is blocked in the
#: client (found twice at the same place), and prints the time.
STRIKE = """
import os, signal, sys, threading, time

# A shell starts what it runs in the background deaf to it.
signal.signal(signal.SIGINT, signal.default_int_handler)

def strike(number):
    def place():
        frame = sys._current_frames()[threading.main_thread().ident]
        at, files = (id(frame), frame.f_lasti), []
        while frame:
            files.append(frame.f_code.co_filename)
            frame = frame.f_back
        return at if any("wsclient" in file for file in files) else None

    def watch():
        before, pause = None, threading.Event()
        while (now := place()) is None or now != before:
            before = now
            pause.wait(0.03)
        print(time.monotonic(), flush=True)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, daemon=True).start()
"""


class End(NamedTuple):
    code: int
    out: str
    err: str
    at: float


class Program:
    """Process that runs ``source``, with all warnings as errors.

    It is killed with its children at the end of the block, or when it takes longer than
    ``patience`` (s).
    """

    def __init__(self, source: str, *args: str, patience: float = PATIENCE) -> None:
        # Python 3.12 and newer warn of a fork beside threads.
        warnings = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]
        self.process = subprocess.Popen(
            [sys.executable, "-X", "dev", *warnings, "-c", source, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )
        self._timer = threading.Timer(patience, self._kill)
        self._timer.start()

    def line(self) -> str:
        """Return the next line that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"it ended: {self.end()}")
        return line.rstrip("\n")

    def end(self) -> End:
        """Wait for its end, and for that of every process that holds its output open."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        out, err = self.process.stdout.read(), self.process.stderr.read()
        return End(self.process.wait(), out, err, time.monotonic())

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        self._kill()
        with self.process:
            pass  # which closes its pipes, and waits for it

    def _kill(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # every process has ended
