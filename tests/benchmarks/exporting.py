"""How many messages per second check and export take from a recording.

Run: ``python tests/benchmarks/exporting.py``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.madefiles import MadeRecording  # noqa: E402
from wsclient.recording.check import check  # noqa: E402
from wsclient.recording.export import export  # noqa: E402

COUNT = 100_000
TRADE = (
    b'{"channel":"trade","type":"update","data":[{"symbol":"A/B","side":"buy","price":63004.9,'
    b'"qty":0.01876947,"trade_id":1,"timestamp":"2026-01-02T03:04:05.000000Z"}]}'
)
BOOK = (
    b'{"channel":"book","type":"%s","data":[{"symbol":"A/B","bids":[{"price":63004.9,"qty":0.5},'
    b'{"price":63003.3,"qty":0.0005}],"asks":[{"price":63005.1,"qty":0.2}]}]}'
)


def rate(function: Callable[[], object]) -> str:
    begin = time.perf_counter()
    function()
    return f"{COUNT / (time.perf_counter() - begin):>10,.0f} messages/s"


def main() -> None:
    kinds = {"trades": [TRADE], "books": [BOOK % b"snapshot", BOOK % b"update"]}
    for name, frames in kinds.items():
        with TemporaryDirectory() as place:
            source = Path(place) / "in"
            source.mkdir()
            with MadeRecording(source, "kraken", chunk_size=1 << 20) as made:
                for frame in frames:
                    messages = made.frame(frame)
                for _ in range(COUNT - len(frames)):
                    made.messages(frames[-1], messages)
            print(f"{name}  check          {rate(partial(check, source))}")
            for form in ("parquet", "csv", "jsonl"):
                work = partial(export, source, to=Path(place) / form, form=form)
                print(f"{name}  export {form:<8}{rate(work)}")


if __name__ == "__main__":
    main()
