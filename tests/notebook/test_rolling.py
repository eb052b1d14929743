"""A rolling frame keeps the newest rows of a channel, beside the client's own queue."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars
import pytest

import wsclient
from support.helpers import until
from support.madefiles import MadeRecording
from support.priced import READERS, Priced
from wsclient import RollingFrame, State
from wsclient.errors import ConfigurationError, NotConnected, SubscriptionRejected
from wsclient.messages import Gap
from wsclient.recording.columns import TABLES
from wsclient.testing import FakeVenue

OPTIONS: dict[str, Any] = {"dialect": Priced(), "retry_delay": 0.01, "max_retry_delay": 0.05}


@pytest.fixture(scope="module", autouse=True)
def _started() -> None:
    """Start the threads of polars, which stay for the process."""
    polars.DataFrame({"a": [1]}).with_columns(polars.col("a") + 1)


@pytest.fixture
def client(venue: FakeVenue) -> Iterator[wsclient.WebSocketClient]:
    with wsclient.connect(venue.url, **OPTIONS) as client:
        yield client


def publish(venue: FakeVenue, frame: RollingFrame, *prices: str) -> None:
    """Publish trades, and wait until the frame has them."""
    before = len(frame) + frame.dropped
    for price in prices:
        venue.publish(frame.channel, price=price)
    until(lambda: len(frame) + frame.dropped == before + len(prices))


def prices(frame: RollingFrame) -> list[float]:
    found: list[float] = frame.to_pandas()["price"].tolist()
    return found


@pytest.mark.parametrize("call", READERS)
def test_it_has_the_rows_of_its_channel(venue: FakeVenue, client: Any, call: str) -> None:
    frame = client.frame("a")
    publish(venue, frame, "1.5", "2.5")
    found = READERS[call](getattr(frame, call)())
    assert [(row["channel"], row["message"], row["price"]) for row in found] == [
        ("a", 1, 1.5),
        ("a", 2, 2.5),
    ]
    publish(venue, frame, "3.25")
    exact = READERS[call](getattr(frame, call)(decimal=True))
    assert [str(float(row["price"])) for row in exact] == ["1.5", "2.5", "3.25"]


def test_it_keeps_the_newest_rows_and_counts_the_others(venue: FakeVenue, client: Any) -> None:
    frame = client.frame("a", maxlen=3)
    publish(venue, frame, "1", "2", "3", "4", "5")
    assert (prices(frame), len(frame), frame.dropped) == ([3, 4, 5], 3, 2)
    venue.publish("a", prices=["6", "7", "8", "9"])  # one message
    until(lambda: frame.dropped == 6)
    assert prices(frame) == [7, 8, 9]


def test_its_kind_is_that_of_its_messages(venue: FakeVenue, client: Any) -> None:
    frame = client.frame("a")
    assert (frame.kind, len(frame), list(frame.to_pandas())) == (
        "raw", 0, [column.name for column in TABLES["raw"].columns],
    )  # fmt: skip
    venue.publish("a", other=1)
    until(lambda: len(frame) == 1)
    assert (frame.kind, frame.to_pandas()["raw"][0][:1]) == ("raw", b"{")
    venue.publish("a", bid="2.5")
    until(lambda: frame.kind == "quotes")
    assert frame.to_pandas()["bid_price"].tolist() == [2.5]
    assert len(frame.to_pandas("raw")) == 1
    with pytest.raises(ConfigurationError, match="kind must be one of"):
        frame.to_pandas("trade")


def test_it_takes_nothing_from_the_clients_queue(venue: FakeVenue, client: Any) -> None:
    client.subscribe("a")
    frame, other = client.frame("a"), client.frame("a", maxlen=1)
    publish(venue, frame, "1", "2")
    until(lambda: other.dropped == 1)
    assert (prices(frame), prices(other)) == ([1, 2], [2])
    assert [message.data["price"] for message in client.collect(seconds=1, count=2)] == ["1", "2"]
    other.close()
    publish(venue, frame, "3")
    assert (prices(frame), prices(other)) == ([1, 2, 3], [2])


def test_a_channel_of_a_frame_alone_is_not_in_the_clients_queue(
    venue: FakeVenue, client: Any
) -> None:
    frame = client.frame("a")
    publish(venue, frame, "1")
    assert client.stats().queued == 0


def test_a_gap_is_on_the_first_row_after_it(venue: FakeVenue, client: Any) -> None:
    frame = client.frame("a")
    publish(venue, frame, "1")
    venue.live[0].lose(1)
    venue.publish("a", price="9")
    publish(venue, frame, "2", "3")
    found = frame.to_pandas()
    assert found["gap_missed"].isna().tolist() == [True, False, True]
    assert (found["gap_reason"][1], found["gap_missed"][1]) == ("sequence", 1)
    assert found["gap_since"][1] == found["received_at"][0]


def test_a_message_that_cannot_be_read_is_among_the_raw_ones(
    venue: FakeVenue, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    frame = client.frame("a")
    venue.publish("a", price="x")
    venue.publish("a", price="y")
    venue.publish("a", price="3")
    until(lambda: frame.kind == "trades")
    assert (prices(frame), len(frame.to_pandas("raw")), frame.unreadable) == ([3], 2, 2)
    said = [r.getMessage() for r in caplog.records if "cannot be read" in r.getMessage()]
    assert len(said) == 1
    assert "'raw'" in said[0]


# The end.


def test_close_unsubscribes_and_keeps_the_rows(venue: FakeVenue, client: Any) -> None:
    with client.frame("a") as frame:
        publish(venue, frame, "1")
    until(lambda: "a" not in client.subscriptions)
    assert prices(frame) == [1]
    assert repr(frame) == "<RollingFrame of a: 1 trades row, closed>"
    frame.close()
    again = client.frame("a")
    assert repr(again) == "<RollingFrame of a: no rows yet>"
    publish(venue, again, "2")
    assert (prices(frame), prices(again)) == ([1], [2])


def test_a_frame_that_nothing_refers_to_is_closed(venue: FakeVenue, client: Any) -> None:
    frame = client.frame("a")
    publish(venue, frame, "1")
    del frame
    until(lambda: "a" not in client.subscriptions)


def test_it_has_its_rows_after_the_end_of_the_client(venue: FakeVenue, client: Any) -> None:
    frame = client.frame("a", maxlen=2)
    publish(venue, frame, "1", "2", "3")
    assert repr(frame) == "<RollingFrame of a: 2 trades rows, 1 dropped>"
    client.close()
    assert prices(frame) == [2, 3]
    assert repr(frame) == "<RollingFrame of a: 2 trades rows, 1 dropped, closed>"
    frame.close()


def test_it_does_not_keep_the_client_alive(venue: FakeVenue) -> None:
    client = wsclient.connect(venue.url, **OPTIONS)
    frame, reference = client.frame("a"), weakref.ref(client)
    publish(venue, frame, "1")
    del client
    until(lambda: gc.collect() or reference() is None)
    venue.wait_for(lambda v: not v.live)
    until(lambda: "closed" in repr(frame))
    assert prices(frame) == [1]


@pytest.mark.parametrize("maxlen", [0, 1.5, "3", None])
def test_a_length_that_cannot_work_is_refused(client: Any, maxlen: Any) -> None:
    with pytest.raises(ConfigurationError, match="maxlen must be a whole number from 1 up"):
        client.frame("a", maxlen=maxlen)


@pytest.mark.parametrize("channel", [["a"], None])
def test_it_takes_one_channel(client: Any, channel: Any) -> None:
    with pytest.raises(ConfigurationError, match="a channel must be text"):
        client.frame(channel)


def test_a_refused_channel_leaves_nothing(venue: FakeVenue, client: Any) -> None:
    venue.refuse_channel("a", "no such channel")
    with pytest.raises(SubscriptionRejected):
        client.frame("a")
    assert client.subscriptions == {}


def test_it_needs_a_connection(venue: FakeVenue) -> None:
    with pytest.raises(NotConnected):
        wsclient.WebSocketClient(venue.url).frame("a")


def test_rows_may_be_asked_for_while_others_come(venue: FakeVenue, client: Any) -> None:
    frame, is_over = client.frame("a", maxlen=50), threading.Event()

    def feed() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            venue.publish("a", price=str(number))

    feeding = threading.Thread(target=feed)
    feeding.start()
    try:
        until(lambda: frame.dropped)
        for _ in range(20):
            found = frame.to_polars()["message"].to_list()
            assert found == list(range(found[0], found[0] + 50))
    finally:
        is_over.set()
        feeding.join()
    assert client.state is State.OPEN


def test_a_recording_fills_it_while_it_is_played(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        for number in range(1, 5):
            gap = Gap("reconnect") if number == 3 else None
            made.frame({"channel": "a", "type": "market_data", "sequence": number}, gap=gap)
    with wsclient.open_recording(tmp_path) as client:
        frame = client.frame("a", maxlen=3)
        client.wait()
    found = frame.to_pandas()
    assert found["sequence"].tolist() == [2, 3, 4]
    assert found["gap_reason"].notna().tolist() == [False, True, False]
