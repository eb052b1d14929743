"""The dict-style adapter keeps each rule of its contract."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

import wsclient
from support.helpers import until
from support.inside import core_of
from wsclient import WebSocketHandler
from wsclient.events import SubscribeFailed
from wsclient.testing import FakeVenue


def handler(venue: FakeVenue, **config: Any) -> WebSocketHandler:
    return WebSocketHandler({"websocket_uri": venue.url, "retry_delay_sec": 0.01, **config})


def test_it_connects_subscribes_and_iterates(venue: FakeVenue) -> None:
    with handler(venue) as ws:
        ws.connect()
        assert ws.is_connected
        assert ws.subscribe("a") == {"status": "success"}
        assert list(ws.subscriptions) == ["a"]
        venue.publish("a", price=1)
        data = next(iter(ws))
        assert data == {"type": "market_data", "channel": "a", "sequence": 1, "price": 1}


def test_connect_raises_after_max_retries(venue: FakeVenue) -> None:
    venue.refuse(503, times=9)
    with handler(venue) as ws, pytest.raises(ConnectionError) as caught:
        ws.connect()
    assert str(caught.value) == "Max connection retries exceeded"
    assert venue.attempts == 3


def test_max_retries_of_the_config_is_kept(venue: FakeVenue) -> None:
    venue.refuse(503, times=9)
    with handler(venue, max_retries=2) as ws, pytest.raises(ConnectionError):
        ws.connect()
    assert venue.attempts == 2


def test_the_retry_delay_is_constant_and_five_seconds_by_default() -> None:
    ws = WebSocketHandler({"websocket_uri": "ws://localhost:1"})
    options = core_of(ws.client).options
    assert (options.max_retries, options.jitter) == (3, False)
    assert options.retry_delay == options.max_retry_delay == 5
    ws.close()


def test_other_keys_are_client_options(venue: FakeVenue) -> None:
    with pytest.raises(wsclient.ConfigurationError, match="unknown option colour"):
        handler(venue, colour="red")
    with handler(venue, queue_size=7) as ws:
        assert core_of(ws.client).options.queue_size == 7


def test_subscribe_before_connect_is_an_error_not_an_exception(venue: FakeVenue) -> None:
    with handler(venue) as ws:
        assert ws.subscribe("a") == {"status": "error", "error": "Not connected"}


def test_a_refused_subscription(venue: FakeVenue, caplog: pytest.LogCaptureFixture) -> None:
    venue.refuse_channel("a", "no such market")
    with handler(venue) as ws:
        ws.connect()
        heard = ws.client.events(SubscribeFailed)
        assert ws.subscribe("a") == {"status": "error", "error": "Subscription failed"}
        assert ws.last_error is not None
        assert "no such market" in ws.last_error
        (record,) = (r for r in caplog.records if r.name == "wsclient.handler")
        assert record.levelno == logging.WARNING
        assert "subscribe('a') has failed" in record.getMessage()
        assert "no such market" in record.getMessage()
        event = heard.recv(5)
        assert (event.channel, event.why) == ("a", ws.last_error)  # type: ignore[attr-defined]


def test_the_last_error_is_that_of_connect(venue: FakeVenue) -> None:
    venue.refuse(503, times=9)
    with handler(venue, max_retries=1) as ws:
        assert ws.last_error is None
        with pytest.raises(ConnectionError):
            ws.connect()
        assert "503" in str(ws.last_error)


def test_the_last_error_is_that_of_a_refusal_for_good(venue: FakeVenue) -> None:
    venue.refuse(401)
    with handler(venue) as ws:
        with pytest.raises(wsclient.WSClientError):
            ws.connect()
        assert "401" in str(ws.last_error)


def test_the_last_error_is_that_of_run(venue: FakeVenue) -> None:
    with handler(venue, max_reconnects=0) as ws:
        ws.connect()
        venue.live[0].close(1011, "out of order")
        with pytest.raises(wsclient.ReconnectError) as raised:
            ws.run()
        assert ws.last_error == str(raised.value)
        assert "out of order" in ws.last_error


def test_the_repr_shows_the_state_and_the_last_error(venue: FakeVenue) -> None:
    class Prices(WebSocketHandler):
        pass

    venue.refuse_channel("b", "no\nsuch market")
    where = venue.url.rstrip("/")
    with Prices({"websocket_uri": venue.url}) as ws:
        assert repr(ws) == f"<Prices {where} idle, 0 channels, 0 queued>"
        ws.connect()
        ws.subscribe("a")
        ws.subscribe("b")
        assert repr(ws).startswith(f"<Prices {where} open, 1 channel, 0 queued, last error: ")
        assert "no such market" in repr(ws)
    assert repr(Prices.__new__(Prices)) == "<Prices, not made>"


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"websocket_url": "ws://x/"}, "did you mean websocket_uri"),
        ({"websocket_uri": "ws://x/", "retry_delay_secs": 1}, "did you mean retry_delay_sec"),
        ({"websocket_uri": "ws://x/", "url": "ws://y/"}, "unknown option url"),
        ({"websocket_uri": "ws://x/", 5: 5}, "unknown option 5"),
        ({}, "websocket_uri"),
        ("ws://x/", "must be a mapping"),
    ],
)
def test_a_config_that_cannot_work_is_refused(config: Any, text: str) -> None:
    with pytest.raises(wsclient.ConfigurationError, match=text):
        WebSocketHandler(config)


def test_a_close_that_drains_leaves_the_rest_to_the_loop(venue: FakeVenue) -> None:
    with handler(venue) as ws:
        ws.connect()
        ws.subscribe("a")
        for _ in range(3):
            venue.publish("a")
        until(lambda: ws.client.stats().messages == 3)
        numbers = []
        for data in ws:
            if not numbers:
                ws.close(5, drain=True)
            numbers.append(data["sequence"])
        assert numbers == [1, 2, 3]


def test_any_other_failure_gives_its_text(venue: FakeVenue) -> None:
    venue.mute_acks()
    with handler(venue, ack_timeout=0.05) as ws:
        ws.connect()
        answer = ws.subscribe("a")
        assert answer["status"] == "error"
        assert "no answer within 0.05 s" in answer["error"]
        assert ws.subscribe(5)["status"] == "error"  # type: ignore[arg-type]


def test_run_drives_an_overridden_method_on_the_callers_thread(venue: FakeVenue) -> None:
    seen: list[tuple[int, threading.Thread]] = []

    class Mine(WebSocketHandler):
        def process_market_data(self, data: Any) -> None:
            seen.append((data["price"], threading.current_thread()))
            if len(seen) == 2:
                self.close()

    ws = Mine({"websocket_uri": venue.url})
    ws.connect()
    ws.subscribe("a")
    venue.publish("a", price=1)
    venue.publish("a", price=2)
    ws.run()
    assert seen == [(1, threading.current_thread()), (2, threading.current_thread())]


def test_run_drives_the_callback_of_the_config(venue: FakeVenue) -> None:
    seen: list[int] = []

    def on_market_data(data: Any) -> None:
        seen.append(data["price"])
        ws.close()

    ws = handler(venue, on_market_data=on_market_data)
    ws.connect()
    ws.subscribe("a")
    venue.publish("a", price=1)
    ws.run()
    assert seen == [1]


def test_only_market_data_is_handed_out(venue: FakeVenue, caplog: pytest.LogCaptureFixture) -> None:
    with handler(venue) as ws, caplog.at_level(logging.WARNING, "wsclient"):
        ws.connect()
        ws.subscribe("a")
        venue.live[0].send_json({"type": "system", "message": "hello"})
        venue.live[0].send_json({"type": "notice"})
        venue.live[0].send("{not json")
        venue.publish("a", price=1)
        assert next(iter(ws))["price"] == 1
        assert ws.client.stats().invalid == 1
        assert ws.client.stats().unhandled == 1


def test_a_gap_is_passed_on_before_the_message_after_it(venue: FakeVenue) -> None:
    events: list[Any] = []

    class Mine(WebSocketHandler):
        def process_gap(self, channel: str, gap: wsclient.Gap) -> None:
            events.append((channel, gap.reason, gap.missed))

    with Mine({"websocket_uri": venue.url, "queue_size": 1}) as ws:
        ws.connect()
        ws.subscribe("a")
        for _ in range(3):
            venue.publish("a")
        received = threading.Event()
        venue.wait_for(lambda venue: len(venue.live[0].journal) == 4)
        while ws.client.stats().messages < 3:
            received.wait(0.002)
        events.append(next(iter(ws))["sequence"])
    assert events == [("a", "overflow", 2), 3]


def test_the_block_calls_a_close_that_is_overridden(venue: FakeVenue) -> None:
    closed = []

    class Mine(WebSocketHandler):
        def close(self) -> None:  # type: ignore[override]
            closed.append(self.client.state)
            super().close()

    with Mine({"websocket_uri": venue.url}) as ws:
        ws.connect()
    assert closed == [wsclient.State.OPEN]


def test_iteration_goes_on_through_a_reconnect(venue: FakeVenue) -> None:
    with handler(venue) as ws:
        ws.connect()
        ws.subscribe("a")
        venue.publish("a")
        stream = iter(ws)
        assert next(stream)["sequence"] == 1
        venue.live[0].rst()
        venue.wait_for(lambda v: v.live and v.live[0].subscriptions == {"a"})
        venue.publish("a")
        assert next(stream)["sequence"] == 2
