"""What the checks share: texts that may quote the venue are safe to show."""

from __future__ import annotations

from typing import Any

from wsclient import diagnose
from wsclient.testing import FakeVenue, GenericProtocol


def test_secrets_that_a_venue_quotes_are_not_shown() -> None:
    class Quotes(GenericProtocol):
        def greeting(self, peer: Any) -> Any:
            headers = peer.request.headers
            quoted = [peer.request.path, headers["X-Key"], headers["Authorization"]]
            peer.close(1008, f"stream {' '.join(quoted)} {headers['Cookie']}")
            return []

    with FakeVenue(Quotes()) as venue:
        diagnosis = diagnose(
            f"{venue.url}stream/listen-key-of-mine?token=trust-no-1&n=7",
            headers=lambda: {"X-Key": "hunter22", "Authorization": "Bearer abcdef"},
            cookie="session=c00kie",
        )
    text = str(diagnosis)
    for secret in ("listen-key", "trust-no-1", "hunter22", "abcdef", "c00kie"):
        assert secret not in text
    assert "1008: stream /stream/***" in text
