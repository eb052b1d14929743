"""Which requests of clients a venue refuses, and which it leaves unanswered."""

from __future__ import annotations

import threading
from collections.abc import Collection

from wsclient.testing.peer import VenueTraits


class _Answering:
    """The part of a `FakeVenue` that says how requests about channels are answered."""

    lock: threading.Condition
    #: The channels that exist, beside private ones; None: any.
    channels: Collection[str] | None
    traits: VenueTraits
    _refusals: dict[str, str]
    _muted: set[str | None]

    def refuse_channel(self, channel: str, reason: str) -> None:
        """Answer each subscribe to `channel` with an error, until `allow_channel`."""
        with self.lock:
            self._refusals[channel] = reason

    def allow_channel(self, channel: str) -> None:
        """Undo `refuse_channel`."""
        with self.lock:
            self._refusals.pop(channel, None)

    def refusal(self, channel: str, route: str | None = None) -> str | None:
        """Return why `channel` is refused on a connection of `route`, or None. For protocols."""
        names = (f"{route}:{channel}", channel)
        reason = next((self._refusals[name] for name in names if name in self._refusals), None)
        if (
            reason is None
            and self.channels is not None
            and not any(name in self.channels for name in names)
            and not self.traits.is_private(channel)
        ):
            return f"there is no channel {channel!r} here, only {', '.join(self.channels)}"
        return reason

    def mute_acks(self, on: bool = True, channel: str | None = None) -> None:
        """Leave requests about `channel` (None: all) unanswered, though they take effect.

        `mute_acks(False)` undoes all muting.
        """
        with self.lock:
            if on:
                self._muted.add(channel)
            elif channel is None:
                self._muted.clear()
            else:
                self._muted.discard(channel)

    def muted(self, channel: str) -> bool:
        """Return whether requests about `channel` are left unanswered. For protocols."""
        return None in self._muted or channel in self._muted
