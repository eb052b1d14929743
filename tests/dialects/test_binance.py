"""Binance spot and futures: the frames of their documentation, and half a minute of recording."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from support.reading import Data, read
from support.recordings import Bench, marks, messages_of, refused
from wsclient import WebSocketClient
from wsclient.dialect.values import RestRequest
from wsclient.dialects import Binance, BinanceFutures, find
from wsclient.errors import ConfigurationError, SubscriptionRejected
from wsclient.messages import LinkedMessage, Message
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import Ack, Ending, Notice, Rejection, Reply, Unhandled
from wsclient.testing import FakeVenue

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


def test_one_message_subscribes_to_several_streams() -> None:
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


def test_a_request_carries_our_id() -> None:
    assert Binance().request({"method": "LIST_SUBSCRIPTIONS"}, 3) == {
        "method": "LIST_SUBSCRIPTIONS",
        "id": 3,
    }


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        ("BTCUSDT@depth", "lowercase"),
        ("!ticker@arr", "'!miniTicker@arr'"),
        ("!miniTicker@arr", None),
        ("!bookTicker", None),
        ("btcusdt@ticker", None),
    ],
)
def test_a_stream_that_would_stay_silent_is_refused(channel: str, words: str | None) -> None:
    reason = Binance().refusal(channel, "wss://stream.binance.com:9443/stream")
    assert (words in reason) if reason and words else (reason is words)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("/ws/!ticker@arr", "miniTicker"),
        ("/stream?streams=btcusdt@trade/%21ticker%40arr", "miniTicker"),
        ("/ws/BTCUSDT@trade", "lowercase"),
    ],
)
def test_an_address_that_names_a_stream_that_would_stay_silent_is_refused(
    place: str, words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Binance().url(f"wss://stream.binance.com:9443{place}", None)


def test_a_futures_address_that_names_an_uppercase_symbol_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="lowercase"):
        BinanceFutures().url("wss://fstream.binance.com/ws/BTCUSDT@aggTrade", None)
    BinanceFutures().url("wss://fstream.binance.com/ws/!ticker@arr", None)


def test_a_listen_key_in_an_address_is_not_taken_for_a_stream_and_not_quoted() -> None:
    for dialect in (Binance(), BinanceFutures()):
        assert dialect.url(f"wss://host/ws/{KEY.upper()}", None).endswith(KEY.upper())


@pytest.mark.loopback
def test_a_refused_stream_does_not_affect_the_others_of_its_message() -> None:
    channels = ["btcusdt@trade", "BTCUSDT@depth", "!ticker@arr"]
    reasons = refused(Binance(), channels, {"result": None, "id": 1})
    assert set(reasons) == {"BTCUSDT@depth", "!ticker@arr"}


def test_only_the_options_of_books_are_accepted() -> None:
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
        ("wss://host/proxied", "wss://host/proxied/stream"),
        ("wss://host/proxied/ws/a", "wss://host/proxied/stream?streams=a"),
        ("wss://stream", "wss://stream/stream"),
    ],
)
def test_an_address_of_raw_streams_becomes_one_of_combined_streams(url: str, expected: str) -> None:
    assert Binance().url(url, None) == expected


FSTREAM = "wss://fstream.binance.com"
KEY = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("", "/public/stream"),
        ("/", "/public/stream"),
        ("/ws", "/public/stream"),
        ("/stream", "/public/stream"),
        ("/public", "/public/stream"),
        ("/public/", "/public/stream"),
        ("/market/ws", "/market/stream"),
        ("/market/stream", "/market/stream"),
        ("/ws/a@depth@100ms", "/public/stream?streams=a@depth@100ms"),
        ("/ws/a@aggTrade/b@kline_1m", "/market/stream?streams=a@aggTrade/b@kline_1m"),
        ("/stream?streams=a@markPrice@1s", "/market/stream?streams=a@markPrice@1s"),
        ("/stream?streams=a%40aggTrade%2Fb%40ticker", None),
        ("/public/ws/a@bookTicker", "/public/stream?streams=a@bookTicker"),
        (f"/ws/{KEY}", f"/private/stream?streams={KEY}"),
        ("/private/ws?listenKey=k&events=A/B", "/private/stream?listenKey=k&events=A/B"),
        ("/ws?listenKey=k&events=A/B", "/private/stream?listenKey=k&events=A/B"),
        ("/stream?events=A&listenKey=k", "/private/stream?events=A&listenKey=k"),
        (f"/pm/ws/{KEY}", f"/pm/stream?streams={KEY}"),
        ("/proxied/ws/a@aggTrade", "/proxied/market/stream?streams=a@aggTrade"),
    ],
)
def test_an_address_without_a_route_gets_the_route_of_its_streams(
    place: str, expected: str | None
) -> None:
    expected = expected or f"/market{place}"
    url = BinanceFutures().url(FSTREAM + place, None)
    assert url == FSTREAM + expected
    assert BinanceFutures().url(url, None) == url


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("", "/stream"),
        ("/ws/btcusd_perp@aggTrade", "/stream?streams=btcusd_perp@aggTrade"),
        ("/market/ws", "/market/stream"),
    ],
)
@pytest.mark.parametrize("address", ["wss://dstream.binance.com", "wss://DSTREAM.Binance.com"])
def test_coin_margined_futures_have_no_routes(address: str, place: str, expected: str) -> None:
    url = BinanceFutures().url(address + place, None)
    assert url == address + expected
    for channel in ("btcusd_perp@aggTrade", "btcusd_perp@depth"):
        assert BinanceFutures().refusal(channel, url) is None


@pytest.mark.loopback
@pytest.mark.parametrize("place", ["/ws/a@depth/b@aggTrade", "/public/ws/b@aggTrade"])
def test_an_address_that_names_streams_of_two_routes_is_refused(place: str) -> None:
    with FakeVenue("binance_futures") as venue:
        client = WebSocketClient(
            venue.url.rstrip("/") + place, dialect="binance_futures", retry_delay=0.01
        )
        with pytest.raises(ConfigurationError, match="subscribe to the others"), client:
            pass
        assert venue.attempts == 0


@pytest.mark.parametrize(
    ("channel", "route"),
    [
        ("btcusdt@bookTicker", "public"),
        ("!bookTicker", "public"),
        ("btcusdt@depth", "public"),
        ("btcusdt@depth20@500ms", "public"),
        ("btcusdt@rpiDepth@500ms", "public"),
        ("btcusdt@trade", "public"),
        ("btcusdt@aggTrade", "market"),
        ("btcusdt@markPrice@1s", "market"),
        ("btcusdt_perpetual@continuousKline_1m", "market"),
        ("!ticker@arr", "market"),
        ("!contractInfo", "market"),
        ("tradingSession", "market"),
        (KEY, "private"),
    ],
)
def test_a_channel_of_another_route_is_refused_with_the_address_to_use(
    channel: str, route: str
) -> None:
    dialect = BinanceFutures()
    assert dialect.refusal(channel, f"{FSTREAM}/{route}/stream") is None
    for other in {"public", "market", "private"} - {route}:
        reason = dialect.refusal(channel, f"{FSTREAM}/{other}/stream")
        assert reason is not None
        assert f"/{other} of" in reason
        assert reason.endswith(f" {FSTREAM}/{route}")


def test_a_futures_stream_has_a_lowercase_symbol() -> None:
    reason = BinanceFutures().refusal("BTCUSDT@depth", f"{FSTREAM}/public/stream")
    assert reason is not None
    assert "lowercase" in reason


@pytest.mark.loopback
def test_the_address_is_checked_on_each_connection() -> None:
    with FakeVenue("binance_futures") as venue:
        places = iter(["market", "public"])
        client = WebSocketClient(
            lambda: venue.url + next(places), dialect=BinanceFutures(), retry_delay=0.01
        )
        with client:
            peer = venue.accept()
            client.subscribe("btcusdt@aggTrade")
            with pytest.raises(SubscriptionRejected, match="/public"):
                client.subscribe("btcusdt@depth")
            peer.rst()
            venue.accept()
            assert client.recv(timeout=10).type == "lost"
            client.subscribe("btcusdt@depth")
            assert set(client.subscriptions) == {"btcusdt@depth"}


def test_the_docstring_says_what_all_market_streams_carry() -> None:
    assert "``st``" in str(BinanceFutures.__doc__)


def test_the_venues_limits() -> None:
    """Pings and pongs count too: one message per second is left for them."""
    spot, futures = Binance().limits, BinanceFutures().limits
    assert spot.messages_per_second == 4.0
    assert futures.messages_per_second == 9.0
    assert spot.connects == futures.connects == (300, 300.0)
    assert spot.channels_per_connection == futures.channels_per_connection == 1024
    assert (spot.max_age or 0) <= 86_400.0
    batches = list(Binance().batches([f"{n}@depth" for n in range(250)]))
    assert [len(batch) for batch in batches] == [100, 100, 50]


def test_spot_and_futures_are_found_by_name() -> None:
    assert type(find("binance")) is Binance
    assert type(find("binance_futures")) is BinanceFutures


# --- in: answers ---------------------------------------------------------------------------------


def test_an_answer_is_matched_by_its_id() -> None:
    answer = {"result": None, "id": 1}
    assert peek(answer) == [Ack(1), Reply(1, answer)]
    listed = {"result": ["btcusdt@aggTrade"], "id": 3}
    assert peek(listed) == [Ack(3), Reply(3, listed)]


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_an_error_is_matched_by_its_id(is_wrapped: bool) -> None:
    error = {"code": 2, "msg": "Invalid request: wrong"}
    answer = {"error": error, "id": 4} if is_wrapped else {**error, "id": 4}
    reason = "Invalid request: wrong (code 2)"
    assert peek(answer) == [Rejection(reason, 4), Reply(4, answer, reason)]


@pytest.mark.parametrize("more", [{}, {"id": None}])
def test_an_invalid_request_error_without_an_id_answers_the_oldest_request(
    more: dict[str, Any],
) -> None:
    error = {"code": 2, "msg": "Invalid request: wrong", **more}
    assert peek(error) == Rejection("Invalid request: wrong (code 2)")


@pytest.mark.parametrize(("code", "words"), [(0, "Unknown property"), (3, "Invalid JSON")])
def test_an_error_without_an_id_that_is_about_no_subscribe_refuses_none(
    code: int, words: str
) -> None:
    assert peek({"code": code, "msg": words}) == Notice(f"{words} (code {code})")


def test_an_answer_without_an_id_confirms_nothing() -> None:
    assert peek({"result": None, "id": None}) == Unhandled("")


@pytest.mark.parametrize(
    "frame",
    [
        {"e": "serverShutdown", "E": 1770123456789},
        {"stream": "!serverShutdown", "data": {"e": "serverShutdown", "E": 1770123456789}},
    ],
)
def test_a_planned_shutdown_ends_the_connection_at_a_time_that_is_not_stated(frame: Any) -> None:
    assert peek(frame) == Ending("this server will shut down soon")


# --- in: data ------------------------------------------------------------------------------------


def test_data_belongs_to_its_stream() -> None:
    assert peek(TICKER) == Data("blzeth@bookTicker", "bookTicker")
    assert peek({"stream": "a@kline_1m", "data": {}}) == Data("a@kline_1m", "kline_1m")
    assert peek({"stream": "!ticker@arr", "data": [{}]}) == Data("!ticker@arr", "arr")
    assert peek({"stream": "!bookTicker", "data": {}}) == Data("!bookTicker", "!bookTicker")


def test_a_raw_event_is_unhandled() -> None:
    """It does not name its stream."""
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
def test_a_frame_unlike_binances_raises(raw: bytes) -> None:
    assert peek(raw) is Invalid


# --- books ---------------------------------------------------------------------------------------


def test_the_channel_of_a_book() -> None:
    assert Binance().book.channel("BTCUSDT", {}) == "btcusdt@depth@100ms"
    assert Binance().book.channel("BTCUSDT", {"speed": "1000ms"}) == "btcusdt@depth@1000ms"


def test_the_snapshot_of_a_book_comes_by_rest() -> None:
    request = Binance().book.request("btcusdt@depth@100ms", {})
    expected = {"symbol": "BTCUSDT", "limit": "5000"}
    assert request == RestRequest("https://api.binance.com/api/v3/depth", expected)
    request = Binance().book.request("btcusdt@depth@100ms", {"limit": 1000})
    assert request is not None
    assert request.params["limit"] == "1000"
    futures = BinanceFutures().book.request("btcusdt@depth", {})
    expected = {"symbol": "BTCUSDT", "limit": "1000"}
    assert futures == RestRequest("https://fapi.binance.com/fapi/v1/depth", expected)
    elsewhere = Binance(rest="https://data-api.binance.vision/api/v3/depth")
    assert elsewhere.book.request("a@depth", {}) is not None


def test_partial_depth_needs_no_snapshot() -> None:
    assert Binance().book.request("btcusdt@depth20@100ms", {}) is None


def test_an_update_keeps_every_digit() -> None:
    update = Binance().book.update(message_of(DEPTH))
    assert update == (False, [(Decimal("0.00006421"), Decimal(0))], [], None)
    ((price, size),) = update.bids
    assert (str(price), str(size)) == ("0.00006421", "0E-8")


def test_each_message_of_partial_depth_is_a_snapshot() -> None:
    update = Binance().book.update(message_of(TOP))
    assert update == (True, [(Decimal("0.0024"), Decimal(10))], [], None)
    top = FUTURES.replace(b"@depth@", b"@depth5@")
    update = BinanceFutures().book.update(message_of(top, BinanceFutures()))
    assert update == (True, [], [(Decimal("0.2589"), Decimal(0))], None)


def test_a_message_of_another_kind_changes_no_book() -> None:
    assert Binance().book.update(message_of(msgspec.json.encode(TICKER))) is None


@pytest.mark.parametrize(
    "data", [{}, {"b": [], "U": 1, "u": 1}, {"b": [["x", "1"]], "a": [], "U": 1, "u": 1}]
)
def test_an_invalid_update_raises(data: dict[str, Any]) -> None:
    frame = {"stream": "a@depth", "data": {"U": 1, "u": 1, **data}}
    with pytest.raises(msgspec.ValidationError):
        Binance().book.update(message_of(msgspec.json.encode(frame)))


def test_an_invalid_snapshot_raises() -> None:
    for answer in ([], {}, {"lastUpdateId": 1}, {"lastUpdateId": "x", "bids": [], "asks": []}):
        with pytest.raises(msgspec.ValidationError):
            Binance().book.snapshot("a@depth", answer)


def test_linked_numbers_detect_an_edited_line() -> None:
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
