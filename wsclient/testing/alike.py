"""Compares requests of clients: what of them matters, and what differs at each run. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import parse_qsl

from wsclient.testing.frames import Payload
from wsclient.testing.scrubbing import HIDDEN, Scrubber, is_hidden, is_login
from wsclient.transport.masking import is_secret

__all__ = ["essence", "essence_of_path", "heartbeat_of", "id_of", "ids_of", "with_ids", "words"]

#: The names of fields, without ``_`` and ``-``, whose values differ at each run.
_VOLATILE = [
    "id",
    "reqid",
    "requestid",
    "subid",
    "uuid",
    "cid",
    "cloid",
    "connid",
    "connectid",
    "time",
    "timestamp",
    "ts",
    "nonce",
    "expires",
    "recvwindow",
    "clordid",
    "clientoid",
    "clientorderid",
    "newclientorderid",
    "origclientorderid",
    "orderlinkid",
    "userref",
]
_NAMES = frozenset(_VOLATILE)
#: A field with such a name, in the text of a message.
_FIELD = re.compile(
    r'("(?:' + "|".join("[_-]?".join(name) for name in _VOLATILE) + r')"\s*:\s*)'
    r'("(?:[^"\\]|\\.)*"|[-+.\w]+)',
    re.IGNORECASE,
)
#: The names of fields that say what a request is for.
_VERBS = ("op", "method", "event", "type", "action", "request")
_PINGS = frozenset({"ping", "public/test"})
_PONGS = frozenset({"pong"})


def essence(payload: Payload) -> str:
    """Return what of a request matters, as a text that is the same for requests that match.

    Ids, times and secrets do not, nor does the order of lists. Of a login, nothing else matters.
    """
    message = _parsed(payload)
    if message is None:
        return payload if isinstance(payload, str) else repr(payload)
    if is_login(message):
        return json.dumps({verb: message[verb] for verb in _VERBS if verb in message})
    return _dumped(_kept(message))


def essence_of_path(path: str) -> tuple[str, str]:
    """Return the path of a handshake, and what of its query matters."""
    head, _, query = Scrubber().url(path).partition("?")
    fields = parse_qsl(query, keep_blank_values=True)
    kept = sorted(f"{name}={value}" for name, value in fields if not _is_volatile(name, value))
    return head.rstrip("/"), "&".join(kept)


def words(payload: Payload) -> set[str]:
    """Return the texts in a request that name something, such as channels, but not its verb."""
    message = _parsed(payload)
    if not isinstance(message, Mapping):
        return set()
    kept = _kept({name: value for name, value in message.items() if name not in _VERBS})
    return {value for value in _scalars(kept) if value != HIDDEN}


def heartbeat_of(payload: Payload) -> Literal["ping", "pong"] | None:
    """Return which part of a heartbeat a message is; None if it is none."""
    message = _parsed(payload)
    said: list[Any] = [payload]
    if isinstance(message, Mapping):
        said = [message.get(verb) for verb in (*_VERBS, "ret_msg")]
    elif isinstance(payload, bytes):
        said = [payload.decode(errors="replace")]
    lowered = {value.strip().lower() for value in said if isinstance(value, str)}
    if lowered & _PINGS or (isinstance(message, Mapping) and "ping" in message):
        return "ping"
    if lowered & _PONGS or (isinstance(message, Mapping) and "pong" in message):
        return "pong"
    return None


def ids_of(recorded: Payload, given: Payload) -> dict[str, str]:
    """Return the ids of a recorded request, each with that of a request that matches it.

    Both are JSON text.
    """
    pairs = zip(_ids(_parsed(recorded)), _ids(_parsed(given)), strict=False)
    return {old: new for old, new in pairs if old != new and HIDDEN not in old}


def with_ids(payload: Payload, ids: Mapping[str, str]) -> Payload:
    """Return a recorded message of the venue with the ids of the requests that were given."""
    if not ids or isinstance(payload, bytes):
        return payload
    return _FIELD.sub(lambda m: m.group(1) + ids.get(m.group(2), m.group(2)), payload)


def id_of(payload: Payload) -> str | None:
    """Return the first id in a message, as JSON text; None if there is none."""
    return next(_ids(_parsed(payload)), None)


def _parsed(payload: Payload) -> Any:
    """Return a message that is a JSON object or array, else None."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, (dict, list)) else None


def _is_volatile(name: str, value: Any) -> bool:
    """Return whether a value differs at each run, or is a secret."""
    if name.replace("_", "").replace("-", "").lower() in _NAMES:
        return True
    return is_hidden(name, value) if isinstance(value, str) else is_secret(name)


def _kept(value: Any) -> Any:
    if isinstance(value, Mapping):
        pairs = ((str(key), found) for key, found in value.items())
        return {key: _kept(found) for key, found in pairs if not _is_volatile(key, found)}
    if isinstance(value, list):
        return sorted((_kept(found) for found in value), key=_dumped)
    return value


def _dumped(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _scalars(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for found in value:
            yield from _scalars(found)
    elif isinstance(value, str):
        yield value


def _ids(value: Any) -> Iterator[str]:
    """Yield the values of the fields that differ at each run, as JSON text."""
    if isinstance(value, list):
        for found in value:
            yield from _ids(found)
    if not isinstance(value, Mapping):
        return
    for key in sorted(value, key=str):
        found = value[key]
        if isinstance(found, (Mapping, list)):
            yield from _ids(found)
        elif _is_volatile(str(key), found) and not is_secret(str(key)):
            yield json.dumps(found, ensure_ascii=False)
