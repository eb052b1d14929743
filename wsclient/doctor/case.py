"""What the checks of one diagnosis share, and the result of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wsclient.client import WebSocketClient
from wsclient.doctor import advice
from wsclient.doctor.advice import Finding
from wsclient.doctor.aside import Aside
from wsclient.doctor.attempt import Attempt
from wsclient.doctor.report import Status
from wsclient.options import Options
from wsclient.runtime.core import Core
from wsclient.text import one_line
from wsclient.threads.waiting import Deadline

__all__ = ["Case", "Result", "failed"]

#: The longest part (characters) of a venue's header that is shown.
MAX_SHOWN = 60


class Result(NamedTuple):
    """The result of a check. ``seconds`` is set if it is not the time that the check took."""

    status: Status
    detail: str
    advice: str = ""
    seconds: float | None = None


def failed(finding: Finding) -> Result:
    """Return the result of a check that failed with ``finding``."""
    return Result("failed", *finding)


@dataclass(frozen=True, eq=False)
class Case:
    """The client that is examined, its attempt, the work aside, and the deadline for all of it.

    ``channels`` are those to subscribe to.
    """

    client: WebSocketClient
    channels: tuple[str, ...]
    deadline: Deadline
    attempt: Attempt
    aside: Aside

    @property
    def core(self) -> Core:
        """The core of the client."""
        return self.client._core

    @property
    def options(self) -> Options:
        """The options of the client."""
        return self.core.options

    @property
    def where(self) -> str:
        """The URL that the client was made with, without its path and query."""
        return self.client._where

    @property
    def logs_in(self) -> bool:
        """Whether the connection counts as open only after a login or a greeting."""
        dialect = self.core.dialect
        has_login = self.options.credentials is not None
        return dialect.greets or (has_login and dialect.logs_in(self.core.routes.default()))

    def shown(self, words: str) -> str:
        """Return a text that may quote the venue, on one line and without our secrets."""
        return one_line(self.core.mask(words))

    def excerpt(self, words: bytes) -> str:
        """Return the first characters of a venue's header, as :meth:`shown`."""
        return self.shown(words.decode("latin-1"))[:MAX_SHOWN]

    def ended_by(self, error: BaseException | None) -> Result:
        """Return the result of a check during which ``error`` ended the connection."""
        return failed(advice.about_connection(error, self.shown(str(error))))
