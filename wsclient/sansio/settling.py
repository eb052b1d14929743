"""What an answer to a request, or its absence, means for one channel."""

from __future__ import annotations

from dataclasses import dataclass

from wsclient.messages import SubscriptionState
from wsclient.sansio.unanswered import Request, Requests
from wsclient.sansio.wanted import Outcomes, Wanted
from wsclient.sansio.wantedtable import WantedChannel

__all__ = ["Attempts", "Settling"]

#: After this many unanswered resubscriptions of a channel on one connection, the connection is
#: replaced.
RESUBSCRIBE_ATTEMPTS = 2

PENDING = SubscriptionState.PENDING
UNSUBSCRIBING = SubscriptionState.UNSUBSCRIBING


@dataclass(eq=False, slots=True)
class Attempts:
    """How often a channel was asked for on this connection."""

    #: How many subscribe messages were sent for it.
    sent: int = 0
    #: The id of the last one; ids rise.
    id: int = 0
    #: The venue has ended the channel without an unsubscribe, and no subscribe was sent since.
    has_ended: bool = False
    #: The venue has confirmed the channel, and has not certainly ended it since.
    was_confirmed: bool = False

    @property
    def may_have(self) -> bool:
        """Whether the venue may have subscribed the channel, so that it must be unsubscribed."""
        return bool(self.sent) or self.was_confirmed


