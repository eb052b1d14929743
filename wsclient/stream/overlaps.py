"""The overlaps of one client: the channels that two or more connections carry at present."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable

from wsclient.messages import Message
from wsclient.stream.channel import Channel
from wsclient.stream.merge import Merge

__all__ = ["Overlaps"]

INF = float("inf")


class Overlaps:
    """The merges of one client, by channel.

    ``of`` returns a channel. ``shares_numbers``: the venue's numbers of a channel are the same on
    all connections. What a merge releases other than by a message that has just come is
    kept in :attr:`released` until the caller takes it: at once, so that the order is kept.
    """

    __slots__ = (
        "_awaited",
        "_connections",
        "_merges",
        "_now",
        "_of",
        "_shares_numbers",
        "has_changed",
        "released",
    )

    def __init__(self, of: Callable[[str], Channel], *, shares_numbers: bool = True) -> None:
        self._of = of
        self._shares_numbers = shares_numbers
        self._merges: dict[str, Merge] = {}
        #: The channels with a merge in which each connection takes part. Read without a lock.
        self._connections: dict[int, dict[str, None]] = {}
        #: The time of the last step (monotonic s).
        self._now = -INF
        self.released: list[Message] = []
        #: The merge that :meth:`proven_at` waits for, by connection.
        self._awaited: dict[int, Merge] = {}
        #: A message has proven one of these since.
        self.has_changed = False

    def __len__(self) -> int:
        return len(self._merges)

    def get(self, channel: str) -> Merge | None:
        """Return the merge of a channel; None if at most one connection carries it."""
        return self._merges.get(channel)

    def has(self, connection_id: int) -> bool:
        """Return whether a connection takes part in an overlap. Needs no lock."""
        return connection_id in self._connections

    def at(self, now: float) -> None:
        """Note the time (monotonic s)."""
        self._now = now

    def join(self, name: str, connection_id: int, carriers: Iterable[int]) -> None:
        """Note that a connection is about to subscribe to a channel that ``carriers`` carry."""
        others = [other for other in carriers if other != connection_id]
        merge = self._merges.get(name)
        if merge is None:
            if not others:
                return
            channel = self._of(name)
            channel.hold()
            merge = self._merges[name] = Merge(
                channel, others[0], shares_numbers=self._shares_numbers
            )
            self._joined(others[0], name)
        for other in (*others, connection_id):
            if other not in merge.connections:
                merge.join(other, self._now)
                self._joined(other, name)

    def confirmed(self, name: str, connection_id: int) -> None:
        """Note that the venue has confirmed a channel on a connection."""
        merge = self._merges.get(name)
        if merge is not None:
            merge.confirmed(connection_id, self._now)

    def asked(self, name: str, connection_id: int) -> None:
        """Note that a new snapshot of a channel was asked for on a connection."""
        merge = self._merges.get(name)
        if merge is not None:
            merge.asked(connection_id)

    def take(
        self,
        merge: Merge,
        connection_id: int,
        message: Message,
        identity: Hashable,
        *,
        is_refused: bool = False,
    ) -> list[Message]:
        """Return what is to be delivered now that a connection has brought a message."""
        delivered = merge.take(connection_id, message, identity, self._now, is_refused)
        if self._awaited and merge in self._awaited.values() and merge.is_proven(self._now):
            self.has_changed = True
        self._end_if_over(message.channel, merge)
        return delivered

    def suspect(self, name: str, reason: str, connection_id: int) -> None:
        """Note that messages of a channel may have been missed on a connection."""
        merge = self._merges.get(name)
        if merge is None:
            self._of(name).suspect(reason)
        else:
            merge.suspect(connection_id, reason, self._now)

    def leave(self, name: str, reason: str, connection_id: int) -> None:
        """Note that a connection carries a channel no longer. Without a merge, suspect it."""
        merge = self._merges.get(name)
        if merge is None:
            self._of(name).suspect(reason)
        elif connection_id in merge.connections:
            self.released += merge.leave(connection_id, reason, self._now)
            self._left(connection_id, name)
            self._end_if_over(name, merge)

    def of(self, connection_id: int) -> list[str]:
        """Return the channels that a connection carries together with another one."""
        return list(self._connections.get(connection_id, ()))

    def switch(self, connection_id: int) -> None:
        """Let the others lead where a connection does, as it is about to be closed."""
        for name in self.of(connection_id):
            merge = self._merges[name]
            if merge.leader == connection_id:
                self.released += merge.switch(self._now)
                self._end_if_over(name, merge)

    def proven_at(self, connection_id: int, now: float) -> float:
        """Return when the others can take over from a connection without a mark (monotonic s).

        When a message proves earlier what was the last to be proven, :attr:`has_changed` is set.
        """
        self.has_changed = False
        self._awaited.pop(connection_id, None)
        latest = now
        for name in self.of(connection_id):
            merge = self._merges[name]
            if merge.leader == connection_id and (at := merge.proven_at(now)) > latest:
                latest, self._awaited[connection_id] = at, merge
        return latest

    def forget(self, name: str) -> None:
        """Forget a channel: it is no longer wanted."""
        merge = self._merges.pop(name, None)
        if merge is not None:
            for connection_id in merge.connections:
                self._left(connection_id, name)

    def drop(self, name: str) -> None:
        """Forget how connections brought a channel unrequested: a caller wants it from now on."""
        if name in self._merges:
            self.forget(name)
            self._of(name).is_merged = False
            self._of(name).suspect("reconnect")

    def tick(self, now: float) -> None:
        """Release what has waited for long enough."""
        self._now = now
        for name, merge in list(self._merges.items()):
            if now >= merge.deadline():
                self.released += merge.tick(now)
                self._end_if_over(name, merge)

    def deadline(self) -> float:
        """Return when to call :meth:`tick` (monotonic s, ``inf`` for never)."""
        return min((merge.deadline() for merge in self._merges.values()), default=INF)

    def take_released(self) -> list[Message]:
        """Return what was released since the last call, in order."""
        released, self.released = self.released, []
        return released

    def _end_if_over(self, name: str, merge: Merge) -> None:
        if merge.is_over and name in self._merges:
            self.forget(name)
            self._of(name).is_merged = False

    def _joined(self, connection_id: int, name: str) -> None:
        self._connections.setdefault(connection_id, {})[name] = None

    def _left(self, connection_id: int, name: str) -> None:
        names = self._connections[connection_id]
        del names[name]
        if not names:
            del self._connections[connection_id]
            self._awaited.pop(connection_id, None)
