"""The fast path and the careful path give the same messages, gaps and counters."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.examples import examples
from support.making import entries_of
from support.rig import Rig
from wsclient.dialects import Generic
from wsclient.messages import LinkedMessage, Message, SubscriptionState
from wsclient.stream.declared import Types
from wsclient.stream.inbound import SMALL, Inbound
from wsclient.stream.items import Ack, Counted, SubscribedChannels

CHANNELS = ("a", "b")


class Tick(msgspec.Struct):
    type: str
    channel: str
    sequence: int
    price: float = 0.0


class Line:
    """A supervisor with a subscription; takes payloads and returns messages as the core does."""

    def __init__(
        self,
        is_fast: bool,
        dialect: Generic | None = None,
        *,
        decimal: bool = False,
        acknowledges: bool = True,
    ) -> None:
        dialect = dialect or Generic()
        dialect.acknowledges = acknowledges
        self.inbound = Inbound(dialect, decimal=decimal)
        #: Makes an Inbound with declared types.
        self.declare = lambda kind: Inbound(dialect, decimal=decimal, types=Types(kind))
        self.rig = Rig(dialect).open()
        self.rig.subscribe(*CHANNELS)
        self.rig.ack(*CHANNELS)
        self._is_fast = is_fast
        self._reads = 0
        #: The number of messages from the fast path.
        self.quick = 0

    def take(self, *payloads: bytes) -> list[Message]:
        """Take the payloads of one read; return the messages."""
        self._reads += 1
        rig, cid = self.rig, self.rig.cid
        batch = self.inbound.batch(list(payloads), False, self._reads, cid)
        messages: list[Message] = []
        while batch.done < len(payloads):
            quick = rig.ordinary(cid, batch, rig.now) if self._is_fast else []
            self.quick += len(quick)
            messages += quick
            if batch.done < len(payloads):
                messages += rig.received(cid, self.inbound.entries(batch, 1), rig.now)
        return messages

    def does(self, event: str) -> None:
        """Cause an event other than a read."""
        rig = self.rig
        if event == "reconnect":
            rig.drop()
            rig.open()
        elif event == "subscribe":
            rig.subscribe("c", token=object())
        elif event == "unsubscribe":
            rig.unsubscribe("b", token=object())
        elif event == "ack":
            rig.ack("a", "b", "c")
        elif event == "later":
            rig.wait(1.0)
        elif rig.supervisor.wanted.state("a") is SubscriptionState.ACTIVE:
            rig.connection.asked.refresh("a")
            rig.tick()

    def account(self) -> list[Any]:
        channels = self.rig.supervisor.upkeep.channels.by_name
        counters = self.rig.supervisor.counters
        totals = [getattr(counters, n) for n in ("messages", "gaps", "missed", "invalid")]
        wanted = [(name, state) for name, state, _ in self.rig.wanted()]
        return (
            totals
            + [
                wanted,
                [connection.data_at for connection in self.rig.supervisor.connections],
                self.rig.logs("warning"),
                self.rig.sent(),
            ]
            + [
                (
                    *(
                        name,
                        t.messages,
                        t.gaps,
                        t.missed,
                        t.late_or_duplicate,
                        t.last,
                        t.pending,
                    ),
                    *(t.last_received_at, t.latest and visible(t.latest)),
                )
                for name, t in sorted(channels.items())
            ]
        )


def visible(message: Message) -> tuple[Any, ...]:
    return (
        message.channel,
        message.type,
        message.sequence,
        type(message.sequence),
        message.item,
        message.raw,
        message.gap,
        message.previous_at,
        message.received_at,
        message.connection_id,
        plain(message),
    )


def plain(message: Message) -> Any:
    """Return a message's plain data, whatever was decoded ahead."""
    if message.kind is not None:
        assert message.data == msgspec.json.decode(message.raw, type=message.kind)
    decoder = message.arrival.decoder
    return None if decoder is None else decoder.data(message)


def market_data(channel: Any = "a", sequence: Any = 1, **more: Any) -> bytes:
    frame = {"type": "market_data", "channel": channel, "sequence": sequence, **more}
    return json.dumps(frame).encode()


