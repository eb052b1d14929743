"""Row 22: functions that users supply may raise anything, block, or call back.

No thread of ours ends, none waits except the one that runs the function, reconnects go on, and
``close()`` ends in time.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsclient
from support.helpers import Call, until
from support.talk import (
    BOOK_CHANNEL,
    FEED,
    PATIENCE,
    SYMBOL,
    Talker,
    end_in_time,
    options,
    threads_of_ours,
    works_on,
)
from wsclient.testing import FakeVenue, Fault, FaultProxy

#: How long (s) a call that must not wait may take, on a busy machine.
AT_ONCE = 5.0


@pytest.fixture
def talker() -> Iterator[FakeVenue]:
    with FakeVenue(Talker()) as venue:
        venue.publish(BOOK_CHANNEL)
        yield venue


class Supplied:
    """A user's function: it calls ``do``, once that is set."""

    def __init__(self, result: Any = None) -> None:
        self.do: Callable[[], Any] = lambda: None
        self.calls = 0
        self._result = result

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        self.do()
        return self._result(*args) if callable(self._result) else self._result


class Rig:
    """A client with each kind of function, and a venue."""

    def __init__(self, venue: FakeVenue, url: str | None = None, **others: Any) -> None:
        self.venue = venue
        self.functions = {
            "on": Supplied(),
            "listener": Supplied(),
            "validate": Supplied(),
            "classify": Supplied(wsclient.classify),
            "url": Supplied(url or venue.url),
            "headers": Supplied({"X-Test": "1"}),
            "credentials": Supplied({}),
        }
        asked = {name: self.functions[name] for name in ("validate", "classify", "headers")}
        asked["credentials"] = self.functions["credentials"]
        self.client = wsclient.connect(self.functions["url"], **options(**asked, **others))
        self.client.on_event(self.functions["listener"])
        self.client.on("on", self.functions["on"], timeout=PATIENCE)
        self.client.subscribe(FEED, timeout=PATIENCE)

    def provoke(self, name: str) -> None:
        """Have the function called at least once more."""
        before = self.functions[name].calls
        if name == "on":
            self.venue.publish("on")
        elif name == "validate":
            self.venue.publish(FEED)
        else:
            self.restored()
            self.cut()
        until(lambda: self.functions[name].calls > before, PATIENCE)

    def cut(self) -> None:
        for peer in self.venue.live:
            peer.rst()

    def restored(self) -> None:
        self.client.connect(PATIENCE)
        until(lambda: self.venue.subscribers(FEED), PATIENCE)

    def check_threads(self) -> None:
        assert {"wsclient-callbacks", "wsclient-watchdog"} <= set(threads_of_ours())


@contextlib.contextmanager
def rig_of(venue: FakeVenue, **others: Any) -> Iterator[Rig]:
    """Yield a rig; at its end make its functions harmless and close its client."""
    rig = Rig(venue, **others)
    try:
        yield rig
    finally:
        for function in rig.functions.values():
            function.do = lambda: None
        rig.client.close()


NAMES = ("on", "listener", "validate", "classify", "url", "headers", "credentials")


class Unknown(BaseException):
    """An exception that is neither an Exception nor known to any code."""


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, Unknown]
)
@pytest.mark.parametrize("name", NAMES)
def test_a_function_that_raises_ends_nothing(
    talker: FakeVenue, name: str, error: type[BaseException]
) -> None:
    def fail() -> None:
        raise error("on purpose")

    with rig_of(talker) as rig:
        function = rig.functions[name]
        function.do = fail
        rig.provoke(name)
        if name in ("on", "validate", "listener", "classify"):
            rig.provoke(name)  # it goes on raising
        function.do = lambda: None
        rig.restored()
        rig.check_threads()
        rig.cut()
        until(lambda: rig.client.stats().disconnects, PATIENCE)
        rig.restored()
        works_on(rig.client, talker)
        end_in_time(rig.client)


