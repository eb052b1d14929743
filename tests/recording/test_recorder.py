"""client.record(): what stands in the files, on good disks and bad ones."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wsclient
from support.canaries import TOKENS, found_in, secret_options, secret_url
from support.disk import Disk
from support.helpers import until
from support.recorded import heads_in, records_in, the_recording
from wsclient import dialects
from wsclient.events import RecorderFailed, RecorderLost, RecorderRecovered
from wsclient.recording.folder import recordings_of
from wsclient.recording.records import ClientState, End, Happened, Lost, SentFrame
from wsclient.testing import FakeVenue

PATIENCE = 10.0
#: How often a notebook's cell runs again.
RERUNS = 10


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    with FakeVenue() as venue:
        yield venue


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(monkeypatch)
    yield made
    made.error = None
    made.is_free.set()


def publish(venue: FakeVenue, client: wsclient.WebSocketClient, count: int, **fields: Any) -> None:
    """Publish messages on the channel ``a``, and take them."""
    for _ in range(count):
        venue.publish("a", **fields)
    for _ in range(count):
        client.recv(timeout=PATIENCE)


def test_it_may_begin_before_the_connection(venue: FakeVenue, tmp_path: Path) -> None:
    client = wsclient.WebSocketClient(venue.url, name="mine")
    client.record(tmp_path)
    with client:
        client.subscribe("a", depth=5)
        publish(venue, client, 3)
    recording = the_recording(tmp_path)
    assert (recording.venue, recording.name, recording.url) == ("generic", "mine", venue.url)
    assert [head[2] for head in heads_in(recording)] == [1, 2, 3]
    assert records_in(recording, SentFrame)[0].payload.startswith(b'{"type":"subs')
    names = [record.name for record in records_in(recording, Happened)]
    assert {"Connected", "Subscribed", "Closed"} <= set(names)
    assert len(records_in(recording, End)) == 1


def test_the_recorder_of_a_client_that_was_let_go_ends_before_the_next_one_begins(
    venue: FakeVenue, tmp_path: Path
) -> None:
    for _ in range(RERUNS):
        client = wsclient.connect(venue.url)  # lets the one before go
        client.record(tmp_path)
        client.subscribe("a")
        publish(venue, client, 1)
    client.close()
    with wsclient.open_recording(tmp_path) as replay:  # they do not overlap in time
        assert [message.data["sequence"] for message in replay] == list(range(1, RERUNS + 1))


def test_each_file_begins_with_the_state(venue: FakeVenue, tmp_path: Path) -> None:
    with wsclient.connect(venue.url) as client:
        client.subscribe("a")
        recorder = client.record(tmp_path, file_bytes=64 * 1024, chunk_seconds=0.01)
        while recorder.stats().files < 3:
            publish(venue, client, 50, noise=os.urandom(400).hex())
    recording = the_recording(tmp_path)
    assert recording.damage == []
    assert len(recording.files) >= 3
    for number, file in enumerate(recording.files):
        first = next(iter(wsclient_records(file.path)))
        assert isinstance(first, ClientState), number
        assert first.channels[0].name == "a"
        assert first.channels[0].is_confirmed
    sequences = [head[2] for head in heads_in(recording)]
    assert sequences == list(range(1, len(sequences) + 1))


def wsclient_records(path: Path) -> Iterator[Any]:
    (recording,), _ = recordings_of(path)
    return (entry.record for entry in recording.read())


def test_what_a_slow_disk_cannot_keep_is_counted(
    venue: FakeVenue, tmp_path: Path, disk: Disk
) -> None:
    with wsclient.connect(venue.url) as client:
        events = client.events(RecorderLost, RecorderRecovered)
        client.subscribe("a")
        recorder = client.record(tmp_path, buffer_bytes=64 * 1024, chunk_seconds=0.01)
        publish(venue, client, 1)
        disk.is_free.clear()
        publish(venue, client, 1)
        assert disk.is_waiting.wait(PATIENCE)
        while not recorder.stats().lost_messages:
            publish(venue, client, 100)  # the consumer is never held up
        assert isinstance(events.recv(timeout=PATIENCE), RecorderLost)
        disk.is_free.set()
        until(lambda: recorder.stats().buffered_bytes < 1000, PATIENCE)
        publish(venue, client, 1)
        recovered = events.recv(timeout=PATIENCE)
        total = client.stats().messages
    stats = recorder.stats()
    assert isinstance(recovered, RecorderRecovered)
    assert recovered.messages == stats.lost_messages > 0
    recording = the_recording(tmp_path)
    (lost,) = records_in(recording, Lost)
    assert lost.channels == {"a": stats.lost_messages}
    assert lost.frames == stats.lost_frames
    assert len(heads_in(recording)) + stats.lost_messages == total


def test_a_full_disk_is_waited_for(venue: FakeVenue, tmp_path: Path, disk: Disk) -> None:
    with wsclient.connect(venue.url) as client:
        events = client.events(RecorderFailed, RecorderRecovered)
        client.subscribe("a")
        recorder = client.record(tmp_path, chunk_seconds=0.01)
        disk.error = errno.ENOSPC
        publish(venue, client, 5)
        failed = events.recv(timeout=PATIENCE)
        assert isinstance(failed, RecorderFailed)
        assert recorder.stats().error == os.strerror(errno.ENOSPC)
        publish(venue, client, 5)
        disk.error = None
        assert isinstance(events.recv(timeout=PATIENCE), RecorderRecovered)
        publish(venue, client, 5)
    recording = the_recording(tmp_path)
    assert recording.damage == []
    assert [head[2] for head in heads_in(recording)] == list(range(1, 16))
    assert records_in(recording, Lost) == []


@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be removed")
def test_a_folder_that_was_removed_is_made_again(venue: FakeVenue, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    with wsclient.connect(venue.url) as client:
        client.subscribe("a")
        recorder = client.record(folder, chunk_seconds=0.01)
        publish(venue, client, 5)
        shutil.rmtree(folder)
        publish(venue, client, 5)
        until(lambda: folder.exists(), PATIENCE)
        until(lambda: not recorder.stats().error, PATIENCE)
        publish(venue, client, 5)
    recording = the_recording(folder)
    (lost,) = records_in(recording, Lost)
    assert lost.is_unknown
    sequences = [head[2] for head in heads_in(recording)]
    assert sequences == list(range(sequences[0], 16))


def test_a_new_session_says_that_one_was_before(venue: FakeVenue, tmp_path: Path) -> None:
    with wsclient.connect(venue.url, name="mine") as client:
        client.subscribe("a")
        with client.record(tmp_path) as first:
            publish(venue, client, 3)
        assert first.is_closed
        publish(venue, client, 2)
        with client.record(tmp_path):
            publish(venue, client, 1)
    (one, two), bad = recordings_of(tmp_path)
    assert bad == []
    assert records_in(one, Lost) == []
    (lost,) = records_in(two, Lost)
    assert (lost.is_unknown, lost.since) == (True, one.end)
    assert [head[2] for head in heads_in(two)] == [6]


def test_another_recorder_of_the_folder_is_left_alone(venue: FakeVenue, tmp_path: Path) -> None:
    with wsclient.connect(venue.url, name="one") as one, wsclient.connect(venue.url) as two:
        one.subscribe("a")
        two.subscribe("a")
        one.record(tmp_path)
        two.record(tmp_path)
        venue.publish("a")
        one.recv(timeout=PATIENCE)
        two.recv(timeout=PATIENCE)
    recordings, bad = recordings_of(tmp_path)
    assert bad == []
    assert [[head[2] for head in heads_in(found)] for found in recordings] == [[1], [1]]
    assert [len(records_in(found, End)) for found in recordings] == [1, 1]


def test_one_recorder_at_a_time(venue: FakeVenue, tmp_path: Path) -> None:
    with wsclient.connect(venue.url) as client:
        client.record(tmp_path)
        with pytest.raises(wsclient.ConfigurationError, match="recorded already"):
            client.record(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_closed_client_cannot_be_recorded(venue: FakeVenue, tmp_path: Path) -> None:
    client = wsclient.connect(venue.url)
    client.close()
    with pytest.raises(wsclient.ClientClosed):
        client.record(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_collected_client_ends_its_recorder(venue: FakeVenue, tmp_path: Path) -> None:
    client = wsclient.connect(venue.url)
    recorder = client.record(tmp_path)
    del client
    gc.collect()
    until(lambda: recorder.is_closed, PATIENCE)
    assert len(records_in(the_recording(tmp_path), End)) == 1


def test_no_secret_stands_in_a_recording(venue: FakeVenue, tmp_path: Path) -> None:
    class LoggingIn(type(dialects.find("generic"))):  # type: ignore[misc]
        def login(self, credentials: Any) -> Any:
            return {"type": "login", "key": credentials["key"], "sign": TOKENS["Login"]}

    options = {**secret_options(), "connect_timeout": 0.5, "max_retries": 1}
    client = wsclient.WebSocketClient(secret_url(venue.url), dialect=LoggingIn(), **options)
    with client.record(tmp_path):
        with pytest.raises(wsclient.ConnectError):
            client.connect()  # the venue does not answer the login
        client.close()
    del options["credentials"]
    with wsclient.connect(secret_url(venue.url), **options) as client:
        client.record(tmp_path)
        client.send(f'{{"token": "{TOKENS["Payload"]}", "key": "{TOKENS["Header"]}"}}')
        client.send(f'{{"note": "{"x" * 3000}", "more": "{TOKENS["Query"]}"}}')
    recordings, _ = recordings_of(tmp_path)
    text = repr([[entry.record for entry in found.read()] for found in recordings])
    text += repr([file.metadata for found in recordings for file in found.files])
    assert text.count("***") >= 5
    assert found_in(text) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [("buffer_bytes", 1), ("chunk_seconds", 0), ("file_bytes", 0), ("level", 23), ("level", "3")],
)
def test_arguments_that_cannot_work(
    venue: FakeVenue, tmp_path: Path, name: str, value: Any
) -> None:
    with wsclient.connect(venue.url) as client, pytest.raises(wsclient.ConfigurationError):
        client.record(tmp_path, **{name: value})
    assert list(tmp_path.iterdir()) == []
