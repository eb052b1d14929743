"""The routes of a client: which address carries a channel or a request, as its dialect says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from wsclient.checks import check_whole
from wsclient.dialect.base import Dialect
from wsclient.errors import ConfigurationError
from wsclient.runtime.budgets import budget_of
from wsclient.sansio.backoff import Budget, Connects
from wsclient.sansio.wantedtable import ChannelRoute
from wsclient.text import one_line, text_of
from wsclient.transport.addresses import parse_url

__all__ = ["RouteFinder"]


class RouteFinder:
    """Asks the dialect of one client for routes.

    The dialect may be a user's code, so nothing of this is called under the core's lock, except
    :meth:`where`, :meth:`connects` and :meth:`rooms`, which only look up what is known. ``url`` is
    the client's address, None if it is a function: then there is only one route, as the address may
    change. ``where`` is the client's address for errors. ``mask`` hides the client's secrets in
    texts.
    """

    def __init__(
        self,
        dialect: Dialect,
        url: str | None,
        where: str,
        mask: Callable[[str], str] = str,
        *,
        has_credentials: bool,
    ) -> None:
        self._dialect = dialect
        self._mask = mask
        self._url = url
        self._where = where
        self._has_credentials = has_credentials
        #: The addresses of the routes so far, and their rate limits of attempts.
        self._addresses: dict[str, str] = {}
        self._budgets: dict[str, Connects | None] = {}
        #: How many channels a connection of each carries.
        self._rooms: dict[str, int | None] = {}

    def default(self) -> str:
        """Return the default route. Raises what the dialect raises."""
        route = "" if self._url is None else self._dialect.default_route(self._url)
        return self._learn(route)

    def of_request(self, payload: Any) -> str:
        """Return the route of a caller's message. Raises what the dialect raises."""
        route = "" if self._url is None else self._dialect.request_route(payload, self._url)
        return self._learn(route)

    def of(self, channels: Iterable[str], options: Mapping[str, Any]) -> dict[str, ChannelRoute]:
        """Return how each channel is reached; ``options`` are those of the subscribe."""
        return {channel: self._of(channel, options) for channel in dict.fromkeys(channels)}

    def _of(self, channel: str, options: Mapping[str, Any]) -> ChannelRoute:
        try:
            dialect = self._dialect
            wire = _plain("wire_name", dialect.wire_name(channel))
            if not self._has_credentials and dialect.needs_credentials(wire, options):
                return ChannelRoute("", wire, "it needs credentials, and the client has none")
            route = "" if self._url is None else dialect.route(channel, self._url)
            route = self._learn(route)
        except KeyboardInterrupt:
            raise  # this is the caller's thread
        except ConfigurationError as error:
            return self._refusal(channel, str(error))
        except BaseException as error:  # noqa: BLE001 - SystemExit too: only this channel fails
            return self._refusal(channel, f"{type(error).__name__}: {text_of(error)}")
        return ChannelRoute(route, wire)

    def _refusal(self, channel: str, why: str) -> ChannelRoute:
        return ChannelRoute("", channel, one_line(self._mask(why)))  # it may name the address

    def _learn(self, route: str) -> str:
        """Ask the dialect about a route, once. Return its name as plain text."""
        route = _plain("route", route)
        if route in self._addresses:
            return route
        limit = self._dialect.limits.connects
        where = self._where
        budget: Connects | None = None if limit is None else Budget(*limit)
        if self._url is not None:
            address = parse_url(self._dialect.address(self._url, route))
            where = str(address)
            if limit is not None and not address.is_loopback:  # nothing there counts attempts
                budget = budget_of(where, *limit)
            if route != self._dialect.default_route(self._url):
                where += f" (route {route!r})"
        room = self._dialect.room(route)
        check_whole(f"room({route!r})", room, 1, or_none=True)
        self._budgets[route] = budget
        self._rooms[route] = room
        self._addresses[route] = where
        return route

    def where(self, route: str) -> str:
        """Return the address of a known route, for errors."""
        return self._addresses.get(route, self._where)

    def rooms(self, route: str) -> int | None:
        """Return how many channels a connection of a known route carries, None for no limit."""
        return self._rooms.get(route)

    def connects(self, route: str) -> Connects | None:
        """Return the rate limit of attempts on a known route, None for no limit."""
        return self._budgets.get(route)


def _plain(what: str, name: str) -> str:
    """Return a dialect's name as plain text, whose methods are no user's code under the lock."""
    if not isinstance(name, str):
        raise TypeError(f"the dialect's {what}() must be text, not {type(name).__name__}")
    return str.__str__(name)
