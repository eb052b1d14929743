"""Options, readers and timeouts are checked when they are given."""

from __future__ import annotations

import math
import ssl
import traceback
from collections.abc import Callable, Iterable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import wsclient
from wsclient import ConfigurationError, WebSocketClient, WebSocketHandler
from wsclient.checks import check_timeout
from wsclient.options import Options
from wsclient.testing import FakeVenue

NAN, INF = math.nan, math.inf
DURATIONS = ("connect_timeout", "ack_timeout", "close_timeout", "max_retry_delay")
DURATIONS_OR_NONE = (
    *("ping_interval", "ping_timeout", "silence_timeout"),
    *("stale_after", "stall_timeout", "send_timeout"),
)


def refusal(name: str, value: Any) -> str:
    """Return the error text for an option's value; empty if the value is accepted."""
    try:
        Options(**{name: value})
    except ConfigurationError as error:
        return str(error)
    return ""


def taken(names: Iterable[str], values: Iterable[Any], said: str) -> list[tuple[str, Any]]:
    """Return the options and values whose error does not say that the option must be ``said``."""
    return [
        (name, value)
        for name in names
        for value in values
        if f"{name} must be {said}" not in refusal(name, value)
    ]


def test_a_duration_is_a_finite_number_above_0() -> None:
    values = [INF, NAN, -INF, 0, -1, True, "1", [1], Decimal(1)]
    assert taken((*DURATIONS, *DURATIONS_OR_NONE), values, "a finite number of seconds") == []


def test_a_duration_that_is_always_there_is_not_none() -> None:
    assert taken(DURATIONS, [None], "a finite number") == []


def test_a_duration_may_be_none_where_there_need_be_no_bound() -> None:
    options = Options(**dict.fromkeys(DURATIONS_OR_NONE))
    assert [name for name in DURATIONS_OR_NONE if getattr(options, name) is not None] == []


@pytest.mark.parametrize("value", [1, 0.5, Fraction(1, 3), 10**9])
def test_a_duration_is_any_real_number(value: Any) -> None:
    assert Options(connect_timeout=value).connect_timeout == value


@pytest.mark.parametrize("value", [-1, INF, NAN, False, None, "0"])
def test_a_retry_delay_is_finite_and_may_be_0(value: Any) -> None:
    assert Options(retry_delay=0).retry_delay == 0
    with pytest.raises(ConfigurationError, match="retry_delay must be a finite number from 0 up"):
        Options(retry_delay=value)


def test_a_number_of_things_is_whole() -> None:
    names = ("queue_size", "queue_bytes", "max_message_size", "max_retries")
    values = [0, -5, 1.5, 1.0, True, "5", NAN]
    assert taken(names, values, "a whole number from 1 up") == []


@pytest.mark.parametrize("value", [-1, 1.5, False, "1", INF])
def test_a_number_of_reconnects_is_whole(value: Any) -> None:
    assert Options(max_reconnects=0).max_reconnects == 0
    with pytest.raises(ConfigurationError, match="max_reconnects must be a whole number from 0"):
        Options(max_reconnects=value)


def test_retries_may_go_on_for_ever() -> None:
    assert Options(max_retries=INF).max_retries == INF  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("subprotocols", "x", "a list of text"),
        ("subprotocols", b"x", "a list of text"),
        ("subprotocols", {"x"}, "a list of text"),
        ("ssl_context", "x", "an ssl.SSLContext"),
        ("ssl_context", True, "an ssl.SSLContext"),
        ("proxy", 5, "text"),
        ("cookie", {"a": "b"}, "text"),
        ("origin", 5, "text"),
        ("name", 5, "text"),
        ("headers", ["X: 1"], "a mapping"),
        ("headers", "X: 1", "a mapping"),
        ("credentials", ("key", "secret"), "a mapping"),
        ("validate", 3, "a function"),
        ("classify", 5, "a function"),
        ("classify", None, "a function"),
        ("jitter", 0, "True or False"),
        ("decimal", "no", "True or False"),
        ("deliver_unhandled", None, "True or False"),
    ],
)
def test_an_option_of_another_kind_is_refused_when_given(name: str, value: Any, what: str) -> None:
    said = f"{name} must be {what}.*, not {type(value).__name__}"
    with pytest.raises(ConfigurationError, match=said):
        WebSocketClient("wss://venue.example/", **{name: value})


def test_subprotocols_are_text() -> None:
    with pytest.raises(ConfigurationError, match=r"subprotocols .* text.*, not int"):
        Options(subprotocols=["a", 5])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "options",
    [
        {"subprotocols": ("a", "b")},
        {"subprotocols": []},
        {"ssl_context": ssl.create_default_context()},
        {"headers": dict, "credentials": dict, "validate": print},
        {"name": "", "cookie": "", "origin": None},
    ],
)
def test_what_can_work_is_taken(options: dict[str, Any]) -> None:
    assert Options(**options)


