import functools
import json
import time
from decimal import Decimal

import msgspec
import pytest

from wsclient.dialect import Credentials
from wsclient.testing import FakeVenue, GenericProtocol, KrakenProtocol, ScriptedProtocol, venues
from wsclient.testing.market import Depth, MarketQuote, MarketTrade
from wsclient.testing.venues import deribit
from wsclient.testing.venues.binance import BinanceProtocol
from wsclient.testing.venues.deribit import DeribitProtocol
from wsclient.testing.venues.okx import OKXProtocol


def ask(client, **request):
    client.send(json.dumps(request))


def answer(client):
    """Return the next message, without its times."""
    message = json.loads(client.recv(timeout=5))
    return {key: value for key, value in message.items() if key not in ("time_in", "time_out")}


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"no protocol 'nasdaq'.*, only .*binance, "):
        FakeVenue("nasdaq")


# No protocol


def test_scripted_venue_answers_nothing(dial):
    with FakeVenue(None) as venue:
        client = dial(venue)
        ask(client, type="subscribe", channel="a")
        peer = venue.accept()
        peer.expect_json({"type": "subscribe", "channel": "a"})
        assert peer.subscriptions == set()
        peer.send_json({"scripted": True})
        assert answer(client) == {"scripted": True}


def test_scripted_venue_publishes_to_a_peer_that_the_test_subscribed(dial):
    with FakeVenue(None) as venue:
        client = dial(venue)
        venue.accept().subscribe("a")
        venue.publish("a", price=1)
        assert answer(client) == {"type": "market_data", "channel": "a", "sequence": 1, "price": 1}


def test_a_protocol_takes_a_few_lines(dial):
    class Shouting(ScriptedProtocol):
        def received(self, peer, payload):
            peer.subscribe("echo")
            yield payload.upper()

        def data(self, channel, sequence, fields):
            return f"{channel} {sequence}".encode()

    with FakeVenue(Shouting()) as venue:
        client = dial(venue)
        client.send("hey")
        assert client.recv(timeout=5) == "HEY"
        venue.publish("echo")
        assert client.recv(timeout=5) == b"echo 1"


# The generic protocol


def test_subscribe_is_acknowledged_and_recorded(venue, dial):
    client = dial(venue)
    ask(client, type="subscribe", channel="a")
    assert answer(client) == {"type": "subscription", "channel": "a", "status": "success"}
    assert venue.accept().subscriptions == {"a"}


def test_unsubscribe_is_acknowledged_and_ends_the_data(venue, dial):
    client = dial(venue)
    ask(client, type="subscribe", channel="a")
    answer(client)
    ask(client, type="unsubscribe", channel="a")
    assert answer(client) == {"type": "subscription", "channel": "a", "status": "success"}
    assert venue.accept().subscriptions == set()


def test_unsubscribe_of_an_unknown_channel_is_an_error(venue, dial):
    client = dial(venue)
    ask(client, type="unsubscribe", channel="a")
    assert answer(client)["status"] == "error"


@pytest.mark.parametrize("payload", ["not json", "[]", '"text"', '{"type": "hello"}', b"\xff"])
def test_other_messages_get_no_answer(venue, dial, payload):
    client = dial(venue)
    client.send(payload)
    ask(client, type="subscribe", channel="a")
    assert answer(client)["channel"] == "a"
    assert venue.accept().received[0] == payload


def test_refused_channel_is_answered_with_the_reason_until_allowed(venue, dial):
    client = dial(venue)
    venue.refuse_channel("a", "no such channel")
    ask(client, type="subscribe", channel="a")
    refusal = {"type": "subscription", "channel": "a", "status": "error"}
    assert answer(client) == {**refusal, "error": "no such channel"}
    assert venue.accept().subscriptions == set()
    venue.allow_channel("a")
    ask(client, type="subscribe", channel="a")
    assert answer(client)["status"] == "success"


