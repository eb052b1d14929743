"""The wanted channels, those that the venue has confirmed, and the calls that wait for answers.

A channel is wanted if a caller requested it; this survives a reconnect. It is confirmed if the
venue has acknowledged it on the current connection; this does not. A :class:`Wanted` is a wanted
channel; a :class:`~wsclient.sansio.asked.Request` is a message to the venue that is not yet fully
answered; a :class:`Call` is one call of ``subscribe()`` or ``unsubscribe()`` that waits until each
of its channels is decided.
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

#: After this many unanswered resubscriptions of a channel on one connection, the connection is
#: replaced.
RESUBSCRIBE_ATTEMPTS = 2
#: A subscribe() fails after this many connections in a row have ended and confirmed none of its
#: channels.
FRUITLESS_CONNECTIONS = 2

PENDING = SubscriptionState.PENDING
ACTIVE = SubscriptionState.ACTIVE
UNSUBSCRIBING = SubscriptionState.UNSUBSCRIBING


class Settled(NamedTuple):
    """A call is decided; ``error`` is None if all of its channels are as requested."""

    token: Any
    error: SubscriptionError | None


class Lost(NamedTuple):
    """A channel that was active is lost: its resubscription was refused."""

    channel: str
    reason: str


class Refused(NamedTuple):
    """A channel that was never active is given up: it was refused, or not answered."""

    channel: str
    reason: str


class Missing(NamedTuple):
    """Data of an active channel may be missing: its subscription has ended, or may have ended.

    The first half of a refresh, or the venue, has ended it. The client resubscribes to it.
    """

    channel: str


class Stopped(NamedTuple):
    """The venue has ended an active channel without an unsubscribe: data is missing.

    The channel waits for :meth:`Subscriptions.ask_again`.
    """

    channel: str
    reason: str


class Kept(NamedTuple):
    """A channel is active again: the venue has refused to unsubscribe it."""

    channel: str


class Removed(NamedTuple):
    """A channel is no longer wanted, and its stream's state is void."""

    channel: str


Effect = Settled | Lost | Refused | Missing | Stopped | Kept | Removed


@dataclass(eq=False)
class Call:
    """One call of ``subscribe()`` or ``unsubscribe()``; ``channels`` are those not yet decided."""

    token: Any
    subscribe: bool
    channels: dict[str, None]
    deadline: float
    failed: dict[str, str] = field(default_factory=dict)
    rejected: bool = False
    #: The current connection has confirmed some of its channels.
    is_served: bool = False
    #: How many connections in a row have ended and confirmed none of its channels.
    fruitless: int = 0
    #: It has been logged that the call waits for a connection.
    is_logged: bool = False


@dataclass(eq=False)
class Wanted:
    """A wanted channel."""

    channel: str
    options: Mapping[str, Any]
    state: SubscriptionState = PENDING
    calls: list[Call] = field(default_factory=list)
    #: The channel has been confirmed, on this connection or an earlier one.
    was_active: bool = False
    #: How many subscribe messages were sent for it on this connection.
    attempts: int = 0
    #: The id of the last subscribe message; ids rise.
    asked_id: int = 0
    #: How long (s) its first request was unanswered on earlier connections.
    waited: float = 0.0
    #: Subscribe to it again after the pending unsubscribe is answered.
    wanted_again: bool = False
    #: The venue has ended it unasked, and no subscribe has gone out since.
    has_ended: bool = False


