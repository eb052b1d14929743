"""A file that ends anywhere: what can be read is a prefix, and it can be finished."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from support.filebytes import Written, plain, read, read_by_library
from support.matrix import each_size
from wsclient.errors import InvalidMessage
from wsclient.recording.filereader import FileReader


def check(path: Path, written: Written, size: int, begin: int) -> None:
    """Check a file cut to `size` (bytes); `begin` is what a recording needs at least."""
    path.write_bytes(written.content[:size])
    if size < begin:
        with pytest.raises(InvalidMessage):
            FileReader(path)
        return
    records, reader = read(path)
    whole = max((count for end, count in written.ends if end <= size), default=0)
    assert records == written.records[:whole], size
    assert all("within a record" in damage.why for damage in reader.damage)
    reader.finish()
    assert read_by_library(path) == plain(records), size
    again, reader = read(path)
    assert (again, reader.damage, reader.is_finished) == (records, [], True), size


def begin_of(path: Path, written: Written) -> int:
    """Return the size (bytes) from which on a cut file is a recording."""
    for size in range(len(written.content)):
        path.write_bytes(written.content[:size])
        try:
            FileReader(path)
        except InvalidMessage:
            continue
        return size
    raise AssertionError("the whole file is no recording")


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_small_file_cut_at_every_byte_is_a_prefix(tmp_path: Path, is_finished: bool) -> None:
    written = Written(16, is_finished=is_finished, chunk_size=150)
    path = tmp_path / "a.mcap.part"
    begin = begin_of(path, written)
    assert 100 < begin < written.ends[0][0] - 100
    for size in range(len(written.content) + 1):
        check(path, written, size, begin)


@each_size("count", short=[60], full=[2000], timeout=1200)
@pytest.mark.parametrize("is_finished", [True, False])
def test_a_large_file_cut_anywhere_is_a_prefix(
    tmp_path: Path, is_finished: bool, count: int
) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    records = 8 * count + 8000
    written = Written(records, is_finished=is_finished, chunk_size=1 << 16, seed=seed)
    path = tmp_path / "a.mcap.part"
    begin = begin_of(path, written)
    for _ in range(count):
        check(path, written, rng.randrange(begin, len(written.content)), begin)


def test_a_finished_file_is_filtered_by_time_and_topic_in_each_reader(tmp_path: Path) -> None:
    written = Written(200, is_finished=False)
    path = tmp_path / "a.mcap.part"
    path.write_bytes(written.content[:-30])
    FileReader(path).finish()
    have, _ = read(path)
    start, end = have[40].log_time, have[150].log_time
    inside = [record for record in have if start <= record.log_time < end]
    assert len(inside) == 110
    assert read_by_library(path, start=start, end=end) == plain(inside)
    assert list(FileReader(path).read(start, end)) == inside
    of_one = [record for record in inside if record.topic == "c1"]
    assert read_by_library(path, ["c1"], start, end) == plain(of_one)
    with_client = [record for record in inside if record.topic in ("c1", "it")]
    assert list(FileReader(path).read(start, end, ["c1"])) == with_client


def test_finishing_a_finished_file_changes_nothing(tmp_path: Path) -> None:
    written = Written(30, is_finished=True)
    path = tmp_path / "a.mcap"
    path.write_bytes(written.content)
    FileReader(path).finish()
    assert path.read_bytes() == written.content
