import gzip
import json
import threading
import time
import zlib
from decimal import Context, Decimal, Inexact, Rounded, localcontext
from pathlib import Path

import pytest

import wsclient
import wsclient.dialects
from support.matrix import each_size
from wsclient.testing import FakeVenue, Replay, read_recording

RECORDED = Path(__file__).parents[3] / "shared" / "recorded"
needs_recordings = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="no recorded venue traffic at ../shared/recorded"
)
KRAKEN = RECORDED / "kraken" / "kraken_btcusd_l2.jsonl"

# (connected, sent, received, http)
COUNTS = {
    "binance/BINANCE.http.0.0": (0, 0, 0, 4),
    "binance/BINANCE.ws.1.0": (1, 0, 265, 0),
    "binance_futures/BINANCE_FUTURES.http.0.0": (0, 0, 0, 4),
    "binance_futures/BINANCE_FUTURES.ws.1.0": (1, 0, 1535, 0),
    "bitfinex/BITFINEX.ws.11.0": (1, 22, 1693, 0),
    "bitstamp/BITSTAMP.http.0.0": (0, 0, 0, 10),
    "bitstamp/BITSTAMP.ws.1.0": (1, 20, 747, 0),
    "bybit/2024-12-01_XRPUSDT_ob500.data": (0, 0, 50, 0),
    "coinbase_exchange/COINBASE.ws.28.0": (1, 3, 9946, 0),
    "deribit/DERIBIT.ws.1.0": (1, 1, 136, 0),
    "gemini/GEMINI.ws.1.0": (1, 1, 678, 0),
    "htx/HUOBI.ws.44.0": (1, 26, 362, 0),
    "kraken/KRAKEN.ws.48.0": (1, 1, 49, 0),
    "kraken/KRAKEN.ws.49.0": (1, 1, 60, 0),
    "kraken/kraken_btcusd_l2.cbcap": (0, 0, 377, 0),
    "kraken/kraken_btcusd_l2.jsonl": (0, 0, 377, 0),
    "kucoin/KUCOIN.http.0.0": (0, 0, 0, 9),
    "kucoin/KUCOIN.ws.1.0": (1, 13, 4721, 0),
    "okx/OKX.ws.1.0": (1, 3, 410, 0),
}


# Reading


def test_times_are_exact_whatever_the_programs_decimal_context(tmp_path):
    path = tmp_path / "X.ws.1.0"
    path.write_bytes(b"1638316800.123456789: {}\n")
    with localcontext(Context(prec=2, traps=[Inexact, Rounded])):
        (item,) = read_recording(path)
    assert item.time == 1638316800123456789


@needs_recordings
@pytest.mark.parametrize("name", COUNTS)
def test_every_recording_is_read_whole(name):
    items = read_recording(RECORDED / name)
    directions = [item.direction for item in items]
    kinds = ("connected", "sent", "received", "http")
    assert tuple(directions.count(kind) for kind in kinds) == COUNTS[name]
    times = [item.time for item in items if item.time is not None]
    assert times == sorted(times)
    for item in items:
        if item.direction != "connected":
            payload = item.payload
            json.loads(gzip.decompress(payload) if payload[:2] == b"\x1f\x8b" else payload)


@needs_recordings
def test_every_recording_is_tested():
    found = {
        str(path.relative_to(RECORDED))
        for path in RECORDED.rglob("*")
        if path.is_file() and "shapes" not in path.parts and path.suffix != ".md"
    }
    assert found == set(COUNTS)


@needs_recordings
def test_both_forms_of_the_kraken_recording_hold_the_same_payloads():
    captured = read_recording(KRAKEN.with_suffix(".cbcap"))
    assert [i.payload for i in captured] == [i.payload for i in read_recording(KRAKEN)]


