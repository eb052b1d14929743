"""What the pure part asks of the runtime: actions and events, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wsclient.events import Event, StateChanged
from wsclient.messages import Message
from wsclient.sansio.actions import Action, Consult, Deliver, Notify, Settle

__all__ = ["MAX_WAITING", "Output"]

#: Beyond this many waiting actions, events of single channels are dropped and only counted. A
#: listener sees a jump of the events' numbers.
MAX_WAITING = 10_000


class Output:
    """The actions of one client that are still to be performed.

    ``wants`` returns whether anyone listens to events of a type.
    """

    __slots__ = (
        "_omitted",
        "_reading",
        "_state",
        "actions",
        "consults",
        "newest_id",
        "settles",
        "wants",
    )

    def __init__(self, wants: Callable[[type[Event]], bool]) -> None:
        self.wants = wants
        #: The id of the newest connection; 0 before the first. Events that are about no other
        #: connection carry it.
        self.newest_id = 0
        #: In order. Replaced by :meth:`take`.
        self.actions: list[Action] = []
        #: Callers are woken after the events of the same step: a call that has returned finds its
        #: events in every listener's stream.
        self.settles: list[Settle] = []
        #: Questions to a dialect come last: what they run may be slow, and delays no caller.
        self.consults: list[Consult] = []
        #: How many events :meth:`notify_if_room` has dropped since the last event.
        self._omitted = 0
        #: The last state of the client that was reported.
        self._state = ""
        #: While a read is processed: the messages that it delivers.
        self._reading: list[Message] | None = None

    def do(self, action: Action) -> None:
        """Add an action."""
        self.actions.append(action)

    def consult(self, question: Consult) -> None:
        """Add a question to the dialect."""
        self.consults.append(question)

    def settle(self, token: Any, error: BaseException | None = None, result: Any = None) -> None:
        """End the wait of the caller with ``token``."""
        self.settles.append(Settle(token, error, result))

    def notify(self, kind: type[Event], *what: Any, connection_id: int | None = None) -> None:
        """Emit the event ``kind(*what)``; by default of the newest connection."""
        about = self.newest_id if connection_id is None else connection_id
        omitted, self._omitted = self._omitted, 0
        self.actions.append(Notify(kind, what, about, omitted))

    def report_state(self, state: str, why: str, connection_id: int | None = None) -> bool:
        """Emit an event for a new state of the client, unless it is the last one reported.

        Returns whether it is new.
        """
        if state == self._state:
            return False
        self._state = state
        self.notify(StateChanged, state, why, connection_id=connection_id)
        return True

    def notify_if_room(self, kind: type[Event], *what: Any) -> None:
        """Emit an event that a venue may cause for many channels at once, or only count it."""
        if len(self.actions) < MAX_WAITING:
            self.notify(kind, *what)
        else:
            self._omitted += 1

    def begin_read(self) -> list[Message]:
        """Return the list for the messages of a read; :meth:`end_read` must follow."""
        self._reading = []
        return self._reading

    def end_read(self) -> None:
        """Note that the read is processed: :meth:`deliver` makes actions again."""
        self._reading = None

    def deliver(self, message: Message) -> None:
        """Deliver a message that no frame carried: with those of the current read, if any."""
        if self._reading is None:
            self.actions.append(Deliver(message))
        else:
            self._reading.append(message)

    def take(self) -> list[Action]:
        """Return the actions since the last call, in order."""
        actions: list[Action] = [*self.actions, *self.settles, *self.consults]
        self.actions, self.settles, self.consults = [], [], []
        return actions
