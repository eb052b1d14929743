"""Which channels are to be subscribed, which the venue has confirmed, and who waits for its answer.

Wanted is what the caller asked for, and survives a reconnect; confirmed is what the venue has
acknowledged on the present connection, and does not. An :class:`Wanted` is a wanted channel; a
:class:`~wsclient.sansio.asked.Request` is a message on its way, not yet fully answered; a
:class:`Call` is one call of ``subscribe()`` or ``unsubscribe()`` that waits until each of its
channels is decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wsclient.errors import (
    ConfigurationError,
    SubscriptionError,
    SubscriptionRejected,
    SubscriptionTimeout,
)
from wsclient.messages import SubscriptionState
from wsclient.sansio.asked import Outstanding, Request, Unsent
from wsclient.sansio.codec import one_line
from wsclient.sansio.dialect import Ack, Dialect, Ended, Rejection
from wsclient.sansio.stops import Stops
from wsclient.sansio.timers import Timers

__all__ = [
    "Call",
    "Effect",
    "Kept",
    "Lost",
    "Missing",
    "Refused",
    "Removed",
    "Settled",
    "Stopped",
    "Subscriptions",
]

#: Requests for one channel on one connection before the connection itself is given up.
RESUBSCRIBE_ATTEMPTS = 2
#: A subscribe() ends when so many connections in a row have ended and confirmed nothing of it.
FRUITLESS_CONNECTIONS = 2

PENDING = SubscriptionState.PENDING
ACTIVE = SubscriptionState.ACTIVE
UNSUBSCRIBING = SubscriptionState.UNSUBSCRIBING


class Settled(NamedTuple):
    """A call is decided: ``error`` is None when all of its channels are as asked for."""

    token: Any
    error: SubscriptionError | None


class Lost(NamedTuple):
    """A channel that was active will not come back: its resubscription was refused."""

    channel: str
    reason: str


class Refused(NamedTuple):
    """A channel that never was active will not be: it was refused, or nothing was answered."""

    channel: str
    reason: str


class Missing(NamedTuple):
    """An active channel has ended with the venue, or may have, by the first half of a refresh: data
    is missed. It is being asked for again."""

    channel: str


class Stopped(NamedTuple):
    """The venue has ended an active channel unasked: data is missed. It waits for
    :meth:`Subscriptions.ask_again`."""

    channel: str
    reason: str


class Kept(NamedTuple):
    """A channel is active again: the venue has refused to unsubscribe it."""

    channel: str


class Removed(NamedTuple):
    """A channel is wanted no longer; what was known of its stream is void."""

    channel: str


Effect = Settled | Lost | Refused | Missing | Stopped | Kept | Removed


@dataclass(eq=False)
class Call:
    """One call, and the channels of it that are not decided yet."""

    token: Any
    subscribe: bool
    channels: dict[str, None]
    deadline: float
    failed: dict[str, str] = field(default_factory=dict)
    rejected: bool = False
    #: The present connection has confirmed some of it.
    is_served: bool = False
    #: Connections in a row that have ended and confirmed nothing of it.
    fruitless: int = 0
    #: That it waits for a connection has been logged.
    told: bool = False


@dataclass(eq=False)
class Wanted:
    """A wanted channel."""

    channel: str
    options: Mapping[str, Any]
    state: SubscriptionState = PENDING
    calls: list[Call] = field(default_factory=list)
    #: It has been confirmed once, on this connection or an earlier one.
    was_active: bool = False
    #: Subscribe messages sent for it on this connection.
    attempts: int = 0
    #: The id of the last one; ids rise.
    asked_id: int = 0
    #: How long (s) earlier connections have left its first request unanswered.
    waited: float = 0.0
    #: It is wanted again, once the unsubscribe under way is answered.
    wanted_again: bool = False
    #: The venue has ended it unasked, and no subscribe has gone out since.
    has_ended: bool = False


class Subscriptions:
    """Pure bookkeeping. What happened is handed out by :meth:`effects`.

    Every step costs what it changes, not what is wanted in all, but for those of a connection's
    beginning and end.
    """

    def __init__(
        self,
        dialect: Dialect,
        ack_timeout: float,
        ids: Iterator[int],
        stops: Stops | None = None,
    ) -> None:
        self._dialect = dialect
        self._ids = ids
        self._ack_timeout = ack_timeout
        self._stops = stops or Stops()
        self._entries: dict[str, Wanted] = {}
        #: Their names by what stands before the first colon.
        self._by_name: dict[str, dict[str, None]] = {}
        #: How many of them are in each state.
        self._counts: Counter[SubscriptionState] = Counter()
        self._unsent = Unsent()
        self._outstanding = Outstanding()
        self._unanswered: Timers[Request] = Timers(self._answer_due)
        self._calls: dict[Call, None] = {}
        self._impatient: Timers[Call] = Timers(
            lambda call: call.deadline if call in self._calls else None
        )
        self._effects: list[Effect] = []
        #: The present connection has confirmed a channel.
        self._has_confirmed = False
        #: Something is to be sent that was not when this was last cleared, or could not be.
        self.has_changed = False
        #: Set when a resubscription went unanswered RESUBSCRIBE_ATTEMPTS times.
        self.suspect_connection: str | None = None

    # What the caller asks for.

    def subscribe(
        self,
        channels: Iterable[str],
        options: Mapping[str, Any],
        token: Any,
        deadline: float,
    ) -> Call | None:
        """Want ``channels``; ``token`` is settled when each is decided. None when all are.

        Raises ConfigurationError when one is already subscribed with other options.
        """
        names = list(dict.fromkeys(channels))
        for name in names:
            entry = self._entries.get(name)
            if entry and dict(entry.options) != dict(options) and entry.state is not UNSUBSCRIBING:
                raise ConfigurationError(
                    f"{name!r} is already subscribed with other values of "
                    f"{', '.join({**entry.options, **options})}; unsubscribe from it first"
                )
        call = self._new_call(token, True, names, deadline)
        new: list[str] = []
        limit = self._dialect.limits.channels_per_connection
        for name in names:
            entry = self._entries.get(name)
            if entry is None:
                if limit is not None and len(self._entries) >= limit:
                    self._decide(
                        call, name, f"the venue allows {limit} channels a connection", refused=True
                    )
                    continue
                self._entries[name] = Wanted(name, dict(options), calls=[call])
                self._by_name.setdefault(_first_part(name), {})[name] = None
                self._counts[PENDING] += 1
                new.append(name)
            elif entry.state is ACTIVE:
                self._decide(call, name)
            else:
                entry.calls.append(call)
                if entry.state is UNSUBSCRIBING:
                    entry.wanted_again = True
                    entry.options = dict(options)
        self._enqueue(new, options)
        self._finish(call)
        return call if call in self._calls else None

    def unsubscribe(self, channels: Iterable[str], token: Any, deadline: float) -> None:
        """Stop wanting ``channels``. One that the venue was never asked for is gone at once."""
        names = list(dict.fromkeys(channels))
        call = self._new_call(token, False, names, deadline)
        leaving = []
        for name in names:
            entry = self._entries.get(name)
            if entry is None:
                self._decide(call, name)
                continue
            self._settle_entry(
                entry, "unsubscribed before it was acknowledged", refused=True, subscribe=True
            )
            entry.calls.append(call)
            entry.wanted_again = False
            if entry.state is UNSUBSCRIBING:
                continue
            self._unsent.drop(name)
            if entry.state is PENDING and entry.attempts == 0:
                self._unsubscribed(entry)
                continue
            self._set(entry, UNSUBSCRIBING)
            leaving.append(entry)
        for options, group in _by_options(leaving):
            self._enqueue(group, options, subscribe=False)
        self._finish(call)

    def refresh(self, channel: str) -> None:
        """Ask again for an active channel (gone silent, or out of sync), on the same connection."""
        entry = self._entries[channel]
        self._set(entry, PENDING)
        self._enqueue([channel], entry.options, subscribe=False, quiet=True)
        self._enqueue([channel], entry.options)

    def ask_again(self, channels: Iterable[str]) -> None:
        """Subscribe again to channels that the venue has ended (:class:`Stopped`)."""
        found = (self._entries.get(channel) for channel in channels)
        stopped = [
            entry
            for entry in found
            if entry and entry.state is PENDING and not self._is_asked_for(entry.channel)
        ]
        # The venue may still have these, and would refuse to have them twice.
        for options, names in _by_options(entry for entry in stopped if entry.attempts):
            self._enqueue(names, options, subscribe=False, quiet=True)
        for options, names in _by_options(stopped):
            self._enqueue(names, options)

    # What the connection does.

    def restore(self) -> None:
        """The connection is open: ask for all that is wanted, in batches.

        First what was confirmed before, the oldest first. What never was goes in messages of its
        own, call by call: a channel for which the venue ends the connection harms no other's.
        """
        self._unsent.clear()
        self._has_confirmed = False
        known = [entry for entry in self._entries.values() if entry.was_active]
        new = [entry for entry in self._entries.values() if not entry.was_active]
        groups: list[tuple[Call | None, Mapping[str, Any], list[str]]] = []
        for entry in (*known, *new):
            call = None if entry.was_active or not entry.calls else entry.calls[0]
            last = groups[-1] if groups else None
            if last and last[0] is call and dict(last[1]) == dict(entry.options):
                last[2].append(entry.channel)
            else:
                groups.append((call, entry.options, [entry.channel]))
        for _, options, names in groups:
            self._enqueue(names, options)

    def connection_ended(self, now: float, why: str) -> None:
        """A connection has ended that was to answer: nobody waits for ever for such an end.

        It counts against each call of which a request was out, and against each that waited if it
        has confirmed nothing at all.
        """
        asked: set[Call] = set()
        for request in self._outstanding:
            for name in request.channels if request.subscribe else ():
                entry = self._entries.get(name)
                if entry is None:
                    continue
                asked.update(entry.calls)
                if not entry.was_active:
                    entry.waited += max(0.0, now - request.sent_at - self._excuse(request))
        for call in [call for call in self._calls if call.subscribe]:
            if call.is_served:
                call.fruitless, call.is_served = 0, False
            elif call in asked or not self._has_confirmed:
                call.fruitless += 1
            if call.fruitless >= FRUITLESS_CONNECTIONS:
                self._end(
                    call,
                    f"{call.fruitless} connections in a row ended before the venue answered, "
                    f"the last one because {why}",
                )

    def connection_lost(self) -> None:
        """Nothing is confirmed any more, and whatever was unsubscribed is."""
        self._unsent.clear()
        self._outstanding.clear()
        self._unanswered.clear()
        self._has_confirmed = False
        self.suspect_connection = None
        for entry in list(self._entries.values()):
            entry.attempts = 0
            entry.has_ended = False
            if entry.state is UNSUBSCRIBING:
                self._unsubscribed(entry)
            else:
                self._set(entry, PENDING)

    def unsent(self, most: int = 1) -> list[Request]:
        """The next requests to go out, at most so many."""
        return self._unsent.first(most)

    def split(
        self, requests: Sequence[Request], batches: Iterable[Iterable[Sequence[str]]]
    ) -> None:
        """The first unsent requests go out in these messages, of what is still in them."""
        parts = []
        for request, names in zip(requests, batches, strict=True):
            left = dict(request.channels)
            for batch in names:
                part = self._part(request, {name: None for name in batch if name in left})
                if part.channels:
                    part.id = next(self._ids)
                    parts.append(part)
                    for name in part.channels:
                        del left[name]
            if left:  # wanted meanwhile: the dialect has not heard of these yet
                parts.append(self._part(request, left))
        self._unsent.replace(requests, parts)
        self.has_changed = True

    def _part(self, request: Request, names: dict[str, None]) -> Request:
        quiet = request.quiet.intersection(names)
        return Request(request.subscribe, names, request.options, quiet)

    def refuse(self, request: Request, names: Collection[str], reason: str) -> None:
        """The dialect has no message for these channels of an unsent request."""
        for name in [name for name in names if name in request.channels]:
            self._unsent.discard(request, name)
            self._refused(request, name, reason)
        self.has_changed = True

    def send(self, now: float) -> Request:
        """The first unsent request is on its way, and has ``ack_timeout`` for its answer. Where the
        venue never acknowledges, an unsubscribe is done by that."""
        request = self._unsent.pop()
        request.sent_at, request.patience = now, self._ack_timeout
        for name in request.channels if request.subscribe else ():
            entry = self._entries.get(name)
            if entry is not None:
                entry.attempts += 1
                entry.asked_id = request.id or 0
                if entry.has_ended:
                    entry.has_ended = False
                    # A message that came after the end has borne the mark of the end.
                    self._effects.append(Missing(name))
                if not entry.was_active:
                    left = max(0.0, self._ack_timeout - entry.waited)
                    request.patience = min(request.patience, left)
        self._outstanding.add(request)
        self._unanswered.add(request)
        if not request.subscribe and not self._dialect.acknowledges:
            for name in list(request.channels):
                self._answered(request, name)
        return request

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent.first(1))

    @property
    def is_suspect(self) -> bool:
        return self.suspect_connection is not None

    # What the venue answers.

    def acknowledged(self, ack: Ack) -> list[str]:
        """An accepting answer. Returns the channels that are active from now on."""
        matches = self._match(ack)
        if not matches and ack.verb == "unsubscribe" and ack.request_id is None:
            self._stop(ack.channel, "the venue has unsubscribed it", is_certain=True)
        confirmed = [name for request, name in matches if self._answered(request, name)]
        for request, _ in matches[:1]:
            self._deduce_refusals(request)
        return confirmed

    def rejected(self, rejection: Rejection) -> bool:
        """A refusing answer. False: it answers nothing that was asked, and ends no channel."""
        reason = one_line(rejection.reason)
        matches = self._match(rejection)
        if not matches:
            is_foreign = rejection.request_id is not None  # the user's own, by send()
            if is_foreign or rejection.keeps_active or rejection.verb == "unsubscribe":
                return False
            return self._stop(rejection.channel, reason)
        request, _ = matches[0]
        if rejection.is_one:
            request.refusals.append(reason)
        else:
            for _, name in matches:
                self._outstanding.discard(request, name)
                self._refused(request, name, reason)
        self._deduce_refusals(request)
        return True

    def ended(self, answer: Ended) -> bool:
        """The venue has ended channels unasked. False: none of them was active."""
        names = [] if answer.channel is None else [answer.channel]
        if answer.name is not None:
            names = list(self._by_name.get(answer.name, ()))
        has_ended = [self._stop(name, one_line(answer.reason)) for name in names]
        return any(has_ended)

    def _stop(self, channel: str | None, reason: str, *, is_certain: bool = False) -> bool:
        """The venue has ended ``channel``, if it was active. ``is_certain``: it would not refuse
        another subscribe for having the channel already."""
        entry = None if channel is None else self._entries.get(channel)
        if entry is not None and entry.state is UNSUBSCRIBING:
            self._ended_before(entry)
            return True
        if entry is None or entry.state is not ACTIVE:
            return False
        self._set(entry, PENDING)
        entry.has_ended = True
        if is_certain:
            entry.attempts = 0
        self._effects.append(Stopped(entry.channel, reason))
        return True

    def _deduce_refusals(self, request: Request) -> None:
        """As many channels are unanswered as were refused without a name: these are refused."""
        if len(request.channels) <= len(request.refusals):
            for name, reason in zip(tuple(request.channels), request.refusals, strict=False):
                self._outstanding.discard(request, name)
                self._refused(request, name, reason)

    def _refused(self, request: Request, name: str, reason: str) -> None:
        entry = self._entries.get(name)
        if entry is None:
            return
        if name in request.quiet:
            self._first_half_over(request, name)
        elif not request.subscribe:
            if entry.state is UNSUBSCRIBING and entry.has_ended:
                self._unsubscribed(entry)  # the venue has nothing left to end
            elif entry.state is UNSUBSCRIBING:
                self._set(entry, ACTIVE)
                self._effects.append(Kept(name))
                entry.was_active = True
                entry.wanted_again = False
                self._settle_entry(entry, subscribe=True)
                self._settle_entry(entry, reason, refused=True)
        elif entry.state is PENDING:
            self._drop(entry, reason)
        elif entry.state is UNSUBSCRIBING:
            self._ended_before(entry)

    def _ended_before(self, entry: Wanted) -> None:
        """The unsubscribe under way has nothing left to end: its answer says nothing."""
        name = entry.channel
        for other in (*self._unsent.of(name), *self._outstanding.of(name)):
            if not other.subscribe:
                other.quiet.add(name)
        self._unsubscribed(entry)

    def subscribed(self, channels: Iterable[str]) -> list[str]:
        """The cumulative answer: what is listed is active, what is not is unsubscribed."""
        listed = set(channels)
        confirmed = []
        for request in list(self._outstanding):
            for name in list(request.channels):
                if request.subscribe == (name in listed) and self._answered(request, name):
                    confirmed.append(name)
        reason = "it is no longer among the venue's subscribed channels"
        for entry in self._entries.values() if self._counts[ACTIVE] else ():
            if entry.state is ACTIVE and entry.channel not in listed:
                self._stop(entry.channel, reason, is_certain=True)
        return confirmed

    def data(self, channel: str) -> bool:
        """Data came: where the venue never acknowledges, that confirms the channel."""
        if self._dialect.acknowledges:
            return False
        for request in self._outstanding.of(channel):
            if request.subscribe:
                return self._answered(request, channel)
        entry = self._entries.get(channel)
        if entry is None or entry.state is not PENDING or self._is_asked_for(channel):
            return False
        if entry.has_ended:
            return False  # it was on its way before the end
        self._confirm(entry)  # it was asked for so long ago that nothing waits for an answer
        return True

    # Time.

    def expire(self, now: float) -> None:
        """Give up on what has waited too long."""
        for call in self._impatient.take(now):
            self._end(call, "no answer within the timeout", quietly=True)
        for request in self._unanswered.take(now):
            for name in list(request.channels):
                self._outstanding.discard(request, name)
                if request.refusals:
                    self._refused(request, name, request.refusals[0])
                else:
                    self._not_answered(request, name)

    def deadline(self) -> float:
        """When :meth:`expire` is due at the latest (``inf`` for never)."""
        return min(self._unanswered.deadline(), self._impatient.deadline())

    def _answer_due(self, request: Request) -> float | None:
        if not request.channels:
            return None
        return request.sent_at + request.patience + self._excuse(request)

    def _excuse(self, request: Request) -> float:
        return self._stops.excuse(request.sent_at)

    def fail_all(self) -> list[Any]:
        """Forget all calls; returns their tokens, for the caller to fail."""
        tokens = [call.token for call in self._calls]
        self._calls.clear()
        for entry in list(self._entries.values()):
            entry.calls.clear()
            self._forget_unwanted(entry)
        return tokens

    def effects(self) -> list[Effect]:
        """What has happened since the last call."""
        effects, self._effects = self._effects, []
        return effects

    # What stands.

    def state(self, channel: str) -> SubscriptionState | None:
        entry = self._entries.get(channel)
        return None if entry is None else entry.state

    def active_as(self, channel: str) -> int | None:
        """The number of the subscribe by which ``channel`` is active; None where it is not. May be
        asked without the lock."""
        entry = self._entries.get(channel)
        return entry.asked_id if entry is not None and entry.state is ACTIVE else None

    def wanted(self) -> list[tuple[str, SubscriptionState, Mapping[str, Any]]]:
        return [(e.channel, e.state, e.options) for e in self._entries.values()]

    def wanted_among(
        self, channels: Iterable[str]
    ) -> list[tuple[str, SubscriptionState, Mapping[str, Any]]]:
        """As :meth:`wanted`, of those of ``channels`` that are, in their order."""
        found = (self._entries.get(channel) for channel in dict.fromkeys(channels))
        return [(e.channel, e.state, e.options) for e in found if e is not None]

    def __len__(self) -> int:
        """How many channels are wanted; may be asked without the lock."""
        return len(self._entries)

    def count(self, state: SubscriptionState) -> int:
        """How many channels are in ``state``."""
        return self._counts[state]

    @property
    def all_confirmed(self) -> bool:
        return not self._counts[PENDING]

    def waiting(self) -> list[Call]:
        """Calls of ``subscribe()`` that are not decided."""
        return [call for call in self._calls if call.subscribe]

    # Inside.

    def _set(self, entry: Wanted, state: SubscriptionState) -> None:
        self._counts[entry.state] -= 1
        self._counts[state] += 1
        entry.state = state

    def _new_call(self, token: Any, subscribe: bool, names: Sequence[str], deadline: float) -> Call:
        call = Call(token, subscribe, dict.fromkeys(names), deadline)
        self._calls[call] = None
        self._impatient.add(call)
        return call

    def _enqueue(
        self,
        channels: Sequence[str],
        options: Mapping[str, Any],
        *,
        subscribe: bool = True,
        quiet: bool = False,
    ) -> None:
        if channels:
            names = dict.fromkeys(channels)
            self._unsent.add(Request(subscribe, names, options, set(names) if quiet else set()))
            self.has_changed = True

    def _match(self, answer: Ack | Rejection) -> list[tuple[Request, str]]:
        """The (request, channel) pairs that an answer speaks of.

        An answer with an id of ours is of that request, with or without a channel. One without is
        of the oldest request for its channel; and one with neither is of the oldest of all. All
        pairs are of one request.
        """
        first_part = answer.name if isinstance(answer, Rejection) else None
        verb = answer.verb

        def meant(request: Request) -> list[tuple[Request, str]]:
            if verb is not None and request.subscribe != (verb == "subscribe"):
                return []
            if answer.channel is not None:
                names = [answer.channel] if answer.channel in request.channels else []
            elif first_part is not None:
                names = [name for name in request.channels if request.subscribe]
                names = [name for name in names if _first_part(name) == first_part]
            else:
                end = "" if answer.symbol is None else f":{answer.symbol}"
                names = [name for name in request.channels if name.endswith(end)]
            return [(request, name) for name in names]

        if answer.request_id is not None:
            request = self._outstanding.get(answer.request_id)
            return [] if request is None else meant(request)
        if answer.channel is not None:
            candidates: Iterable[Request] = self._outstanding.of(answer.channel)
        else:
            candidates = self._outstanding
        return next(filter(None, map(meant, candidates)), [])

    def _answered(self, request: Request, channel: str) -> bool:
        """``channel`` of ``request`` was accepted; True when that makes it active."""
        self._outstanding.discard(request, channel)
        entry = self._entries.get(channel)
        if request.subscribe:
            if entry is None:
                self._undo(request, channel)
            elif entry.state is PENDING:
                for other in self._outstanding.of(channel):
                    if channel in other.quiet:
                        self._interrupted(other, channel)  # it has been worked on before
                self._confirm(entry)
                return True
        elif channel in request.quiet:
            self._first_half_over(request, channel)
        elif entry is not None and entry.state is UNSUBSCRIBING:
            self._unsubscribed(entry)
        return False

    def _confirm(self, entry: Wanted) -> None:
        self._set(entry, ACTIVE)
        entry.was_active = self._has_confirmed = True
        entry.has_ended = False
        for call in entry.calls:
            call.is_served = True
        self._settle_entry(entry)

    def _first_half_over(self, request: Request, channel: str) -> None:
        """The first half of a refresh is answered. Accepted, it has ended the channel; refused, the
        channel had ended before."""
        self._interrupted(request, channel)
        entry = self._entries.get(channel)
        if entry is None or entry.state is not UNSUBSCRIBING:
            return
        if (request.id or 0) > entry.asked_id:  # no subscribe went out after it
            self._ended_before(entry)

    def _interrupted(self, request: Request, channel: str) -> None:
        """The first half of a refresh has ended the channel, or may have."""
        entry = self._entries.get(channel)
        if entry is None or channel in request.told:
            return
        request.told.add(channel)
        if entry.was_active and entry.state is not UNSUBSCRIBING:
            self._effects.append(Missing(channel))

    def _unsubscribed(self, entry: Wanted) -> None:
        if entry.wanted_again:
            self._effects.append(Removed(entry.channel))
            self._settle_entry(entry, subscribe=False)
            entry.wanted_again = entry.has_ended = False
            entry.was_active, entry.attempts, entry.waited = False, 0, 0.0
            self._set(entry, PENDING)
            self._enqueue([entry.channel], entry.options)
        else:
            self._remove(entry)

    def _undo(self, request: Request, channel: str) -> None:
        """Nobody wants it any more, and the venue must not be left subscribed."""
        last = self._unsent.last
        if (
            last is not None
            and last.id is None
            and not last.subscribe
            and len(last.quiet) == len(last.channels)
            and dict(last.options) == dict(request.options)
        ):
            self._unsent.join(last, channel)
            last.quiet.add(channel)
            return
        self._enqueue([channel], request.options, subscribe=False, quiet=True)

    def _not_answered(self, request: Request, channel: str) -> None:
        if channel in request.quiet:
            self._interrupted(request, channel)
            return
        silence = f"no answer within {self._ack_timeout:g} s"
        entry = self._entries.get(channel)
        if not request.subscribe:
            if entry is not None and entry.state is UNSUBSCRIBING:
                self._remove(entry, silence)
        elif entry is None:
            self._undo(request, channel)
        elif entry.state is PENDING and not self._is_asked_for(channel):
            if not entry.was_active:
                self._effects.append(Refused(channel, silence))
                self._remove(entry, silence)
                self._undo(request, channel)
            elif not self._dialect.acknowledges:
                pass  # nobody has refused it: its first data will come when there is some
            elif entry.attempts < RESUBSCRIBE_ATTEMPTS:
                self._enqueue([entry.channel], entry.options)
            else:
                self.suspect_connection = f"the resubscription of {entry.channel!r} is not answered"

    def _is_asked_for(self, channel: str) -> bool:
        """A later request for it is on its way, and has its own time."""
        requests = (*self._unsent.of(channel), *self._outstanding.of(channel))
        return any(request.subscribe for request in requests)

    def _drop(self, entry: Wanted, reason: str) -> None:
        kind = Lost if entry.was_active else Refused
        self._effects.append(kind(entry.channel, reason))
        self._remove(entry, reason, refused=True)

    def _end(self, call: Call, reason: str, *, quietly: bool = False) -> None:
        """A call waits no longer; what only it has wanted is not wanted any more."""
        for name in list(call.channels):
            entry = self._entries.get(name)
            self._decide(call, name, reason)
            if entry is not None:
                entry.calls.remove(call)
                if not any(other.subscribe for other in entry.calls):
                    entry.wanted_again = False
                if not quietly and self._is_unwanted(entry) and entry.state is PENDING:
                    self._effects.append(Refused(name, reason))
                self._forget_unwanted(entry)
        self._finish(call)

    def _is_unwanted(self, entry: Wanted) -> bool:
        """The last call that waited for this channel has given up."""
        if entry.calls:
            return False
        return entry.state is UNSUBSCRIBING or (entry.state is PENDING and not entry.was_active)

    def _forget_unwanted(self, entry: Wanted) -> None:
        if self._is_unwanted(entry):
            self._unsent.drop(entry.channel)
            self._remove(entry)

    def _remove(self, entry: Wanted, reason: str | None = None, *, refused: bool = False) -> None:
        del self._entries[entry.channel]
        same = self._by_name[_first_part(entry.channel)]
        del same[entry.channel]
        if not same:
            del self._by_name[_first_part(entry.channel)]
        self._counts[entry.state] -= 1
        self._effects.append(Removed(entry.channel))
        self._settle_entry(entry, reason, refused=refused)

    def _settle_entry(
        self,
        entry: Wanted,
        reason: str | None = None,
        *,
        refused: bool = False,
        subscribe: bool | None = None,
    ) -> None:
        """Decide this channel for all who wait for it, or for one kind of them."""
        for call in list(entry.calls):
            if subscribe is None or call.subscribe == subscribe:
                entry.calls.remove(call)
                self._decide(call, entry.channel, reason, refused=refused)
                self._finish(call)

    def _decide(
        self, call: Call, channel: str, reason: str | None = None, *, refused: bool = False
    ) -> None:
        call.channels.pop(channel, None)
        if reason is not None:
            call.failed[channel] = reason
            call.rejected |= refused

    def _finish(self, call: Call) -> None:
        if call.channels or call not in self._calls:
            return
        del self._calls[call]
        error: SubscriptionError | None = None
        if call.failed:
            kind = SubscriptionRejected if call.rejected else SubscriptionTimeout
            error = kind(
                "; ".join(f"{name!r}: {reason}" for name, reason in sorted(call.failed.items())),
                call.failed,
            )
        self._effects.append(Settled(call.token, error))


def _first_part(channel: str) -> str:
    return channel.partition(":")[0]


def _by_options(entries: Iterable[Wanted]) -> list[tuple[Mapping[str, Any], list[str]]]:
    """Channels that may go in one message, in their order."""
    groups: list[tuple[Mapping[str, Any], list[str]]] = []
    for entry in entries:
        for options, names in groups:
            if dict(options) == dict(entry.options):
                names.append(entry.channel)
                break
        else:
            groups.append((entry.options, [entry.channel]))
    return groups
