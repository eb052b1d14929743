"""Routes whose addresses differ in one part."""

from __future__ import annotations

import re
from collections.abc import Mapping

from wsclient.errors import ConfigurationError

__all__ = ["RouteAddresses"]

#: The scheme, the host and the beginning of the path.
_ANYWHERE = r"(?i:wss?)://[^/?#]+(?:/[^?#]*)?"
#: The end of the path, and the query.
_END = r"/?(?:\?.*)?"


class RouteAddresses:
    """The routes of a venue, whose addresses differ in one part.

    ``parts`` maps the name of each route to its part of the address. By default that is the end of
    the path, behind ``after`` (``"/v5/"``): all routes have the host, the query and the beginning
    of the path of the address that the user gave, so that proxies and test venues have them too.
    Elsewhere, ``before`` and ``behind`` are regular expressions of the rest of an address.
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

        Raises ConfigurationError if ``url`` shows no route, so that the others are not known.
        """
        found = self._address.fullmatch(url)
        if route == (self._names[found[2]] if found else ""):
            return url
        if found is None or route not in self._parts:
            raise ConfigurationError(
                f"the client's address does not show where the route {route!r} is: "
                f"it must be the address of one of the routes {', '.join(self._parts)}"
            )
        return f"{found[1]}{self._parts[route]}{found[3]}"
