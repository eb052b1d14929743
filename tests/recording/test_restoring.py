"""Messages that are made again of a recording's records."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from support.madefiles import BEGIN, MadeRecording
from wsclient.errors import ConfigurationError
from wsclient.messages import Gap, LinkedMessage, Message
from wsclient.recording.folder import Recording, recordings_of
from wsclient.recording.records import Lost
from wsclient.recording.restoring import Restorer

TRADES = (
    b'{"channel":"trade","type":"update","data":['
    b'{"symbol":"BTC/USD","side":"buy","price":1.10,"qty":2.0,"ord_type":"limit","trade_id":1,'
    b'"timestamp":"2026-01-02T03:04:05.000000Z"},'
    b'{"symbol":"ETH/USD","side":"sell","price":5.0,"qty":1.50,"ord_type":"limit","trade_id":2,'
    b'"timestamp":"2026-01-02T03:04:05.000000Z"}]}'
)


def of(folder: Path) -> Recording:
    (recording,), bad = recordings_of(folder)
    assert bad == []
    return recording


def restored(recording: Recording) -> list[Message]:
    return [message for _, messages in Restorer(recording).read() for message in messages]


def test_messages_have_what_they_had_in_the_client(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, "kraken") as made:
        received_at = made.time
        sent = made.frame(TRADES, connection_id=3, gap=Gap("reconnect", None, 5))
    messages = restored(of(tmp_path))
    names = ("channel", "type", "sequence", "item", "raw", "gap", "received_at", "connection_id")
    for message, before in zip(messages, sent, strict=True):
        assert [getattr(message, name) for name in names] == [getattr(before, n) for n in names]
        assert message.data == before.data
    assert [message.received_at for message in messages] == [received_at] * 2
    (trade,) = messages[1].trades() or ()
    assert (trade.symbol, str(trade.size), trade.received_at) == ("ETH/USD", "1.50", received_at)


def test_linked_messages_stay_linked(tmp_path: Path) -> None:
    linked = LinkedMessage("a", "update", 7, follows=4, is_counted=False)
    with MadeRecording(tmp_path) as made:
        made.messages(b"{}", [linked])
    (message,) = restored(of(tmp_path))
    assert isinstance(message, LinkedMessage)
    assert (message.sequence, message.follows, message.is_counted) == (7, 4, False)


def test_fractions_are_decimals_on_request(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame('{"channel":"a","type":"market_data","sequence":1,"price":1.10}')
    ((_, (message,)),) = Restorer(of(tmp_path), decimal=True).read()
    assert str(message.data["price"]) == "1.10"
    assert type(message.data["price"]) is Decimal


def test_only_messages_of_wanted_channels_are_made(tmp_path: Path) -> None:
    with MadeRecording(tmp_path, "kraken") as made:
        made.frame(TRADES)
    found = [ms for _, ms in Restorer(of(tmp_path)).read(channels=["trade:ETH/USD"])]
    assert [[message.channel for message in messages] for messages in found] == [["trade:ETH/USD"]]


def data(channel: str, sequence: int) -> dict[str, object]:
    return {"channel": channel, "type": "market_data", "sequence": sequence}


def test_what_the_recorder_lost_is_a_gap_of_the_next_message(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
        made.note(Lost(at=0, why="a slow disk", since=5, channels={"a": 2}))
        made.note(Lost(at=0, why="a slow disk", since=6, channels={"a": 1}))
        made.frame(data("b", 1))
        made.frame(data("a", 8), gap=Gap("sequence", 3, 7))
        made.frame(data("a", 9))
    gaps = [message.gap for message in restored(of(tmp_path))]
    assert gaps == [None, None, Gap("sequence", 6, BEGIN), None]


def test_an_unknown_loss_is_a_gap_of_every_channel(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
        made.note(Lost(at=0, why="a restart", since=5, is_unknown=True))
        for sequence in (2, 3):
            made.frame(data("a", sequence))
            made.frame(data("b", sequence))
    # Since its last message, or since the last record where that is not known.
    of_a, of_b = Gap("recorder", None, BEGIN), Gap("recorder", None, 5)
    assert [m.gap for m in restored(of(tmp_path))] == [None, of_a, of_b, None, None]


def test_an_unknown_dialect_is_an_error_that_names_it(tmp_path: Path) -> None:
    with MadeRecording(tmp_path) as made:
        made.frame(data("a", 1))
    with pytest.raises(ConfigurationError, match="acme"):
        Restorer(of(tmp_path), "acme")
