"""The log of frames: what it shows, what it hides, and in which order."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

import wsclient
from wsclient import dialects
from wsclient.dialect import Credentials
from wsclient.testing import FakeVenue
from wsclient.threads.logs import ClientLog
from wsclient.transport.framelog import EXCERPT, KEPT, FrameLog
from wsclient.transport.masking import Mask


@pytest.fixture
def frames(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, "wsclient.frames"):
        yield caplog


def shown(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [r for r in caplog.records if r.name == "wsclient.frames"]
    assert {r.levelno for r in found} <= {logging.DEBUG}
    return [record.getMessage().partition(": ")[2] for record in found]


def hidden(text: str | bytes, login: Any = None, mask: Any = str) -> str:
    """Return what is logged of a message that is sent."""
    records: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, keep = logging.getLogger("wsclient.frames"), Keep()
    logger.addHandler(keep)
    logger.setLevel(logging.DEBUG)
    try:
        log = FrameLog(3, ClientLog("me", "v"), mask)
        log.hide(login)
        log.sent(text)
    finally:
        logger.setLevel(logging.NOTSET)
        logger.removeHandler(keep)
    return records[0].getMessage().partition(" sent: ")[2]


class TestOrder:
    def test_each_frame_has_a_line_with_its_connection(
        self, venue: FakeVenue, frames: pytest.LogCaptureFixture
    ) -> None:
        with wsclient.connect(venue.url, name="me") as client:
            client.subscribe("a")
            venue.publish("a", n=1)
            client.recv(5)
            client.send("thanks")
        lines = shown(frames)
        assert lines[0].startswith('connection 1 sent: {"type":"subscribe","channel":"a"')
        assert lines[1].startswith("connection 1 received: {")
        assert '"n":1' in lines[2]
        assert lines[3] == "connection 1 sent: thanks"
        assert lines[4] == "connection 1 sent a close frame (1000)"
        assert {vars(r)["connection_id"] for r in frames.records} == {1}
        assert {vars(r)["client"] for r in frames.records} == {"me"}

    def test_control_frames_are_shown_with_their_payload(
        self, venue: FakeVenue, frames: pytest.LogCaptureFixture
    ) -> None:
        with wsclient.connect(venue.url, retry_delay=0.01) as client:
            peer = venue.accept()
            peer.ping(b"hi\n")
            peer.close(1001, "good\x1bbye")
            venue.accept()
            client.close()
        lines = shown(frames)
        ping = lines.index("connection 1 received a ping: binary b'hi\\n'")
        assert lines[ping + 1] == "connection 1 sent a pong"
        assert "connection 1 received a close frame (1001): good\\x1bbye" in lines

    def test_nothing_is_computed_above_the_level(
        self, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(*_: Any) -> None:
            raise AssertionError("a frame was logged")

        monkeypatch.setattr(FrameLog, "received", refuse)
        monkeypatch.setattr(FrameLog, "sent", refuse)
        monkeypatch.setattr(FrameLog, "sent_control", refuse)
        with caplog.at_level(logging.INFO, "wsclient"), wsclient.connect(venue.url) as client:
            client.subscribe("a")
            venue.publish("a", n=1)
            assert client.recv(5).data["n"] == 1

    @pytest.mark.parametrize("way", ["disable", "logger"])
    def test_it_may_be_switched_off_in_every_way_of_logging(
        self, way: str, venue: FakeVenue, frames: pytest.LogCaptureFixture
    ) -> None:
        logger = logging.getLogger("wsclient.frames")
        try:
            if way == "disable":
                logging.disable(logging.DEBUG)
            else:
                logger.disabled = True
            with wsclient.connect(venue.url) as client:
                client.subscribe("a")
        finally:
            logging.disable(logging.NOTSET)
            logger.disabled = False
        assert shown(frames) == []


class TestWhatIsShown:
    def test_a_long_frame_is_cut_and_its_size_said(self) -> None:
        text = hidden("x" * 100_000)
        assert text == "x" * EXCERPT + "... (100000 bytes)"

    def test_control_characters_are_escaped(self) -> None:
        assert hidden("a\nb\x1b[31m\u202e") == "a\\nb\\x1b[31m\\u202e"

    def test_a_binary_frame_is_shown_as_such(
        self, venue: FakeVenue, frames: pytest.LogCaptureFixture
    ) -> None:
        with wsclient.connect(venue.url) as client:
            client.subscribe("a")
            client.send(b"\x00\xff")
            venue.broadcast(b'\x08{"channel":"a"}\xff', "a")
            venue.publish("a", n=2)
            client.recv(5)
        assert "connection 1 sent: binary b'\\x00\\xff'" in shown(frames)
        assert 'connection 1 received: binary b\'\\x08{"channel":"a"}\\xff\'' in shown(frames)


class Signed(wsclient.Generic):
    """A dialect whose login has a signature that stands under no name, as with bybit."""

    takes_credentials = True

    def login(self, credentials: Any) -> Any:
        signature = "c0ffee" * 8
        return {"op": "auth", "args": [credentials["key"], 1700000000000, signature]}


class TestSecrets:
    @pytest.mark.parametrize(
        "field",
        ["token", "access_token", "refreshToken", "authSig", "sign", "signature", "api_key", "jwt"],
    )
    def test_a_field_with_the_name_of_a_secret_is_hidden(self, field: str) -> None:
        text = hidden(json.dumps({"method": "subscribe", field: 'ab"cd', "symbol": "BTC/USD"}))
        assert text == f'{{"method": "subscribe", "{field}": "***", "symbol": "BTC/USD"}}'

    def test_fields_of_market_data_are_shown(self) -> None:
        text = '{"channel":"token1","key":"trade:1m:tBTCUSD","signal":"x","design":"y"}'
        assert hidden(text) == text

    def test_a_key_is_hidden_unless_it_names_a_channel(self) -> None:
        assert hidden('{"key":"abc","n":1}') == '{"key":"***","n":1}'
        assert hidden('{"key":"trade:1m:tBTCUSD"}') == '{"key":"trade:1m:tBTCUSD"}'

    def test_a_secret_at_the_cut_is_hidden(self) -> None:
        secret = "s3cr3t" * 5
        text = hidden("x" * (EXCERPT - 10) + secret, mask=lambda t: t.replace(secret, "***"))
        assert "s3c" not in text

    @pytest.mark.parametrize("encode", [json.dumps, lambda login: json.dumps(login).encode()])
    def test_a_secret_longer_than_what_is_kept_is_hidden(self, encode: Any) -> None:
        login = {"op": "auth", "args": ["me", "eyJ0" + "a9" * KEPT]}  # as a JWT of RSA
        text = hidden(encode(login), login)
        assert "eyJ" not in text
        assert "a9a9" not in text
        assert '{"op": "auth", "args": ["me"' in text

    def test_a_secret_in_json_within_a_string_is_hidden(self) -> None:
        text = hidden(json.dumps({"arg": json.dumps({"token": "s3cr3t", "key": "k3y"})}))
        assert "s3cr3t" not in text
        assert "k3y" not in hidden(json.dumps({"arg": json.dumps({"key": "k3y"})}))

    def test_the_signature_of_a_login_is_hidden(self, frames: pytest.LogCaptureFixture) -> None:
        with FakeVenue() as venue:
            url, key = venue.url, "an-api-key-of-mine"
            with pytest.raises(wsclient.ConnectError):  # the venue does not answer a login
                wsclient.connect(
                    url,
                    dialect=Signed(),
                    credentials={"key": key},
                    connect_timeout=0.3,
                    max_retries=1,
                )
        assert (
            shown(frames)[0]
            == 'connection 1 sent: {"op":"auth","args":["***",1700000000000,"***"]}'
        )

    @pytest.mark.parametrize("name", ["bitfinex", "bybit", "deribit", "okx"])
    def test_no_login_of_a_venue_shows_a_secret(self, name: str) -> None:
        fields = ("api_key", "secret", "passphrase", "client_id", "client_secret")
        given = {field: f"canary-{field}-1" for field in fields}
        login = dialects.find(name).login(Credentials(given, lambda: 1.7e9))
        mask = Mask("wss://venue.example", wsclient.Options(credentials=given))
        text = hidden(json.dumps(login), login, mask)
        assert "canary" not in text
        assert re.search("[0-9a-zA-Z+/=]{20,}", text) is None  # a signature
        assert "***" in text
