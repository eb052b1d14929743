"""A forked child cannot touch its parent's connection: its calls raise, and nothing hangs."""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import wsclient
from support.inside import core_of, kept_of, lock_of
from support.matrix import each_size
from support.program import CERTIFICATE, STRIKE, Program
from wsclient import ClientForked, WebSocketClient
from wsclient.testing import FakeVenue, KrakenProtocol

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork"),
    # Python 3.12 and newer warn of a fork beside threads, which is what is tested here.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

#: How long (s) a child may take, on a busy machine.
PATIENCE = 20.0
KINDS = pytest.mark.parametrize("kind", ["plain", "tls"])


def outcome(call: Callable[[], object]) -> str:
    """Return the name of the exception that a call raises."""
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - the test asks for its name
        return type(error).__name__
    return "nothing"


def in_child(function: Callable[[], Any]) -> Any:
    """Return the result of ``function`` in a forked child, which ends without any cleaning up."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = function()
        except BaseException as error:  # noqa: BLE001 - sent to the parent
            answer = repr(error)
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    try:
        assert select.select([reading], [], [], PATIENCE)[0], "the child hangs"
        return json.loads(os.read(reading, 65536))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)


@contextlib.contextmanager
def a_venue(kind: str) -> Iterator[FakeVenue]:
    context = None
    if kind == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
    with FakeVenue("generic", ssl_context=context) as venue:
        yield venue


@contextlib.contextmanager
def opened(kind: str) -> Iterator[tuple[FakeVenue, WebSocketClient]]:
    """Yield a client that is subscribed to ``a``, plain or with TLS."""
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    with (
        a_venue(kind) as venue,
        wsclient.connect(venue.url, ssl_context=context) as client,
    ):
        client.subscribe("a")
        yield venue, client


def check_unharmed(venue: FakeVenue, client: WebSocketClient) -> None:
    """Check that the same connection still works, in both directions."""
    number = venue.publish("a")
    assert client.recv(timeout=5).sequence == number
    client.subscribe("b")
    assert client.stats().disconnects == client.stats().gaps == 0
    assert len(venue.peers) == 1


CALLS: dict[str, Callable[[WebSocketClient], object]] = {
    "connect": lambda client: client.connect(),
    "subscribe": lambda client: client.subscribe("b"),
    "unsubscribe": lambda client: client.unsubscribe("a"),
    "subscriptions": lambda client: client.subscriptions,
    "recv": lambda client: client.recv(),
    "recv, poll": lambda client: client.recv(timeout=0),
    "recv_batch": lambda client: client.recv_batch(),
    "next": lambda client: next(client),  # type: ignore[call-overload]
    "for": lambda client: list(client),
    "reader": lambda client: client.reader("b"),
    "on": lambda client: client.on("b", print),
    "on_event": lambda client: client.on_event(print),
    "events": lambda client: client.events(),
    "latest": lambda client: client.latest("a"),
    "send": lambda client: client.send("x"),
    "request": lambda client: client.request({}),
    "stats": lambda client: client.stats(),
}


@KINDS
def test_each_call_in_a_child_is_refused_and_the_parents_stream_goes_on(kind: str) -> None:
    with opened(kind) as (venue, client), client.reader("r") as reader:
        stream = client.events()
        queued = [venue.publish("a"), venue.publish("a")]
        assert client.recv(timeout=5).sequence == queued[0]

        def use_all() -> dict[str, str]:
            outcomes = {name: outcome(lambda c=call: c(client)) for name, call in CALLS.items()}
            outcomes["recv of a reader"] = outcome(reader.recv)
            outcomes["recv of events"] = outcome(stream.recv)
            outcomes["close"] = outcome(client.close)
            outcomes["close of a reader"] = outcome(reader.close)
            outcomes["recv after close"] = outcome(client.recv)
            return outcomes | {"repr": repr(client)}

        outcomes = in_child(use_all)
        assert "failed" in outcomes.pop("repr")
        assert [outcomes.pop("close"), outcomes.pop("close of a reader")] == ["nothing"] * 2
        assert set(outcomes.values()) == {"ClientForked"}, outcomes
        assert client.recv(timeout=5).sequence == queued[1]
        check_unharmed(venue, client)


def test_the_refusal_says_what_to_do(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url) as client:

        def complain() -> str:
            with pytest.raises(ClientForked) as caught:
                client.recv()
            return str(caught.value)

        assert in_child(complain).endswith("make a new one in the child")


def test_a_client_that_was_never_connected_is_the_parents_too(venue: FakeVenue) -> None:
    with contextlib.closing(WebSocketClient(venue.url)) as client:
        outcomes = in_child(lambda: [outcome(client.connect), outcome(client.recv)])
        assert outcomes == ["ClientForked"] * 2
        client.connect()


def test_a_client_made_in_the_child_works_there(venue: FakeVenue) -> None:
    with wsclient.connect(venue.url) as client:
        client.subscribe("a")

        def use_a_new_one() -> list[str]:
            with wsclient.connect(venue.url) as new:
                new.subscribe("c")
                return list(new.subscriptions)

        assert in_child(use_a_new_one) == ["c"]
        number = venue.publish("a")
        assert client.recv(timeout=5).sequence == number
        assert client.stats().disconnects == 0


LOCKS: dict[str, Callable[[WebSocketClient], Any]] = {
    "the core's": lambda client: core_of(client).lock,
    "the queue's": lambda client: lock_of(core_of(client).default),
    "the events'": lambda client: lock_of(core_of(client).event_hub),
}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_that_another_thread_holds_at_the_fork_blocks_nothing(
    venue: FakeVenue, lock: str
) -> None:
    with wsclient.connect(venue.url) as client:
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with LOCKS[lock](client):
                held.set()
                done.wait(2 * PATIENCE)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(PATIENCE)
        try:
            calls = [client.recv, client.stats, lambda: client.on_event(print), client.events]
            outcomes = in_child(lambda: list(map(outcome, [*calls, client.close])))
            assert outcomes == ["ClientForked"] * len(calls) + ["nothing"]
        finally:
            done.set()
            thread.join()


@each_size("trials", short=[20], full=[500], timeout=300)
@KINDS
def test_forks_in_the_midst_of_a_feed_lose_and_delay_nothing(
    promise: Callable[..., None], kind: str, trials: int
) -> None:
    seed = 16
    rng = random.Random(seed)
    unread, ending = threading.Semaphore(1000), threading.Event()
    worst, refused = 0.0, 0
    with opened(kind) as (venue, client):

        def publish() -> None:
            while not ending.is_set():
                if unread.acquire(timeout=0.1):
                    venue.publish("a")

        feed = threading.Thread(target=publish)
        feed.start()

        def use() -> list[Any]:
            started = time.monotonic()
            calls = [client.recv, client.recv_batch, client.stats, client.close]
            return [*map(outcome, calls), time.monotonic() - started]

        numbers = []
        try:
            for _ in range(trials):
                count = rng.randint(1, 300)
                numbers += [client.recv(timeout=5).sequence for _ in range(count)]
                unread.release(count)
                *outcomes, took = in_child(use)
                worst = max(worst, took)
                refused += outcomes == ["ClientForked"] * 3 + ["nothing"]
        finally:
            ending.set()
            feed.join()
        assert numbers == list(range(1, len(numbers) + 1)), f"seed {seed}"
        stats = client.stats()
        promise(
            16,
            f"{trials} forks in a feed, {kind}",
            "the child is refused within 1 s, the parent's connection unharmed",
            f"{refused} refused, worst {worst:.3f} s, {stats.disconnects} disconnects",
            refused == trials and worst < 1.0 and stats.disconnects == stats.gaps == 0,
        )


# --- programs ------------------------------------------------------------------------------------

CONNECTED = """\
import gc, multiprocessing, os, signal, ssl, sys
import wsclient
url, certificate = sys.argv[1:]
context = ssl.create_default_context(cafile=certificate)
client = wsclient.connect(url, ssl_context=context)
client.subscribe("a")
"""

ENDS = {
    "its end": "pass",
    "sys.exit": "sys.exit()",
    "close": "client.close()",
    "leaving with": "with client: pass",
    "collected": "del client; gc.collect()",
    "collected, used": "client.close(); del client; gc.collect()",
}


def run_beside_a_feed(kind: str, program: str) -> None:
    """Run a program that forks while a feed goes on.

    It prints "forked" when the child has ended, then two messages, and how often its connection was
    lost; it prints nothing more, nor does the child.
    """
    with a_venue(kind) as venue, Program(program, venue.url, str(CERTIFICATE)) as parent:
        assert parent.line() == "forked"
        venue.publish("a")
        assert parent.line() == "1"
        venue.publish("a")
        assert parent.line() == "2"
        assert parent.end()[:3] == (0, "0\n", "")
        assert len(venue.peers) == 1


REPORT = """
print("forked", flush=True)
for _ in range(2):
    print(client.recv(timeout=20).sequence, flush=True)
