"""What happens to a client, scene by scene, with each fault that a FakeVenue knows.

A scene waits for each thing that it causes before it causes the next one, so that its trace does
not depend on how fast the machine is. Its seed decides what happens, never when.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import wsclient
from golden.recorder import PATIENCE, Bench, Run, describe, outcome, steadily
from golden.speakers import SPEAKERS, Market, Speaker, Venue
from wsclient import events
from wsclient.testing import FakeVenue, Fault, FaultProxy

__all__ = ["scenes"]


class Stage:
    """A venue that speaks to one client, and the numbers of what it has sent."""

    def __init__(self, speaker: Speaker, venue: FakeVenue, bench: Bench) -> None:
        self.speaker = speaker
        self.venue = venue
        self.rest = bench.rest
        self.rng = random.Random(speaker.name)
        self.protocol = venue.protocol
        self.counts = dict.fromkeys(speaker.channels, 0)
        self.run: Run | None = None
        self.market = Market(speaker.name)
        self.number = 100
        #: Messages of the book that were sent to somebody.
        self.told = 0
        self.rest.asked.clear()
        self.rest.answer = self._answer

    @property
    def a(self) -> str:
        return self.speaker.channels[0]

    @property
    def b(self) -> str:
        return self.speaker.channels[1]

    @property
    def c(self) -> str:
        return self.speaker.channels[2]

    def make(self, **options: Any) -> Run:
        dialect = options.pop("dialect", None) or self.speaker.dialect(self.rest.url)
        self.run = Run(self.venue, dialect, self.rest, **options)
        return self.run

    def open(self, *channels: str, **options: Any) -> Run:
        """A client that is connected, and subscribed to some channels."""
        run = self.make(**options).connect()
        if channels:
            run.subscribe(*channels)
        return run

    def send(self, channel: str, *numbers: int) -> None:
        """Send messages by number, the next one of the channel where none is given."""
        for n in numbers or (self.counts[channel] + 1,):
            self.counts[channel] = max(n, self.counts[channel])
            self.speaker.send(self.venue, channel, n)

    def mix(self, count: int) -> None:
        """Send messages of the first two channels, and receive them."""
        for _ in range(count):
            self.send(self.rng.choice((self.a, self.b)))
        self.run.recv(count)

    def lose(self, cut: Callable[[], None], missed: int = 2) -> None:
        """End the connection, and send what is missed before the client can come back."""
        with self.venue.batch():
            cut()
            for _ in range(missed):
                self.send(self.a)
        self.run.until(events.Disconnected, events.Recovered)

    # The book.

    def trade(self) -> None:
        """Send the next change of the book."""
        changes = self.market.move()
        self.number += 1
        with self.venue.lock:
            for peer in self.venue.subscribers(self.speaker.book):
                for payload in self.speaker.update(peer, self.number, changes, self.market.levels):
                    peer.send(payload)
                    self.told += 1

    def _answer(self, method: str, path: str) -> Any:
        if "bullet" in path:
            server = {"endpoint": self.venue.url, "pingInterval": 18000, "pingTimeout": 10000}
            return {"code": "200000", "data": {"token": "t", "instanceServers": [server]}}
        if "GetWebSocketsToken" in path:
            return {"error": [], "result": {"token": "t", "expires": 900}}
        return self.speaker.rest(self.number, self.market.levels)


@contextmanager
def staged(speaker: Speaker, bench: Bench) -> Iterator[Stage]:
    venue = FakeVenue(speaker.protocol())
    venue.protocol = Venue(speaker, venue.protocol)
    with venue:
        stage = Stage(speaker, venue, bench)
        try:
            yield stage
        finally:
            if stage.run is not None:
                stage.run.close(bench.logs)


Scene = Callable[[Stage], None]
#: Runs a scene, and returns its rows.
Play = Callable[[Bench], dict[str, list[str]]]
FOR_ALL: dict[str, Scene] = {}
FOR_ONE: dict[str, Scene] = {}
#: Scenes that wait for deadlines to pass, or do again what another does: for the full trace only.
SLOW: set[str] = set()


def scene(where: dict[str, Scene], *cases: Any, slow: bool = False) -> Callable[[Any], Any]:
    """Register a scene, once for each case."""

    def register(function: Any) -> Any:
        for case in cases or (None,):
            name = function.__name__ if case is None else f"{function.__name__} {case}"
            where[name] = function if case is None else functools.partial(function, case=case)
            if slow:
                SLOW.add(name)
        return function

    return register


# --- for each venue ------------------------------------------------------------------------------


@scene(FOR_ALL)
def stream(stage: Stage) -> None:
    """Two channels, one more, one less; then the client's own end."""
    run = stage.open(stage.a, stage.b)
    stage.mix(30)
    run.subscribe(stage.c)
    run.subscribe(stage.c)
    stage.send(stage.c)
    run.recv(1)
    latest = run.client.latest(stage.a)
    run.note(f"latest: {describe(latest) if latest else None}")
    run.unsubscribe(stage.b)
    stage.send(stage.b)
    stage.send(stage.a)
    run.recv(1)
    stage.run.peer.ping(b"beat")
    stage.run.peer.expect_pong(PATIENCE)
    run.recv_all()
    run.stats()


