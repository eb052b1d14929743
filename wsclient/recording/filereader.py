"""The reader of one file of a recording, which goes on where the file is damaged."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable, Container, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

from wsclient.errors import InvalidMessage
from wsclient.recording.container import (
    CRC,
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
    definition,
    ending,
    is_sealed,
    mcap,
    zstandard,
)
from wsclient.recording.records import VERSION

__all__ = ["Chunk", "FileReader", "StoredRecord"]

#: The number of the topic, the log time, the publish time and the data of a record.
StoredRecord: TypeAlias = tuple[int, int, int, bytes]

#: The records that may stand between the magic bytes and the end of the data, and those after it.
DATA = frozenset({
    Opcode.HEADER, Opcode.METADATA, Opcode.SCHEMA, Opcode.CHANNEL, Opcode.CHUNK, Opcode.DATA_END,
})  # fmt: skip
SUMMARY = frozenset({
    Opcode.SCHEMA, Opcode.CHANNEL, Opcode.STATISTICS, Opcode.CHUNK_INDEX, Opcode.METADATA_INDEX,
    Opcode.SUMMARY_OFFSET, Opcode.FOOTER,
})  # fmt: skip
#: Those with a size that is always the same (bytes).
SIZES: dict[int, int] = {Opcode.DATA_END: 4, Opcode.FOOTER: 20}
#: No chunk, and no other record, is larger than this (bytes).
MAX_CHUNK = 1 << 28
MAX_RECORD = 1 << 24
#: The head of a chunk: all but its data.
CHUNK_HEAD = ZSTD_AT + len(ZSTD) + 8
#: How much is read at once (bytes) to find where it goes on after damage: little at first.
MIN_WINDOW = 4096
MAX_WINDOW = 1 << 20
#: What another file in this one would begin with.
BEGIN = MAGIC + bytes([Opcode.HEADER])


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
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if file.read(len(MAGIC)) != MAGIC:
                raise InvalidMessage(f"{self.path} is no MCAP file")
            self._scan(file, size)
            # The topics of another file have the same numbers, so its chunks must not be read.
            other = _find(file, len(MAGIC), size, BEGIN, len(BEGIN)) if self.damage else None
            if other is not None:
                self._scan(file, other)
                self.damage.append(Damage(other, size - other, "another file begins here"))
            self._is_joined = other is not None
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
        self.damage: list[Damage] = []
        self._noted: set[Damage] = set()
        self.metadata: dict[str, str] = {}
        self.is_finished = False
        #: True once the end of the data was read.
        self._is_summary = False
        self._channels: dict[int, tuple[str, str]] = {}
        #: The chunks whose heads are valid, in order.
        self.chunks: list[Chunk] = []
        self._metadata_index: Any = None
        #: Where the valid records end (bytes): a torn file can be cut here.
        self.whole = position = len(MAGIC)
        is_whole = True
        while position < size and not self.is_finished:
            length = self._record_at(file, position, size)
            if length is None:
                after = _find(file, position + 1, size, ZSTD, CHUNK_HEAD, ZSTD_AT, _is_chunk)
                why = "the file ends within a record" if after is None else "no valid record"
                after = size if after is None else after
                self._note(position, after - position, why)
                is_whole, position = False, after
                continue
            position += length
            if is_whole and not self._is_summary:
                self.whole = position
        if position < size:
            self._note(position, size - position, "something follows the end")

    def _record_at(self, file: BinaryIO, position: int, size: int) -> int | None:
        """Take in the record at a position, and return its length; None if there is none."""
        file.seek(position)
        head = file.read(CHUNK_HEAD)
        if len(head) < RECORD.size:
            return None
        opcode: int
        length: int
        opcode, length = RECORD.unpack_from(head)
        whole = RECORD.size + length
        if position + whole > size or length != SIZES.get(opcode, length):
            return None
        if opcode == Opcode.CHUNK:
            if not _is_chunk(head):
                return None
            start, end = struct.unpack_from("<QQ", head, RECORD.size)
            self.chunks.append(Chunk(position, whole, start, end))
            return whole
        if opcode not in (SUMMARY if self._is_summary else DATA) or length > MAX_RECORD:
            return None
        if opcode == Opcode.HEADER:
            return whole if position == len(MAGIC) else None
        if opcode == Opcode.DATA_END:
            self._is_summary = True
        elif opcode == Opcode.FOOTER:
            file.seek(position + whole)
            if file.read(len(MAGIC)) != MAGIC:
                return None
            self.is_finished = True
            return whole + len(MAGIC)
        elif opcode in (Opcode.CHANNEL, Opcode.METADATA, Opcode.SCHEMA):
            file.seek(position + RECORD.size)
            stream = ReadDataStream(BytesIO(file.read(length)))
            try:
                self._take(opcode, stream, position, whole)
            except Exception:  # noqa: BLE001 - the library raises anything for damaged data
                return None
            return whole if stream.count == length else None
        return whole

    def _take(self, opcode: int, stream: Any, position: int, length: int) -> None:
        if opcode == Opcode.CHANNEL:
            found = mcap.Channel.read(stream)
            topic = found.metadata.get("kind", ""), found.topic
            is_known = topic[0] in SCHEMAS and is_sealed(found.metadata, found.id, found.topic)
            if not is_known or self._channels.setdefault(found.id, topic) != topic:
                self._note(position, length, "the definition of a topic is damaged")
        elif opcode == Opcode.SCHEMA:
            mcap.Schema.read(stream)
        else:
            found = mcap.Metadata.read(stream)
            if found.name == METADATA and not self.metadata:
                if not is_sealed(found.metadata):
                    self._note(position, length, "the metadata is damaged")
                self.metadata = {k: v for k, v in found.metadata.items() if k != CRC}
                self._metadata_index = mcap.MetadataIndex(position, length, found.name)

    def _note(self, position: int, size: int, why: str) -> None:
        damage = Damage(position, size, why)
        if damage not in self._noted:
            self._noted.add(damage)
            self.damage.append(damage)

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
        for chunk in self.between(low, high):
            for number, log_time, publish_time, data in self.records(chunk):
                topic = wanted.get(number)
                if topic is not None and low <= log_time < high:
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
            return self._records(file, chunk)

    def _open(self) -> BinaryIO:
        try:
            return self.path.open("rb")
        except FileNotFoundError:
            if not self.path.name.endswith(PART):
                raise
            # The recorder has finished it meanwhile.
            return self.path.with_name(self.path.name.removesuffix(PART) + SUFFIX).open("rb")

    def _records(self, file: BinaryIO, chunk: Chunk) -> list[StoredRecord]:
        try:
            records = _records(_content(file, chunk))
        except (ValueError, MemoryError, zstandard.ZstdError) as error:
            self._note(chunk.position, chunk.length, f"a chunk cannot be read ({error})")
            return []
        if not {record[0] for record in records} <= self._channels.keys():
            self._note(chunk.position, chunk.length, "the definition of a topic is missing")
        return records

    def between(self, low: int, high: int) -> Iterator[Chunk]:
        """Yield the chunks that may have records from ``low`` to before ``high`` (log times)."""
        # The times of a chunk have no CRC, so its neighbours must agree that it is outside.
        last = len(self.chunks) - 1
        for number, chunk in enumerate(self.chunks):
            before = self.chunks[max(number - 1, 0)]
            after = self.chunks[min(number + 1, last)]
            is_before = chunk.end < low and (after is chunk or after.start < low)
            is_after = chunk.start >= high and (before is chunk or before.end >= high)
            if not (is_before or is_after):
                yield chunk

    def finish(self, pause: Callable[[], object] = lambda: None) -> None:
        """Finish a torn file: cut what is torn, and append the summary.

        Only for a file that no other process writes. Damage in the middle stays as it is. Raises
        InvalidMessage for a file that contains the beginning of another, which would be cut too.
        ``pause`` is called between two chunks; it may raise, and nothing is changed then.
        """
        if self.is_finished:
            return
        if self._is_joined:
            raise InvalidMessage(f"{self.path} contains the beginning of another file")
        counts = dict.fromkeys(self._channels, 0)
        indexes = []
        with self.path.open("r+b") as file:
            for chunk in self.chunks:
                pause()
                records = self._records(file, chunk)
                # Other readers stop at a topic that is not defined.
                if not records or any(number not in counts for number, *_ in records):
                    continue
                for number, *_ in records:
                    counts[number] += 1
                indexes.append(
                    mcap.ChunkIndex(
                        chunk_length=chunk.length,
                        chunk_start_offset=chunk.position,
                        compression="zstd",
                        compressed_size=chunk.length - CHUNK_HEAD,
                        message_start_time=min(log_time for _, log_time, _, _ in records),
                        message_end_time=max(log_time for _, log_time, _, _ in records),
                        message_index_length=0,
                        message_index_offsets={},
                        uncompressed_size=sum(MESSAGE.size + len(r[3]) for r in records),
                    )
                )
            end = max(self.whole, *(c.position + c.length for c in self.chunks), 0)
            file.seek(end)
            file.truncate()
            channels = [definition(number, *topic) for number, topic in self._channels.items()]
            file.write(ending(end, channels, counts, indexes, self._metadata_index))
            file.flush()
            os.fsync(file.fileno())
        self.is_finished = True


def _is_chunk(head: bytes, at: int = 0) -> bool:
    """Return whether a chunk begins at a position of ``head``, which has its whole head."""
    if head[at] != Opcode.CHUNK or not head.startswith(ZSTD, at + ZSTD_AT):
        return False
    length = int.from_bytes(head[at + 1 : at + RECORD.size], "little")
    size = int.from_bytes(head[at + CHUNK_HEAD - 8 : at + CHUNK_HEAD], "little")
    return RECORD.size + length == CHUNK_HEAD + size


def _content(file: BinaryIO, chunk: Chunk) -> bytes:
    """Return the content of a chunk. Raises ValueError or ZstdError if it cannot be read."""
    file.seek(chunk.position + RECORD.size)
    if chunk.length > MAX_CHUNK:
        raise ValueError(f"it has {chunk.length} bytes")
    body = file.read(chunk.length - RECORD.size)
    if len(body) != chunk.length - RECORD.size:
        raise ValueError("the file has become shorter")
    size, crc = struct.unpack_from("<QI", body, 16)
    data = body[CHUNK_HEAD - RECORD.size :]
    if size > MAX_CHUNK:
        raise ValueError(f"it is said to hold {size} bytes")
    # What the data itself says of its size would go before the limit.
    if zstandard.frame_content_size(data) not in (-1, size):
        raise ValueError("its size is wrong")
    content: bytes = zstandard.ZstdDecompressor().decompress(data, max_output_size=max(1, size))
    if zlib.crc32(content) != crc:
        raise ValueError("its CRC is wrong")
    return content


def _records(content: bytes) -> list[StoredRecord]:
    """Return the records of a chunk. The hottest loop of reading.

    Raises ValueError where a record does not end within the content.
    """
    found: list[StoredRecord] = []
    append, unpack, head, message = found.append, MESSAGE.unpack_from, RECORD.size, Opcode.MESSAGE
    begin, size = MESSAGE.size, len(content)
    position, last = 0, size - begin
    while position <= last:  # what is shorter is no message
        opcode, length, number, _, log_time, publish_time = unpack(content, position)
        end = position + head + length
        if opcode == message:
            if not position + begin <= end <= size:
                raise ValueError("a record does not fit into it")
            append((number, log_time, publish_time, content[position + begin : end]))
        position = end
    if position != size:
        raise ValueError("it ends within a record")
    return found


def _find(
    file: BinaryIO,
    position: int,
    size: int,
    pattern: bytes,
    length: int,
    offset: int = 0,
    is_it: Callable[[bytes, int], bool] | None = None,
) -> int | None:
    """Return where something begins, from ``position`` to before ``size``; None if it does not.

    It has the ``pattern`` at an ``offset``, and at least this ``length``.
    """
    window_size = MIN_WINDOW
    while position < size:
        file.seek(position)
        window = file.read(min(window_size, size - position))
        at = window.find(pattern, offset)
        while at >= 0 and at - offset + length <= len(window):
            begin = at - offset
            if is_it is None or is_it(window, begin):
                return position + begin
            at = window.find(pattern, at + 1)
        if position + len(window) >= size or len(window) < window_size:
            return None
        position += len(window) - length + 1
        window_size = min(2 * window_size, MAX_WINDOW)
    return None
