"""What a connection sends without a caller's ``send()``, within the venue's rate limit."""

from __future__ import annotations

from typing import Any

from wsclient.sansio.actions import Send
from wsclient.sansio.asked import Asked
from wsclient.sansio.backoff import Budget
from wsclient.sansio.consulting import AT_ONCE, Consulting
from wsclient.sansio.firstmessages import FirstMessages
from wsclient.sansio.floods import Answers
from wsclient.sansio.output import Output
from wsclient.stream.codec import encode
from wsclient.stream.items import Ack

__all__ = ["Sending"]


class Sending:
    """Sends the requests and the heartbeats' answers of one connection.

    ``rate`` is the venue's rate limit of messages, None for no limit.
    """

    __slots__ = (
        "_answers",
        "_asked",
        "_connection_id",
        "_consulting",
        "_first_messages",
        "_output",
        "_rate",
    )

    def __init__(
        self,
        connection_id: int,
        output: Output,
        asked: Asked,
        consulting: Consulting,
        first_messages: FirstMessages,
        rate: Budget | None,
    ) -> None:
        self._connection_id = connection_id
        self._output = output
        self._asked = asked
        self._consulting = consulting
        self._first_messages = first_messages
        self._rate = rate
        self._answers = Answers()

    def send(self, payload: Any, now: float) -> None:
        """Send a message now, and count it against the rate limit."""
        self._output.do(Send(self._connection_id, encode(payload)))
        self.spend(now)

    def spend(self, now: float) -> None:
        """Count a message that is sent against the rate limit."""
        if self._rate is not None:
            self._rate.spend(now)

    def answer(self, payload: Any, now: float) -> bool:
        """Send the answer to a heartbeat, within a rate limit.

        Returns False if it replaces another one, which is then never sent.
        """
        is_next = self._answers.add(encode(payload))
        self.send_answers(now)
        return is_next

    def send_answers(self, now: float) -> None:
        """Send the answer to a heartbeat that is due, if any."""
        for payload in self._answers.take(now) or ():
            self.send(payload, now)

    def flush(self, now: float) -> None:
        """Send the messages that the dialect made, within the rate limit; ask for more."""
        consulting = self._consulting
        while not consulting.is_waiting and (unsent := self._asked.requests.unsent.first(1)):
            room = AT_ONCE if self._rate is None else self._rate.room(now)
            if not room:
                return
            if consulting.has_made(unsent[0]):
                request = self._asked.send(now)
                for channel in request.channels if request.subscribe else ():
                    if not self._asked.is_active(channel):  # else another connection carries it
                        self._first_messages.asked(channel)
                if isinstance(request.payload, Ack):
                    self._asked.acknowledged(request.payload, now)
                else:
                    self.send(request.payload, now)
            elif consult := consulting.ask(room):
                self._output.consult(consult)

    def answer_deadline(self, now: float) -> float:
        """Return when to call :meth:`send_answers` (monotonic s, ``inf`` for never)."""
        return self._answers.deadline(now)

    def flush_deadline(self, now: float) -> float:
        """Return when to call :meth:`flush` (monotonic s, ``inf`` for never)."""
        if self._consulting.is_waiting or not self._asked.requests.unsent.first(1):
            return float("inf")
        return now if self._rate is None else self._rate.ready_at(now)
