"""A client takes frames from any source: connections, times and ends are the source's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from support.helpers import Call, until
from support.scripted import Script
from wsclient import ConnectionLost, SubscriptionTimeout, WebSocketClient, events
from wsclient.client import client_of

URL = "ws://script.example"
#: A time (ns) that no clock of a machine shows.
THEN = 1_000_000_000


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def client(script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebSocketClient]:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a socket was opened")

    monkeypatch.setattr(socket.socket, "__init__", refuse)
    with closing(client_of(script, URL, retry_delay=0.01)) as client:
        yield client


def data(sequence: int, channel: str = "a") -> dict[str, Any]:
    return {"type": "market_data", "channel": channel, "sequence": sequence}


def test_messages_have_the_times_and_the_connection_of_their_source(
    client: WebSocketClient, script: Script
) -> None:
    client.connect()
    source = script.next()
    client.subscribe("a")
    source.deliver(THEN, data(1), data(2))
    source.deliver(THEN + 5, data(3))
    got = [client.recv(10) for _ in range(3)]
    assert [m.received_at for m in got] == [THEN, THEN, THEN + 5]
    assert [m.sequence for m in got] == [1, 2, 3]
    assert {m.connection_id for m in got} == {source.connection_id}
    assert [m.gap for m in got] == [None] * 3


def test_lags_ages_and_the_times_of_events_come_from_the_clock_of_the_source(
    client: WebSocketClient, script: Script
) -> None:
    script.clock.epoch = THEN
    stream = client.events(events.Connected)
    client.connect()
    source = script.next()
    assert stream.recv(10).at == THEN
    client.subscribe("a")
    script.clock.epoch = THEN + 3 * 10**9
    source.deliver(THEN, data(1), data(2))
    until(lambda: client.stats().messages == 2)
    assert client.stats().oldest == 3.0
    client.recv(10)
    assert client.stats().consumer_lag.max == 3.0


def test_the_end_of_a_source_brings_the_next_one_subscribed_again(
    client: WebSocketClient, script: Script
) -> None:
    client.connect()
    client.subscribe("a")
    first = script.next()
    first.deliver(THEN, data(1))
    assert client.recv(10).sequence == 1
    first.end(ConnectionLost("the recording ends here"))
    second = script.next()
    assert second.connection_id == first.connection_id + 1
    until(lambda: second.sent == [{"type": "subscribe", "channel": "a"}])
    second.deliver(THEN + 9, data(5))
    message = client.recv(10)
    assert (message.received_at, message.connection_id) == (THEN + 9, second.connection_id)
    assert message.gap is not None
    assert message.gap.missed == 3
    until(lambda: not first.thread.is_alive())


def test_the_reason_of_an_end_is_the_source_s(client: WebSocketClient, script: Script) -> None:
    stream = client.events()
    client.connect()
    script.next().end(ConnectionLost("the recording ends here"))
    lost = next(event for event in stream if isinstance(event, events.Disconnected))
    assert "the recording ends here" in lost.why


def test_deadlines_end_by_the_clock_of_the_source(client: WebSocketClient, script: Script) -> None:
    script.answers = False
    client.connect()
    source = script.next()
    call = Call(client.subscribe, "a", timeout=3600.0)
    until(lambda: source.sent)
    script.clock.advance(3600.0)
    source.wake()
    with pytest.raises(SubscriptionTimeout):
        call.result()


def test_pings_are_sent_by_the_clock_of_the_source(script: Script) -> None:
    with closing(client_of(script, URL, ping_interval=3600.0)) as client:
        client.connect()
        source = script.next()
        script.clock.advance(3601.0)
        source.wake()
        until(lambda: source.pings == 1)


def test_what_is_sent_goes_to_the_source(client: WebSocketClient, script: Script) -> None:
    client.connect()
    source = script.next()
    client.send({"type": "order", "price": 1})
    assert source.sent == [{"type": "order", "price": 1}]


def test_close_ends_the_source(client: WebSocketClient, script: Script) -> None:
    client.connect()
    source = script.next()
    client.close()
    source.thread.join(10)
    assert not source.thread.is_alive()


def test_a_report_about_another_connection_changes_nothing(
    client: WebSocketClient, script: Script
) -> None:
    client.connect()
    source = script.next()
    reader = client.reader("a")
    with pytest.raises(SubscriptionTimeout):
        reader.close(timeout=0.01)
    other = source.connection_id + 1
    source.report(lambda receiver: receiver.opened(other, None, None, "script"))
    source.report(lambda receiver: receiver.unreadable(other, "not mine"))
    source.report(lambda receiver: receiver.ended(other, ConnectionLost("not mine")))
    source.deliver(THEN, data(1))  # late: nobody reads this channel any more
    source.deliver(THEN, data(1, "b"))
    assert client.recv(10).channel == "b"
    assert client.is_connected
