"""``wsclient serve``: a fake venue on this machine, to develop against, with faults on request.

The main thread prints what happens and injects the faults that are due. The venue has threads of
its own, and so has the feed or the replay.
"""

from __future__ import annotations

import argparse
import errno
import heapq
import ipaddress
import itertools
import json
import queue
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from random import Random
from typing import Any, TextIO
from weakref import WeakKeyDictionary

from wsclient import dialects
from wsclient.cli.faults import VenueFault
from wsclient.cli.terminal import clock, complain
from wsclient.dialect import Dialect
from wsclient.testing import (
    FakeVenue,
    Fault,
    FaultProxy,
    Feed,
    Payload,
    Peer,
    Replay,
    ScriptedProtocol,
    VenueLimits,
    venues,
)
from wsclient.testing.recordings import is_recording, venues_of
from wsclient.testing.replay import drain
from wsclient.text import printable

__all__ = ["Service", "run"]

#: Messages per second, all channels together, without --rate.
RATE = 20.0
#: A client that leaves this many bytes unread is disconnected.
MAX_BACKLOG = 64 * 1024 * 1024
#: How long (s) until the venue resets a connection that a fault has made deaf.
DEAF_FOR = 60.0
JOIN_TIMEOUT = 5.0
#: How long (s) a replay waits after the first subscription for the client's further ones.
GRACE = 0.2
#: What clients get at the end of a replay: the reason of the close code 1001, later HTTP 410.
END = "the replay has ended"
MAX_REFUSALS = 100_000
#: The most lines that wait to be printed; any more are counted and left out.
MAX_LINES = 10_000


def run(args: argparse.Namespace) -> int:
    try:
        service = Service(args, sys.stderr)
    except UsageError as error:
        complain(str(error))
        return 2
    with service:
        for line in service.introduction():
            print(line)
        sys.stdout.flush()
        service.run()
    return 0


class UsageError(ValueError):
    """The arguments do not fit together."""


