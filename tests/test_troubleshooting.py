"""The remedies on the page of troubleshooting work."""

from __future__ import annotations

import itertools
import ssl
from pathlib import Path
from typing import Any

import certifi
import pytest
import trustme

from support.documents import block, run_block, served
from wsclient.testing import FakeVenue

KRAKEN = "wss://ws.kraken.com/v2"
ELSEWHERE = "wss://feed.example.com/"


def test_the_other_channels_of_a_refused_call_stay(
    clients: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code = block("troubleshooting", "subscribe() raises SubscriptionRejected")
    with FakeVenue("kraken") as venue:
        venue.refuse_channel("ticker:BTCUSD", "no such pair")
        run_block(code.replace(KRAKEN, venue.url), {}, clients)
    failed, subscribed = capsys.readouterr().out.splitlines()
    assert failed.startswith("{'ticker:BTCUSD': ")
    assert "no such pair" in failed
    assert subscribed == "['ticker:BTC/USD']"


def test_an_expired_token_is_replaced(clients: list[Any]) -> None:
    code = block("troubleshooting", "A token or key has expired").replace(
        "max_re", "retry_delay=0.01, max_re"
    )
    tokens = (f"token {number}" for number in itertools.count(1))
    with FakeVenue() as venue:
        run_block(code.replace(ELSEWHERE, venue.url), {"new_token": lambda: next(tokens)}, clients)
        venue.refuse(401, times=1)
        venue.live[0].rst()
        venue.wait_for(lambda v: len(v.peers) == 2)
        clients[0].close()
    assert next(tokens) == "token 4"


def test_a_coroutine_calls_it_in_a_thread(
    clients: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    code = block("troubleshooting", "RuntimeError: this event loop is already running")
    with served("kraken", "ticker:BTC/USD") as venue:
        run_block(code.replace(KRAKEN, venue.url), {}, clients)
    assert float(capsys.readouterr().out) > 0


def test_the_certificates_of_certifi_are_used(
    clients: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = block("troubleshooting", "Certificates do not verify on macOS")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setattr(certifi, "where", lambda: str(tmp_path / "authority.pem"))
    with FakeVenue(ssl_context=context) as venue:
        run_block(code.replace(ELSEWHERE, venue.url), {}, clients)
        assert clients[0].is_connected
        clients[0].close()
