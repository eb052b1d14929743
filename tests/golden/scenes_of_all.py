"""Scenes for each venue, in its own words."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from golden.recorder import PATIENCE, describe, outcome
from golden.speakers import Speaker
from golden.stage import CUTS, FOR_ALL, Stage, scene
from wsclient import events


@scene(FOR_ALL)
def stream(stage: Stage) -> None:
    """Subscribe to two channels, add one, remove one; then the client closes."""
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
    run.peer.ping(b"beat")
    run.peer.expect_pong(PATIENCE)
    run.recv_all()
    run.stats()


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
    """The venue fails some attempts: no TCP, no handshake, no upgrade."""
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
    """A subscribe is not answered, and the client gives it up."""
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
    """Sequence numbers come twice, jump, come late or begin again; the seed decides which."""
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
def gap(stage: Stage) -> None:
    """A sequence number of the channel is left out, and one of the connection."""
    run = stage.open(stage.a, stage.b)
    stage.mix(6)
    stage.counts[stage.a] += 1
    stage.speaker.skip(run.peer)
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
    """A frame cannot be read: the next messages have a gap, or their numbers disprove it."""
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
        return  # data refers to a number that only the answer has
    stage.protocol.before = lambda peer, channel: [stage.speaker.frame(peer, channel, 1)]
    run = stage.open(stage.a, stage.b)
    stage.counts |= {stage.a: 1, stage.b: 1}
    stage.mix(4)
    run.recv(2)
    run.stats()


def show(stage: Stage, book: Any) -> None:
    """Record a book after it has applied what was sent."""
    run = stage.run
    bids, asks = stage.market.levels

    def is_there() -> bool:
        stats = run.client.stats()
        if stats.channels[stage.speaker.book].messages < stage.book_messages:
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
    shown = [" ".join(f"{price}x{size}" for price, size in side) for side in sides]
    run.note(f"book synced={book.is_synced} sequence={book.sequence} {shown[0]} / {shown[1]}")


def begin_book(stage: Stage, peer: Any, channel: str) -> list[str]:
    if channel != stage.speaker.book:
        return []
    payloads = stage.speaker.snapshot(peer, stage.number, stage.market.levels)
    stage.book_messages += len(payloads)
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
    """An update of the book is missing: it is out of sync and gets another snapshot."""
    if not has_book(stage.speaker) or stage.speaker.name in ("coinbase_exchange",):
        return  # nothing in its messages would show it
    stage.protocol.begin = functools.partial(begin_book, stage)
    run = stage.open()
    kept = run.call("order_book", run.client.order_book, stage.speaker.symbol, timeout=PATIENCE)
    for _ in range(3):
        stage.trade()
    show(stage, kept)
    for _ in range(3):
        stage.market.move()
        stage.number += 1
    stage.speaker.skip(run.peer)
    asked = len(run.peer.received), len(stage.rest.asked)
    stage.trade()
    run.wait(lambda: (len(run.peer.received), len(stage.rest.asked)) != asked)
    show(stage, kept)
    stage.trade()
    show(stage, kept)


@scene(FOR_ALL, "accepted", "refused")
def login(stage: Stage, case: str) -> None:
    """The credentials are accepted and used again after a cut, or refused for good."""
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


#: These answer anything but a JSON object with a notice, or not at all.
_ANSWERING = ("bitfinex", "deribit", "kucoin")


@scene(FOR_ALL)
def requests(stage: Stage) -> None:
    """The caller sends messages and requests, and gets replies."""
    run = stage.open()
    for payload in ("text", b"bytes", {"an": ["object", 1.5, None]}):
        if stage.speaker.name in _ANSWERING and not isinstance(payload, dict):
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
    """Make a call that is not answered, and wait until the venue has received it."""
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
