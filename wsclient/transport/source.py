"""What delivers frames to a client: a socket, or whatever else speaks for a venue.

The core knows only these protocols. It is given a :class:`Sources`, which makes a :class:`Source`
for each connection, and is itself the :class:`FrameReceiver`. ``transport.py`` has the sources that
are sockets.

All times on which decisions depend are those of the sources' clock. So a source that replays a
recording replays its times, too. By the machine's clock are only the waits of threads, the times of
events, and the lags of queues.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from wsclient.dialect.values import Credentials
from wsclient.errors import WSClientError
from wsclient.sansio.heartbeat import ConnectionView
from wsclient.stream.frames import Frames
from wsclient.threads.locks import Locks
from wsclient.threads.waiting import Waiter

__all__ = ["Clock", "FrameReceiver", "Source", "Sources"]


class Clock(Protocol):
    """A clock. The module ``time`` is one."""

    def monotonic(self) -> float:
        """Return the time (s) since some moment. It never goes back."""

    def time_ns(self) -> int:
        """Return the time (ns) since the epoch."""


class FrameReceiver(Protocol):
    """The taker of frames and of the other reports of sources.

    Each source reports on its own thread, one call at a time. The order is: :meth:`opened`; then
    any of the others; :meth:`ended`, exactly once, also if the connection was never opened; at last
    :meth:`finished`. No report of the source follows it.
    """

    def opened(
        self, connection_id: int, login: Any, credentials: Credentials | None, address: str
    ) -> None:
        """Note that the handshake is complete.

        ``login`` is what the dialect sends first, None for nothing. ``credentials`` are those of
        this connection. ``address`` is its address without the query.
        """

    def received(self, frames: Frames) -> None:
        """Process the messages of one read. Their list is taken out of ``frames``."""

    def in_frame(self, now: float) -> None:
        """Note that the last read, at ``now``, has ended within a frame, as most do."""

    def pace(self) -> None:
        """Let consumers catch up. Called after :meth:`received`, when it holds no message."""

    def pinged(self, connection_id: int) -> None:
        """Note a ping, which the source answers."""

    def ponged(self, connection_id: int) -> None:
        """Note a pong."""

    def unreadable(self, connection_id: int, text: str) -> None:
        """Note a frame that cannot be read. ``text`` says why."""

    def ended(self, connection_id: int, error: BaseException) -> None:
        """Note that the connection has ended, or could not be opened, by ``error``."""

    def finished(self, connection_id: int) -> None:
        """Note that the source has ended, and holds nothing any more."""

    def renewed(self, connection_id: int, error: WSClientError | None, has_expired: bool) -> None:
        """Note that the token of a connection is renewed, or was not because of ``error``.

        May be called on another thread than the source's. ``has_expired``: it is too late.
        """

    def wake(self) -> None:
        """Note that there is something to :meth:`Source.flush`."""


class Source(Protocol):
    """One connection. All methods may be called on any thread, and return at once."""

    @property
    def connection_id(self) -> int:
        """The id of the connection."""

    @property
    def thread(self) -> threading.Thread:
        """The thread that reports. It ends with the source."""

    def start(self) -> None:
        """Start the thread, which connects. Called once. Raises ThreadStartError."""

    def view(self) -> ConnectionView:
        """Return the state of the connection, for the heartbeat."""

    def send(self, payload: str | bytes, waiter: Waiter | None = None) -> None:
        """Queue a message. ``waiter`` is settled when it is sent or cannot be sent."""

    def ping(self) -> None:
        """Queue a ping."""

    def renew(self) -> None:
        """Renew the token of the connection, and report :meth:`FrameReceiver.renewed`."""

    def hang_up(self) -> None:
        """Queue a close frame. The peer's answer ends the connection."""

    def release(self) -> None:
        """Wake the callers whose messages the peer has not taken."""

    def flush(self) -> bool:
        """Send as much of what is queued as the peer takes. Return whether some is left."""

    def abort(self, why: WSClientError | None = None) -> None:
        """End the connection, or the attempt, now. ``why`` is reported as the cause."""

    def forked(self) -> None:
        """End in a forked child process, where the thread does not exist, without any report."""


class Sources(Protocol):
    """Makes the sources of one client. They have a clock in common."""

    @property
    def clock(self) -> Clock:
        """The clock of all sources, and of the client."""

    def mask(self, words: str) -> str:
        """Return ``words`` of the peer without any of our secrets that they quote."""

    def make(self, connection_id: int, receiver: FrameReceiver, locks: Locks, route: str) -> Source:
        """Return the source of a new connection of ``route``, not started.

        ``locks`` makes its locks.
        """
