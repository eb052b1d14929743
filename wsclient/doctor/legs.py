"""The routes of a venue that a diagnosis examines, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from wsclient.client import WebSocketClient
from wsclient.dialect.base import Dialect
from wsclient.text import one_line

__all__ = ["Leg", "legs_of"]

#: The most channels that a text lists.
SHOWN = 5


class Leg(NamedTuple):
    """A route to examine: its name, its address, and the channels that belong to it.

    ``carries`` says what the route is needed for, ``limits`` the limits that the client keeps.
    """

    route: str
    url: str | Callable[[], str]
    channels: tuple[str, ...]
    carries: str
    limits: str


def legs_of(
    client: WebSocketClient, url: str | Callable[[], str], channels: Sequence[str]
) -> list[Leg]:
    """Return the routes that ``channels`` need, that of ``url`` first.

    A channel that no route carries is with the first one: its subscription says why it is refused.
    Raises what the dialect raises for ``url``.
    """
    core = client._core
    first = core.routes.default()
    by_route: dict[str, list[str]] = {first: []}
    refused = []
    for channel, routing in core.routes.of(channels, {}).items():
        if routing.refusal:
            refused.append(channel)
        else:
            by_route.setdefault(routing.route, []).append(channel)
    return [
        Leg(
            route,
            url if callable(url) or route == first else core.dialect.address(url, route),
            (*found, *refused) if route == first else tuple(found),
            _carries(found, refused if route == first else (), is_first=route == first),
            "; ".join(_limits(core.dialect, route)),
        )
        for route, found in by_route.items()
    ]


def _carries(channels: Sequence[str], refused: Sequence[str], *, is_first: bool) -> str:
    texts = []
    if channels:
        texts.append(f"carries {_names(channels)}")
    if is_first:
        texts.append("opened first, as the route of the URL")
    if refused:
        texts.append(f"no route carries {_names(refused)}")
    return "; ".join(texts)


def _names(channels: Sequence[str]) -> str:
    more = len(channels) - SHOWN
    names = ", ".join(map(one_line, channels[:SHOWN]))
    return f"{names} and {more} more" if more > 0 else names


def _limits(dialect: Dialect, route: str) -> Iterator[str]:
    limits, room = dialect.limits, dialect.room(route)
    yield "Limits: " + (
        "any number of channels per connection"
        if room is None
        else f"{room:,} channels per connection, further ones get another connection"
    )
    if limits.connections is not None:
        yield f"{limits.connections:,} connections at a time"
    if limits.connects is not None:
        count, seconds = limits.connects
        yield f"{count:,} connects in {seconds:,g} s"
    if limits.max_age is not None:
        yield f"a connection is replaced after {limits.max_age / 3600:.1f} h"
