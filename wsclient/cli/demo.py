"""``wsclient demo``: a client loses its connection, recovers, and accounts for every message.

A fake venue on loopback publishes made-up prices, numbered per channel. Half way the connection is
cut and the venue is unreachable for a while, but goes on publishing. The client must report the
messages that it missed as gaps, with the exact number. At the end its numbers are compared with
the venue's own count.
"""

from __future__ import annotations

import argparse
import logging
import math
import queue
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from wsclient.cli.board import Board, BoardEvent, Summary, View
from wsclient.cli.plain import PlainView
from wsclient.cli.terminal import is_rich
from wsclient.client import WebSocketClient
from wsclient.messages import Message
from wsclient.sansio.life import State
from wsclient.testing import FakeVenue, Feed, GenericProtocol
from wsclient.threads.logs import flush

__all__ = ["CHANNELS", "Demo", "run"]

#: Messages per second of each channel.
CHANNELS = {
    "ticker:BTC/USD": 20.0,
    "ticker:ETH/USD": 14.0,
    "ticker:SOL/USD": 9.0,
    "trades:BTC/USD": 12.0,
}
#: The longest time (s) between two checks for a signal.
SLICE = 0.1
#: How long (s) the end may be delayed for the reconnect, and again for the last messages.
GRACE = 5.0


def run(args: argparse.Namespace) -> int:
    view: View = PlainView()
    if is_rich(sys.stdout) and not args.plain:
        from wsclient.cli.screen import ScreenView

        view = ScreenView()
    with Signals() as signals:
        demo = Demo(view, args.seed, args.seconds, signals)
        with view:
            summary = demo.run()
        view.finish(demo.board, summary)
    if signals.heard is not None:
        return 128 + signals.heard
    return 1 if summary.unaccounted else 0


