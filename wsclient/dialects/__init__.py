"""Venues, one file each. They are pure, and import ``wsclient.sansio`` only."""

from __future__ import annotations

from wsclient.dialects.bitfinex import Bitfinex
from wsclient.dialects.deribit import Deribit
from wsclient.dialects.generic import Generic
from wsclient.dialects.kraken import Kraken
from wsclient.errors import ConfigurationError
from wsclient.sansio.dialect import Dialect

__all__ = ["Bitfinex", "Deribit", "Generic", "Kraken", "find"]

_BY_NAME: dict[str, type[Dialect]] = {
    "bitfinex": Bitfinex,
    "deribit": Deribit,
    "generic": Generic,
    "kraken": Kraken,
}


def find(dialect: str | Dialect) -> Dialect:
    """A dialect by name, or the object itself. Raises ConfigurationError for an unknown name."""
    if isinstance(dialect, Dialect):
        return dialect
    if isinstance(dialect, type) and issubclass(dialect, Dialect):
        raise ConfigurationError(
            f"dialect must be one of {', '.join(_BY_NAME)}, or an object: {dialect.__name__}()"
        )
    kind = _BY_NAME.get(dialect) if isinstance(dialect, str) else None
    if kind is None:
        raise ConfigurationError(
            f"dialect must be one of {', '.join(_BY_NAME)}, or a wsclient.Dialect, not {dialect!r}"
        )
    return kind()
