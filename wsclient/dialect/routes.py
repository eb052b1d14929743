"""Routes: what a dialect says about them, and those whose addresses differ in one part."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from wsclient.dialect.values import Limits
from wsclient.errors import ConfigurationError

__all__ = ["RouteAddresses", "Routing"]

#: The scheme, the host and the beginning of the path.
_ANYWHERE = r"(?i:wss?)://[^/?#]+(?:/[^?#]*)?"
#: The end of the path, and the query.
_END = r"/?(?:\?.*)?"


class Routing:
    """What a dialect says about its venue's routes; a :class:`Dialect` has all of it.

    By default there is one route, whose address is the one that the user gave.
    """

    limits: Limits

    def default_route(self, url: str) -> str:
        """Return the name of the route of the address ``url``, as the user gave it.

        This route is opened if no channel is wanted yet. ``""`` is the only route of a venue with
        one address, and of an address that shows no route.
        """
        return ""

    def route(self, channel: str, url: str) -> str:
        """Return the name of the route that carries ``channel``, for a client with ``url``.

        Raise ConfigurationError, with the reason, for a channel that no route carries: it is
        refused.
        """
        return self.default_route(url)

    def request_route(self, payload: Any, url: str) -> str:
        """Return the name of the route to which ``client.send(payload)`` goes, or ``request()``."""
        return self.default_route(url)

    def address(self, url: str, route: str) -> str:
        """Return the address of ``route``, for a client with ``url``.

        For the :meth:`default_route` that is ``url`` itself. The methods ``url_request()`` and
        ``url()`` then get this address. ``route`` is a result of the methods above. Raise
        ConfigurationError if ``url`` does not show where that route is.
        """
        return url

    def wire_name(self, channel: str) -> str:
        """Return the venue's own name of ``channel``: the name without the route.

        Two channels of one route must not have the same name there.
        """
        return channel

    def room(self, route: str) -> int | None:
        """Return how many channels a connection of ``route`` may have; None for no limit.

        Override it where routes differ: by default it is ``limits.channels_per_connection``.
        """
        return self.limits.channels_per_connection

    def logs_in(self, route: str) -> bool:
        """Return whether connections of ``route`` log in, if there are credentials."""
        return True

    def needs_credentials(self, channel: str, options: Mapping[str, Any]) -> bool:
        """Return whether the venue never sends ``channel`` to a client without credentials.

        ``options`` are those of the subscribe: with a token there, credentials may not be needed.
        Such a channel is refused to a client without credentials.
        """
        return False


class RouteAddresses:
    """The routes of a venue, whose addresses differ in one part.

    ``parts`` maps the name of each route to its part of the address. By default that is the end of
    the path, behind ``after`` (``"/v5/"``): all routes have the host, the query and the beginning
    of the path of the address that the user gave, so that proxies and test venues have them too.
    For addresses of another form, ``before`` and ``behind`` are regular expressions for the text
    before and after the part.
    """

    def __init__(
        self,
        parts: Mapping[str, str],
        after: str = "/",
        *,
        before: str | None = None,
        behind: str = _END,
    ) -> None:
        self._parts = dict(parts)
        self._names: dict[str, str] = {}
        for name, part in parts.items():
            self._names.setdefault(part, name)
        choice = "|".join(sorted(map(re.escape, self._names), key=len, reverse=True))
        before = _ANYWHERE + re.escape(after) if before is None else before
        self._address = re.compile(f"({before})({choice})({behind})")

    def __contains__(self, name: str) -> bool:
        return name in self._parts

    def of(self, url: str) -> str:
        """Return the name of the route of an address; ``""`` if the address shows none.

        If several routes have one address, that is the first of them.
        """
        found = self._address.fullmatch(url)
        return self._names[found[2]] if found else ""

    def address(self, url: str, route: str) -> str:
        """Return the address of ``route``, for a client with the address ``url``.

        Raises ConfigurationError if there is no such route, or if ``url`` shows none, so that the
        others are not known.
        """
        found = self._address.fullmatch(url)
        if route == (self._names[found[2]] if found else ""):
            return url
        routes = ", ".join(self._parts)
        if route not in self._parts:
            raise ConfigurationError(f"there is no route {route!r}; the routes are {routes}")
        if found is None:
            raise ConfigurationError(
                f"the client's address does not show where the route {route!r} is: "
                f"it must be the address of one of the routes {routes}"
            )
        return f"{found[1]}{self._parts[route]}{found[3]}"
