"""Recordings made by hand, for tests of what reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from wsclient import dialects
from wsclient.dialect.base import Dialect
from wsclient.messages import Gap, Message
from wsclient.recording.filewriter import FileWriter
from wsclient.recording.folder import PART, SUFFIX
from wsclient.recording.records import ClientRecord, Frame, encode, part_of
from wsclient.stream.inbound import Inbound
from wsclient.stream.incoming import Invalid

#: The first wall time of a recording by default (ns since the epoch): 2026-01-02 03:04:05 UTC.
BEGIN = 1_767_323_045_000_000_000


class MadeRecording:
    """One file of a session. Its clocks go on by `step` (ns) per record, or as `wait` says.

    `with` finishes the file. `leave` leaves it torn instead, as a killed recorder does.
    """

    def __init__(
        self,
        folder: Path,
        dialect: str | Dialect = "generic",
        *,
        session: str = "session-1",
        number: int = 1,
        name: str = "client",
        options: Mapping[str, Any] | None = None,
        begin: int = BEGIN,
        step: int = 1_000_000,
        chunk_size: int = 4096,
    ) -> None:
        self.dialect = dialects.find(dialect)
        self.path = folder / f"{self.dialect.name}-{session}-{number:04}{PART}"
        self.time = begin
        self.at = 5_000_000_000 + begin - BEGIN
        self.step = step
        self._inbound = Inbound(self.dialect)
        self._file = self.path.open("xb")
        self.writer = FileWriter(
            self._file,
            {
                "version": "1",
                "session": session,
                "number": str(number),
                "venue": self.dialect.name,
                "name": name,
                "url": "wss://venue.example/ws",
                "options": json.dumps(dict(options or {})),
                "created": str(begin),
            },
            chunk_size=chunk_size,
        )

    def wait(self, seconds: float) -> None:
        """Let time pass before the next record."""
        self.time += round(seconds * 1e9)
        self.at += round(seconds * 1e9)

    def frame(
        self,
        raw: bytes | str | Mapping[str, Any],
        *,
        connection_id: int = 1,
        gap: Gap | None = None,
        is_delivered: bool = True,
        aliases: Mapping[str, str] | None = None,
    ) -> list[Message]:
        """Add a frame with all of its messages, the first with `gap`. Return the messages."""
        payload = json.dumps(raw).encode() if isinstance(raw, Mapping) else _bytes(raw)
        batch = self._inbound.batch([payload], False, self.time, connection_id)
        entries = self._inbound.entries(batch)
        refused = [entry.text for entry in entries if isinstance(entry, Invalid)]
        if refused:
            raise ValueError(refused[0])
        messages = [entry for entry in entries if isinstance(entry, Message)]
        for message in messages:
            message.channel = (aliases or {}).get(message.channel, message.channel)
        if messages:
            messages[0].gap = gap
        self.messages(payload, messages if is_delivered else [], connection_id=connection_id)
        return messages

    def messages(
        self,
        raw: bytes,
        messages: list[Message],
        *,
        connection_id: int = 1,
        is_repeated: bool = False,
    ) -> None:
        """Add a frame with these messages."""
        channels = {message.channel for message in messages}
        topic = channels.pop() if len(channels) == 1 else None
        parts = [part_of(message, topic) for message in messages]
        record = Frame(connection_id, self.at, raw, parts, is_repeated=is_repeated)
        if topic is None:
            self._add("frames", "frames", encode(record))
        else:
            self._add("channel", topic, encode(record))

    def note(self, record: ClientRecord) -> None:
        """Add a record of the topic `client`, at the present time."""
        record.at = self.at
        self._add("client", "client", encode(record))

    def _add(self, kind: Any, topic: str, data: bytes) -> None:
        if self.writer.add(kind, topic, self.time, data):
            self.writer.end_chunk()
        self.time += self.step
        self.at += self.step

    def finish(self) -> Path:
        """Finish the file, and return its path."""
        self.writer.finish()
        self._file.close()
        done = self.path.with_name(self.path.name.removesuffix(PART) + SUFFIX)
        self.path = self.path.rename(done)
        return done

    def leave(self) -> Path:
        """Write what is buffered, and leave the file unfinished. Return its path."""
        self.writer.end_chunk()
        self._file.close()
        return self.path

    def __enter__(self) -> MadeRecording:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            self.finish()


def _bytes(raw: bytes | str) -> bytes:
    return raw.encode() if isinstance(raw, str) else raw
