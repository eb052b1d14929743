"""A recorder whose process is killed: what can be read, and what the next one says."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.helpers import until
from support.killed import PROGRAM, Publisher, sequences
from support.matrix import each_size
from wsclient.recording.folder import SUFFIX, Recording, recordings_of
from wsclient.recording.records import ClientState, Lost
from wsclient.testing import FakeVenue

SEED = random.randrange(10**6)
CHUNK = 0.5
#: Of the loss (s), beside a chunk: the thread's nap, the write, and the way of the last messages.
SLACK = 0.25
PATIENCE = 20.0


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@each_size("kills", short=[4], full=[50], timeout=900)
def test_a_killed_recorder_loses_its_last_moments_only(tmp_path: Path, kills: int) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    worst = 0.0
    with FakeVenue() as venue, Publisher(venue) as publisher:
        for number in range(kills):
            arguments = [venue.url, str(tmp_path), str(CHUNK)]
            with subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments]) as process:
                try:
                    until(lambda: bool(venue.subscribers("a")), PATIENCE)
                    time.sleep(chance.uniform(2 * CHUNK, 4 * CHUNK))
                finally:
                    process.kill()
                    killed_at = time.monotonic()
            until(lambda: not venue.live, PATIENCE)
            recordings, _ = recordings_of(tmp_path)
            assert len(recordings) == number + 1
            found = sequences(recordings[-1])
            assert found == list(range(found[0], found[-1] + 1))
            worst = max(worst, killed_at - publisher.times[found[-1]])
            check_beginning(recordings)
    print(f"{kills} kills, at most {worst:.2f} s lost")
    assert worst <= CHUNK + SLACK
    *finished, last = sorted(tmp_path.iterdir())
    assert all(path.name.endswith(SUFFIX) for path in finished)
    assert last.name.endswith(".part")


def check_beginning(recordings: list[Recording]) -> None:
    """The last recording says what was missed since the one before it, and the first nothing."""
    records = [entry.record for entry in recordings[-1].read()]
    lost = [record for record in records if isinstance(record, Lost)]
    if len(recordings) == 1:
        assert lost == []
        return
    (gap,) = lost
    assert records[0] is gap
    assert gap.is_unknown
    assert gap.since == recordings[-2].end
    assert isinstance(records[1], ClientState)
