"""Requests by REST that are no GET."""

from __future__ import annotations

import json

import pytest

from wsclient.testing import RestCall
from wsclient.testing.restcalls import RestReader, answered

POST = b"POST /token?a=1 HTTP/1.1\r\nHost: x\r\nAPI-Key: k\r\nContent-Length: 5\r\n\r\nnonce"


def test_a_request_is_read_however_it_is_cut() -> None:
    for size in (1, 7, len(POST)):
        reader = RestReader(is_secure=False)
        pieces = [POST[at : at + size] for at in range(0, len(POST), size)]
        found = [reader.add(piece) for piece in pieces]
        assert found[:-1] == [None] * (len(pieces) - 1)
        headers = {"host": "x", "api-key": "k", "content-length": "5"}
        assert found[-1] == RestCall("POST", "/token?a=1", headers, b"nonce")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_other_methods_have_no_body_if_they_say_nothing_of_it(method: str) -> None:
    call = RestReader(is_secure=True).add(f"{method} /key HTTP/1.1\r\n\r\n".encode())
    assert call == RestCall(method, "/key", {}, b"", True)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"PING", b"\x16\x03\x01", b"PUSH "])
def test_anything_else_is_left_to_the_handshake(data: bytes) -> None:
    reader = RestReader(is_secure=False)
    given = [reader.add(data[at : at + 1]) for at in range(len(data))]
    first = next(index for index, piece in enumerate(given) if piece is not None)
    assert given[first] == data[: first + 1]


def test_an_endless_request_is_not_kept() -> None:
    reader = RestReader(is_secure=False)
    data = b"POST / HTTP/1.1\r\nX: " + b"x" * 1024 * 1024
    assert reader.add(data) == data


def test_the_answer_is_json_or_a_404() -> None:
    call = RestCall("POST", "/token?secret=1", {}, b"")
    reply = answered(call, b'{"a":1}')
    head, _, body = reply.data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert json.loads(body) == {"a": 1}
    assert reply.note == "POST /token"
    assert answered(call, None).data.startswith(b"HTTP/1.1 404 Not Found\r\n")
