"""A venue and its dialect with everything that a client can request.

These are channels, order books and requests. Also here: the loops of a main thread that signals,
finalizers and interrupts strike.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import count
from typing import Any

import wsclient
from support.inside import core_of
from wsclient import BookUpdate, Reply
from wsclient.testing import FakeVenue
from wsclient.testing.peer import Peer
from wsclient.testing.protocols import Payload, as_object, encode
from wsclient.testing.venues.generic import GenericProtocol

__all__ = [
    "BOOK_CHANNEL",
    "FEED",
    "LOOPS",
    "SYMBOL",
    "Talk",
    "Talker",
    "feeding",
    "options",
    "settle",
]

FEED, SYMBOL = "feed", "BTC-USD"
BOOK_CHANNEL = f"book:{SYMBOL}"
#: How long (s) an expected thing may take, on a busy machine.
PATIENCE = 15.0


class TalkBook(wsclient.BookFormat):
    """Order books whose messages are all snapshots."""

    def channel(self, symbol: str, options: Mapping[str, Any]) -> str:
        return f"book:{symbol}"

    def update(self, message: wsclient.Message) -> BookUpdate:
        top = Decimal(json.loads(message.raw)["sequence"])
        return BookUpdate(True, [(top, Decimal(1))], [(top + 1, Decimal(1))])


class Talk(wsclient.Generic):
    """Dialect with requests and order books."""

    book = TalkBook()
    limits = wsclient.Limits(connects=None)
    takes_credentials = True

    def request(self, payload: Any, request_id: int) -> Any:
        return {"type": "ask", "id": request_id, "payload": payload}

    def read(self, message: Any) -> Any:
        if isinstance(message, dict) and message.get("type") == "answer":
            return Reply(message["id"], message["payload"])
        return super().read(message)


class Talker(GenericProtocol):
    """Protocol of the venue: it answers requests, and sends a book to each subscriber of it."""

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = as_object(payload)
        if request.get("type") == "ask":
            yield encode({"type": "answer", "id": request["id"], "payload": request["payload"]})
            return
        yield from super().received(peer, payload)
        channel = str(request.get("channel", ""))
        if channel.startswith("book:") and request.get("type") == "subscribe":
            yield self.data(channel, max(1, peer.venue.sequence(channel)), {})


@contextlib.contextmanager
def feeding(venue: FakeVenue, *channels: str, interval: float = 0.001) -> Iterator[None]:
    """Publish on each of these channels, again and again."""
    ended = threading.Event()

    def feed() -> None:
        while not ended.wait(interval):
            for channel in channels:
                venue.publish(channel)

    publisher = threading.Thread(target=feed, name="publisher")
    publisher.start()
    try:
        yield
    finally:
        ended.set()
        publisher.join()


def options(**others: Any) -> dict[str, Any]:
    return {"dialect": Talk(), "retry_delay": 0.01, "max_retry_delay": 0.05, **others}


class Subject:
    """A client that has a feed, a reader and an order book.

    ``got`` are the numbers of the feed that its own queue has given.
    """

    def __init__(self, url: str, **others: Any) -> None:
        self.client = wsclient.connect(url, **options(**others))
        self.client.subscribe(FEED, timeout=PATIENCE)
        self.reader = self.client.reader(FEED, "other", timeout=PATIENCE)
        self.book = self.client.order_book(SYMBOL, timeout=PATIENCE)
        self.events = self.client.events()
        self.got: list[int] = []
        self.number = count()
        #: What an interrupted step has left for the next to end.
        self.left: list[Any] = []

    def note(self, *messages: wsclient.Message) -> None:
        for message in messages:
            assert message.gap is None, f"a mark on {message}: {message.gap}"
            if message.channel == FEED and message.sequence is not None:
                self.got.append(message.sequence)


def _recv(subject: Subject) -> None:
    subject.note(subject.client.recv(timeout=PATIENCE))


def _recv_batch(subject: Subject) -> None:
    subject.note(*subject.client.recv_batch(timeout=PATIENCE))


def _next(subject: Subject) -> None:
    subject.note(next(subject.client))  # type: ignore[call-overload]


def _for(subject: Subject) -> None:
    for message in subject.client:
        subject.note(message)
        if message.sequence and message.sequence % 8 == 0:
            break


def _reader(subject: Subject) -> None:
    while subject.left:
        subject.left[-1].close(timeout=PATIENCE)
        subject.left.pop()
    subject.left.append(subject.client.reader(f"reader-{next(subject.number) % 50}"))


def _on(subject: Subject) -> None:
    subject.client.on(f"on-{next(subject.number) % 200}", len, timeout=PATIENCE)


def _subscribe(subject: Subject) -> None:
    channel = f"channel-{next(subject.number) // 2 % 50}"
    subject.client.subscribe(channel, timeout=PATIENCE)
    subject.client.unsubscribe(channel, timeout=PATIENCE)


def _book_reads(subject: Subject) -> None:
    book = subject.book
    book.best_bid, book.best_ask, book.mid, book.spread  # noqa: B018
    book.bids(5), book.asks(5), book.is_synced, book.sequence, repr(book)


def _order_book(subject: Subject) -> None:
    subject.client.order_book(SYMBOL, timeout=PATIENCE)


def _new_book(subject: Subject) -> None:
    while subject.left:
        subject.left[-1].close()
        subject.left.pop()
    symbol = f"S{next(subject.number) % 50}"
    subject.left.append(subject.client.order_book(symbol, timeout=PATIENCE))


#: One step of each loop.
LOOPS: dict[str, Callable[[Subject], object]] = {
    "latest": lambda subject: subject.client.latest(FEED),
    "subscriptions": lambda subject: subject.client.subscriptions,
    "stats": lambda subject: subject.client.stats(),
    "recv": _recv,
    "recv_batch": _recv_batch,
    "next": _next,
    "for": _for,
    "reader.recv": lambda subject: subject.reader.recv(PATIENCE),
    "reader": _reader,
    "on": _on,
    "on_event": lambda subject: subject.client.on_event(len),
    "events": lambda subject: subject.client.events(),
    "subscribe and unsubscribe": _subscribe,
    "request": lambda subject: subject.client.request({}, timeout=PATIENCE),
    "send": lambda subject: subject.client.send("{}"),
    "book reads": _book_reads,
    "wait_synced": lambda subject: subject.book.wait_synced(PATIENCE),
    "order_book": _order_book,
    "new order book": _new_book,
    "repr": lambda subject: (repr(subject.client), repr(subject.reader)),
    "connect": lambda subject: subject.client.connect(PATIENCE),
}


def settle(subject: Subject, venue: FakeVenue) -> None:
    """Check a subject after the faults and the end of its feed.

    Nothing of the feed was lost or doubled, the client works on, and ends in time.
    """
    client = subject.client
    last = venue.sequence(FEED)
    while not subject.got or subject.got[-1] != last:
        subject.note(client.recv(timeout=PATIENCE))
    first = subject.got[0]
    assert subject.got == list(range(first, last + 1)), "lost, doubled or out of order"
    assert client.subscriptions[FEED].is_active
    works_on(client, venue)
    assert subject.book.is_synced
    end_in_time(client)


def works_on(client: wsclient.WebSocketClient, venue: FakeVenue, channel: str = "after") -> None:
    """Check that the client takes a subscription, an on() function, and their messages."""
    heard = threading.Event()
    client.on(f"{channel} on", lambda message: heard.set(), timeout=PATIENCE)
    client.subscribe(channel, timeout=PATIENCE)
    venue.publish(f"{channel} on")
    venue.publish(channel)
    while client.recv(timeout=PATIENCE).channel != channel:
        pass
    assert heard.wait(PATIENCE), "the on() function was not called"
    client.stats()


def end_in_time(client: wsclient.WebSocketClient, slack: float = 1.0) -> float:
    """Close the client; return how long (s) that took."""
    began = time.monotonic()
    client.close()
    took = time.monotonic() - began
    assert took <= core_of(client).options.close_timeout + slack, f"close() took {took:.2f} s"
    assert client.state is wsclient.State.CLOSED
    return took


def threads_of_ours() -> list[str]:
    return sorted(
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith("wsclient-") and thread.name != "wsclient-log"
    )
