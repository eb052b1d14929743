"""Kraken v2: the frames of its documentation, recorded ones, and its answers to our ids."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import msgspec
import pytest
import responses

import wsclient
from support.making import entries_of
from support.reading import Data, read_one
from support.recordings import Bench, messages_of, payloads
from support.resting import Rest, rest
from wsclient.dialect.values import Credentials
from wsclient.dialects import Kraken
from wsclient.errors import AuthenticationError, ConfigurationError, HandshakeRejected
from wsclient.messages import Message
from wsclient.stream.inbound import Inbound
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import Ack, Heartbeat, Notice, Rejection, Reply, Unhandled
from wsclient.testing import FakeVenue
from wsclient.testing.protocols import Payload, ScriptedProtocol
from wsclient.testing.venue import Peer
from wsclient.verdicts import Verdict, classify

RECORDING = "kraken/kraken_btcusd_l2.jsonl"


peek = partial(read_one, Kraken())


# --- out -----------------------------------------------------------------------------------------


def test_one_message_subscribes_to_several_symbols_of_a_channel() -> None:
    message = Kraken().subscribe(
        ["book:ALGO/USD", "book:MATIC/USD"], 1, {"depth": 10, "snapshot": True}
    )
    assert message == {
        "method": "subscribe",
        "params": {
            "channel": "book",
            "symbol": ["ALGO/USD", "MATIC/USD"],
            "depth": 10,
            "snapshot": True,
        },
        "req_id": 1,
    }


def test_an_unsubscribe_carries_the_same_params() -> None:
    """Kraken identifies the subscription by its depth too."""
    message = Kraken().unsubscribe(["book:BTC/USD"], 2, {"depth": 100})
    assert message["method"] == "unsubscribe"
    assert message["params"] == {"channel": "book", "symbol": ["BTC/USD"], "depth": 100}


def test_a_channel_without_a_symbol_is_sent_without_one() -> None:
    message = Kraken().subscribe(["status"], 3, {})
    assert message == {"method": "subscribe", "params": {"channel": "status"}, "req_id": 3}


def test_a_message_takes_symbols_of_only_one_channel() -> None:
    batches = Kraken().batches(["book:A/B", "ticker:A/B", "book:C/D", "status"])
    assert [list(b) for b in batches] == [["book:A/B", "book:C/D"], ["ticker:A/B"], ["status"]]


def test_a_message_takes_at_most_a_hundred_symbols() -> None:
    channels = [f"ticker:{n}/USD" for n in range(250)]
    batches = [list(b) for b in Kraken().batches(channels)]
    assert [len(b) for b in batches] == [100, 100, 50]
    assert [channel for batch in batches for channel in batch] == channels


def test_a_request_carries_our_id() -> None:
    assert Kraken().request({"method": "ping"}, 101) == {"method": "ping", "req_id": 101}


def test_the_limits_of_the_venue() -> None:
    assert Kraken().limits.connects == (150, 600.0)


def test_a_connection_without_subscriptions_is_kept_alive() -> None:
    """Kraken sends heartbeats only if something is subscribed."""
    bench = Bench(Kraken())
    for _ in range(12):
        bench.rig.wait(5.0)
        if bench.rig.sent()[-1:] == [{"method": "ping"}]:
            bench.feed(b'{"method":"pong","time_in":"t","time_out":"t"}')
    assert bench.rig.state is wsclient.State.OPEN
    assert bench.rig.sent() == [{"method": "ping"}] * 6


def test_fifteen_seconds_of_silence_end_the_connection() -> None:
    bench = Bench(Kraken())
    bench.rig.wait(15.0)
    assert bench.rig.state is not wsclient.State.OPEN


# --- private channels ----------------------------------------------------------------------------

SECRET = base64.b64encode(b"5ecret").decode()
GIVEN = {"api_key": "K", "secret": SECRET}
PATH = "/0/private/GetWebSocketsToken"


def api_sign(body: str) -> str:
    digest = hashlib.sha256(f"{body.removeprefix('nonce=')}{body}".encode()).digest()
    signed = hmac.new(b"5ecret", PATH.encode() + digest, hashlib.sha512).digest()
    return base64.b64encode(signed).decode()


def test_the_request_for_a_token_is_signed() -> None:
    request = Kraken().url_request("wss://x/", Credentials(GIVEN, lambda: 1616492376.5949))
    assert request is not None
    assert tuple(request) == (
        f"https://api.kraken.com{PATH}",
        {},
        "POST",
        {
            "API-Key": "K",
            "API-Sign": api_sign("nonce=1616492376594"),
            "Content-Type": "application/x-www-form-urlencoded",
        },
        "nonce=1616492376594",
    )


def test_without_credentials_no_token_is_requested() -> None:
    assert Kraken().url_request("wss://x/", None) is None


def test_only_private_channels_carry_the_token() -> None:
    credentials = Credentials(GIVEN, lambda: 0.0, token="T")
    for channel in ("executions", "balances", "level3:BTC/USD"):
        assert Kraken().access([channel], credentials) == {"token": "T"}
    assert Kraken().access(["book:BTC/USD"], credentials) == {}


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        ("EAPI:Invalid key", AuthenticationError, "EAPI:Invalid key"),
        ("EAPI:Invalid signature", AuthenticationError, "EAPI:Invalid signature"),
        ("EGeneral:Permission denied", AuthenticationError, "EGeneral:Permission denied"),
        ("EAPI:Invalid nonce", HandshakeRejected, "EAPI:Invalid nonce"),
        ("EService:Unavailable", HandshakeRejected, "EService:Unavailable"),
        ("5ecret", HandshakeRejected, "no known reason"),
        ("EAPI:Invalid key 5ecret", AuthenticationError, "EAPI:Invalid key"),
    ],
)
def test_the_error_for_a_refused_token_names_a_known_reason(
    error: str, kind: Any, text: str
) -> None:
    with pytest.raises(kind) as caught:
        Kraken().token_from({"error": [error]})
    assert str(caught.value).endswith(f": {text}")
    is_final = kind is AuthenticationError
    assert (classify(caught.value) is Verdict.FATAL) == is_final


class Private(ScriptedProtocol):
    """A protocol that acknowledges every subscribe."""

    def received(self, peer: Peer, payload: Payload) -> Iterator[Payload]:
        request = json.loads(payload)
        result = {k: v for k, v in request["params"].items() if k != "token"}
        result["symbol"] = next(iter(result.get("symbol", [])), None)
        answer = {"method": request["method"], "success": True, "req_id": request["req_id"]}
        yield json.dumps({**answer, "result": result})


def token(n: int) -> Any:
    return {"error": [], "result": {"token": f"T{n}", "expires": 900}}


class Scene(NamedTuple):
    client: wsclient.WebSocketClient
    venue: FakeVenue
    rest: Rest


@contextmanager
def private(answer: Callable[[int], Any], **options: Any) -> Iterator[Scene]:
    """Yield a client with credentials, and a venue whose REST server gives these answers."""
    options = {"retry_delay": 0.01, "max_retry_delay": 0.02, **options}
    with FakeVenue(Private()) as venue, rest(answer) as server:
        dialect = Kraken(rest=server.url)
        client = wsclient.WebSocketClient(venue.url, dialect=dialect, credentials=GIVEN, **options)
        with closing(client):
            yield Scene(client, venue, server)


@pytest.mark.loopback
def test_each_connect_gets_its_own_token() -> None:
    with private(token) as (client, venue, server):
        client.connect()
        client.subscribe("executions", snap_orders=True)
        client.subscribe("ticker:BTC/USD")
        first = venue.accept()
        sent = [first.expect_json()["params"], first.expect_json()["params"]]
        first.rst()
        second = venue.accept()
        again = [second.expect_json()["params"], second.expect_json()["params"]]
        client.unsubscribe("executions")
        last = second.expect_json()
    executions = {"channel": "executions", "snap_orders": True}
    ticker = {"channel": "ticker", "symbol": ["BTC/USD"]}
    assert sent == [{**executions, "token": "T1"}, ticker]
    assert again == [{**executions, "token": "T2"}, ticker]
    assert (last["method"], last["params"]) == ("unsubscribe", {**executions, "token": "T2"})
    bodies = [asked.body for asked in server.asked]
    assert len(set(bodies)) == 2
    assert all(abs(int(body.removeprefix("nonce=")) / 1000 - time.time()) < 5 for body in bodies)
    for asked in server.asked:
        assert asked.line.startswith(f"POST {PATH} ")
        assert asked.headers["api-key"] == "K"
        assert asked.headers["api-sign"] == api_sign(asked.body)
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded"


@pytest.mark.loopback
def test_a_dead_token_endpoint_is_a_failed_attempt() -> None:
    answers = [503, {"error": ["EService:Unavailable"]}, [], token(4)]
    with private(lambda n: answers[n - 1], max_retries=4) as (client, venue, _):
        client.connect()
        client.subscribe("balances")
        assert client.stats().dials == 4
        assert venue.accept().expect_json()["params"]["token"] == "T4"


@pytest.mark.loopback
@pytest.mark.parametrize("answer", [401, 403, {"error": ["EAPI:Invalid key"]}])
def test_a_refused_token_is_final(answer: Any) -> None:
    with private(lambda n: answer) as (client, venue, server):
        with pytest.raises((wsclient.ConnectError, AuthenticationError)):
            client.connect()
        assert client.state is wsclient.State.FAILED
        assert (len(server.asked), len(venue.peers)) == (1, 0)


@pytest.mark.loopback
def test_a_token_refused_on_a_reconnect_ends_the_client() -> None:
    answers = [token(1), 403]
    with private(lambda n: answers[n - 1]) as (client, venue, _):
        client.connect()
        venue.accept().rst()
        with pytest.raises(wsclient.ConnectError, match="403"):
            client.recv(timeout=5)


@pytest.mark.loopback
def test_the_token_is_requested_at_krakens_own_address() -> None:
    with responses.RequestsMock() as mock, FakeVenue(Private()) as venue:
        mock.post(f"https://api.kraken.com{PATH}", json=token(7))
        with wsclient.connect(venue.url, dialect="kraken", credentials=GIVEN) as client:
            client.subscribe("executions")
            assert venue.accept().expect_json()["params"]["token"] == "T7"
        sent = mock.calls[0].request
    assert sent.headers["API-Sign"] == api_sign(str(sent.body))


# --- in: answers ---------------------------------------------------------------------------------


def test_an_acknowledgement_confirms_one_symbol() -> None:
    frame = {
        "method": "subscribe",
        "result": {"channel": "book", "depth": 10, "snapshot": True, "symbol": "ALGO/USD"},
        "success": True,
        "time_in": "2023-10-06T17:35:55.219022Z",
        "time_out": "2023-10-06T17:35:55.219067Z",
        "req_id": 1,
    }
    assert peek(frame) == Ack(1, "book:ALGO/USD", verb="subscribe")


def test_an_acknowledgement_may_have_warnings() -> None:
    result = {"channel": "ticker", "symbol": "BTC/USD", "warnings": ["deprecated"]}
    frame = {"method": "subscribe", "result": result, "success": True, "req_id": 1}
    assert peek(frame) == Ack(1, "ticker:BTC/USD", verb="subscribe")


def test_an_acknowledgement_without_our_id_is_matched_by_its_channel() -> None:
    result = {"channel": "book", "depth": 10, "symbol": "BTC/USD"}
    frame = {"method": "unsubscribe", "result": result, "success": True}
    assert peek(frame) == Ack(None, "book:BTC/USD", verb="unsubscribe")


def test_an_acknowledgement_of_a_channel_without_symbols() -> None:
    frame = {"method": "subscribe", "result": {"channel": "status"}, "success": True, "req_id": 4}
    assert peek(frame) == Ack(4, "status", verb="subscribe")


def test_an_acknowledgement_without_a_result_confirms_the_whole_request() -> None:
    frame = {"method": "subscribe", "success": True, "req_id": 4}
    assert peek(frame) == Ack(4, verb="subscribe")


def test_a_refused_depth_is_matched_only_by_our_id() -> None:
    frame = {
        "error": "Subscription depth not supported",
        "method": "subscribe",
        "req_id": 7,
        "success": False,
        "time_in": "2026-08-12T19:29:00.921195Z",
        "time_out": "2026-08-12T19:29:00.921223Z",
    }
    assert peek(frame) == Rejection("Subscription depth not supported", 7, verb="subscribe")


def test_a_refused_symbol_names_it() -> None:
    frame = {
        "error": "Currency pair not supported BAD/USD",
        "method": "subscribe",
        "req_id": 7,
        "success": False,
        "symbol": "BAD/USD",
    }
    reason = "Currency pair not supported BAD/USD"
    assert peek(frame) == Rejection(reason, 7, None, "BAD/USD", verb="subscribe")


def test_a_refusal_without_a_reason_is_a_refusal() -> None:
    frame = {"method": "unsubscribe", "success": False, "req_id": 7}
    assert peek(frame) == Rejection("refused without a reason", 7, verb="unsubscribe")


def test_a_pong_is_the_reply_to_a_ping() -> None:
    frame = {"method": "pong", "req_id": 101, "time_in": "t", "time_out": "t"}
    assert peek(frame) == Reply(101, frame)


def test_a_refused_request_is_a_reply_with_an_error() -> None:
    frame = {"method": "add_order", "req_id": 5, "success": False, "error": "EOrder:No funds"}
    assert peek(frame) == Reply(5, frame, "EOrder:No funds")


def test_a_refused_request_without_a_reason_is_refused() -> None:
    frame = {"method": "add_order", "req_id": 5, "success": False}
    assert peek(frame) == Reply(5, frame, "refused without a reason")


@pytest.mark.parametrize("is_bare", [False, True])
def test_the_orders_of_a_batch_fail_one_by_one(is_bare: bool) -> None:
    orders = [{"order_id": "O1"}, {"error": "EOrder:Insufficient funds"}, {"order_id": "O3"}]
    result = orders if is_bare else {"orders": orders}
    frame = {"method": "batch_add", "req_id": 5, "success": True, "result": result}
    assert peek(frame) == Reply(5, frame, failed={1: "EOrder:Insufficient funds"})


@pytest.mark.parametrize(
    ("method", "params", "count"),
    [
        ("cancel_order", {"order_id": ["a", "b", "c"]}, 3),
        ("cancel_order", {"cl_ord_id": ["a", "b"]}, 2),
        ("cancel_order", {"order_id": []}, 1),
        ("cancel_order", {}, 1),
        ("batch_cancel", {"orders": ["a", "b"]}, 1),
        ("batch_add", {"orders": [{}, {}]}, 1),
    ],
)
def test_only_a_cancel_has_an_answer_for_each_order(
    method: str, params: dict[str, Any], count: int
) -> None:
    assert Kraken().answers({"method": method, "params": params}) == count
    assert Kraken().answers("ping") == 1


def test_an_accepted_request_is_a_reply_without_an_error() -> None:
    frame = {"method": "add_order", "req_id": 5, "success": True, "result": {"order_id": "O"}}
    assert peek(frame) == Reply(5, frame)


def test_an_error_without_an_id_is_a_notice() -> None:
    assert peek({"error": "Malformed request"}) == Notice("Malformed request")


def test_a_frame_without_a_name_is_unhandled() -> None:
    assert peek({"event": "odd"}) == Unhandled("")


# --- in: data ------------------------------------------------------------------------------------


def test_the_greeting_and_the_heartbeat_are_filtered() -> None:
    greeting = {
        "channel": "status",
        "type": "update",
        "data": [
            {
                "version": "2.0.10",
                "system": "online",
                "api_version": "v2",
                "connection_id": 7204881492680171915,
            }
        ],
    }
    assert peek(greeting) == Heartbeat()
    assert peek(b'{"channel":"heartbeat"}') == Heartbeat()


TRADE = {
    "channel": "trade",
    "type": "update",
    "data": [
        {
            "symbol": "MATIC/USD",
            "side": "sell",
            "qty": 40.0,
            "price": 0.5117,
            "ord_type": "market",
            "trade_id": 4665906,
            "timestamp": "2023-09-25T07:49:37.708706Z",
        }
    ],
}
TICKER = {
    "channel": "ticker",
    "type": "snapshot",
    "data": [{"symbol": "BTC/USD", "bid": 63297.7, "ask": 63297.8, "last": 63297.8}],
}


def test_data_belongs_to_a_channel_and_a_symbol() -> None:
    assert peek(TRADE) == Data("trade:MATIC/USD", "update", None, 0)
    assert peek(TICKER) == Data("ticker:BTC/USD", "snapshot", None, 0)


def test_a_frame_of_several_rows_is_several_messages() -> None:
    rows = [{"symbol": "A/B", "n": 1}, {"symbol": "C/D", "n": 2}]
    frame = {"channel": "trade", "type": "update", "data": rows}
    entries = entries_of(Inbound(Kraken()), msgspec.json.encode(frame))
    messages = [m for m in entries if isinstance(m, Message)]
    assert [m.channel for m in messages] == ["trade:A/B", "trade:C/D"]
    assert [m.data for m in messages] == rows


def test_a_frame_of_a_channel_without_symbols_is_one_message() -> None:
    frame = {"channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": []}}
    (message,) = entries_of(Inbound(Kraken()), msgspec.json.encode(frame))
    assert isinstance(message, Message)
    assert (message.channel, message.type, message.data) == ("instrument", "snapshot", frame)


def test_a_frame_without_a_list_of_rows_is_one_message() -> None:
    frame = {"channel": "ticker", "type": "update", "data": {"symbol": "A/B"}}
    assert peek(frame) == Data("ticker", "update")


def test_rows_of_a_channel_without_symbols_stay_together() -> None:
    rows = [{"order_id": "A", "symbol": "X/Y"}, {"order_id": "B", "symbol": "X/Y"}]
    assert peek({"channel": "executions", "type": "update", "data": rows}) == Data(
        "executions", "update"
    )


def test_a_frame_with_no_rows_belongs_to_its_channel() -> None:
    assert peek({"channel": "trade", "type": "snapshot", "data": []}) == Data("trade", "snapshot")


@pytest.mark.parametrize(
    "raw", [b"", b"[1,2]", b'{"channel": 5}', b'{"channel": "book", "data": 5}']
)
def test_a_frame_unlike_krakens_raises(raw: bytes) -> None:
    assert peek(raw) is Invalid


# --- recorded ------------------------------------------------------------------------------------


def test_all_recorded_answers_belong_to_the_one_book() -> None:
    acks = [item for item in map(peek, payloads(RECORDING)) if isinstance(item, Ack)]
    verbs = ("subscribe", "unsubscribe")
    assert set(map(repr, acks)) == {repr(Ack(None, "book:BTC/USD", verb=verb)) for verb in verbs}


def test_each_recorded_message_keeps_every_digit_of_its_row() -> None:
    """A checksum is over the digits as sent: trailing zeros count."""
    entries = entries_of(Inbound(Kraken(), decimal=True), *payloads(RECORDING))
    for message in (m for m in entries if isinstance(m, Message)):
        sent = json.loads(message.raw, parse_float=Decimal)["data"][0]
        assert str(message.data) == str(sent)


# --- books ---------------------------------------------------------------------------------------

BOOK = "book:BTC/USD"


def test_a_book_belongs_to_a_symbol_and_has_ten_levels_by_default() -> None:
    dialect = Kraken()
    assert dialect.book.channel("BTC/USD", {"depth": 100}) == BOOK
    assert (dialect.book.depth({}), dialect.book.depth({"depth": 100})) == (10, 100)
    assert dialect.book.request(BOOK, {}) is None


@pytest.mark.parametrize("depth", [0, -1, "10", 1.5, True, None])
def test_a_depth_that_is_no_whole_number_is_refused(depth: Any) -> None:
    with pytest.raises(ConfigurationError, match="depth must be a whole number from 1 up"):
        wsclient.OrderBook("kraken", BOOK, depth=depth)


def test_a_book_message_keeps_every_digit_of_its_row() -> None:
    rows = [
        {"symbol": "A/B", "bids": [], "asks": []},
        {"symbol": "C/D", "bids": [{"price": 1.50, "qty": 0}], "asks": [], "checksum": 7},
    ]
    raw = json.dumps({"channel": "book", "type": "update", "data": rows}).encode()
    raw = raw.replace(b"1.5", b"1.500").replace(b'"qty": 0', b'"qty": 0.00000000')
    update = Kraken().book.update(messages_of(Kraken(), [raw])[1])
    assert update is not None
    assert (update.is_snapshot, list(update.asks), update.checksum) == (False, [], 7)
    ((price, size),) = update.bids
    assert (str(price), f"{size:f}") == ("1.500", "0.00000000")


@pytest.mark.parametrize(
    "data", ['[{"symbol":"A/B"}]', "[]", '[{"symbol":"A/B","bids":[{"price":1}],"asks":[]}]']
)
def test_a_book_message_without_its_fields_raises(data: str) -> None:
    raw = b'{"channel":"book","type":"update","data":%s}' % data.encode()
    (message,) = messages_of(Kraken(), [raw])
    with pytest.raises(ValueError):
        Kraken().book.update(message)


def test_a_checksum_is_over_the_ten_best_asks_then_bids_without_points_and_leading_zeros() -> None:
    """The rule is spelt out over the text, as in Kraken's guide."""
    bids = [(f"0.05{30 - i}0", f"0.00000{500 + i}00") for i in range(1, 12)]
    asks = [(f"0.0{605 + i}", f"{i}.10") for i in range(12)]
    text = "".join(
        n.replace(".", "").lstrip("0")
        for side in (asks, bids)
        for level in side[:10]
        for n in level
    )
    as_decimals = [[(Decimal(p), Decimal(s)) for p, s in side] for side in (bids, asks)]
    assert Kraken().book.checksum(*as_decimals) == zlib.crc32(text.encode())


