"""Advice texts: each failure says what to do, without secrets or terminal control sequences."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsclient.doctor.advice import (
    about_certificate,
    about_connection,
    about_dns,
    about_handshake,
    about_proxy,
    about_rest,
    about_tcp,
    about_tls,
    is_without_route,
    span,
)
from wsclient.errors import ConnectionLost, ConnectTimeout, HandshakeRejected
from wsclient.text import one_line
from wsclient.transport.addresses import Address

PLAIN, SECURE = Address("venue.example", 80, False), Address("venue.example", 443, True)
NOON = 1_800_000_000.0  # 2027-01-15 08:00 UTC


def shown(words: bytes) -> str:
    return one_line(words.decode("latin-1"))


def distrust(code: int, message: str = "no") -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code, error.verify_message = code, message
    return error


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.0123, "12 ms"),
        (2.345, "2.3 s"),
        (90, "90 s"),
        (120, "2 minutes"),
        (7_200, "2 hours"),
        (86_400, "1 day"),
        (200_000, "2 days"),
    ],
)
def test_a_duration_has_the_unit_that_a_person_would_choose(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (socket.gaierror(socket.EAI_NONAME, "x"), "does not exist"),
        (socket.gaierror(socket.EAI_AGAIN, "x"), "no DNS server"),
        (socket.gaierror(socket.EAI_FAIL, "no way"), "failed (no way)"),
        (ConnectTimeout("x"), "no DNS server"),
        (OSError("x"), "has no address"),
    ],
)
def test_a_lookup(error: OSError, said: str) -> None:
    finding = about_dns(error, "venue.example", "the URL")
    assert said in finding.detail
    assert "venue.example" in finding.detail
    assert finding.advice


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConnectionRefusedError(), "refused"),
        (TimeoutError(), "no answer"),
        (ConnectionResetError(), "reset"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "no route (No route to host)"),
        (OSError(errno.EPERM, "Not permitted"), "failed (Not permitted)"),
        (RuntimeError("5ecret"), "failed (RuntimeError)"),
    ],
)
def test_an_address(error: Exception, said: str) -> None:
    finding = about_tcp(error, 443, "the proxy")
    assert said in finding.detail
    assert finding.advice
    assert "5ecret" not in str(finding)


def test_no_route_is_not_a_refusal() -> None:
    assert is_without_route(OSError(errno.ENETUNREACH, "x"))
    assert not is_without_route(ConnectionRefusedError(errno.ECONNREFUSED, "x"))
    assert not is_without_route(None)


@pytest.mark.parametrize(
    ("error", "said", "advice"),
    [
        (ConnectTimeout("x"), "does not answer", "overloaded"),
        (socket.gaierror(1, "x"), "could not be looked up", "socks5h://"),
        (None, "407 No", "user:password@"),
        (None, "No acceptable authentication methods", "user:password@"),
        (None, "403 No", "forbid"),
        (None, "Connection not allowed by ruleset", "forbid"),
        (None, "504 Gateway Timeout", "could not look up or reach"),
        (None, "Host unreachable", "could not look up or reach"),
        (None, "Unexpected SOCKS version number: 0X48", "of that kind"),
    ],
)
def test_a_proxy(error: Exception | None, said: str, advice: str) -> None:
    finding = about_proxy(error or ConnectionLost("x"), said)
    assert said in finding.detail
    assert advice in finding.advice


CERTIFICATE: dict[str, Any] = {
    "subject": ((("commonName", "venue.example"),),),
    "issuer": ((("organizationName", "Sound"),), (("commonName", "R3"),)),
    "notBefore": "Jan 16 08:00:00 2027 GMT",
    "notAfter": "Jan 12 08:00:00 2027 GMT",
    "subjectAltName": tuple(("DNS", f"{n}.example") for n in range(7)),
}


@pytest.mark.parametrize(
    ("code", "certificate", "detail", "advice"),
    [
        (10, CERTIFICATE, "expired on 2027-01-12 08:00 UTC, 3 days ago", "2027-01-15 08:00 UTC"),
        (10, {}, "has expired", "report it"),
        (9, CERTIFICATE, "not valid before 2027-01-16 08:00 UTC", "2027-01-15 08:00 UTC"),
        (9, {}, "not valid yet", "report it"),
        (62, CERTIFICATE, "but for 0.example, 1.example, 2.example, 3.example, 4.example, ...", ""),
        (64, {}, "not for venue.example", "Check the host"),
        (18, CERTIFICATE, "self-signed", "send nothing there"),
        (19, CERTIFICATE, "by R3 (Sound), which", "ca-certificates"),
        (20, CERTIFICATE, "by R3 (Sound), which", "ca-certificates"),
        (21, {}, "by an authority, which", "ca-certificates"),
        (66, {}, "does not verify: EE key too weak", "send nothing there"),
    ],
)
def test_a_certificate_that_does_not_verify(
    code: int, certificate: Any, detail: str, advice: str
) -> None:
    finding = about_tls(distrust(code, "EE key too weak"), SECURE, certificate, NOON)
    assert detail in finding.detail
    assert advice in finding.advice


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (tls_error("WRONG_VERSION_NUMBER"), "is not TLS"),
        (tls_error("HTTP_REQUEST"), "is not TLS"),
        (tls_error("UNSUPPORTED_PROTOCOL"), "1.2 or newer"),
        (tls_error("TLSV1_ALERT_PROTOCOL_VERSION"), "1.2 or newer"),
        (tls_error("SSLV3_ALERT_HANDSHAKE_FAILURE"), "TLS failed: sslv3 alert handshake failure"),
        (ssl.SSLEOFError(8, "x"), "was closed"),
        (ConnectionResetError(), "was closed"),
        (ConnectTimeout("x"), "no answer"),
    ],
)
def test_tls(error: Exception, said: str) -> None:
    finding = about_tls(error, SECURE, {}, NOON)
    assert said in finding.detail
    assert finding.advice


@given(name=st.text(max_size=300))
def test_the_names_of_a_certificate_command_no_terminal(name: str) -> None:
    hostile = {
        **CERTIFICATE,
        "subjectAltName": (("DNS", name),),
        "issuer": ((("commonName", name),),),
        "subject": ((("commonName", name),),),
    }
    for code in (19, 62):
        assert about_tls(distrust(code), SECURE, hostile, NOON).detail.isprintable()
    assert about_certificate(hostile, NOON)[0].isprintable()


@pytest.mark.parametrize(("now", "is_warned"), [(NOON - 20 * 86_400, False), (NOON, True)])
def test_a_certificate_that_ends_soon(now: float, is_warned: bool) -> None:
    detail, warning = about_certificate(CERTIFICATE, now)
    assert detail.startswith("certificate of venue.example by R3 (Sound), until 2027-01-12")
    assert bool(warning) is is_warned


@given(status=st.integers(100, 999))
def test_there_is_something_to_do_about_every_status(status: int) -> None:
    error = HandshakeRejected("x", status)
    found = about_handshake(error, SECURE, b"HTTP/1.1 %d No" % status, {}, shown)
    assert found.advice
    assert about_rest(error, "api.example", "said").advice
    if status != 101:
        assert found.detail.startswith(f"HTTP {status} No")


@given(
    host=st.text("abc.:[]@%\x1b\x00é", max_size=12),
    path=st.binary(max_size=20),
    scheme=st.sampled_from([b"https:", b"wss:", b"", b"x\x1by:"]),
)
def test_a_redirects_scheme_and_host_are_shown(host: str, path: bytes, scheme: bytes) -> None:
    location = scheme + b"//u:5ecret@" + host.encode("latin-1") + b"/5ecret" + path + b"?5ecret"
    error = HandshakeRejected("x", 302)
    found = about_handshake(error, SECURE, b"HTTP/1.1 302 Found", {b"location": location}, shown)
    assert "5ecret" not in found.detail
    assert found.detail.isprintable()


@pytest.mark.parametrize(
    ("error", "address", "said", "advice"),
    [
        (ConnectTimeout("x"), SECURE, "no complete answer", "overloaded"),
        (ConnectionLost("x"), SECURE, "closed before an answer", "restarting"),
        (ConnectionLost("x"), PLAIN, "closed before an answer", "must begin with wss://"),
        (HandshakeRejected("not HTTP"), SECURE, "not HTTP", "not a WebSocket server"),
        (
            HandshakeRejected("x", excerpt=b"\x15\x03\x01"),
            PLAIN,
            "requires TLS",
            "port 80 speaks TLS",
        ),
        (HandshakeRejected("x", excerpt=b"\x15\x03\x01"), SECURE, "x", "not a WebSocket server"),
        (
            HandshakeRejected("x", 400, excerpt=b"Client sent an HTTP request to an HTTPS server."),
            PLAIN,
            "requires TLS",
            "wss://",
        ),
    ],
)
def test_a_handshake_without_a_status(
    error: Exception, address: Address, said: str, advice: str
) -> None:
    finding = about_handshake(error, address, b"", {}, shown)
    assert said in finding.detail
    assert advice in finding.advice


@pytest.mark.parametrize(
    ("error", "detail", "advice"),
    [
        (ConnectionLost("x", 1001, "closed"), "said", "going away"),
        (ConnectionLost("x", 1005, "closed"), "said", "without saying why"),
        (ConnectionLost("x", 1008, "closed"), "said", "key or token"),
        (ConnectionLost("x", 4403, "closed"), "said", "close code 4403"),
        (ConnectionLost("x", 1009, "protocol"), "said", "max_message_size"),
        (ConnectionLost("x", 1002, "protocol"), "said", "WebSocket protocol"),
        (ConnectionLost("x", reason="stalled"), "said", "half way"),
        (ConnectionLost("x", reason="silent"), "said", "sent nothing for too long"),
        (ConnectionLost("x"), "said", "without a close frame"),
        (
            ConnectionResetError(104, "Reset"),
            "the connection broke (Reset)",
            "without a close frame",
        ),
        (None, "said", "without a close frame"),
    ],
)
def test_a_connection_that_ends(error: Exception | None, detail: str, advice: str) -> None:
    finding = about_connection(error, "said")
    assert finding.detail == detail
    assert advice in finding.advice


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1006, 1007, 1009])
@pytest.mark.parametrize("reason", ["protocol", "ended", "stalled", "thread", "any other"])
def test_a_close_code_of_ours_is_not_looked_up_as_the_venues(code: int, reason: str) -> None:
    advice = about_connection(ConnectionLost("x", code, reason), "said").advice
    assert "close code" not in advice
    assert "orderly" not in advice
    assert "going away" not in advice


def test_rest_that_cannot_be_reached() -> None:
    finding = about_rest(ConnectionLost("x"), "api.example", "said")
    assert finding.detail == "said"
    assert "wsclient doctor wss://api.example" in finding.advice
    assert "did not answer" in about_rest(ConnectTimeout("x"), "api.example", "said").detail
