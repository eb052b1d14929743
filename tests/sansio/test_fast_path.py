"""The fast path and the careful one: the same messages, gaps and accounts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import entries_of
from rig import Rig

from wsclient.dialects import Generic
from wsclient.messages import Message, TypedMessage
from wsclient.sansio.inbound import SMALL, Inbound

CHANNELS = ("a", "b")


class Tick(msgspec.Struct):
    type: str
    channel: str
    sequence: int
    price: float = 0.0


class Line:
    """A subscribed session, and the way from payloads to messages as the watchdog runs it."""

    def __init__(self, is_fast: bool, dialect: Generic | None = None) -> None:
        dialect = dialect or Generic()
        self.inbound = Inbound(dialect)
        self.rig = Rig(dialect).active(*CHANNELS)
        self._is_fast = is_fast
        self._reads = 0
        #: Messages that came by the fast path.
        self.quick = 0

    def take(self, *payloads: bytes) -> list[Message]:
        """One read."""
        self._reads += 1
        session, cid = self.rig.session, self.rig.cid
        batch = self.inbound.batch(list(payloads), False, self._reads, cid)
        messages = session.ordinary(cid, batch, self.rig.now) if self._is_fast else []
        self.quick += len(messages)
        rest = self.inbound.entries(batch, len(messages))
        return messages + session.received(cid, rest, self.rig.now)

    def account(self) -> list[Any]:
        trackers = self.rig.session.trackers
        counters = self.rig.session.counters
        totals = [getattr(counters, n) for n in ("messages", "gaps", "missed", "invalid")]
        return totals + [
            (
                *(channel, t.messages, t.gaps, t.missed, t.strays, t.last, t.pending),
                *(t.last_received_at, t.latest and told(t.latest)),
            )
            for channel, t in sorted(trackers.items())
        ]


def told(message: Message) -> tuple[Any, ...]:
    return (
        message.channel,
        message.type,
        message.sequence,
        message.raw,
        message.gap,
        message.previous_at,
        message.received_at,
        message.data,
    )


def market_data(channel: Any = "a", sequence: Any = 1, **more: Any) -> bytes:
    frame = {"type": "market_data", "channel": channel, "sequence": sequence, **more}
    return json.dumps(frame).encode()


def ahead(line: Line) -> None:
    """Decoded by the reader."""


def behind(line: Line) -> None:
    """Only peeked at by the reader."""
    line.inbound.ahead = False


def into_a_type(line: Line) -> None:
    """Decoded by the reader into what the consumer last asked for."""
    for message in line.take(market_data("b", 0)):
        message.decode(Tick)


WAYS = [ahead, behind, into_a_type]


@pytest.mark.parametrize("way", WAYS)
def test_ordinary_data_takes_the_fast_path(way: Callable[[Line], None]) -> None:
    line = Line(is_fast=True)
    line.take(market_data())
    line.take(market_data(sequence=2))
    way(line)
    before = line.quick

    messages = line.take(market_data(sequence=3, price=1.5), market_data(sequence=4))

    assert line.quick == before + 2
    assert [m.sequence for m in messages] == [3, 4]
    assert messages[0].data["price"] == 1.5
    assert messages[0].decode(Tick) == Tick("market_data", "a", 3, 1.5)


@pytest.mark.parametrize("way", [ahead, behind])
@pytest.mark.parametrize("field", ["seq", None])
def test_so_does_data_with_another_number_or_none(
    way: Callable[[Line], None], field: str | None
) -> None:
    line = Line(is_fast=True)
    way(line)

    def frame(n: int) -> bytes:
        return json.dumps(
            {"type": "market_data", "channel": "a"} | ({field: n} if field else {})
        ).encode()

    line.take(frame(1))
    messages = line.take(frame(2), frame(3))

    assert line.quick == 2
    assert [m.sequence for m in messages] == ([2, 3] if field else [None, None])


def test_what_is_decoded_into_a_type_is_made_once() -> None:
    line = Line(is_fast=True)
    line.take(market_data())
    into_a_type(line)
    (message,) = line.take(market_data(sequence=2))
    assert message.decode(Tick) is message.decode(Tick)
    assert message.data == json.loads(message.raw)


@pytest.mark.parametrize("is_data", [True, False])
def test_a_type_that_does_not_fit_all_data_is_left_to_the_consumer(is_data: bool) -> None:
    line = Line(is_fast=True)
    into_a_type(line)
    odd = {"type": "market_data" if is_data else "heartbeat", "channel": "a", "price": "high"}
    line.take(market_data(sequence=2), json.dumps({**odd, "sequence": 3}).encode())
    (message,) = line.take(market_data(sequence=4 if is_data else 3))
    assert isinstance(message, TypedMessage) is not is_data
    assert message.decode(Tick).price == 0.0


@pytest.mark.parametrize("kind", [dict, tuple[int, ...], msgspec.defstruct("T", ["channel"])])
def test_a_type_without_the_three_fields_is_left_to_the_consumer(kind: Any) -> None:
    line = Line(is_fast=True)
    (message,) = line.take(market_data())
    try:
        message.decode(kind)
    except msgspec.ValidationError:
        pass
    (message,) = line.take(market_data(sequence=2))
    assert not isinstance(message, TypedMessage)


def test_a_type_that_would_make_up_a_number_is_left_to_the_consumer() -> None:
    class Guess(msgspec.Struct):
        type: str
        channel: str
        sequence: int = 2

    line = Line(is_fast=True)
    line.take(market_data())[0].decode(Guess)
    (message,) = line.take(b'{"type": "market_data", "channel": "a"}')
    assert message.sequence is None
    assert message.decode(Guess).sequence == 2


def test_a_frame_that_is_not_ordinary_ends_the_run_and_no_more() -> None:
    line = Line(is_fast=True)
    line.take(market_data(), market_data("b", 7))

    messages = line.take(
        market_data(sequence=2), market_data("b", 9), b"rubbish", market_data(sequence=3)
    )

    assert line.quick == 1
    assert [(m.channel, m.sequence) for m in messages] == [("a", 2), ("b", 9), ("a", 3)]
    assert messages[1].gap is not None
    assert messages[1].gap.missed == 1


def test_large_frames_are_not_decoded_by_the_reader() -> None:
    line = Line(is_fast=True)
    line.take(market_data())
    (message,) = line.take(market_data(sequence=2, padding="x" * SMALL))
    assert line.quick == 1
    assert message.decoded is msgspec.UNSET
    assert message.data["sequence"] == 2


def test_what_is_no_utf8_is_not_ordinary() -> None:
    line = Line(is_fast=True)
    line.inbound.ahead = False
    line.take(market_data())
    raw = b'{"type":"market_data","channel":"a","sequence":2,"x":"\xff"}'
    batch = line.inbound.batch([raw], True, 1, line.rig.cid)
    assert line.rig.session.ordinary(line.rig.cid, batch, 0.0) == []
    (entry,) = entries_of(line.inbound, raw)
    assert "UnicodeDecodeError" in entry.text


def test_a_message_ends_the_silence_of_its_channel() -> None:
    line = Line(is_fast=True)
    line.rig = Rig(Generic(), stale_after=5.0).active(*CHANNELS)
    line.take(market_data())
    tracker = line.rig.session.trackers["a"]
    line.rig.now += 3.0
    tracker.refreshed = True

    line.take(market_data(sequence=2))

    assert line.quick == 1
    assert (tracker.data_at, tracker.refreshed) == (line.rig.now, False)


def test_where_the_venue_never_answers_the_first_data_confirms() -> None:
    dialect = Generic()
    dialect.acknowledges = False
    line = Line(is_fast=True)
    line.rig = Rig(dialect).open()
    line.rig.subscribe("a", token="wish")

    line.take(market_data())
    line.take(market_data(sequence=2))

    assert line.rig.outcome("wish") is None
    assert line.quick == 1


def test_a_number_may_be_in_the_second_field_of_one_channel_only() -> None:
    """Null in the first field is no number, but the other field may hold one."""
    line = Line(is_fast=True)
    line.take(market_data("a", 1), market_data("b", None))
    (_, message) = line.take(market_data("a", 2), market_data("b", None, seq=7))
    assert line.quick == 1
    assert message.sequence == 7


FRAMES = st.one_of(
    st.builds(market_data, st.sampled_from("abc"), st.integers(1, 9)),
    st.builds(
        market_data,
        st.sampled_from(["a", "b", 5, None, ["a"]]),
        st.none() | st.integers(1, 5) | st.text(max_size=2) | st.floats(0.1, 0.9),
        seq=st.none() | st.integers(1, 5),
    ),
    st.sampled_from(
        [
            b'{"type": "market_data", "channel": "a"}',
            b'{"type": "market_data", "channel": "a", "seq": 3}',
            b'{"type": ["market_data"], "channel": "a", "sequence": 1}',
            b'{"type": "heartbeat"}',
            b'{"type": "odd", "channel": "a", "sequence": 1}',
            b'{"type": "subscription", "channel": "a", "status": "success"}',
            b'{"type": "market_data", "channel": "a", "sequence": 2, "x": 1e999}',
            b'{"type": "market_data", "channel": "a", "sequence": 3, "x": }',
            b"[1, 2]",
            b"null",
            b"",
            b"\xff",
        ]
    ),
)


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(FRAMES, max_size=6)), max_size=6))
def test_both_paths_tell_the_same(
    way: Callable[[Line], None], reads: list[tuple[str, list[bytes]]]
) -> None:
    fast, careful = Line(is_fast=True), Line(is_fast=False)
    numbers = dict.fromkeys("abc", 0)
    for line in (fast, careful):
        way(line)
    for channel, odd in reads:
        run = []
        for _ in range(3):
            numbers[channel] += 1
            run.append(market_data(channel, numbers[channel]))
        payloads = [*run, *odd]
        assert [*map(told, fast.take(*payloads))] == [*map(told, careful.take(*payloads))]
        assert fast.account() == careful.account()
