"""``wsclient tail``: print the messages of some channels, one line each."""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from wsclient.cli.connecting import options_of
from wsclient.cli.terminal import clock, complain, is_rich
from wsclient.client import WebSocketClient, connect
from wsclient.errors import ConfigurationError, SubscriptionError
from wsclient.messages import Gap, Message
from wsclient.options import Options
from wsclient.stream.envelope import Envelope
from wsclient.stream.exact import Exact, parts
from wsclient.text import printable
from wsclient.threads.logs import flush

__all__ = ["connected", "logs_on_stderr", "run"]

#: The most messages that are written at once; fewer if fewer are waiting.
BATCH = 1000
#: How long (s) to wait for the venue's close frame: Ctrl-C must end well within 1 s.
CLOSE_TIMEOUT = 0.5

Format = Callable[[Message], str]


def run(args: argparse.Namespace) -> int:
    try:
        options, subscription = options_of(args)
        Options.of(options).check_credentials(args.dialect)
        _print(args, options, subscription)
    except ConfigurationError as error:
        complain(str(error))
        return 2
    return 0


def _print(
    args: argparse.Namespace, options: Mapping[str, Any], subscription: Mapping[str, Any]
) -> None:
    exact = Exact(args.dialect)
    text = Json(exact) if args.json else Human(exact, args.channels)
    # Flushed once per batch, on a terminal too. Each line is written by itself: a Ctrl-C that comes
    # while Python encodes a long text is noticed only after the write, which may block.
    sys.stdout.reconfigure(  # type: ignore[union-attr]
        encoding="utf-8" if args.json else None, errors="backslashreplace", line_buffering=False
    )
    with logs_on_stderr(), connected(args.url, options) as client:
        client.subscribe(*args.channels, **subscription)
        for messages in _batches(client, args.count, args.duration):
            for line in map(text, messages):
                sys.stdout.write(line)
            sys.stdout.flush()
            if any(m.type == "lost" for m in messages) and not client.subscriptions:
                raise SubscriptionError("no channel is left")


def connected(url: str, options: Mapping[str, Any]) -> WebSocketClient:
    """Return a client for a command."""
    return connect(url, **{"name": "wsclient", "close_timeout": CLOSE_TIMEOUT, **options})


def _batches(
    client: WebSocketClient, count: int | None, duration: float | None
) -> Iterator[list[Message]]:
    """Yield the waiting messages in batches, until ``count`` or ``duration`` (s) is reached."""
    left = float("inf") if count is None else count
    end = None if duration is None else time.monotonic() + duration
    while left > 0:
        timeout = None if end is None else end - time.monotonic()
        if timeout is not None and timeout <= 0:
            return
        try:
            messages = client.recv_batch(int(min(left, BATCH)), timeout)
        except TimeoutError:
            return
        left -= len(messages)
        yield messages


class Json:
    """A format: the envelope of each message, a JSON object on one line."""

    def __init__(self, exact: Exact) -> None:
        self._exact = exact

    def __call__(self, message: Message) -> str:
        data = None if message.item is None else self._exact(message)
        return Envelope.of(message, data).to_json() + "\n"


class Human:
    """A format: one line per message, cut to the terminal's width; a gap has a line before it."""

    def __init__(self, exact: Exact, channels: Iterable[str]) -> None:
        self._exact = exact
        self._width = max(map(len, channels))
        self._is_terminal = sys.stdout.isatty()
        self._is_rich = is_rich(sys.stdout)

    def __call__(self, message: Message) -> str:
        gap = "" if message.gap is None else self._gap(message.channel, message.gap)
        number = "" if message.sequence is None else f"  #{message.sequence}"
        head = f"{clock(message.received_at)}  {message.channel:<{self._width}}  {message.type}"
        return gap + self._cut(printable(f"{head}{number}  {self._data(message)}")) + "\n"

    def _data(self, message: Message) -> str:
        """Return the data: an object as ``key=value``, without what the line shows already."""
        text = self._exact(message)
        try:
            fields = parts(text)
            if isinstance(fields, dict):
                return " ".join(self._fields(message, fields))
        except msgspec.DecodeError:
            pass  # neither an object nor an array
        return text.decode(errors="replace")

    def _fields(self, message: Message, fields: dict[str, msgspec.Raw]) -> Iterator[str]:
        number = str(message.sequence)
        shown = {"type": message.type, "channel": message.channel}
        shown |= {"sequence": number, "seq": number}
        for key, raw in fields.items():
            value = _value(bytes(raw))
            if shown.get(key) != value:
                yield f"{key}={value}"

    def _gap(self, channel: str, gap: Gap) -> str:
        missed = "an unknown number" if gap.missed is None else gap.missed
        line = self._cut(printable(f"-- missed {missed} ({gap.reason}) of {channel}"))
        return f"\x1b[1;33m{line}\x1b[0m\n" if self._is_rich else f"{line}\n"

    def _cut(self, line: str) -> str:
        if not self._is_terminal:
            return line
        width = shutil.get_terminal_size().columns
        return line if len(line) <= width else line[: width - 1] + ">"


def _value(text: bytes) -> str:
    """Return a JSON text, or the content of a string without its quotes."""
    if text.startswith(b'"'):
        return str(msgspec.json.decode(text))
    return text.decode(errors="replace")


@contextmanager
def logs_on_stderr(before: str = "") -> Iterator[None]:
    """Print what the client logs on stderr, one line each, with this text before it."""
    logger = logging.getLogger("wsclient")
    level = logger.level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s.%(msecs)03d  %(message)s", "%H:%M:%S", before))
    handler.addFilter(_is_new)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        flush()
        logger.removeHandler(handler)
        logger.setLevel(level)


class _OneLine(logging.Formatter):
    def __init__(self, form: str, times: str, before: str) -> None:
        super().__init__(form, times)
        self._before = before

    def format(self, record: logging.LogRecord) -> str:
        return self._before + printable(super().format(record))


def _is_new(record: logging.LogRecord) -> bool:
    """Return False for lines about the end: the command's error reports it, or it was requested."""
    name = getattr(record, "client", None) or ""
    text = record.getMessage().removeprefix(f"{name}: ")
    if text.endswith("unread messages are discarded by close()"):
        return False
    return not text.startswith(("idle", "failed", "closing", "closed"))
