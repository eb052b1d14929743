"""The calls that observe a client: its state, its events and its statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from wsclient.errors import ConfigurationError
from wsclient.events import Event
from wsclient.messages import Message
from wsclient.runtime.accounting import connections_of, stats_of
from wsclient.runtime.checks import check_event_types
from wsclient.runtime.core import Core
from wsclient.runtime.eventstream import EventStream
from wsclient.sansio.life import State
from wsclient.telemetry.stats import ConnectionInfo, Stats
from wsclient.threads.forking import forked_error

_Event = TypeVar("_Event", bound=Event)


class _Observable:
    """Base of the client: the calls that change nothing, and do not wait for the venue."""

    _core: Core

    @property
    def state(self) -> State:
        """The state of the client: OPEN while a connection is, else that of the furthest one."""
        return self._core.supervisor.state

    @property
    def is_connected(self) -> bool:
        """True while a connection is open and messages can be sent."""
        return self.state is State.OPEN

    @property
    def connections(self) -> list[ConnectionInfo]:
        """The connections that have not ended, oldest first; the ``repr`` of the list is a table.

        Raises ClientForked in a child process.
        """
        self._core.check_call()
        return connections_of(self._core)

    def stats(self) -> Stats:
        """Return all counters and measurements as of now.

        Raises ClientForked in a child process.
        """
        self._core.check_call()
        return stats_of(self._core)

    def latest(self, channel: str) -> Message | None:
        """Return the newest message received of ``channel``, or None.

        Takes nothing from a queue and does not wait. With the option ``decode``, reading its
        ``data`` raises ``msgspec.ValidationError`` if they do not fit their declared type. Raises
        ClientForked in a child process, and what the function of ``decode`` raises.
        """
        message = self._newest(channel)
        if message is not None and self._core.has_types:
            message = message.copy()  # a consumer stores the data of its type in the original
            message.kind = self._core.types.of(channel) if self._core.types is not None else None
        return message

    def age(self, channel: str) -> float | None:
        """Return how long ago (s) the newest message of ``channel`` was received.

        None before its first message, and for a channel that the client does not know. By the
        monotonic clock, so a change of the system's time does not change it. It goes on growing
        while the connection is down, and starts again with the next message, of whichever
        connection; a message that ``validate`` refuses does not count. Does not wait. Raises
        ClientForked in a child process.
        """
        message = self._newest(channel)
        read_at = None if message is None else message.arrival.read_at
        return None if read_at is None else max(0.0, self._core.clock.monotonic() - read_at)

    def _newest(self, channel: str) -> Message | None:
        if self._core.is_forked:
            raise forked_error()
        found = self._core.supervisor.upkeep.channels.get(channel)
        return None if found is None else found.latest

    @overload
    def on_event(self, function: Callable[[Event], object]) -> None: ...

    @overload
    def on_event(self, function: Callable[[_Event], object], kind: type[_Event], /) -> None: ...

    @overload
    def on_event(
        self,
        function: Callable[[Any], object],
        kind: type[Event],
        other: type[Event],
        /,
        *types: type[Event],
    ) -> None: ...

    def on_event(self, function: Callable[[Any], object], *types: type[Event]) -> None:
        """Call ``function`` with each event from now on: see :mod:`wsclient.events`.

        With ``types``, the function gets only events of these types, such as ``Disconnected``.
        The function runs on the ``wsclient-callbacks`` thread, which it shares with the functions
        of :meth:`on`. An exception from it is logged and counted, and stops nothing. May be called
        before :meth:`connect`. ``close()`` waits, within its timeout, until the last event is
        delivered; no event is delivered after ``close()``. Raises ClientClosed after ``close()``,
        and the client's failure when it has failed.
        """
        if not callable(function):
            raise ConfigurationError(f"on_event() takes a function, not {type(function).__name__}")
        self._core.calls.on_event(function, check_event_types("on_event", types))

    def events(self, *types: type[Event]) -> EventStream:
        """Return an iterator over the client's events from now on: see :mod:`wsclient.events`.

        With ``types``, only over events of these types, such as ``Disconnected``. Iterate over it
        in a thread of your own. May be called before :meth:`connect`. The iteration ends after the
        last event, :class:`wsclient.events.Closed`, even if its type is not among them.
        """
        stream = EventStream(types=check_event_types("events", types))
        self._core.calls.listen(stream)
        return stream
