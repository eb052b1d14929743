"""The renewal of a token beside its connection: what it reports, and how it ends."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest

from support.helpers import Server
from wsclient.dialect.values import Credentials, RestRequest
from wsclient.dialects import Generic
from wsclient.errors import (
    ConfigurationError,
    ConnectionLost,
    HandshakeRejected,
    ThreadStartError,
    WSClientError,
)
from wsclient.options import Options
from wsclient.transport import renewing
from wsclient.transport.renewing import Renewing
from wsclient.transport.rest import fetch
from wsclient.transport.sockets import Cancellable
from wsclient.transport.target import Destination, Target

REQUEST = RestRequest("https://venue.example/key", method="PUT")


class Renewed(Generic):
    """A dialect whose renewal is ``request``, and whose token has expired if it says so."""

    def __init__(self, request: RestRequest | None = REQUEST, has_expired: Any = False) -> None:
        super().__init__()
        self._request, self._has_expired = request, has_expired

    def renewal(self, url: str, credentials: Credentials) -> RestRequest | None:
        assert (url, credentials.token) == ("wss://x/?key=K", "K")
        return self._request

    def has_expired(self, refusal: HandshakeRejected) -> bool:
        if isinstance(self._has_expired, Exception):
            raise self._has_expired
        return bool(self._has_expired)


class Bench:
    """A renewal whose requests are answered by ``answer``, which may raise."""

    def __init__(self, dialect: Generic, answer: Any = None, fetched: Any = None) -> None:
        self.requests: list[RestRequest] = []
        self.results: queue.SimpleQueue[tuple[WSClientError | None, bool]] = queue.SimpleQueue()
        self._answer = answer
        credentials = Credentials({}, lambda: 0.0, "K")
        self.renewing = Renewing(
            7,
            Target("wss://x/", Options(), dialect),
            Destination("wss://x/?key=K", {}, credentials, True),
            fetched or self._fetch,
            lambda error, has_expired: self.results.put((error, has_expired)),
        )

    def _fetch(self, request: RestRequest, holder: Cancellable) -> Any:
        self.requests.append(request)
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    def result(self) -> tuple[WSClientError | None, bool]:
        self.renewing.begin()
        found = self.results.get(timeout=5)
        self.renewing.end()
        return found


def test_a_success_is_reported() -> None:
    bench = Bench(Renewed())
    assert bench.result() == (None, False)
    assert bench.requests == [REQUEST]


def test_nothing_to_send_is_a_success() -> None:
    bench = Bench(Renewed(request=None))
    assert bench.result() == (None, False)
    assert bench.requests == []


@pytest.mark.parametrize("has_expired", [True, False])
def test_the_dialect_says_whether_a_refusal_means_the_end(has_expired: bool) -> None:
    refusal = HandshakeRejected("HTTP 400", 400)
    assert Bench(Renewed(has_expired=has_expired), refusal).result() == (refusal, has_expired)


def test_only_a_refusal_can_mean_the_end() -> None:
    lost = ConnectionLost("no route")
    assert Bench(Renewed(has_expired=True), lost).result() == (lost, False)


@pytest.mark.parametrize("bug", [KeyError("x"), SystemExit()])
def test_a_bug_is_a_failure_and_its_text_is_not_told(bug: BaseException) -> None:
    error, has_expired = Bench(Renewed(), bug).result()
    assert str(error) == f"the renewal failed with {type(bug).__name__}"
    assert not has_expired


def test_a_bug_in_the_answer_of_the_dialect_does_not_end_the_connection() -> None:
    refusal = HandshakeRejected("HTTP 400", 400)
    dialect = Renewed(has_expired=KeyError("x"))
    assert Bench(dialect, refusal).result() == (refusal, False)


def test_a_missing_field_of_the_credentials_is_a_failure() -> None:
    error = ConfigurationError("the credentials must have 'api_key'")
    assert Bench(Renewed(), error).result() == (error, False)


def test_a_thread_that_cannot_be_started_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise ThreadStartError("no more threads")

    monkeypatch.setattr(renewing, "start", refuse)
    bench = Bench(Renewed())
    error, has_expired = bench.result()
    assert isinstance(error, ThreadStartError)
    assert not has_expired


def test_the_end_of_the_connection_ends_a_request_that_is_under_way() -> None:
    asked, ended = threading.Event(), threading.Event()

    def really(request: RestRequest, holder: Cancellable) -> Any:
        return fetch(request, 10.0, hold=holder.hold)

    def hold(sock: Any) -> None:
        asked.set()
        ended.wait(10)

    with Server(hold) as server:
        url = server.url.replace("ws://", "http://")
        bench = Bench(Renewed(RestRequest(url, method="PUT")), fetched=really)
        bench.renewing.begin()
        assert asked.wait(5)
        bench.renewing.cancel()
        bench.renewing.end()
        names = [thread.name for thread in threading.enumerate()]
        assert "wsclient-renewal-7" not in names
        assert bench.results.empty()
        ended.set()
