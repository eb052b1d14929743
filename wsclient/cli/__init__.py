"""The command line: ``wsclient demo``, ``serve``, ``tail``, ``check`` and more.

Exit codes: 0 success, 1 failure (one line on stderr says why), 2 a usage error or a package that is
not installed, 130 Ctrl-C, 141 the reader of the output has gone (a closed pipe), 143 SIGTERM. Each
``--help`` lists them.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import textwrap
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import wsclient
from wsclient import dialects
from wsclient.cli import faults
from wsclient.cli.connecting import add_connecting
from wsclient.cli.record import add_record
from wsclient.cli.recordings import add_recordings
from wsclient.cli.terminal import Terminated, complain, let_go, raise_on_sigterm
from wsclient.dialect import Dialect
from wsclient.doctor.running import running
from wsclient.errors import ConfigurationError, WSClientError
from wsclient.registry import names_in

__all__ = ["main"]

#: The packages that the extra ``cli`` installs.
_EXTRA = ("rich", "websockets")

#: The dialects that ``serve`` speaks: the files of ``wsclient.testing.venues``, which cannot be
#: imported without the extra.
_SERVED = names_in(os.path.join(place, "testing", "venues") for place in wsclient.__path__)

_EXAMPLES = """\
examples:
  wsclient demo
  wsclient serve --dialect kraken --fault rst:every=30s
  wsclient tail wss://ws.kraken.com/v2 --dialect kraken ticker:BTC/USD trade:BTC/USD
  wsclient tail wss://ws.kraken.com/v2 book:ETH/USD --dialect kraken --option depth=10 --json
  wsclient doctor wss://ws.kraken.com/v2 --dialect kraken --subscribe ticker:BTC/USD
  wsclient record wss://ws.kraken.com/v2 trade:BTC/USD --dialect kraken -o recordings/
  wsclient check recordings/
  wsclient export recordings/ -o tables/ --kind trades
  wsclient manual books
