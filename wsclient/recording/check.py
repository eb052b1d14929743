"""Check of recordings: what they miss, and whether they can be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from wsclient.dialect.base import Dialect
from wsclient.errors import ConfigurationError
from wsclient.recording.bookcheck import BookCheck, BookChecks
from wsclient.recording.container import Damage
from wsclient.recording.counting import ChannelCounts, ClockSteps
from wsclient.recording.coverage import Presence
from wsclient.recording.folder import PART, FileDamage, RecordedEntry, Recording, recordings_of
from wsclient.recording.playback import Tape
from wsclient.recording.records import (
    Answer,
    BookSnapshot,
    ClientRecord,
    ClientState,
    Frame,
    Happened,
    Lost,
    decode,
)
from wsclient.recording.reports import (
    BookReport,
    ChannelReport,
    DamageReport,
    LossReport,
    RecordingReport,
    Report,
)
from wsclient.recording.restoring import Restorer

__all__ = ["check"]

#: A ``.part`` file up to this size (bytes) without a header was just begun, or ends within it.
JUST_BEGUN = 4096
#: How many records are read between two calls of ``progress``.
OFTEN = 2000


def check(
    *paths: str | os.PathLike[str],
    silence: float = 60.0,
    dialect: str | Dialect | None = None,
    progress: Callable[[float], object] | None = None,
) -> Report:
    """Read all recordings in files, folders and glob patterns, and return what they miss.

    A recording that begins or ends misses nothing, but between two of the same venue and name
    messages are missing, unless they overlap. The order books of venues are kept again from the
    messages: with the ``dialect`` of the recording, or this one. ``progress`` is called with the
    share (0 to 1) of the records that were read.

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
        self._counts: dict[str, ChannelCounts] = {}
        #: The channels that were wanted or heard so far.
        self._known: set[str] = set()
        start, end = recording.start, earlier.end
        is_after = start is not None and end is not None and start > end
        #: The channels whose first message follows such a gap.
        self._holed = set(earlier.channels) if is_after else set()
        self._earlier = earlier
        self._losses: list[LossReport] = []
        self._is_holed = False
        self._frames = 0
        self._now = 0
        self._clock = ClockSteps()
        #: Whether every channel may have missed messages, and those that had a message since.
        self._is_doubtful = False
        self._settled: set[str] = set()
        #: The wall time of the last record.
        self._time: int | None = None
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
        tape = Tape(recording)
        for number, entry in enumerate(self._entries(tape)):
            self._take(entry)
            if not number % OFTEN and span:
                progress((entry.log_time - start) / span)
        self._presence.ended(self._now)
        unfinished, damage = self._damage()
        reported = {(found.path, found.position) for found in damage}
        if any((str(found.path), found.damage.position) in reported for found in tape.harm):
            self._doubt()
        if self._is_doubtful:
            for channel in self._known - self._settled:
                self._of(channel).gap("recorder", None)
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
            self._clock.count,
            self._clock.largest / 1e9,
            damage,
            unfinished,
            self._unchecked,
            is_whole,
        )

    # The records.

    def _entries(self, tape: Tape) -> Iterator[RecordedEntry]:
        """Yield the records, and note where something cannot be read."""
        recording = self._recording
        while tape.load():
            if tape.harm:
                tape.harm.clear()
                self._doubt()
            for number, log_time, time, data in tape.records:
                kind, topic = tape.topics.get(number, ("", ""))
                if not kind:
                    continue
                try:
                    record = decode(kind, data)
                except ValueError as error:
                    why = f"a record of {topic!r} cannot be read ({error})"
                    recording.unreadable.append(FileDamage(tape.path, Damage(0, len(data), why)))
                    self._doubt()
                    continue
                yield RecordedEntry(log_time, time, kind, topic, record, recording)
                self._time = time

    def _doubt(self) -> None:
        """Note that every channel may miss messages from here on."""
        self._is_doubtful = True
        self._settled.clear()
        if self._restorer is not None:
            lost = Lost(at=0, why="damage", since=self._time, is_unknown=True)
            self._restorer.lost.add(lost)

    def _take(self, entry: RecordedEntry) -> None:
        record = entry.record
        before, self._now = self._now or record.at, max(self._now, record.at)
        if not isinstance(record, Frame):
            self._note(entry, record, before)
            return
        if not record.is_repeated:
            self._frames += 1
            self._clock.frame(entry.time, record.at)
        if record.parts:
            self._messages(entry, record)

    def _messages(self, entry: RecordedEntry, record: Frame) -> None:
        topic = entry.topic if entry.kind == "channel" else ""
        for part in record.parts:
            channel = part.channel or topic
            counts = self._of(channel)
            if channel in self._holed or (self._is_doubtful and channel not in self._settled):
                self._holed.discard(channel)
                self._settled.add(channel)
                counts.gap("recorder", None)
            counts.message(part, entry.time)
        for channel in {part.channel or topic for part in record.parts}:
            self._presence.message(channel, record.connection_id, self._now)
        if self._restorer is not None and self._books is not None:
            for message in self._restorer.messages(entry, self._books):
                self._books.message(message)

    def _of(self, channel: str) -> ChannelCounts:
        found = self._counts.get(channel)
        if found is None:
            found = self._counts[channel] = ChannelCounts()
            self._known.add(channel)
        return found

    def _note(self, entry: RecordedEntry, record: ClientRecord, before: int) -> None:
        presence, books = self._presence, self._books
        if isinstance(record, Lost):
            self._lose(entry, record)
            if record.is_unknown:
                presence.interrupted(before, self._now)
            if self._restorer is not None:
                self._restorer.messages(entry)
        elif isinstance(record, BookSnapshot):
            if books is not None:
                books.restore(record)
        elif isinstance(record, Answer):
            if books is not None:
                books.answer(record.channel, record.body)
        elif isinstance(record, ClientState):
            self._state(record)
        elif isinstance(record, Happened):
            self._event(record)

    def _state(self, record: ClientState) -> None:
        if self._books is not None:
            self._books.state(record)
        for connection in record.connections:
            self._presence.connected(connection.id)
        for channel in record.channels:
            self._known.add(channel.name)
            if channel.is_confirmed and channel.name not in self._presence:
                self._presence.subscribed([channel.name], 0, self._now)

    def _event(self, record: Happened) -> None:
        presence, fields, on = self._presence, record.fields, record.connection_id
        if self._books is not None:
            self._books.happened(record)
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
            self._of(channel).gap("recorder", missed)
        if not lost.is_unknown:
            self._is_holed |= lost.frames > 0
        elif is_first:
            # It says what was before the recording: a gap only for what was recorded there.
            self._holed |= self._earlier.channels
        else:
            self._is_holed = True
            self._is_doubtful = True
            self._settled.clear()

    # The result.

    def _channels(self) -> Iterator[ChannelReport]:
        for channel in sorted({*self._counts, *self._presence}):
            counts = self._counts.get(channel) or ChannelCounts()
            presence = self._presence.of(channel)
            book = _book_report(None if self._books is None else self._books.get(channel))
            missed, unknown = counts.missed, counts.unknown
            is_whole = not missed and not unknown and (book is None or not book.faults)
            yield ChannelReport(
                channel,
                counts.messages,
                missed,
                unknown,
                counts.gaps,
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
            missing = self._recording.missing_after(number)
            found += of_file if missing is None else [*of_file, _damage(missing)]
        return unfinished, found


def _book_report(found: BookCheck | None) -> BookReport | None:
    if found is None:
        return None
    return BookReport(found.verified, found.unverified, dict(sorted(found.faults.items())))
