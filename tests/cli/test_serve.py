"""``wsclient serve`` with real clients, in this process or as a command of its own."""

import io
import json
import re
import signal
import socket
import threading
import time
from contextlib import ExitStack

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect as websocket

import wsclient
from support.helpers import until
from support.madefiles import MadeRecording
from wsclient import dialects
from wsclient.cli import _SERVED, main, make_parser, serve
from wsclient.recording.records import Happened
from wsclient.testing import venues
from wsclient.testing.market import Depth, MarketQuote, MarketTrade


def channels_of(name):
    """Return a channel of trades of a dialect, one of quotes, and the symbol of a book, or None."""
    protocol = venues.find(name)
    first = {protocol.kinds[pattern]: pattern for pattern in reversed(protocol.patterns)}
    symbol = protocol.symbols[0]
    has_books = Depth in first
    return (
        first[MarketTrade].format(symbol),
        first[MarketQuote].format(symbol),
        symbol if has_books else None,
    )


#: The venues that have market data.
MARKETS = [name for name in venues.NAMES if venues.find(name).kinds]
CHANNELS = {name: channels_of(name) for name in MARKETS}
WITH_BOOKS = [name for name, (*_, symbol) in CHANNELS.items() if symbol]
#: The longest time (s) to end on a signal: 1 s, and 1 s more for a busy machine.
PROMPTLY = 2.0


@pytest.fixture
def serving():
    """Start a service with the options of the command line."""
    with ExitStack() as stack:

        def start(*options):
            rate = [] if {"--rate", "--replay"} & set(options) else ["--rate", "400"]
            args = make_parser().parse_args(["serve", "--port", "0", *rate, *options])
            said = io.StringIO()
            service = stack.enter_context(serve.Service(args, said))
            service.said = said.getvalue
            thread = threading.Thread(target=service.run)
            thread.start()
            stack.callback(thread.join)
            stack.callback(service.stop)
            return service

        yield start


@pytest.fixture
def connect():
    """Connect clients to a service, as its introduction says."""
    with ExitStack() as stack:

        def connect(service, **options):
            code = list(service.introduction())[-1].partition("client = ")[2]
            namespace = {"wsclient": wsclient, "options": {"retry_delay": 0.01, **options}}
            client = eval(code[:-1] + ", **options)", namespace)
            return stack.enter_context(client)

        yield connect


def first(client, condition):
    """Return the client's first message that meets the condition."""
    deadline = time.monotonic() + 10
    while True:
        message = client.recv(timeout=max(0.0, deadline - time.monotonic()))
        if condition(message):
            return message


def with_gap(client, *reasons):
    return first(client, lambda m: m.gap is not None and m.gap.reason in reasons)


def said_until(service, text):
    """Wait until the service has printed ``text``, and return all that it printed."""
    until(lambda: text in service.said())
    return service.said()


# What is served


def test_every_protocol_is_that_of_a_dialect():
    assert set(venues.NAMES) <= set(dialects.NAMES)
    assert [venues.find(name).dialect.name for name in venues.NAMES] == list(venues.NAMES)
    assert venues.NAMES == _SERVED


@pytest.mark.parametrize("dialect", MARKETS)
def test_a_client_gets_the_channels_that_it_subscribes_to(dialect, serving, connect):
    client = connect(serving("--dialect", dialect))
    trades, quotes, _ = CHANNELS[dialect]
    client.subscribe(trades, quotes, timeout=5)
    seen = {client.recv(timeout=5).channel for _ in range(40)}
    assert seen == {trades, quotes}
    client.unsubscribe(trades, timeout=5)
    client.recv_batch(timeout=5)
    assert {client.recv(timeout=5).channel for _ in range(20)} == {quotes}
    stats = client.stats()
    assert (stats.gaps, stats.invalid, stats.unhandled) == (0, 0, 0)


@pytest.mark.parametrize("dialect", MARKETS)
def test_a_channel_that_does_not_exist_is_refused_with_the_reason(dialect, serving, connect):
    trades, quotes, _ = CHANNELS[dialect]
    client = connect(serving("--dialect", dialect, "--channel", quotes))
    client.subscribe(quotes, timeout=5)
    said = f"there is no channel '{trades}' here"
    if dialect == "deribit":
        said = "not among the channels of the answer"
    with pytest.raises(wsclient.SubscriptionRejected, match=said):
        client.subscribe(trades, timeout=5)
    assert client.recv(timeout=5).channel == quotes


