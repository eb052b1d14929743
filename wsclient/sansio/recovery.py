"""What a channel has missed: sequences checked, gaps remembered until a message can carry them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec

from wsclient.messages import Arrival, Gap, LinkedMessage, Message

__all__ = ["Batch", "ChannelTracker", "accept_ordinary"]


#: Reasons of marks that are no gap.
LATE_OR_DUPLICATE = frozenset({"late", "duplicate"})
#: What no message's sequence is equal to.
_NOTHING = object()


#: So many gaps of a channel are remembered, to tell what comes late from what comes twice.
MAX_OPEN_GAPS = 32
#: So many of its numbers, to tell a new one below the last from one that comes twice.
RECENT = 32


class ChannelTracker:
    """One channel's account: where its sequence stands, and the gaps not yet delivered.

    A message says which number it follows (:class:`~wsclient.messages.LinkedMessage`), or that is
    the one before its own. It must be the last one seen; where it is not:

    * the message begins again (a snapshot): so does the account;
    * its number is higher: the numbers between are missing, a *gap*;
    * its number is in a gap of before: it is *late*;
    * it has been here: a *duplicate*;
    * else the numbers have started again, or the last one was wrong: the account begins again.

    Of messages that name what they follow, the last numbers are known. Of others, a number lower
    than the first has not been here; nor has the second in a row that rises, so it is taken.

    Two kinds of gap wait here. One that is *suspected* (the connection dropped; an unreadable frame
    may have been of this channel) is settled by the next sequence: it says how many were missed, or
    that none was. One that is *certain* (a message was refused) is added in any case.

    ``expected`` is the sequence of a message that needs no second look: the next number, or None
    on a channel without numbers; nothing, while a gap is waiting.
    """

    __slots__ = (
        "_began",
        "_certain",
        "_first",
        "_last",
        "_last_repeat",
        "_open_gaps",
        "_recent",
        "_suspected",
        "channel",
        "counted",
        "data_at",
        "expected",
        "gaps",
        "last_received_at",
        "late",
        "late_or_duplicate",
        "latest",
        "missed",
        "refreshed",
    )

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.expected: Any = _NOTHING
        #: Messages so far, but for those that ``expected`` has counted since it was _began.
        self.counted = 0
        self._began = 0
        self.gaps = 0
        self.missed = 0
        #: Late or doubled ...
        self.late_or_duplicate = 0
        #: ... and of these, late.
        self.late = 0
        self.last_received_at: int | None = None
        self.latest: Message | None = None
        #: When data, or the confirmation, last came (monotonic s; kept while silence is watched).
        self.data_at = 0.0
        #: It was subscribed again for its silence, and has been silent since.
        self.refreshed = False
        self._last: int | None = None
        #: Where the count began.
        self._first = 0
        self._last_repeat: int | None = None
        #: (number before, last number) of what is missing, oldest first.
        self._open_gaps: list[tuple[int, int]] = []
        #: The last numbers of messages that name what they follow (others, too).
        self._recent: list[int] = []
        self._suspected: Gap | None = None
        self._certain: Gap | None = None

    @property
    def messages(self) -> int:
        """Messages accepted. What counts the numbers of ordinary ones has counted them too."""
        return self.counted + (self.expected - self._began if self._is_counting else 0)

    @property
    def _is_counting(self) -> bool:
        return isinstance(self.expected, int)

    @property
    def last(self) -> int | None:
        """The highest sequence so far, None where there was none."""
        return self.expected - 1 if self._is_counting else self._last

    @property
    def pending(self) -> Gap | None:
        """The gap that the next message will carry, as far as is known now.

        An order book asks from another thread, without the session's lock: each is read once.
        """
        suspected, certain = self._suspected, self._certain
        return certain if suspected is None else suspected.merge(certain)

    def suspect(self, reason: str) -> None:
        """Something may have been missed."""
        self._expect_nothing()
        hole = Gap(reason, None, self.last_received_at)
        self._suspected = hole if self._suspected is None else self._suspected.merge(hole)

    def refused(self, message: Message) -> None:
        """One message was received and not delivered (``validate`` raised)."""
        self._expect_nothing()
        gap = self._check(message)
        if gap is not None and gap.reason in LATE_OR_DUPLICATE:
            return  # it is not missing again
        hole = Gap("invalid", 1, self.last_received_at)
        hole = hole if gap is None else gap.merge(hole)
        self._certain = hole if self._certain is None else self._certain.merge(hole)

    def accept(self, message: Message) -> None:
        """Account for a message about to be delivered, and mark the gap before it."""
        sequence = message.sequence
        if sequence != self.expected or isinstance(message, LinkedMessage):
            self._judge(message)
            self.counted += 1
        elif sequence is None:
            self.counted += 1
        else:
            self.expected = sequence + 1
        self.refreshed = False
        message.previous_at = self.last_received_at
        self.last_received_at = message.arrival.received_at
        self.latest = message

    def _judge(self, message: Message) -> None:
        self._expect_nothing()
        gap = self._check(message)
        is_late_or_duplicate = gap is not None and gap.reason in LATE_OR_DUPLICATE
        if self._certain is not None:
            gap = self._certain.merge(gap)
            self._certain, is_late_or_duplicate = None, False
        if gap is not None:
            message.gap = gap
            self.gaps += not is_late_or_duplicate
            self.missed += gap.missed or 0
        if self._suspected is None and self._last_repeat is None:
            self.expected = None
            if self._last is not None:
                self.expected = self._began = self._last + 1

    def _expect_nothing(self) -> None:
        self.counted, self._last = self.messages, self.last
        self.expected = _NOTHING

    def _check(self, message: Message) -> Gap | None:
        sequence, last = message.sequence, self._last
        suspected, self._suspected = self._suspected, None
        if sequence is None:
            return suspected
        is_counted, follows = True, sequence - 1
        if isinstance(message, LinkedMessage):
            is_counted = message.is_counted
            if message.follows is None:
                return self._begin(sequence, suspected)
            follows = message.follows
        if last is None:
            return self._begin(sequence, suspected)
        if follows == last or (is_counted and follows < last < sequence):
            self._advance(sequence)
            return None
        since = self.last_received_at
        if sequence > last:
            self._advance(sequence)
            self._open_gaps = [*self._open_gaps[1 - MAX_OPEN_GAPS :], (last, follows)]
            reason = "sequence" if suspected is None else suspected.reason
            return Gap(reason, follows - last if is_counted else None, since)
        if suspected is not None and suspected.reason == "reconnect":
            # The venue counts again on each connection: nothing proves what was missed.
            return self._begin(sequence, suspected)
        if self._fills_gap(follows, sequence):
            self.late_or_duplicate += 1
            self.late += 1
            self._remember(sequence)
            self._suspected = suspected
            return Gap("late", follows - sequence if is_counted else None, since)
        if isinstance(message, LinkedMessage):
            has_come = sequence in self._recent
        else:
            has_come = sequence >= self._first
            has_come &= self._last_repeat is None or sequence <= self._last_repeat
        if not has_come and sequence != last:
            # A mark too many is cheaper than a gap that nobody sees.
            return self._begin(sequence, None)
        self.late_or_duplicate += 1
        self._last_repeat, self._suspected = sequence, suspected
        return Gap("duplicate", 0, since)

    def _advance(self, sequence: int) -> None:
        self._last, self._last_repeat = sequence, None
        self._remember(sequence)

    def _remember(self, sequence: int) -> None:
        # A list: a deque takes more than half a kilobyte, of thousands of channels too.
        self._recent.append(sequence)
        del self._recent[:-RECENT]

    def _begin(self, sequence: int, suspected: Gap | None) -> Gap | None:
        """Count from here."""
        last, self._first = self._last, sequence
        self._open_gaps = []
        self._recent.clear()
        self._advance(sequence)
        if suspected is None and last is not None and sequence != last:
            return Gap("sequence", None, self.last_received_at)
        return suspected

    def _fills_gap(self, follows: int, sequence: int) -> bool:
        for i, (before, end) in enumerate(self._open_gaps):
            if before <= follows and sequence <= end:
                parts = [(before, follows), (sequence, end)]
                self._open_gaps[i : i + 1] = [part for part in parts if part[0] < part[1]]
                return True
        return False


class Batch:
    """The payloads of one read, decoded as far as is worth it, before anything is judged.

    ``keys`` are (type, channel, sequence) of each, of whatever JSON types the venue has sent;
    ``types`` are those of data messages, each under itself; ``decoded`` is what the Messages will
    bear. Unless the keys ``are_exact``, a sequence of None may mean that the number is elsewhere.
    """

    __slots__ = ("are_exact", "arrival", "decoded", "keys", "make", "payloads", "types")

    def __init__(self, payloads: Sequence[bytes], arrival: Arrival) -> None:
        self.payloads = payloads
        self.arrival = arrival
        self.types: Mapping[str, str] = {}
        self.keys: Iterable[tuple[Any, Any, Any]] = ()
        self.are_exact = True
        self.decoded: Iterable[Any] = repeat(msgspec.UNSET)
        self.make: type[Message] = Message


def accept_ordinary(trackers: Mapping[str, ChannelTracker], batch: Batch) -> list[Message]:
    """The fast path of :meth:`ChannelTracker.accept`: make and account for messages, up to the
    first payload that is anything but data of a known channel with the number expected there.

    Nothing is judged here: what looks unusual is left, with all after it, to the caller.
    """
    messages: list[Message] = []
    append = messages.append
    types, arrival, make = batch.types, batch.arrival, batch.make
    received_at = arrival.received_at
    rows = zip(batch.keys, batch.payloads, batch.decoded, strict=False)
    try:
        for (kind, channel, sequence), raw, data in rows:
            tracker, kind = trackers[channel], types[kind]
            expected = tracker.expected
            if sequence != expected:
                break
            if expected is None:
                if not batch.are_exact:
                    break
                tracker.counted += 1
            elif type(sequence) is int:  # 1.0 and true equal 1
                tracker.expected = expected + 1
            else:
                break
            channel, last_at = tracker.channel, tracker.last_received_at
            # Positional, as keywords cost more. All messages share one text for each channel and
            # type: with texts of their own, a queue full of them would weigh half as much again.
            message = make(channel, kind, expected, None, raw, None, last_at, arrival, data)
            tracker.last_received_at = received_at
            tracker.latest = message
            append(message)
    except (KeyError, TypeError):
        pass  # a field that is not there, a channel that is no text, or not known yet
    return messages
