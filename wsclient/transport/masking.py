"""Masks our own secrets in the words of a venue or a proxy that quotes them."""

from __future__ import annotations

import base64
import json
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from itertools import takewhile
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from wsclient.options import Options
from wsclient.stream.codec import encode

__all__ = ["FrameMask", "Mask", "is_secret"]

#: The shortest text (characters) that is taken for a secret, and the shortest in a URL's path.
MIN_SECRET = 5
MIN_KEY = 12
#: A quote may be cut and hold only the beginning of a secret: this many characters identify it.
BEGINNING = 8
#: How many sets of secrets are remembered, each from one attempt.
ATTEMPTS = 16
#: The most of a venue's words (characters) that is kept.
MAX_WORDS = 2000
#: The most values of one option that are examined.
MAX_VALUES = 1000

#: This many characters identify a secret of a login that was cut.
BEGINNING_OF_LOGIN = 32

#: Words of an Authorization header that are not secret.
_SCHEMES = frozenset({"basic", "bearer", "digest", "token"})
#: The values of fields with these names are not shown, in either direction.
_SECRET = re.compile(
    r'("(?:[^"\\]*(?:token|secret|signature|passphrase|password|api_?key|listen_?key|auth_?sig'
    # A backslash before a quote: JSON text within a string.
    r'|auth_?payload|authorization)[^"\\]*|sign|sig|jwt|cookie)\\*"\s*:\s*\\*")(?:[^"\\]|\\.)+'
    # A colon: the name of a channel, as with bitfinex.
    r'|("key\\*"\s*:\s*\\*")[^"\\:]+(?=["\\]|$)',
    re.IGNORECASE,
)
#: What a login may hold besides the credentials, such as a signature.
_SIGNED = re.compile(r"[\w+/=.:-]{8,}")


class Mask:
    """A function of a text that replaces our secrets in it by ``***``.

    Secrets are the values of headers, cookies, credentials and of a URL's query, a long part of a
    URL's path, the proxy's password, and a token fetched by REST. Any thread may call it;
    :meth:`learn` must be called by one thread at a time.
    """

    def __init__(self, url: str | Callable[[], str], options: Options) -> None:
        self._given = frozenset(
            [
                *_of_url(url),
                *_of_url(options.proxy),
                *_of_texts([options.cookie]),
                *_of_values(options.headers),
                *_of_values(options.credentials),
            ]
        )
        self._recent: deque[frozenset[str]] = deque(maxlen=ATTEMPTS)
        self._secrets: tuple[str, ...] = ()
        #: The secrets by their first characters.
        self._by_beginning: dict[str, list[str]] = {}
        self._collect()

    def learn(
        self,
        url: str = "",
        headers: object = None,
        credentials: object = None,
        token: object = None,
    ) -> None:
        """Mask these secrets too: those of one attempt, from functions or from REST."""
        found = [*_of_url(url), *_of_values(headers), *_of_values(credentials)]
        found += _of_texts([token])
        new = frozenset(found).difference(self._given, *self._recent)
        if new:
            self._recent.append(new)
            self._collect()

    def _collect(self) -> None:
        known = self._given.union(*self._recent)
        beginnings: dict[str, list[str]] = {}
        for secret in known:
            beginnings.setdefault(secret[:BEGINNING], []).append(secret)
        self._secrets = tuple(sorted(known, key=len, reverse=True))
        self._by_beginning = beginnings

    def __call__(self, words: str) -> str:
        return self.whole(words[:MAX_WORDS])

    def whole(self, words: str) -> str:
        """Return all of ``words``, however long, without our secrets."""
        for secret in self._secrets:
            words = words.replace(secret, "***")
        for beginning, secrets in self._by_beginning.items():
            start = words.find(beginning)
            while start >= 0:
                length = max(_common(words[start:], secret) for secret in secrets)
                words = f"{words[:start]}***{words[start + length :]}"
                start = words.find(beginning, start + 3)
        return words

    def __repr__(self) -> str:
        return f"<Mask of {len(self._secrets)} secrets>"


