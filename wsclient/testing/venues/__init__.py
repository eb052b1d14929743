"""The protocols of venues, one file each, which write what their dialects read.

The protocol of a dialect is the `MarketProtocol` in the module with the dialect's name. It needs no
entry anywhere: `FakeVenue("acme")` and `wsclient serve --dialect acme` find the module `acme`.

The sources are those of the dialects, where each stands beside its fact. If it is not known for
sure how a venue answers for a channel that it does not have, the channel is refused, so that
mistakes show. Order books have ten levels per side, whatever depth is requested.
"""

from __future__ import annotations

from wsclient.registry import Registry
from wsclient.testing.protocols import MarketProtocol

__all__ = ["NAMES", "find"]

_registry = Registry(
    __name__,
    __path__,
    MarketProtocol,
    lambda kind: kind.dialect.name if hasattr(kind, "dialect") else None,
)

#: The names of the dialects that have a protocol here.
NAMES = _registry.names


def find(name: str) -> type[MarketProtocol]:
    """Return the protocol of a dialect. Raises ValueError if it has none here."""
    kind = _registry.find(name)
    if kind is None:
        raise ValueError(f"there is no protocol {name!r} of a fake venue, only {', '.join(NAMES)}")
    return kind
