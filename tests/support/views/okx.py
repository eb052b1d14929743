"""OKX."""

from __future__ import annotations

import wsclient
from support.views.case import MS, Case, D, rows
from wsclient import PlainBookUpdate, Quote, Trade

OKX = wsclient.OKX()

CASES = {
    "okx trade (w)": Case(
        OKX,
        '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT",'
        '"tradeId":"338476320","px":"30242","sz":"0.001","side":"buy","ts":"1652459227219"}]}',
        [Trade("BTC-USDT", D("30242"), D("0.001"), "buy", "338476320", 1652459227219 * MS)],
    ),
    "okx trades of a swap, two in a frame": Case(
        OKX,
        '{"arg":{"channel":"trades-all","instId":"BTC-USD-SWAP"},"data":[{"instId":"BTC-USD-SWAP",'
        '"tradeId":"173543957","px":"43574.9","sz":"1","side":"sell","ts":"1646312664791"},'
        '{"instId":"BTC-USD-SWAP","tradeId":"173543958","px":"43574.8","sz":"20","side":"sell",'
        '"ts":"1646312664792"}]}',
        [
            Trade("BTC-USD-SWAP", D("43574.9"), D("1"), "sell", "173543957", 1646312664791 * MS),
            Trade("BTC-USD-SWAP", D("43574.8"), D("20"), "sell", "173543958", 1646312664792 * MS),
        ],
    ),
    "okx ticker without a bid (w)": Case(
        OKX,
        '{"arg":{"channel":"tickers","instId":"BTC-USD-220624-50000-C"},"data":[{'
        '"instType":"OPTION","instId":"BTC-USD-220624-50000-C","last":"0.0005","lastSz":"6",'
        '"askPx":"0.0015","askSz":"330","bidPx":"","bidSz":"","ts":"1654166283149"}]}',
        quote=Quote(
            "BTC-USD-220624-50000-C", None, None, D("0.0015"), D("330"), 1654166283149 * MS
        ),
    ),
    "okx bbo-tbt without a bid, a book too (w)": Case(
        OKX,
        '{"arg":{"channel":"bbo-tbt","instId":"BTC-USD-220624-50000-C"},"data":[{"asks":'
        '[["0.0015","8","0","1"]],"bids":[],"ts":"1654033343415"}]}',
        quote=Quote("BTC-USD-220624-50000-C", None, None, D("0.0015"), D("8"), 1654033343415 * MS),
        update=PlainBookUpdate(
            "BTC-USD-220624-50000-C", True, (), rows("0.0015 8"), None, None, 1654033343415 * MS
        ),
    ),
    "okx book (w)": Case(
        OKX,
        '{"arg":{"channel":"books","instId":"BTC-USD-220527"},"action":"update","data":[{"asks":[],'
        '"bids":[["30189","0","0","0"]],"ts":"1652459227954","checksum":67565745}]}',
        update=PlainBookUpdate(
            "BTC-USD-220527", False, rows("30189 0"), (), None, 67565745, 1652459227954 * MS
        ),
    ),
    "okx book with numbers, and the checksum 0 that is none": Case(
        OKX,
        '{"arg":{"channel":"books","instId":"BTC-USDT"},"action":"snapshot","data":[{"asks":'
        '[["8476.98","415","0","13"]],"bids":[],"ts":"1597026383085","checksum":0,'
        '"prevSeqId":-1,"seqId":123456}]}',
        update=PlainBookUpdate(
            "BTC-USDT", True, (), rows("8476.98 415"), 123456, None, 1597026383085 * MS
        ),
    ),
    "okx funding rate (w)": Case(
        OKX,
        '{"arg":{"channel":"funding-rate","instId":"BTC-USD-SWAP"},"data":[{"fundingRate":"0.1"}]}',
    ),
}