class Settling:
    """Settles the channels of one connection's requests, each in one step.

    A step changes the attempts for the channel, the wanted channel with its calls, and what depends
    on it (:class:`~wsclient.sansio.wanted.Outcomes`).
    """

    __slots__ = (
        "_ack_timeout",
        "_acknowledges",
        "_id",
        "_outcomes",
        "_requests",
        "_wanted",
        "attempts",
        "has_confirmed",
        "suspect",
    )

    def __init__(
        self,
        connection_id: int,
        requests: Requests,
        wanted: Wanted,
        outcomes: Outcomes,
        *,
        acknowledges: bool,
        ack_timeout: float,
    ) -> None:
        self._id = connection_id
        self._requests = requests
        self._wanted = wanted
        self._outcomes = outcomes
        self._acknowledges = acknowledges
        self._ack_timeout = ack_timeout
        #: By channel.
        self.attempts: dict[str, Attempts] = {}
        #: This connection has confirmed a channel.
        self.has_confirmed = False
        #: Why to replace the connection: a resubscription was unanswered RESUBSCRIBE_ATTEMPTS
        #: times.
        self.suspect: str | None = None

    def of(self, channel: str) -> Attempts:
        """Return the attempts for ``channel``."""
        return self.attempts.get(channel) or Attempts()

    def sent(self, request: Request) -> None:
        """Count an attempt for each channel of a subscribe message that is being sent."""
        for entry in self._wanted.among(request.channels if request.subscribe else ()):
            attempts = self.attempts.setdefault(entry.channel, Attempts())
            attempts.sent += 1
            attempts.id = request.id or 0
            if attempts.has_ended:
                attempts.has_ended = False
                # The gap of the end may be delivered already, on a message that came after the
                # end. So mark another.
                self._outcomes.missing(entry.channel, self._id)
            if not entry.was_active:
                left = max(0.0, self._ack_timeout - entry.waited)
                request.patience = min(request.patience, left)

    def accepted(self, request: Request, channel: str) -> bool:
        """Note that ``channel`` of ``request`` was accepted; return whether that made it active."""
        self._requests.outstanding.discard(request, channel)
        entry = self._wanted.get(channel)
        if request.subscribe:
            if entry is None:
                self._undo(request, channel)
            elif self.lacks(entry):
                for other in self._requests.outstanding.of(channel):
                    if channel in other.quiet:
                        self._interrupted(other, channel)  # the venue processed that request first
                return self.confirm(entry, request.id or 0)
        elif channel in request.quiet:
            self._first_half_over(request, channel)
        elif entry is not None and entry.state is UNSUBSCRIBING:
            self.left(entry)
        elif entry is not None and (request.id or 0) > self.of(channel).id:
            # The venue has refused it on another connection, so that the channel is wanted.
            self.stop(channel, "the venue has unsubscribed it", is_certain=True)
        return False

    def refused(self, request: Request, name: str, reason: str) -> None:
        """Note that ``name`` of ``request`` was refused."""
        entry = self._wanted.get(name)
        if entry is None:
            return
        if name in request.quiet:
            self._first_half_over(request, name)
        elif not request.subscribe:
            if entry.state is UNSUBSCRIBING and self.of(name).has_ended:
                self.left(entry)  # the venue has nothing left to end
            elif entry.state is UNSUBSCRIBING:
                self._wanted.keep(entry, reason, self._id)
        elif entry.state is UNSUBSCRIBING:
            self._ended_before(entry)
        elif entry.state is PENDING and not self._outcomes.is_asked_beside(entry, self._id):
            report = self._outcomes.lost if entry.was_active else self._outcomes.refused
            report(name, reason)
            self._wanted.remove(entry, reason, refused=True)
        elif self.lacks(entry):
            self.attempts.pop(name, None)
            self._outcomes.declined(name, self._id)

    def unanswered(self, request: Request, channel: str) -> None:
        """Note that the time for an answer about ``channel`` of ``request`` is over."""
        if channel in request.quiet:
            self._interrupted(request, channel)
            return
        silence = f"no answer within {self._ack_timeout:g} s"
        entry = self._wanted.get(channel)
        if not request.subscribe:
            if entry is not None and entry.state is UNSUBSCRIBING:
                self._wanted.remove(entry, silence)
        elif entry is None:
            self._undo(request, channel)
        elif self.lacks(entry) and not self._requests.is_asked_for(channel):
            if not entry.was_active:
                if self._outcomes.is_asked_beside(entry, self._id):
                    self.attempts.pop(channel, None)  # the answer to the other one counts
                    self._outcomes.declined(channel, self._id)
                else:
                    self._outcomes.refused(channel, silence)
                    self._wanted.remove(entry, silence)
                self._undo(request, channel)
            elif not self._acknowledges:
                pass  # not refused: its first data message will confirm it
            elif self.of(channel).sent < RESUBSCRIBE_ATTEMPTS:
                self._requests.add([channel], entry.options)
            else:
                self.suspect = f"the resubscription of {channel!r} is not answered"

    def confirm(self, entry: WantedChannel, request_id: int = 0) -> bool:
        """Note that the venue has confirmed a channel, by its answer to that subscribe.

        Returns whether that made it active: not if another connection carries it already.
        The subscribe may be older than the attempts, which are forgotten when a caller leaves.
        """
        self.has_confirmed = True
        attempts = self.attempts.setdefault(entry.channel, Attempts())
        attempts.has_ended, attempts.was_confirmed = False, True
        attempts.id = max(attempts.id, request_id)
        return self._wanted.confirm(entry, self._id, attempts.id)

    def stop(self, channel: str | None, reason: str, *, is_certain: bool = False) -> bool:
        """Note that the venue has ended ``channel`` here; return False if it was not active.

        ``is_certain``: the venue will not refuse another subscribe as already subscribed.
        """
        entry = None if channel is None else self._wanted.get(channel)
        if entry is not None and entry.state is UNSUBSCRIBING:
            self._ended_before(entry)
            return True
        if entry is None or not self._wanted.is_carried(entry, self._id):
            return False
        self._wanted.void(entry, self._id)
        attempts = self.attempts.setdefault(entry.channel, Attempts())
        attempts.has_ended = True
        if is_certain:
            attempts.sent, attempts.was_confirmed = 0, False
        self._outcomes.stopped(entry.channel, reason, self._id)
        return True

    def left(self, entry: WantedChannel) -> None:
        """Note that a channel is unsubscribed; subscribe to it again if it is wanted again."""
        if self._wanted.left(entry, self._id):
            self._outcomes.renewed(entry)

    def _ended_before(self, entry: WantedChannel) -> None:
        """Complete a pending unsubscribe, as the channel has ended; ignore its answer."""
        name = entry.channel
        for other in (*self._requests.unsent.of(name), *self._requests.outstanding.of(name)):
            if not other.subscribe:
                other.quiet.add(name)
        self.left(entry)

    def _first_half_over(self, request: Request, channel: str) -> None:
        """Note that the first half of a refresh is answered.

        If accepted, it has ended the channel; if refused, the channel had ended before.
        """
        self._interrupted(request, channel)
        entry = self._wanted.get(channel)
        if entry is None or entry.state is not UNSUBSCRIBING:
            return
        if (request.id or 0) > self.of(channel).id:  # no subscribe went out after it
            self._ended_before(entry)

    def _interrupted(self, request: Request, channel: str) -> None:
        """Report, once, that the first half of a refresh has ended the channel, or may have."""
        entry = self._wanted.get(channel)
        if entry is None or channel in request.reported:
            return
        request.reported.add(channel)
        if entry.was_active and entry.state is not UNSUBSCRIBING:
            self._outcomes.missing(channel, self._id)

    def lacks(self, entry: WantedChannel) -> bool:
        """Return whether the channel is wanted here, and this connection does not carry it."""
        return entry.state is not UNSUBSCRIBING and self._id not in entry.carriers

    def _undo(self, request: Request, channel: str) -> None:
        """Unsubscribe from a channel that the venue may carry though it is no longer wanted.

        The channel joins the last unsent message of this kind, if there is one.
        """
        last = self._requests.unsent.last
        if (
            last is not None
            and last.id is None
            and not last.subscribe
            and len(last.quiet) == len(last.channels)
            and dict(last.options) == dict(request.options)
        ):
            self._requests.unsent.join(last, channel)
            last.quiet.add(channel)
            return
        self._requests.add([channel], request.options, subscribe=False, quiet=True)
