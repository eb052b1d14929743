"""Venues whose books begin with a snapshot by REST.

Their true book is known at each number.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import pytest

import wsclient
from support.helpers import Server, expect_end, receive_head
from support.inside import kept_of, service_of
from wsclient.books import snapshots
from wsclient.books.feeds import LiveBook
from wsclient.dialect.base import Dialect
from wsclient.testing import FakeVenue, FaultProxy
from wsclient.testing.protocols import Payload, ScriptedProtocol
from wsclient.testing.venue import Peer

UNLIMITED = wsclient.Limits(connects=None)
#: (price, size), best first, of the bids and of the asks.
State = tuple[list[tuple[int, int]], list[tuple[int, int]]]


class Row(NamedTuple):
    """The change of one sequence number."""

    number: int
    price: int
    size: int


class Change(NamedTuple):
    """A message of the stream: the rows of all sequence numbers after ``follows``."""

    follows: int
    rows: Sequence[Row]

    @property
    def last(self) -> int:
        return self.rows[-1].number


class Truth(ScriptedProtocol):
    """The venue's one book, its stream of changes, and what it answers by REST."""

    dialect: ClassVar[type[Dialect]]
    symbol: ClassVar[str]
    #: Whether its numbers count one by one, so that a jump says how many are missing.
    is_counted: ClassVar[bool] = True
    #: The distance from one number to the next.
    stride: ClassVar[int] = 1

    def __init__(self) -> None:
        self.number = 100
        self.sizes = {9: 1, 11: 1}
        #: The book at each number.
        self.states: dict[int, State] = {100: self.state}
        #: The answers to the next requests: bytes as they are, or a function to be called with the
        #: socket; after these, the current book.
        self.script: deque[bytes | Callable[[socket.socket], None]] = deque()
        self.asked: list[str] = []
        self.tokens = 0
        #: Protects the book: requests by REST are answered on threads of their own.
        self.lock = threading.Lock()
        self.refuses = False
        #: Called once in place of the next answer to a subscribe.
        self.instead: Callable[[Peer], None] | None = None
        #: The address given to clients, at a venue that gives it by REST.
        self.url = ""

    # The venue's own protocol.

    @classmethod
    def channel(cls, symbol: str | None = None) -> str:
        return cls.dialect().book.channel(symbol or cls.symbol, {})

    def at(self, rest: str) -> Dialect:
        """Return the dialect of a client that requests snapshots at ``rest``."""
        raise NotImplementedError

    def frame(self, change: Change, channel: str | None = None) -> str:
        raise NotImplementedError

    def body(self, number: int, state: State) -> Any:
        raise NotImplementedError

    # Its book.

    @property
    def state(self) -> State:
        bids, asks = sides(self.sizes.items())
        return sorted(bids, reverse=True), sorted(asks)

    def step(self, price: int, size: int) -> Row:
        """Make the change of one number, and return it; send nothing."""
        with self.lock:
            self.number += self.stride
            self.sizes[price] = size
            if not size:
                del self.sizes[price]
            self.states[self.number] = self.state
            return Row(self.number, price, size)

    def count_from(self, number: int) -> None:
        with self.lock:
            self.number = number
            self.states[number] = self.state

    def change(self, *rows: tuple[int, int], channel: str | None = None) -> str:
        """Make the changes; return the frame of the stream that carries them."""
        follows = self.number
        return self.frame(Change(follows, [self.step(*row) for row in rows]), channel)

    def snapshot(self, number: int | None = None) -> bytes:
        """Return the answer with the book as of ``number``; by default, as it is now."""
        with self.lock:
            number = self.number if number is None else number
            return ok(json.dumps(self.body(number, self.states.get(number, self.state))).encode())

    def answer(self, sock: socket.socket) -> None:
        head = receive_head(sock).decode()
        if "bullet" in head:
            self.tokens += 1
            data = {"token": f"T{self.tokens}", "instanceServers": [{"endpoint": self.url}]}
            sock.sendall(ok(json.dumps({"code": "200000", "data": data}).encode()))
            expect_end(sock)
            return
        self.asked.append(head.partition("symbol=")[2].split(" ")[0].split("&")[0])
        step = self.script.popleft() if self.script else None
        if callable(step):
            step(sock)
            return
        sock.sendall(step or self.snapshot())
        expect_end(sock)

    def is_told_by(self, book: wsclient.OrderBook) -> bool:
        """Return whether ``book`` is exactly the venue's, up to its newest number."""
        return self.check(kept_of(book)) and book.sequence == self.number

    def check(self, book: LiveBook) -> bool:
        """Return whether the book is in sync; it must then be the venue's at its number."""
        with book.lock:
            if not book.lasting().is_synced:
                return False
            number, bids, asks = book.sequence, list(book.book.bids), list(book.book.asks)
        assert number is not None
        assert (bids, asks) == self.states[number], f"wrong at {number}"
        return True


class Binance(Truth):
    dialect = wsclient.Binance
    symbol = "BTCUSDT"

    def at(self, rest: str) -> Dialect:
        class Unlimited(self.dialect):  # type: ignore[name-defined, misc]
            limits = UNLIMITED

        return Unlimited(rest=f"{rest}/depth")

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = json.loads(payload)
        for channel in request["params"]:
            if request["method"] == "SUBSCRIBE":
                peer.subscribe(channel)
            else:
                peer.unsubscribe(channel)
        if self.instead is not None:
            instead, self.instead = self.instead, None
            instead(peer)
            return
        outcome = {"code": 2, "msg": "no"} if self.refuses else {"result": None}
        yield json.dumps({**outcome, "id": request["id"]})

    def frame(self, change: Change, channel: str | None = None) -> str:
        bids, asks = sides({row.price: row.size for row in change.rows}.items())
        data = {"e": "depthUpdate", "U": change.rows[0].number, "u": change.last}
        data |= {"b": texts(bids), "a": texts(asks), **self.pointer(change)}
        return json.dumps({"stream": channel or self.channel(), "data": data})

    def pointer(self, change: Change) -> dict[str, Any]:
        return {}

    def body(self, number: int, state: State) -> Any:
        bids, asks = state
        return {"lastUpdateId": number, "bids": texts(bids), "asks": texts(asks)}