@pytest.mark.parametrize(
    "error", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, Unknown]
)
def test_a_message_whose_validation_raises_is_skipped_and_marked(
    talker: FakeVenue, error: type[BaseException]
) -> None:
    def fail() -> None:
        raise error("on purpose")

    with rig_of(talker) as rig:
        validate = rig.functions["validate"]
        validate.do = fail
        talker.publish(FEED)
        until(lambda: validate.calls, PATIENCE)
        validate.do = lambda: None
        talker.publish(FEED)
        message = rig.client.recv(timeout=PATIENCE)
        assert (message.sequence, message.gap and message.gap.missed) == (2, 1)


def _blocking(function: Supplied) -> tuple[threading.Event, threading.Event]:
    """Let ``function`` block from now on.

    Returns two events: the function is blocked; let it go.
    """
    reached, freed = threading.Event(), threading.Event()

    def block() -> None:
        reached.set()
        assert freed.wait(PATIENCE * 2)

    function.do = block
    return reached, freed


@pytest.mark.parametrize("name", ["on", "listener"])
def test_a_callback_that_blocks_holds_up_nothing_else(talker: FakeVenue, name: str) -> None:
    with rig_of(talker) as rig:
        reached, freed = _blocking(rig.functions[name])
        try:
            rig.provoke(name)
            assert reached.wait(PATIENCE)
            rig.restored()
            rig.cut()
            until(lambda: rig.client.stats().disconnects, AT_ONCE)
            rig.restored()
            rig.client.subscribe("another", timeout=AT_ONCE)
            talker.publish("another")
            while rig.client.recv(timeout=AT_ONCE).channel != "another":
                pass
            end_in_time(rig.client)
        finally:
            freed.set()


@pytest.mark.parametrize("name", ["validate", "classify", "url", "headers", "credentials"])
def test_reads_and_close_do_not_wait_for_a_function_that_blocks(
    talker: FakeVenue, name: str
) -> None:
    with rig_of(talker) as rig:
        reached, freed = _blocking(rig.functions[name])
        try:
            rig.provoke(name)
            assert reached.wait(PATIENCE)
            for read in (rig.client.stats, lambda: rig.client.subscriptions, rig.client.events):
                Call(read).result(AT_ONCE)
            Call(rig.client.latest, FEED).result(AT_ONCE)
            Call(rig.client.on_event, len).result(AT_ONCE)
            end_in_time(rig.client)
        finally:
            freed.set()


def test_a_classify_that_blocks_where_the_watchdog_cuts_does_not_hold_it_up(
    talker: FakeVenue,
) -> None:
    with FaultProxy(talker.url) as proxy:
        rig = Rig(talker, url=proxy.url, ping_interval=0.1, ping_timeout=0.2)
        reached, freed = _blocking(rig.functions["classify"])
        try:
            proxy.set(Fault("deaf"), on="present")
            assert reached.wait(PATIENCE)
            with pytest.raises(TimeoutError):
                Call(rig.client.subscribe, "another", timeout=0.1).result(AT_ONCE)
            end_in_time(rig.client)
        finally:
            freed.set()
            rig.functions["classify"].do = lambda: None
            rig.client.close()