def test_publish_reaches_subscribers_only_and_returns_the_sequence(venue, dial):
    listener, other = dial(venue), dial(venue)
    for client, channel in ((listener, "a"), (other, "b")):
        ask(client, type="subscribe", channel=channel)
        answer(client)
    assert venue.publish("a", price=1.5) == 1
    assert venue.publish("b") == 1
    assert answer(listener)["price"] == 1.5
    assert answer(other)["channel"] == "b"


def test_sequences_count_on_while_nobody_is_connected(venue, dial):
    assert [venue.publish("a"), venue.publish("a")] == [1, 2]
    client = dial(venue)
    ask(client, type="subscribe", channel="a")
    answer(client)
    venue.publish("a")
    assert answer(client)["sequence"] == 3


def test_publish_skips_a_peer_that_has_ended(venue, dial):
    client = dial(venue)
    ask(client, type="subscribe", channel="a")
    answer(client)
    peer = venue.accept()
    sent = len(peer.journal)
    peer.rst()
    venue.publish("a")
    assert len(peer.journal) == sent


def test_broadcast_sends_the_payload_unchanged(venue, dial):
    client = dial(venue)
    assert venue.broadcast("lost", "a") == 0
    ask(client, type="subscribe", channel="a")
    answer(client)
    assert venue.broadcast('{"any":  "text"', "a") == 1
    assert client.recv(timeout=5) == '{"any":  "text"'
    assert venue.broadcast("everyone") == 1
    assert client.recv(timeout=5) == "everyone"


def test_muted_acks_leave_a_subscription_unanswered_but_in_force(venue, dial):
    client = dial(venue)
    venue.mute_acks()
    ask(client, type="subscribe", channel="a")
    venue.wait_for(lambda v: v.subscribers("a"))
    venue.mute_acks(False)
    ask(client, type="subscribe", channel="b")
    assert answer(client)["channel"] == "b"


def test_acks_of_one_channel_can_be_muted(venue, dial):
    client = dial(venue)
    venue.mute_acks(channel="a")
    ask(client, type="subscribe", channel="a")
    ask(client, type="subscribe", channel="b")
    assert answer(client)["channel"] == "b"
    assert venue.accept().subscriptions == {"a", "b"}


def test_late_ack_comes_with_its_effect_and_in_order(venue, dial):
    client = dial(venue)
    venue.ack_delay = 0.1
    before = time.monotonic()
    ask(client, type="subscribe", channel="a")
    peer = venue.accept()
    peer.expect()
    assert peer.subscriptions == set()
    venue.ack_delay = 0
    ask(client, type="subscribe", channel="b")
    assert answer(client)["channel"] == "a"
    assert time.monotonic() - before >= 0.1
    assert answer(client)["channel"] == "b"


# Kraken v2


@pytest.fixture
def kraken():
    return KrakenProtocol()


@pytest.fixture
def venue_k(kraken):
    with FakeVenue(kraken) as venue:
        yield venue


@pytest.fixture
def client_k(venue_k, dial):
    """Return a client that has had its greeting."""
    client = dial(venue_k)
    client.recv(timeout=5)
    return client


def subscribe(client, channel, symbols, method="subscribe", req_id=1, **params):
    params = {"channel": channel, "symbol": symbols, **params}
    ask(client, method=method, params=params, req_id=req_id)


def test_kraken_greets_with_its_status(dial):
    with FakeVenue("kraken") as venue:
        greeting = json.loads(dial(venue).recv(timeout=5))
        assert (greeting["channel"], greeting["data"][0]["system"]) == ("status", "online")
        assert greeting["data"][0]["connection_id"] > 2**53


def test_kraken_acknowledges_each_symbol(venue_k, client_k):
    subscribe(client_k, "ticker", ["BTC/USD", "ETH/USD"], req_id=7)
    for symbol in ("BTC/USD", "ETH/USD"):
        assert answer(client_k) == {
            "method": "subscribe",
            "req_id": 7,
            "result": {"channel": "ticker", "symbol": symbol, "snapshot": True},
            "success": True,
        }
    assert venue_k.accept().subscriptions == {"ticker:BTC/USD", "ticker:ETH/USD"}


