"""Kraken spot, WebSocket API v2: ``wss://ws.kraken.com/v2``.

A channel is ``name:SYMBOL`` (``ticker:BTC/USD``, ``book:ETH/USD``), or a bare name where Kraken
takes no symbol (``status``). Options of ``subscribe`` become its params (``depth=100``,
``snapshot=False``).

Sources, under docs.kraken.com/api/docs/websocket-v2:

* one message takes one channel name and a list of symbols, and is acknowledged once a symbol;
  partial failures carry the symbol, a refused depth carries only ``req_id`` (pages ``book``,
  ``ticker``; the latter seen on the wire);
* unsubscribe needs the same params, ``depth`` included (page ``book``);
* ``{"channel":"heartbeat"}`` about once a second while anything is subscribed (page
  ``heartbeat``); the silence timeout of 15 s is ours;
* book messages carry no sequence, but a checksum (guide ``book-checksum-v2``);
* about 150 connections in a rolling 10 minutes an address (guide ``spot-ws-intro``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from wsclient.sansio.dialect import (
    Ack,
    Data,
    Dialect,
    Heartbeat,
    Item,
    Limits,
    Notice,
    Rejection,
    Reply,
    Unhandled,
)

__all__ = ["Kraken"]

_FILTERED = frozenset({"heartbeat", "status"})
#: Channels that are subscribed by symbol; any other has one stream for all.
_BY_SYMBOL = frozenset({"book", "level3", "ohlc", "ticker", "trade"})


class _Row(msgspec.Struct, gc=False):
    symbol: str | None = None


class _Head(msgspec.Struct, gc=False):
    channel: str | None = None
    type: str = ""
    data: list[_Row] | _Row = []
    method: str | None = None


class _Result(msgspec.Struct):
    channel: str = ""
    symbol: str | None = None


class _Answer(msgspec.Struct):
    method: str
    success: bool = True
    req_id: int | None = None
    error: str | None = None
    symbol: str | None = None
    result: Any = None


_peek = msgspec.json.Decoder(_Head).decode
_answer = msgspec.json.Decoder(_Answer).decode


class Kraken(Dialect):
    """Batches of at most 100 symbols a message are ours: Kraken states no limit there."""

    name: ClassVar[str] = "kraken"
    limits = Limits(channels_per_message=100, connects=(150, 600.0))
    silence_timeout = 15.0

    def batches(self, channels: Sequence[str]) -> Iterable[Sequence[str]]:
        by_name: dict[str, list[str]] = {}
        for channel in channels:
            by_name.setdefault(channel.partition(":")[0], []).append(channel)
        for group in by_name.values():
            yield from super().batches(group)

    def subscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        return self._request("subscribe", channels, request_id, options)

    def unsubscribe(
        self, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        return self._request("unsubscribe", channels, request_id, options)

    def _request(
        self, method: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        params: dict[str, Any] = {"channel": channels[0].partition(":")[0]}
        symbols = [symbol for _, _, symbol in (c.partition(":") for c in channels) if symbol]
        if symbols:
            params["symbol"] = symbols
        params.update(options)
        return {"method": method, "params": params, "req_id": request_id}

    def request(self, payload: Any, request_id: int) -> Any:
        return {**payload, "req_id": request_id}

    def peek(self, frame: bytes) -> Sequence[Item]:
        head = _peek(frame)
        if head.method is not None:
            return (self._method(frame),)
        name = head.channel
        if name is None:
            return (self._unnamed(frame),)
        if name in _FILTERED:
            return (Heartbeat(),)
        rows = head.data
        if name not in _BY_SYMBOL or not rows or isinstance(rows, _Row):
            return (Data(name, head.type),)
        if len(rows) == 1:
            return (Data(_channel(name, rows[0].symbol), head.type, None, 0),)
        return [Data(_channel(name, r.symbol), head.type, None, i) for i, r in enumerate(rows)]

    def item(self, decoded: Any, index: int) -> Any:
        return decoded["data"][index]

    def _method(self, frame: bytes) -> Item:
        answer = _answer(frame)
        if answer.method not in ("subscribe", "unsubscribe"):
            payload = msgspec.json.decode(frame)
            error = None if answer.success else answer.error or "refused without a reason"
            return Reply(answer.req_id, payload, error)
        channel = None
        if isinstance(answer.result, dict) and answer.result.get("channel"):
            channel = _channel(answer.result["channel"], answer.result.get("symbol"))
        if answer.success:
            return Ack(answer.req_id, channel)
        reason = answer.error or "refused without a reason"
        return Rejection(reason, answer.req_id, channel, answer.symbol)

    def _unnamed(self, frame: bytes) -> Item:
        decoded = msgspec.json.decode(frame)
        if "error" in decoded:
            return Notice(str(decoded["error"]))
        return Unhandled("")


def _channel(name: str, symbol: str | None) -> str:
    return f"{name}:{symbol}" if symbol else name
