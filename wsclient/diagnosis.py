"""Diagnosis of a connection: each step from this machine to a venue, timed, with advice.

It examines an ordinary client with a single attempt. The client's sockets report each step of the
connect (:class:`wsclient.transport.transport.Sockets`), and public calls do the rest. So the
addresses, the proxy, TLS, the limits and the error texts are those of every client.

Two things, which no client does, run on a thread of their own: connections to the addresses that
the client did not try, and a look at a certificate that does not verify. The latter speaks only
TLS: no byte of ours goes over a connection that is not verified.
"""

from __future__ import annotations

import codecs
import contextlib
import email.utils
import queue
import socket
import ssl
import statistics
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from wsclient import advice
from wsclient.advice import Finding
from wsclient.client import WebSocketClient, client_of
from wsclient.dialect.base import Dialect
from wsclient.errors import (
    ClientClosed,
    ConfigurationError,
    ConnectionLost,
    NotSupported,
    SubscriptionError,
    WaitTimeout,
    WSClientError,
)
from wsclient.options import Headers, check_timeout
from wsclient.text import one_line
from wsclient.threads.waiting import SLICE, Deadline
from wsclient.threads.workers import WorkerThread
from wsclient.tracebacks import without_locals
from wsclient.transport.addresses import Address, parse_url
from wsclient.transport.dialing import connect_to, open_socket, weakness_of
from wsclient.transport.sockets import Cancellable
from wsclient.transport.transport import Sockets

__all__ = ["Check", "Diagnosis", "Status", "diagnose"]

Status = Literal["ok", "warning", "failed", "skipped"]

#: The detail of a check that needs one that failed.
NOT_REACHED = "not reached"
#: A lookup that takes longer (s) gets a warning.
SLOW_DNS = 1.0
#: A clock that is off by more (s) gets a warning: venues refuse signed logins.
MAX_SKEW = 3.0
#: How long (s) to wait for a venue that closes the connection at once.
SETTLE = 0.25
#: Number of pings, the pause (s) between two, how long (s) to wait for each pong, and how much of
#: the time (s) is kept for them while waiting for a message.
PINGS = 5
PING_PAUSE = 0.1
PING_TIMEOUT = 5.0
PING_RESERVE = 2.0
#: The most time (s) that each connection made aside may take; with less than MIN_SHARE (s) for it,
#: none is made.
ASIDE = 3.0
MIN_SHARE = 0.05
#: How long (s) to wait at the end for the client's closing handshake, and for a thread.
GOODBYE = 0.5

#: The longest part (characters) of a venue's header that is shown.
MAX_SHOWN = 60

#: Reports between two steps: how the first one ended.
_MARKS = ("addresses", "refused", "connected")
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name


