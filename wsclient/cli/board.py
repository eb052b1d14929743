"""The state of the demo, which a view shows. No threads, no clock, no output."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from wsclient.messages import Gap, Message

__all__ = ["Board", "BoardEvent", "BoardRow", "Summary", "View"]

#: The time (s) over which the rate is measured.
RATE_SPAN = 2.0


class BoardEvent(NamedTuple):
    """A line about something that happened ``at`` seconds after the start.

    ``kind``, which gives it a colour, is ``good``, ``bad``, ``gap`` or ``note``.
    """

    at: float
    kind: str
    text: str


@dataclass
class BoardRow:
    """A channel, with what the client delivered of it."""

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
    #: A gap is open: the connection is down, and the number missed will be known afterwards.
    is_missing: bool = False
    connection_id: int = 0
    _times: deque[float] = field(default_factory=deque)

    def add(self, message: Message, at: float) -> None:
        """Count a message, and the number of messages that its gap says were missed."""
        if message.gap is not None:
            self.gap = message.gap
        if message.sequence is None:
            return  # the client's own message that the channel is lost, not one of the venue
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
        """The change of the price since the first message, in percent."""
        if self.price is None or not self.opening:
            return 0.0
        return float(self.price / self.opening - 1) * 100

    def rate(self, now: float) -> float:
        """Return the messages per second over the last RATE_SPAN seconds."""
        while self._times and self._times[0] < now - RATE_SPAN:
            self._times.popleft()
        return len(self._times) / min(RATE_SPAN, max(now, 0.5))

    def published(self, numbers: Sequence[int], to_the_end: bool) -> int:
        """Return how many of the venue's ``numbers`` lie between the first and last message.

        With ``to_the_end`` all after the first message count, up to the last that was published.
        """
        if self.first is None or self.last is None:
            return len(numbers) if to_the_end else 0
        end = len(numbers) if to_the_end else bisect_right(numbers, self.last)
        return end - bisect_left(numbers, self.first)


class Summary(NamedTuple):
    """The account of all messages at the end.

    ``recovered`` is how long after the cut the first message came (ms), None if none came;
    ``away`` is how much of it the venue was unreachable (ms). ``is_whole`` is False for a demo
    that was interrupted.
    """

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
    """Everything that is shown while the demo runs."""

    def __init__(self, channels: Iterable[str], seconds: float) -> None:
        self.rows = {channel: BoardRow(channel) for channel in channels}
        self.seconds = seconds
        self.elapsed = 0.0
        self.state = "starting"
        self.is_open = False
        self.reconnects = 0
        self.gaps = 0
        self.events: list[BoardEvent] = []

    @property
    def messages(self) -> int:
        return sum(row.messages for row in self.rows.values())

    @property
    def missed(self) -> int:
        return sum(row.missed for row in self.rows.values())


class View:
    """A context manager that shows the demo. This base class shows nothing."""

    #: Time (s) between two updates.
    interval = 1.0

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, board: Board) -> None:
        """Show the current numbers."""

    def event(self, event: BoardEvent) -> None:
        """Show an event, which is also on the board."""

    def finish(self, board: Board, summary: Summary) -> None:
        """Show the summary. Called after leaving the context."""
