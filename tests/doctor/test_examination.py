"""Diagnoses of healthy and broken venues: which step fails, why, and what to do."""

from __future__ import annotations

import contextlib
import gc
import signal
import socket
import ssl
import threading
import time
from typing import Any

import pytest

import wsclient
from support.broken import (
    BROKEN,
    DAY,
    HOST,
    SHORT,
    Mute,
    bullet,
    now,
    open_venue,
    resolving,
    server_context,
    skewed,
    token_server,
    trusting,
)
from support.helpers import Call, Server, dead_address, linux_only, listener, refused_address, until
from support.proxies import Proxy
from wsclient import Check, ConfigurationError, Diagnosis, NotSupported, diagnose
from wsclient.testing import FakeVenue, GenericProtocol

#: How late (s) a deadline may be met: the client says goodbye, and the machine may be busy.
SLACK = 1.5


def check(diagnosis: Diagnosis, name: str) -> Check:
    """Return the only check with this name."""
    (found,) = [check for check in diagnosis.checks if check.name == name]
    return found


def statuses(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    return [(check.name, check.status) for check in diagnosis.checks]


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


class TestAddresses:
    """Addresses are tried in the order in which the client tries them."""

    def test_one_that_refuses_is_a_warning_where_another_works(self, venue: FakeVenue) -> None:
        with refused_address() as (_, port):
            targets = [("127.0.0.1", port), ("127.0.0.1", venue.port)]
            with resolving(venue_example=targets):
                diagnosis = diagnose(f"ws://{HOST}/")
        assert diagnosis.is_healthy
        first, second = [c for c in diagnosis.checks if c.name == "tcp"]
        assert (first.status, second.status) == ("warning", "ok")
        assert str(port) in first.detail
        assert first.advice.startswith("Another address works. ")
        assert venue.attempts == 1

    def test_those_after_the_one_that_works_are_tried_too(self, venue: FakeVenue) -> None:
        with refused_address() as (_, port):
            targets = [("127.0.0.1", venue.port), ("127.0.0.1", port), ("127.0.0.1", venue.port)]
            with resolving(venue_example=targets):
                diagnosis = diagnose(f"ws://{HOST}/")
        assert [c.status for c in diagnosis.checks if c.name == "tcp"] == ["ok", "warning", "ok"]
        assert diagnosis.is_healthy
        assert "look at tcp" in str(diagnosis)

    @linux_only
    def test_a_dead_one_after_it_does_not_take_all_the_time(self, venue: FakeVenue) -> None:
        with dead_address() as dead, resolving(venue_example=[("127.0.0.1", venue.port), dead]):
            started = time.monotonic()
            diagnosis = diagnose(f"ws://{HOST}/", timeout=1.5)
            assert time.monotonic() - started < 1.5 + SLACK
        assert diagnosis.is_healthy
        assert next(c.status for c in diagnosis.checks if c.name == "tcp") == "ok"

    def test_a_family_that_this_machine_lacks_is_passed_over(self, venue: FakeVenue) -> None:
        targets = [("127.0.0.1", venue.port), ("2001:db8::1", 443, 0, 0)]
        connect = socket.socket.connect

        def without_ipv6(sock: socket.socket, target: Any) -> None:
            if sock.family == socket.AF_INET6:
                raise OSError(101, "Network is unreachable")
            connect(sock, target)

        with resolving(venue_example=targets), pytest.MonkeyPatch.context() as patch:
            patch.setattr(socket.socket, "connect", without_ipv6)
            diagnosis = diagnose(f"ws://{HOST}/")
        found = [c for c in diagnosis.checks if c.name == "tcp"]
        assert [c.status for c in found] == ["ok", "skipped"]
        assert found[1].detail == "IPv6 2001:db8::1 port 443: this machine has no IPv6"
        assert str(diagnosis).endswith("\nHealthy.")

    def test_addresses_for_which_no_time_is_left_are_not_called_dead(
        self, venue: FakeVenue
    ) -> None:
        venue.fail_handshake("deaf")
        with resolving(venue_example=[("127.0.0.1", venue.port)] * 2):
            diagnosis = diagnose(f"ws://{HOST}/", timeout=SHORT)
        assert check(diagnosis, "handshake").status == "failed"
        first, second = [c for c in diagnosis.checks if c.name == "tcp"]
        assert first.status == "ok"
        assert second.status == "skipped"
        assert second.detail.endswith("no time was left for it")

    def test_all_that_refuse_are_named(self) -> None:
        with (
            refused_address() as first,
            refused_address() as second,
            resolving(venue_example=[first, second]),
        ):
            diagnosis = diagnose(f"ws://{HOST}/")
        assert [c.status for c in diagnosis.checks if c.name == "tcp"] == ["failed", "failed"]

    def test_ipv6(self) -> None:
        try:
            with listener("::1"):
                pass
        except OSError:
            pytest.skip("no IPv6 here")
        with FakeVenue(host="::1") as venue:
            diagnosis = diagnose(venue.url)
        assert diagnosis.is_healthy
        assert check(diagnosis, "tcp").detail == f"IPv6 ::1 port {venue.port}"


def test_slow_dns_is_a_warning(venue: FakeVenue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsclient.doctor.connecting.SLOW_DNS", 0.0)
    diagnosis = diagnose(venue.url)
    assert check(diagnosis, "dns").status == "warning"
    assert "resolv.conf" in check(diagnosis, "dns").advice
    assert diagnosis.is_healthy


class TestCertificates:
    def test_one_that_ends_soon_is_a_warning(self) -> None:
        context = server_context(not_after=now() + 5 * DAY + DAY / 4)
        with (
            FakeVenue(ssl_context=context) as venue,
            resolving(venue_example=[("127.0.0.1", venue.port)]),
        ):
            diagnosis = diagnose(f"wss://{HOST}:{venue.port}/", ssl_context=trusting())
        assert check(diagnosis, "tls").status == "warning"
        assert "(5 days left)" in check(diagnosis, "tls").detail
        assert "renewed" in check(diagnosis, "tls").advice

    def test_one_that_does_not_verify_is_looked_at_through_the_proxy_too(self) -> None:
        with FakeVenue(ssl_context=server_context()) as venue, Server(Proxy()) as proxy:
            diagnosis = diagnose(
                venue.url, proxy=f"http://127.0.0.1:{proxy.port}", ssl_context=trusting()
            )
            assert proxy.connections == 3
        assert [name for name, status in statuses(diagnosis) if status == "ok"] == [
            *("dns", "tcp", "proxy")
        ]
        assert check(diagnosis, "tls").detail.endswith(f"but for {HOST}")

    def test_one_that_is_not_valid_yet(self) -> None:
        context = server_context(not_after=now() + 31 * DAY)
        with (
            FakeVenue(ssl_context=context) as venue,
            resolving(venue_example=[("127.0.0.1", venue.port)]),
        ):
            diagnosis = diagnose(f"wss://{HOST}:{venue.port}/", ssl_context=trusting())
        assert check(diagnosis, "tls").status == "failed"
        assert "not valid before" in check(diagnosis, "tls").detail
        assert "this machine's clock" in check(diagnosis, "tls").advice

    def test_a_context_that_does_not_verify_is_a_warning(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with FakeVenue(ssl_context=server_context()) as venue:
            diagnosis = diagnose(venue.url, ssl_context=context)
        assert check(diagnosis, "tls").status == "warning"
        assert "not verified" in check(diagnosis, "tls").detail

    def test_nothing_but_tls_is_spoken_with_one_that_does_not_verify(self) -> None:
        heard: list[bytes] = []
        context = server_context()

        def serve(sock: socket.socket) -> None:
            with (
                contextlib.suppress(ssl.SSLError),
                context.wrap_socket(sock, server_side=True) as secure,
            ):
                heard.append(secure.recv(65536))

        with Server(serve) as server:
            diagnosis = diagnose(
                f"wss://127.0.0.1:{server.port}/?token=x", headers={"X-Key": "secret"}
            )
            until(lambda: server.connections == 3)
        assert "Sound Authority" in check(diagnosis, "tls").detail
        assert b"".join(heard) == b""

    def test_the_users_own_context_is_left_as_it_was(self) -> None:
        context = trusting()
        with FakeVenue(ssl_context=server_context("other.example")) as venue:
            diagnose(venue.url, ssl_context=context)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname

    def test_a_certificate_shown_only_once_is_reported_without_its_names(self) -> None:
        served = threading.Event()

        def serve(sock: socket.socket) -> None:
            if not served.is_set():
                served.set()
                with contextlib.suppress(ssl.SSLError):
                    server_context("other.example").wrap_socket(sock, server_side=True).close()

        with Server(serve) as server:
            diagnosis = diagnose(f"wss://127.0.0.1:{server.port}/", ssl_context=trusting())
        assert check(diagnosis, "tls").detail == "the certificate is not for 127.0.0.1"


class TestClock:
    @pytest.mark.parametrize(
        ("seconds", "status", "said"),
        [
            (0.0, "ok", "equals the venue's (to 1 s)"),
            (60.0, "warning", "behind the venue's"),
            (-60.0, "warning", "ahead of the venue's"),
        ],
    )
    def test_is_held_against_the_venues(self, seconds: float, status: str, said: str) -> None:
        with skewed(seconds) as options:
            diagnosis = diagnose(**options)
        found = check(diagnosis, "clock")
        assert found.status == status
        assert said in found.detail
        assert ("chrony" in found.advice) is (status == "warning")
        assert diagnosis.is_healthy

    def test_is_reported_with_a_refusal_too(self, venue: FakeVenue) -> None:
        venue.refuse(401, headers=[("Date", "Thu, 01 Jan 2015 00:00:00 GMT")])
        diagnosis = diagnose(venue.url)
        assert check(diagnosis, "handshake").status == "failed"
        assert check(diagnosis, "clock").status == "warning"

    @pytest.mark.parametrize("date", ["soon", ""])
    def test_a_venue_that_sends_no_date(self, date: str) -> None:
        with skewed(0.0) as options, pytest.MonkeyPatch.context() as patch:
            patch.setattr("email.utils.formatdate", lambda *_, **__: date)
            diagnosis = diagnose(**options)
        assert check(diagnosis, "clock").status == "skipped"


class TestOpenConnection:
    def test_a_refused_channel(self) -> None:
        with open_venue(subscribe="gone") as options:
            diagnosis = diagnose(**options)
        assert check(diagnosis, "subscribe").detail == "refused: gone: no such channel"
        assert "name" in check(diagnosis, "subscribe").advice
        assert check(diagnosis, "message").status == "skipped"
        assert check(diagnosis, "ping").status == "ok"
        assert not diagnosis.is_healthy

    def test_an_answer_that_does_not_come(self) -> None:
        with open_venue(subscribe="muted", timeout=1.0) as options:
            diagnosis = diagnose(**options)
        assert check(diagnosis, "subscribe").status == "failed"
        assert "no answer to the subscription (muted)" in check(diagnosis, "subscribe").detail
        assert check(diagnosis, "ping").status in ("ok", "warning")

    def test_a_channel_that_is_silent(self) -> None:
        with open_venue(subscribe=["a", "b"], timeout=1.0) as options:
            diagnosis = diagnose(**options)
        assert check(diagnosis, "subscribe").detail == "acknowledged: a, b"
        assert check(diagnosis, "message").status == "failed"
        assert "quiet" in check(diagnosis, "message").advice
        assert not diagnosis.is_healthy

    def test_pings_that_nobody_answers(self) -> None:
        with open_venue(Mute(), timeout=SHORT) as options:
            diagnosis = diagnose(**options)
        assert check(diagnosis, "ping").status == "failed"
        assert "nothing comes back" in check(diagnosis, "ping").advice
        assert not diagnosis.is_healthy

    def test_pings_that_are_no_longer_answered(self) -> None:
        with skewed(pongs=2) as options:
            diagnosis = diagnose(**options, timeout=1.5)
        assert check(diagnosis, "ping").status == "warning"
        assert "median of 2; then one was not answered in time" in check(diagnosis, "ping").detail
        assert diagnosis.is_healthy

    def test_a_connection_that_ends_while_it_is_pinged(self) -> None:
        with FakeVenue(Mute()) as venue:
            calling = Call(diagnose, venue.url)
            peer = venue.accept()
            venue.wait_for(lambda _: peer.pings)
            peer.close(1012, "restart")
            diagnosis = calling.result()
        assert check(diagnosis, "ping").status == "failed"
        assert "1012: restart" in check(diagnosis, "ping").detail
        assert "reconnects by itself" in check(diagnosis, "ping").advice

    def test_a_connection_that_ends_while_a_message_is_waited_for(self, venue: FakeVenue) -> None:
        calling = Call(diagnose, venue.url, subscribe="a")
        venue.wait_for(lambda v: v.subscribers("a"))[0].close(4001, "no")
        diagnosis = calling.result()
        failed = [c for c in diagnosis.checks if c.status == "failed"]
        assert [c.name for c in failed] in (["subscribe"], ["message"])
        assert "4001" in failed[0].detail
        assert "close code 4001" in failed[0].advice
        assert check(diagnosis, "ping").status == "skipped"


def test_secrets_that_a_venue_quotes_are_not_shown() -> None:
    class Quotes(GenericProtocol):
        def greeting(self, peer: Any) -> Any:
            headers = peer.request.headers
            quoted = [peer.request.path, headers["X-Key"], headers["Authorization"]]
            peer.close(1008, f"stream {' '.join(quoted)} {headers['Cookie']}")
            return []

    with FakeVenue(Quotes()) as venue:
        diagnosis = diagnose(
            f"{venue.url}stream/listen-key-of-mine?token=trust-no-1&n=7",
            headers=lambda: {"X-Key": "hunter22", "Authorization": "Bearer abcdef"},
            cookie="session=c00kie",
        )
    text = str(diagnosis)
    for secret in ("listen-key", "trust-no-1", "hunter22", "abcdef", "c00kie"):
        assert secret not in text
    assert "1008: stream /stream/***" in text


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

    def test_its_client_ends_with_it_without_the_garbage_collector(self, venue: FakeVenue) -> None:
        gc.collect()
        gc.disable()
        try:
            diagnose(venue.url)
            clients = [c for c in gc.get_objects() if isinstance(c, wsclient.WebSocketClient)]
            assert clients == []
        finally:
            gc.enable()

    def test_it_may_be_called_from_several_threads_at_once(self, venue: FakeVenue) -> None:
        calls = [Call(diagnose, venue.url) for _ in range(4)]
        assert all(call.result().is_healthy for call in calls)


def test_a_table_of_a_given_width() -> None:
    checks = (
        Check("dns", "ok", 0.0123, "word " * 40),
        Check("tcp", "failed", None, "no", "advice " * 30),
        Check("ping", "warning", 1.5, "", ""),
    )
    text = Diagnosis("ws://x", checks).table(60, lambda status, text: text)
    assert max(map(len, text.splitlines())) <= 60
    assert "FAILED" in text
    assert "12.3 ms" in text
    assert "1,500.0 ms" in text
    assert text.endswith("Not healthy: tcp failed.")


def test_it_is_what_the_package_offers() -> None:
    assert wsclient.diagnose is diagnose
