"""How published messages reach each connection: later, cut differently, or not at all."""

import json
import re
import time

import pytest

from wsclient.testing import Delivery, FakeVenue, Feed, GenericProtocol
from wsclient.testing.delivery import Outlet, Update

BOOK = "btcusdt@depth@100ms"


def subscribe(client, channel):
    client.send(json.dumps({"type": "subscribe", "channel": channel}))
    return json.loads(client.recv(timeout=5))


def numbers(client, count):
    return [json.loads(client.recv(timeout=5))["sequence"] for _ in range(count)]


@pytest.fixture
def pair(venue, dial):
    """Return two clients that are subscribed to channel a, and their peers."""
    clients = [dial(venue), dial(venue)]
    for client in clients:
        subscribe(client, "a")
    return clients, list(venue.peers)


# Loss


def test_one_connection_loses_what_the_test_says(venue, pair):
    (one, other), (peer, _) = pair
    peer.deliver(Delivery(lost={1, 3}))
    for _ in range(4):
        venue.publish("a")
    assert numbers(one, 2) == [2, 4]
    assert numbers(other, 4) == [1, 2, 3, 4]
    assert [json.loads(payload)["sequence"] for payload in peer.lost] == [1, 3]


def test_a_peer_loses_its_next_messages(venue, pair):
    (one, _), (peer, _) = pair
    venue.publish("a")
    peer.lose(2)
    for _ in range(3):
        venue.publish("a")
    assert numbers(one, 2) == [1, 4]


def test_each_message_is_lost_for_one_reason(venue, pair):
    (one, _), (peer, _) = pair
    peer.deliver(Delivery(lost={1}))
    venue.publish("a")
    venue.publish("a")
    peer.lose(1)
    for _ in range(2):
        venue.publish("a")
    assert numbers(one, 2) == [2, 4]


def test_answers_are_not_lost(venue, pair):
    (one, _), (peer, _) = pair
    peer.deliver(Delivery(loss=1.0))
    venue.publish("a")
    assert subscribe(one, "b") == {"type": "subscription", "channel": "b", "status": "success"}


def lost(seed, dial):
    """Return what two connections lose of 200 messages."""
    with FakeVenue(seed=seed) as venue:
        venue.deliver(Delivery(loss=0.1))
        for _ in range(2):
            subscribe(dial(venue), "a")
        for _ in range(200):
            venue.publish("a")
        return [peer.lost for peer in venue.peers]


def test_random_loss_is_that_of_the_seed_and_differs_per_connection(dial):
    one, other = lost(1, dial)
    assert 5 < len(one) < 40
    assert one != other
    assert lost(1, dial) == [one, other]
    assert lost(2, dial) != [one, other]


# Delay


class Clock:
    """A clock and its timers, for an outlet."""

    def __init__(self):
        self.now = 0.0
        self.timers = []

    def call_at(self, due, function):
        self.timers.append((due, len(self.timers), function))

    def run_until(self, now):
        due = sorted(timer for timer in self.timers if timer[0] <= now)
        self.timers = [timer for timer in self.timers if timer[0] > now]
        self.now = now
        for *_, function in due:
            function()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def outlet(clock):
    """Return an outlet, with what it has written in `written`."""
    outlet = Outlet(
        "0", lambda payload: outlet.written.append(payload), clock.call_at, lambda: clock.now
    )
    outlet.written = []
    return outlet


def test_a_message_is_late(clock, outlet):
    outlet.delivery = Delivery(delay=1.0)
    outlet.put("a")
    clock.run_until(0.9)
    assert outlet.written == []
    clock.run_until(1.0)
    assert outlet.written == ["a"]


def test_jitter_keeps_the_order(clock, outlet):
    outlet.delivery = Delivery(delay=0.1, jitter=1.0)
    for n in range(50):
        outlet.put(str(n))
    dues = [due for due, *_ in clock.timers]
    assert len(set(dues)) > 1
    assert 0.1 <= min(dues) <= max(dues) <= 1.1
    assert dues == sorted(dues)
    clock.run_until(2.0)
    assert outlet.written == [str(n) for n in range(50)]


def test_a_shorter_delay_lets_nothing_overtake(clock, outlet):
    outlet.delivery = Delivery(delay=1.0)
    outlet.put("a")
    outlet.delivery = Delivery()
    clock.now = 1.5  # the timer is due, but has not run
    outlet.put("b")
    assert outlet.written == []
    clock.run_until(1.5)
    assert outlet.written == ["a", "b"]
    outlet.put("c")
    assert outlet.written == ["a", "b", "c"]


def test_one_connection_is_late_and_the_other_is_not(venue, pair):
    (one, other), (peer, _) = pair
    peer.deliver(Delivery(delay=0.2))
    before = time.monotonic()
    venue.publish("a")
    numbers(other, 1)
    assert time.monotonic() - before < 0.2
    numbers(one, 1)
    assert time.monotonic() - before >= 0.2


