"""The requests of callers that were sent on one connection and wait for the venue's reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wsclient.errors import OutcomeUnknown, RequestRejected, RequestTimeout
from wsclient.sansio.output import Output
from wsclient.sansio.timers import Timers
from wsclient.stream.items import Reply

__all__ = ["Replies"]

#: How many refused items of a request an error's text shows.
SHOWN = 5


@dataclass(eq=False, slots=True)
class _AwaitedReply:
    """A request that waits for ``count`` replies until ``deadline`` (monotonic s)."""

    token: Any
    deadline: float
    count: int
    replies: list[Reply] = field(default_factory=list)

    @property
    def payload(self) -> Any:
        """What has come so far: one reply, or a list of the replies; None if nothing."""
        payloads = [reply.payload for reply in self.replies]
        return payloads if self.count > 1 and payloads else (payloads or [None])[0]


class Replies:
    """The waiting requests, by id as text. ``mask`` hides the client's secrets in refusals."""

    __slots__ = ("_mask", "_output", "_timers", "_waiting")

    def __init__(self, output: Output, mask: Callable[[str], str]) -> None:
        self._output = output
        self._mask = mask
        self._waiting: dict[str, _AwaitedReply] = {}
        self._timers: Timers[str] = Timers(self._due)

    @property
    def are_open(self) -> bool:
        """Whether a request waits for its reply."""
        return bool(self._waiting)

    @property
    def oldest(self) -> int | None:
        """The id of the request that waits longest, None if none does."""
        return next(map(int, self._waiting), None)

    def begin(self, request_id: int, token: Any, deadline: float, count: int = 1) -> None:
        """Wait for ``count`` replies to a request that is about to be sent; settles ``token``."""
        self._waiting[str(request_id)] = _AwaitedReply(token, deadline, count)
        self._timers.add(str(request_id))

    def cancel(self, request_id: int) -> None:
        """Forget a request; its reply is then ignored."""
        self._waiting.pop(str(request_id), None)

    def received(self, reply: Reply) -> None:
        """Settle the request that ``reply`` belongs to, if nothing more is to come."""
        request = self._waiting.get(str(reply.request_id))
        if request is None:
            return
        request.replies.append(reply)
        if len(request.replies) < request.count and not reply.is_unknown:
            return
        del self._waiting[str(reply.request_id)]
        error = self._error(reply, request)
        self._output.settle(request.token, error, None if error else request.payload)

    def _error(
        self, last: Reply, request: _AwaitedReply
    ) -> OutcomeUnknown | RequestRejected | None:
        if last.is_unknown:
            text = "the venue does not know whether it has acted on the request"
            return OutcomeUnknown(f"{text}: {self._mask(str(last.error))}", request.payload)
        failed = last.failed or {}
        if request.count > 1:
            replies = enumerate(request.replies)
            failed = {index: reply.error for index, reply in replies if reply.error is not None}
        failed = {index: self._mask(str(reason)) for index, reason in failed.items()}
        if request.count == 1 and last.error is not None:
            text = f"the venue refused the request: {self._mask(str(last.error))}"
            return RequestRejected(text, last.payload, failed)
        if not failed:
            return None
        reasons = "; ".join(f"item {index}: {failed[index]}" for index in list(failed)[:SHOWN])
        reasons += f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
        text = f"the venue refused a part of the request: {reasons}"
        return RequestRejected(text, request.payload, failed)

    def expire(self, now: float) -> None:
        """Settle the requests whose time is over."""
        for key in self._timers.take(now):
            request = self._waiting.pop(key)
            error = RequestTimeout("no reply within the timeout", request.payload)
            self._output.settle(request.token, error)

    def deadline(self) -> float:
        """Return when to call :meth:`expire` (monotonic s, ``inf`` for never)."""
        return self._timers.deadline()

    def fail_all(self) -> None:
        """Settle all requests: no reply will arrive."""
        for request in self._waiting.values():
            text = "the request was sent, but the connection ended before the answer"
            self._output.settle(request.token, OutcomeUnknown(text, request.payload))
        self._waiting.clear()

    def _due(self, key: str) -> float | None:
        request = self._waiting.get(key)
        return None if request is None else request.deadline
