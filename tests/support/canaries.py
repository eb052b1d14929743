"""Secrets to plant in every fault, and the search for them in every text about it.

Each fault test is searched (see ``conftest.py``): one that plants these needs no other check.
"""

from __future__ import annotations

import base64
import re
import traceback
from pathlib import Path
from typing import Any

import wsclient

__all__ = ["TOKENS", "found_in", "secret_options", "secret_url", "variables_of", "whole_chain"]

_MARK = "cAnArY"
#: A secret for each place that may hold one, by the name of that place.
TOKENS = {
    place: f"{_MARK}{place}7Qx"
    for place in (
        "Body",  # of an error page
        "Cookie",
        "Credential",
        "Header",
        "Location",  # of a redirect
        "Login",  # message
        "Option",  # of a subscription
        "Payload",  # of what is sent
        "Proxy",  # password
        "Query",  # of the URL
        "SetCookie",
        "Token",  # by REST
    )
}


def secret_url(url: str) -> str:
    """Return ``url`` with a token in its query."""
    return f"{url}?token={TOKENS['Query']}"


def secret_options() -> dict[str, Any]:
    """Return options of a client that has all kinds of secrets."""
    return {
        "headers": {"Authorization": f"Bearer {TOKENS['Header']}", "X-Note": TOKENS["Header"]},
        "cookie": f"session={TOKENS['Cookie']}",
        "credentials": {"key": TOKENS["Credential"]},
    }


def _in_base64(text: str) -> list[str]:
    """Return how ``text`` looks in base64, by its place in a group of three bytes."""
    looks = []
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + text.encode()).decode()
        # Characters at either end also depend on their neighbours.
        looks.append(encoded[(0, 2, 3)[offset] : len(encoded.rstrip("=")) - 1])
    return looks


_LOOKS = re.compile("|".join(map(re.escape, (_MARK, _MARK.encode().hex(), *_in_base64(_MARK)))))


_TESTS = Path(__file__).parents[1]
_TESTING = Path(wsclient.__file__).parent / "testing"


def whole_chain(error: BaseException) -> list[BaseException]:
    """Return ``error`` and all that it is chained to, shown or not."""
    chain = [error]
    for chained in chain:
        more = (chained.__cause__, chained.__context__)
        chain += [other for other in more if other is not None and other not in chain]
    return chain


def variables_of(error: BaseException) -> list[str]:
    """Return what an error reporter shows of the variables in the frames of ``error``.

    Frames of the tests and of the venue are left out: they may hold anything.
    """
    found = []
    for chained in whole_chain(error):
        summary = traceback.TracebackException(
            type(chained), chained, chained.__traceback__, capture_locals=True
        )
        for frame in summary.stack:
            if not {_TESTS, _TESTING}.intersection(Path(frame.filename).parents):
                found.append(f"{frame.filename}:{frame.lineno} {frame.name} {frame.locals}")
    return found


def found_in(text: str) -> list[str]:
    """Return each secret in ``text``, with its surroundings; also those in hex and in base64."""
    return [text[max(0, m.start() - 60) : m.end() + 30] for m in _LOOKS.finditer(text)]