def test_kraken_refuses_a_symbol_by_name_and_takes_the_others(venue_k, client_k):
    venue_k.refuse_channel("ticker:XX/YY", "Currency pair not supported XX/YY")
    subscribe(client_k, "ticker", ["XX/YY", "BTC/USD"])
    assert answer(client_k) == {
        "error": "Currency pair not supported XX/YY",
        "method": "subscribe",
        "req_id": 1,
        "success": False,
        "symbol": "XX/YY",
    }
    assert answer(client_k)["success"]
    assert venue_k.accept().subscriptions == {"ticker:BTC/USD"}


def test_kraken_refuses_a_depth_without_naming_the_symbol(client_k):
    subscribe(client_k, "book", ["BTC/USD"], depth=11)
    assert answer(client_k) == {
        "error": "Subscription depth not supported",
        "method": "subscribe",
        "req_id": 1,
        "success": False,
    }


def test_kraken_unsubscribe_must_match_the_depth(venue_k, client_k):
    subscribe(client_k, "book", ["BTC/USD"], depth=100)
    answer(client_k)
    subscribe(client_k, "book", ["BTC/USD"], method="unsubscribe", depth=10)
    assert not answer(client_k)["success"]
    subscribe(client_k, "book", ["BTC/USD"], method="unsubscribe", depth=100)
    result = {"channel": "book", "depth": 100, "symbol": "BTC/USD"}
    assert answer(client_k)["result"] == result
    assert venue_k.accept().subscriptions == set()


def test_kraken_answers_a_ping(client_k):
    ask(client_k, method="ping", req_id=101)
    assert answer(client_k) == {"method": "pong", "req_id": 101}


def test_kraken_sends_a_snapshot_right_after_the_ack_when_it_has_one(kraken, client_k):
    kraken.set_snapshot("book:BTC/USD", bids=[], asks=[], checksum=0)
    subscribe(client_k, "book", ["BTC/USD", "ETH/USD"])
    assert answer(client_k)["result"]["symbol"] == "BTC/USD"
    snapshot = answer(client_k)
    assert (snapshot["type"], snapshot["data"][0]["symbol"]) == ("snapshot", "BTC/USD")
    assert answer(client_k)["result"]["symbol"] == "ETH/USD"


def test_kraken_sends_no_snapshot_that_is_not_wanted(kraken, client_k):
    kraken.set_snapshot("book:BTC/USD", bids=[], asks=[], checksum=0)
    subscribe(client_k, "book", ["BTC/USD"], snapshot=False)
    answer(client_k)
    ask(client_k, method="ping")
    assert answer(client_k) == {"method": "pong"}


def test_kraken_data_keeps_the_text_of_numbers(venue_k, client_k):
    subscribe(client_k, "ticker", ["BTC/USD"])
    answer(client_k)
    venue_k.publish("ticker:BTC/USD", bid=Decimal("1.10"), ask=msgspec.Raw(b"0.00000010"))
    assert client_k.recv(timeout=5) == (
        '{"channel":"ticker","type":"update",'
        '"data":[{"symbol":"BTC/USD","bid":1.10,"ask":0.00000010}]}'
    )


def test_kraken_channel_without_symbols(venue_k, client_k):
    ask(client_k, method="subscribe", params={"channel": "instrument"})
    assert answer(client_k)["result"]["channel"] == "instrument"
    venue_k.publish("instrument", type="snapshot", pairs=[])
    assert answer(client_k) == {
        "channel": "instrument",
        "type": "snapshot",
        "data": [{"pairs": []}],
    }


def test_kraken_heartbeats_once_something_is_subscribed(dial):
    with FakeVenue(KrakenProtocol(heartbeat=0.01)) as venue:
        client = dial(venue)
        client.recv(timeout=5)
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.05)
        subscribe(client, "ticker", ["BTC/USD"])
        assert answer(client)["success"]
        assert [answer(client), answer(client)] == [{"channel": "heartbeat"}] * 2


