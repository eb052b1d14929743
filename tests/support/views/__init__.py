"""Frames of each venue, and their views in plain fields, checked by hand.

Frames marked (w) were recorded on the wire; the others are the documents' own examples, cut to what
is read, or variants of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib import import_module

from support.views.case import READ_AT, Case, messages

__all__ = ["CASES", "READ_AT", "Case", "channels_with", "messages"]

VENUES = (
    "binance",
    "bitfinex",
    "bybit",
    "coinbase",
    "deribit",
    "generic",
    "kraken",
    "kucoin",
    "okx",
)
CASES: dict[str, Case] = {}
for _name in VENUES:
    CASES |= import_module(f"support.views.{_name}").CASES

#: The same frame on other channels: the case, a text in it, and what may stand there too.
VARIANTS: list[tuple[str, str, list[str]]] = [
    (
        "binance partial depth, a snapshot without a time or a number (w)",
        "depth20",
        ["depth5", "depth10"],
    ),
    ("binance futures partial depth (w)", "depth20", ["depth5", "depth10"]),
    ("okx trade (w)", "trades", ["option-trades"]),
    ("okx book (w)", "books", ["books5", "books-l2-tbt", "books50-l2-tbt"]),
    ("deribit quote (w)", "quote", ["ticker"]),
]


def all_cases() -> Iterator[Case]:
    yield from CASES.values()
    for name, text, others in VARIANTS:
        case = CASES[name]
        yield from (case._replace(frame=case.frame.replace(text, other, 1)) for other in others)


def _before(separator: str) -> Callable[[str], str]:
    return lambda channel: channel.partition(separator)[0]


def _of_bybit(channel: str) -> str:
    kind, depth, _ = f"{channel.rpartition(':')[2]}..".split(".", 2)
    return f"{kind}.1" if kind == "orderbook" and depth == "1" else kind


#: How a channel's name says its kind, where it is not what stands before the first colon.
_KINDS: dict[str, Callable[[str], str]] = {
    "binance": lambda channel: re.split("[@!]", channel)[1],
    "binance_futures": lambda channel: re.split("[@!]", channel)[1],
    "bybit": _of_bybit,
    "deribit": _before("."),
}


def channels_with(view: str) -> set[tuple[str, str]]:
    """Return the dialects and their kinds of channels that have this view."""
    found = set()
    for case in all_cases():
        name = case.dialect.name
        for message in messages(case.dialect, case.frame, case.channel):
            if getattr(message, view)() is not None:
                found.add((name, _KINDS.get(name, _before(":"))(message.channel)))
    return found
