"""The buffer between a core and its recorder."""

from __future__ import annotations

import time

from wsclient.events import Closed, RecorderLost
from wsclient.messages import Arrival, Message
from wsclient.recording.records import Lost, decode
from wsclient.recording.tap import MAX_COUNTED, Buffer, Happening, Missing, Ordinary, Outgoing
from wsclient.recording.transcript import Transcript
from wsclient.stream.channel import Batch

LIMIT = 100_000
ARRIVAL = Arrival(1, 1, None)  # type: ignore[arg-type]


def new_buffer() -> Buffer:
    return Buffer(LIMIT, time, lambda: None)  # type: ignore[arg-type]


def messages_of(*raws: bytes) -> list[Message]:
    return [
        Message("a", "x", number, None, raw, None, None, ARRIVAL)
        for number, raw in enumerate(raws, 1)
    ]


def test_each_message_has_its_own_frame_when_a_later_one_has_several() -> None:
    frames = [b"answer", b"two", b"one", b"other"]
    batch = Batch(frames, ARRIVAL)
    batch.done = 4
    messages = messages_of(frames[1], frames[1], frames[2], frames[3])
    buffer = new_buffer()
    buffer.ordinary(messages, batch, 1)
    entry = buffer.entries.pop()
    assert isinstance(entry, Ordinary)
    assert list(entry.raws) == [message.raw for message in messages]


def test_a_part_of_a_read_has_its_own_frames() -> None:
    frames = [b"answer", b"one", b"two", b"answer"]
    batch = Batch(frames, ARRIVAL)
    batch.done = 3
    buffer = new_buffer()
    buffer.ordinary(messages_of(b"one", b"two"), batch, 1)
    assert list(buffer.entries.pop().raws) == [b"one", b"two"]


def fill(buffer: Buffer) -> None:
    """Shut the buffer."""
    buffer.read(ARRIVAL, [b"x" * LIMIT], (), LIMIT)
    buffer.read(ARRIVAL, [b"x"], (), 1)
    assert buffer.is_shut


def drain(buffer: Buffer) -> list[Missing]:
    """Take everything out; return what is missing."""
    buffer.open()
    taken = list(buffer.entries)
    buffer.entries.clear()
    buffer.taken += sum(entry.charge for entry in taken)
    return [entry for entry in taken if isinstance(entry, Missing)]


def test_what_is_sent_without_end_fills_no_memory() -> None:
    buffer = new_buffer()
    fill(buffer)
    for _ in range(1000):
        buffer.sent(1, "x" * 1000)
    assert buffer.buffered <= 2 * LIMIT
    assert sum(isinstance(entry, Outgoing) for entry in buffer.entries) > 10
    assert drain(buffer)[-1].is_unknown
    assert buffer.buffered == 0


def test_events_without_end_fill_no_memory_but_the_last_one_comes() -> None:
    buffer = new_buffer()
    for _ in range(10_000):
        buffer.happened(RecorderLost("a"), 0)
    buffer.happened(Closed(None), 0)
    assert buffer.buffered <= 2 * LIMIT + 1000
    last = buffer.entries[-1]
    assert isinstance(last, Happening)
    assert isinstance(last.event, Closed)
    buffer.taken += sum(entry.charge for entry in buffer.entries)
    buffer.entries.clear()
    buffer.read(ARRIVAL, [b"x"], (), 1)
    assert [missing.is_unknown for missing in drain(buffer)] == [True]
    buffer.read(ARRIVAL, [b"x"], (), 1)
    assert drain(buffer) == []  # they are noted once


def test_lost_messages_of_invented_channels_fill_no_memory() -> None:
    buffer = new_buffer()
    fill(buffer)
    for first in range(0, 60_000, 1000):
        names = [f"channel {first + number}" for number in range(1000)]
        buffer.delivered([Message(n, "x", None, None, b"", None, None, ARRIVAL) for n in names])
    assert buffer.lost_messages == 60_000
    (missing,) = drain(buffer)
    assert missing.is_unknown
    assert len(missing.channels) <= MAX_COUNTED
    written: list[bytes] = []
    Transcript(lambda *record: written.append(record[3]), str, 0).take(missing)
    lost = decode("client", written[0])
    assert isinstance(lost, Lost)
    assert lost.is_unknown


def test_frames_that_cannot_be_read_fill_no_memory() -> None:
    buffer = new_buffer()
    for _ in range(1000):
        buffer.passed(1, 0)
    assert buffer.buffered == 0
