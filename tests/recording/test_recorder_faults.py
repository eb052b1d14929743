"""client.record() under faults: bad disks, odd values, forks, exits, threads and signals."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wsclient
from support.disk import Disk
from support.helpers import Call, until
from support.recorded import heads_in, records_in, the_recording
from wsclient.events import RecorderFailed
from wsclient.recording import filewriter, transcript
from wsclient.recording.folder import recordings_of
from wsclient.recording.records import End, Frame, Happened, Lost
from wsclient.testing import FakeVenue

PATIENCE = 10.0


@pytest.fixture
def venue() -> Iterator[FakeVenue]:
    with FakeVenue() as venue:
        yield venue


@pytest.fixture
def client(venue: FakeVenue) -> Iterator[wsclient.WebSocketClient]:
    with wsclient.connect(venue.url, name="mine") as client:
        client.subscribe("a")
        yield client


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(monkeypatch)
    yield made
    made.error = None
    made.is_free.set()


def publish(venue: FakeVenue, client: wsclient.WebSocketClient, count: int = 1) -> None:
    for _ in range(count):
        venue.publish("a")
    for _ in range(count):
        client.recv(timeout=PATIENCE)


# What no record can hold.


def test_a_number_of_more_than_64_bits_ends_no_recording(
    venue: FakeVenue, client: wsclient.WebSocketClient, tmp_path: Path
) -> None:
    with client.record(tmp_path):
        frame = {"type": "market_data", "channel": "a", "sequence": 10**30}
        venue.broadcast(json.dumps(frame), "a")
        assert client.recv(timeout=PATIENCE).sequence == 10**30
        publish(venue, client, 2)
    recording = the_recording(tmp_path)
    sequences = [head[2] for head in heads_in(recording)]
    assert (sequences[0], len(sequences)) == (None, 3)
    assert records_in(recording, Lost) == []


@pytest.mark.skipif(sys.platform != "linux", reason="its folders may have any name")
def test_a_folder_whose_name_is_no_text_ends_no_recording(
    venue: FakeVenue, client: wsclient.WebSocketClient, tmp_path: Path, disk: Disk
) -> None:
    events = client.events(RecorderFailed)
    with client.record(tmp_path / "\udce4", chunk_seconds=0.01):
        disk.error = errno.EIO
        publish(venue, client)
        assert "\udce4" in events.recv(timeout=PATIENCE).path
        disk.error = None
    recording = the_recording(tmp_path / "\udce4")
    assert len(records_in(recording, End)) == 1
    assert "RecorderFailed" in [event.name for event in records_in(recording, Happened)]


def test_an_entry_that_no_record_can_hold_is_noted_as_lost(
    venue: FakeVenue,
    client: wsclient.WebSocketClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("no record can hold it")

    monkeypatch.setattr(transcript, "SentFrame", fail)
    events = client.events(RecorderFailed)
    with client.record(tmp_path):
        client.send("{}")
        client.send("{}")
        assert isinstance(events.recv(timeout=PATIENCE).error, TypeError)
        publish(venue, client)
    recording = the_recording(tmp_path)
    assert len(heads_in(recording)) == 1
    assert len(records_in(recording, End)) == 1
    found = [(lost.is_unknown, lost.why) for lost in records_in(recording, Lost)]
    assert found == [(True, "it could not be recorded (TypeError)")] * 2
    assert len([e for e in records_in(recording, Happened) if e.name == "RecorderFailed"]) == 1


def test_channels_beyond_the_topics_of_a_file_are_recorded_too(
    venue: FakeVenue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filewriter, "MAX_TOPICS", 4)
    names = [f"channel {number}" for number in range(6)]
    with wsclient.connect(venue.url) as client, client.record(tmp_path):
        client.subscribe(*names)
        for name in [*names, *names]:
            venue.publish(name)
        got = [client.recv(timeout=PATIENCE) for _ in range(12)]
    recording = the_recording(tmp_path)
    assert 0 < len(recording.channels) < 6
    assert sorted(head[:5] for head in heads_in(recording)) == sorted(
        (m.channel, m.type, m.sequence, m.item, m.raw) for m in got
    )


# Folders and files.


def test_a_program_may_change_its_folder(
    venue: FakeVenue,
    client: wsclient.WebSocketClient,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    recorder = client.record("here", file_seconds=0.05, chunk_seconds=0.01)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    until(lambda: recorder.stats().files > 2, PATIENCE)
    recorder.close()
    assert list((tmp_path / "other").iterdir()) == []
    assert len(the_recording(tmp_path / "here").files) > 2


@pytest.mark.parametrize("folder", ["a\0b", 3, None])
def test_a_folder_that_cannot_be(client: wsclient.WebSocketClient, folder: Any) -> None:
    with pytest.raises(wsclient.ConfigurationError, match="folder must"):
        client.record(folder)


def test_a_folder_that_cannot_be_made(
    venue: FakeVenue, client: wsclient.WebSocketClient, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("precious")
    for folder in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(OSError, match="file"):
            client.record(folder)
    assert (tmp_path / "file").read_text() == "precious"
    with client.record(tmp_path / "other"):  # and nothing is left of that attempt
        publish(venue, client)
    assert len(heads_in(the_recording(tmp_path / "other"))) == 1


def test_a_file_ends_in_time(
    venue: FakeVenue, client: wsclient.WebSocketClient, tmp_path: Path
) -> None:
    with client.record(tmp_path, file_seconds=0.1) as recorder:
        while recorder.stats().files < 3:
            publish(venue, client)
    recording = the_recording(tmp_path)
    sequences = [head[2] for head in heads_in(recording)]
    assert len(recording.files) >= 3
    assert sequences == list(range(1, len(sequences) + 1))


# A disk that hangs.


def test_close_waits_for_a_slow_disk(
    venue: FakeVenue, client: wsclient.WebSocketClient, tmp_path: Path, disk: Disk
) -> None:
    recorder = client.record(tmp_path, chunk_seconds=0.01)
    disk.is_free.clear()
    publish(venue, client, 3)
    assert disk.is_waiting.wait(PATIENCE)
    closing = Call(recorder.close, PATIENCE)
    closing.join(0.2)
    assert closing.is_alive()
    disk.is_free.set()
    closing.join(PATIENCE)
    assert recorder.is_closed
    assert len(heads_in(the_recording(tmp_path))) == 3


def test_close_returns_in_time_while_a_write_hangs(
    venue: FakeVenue, client: wsclient.WebSocketClient, tmp_path: Path, disk: Disk
) -> None:
    one = client.record(tmp_path / "one", chunk_seconds=0.01)
    disk.is_free.clear()
    publish(venue, client, 3)
    assert disk.is_waiting.wait(PATIENCE)
    begin = time.monotonic()
    one.close(timeout=0.2)
    assert time.monotonic() - begin < 0.7
    assert not one.is_closed
    with pytest.MonkeyPatch.context() as patch:
        patch.undo()
        disk.error = None
        second = Call(client.record, tmp_path / "two")
        second.join(0.3)  # it waits for the same disk
        disk.is_free.set()
        second.join(PATIENCE)
    two = second.result()
    until(lambda: one.is_closed, PATIENCE)
    publish(venue, client, 2)
    found = client.stats().recorder
    assert found is not None
    assert Path(found.path).parent == tmp_path / "two"
    two.close()
    assert [head[2] for head in heads_in(the_recording(tmp_path / "two"))] == [4, 5]


# Threads and signals.


def test_a_callback_may_record_and_close(
    venue: FakeVenue, client: wsclient.WebSocketClient, tmp_path: Path
) -> None:
    recorders: list[Any] = []

    def call(_: wsclient.Message) -> None:
        if recorders:
            recorders[0].close()
        else:
            recorders.append(client.record(tmp_path))

    client.on("b", call)
    venue.publish("b")
    until(lambda: len(recorders) == 1, PATIENCE)
    publish(venue, client)
    venue.publish("b")
    until(lambda: recorders[0].is_closed, PATIENCE)
    assert [head[0] for head in heads_in(the_recording(tmp_path))] == ["a", "b"]


def test_of_two_calls_at_once_one_records(client: wsclient.WebSocketClient, tmp_path: Path) -> None:
    for number in range(20):
        folder = tmp_path / str(number)
        gate = threading.Barrier(2)

        def record(folder: Path = folder, gate: threading.Barrier = gate) -> Any:
            gate.wait(PATIENCE)
            return client.record(folder)

        calls = [Call(record), Call(record)]
        for call in calls:
            call.join(PATIENCE)
        (refused,) = [call.error for call in calls if call.error is not None]
        assert isinstance(refused, wsclient.ConfigurationError)
        (recorder,) = [call.result() for call in calls if call.error is None]
        recorder.close()
        until(lambda folder=folder: len(list(folder.iterdir())) == 1, PATIENCE)


def test_client_and_recorder_may_be_closed_at_once(venue: FakeVenue, tmp_path: Path) -> None:
    for number in range(10):
        client = wsclient.connect(venue.url)
        recorder = client.record(tmp_path / str(number))
        calls = [Call(client.close), Call(recorder.close), Call(recorder.close)]
        for call in calls:
            call.join(PATIENCE)
            assert call.result() is None
        assert recorder.is_closed
        assert len(records_in(the_recording(tmp_path / str(number)), End)) == 1


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers of signals")
def test_a_signal_handler_may_close_it_anywhere(
    venue: FakeVenue, client: wsclient.WebSocketClient, tmp_path: Path
) -> None:
    for number in range(30):
        recorder = client.record(tmp_path / str(number))
        is_called = threading.Event()

        def handle(*_: object, one: Any = recorder, called: threading.Event = is_called) -> None:
            one.close(timeout=1.0)
            called.set()

        before = signal.signal(signal.SIGALRM, handle)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.001 * (number + 1))
            while not is_called.is_set():
                client.stats()
                publish(venue, client)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        until(lambda one=recorder: one.is_closed, PATIENCE)
        assert len(records_in(the_recording(tmp_path / str(number)), End)) == 1


# Processes.


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_writes_nothing(
    venue: FakeVenue, client: wsclient.WebSocketClient, tmp_path: Path
) -> None:
    recorder = client.record(tmp_path, chunk_seconds=60.0)
    publish(venue, client, 5)
    child = os.fork()
    if not child:
        code = 1
        try:
            try:
                recorder.stats()
            except wsclient.ClientForked:
                recorder.close()
                code = 0 if recorder.is_closed else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    publish(venue, client, 5)
    recorder.close()
    recording = the_recording(tmp_path)
    assert recording.damage == []
    assert [head[2] for head in heads_in(recording)] == list(range(1, 11))


PROGRAM = """
import sys
import wsclient

