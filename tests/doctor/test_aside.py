"""What is done beside the client: its other addresses, a certificate that does not verify."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from typing import Any

import pytest

from support.broken import (
    DAY,
    HOST,
    SHORT,
    now,
    resolving,
    server_context,
    trusting,
)
from support.checks import check, statuses
from support.helpers import Server, dead_address, linux_only, refused_address, until
from support.proxies import Proxy
from wsclient import diagnose
from wsclient.testing import FakeVenue

#: How late (s) a deadline may be met: the client says goodbye, and the machine may be busy.
SLACK = 1.5


class TestAddresses:
    """Addresses after the one that the client uses are tried too."""

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


class TestCertificates:
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
