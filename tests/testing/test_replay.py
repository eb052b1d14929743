"""Recordings of a client: their items, their messages, and what a replay of them sends."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

import wsclient
from support.helpers import until
from support.madefiles import BEGIN, MadeRecording
from wsclient.messages import Gap, Message
from wsclient.recording.records import Answer, BookSnapshot, ClientState, Happened, Lost, SentFrame
from wsclient.testing import FakeVenue, Replay, messages_of, read_recording


def row(n: int, channel: str = "a") -> dict[str, Any]:
    return {"type": "market_data", "channel": channel, "sequence": n, "price": n}


def text(n: int, channel: str = "a") -> str:
    return json.dumps(row(n, channel))


def event(name: str, on: int = 1, **fields: Any) -> Happened:
    return Happened(at=0, name=name, fields=fields, connection_id=on)


def disconnected(on: int = 1, code: int = 1006, reason: str = "ended") -> Happened:
    return event("Disconnected", on, why="it went away", reason=reason, code=code, data_age=None)


# Reading.


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A folder with two files of one session, the second torn."""
    with MadeRecording(tmp_path) as made:
        made.note(event("Connected", attempt=1))
        made.note(SentFrame(at=0, connection_id=1, payload=b'{"type":"subscribe"}'))
        made.frame({"type": "heartbeat"}, is_delivered=False)
        made.frame(row(1))
        (copy,) = made.frame(row(2), connection_id=2)
        made.messages(copy.raw, [], connection_id=1)
        time, at = made.time, made.at
    second = MadeRecording(tmp_path, number=2, begin=time)
    second.at = at
    (held,) = second.frame(row(3), connection_id=2, is_delivered=False)
    second.messages(held.raw, [held], connection_id=2, is_repeated=True)
    second.note(Answer(at=0, channel="a", connection_id=1, body=b'{"bids":[]}'))
    second.note(disconnected())
    second.leave()
    return tmp_path


def test_the_items_of_a_folder_are_each_frame_once_and_what_else_happened(recorded: Path) -> None:
    items = read_recording(recorded)
    assert [(i.direction, i.connection_id, i.payload.decode()) for i in items] == [
        ("connected", 1, ""),
        ("sent", 1, '{"type":"subscribe"}'),
        ("received", 1, '{"type": "heartbeat"}'),
        ("received", 1, text(1)),
        ("received", 2, text(2)),
        ("received", 1, text(2)),
        ("received", 2, text(3)),
        ("http", 1, '{"bids":[]}'),
        ("disconnected", 1, "it went away"),
    ]
    times = [item.time for item in items if item.time is not None]
    assert times[:3] == [BEGIN, BEGIN + 10**6, BEGIN + 2 * 10**6]
    assert times == sorted(times)
    assert {i.uri for i in items if i.direction == "sent"} == {"wss://venue.example/ws"}


@pytest.mark.parametrize(
    ("form", "part"),
    [
        ("*.mcap*", slice(None)),
        ("*-0001.mcap", slice(6)),
        ("generic-session-1-0001.mcap", slice(6)),
        ("generic-session-1-0002.mcap.part", slice(6, None)),
    ],
)
def test_a_file_and_a_glob_are_read_as_the_folder_is(
    recorded: Path, form: str, part: slice
) -> None:
    assert read_recording(str(recorded / form)) == read_recording(str(recorded))[part]


def test_the_items_become_messages_with_times_and_connections(recorded: Path) -> None:
    messages = messages_of(read_recording(recorded), "generic")
    assert [(m.channel, m.sequence, m.connection_id, m.data["price"]) for m in messages] == [
        ("a", 1, 1, 1), ("a", 2, 2, 2), ("a", 2, 1, 2), ("a", 3, 2, 3)
    ]  # fmt: skip
    assert [m.received_at for m in messages[:2]] == [BEGIN + 3 * 10**6, BEGIN + 4 * 10**6]
    assert isinstance(messages[0], Message)


