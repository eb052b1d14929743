"""The calls of the order books: they get their messages, and ask for snapshots."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from wsclient.messages import Message, SubscriptionState
from wsclient.runtime.core import Core
from wsclient.runtime.queues import MessageQueue

__all__ = ["BookCalls", "Routed"]


class Routed(NamedTuple):
    """The state of a channel when an order book's queue was added to its routes.

    ``is_wanted``: the channel was subscribed to. ``is_begun``: messages had come on this
    connection. ``newest``: the last message of the channel. ``is_given``: the queue got a copy of
    that message.
    """

    is_wanted: bool
    is_begun: bool
    newest: Message | None
    is_given: bool


class BookCalls:
    """The calls of the order books of one client."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def route_book(
        self, channel: str, queue: MessageQueue, begin: Callable[[Routed], None]
    ) -> None:
        """Also route the messages of ``channel`` to ``queue``, the queue of the books.

        The newest message that has already come is put into the queue first, since it may be the
        snapshot. ``begin`` is called before that, under the lock.
        """
        with self._core.lock:
            supervisor = self._core.supervisor
            self._core.router.route([channel], queue)
            entry, known = supervisor.wanted.get(channel), supervisor.upkeep.channels.get(channel)
            newest = None if known is None else known.latest
            pending = None if known is None else known.pending
            is_begun = (
                newest is not None
                and self._is_open(newest.connection_id)
                and entry is not None
                and entry.state is not SubscriptionState.UNSUBSCRIBING
                and (pending is None or pending.reason != "reconnect")
            )
            is_given = is_begun and pending is None
            begin(Routed(entry is not None, is_begun, newest, is_given))
            failure = queue.put([newest.copy()]) if newest is not None and is_given else None
            if failure is not None:
                supervisor.fail(failure)

    def _is_open(self, connection_id: int) -> bool:
        connection = self._core.supervisor.connection(connection_id)
        return connection is not None and connection.has_opened

    def want_snapshot(self, channel: str, delay: float, unless: Callable[[], bool]) -> None:
        """Resubscribe, in ``delay`` seconds, to the channel of an order book that is out of sync.

        :meth:`has_snapshot` cancels this. Until then it is repeated, within a rate limit.
        Does nothing if ``unless()``, called under the lock, is true: the book has been given up,
        and :meth:`has_snapshot` follows.
        """
        core = self._core
        with core.lock:
            if not unless() and channel in core.supervisor.wanted:
                core.supervisor.upkeep.refreshes.want(channel, core.clock.monotonic(), delay)
        core.wake()

    def has_snapshot(self, channel: str) -> None:
        """Cancel :meth:`want_snapshot`."""
        with self._core.lock:
            self._core.supervisor.upkeep.refreshes.done(channel)

    def count(self, name: str) -> None:
        """Add one to a counter of the client's statistics."""
        with self._core.lock:
            counters = self._core.supervisor.counters
            setattr(counters, name, getattr(counters, name) + 1)

    def active_on(self, channel: str) -> int | None:
        """Return the origin of the stream of a channel that is subscribed to, else None."""
        with self._core.lock:
            connection = self._core.supervisor.placement.serving(channel)
            is_active = self._core.supervisor.wanted.is_active(channel)
            if connection is None or not is_active:
                return None
            return self._core.supervisor.fleet.root(connection.id)

    def active_as(self, channel: str) -> int | None:
        """Return the id of the subscribe that made the channel active; None if it is not active.

        Takes no lock.
        """
        entry = self._core.supervisor.wanted.get(channel)
        is_active = entry is not None and entry.state is SubscriptionState.ACTIVE
        return entry.active_as if entry is not None and is_active else None
