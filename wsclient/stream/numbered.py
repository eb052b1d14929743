"""One channel with numbers that several connections carry: the numbers say what is new.

A message whose numbers are all delivered is a copy. One that follows a delivered number is
delivered. One that leaves numbers out is *held* for a short time, if another connection may bring
what is missing, and then delivered with a gap. So is a snapshot.

Numbers begin again when the venue restarts. The connection that is first to say so leads: the
others are ignored until they say so too. Numbers may also be a connection's own. That shows when
one brings numbers that were passed long ago: then it is *apart*, and ignored as long as there is
another. If it has to lead, its next message carries a mark.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from heapq import heappop, heappush
from typing import NamedTuple

from wsclient.messages import LinkedMessage, Message
from wsclient.stream.channel import Channel
from wsclient.stream.line import ChannelLine
from wsclient.stream.matching import OVERHEAD

__all__ = ["MEET_WAIT", "MERGE_WAIT", "PASSED", "Numbered"]

INF = float("inf")
#: How long (s) a message that leaves numbers out is held.
MERGE_WAIT = 0.025
#: The same, while the delivered numbers have not reached those of a connection that began later.
MEET_WAIT = 1.0
#: No other connection brings a number that was delivered longer ago than this (s).
PASSED = 1.0
#: The most that is held (bytes).
HELD_BYTES = 1024 * 1024
#: How many numbers' identities are remembered, and how often the last number is noted in PASSED.
IDENTITIES = 64
SAMPLES = 16


class _Held(NamedTuple):
    """A message that is held. It is due when the number ``key`` is delivered."""

    key: int
    order: int
    line: ChannelLine
    message: Message
    is_refused: bool

    @property
    def size(self) -> int:
        return len(self.message.raw) + OVERHEAD


class Numbered:
    """The merge of a channel with numbers. ``lines`` are the connections that carry it, by id."""

    __slots__ = (
        "_channel",
        "_dues",
        "_held",
        "_held_bytes",
        "_identities",
        "_lines",
        "_newest",
        "_order",
        "_passed",
        "_rejoin",
        "_seen",
        "leader",
    )

    def __init__(self, channel: Channel, lines: dict[int, ChannelLine], leader: int) -> None:
        self._channel = channel
        self._lines = lines
        self.leader = leader
        #: The last number that is known to be delivered. The leader's fast path may deliver more.
        self._seen = channel.last
        #: A heap of what is held, and one of (deadline, key).
        self._held: list[_Held] = []
        self._dues: list[tuple[float, int]] = []
        self._held_bytes = 0
        self._order = 0
        #: After a refresh: the number from which on no connection is ignored any more.
        self._rejoin: int | None = None
        #: The time of the last call, and the last number then.
        self._newest = (0.0, 0)
        #: The same at earlier times, oldest first; the first is about PASSED old.
        self._passed: list[tuple[float, int]] = []
        #: The connection and the identity of recent numbers.
        self._identities: dict[int, tuple[int, Hashable]] = {}
        latest = channel.latest
        if self._seen is not None and latest is not None and latest.arrival.read_at is not None:
            self._passed.append((latest.arrival.read_at, self._seen))

    @property
    def is_settled(self) -> bool:
        """Whether nothing is held, and no connection has still to bring what is delivered."""
        last = self._channel.last
        if self._held:
            return False
        return last is None or all(
            line.last is not None and line.last >= last for line in self._lines.values()
        )

    def deadline(self) -> float:
        """Return when :meth:`tick` is due (monotonic s); infinity if nothing is held.

        The fast path may have filled a jump: then it is due at once.
        """
        held, last, dues = self._held, self._channel.last, self._dues
        if held and (last is None or held[0].key <= last):
            return 0.0
        while dues and (not held or (last is not None and dues[0][1] <= last)):
            heappop(dues)
        return dues[0][0] if dues else INF

    def tick(self, now: float) -> list[Message]:
        """Return the messages that have been held for long enough."""
        self.catch_up(now)
        delivered: list[Message] = []
        self._settle(delivered, now)
        return delivered

    def note(self) -> None:
        """Note what has been delivered without :meth:`take`."""
        last, latest = self._channel.last, self._channel.latest
        if last == self._seen or last is None or latest is None:
            return
        line = self._lines.get(latest.arrival.connection_id)
        if line is not None and (line.last is None or line.last < last):
            line.last, line.low = last, None
        self._seen = last

    def catch_up(self, now: float) -> None:
        """Note what has been delivered without :meth:`take`, and how far the numbers are."""
        self.note()
        last, passed = self._channel.last, self._passed
        if last is None:
            return
        if passed and now - passed[-1][0] >= PASSED / SAMPLES:
            passed.append(self._newest)
        self._newest = now, last
        if not passed:
            passed.append(self._newest)
        while len(passed) > 1 and passed[1][0] <= now - PASSED:
            del passed[0]

    def take(
        self, line: ChannelLine, message: Message, identity: Hashable, is_refused: bool, now: float
    ) -> list[Message]:
        """Return what is to be delivered now that a connection has brought a message."""
        self.catch_up(now)
        delivered: list[Message] = []
        number = message.sequence
        if number is None:
            return delivered
        follows: int | None = number - 1
        if isinstance(message, LinkedMessage):
            follows = message.follows
        before, was_ignored = line.last, line.is_ignored
        has_restarted = line.has_restarted(number, follows)
        if has_restarted and not was_ignored:
            self._flush(delivered)
        elif identity is not None and not isinstance(message, LinkedMessage):
            self._compare(delivered, line, number, identity)
        last = self._channel.last
        if follows is None and line.is_asked:
            line.is_asked = False
            self._refresh(delivered, line, message, is_refused)
        elif last is None and line.id == self.leader:
            line.is_shared = True
            self._accept(delivered, line, message, is_refused)
        elif (
            last is None
            or line.is_apart
            or (line.is_ignored and not self._rejoins(line, has_restarted, follows))
        ):
            pass  # dropped
        elif has_restarted and not was_ignored:
            self._restart(delivered, line, message, is_refused, follows == last)
        elif number <= last:
            if before == last and line.id == self.leader:
                self._repeat(delivered, line, message, is_refused)
            else:
                self._copy(delivered, line, message, is_refused, now)
        elif follows is not None and follows <= last:
            line.is_shared = True
            self._accept(delivered, line, message, is_refused, before != last)
        else:
            wait = MERGE_WAIT if line.is_met else MEET_WAIT
            if follows is None and line.id != self.leader:
                wait = INF
            key = number if follows is None else follows
            self._hold(key, line, message, is_refused, now + wait)
        self._settle(delivered, now)
        return delivered

    def release(self, reason: str | None, now: float) -> list[Message]:
        """Return what need not be held any longer, as a connection has left."""
        self.catch_up(now)
        delivered: list[Message] = []
        self._settle(delivered, now, reason)
        return delivered

    def lead(self, line: ChannelLine, reason: str) -> list[Message]:
        """Let a connection lead; return what is to be delivered now.

        If its numbers are not those of the others, messages may have been missed.
        """
        delivered: list[Message] = []
        self.leader = line.id
        if not line.is_fit:
            self._flush(delivered)
            line.is_apart = line.is_ignored = False
            self._ignore_others(line, None)
            self._begin_again()
            self._channel.restart(reason)
        return delivered

    # Inside.

    def _accept(
        self,
        delivered: list[Message],
        line: ChannelLine,
        message: Message,
        is_refused: bool,
        may_cover: bool = True,
    ) -> None:
        """Deliver a message. ``may_cover``: it may begin below the last number.

        Its rows are absolute, and connections cut the same updates differently: nothing is lost.
        """
        channel, last = self._channel, self._channel.last
        line.doubt, line.is_met = None, True
        follows: int | None = None
        if isinstance(message, LinkedMessage) and may_cover and last is not None:
            follows = message.follows
            if follows is not None and follows < last < (message.sequence or last):
                message.follows = last
        if is_refused:
            channel.refused(message)
        else:
            channel.accept(message)
            delivered.append(message)
        if follows is not None:
            message.follows = follows  # type: ignore[attr-defined]
        self._seen = channel.last

    def _accept_jump(self, delivered: list[Message], held: _Held, reason: str | None) -> None:
        """Accept a message that leaves numbers out."""
        doubt = held.line.doubt if reason is None else reason
        if doubt is not None:
            self._channel.suspect(doubt)
        self._accept(delivered, held.line, held.message, held.is_refused)

    def _repeat(
        self, delivered: list[Message], line: ChannelLine, message: Message, is_refused: bool
    ) -> None:
        """Deliver what the leader repeats: the channel knows what to make of it."""
        last = self._channel.last
        self._accept(delivered, line, message, is_refused)
        if last is not None and (self._channel.last or 0) < last:
            self._ignore_others(line, None)
            self._begin_again()
            line.first = line.last = self._channel.last
            line.low = None

    def _copy(
        self,
        delivered: list[Message],
        line: ChannelLine,
        message: Message,
        is_refused: bool,
        now: float,
    ) -> None:
        """Drop a message whose numbers are delivered, unless they are the connection's own."""
        number, last = message.sequence, self._channel.last
        if number is None or last is None:
            return
        is_snapshot = isinstance(message, LinkedMessage) and message.follows is None
        if self._is_apart(line, number, is_snapshot, now):
            line.is_apart = True
            fit = next((other for other in self._lines.values() if other.is_fit), None)
            if fit is None:
                delivered += self.lead(line, "reconnect")
                self._accept(delivered, line, message, is_refused)
                return
            if line.id == self.leader:
                self.leader = fit.id
        else:
            line.is_met = True

    def _is_apart(self, line: ChannelLine, number: int, is_snapshot: bool, now: float) -> bool:
        """Return whether the numbers are the connection's own: this one was passed long ago."""
        if line.is_shared:
            return False
        at, passed = self._passed[0]
        # A snapshot has the number of the last message before it, however old that is.
        return at <= now - PASSED and number < passed + (not is_snapshot)

    def _compare(
        self, delivered: list[Message], line: ChannelLine, number: int, identity: Hashable
    ) -> None:
        """Look whether another connection has brought another message under the same number."""
        other_id, known = self._identities.setdefault(number, (line.id, identity))
        if len(self._identities) > IDENTITIES:
            del self._identities[next(iter(self._identities))]
        other = self._lines.get(other_id)
        if known == identity or other is None or other is line:
            return
        odd = other if line.id == self.leader else line
        odd.is_apart = True
        if odd.is_shared or any(held.line is odd for held in self._held):
            # Its delivered messages were of another sequence.
            self._flush(delivered)
            self._begin_again()
            self._channel.restart("sequence")

    def _rejoins(self, line: ChannelLine, has_restarted: bool, follows: int | None) -> bool:
        last = self._channel.last
        is_reached = self._rejoin is not None and last is not None and last >= self._rejoin
        if has_restarted or follows is None or is_reached:
            line.is_ignored = False
        return not line.is_ignored

    def _restart(
        self,
        delivered: list[Message],
        line: ChannelLine,
        message: Message,
        is_refused: bool,
        is_linked: bool,
    ) -> None:
        """Begin a new sequence with a message. ``is_linked``: it follows the last number."""
        self._ignore_others(line, None)
        self._begin_again()
        if not is_linked:
            self._channel.restart(line.doubt or "sequence")
        self.leader = line.id
        line.is_shared = True
        self._accept(delivered, line, message, is_refused)

    def _refresh(
        self, delivered: list[Message], line: ChannelLine, message: Message, is_refused: bool
    ) -> None:
        """Deliver a snapshot that was asked for."""
        self._flush(delivered)
        last, number = self._channel.last, message.sequence
        line.is_ignored = line.is_apart = False
        if last is not None and number is not None and number < last:
            self._ignore_others(line, last)
            self._begin_again()
        self.leader = line.id
        self._accept(delivered, line, message, is_refused)

    def _ignore_others(self, leader: ChannelLine, rejoin: int | None) -> None:
        self._rejoin = rejoin
        for line in self._lines.values():
            if line is not leader:
                line.is_ignored = True

    def _begin_again(self) -> None:
        """Forget the numbers so far."""
        self._passed.clear()
        self._identities.clear()

    def _hold(
        self, key: int, line: ChannelLine, message: Message, is_refused: bool, deadline: float
    ) -> None:
        self._order += 1
        held = _Held(key, self._order, line, message, is_refused)
        heappush(self._held, held)
        self._held_bytes += held.size
        if deadline < INF:
            heappush(self._dues, (deadline, key))

    def _pop(self) -> _Held:
        held = heappop(self._held)
        self._held_bytes -= held.size
        return held

    def _flush(self, delivered: list[Message]) -> None:
        """Deliver all that is held, before the numbers change."""
        self._settle(delivered, INF)
        self._dues.clear()

    def _settle(self, delivered: list[Message], now: float, reason: str | None = None) -> None:
        """Deliver what is due of what is held. ``reason``: why messages may have been missed."""
        held, dues = self._held, self._dues
        expired: float = INF if now == INF else -INF
        while dues and dues[0][0] <= now:
            expired = max(expired, heappop(dues)[1])
        while held:
            first, last = held[0], self._channel.last
            number = first.message.sequence
            if last is None or number is None:
                self._accept_jump(delivered, self._pop(), reason)
            elif number <= last:
                self._pop()
                first.line.is_met = True
            elif first.key <= last:
                self._pop()
                first.line.is_shared = True
                self._accept(delivered, first.line, first.message, first.is_refused)
            elif (
                first.key <= expired
                or (self._held_bytes > HELD_BYTES and len(held) > 1)
                or not self._may_fill(self._lines.values(), first.key)
            ):
                self._accept_jump(delivered, self._pop(), reason)
            else:
                break

    def _may_fill(self, lines: Iterable[ChannelLine], number: int) -> bool:
        """Return whether a connection may still bring numbers up to ``number``."""
        for line in lines:
            if line.is_fit and (
                line.confirmed_at is not None if line.last is None else line.last < number
            ):
                return True
        return False