def test_late_kraken_heartbeat_does_not_outlive_the_peer(dial):
    with FakeVenue(KrakenProtocol(heartbeat=0.01)) as venue:
        client = dial(venue)
        subscribe(client, "ticker", ["BTC/USD"])
        peer = venue.accept()
        venue.wait_for(functools.partial(lambda peer, _: len(peer.journal) > 3, peer))
        peer.rst()
        sent = len(peer.journal)
        peer.wait_closed()
        assert len(peer.journal) == sent


# Other venues. The tests of `wsclient serve` check that their dialects get all they need.


def request_of(name):
    """Return the subscribe to the first channel of a venue, signed now where that is needed."""
    protocol = venues.find(name)
    channels, options = protocol.channels()[:1], {}
    if protocol.dialect.needs_credentials(channels[0], {}):
        credentials = Credentials(FakeVenue(name).credentials, time.time)
        options = protocol.dialect.access(channels, credentials)
    return protocol.dialect.subscribe(channels, 7, options)


WITH_ID = [name for name in venues.NAMES if any(v in (7, "7") for v in request_of(name).values())]
MALFORMED = (
    b"\x00",
    "no json",
    "[]",
    "{}",
    '{"method":"SUBSCRIBE","params":5,"id":1}',
    '{"method":"subscribe","params":5}',
    '{"method":"subscribe","params":{"channel":[],"symbol":5}}',
    '{"op":"subscribe"}',
    '{"op":"subscribe","args":5}',
    '{"op":"subscribe","args":[1,{}]}',
    '{"type":"subscribe","channels":5}',
    '{"type":"subscribe","channels":[5,{"name":[],"product_ids":5}]}',
    '{"method":"public/subscribe","params":5}',
    '{"method":"public/set_heartbeat","params":{"interval":"x"}}',
)


@pytest.mark.parametrize("name", venues.NAMES)
def test_malformed_requests_break_nothing(name, dial):
    with FakeVenue(name) as venue:
        client = dial(venue)
        for payload in MALFORMED:
            client.send(payload)
        venue.wait_for(lambda v: v.peers and len(v.peers[0].received) == len(MALFORMED))
        ask(client, **request_of(name))
        venue.wait_for(lambda v: v.peers[0].subscriptions and v.live)


@pytest.mark.parametrize("name", WITH_ID)
def test_an_answer_carries_the_id_unless_it_is_muted(name, dial):
    with FakeVenue(name) as venue:
        client = dial(venue)
        if name == "kucoin":
            assert answer(client)["type"] == "welcome"
        venue.mute_acks()
        ask(client, **request_of(name))
        (peer,) = venue.wait_for(lambda v: v.subscribers())
        venue.mute_acks(False)
        ask(
            client,
            **{key: 8 if value in (7, "7") else value for key, value in request_of(name).items()},
        )
        answers = iter(lambda: json.loads(client.recv(timeout=5)), None)
        ids = (each.get("id", each.get("req_id", each.get("subId"))) for each in answers)
        ours = {"kucoin": "8"}.get(name, 8)  # KuCoin answers in text
        assert next(number for number in ids if number is not None) == ours
        assert len(peer.subscriptions) == 1


@pytest.mark.parametrize(
    ("name", "ping", "pong"),
    [
        ("okx", "ping", "pong"),
        (
            "bybit",
            '{"op":"ping","req_id":"1"}',
            '{"success":true,"ret_msg":"pong","conn_id":"1","req_id":"1","op":"ping"}',
        ),
    ],
)
def test_pings_in_the_venues_own_words(name, ping, pong, dial):
    with FakeVenue(name) as venue:
        client = dial(venue)
        client.send(ping)
        assert client.recv(timeout=5) == pong


def test_binance_sends_ping_frames(dial, monkeypatch):
    monkeypatch.setattr(BinanceProtocol, "PING", 0.01)
    with FakeVenue("binance") as venue:
        dial(venue)
        peer = venue.accept()
        assert [peer.expect_pong(), peer.expect_pong()] == [b"1", b"1"]


