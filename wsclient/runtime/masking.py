"""Our own secrets, to be masked where a venue or a proxy quotes them back."""

from __future__ import annotations

import base64
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Set
from itertools import takewhile
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from wsclient.options import Options

__all__ = ["Mask"]

#: The shortest text (characters) of ours that is taken for a secret, and of a URL's path.
MIN_SECRET = 5
MIN_KEY = 12
#: A secret may be quoted in part, since quotes are cut: its first characters give it away.
BEGINNING = 8
#: How many sets of secrets that came with an attempt are remembered.
ATTEMPTS = 16
#: As much of a venue's words (characters) as is kept.
MAX_WORDS = 2000
#: As many values of one option are looked at.
MAX_VALUES = 1000

#: Words of an Authorization header that are none.
_SCHEMES = frozenset({"basic", "bearer", "digest", "token"})


class Mask:
    """Call it with what others say: our secrets in it are masked.

    Secrets are the values of headers, cookies, credentials and of a URL's query, a long part of a
    URL's path, the proxy's password, and a token fetched by REST. Any thread may call it;
    :meth:`learn` is for one at a time.
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
        #: The same by their beginnings.
        self._by_beginning: dict[str, list[str]] = {}
        self._collect()

    def learn(
        self,
        url: str = "",
        headers: object = None,
        credentials: object = None,
        token: object = None,
    ) -> None:
        """Mask these, too: they came from functions, or by REST, for one attempt."""
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
        words = words[:MAX_WORDS]
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


def _common(words: str, secret: str) -> int:
    """How many characters of ``secret`` the words begin with."""
    pairs = zip(words, secret, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _of_url(url: object) -> Iterator[str]:
    """Those of the query, of the password, and of the path. A name in a path, such as "stream", is
    none."""
    if not isinstance(url, str):
        return
    try:
        parts = urlsplit(url)
        password = parts.password or ""
    except ValueError:  # it will be refused, and not be quoted
        return
    raw = [value for field in parts.query.split("&") for value in (field, field.partition("=")[2])]
    yield from _of_texts([parts.query, *raw, *(value for _, value in parse_qsl(parts.query))])
    yield from _of_texts([password, unquote(password), *_login_of(parts.username or "", password)])
    yield from (name for name in parts.path.split("/") if len(name) >= MIN_KEY)


def _login_of(user: str, password: str) -> Iterator[str]:
    """Return how a proxy is told these, by HTTP: in base64."""
    if password:
        login = f"{unquote(user)}:{unquote(password)}".encode("latin-1", "replace")
        yield base64.b64encode(login).decode()


def _of_values(given: object) -> Iterator[str]:
    if isinstance(given, Mapping):
        yield from _of_texts(_leaves(given.values()))


def _leaves(values: Any) -> Iterator[Any]:
    """Return what is in containers within containers, too; a function may make them endless."""
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
    """Each text, and the words in it."""
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
    """The word, as JSON may have it, and both as the excerpt of a frame shows them."""
    for form in {word, word.replace("/", "\\/")}:
        yield form
        yield repr(form.encode(errors="replace"))[2:-1]
