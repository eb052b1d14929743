"""The client's code without the accounting of statistics, to measure its cost."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple


class Edit(NamedTuple):
    """A function of the client, and replacements for its code that counts or measures."""

    module: str
    function: str
    pieces: dict[str, str]


#: All accounting on the path of an ordinary message.
EDITS = [
    Edit(
        "wsclient.stream.channel",
        "accept_ordinary",
        {
            "                    number = None\n"
            "                    channel.counted += 1\n": "                    number = None\n",
        },
    ),
    Edit(
        "wsclient.stream.channel",
        "_accept_flat",
        {
            "                    break\n"
            "                channel.counted += 1\n": "                    break\n",
        },
    ),
    Edit(
        "wsclient.sansio.intake",
        "Intake._delivered",
        {
            "        self._counters.messages += count\n": "",
            "        connection.messages += count\n": "",
        },
    ),
    Edit(
        "wsclient.runtime.reception",
        "Reception._take_ordinary",
        {
            "                supervisor.intake.count("
            "connection, len(batch.payloads), size, now)\n": "",
            "reading.sampled(messages, now) if now >= reading.sample_at else None": "None",
        },
    ),
    Edit(
        "wsclient.runtime.queues",
        "MessageQueue._move",
        {"            self._measure(waiting)\n": ""},
    ),
]


class Switch:
    """A switch for the accounting of all clients of this process."""

    def __init__(self) -> None:
        #: Each function, and its code when off and when on.
        self._codes = [
            (function, (_edited(edit, function), function.__code__))
            for edit, function in ((edit, _function(edit)) for edit in EDITS)
        ]

    def turn(self, on: bool) -> None:
        for function, codes in self._codes:
            function.__code__ = codes[on]


def _function(edit: Edit) -> Any:
    found: Any = importlib.import_module(edit.module)
    for name in edit.function.split("."):
        found = getattr(found, name)
    return found


def _edited(edit: Edit, function: Callable[..., Any]) -> CodeType:
    """Return the edited code. Raises ValueError if a piece is no longer there."""
    module = importlib.import_module(edit.module)
    whole = inspect.getsource(module)
    text = old = inspect.getsource(function)
    for piece, other in edit.pieces.items():
        if text.count(piece) != 1:
            raise ValueError(f"{edit.function} has not, or not once: {piece.strip()!r}")
        text = text.replace(piece, other)
    code = compile(whole.replace(old, text), str(module.__file__), "exec")
    for name in edit.function.split("."):
        code = next(c for c in code.co_consts if inspect.iscode(c) and c.co_name == name)
    return code
