"""Recordings hold exactly what the consumer got, in its order, through cuts and rotations."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

import wsclient
from support.helpers import until
from support.matrix import each_size
from support.oracle import CUTS
from support.recorded import head_of, heads_in, messages_in, records_in, the_recording
from support.rotating import BOOKS, PATIENCE, dialect_of, rig_of
from wsclient.messages import Arrival
from wsclient.recording.folder import Recording
from wsclient.recording.records import Answer, BookSnapshot, End, Frame
from wsclient.stream.inbound import Inbound
from wsclient.testing import KINDS

SEED = random.randrange(10**6)
RATE = 300.0


@pytest.mark.parametrize("kind", KINDS)
@each_size("faults", short=[6], full=[60], timeout=600)
def test_the_recording_is_what_the_consumer_got(tmp_path: Path, kind: str, faults: int) -> None:
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    with rig_of(kind, RATE, SEED, count=2) as rig:
        recorder = rig.client.record(tmp_path, state_seconds=0.2, chunk_seconds=0.1)
        for number in range(faults):
            rig.feed.wait(chance.randrange(5, 60), PATIENCE)
            if number and chance.random() < 0.5:  # after a cut, the recording has a whole book
                rig.client.rotate(timeout=PATIENCE)
            else:
                for peer in rig.venue.live:
                    CUTS[chance.choice(sorted(CUTS))](peer)
                until(lambda: rig.is_whole, PATIENCE)
        rig.feed.wait(200, PATIENCE)
        if kind in BOOKS:  # one is copied when the client has nothing else to do
            until(lambda: equal_books(the_recording(tmp_path), kind, rig.channel) > 0, PATIENCE)
        rig.finish()
        assert recorder.stats().lost_messages == 0
    assert recorder.is_closed
    recording = the_recording(tmp_path)
    assert recording.damage == []
    recorded = heads_in(recording)
    delivered = [head_of(message) for message in rig.delivered]
    assert len(recorded) > 200
    assert recorded == delivered[-len(recorded) :]
    assert len(records_in(recording, End)) == 1
    if kind in BOOKS:
        assert equal_books(recording, kind, rig.channel) > 0


def equal_books(recording: Recording, kind: str, channel: str) -> int:
    """Compare each recorded book with one that is fed with the recorded messages.

    Return how many were compared.
    """
    dialect = dialect_of(kind)
    decoder, compared = Inbound(dialect), 0
    book = wsclient.OrderBook(dialect, channel)
    for entry in recording.read():
        for message in messages_in(entry) if isinstance(entry.record, Frame) else ():
            message.arrival = Arrival(entry.time, entry.record.connection_id, decoder)
            book.apply(message)
        record = entry.record
        if isinstance(record, Answer):
            book.take_snapshot(msgspec.json.Decoder(float_hook=Decimal).decode(record.body))
        elif isinstance(record, BookSnapshot) and record.channel == channel and book.is_synced:
            sides = book.bids(), book.asks()
            found = [[(f"{p:f}", f"{s:f}") for p, s in side] for side in sides]
            assert found == [list(record.bids), list(record.asks)]
            compared += 1
    return compared
