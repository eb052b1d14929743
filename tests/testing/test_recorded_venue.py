"""A venue that is recorded once, and then replayed. The real venue is a fake one here."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import zstandard
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import wsclient
from wsclient.errors import ConfigurationError
from wsclient.recording.filewriter import FileWriter
from wsclient.testing import FakeVenue, Feed, RecordedVenue, passing, read_recording, venues
from wsclient.testing.conversations import Passage, write_talk
from wsclient.testing.journal import Traced
from wsclient.testing.scrubbing import Scrubber
from wsclient.testing.traces import lines_of

#: A key and a certificate that it has signed itself.
LOCALHOST = Path(__file__).with_name("localhost.pem")
Dial = Callable[..., ClientConnection]


def request(channel: str, **more: Any) -> str:
    return json.dumps({"type": "subscribe", "channel": channel, **more})


def ack(channel: str) -> dict[str, Any]:
    return {"type": "subscription", "channel": channel, "status": "success"}


def subscribe(client: ClientConnection, channel: str = "a") -> None:
    client.send(request(channel))
    assert json.loads(client.recv(timeout=5)) == ack(channel)


def received(client: ClientConnection, count: int) -> list[Any]:
    return [json.loads(client.recv(timeout=5)) for _ in range(count)]


def prices(client: ClientConnection, count: int) -> list[Any]:
    return [message["price"] for message in received(client, count)]


def closed(client: ClientConnection) -> tuple[int | None, str]:
    """Read a connection to its end. Return the code and the reason of the venue."""

    def read_on() -> None:
        while True:
            client.recv(timeout=5)

    with pytest.raises(ConnectionClosed) as caught:
        read_on()
    frame = caught.value.rcvd
    return (None, "") if frame is None else (frame.code, frame.reason)


class Script:
    """Writes what was said, without a venue."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passages: list[Passage] = []
        self.connection = 0
        self.time = 10**18

    def add(self, what: Any, payload: str = "", *, after: float = 0.0, **more: Any) -> Script:
        self.time += int(after * 1e9)
        self.connection += what in ("opened", "refused")
        self.passages.append(Passage(self.time, self.connection, what, payload, **more))
        return self

    def opened(self, path: str = "/") -> Script:
        return self.add("opened", text=path)

    def subscribed(self, channel: str = "a", *prices: int, after: float = 0.0) -> Script:
        self.add("sent", request(channel)).add("received", json.dumps(ack(channel)))
        for price in prices:
            self.add("received", json.dumps({"channel": channel, "price": price}), after=after)
        return self

    def replay(self, **options: Any) -> RecordedVenue:
        names = {"url": "wss://real.example/", "dialect": "generic", "test": "", "run": ""}
        write_talk(self.folder, self.passages, Scrubber(), **names)
        return RecordedVenue(self.folder, **options)


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path / "script")


def test_a_venue_is_recorded_and_then_replayed(
    venue: FakeVenue, dial_at: Dial, tmp_path: Path
) -> None:
    folder = tmp_path / "one"
    with RecordedVenue(folder, venue.url + "ws?v=2", mode="once") as recorded:
        assert recorded.is_recording
        client = dial_at(recorded.url)
        subscribe(client)
        venue.publish("a", price=1)
        venue.publish("a", price=2)
        assert prices(client, 2) == [1, 2]
        assert [r.path for r in venue.requests] == ["/ws?v=2"]
        client.close()
        recorded.keep()
    venue.close()
    with RecordedVenue(folder, mode="once") as recorded:
        assert not recorded.is_recording
        client = dial_at(f"{recorded.url}ws?v=2")
        subscribe(client)
        assert prices(client, 2) == [1, 2]
        assert recorded.unknown == []


