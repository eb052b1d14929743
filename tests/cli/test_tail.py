"""``wsclient tail`` against a venue on loopback, run for real."""

import json
import re
import signal

import pytest

import wsclient
from support.helpers import Server
from support.proxies import Proxy
from wsclient.testing import FakeVenue, Feed

EXACT = (
    '{"price":1.10,"long":0.100000000000000000000001,"big":123456789012345678901234567890,'
    '"exponent":1.50E+5,"name":"\\u00e9\\/"}'
)

#: The longest time (s) to end on a signal.
PROMPTLY = 1.0
WITHOUT_DELAY = "import random; random.random = float"


def frame(channel, sequence, data):
    return f'{{"type":"market_data","channel":"{channel}","sequence":{sequence},"data":{data}}}'


def subscribed(venue, channel, count=1):
    return venue.wait_for(lambda v: len(v.subscribers(channel)) >= count and v.live[-1])


def test_each_message_is_printed_as_it_arrives(venue, command):
    run = command("tail", venue.url, "a", "longer")
    subscribed(venue, "longer")
    venue.publish("a", bid=1.5, side="buy", levels=[[1, 2]])
    run.wait_for("#1  bid=1.5 side=buy levels=[[1,2]]\n")
    venue.publish("longer", bid=2)
    run.wait_for("bid=2\n")
    first, second = run.out.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}  a       market_data  #1  bid=1\.5 .*", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}  longer  market_data  #1  bid=2", second)


def test_a_gap_is_printed_with_its_reason(venue, command):
    run = command("tail", venue.url, "a")
    peer = subscribed(venue, "a")
    venue.publish("a", n=1)
    run.wait_for("n=1\n")
    with venue.lock:  # all of this before the client can reconnect
        peer.rst()
        for _ in range(12):
            venue.publish("a")
    subscribed(venue, "a")
    venue.publish("a", n=2)
    run.wait_for("n=2\n")
    run.wait_for("open: connection 2")
    assert run.out.splitlines()[1].startswith("-- missed 12 (reconnect)")
    assert run.out.splitlines()[2].endswith("#14  n=2")
    lines = [re.sub(r"^\S+  ", "", line) for line in run.err.splitlines()]
    assert lines[0] == "wsclient: connecting: connection 1, attempt 1"
    assert lines[1] == "wsclient: open: connection 1"
    assert lines[2].startswith("wsclient: disconnected: ")
    assert "wsclient: open: connection 2" in lines


def test_one_of_several_connections_that_is_lost_is_named(command):
    channels = ["btcusdt@bookTicker", "btcusdt@aggTrade"]
    with FakeVenue("binance_futures") as venue, Feed(venue, dict.fromkeys(channels, 50.0)):
        run = command(
            *("tail", venue.route_url("public"), "--dialect", "binance_futures", *channels)
        )
        run.wait_for("aggTrade")
        venue.subscribers(channels[1])[0].rst()
        run.wait_for("recovered: 2 channel(s)")
        run.wait_for("bookTicker")
        run.signal(signal.SIGINT)
    lines = [re.sub(r"^\S+  ", "", line) for line in run.err.splitlines()]
    assert lines[:2] == [
        "wsclient: connecting: connection 1, attempt 1",
        "wsclient: open: connection 1",
    ]
    assert [line for line in lines if line.startswith("wsclient: disconnected: market: ")]


def test_json_keeps_every_digit(venue, command):
    run = command("tail", venue.url, "a", "--json", "--count", "3")
    subscribed(venue, "a")
    sent = frame("a", 7, EXACT)
    venue.broadcast(sent, "a")
    venue.broadcast(frame("a", 11, "[\n1.0,\r\n\t2.00]"), "a")
    venue.broadcast(frame("a", 12, "null"), "a")
    assert run.end() == 0
    lines = run.out.splitlines()
    assert lines[0].endswith(f'"gap":null,"data":{sent}}}')
    assert '"data":[1.0,2.00]' in lines[1]
    first, second, third = map(json.loads, lines)
    assert list(first) == [
        "version", "venue", "channel", "type", "sequence", "follows", "is_counted", "item",
        "received_at", "time", "connection_id", "gap", "data"
    ]  # fmt: skip
    envelopes = [wsclient.Envelope.from_json(line) for line in lines]
    assert envelopes[0].raw.decode() == sent
    assert envelopes[1].raw == frame("a", 11, "[\n1.0,\r\n\t2.00]").encode()
    assert (first["channel"], first["type"], first["sequence"]) == ("a", "market_data", 7)
    assert second["gap"] == {"reason": "sequence", "missed": 3, "since": first["received_at"]}
    assert third["connection_id"] == 1


