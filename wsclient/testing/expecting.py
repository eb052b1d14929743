"""What a test waits for on one connection of a venue."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from wsclient.testing.connection import _WebSocket
from wsclient.testing.frames import Payload

T = TypeVar("T")


class _Expecting(_WebSocket):
    """A connection that records what the client sends, for a test to take or to wait for."""

    #: Set by the subclass before anything can arrive.
    received: list[Payload]
    pings: list[bytes]
    pongs: list[bytes]
    _expected: dict[str, int]

    def expect(self, timeout: float = 5.0) -> Payload:
        """Return the client's next message, each once, in order."""
        return self._next("message", self.received, timeout)

    def expect_json(self, expected: Any = None, timeout: float = 5.0) -> Any:
        """Return the next message, decoded. It must equal `expected` unless that is None."""
        payload = self.expect(timeout)
        try:
            message = json.loads(payload)
        except ValueError:
            raise AssertionError(f"{self} received {payload!r}, which is not JSON") from None
        if expected is not None and message != expected:
            raise AssertionError(f"{self} expected\n  {expected!r}, received\n  {message!r}")
        return message

    def expect_ping(self, timeout: float = 5.0) -> bytes:
        """Return the payload of the next ping frame."""
        return self._next("ping", self.pings, timeout)

    def expect_pong(self, timeout: float = 5.0) -> bytes:
        """Return the payload of the next pong frame."""
        return self._next("pong", self.pongs, timeout)

    def expect_close(self, timeout: float = 5.0) -> int | None:
        """Wait until the client closes, and return the code of its close frame.

        The code is 1005 for a frame without one, and None without a close frame.
        """
        self._wait(lambda: self._client_is_done, "close frame", timeout)
        return self.close_code

    def wait_closed(self, timeout: float = 5.0) -> None:
        """Wait until the socket is closed."""
        self._wait(lambda: self.closed, "end of the connection", timeout)

    def _next(self, what: str, items: list[T], timeout: float) -> T:
        with self._lock:
            position = self._expected[what]
            self._wait(lambda: len(items) > position or self._client_is_done, what, timeout)
            if len(items) <= position:
                raise AssertionError(f"{self} ended before the next {what}")
            self._expected[what] += 1
            return items[position]

    def _wait(self, ready: Callable[[], bool], what: str, timeout: float) -> None:
        with self._lock:
            if not self._lock.wait_for(ready, timeout):
                raise AssertionError(f"no {what} within {timeout} s from {self}")
