"""A picture of a client's statistics: its state, and its channels with rates, lags and gaps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from wsclient.html import Mood
from wsclient.picture import Picture, PictureCell, Trend
from wsclient.telemetry.stats import ChannelStats, Stats
from wsclient.text import one_line, size_text, time_text

__all__ = ["Latest", "chosen", "overview"]

#: How many times the messages of a shown channel another one must have to replace it.
CLEARLY = 1.25

_MOODS: dict[str, Mood] = {"open": "good", "failed": "bad", "closed": "quiet", "idle": "quiet"}


class Latest(NamedTuple):
    """The newest price of a channel as text, and the prices before it."""

    price: str
    trend: Trend


def chosen(
    stats: Stats, names: Collection[str], limit: int, before: Collection[str] = ()
) -> list[str]:
    """Return the channels to show: ``names``, or the ``limit`` with the most messages.

    Those shown ``before`` stay until others have clearly more, so that rows do not come and go.
    """
    if names:
        return list(names)
    known = stats.channels
    if len(known) <= limit:
        return list(known)
    ranked = sorted(known, key=lambda name: -known[name].messages)
    least = known[ranked[limit - 1]].messages
    kept = [name for name in before if name in known and known[name].messages * CLEARLY >= least]
    most = set(list(dict.fromkeys([*kept, *ranked]))[:limit])
    return [name for name in known if name in most]


def overview(
    title: str, stats: Stats, shown: Collection[str], prices: Mapping[str, Latest] | None = None
) -> Picture:
    """Return a picture of a client with these channels, and their prices if they are given."""
    header = ["channel", "messages", "/s", "lag p50", "gaps", "missed"]
    extra: tuple[int, ...] = ()
    if prices is not None:
        header[1:1] = ["price", ""]
        extra = (2,)
    rows = tuple(_row(name, stats.channels.get(name), prices) for name in shown)
    hidden = len(stats.channels) - sum(name in stats.channels for name in shown)
    return Picture(
        title,
        stats.state,
        _MOODS.get(stats.state, "warning"),
        tuple(_facts(stats)),
        tuple(header),
        rows,
        hidden,
        _notes(stats),
        drops=(header.index("missed"), header.index("messages"), *extra),
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s'[: number != 1]}"


def _facts(stats: Stats) -> list[tuple[str, PictureCell]]:
    links = [connection.state == "open" for connection in stats.connections]
    lag, rate = stats.venue_lag, stats.rate
    delay = f"{time_text(lag.p50)} median, {time_text(lag.p99)} for 99 %" if lag.count else "-"
    return [
        (
            "connections",
            f"{sum(links):,} of {len(links):,} open, {_count(stats.reconnects, 'reconnect')}, "
            f"{_count(len(stats.channels), 'channel')}",
        ),
        (
            "messages",
            f"{stats.messages:,}; {rate.messages:,.1f}/s and {size_text(rate.bytes)}/s recently",
        ),
        ("lag", delay),
        ("gaps", f"{stats.gaps:,}; {stats.missed:,} messages known to be missed"),
        ("queued", f"{stats.queued:,}; {stats.dropped:,} dropped"),
    ]


def _row(
    name: str, found: ChannelStats | None, prices: Mapping[str, Latest] | None
) -> tuple[PictureCell, ...]:
    latest: tuple[PictureCell, ...] = ()
    if prices is not None:
        latest = prices.get(name, ("", ""))
    if found is None:
        return (name, *latest, *("-",) * 5)
    return (
        one_line(name),
        *latest,
        f"{found.messages:,}",
        f"{found.rate:,.1f}",
        time_text(found.venue_lag.p50),
        f"{found.gaps:,}",
        f"{found.missed:,}",
    )


def _notes(stats: Stats) -> tuple[str, ...]:
    if not stats.no_data:
        return ()
    names, more = stats.no_data[:5], len(stats.no_data) - 5
    rest = f" and {more:,} more" if more > 0 else ""
    return (f"confirmed, but without data: {', '.join(map(one_line, names))}{rest}",)
