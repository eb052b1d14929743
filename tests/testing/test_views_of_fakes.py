"""The plain views of what fake venues write are the events of the market that they write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.making import entries_of
from wsclient.dialects import Bitfinex
from wsclient.messages import Message
from wsclient.stream.inbound import Inbound
from wsclient.testing import venues
from wsclient.testing.market import (
    Depth,
    Instrument,
    Listing,
    MarketEvent,
    MarketQuote,
    MarketTrade,
)

#: Frames without the numbers that each connection has for itself.
UNNUMBERED = Bitfinex(sequences=False)
WITH_VIEWS = [name for name in venues.NAMES if name != "generic" and venues.find(name).kinds]


def made(name: str, kind: type[Any]) -> Iterator[tuple[Any, Message]]:
    """Yield three events per channel of this kind, each with its last message."""
    protocol = venues.find(name)()
    symbol = protocol.symbols[0]
    for pattern, its in protocol.kinds.items():
        channel = pattern.format(symbol)
        listing = Listing(Instrument(symbol, seed=1), its)
        for number in range(3) if its is kind else ():
            event = listing.next()
            for fields in protocol.messages(channel, event):
                frame = protocol.data(channel, number + 1, fields)
                payload = frame.encode() if isinstance(frame, str) else frame
                dialect = UNNUMBERED if name == "bitfinex" else protocol.dialect
                found = entries_of(Inbound(dialect), payload)
                (message,) = [entry for entry in found if isinstance(entry, Message)]
                message.channel = channel
                yield event, message


@pytest.mark.parametrize("name", WITH_VIEWS)
def test_trades(name: str) -> None:
    seen = 0
    for event, message in made(name, MarketTrade):
        for trade in message.trades() or ():
            assert MarketTrade(event.number, trade.price, trade.size, trade.side) == event
            assert trade.time is not None
            seen += 1
    assert seen >= 3


@pytest.mark.parametrize("name", WITH_VIEWS)
def test_quotes(name: str) -> None:
    found = list(made(name, MarketQuote))
    for event, message in found:
        quote = message.quote()
        assert quote is not None
        assert (quote.bid_price, quote.ask_price) == (event.bid, event.ask)
        assert quote.bid_size in (event.bid_size, None)
        assert quote.ask_size in (event.ask_size, None)
    assert len(found) >= 3


@pytest.mark.parametrize("name", WITH_VIEWS)
def test_updates(name: str) -> None:
    found = [(event, message) for event, message in made(name, Depth) if message.type != "checksum"]
    for event, message in found:
        update = message.book_update()
        assert update is not None
        assert set(update.bids) <= set(event.bids)
        assert set(update.asks) <= set(event.asks)
    assert sum(len(rows_of(message)) for _, message in found) >= 3


def rows_of(message: Message) -> list[Any]:
    update = message.book_update()
    return [] if update is None else [*update.bids, *update.asks]


def test_the_generic_dialect_has_no_views() -> None:
    events: tuple[type[MarketEvent], ...] = (MarketTrade, MarketQuote, Depth)
    for kind in events:
        for _, message in made("generic", kind):
            assert (message.trades(), message.quote(), message.book_update()) == (None, None, None)
