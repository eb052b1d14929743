"""Row 27: rotations beside the calls and the consumers of a client."""

from __future__ import annotations

import contextlib
import gc
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

import wsclient
from support.helpers import Call, until
from support.matrix import each_size
from support.rotating import PATIENCE, Rig, Watch, rig_of
from wsclient.dialect import Limits
from wsclient.errors import ClientClosed, NotConnected
from wsclient.testing import FakeVenue, VenueLimits

SEED = random.randrange(10**6)
BUSY = 300.0


@contextlib.contextmanager
def rotating(rig: Rig, least: int) -> Iterator[None]:
    """Rotate again and again during the block, at least this often."""
    is_over = threading.Event()

    def rotate() -> None:
        count = 0
        while count < least or not is_over.is_set():
            rig.rotate()
            count += 1

    call = Call(rotate)
    try:
        yield
    finally:
        is_over.set()
        call.result(4 * PATIENCE)


# --- the set of channels -------------------------------------------------------------------------


# Not Bitfinex: there nothing can be unsubscribed before its subscribe is answered.
@pytest.mark.parametrize("kind", ["counted", "range", "pointer", "checksum"])
@each_size("rounds", short=[6], full=[200], timeout=900)
def test_channels_come_and_go_during_rotations(kind: str, rounds: int) -> None:
    with rig_of(kind, BUSY, SEED, count=3) as rig:
        other = rig.channels[-1]
        with rotating(rig, 2):
            for _ in range(rounds):
                rig.client.unsubscribe(other, timeout=PATIENCE)
                assert other not in rig.client.subscriptions
                rig.client.subscribe(other, timeout=PATIENCE)
                assert rig.client.subscriptions[other].is_active
        until(lambda: rig.is_whole, PATIENCE)
        rig.feed.wait(30, PATIENCE)
        compared = rig.finish()
        print(f"seed {SEED}, {compared.differences[:9]}")
        assert not [found for found in compared.differences if found.channel != other]
        stats = rig.client.stats()
        assert stats.disconnects == 0
        assert stats.invalid == 0


def test_channels_that_are_new_during_a_rotation_go_to_the_new_connection() -> None:
    with rig_of("counted", BUSY, SEED, count=3, ack_timeout=1.0) as rig:
        held, both, new = rig.channels
        rig.client.unsubscribe(new)
        rig.venue.mute_acks(channel=held)  # so that the overlap goes on
        call = Call(rig.client.rotate, PATIENCE)
        rig.venue.wait_for(lambda venue: len(venue.subscribers(both)) == 2, PATIENCE)
        rig.client.subscribe(new, timeout=PATIENCE)
        old, successor = rig.venue.live
        assert successor.subscriptions == {held, both, new}
        assert old.subscriptions == {held, both}
        rig.client.unsubscribe(both, timeout=PATIENCE)
        assert (old.subscriptions, successor.subscriptions) == ({held}, {held, new})
        rig.venue.mute_acks(False)
        call.result(PATIENCE)
        assert rig.venue.live == [successor]
        until(lambda: successor.subscriptions == {held, new}, PATIENCE)


@pytest.mark.parametrize("kind", ["pointer", "checksum", "range"])
def test_a_book_is_refreshed_during_a_rotation(kind: str) -> None:
    """Each wrong message makes the book ask for a snapshot, also while it is on its way."""
    with rig_of(kind, BUSY, SEED) as rig:
        assert rig.book is not None
        with rotating(rig, 5):
            for _ in range(10):
                lost = rig.carriers[:1]
                for peer in lost:
                    peer.lose(1)
                rig.feed.wait(10, PATIENCE)
        rig.feed.wait(30, PATIENCE)
        rig.book.wait_synced(PATIENCE)
        with Watch(rig) as watch:
            rig.feed.wait(30, PATIENCE)
        assert not watch.faults
        unmarked = rig.finish().unmarked
        # Of a message without a number only the checksum shows that it is lost.
        assert kind == "checksum" or not [found for found in unmarked if found.kind != "doubled"]


