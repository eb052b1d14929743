"""A channel that two connections carry, for tests of what is delivered."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

from wsclient.messages import Arrival, Gap, LinkedMessage, Message
from wsclient.stream.channel import Channel
from wsclient.stream.matching import RUN
from wsclient.stream.merge import Merge

OLD, NEW, THIRD = 1, 2, 3
#: After this time (s) each connection brings what the other brings.
LATER = 10.0


class Overlap:
    """A channel that connection 1 carries, and connection 2 too, from time 0 on.

    ``marks`` and ``delivered`` are those of all messages so far; ``delivered`` holds the number of
    each message, or its identity.
    """

    def __init__(
        self,
        *before: int | None,
        is_confirmed: bool = True,
        read_at: float | None = None,
        shares_numbers: bool = True,
    ) -> None:
        self.channel = Channel("a")
        self.now = 0.0
        self.messages: list[Message] = []
        for number in before:
            arrival = Arrival(1, OLD, None, read_at)
            self.channel.accept(Message("a", sequence=number, arrival=arrival))
        self.merge = Merge(self.channel, OLD, shares_numbers=shares_numbers)
        self.merge.join(NEW, 0.0)
        if is_confirmed:
            self.merge.confirmed(NEW, 0.0)

    @property
    def delivered(self) -> list[Any]:
        return [
            int(message.raw) if message.sequence is None else message.sequence
            for message in self.messages
        ]

    @property
    def marks(self) -> list[Gap | None]:
        return [message.gap for message in self.messages if message.gap is not None]

    def bring(
        self,
        connection_id: int,
        message: Message,
        identity: Hashable = None,
        is_refused: bool = False,
    ) -> list[Message]:
        message.arrival = Arrival(1, connection_id, None, self.now)
        found = self.merge.take(connection_id, message, identity, self.now, is_refused)
        self.messages += found
        return found

    def count(self, connection_id: int, *numbers: int) -> None:
        """Bring messages that are counted."""
        for number in numbers:
            self.bring(connection_id, Message("a", sequence=number))

    def link(self, connection_id: int, *links: tuple[int | None, int], ranges: bool = True) -> None:
        """Bring messages with these (number that it follows, own number)."""
        for follows, number in links:
            self.bring(
                connection_id,
                LinkedMessage("a", "update", number, follows=follows, is_counted=ranges),
            )

    def show(self, connection_id: int, *identities: int) -> None:
        """Bring messages without numbers, with these identities."""
        for identity in identities:
            self.bring(connection_id, Message("a", raw=b"%d" % identity), identity)

    def snapshot(self, connection_id: int, identity: int) -> None:
        self.bring(connection_id, Message("a", "snapshot", raw=b"%d" % identity), identity)

    def align(self, identities: Iterable[int] = range(100, 100 + RUN)) -> None:
        """Let both connections carry a run."""
        self.now = max(self.now, LATER)
        identities = list(identities)
        self.show(OLD, *identities)
        self.show(NEW, *identities)
        self.messages.clear()

    def tick(self, now: float) -> None:
        self.now = now
        self.messages += self.merge.tick(now)

    def switch(self) -> None:
        self.messages += self.merge.switch(self.now)

    def leave(self, connection_id: int, reason: str = "reconnect") -> None:
        self.messages += self.merge.leave(connection_id, reason, self.now)


def met() -> Overlap:
    """Return an overlap whose connections have both brought numbers up to 3."""
    run = Overlap(1)
    run.count(OLD, 2, 3)
    run.count(NEW, 2, 3)
    run.messages.clear()
    return run