CUTS: dict[str, Callable[[Any], None]] = {
    "fin": lambda peer: peer.fin(),
    "rst": lambda peer: peer.rst(),
    "close 1001": lambda peer: peer.close(1001, "going away"),
    "half a frame and fin": lambda peer: peer.half_frame("x" * 300, "fin"),
    "half a frame and rst": lambda peer: peer.half_frame("x" * 300, "rst"),
}


@scene(FOR_ALL, *CUTS)
def cut(stage: Stage, case: str) -> None:
    """Two connections end, one of them with nothing missed."""
    run = stage.open(stage.a, stage.b)
    stage.mix(7)
    stage.lose(lambda: CUTS[case](run.peer), missed=3)
    run.note(f"wanted: {run.wanted()}")
    stage.mix(7)
    stage.lose(lambda: CUTS[case](run.peer), missed=0)
    stage.mix(7)
    run.stats()


@scene(FOR_ALL)
def outage(stage: Stage) -> None:
    """The venue is gone for some attempts: no TCP, no handshake, no upgrade."""
    run = stage.open(stage.a)
    stage.send(stage.a)
    run.recv(1)
    stage.venue.fail_handshake("eof")
    stage.lose(lambda: run.peer.rst())
    stage.send(stage.a)
    run.recv(1)
    run.stats()


@scene(FOR_ALL)
def refused_channels(stage: Stage) -> None:
    """One channel is refused at once, another after a reconnect; both may come back."""
    stage.venue.refuse_channel(stage.b, "no such thing")
    run = stage.open(stage.a, stage.c)
    run.subscribe(stage.b)
    stage.send(stage.a)
    stage.send(stage.c)
    run.recv(2)
    stage.venue.refuse_channel(stage.c, "no longer")
    with stage.venue.batch():
        run.peer.rst()
    run.until(events.Disconnected, events.Recovered)
    stage.send(stage.a)
    run.recv(2)
    run.note(f"wanted: {run.wanted()}")
    stage.venue.allow_channel(stage.c)
    run.subscribe(stage.c)
    stage.send(stage.c)
    run.recv(1)
    run.stats()


@scene(FOR_ALL)
def lost_ack(stage: Stage) -> None:
    """A subscribe is not answered, and given up."""
    run = stage.open(stage.a)
    stage.venue.mute_acks(channel=stage.b)
    run.subscribe(stage.b, timeout=0.15)
    stage.venue.mute_acks(False)
    stage.send(stage.a)
    run.recv(1)
    run.note(f"wanted: {run.wanted()}")


@scene(FOR_ALL, slow=True)
def lost_acks_after_a_reconnect(stage: Stage) -> None:
    """A connection answers no subscribe: it is replaced."""
    run = stage.open(stage.a, ack_timeout=1.0)
    stage.send(stage.a)
    run.recv(1)
    stage.protocol.deaf.add(2)
    run.peer.rst()
    run.until(events.Disconnected, events.Disconnected, events.Recovered)
    stage.send(stage.a)
    run.recv(1)
    run.stats()


@scene(FOR_ALL)
def numbers(stage: Stage) -> None:
    """Numbers come twice, jump, come late, begin again; the seed decides which."""
    run = stage.open(stage.a, stage.b)
    sent = [1, 2, 2, 3, 7, 5, 8, 8, 9]
    sent += [stage.rng.randrange(5, 40) for _ in range(40)]
    for n in sent:
        stage.send(stage.a, n)
        if n % 5 == 0:
            stage.send(stage.b)
    run.recv(len(sent) + sum(n % 5 == 0 for n in sent))
    run.stats()


