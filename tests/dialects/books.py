"""Recorded books: read, aligned with their snapshots, and edited to see who notices."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from making import entries_of

from wsclient.messages import Gap, LinkedMessage, Message
from wsclient.sansio.dialect import Dialect, Snapshot
from wsclient.sansio.inbound import Inbound
from wsclient.sansio.recovery import ChannelTracker
from wsclient.testing.replay import Recorded, read_recording

RECORDED = Path(__file__).parents[2] / ".." / "shared" / "recorded"


def recording(name: str) -> list[Recorded]:
    path = RECORDED / name
    if not path.exists():
        pytest.skip("the recorded traffic is not here (../shared/recorded, beside the project)")
    return read_recording(path)


def messages_of(dialect: Dialect, lines: Sequence[bytes]) -> list[Message]:
    return [e for e in entries_of(Inbound(dialect), *lines) if isinstance(e, Message)]


def align(
    dialect: Dialect, snapshot: Snapshot, messages: Sequence[Message]
) -> tuple[int, dict[str, dict[Decimal, Decimal]]]:
    """A snapshot with what came of its book: how many messages were applied, and the book."""
    book = {"bids": dict(snapshot.bids), "asks": dict(snapshot.asks)}
    last, applied = snapshot.sequence, 0
    for message in messages:
        assert isinstance(message, LinkedMessage)
        assert message.sequence is not None
        assert message.follows is not None
        if message.sequence <= last:
            assert applied == 0, "doubled or reordered"
            continue
        assert message.follows <= last, f"a gap after {last}: {message}"
        update = dialect.book_update(message)
        assert update is not None
        for side, rows in (("bids", update.bids), ("asks", update.asks)):
            for price, size in rows:
                if size:
                    book[side][price] = size
                else:
                    book[side].pop(price, None)
        last, applied = message.sequence, applied + 1
    assert max(book["bids"]) < min(book["asks"]), "the book is crossed"
    return applied, book


def marks(messages: Sequence[Message]) -> list[tuple[int, Gap]]:
    """Which of these are marked, by their place, and how."""
    trackers: dict[str, ChannelTracker] = {}
    for message in messages:
        tracker = trackers.setdefault(message.channel, ChannelTracker(message.channel))
        tracker.accept(message)
    return [(i, m.gap) for i, m in enumerate(messages) if m.gap is not None]


#: Each edit of a line: what is in the place of it and the next one.
EDITS = {
    "deleted": lambda line, after, alter: [after],
    "doubled": lambda line, after, alter: [line, line, after],
    "swapped": lambda line, after, alter: [after, line],
    "altered": lambda line, after, alter: [alter(line), after],
}
#: Where the marks then are, from that place on, and their reasons.
NOTICED = {
    "deleted": [(0, "sequence")],
    "doubled": [(1, "duplicate")],
    "swapped": [(0, "sequence"), (1, "late")],
    "altered": [(0, "sequence")],
}


def edited(lines: Sequence[bytes], place: int, edit: str, alter: Any) -> list[bytes]:
    return [
        *lines[:place],
        *EDITS[edit](lines[place], lines[place + 1], alter),
        *lines[place + 2 :],
    ]


def noticed(edit: str, place: int) -> list[tuple[int, str]]:
    return [(place + offset, reason) for offset, reason in NOTICED[edit]]