client = wsclient.connect(sys.argv[1])
recorder = client.record(sys.argv[2], chunk_seconds=60.0)
client.subscribe("a")
for _ in range(20):
    client.recv(timeout=10.0)
{end}
"""


@pytest.mark.parametrize(
    "end", ["", "client.close()", "recorder.close()", "sys.exit(0)", "del client", "{}['error']"]
)
def test_the_exit_of_the_interpreter_finishes_the_file(
    venue: FakeVenue, tmp_path: Path, end: str
) -> None:
    program = PROGRAM.format(end=end)
    arguments = [sys.executable, "-c", program, venue.url, str(tmp_path)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: bool(venue.subscribers("a")), PATIENCE)
        for _ in range(20):
            venue.publish("a")
        said = process.communicate(timeout=PATIENCE)[1]
    assert ("KeyError" in said) if "error" in end else not said
    recording = the_recording(tmp_path)
    assert [head[2] for head in heads_in(recording)][:20] == list(range(1, 21))
    assert len(records_in(recording, End)) == 1
    assert [path.suffix for path in tmp_path.iterdir()] == [".mcap"]


def test_the_exit_does_not_wait_for_a_disk_that_hangs(venue: FakeVenue, tmp_path: Path) -> None:
    end = """
import threading
from wsclient.recording import recorder as module, filewriter
filewriter.FileWriter._write = lambda *_: threading.Event().wait()
"""
    program = PROGRAM.format(end=end)
    arguments = [sys.executable, "-c", program, venue.url, str(tmp_path)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
        until(lambda: bool(venue.subscribers("a")), PATIENCE)
        for _ in range(20):
            venue.publish("a")
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


# Secrets.


def test_the_login_of_an_older_connection_is_hidden(venue: FakeVenue, tmp_path: Path) -> None:
    signature = "Sig9f8e7d6c5b4a3f2e1d0c"

    class LoggingIn(wsclient.Generic):
        def login(self, credentials: Any) -> Any:
            return ["auth", credentials["key"], signature]

    credentials = {"key": "Key123456789"}
    client = wsclient.WebSocketClient(venue.url, dialect=LoggingIn(), credentials=credentials)
    opening = Call(client.connect)
    until(lambda: any(peer.received for peer in venue.live), PATIENCE)
    with client.record(tmp_path) as recorder:
        venue.live[0].send_json({"type": "note", "text": signature})
        until(lambda: recorder.stats().frames == 1, PATIENCE)
    client.close()
    opening.join(PATIENCE)
    (frame,) = records_in(the_recording(tmp_path), Frame)
    assert b'"text":"***"' in frame.raw


def test_recorders_of_several_clients_share_a_folder(venue: FakeVenue, tmp_path: Path) -> None:
    clients = [wsclient.connect(venue.url, name=f"client {n}") for n in range(4)]
    calls = [Call(client.record, tmp_path) for client in clients]
    for call in calls:
        call.join(PATIENCE)
        assert call.error is None
    for client in clients:
        client.close()
    recordings, bad = recordings_of(tmp_path)
    assert bad == []
    assert [len(records_in(found, End)) for found in recordings] == [1] * 4
