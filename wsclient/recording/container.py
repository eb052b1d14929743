"""The format of a recording's files: MCAP (https://mcap.dev), in chunks.

A file begins with a header and a metadata record (:data:`METADATA`) that says whose it is. Then
come chunks, each compressed with zstd and protected by a CRC, and before a chunk the definitions of
the topics that are new in it. A finished file ends with a summary, which has the times of all
chunks. The file grows by whole records only, so whatever part of it is there can be read.

The topic of a record says what it is. Each has a log time, which never steps back within
a file, and a publish time.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from wsclient.errors import ConfigurationError

try:
    import zstandard as zstandard
    from mcap import records as mcap
    from mcap.data_stream import ReadDataStream as ReadDataStream
    from mcap.data_stream import RecordBuilder
    from mcap.opcode import Opcode as Opcode
except ImportError as error:
    raise ConfigurationError(
        "recordings need the packages of the extra 'record': pip install 'wsclient-market[record]'"
    ) from error

__all__ = [
    "CHUNK_SIZE",
    "CRC",
    "MAGIC",
    "MESSAGE",
    "METADATA",
    "PART",
    "PROFILE",
    "RECORD",
    "SCHEMAS",
    "SUFFIX",
    "ZSTD",
    "ZSTD_AT",
    "Damage",
    "Opcode",
    "ReadDataStream",
    "Stored",
    "built",
    "definition",
    "ending",
    "is_sealed",
    "mcap",
    "schemas",
    "sealed",
    "zstandard",
]

#: The end of the name of a finished file, and of one that is being written.
SUFFIX = ".mcap"
PART = ".mcap.part"

MAGIC = b"\x89MCAP0\r\n"
PROFILE = "wsclient"
#: The name of the metadata record. Its fields are text: ``version``, ``session`` (one id for all
#: files of a recorder), ``number`` (of the file in the session, from 1), ``venue`` (the dialect's
#: name), ``name`` (the client's name), ``url``, ``options`` (JSON), ``created`` (ns since the
#: epoch), and :data:`CRC`.
METADATA = "wsclient.recording"
#: The field that protects what MCAP itself does not: the metadata, and the definition of a topic.
CRC = "crc"
#: A chunk ends when it has this size (bytes), before compression.
CHUNK_SIZE = 1024 * 1024

#: The head of every record: its opcode, and the size of what follows.
RECORD = struct.Struct("<BQ")
#: The head of a message record.
MESSAGE = struct.Struct("<BQHIQQ")
#: Stands in each chunk record, this many bytes after its beginning.
ZSTD = b"\x04\x00\x00\x00zstd"
ZSTD_AT = RECORD.size + 8 + 8 + 8 + 4

#: The kinds of topics, with the names of their schemas.
SCHEMAS: Mapping[str, str] = {
    "channel": "wsclient.Frame",
    "frames": "wsclient.Frame",
    "client": "wsclient.ClientRecord",
}


class Stored(NamedTuple):
    """One record of a file. ``topic`` is the channel, for a topic of the kind ``channel``."""

    kind: str
    topic: str
    log_time: int
    publish_time: int
    data: bytes


class Damage(NamedTuple):
    """A part of a file that cannot be read: where it begins (bytes), its size, and why."""

    position: int
    size: int
    why: str


def built(record: Any) -> bytes:
    """Return the bytes of a record of the library."""
    builder = RecordBuilder()
    record.write(builder)
    return bytes(builder.end())  # type: ignore[no-untyped-call]


def schemas() -> dict[str, mcap.Schema]:
    """Return the schemas by their names. They are the same in all files."""
    names = dict.fromkeys(SCHEMAS.values())
    return {name: mcap.Schema(number, b"", "", name) for number, name in enumerate(names, 1)}


def definition(number: int, kind: str, topic: str) -> mcap.Channel:
    """Return the record that defines a topic. Raises KeyError for an unknown kind."""
    return mcap.Channel(
        id=number,
        topic=topic,
        message_encoding="msgpack",
        metadata=sealed({"kind": kind}, number, topic),
        schema_id=schemas()[SCHEMAS[kind]].id,
    )


def sealed(fields: Mapping[str, str], *others: str | int) -> dict[str, str]:
    """Return the fields with a CRC of them and of the ``others``."""
    return {**fields, CRC: _crc(fields, others)}


def is_sealed(fields: Mapping[str, str], *others: str | int) -> bool:
    """Return whether the CRC of the fields is right."""
    rest = {name: value for name, value in fields.items() if name != CRC}
    return fields.get(CRC) == _crc(rest, others)


def _crc(fields: Mapping[str, str], others: Sequence[str | int]) -> str:
    return f"{zlib.crc32(json.dumps([sorted(fields.items()), *others]).encode()):08x}"


def ending(
    position: int,
    channels: Sequence[mcap.Channel],
    counts: Mapping[int, int],
    chunks: Sequence[mcap.ChunkIndex],
    metadata: mcap.MetadataIndex,
) -> bytes:
    """Return the end of a file, from ``position`` on: the end of the data, and the summary.

    ``counts`` has the number of records of each topic.
    """
    data_end = built(mcap.DataEnd(0))
    start = position + len(data_end)
    known = list(schemas().values())
    times = [(c.message_start_time, c.message_end_time) for c in chunks] or [(0, 0)]
    statistics = mcap.Statistics(
        attachment_count=0,
        channel_count=len(channels),
        channel_message_counts=dict(counts),
        chunk_count=len(chunks),
        message_count=sum(counts.values()),
        message_start_time=min(start for start, _ in times),
        message_end_time=max(end for _, end in times),
        metadata_count=1,
        schema_count=len(known),
    )
    groups = [
        (Opcode.SCHEMA, known),
        (Opcode.CHANNEL, channels),
        (Opcode.STATISTICS, [statistics]),
        (Opcode.CHUNK_INDEX, chunks),
        (Opcode.METADATA_INDEX, [metadata]),
    ]
    summary, offsets = b"", []
    for opcode, members in groups:
        group = b"".join(map(built, members))
        if group:
            offsets.append(mcap.SummaryOffset(opcode, start + len(summary), len(group)))
            summary += group
    offset_start = start + len(summary)
    summary += b"".join(map(built, offsets))
    crc = zlib.crc32(summary)
    crc = zlib.crc32(struct.pack("<BQQQ", Opcode.FOOTER, 20, start, offset_start), crc)
    footer = mcap.Footer(summary_start=start, summary_offset_start=offset_start, summary_crc=crc)
    return data_end + summary + built(footer) + MAGIC
