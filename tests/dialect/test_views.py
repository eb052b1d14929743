"""Views of a dialect's own, and of messages that were copied or come from another process."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

import wsclient
from support.making import entries_of, with_book
from wsclient import BookUpdate, Quote, Trade
from wsclient.dialect import BookFormat, Views, amount, best, levels
from wsclient.dialect.books import Row
from wsclient.messages import Message
from wsclient.stream.inbound import Inbound

TRADES = b'{"type":"market_data","channel":"t:A","sequence":4,"rows":[["1.10","2.0"],["1.20","3"]]}'
KRAKEN = (
    b'{"channel":"trade","type":"update","data":[{"symbol":"A","side":"sell","qty":40.0,'
    b'"price":0.5117,"trade_id":1,"timestamp":"2023-09-25T07:49:37.708706Z"},{"symbol":"B",'
    b'"side":"buy","qty":1.50,"price":7,"trade_id":2,"timestamp":"2023-09-25T07:49:37.708706Z"}]}'
)
OKX = (
    b'{"arg":{"channel":"trades","instId":"A"},"data":[{"instId":"A","tradeId":"3","px":"1.10",'
    b'"sz":"2.0","side":"buy","ts":"1652459227219"}]}'
)
BOOK = (
    b'{"arg":{"channel":"books","instId":"A"},"action":"update","data":[{"asks":[],"bids":[["1.10",'
    b'"2.0","0","1"]],"ts":"1652459227954","prevSeqId":5,"seqId":6}]}'
)


class Frame(msgspec.Struct):
    rows: list[Row]


class AcmeViews(Views):
    def trades(self, message: Message) -> list[Trade] | None:
        if not message.channel.startswith("t:"):
            return None
        rows = msgspec.json.decode(message.raw, type=Frame).rows
        return [Trade(message.channel[2:], row.price, row.size) for row in rows]


class Acme(wsclient.Generic):
    name = "acme"
    views = AcmeViews()


def made(dialect: Any, *frames: bytes) -> list[Message]:
    found = entries_of(Inbound(dialect), *frames, received_at=9)
    messages = [entry for entry in found if isinstance(entry, Message)]
    assert len(messages) == len(found)
    return messages


def test_a_dialect_says_what_its_trades_are_and_the_rest_is_added() -> None:
    (message,) = made(Acme(), TRADES)
    assert repr(message.trades()) == repr(
        [
            Trade("A", Decimal("1.10"), Decimal("2.0"), venue="acme", received_at=9),
            Trade("A", Decimal("1.20"), Decimal("3"), venue="acme", received_at=9),
        ]
    )


def test_a_message_of_another_channel_has_none() -> None:
    (message,) = made(Acme(), TRADES.replace(b"t:A", b"q:A"))
    assert message.trades() is None


def test_a_dialect_without_views_has_none() -> None:
    (message,) = made(wsclient.Generic(), TRADES)
    assert (message.trades(), message.quote(), message.book_update()) == (None, None, None)


def test_a_book_without_views_of_its_dialect_has_none() -> None:
    class Broken(BookFormat):
        def update(self, message: Message) -> BookUpdate:
            raise AssertionError("which message is one of a book is not known")

    (message,) = made(with_book(Broken(), wsclient.Generic()), TRADES)
    assert message.book_update() is None


def test_a_message_of_a_book_without_an_update_has_none() -> None:
    class Quiet(BookFormat):
        def update(self, message: Message) -> None:
            return None

    class Everything(Views):
        def book_symbol(self, message: Message) -> str:
            return "A"

    dialect = with_book(Quiet(), wsclient.Generic())
    dialect.views = Everything()
    (message,) = made(dialect, TRADES)
    assert message.book_update() is None


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("no"), RecursionError("no")])
def test_any_error_of_a_view_is_one_of_the_payload(error: Exception) -> None:
    class Failing(Views):
        def quote(self, message: Message) -> Quote | None:
            raise error

    dialect = wsclient.Generic()
    dialect.views = Failing()
    (message,) = made(dialect, TRADES)
    with pytest.raises(wsclient.InvalidMessage, match="cannot read the quote in a message") as got:
        message.quote()
    assert got.value.__cause__ is error
    assert isinstance(got.value, ValueError)


def test_the_program_s_decimal_context_changes_nothing() -> None:
    """It may round to few digits, and may not trap what is no number."""
    script = (
        "import decimal\n"
        "decimal.setcontext(decimal.Context(prec=2, traps=[]))\n"
        "import wsclient\n"
        "from wsclient.stream.inbound import Inbound\n"
        "def trades(size):\n"
        "    inbound = Inbound(wsclient.OKX())\n"
        "    raw = OKX.replace(b'\"2.0\"', size)\n"
        "    (message,) = inbound.entries(inbound.batch([raw], False, 1, 1))\n"
        "    return message.trades()\n"
        f"OKX = {OKX!r}\n"
        "print(trades(b'\"12345.678900\"')[0].size)\n"
        "try:\n"
        "    trades(b'\"much\"')\n"
        "except wsclient.InvalidMessage:\n"
        "    print('refused')\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["12345.678900", "refused"]


def pickled(message: Message) -> Message:
    twin: Message = pickle.loads(pickle.dumps(message))
    return twin


def copied(message: Message) -> Message:
    return message.copy()


WAYS: list[Callable[[Message], Message]] = [pickled, copy.deepcopy, copied, copy.copy]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("dialect", "frame"), [(wsclient.Kraken(), KRAKEN), (wsclient.OKX(), OKX), (Acme(), TRADES)]
)
def test_a_copy_has_the_same_trades(
    way: Callable[[Message], Message], dialect: wsclient.Dialect, frame: bytes
) -> None:
    for message in made(dialect, frame):
        twin = way(message)
        assert message.trades()
        assert repr(twin.trades()) == repr(message.trades())
        assert repr(pickled(twin).trades()) == repr(message.trades())


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_has_the_same_book_update(way: Callable[[Message], Message]) -> None:
    (message,) = made(wsclient.OKX(), BOOK)
    update = message.book_update()
    assert update is not None
    assert (update.sequence, update.time) == (6, 1652459227954_000_000)
    assert repr(way(message).book_update()) == repr(update)


def test_another_process_has_the_same_trades() -> None:
    (message,) = made(wsclient.OKX(), OKX)
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).trades())"
    ran = subprocess.run(
        [sys.executable, "-c", script], input=pickle.dumps(message), capture_output=True, check=True
    )
    assert ran.stdout.decode().strip() == repr(message.trades())


def needing_options(option: int) -> wsclient.Dialect:
    class Local(Acme):
        def __init__(self, option: int) -> None:
            super().__init__()

    return Local(option)


def test_a_copy_whose_dialect_is_not_to_be_had_says_why() -> None:
    (message,) = made(needing_options(1), TRADES)
    assert message.trades()
    twin = pickled(message)
    assert twin.data == message.data
    with pytest.raises(wsclient.NotSupported, match=r"needing_options.*cannot be made"):
        twin.trades()


def test_the_pickle_holds_no_secret_of_the_dialect() -> None:
    dialect = wsclient.Binance(rest="https://proxy.example/?token=S3CRET")
    raw = b'{"stream":"a@bookTicker","data":{"s":"A","b":"1","B":"2","a":"3","A":"4"}}'
    (message,) = made(dialect, raw)
    assert b"S3CRET" not in pickle.dumps(message)
    assert repr(pickled(message).quote()) == repr(message.quote())


def test_a_view_changes_nothing_of_the_message() -> None:
    (message,) = made(wsclient.OKX(), OKX)
    before = message.raw, message.decoded
    message.trades(), message.quote(), message.book_update()
    assert (message.raw, message.decoded) == before


def test_what_a_venue_leaves_out_is_none() -> None:
    assert amount(None) is amount("") is None
    assert amount("0") == 0
    assert best([]) == (None, None)
    row = Row(Decimal(1), Decimal(2))
    assert best([row, Row(Decimal(0), Decimal(9))]) == levels([row])[0]
