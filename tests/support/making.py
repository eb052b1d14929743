"""Messages as the client makes them, for tests of the later steps."""

from __future__ import annotations

from typing import Any

from wsclient.dialect.base import Dialect
from wsclient.dialect.books import BookFormat
from wsclient.dialects import Generic
from wsclient.messages import Arrival, Gap, Message
from wsclient.stream.inbound import Inbound
from wsclient.stream.incoming import Incoming

_INBOUND = Inbound(Generic())


def message(
    channel: str = "a",
    type: str = "update",
    sequence: int | None = None,
    raw: bytes = b"{}",
    received_at: int = 0,
    connection_id: int = 1,
    gap: Gap | None = None,
    decoder: Any = _INBOUND,
) -> Message:
    arrival = Arrival(received_at, connection_id, decoder)
    return Message(channel, type, sequence, raw=raw, gap=gap, arrival=arrival)


def entries_of(inbound: Inbound, *payloads: bytes, received_at: int = 1) -> list[Incoming]:
    """Return what the careful path makes of one read's payloads, all of connection 7."""
    return inbound.entries(inbound.batch(list(payloads), False, received_at, 7))


def with_book(book: BookFormat, dialect: Dialect | None = None) -> Dialect:
    """Return a dialect whose order books are of this format."""
    made = Dialect() if dialect is None else dialect
    made.book = book
    return made