@scene(FOR_ALL)
def counted_frames(stage: Stage) -> None:
    """Frames of the connection's count are left out, where the venue has one."""
    run = stage.open(stage.a, stage.b)
    stage.mix(6)
    stage.speaker.frame(run.peer, stage.a, 7)
    stage.counts[stage.a] += 1
    stage.mix(6)
    run.stats()


INVALID: dict[str, str | bytes] = {
    "no json": '{"channel": "a", ',
    "a number": "5",
    "a list": "[]",
    "an object": '{"what":"this"}',
    "a wrong shape": '{"type":5,"channel":[],"stream":{},"topic":7,"method":1,"event":[],"arg":2}',
    "binary": b"\x00\x01\xff",
    "null": "null",
}


@scene(FOR_ALL, *INVALID)
def invalid(stage: Stage, case: str) -> None:
    """A frame cannot be read: the next messages are marked, or their numbers disprove it."""
    run = stage.open(stage.a, stage.b)
    stage.mix(5)
    run.peer.send(INVALID[case])
    stage.mix(5)
    run.stats()


@scene(FOR_ALL)
def flood(stage: Stage) -> None:
    """Thousands of messages come in few reads, with gaps among them."""
    run = stage.open(stage.a, stage.b)
    count = 0
    with stage.venue.batch():
        for _ in range(1500):
            channel = stage.rng.choice((stage.a, stage.b))
            if stage.rng.random() < 0.01:
                stage.counts[channel] += 3
            stage.send(channel)
            count += 1
    run.wait_messages(count)
    run.recv(count)
    run.stats()


@scene(FOR_ALL)
def fragments(stage: Stage) -> None:
    """Messages come in several frames, with a ping between two of them."""
    run = stage.open(stage.a)
    for count in (2, 5):
        stage.counts[stage.a] += 1
        payload = stage.speaker.frame(run.peer, stage.a, stage.counts[stage.a])
        run.peer.send_fragments(payload, count)
    run.peer.ping(b"between")
    run.peer.expect_pong(PATIENCE)
    stage.send(stage.a)
    run.recv(3)


@scene(FOR_ALL)
def readers(stage: Stage) -> None:
    """A reader, a function and the client share two channels."""
    run = stage.open(stage.a)
    seen: list[str] = []
    reader = run.call("reader", run.client.reader, stage.a, stage.b, timeout=PATIENCE)
    run.call("on", run.client.on, stage.b, lambda m: seen.append(describe(m)), timeout=PATIENCE)
    sent = {stage.a: 0, stage.b: 0}
    for _ in range(12):
        channel = stage.rng.choice((stage.a, stage.b))
        sent[channel] += 1
        stage.send(channel)
    run.recv(sent[stage.a])
    run.recv(12, reader)
    run.wait(lambda: len(seen) == sent[stage.b])
    for row in seen:
        run.note(f"on: {row}")
    stage.lose(lambda: run.peer.rst())
    stage.send(stage.a)
    stage.send(stage.b)
    run.recv(1)
    run.recv(2, reader)
    run.wait(lambda: len(seen) == sent[stage.b] + 1)
    run.note(f"on: {seen[-1]}")
    run.call("close of the reader", reader.close, timeout=PATIENCE)
    run.note(f"wanted: {run.wanted()}")


@scene(FOR_ALL)
def data_before_the_answer(stage: Stage) -> None:
    """The first message of a channel overtakes the answer to its subscribe."""
    if stage.speaker.name == "bitfinex":
        return  # data bears what only the answer tells
    stage.protocol.before = lambda peer, channel: [stage.speaker.frame(peer, channel, 1)]
    run = stage.open(stage.a, stage.b)
    stage.counts |= {stage.a: 1, stage.b: 1}
    stage.mix(4)
    run.recv(2)
    run.stats()


