"""The routes of channels to queues, and the watch for queues that drop messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from wsclient.errors import WSClientError
from wsclient.messages import Gap, Message
from wsclient.runtime.queues import MessageQueue
from wsclient.sansio.measures import Lags

__all__ = ["Router", "Routes"]

Routes = dict[str, tuple[MessageQueue, ...]]

#: An episode of dropping ends when a queue has dropped nothing for this long (s).
LOOK_FOR_DROPS = 1.0


class Retired(NamedTuple):
    """The totals of the queues of closed readers, kept because counters never decrease.

    It is replaced as a whole, so that a sum of it and the queues counts each queue once.
    """

    dropped: int
    lags: Lags

    def and_of(self, queue: MessageQueue) -> Retired:
        """Return the totals including those of ``queue``."""
        lags = Lags()
        lags.absorb(self.lags)
        lags.absorb(queue.lags)
        return Retired(self.dropped + queue.dropped, lags)


class Router:
    """The queues and their routes.

    The core's lock protects all of this. Every call is made under it, unless a method says
    otherwise.
    """

    def __init__(self, default: MessageQueue, routes: Routes | None = None) -> None:
        #: The client's own queue, which also gets the messages that no caller requested.
        self.default = default
        self._queues: list[MessageQueue] = []
        self._routes: Routes = {} if routes is None else routes
        #: The number of routes that lead to other queues than the default queue alone.
        self.special = 0
        #: How many messages each queue had dropped at the last check. Queues that conflate drop
        #: on purpose and are not here.
        self._lossy: dict[MessageQueue, int] = {}
        #: When the queues are checked for drops next (monotonic s).
        self.look_at = 0.0
        #: True if a queue has begun to drop messages since :meth:`look` was called.
        self.has_changed = False
        #: The queues found dropping at the last check.
        self.dropping: set[MessageQueue] = set()
        self.retired = Retired(0, Lags())
        self.add(default)

    # The queues.

    @property
    def queues(self) -> Sequence[MessageQueue]:
        """All queues. Needs no lock."""
        return tuple(self._queues)

    def add(self, queue: MessageQueue) -> None:
        if queue not in self._queues:
            self._queues.append(queue)
            self._lossy[queue] = queue.overflowed

    def retire(self, queue: MessageQueue) -> None:
        """Forget a closed queue, and keep its totals."""
        if queue in self._queues:
            self._queues.remove(queue)
            self._lossy.pop(queue, None)
            self.dropping.discard(queue)
            self.retired = self.retired.and_of(queue)

    # The routes.

    def route(self, channels: Iterable[str], queue: MessageQueue) -> list[str]:
        """Add ``queue`` to the routes of ``channels``. Return the channels that were without it."""
        self.add(queue)
        new = [c for c in dict.fromkeys(channels) if queue not in self._routes.get(c, ())]
        for channel in new:
            self._set(channel, (*self._routes.get(channel, ()), queue))
        return new

    def unroute(self, channels: Iterable[str], queue: MessageQueue) -> None:
        """Remove ``queue`` from the routes of ``channels``."""
        for channel in channels:
            targets = self._routes.get(channel, ())
            self._set(channel, tuple(target for target in targets if target is not queue))

    def forget(self, channel: str) -> None:
        """Forget a channel that is no longer wanted."""
        self._set(channel, ())
        self.retired.lags.forget(channel)
        for queue in self._queues:
            queue.forget(channel)

    def has_others(self, channel: str, queue: MessageQueue) -> bool:
        """Return whether another queue also gets the channel's messages."""
        return any(target is not queue for target in self._routes.get(channel, ()))

    def _set(self, channel: str, targets: tuple[MessageQueue, ...]) -> None:
        plain = (self.default,)
        self.special -= self._routes.pop(channel, plain) != plain
        if targets:
            self._routes[channel] = targets
            self.special += targets != plain

    def pending_gap(self, channel: str, gap: Gap | None) -> Gap | None:
        """Merge ``gap``, which the channel's next message will carry, with the gaps of its queues.

        Returns the result, or None.
        """
        for queue in self._routes.get(channel, (self.default,)):
            queued = queue.pending_gap(channel)
            if queued is not None:
                gap = queued if gap is None else queued.merge(gap)
        return gap

    # The messages.

    def deliver(self, messages: Sequence[Message], size: int | None = None) -> WSClientError | None:
        """Put messages into their queues. Return the QueueOverflow of a queue that fails by it.

        ``size`` is the total size of their payloads (bytes), if it is known.
        """
        if not self.special:
            return self._put(self.default, messages, size)
        failure = None
        batches: dict[MessageQueue, list[Message]] = {}
        for message in messages:
            targets = self._routes.get(message.channel) or (self.default,)
            batches.setdefault(targets[0], []).append(message)
            for target in targets[1:]:
                # A gap made in one queue is not a gap in another.
                batches.setdefault(target, []).append(message.copy())
        for target, batch in batches.items():
            failure = self._put(target, batch) or failure
        return failure

    def _put(
        self, target: MessageQueue, messages: Sequence[Message], size: int | None = None
    ) -> WSClientError | None:
        failure = target.put(messages, size)
        if (
            target.overflowed != self._lossy.get(target, target.overflowed)
            and target not in self.dropping
        ):
            self.has_changed = True
        return failure

    # The drops.

    def look(self, now: float, report: Callable[[str, int], None]) -> float:
        """Call ``report(name, dropped)`` for each queue that has begun to drop, once per episode.

        Returns when to check again (monotonic s).
        """
        self.has_changed = False
        found = {target for target, before in self._lossy.items() if target.overflowed != before}
        if not found and not self.dropping:
            return float("inf")
        if now < self.look_at:
            return self.look_at
        self._lossy.update((target, target.overflowed) for target in found)
        begun, self.dropping = found - self.dropping, found
        for target in begun:
            report(target.name, target.overflowed)
        self.look_at = now + LOOK_FOR_DROPS
        return now if begun else self.look_at
