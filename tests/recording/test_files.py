"""The files of a recorder: their names, locks and ends."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "win32":
    import fcntl

from wsclient.recording import files as module
from wsclient.recording.filereader import FileReader
from wsclient.recording.files import DAY, Files, Rules, finish_orphans, last_end
from wsclient.recording.records import End, encode

NOON = 20_000 * DAY + DAY // 2
SESSION = "0123456789abcdef"


class HandClock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.wall, self.running = NOON, 100.0

    def time_ns(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.running

    def advance(self, seconds: float) -> None:
        self.wall += round(seconds * 1e9)
        self.running += seconds


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def new_files(folder: Path, clock: HandClock, venue: str = "generic", **rules: Any) -> Files:
    metadata = {"version": "1", "session": SESSION, "venue": venue, "name": "mine"}
    chosen = {"size": 1 << 30, "seconds": 1e9, "level": 3, **rules}
    return Files(folder, metadata, Rules(**chosen), clock)


@pytest.fixture
def files(tmp_path: Path, clock: HandClock) -> Iterator[Files]:
    files = new_files(tmp_path, clock)
    files.open()
    yield files
    files.abandon()


def add(files: Files, time: int = NOON) -> None:
    files.add("client", "client", time, encode(End(at=0)))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_ends_after_its_time(tmp_path: Path, clock: HandClock) -> None:
    files = new_files(tmp_path, clock, seconds=60.0)
    files.open()
    clock.advance(59.0)
    assert (files.is_due(), files.due_in()) == (False, 1.0)
    clock.advance(1.0)
    assert files.is_due()
    files.finish()
    files.open()
    assert not files.is_due()
    files.abandon()


def test_a_file_ends_at_midnight(files: Files, clock: HandClock) -> None:
    clock.advance(12 * 3600 - 1)
    assert (files.is_due(), files.due_in()) == (False, 1.0)
    clock.advance(1.0)
    assert files.is_due()


def test_a_wall_clock_that_steps_ends_a_file_once(files: Files, clock: HandClock) -> None:
    clock.wall -= DAY
    assert files.is_due()
    files.finish()
    files.open()
    assert not files.is_due()
    clock.wall -= 1000
    assert not files.is_due()
    assert files.due_in() > 0


def test_the_times_of_a_file_do_not_step_back(files: Files) -> None:
    for time in (NOON, NOON - 5, NOON + 1):
        add(files, time)
    files.finish()
    found = [(stored.log_time, stored.publish_time) for stored in FileReader(files.path).read()]
    assert found == [(NOON, NOON), (NOON, NOON - 5), (NOON + 1, NOON + 1)]


@pytest.mark.parametrize("venue", ["a" * 300, "CON", 'a/b\\c:d*e?f"g<h>i|j', "\udce4", ".."])
def test_any_venue_has_files(tmp_path: Path, clock: HandClock, venue: str) -> None:
    files = new_files(tmp_path, clock, venue)
    files.open()
    files.finish()
    (name,) = names(tmp_path)
    assert name.endswith(f"-20241004T120000Z-{SESSION[:8]}-0001.mcap")
    assert len(name) < 200
    assert not set(name) & set('/\\:*?"<>|')


def test_a_file_that_cannot_be_named_is_named_later(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(files)
    rename = Path.rename
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise PermissionError(errno.EACCES, "another program reads it")

        patch.setattr(Path, "rename", refuse)
        with pytest.raises(PermissionError):
            files.finish()
    assert Path.rename is rename
    files.finish()
    assert names(tmp_path) == [files.path.name]
    assert files.path.suffix == ".mcap"
    assert FileReader(files.path).is_finished


def test_a_file_that_cannot_be_begun_has_no_number(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = new_files(tmp_path, clock)
    with monkeypatch.context() as patch:

        def refuse(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "no space")

        patch.setattr(module, "FileWriter", refuse)
        with pytest.raises(OSError, match="no space"):
            files.open()
    assert (files.count, names(tmp_path)) == (0, [])
    files.open()
    assert (files.count, files.path.name[-15:]) == (1, "-0001.mcap.part")
    files.abandon()


def test_a_file_that_was_removed_at_its_end_is_no_trouble(files: Files, tmp_path: Path) -> None:
    files.path.unlink()
    files.finish()
    files.open()
    assert len(names(tmp_path)) == 1


@pytest.mark.parametrize(("number", "is_raised"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_file_system_may_not_know_how_to_sync(
    files: Files, monkeypatch: pytest.MonkeyPatch, number: int, is_raised: bool
) -> None:
    def sync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdatasync", sync, raising=False)
    add(files)
    files.end_chunk()
    raised = None
    try:
        files.sync()
    except OSError as error:
        raised = error.errno
    assert raised == (number if is_raised else None)


@pytest.mark.skipif(sys.platform == "win32", reason="the system locks otherwise")
def test_a_new_file_that_another_process_looks_at_is_locked_soon(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_file = module.new_file

    def looked_at(path: Path) -> Any:
        file = new_file(path)
        other = path.open("rb")
        fcntl.flock(other.fileno(), fcntl.LOCK_EX)
        threading.Timer(0.05, other.close).start()
        return file

    monkeypatch.setattr(module, "new_file", looked_at)
    files = new_files(tmp_path, clock)
    files.open()
    finish_orphans(tmp_path, "another session", lambda: None)
    assert names(tmp_path)[0].endswith(".part")
    files.finish()
    assert names(tmp_path)[0].endswith(".mcap")


def test_other_work_is_done_while_an_old_file_is_finished(
    files: Files, tmp_path: Path, clock: HandClock
) -> None:
    for number in range(5):
        add(files, NOON + number)
        files.end_chunk()
    files.abandon()
    calls: list[None] = []
    finish_orphans(tmp_path, "another session", lambda: calls.append(None))
    assert len(calls) == 5
    assert FileReader(files.path.with_suffix("")).is_finished


@pytest.mark.parametrize("sessions", [("0" * 16, "f" * 16), ("f" * 16, "0" * 16)])
def test_of_sessions_that_began_in_one_second_the_last_end_counts(
    tmp_path: Path, clock: HandClock, sessions: tuple[str, str]
) -> None:
    for begin, session in enumerate((SESSION, *sessions)):
        files = new_files(tmp_path, clock)
        files.metadata["session"] = session
        files.open()
        add(files, NOON + begin)
        files.end_chunk()
        files.abandon()
        clock.advance(0.0 if begin else 1.0)
    assert last_end(tmp_path, "generic", "mine", "another session") == (True, NOON + 2)


class Stop(Exception):
    pass


def test_to_finish_an_old_file_may_be_stopped(files: Files, tmp_path: Path) -> None:
    add(files)
    files.end_chunk()
    files.abandon()
    before = files.path.read_bytes()

    def stop() -> None:
        raise Stop

    with pytest.raises(Stop):
        finish_orphans(tmp_path, "another session", stop)
    assert files.path.read_bytes() == before


def test_a_folder_that_is_removed_while_it_is_listed_holds_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def removed(folder: Path, pattern: str) -> Iterator[Path]:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(folder))

    monkeypatch.setattr(Path, "glob", removed)
    assert last_end(tmp_path, "venue", "name", SESSION) == (False, None)
    finish_orphans(tmp_path, SESSION, lambda: None)
