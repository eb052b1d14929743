"""The routes of channels to queues, and the watch for queues that drop messages.

A queue gets the channels that its owner subscribed to. The client's own queue gets those of
``subscribe()``, and what is unsolicited: channels that the venue sends by itself, and messages of
unknown type (option ``deliver_unhandled``).

When the last queue has left a channel (a closed reader, an unsubscribe, a subscribe without an
answer), the messages that still come are *late*. They are discarded, also for the client's own
queue: until the venue has answered the unsubscribe, and after that for as long as the connection
lasts, since they may have been under way.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec

from wsclient.errors import WSClientError
from wsclient.messages import Gap, Message
from wsclient.runtime.queues import MessageQueue
from wsclient.telemetry.histogram import Lags

__all__ = ["Router", "Routes", "strip"]

Routes = dict[str, tuple[MessageQueue, ...]]

#: An episode of dropping ends when a queue has dropped nothing for this long (s).
LOOK_FOR_DROPS = 1.0
#: A consumer keeps up with the feed if at most this many messages are waiting.
KEEPS_UP = 256
#: How many channels without a queue are remembered, to discard their late messages.
MAX_LEFT = 10_000

_channel = attrgetter("channel")


class Retired(NamedTuple):
    """The totals of the queues of closed readers, kept because counters never decrease.

    It is replaced as a whole, so that a sum of it and the queues counts each queue once.
    """

    dropped: int
    invalid: int
    lags: Lags

    def and_of(self, queue: MessageQueue) -> Retired:
        """Return the totals including those of ``queue``."""
        lags = Lags()
        lags.absorb(self.lags)
        lags.absorb(queue.lags)
        return Retired(self.dropped + queue.dropped, self.invalid + queue.invalid, lags)


class Router:
    """The queues and their routes.

    ``is_wanted`` returns whether a channel is subscribed to, or being unsubscribed;
    ``connection_id`` returns the number of the newest connection.

    The core's lock protects all of this. Every call is made under it, unless a method says
    otherwise. Only :meth:`_set` changes the routes.
    """

    __slots__ = (
        "_connection_id",
        "_has_unsolicited",
        "_is_wanted",
        "_left",
        "_lossy",
        "_others",
        "_own",
        "_plain",
        "_queues",
        "_routes",
        "_served",
        "_tentative",
        "default",
        "dropping",
        "has_changed",
        "is_uniform",
        "look_at",
        "retired",
    )

    def __init__(
        self,
        default: MessageQueue,
        routes: Routes | None = None,
        is_wanted: Callable[[str], bool] = lambda _: False,
        connection_id: Callable[[], int] = lambda: 0,
    ) -> None:
        #: The client's own queue.
        self.default = default
        self._plain = (default,)
        self._is_wanted = is_wanted
        self._connection_id = connection_id
        self._queues: list[MessageQueue] = []
        self._routes: Routes = {} if routes is None else routes
        #: The number of routes to the default queue alone, and of all others.
        self._own = 0
        self._others = 0
        #: True once the default queue has got an unsolicited message.
        self._has_unsolicited = False
        #: The routes of which no call has succeeded yet, each with the calls that hold it, and
        #: whether these ask for it. The others end it.
        self._tentative: dict[tuple[str, MessageQueue], dict[object, bool]] = {}
        #: The channels that their last queue has left, oldest first, each with the id of the newest
        #: connection at that time: messages of later ones are not late.
        self._left: dict[str, int] = {}
        #: The queues that got the messages of the last delivery, other than as copies.
        self._served: tuple[MessageQueue, ...] = self._plain
        #: How many messages each queue had dropped, for being full, at the last check.
        self._lossy: dict[MessageQueue, int] = {}
        #: When the queues are checked for drops next (monotonic s).
        self.look_at = 0.0
        #: True if a queue has begun to drop messages since :meth:`look` was called.
        self.has_changed = False
        #: The queues found dropping at the last check.
        self.dropping: set[MessageQueue] = set()
        self.retired = Retired(0, 0, Lags())
        #: True while all queues have the same declared types, or none.
        self.is_uniform = True
        self.add(default)

    # The queues.

    @property
    def queues(self) -> Sequence[MessageQueue]:
        """All queues. Needs no lock."""
        return tuple(self._queues)

    def add(self, queue: MessageQueue) -> None:
        """Add a queue, unless it is known. It has no routes yet."""
        if queue not in self._queues:
            self._queues.append(queue)
            self._lossy[queue] = queue.overflowed
            self._check_types()

    def retire(self, queue: MessageQueue) -> None:
        """Forget a closed queue, and keep its totals."""
        if queue in self._queues:
            self._queues.remove(queue)
            self._lossy.pop(queue, None)
            self.dropping.discard(queue)
            self._served = self._plain
            self.retired = self.retired.and_of(queue)
            self._check_types()

    def _check_types(self) -> None:
        self.is_uniform = all(queue.types is self.default.types for queue in self._queues)

    # The routes.

    def route(self, channels: Iterable[str], queue: MessageQueue) -> list[str]:
        """Add ``queue`` to the routes of ``channels``. Return those that did not have it."""
        self.add(queue)
        new = [c for c in dict.fromkeys(channels) if queue not in self._routes.get(c, ())]
        for channel in new:
            self._set(channel, (*self._routes.get(channel, ()), queue))
        return new

    def ask(self, channels: Sequence[str], queue: MessageQueue, call: object) -> None:
        """Add ``queue`` to the routes of ``channels`` for ``call``; :meth:`settle` decides it.

        A new route ends when all calls that asked for it have failed.
        """
        for channel in self.route(channels, queue):
            self._tentative[channel, queue] = {}
        for channel in channels:
            calls = self._tentative.get((channel, queue))
            if calls is not None:
                calls[call] = True

    def resign(self, channels: Iterable[str], queue: MessageQueue, call: object) -> list[str]:
        """Keep the routes of ``channels`` to ``queue`` until ``call``, which ends them, is settled.

        Messages may still come. The routes stay if another call has asked for them meanwhile.
        Returns the channels with such a route.
        """
        routed = [c for c in channels if queue in self._routes.get(c, ())]
        self._tentative.update({(channel, queue): {call: False} for channel in routed})
        return routed

    def settle(
        self,
        call: object,
        channels: Iterable[str],
        queue: MessageQueue,
        ended: Container[str],
        *,
        is_refused: bool = False,
    ) -> None:
        """Note the outcome of ``call``: for it, the routes of ``ended`` end and the others stay.

        ``is_refused``: the venue does not send the channels of ``ended``, not even late.
        """
        for channel in channels:
            calls = self._tentative.get((channel, queue))
            if channel not in ended:
                self._tentative.pop((channel, queue), None)
                continue
            if calls is not None:
                calls.pop(call, None)
                if not calls:
                    self._remove(channel, queue)
            if not is_refused and channel not in self._routes:
                self._leave(channel)

    def unroute(self, channels: Iterable[str], queue: MessageQueue) -> None:
        """Remove ``queue`` from the routes of ``channels`` now."""
        for channel in channels:
            if queue in self._routes.get(channel, ()):
                self._remove(channel, queue)
                if channel not in self._routes:
                    self._leave(channel)

    def forget(self, channel: str) -> None:
        """Forget a channel that is no longer wanted."""
        targets = self._routes.get(channel, ())
        tentative = [self._tentative.pop((channel, target), None) for target in targets]
        self._set(channel, ())
        if None in tentative:
            self._leave(channel)
        self.retired.lags.forget(channel)
        for queue in self._queues:
            queue.forget(channel)

    def connected(self, connection_id: int) -> None:
        """Forget the channels that were left before this connection, the only one there is."""
        self._left = {
            channel: since
            for channel, since in self._left.items()
            if since >= connection_id or self._is_wanted(channel)
        }

    def has_others(self, channel: str, queue: MessageQueue) -> bool:
        """Return whether another queue also gets the channel's messages, and is not to lose it."""
        return any(
            target is not queue and not self._is_ending(channel, target)
            for target in self._routes.get(channel, ())
        )

    def _is_ending(self, channel: str, queue: MessageQueue) -> bool:
        calls = self._tentative.get((channel, queue)) or {None: True}
        return not any(calls.values())

    def _remove(self, channel: str, queue: MessageQueue) -> None:
        self._tentative.pop((channel, queue), None)
        targets = self._routes.get(channel, ())
        self._set(channel, tuple(target for target in targets if target is not queue))

    def _set(self, channel: str, targets: tuple[MessageQueue, ...]) -> None:
        """Set the routes of a channel, and count them."""
        before = self._routes.pop(channel, None)
        if before is not None:
            self._own -= before == self._plain
            self._others -= before != self._plain
        if targets:
            self._left.pop(channel, None)
            self._routes[channel] = targets
            self._own += targets == self._plain
            self._others += targets != self._plain
        self._check_doubled()

    def _check_doubled(self) -> None:
        """Note in the default queue whether other queues get all of its messages too."""
        self.default.is_doubled = bool(self._others) and not self._own and not self._has_unsolicited

    def _leave(self, channel: str) -> None:
        """Discard the channel's messages from now on: its last queue has left."""
        self._left.pop(channel, None)
        if len(self._left) >= MAX_LEFT:
            del self._left[next(iter(self._left))]
        self._left[channel] = self._connection_id()

    def pending_gap(self, channel: str, gap: Gap | None) -> Gap | None:
        """Merge ``gap``, which the channel's next message will carry, with the gaps of its queues.

        Returns the result, or None.
        """
        for queue in self._routes.get(channel, self._plain):
            queued = queue.pending_gap(channel)
            if queued is not None:
                gap = queued if gap is None else queued.merge(gap)
        return gap

    # The messages.

    @property
    def keeps_up(self) -> bool:
        """True while the consumers that the last messages went to keep up. Needs no lock."""
        for queue in self._served if self._others else self._plain:
            if len(queue) > KEEPS_UP:
                return False
        return True

    def deliver(self, messages: Sequence[Message], size: int | None = None) -> WSClientError | None:
        """Put messages into their queues. Return the QueueOverflow of a queue that fails by it.

        Of a message for several queues, one gets the original, and the others get copies: what was
        decoded ahead belongs to one consumer, who may change it. The others decode their copies
        when they read them. The original goes to the first queue that keeps up.

        ``size`` is the total size of their payloads (bytes), if it is known.
        """
        if not self._others and (
            not self._left or self._left.keys().isdisjoint(map(_channel, messages))
        ):
            return self._put(self.default, messages, size)
        ways = set(map(self._routes.get, map(_channel, messages)))
        failure = None
        if len(ways) == 1 and (targets := ways.pop()) is not None:  # nearly always
            first = self._first(targets) if len(targets) > 1 else targets[0]
            for target in targets:
                if target is not first:  # a gap made in one queue is not a gap in another
                    failure = self._put(target, [m.copy() for m in messages], size) or failure
            self._served = (first,)
            if len(first) > KEEPS_UP:
                strip(messages)
            return self._put(first, messages, size) or failure
        for target, batch in self._sorted(messages).items():
            failure = self._put(target, batch) or failure
        return failure

    def _sorted(self, messages: Iterable[Message]) -> dict[MessageQueue, list[Message]]:
        """Return the messages for each queue.

        The fast path of :meth:`deliver` does the same if all messages go to the same queues.
        """
        batches: dict[MessageQueue, list[Message]] = {}
        served: set[MessageQueue] = set()
        for message in messages:
            targets = self._routes.get(message.channel)
            if targets is None:
                if self._is_late(message):
                    continue
                targets = self._plain
                if not self._has_unsolicited:
                    self._has_unsolicited = True
                    self._check_doubled()
            first = targets[0]
            if len(targets) > 1:
                if first not in served:
                    first = self._first(targets)
                for target in targets:
                    if target is not first:
                        batches.setdefault(target, []).append(message.copy())
            served.add(first)
            batches.setdefault(first, []).append(message)
        if served:
            self._served = tuple(served)
        for target in served:
            if len(target) > KEEPS_UP:
                strip(batches[target])
        return batches

    @staticmethod
    def _first(targets: tuple[MessageQueue, ...]) -> MessageQueue:
        """Return the first queue that keeps up, or the very first if none does."""
        for target in targets:
            if len(target) <= KEEPS_UP:
                return target
        return targets[0]

    def _is_late(self, message: Message) -> bool:
        """Return whether the message was only for queues that have left."""
        channel = message.channel
        since = self._left.get(channel)
        return (since is not None and message.connection_id <= since) or self._is_wanted(channel)

    def _put(
        self, target: MessageQueue, messages: Sequence[Message], size: int | None = None
    ) -> WSClientError | None:
        failure = target.put(messages, size)
        if (
            target.overflowed != self._lossy.get(target, target.overflowed)
            and target not in self.dropping
        ):
            if target.is_spare:
                self._lossy[target] = target.overflowed
            else:
                self.has_changed = True
        return failure

    # The drops.

    def look(self, now: float, report: Callable[[str, int], None]) -> float:
        """Call ``report(name, dropped)`` for each queue that has begun to drop, once per episode.

        A queue that conflates drops on purpose: only what it drops for being full counts. A spare
        queue is not reported. Returns when to check again (monotonic s).
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


def strip(messages: Iterable[Message]) -> None:
    """Drop what was decoded ahead: objects are several times as large as the frame.

    The items of one frame keep it, since each would decode the whole frame again.
    """
    for message in messages:
        if message.item is None:
            message.decoded, message.kind = msgspec.UNSET, None