class BinanceFutures(Binance):
    """Binance futures: numbers jump, and each change of the stream names the one before."""

    dialect = wsclient.BinanceFutures
    is_counted = False
    stride = 8

    def pointer(self, change: Change) -> dict[str, Any]:
        return {"pu": change.follows}


class Kucoin(Truth):
    """KuCoin: gives the address by REST, sends a greeting, and numbers each row."""

    dialect = wsclient.Kucoin
    symbol = "BTC-USDT"

    def at(self, rest: str) -> Dialect:
        class Unlimited(wsclient.Kucoin):
            limits = UNLIMITED

        return Unlimited(rest=rest)

    def greeting(self, peer: Peer) -> Iterator[Payload]:
        yield json.dumps({"id": "x", "type": "welcome"})

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = json.loads(payload)
        topic, _, symbols = request["topic"].partition(":")
        for symbol in symbols.split(","):
            if request["type"] == "subscribe":
                peer.subscribe(f"{topic}:{symbol}")
            else:
                peer.unsubscribe(f"{topic}:{symbol}")
        if self.instead is not None:
            instead, self.instead = self.instead, None
            instead(peer)
            return
        yield json.dumps({"id": str(request["id"]), "type": "ack"})

    def frame(self, change: Change, channel: str | None = None) -> str:
        bids, asks = sides((row.price, row.size, row.number) for row in change.rows)
        changes = {"bids": texts(bids), "asks": texts(asks)}
        numbers = {"sequenceStart": change.rows[0].number, "sequenceEnd": change.last}
        message = {"type": "message", "topic": channel or self.channel()}
        message["subject"] = "trade.l2update"
        return json.dumps({**message, "data": {**numbers, "changes": changes}})

    def body(self, number: int, state: State) -> Any:
        bids, asks = state
        data = {"sequence": str(number), "bids": texts(bids), "asks": texts(asks)}
        return {"code": "200000", "data": data}


def sides(rows: Iterable[tuple[int, ...]]) -> tuple[list[Any], list[Any]]:
    """Split prices into bids (up to 10) and asks (above)."""
    held = list(rows)
    return [row for row in held if row[0] <= 10], [row for row in held if row[0] > 10]


def texts(rows: Iterable[tuple[int, ...]]) -> list[list[str]]:
    return [[str(n) for n in row] for row in rows]


def ok(body: bytes) -> bytes:
    return answer(b"200 OK", body)


def answer(status: bytes, body: bytes = b"", *lines: bytes) -> bytes:
    head = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *lines, b"", b""]
    return b"\r\n".join(head) + body


class Late:
    """An answer by REST that is held back.

    ``asked`` is set when it is requested. After ``go`` the answer is ``text``, of which a ``part``
    is sent before, or else the book at that moment.
    """

    def __init__(self, truth: Truth, text: bytes = b"", part: int = 0) -> None:
        self._truth, self._text, self._part = truth, text, part
        self.asked, self.go = threading.Event(), threading.Event()
        truth.script.appendleft(self)

    def __call__(self, sock: socket.socket) -> None:
        sock.sendall(self._text[: self._part])
        self.asked.set()
        assert self.go.wait(10)
        sock.sendall(self._text[self._part :] or self._truth.snapshot())
        expect_end(sock)

    def __enter__(self) -> Late:
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()


class Rig:
    """A client of such a venue."""

    def __init__(
        self, truth: Truth, venue: FakeVenue, proxy: FaultProxy, client: wsclient.WebSocketClient
    ) -> None:
        self.truth, self.venue, self.proxy, self.client = truth, venue, proxy, client
        self.channel = truth.channel()

    def book(self, timeout: float = 5.0) -> wsclient.OrderBook:
        return self.client.order_book(self.truth.symbol, timeout=timeout)

    def push(self, *rows: tuple[int, int]) -> None:
        self.venue.broadcast(self.truth.change(*rows), self.channel)

    def thread(self) -> threading.Thread | None:
        return service_of(self.client).snapshots.thread


@contextlib.contextmanager
def rig_of(truth: Truth, at: str | None = None, **options: Any) -> Iterator[Rig]:
    """Run a client that requests snapshots again within milliseconds, without limit.

    It asks the venue, or ``at`` if that is given.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshots, "PATIENCE", 0.01)
        patch.setattr(snapshots, "MAX_PATIENCE", 0.05)
        patch.setattr("wsclient.sansio.refreshes.BUDGET", (1000, 1.0))
        options = {"retry_delay": 0.01, "max_retry_delay": 0.05, "connect_timeout": 5, **options}
        with (
            Server(truth.answer) as rest,
            FakeVenue(truth) as venue,
            FaultProxy(venue.url) as proxy,
        ):
            truth.url = proxy.url
            dialect = truth.at(at or f"http://127.0.0.1:{rest.port}")
            with wsclient.connect(proxy.url, dialect=dialect, **options) as client:
                yield Rig(truth, venue, proxy, client)
