"""Diagnoses of healthy and broken venues: which step fails, why, and what to do."""

from __future__ import annotations

import gc
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import wsclient
from support.broken import (
    BROKEN,
    HOST,
    bullet,
    resolving,
    server_context,
    token_server,
    trusting,
)
from support.checks import check, statuses
from support.helpers import Call, Server, dead_address, until
from support.proxies import Proxy
from wsclient import (
    ConfigurationError,
    Generic,
    Limits,
    NotSupported,
    ThreadStartError,
    diagnose,
)
from wsclient.testing import FakeVenue, Feed

#: How late (s) a deadline may be met: the client says goodbye, and the machine may be busy.
SLACK = 1.5


class TestHealthy:
    def test_a_plain_venue(self, venue: FakeVenue) -> None:
        diagnosis = diagnose(venue.url)
        assert diagnosis.is_healthy
        assert diagnosis.url == venue.url.rstrip("/")
        assert statuses(diagnosis) == [
            ("dns", "ok"),
            ("tcp", "ok"),
            ("handshake", "ok"),
            ("clock", "ok"),
            ("connection", "ok"),
            ("message", "skipped"),
            ("ping", "ok"),
        ]
        assert all(c.seconds is not None for c in diagnosis.checks if c.name in ("tcp", "ping"))
        assert all(c.advice == "" for c in diagnosis.checks)
        assert venue.attempts == 1

    def test_with_tls_a_name_and_a_subscription(self) -> None:
        with (
            FakeVenue(ssl_context=server_context()) as venue,
            resolving(venue_example=[("127.0.0.1", venue.port)]),
        ):
            publishing = Call(lambda: venue.wait_for(lambda v: v.subscribers("a")))
            calling = Call(
                diagnose,
                f"wss://{HOST}:{venue.port}/",
                ssl_context=trusting(),
                subscribe="a",
            )
            publishing.result()
            venue.publish("a", price=1)
            diagnosis = calling.result()
        assert diagnosis.is_healthy
        assert [name for name, _ in statuses(diagnosis)] == [
            *(
                "dns",
                "tcp",
                "tls",
                "handshake",
                "clock",
                "connection",
                "subscribe",
                "message",
                "ping",
            )
        ]
        assert check(diagnosis, "dns").detail == f"{HOST} is 127.0.0.1"
        assert check(diagnosis, "tls").detail.startswith("TLSv1.3, ")
        assert f"certificate of {HOST}" in check(diagnosis, "tls").detail
        assert "Sound Authority" in check(diagnosis, "tls").detail
        assert check(diagnosis, "message").detail.startswith("market_data of a, ")

    @pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
    def test_by_a_proxy(self, venue: FakeVenue, scheme: str) -> None:
        with Server(Proxy()) as server:
            via = f"{scheme}://127.0.0.1:{server.port}"
            diagnosis = diagnose(venue.url, proxy=via)
        assert diagnosis.is_healthy
        assert [name for name, _ in statuses(diagnosis)][:4] == ["dns", "tcp", "proxy", "handshake"]
        assert str(server.port) in check(diagnosis, "tcp").detail
        assert check(diagnosis, "proxy").detail.endswith(venue.url.rstrip("/"))

    def test_with_a_token_and_a_login(self) -> None:
        class Welcome:
            def greeting(self, peer: Any) -> Any:
                return ['{"type":"welcome"}']

            def received(self, peer: Any, payload: Any) -> Any:
                return []

        with FakeVenue(Welcome()) as venue, token_server(b"200 OK", bullet(venue.url)) as options:
            diagnosis = diagnose(**options)
        assert diagnosis.is_healthy
        assert [name for name, _ in statuses(diagnosis)] == [
            *("rest", "dns", "tcp", "handshake", "clock", "login", "connection", "message", "ping")
        ]
        assert venue.url.rstrip("/") in check(diagnosis, "rest").detail
        assert "t0ken" not in str(diagnosis)


