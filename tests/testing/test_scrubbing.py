"""What is recorded of a venue, or shown to people, holds no secret."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from wsclient.testing.scrubbing import Scrubber


def scrubbed(message: Any, *secrets: str) -> str:
    scrubber = Scrubber(secrets)
    text = message if isinstance(message, str) else json.dumps(message)
    scrubber.learn_sent(text)
    return str(scrubber.sent(text))


@pytest.mark.parametrize(
    "name", ["apiKey", "api_key", "token", "secret", "signature", "passphrase", "listenKey", "sign"]
)
def test_the_value_of_a_field_named_so_is_hidden(name: str) -> None:
    assert (
        scrubbed({"op": "x", "args": {name: "abcde"}})
        == f'{{"op": "x", "args": {{"{name}": "***"}}}}'
    )


@pytest.mark.parametrize(
    "login",
    [
        {"op": "auth", "args": ["VerySecretKey", 1700000000000, "f00dfeed12345678"]},
        {"op": "login", "args": [{"apiKey": "VerySecretKey", "sign": "f00dfeed12345678"}]},
        {
            "method": "public/auth",
            "params": {"client_id": "VerySecretKey", "x": "f00dfeed12345678"},
        },
        {"event": "auth", "apiKey": "VerySecretKey", "authPayload": "f00dfeed12345678"},
        {"method": "session.logon", "params": {"a": "VerySecretKey", "b": "f00dfeed12345678"}},
    ],
)
def test_what_a_login_holds_is_hidden(login: Any) -> None:
    text = scrubbed(login)
    assert "VerySecretKey" not in text
    assert "f00dfeed" not in text
    assert next(iter(login.values())) in text


def test_a_time_in_a_login_is_shown() -> None:
    assert "1700000000000" in scrubbed({"op": "auth", "args": ["VerySecretKey", "1700000000000"]})


def test_a_channel_is_shown() -> None:
    request = {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"], "req_id": "12345678a"}
    assert json.loads(scrubbed(request)) == request


def test_what_is_called_a_key_or_a_token_may_be_a_channel_or_a_coin() -> None:
    scrubber = Scrubber()
    for request in ('{"key":"trade:1m:tBTCUSD"}', '{"token":"PEPE-USDT"}'):
        scrubber.learn_sent(request)
    assert scrubber.sent('{"key":"trade:1m:tBTCUSD"}') == '{"key":"trade:1m:tBTCUSD"}'
    assert scrubber.received('["trade:1m:tBTCUSD","PEPE-USDT"]') == (
        '["trade:1m:tBTCUSD","PEPE-USDT"]'
    )


def test_a_secret_is_hidden_wherever_it_stands_once_it_is_known() -> None:
    scrubber = Scrubber()
    scrubber.learn_sent('{"method":"order","params":{"token":"t0k/en==","symbol":"BTC"}}')
    assert scrubber.received('{"said":"t0k\\/en== is wrong"}') == '{"said":"*** is wrong"}'
    assert scrubber.url("/ws?x=t0k%2Fen%3D%3D") == "/ws?x=***"
    assert scrubber.received(b"\xff t0k/en==") == b"\xff ***"


def test_given_secrets_are_hidden_however_short() -> None:
    assert scrubbed("my pin is 42", "42") == "my pin is ***"
    with pytest.raises(ValueError, match="must not be empty"):
        Scrubber([""])


def test_a_token_of_the_venue_is_hidden_but_no_name_of_a_coin() -> None:
    scrubber = Scrubber()
    text = '{"listenKey":"pqia91ma19a5s61cv6a81","token":"WBTC"}'
    scrubber.learn_received(text)
    assert scrubber.received(text) == '{"listenKey":"***","token":"WBTC"}'


def test_urls_lose_logins_tokens_and_keys() -> None:
    url = (
        "wss://user:pass12345@x.example/ws/pqia91ma19a5s61cv6a81va65sdf?token=abcde&streams=a@trade"
    )
    assert Scrubber().url(url) == "wss://x.example/ws/***?token=***&streams=a@trade"
    scrubber = Scrubber()
    scrubber.learn_url(url)
    assert (
        scrubber.text("pass12345 abcde pqia91ma19a5s61cv6a81va65sdf a@trade")
        == "*** *** *** a@trade"
    )


def test_headers_that_a_client_adds_are_secret() -> None:
    scrubber = Scrubber()
    headers = [
        ("Authorization", "Bearer k3yk3yk3y"),
        ("X-MBX-APIKEY", "vmPUZE6mv9SD5"),
        ("Host", "a.b"),
    ]
    scrubber.learn_headers([*headers, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZQ==")])
    assert scrubber.text("Bearer k3yk3yk3y vmPUZE6mv9SD5 a.b dGhlIHNhbXBsZQ==") == (
        "*** *** a.b dGhlIHNhbXBsZQ=="
    )


@pytest.mark.parametrize("form", [31, 15, -15])
def test_a_compressed_message_is_scrubbed_too(form: int) -> None:
    packer = zlib.compressobj(wbits=form)
    message = {"token": "abcdefghijklm0123456789", "data": "x"}
    payload = packer.compress(json.dumps(message).encode()) + packer.flush()
    scrubber = Scrubber()
    scrubber.learn_received(payload)
    shown = scrubber.received(payload)
    assert isinstance(shown, bytes)
    assert json.loads(zlib.decompress(shown, form)) == {"token": "***", "data": "x"}
    scrubber.learn_sent(payload)
    sent = scrubber.sent(payload)
    assert isinstance(sent, bytes)
    assert json.loads(zlib.decompress(sent, form)) == {"token": "***", "data": "x"}


@pytest.mark.parametrize("payload", [b"", b"\x1f\x8b", b"\xff\x00{", zlib.compress(b"[1]") + b"x"])
def test_a_binary_message_without_a_secret_stays_as_it_is(payload: bytes) -> None:
    assert Scrubber().sent(payload) == Scrubber().received(payload) == payload
