"""The calls and the callbacks of a client that plays recordings. Nothing is asked of a venue."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from wsclient.errors import SubscriptionRejected
from wsclient.messages import Subscription, SubscriptionState
from wsclient.runtime.callbacks import EVENTS_AT_ONCE, Callbacks
from wsclient.runtime.calls import Calls
from wsclient.runtime.core import Core
from wsclient.runtime.queues import MessageQueue
from wsclient.threads.waiting import Deadline, Waiter

__all__ = ["ReplayCallbacks", "ReplayCalls"]


class ReplayCallbacks(Callbacks):
    """Calls functions with messages and events on the thread that plays."""

    def _start(self) -> MessageQueue:
        if self._queue is None:
            self._queue = self._new_queue()
            self._add_queue(self._queue)
        return self._queue

    def _rouse(self) -> None:
        pass  # whoever plays looks at the events

    @property
    def are_wanted(self) -> bool:
        """Whether there is any function."""
        return bool(self.functions or self._listeners)

    def run(self) -> None:
        """Call the functions with what has been played."""
        while True:
            if self._call_listeners(0.0, EVENTS_AT_ONCE):
                continue
            queue = self._queue
            if not queue or not queue.fill(1, NOW):
                return
            message = next(queue.handed_out)
            for function in self.functions.get(message.channel, ()):
                if not queue.is_closed:
                    self._call(function, message, message.channel)


#: The deadline of a call that does not wait.
NOW = Deadline(0.0)


class ReplayCalls(Calls):
    """The calls of callers. Channels are those that the recordings have.

    ``channels`` returns their names. ``select`` is called when a caller names some.
    """

    __slots__ = ("_channels", "_select", "_subscribed")

    def __init__(
        self, core: Core, channels: Callable[[], Mapping[str, object]], select: Callable[[], None]
    ) -> None:
        super().__init__(core, core.watchdog)
        self._channels = channels
        self._select = select
        #: The channels that are subscribed to, each with the options of its subscribe.
        self._subscribed: dict[str, Mapping[str, Any]] = {}

    def _start(self) -> None:
        self._core.check_call()
        self._core.supervisor.life.check()

    def add(
        self, channels: Sequence[str], queue: MessageQueue, options: Mapping[str, Any] | None = None
    ) -> None:
        """Deliver ``channels`` to ``queue``, from the present record on.

        Raises SubscriptionRejected for those that the recordings do not have.
        """
        known = self._channels()
        found = [channel for channel in dict.fromkeys(channels) if channel in known]
        with self._core.lock:
            self._core.supervisor.life.check()
            self._select()
            self._core.router.route(found, queue)
            for channel in found:
                self._subscribed.setdefault(channel, options or {})
        if missing := [channel for channel in channels if channel not in known]:
            self.refuse(missing)

    def refuse(self, channels: Sequence[str]) -> NoReturn:
        """Raise SubscriptionRejected for channels that the recordings do not have."""
        known = self._channels()
        failed = {name: _why(name, known) for name in channels}
        text = "; ".join(f"{name!r}: {why}" for name, why in failed.items())
        raise SubscriptionRejected(text, failed)

    def _subscribe(
        self,
        channels: Sequence[str],
        queue: MessageQueue,
        options: Mapping[str, Any],
        waiter: Waiter,
        deadline: float,
    ) -> None:
        self.add(channels, queue, options)
        waiter.settle()

    def unsubscribe(
        self, channels: Sequence[str], queue: MessageQueue, waiter: Waiter, deadline: float
    ) -> None:
        self._core.check_call()
        self._core.supervisor.life.check()
        self.leave(channels, queue, waiter)

    def leave(
        self,
        channels: Sequence[str],
        queue: MessageQueue,
        waiter: Waiter,
        deadline: float = float("inf"),
    ) -> None:
        with self._core.lock:
            router = self._core.router
            router.unroute(channels, queue)
            for channel in channels:
                if channel in self._subscribed and not router.has_others(channel, queue):
                    del self._subscribed[channel]
                    self._core.supervisor.upkeep.forget(channel)
        waiter.settle()

    def subscriptions(self, channels: Sequence[str] | None = None) -> dict[str, Subscription]:
        self._core.check_call()
        with self._core.lock:
            return {
                name: Subscription(name, SubscriptionState.ACTIVE, options, self._pending_gap(name))
                for name, options in self._subscribed.items()
                if channels is None or name in channels
            }


def _why(name: str, known: Mapping[str, object]) -> str:
    """Return why a channel is refused, with what it may have meant."""
    close = get_close_matches(name, known, 3) or list(known)[:3]
    more = len(known) - len(close)
    others = f" and {more} more" if more > 0 else ""
    has = f"it has {', '.join(map(repr, close))}{others}" if known else "it has no channel"
    return f"the recording does not have this channel; {has}"
