"""The envelope of a message: what it holds, and that it comes back whole in each form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import wsclient
from support.making import entries_of
from support.views import CASES, Case, messages
from wsclient import Envelope, Gap, InvalidMessage, LinkedMessage, Message
from wsclient.messages import GAP_REASONS
from wsclient.stream.envelope import VERSION
from wsclient.stream.inbound import Inbound

FORMS: dict[str, tuple[Callable[[Envelope], Any], Callable[[Any], Envelope]]] = {
    "dict": (Envelope.to_dict, Envelope.from_dict),
    "json": (Envelope.to_json, Envelope.from_json),
    "json in bytes": (lambda envelope: envelope.to_json().encode(), Envelope.from_json),
    "msgpack": (Envelope.to_msgpack, Envelope.from_msgpack),
}
OBEYED = "\x1b\x7f\x9b\u061c\u200e\u2028\u202e\u2066"

texts = st.text(st.characters(exclude_categories=["Cs"]))
words = st.sampled_from(
    ["", "{}", " {}", "null", '{"a": [1.10, "x"]}', '["\x9b"]', "{", "1e999", "[\n1]"]
)
payloads = st.binary() | texts.map(str.encode) | words.map(str.encode) | st.just(b"[" * 9000)
numbers = st.none() | st.integers(-(2**63), 2**64 - 1)
gaps = st.none() | st.builds(Gap, st.sampled_from(GAP_REASONS), numbers, numbers)
envelopes = st.builds(
    Envelope,
    venue=st.none() | texts,
    channel=texts,
    type=texts,
    sequence=numbers,
    follows=numbers,
    is_counted=st.none() | st.booleans(),
    item=st.none() | st.integers(0, 99),
    received_at=st.integers(0, 2**63),
    time=numbers,
    connection_id=st.integers(0, 99),
    gap=gaps,
    raw=payloads,
)


@pytest.mark.parametrize(("write", "read"), FORMS.values(), ids=FORMS)
@given(envelope=envelopes)
def test_it_comes_back_whole(
    write: Callable[[Envelope], Any], read: Callable[[Any], Envelope], envelope: Envelope
) -> None:
    assert read(write(envelope)) == envelope


@given(envelopes)
def test_its_json_is_one_line_that_any_program_reads(envelope: Envelope) -> None:
    text = envelope.to_json()
    assert text.isprintable() or not set(text) & {"\n", "\r", *OBEYED}
    fields = json.loads(text)
    assert fields["version"] == VERSION
    assert (fields["channel"], fields["sequence"]) == (envelope.channel, envelope.sequence)


@given(envelopes)
def test_a_message_comes_back_whole(envelope: Envelope) -> None:
    again = Envelope.of(envelope.message())
    kept = again.is_counted is not None or envelope.follows is None
    expected = envelope if kept else msgspec.structs.replace(envelope, follows=None)
    has_decoder = envelope.message().arrival.decoder is not None
    assert again == (expected if has_decoder else msgspec.structs.replace(expected, venue=None))


def alike(message: Message, dialect: wsclient.Dialect) -> list[Any]:
    """Return what a message and the one from its envelope must have in common."""
    views = [message.trades(), message.quote(), message.book_update()]
    names = ("channel", "type", "sequence", "item", "raw", "gap", "time", "received_at")
    return [type(message), *(getattr(message, name) for name in names), message.data, *views]


@pytest.mark.parametrize(("write", "read"), FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_messages_of_venues_come_back_with_their_views(
    case: Case, write: Callable[[Envelope], Any], read: Callable[[Any], Envelope]
) -> None:
    for message in messages(case.dialect, case.frame, case.channel):
        again = read(write(Envelope.of(message))).message(case.dialect)
        assert repr(alike(again, case.dialect)) == repr(alike(message, case.dialect))


def generic(raw: bytes) -> Message:
    (message,) = entries_of(Inbound(wsclient.Generic()), raw, received_at=5)
    assert isinstance(message, Message)
    return message


TICK = b'{"type":"market_data","channel":"a","sequence":7,"p":1.10}'


def test_the_fields_of_a_record() -> None:
    message = generic(TICK)
    message.gap = Gap("sequence", 3, 4)
    assert Envelope.of(message).to_json() == (
        '{"version":1,"venue":"generic","channel":"a","type":"market_data","sequence":7,'
        '"follows":null,"is_counted":null,"item":null,"received_at":5,"time":null,'
        '"connection_id":7,"gap":{"reason":"sequence","missed":3,"since":4},"data":'
        f"{TICK.decode()}}}"
    )
    assert Envelope.of(message).to_dict() == {
        "version": 1,
        "venue": "generic",
        "channel": "a",
        "type": "market_data",
        "sequence": 7,
        "follows": None,
        "is_counted": None,
        "item": None,
        "received_at": 5,
        "time": None,
        "connection_id": 7,
        "gap": {"reason": "sequence", "missed": 3, "since": 4},
        "raw": TICK,
    }


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b'{"p":1.10}', {"data": {"p": 1.1}}),
        (b'{"p":\r\n1.10}', {"raw": '{"p":\r\n1.10}', "data": {"p": 1.1}}),
        (b" 1", {"raw": " 1", "data": 1}),
        (b"pong", {"raw": "pong", "data": None}),
        (b"\xff\x00", {"raw_base64": "/wA=", "data": None}),
        (b"", {"raw": "", "data": None}),
        ('"\u202e"'.encode(), {"raw": '"\u202e"', "data": "\u202e"}),
    ],
)
def test_how_a_payload_is_written_in_json(raw: bytes, shown: dict[str, Any]) -> None:
    fields = json.loads(Envelope(channel="a", raw=raw).to_json())
    assert {name: fields[name] for name in fields if name in ("raw", "raw_base64", "data")} == shown


@pytest.mark.parametrize("depth", [399, 600, 900, 100_000])
def test_a_deeply_nested_payload_comes_back(depth: int) -> None:
    envelope = Envelope(channel="a", raw=b"[" * depth + b"]" * depth)

    def read(frames: int) -> Envelope:
        return read(frames - 1) if frames else Envelope.from_json(envelope.to_json())

    assert read(100) == envelope


def test_a_message_that_shares_its_frame_has_both_its_part_and_the_frame() -> None:
    case = CASES["kraken trades, two in a frame"]
    _, second = messages(case.dialect, case.frame)
    part = b'{"symbol":"MATIC/USD",\n"qty":0.50000000}'
    envelope = Envelope.of(second, part)
    fields = json.loads(envelope.to_json())
    assert (fields["item"], fields["raw"]) == (1, case.frame)
    assert '"data":{"symbol":"MATIC/USD","qty":0.50000000}}' in envelope.to_json()
    assert Envelope.from_json(envelope.to_json()).message().data == {
        "symbol": "MATIC/USD",
        "qty": 0.5,
    }


def test_a_message_that_says_what_it_follows_keeps_that() -> None:
    case = CASES["okx book with numbers, and the checksum 0 that is none"]
    (message,) = messages(case.dialect, case.frame)
    again = Envelope.from_json(Envelope.of(message).to_json()).message()
    assert isinstance(again, LinkedMessage)
    assert (again.sequence, again.follows, again.is_counted) == (123456, None, False)


def test_without_the_dialect_there_are_data_and_no_views() -> None:
    again = Envelope.of(generic(TICK)).message()
    assert again.data == {"type": "market_data", "channel": "a", "sequence": 7, "p": 1.1}
    with pytest.raises(
        wsclient.NotSupported, match=r"pass an object of it to Envelope.message\(\)"
    ):
        again.trades()


def test_decimals_come_back_where_they_are_wanted() -> None:
    again = Envelope.of(generic(TICK)).message(wsclient.Generic(), decimal=True)
    assert str(again.data["p"]) == "1.10"


def test_another_dialect_is_refused() -> None:
    with pytest.raises(wsclient.ConfigurationError, match="by the dialect 'generic', not by 'okx'"):
        Envelope.of(generic(TICK)).message(wsclient.OKX())


NO_RECORD = r"^this is no record of a message: "
GOOD = {"version": 1, "channel": "a", "type": "update", "received_at": 1, "connection_id": 1}


@pytest.mark.parametrize(
    "bad",
    [
        {"version": 2},
        {"version": 0},
        {"version": "1"},
        {"channel": None},
        {"sequence": "7"},
        {"gap": {"reason": "unheard of"}},
        {"gap": 5},
        {"received_at": 1.5},
    ],
    ids=str,
)
def test_what_is_no_record_raises(bad: dict[str, Any]) -> None:
    record = {**GOOD, **bad}
    with pytest.raises(InvalidMessage, match=NO_RECORD):
        Envelope.from_json(json.dumps({**record, "data": 1}))
    with pytest.raises(InvalidMessage, match=NO_RECORD):
        Envelope.from_dict({**record, "raw": b""})
    with pytest.raises(InvalidMessage, match=NO_RECORD):
        Envelope.from_msgpack(msgspec.msgpack.encode({**record, "raw": b""}))


@pytest.mark.parametrize(
    "line", ["", "null", "{", "[1]", b"\xff", json.dumps({**GOOD, "raw_base64": "?"}), "[" * 99999]
)
def test_what_is_no_json_record_raises(line: str | bytes) -> None:
    with pytest.raises(InvalidMessage, match=NO_RECORD):
        Envelope.from_json(line)


@given(st.binary())
def test_no_bytes_raise_anything_else(line: bytes) -> None:
    for read in (Envelope.from_json, Envelope.from_msgpack):
        try:
            read(line)
        except InvalidMessage:
            pass


def test_a_newer_record_with_more_fields_is_read() -> None:
    line = json.dumps({**GOOD, "colour": "green", "data": {"a": 1}})
    assert Envelope.from_json(line) == Envelope(
        channel="a", received_at=1, connection_id=1, raw=b'{"a": 1}'
    )


def test_a_number_that_fits_into_no_record() -> None:
    envelope = Envelope(channel="a", sequence=2**70)
    assert Envelope.from_json(envelope.to_json()) == envelope
    with pytest.raises(InvalidMessage, match="does not fit into a record"):
        envelope.to_msgpack()


def test_a_text_that_fits_into_no_record() -> None:
    envelope = Envelope(channel="\ud800")
    for write in (envelope.to_json, envelope.to_msgpack):
        with pytest.raises(InvalidMessage, match="does not fit into a record"):
            write()
