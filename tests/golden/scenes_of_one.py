"""Scenes that are the same for all venues: only the generic protocol plays them."""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable
from typing import Any, Literal

import wsclient
from golden.recorder import PATIENCE
from golden.stage import CUTS, FOR_ONE, Stage, scene
from wsclient import events
from wsclient.testing import FakeVenue, Fault, FaultProxy


@scene(FOR_ONE)
def misuse(stage: Stage) -> None:
    """Calls that cannot work, before connect, after close, and with wrong arguments."""
    run = stage.make()
    client: Any = run.client  # it is misused
    calls: dict[str, Callable[[], Any]] = {
        "subscribe": lambda: client.subscribe("a"),
        "recv": lambda: client.recv(timeout=0),
        "recv_batch": lambda: client.recv_batch(timeout=0),
        "next": lambda: next(client),
        "send": lambda: client.send("x"),
        "request": lambda: client.request({}, timeout=0.05),
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
def endless_handshake(stage: Stage, case: Literal["deaf", "drip"]) -> None:
    """The handshake is never answered, or never ends: the attempt runs out of time."""
    stage.venue.fail_handshake(case)
    run = stage.make(connect_timeout=1.5).connect()
    run.stats()


@scene(FOR_ONE, "refused 401", "refused 403", "refused 503 with a delay", "eof", "garbage")
def reconnect(stage: Stage, case: str) -> None:
    """Reconnects meet a fault; the client gives up after two of them."""
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
    """The venue breaks the protocol: the connection is replaced, earlier messages are delivered."""
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
    """Bytes come a few at a time, or late: no message is lost and no connection ends."""
    with FaultProxy(stage.venue.url) as proxy:
        run = stage.open("a", url=proxy.url)
        proxy.set(Fault(rate=20_000.0) if case == "rate" else Fault(delay=0.05), "to_client")
        for _ in range(20):
            stage.send("a")
        run.recv(20)
        run.client.close(timeout=PATIENCE)


@scene(FOR_ONE, "deaf", "stall", slow=True)
def dead_link(stage: Stage, case: Literal["deaf", "stall"]) -> None:
    """Nothing comes any more: unanswered pings show it."""
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

    def asked_on(number: int, venue: FakeVenue) -> bool:
        return len(venue.peers) == number and bool(venue.subscribers("mute"))

    def cut_twice() -> None:
        for number in (1, 2):
            stage.venue.wait_for(functools.partial(asked_on, number), PATIENCE)
            run.peer.rst()

    thread = threading.Thread(target=cut_twice)
    thread.start()
    run.subscribe("mute")
    thread.join()
    run.until(events.Disconnected, events.Disconnected, events.Recovered)
    stage.send("a")
    run.recv(1)


@scene(FOR_ONE)
def handler(stage: Stage) -> None:
    """The dict-style handler runs through a cut."""
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
    """A random sequence of many faults, decided by the seed."""
    rng = stage.rng = random.Random(case)
    run = stage.open("a", "b", retry_delay=0.001)
    run.is_throttled = True
    for _ in range(12):
        stage.mix(rng.randrange(1, 20))
        fault = rng.choice([*CUTS, "jump", "twice", "garbage", "refuse", "none"])
        if fault in CUTS:
            stage.lose(functools.partial(CUTS[fault], run.peer), rng.randrange(4))
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
