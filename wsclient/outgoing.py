"""The calls that send a caller's messages to the venue."""

from __future__ import annotations

from typing import Any

from wsclient.checks import check_timeout
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
        waiter = Waiter()
        encoded = encode(payload)
        self._core.calls.send(encoded, waiter, self._core.calls.route_of(payload))
        waiter.wait()

    @without_locals
    def request(self, payload: Any, timeout: float | None = 10.0) -> Any:
        """Send a request, and return the decoded reply that the dialect matches to it.

        Raises NotSupported if the dialect cannot match replies to requests, NotConnected as
        :meth:`send`, TimeoutError after ``timeout`` seconds, RequestRejected when the venue answers
        with an error, and OutcomeUnknown when the connection ends before the answer.
        """
        check_timeout(timeout)
        forbid_worker_threads()
        dialect = self._core.dialect
        sent, reply = Waiter(), Waiter()
        route = self._core.calls.route_of(payload)

        def make(id: int) -> str | bytes:
            credentials = self._core.supervisor.open_connection(route).credentials
            allowed = payload if credentials is None else dialect.authorize(payload, credentials)
            return encode_made("request", dialect.request(allowed, id))

        request_id = self._core.calls.request(make, sent, reply, self._core.until(timeout), route)
        try:
            sent.wait(Deadline(timeout))
        except TimeoutError:
            pass  # the reply's own deadline decides
        except BaseException:
            self._core.calls.cancel_request(request_id)
            raise
        return reply.wait()
