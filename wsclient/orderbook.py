"""OrderBook: a book kept from a channel's messages, which never passes for true when it is not."""

from __future__ import annotations

import threading
from decimal import Decimal
from itertools import islice
from typing import Any, NoReturn, Protocol

from wsclient import dialects
from wsclient.errors import OrderBookOutOfSync, WaitTimeout
from wsclient.messages import Message
from wsclient.runtime.forking import watch
from wsclient.runtime.waiting import Deadline, acquire
from wsclient.sansio.book import Book, BookError, Joiner, Level, Side
from wsclient.sansio.codec import one_line
from wsclient.sansio.dialect import BookUpdate, Dialect

__all__ = ["OrderBook"]


class Link(Protocol):
    """Where the messages of a client's book come from."""

    def trouble(self, connection_id: int) -> str | None:
        """Why what came over this connection is not up to date any more; None: it is."""

    def doubt(self) -> str | None:
        """What the next message may tell; None: nothing is known to be missed."""

    def check(self) -> None:
        """Raise where waiting for a snapshot is in vain."""


class OrderBook:
    """An order book in exact Decimals, made by ``client.order_book()``, or fed by hand.

    By hand: ``OrderBook("kraken", "book:BTC/USD")``, then :meth:`apply` with each message, of a
    client or of a recording. ``options`` are those that the channel is subscribed with.

    It is *in sync* from a snapshot on, until anything casts doubt on it: a gap, a wrong checksum,
    a crossed book, a payload that makes no sense, the end of the subscription; and, with a client,
    the end of the connection that it came over, or what its next message may tell to be missed
    (until it tells that nothing is). Then reading raises OrderBookOutOfSync until the
    next snapshot, unless ``stale_ok`` is set, or passed: what is there may be wrong then.

    Any number of threads may read it.
    """

    def __init__(
        self,
        dialect: str | Dialect,
        channel: str,
        verify_checksum: bool = True,
        *,
        link: Link | None = None,
        **options: Any,
    ) -> None:
        self._dialect = dialects.find(dialect)
        self.channel = channel
        self.verify_checksum = verify_checksum
        self.stale_ok = False
        self._link = link
        #: Protects all below, so that each read sees the book between two messages, never within
        #: one. Held for a message or a read; never while waiting.
        self._lock = threading.Lock()
        self._book = Book(
            self._dialect.book_depth(options), self._dialect if verify_checksum else None
        )
        by_rest = self._dialect.book_request(channel, options) is not None
        #: Where the book begins with a snapshot by REST.
        self._joiner = Joiner() if by_rest else None
        #: How often what was there, a snapshot on its way too, has become void.
        self._age = 0
        self._why: str | None = "it has had no snapshot yet"
        self._is_lost = False
        self._connection_id = 0
        self._sequence: int | None = None
        self._received_at: int | None = None
        #: One signal for each thread in wait_synced(); released to wake it.
        self._waiting: list[threading.Lock] = []
        watch(self)

    # Its messages.

    def apply(self, message: Message) -> bool:
        """Take in the channel's next message; those of other channels are ignored.

        Returns whether the book is in sync after it.
        """
        with self._lock:
            if message.channel == self.channel:
                try:
                    self._apply(message)
                except Exception as error:  # noqa: BLE001 - a dialect's, about a venue's payload
                    text = str(error) or type(error).__name__
                    self._why = f"a message does not fit it: {one_line(text)}"
                if self._waiting:
                    self._wake()  # it may have ended a doubt
            return self._trouble() is None

    def _apply(self, message: Message) -> None:
        if message.type == "lost":
            if self._joiner is not None:
                self._restart(self._joiner, self._connection_id)
            self._why, self._is_lost = "the venue has ended its subscription", True
            self._wake()
            return
        if self._joiner is not None:
            self._join(self._joiner, message)
            return
        gap = message.gap
        if self._why is None and gap is not None and gap.reason == "duplicate":
            return
        update = self._dialect.book_update(message)
        if update is None and gap is None:
            return
        if update is None or not update.is_snapshot:
            if self._why is not None:
                return
            if gap is not None:
                self._why = f"messages were missed ({gap.reason})"
                return
        assert update is not None
        self._book.apply(update)
        self._sequence = message.sequence
        self._received_at = message.received_at
        if update.is_snapshot:
            self._connection_id = message.connection_id
            self._why, self._is_lost = None, False
            self._wake()

    # Snapshots by REST.

    def begin_snapshot(self, connection_id: int = 0) -> int:
        """Its snapshot is about to be fetched. Returns what :meth:`take_snapshot` needs."""
        with self._lock:
            if self._joiner is not None and connection_id > self._connection_id:
                self._restart(self._joiner, connection_id)
            return self._age

    def take_snapshot(
        self, answer: Any, connection_id: int | None = None, age: int | None = None
    ) -> bool:
        """Take the venue's answer to ``dialect.book_request()``, decoded with Decimals.

        False where the changes that have come do not follow on it: a newer one is needed. Raises
        for what makes no sense. The connection that the changes come over, and what
        :meth:`begin_snapshot` returned, are for a client's book.
        """
        joiner = self._joiner
        if joiner is None:
            raise BookError(f"the books of {self._dialect.name} begin with a message, not by REST")
        snapshot = self._dialect.book_snapshot(self.channel, answer)
        with self._lock:
            if not joiner.wants_snapshot:
                return True
            if connection_id not in (None, self._connection_id) or age not in (None, self._age):
                return False
            changes = joiner.join(snapshot)
            if changes is None:
                return False
            try:
                self._book.apply(BookUpdate(True, snapshot.bids, snapshot.asks))
                self._sequence = snapshot.sequence
                for message in changes:
                    self._change(message)
            except BaseException:
                joiner.restart()
                raise
            self._why, self._is_lost = None, False
            self._wake()
            return True

    def give_up(self, why: str) -> None:
        """No snapshot will come."""
        with self._lock:
            self._why, self._is_lost = why, True
            self._wake()

    def _join(self, joiner: Joiner, message: Message) -> None:
        """The numbers decide, but where they may have begun anew."""
        gap = message.gap
        if message.connection_id < self._connection_id or self._is_lost:
            return
        if message.connection_id > self._connection_id:
            self._restart(joiner, message.connection_id)
        elif gap is not None and gap.reason not in ("duplicate", "reconnect"):
            self._restart(joiner, message.connection_id)
            self._why = f"messages were missed ({gap.reason})"
        if message.sequence is None:
            return
        was_joined = not joiner.wants_snapshot
        try:
            if joiner.add(message):
                self._change(message)
        except BaseException:
            joiner.restart()
            raise
        if was_joined and joiner.wants_snapshot:
            self._why = "messages were missed (sequence)"

    def _restart(self, joiner: Joiner, connection_id: int) -> None:
        joiner.restart()
        self._age += 1
        self._connection_id = connection_id
        if self._why is None:
            self._why = "the link has been replaced, and no snapshot has come yet"

    def _change(self, message: Message) -> None:
        update = self._dialect.book_update(message)
        if update is not None:
            self._book.apply(update)
            self._sequence = message.sequence
            self._received_at = message.received_at

    # What is in it.

    @property
    def best_bid(self) -> Level | None:
        """The highest bid, None where there is none."""
        with self._lock:
            self._check(False)
            return self._book.bids.best

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask, None where there is none."""
        with self._lock:
            self._check(False)
            return self._book.asks.best

    @property
    def mid(self) -> Decimal | None:
        """Half way between the best two; None where a side is empty."""
        with self._lock:
            self._check(False)
            return self._book.mid

    @property
    def spread(self) -> Decimal | None:
        """From the best bid up to the best ask; None where a side is empty."""
        with self._lock:
            self._check(False)
            return self._book.spread

    def bids(self, depth: int | None = None, *, stale_ok: bool = False) -> list[Level]:
        """The ``depth`` best bids, best first; None for all."""
        with self._lock:
            self._check(stale_ok)
            return _levels(self._book.bids, depth)

    def asks(self, depth: int | None = None, *, stale_ok: bool = False) -> list[Level]:
        """The ``depth`` best asks, best first; None for all."""
        with self._lock:
            self._check(stale_ok)
            return _levels(self._book.asks, depth)

    # How it stands.

    @property
    def is_synced(self) -> bool:
        """Is it what the venue's messages say, as far as they have come?"""
        with self._lock:
            return self._doubt() is None

    @property
    def needs_snapshot(self) -> bool:
        """Is it out of sync until the next one?"""
        with self._lock:
            return self._trouble() is not None

    @property
    def is_lost(self) -> bool:
        """Has the venue ended the subscription, or refused the snapshot? None will come of itself
        then."""
        return self._is_lost

    @property
    def sequence(self) -> int | None:
        """The number of the last message applied, where the venue numbers them."""
        return self._sequence

    @property
    def received_at(self) -> int | None:
        """When the last message applied was received (ns since the epoch)."""
        return self._received_at

    def wait_synced(self, timeout: float | None = None) -> None:
        """Block until the book is in sync.

        Raises TimeoutError after ``timeout`` seconds, OrderBookOutOfSync when the subscription has
        ended, and what a closed or failed client raises.
        """
        deadline = Deadline(timeout)
        while True:
            with self._lock:
                why = self._doubt()
                if why is None:
                    return
                if self._is_lost:
                    self._raise(why)
                signal = threading.Lock()
                signal.acquire()
                self._waiting.append(signal)
            try:
                if self._link is not None:
                    self._link.check()  # after the signal is in place: its end is not missed
                if not acquire(signal, deadline):
                    raise WaitTimeout(f"{self.channel!r} is not in sync within the timeout: {why}")
            finally:
                with self._lock:
                    if signal in self._waiting:
                        self._waiting.remove(signal)

    def wake(self) -> None:
        """Have all who wait look again: the client has ended."""
        with self._lock:
            self._wake()

    def forked(self) -> None:
        """In a child process: a message may be half applied, and a client is the parent's."""
        if self._lock.locked() or self._link is not None:
            self._why = "the process was forked, and it was the parent's"
        self._lock = threading.Lock()
        self._waiting = []

    def __repr__(self) -> str:
        with self._lock:
            why = self._doubt()
            sides = f"{len(self._book.bids)} bids, {len(self._book.asks)} asks"
        return f"<OrderBook {self.channel!r} {f'out of sync: {why}' if why else sides}>"

    # Inside, under the lock.

    def _trouble(self) -> str | None:
        if self._why is None and self._link is not None:
            return self._link.trouble(self._connection_id)
        return self._why

    def _doubt(self) -> str | None:
        why = self._trouble()
        return self._link.doubt() if why is None and self._link is not None else why

    def _check(self, stale_ok: bool) -> None:
        if not (stale_ok or self.stale_ok):
            why = self._doubt()
            if why is not None:
                self._raise(why)

    def _raise(self, why: str) -> NoReturn:
        raise OrderBookOutOfSync(
            f"the order book {self.channel!r} is out of sync: {why}; wait_synced() waits for the "
            "next snapshot, stale_ok=True reads what is there"
        )

    def _wake(self) -> None:
        for signal in self._waiting:
            signal.release()
        self._waiting.clear()


def _levels(side: Side, depth: int | None) -> list[Level]:
    return [Level(*level) for level in islice(side, depth)]
