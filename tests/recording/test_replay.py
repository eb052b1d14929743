"""A recording that is played as a client, made by hand."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsclient
from support.madefiles import BEGIN, MadeRecording
from wsclient.errors import (
    ClientClosed,
    ConfigurationError,
    NotSupported,
    RecordingEnded,
    SubscriptionRejected,
    WaitTimeout,
)
from wsclient.events import Connected, Disconnected
from wsclient.messages import Gap, Message
from wsclient.recording.records import BookSnapshot, Happened, Lost

SECOND = 10**9


def data(channel: str, sequence: int, **fields: Any) -> dict[str, Any]:
    return {"channel": channel, "type": "market_data", "sequence": sequence, **fields}


def seen(message: Message) -> tuple[str, int | None, Gap | None]:
    return message.channel, message.sequence, message.gap


def numbers(messages: list[Message]) -> list[tuple[str, int | None]]:
    return [(message.channel, message.sequence) for message in messages]


def test_it_gives_the_recorded_messages(tmp_path: Path) -> None:
    gap = Gap("sequence", 2, BEGIN)
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1, price=1.5), connection_id=3)
        made.frame(data("a", 4), gap=gap, connection_id=4)
        made.frame({"type": "heartbeat"})
    with wsclient.open_recording(tmp_path) as client:
        first, second = client
    assert [seen(first), seen(second)] == [("a", 1, None), ("a", 4, gap)]
    assert (first.received_at, first.connection_id, first.data["price"]) == (BEGIN, 3, 1.5)
    assert (second.received_at, second.connection_id) == (BEGIN + made.step, 4)


def test_what_was_not_recorded_is_a_gap_of_its_channels(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
        made.frame(data("b", 1))
        made.note(Lost(at=0, why="the disk was too slow", channels={"a": 3}))
        made.frame(data("b", 2))
        made.frame(data("a", 5))
        made.frame(data("a", 6))
    found = [seen(message) for message in wsclient.open_recording(tmp_path)]
    assert found[2:] == [("b", 2, None), ("a", 5, Gap("recorder", 3, BEGIN)), ("a", 6, None)]


def test_a_gap_of_the_recorder_adds_to_one_of_the_venue(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
        made.note(Lost(at=0, why="the disk was too slow", channels={"a": 2}))
        made.frame(data("a", 6), gap=Gap("sequence", 2, BEGIN + 1))
    _, message = wsclient.open_recording(tmp_path)
    assert message.gap is not None
    assert (message.gap.reason, message.gap.missed) == ("sequence", 4)


def test_a_second_run_of_the_recorder_begins_with_a_gap(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, session="one") as made:
        made.frame(data("a", 1))
    with MadeRecording(tmp_path, session="two", begin=BEGIN + 60 * SECOND) as made:
        made.note(Lost(at=0, why="no recorder ran", since=BEGIN, is_unknown=True))
        made.frame(data("a", 9))
    found = [seen(message) for message in wsclient.open_recording(tmp_path)]
    assert found == [("a", 1, None), ("a", 9, Gap("recorder", None, BEGIN))]


def test_each_file_numbers_its_topics_anew(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, number=1) as made:
        for sequence in range(1, 6):
            made.frame(data("a", sequence))
            made.frame(data("b", sequence))
    with MadeRecording(tmp_path, number=2, begin=BEGIN + SECOND) as made:
        for sequence in range(6, 11):
            made.frame(data("b", sequence))
            made.frame(data("a", sequence))
    client = wsclient.open_recording(tmp_path)
    found = numbers(list(client))
    assert [n for channel, n in found if channel == "a"] == list(range(1, 11))
    assert [n for channel, n in found if channel == "b"] == list(range(1, 11))
    assert found[10] == ("b", 6)
    assert client.stats().channels["a"].messages == 10


def test_between_takes_times_in_three_forms(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, step=SECOND) as made:
        for sequence in range(10):
            made.frame(data("a", sequence))
    begin = datetime.fromtimestamp(BEGIN // SECOND, timezone.utc)
    forms: list[tuple[Any, Any]] = [
        (BEGIN + 2 * SECOND, BEGIN + 5 * SECOND),
        (begin + timedelta(seconds=2), begin + timedelta(seconds=5)),
        ("2026-01-02T03:04:07", "2026-01-02 03:04:10Z"),
    ]
    for start, end in forms:
        found = list(wsclient.open_recording(tmp_path).between(start, end))
        assert [message.sequence for message in found] == [2, 3, 4]


@pytest.mark.parametrize(
    "given", [datetime(2026, 1, 2), "yesterday", 1.5, True], ids=["naive", "text", "float", "bool"]
)
def test_between_refuses_what_is_no_time(tmp_path: Path, given: Any) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
    with pytest.raises(ConfigurationError):
        wsclient.open_recording(tmp_path).between(given)


def test_without_a_subscription_all_channels_come_and_with_one_only_its_own(
    tmp_path: Path,
) -> None:
    with MadeRecording(tmp_path) as made:
        for sequence in range(3):
            made.frame(data("a", sequence))
            made.frame(data("b", sequence))
    client = wsclient.open_recording(tmp_path)
    client.subscribe("b")
    assert numbers(list(client)) == [("b", 0), ("b", 1), ("b", 2)]
    assert numbers(list(wsclient.open_recording(tmp_path, channels=["a"]))) == [
        ("a", 0), ("a", 1), ("a", 2),
    ]  # fmt: skip


def test_an_unknown_channel_is_refused_with_the_close_ones(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("BTC-USD", 1))
    with pytest.raises(SubscriptionRejected, match="BTC-USD"):
        wsclient.open_recording(tmp_path).subscribe("BTC-USDT")


def test_nothing_is_ahead_of_the_message_at_hand(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, step=SECOND) as made:
        for sequence in range(50):
            made.frame(data("a", sequence))
            made.frame(data("b", sequence))
    client = wsclient.open_recording(tmp_path)
    for count, message in enumerate(client, 1):
        assert client.latest(message.channel) is message
        assert client.age(message.channel) == 0.0
        assert client.stats().messages == count
        newest_b = client.latest("b")
        assert (newest_b is None) == (count == 1)


def test_two_venues_are_merged_by_time(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, "generic", session="g", step=2 * SECOND) as made:
        for sequence in range(3):
            made.frame(data("a", sequence))
    with MadeRecording(tmp_path, "kraken", session="k", step=2 * SECOND, begin=BEGIN + SECOND) as k:
        for price in range(3):
            k.frame({
                "channel": "trade", "type": "update",
                "data": [{"symbol": "BTC/USD", "side": "buy", "price": price + 0.5, "qty": 1.0,
                          "ord_type": "limit", "trade_id": price,
                          "timestamp": "2026-01-02T03:04:05.123456Z"}],
            })  # fmt: skip
    found = list(wsclient.open_recording(tmp_path))
    assert [message.channel for message in found] == ["a", "trade:BTC/USD"] * 3
    trades = found[1].trades()
    assert trades is not None
    assert (trades[0].venue, str(trades[0].price)) == ("kraken", "0.5")


def test_the_same_channel_of_two_clients_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with MadeRecording(tmp_path, session=name, name=name) as made:
            made.frame(data("a", 1))
            made.frame(data(name, 1))
    with pytest.raises(ConfigurationError, match="'a'"):
        wsclient.open_recording(tmp_path)
    assert len(list(wsclient.open_recording(tmp_path, channels=["one"]))) == 1


def test_damage_is_skipped_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with MadeRecording(tmp_path, chunk_size=200) as made:
        for sequence in range(40):
            made.frame(data("a", sequence))
    content = bytearray(made.path.read_bytes())
    content[content.index(b"zstd", len(content) // 3) + 30] ^= 0xFF
    made.path.write_bytes(content)
    client = wsclient.open_recording(tmp_path)
    with caplog.at_level(logging.WARNING, "wsclient"):
        found = list(client)
    assert 0 < len(found) < 40
    gaps = [message.gap for message in found if message.gap is not None]
    assert [(gap.reason, gap.missed) for gap in gaps] == [("recorder", None)]
    assert [damaged.path for damaged in client.damage] == [made.path]
    assert "damaged recording" in caplog.text


def test_a_torn_file_is_played_to_its_end(tmp_path: Path) -> None:
    made = MadeRecording(tmp_path)
    for sequence in range(5):
        made.frame(data("a", sequence))
    path = made.leave()
    path.write_bytes(path.read_bytes() + b"\x06torn")
    client = wsclient.open_recording(tmp_path)
    assert [message.sequence for message in client] == list(range(5))
    assert client.damage


def test_timeouts_are_in_recorded_time(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
        made.wait(3600)
        made.frame(data("a", 2))
    client = wsclient.open_recording(tmp_path)
    client.recv(timeout=1)
    with pytest.raises(WaitTimeout):
        client.recv(timeout=3599)
    assert client.recv(timeout=2).sequence == 2


def test_after_the_end_recv_says_so(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
    client = wsclient.open_recording(tmp_path)
    assert len(list(client)) == 1
    with pytest.raises(RecordingEnded):
        client.recv()
    with pytest.raises(ClientClosed):
        client.recv(timeout=0)


def test_close_ends_it_and_it_can_be_opened_again(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        for sequence in range(5):
            made.frame(data("a", sequence))
    client = wsclient.open_recording(tmp_path)
    client.recv()
    client.close()
    with pytest.raises(ClientClosed):
        client.recv()
    assert len(list(wsclient.open_recording(tmp_path))) == 5


def test_what_needs_a_connection_is_not_supported(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
    client = wsclient.open_recording(tmp_path)
    for call in (client.rotate, lambda: client.send("x"), lambda: client.request({})):
        with pytest.raises(NotSupported, match="RecordedClient"):
            call()


def test_functions_are_called_at_their_message_in_order(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        for sequence in range(3):
            made.frame(data("a", sequence))
            made.frame(data("b", sequence))
    client = wsclient.open_recording(tmp_path)
    calls: list[tuple[str, int | None]] = []
    client.on(["a", "b"], lambda message: calls.append((message.channel, message.sequence)))
    client.wait()
    assert calls == [(channel, n) for n in range(3) for channel in "ab"]


def test_events_are_emitted_where_they_happened(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        opened = {"attempt": 1, "route": ""}
        made.note(Happened(at=0, name="Connected", fields=opened, connection_id=7, number=1))
        made.frame(data("a", 1))
        why = {"why": "gone", "reason": "closed", "code": 1000, "data_age": None}
        made.note(Happened(at=0, name="Disconnected", fields=why, connection_id=7, number=2))
        made.note(Happened(at=0, name="FromTheFuture", fields={"x": 1}))
        made.frame(data("a", 2))
    client = wsclient.open_recording(tmp_path)
    order: list[Any] = []
    client.on_event(order.append, Connected, Disconnected)
    client.on("a", lambda message: order.append(message.sequence))
    client.wait()
    kinds = [each if isinstance(each, int) else type(each).__name__ for each in order]
    assert kinds == ["Connected", 1, "Disconnected", 2]


def test_two_readers_on_two_threads_get_everything(tmp_path: Path) -> None:
    count = 3000
    with MadeRecording(tmp_path) as made:
        for sequence in range(count):
            made.frame(data("a", sequence))
            made.frame(data("b", sequence))
    client = wsclient.open_recording(tmp_path, queue_size=16)
    readers = [client.reader(channel) for channel in "ab"]
    found: dict[str, list[Message]] = {}
    both_read = threading.Barrier(2, timeout=30)

    def read(reader: wsclient.Reader) -> None:
        # Nobody waits for a queue that no thread reads yet.
        first = reader.recv()
        both_read.wait()
        found[reader.channels[0]] = [first, *reader]

    threads = [threading.Thread(target=read, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {name: [m.sequence for m in got] for name, got in found.items()} == {
        channel: list(range(count)) for channel in "ab"
    }
    assert not any(message.gap for got in found.values() for message in got)


def test_a_speed_paces_it_and_close_wakes_it(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
        made.wait(3600)
        made.frame(data("a", 2))
    client = wsclient.open_recording(tmp_path).play(speed=1)
    assert client.recv().sequence == 1
    woken: list[BaseException] = []

    def wait() -> None:
        try:
            client.recv()
        except ClientClosed as error:
            woken.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    client.close()
    thread.join(10)
    assert not thread.is_alive()
    assert len(woken) == 1


def kraken_book(kind: str, bid: float, ask: float) -> dict[str, Any]:
    sides = {"bids": [{"price": bid, "qty": 1.0}], "asks": [{"price": ask, "qty": 1.0}]}
    return {"channel": "book", "type": kind, "data": [{"symbol": "BTC/USD", **sides}]}


def test_a_book_in_a_later_run_is_caught_up_from_that_run(tmp_path: Path) -> None:
    for number, begin in enumerate((BEGIN, BEGIN + 60 * SECOND)):
        with MadeRecording(tmp_path, "kraken", session=f"s{number}", begin=begin) as made:
            made.note(Lost(at=0, why="no recorder ran", is_unknown=True))
            base = 100.0 - 50 * number
            made.frame(kraken_book("snapshot", base, base + 1))
            for step in range(1, 5):
                made.frame(kraken_book("update", base - step, base + 1 + step))
    client = wsclient.open_recording(tmp_path).between(BEGIN + 60 * SECOND + 4 * made.step)
    book = client.order_book("BTC/USD", verify_checksum=False)
    for _ in client:
        pass
    assert (book.best_bid, book.best_ask) == ((50, 1), (51, 1))
    assert [str(level.price) for level in book.bids()] == ["50.0", "49.0", "48.0", "47.0", "46.0"]


def test_a_book_is_the_same_wherever_the_playback_begins(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, "kraken", chunk_size=700) as made:
        for step in range(24):
            kind = "update" if step % 9 else "snapshot"
            made.frame(kraken_book(kind, 100.0 - step, 101.0 + step))

    def books(client: wsclient.RecordedClient) -> dict[int, Any]:
        book = client.order_book("BTC/USD", verify_checksum=False)
        client.subscribe("book:BTC/USD")
        return {m.received_at: (book.bids(), book.asks()) for m in client}

    whole = books(wsclient.open_recording(tmp_path))
    for step in range(1, 24):
        start = BEGIN + step * made.step
        found = books(wsclient.open_recording(tmp_path).between(start))
        assert found == {at: what for at, what in whole.items() if at >= start}


#: What a made recording holds: a message of a channel with a gap or not, a loss, or a new file.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("message"), st.sampled_from("abc"), st.booleans()),
        st.tuples(st.just("lost"), st.sampled_from("abc"), st.booleans()),
        st.tuples(st.just("file"), st.just(""), st.just(False)),
    ),
    max_size=40,
)


@given(STEPS, st.sets(st.sampled_from("abc")), st.integers(0, 45))
def test_the_fast_path_gives_what_the_careful_path_does(
    tmp_path_factory: pytest.TempPathFactory,
    steps: list[tuple[str, str, bool]],
    chosen: set[str],
    skipped: int,
) -> None:
    folder = tmp_path_factory.mktemp("made")
    number, made = 1, MadeRecording(folder, chunk_size=300)
    for index, (step, channel, flag) in enumerate(steps):
        if step == "message":
            gap = Gap("sequence", 1, BEGIN) if flag else None
            made.frame(data(channel, index), gap=gap)
        elif step == "lost":
            lost = {} if flag else {channel: index + 1}
            made.note(Lost(at=0, why="x", channels=lost, is_unknown=flag))
        else:
            time, number = made.time, number + 1
            made.finish()
            made = MadeRecording(folder, number=number, begin=time, chunk_size=300)
    made.finish()
    known = {channel for step, channel, _ in steps if step == "message"}

    def played() -> wsclient.RecordedClient:
        client = wsclient.open_recording(folder)
        if skipped:
            client.between(BEGIN + skipped * made.step)
        if chosen & known:
            client.subscribe(*chosen & known)
        return client

    def newest(client: wsclient.RecordedClient) -> list[int | None]:
        found = (client.latest(channel) for channel in sorted(known))
        return [None if message is None else message.received_at for message in found]

    fast, careful = played(), played()
    quickly = [(*seen(m), m.received_at, m.previous_at, newest(fast)) for m in fast]
    carefully = []
    while True:  # recv() never takes the fast path
        try:
            message = careful.recv()
        except RecordingEnded:
            break
        times = message.received_at, message.previous_at
        carefully.append((*seen(message), *times, newest(careful)))
    assert quickly == carefully
    one, other = fast.stats(), careful.stats()
    assert (one.messages, one.gaps, one.missed, one.bytes) == (
        other.messages, other.gaps, other.missed, other.bytes,
    )  # fmt: skip
    assert {n: c.messages for n, c in one.channels.items()} == {
        n: c.messages for n, c in other.channels.items()
    }


@pytest.mark.parametrize("start", [0, 2, 4])
def test_a_book_begins_with_the_recorded_one(tmp_path: Path, start: int) -> None:
    """The recorder began after the snapshot of the venue."""
    with MadeRecording(tmp_path, "kraken") as made:
        made.frame(kraken_book("update", 100.0, 101.0))
        held = [(f"{price}.0", "1.0") for price in (100, 99, 98)]
        asks = [("101.0", "1.0"), ("102.0", "1.0")]
        made.note(
            BookSnapshot(
                at=made.at, channel="book:BTC/USD", bids=held, asks=asks, origin=1,
                received_at=made.time - made.step, options={"depth": 10},
            )
        )  # fmt: skip
        for step in range(1, 6):
            made.frame(kraken_book("update", 100.0 + step / 10, 101.0 + step / 10))
    client = wsclient.open_recording(tmp_path).between(BEGIN + start * made.step)
    book = client.order_book("BTC/USD", depth=10, verify_checksum=False)
    for _ in client:
        pass
    assert [str(level.price) for level in book.bids()] == [
        *("100.5", "100.4", "100.3", "100.2", "100.1", "100.0", "99.0", "98.0")
    ]
