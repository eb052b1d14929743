"""Texts for the person on call: what went wrong at a step of a connect, and what to do about it.

This module does no I/O and never waits. No text has more of a URL than its host and port.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from wsclient.errors import ConnectionLost, HandshakeRejected
from wsclient.text import one_line
from wsclient.transport.addresses import Address

__all__ = [
    "Finding",
    "about_certificate",
    "about_connection",
    "about_dns",
    "about_handshake",
    "about_proxy",
    "about_rest",
    "about_tcp",
    "about_tls",
    "head",
    "is_without_route",
    "span",
]

#: A certificate that expires within this time (s) gets a warning.
EXPIRES_SOON = 14 * 86_400.0
#: The most names of a certificate that a text lists.
MAX_NAMES = 5

_NO_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
_NO_ROUTE = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.ENETDOWN,
}

# OpenSSL's verify codes of a certificate (X509_V_ERR_...).
_NOT_YET, _EXPIRED, _OTHER_HOST, _OTHER_IP = 9, 10, 62, 64
_SELF_SIGNED, _UNKNOWN_CA = 18, (2, 19, 20, 21)


class Finding(NamedTuple):
    """What was found (``detail``), and what to do about it (``advice``)."""

    detail: str
    advice: str


def span(seconds: float) -> str:
    """Return a duration as text, in the unit that a person would use."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * size or (unit == "day" and seconds >= size):
            count = int(seconds // size)
            return f"{count} {unit}{'s'[: count != 1]}"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def about_dns(error: BaseException, host: str, url: str) -> Finding:
    """Explain a failed lookup of ``host``. ``url`` names the URL that the host stands in."""
    if isinstance(error, socket.gaierror) and error.errno in _NO_NAME:
        return Finding(
            f"the name {host} does not exist",
            f"Look for a typo in the host of {url}. If it is right, this machine's DNS server does "
            "not know it: try `getent hosts` with it here and on another machine, and check the "
            "VPN.",
        )
    detail = f"no DNS server answered for {host}"
    if isinstance(error, socket.gaierror) and error.errno != socket.EAI_AGAIN:
        detail = f"the lookup of {host} failed ({error.strerror})"
    elif not isinstance(error, (TimeoutError, socket.gaierror)):
        detail = f"the name {host} has no address"
    return Finding(
        detail,
        "This machine cannot look up names now: check its network, the VPN, and the servers in "
        "/etc/resolv.conf.",
    )


def about_tcp(error: BaseException, port: int, whose: str) -> Finding:
    """Explain a failed TCP connection to ``whose``, which is the venue or the proxy."""
    if isinstance(error, ConnectionRefusedError):
        return Finding(
            "refused",
            f"The host is up, but nothing accepts connections on port {port}: check the port, then "
            f"whether {whose} is down for maintenance. A firewall may also refuse.",
        )
    if isinstance(error, TimeoutError):
        return Finding(
            "no answer",
            "Packets are lost on the way: a firewall drops them, or the host is down. Check that "
            f"outgoing TCP to port {port} is allowed here, and try from another network.",
        )
    if isinstance(error, ConnectionResetError):
        return Finding(
            "reset as soon as it was open",
            f"A firewall resets it, or {whose} does: it is restarting, refuses this machine's "
            "address, or allows no more connections from it.",
        )
    said = getattr(error, "strerror", None) or type(error).__name__
    if is_without_route(error):
        return Finding(
            f"no route ({said})",
            "This machine has no network that leads there: check its cable or Wi-Fi, its default "
            "route and the VPN.",
        )
    return Finding(f"failed ({said})", f"Is {whose} up? See its status page.")


def is_without_route(error: BaseException | None) -> bool:
    """Return whether this machine lacks the network for an address, for example IPv6."""
    return isinstance(error, OSError) and error.errno in _NO_ROUTE


def about_proxy(error: BaseException, said: str) -> Finding:
    """Explain a failure of the proxy. ``said`` is the error's text, safe to print."""
    if isinstance(error, socket.gaierror):
        advice = (
            "socks5:// looks up the venue's name on this machine. Use socks5h:// to have the proxy "
            "do it."
        )
        return Finding("the venue's name could not be looked up", advice)
    if isinstance(error, TimeoutError):
        said = "the proxy accepted the connection, but does not answer"
        advice = (
            "It is overloaded, cannot reach the venue, or is not a proxy of this kind: check "
            "http:// or socks5://, and the port."
        )
    elif re.search(r"\b407\b|authentic", said, re.IGNORECASE):
        advice = (
            "The proxy requires a user and a password, or rejects the ones given: use "
            "scheme://user:password@host:port, with special characters percent-encoded."
        )
    elif re.search(r"\b403\b|ruleset", said):
        advice = (
            "The rules of the proxy forbid this host or port (many proxies allow only port 443): "
            "ask its administrator."
        )
    elif re.search(r"\b(?:404|5\d\d)\b|unreachable|refused by|Connection refused|TTL", said):
        advice = (
            "The proxy works, but could not look up or reach the venue: check the URL's host and "
            "port, and try from the machine that the proxy runs on."
        )
    else:
        advice = "It may not be a proxy of that kind: check http:// or socks5://, and the port."
    return Finding(said, advice)


_TOO_OLD = re.compile("UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION|VERSION_TOO_LOW|INSUFFICIENT_SECURITY")
_NOT_TLS = re.compile("WRONG_VERSION_NUMBER|HTTP_REQUEST|RECORD_LAYER|PACKET_LENGTH|UNKNOWN_PROTO")


def about_tls(
    error: BaseException, address: Address, certificate: Mapping[str, Any], now: float
) -> Finding:
    """Explain a failed TLS handshake.

    ``certificate`` has the fields of a certificate that does not verify, as far as they are known;
    ``now`` is the time (s since the epoch).
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return _about_distrust(error, address.host, certificate, now)
    reason = getattr(error, "reason", None) or ""
    plain = (
        f"Check whether the venue speaks ws://, without TLS, on port {address.port}. If not, "
        "something on the way (a proxy, a login page) answers in its place."
    )
    if _NOT_TLS.search(reason):
        return Finding("what answers is not TLS", plain)
    if _TOO_OLD.search(reason):
        return Finding(
            "no version of TLS in common: 1.2 or newer is needed",
            "The venue, or a device in front of it, is out of date: ask the venue for an address "
            "with a newer TLS. An older version is not safe.",
        )
    if isinstance(error, TimeoutError):
        return Finding("no answer to the TLS greeting", plain)
    if isinstance(error, (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Finding(
            "the connection was closed during the TLS handshake",
            f"A firewall that filters by host name closes it, or the venue is restarting. {plain}",
        )
    words = reason.lower().replace("_", " ") or type(error).__name__
    return Finding(
        f"TLS failed: {words}",
        "The two sides do not agree on how to encrypt, or the venue requires a client certificate: "
        "see its documentation, and pass an ssl_context.",
    )


def _about_distrust(
    error: ssl.SSLCertVerificationError, host: str, certificate: Mapping[str, Any], now: float
) -> Finding:
    code = error.verify_code
    issuer = _name(certificate.get("issuer", ())) or "an authority"
    if code in (_EXPIRED, _NOT_YET):
        detail = f"the certificate {'has expired' if code == _EXPIRED else 'is not valid yet'}"
        if code == _EXPIRED and "notAfter" in certificate:
            end = ssl.cert_time_to_seconds(certificate["notAfter"])
            detail = f"the certificate expired on {_date(end)} UTC, {span(now - end)} ago"
        elif "notBefore" in certificate:
            start = ssl.cert_time_to_seconds(certificate["notBefore"])
            detail = f"the certificate is not valid before {_date(start)} UTC"
        return Finding(
            detail,
            f"By this machine's clock it is {_date(now)} UTC: check that. If it is right, only the "
            "venue can replace the certificate: report it. Do not switch verification off.",
        )
    if code in (_OTHER_HOST, _OTHER_IP):
        names = _names(certificate)
        listed = ", ".join(names[:MAX_NAMES]) + ", ..." * (len(names) > MAX_NAMES)
        return Finding(
            f"the certificate is not for {host}" + (f" but for {listed}" if listed else ""),
            "Check the host in the URL: it must be one of those names, not an IP address. If it is "
            "right, DNS or something on the way leads to another host.",
        )
    untrusted = (
        "If it belongs to a host of yours, or to a proxy of your company that inspects TLS, trust "
        "it with ssl_context=. Otherwise somebody on the way answers in the venue's place: send "
        "nothing there."
    )
    if code == _SELF_SIGNED:
        return Finding("the certificate is self-signed: no authority vouches for it", untrusted)
    if code in _UNKNOWN_CA:
        return Finding(
            f"the certificate is by {issuer}, which this machine does not trust",
            "Check that this machine's CA certificates are installed and up to date (package "
            f"ca-certificates). {untrusted}",
        )
    return Finding(f"the certificate does not verify: {error.verify_message}", untrusted)


def about_certificate(certificate: Mapping[str, Any], now: float) -> tuple[str, str]:
    """Describe a certificate that verifies: subject, issuer and expiry, and advice or ``""``.

    The advice is a warning that the certificate expires soon.
    """
    end = ssl.cert_time_to_seconds(certificate["notAfter"])
    left = end - now
    names = _names(certificate)
    subject = _name(certificate.get("subject", ())) or (names[0] if names else "an unnamed subject")
    detail = (
        f"certificate of {subject} by {_name(certificate['issuer'])}, until {_date(end)[:10]} "
        f"({span(max(0.0, left))} left)"
    )
    soon = "The certificate expires soon: see that it is renewed, or all connections will fail."
    return detail, soon if left < EXPIRES_SOON else ""


def _names(certificate: Mapping[str, Any]) -> list[str]:
    return [one_line(name) for _, name in certificate.get("subjectAltName", ())]


def _name(parts: Any) -> str:
    """Return the common name and the organization of a subject or an issuer."""
    found = {key: one_line(value) for part in parts for key, value in part}
    names = [found[key] for key in ("commonName", "organizationName") if key in found]
    return f"{names[0]} ({names[1]})" if len(names) == 2 else "".join(names)


def _date(at: float) -> str:
    return f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%d %H:%M}"


_BY_STATUS = {
    400: "The venue did not understand the request: check the path in the URL, and whether the "
    "venue requires a header or a subprotocol.",
    401: "The venue requires credentials, or rejects the ones given: check the key or token, its "
    "expiry, and this machine's clock. The client does not retry by itself.",
    403: "The venue refuses this machine or this key: an IP address that is not on its list, a "
    "region that it blocks, a ban. The client does not retry by itself.",
    404: "There is nothing at this path: check the path in the URL.",
    405: "This address answers, but not as a WebSocket: check the path in the URL.",
    407: "A proxy on the way requires credentials: pass proxy=http://user:password@host:port",
    426: "This address speaks another protocol, or another version of it: check the path in the "
    "URL and the venue's documentation.",
    451: "The venue may not serve this region: connect from another one.",
}
_SPEAKS_TLS = re.compile(rb"[\x15\x16]\x03|.*HTTPS (?:port|server)", re.DOTALL)


def about_handshake(
    error: BaseException,
    address: Address,
    status_line: bytes,
    fields: Mapping[bytes, bytes],
    shown: Callable[[bytes], str],
) -> Finding:
    """Explain a failed upgrade request.

    ``fields`` are the headers of the answer; ``shown`` makes the venue's words safe to print.
    """
    wants_tls = "" if address.is_secure else " Perhaps the URL must begin with wss://."
    if isinstance(error, TimeoutError):
        return Finding(
            "no complete answer to the upgrade request",
            "The venue accepts connections, but is stuck or overloaded: see its status page, and "
            f"try another of its addresses.{wants_tls}",
        )
    if not isinstance(error, HandshakeRejected):
        return Finding(
            "the connection was closed before an answer to the upgrade request",
            "The venue is restarting, refuses this machine's address, or allows no more "
            f"connections from it: see its status page.{wants_tls}",
        )
    if not address.is_secure and _SPEAKS_TLS.match(error.excerpt):
        advice = f"Begin the URL with wss://: port {address.port} speaks TLS."
        return Finding("the venue requires TLS, but the URL says ws://", advice)
    if error.status in (0, 101):
        return Finding(
            str(error),
            "What answers there is not a WebSocket server, or a broken one: check the host, the "
            f"port and the path in the URL.{wants_tls}",
        )
    detail = head(status_line, fields, shown)
    if error.retry_after is not None:
        detail += f", retry after {span(error.retry_after)}"
    if 300 <= error.status < 400:
        detail += _target(fields.get(b"location", b""), shown)
    return Finding(detail, _about_status(error.status))


def head(status_line: bytes, fields: Mapping[bytes, bytes], shown: Callable[[bytes], str]) -> str:
    """Return the status of an answer, and the headers that help to see what answered."""
    names = ((b"server", "server"), (b"content-type", "type"))
    marks = [f"{label}: {shown(fields[name])}" for name, label in names if name in fields]
    return f"HTTP {shown(status_line.partition(b' ')[2])}" + f" ({', '.join(marks)})" * bool(marks)


def _about_status(status: int) -> str:
    if status in (418, 429):
        return (
            "Too many connects or requests from this IP address: stop other programs that connect "
            "from it. The client waits by itself for as long as the venue demands."
        )
    if 200 <= status < 300:
        return (
            "A web server answered instead of a WebSocket: the login page of a hotel or company "
            "network, or the wrong host or path in the URL. Open the host in a browser on this "
            "machine."
        )
    if 300 <= status < 400:
        return (
            "The client follows no redirect, to protect your keys. If the venue's documentation "
            "names that address, use it in the URL."
        )
    if status >= 500:
        return (
            "The venue, or a proxy in front of it, has a failure: see its status page. The client "
            "keeps retrying by itself."
        )
    return _BY_STATUS.get(status, "Look up this status in the venue's documentation.")


def _target(location: bytes, shown: Callable[[bytes], str]) -> str:
    """Return the scheme and host that a redirect leads to; its path may hold a token."""
    try:
        parts = urlsplit(location.decode("latin-1"))
        if not parts.hostname:
            return ", to another path of this host"
        port = f":{parts.port}" if parts.port else ""
        origin = f"{parts.scheme}{':' * bool(parts.scheme)}//{parts.hostname}{port}"
        return f", to {shown(origin.encode('latin-1'))}"
    except ValueError:
        return ""


def about_rest(error: BaseException, host: str, said: str) -> Finding:
    """Explain a failed REST request for the token and the address of a connection."""
    if isinstance(error, HandshakeRejected):
        advice = "The venue refuses to give a token: look up the code in its documentation."
        if not 200 <= error.status < 300:
            advice = f"{_about_status(error.status)} (Each connection needs a token by REST.)"
        return Finding(said, advice)
    if isinstance(error, TimeoutError):
        said = f"{host} did not answer in time"
    return Finding(
        said,
        f"A connection needs a token by REST from {host}. Run `wsclient doctor wss://{host}` to "
        "see how far that host can be reached; if it can, see the venue's status page.",
    )


#: Close codes that a venue has sent.
_BY_CODE = {
    1000: "The venue closed the connection in an orderly way: it may require another path, a login "
    "or a subscription first. See its documentation.",
    1001: "The venue, or one of its machines, is going away: a restart or maintenance. The client "
    "reconnects by itself.",
    1005: "The venue closed the connection without saying why. See its status page, and its limits "
    "of connections and requests.",
    1008: "The venue refuses this client: a key or token that is wrong or has expired, an IP "
    "address that is not on its list, or too many connections.",
    1011: "The venue has an internal error: see its status page. The client reconnects by itself.",
    1012: "The venue is restarting. The client reconnects by itself.",
    1013: "The venue is overloaded and asks to retry later. The client reconnects by itself.",
}

#: The other ends, by the word of ``ConnectionLost.reason``. Their close codes are the client's own.
_BY_REASON = {
    "protocol": "What the venue sent breaks the WebSocket protocol, or a limit of the client. If a "
    "message is too large, raise max_message_size. Otherwise something on the way changes the "
    "frames, or the venue has a bug: report it.",
    "stalled": "A frame stopped half way: packets are lost on the way, or the venue hangs. The "
    "client reconnects by itself.",
    "deaf": "The venue does not read what the client sends: it hangs, or packets are lost on the "
    "way. The client reconnects by itself.",
    "half-open": "Nothing came back from the venue: packets are lost on the way, or the venue "
    "hangs. The client reconnects by itself.",
    "silent": "The venue sent nothing for too long: its feed has stopped, or silence_timeout is "
    "too short.",
    "unanswered": "The venue does not answer subscriptions: see its status page.",
}
_CUT = (
    "It ended without a close frame: a firewall or load balancer cut it, the venue crashed, or "
    "there are too many connections from this IP address."
)


def about_connection(error: BaseException | None, said: str) -> Finding:
    """Explain why an open connection has ended."""
    if isinstance(error, OSError) and not isinstance(error, ConnectionLost):
        said = f"the connection broke ({error.strerror or type(error).__name__})"
    if not isinstance(error, ConnectionLost):
        return Finding(said, _CUT)
    if error.reason != "closed":
        return Finding(said, _BY_REASON.get(error.reason, _CUT))
    unknown = f"Look up the close code {error.code} in the venue's documentation."
    return Finding(said, _BY_CODE.get(error.code, unknown))
