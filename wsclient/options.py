"""Every option of a client, its default, and the check that it can work."""

from __future__ import annotations

import difflib
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NoReturn

from wsclient.errors import ConfigurationError
from wsclient.sansio.backoff import Verdict, classify

if TYPE_CHECKING:
    from wsclient.messages import Message
    from wsclient.sansio.dialect import Dialect

__all__ = ["OVERFLOW_POLICIES", "Options"]

OVERFLOW_POLICIES = ("drop_oldest", "drop_newest", "conflate", "error")

Headers = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What ``connect()`` and ``WebSocketClient`` take as keywords; the README's section Options
    says what each means. Durations are seconds, sizes bytes; None means no bound, or the
    dialect's own value.

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
    name: str | None = None

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "ack_timeout", "close_timeout", "max_retry_delay"):
            _check_positive(name, getattr(self, name))
        for name in (
            "ping_interval",
            "ping_timeout",
            "silence_timeout",
            "stale_after",
            "stall_timeout",
            "send_timeout",
            "queue_size",
            "queue_bytes",
            "max_message_size",
        ):
            if getattr(self, name) is not None:
                _check_positive(name, getattr(self, name))
        _check_least("max_retries", self.max_retries, 1)
        _check_least("retry_delay", self.retry_delay, 0)
        if self.max_reconnects is not None:
            _check_least("max_reconnects", self.max_reconnects, 0)
        check_overflow(self.overflow)

    def __reduce__(self) -> NoReturn:
        raise TypeError("Options may hold credentials, and are never pickled")

    def check_credentials(self, dialect: Dialect) -> None:
        """Raise ConfigurationError for credentials that ``dialect`` would never use."""
        if self.credentials is not None and not dialect.takes_credentials:
            raise ConfigurationError(
                f"the {dialect.name} dialect has no login, so credentials are of no use to it; "
                "leave them out, or pass a dialect that logs in"
            )

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Options:
        """Options from keywords; an unknown one raises ConfigurationError with the known ones."""
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


def check_overflow(policy: str) -> None:
    if policy not in OVERFLOW_POLICIES:
        raise ConfigurationError(
            f"overflow must be one of {', '.join(OVERFLOW_POLICIES)}, not {policy!r}"
        )


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, (int, float)) or not value > 0:
        raise ConfigurationError(f"{name} must be a number above 0, not {value!r}")


def _check_least(name: str, value: object, least: int) -> None:
    if not isinstance(value, (int, float)) or not value >= least:
        raise ConfigurationError(f"{name} must be a number from {least} up, not {value!r}")