def test_a_channel_that_the_venue_ends_during_a_rotation_comes_back() -> None:
    with rig_of("checksum", BUSY, SEED, count=2) as rig:
        other = rig.channels[1]
        name, symbol = other.split(":")
        with rotating(rig, 5):
            for _ in range(5):
                for peer in rig.venue.live:
                    with rig.venue.lock:
                        if peer.live and peer.unsubscribe(other):
                            result = {"channel": name, "depth": 10, "symbol": symbol}
                            answer = {"method": "unsubscribe", "result": result, "success": True}
                            peer.send_json(answer)
                rig.feed.wait(10, PATIENCE)
        until(lambda: rig.is_whole, PATIENCE)
        rig.feed.wait(30, PATIENCE)
        compared = rig.finish()
        assert not [found for found in compared.differences if found.channel != other]


# --- consumers -----------------------------------------------------------------------------------


def test_each_consumer_gets_each_message_once() -> None:
    class Trade(msgspec.Struct):
        price: float
        quantity: float

    with rig_of("counted", BUSY, SEED, count=2) as rig:
        one, other = rig.channels
        called: list[wsclient.Message] = []
        typed: list[wsclient.Message] = []
        latest: list[int] = []
        conflated: list[int] = []
        rig.client.on(other, called.append)

        def read(reader: Any, found: list[Any], key: Callable[[Any], Any]) -> None:
            with contextlib.suppress(ClientClosed):
                for message in reader:
                    found.append(key(message))

        readers = [
            Call(read, rig.client.reader(one, decode=Trade), typed, lambda m: (m.data, m)[1]),
            Call(
                read,
                rig.client.reader(other, overflow="conflate"),
                conflated,
                lambda m: m.sequence,
            ),
        ]
        is_over = threading.Event()

        def look() -> None:
            while not is_over.wait(0.001):
                if (message := rig.client.latest(one)) is not None:
                    latest.append(message.sequence or 0)

        looking = Call(look)
        for _ in range(5):
            rig.rotate()
        is_over.set()
        looking.result()
        compared = rig.finish()
        end = {channel: rig.venue.sequence(channel) for channel in rig.channels}
        until(lambda: called[-1].sequence == end[other] == conflated[-1], PATIENCE)
        until(lambda: typed[-1].sequence == end[one], PATIENCE)
        assert compared.is_exact
        assert rig.venue.journal.compare(called).is_exact
        assert rig.venue.journal.compare(typed).is_exact
        assert isinstance(typed[-1].data, Trade)
        assert latest == sorted(latest)
        assert conflated == sorted(set(conflated))
        assert {message.connection_id for message in called} == set(range(1, 7))
    for reader in readers:
        reader.result()


# --- the call ------------------------------------------------------------------------------------


@pytest.fixture
def deaf() -> Iterator[Rig]:
    """A client whose next connections wait for an answer to their handshake."""
    with rig_of("counted", BUSY, SEED, connect_timeout=PATIENCE) as rig:
        rig.venue.fail_handshake("deaf", times=1)
        yield rig


def test_close_ends_rotate(deaf: Rig) -> None:
    call = Call(deaf.client.rotate)
    deaf.venue.wait_for(lambda venue: venue.attempts == 2)
    begin = time.monotonic()
    deaf.client.close()
    with pytest.raises(ClientClosed):
        call.result()
    assert time.monotonic() - begin < 5.0


def test_rotate_ends_at_its_timeout_and_the_rotation_goes_on() -> None:
    with rig_of("counted", BUSY, SEED, connect_timeout=0.5) as rig:
        rig.venue.fail_handshake("deaf", times=1)
        with pytest.raises(TimeoutError):
            rig.client.rotate(timeout=0.05)
        rig.wait_rotations(1)
        assert rig.finish().is_exact


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="sends a signal to one thread")
def test_ctrl_c_ends_rotate_and_the_client_works_on() -> None:
    with rig_of("counted", BUSY, SEED, connect_timeout=1.0) as rig:
        rig.venue.fail_handshake("deaf", times=1)

        def interrupt() -> None:
            rig.venue.wait_for(lambda venue: venue.attempts == 2)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

        call = Call(interrupt)
        with pytest.raises(KeyboardInterrupt):
            rig.client.rotate(timeout=PATIENCE)
        call.result()
        rig.wait_rotations(1)
        rig.rotate()
        assert rig.finish().is_exact


