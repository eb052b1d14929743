"""Where a connection goes: the user's functions and the dialect are asked before each attempt."""

from __future__ import annotations

import os.path
import re
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from wsclient.dialect.base import Dialect
from wsclient.dialect.values import Credentials, RestRequest
from wsclient.errors import ConfigurationError, ConnectionLost, WSClientError
from wsclient.options import Options
from wsclient.threads.logs import ClientLog
from wsclient.threads.waiting import Permit
from wsclient.transport.addresses import Address, parse_url
from wsclient.transport.handshake import check_handshake_headers
from wsclient.transport.masking import Mask

__all__ = ["Destination", "Target", "Turn", "call"]

#: Names of headers that are likely to hold a secret.
_SECRET = re.compile("auth|cookie|key|token|secret|pass|sign", re.IGNORECASE)


class Turn:
    """A context manager that lets one attempt at a time call the user's functions.

    It is not a lock, since those functions may block: other attempts fail until the function has
    returned.
    """

    def __init__(self) -> None:
        self._permit = Permit()

    def __enter__(self) -> None:
        if not self._permit.take():
            raise ConnectionLost(
                "a function passed as url, headers or credentials, or one of the dialect, has not "
                "returned from an earlier attempt, so this attempt cannot begin",
                reason="busy",
            )

    def __exit__(self, *_: object) -> None:
        self._permit.give_back()


class Destination(NamedTuple):
    """Where one attempt goes, and what it says there."""

    url: str
    headers: Mapping[str, str]
    credentials: Credentials | None
    #: True if the URL or the credentials hold a token that was fetched by REST.
    has_token: bool

    def check(self, options: Options) -> tuple[Address, str | None, list[str]]:
        """Return the address, the user's ``Host``, and the lines of the other headers.

        Raises ConfigurationError for headers that cannot be sent, or for secrets that would be
        sent unencrypted.
        """
        address = parse_url(self.url)
        host, lines = check_handshake_headers(self.headers)
        if not address.is_secure and not (address.is_loopback and options.proxy is None):
            secret = self.has_token or any(_SECRET.search(name) for name in self.headers)
            if options.credentials is not None or options.cookie is not None or secret:
                raise ConfigurationError(
                    "credentials, cookies, keys and tokens are sent over wss:// only (or to "
                    "loopback)"
                )
        return address, host, lines

    def cookie(self, options: Options) -> str:
        """Return the value of the header ``Cookie``; empty if there is none."""
        cookies = [value for name, value in self.headers.items() if name.lower() == "cookie"]
        cookies += [options.cookie] if options.cookie is not None else []
        return "; ".join(cookies)


@dataclass(frozen=True, eq=False, repr=False)
class Target:
    """Where a client connects, and how.

    Each attempt calls the callables, one attempt at a time (``turn``). ``mask`` masks the secrets
    of all attempts. ``log`` is the client's log.
    """

    url: str | Callable[[], str]
    options: Options
    dialect: Dialect
    log: ClientLog = field(default_factory=partial(ClientLog, "", ""))
    turn: Turn = field(default_factory=Turn)
    mask: Mask = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", Mask(self.url, self.options))

    def __repr__(self) -> str:
        where = "a function" if callable(self.url) else parse_url(self.url)
        return f"<Target {where}, {self.dialect.name}>"

    def ask(self, fetch: Callable[[RestRequest], Any], route: str = "") -> Destination:
        """Return the destination of the next attempt on ``route``.

        It comes from the options, the user's functions, the dialect, and the answer by REST that
        ``fetch`` returns.
        """
        with self.turn:
            return self._ask(fetch, route)

    def _ask(self, fetch: Callable[[RestRequest], Any], route: str) -> Destination:
        options, dialect, mask = self.options, self.dialect, self.mask
        credentials = _credentials(options)
        url = _value("url", self.url)
        if not callable(self.url):
            url = call("the dialect's address()", dialect.address, url, route)
        mask.learn(url, credentials=credentials)
        request = call("the dialect's url_request()", dialect.url_request, url, credentials)
        if request is not None:
            mask.learn(request.url, request.headers)
            answer = fetch(request)
            url = call("the dialect's url_from()", dialect.url_from, url, answer)
            if credentials is not None:
                credentials.token = call("the dialect's token_from()", dialect.token_from, answer)
                mask.learn(token=credentials.token)
        url = call("the dialect's url()", dialect.url, url, credentials)
        parse_url(url)  # a wrong URL is refused before the headers function is called
        headers = _value("headers", options.headers)
        mask.learn(url, headers)
        return Destination(url, headers or {}, credentials, request is not None)


def _value(name: str, option: Any) -> Any:
    """Return the value of ``option``, or the result of its function if it is one."""
    return call(f"the function passed as {name}", option) if callable(option) else option


def _credentials(options: Options) -> Credentials | None:
    given = _value("credentials", options.credentials)
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ConfigurationError("credentials must be a mapping, or a function that returns one")
    return Credentials(given, time.time)  # wall-clock time, which the venue compares


def call(what: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the user or of the dialect.

    If it raises, raises ConnectionLost with the function, the type of the error and its place, but
    not its text: the errors of HTTP clients quote URLs with their tokens.
    """
    try:
        return function(*args)
    except WSClientError:
        raise
    except BaseException as error:  # noqa: BLE001 - also SystemExit: the attempt has failed
        text = f"{what} raised {type(error).__name__}{_place(error)}"
    raise ConnectionLost(text)


def _place(error: BaseException) -> str:
    """Return the last line in the function's own file that ``error`` passed through, as text."""
    walk = list(traceback.walk_tb(error.__traceback__))[1:]
    places = [(frame.f_code.co_filename, line) for frame, line in walk]
    own = [place for place in places if place[0] == places[0][0]]
    return f" at line {own[-1][1]} of {os.path.basename(own[-1][0])}" if own else ""
