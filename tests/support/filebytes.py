"""Files of recordings as bytes, to damage them."""

from __future__ import annotations

import random
import warnings
from io import BytesIO
from pathlib import Path

from mcap.reader import make_reader

from wsclient.recording.container import Stored
from wsclient.recording.filereader import FileReader
from wsclient.recording.filewriter import FileWriter

METADATA = {"version": "1", "session": "s", "number": "1", "venue": "generic"}


class Written:
    """The bytes of a file, finished or not, and the records that were added to it."""

    def __init__(
        self,
        count: int,
        *,
        is_finished: bool,
        chunk_size: int = 300,
        channels: int = 3,
        seed: int = 1,
        noise: int = 60,
    ) -> None:
        rng = random.Random(seed)
        file = BytesIO()
        writer = FileWriter(file, METADATA, chunk_size=chunk_size)
        self.records: list[Stored] = []
        #: The size of the file after each chunk, with the number of records in it.
        self.ends: list[tuple[int, int]] = []
        for number in range(count):
            kind, topic = ("channel", f"c{number % channels}") if number % 4 else ("client", "it")
            data = rng.randbytes(rng.randrange(noise))
            at = 1000 + 10 * number
            if writer.add(kind, topic, at, data):  # type: ignore[arg-type]
                writer.end_chunk()
                self.ends.append((writer.size, number + 1))
            self.records.append(Stored(kind, topic, at, at, data))
        writer.end_chunk()
        self.ends.append((writer.size, count))
        #: The size of the file before its end.
        self.data_size = writer.size
        if is_finished:
            writer.finish()
        self.content = file.getvalue()


def read(path: Path) -> tuple[list[Stored], FileReader]:
    """Return all records of a file, and its reader."""
    reader = FileReader(path)
    return list(reader.read()), reader


def read_by_library(
    path: Path,
    topics: list[str] | None = None,
    start: int | None = None,
    end: int | None = None,
) -> list[tuple[str, int, int, bytes]]:
    """Return topic, times and data of each record, as the reader of the mcap package has them."""
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # older ones have other names of times
        reader = make_reader(file, validate_crcs=True)
        found = reader.iter_messages(topics, start, end)  # type: ignore[no-untyped-call]
        return [(c.topic, m.log_time, m.publish_time, m.data) for _, c, m in found]


def plain(records: list[Stored]) -> list[tuple[str, int, int, bytes]]:
    """Return the records as `read_by_library` has them."""
    return [record[1:] for record in records]
