"""A client without references closes: no reference cycle needs the collector, which is off here."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import wsclient
from support.helpers import until
from support.resting import rest
from wsclient.testing import FakeVenue, KrakenProtocol

#: The longest time (s) that a step may take on a busy machine.
PATIENCE = 20.0
SNAPSHOT = {"bids": [{"price": 9, "qty": 1}], "asks": [{"price": 11, "qty": 1}]}


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def kraken() -> Iterator[FakeVenue]:
    protocol = KrakenProtocol()
    for symbol in ("A/B", "C/D"):
        protocol.set_snapshot(f"book:{symbol}", **SNAPSHOT)
    with FakeVenue(protocol) as venue:
        yield venue


def threads() -> list[str]:
    """Return the clients' threads, without the log thread, which belongs to the process."""
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("wsclient-") and name != "wsclient-log"]


def check_gone(venue: FakeVenue, reference: weakref.ref[Any]) -> None:
    """Check that the client is collected, its threads have ended, and it has sent a close frame."""
    until(lambda: reference() is None)  # the watchdog may hold it for a moment
    until(lambda: not threads())
    venue.wait_for(lambda v: not v.live, PATIENCE)
    assert {peer.close_code for peer in venue.peers[-1:]} <= {1000}


# --- what keeps a client, and what does not -------------------------------------------------------


def use_nothing(client: wsclient.WebSocketClient, venue: FakeVenue) -> Any:
    return None


def use_messages(client: wsclient.WebSocketClient, venue: FakeVenue) -> Any:
    client.subscribe("a")
    venue.publish("a", price=1)
    message = client.recv(timeout=PATIENCE)
    assert message.data["price"] == 1
    return message, client.latest("a"), client.subscriptions, client.stats()


def use_loops(client: wsclient.WebSocketClient, venue: FakeVenue) -> Any:
    client.subscribe("a")
    venue.publish("a")
    for message in client:
        return message
    return None


def use_errors(client: wsclient.WebSocketClient, venue: FakeVenue) -> Any:
    """Make each call fail, and return the errors without this frame, which holds the client."""
    venue.refuse_channel("no", "no")
    calls: list[Callable[[], Any]] = [
        lambda: client.recv(timeout=0),
        lambda: client.recv_batch(timeout=0),
        lambda: client.subscribe("no", timeout=PATIENCE),
        lambda: client.on("no", print, timeout=PATIENCE),
        lambda: client.reader("no", timeout=PATIENCE),
        lambda: client.order_book("no"),
        lambda: client.request({}),
    ]
    kept = []
    for call in calls:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - any error
            kept.append(error.with_traceback(None))
    assert len(kept) == len(calls)
    return kept


def use_functions(client: wsclient.WebSocketClient, venue: FakeVenue) -> Any:
    seen: list[Any] = []
    client.on_event(seen.append)
    client.on("a", seen.append)
    venue.publish("a")
    until(lambda: any(isinstance(item, wsclient.Message) for item in seen))
    return seen


def use_events(client: wsclient.WebSocketClient, venue: FakeVenue) -> Any:
    stream = client.events()
    client.subscribe("a")
    return stream, stream.recv(timeout=PATIENCE)


def use_a_reader(client: wsclient.WebSocketClient, venue: FakeVenue) -> Any:
    with client.reader("a") as reader:
        venue.publish("a")
        return reader.recv(timeout=PATIENCE)


def use_an_unheld_reader(client: wsclient.WebSocketClient, venue: FakeVenue) -> Any:
    client.reader("a")
    return None


def use_a_reconnect(client: wsclient.WebSocketClient, venue: FakeVenue) -> Any:
    client.subscribe("a")
    venue.live[0].rst()
    venue.wait_for(lambda v: len(v.peers) == 2 and v.subscribers("a"), PATIENCE)
    venue.publish("a")
    return client.recv(timeout=PATIENCE)


USES = [
    use_nothing,
    use_messages,
    use_loops,
    use_errors,
    use_functions,
    use_events,
    use_a_reader,
    use_an_unheld_reader,
    use_a_reconnect,
]


@pytest.mark.parametrize("use", USES)
def test_a_client_without_references_closes_whatever_it_was_used_for(
    venue: FakeVenue, use: Callable[..., Any]
) -> None:
    client = wsclient.connect(venue.url, retry_delay=0.01)
    kept = use(client, venue)
    reference = weakref.ref(client)
    assert venue.live
    del client
    check_gone(venue, reference)
    del kept


def is_backing_off(reference: weakref.ref[wsclient.WebSocketClient]) -> bool:
    client = reference()
    return client is not None and client.state is wsclient.State.BACKING_OFF


@pytest.mark.parametrize("state", ["idle", "failed", "backing off"])
def test_a_client_without_references_that_is_not_connected_closes(
    venue: FakeVenue, state: str
) -> None:
    client = wsclient.WebSocketClient(venue.url, max_retries=1, retry_delay=30.0, jitter=False)
    if state == "failed":
        venue.refuse(401)
        with pytest.raises(wsclient.ConnectError):
            client.connect()
    elif state == "backing off":
        client.connect()
        venue.down()
        venue.live[0].rst()
        until(partial(is_backing_off, weakref.ref(client)))
    reference = weakref.ref(client)
    del client
    until(lambda: reference() is None)
    until(lambda: not threads())