def test_binance_serves_its_books_by_rest():
    protocol = BinanceProtocol()
    protocol.snapshots["btcusdt@depth@100ms"] = '{"lastUpdateId":1}'
    assert protocol.http("/api/v3/depth?symbol=BTCUSDT&limit=5") == b'{"lastUpdateId":1}'
    for path in ("/api/v3/depth?symbol=X", "/api/v3/depth", "/time?symbol=BTCUSDT", "/"):
        assert protocol.http(path) is None


def test_a_snapshot_may_be_a_function(dial):
    protocol = OKXProtocol()
    made = iter(["first", "second"])
    protocol.snapshots["trades:BTC-USDT"] = lambda: next(made)
    with FakeVenue(protocol) as venue:
        client = dial(venue)
        for snapshot in ("first", "second"):
            ask(client, **request_of("okx"))
            assert json.loads(client.recv(timeout=5))["event"] == "subscribe"
            assert client.recv(timeout=5) == snapshot


@pytest.mark.parametrize(
    ("protocol", "channel", "listed"),
    [
        (KrakenProtocol, "book:BTC/USD", ("BTC/USD", Depth)),
        (KrakenProtocol, "book:", None),
        (KrakenProtocol, "instrument", None),
        (BinanceProtocol, "btcusdt@aggTrade", ("btcusdt", MarketTrade)),
        (BinanceProtocol, "@trade", None),
        (GenericProtocol, "ticker:a", ("a", MarketQuote)),
        (GenericProtocol, "anything", ("anything", MarketTrade)),
    ],
)
def test_the_symbol_and_kind_of_a_channel(protocol, channel, listed):
    assert protocol().listing(channel) == listed


@pytest.mark.parametrize("protocol", [GenericProtocol, KrakenProtocol, BinanceProtocol])
def test_the_default_channels_exist(protocol):
    channels = protocol.channels()
    assert len(channels) >= 6
    assert all(map(protocol().listing, channels))


def test_coinbase_answers_with_all_subscribed_channels(dial):
    with FakeVenue("coinbase_exchange", channels=["ticker:A", "level2_batch:A"]) as venue:
        client = dial(venue)
        for name, products in (("ticker", ["A", "B"]), ("level2_batch", ["A"])):
            ask(client, type="subscribe", channels=[{"name": name, "product_ids": products}])
        error = json.loads(client.recv(timeout=5))
        assert error["reason"].startswith(
            "B is not a valid product: there is no channel 'ticker:B' here"
        )
        ticker, book = ({"name": n, "product_ids": ["A"]} for n in ("ticker", "level2_50"))
        assert json.loads(client.recv(timeout=5))["channels"] == [ticker]
        assert json.loads(client.recv(timeout=5))["channels"] == [book, ticker]
        ask(client, type="unsubscribe", channels=[ticker])
        assert json.loads(client.recv(timeout=5))["channels"] == [book]


def test_deribit_sends_the_requested_heartbeats(dial, monkeypatch):
    monkeypatch.setattr(deribit, "repeat", lambda peer, interval, send: send())
    with FakeVenue("deribit") as venue:
        client = dial(venue)
        ask(client, id=1, method="public/set_heartbeat", params={"interval": 10})
        assert json.loads(client.recv(timeout=5))["params"] == {"type": "test_request"}
        assert json.loads(client.recv(timeout=5)) == {"jsonrpc": "2.0", "id": 1, "result": "ok"}
        ask(client, id=2, method="public/test")
        assert "version" in json.loads(client.recv(timeout=5))["result"]
        ask(client, id=3, method="public/nonsense")
        assert json.loads(client.recv(timeout=5))["error"]["code"] == -32601


def test_deribit_names_the_action_of_each_level():
    one, two, three = (Decimal(n) for n in (1, 2, 3))
    depth = Depth(
        [(one, two), (two, Decimal(0))], [(three, one)], ([], []), ([(two, one)], [(three, two)])
    )
    fields = DeribitProtocol().fields("book.A.100ms", depth)
    assert fields["bids"] == [("new", one, two), ("delete", two, 0)]
    assert fields["asks"] == [("change", three, one)]
