"""What a venue allows: channels, messages and age per connection, connections, connects."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from websockets.http11 import Request

from wsclient.testing.handshakes import HandshakeFailure, refusal

__all__ = ["ChannelRefusal", "ConnectGate", "Pace", "VenueLimits", "key_of"]

#: From here on a number is the code of a close frame, below it an HTTP status.
FIRST_CLOSE_CODE = 1000


@dataclass(frozen=True)
class VenueLimits:
    """The limits of a `FakeVenue`; None for no limit.

    Per connection:

    - `channels`: the most subscriptions. A request for more is refused, as the venue does it.
    - `messages`: (count, seconds). One more is answered as `excess` says: `"close"` closes the
      connection, `"refuse"` refuses a subscribe in it. With `counts_control_frames`, pings and
      pongs count too.
    - `max_age` (s): the venue closes the connection at this age.

    In all, for all connections together:

    - `connections`: the most at once, and `connections_per_key`: those of one API key. The header
      or the parameter of the query named `key` carries the key.
    - `connects`: (count, seconds) of handshakes per address, those that were refused included.

    `refusal` answers a handshake beyond these: an HTTP status, or from 1000 on the code of a close
    frame right after the handshake.
    """

    channels: int | None = None
    messages: tuple[int, float] | None = None
    excess: Literal["close", "refuse"] = "close"
    counts_control_frames: bool = False
    max_age: float | None = None
    connections: int | None = None
    connections_per_key: int | None = None
    key: str = "X-API-Key"
    connects: tuple[int, float] | None = None
    refusal: int = 429


class ChannelRefusal(str):
    """Why a venue refuses a channel: a text, and its `kind`.

    - `"channel"`: it does not exist, or the test refuses it;
    - `"route"`: the route of the connection does not carry it;
    - `"limit"`: the connection would have too many channels;
    - `"rate"`: the client has sent too many messages;
    - `"login"`: it is private, and the client has not logged in.
    """

    kind: Literal["channel", "route", "limit", "rate", "login"]

    def __new__(
        cls, reason: str, kind: Literal["channel", "route", "limit", "rate", "login"]
    ) -> ChannelRefusal:
        made = super().__new__(cls, reason)
        made.kind = kind
        return made


class Pace:
    """Counts what happens within the last seconds."""

    def __init__(self) -> None:
        self._times: deque[float] = deque()

    def exceeds(self, limit: tuple[int, float] | None, now: float) -> float:
        """Count one more. Return after how many seconds it would be allowed, 0 if it is now."""
        if limit is None:
            return 0.0
        count, seconds = limit
        self._times.append(now)
        while self._times[0] <= now - seconds:
            self._times.popleft()
        if len(self._times) <= count:
            return 0.0
        return self._times[-count] + seconds - now


class ConnectGate:
    """Decides which handshakes a venue refuses, by its limits."""

    def __init__(self) -> None:
        self._paces: dict[str, Pace] = {}

    def refusal(
        self,
        limits: VenueLimits,
        address: str,
        key: str | None,
        keys: Iterable[str | None],
        now: float,
    ) -> HandshakeFailure | int | None:
        """Return how to refuse a handshake: by an answer or a close code; None to accept it.

        `keys` are the API keys of the connections that there are, None for one without a key.
        """
        wait = self._paces.setdefault(address, Pace()).exceeds(limits.connects, now)
        others = list(keys)
        is_full = limits.connections is not None and len(others) >= limits.connections
        if limits.connections_per_key is not None and key is not None:
            is_full = is_full or others.count(key) >= limits.connections_per_key
        if not (wait or is_full):
            return None
        if limits.refusal >= FIRST_CLOSE_CODE:
            return limits.refusal
        return refusal(limits.refusal, math.ceil(wait) if wait else None, b"", ())


def key_of(request: Request, name: str) -> str | None:
    """Return the API key in a header or in the query of a handshake, or None."""
    query = parse_qs(urlsplit(request.path).query)
    return request.headers.get(name) or next(iter(query.get(name, ())), None)
