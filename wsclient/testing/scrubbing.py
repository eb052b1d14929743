"""Removes secrets from what is recorded of a venue, or shown to people. Pure."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

from wsclient.testing.frames import Payload, as_bytes
from wsclient.transport.masking import FrameMask, is_secret

__all__ = ["HIDDEN", "Scrubber", "is_hidden", "is_login"]

HIDDEN = "***"
#: The shortest text (characters) that is taken for a secret because of where it stands; in a login
#: without a name, and in what the venue sends, where such names may mean something else.
MIN_NAMED, MIN_UNNAMED, MIN_RECEIVED = 5, 8, 12
#: A part of a URL's path that is no name, such as a listen key.
_KEY_IN_PATH = re.compile(r"(?=[^/]*\d)(?=[^/]*[A-Za-z])[\w-]{24,}")
#: Headers of a handshake that hold no secret, beside those of the protocol.
_PLAIN_HEADERS = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "cache-control",
        "connection",
        "content-type",
        "host",
        "origin",
        "pragma",
        "referer",
        "upgrade",
        "user-agent",
    }
)
#: Names whose values are secret however they look. Others, such as "token", may name a coin.
_SURELY_SECRET = re.compile("secret|sign|sig|pass|auth|jwt|cookie", re.IGNORECASE)
#: A text without a digit is a name, unless it is longer than names are.
MAX_NAME = 16
#: Words of an Authorization header that are not secret.
_SCHEMES = frozenset({"basic", "bearer", "digest", "token"})
#: The names of fields that say what a request is for, and the values that mean a login.
_VERBS = ("op", "method", "event", "type", "action", "request", "channel")
_LOGIN = re.compile(
    r"(?:(?:public|private|user|session)[/._])?(?:auth|login|log_?in|logon|authenticate|sign_?in)",
    re.IGNORECASE,
)
#: Fields of a login that hold no secret.
_PLAIN_FIELDS = frozenset({*_VERBS, "grant_type", "scope", "jsonrpc"})
_TEXT = "surrogateescape"
#: How binary messages may be compressed: by gzip, zlib, or as a bare stream of deflate.
_FORMS = (31, 15, -15)
#: The end of a message in a stream of deflate that goes on.
_FLUSHED = b"\x00\x00\xff\xff"
#: The most (bytes) that a message may hold which is looked into.
MAX_OPENED = 64 * 1024 * 1024


class Scrubber:
    """Replaces secrets by ``***``.

    Secrets are the texts given, and those that it has learned: the values of fields, parameters and
    headers whose names say so, keys in the path of a URL, and what a login holds. Learn everything
    first: a secret may have been seen before it was known to be one.

    Raises ValueError for an empty text, which would be everywhere.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        given = [secrets] if isinstance(secrets, str) else list(secrets)
        if "" in given:
            raise ValueError("a secret to be scrubbed must not be empty")
        self._secrets = set(given)
        self._ordered: list[str] | None = None
        self._by_name = FrameMask(str)

    # Learning.

    def learn_url(self, url: str) -> None:
        """Learn the secrets in the query, the path and the login of a URL."""
        parts = urlsplit(url)
        self.learn_path(f"{parts.path}?{parts.query}")
        self._learn(unquote(parts.password or ""), MIN_NAMED)

    def learn_path(self, text: str) -> None:
        """Learn the keys in the path and the query of a text that may hold a URL's path."""
        path, _, query = text.partition("?")
        for name, value in parse_qsl(query):
            if is_secret(name):
                self._learn(value, MIN_NAMED)
        for found in _KEY_IN_PATH.findall(path):
            self._learn(found, MIN_NAMED)

    def learn_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        """Learn the values of the headers that a client has added to its handshake."""
        for name, value in headers:
            plain = name.lower()
            if plain not in _PLAIN_HEADERS and not plain.startswith("sec-websocket-"):
                for word in (value, *re.split(r"[\s;=,]+", value)):
                    if word.lower() not in _SCHEMES:
                        self._learn(word, MIN_NAMED if is_secret(plain) else MIN_UNNAMED)

    def learn_sent(self, payload: Payload) -> None:
        """Learn the secrets in a message of a client."""
        message = _parsed(_opened(payload)[0])
        login = is_login(message)
        for name, value in _leaves(message):
            if is_hidden(name, value):
                if _SURELY_SECRET.search(name) or _is_random(value):
                    self._learn(value, MIN_NAMED)
            elif login and name not in _PLAIN_FIELDS:
                self._learn(value, MIN_UNNAMED)

    def learn_received(self, payload: Payload) -> None:
        """Learn the tokens and keys in a message of the venue."""
        payload, _ = _opened(payload)
        text = payload if isinstance(payload, str) else payload.decode("latin-1")
        if FrameMask(str)(text) == text:
            return  # no field has such a name
        for name, value in _leaves(_parsed(payload)):
            if is_hidden(name, value) and _is_random(value):
                self._learn(value, MIN_RECEIVED)

    def _learn(self, secret: str, least: int) -> None:
        if len(secret) >= least and secret != HIDDEN and not _is_number(secret):
            self._secrets.add(secret)
            self._ordered = None

    # Scrubbing.

    def text(self, text: str) -> str:
        """Return a text without the secrets that are known."""
        if self._ordered is None:
            forms = {form for secret in self._secrets for form in _forms(secret)}
            self._ordered = sorted(forms, key=lambda form: (-len(form), form))
        for form in self._ordered:
            text = text.replace(form, HIDDEN)
        return text

    def sent(self, payload: Payload) -> Payload:
        """Return a message of a client without secrets."""
        return _mapped(payload, lambda text: self._by_name(self.text(text)))

    def received(self, payload: Payload) -> Payload:
        """Return a message of the venue without secrets."""
        return _mapped(payload, self.text)

    def url(self, url: str) -> str:
        """Return a URL, or its path and query, without secrets."""
        head, mark, query = url.partition("?")
        head = _KEY_IN_PATH.sub(HIDDEN, re.sub(r"(?<=//)[^/@]*@", "", head))
        fields = [field.partition("=") for field in query.split("&")] if mark else []
        shown = [
            f"{name}{sign}{HIDDEN if is_secret(name) else value}" for name, sign, value in fields
        ]
        return self.text(head + mark + "&".join(shown))


