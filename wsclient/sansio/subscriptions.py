"""Which channels are wanted, which the venue has confirmed, and who waits for its answer.

Wanted is what the caller asked for, and survives a reconnect; confirmed is what the venue has
acknowledged on the present connection, and does not. An :class:`Entry` is a wanted channel; a
:class:`Request` is a message on its way, not yet fully answered; a :class:`Wish` is one call of
``subscribe()`` or ``unsubscribe()`` that waits until each of its channels is decided.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NamedTuple

from wsclient.errors import (
    ConfigurationError,
    SubscriptionError,
    SubscriptionRejected,
    SubscriptionTimeout,
)
from wsclient.messages import SubscriptionState
from wsclient.sansio.dialect import Ack, Dialect, Rejection

__all__ = ["Effect", "Lost", "Missing", "Refused", "Removed", "Request", "Settled", "Subscriptions"]

#: Requests for one channel on one connection before the connection itself is given up.
RESUBSCRIBE_ATTEMPTS = 2

PENDING = SubscriptionState.PENDING
ACTIVE = SubscriptionState.ACTIVE
UNSUBSCRIBING = SubscriptionState.UNSUBSCRIBING


class Settled(NamedTuple):
    """A wish is decided: ``error`` is None when all of its channels are as asked for."""

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
    """An active channel has ended with the venue, or may have (it is not on its list any more, or
    this is the first half of a refresh), and is being asked for anew: data is missed."""

    channel: str


class Removed(NamedTuple):
    """A channel is wanted no longer; what was known of its stream is void."""

    channel: str


Effect = Settled | Lost | Refused | Missing | Removed


@dataclass(eq=False)
class Wish:
    token: Any
    subscribe: bool
    channels: set[str]
    deadline: float
    failed: dict[str, str] = field(default_factory=dict)
    rejected: bool = False


@dataclass(eq=False)
class Entry:
    channel: str
    options: Mapping[str, Any]
    state: SubscriptionState = PENDING
    wishes: list[Wish] = field(default_factory=list)
    #: It has been confirmed once, on this connection or an earlier one.
    was_active: bool = False
    #: Subscribe messages sent for it on this connection.
    attempts: int = 0
    #: It is wanted again, once the unsubscribe under way is answered.
    wanted_again: bool = False


@dataclass(eq=False)
class Request:
    """A subscribe or unsubscribe message; ``channels`` are those not yet answered."""

    id: int
    subscribe: bool
    channels: dict[str, None]
    options: Mapping[str, Any]
    #: Nobody waits for the answer (the first half of a refresh, a late ack undone).
    quiet: bool = False
    #: That it may have ended its channel has been told.
    told: bool = False
    deadline: float = float("inf")
    #: Why some of its channels were refused, where the venue did not say which ones.
    refusals: list[str] = field(default_factory=list)


class Outstanding:
    """Requests that are on their way, oldest first: found by their ids, and by their channels."""

    def __init__(self) -> None:
        self._by_id: dict[str, Request] = {}
        self._by_channel: dict[str, list[Request]] = {}

    def __iter__(self) -> Iterator[Request]:
        return iter(tuple(self._by_id.values()))

    def add(self, request: Request) -> None:
        self._by_id[str(request.id)] = request
        for name in request.channels:
            self._by_channel.setdefault(name, []).append(request)

    def get(self, request_id: object) -> Request | None:
        return self._by_id.get(str(request_id))

    def of(self, channel: str) -> Sequence[Request]:
        return tuple(self._by_channel.get(channel, ()))

    def discard(self, request: Request, channel: str) -> None:
        """``channel`` of ``request`` is answered, or will not be."""
        del request.channels[channel]
        if not request.channels:
            del self._by_id[str(request.id)]
        requests = self._by_channel[channel]
        requests.remove(request)
        if not requests:
            del self._by_channel[channel]

    def clear(self) -> None:
        self._by_id.clear()
        self._by_channel.clear()

    @property
    def deadline(self) -> float:
        """That of the oldest is the earliest."""
        return next((request.deadline for request in self._by_id.values()), float("inf"))

    def overdue(self, now: float) -> list[Request]:
        return list(takewhile(lambda request: now >= request.deadline, self._by_id.values()))


class Subscriptions:
    """Pure bookkeeping. What happened is handed out by :meth:`effects`."""

    def __init__(self, dialect: Dialect, ack_timeout: float, ids: Iterator[int]) -> None:
        self._dialect = dialect
        self._ids = ids
        self._ack_timeout = ack_timeout
        self._entries: dict[str, Entry] = {}
        self._unsent: deque[Request] = deque()
        self._outstanding = Outstanding()
        self._wishes: list[Wish] = []
        self._effects: list[Effect] = []
        #: One that was PENDING when last looked for.
        self._pending: Entry | None = None
        #: Set when a resubscription went unanswered RESUBSCRIBE_ATTEMPTS times.
        self.link_suspect: str | None = None

    # What the caller asks for.

    def subscribe(
        self,
        channels: Iterable[str],
        options: Mapping[str, Any],
        token: Any,
        deadline: float,
    ) -> None:
        """Want ``channels``; ``token`` is settled when each is decided.

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
        wish = Wish(token, True, set(names), deadline)
        self._wishes.append(wish)
        new: list[str] = []
        limit = self._dialect.limits.channels_per_connection
        for name in names:
            entry = self._entries.get(name)
            if entry is None:
                if limit is not None and len(self._entries) >= limit:
                    self._decide(
                        wish, name, f"the venue allows {limit} channels a connection", refused=True
                    )
                    continue
                self._entries[name] = Entry(name, dict(options), wishes=[wish])
                new.append(name)
            elif entry.state is ACTIVE:
                self._decide(wish, name)
            else:
                entry.wishes.append(wish)
                if entry.state is UNSUBSCRIBING:
                    entry.wanted_again = True
                    entry.options = dict(options)
        self._enqueue(new, options)
        self._finish(wish)

    def unsubscribe(self, channels: Iterable[str], token: Any, deadline: float) -> None:
        """Stop wanting ``channels``. One that the venue was never asked for is gone at once."""
        names = set(channels)
        wish = Wish(token, False, set(names), deadline)
        self._wishes.append(wish)
        for name in names:
            entry = self._entries.get(name)
            if entry is None:
                self._decide(wish, name)
                continue
            self._settle_entry(
                entry, "unsubscribed before it was acknowledged", refused=True, subscribe=True
            )
            entry.wishes.append(wish)
            entry.wanted_again = False
            if entry.state is UNSUBSCRIBING:
                continue
            self._drop_unsent(name)
            if entry.state is PENDING and entry.attempts == 0:
                self._unsubscribed(entry)
                continue
            entry.state = UNSUBSCRIBING
            self._enqueue([name], entry.options, subscribe=False)
        self._finish(wish)

    def refresh(self, channel: str) -> None:
        """Ask anew for an active channel (gone silent, or out of sync), on the same connection."""
        entry = self._entries[channel]
        entry.state = PENDING
        self._enqueue([channel], entry.options, subscribe=False, quiet=True)
        self._enqueue([channel], entry.options)

    # What the link does.

    def restore(self) -> None:
        """The link is open: ask for all that is wanted, in batches, oldest wish first."""
        self._unsent.clear()
        groups: list[tuple[Mapping[str, Any], list[str]]] = []
        for entry in self._entries.values():
            if groups and dict(groups[-1][0]) == dict(entry.options):
                groups[-1][1].append(entry.channel)
            else:
                groups.append((entry.options, [entry.channel]))
        for options, names in groups:
            self._enqueue(names, options)

    def link_lost(self) -> None:
        """Nothing is confirmed any more, and whatever was unsubscribed is."""
        self._unsent.clear()
        self._outstanding.clear()
        self.link_suspect = None
        for entry in list(self._entries.values()):
            entry.attempts = 0
            if entry.state is UNSUBSCRIBING:
                self._unsubscribed(entry)
            else:
                entry.state = PENDING

    def next_request(self, now: float) -> Request | None:
        """The next message to send, which then counts as sent at ``now``."""
        while self._unsent:
            request = self._unsent.popleft()
            if not request.channels:
                continue
            request.deadline = now + self._ack_timeout
            self._outstanding.add(request)
            for name in request.channels:
                if request.subscribe and (entry := self._entries.get(name)):
                    entry.attempts += 1
            return request
        return None

    def sent(self, request: Request) -> None:
        """It is on its way: where the venue never acknowledges, an unsubscribe is done by that."""
        if not request.subscribe and not self._dialect.acknowledges:
            for name in list(request.channels):
                self._answered(request, name)

    @property
    def has_unsent(self) -> bool:
        return bool(self._unsent)

    @property
    def is_suspect(self) -> bool:
        return self.link_suspect is not None

    # What the venue answers.

    def acknowledged(self, ack: Ack) -> list[str]:
        """An accepting answer. Returns the channels that are active from now on."""
        matches = self._match(ack)
        confirmed = [name for request, name in matches if self._answered(request, name)]
        for request, _ in matches[:1]:
            self._deduce_refusals(request)
        return confirmed

    def rejected(self, rejection: Rejection) -> bool:
        """A refusing answer. False: it answers nothing that was asked."""
        matches = self._match(rejection)
        if rejection.is_one:
            for request, _ in matches[:1]:
                request.refusals.append(rejection.reason)
        else:
            for request, name in matches:
                self._refused(request, name, rejection.reason)
        for request, _ in matches[:1]:
            self._deduce_refusals(request)
        return bool(matches)

    def subscribed(self, channels: Iterable[str]) -> list[str]:
        """The cumulative answer: what is listed is active, what is not is unsubscribed."""
        listed = set(channels)
        confirmed = []
        for request in self._outstanding:
            for name in list(request.channels):
                if request.subscribe == (name in listed) and self._answered(request, name):
                    confirmed.append(name)
        for entry in self._entries.values():
            if entry.state is ACTIVE and entry.channel not in listed:
                entry.state = PENDING
                self._effects.append(Missing(entry.channel))
                self._enqueue([entry.channel], entry.options)
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
        self._confirm(entry)  # it was asked for so long ago that nothing waits for an answer
        return True

    # Time.

    def expire(self, now: float) -> None:
        """Give up on what has waited too long."""
        for wish in [w for w in self._wishes if now >= w.deadline]:
            for name in list(wish.channels):
                entry = self._entries.get(name)
                self._decide(wish, name, "no answer within the timeout")
                if entry is not None:
                    entry.wishes.remove(wish)
                    self._forget_unwanted(entry)
            self._finish(wish)
        for request in self._outstanding.overdue(now):
            for name in list(request.channels):
                if request.refusals:
                    self._refused(request, name, request.refusals[0])
                    continue
                self._outstanding.discard(request, name)
                self._unanswered(request, name)

    def deadline(self) -> float:
        """When :meth:`expire` is due next (``inf`` for never)."""
        return min((self._outstanding.deadline, *(wish.deadline for wish in self._wishes)))

    def postpone(self, seconds: float) -> None:
        """We slept for so long: no answer could be read meanwhile."""
        for request in self._outstanding:
            request.deadline += seconds

    def fail_all(self) -> list[Any]:
        """Forget all wishes; returns their tokens, for the caller to fail."""
        tokens = [wish.token for wish in self._wishes]
        self._wishes.clear()
        for entry in list(self._entries.values()):
            entry.wishes.clear()
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

    def wanted(
        self, channels: Iterable[str] | None = None
    ) -> list[tuple[str, SubscriptionState, Mapping[str, Any]]]:
        """What is wanted; of ``channels`` only, where these are given."""
        entries = self._entries
        if channels is None:
            found = list(entries.values())
        else:
            found = [entries[c] for c in dict.fromkeys(channels) if c in entries]
        return [(e.channel, e.state, e.options) for e in found]

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def all_confirmed(self) -> bool:
        known = self._pending
        if known and known.state is PENDING and self._entries.get(known.channel) is known:
            return False
        # From the end, as venues answer in order.
        entries = reversed(self._entries.values())
        self._pending = next((entry for entry in entries if entry.state is PENDING), None)
        return self._pending is None

    # Inside.

    def _enqueue(
        self,
        channels: Sequence[str],
        options: Mapping[str, Any],
        *,
        subscribe: bool = True,
        quiet: bool = False,
    ) -> None:
        if not channels:
            return
        for batch in self._dialect.batches(channels):
            names = dict.fromkeys(batch)
            self._unsent.append(Request(next(self._ids), subscribe, names, options, quiet))

    def _drop_unsent(self, channel: str) -> None:
        for request in self._unsent:
            if request.subscribe and channel in request.channels:
                del request.channels[channel]

    def _match(self, answer: Ack | Rejection) -> list[tuple[Request, str]]:
        """The (request, channel) pairs that an answer speaks of.

        An answer with an id of ours is of that request, with or without a channel. One without is
        of the oldest request for its channel; and one with neither is of the oldest of all. All
        pairs are of one request.
        """
        first_part = answer.name if isinstance(answer, Rejection) else None

        def meant(request: Request) -> list[tuple[Request, str]]:
            if answer.channel is not None:
                names = [answer.channel] if answer.channel in request.channels else []
            elif first_part is not None:
                names = [name for name in request.channels if request.subscribe]
                names = [name for name in names if name.partition(":")[0] == first_part]
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
                    if other.quiet:
                        self._interrupted(other, channel)  # it has been worked on before
                self._confirm(entry)
                return True
        elif request.quiet:
            self._interrupted(request, channel)
        elif entry is not None and entry.state is UNSUBSCRIBING:
            self._unsubscribed(entry)
        return False

    def _refused(self, request: Request, channel: str, reason: str) -> None:
        """``channel`` of ``request`` was refused."""
        self._outstanding.discard(request, channel)
        entry = self._entries.get(channel)
        if entry is None:
            return
        if request.quiet:
            self._interrupted(request, channel)
        elif not request.subscribe:
            if entry.state is UNSUBSCRIBING:
                entry.state = ACTIVE
                entry.was_active = True
                entry.wanted_again = False
                self._settle_entry(entry, subscribe=True)
                self._settle_entry(entry, reason, refused=True)
        elif entry.state is PENDING:
            self._drop(entry, reason)
        elif entry.state is UNSUBSCRIBING:
            # The unsubscribe under way has nothing to end any more: its answer says nothing.
            for other in (*self._unsent, *self._outstanding.of(channel)):
                if not other.subscribe and channel in other.channels:
                    other.quiet = True
            self._unsubscribed(entry)

    def _deduce_refusals(self, request: Request) -> None:
        """As many channels are unanswered as were refused without a name: these are refused."""
        if len(request.channels) <= len(request.refusals):
            for name, reason in zip(tuple(request.channels), request.refusals, strict=False):
                self._refused(request, name, reason)

    def _confirm(self, entry: Entry) -> None:
        entry.state = ACTIVE
        entry.was_active = True
        self._settle_entry(entry)

    def _interrupted(self, request: Request, channel: str) -> None:
        """The first half of a refresh is over. Accepted, it has ended the channel; refused, the
        channel had ended before; unanswered, nobody knows."""
        entry = self._entries.get(channel)
        if entry is None or request.told:
            return
        request.told = True
        if entry.was_active and entry.state is not UNSUBSCRIBING:
            self._effects.append(Missing(channel))

    def _unsubscribed(self, entry: Entry) -> None:
        if entry.wanted_again:
            self._effects.append(Removed(entry.channel))
            self._settle_entry(entry, subscribe=False)
            entry.wanted_again = False
            entry.was_active = False
            entry.state = PENDING
            self._enqueue([entry.channel], entry.options)
        else:
            self._remove(entry)

    def _undo(self, request: Request, channel: str) -> None:
        """Nobody wants it any more, and the venue must not be left subscribed."""
        self._enqueue([channel], request.options, subscribe=False, quiet=True)

    def _unanswered(self, request: Request, channel: str) -> None:
        if request.quiet:
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
                self.link_suspect = f"the resubscription of {entry.channel!r} is not answered"

    def _is_asked_for(self, channel: str) -> bool:
        """A later request for it is on its way, and has its own time."""
        requests = (*self._unsent, *self._outstanding.of(channel))
        return any(r.subscribe and channel in r.channels for r in requests)

    def _drop(self, entry: Entry, reason: str) -> None:
        kind = Lost if entry.was_active else Refused
        self._effects.append(kind(entry.channel, reason))
        self._remove(entry, reason, refused=True)

    def _forget_unwanted(self, entry: Entry) -> None:
        """The last call that waited for this channel has given up."""
        if entry.wishes:
            return
        if entry.state is UNSUBSCRIBING or (entry.state is PENDING and not entry.was_active):
            self._drop_unsent(entry.channel)
            self._remove(entry)

    def _remove(self, entry: Entry, reason: str | None = None, *, refused: bool = False) -> None:
        del self._entries[entry.channel]
        self._effects.append(Removed(entry.channel))
        self._settle_entry(entry, reason, refused=refused)

    def _settle_entry(
        self,
        entry: Entry,
        reason: str | None = None,
        *,
        refused: bool = False,
        subscribe: bool | None = None,
    ) -> None:
        """Decide this channel for all who wait for it, or for one kind of them."""
        for wish in list(entry.wishes):
            if subscribe is None or wish.subscribe == subscribe:
                entry.wishes.remove(wish)
                self._decide(wish, entry.channel, reason, refused=refused)
                self._finish(wish)

    def _decide(
        self, wish: Wish, channel: str, reason: str | None = None, *, refused: bool = False
    ) -> None:
        wish.channels.discard(channel)
        if reason is not None:
            wish.failed[channel] = reason
            wish.rejected |= refused

    def _finish(self, wish: Wish) -> None:
        if wish.channels or wish not in self._wishes:
            return
        self._wishes.remove(wish)
        error: SubscriptionError | None = None
        if wish.failed:
            kind = SubscriptionRejected if wish.rejected else SubscriptionTimeout
            error = kind(
                "; ".join(f"{name!r}: {reason}" for name, reason in sorted(wish.failed.items())),
                wish.failed,
            )
        self._effects.append(Settled(wish.token, error))
