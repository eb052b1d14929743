"""The stage of a scene: a venue, one client, and what has been sent."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from golden.recorder import Bench, Run, steadily
from golden.speakers import Market, Speaker, Venue
from wsclient import events
from wsclient.testing import FakeVenue

__all__ = ["CUTS", "FOR_ALL", "FOR_ONE", "SLOW", "Play", "Scene", "Stage", "perform", "scene"]


class Stage:
    """A venue that speaks to one client, and the numbers of what it has sent."""

    def __init__(self, speaker: Speaker, venue: FakeVenue, bench: Bench) -> None:
        self.speaker = speaker
        self.venue = venue
        self.rest = bench.rest
        self.rng = random.Random(speaker.name)
        assert isinstance(venue.protocol, Venue)
        self.protocol = venue.protocol
        self.counts = dict.fromkeys(speaker.channels, 0)
        self.begun: Run | None = None
        self.market = Market(speaker.name)
        self.number = 100
        #: The number of messages of the book that were sent to a subscriber.
        self.book_messages = 0
        self.rest.asked.clear()
        self.rest.answer = self._answer

    @property
    def run(self) -> Run:
        """Return the run, which ``open()`` or ``make()`` has made."""
        assert self.begun is not None
        return self.begun

    @property
    def a(self) -> str:
        return self.speaker.channels[0]

    @property
    def b(self) -> str:
        return self.speaker.channels[1]

    @property
    def c(self) -> str:
        return self.speaker.channels[2]

    def make(self, **options: Any) -> Run:
        dialect = options.pop("dialect", None) or self.speaker.dialect(self.rest.url)
        self.begun = Run(self.venue, dialect, self.rest, **options)
        return self.begun

    def open(self, *channels: str, **options: Any) -> Run:
        """Make a client that is connected and subscribed to some channels."""
        run = self.make(**options).connect()
        if channels:
            run.subscribe(*channels)
        return run

    def send(self, channel: str, *numbers: int) -> None:
        """Send messages by number; without a number the channel's next one."""
        for n in numbers or (self.counts[channel] + 1,):
            self.counts[channel] = max(n, self.counts[channel])
            self.speaker.send(self.venue, channel, n)

    def mix(self, count: int) -> None:
        """Send messages of the first two channels, and receive them."""
        for _ in range(count):
            self.send(self.rng.choice((self.a, self.b)))
        self.run.recv(count)

    def lose(self, cut: Callable[[], None], missed: int = 2) -> None:
        """End the connection, and send what is missed before the client can come back."""
        with self.venue.batch():
            cut()
            for _ in range(missed):
                self.send(self.a)
        self.run.until(events.Disconnected, events.Recovered)

    # The book.

    def trade(self) -> None:
        """Send the next update of the book."""
        changes = self.market.move()
        self.number += 1
        with self.venue.lock:
            for peer in self.venue.subscribers(self.speaker.book):
                for payload in self.speaker.update(peer, self.number, changes, self.market.levels):
                    peer.send(payload)
                    self.book_messages += 1

    def _answer(self, method: str, path: str) -> Any:
        if "bullet" in path:
            server = {"endpoint": self.venue.url, "pingInterval": 18000, "pingTimeout": 10000}
            return {"code": "200000", "data": {"token": "t", "instanceServers": [server]}}
        if "GetWebSocketsToken" in path:
            return {"error": [], "result": {"token": "t", "expires": 900}}
        return self.speaker.rest(self.number, self.market.levels)


@contextmanager
def staged(speaker: Speaker, bench: Bench) -> Iterator[Stage]:
    venue = FakeVenue(speaker.protocol(), accounts=[])  # the speakers answer logins
    venue.protocol = Venue(speaker, venue.protocol)
    venue.accounts = []  # the speaker answers logins
    with venue:
        stage = Stage(speaker, venue, bench)
        try:
            yield stage
        finally:
            if stage.begun is not None:
                stage.begun.close(bench.logs)


Scene = Callable[[Stage], None]
#: A function that runs a scene and returns its rows.
Play = Callable[[Bench], dict[str, list[str]]]
FOR_ALL: dict[str, Scene] = {}
FOR_ONE: dict[str, Scene] = {}
#: Scenes for the full trace only: they wait for deadlines, or repeat what another scene does.
SLOW: set[str] = set()


def scene(where: dict[str, Scene], *cases: Any, slow: bool = False) -> Callable[[Any], Any]:
    """Register a scene, once for each case."""

    def register(function: Any) -> Any:
        for case in cases or (None,):
            name = function.__name__ if case is None else f"{function.__name__} {case}"
            where[name] = function if case is None else functools.partial(function, case=case)
            if slow:
                SLOW.add(name)
        return function

    return register


CUTS: dict[str, Callable[[Any], None]] = {
    "fin": lambda peer: peer.fin(),
    "rst": lambda peer: peer.rst(),
    "close 1001": lambda peer: peer.close(1001, "going away"),
    "half a frame and fin": lambda peer: peer.half_frame("x" * 300, "fin"),
    "half a frame and rst": lambda peer: peer.half_frame("x" * 300, "rst"),
}


def perform(speaker: Speaker, play: Scene, bench: Bench) -> dict[str, list[str]]:
    return steadily(functools.partial(once, speaker, play, bench))


def once(speaker: Speaker, play: Scene, bench: Bench) -> Run | None:
    with staged(type(speaker)(), bench) as stage:
        try:
            play(stage)
        except Exception as error:  # noqa: BLE001 - a scene that fails is a difference
            if stage.begun is not None:
                stage.begun.note(f"the scene failed: {type(error).__name__}")
    return stage.begun
