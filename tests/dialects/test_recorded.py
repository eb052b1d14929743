"""Every recording goes through a client over a socket, with every check that it allows."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

import pytest

import wsclient
from support.helpers import until
from support.making import entries_of
from support.recordings import (
    RECORDED,
    count_links,
    messages_of,
    payloads,
    updates_of,
)
from support.streams import NUMBERED, STREAMS, Stream, check_books
from wsclient.books.book import Book as SortedBook
from wsclient.books.book import BookError
from wsclient.dialect.base import Dialect
from wsclient.dialect.books import BookUpdate
from wsclient.messages import Message
from wsclient.stream.inbound import Inbound
from wsclient.stream.items import Ack, Counted
from wsclient.testing import FakeVenue
from wsclient.testing.protocols import Payload, ScriptedProtocol
from wsclient.testing.venue import Peer

#: Files that no dialect of ours can read as a stream, and why.
EXCLUDED = {
    "README.md": "about the files",
    "bitstamp/": "no dialect of ours",
    "gemini/": "no dialect of ours",
    "htx/": "no dialect of ours",
    "kraken/KRAKEN.ws.48.0": "Kraken's v1, of which there is no dialect",
    "kraken/KRAKEN.ws.49.0": "Kraken's v1, of which there is no dialect",
    "shapes/": "single messages, not streams",
}


def test_each_file_is_in_the_table_or_excluded_for_a_reason() -> None:
    if not RECORDED.exists():
        pytest.skip("the recorded traffic is not here (../shared/recorded, beside the project)")
    files = {str(f.relative_to(RECORDED)) for f in RECORDED.rglob("*") if f.is_file()}
    table = {name for stream in STREAMS for name in (stream.file, stream.rest) if name}
    assert table <= files
    left_out = {file for file in files if file.startswith(tuple(EXCLUDED))}
    assert not table & left_out
    assert table | left_out == files


class Playing(ScriptedProtocol):
    """A protocol that answers requests, and plays the lines after the given number of requests."""

    def __init__(self, stream: Stream, lines: Sequence[bytes], requests: int) -> None:
        self._stream = stream
        self._lines = lines
        self._awaited = requests

    def greeting(self, peer: Peer) -> Sequence[Payload]:
        return self._stream.greeting

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        if self._stream.answer is not None:
            yield json.dumps(self._stream.answer(json.loads(payload)))
        self._awaited -= 1
        if self._awaited == 0:
            yield from (line.decode() for line in self._lines)


def play(
    stream: Stream, lines: Sequence[bytes], channels: Sequence[str]
) -> tuple[list[Message], wsclient.Stats]:
    """Return what a client delivers of these lines, after it received all of them."""
    dialect = stream.dialect
    expected = len(messages_of(dialect, lines))
    requests = len(list(dialect.batches(channels))) + len(dialect.opening)
    ours = len(stream.greeting) + requests * (stream.answer is not None)
    with (
        FakeVenue(Playing(stream, lines, requests)) as venue,
        wsclient.connect(venue.url, dialect=dialect) as client,
    ):
        client.subscribe(*channels, timeout=10)
        messages: list[Message] = []
        while len(messages) < expected:
            messages += client.recv_batch(timeout=10)
        until(lambda: client.stats().frames == ours + len(lines))
        return messages, client.stats()


def channels_of(dialect: Dialect, lines: Sequence[bytes]) -> list[str]:
    entries = entries_of(Inbound(dialect), *lines)
    named = [entry.channel for entry in entries if isinstance(entry, Message | Ack)]
    return sorted({name for name in named if name and not name.startswith("#")})


def ends_a_channel(dialect: Dialect, line: bytes) -> bool:
    """Return whether a line confirms an unsubscribe of the recorded client.

    Ours has not unsubscribed, and would subscribe again.
    """
    entries = entries_of(Inbound(dialect), line)
    return any(isinstance(entry, Ack) and entry.verb == "unsubscribe" for entry in entries)


@pytest.mark.loopback
@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.file)
def test_a_recording_goes_through_a_client_and_all_its_checks_hold(
    stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    dialect = stream.dialect
    lines = [line for line in payloads(stream.file) if not ends_a_channel(dialect, line)]
    entries = entries_of(Inbound(dialect), *lines)
    messages, stats = play(stream, lines, channels_of(dialect, lines))
    assert (stats.gaps, stats.missed, stats.invalid, stats.unhandled) == (0, 0, 0, 0)
    assert (len(lines), stats.messages) == (stream.frames, len(messages))
    assert [message for message in messages if message.gap] == []
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []
    sent = [entry.raw for entry in entries if isinstance(entry, Message)]
    assert [message.raw for message in messages] == sent

    others = (type(e).__name__ for e in entries if not isinstance(e, Message | Counted))
    assert Counter([*others, *(message.type for message in messages)]) == stream.kinds
    frames = [entry.sequence for entry in entries if isinstance(entry, Counted)]
    assert frames == list(range(1, len(frames) + 1))
    assert count_links(messages) + max(0, len(frames) - 1) == stream.links
    assert check_books(stream, messages) == (stream.books, stream.checksums, stream.removals)


# --- edits ---------------------------------------------------------------------------------------

#: Distance of two edits of a channel: the gaps of one end before the next one.
APART = 5
#: A frame, whether it is a message, and the reason of the gap that it must carry.
Line = tuple[bytes, bool, str | None]


def numbered(stream: Stream) -> tuple[list[Line], dict[str, list[int]]]:
    """Return the recording without unnumbered messages, and the places of each channel in it."""
    lines: list[Line] = []
    places = defaultdict(list)
    for raw in stream.rewritten(payloads(stream.file)):
        entries = entries_of(Inbound(stream.dialect), raw)
        message = entries[0] if isinstance(entries[0], Message) else None
        if message is not None and message.sequence is None:
            continue
        if message is not None:
            places[message.channel].append(len(lines))
        lines.append((raw, message is not None, None))
    return lines, places


def edited(
    stream: Stream, lines: list[Line], places: dict[str, list[int]], edit: str, start: int
) -> Iterator[Line]:
    """Edit every fifth message of each channel, from the ``start``-th on."""
    assert stream.alter is not None
    sent = [[line] for line in lines]
    for of_one in places.values():
        for place in range(start, len(of_one) - 2, APART):
            i, j = of_one[place : place + 2]
            line, following = lines[i][0], lines[j][0]
            if edit == "deleted":
                sent[i], sent[j] = [], [(following, True, "sequence")]
            elif edit == "doubled":
                sent[i] = [(line, True, None), (line, True, "duplicate")]
            elif edit == "swapped":
                sent[i], sent[j] = [(following, True, "sequence")], [(line, True, "late")]
            else:
                sent[i] = [(stream.alter(line), True, "sequence")]
                sent[j] = [(following, True, "duplicate" if stream.echoes else None)]
    for group in sent:
        yield from group


@pytest.mark.loopback
@pytest.mark.parametrize("edit", ["deleted", "doubled", "swapped", "altered"])
@pytest.mark.parametrize("stream", NUMBERED, ids=lambda stream: stream.file)
def test_each_edit_of_a_numbered_line_is_a_gap_there_and_nowhere_else(
    stream: Stream, edit: str
) -> None:
    """All lines are edited in turn, over a socket, except the first and last two of a channel."""
    lines, places = numbered(stream)
    edits = 0
    for start in range(1, APART + 1):
        sent = list(edited(stream, lines, places, edit, start))
        delivered, stats = play(stream, [raw for raw, _, _ in sent], sorted(places))
        found = [(message.raw, message.gap and message.gap.reason) for message in delivered]
        assert found == [(raw, reason) for raw, is_message, reason in sent if is_message]
        assert stats.invalid == 0
        edits += sum(len(range(start, len(of_one) - 2, APART)) for of_one in places.values())
    assert edits == sum(max(0, len(of_one) - 3) for of_one in places.values()) > 0


CHECKED = [stream for stream in STREAMS if stream.noticed]


def books_of(stream: Stream) -> list[list[BookUpdate]]:
    by_channel = defaultdict(list)
    for message in messages_of(stream.dialect, payloads(stream.file)):
        if message.channel.startswith(stream.prefix):
            (update,) = updates_of(stream.dialect, [message])
            by_channel[message.channel].append(update)
    return list(by_channel.values())


def levels(book: SortedBook, count: int | None = None) -> Any:
    return [list(islice(side, count)) for side in (book.bids, book.asks)]


def altered(update: BookUpdate) -> BookUpdate:
    """Return the update with the size of each level raised by one unit."""
    sides = ([(price, size + 1) for price, size in side] for side in (update.bids, update.asks))
    return BookUpdate(update.is_snapshot, *sides, update.checksum)


@pytest.mark.parametrize("edit", ["deleted", "swapped", "altered"])
@pytest.mark.parametrize("stream", CHECKED, ids=lambda stream: stream.file)
def test_each_edit_of_a_line_with_a_checksum_is_detected_where_it_first_shows(
    stream: Stream, edit: str
) -> None:
    """It shows at the line, unless the levels that the checksum covers are equal with the edit."""
    depth = stream.dialect.book.depth({})
    at_once = 0
    for updates in books_of(stream):
        book = SortedBook(depth)
        truth = [(book.apply(update), levels(book))[1] for update in updates]
        for i in range(1, len(updates) - 1):
            instead = {
                "deleted": [(i + 1, updates[i + 1])],
                "swapped": [(i + 1, updates[i + 1]), (i, updates[i])],
                "altered": [(i, altered(updates[i])), (i + 1, updates[i + 1])],
            }[edit]
            order = [*instead, *list(enumerate(updates))[i + 2 :]]
            place = first_fault(stream, truth, i - 1, order)
            at_once += place == 0
    assert at_once == stream.noticed[edit]


def first_fault(
    stream: Stream, truth: Sequence[Any], start: int, order: Sequence[tuple[int, BookUpdate]]
) -> int | None:
    """Return how many lines after ``start`` the checksum fails.

    That must be the first line at which the edited book and the true one differ.
    """
    depth = stream.dialect.book.depth({})
    checked, plain = SortedBook(depth, stream.dialect.book), SortedBook(depth)
    for book in (checked, plain):
        book.apply(BookUpdate(True, *truth[start]))
    for place, (line, update) in enumerate(order):
        with suppress(BookError):
            plain.apply(update)
        right = [side[: stream.covered] for side in truth[line]]
        is_wrong = str(levels(plain, stream.covered)) != str(right)
        if is_wrong:
            with pytest.raises(BookError):
                checked.apply(update)
            return place
        checked.apply(update)
        if place and levels(plain) == truth[line]:
            return None  # nothing is left of the edit
    return None


@pytest.mark.parametrize("stream", CHECKED, ids=lambda stream: stream.file)
def test_a_doubled_line_changes_no_book_with_a_checksum(stream: Stream) -> None:
    """Sizes are absolute, so the checksum matches again."""
    for updates in books_of(stream):
        book = SortedBook(stream.dialect.book.depth({}), stream.dialect.book)
        for update in updates:
            book.apply(update)
            book.apply(update)
