"""Two connections bring the same message: each dialect sees that, and nothing else as the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from support.recordings import messages_of
from support.venues import VENUES
from wsclient import Dialect, Message
from wsclient.dialects import Bitfinex, Generic, Kraken

TRADE = {"symbol": "BTC/USD", "side": "sell", "qty": 40.0, "price": 0.5117, "trade_id": 1}


def identities(dialect: Dialect, frame: Any) -> list[Any]:
    raw = frame if isinstance(frame, bytes) else msgspec.json.encode(frame)
    return [dialect.identity(message) for message in messages_of(dialect, [raw])]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"[5,[100,1,0.5],7]", b"[9,[100,1,0.5],123]"),
        (b"[5,[[100,1,0.5],[99,1,2]],7]", b"[9,[[100,1,0.5],[99,1,2]],8]"),
        (b'[5,"te",[1,1700,0.5,100],7]', b'[9,"te",[1,1700,0.5,100],99]'),
        (b'[5,"cs",-12345,7]', b'[9,"cs",-12345,8]'),
        (b'[0,"wu",["exchange","BTC",1,0,1],3,2]', b'[0,"wu",["exchange","BTC",1,0,1],9,4]'),
        (b"[5,[],7]", b"[9,[],8]"),
    ],
)
@pytest.mark.parametrize("counts", [True, False])
def test_bitfinex_numbers_of_channels_and_frames_do_not_count(
    first: bytes, second: bytes, counts: bool
) -> None:
    dialect = Bitfinex(sequences=counts)
    assert identities(dialect, first) == identities(dialect, second) != []


def test_other_messages_of_bitfinex_differ() -> None:
    frames = [
        b"[5,[100,1,0.5],7]",
        b"[5,[100,1,0.6],7]",
        b"[5,[[100,1,0.5]],7]",
        b'[5,"te",[1,1700,0.5,100],7]',
        b'[5,"tu",[1,1700,0.5,100],7]',
        b'[5,"cs",7,7]',
        b'[5,"cs",8,7]',
    ]
    found = {identity for frame in frames for identity in identities(Bitfinex(), frame)}
    assert len(found) == len(frames)


def test_a_trade_of_kraken_is_the_same_among_others() -> None:
    frame = {"channel": "trade", "type": "update", "data": [TRADE]}
    other = {**TRADE, "trade_id": 2}
    (alone,) = identities(Kraken(), frame)
    assert identities(Kraken(), {**frame, "data": [other, TRADE]})[1] == alone
    assert identities(Kraken(), {**frame, "data": [other, TRADE]})[0] != alone
    assert identities(Kraken(), {**frame, "type": "snapshot"}) != [alone]


def test_the_id_of_a_connection_does_not_count_in_the_generic_protocol() -> None:
    frame = {"type": "market_data", "channel": "C", "sequence": 5, "price": 1.5}
    (one,) = identities(Generic(), {**frame, "connection": 1})
    assert identities(Generic(), {**frame, "connection": 2}) == [one]
    assert identities(Generic(), frame) == [one]
    for field in frame.keys() - {"type"}:
        assert identities(Generic(), {**frame, field: "?"}) != [one]


def test_the_fields_that_differ_are_a_parameter_of_the_generic_protocol() -> None:
    frame = {"type": "market_data", "channel": "C", "gateway": "a", "connection": 1}
    dialect = Generic(connection_fields=["gateway"])
    assert identities(dialect, frame) == identities(dialect, {**frame, "gateway": "b"})
    assert identities(dialect, frame) != identities(dialect, {**frame, "connection": 2})


def test_numbers_are_those_of_the_channel_where_a_venue_does_not_count_connections() -> None:
    shared = {name: venue.dialect.numbers_are_shared for name, venue in VENUES.items()}
    assert [name for name, is_shared in shared.items() if not is_shared] == ["bybit"]
    assert not Generic(numbers_are_shared=False).numbers_are_shared


def test_the_number_of_a_connection_can_be_left_out_of_an_identity() -> None:
    frame = {"type": "market_data", "channel": "C", "sequence": 5}
    dialect = Generic(numbers_are_shared=False, connection_fields=["sequence"])
    assert identities(dialect, frame) == identities(dialect, {**frame, "sequence": 9})


def test_a_dialect_derived_from_the_generic_one_may_have_frames_of_several_messages() -> None:
    class Rows(Generic):
        data_fields = None

        def __init__(self) -> None:
            super().__init__()
            self.data_fields = None

        def read(self, message: Any) -> Any:
            return [Message("C", "row", None, i) for i in range(len(message))]

    one, other = identities(Rows(), b'["a","b"]')
    assert identities(Rows(), b'["b"]') == [other]
    assert one != other


@pytest.mark.parametrize("name", sorted(VENUES.keys() - {"bitfinex"}))
def test_a_message_of_each_venue_has_an_identity_that_can_be_a_key(name: str) -> None:
    venue = VENUES[name]
    frames = [
        frame if isinstance(frame, bytes) else msgspec.json.encode(frame)
        for frame, _ in venue.times
    ]
    for frame in frames:
        first, second = identities(venue.dialect, frame), identities(venue.dialect, frame)
        assert first
        assert len({*first, *second}) == len(set(first))