class FrameMask:
    """A function of a frame's text that hides secrets, for one connection.

    It hides what ``mask`` does, texts of the connection's login, and the values of fields whose
    names say that they are secret. ``is_cut``: the texts may be cut within a secret.
    """

    __slots__ = ("_hidden", "_is_cut", "_mask")

    def __init__(self, mask: Callable[[str], str], *, is_cut: bool = False) -> None:
        self._mask = mask
        self._is_cut = is_cut
        #: Texts of this connection's login.
        self._hidden: list[str] = []

    def hide(self, login: Any) -> None:
        """Hide the signature, and whatever else in the login message may be secret."""
        try:
            payload = b"" if login is None else encode(login)
        except Exception:  # noqa: BLE001 - reported when it is to be sent
            return
        text = payload if isinstance(payload, str) else payload.decode(errors="replace")
        words = (word for word in _SIGNED.findall(text) if any(map(str.isdigit, word)))
        found = {word for word in words if not word.isdecimal()}  # a time may be shown
        self._hidden = sorted(found, key=len, reverse=True)

    def known(self, text: str) -> str:
        """Hide only the secrets that are known, wherever they stand."""
        text = self._mask(text)
        for secret in self._hidden:
            text = text.replace(secret, "***")
            if self._is_cut:
                text, beginning, _ = text.partition(secret[:BEGINNING_OF_LOGIN])
                text += "***" if beginning else ""  # the rest of a secret that was cut
        return text

    def __call__(self, text: str) -> str:
        return _SECRET.sub(r"\1\2***", self.known(text))


def is_secret(name: str) -> bool:
    """Return whether a field's name says that its value is secret."""
    return _SECRET.match(f'"{name}":"x"') is not None


def _common(words: str, secret: str) -> int:
    """Return how many characters of ``secret`` are at the beginning of ``words``."""
    pairs = zip(words, secret, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _of_url(url: object) -> Iterator[str]:
    """Yield the secrets in the query, the password and the path of a URL.

    A short name in the path, such as "stream", is not a secret.
    """
    if not isinstance(url, str):
        return
    try:
        parts = urlsplit(url)
        password = parts.password or ""
    except ValueError:  # the URL will be refused, and is not quoted
        return
    raw = [value for field in parts.query.split("&") for value in (field, field.partition("=")[2])]
    yield from _of_texts([parts.query, *raw, *(value for _, value in parse_qsl(parts.query))])
    yield from _of_texts([password, unquote(password), *_login_of(parts.username or "", password)])
    yield from (name for name in parts.path.split("/") if len(name) >= MIN_KEY)


def _login_of(user: str, password: str) -> Iterator[str]:
    """Yield the login in base64, the form in which an HTTP proxy gets it."""
    if password:
        login = f"{unquote(user)}:{unquote(password)}".encode("latin-1", "replace")
        yield base64.b64encode(login).decode()


def _of_values(given: object) -> Iterator[str]:
    if isinstance(given, Mapping):
        yield from _of_texts(_leaves(given.values()))


def _leaves(values: Any) -> Iterator[Any]:
    """Yield the values in nested containers, at most MAX_VALUES: a container may be endless."""
    todo, seen = [values], 0
    while todo and seen < MAX_VALUES:
        for value in todo.pop():
            seen += 1
            if isinstance(value, Mapping):
                todo.append(value.values())
            elif isinstance(value, (list, tuple, Set)):
                todo.append(value)
            else:
                yield value


def _of_texts(texts: Any) -> Iterator[str]:
    """Yield each text and the words in it, in all their forms."""
    for text in texts:
        if isinstance(text, bytes):
            text = text.decode("latin-1")
        if not isinstance(text, (str, int)) or isinstance(text, bool):
            continue
        words = str(text)
        for word in (words, *re.split(r"[\s;=,]+", words)):
            if len(word) >= MIN_SECRET and word.lower() not in _SCHEMES:
                yield from _forms(word)


def _forms(word: str) -> Iterator[str]:
    """Yield the word, its forms in JSON, and all as the excerpt of a frame shows them."""
    encoded = (json.dumps(word, ensure_ascii=is_ascii)[1:-1] for is_ascii in (False, True))
    for form in {word, word.replace("/", "\\/"), *encoded}:
        yield form
        yield repr(form.encode(errors="replace"))[2:-1]
