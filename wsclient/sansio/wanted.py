"""What callers want: the wanted channels, and the calls that wait until theirs are decided.

A channel is wanted if a caller requested it; this survives a reconnect. What was asked of the venue
for it, on one connection, is in :mod:`wsclient.sansio.asked`. It is ACTIVE while at least one
connection carries it: two do while one replaces the other.

::

    PENDING --confirm--> ACTIVE;  PENDING, ACTIVE --void--> PENDING
    PENDING, ACTIVE --leave--> UNSUBSCRIBING;  UNSUBSCRIBING --keep--> ACTIVE, --again--> PENDING
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

from wsclient.errors import ConfigurationError, SubscriptionError
from wsclient.messages import SubscriptionState
from wsclient.sansio.machine import Table, after
from wsclient.sansio.waitingcalls import Call, WaitingCalls
from wsclient.sansio.wantedtable import ChannelRoute, WantedChannel, WantedTable, first_part

__all__ = ["Outcomes", "Wanted"]

#: A subscribe() fails after this many connections in a row have ended and confirmed none of its
#: channels.
FRUITLESS_CONNECTIONS = 2

PENDING = SubscriptionState.PENDING
ACTIVE = SubscriptionState.ACTIVE
UNSUBSCRIBING = SubscriptionState.UNSUBSCRIBING

STATES: Table[SubscriptionState] = {
    (PENDING, "confirm"): ACTIVE,
    (PENDING, "void"): PENDING,
    (ACTIVE, "void"): PENDING,
    (PENDING, "leave"): UNSUBSCRIBING,
    (ACTIVE, "leave"): UNSUBSCRIBING,
    (UNSUBSCRIBING, "keep"): ACTIVE,
    (UNSUBSCRIBING, "again"): PENDING,
}


class Outcomes(Protocol):
    """What follows when something is decided. Each method is called at once, in the same step."""

    def settled(self, token: Any, error: SubscriptionError | None) -> None:
        """Note that a call is decided; ``error`` is None if its channels are as requested."""

    def confirmed(self, channels: Sequence[str], now: float) -> None:
        """Note that the venue has confirmed ``channels``, which are now active."""

    def lost(self, channel: str, reason: str) -> None:
        """Note that the resubscription of a channel was refused. :meth:`removed` follows."""

    def refused(self, channel: str, reason: str) -> None:
        """Note that a channel that was never active was refused, or not answered in time."""

    def left(self, channel: str, reason: str) -> None:
        """Note that a channel is unsubscribed. :meth:`removed` follows.

        ``reason`` is empty, or says why that is not certain.
        """

    def joined(self, channel: str, connection_id: int) -> None:
        """Note that the venue has confirmed, on a connection, a channel that is active already."""

    def missing(self, channel: str, connection_id: int) -> None:
        """Note that data of a connection may be missing: a channel has ended there.

        It is subscribed to again.
        """

    def stopped(self, channel: str, reason: str, connection_id: int) -> None:
        """Note that the venue has ended an active channel on a connection without an unsubscribe.

        It is still active if another connection carries it.
        """

    def again(self, entry: WantedChannel, connection_id: int) -> None:
        """Note that a connection is about to subscribe again to a channel that ended there."""

    def is_asked_beside(self, entry: WantedChannel, connection_id: int) -> bool:
        """Return whether a channel is asked for on another connection than this one."""

    def declined(self, channel: str, connection_id: int) -> None:
        """Note that the venue has refused, on a connection, a channel that others carry."""

    def renewed(self, entry: WantedChannel) -> None:
        """Note that a channel is unsubscribed, and wanted again. It is to be subscribed to."""

    def kept(self, channel: str) -> None:
        """Note that a channel is active again: the venue has refused to unsubscribe it."""

    def removed(self, entry: WantedChannel) -> None:
        """Note that a channel is no longer wanted, and the state of its stream is void."""

    def crowded(self, entry: WantedChannel, connection_id: int) -> bool:
        """Note that a connection is full, and has no room for a channel.

        Returns whether the channel moves to another one. If not, it is refused.
        """

    def freed(self, entry: WantedChannel) -> None:
        """Note that a channel leaves the wanted ones, and with that its slot."""


class Wanted(WantedTable):
    """The wanted channels and the waiting calls of one client.

    ``outcomes`` is called when something is decided. The cost of a step depends on what it changes,
    not on how many channels are wanted. Exceptions are the steps at the beginning and end of a
    connection.
    """

    __slots__ = ("_outcomes", "calls")

    def __init__(self, outcomes: Outcomes) -> None:
        super().__init__()
        self._outcomes = outcomes
        #: The calls that wait.
        self.calls = WaitingCalls(outcomes.settled)

    # Requests of callers.

    def subscribe(
        self,
        channels: Iterable[str],
        options: Mapping[str, Any],
        token: Any,
        deadline: float,
        routing: Mapping[str, ChannelRoute] = MappingProxyType({}),
    ) -> tuple[Call, list[str]]:
        """Want ``channels``; ``token`` is settled when each is decided.

        ``routing`` says how each channel is reached; by default at the only address. Returns the
        call, and the channels that were not wanted before. Raises ConfigurationError if a channel
        is already subscribed with other options.
        """
        names = list(dict.fromkeys(channels))
        for name in names:
            entry = self._entries.get(name)
            if entry and dict(entry.options) != dict(options) and entry.state is not UNSUBSCRIBING:
                raise ConfigurationError(
                    f"{name!r} is already subscribed with other values of "
                    f"{', '.join({**entry.options, **options})}; unsubscribe from it first"
                )
        call = self.calls.new(token, True, names, deadline)
        new: list[str] = []
        for name in names:
            entry = self._entries.get(name)
            if entry is None:
                way = routing.get(name) or ChannelRoute("", name)
                if way.refusal is not None:
                    self.calls.decide(call, name, way.refusal, refused=True)
                    continue
                self._entries[name] = WantedChannel(
                    name, dict(options), way.route, way.wire, calls=[call]
                )
                self._by_name.setdefault(first_part(name), {})[name] = None
                self._counts[PENDING] += 1
                new.append(name)
            elif entry.state is ACTIVE:
                self.calls.decide(call, name)
            else:
                entry.calls.append(call)
                if entry.state is UNSUBSCRIBING:
                    entry.wanted_again = True
                    entry.options = dict(options)
        self.calls.finish(call)
        return call, new

    def unsubscribe(
        self, channels: Iterable[str], token: Any, deadline: float
    ) -> list[WantedChannel]:
        """Want ``channels`` no longer; ``token`` is settled when each is decided.

        Returns the channels to unsubscribe at the venue, all UNSUBSCRIBING. Call :meth:`left` for
        each when it is done.
        """
        names = list(dict.fromkeys(channels))
        call = self.calls.new(token, False, names, deadline)
        leaving = []
        for name in names:
            entry = self._entries.get(name)
            if entry is None:
                self.calls.decide(call, name)
                continue
            self._settle(
                entry, "unsubscribed before it was acknowledged", refused=True, subscribe=True
            )
            entry.calls.append(call)
            entry.wanted_again = False
            if entry.state is not UNSUBSCRIBING:
                self._step(entry, "leave")
                leaving.append(entry)
        self.calls.finish(call)
        return leaving

    def fail_all(self) -> list[Any]:
        """Forget all calls, and return their tokens for the caller to fail."""
        tokens = self.calls.take_all()
        for entry in list(self._entries.values()):
            entry.calls.clear()
            self._forget_unwanted(entry)
        return tokens

    # Answers of the venue: called by Asked.

    def confirm(self, entry: WantedChannel, connection_id: int, request_id: int) -> bool:
        """Note that the venue has confirmed the channel, on a connection, by this subscribe.

        Returns whether that made it active.
        """
        if connection_id not in entry.carriers:
            entry.carriers = (*entry.carriers, connection_id)
        if entry.state is not PENDING:
            self._outcomes.joined(entry.channel, connection_id)
            return False
        self._step(entry, "confirm")
        entry.active_as = request_id
        entry.was_active = True
        for call in entry.calls:
            call.is_served = True
        self._settle(entry)
        return True

    def void(self, entry: WantedChannel, connection_id: int) -> None:
        """Note that the channel is no longer confirmed on a connection, and still wanted."""
        entry.carriers = _without(entry.carriers, connection_id)
        if not entry.carriers:
            self._step(entry, "void")

    def keep(self, entry: WantedChannel, reason: str, connection_id: int) -> None:
        """Note that the venue has refused to unsubscribe the channel on a connection."""
        entry.leaving = ()
        entry.carriers = (*_without(entry.carriers, connection_id), connection_id)
        self._step(entry, "keep")
        self._outcomes.kept(entry.channel)
        entry.was_active = True
        entry.wanted_again = False
        self._settle(entry, subscribe=True)
        self._settle(entry, reason, refused=True)

    def left(self, entry: WantedChannel, connection_id: int = 0) -> bool:
        """Note that the channel is unsubscribed on a connection.

        Returns whether it is so on all connections, and wanted again.
        """
        entry.leaving = _without(entry.leaving, connection_id)
        entry.carriers = _without(entry.carriers, connection_id)
        if entry.leaving:
            return False
        entry.carriers = ()
        if not entry.wanted_again:
            self.remove(entry)
            return False
        self._outcomes.removed(entry)
        self._settle(entry, subscribe=False)
        entry.wanted_again = entry.was_active = False
        entry.waited = 0.0
        self._step(entry, "again")
        return True

    def remove(
        self, entry: WantedChannel, reason: str | None = None, *, refused: bool = False
    ) -> None:
        """Forget the channel. Calls that wait for it fail with ``reason``, if there is one."""
        del self._entries[entry.channel]
        same = self._by_name[first_part(entry.channel)]
        del same[entry.channel]
        if not same:
            del self._by_name[first_part(entry.channel)]
        self._counts[entry.state] -= 1
        if entry.state is UNSUBSCRIBING:
            self._outcomes.left(entry.channel, reason or "")
        self._outcomes.removed(entry)
        self._outcomes.freed(entry)
        self._settle(entry, reason, refused=refused)

    # The end of a connection.

    def count_fruitless(
        self, asked: set[Call], channels: Container[str], *, has_confirmed: bool, why: str
    ) -> None:
        """Count the end of a connection against the calls that wait, so that none waits for ever.

        The connection was able to deliver answers. Its end counts against each call of ``asked``,
        which had an outstanding request, and against every call that waits for ``channels``, which
        belonged to it, unless the connection ``has_confirmed`` anything. ``why`` is the reason of
        the end.
        """
        for call in self.calls.subscribing():
            if call not in asked and not any(channel in channels for channel in call.channels):
                continue
            if call.is_served:
                call.fruitless, call.is_served = 0, False
            elif call in asked or not has_confirmed:
                call.fruitless += 1
            if call.fruitless >= FRUITLESS_CONNECTIONS:
                self._end(
                    call,
                    f"{call.fruitless} connections in a row ended before the venue answered, "
                    f"the last one because {why}",
                )

    def connection_lost(self, entries: Iterable[WantedChannel], connection_id: int) -> None:
        """Note that a connection has ended: it carries none of ``entries``.

        Their unsubscribes on it are done.
        """
        for entry in list(entries):
            if entry.state is UNSUBSCRIBING:
                self.left(entry, connection_id)
            else:
                self.void(entry, connection_id)

    # Time.

    def expire(self, now: float) -> None:
        """End the calls whose time is over."""
        for call in self.calls.expired(now):
            why = "no answer within the timeout"
            if call.is_reported:
                why += "; for some of that time there was no connection"
            self._end(call, why, quietly=True)

    # Inside.

    def _step(self, entry: WantedChannel, step: str) -> None:
        """Change the state of a channel: the only place that does."""
        self._counts[entry.state] -= 1
        entry.state = after(STATES, entry.state, step)
        self._counts[entry.state] += 1

    def _end(self, call: Call, reason: str, *, quietly: bool = False) -> None:
        """End a call; channels that only it wanted are no longer wanted.

        ``quietly``: report no refused channels.
        """
        for name in list(call.channels):
            entry = self._entries.get(name)
            self.calls.decide(call, name, reason)
            if entry is not None:
                entry.calls.remove(call)
                if not any(other.subscribe for other in entry.calls):
                    entry.wanted_again = False
                self._forget_unwanted(entry, None if quietly else reason)
        self.calls.finish(call)

    def _forget_unwanted(self, entry: WantedChannel, refusal: str | None = None) -> None:
        """Remove the channel if the last call that waited for it has given up.

        ``refusal``: report a channel that was never active as refused, for this reason.
        """
        is_new = entry.state is PENDING and not entry.was_active
        if not entry.calls and (is_new or entry.state is UNSUBSCRIBING):
            if refusal is not None and is_new:
                self._outcomes.refused(entry.channel, refusal)
            self.remove(entry)

    def _settle(
        self,
        entry: WantedChannel,
        reason: str | None = None,
        *,
        refused: bool = False,
        subscribe: bool | None = None,
    ) -> None:
        """Decide this channel for all calls that wait for it, or for calls of one kind."""
        for call in list(entry.calls):
            if subscribe is None or call.subscribe == subscribe:
                entry.calls.remove(call)
                self.calls.decide(call, entry.channel, reason, refused=refused)
                self.calls.finish(call)


def _without(ids: tuple[int, ...], id: int) -> tuple[int, ...]:
    return tuple(other for other in ids if other != id) if ids else ids
