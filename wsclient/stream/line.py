"""What is known of one of the connections that carry a channel at the same time."""

from __future__ import annotations

from wsclient.stream.matching import Matching

__all__ = ["ChannelLine"]


class ChannelLine:
    """One connection, as a carrier of one channel. ``id`` is the connection's."""

    __slots__ = (
        "confirmed_at",
        "doubt",
        "first",
        "id",
        "is_apart",
        "is_asked",
        "is_ignored",
        "is_met",
        "is_shared",
        "last",
        "low",
        "matching",
    )

    def __init__(self, id: int, matching: Matching) -> None:
        self.id = id
        #: When the venue confirmed the channel (monotonic s); None before.
        self.confirmed_at: float | None = None
        #: Why messages before its next one may be missing; None if none may.
        self.doubt: str | None = None
        #: Its next snapshot was asked for.
        self.is_asked = False
        #: On channels without numbers: what it brings, and what is delivered.
        self.matching = matching
        #: The first and the highest number of its sequence; None if not known.
        self.first: int | None = None
        self.last: int | None = None
        #: Its last number, if that was below the highest.
        self.low: int | None = None
        #: The delivered numbers have reached its own. Before, it is ahead because it began later.
        self.is_met = False
        #: One of its messages has continued the delivered numbers.
        self.is_shared = False
        #: Its numbers are not those of the other connections.
        self.is_apart = False
        #: Another connection leads in a new sequence, which this one has not begun.
        self.is_ignored = False

    @property
    def is_fit(self) -> bool:
        """Whether its numbers can be compared with the delivered ones."""
        return not (self.is_apart or self.is_ignored)

    def has_restarted(self, number: int, follows: int | None) -> bool:
        """Note the number of a message; return whether a new sequence begins with it.

        ``follows`` is None for a snapshot. A number below the highest may be repeated by the venue.
        It begins a new sequence if it is a snapshot's, if the message follows the highest, if it is
        below the first, or if the number before it was lower too.
        """
        last, low = self.last, self.low
        if last is None or (number > last and (low is None or follows != low)):
            if last is None:
                self.first = number
            self.last, self.low = number, None
            return False
        if number == last:
            return False
        is_new = follows is None or follows in (last, low)
        if is_new or (self.first is not None and number < self.first):
            self.first, self.last, self.low = number, number, None
        else:
            self.low = number
        return self.low is None
