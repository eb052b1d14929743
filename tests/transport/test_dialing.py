"""From an address to a connection: every address tried, TLS, proxies, and one deadline."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import struct
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import wsclient
from support.attempts import SECRET, SLACK, connect, failure_of
from support.helpers import (
    LOCALHOST,
    Call,
    Server,
    addresses,
    client_context,
    dead_address,
    expect_end,
    linux_only,
    listener,
    refused_address,
    server_context,
    tcp_pair,
    text_of,
)
from support.proxies import Proxy
from wsclient import (
    ConfigurationError,
    ConnectionLost,
    ConnectTimeout,
    NotSupported,
)
from wsclient.testing import FakeVenue
from wsclient.threads.waiting import Deadline
from wsclient.transport.addresses import Address
from wsclient.transport.dialing import default_ssl_context, open_socket, wrap
from wsclient.transport.handshake import (
    MAX_HEAD,
)


def open_plain(timeout: float, hold: Callable[[socket.socket], None] = lambda _: None) -> Any:
    return open_socket(
        Address("venue.example", 80, False),
        proxy=None,
        ssl_context=None,
        deadline=Deadline(timeout),
        hold=hold,
    )


class TestAddresses:
    def test_the_next_is_tried_when_one_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with refused_address() as refused, listener() as good:
            target = good.getsockname()
            monkeypatch.setattr(socket, "getaddrinfo", addresses(refused, target))
            with open_plain(5) as sock:
                assert sock.getpeername() == target

    @linux_only
    def test_a_dead_first_one_does_not_take_all_the_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with dead_address() as dead, listener() as good:
            target = good.getsockname()
            monkeypatch.setattr(socket, "getaddrinfo", addresses(dead, target))
            started = time.monotonic()
            with open_plain(0.6) as sock:
                assert sock.getpeername() == target
            assert time.monotonic() - started < 0.6

    @linux_only
    def test_all_dead_ends_at_the_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with dead_address() as dead:
            monkeypatch.setattr(socket, "getaddrinfo", addresses(dead, dead, dead))
            started = time.monotonic()
            with pytest.raises(TimeoutError):
                open_plain(0.3)
            assert time.monotonic() - started < 0.3 + SLACK

    def test_a_family_that_this_machine_lacks_is_passed_over(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with listener() as good:
            target = good.getsockname()
            infos = addresses(target)()
            infos.insert(0, (254, socket.SOCK_STREAM, 6, "", target))
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)
            with open_plain(5) as sock:
                assert sock.getpeername() == target

    def test_the_last_ones_error_is_raised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with refused_address() as refused:
            monkeypatch.setattr(socket, "getaddrinfo", addresses(refused, refused))
            with pytest.raises(ConnectionRefusedError):
                open_plain(5)

    def test_a_name_without_any_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "getaddrinfo", addresses())
        with pytest.raises(OSError, match="no address"):
            open_plain(5)

    def test_each_socket_is_made_known_before_it_can_block(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held: list[Any] = []

        def hold(sock: socket.socket) -> None:
            with contextlib.suppress(OSError):
                sock.getpeername()
                pytest.fail("it is connected already")
            held.append(sock)

        with refused_address() as refused, listener() as good:
            monkeypatch.setattr(socket, "getaddrinfo", addresses(refused, good.getsockname()))
            with open_plain(5, hold) as sock:
                assert held[-1] is sock
        assert len(held) == 2

    def test_each_step_is_reported_as_it_begins(self, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[tuple[str, Any]] = []
        with refused_address() as refused, listener() as good:
            found = addresses(refused, good.getsockname())
            monkeypatch.setattr(socket, "getaddrinfo", found)
            address = Address("venue.example", 80, False)
            with open_socket(
                address,
                proxy=None,
                ssl_context=None,
                deadline=Deadline(5),
                hold=lambda _: None,
                on_step=lambda step, about: told.append((step, about)),
            ):
                pass
        first, second = found()
        assert [step for step, _ in told] == [
            *("dns", "addresses", "tcp", "refused", "tcp", "connected")
        ]
        abouts = dict(told)
        assert abouts["dns"] == address
        assert abouts["addresses"] == [first, second]
        assert told[2][1] == first
        assert isinstance(told[3][1], ConnectionRefusedError)
        assert told[4][1] == second

    def test_no_other_is_tried_once_the_attempt_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def hold(_: socket.socket) -> None:
            raise ConnectionLost("given up")

        with listener() as good:
            target = good.getsockname()
            monkeypatch.setattr(socket, "getaddrinfo", addresses(target, target))
            with pytest.raises(ConnectionLost, match="given up"):
                open_plain(5, hold)
            assert not select.select([good], [], [], 0)[0]


@pytest.fixture
def tls_venue() -> Iterator[FakeVenue]:
    with FakeVenue("generic", ssl_context=server_context()) as venue:
        yield venue


class TestTls:
    def test_a_peer_that_has_reset_the_connection_already_leaves_no_socket_open(self) -> None:
        with tcp_pair() as (near, far):
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
            assert select.select([near], [], [], 5)[0]
            with pytest.raises(OSError, match=r"(?i)reset|not connected"):
                wrap(near, client_context(), "localhost")
            assert near.fileno() == -1

    def test_a_self_signed_certificate_is_refused_by_default(self, tls_venue: FakeVenue) -> None:
        error = failure_of(tls_venue.url)
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert tls_venue.requests == []

    def test_a_context_of_ones_own_decides(self, tls_venue: FakeVenue) -> None:
        with connect(tls_venue.url, ssl_context=client_context()) as client:
            client.subscribe("a")
            tls_venue.publish("a", price=1)
            assert client.recv(5).data["price"] == 1

    def test_a_certificate_for_another_host_is_refused(
        self, tls_venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = ("127.0.0.1", tls_venue.port)
        monkeypatch.setattr(socket, "getaddrinfo", addresses(target))
        error = failure_of("wss://venue.example/", ssl_context=client_context())
        assert isinstance(error, ssl.SSLCertVerificationError)
        assert "venue.example" in str(error)

    def test_older_than_1_2_is_refused(self) -> None:
        def old(sock: socket.socket) -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                context = server_context()
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = ssl.TLSVersion.TLSv1_1
                context.set_ciphers("ALL:@SECLEVEL=0")
            with context.wrap_socket(sock, server_side=True) as secure:
                expect_end(secure)

        def dial(context: ssl.SSLContext) -> str | None:
            with open_socket(
                Address("localhost", server.port, True),
                proxy=None,
                ssl_context=context,
                deadline=Deadline(5),
                hold=lambda _: None,
            ) as sock:
                assert isinstance(sock, ssl.SSLSocket)
                return sock.version()

        with Server(old) as server:
            context = default_ssl_context()
            context.load_verify_locations(LOCALHOST)
            with pytest.raises(ssl.SSLError, match=r"(?i)protocol|version"):
                dial(context)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.set_ciphers("ALL:@SECLEVEL=0")
            try:
                assert dial(context) == "TLSv1.1"
            except ssl.SSLError:
                pytest.skip("this OpenSSL speaks no TLS 1.1 at all")

    def test_the_default_verifies_and_keeps_no_keys(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
        context = default_ssl_context()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.keylog_filename is None
        assert not (tmp_path / "keys").exists()

    def test_the_librarys_environment_variable_adds_no_trust(
        self, tls_venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(LOCALHOST))
        assert isinstance(failure_of(tls_venue.url), ssl.SSLCertVerificationError)

    def test_a_mute_server_is_ended_at_the_deadline(self) -> None:
        with listener() as mute:
            url = f"wss://127.0.0.1:{mute.getsockname()[1]}/"
            started = time.monotonic()
            error = failure_of(url, connect_timeout=0.3)
            assert time.monotonic() - started < 0.3 + SLACK
            assert isinstance(error, ConnectTimeout)


class TestProxies:
    @pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
    def test_the_connection_goes_through_it(self, venue: FakeVenue, scheme: str) -> None:
        proxy = Proxy()
        with Server(proxy) as server:
            via = f"{scheme}://127.0.0.1:{server.port}"
            with connect(venue.url, proxy=via) as client:
                client.subscribe("a")
                venue.publish("a", price=1)
                assert client.recv(5).data["price"] == 1
        assert proxy.logins == []
        assert len(proxy.asked) == server.connections == 1
        assert f"127.0.0.1:{venue.port}" in proxy.asked[0]

    @pytest.mark.parametrize(
        ("scheme", "host"), [("socks5", "127.0.0.1"), ("socks5h", "localhost")]
    )
    def test_the_name_is_resolved_here_or_there(
        self, venue: FakeVenue, scheme: str, host: str
    ) -> None:
        proxy = Proxy()
        with Server(proxy) as server:
            url = f"ws://localhost:{venue.port}/"
            with socket.socket(socket.AF_INET6) as probe:
                if probe.connect_ex(("::1", venue.port)) == 0:
                    pytest.skip("localhost is IPv6 first here")
            with connect(url, proxy=f"{scheme}://127.0.0.1:{server.port}"):
                pass
        assert proxy.asked == [f"{host}:{venue.port}"]

    @pytest.mark.parametrize("scheme", ["http", "socks5"])
    def test_it_gets_the_password(self, venue: FakeVenue, scheme: str) -> None:
        proxy = Proxy()
        with Server(proxy) as server:
            via = f"{scheme}://user:p%40ss@127.0.0.1:{server.port}"
            with connect(venue.url, proxy=via):
                pass
        assert proxy.logins == ["user:p@ss"]

    def test_it_gets_a_user_without_a_password(self, venue: FakeVenue) -> None:
        proxy = Proxy()
        with Server(proxy) as server:
            connect(venue.url, proxy=f"http://user@127.0.0.1:{server.port}").close()
        assert proxy.logins == ["user:"]

    def test_a_scheme_has_no_case(self, venue: FakeVenue) -> None:
        proxy = Proxy()
        with Server(proxy) as server:
            connect(venue.url, proxy=f"HTTP://127.0.0.1:{server.port}").close()
        assert len(proxy.asked) == 1

    def test_its_answer_may_come_in_pieces(self, venue: FakeVenue) -> None:
        proxy = Proxy(pieces=True)
        with Server(proxy) as server:
            connect(venue.url, proxy=f"http://127.0.0.1:{server.port}").close()

    def test_interim_answers_before_its_answer_are_skipped(self, venue: FakeVenue) -> None:
        proxy = Proxy(pieces=True, before=b"HTTP/1.1 100 Continue\r\n\r\n" * 2)
        with Server(proxy) as server:
            connect(venue.url, proxy=f"http://127.0.0.1:{server.port}").close()

    def test_interim_answers_without_end_are_cut(self, venue: FakeVenue) -> None:
        one = b"HTTP/1.1 103 Early Hints\r\n\r\n"
        many = one * (MAX_HEAD // len(one) + 1)
        with Server(Proxy(before=many)) as server:
            error = failure_of(venue.url, proxy=f"http://127.0.0.1:{server.port}")
            assert isinstance(error, ConnectionLost)
            assert str(MAX_HEAD) in str(error)

    def test_an_answer_without_end_is_cut(self, venue: FakeVenue) -> None:
        with Server(Proxy("200 OK\r\nX: " + "~" * MAX_HEAD)) as server:
            error = failure_of(venue.url, proxy=f"http://127.0.0.1:{server.port}")
            assert isinstance(error, ConnectionLost)
            assert str(MAX_HEAD) in str(error)

    def test_tls_is_end_to_end(self, tls_venue: FakeVenue) -> None:
        with Server(Proxy()) as server:
            via = f"http://127.0.0.1:{server.port}"
            assert isinstance(failure_of(tls_venue.url, proxy=via), ssl.SSLCertVerificationError)
            with connect(tls_venue.url, proxy=via, ssl_context=client_context()) as client:
                assert client.is_connected

    @pytest.mark.parametrize("scheme", ["http", "socks5"])
    def test_a_mute_one_is_ended_at_the_deadline(self, venue: FakeVenue, scheme: str) -> None:
        with Server(Proxy("mute")) as server:
            started = time.monotonic()
            via = f"{scheme}://u:{SECRET}@127.0.0.1:{server.port}"
            error = failure_of(venue.url, proxy=via, connect_timeout=0.3)
            assert time.monotonic() - started < 0.3 + SLACK
            assert isinstance(error, ConnectTimeout)
        assert venue.attempts == 0

    def test_a_dripping_one_is_ended_at_the_deadline_and_its_thread_with_it(
        self, venue: FakeVenue
    ) -> None:
        proxy = Proxy("drip")
        with Server(proxy) as server:
            started = time.monotonic()
            via = f"socks5://127.0.0.1:{server.port}"
            error = failure_of(venue.url, proxy=via, connect_timeout=0.3)
            assert time.monotonic() - started < 0.3 + SLACK
            assert isinstance(error, ConnectTimeout)
            for thread in threading.enumerate():
                if thread.name.startswith("wsclient-reader"):
                    thread.join(1)
                    assert not thread.is_alive()
            proxy.stop.set()

    @pytest.mark.parametrize("scheme", ["http", "socks5"])
    def test_close_ends_an_attempt_through_a_mute_one(
        self, venue: FakeVenue, scheme: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Server(Proxy("mute")) as server:
            via = f"{scheme}://127.0.0.1:{server.port}"
            client = wsclient.WebSocketClient(venue.url, proxy=via)
            connecting = Call(client.connect)
            while not server.connections:
                server.closing.wait(0.001)
            started = time.monotonic()
            client.close()
            assert time.monotonic() - started < 0.5
            with pytest.raises(wsclient.ClientClosed):
                connecting.result()
        assert "has not ended" not in caplog.text

    @pytest.mark.parametrize(
        ("scheme", "fault"),
        [
            ("http", "403 Forbidden"),
            ("http", "407 Proxy Authentication Required"),
            ("http", "502 Bad Gateway"),
            ("http", ""),
            ("socks5", "login"),
            ("socks5", "refuse"),
        ],
    )
    def test_one_that_refuses_is_a_lost_connection(
        self, venue: FakeVenue, scheme: str, fault: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with Server(Proxy(fault)) as server:
            via = f"{scheme}://user:{SECRET}@127.0.0.1:{server.port}"
            error = failure_of(venue.url, proxy=via)
            assert isinstance(error, ConnectionLost)
            assert "the proxy refused" in str(error)
        assert SECRET not in caplog.text
        assert venue.attempts == 0

    def test_one_that_is_not_there_is_a_connection_error(self, venue: FakeVenue) -> None:
        with refused_address() as (host, port):
            error = failure_of(venue.url, proxy=f"http://user:{SECRET}@{host}:{port}")
            assert isinstance(error, ConnectionRefusedError)
            assert "the proxy cannot be reached: " in str(error)

    @pytest.mark.parametrize(
        "proxy",
        [
            f"{SECRET}",
            f"https://user:{SECRET}@127.0.0.1:1",
            f"socks4://user:{SECRET}@127.0.0.1:1",
            f"http://user:{SECRET}@127.0.0.1",
            f"http://user:{SECRET}@127.0.0.1:x",
            f"http://user:{SECRET}@127.0.0.1:999999",
            f"http://user:{SECRET}@[::1",
            f"http://user:{SECRET}\u2100@127.0.0.1:1",
            f"http://user:{SECRET}@:1",
            f"http://:{SECRET}@127.0.0.1:1",
            f"http://us%3Aer:{SECRET}@127.0.0.1:1",
            f"http://user:{SECRET}€@127.0.0.1:1",
            f"socks5://{SECRET}@127.0.0.1:1",
            f"socks5h://:{SECRET}@127.0.0.1:1",
            f"socks5://user:{SECRET}ö@127.0.0.1:1",
            f"socks5://user:{SECRET * 50}@127.0.0.1:1",
        ],
    )
    def test_a_url_that_cannot_work_is_refused_when_given_and_not_quoted(
        self, venue: FakeVenue, proxy: str
    ) -> None:
        with pytest.raises(ConfigurationError) as caught:
            wsclient.WebSocketClient(venue.url, proxy=proxy)
        assert SECRET not in text_of(caught.value)

    def test_needs_python_socks(self, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "python_socks", None)
        error = failure_of(venue.url, proxy=f"http://user:{SECRET}@127.0.0.1:1")
        assert isinstance(error, NotSupported)
        assert "pip install" in str(error)

    def test_those_of_the_environment_are_ignored(
        self, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with listener() as trap:
            for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy"):
                value = f"http://127.0.0.1:{trap.getsockname()[1]}"
                monkeypatch.setenv(name, value)
                monkeypatch.setenv(name.upper(), value)
            monkeypatch.delenv("no_proxy", raising=False)
            monkeypatch.delenv("NO_PROXY", raising=False)
            with connect(venue.url) as client:
                assert client.is_connected
            assert not select.select([trap], [], [], 0)[0]
        assert os.environ["http_proxy"]
