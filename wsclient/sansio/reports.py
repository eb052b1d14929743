"""Reports of what a venue may cause at any rate: at most one per second of each kind."""

from __future__ import annotations

from collections.abc import Callable

from wsclient.events import DecodeError, Noticed
from wsclient.sansio.floods import ANSWERS, Throttles
from wsclient.text import one_line

__all__ = ["Reports"]

#: How many unhandled message types are reported and remembered, and how many characters of each.
MAX_UNHANDLED_TYPES = 1000
MAX_TYPE = 100


class Reports:
    """The throttled events of one client.

    ``notify`` is called with the type of an event and its fields. ``mask`` hides the client's
    secrets in the venue's texts.
    """

    __slots__ = (
        "_endings",
        "_invalid",
        "_jumps",
        "_no_data",
        "_notices",
        "_refused",
        "_throttles",
        "_unanswered",
        "_unhandled",
        "_unhandled_types",
    )

    def __init__(self, notify: Callable[..., None], mask: Callable[[str], str]) -> None:
        self._throttles = Throttles(notify, mask)
        self._refused = self._throttles.new(Noticed, "refused")
        self._notices = self._throttles.new(Noticed, "notice")
        self._unhandled = self._throttles.new(Noticed, "unhandled")
        self._jumps = self._throttles.new(Noticed, "numbers")
        self._no_data = self._throttles.new(Noticed, "no data")
        self._endings = self._throttles.new(Noticed, "ended")
        self._unanswered = self._throttles.new(Noticed, "heartbeat")
        self._invalid = self._throttles.new(DecodeError)
        self._unhandled_types: set[str] = set()

    def refused(self, reason: str, now: float) -> None:
        """Report that the venue refused something that no caller waits for."""
        self._refused.add(f"the venue refused: {one_line(reason)}", now)

    def said(self, text: str, now: float) -> None:
        """Report a text of the venue."""
        self._notices.add(f"the venue says: {one_line(text)}", now)

    def unhandled(self, type: str, now: float) -> None:
        """Report a message type that the dialect does not know, once per type."""
        kind, types = type[:MAX_TYPE], self._unhandled_types
        if kind not in types and len(types) < MAX_UNHANDLED_TYPES:
            types.add(kind)
            self._unhandled.add(f"unhandled message type {kind!r} (logged once per type)", now)

    def jumped(self, last: int, number: int, now: float) -> None:
        """Report that the numbers of a connection's frames are not consecutive."""
        jump = f"jumped from {last} to {number}"
        self._jumps.add(f"the connection's frame number {jump}; data may be missing", now)

    def no_data(self, channel: str, seconds: float, now: float) -> None:
        """Report a channel without data ``seconds`` after its confirmation."""
        text = (
            f"no data: {channel!r} was confirmed {seconds:g} s ago, but no message has arrived: "
            "check the address and the case of the symbol"
        )
        self._no_data.add(text, now, channel)

    def ended(self, channel: str, why: str, now: float) -> None:
        """Report that the venue has ended a channel."""
        self._endings.add(f"resubscribing: {why}", now, channel)

    def unanswered(self, now: float) -> None:
        """Report that a heartbeat of the venue is not answered."""
        most, per = ANSWERS
        why = f"the venue asks for over {most} answers in {per:g} s"
        self._unanswered.add(f"a heartbeat is not answered: {why}", now)

    def invalid(self, text: str, now: float, channel: str | None, count: int = 1) -> None:
        """Report a frame or message that was skipped, the newest of ``count``."""
        self._invalid.add(text, now, channel, count)

    def tick(self, now: float) -> None:
        """Emit what was held back and whose time has come."""
        self._throttles.tick(now)

    def deadline(self) -> float:
        """Return when to call :meth:`tick` (monotonic s, ``inf`` for never)."""
        return self._throttles.deadline()