@dataclass(frozen=True)
class Check:
    """One step of a diagnosis.

    ``detail`` is what was found, ``seconds`` how long it took (None if it was not done), and
    ``advice`` what to do about a failure or a warning.
    """

    name: str
    status: Status
    seconds: float | None
    detail: str
    advice: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The result of :func:`diagnose`; ``str()`` is a table.

    ``url`` is the URL without its path and query, ``checks`` are the steps in order.
    """

    url: str
    checks: tuple[Check, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether no check has failed; there may be warnings."""
        return all(check.status != "failed" for check in self.checks)

    def __str__(self) -> str:
        return self.table()

    def table(
        self, width: int = 100, paint: Callable[[Status, str], str] = lambda _, text: text
    ) -> str:
        """Return the checks as aligned lines of at most ``width`` characters.

        ``paint`` colours the word of a status and the last line.
        """
        indent = " " * 32
        lines = [self.url, ""]
        for check in self.checks:
            if check.detail == NOT_REACHED:
                continue
            took = "-" if check.seconds is None else f"{check.seconds * 1000:,.1f} ms"
            word = check.status.upper() if check.status == "failed" else check.status
            head = f"{paint(check.status, f'{word:<7}')}  {check.name:<10} {took:>10}  "
            room = max(20, width - len(indent))
            lines.append(head + textwrap.fill(check.detail, room).replace("\n", f"\n{indent}"))
            if check.advice:
                text = textwrap.fill(
                    check.advice, room, initial_indent="-> ", subsequent_indent="   "
                )
                lines.append(textwrap.indent(text, indent))
        rest = [check.name for check in self.checks if check.detail == NOT_REACHED]
        if rest:
            text = textwrap.fill(", ".join(rest), width, initial_indent="not reached: ")
            lines += ["", paint("skipped", text)]
        return "\n".join([*lines, "", self._verdict(paint)])

    def _verdict(self, paint: Callable[[Status, str], str]) -> str:
        failed = [check.name for check in self.checks if check.status == "failed"]
        warned = [check.name for check in self.checks if check.status == "warning"]
        if failed:
            return paint("failed", f"Not healthy: {', '.join(dict.fromkeys(failed))} failed.")
        if warned:
            return paint("warning", f"Healthy, but look at {', '.join(dict.fromkeys(warned))}.")
        return paint("ok", "Healthy.")


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

    The checks are, in order: ``rest`` (if the dialect requests a token first), ``dns``, ``tcp``
    (one for each address), ``proxy``, ``tls``, ``handshake``, ``clock`` (this machine's clock
    against the Date of the answer, which is exact to 1 s), ``login``, ``connection`` (whether the
    venue closes it at once), ``subscribe``, ``message`` and ``ping`` (the median round trip). If a
    step fails, those that need it are skipped.

    The result reports any fault of the venue, the network or this machine. No text in it has a
    header, a credential, the proxy's password, or a path or query of the URL. The call takes at
    most ``timeout`` (s), and 0.5 s to close.

    Raises ConfigurationError for an argument that cannot work, and NotSupported for something that
    the dialect or the installation lacks.
    """
    channels = (subscribe,) if isinstance(subscribe, str) else tuple(subscribe)
    if not all(isinstance(channel, str) for channel in channels):
        raise ConfigurationError("subscribe must be the name of a channel, or several, as text")
    check_timeout(timeout)
    if not 0 < timeout < threading.TIMEOUT_MAX:
        raise ConfigurationError(f"timeout must be a number above 0 (s), not {timeout!r}")
    steps = _Steps()
    client = client_of(
        partial(Sockets, on_step=steps.hear),
        url,
        dialect=dialect,
        headers=headers,
        subprotocols=subprotocols,
        cookie=cookie,
        origin=origin,
        credentials=credentials,
        proxy=proxy,
        ssl_context=ssl_context,
        connect_timeout=timeout,
        ack_timeout=timeout,
        close_timeout=GOODBYE,
        max_retries=1,
        max_reconnects=0,
        ping_interval=None,
    )
    examination = _Examination(client, steps, channels, Deadline(timeout))
    try:
        examination.run()
    finally:
        examination.close()
    return examination.report()


class _Step(NamedTuple):
    """A step that the client reached, and when: monotonic (s), and since the epoch (s)."""

    name: str
    about: Any
    at: float
    wall: float

    @classmethod
    def now(cls, name: str, about: Any = None) -> _Step:
        """Return a step that is reached now."""
        return cls(name, about, time.monotonic(), time.time())


class _Result(NamedTuple):
    """The result of a check. ``seconds`` is set if it is not the time that the check took."""

    status: Status
    detail: str
    advice: str = ""
    seconds: float | None = None


class _Steps:
    """The steps of the client's attempt. Only its reader writes them, until that has ended."""

    def __init__(self) -> None:
        self.reached: list[_Step] = []
        #: How TLS was agreed on, and the venue's certificate.
        self.tls: tuple[str, Mapping[str, Any]] = ("", {})
        #: Pongs (True) and the end of the connection (False).
        self.changes: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def hear(self, name: str, about: Any) -> None:
        """Note a step. Called on the thread of the client's reader."""
        if name == "pong":
            self.changes.put(True)
            return
        last = self.last
        if name == "handshake" and last is not None and last.name == "tls":
            sock: ssl.SSLSocket = last.about
            cipher, _, bits = sock.cipher() or ("no cipher", "", 0)
            self.tls = f"{sock.version()}, {cipher}, {bits} bit", sock.getpeercert() or {}
        self.reached.append(_Step.now(name, about))

    @property
    def last(self) -> _Step | None:
        """The last step that the attempt reached."""
        met = [step for step in self.reached if step.name not in _MARKS]
        return met[-1] if met else None

    def find(self, name: str) -> _Step | None:
        """Return the first step of that name; None if the attempt did not reach one."""
        return next((step for step in self.reached if step.name == name), None)


