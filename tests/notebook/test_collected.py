"""The frames of collected messages have the exact rows of the plain views, in every library."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pandas
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsclient
from support.examples import examples
from support.priced import READERS, Priced
from support.recordings import named_messages
from support.streams import STREAMS, Stream
from wsclient import Collected, Gap
from wsclient.errors import ConfigurationError
from wsclient.messages import Arrival, Message
from wsclient.recording.columns import TABLES
from wsclient.stream.inbound import Inbound
from wsclient.threads.logs import ClientLog

BIG = 2**63 - 1
BEGIN = 1_767_323_045_000_000_123
#: How many messages of a recording are compared.
SOME = 150
DECODER = Inbound(Priced())


@pytest.fixture(scope="module", autouse=True)
def _started() -> None:
    """Start the threads of polars, which stay for the process."""
    polars.DataFrame({"a": [1]}).with_columns(polars.col("a") + 1)


def made(
    number: int = 0,
    *,
    channel: str = "a",
    sequence: int | None = None,
    gap: Gap | None = None,
    **data: Any,
) -> Message:
    raw = msgspec.json.encode(data)
    arrival = Arrival(BEGIN + number, 1, DECODER)
    return Message(channel, sequence=sequence, raw=raw, gap=gap, arrival=arrival)


def rows(collected: Collected, call: str, kind: str, *, decimal: bool = True) -> list[Any]:
    return READERS[call](getattr(collected, call)(kind, decimal=decimal))


# Row for row.


def expected(messages: list[Message], kind: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a kind, made of the views themselves."""
    for m in messages:
        head = {
            "channel": m.channel, "sequence": m.sequence, "connection_id": m.connection_id,
            "received_at": m.received_at, "time": m.time,
        }  # fmt: skip
        gap = dict(zip(("gap_reason", "gap_missed", "gap_since"), m.gap or [None] * 3, strict=True))
        no_gap = dict.fromkeys(gap)
        if kind == "trades":
            for t in m.trades() or ():
                yield {
                    **head, "time": t.time, "symbol": t.symbol, "id": t.id, "side": t.side,
                    "price": t.price, "size": t.size, "is_snapshot": t.is_snapshot, **gap,
                }  # fmt: skip
                gap = no_gap
        elif kind == "quotes" and (q := m.quote()) is not None:
            yield {
                **head, "symbol": q.symbol, "bid_price": q.bid_price, "bid_size": q.bid_size,
                "ask_price": q.ask_price, "ask_size": q.ask_size, **gap,
            }  # fmt: skip
        elif kind == "books" and (u := m.book_update()) is not None:
            levels = [("bid", *level) for level in u.bids] + [("ask", *level) for level in u.asks]
            for side, price, size in levels or [(None, None, None)]:
                yield {
                    **head, "symbol": u.symbol, "is_snapshot": u.is_snapshot,
                    "checksum": u.checksum, "side": side, "price": price, "size": size, **gap,
                }  # fmt: skip
                gap = no_gap


