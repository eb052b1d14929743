"""The run of a diagnosis: connect an ordinary client once, and examine the result.

The client's sockets report each step of the connect, and public calls do the rest. So the
addresses, the proxy, TLS, the limits and the error texts are those of every client. What no client
does runs on a thread of its own (``aside.py``).
"""

from __future__ import annotations

import codecs
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from wsclient.checks import check_timeout
from wsclient.client import WebSocketClient, client_of
from wsclient.dialect.base import Dialect
from wsclient.doctor.aside import GOODBYE, Aside
from wsclient.doctor.attempt import Attempt
from wsclient.doctor.case import Case
from wsclient.doctor.connected import ChecksOfConnection
from wsclient.doctor.connecting import checks_of_connect
from wsclient.doctor.legs import legs_of
from wsclient.doctor.report import NOT_REACHED, Check, Diagnosis, RouteDiagnosis
from wsclient.doctor.running import running
from wsclient.errors import ConfigurationError, NotSupported, ThreadStartError
from wsclient.options import Headers
from wsclient.threads.waiting import Deadline
from wsclient.tracebacks import without_locals
from wsclient.transport.transport import Sockets

__all__ = ["diagnose"]

#: Failures that are raised: they say nothing about the venue, unless its REST answer is the cause.
_NOT_REPORTED = (ConfigurationError, NotSupported, ThreadStartError)


@without_locals
def diagnose(
    url: str | Callable[[], str],
    *,
    dialect: str | Dialect = "generic",
    headers: Headers | Callable[[], Headers] | None = None,
    subprotocols: Sequence[str] | None = None,
    cookie: str | None = None,
    origin: str | None = None,
    credentials: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    proxy: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
    subscribe: str | Sequence[str] = (),
    timeout: float = 10.0,
) -> Diagnosis:
    """Connect once, step by step, and return what works, how fast, and what to do about failures.

    The options are those of :func:`wsclient.connect`. ``timeout`` (s) is its ``connect_timeout``,
    and limits the other steps too: each address gets a share of the remaining time, a message all
    but what is kept for the pings, a ping at most 5 s. ``subscribe`` names channels to subscribe to
    and to receive a message from.

    If the channels need several routes of the venue, each of them is examined by a client of its
    own, one after the other: the route of ``url`` first, as ``connect()`` opens it first. They
    share the time.

    The checks are, in order: ``rest`` (if the dialect requests a token first), ``dns``, ``tcp``
    (one for each address), ``proxy``, ``tls``, ``handshake``, ``clock`` (this machine's clock
    against the Date of the answer, which is exact to 1 s), ``login``, ``connection`` (whether the
    venue closes it at once), ``subscribe``, ``message`` and ``ping`` (the median round trip). If a
    step fails, those that need it are skipped.

    The result reports any fault of the venue, the network or this machine. No text in it has a
    header, a credential, the proxy's password, or a path or query of the URL. The call takes at
    most ``timeout`` (s), and 0.5 s per route to close.

    Raises ConfigurationError for an argument that cannot work, NotSupported for something that the
    dialect or the installation lacks, and ThreadStartError if no thread can be started.
    """
    channels = (subscribe,) if isinstance(subscribe, str) else tuple(subscribe)
    if not all(isinstance(channel, str) for channel in channels):
        raise ConfigurationError("subscribe must be the name of a channel, or several, as text")
    check_timeout(timeout)
    if not 0 < timeout < threading.TIMEOUT_MAX:
        raise ConfigurationError(f"timeout must be a number above 0 (s), not {timeout!r}")
    make = partial(
        client_of,
        dialect=dialect,
        headers=headers,
        subprotocols=subprotocols,
        cookie=cookie,
        origin=origin,
        credentials=credentials,
        proxy=proxy,
        ssl_context=ssl_context,
        ack_timeout=timeout,
        close_timeout=GOODBYE,
        max_retries=1,
        max_reconnects=0,
        ping_interval=None,
    )
    deadline = Deadline(timeout)
    attempt = Attempt()
    client = make(partial(Sockets, on_step=attempt.hear), url, connect_timeout=timeout)
    with contextlib.closing(client):
        legs = legs_of(client, url, channels)
        if len(legs) == 1:
            checks = _diagnosed(client, channels, deadline, attempt)
            return Diagnosis(client._where, checks, running())
    parts = []
    for number, leg in enumerate(legs):
        share = Deadline(deadline.remaining() / (len(legs) - number))
        attempt = Attempt()
        client = make(
            partial(Sockets, on_step=attempt.hear), leg.url, connect_timeout=share.remaining()
        )
        with contextlib.closing(client):
            checks = _diagnosed(client, leg.channels, share, attempt)
        parts.append(RouteDiagnosis(leg.route, client._where, leg.carries, leg.limits, checks))
    every = tuple(check for part in parts for check in part.checks)
    return Diagnosis(parts[0].url, every, running(), tuple(parts))


def _diagnosed(
    client: WebSocketClient, channels: tuple[str, ...], deadline: Deadline, attempt: Attempt
) -> tuple[Check, ...]:
    """Return the checks of a client that has not connected yet. The caller closes it."""
    client._core.log.has_alarms = False  # the diagnosis reports the failure
    case = Case(client, channels, deadline, attempt, Aside(deadline))
    with contextlib.closing(client), contextlib.closing(case.aside):
        checks = _examine(case)
    return _with_missing(case, checks)


def _examine(case: Case) -> list[Check]:
    """Connect; return the checks of the connection if it opens.

    Raises the errors of options that cannot work, and ThreadStartError.
    """
    codecs.lookup("idna")  # the first lookup loads it, and would seem slow
    attempt, aside = case.attempt, case.aside
    attempt.run(case.client, case.deadline.remaining())
    failure = attempt.failure
    if isinstance(failure, _NOT_REPORTED) and attempt.last.name != "rest":
        raise failure
    if isinstance(failure, ssl.SSLCertVerificationError):
        aside.look_at_certificate(attempt.address, case.options)
    elif attempt.untried:
        aside.try_all(attempt.untried)
    checks = list(ChecksOfConnection(case).run()) if failure is None else []
    aside.join()
    return checks


def _with_missing(case: Case, checks_of_connection: Iterable[Check]) -> tuple[Check, ...]:
    """Return all checks, with those that were not reached."""
    checks = [*checks_of_connect(case), *checks_of_connection]
    missing = _expected(case)
    for check in checks:
        if check.name in missing:
            missing.remove(check.name)
    checks += [Check(name, "skipped", None, NOT_REACHED) for name in missing]
    return tuple(checks)


def _expected(case: Case) -> list[str]:
    """Return the names of the checks that are made if no step fails."""
    is_secure = case.where.startswith("wss")
    if case.attempt.find("target") is not None:
        is_secure = case.attempt.address.is_secure  # REST may have given another address
    checks = {
        "dns": True,
        "tcp": True,
        "proxy": case.options.proxy is not None,
        "tls": is_secure,
        "handshake": True,
        "clock": True,
        "login": case.logs_in,
        "connection": True,
        "subscribe": bool(case.channels),
        "message": True,
        "ping": True,
    }
    return [name for name, is_made in checks.items() if is_made]