def test_two_calls_at_once_are_one_rotation() -> None:
    with rig_of("counted", BUSY, SEED, connect_timeout=0.5) as rig:
        rig.venue.fail_handshake("deaf", times=1)
        calls = [Call(rig.client.rotate, PATIENCE) for _ in range(3)]
        for call in calls:
            call.result(PATIENCE)
        assert rig.rotations == 1


def test_rotate_needs_a_client_that_is_connected() -> None:
    client = wsclient.WebSocketClient("ws://127.0.0.1:9/")
    with pytest.raises(NotConnected):
        client.rotate()
    client.close()
    with pytest.raises(ClientClosed):
        client.rotate()


def test_without_channels_a_connection_is_replaced_too() -> None:
    with FakeVenue() as venue, wsclient.connect(venue.url) as client:
        old = venue.accept()
        client.rotate(timeout=PATIENCE)
        new = venue.accept()
        assert new.live
        assert old.close_code == 1000
        client.subscribe("a")
        assert new.subscriptions == {"a"}


def test_one_connection_per_key_is_cut_first_and_marked() -> None:
    with rig_of("counted", BUSY, SEED, limits=VenueLimits(connections=1), most=1) as rig:
        for _ in range(3):
            rig.rotate()
        compared = rig.finish()
        stats = rig.client.stats()
        assert not compared.unmarked
        assert (stats.disconnects, stats.rotations) == (3, 0)
        assert stats.disconnect_reasons == {"age": 3}


@pytest.mark.parametrize("most", [None, 4])
@pytest.mark.parametrize("kind", ["counted", "none"])
def test_all_shards_are_replaced_as_far_as_there_is_room(kind: str, most: int | None) -> None:
    limits = VenueLimits(channels=1, connections=most)
    with rig_of(kind, BUSY, SEED, limits=limits, count=3, each=1, most=most) as rig:
        for _ in range(3):
            rig.rotate()
        compared = rig.finish()
        stats = rig.client.stats()
        assert compared.is_exact
        assert (stats.rotations, stats.disconnects, stats.attempt_failures) == (9, 0, {})
        assert [len(peer.subscriptions) for peer in rig.venue.live] == [1] * 3


# --- what is left behind -------------------------------------------------------------------------


def ours() -> Counter[str]:
    """Count the objects of the package, by type."""
    gc.collect()
    kinds = [type(each) for each in gc.get_objects()]
    names = Counter(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds)
    found = {n: c for n, c in names.items() if n.startswith("wsclient.")}
    # The marks of the rates come with time, and are bounded.
    return Counter({n: c for n, c in found.items() if ".testing." not in n and "rates" not in n})


@each_size("rotations", short=[5], full=[100], timeout=600)
def test_rotations_leave_nothing_behind(rotations: int) -> None:
    with FakeVenue(journal=False) as venue:
        dialect = wsclient.Generic(limits=Limits(connects=None))
        with wsclient.connect(venue.url, dialect=dialect) as client:
            client.subscribe("a", "b")

            def rotate() -> None:
                client.rotate(timeout=PATIENCE)
                for channel in ("a", "b"):
                    venue.publish(channel)
                    client.recv(timeout=PATIENCE)
                until(lambda: len(threads()) == 2)

            for _ in range(2):
                rotate()
            before = ours()
            for _ in range(rotations):
                rotate()
            # What each rotation leaves is there as often. A thing that was first needed later, such
            # as a histogram, is there once.
            until(lambda: max((ours() - before).values(), default=0) < rotations)


def threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith(("wsclient-reader", "wsclient-watchdog"))]
