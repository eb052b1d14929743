"""KuCoin: the frames of its documentation, and recorded traffic of ten symbols."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest

from support.helpers import Call
from support.reading import Data, message_in, read_one
from support.recordings import Bench, messages_of, payloads
from support.resting import Rest, rest
from wsclient import WebSocketClient
from wsclient.dialect.values import Credentials, RestRequest
from wsclient.dialects import Kucoin, find
from wsclient.errors import AuthenticationError, HandshakeRejected, SubscriptionRejected
from wsclient.messages import LinkedMessage
from wsclient.stream.incoming import Invalid
from wsclient.stream.items import Ack, Heartbeat, LoginAccepted, Notice, Rejection, Unhandled
from wsclient.testing import FakeVenue, Peer

LEVEL2 = (
    b'{"data":{"sequenceStart":1612844051655,"symbol":"SNX-BTC","changes":{"asks":'
    b'[["0","0","1612844051655"],["0.10","2.50","1612844051657"],["0.10","0","1612844051656"]],'
    b'"bids":[]},"sequenceEnd":1612844051657},"subject":"trade.l2update",'
    b'"topic":"/market/level2:SNX-BTC","type":"message"}'
)
BULLET = {
    "code": "200000",
    "data": {
        "token": "T0ken",
        "instanceServers": [
            {
                "endpoint": "wss://ws-api-spot.kucoin.com/",
                "encrypt": True,
                "protocol": "websocket",
                "pingInterval": 18000,
                "pingTimeout": 10000,
            }
        ],
    },
}
BOOK = "/market/level2:"


peek = partial(read_one, Kucoin())
message_of = partial(message_in, Kucoin())


# --- before a connect ----------------------------------------------------------------------------


def test_a_token_and_the_address_come_by_rest() -> None:
    request = Kucoin().url_request("wss://x/", None)
    assert request == RestRequest("https://api.kucoin.com/api/v1/bullet-public", method="POST")
    url = Kucoin().url_from("wss://x/", BULLET)
    assert re.fullmatch(r"wss://ws-api-spot\.kucoin\.com/\?token=T0ken&connectId=[0-9a-f]{8}", url)


def test_the_error_for_a_refusal_by_rest_has_its_code() -> None:
    with pytest.raises(HandshakeRejected, match="code 400100"):
        Kucoin().url_from("wss://x/", {"code": "400100", "msg": "5ecret"})
    with pytest.raises(HandshakeRejected, match="code 429000"):
        Kucoin().book.snapshot(BOOK + "A-B", {"code": "429000", "msg": "slow down"})


def base64_hmac(text: bytes) -> str:
    return base64.b64encode(hmac.new(b"5ecret", text, hashlib.sha256).digest()).decode()


def test_the_request_for_a_token_of_private_channels_is_signed() -> None:
    given = {"api_key": "K", "secret": "5ecret", "passphrase": "P"}
    request = Kucoin().url_request("wss://x/", Credentials(given, lambda: 1547015186.5329))
    assert request is not None
    assert request._replace(headers={}) == RestRequest(
        "https://api.kucoin.com/api/v1/bullet-private", method="POST"
    )
    assert request.headers == {
        "KC-API-KEY": "K",
        "KC-API-KEY-VERSION": "2",
        "KC-API-PASSPHRASE": base64_hmac(b"P"),
        "KC-API-SIGN": base64_hmac(b"1547015186532POST/api/v1/bullet-private"),
        "KC-API-TIMESTAMP": "1547015186532",
    }


@pytest.mark.parametrize("code", ["400003", "400004", "400005", "400006"])
def test_a_refused_key_is_final(code: str) -> None:
    with pytest.raises(AuthenticationError, match=f"code {code}"):
        Kucoin().url_from("wss://x/", {"code": code, "msg": "5ecret"})


@pytest.mark.parametrize(
    "channel",
    ["/spotMarket/tradeOrders", "/account/balance", "/margin/isolatedPosition:BTC-USDT"],
)
def test_a_private_channel_is_subscribed_to_as_private(channel: str) -> None:
    request = {"id": 1, "type": "subscribe", "topic": channel}
    assert Kucoin().subscribe([channel], 1, {}) == {
        **request,
        "privateChannel": True,
        "response": True,
    }


# --- out -----------------------------------------------------------------------------------------


def test_one_message_subscribes_to_several_symbols_of_a_channel() -> None:
    channels = ["/market/ticker:BTC-USDT", "/market/ticker:ETH-USDT"]
    assert Kucoin().subscribe(channels, 1, {}) == {
        "id": 1,
        "type": "subscribe",
        "topic": "/market/ticker:BTC-USDT,ETH-USDT",
        "privateChannel": False,
        "response": True,
    }
    assert Kucoin().unsubscribe(channels[:1], 2, {}) == {
        "id": 2,
        "type": "unsubscribe",
        "topic": "/market/ticker:BTC-USDT",
        "privateChannel": False,
        "response": True,
    }


def test_a_message_takes_at_most_a_hundred_symbols_of_one_channel() -> None:
    tickers = [f"/market/ticker:{n}" for n in range(150)]
    batches = Kucoin().batches([BOOK + "A", *tickers, BOOK + "B"])
    assert [list(b) for b in batches] == [[BOOK + "A", BOOK + "B"], tickers[:100], tickers[100:]]


def test_an_error_that_answers_no_request_does_not_affect_pending_subscribes() -> None:
    bench = Bench(Kucoin())
    token = bench.rig.subscribe("/market/ticker:A-B")
    bench.feed(b'{"type":"error","code":408,"data":"ping timeout"}')
    assert bench.rig.outcome(token) == "waiting"
    assert bench.rig.logs("warning") == ["the venue says: ping timeout (code 408)"]
    bench.feed(b'{"type":"ack","id":"1"}')
    assert bench.rig.outcome(token) is None


def test_the_venues_limits_and_its_ping() -> None:
    dialect = find("kucoin")
    assert type(dialect) is Kucoin
    assert dialect.limits.messages_per_second == 10.0
    assert dialect.limits.channels_per_connection == 300
    assert dialect.keepalive is not None
    ping, interval = dialect.keepalive
    assert (ping["type"], interval) == ("ping", 18.0)
    assert dialect.silence_timeout == 18.0 + 10.0
    assert dialect.greets


# --- in ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "item"),
    [
        ({"id": "hQvf8jkno", "type": "welcome"}, LoginAccepted()),
        ({"id": "1545910660739", "type": "ack"}, Ack("1545910660739")),
        ({"id": "ping", "type": "pong"}, Heartbeat()),
        ({"id": "7", "type": "error", "code": 404, "data": "no"}, Rejection("no (code 404)", "7")),
        (
            {"id": "7", "type": "error", "code": 509},
            Rejection("refused without a reason (code 509)", "7"),
        ),
        ({"type": "error", "code": 408, "data": "ping timeout"}, Notice("ping timeout (code 408)")),
        (
            {"type": "error", "code": 404, "data": "topic /a is not found"},
            Rejection("topic /a is not found (code 404)"),
        ),
        ({"type": "odd", "topic": "/t"}, Unhandled("odd", "/t")),
        (
            {"type": "message", "topic": "/market/ticker:A-B", "subject": "trade.ticker"},
            Data("/market/ticker:A-B", "trade.ticker"),
        ),
        ({"type": "message", "topic": "/market/ticker:all"}, Data("/market/ticker:all", "message")),
        ({"topic": "/market/ticker:A-B"}, Invalid),
        (b"[]", Invalid),
        (b"", Invalid),
    ],
)
def test_how_each_frame_is_read(frame: Any, item: Any) -> None:
    assert peek(frame) == item


def test_an_update_of_a_book_is_a_range() -> None:
    message = message_of(LEVEL2)
    assert isinstance(message, LinkedMessage)
    assert (message.channel, message.type) == (BOOK + "SNX-BTC", "trade.l2update")
    assert (message.follows, message.sequence) == (1612844051654, 1612844051657)
    assert message.is_counted


def test_ranges_may_overlap() -> None:
    def ranged(first: int, last: int) -> bytes:
        data = {"sequenceStart": first, "sequenceEnd": last}
        return msgspec.json.encode({"type": "message", "topic": BOOK + "A", "data": data})

    frames = [ranged(1, 5), ranged(4, 8), ranged(10, 11)]
    gaps = [message.gap for message in Bench(Kucoin()).feed(*frames)]
    assert [gap and (gap.reason, gap.missed) for gap in gaps] == [None, None, ("sequence", 1)]


# --- books ---------------------------------------------------------------------------------------


def test_the_channel_and_the_snapshot_of_a_book() -> None:
    assert Kucoin().book.channel("BTC-USDT", {}) == BOOK + "BTC-USDT"
    request = Kucoin().book.request(BOOK + "BTC-USDT", {})
    expected = "https://api.kucoin.com/api/v3/market/orderbook/level2"
    assert request == RestRequest(expected, {"symbol": "BTC-USDT"})
    partial = Kucoin(rest="http://[::1]:1", book_path="/level2_100").book.request(BOOK + "A", {})
    assert partial == RestRequest("http://[::1]:1/level2_100", {"symbol": "A"})
    data = {"sequence": "12", "bids": [["0.10", "1"]], "asks": []}
    snapshot = Kucoin().book.snapshot(BOOK + "A", {"code": "200000", "data": data})
    assert repr(snapshot.bids) == repr([(Decimal("0.10"), Decimal("1"))])
    assert (snapshot.sequence, snapshot.asks) == (12, [])


def test_rows_are_applied_in_the_order_of_their_numbers_without_those_of_price_0() -> None:
    update = Kucoin().book.update(message_of(LEVEL2))
    expected = [(Decimal("0.10"), Decimal("0")), (Decimal("0.10"), Decimal("2.50"))]
    assert repr(update) == f"BookUpdate(is_snapshot=False, bids=[], asks={expected}, checksum=None)"


def test_a_message_of_another_channel_changes_no_book() -> None:
    ticker = {"type": "message", "topic": "/market/ticker:A", "data": {}}
    assert Kucoin().book.update(message_of(ticker)) is None


@pytest.mark.parametrize("answer", [[], {}, {"code": "200000"}, {"code": "200000", "data": {}}])
def test_an_invalid_snapshot_raises(answer: Any) -> None:
    with pytest.raises((msgspec.ValidationError, TypeError, KeyError)):
        Kucoin().book.snapshot(BOOK + "A", answer)


# --- recorded ------------------------------------------------------------------------------------


def test_rows_of_price_0_are_left_out_of_every_recorded_update() -> None:
    rows = zeros = 0
    for message in messages_of(Kucoin(), payloads("kucoin/KUCOIN.ws.1.0")):
        update = Kucoin().book.update(message)
        if update is None:
            continue
        changes = msgspec.json.decode(message.raw)["data"]["changes"]
        zeros += sum(price == "0" for side in changes.values() for price, _, _ in side)
        rows += sum(map(len, changes.values()))
        kept = [*update.bids, *update.asks]
        assert all(price for price, _ in kept)
        rows -= len(kept)
    assert rows == zeros == 1355


# --- over a socket -------------------------------------------------------------------------------


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    with FakeVenue(None) as venue:
        yield venue


@pytest.fixture
def bullets(venue: FakeVenue) -> Iterator[Rest]:
    """Serve tokens for the venue by REST."""

    def bullet(n: int) -> Any:
        data = {"token": f"T{n}", "instanceServers": [{"endpoint": venue.url}]}
        return {"code": "200000", "data": data}

    with rest(bullet) as server:
        yield server


def client_of(server: Rest, **options: Any) -> WebSocketClient:
    dialect = Kucoin(rest=server.url)
    url = "wss://ws-api-spot.kucoin.com/"
    return WebSocketClient(url, dialect=dialect, retry_delay=0.01, **options)


def welcome(peer: Peer) -> None:
    assert peer.request is not None
    connect_id = peer.request.path.partition("connectId=")[2]
    peer.send_json({"id": connect_id, "type": "welcome"})


@pytest.mark.loopback
def test_each_connect_gets_its_own_token_and_waits_for_the_welcome(
    venue: FakeVenue, bullets: Rest
) -> None:
    with closing(client_of(bullets)) as client:
        call = Call(client.connect)
        first = venue.accept()
        welcome(first)
        call.result()
        call = Call(client.subscribe, BOOK + "A")
        first.send_json({"id": str(first.expect_json()["id"]), "type": "ack"})
        call.result()
        first.rst()
        second = venue.accept()
        second.ping()
        second.expect_pong()
        assert second.received == []
        welcome(second)
        assert second.expect_json()["topic"] == BOOK + "A"
    tokens = [re.findall(r"token=(\w+)", p.request.path) for p in (first, second) if p.request]
    assert tokens == [["T1"], ["T2"]]
    assert [asked.line.split()[:2] for asked in bullets.asked] == [
        ["POST", "/api/v1/bullet-public"]
    ] * 2


@pytest.mark.loopback
def test_private_channels_need_a_private_token(venue: FakeVenue, bullets: Rest) -> None:
    credentials = {"api_key": "K", "secret": "5ecret", "passphrase": "P"}
    with closing(client_of(bullets, credentials=credentials)) as client:
        call = Call(client.connect)
        peer = venue.accept()
        welcome(peer)
        call.result()
        call = Call(client.subscribe, "/account/balance")
        request = peer.expect_json()
        assert request["privateChannel"] is True
        peer.send_json({"id": str(request["id"]), "type": "ack"})
        call.result()
    (asked,) = bullets.asked
    assert asked.line.startswith("POST /api/v1/bullet-private ")
    assert asked.headers["kc-api-sign"] == base64_hmac(
        f"{asked.headers['kc-api-timestamp']}POST/api/v1/bullet-private".encode()
    )


@pytest.mark.loopback
def test_a_list_of_symbols_is_refused_as_a_channel(venue: FakeVenue, bullets: Rest) -> None:
    """Its data would belong to no channel that was requested."""
    with closing(client_of(bullets)) as client:
        call = Call(client.connect)
        peer = venue.accept()
        welcome(peer)
        call.result()
        call = Call(client.subscribe, BOOK + "A", BOOK + "B,C")
        request = peer.expect_json()
        assert request["topic"] == BOOK + "A"
        peer.send_json({"id": str(request["id"]), "type": "ack"})
        with pytest.raises(SubscriptionRejected, match="several channels") as caught:
            call.result()
    assert list(caught.value.failed) == [BOOK + "B,C"]