def show(stage: Stage, book: Any) -> None:
    """Record a book, once it has taken in what was sent."""
    run = stage.run
    bids, asks = stage.market.levels

    def is_there() -> bool:
        stats = run.client.stats()
        if stats.channels[stage.speaker.book].messages < stage.told:
            return False
        if any(queue.messages for name, queue in stats.queues.items() if name != "client"):
            return False
        found = book.bids(stale_ok=True), book.asks(stale_ok=True)
        return all(
            [(float(p), float(s)) for p, s in side] == levels
            for side, levels in zip(found, (bids, asks), strict=True)
        )

    try:
        run.wait(is_there)
        book.wait_synced(PATIENCE)
    except Exception as error:  # noqa: BLE001 - recorded
        run.note(f"the book does not come: {type(error).__name__}")
    sides = book.bids(stale_ok=True), book.asks(stale_ok=True)
    told = [" ".join(f"{price}x{size}" for price, size in side) for side in sides]
    run.note(f"book synced={book.is_synced} sequence={book.sequence} {told[0]} / {told[1]}")


def begin_book(stage: Stage, peer: Any, channel: str) -> list[str]:
    if channel != stage.speaker.book:
        return []
    payloads = stage.speaker.snapshot(peer, stage.number, stage.market.levels)
    stage.told += len(payloads)
    return payloads


def has_book(speaker: Speaker) -> bool:
    return speaker.name != "generic"


@scene(FOR_ALL)
def book(stage: Stage) -> None:
    """An order book is kept, through a cut and a gap, and closed."""
    if not has_book(stage.speaker):
        return
    stage.protocol.begin = functools.partial(begin_book, stage)
    run = stage.open()
    kept = run.call("order_book", run.client.order_book, stage.speaker.symbol, timeout=PATIENCE)
    run.subscribe(stage.speaker.book)
    show(stage, kept)
    for _ in range(20):
        stage.trade()
    show(stage, kept)
    with stage.venue.batch():
        run.peer.rst()
        stage.market.move()
        stage.number += 1
    run.until(events.Disconnected, events.Recovered)
    if stage.speaker.by_rest:
        stage.trade()
    show(stage, kept)
    for _ in range(5):
        stage.trade()
    show(stage, kept)
    run.call("close of the book", kept.close)
    run.call("read", lambda: kept.best_bid)
    run.unsubscribe(stage.speaker.book)


@scene(FOR_ALL)
def book_with_a_hole(stage: Stage) -> None:
    """A change of the book is missing: it is out of sync, and gets another snapshot."""
    if not has_book(stage.speaker) or stage.speaker.name in ("coinbase_exchange",):
        return  # nothing in its messages would tell
    stage.protocol.begin = functools.partial(begin_book, stage)
    run = stage.open()
    kept = run.call("order_book", run.client.order_book, stage.speaker.symbol, timeout=PATIENCE)
    for _ in range(3):
        stage.trade()
    show(stage, kept)
    for _ in range(3):
        stage.market.move()
        stage.number += 1
    if stage.speaker.name == "bitfinex":
        stage.speaker.count(run.peer)
    asked = len(run.peer.received), len(stage.rest.asked)
    stage.trade()
    run.wait(lambda: (len(run.peer.received), len(stage.rest.asked)) != asked)
    show(stage, kept)
    stage.trade()
    show(stage, kept)


@scene(FOR_ALL, "accepted", "refused")
def login(stage: Stage, case: str) -> None:
    """With credentials: accepted and used again after a cut, or refused for good."""
    if stage.speaker.credentials is None:
        return
    stage.protocol.accepts_logins = case == "accepted"
    if case == "refused" and stage.speaker.name == "kraken":
        stage.rest.answer = lambda method, path: {"error": ["EAPI:Invalid key"]}
    if case == "refused" and stage.speaker.name == "kucoin":
        stage.rest.answer = lambda method, path: {"code": "400003", "msg": "KC-API-KEY"}
    run = stage.open(stage.a, credentials=dict(stage.speaker.credentials))
    if run.client.is_connected:
        stage.send(stage.a)
        run.recv(1)
        stage.lose(lambda: run.peer.rst(), missed=0)
        stage.send(stage.a)
        run.recv(1)


REQUESTS: dict[str, list[Any]] = {
    "kraken": [{"method": "ping"}],
    "deribit": [{"method": "public/test", "params": {}}, {"method": "public/none", "params": {}}],
    "bitfinex": [{"event": "ping"}],
}


