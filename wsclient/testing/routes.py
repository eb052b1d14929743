"""The routes of a venue: paths of one server, each of which carries its own channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

__all__ = ["Route", "RouteTable"]


@dataclass(frozen=True)
class Route:
    """A route: the path of its address, and patterns of the channels that it carries.

    It carries a channel that matches one of `channels` and none of `without`: `"ticker:*"`.
    """

    path: str
    channels: Sequence[str] = ("*",)
    without: Sequence[str] = ()

    def carries(self, channel: str) -> bool:
        """Return whether a connection of this route may subscribe to `channel`."""
        return _matches(channel, self.channels) and not _matches(channel, self.without)


def _matches(channel: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(channel, pattern) for pattern in patterns)


class RouteTable:
    """The routes of a venue by name.

    A path that ends as that of a route says the route of a connection; else its last segment that
    is the name of one does: `linear` for `/v5/public/linear/x`. A path without one has the route
    `default`; a connection of the route None carries all channels.
    """

    def __init__(self, routes: Mapping[str, Route], default: str | None) -> None:
        self._routes = dict(routes)
        self._default = default if default in self._routes else None

    def __getitem__(self, name: str) -> Route:
        try:
            return self._routes[name]
        except KeyError:
            known = ", ".join(self._routes) or "none"
            raise ValueError(f"the venue has no route {name!r}; its routes: {known}") from None

    def of(self, path: str) -> str | None:
        """Return the route of a connection by the path of its handshake."""
        path = path.partition("?")[0]
        named = [name for name in reversed(path.split("/")) if name in self._routes]
        ending = [name for name, route in self._routes.items() if path.endswith(route.path)]
        return next(iter(ending + named), self._default)

    def split(self, channel: str) -> tuple[str | None, str]:
        """Return the route that a channel names before a colon, or None, and the rest."""
        name, colon, rest = channel.partition(":")
        return (name, rest) if colon and name in self._routes else (None, channel)

    def carries(self, route: str | None, channel: str) -> bool:
        """Return whether a connection of this route carries `channel`."""
        return route is None or self._routes[route].carries(channel)

    def refusal(self, route: str | None, channel: str) -> str | None:
        """Return why a connection of this route does not carry `channel`, or None if it does."""
        if self.carries(route, channel):
            return None
        others = [name for name, other in self._routes.items() if other.carries(channel)]
        advice = f": connect to {' or '.join(others)}" if others else ""
        return f"the route {route} does not carry {channel}{advice}"
