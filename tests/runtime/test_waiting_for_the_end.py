"""``wait()`` keeps a script alive until its client is closed or has failed."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator

import pytest

import wsclient
from support.helpers import Call, until
from support.inside import core_of
from wsclient import State, WebSocketClient
from wsclient.testing import FakeVenue

SHORT = 5.0


@pytest.fixture
def client(venue: FakeVenue) -> Iterator[WebSocketClient]:
    with wsclient.connect(venue.url) as client:
        yield client


def waiting(client: WebSocketClient) -> Call:
    """Begin a wait() on another thread, and return it once it waits."""
    call = Call(client.wait)
    until(lambda: call.is_in("pause"))
    return call


def test_it_returns_when_another_thread_closes_the_client(client: WebSocketClient) -> None:
    call = waiting(client)
    client.close()
    assert call.result(SHORT) is None


def test_it_returns_only_when_the_close_is_complete(
    client: WebSocketClient, venue: FakeVenue
) -> None:
    """Else the script would end during the last functions."""
    entered, leave = threading.Event(), threading.Event()
    done: list[int | None] = []

    def function(message: wsclient.Message) -> None:
        entered.set()
        leave.wait(30)
        done.append(message.sequence)

    client.on("a", function)
    venue.publish("a")
    venue.publish("a")
    assert entered.wait(SHORT)
    until(lambda: client.stats().messages == 2)
    call = waiting(client)
    closing = Call(client.close, 60, drain=True)
    until(lambda: call.is_in("join"))
    leave.set()
    call.result(SHORT)
    assert done == [1, 2]
    closing.result(SHORT)


def test_a_close_that_gives_up_on_a_function_ends_it(
    client: WebSocketClient, venue: FakeVenue
) -> None:
    entered, leave = threading.Event(), threading.Event()
    client.on("a", lambda _: (entered.set(), leave.wait(30)))
    venue.publish("a")
    assert entered.wait(SHORT)
    call = waiting(client)
    client.close(timeout=0.2)
    call.result(SHORT)
    leave.set()


def test_a_closed_client_is_not_waited_for(client: WebSocketClient) -> None:
    client.close()
    client.wait()


def test_a_failure_is_raised(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url, max_reconnects=0) as client:
        call = waiting(client)
        venue.live[0].rst()
        with pytest.raises(wsclient.ReconnectError):
            call.result(SHORT)
        with pytest.raises(wsclient.ReconnectError):
            client.wait()


def test_a_failure_is_raised_after_a_close_too(venue: FakeVenue) -> None:
    """A function that closes a failed client must not hide its failure from the script."""
    with wsclient.connect(venue.url, max_reconnects=0) as client:
        venue.live[0].rst()
        until(lambda: client.state is State.FAILED)
        client.close()
        with pytest.raises(wsclient.ReconnectError):
            client.wait()


def test_a_client_that_was_never_connected_is_not_waited_for(venue: FakeVenue) -> None:
    client = WebSocketClient(venue.url)
    with pytest.raises(wsclient.NotConnected):
        client.wait()
    client.close()


def test_it_waits_through_a_connect_and_ends_if_that_fails(venue: FakeVenue) -> None:
    venue.fail_handshake("deaf")
    client = WebSocketClient(venue.url, max_retries=1)
    connecting = Call(client.connect, 0.5)
    until(lambda: client.state is State.CONNECTING)
    call = waiting(client)
    with pytest.raises(wsclient.ConnectError):
        connecting.result(SHORT)
    with pytest.raises(wsclient.NotConnected):
        call.result(SHORT)
    client.close()


def test_it_waits_while_the_client_backs_off(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url, retry_delay=60, jitter=False) as client:
        peer = venue.live[0]
        venue.down()
        peer.rst()
        until(lambda: client.state is State.BACKING_OFF)
        call = waiting(client)
        client.close()
        call.result(SHORT)


def test_the_client_goes_on_after_a_timeout(client: WebSocketClient) -> None:
    with pytest.raises(wsclient.WaitTimeout):
        client.wait(timeout=0.01)
    assert client.subscribe("a")[0].is_active


def test_a_timeout_during_the_close(client: WebSocketClient, venue: FakeVenue) -> None:
    entered, leave = threading.Event(), threading.Event()
    client.on("a", lambda _: (entered.set(), leave.wait(30)))
    venue.publish("a")
    assert entered.wait(SHORT)
    closing = Call(client.close, 60, drain=True)
    until(lambda: client.state is State.CLOSING)
    with pytest.raises(wsclient.WaitTimeout):
        client.wait(timeout=0.01)
    leave.set()
    closing.result(SHORT)


def test_a_timeout_that_cannot_work(client: WebSocketClient) -> None:
    with pytest.raises(wsclient.ConfigurationError):
        client.wait(timeout="soon")  # type: ignore[arg-type]


def test_ctrl_c_interrupts_it(client: WebSocketClient) -> None:
    main = threading.main_thread()
    assert main.ident is not None
    timer = threading.Timer(0.05, signal.pthread_kill, (main.ident, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        client.wait()
    timer.join()
    assert client.is_connected


@pytest.mark.parametrize("drain", [False, True])
def test_a_signal_handler_that_closes_ends_it(client: WebSocketClient, drain: bool) -> None:
    main = threading.main_thread()
    assert main.ident is not None
    before = signal.signal(signal.SIGTERM, lambda *_: client.close(60, drain=drain))
    timer = threading.Timer(0.05, signal.pthread_kill, (main.ident, signal.SIGTERM))
    timer.start()
    began = time.monotonic()
    try:
        client.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert time.monotonic() - began < SHORT
    timer.join()


def test_a_function_may_not_wait_for_its_own_thread(
    client: WebSocketClient, venue: FakeVenue
) -> None:
    raised: list[BaseException] = []

    def function(_: wsclient.Message) -> None:
        try:
            client.wait()
        except RuntimeError as error:
            raised.append(error)

    client.on("a", function)
    venue.publish("a")
    until(lambda: raised)
    assert "thread of the client" in str(raised[0])


def test_a_call_within_a_locked_section_is_refused(client: WebSocketClient) -> None:
    with core_of(client).lock, pytest.raises(wsclient.errors.ReentrantCall):
        client.wait()


def test_the_traceback_of_an_interrupted_wait_keeps_no_client_alive(venue: FakeVenue) -> None:
    with pytest.raises(wsclient.WaitTimeout) as kept:
        wsclient.connect(venue.url).wait(timeout=0.01)
    venue.wait_for(lambda venue: not venue.live)
    assert kept.value.__traceback__ is not None
