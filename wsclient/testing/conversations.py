"""What was said on each connection of a recording, in both directions; read and written."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wsclient.errors import ConfigurationError
from wsclient.testing.frames import Payload, as_bytes, close_reason, is_close_code
from wsclient.testing.scrubbing import Scrubber

__all__ = ["Passage", "RecordedConnection", "RecordedTalk", "Utterance", "talk_of", "write_talk"]

#: The file of a recording that :func:`write_talk` writes.
FILE = "venue.mcap"


@dataclass(frozen=True)
class Utterance:
    """A message of one side; `time` is in nanoseconds since the epoch."""

    time: int
    is_sent: bool
    payload: Payload


@dataclass(eq=False)
class RecordedConnection:
    """What was said on one connection, or how its handshake was refused.

    `path` is None if it is not known. `end` is how the venue ended it: a close code, None without a
    close frame, and the reason. It is None if the venue did not. `refusal` is an HTTP status and
    the body of the answer.
    """

    path: str | None = None
    said: list[Utterance] = field(default_factory=list)
    end: tuple[int | None, str] | None = None
    refusal: tuple[int, bytes] | None = None

    @property
    def requests(self) -> list[Payload]:
        """What the client sent."""
        return [each.payload for each in self.said if each.is_sent]


@dataclass
class RecordedTalk:
    """All connections of a recording, in order, and the answers to GETs: path (or channel), body.

    `name` and `run` say who wrote it, empty for a recording of a client.
    """

    connections: list[RecordedConnection]
    answers: list[tuple[str, bytes]]
    name: str = ""
    run: str = ""


@dataclass(frozen=True)
class Passage:
    """Something to be written: what has passed on a connection, numbered from 1.

    `text` is the path of `opened`, `refused` and `answered`, and the reason of `ended`. `code` is
    the HTTP status of `refused`, or the close code of `ended`, None without a close frame.
    """

    time: int
    connection: int
    what: Literal["opened", "refused", "sent", "received", "ended", "answered"]
    payload: Payload = b""
    text: str = ""
    code: int | None = None


def talk_of(folder: Path) -> RecordedTalk:
    """Return what a recording holds: one of :func:`write_talk` or of `client.record()`.

    Raises ConfigurationError if there is none.
    """
    # Imported lazily: they need the packages of the extra `record`.
    from wsclient.recording.folder import merged, recordings_of
    from wsclient.recording.records import Answer, Frame, Happened, SentFrame

    recordings, damage = recordings_of(folder)
    if not recordings:
        raise ConfigurationError(f"{folder} has no recording that can be read: {damage[0].damage}")
    talk = RecordedTalk([], [], recordings[0].files[0].metadata.get("test", ""))
    talk.run = recordings[0].files[0].metadata.get("run", "")
    found: dict[tuple[int, int], RecordedConnection] = {}

    def connection(number: int) -> RecordedConnection:
        key = id(entry.recording), number
        if key not in found:
            found[key] = RecordedConnection()
            talk.connections.append(found[key])
        return found[key]

    for entry in merged(recordings):
        match entry.record:
            case Frame(connection_id=on, raw=raw, is_binary=is_binary, is_repeated=False) if raw:
                payload: Payload = raw if is_binary else raw.decode(errors="replace")
                connection(on).said.append(Utterance(entry.time, False, payload))
            case SentFrame(connection_id=on, payload=raw, is_binary=is_binary):
                payload = raw if is_binary else raw.decode(errors="replace")
                connection(on).said.append(Utterance(entry.time, True, payload))
            case Answer(channel=channel, body=body):
                talk.answers.append((channel, body))
            case Happened(name="Connected", connection_id=on, fields=fields):
                connection(on).path = fields.get("path")
            case Happened(name="Refused", connection_id=on, fields=fields):
                refused = connection(on)
                refused.path = fields.get("path")
                refused.refusal = int(fields["status"]), str(fields["body"]).encode()
            case Happened(name="Disconnected", connection_id=on, fields=fields):
                connection(on).end = _end_of(fields)
    return talk


def _end_of(fields: Mapping[str, Any]) -> tuple[int | None, str] | None:
    """Return how the venue ended a connection, None if the client did."""
    if fields.get("reason") in ("rotated", "client"):
        return None
    code = fields.get("code")
    return code if is_close_code(code) else None, close_reason(str(fields.get("why", "")))


def learn(scrubber: Scrubber, passages: Iterable[Passage]) -> None:
    """Learn the secrets in all of it."""
    for passage in passages:
        match passage.what:
            case "sent":
                scrubber.learn_sent(passage.payload)
            case "received" | "answered" | "refused":
                scrubber.learn_received(passage.payload)
        if passage.what in ("opened", "refused", "answered"):
            scrubber.learn_url(passage.text)


def write_talk(
    folder: Path,
    passages: list[Passage],
    scrubber: Scrubber,
    *,
    url: str,
    dialect: str,
    test: str,
    run: str,
) -> None:
    """Write what has passed into a folder, in place of all recordings there.

    Other files are left alone. The old recordings stay until the new one is complete. Raises
    OSError as the system does.
    """
    from wsclient.recording.container import PART, SUFFIX
    from wsclient.recording.filewriter import FileWriter
    from wsclient.recording.records import VERSION, End, encode

    learn(scrubber, passages)
    metadata = {
        "version": str(VERSION),
        "session": secrets.token_hex(16),
        "number": "1",
        "created": str(passages[0].time if passages else 0),
        "venue": dialect,
        "name": "",
        "url": scrubber.url(url),
        "options": "{}",
        "test": scrubber.text(test),
        "run": run,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # No name of a recording, so that a run that is killed leaves none.
    temporary = folder / f".{FILE}.{metadata['session'][:8]}.new"
    try:
        with temporary.open("xb") as file:
            writer = FileWriter(file, metadata)
            for passage in passages:
                kind, data = _record(passage, scrubber)
                if writer.add(kind, kind, passage.time, data):
                    writer.end_chunk()
            last = passages[-1].time if passages else 0
            writer.add("client", "client", last, encode(End(at=last)))
            writer.finish()
            os.fsync(file.fileno())
        temporary.replace(folder / FILE)
    finally:
        temporary.unlink(missing_ok=True)
    for path in folder.glob(f".{FILE}.*.new"):  # runs that were killed have left them
        with suppress(OSError):
            path.unlink()
    for path in folder.rglob("*"):
        if path.name.endswith((SUFFIX, PART)) and path != folder / FILE:
            with suppress(OSError):
                path.unlink()


def _record(passage: Passage, scrubber: Scrubber) -> tuple[Literal["frames", "client"], bytes]:
    from wsclient.recording.records import Answer, Frame, Happened, SentFrame, encode

    at, on, payload = passage.time, passage.connection, passage.payload
    is_binary = isinstance(payload, bytes)
    match passage.what:
        case "received":
            raw = as_bytes(scrubber.received(payload))
            return "frames", encode(Frame(on, at, raw, [], is_binary))
        case "sent":
            raw = as_bytes(scrubber.sent(payload))
            record: Any = SentFrame(at=at, connection_id=on, payload=raw, is_binary=is_binary)
        case "answered":
            body = as_bytes(scrubber.received(payload))
            record = Answer(at=at, channel=scrubber.url(passage.text), connection_id=on, body=body)
        case "opened":
            fields: dict[str, Any] = {"attempt": 1, "path": scrubber.url(passage.text)}
            record = Happened(at=at, name="Connected", fields=fields, connection_id=on)
        case "refused":
            body = as_bytes(scrubber.received(payload))
            fields = {"path": scrubber.url(passage.text), "status": passage.code}
            fields["body"] = body.decode(errors="replace")
            record = Happened(at=at, name="Refused", fields=fields, connection_id=on)
        case "ended":
            code = 1006 if passage.code is None else passage.code
            by_client = passage.text == "client"
            fields = {"why": scrubber.text(passage.text), "code": code, "data_age": None}
            fields["reason"] = "client" if by_client else "ended" if code == 1006 else "closed"
            record = Happened(at=at, name="Disconnected", fields=fields, connection_id=on)
    return "client", encode(record)