def ahead(line: Line) -> None:
    """Let the reader decode."""


def behind(line: Line) -> None:
    """Let the reader only peek."""
    line.inbound.ahead = False


def into_a_type(line: Line, kind: Any = Tick) -> None:
    """Let the reader decode to a declared type."""
    line.inbound = line.declare(kind)


WAYS = [ahead, behind, into_a_type]


@pytest.mark.parametrize("way", WAYS)
def test_ordinary_data_takes_the_fast_path(way: Callable[[Line], None]) -> None:
    line = Line(is_fast=True)
    way(line)
    line.take(market_data())
    line.take(market_data(sequence=2))
    before = line.quick

    messages = line.take(market_data(sequence=3, price=1.5), market_data(sequence=4))

    assert line.quick == before + 2
    assert [m.sequence for m in messages] == [3, 4]
    assert plain(messages[0])["price"] == 1.5
    assert messages[0].decode(Tick) == Tick("market_data", "a", 3, 1.5)


@pytest.mark.parametrize("way", [ahead, behind])
@pytest.mark.parametrize("field", ["seq", None])
def test_ordinary_data_takes_the_fast_path_with_another_number_field_or_none(
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


@pytest.mark.parametrize("way", [ahead, behind])
@pytest.mark.parametrize("is_numbered", [True, False])
@pytest.mark.parametrize("fields", [(), ("sequence",), ("sequence", "seq"), ("id", "seq", "n")])
def test_ordinary_data_takes_the_fast_path_whichever_field_has_its_number(
    fields: tuple[str, ...], is_numbered: bool, way: Callable[[Line], None]
) -> None:
    line = Line(True, Generic(sequence_fields=fields))
    way(line)
    for n in range(3):
        numbers = {fields[-1]: n} if fields and is_numbered else {}
        (message,) = line.take(
            json.dumps({"type": "market_data", "channel": "a", **numbers}).encode()
        )
        assert message.sequence == (n if numbers else None)
    assert line.quick == 2


def test_data_decoded_ahead_to_the_declared_type_are_made_once() -> None:
    line = Line(is_fast=True)
    into_a_type(line)
    line.take(market_data())
    (message,) = line.take(market_data(sequence=2))
    assert message.data == Tick("market_data", "a", 2)
    assert message.data is message.data is message.decode(Tick)


@pytest.mark.parametrize("is_data", [True, False])
def test_a_read_with_a_frame_of_another_type_is_left_to_the_consumer(is_data: bool) -> None:
    line = Line(is_fast=True)
    into_a_type(line)
    line.take(market_data())
    odd = {"type": "market_data" if is_data else "heartbeat", "channel": "a", "price": "high"}
    first, *_ = line.take(market_data(sequence=2), json.dumps({**odd, "sequence": 3}).encode())
    (after,) = line.take(market_data(sequence=4 if is_data else 3))
    assert line.quick == (3 if is_data else 2)
    assert (first.kind, after.kind) == (None, Tick)


class Hooked(Tick):
    """A type with code of the user, which must not run on the reader's thread."""

    def __post_init__(self) -> None:
        raise AssertionError


class Nested(Tick):
    inner: Hooked | None = None


class Guess(msgspec.Struct):
    type: str
    channel: str
    sequence: int = 2


@pytest.mark.parametrize(
    "kind",
    [
        dict,
        Tick | None,
        msgspec.defstruct("T", ["channel"]),
        Guess,
        Hooked,
        Nested,
        {"a": Tick},
        lambda channel: Tick,
    ],
)
def test_what_the_reader_cannot_use_is_left_to_the_consumer(kind: Any) -> None:
    line = Line(is_fast=True)
    into_a_type(line, kind)
    line.take(market_data())
    (message,) = line.take(market_data(sequence=2))
    assert line.quick == 1
    assert (message.kind, message.decoded) == (None, msgspec.UNSET)


def test_an_unusual_frame_only_ends_the_run() -> None:
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


def test_invalid_utf8_is_not_ordinary() -> None:
    line = Line(is_fast=True)
    line.inbound.ahead = False
    line.take(market_data())
    raw = b'{"type":"market_data","channel":"a","sequence":2,"x":"\xff"}'
    batch = line.inbound.batch([raw], True, 1, line.rig.cid)
    assert line.rig.ordinary(line.rig.cid, batch, 0.0) == []
    (entry,) = entries_of(line.inbound, raw)
    assert re.search("UnicodeDecodeError|Invalid UTF-8", entry.text)  # msgspec's words differ


def test_a_message_ends_the_silence_of_its_channel() -> None:
    line = Line(is_fast=True)
    line.rig = Rig(Generic(), stale_after=5.0).active(*CHANNELS)
    line.take(market_data())
    channel = line.rig.supervisor.upkeep.channels.by_name["a"]
    line.rig.now += 3.0
    channel.refreshed = True

    line.take(market_data(sequence=2))

    assert line.quick == 1
    assert (channel.data_at, channel.refreshed) == (line.rig.now, False)


def test_the_first_data_confirms_if_the_venue_never_answers() -> None:
    dialect = Generic()
    dialect.acknowledges = False
    line = Line(is_fast=True)
    line.rig = Rig(dialect).open()
    line.rig.subscribe("a", token="call")

    line.take(market_data())
    line.take(market_data(sequence=2))

    assert line.rig.outcome("call") is None
    assert line.quick == 1


def test_a_number_may_be_in_the_second_field_of_one_channel_only() -> None:
    """Null in the first field is not a number, but the other field may contain one."""
    line = Line(is_fast=True)
    line.take(market_data("a", 1), market_data("b", None))
    (_, message) = line.take(market_data("a", 2), market_data("b", None, seq=7))
    assert line.quick == 1
    assert message.sequence == 7


@pytest.mark.parametrize("is_decimal", [False, True])
@pytest.mark.parametrize("number", [b"1.0", b"1e0", b"true"])
def test_a_value_that_equals_the_expected_number_may_not_be_an_integer(
    number: bytes, is_decimal: bool
) -> None:
    line = Line(True, Generic(sequence_fields=("sequence",)), decimal=is_decimal)
    line.take(market_data(sequence=0))
    odd = b'{"type": "market_data", "channel": "a", "sequence": %b}' % number
    odd_one, after = line.take(odd, market_data(sequence=1))
    assert (odd_one.sequence, odd_one.gap) == (None, None)
    assert (after.sequence, after.gap) == (1, None)


def test_data_under_an_alias_is_not_ordinary() -> None:
    line = Line(True, Everything())
    line.take(market_data("#1"))
    line.take(frame_of({"type": "named", "channel": "a", "alias": "#1"}))
    (message,) = line.take(market_data("#1", 2))
    assert message.channel == "a"


def test_a_frame_that_cannot_be_decoded_is_left_to_the_careful_path() -> None:
    """A decoder may raise anything, such as RecursionError for deep nesting."""
    line = Line(is_fast=True)
    into_a_type(line)
    assert line.take(b'{"type": "\xff"}') == []
    assert line.rig.supervisor.counters.invalid == 1


# --- at random -----------------------------------------------------------------------------------


class Everything(Generic):
    """A dialect with the fast path's plain data and all other kinds of items."""

    def read(self, message: Any) -> Any:
        kind = message["type"] if type(message) is dict else None
        if kind in ("range", "pointer", "snapshot"):
            follows = None if kind == "snapshot" else message["follows"]
            channel, number = message["channel"], message["sequence"]
            return LinkedMessage(channel, kind, number, follows=follows, is_counted=kind == "range")
        if kind == "rows":
            return [
                Counted(row) if type(row) is int else Message(row, "row", None, i)
                for i, row in enumerate(message["rows"])
            ]
        if kind == "named":
            return Ack(channel=message["channel"], alias=message["alias"])
        if kind == "listed":
            return SubscribedChannels(message["channels"])
        return super().read(message)

    def item(self, decoded: Any, index: int) -> Any:
        return decoded["rows"][index]


FIELDS: list[tuple[str, ...]] = [(), ("sequence",), ("sequence", "seq"), ("id", "seq", "sequence")]

names = st.sampled_from(["a", "a", "b", "b", "c", "#1"])
odd_names = st.sampled_from(["", "#2", 5, 7.0, True, None, ["a"], {"a": 1}])
small = st.integers(-2, 12)
#: ``"+1"`` and ``"+1.0"`` stand for the next expected number plus one.
near = st.sampled_from(["+0", "+0", "+0.0", "+1", "+2"])
odd_numbers = st.sampled_from(
    [None, True, False, 0, 0.5, 1e300, "1", "x", [1], {"1": 1}, -1, 2**53, 2**64, 2**200]
)
kinds = st.sampled_from(["market_data"] * 8 + ["subscription", "heartbeat", "odd", "", None, 1, []])


def frame_of(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()


PLAIN = st.builds(
    lambda kind, channel, numbers: frame_of({"type": kind, "channel": channel, **numbers}),
    kinds,
    names | names | odd_names,
    st.dictionaries(
        st.sampled_from(["sequence", "seq", "id"]), near | near | odd_numbers, max_size=3
    ),
)
#: Frames of the channel of the run before them.
NEARLY = st.builds(
    lambda field, number: frame_of({"type": "market_data", "channel": "+", field: number}),
    st.sampled_from(["sequence", "seq", "id"]),
    near | odd_numbers,
)
CONNECTED = st.builds(
    lambda kind, channel, number, width: frame_of(
        {"type": kind, "channel": channel, "sequence": number, "follows": number - width}
    ),
    st.sampled_from(["range", "pointer", "snapshot"]),
    names,
    small,
    st.integers(0, 4),
)
ROWS = st.lists(names | odd_names | small, max_size=4).map(
    lambda rows: frame_of({"type": "rows", "rows": rows})
)
ANSWERS = st.one_of(
    st.builds(
        lambda channel, alias: frame_of({"type": "named", "channel": channel, "alias": alias}),
        names,
        st.sampled_from(["#1", "#2", "a"]),
    ),
    st.lists(st.sampled_from(CHANNELS), max_size=2, unique=True).map(
        lambda channels: frame_of({"type": "listed", "channels": channels})
    ),
    st.builds(
        lambda channel, status: frame_of(
            {"type": "subscription", "channel": channel, "status": status}
        ),
        st.sampled_from(CHANNELS),
        st.sampled_from(["success", "error"]),
    ),
)
WHOLE = NEARLY | NEARLY | NEARLY | PLAIN | CONNECTED | ROWS | ANSWERS
#: Cut, mutated, followed by garbage, or with a repeated field.
MALFORMED = st.one_of(
    st.builds(lambda raw, end: raw[: end % len(raw)], WHOLE, st.integers(0)),
    st.builds(
        lambda raw, at, byte: raw[: at % len(raw)] + bytes([byte]) + raw[at % len(raw) + 1 :],
        WHOLE,
        st.integers(0),
        st.integers(0, 255),
    ),
    st.builds(lambda raw, more: raw + more, WHOLE, st.sampled_from([b" ", b"{}", b"\x00", b","])),
    st.builds(
        lambda raw, field: raw[:-1] + b", " + field + b"}",
        NEARLY | PLAIN,
        st.sampled_from(
            [
                b'"type": "odd"',
                b'"channel": "b"',
                b'"sequence": 1',
                b'"\\u0073eq": 2',
                b'"x": 1e999',
            ]
        ),
    ),
    st.sampled_from([b"", b"null", b"[1, 2]", b"{}", b"\xff", b'{"type": "market_data"}']),
)
#: Events between two reads.
EVENTS = st.sampled_from(["reconnect", "subscribe", "unsubscribe", "ack", "later", "refresh"])


#: The channel and length of a run of ordinary messages, and what follows it in the same read: the
#: first or the second of two unusual frames. A test has few of those, as otherwise no run would be
#: ordinary.
READS = st.tuples(
    st.sampled_from("aaab"), st.integers(0, 3), st.lists(st.sampled_from([0, 1]), max_size=2)
)
ODD = WHOLE | WHOLE | MALFORMED


class Pair:
    """Two equal supervisors: one may take the fast path, the other never does."""

    def __init__(self, way: Callable[[Line], None], fields: Sequence[str], **options: Any) -> None:
        self.lines = [
            Line(is_fast, Everything(sequence_fields=fields), **options)
            for is_fast in (True, False)
        ]
        for line in self.lines:
            way(line)

    def does(self, event: str) -> None:
        for line in self.lines:
            line.does(event)
        self.compare()

    def take(self, payloads: list[bytes]) -> None:
        fast, careful = ([*map(visible, line.take(*payloads))] for line in self.lines)
        assert fast == careful
        self.compare()

    def compare(self) -> None:
        fast, careful = self.lines
        assert fast.account() == careful.account()


DATA = b'"type": "market_data", "channel": "a"'


@pytest.mark.parametrize("way", WAYS)
def test_the_number_is_in_the_first_field_with_an_integer(way: Callable[[Line], None]) -> None:
    pair = Pair(way, ("id", "seq"))
    for number in range(1, 4):
        pair.take([b'{%b, "seq": %d}' % (DATA, number)])
    pair.take([b'{%b, "seq": 4, "id": 7}' % DATA, b'{%b, "seq": 5, "id": "x"}' % DATA])


@pytest.mark.parametrize("way", WAYS)
def test_a_field_that_a_type_has_and_one_that_it_has_not(way: Callable[[Line], None]) -> None:
    pair = Pair(way, ("sequence", "seq"))
    for number in range(1, 4):
        pair.take([b'{%b, "seq": %d}' % (DATA, number)])
        pair.take([b'{%b, "sequence": %d}' % (DATA, number)])


@pytest.mark.parametrize("way", WAYS)
def test_the_type_and_channel_of_another_kind_of_frame_do_not_say_all(
    way: Callable[[Line], None],
) -> None:
    pair = Pair(way, ("sequence",))
    for rows in (b'""', b'"a"', b"", b'"a", "b"') * 2:
        pair.take([b'{"type": "rows", "rows": [%b]}' % rows])


def placed(raw: bytes, channel: str, number: int) -> bytes:
    """Return the frame with ``channel`` and ``number`` for its placeholders."""
    raw = raw.replace(b'"+"', json.dumps(channel).encode())
    return re.sub(rb'"\+(\d)(\.0)?"', lambda m: b"%d%b" % (number + int(m[1]), m[2] or b""), raw)


@pytest.mark.parametrize("fields", FIELDS, ids=len)
@pytest.mark.parametrize("way", WAYS)
@examples(60)
@given(
    is_decimal=st.booleans(),
    start=st.sampled_from([-2, 0, 7, 2**53]),
    odd=st.tuples(ODD, ODD),
    event=EVENTS,
    reads=st.lists(READS | READS | READS | st.none(), min_size=2, max_size=8),
)
def test_both_paths_give_the_same(
    way: Callable[[Line], None],
    fields: Sequence[str],
    is_decimal: bool,
    start: int,
    odd: tuple[bytes, bytes],
    event: str,
    reads: list[tuple[str, int, list[int]] | None],
) -> None:
    pair = Pair(way, fields, decimal=is_decimal)
    numbers = dict.fromkeys(CHANNELS, start)
    pair.take([market_data(channel, start, seq=start) for channel in CHANNELS])
    for read in reads:
        if read is None:
            pair.does(event)
            continue
        channel, count, more = read
        run = []
        for _ in range(count):
            numbers[channel] += 1
            run.append(market_data(channel, numbers[channel], seq=numbers[channel]))
        last = numbers[channel] + 1
        pair.take([*run, *(placed(odd[i], channel, last) for i in more)])


@pytest.mark.parametrize("way", WAYS)
@examples(60)
@given(odd=WHOLE | MALFORMED, place=st.integers(0, 4))
def test_one_odd_frame_at_any_place_of_a_run(
    way: Callable[[Line], None], odd: bytes, place: int
) -> None:
    pair = Pair(way, ("sequence", "seq"))
    run = [market_data(sequence=n) for n in range(1, 6)]
    pair.take(run)
    run = [market_data(sequence=n) for n in range(6, 11)]
    run[place:place] = [placed(odd, "a", 6 + place)]
    pair.take(run)
    pair.take([market_data(sequence=n) for n in range(11, 14)])
