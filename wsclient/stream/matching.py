"""Matching what one connection brings with what is delivered, on channels without numbers.

Two connections carry the same messages, at different times. Each message has an *identity*; the
same identity may come again later. The stream of delivered messages and that of one connection are
*aligned* at a run of messages that both carried. From there on both must be equal, message for
message, until one of them is ahead.

A run is ``RUN`` consecutive messages. It aligns the streams only if it came once on either side
since both began: a channel that repeats itself gives no proof. Of the messages from the beginning,
some may have come on one side only, since the connection began in the middle of the stream. So the
first alignment needs messages that came after :meth:`Matching.settle`. A later alignment, after the
two sides have differed, shows what either side missed.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import NamedTuple

from wsclient.messages import Message

__all__ = ["Entry", "Matching", "is_snapshot"]

#: How many consecutive messages align two streams.
RUN = 3
#: A message comes on one connection at most this long (s) before it comes on the other.
LAG = 0.25
#: The most that waits on either side of a matching (bytes), and what each message takes besides its
#: payload.
RING_BYTES = 256 * 1024
OVERHEAD = 512

_Gram = tuple[Hashable, ...]


def is_snapshot(message: Message) -> bool:
    """Return whether a message without a number is a snapshot: its type is the venue's word."""
    return message.type == "snapshot"


class Entry(NamedTuple):
    """A message that waits.

    ``doubt`` is the reason why messages before it may be missing. ``is_refused``: it was received,
    but is not to be delivered.
    """

    message: Message
    identity: Hashable
    doubt: str | None
    is_refused: bool


class _Unmatched(NamedTuple):
    identity: Hashable
    at: float
    size: int
    run: _Gram | None
    entry: Entry | None


class _Strand:
    """The messages of one side that the other has not brought, and the runs that end with them."""

    __slots__ = ("_first", "_recent", "_size", "items", "runs")

    def __init__(self) -> None:
        self.items: deque[_Unmatched] = deque()
        #: The position of the first item, counted from the beginning of the stream.
        self._first = 0
        self._size = 0
        #: Identity and time of the last messages, the newest last.
        self._recent: tuple[tuple[Hashable, float], ...] = ()
        #: Position of the last message, and time of the first, of each run.
        self.runs: dict[_Gram, list[tuple[int, float]]] = {}

    def add(self, identity: Hashable, at: float, size: int, entry: Entry | None) -> None:
        run: _Gram | None = None
        self._recent = () if identity is None else (*self._recent[1 - RUN :], (identity, at))
        if len(self._recent) == RUN:
            run = tuple([known for known, _ in self._recent])
            place = self._first + len(self.items), self._recent[0][1]
            self.runs.setdefault(run, []).append(place)
        self.items.append(_Unmatched(identity, at, size + OVERHEAD, run, entry))
        self._size += size + OVERHEAD

    def pop(self) -> _Unmatched:
        item = self.items.popleft()
        if item.run is not None:
            places = self.runs[item.run]
            del places[0]
            if not places:
                del self.runs[item.run]
        self._first += 1
        self._size -= item.size
        return item

    def pop_to(self, position: int) -> list[_Unmatched]:
        """Remove and return the items up to a position."""
        return [self.pop() for _ in range(position + 1 - self._first)]

    def tail_of(self, other: _Strand) -> int | None:
        """Return the first position where the last messages of ``other`` are, up to ``RUN``."""
        tail = [item.identity for item in reversed(other.items)][:RUN]
        known = [item.identity for item in self.items]
        for end in range(len(known)) if tail and None not in tail else ():
            run = known[max(0, end + 1 - len(tail)) : end + 1][::-1]
            if run == tail[: len(run)]:
                return self._first + end
        return None

    def clear(self) -> None:
        self.pop_to(self._first + len(self.items) - 1)

    def shrink(self) -> bool:
        """Remove the oldest items if there are too many; return whether there were."""
        is_full = self._size > RING_BYTES and len(self.items) > 1
        while self._size > RING_BYTES and len(self.items) > 1:
            self.pop()
        return is_full

    def only_place(self, run: _Gram) -> tuple[int, float] | None:
        """Return where a run is, and the time of its first message, if it came only once."""
        places = self.runs.get(run)
        return places[0] if places is not None and len(places) == 1 else None


