"""Keeps Ctrl-C back while a step must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

__all__ = ["Shield"]


class Shield:
    """While it is entered in the main thread, SIGINT waits; its handler is called at the exit.

    Where the thread that plays is the caller's own, an interrupt between two statements could lose
    a message or deliver it twice. Other threads are never interrupted.
    """

    __slots__ = ("_handler", "_waiting")

    def __init__(self) -> None:
        self._handler: Any = None
        self._waiting: tuple[int, Any] | None = None

    def __enter__(self) -> Shield:
        if get_ident() == threading.main_thread().ident:
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._handler = handler
                signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        handler, self._handler = self._handler, None
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
            if self._waiting is not None:
                waiting, self._waiting = self._waiting, None
                handler(*waiting)

    def _note(self, number: int, frame: Any) -> None:
        self._waiting = number, frame

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Let Ctrl-C pass, for a user's function."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()