@scene(FOR_ALL)
def requests(stage: Stage) -> None:
    """What the caller sends by himself, and replies to it."""
    run = stage.open()
    for payload in ("text", b"bytes", {"an": ["object", 1.5, None]}):
        if stage.speaker.name in ("bitfinex", "kucoin") and not isinstance(payload, dict):
            continue
        run.call("send", run.client.send, payload)
    for payload in REQUESTS.get(stage.speaker.name, [{"method": "what"}]):
        timeout = PATIENCE if stage.speaker.name in REQUESTS else 0.05
        reply = run.call(f"request {payload}", run.client.request, payload, timeout=timeout)
        run.note(f"reply: {reply}")
    if stage.speaker.name in REQUESTS:
        payload = REQUESTS[stage.speaker.name][0]
        with in_flight(stage, functools.partial(run.client.request, timeout=PATIENCE), payload):
            run.peer.rst()
        run.until(events.Disconnected, events.Connected)
    with in_flight(stage, run.client.subscribe, stage.a, timeout=PATIENCE):
        run.call("close", run.client.close, timeout=PATIENCE)
    run.call("send after close", run.client.send, "x")


@contextmanager
def in_flight(stage: Stage, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[None]:
    """Make a call that is not answered, and wait until the venue has heard of it."""
    run, peer = stage.run, stage.run.peer
    stage.protocol.deaf.add(peer.id)
    peer.ping(b"answered after all that was sent before")
    peer.expect_pong(PATIENCE)
    heard = len(peer.received)
    name = f"{getattr(call, '__name__', 'request')} in flight"
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(outcome(call, *args, **kwargs)[0]))
    thread.start()
    run.wait(lambda: len(peer.received) > heard)
    yield
    thread.join()
    run.note(f"{name}: {found}")


# --- for the generic protocol alone ---------------------------------------------------------------


@scene(FOR_ONE)
def misuse(stage: Stage) -> None:
    """Calls that cannot work, before connect, after close, and with wrong arguments."""
    run = stage.make()
    client = run.client
    calls: dict[str, Callable[[], Any]] = {
        "subscribe": lambda: client.subscribe("a"),
        "recv": lambda: client.recv(timeout=0),
        "recv_batch": lambda: client.recv_batch(timeout=0),
        "next": lambda: next(client),
        "send": lambda: client.send("x"),
        "request": lambda: client.request({}),
        "reader": lambda: client.reader("a"),
        "on": lambda: client.on("a", print),
        "order_book": lambda: client.order_book("a"),
        "unsubscribe": lambda: client.unsubscribe("a"),
        "latest": lambda: client.latest("a"),
        "stats": lambda: client.stats(),
        "a list": lambda: client.subscribe(["a"]),
        "nothing": lambda: client.subscribe(),
        "a wrong timeout": lambda: client.recv(timeout=-1),
        "no function": lambda: client.on("a", 5),
        "no listener": lambda: client.on_event(5),
        "a wrong overflow": lambda: client.reader("a", overflow="what"),
    }
    for when in ("idle", "open", "closed"):
        if when == "open":
            run.connect()
        elif when == "closed":
            client.close(timeout=PATIENCE)
        for name, call in calls.items():
            if when == "open" and name in ("next", "subscribe", "reader", "on"):
                continue
            run.call(f"{when}: {name}", call)
        run.note(f"{when}: {client.state.value} {client.is_connected}")
    run.call("connect, closed", client.connect)


@scene(FOR_ONE)
def options(stage: Stage) -> None:
    """Options and addresses that cannot work."""
    run = stage.open()
    wrong: list[dict[str, Any]] = [
        {"dialect": "nobody"},
        {"dialect": 5},
        {"queue_size": 0},
        {"overflow": "what"},
        {"max_retries": 0},
        {"retry_delay": -1},
        {"unknown": 1},
        {"credentials": {}},
        {"ping_interval": "x"},
        {"headers": {"Sec-WebSocket-Key": "x"}},
        {"proxy": "ftp://x"},
    ]
    for given in wrong:
        run.call(f"{sorted(given)}", wsclient.WebSocketClient, "ws://127.0.0.1/", **given)
    for url in ("http://x", "", "ws://", 5):
        run.call(f"url {url!r}", wsclient.WebSocketClient, url)
    run.subscribe("a", depth=5)
    run.subscribe("a", depth=6)


