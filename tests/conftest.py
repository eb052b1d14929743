"""What every test is held to: no thread, socket or file is left behind. The log's thread is the
process's own, and stays."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from locking import Instrument

from wsclient.testing import FakeVenue

# So that their asserts are checked under ``python -O`` too, as those of test modules are.
pytest.register_assert_rewrite("broken", "helpers", "making", "oracle", "program", "rig", "rigs")

# The suite asks the same questions each time; HYPOTHESIS_PROFILE=explore asks new ones.
settings.register_profile("suite", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

_FDS = Path("/proc/self/fd")
#: How long (s) what a test has ended may take to be gone: a reader lingers up to 2 s.
_GRACE = 5.0


def _open_files() -> dict[str, str]:
    found = {}
    for fd in _FDS.iterdir() if _FDS.exists() else ():
        try:
            found[fd.name] = os.readlink(fd)
        except OSError:
            continue  # the one that lists the directory
    return found


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name != "wsclient-log"}


@pytest.fixture(autouse=True, scope="session")
def hears_interrupts() -> Iterator[None]:
    """What ``nohup``, cron or a shell's ``&`` starts ignores Ctrl-C, and so do its children."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fails a test that leaves a thread, a socket or a file behind."""
    threads_before = _threads()
    files_before = _open_files()
    yield
    deadline = time.monotonic() + _GRACE
    for thread in _threads() - threads_before:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [t.name for t in _threads() - threads_before]
    assert not left, f"threads left behind: {left}"
    if _open_files().keys() - files_before.keys():
        gc.collect()  # what only a cycle holds is closed by this, with a warning that is an error
    files = {fd: what for fd, what in _open_files().items() if fd not in files_before}
    assert not files, f"files left behind: {files}"


#: These interrupt the client, or look at its locks: see tests/locking.py.
_UNWATCHED = {
    "test_interrupted_calls.py",
    "test_interrupting.py",
    "test_interrupts.py",
    "test_locking.py",
    "test_locks.py",
    "test_waiting.py",
}


@pytest.fixture(autouse=True)
def locks_are_watched(request: pytest.FixtureRequest) -> Iterator[None]:
    """With WSCLIENT_TEST_LOCKS=1, fails a test that takes locks in a wrong order, or that runs
    user code, logging or I/O under one."""
    if not os.environ.get("WSCLIENT_TEST_LOCKS") or request.path.name in _UNWATCHED:
        yield
        return
    with Instrument() as instrument:
        yield
    instrument.check()


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    """A venue that speaks the generic protocol."""
    with FakeVenue("generic") as venue:
        yield venue
