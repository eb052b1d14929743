"""The values that dialects take and return: limits, credentials, REST requests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

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

    ``connects`` limits connection attempts: (count, seconds). ``max_age`` (s) is the age at which
    the client replaces a connection by itself.
    """

    channels_per_message: int = 1
    messages_per_second: float | None = None
    channels_per_connection: int | None = None
    connects: tuple[int, float] | None = (60, 60.0)
    max_age: float | None = None