HANDSHAKES: dict[str, Callable[[FakeVenue], None]] = {
    "refused 401": lambda venue: venue.refuse(401),
    "refused 403": lambda venue: venue.refuse(403, body=b"no"),
    "refused 404": lambda venue: venue.refuse(404, times=3),
    "refused 429": lambda venue: venue.refuse(429, times=3),
    "refused 503 with a delay": lambda venue: venue.refuse(503, retry_after=0, times=1),
    "redirected": lambda venue: venue.refuse(302, headers=[("Location", "ws://x/")], times=3),
    "eof": lambda venue: venue.fail_handshake("eof", 3),
    "reset": lambda venue: venue.fail_handshake("reset", 3),
    "garbage": lambda venue: venue.fail_handshake("garbage", 3),
    "headers": lambda venue: venue.fail_handshake("headers", 3),
    "eof once": lambda venue: venue.fail_handshake("eof"),
}


@scene(FOR_ONE, *HANDSHAKES)
def handshake(stage: Stage, case: str) -> None:
    """The first connect meets a fault; the next call may succeed."""
    HANDSHAKES[case](stage.venue)
    run = stage.make(headers={"X-Ours": "1"}, cookie="a=b", origin="https://o", subprotocols=["p"])
    run.connect()
    run.note(f"state: {run.client.state.value}")
    run.connect()
    run.note(f"state: {run.client.state.value}")
    run.stats()


@scene(FOR_ONE, "deaf", "drip", slow=True)
def endless_handshake(stage: Stage, case: str) -> None:
    """The handshake is never answered, or never ends: the attempt runs out of time."""
    stage.venue.fail_handshake(case)
    run = stage.make(connect_timeout=1.5).connect()
    run.stats()


@scene(FOR_ONE, "refused 401", "refused 403", "refused 503 with a delay", "eof", "garbage")
def reconnect(stage: Stage, case: str) -> None:
    """The same at a reconnect, of a client that gives up after two of them."""
    run = stage.open("a", max_reconnects=2)
    stage.send("a")
    stage.send("a")
    run.recv(1)
    HANDSHAKES[case](stage.venue)
    run.peer.rst()
    run.until(events.Disconnected)
    if case == "refused 503 with a delay":
        run.until(events.Recovered)
    else:
        run.until(events.Closed)
    run.recv_all()
    run.call("subscribe", run.client.subscribe, "b", timeout=PATIENCE)
    run.stats()


@scene(FOR_ONE)
def nobody_there(stage: Stage) -> None:
    """The port is closed at connect, and for a while after a cut."""
    stage.venue.down()
    run = stage.make(max_retries=2, max_reconnects=2).connect()
    stage.venue.up()
    run.connect()
    run.subscribe("a")
    stage.send("a")
    run.recv(1)
    stage.venue.down()
    run.peer.rst()
    run.until(events.Disconnected, events.Closed)
    run.call("send", run.client.send, "x")


@scene(FOR_ONE)
def away(stage: Stage) -> None:
    """Calls while the client waits for its next attempt."""
    run = stage.open("a", retry_delay=30.0)
    stage.venue.down()
    run.peer.rst()
    run.until(events.Disconnected, events.Reconnecting)
    run.note(f"state: {run.client.state.value}, {run.client.is_connected}, {run.wanted()}")
    run.call("send", run.client.send, "x")
    run.call("request", run.client.request, {})
    run.call("recv", run.client.recv, timeout=0)
    run.call("subscribe", run.client.subscribe, "b", timeout=0.1)
    run.call("unsubscribe", run.client.unsubscribe, "a", timeout=PATIENCE)
    run.call("connect", run.client.connect, timeout=0.1)
    run.note(f"wanted: {run.wanted()}")


BROKEN: dict[str, bytes] = {
    "a masked frame": b"\x81\x81abcd\x00",
    "a reserved bit": b"\xc1\x01x",
    "a reserved opcode": b"\x83\x01x",
    "text that is no UTF-8": b"\x81\x02\xff\xfe",
    "a continuation of nothing": b"\x80\x01x",
    "a long ping": b"\x89\x7e\x00\x80" + b"x" * 128,
    "a wrong close code": b"\x88\x02\x00\x01",
    "too large": b"\x81\x7f\x00\x00\x00\x00\x7f\xff\xff\xff",
}


