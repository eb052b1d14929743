"""The cost of recording: the tap beside the reader's work, the writer, and bytes per message.

By processor time. The reader's whole work is about twice what is measured here: it also reads the
socket, parses frames, and puts messages into queues.
"""

from __future__ import annotations

import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import zstandard

from wsclient import dialects
from wsclient.messages import Message
from wsclient.recording.filewriter import FileWriter
from wsclient.recording.tap import Buffer
from wsclient.recording.transcript import Transcript
from wsclient.stream.channel import Channel, accept_ordinary
from wsclient.stream.inbound import Inbound

READS, EACH = 4000, 50


def main() -> None:
    number = count(1)
    reads = [
        [
            b'{"type":"market_data","channel":"BTC-USD","sequence":%d,"price":"%d.25",'
            b'"size":"0.%06d","side":"buy"}' % (n, 60_000 + n % 977, n * 7919 % 10**6)
            for n in (next(number) for _ in range(EACH))
        ]
        for _ in range(READS)
    ]
    inbound, channel = Inbound(dialects.find("generic")), Channel("BTC-USD")
    inbound.ahead = False
    buffer = Buffer(1 << 40, time, lambda: None)
    reader = tap = written = 0.0
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "a.mcap").open("wb") as file:
        writer = FileWriter(file, {"version": "1"})

        def add(kind: Any, topic: str, at: int, data: bytes) -> None:
            if writer.add(kind, topic, at, data):
                writer.end_chunk()

        transcript = Transcript(add, str, 0)
        for payloads in reads:
            begin = time.thread_time_ns()
            batch = inbound.batch(payloads, False, time.time_ns(), 1, time.monotonic())
            messages, _ = accept_ordinary({"BTC-USD": channel}, batch, {}, None)
            if not messages:  # the first read
                for entry in inbound.entries(batch):
                    if isinstance(entry, Message):
                        channel.accept(entry)
                continue
            middle = time.thread_time_ns()
            buffer.read(batch.arrival, payloads, (), sum(map(len, payloads)))
            buffer.ordinary(messages, batch, 0)
            after = time.thread_time_ns()
            while buffer.entries:
                transcript.take(buffer.entries.popleft())
            end = time.thread_time_ns()
            reader, tap = reader + middle - begin, tap + after - middle
            written += end - after
        writer.finish()
        size = writer.size
    total = READS * EACH
    lines = b"".join(
        b'{"received_at":%d,"raw":%s}\n' % (time.time_ns(), raw) for r in reads for raw in r
    )
    zipped = len(zstandard.ZstdCompressor(level=3).compress(lines))
    rows = [
        ("decoding and checking, us per message", reader / total / 1e3),
        ("tap, us per message", tap / total / 1e3),
        ("writer, us per message", written / total / 1e3),
        ("recording, bytes per message", size / total),
        ("JSON lines with zstd, bytes per message", zipped / total),
    ]
    for name, value in rows:
        print(f"{name:45} {value:8.3f}")


if __name__ == "__main__":
    main()
