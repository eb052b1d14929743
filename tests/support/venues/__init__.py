"""What the tests of all venues need to know of each: one module per venue, named as its dialect.

Each module has a ``VENUE``. The tests of all venues take the names from the registry of dialects:
they fail for a new venue without such a module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

from wsclient import dialects
from wsclient.dialect import Dialect

#: A time that frames carry, in ns and ms since the epoch.
NS = 1_700_000_000_123 * 10**6
MS = NS // 10**6


class Login(NamedTuple):
    """A venue's two answers to a login, and the one to a subscribe for ``Private.channel``.

    The last one is without its id.
    """

    accepted: Any
    refused: Any
    acknowledged: Any


class Private(NamedTuple):
    """A channel that needs credentials, and the fields that they have.

    ``login`` is None if the venue wants a token or a signature in place of a login message.
    """

    channel: str
    fields: Sequence[str] = ("api_key", "secret")
    is_secret_in_base64: bool = False
    login: Login | None = None


class BookFrames(NamedTuple):
    """The frames of one book: a snapshot and an update, as the venue writes them.

    ``row`` writes a level in the venue's form. Each function in ``unknown`` makes the update a
    message of an unknown type. With ``by_rest``, ``snapshot`` is the answer by REST.
    """

    channel: str
    snapshot: Callable[[list[Any], list[Any]], Any]
    update: Callable[[list[Any], list[Any]], Any]
    row: Callable[..., Any]
    unknown: Sequence[Callable[[Any], Any]]
    by_rest: bool = False


class Venue(NamedTuple):
    """A dialect, and what is known of its venue.

    ``quiet`` are channels that may be silent, ``others`` channels that may not. ``times`` are
    frames, and the venue's time (ns) in each, or None. A venue has ``book`` if its dialect has
    order books, and ``private`` if its dialect takes credentials.
    """

    dialect: Dialect
    quiet: Sequence[str]
    others: Sequence[str]
    times: Sequence[tuple[Any, int | None]]
    book: BookFrames | None = None
    private: Private | None = None


def venue_of(name: str) -> Venue:
    """Return the venue of a dialect."""
    venue: Venue = import_module(f"support.venues.{name}").VENUE
    return venue


def number(text: str) -> float:
    """Return a bare JSON number, as Bitfinex, Deribit and Kraken write them."""
    return float(text)


def pair(side: str, price: str, size: str, *more: Any) -> list[Any]:
    """Return a level as an array of price and size, as most venues write them."""
    return [price, size, *more]


def with_field(*path: Any, value: str = "bogus") -> Callable[[Any], Any]:
    """Return a function that changes the field at ``path`` of a frame."""

    def change(frame: Any) -> Any:
        place = frame
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = value
        return frame

    return change


#: All venues, by the names of their dialects.
VENUES = {name: venue_of(name) for name in dialects.NAMES}
