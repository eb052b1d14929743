"""The reader of one file of a recording, which goes on where the file is damaged."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Container, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from wsclient.errors import InvalidMessage
from wsclient.recording.container import (
    CHUNK_SIZE,
    MAGIC,
    MESSAGE,
    METADATA,
    PART,
    RECORD,
    SCHEMAS,
    SUFFIX,
    ZSTD,
    ZSTD_AT,
    Damage,
    Opcode,
    ReadDataStream,
    Stored,
    ending,
    mcap,
    zstandard,
)
from wsclient.recording.records import VERSION

__all__ = ["Chunk", "FileReader", "StoredRecord"]

#: The number of the topic, the log time, the publish time and the data of a record.
StoredRecord: TypeAlias = tuple[int, int, int, bytes]

#: What stands between the magic bytes and the end of the data.
DATA = frozenset({
    Opcode.HEADER, Opcode.METADATA, Opcode.SCHEMA, Opcode.CHANNEL, Opcode.CHUNK, Opcode.DATA_END,
})  # fmt: skip
#: No chunk is larger than this (bytes).
MAX_CHUNK = 1 << 30


class Chunk(NamedTuple):
    """A chunk of a file: its place and size (bytes), and its first and last log time."""

    position: int
    length: int
    start: int
    end: int


class FileReader:
    """Reads one file, finished or not, despite damage.

    Opening it looks at every record's head, so it costs a seek per chunk. ``damage`` lists what
    cannot be read; :meth:`read` adds to it. ``metadata`` is described at :data:`METADATA`.
    ``topics`` has the kind and the name of each topic. ``start`` and ``end`` are the first and the
    last log time, None without a record. ``is_finished``: the file has its summary.

    Raises InvalidMessage for a file that is no recording, or one of a newer version.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.damage: list[Damage] = []
        self.metadata: dict[str, str] = {}
        self.is_finished = False
        #: Where the valid records end (bytes): a torn file can be cut here.
        self.whole = 0
        self._channels: dict[int, tuple[str, str]] = {}
        self._records: dict[int, Any] = {}
        self._schemas: dict[int, Any] = {}
        #: The chunks whose heads are valid, in order.
        self.chunks: list[Chunk] = []
        self._metadata_index: Any = None
        #: True once the end of the data was read.
        self._is_summary = False
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(len(MAGIC)) != MAGIC:
                raise InvalidMessage(f"{self.path} is no MCAP file")
            self._scan(file, size)
        if not self.metadata:
            raise InvalidMessage(f"{self.path} is no recording of wsclient")
        version = self.metadata.get("version", "")
        if not version.isdecimal() or not 1 <= int(version) <= VERSION:
            raise InvalidMessage(
                f"{self.path} has the version {version!r}, but this wsclient reads no version "
                f"other than {VERSION}"
            )

    @property
    def topics(self) -> list[tuple[str, str]]:
        return list(self._channels.values())

    @property
    def start(self) -> int | None:
        return min((chunk.start for chunk in self.chunks), default=None)

    @property
    def end(self) -> int | None:
        return max((chunk.end for chunk in self.chunks), default=None)

    # The scan.

    def _scan(self, file: BinaryIO, size: int) -> None:
        position = self.whole = len(MAGIC)
        is_whole = True
        while position < size:
            length = self._record_at(file, position, size)
            if length is None:
                after = _next_chunk(file, position + 1, size)
                is_torn = after is None
                why = "the file ends within a record" if is_torn else "no valid record"
                after = size if after is None else after
                self.damage.append(Damage(position, after - position, why))
                is_whole, position = False, after
                continue
            position += length
            if is_whole:
                self.whole = position
            if self.is_finished:
                return

    def _record_at(self, file: BinaryIO, position: int, size: int) -> int | None:
        """Take in the record at a position, and return its length; None if there is none."""
        file.seek(position)
        head = file.read(RECORD.size)
        if len(head) < RECORD.size:
            return None
        opcode: int
        length: int
        opcode, length = RECORD.unpack(head)
        if position + RECORD.size + length > size:
            return None
        if opcode not in (range(1, 16) if self._is_summary else DATA):
            return None
        if opcode == Opcode.CHUNK:
            times = file.read(16)
            start, end = struct.unpack("<QQ", times) if len(times) == 16 else (0, 0)
            if file.read(12 + len(ZSTD))[12:] != ZSTD:
                return None
            self.chunks.append(Chunk(position, RECORD.size + length, start, end))
        elif opcode == Opcode.DATA_END:
            self._is_summary = True
        elif opcode == Opcode.FOOTER:
            file.seek(length, os.SEEK_CUR)
            if file.read(len(MAGIC)) != MAGIC:
                return None
            self.is_finished = True
        elif opcode in (Opcode.CHANNEL, Opcode.METADATA, Opcode.SCHEMA):
            try:
                self._take(opcode, ReadDataStream(BytesIO(file.read(length))), position, length)
            except Exception:  # noqa: BLE001 - the library raises anything for damaged data
                return None
        return RECORD.size + length

    def _take(self, opcode: int, stream: Any, position: int, length: int) -> None:
        if opcode == Opcode.CHANNEL:
            found = mcap.Channel.read(stream)
            kind = found.metadata.get("kind", "")
            if kind in SCHEMAS:
                self._channels[found.id] = kind, found.topic
            self._records[found.id] = found
        elif opcode == Opcode.SCHEMA:
            schema = mcap.Schema.read(stream)
            self._schemas[schema.id] = schema
        else:
            found = mcap.Metadata.read(stream)
            if found.name == METADATA:
                self.metadata = found.metadata
                self._metadata_index = mcap.MetadataIndex(
                    position, RECORD.size + length, found.name
                )

    # The records.

    def read(
        self,
        start: int | None = None,
        end: int | None = None,
        channels: Container[str] | None = None,
    ) -> Iterator[Stored]:
        """Yield the records with a log time from ``start`` to before ``end``, in their order.

        With ``channels``, of topics of the kind ``channel`` only these. A chunk that cannot be read
        is skipped, and added to :attr:`damage`.
        """
        low = -1 if start is None else start
        high = 1 << 64 if end is None else end
        wanted = self.topics_of(channels)
        for chunk in self.chunks:
            if chunk.end < low or chunk.start >= high:
                continue
            is_inside = low <= chunk.start and chunk.end < high
            for number, log_time, publish_time, data in self.records(chunk):
                topic = wanted.get(number)
                if topic is not None and (is_inside or low <= log_time < high):
                    yield Stored(*topic, log_time, publish_time, data)

    def topics_of(self, channels: Container[str] | None = None) -> dict[int, tuple[str, str]]:
        """Return the kind and the name of each topic, by the number that its records have.

        With ``channels``, of topics of the kind ``channel`` only these.
        """
        return {
            number: (kind, topic)
            for number, (kind, topic) in self._channels.items()
            if kind != "channel" or channels is None or topic in channels
        }

    def records(self, chunk: Chunk) -> list[StoredRecord]:
        """Return all records of a chunk, in order.

        Empty for a chunk that cannot be read, which is added to :attr:`damage`. The file is open
        only during this call.
        """
        with self._open() as file:
            content = self._content(file, chunk)
        if content is None:
            return []
        records = _records(content)
        unknown = {record[0] for record in records}.difference(self._channels)
        for number in sorted(unknown):
            self._note(chunk, f"the definition of topic {number} is missing")
        return records

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            if not self.path.name.endswith(PART):
                raise
            # The recorder has finished it meanwhile.
            return self.path.with_name(self.path.name.removesuffix(PART) + SUFFIX).open("rb")

    def _content(self, file: BinaryIO, chunk: Chunk) -> bytes | None:
        try:
            file.seek(chunk.position + RECORD.size)
            found = mcap.Chunk.read(ReadDataStream(BytesIO(file.read(chunk.length - RECORD.size))))
            if found.uncompressed_size > MAX_CHUNK:
                raise ValueError(f"it is said to hold {found.uncompressed_size} bytes")
            content: bytes = zstandard.ZstdDecompressor().decompress(
                found.data, max_output_size=max(1, found.uncompressed_size)
            )
            if zlib.crc32(content) != found.uncompressed_crc:
                raise ValueError("its CRC is wrong")
        except Exception as error:  # noqa: BLE001 - the libraries raise anything for damaged data
            self._note(chunk, f"a chunk cannot be read ({error})")
            return None
        return content

    def _note(self, chunk: Chunk, why: str) -> None:
        damage = Damage(chunk.position, chunk.length, why)
        if damage not in self.damage:
            self.damage.append(damage)

    def finish(self) -> None:
        """Finish a torn file: cut what is torn, and append the summary.

        Only for a file that no other process writes. Damage in the middle stays as it is.
        """
        if self.is_finished:
            return
        counts = dict.fromkeys(self._records, 0)
        indexes = []
        with self.path.open("r+b") as file:
            for chunk in self.chunks:
                content = self._content(file, chunk)
                if content is None:
                    continue
                for number, _, _, _ in _records(content):
                    counts[number] = counts.get(number, 0) + 1
                indexes.append(
                    mcap.ChunkIndex(
                        chunk_length=chunk.length,
                        chunk_start_offset=chunk.position,
                        compression="zstd",
                        compressed_size=chunk.length - ZSTD_AT - len(ZSTD) - 8,
                        message_start_time=chunk.start,
                        message_end_time=chunk.end,
                        message_index_length=0,
                        message_index_offsets={},
                        uncompressed_size=len(content),
                    )
                )
            last = max((c.position + c.length for c in self.chunks), default=0)
            end = max(self.whole, last)
            file.seek(end)
            file.truncate()
            file.write(
                ending(
                    end,
                    list(self._schemas.values()),
                    list(self._records.values()),
                    counts,
                    indexes,
                    self._metadata_index,
                )
            )
            file.flush()
            os.fsync(file.fileno())
        self.is_finished = True


