"""The made-up market."""

from decimal import Context, Inexact, Rounded, localcontext

import pytest

from wsclient.testing.market import LEVELS, Depth, Instrument, Listing, MarketQuote, MarketTrade


def events(kind, seed=1, symbol="BTC/USD", count=300):
    listing = Listing(Instrument(symbol, seed), kind)
    return [listing.next() for _ in range(count)]


@pytest.mark.parametrize("kind", [MarketTrade, MarketQuote, Depth])
def test_the_same_seed_makes_the_same_market(kind):
    assert events(kind) == events(kind)
    assert events(kind) != events(kind, seed=2)
    assert events(kind) != events(kind, symbol="ETH/USD")
    assert all(type(event) is kind for event in events(kind))


@pytest.mark.parametrize("kind", [MarketTrade, MarketQuote, Depth])
def test_the_programs_decimal_context_changes_no_market(kind):
    expected = events(kind)
    with localcontext(Context(prec=2, traps=[Inexact, Rounded])):
        assert events(kind) == expected


def test_prices_move_and_keep_their_digits():
    prices = [trade.price for trade in events(MarketTrade)]
    assert len(set(prices)) > 50
    assert {price.as_tuple().exponent for price in prices} == {-2}
    assert max(prices) < 2 * min(prices)


def test_trades_are_numbered():
    assert [trade.number for trade in events(MarketTrade, count=5)] == [1, 2, 3, 4, 5]


def test_a_price_never_falls_to_zero():
    instrument = Instrument("A", 1)
    instrument.bid = 1
    for _ in range(200):
        instrument.move()
        assert min(instrument.sides[0]) > 0


def test_a_quote_is_never_crossed_and_trades_are_at_its_prices():
    for quote in events(MarketQuote):
        assert quote.bid < quote.ask
        assert quote.last in (quote.bid, quote.ask)


def test_updates_turn_each_book_into_the_next():
    listing = Listing(Instrument("BTC/USD", 1), Depth)
    start = listing.snapshot()
    assert (start.bids, start.asks) == start.book
    sides = [dict(start.bids), dict(start.asks)]
    for _ in range(300):
        depth = listing.next()
        for side, changes in zip(sides, (depth.bids, depth.asks), strict=True):
            for price, size in changes:
                if size:
                    side[price] = size
                else:
                    del side[price]
        assert sorted(sides[0].items(), reverse=True) == depth.book[0]
        assert sorted(sides[1].items()) == depth.book[1]
        assert len(sides[0]) == len(sides[1]) == LEVELS
        assert max(sides[0]) < min(sides[1])


def test_two_channels_of_one_symbol_agree_and_have_their_own_updates():
    instrument = Instrument("BTC/USD", 1)
    quotes, one, other = (Listing(instrument, kind) for kind in (MarketQuote, Depth, Depth))
    for _ in range(50):
        one.next()
        other.next()
        quote = quotes.next()
        bids, asks = Listing(instrument, Depth).snapshot().book
        assert (bids[0], asks[0]) == (quote[:2], quote[2:4])
    before = one.snapshot()
    assert other.next() != before
    assert one.snapshot() == before, "it has sent nothing since"


def test_opening_prices():
    first = {
        symbol: events(MarketQuote, symbol=symbol, count=1)[0].bid for symbol in ("ethusdt", "X")
    }
    assert 3500 < first["ethusdt"] < 3525
    assert 99 < first["X"] < 101