def test_json_keeps_every_digit_of_frames_with_several_messages(command):
    with FakeVenue("kraken") as venue:
        run = command("tail", venue.url, "trade:A/B", "trade:C/D", "--dialect", "kraken", "--json")
        subscribed(venue, "trade:C/D")
        rows = [f'{{"symbol":"{s}","price":{p}}}' for s, p in (("A/B", "1.10"), ("C/D", "2.0e1"))]
        venue.broadcast(f'{{"channel":"trade","type":"update","data":[{",".join(rows)}]}}')
        venue.broadcast(f'{{"channel":"trade","type":"update","data":[{rows[0]}]}}')
        run.wait_for('"data":', count=3)
        run.signal(signal.SIGINT)
        assert [line.partition('"data":')[2] for line in run.out.splitlines()] == [
            f"{row}}}" for row in (*rows, rows[0])
        ]


OBEYED = "\x7f\x9b\u061c\u200e\u200f\u2028\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["lines", "json"])
def test_control_characters_are_printed_escaped(venue, command, options):
    """Bidirectional characters would show prices and names in another order."""
    run = command("tail", venue.url, "a", "--count", "1", *options)
    subscribed(venue, "a")
    venue.broadcast(frame("a", 1, json.dumps({"text": f"<{OBEYED}>"}, ensure_ascii=False)), "a")
    assert run.end() == 0
    assert not set(run.out) & set(OBEYED)
    assert r"\u202e" in run.out
    if options:
        assert json.loads(run.out)["data"]["data"]["text"] == f"<{OBEYED}>"


def test_count_is_exact(venue, command):
    run = command("tail", venue.url, "a", "--count", "3")
    subscribed(venue, "a")
    with venue.lock:
        for _ in range(10):
            venue.publish("a")
    assert run.end() == 0
    assert [line.split()[3] for line in run.out.splitlines()] == ["#1", "#2", "#3"]


def test_duration_ends_it_even_while_messages_keep_coming(venue, command):
    quiet = command("tail", venue.url, "a", "--duration", "0.3")
    subscribed(venue, "a")
    busy = command("tail", venue.url, "b", "--duration", "0.3")
    subscribed(venue, "b")
    while busy.process.poll() is None:
        venue.publish("b")
        busy.read(0)
    assert quiet.end() == busy.end() == 0
    assert quiet.out == ""
    assert "#1" in busy.out


def test_options_go_to_the_subscription(venue, command):
    options = ["depth=10", "snapshot=false", "label=x=y", "tags=[1,2]", "empty="]
    command("tail", venue.url, "a", *(part for o in options for part in ("--option", o)))
    venue.accept().expect_json(
        {
            "type": "subscribe",
            "channel": "a",
            "depth": 10,
            "snapshot": False,
            "label": "x=y",
            "tags": [1, 2],
            "empty": "",
        }
    )


def test_options_of_the_client_are_its_own(venue, command):
    options = ["name=feed", "ping_interval=None", "decimal=true", "depth=10"]
    run = command("tail", venue.url, *(part for o in options for part in ("--option", o)), "a")
    venue.accept().expect_json({"type": "subscribe", "channel": "a", "depth": 10})
    run.wait_for("feed: open: connection 1")


def test_headers_go_to_the_handshake_and_are_not_printed(venue, command):
    run = command(
        *("tail", venue.url, "a", "--header", "X-Key: canary-1:x", "--header", "X-Other:canary-2")
    )
    subscribed(venue, "a")
    run.signal(signal.SIGINT)
    assert venue.requests[0].headers["X-Key"] == "canary-1:x"
    assert venue.requests[0].headers["X-Other"] == "canary-2"
    assert "canary" not in run.out + run.err


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_credentials_come_from_a_file_and_are_not_printed(mode, command, tmp_path):
    path = tmp_path / "keys.json"
    path.write_text('{"api_key": "canary-key-1", "secret": "canary-secret-1"}')
    path.chmod(mode)
    with FakeVenue("bybit") as venue:
        run = command(
            *("tail", venue.url, "--dialect", "bybit", "--credentials", str(path)),
            *("--option", "connect_timeout=1", "--option", "max_retries=1", "orderbook.50.A"),
        )
        request = venue.accept().expect_json()
        assert request["op"] == "auth"
        assert request["args"][0] == "canary-key-1"
        run.end()
    assert "canary" not in run.out + run.err
    warned = "every user of this machine can read" in run.err
    assert warned is (mode == 0o644)


