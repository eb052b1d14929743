"""Binance spot and futures: the forms of their documents, and a recorded half minute."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from reading import Data, read
from recordings import Bench, marks, messages_of

from wsclient.dialects import Binance, BinanceFutures, find
from wsclient.errors import ConfigurationError
from wsclient.messages import LinkedMessage, Message
from wsclient.sansio.dialect import Ack, Notice, Rejection, Reply, RestRequest, Unhandled
from wsclient.sansio.session import Invalid

DEPTH = (
    b'{"stream":"blzeth@depth@100ms","data":{"e":"depthUpdate","E":1633998514469,"s":"BLZETH",'
    b'"U":281916625,"u":281916627,"b":[["0.00006421","0.00000000"]],"a":[]}}'
)
FUTURES = (
    b'{"stream":"keepusdt@depth@100ms","data":{"e":"depthUpdate","E":1626992743532,'
    b'"T":1626992743425,"s":"KEEPUSDT","U":600859645270,"u":600859645280,"pu":600859644386,'
    b'"b":[],"a":[["0.2589","0"]]}}'
)
TICKER = {
    "stream": "blzeth@bookTicker",
    "data": {"u": 281916636, "s": "BLZETH", "b": "0.6", "B": "100", "a": "0.7", "A": "1528"},
}
TOP = b'{"stream":"a@depth20@100ms","data":{"lastUpdateId":160,"bids":[["0.0024","10"]],"asks":[]}}'


def peek(frame: Any, dialect: Binance | None = None) -> Any:
    items = read(dialect or Binance(), frame)
    return items[0] if len(items) == 1 else items


def message_of(frame: bytes, dialect: Binance | None = None) -> Message:
    (message,) = messages_of(dialect or Binance(), [frame])
    return message


# --- out -----------------------------------------------------------------------------------------


def test_one_message_asks_for_several_streams() -> None:
    streams = ["btcusdt@aggTrade", "btcusdt@depth"]
    assert Binance().subscribe(streams, 1, {}) == {
        "method": "SUBSCRIBE",
        "params": streams,
        "id": 1,
    }
    assert Binance().unsubscribe(streams, 2, {}) == {
        "method": "UNSUBSCRIBE",
        "params": streams,
        "id": 2,
    }


def test_a_request_bears_our_id() -> None:
    assert Binance().request({"method": "LIST_SUBSCRIPTIONS"}, 3) == {
        "method": "LIST_SUBSCRIPTIONS",
        "id": 3,
    }


def test_a_stream_that_would_stay_silent_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="lowercase"):
        Binance().subscribe(["BTCUSDT@depth"], 1, {})
    Binance().subscribe(["!bookTicker"], 1, {})


def test_options_are_those_of_books() -> None:
    Binance().subscribe(["btcusdt@depth@100ms"], 1, {"limit": 1000, "speed": "100ms"})
    with pytest.raises(ConfigurationError, match="depth"):
        Binance().subscribe(["btcusdt@depth@100ms"], 1, {"depth": 10})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("wss://host:9443", "wss://host:9443/stream"),
        ("wss://host:9443/", "wss://host:9443/stream"),
        ("wss://host/ws", "wss://host/stream"),
        ("wss://host/ws?timeUnit=MICROSECOND", "wss://host/stream?timeUnit=MICROSECOND"),
        ("wss://host/ws/a@depth", "wss://host/stream?streams=a@depth"),
        ("wss://host/ws/a/b?timeUnit=x", "wss://host/stream?streams=a/b&timeUnit=x"),
        ("wss://host/stream", "wss://host/stream"),
        ("wss://host/stream?streams=a/b", "wss://host/stream?streams=a/b"),
    ],
)
def test_an_address_of_raw_streams_becomes_one_of_combined_ones(url: str, expected: str) -> None:
    assert Binance().url(url, None) == expected


def test_the_venues_limits() -> None:
    """Pings and pongs count too: one message a second is left to them."""
    spot, futures = Binance().limits, BinanceFutures().limits
    assert spot.messages_per_second == 4.0
    assert futures.messages_per_second == 9.0
    assert spot.connects == futures.connects == (300, 300.0)
    assert spot.channels_per_connection == 1024
    assert (spot.max_age or 0) <= 86_400.0
    batches = list(Binance().batches([f"{n}@depth" for n in range(250)]))
    assert [len(batch) for batch in batches] == [100, 100, 50]


def test_both_are_found_by_name() -> None:
    assert type(find("binance")) is Binance
    assert type(find("binance_futures")) is BinanceFutures


# --- in: answers ---------------------------------------------------------------------------------


def test_an_answer_is_of_its_id() -> None:
    answer = {"result": None, "id": 1}
    assert peek(answer) == [Ack(1), Reply(1, answer)]
    listed = {"result": ["btcusdt@aggTrade"], "id": 3}
    assert peek(listed) == [Ack(3), Reply(3, listed)]


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_an_error_is_of_its_id(is_wrapped: bool) -> None:
    error = {"code": 2, "msg": "Invalid request: wrong"}
    answer = {"error": error, "id": 4} if is_wrapped else {**error, "id": 4}
    reason = "Invalid request: wrong (code 2)"
    assert peek(answer) == [Rejection(reason, 4), Reply(4, answer, reason)]


@pytest.mark.parametrize("more", [{}, {"id": None}])
def test_an_error_without_an_id_is_of_the_oldest_request(more: dict[str, Any]) -> None:
    error = {"code": 3, "msg": "Invalid JSON", **more}
    assert peek(error) == Rejection("Invalid JSON (code 3)")


def test_an_answer_to_nobody_confirms_nothing() -> None:
    assert peek({"result": None, "id": None}) == Unhandled("")


@pytest.mark.parametrize(
    "frame",
    [
        {"e": "serverShutdown", "E": 1770123456789},
        {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1770123456789}},
    ],
)
def test_a_planned_end_is_told(frame: Any) -> None:
    assert isinstance(peek(frame), Notice)


# --- in: data ------------------------------------------------------------------------------------


def test_data_is_of_its_stream() -> None:
    assert peek(TICKER) == Data("blzeth@bookTicker", "bookTicker")
    assert peek({"stream": "a@kline_1m", "data": {}}) == Data("a@kline_1m", "kline_1m")
    assert peek({"stream": "!ticker@arr", "data": [{}]}) == Data("!ticker@arr", "arr")
    assert peek({"stream": "!bookTicker", "data": {}}) == Data("!bookTicker", "!bookTicker")


def test_a_raw_event_is_unhandled() -> None:
    """It does not tell which stream it is of."""
    assert peek({"e": "depthUpdate", "s": "A", "U": 1, "u": 2}) == Unhandled("depthUpdate")


def test_an_update_of_a_spot_book_is_a_range() -> None:
    message = message_of(DEPTH)
    assert isinstance(message, LinkedMessage)
    assert (message.channel, message.sequence) == ("blzeth@depth@100ms", 281916627)
    assert (message.follows, message.is_counted) == (281916624, True)


def test_an_update_of_a_futures_book_names_the_one_before_it() -> None:
    message = message_of(FUTURES, BinanceFutures())
    assert isinstance(message, LinkedMessage)
    assert (message.channel, message.sequence) == ("keepusdt@depth@100ms", 600859645280)
    assert (message.follows, message.is_counted) == (600859644386, False)


def test_partial_depth_is_not_numbered() -> None:
    assert peek(TOP) == Data("a@depth20@100ms", "depth20")


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b'{"stream": 5}', b'{"stream": "a@depth", "data": {"U": "1", "u": 2}}', b"5"],
)
def test_what_does_not_look_like_binance_cannot_be_read(raw: bytes) -> None:
    assert peek(raw) is Invalid


# --- books ---------------------------------------------------------------------------------------


def test_a_books_channel() -> None:
    assert Binance().book_channel("BTCUSDT", {}) == "btcusdt@depth@100ms"
    assert Binance().book_channel("BTCUSDT", {"speed": "1000ms"}) == "btcusdt@depth@1000ms"


def test_a_books_snapshot_comes_by_rest() -> None:
    request = Binance().book_request("btcusdt@depth@100ms", {})
    expected = {"symbol": "BTCUSDT", "limit": "5000"}
    assert request == RestRequest("https://api.binance.com/api/v3/depth", expected)
    request = Binance().book_request("btcusdt@depth@100ms", {"limit": 1000})
    assert request is not None
    assert request.params["limit"] == "1000"
    futures = BinanceFutures().book_request("btcusdt@depth", {})
    expected = {"symbol": "BTCUSDT", "limit": "1000"}
    assert futures == RestRequest("https://fapi.binance.com/fapi/v1/depth", expected)
    elsewhere = Binance(rest="https://data-api.binance.vision/api/v3/depth")
    assert elsewhere.book_request("a@depth", {}) is not None


def test_partial_depth_needs_no_snapshot() -> None:
    assert Binance().book_request("btcusdt@depth20@100ms", {}) is None


def test_an_update_digit_for_digit() -> None:
    update = Binance().book_update(message_of(DEPTH))
    assert update == (False, [(Decimal("0.00006421"), Decimal(0))], [], None)
    ((price, size),) = update.bids
    assert (str(price), str(size)) == ("0.00006421", "0E-8")


def test_partial_depth_is_a_snapshot_each_time() -> None:
    update = Binance().book_update(message_of(TOP))
    assert update == (True, [(Decimal("0.0024"), Decimal(10))], [], None)
    top = FUTURES.replace(b"@depth@", b"@depth5@")
    update = BinanceFutures().book_update(message_of(top, BinanceFutures()))
    assert update == (True, [], [(Decimal("0.2589"), Decimal(0))], None)


def test_what_is_no_depth_changes_no_book() -> None:
    assert Binance().book_update(message_of(msgspec.json.encode(TICKER))) is None


@pytest.mark.parametrize(
    "data", [{}, {"b": [], "U": 1, "u": 1}, {"b": [["x", "1"]], "a": [], "U": 1, "u": 1}]
)
def test_nonsense_is_no_update(data: dict[str, Any]) -> None:
    frame = {"stream": "a@depth", "data": {"U": 1, "u": 1, **data}}
    with pytest.raises(msgspec.ValidationError):
        Binance().book_update(message_of(msgspec.json.encode(frame)))


def test_nonsense_is_no_snapshot() -> None:
    for answer in ([], {}, {"lastUpdateId": 1}, {"lastUpdateId": "x", "bids": [], "asks": []}):
        with pytest.raises(msgspec.ValidationError):
            Binance().book_snapshot("a@depth", answer)


def test_pointers_notice_an_edited_line() -> None:
    numbers = [7, 19, 20, 88, 93, 140]
    frame = '{"stream":"a@depth","data":{"U":%d,"u":%d,"pu":%d,"b":[],"a":[]}}'
    a, b, c, d, e = (
        (frame % (last - 1, last, previous)).encode() for previous, last in pairwise(numbers)
    )
    altered = c.replace(b'"pu":20', b'"pu":21')
    dialect = BinanceFutures()
    assert marks(dialect, [a, b, c, d, e]) == []
    assert marks(dialect, [a, b, d, e]) == [(2, "sequence")]
    assert marks(dialect, [a, b, c, c, d, e]) == [(3, "duplicate")]
    assert marks(dialect, [a, b, d, c, e]) == [(2, "sequence"), (3, "late")]
    assert marks(dialect, [a, b, altered, d, e]) == [(2, "sequence")]
    assert [m.gap and m.gap.missed for m in Bench(dialect).feed(a, c)] == [None, None]