class TestRoutes:
    CHANNELS = ("btcusdt@bookTicker", "btcusdt@aggTrade")

    @pytest.fixture
    def venue(self) -> Iterator[FakeVenue]:
        with FakeVenue("binance_futures") as venue:
            yield venue

    def diagnose(self, venue: FakeVenue, **options: Any) -> wsclient.Diagnosis:
        url = venue.route_url("public")
        return diagnose(url, dialect="binance_futures", timeout=3, **options)

    def test_each_that_the_channels_need_is_examined(self, venue: FakeVenue) -> None:
        with Feed(venue, dict.fromkeys(self.CHANNELS, 100.0)):
            diagnosis = self.diagnose(venue, subscribe=self.CHANNELS)
        assert diagnosis.is_healthy
        public, market = diagnosis.routes
        assert (public.name, market.name) == ("public", "market")
        assert diagnosis.checks == (*public.checks, *market.checks)
        for route in diagnosis.routes:
            found = wsclient.Diagnosis(route.url, route.checks)
            assert [name for name, _ in statuses(found)] == [
                *("dns", "tcp", "handshake", "clock"),
                *("connection", "subscribe", "message", "ping"),
            ]
        assert [peer.route for peer in venue.peers] == ["public", "market"]

    def test_one_alone_is_examined_as_ever(self, venue: FakeVenue) -> None:
        with Feed(venue, {self.CHANNELS[0]: 100.0}):
            diagnosis = self.diagnose(venue, subscribe=self.CHANNELS[0])
        assert diagnosis.is_healthy
        assert diagnosis.routes == ()

    def test_one_that_fails_is_named(self, venue: FakeVenue) -> None:
        venue.refuse(403, route="market")
        with Feed(venue, dict.fromkeys(self.CHANNELS, 100.0)):
            diagnosis = self.diagnose(venue, subscribe=self.CHANNELS)
        assert not diagnosis.is_healthy
        text = str(diagnosis)
        assert text.endswith("\n\nNot healthy: handshake of market failed.")
        assert "\nRoute market: carries btcusdt@aggTrade\nLimits: 1,024 channels per " in text

    def test_a_channel_without_a_route_says_why(self) -> None:
        with FakeVenue("okx") as venue:
            url = venue.route_url("public")
            diagnosis = diagnose(url, dialect="okx", subscribe="orders", timeout=2)
        failed = check(diagnosis, "subscribe")
        assert failed.detail == "refused: orders: it needs credentials, and the client has none"

    def test_one_without_a_login_shows_none(self) -> None:
        secret = {"api_key": "k", "secret": "s", "passphrase": "p"}
        with FakeVenue("okx") as venue:
            url = venue.route_url("public")
            diagnosis = diagnose(url, dialect="okx", credentials=secret, timeout=2)
        assert "login" not in [name for name, _ in statuses(diagnosis)]

    def test_several_connections_of_one_are_said(self) -> None:
        small = Generic(limits=Limits(channels_per_connection=1))
        with FakeVenue() as venue:
            diagnosis = diagnose(venue.url, dialect=small, subscribe=["a", "b"], timeout=2)
        assert check(diagnosis, "subscribe").detail == "acknowledged: a, b (on 2 connections)"


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_venue(name: str) -> None:
    """One check fails and says why and what to do. Earlier checks pass, later ones are skipped."""
    rig, failing, detail, advice = BROKEN[name]
    with rig() as options:
        started = time.monotonic()
        diagnosis = diagnose(**options)
        took = time.monotonic() - started
    text = str(diagnosis)
    assert took < options.get("timeout", 10.0) + SLACK
    assert not diagnosis.is_healthy
    place = [check.name for check in diagnosis.checks].index(failing)
    found = diagnosis.checks[place]
    assert found.status == "failed", text
    assert detail in found.detail
    assert advice in found.advice
    assert found.seconds is not None
    assert {check.status for check in diagnosis.checks[:place]} <= {"ok"}, text
    assert {check.status for check in diagnosis.checks[place + 1 :]} <= {"skipped"}, text
    assert text.endswith(f"Not healthy: {failing} failed.")
    for secret in ("hunter22", "trust-no-1", "t0ken", "Hotel California</", "pass@"):
        assert secret not in text + repr(diagnosis)