@pytest.mark.parametrize("dialect", WITH_BOOKS)
def test_a_book_equals_the_venues_to_the_digit(dialect, serving, connect):
    service = serving("--dialect", dialect)
    client = connect(service)
    book = client.order_book(CHANNELS[dialect][2], timeout=5)
    at = book.received_at or 0
    until(lambda: (book.received_at or 0) > at + 10**8)
    service.feed.stop()
    bids, asks, *_ = service.feed.listings[book.channel].snapshot()
    assert len(bids) == len(asks) == 10
    until(lambda: (book.bids(), book.asks()) == (bids, asks))
    assert book.best_bid.price < book.best_ask.price
    assert client.stats().gaps == 0


def test_the_checksum_of_a_kraken_book_detects_a_missing_message(serving, connect):
    """Kraken numbers no messages: only the checksum can show it."""
    client = connect(serving("--dialect", "kraken", "--fault", "gap:every=50"))
    book = client.order_book("BTC/USD", timeout=5)
    until(lambda: re.search("out of sync: .*(checksum|crossed)", repr(book)))
    book.wait_synced(5)


# Faults, as a real client sees them


def test_gap(serving, connect):
    client = connect(serving("--fault", "gap:every=10"))
    client.subscribe("BTC-USD")
    message = with_gap(client, "sequence")
    assert message.gap.missed == 1
    assert message.connection_id == 1


def test_duplicate(serving, connect):
    client = connect(serving("--fault", "duplicate:every=10"))
    client.subscribe("BTC-USD")
    assert with_gap(client, "duplicate").gap.missed == 0


def test_garbage(serving, connect):
    client = connect(serving("--fault", "garbage:every=10"))
    client.subscribe("BTC-USD")
    with_gap(client, "invalid")
    assert client.stats().invalid >= 1


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("rst:every=300ms", "reset by peer"),
        ("fin:every=300ms", "without a close frame"),
        ("close:code=1012,every=300ms", "1012"),
        ("down:every=400ms,for=100ms", "refused|reset"),
    ],
)
def test_a_connection_that_ends(fault, said, serving, connect, caplog):
    service = serving("--fault", fault)
    client = connect(service)
    client.subscribe("BTC-USD")
    message = with_gap(client, "reconnect")
    assert message.connection_id >= 2
    assert message.gap.missed is not None
    assert re.search(said, caplog.text)
    said_until(service, f"client 1   fault {fault}\n")


def test_deaf(serving, connect):
    service = serving("--fault", "deaf:every=400ms")
    client = connect(service, ping_interval=0.05, ping_timeout=0.1)
    client.subscribe("BTC-USD")
    assert with_gap(client, "reconnect").connection_id >= 2


def test_silence(serving, connect):
    service = serving("--fault", "silence:after=60m,for=100ms")
    client = connect(service)
    client.subscribe("BTC-USD")
    first(client, lambda message: True)
    service.strike(*service.faults)  # at a time, it could discard the answer to subscribe()
    message = with_gap(client, "sequence")
    assert message.gap.missed > 1
    assert message.connection_id == 1


def test_silence_is_detected(serving, connect, caplog):
    service = serving("--fault", "silence:after=60m,for=30m")
    client = connect(service, silence_timeout=0.5)
    client.subscribe("BTC-USD")
    first(client, lambda message: True)
    service.strike(*service.faults)
    assert with_gap(client, "reconnect").connection_id == 2
    assert "no frame but pongs for 0.5 s" in caplog.text


def test_reject(serving, connect):
    client = connect(serving("--fault", "reject:channel=ETH-USD"))
    with pytest.raises(wsclient.SubscriptionRejected) as caught:
        client.subscribe("BTC-USD", "ETH-USD")
    assert caught.value.failed == {"ETH-USD": "refused by --fault reject:channel=ETH-USD"}


def test_a_refused_handshake(serving, connect):
    client = connect(serving("--fault", "503:first=2"))
    assert client.stats().dials == 3
    with pytest.raises(wsclient.ConnectError, match="503"):
        connect(serving("--fault", "503:first=3"))


def test_latency(serving, connect):
    service = serving("--fault", "latency:ms=100")
    start = time.monotonic()
    client = connect(service)
    assert time.monotonic() - start >= 0.2  # there and back
    client.subscribe("BTC-USD")
    assert time.monotonic() - start >= 0.4


@pytest.fixture
def dial():
    """Connect a client that does nothing by itself to a service."""
    with ExitStack() as stack:
        yield lambda service: stack.enter_context(websocket(service.url, close_timeout=1))


