"""Measure one client with many connections: ``python tests/benchmarks/many.py [--rounds 5]``.

The venue runs in another process. The first table has clients with 1,250, 2,500 and 5,000 channels
at a venue that allows 200 per connection, and one with 5,000 on one connection: how long it takes
to subscribe, to recover from the cut of one connection and of all of them, and to rotate, by the
clock and by the client's processor time, and what memory it takes. Each client has a process of its
own; the figures are medians of several rounds in turns. The second table is the processor time per
message with 1, 2 and 8 connections, at the same rate in total, and with one connection that gets
its messages in as many reads.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import wsclient
from wsclient.events import Recovered
from wsclient.testing import FakeVenue, VenueLimits

PAGE = resource.getpagesize()
#: Channels, and how many of them a connection may have.
SIZES = ((1250, 200), (2500, 200), (5000, 200), (5000, 5000))
#: Connections, and in how many pieces each gets a message of each of its channels.
CONNECTIONS = ((1, 1), (2, 1), (8, 1), (1, 2), (1, 8))
#: Channels of the second table, messages per second, and the time (s) of one measurement.
CHANNELS, RATE, SECONDS = 64, 10_000, 2.0


# The venue, in a process of its own.


def serve(pipe: Connection, room: int) -> None:
    """Run a venue until the pipe ends."""
    with FakeVenue(limits=VenueLimits(channels=room), journal=False) as venue:
        pipe.send(venue.url)
        while True:
            try:
                command, *given = pipe.recv()
            except EOFError:
                return
            pipe.send(COMMANDS[command](venue, *given))


def cut(venue: FakeVenue, count: int) -> float:
    """Cut the newest connections, each of which has brought a message; return the time."""
    with venue.lock:
        peers = venue.live[-count:]
        for peer in peers:
            peer.rst()
    return time.monotonic()


def prove(venue: FakeVenue, number: int) -> int:
    """Send a message on each connection, of one of its channels; return how many there are."""
    peers = venue.live
    for peer in peers:
        peer.send_raw(frame(min(peer.subscriptions), number))
    return len(peers)


def feed(venue: FakeVenue, first: int, end: int, pieces: int) -> int:
    """Send the messages ``first`` to ``end - 1`` of all channels, at ``RATE`` in total.

    Those of a connection are written in so many ``pieces``, some time apart.
    """
    turns = []
    for peer in venue.live:
        channels = sorted(peer.subscriptions)
        turns += [(peer, channels[n::pieces]) for n in range(pieces)]
    pause = CHANNELS / RATE / len(turns)
    due = time.monotonic()
    for number in range(first, end):
        for peer, channels in turns:
            peer.send_raw(b"".join(frame(channel, number) for channel in channels))
            due = max(due + pause, time.monotonic() - 0.1)
            time.sleep(max(0.0, due - time.monotonic()))
    return end


def frame(channel: str, number: int) -> bytes:
    payload = b'{"type":"market_data","channel":"%s","sequence":%d,"price":"64012.5","size":"0.25"}'
    payload %= channel.encode(), number
    return b"\x81" + len(payload).to_bytes(1, "big") + payload


COMMANDS: dict[str, Callable[..., Any]] = {"cut": cut, "prove": prove, "feed": feed}


class Venue:
    """A venue in another process."""

    def __init__(self, room: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, far = context.Pipe()
        self._process = context.Process(target=serve, args=(far, room), daemon=True)
        self._process.start()
        far.close()
        self.url = self.pipe.recv()

    def __enter__(self) -> Venue:
        return self

    def __exit__(self, *_: object) -> None:
        self.pipe.close()
        self._process.join(10.0)

    def do(self, *command: Any) -> Any:
        self.pipe.send(command)
        return self.pipe.recv()


def connect(venue: Venue, room: int) -> wsclient.WebSocketClient:
    limits = wsclient.Limits(channels_per_connection=room, connects=None)
    return wsclient.connect(venue.url, dialect=wsclient.Generic(limits=limits))


# The first table.


class Timed:
    """The time and the processor time (ms) since it was made."""

    def __init__(self) -> None:
        self._began, self._used = time.monotonic(), time.process_time()

    def taken(self) -> tuple[float, float]:
        now, used = time.monotonic(), time.process_time()
        return 1000 * (now - self._began), 1000 * (used - self._used)


def memory() -> float:
    """Return the resident memory of this process (KiB)."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1024