print(client.stats().disconnects, flush=True)
"""


@KINDS
@pytest.mark.parametrize("end", ENDS)
def test_a_child_that_ends_says_nothing_and_harms_nothing(kind: str, end: str) -> None:
    run_beside_a_feed(
        kind,
        f"""{CONNECTED}
child = os.fork()
if child == 0:
    {ENDS[end]}
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
{REPORT}""",
    )


@KINDS
def test_a_child_of_multiprocessing_is_refused_and_harms_nothing(kind: str) -> None:
    run_beside_a_feed(
        kind,
        f"""{CONNECTED}
def use():
    try:
        client.recv()
    except wsclient.ClientForked:
        client.close()
        sys.exit(7)
child = multiprocessing.get_context("fork").Process(target=use)
child.start()
child.join()
assert child.exitcode == 7
child.close()
{REPORT}""",
    )


@KINDS
def test_a_child_says_nothing_of_a_client_that_was_never_connected(kind: str) -> None:
    run_beside_a_feed(
        kind,
        f"""{CONNECTED}
other = wsclient.WebSocketClient(url)
parent = os.getpid()
other.on_event(lambda event: None if os.getpid() == parent else print(event))
unheard = wsclient.WebSocketClient(url)
child = os.fork()
if child == 0:
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
other.close(timeout=0)
{REPORT}""",
    )


@pytest.mark.parametrize(
    "call",
    ["client.recv(timeout=20)", "client.subscribe('muted')", "client.events().recv(timeout=20)"],
)
def test_a_handler_that_forks_does_not_leave_the_child_in_a_blocked_call(
    venue: FakeVenue, call: str
) -> None:
    venue.mute_acks(channel="muted")
    program = f"""{CONNECTED}{STRIKE}
