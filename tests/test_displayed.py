"""What notebooks show of clients and books in each state, and the clients of a process."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import wsclient
from support.helpers import until
from support.inside import core_of
from wsclient.testing import FakeVenue, Fault, FaultProxy, KrakenProtocol

SNAPSHOT = {"bids": [{"price": 9, "qty": 1}], "asks": [{"price": 11, "qty": 4}]}
SECRET = "canary-4711"


@pytest.fixture
def kraken() -> Iterator[FakeVenue]:
    protocol = KrakenProtocol()
    protocol.set_snapshot("book:A/B", **SNAPSHOT)
    with FakeVenue(protocol) as venue:
        yield venue


def html_of(thing: Any) -> str:
    """Return what a notebook shows, and check that it takes no time."""
    begin = time.monotonic()
    shown: str = thing._repr_html_()
    assert time.monotonic() - begin < 1.0
    assert shown.startswith("<div")
    return shown


class TestClient:
    def test_shows_its_state_and_channels(self, kraken: FakeVenue) -> None:
        with wsclient.connect(kraken.url, dialect="kraken", name="desk <b>") as client:
            client.subscribe("ticker:A/B", "trade:A/B")
            shown = html_of(client)
            assert "open" in shown
            assert "desk &lt;b&gt;" in shown
            assert "ticker:A/B" in shown
        assert "closed" in html_of(client)

    def test_shows_some_channels_and_how_many_more(self, kraken: FakeVenue) -> None:
        with wsclient.connect(kraken.url, dialect="kraken") as client:
            client.subscribe(*(f"ticker:{n}/B" for n in range(50)))
            shown = html_of(client)
            assert "and 40 more" in shown
            assert shown.count("ticker:") == 10

    def test_in_other_states(self, venue: FakeVenue) -> None:
        client = wsclient.WebSocketClient(venue.url, max_retries=1)
        assert "idle" in html_of(client)
        venue.refuse(401)
        with pytest.raises(wsclient.ConnectError):
            client.connect()
        assert "failed" in html_of(client)
        client.close()
        assert "closed" in html_of(client)
        assert "not made" in html_of(wsclient.WebSocketClient.__new__(wsclient.WebSocketClient))

    def test_while_this_thread_holds_its_lock(self, venue: FakeVenue) -> None:
        with wsclient.connect(venue.url) as client:
            with core_of(client).lock:
                assert "open" in html_of(client)
            client.subscribe("a")

    def test_shows_no_secret(self, venue: FakeVenue) -> None:
        url = f"{venue.url}?token={SECRET}"
        with wsclient.connect(url, headers={"X-Key": SECRET}) as client:
            client.subscribe("a")
            venue.publish("a", price=1)
            message = client.recv(5)
            shown = [html_of(thing) for thing in (client, message, client.stats())]
        assert SECRET not in "".join([*shown, html_of(client)])


class TestOrderBook:
    def test_shows_its_best_levels(self, kraken: FakeVenue) -> None:
        with wsclient.connect(kraken.url, dialect="kraken") as client:
            book = client.order_book("A/B")
            shown = html_of(book)
            assert "synced" in shown
            assert ">10</" in shown  # the mid
            kraken.live[0].rst()
            until(lambda: not book.is_synced)
            assert "out of sync" in html_of(book)
        assert "closed" in html_of(book) or "out of sync" in html_of(book)

    def test_while_this_thread_holds_its_lock(self, kraken: FakeVenue) -> None:
        with wsclient.connect(kraken.url, dialect="kraken") as client:
            book = client.order_book("A/B")
            with core_of(client).lock:
                assert "book:A/B" in html_of(book)

    def test_fed_by_hand_or_not_made(self) -> None:
        book = wsclient.OrderBook("kraken", "book:A/B")
        assert "empty" in html_of(book)
        assert "not made" in html_of(wsclient.OrderBook.__new__(wsclient.OrderBook))


class TestForked:
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
    @pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
    def test_a_child_shows_the_parents_client_and_has_none(self, kraken: FakeVenue) -> None:
        with wsclient.connect(kraken.url, dialect="kraken") as client:
            book = client.order_book("A/B")
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    html_of(client), html_of(book)
                    assert wsclient.clients() == []
                    wsclient.close_all()
                    with pytest.raises(wsclient.ClientForked):
                        client.show()
                    with pytest.raises(wsclient.ClientForked):
                        book.show()
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert book.is_synced
            assert client in wsclient.clients()


class TestClients:
    def test_are_those_that_are_not_closed(self, venue: FakeVenue) -> None:
        assert wsclient.clients() == []
        one = wsclient.WebSocketClient(venue.url)
        with wsclient.connect(venue.url) as other:
            assert wsclient.clients() == [one, other]
            one.close()
            assert wsclient.clients() == [other]
        assert wsclient.clients() == []

    def test_are_not_kept_alive(self, venue: FakeVenue) -> None:
        client = wsclient.connect(venue.url)
        assert wsclient.clients() == [client]
        del client
        until(lambda: not wsclient.clients() and not venue.live)

    def test_one_that_could_not_be_made_is_none(self) -> None:
        with pytest.raises(wsclient.ConfigurationError):
            wsclient.WebSocketClient("http://venue.example/")
        assert wsclient.clients() == []

    def test_are_closed_at_the_same_time(self, venue: FakeVenue) -> None:
        """Nobody answers their close frames, so each close takes half of its timeout."""
        with FaultProxy(venue.url) as proxy:
            made = [wsclient.connect(proxy.url, close_timeout=1.0) for _ in range(6)]
            proxy.set(Fault("deaf"))
            blocked = threading.Thread(target=list, args=(made[0],))
            blocked.start()
            begin = time.monotonic()
            wsclient.close_all()
            assert 0.2 < time.monotonic() - begin < 1.5
            blocked.join()
            assert {client.state for client in made} == {wsclient.State.CLOSED}
            assert wsclient.clients() == []

    def test_are_closed_within_one_timeout(self, venue: FakeVenue) -> None:
        with FaultProxy(venue.url) as proxy:
            made = [wsclient.connect(proxy.url, close_timeout=9.0) for _ in range(4)]
            proxy.set(Fault("deaf"))
            begin = time.monotonic()
            wsclient.close_all(timeout=0.3)
            assert time.monotonic() - begin < 1.5
            until(lambda: {client.state for client in made} == {wsclient.State.CLOSED})

    def test_close_all_checks_its_timeout(self) -> None:
        with pytest.raises(wsclient.ConfigurationError, match="timeout"):
            wsclient.close_all("1")  # type: ignore[arg-type]
        wsclient.close_all()  # there is none