@pytest.mark.parametrize("option", [{"ack_timeout": 0}, {"ack_time": 5}])
@pytest.mark.parametrize("make", [Options, lambda **options: Options.of(options)])
def test_a_refused_option_shows_no_secret_of_the_others(make: Any, option: dict[str, Any]) -> None:
    with pytest.raises((ConfigurationError, TypeError)) as caught:
        make(headers={"X": "S3CRET"}, cookie="S3CRET", **option)
    error = caught.value
    summary = traceback.TracebackException(
        type(error), error, error.__traceback__, capture_locals=True
    )
    ours = [frame for frame in summary.stack if frame.filename != __file__]
    assert "S3CRET" not in str([frame.locals for frame in ours])


@pytest.mark.parametrize("value", ["5", None, -1, NAN, True])
def test_the_handlers_delay_is_checked_too(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="retry_delay_sec must be a finite number"):
        WebSocketHandler({"websocket_uri": "wss://venue.example/", "retry_delay_sec": value})


@pytest.mark.parametrize("config", [5, "x", ["websocket_uri"]])
def test_the_handlers_config_is_a_mapping(config: Any) -> None:
    with pytest.raises(ConfigurationError, match="config must be a mapping"):
        WebSocketHandler(config)


def test_the_handlers_function_is_one() -> None:
    with pytest.raises(ConfigurationError, match="on_market_data must be a function"):
        WebSocketHandler({"websocket_uri": "wss://venue.example/", "on_market_data": 5})


# --- timeouts -------------------------------------------------------------------------------------

Call = Callable[[Any, Any], object]
CALLS: dict[str, Call] = {
    "connect": lambda client, timeout: client.connect(timeout),
    "close": lambda client, timeout: client.close(timeout),
    "recv": lambda client, timeout: client.recv(timeout),
    "recv_batch": lambda client, timeout: client.recv_batch(timeout=timeout),
    "subscribe": lambda client, timeout: client.subscribe("a", timeout=timeout),
    "unsubscribe": lambda client, timeout: client.unsubscribe("a", timeout=timeout),
    "reader": lambda client, timeout: client.reader("a", timeout=timeout),
    "on": lambda client, timeout: client.on("a", print, timeout),
    "order_book": lambda client, timeout: client.order_book("a", timeout=timeout),
    "request": lambda client, timeout: client.request({}, timeout),
    "events": lambda client, timeout: client.events().recv(timeout),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_timeout_is_checked_when_given(venue: FakeVenue, call: str) -> None:
    said = "timeout must be a number of seconds, or No"
    with wsclient.connect(venue.url) as client:
        for timeout in ("1", NAN, True, [1], Decimal(1)):
            with pytest.raises(ConfigurationError, match=said):
                CALLS[call](client, timeout)
        assert client.is_connected
        assert client.subscriptions == {}


def test_the_timeout_of_a_readers_calls_is_checked(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url) as client:
        reader = client.reader("a")
        for call in (reader.recv, reader.close):
            with pytest.raises(ConfigurationError, match="timeout must be"):
                call("1")  # type: ignore[arg-type]
        venue.publish("a")
        assert reader.recv(timeout=5).channel == "a"


def test_a_bad_timeout_takes_no_message(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url) as client:
        client.subscribe("a")
        venue.publish("a", count=1)
        venue.publish("a", count=2)
        assert client.recv(timeout=5).data["count"] == 1
        with pytest.raises(ConfigurationError):
            client.recv(timeout=NAN)
        assert client.recv(timeout=5).data["count"] == 2


def test_the_timeout_of_a_book_is_checked() -> None:
    book = wsclient.OrderBook("kraken", "book:BTC/USD")
    with pytest.raises(ConfigurationError, match="timeout must be"):
        book.wait_synced("1")  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [None, 0, -1.5, 3, 0.1, INF, -INF, Fraction(1, 2)])
def test_any_number_of_seconds_will_do(timeout: Any) -> None:
    """A timeout below 0 polls: the rest of a deadline may be negative."""
    check_timeout(timeout)


@pytest.mark.parametrize("queue_size", [0, -5, 1.5, True, "5", NAN])
def test_a_readers_queue_is_checked(venue: FakeVenue, queue_size: Any) -> None:
    with wsclient.connect(venue.url) as client:
        with pytest.raises(ConfigurationError, match="queue_size must be a whole number from 1 up"):
            client.reader("a", queue_size=queue_size)
        assert client.subscriptions == {}


@pytest.mark.parametrize("count", [0, -1, 1.5, True, "1"])
def test_the_size_of_a_batch_is_whole(venue: FakeVenue, count: Any) -> None:
    with (
        wsclient.connect(venue.url) as client,
        pytest.raises(ConfigurationError, match="max_messages must be a whole number from 1 up"),
    ):
        client.recv_batch(count)
