"""What callers post and what they read, from any place."""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

import wsclient
from support.helpers import Call, until
from support.inside import core_of, watchdog_of
from wsclient import WebSocketClient
from wsclient.errors import ReentrantCall, ThreadStartError
from wsclient.sansio.actions import Ping
from wsclient.testing import FakeVenue
from wsclient.threads.workers import WorkerThread

QUICK: dict[str, Any] = {"retry_delay": 0.01, "max_retry_delay": 0.05}


@pytest.fixture
def client(venue: FakeVenue) -> Iterator[WebSocketClient]:
    with wsclient.connect(venue.url, **QUICK) as client:
        yield client


def threads(name: str) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith(name)]


class Refusing:
    """Refuses to start the next threads of this name, once each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, count: int = 1) -> None:
        self.left = count
        start = threading.Thread.start

        def refusing(thread: threading.Thread) -> None:
            if self.left and thread.name.startswith(name):
                self.left -= 1
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refusing)


class TestReentrance:
    """Act as a signal handler or a finalizer that has interrupted a locked section here."""

    CALLS: dict[str, Callable[[WebSocketClient], Any]] = {
        "stats": lambda client: client.stats(),
        "subscriptions": lambda client: client.subscriptions,
        "subscribe": lambda client: client.subscribe("b"),
        "unsubscribe": lambda client: client.unsubscribe("a"),
        "reader": lambda client: client.reader("b"),
        "on": lambda client: client.on("b", print),
        "on_event": lambda client: client.on_event(print),
        "events": lambda client: client.events(),
        "connect": lambda client: client.connect(),
        "send": lambda client: client.send("x"),
        "order_book": lambda client: client.order_book("b"),
    }

    @pytest.mark.parametrize("call", CALLS)
    def test_a_call_that_would_wait_for_itself_raises(self, venue: FakeVenue, call: str) -> None:
        with wsclient.connect(venue.url, dialect="kraken") as client:
            with core_of(client).lock, pytest.raises(ReentrantCall):
                self.CALLS[call](client)
            assert client.subscriptions == {}

    def test_what_takes_no_lock_works(self, client: WebSocketClient, venue: FakeVenue) -> None:
        client.subscribe("a")
        venue.publish("a")
        assert client.recv(timeout=5) is not None
        with core_of(client).lock:
            assert client.latest("a") is not None
            assert client.is_connected
            assert "1 channel" in repr(client)

    def test_close_returns_at_once_and_the_client_is_closed_after_it(
        self, client: WebSocketClient
    ) -> None:
        with core_of(client).lock:
            client.close()
            assert client.state is wsclient.State.OPEN
        until(lambda: client.state is wsclient.State.CLOSED)

    def test_a_readers_close_returns_at_once(self, client: WebSocketClient) -> None:
        reader = client.reader("a")
        with core_of(client).lock:
            reader.close()
        assert list(reader) == []
        until(lambda: not client.subscriptions)


class TestDroppedReaders:
    def test_one_that_nobody_holds_ends(self, client: WebSocketClient, venue: FakeVenue) -> None:
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):  # like a notebook cell that is run many times
                reader = client.reader("a")
            until(lambda: len(client.stats().queues) == 2)
            venue.publish("a")
            assert reader.recv(timeout=5).channel == "a"
            del reader
            until(lambda: not client.subscriptions)
        finally:
            gc.enable()

    def test_a_loop_holds_its_reader(self, client: WebSocketClient, venue: FakeVenue) -> None:
        got = []
        iterator = iter(client.reader("a"))
        for _ in range(3):
            venue.publish("a")
        gc.collect()
        for message in iterator:
            got.append(message.sequence)
            if len(got) == 3:
                break
        assert got == [1, 2, 3]

    def test_a_call_holds_its_reader(self, client: WebSocketClient, venue: FakeVenue) -> None:
        result = Call(lambda: client.reader("a").recv(timeout=10))
        until(lambda: client.subscriptions.get("a") and client.subscriptions["a"].is_active)
        venue.publish("a")
        assert result.result().channel == "a"

    def test_the_traceback_of_its_last_error_does_not_hold_it(
        self, client: WebSocketClient
    ) -> None:
        reader = client.reader("a")
        with pytest.raises(TimeoutError) as caught:
            reader.recv(timeout=0)
        del reader
        until(lambda: not client.subscriptions)
        assert caught.tb


class TestThreadsThatCannotBeStarted:
    def test_the_watchdog(self, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch) -> None:
        Refusing(monkeypatch, "wsclient-watchdog")
        with closing(WebSocketClient(venue.url, **QUICK)) as client:
            with pytest.raises(ThreadStartError, match="can't start new thread"):
                client.connect(timeout=3)
            assert client.state is wsclient.State.IDLE
            client.connect(timeout=3)
            assert client.is_connected

    def test_a_client_whose_watchdog_never_started_closes(
        self, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Refusing(monkeypatch, "wsclient-watchdog")
        client = WebSocketClient(venue.url)
        with pytest.raises(ThreadStartError):
            client.connect()
        client.close()
        assert client.state is wsclient.State.CLOSED

    def test_a_reader_is_a_failed_attempt(
        self, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Refusing(monkeypatch, "wsclient-reader")
        with wsclient.connect(venue.url, **QUICK) as client:
            assert client.stats().attempt_failures == {"thread": 1}

    def test_a_reader_at_a_reconnect(
        self, client: WebSocketClient, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        client.subscribe("a")
        Refusing(monkeypatch, "wsclient-reader", 2)
        venue.live[0].rst()
        until(lambda: client.stats().connects == 2)
        until(lambda: client.subscriptions["a"].is_active)

    def test_that_of_callbacks(
        self, client: WebSocketClient, venue: FakeVenue, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Refusing(monkeypatch, "wsclient-callbacks", 2)
        with pytest.raises(ThreadStartError):
            client.on("a", print)
        with pytest.raises(ThreadStartError):
            client.on_event(print)
        assert client.subscriptions == {}
        called = threading.Event()
        client.on("a", lambda _: called.set())
        venue.publish("a")
        assert called.wait(5)


class TestThreadsThatDie:
    """A bug of ours ends the thread; it stands for any cause."""

    @pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
    def test_the_watchdog(
        self,
        client: WebSocketClient,
        error: type[BaseException],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        client.subscribe("a")
        waiting = Call(client.recv)
        until(lambda: waiting.is_in("fill"))

        def bug() -> None:
            raise error("a bug")

        core_of(client).post(bug)
        for call in (waiting.result, lambda: client.subscribe("b"), client.recv):
            with pytest.raises(wsclient.WSClientError, match="internal error") as caught:
                call()
            assert "wsclient-watchdog" in str(caught.value)
        until(lambda: "a bug" in caplog.text)
        client.close()

    def test_that_of_callbacks(self, client: WebSocketClient, venue: FakeVenue) -> None:
        class Broken(dict[Any, Any]):
            def get(self, *_: Any) -> Any:
                raise ZeroDivisionError("a bug")

        client.on("a", print)
        core_of(client).callbacks.functions = Broken()
        venue.publish("a")
        with pytest.raises(wsclient.WSClientError, match="has ended the thread wsclient-callbacks"):
            client.recv(timeout=5)


class TestUsersFunctions:
    def test_at_most_one_attempt_is_within_a_url_that_does_not_return(
        self, venue: FakeVenue, caplog: pytest.LogCaptureFixture
    ) -> None:
        entered, leave = threading.Semaphore(0), threading.Event()
        blocks = False

        def url() -> str:
            if blocks:
                entered.release()
                leave.wait(30)
            return venue.url

        with wsclient.connect(url, connect_timeout=0.2, **QUICK) as client:
            blocks = True
            venue.live[0].rst()
            until(lambda: client.stats().attempt_failures.get("busy", 0) >= 3)
            assert len(threads("wsclient-reader")) <= 2, "one is held, one just fails"
            assert entered.acquire(timeout=0)
            assert not entered.acquire(timeout=0)
            assert "has not returned from an earlier attempt" in caplog.text
            blocks = False
            leave.set()
            until(lambda: client.is_connected)

    def test_a_classify_that_does_not_return_delays_no_reconnect_for_long(
        self, venue: FakeVenue
    ) -> None:
        leave = threading.Event()

        def classify(_: BaseException) -> wsclient.Verdict:
            leave.wait(30)
            return wsclient.Verdict.RETRY

        try:
            with wsclient.connect(venue.url, classify=classify, **QUICK) as client:
                client.subscribe("a")
                for count in (2, 3):
                    venue.live[0].rst()
                    until(lambda count=count: client.stats().connects == count)
                    until(lambda: client.subscriptions["a"].is_active)
                closed = Call(client.close, 1.0)
                closed.result(5)
        finally:
            leave.set()


class TestTicks:
    def test_a_long_list_of_actions_is_carried_out_in_pieces(self, client: WebSocketClient) -> None:
        """Posts of callers are run between two pieces."""
        left = 100_000
        heard = [left]
        core = core_of(client)

        def look() -> None:
            heard.append(len(watchdog_of(client).todo))
            if len(set(heard)) < 5:
                core.post(look)

        def flood() -> None:
            with core.lock:
                for _ in range(left):
                    core.supervisor.output.do(Ping(-1))
            core.post(look)

        core.post(flood)
        until(lambda: len(set(heard)) == 5)
        assert any(0 < n < left for n in heard)

    def test_posts_without_end_are_run_in_pieces(self, client: WebSocketClient) -> None:
        over = threading.Event()

        def again() -> None:
            if not over.is_set():
                core_of(client).post(again)

        core_of(client).post(again)
        client.subscribe("a")
        over.set()


def test_a_close_that_a_dialects_code_holds_up_ends_the_calls_all_the_same(
    venue: FakeVenue,
) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Stuck(wsclient.Generic):
        def subscribe(self, *args: Any) -> Any:
            if entered.is_set():
                leave.wait(30)
            entered.set()
            return super().subscribe(*args)

    try:
        with wsclient.connect(venue.url, dialect=Stuck()) as client:
            client.subscribe("a")
            calls = [Call(client.subscribe, "b"), Call(client.recv)]
            until(lambda: calls[0].is_in("acquire") and calls[1].is_in("fill"))
            closed = Call(client.close, 1.0)
            closed.result(5)
            for call in calls:
                with pytest.raises(wsclient.ClientClosed):
                    call.result(5)
    finally:
        leave.set()


def test_a_hook_that_returns_within_the_timeout_of_close_delays_the_end_no_longer(
    venue: FakeVenue,
) -> None:
    """The connection ends by a close frame then, not when the peer's time is over."""
    entered, leave = threading.Event(), threading.Event()

    class Stuck(wsclient.Generic):
        def subscribe(self, *args: Any) -> Any:
            entered.set()
            leave.wait(30)
            return super().subscribe(*args)

    with wsclient.connect(venue.url, dialect=Stuck()) as client:
        peer = venue.live[0]
        call = Call(client.subscribe, "a")
        assert entered.wait(5)
        closed = Call(client.close, 60)
        with pytest.raises(wsclient.ClientClosed):
            call.result(5)
        assert closed.is_alive()
        leave.set()
        closed.result(5)
        assert peer.expect_close() == 1000


