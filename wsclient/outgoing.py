"""The calls that send a caller's messages to the venue."""

from __future__ import annotations

from typing import Any

import msgspec

from wsclient.checks import check_timeout
from wsclient.dialect.values import Credentials
from wsclient.errors import OutcomeUnknown
from wsclient.runtime.calls import Posted, SendWaiter
from wsclient.runtime.checks import forbid_worker_threads
from wsclient.runtime.core import Core
from wsclient.stream.codec import encode, encode_made
from wsclient.threads.waiting import Deadline, Waiter
from wsclient.tracebacks import without_locals


class _Sender:
    """Base of the client: the calls that send messages."""

    _core: Core

    @without_locals
    def send(self, payload: Any) -> None:
        """Send text, bytes, or an object as JSON; return when its bytes are sent.

        Raises NotConnected at once when the connection is not open, or when it ends before any
        byte was sent; OutcomeUnknown when it ends half way. The message is neither kept for the
        next connection nor sent twice. If the venue takes it at an address to which the client has
        no connection yet, that connection is opened first, within ``connect_timeout``.
        """
        forbid_worker_threads()
        posted = Posted(encode(payload))
        waiter = SendWaiter(posted)
        self._core.calls.send(posted, waiter, self._core.calls.route_of(payload))
        try:
            waiter.wait()
        except OutcomeUnknown as error:
            self._describe(error, posted)
            raise

    @without_locals
    def request(self, payload: Any, timeout: float | None = 10.0) -> Any:
        """Send a request, and return the decoded reply that the dialect matches to it.

        Where the venue answers each item of a request on its own, returns the list of the replies,
        in the order of their arrival.

        Raises NotSupported if the dialect cannot match replies to requests; NotConnected as
        :meth:`send`; RequestRejected when the venue refuses it, or some of its items, which
        ``failed`` then names; OutcomeUnknown when the connection ends before the answer, and
        RequestTimeout (also an OutcomeUnknown and a TimeoutError) after ``timeout`` seconds.
        """
        check_timeout(timeout)
        forbid_worker_threads()
        dialect = self._core.dialect
        reply, posted = Waiter(), Posted()
        sent = SendWaiter(posted, reply)
        route = self._core.calls.route_of(payload)

        def make(id: int, credentials: Credentials | None) -> str | bytes:
            allowed = payload if credentials is None else dialect.authorize(payload, credentials)
            return encode_made("request", dialect.request(allowed, id))

        until, answers = self._core.until(timeout), dialect.answers(payload)
        try:
            self._core.calls.request(make, sent, reply, until, route, posted, answers)
            try:
                sent.wait(Deadline(timeout))
            except TimeoutError:
                pass  # the reply's own deadline decides
            return reply.wait()
        except BaseException as error:
            # Nobody waits any more. A connection is not replaced as long as it owes a reply.
            if posted.request_id is not None:
                self._core.calls.cancel_request(posted.request_id)
            if isinstance(error, OutcomeUnknown):
                self._describe(error, posted)
            raise

    def _describe(self, error: OutcomeUnknown, posted: Posted) -> None:
        error.request_id, error.sent_at = posted.request_id, posted.sent_at
        error.client_order_ids = order_ids(posted.payload, self._core.dialect.client_order_id)


def order_ids(payload: str | bytes, field: str) -> tuple[str | int, ...]:
    """Return the values of ``field`` in a JSON text, in their order; none if the field is empty."""
    try:
        rest = [msgspec.json.decode(payload)] if field else []
    except (msgspec.DecodeError, RecursionError):
        return ()
    found: list[str | int] = []
    while rest:
        value = rest.pop()
        if isinstance(value, dict):
            own = value.get(field)
            if isinstance(own, (str, int)) and own != "":
                found.append(own)
            rest.extend(reversed(list(value.values())))
        elif isinstance(value, list):
            rest.extend(reversed(value))
    return tuple(found)
