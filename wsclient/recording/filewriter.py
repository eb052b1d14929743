"""The writer of one file of a recording."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import BinaryIO

from wsclient.recording.container import (
    CHUNK_SIZE,
    MAGIC,
    MESSAGE,
    METADATA,
    PROFILE,
    RECORD,
    Opcode,
    built,
    definition,
    ending,
    mcap,
    schemas,
    sealed,
    zstandard,
)
from wsclient.recording.records import Kind
from wsclient.version import __version__

__all__ = ["FileWriter"]

#: Ids of topics have 16 bits. Beyond this, a file has no room for another topic.
MAX_TOPICS = 60_000

MESSAGE_HEAD = MESSAGE.size - RECORD.size


class FileWriter:
    """Writes one file. Nothing reaches ``file`` before the chunk ends.

    ``metadata`` is described at :data:`METADATA`. Not thread-safe. Raises OSError as ``file`` does;
    a chunk that could not be written is kept, and the file may have a torn record at its end, from
    :attr:`size` on. Then :meth:`rewind` makes it whole again.
    """

    def __init__(
        self,
        file: BinaryIO,
        metadata: Mapping[str, str],
        *,
        chunk_size: int = CHUNK_SIZE,
        level: int = 3,
    ) -> None:
        self._file = file
        self._chunk_size = chunk_size
        self._compress = zstandard.ZstdCompressor(level=level).compress
        #: The topics, by kind and name, each with its id, and those not yet written.
        self._topics: dict[tuple[Kind, str], int] = {}
        self._new: list[mcap.Channel] = []
        self._counts: dict[int, int] = {}
        self._chunks: list[mcap.ChunkIndex] = []
        self._begin_chunk()
        self._last = 0
        #: How much (bytes) of the file is whole.
        self.size = 0
        #: The records added so far, and those that are in the file.
        self.added = self.written = 0
        head = [
            mcap.Header(PROFILE, f"wsclient {__version__}"),
            mcap.Metadata(METADATA, sealed(metadata)),
        ]
        self._metadata = mcap.MetadataIndex(
            len(MAGIC) + len(built(head[0])), len(built(head[1])), METADATA
        )
        self._write(MAGIC + b"".join(map(built, [*head, *schemas().values()])))

    def _begin_chunk(self) -> None:
        self._parts: list[bytes] = []
        self._buffered = 0
        self._start = 0

    @property
    def buffered(self) -> int:
        """The size (bytes) of the present chunk, before compression."""
        return self._buffered

    @property
    def has_room(self) -> bool:
        """Whether there is room for another topic."""
        return len(self._topics) < MAX_TOPICS

    def has_topic(self, kind: Kind, topic: str) -> bool:
        """Return whether the file has a topic."""
        return (kind, topic) in self._topics

    def add(self, kind: Kind, topic: str, at: int, data: bytes) -> bool:
        """Add a record to the present chunk. ``at`` is its publish time.

        Its log time is the same, unless that would step back. Returns whether the chunk is full:
        then call :meth:`end_chunk`.
        """
        number = self._topics.get((kind, topic))
        if number is None:
            number = self._new_topic(kind, topic)
        at = max(at, 0)
        self._last = log_time = max(at, self._last)
        if not self._parts:
            self._start = log_time
        self._parts.append(
            MESSAGE.pack(
                Opcode.MESSAGE, MESSAGE_HEAD + len(data), number, self.added & 0xFFFFFFFF,
                log_time, at,
            )
        )  # fmt: skip
        self._parts.append(data)
        self._buffered += MESSAGE.size + len(data)
        self._counts[number] += 1
        self.added += 1
        return self._buffered >= self._chunk_size

    def _new_topic(self, kind: Kind, topic: str) -> int:
        number = self._topics[kind, topic] = len(self._topics) + 1
        self._new.append(definition(number, kind, topic))
        self._counts[number] = 0
        return number

    def end_chunk(self) -> None:
        """Write the present chunk, if it holds anything."""
        if not self._parts:
            return
        content = b"".join(self._parts)
        chunk = mcap.Chunk(
            compression="zstd",
            data=self._compress(content),
            message_start_time=self._start,
            message_end_time=self._last,
            uncompressed_crc=zlib.crc32(content),
            uncompressed_size=len(content),
        )
        topics = b"".join(map(built, self._new))
        record = built(chunk)
        index = mcap.ChunkIndex(
            chunk_length=len(record),
            chunk_start_offset=self.size + len(topics),
            compression="zstd",
            compressed_size=len(chunk.data),
            message_start_time=self._start,
            message_end_time=self._last,
            message_index_length=0,
            message_index_offsets={},
            uncompressed_size=len(content),
        )
        self._write(topics + record)
        self._chunks.append(index)
        self._new.clear()
        self.written = self.added
        self._begin_chunk()

    def unwritten(self) -> Iterator[tuple[Kind, str, int, bytes]]:
        """Yield what the present chunk holds, as given to :meth:`add`."""
        topics = {number: topic for topic, number in self._topics.items()}
        for head, data in zip(self._parts[::2], self._parts[1::2], strict=True):
            _, _, number, _, _, at = MESSAGE.unpack(head)
            kind, topic = topics[number]
            yield kind, topic, at, data

    def finish(self) -> None:
        """Write what is buffered, and the summary. The file stays open."""
        self.end_chunk()
        # Made again: tens of thousands of them would take much memory all the time.
        channels = [definition(number, *topic) for topic, number in self._topics.items()]
        self._write(
            ending(
                self.size,
                channels,
                {c.id: self._counts[c.id] for c in channels},
                self._chunks,
                self._metadata,
            )
        )

    def rewind(self) -> None:
        """Remove what a failed write has left at the end of the file."""
        self._file.seek(self.size)
        self._file.truncate()

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]
        self._file.flush()
        self.size += len(data)