def test_what_is_late_does_not_outlive_the_connection(venue, pair):
    _, (peer, _) = pair
    peer.deliver(Delivery(delay=0.01))
    venue.publish("a")
    peer.rst()
    peer.wait_closed()
    assert not any("market_data" in sent.payload.decode() for sent in peer.journal)


# Stall


def test_a_stalled_connection_gets_answers_but_no_data(venue, pair):
    (one, other), (peer, _) = pair
    peer.stall()
    venue.publish("a")
    venue.publish("a")
    assert subscribe(one, "b")["channel"] == "b"
    assert numbers(other, 2) == [1, 2]
    peer.stall(False)
    venue.publish("a")
    assert numbers(one, 3) == [1, 2, 3]


# Cuts


def updates(client, count):
    """Return the first and last number of messages of a book until number `count`."""
    found = []
    while not found or found[-1][1] < count:
        message = json.loads(client.recv(timeout=5))["data"]
        found.append((message["U"], message["u"]))
    return found


def cut(seed, cuts, dial, count=60):
    """Return how two connections get the same updates of a book."""
    with FakeVenue("binance", seed=seed) as venue:
        clients = [dial(venue) for _ in cuts]
        for client in clients:
            client.send(json.dumps({"method": "SUBSCRIBE", "params": [BOOK], "id": 1}))
            client.recv(timeout=5)
        for peer, size in zip(venue.peers, cuts, strict=True):
            peer.deliver(Delivery(cut=size))
        feed = Feed(venue, {BOOK: 1.0}, seed=1)
        for _ in range(count):
            feed.publish()
        venue.flush()
        return [updates(client, count) for client in clients]


def test_connections_get_the_same_updates_in_different_cuts(dial):
    whole, one, other = cut(3, (1, 5, 5), dial)
    assert whole == [(n, n) for n in range(1, 61)]
    for ranges in (one, other):
        assert [n for first, last in ranges for n in range(first, last + 1)] == [*range(1, 61)]
        assert {last - first for first, last in ranges} == {0, 1, 2, 3, 4}
    assert one != other
    assert cut(3, (1, 5, 5), dial) == [whole, one, other]
    assert cut(4, (1, 5, 5), dial) != [whole, one, other]


CUT = [
    ("binance", BOOK),
    ("binance_futures", BOOK),
    ("okx", "books:BTC-USDT"),
    ("deribit", "book.BTC-PERPETUAL.100ms"),
    ("kraken", "book:BTC/USD"),
    ("coinbase_exchange", "level2_batch:BTC-USD"),
]


@pytest.mark.parametrize(("name", "channel"), CUT)
def test_a_cut_of_updates_ends_in_the_same_book(name, channel):
    venue = FakeVenue(name)
    feed = Feed(venue, {channel: 1.0}, seed=1)
    given = []
    publish, form = venue.publish, venue.protocol.dialect.book
    venue.publish = lambda channel, **fields: given.append(fields) or publish(channel, **fields)
    start = feed.listings[channel].snapshot()
    for _ in range(40):
        feed.publish()
    payloads = [each.payload for each in venue.journal.published]
    items = [
        Update(n, fields, payload)
        for n, (fields, payload) in enumerate(zip(given, payloads, strict=True), 1)
    ]
    joined = [venue.protocol.join(channel, items[n : n + 4]) for n in range(0, 40, 4)]
    books = [_book(venue.protocol.dialect, form, start, frames) for frames in (payloads, joined)]
    assert books[0] == books[1]
    assert len(books[0][0]) == 10


@pytest.mark.parametrize(("name", "channel"), CUT[2:])
def test_a_snapshot_is_never_joined(name, channel):
    venue = FakeVenue(name)
    listing = Feed(venue, {channel: 1.0}).listings[channel]
    events = [(listing.snapshot(), True), (listing.next(), False)]
    fields = [venue.protocol.fields(channel, event, whole) for event, whole in events]
    items = [
        Update(n, each, venue.protocol.data(channel, n, each)) for n, each in enumerate(fields, 1)
    ]
    assert venue.protocol.join(channel, items) is None
    assert venue.protocol.join(channel, items[1:]) is not None


def _book(dialect, form, start, payloads):
    """Return both sides after all updates."""
    sides = [dict(start.bids), dict(start.asks)]
    for payload in payloads:
        message = _message(dialect, payload.encode())
        update = form.update(message)
        for side, changes in zip(sides, (update.bids, update.asks), strict=True):
            for price, size in changes:
                if size:
                    side[price] = size
                else:
                    side.pop(price, None)
    return sides


def _message(dialect, raw):
    found = dialect.read(json.loads(raw)) if dialect.peek is None else dialect.peek(raw)
    message = found[0] if isinstance(found, list) else found
    message.raw = raw
    return message


def test_messages_that_hold_one_update_are_not_cut(venue, pair):
    (one, _), (peer, _) = pair
    peer.deliver(Delivery(cut=5))
    for _ in range(12):
        venue.publish("a")
    assert numbers(one, 12) == [*range(1, 13)]


