"""A folder of recordings: which files belong together, and their records in order.

The files of one recorder are one :class:`Recording`. A recorder that starts again begins another.
"""

from __future__ import annotations

import glob
import heapq
import os
from collections.abc import Collection, Iterable, Iterator
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from wsclient.errors import ConfigurationError, InvalidMessage
from wsclient.recording.container import PART, SUFFIX, Damage, Stored
from wsclient.recording.filereader import FileReader
from wsclient.recording.records import Record, decode

__all__ = ["PART", "SUFFIX", "FileDamage", "RecordedEntry", "Recording", "merged", "recordings_of"]


class RecordedEntry(NamedTuple):
    """One record, with its topic and its times (ns since the epoch).

    ``log_time`` never steps back within a recording, ``time`` may. ``kind`` and ``topic`` are those
    of the topic: see :mod:`wsclient.recording.records`.
    """

    log_time: int
    time: int
    kind: str
    topic: str
    record: Record
    recording: Recording


class FileDamage(NamedTuple):
    """A part of a file that cannot be read."""

    path: Path
    damage: Damage


class Recording:
    """The files of one recorder, in order.

    ``id`` is its own, ``venue`` the name of its dialect, ``name`` the client's, ``url``
    its address. ``options`` is JSON text: what a reader must know of the client's options.
    """

    def __init__(self, files: Iterable[FileReader]) -> None:
        self.files = sorted(files, key=_number)
        metadata = self.files[0].metadata
        self.id = metadata.get("session", "")
        self.venue = metadata.get("venue", "")
        self.name = metadata.get("name", "")
        self.url = metadata.get("url", "")
        self.options = metadata.get("options", "{}")
        #: Records that could not be read, beside the damage of the files.
        self.unreadable: list[FileDamage] = []

    @property
    def start(self) -> int | None:
        """The first log time; None without a record."""
        return min((f.start for f in self.files if f.start is not None), default=None)

    @property
    def end(self) -> int | None:
        """The last log time; None without a record."""
        return max((f.end for f in self.files if f.end is not None), default=None)

    @property
    def channels(self) -> list[str]:
        """The channels that have a topic of their own, in the order of their first messages."""
        found = (topic for f in self.files for kind, topic in f.topics if kind == "channel")
        return list(dict.fromkeys(found))

    @property
    def damage(self) -> list[FileDamage]:
        """What could not be read so far."""
        found = [FileDamage(f.path, damage) for f in self.files for damage in f.damage]
        return [*found, *self.unreadable]

    def missing_after(self, number: int) -> FileDamage | None:
        """Return what is missing behind a file, given its number in :attr:`files`."""
        file, following = self.files[number], self.files[number + 1 : number + 2]
        size = file.path.stat().st_size
        is_written = file.path.name.endswith(PART) and not following
        if not file.is_finished and not is_written:
            if any(d.position + d.size == size for d in file.damage):
                return None  # it says so
            return FileDamage(file.path, Damage(size, 0, "the file has no end"))
        last = file.metadata.get("number", "")
        after = following[0].metadata.get("number", "") if following else ""
        if last.isdecimal() and after.isdecimal() and int(after) > int(last) + 1:
            why = f"the files between {last} and {after} of the recording are missing"
            return FileDamage(following[0].path, Damage(0, 0, why))
        return None

    def read(
        self,
        start: int | None = None,
        end: int | None = None,
        channels: Collection[str] | None = None,
    ) -> Iterator[RecordedEntry]:
        """Yield the records with a log time from ``start`` to before ``end``, in their order.

        With ``channels``, of topics of channels only these; frames with several channels still hold
        messages of others.
        """
        last = 0
        for file in self.files:
            for stored in file.read(start, end, channels):
                record = self._record(file, stored)
                if record is not None:
                    last = max(last, stored.log_time)
                    yield RecordedEntry(
                        last, stored.publish_time, stored.kind, stored.topic, record, self
                    )

    def _record(self, file: FileReader, stored: Stored) -> Record | None:
        try:
            return decode(stored.kind, stored.data)
        except ValueError as error:
            why = f"a record of {stored.topic!r} cannot be read ({error})"
            self.unreadable.append(FileDamage(file.path, Damage(0, len(stored.data), why)))
            return None

    def __repr__(self) -> str:
        return f"<Recording {self.venue} {self.id[:8]}: {len(self.files)} files>"


def _number(file: FileReader) -> tuple[int, str]:
    number = file.metadata.get("number", "")
    return int(number) if number.isdecimal() else 0, str(file.path)


def recordings_of(
    *paths: str | os.PathLike[str],
) -> tuple[list[Recording], list[FileDamage]]:
    """Return the recordings in files, folders and glob patterns, the oldest first.

    Unfinished files are included. Returns also the files that are no recordings or cannot be read:
    an empty ``.part`` file is one. Raises ConfigurationError if no file is found at all, OSError as
    the system does.
    """
    files: dict[Path, FileReader] = {}
    bad: dict[Path, FileDamage] = {}
    for path in dict.fromkeys(found for given in paths for found in _files_of(given)):
        try:
            files[path] = FileReader(path)
        except InvalidMessage as error:
            bad[path] = FileDamage(path, Damage(0, path.stat().st_size, str(error)))
    if not files and not bad:
        where = ", ".join(map(str, paths))
        raise ConfigurationError(f"there is no recording in {where}: no file ends with {SUFFIX}")
    by_id: dict[str, list[FileReader]] = {}
    for path, file in files.items():
        by_id.setdefault(file.metadata.get("session", str(path)), []).append(file)
    recordings = [Recording(members) for members in by_id.values()]
    recordings.sort(key=lambda found: (found.start or 0, found.id))
    return recordings, list(bad.values())


def _files_of(given: str | os.PathLike[str]) -> list[Path]:
    path = Path(given)
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.name.endswith((SUFFIX, PART)))
    if path.is_file():
        return [path]
    return sorted(Path(p) for p in glob.glob(str(given), recursive=True) if Path(p).is_file())


def merged(
    recordings: Iterable[Recording],
    start: int | None = None,
    end: int | None = None,
    channels: Collection[str] | None = None,
) -> Iterator[RecordedEntry]:
    """Yield the records of several recordings by their log time; see :meth:`Recording.read`."""
    streams = [recording.read(start, end, channels) for recording in recordings]
    return heapq.merge(*streams, key=attrgetter("log_time"))
