"""The URLs of venues and proxies: what is refused, and the address in one that is accepted.

Errors never quote a URL: its query, its path or its user part may hold a secret.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from wsclient.errors import ConfigurationError

__all__ = [
    "CONTROL",
    "SURROGATE",
    "Address",
    "ProxyUrl",
    "parse_proxy",
    "parse_url",
    "resource_of",
]

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
SURROGATE = re.compile(r"[\ud800-\udfff]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_SCHEME = re.compile("wss?://", re.IGNORECASE)


class Address(NamedTuple):
    """The host and port of a URL."""

    host: str
    port: int
    is_secure: bool

    @property
    def is_loopback(self) -> bool:
        """Whether the host is this machine, by its name or number."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def host_header(self) -> str:
        """The value of the header ``Host``, without the port if it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_secure else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.is_secure else 'ws'}://{host}:{self.port}"


def parse_url(url: object) -> Address:
    """Check a ``ws://`` or ``wss://`` URL, and return its address.

    Raises ConfigurationError without quoting the URL: its query, its path or its user part may hold
    a secret.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"url must be text, not {type(url).__name__}")
    if CONTROL.search(url) or " " in url or SURROGATE.search(url):
        raise ConfigurationError(
            "the URL contains a space, a control character or half of a surrogate pair; "
            "percent-encode it"
        )
    if not _SCHEME.match(url):
        raise ConfigurationError("the URL must begin with ws:// or wss://")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigurationError("the URL's host is not valid") from None
    if "@" in parts.netloc:
        raise ConfigurationError(
            "the URL has a user part, which would be ignored; pass "
            "headers={'Authorization': ...} instead"
        )
    if "#" in url:
        raise ConfigurationError("the URL has a fragment (#...), which WebSocket does not allow")
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ConfigurationError("the URL's port is not a number from 1 to 65535")
    if not parts.hostname:
        raise ConfigurationError("the URL has no host")
    secure = parts.scheme == "wss"
    return Address(_ascii_host(parts.hostname, "URL"), port or (443 if secure else 80), secure)


def _ascii_host(host: str, what: str) -> str:
    """Return ``host`` in the ASCII form that DNS, TLS and HTTP use."""
    if host.isascii():
        return host
    # Imported lazily: idna is slow to import, and most hosts are ASCII. requests depends on it.
    import idna

    try:
        return idna.encode(host, uts46=True).decode()
    except idna.IDNAError:
        raise ConfigurationError(
            f"the host of the {what} is not a valid international domain name"
        ) from None


def resource_of(url: str) -> str:
    """Return the path and query of a URL that :func:`parse_url` accepts, for the request line.

    They are unchanged, except that characters outside ASCII become UTF-8 percent-escapes.
    """
    rest = url.partition("://")[2]
    begin = min((rest.find(mark) for mark in "/?" if mark in rest), default=len(rest))
    resource = _NOT_ASCII.sub(lambda found: quote(found[0]), rest[begin:])
    return resource if resource.startswith("/") else f"/{resource}"


class ProxyUrl(NamedTuple):
    """The parts of a proxy's URL. ``user`` is None if it has no login."""

    scheme: str
    host: str
    port: int
    user: str | None
    password: str


def parse_proxy(proxy: str) -> ProxyUrl:
    """Check the URL of a proxy, and return its parts.

    Raises ConfigurationError, without quoting the URL.
    """
    scheme = proxy.partition("://")[0].lower()
    if scheme not in ("http", "socks5", "socks5h") or "://" not in proxy:
        raise ConfigurationError("proxy must begin with http://, socks5:// or socks5h://")
    try:
        parts = urlsplit(proxy)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ConfigurationError(
            "proxy must be like http://host:port or socks5://user:password@host:port"
        )
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    is_login = bool(user or password)
    if (
        scheme == "http"
        and is_login
        and not (user and ":" not in user and _is_latin(user + password))
    ):
        raise ConfigurationError(
            "the login of an HTTP proxy must be a user without a colon and a password, "
            "both in Latin-1"
        )
    if scheme != "http" and is_login and not (_is_socks_word(user) and _is_socks_word(password)):
        raise ConfigurationError(
            "the login of a SOCKS5 proxy must be a user and a password, each of 1 to 255 ASCII "
            "characters"
        )
    return ProxyUrl(scheme, _ascii_host(host, "proxy"), port, user or None, password)


def _is_socks_word(text: str) -> bool:
    return text.isascii() and 0 < len(text) < 256


def _is_latin(text: str) -> bool:
    return all(ord(char) < 256 for char in text)
