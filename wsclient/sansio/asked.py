"""What was asked of the venue on one connection, and what it has answered.

Each answer is settled in one step: :class:`Asked` finds the request that it is about,
:class:`~wsclient.sansio.settling.Settling` decides what it means for the channel, and changes the
wanted channel, whose calls are then decided.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from wsclient.dialect.base import Dialect
from wsclient.messages import SubscriptionState
from wsclient.sansio.settling import Settling
from wsclient.sansio.stops import Stops
from wsclient.sansio.unanswered import Request, Requests
from wsclient.sansio.waitingcalls import Call
from wsclient.sansio.wanted import Outcomes, Wanted
from wsclient.sansio.wantedtable import WantedChannel, by_options
from wsclient.stream.items import Ack, Ended, Rejection
from wsclient.text import one_line

__all__ = ["Asked"]

ACTIVE = SubscriptionState.ACTIVE


class Asked:
    """The requests of one connection, and the answers to them.

    ``ids`` are the ids of requests. An answer may take ``ack_timeout`` (s).
    """

    __slots__ = (
        "_ack_timeout",
        "_acknowledges",
        "_id",
        "_outcomes",
        "_stops",
        "_wanted",
        "requests",
        "settling",
    )

    def __init__(
        self,
        connection_id: int,
        dialect: Dialect,
        wanted: Wanted,
        outcomes: Outcomes,
        ids: Iterator[int],
        ack_timeout: float,
        stops: Stops,
    ) -> None:
        self._id = connection_id
        self._acknowledges = dialect.acknowledges
        self._wanted = wanted
        self._outcomes = outcomes
        self._ack_timeout = ack_timeout
        self._stops = stops
        self.requests = Requests(ids, stops)
        self.settling = Settling(
            connection_id,
            self.requests,
            wanted,
            outcomes,
            acknowledges=dialect.acknowledges,
            ack_timeout=ack_timeout,
        )

    # Requests.

    def subscribe(self, entries: Iterable[WantedChannel]) -> None:
        """Subscribe to channels, in batches.

        Channels that were never confirmed go in separate messages for each call, so that a channel
        for which the venue ends the connection does not affect the channels of other calls.
        """
        groups: list[tuple[Call | None, Mapping[str, Any], list[str]]] = []
        for entry in entries:
            call = None if entry.was_active or not entry.calls else entry.calls[0]
            last = groups[-1] if groups else None
            if last and last[0] is call and dict(last[1]) == dict(entry.options):
                last[2].append(entry.channel)
            else:
                groups.append((call, entry.options, [entry.channel]))
        for _, options, names in groups:
            self.requests.add(names, options)

    def unsubscribe(self, entries: Iterable[WantedChannel]) -> None:
        """Unsubscribe from channels; one that the venue cannot have has left at once."""
        leaving = []
        for entry in entries:
            self.requests.unsent.drop(entry.channel)
            if self.settling.of(entry.channel).may_have:
                leaving.append(entry)
            else:
                self.settling.left(entry)
        for options, names in by_options(leaving):
            self.requests.add(names, options, subscribe=False)

    def refresh(self, channel: str) -> None:
        """Resubscribe an active channel (silent, or out of sync)."""
        entry = self._wanted.get(channel)
        if entry is not None:
            self._wanted.void(entry, self._id)
            self.requests.add([channel], entry.options, subscribe=False, quiet=True)
            self.requests.add([channel], entry.options)

    def ask_again(self, channels: Iterable[str]) -> None:
        """Subscribe again to channels that the venue has ended (:meth:`Outcomes.stopped`)."""
        stopped = [
            entry
            for entry in self._wanted.among(channels)
            if self.settling.lacks(entry) and not self.requests.is_asked_for(entry.channel)
        ]
        for entry in stopped:
            self._outcomes.again(entry, self._id)
        # These may still be subscribed at the venue, which would refuse a second subscribe.
        uncertain = [entry for entry in stopped if self.settling.of(entry.channel).may_have]
        for options, names in by_options(uncertain):
            self.requests.add(names, options, subscribe=False, quiet=True)
        for options, names in by_options(stopped):
            self.requests.add(names, options)

    def lacking(self, channels: Iterable[str]) -> list[WantedChannel]:
        """Return the channels that this connection neither carries nor has asked for.

        Not those that have ended here: they are asked for later. Nor, if the venue never
        acknowledges, what was asked for, as it may still bring data.
        """
        found = []
        for entry in self._wanted.among(channels):
            attempts = self.settling.of(entry.channel)
            may_come = attempts.has_ended or (attempts.sent and not self._acknowledges)
            if self.settling.lacks(entry) and not may_come:
                found.append(entry)
        return [entry for entry in found if not self.requests.is_asked_for(entry.channel)]

    def forget(self, channel: str) -> None:
        """Forget a channel that is no longer wanted. Answers to what was sent may still come."""
        self.requests.unsent.drop(channel)
        self.settling.attempts.pop(channel, None)

    def is_active(self, channel: str) -> bool:
        """Return whether some connection carries ``channel``."""
        return self._wanted.is_active(channel)

    def subscribed_by(self, channel: str) -> int:
        """Return the id of the last subscribe message for ``channel``; 0 if there was none.

        Needs no lock.
        """
        attempts = self.settling.attempts.get(channel)
        return 0 if attempts is None else attempts.id

    # Sending.

    def refuse(self, request: Request, names: Collection[str], reason: str) -> None:
        """Refuse channels of an unsent request: the dialect made no message for them."""
        for name in [name for name in names if name in request.channels]:
            self.requests.unsent.discard(request, name)
            self.settling.refused(request, name, reason)
        self.requests.has_changed = True

    def send(self, now: float) -> Request:
        """Move the first unsent request to the outstanding ones, and return it.

        If the venue never acknowledges, an unsubscribe is complete once it is sent.
        """
        request = self.requests.send(now, self._ack_timeout)
        self.settling.sent(request)
        self.requests.watch(request)
        if not request.subscribe and not self._acknowledges:
            for name in list(request.channels):
                self.settling.accepted(request, name)
        return request

    # Answers of the venue.

    def acknowledged(self, ack: Ack, now: float) -> None:
        """Process an accepting answer."""
        matches = self.requests.match(ack)
        if not matches and ack.verb == "unsubscribe" and ack.request_id is None:
            self.settling.stop(ack.channel, "the venue has unsubscribed it", is_certain=True)
        confirmed = [name for request, name in matches if self.settling.accepted(request, name)]
        self._report_confirmed(confirmed, now)
        for request, _ in matches[:1]:
            self._deduce_refusals(request)

    def rejected(self, rejection: Rejection, now: float) -> bool:
        """Process a refusing answer; return whether it answers a request or ends a channel.

        A refused resubscription makes its channel active if the venue refuses it because it still
        has the channel.
        """
        reason = one_line(rejection.reason)
        matches = self.requests.match(rejection)
        if not matches:
            is_foreign = rejection.request_id is not None  # of a user's own message, by send()
            if is_foreign or rejection.keeps_active or rejection.verb == "unsubscribe":
                return False
            return self.settling.stop(rejection.channel, reason)
        request, _ = matches[0]
        confirmed = []
        if rejection.is_one:
            request.refusals.append(reason)
        else:
            for _, name in matches:
                entry = self._wanted.get(name)
                was_active = entry is not None and entry.was_active
                if rejection.keeps_active and request.subscribe and was_active:
                    confirmed += [name] if self.settling.accepted(request, name) else []
                elif entry is not None and self._is_crowded(rejection, request, entry):
                    self.requests.outstanding.discard(request, name)
                else:
                    self.requests.outstanding.discard(request, name)
                    self.settling.refused(request, name, reason)
        self._report_confirmed(confirmed, now)
        self._deduce_refusals(request)
        return True

    def subscribed(self, channels: Iterable[str], now: float) -> None:
        """Process a cumulative answer: the listed channels are active, all others are not."""
        listed = set(channels)
        confirmed = []
        for request in list(self.requests.outstanding):
            for name in list(request.channels):
                if request.subscribe == (name in listed) and self.settling.accepted(request, name):
                    confirmed.append(name)
        self._report_confirmed(confirmed, now)
        reason = "it is no longer among the venue's subscribed channels"
        for entry in list(self._wanted) if self._wanted.count(ACTIVE) else ():
            if self._wanted.is_carried(entry, self._id) and entry.channel not in listed:
                self.settling.stop(entry.channel, reason, is_certain=True)

    def data(self, channel: str, now: float) -> None:
        """Process the arrival of data: it confirms a channel if the venue never acknowledges."""
        if not self._acknowledges and self._is_confirmed_by_data(channel):
            self._report_confirmed([channel], now)

    def _is_confirmed_by_data(self, channel: str) -> bool:
        for request in self.requests.outstanding.of(channel):
            if request.subscribe:
                return self.settling.accepted(request, channel)
        entry = self._wanted.get(channel)
        if entry is None or not self.settling.lacks(entry):
            return False
        if self.requests.is_asked_for(channel):
            return False
        attempts = self.settling.of(channel)
        if not attempts.sent or attempts.has_ended:
            return False  # it answers no subscribe of this connection
        return self.settling.confirm(entry)  # the request's time for an answer is over

    def ended(self, answer: Ended) -> bool:
        """Process the end of channels by the venue. Return False if none of them was active."""
        names = [] if answer.channel is None else [answer.channel]
        if answer.name is not None:
            names = self._wanted.named(answer.name)
        has_ended = [self.settling.stop(name, one_line(answer.reason)) for name in names]
        return any(has_ended)

    # Time, and the end.

    def expire(self, now: float) -> None:
        """End the requests whose time for an answer is over."""
        for request in self.requests.expired(now):
            for name in list(request.channels):
                self.requests.outstanding.discard(request, name)
                if request.refusals:
                    self.settling.refused(request, name, request.refusals[0])
                else:
                    self.settling.unanswered(request, name)

    def connection_ended(self, channels: Container[str], now: float, why: str) -> None:
        """Count the end of the connection, which could deliver answers, against waiting calls.

        ``channels`` are those that belonged to it.
        """
        calls: set[Call] = set()
        for request in self.requests.outstanding:
            for entry in self._wanted.among(request.channels if request.subscribe else ()):
                calls.update(entry.calls)
                if not entry.was_active:
                    since = request.sent_at
                    entry.waited += max(0.0, now - since - self._stops.excuse(since))
        has_confirmed = self.settling.has_confirmed
        self._wanted.count_fruitless(calls, channels, has_confirmed=has_confirmed, why=why)

    # Inside.

    def _is_crowded(self, rejection: Rejection, request: Request, entry: WantedChannel) -> bool:
        """Return whether a channel is refused for lack of room, and moves to another connection."""
        if not (rejection.is_limit and request.subscribe and self.settling.lacks(entry)):
            return False
        if self._outcomes.is_asked_beside(entry, self._id):
            return False
        return self._outcomes.crowded(entry, self._id)

    def _report_confirmed(self, channels: Sequence[str], now: float) -> None:
        if channels:
            self._outcomes.confirmed(channels, now)

    def _deduce_refusals(self, request: Request) -> None:
        """Refuse the unanswered channels if there are as many refusals that named no channel."""
        if len(request.channels) <= len(request.refusals):
            for name, reason in zip(tuple(request.channels), request.refusals, strict=False):
                self.requests.outstanding.discard(request, name)
                self.settling.refused(request, name, reason)
