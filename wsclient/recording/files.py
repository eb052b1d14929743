"""The files of a recorder: their names, locks and ends, and the files that others have left."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import BinaryIO, cast

from wsclient.errors import InvalidMessage
from wsclient.recording.filereader import FileReader
from wsclient.recording.filewriter import FileWriter
from wsclient.recording.folder import PART, SUFFIX
from wsclient.recording.records import Kind
from wsclient.transport.source import Clock

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Files", "Rules", "finish_orphans", "last_end"]

DAY = 24 * 60 * 60 * 1_000_000_000
#: Where a file is locked on Windows (bytes): behind all data, which others may read.
_LOCKED_AT = 1 << 50

#: The longest name of a venue in the name of a file, and the longest wait (s) for a file's lock.
MAX_VENUE, LOCK_WAIT = 100, 1.0
#: Some file systems do not know how to sync.
_NO_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}


class Rules:
    """When a file ends: at ``size`` bytes, after ``seconds``, and at the end of a day (UTC)."""

    def __init__(self, size: int, seconds: float, level: int) -> None:
        self.size = size
        self.seconds = seconds
        #: The level of the compression.
        self.level = level


class Files:
    """Writes the files of one session, one after the other. Raises OSError as the system does."""

    def __init__(
        self, folder: Path, metadata: Mapping[str, str], rules: Rules, clock: Clock
    ) -> None:
        self.folder = folder
        self.metadata = {name: _text(value) for name, value in metadata.items()}
        self._rules = rules
        self._clock = clock
        self._file: BinaryIO | None = None
        self._writer: FileWriter | None = None
        self.path = folder
        #: The file that is complete but has not got its name yet.
        self._unnamed: Path | None = None
        #: How many files were begun, and the size (bytes) of those that have ended.
        self.count = self._size_before = 0
        self._opened_at = 0.0
        #: When the present file was begun (ns since the epoch).
        self.began_at = 0
        #: Whether a write has failed, so that the file may end within a record.
        self._is_torn = False
        #: Whether something was written since the last sync.
        self._is_dirty = False

    @property
    def size(self) -> int:
        """The size (bytes) of all files."""
        return self._size_before + (0 if self._writer is None else self._writer.size)

    @property
    def is_open(self) -> bool:
        return self._writer is not None

    @property
    def is_removed(self) -> bool:
        """Whether the file was removed: then nobody can read what is written."""
        try:
            return self._file is not None and os.fstat(self._file.fileno()).st_nlink == 0
        except OSError:
            return True  # on a server that knows it no more

    @property
    def has_buffered(self) -> bool:
        """Whether a chunk waits to be written."""
        return self._writer is not None and self._writer.buffered > 0

    def open(self) -> None:
        """Begin a file, unless one is open."""
        if self._writer is None:
            self._begin()

    def _begin(self) -> None:
        now = self._clock.time_ns()
        when = datetime.fromtimestamp(now / 1e9, timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        venue = _of_venue(self.metadata["venue"])
        self.folder.mkdir(parents=True, exist_ok=True)
        number = self.count + 1
        name = f"{venue}-{when}-{self.metadata['session'][:8]}-{number:04}"
        path = self.folder / f"{name}{PART}"
        try:
            file = new_file(path)
        except FileExistsError:
            self.count = number  # an attempt has left it
            raise
        try:
            _take(file)
            metadata = {**self.metadata, "number": str(number), "created": str(now)}
            writer = FileWriter(file, metadata, level=self._rules.level)
        except BaseException:
            file.close()
            with suppress(OSError):
                path.unlink()  # it holds no record
            raise
        self.path, self._file, self._writer, self.count = path, file, writer, number
        self._opened_at, self.began_at = self._clock.monotonic(), now
        self._is_torn, self._is_dirty = False, True
        _sync_folder(self.folder)

    def add(self, kind: Kind, topic: str, time: int, data: bytes) -> bool:
        """Add a record. Returns whether the chunk is full: then call :meth:`end_chunk`."""
        return self._writer is not None and self._writer.add(kind, topic, time, data)

    def has_room(self, topic: str) -> bool:
        """Return whether the file can have a topic of this channel."""
        writer = self._writer
        return writer is not None and (writer.has_room or writer.has_topic("channel", topic))

    def end_chunk(self) -> None:
        """Write the present chunk. After an OSError, it may be called again."""
        writer, file = self._writer, self._file
        if writer is None or file is None or not writer.buffered:
            return
        if self.is_removed:
            raise FileNotFoundError(errno.ENOENT, "the file was removed")
        if self._is_torn:
            writer.rewind()
        self._is_torn = True
        writer.end_chunk()
        self._is_torn, self._is_dirty = False, True

    def sync(self) -> None:
        """Have the system write to the disk what it holds."""
        if self._is_dirty and self._file is not None:
            _sync(self._file)
            self._is_dirty = False

    def is_due(self) -> bool:
        """Return whether the file has reached its end."""
        writer = self._writer
        return writer is not None and (
            writer.size + writer.buffered >= self._rules.size
            or self._clock.monotonic() - self._opened_at >= self._rules.seconds
            or self._clock.time_ns() // DAY != self.began_at // DAY
        )

    def due_in(self) -> float:
        """Return the time (s) until the file reaches its end, if not by its size."""
        day = (DAY - self._clock.time_ns() % DAY) / 1e9
        return min(self._opened_at + self._rules.seconds - self._clock.monotonic(), day)

    def finish(self) -> None:
        """Write the end of the file, and give it its name. After an OSError, call it again."""
        writer, file = self._writer, self._file
        if writer is not None and file is not None:
            self.end_chunk()
            if self._is_torn:
                writer.rewind()
            self._is_torn = True
            writer.finish()
            _sync(file)
            self._close()
            self._unnamed = self.path
        if self._unnamed is not None:
            if self._unnamed.exists():  # else it was removed
                self.path = _rename(self._unnamed)
            self._unnamed = None

    def replace(self) -> None:
        """Leave a file that cannot be written, and begin another with what is not written yet."""
        old = self._writer
        rest = [] if old is None else list(old.unwritten())
        file, path = self._file, self.path
        self._begin()
        self._size_before += 0 if old is None else old.size
        for kind, topic, at, data in rest:
            self.add(kind, topic, at, data)
        if file is not None:
            with suppress(OSError):
                file.close()
            with suppress(OSError, InvalidMessage):
                FileReader(path).finish()
                _rename(path)

    def discard(self) -> None:
        """Remove a file that has no records."""
        self.abandon()
        if self.count:  # else there is none, and the path is the folder
            with suppress(OSError):
                self.path.unlink()

    def abandon(self) -> None:
        """Close the file as it is."""
        with suppress(OSError):
            if self._writer is not None and self._is_torn:
                self._writer.rewind()
        with suppress(OSError):
            self._close()

    def forked(self) -> None:
        """Close the copy of the file in a child process."""
        file, self._file, self._writer = self._file, None, None
        if file is not None:
            file.close()  # nothing is buffered in it, and the parent keeps the lock

    def _close(self) -> None:
        file, writer, self._file, self._writer = self._file, self._writer, None, None
        self._size_before += 0 if writer is None else writer.size
        if file is not None:
            file.close()


def _of_venue(venue: str) -> str:
    """Return how a file's name begins."""
    return re.sub(r"[^\w.-]", "_", venue)[:MAX_VENUE]