class Demo:
    """The venue, the client and the script of the demo, shown by a view."""

    def __init__(self, view: View, seed: int, seconds: float, signals: Signals) -> None:
        self.board = Board(CHANNELS, seconds)
        self._view = view
        self._seed = seed
        self._signals = signals
        self._started = time.monotonic()
        self._cut_after = seconds / 2
        self._away = min(1.5, seconds / 12)
        #: When (ns since the epoch) the connection was cut, and when the venue was reachable again.
        self._cut_at: int | None = None
        self._back_at: int | None = None
        self._recovered_at: int | None = None
        self._update_due = view.interval
        #: The sequence numbers that the venue assigned, by channel.
        self._published: dict[str, list[int]] = {channel: [] for channel in CHANNELS}

    def run(self) -> Summary:
        # The delay doubles with each attempt, so the third one finds the venue reachable again.
        options: dict[str, Any] = {
            "retry_delay": self._away * 0.4,
            "jitter": False,
            "close_timeout": 0.5,
        }
        protocol = GenericProtocol()
        with (
            FakeVenue(protocol) as venue,
            WebSocketClient(venue.url, name="client", decimal=True, **options) as client,
            Warnings(self._now) as warnings,
        ):
            client.subscribe(*CHANNELS)
            self._say("good", f"connected to {venue.url}, {len(CHANNELS)} channels")
            self._say("note", f"at {self._cut_after:g} s the connection will be cut")
            with Feed(venue, CHANNELS, seed=self._seed, published=self._publishes):
                while not (self._signals.heard or self._is_over()):
                    self._show(client)  # first: the end is shown once, after the loop
                    self._play(venue)
                    self._take(client)
                    for event in warnings.take():
                        self._add(event)
            is_whole = self._signals.heard is None
            if is_whole:
                self._take_the_rest(client)
            self._show(client, at_once=True)
            return self._account(client, is_whole)

    def _publishes(self, channel: str, number: int) -> None:
        self._published[channel].append(number)

    # The script.

    def _play(self, venue: FakeVenue) -> None:
        """Cut the connection, or let the client reconnect, when it is time."""
        if self._until_step() > 0:
            return
        if self._cut_at is None:
            self._cut_at = time.time_ns()
            venue.down()
            for peer in venue.live:
                peer.rst()
            self._say("bad", "the connection is cut, but the venue goes on publishing")
        else:
            self._back_at = time.time_ns()
            venue.up()
            self._say("note", "the venue is reachable again")

    def _until_step(self) -> float:
        """Return the time (s) to the next step of the script."""
        if self._cut_at is None:
            return self._cut_after - self._now()
        if self._back_at is None:
            return self._cut_after + self._away - self._now()
        return math.inf

    def _is_over(self) -> bool:
        """Return whether the time is up and each channel had a message on the new connection.

        After GRACE seconds more the demo ends without these messages.
        """
        late = self._now() - self.board.seconds
        connections = {row.connection_id for row in self.board.rows.values()}
        return late >= GRACE or (
            late >= 0 and len(connections) == 1 and self._recovered_at is not None
        )

    def _take_the_rest(self, client: WebSocketClient) -> None:
        end = self._now() + GRACE
        while (
            self._now() < end
            and not self._signals.heard
            and any(
                numbers and self.board.rows[channel].last != numbers[-1]
                for channel, numbers in self._published.items()
            )
        ):
            self._take(client)

    # The client's side.

    def _take(self, client: WebSocketClient) -> None:
        try:
            messages = client.recv_batch(timeout=max(0.0, min(SLICE, self._until_step())))
        except TimeoutError:
            return
        for message in messages:
            self._count(message)

    def _count(self, message: Message) -> None:
        board = self.board
        latest = max(row.connection_id for row in board.rows.values())
        board.rows[message.channel].add(message, self._now())
        if self._cut_at is not None and 0 < latest < message.connection_id:
            self._recovered_at = message.received_at
            ms = (message.received_at - self._cut_at) / 1e6
            self._say("good", f"recovered: the first message {ms:,.0f} ms after the cut")
        if message.gap is not None:
            board.gaps += 1
            missed = "an unknown number" if message.gap.missed is None else message.gap.missed
            self._say("gap", f"gap: {message.channel} missed {missed} ({message.gap.reason})")

    def _show(self, client: WebSocketClient, at_once: bool = False) -> None:
        board = self.board
        board.elapsed = self._now()
        if board.elapsed < self._update_due and not at_once:
            return
        self._update_due = max(self._update_due + self._view.interval, board.elapsed)
        stats = client.stats()
        board.is_open = client.state is State.OPEN
        board.state = (
            "open" if board.is_open else f"reconnecting, attempt {stats.dials - stats.connects}"
        )
        board.reconnects = stats.reconnects
        for channel, subscription in client.subscriptions.items():
            board.rows[channel].is_missing = subscription.gap is not None
        self._view.update(board)

    def _account(self, client: WebSocketClient, is_whole: bool) -> Summary:
        rows = self.board.rows.values()
        published = [row.published(self._published[row.channel], is_whole) for row in rows]
        unaccounted = [
            n - row.messages - row.missed for n, row in zip(published, rows, strict=True)
        ]
        return Summary(
            published=sum(published),
            messages=self.board.messages,
            reconnects=client.stats().reconnects,
            gaps=self.board.gaps,
            missed=self.board.missed,
            # Per channel, so that a surplus of one cannot hide a loss of another.
            unaccounted=sum(map(abs, unaccounted)),
            recovered=_ms(self._cut_at, self._recovered_at),
            away=_ms(self._cut_at, self._back_at) or 0.0,
            is_whole=is_whole,
        )

    # Output.

    def _now(self) -> float:
        return time.monotonic() - self._started

    def _say(self, kind: str, text: str) -> None:
        self._add(BoardEvent(self._now(), kind, text))

    def _add(self, event: BoardEvent) -> None:
        self.board.events.append(event)
        self._view.event(event)


def _ms(start: int | None, end: int | None) -> float | None:
    return None if start is None or end is None else (end - start) / 1e6


class Warnings(logging.Handler):
    """A log handler that collects the client's warnings as events."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(logging.WARNING)
        self._now = now
        self._queue: queue.SimpleQueue[BoardEvent] = queue.SimpleQueue()

    def __enter__(self) -> Warnings:
        logging.getLogger("wsclient").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        flush()
        logging.getLogger("wsclient").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        text = re.sub(r"^client: disconnected: |\[Errno -?\d+\] ", "", record.getMessage())
        self._queue.put(BoardEvent(self._now(), "note", text))

    def take(self) -> Iterator[BoardEvent]:
        """Remove and yield the events collected so far."""
        while not self._queue.empty():
            yield self._queue.get()


class Signals:
    """A handler of SIGINT and SIGTERM that stores the first of them in ``heard``.

    So the demo ends at a point where every message that it took is counted. A second signal has
    its usual effect.
    """

    def __init__(self) -> None:
        self.heard: int | None = None

    def __enter__(self) -> Signals:
        self._before = {
            number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        self.heard = number
        self.__exit__()
