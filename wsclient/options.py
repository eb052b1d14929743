"""The options of a client, their defaults and their checks."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, NoReturn, get_args

from wsclient.checks import check_duration, check_number, check_type, check_whole, hint, refuse
from wsclient.errors import ConfigurationError
from wsclient.stream.declared import types_of
from wsclient.tracebacks import without_locals
from wsclient.verdicts import Verdict, classify

if TYPE_CHECKING:
    from wsclient.dialect.base import Dialect
    from wsclient.messages import Message

__all__ = ["OVERFLOW_POLICIES", "Headers", "Options", "Overflow", "check_overflow", "given_options"]

Overflow = Literal["drop_oldest", "drop_newest", "conflate", "error"]
OVERFLOW_POLICIES: tuple[str, ...] = get_args(Overflow)

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
    """The keyword arguments of ``connect()`` and ``WebSocketClient()``, with their defaults.

    They are checked when the client is made: ConfigurationError for a value that cannot work.
    Durations are finite numbers of seconds (s).

    ``dialect`` ("generic")
        the venue's protocol: one of ``wsclient.dialects.NAMES``, or a ``Dialect`` object
    ``headers`` (None)
        for the handshake: a mapping, or a function that returns one and is called at each attempt
        (``url`` may be a function too); may include ``Host``, but no other header that the
        handshake writes by itself
    ``subprotocols`` (None)
        for the handshake: a list of text, in order of preference
    ``cookie`` (None)
        for the handshake: text; the venue's cookies are ignored
    ``origin`` (None)
        for the handshake: text, the header ``Origin``
    ``credentials`` (None)
        for dialects that log in: a mapping, or a function that returns one
    ``proxy`` (None)
        a URL: ``http://``, ``socks5://`` or ``socks5h://`` (extra ``proxy``); those of the
        environment are ignored
    ``ssl_context`` (None)
        your own ``ssl.SSLContext``; the default verifies, with TLS 1.2 or newer
    ``connect_timeout`` (10.0)
        the time (s) for one whole attempt, from DNS to the venue's answer to the login
    ``max_retries`` (3)
        the attempts of one ``connect()``, the first included
    ``max_reconnects`` (None)
        the failed reconnects in a row, after ``connect()``; None: no limit
    ``retry_delay`` (1.0)
        the first backoff (s); doubled each time
    ``max_retry_delay`` (60.0)
        the longest backoff (s)
    ``jitter`` (True)
        True: full jitter; False: the delays as they are
    ``classify`` (the built-in)
        a function from an exception to a ``Verdict``: is it worth another attempt?
    ``ping_interval`` (20.0)
        the time (s) between protocol pings; None: no pings
    ``ping_timeout`` (10.0)
        after this time (s) without a pong or any byte the connection is half-open; None: never
    ``silence_timeout`` (None)
        after this time (s) without a frame other than pongs the connection is dead; None: the
        dialect's own value
    ``stale_after`` (None)
        after this time (s) without data of one channel the client resubscribes to it, then replaces
        the connection; None: never
    ``stall_timeout`` (10.0)
        the time (s) that a frame may stop half way; None: no limit
    ``send_timeout`` (10.0)
        after this time (s) without the peer taking any byte the connection is dead; None: never
    ``ack_timeout`` (20.0)
        the time (s) for the venue's answer to a subscribe, summed over the connections that it was
        sent on
    ``close_timeout`` (1.0)
        the time (s) for ``close()``; the peer has half of it to answer the close frame
    ``queue_size`` (100000)
        the bound of each queue, in messages; None: no bound
    ``queue_bytes`` (268435456)
        the bound of each queue, in bytes (payload + 240 per message); None: no bound. What is
        handed to the consumer does not count: about an eighth of the bounds, or what
        ``recv_batch()`` asks for
    ``overflow`` ("drop_oldest")
        what a full queue does: ``"drop_oldest"``, ``"drop_newest"``, ``"conflate"`` (keep the
        newest message of each channel) or ``"error"``
    ``max_message_size`` (16777216)
        in bytes; larger messages are refused with close code 1009; None: no limit
    ``decimal`` (False)
        True: numbers with a fraction become ``Decimal``
    ``deliver_unhandled`` (False)
        True: messages of unknown type are delivered too
    ``validate`` (None)
        a function called with each message, before it is decoded to a declared type; if it raises,
        the message is skipped, and a gap marks it
    ``decode`` (None)
        the type of ``message.data``, a mapping from channels to types, or a function from a channel
        to its type; None: plain data
    ``name`` (None)
        text for logs and statistics; the host by default
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
    overflow: Overflow = "drop_oldest"
    max_message_size: int | None = 16 * 1024 * 1024
    decimal: bool = False
    deliver_unhandled: bool = False
    validate: Callable[[Message], object] | None = None
    decode: Any = None
    name: str | None = None

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            check_duration(name, getattr(self, name))
        for name in _DURATIONS_OR_NONE:
            check_duration(name, getattr(self, name), or_none=True)
        check_number("retry_delay", self.retry_delay, 0.0)
        for name in ("queue_size", "queue_bytes", "max_message_size"):
            check_whole(name, getattr(self, name), 1, or_none=True)
        if self.max_retries != float("inf"):
            check_whole("max_retries", self.max_retries, 1)
        check_whole("max_reconnects", self.max_reconnects, 0, or_none=True)
        for name in ("jitter", "decimal", "deliver_unhandled"):
            check_type(name, getattr(self, name), bool, "True or False")
        for name in ("cookie", "origin", "proxy", "name"):
            check_type(name, getattr(self, name), (str, type(None)), "text, or None")
        for name in ("headers", "credentials"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                check_type(name, value, Mapping, "a mapping, a function that returns one, or None")
        if not callable(self.classify):
            refuse("classify", "a function that takes an exception", self.classify)
        if self.validate is not None and not callable(self.validate):
            refuse("validate", "a function that takes a message, or None", self.validate)
        kinds = (ssl.SSLContext, type(None))
        check_type("ssl_context", self.ssl_context, kinds, "an ssl.SSLContext, or None")
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
            raise ConfigurationError(
                f"unknown option {', '.join(unknown)}; {hint(unknown[0], known)}the options are "
                f"{', '.join(sorted(known))}"
            )
        return cls(**options)


# A traceback must not show the arguments of the generated function.
Options.__init__ = without_locals(Options.__init__)  # type: ignore[method-assign]

_NAMES = tuple(field.name for field in fields(Options))


def given_options(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options among the arguments of a call, and its ``unknown`` keywords.

    For a function whose keywords are those of :class:`Options`; ``arguments`` are its locals.
    """
    return {**{name: arguments[name] for name in _NAMES}, **arguments["unknown"]}


def check_overflow(policy: str) -> None:
    if policy not in OVERFLOW_POLICIES:
        raise ConfigurationError(
            f"overflow must be one of {', '.join(OVERFLOW_POLICIES)}, not {policy!r}"
        )


def _check_subprotocols(given: object) -> None:
    what = "a list of text, or None"
    if given is None:
        return
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        refuse("subprotocols", f"{what} (in order of preference)", given)
    for each in given:
        if not isinstance(each, str):
            refuse("subprotocols", what, each)
