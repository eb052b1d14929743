"""The calls of a client that keep messages as the rows of a frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from wsclient.messages import Message, Subscription
from wsclient.runtime.core import Core
from wsclient.tracebacks import without_locals

if TYPE_CHECKING:
    from wsclient.notebook.rolling import RollingFrame


class _Tabular:
    """Base of the client: the calls that make frames."""

    _core: Core

    def _on(
        self,
        channels: tuple[str, ...],
        function: Callable[[Message], object],
        timeout: float | None,
        options: Mapping[str, Any],
        added: list[str],
    ) -> list[Subscription]:
        raise NotImplementedError

    @without_locals
    def frame(
        self,
        channel: str,
        maxlen: int = 10_000,
        *,
        timeout: float | None = None,
        **options: Any,
    ) -> RollingFrame:
        """Subscribe to ``channel``, and return a frame of its newest ``maxlen`` rows.

        No :meth:`subscribe` is needed, and none is made for a channel that is subscribed to
        already. The frame takes nothing from the client's queue: it is fed on the thread
        ``wsclient-callbacks``, as a function of :meth:`on`. Each call returns a frame of its own,
        whose ``to_pandas()``, ``to_polars()`` and ``to_arrow()`` return the rows of that moment.
        ``timeout`` and ``options`` are as in :meth:`subscribe`.

        The frame does not keep the client alive. Raises as :meth:`subscribe`, and
        ConfigurationError for a ``maxlen`` that is no whole number above 0.
        """
        # From a layer above: lazily, since few programs need it.
        from wsclient.notebook.rolling import RollingFrame

        frame = RollingFrame(self._core, channel, maxlen)
        try:
            self._on((channel,), frame.feed, timeout, options, frame.added)
            return frame
        except BaseException:  # in this frame: no interrupt comes between it and the return
            frame.close()
            raise
