"""One channel: its sequence numbers are checked, and its gaps wait until a message carries them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

import msgspec

from wsclient.messages import Arrival, Gap, LinkedMessage, Message
from wsclient.stream.heads import COUNTED, RANGE, SEVERAL, TYPED_POINTER, UNNUMBERED, Recipe, Shape

__all__ = ["Batch", "Channel", "accept_ordinary"]

#: Reasons of marks that are not gaps.
LATE_OR_DUPLICATE = frozenset({"late", "duplicate"})
#: Equal to no message's sequence.
_NOTHING = object()
_UNDECODED: Any = msgspec.UNSET

#: How many gaps of a channel are remembered, to distinguish late messages from duplicates.
MAX_OPEN_GAPS = 32
#: How many numbers of a channel are remembered, to distinguish a new number below the last one from
#: a duplicate.
RECENT = 32


class Channel:
    """A channel: its sequence numbers, its newest message, and its gaps that are not yet delivered.

    A message names the number that it follows (:class:`~wsclient.messages.LinkedMessage`), or it
    follows the number before its own. That must be the last number seen. If it is not:

    * the message starts a new sequence (a snapshot): tracking starts again with it;
    * its number is higher: the numbers between are missing, a *gap*;
    * its number is in an earlier gap: it is *late*;
    * it has been received before: it is a *duplicate*;
    * otherwise the numbers have restarted, or the last one was wrong: tracking starts again.

    A number equal to the last one has always been received before. For messages that name what
    they follow, so has any of the recent numbers, which are remembered. For other messages, so has
    any lower number, with two exceptions, which show that the numbers have restarted: one below the
    first number of the sequence, and one above that of the duplicate just before it.

    Two kinds of gap wait here. A *suspected* gap (the connection dropped, or an unreadable frame
    may have belonged to this channel) is resolved by the next sequence number, which shows how many
    messages were missed, or that none was. A *certain* gap (a message was refused) is always added.

    ``expected`` is the sequence of a message that needs no further check: the next number, or None
    on a channel without numbers. While a gap is waiting, no message has the expected sequence.
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
        "counted",
        "data_at",
        "expected",
        "gaps",
        "is_merged",
        "last_received_at",
        "late",
        "late_or_duplicate",
        "latest",
        "missed",
        "name",
        "refreshed",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.expected: Any = _NOTHING
        #: Messages so far, except the last ``expected - _began``: only ``expected`` counts those.
        self.counted = 0
        self._began = 0
        self.gaps = 0
        self.missed = 0
        #: Late and duplicate messages.
        self.late_or_duplicate = 0
        #: Late messages.
        self.late = 0
        self.last_received_at: int | None = None
        self.latest: Message | None = None
        #: When data or the confirmation last arrived (monotonic s; updated while silence is
        #: watched).
        self.data_at = 0.0
        #: Several connections carry it. Then no message has the expected sequence.
        self.is_merged = False
        #: The channel was resubscribed because of its silence, and has been silent since.
        self.refreshed = False
        self._last: int | None = None
        #: The first number of the sequence.
        self._first = 0
        self._last_repeat: int | None = None
        #: (number before it, last number) of each gap, oldest first.
        self._open_gaps: list[tuple[int, int]] = []
        #: Recent numbers; used only for messages that name what they follow.
        self._recent: list[int] = []
        self._suspected: Gap | None = None
        self._certain: Gap | None = None

    @property
    def messages(self) -> int:
        """The number of messages accepted; ``expected`` counts ordinary numbered ones."""
        return self.counted + (self.expected - self._began if self._is_counting else 0)

    @property
    def _is_counting(self) -> bool:
        return isinstance(self.expected, int)

    @property
    def last(self) -> int | None:
        """The highest sequence so far; None if there was none."""
        return self.expected - 1 if self._is_counting else self._last

    @property
    def pending(self) -> Gap | None:
        """The gap that the next message will carry, as far as is known now.

        Order books read it from another thread, without the core's lock, so each field is read
        only once.
        """
        suspected, certain = self._suspected, self._certain
        return certain if suspected is None else suspected.merge(certain)

    def hold(self) -> None:
        """Note that several connections carry it from now on."""
        self.is_merged = True
        self._expect_nothing()

    def suspect(self, reason: str) -> None:
        """Note that messages may have been missed."""
        self._expect_nothing()
        gap = Gap(reason, None, self.last_received_at)
        self._suspected = gap if self._suspected is None else self._suspected.merge(gap)

    def restart(self, reason: str) -> None:
        """Note that messages may have been missed, and that the numbers begin again."""
        self.suspect(reason)
        self._last = None

    def lost(self, count: int | None, reason: str) -> None:
        """Note that ``count`` messages were missed; None if it is not known how many."""
        self._expect_nothing()
        gap = Gap(reason, count, self.last_received_at)
        self._certain = gap if self._certain is None else self._certain.merge(gap)

    def refused(self, message: Message) -> None:
        """Note that a message was received but not delivered (``validate`` raised)."""
        self._expect_nothing()
        before = self._check(message)
        if before is not None and before.reason in LATE_OR_DUPLICATE:
            return  # already counted as missing, or delivered before
        gap = Gap("invalid", 1, self.last_received_at)
        gap = gap if before is None else before.merge(gap)
        self._certain = gap if self._certain is None else self._certain.merge(gap)

    def accept(self, message: Message) -> None:
        """Count a message that is about to be delivered, and mark the gap before it."""
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

    def replay(self, message: Message) -> None:
        """Count a message of a recording, which carries its gap already."""
        self.counted += 1
        gap = message.gap
        if gap is not None:
            self.missed += gap.missed or 0
            if gap.reason in LATE_OR_DUPLICATE:
                self.late_or_duplicate += 1
                self.late += gap.reason == "late"
            else:
                self.gaps += 1
        if message.sequence is not None:
            self._last = message.sequence
        message.previous_at = self.last_received_at
        self.last_received_at = message.arrival.received_at
        self.latest = message

    def link(self, number: int) -> None:
        """Count a message that names what it follows, and follows the last one directly."""
        self.counted += 1
        self.expected = self._began = number + 1
        recent = self._recent
        recent.append(number)
        if len(recent) > 2 * RECENT:
            del recent[:-RECENT]

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
        if self._suspected is None and self._last_repeat is None and not self.is_merged:
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
            # The venue restarts its numbers on each connection: how many were missed is unknown.
            return self._begin(sequence, suspected)
        if self._fills_gap(follows, sequence):
            self.late_or_duplicate += 1
            self.late += 1
            self._remember(sequence)
            self._suspected = suspected
            return Gap("late", follows - sequence if is_counted else None, since)
        if isinstance(message, LinkedMessage):
            has_come = sequence in self._recent[-RECENT:]
        else:
            has_come = sequence >= self._first
            has_come &= self._last_repeat is None or sequence <= self._last_repeat
        if not has_come and sequence != last:
            # An unnecessary mark is better than an unnoticed gap.
            return self._begin(sequence, None)
        self.late_or_duplicate += 1
        self._last_repeat, self._suspected = sequence, suspected
        return Gap("duplicate", 0, since)

    def _advance(self, sequence: int) -> None:
        self._last, self._last_repeat = sequence, None
        self._remember(sequence)

    def _remember(self, sequence: int) -> None:
        # A list: a deque takes more than half a kilobyte, for each of thousands of channels.
        self._recent.append(sequence)
        del self._recent[:-RECENT]

    def _begin(self, sequence: int, suspected: Gap | None) -> Gap | None:
        """Start a new sequence at ``sequence``; return the gap before it, if any."""
        last, self._first = self._last, sequence
        self._open_gaps = []
        self._recent.clear()
        self._advance(sequence)
        if suspected is None and last is not None and sequence != last:
            return Gap("sequence", None, self.last_received_at)
        return suspected

    def _fills_gap(self, follows: int, sequence: int) -> bool:
        """Return whether the message is in an open gap; if so, remove it from the gap."""
        for i, (before, end) in enumerate(self._open_gaps):
            if before <= follows and sequence <= end:
                parts = [(before, follows), (sequence, end)]
                self._open_gaps[i : i + 1] = [part for part in parts if part[0] < part[1]]
                return True
        return False


