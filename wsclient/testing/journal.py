"""What a venue has published, to compare with what a client has delivered."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from wsclient.messages import Message
from wsclient.testing.frames import Payload, as_bytes

__all__ = ["Comparison", "Difference", "Journal", "Published", "Traced"]


class Traced(NamedTuple):
    """Something that has happened at a venue, for people.

    `time` is in nanoseconds since the epoch, `connection` is `Peer.id`, 0 for none. `payload` is
    what a client sent (`what` is `"sent"`) or received, or a text for any other `what`.
    """

    time: int
    connection: int
    what: Literal["sent", "received", "event"]
    payload: Payload


class Published(NamedTuple):
    """A message that the venue published: `sequence` counts those of the channel, from 1.

    `payload` is what the protocol wrote, before anything that differs per connection. `connections`
    are the numbers of those that were subscribed, and `route` is the one that was named.
    """

    channel: str
    sequence: int
    payload: Payload
    route: str | None
    connections: Sequence[int]


class Difference(NamedTuple):
    """A way in which what a client delivered differs from what the venue published.

    `first` to `last` are the numbers concerned:

    - `"lost"`: published, but not delivered;
    - `"doubled"`: delivered again;
    - `"late"`: delivered behind later ones;
    - `"mark"`: a message bears a gap, but nothing was lost before it;
    - `"unknown"`: delivered, but never published. It has the numbers of the message before it.

    `is_marked` says whether the client has marked it with a gap.
    """

    kind: Literal["lost", "doubled", "late", "mark", "unknown"]
    channel: str
    first: int
    last: int
    is_marked: bool


class Comparison(NamedTuple):
    """How what a client delivered differs from what the venue published."""

    differences: list[Difference]

    @property
    def is_exact(self) -> bool:
        """Whether the client delivered everything once and in order, and marked no gap."""
        return not self.differences

    @property
    def unmarked(self) -> list[Difference]:
        """The differences that break the promise of the client: those without a mark."""
        return [each for each in self.differences if not each.is_marked]

    def of(self, kind: str) -> list[Difference]:
        """Return the differences of one kind."""
        return [each for each in self.differences if each.kind == kind]


class Journal:
    """All that a venue has published, in order."""

    def __init__(self) -> None:
        self.published: list[Published] = []
        #: The sequence numbers that a payload carries, by channel: as written for any connection.
        self._carried: dict[str, dict[bytes, tuple[tuple[int, int], ...]]] = {}

    def of(self, channel: str) -> list[Published]:
        """Return what was published on one channel."""
        return [each for each in self.published if each.channel == channel]

    def add(self, published: Published) -> None:
        """Record what the venue publishes. For the venue."""
        self.published.append(published)
        self.wrote(published.channel, published.payload, published.sequence, published.sequence)

    def wrote(self, channel: str, payload: Payload, first: int, last: int) -> None:
        """Record a payload that carries some of it on a connection. For the venue."""
        span = first, last
        carried = self._carried.setdefault(channel, {})
        spans = carried.setdefault(as_bytes(payload), (span,))
        if span not in spans:
            carried[as_bytes(payload)] = (*spans, span)

    def compare(
        self, delivered: Iterable[Message], since: Mapping[str, int] | None = None
    ) -> Comparison:
        """Compare what a client has delivered with what was published on its channels.

        For each channel of `delivered` that begins with the number after `since`, or without one
        there with the first message delivered, and ends with the last one published. Updates that
        only a snapshot stands for are lost, and marked if the snapshot is. An update that two
        messages carry, because their connections cut the updates differently, is not doubled.
        """
        tracks: dict[str, _Track] = {
            channel: _Track(channel, self._carried.get(channel, {}), last)
            for channel, last in (since or {}).items()
        }
        for message in delivered:
            channel = message.channel
            if channel not in tracks:
                tracks[channel] = _Track(channel, self._carried.get(channel, {}), None)
            tracks[channel].add(message)
        ends = {published.channel: published.sequence for published in self.published}
        return Comparison(
            [
                found
                for channel, track in tracks.items()
                for found in track.finish(ends.get(channel, 0))
            ]
        )


class _Track:
    """The messages of one channel as a client delivered them."""

    def __init__(
        self, channel: str, carried: Mapping[bytes, Sequence[tuple[int, int]]], last: int | None
    ) -> None:
        self._channel = channel
        self._carried = carried
        self._last = last
        self._holes: list[Difference] = []
        self._found: list[Difference] = []
        self._is_marked = False  # by a message that carries no update

    def add(self, message: Message) -> None:
        reason = None if message.gap is None else message.gap.reason
        is_marked = self._is_marked or reason is not None
        self._is_marked = False
        span = self._span(message)
        if span is None:
            if message.raw and message.type != "snapshot":
                self._note("unknown", self._last or 0, self._last or 0, is_marked)
            else:
                self._is_marked = is_marked
            return
        first, last = span
        if self._last is None:
            self._last = last
        elif first > self._last + 1:
            self._holes.append(self._difference("lost", self._last + 1, first - 1, is_marked))
            self._last = last
        elif last > self._last:
            self._last = last
            if is_marked:
                self._note("mark", first, last, True)
        elif first <= last:
            self._old(first, last, is_marked)
        elif is_marked:
            self._note("mark", last, last, True)

    def _span(self, message: Message) -> tuple[int, int] | None:
        """Return the first and last number of the updates in a message, None if it has none.

        A snapshot carries none of its own: it begins behind the number where it ends.
        """
        found = self._carried.get(message.raw, ())
        if found:  # of several messages that are the same the next one
            return next((span for span in found if span[1] > (self._last or 0)), found[-1])
        if message.type == "snapshot" and message.sequence is not None:
            return message.sequence + 1, message.sequence
        return None

    def _old(self, first: int, last: int, is_marked: bool) -> None:
        """Take a message that is behind: it fills a hole, or it is doubled."""
        for hole in self._holes:
            if hole.first <= first and last <= hole.last:
                self._holes.remove(hole)
                parts = ((hole.first, first - 1), (last + 1, hole.last))
                self._holes += [
                    hole._replace(first=start, last=end) for start, end in parts if start <= end
                ]
                self._note("late", first, last, is_marked)
                return
        self._note("doubled", first, last, is_marked)

    def finish(self, end: int) -> list[Difference]:
        """Return the differences, if `end` is the last number published."""
        if self._last is not None and self._last < end:
            self._holes.append(self._difference("lost", self._last + 1, end, self._is_marked))
        return sorted([*self._found, *self._holes], key=lambda found: found.first)

    def _note(self, kind: _Kind, first: int, last: int, is_marked: bool) -> None:
        self._found.append(self._difference(kind, first, last, is_marked))

    def _difference(self, kind: _Kind, first: int, last: int, is_marked: bool) -> Difference:
        return Difference(kind, self._channel, first, last, is_marked)


_Kind = Literal["lost", "doubled", "late", "mark", "unknown"]