def of_views(found: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows without those that are nothing but a gap, and the columns of the others."""
    names = wanted[0].keys()
    return [{name: row[name] for name in names} for row in found if row["symbol"] is not None]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.file)
def test_frames_of_recorded_traffic_are_its_views_row_for_row(stream: Stream) -> None:
    messages = list(named_messages(stream.dialect, stream.file))
    messages = messages[:: len(messages) // SOME + 1]
    for number, message in enumerate(messages):
        if number % 7 == 3 and any((message.trades(), message.quote(), message.book_update())):
            message.gap = Gap("reconnect", None if number % 2 else number, BEGIN + number)
    collected = Collected(messages)
    kinds = 0
    for call, read in READERS.items():
        exact, quick = (getattr(collected, call)(decimal=decimal) for decimal in (True, False))
        for kind in ("trades", "quotes", "books"):
            if wanted := list(expected(messages, kind)):
                kinds += 1
                assert of_views(read(exact[kind]), wanted) == wanted
                floats = [
                    {k: float(v) if isinstance(v, Decimal) else v for k, v in row.items()}
                    for row in wanted
                ]
                assert of_views(read(quick[kind]), floats) == floats
    assert kinds
    assert collected.unreadable == 0


PRICES = st.decimals(
    min_value=Decimal("-9e18"), max_value=Decimal("9e18"), allow_nan=False, places=18
)
GAPS = st.none() | st.builds(
    Gap,
    st.sampled_from(["reconnect", "overflow", "late"]),
    st.none() | st.integers(-1, BIG),
    st.none() | st.integers(0, BIG),
)
TRADES = st.builds(lambda prices: {"prices": [f"{p:f}" for p in prices]}, st.lists(PRICES))
QUOTES = st.builds(lambda p: {"bid": None if p is None else f"{p:f}"}, st.none() | PRICES)
OTHERS = st.just({"x": 1})
UNREADABLE = st.just({"price": "x"})


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            TRADES | QUOTES | OTHERS | UNREADABLE,
            st.none() | st.integers(-(2**63), BIG),
            GAPS,
        ),
        max_size=8,
    )
)
@examples(150)
def test_every_message_has_its_rows_and_every_gap_is_in_each_frame(stream: list[Any]) -> None:
    messages = [
        made(number, channel=channel, sequence=sequence, gap=gap, **data)
        for number, (channel, data, sequence, gap) in enumerate(stream)
    ]
    bad = sum("price" in data for _, data, _, _ in stream)
    collected = Collected(messages)
    assert collected.unreadable == bad
    frames = [
        {kind: read(frame) for kind, frame in getattr(collected, call)(decimal=True).items()}
        for call, read in READERS.items()
    ]
    assert frames[0] == frames[1] == frames[2]
    found = frames[0]
    assert list(found) == ["trades", "quotes", "books", "raw"]
    assert [row["price"] for row in found["trades"] if row["price"] is not None] == [
        Decimal(price) for _, data, _, _ in stream for price in data.get("prices", ())
    ]
    assert [row["bid_price"] for row in found["quotes"] if row["symbol"]] == [
        None if data["bid"] is None else Decimal(data["bid"])
        for _, data, _, _ in stream
        if "bid" in data
    ]
    raw = [
        m
        for m, (_, data, _, _) in zip(messages, stream, strict=True)
        if data.keys() & {"x", "price"}
    ]
    assert [(row["raw"], row["sequence"]) for row in found["raw"]] == [
        (m.raw, m.sequence) for m in raw
    ]
    for kind in ("trades", "quotes"):
        for channel in "ab":
            of_it = [row for row in found[kind] if row["channel"] == channel]
            last = max((row["message"] for row in of_it), default=0)
            gaps = [m.gap for m in messages if m.channel == channel][:last]
            missed = [gap.missed for gap in gaps if gap is not None]
            if None not in missed:
                in_rows = [row["gap_missed"] for row in of_it if row["gap_reason"]]
                assert sum(in_rows) == sum(missed)  # type: ignore[arg-type]


# Types.

PANDAS = {
    "integer": "Int64",
    "number": "float64",
    "time": "datetime64[ns, UTC]",
    "boolean": "boolean",
    "bytes": "object",
}
POLARS = {
    "text": polars.String,
    "integer": polars.Int64,
    "number": polars.Float64,
    "time": polars.Datetime("ns", "UTC"),
    "boolean": polars.Boolean,
    "bytes": polars.Binary,
}
ARROW = {
    "text": "string",
    "integer": "int64",
    "number": "double",
    "time": "timestamp[ns, tz=UTC]",
    "boolean": "bool",
    "bytes": "binary",
}
FULL = [
    made(1, price="1.5", sequence=3),
    made(2, bid="1.5"),
    made(3, x=1, gap=Gap("late", -1, 5)),
]


@pytest.mark.parametrize("messages", [[], FULL], ids=["empty", "full"])
@pytest.mark.parametrize("kind", TABLES)
def test_a_column_has_its_type_whatever_is_in_it(messages: list[Message], kind: Any) -> None:

    collected = Collected(messages)
    kinds = {column.name: column.kind for column in TABLES[kind].columns}
    text = str(pandas.Series(["a"]).dtype)
    dtypes = {name: str(found) for name, found in collected.to_pandas(kind).dtypes.items()}
    assert dtypes == {name: {"text": text, **PANDAS}[k] for name, k in kinds.items()}
    assert dict(collected.to_polars(kind).schema) == {n: POLARS[k] for n, k in kinds.items()}
    fields = {field.name: str(field.type) for field in collected.to_arrow(kind).schema}
    assert fields == {name: ARROW[k] for name, k in kinds.items()}


def test_exact_numbers_have_their_type_too() -> None:
    for collected in (Collected(), Collected(FULL)):
        assert str(collected.to_pandas("trades", decimal=True).dtypes["price"]) == "object"
        assert collected.to_polars("trades", decimal=True).schema["price"] == polars.Decimal(38, 18)
        field = collected.to_arrow("trades", decimal=True).schema.field("price")
        assert str(field.type) == "decimal128(38, 18)"


@pytest.mark.parametrize("call", READERS)
def test_integers_beyond_the_floats_stay_exact(call: str) -> None:
    messages = [made(1, price="1", sequence=n) for n in (2**53 + 1, None, BIG, -(2**63))]
    found = rows(Collected(messages), call, "trades")
    assert [row["sequence"] for row in found] == [2**53 + 1, None, BIG, -(2**63)]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64, 10**40])
@pytest.mark.parametrize("call", READERS)
def test_an_integer_of_more_than_64_bits_is_an_error_that_names_it(call: str, number: int) -> None:
    collected = Collected([made(price="1"), made(price="1", sequence=number)])
    with pytest.raises(ConfigurationError, match=f"sequence {number} of 'a' does not fit"):
        getattr(collected, call)("trades")


@pytest.mark.parametrize("call", READERS)
def test_a_time_that_makes_no_sense_is_an_error_that_names_it(call: str) -> None:
    collected = Collected([made(price="1", time=10**25)])
    with pytest.raises(ConfigurationError, match=f"time {10**25} of 'a' does not fit"):
        getattr(collected, call)("trades")


def test_pandas_has_any_number_of_digits() -> None:
    price = "123456789012345678901234567890.1234567890123456789012345678900"
    (found,) = Collected([made(price=price)]).to_pandas("trades", decimal=True)["price"]
    assert str(found) == price


@pytest.mark.parametrize("call", ["to_polars", "to_arrow"])
@pytest.mark.parametrize("price", ["1e20", "0.1234567890123456789"])
def test_a_number_with_too_many_digits_is_an_error_that_says_what_works(
    call: str, price: str
) -> None:
    collected = Collected([made(price=price)])
    with pytest.raises(ConfigurationError, match=r"use|to_pandas\(decimal=True\) has any number"):
        getattr(collected, call)("trades", decimal=True)
    assert rows(collected, call, "trades", decimal=False)[0]["price"] == float(price)


@pytest.mark.parametrize("call", READERS)
def test_a_price_that_is_missing_is_missing_in_the_frame(call: str) -> None:
    collected = Collected([made(bid=None), made(bid="2.5")])
    for decimal, value in ((True, Decimal("2.5")), (False, 2.5)):
        found = rows(collected, call, "quotes", decimal=decimal)
        assert [row["bid_price"] for row in found] == [None, value]


# The choice of a frame, and the list.


@pytest.mark.parametrize("call", READERS)
def test_without_a_kind_there_is_a_frame_of_each(call: str) -> None:
    frames = getattr(Collected(FULL), call)()
    assert {kind: len(READERS[call](frame)) for kind, frame in frames.items()} == {
        "trades": 2,  # the second has the gap of the message that is none
        "quotes": 2,
        "books": 0,
        "raw": 1,
    }


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="trades, quotes, books, raw, not 'trade'"):
        Collected().to_pandas("trade")  # type: ignore[call-overload]


def test_it_is_a_sequence_of_messages() -> None:
    collected = Collected(FULL)
    assert (len(collected), collected[0], list(collected)) == (3, FULL[0], FULL)
    assert isinstance(collected[1:], Collected)
    assert list(collected[1:]) == FULL[1:]
    assert not Collected()


def test_its_repr_says_what_it_has() -> None:
    assert repr(Collected(FULL)) == (
        "<Collected: 3 messages of a; received 2026-01-02 03:04:05 to 2026-01-02 03:04:05 UTC; "
        "1 gap>"
    )
    several = Collected(made(channel=name) for name in "abcde")
    assert "5 messages of a, b, c and 2 more;" in repr(several)
    assert repr(Collected()) == "<Collected: no message>"
    hostile = Collected([made(channel="\x1b[31mred\n")])
    assert repr(hostile).isprintable()


def test_it_can_be_pickled() -> None:
    collected = Collected([made(price="1.5")], ClientLog("client", "generic"))
    assert [message.raw for message in pickle.loads(pickle.dumps(collected))] == [collected[0].raw]


def test_a_message_of_a_frame_with_several_has_its_part_as_text() -> None:
    frame = b'{"channel":"instrument","type":"update","data":[{"a":1.10},{"a":2}]}'
    arrival = Arrival(BEGIN, 1, Inbound(wsclient.Kraken()))
    collected = Collected(Message("x", item=n, raw=frame, arrival=arrival) for n in (0, 1))
    raw = collected.to_pandas("raw")
    assert raw["data"].tolist() == ['{"a":1.10}', '{"a":2}']
    assert raw["raw"].tolist() == [frame, frame]


# What cannot be read.


def test_a_message_that_cannot_be_read_loses_no_other(caplog: pytest.LogCaptureFixture) -> None:
    gap = Gap("sequence", 2, BEGIN)
    log = ClientLog("client", "generic")
    collected = Collected([made(price="1"), made(price="x", gap=gap), made(price="3")], log)
    frames = collected.to_pandas(decimal=True)
    assert frames["trades"]["price"].tolist() == [Decimal(1), None, Decimal(3)]
    assert frames["trades"]["gap_reason"].tolist()[1] == "sequence"
    (bad,) = frames["raw"].to_dict("records")
    assert (bad["raw"], bad["gap_missed"]) == (collected[1].raw, 2)
    assert collected.unreadable == 1
    collected.to_polars()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "1 of 3 messages cannot be read, and are in the frame 'raw'" in record.getMessage()


# The libraries.


@pytest.mark.parametrize(
    ("call", "package"), [("to_pandas", "pandas"), ("to_polars", "polars"), ("to_arrow", "pyarrow")]
)
def test_a_missing_package_is_an_error_that_says_how_to_install_it(
    call: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=rf"{call}\(\) needs {package}: pip install"):
        getattr(Collected(), call)()


ALONE = """
import sys
from decimal import Decimal
call, package = sys.argv[1:]
for name in {"pandas", "numpy", "polars", "pyarrow", "mcap", "rich", "zstandard"} - {package}:
    if (package, name) != ("pandas", "numpy"):
        sys.modules[name] = None
from wsclient import Collected, Kraken
from wsclient.stream.inbound import Inbound
raw = b'{"channel":"trade","type":"update","data":[{"symbol":"A/B","side":"buy","qty":1.50,\
"price":7,"trade_id":3,"timestamp":"2026-01-02T03:04:05.000001Z"}]}'
inbound = Inbound(Kraken())
(message,) = inbound.entries(inbound.batch([raw], False, 5, 1))
for messages in ([], [message]):
    for decimal in (False, True):
        frames = getattr(Collected(messages), call)(decimal=decimal)
print(frames["trades"]["size"][0])
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "package"), [("to_pandas", "pandas"), ("to_polars", "polars"), ("to_arrow", "pyarrow")]
)
def test_each_package_works_without_the_others(call: str, package: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE, call, package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert Decimal(ran.stdout) == Decimal("1.5")