def test_the_items_of_lines_become_messages_too() -> None:
    lines = [f"1.5: {text(1)}", f"wss://venue/ws <- 2: {text(9)}", f"2.5: {text(2)}"]
    first, second = messages_of(read_recording(lines), "generic")
    assert (first.sequence, first.received_at) == (1, 1_500_000_000)
    assert (second.sequence, second.received_at) == (2, 2_500_000_000)
    assert second.data["price"] == 2


def test_an_alias_of_the_venue_becomes_the_channel() -> None:
    lines = [
        "wss://venue/ws <-> 1",
        '2: {"event":"subscribed","channel":"trades","chanId":17,"symbol":"tBTCUSD"}',
        '3: [17,"te",[1,2,0.5,100],5]',
    ]
    (message,) = messages_of(read_recording(lines), "bitfinex")
    assert message.channel == "trades:tBTCUSD"


def test_an_unreadable_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a message of generic"):
        messages_of(read_recording(['{"type": 5']), "generic")


def test_a_folder_without_a_recording_is_a_value_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recording"):
        read_recording(tmp_path)


# Replaying.


def subscribe(client: Any, *channels: str) -> None:
    for channel in channels:
        client.send(json.dumps({"type": "subscribe", "channel": channel}))
        answer = json.loads(client.recv(timeout=5))
        assert (answer["type"], answer["channel"]) == ("subscription", channel)


Dial = Callable[..., Any]


def test_what_was_delivered_is_sent_once(recorded: Path, dial: Dial) -> None:
    replay = Replay(recorded, "generic")
    assert replay.lines == [text(1), text(2), text(3)]
    with FakeVenue(replay) as venue:
        client = dial(venue)
        subscribe(client, "a")
        replay.play(venue, 2)
        assert [client.recv(timeout=5) for _ in range(2)] == [text(1), text(2)]


def test_a_frame_of_several_channels_delivered_in_parts_is_sent_once(tmp_path: Path) -> None:
    frame = {
        "channel": "trade",
        "type": "update",
        "data": [{"symbol": "A/B", "trade_id": 1}, {"symbol": "C/D", "trade_id": 1}],
    }
    with MadeRecording(tmp_path, "kraken", step=0) as made:
        both = made.frame(frame, is_delivered=False)
        made.messages(both[0].raw, [both[1]], is_repeated=True)
        made.messages(both[0].raw, [both[0]], is_repeated=True)
    with MadeRecording(tmp_path, "kraken", session="2", begin=BEGIN + 10**12) as made:
        both = made.frame(frame)
    replay = Replay(tmp_path, "kraken")
    assert replay.lines == [json.dumps(frame)] * 2


@pytest.mark.parametrize(("code", "seen"), [(1001, 1001), (4000, 4000), (1006, 1006)])
def test_a_recorded_disconnect_is_a_real_one(
    tmp_path: Path, dial: Dial, code: int, seen: int
) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(row(1))
        made.note(disconnected(code=code))
        made.frame(row(2), connection_id=2, gap=Gap("reconnect"))
    replay = Replay(tmp_path, "generic")
    with FakeVenue(replay) as venue:
        client = dial(venue)
        subscribe(client, "a")
        thread = threading.Thread(target=replay.play, args=(venue,))
        thread.start()
        assert client.recv(timeout=5) == text(1)
        with pytest.raises(ConnectionClosed) as caught:
            client.recv(timeout=5)
        found = 1006 if caught.value.rcvd is None else caught.value.rcvd.code
        assert found == seen
        if seen != 1006:
            assert caught.value.rcvd is not None
            assert caught.value.rcvd.reason == "it went away"
        # The replay waits for the client.
        again = dial(venue)
        subscribe(again, "a")
        assert again.recv(timeout=5) == text(2)
        thread.join()
    assert replay.missed == 0


def test_only_the_connections_of_the_channels_are_cut(tmp_path: Path, dial: Dial) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(row(1, "a"), connection_id=1)
        made.frame(row(1, "b"), connection_id=2)
        made.note(disconnected(1, 1001))
        made.frame(row(2, "b"), connection_id=2)
    replay = Replay(tmp_path, "generic")
    with FakeVenue(replay) as venue:
        one, other = dial(venue), dial(venue)
        subscribe(one, "a")
        subscribe(other, "b")
        replay.play(venue, 2)
        thread = threading.Thread(target=replay.play, args=(venue,))
        thread.start()
        until(lambda: venue.peers[0].ended_by is not None)
        subscribe(dial(venue), "a")
        thread.join()
        assert [other.recv(timeout=5) for _ in range(2)] == [text(1, "b"), text(2, "b")]
        assert [peer.ended_by for peer in venue.peers] == ["close 1001", None, None]


