"""What the demo knows and a view shows: no threads, no clock, no output."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from wsclient.messages import Gap, Message

__all__ = ["Board", "Event", "Row", "Summary", "View"]

#: The rate is that of the last so many seconds.
RATE_SPAN = 2.0


class Event(NamedTuple):
    """Something worth a line, ``at`` seconds into the demo; ``kind`` gives it a colour:
    ``good``, ``bad``, ``gap`` or ``note``."""

    at: float
    kind: str
    text: str


@dataclass
class Row:
    """One channel, as it came out of the client."""

    channel: str
    price: Decimal | None = None
    opening: Decimal | None = None
    #: The last move of the price: 1 up, -1 down, 0 none.
    direction: int = 0
    messages: int = 0
    first: int | None = None
    last: int | None = None
    missed: int = 0
    gap: Gap | None = None
    #: A gap is open: the connection is down, and how much is missed will be known afterwards.
    is_missing: bool = False
    connection_id: int = 0
    _times: deque[float] = field(default_factory=deque)

    def add(self, message: Message, at: float) -> None:
        """Count a message, and what the gap on it says was missed before it."""
        if message.gap is not None:
            self.gap = message.gap
        if message.sequence is None:
            return  # the channel is lost: the client's own word, none of the venue's messages
        if self.first is None:
            self.first = message.sequence
        elif message.gap is not None:
            self.missed += message.gap.missed or 0
        self.last = message.sequence
        self.messages += 1
        self.connection_id = message.connection_id
        self._times.append(at)
        self._quote(message.data)

    def _quote(self, data: dict[str, Decimal]) -> None:
        price = data["last"] if "last" in data else data["price"]
        if self.opening is None or self.price is None:
            self.opening = self.price = price
        self.direction = (price > self.price) - (price < self.price)
        self.price = price

    @property
    def change(self) -> float:
        """Of the price since the first message, in percent."""
        if self.price is None or not self.opening:
            return 0.0
        return float(self.price / self.opening - 1) * 100

    def rate(self, now: float) -> float:
        """Messages a second, lately."""
        while self._times and self._times[0] < now - RATE_SPAN:
            self._times.popleft()
        return len(self._times) / min(RATE_SPAN, max(now, 0.5))

    def published(self, numbers: Sequence[int], to_the_end: bool) -> int:
        """How many of the venue's ``numbers`` lie between the first and the last message that
        came; ``to_the_end``: between the first and the end of what the venue published."""
        if self.first is None or self.last is None:
            return len(numbers) if to_the_end else 0
        end = len(numbers) if to_the_end else bisect_right(numbers, self.last)
        return end - bisect_left(numbers, self.first)


class Summary(NamedTuple):
    """The account at the end. ``recovered`` is how long (ms) after the cut the first message came,
    None where it did not come to that; ``away`` how much of it the venue could not be reached.
    ``is_whole`` is False for a demo that was interrupted."""

    published: int
    messages: int
    reconnects: int
    gaps: int
    missed: int
    unaccounted: int
    recovered: float | None
    away: float
    is_whole: bool


class Board:
    """All that is shown while the demo runs."""

    def __init__(self, channels: Iterable[str], seconds: float) -> None:
        self.rows = {channel: Row(channel) for channel in channels}
        self.seconds = seconds
        self.elapsed = 0.0
        self.state = "starting"
        self.is_open = False
        self.reconnects = 0
        self.gaps = 0
        self.events: list[Event] = []

    @property
    def messages(self) -> int:
        return sum(row.messages for row in self.rows.values())

    @property
    def missed(self) -> int:
        return sum(row.missed for row in self.rows.values())


class View:
    """How it is shown: a context manager, told of every change. The base shows nothing."""

    #: Seconds between two updates.
    interval = 1.0

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, board: Board) -> None:
        """The numbers have moved on."""

    def event(self, event: Event) -> None:
        """Something has happened; it is on the board too."""

    def finish(self, board: Board, summary: Summary) -> None:
        """All is over; called after leaving the context."""