def test_the_repr_of_a_client_that_subscribes_meanwhile(client: WebSocketClient) -> None:
    over = threading.Event()

    def subscribe() -> None:
        for n in range(200):
            client.subscribe(f"c{n}")
        over.set()

    call = Call(subscribe)
    while not over.is_set():
        assert "WebSocketClient" in repr(client)
    call.result()


def test_our_threads_refuse_calls_that_would_wait_for_themselves(client: WebSocketClient) -> None:
    refused: list[BaseException] = []

    def run() -> None:
        try:
            client.subscribe("a")
        except RuntimeError as error:
            refused.append(error)

    thread = WorkerThread("test", run)
    thread.start()
    thread.join(5)
    assert len(refused) == 1


def test_a_call_that_a_dialects_code_holds_up_ends_with_close(venue: FakeVenue) -> None:
    """The function that it has posted is never run."""
    entered, leave = threading.Event(), threading.Event()

    class Stuck(wsclient.Generic):
        def subscribe(self, *args: Any) -> Any:
            entered.set()
            leave.wait(30)
            return super().subscribe(*args)

    try:
        with wsclient.connect(venue.url, dialect=Stuck()) as client:
            first = Call(client.subscribe, "a")
            assert entered.wait(5)
            calls = [first, Call(client.send, "x"), Call(client.unsubscribe, "a")]
            calls += [Call(client.reader, "b"), Call(client.events)]
            until(lambda: all(call.is_in("acquire") for call in calls))
            Call(client.close, 1.0).result(5)
            with pytest.raises(wsclient.ClientClosed):
                Call(client.send, "x").result(5)
            for call in calls:
                with pytest.raises(wsclient.ClientClosed):
                    call.result(5)
            until(lambda: not threads("wsclient-reader"))
            assert not leave.is_set(), "the connection is still cut"
    finally:
        leave.set()


