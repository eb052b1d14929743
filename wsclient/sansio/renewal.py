"""The renewal of a connection's token: when it is due, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable

from wsclient.errors import HandshakeRejected, WSClientError
from wsclient.events import RenewalFailed
from wsclient.sansio.actions import Renew
from wsclient.sansio.output import Output

__all__ = ["Renewal"]

INF = float("inf")
#: After a failure, the token is renewed again after this part of the interval, at most RETRY (s).
PART = 0.1
RETRY = 60.0


class Renewal:
    """Renews the token of one connection; all times are monotonic seconds.

    ``expire`` is called with the reason when the token has expired.
    """

    __slots__ = ("_connection_id", "_due_at", "_expire", "_interval", "_output")

    def __init__(self, connection_id: int, output: Output, expire: Callable[[str], None]) -> None:
        self._connection_id = connection_id
        self._output = output
        self._expire = expire
        self._interval: float | None = None
        #: ``inf`` while a request is under way.
        self._due_at = INF

    def begin(self, interval: float | None, now: float) -> None:
        """Renew the token, which is new, at an interval (s); None for never."""
        self._interval = interval
        self._due_at = INF if interval is None else now + interval

    def tick(self, now: float) -> None:
        """Renew the token if that is due."""
        if now >= self._due_at:
            self._due_at = INF
            self._output.do(Renew(self._connection_id))

    def finished(self, error: WSClientError | None, now: float, *, has_expired: bool) -> None:
        """Note that the token is renewed, or that ``error`` has prevented that.

        ``has_expired``: the venue does not know the token any more.
        """
        if has_expired:
            self._expire(f"the token of this connection has expired: {error}")
        elif error is None:
            self.begin(self._interval, now)
        else:
            delay = min(RETRY, PART * (self._interval or 0.0))
            if isinstance(error, HandshakeRejected):
                delay = max(delay, error.retry_after or 0.0)
            self._due_at = now + delay
            what = (round(delay, 3), str(error))
            self._output.notify(RenewalFailed, *what, connection_id=self._connection_id)

    def deadline(self) -> float:
        """Return when to call :meth:`tick` (monotonic s, ``inf`` for never)."""
        return self._due_at