@scene(FOR_ONE, *BROKEN)
def broken_frame(stage: Stage, case: str) -> None:
    """The venue breaks the protocol: the connection is replaced, what came before is delivered."""
    run = stage.open("a")
    stage.send("a")
    with stage.venue.batch():
        stage.send("a")
        run.peer.send_raw(BROKEN[case])
    run.until(events.Disconnected, events.Recovered)
    stage.send("a")
    run.recv(3)
    run.stats()


@scene(FOR_ONE, "drop_oldest", "drop_newest", "conflate", "error")
def slow_consumer(stage: Stage, case: str) -> None:
    """A queue of five messages is not read while twenty come."""
    run = stage.open("a", "b", queue_size=5, overflow=case)
    for _ in range(10):
        stage.send("a")
        stage.send("b")
    if case == "error":
        run.until(events.Closed)
    else:
        run.wait_messages(20)
    if case.startswith("drop"):
        run.until(events.SlowConsumer)
    run.recv(2 if case == "conflate" else 5)
    stage.send("a")
    run.recv(1)
    if case != "error":
        run.stats()


@scene(FOR_ONE, "drop_oldest", "conflate")
def slow_reader(stage: Stage, case: str) -> None:
    """A reader's own queue is full, the client's is not."""
    run = stage.open("a")
    reader = run.client.reader("a", "b", queue_size=4, overflow=case, timeout=PATIENCE)
    for n in range(12):
        stage.send("a" if n % 3 else "b")
    run.wait_messages(12)
    if case.startswith("drop"):
        run.until(events.SlowConsumer)
    run.recv(2 if case == "conflate" else 4, reader)
    run.recv(8)
    run.stats()


@scene(FOR_ONE)
def large_queue(stage: Stage) -> None:
    """A queue is bounded in bytes too."""
    run = stage.open("a", queue_bytes=3000)
    for _ in range(20):
        stage.send("a")
    run.wait_messages(20)
    run.until(events.SlowConsumer)
    run.recv_all()
    run.stats()


@scene(FOR_ONE)
def validation(stage: Stage) -> None:
    """``validate`` refuses a message, and unknown types are delivered."""

    def validate(message: Any) -> None:
        if message.sequence == 3:
            raise ValueError("three")

    run = stage.open("a", validate=validate, deliver_unhandled=True, decimal=True)
    for _ in range(5):
        stage.send("a")
    run.recv(4)
    run.peer.send('{"type":"news","channel":"x","text":1.50}')
    run.recv(1)
    run.stats()


@scene(FOR_ONE, *range(1, 9))
def cut_by_bytes(stage: Stage, case: int) -> None:
    """A proxy ends the connection after a number of bytes, within a frame or between two."""
    with FaultProxy(stage.venue.url, seed=case) as proxy:
        run = stage.open("a", url=proxy.url)
        after = random.Random(case).randrange(1, 1500)
        proxy.set(Fault("fin", after=after), "to_client", on="present")
        for _ in range(20):
            stage.send("a")
        run.until(events.Disconnected, events.Recovered)
        whole = run.client.stats().messages
        stage.send("a")
        run.recv(whole + 1)
        run.stats()
        run.client.close(timeout=PATIENCE)


@scene(FOR_ONE, "rate", "delay")
def slow_link(stage: Stage, case: str) -> None:
    """Bytes come in drops, or late: nothing is lost, and no connection."""
    with FaultProxy(stage.venue.url) as proxy:
        run = stage.open("a", url=proxy.url)
        proxy.set(Fault(rate=20_000.0) if case == "rate" else Fault(delay=0.05), "to_client")
        for _ in range(20):
            stage.send("a")
        run.recv(20)
        run.client.close(timeout=PATIENCE)


@scene(FOR_ONE, "deaf", "stall", slow=True)
def dead_link(stage: Stage, case: str) -> None:
    """Nothing comes any more: unanswered pings tell."""
    with FaultProxy(stage.venue.url) as proxy:
        run = stage.open("a", url=proxy.url, ping_interval=1.0, ping_timeout=2.0)
        stage.send("a")
        run.recv(1)
        proxy.set(Fault(case), "to_client", on="present")
        run.until(events.Disconnected, events.Recovered)
        stage.send("a")
        run.recv(1)
        run.client.close(timeout=PATIENCE)


@scene(FOR_ONE, slow=True)
def stalled_frame(stage: Stage) -> None:
    """A frame stops half way."""
    run = stage.open("a", stall_timeout=0.5)
    stage.send("a")
    run.recv(1)
    run.peer.half_frame("x" * 100)
    run.until(events.Disconnected, events.Recovered)
    stage.send("a")
    run.recv(1)


