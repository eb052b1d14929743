"""The order books of a recording, kept again to see whether they stay in sync."""

from __future__ import annotations

import copy
from collections import Counter, deque
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from wsclient.dialect.base import Dialect
from wsclient.dialect.books import BookFormat, BookUpdate, Levels, Snapshot
from wsclient.dialect.values import RestRequest
from wsclient.dialect.views import Views
from wsclient.messages import Message
from wsclient.orderbook import OrderBook
from wsclient.recording.records import BookSnapshot, ClientState, Happened
from wsclient.recording.replayevents import ReplayedConnections
from wsclient.stream.codec import decoder
from wsclient.text import one_line, text_of

__all__ = ["BookCheck", "BookChecks", "is_book"]

_decode = decoder(decimal=True)
#: How many messages of a book's channel are kept to be applied after a recorded book.
RECENT = 10_000
#: How the reason of a book begins that has met a wrong message.
_MISFIT = "a message does not fit it"
#: Gaps after which a book goes on.
_HARMLESS = (None, "duplicate", "late")


class BookChecks:
    """The order books of one recording. Messages come in the order of the recording."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._books: dict[str, BookCheck] = {}
        #: Channels that have no order book.
        self._others: set[str] = set()
        self._options: dict[str, Mapping[str, Any]] = {}
        self._connections = ReplayedConnections()

    def __contains__(self, channel: object) -> bool:
        """Return whether a channel may be that of an order book."""
        return channel not in self._others

    def state(self, record: ClientState) -> None:
        """Note the options that the channels were subscribed with, and the connections."""
        self._connections.restart(record, 0.0)
        for channel in record.channels:
            self._options[channel.name] = channel.options
        for book in self._books.values():
            book.recent.clear()

    def happened(self, record: Happened) -> None:
        """Note an event."""
        self._connections.happened(record, 0.0)

    def restore(self, record: BookSnapshot) -> None:
        """Take over a recorded book, unless ours is in sync."""
        form, channel = self._dialect.book, record.channel
        if form is not None:
            self._others.discard(channel)
            self._options.setdefault(channel, record.options)
            if channel not in self._books:
                self._books[channel] = self._make(channel, form)
            self._books[channel].restore(record)

    def get(self, channel: str) -> BookCheck | None:
        """Return the order book of a channel; None if it has none."""
        return self._books.get(channel)

    def message(self, message: Message) -> None:
        """Apply the next message, if its channel is that of an order book."""
        found = self._books.get(message.channel) or self._new(message)
        if found is not None:
            on = message.connection_id
            origin = self._connections.origins.get(on, on)
            if origin != on:
                arrival = message.arrival
                message.arrival = msgspec.structs.replace(arrival, connection_id=origin)
            found.message(message)

    def answer(self, channel: str, body: bytes) -> None:
        """Apply a snapshot by REST."""
        if self._dialect.book is not None and channel not in self._others:
            found = self._books.get(channel)
            if found is None:
                found = self._books[channel] = self._make(channel, self._dialect.book)
            found.answer(body)

    def _new(self, message: Message) -> BookCheck | None:
        channel, form = message.channel, self._dialect.book
        if channel in self._others or message.type == "lost":
            return None
        if form is None or not is_book(self._dialect, message):
            self._others.add(channel)
            return None
        found = self._books[channel] = self._make(channel, form)
        return found

    def _make(self, channel: str, form: BookFormat) -> BookCheck:
        return BookCheck(self._dialect, form, channel, self._options.get(channel))


class BookCheck:
    """One order book of a recording.

    ``verified`` is the number of messages that have left it in sync, ``unverified`` that of the
    others: those before the first snapshot, for example. ``faults`` counts, by their reasons, how
    often it fell out of sync although no gap was recorded there.
    """

    def __init__(
        self,
        dialect: Dialect,
        form: BookFormat,
        channel: str,
        options: Mapping[str, Any] | None,
    ) -> None:
        self._dialect = dialect
        self._form = form
        self._book = OrderBook(dialect, channel, **(options or {}))
        #: The venue keeps a number of levels that is not known before the snapshot.
        self._is_cut = options is None and form.depth({}) is not None
        self._is_synced = False
        self._misfit = ""
        #: The last messages since the last state record.
        self.recent: deque[Message] = deque(maxlen=RECENT)
        self.verified = self.unverified = 0
        self.faults: Counter[str] = Counter()

    def message(self, message: Message) -> None:
        """Apply the next message."""
        self.recent.append(message)
        if self._is_cut:
            self._fit(message)
        self._is_synced, was_synced = self._book.apply(message), self._is_synced
        if self._is_synced:
            self.verified += 1
            self._misfit = ""
            return
        self.unverified += 1
        why = self._book.reason
        if why.startswith(_MISFIT):
            if why != self._misfit:
                self._misfit = why
                self.faults[_kind(why)] += 1
        elif was_synced and "missed" in why:
            reason = None if message.gap is None else message.gap.reason
            if reason in _HARMLESS:
                self.faults["sequence"] += 1

    def restore(self, record: BookSnapshot) -> None:
        """Take over a recorded book, unless this one is in sync: then it contains the same."""
        if self._is_synced:
            return
        recent = list(self.recent)
        named = record.received_at, record.sequence
        places = [i for i, m in enumerate(recent) if (m.received_at, m.sequence) == named]
        if not places and len(recent) == RECENT:
            return  # it may be one of those that were forgotten
        self._is_cut = False
        self._book = OrderBook(self._dialect, record.channel, **record.options)
        try:
            self._book._live.restore(
                [(Decimal(price), Decimal(size)) for price, size in record.bids],
                [(Decimal(price), Decimal(size)) for price, size in record.asks],
                record.sequence,
                record.received_at,
                record.origin,
            )
        except (ValueError, ArithmeticError) as error:
            self.faults[f"a recorded book makes no sense: {one_line(text_of(error))}"] += 1
            return
        for message in recent[places[-1] + 1 if places else 0 :]:
            self._book.apply(message)
        self._is_synced = self._book.is_synced

    def answer(self, body: bytes) -> None:
        """Apply a snapshot by REST."""
        try:
            self._book.take_snapshot(_decode(body))
        except Exception as error:  # noqa: BLE001 - a venue may answer anything
            self.faults[f"a snapshot by REST makes no sense: {one_line(text_of(error))}"] += 1
        self._is_synced = self._book.is_synced

    def _fit(self, message: Message) -> None:
        """Make the book as deep as its snapshot."""
        try:
            update = self._form.update(message)
        except Exception:  # noqa: BLE001 - the book says so
            return
        if update is None or not update.is_snapshot:
            return
        size = max(len(list(update.bids)), len(list(update.asks)))
        depth = max(size, self._form.depth({}) or 0)
        dialect = copy.copy(self._dialect)
        dialect.book = _Deep(self._form, depth)
        self._book = OrderBook(dialect, message.channel)
        self._is_synced = False


class _Deep(BookFormat):
    """The order books of a dialect with another depth."""

    def __init__(self, form: BookFormat, depth: int) -> None:
        self._form = form
        self._depth = depth

    def update(self, message: Message) -> BookUpdate | None:
        return self._form.update(message)

    def depth(self, options: Mapping[str, Any]) -> int | None:
        return self._depth

    def checksum(self, bids: Levels, asks: Levels) -> int | None:
        return self._form.checksum(bids, asks)

    def request(self, channel: str, options: Mapping[str, Any]) -> RestRequest | None:
        return self._form.request(channel, options)

    def snapshot(self, channel: str, answer: Any) -> Snapshot:
        return self._form.snapshot(channel, answer)


def is_book(dialect: Dialect, message: Message) -> bool:
    """Return whether a message is one of an order book."""
    try:
        views, form = dialect.views, dialect.book
        if type(views).book_symbol is not Views.book_symbol:
            return form is not None and views.book_symbol(message) is not None
        return form is not None and form.update(message) is not None
    except Exception:  # noqa: BLE001 - not a message of an order book
        return False


def _kind(why: str) -> str:
    """Return the kind of a misfit, in a word or as the book's text."""
    if "its checksum is" in why:
        return "checksum"
    return "crossed" if "it is crossed" in why else one_line(why)
