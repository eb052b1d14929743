"""The checks of the connect: addresses, names, certificates, the clock."""

from __future__ import annotations

import ssl

import pytest

from support.broken import (
    DAY,
    HOST,
    now,
    resolving,
    server_context,
    skewed,
    trusting,
)
from support.checks import check
from support.helpers import listener, refused_address
from wsclient import diagnose
from wsclient.testing import FakeVenue


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

    def test_a_context_that_does_not_verify_is_a_warning(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with FakeVenue(ssl_context=server_context()) as venue:
            diagnosis = diagnose(venue.url, ssl_context=context)
        assert check(diagnosis, "tls").status == "warning"
        assert "not verified" in check(diagnosis, "tls").detail


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
