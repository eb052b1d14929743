"""The records of several recordings in the order of their times, one at a time.

A :class:`Tape` walks through the files of one recording, a chunk at a time. A :class:`Playback`
takes the next record from the tape that has the earliest. Neither knows what the records mean.
No file stays open between two calls.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from wsclient.recording.filereader import Chunk, FileReader, StoredRecord
from wsclient.recording.folder import FileDamage, Recording

__all__ = ["Place", "Playback", "Tape", "before", "from_to"]

#: After all positions and times.
END = 1 << 65
#: A place in a recording: the number of the file, the position of the chunk (bytes), and the number
#: of the record in that.
Place = tuple[int, int, int]


class Tape:
    """The records of one recording with a log time from ``start`` to before ``end`` (ns).

    With ``channels``, of topics of the kind ``channel`` only these. ``records`` are those of the
    present chunk, ``index`` is the number of the next one among them, and ``topics`` has the kind
    and the name of their topics. ``harm`` is what could not be read and has not been reported.
    """

    def __init__(
        self,
        recording: Recording,
        start: int | None = None,
        end: int | None = None,
        channels: Collection[str] | None = None,
    ) -> None:
        self.recording = recording
        self._low = -1 if start is None else start
        self._high = END if end is None else end
        self._channels = channels
        self.records: Sequence[StoredRecord] = ()
        self.index = 0
        self.topics: dict[int, tuple[str, str]] = {}
        self.harm: list[FileDamage] = []
        #: What the player knows of topics of the present chunk, by their numbers.
        self.known_topics: dict[int, Any] = {}
        #: The log time of the last record of the chunks before: times never step back.
        self._last = 0
        #: The number of the present file, its chunks that come, and the position of the present one
        #: (bytes).
        self._file = -1
        self._chunks: Iterator[Chunk] = iter(())
        self._position = 0
        #: How many records of the present chunk stand before ``records``.
        self._skipped = 0
        #: Up to where (bytes) the damage of the file is known; None before the first chunk.
        self._known: int | None = None if start is not None else -1

    def load(self) -> bool:
        """Go to the next chunk that has records. Return False if there is none."""
        while (chunk := self._next_chunk()) is not None:
            file = self.recording.files[self._file]
            records, skipped = self._cut(file.records(chunk))
            self._note(file, chunk.position)
            if records:
                self.topics = file.topics_of(self._channels)
                self.known_topics = {}
                self.records, self.index, self._position = records, 0, chunk.position
                self._skipped = skipped
                return True
        self.records, self.index, self._position = (), 0, END
        return False

    def _next_chunk(self) -> Chunk | None:
        files = self.recording.files
        while (chunk := next(self._chunks, None)) is None:
            if 0 <= self._file < len(files) and self._known is not None:
                self._note(files[self._file], END)
                self._known = -1
                missing = self.recording.missing_after(self._file)
                self.harm += [] if missing is None else [missing]
            if self._file + 1 >= len(files):
                self._file = len(files)
                return None
            self._file += 1
            self._chunks = files[self._file].between(self._low, self._high)
        return chunk

    def _cut(self, records: list[StoredRecord]) -> tuple[list[StoredRecord], int]:
        """Return those of a chunk's records that are wanted, with times that never step back.

        Returns also how many stand before them in the chunk.
        """
        last, low, high = self._last, self._low, self._high
        if not records:
            return records, 0
        if records[0][1] < last:
            records = [(n, max(at, last), published, data) for n, at, published, data in records]
        self._last = records[-1][1]
        if records[0][1] < low or self._last >= high:
            skipped = sum(record[1] < low for record in records)
            return [record for record in records[skipped:] if record[1] < high], skipped
        return records, 0

    def _note(self, file: FileReader, until: int) -> None:
        """Add the damage of a file up to a position (bytes) to :attr:`harm`, once."""
        known, self._known = self._known, until
        if known is not None:
            self.harm += [
                FileDamage(file.path, damage)
                for damage in file.damage
                if known < damage.position <= until
            ]

    @property
    def path(self) -> Path:
        """The path of the present file."""
        return self.recording.files[self._file].path

    @property
    def place(self) -> Place:
        """The place of the next record."""
        return self._file, self._position, self._skipped + self.index


def before(recording: Recording, place: Place) -> Iterator[tuple[Place, str, str, StoredRecord]]:
    """Yield the records before a place, the last one first, each with its place and its topic."""
    last_file, last_position, last_index = place
    for number in range(min(last_file, len(recording.files) - 1), -1, -1):
        file = recording.files[number]
        topics = file.topics_of()
        for chunk in reversed(file.chunks):
            if number == last_file and chunk.position > last_position:
                continue
            records = file.records(chunk)
            if number == last_file and chunk.position == last_position:
                del records[last_index:]
            for index in range(len(records) - 1, -1, -1):
                kind, name = topics.get(records[index][0], ("", ""))
                yield (number, chunk.position, index), kind, name, records[index]


def from_to(
    recording: Recording, begin: Place, end: Place, channels: Collection[str]
) -> Iterator[tuple[str, str, StoredRecord]]:
    """Yield the records from ``begin`` to before ``end``, each with its topic.

    Of topics of the kind ``channel`` only ``channels``.
    """
    for number in range(begin[0], min(end[0], len(recording.files) - 1) + 1):
        file = recording.files[number]
        topics = file.topics_of(channels)
        for chunk in file.chunks:
            if not begin <= (number, chunk.position, END) or (number, chunk.position, -1) > end:
                continue
            for index, record in enumerate(file.records(chunk)):
                topic = topics.get(record[0])
                if topic is not None and begin <= (number, chunk.position, index) < end:
                    yield (*topic, record)


class Playback:
    """Takes the records of several tapes in the order of their times.

    Records with the same time come in the order of ``tapes``.
    """

    def __init__(self, tapes: Sequence[Tape]) -> None:
        self._waiting = [
            (tape.records[0][1], number, tape) for number, tape in enumerate(tapes) if tape.load()
        ]
        heapq.heapify(self._waiting)
        #: The tape that has the next record, and its number; None at the end.
        self.tape: Tape | None = None
        self._number = 0
        #: The log time up to which no other tape has a record.
        self.until = -1
        self._switch()

    def next(self) -> Tape | None:
        """Return the tape whose next record is the next of all; None at the end.

        The caller takes it, and adds one to the tape's ``index``.
        """
        tape = self.tape
        if tape is None:
            return None
        if tape.index >= len(tape.records) and not tape.load():
            self._switch()
            return self.tape
        time = tape.records[tape.index][1]
        if time > self.until:
            heapq.heappush(self._waiting, (time, self._number, tape))
            self._switch()
        return self.tape

    def _switch(self) -> None:
        """Go to the tape that has the earliest record."""
        if not self._waiting:
            self.tape = None
            return
        _, self._number, self.tape = heapq.heappop(self._waiting)
        self.until = END
        if self._waiting:
            time, number, _ = self._waiting[0]
            self.until = time if self._number < number else time - 1