def test_each_form_of_line_is_recognized():
    lines = [
        "wss://venue/ws <-> 1618678069.5",
        'wss://venue/ws <- 1618678070.000000001: {"sub": 1}',
        "1618678071: b'\\x1f\\x8b'",
        'https://venue/book -> 1618678072.25: {"a": ": "}',
    ]
    assert [(i.direction, i.time, i.payload, i.uri) for i in read_recording(lines)] == [
        ("connected", 1618678069_500000000, b"", "wss://venue/ws"),
        ("sent", 1618678070_000000001, b'{"sub": 1}', "wss://venue/ws"),
        ("received", 1618678071_000000000, b"\x1f\x8b", None),
        ("http", 1618678072_250000000, b'{"a": ": "}', "https://venue/book"),
    ]


@pytest.mark.parametrize("lines", [["no recording"], ["CBCAP1 x", "1 two", "{}"]])
def test_other_content_is_an_error(lines):
    with pytest.raises(ValueError, match="not "):
        read_recording(lines)


def test_the_output_of_tail_is_no_recording():
    line = '{"channel":"a","sequence":1,"received_at":1,"connection_id":1,"gap":null,"data":{}}'
    with pytest.raises(ValueError, match="output of 'wsclient tail --json'"):
        read_recording([line, line])


# Replaying


def trade(n, symbol="A/B"):
    return f'{{"channel":"trade","type":"update","data":[{{"symbol":"{symbol}","trade_id":{n}}}]}}'


TRADES = [trade(n) for n in range(1, 7)]


def subscribe(client, channel, symbol, **params):
    """Subscribe and return the ack."""
    params = {"channel": channel, "symbol": [symbol], **params}
    client.send(json.dumps({"method": "subscribe", "params": params}))
    while "method" not in (message := json.loads(client.recv(timeout=5))):
        pass
    return message


def receive(client, count):
    return [client.recv(timeout=5) for _ in range(count)]


def test_lines_go_to_the_subscriber_in_order_and_unchanged(dial):
    replay = Replay(TRADES)
    with FakeVenue(replay) as venue:
        client = dial(venue)
        subscribe(client, "trade", "A/B")
        assert replay.play(venue, 2) == 2
        assert replay.play(venue) == 4
        assert replay.play(venue) == 0
        assert receive(client, 6) == TRADES


def test_recorded_answers_and_status_are_not_replayed():
    noise = ['{"channel":"status","data":[{}]}', '{"method":"pong"}', '{"method":"subscribe"}']
    assert Replay([*noise, TRADES[0]]).lines == [TRADES[0]]


def test_lines_without_a_subscriber_are_counted_as_missed(dial):
    replay = Replay(TRADES)
    with FakeVenue(replay) as venue:
        replay.play(venue, 4)
        client = dial(venue)
        subscribe(client, "trade", "A/B")
        replay.play(venue)
        assert receive(client, 2) == TRADES[4:]
        assert replay.missed == 4


def test_held_lines_wait_for_a_subscriber(dial):
    replay = Replay(TRADES, hold=True)
    with FakeVenue(replay) as venue:
        thread = threading.Thread(target=replay.play, args=(venue,))
        thread.start()
        client = dial(venue)
        subscribe(client, "trade", "A/B")
        assert receive(client, 6) == TRADES
        thread.join()
        assert replay.missed == 0


def test_held_line_without_a_subscriber_times_out():
    replay = Replay(TRADES, hold=True)
    with FakeVenue(replay) as venue, pytest.raises(TimeoutError):
        replay.play(venue, timeout=0.01)
    assert replay.cursor == 0


@pytest.mark.parametrize("options", [{"hold": True}, {}])
def test_closing_the_venue_ends_a_replay(options):
    replay = Replay(TRADES, **options)
    with FakeVenue(replay) as venue:
        thread = threading.Thread(target=replay.play, args=(venue,), kwargs={"pace": 60})
        thread.start()
    thread.join(5)
    assert not thread.is_alive()


def test_faults_replace_or_leave_out_single_lines(dial):
    replay = Replay(TRADES)
    replay.faults = {1: None, 3: "broken"}
    with FakeVenue(replay) as venue:
        client = dial(venue)
        subscribe(client, "trade", "A/B")
        replay.play(venue)
        assert receive(client, 5) == [TRADES[0], TRADES[2], "broken", TRADES[4], TRADES[5]]


