"""The arguments of ``tail``, ``record`` and ``doctor`` that say how to connect."""

from __future__ import annotations

import argparse
import difflib
import os
import stat
from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import msgspec

from wsclient.cli.terminal import complain
from wsclient.errors import ConfigurationError
from wsclient.options import Options

__all__ = ["add_connecting", "options_of"]

#: What the types of simple options consist of.
_SIMPLE = {"bool", "int", "float", "str", "Sequence[str]", "None"}
#: The types of the simple options.
_TYPES = {
    field.name: kinds
    for field in fields(Options)
    if (kinds := set(str(field.type).split(" | "))) <= _SIMPLE
}
#: Options that have an argument of their own.
_OWN = {"dialect": "--dialect", "headers": "--header", "credentials": "--credentials"}
#: How alike (0 to 1) an unknown name must be to that of an option to be taken for its misspelling.
ALIKE = 0.8


def add_connecting(parser: argparse.ArgumentParser, *, option: str) -> None:
    """Add the arguments. ``option`` says what ``--option`` is for."""
    parser.add_argument(
        "--proxy", metavar="URL", help="http://, socks5:// or socks5h://, with user:password@"
    )
    parser.add_argument(
        "--header",
        dest="headers",
        type=_header,
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="a header of the handshake; may be repeated",
    )
    parser.add_argument(
        "--credentials",
        type=_credentials,
        metavar="FILE",
        help="a JSON object with what the dialect needs to log in, such as api_key and secret; it "
        "is read again at each attempt, and not shown",
    )
    parser.add_argument(
        "--option",
        dest="options",
        type=_option,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"{option}; may be repeated",
    )


def options_of(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of ``connect()``, and what else ``--option`` has named.

    Prints a warning if others can read the credentials. Raises ConfigurationError for an option
    that cannot be given here, or looks like a misspelled one.
    """
    connect: dict[str, Any] = {"dialect": args.dialect}
    others: dict[str, Any] = {}
    for name, text in args.options:
        if name in _TYPES:
            connect[name] = _value(text, _TYPES[name])
        elif name in _OWN:
            raise ConfigurationError(f"--option {name}: use {_OWN[name]}")
        elif name in {field.name for field in fields(Options)}:
            raise ConfigurationError(f"--option {name}: its value cannot be given as text")
        elif close := difflib.get_close_matches(name, _TYPES, cutoff=ALIKE):
            raise ConfigurationError(
                f"--option {name}: unknown; did you mean {' or '.join(close)}?"
            )
        else:
            others[name] = _json(text)
    if args.proxy is not None:
        connect["proxy"] = args.proxy
    if args.headers:
        connect["headers"] = dict(args.headers)
    if args.credentials is not None:
        _warn(args.credentials)
        connect["credentials"] = partial(_read, args.credentials)
    return connect, others


def _value(text: str, kinds: set[str]) -> Any:
    """Return the value of an option. Whether it can work is checked by Options."""
    if text.lower() == "none" and "None" in kinds:
        return None
    if "str" in kinds:
        return text
    if "Sequence[str]" in kinds:
        return text.split(",")
    words = {"true": True, "false": False, "inf": float("inf")}
    return words[text.lower()] if text.lower() in words else _json(text)


def _json(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _option(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    if name in ("self", "timeout"):  # arguments of WebSocketClient.subscribe() itself
        raise argparse.ArgumentTypeError(f"{name!r} cannot be an option of a subscription")
    return name, value


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition(":")
    if not (name.strip() and separator):
        # It may be a secret, so it is not quoted.
        raise argparse.ArgumentTypeError("a header must be NAME:VALUE")
    return name.strip(), value.strip()


def _credentials(path: str) -> str:
    try:
        _read(path)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return path


def _read(path: str) -> Mapping[str, Any]:
    """Return the credentials in a file. Raises ConfigurationError, which quotes none of them."""
    try:
        with open(path, "rb") as file:
            found = msgspec.json.decode(file.read())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} must hold one JSON object, with the credentials")
    return found


def _warn(path: str) -> None:
    if os.name == "posix" and os.stat(path).st_mode & stat.S_IROTH:
        complain(f"warning: every user of this machine can read {path}: chmod 600 it")
