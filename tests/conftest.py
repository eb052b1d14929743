"""Checks of every test: it leaves no thread, socket or file behind. The log's thread belongs to the
process and stays. This file also says which folders are pure, use loopback or are slow."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import settings

# So that their asserts are checked under ``python -O`` too, as those of test modules are.
pytest.register_assert_rewrite("support")

from support.examples import PROFILE  # noqa: E402 - after the line above
from support.locking import Instrument  # noqa: E402
from wsclient.client import WebSocketClient  # noqa: E402
from wsclient.testing import FakeVenue  # noqa: E402

pytest_plugins = ["pytester"]
settings.load_profile(PROFILE)

TESTS = Path(__file__).parent
#: The kind of each folder's tests, and of the modules beside the folders. Tests that are not named
#: use loopback, as do tests in a pure folder that are marked so.
KINDS = {
    "sansio": "pure",
    "stream": "pure",
    "dialect": "pure",
    "dialects": "pure",
    "mutation": "pure",
    "books/test_book.py": "pure",
    "telemetry/test_histogram.py": "pure",
    "test_architecture.py": "pure",
    "test_errors.py": "pure",
    "test_html.py": "pure",
    "test_dialect.py": "pure",
    "test_messages.py": "pure",
    "test_registry.py": "pure",
    "faults": "slow",
    "integration": "slow",
    "typing": "slow",
    "test_migration.py": "slow",
    "test_new_venue.py": "slow",
    "test_optimized.py": "slow",
    "test_packaging.py": "slow",
    "test_recipes.py": "slow",
}


def kind_of(path: Path) -> str:
    place = path.relative_to(TESTS)
    return KINDS.get(place.as_posix()) or KINDS.get(place.parts[0], "loopback")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # A test in full size belongs to no loop; a test with a mark of its own needs no other.
        if not any(item.get_closest_marker(name) for name in ("soak", "loopback", "slow")):
            item.add_marker(kind_of(item.path))


def pytest_collection_finish() -> None:
    """Freeze what was imported: many tests run the garbage collector, which need not visit it."""
    gc.collect()
    gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the import of other modules for ``-m pure``."""
    is_left_out = config.getoption("markexpr") == "pure" and collection_path.is_file()
    return True if is_left_out and kind_of(collection_path) != "pure" else None


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Run modules named by hand, and full sizes, which measure, in this process; others in more."""
    named = [Path(arg.partition("::")[0]) for arg in config.args]
    if config.getoption("markexpr") != "soak" and any(path.is_dir() for path in named):
        return (os.cpu_count() or 1) + 1  # many tests wait: a process more uses the time
    config.option.dist = "no"
    return 0


@pytest.fixture(autouse=True)
def is_as_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a pure test that opens a socket or starts a thread."""
    if request.node.get_closest_marker("pure") is None:
        return

    def refuse(*_: Any, **__: Any) -> NoReturn:
        pytest.fail("no socket and no thread in a pure test: mark it with pytest.mark.loopback")

    monkeypatch.setattr(socket.socket, "__init__", refuse)
    monkeypatch.setattr(threading.Thread, "start", refuse)


_FDS = "/proc/self/fd"
#: How long (s) threads and files that a test has ended may remain: a reader lingers up to 2 s.
_GRACE = 5.0


def _open_files() -> set[str]:
    if not os.path.exists(_FDS):
        return set()
    # Listing opens another one.
    return {fd for fd in os.listdir(_FDS) if os.path.lexists(f"{_FDS}/{fd}")}


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name != "wsclient-log"}


@pytest.fixture(autouse=True, scope="session")
def hears_interrupts() -> Iterator[None]:
    """Handle Ctrl-C, which ``nohup``, cron or a shell's ``&`` disable, for children too."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves a thread, a socket or a file behind."""
    threads_before = _threads()
    files_before = _open_files()
    yield
    deadline = time.monotonic() + _GRACE
    for thread in _threads() - threads_before:
        thread.join(max(0.0, deadline - time.monotonic()))
    left = [t.name for t in _threads() - threads_before]
    assert not left, f"threads left behind: {left}"
    if _open_files() - files_before:
        gc.collect()  # closes what only a cycle holds, with a warning that is an error
    files = {fd: os.readlink(f"{_FDS}/{fd}") for fd in _open_files() - files_before}
    assert not files, f"files left behind: {files}"


#: These interrupt the client, or look at its locks: see tests/support/locking.py.
_UNWATCHED = {
    "test_interrupted_calls.py",
    "test_interrupting.py",
    "test_interrupts.py",
    "test_lock_free_reads.py",
    "test_locking.py",
    "test_locks.py",
    "test_waiting.py",
}


@pytest.fixture(autouse=True)
def locks_are_watched(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that takes locks in a wrong order, or runs user code, logging or I/O under a
    lock, if WSCLIENT_TEST_LOCKS=1."""
    if not os.environ.get("WSCLIENT_TEST_LOCKS") or request.path.name in _UNWATCHED:
        yield
        return
    with Instrument() as instrument:
        yield
    instrument.check()


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[WebSocketClient]:
    """Collect every client that the test makes."""
    made: list[WebSocketClient] = []
    original = WebSocketClient.__init__

    def remember(self: WebSocketClient, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(WebSocketClient, "__init__", remember)
    return made


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    """A venue that speaks the generic protocol."""
    with FakeVenue("generic") as venue:
        yield venue
