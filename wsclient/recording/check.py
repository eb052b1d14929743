"""Check of recordings: what they miss, and whether they can be read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec

from wsclient.dialect.base import Dialect
from wsclient.errors import ConfigurationError
from wsclient.recording.bookcheck import BookCheck, BookChecks
from wsclient.recording.coverage import Presence
from wsclient.recording.folder import PART, FileDamage, RecordedEntry, Recording, recordings_of
from wsclient.recording.records import (
    Answer,
    ClientRecord,
    ClientState,
    Frame,
    Happened,
    Lost,
    Part,
)
from wsclient.recording.restoring import Restorer

__all__ = [
    "BookReport",
    "ChannelReport",
    "DamageReport",
    "GapCount",
    "LossReport",
    "RecordingReport",
    "Report",
    "check",
]

#: A step of the wall clock against the monotonic clock that is reported (ns).
CLOCK_STEP = 50_000_000
#: A ``.part`` file up to this size (bytes) without a header was just begun, or ends within it.
JUST_BEGUN = 4096
#: How many records are read between two calls of ``progress``.
OFTEN = 2000


@dataclass(frozen=True)
class GapCount:
    """The gaps of one reason: their number, the messages missed, and how many are unknown.

    ``missed`` is of those whose number is known, ``unknown`` the number of the other gaps.
    """

    gaps: int
    missed: int
    unknown: int


@dataclass(frozen=True)
class BookReport:
    """An order book that was kept again from the messages.

    ``verified`` messages left it in sync, ``unverified`` did not: those before the first snapshot
    or after a gap, for example. ``faults`` has, by their reasons, how often it fell out of sync
    although no gap was recorded there: ``checksum``, ``sequence``, ``crossed`` or a sentence.
    """

    verified: int
    unverified: int
    faults: dict[str, int]


@dataclass(frozen=True)
class ChannelReport:
    """One channel of a recording.

    ``missed`` is the number of messages that are known to be missing: late ones are not, as they
    have come. ``unknown`` is the number of gaps of which nobody knows how many are missing.
    ``gaps`` has the gaps by their reasons, without late and duplicate messages. Silences are in
    seconds, while a connection that carries the channel was open; ``silences`` is the number of
    those beyond the limit. ``coverage`` is the share (0 to 1) of the time from the first to the
    last message in which the recorder ran and such a connection was open. ``first`` and ``last``
    are the times of these messages (ns since the epoch). All three are None without a message.
    """

    channel: str
    messages: int
    missed: int
    unknown: int
    gaps: dict[str, GapCount]
    late: int
    duplicates: int
    longest_silence: float
    silences: int
    coverage: float | None
    first: int | None
    last: int | None
    book: BookReport | None
    is_whole: bool


@dataclass(frozen=True)
class LossReport:
    """What the recorder itself has lost, at ``time`` (ns since the epoch); see ``why``.

    ``messages`` and ``frames`` are their numbers; with ``is_unknown`` there may be any number more.
    ``since`` is the time of the last record before.
    """

    time: int
    since: int | None
    why: str
    messages: int
    frames: int
    is_unknown: bool


@dataclass(frozen=True)
class DamageReport:
    """A part of a file that cannot be read: where it begins (bytes), its size, and why."""

    path: str
    position: int
    size: int
    why: str


@dataclass(frozen=True)
class RecordingReport:
    """One recording: the files of one recorder, from its start to its end.

    ``start`` and ``end`` are the times of its first and last record (ns since the epoch).
    ``unfinished`` are the files that are being written, or were when their recorder was killed.
    ``clock_steps`` is how often the wall clock stepped by more than 50 ms against the monotonic
    clock, ``largest_step`` the largest step (s, negative backwards). ``unchecked`` says why its
    order books could not be checked, empty if they were.
    """

    id: str
    venue: str
    name: str
    url: str
    files: int
    start: int | None
    end: int | None
    frames: int
    messages: int
    channels: list[ChannelReport]
    losses: list[LossReport]
    clock_steps: int
    largest_step: float
    damage: list[DamageReport]
    unfinished: list[str]
    unchecked: str
    is_whole: bool


@dataclass(frozen=True)
class Report:
    """What :func:`check` has found. ``is_whole`` is False if anything is missing or damaged.

    ``damage`` has the files that are no recordings, or cannot be read at all. ``silence`` is the
    limit (s).
    """

    recordings: list[RecordingReport]
    damage: list[DamageReport]
    silence: float
    is_whole: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the report in plain types, for JSON."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found


def check(
    *paths: str | os.PathLike[str],
    silence: float = 60.0,
    dialect: str | Dialect | None = None,
    progress: Callable[[float], object] | None = None,
) -> Report:
    """Read all recordings in files, folders and glob patterns, and return what they miss.

    A recording that begins or ends is no hole, but between two of the same venue and name there is
    one, unless they overlap. The order books of venues are kept again from the messages: with the
    ``dialect`` of the recording, or this one. ``progress`` is called with the share (0 to 1) of the
    records that were read.

    Raises ConfigurationError if no file is found at all, OSError as the system does.
    """
    recordings, bad = recordings_of(*paths)
    earlier: dict[tuple[str, str], _Earlier] = {}
    reports = []
    total = sum(_size(recording) for recording in recordings)
    done = 0
    for recording in recordings:
        before = earlier.setdefault((recording.venue, recording.name), _Earlier())
        share, base = _size(recording) / total if total else 0.0, done / total if total else 0.0

        def report(part: float, base: float = base, share: float = share) -> None:
            if progress is not None:
                progress(base + part * share)

        checking = _Checking(recording, before, round(silence * 1e9), dialect)
        reports.append(checking.run(report))
        before.extend(recording, checking.names())
        done += _size(recording)
    if progress is not None:
        progress(1.0)
    damage = [_damage(found) for found in bad if not _is_just_begun(found)]
    is_whole = not damage and all(report.is_whole for report in reports)
    return Report(reports, damage, silence, is_whole)


def _size(recording: Recording) -> int:
    return sum(file.path.stat().st_size for file in recording.files)


def _damage(found: FileDamage) -> DamageReport:
    damage = found.damage
    return DamageReport(str(found.path), damage.position, damage.size, damage.why)


def _is_just_begun(found: FileDamage) -> bool:
    return found.path.name.endswith(PART) and found.damage.size <= JUST_BEGUN


@dataclass
class _Earlier:
    """The recordings of one venue and name before the present one."""

    end: int | None = None
    channels: set[str] = field(default_factory=set)

    def extend(self, recording: Recording, channels: set[str]) -> None:
        self.channels |= channels
        if recording.end is not None:
            self.end = max(self.end or 0, recording.end)


class _Counts:
    """The messages and gaps of one channel."""

    __slots__ = ("duplicates", "first", "gaps", "last", "late", "messages", "missed", "unknown")

    def __init__(self) -> None:
        self.messages = self.late = self.duplicates = 0
        self.gaps: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.first: int | None = None
        self.last: int | None = None

    def gap(self, reason: str, missed: int | None) -> None:
        if reason == "duplicate":
            self.duplicates += 1
            return
        if reason == "late":
            self.late += 1
        else:
            self.gaps[reason] += 1
            self.unknown[reason] += missed is None
        self.missed[reason] += missed or 0


class _Checking:
    """The check of one recording."""

    def __init__(
        self,
        recording: Recording,
        earlier: _Earlier,
        silence: int,
        dialect: str | Dialect | None,
    ) -> None:
        self._recording = recording
        self._presence = Presence(silence)
        self._counts: dict[str, _Counts] = {}
        #: The channels that were wanted or heard so far.
        self._known: set[str] = set()
        start, end = recording.start, earlier.end
        is_after = start is not None and end is not None and start > end
        #: The channels whose first message follows a hole.
        self._holed = set(earlier.channels) if is_after else set()
        self._earlier = earlier
        self._losses: list[LossReport] = []
        self._is_holed = False
        self._frames = 0
        self._now = 0
        self._offset: int | None = None
        self._steps = 0
        self._largest = 0
        self._unchecked = ""
        self._books: BookChecks | None = None
        self._restorer: Restorer | None = None
        try:
            self._restorer = Restorer(recording, dialect)
            self._books = BookChecks(self._restorer.dialect)
        except ConfigurationError as error:
            self._unchecked = str(error)

    def names(self) -> set[str]:
        """Return the channels that were wanted or heard."""
        return self._known

    def run(self, progress: Callable[[float], object]) -> RecordingReport:
        recording = self._recording
        start, span = recording.start or 0, (recording.end or 0) - (recording.start or 0)
        for number, entry in enumerate(recording.read()):
            self._take(entry)
            if not number % OFTEN and span:
                progress((entry.log_time - start) / span)
        self._presence.ended(self._now)
        unfinished, damage = self._damage()
        channels = list(self._channels())
        is_whole = not damage and not self._is_holed and all(c.is_whole for c in channels)
        return RecordingReport(
            recording.id,
            recording.venue,
            recording.name,
            recording.url,
            len(recording.files),
            recording.start,
            recording.end,
            self._frames,
            sum(channel.messages for channel in channels),
            channels,
            self._losses,
            self._steps,
            self._largest / 1e9,
            damage,
            unfinished,
            self._unchecked,
            is_whole,
        )

    # The records.

    def _take(self, entry: RecordedEntry) -> None:
        record = entry.record
        before, self._now = self._now or record.at, max(self._now, record.at)
        if isinstance(record, Frame):
            if not record.is_repeated:
                self._frames += 1
                self._clock(entry.time - record.at)
            if record.parts:
                self._messages(entry, record)
            return
        self._clock(entry.time - record.at)
        self._note(entry, record, before)

    def _clock(self, offset: int) -> None:
        last, self._offset = self._offset, offset
        step = 0 if last is None else offset - last
        if abs(step) > CLOCK_STEP:
            self._steps += 1
            self._largest = max(step, self._largest, key=abs)

    def _messages(self, entry: RecordedEntry, record: Frame) -> None:
        topic = entry.topic if entry.kind == "channel" else ""
        for part in record.parts:
            self._count(part.channel or topic, part, entry.time)
        for channel in {part.channel or topic for part in record.parts}:
            self._presence.message(channel, record.connection_id, self._now)
        if self._restorer is not None and self._books is not None:
            for message in self._restorer.messages(entry, self._books):
                self._books.message(message)

    def _count(self, channel: str, part: Part, time: int) -> None:
        counts = self._counts.get(channel)
        if counts is None:
            counts = self._counts[channel] = _Counts()
            counts.first = time
            self._known.add(channel)
        if channel in self._holed:
            self._holed.discard(channel)
            counts.gap("recorder", None)
        counts.messages += 1
        counts.last = time
        if part.gap is not None:
            counts.gap(part.gap.reason, part.gap.missed)

    def _note(self, entry: RecordedEntry, record: ClientRecord, before: int) -> None:
        presence, books = self._presence, self._books
        if isinstance(record, Lost):
            self._lose(entry, record)
            if record.is_unknown:
                presence.interrupted(before, self._now)
            if self._restorer is not None:
                self._restorer.messages(entry)
        elif isinstance(record, Answer):
            if books is not None:
                books.answer(record.channel, record.body)
        elif isinstance(record, ClientState):
            self._state(record)
        elif isinstance(record, Happened):
            self._event(record)

    def _state(self, record: ClientState) -> None:
        for connection in record.connections:
            self._presence.connected(connection.id)
        for channel in record.channels:
            self._known.add(channel.name)
            if channel.is_confirmed and channel.name not in self._presence:
                self._presence.subscribed([channel.name], 0, self._now)
            if self._books is not None:
                self._books.options(channel.name, channel.options)

    def _event(self, record: Happened) -> None:
        presence, fields, on = self._presence, record.fields, record.connection_id
        if record.name == "Connected":
            presence.connected(on)
        elif record.name == "Disconnected":
            presence.disconnected(on, self._now)
        elif record.name == "Subscribed":
            channels = [str(channel) for channel in fields.get("channels", ())]
            self._known.update(channels)
            presence.subscribed(channels, on, self._now)
        elif record.name == "Unsubscribed":
            presence.unsubscribed(str(fields.get("channel", "")), self._now)

    def _lose(self, entry: RecordedEntry, lost: Lost) -> None:
        is_first = not self._counts
        self._losses.append(
            LossReport(
                entry.time,
                lost.since,
                lost.why,
                sum(lost.channels.values()),
                lost.frames,
                lost.is_unknown,
            )
        )
        for channel, missed in lost.channels.items():
            self._known.add(channel)
            self._counts.setdefault(channel, _Counts()).gap("recorder", missed)
        if not lost.is_unknown:
            self._is_holed |= lost.frames > 0
        elif is_first:
            # It says what was before the recording: a hole only for what was recorded there.
            self._holed |= self._earlier.channels
        else:
            self._is_holed = True
            for channel in self._known:
                self._counts.setdefault(channel, _Counts()).gap("recorder", None)

    # The result.

    def _channels(self) -> Iterator[ChannelReport]:
        for channel in sorted({*self._counts, *self._presence}):
            counts = self._counts.get(channel) or _Counts()
            presence = self._presence.of(channel)
            book = _book_report(None if self._books is None else self._books.get(channel))
            missed, unknown = max(0, counts.missed.total()), counts.unknown.total()
            is_whole = not missed and not unknown and (book is None or not book.faults)
            yield ChannelReport(
                channel,
                counts.messages,
                missed,
                unknown,
                {
                    reason: GapCount(gaps, counts.missed[reason], counts.unknown[reason])
                    for reason, gaps in sorted(counts.gaps.items())
                },
                counts.late,
                counts.duplicates,
                presence.longest / 1e9,
                presence.silences,
                presence.coverage,
                counts.first,
                counts.last,
                book,
                is_whole,
            )

    def _damage(self) -> tuple[list[str], list[DamageReport]]:
        """Return the unfinished files, and what cannot be read."""
        files = self._recording.files
        damage = self._recording.damage
        unfinished, found = [], []
        for number, file in enumerate(files):
            of_file = [_damage(d) for d in damage if d.path == file.path]
            if not file.is_finished:
                is_last = number == len(files) - 1
                size = file.path.stat().st_size
                if file.path.name.endswith(PART) and is_last:
                    unfinished.append(str(file.path))
                    # Its end is where its recorder is, or was killed.
                    of_file = [d for d in of_file if d.position + d.size < size]
                elif not any(d.position + d.size == size for d in of_file):
                    of_file.append(DamageReport(str(file.path), size, 0, "the file has no end"))
            found += of_file
        numbers = [(file.metadata.get("number", ""), file.path) for file in files]
        for (last, _), (number_text, path) in pairwise(numbers):
            if last.isdecimal() and number_text.isdecimal() and int(number_text) > int(last) + 1:
                why = f"the files between {last} and {number_text} of the recording are missing"
                found.append(DamageReport(str(path), 0, 0, why))
        return unfinished, found


def _book_report(found: BookCheck | None) -> BookReport | None:
    if found is None:
        return None
    return BookReport(found.verified, found.unverified, dict(sorted(found.faults.items())))