def test_the_client_reconnects_as_when_it_was_recorded(tmp_path: Path) -> None:
    """After a close frame, a cut, and a refused handshake."""

    def run(url: str, break_it: Callable[[int], None]) -> list[Any]:
        seen = []
        with wsclient.connect(url, dialect="kraken", max_retry_delay=0.01) as client:
            client.subscribe("trade:BTC/USD")
            for number in range(3):
                break_it(number)
                message = client.recv(timeout=5)
                seen.append((message.data["price"], message.gap and message.gap.reason))
        return seen

    with FakeVenue("kraken") as real:

        def break_it(number: int) -> None:
            if number == 1:
                real.live[0].close(1012, "restart")
            if number == 2:
                real.refuse(503)
                real.live[0].rst()
            real.wait_for(lambda v: v.subscribers("trade:BTC/USD"))
            real.publish("trade:BTC/USD", price=number)

        with RecordedVenue(tmp_path, real.url, mode="rewrite", dialect="kraken") as recorded:
            first = run(recorded.url, break_it)
            recorded.keep()
    assert first == [(0, None), (1, "reconnect"), (2, "reconnect")]
    with RecordedVenue(tmp_path) as replayed:
        assert run(replayed.url, lambda number: None) == first
        assert replayed.unknown == []


@pytest.mark.parametrize("name", ["binance", "bitfinex", "bybit", "coinbase_exchange", "okx"])
def test_what_clients_of_a_venue_ask_is_recognized(name: str, tmp_path: Path) -> None:
    """Also after an end that was not recorded, when ids go on."""
    channels = venues.find(name).channels()[:3]
    options: dict[str, Any] = {"dialect": name, "max_retry_delay": 0.01}

    def read(url: str) -> list[tuple[str, int | None]]:
        with wsclient.connect(url, **options) as client:
            client.subscribe(*channels)
            messages = [client.recv(timeout=5) for _ in range(10)]
            return [(message.channel, message.sequence) for message in messages]

    with FakeVenue(name) as real, Feed(real, dict.fromkeys(channels, 200.0)):
        recorded = RecordedVenue(tmp_path, real.url, mode="once", dialect=name)
        with recorded:
            seen = read(recorded.url)
            recorded.keep()
    with RecordedVenue(tmp_path) as replayed:
        assert read(replayed.url) == seen
        assert replayed.unknown == []
    with RecordedVenue(tmp_path, faults=["rst:at=6"]) as replayed:
        assert len(read(replayed.url)) == 10
        assert replayed.unknown == []


def test_a_recording_of_a_client_is_replayed(
    venue: FakeVenue, dial_at: Dial, tmp_path: Path
) -> None:
    with wsclient.connect(venue.url) as client, client.record(tmp_path):
        client.subscribe("a")
        venue.publish("a", price=7)
        client.recv(timeout=5)
    with RecordedVenue(tmp_path) as replayed:
        client = dial_at(replayed.url)
        subscribe(client)
        assert prices(client, 1) == [7]


# What is written.


def all_text(folder: Path) -> bytes:
    """Return all bytes of a folder, as they are and decompressed."""
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    magic = zstandard.FRAME_HEADER
    found = b"".join(files)
    for data in files:
        at = data.find(magic)
        while at >= 0:
            found += zstandard.ZstdDecompressor().decompressobj().decompress(data[at:])
            at = data.find(magic, at + 1)
    return found


def test_no_secret_is_written(dial_at: Dial, tmp_path: Path) -> None:
    secrets = {
        "header": "hEaDeRsEcReT1",
        "query": "qUeRySeCrEt2",
        "key": "lOgInKeY3aaaa",
        "signature": "f00dfeedcafe4444",
        "order": "tOkEnOfOrDeR5",
        "mine": "mInE6",
        "venue": "lIsTeNkEyOfVeNuE7",
        "path": "pathkey8pathkey8pathkey8pathkey8",
    }
    with FakeVenue(None) as real:
        url = f"{real.url}ws/{secrets['path']}?token={secrets['query']}"
        names = {"name": f"test[{secrets['mine']}]", "scrub": [secrets["mine"]]}
        with RecordedVenue(tmp_path, url, mode="once", **names) as recorded:
            header = {"Authorization": f"Bearer {secrets['header']}"}
            client = dial_at(recorded.url, additional_headers=header)
            peer = real.accept()
            login = {"op": "auth", "args": [secrets["key"], 1, secrets["signature"]]}
            order = {"op": "order", "token": secrets["order"], "note": f"of {secrets['mine']}"}
            for message in (login, order):
                client.send(json.dumps(message))
                peer.expect_json(message)
            peer.send_json({"echo": list(secrets.values()), "listenKey": secrets["venue"]})
            peer.send(("binary " + " ".join(secrets.values())).encode())
            client.recv(timeout=5)
            client.recv(timeout=5)
            peer.close(4000, f"bye {secrets['mine']}")
            closed(client)
            recorded.keep()
        assert peer.request is not None
        assert peer.request.headers["Authorization"] == f"Bearer {secrets['header']}"
    text = all_text(tmp_path)
    assert [name for name, secret in secrets.items() if secret.encode() in text] == []
    assert text.count(b"***") > 10
    assert b'"op": "auth"' in text
    assert len([item for item in read_recording(tmp_path) if item.direction == "received"]) == 2


