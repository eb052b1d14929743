"""Which queues each channel's messages go to, and which of those queues drop messages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from wsclient.errors import WSClientError
from wsclient.messages import Gap, Message
from wsclient.runtime.mailbox import Mailbox
from wsclient.sansio.measures import Lags

__all__ = ["Router", "Routes"]

Routes = dict[str, tuple[Mailbox, ...]]

#: How long (s) a queue must not drop any message for an episode to be over.
LOOK_FOR_DROPS = 1.0


class Retired(NamedTuple):
    """The totals of closed readers' queues, kept since counters never go back. Replaced as a whole:
    whoever reads this together with the queues counts each queue once."""

    dropped: int
    lags: Lags

    def and_of(self, mailbox: Mailbox) -> Retired:
        lags = Lags()
        lags.absorb(self.lags)
        lags.absorb(mailbox.lags)
        return Retired(self.dropped + mailbox.dropped, lags)


class Router:
    """The queues and their routes. Every call is made under the core's lock, which protects all of
    this, except where a method says otherwise."""

    def __init__(self, default: Mailbox, routes: Routes | None = None) -> None:
        #: The client's own queue, which also gets what nobody has asked for.
        self.default = default
        self._mailboxes: list[Mailbox] = []
        self._routes: Routes = {} if routes is None else routes
        #: How many routes are not to the default queue alone.
        self.special = 0
        #: How many messages each queue had dropped when last looked at. Queues that conflate drop
        #: on purpose, and are not here.
        self._lossy: dict[Mailbox, int] = {}
        #: When the queues that drop are looked at next, and those found dropping the last time.
        self.look_at = 0.0
        #: A queue has begun to drop messages since :meth:`look` was called.
        self.has_news = False
        self.dropping: set[Mailbox] = set()
        self.retired = Retired(0, Lags())
        self.add(default)

    # The queues.

    @property
    def mailboxes(self) -> Sequence[Mailbox]:
        """All queues. Needs no lock."""
        return tuple(self._mailboxes)

    def add(self, mailbox: Mailbox) -> None:
        if mailbox not in self._mailboxes:
            self._mailboxes.append(mailbox)
            if not mailbox.conflates:
                self._lossy[mailbox] = mailbox.dropped

    def retire(self, mailbox: Mailbox) -> None:
        """Forget a closed queue, and keep its totals."""
        if mailbox in self._mailboxes:
            self._mailboxes.remove(mailbox)
            self._lossy.pop(mailbox, None)
            self.dropping.discard(mailbox)
            self.retired = self.retired.and_of(mailbox)

    # The routes.

    def route(self, channels: Iterable[str], mailbox: Mailbox) -> list[str]:
        """Add ``mailbox`` to the routes of ``channels``. Return those that did not have it."""
        self.add(mailbox)
        new = [c for c in dict.fromkeys(channels) if mailbox not in self._routes.get(c, ())]
        for channel in new:
            self._set(channel, (*self._routes.get(channel, ()), mailbox))
        return new

    def unroute(self, channels: Iterable[str], mailbox: Mailbox) -> None:
        """Remove ``mailbox`` from the routes of ``channels``."""
        for channel in channels:
            boxes = self._routes.get(channel, ())
            self._set(channel, tuple(box for box in boxes if box is not mailbox))

    def forget(self, channel: str) -> None:
        """Forget a channel that nobody wants."""
        self._set(channel, ())
        self.retired.lags.forget(channel)
        for mailbox in self._mailboxes:
            mailbox.forget(channel)

    def has_others(self, channel: str, mailbox: Mailbox) -> bool:
        """True when another queue also gets the channel's messages."""
        return any(box is not mailbox for box in self._routes.get(channel, ()))

    def _set(self, channel: str, boxes: tuple[Mailbox, ...]) -> None:
        plain = (self.default,)
        self.special -= self._routes.pop(channel, plain) != plain
        if boxes:
            self._routes[channel] = boxes
            self.special += boxes != plain

    def pending_gap(self, channel: str, gap: Gap | None) -> Gap | None:
        """Merge ``gap``, which the channel's next message will carry, into those that the queues
        remember for it."""
        for mailbox in self._routes.get(channel, (self.default,)):
            queued = mailbox.pending_gap(channel)
            if queued is not None:
                gap = queued if gap is None else queued.merge(gap)
        return gap

    # The messages.

    def deliver(self, messages: Sequence[Message], size: int | None = None) -> WSClientError | None:
        """Put messages into their queues; ``size`` is that of their payloads together (bytes),
        where it is known. Return the QueueOverflow of a queue that this made fail."""
        if not self.special:
            return self._put(self.default, messages, size)
        failure = None
        batches: dict[Mailbox, list[Message]] = {}
        for message in messages:
            boxes = self._routes.get(message.channel) or (self.default,)
            batches.setdefault(boxes[0], []).append(message)
            for box in boxes[1:]:
                # A gap made in one queue is not a gap in another.
                batches.setdefault(box, []).append(message.copy())
        for box, batch in batches.items():
            failure = self._put(box, batch) or failure
        return failure

    def _put(
        self, box: Mailbox, messages: Sequence[Message], size: int | None = None
    ) -> WSClientError | None:
        failure = box.put(messages, size)
        if box.dropped != self._lossy.get(box, box.dropped) and box not in self.dropping:
            self.has_news = True
        return failure

    # The drops.

    def look(self, now: float, tell: Callable[[str, int], None]) -> float:
        """Call ``tell(name, dropped)`` for each queue whose consumer has become too slow, once per
        episode. Return when to look again."""
        self.has_news = False
        found = {box for box, before in self._lossy.items() if box.dropped != before}
        if not found and not self.dropping:
            return float("inf")
        if now < self.look_at:
            return self.look_at
        self._lossy.update((box, box.dropped) for box in found)
        begun, self.dropping = found - self.dropping, found
        for box in begun:
            tell(box.name, box.dropped)
        self.look_at = now + LOOK_FOR_DROPS
        return now if begun else self.look_at