class _Examination:
    """The examination of a client: call ``run``, then ``close``, then ``report``."""

    def __init__(
        self,
        client: WebSocketClient,
        steps: _Steps,
        channels: tuple[str, ...],
        deadline: Deadline,
    ) -> None:
        self._client = client
        self._core = client._core
        self._options = client._core.options
        self._steps = steps
        self._channels = channels
        self._deadline = deadline
        self._began = _Step.now("begin")
        self._ended = self._began
        self._failure: BaseException | None = None
        self._aside = _Aside(deadline)
        #: The addresses that the client did not try: address, time (s), and error.
        self._tried: list[tuple[Any, float, OSError | None]] = []
        self._unverified: Mapping[str, Any] = {}
        self._of_connection: list[Check] = []
        self._asked_at = 0.0
        self._core.at_end.append(partial(steps.changes.put, False))

    def run(self) -> None:
        """Connect, and examine the result. Raises the errors of options that cannot work."""
        codecs.lookup("idna")  # the first lookup loads it, and would seem slow
        try:
            self._client.connect(self._deadline.remaining())
        except WSClientError as error:
            self._failure = error.__cause__ or error
        self._ended = _Step.now("end")
        is_ours = isinstance(self._failure, (ConfigurationError, NotSupported))
        if self._failure is not None and is_ours and self._last is not self._steps.find("rest"):
            raise self._failure
        self._look_aside()
        if self._failure is None:
            self._examine_connection()
        self._aside.join()

    def close(self) -> None:
        """End the client and the thread aside."""
        self._aside.close()
        self._client.close()

    @property
    def _last(self) -> _Step:
        """The last step that the attempt reached."""
        return self._steps.last or self._began

    @property
    def _address(self) -> Address:
        """The venue's address. Raises StopIteration if the client does not know it yet."""
        return parse_url(next(s.about.url for s in self._steps.reached if s.name == "target"))

    # Aside.

    def _look_aside(self) -> None:
        if isinstance(self._failure, ssl.SSLCertVerificationError):
            self._aside.start(self._look_at_certificate)
        elif spare := self._spare():
            self._aside.start(partial(self._try, spare))

    def _spare(self) -> Sequence[Any]:
        """Return the addresses that the client did not try."""
        found = self._steps.find("addresses")
        tried = sum(step.name == "tcp" for step in self._steps.reached)
        return found.about[tried:] if found else ()

    def _try(self, spare: Sequence[Any], hold: Callable[[socket.socket], None]) -> None:
        for i, info in enumerate(spare):
            began, error = time.monotonic(), None
            share = min(ASIDE, self._deadline.remaining() / (len(spare) - i))
            if share < MIN_SHARE:
                return
            try:
                connect_to(info, share, hold).close()
            except OSError as failure:
                if self._aside.is_closed:
                    return
                error = failure.with_traceback(None)
            self._tried.append((info, time.monotonic() - began, error))

    def _look_at_certificate(self, hold: Callable[[socket.socket], None]) -> None:
        """Fetch a certificate that does not verify.

        Connects twice: first without verification, to get the certificate; then with trust in
        nothing but this certificate, to get its fields. Each time only TLS is spoken.
        """
        der: bytes | None = None
        with contextlib.suppress(OSError):
            for _ in range(2):
                with open_socket(
                    self._address,
                    proxy=self._options.proxy,
                    ssl_context=_trusting(der),
                    deadline=Deadline(min(ASIDE, self._deadline.remaining())),
                    hold=hold,
                ) as sock:
                    assert isinstance(sock, ssl.SSLSocket)
                    der = sock.getpeercert(binary_form=True)
                    self._unverified = sock.getpeercert() or {}

    # The open connection.

    def _examine_connection(self) -> None:
        examinations = [
            ("connection", self._settle),
            ("message", self._receive),
            ("ping", self._ping),
        ]
        if self._channels:
            examinations.insert(1, ("subscribe", self._subscribe))
        for name, examine in examinations:
            began = time.monotonic()
            try:
                result = examine()
            except (ConnectionError, ClientClosed):
                result = self._lost()  # the connection, and with it the client, has ended
            took = time.monotonic() - began if result.seconds is None else result.seconds
            seconds = None if result.status == "skipped" else took
            self._of_connection.append(Check(name, result.status, seconds, *result[1:3]))
            if result.status == "failed" and self._core.supervisor.life.failure is not None:
                return

    def _settle(self) -> _Result:
        if self._next(SETTLE) is False:
            return self._lost()
        return _Result("ok", f"still open after {advice.span(SETTLE)}")

    def _lost(self) -> _Result:
        failure = self._core.supervisor.life.failure
        error = None if failure is None else failure.__cause__
        return self._why_it_ended(error or failure)

    def _subscribe(self) -> _Result:
        self._asked_at = time.time()
        try:
            self._client.subscribe(*self._channels, timeout=self._left_for_messages())
        except SubscriptionError as error:
            failed = [f"{one_line(c)}: {self._shown(why)}" for c, why in error.failed.items()]
            if isinstance(error, TimeoutError):
                return _Result(
                    "failed",
                    f"no answer to the subscription ({', '.join(map(one_line, error.failed))})",
                    "The venue did not answer: check that it speaks the dialect given, see its "
                    "status page, and try again with a longer timeout.",
                )
            return _Result(
                "failed",
                f"refused: {'; '.join(failed)}",
                "Check the channel's name as the dialect writes it, and whether the venue lists "
                "the symbol or requires a login for it.",
            )
        return _Result("ok", f"acknowledged: {', '.join(map(one_line, self._channels))}")

    def _receive(self) -> _Result:
        if not self._channels:
            return _Result("skipped", "nothing was subscribed to")
        if not self._client.subscriptions and self._core.supervisor.life.failure is None:
            return _Result("skipped", "no channel is subscribed")
        timeout = self._left_for_messages()
        try:
            message = self._client.recv(timeout)
        except WaitTimeout:
            return _Result(
                "failed",
                f"no message came within {advice.span(timeout)} of the subscription",
                "The channel may be quiet: try a busy one, or a longer timeout. Otherwise the "
                "venue's feed has stopped: see its status page.",
            )
        late = max(0.0, message.received_at / 1e9 - self._asked_at)
        what = f"{one_line(message.type)} of {one_line(message.channel)}"
        return _Result("ok", f"{what}, {advice.span(late)} after the subscription", seconds=late)

    def _left_for_messages(self) -> float:
        remaining = self._deadline.remaining()
        return max(0.001, remaining - min(PING_RESERVE, remaining / 2))

    def _ping(self) -> _Result:
        times: list[float] = []
        wait = min(PING_TIMEOUT, self._deadline.remaining())
        for n in range(PINGS):
            if n and self._next(PING_PAUSE) is False:
                return self._lost()
            sent = time.monotonic()
            self._core.calls.ping()
            answer = self._next(min(wait, self._deadline.remaining()))
            if answer is False:
                return self._lost()
            if answer is None:
                break
            times.append((time.monotonic() - sent) * 1000)
        if not times:
            return _Result(
                "failed",
                f"no answer to a ping within {advice.span(wait)}",
                "The connection looks open, but nothing comes back: the venue hangs or does not "
                "answer pings, or something on the way blocks the connection.",
            )
        median = statistics.median(times)
        detail = f"{min(times):.1f} ms at best, {median:.1f} ms median of {len(times)}"
        if len(times) < PINGS:
            return _Result(
                "warning",
                f"{detail}; then one was not answered in time",
                "The connection is slow or loses packets, or the timeout was too short.",
                median / 1000,
            )
        return _Result("ok", detail, seconds=median / 1000)

    def _next(self, timeout: float) -> bool | None:
        """Wait for a change: True for a pong, False for the end of the connection, else None."""
        deadline = Deadline(timeout)
        while True:
            remaining = deadline.remaining()
            try:
                return self._steps.changes.get(timeout=min(remaining, SLICE))
            except queue.Empty:
                if remaining <= SLICE:
                    return None

    # The report.

    def report(self) -> Diagnosis:
        """Return the diagnosis. Call it after ``close``."""
        checks = [*self._of_connect(), *self._of_connection]
        is_secure = self._client._where.startswith("wss")
        if self._steps.find("target") is not None:
            is_secure = self._address.is_secure  # REST may have given another address
        expected = {
            "dns": True,
            "tcp": True,
            "proxy": self._options.proxy is not None,
            "tls": is_secure,
            "handshake": True,
            "clock": True,
            "login": self._logs_in,
            "connection": True,
            "subscribe": bool(self._channels),
            "message": True,
            "ping": True,
        }
        missing = [name for name, is_made in expected.items() if is_made]
        for check in checks:
            if check.name in missing:
                missing.remove(check.name)
        checks += [Check(name, "skipped", None, NOT_REACHED) for name in missing]
        return Diagnosis(self._client._where, tuple(checks))

    @property
    def _logs_in(self) -> bool:
        return self._options.credentials is not None or self._core.dialect.greets

    def _of_connect(self) -> Iterator[Check]:
        results = {
            "rest": self._rest,
            "dns": self._dns,
            "proxy": self._proxy,
            "tls": self._tls_check,
            "handshake": self._handshake,
        }
        if self._failure is not None and self._last.name in ("begin", "target"):
            said = self._shown(str(self._failure))
            result = _Result(
                "failed",
                said,
                "This function is called before each connect, and must not raise.",
            )
            yield self._check("url", self._began, self._ended, result)
        for step, end in pairwise([*self._steps.reached, self._ended]):
            error = self._failure if step is self._last else None
            if step.name in results:
                yield self._check(step.name, step, end, results[step.name](step, error))
            if step.name == "addresses" and step.about:
                yield from self._tcp()
            elif step.name == "handshake":
                yield from self._clock(step, end)
            elif step.name == "open" and self._logs_in:
                yield self._check("login", step, end, self._login(error))
            elif step.name == "open" and error is not None:
                yield self._check("connection", step, end, self._why_it_ended(error))

    @staticmethod
    def _check(name: str, step: _Step, end: _Step, result: _Result) -> Check:
        seconds = max(0.0, end.at - step.at)  # the step may have been reached after ``end``
        return Check(name, result.status, seconds, result.detail, result.advice)

    def _rest(self, step: _Step, error: BaseException | None) -> _Result:
        host = urlsplit(step.about.url).hostname or "nowhere"
        if error is not None:
            return _failed(advice.about_rest(error, host, self._shown(str(error))))
        return _Result("ok", f"a token and an address ({self._address}) from {host}")

    def _dns(self, step: _Step, error: BaseException | None) -> _Result:
        host = step.about.host
        if error is not None:
            url = "the URL" if self._options.proxy is None else "the proxy's URL"
            return _failed(advice.about_dns(error, host, url))
        found = self._steps.find("addresses")
        assert found is not None
        addresses = [info[4][0] for info in found.about]
        took = found.at - step.at
        if took > SLOW_DNS:
            return _Result(
                "warning",
                f"{host} is {', '.join(addresses)}, but it took {advice.span(took)}",
                "Every reconnect waits as long: the first server in /etc/resolv.conf may be down.",
            )
        if addresses == [host]:
            return _Result("ok", "already an IP address: no lookup needed")
        return _Result("ok", f"{host} is {', '.join(addresses)}")

    def _tcp(self) -> Iterator[Check]:
        """Yield the check of each address: those that the client tried, then the others."""
        tried: list[tuple[Any, float, BaseException | None]] = []
        for step, end in pairwise([*self._steps.reached, self._ended]):
            if step.name == "tcp":
                error = end.about if end.name == "refused" else None
                if step is self._last and (
                    error is None or isinstance(self._failure, TimeoutError)
                ):
                    error = self._failure  # not the reset with which we gave it up
                tried.append((step.about, max(0.0, end.at - step.at), error))
        tried += self._tried
        works = any(error is None for _, _, error in tried)
        whose = "the venue" if self._options.proxy is None else "the proxy"
        for info, seconds, error in tried:
            where, port = _where(info), info[4][1]
            if error is None:
                yield Check("tcp", "ok", seconds, where)
                continue
            detail, what_to_do = advice.about_tcp(error, port, whose)
            if not works:
                yield Check("tcp", "failed", seconds, f"{where}: {detail}", what_to_do)
            elif advice.is_without_route(error):
                yield Check("tcp", "skipped", None, f"{where}: this machine has no {where[:4]}")
            else:
                text = f"Another address works. {what_to_do}"
                yield Check("tcp", "warning", seconds, f"{where}: {detail}", text)
        for info in self._spare()[len(self._tried) :]:
            yield Check("tcp", "skipped", None, f"{_where(info)}: no time was left for it")

    def _proxy(self, step: _Step, error: BaseException | None) -> _Result:
        if error is not None:
            return _failed(advice.about_proxy(error, self._shown(str(error))))
        host, port, _ = step.about
        return _Result("ok", f"{host} port {port} leads to {self._address}")

    def _tls_check(self, step: _Step, error: BaseException | None) -> _Result:
        now = self._ended.wall
        if error is not None:
            return _failed(advice.about_tls(error, self._address, self._unverified, now))
        how, certificate = self._steps.tls
        context = self._options.ssl_context
        if context is not None and (weakness := weakness_of(context)):
            text = (
                "Anyone on the way can read and change all data: use an ssl_context that verifies."
            )
            return _Result("warning", f"{how}; {weakness}", text)
        detail, warning = advice.about_certificate(certificate, now)
        return _Result("warning" if warning else "ok", f"{how}; {detail}", warning)

    def _handshake(self, step: _Step, error: BaseException | None) -> _Result:
        line, fields = step.about.status_line, step.about.fields
        if error is None:
            return _Result("ok", advice.head(line, fields, self._excerpt))
        found = advice.about_handshake(error, self._address, line, fields, self._excerpt)
        return _failed(found)

    def _clock(self, step: _Step, end: _Step) -> Iterator[Check]:
        text = step.about.fields.get(b"date", b"").decode("latin-1")
        try:
            date = email.utils.parsedate_to_datetime(text).timestamp()
        except (TypeError, ValueError, OverflowError):
            if end.name == "open":
                yield Check("clock", "skipped", None, "the venue's answer has no valid Date")
            return
        # The venue cut its Date to a whole second, at some time between request and answer.
        least, most = date - end.wall, date + 1 - step.wall
        off = max(0.0, least) or min(0.0, most)
        if abs(off) < 1:
            yield Check("clock", "ok", None, "equals the venue's (to 1 s)")
            return
        how = "behind" if off > 0 else "ahead of"
        detail = f"this machine's clock is {advice.span(abs(off))} {how} the venue's (to 1 s)"
        if abs(off) <= MAX_SKEW:
            yield Check("clock", "ok", None, detail)
            return
        yield Check(
            "clock",
            "warning",
            None,
            detail,
            "Set it (chrony, or `timedatectl set-ntp true`): venues refuse logins and signed "
            "requests with a wrong time, and valid certificates may seem expired.",
        )

    def _login(self, error: BaseException | None) -> _Result:
        if error is None:
            return _Result("ok", "accepted")
        if isinstance(error, TimeoutError):
            return _Result(
                "failed",
                "no greeting, or no answer to the login, in time",
                "The venue accepts connections, but does not finish the login: see its status "
                "page, and check that the URL and the dialect belong together.",
            )
        if isinstance(error, ConnectionLost):
            return self._why_it_ended(error)
        return _Result(
            "failed",
            self._shown(str(error)),
            "Check the key, the secret and whatever else the venue requires, their expiry, and "
            "this machine's clock.",
        )

    def _why_it_ended(self, error: BaseException | None) -> _Result:
        return _failed(advice.about_connection(error, self._shown(str(error))))

    def _shown(self, words: str) -> str:
        """Return a text that may quote the venue, on one line and without our secrets."""
        return one_line(self._core.mask(words))

    def _excerpt(self, words: bytes) -> str:
        return self._shown(words.decode("latin-1"))[:MAX_SHOWN]