"""

_CODES = {130: "Ctrl-C", 141: "the reader of the output has gone (a closed pipe)", 143: "SIGTERM"}


def _codes(*own: str) -> str:
    """Return the text that lists the exit codes: ``own`` from 0, and those of every command."""
    codes = {**dict(enumerate(own)), **_CODES}
    lines = [
        textwrap.fill(text, 79, initial_indent=f"  {code:<5}", subsequent_indent=" " * 7)
        for code, text in codes.items()
    ]
    return "exit codes:\n" + "\n".join(lines) + "\n"


class _Parser(argparse.ArgumentParser):
    """A parser that takes names after options too: ``tail URL --json CHANNEL``.

    Its texts are printed as they are, except for the description, which is wrapped.
    """

    def __init__(self, **options: Any) -> None:
        options["description"] = textwrap.fill(options["description"], 79)
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self._is_mixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._is_mixing or self._subparsers is not None:
            return super().parse_known_args(args, namespace)
        self._is_mixing = True  # the next line calls this method
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_mixing = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    if sys.stdout is None:  # it was closed before the start
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        with raise_on_sigterm():
            code = _run(argv)
            # Flush here, where a closed pipe can still be handled, not when Python shuts down. Not
            # after Ctrl-C: if nobody reads the pipe, the flush would wait forever.
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        code = 141
    except Terminated:
        code = 143
    except KeyboardInterrupt:
        code = 130
    except (WSClientError, OSError) as error:
        complain(str(error))
        code = 2 if isinstance(error, ConfigurationError) else 1
    let_go()
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as end:  # help, version, usage errors
        return int(end.code or 0)
    try:
        command = import_module(f"wsclient.cli.{args.command}")  # only the one that is needed
        code: int = command.run(args)
        return code
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        complain(f"{args.command} needs {missing}: pip install 'wsclient-market[cli]'")
        return 2


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="wsclient",
        description="Market data over WebSocket. Nothing is lost silently.",
        epilog=_EXAMPLES
        + "\n"
        + _codes(
            "success",
            "failure; one line on stderr says why",
            "a usage error, or a package that is not installed",
        ),
    )
    parser.add_argument("--version", action="version", version=running())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_serve(commands)
    _add_tail(commands)
    _add_doctor(commands)
    add_record(commands, codes=_codes, number=_number_from, add_dialect=_add_dialect)
    add_recordings(commands, codes=_codes, number=_number_from, dialect=_dialect)
    _add_manual(commands)
    return parser


def _add_demo(commands: Any) -> None:
    text = "watch a client lose its connection, recover, and account for every message"
    parser = commands.add_parser(
        "demo",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Everything runs on this machine: a fake venue "
        "on loopback publishes made-up prices to a real client.",
        epilog=_codes(
            "every message is accounted for",
            "a message is unaccounted for, or something failed",
            "a usage error, or a package that is not installed",
        ),
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="seed of the prices (default: 1)"
    )
    parser.add_argument(
        "--seconds",
        type=_number_from(1.0),
        default=12.0,
        metavar="S",
        help="duration; the connection is cut half way (default: 12, at least 1)",
    )
    parser.add_argument(
        "--plain",
        action="store_true",
        help="print plain lines, as into a pipe or with NO_COLOR set",
    )


def _add_serve(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="run a fake venue to develop against, with made-up prices and faults on request",
        description="Run a fake venue on this machine, with made-up prices or a recording. It "
        "prints on stdout how to reach it, and on stderr what its clients do and which faults are "
        "injected.",
        epilog="faults:\n"
        + "".join(f"  {example:<26} {what}\n" for example, what in faults.EXAMPLES.items())
        + "every= repeats the fault, after= injects it once, both together repeat it from then\n"
        "on. Times are in s, ms or m.\n\n"
        + _codes(
            "only with --help: it runs until Ctrl-C or SIGTERM",
            "it could not start, or failed",
            "a usage error, or a package that is not installed",
        ),
    )
    parser.add_argument(
        "--dialect",
        type=_served,
        metavar="NAME",
        help="the venue's protocol; that of the recording, or else generic, by default: "
        f"{', '.join(_SERVED)}",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=8765,
        metavar="N",
        help="0 takes any free port (default: 8765)",
    )
    parser.add_argument(
        "--channel",
        dest="channels",
        action="append",
        default=[],
        metavar="NAME",
        help="a channel to serve, as the dialect names it; may be repeated "
        "(default: some channels of three symbols)",
    )
    parser.add_argument(
        "--rate",
        type=_number_from(0.001),
        metavar="N",
        help="messages per second, all channels together (default: 20)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=1,
        metavar="N",
        help="seed of the prices and faults (default: 1)",
    )
    parser.add_argument(
        "--fault",
        dest="faults",
        type=_fault,
        action="append",
        default=[],
        metavar="FAULT",
        help="see below; may be repeated",
    )
    parser.add_argument(
        "--max-age",
        type=_number_from(0.1),
        metavar="S",
        help="close each connection at this age (s)",
    )
    parser.add_argument(
        "--max-channels",
        type=_count,
        metavar="N",
        help="refuse channels beyond this number per connection",
    )
    parser.add_argument(
        "--replay",
        metavar="PATH",
        help="a recording to serve instead of made-up prices: a folder of `wsclient record`, a "
        "file of it, or a file of payloads, one per line",
    )
    parser.add_argument(
        "--speed",
        type=_speed,
        metavar="X",
        help="speed of the replay: 1 as recorded (default), or max",
    )
    parser.add_argument("--loop", action="store_true", help="restart the replay when it ends")


def _add_tail(commands: Any) -> None:
    parser = commands.add_parser(
        "tail",
        help="print the messages of some channels as they arrive",
        description="Print the messages of some channels as they arrive. Messages and gaps go to "
        "stdout, the state of the connection to stderr. It reconnects if the connection is lost.",
        epilog=_codes(
            "--count or --duration is reached",
            "no connection, a refused channel, or no channel is left; one line says why",
            "a usage error, or an option that cannot work",
        ),
    )
    parser.add_argument("url", metavar="URL", help="ws:// or wss://")
    parser.add_argument("channels", metavar="CHANNEL", nargs="+", help="as the dialect names it")
    _add_dialect(parser)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object per line, numbers digit for digit"
    )
    parser.add_argument("--count", type=_count, metavar="N", help="end after N messages")
    parser.add_argument(
        "--duration",
        type=_number_from(0.0),
        metavar="S",
        help="end this long after the subscription (s)",
    )
    add_connecting(
        parser,
        option="an option of connect(), such as ping_interval=5 (see `wsclient manual options`), "
        "or else one of the subscription, such as depth=10, as JSON or text",
    )


def _add_doctor(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="find out step by step why a connection fails, and what to do",
        description="Connect once, and check DNS, addresses, proxy, TLS, handshake, clock, "
        "messages and pings, once per route of the venue that the channels need. Each step is "
        "timed, and each failure comes with what to do about it. No secret is printed.",
        epilog=_codes(
            "no check has failed",
            "a check has failed",
            "a usage error, or an option that cannot work",
        ),
    )
    parser.add_argument("url", metavar="URL", help="ws:// or wss://")
    _add_dialect(parser)
    add_connecting(
        parser, option="one of the options cookie, origin, proxy and subprotocols of connect()"
    )
    parser.add_argument(
        "--timeout",
        type=_number_from(0.1),
        default=10.0,
        metavar="S",
        help="time for all checks together (s; default: 10)",
    )
    parser.add_argument(
        "--subscribe",
        action="append",
        default=[],
        metavar="CHANNEL",
        help="a channel to subscribe to, and to wait for a message of; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _add_manual(commands: Any) -> None:
    parser = commands.add_parser(
        "manual",
        help="print a page of the manual, or list its topics",
        description="Print a page of the manual, through $PAGER if that is set and stdout is a "
        "terminal. Without a topic, list the topics.",
        epilog=_codes("success", "failure", "there is no such page, or a usage error"),
    )
    parser.add_argument("topic", metavar="TOPIC", nargs="?", help="such as books")


def _add_dialect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dialect",
        type=_dialect,
        default="generic",
        metavar="NAME",
        help=f"the venue's protocol, generic by default: {', '.join(dialects.NAMES)}",
    )


def _number_from(least: float) -> Any:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least {least:g}")
        return value

    return number


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def _fault(text: str) -> faults.VenueFault:
    try:
        return faults.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _speed(text: str) -> float:
    """Return the speed of a replay; 0 is as fast as possible."""
    return 0.0 if text == "max" else float(_number_from(0.001)(text))


def _dialect(name: str) -> Dialect:
    try:
        return dialects.find(name)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _served(name: str) -> Dialect:
    if name not in _SERVED:
        raise argparse.ArgumentTypeError(f"serve does not speak {name}, only {', '.join(_SERVED)}")
    return _dialect(name)