@pytest.mark.parametrize("name", ["url", "headers", "credentials"])
def test_while_a_function_of_an_attempt_blocks_a_warning_says_so_and_no_threads_pile_up(
    talker: FakeVenue, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    """The reconnect goes on as soon as the function does."""

    def warned() -> bool:
        return any(
            record.levelno >= logging.WARNING and name in record.getMessage()
            for record in caplog.records
        )

    with caplog.at_level(logging.WARNING), rig_of(talker, connect_timeout=0.2) as rig:
        function = rig.functions[name]
        reached, freed = _blocking(function)
        try:
            rig.cut()
            assert reached.wait(PATIENCE)
            until(warned, PATIENCE)
            end = time.monotonic() + 1
            most = 0
            while time.monotonic() < end:
                inside = [name for name in threads_of_ours() if "reader" in name]
                most = max(most, len(inside))
                assert function.calls <= 2, "another attempt is inside the function"
            assert most <= 3, "a thread for each attempt"
            function.do = lambda: None
        finally:
            freed.set()
        rig.restored()
        works_on(rig.client, talker)


# Functions that call back.

#: Calls that return at once, on any thread.
QUICK: dict[str, Callable[[wsclient.WebSocketClient], object]] = {
    "stats": lambda client: client.stats(),
    "latest": lambda client: client.latest(FEED),
    "subscriptions": lambda client: client.subscriptions,
    "repr": repr,
    "events": lambda client: client.events(),
    "state": lambda client: client.state,
}
#: Calls that wait for the venue or for a message.
BLOCKING: dict[str, Callable[[wsclient.WebSocketClient], object]] = {
    "subscribe": lambda client: client.subscribe("from inside", timeout=AT_ONCE),
    "unsubscribe": lambda client: client.unsubscribe("from inside", timeout=AT_ONCE),
    "reader": lambda client: client.reader("from inside", timeout=AT_ONCE),
    "on": lambda client: client.on("on from inside", len, timeout=AT_ONCE),
    "on_event": lambda client: client.on_event(len),
    "order_book": lambda client: client.order_book(SYMBOL, timeout=AT_ONCE),
    "request": lambda client: client.request({}, timeout=AT_ONCE),
    "send": lambda client: client.send("{}"),
    "connect": lambda client: client.connect(AT_ONCE),
    "recv": lambda client: client.recv(timeout=0),
}
#: Some of them raise so while there is no connection.
REFUSED = (RuntimeError, wsclient.NotConnected, wsclient.WaitTimeout, wsclient.SubscriptionTimeout)


@pytest.mark.parametrize("name", NAMES)
def test_a_function_that_calls_back_is_answered_or_refused(talker: FakeVenue, name: str) -> None:
    outcomes: dict[str, str] = {}
    took: Counter[str] = Counter()
    # A classify that waits for a connection waits until the built-in function has decided.
    is_ours = name not in ("on", "listener", "classify")
    done = threading.Event()

    def call_back() -> None:
        if done.is_set() or outcomes:
            return
        for what, call in {**QUICK, **BLOCKING}.items():
            began = time.monotonic()
            try:
                call(rig.client)
                outcomes[what] = "a result"
            except BaseException as error:  # noqa: BLE001 - looked at below
                allowed = what in BLOCKING and isinstance(error, REFUSED)
                outcomes[what] = "refused" if allowed else repr(error)
            took[what] = time.monotonic() - began  # type: ignore[assignment]
        done.set()

    with rig_of(talker) as rig:
        rig.functions[name].do = call_back
        rig.provoke(name)
        assert done.wait(PATIENCE * 2), f"blocked after {outcomes}"
        rig.functions[name].do = lambda: None
        wrong = {
            what: said for what, said in outcomes.items() if said not in ("a result", "refused")
        }
        assert not wrong
        assert {outcomes[what] for what in QUICK} == {"a result"}
        slow = {what: s for what, s in took.items() if s > (1.0 if is_ours else AT_ONCE)}
        assert not slow, "it waited for itself"
        rig.restored()
        works_on(rig.client, talker)
        rig.check_threads()
        end_in_time(rig.client)


@pytest.mark.parametrize("name", NAMES)
def test_a_function_that_closes_the_client_is_not_waited_for_by_itself(
    talker: FakeVenue, name: str
) -> None:
    done = threading.Event()

    def close() -> None:
        rig.client.close()
        done.set()

    with rig_of(talker) as rig:
        waiting = Call(rig.client.recv)
        rig.functions[name].do = close
        rig.provoke(name)
        assert done.wait(AT_ONCE), "close() did not return"
        until(lambda: rig.client.state is wsclient.State.CLOSED, AT_ONCE)
        waiting.join(AT_ONCE)
        assert not waiting.is_alive()
        until(lambda: not threads_of_ours(), PATIENCE)