def test_the_end_of_a_replaced_connection_is_no_disconnect(tmp_path: Path, dial: Dial) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(row(1), connection_id=1)
        made.frame(row(2), connection_id=2)
        made.note(disconnected(1, 1000))  # its channel is on the other connection
        made.note(disconnected(2, 1000, "rotated"))
        made.frame(row(3), connection_id=3)
    replay = Replay(tmp_path, "generic")
    with FakeVenue(replay) as venue:
        client = dial(venue)
        subscribe(client, "a")
        replay.play(venue)
        assert [client.recv(timeout=5) for _ in range(3)] == [text(n) for n in (1, 2, 3)]


def test_what_the_recorder_has_lost_is_a_disconnect(tmp_path: Path, dial: Dial) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(row(1))
        made.note(Lost(at=0, why="the disk is full", channels={"a": 2}))
        made.frame(row(4))
    replay = Replay(tmp_path, "generic")
    with FakeVenue(replay) as venue, wsclient.connect(venue.url, retry_delay=0.01) as client:
        client.subscribe("a")
        replay.play(venue)
        first, second = client.recv(timeout=5), client.recv(timeout=5)
        assert (first.sequence, second.sequence) == (1, 4)
        assert second.gap is not None
        assert client.stats().disconnects == 1


def test_disconnects_happen_again_after_a_rewind(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(row(1))
        made.note(disconnected(1, 1001))
        made.frame(row(2), connection_id=2)
    replay = Replay(tmp_path, "generic")
    with FakeVenue(replay) as venue, wsclient.connect(venue.url, retry_delay=0.01) as client:
        client.subscribe("a")
        replay.play(venue)
        replay.rewind()
        replay.play(venue)
        assert [client.recv(timeout=5).sequence for _ in range(2)] == [1, 2]
        assert client.stats().disconnects == 2


def test_recordings_of_another_venue_are_left_out(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(row(1))
    with MadeRecording(tmp_path, "kraken", session="2") as made:
        made.frame({"channel": "trade", "type": "update", "data": [{"symbol": "A", "trade_id": 1}]})
    assert Replay(tmp_path, "kraken").channels == ["trade:A"]
    assert Replay(tmp_path, "generic").channels == ["a"]
    with pytest.raises(ValueError, match="a recording of generic, kraken"):
        Replay(tmp_path, "okx")


# Books.


def test_a_recording_that_begins_amid_a_book_has_its_snapshot(tmp_path: Path) -> None:
    """The records before the first snapshot are in the file before, which is not there."""
    arg = {"channel": "books", "instId": "A-B"}

    def update(n: int, bid: str, size: str) -> dict[str, Any]:
        data = [{"asks": [], "bids": [[bid, size, "0", "1"]], "seqId": n, "prevSeqId": n - 1}]
        return {"arg": arg, "action": "update", "data": data}

    with MadeRecording(tmp_path, "okx") as made:
        made.note(ClientState(at=0, state="open"))
        made.frame(update(7, "10", "1"))
        made.note(
            BookSnapshot(
                at=0,
                channel="books:A-B",
                bids=[("9", "2")],
                asks=[("11", "3")],
                origin=1,
                sequence=6,
                received_at=made.time - 2_000_000,
            )
        )
        made.frame(update(8, "9", "5"))
    replay = Replay(tmp_path, "okx")
    with (
        FakeVenue(replay, channels=replay.channels) as venue,
        wsclient.connect(venue.url, dialect="okx") as client,
    ):
        replay.play(venue)
        found = client.order_book("A-B", timeout=5)
        assert [(str(p), str(s)) for p, s in found.bids()] == [("10", "1"), ("9", "5")]
        assert [(str(p), str(s)) for p, s in found.asks()] == [("11", "3")]
