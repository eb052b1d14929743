"""The options of a client, their defaults and their checks."""

from __future__ import annotations

import difflib
import numbers
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NoReturn

from wsclient.errors import ConfigurationError
from wsclient.stream.declared import types_of
from wsclient.tracebacks import without_locals
from wsclient.verdicts import Verdict, classify

if TYPE_CHECKING:
    from wsclient.dialect.base import Dialect
    from wsclient.messages import Message

__all__ = [
    "OVERFLOW_POLICIES",
    "Options",
    "check_number",
    "check_overflow",
    "check_timeout",
    "check_whole",
]

OVERFLOW_POLICIES = ("drop_oldest", "drop_newest", "conflate", "error")

_DURATIONS = ("connect_timeout", "ack_timeout", "close_timeout", "max_retry_delay")
_DURATIONS_OR_NONE = (
    "ping_interval",
    "ping_timeout",
    "silence_timeout",
    "stale_after",
    "stall_timeout",
    "send_timeout",
)

Headers = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Options:
    """The keyword arguments of ``connect()`` and ``WebSocketClient``.

    ``wsclient manual options`` explains each. Durations are finite numbers of seconds, sizes are
    bytes; None means no limit, or the dialect's own value.

    Raises ConfigurationError for a value that cannot work.
    """

    dialect: str | Dialect = "generic"
    headers: Headers | Callable[[], Headers] | None = field(default=None, repr=False)
    subprotocols: Sequence[str] | None = None
    cookie: str | None = field(default=None, repr=False)
    origin: str | None = None
    credentials: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = field(
        default=None, repr=False
    )
    proxy: str | None = field(default=None, repr=False)
    ssl_context: ssl.SSLContext | None = None
    connect_timeout: float = 10.0
    max_retries: int = 3
    max_reconnects: int | None = None
    retry_delay: float = 1.0
    max_retry_delay: float = 60.0
    jitter: bool = True
    classify: Callable[[BaseException], Verdict] = classify
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 10.0
    silence_timeout: float | None = None
    stale_after: float | None = None
    stall_timeout: float | None = 10.0
    send_timeout: float | None = 10.0
    ack_timeout: float = 20.0
    close_timeout: float = 1.0
    queue_size: int | None = 100_000
    queue_bytes: int | None = 256 * 1024 * 1024
    overflow: str = "drop_oldest"
    max_message_size: int | None = 16 * 1024 * 1024
    decimal: bool = False
    deliver_unhandled: bool = False
    validate: Callable[[Message], object] | None = None
    decode: Any = None
    name: str | None = None

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            _check_duration(name, getattr(self, name))
        for name in _DURATIONS_OR_NONE:
            if getattr(self, name) is not None:
                _check_duration(name, getattr(self, name), ", or None")
        check_number("retry_delay", self.retry_delay, 0.0)
        for name in ("queue_size", "queue_bytes", "max_message_size"):
            check_whole(name, getattr(self, name), 1, or_none=True)
        if self.max_retries != float("inf"):
            check_whole("max_retries", self.max_retries, 1)
        check_whole("max_reconnects", self.max_reconnects, 0, or_none=True)
        for name in ("jitter", "decimal", "deliver_unhandled"):
            _check_type(name, getattr(self, name), bool, "True or False")
        for name in ("cookie", "origin", "proxy", "name"):
            _check_type(name, getattr(self, name), (str, type(None)), "text, or None")
        for name in ("headers", "credentials"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                _check_type(name, value, Mapping, "a mapping, a function that returns one, or None")
        if not callable(self.classify):
            _refuse("classify", "a function that takes an exception", self.classify)
        if self.validate is not None and not callable(self.validate):
            _refuse("validate", "a function that takes a message, or None", self.validate)
        kinds = (ssl.SSLContext, type(None))
        _check_type("ssl_context", self.ssl_context, kinds, "an ssl.SSLContext, or None")
        _check_subprotocols(self.subprotocols)
        check_overflow(self.overflow)
        types_of(self.decode)

    def __reduce__(self) -> NoReturn:
        raise TypeError("Options cannot be pickled: they may hold credentials")

    def check_credentials(self, dialect: Dialect) -> None:
        """Raise ConfigurationError if there are credentials that ``dialect`` would never use."""
        if self.credentials is not None and not dialect.takes_credentials:
            raise ConfigurationError(
                f"the {dialect.name} dialect has no login, so it cannot use credentials; "
                "leave them out, or pass a dialect that logs in"
            )

    @classmethod
    @without_locals
    def of(cls, options: Mapping[str, Any]) -> Options:
        """Return Options made of keywords.

        Raises ConfigurationError for an unknown keyword; its text lists the known ones.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(options) - known)
        if unknown:
            close = difflib.get_close_matches(unknown[0], known)
            hint = f"did you mean {' or '.join(close)}? " if close else ""
            raise ConfigurationError(
                f"unknown option {', '.join(unknown)}; {hint}the options are "
                f"{', '.join(sorted(known))}"
            )
        return cls(**options)


# A traceback must not show the arguments of the generated function.
Options.__init__ = without_locals(Options.__init__)  # type: ignore[method-assign]


def check_overflow(policy: str) -> None:
    if policy not in OVERFLOW_POLICIES:
        raise ConfigurationError(
            f"overflow must be one of {', '.join(OVERFLOW_POLICIES)}, not {policy!r}"
        )


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
    """Raise ConfigurationError unless ``value`` is a whole number of at least ``least``."""
    if value is None and or_none:
        return
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or not value >= least:  # type: ignore[operator]
        more = ", or None" if or_none else ""
        raise ConfigurationError(
            f"{name} must be a whole number from {least} up{more}, not {value!r}"
        )


def _check_duration(name: str, value: object, more: str = "") -> None:
    if not _is_number(value) or not 0 < value < float("inf"):  # type: ignore[operator]
        what = f"{name} must be a finite number of seconds above 0{more}"
        raise ConfigurationError(f"{what}, not {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _check_type(name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    if not isinstance(value, kind):
        _refuse(name, what, value)


def _check_subprotocols(given: object) -> None:
    what = "a list of text, or None"
    if given is None:
        return
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        _refuse("subprotocols", f"{what} (in order of preference)", given)
    for each in given:
        if not isinstance(each, str):
            _refuse("subprotocols", what, each)


def _refuse(name: str, what: str, value: object) -> NoReturn:
    """Raise ConfigurationError without quoting the value, since some options are secrets."""
    raise ConfigurationError(f"{name} must be {what}, not {type(value).__name__}")
