"""The wanted channels, by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from wsclient.messages import SubscriptionState
from wsclient.sansio.slots import SlotKey
from wsclient.sansio.waitingcalls import Call

__all__ = ["ChannelRoute", "WantedChannel", "WantedTable", "by_options", "first_part"]

PENDING = SubscriptionState.PENDING
ACTIVE = SubscriptionState.ACTIVE
UNSUBSCRIBING = SubscriptionState.UNSUBSCRIBING


class ChannelRoute(NamedTuple):
    """How a channel is reached: its route and its name there, or why it cannot be reached."""

    route: str
    wire: str
    refusal: str | None = None


@dataclass(eq=False, slots=True)
class WantedChannel:
    """A wanted channel. ``calls`` are those that wait until it is decided."""

    channel: str
    options: Mapping[str, Any]
    #: The route that carries it, and its name there.
    route: str = ""
    wire: str = ""
    #: The slot to whose connections it belongs; None before it is placed.
    slot: SlotKey | None = None
    #: The ids of the connections that carry it: on which the venue has confirmed it.
    carriers: tuple[int, ...] = ()
    #: The id of the subscribe that has made it active.
    active_as: int = 0
    #: The ids of the connections on which its unsubscribe is not complete.
    leaving: tuple[int, ...] = ()
    state: SubscriptionState = PENDING
    calls: list[Call] = field(default_factory=list)
    #: The channel has been confirmed, on some connection.
    was_active: bool = False
    #: How long (s) its first request was unanswered on earlier connections.
    waited: float = 0.0
    #: Subscribe to it again after the pending unsubscribe is answered.
    wanted_again: bool = False


class WantedTable:
    """The wanted channels of one client, by name."""

    __slots__ = ("_by_name", "_counts", "_entries")

    def __init__(self) -> None:
        self._entries: dict[str, WantedChannel] = {}
        #: The names of the wanted channels, by their part before the first colon.
        self._by_name: dict[str, dict[str, None]] = {}
        #: The number of wanted channels in each state.
        self._counts: Counter[SubscriptionState] = Counter()

    def get(self, channel: str) -> WantedChannel | None:
        """Return the wanted channel; None if it is not wanted. Needs no lock."""
        return self._entries.get(channel)

    def state(self, channel: str) -> SubscriptionState | None:
        """Return the state of ``channel``; None if it is not wanted. Needs no lock."""
        entry = self._entries.get(channel)
        return None if entry is None else entry.state

    def is_active(self, channel: str) -> bool:
        """Return whether the venue has confirmed ``channel``. Needs no lock."""
        return self.state(channel) is ACTIVE

    def __contains__(self, channel: object) -> bool:
        return channel in self._entries

    def __iter__(self) -> Iterator[WantedChannel]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        """Return the number of wanted channels. Needs no lock."""
        return len(self._entries)

    def carriers(self, channel: str) -> tuple[int, ...]:
        """Return the ids of the connections that carry ``channel``."""
        entry = self._entries.get(channel)
        return () if entry is None else entry.carriers

    def is_carried(self, entry: WantedChannel, connection_id: int) -> bool:
        """Return whether a connection carries a channel that is not being unsubscribed."""
        return connection_id in entry.carriers and entry.state is not UNSUBSCRIBING

    def among(self, channels: Iterable[str]) -> list[WantedChannel]:
        """Return those of ``channels`` that are wanted, in order."""
        found = (self._entries.get(channel) for channel in dict.fromkeys(channels))
        return [entry for entry in found if entry is not None]

    def named(self, name: str) -> list[str]:
        """Return the wanted channels whose part before the first colon is ``name``."""
        return list(self._by_name.get(name, ()))

    def count(self, state: SubscriptionState) -> int:
        """Return the number of channels in ``state``."""
        return self._counts[state]

    @property
    def all_confirmed(self) -> bool:
        """Whether no channel waits for its confirmation."""
        return not self._counts[PENDING]


def first_part(channel: str) -> str:
    """Return the channel's name before its first colon."""
    return channel.partition(":")[0]


def by_options(
    entries: Iterable[WantedChannel],
) -> list[tuple[Mapping[str, Any], list[str]]]:
    """Group channels with equal options, which may go in one message; keep their order."""
    groups: list[tuple[Mapping[str, Any], list[str]]] = []
    for entry in entries:
        for options, names in groups:
            if dict(options) == dict(entry.options):
                names.append(entry.channel)
                break
        else:
            groups.append((entry.options, [entry.channel]))
    return groups