@scene(FOR_ONE, slow=True)
def silent_venue(stage: Stage) -> None:
    """Not a frame comes: the connection is replaced."""
    run = stage.open("a", silence_timeout=1.5)
    stage.send("a")
    run.recv(1)
    run.peer.mute()
    run.until(events.Disconnected, events.Recovered)
    stage.send("a")
    run.recv(1)


@scene(FOR_ONE, slow=True)
def silent_channel(stage: Stage) -> None:
    """A channel falls silent: it is subscribed to again, then the connection is replaced."""
    run = stage.open("a", stale_after=1.0)
    stage.send("a")
    run.recv(1)
    run.until(events.Disconnected, events.Recovered)
    stage.send("a")
    run.recv(1)


@scene(FOR_ONE)
def requests_in_flight(stage: Stage) -> None:
    """The connection ends before an answer, and before a subscribe is confirmed."""
    stage.venue.mute_acks(channel="mute")
    run = stage.open("a")

    def cut_twice() -> None:
        for n in (1, 2):
            stage.venue.wait_for(lambda v, n=n: len(v.peers) == n and v.subscribers("mute"))
            stage.venue.live[-1].rst()

    thread = threading.Thread(target=cut_twice)
    thread.start()
    run.subscribe("mute")
    thread.join()
    run.until(events.Disconnected, events.Disconnected, events.Recovered)
    stage.send("a")
    run.recv(1)


@scene(FOR_ONE)
def handler(stage: Stage) -> None:
    """The older dict style."""
    run = stage.open()
    with wsclient.WebSocketHandler(
        {"websocket_uri": stage.venue.url, "name": "golden", "retry_delay_sec": 0.01}
    ) as old:
        run.call("subscribe", lambda: run.note(str(old.subscribe("a"))))
        old.connect()
        run.note(str(old.subscribe("a")))
        stage.venue.refuse_channel("b", "no")
        run.note(str(old.subscribe("b")))
        stage.send("a", 1, 2, 5)
        for _, data in zip(range(3), old, strict=False):
            run.note(str(data))
    run.note(str(old.subscribe("a")))


@scene(FOR_ONE, *range(1, 7))
def at_random(stage: Stage, case: int) -> None:
    """A seeded story of many faults, one after the other."""
    rng = stage.rng = random.Random(case)
    run = stage.open("a", "b", retry_delay=0.001)
    run.is_throttled = True
    for _ in range(12):
        stage.mix(rng.randrange(1, 20))
        fault = rng.choice([*CUTS, "jump", "twice", "garbage", "refuse", "none"])
        if fault in CUTS:
            stage.lose(lambda cut=CUTS[fault]: cut(run.peer), rng.randrange(4))
        elif fault == "jump":
            stage.counts["a"] += rng.randrange(1, 5)
        elif fault == "twice":
            stage.send("a", stage.counts["a"] or 1)
            run.recv(1)
        elif fault == "garbage":
            run.peer.send("garbage")
        elif fault == "refuse":
            stage.venue.refuse(503)
            stage.lose(lambda: run.peer.rst(), rng.randrange(4))
    stage.mix(5)
    run.stats()


# --- what there is -------------------------------------------------------------------------------


def scenes(reduced: bool = False) -> Iterator[tuple[str, Play]]:
    """Yield each scene's name, and a function that runs it and returns its rows."""
    for speaker in SPEAKERS:
        for name, play in FOR_ALL.items():
            if not (reduced and name in SLOW):
                yield f"{speaker.name}: {name}", functools.partial(perform, speaker, play)
    for name, play in FOR_ONE.items():
        if not (reduced and name in SLOW):
            yield f"one: {name}", functools.partial(perform, SPEAKERS[0], play)


def perform(speaker: Speaker, play: Scene, bench: Bench) -> dict[str, list[str]]:
    return steadily(functools.partial(once, speaker, play, bench))


def once(speaker: Speaker, play: Scene, bench: Bench) -> Run | None:
    with staged(type(speaker)(), bench) as stage:
        try:
            play(stage)
        except Exception as error:  # noqa: BLE001 - a scene that fails is a difference
            if stage.run is not None:
                stage.run.note(f"the scene failed: {type(error).__name__}")
    return stage.run