def test_a_small_number_is_written_without_an_exponent_in_the_checksum() -> None:
    tiny = [(Decimal("1E-7"), Decimal("0.00000510"))]
    assert Kraken().book.checksum([], tiny) == zlib.crc32(b"1510")


def test_a_request_about_orders_gets_the_token_of_its_connection() -> None:
    given = Credentials({"api_key": "K", "secret": "UzM="}, lambda: 0.0, "T0ken")
    order = {"method": "add_order", "params": {"symbol": "BTC/USD"}}
    sent = {"method": "add_order", "params": {"token": "T0ken", "symbol": "BTC/USD"}}
    assert Kraken().authorize(order, given) == sent
    assert Kraken().authorize({"method": "cancel_all"}, given)["params"] == {"token": "T0ken"}
    own = {"method": "cancel_all", "params": {"token": "mine"}}
    assert Kraken().authorize(own, given) == own
    ping = {"method": "ping"}
    assert Kraken().authorize(ping, given) == ping


def test_a_refusal_without_an_id_refuses_no_request() -> None:
    """It is that of a message that the caller has sent without one."""
    frame = {"method": "add_order", "success": False, "error": "EOrder:Unknown order"}
    assert peek(frame) == Notice("EOrder:Unknown order")
    numbered = {**frame, "req_id": 5}
    assert peek(numbered) == Reply(5, numbered, "EOrder:Unknown order")


@pytest.mark.parametrize("given", [{}, {"success": None}, {"success": "false"}])
def test_an_error_refuses_a_request_without_the_word_of_a_success(given: Any) -> None:
    frame = {"method": "add_order", "req_id": 5, "error": "EOrder:No funds", **given}
    assert peek(frame) == Reply(5, frame, "EOrder:No funds")