def measure(channels: int, room: int) -> dict[str, Any]:
    """Measure one client."""
    with Venue(room) as venue, connect(venue, room) as client:
        client.subscribe("first")  # what is made once is made
        client.unsubscribe("first")
        threads, before = threading.active_count(), memory()
        timed = Timed()
        client.subscribe(*(f"channel-{number}" for number in range(channels)), timeout=600.0)
        found: dict[str, Any] = {"subscribe": timed.taken()}
        found["memory"] = memory() - before
        found["threads"] = threading.active_count() - threads
        for number, (what, count) in enumerate((("one", 1), ("all", 10**6)), 1):
            events = client.events(Recovered)
            found["connections"] = venue.do("prove", number)
            for _ in range(found["connections"]):
                client.recv(timeout=10)  # so that they are healthy, and replaced at once
            timed = Timed()
            venue.do("cut", count)
            next(events)
            found[what] = timed.taken()
        timed = Timed()
        client.rotate(timeout=300.0)
        found["rotate"] = timed.taken()
        found["lost"] = client.stats().channels_lost
        return found


def in_process(*arguments: object) -> Any:
    """Return the result of this script with other arguments."""
    command = [sys.executable, __file__, *map(str, arguments)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout)


def table_of_sizes(rounds: int) -> None:
    results: dict[tuple[int, int], list[dict[str, Any]]] = {size: [] for size in SIZES}
    for _ in range(rounds):
        for size in SIZES:
            results[size].append(in_process("--one", *size))
    heads = ("subscribe", "one cut", "all cut", "rotate")
    print("channels  connections  threads", *(f"{head:15}" for head in heads), "memory", sep="  ")
    print(" " * 30, *["ms (processor) "] * 4, "KiB", sep="  ")
    for (channels, _), found in results.items():
        times = "  ".join(
            "{:6.0f} ({:6.0f})".format(*(median(r[what][i] for r in found) for i in (0, 1)))
            for what in ("subscribe", "one", "all", "rotate")
        )
        size = median(r["memory"] for r in found)
        last = found[-1]
        print(
            f"{channels:8}  {last['connections']:11}  {last['threads']:7}  {times}  {size:7.0f}"
            f" ({size / channels:.2f} per channel), {last['lost']} lost"
        )
    of = {size: median(r["memory"] for r in found) for size, found in results.items()}
    each = (of[5000, 200] - of[5000, 5000]) / 24
    print(f"memory of a further connection: {each:.0f} KiB")


# The second table.


def per_message(rounds: int) -> None:
    """Print the processor time per message of clients that take turns."""
    results: dict[tuple[int, int], list[float]] = {count: [] for count in CONNECTIONS}
    reads: dict[tuple[int, int], float] = {}
    for _ in range(rounds):
        for count in CONNECTIONS:
            used, reads[count] = one_feed(*count)
            results[count].append(used)
    print(f"\nprocessor time per message, {RATE} messages/s in total")
    for count, found in results.items():
        ratio = median(a / b for a, b in zip(found, results[1, 1], strict=True))
        print(
            f"{count[0]:3} connections, {count[0] * count[1]} reads: {median(found):6.2f} us "
            f"(best {min(found):.2f}), {ratio:.2f} of the first; "
            f"{reads[count]:.1f} messages per batch"
        )


def one_feed(count: int, pieces: int) -> tuple[float, float]:
    """Return the processor time (us) of a message, and the messages of a batch."""
    room = CHANNELS // count
    first, end = 1 + RATE // 2 // CHANNELS, int(RATE * (SECONDS + 0.5)) // CHANNELS
    with Venue(room) as venue, connect(venue, room) as client:
        client.subscribe(*(f"channel-{number}" for number in range(CHANNELS)))
        for span in ((1, first), (first, end)):  # the first one warms up
            taken = batches = 0
            used = time.process_time()
            venue.pipe.send(("feed", *span, pieces))
            while taken < CHANNELS * (span[1] - span[0]):
                batches += 1
                taken += len(client.recv_batch(timeout=10))
            used = time.process_time() - used
            venue.pipe.recv()
        if client.stats().gaps:
            raise RuntimeError("messages are missing")
        return 1e6 * used / taken, taken / batches


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=["sizes", "messages"])
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(*given.one)))
        return
    if given.only != "messages":
        table_of_sizes(given.rounds)
    if given.only != "sizes":
        per_message(given.rounds)


if __name__ == "__main__":
    main()
