"""The dialects of the venues, one file each, found by name.

The dialect ``acme_spot`` is the class in the module ``acme_spot`` whose attribute ``name`` is
``"acme_spot"``, usually called ``AcmeSpot``. It needs no entry anywhere: it is found because its
file is here, and is imported when it is first used. ``wsclient.dialects.AcmeSpot`` is that class.

Another package adds a dialect by an entry point of the group ``wsclient.dialects``, whose name is
that of the dialect and whose value is the class, in its ``setup.cfg``::

    [options.entry_points]
    wsclient.dialects =
        acme = acme_package.dialect:Acme

The name of a dialect of this package cannot be taken.

Dialects are pure: they do no I/O and import only :mod:`wsclient.dialect`.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING

from wsclient.dialect import ConfigurationError, Dialect
from wsclient.registry import Registry

if TYPE_CHECKING:  # what type checkers and editors know; nothing else needs these lines
    from wsclient.dialects.binance import Binance as Binance
    from wsclient.dialects.binance_futures import BinanceFutures as BinanceFutures
    from wsclient.dialects.binance_ws_api import BinanceWsApi as BinanceWsApi
    from wsclient.dialects.bitfinex import Bitfinex as Bitfinex
    from wsclient.dialects.bybit import Bybit as Bybit
    from wsclient.dialects.coinbase_exchange import CoinbaseExchange as CoinbaseExchange
    from wsclient.dialects.deribit import Deribit as Deribit
    from wsclient.dialects.generic import Generic as Generic
    from wsclient.dialects.kraken import Kraken as Kraken
    from wsclient.dialects.kucoin import Kucoin as Kucoin
    from wsclient.dialects.okx import OKX as OKX

__all__ = ["GROUP", "NAMES", "find"]

#: The group of the entry points by which other packages add dialects.
GROUP = "wsclient.dialects"

_registry = Registry(__name__, __path__, Dialect, lambda kind: vars(kind).get("name"))

#: The names of this package's dialects.
NAMES = _registry.names


def find(dialect: str | Dialect) -> Dialect:
    """Return a new dialect by name, or ``dialect`` itself if it is a dialect object.

    Names of other packages are looked up after those of this one. Raises ConfigurationError for an
    unknown name, for a class instead of an object, and for a dialect of another package that cannot
    be loaded.
    """
    if isinstance(dialect, Dialect):
        return dialect
    if isinstance(dialect, type) and issubclass(dialect, Dialect):
        raise ConfigurationError(
            f"dialect must be one of {', '.join(NAMES)}, or an object: {dialect.__name__}()"
        )
    if not isinstance(dialect, str):
        raise _unknown(dialect, NAMES)
    kind = _registry.find(dialect)
    return _installed(dialect) if kind is None else kind()


def _installed(name: str) -> Dialect:
    """Return a new dialect of another package."""
    from importlib.metadata import entry_points  # slow to import, and rarely needed

    others = entry_points(group=GROUP)
    if name not in others.names:
        raise _unknown(name, sorted({*NAMES, *others.names}))
    point = others[name]
    try:
        kind = point.load()
        if isinstance(kind, type) and issubclass(kind, Dialect):
            return kind()
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"the dialect {name!r} cannot be loaded from {point.value}: {error!r}"
        ) from error
    raise ConfigurationError(
        f"the entry point {name!r} of the group {GROUP} must be a class derived from "
        f"wsclient.Dialect, but {point.value} is {kind!r}"
    )


def _unknown(dialect: object, names: Sequence[str]) -> ConfigurationError:
    hint = ""
    if isinstance(dialect, str) and (close := get_close_matches(dialect.lower(), names)):
        hint = f"; did you mean {' or '.join(map(repr, close))}?"
    return ConfigurationError(
        f"dialect must be one of {', '.join(names)}, or a wsclient.Dialect, not {dialect!r}{hint}"
    )


if not TYPE_CHECKING:  # else type checkers would accept any name

    def __getattr__(name: str) -> object:
        if name in NAMES:  # else it could be had only after its import
            return import_module(f"{__name__}.{name}")
        kind = _registry.class_named(name)
        if kind is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return kind


def __dir__() -> list[str]:
    return sorted({*globals(), *_registry.class_names()})
