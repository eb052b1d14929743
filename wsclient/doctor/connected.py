"""The checks of an open connection: whether it stays open, a subscription, a message, pings."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from wsclient.doctor import advice
from wsclient.doctor.case import Case, Result
from wsclient.doctor.report import Check
from wsclient.errors import ClientClosed, SubscriptionError, WaitTimeout
from wsclient.text import one_line

__all__ = ["ChecksOfConnection"]

#: How long (s) to wait for a venue that closes the connection at once.
SETTLE = 0.25
#: Number of pings, the pause (s) between two, how long (s) to wait for each pong, and how much of
#: the time (s) is kept for them while waiting for a message.
PINGS = 5
PING_PAUSE = 0.1
PING_TIMEOUT = 5.0
PING_RESERVE = 2.0


class ChecksOfConnection:
    """The checks of a client whose attempt succeeded. Call ``run`` once."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._client = case.client
        #: When the subscription was requested (s since the epoch).
        self._asked_at = 0.0

    def run(self) -> Iterator[Check]:
        """Do the checks one after the other, and yield each, until the connection ends."""
        steps = {
            "connection": self._settle,
            "subscribe": self._subscribe,
            "message": self._receive,
            "ping": self._ping,
        }
        if not self._case.channels:
            del steps["subscribe"]
        for name, examine in steps.items():
            began = time.monotonic()
            try:
                result = examine()
            except (ConnectionError, ClientClosed):
                result = self._lost()  # the connection, and with it the client, has ended
            took = time.monotonic() - began if result.seconds is None else result.seconds
            seconds = None if result.status == "skipped" else took
            yield Check(name, result.status, seconds, result.detail, result.advice)
            if result.status == "failed" and self._failure is not None:
                return

    @property
    def _failure(self) -> BaseException | None:
        """The error with which the client has failed; None while it works."""
        return self._case.core.supervisor.life.failure

    def _lost(self) -> Result:
        failure = self._failure
        cause = None if failure is None else failure.__cause__
        return self._case.ended_by(cause or failure)

    def _settle(self) -> Result:
        if self._case.attempt.wait(SETTLE) is False:
            return self._lost()
        return Result("ok", f"still open after {advice.span(SETTLE)}")

    def _subscribe(self) -> Result:
        channels = self._case.channels
        self._asked_at = time.time()
        try:
            self._client.subscribe(*channels, timeout=self._left_for_messages())
        except SubscriptionError as error:
            if isinstance(error, TimeoutError):
                return Result(
                    "failed",
                    f"no answer to the subscription ({', '.join(map(one_line, error.failed))})",
                    "The venue did not answer: check that it speaks the dialect given, see its "
                    "status page, and try again with a longer timeout.",
                )
            shown = self._case.shown
            reasons = [f"{one_line(name)}: {shown(why)}" for name, why in error.failed.items()]
            return Result(
                "failed",
                f"refused: {'; '.join(reasons)}",
                "Check the channel's name as the dialect writes it, and whether the venue lists "
                "the symbol or requires a login for it.",
            )
        count = len(self._client.connections)
        where = f" (on {count} connections)" if count > 1 else ""
        return Result("ok", f"acknowledged: {', '.join(map(one_line, channels))}{where}")

    def _receive(self) -> Result:
        if not self._case.channels:
            return Result("skipped", "nothing was subscribed to")
        if not self._client.subscriptions and self._failure is None:
            return Result("skipped", "no channel is subscribed")
        timeout = self._left_for_messages()
        try:
            message = self._client.recv(timeout)
        except WaitTimeout:
            return Result(
                "failed",
                f"no message came within {advice.span(timeout)} of the subscription",
                "The channel may be quiet: try a busy one, or a longer timeout. Otherwise the "
                "venue's feed has stopped: see its status page.",
            )
        late = max(0.0, message.received_at / 1e9 - self._asked_at)
        what = f"{one_line(message.type)} of {one_line(message.channel)}"
        return Result("ok", f"{what}, {advice.span(late)} after the subscription", seconds=late)

    def _left_for_messages(self) -> float:
        remaining = self._case.deadline.remaining()
        return max(0.001, remaining - min(PING_RESERVE, remaining / 2))

    def _ping(self) -> Result:
        attempt, deadline = self._case.attempt, self._case.deadline
        times: list[float] = []
        wait = min(PING_TIMEOUT, deadline.remaining())
        for n in range(PINGS):
            if n and attempt.wait(PING_PAUSE) is False:
                return self._lost()
            sent = time.monotonic()
            self._case.core.calls.ping()
            answer = attempt.wait(min(wait, deadline.remaining()))
            if answer is False:
                return self._lost()
            if answer is None:
                break
            times.append((time.monotonic() - sent) * 1000)
        if not times:
            return Result(
                "failed",
                f"no answer to a ping within {advice.span(wait)}",
                "The connection looks open, but nothing comes back: the venue hangs or does not "
                "answer pings, or something on the way blocks the connection.",
            )
        median = statistics.median(times)
        detail = f"{min(times):.1f} ms at best, {median:.1f} ms median of {len(times)}"
        if len(times) < PINGS:
            return Result(
                "warning",
                f"{detail}; then one was not answered in time",
                "The connection is slow or loses packets, or the timeout was too short.",
                median / 1000,
            )
        return Result("ok", detail, seconds=median / 1000)
