"""The order books of a client that plays recordings.

The thread that plays applies each message to the book of its channel, before the message is
delivered. So the book that a program reads is that of the last message it was given.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from wsclient.books.keeper import RESUBSCRIBED, LiveBook, format_of
from wsclient.dialect.base import Dialect
from wsclient.errors import NotSupported, RecordingEnded
from wsclient.events import BookOutOfSync, BookRefreshed, DialectFailed, SnapshotFailed
from wsclient.messages import Message
from wsclient.orderbook import ClientBooks, OrderBook, check_book, check_same
from wsclient.recording.playback import before, from_to
from wsclient.recording.records import (
    Answer,
    BookSnapshot,
    ClientRecord,
    ClientState,
    Frame,
    Happened,
    Lost,
)
from wsclient.recording.replaycore import ReplayCore
from wsclient.recording.replaylanes import Lane, recorded
from wsclient.runtime.checks import forbid_worker_threads
from wsclient.stream.codec import decoder
from wsclient.text import one_line, text_of

__all__ = ["ReplayBooks"]

#: How many messages of a book's channel are kept to be applied after a recorded book.
RECENT = 10_000
#: Connections of different recordings have numbers that are at least this far apart.
APART = 1 << 40

_decode_answer = decoder(decimal=True)


class ReplayFeed:
    """Feeds one order book, on the thread that plays.

    ``lanes`` are the recordings of the channel, in order; the first is played first.
    """

    def __init__(self, core: ReplayCore, channel: str, lanes: Sequence[Lane]) -> None:
        self._core = core
        self.channel = channel
        self._lanes = list(lanes)
        begun = [lane for lane in lanes if lane.shift is not None]
        to_come = [lane for lane in lanes if lane.tape.records]
        #: The recording whose messages are applied: the last one that has begun, else the first
        #: that has any record to come.
        self.lane = [lanes[0], *to_come[:1], *begun][-1]
        #: The last messages since the last state record.
        self._recent: deque[Message] = deque(maxlen=RECENT)
        #: How often the channel was confirmed, and that number at the last snapshot by REST.
        self._confirmed = self._fetched = 0
        #: The origin of the stream that the last snapshot by REST was fetched for.
        self._fetched_for = 0
        #: True while the book is caught up: what the connections were then is not known.
        self._is_behind = False
        self.book: LiveBook

    def catch_up(self) -> None:
        """Bring the book to the present place of the playback.

        Reads from the last state record before it, or, if the book cannot be in sync by that, from
        the beginning of the recording.
        """
        recording, place = self.lane.recording, self.lane.tape.place
        begins = (-1, 0, 0)
        begin = next(
            (
                at
                for at, kind, _, record in before(recording, place)
                if kind == "client" and isinstance(recorded(kind, record[3]), ClientState)
            ),
            begins,
        )
        self._is_behind = True
        try:
            self._replay(begin)
            if begin != begins and not self.book.lasting().is_synced:
                self._replay(begins)
        finally:
            self._is_behind = False

    def _replay(self, begin: tuple[int, int, int]) -> None:
        past = self.lane.again(self.channel)
        only = {self.channel}
        begin = max(begin, (0, 0, 0))
        for kind, name, stored in from_to(past.recording, begin, self.lane.tape.place, only):
            record = recorded(kind, stored[3])
            if isinstance(record, Lost):
                past.lost.add(record)
            elif isinstance(record, Frame):
                topic = name if kind == "channel" else None
                read_at = (record.at + (self.lane.shift or 0)) / 1e9
                for message in past.of_frame(record, topic, stored[2], only, read_at):
                    self.apply(message)
            elif record is not None:
                if isinstance(record, Happened):
                    past.connections.happened(record, 0.0)
                self.note(self.lane, record)

    def apply(self, message: Message) -> None:
        """Apply the channel's next message."""
        copy = message.copy()  # the consumer owns the other, and its gap may change
        self._recent.append(copy)
        try:
            self.book.apply(copy)
        except Exception:  # noqa: BLE001, S110 - the book has noted and reported it
            pass

    def note(self, lane: Lane, record: ClientRecord) -> None:
        """Take in a record of the topic ``client``."""
        if lane is not self.lane:
            if lane not in self._lanes or lane.client != self.lane.client:
                return
            self.lane = lane  # the next session has begun
            self._recent.clear()
        if isinstance(record, ClientState):
            self._recent.clear()
        elif isinstance(record, Answer) and record.channel == self.channel:
            self._answered(record)
        elif isinstance(record, BookSnapshot) and record.channel == self.channel:
            self._restore(record)
        elif isinstance(record, Happened):
            if record.name == "Subscribed" and self.channel in record.fields.get("channels", ()):
                self._confirmed += 1
            if not self._is_behind:
                self.book.look()

    def _answered(self, record: Answer) -> None:
        origin = self.origin(record.connection_id)
        is_void = origin == self._fetched_for and self._confirmed != self._fetched
        try:
            age = self.book.begin_snapshot(origin, is_void=is_void)
            self._fetched, self._fetched_for = self._confirmed, origin
            self.book.take_snapshot(_decode_answer(record.body), origin, age)
        except Exception as error:  # noqa: BLE001 - a venue's answer, read by a user's dialect
            why = one_line(text_of(error))
            self.book.snapshot_failed(why)
            self._core.emit(SnapshotFailed, self.channel, why, False, None)

    def _restore(self, record: BookSnapshot) -> None:
        """Take over a recorded book, unless ours is in sync: then it contains the same."""
        if self.book.lasting().is_synced:
            return
        recent = list(self._recent)
        named = record.received_at, record.sequence
        places = [i for i, m in enumerate(recent) if (m.received_at, m.sequence) == named]
        if not places and len(recent) == RECENT:
            return  # it may be one of those that were forgotten
        self._fetched = self._confirmed
        self._fetched_for = self._base + record.origin
        try:
            self.book.restore(
                [(Decimal(price), Decimal(size)) for price, size in record.bids],
                [(Decimal(price), Decimal(size)) for price, size in record.asks],
                record.sequence,
                record.received_at,
                self._fetched_for,
                self.now(),
            )
        except (ValueError, ArithmeticError) as error:
            self.book.snapshot_failed(f"the recorded book makes no sense ({error})")
            return
        for message in recent[places[-1] + 1 if places else 0 :]:
            self.book.apply(message)

    @property
    def _base(self) -> int:
        return APART * self._lanes.index(self.lane)

    # For the book.

    @property
    def is_current(self) -> bool:
        """True on the thread that plays: it has applied all that there is."""
        return self._core.is_playing

    @property
    def is_over(self) -> bool:
        """True when the client is closed or has failed."""
        return not self._core.supervisor.life.may("fail")

    def origin(self, connection_id: int) -> int:
        """Return the id of the connection with which the stream of this connection began.

        The ids of another session of the same client are larger.
        """
        return self._base + self.lane.connections.origins.get(connection_id, connection_id)

    def trouble(self, connection_id: int) -> str | None:
        """Return why data of the stream of this origin is no longer up to date; None if it is."""
        if self.is_over:
            return (
                f"the client {'is closed' if self._core.supervisor.life.is_over else 'has failed'}"
            )
        if self._is_behind:
            return None
        connections = self.lane.connections
        if not connections.goes_on(connection_id - self._base):
            state = connections.state.value
            if not connections.is_up:
                return f"the connection is down ({state})"
            return "the connection was replaced, and no snapshot has come yet"
        if self.book.joiner is not None and self._fetched != self._confirmed:
            return RESUBSCRIBED
        return None

    def doubt(self) -> str | None:
        """Return None: what the recorded client missed is known with the next message."""
        return None

    def newest(self) -> Message | None:
        """Return the newest message that has been played."""
        channel = self._core.supervisor.upkeep.channels.get(self.channel)
        return None if channel is None or self._is_behind else channel.latest

    def lateness(self) -> float:
        """Return 0: no message waits."""
        return 0.0

    def now(self) -> float:
        """Return the time (monotonic s) by the recordings' clock."""
        return self._core.replayed.monotonic()

    def report(self, error: BaseException) -> None:
        """Emit an event for an error of the dialect."""
        self._core.emit(DialectFailed, self.channel, error)

    def changed(self, why: str) -> None:
        """Emit an event: the book fell out of sync (``why``), or has a new snapshot (empty)."""
        if self._is_behind:
            return
        counters = self._core.supervisor.counters
        if why:
            counters.books_out_of_sync += 1
            self._core.emit(BookOutOfSync, self.channel, why)
        else:
            counters.books_refreshed += 1
            self._core.emit(BookRefreshed, self.channel)

    def check(self) -> None:
        """Raise, since no other thread brings a snapshot: the caller must play on."""
        self._core.supervisor.life.check()


