"""Where a connection goes: no secret in the clear, and none in a repr."""

from __future__ import annotations

import time
from typing import Any

import pytest

from support.attempts import SECRET, connect, failure_of
from wsclient import (
    ConfigurationError,
)
from wsclient.dialects.generic import Generic
from wsclient.options import Options
from wsclient.testing import FakeVenue
from wsclient.transport.target import Target


class TestSecretsInTheClear:
    @pytest.mark.parametrize(
        "option",
        [
            {"headers": {"Authorization": SECRET}},
            {"headers": {"authorization": SECRET}},
            {"headers": {"X-API-Key": SECRET}},
            {"headers": {"Cookie": SECRET}},
            {"headers": lambda: {"Authorization": SECRET}},
            {"cookie": SECRET},
            {"credentials": {"key": SECRET}, "dialect": "okx"},
            {"credentials": lambda: {"key": SECRET}, "dialect": "okx"},
        ],
    )
    def test_are_refused(self, option: dict[str, Any]) -> None:
        started = time.monotonic()
        error = failure_of("ws://192.0.2.1/", **option)  # an address that is not in use
        assert isinstance(error, ConfigurationError)
        assert "wss://" in str(error)
        assert time.monotonic() - started < 2

    def test_are_allowed_to_loopback(self, venue: FakeVenue) -> None:
        with connect(venue.url, headers={"Authorization": SECRET, "X-API-Key": "k"}):
            request = venue.accept().request
        assert request is not None
        assert request.headers["Authorization"] == SECRET
        assert request.headers["X-API-Key"] == "k"


class TestTarget:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("wss://venue.example/S3CRET?key=S3CRET", "<Target wss://venue.example:443, generic>"),
            (lambda: "wss://venue.example/?S3CRET", "<Target a function, generic>"),
        ],
    )
    def test_its_repr_is_without_path_query_and_options(self, url: Any, shown: str) -> None:
        options = Options(cookie="S3CRET", credentials={"key": "S3CRET"})
        target = Target(url, options, Generic())
        assert repr(target) == shown
