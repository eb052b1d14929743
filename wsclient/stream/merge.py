"""One channel that two or more connections carry at the same time: what of it is delivered.

One connection *leads*. On channels with numbers the numbers decide what is delivered, whoever
brings it (``numbered.py``). On others the messages of the leader are delivered as they come, and
those of each other connection wait until they are matched with delivered ones (``matching.py``).

When the leader ends, another connection takes its place. That is *proven* to lose nothing if the
numbers say so; if the two have carried the same run of messages, and nothing has differed since; or
if both were silent for long. Otherwise the next message carries a mark, just one.

Pure: time is passed in (monotonic s), and so is the identity of a message.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from functools import partial

from wsclient.messages import Message
from wsclient.stream.channel import Channel
from wsclient.stream.line import ChannelLine
from wsclient.stream.matching import LAG, Entry, Matching, is_snapshot
from wsclient.stream.numbered import MEET_WAIT, Numbered

__all__ = ["LAG", "SILENCE", "Merge"]

INF = float("inf")
#: How long (s) both connections must be silent for proof: then nothing is on its way.
SILENCE = 5.0
#: Of the connections that carry a channel with numbers: it is never used.
_NO_MATCHING = Matching(lambda _: None)


class Merge:
    """The overlap of the connections that carry one channel.

    ``leader`` is the id of the connection that has carried it so far. From here to the end of the
    overlap (:attr:`is_over`), each message of the channel goes through :meth:`take`, instead of
    ``Channel.accept``. On a channel with numbers *one* connection may use the fast path as well.
    Without ``shares_numbers`` the numbers of two connections are not compared: such a channel is
    treated as one without numbers.
    """

    __slots__ = (
        "_channel",
        "_is_mixed",
        "_leader",
        "_lines",
        "_numbers",
        "_shares_numbers",
        "connections",
        "is_numbered",
    )

    def __init__(self, channel: Channel, leader: int, *, shares_numbers: bool = True) -> None:
        self._channel = channel
        self._lines: dict[int, ChannelLine] = {}
        #: The ids of the connections that carry the channel, in the order in which they joined.
        self.connections: Collection[int] = self._lines.keys()
        #: The channel has numbers, as far as is known now.
        self.is_numbered = channel.last is not None and shares_numbers
        self._shares_numbers = shares_numbers
        line = self._lines[leader] = ChannelLine(leader, self._matching(is_aligned=True))
        line.confirmed_at = -INF
        line.last = channel.last
        line.is_met = line.is_shared = True
        #: The leader of a channel without numbers.
        self._leader = leader
        #: Messages without numbers have come on a channel with numbers.
        self._is_mixed = False
        self._numbers = Numbered(channel, self._lines, leader)

    @property
    def leader(self) -> int | None:
        """The id of the connection that leads; None if all have left."""
        leader = self._numbers.leader if self.is_numbered else self._leader
        return leader if leader in self._lines else None

    @property
    def copies(self) -> Mapping[int, int]:
        """How many messages were dropped of each connection that is here, oldest first.

        Others had brought them. To be read before :meth:`leave`.
        """
        return {line.id: line.copies + line.matching.copies for line in self._lines.values()}

    @property
    def is_over(self) -> bool:
        """Whether the merge can be dropped: the channel goes on with the connection that is left.

        From then on its messages are passed to ``Channel.accept``.
        """
        if len(self._lines) > 1:
            return False
        if not self._lines:
            return True
        if self.is_numbered:
            self._numbers.note()
            return self._numbers.is_settled
        (line,) = self._lines.values()
        return not line.matching.is_behind

    def join(self, connection_id: int, now: float) -> None:
        """Add a connection: its subscribe is about to be sent."""
        if self.is_numbered:
            self._numbers.catch_up(now)
        self._lines[connection_id] = ChannelLine(connection_id, self._matching())

    def confirmed(self, connection_id: int, now: float) -> None:
        """Note that the venue has confirmed the channel on a connection."""
        line = self._lines.get(connection_id)
        if line is not None and line.confirmed_at is None:
            line.confirmed_at = now
            if not self.is_numbered:
                line.matching.settle(now)

    def take(
        self,
        connection_id: int,
        message: Message,
        identity: Hashable,
        now: float,
        is_refused: bool = False,
    ) -> list[Message]:
        """Return what is to be delivered now that a connection has brought a message.

        The messages are in order, counted by the channel, and carry its gaps. ``identity`` is None
        if it is unknown: it equals nothing. ``is_refused``: the message is not to be delivered
        (``validate`` raised), but counts as missed.
        """
        line = self._lines.get(connection_id)
        if line is None:
            return []
        if self.is_numbered:
            if message.sequence is not None:
                return self._numbers.take(line, message, identity, is_refused, now)
            return self._take_beside_numbers(line, message, is_refused)
        entry = Entry(message, identity, line.doubt, is_refused)
        line.doubt = None
        if connection_id == self._leader:
            if message.sequence is not None and self._shares_numbers:
                return self._deliver(line, entry, now) + self._count(line, now)
            return self._take_of_leader(line, entry, now)
        if line.is_asked and is_snapshot(message):
            self._channel.suspect("sequence")
            self._leader = connection_id
            self._renew(line, is_aligned=True)
            return self._take_of_leader(line, entry, now)
        line.matching.brought(entry, now)
        return []

    def suspect(self, connection_id: int, reason: str, now: float) -> None:
        """Note that messages of a connection may have been missed: a frame was unreadable."""
        line = self._lines.get(connection_id)
        if line is None:
            return
        is_leader = connection_id == self.leader
        if self.is_numbered:
            others = [other for other in self._lines.values() if other is not line]
            if any(other.confirmed_at is not None and other.is_fit for other in others):
                line.doubt = reason  # a jump shows whether anything was missed
            elif is_leader:
                self._channel.suspect(reason)
        elif is_leader:
            self._channel.suspect(reason)
            for other in self._lines.values():
                if other is not line or other.matching.is_behind:
                    other.matching.doubt(now)
        else:
            line.doubt = reason
            line.matching.doubt(now)

    def asked(self, connection_id: int) -> None:
        """Note that the next snapshot of a connection was asked for: it will be delivered."""
        line = self._lines.get(connection_id)
        if line is not None:
            line.is_asked = True

    def switch(self, now: float, reason: str = "reconnect") -> list[Message]:
        """Let the successor lead; return what is to be delivered now.

        The old leader is about to close. What it still brings is used like that of any connection
        that does not lead. ``reason`` is that of the mark, if the switch is not proven.
        """
        successor = self._successor()
        if successor is None:
            return []
        if self.is_numbered:
            delivered = self._lead_numbers(successor, reason)
            return delivered + self._numbers.tick(now)
        return self._take_over(successor, now, reason)

    def leave(self, connection_id: int, reason: str, now: float) -> list[Message]:
        """Remove a connection: it has ended, or the venue has ended the channel on it.

        Returns what is to be delivered now.
        """
        if self.is_numbered:
            self._numbers.catch_up(now)
        was_leader = connection_id == self.leader
        if self._lines.pop(connection_id, None) is None:
            return []
        successor = self._successor() if was_leader else None
        delivered: list[Message] = []
        if self.is_numbered:
            if successor is not None:
                delivered = self._lead_numbers(successor, reason)
            delivered += self._numbers.release(reason if was_leader else None, now)
        elif successor is not None:
            delivered = self._take_over(successor, now, reason)
        if not self._lines:
            self._channel.suspect(reason)
        return delivered

    def tick(self, now: float) -> list[Message]:
        """Return what has waited for long enough, with its gaps."""
        return self._numbers.tick(now) if self.is_numbered else []

    def deadline(self) -> float:
        """Return when :meth:`tick` is due (monotonic s); infinity if nothing waits for it.

        To be asked after each read that the fast path has taken, too.
        """
        return self._numbers.deadline() if self.is_numbered else INF

    def is_proven(self, now: float) -> bool:
        """Return whether the successor can take over now without a mark."""
        return self.proven_at(now) <= now

    def proven_at(self, now: float) -> float:
        """Return from when on the successor can take over without a mark (monotonic s).

        That is as far as is known now: a message may prove it earlier, or disprove it. Infinity if
        only a message can prove it.
        """
        line = self._successor()
        if line is None or line.confirmed_at is None:
            return INF
        if self.is_numbered:
            if not line.is_fit or self._is_mixed:
                return INF
            if line.is_met:
                return line.confirmed_at
            return line.confirmed_at + (LAG if line.last is None else MEET_WAIT)
        matching = line.matching
        if matching.is_aligned:
            return line.confirmed_at
        silent_at = matching.active_at + SILENCE
        if now < silent_at:
            return silent_at
        # A snapshot is of no use only where the leader has brought one, or anything.
        is_needed = matching.is_ahead and self._channel.latest is None
        return silent_at if matching.agrees() and not is_needed else INF

    # Inside.

    def _matching(self, is_aligned: bool = False) -> Matching:
        if self.is_numbered:
            return _NO_MATCHING
        return Matching(partial(self._channel.lost, reason="sequence"), is_aligned)

    def _renew(self, line: ChannelLine, is_aligned: bool) -> None:
        """Begin to match a connection again."""
        line.copies += line.matching.copies
        line.matching = self._matching(is_aligned)

    def _align_again(self, now: float) -> None:
        """Begin to match all connections but the leader again: how they agree is not known."""
        for line in self._lines.values():
            if line.id != self._leader:
                self._renew(line, is_aligned=False)
                if line.confirmed_at is not None:
                    line.matching.settle(now)

    def _successor(self) -> ChannelLine | None:
        """Return the connection that leads next; None if there is no other."""
        leader = self._numbers.leader if self.is_numbered else self._leader
        others = [line for line in self._lines.values() if line.id != leader]
        return max(others, key=_fitness, default=None)

    def _lead_numbers(self, line: ChannelLine, reason: str) -> list[Message]:
        delivered = self._numbers.lead(line, reason)
        if line.confirmed_at is None:
            self._channel.suspect(reason)
        if self._is_mixed:
            self._channel.lost(None, reason)
            self._is_mixed = False
        line.doubt = line.doubt or reason  # a jump shows whether anything was missed
        return delivered

    def _take_over(self, line: ChannelLine, now: float, reason: str) -> list[Message]:
        """Let a connection lead on a channel without numbers; return what it has ready."""
        matching = line.matching
        is_proven = self.is_proven(now)
        self._leader = line.id
        if not (is_proven or matching.is_aligned):
            matching.assume()
        rest = matching.rest()
        if not matching.is_aligned:
            self._renew(line, is_aligned=True)
        if is_proven:
            if not matching.is_aligned:
                line.copies += len(rest)
                rest.clear()
            line.doubt = None
        else:
            begin = self._channel.suspect if self._shares_numbers else self._channel.restart
            begin(reason)
            self._align_again(now)
        delivered: list[Message] = []
        doubt, line.doubt = line.doubt, None
        for entry in rest:
            delivered += self._deliver(line, entry, now)
        if doubt is not None:
            self._channel.suspect(doubt)
        if self._channel.last is not None and self._shares_numbers:
            delivered += self._count(line, now)
        return delivered

    def _take_of_leader(self, line: ChannelLine, entry: Entry, now: float) -> list[Message]:
        matching = line.matching
        if matching.is_behind and matching.skips(entry.identity):
            return []
        if matching.is_behind:
            # What it brings is not what was delivered: either was lost, or not the same.
            self._renew(line, is_aligned=True)
            self._channel.suspect("sequence")
        if line.is_asked and is_snapshot(entry.message):
            line.is_asked = False
            delivered = self._deliver(line, entry, now)
            self._align_again(now)
            return delivered
        return self._deliver(line, entry, now)

    def _deliver(self, line: ChannelLine, entry: Entry, now: float) -> list[Message]:
        message = entry.message
        if entry.doubt is not None:
            self._channel.suspect(entry.doubt)
        if entry.is_refused:
            self._channel.refused(message)
        else:
            self._channel.accept(message)
        for other in self._lines.values():
            if other is not line:
                other.matching.delivered(entry.identity, len(message.raw), now)
        return [] if entry.is_refused else [message]

    def _count(self, leader: ChannelLine, now: float) -> list[Message]:
        """Go on with numbers, which have begun; return what is to be delivered now."""
        delivered: list[Message] = []
        self.is_numbered = True
        self._numbers.leader = leader.id
        self._numbers.catch_up(now)
        leader.is_met = leader.is_shared = True
        for line in self._lines.values():
            matching, line.matching = line.matching, _NO_MATCHING
            line.copies += matching.copies
            for message, identity, doubt, is_refused in matching.rest():
                line.doubt = doubt or line.doubt
                delivered += (
                    self._take_beside_numbers(line, message, is_refused)
                    if message.sequence is None
                    else self._numbers.take(line, message, identity, is_refused, now)
                )
        return delivered

    def _take_beside_numbers(
        self, line: ChannelLine, message: Message, is_refused: bool
    ) -> list[Message]:
        """Deliver a message without a number on a channel with numbers, if the leader brings it."""
        is_asked = line.is_asked and is_snapshot(message)
        if line.id != self.leader and not is_asked:
            self._is_mixed = True
            line.copies += 1
            return []
        if is_asked:
            line.is_asked = False
        else:
            self._is_mixed = True
        if is_refused:
            self._channel.refused(message)
            return []
        self._channel.accept(message)
        return [message]


def _fitness(line: ChannelLine) -> tuple[bool, ...]:
    """Return how fit a connection is to lead, to be compared."""
    return line.is_fit, line.confirmed_at is not None, line.matching.is_aligned
