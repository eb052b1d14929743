"""The checks that public calls have in common, and how a ``with`` block closes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import partial

from wsclient.errors import ConfigurationError
from wsclient.events import Event
from wsclient.threads.workers import is_worker_thread

__all__ = [
    "check_channels",
    "check_event_types",
    "check_venue_options",
    "close_quietly",
    "end_block",
    "forbid_worker_threads",
]

#: The arguments of the calls that subscribe; other keywords go to the dialect.
_ARGUMENTS = ("timeout", "queue_size", "overflow", "decode", "verify_checksum")
#: How alike two names are that may be the same, misspelled: ``timeot``, ``time_out``.
_ALIKE = 0.8


def forbid_worker_threads() -> None:
    """Raise RuntimeError on wsclient's own threads, where a blocking call would wait for itself."""
    if is_worker_thread():
        raise RuntimeError(
            "this blocking call was made on wsclient's own reader or watchdog thread, where it "
            "would wait for itself; use client.on(), or a thread of your own"
        )


def check_channels(channels: tuple[str, ...]) -> None:
    """Raise ConfigurationError unless ``channels`` are one or more texts."""
    if not channels:
        raise ConfigurationError("name at least one channel")
    for channel in channels:
        if not isinstance(channel, str):
            raise ConfigurationError(
                f"a channel must be text, not {type(channel).__name__}; "
                "several channels are several arguments, subscribe(*channels), or for on() a list"
            )


def check_venue_options(names: Iterable[str]) -> None:
    """Raise ConfigurationError for an option for the venue that looks like an argument of ours."""
    for name in names:
        for meant in get_close_matches(name, _ARGUMENTS, 1, _ALIKE):
            raise ConfigurationError(
                f"{name!r} is not passed to the venue; did you mean the argument {meant!r}? "
                "subscribe() and on() take timeout, order_book() also verify_checksum, reader() "
                "also queue_size, overflow and decode"
            )


def check_event_types(call: str, types: tuple[type[Event], ...]) -> tuple[type[Event], ...]:
    """Return the types of events that ``call`` was given, all if none.

    Raises ConfigurationError for anything but a type of events.
    """
    for kind in types:
        if not (isinstance(kind, type) and issubclass(kind, Event)):
            raise ConfigurationError(f"{call}() takes types from wsclient.events, not {kind!r}")
    return types or (Event,)


def end_block(
    close: Callable[..., None], kind: type[BaseException] | None, *, is_draining: bool
) -> None:
    """Close a client at the end of its ``with`` block, as :func:`close_quietly` does.

    A drain that another thread has begun goes on, unless the block has raised.
    """
    is_draining = is_draining and kind is None
    close_quietly(partial(close, drain=True) if is_draining else close, kind)


def close_quietly(close: Callable[[], None], kind: type[BaseException] | None) -> None:
    """Call ``close`` at the end of a ``with`` block, without hiding an exception from its body.

    ``kind`` is the type of that exception, None without one.
    """
    try:
        close()
    except Exception:
        if kind is None:
            raise
