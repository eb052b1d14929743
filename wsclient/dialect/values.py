"""The values that dialects take and return: limits, credentials, REST requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from wsclient.checks import check_duration, check_positive, check_whole, refuse
from wsclient.errors import ConfigurationError

__all__ = ["Credentials", "Limits", "RestRequest"]


class RestRequest(NamedTuple):
    """An HTTP request to ``url``: query parameters, method, headers and body."""

    url: str
    params: Mapping[str, str] = {}
    method: str = "GET"
    headers: Mapping[str, str] = {}
    body: str = ""

    def __repr__(self) -> str:
        """Return a text without secrets: keys and signatures are in headers, tokens in queries."""
        return f"RestRequest({self.method} {self.url.partition('?')[0]})"


class Credentials(dict[str, Any]):
    """The client's option ``credentials``, as resolved for one connection; ``repr`` hides all.

    ``clock()`` returns the time (s since the epoch), for signatures that include one. ``token`` is
    the result of :meth:`Dialect.token_from` before this connect. Reading a missing field raises
    ConfigurationError.
    """

    def __init__(
        self, given: Mapping[str, Any], clock: Callable[[], float], token: Any = None
    ) -> None:
        super().__init__(given)
        self.clock = clock
        self.token = token

    def __missing__(self, name: str) -> Any:
        raise ConfigurationError(
            f"the credentials must have {name!r}: the dialect needs it to log in"
        )

    def __repr__(self) -> str:
        return "Credentials(...)"


@dataclass(frozen=True)
class Limits:
    """The limits of the venue; None for no limit.

    ``channels_per_message``
        the channels that one message may name
    ``messages_per_second``
        the messages per second that a connection may send
    ``channels_per_connection``
        the channels that a connection may have: further ones get further connections
    ``connects``
        the connection attempts to an address: (count, seconds)
    ``max_age``
        the age (s) of a connection at which the client replaces it by itself
    ``connections``
        the connections at a time that a venue allows per key or IP address. With 1, a second
        connection ends the first, or is refused: so an old one is closed before its successor opens

    Raises ConfigurationError for a value that cannot work.
    """

    channels_per_message: int = 1
    messages_per_second: float | None = None
    channels_per_connection: int | None = None
    connects: tuple[int, float] | None = (60, 60.0)
    max_age: float | None = None
    connections: int | None = None

    def __post_init__(self) -> None:
        check_whole("channels_per_message", self.channels_per_message, 1)
        check_whole("channels_per_connection", self.channels_per_connection, 1, or_none=True)
        check_whole("connections", self.connections, 1, or_none=True)
        check_positive("messages_per_second", self.messages_per_second, or_none=True)
        check_duration("max_age", self.max_age, or_none=True)
        if self.connects is not None:
            if not isinstance(self.connects, tuple) or len(self.connects) != 2:
                refuse("connects", "a pair (count, seconds), or None", self.connects)
            count, seconds = self.connects
            check_whole("the count of connects", count, 1)
            check_duration("the seconds of connects", seconds)
