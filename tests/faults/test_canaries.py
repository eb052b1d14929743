"""The search for secrets finds them."""

from __future__ import annotations

import base64
import logging

import pytest

import wsclient
from support.canaries import TOKENS, found_in
from wsclient.testing import FakeVenue

ENCODINGS = {
    "as it is": lambda text: text,
    "in hex": lambda text: text.encode().hex(),
    **{
        f"in base64, behind {n} bytes": lambda text, n=n: base64.b64encode(
            b"u" * n + text.encode()
        ).decode()
        for n in range(3)
    },
}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_each_secret_is_found(encoding: str) -> None:
    for token in TOKENS.values():
        assert found_in(f"a {ENCODINGS[encoding](token)} b"), token


def test_nothing_else_is() -> None:
    encoded = base64.b64encode(b"user:password").decode()
    assert found_in(f"{wsclient.__doc__} canary {encoded}") == []


@pytest.mark.parametrize("name", ["wsclient", "websocket", "anything"])
def test_a_secret_in_the_log_is_found_at_any_level(
    name: str, request: pytest.FixtureRequest
) -> None:
    search = next(h for h in logging.getLogger().handlers if type(h).__name__ == "_Search")
    try:
        raise ValueError(TOKENS["Header"])
    except ValueError:
        logging.getLogger(name).debug("failed", exc_info=True)
    assert search.found
    search.found.clear()  # else this test would fail, as it should


def test_a_secret_in_an_event_is_found(venue: FakeVenue, no_secret_is_in_events: list[str]) -> None:
    venue.refuse_channel("a", TOKENS["Option"])  # an event quotes the venue's own words
    with wsclient.connect(venue.url) as client, pytest.raises(wsclient.SubscriptionRejected):
        client.subscribe("a")
    assert no_secret_is_in_events
    no_secret_is_in_events.clear()  # else this test would fail, as it should
    search = next(h for h in logging.getLogger().handlers if type(h).__name__ == "_Search")
    search.found.clear()