class ReplayBooks(ClientBooks):
    """The order books of one client. It does not hold the client: each book in use does."""

    _core: ReplayCore

    def __init__(self, core: ReplayCore) -> None:
        super().__init__(core)
        self._feeds: dict[str, ReplayFeed] = {}
        #: The books that callers hold, each of which holds the client.
        self._held: weakref.WeakValueDictionary[str, OrderBook] = weakref.WeakValueDictionary()
        core.record_listeners.append(self._note)

    def open(
        self,
        client: object,
        symbol: str,
        verify_checksum: bool,
        timeout: float | None,
        options: Mapping[str, Any],
    ) -> OrderBook:
        """Return the order book of ``symbol``: see :meth:`WebSocketClient.order_book`."""
        check_book(symbol, verify_checksum, timeout, options)
        core = self._core
        core.check_call()
        forbid_worker_threads()
        core.supervisor.life.check()
        lanes = self._lanes_of(symbol, options)
        channel = self._channel(lanes[0].dialect, symbol, options)
        feed = self._feeds.get(channel)
        if feed is None or feed.book.is_lost:
            feed = ReplayFeed(core, channel, lanes)
            feed.book = LiveBook(
                lanes[0].dialect, channel, verify_checksum, options, feed, core.locks, core.mask
            )
            core.exclusively(partial(self._begin, feed))
        check_same(feed.book, symbol, verify_checksum)
        book = feed.book
        try:
            core.play_until(lambda: book.is_lost or _is_synced(book), timeout)
        except RecordingEnded:
            pass  # reading it says why it is not in sync
        if not _is_synced(book):
            why = self._given_up(feed)
            book.read(lambda _: None, stale_ok=False)
            raise RecordingEnded(why)
        held = self._held.get(channel)
        if held is None or held._live is not book:
            held = self._held[channel] = OrderBook._of(book, partial(self._close, feed), client)
        return held

    def _given_up(self, feed: ReplayFeed) -> str:
        self._drop(feed)
        return f"the recording has no snapshot of the order book {feed.channel!r}"

    def _lanes_of(self, symbol: str, options: Mapping[str, Any]) -> list[Lane]:
        """Return the recordings that have the channel of a symbol's book.

        Raises NotSupported if no dialect has order books, SubscriptionRejected if no recording has
        the channel.
        """
        found: list[Lane] = []
        names: list[str] = []
        refused: NotSupported | None = None
        for lane in self._core.lanes.values():
            try:
                name = self._channel(lane.dialect, symbol, options)
            except NotSupported as error:
                refused = error
                continue
            names.append(name)
            if name in lane.channels and (not found or found[0].client == lane.client):
                found.append(lane)
        if not names and refused is not None:
            raise refused
        if not found:
            self._core.calls.refuse(names[:1])
        return found

    @staticmethod
    def _channel(dialect: Dialect, symbol: str, options: Mapping[str, Any]) -> str:
        return format_of(dialect).channel(symbol, options)

    def _begin(self, feed: ReplayFeed) -> None:
        """Begin to feed a book. Called while no other thread plays."""
        feed.catch_up()
        self._feeds[feed.channel] = feed
        self._core.feed(feed.channel, feed.apply)
        feed.book.look()

    def _note(self, lane: Lane, record: ClientRecord) -> None:
        for feed in list(self._feeds.values()):
            feed.note(lane, record)

    def _drop(self, feed: ReplayFeed) -> None:
        if self._feeds.get(feed.channel) is feed:
            del self._feeds[feed.channel]
            self._core.appliers.pop(feed.channel, None)

    def _close(self, feed: ReplayFeed) -> None:
        feed.book.close()
        self._core.posts.put(partial(self._drop, feed))


def _is_synced(book: LiveBook) -> bool:
    with book.lock:
        return book.lasting().is_synced