class TestArguments:
    @pytest.mark.parametrize(
        "options",
        [
            {"url": "http://venue.example/"},
            {"url": "wss://user:hunter22@venue.example/"},
            {"timeout": 0},
            {"timeout": float("nan")},
            {"timeout": "10"},
            {"dialect": "klingon"},
            {"dialect": "kucoin", "credentials": {"api_key": "hunter22"}},
            {"headers": {"X-Key": "hunter22\n"}},
            {"proxy": "ftp://hunter22@x:1"},
            {"url": "ws://192.0.2.1/", "headers": {"Authorization": "hunter22"}},
            {"subscribe": [7]},
        ],
    )
    def test_arguments_that_cannot_work_are_refused(self, venue: FakeVenue, options: Any) -> None:
        with pytest.raises(ConfigurationError) as caught:
            diagnose(**{"url": venue.url, **options})
        assert "hunter22" not in str(caught.value)

    def test_credentials_that_lack_what_the_dialect_needs_are_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="'secret'"):
            diagnose("wss://venue.example/", dialect="kucoin", credentials={"api_key": "k"})

    def test_what_the_dialect_cannot_do_is_refused(self) -> None:
        class Public(wsclient.Generic):
            def url_request(self, url: str, credentials: object) -> None:
                raise NotSupported("no login")

        with pytest.raises(NotSupported, match="no login"):
            diagnose("wss://venue.example/", dialect=Public(), credentials={"key": "k"})

    def test_the_handshake_bears_what_it_was_given(self, venue: FakeVenue) -> None:
        diagnosis = diagnose(
            venue.url, headers={"X-Api-Key": "k"}, cookie="a=1", origin="https://o", subscribe=()
        )
        request = venue.accept().request
        assert request is not None
        assert request.headers["X-Api-Key"] == "k"
        assert request.headers["Cookie"] == "a=1"
        assert request.headers["Origin"] == "https://o"
        assert diagnosis.is_healthy

    def test_a_function_for_the_url_that_raises_is_reported(self) -> None:
        def url() -> str:
            raise KeyError("hunter22")

        diagnosis = diagnose(url)
        assert diagnosis.checks[0].name == "url"
        assert "KeyError" in diagnosis.checks[0].detail
        assert "hunter22" not in str(diagnosis)
        assert {c.status for c in diagnosis.checks[1:]} == {"skipped"}


class TestEnd:
    def test_ctrl_c_ends_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with dead_address() as (host, port):
            main = threading.main_thread().ident
            assert main is not None

            def interrupt() -> None:
                until(lambda: any("wsclient-reader" in t.name for t in threading.enumerate()))
                signal.pthread_kill(main, signal.SIGINT)

            calling = Call(interrupt)
            started = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                diagnose(f"ws://{host}:{port}/", timeout=30)
            assert time.monotonic() - started < 5
            calling.result()

    @pytest.mark.parametrize("faults", [0, 1])
    def test_its_client_ends_with_it_without_the_garbage_collector(
        self, venue: FakeVenue, faults: int
    ) -> None:
        venue.fail_handshake("eof", faults)

        def clients() -> set[int]:
            return {id(x) for x in gc.get_objects() if isinstance(x, wsclient.WebSocketClient)}

        gc.collect()
        gc.disable()
        try:
            held_by_other_tests = clients()
            diagnose(venue.url)
            assert clients() - held_by_other_tests == set()
        finally:
            gc.enable()

    @pytest.mark.parametrize(
        "name", ["wsclient-watchdog", "wsclient-reader-1", "wsclient-diagnose"]
    )
    def test_a_thread_that_cannot_start_is_an_error_that_says_so(
        self, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        start = threading.Thread.start

        def start_others(thread: threading.Thread) -> None:
            if thread.name == name:
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_others)
        targets = [("127.0.0.1", venue.port)] * 2
        with (
            resolving(venue_example=targets),
            pytest.raises(ThreadStartError, match=f"the thread {name} cannot be started"),
        ):
            diagnose(f"ws://{HOST}/")

    def test_it_may_be_called_from_several_threads_at_once(self, venue: FakeVenue) -> None:
        calls = [Call(diagnose, venue.url) for _ in range(4)]
        assert all(call.result().is_healthy for call in calls)


def test_it_is_what_the_package_offers() -> None:
    assert wsclient.diagnose is diagnose
