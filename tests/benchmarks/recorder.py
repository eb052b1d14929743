"""The cost of recording: the tap's share of the reader's work, the writer, and bytes per message.

``python recorder.py [RECORDING ...]`` measures, in one process, a client that reads frames in the
shapes of several venues from a socket. Slices with and without the tap take turns; the time is the
processor time of the reader thread, with all that it does. What the tap has noted is then written.

For each RECORDING (``wsclient convert`` makes them of other recordings), its frames are written
again, to compare bytes per message of real frames. JSON lines with zstd are compressed in chunks of
1 MiB too.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

import zstandard

sys.path.insert(0, str(Path(__file__).parents[1]))
from processes import Feed
from report import progress, rst_table
from venue_clients import Course, check_client

import wsclient
from support.inside import core_of
from wsclient.recording.container import CHUNK_SIZE
from wsclient.recording.filewriter import FileWriter
from wsclient.recording.folder import recordings_of
from wsclient.recording.records import Frame, encode
from wsclient.recording.tap import Buffer, Read
from wsclient.recording.transcript import Transcript

KINDS = [
    "generic ticker", "binance bookTicker", "binance depth", "kraken book", "okx tickers",
    "okx books", "kraken trade, 3 rows",
]  # fmt: skip
#: Numbers of frames: before the measurement, of slices, in a slice, and taken at once.
CHANNELS, WARM_UP, SLICES, SLICE, EACH = 10, 20_000, 40, 5_000, 500
#: The slices whose messages are written.
WRITTEN = 10


class Writer:
    """Writes the entries of a tap into a file, and measures that."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.writer = FileWriter(self._file, {"version": "1"})
        self.transcript = Transcript(self.add, str, 0)
        self.messages = self.spent = 0
        self._lines = bytearray()
        self._compress = zstandard.ZstdCompressor(level=3).compress
        #: The size (bytes) of the same frames as JSON lines with zstd.
        self.zipped = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, kind: Any, topic: str, at: int, data: bytes) -> None:
        if self.writer.add(kind, topic, at, data):
            self.writer.end_chunk()

    def take(self, entries: list[Any]) -> None:
        """Write entries. Their frames become JSON lines, which is not measured."""
        reads = [(e.arrival, e.payloads) for e in entries if isinstance(e, Read)]
        begin, before = time.thread_time_ns(), self.transcript.messages
        for entry in entries:
            self.transcript.take(entry)
        self.spent += time.thread_time_ns() - begin
        self.messages += self.transcript.messages - before
        for arrival, payloads in reads:
            for payload in payloads:
                self.line(arrival.received_at, payload)

    def line(self, received_at: int, payload: bytes) -> None:
        self._lines += b'{"received_at":%d,"raw":%s}\n' % (received_at, payload)
        if len(self._lines) >= CHUNK_SIZE:
            self.end_lines()

    def end_lines(self) -> None:
        self.zipped += len(self._compress(bytes(self._lines)))
        self._lines.clear()

    def finish(self) -> None:
        begin = time.thread_time_ns()
        self.writer.finish()
        self.spent += time.thread_time_ns() - begin
        self.end_lines()


class Reader:
    """The reader thread of a client: its processor time (ns), and what it has delivered."""

    def __init__(self, client: wsclient.WebSocketClient) -> None:
        names = [t for t in threading.enumerate() if t.name.startswith("wsclient-reader")]
        (thread,) = names
        assert thread.ident is not None
        self._clock = time.pthread_getcpuclockid(thread.ident)
        self._client = client

    def now(self) -> tuple[int, int]:
        return time.clock_gettime_ns(self._clock), self._client.stats().messages


def of_kind(url: str, kind: str) -> list[str]:
    """Measure one kind of frames."""
    count = WARM_UP + (SLICES + 3) * SLICE
    settings = {"kind": kind, "count": count, "channels": CHANNELS}
    course = Course(url, settings)
    #: The reader's time per message (ns) in each slice, without the tap and with it.
    costs: tuple[list[float], list[float]] = [], []
    with tempfile.TemporaryDirectory() as folder, Writer(Path(folder) / "a.mcap") as writer:
        with course.connect(queue_size=100_000) as client:
            core = core_of(client)
            client.subscribe(*course.stream.channels)
            client.send("go")
            take(client, WARM_UP)
            reader = Reader(client)
            kept: list[Any] = []
            buffer = Buffer(1 << 40, core.clock, lambda: None)
            for number in range(SLICES):
                is_on = number % 2
                with core.lock:
                    core.tap = buffer if is_on else None
                before = reader.now()
                for _ in range(SLICE * course.kind.items // EACH):
                    take(client, EACH)
                    if number < WRITTEN:
                        kept.extend(buffer.entries)
                    buffer.entries.clear()  # as the writer does
                after = reader.now()
                with core.lock:
                    core.tap = None
                costs[is_on].append((after[0] - before[0]) / (after[1] - before[1]))
            check_client(client)
        writer.take(kept)
        writer.finish()
        size, written = writer.writer.size, writer.messages
    off, on = (median(found) / 1e3 for found in costs)
    return [
        kind,
        f"{off:.2f}",
        f"{on - off:.2f}",
        f"{100 * (on - off) / on:.0f} %",
        f"{writer.spent / written / 1e3:.2f}",
        f"{size / written:.0f}",
        f"{writer.zipped / written:.0f}",
    ]


def take(client: wsclient.WebSocketClient, count: int) -> None:
    while count > 0:
        count -= len(client.recv_batch(min(count, 1000), timeout=10.0))


def of_recording(path: str) -> list[str]:
    """Write the frames of a recording again."""
    (recording, *_), _ = recordings_of(path)
    with tempfile.TemporaryDirectory() as folder, Writer(Path(folder) / "a.mcap") as writer:
        messages = 0
        for entry in recording.read():
            if isinstance(entry.record, Frame):
                writer.add(entry.kind, entry.topic, entry.time, encode(entry.record))
                writer.line(entry.time, entry.record.raw)
                messages += 1
        writer.finish()
        ours, theirs = writer.writer.size / messages, writer.zipped / messages
    return [Path(path).name, str(messages), f"{ours:.0f}", f"{theirs:.0f}"]


def main() -> None:
    rows = []
    with Feed(pinned=False) as feed:
        for kind in KINDS:
            progress(kind)
            rows.append(of_kind(f"ws://127.0.0.1:{feed.ports['ws']}", kind))
    header = ["frames", "reader", "tap", "share", "writer", "bytes", "JSON lines"]
    print(rst_table(header, rows))
    found = [of_recording(path) for path in sys.argv[1:]]
    if found:
        print(rst_table(["recording", "frames", "bytes", "JSON lines"], found))


if __name__ == "__main__":
    main()
