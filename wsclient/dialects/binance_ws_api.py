"""Binance's WebSocket API: the events of a spot account, orders, and other requests.

Address: ``wss://ws-api.binance.com:443/ws-api/v3``. Market data are streams of the dialect
``binance``. The WebSocket API of USD-M futures, ``wss://ws-fapi.binance.com/ws-fapi/v1``, takes
requests too; its account's events are the channel ``userData`` of ``binance_futures``.

The only channel is ``userData``, with the events of the account. The type of a message is the
event's name (``executionReport``, ``outboundAccountPosition``, ``balanceUpdate``,
``externalLockUpdate``), and its data is the whole frame: the event is ``message.data["event"]``.

``client.request({"method": "order.place", "params": {...}})`` sends any request. Those about the
account are signed, unless their params have a ``signature`` already: names, values and signatures
are the venue's. Prices and quantities are text or Decimals, which are sent as text.

Sources: ``web-socket-api.md`` of binance/binance-spot-api-docs, unless another is named.

* ``userDataStream.subscribe.signature`` takes any type of key. The signature is that of all params
  but itself, as ``name=value`` sorted by name and joined by ``&``: an HMAC SHA256 in hex, or for
  RSA and Ed25519 keys the signature in base64, which ``credentials["sign"]`` makes.
  ``session.logon``, for Ed25519 keys only, is not needed for that. A program that wants it sends it
  by ``client.request()``, on each connection again.
* One subscription per account and connection. ``userDataStream.unsubscribe`` without params ends
  all of a connection. How the venue refuses a second subscription is not documented: its words
  decide, which is our assumption.
* Listen keys of spot ended on 2026-02-20 (the changelog of that repository).
* ``eventStreamTerminated`` ends a subscription, the connection stays: the client subscribes again.
  A ``serverShutdown`` event, which has no subscription, precedes the end of the connection.
* A ``status`` from 400 is a refusal. From 500, and with the codes -1006 and -1007, it is unknown
  whether the venue has acted on the request: ask for the order, do not send it again. 429 and 418
  say when the next request may follow (``retryAfter``).
* A revoked key is refused with the id null: the oldest request that waits is the one.
* Events are not sent again: what happens while there is no connection is missed, and marked as a
  gap. Read the account by requests then.
* 300 connects in 5 minutes per IP address; a connection lasts 24 hours. Requests have weights, and
  are refused beyond a limit: the client does not count them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from wsclient.dialect import (
    Ack,
    ConfigurationError,
    Credentials,
    Dialect,
    Ending,
    Item,
    Limits,
    Message,
    Rejection,
    Reply,
    Unhandled,
    sign,
)

__all__ = ["USER_DATA", "BinanceWsApi"]

#: The channel of an account's events.
USER_DATA = "userData"
#: The methods that need a signature, on spot and futures.
_SIGNED = re.compile(
    r"(?:v\d/)?(?:(?:account|algoOrder|openOrderLists|openOrders|order|orderList|sor)\."
    r"|allOrder|my[A-Z]|session\.logon|userDataStream\.subscribe\.signature)"
)
#: Words of a refusal that leaves the subscription of the account as it is.
_IS_ACTIVE = re.compile("already", re.IGNORECASE)
#: Codes of an error after which the outcome of a request is unknown, and the first such status.
_UNKNOWN = frozenset({-1006, -1007})
_SERVER_ERROR = 500


class _Event(msgspec.Struct, gc=False):
    name: str = msgspec.field(name="e")


class _Error(msgspec.Struct, gc=False):
    code: Any = None
    msg: str = "refused without a reason"
    data: Any = None


class _Frame(msgspec.Struct, gc=False):
    id: Any = None
    status: int | None = None
    error: _Error | None = None
    event: _Event | None = None


_frame = msgspec.json.Decoder(_Frame).decode


class BinanceWsApi(Dialect):
    """Dialect of Binance's WebSocket API.

    ``credentials`` have ``api_key``, and either ``secret`` for an HMAC key, or ``sign``: a function
    that gets the text to sign and returns the signature as text.
    """

    name: ClassVar[str] = "binance_ws_api"
    client_order_id = "newClientOrderId"
    limits = Limits(connects=(300, 300.0), max_age=86_400.0 - 300.0)
    quiet_channels = (USER_DATA,)
    timestamp_fields = (("event", "E"),)

    def needs_credentials(self, channel: str, options: Mapping[str, Any]) -> bool:
        return channel == USER_DATA

    def refusal(self, channel: str, address: str) -> str | None:
        if channel != USER_DATA:
            return f"the only channel here is {USER_DATA!r}: market data are in the dialect binance"
        if "/ws-fapi" in address or "/ws-dapi" in address:
            return f"{USER_DATA!r} of futures is a channel of the dialect binance_futures"
        return None

    def access(self, channels: Sequence[str], credentials: Credentials) -> Mapping[str, Any]:
        return _signed({}, credentials)

    def change(
        self, verb: str, channels: Sequence[str], request_id: int, options: Mapping[str, Any]
    ) -> Any:
        if verb == "unsubscribe":
            return {"id": request_id, "method": "userDataStream.unsubscribe"}
        if unknown := sorted(options.keys() - {"apiKey", "signature", "timestamp"}):
            raise ConfigurationError(f"{USER_DATA} has no option {unknown[0]!r}")
        method = "userDataStream.subscribe.signature"
        return {"id": request_id, "method": method, "params": dict(options)}

    def authorize(self, payload: Any, credentials: Credentials) -> Any:
        method = payload.get("method") if isinstance(payload, Mapping) else None
        if not isinstance(method, str) or not _SIGNED.match(method):
            return payload
        params = payload.get("params") or {}
        if not isinstance(params, Mapping):
            raise ConfigurationError(f"the params of {method!r} must be a dict of names and values")
        return (
            payload
            if "signature" in params
            else {**payload, "params": _signed(params, credentials)}
        )

    def request(self, payload: Any, request_id: int) -> Any:
        return {**payload, "id": request_id}

    def peek(self, frame: bytes) -> Item | Sequence[Item]:
        head = _frame(frame)
        if head.event is not None:
            return _of_account(head.event.name)
        is_accepted = head.error is None and (head.status or 0) < 400
        if head.status is None or (head.id is None and is_accepted):
            return Unhandled("")
        answer = msgspec.json.decode(frame)
        if is_accepted:
            return [Ack(head.id), Reply(head.id, answer)]
        error = head.error or _Error()
        is_unknown = head.status >= _SERVER_ERROR or error.code in _UNKNOWN
        reason = f"{error.msg} (status {head.status}, code {error.code}){_wait(error.data)}"
        reply = Reply(head.id, answer, reason, is_unknown=is_unknown)
        if head.id is None:
            return reply  # the oldest request, whichever it is
        is_active = _IS_ACTIVE.search(error.msg) is not None
        return [Rejection(reason, head.id, is_rest=True, keeps_active=is_active), reply]


def _of_account(event: str) -> Item:
    if event == "serverShutdown":
        return Ending("this server will shut down soon")
    if event == "eventStreamTerminated":  # by the venue, or by an unsubscribe
        return Ack(None, USER_DATA, verb="unsubscribe")
    return Message(USER_DATA, event)


def _signed(params: Mapping[str, Any], credentials: Credentials) -> dict[str, Any]:
    """Return params with the key, the time and the signature."""
    given = {name: f"{v:f}" if isinstance(v, Decimal) else v for name, v in params.items()}
    given = {
        "timestamp": int(credentials.clock() * 1000),
        **given,
        "apiKey": credentials["api_key"],
    }
    text = "&".join(f"{name}={_text(given[name])}" for name in sorted(given))
    function = credentials.get("sign")
    signature = sign(credentials["secret"], text).hex() if function is None else function(text)
    return {**given, "signature": signature}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wait(data: Any) -> str:
    """Return when the next request may follow, as text."""
    try:
        wait = (data["retryAfter"] - data["serverTime"]) / 1000
    except (KeyError, TypeError):
        return ""
    return f"; no further request for {max(0.0, wait):.3g} s"
