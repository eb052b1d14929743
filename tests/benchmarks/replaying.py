"""Messages per second of a recording played, beside reading the same as lines with orjson.

python tests/benchmarks/replaying.py [MESSAGES]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import wsclient
from support.madefiles import MadeRecording
from wsclient.messages import Message

#: How often each is measured: the best counts.
TIMES = 5


def make(folder: Path, count: int) -> Path:
    """Record ticker messages of two channels. Return a file that has them as lines."""
    lines = folder / "lines.jsonl"
    with (
        MadeRecording(folder, "generic", step=100_000, chunk_size=1 << 20) as made,
        lines.open("wb") as file,
    ):
        for number in range(count):
            raw = orjson.dumps({
                "channel": "BTC-USD" if number % 2 else "ETH-USD",
                "type": "market_data",
                "sequence": number // 2,
                "bid": 67000.5 + number % 100, "bid_size": 1.25,
                "ask": 67001.5 + number % 100, "ask_size": 0.75,
                "last": 67001.0, "volume": 12345.678, "time": "2026-01-02T03:04:05.123456Z",
            })  # fmt: skip
            message = Message(
                "BTC-USD" if number % 2 else "ETH-USD", "market_data", number // 2, raw=raw
            )
            made.messages(raw, [message])
            file.write(raw + b"\n")
    return lines


def rate(count: int, run: Callable[[], Iterable[object]]) -> float:
    """Return the messages per second of the fastest of some runs."""
    best = float("inf")
    for _ in range(TIMES):
        begin = time.perf_counter()
        for _ in run():
            pass
        best = min(best, time.perf_counter() - begin)
    return count / best


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as found:
        folder = Path(found)
        lines = make(folder, count)

        def read_lines() -> Iterable[object]:
            with lines.open("rb") as file:
                for line in file:
                    yield orjson.loads(line)

        def played() -> Iterable[object]:
            with wsclient.open_recording(folder) as client:
                yield from client

        def touched() -> Iterable[object]:
            with wsclient.open_recording(folder) as client:
                for message in client:
                    yield message.data

        by_lines = rate(count, read_lines)
        print(f"{'lines with orjson':<24} {by_lines:>12,.0f}/s")
        for name, run in (("played", played), ("played, .data read", touched)):
            speed = rate(count, run)
            print(f"{name:<24} {speed:>12,.0f}/s  {speed / by_lines:.0%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