def test_what_waits_goes_out_before_a_new_subscription(dial):
    with FakeVenue("binance") as venue:
        client = dial(venue)
        subscribe = json.dumps({"method": "SUBSCRIBE", "params": [BOOK], "id": 1})
        client.send(subscribe)
        client.recv(timeout=5)
        venue.live[0].deliver(Delivery(cut=1000))
        venue.publish(BOOK, e="depthUpdate", b=[], a=[])
        client.send(subscribe)
        assert json.loads(client.recv(timeout=5))["data"]["u"] == 1


def book(venue, dial):
    """Return a client that is subscribed to a book."""
    client = dial(venue)
    client.send(json.dumps({"method": "SUBSCRIBE", "params": [BOOK], "id": 1}))
    client.recv(timeout=5)
    return client


def test_a_cut_of_two(dial):
    with FakeVenue("binance") as venue:
        client = book(venue, dial)
        venue.deliver(Delivery(cut=2))
        for _ in range(20):
            venue.publish(BOOK, e="depthUpdate", b=[], a=[])
        venue.flush()
        assert {last - first for first, last in updates(client, 20)} == {0, 1}


def test_what_waits_goes_with_the_next_if_updates_are_no_longer_joined(dial):
    with FakeVenue("binance") as venue:
        client = book(venue, dial)
        venue.deliver(Delivery(cut=1000))
        venue.publish(BOOK, e="depthUpdate", b=[], a=[])
        venue.deliver(Delivery())
        venue.publish(BOOK, e="depthUpdate", b=[], a=[])
        venue.publish(BOOK, e="depthUpdate", b=[], a=[])
        assert updates(client, 3) == [(1, 2), (3, 3)]


@pytest.mark.parametrize("prefix", ["", "public:"])
def test_an_unsubscribe_forgets_what_waits(dial_at, prefix):
    with FakeVenue("okx") as venue:
        client = dial_at(venue.route_url("public"))
        args = [{"channel": "books", "instId": "A"}]
        client.send(json.dumps({"op": "subscribe", "args": args}))
        client.recv(timeout=5)
        peer = venue.accept()
        peer.deliver(Delivery(cut=1000))
        venue.publish(f"{prefix}books:A", action="update", bids=[], asks=[])
        client.send(json.dumps({"op": "unsubscribe", "args": args}))
        client.recv(timeout=5)
        venue.flush()
        assert peer.outlet.count == 0


def test_a_message_that_is_not_joined_comes_behind_what_waits(dial):
    with FakeVenue("okx") as venue:
        client = dial(venue)
        args = [{"channel": "books", "instId": "A"}]
        client.send(json.dumps({"op": "subscribe", "args": args}))
        client.recv(timeout=5)
        venue.deliver(Delivery(cut=1000))
        for action in ("update", "snapshot"):
            venue.publish("books:A", action=action, bids=[], asks=[])
        actions = [json.loads(client.recv(timeout=5))["action"] for _ in range(2)]
        assert actions == ["update", "snapshot"]


# What differs per connection


def test_the_clock_of_each_gateway(dial):
    with FakeVenue("bybit") as venue:
        clients = [dial(venue), dial(venue)]
        for client in clients:
            client.send(json.dumps({"op": "subscribe", "args": ["tickers.A"]}))
            client.recv(timeout=5)
        venue.live[1].deliver(Delivery(clock=0.25))
        venue.publish("tickers.A", data={"ts": 1})
        one, other = (json.loads(client.recv(timeout=5)) for client in clients)
        assert other.pop("ts") - one.pop("ts") == 250
        assert one == other


@pytest.mark.parametrize(("payload", "stamped"), [('"t":5', '"t":255'), (b'"t":5', b'"t":5')])
def test_only_texts_have_a_time(outlet, payload, stamped):
    outlet.delivery = Delivery(clock=0.25)
    assert outlet.stamp(payload, re.compile(r'("t":)(\d+)')) == stamped
    assert outlet.stamp(payload, None) == payload


def test_the_generic_protocol_can_have_a_gateway_time(dial):
    with FakeVenue(GenericProtocol(gateway_time=True)) as venue:
        clients = [dial(venue), dial(venue)]
        for client in clients:
            subscribe(client, "a")
        venue.live[1].deliver(Delivery(clock=-1.5))
        venue.publish("a", price=1)
        one, other = (json.loads(client.recv(timeout=5)) for client in clients)
        assert one.pop("gateway_time") - other.pop("gateway_time") == 1500
        assert one == other


# For several connections


@pytest.mark.parametrize(
    ("on", "present", "new"), [("all", 0.5, 0.5), ("present", 0.5, 0.0), ("new", 0.0, 0.5)]
)
def test_connections_of_now_and_those_to_come(venue, dial, on, present, new):
    dial(venue)
    venue.deliver(Delivery(loss=0.5), on=on)
    dial(venue)
    assert [peer.outlet.delivery.loss for peer in venue.peers] == [present, new]


@pytest.mark.parametrize(
    "wrong", [{"delay": -1.0}, {"jitter": -1.0}, {"loss": 1.1}, {"loss": -0.1}, {"cut": 0}]
)
def test_a_delivery_that_cannot_work(wrong):
    with pytest.raises(ValueError, match="must"):
        Delivery(**wrong)