def until_closed(client):
    """Return what a connection still gets, and the code of its close frame."""
    got = []
    try:
        while True:
            got.append(client.recv(timeout=5))
    except ConnectionClosed as end:
        return got, end.rcvd.code


def test_an_announced_shutdown(serving, dial):
    client = dial(serving("--fault", "shutdown:every=300ms,for=50ms"))
    notice = '{"type":"ending","reason":"shutdown"}'
    assert until_closed(client) == ([notice], 1001)


def test_the_maximum_age_of_a_connection(serving, dial):
    assert until_closed(dial(serving("--max-age", "0.1"))) == ([], 1001)


def test_the_most_channels_of_a_connection(serving, dial):
    client = dial(serving("--max-channels", "1", "--rate", "0.001"))
    for channel in ("BTC-USD", "ETH-USD"):
        client.send(json.dumps({"type": "subscribe", "channel": channel}))
    answers = [json.loads(client.recv(timeout=5)) for _ in range(2)]
    assert [answer.get("code") for answer in answers] == [None, "limit"]


def test_events_are_printed_with_time_and_client(serving, connect):
    service = serving("--fault", "gap:every=10")
    client = connect(service)
    client.subscribe("BTC-USD")
    with_gap(client, "sequence")
    client.close()
    said = said_until(service, "gone")
    lines = [re.sub(r"^\d\d:\d\d:\d\d\.\d{3}  client 1   ", "", line) for line in said.splitlines()]
    assert lines[:3] == [
        "connected",
        "subscribed to BTC-USD",
        "fault gap:every=10: message 10, channel BTC-USD",
    ]
    assert lines[-1] == "gone: client close 1000"


def test_a_client_that_does_not_read_is_disconnected(serving, monkeypatch):
    monkeypatch.setattr(serve, "MAX_BACKLOG", 1000)
    service = serving()
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    head = f"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{key}\r\n"
    request = json.dumps({"type": "subscribe", "channel": "BTC-USD"}).encode()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", service.venue.port))
        sock.sendall(head.encode() + Frame(Opcode.TEXT, request).serialize(mask=True))
        (peer,) = service.venue.wait_for(lambda v: v.subscribers("BTC-USD"))
        service.venue.broadcast("x" * 20_000_000, "BTC-USD")  # more than sockets hold
        peer.wait_closed()
    said_until(service, "client 1   does not read: disconnected\n")


# A replay


def trade(n, symbol="A/B"):
    return f'{{"channel":"trade","type":"update","data":[{{"symbol":"{symbol}","trade_id":{n}}}]}}'


TRADES = [trade(n) for n in range(100)]


@pytest.fixture
def recording(tmp_path):
    """Write a recording, with times (ms) or without."""

    def write(lines, times=()):
        path = tmp_path / "recording"
        text = "\n".join(lines)
        if times:
            parts = zip(times, lines, strict=True)
            text = "".join(f"{ms * 10**6} {len(line)}\n{line}\n" for ms, line in parts)
            text = f"CBCAP1 kraken\n{text}"
        path.write_text(text)
        return str(path)

    return write


def received(client, count):
    return [client.recv(timeout=5).raw.decode() for _ in range(count)]


def test_a_replay_delivers_the_lines_in_order(serving, connect, recording):
    path = recording([*TRADES, trade(1, "C/D")])
    service = serving("--dialect", "kraken", "--replay", path, "--speed", "max")
    client = connect(service)
    client.subscribe("trade:A/B")
    assert received(client, len(TRADES)) == TRADES
    said_until(service, "replay     ended: 100 sent, 1 skipped without a subscriber\n")


def test_a_replay_without_times_has_a_rate(serving, connect, recording):
    client = connect(serving("--dialect", "kraken", "--replay", recording(TRADES), "--rate", "100"))
    start = time.monotonic()
    client.subscribe("trade:A/B")
    received(client, 31)
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize(("speed", "least"), [("1", 0.4), ("2", 0.2), ("max", 0.0)])
def test_a_replay_has_the_recorded_or_the_given_speed(speed, least, serving, connect, recording):
    path = recording(TRADES[:3], times=[1000, 1100, 1400])
    if speed == "max":
        path = recording(TRADES[:3], times=[1000, 1100, 10**7])
    client = connect(serving("--dialect", "kraken", "--replay", path, "--speed", speed))
    start = time.monotonic()
    client.subscribe("trade:A/B")
    assert received(client, 3) == TRADES[:3]
    assert time.monotonic() - start >= least


