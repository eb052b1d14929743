"""What was published, compared with what a client delivered."""

import json

import pytest

from wsclient.messages import Gap, Message
from wsclient.testing import Delivery, FakeVenue, Feed
from wsclient.testing.journal import Journal

BOOK = "btcusdt@depth@100ms"


def journal(count=6, channel="a"):
    """Return the journal of a venue that published some messages on a channel."""
    venue = FakeVenue()
    for _ in range(count):
        venue.publish(channel)
    return venue.journal


def message(number, reason=None, channel="a"):
    raw = json.dumps(
        {"type": "market_data", "channel": channel, "sequence": number}, separators=(",", ":")
    ).encode()
    gap = Gap(reason) if reason else None
    return Message(channel, "market_data", number, raw=raw, gap=gap)


def differences(delivered, since=None, made=None):
    """Return the differences as kind, first, last, and whether they are marked."""
    found = (made or journal()).compare(delivered, since).differences
    return [(each.kind, each.first, each.last, each.is_marked) for each in found]


def test_everything_once_and_in_order():
    comparison = journal().compare(map(message, range(1, 7)))
    assert comparison.is_exact
    assert comparison.differences == comparison.unmarked == []


def test_it_begins_with_the_first_message_delivered():
    assert differences(map(message, range(3, 7))) == []


def test_it_begins_after_a_number():
    delivered = [message(n) for n in range(3, 7)]
    assert differences(delivered, since={"a": 1}) == [("lost", 2, 2, False)]
    assert differences([], since={"a": 2}) == [("lost", 3, 6, False)]


def test_lost_messages_and_their_marks():
    delivered = [message(1), message(3), message(6, "sequence")]
    assert differences(delivered) == [("lost", 2, 2, False), ("lost", 4, 5, True)]


def test_the_end_is_what_was_published_last():
    assert differences(map(message, range(1, 5))) == [("lost", 5, 6, False)]


def test_a_doubled_message():
    delivered = [message(n) for n in (1, 2, 2, 3, 4, 1, 5, 6)]
    assert differences(delivered) == [("doubled", 1, 1, False), ("doubled", 2, 2, False)]


def test_a_marked_double():
    delivered = [message(n) for n in range(1, 7)] + [message(6, "duplicate")]
    assert differences(delivered) == [("doubled", 6, 6, True)]


def test_a_late_message_fills_its_hole():
    delivered = [message(1), message(5, "sequence"), message(3, "late"), message(6)]
    expected = [("lost", 2, 2, True), ("late", 3, 3, True), ("lost", 4, 4, True)]
    assert differences(delivered) == expected


def test_a_doubled_message_between_two_holes_fills_neither():
    delivered = [message(1), message(3, "sequence"), message(5, "sequence"), message(3), message(6)]
    expected = [("lost", 2, 2, True), ("doubled", 3, 3, False), ("lost", 4, 4, True)]
    assert differences(delivered) == expected
    fills = [*delivered[:3], message(2, "late"), message(4, "late"), message(6)]
    assert differences(fills) == [("late", 2, 2, True), ("late", 4, 4, True)]


def test_differences_by_their_mark():
    delivered = [message(n, n == 3 and "sequence") for n in (1, 3, 5, 6)]
    comparison = journal().compare(delivered)
    assert not comparison.is_exact
    assert [each.first for each in comparison.differences] == [2, 4]
    assert [each.first for each in comparison.unmarked] == [4]


def test_a_mark_without_a_loss():
    delivered = [message(n, "reconnect" if n == 4 else None) for n in range(1, 7)]
    assert differences(delivered) == [("mark", 4, 4, True)]


def test_a_message_that_was_never_published():
    delivered = [message(n) for n in range(1, 7)] + [message(9)]
    assert differences(delivered) == [("unknown", 6, 6, False)]
    assert differences([message(9)]) == [("unknown", 0, 0, False)]
    assert differences([], since={"other": 0}) == []