def _text(value: str) -> str:
    """Return a text that a file can hold."""
    return value.encode(errors="replace").decode()


def new_file(path: Path) -> BinaryIO:
    """Make a file that must not exist. It is not buffered: a fork must not write anything twice."""
    return cast("BinaryIO", path.open("xb", buffering=0))


def finish_orphans(folder: Path, own: str, pause: Callable[[], object]) -> None:
    """Finish the files that recorders have left which do not run any more.

    ``own`` is the session whose files are left alone, as are those of running recorders.
    ``pause`` is called every few milliseconds; when it raises, the present file stays as it is.
    """
    for path in _listed(folder, f"*{PART}"):
        if own in path.name:
            continue
        with suppress(OSError, InvalidMessage), path.open("r+b") as file:
            if _lock(file, is_ours=False) and os.path.samestat(
                os.fstat(file.fileno()), path.stat()
            ):
                FileReader(path).finish(pause)
                _rename(path)


def last_end(folder: Path, venue: str, name: str, own: str) -> tuple[bool, int | None]:
    """Return whether an earlier session of a client is in a folder, and when its last record was.

    ``own`` is the session that is left out.
    """
    prefix = f"{_of_venue(venue)}-"
    has_one, end, second = False, None, ""
    for path in reversed(_listed(folder, f"{prefix}*{SUFFIX}*")):
        if own in path.name or not path.name.endswith((SUFFIX, PART)):
            continue
        begun = path.name.removeprefix(prefix).partition("-")[0]
        if end is not None and begun != second:
            break
        with suppress(OSError, InvalidMessage):
            found = FileReader(path)
            if found.metadata.get("venue") == venue and found.metadata.get("name") == name:
                has_one = True
                if found.end is not None:  # the names of one second are in no order
                    end, second = max(found.end, end or 0), begun
    return has_one, end


def _listed(folder: Path, pattern: str) -> list[Path]:
    """Return the files of a folder by name; none if somebody removes it meanwhile."""
    try:
        return sorted(folder.glob(pattern))
    except OSError:
        return []


def _rename(path: Path) -> Path:
    """Give a finished file its name, and return it."""
    done = path.with_name(path.name.removesuffix(PART) + SUFFIX)
    if done.exists():
        raise FileExistsError(f"{done.name} exists")
    path.rename(done)
    _sync_folder(done.parent)
    return done


def _sync(file: BinaryIO) -> None:
    try:
        getattr(os, "fdatasync", os.fsync)(file.fileno())
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _take(file: BinaryIO) -> None:
    """Lock a new file. Raises OSError if it has been removed meanwhile.

    Another process that looks for orphans may have locked it for a moment.
    """
    by = time.monotonic() + LOCK_WAIT
    while not _lock(file):
        if time.monotonic() > by:
            raise BlockingIOError(errno.EAGAIN, "another process has locked the new file")
        time.sleep(0.001)


def _sync_folder(folder: Path) -> None:
    if os.name != "nt":
        with suppress(OSError):  # not every file system can
            number = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)


def _lock(file: BinaryIO, *, is_ours: bool = True) -> bool:
    """Lock a file until it is closed. Return False if another recorder has it.

    A file system may have no locks: then ``is_ours`` decides.
    """
    try:
        if sys.platform == "win32":
            position = file.tell()
            file.seek(_LOCKED_AT)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(position)
        else:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return is_ours
    return True
