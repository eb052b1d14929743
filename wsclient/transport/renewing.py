"""The renewal of a connection's token by REST, beside the connection's reader."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from wsclient.dialect.values import RestRequest
from wsclient.errors import ConnectionLost, HandshakeRejected, ThreadStartError, WSClientError
from wsclient.threads.waiting import Deadline
from wsclient.threads.workers import WorkerThread, join, start
from wsclient.transport.sockets import Cancellable
from wsclient.transport.target import Destination, Target, call

__all__ = ["Renewing"]

#: How long (s) the end of a connection waits for the end of a request that it has cancelled.
PATIENCE = 1.0


class Renewing:
    """Renews the token of one connection. Each request has a thread of its own: requests are rare.

    ``fetch`` sends a request, with the Cancellable that ends it. ``finished`` is called on that
    thread, with the error, None for success, and whether the token has expired.
    """

    def __init__(
        self,
        connection_id: int,
        target: Target,
        there: Destination,
        fetch: Callable[[RestRequest, Cancellable], Any],
        finished: Callable[[WSClientError | None, bool], None],
    ) -> None:
        self._name = f"wsclient-renewal-{connection_id}"
        self._dialect = target.dialect
        self._there = there
        self._fetch = fetch
        self._finished = finished
        self._request = Cancellable("the connection has ended")
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Send a request. Its result is reported, also that there is none to send."""
        self._thread = thread = WorkerThread(self._name, self._run)
        try:
            start(thread)
        except ThreadStartError as error:
            self._thread = None
            self._finished(error, False)

    def cancel(self) -> None:
        """End a request that is under way. May be called on any thread."""
        self._request.cancel()

    def end(self) -> None:
        """Wait for the end of the thread of a cancelled request."""
        thread = self._thread
        if thread is not None:
            join(thread, Deadline(PATIENCE))

    def forked(self) -> None:
        """Close the copy of the parent's socket in a child process."""
        self._request.forked()

    def _run(self) -> None:
        error: WSClientError | None = None
        has_expired = False
        try:
            self._renew()
        except HandshakeRejected as refusal:
            error = refusal
            has_expired = self._has_expired(refusal)
        except WSClientError as failure:
            error = failure
        except BaseException as failure:  # noqa: BLE001 - any error is a failure of the request
            error = ConnectionLost(f"the renewal failed with {type(failure).__name__}")
        if not self._request.is_cancelled:
            self._finished(error, has_expired)

    def _renew(self) -> None:
        credentials = self._there.credentials
        if credentials is not None:
            renewal = self._dialect.renewal
            request = call("the dialect's renewal()", renewal, self._there.url, credentials)
            if request is not None:
                self._fetch(request, self._request)

    def _has_expired(self, refusal: HandshakeRejected) -> bool:
        try:
            return bool(self._dialect.has_expired(refusal))
        except Exception:  # noqa: BLE001 - a bug of the dialect: tried again
            return False
