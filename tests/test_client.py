"""Every call of the client, against a venue on loopback."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from typing import Any

import pytest

import wsclient
from support.inside import core_of, watchdog_of
from wsclient import Gap, State, SubscriptionState, WebSocketClient
from wsclient.sansio.actions import Forget
from wsclient.testing import FakeVenue

QUICK = {"retry_delay": 0.01, "max_retry_delay": 0.05}


@pytest.fixture
def client(venue: FakeVenue) -> Any:
    with wsclient.connect(venue.url, **QUICK) as client:
        yield client


def in_thread(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Run a call on a thread. Return a function that returns its result or raises its error."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append((function(*args, **kwargs), None))
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def result(timeout: float = 5.0) -> Any:
        thread.join(timeout)
        assert not thread.is_alive(), f"{function} is still blocked"
        value, error = outcome[0]
        if error is not None:
            raise error
        return value

    result.thread = thread  # type: ignore[attr-defined]
    return result


class Turns:
    """A lock that calls a function once, after its release number ``turn`` (from 0)."""

    def __init__(self, lock: Any, turn: int, function: Any) -> None:
        self.lock = lock
        self._left = turn
        self._function = function

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        self._left -= 1
        if self._left == -1:
            self._function()


def until(condition: Any, timeout: float = 5.0) -> None:
    """Wait for a condition that no event reports."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        threading.Event().wait(0.002)