class Batch:
    """The payloads of one read, decoded as far as useful, before anything is checked.

    ``heads`` are the heads of the payloads, read by ``shape``, if that is not None. ``recipe``
    returns the recipe of a head's key, or None. ``decoded`` is what the messages will hold, None if
    they are not decoded; ``kind`` is its declared type, None for plain data. ``done`` is the number
    of payloads that have been accepted so far.
    """

    __slots__ = ("arrival", "decoded", "done", "heads", "kind", "payloads", "recipe", "shape")

    def __init__(self, payloads: Sequence[bytes], arrival: Arrival) -> None:
        self.payloads = payloads
        self.arrival = arrival
        self.heads: Sequence[Any] = ()
        self.shape: Shape | None = None
        self.recipe: Callable[[Any], Recipe | None] = {}.get
        self.decoded: Sequence[Any] | None = None
        self.kind: Any = None
        self.done = 0

    def rows(self, shape: Shape) -> Iterable[tuple[Recipe | None, Any, bytes, Any]]:
        """Return (recipe, head, payload, data) of each payload that is not done and has a head."""
        heads, payloads, decoded, done = self.heads, self.payloads, self.decoded, self.done
        if done:
            heads, payloads = heads[done:], payloads[done:]
            decoded = None if decoded is None else decoded[done:]
        data = repeat(_UNDECODED) if decoded is None else decoded
        recipes = map(self.recipe, map(shape.key, heads))
        return zip(recipes, heads, payloads, data, strict=False)


