"""The checks of the connect: from the token by REST and the lookup of the name to the login.

They do no I/O: each is a function of the case and one step of the attempt, which has ended.
"""

from __future__ import annotations

import email.utils
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from wsclient.doctor import advice
from wsclient.doctor.aside import Trial
from wsclient.doctor.attempt import TimedStep
from wsclient.doctor.case import Case, Result, failed
from wsclient.doctor.report import Check
from wsclient.errors import ConnectionLost
from wsclient.transport.dialing import weakness_of

__all__ = ["checks_of_connect"]

#: A lookup that takes longer (s) gets a warning.
SLOW_DNS = 1.0
#: A clock that is off by more (s) gets a warning: venues refuse signed logins.
MAX_SKEW = 3.0


def checks_of_connect(case: Case) -> Iterator[Check]:
    """Yield the checks of the steps that the attempt reached, in order."""
    attempt = case.attempt
    if attempt.failure is not None and attempt.last.name in ("begin", "target"):
        whole = TimedStep(attempt.began, attempt.ended, attempt.failure)
        yield _check("url", whole, _url(case, attempt.failure))
    for step in attempt.timed_steps():
        name = step.name
        if name in _RESULTS:
            yield _check(name, step, _RESULTS[name](case, step))
        if name == "addresses" and step.about:
            yield from _tcp(case)
        elif name == "handshake":
            yield from _clock(step)
        elif name == "open" and case.logs_in:
            yield _check("login", step, _login(case, step.error))
        elif name == "open" and step.error is not None:
            yield _check("connection", step, case.ended_by(step.error))


def _check(name: str, step: TimedStep, result: Result) -> Check:
    return Check(name, result.status, step.seconds, result.detail, result.advice)


def _url(case: Case, error: BaseException) -> Result:
    return Result(
        "failed",
        case.shown(str(error)),
        "This function is called before each connect, and must not raise.",
    )


def _rest(case: Case, step: TimedStep) -> Result:
    host, error = urlsplit(step.about.url).hostname or "nowhere", step.error
    if error is not None:
        return failed(advice.about_rest(error, host, case.shown(str(error))))
    return Result("ok", f"a token and an address ({case.attempt.address}) from {host}")


def _dns(case: Case, step: TimedStep) -> Result:
    host = step.about.host
    if step.error is not None:
        url = "the URL" if case.options.proxy is None else "the proxy's URL"
        return failed(advice.about_dns(step.error, host, url))
    addresses = [info[4][0] for info in step.end.about]
    if step.seconds > SLOW_DNS:
        return Result(
            "warning",
            f"{host} is {', '.join(addresses)}, but it took {advice.span(step.seconds)}",
            "Every reconnect waits as long: the first server in /etc/resolv.conf may be down.",
        )
    if addresses == [host]:
        return Result("ok", "already an IP address: no lookup needed")
    return Result("ok", f"{host} is {', '.join(addresses)}")


def _tcp(case: Case) -> Iterator[Check]:
    """Yield the check of each address: those that the client tried, then the others."""
    attempt, aside = case.attempt, tuple(case.aside.trials)
    trials = [_trial(step) for step in attempt.timed_steps() if step.name == "tcp"]
    trials += aside
    works = any(error is None for _, _, error in trials)
    whose = "the venue" if case.options.proxy is None else "the proxy"
    for info, seconds, error in trials:
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
    for info in attempt.untried[len(aside) :]:
        yield Check("tcp", "skipped", None, f"{_where(info)}: no time was left for it")


def _trial(step: TimedStep) -> Trial:
    """Return the result of the client's own connection to one address."""
    # At the deadline the client ends the connection itself: the error of that is not the reason.
    if step.end.name == "refused" and not isinstance(step.error, TimeoutError):
        return Trial(step.about, step.seconds, step.end.about)
    return Trial(step.about, step.seconds, step.error)


def _where(info: Any) -> str:
    """Return the text of an address from ``getaddrinfo``."""
    host, port, *_ = info[4]
    return f"{'IPv6' if info[0] == socket.AF_INET6 else 'IPv4'} {host} port {port}"


def _proxy(case: Case, step: TimedStep) -> Result:
    if step.error is not None:
        return failed(advice.about_proxy(step.error, case.shown(str(step.error))))
    host, port, _ = step.about
    return Result("ok", f"{host} port {port} leads to {case.attempt.address}")


def _tls(case: Case, step: TimedStep) -> Result:
    attempt = case.attempt
    now, address = attempt.ended.wall, attempt.address
    if step.error is not None:
        return failed(advice.about_tls(step.error, address, case.aside.certificate, now))
    how, certificate = attempt.tls
    context = case.options.ssl_context
    if context is not None and (weakness := weakness_of(context)):
        text = "Anyone on the way can read and change all data: use an ssl_context that verifies."
        return Result("warning", f"{how}; {weakness}", text)
    detail, warning = advice.about_certificate(certificate, now)
    return Result("warning" if warning else "ok", f"{how}; {detail}", warning)


def _handshake(case: Case, step: TimedStep) -> Result:
    line, fields = step.about.status_line, step.about.fields
    if step.error is None:
        return Result("ok", advice.head(line, fields, case.excerpt))
    address = case.attempt.address
    return failed(advice.about_handshake(step.error, address, line, fields, case.excerpt))


def _clock(step: TimedStep) -> Iterator[Check]:
    text = step.about.fields.get(b"date", b"").decode("latin-1")
    try:
        date = email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        if step.end.name == "open":
            yield Check("clock", "skipped", None, "the venue's answer has no valid Date")
        return
    # The venue cut its Date to a whole second, at some time between request and answer.
    least, most = date - step.end.wall, date + 1 - step.start.wall
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


def _login(case: Case, error: BaseException | None) -> Result:
    if error is None:
        return Result("ok", "accepted")
    if isinstance(error, TimeoutError):
        return Result(
            "failed",
            "no greeting, or no answer to the login, in time",
            "The venue accepts connections, but does not finish the login: see its status "
            "page, and check that the URL and the dialect belong together.",
        )
    if isinstance(error, ConnectionLost):
        return case.ended_by(error)
    return Result(
        "failed",
        case.shown(str(error)),
        "Check the key, the secret and whatever else the venue requires, their expiry, and "
        "this machine's clock.",
    )


#: The checks of a step that give one result.
_RESULTS: dict[str, Callable[[Case, TimedStep], Result]] = {
    "rest": _rest,
    "dns": _dns,
    "proxy": _proxy,
    "tls": _tls,
    "handshake": _handshake,
}