def _records(content: bytes) -> list[StoredRecord]:
    """Return the records of a chunk. The hottest loop of reading."""
    found: list[StoredRecord] = []
    append, unpack, head, message = found.append, MESSAGE.unpack_from, RECORD.size, Opcode.MESSAGE
    begin = MESSAGE.size
    position, last = 0, len(content) - begin
    while position <= last:  # what is shorter is no message
        opcode, length, number, _, log_time, publish_time = unpack(content, position)
        end = position + head + length
        if opcode == message:
            append((number, log_time, publish_time, content[position + begin : end]))
        position = end
    return found


def _next_chunk(file: BinaryIO, position: int, size: int) -> int | None:
    """Return where the next chunk begins, from ``position`` on; None if there is none."""
    overlap = ZSTD_AT + len(ZSTD)
    while position < size:
        file.seek(position)
        window = file.read(CHUNK_SIZE)
        at = window.find(ZSTD)
        while at >= 0:
            begin = at - ZSTD_AT
            if begin >= 0 and window[begin] == Opcode.CHUNK:
                length = int.from_bytes(window[begin + 1 : begin + 9], "little")
                if position + begin + RECORD.size + length <= size:
                    return position + begin
            at = window.find(ZSTD, at + 1)
        if len(window) < CHUNK_SIZE:
            return None
        position += len(window) - overlap
    return None