def test_each_subscriber_gets_its_own_channel_and_all_get_heartbeats(dial):
    beat = '{"channel":"heartbeat"}'
    replay = Replay([trade(1), trade(2, "C/D"), beat])
    with FakeVenue(replay) as venue:
        clients = {symbol: dial(venue) for symbol in ("A/B", "C/D")}
        for symbol, client in clients.items():
            subscribe(client, "trade", symbol)
        replay.play(venue)
        assert receive(clients["A/B"], 2) == [trade(1), beat]
        assert receive(clients["C/D"], 2) == [trade(2, "C/D"), beat]


class Book:
    """An independent Kraken book, which checks its checksums."""

    def __init__(self):
        self.checked = 0

    def apply(self, text):
        message = json.loads(text, parse_float=str, parse_int=str)
        if message["channel"] != "book":
            return
        (item,) = message["data"]
        if message["type"] == "snapshot":
            self.bids, self.asks = {}, {}
        for side, levels in ((self.bids, item["bids"]), (self.asks, item["asks"])):
            for level in levels:
                side[Decimal(level["price"])] = level
                if Decimal(level["qty"]) == 0:
                    del side[Decimal(level["price"])]
        for side, reverse in ((self.bids, True), (self.asks, False)):
            for price in sorted(side, reverse=reverse)[10:]:
                del side[price]
        levels = [self.asks[p] for p in sorted(self.asks)]
        levels += [self.bids[p] for p in sorted(self.bids, reverse=True)]
        texts = [level[key].replace(".", "").lstrip("0") for level in levels for key in level]
        assert zlib.crc32("".join(texts).encode()) == int(item["checksum"]), text
        self.checked += 1


@needs_recordings
def test_replayed_book_holds_its_checksums(dial):
    replay = Replay(KRAKEN)
    with FakeVenue(replay) as venue:
        client = dial(venue)
        subscribe(client, "book", "BTC/USD", depth=10)
        replay.play(venue)
        book = Book()
        for text in receive(client, len(replay.lines)):
            book.apply(text)
        assert book.checked > 250


@needs_recordings
@each_size("cut", short=[1, 112, 334], full=range(1, 340, 37), timeout=60)
def test_subscriber_midway_gets_a_snapshot_that_matches_the_following_lines(dial, cut):
    replay = Replay(KRAKEN)
    with FakeVenue(replay) as venue:
        replay.play(venue, cut)
        client = dial(venue)
        subscribe(client, "book", "BTC/USD", depth=10)
        replay.play(venue)
        book = Book()
        texts = receive(client, 1 + len(replay.lines) - cut)
        assert json.loads(texts[0])["type"] == "snapshot"
        for text in texts:
            book.apply(text)


@needs_recordings
def test_subscribing_while_a_replay_runs_misses_nothing_after_the_snapshot(dial):
    replay = Replay(KRAKEN)
    with FakeVenue(replay) as venue:
        thread = threading.Thread(target=replay.play, args=(venue,), kwargs={"pace": 0.0002})
        thread.start()
        clients = [dial(venue) for _ in range(8)]
        for client in clients:
            subscribe(client, "book", "BTC/USD", depth=10)
        thread.join()
        venue.broadcast("end")
        for client in clients:
            book = Book()
            for text in iter(lambda client=client: client.recv(timeout=5), "end"):
                book.apply(text)
            assert book.checked