class Matching:
    """What is delivered and what one connection brings, as far as they are not matched.

    ``missed`` is called with the number of messages that only the connection brought, between two
    alignments: they were not delivered. None if their number is not known. ``is_aligned``: the
    connection has brought all that was delivered so far.
    """

    __slots__ = (
        "_ahead",
        "_has_overflowed",
        "_missed",
        "_owed",
        "_settled_at",
        "_was_aligned",
        "active_at",
        "copies",
        "is_aligned",
    )

    def __init__(self, missed: Callable[[int | None], None], is_aligned: bool = False) -> None:
        self._missed = missed
        self.is_aligned = self._was_aligned = is_aligned
        #: Delivered, and not yet brought by the connection.
        self._owed = _Strand()
        #: Brought by the connection, and not yet delivered.
        self._ahead = _Strand()
        self._has_overflowed = False
        #: Runs from this time on align the streams for the first time; infinity before settle().
        self._settled_at = float("-inf") if is_aligned else float("inf")
        #: When a message last came, except for snapshots of the connection, or one was lost
        #: (monotonic s).
        self.active_at = float("-inf")
        #: How many messages of the connection were dropped.
        self.copies = 0

    @property
    def is_behind(self) -> bool:
        """Whether the connection has still to bring messages that are delivered already."""
        return bool(self._owed.items)

    @property
    def is_ahead(self) -> bool:
        """Whether messages of the connection wait."""
        return bool(self._ahead.items)

    def settle(self, now: float) -> None:
        """Note that each message comes on both sides from now on, though not at once."""
        self._settled_at = now + LAG
        self.active_at = max(self.active_at, now)

    def doubt(self, now: float) -> None:
        """Note that either side may have lost messages until now."""
        self.is_aligned = self._was_aligned = False
        if self._settled_at < float("inf"):
            self.settle(now)

    def delivered(self, identity: Hashable, size: int, now: float) -> None:
        """Add a message that another connection brought, and that is delivered."""
        self.active_at = now
        self._owed.add(identity, now, size, None)
        self._match(self._owed, self._ahead)

    def brought(self, entry: Entry, now: float) -> None:
        """Add a message that the connection brought, and that is not delivered."""
        if not is_snapshot(entry.message):
            self.active_at = now
        self._ahead.add(entry.identity, now, len(entry.message.raw), entry)
        self._match(self._ahead, self._owed)

    def skips(self, identity: Hashable) -> bool:
        """Return whether a message is the next that is delivered already; if so, remove it."""
        if identity is None or self._owed.items[0].identity != identity:
            return False
        self._owed.pop()
        self.copies += 1
        return True

    def assume(self) -> None:
        """Drop what both sides have, where that is likely, though not proven.

        The last delivered messages may be among those that wait, or the other way round: then the
        rest has still to be brought. With a snapshot nothing is dropped, as all after it counts.
        """
        owed, ahead = self._owed, self._ahead
        if any(item.entry is not None and is_snapshot(item.entry.message) for item in ahead.items):
            return
        if (position := ahead.tail_of(owed)) is not None:
            self.copies += len(ahead.pop_to(position))
        elif (position := owed.tail_of(ahead)) is not None:
            self.copies += len(ahead.items)
            owed.pop_to(position)
            ahead.clear()
            self.is_aligned = self._was_aligned = True

    def rest(self) -> list[Entry]:
        """Remove and return the messages that wait."""
        items = list(self._ahead.items)
        self._ahead.clear()
        return [item.entry for item in items if item.entry is not None]

    def agrees(self) -> bool:
        """Return whether both sides ended alike, when neither has sent for long.

        The connection may have begun later than the other side, and with snapshots.
        """
        owed, ahead = self._owed.items, self._ahead.items
        common = min(len(owed), len(ahead))
        late = sum(item.at >= self._settled_at for item in owed)
        if late > common:
            return False
        for mine, other in zip(reversed(ahead), reversed(owed), strict=False):
            if mine.identity is None or mine.identity != other.identity:
                return False
        extra = [item.entry for item in ahead][: len(ahead) - common]
        return all(entry is not None and is_snapshot(entry.message) for entry in extra)

    def _match(self, side: _Strand, other: _Strand) -> None:
        """Match the newest message of a side."""
        if self.is_aligned and other.items:  # then it is the side's only one
            mine = side.items[0].identity
            if mine is not None and mine == other.items[0].identity:
                side.pop()
                other.pop()
                self.copies += 1
                return
            self.is_aligned = False
        if not self.is_aligned:
            self._align(side, other)
        if side.shrink():
            self.is_aligned, self._has_overflowed = False, True

    def _align(self, side: _Strand, other: _Strand) -> None:
        """Align the streams if the newest run of a side came once on either side."""
        run = side.items[-1].run
        if run is None:
            return
        here, there = side.only_place(run), other.only_place(run)
        if here is None or there is None:
            return
        if not self._was_aligned and min(here[1], there[1]) < self._settled_at:
            return
        mine, others = side.pop_to(here[0]), other.pop_to(there[0])
        ahead, owed = (mine, others) if side is self._ahead else (others, mine)
        self.copies += len(ahead)
        if self._was_aligned:
            self._compare(ahead[:-RUN], owed[:-RUN])
        self.is_aligned = self._was_aligned = True
        self._has_overflowed = False

    def _compare(self, ahead: list[_Unmatched], owed: list[_Unmatched]) -> None:
        """Report messages before a run that only the connection brought."""
        if self._has_overflowed:
            self._missed(None)
            return
        known = Counter(item.identity for item in owed if item.identity is not None)
        missed = 0
        for item in ahead:
            if known[item.identity] > 0:
                known[item.identity] -= 1
            else:
                missed += 1
        if missed:
            self._missed(missed)