class Subscriptions:
    """The wanted channels, requests and calls of one client. :meth:`effects` returns what happened.

    The cost of a step depends on what it changes, not on how many channels are wanted. Exceptions
    are the steps at the beginning and end of a connection.
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
        #: The names of the wanted channels, by their part before the first colon.
        self._by_name: dict[str, dict[str, None]] = {}
        #: The number of wanted channels in each state.
        self._counts: Counter[SubscriptionState] = Counter()
        self._unsent = Unsent()
        self._outstanding = Outstanding()
        self._unanswered: Timers[Request] = Timers(self._answer_due)
        self._calls: dict[Call, None] = {}
        self._impatient: Timers[Call] = Timers(
            lambda call: call.deadline if call in self._calls else None
        )
        self._effects: list[Effect] = []
        #: The current connection has confirmed a channel.
        self._has_confirmed = False
        #: Something must be sent that did not exist, or could not be sent, when this was cleared.
        self.has_changed = False
        #: Why to replace the connection: a resubscription was unanswered RESUBSCRIBE_ATTEMPTS
        #: times.
        self.suspect_connection: str | None = None

    # Requests of callers.

    def subscribe(
        self,
        channels: Iterable[str],
        options: Mapping[str, Any],
        token: Any,
        deadline: float,
    ) -> Call | None:
        """Subscribe to ``channels``; ``token`` is settled when each is decided.

        Returns the waiting call, or None if each channel is already decided. Raises
        ConfigurationError if a channel is already subscribed with other options.
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
                        call,
                        name,
                        f"the venue allows {limit} channels per connection",
                        refused=True,
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
        """Unsubscribe from ``channels``; ``token`` is settled when each is decided.

        A channel for which no subscribe was sent is removed at once.
        """
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
        """Resubscribe an active channel (silent, or out of sync) on the same connection."""
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
        # These may still be subscribed at the venue, which would refuse a second subscribe.
        for options, names in _by_options(entry for entry in stopped if entry.attempts):
            self._enqueue(names, options, subscribe=False, quiet=True)
        for options, names in _by_options(stopped):
            self._enqueue(names, options)

    # The connection.

    def restore(self) -> None:
        """Request all wanted channels, in batches: a connection has opened.

        Channels that were confirmed before come first, oldest first. The others go in separate
        messages for each call, so that a channel for which the venue ends the connection does not
        affect the channels of other calls.
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
        """Count the end of a connection against the calls that wait, so that none waits for ever.

        The connection was able to deliver answers. Its end counts against each call that had an
        outstanding request, and against every waiting call if the connection has confirmed nothing
        at all. ``why`` is the reason of the end.
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
        """Clear the state of the connection: nothing is confirmed, all unsubscribes are done."""
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
        """Return the next requests to send, at most ``most``."""
        return self._unsent.first(most)

    def split(
        self, requests: Sequence[Request], batches: Iterable[Iterable[Sequence[str]]]
    ) -> None:
        """Split the first unsent requests into messages, as the dialect did.

        ``batches`` contains, for each request, the channels of each message. Channels that have
        left a request in the meantime are ignored.
        """
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
            if left:  # joined in the meantime: not yet passed to the dialect
                parts.append(self._part(request, left))
        self._unsent.replace(requests, parts)
        self.has_changed = True

    def _part(self, request: Request, names: dict[str, None]) -> Request:
        quiet = request.quiet.intersection(names)
        return Request(request.subscribe, names, request.options, quiet)

    def refuse(self, request: Request, names: Collection[str], reason: str) -> None:
        """Refuse channels of an unsent request: the dialect made no message for them."""
        for name in [name for name in names if name in request.channels]:
            self._unsent.discard(request, name)
            self._refused(request, name, reason)
        self.has_changed = True

    def send(self, now: float) -> Request:
        """Move the first unsent request to the outstanding ones, and return it.

        Its answer may take ``ack_timeout``. If the venue never acknowledges, an unsubscribe is
        complete once it is sent.
        """
        request = self._unsent.pop()
        request.sent_at, request.patience = now, self._ack_timeout
        for name in request.channels if request.subscribe else ():
            entry = self._entries.get(name)
            if entry is not None:
                entry.attempts += 1
                entry.asked_id = request.id or 0
                if entry.has_ended:
                    entry.has_ended = False
                    # The gap of the end may be delivered already, on a message that came after the
                    # end. So mark another.
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
        """Whether a request waits to be sent."""
        return bool(self._unsent.first(1))

    @property
    def is_suspect(self) -> bool:
        """Whether to replace the connection."""
        return self.suspect_connection is not None

    # Answers of the venue.

    def acknowledged(self, ack: Ack) -> list[str]:
        """Process an accepting answer; return the channels that it has made active."""
        matches = self._match(ack)
        if not matches and ack.verb == "unsubscribe" and ack.request_id is None:
            self._stop(ack.channel, "the venue has unsubscribed it", is_certain=True)
        confirmed = [name for request, name in matches if self._answered(request, name)]
        for request, _ in matches[:1]:
            self._deduce_refusals(request)
        return confirmed

    def rejected(self, rejection: Rejection) -> list[str] | None:
        """Process a refusing answer; return the channels that it has made active.

        Returns None if it answers no request and ends no channel. A refused resubscription makes
        its channel active if the venue refuses it because it still has the channel.
        """
        reason = one_line(rejection.reason)
        matches = self._match(rejection)
        if not matches:
            is_foreign = rejection.request_id is not None  # of a user's own message, by send()
            if is_foreign or rejection.keeps_active or rejection.verb == "unsubscribe":
                return None
            return [] if self._stop(rejection.channel, reason) else None
        request, _ = matches[0]
        confirmed = []
        if rejection.is_one:
            request.refusals.append(reason)
        else:
            for _, name in matches:
                if rejection.keeps_active and request.subscribe and self._was_active(name):
                    confirmed += [name] if self._answered(request, name) else []
                else:
                    self._outstanding.discard(request, name)
                    self._refused(request, name, reason)
        self._deduce_refusals(request)
        return confirmed

    def _was_active(self, channel: str) -> bool:
        entry = self._entries.get(channel)
        return entry is not None and entry.was_active

    def ended(self, answer: Ended) -> bool:
        """Process the end of channels by the venue. Return False if none of them was active."""
        names = [] if answer.channel is None else [answer.channel]
        if answer.name is not None:
            names = list(self._by_name.get(answer.name, ()))
        has_ended = [self._stop(name, one_line(answer.reason)) for name in names]
        return any(has_ended)

    def _stop(self, channel: str | None, reason: str, *, is_certain: bool = False) -> bool:
        """Note that the venue has ended ``channel``; return False if it was not active.

        ``is_certain``: the venue will not refuse another subscribe as already subscribed.
        """
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
        """Refuse the unanswered channels if there are as many refusals that named no channel."""
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
        """Complete a pending unsubscribe, as the channel has ended; ignore its answer."""
        name = entry.channel
        for other in (*self._unsent.of(name), *self._outstanding.of(name)):
            if not other.subscribe:
                other.quiet.add(name)
        self._unsubscribed(entry)

    def subscribed(self, channels: Iterable[str]) -> list[str]:
        """Process a cumulative answer: the listed channels are active, all others are not.

        Returns the channels that it has made active.
        """
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
        """Process the arrival of data; return whether it makes the channel active.

        It does only if the venue never acknowledges.
        """
        if self._dialect.acknowledges:
            return False
        for request in self._outstanding.of(channel):
            if request.subscribe:
                return self._answered(request, channel)
        entry = self._entries.get(channel)
        if entry is None or entry.state is not PENDING or self._is_asked_for(channel):
            return False
        if entry.has_ended:
            return False  # sent before the channel ended
        self._confirm(entry)  # the request's time for an answer is over
        return True

    # Time.

    def expire(self, now: float) -> None:
        """End calls and requests whose time is over."""
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
        """Return when to call :meth:`expire` at the latest (monotonic s, ``inf`` for never)."""
        return min(self._unanswered.deadline(), self._impatient.deadline())

    def _answer_due(self, request: Request) -> float | None:
        if not request.channels:
            return None
        return request.sent_at + request.patience + self._excuse(request)

    def _excuse(self, request: Request) -> float:
        return self._stops.excuse(request.sent_at)

    def fail_all(self) -> list[Any]:
        """Forget all calls, and return their tokens for the caller to fail."""
        tokens = [call.token for call in self._calls]
        self._calls.clear()
        for entry in list(self._entries.values()):
            entry.calls.clear()
            self._forget_unwanted(entry)
        return tokens

    def effects(self) -> list[Effect]:
        """Return what has happened since the last call."""
        effects, self._effects = self._effects, []
        return effects

    # The current state.

    def state(self, channel: str) -> SubscriptionState | None:
        """Return the state of ``channel``; None if it is not wanted."""
        entry = self._entries.get(channel)
        return None if entry is None else entry.state

    def active_as(self, channel: str) -> int | None:
        """Return the id of the subscribe that made ``channel`` active; None if it is not active.

        May be called without the lock.
        """
        entry = self._entries.get(channel)
        return entry.asked_id if entry is not None and entry.state is ACTIVE else None

    def wanted(self) -> list[tuple[str, SubscriptionState, Mapping[str, Any]]]:
        """Return channel, state and options of each wanted channel."""
        return [(e.channel, e.state, e.options) for e in self._entries.values()]

    def wanted_among(
        self, channels: Iterable[str]
    ) -> list[tuple[str, SubscriptionState, Mapping[str, Any]]]:
        """Return channel, state and options of those of ``channels`` that are wanted, in order."""
        found = (self._entries.get(channel) for channel in dict.fromkeys(channels))
        return [(e.channel, e.state, e.options) for e in found if e is not None]

    def __len__(self) -> int:
        """Return the number of wanted channels; may be called without the lock."""
        return len(self._entries)

    def count(self, state: SubscriptionState) -> int:
        """Return the number of channels in ``state``."""
        return self._counts[state]

    @property
    def all_confirmed(self) -> bool:
        """Whether no channel waits for its confirmation."""
        return not self._counts[PENDING]

    def waiting(self) -> list[Call]:
        """Return the calls of ``subscribe()`` that are not yet decided."""
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
        """Return the (request, channel) pairs that an answer is about; all are of one request.

        An answer with an id belongs to the request with that id, whether it names a channel or not.
        An answer without an id belongs to the oldest request for its channel. An answer with
        neither belongs to the oldest request of all.
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
        """Note that ``channel`` of ``request`` was accepted; return whether that made it active."""
        self._outstanding.discard(request, channel)
        entry = self._entries.get(channel)
        if request.subscribe:
            if entry is None:
                self._undo(request, channel)
            elif entry.state is PENDING:
                for other in self._outstanding.of(channel):
                    if channel in other.quiet:
                        self._interrupted(other, channel)  # the venue processed that request first
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
        """Note that the first half of a refresh is answered.

        If accepted, it has ended the channel; if refused, the channel had ended before.
        """
        self._interrupted(request, channel)
        entry = self._entries.get(channel)
        if entry is None or entry.state is not UNSUBSCRIBING:
            return
        if (request.id or 0) > entry.asked_id:  # no subscribe went out after it
            self._ended_before(entry)

    def _interrupted(self, request: Request, channel: str) -> None:
        """Report, once, that the first half of a refresh has ended the channel, or may have."""
        entry = self._entries.get(channel)
        if entry is None or channel in request.reported:
            return
        request.reported.add(channel)
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
        """Unsubscribe from a channel that the venue may carry though it is no longer wanted.

        The channel joins the last unsent message of this kind, if there is one.
        """
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
                pass  # not refused: its first data message will confirm it
            elif entry.attempts < RESUBSCRIBE_ATTEMPTS:
                self._enqueue([entry.channel], entry.options)
            else:
                self.suspect_connection = f"the resubscription of {entry.channel!r} is not answered"

    def _is_asked_for(self, channel: str) -> bool:
        """Return whether a later request for the channel waits, with its own deadline."""
        requests = (*self._unsent.of(channel), *self._outstanding.of(channel))
        return any(request.subscribe for request in requests)

    def _drop(self, entry: Wanted, reason: str) -> None:
        kind = Lost if entry.was_active else Refused
        self._effects.append(kind(entry.channel, reason))
        self._remove(entry, reason, refused=True)

    def _end(self, call: Call, reason: str, *, quietly: bool = False) -> None:
        """End a call; channels that only it wanted are no longer wanted.

        ``quietly``: report no refused channels.
        """
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
        """Return whether the last call that waited for this channel has given up."""
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
        """Decide this channel for all calls that wait for it, or for calls of one kind."""
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
    """Group channels with equal options, which may go in one message; keep their order."""
    groups: list[tuple[Mapping[str, Any], list[str]]] = []
    for entry in entries:
        for options, names in groups:
            if dict(options) == dict(entry.options):
                names.append(entry.channel)
                break
        else:
            groups.append((entry.options, [entry.channel]))
    return groups