@needs_recordings
@each_size("cut", short=[0, 20], full=[1, 45], timeout=60)
@pytest.mark.parametrize(
    ("name", "dialect", "channel", "options"),
    [
        ("kraken/kraken_btcusd_l2.cbcap", "kraken", "book:BTC/USD", {"depth": 10}),
        ("okx/OKX.ws.1.0", "okx", "books:BTC-USDT", {}),
        ("bybit/2024-12-01_XRPUSDT_ob500.data", "bybit", "orderbook.500.XRPUSDT", {}),
        ("coinbase_exchange/COINBASE.ws.28.0", "coinbase_exchange", "level2_batch:NU-GBP", {}),
        ("deribit/DERIBIT.ws.1.0", "deribit", "book.BTC-24SEP21-8000-P.raw", {}),
    ],
)
def test_a_client_that_subscribes_midway_has_the_recorded_book(
    name, dialect, channel, options, cut
):
    replay = Replay(RECORDED / name, dialect)
    whole = wsclient.OrderBook(dialect, channel, **options)
    with (
        FakeVenue(replay, channels=replay.channels) as venue,
        wsclient.connect(venue.url, dialect=dialect) as early,
        wsclient.connect(venue.url, dialect=dialect) as late,
    ):
        late_book = wsclient.OrderBook(dialect, channel, **options)
        early.subscribe(channel, **options)
        replay.play(venue, cut)
        late.subscribe(channel, **options)
        replay.play(venue)
        lines = [line for line in replay.lines if _is_of(dialect, line, channel)]
        for _ in lines:
            assert whole.apply(early.recv(timeout=5))
        while late_book.bids(stale_ok=True) != whole.bids() or late_book.asks() != whole.asks():
            assert late_book.apply(late.recv(timeout=5))
    assert whole.is_synced


def _is_of(dialect, line, channel):
    item = wsclient.dialects.find(dialect).peek(line.encode())
    return getattr(item, "channel", None) == channel


def test_a_replay_has_the_recorded_speed(dial):
    lines = [f"{time}: {line}" for time, line in zip((1.0, 1.05, 1.3), TRADES, strict=False)]
    replay = Replay(["wss://venue/ws <-> 0.5", *lines])
    with FakeVenue(replay) as venue:
        client = dial(venue)
        subscribe(client, "trade", "A/B")
        start = time.monotonic()
        replay.play(venue, speed=2.0)
        assert time.monotonic() - start >= 0.15
        assert receive(client, 3) == TRADES[:3]
        replay.rewind()
        assert replay.play(venue, speed=100.0) == 3


def test_a_recording_without_times_has_no_speed():
    replay = Replay(TRADES)
    assert not replay.has_times
    with FakeVenue(replay) as venue, pytest.raises(ValueError, match="has no times"):
        replay.play(venue, speed=1.0)


def test_the_channels_of_a_recording():
    lines = [trade(1), '{"channel":"heartbeat"}', trade(2, "C/D"), trade(3)]
    assert Replay(lines).channels == ["trade:A/B", "trade:C/D"]


def test_a_book_message_that_cannot_be_read_is_replayed(dial):
    """A client that subscribes after it gets a snapshot again once the recording has one."""

    def book(kind, data):
        return json.dumps({"channel": "book", "type": kind, "data": data})

    rows = [{"symbol": "A/B", "bids": [{"price": 1, "qty": 2}], "asks": [{"price": 3, "qty": 4}]}]
    bad = json.dumps({"channel": "book:A/B", "type": "update", "data": {}})
    lines = [book("snapshot", rows), bad, book("snapshot", rows)]
    replay = Replay(lines)
    with FakeVenue(replay) as venue:
        client = dial(venue)
        subscribe(client, "book", "A/B")
        replay.play(venue, 2)
        assert receive(client, 2) == lines[:2]
        late = dial(venue)
        subscribe(late, "book", "A/B")
        replay.play(venue)
        assert receive(late, 1) == lines[2:]


def test_a_recording_with_numbers_of_its_own_connection_cannot_be_replayed():
    with pytest.raises(ValueError, match="cannot replay bitfinex"):
        Replay(["[5,[1,2,3]]"], "bitfinex")


def test_each_connection_of_a_replay_has_its_own_loss(dial):
    replay = Replay(TRADES)
    with FakeVenue(replay) as venue:
        clients = [dial(venue), dial(venue)]
        for client in clients:
            subscribe(client, "trade", "A/B")
        venue.live[1].lose(1)
        replay.play(venue)
        one, other = ([client.recv(timeout=5) for _ in range(2)] for client in clients)
        assert one == TRADES[:2]
        assert other == TRADES[1:3]