def test_secrets_that_are_not_there_are_no_matter_in_a_replay(
    script: Script, dial_at: Dial
) -> None:
    script.opened("/?token=***").add("sent", '{"op":"auth","args":["***",1,"***"]}')
    script.add("received", '{"op":"auth","success":true}')
    with script.replay() as venue:
        client = dial_at(f"{venue.url}?token=dummy")
        client.send('{"op":"auth","args":["key",99,"signature"]}')
        assert received(client, 1) == [{"op": "auth", "success": True}]


def test_nothing_is_written_unless_it_is_kept(
    venue: FakeVenue, dial_at: Dial, tmp_path: Path
) -> None:
    with RecordedVenue(tmp_path / "new", venue.url, mode="once") as recorded:
        subscribe(dial_at(recorded.url))
    assert not (tmp_path / "new").exists()
    recorded = RecordedVenue(tmp_path / "new", venue.url, mode="once")
    with recorded, pytest.raises(ConfigurationError, match="no client has connected"):
        recorded.keep()
    assert not (tmp_path / "new").exists()


def test_an_old_recording_stays_until_the_new_one_is_complete(
    script: Script, venue: FakeVenue, dial_at: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.opened().subscribed("old", 1)
    script.replay()
    (script.folder / "notes.txt").write_text("mine")
    (script.folder / "elsewhere.mcap").write_bytes(b"")
    before = {path.name: path.read_bytes() for path in script.folder.iterdir()}

    def record() -> None:
        with RecordedVenue(script.folder, venue.url, mode="rewrite") as recorded:
            subscribe(dial_at(recorded.url), "new")
            recorded.keep()

    with monkeypatch.context() as patch:
        patch.setattr(
            FileWriter, "finish", lambda self: (_ for _ in ()).throw(OSError("disk full"))
        )
        with pytest.raises(OSError, match="disk full"):
            record()
    assert {path.name: path.read_bytes() for path in script.folder.iterdir()} == before
    record()
    assert sorted(path.name for path in script.folder.iterdir()) == ["notes.txt", "venue.mcap"]
    assert b"new" in all_text(script.folder)


def test_two_tests_do_not_record_into_one_folder(
    venue: FakeVenue, dial_at: Dial, tmp_path: Path
) -> None:
    def record(name: str) -> RecordedVenue:
        return RecordedVenue(tmp_path, venue.url, mode="rewrite", name=name, run="this run")

    with record("test_one") as recorded:
        with pytest.raises(ConfigurationError, match="another test records into"):
            record("test_two").__enter__()
        subscribe(dial_at(recorded.url))
        recorded.keep()
    with pytest.raises(ConfigurationError, match="test_one has recorded into"):
        record("test_two").__enter__()
    with record("test_one"):  # again, such as after a failure
        pass


def test_without_a_recording_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no recording in"):
        RecordedVenue(tmp_path / "none")
    with pytest.raises(ConfigurationError, match="the address of the venue is needed"):
        RecordedVenue(tmp_path / "none", mode="once")


# What is passed on while recording.


def test_a_refused_handshake_is_passed_on(venue: FakeVenue, tmp_path: Path) -> None:
    venue.refuse(401, body=b"no such key", headers=[("X-Why", "key")])
    with RecordedVenue(tmp_path, venue.url, mode="once") as recorded:
        with pytest.raises(InvalidStatus) as caught:
            connect(recorded.url)
        recorded.keep()
    answer = caught.value.response
    assert (answer.status_code, answer.body, answer.headers["X-Why"]) == (
        401,
        b"no such key",
        "key",
    )
    with RecordedVenue(tmp_path) as replayed, pytest.raises(InvalidStatus) as again:
        connect(replayed.url)
    assert (again.value.response.status_code, again.value.response.body) == (401, b"no such key")


def test_a_venue_that_is_not_there_is_a_bad_gateway(venue: FakeVenue, tmp_path: Path) -> None:
    venue.down()
    recorded = RecordedVenue(tmp_path, venue.url, mode="once")
    with recorded, pytest.raises(InvalidStatus) as caught:
        connect(recorded.url)
    assert caught.value.response.status_code == 502
    assert b"the venue cannot be reached" in bytes(caught.value.response.body or b"")
    assert "refused 502 /: the venue cannot be reached: " in str(recorded.trace[-1])


def test_a_close_while_the_venue_is_dialed_leaves_no_connection(
    venue: FakeVenue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = RecordedVenue(tmp_path / "one", venue.url, mode="once")
    closing = threading.Thread(target=recorded.close, daemon=True)

    def connected(*args: Any, **options: Any) -> ClientConnection:
        made = connect(*args, **options)
        closing.start()
        assert client.recv(1) == b""  # by then close() has looked which connections there are
        return made

    monkeypatch.setattr(passing, "connect", connected)
    with recorded:
        parts = urlsplit(recorded.url)
        with socket.create_connection((parts.hostname or "", parts.port or 0), 5) as client:
            client.sendall(
                b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            venue.wait_for(lambda v: v.requests)
            venue.wait_for(lambda v: not v.live)
            closing.join(10)


def test_a_venue_with_tls_is_recorded(
    dial_at: Dial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(LOCALHOST))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(LOCALHOST)
    with FakeVenue(ssl_context=context) as real:
        url = f"wss://localhost:{real.port}/"
        with RecordedVenue(tmp_path, url, mode="once") as recorded:
            assert recorded.url.startswith("ws://127.0.0.1:")
            subscribe(dial_at(recorded.url))
            recorded.keep()
    with RecordedVenue(tmp_path) as replayed:
        subscribe(dial_at(replayed.url))


def test_the_subprotocol_and_the_clients_close_are_passed_on(dial_at: Dial, tmp_path: Path) -> None:
    real = FakeVenue(subprotocols=["v2"])
    real.start()
    with real, RecordedVenue(tmp_path, real.url, mode="once") as recorded:
        client = dial_at(recorded.url, subprotocols=["v1", "v2"])
        assert client.subprotocol == "v2"
        client.close(4001)
        assert real.accept().expect_close() == 4001


def test_a_rest_address_that_is_not_there_is_told_without_the_query(
    venue: FakeVenue, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        rest = f"http://127.0.0.1:{free.getsockname()[1]}"
    with RecordedVenue(tmp_path / "one", venue.url, mode="once", rest=rest) as recorded:
        answer = requests.get(f"{recorded.rest_url}/key?signature=5ecret5ecret", timeout=10)
    assert answer.status_code == 502
    assert answer.text.startswith("the venue cannot be reached: the REST request to 127.0.0.1 ")
    assert "signature" not in answer.text
    assert "5ecret" not in answer.text


def test_answers_by_rest_are_recorded_too(dial_at: Dial, tmp_path: Path) -> None:
    with FakeVenue("binance") as real:
        real.protocol.snapshots["btcusdt@depth@100ms"] = '{"lastUpdateId":7}'  # type: ignore[attr-defined]
        rest = real.url.replace("ws:", "http:") + "api"
        with RecordedVenue(tmp_path, real.url, rest=rest, mode="once") as recorded:
            path = "/depth?symbol=BTCUSDT"
            assert requests.get(recorded.rest_url + path, timeout=5).json() == {"lastUpdateId": 7}
            recorded.keep()
    with RecordedVenue(tmp_path) as replayed:
        for _ in range(2):
            assert requests.get(replayed.rest_url + path, timeout=5).json() == {"lastUpdateId": 7}
        assert replayed.unknown == []
        requests.get(f"{replayed.rest_url}/trades", timeout=5)
        assert replayed.unknown == [
            f"the recording has no answer to GET /trades\nThe recorded answers are to:\n  {path}"
        ]


# What a replay answers.


def test_it_waits_for_the_requests_in_any_order(script: Script, dial_at: Dial) -> None:
    script.opened().subscribed("a", 1).subscribed("b", 2)
    with script.replay() as venue:
        client = dial_at(venue.url)
        client.send(request("b"))
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.05)
        client.send(request("a"))
        assert received(client, 4)[1::2] == [
            {"channel": "a", "price": 1},
            {"channel": "b", "price": 2},
        ]


def test_answers_have_the_ids_of_the_requests(script: Script, dial_at: Dial) -> None:
    script.opened().add("sent", '{"op":"x","id":1}').add("received", '{"id":1, "ok":true}')
    with script.replay() as venue:
        client = dial_at(venue.url)
        client.send('{"op":"x","id":"q-9"}')
        assert client.recv(timeout=5) == '{"id":"q-9", "ok":true}'


def test_heartbeats_are_answered_however_many(script: Script, dial_at: Dial) -> None:
    script.opened().add("sent", '{"op":"ping","req_id":5}')
    script.add("received", '{"op":"pong","req_id":5,"time":"then"}').subscribed("a", 1)
    with script.replay() as venue:
        client = dial_at(venue.url)
        for number in (6, 7):
            client.send(f'{{"op":"ping","req_id":{number}}}')
            assert received(client, 1) == [{"op": "pong", "req_id": number, "time": "then"}]
        client.send("ping")
        assert client.recv(timeout=5) == "pong"
        subscribe(client)
        assert venue.unknown == []


def test_a_request_that_is_not_recorded_ends_the_connection(script: Script, dial_at: Dial) -> None:
    script.opened().subscribed("a", 1)
    with script.replay(scrub=["hidden"]) as venue:
        client = dial_at(venue.url)
        client.send(request("b", token="secret", note="hidden"))
        code, reason = closed(client)
        assert (code, reason.startswith("the recording has no such request")) == (1008, True)
        assert venue.unknown == [
            'the recording has no such request: {"type": "subscribe", "channel": "b", '
            '"token": "***", "note": "***"}\n'
            'Recorded are:\n  {"type": "subscribe", "channel": "a"}'
        ]
        with pytest.raises(InvalidStatus, match="403"):
            connect(venue.url)


def test_a_login_that_is_not_recorded_is_shown_without_secrets(
    script: Script, dial_at: Dial
) -> None:
    key, signature = "k3yk3yk3yk3y", "5165na7ure5165na7ure"
    with script.opened().subscribed("a").replay() as venue:
        client = dial_at(venue.url)
        client.send(json.dumps({"op": "auth", "args": [key, signature]}))
        _, reason = closed(client)
    assert '"auth"' in reason
    assert key not in reason + venue.unknown[0]
    assert signature not in reason + venue.unknown[0]
    # The trace also has the request itself, which a report scrubs.
    notes = [str(each.payload) for each in venue.trace if each.what == "event"]
    assert not [note for note in notes if key in note or signature in note]


def test_no_secret_of_an_address_is_in_an_error(venue: FakeVenue, tmp_path: Path) -> None:
    recorded = RecordedVenue(tmp_path / "none", venue.url + "?token=5ecret5ecret", mode="once")
    with recorded, pytest.raises(ConfigurationError, match=r"no client .*token=\*\*\*"):
        recorded.keep()
    with pytest.raises(ValueError, match=r"token=\*\*\*"):
        RecordedVenue(tmp_path / "none", "https://x?token=5ecret", mode="once").__enter__()


def test_a_key_in_a_path_is_hidden_wherever_it_stands_in_a_report() -> None:
    key = "pqia91ma19a5s61cv6a81va65sdf"
    trace = [
        Traced(1, 1, "event", f"opened /ws/{key}?token=abcde12345"),
        Traced(2, 1, "received", json.dumps({"stream": key, "data": "abcde12345"})),
    ]
    lines = lines_of("a venue", trace)
    assert not [line for line in lines if key in line or "abcde12345" in line]


def test_a_request_is_answered_as_often_as_recorded(script: Script, dial_at: Dial) -> None:
    script.opened().subscribed("a")
    with script.replay() as venue:
        client = dial_at(venue.url)
        subscribe(client)
        client.send(request("a"))
        assert closed(client)[0] == 1008
        assert "no such request any more" in venue.unknown[0]


def test_a_path_that_is_not_recorded_is_told(script: Script, dial_at: Dial) -> None:
    script.opened("/ws/public").subscribed("a")
    with script.replay() as venue:
        assert closed(dial_at(f"{venue.url}ws/private?token=secret"))[0] == 1008
        assert venue.unknown == [
            "the recording has no connection to /ws/private?token=***\nRecorded are:\n  /ws/public"
        ]


def test_clients_may_connect_in_another_order(script: Script, dial_at: Dial) -> None:
    script.opened().subscribed("a", 1).opened().subscribed("b", 2)
    with script.replay() as venue:
        second = dial_at(venue.url)
        subscribe(second, "b")
        assert prices(second, 1) == [2]
        first = dial_at(venue.url)
        subscribe(first, "a")
        assert prices(first, 1) == [1]
    with script.replay() as venue:
        first, second = dial_at(venue.url), dial_at(venue.url)
        for client, channel, price in ((first, "b", 2), (second, "a", 1)):
            subscribe(client, channel)
            assert prices(client, 1) == [price]
        assert venue.unknown == []


def test_one_more_connection_gets_the_last_one_again_and_stays(
    script: Script, dial_at: Dial
) -> None:
    script.opened().subscribed("a", 1).add("ended", text="restart", code=1012)
    with script.replay() as venue:
        client = dial_at(venue.url)
        subscribe(client)
        assert closed(client) == (1012, "restart")
        client = dial_at(venue.url)
        subscribe(client)
        assert prices(client, 1) == [1]
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.05)
        assert "the recording has nothing more for this connection" in str(venue.trace[-1])


def test_the_recorded_times_are_kept_on_request(script: Script, dial_at: Dial) -> None:
    script.opened().subscribed("a", 1, 2, after=0.5)
    for speed, least, most in ((None, 0.0, 0.5), (5.0, 0.2, 5.0)):
        with script.replay(speed=speed) as venue:
            client = dial_at(venue.url)
            start = time.monotonic()
            subscribe(client)
            assert prices(client, 2) == [1, 2]
            assert least <= time.monotonic() - start < most


# Faults.


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("gap:at=3", [1, 3]),
        ("duplicate:at=3", [1, 2, 2]),
        ("gap:every=2", [2]),
        ("latency:at=3,ms=1", [1, 2, 3]),
    ],
)
def test_messages_are_lost_doubled_or_late(
    script: Script, dial_at: Dial, fault: str, seen: list[int]
) -> None:
    # The first message is the answer to the request.
    script.opened().add("sent", request("a")).add("received", "{}")
    for price in (1, 2, 3):
        script.add("received", json.dumps({"price": price}))
    with script.replay(faults=[fault]) as venue:
        client = dial_at(venue.url)
        client.send(request("a"))
        client.recv(timeout=5)
        assert prices(client, len(seen)) == seen


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        ("close:at=2,code=1011", (1011, "by a fault")),
        ("fin:at=2", (None, "")),
        ("rst:at=2", (None, "")),
    ],
)
def test_a_connection_ends_and_the_next_one_begins_anew(
    script: Script, dial_at: Dial, fault: str, end: Any
) -> None:
    script.opened().subscribed("a", 1, 2)
    with script.replay(faults=fault) as venue:
        client = dial_at(venue.url)
        client.send(request("a"))
        assert closed(client) == end
        client = dial_at(venue.url)
        subscribe(client)
        assert prices(client, 2) == [1, 2]


def test_a_venue_falls_silent_or_sends_half_a_message(script: Script, dial_at: Dial) -> None:
    script.opened().subscribed("a", 1)
    with script.replay(faults=["garbage:at=2"]) as venue:
        client = dial_at(venue.url)
        subscribe(client)
        assert client.recv(timeout=5) == '{"channel": "a'
    with script.replay(faults=["silence:at=2"]) as venue:
        client = dial_at(venue.url)
        subscribe(client)
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.05)
        client.ping().wait(5)


def test_what_a_client_asks_after_a_fault_lets_it_connect_again(
    script: Script, dial_at: Dial
) -> None:
    """Such as a new snapshot, which the recorded run did not need."""
    script.opened().subscribed("a", 1)
    unsubscribe = '{"type":"unsubscribe","channel":"a"}'
    with script.replay(faults=["gap:at=2"]) as venue:
        client = dial_at(venue.url)
        subscribe(client)
        client.send(unsubscribe)
        assert closed(client)[0] == 1012
        client = dial_at(venue.url)
        subscribe(client)
        assert prices(client, 1) == [1]
        assert venue.unknown == []
        client.send('{"type":"unsubscribe","channel":"other"}')
        assert closed(client)[0] == 1008
        assert len(venue.unknown) == 1