def is_hidden(name: str, value: str) -> bool:
    """Return whether a field's value is not to be shown, by its name, or by both."""
    text = json.dumps({name: value}, ensure_ascii=False)
    return FrameMask(str)(text) != text or (value == HIDDEN and is_secret(name))


def is_login(message: Any) -> bool:
    """Return whether a decoded message of a client is a login."""
    if not isinstance(message, Mapping):
        return False
    return any(
        isinstance(message.get(verb), str) and _LOGIN.fullmatch(message[verb]) for verb in _VERBS
    )


def _parsed(payload: Payload) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        return None


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the texts in a message, each with the name of its field."""
    if isinstance(value, Mapping):
        for key, found in value.items():
            yield from _leaves(found, str(key))
    elif isinstance(value, list):
        for found in value:
            yield from _leaves(found, name)
    elif isinstance(value, str):
        yield name, value


def _is_random(text: str) -> bool:
    return any(map(str.isdigit, text)) or len(text) > MAX_NAME


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()


def _forms(secret: str) -> set[str]:
    """Return a secret as it stands in JSON and in URLs."""
    encoded = {json.dumps(secret, ensure_ascii=is_ascii)[1:-1] for is_ascii in (False, True)}
    slashed = {form.replace("/", "\\/") for form in encoded}
    return {secret, *encoded, *slashed, quote(secret), quote(secret, safe=""), quote_plus(secret)}


def _mapped(payload: Payload, function: Any) -> Payload:
    if isinstance(payload, str):
        return str(function(payload))
    opened, form = _opened(payload)
    text = as_bytes(opened).decode(errors=_TEXT)
    mapped = str(function(text))
    if mapped == text:
        return payload  # as it came, also if it is compressed
    data = mapped.encode(errors=_TEXT)
    if form is None:
        return data
    packer = zlib.compressobj(wbits=form)
    return packer.compress(data) + packer.flush()


def _opened(payload: Payload) -> tuple[Payload, int | None]:
    """Return a message without its compression, and that: see `zlib.compressobj`; None if none."""
    if isinstance(payload, bytes) and _parsed(payload) is None:
        for form in _FORMS:
            unpacker = zlib.decompressobj(wbits=form)
            try:
                opened = unpacker.decompress(payload, MAX_OPENED)
            except zlib.error:
                continue
            is_whole = unpacker.eof or payload.endswith(_FLUSHED)
            if is_whole and not unpacker.unconsumed_tail and not unpacker.unused_data:
                return opened, form
    return payload, None