def test_an_on_that_fails_leaves_the_same_functions_earlier_one(
    client: WebSocketClient, venue: FakeVenue
) -> None:
    called = threading.Event()

    def function(_: wsclient.Message) -> None:
        called.set()

    client.on("a", function)
    with core_of(client).lock, pytest.raises(ReentrantCall):
        client.on("a", function)
    client.subscribe("z")  # by then the function that the failed call posted has run
    venue.publish("a")
    assert called.wait(5)


def test_functions_that_cannot_be_compared_are_told_apart(
    client: WebSocketClient, venue: FakeVenue
) -> None:
    class Function:
        def __call__(self, message: wsclient.Message) -> None:
            called.set()

        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

    called = threading.Event()
    venue.refuse_channel("bad", "no such market")
    client.on("a", Function())
    with pytest.raises(wsclient.SubscriptionRejected):
        client.on(["a", "bad"], Function())
    client.subscribe("z")  # by then the failed call is undone
    venue.publish("a")
    assert called.wait(5)


def test_a_close_that_is_held_up_and_the_watchdog_share_what_is_to_be_done(
    venue: FakeVenue, caplog: pytest.LogCaptureFixture
) -> None:
    """close() does not wait for the watchdog, and both perform the supervisor's actions."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(30):
            client = wsclient.connect(venue.url, **QUICK)
            calls = [Call(client.subscribe, *(f"{n} {i}" for i in range(20))) for n in range(4)]
            client.close(timeout=0)
            for call in calls:
                with contextlib.suppress(wsclient.ClientClosed, wsclient.NotConnected):
                    call.result(10)
    finally:
        sys.setswitchinterval(interval)
    until(lambda: not threads("wsclient-"))
    assert "internal error" not in caplog.text
