"""Checks of options and arguments. Each raises ConfigurationError, which says what would work."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from difflib import get_close_matches
from typing import NoReturn

from wsclient.errors import ConfigurationError

__all__ = [
    "check_duration",
    "check_number",
    "check_positive",
    "check_timeout",
    "check_type",
    "check_whole",
    "hint",
    "refuse",
]


def check_timeout(timeout: object, name: str = "timeout") -> None:
    """Raise ConfigurationError for a timeout that is neither a number of seconds nor None.

    A negative timeout means polling, and infinity means the same as None.
    """
    if timeout is None or (type(timeout) in (float, int) and timeout == timeout):
        return  # the quick way: each recv() calls this
    if not _is_number(timeout) or timeout != timeout:
        raise ConfigurationError(f"{name} must be a number of seconds, or None, not {timeout!r}")


def check_number(name: str, value: object, least: float) -> None:
    """Raise ConfigurationError unless ``value`` is a finite number of at least ``least``."""
    if not _is_number(value) or not least <= value < float("inf"):  # type: ignore[operator]
        raise ConfigurationError(f"{name} must be a finite number from {least:g} up, not {value!r}")


def check_whole(name: str, value: object, least: int, or_none: bool = False) -> None:
    """Raise ConfigurationError unless ``value`` is a whole number of at least ``least``.

    With ``or_none``, here and below, None works too.
    """
    if value is None and or_none:
        return
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or not value >= least:  # type: ignore[operator]
        more = ", or None" if or_none else ""
        raise ConfigurationError(
            f"{name} must be a whole number from {least} up{more}, not {value!r}"
        )


def check_duration(name: str, value: object, or_none: bool = False) -> None:
    """Raise ConfigurationError unless ``value`` is a finite number of seconds above 0."""
    check_positive(name, value, or_none, " of seconds")


def check_positive(name: str, value: object, or_none: bool = False, unit: str = "") -> None:
    """Raise ConfigurationError unless ``value`` is a finite number above 0."""
    if value is None and or_none:
        return
    if not _is_number(value) or not 0 < value < float("inf"):  # type: ignore[operator]
        more = ", or None" if or_none else ""
        raise ConfigurationError(
            f"{name} must be a finite number{unit} above 0{more}, not {value!r}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_type(name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Raise ConfigurationError unless ``value`` is of a type; ``what`` describes that."""
    if not isinstance(value, kind):
        refuse(name, what, value)


def refuse(name: str, what: str, value: object) -> NoReturn:
    """Raise ConfigurationError without quoting the value, since some options are secrets."""
    raise ConfigurationError(f"{name} must be {what}, not {type(value).__name__}")


def hint(name: object, known: Iterable[str]) -> str:
    """Return "did you mean ...? " for an unknown name that looks like a known one, else nothing."""
    close = get_close_matches(str(name), sorted(known))
    return f"did you mean {' or '.join(close)}? " if close else ""
