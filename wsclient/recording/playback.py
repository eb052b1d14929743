"""The records of several recordings in the order of their times, one at a time.

A :class:`Tape` walks through the files of one recording, a chunk at a time. A :class:`Playback`
takes the next record from the tape that has the earliest. Neither knows what the records mean.
No file stays open between two calls.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Sequence

from wsclient.recording.container import Damage
from wsclient.recording.filereader import Chunk, FileReader, StoredRecord
from wsclient.recording.folder import FileDamage, Recording

__all__ = ["Place", "Playback", "Tape"]

#: After all positions and times.
END = 1 << 65
#: A place in a recording: the numbers of the file, of its chunk and of the record in that.
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
        #: The log time of the last record of the chunks before: times never step back.
        self._last = 0
        #: The numbers of the present file and of the present chunk in it.
        self._file = 0
        self._chunk = -1
        #: How much of each file's damage is known to be before the present chunk.
        self._known: set[tuple[int, Damage]] = set()

    def load(self) -> bool:
        """Go to the next chunk that has records. Return False if there is none."""
        while (found := self._next_chunk()) is not None:
            file, chunk = found
            records = self._cut(chunk, file.records(chunk))
            self._note(file, chunk.position)
            if records:
                self.topics = file.topics_of(self._channels)
                self.records, self.index = records, 0
                return True
        self.records, self.index = (), 0
        return False

    def _next_chunk(self) -> tuple[FileReader, Chunk] | None:
        files = self.recording.files
        while self._file < len(files):
            file = files[self._file]
            self._chunk += 1
            if self._chunk >= len(file.chunks):
                self._note(file, END)
                self._file, self._chunk = self._file + 1, -1
                continue
            chunk = file.chunks[self._chunk]
            if chunk.end >= self._low and chunk.start < self._high:
                return file, chunk
            self._note(file, chunk.position)
            self.harm.clear()  # it is not within the times
        return None

    def _cut(self, chunk: Chunk, records: list[StoredRecord]) -> list[StoredRecord]:
        """Return those of a chunk's records that are wanted, with times that never step back."""
        last, low, high = self._last, self._low, self._high
        if chunk.start < last:
            records = [(n, max(at, last), published, data) for n, at, published, data in records]
        if records:
            self._last = records[-1][1]
        if chunk.start < low or chunk.end >= high:
            return [record for record in records if low <= record[1] < high]
        return records

    def _note(self, file: FileReader, until: int) -> None:
        """Add the damage of a file up to a position (bytes) to :attr:`harm`, once."""
        for damage in file.damage:
            key = self._file, damage
            if damage.position <= until and key not in self._known:
                self._known.add(key)
                self.harm.append(FileDamage(file.path, damage))

    @property
    def place(self) -> Place:
        """The place of the next record."""
        return self._file, self._chunk, self.index


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
        self._until = -1
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
        if time > self._until:
            heapq.heappush(self._waiting, (time, self._number, tape))
            self._switch()
        return self.tape

    def _switch(self) -> None:
        """Go to the tape that has the earliest record."""
        if not self._waiting:
            self.tape = None
            return
        _, self._number, self.tape = heapq.heappop(self._waiting)
        self._until = END
        if self._waiting:
            time, number, _ = self._waiting[0]
            self._until = time if self._number < number else time - 1