class TestConnect:
    def test_opens(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url) as client:
            assert client.state is State.OPEN
            assert client.is_connected
            assert len(venue.live) == 1

    def test_a_client_is_idle_until_connect_is_called(self, venue: FakeVenue) -> None:
        client = WebSocketClient(venue.url)
        assert client.state is State.IDLE
        assert venue.attempts == 0
        client.close()

    def test_is_a_no_op_when_open(self, client: WebSocketClient, venue: FakeVenue) -> None:
        client.connect()
        assert venue.attempts == 1

    def test_with_opens_a_client_that_is_not_open(self, venue: FakeVenue) -> None:
        with WebSocketClient(venue.url) as client:
            assert client.is_connected

    def test_gives_up_after_max_retries_and_may_be_called_again(self, venue: FakeVenue) -> None:
        venue.refuse(500, times=3)
        client = WebSocketClient(venue.url, max_retries=3, **QUICK)
        with pytest.raises(wsclient.ConnectError) as caught:
            client.connect()
        assert isinstance(caught.value, ConnectionError)
        assert caught.value.attempts == 3
        assert isinstance(caught.value.__cause__, wsclient.HandshakeRejected)
        assert caught.value.__cause__.status == 500
        assert venue.attempts == 3
        assert client.state is State.IDLE
        client.connect()
        assert client.is_connected
        client.close()

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_refusal_for_good_is_not_retried(self, venue: FakeVenue, status: int) -> None:
        venue.refuse(status, times=5, body=b"secret-of-the-venue")
        client = WebSocketClient(venue.url, **QUICK)
        with pytest.raises(wsclient.ConnectError, match=str(status)) as caught:
            client.connect()
        assert venue.attempts == 1
        assert client.state is State.FAILED
        assert "secret" not in str(caught.value)
        with pytest.raises(wsclient.ConnectError, match=str(status)):
            client.recv()
        client.close()

    def test_slow_dns_does_not_hold_up_the_failure(
        self, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        release = threading.Event()
        monkeypatch.setattr("socket.getaddrinfo", lambda *args, **kwargs: release.wait(5) and [])
        started = time.monotonic()
        with pytest.raises(wsclient.ConnectError):
            wsclient.connect(venue.url, connect_timeout=0.2, max_retries=1)
        assert time.monotonic() - started < 0.2 + 0.25
        release.set()

    @pytest.mark.parametrize("status", [429, 503])
    def test_retry_after_is_waited_for(self, venue: FakeVenue, status: int) -> None:
        venue.refuse(status, retry_after=1)
        started = time.monotonic()
        with wsclient.connect(venue.url, **QUICK):
            assert time.monotonic() - started >= 1.0
        assert venue.attempts == 2

    def test_classify_replaces_the_judgement(self, venue: FakeVenue) -> None:
        venue.refuse(404, times=5)
        client = WebSocketClient(
            venue.url, classify=lambda error: wsclient.Verdict.FATAL, max_retries=5, **QUICK
        )
        with pytest.raises(wsclient.ConnectError, match="404"):
            client.connect()
        assert venue.attempts == 1
        client.close()

    def test_a_mute_handshake_ends_at_connect_timeout(self, venue: FakeVenue) -> None:
        venue.fail_handshake("deaf", times=2)
        client = WebSocketClient(venue.url, connect_timeout=0.3, max_retries=2, **QUICK)
        started = time.monotonic()
        with pytest.raises(wsclient.ConnectError) as caught:
            client.connect()
        assert time.monotonic() - started < 0.6 + 0.25 + 0.05
        assert isinstance(caught.value.__cause__, wsclient.ConnectTimeout)
        client.close()

    def test_its_own_timeout_bounds_all_attempts(self, venue: FakeVenue) -> None:
        venue.fail_handshake("deaf", times=5)
        client = WebSocketClient(venue.url, **QUICK)
        started = time.monotonic()
        with pytest.raises(TimeoutError):
            client.connect(timeout=0.2)
        assert time.monotonic() - started < 0.5
        assert client.state is State.IDLE
        client.close()

    def test_url_and_headers_may_be_functions_called_for_each_attempt(
        self, venue: FakeVenue
    ) -> None:
        asked: list[str] = []

        def url() -> str:
            asked.append("url")
            return f"{venue.url}?n={len(asked)}"

        def headers() -> dict[str, str]:
            return {"X-Attempt": str(len(asked))}

        with wsclient.connect(url, headers=headers, **QUICK):
            venue.live[0].rst()
            venue.wait_for(lambda venue: len(venue.peers) == 2)
        assert [request.path for request in venue.requests] == ["/?n=1", "/?n=2"]
        assert [request.headers["X-Attempt"] for request in venue.requests] == ["1", "2"]

    def test_a_url_function_that_raises_is_a_failed_attempt(self, venue: FakeVenue) -> None:
        tokens = iter([RuntimeError("no token"), venue.url])

        def url() -> str:
            token = next(tokens)
            if isinstance(token, Exception):
                raise token
            return token

        with wsclient.connect(url, **QUICK) as client:
            assert client.stats().dials == 2

    def test_a_connection_that_is_refused_at_first_is_retried(self, venue: FakeVenue) -> None:
        venue.down()
        client = WebSocketClient(venue.url, max_retries=1)
        with pytest.raises(wsclient.ConnectError, match="refused"):
            client.connect()
        venue.up()
        client.connect()
        client.close()

    @pytest.mark.parametrize(
        ("url", "options", "word"),
        [
            ("http://localhost", {}, "ws://"),
            ("ws://user:pw@localhost", {}, "user part"),
            ("ws://localhost", {"retries": 3}, "unknown option retries"),
            ("ws://localhost", {"overflow": "block"}, "overflow"),
            ("ws://localhost", {"dialect": "nasdaq"}, "dialect"),
            ("ws://localhost", {"headers": {"X": "a\r\nY: b"}}, "control character"),
            ("ws://localhost", {"ping_timeout": 0}, "ping_timeout"),
        ],
    )
    def test_what_cannot_work_is_refused_at_once(
        self, url: str, options: dict[str, Any], word: str
    ) -> None:
        with pytest.raises(wsclient.ConfigurationError, match=word):
            WebSocketClient(url, **options)


class TestSubscribe:
    def test_blocks_until_the_venue_has_answered(self, client: Any, venue: FakeVenue) -> None:
        venue.ack_delay = 0.1
        started = time.monotonic()
        (subscription,) = client.subscribe("a")
        assert time.monotonic() - started >= 0.1
        assert subscription.is_active
        assert subscription.channel == "a"

    def test_names_what_was_refused_and_keeps_the_rest(self, client: Any, venue: FakeVenue) -> None:
        venue.refuse_channel("b", "no such market")
        with pytest.raises(wsclient.SubscriptionRejected, match="no such market") as caught:
            client.subscribe("a", "b")
        assert caught.value.failed == {"b": "no such market"}
        assert list(client.subscriptions) == ["a"]
        assert client.subscriptions["a"].is_active

    def test_times_out_naming_the_channel(self, client: Any, venue: FakeVenue) -> None:
        venue.mute_acks(channel="b")
        with pytest.raises(wsclient.SubscriptionTimeout) as caught:
            client.subscribe("a", "b", timeout=0.1)
        assert isinstance(caught.value, TimeoutError)
        assert list(caught.value.failed) == ["b"]
        assert list(client.subscriptions) == ["a"]
        assert "dialect" not in str(caught.value)

    def test_a_timeout_without_any_answer_asks_for_the_dialect(self) -> None:
        with (
            FakeVenue("kraken") as venue,
            wsclient.connect(venue.url, ack_timeout=0.1) as client,
            pytest.raises(wsclient.SubscriptionTimeout, match="most venues need dialect="),
        ):
            client.subscribe("ticker:BTC/USD")

    def test_ack_timeout_is_the_default(self, venue: FakeVenue) -> None:
        venue.mute_acks()
        with (
            wsclient.connect(venue.url, ack_timeout=0.1) as client,
            pytest.raises(wsclient.SubscriptionTimeout, match=r"0\.1 s"),
        ):
            client.subscribe("a")

    def test_waits_for_the_connection_when_it_is_down(self, client: Any, venue: FakeVenue) -> None:
        venue.down()
        venue.live[0].rst()
        until(lambda: not client.is_connected)
        result = in_thread(client.subscribe, "a")
        venue.up()
        assert result()[0].is_active

    def test_before_connect_raises(self, venue: FakeVenue) -> None:
        client = WebSocketClient(venue.url)
        with pytest.raises(wsclient.NotConnected, match="connect"):
            client.subscribe("a")
        client.close()

    def test_again_is_a_no_op(self, client: Any, venue: FakeVenue) -> None:
        client.subscribe("a")
        client.subscribe("a")
        assert len(venue.live[0].received) == 1

    def test_again_with_other_options_says_what_to_do(self, client: Any) -> None:
        client.subscribe("a", depth=10)
        with pytest.raises(wsclient.ConfigurationError, match="unsubscribe"):
            client.subscribe("a", depth=100)
        assert client.subscriptions["a"].options == {"depth": 10}

    def test_a_list_is_refused_with_how_to_pass_it(self, client: Any) -> None:
        with pytest.raises(wsclient.ConfigurationError, match=r"subscribe\(\*channels\)"):
            client.subscribe(["a", "b"])

    def test_options_are_sent_again_after_a_reconnect(self, client: Any, venue: FakeVenue) -> None:
        client.subscribe("a", depth=10)
        venue.live[0].rst()
        venue.wait_for(
            lambda venue: len(venue.peers) == 2 and venue.live and venue.live[0].received
        )
        peer = venue.peers[1]
        peer.expect_json({"type": "subscribe", "channel": "a", "depth": 10})

    def test_unsubscribe_ends_a_subscription(self, client: Any, venue: FakeVenue) -> None:
        client.subscribe("a", "b")
        client.unsubscribe("a")
        assert venue.live[0].subscriptions == {"b"}
        assert list(client.subscriptions) == ["b"]

    def test_unsubscribe_of_an_unknown_channel_is_a_no_op(self, client: Any) -> None:
        client.unsubscribe("nothing")

    def test_a_refused_resubscription_ends_with_a_lost_message(
        self, client: Any, venue: FakeVenue
    ) -> None:
        client.subscribe("a", "b")
        venue.publish("a")
        venue.wait_for(lambda venue: True)
        assert client.recv(timeout=5).channel == "a"
        venue.refuse_channel("a", "delisted")
        venue.live[0].rst()
        lost = client.recv(timeout=5)
        assert (lost.channel, lost.type, lost.data) == ("a", "lost", None)
        assert lost.gap.reason == "rejected"
        assert list(client.subscriptions) == ["b"]

    def test_the_pending_gap_shows_from_the_moment_the_connection_drops(
        self, client: Any, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        venue.publish("a")
        first = client.recv(timeout=5)
        venue.down()
        venue.live[0].rst()
        until(lambda: not client.is_connected)
        assert client.subscriptions["a"].gap == Gap("reconnect", None, first.received_at)
        assert client.subscriptions["a"].state is SubscriptionState.PENDING
        venue.up()


class TestReceiving:
    def test_recv_gives_the_messages_in_order(self, client: Any, venue: FakeVenue) -> None:
        client.subscribe("a")
        for price in range(3):
            venue.publish("a", price=price)
        messages = [client.recv(timeout=5) for _ in range(3)]
        assert [m.data["price"] for m in messages] == [0, 1, 2]
        assert [m.sequence for m in messages] == [1, 2, 3]
        assert {m.connection_id for m in messages} == {1}
        assert all(m.gap is None for m in messages)
        assert messages[0].raw == venue.peers[0].journal[1].payload

    def test_recv_times_out_with_the_builtin_error(self, client: Any) -> None:
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.05)
        with pytest.raises(TimeoutError):
            client.recv(timeout=0)

    def test_recv_before_connect_raises(self, venue: FakeVenue) -> None:
        client = WebSocketClient(venue.url)
        with pytest.raises(wsclient.NotConnected):
            client.recv()
        client.close()
        with pytest.raises(wsclient.ClientClosed):
            client.recv()

    def test_recv_batch_takes_all_that_waits(self, client: Any, venue: FakeVenue) -> None:
        client.subscribe("a")
        for _ in range(5):
            venue.publish("a")
        until(lambda: client.stats().queued == 5)
        assert len(client.recv_batch(max_messages=2)) == 2
        assert len(client.recv_batch()) == 3
        with pytest.raises(TimeoutError):
            client.recv_batch(timeout=0.01)

    def test_iteration_breaks_nests_and_mixes_with_recv(
        self, client: Any, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        for _ in range(6):
            venue.publish("a")
        got = []
        for message in client:
            got.append(message.sequence)
            for inner in client:
                got.append(inner.sequence)
                break
            got.append(client.recv(timeout=5).sequence)
            if len(got) == 6:
                break
        assert got == [1, 2, 3, 4, 5, 6]

    def test_each_message_goes_to_one_of_several_threads(
        self, client: Any, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        results = [in_thread(lambda: [m.sequence for m in client]) for _ in range(4)]
        for _ in range(500):
            venue.publish("a")
        until(lambda: client.stats().messages == 500 and client.stats().queued == 0)
        client.close()
        taken = [sequence for result in results for sequence in result()]
        assert sorted(taken) == list(range(1, 501))

    def test_what_was_queued_before_a_drop_is_delivered_first(
        self, client: Any, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        for _ in range(10):
            venue.publish("a")
        venue.live[0].fin()
        venue.wait_for(lambda v: len(v.peers) == 2 and v.peers[1].subscriptions)
        venue.publish("a")
        assert [client.recv(timeout=5).sequence for _ in range(11)] == list(range(1, 12))

    def test_the_first_message_after_a_reconnect_says_what_was_missed(
        self, client: Any, venue: FakeVenue
    ) -> None:
        client.subscribe("a", "b")
        venue.publish("a")
        venue.publish("b")
        old = [client.recv(timeout=5) for _ in range(2)]
        venue.down()
        venue.live[0].fin()
        until(lambda: not client.is_connected)
        for _ in range(3):
            venue.publish("a")
        venue.up()
        venue.wait_for(lambda v: v.live and v.live[0].subscriptions == {"a", "b"})
        venue.publish("a")
        venue.publish("b")
        after_a, after_b = client.recv(timeout=5), client.recv(timeout=5)
        assert after_a.gap == Gap("reconnect", 3, old[0].received_at)
        assert after_b.gap is None, "its sequence proves that nothing was missed"

    def test_invalid_json_is_counted_and_skipped(
        self, client: Any, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.subscribe("a")
        peer = venue.live[0]
        with caplog.at_level(logging.WARNING, "wsclient"):
            for bad in ("{nope", "[1, 2]", '"text"', "", '{"type": 5}', "{" * 5000, "x" * 5000):
                peer.send(bad)
            venue.publish("a")
            assert client.recv(timeout=5).sequence == 1
            until(lambda: any("skipped" in record.getMessage() for record in caplog.records))
        assert client.stats().invalid == 7
        assert client.is_connected
        assert all(len(record.getMessage()) < 500 for record in caplog.records)

    def test_bad_input_is_marked_where_no_sequence_disproves_it(
        self, client: Any, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        peer = venue.live[0]
        peer.send_json({"type": "market_data", "channel": "a"})
        peer.send("{nope")
        peer.send_json({"type": "market_data", "channel": "a"})
        first, second = client.recv(timeout=5), client.recv(timeout=5)
        assert first.gap is None
        assert second.gap == Gap("invalid", None, first.received_at)

    def test_invalid_utf8_ends_the_connection_but_not_the_iteration(
        self, client: Any, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        venue.publish("a")
        bad = b'{"type":"market_data","channel":"a","x":"\xff"}'
        peer = venue.live[0]
        peer.send_raw(bytes([0x81, len(bad)]) + bad)
        assert peer.expect_close() == 1007
        venue.wait_for(lambda v: v.live and v.live[0].subscriptions == {"a"})
        venue.publish("a")
        assert [client.recv(timeout=5).sequence for _ in range(2)] == [1, 2]
        assert client.stats().invalid == 1

    def test_system_frames_are_filtered_and_unknown_ones_logged_once_per_type(
        self, client: Any, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.subscribe("a")
        with caplog.at_level(logging.WARNING, "wsclient"):
            for _ in range(3):
                venue.live[0].send_json({"type": "system", "text": "hello"})
                venue.live[0].send_json({"type": "notice", "text": "hello"})
            venue.publish("a")
            assert client.recv(timeout=5).channel == "a"
            until(lambda: any("unhandled" in r.message for r in caplog.records))
        assert client.stats().unhandled == 3
        assert sum("unhandled" in record.message for record in caplog.records) == 1

    def test_deliver_unhandled_puts_them_into_the_stream(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, deliver_unhandled=True) as client:
            venue.live[0].send_json({"type": "notice", "text": "hello"})
            message = client.recv(timeout=5)
            assert (message.type, message.data["text"]) == ("notice", "hello")
            assert client.stats().unhandled == 1

    def test_validate_skips_counts_and_marks(self, venue: FakeVenue) -> None:
        def validate(message: wsclient.Message) -> None:
            if message.data["price"] < 0:
                raise ValueError("negative price")

        with wsclient.connect(venue.url, validate=validate) as client:
            client.subscribe("a")
            for price in (1, -1, -2, 2):
                venue.publish("a", price=price)
            first, second = client.recv(timeout=5), client.recv(timeout=5)
            assert second.data["price"] == 2
            assert second.gap == Gap("invalid", 2, first.received_at)
            assert client.stats().invalid == 2

    def test_decimal_keeps_every_digit(self, venue: FakeVenue) -> None:
        from decimal import Decimal

        with wsclient.connect(venue.url, decimal=True) as client:
            client.subscribe("a")
            venue.live[0].send(
                '{"type":"market_data","channel":"a","price":0.10000000000000000001}'
            )
            price = client.recv(timeout=5).data["price"]
            assert price == Decimal("0.10000000000000000001")

    def test_the_age_of_a_channel_is_that_of_its_newest_message(
        self, client: Any, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert client.age("a") is None
        client.subscribe("a", "quiet")
        venue.publish("a", price=1)
        read_at = client.recv(5).arrival.read_at
        now = time.monotonic()
        assert now - read_at <= client.age("a") <= time.monotonic() - read_at + 0.01
        assert client.age("quiet") is None
        monkeypatch.setattr(time, "time_ns", lambda: 0)  # the system's time is set back
        assert 0.0 <= client.age("a") < 60.0

    def test_the_age_grows_through_a_disconnect_until_the_next_message(
        self, client: Any, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        venue.publish("a", price=1)
        client.recv(5)
        venue.down()
        venue.live[0].rst()
        until(lambda: not client.is_connected)
        before = client.age("a")
        assert before > 0.0
        assert client.age("a") > before
        venue.up()
        until(lambda: client.is_connected and client.subscriptions["a"].is_active)
        then = time.monotonic()
        venue.publish("a", price=2)
        client.recv(5)
        assert client.age("a") <= time.monotonic() - then

    def test_an_unsubscribed_channel_has_no_age(self, client: Any, venue: FakeVenue) -> None:
        client.subscribe("a")
        venue.publish("a", price=1)
        client.recv(5)
        client.unsubscribe("a")
        assert client.age("a") is None

    def test_the_age_runs_no_code_of_the_user(self, venue: FakeVenue) -> None:
        def decode(channel: str) -> Any:
            raise LookupError(channel)

        with wsclient.connect(venue.url, decode=decode) as client:
            client.subscribe("a")
            venue.publish("a")
            until(lambda: client.stats().messages)
            assert client.age("a") >= 0.0

    def test_latest_consumes_nothing_and_survives_a_disconnect(
        self, client: Any, venue: FakeVenue
    ) -> None:
        assert client.latest("a") is None
        client.subscribe("a")
        venue.publish("a", price=1)
        venue.publish("a", price=2)
        until(lambda: client.stats().messages == 2)
        assert client.latest("a").data["price"] == 2
        venue.down()
        venue.live[0].rst()
        until(lambda: not client.is_connected)
        assert client.latest("a").data["price"] == 2
        assert client.recv(timeout=0).data["price"] == 1
        venue.up()

    def test_data_before_the_ack_is_delivered(self, venue: FakeVenue) -> None:
        with FakeVenue(None) as venue, wsclient.connect(venue.url) as client:
            peer = venue.accept()
            result = in_thread(client.subscribe, "a")
            peer.expect_json({"type": "subscribe", "channel": "a"})
            peer.send_json({"type": "market_data", "channel": "a", "sequence": 1})
            assert client.recv(timeout=5).sequence == 1
            peer.send_json({"type": "subscription", "channel": "a", "status": "success"})
            assert result()[0].is_active


class TestOverflow:
    def test_the_oldest_are_dropped_and_marked_by_default(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, queue_size=3) as client:
            client.subscribe("a")
            for _ in range(10):
                venue.publish("a")
            until(lambda: client.stats().messages == 10)
            messages = [client.recv(timeout=5) for _ in range(3)]
            assert [m.sequence for m in messages] == [8, 9, 10]
            assert messages[0].gap == Gap("overflow", 7, None)
            assert client.stats().dropped == 7

    def test_error_fails_the_client_after_what_was_queued(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, queue_size=3, overflow="error") as client:
            client.subscribe("a")
            for _ in range(10):
                venue.publish("a")
            until(lambda: client.state is State.FAILED)
            assert [client.recv(timeout=5).sequence for _ in range(3)] == [1, 2, 3]
            with pytest.raises(wsclient.QueueOverflow, match="queue_size"):
                client.recv(timeout=5)
            with pytest.raises(wsclient.QueueOverflow):
                client.send("x")


class TestSending:
    def test_send_text_bytes_and_json(self, client: Any, venue: FakeVenue) -> None:
        for payload in ("text", b"bytes", {"op": "x", "n": 1}):
            client.send(payload)
        peer = venue.accept()
        assert [peer.expect() for _ in range(3)] == ["text", b"bytes", '{"op":"x","n":1}']

    def test_send_without_a_connection_raises_at_once(self, client: Any, venue: FakeVenue) -> None:
        venue.down()
        venue.live[0].rst()
        until(lambda: not client.is_connected)
        with pytest.raises(wsclient.NotConnected):
            client.send("x")
        venue.up()

    def test_a_large_message_arrives_whole(self, client: Any, venue: FakeVenue) -> None:
        client.send("x" * 3_000_000)
        assert len(venue.accept().expect(timeout=10)) == 3_000_000

    def test_a_send_to_a_peer_that_does_not_read_ends_with_the_connection(
        self, venue: FakeVenue
    ) -> None:
        with wsclient.connect(venue.url, send_timeout=0.3, **QUICK) as client:
            venue.accept().stop_reading()
            with pytest.raises(wsclient.OutcomeUnknown) as caught:
                client.send("x" * 30_000_000)
            assert caught.value.request_id is None
            assert caught.value.sent_at is not None
            venue.wait_for(lambda venue: len(venue.peers) == 2)

    def test_a_dialect_that_cannot_request_says_so(self, venue: FakeVenue) -> None:
        class Plain(wsclient.Generic):
            request = wsclient.Dialect.request

        with (
            wsclient.connect(venue.url, dialect=Plain()) as client,
            pytest.raises(wsclient.NotSupported, match=r"generic.*use send\(\)"),
        ):
            client.request({"op": "x"})

    def test_request_returns_the_reply_correlated_to_it(self) -> None:
        with (
            FakeVenue("kraken") as venue,
            wsclient.connect(venue.url, dialect="kraken") as client,
        ):
            reply = client.request({"method": "ping"})
            assert reply["method"] == "pong"

    def test_a_request_in_flight_at_a_drop_has_an_unknown_outcome(self) -> None:
        with FakeVenue(None) as venue, wsclient.connect(venue.url, dialect="kraken") as client:
            peer = venue.accept()
            order = {"method": "add_order", "params": {"cl_ord_id": "mine-1"}}
            before = time.time_ns()
            result = in_thread(client.request, order)
            request = peer.expect_json()
            peer.rst()
            with pytest.raises(wsclient.OutcomeUnknown, match="'mine-1'") as caught:
                result()
            error = caught.value
            assert error.request_id == request["req_id"]
            assert error.sent_at is not None
            assert before <= error.sent_at <= time.time_ns()
            assert error.client_order_id == "mine-1"

    def test_a_request_times_out(self) -> None:
        with FakeVenue(None) as venue, wsclient.connect(venue.url, dialect="kraken") as client:
            venue.accept()
            with pytest.raises(TimeoutError):
                client.request({"method": "ping"}, timeout=0.1)

    def test_the_outcome_of_a_request_that_timed_out_is_unknown(self) -> None:
        with FakeVenue(None) as venue, wsclient.connect(venue.url, dialect="kraken") as client:
            peer = venue.accept()
            orders = [{"cl_ord_id": "a"}, {"cl_ord_id": "b"}]
            with pytest.raises(wsclient.OutcomeUnknown) as caught:
                client.request({"method": "batch_add", "params": {"orders": orders}}, timeout=0.1)
            error = caught.value
            assert isinstance(error, wsclient.RequestTimeout)
            assert error.request_id == peer.expect_json()["req_id"]
            assert error.client_order_ids == ("a", "b")
            assert error.client_order_id is None

    @pytest.mark.parametrize("timeout", [0, 0.05, 5])
    def test_a_request_that_was_not_sent_in_time_ends_all_the_same(
        self, timeout: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with FakeVenue("generic") as venue, wsclient.connect(venue.url) as client:
            supervisor = type(core_of(client).supervisor)
            find = supervisor.open_connection

            def gone(self: Any, *args: Any) -> Any:
                if "watchdog" in threading.current_thread().name:
                    time.sleep(0.1)
                    raise wsclient.NotConnected("the connection has ended")
                return find(self, *args)

            monkeypatch.setattr(supervisor, "open_connection", gone)
            result = in_thread(client.request, {"type": "x"}, timeout=timeout)
            with pytest.raises(wsclient.NotConnected):
                result()

    def test_a_refused_request_raises_with_the_reply(self) -> None:
        with FakeVenue(None) as venue, wsclient.connect(venue.url, dialect="kraken") as client:
            peer = venue.accept()
            result = in_thread(client.request, {"method": "add_order"})
            request = peer.expect_json()
            refusal = {"method": "add_order", "success": False, "error": "no funds"}
            peer.send_json({**refusal, "req_id": request["req_id"]})
            with pytest.raises(wsclient.RequestRejected, match="no funds") as caught:
                result()
            assert caught.value.reply["error"] == "no funds"


class TestReaders:
    def test_nothing_is_left_by_a_client_that_was_never_connected(self, venue: FakeVenue) -> None:
        with_nothing = in_thread(WebSocketClient(venue.url).unsubscribe, "a")
        assert with_nothing() is None

    def test_a_reader_gets_its_channels_and_the_client_does_not(
        self, client: Any, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        with client.reader("b") as reader:
            venue.publish("b")
            venue.publish("a")
            assert reader.recv(timeout=5).channel == "b"
            assert client.recv(timeout=5).channel == "a"
            with pytest.raises(TimeoutError):
                client.recv(timeout=0)
        assert venue.live[0].subscriptions == {"a"}

    def test_a_channel_subscribed_as_well_goes_to_both(self, client: Any, venue: FakeVenue) -> None:
        client.subscribe("a")
        with client.reader("a") as reader:
            venue.publish("a")
            assert reader.recv(timeout=5).sequence == client.recv(timeout=5).sequence == 1
        assert client.subscriptions["a"].is_active

    def test_unsubscribing_leaves_a_channel_to_its_reader(
        self, client: Any, venue: FakeVenue
    ) -> None:
        client.subscribe("a")
        reader = client.reader("a")
        client.unsubscribe("a")
        venue.publish("a")
        assert reader.recv(timeout=5).channel == "a"
        with pytest.raises(TimeoutError):
            client.recv(timeout=0.01)

    def test_a_slow_reader_has_gaps_of_its_own(self, client: Any, venue: FakeVenue) -> None:
        client.subscribe("a")
        reader = client.reader("a", queue_size=1, overflow="conflate")
        for _ in range(5):
            venue.publish("a")
        until(lambda: client.stats().messages == 5)
        assert reader.recv(timeout=5).gap == Gap("conflate", 4, None)
        assert all(client.recv(timeout=5).gap is None for _ in range(5))

    def test_a_channel_named_twice_comes_once(self, client: Any, venue: FakeVenue) -> None:
        reader = client.reader("a", "a")
        venue.publish("a")
        venue.publish("a")
        assert [reader.recv(timeout=5).sequence for _ in range(2)] == [1, 2]

    def test_a_closed_reader_ends_its_iteration(self, client: Any) -> None:
        reader = client.reader("a")
        result = in_thread(list, reader)
        reader.close()
        assert result() == []

    @pytest.mark.parametrize("turn", range(8))
    @pytest.mark.parametrize("leaves", ["close", "unsubscribe", "refused"])
    def test_a_new_reader_has_its_channel_as_another_leaves(
        self, client: Any, venue: FakeVenue, leaves: str, turn: int
    ) -> None:
        """The new reader may come between any two steps that the other takes under the lock."""
        came: list[Any] = []
        core = core_of(client)
        if leaves == "close":
            leaver = client.reader("a")
        elif leaves == "unsubscribe":
            client.subscribe("a")
        core.lock = Turns(core.lock, turn, lambda: came.append(in_thread(client.reader, "a")))

        if leaves == "close":
            leaver.close()
        elif leaves == "unsubscribe":
            client.unsubscribe("a")
        else:
            venue.refuse_channel("b", "no")
            with pytest.raises(wsclient.SubscriptionRejected):
                client.reader("a", "b")

        core.lock = core.lock.lock
        if came:
            reader = came[0]()
            venue.publish("a")
            assert reader.recv(timeout=5).channel == "a"

    @pytest.mark.parametrize("turn", range(4))
    def test_a_new_reader_has_a_channel_that_is_being_forgotten(
        self, client: Any, venue: FakeVenue, turn: int
    ) -> None:
        core = core_of(client)
        watchdog = watchdog_of(client)
        core.lock = Turns(core.lock, turn, lambda: watchdog.perform(Forget("a")))
        reader = client.reader("a")
        core.lock = core.lock.lock
        venue.publish("a")
        assert reader.recv(timeout=5).channel == "a"

    def test_a_reader_of_a_refused_channel_leaves_nothing(
        self, client: Any, venue: FakeVenue
    ) -> None:
        venue.refuse_channel("b", "no")
        with pytest.raises(wsclient.SubscriptionRejected):
            client.reader("b")
        assert client.subscriptions == {}

    def test_on_calls_the_function_on_the_callbacks_thread(
        self, client: Any, venue: FakeVenue
    ) -> None:
        seen: list[tuple[str, int]] = []
        done = threading.Event()

        def function(message: wsclient.Message) -> None:
            seen.append((threading.current_thread().name, message.sequence))
            if len(seen) == 2:
                done.set()

        client.on("a", function)
        venue.publish("a")
        venue.publish("a")
        assert done.wait(5)
        assert seen == [("wsclient-callbacks", 1), ("wsclient-callbacks", 2)]
        with pytest.raises(TimeoutError):
            client.recv(timeout=0)

    def test_a_function_that_raises_is_logged_and_stops_nothing(
        self, client: Any, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        done = threading.Event()

        def function(message: wsclient.Message) -> None:
            if message.sequence == 1:
                raise ZeroDivisionError
            done.set()

        client.on("a", function)
        venue.publish("a")
        venue.publish("a")
        assert done.wait(5)
        assert client.stats().callback_errors == 1
        assert "on('a') raised" in caplog.text

    def test_a_function_may_call_the_client(self, client: Any, venue: FakeVenue) -> None:
        done = threading.Event()

        def function(message: wsclient.Message) -> None:
            client.subscribe("b")
            client.send("hello")
            done.set()

        client.on("a", function)
        venue.publish("a")
        assert done.wait(5)
        assert set(client.subscriptions) == {"a", "b"}


class TestRecovery:
    def test_max_reconnects_ends_in_failure_after_the_queued_messages(
        self, venue: FakeVenue
    ) -> None:
        with wsclient.connect(venue.url, max_reconnects=2, **QUICK) as client:
            client.subscribe("a")
            venue.publish("a")
            until(lambda: client.stats().queued == 1)
            venue.down()
            venue.live[0].rst()
            until(lambda: client.state is State.FAILED)
            assert client.recv(timeout=5).sequence == 1
            with pytest.raises(wsclient.ReconnectError, match="2 reconnects") as caught:
                client.recv(timeout=5)
            assert caught.value.__cause__ is not None
            with pytest.raises(wsclient.ReconnectError):
                client.subscribe("b")

    def test_reconnects_are_not_limited_by_default(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, retry_delay=0.001, max_retry_delay=0.001) as client:
            venue.refuse(500, times=20)
            venue.live[0].rst()
            venue.wait_for(lambda venue: len(venue.live) == 1 and venue.attempts == 22)
            client.subscribe("a")

    def test_a_reconnect_refused_for_good_fails_the_client(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, **QUICK) as client:
            venue.refuse(401)
            blocked = in_thread(client.recv)
            venue.live[0].rst()
            with pytest.raises(wsclient.ConnectError, match="401"):
                blocked()
            assert client.state is State.FAILED

    def test_a_silent_connection_is_replaced(self, venue: FakeVenue) -> None:
        with wsclient.connect(
            venue.url, silence_timeout=0.2, ping_interval=0.05, **QUICK
        ) as client:
            started = time.monotonic()
            venue.wait_for(lambda venue: len(venue.peers) == 2)
            assert time.monotonic() - started < 0.2 + 0.25
            assert client.stats().dials == 2

    def test_a_silent_channel_is_resubscribed_then_the_connection_replaced(
        self, venue: FakeVenue
    ) -> None:
        with wsclient.connect(venue.url, stale_after=0.15, **QUICK) as client:
            client.subscribe("a")
            venue.publish("a")
            peer = venue.accept()
            kinds = [peer.expect_json()["type"] for _ in range(3)]
            assert kinds == ["subscribe", "unsubscribe", "subscribe"]
            venue.publish("a")
            assert [client.recv(timeout=5).gap for _ in range(2)] == [None, None]
            venue.wait_for(lambda venue: len(venue.peers) == 2)

    def test_a_half_open_connection_is_noticed_by_pings(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, ping_interval=0.2, ping_timeout=0.2, **QUICK):
            venue.accept().stop_reading()
            started = time.monotonic()
            venue.wait_for(lambda venue: len(venue.peers) == 2)
            assert time.monotonic() - started < 0.2 + 0.2 + 0.25

    def test_pongs_keep_a_quiet_connection(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, ping_interval=0.02, ping_timeout=0.3) as client:
            for _ in range(30):
                venue.live[0].expect_ping()
            assert client.stats().dials == 1

    def test_an_unanswered_resubscription_is_repeated_then_the_connection_replaced(
        self, venue: FakeVenue
    ) -> None:
        with wsclient.connect(venue.url, ack_timeout=0.15, **QUICK) as client:
            client.subscribe("a")
            venue.mute_acks()
            venue.live[0].rst()
            venue.accept()
            second = venue.accept()
            assert [second.expect_json()["type"] for _ in range(2)] == ["subscribe"] * 2
            venue.mute_acks(False)
            venue.accept()
            until(lambda: client.subscriptions["a"].is_active)

    def test_a_venue_that_accepts_and_drops_is_not_hammered(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url, retry_delay=10, jitter=False) as client:
            venue.live[0].rst()
            until(lambda: client.state is State.BACKING_OFF)
            with pytest.raises(TimeoutError):
                client.recv(timeout=0.1)
            assert venue.attempts == 1


class TestClose:
    def test_is_idempotent_and_final(self, client: Any) -> None:
        client.close()
        client.close()
        assert client.state is State.CLOSED
        for call in (client.connect, client.recv, lambda: client.subscribe("a")):
            with pytest.raises(wsclient.ClientClosed):
                call()

    def test_says_goodbye(self, client: Any, venue: FakeVenue) -> None:
        peer = venue.live[0]
        client.close()
        assert peer.expect_close() == 1000

    def test_wakes_every_blocked_call(self, venue: FakeVenue) -> None:
        venue.mute_acks()
        client = wsclient.connect(venue.url)
        calls = [
            in_thread(client.recv),
            in_thread(client.recv_batch),
            in_thread(client.subscribe, "a"),
        ]
        until(lambda: client.subscriptions)
        started = time.monotonic()
        client.close()
        for call in calls:
            with pytest.raises(wsclient.ClientClosed):
                call()
        assert time.monotonic() - started < 0.5

    def test_ends_iteration(self, client: Any) -> None:
        result = in_thread(list, client)
        client.close()
        assert result() == []

    def test_during_connect(self, venue: FakeVenue) -> None:
        venue.fail_handshake("deaf")
        client = WebSocketClient(venue.url)
        result = in_thread(client.connect)
        venue.wait_for(lambda venue: venue.attempts == 1)
        started = time.monotonic()
        client.close()
        assert time.monotonic() - started < 1.0
        with pytest.raises(wsclient.ClientClosed):
            result()

    def test_during_backoff_opens_no_connection_afterwards(self, venue: FakeVenue) -> None:
        client = wsclient.connect(venue.url, retry_delay=60, jitter=False)
        venue.live[0].rst()
        until(lambda: client.state is State.BACKING_OFF)
        started = time.monotonic()
        client.close()
        assert time.monotonic() - started < 0.5
        assert venue.attempts == 1

    def test_with_a_peer_that_never_answers(self, client: Any, venue: FakeVenue) -> None:
        venue.live[0].stop_reading()
        started = time.monotonic()
        client.close()
        assert time.monotonic() - started < 1.0

    def test_from_a_callback(self, client: Any, venue: FakeVenue) -> None:
        closed = threading.Event()

        def function(message: wsclient.Message) -> None:
            client.close()
            closed.set()

        client.on("a", function)
        venue.publish("a")
        venue.publish("a")
        assert closed.wait(5)
        assert client.state is State.CLOSED

    def test_leaving_with_masks_no_exception(self, venue: FakeVenue) -> None:
        with pytest.raises(ZeroDivisionError), wsclient.connect(venue.url):
            raise ZeroDivisionError

    def test_a_client_that_nobody_holds_is_closed(self, venue: FakeVenue) -> None:
        client = wsclient.connect(venue.url)
        client.subscribe("a")
        peer, reference = venue.live[0], weakref.ref(client)
        del client
        gc.collect()
        assert reference() is None
        assert peer.expect_close() == 1000

    def test_blocking_calls_from_our_own_threads_are_refused(self, venue: FakeVenue) -> None:
        caught: list[BaseException] = []

        def headers() -> dict[str, str]:
            try:
                client.recv(timeout=0)
            except RuntimeError as error:
                caught.append(error)
            return {}

        client = WebSocketClient(venue.url, headers=headers)
        client.connect()
        client.close()
        assert "thread" in str(caught[0])


class TestDescriptions:
    def test_options_show_no_secret(self) -> None:
        options = wsclient.Options(
            headers={"X-Api-Key": "hunter2"},
            cookie="hunter2",
            credentials={"secret": "hunter2"},
            proxy="http://me:hunter2@localhost:1",
        )
        assert "hunter2" not in repr(options)

    def test_repr_says_where_it_stands_without_secrets(self, venue: FakeVenue) -> None:
        with wsclient.connect(f"{venue.url}private/key?token=hunter2") as client:
            client.subscribe("a")
            where = f"ws://127.0.0.1:{venue.port}"
            assert repr(client) == f"<WebSocketClient {where} open, 1 channel, 0 queued>"

    def test_a_client_that_could_not_be_made_has_a_repr(self) -> None:
        """Error reporters call repr()."""
        made: list[object] = []

        class Own(wsclient.WebSocketClient):
            def __init__(self) -> None:
                made.append(self)
                super().__init__("nowhere")

        with pytest.raises(wsclient.ConfigurationError):
            Own()
        assert repr(made[0]) == "<WebSocketClient, not made>"

    def test_one_log_line_per_state_change_and_none_per_message(
        self, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        with (
            caplog.at_level(logging.DEBUG, "wsclient"),
            wsclient.connect(venue.url, name="feed", **QUICK) as client,
        ):
            client.subscribe("a")
            for _ in range(10):
                venue.publish("a")
            client.recv_batch(timeout=5)
            venue.live[0].close(1012, "restart")
            until(lambda: "recovered" in caplog.text)
        lines = [r.getMessage() for r in caplog.records if r.name == "wsclient"]
        states = [line.removeprefix("feed: ").split(":")[0] for line in lines]
        away = ["disconnected", "connecting", "open", "recovered"]
        expected = ["connecting", "open", *away, "closing", "closed"]
        assert [s for s in states if "unread" not in s] == expected
        assert "1012: restart" in lines[2]

    def test_stats_count(self, client: Any, venue: FakeVenue) -> None:
        client.subscribe("a")
        venue.publish("a", price=1)
        client.recv(timeout=5)
        stats = client.stats()
        assert (stats.state, stats.messages, stats.connects, stats.reconnects) == ("open", 1, 1, 0)
        assert stats.channels["a"].last_sequence == 1
        assert stats.bytes > 0