def child_has_ended(*_):
    raise ChildProcessError

def fork(*_):
    global child
    # Not before the fork is over: Python swallows what is raised in the functions that it calls
    # then, such as those of logging.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    child = os.fork()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])

signal.signal(signal.SIGCHLD, child_has_ended)
signal.signal(signal.SIGUSR1, fork)
strike(signal.SIGUSR1)
try:
    {call}
except wsclient.ClientForked:
    os._exit(7)
except ChildProcessError:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    print(client.stats().disconnects)
"""
    with Program(program, venue.url, str(CERTIFICATE)) as parent:
        parent.line()
        assert parent.end()[:3] == (0, "0\n", "")


def test_the_connection_ends_with_the_parent_though_a_child_lives_on(venue: FakeVenue) -> None:
    program = f"""{CONNECTED}
if os.fork() == 0:
    print("forked", flush=True)
signal.pause()
"""
    with Program(program, venue.url, str(CERTIFICATE)) as parent:
        assert parent.line() == "forked"
        parent.process.kill()
        venue.accept().wait_closed()


def test_a_book_of_the_parents_client_is_out_of_sync_in_the_child() -> None:
    """The book's lock may be held by a thread that the child does not have."""
    kraken = KrakenProtocol()
    kraken.set_snapshot("book:BTC/USD", bids=[{"price": 9, "qty": 1}], asks=[])
    with FakeVenue(kraken) as venue, wsclient.connect(venue.url, dialect="kraken") as client:
        book = client.order_book("BTC/USD", timeout=5)
        with kept_of(book).lock:
            seen = in_child(
                lambda: [
                    book.is_synced,
                    outcome(book.bids),
                    len(book.bids(stale_ok=True)),
                    outcome(lambda: book.wait_synced(5)),
                ]
            )
        assert seen == [False, "OrderBookOutOfSync", 1, "ClientForked"]
        assert book.is_synced


def test_a_book_by_hand_is_the_childs_as_well_unless_it_was_half_way() -> None:
    book = wsclient.OrderBook("kraken", "book:A/B")
    raw = b'{"data":[{"bids":[],"asks":[]}]}'
    book.apply(wsclient.Message("book:A/B", "snapshot", item=0, raw=raw))
    assert in_child(lambda: book.is_synced) is True
    with kept_of(book).lock:
        assert in_child(lambda: book.is_synced) is False
