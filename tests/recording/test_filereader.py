"""Reading a file that is damaged anywhere, or hostile."""

from __future__ import annotations

import random
import resource
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.filebytes import METADATA, Written, plain, read, read_by_library
from support.matrix import each_size
from wsclient.errors import InvalidMessage
from wsclient.recording.container import (
    MAGIC,
    MESSAGE,
    RECORD,
    Opcode,
    built,
    definition,
    mcap,
    sealed,
    zstandard,
)
from wsclient.recording.filereader import FileReader

#: The beginning of every file.
HEAD = MAGIC + built(mcap.Header("wsclient", "test"))
HEAD += built(mcap.Metadata("wsclient.recording", sealed(METADATA)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.mcap"


def check_flip(path: Path, written: Written, position: int, value: int) -> None:
    """Check that one changed byte never goes unnoticed if it costs a record."""
    content = bytearray(written.content)
    content[position] = value
    path.write_bytes(content)
    try:
        records, reader = read(path)
    except InvalidMessage:
        return
    if records != written.records:
        assert reader.damage, f"byte {position} is {value}"
        # What is left is right: nothing is made up, and nothing is in another place.
        rest = iter(written.records)
        assert all(record in rest for record in records), f"byte {position} is {value}"


@each_size("step", short=[401], full=[1], timeout=1200)
@pytest.mark.parametrize("is_finished", [True, False])
def test_every_changed_byte_that_costs_a_record_is_noticed(
    path: Path, is_finished: bool, step: int
) -> None:
    written = Written(12, is_finished=is_finished, chunk_size=150)
    for place in range(0, len(written.content) * 255, step):
        position, change = divmod(place, 255)
        check_flip(path, written, position, written.content[position] ^ (change + 1))


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_flipped_bit_of_every_byte_is_noticed_if_it_costs_a_record(
    path: Path, is_finished: bool
) -> None:
    written = Written(12, is_finished=is_finished, chunk_size=150)
    for position, value in enumerate(written.content):
        check_flip(path, written, position, value ^ (1 << position % 8))


def test_a_changed_byte_in_the_summary_does_no_harm(path: Path) -> None:
    written = Written(12, is_finished=True, chunk_size=150)
    for position in range(written.data_size, len(written.content)):
        content = bytearray(written.content)
        content[position] ^= 0x55
        path.write_bytes(content)
        assert read(path)[0] == written.records, position


def test_a_file_with_a_wrong_time_of_a_chunk_is_still_read_by_time(path: Path) -> None:
    written = Written(60, is_finished=True)
    at = RECORD.size
    chunk = written.content.index(b"\x04\x00\x00\x00zstd", written.ends[2][0]) - 37
    assert written.content[chunk] == Opcode.CHUNK
    for wrong in (struct.pack("<QQ", 0, 0), b"\xff" * 16):
        content = bytearray(written.content)
        content[chunk + at : chunk + at + 16] = wrong
        path.write_bytes(content)
        found = list(FileReader(path).read(1100, 1500))
        assert found == [r for r in written.records if 1100 <= r.log_time < 1500]


# Damage in blocks.


@pytest.mark.parametrize("is_finished", [True, False])
def test_zero_filled_blocks_are_skipped_and_noticed(path: Path, is_finished: bool) -> None:
    written = Written(2000, is_finished=is_finished, chunk_size=4096)
    for begin in range(1024, written.data_size - 4096, 6000):
        content = bytearray(written.content)
        content[begin : begin + 4096] = bytes(4096)
        path.write_bytes(content)
        records, reader = read(path)
        rest = iter(written.records)
        assert all(record in rest for record in records)
        assert len(records) > len(written.records) - 600
        assert reader.damage


def test_a_tail_of_zeros_is_cut_when_the_file_is_finished(path: Path) -> None:
    written = Written(200, is_finished=False)
    path.write_bytes(written.content + bytes(100_000))
    records, reader = read(path)
    assert records == written.records
    reader.finish()
    assert path.stat().st_size < len(written.content) + 10_000
    assert read_by_library(path) == plain(written.records)


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_chunk_cut_out_of_the_middle_takes_only_itself(path: Path, is_finished: bool) -> None:
    written = Written(200, is_finished=is_finished)
    (begin, first), (end, last) = written.ends[3], written.ends[4]
    path.write_bytes(written.content[:begin] + written.content[end:])
    records, _ = read(path)
    assert records == written.records[:first] + written.records[last:]
    cut = begin + 20, end + 20
    path.write_bytes(written.content[: cut[0]] + written.content[cut[1] :])
    records, reader = read(path)
    after = written.ends[5][1]
    assert records == written.records[:first] + written.records[after:]
    assert reader.damage


def test_damage_in_the_middle_survives_the_finish(path: Path) -> None:
    written = Written(200, is_finished=False)
    content = bytearray(written.content)
    begin, first = written.ends[3]
    content[begin : begin + 40] = bytes(40)
    path.write_bytes(content[:-20])
    records, reader = read(path)
    reader.finish()
    assert read_by_library(path) == plain(records)
    again, reader = read(path)
    assert again == records
    assert [damage.position for damage in reader.damage] == [begin]
    assert first in range(len(records))


@pytest.mark.parametrize("is_torn", [False, True])
@pytest.mark.parametrize("is_finished", [True, False])
def test_of_two_files_joined_only_the_first_is_read(
    path: Path, is_finished: bool, is_torn: bool
) -> None:
    one = Written(60, is_finished=is_finished)
    # The second one has other topics with the same numbers.
    other = Written(60, is_finished=True, channels=7, seed=2)
    first = one.content[: one.data_size - 50] if is_torn else one.content
    path.write_bytes(first + other.content)
    records, reader = read(path)
    assert records == one.records[: one.ends[-2][1]] if is_torn else one.records
    assert "another file begins here" in [damage.why for damage in reader.damage]
    if not reader.is_finished:
        with pytest.raises(InvalidMessage, match="beginning of another file"):
            reader.finish()
    assert path.read_bytes() == first + other.content


@each_size("count", short=[200], full=[20_000], timeout=1200)
def test_random_damage_never_stops_the_reader(path: Path, count: int) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    written = Written(100, is_finished=True)
    for _ in range(count):
        content = bytearray(written.content)
        for _ in range(rng.randrange(1, 20)):
            begin = rng.randrange(len(content))
            end = begin + rng.choice([1, 8, 40, 500])
            change = rng.choice(["noise", "cut", "copy"])
            if change == "noise":
                content[begin:end] = rng.randbytes(end - begin)
            elif change == "cut":
                del content[begin:end]
            else:
                content[begin:begin] = content[rng.randrange(len(content)) :][:500]
        path.write_bytes(content)
        try:
            records, reader = read(path)
        except InvalidMessage:
            continue
        if records != written.records:
            assert reader.damage or len(records) > len(written.records)


# Hostile files.


def chunk_of(data: bytes, size: int | None = None, crc: int | None = None) -> bytes:
    packed = zstandard.ZstdCompressor().compress(data)
    return built(
        mcap.Chunk(
            compression="zstd",
            data=packed,
            message_start_time=0,
            message_end_time=1 << 63,
            uncompressed_crc=zlib.crc32(data) if crc is None else crc,
            uncompressed_size=len(data) if size is None else size,
        )
    )


def message_of(number: int, data: bytes, length: int | None = None) -> bytes:
    size = MESSAGE.size - RECORD.size + len(data) if length is None else length
    return MESSAGE.pack(Opcode.MESSAGE, size, number, 0, 5, 5) + data


GOOD = built(definition(1, "client", "it")) + chunk_of(message_of(1, b"good"))


@contextmanager
def within(seconds: float, mebibytes: int) -> Iterator[None]:
    """Check that the block takes no more time and no more memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    yield
    assert time.process_time() - start < seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < mebibytes * 1024


@pytest.mark.parametrize(
    "hostile",
    [
        *(RECORD.pack(opcode, 1 << 60) for opcode in range(17)),
        *(RECORD.pack(opcode, (1 << 64) - 1) for opcode in range(17)),
        RECORD.pack(Opcode.CHANNEL, 4) + b"\x02\x00\x01\x00",
        RECORD.pack(Opcode.CHANNEL, 12) + b"\x02\x00\x01\x00" + b"\xff" * 8,
        RECORD.pack(Opcode.METADATA, 8) + b"\xff" * 8,
        built(mcap.Channel(2, "x", "msgpack", {"kind": "unheard"}, 1)),
        chunk_of(b"\x05" + b"\xff" * 8),
        chunk_of(b"\x05" + b"\xff" * 3),
        chunk_of(RECORD.pack(Opcode.MESSAGE, 3) + b"abc"),
        chunk_of(message_of(1, b"", 1 << 60)),
        chunk_of(message_of(77, b"unknown")),
        chunk_of(b"x" * 100, size=1 << 60),
        chunk_of(b"x" * 100, size=0),
        chunk_of(message_of(1, b"bad"), crc=1),
    ],
)
def test_hostile_records_are_skipped_and_noticed(path: Path, hostile: bytes) -> None:
    path.write_bytes(HEAD + GOOD + hostile + GOOD)
    with within(1, 50):
        records, reader = read(path)
    assert [record.data for record in records] == [b"good", b"good"]
    assert reader.damage


@pytest.mark.parametrize("size", [1 << 34, 100, None])
def test_a_bomb_is_not_decompressed(path: Path, size: int | None) -> None:
    packer = zstandard.ZstdCompressor(level=1).compressobj(
        size=-1 if size is None or size == 100 else 1 << 30
    )
    block = bytes(1 << 20)
    data = b"".join(packer.compress(block) for _ in range(1 << 10)) + packer.flush()
    bomb = mcap.Chunk("zstd", data, 1 << 63, 0, 0, 1 << 27 if size is None else size)
    path.write_bytes(HEAD + GOOD + built(bomb) + GOOD)
    with within(5, 300):
        records, reader = read(path)
    assert len(records) == 2
    assert reader.damage


@each_size("times", short=[1], full=[16], timeout=300)
def test_a_million_topics_are_read_in_bounded_time(path: Path, times: int) -> None:
    topics = b"".join(
        built(definition(number, "channel", f"c{number}")) for number in range(1 << 16)
    )
    path.write_bytes(HEAD + topics * times + GOOD)
    with within(4 * times, 200):
        records, reader = read(path)
    assert len(reader.topics) == 1 << 16
    # The first definition counts. The later one of the same number is damage.
    assert [record.topic for record in records] == ["c1"]
    assert reader.damage


def test_many_fake_chunks_are_read_in_linear_time(path: Path) -> None:
    empty = chunk_of(b"")
    path.write_bytes(HEAD + GOOD + (empty + b"\x00") * 20_000)
    with within(10, 200):
        records, _ = read(path)
    assert [record.data for record in records] == [b"good"]


def test_another_file_is_no_recording(path: Path) -> None:
    for content in (b"", b"\x89MCAP", MAGIC, MAGIC + built(mcap.Header("", "")), b"{}" * 100):
        path.write_bytes(content)
        with pytest.raises(InvalidMessage):
            FileReader(path)


@pytest.mark.parametrize("version", ["2", "0", "x", ""])
def test_a_newer_version_is_refused(path: Path, version: str) -> None:
    fields = sealed({**METADATA, "version": version})
    head = built(mcap.Header("wsclient", "test"))
    path.write_bytes(MAGIC + head + built(mcap.Metadata("wsclient.recording", fields)) + GOOD)
    with pytest.raises(InvalidMessage, match="version"):
        FileReader(path)