def test_it_goes_through_a_proxy(venue, command):
    with Server(proxy := Proxy()) as server:
        run = command("tail", venue.url, "a", "--proxy", f"http://127.0.0.1:{server.port}")
        subscribed(venue, "a")
        run.signal(signal.SIGINT)
    assert len(proxy.asked) == 1


def test_a_refused_channel(venue, command):
    venue.refuse_channel("b", "no\nsuch\x1b[31m channel")
    run = command("tail", venue.url, "a", "b")
    assert run.end() == 1
    last = run.err.splitlines()[-1]
    assert last.startswith("wsclient: ")
    assert "b" in last
    assert "no such [31m channel" in last


def test_a_venue_that_refuses_the_handshake(venue, command):
    venue.refuse(401)
    run = command("tail", venue.url, "a")
    assert run.end() == 1
    errors = [line for line in run.err.splitlines() if "HTTP 401" in line]
    assert len(errors) == 1
    assert errors[0].startswith("wsclient: ")


def test_a_venue_that_is_down(venue, command):
    venue.down()
    run = command("tail", venue.url, "a", before=WITHOUT_DELAY)
    assert run.end() == 1
    text = f"wsclient: no connection to {venue.url.rstrip('/')} after 3 attempt(s): "
    assert run.err.splitlines()[-1].startswith(text)
    assert "Traceback" not in run.err
    assert run.out == ""


def test_it_ends_when_the_venue_ends_its_only_channel(venue, command):
    run = command("tail", venue.url, "a")
    peer = subscribed(venue, "a")
    venue.publish("a")
    run.wait_for("#1")
    venue.refuse_channel("a", "delisted")
    peer.rst()
    assert run.end() == 1
    assert "-- missed an unknown number (rejected) of a\n" in run.out
    assert "delisted" in run.err
    assert run.err.endswith("wsclient: no channel is left\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(venue, command, number):
    run = command("tail", venue.url, "a")
    subscribed(venue, "a")
    run.wait_for("open")
    assert run.signal(number) < PROMPTLY
    assert run.end() == 128 + number
    assert "Traceback" not in run.err


def test_ctrl_c_ends_it_while_it_connects(venue, command):
    venue.fail_handshake("deaf")
    run = command("tail", venue.url, "a")
    venue.wait_for(lambda v: v.attempts)
    run.wait_for("connecting")
    assert run.signal(signal.SIGINT) < PROMPTLY
    assert run.end() == 130
    assert "Traceback" not in run.err


def test_ctrl_c_ends_it_while_nobody_reads_its_output(venue, command):
    run = command("tail", venue.url, "a")
    subscribed(venue, "a")
    venue.publish("a")
    run.wait_for("#1")
    run.stop_reading()
    with venue.lock:
        for _ in range(100):
            venue.publish("a", text="x" * 10_000)
    venue.wait_for(lambda v: not v.live[-1].backlog)
    assert run.signal(signal.SIGINT) < PROMPTLY
    assert run.process.returncode == 130
    assert "Traceback" not in run.err


def test_a_closed_pipe_ends_it_quietly(venue, command):
    run = command("tail", venue.url, "a")
    subscribed(venue, "a")
    venue.publish("a")
    run.wait_for("#1")
    run.close_out()
    venue.publish("a")
    assert run.end() == 141
    assert "Traceback" not in run.err
    assert "Broken" not in run.err


def test_a_terminal_gets_lines_of_its_width_with_the_data_escaped(venue, command):
    run = command("tail", venue.url, "a", terminal=(60, 20))
    subscribed(venue, "a")
    venue.publish("a", text="\x1b]0;gotcha\x07", more="y" * 200)
    venue.wait_for(lambda v: v.publish("a"))  # 2
    venue.broadcast(frame("a", 9, '"last"'), "a")
    run.wait_for("last")
    lines = run.out.splitlines()
    assert r"text=\x1b]0;" in lines[0]
    assert len(lines[0]) == 60
    assert lines[2] == "\x1b[1;33m-- missed 6 (sequence) of a\x1b[0m"