class _Aside:
    """A thread for the work that the client does not do; it ends with the examination."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._thread: WorkerThread | None = None
        self._opened = Cancellable("given up")

    @property
    def is_closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._opened.is_cancelled

    def start(self, work: Callable[[Callable[[socket.socket], None]], None]) -> None:
        """Run ``work`` on the thread. It calls its argument with each socket that it opens."""
        self._thread = WorkerThread("wsclient-diagnose", partial(work, self._opened.hold))
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread until the deadline."""
        if self._thread is not None:
            self._thread.join(self._deadline.remaining())

    def close(self) -> None:
        """Shut down the thread's socket, and wait briefly for the thread."""
        self._opened.cancel()
        if self._thread is not None:
            self._thread.join(GOODBYE)


def _where(info: Any) -> str:
    """Return the text of an address from ``getaddrinfo``."""
    host, port, *_ = info[4]
    return f"{'IPv6' if info[0] == socket.AF_INET6 else 'IPv4'} {host} port {port}"


def _failed(finding: Finding) -> _Result:
    return _Result("failed", *finding)


def _trusting(der: bytes | None) -> ssl.SSLContext:
    """Return a context that trusts only this certificate, for any host and at any time.

    Without a certificate it verifies nothing: use it only to see the certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if der is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=der)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(_NO_CHECK_TIME)
    return context
