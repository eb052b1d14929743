"""Which requests match a recorded one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from wsclient.testing.alike import essence, essence_of_path, heartbeat_of, ids_of, with_ids


def is_alike(one: Any, other: Any) -> bool:
    return essence(json.dumps(one)) == essence(json.dumps(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"method": "subscribe", "req_id": 1}, {"req_id": 7, "method": "subscribe"}),
        ({"op": "subscribe", "args": ["a", "b"]}, {"op": "subscribe", "args": ["b", "a"]}),
        ({"op": "order", "clOrdId": "x1", "sz": "1"}, {"op": "order", "clOrdId": "y2", "sz": "1"}),
        (
            {"m": "order", "timestamp": 1, "apiKey": "***"},
            {"m": "order", "timestamp": 2, "apiKey": "k"},
        ),
        ({"op": "auth", "args": ["***", 1, "***"]}, {"op": "auth", "args": ["key", 2, "sig", 5]}),
    ],
)
def test_ids_times_secrets_and_order_do_not_matter(one: Any, other: Any) -> None:
    assert is_alike(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"op": "subscribe", "args": ["a"]}, {"op": "subscribe", "args": ["b"]}),
        ({"op": "subscribe", "args": ["a"]}, {"op": "unsubscribe", "args": ["a"]}),
        ({"op": "order", "price": "1.0"}, {"op": "order", "price": "2.0"}),
        (
            {"channel": "candles", "key": "trade:1m:tA"},
            {"channel": "candles", "key": "trade:1m:tB"},
        ),
        ({"op": "login", "args": []}, {"op": "subscribe", "args": []}),
    ],
)
def test_channels_and_values_matter(one: Any, other: Any) -> None:
    assert not is_alike(one, other)


def test_text_that_is_no_json_is_compared_as_it_is() -> None:
    assert essence("hello") == essence("hello") != essence("hallo")
    assert essence(b"\x01") == essence(b"\x01") != essence(b"\x02")
    assert essence("7") != essence("8")


def test_recorded_answers_get_the_ids_of_the_requests() -> None:
    recorded = '{"req_id":1,"params":{"cl_ord_id":"abc"}}'
    ids = ids_of(recorded, '{"req_id":12,"params":{"cl_ord_id":"xyz"}}')
    answer = '{"req_id": 1,"result":{"cl_ord_id":"abc","qty":1.10,"price":1}}'
    assert (
        with_ids(answer, ids) == '{"req_id": 12,"result":{"cl_ord_id":"xyz","qty":1.10,"price":1}}'
    )
    assert ids_of(recorded, recorded) == {}


def test_paths_are_compared_without_tokens_and_ids() -> None:
    assert essence_of_path("/ws?token=a&connectId=1&x=1") == essence_of_path("/ws/?x=1&token=b")
    assert essence_of_path("/stream?streams=a") != essence_of_path("/stream?streams=b")


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        ("ping", "ping"),
        (b"pong", "pong"),
        ('{"op":"ping"}', "ping"),
        ('{"method":"public/test","id":3}', "ping"),
        ('{"success":true,"ret_msg":"pong","op":"ping"}', "ping"),
        ('{"pong":123}', "pong"),
        ('{"op":"subscribe","args":["ping"]}', None),
    ],
)
def test_heartbeats_are_known(payload: str | bytes, word: str | None) -> None:
    assert heartbeat_of(payload) == word