class Service:
    """A context manager that runs the venue and injects faults.

    It prints on ``err`` what clients do and which faults are injected.
    """

    def __init__(self, args: argparse.Namespace, err: TextIO) -> None:
        self._args = args
        self._err = err
        dialect = _dialect_of(args)
        self._dialect = dialect.name
        self._kind = type(dialect).__name__
        self._protocol = venues.find(self._dialect).served()
        self.faults: list[VenueFault] = args.faults
        self._random = Random(args.seed)
        self._counts: WeakKeyDictionary[Peer, int] = WeakKeyDictionary()
        self._lines: queue.Queue[tuple[int, str, str] | None] = queue.Queue(MAX_LINES)
        self._unsaid = 0
        #: Heap of what is due: (monotonic time (s), number that breaks ties, function to call).
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._replay = self._recording()
        self.channels = self._channels()
        by_proxy = any(fault.kind in ("deaf", "latency") for fault in self.faults)
        self.venue = FakeVenue(
            self._replay or self._protocol,
            host="127.0.0.1" if by_proxy else args.host,
            port=0 if by_proxy else args.port,
            channels=self.channels,
            tamper=self._tamper if any(fault.hits_messages for fault in self.faults) else None,
            log=lambda peer, text: self._say(f"client {peer.id}", text),
            journal=False,
            limits=VenueLimits(channels=args.max_channels, max_age=args.max_age),
            seed=args.seed,
        )
        for fault in self.faults:
            if fault.kind == "reject":
                if fault.channel not in self.channels:
                    raise UsageError(f"--fault {fault.text}: the venue has no such channel")
                self.venue.refuse_channel(fault.channel, f"refused by --fault {fault.text}")
            elif fault.kind == "shutdown":
                if type(self._protocol).shutdown_notice is ScriptedProtocol.shutdown_notice:
                    raise UsageError(f"--fault {fault.text}: {self._dialect} has no such notice")
            elif fault.kind in ("cut", "unanswered"):
                self._withhold(fault)
            elif fault.times:
                self.venue.refuse(int(fault.kind), times=fault.times)
        self._by_proxy = by_proxy
        self._proxy: FaultProxy | None = None
        self.feed: Feed | None = None
        self._is_late = False
        self._running = ExitStack()

    def _withhold(self, fault: VenueFault) -> None:
        if not self._protocol.takes_orders:
            raise UsageError(f"--fault {fault.text}: {self._dialect} takes no orders here")
        if fault.kind == "cut":
            self.venue.cut_before_answer(None, every=fault.every)
        else:
            self.venue.never_answer(None, every=fault.every)

    # What is served.

    def _recording(self) -> Replay | None:
        args = self._args
        if args.replay is None:
            if args.speed is not None or args.loop:
                raise UsageError("--speed and --loop need --replay FILE")
            return None
        if args.speed is not None and args.rate is not None:
            raise UsageError("give --speed or --rate, not both")
        try:
            replay = Replay(args.replay, self._protocol)
        except ValueError as error:
            raise UsageError(f"cannot replay {args.replay} as {self._dialect}: {error}") from None
        if not replay.lines:
            raise UsageError(f"{args.replay} has no market data of {self._dialect}")
        if not replay.has_times and args.speed not in (None, 0.0):
            raise UsageError(
                f"{args.replay} has no times of its messages: give --speed max or --rate N"
            )
        return replay

    def _channels(self) -> list[str]:
        if self._replay is not None:
            if self._args.channels:
                raise UsageError("--channel does not go with --replay, whose file has the channels")
            return self._replay.channels
        channels = list(dict.fromkeys(self._args.channels)) or self._protocol.channels()
        for channel in channels:
            if self._protocol.listing(channel) is None:
                raise UsageError(
                    f"{self._dialect} has no channel {channel!r}; its channels look like "
                    f"{', '.join(self._protocol.channels()[:3])}"
                )
        return channels

    @property
    def _rate(self) -> float:
        return RATE if self._args.rate is None else float(self._args.rate)

    @property
    def url(self) -> str:
        return self.venue.url if self._proxy is None else self._proxy.url

    def introduction(self) -> Iterator[str]:
        """Yield the lines that say what is served and how to connect to it."""
        channels = f"{len(self.channels)} channel{'s' if len(self.channels) > 1 else ''}"
        if self._replay is None:
            what = f"{channels}, {self._rate:g} messages/s, seed {self._args.seed}"
        else:
            what = f"{channels}, {len(self._replay.lines)} messages of {self._args.replay}"
        yield f"{self._dialect} on {self.url}  {what}; Ctrl-C ends it"
        yield from textwrap.wrap(
            " ".join(self.channels),
            98,
            initial_indent="  ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        given = self.venue.credentials
        if given is not None:
            yield f"Credentials for private channels and orders: {json.dumps(given)}"
        yield "In another shell:"
        dialect = "" if self._dialect == "generic" else f" --dialect {self._dialect}"
        yield f"  wsclient tail {self.url} {self.channels[0]}{dialect}"
        yield "In Python:"
        option = f'"{self._dialect}"'
        if self._protocol.rest_path is not None or self._protocol.has_rest:
            rest = f"{self.url.replace('ws:', 'http:')}{self._protocol.rest_path or ''}".rstrip("/")
            option = f'wsclient.dialects.{self._kind}(rest="{rest}")'
        option = "" if self._dialect == "generic" else f", dialect={option}"
        yield f'  import wsclient; client = wsclient.connect("{self.url}"{option})'

    # Life.

    def __enter__(self) -> Service:
        with ExitStack() as stack:
            if self._replay is None:
                rates = dict.fromkeys(self.channels, self._rate / len(self.channels))
                self.feed = Feed(self.venue, rates, seed=self._args.seed)
                stack.enter_context(self.feed)
            self._listen(stack)
            if self._replay is not None:
                thread = threading.Thread(
                    target=self._play, args=(self._replay,), name="wsclient-replay", daemon=True
                )
                thread.start()
                stack.callback(thread.join, JOIN_TIMEOUT)
                stack.callback(self.venue.close)  # which ends the thread
            start = time.monotonic()
            self._at(start + 1.0, self._look_after)
            for fault in self.faults:
                if fault.first_at is not None:
                    self._schedule(fault, start + fault.first_at)
            self._running = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _listen(self, stack: ExitStack) -> None:
        host, port = self._args.host, self._args.port
        try:
            stack.enter_context(self.venue)
            if self._by_proxy:
                self._proxy = FaultProxy(self.venue.url, seed=self._args.seed, host=host, port=port)
                stack.enter_context(self._proxy)
                self._proxy.set(Fault(delay=sum(fault.delay for fault in self.faults)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                text = f"port {port} of {host} is in use; --port 0 takes any that is free"
            else:
                text = f"cannot listen on port {port} of {host}: {error.strerror or error}"
            raise OSError(text) from error
        if not _is_loopback(host):
            self._say("", f"warning: on {host} anyone who reaches this machine can connect")

    def run(self) -> None:
        """Print what happens and do what is due, until :meth:`stop`."""
        while True:
            while self._agenda[0][0] <= time.monotonic():
                heapq.heappop(self._agenda)[2]()
            try:
                line = self._lines.get(timeout=max(0.0, self._agenda[0][0] - time.monotonic()))
            except queue.Empty:
                continue
            if line is None:
                return
            at, who, text = line
            print(printable(f"{clock(at)}  {who:<9}  {text}".rstrip()), file=self._err, flush=True)

    def stop(self) -> None:
        """End :meth:`run`, from another thread."""
        self._lines.put(None)

    def _say(self, who: str, text: str) -> None:
        # Must not block: it may be called under the venue's lock.
        try:
            if self._unsaid:
                self._lines.put_nowait((time.time_ns(), "", f"{self._unsaid} lines were left out"))
                self._unsaid = 0
            self._lines.put_nowait((time.time_ns(), who, text))
        except queue.Full:
            self._unsaid += 1

    def _at(self, due: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (due, next(self._numbers), what))

    # The replay.

    def _play(self, replay: Replay) -> None:
        venue = self.venue
        how: dict[str, Any] = {}
        if self._args.rate is not None or not (replay.has_times or self._args.speed == 0.0):
            how["pace"] = 1 / self._rate
        elif self._args.speed != 0.0:
            how["speed"] = self._args.speed or 1.0
        while True:
            venue.wait_for(lambda v: v.subscribers() or v.closing.is_set(), threading.TIMEOUT_MAX)
            if venue.closing.wait(GRACE):
                return
            replay.missed = 0
            replay.play(venue, **how)
            if venue.closing.is_set():
                return
            sent = len(replay.lines) - replay.missed
            self._say("replay", f"ended: {sent} sent, {replay.missed} skipped without a subscriber")
            if not self._args.loop:
                self._end()
                return
            with venue.lock:
                replay.rewind()

    def _end(self) -> None:
        """Close all connections, and refuse others: there is nothing to wait for."""
        self.venue.refuse(410, body=END.encode(), times=MAX_REFUSALS)
        peers = self._peers()
        drain(self.venue, peers)
        for peer in peers:
            with suppress(ConnectionError):
                peer.close(1001, END)

    # The faults.

    def _schedule(self, fault: VenueFault, due: float) -> None:
        def strike() -> None:
            self.strike(fault)
            if fault.period is not None:
                self._schedule(fault, due + fault.period)

        self._at(due, strike)

    def _look_after(self) -> None:
        """Check backlogs and the feed's rate; called once per second."""
        self._at(time.monotonic() + 1.0, self._look_after)
        for peer in self._peers():
            if peer.backlog > MAX_BACKLOG:
                self._say(f"client {peer.id}", "does not read: disconnected")
                peer.rst()
        if self.feed is not None and self.feed.is_late and not self._is_late:
            self._is_late = True
            self._say("", f"this machine cannot publish {self._rate:g} messages/s: lower --rate")

    def _peers(self) -> list[Peer]:
        with self.venue.lock:
            return self.venue.live

    def strike(self, fault: VenueFault) -> None:
        end = time.monotonic() + fault.duration
        peers = self._peers()
        if fault.kind == "down":
            self._say("", f"fault {fault.text}: no new connections")
            self._refuse(True)
            self._at(end, lambda: self._refuse(False))
        elif not peers and fault.period is None:
            self._say("", f"fault {fault.text}: no client is connected")
        for peer in peers:
            self._say(f"client {peer.id}", f"fault {fault.text}")
            try:
                self._harm(fault, peer, end)
            except ConnectionError:
                pass  # the client has disconnected meanwhile

    def _refuse(self, on: bool) -> None:
        if self._proxy is not None:
            self._proxy.refuse(on)
        elif on:
            self.venue.down()
        else:
            self.venue.up()
        if not on:
            self._say("", "new connections are accepted again")

    def _harm(self, fault: VenueFault, peer: Peer, end: float) -> None:
        match fault.kind:
            case "rst" | "down":
                peer.rst()
            case "fin":
                peer.fin()
            case "close":
                peer.close(fault.code, "by --fault")
            case "shutdown":
                self.venue.announce_shutdown(peer, close_after=fault.duration)
            case "silence":
                peer.mute()
                self._at(end, lambda: self._speak(peer))
            case "deaf":
                for connection in self._proxy.connections if self._proxy is not None else ():
                    if connection.number == peer.id:
                        connection.set(Fault("deaf"))
                self._at(end + DEAF_FOR, peer.rst)

    def _speak(self, peer: Peer) -> None:
        if peer.live:
            peer.mute(False)
            self._say(f"client {peer.id}", "no longer silent")

    def _tamper(self, peer: Peer, channel: str, payload: Payload) -> Iterator[Payload]:
        """Yield what a client is sent instead of its next message. Runs under the venue's lock."""
        number = self._counts[peer] = self._counts.get(peer, 0) + 1
        for fault in self.faults:
            if not fault.hits_messages or number % fault.every:
                continue
            self._say(
                f"client {peer.id}", f"fault {fault.text}: message {number}, channel {channel}"
            )
            if fault.kind == "duplicate":
                yield payload
                yield payload
            elif fault.kind == "garbage":
                yield payload[: self._random.randrange(1, len(payload))]
            return
        yield payload


def _dialect_of(args: argparse.Namespace) -> Dialect:
    """Return the dialect of ``--dialect``, or else that of the recording."""
    if args.dialect is not None:
        return args.dialect  # type: ignore[no-any-return]
    if args.replay is None or not is_recording(args.replay):
        return dialects.find("generic")
    names = venues_of(args.replay)
    if len(names) > 1:
        raise UsageError(f"{args.replay} has recordings of {', '.join(names)}: give --dialect")
    if not names:
        raise UsageError(f"{args.replay} has no recording that can be read")
    if names[0] not in venues.NAMES:
        raise UsageError(f"serve does not speak {names[0]}, only {', '.join(venues.NAMES)}")
    return dialects.find(names[0])


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
