"""``wsclient doctor``, run for real."""

import json
import signal

import pytest

from support.broken import Mute
from support.helpers import LOCALHOST, Server, server_context
from support.proxies import Proxy
from wsclient.doctor.running import running
from wsclient.testing import FakeVenue

#: The longest time (s) to end on a signal: 1 s, and 1 s more for a busy machine.
PROMPTLY = 2.0


def rows(run):
    """Return the status and name of each check, as printed."""
    lines = [line.split() for line in run.out.splitlines()[2:]]
    return [(x[0], x[1]) for x in lines if x and x[0] in ("ok", "warning", "FAILED", "skipped")]


def test_a_healthy_venue(venue, command):
    run = command("doctor", venue.url)
    assert run.end() == 0
    assert rows(run) == [
        ("ok", "dns"),
        ("ok", "tcp"),
        ("ok", "handshake"),
        ("ok", "clock"),
        ("ok", "connection"),
        ("skipped", "message"),
        ("ok", "ping"),
    ]
    assert run.out.startswith(f"{venue.url.rstrip('/')}\n{running()}\n\n")
    assert run.out.endswith("\nHealthy.\n")
    assert run.err == ""
    assert {line.index(" ms  ") for line in run.out.splitlines() if " ms  " in line} == {27}


def test_a_healthy_venue_with_tls_and_a_channel(command):
    with FakeVenue("kraken", ssl_context=server_context()) as venue:
        run = command(
            *("doctor", venue.url, "--dialect", "kraken", "--subscribe", "ticker:A/B"),
            SSL_CERT_FILE=str(LOCALHOST),
        )
        venue.wait_for(lambda v: v.subscribers("ticker:A/B"))
        venue.publish("ticker:A/B", bid=1)
        assert run.end() == 0
    assert ("ok", "tls") in rows(run)
    assert ("ok", "subscribe") in rows(run)
    assert "acknowledged: ticker:A/B" in run.out
    assert "of ticker:A/B, " in run.out


def test_a_broken_venue(venue, command):
    venue.refuse(503, retry_after=30)
    run = command("doctor", venue.url)
    assert run.end() == 1
    assert rows(run) == [("ok", "dns"), ("ok", "tcp"), ("FAILED", "handshake")]
    assert "HTTP 503 Service Unavailable, retry after 30 s" in run.out
    assert "-> The venue, or a proxy in front of it, has a failure" in run.out
    assert "\nnot reached: clock, connection, message, ping\n" in run.out
    assert run.out.endswith("\nNot healthy: handshake failed.\n")
    assert run.err == ""


def test_json(venue, command):
    venue.refuse(429, retry_after=7)
    run = command("doctor", venue.url, "--json")
    assert run.end() == 1
    assert run.out.count("\n") == 1
    found = json.loads(run.out)
    assert found["url"] == venue.url.rstrip("/")
    assert found["client"] == running()
    assert found["is_healthy"] is False
    assert list(found["checks"][2]) == ["name", "status", "seconds", "detail", "advice"]
    assert [check["status"] for check in found["checks"]][:4] == ["ok", "ok", "failed", "skipped"]


def test_json_of_several_routes(command):
    with FakeVenue("bybit") as venue:
        run = command(
            *("doctor", venue.route_url("spot"), "--dialect", "bybit", "--json"),
            *("--timeout", "2", "--subscribe", "linear:publicTrade.BTCUSDT"),
        )
        assert run.end() == 1  # no message comes
    found = json.loads(run.out)
    assert [route["name"] for route in found["routes"]] == ["spot", "linear"]
    assert found["checks"] == [check for route in found["routes"] for check in route["checks"]]


@pytest.mark.parametrize(
    ("how", "is_coloured"),
    [
        ({"terminal": (120, 40)}, True),
        ({"terminal": (120, 40), "NO_COLOR": "1"}, False),
        ({"terminal": (120, 40), "TERM": "dumb"}, False),
        ({}, False),
    ],
)
def test_colours_are_for_terminals(venue, command, how, is_coloured):
    venue.refuse(404)
    run = command("doctor", venue.url, **how)
    assert run.end() == 1
    assert ("\x1b[1;31mFAILED \x1b[0m" in run.out) is is_coloured
    assert ("\x1b" in run.out) is is_coloured


def test_lines_are_no_wider_than_the_terminal(venue, command):
    venue.refuse(403)
    run = command("doctor", venue.url, terminal=(64, 40), NO_COLOR="1")
    assert run.end() == 1
    assert max(map(len, run.out.splitlines())) <= 64


def test_it_works_without_the_extras(venue, command):
    extras = ("rich", "websockets", "python_socks")
    assert command("doctor", venue.url, without=extras).end() == 0
    run = command("doctor", venue.url, "--proxy", "http://127.0.0.1:9", without=extras)
    assert run.end() == 2
    assert "pip install 'wsclient-market[proxy]'" in run.err
    assert run.out == ""


def test_it_prints_no_secret(command):
    with Server(Proxy("407 Proxy Authentication Required")) as proxy:
        via = f"http://trader:hunter22@127.0.0.1:{proxy.port}"
        url = "wss://venue.example/listen-key-1?token=trust-no-1"
        run = command("doctor", url, "--proxy", via)
        assert run.end() == 1
    assert ("FAILED", "proxy") in rows(run)
    for secret in ("hunter22", "listen-key-1", "trust-no-1"):
        assert secret not in run.out + run.err


@pytest.mark.parametrize(
    "args",
    [
        ["http://venue.example/?token=trust-no-1"],
        ["wss://user:trust-no-1@venue.example/"],
        ["wss://venue.example/", "--proxy", "ftp://user:trust-no-1@venue.example"],
    ],
)
def test_an_argument_that_cannot_work_is_a_usage_error(command, args):
    run = command("doctor", *args)
    assert run.end() == 2
    assert run.out == ""
    assert "Traceback" not in run.err
    assert "trust-no-1" not in run.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(venue, command, number):
    venue.fail_handshake("deaf")
    run = command("doctor", venue.url)
    venue.wait_for(lambda v: v.attempts)
    assert run.signal(number) < PROMPTLY
    assert run.process.returncode == 128 + number
    assert "Traceback" not in run.err


def test_ctrl_c_ends_it_while_it_pings(command):
    with FakeVenue(Mute()) as venue:
        run = command("doctor", venue.url)
        peer = venue.accept()
        venue.wait_for(lambda _: peer.pings)
        assert run.signal(signal.SIGINT) < PROMPTLY
    assert run.process.returncode == 130
    assert "Traceback" not in run.err