def test_a_handler_without_references_closes_its_client(venue: FakeVenue) -> None:
    handler = wsclient.WebSocketHandler({"websocket_uri": venue.url})
    handler.connect()
    assert handler.subscribe("a") == {"status": "success"}
    venue.publish("a")
    for _ in handler:
        break
    reference = weakref.ref(handler.client)
    del handler
    check_gone(venue, reference)


def test_a_closed_client_leaves_nothing_to_the_collector(venue: FakeVenue) -> None:
    client = wsclient.connect(venue.url)
    client.subscribe("a")
    client.close()
    reference = weakref.ref(client)
    del client
    assert reference() is None


def test_a_reader_keeps_its_client_as_long_as_it_is_held(venue: FakeVenue) -> None:
    client = wsclient.connect(venue.url)
    reader = client.reader("a")
    reference = weakref.ref(client)
    del client
    for _ in range(2):
        venue.publish("a")
        assert reader.recv(timeout=PATIENCE).channel == "a"
    assert reference() is not None
    del reader
    check_gone(venue, reference)


def test_a_stream_of_events_ends_with_a_client_without_references(venue: FakeVenue) -> None:
    stream = wsclient.connect(venue.url).events()
    told = [type(event) for event in stream]
    assert told[-1:] == [wsclient.events.Closed]


# --- order books ---------------------------------------------------------------------------------


def test_books_keep_their_client_until_the_last_of_them_goes(kraken: FakeVenue) -> None:
    client = wsclient.connect(kraken.url, dialect="kraken")
    books = [client.order_book(symbol, timeout=PATIENCE) for symbol in ("A/B", "C/D")]
    references = [weakref.ref(book) for book in books]
    reference = weakref.ref(client)
    del client
    assert books[0].best_bid == (9, 1)
    del books[0]
    assert references[0]() is None
    assert books[0].best_bid == (9, 1)
    assert (len(kraken.live), reference() is None) == (1, False)
    del books[0]
    assert references[1]() is None
    check_gone(kraken, reference)


def test_a_closed_book_keeps_its_client_no_longer_than_itself(kraken: FakeVenue) -> None:
    client = wsclient.connect(kraken.url, dialect="kraken")
    book = client.order_book("A/B", timeout=PATIENCE)
    reference = weakref.ref(client)
    del client
    with book:
        assert book.best_bid == (9, 1)
    del book
    check_gone(kraken, reference)


def test_a_book_that_has_come_back_leaves_no_cycle(kraken: FakeVenue) -> None:
    """Also after a reconnect, and after the book has raised an error."""
    client = wsclient.connect(kraken.url, dialect="kraken", retry_delay=0.01)
    book = client.order_book("A/B", timeout=PATIENCE)
    kraken.live[0].rst()
    kraken.wait_for(lambda v: len(v.peers) == 2 and v.subscribers("book:A/B"), PATIENCE)
    book.wait_synced(PATIENCE)
    references = weakref.ref(client), weakref.ref(book)
    del client
    book.close()
    with pytest.raises(wsclient.OrderBookOutOfSync):
        book.bids()
    del book
    assert references[1]() is None
    check_gone(kraken, references[0])


def test_a_book_whose_snapshot_comes_by_rest_closes_its_client() -> None:
    answer = {"lastUpdateId": 5, "bids": [["9", "1"]], "asks": [["11", "1"]]}
    with rest(lambda _: answer) as server, FakeVenue("binance") as venue:
        client = wsclient.connect(venue.url, dialect=wsclient.Binance(rest=server.url))
        book = client.order_book("BTCUSDT", timeout=PATIENCE)
        reference = weakref.ref(client)
        del client
        assert book.best_bid == (9, 1)
        assert venue.live
        del book
        check_gone(venue, reference)


def test_a_call_for_a_book_that_fails_keeps_nothing(kraken: FakeVenue) -> None:
    client = wsclient.connect(kraken.url, dialect="kraken")
    with pytest.raises(TimeoutError) as caught:
        client.order_book("E/F", timeout=0.2)
    reference = weakref.ref(client)
    # Its traceback holds this frame, not the client itself.
    del client
    check_gone(kraken, reference)
    assert caught.tb is not None


# --- a forked child ------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("held", ["client", "reader", "book", "events"])
def test_what_a_child_releases_still_works_in_the_parent(kraken: FakeVenue, held: str) -> None:
    """In the child the last reference goes, and a collection runs, without any effect on it."""
    client = wsclient.connect(kraken.url, dialect="kraken")
    holders: dict[str, Any] = {"client": client}
    holders["book"] = client.order_book("A/B", timeout=PATIENCE)
    holders["reader"] = client.reader("ticker:A/B", timeout=PATIENCE)
    holders["events"] = client.events()
    del client
    sent = len(kraken.live[0].received)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            kept = holders.pop(held)
            holders.clear()
            del kept
            gc.collect()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    kraken.publish("ticker:A/B", bid=1)
    assert holders["reader"].recv(timeout=PATIENCE).channel == "ticker:A/B"
    assert holders["book"].best_bid == (9, 1)
    assert (len(kraken.peers), len(kraken.live)) == (1, 1)
    assert len(kraken.live[0].received) == sent
    reference = weakref.ref(holders["client"])
    holders.clear()
    check_gone(kraken, reference)