def test_a_replay_with_loop_restarts_at_its_end(serving, connect, recording):
    path = recording(TRADES)
    client = connect(serving("--dialect", "kraken", "--replay", path, "--speed", "max", "--loop"))
    client.subscribe("trade:A/B")
    assert received(client, 250) == [*TRADES, *TRADES, *TRADES[:50]]


ORDER = {"instIdCode": 1, "tdMode": "cash", "side": "buy", "ordType": "limit", "px": "1", "sz": "1"}


def credentials_in(service):
    line = next(line for line in service.introduction() if line.startswith("Credentials "))
    return json.loads(line.partition("orders: ")[2])


def test_the_printed_credentials_log_in(serving, connect):
    service = serving("--dialect", "okx", "--channel", "trades:BTC-USDT")
    client = connect(service, credentials=credentials_in(service))
    client.subscribe("orders", "trades:BTC-USDT", timeout=5)
    order = {**ORDER, "clOrdId": "mine"}
    client.request({"op": "order", "args": [order]})
    reported = first(client, lambda m: m.channel == "orders").data["data"][0]
    assert (reported["clOrdId"], reported["state"]) == ("mine", "live")
    said_until(service, "logged in with the key fake...\n")


def test_a_token_comes_from_the_printed_address(serving, connect):
    service = serving("--dialect", "kraken", "--fault", "latency:ms=1")
    client = connect(service, credentials=credentials_in(service))
    client.subscribe("balances", timeout=5)
    assert client.recv(timeout=5).type == "snapshot"


@pytest.mark.parametrize(
    ("fault", "error"),
    [("cut:every=2", wsclient.OutcomeUnknown), ("unanswered:every=2", TimeoutError)],
)
def test_every_nth_order_has_no_answer(fault, error, serving, connect):
    service = serving("--dialect", "okx", "--rate", "1", "--fault", fault)
    client = connect(service, credentials=credentials_in(service))
    client.request({"op": "order", "args": [ORDER]})
    with pytest.raises(error):
        client.request({"op": "order", "args": [ORDER]}, timeout=0.2)
    assert len(service.venue.account.orders) == 2
    said_until(service, "acted on a request, but withheld the answer\n")


def test_a_dialect_without_a_login_has_no_credentials(serving):
    assert "Credentials" not in "".join(serving().introduction())


def test_a_replay_can_have_faults(serving, connect, recording):
    path = recording([book(n) for n in range(1, 10)])
    client = connect(serving("--dialect", "okx", "--replay", path, "--fault", "gap:every=4"))
    client.subscribe("books:A-B")
    assert with_gap(client, "sequence").sequence == 5


def book(n):
    arg = {"channel": "books", "instId": "A-B"}
    row = {"asks": [], "bids": [], "seqId": n, "prevSeqId": n - 1}
    return json.dumps({"arg": arg, "action": "update", "data": [row]})


@pytest.fixture
def folder(tmp_path):
    """A folder with a recording of Kraken, with a disconnect."""
    with MadeRecording(tmp_path, "kraken") as made:
        made.frame(trade(1))
        fields = {"why": "going away", "reason": "closed", "code": 1001, "data_age": None}
        made.note(Happened(at=0, name="Disconnected", fields=fields, connection_id=1))
        made.frame(trade(2), connection_id=2)
    return str(tmp_path)


def test_a_folder_is_replayed_with_its_dialect_and_disconnects(folder, serving, connect):
    client = connect(serving("--replay", folder))
    client.subscribe("trade:A/B")
    assert received(client, 2) == [trade(1), trade(2)]
    assert client.stats().disconnects == 1


def end_of(service):
    """Subscribe, and return the close frame that ends the connection."""
    with websocket(service.url) as client:
        params = {"channel": "trade", "symbol": ["A/B"]}
        client.send(json.dumps({"method": "subscribe", "params": params}))
        try:
            while True:
                client.recv(timeout=5)
        except ConnectionClosed as error:
            return error.rcvd.code, error.rcvd.reason


def test_the_end_of_a_replay_is_said_to_its_clients(folder, serving):
    service = serving("--replay", folder, "--speed", "max")
    assert end_of(service) == (1001, "going away")
    assert end_of(service) == (1001, "the replay has ended")
    said_until(service, "replay     ended: 2 sent")
    with pytest.raises(InvalidStatus, match="410"):
        websocket(service.url)