def accept_ordinary(
    channels: Mapping[str, Channel], batch: Batch, aliases: Mapping[str, str], count: int | None
) -> tuple[list[Message], int | None]:
    """Make and count messages: the fast path of :meth:`Channel.accept`.

    Begins with the first payload that is not done, and stops at the next that is not data of a
    known channel with the expected number. That one is not checked further: the caller handles it,
    and calls again. ``aliases`` are the venue's names for channels, ``count`` is the last number of
    the connection's frames, if they have one. Returns the messages, and the last number.
    """
    messages: list[Message] = []
    shape, done, arrival, declared = batch.shape, batch.done, batch.arrival, batch.kind
    if shape is None:
        return messages, count
    numbers, received_at = shape.numbers, arrival.received_at
    if shape.flat is not None and not aliases:
        _accept_flat(channels, batch, shape, shape.flat, messages)
        done = batch.done
        if done == len(batch.payloads):
            return messages, count
    try:
        for recipe, head, raw, data in batch.rows(shape):
            if recipe is None:
                break
            name, kind, item, style, index, counter = recipe
            if counter >= 0:
                frame = shape.counts[counter](head)
                if count is None or frame != count + 1:
                    break
            if style == SEVERAL:
                if not _accept_several(channels, name, aliases, batch, raw, messages):
                    break
            else:
                channel = channels[aliases.get(name, name) if aliases else name]
                expected, last_at = channel.expected, channel.last_received_at
                if style == COUNTED:
                    number = numbers[index](head)
                    if number != expected or type(number) is not int:  # 1.0 and true equal 1
                        break
                    channel.expected = number + 1
                elif style <= UNNUMBERED:
                    if expected is not None or (
                        style == UNNUMBERED and shape.all_numbers(head) != shape.nothing
                    ):
                        break
                    number = None
                    channel.counted += 1
                else:
                    if style == TYPED_POINTER:
                        first, number, its_kind = numbers[index](head)
                        if its_kind != kind:
                            break
                    else:
                        first, number = numbers[index](head)
                    follows = first - 1 if style == RANGE else first
                    if follows + 1 != expected or number <= follows:
                        break
                    if type(first) is not int or type(number) is not int:
                        break
                    channel.link(number)
                # Positional, as keywords cost more. All messages share one string for each channel
                # and type: otherwise a full queue would take one and a half times the memory.
                message: Message
                if style < RANGE:
                    message = Message(
                        channel.name, kind, number, item, raw, None,
                        last_at, arrival, data, declared,
                    )  # fmt: skip
                else:
                    message = LinkedMessage(
                        channel.name, kind, number, item, raw, None,
                        last_at, arrival, data, declared, follows, style == RANGE,
                    )  # fmt: skip
                channel.last_received_at = received_at
                channel.latest = message
                messages.append(message)
            if counter >= 0:
                count = frame
            done += 1
    except (KeyError, TypeError, AttributeError):
        pass  # a missing field, or a channel that is not known yet
    batch.done = done
    return messages, count


def _accept_flat(
    channels: Mapping[str, Channel],
    batch: Batch,
    shape: Shape,
    flat: Callable[[Any], Any],
    messages: list[Message],
) -> None:
    """Make and count messages whose type, channel and number are fields at the top.

    The same as :func:`accept_ordinary` for the simplest frames, in less time.
    """
    heads, payloads, decoded, done = batch.heads, batch.payloads, batch.decoded, batch.done
    if done:
        heads, payloads = heads[done:], payloads[done:]
        decoded = None if decoded is None else decoded[done:]
    types, arrival, declared = shape.types, batch.arrival, batch.kind
    received_at = arrival.received_at
    is_only = len(shape.numbers) == 1
    data: Iterable[Any] = repeat(_UNDECODED) if decoded is None else decoded
    try:
        for (kind, name, number), raw, datum in zip(map(flat, heads), payloads, data, strict=False):
            channel, kind = channels[name], types[kind]
            expected = channel.expected
            if number != expected:
                break
            if expected is None:
                if not is_only:
                    break
                channel.counted += 1
            elif type(number) is int:  # 1.0 and true equal 1
                channel.expected = expected + 1
            else:
                break
            message = Message(
                channel.name, kind, expected, None, raw, None,
                channel.last_received_at, arrival, datum, declared,
            )  # fmt: skip
            channel.last_received_at = received_at
            channel.latest = message
            messages.append(message)
            done += 1
    except (KeyError, TypeError, AttributeError):
        pass
    batch.done = done


def _accept_several(
    channels: Mapping[str, Channel],
    parts: Sequence[tuple[str, str, int | None]],
    aliases: Mapping[str, str],
    batch: Batch,
    raw: bytes,
    messages: list[Message],
) -> bool:
    """Make and count the messages of one frame, unless one of their channels has numbers."""
    found = [channels[aliases.get(name, name)] for name, _, _ in parts]
    if any(channel.expected is not None for channel in found):
        return False
    arrival = batch.arrival
    for channel, (_, kind, item) in zip(found, parts, strict=True):
        channel.counted += 1
        last_at = channel.last_received_at
        message = Message(channel.name, kind, None, item, raw, None, last_at, arrival)
        channel.last_received_at = arrival.received_at
        channel.latest = message
        messages.append(message)
    return True
