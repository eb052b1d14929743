"""The command line: ``wsclient demo``, ``wsclient serve``, ``wsclient tail``, ``wsclient doctor``.

Exit codes: 0 done, 1 it did not work (one line on stderr says why), 2 it was called wrongly or
something is not installed, 130 Ctrl-C, 141 whoever read the output has gone, 143 SIGTERM.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from wsclient import dialects
from wsclient.cli import faults
from wsclient.cli.terminal import Terminated, complain, let_go, raise_on_sigterm
from wsclient.errors import ConfigurationError, WSClientError
from wsclient.sansio.dialect import Dialect
from wsclient.version import __version__

__all__ = ["main"]

#: What the extra ``cli`` brings.
_EXTRA = ("rich", "websockets")

#: The dialects that ``serve`` speaks; known here, as its own module needs the extra.
_SERVED = (
    "generic",
    "binance",
    "binance_futures",
    "bybit",
    "coinbase_exchange",
    "deribit",
    "kraken",
    "okx",
)

_EXAMPLES = """\
examples:
  wsclient demo
  wsclient serve --dialect kraken --fault rst:every=30s
  wsclient tail wss://ws.kraken.com/v2 ticker:BTC/USD trade:BTC/USD --dialect kraken
  wsclient tail wss://ws.kraken.com/v2 book:ETH/USD --dialect kraken --option depth=10 --json
  wsclient doctor wss://ws.kraken.com/v2 --dialect kraken --subscribe ticker:BTC/USD
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    if sys.stdout is None:  # it was closed before we began
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        with raise_on_sigterm():
            code = _run(argv)
            # Here, where a closed pipe can still be answered; not when Python shuts down. And not
            # after Ctrl-C: nobody may be reading, and the flush would wait for ever.
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
        code = 1
    let_go()
    return code


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = make_parser().parse_args(argv)
    except SystemExit as end:  # help, version, usage errors
        return int(end.code or 0)
    if args.command == "tail":
        from wsclient.cli import tail

        return tail.run(args)
    if args.command == "doctor":
        from wsclient.cli import doctor

        return doctor.run(args)
    try:
        if args.command == "serve":
            from wsclient.cli import serve

            return serve.run(args)
        from wsclient.cli import demo

        return demo.run(args)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        complain(f"{args.command} needs {missing}: pip install 'wsclient-market[cli]'")
        return 2


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsclient",
        description="Market data over WebSocket, with nothing lost silently.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"wsclient {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_demo(commands)
    _add_serve(commands)
    _add_tail(commands)
    _add_doctor(commands)
    return parser


def _add_demo(commands: Any) -> None:
    text = "watch a client lose its connection, recover, and account for every message"
    parser = commands.add_parser(
        "demo",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. All of it runs on this machine: a venue on "
        "loopback publishes made-up prices, and the client is a real one. "
        "The exit code is 1 if a single message is unaccounted for.",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="of the made-up prices (default: 1)"
    )
    parser.add_argument(
        "--seconds",
        type=_number_from(1.0),
        default=12.0,
        metavar="S",
        help="how long it runs; the connection is cut half way (default: 12, at least 1)",
    )
    parser.add_argument(
        "--plain", action="store_true", help="plain lines, as when piped or with NO_COLOR set"
    )


def _add_serve(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="a venue on this machine with made-up prices, to develop against; faults on request",
        description="A venue on this machine, with made-up prices or a recording. Tells on stdout "
        "how to reach\nit; on stderr what its clients do, and what is done to them.",
        epilog="faults:\n"
        + "".join(f"  {example:<26} {what}\n" for example, what in faults.EXAMPLES.items())
        + "every= again and again, after= once, both: from then on; s, ms or m.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dialect",
        type=_dialect,
        default="generic",
        metavar="NAME",
        help=f"what it speaks, generic by default: {', '.join(_SERVED)}",
    )
    parser.add_argument("--host", default="127.0.0.1", help="to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--port", type=_port, default=8765, metavar="N", help="0: any (default: 8765)"
    )
    parser.add_argument(
        "--channel",
        dest="channels",
        action="append",
        default=[],
        metavar="NAME",
        help="a channel that there is, as the dialect calls it; may be given several times "
        "(default: some of three symbols)",
    )
    parser.add_argument(
        "--rate",
        type=_number_from(0.001),
        metavar="N",
        help="messages a second, all channels together (default: 20)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="of what is made up (default: 1)"
    )
    parser.add_argument(
        "--fault",
        dest="faults",
        type=_fault,
        action="append",
        default=[],
        metavar="FAULT",
        help="see below; may be given several times",
    )
    parser.add_argument("--replay", metavar="FILE", help="a recording, in the place of the market")
    parser.add_argument(
        "--speed", type=_speed, metavar="X", help="of the replay: 1 as recorded (default), or max"
    )
    parser.add_argument("--loop", action="store_true", help="the replay begins again at its end")


def _add_tail(commands: Any) -> None:
    parser = commands.add_parser(
        "tail",
        help="print the messages of some channels as they come",
        description="Print the messages of some channels as they come: on stdout the data, and "
        "where something was missed; on stderr what becomes of the connection. Reconnects.",
    )
    parser.add_argument("url", metavar="URL", help="ws:// or wss://")
    parser.add_argument("channels", metavar="CHANNEL", nargs="+", help="as the dialect names it")
    _add_dialect(parser)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object a line, numbers digit for digit"
    )
    parser.add_argument("--count", type=_count, metavar="N", help="end after so many messages")
    parser.add_argument(
        "--duration",
        type=_number_from(0.0),
        metavar="S",
        help="end so many seconds after the subscription",
    )
    parser.add_argument(
        "--option",
        dest="options",
        type=_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of the subscription, such as depth=10; JSON where it can be read as such, else text",
    )


def _add_doctor(commands: Any) -> None:
    parser = commands.add_parser(
        "doctor",
        help="say why it does not connect, step by step, and what to do",
        description="Connect once: names, addresses, proxy, TLS, handshake, clock, messages and "
        "pings, each timed, and each failure with what to do about it. The exit code is 0 when all "
        "is well, 1 when something has failed. No secret of the URL is printed.",
    )
    parser.add_argument("url", metavar="URL", help="ws:// or wss://")
    _add_dialect(parser)
    parser.add_argument(
        "--proxy", metavar="URL", help="http://, socks5:// or socks5h://, with user:password@"
    )
    parser.add_argument(
        "--timeout",
        type=_number_from(0.1),
        default=10.0,
        metavar="S",
        help="for all of it (default: 10)",
    )
    parser.add_argument(
        "--subscribe",
        action="append",
        default=[],
        metavar="CHANNEL",
        help="see a first message of it, too; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def _add_dialect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dialect",
        type=_dialect,
        default="generic",
        metavar="NAME",
        help=f"what the venue speaks, generic by default: {', '.join(dialects.NAMES)}",
    )


def _number_from(least: float) -> Any:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {least:g} on")
        return value

    return number


def _count(text: str) -> int:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 0 to 65535")
    return int(text)


def _fault(text: str) -> faults.Fault:
    try:
        return faults.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _speed(text: str) -> float:
    """0: as fast as can be."""
    return 0.0 if text == "max" else float(_number_from(0.001)(text))


def _dialect(name: str) -> Dialect:
    try:
        return dialects.find(name)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _option(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    if key in ("self", "timeout"):  # arguments of WebSocketClient.subscribe() itself
        raise argparse.ArgumentTypeError(f"{key!r} cannot be an option of a subscription")
    try:
        return key, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return key, value
