"""What a check says is missing is what the venue sent and the recording has not."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import pytest

from support.helpers import until
from support.killed import PROGRAM, Publisher, sequences
from support.matrix import each_size
from support.oracle import CUTS
from support.recorded import messages_in, the_recording
from support.rotating import BOOKS, PATIENCE, rig_of
from wsclient.messages import Message
from wsclient.recording.check import check
from wsclient.recording.folder import recordings_of
from wsclient.testing import KINDS, FakeVenue

SEED = random.randrange(10**6)
RATE = 300.0
#: Kinds whose numbers go on after a reconnect, so that the number of lost messages is always known.
EXACT = ("counted",)


def counts_of(messages: Iterable[Message]) -> dict[str, Counter[str]]:
    """Count by hand, for each channel, what its gaps say."""
    found: dict[str, Counter[str]] = {}
    for message in messages:
        counts = found.setdefault(message.channel, Counter())
        counts["messages"] += 1
        gap = message.gap
        if gap is None:
            continue
        if gap.reason in ("late", "duplicate"):
            counts[gap.reason] += 1
        elif gap.missed is None:
            counts["unknown"] += 1
        counts["missed"] += gap.missed or 0
    return found


@pytest.mark.parametrize("kind", KINDS)
@each_size("times", short=[6], full=[60], timeout=600)
def test_a_check_finds_the_gaps_of_the_run(tmp_path: Path, kind: str, times: int) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    with rig_of(kind, RATE, SEED, count=2) as rig:
        until(lambda: rig.is_whole, PATIENCE)
        recorder = rig.client.record(tmp_path, state_seconds=0.5, chunk_seconds=0.1)
        for _ in range(times):
            rig.feed.wait(chance.randrange(5, 60), PATIENCE)
            choice = chance.choice(("rotate", "cut", "lose"))
            if choice == "rotate":
                rig.client.rotate(timeout=PATIENCE)
            elif choice == "lose":
                for peer in rig.venue.live:
                    peer.lose(chance.randrange(1, 5))
            else:
                for peer in rig.venue.live:
                    CUTS[chance.choice(sorted(CUTS))](peer)
            until(lambda: rig.is_whole, PATIENCE)
        rig.feed.wait(200, PATIENCE)
        rig.finish()
        rig.client.close(timeout=PATIENCE)
        rig.reading.result(PATIENCE)
        assert recorder.stats().lost_messages == 0
    recorded = [m for entry in the_recording(tmp_path).read() for m in messages_in(entry)]
    delivered = rig.delivered[-len(recorded) :]
    assert [m.raw for m in recorded] == [m.raw for m in delivered]
    report = check(tmp_path)
    (found,) = report.recordings
    wanted = counts_of(delivered)
    for channel in found.channels:
        counts = wanted[channel.channel]
        seen = (channel.messages, channel.missed, channel.unknown, channel.late, channel.duplicates)
        assert seen == tuple(
            counts[name] for name in ("messages", "missed", "unknown", "late", "duplicate")
        )
    assert {c.channel for c in found.channels} == wanted.keys()
    faults = {why: count for c in found.channels if c.book for why, count in c.book.faults.items()}
    lost = rig.venue.journal.compare(delivered).of("lost")
    if kind == "checksum" and lost:
        assert faults.keys() <= {
            "checksum",
            "crossed",
        }  # nothing else can tell what the venue did not send
    else:
        assert faults == {}
    has_gaps = any(c["missed"] or c["unknown"] for c in wanted.values())
    assert report.is_whole is not (has_gaps or bool(faults))
    if kind in EXACT:
        missed = sum(channel.missed for channel in found.channels)
        assert missed == sum(each.last - each.first + 1 for each in lost)
        assert missed + sum(channel.unknown for channel in found.channels) > 0
    if kind in BOOKS:
        book = next(c.book for c in found.channels if c.channel == rig.channel)
        assert book is not None
        assert book.verified > 0
    assert (found.clock_steps, found.damage, found.losses) == (0, [], [])


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@each_size("starts", short=[3], full=[30], timeout=900)
def test_a_check_finds_the_gaps_between_killed_recorders(tmp_path: Path, starts: int) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    dropped = 0
    with FakeVenue() as venue, Publisher(venue):
        for _ in range(starts):
            arguments = [venue.url, str(tmp_path), "0.2"]
            with subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments]) as process:
                try:
                    until(lambda: bool(venue.subscribers("a")), PATIENCE)
                    time.sleep(chance.uniform(0.5, 1.0))
                    count = chance.randrange(1, 9)
                    for peer in venue.live:
                        peer.lose(count)
                    dropped += count
                    time.sleep(1.0)
                finally:
                    process.kill()
            until(lambda: not venue.live, PATIENCE)
    recordings, _ = recordings_of(tmp_path)
    numbers = [sequences(recording) for recording in recordings]
    inside = [sum(b - a - 1 for a, b in pairwise(each)) for each in numbers]
    report = check(tmp_path)
    channels = [channel for found in report.recordings for channel in found.channels]
    assert [channel.missed for channel in channels] == inside
    assert sum(inside) == dropped
    assert [channel.unknown for channel in channels] == [0] + [1] * (starts - 1)
    assert [channel.messages for channel in channels] == [len(each) for each in numbers]
    assert not report.is_whole
