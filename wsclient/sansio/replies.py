"""The requests of callers that were sent on one connection and wait for the venue's reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsclient.errors import OutcomeUnknown, RequestRejected, WaitTimeout, WSClientError
from wsclient.sansio.output import Output
from wsclient.sansio.timers import Timers
from wsclient.stream.items import Reply

__all__ = ["Replies"]


class Replies:
    """The waiting requests, by id as text. ``mask`` hides the client's secrets in refusals."""

    __slots__ = ("_mask", "_output", "_timers", "_waiting")

    def __init__(self, output: Output, mask: Callable[[str], str]) -> None:
        self._output = output
        self._mask = mask
        self._waiting: dict[str, tuple[Any, float]] = {}
        self._timers: Timers[str] = Timers(self._due)

    @property
    def are_open(self) -> bool:
        """Whether a request waits for its reply."""
        return bool(self._waiting)

    @property
    def oldest(self) -> int | None:
        """The id of the request that waits longest, None if none does."""
        return next(map(int, self._waiting), None)

    def begin(self, request_id: int, token: Any, deadline: float) -> None:
        """Wait for the reply to a request that is about to be sent; it settles ``token``."""
        self._waiting[str(request_id)] = (token, deadline)
        self._timers.add(str(request_id))

    def cancel(self, request_id: int) -> None:
        """Forget a request; its reply is then ignored."""
        self._waiting.pop(str(request_id), None)

    def received(self, reply: Reply) -> None:
        """Settle the request that ``reply`` belongs to."""
        found = self._waiting.pop(str(reply.request_id), None)
        if found is None:
            return
        token, _ = found
        if reply.error is None:
            self._output.settle(token, None, reply.payload)
        else:
            reason = self._mask(str(reply.error))
            error: WSClientError
            if reply.is_unknown:
                text = "the venue does not say whether it has acted on the request"
                error = OutcomeUnknown(f"{text}: {reason}")
            else:
                error = RequestRejected(f"the venue refused the request: {reason}", reply.payload)
            self._output.settle(token, error)

    def expire(self, now: float) -> None:
        """Settle the requests whose time is over."""
        for key in self._timers.take(now):
            token, _ = self._waiting.pop(key)
            self._output.settle(token, WaitTimeout("no reply within the timeout"))

    def deadline(self) -> float:
        """Return when to call :meth:`expire` (monotonic s, ``inf`` for never)."""
        return self._timers.deadline()

    def fail_all(self) -> None:
        """Settle all requests: no reply will arrive."""
        for token, _ in self._waiting.values():
            error = OutcomeUnknown(
                "the request was sent, but the connection ended before the answer"
            )
            self._output.settle(token, error)
        self._waiting.clear()

    def _due(self, key: str) -> float | None:
        found = self._waiting.get(key)
        return None if found is None else found[1]
