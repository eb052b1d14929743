"""An error of a venue, a dialect or a caller costs only the message or call in question."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

import wsclient
from wsclient import Ack, Message, Rejection, Respond
from wsclient.testing import FakeVenue


class Trusting(wsclient.Dialect):
    """Dialect that trusts the venue's fields, as a user's may."""

    def subscribe(self, channels: Any, request_id: int, options: Any) -> Any:
        return {"args": list(channels), "id": request_id}

    def unsubscribe(self, channels: Any, request_id: int, options: Any) -> Any:
        return {"args": list(channels), "id": request_id}

    def login(self, credentials: Any) -> Any:
        return {"login": True}

    def read(self, message: Any) -> Any:
        if "echo" in message:
            return Respond(message["echo"])
        if "error" in message:
            return Rejection(message["error"], request_id=message["id"])
        if "id" in message:
            return Ack(request_id=message["id"])
        return Message(message["topic"], sequence=message.get("n"))


class OfTheirOwn(Message):
    """A user's subclass of Message."""


BAD = {
    "a reason that is no text": '{"error": {"code": 5}, "id": 99}',
    "a channel that is no text": '{"topic": ["x"], "n": 1}',
    "a sequence that is no number": '{"topic": "a", "n": "5"}',
    "a ping that cannot be echoed": '{"echo": 1e999}',
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_frame_takes_no_message_of_its_read_with_it(what: str) -> None:
    with FakeVenue(None) as venue, wsclient.connect(venue.url, dialect=Trusting()) as client:
        peer = venue.accept()

        def frame(text: str) -> bytes:
            return bytes([0x81, len(text)]) + text.encode()

        one, two, three = (f'{{"topic":"a","n":{n}}}' for n in (1, 2, 3))
        peer.send_raw(frame(one) + frame(BAD[what]) + frame(two))
        peer.send(three)
        messages = [client.recv(timeout=5) for _ in range(3)]
        assert [m.sequence for m in messages] == [1, 2, 3]
        assert client.stats().dials == 1


def test_a_subclass_of_message_is_delivered() -> None:
    class Theirs(Trusting):
        def read(self, message: Any) -> Any:
            return OfTheirOwn(message["topic"], sequence=message["n"])

    with FakeVenue(None) as venue, wsclient.connect(venue.url, dialect=Theirs()) as client:
        venue.accept().send('{"topic":"a","n":1}')
        assert client.recv(timeout=5).sequence == 1


def test_text_that_no_frame_can_hold_is_the_callers_error(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url) as client:
        with pytest.raises(UnicodeEncodeError):
            client.send("\ud800")
        client.subscribe("a")


def test_a_drop_during_the_login_hides_no_gap() -> None:
    options: dict[str, Any] = {"dialect": Trusting(), "credentials": {"key": "k"}}
    with FakeVenue(None) as venue:
        client = wsclient.WebSocketClient(venue.url, retry_delay=0.01, max_retries=9, **options)

        def connect() -> None:
            with pytest.raises(wsclient.ClientClosed):
                client.connect()

        connecting = threading.Thread(target=connect)
        connecting.start()
        first = venue.accept()
        first.send('{"topic":"a"}')
        assert client.recv(timeout=5).gap is None
        first.rst()
        venue.accept().send('{"topic":"a"}')
        gap = client.recv(timeout=5).gap
        assert gap is not None
        assert gap.reason == "reconnect"
        client.close()
        connecting.join(5)


def test_sends_that_race_close_all_end(venue: FakeVenue) -> None:
    for _ in range(30):
        client = wsclient.connect(venue.url)
        errors: list[BaseException] = []

        def send(client: wsclient.WebSocketClient = client, errors: Any = errors) -> None:
            try:
                while True:
                    client.send("x")
            except wsclient.WSClientError as error:
                errors.append(error)

        threads = [threading.Thread(target=send) for _ in range(3)]
        for thread in threads:
            thread.start()
        client.close()
        for thread in threads:
            thread.join(5)
            assert not thread.is_alive()
        assert len(errors) == 3


def test_what_a_users_function_raises_is_not_quoted(
    venue: FakeVenue, caplog: pytest.LogCaptureFixture
) -> None:
    def url() -> str:
        raise RuntimeError(f"401 for {venue.url}?token=hunter2")

    with pytest.raises(wsclient.ConnectError) as caught:
        wsclient.connect(url, max_retries=1)
    assert "hunter2" not in str(caught.value) + caplog.text
    assert "url raised RuntimeError" in str(caught.value)


def test_a_refused_reader_leaves_no_subscription_that_nobody_reads(venue: FakeVenue) -> None:
    venue.refuse_channel("bad", "no")
    with wsclient.connect(venue.url) as client:
        with pytest.raises(wsclient.SubscriptionRejected):
            client.reader("a", "bad")
        venue.wait_for(lambda venue: not venue.live[0].subscriptions)
        assert client.subscriptions == {} or not client.subscriptions["a"].is_active


def test_a_failed_call_leaves_another_calls_route_alone(venue: FakeVenue) -> None:
    venue.mute_acks(channel="a")
    got = threading.Event()
    with wsclient.connect(venue.url) as client:
        patient = threading.Thread(target=lambda: client.on("a", lambda message: got.set()))
        patient.start()
        venue.wait_for(lambda venue: venue.live[0].received)
        with pytest.raises(wsclient.SubscriptionTimeout):
            client.on("a", print, timeout=0.05)
        venue.live[0].send_json({"type": "subscription", "channel": "a"})
        patient.join(5)
        venue.publish("a")
        assert got.wait(5)


def test_a_counter_that_starts_again_is_marked(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url) as client:
        client.subscribe("a")
        for n in (101, 1, 3, 5):
            venue.live[0].send(json.dumps({"type": "market_data", "channel": "a", "seq": n}))
        gaps = [client.recv(timeout=5).gap for _ in range(4)]
        assert [gap and (gap.reason, gap.missed) for gap in gaps] == [
            None,
            ("sequence", None),
            ("sequence", 1),
            ("sequence", 1),
        ]


def test_a_validate_that_leaves_the_program_costs_one_message(venue: FakeVenue) -> None:
    def validate(message: Message) -> None:
        if message.sequence == 2:
            raise SystemExit("not this one")

    with wsclient.connect(venue.url, validate=validate) as client:
        client.subscribe("a")
        for number in range(3):
            venue.publish("a", n=number)
        first, last = client.recv(timeout=5), client.recv(timeout=5)
        assert (first.data["n"], last.data["n"]) == (0, 2)
        assert last.gap is not None
        assert (last.gap.reason, last.gap.missed) == ("invalid", 1)
        assert client.stats().dials == 1