def test_a_folder_of_two_venues_needs_a_dialect(folder, tmp_path, capsys):
    with MadeRecording(tmp_path, session="2") as made:
        made.frame({"type": "market_data", "channel": "a", "sequence": 1})
    assert main(["serve", "--replay", folder]) == 2
    assert "recordings of" in capsys.readouterr().err
    assert main(["serve", "--replay", folder, "--dialect", "okx"]) == 2
    assert "it is a recording of generic, kraken" in capsys.readouterr().err


# The command


def test_the_printed_commands_reach_it(command):
    run = command("serve", "--dialect", "binance", "--port", "0", "--rate", "200")
    run.wait_for("wsclient.connect")
    lines = run.out.splitlines()
    assert re.match(r"binance on ws://127\.0\.0\.1:\d+/  9 channels, 200 messages/s", lines[0])
    tail = next(line for line in lines if line.startswith("  wsclient tail "))
    reader = command(*tail.split()[1:], "--count", "3")
    assert reader.end() == 0
    assert reader.out.count("btcusdt@trade") >= 3
    namespace = {}
    exec(lines[-1].strip(), namespace)
    with namespace["client"] as client:
        assert client.order_book("BTCUSDT", timeout=5).is_synced
    run.signal(signal.SIGTERM)
    assert "GET /depth?symbol=BTCUSDT" in run.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_its_connections(command, number):
    run = command("serve", "--port", "0")
    run.wait_for("wsclient.connect")
    url = re.search(r"ws://\S+", run.out).group()
    with wsclient.connect(url, max_reconnects=0) as client:
        client.subscribe("BTC-USD")
        client.recv(timeout=5)
        run.wait_for("subscribed to BTC-USD")
        assert run.signal(number) < PROMPTLY
        assert run.end() == 128 + number
        with pytest.raises(wsclient.ReconnectError):
            list(client)
    assert "Traceback" not in run.err


def test_a_failure_to_start_is_one_line(serving, command):
    port = str(serving().venue.port)
    for args, said in (
        (["--port", port], f"port {port} of 127.0.0.1 is in use; --port 0 takes any that is free"),
        (["--host", "192.0.2.1"], "cannot listen on port 8765 of 192.0.2.1: "),
        (["--replay", "/no/such/file"], "[Errno 2] No such file or directory: '/no/such/file'"),
    ):
        run = command("serve", *args)
        assert run.end() == 1
        assert run.err.startswith(f"wsclient: {said}")
        assert run.err.count("\n") == 1
        assert run.out == ""


def test_listening_on_all_interfaces_warns(serving, connect):
    service = serving("--host", "0.0.0.0")
    assert service.url.startswith("ws://0.0.0.0:")
    said_until(service, "warning: on 0.0.0.0 anyone who reaches this machine can connect\n")
    service = serving("--host", "localhost")
    connect(service)
    assert "warning" not in said_until(service, "connected")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--dialect", "karken"], "serve does not speak karken, only "),
        (
            ["--dialect", "okx", "--channel", "x"],
            "has no channel 'x'; its channels look like trades:BTC-USDT, ",
        ),
        (["--port", "65536"], "'65536' is not a port"),
        (["--rate", "0"], "'0' is not a number of at least 0.001"),
        (["--speed", "max"], "--speed and --loop need --replay FILE"),
        (
            ["--fault", "reject:channel=x"],
            "--fault reject:channel=x: the venue has no such channel",
        ),
        (
            ["--dialect", "kucoin", "--fault", "cut:every=1"],
            "--fault cut:every=1: kucoin takes no orders here",
        ),
        (
            ["--dialect", "kraken", "--fault", "shutdown:after=1s,for=1s"],
            "--fault shutdown:after=1s,for=1s: kraken has no such notice",
        ),
        (["--max-age", "0"], "'0' is not a number of at least 0.1"),
        (["--max-channels", "0"], "'0' is not"),
        (["--loop"], "--speed and --loop need --replay FILE"),
        (["--fault", "rst"], "'every' or 'after' is missing; for example rst:every=30s"),
        (["--replay", "FILE", "--channel", "a"], "--channel does not go with --replay"),
        (["--replay", "FILE", "--speed", "1", "--rate", "1"], "not both"),
        (["--replay", "FILE", "--dialect", "kraken", "--speed", "2"], "--speed max or --rate N"),
        (["--replay", "FILE", "--dialect", "okx"], "no market data of okx"),
    ],
)
def test_usage_errors(args, said, recording, capsys):
    if "FILE" in args:
        path = recording(TRADES)
        args = [path if arg == "FILE" else arg for arg in args]
        if "--dialect" not in args:
            args += ["--dialect", "kraken"]
    assert main(["serve", *args]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""