def test_a_gap_without_a_message_marks_the_next():
    lost = Message("a", "lost", gap=Gap("reconnect"))
    assert differences([message(1), lost, message(6)]) == [("lost", 2, 5, True)]
    assert differences([message(1), lost]) == [("lost", 2, 6, True)]


@pytest.mark.parametrize(
    ("number", "reason", "expected"),
    [
        (3, None, []),
        (3, "reconnect", [("mark", 3, 3, True)]),
        (1, None, []),
        (4, "reconnect", [("lost", 4, 4, True)]),
        (4, None, [("lost", 4, 4, False)]),
    ],
)
def test_a_snapshot_carries_no_update(number, reason, expected):
    snapshot = Message("a", "snapshot", number, raw=b"[]", gap=reason and Gap(reason))
    delivered = [*map(message, (1, 2, 3)), snapshot, *map(message, range(max(number, 3) + 1, 7))]
    assert differences(delivered) == expected


def test_a_snapshot_without_a_number_marks_the_next():
    snapshot = Message("a", "snapshot", raw=b"[]", gap=Gap("reconnect"))
    delivered = [message(1), snapshot, *map(message, range(3, 7))]
    assert differences(delivered) == [("lost", 2, 2, True)]


def test_each_channel_for_itself():
    with FakeVenue() as venue:
        for channel in "aabba":
            venue.publish(channel)
        made = venue.journal
    delivered = [message(n, channel=c) for c, n in (("b", 1), ("a", 1), ("b", 2), ("a", 3))]
    comparison = made.compare(delivered)
    assert [(each.channel, each.first) for each in comparison.of("lost")] == [("a", 2)]
    assert comparison.of("doubled") == []
    assert [each.sequence for each in made.of("a")] == [1, 2, 3]


def test_equal_payloads_are_counted():
    made = Journal()
    with FakeVenue() as venue:
        venue.publish("a")
        (first,) = venue.journal.published
    for number in (1, 2, 3):
        made.add(first._replace(sequence=number, payload="same"))
    same = Message("a", raw=b"same")
    assert differences([same] * 3, {"a": 0}, made) == []
    assert differences([same] * 2, {"a": 0}, made) == [("lost", 3, 3, False)]
    assert differences([same] * 4, {"a": 0}, made) == [("doubled", 3, 3, False)]


def test_updates_in_different_cuts_of_two_connections(dial):
    with FakeVenue("binance", seed=3) as venue:
        clients = [dial(venue), dial(venue)]
        for client in clients:
            client.send(json.dumps({"method": "SUBSCRIBE", "params": [BOOK], "id": 1}))
            client.recv(timeout=5)
        venue.deliver(Delivery(cut=4))
        with Feed(venue, {BOOK: 2000.0}) as feed:
            feed.wait(40)
        one, other = (_received(client, venue.sequence(BOOK)) for client in clients)
        assert one != other
        half = len(one) // 2
        at = one[half - 1].sequence
        merged = one[:half] + [each for each in other if each.sequence > at]
        assert venue.journal.compare(merged, {BOOK: 0}).is_exact
        comparison = venue.journal.compare([*merged, one[0]])
        assert [each.kind for each in comparison.differences] == ["doubled"]


def _received(client, last):
    """Return the messages of a book up to number `last`."""
    messages = []
    while not messages or messages[-1].sequence < last:
        raw = client.recv(timeout=5)
        messages.append(Message(BOOK, sequence=json.loads(raw)["data"]["u"], raw=raw.encode()))
    return messages


def test_a_venue_without_a_journal_records_nothing(dial):
    with FakeVenue(journal=False) as venue:
        client = dial(venue)
        client.send('{"type": "subscribe", "channel": "a"}')
        client.recv(timeout=5)
        venue.publish("a")
        client.recv(timeout=5)
        assert venue.journal.published == []
        assert venue.journal.compare([message(1)]).of("unknown")
