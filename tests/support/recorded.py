"""What stands in the recordings of a folder, for tests of what writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from wsclient.messages import LinkedMessage, Message
from wsclient.recording.folder import RecordedEntry, Recording, recordings_of
from wsclient.recording.records import Frame, message_of

__all__ = ["head_of", "heads_in", "messages_in", "records_in", "the_recording"]

T = TypeVar("T")


def the_recording(folder: Path) -> Recording:
    """Return the only recording of a folder, which must be free of damage."""
    (recording,), bad = recordings_of(folder)
    assert bad == []
    return recording


def records_in(recording: Recording, kind: type[T]) -> list[T]:
    """Return the records of this class, in order."""
    return [entry.record for entry in recording.read() if isinstance(entry.record, kind)]


def messages_in(entry: RecordedEntry) -> list[Message]:
    """Return the messages of a record."""
    if not isinstance(entry.record, Frame):
        return []
    topic = entry.topic if entry.kind == "channel" else None
    return [message_of(part, topic, entry.record.raw) for part in entry.record.parts]


def head_of(message: Message) -> tuple[Any, ...]:
    """Return all that identifies a message."""
    link = (message.follows, message.is_counted) if isinstance(message, LinkedMessage) else None
    return (
        message.channel, message.type, message.sequence, message.item, message.raw, message.gap,
        link,
    )  # fmt: skip


def heads_in(recording: Recording) -> list[tuple[Any, ...]]:
    """Return what identifies each message of a recording, in order."""
    return [head_of(message) for entry in recording.read() for message in messages_in(entry)]
