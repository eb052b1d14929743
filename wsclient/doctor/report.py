"""The result of a diagnosis: its checks, and the table that shows them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from wsclient import html
from wsclient.text import Grid

__all__ = ["NOT_REACHED", "Check", "Diagnosis", "RouteDiagnosis", "Status"]

Status = Literal["ok", "warning", "failed", "skipped"]

#: The detail of a check that needs one that failed.
NOT_REACHED = "not reached"


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
class RouteDiagnosis:
    """The diagnosis of one route of a venue.

    ``name`` is the dialect's name for the route, ``url`` its address without path and query.
    ``carries`` says what it is needed for, ``limits`` the limits that the client keeps there.
    """

    name: str
    url: str
    carries: str
    limits: str
    checks: tuple[Check, ...]


@dataclass(frozen=True)
class Diagnosis:
    """The result of :func:`wsclient.diagnose`; ``str()`` and ``repr()`` are a table.

    ``url`` is the URL without its path and query, ``checks`` are the steps in order, ``client`` is
    the version of this package and the form in which it runs. ``routes`` is empty, unless the
    channels need several routes of the venue: then it has each of them with its own checks, and
    ``checks`` has all of these.
    """

    url: str
    checks: tuple[Check, ...]
    client: str = ""
    routes: tuple[RouteDiagnosis, ...] = ()

    @property
    def is_healthy(self) -> bool:
        """Whether no check has failed; there may be warnings."""
        return all(check.status != "failed" for check in self.checks)

    def __repr__(self) -> str:
        return self.table()

    def table(
        self, width: int = 100, paint: Callable[[Status, str], str] = lambda _, text: text
    ) -> str:
        """Return the checks as aligned lines of at most ``width`` characters.

        ``paint`` colours the word of a status and the last line.
        """
        lines = [self.url, self.client, ""] if self.client else [self.url, ""]
        if not self.routes:
            lines += [*_lines(self.checks, width, paint), ""]
        for route in self.routes:
            where = "" if route.url == self.url else f" ({route.url})"
            for text in (f"Route {route.name}{where}: {route.carries}", route.limits):
                lines.append(textwrap.fill(text, width, subsequent_indent="    "))
            lines += ["", *_lines(route.checks, width, paint), ""]
        return "\n".join([*lines, self._verdict(paint)])

    def _repr_html_(self) -> str:
        moods: dict[Status, html.Mood] = {"ok": "good", "warning": "warning", "failed": "bad"}

        def paint(status: Status, text: str) -> html.Html:
            return html.badge(text, moods.get(status, "quiet"))

        def grid(checks: Sequence[Check]) -> html.Html:
            rows = [
                [paint(c.status, c.status), html.cut(c.name), _took(c), _detail(c)]
                for c in checks
                if c.detail != NOT_REACHED
            ]
            rest = [check.name for check in checks if check.detail == NOT_REACHED]
            more = f"not reached: {', '.join(rest)}" if rest else ""
            return html.grid(Grid(["status", "check", "took", "found"], rows, more), (0, 1, 3))

        parts = [html.lines(filter(None, (self.url, self.client)))]
        for route in self.routes:
            parts += [html.lines((f"Route {route.name}: {route.carries}", route.limits))]
            parts += [grid(route.checks)]
        if not self.routes:
            parts.append(grid(self.checks))
        return html.page(*parts, self._verdict(paint))

    def _verdict(self, paint: Callable[[Status, str], str]) -> str:
        failed, warned = self._names("failed"), self._names("warning")
        if failed:
            return paint("failed", f"Not healthy: {', '.join(failed)} failed.")
        if warned:
            return paint("warning", f"Healthy, but look at {', '.join(warned)}.")
        return paint("ok", "Healthy.")

    def _names(self, status: Status) -> list[str]:
        """Return the checks with a status, each with its route if there are several."""
        names = [check.name for check in self.checks if check.status == status]
        if self.routes:
            names = [
                f"{check.name} of {route.name}"
                for route in self.routes
                for check in route.checks
                if check.status == status
            ]
        return list(dict.fromkeys(names))


def _took(check: Check) -> str:
    return "-" if check.seconds is None else f"{check.seconds * 1000:,.1f} ms"


def _detail(check: Check) -> html.Html:
    """Return what was found, and what to do about it, in lines that may wrap."""
    advice = f"<div>&rarr; {html.cut(check.advice, 600)}</div>" if check.advice else ""
    style = "white-space:normal;max-width:46em;overflow-wrap:anywhere"
    return html.Html(f'<div style="{style}">{html.cut(check.detail, 600)}{advice}</div>')


def _lines(
    checks: Sequence[Check], width: int, paint: Callable[[Status, str], str]
) -> Iterator[str]:
    indent = " " * 32
    for check in checks:
        if check.detail == NOT_REACHED:
            continue
        word = check.status.upper() if check.status == "failed" else check.status
        head = f"{paint(check.status, f'{word:<7}')}  {check.name:<10} {_took(check):>10}  "
        room = max(20, width - len(indent))
        yield head + textwrap.fill(check.detail, room).replace("\n", f"\n{indent}")
        if check.advice:
            text = textwrap.fill(check.advice, room, initial_indent="-> ", subsequent_indent="   ")
            yield textwrap.indent(text, indent)
    rest = [check.name for check in checks if check.detail == NOT_REACHED]
    if rest:
        text = textwrap.fill(", ".join(rest), width, initial_indent="not reached: ")
        yield ""
        yield paint("skipped", text)
